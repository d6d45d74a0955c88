package infra_test

import (
	"flag"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/stakeseal/stakeseal/infra/policy"
)

var update = flag.Bool("update", false, "write policy-matrix.md anew")

// The order in which people read of the roles.
var columns = []string{"developer", "release-manager", "requester", "scheduler", "generator", "depositor", "signer", "recovery", "auditor", "administrator", "importer", "break-glass"}

const matrixHead = `# Who may do what

Every role of an installation with every optional part, against every action of
the services in use: %d actions of %d services, as AWS's service authorization
reference lists them (sources and dates stand in policy/actions). Made from
the templates by ` + "`go test ./infra -run TestMatrix -update`" + `; a test fails when the
templates say anything else, and when AWS has an action that stands nowhere
here. Package infra/stack judges identity policies, boundary and the policies
at keys, tables, buckets and roles together. A second factor, and the one region,
are asked for when a role is taken, by its trust policy (claims factor and region):
calls of a role's session do not say how it began.

## What changes something

Each line is complete: the role can do the action on nothing else of the
installation, and under no weaker condition. NAME is the installation's.
break-glass has its own section.

| role | action | on | when |
|---|---|---|---|
%s
## What opens, seals and reads items, objects and keys

| role | action | on | when |
|---|---|---|---|
%s
## Reading of configuration, lists and metrics

%s
## Only break-glass

It may do all of these to the installation. Every use is an alarm (watch.yaml), the
trail has each call, and the keys' policies let it open nothing before it has changed them.
iam:PassRole is the generator's role to Lambda and the scheduler's to the scheduler; all
but IAM is in the installation's region, and in us-east-1 for the second watch.

%s
## Nobody

What no role can do to anything of the installation. Some of it break-glass could
do to what is not of the installation (another key or table), which is marked with °.

%s`

// touches are actions that the reference calls reading, but that read what the
// installation keeps.
func touches(action string) bool {
	return slices.Contains([]string{"kms:Decrypt", "kms:Encrypt", "kms:Sign", "kms:GetPublicKey", "dynamodb:GetItem", "dynamodb:Query", "s3:GetObject", "s3:GetObjectVersion", "s3:GetObjectRetention", "sqs:ReceiveMessage"}, action)
}

func matrix(p *prover) string {
	var changes, opens, reads, glass, nobodys strings.Builder
	all := policy.Actions()
	readable := map[string]map[string][]string{} // role, targets, actions
	who := map[string][]string{}
	for _, role := range columns {
		for _, a := range all {
			var here []grant
			for _, g := range p.can(role, a.Name) {
				if p.ours(g.target) || g.target == "*" {
					here = append(here, g)
				}
			}
			if len(here) == 0 {
				if role == "break-glass" && len(p.can(role, a.Name)) > 0 {
					who[a.Name] = append(who[a.Name], "°")
				}
				continue
			}
			who[a.Name] = append(who[a.Name], role)
			if role == "break-glass" {
				continue
			}
			if a.Write() || touches(a.Name) {
				out := &changes
				if touches(a.Name) {
					out = &opens
				}
				for _, line := range p.lines(here) {
					fmt.Fprintf(out, "| %s | %s | %s |\n", role, a.Name, line)
				}
				continue
			}
			on := "everything"
			if everywhere := slices.ContainsFunc(p.can(role, a.Name), func(g grant) bool { return !p.ours(g.target) }); !everywhere {
				var names []string
				for _, g := range here {
					names = append(names, g.target)
				}
				on = p.named(names)
			}
			if readable[role] == nil {
				readable[role] = map[string][]string{}
			}
			readable[role][on] = append(readable[role][on], a.Name)
		}
	}
	for _, role := range columns {
		for _, on := range slices.Sorted(maps.Keys(readable[role])) {
			fmt.Fprintf(&reads, "- **%s**, on %s: %s\n", role, on, byService(readable[role][on], nil))
		}
	}
	var only, none []string
	for _, a := range all {
		switch list := who[a.Name]; {
		case len(list) == 1 && list[0] == "break-glass":
			only = append(only, a.Name)
		case len(list) == 0 || list[0] == "°":
			none = append(none, a.Name)
		}
	}
	list := func(out *strings.Builder, actions []string) {
		services := map[string][]string{}
		for _, a := range actions {
			service, _, _ := strings.Cut(a, ":")
			services[service] = append(services[service], a)
		}
		for _, service := range slices.Sorted(maps.Keys(services)) {
			fmt.Fprintf(out, "- %s\n", byService(services[service], who))
		}
	}
	list(&glass, only)
	list(&nobodys, none)
	return fmt.Sprintf(matrixHead, len(all), len(policy.Services()), &changes, &opens, &reads, &glass, &nobodys)
}

