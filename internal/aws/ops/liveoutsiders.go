package ops

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/stakeseal/stakeseal/infra/policy"
	"github.com/stakeseal/stakeseal/internal/aws/arn"
)

// An outsider is a principal of the account that is none of the installation's
// roles. It has no template to be compared with, so every right that it has is
// held against all that is ours, pattern against pattern: a right over one
// version, one rule or one role gives as much away as one over all of them.

// overlap says whether some text matches both patterns.
func overlap(a, b string) bool {
	// row[j] says whether what was read of a and b[:j] can be the same text.
	row := make([]bool, len(b)+1)
	row[0] = true
	for j := range len(b) {
		row[j+1] = row[j] && b[j] == '*'
	}
	for i := range len(a) {
		next := make([]bool, len(b)+1)
		next[0] = row[0] && a[i] == '*'
		for j := range len(b) {
			switch {
			case a[i] == '*' || b[j] == '*':
				// The star stands for nothing, or for the other's next as well.
				next[j+1] = row[j+1] || next[j]
			default:
				next[j+1] = row[j] && (a[i] == b[j] || a[i] == '?' || b[j] == '?')
			}
		}
		row = next
	}
	return row[len(b)]
}

// overlapARN is overlap for ARNs: none of the parts before the last holds a
// colon, so a star in the place of a region stands for no more than one.
func overlapARN(a, b string) bool {
	x, y := strings.SplitN(a, ":", 6), strings.SplitN(b, ":", 6)
	if len(x) < 6 || len(y) < 6 {
		return overlap(a, b)
	}
	for i := range x {
		if !overlap(x[i], y[i]) {
			return false
		}
	}
	return true
}

// covers says whether all that matches q certainly matches p.
func covers(p, q string) bool {
	if p == q {
		return true
	}
	// A star of q, read as a character, is matched by a star only, unless p has
	// a '?', which it would take for one.
	return !strings.Contains(p, "?") && !strings.Contains(p, "${") && policy.Glob(p, q)
}

// meets says whether the statement may speak of something that a pattern
// matches.
func (s policyStatement) meets(pattern string) bool {
	if s.resources == nil {
		return true
	}
	if s.notResource {
		return !slices.ContainsFunc(s.resources, func(r string) bool { return covers(r, pattern) })
	}
	return slices.ContainsFunc(s.resources, func(r string) bool { return overlapARN(variables(r), pattern) })
}

// keepsFrom says whether a denial certainly keeps a principal from an action on
// all that a pattern matches.
func (s policyStatement) keepsFrom(principal, action, pattern string) bool {
	if s.allow || !s.about(action) || !s.isFor(principal) {
		return false
	}
	if s.notResource && slices.ContainsFunc(s.resources, func(r string) bool { return overlapARN(variables(r), pattern) }) {
		return false
	}
	if !s.notResource && s.resources != nil && !slices.ContainsFunc(s.resources, func(r string) bool { return covers(r, pattern) }) {
		return false
	}
	return len(s.conditions) == 0 || len(s.conditions) == 1 && s.conditions[0].holdsFor(principal)
}

// reaches says whether the principal's own policies, within its boundary,
// could allow an action on something that a pattern matches. It is may for
// patterns, and errs towards yes as that does.
func (p principal) reaches(action, pattern string) bool {
	allowed := func(d *policyDocument) bool {
		return slices.ContainsFunc(d.statements, func(s policyStatement) bool { return s.allow && s.about(action) && s.meets(pattern) })
	}
	kept := func(d *policyDocument) bool {
		return slices.ContainsFunc(d.statements, func(s policyStatement) bool { return s.keepsFrom(p.arn, action, pattern) })
	}
	if p.understood && !slices.ContainsFunc(p.documents, allowed) || slices.ContainsFunc(p.documents, kept) {
		return false
	}
	return p.bounds == nil || allowed(p.bounds) && !kept(p.bounds)
}

