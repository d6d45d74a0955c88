// Package stack puts the templates of folder infra up without AWS: it resolves
// them to the resources and policies that CloudFormation would make, and says
// what each role may do with them. Tests prove the roles with it; doctor
// compares what stands in an account with what it resolves.
//
// It promises to know what it resolves and judges. A section, an intrinsic, a
// type of resource, an attribute, an operator, a condition key or an action
// that it does not know is an error. Stacks go up in the order of their
// README.md, each with what earlier ones export; resources that wait for each
// other in a circle are an error, as on AWS.
//
// It trusts its table of types (kinds.go) and package policy. It does not know
// service control policies, session policies and VPC endpoints' policies:
// these can only take away. It does not look whether AWS would accept the
// properties of a resource: the checkers of infra/check do.
package stack

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/stakeseal/stakeseal/infra"
	"github.com/stakeseal/stakeseal/infra/policy"
	"github.com/stakeseal/stakeseal/internal/aws/arn"
)

// Order is the order in which the stacks can go up. The last three are
// optional; network comes before function because that takes its subnets.
var Order = []string{"bootstrap", "foundation", "network", "function", "schedule", "watch"}

var optional = []string{"network", "schedule", "watch"}

// Options say what to put up.
type Options struct {
	Name    string // of the installation, such as stakeseal-hoodi
	Account string // 12 digits
	Region  string

	// Parameters of stacks, by the stack's short name (foundation). An optional
	// stack goes up when it has an entry, be it empty. Parameters without a
	// default that are not given here are made up: see Example.
	Parameters map[string]map[string]string

	// Templates replaces the templates of package infra, in tests that show
	// what a changed one does.
	Templates fs.FS
}

// Installation is what was put up.
type Installation struct {
	Name, Account, Region, Partition string

	Parameters map[string]map[string]string // by the stack's short name, defaults included
	Outputs    map[string]map[string]string // by the stack's short name
	Exports    map[string]string
	Resources  []Resource // in an order in which CloudFormation could make them

	roles map[string]*Role // by ARN
	// guards are the documents that stand at resources, by the resource's ARN.
	guards map[string]*policy.Document
	// endpoints are what may pass the endpoints of the network, by logical id.
	endpoints map[string]*policy.Document
}

// Resource is one resource of a stack.
type Resource struct {
	Stack      string // full name: NAME-foundation
	LogicalID  string
	Type       string
	PhysicalID string
	ARN        string // "" where the type has none
	Retain     bool   // on deletion and on replacement
	// Properties hold text, bool, []any and map[string]any; numbers are text.
	Properties map[string]any
}

// Role is a role with its policies.
type Role struct {
	Name, ARN string
	Trust     *policy.Document
	Policies  []*policy.Document
	Boundary  *policy.Document // nil where there is none
}

// Example returns parameters for those of bootstrap and function that have no
// default: each person's role is trusted to a role of the same account named
// people-<person>.
func Example(account string) map[string]map[string]string {
	b := map[string]string{}
	for _, who := range []string{"Developer", "ReleaseManager", "Requester", "Depositor", "Signer", "Recovery", "Auditor", "Administrator", "BreakGlass"} {
		b[who+"Principals"] = "arn:aws:iam::" + account + ":role/people-" + strings.ToLower(who)
	}
	return map[string]map[string]string{
		"bootstrap": b,
		"function":  {"PackageKey": "signed/example.zip"},
		"schedule":  {"WithdrawalAddress": "0x8000000000000000000000000000000000000001", "OrderId": "weekly", "Network": "hoodi", "ScheduleExpression": "rate(7 days)"},
		"watch":     {},
		"network":   {},
	}
}

var goodName = regexp.MustCompile(`^[a-z][a-z0-9-]{1,18}[a-z0-9]$`)

// Deploy resolves the stacks.
func Deploy(o Options) (*Installation, error) {
	if !goodName.MatchString(o.Name) || len(o.Account) != 12 || strings.Trim(o.Account, "0123456789") != "" || !arn.GoodRegion(o.Region) {
		return nil, fmt.Errorf("installation %q in account %q, region %q: not a name, 12 digits and a region", o.Name, o.Account, o.Region)
	}
	for name := range o.Parameters {
		if !slices.Contains(Order, name) {
			return nil, fmt.Errorf("parameters for a stack %q: there is none", name)
		}
	}
	files := o.Templates
	if files == nil {
		files = infra.Templates
	}
	in := &Installation{
		Name: o.Name, Account: o.Account, Region: o.Region, Partition: arn.Partition(o.Region),
		Parameters: map[string]map[string]string{}, Outputs: map[string]map[string]string{}, Exports: map[string]string{},
		roles: map[string]*Role{}, guards: map[string]*policy.Document{}, endpoints: map[string]*policy.Document{},
	}
	example := Example(o.Account)
	for _, short := range Order {
		given, wanted := o.Parameters[short]
		if slices.Contains(optional, short) && !wanted {
			continue
		}
		data, err := fs.ReadFile(files, short+".yaml")
		if err != nil {
			return nil, fmt.Errorf("couldn't read template: %w", err)
		}
		t, err := parse(short, data)
		if err != nil {
			return nil, err
		}
		parameters := map[string]string{}
		for name, v := range example[short] {
			if p, ok := t.parameters[name]; ok && p.def == nil {
				parameters[name] = v
			}
		}
		maps.Copy(parameters, given)
		if err := in.put(o, short, t, parameters); err != nil {
			return nil, fmt.Errorf("stack %s: %w", in.stackName(short), err)
		}
	}
	if err := in.read(); err != nil {
		return nil, err
	}
	return in, nil
}

func (in *Installation) stackName(short string) string { return in.Name + "-" + short }