// named gives targets the names that people know them by, and joins those that
// stand for one: the objects that the prover made up, a function's versions.
func (p *prover) named(targets []string) string {
	var out []string
	for _, t := range targets {
		for key, says := range map[string]string{signingKey: "the signing key", recoveryKey: "the recovery key", certifyingKey: "the certifying key"} {
			if t == p.resolve(key) {
				t = says
			}
		}
		switch {
		case strings.HasPrefix(t, "arn:aws:ec2:"):
			t = "any"
		case strings.Contains(t, ":stack/"+name):
			t = "stacks NAME-\\*"
		case strings.Contains(t, ":signing-profiles/"), strings.Contains(t, "/signing-profiles/"):
			t = "the signing profile"
		case strings.Contains(t, "/signing-jobs/"):
			t = "signing jobs"
		case strings.Contains(t, ":code-signing-config:"):
			t = "the code-signing configuration"
		case strings.Contains(t, ":function:"+name):
			_, q, _ := strings.Cut(t, "-generator")
			t = map[string]string{"": "the function", ":live": "its alias live", ":other": "other aliases", ":1": "its versions", ":$LATEST": "$LATEST"}[q]
		case strings.Contains(t, ":log-group:"):
			t = "the function's log"
		case strings.Contains(t, "archive-"+account+"/_imports/"):
			t = "archive _imports/"
		case strings.Contains(t, "archive-"+account+"/"):
			t = "archive"
		case strings.Contains(t, "packages-"+account+"/"):
			t = "packages " + strings.Split(t, "/")[1] + "/"
			t = strings.Replace(t, "order-1/", "elsewhere", 1)
		case strings.Contains(t, "trail-"+account+"/"):
			t = "files of the trail"
		case strings.Contains(t, "/backup/"):
			t = "backups of tables"
		}
		t = strings.TrimPrefix(short(t), "dynamodb:")
		if !slices.Contains(out, t) {
			out = append(out, t)
		}
	}
	return strings.Join(out, ", ")
}

// lines joins the targets that are allowed under one circumstance.
func (p *prover) lines(list []grant) []string {
	var order []string
	by := map[string][]string{}
	for _, g := range list {
		if by[g.says()] == nil {
			order = append(order, g.says())
		}
		by[g.says()] = append(by[g.says()], g.target)
	}
	var out []string
	for _, says := range order {
		out = append(out, p.named(by[says])+" | "+says)
	}
	return out
}

// byService writes "**kms** A, B".
func byService(actions []string, who map[string][]string) string {
	var out []string
	last := ""
	for _, a := range actions {
		service, name, _ := strings.Cut(a, ":")
		if len(who[a]) > 0 && who[a][0] == "°" {
			name += "°"
		}
		if service != last {
			name = "**" + service + "** " + name
			last = service
		}
		out = append(out, name)
	}
	return strings.Join(out, ", ")
}

// TestMatrix compares policy-matrix.md with the templates.
func TestMatrix(t *testing.T) {
	p := newProver(deploy(t, everything()))
	if got := p.in.Roles(); len(got) != len(columns) {
		t.Fatalf("roles %q, and the matrix knows %q", got, columns)
	}
	text := matrix(p)
	if *update {
		if err := os.WriteFile("policy-matrix.md", []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile("policy-matrix.md")
	if err != nil {
		t.Fatal(err)
	}
	if text != string(want) {
		got, old := strings.Split(text, "\n"), strings.Split(string(want), "\n")
		for _, line := range got {
			if !slices.Contains(old, line) {
				t.Errorf("new: %.300s", line)
			}
		}
		for _, line := range old {
			if !slices.Contains(got, line) {
				t.Errorf("gone: %.300s", line)
			}
		}
		t.Error("policy-matrix.md is not what the templates say; look at each line above, then run with -update")
	}
	have := classified(string(want))
	for _, a := range policy.Actions() {
		if !have[a.Name] {
			t.Errorf("%s is not classified", a.Name)
		}
	}
}

// classified reads the actions that a matrix names.
func classified(text string) map[string]bool {
	out := map[string]bool{}
	for line := range strings.Lines(text) {
		if cell := strings.Split(line, "|"); len(cell) > 4 {
			out[strings.TrimSpace(cell[2])] = true
			continue
		}
		_, list, ok := strings.Cut(strings.TrimSpace(line), "- **")
		if !ok {
			continue
		}
		service := ""
		for word := range strings.FieldsSeq("**" + list) {
			if s, ok := strings.CutPrefix(word, "**"); ok {
				service, _, _ = strings.Cut(s, "**")
				continue
			}
			out[service+":"+strings.Trim(word, ",°")] = true
		}
	}
	return out
}

// An action that stands in no list of the matrix is found.
func TestMatrixMissesNothing(t *testing.T) {
	data, err := os.ReadFile("policy-matrix.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, gone := range []string{"PutKeyPolicy", "CreateGrant", "kms:Encrypt", "SimulatePrincipalPolicy"} {
		service := map[bool]string{true: "iam:", false: "kms:"}[strings.HasPrefix(gone, "Simulate")]
		if have := classified(strings.ReplaceAll(string(data), gone, "Gone")); have[service+strings.TrimPrefix(gone, "kms:")] {
			t.Errorf("%s is found in a matrix without it", gone)
		}
	}
}