// written are the actions that change something, from AWS's own reference.
var written = sync.OnceValue(func() map[string][]policy.Action {
	out := map[string][]policy.Action{}
	for _, a := range policy.Actions() {
		service, _, _ := strings.Cut(a.Name, ":")
		if a.Write() && !harmless[a.Name] && (service != "sts" || strings.HasPrefix(a.Name, "sts:Assume")) {
			out[service] = append(out[service], a)
		}
	}
	// Of services that the reference's lists leave out.
	for _, name := range []string{"ec2-instance-connect:SendSSHPublicKey", "ec2-instance-connect:SendSerialConsoleSSHPublicKey", "ec2-instance-connect:OpenTunnel", "organizations:LeaveOrganization", "account:CloseAccount"} {
		service, _, _ := strings.Cut(name, ":")
		out[service] = append(out[service], policy.Action{Name: name, Level: "Write", On: []string{"any"}})
	}
	return out
})

// harmless are writes by which nothing of ours changes: a service-linked role
// can be held by AWS's services only.
var harmless = map[string]bool{"iam:CreateServiceLinkedRole": true}

// everything is, as a pattern, what only a right over all there is meets: some
// actions are on nothing that has a name.
const everything = "\x00"

// ours are the patterns of what the installation has, by service, in its region
// and in the one of the second watch. Keys are not among it: their policies name
// who may do what, and leave nothing to IAM, which is judged with each key.
func (e *examination) ours() map[string][]string {
	out := map[string][]string{
		// Who may change any role, user or policy has every right that it gives.
		"iam": {e.resource("iam", "*")}, "sts": {e.Role("*"), e.resource("iam", "root")},
		"organizations": {everything}, "account": {everything, "arn:" + e.Partition + ":account::" + e.Account + ":account"},
	}
	for _, b := range []string{e.Archive, e.Packages, e.Trail} {
		out["s3"] = append(out["s3"], e.resource("s3", b), e.resource("s3", b+"/*"))
	}
	named := e.Name + "-*"
	for _, region := range asSet([]string{e.Region, "us-east-1"}) {
		for service, resources := range map[string][]string{
			"lambda":         {"function:" + named, "code-signing-config:*", "event-source-mapping:*"},
			"signer":         {"*"},
			"s3":             {"*"}, // access points, batch jobs
			"dynamodb":       {"table/" + named},
			"cloudformation": {"stack/" + named, "stackset/*", "changeSet/*", "type/*"},
			"cloudtrail":     {"trail/*"},
			"events":         {"rule/" + named, "event-bus/default"},
			"sns":            {named}, "sqs": {named},
			"scheduler":  {"schedule/" + e.Name + "*", "schedule/default/" + named, "schedule-group/" + e.Name + "*"},
			"cloudwatch": {"alarm:" + named},
			"config":     {"*"},
			"logs":       {"log-group:/aws/lambda/" + named},
			"ec2":        {"*"}, // the signer's machines, the isolated network
			"ssm":        {"document/*", "managed-instance/*", "automation-*", "association/*", "maintenancewindow/*", "session/*"},
		} {
			for _, r := range resources {
				out[service] = append(out[service], arn.ARN{Partition: e.Partition, Service: service, Region: region, Account: e.Account, Resource: r}.String())
			}
		}
		machine := arn.ARN{Partition: e.Partition, Service: "ec2", Region: region, Account: e.Account, Resource: "instance/*"}.String()
		document := arn.ARN{Partition: e.Partition, Service: "ssm", Region: region, Resource: "document/*"}.String() // AWS's own
		out["ec2-instance-connect"] = append(out["ec2-instance-connect"], machine)
		out["ssm"] = append(out["ssm"], machine, document)
	}
	return out
}