// put resolves one stack.
func (in *Installation) put(o Options, short string, t *template, parameters map[string]string) error {
	s := &deployment{
		options: o, partition: in.Partition, stack: in.stackName(short), template: t, exports: in.Exports,
		given: map[string]string{}, values: map[string]any{}, resources: map[string]*Resource{}, conditions: map[string]bool{},
		open: map[string]bool{}, needs: map[string]map[string]bool{},
	}
	if err := s.setParameters(parameters); err != nil {
		return err
	}
	in.Parameters[short] = s.given
	s.pure = true // conditions and rules come before any resource
	err := s.obey()
	for _, name := range slices.Sorted(maps.Keys(t.conditions)) {
		_, bad := s.condition(name)
		err = errors.Join(err, bad)
	}
	s.pure = false
	if err != nil {
		return err
	}
	for id, r := range t.resources {
		if r.condition != "" {
			holds, ok := s.conditions[r.condition]
			if !ok {
				return fmt.Errorf("resource %s: no condition %q", id, r.condition)
			}
			if !holds {
				continue
			}
		}
		s.resources[id] = &Resource{Stack: s.stack, LogicalID: id, Type: r.kind, Retain: r.retain}
		s.needs[id] = map[string]bool{}
	}
	ids := slices.Sorted(maps.Keys(s.resources))
	for _, id := range ids {
		if err := s.settle(id); err != nil {
			return fmt.Errorf("resource %s: %w", id, err)
		}
	}
	ordered, err := s.order(ids)
	if err != nil {
		return err
	}
	for _, id := range ordered {
		in.Resources = append(in.Resources, *s.resources[id])
	}
	return in.export(s, short)
}

func (s *deployment) settle(id string) error {
	source := s.template.resources[id]
	s.current = id
	defer func() { s.current = "" }()
	if _, err := s.resource(id); err != nil {
		return err
	}
	for _, other := range source.dependsOn {
		if s.template.resources[other].kind == "" {
			return fmt.Errorf("it depends on %q, which is no resource", other)
		}
		if s.resources[other] != nil {
			s.needs[id][other] = true
		}
	}
	v, err := s.resolve(source.properties)
	if err != nil {
		return err
	}
	s.resources[id].Properties = v.(map[string]any)
	return nil
}

// order sorts resources so that each comes after those it needs.
func (s *deployment) order(ids []string) ([]string, error) {
	var out []string
	for len(out) < len(ids) {
		before := len(out)
		for _, id := range ids {
			ready := !slices.Contains(out, id)
			for other := range s.needs[id] {
				ready = ready && slices.Contains(out, other)
			}
			if ready {
				out = append(out, id)
			}
		}
		if len(out) == before {
			return nil, fmt.Errorf("resources wait for each other in a circle, among those but %q", out)
		}
	}
	return out, nil
}

func (in *Installation) export(s *deployment, short string) error {
	out := map[string]string{}
	for _, name := range slices.Sorted(maps.Keys(s.template.outputs)) {
		o := s.template.outputs[name]
		if c, ok := o["Condition"].(string); ok && !s.conditions[c] {
			continue
		}
		v, err := s.resolve(o["Value"])
		if err != nil {
			return fmt.Errorf("output %s: %w", name, err)
		}
		text, ok := v.(string)
		if !ok {
			return fmt.Errorf("output %s is no text", name)
		}
		out[name] = text
		if o["Export"] == nil {
			continue
		}
		e, err := s.resolve(o["Export"])
		if err != nil {
			return fmt.Errorf("output %s: %w", name, err)
		}
		as, ok := e.(map[string]any)["Name"].(string)
		if _, taken := in.Exports[as]; !ok || taken {
			return fmt.Errorf("output %s: a bad export name, or one that is taken: %q", name, as)
		}
		in.Exports[as] = text
	}
	in.Outputs[short] = out
	return nil
}

func (s *deployment) stackID() string {
	return fmt.Sprintf("arn:%s:cloudformation:%s:%s:stack/%s/%s", s.partition, s.options.Region, s.options.Account, s.stack, uuid(made(s.stack, "")))
}

// Resource returns a resource by its stack's short name and its logical id.
func (in *Installation) Resource(stack, logicalID string) (Resource, bool) {
	for _, r := range in.Resources {
		if r.Stack == in.stackName(stack) && r.LogicalID == logicalID {
			return r, true
		}
	}
	return Resource{}, false
}

// Role returns a role by its short name, such as generator.
func (in *Installation) Role(name string) (*Role, bool) {
	r, ok := in.roles[in.RoleARN(name)]
	return r, ok
}

// RoleARN is the ARN of the role with a short name, whether it exists or not.
func (in *Installation) RoleARN(name string) string {
	return "arn:" + in.Partition + ":iam::" + in.Account + ":role/" + in.Name + "-" + name
}

// Roles returns the short names of the installation's roles.
func (in *Installation) Roles() []string {
	var out []string
	for _, r := range in.roles {
		out = append(out, strings.TrimPrefix(r.Name, in.Name+"-"))
	}
	slices.Sort(out)
	return out
}

// Guard returns the policy that stands at a resource: of a key, bucket, table,
// queue or topic, or a role's trust.
func (in *Installation) Guard(arn string) (*policy.Document, bool) {
	d, ok := in.guards[arn]
	return d, ok
}

// Endpoint returns the policy of a network endpoint by its logical id.
func (in *Installation) Endpoint(logicalID string) (*policy.Document, bool) {
	d, ok := in.endpoints[logicalID]
	return d, ok
}

func document(kind policy.Kind, v any) (*policy.Document, error) {
	text, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	return policy.Parse(kind, text)
}