// grip lists the actions by which a principal could change something of ours.
func (e *examination) grip(p principal) []string {
	all := written()
	var out []string
	for service, patterns := range e.ours() {
		for _, a := range slices.Concat(all[service], p.unheardOf(service)) {
			on := patterns
			switch {
			case len(a.On) == 0 && service == "logs":
				continue // nothing that holds for all groups touches ours
			case len(a.On) == 0:
				on = []string{everything}
			case a.Name == "iam:PassRole":
				on = []string{e.Role("*")}
			}
			if slices.ContainsFunc(on, func(pattern string) bool { return p.reaches(a.Name, pattern) }) {
				out = append(out, a.Name)
			}
		}
	}
	slices.Sort(out)
	// First those that the powers name: they say most.
	named := map[string]bool{}
	for _, w := range e.powers() {
		for _, a := range w.actions {
			named[a] = true
		}
	}
	rank := func(a string) int {
		if named[a] {
			return 0
		}
		return 1
	}
	slices.SortStableFunc(out, func(a, b string) int { return rank(a) - rank(b) })
	return out
}

// unheardOf are the actions that the principal's policies allow by their full
// name and the reference does not hold, if they are no reads by their names.
func (p principal) unheardOf(service string) []policy.Action {
	known := referenced()
	out := map[string]policy.Action{}
	for _, d := range p.documents {
		for _, s := range d.statements {
			for _, a := range s.actions {
				of, verb, _ := strings.Cut(a, ":")
				if !s.allow || s.notAction || !strings.EqualFold(of, service) || strings.ContainsAny(verb, "*?") || known[strings.ToLower(a)] || harmlessVerb(verb) || service == "sts" {
					continue
				}
				out[a] = policy.Action{Name: a, On: []string{"any"}}
			}
		}
	}
	return slices.Collect(maps.Values(out))
}

func harmlessVerb(verb string) bool {
	verb = strings.ToLower(verb)
	return slices.ContainsFunc([]string{"get", "list", "describe", "head", "batchget", "lookup", "search", "view"}, func(v string) bool { return strings.HasPrefix(verb, v) })
}

var referenced = sync.OnceValue(func() map[string]bool {
	out := map[string]bool{}
	for _, a := range policy.Actions() {
		out[strings.ToLower(a.Name)] = true
	}
	for _, list := range written() {
		for _, a := range list {
			out[strings.ToLower(a.Name)] = true
		}
	}
	return out
})

// roleNames are those that the templates make, for where none can be read.
var roleNames = []string{"developer", "release-manager", "requester", "depositor", "generator", "signer", "recovery", "auditor", "administrator", "break-glass", "importer", "scheduler"}

// member says whether a principal is one of the installation's roles.
func (e *examination) member(p principal) bool {
	name, ours := strings.CutPrefix(p.arn, e.Role(""))
	if !ours || p.user {
		return false
	}
	if _, known := e.stacks.some("AWS::IAM::Role"); known {
		_, made := e.stacks.one("AWS::IAM::Role", p.name)
		return made
	}
	return slices.Contains(roleNames, name)
}

// lookAtOutsiders names everybody else who could change something of ours;
// powers are those of the named ones that each has.
func (e *examination) lookAtOutsiders(powers map[string][]string) {
	c := e.check("outsiders", "all that these rights give; the account is meant for the installation alone", "take the rights away, or, if you know and watch this principal, name it: --known-administrator ARN")
	var known []string
	for _, p := range e.people.principals {
		if p.service || e.member(p) {
			continue
		}
		actions := e.grip(p)
		if len(actions) == 0 && powers[p.arn] == nil {
			continue
		}
		if slices.Contains(e.Known, p.arn) {
			known = append(known, e.short(p.arn))
			continue
		}
		says := fmt.Sprintf("%s, on patterns that something of ours matches", few(actions))
		if list := powers[p.arn]; list != nil {
			says = fmt.Sprintf("%s (%d actions that write: %s)", strings.Join(list, ", "), len(actions), few(actions))
		}
		c.add(Changed, "%s may %s", e.short(p.arn), says)
	}
	text := "nobody outside of the installation has power over it"
	if known != nil {
		text = "only whom you named: " + strings.Join(known, ", ")
	}
	c.ok("%s; AWS's own service-linked roles are left out, and what an organisation's policies forbid is not seen", text)
}
