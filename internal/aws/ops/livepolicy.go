package ops

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/stakeseal/stakeseal/infra/policy"
)

// policyDocument is a policy as AWS gives it, of a role, a key or a bucket. It
// is read with one bias: what could allow counts as allowing. A condition that
// this program does not understand never makes a grant disappear from a list,
// and a denial counts only where it certainly holds.
type policyDocument struct {
	statements []policyStatement
	canonical  string // equal for documents that mean the same, statements in any order
}

type policyStatement struct {
	sid          string
	allow        bool
	principals   []string // ARNs, account numbers, "*", "Service:NAME", "Federated:NAME", "CanonicalUser:ID"
	notPrincipal bool     // principals are those it is not for
	actions      []string
	notAction    bool
	resources    []string
	notResource  bool
	conditions   []policyCondition
	canonical    string
}

type policyCondition struct {
	operator, key string
	values        []string
}

// maxPolicy is above every limit of AWS: 32 KiB for a key's, 20 KiB for a
// bucket's, and what identities can have attached is shorter.
const maxPolicy = 128 << 10

// ErrPolicy is wrapped where a policy is not to be understood.
var ErrPolicy = errors.New("not a policy that this program understands")

// parsePolicy reads a policy. Elements that it does not know are an error: a
// policy that was half understood would be reported as harmless.
func parsePolicy(text string) (*policyDocument, error) {
	if len(text) > maxPolicy {
		return nil, fmt.Errorf("%w: %d bytes", ErrPolicy, len(text))
	}
	var in struct {
		Version   string
		ID        string `json:"Id"`
		Statement policyList[policyStatementJSON]
	}
	dec := json.NewDecoder(strings.NewReader(text))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&in); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrPolicy, err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("%w: data after it", ErrPolicy)
	}
	// Without a version, and in 2008-10-17, ${...} stands for itself.
	if in.Version == "" {
		in.Version = "2008-10-17"
	}
	p := &policyDocument{}
	all := []string{in.Version}
	for i, s := range in.Statement {
		got, err := s.read()
		if err != nil {
			return nil, fmt.Errorf("%w: statement %d (%q): %w", ErrPolicy, i+1, clip(s.Sid), err)
		}
		p.statements = append(p.statements, got)
		all = append(all, got.canonical)
	}
	slices.Sort(all[1:])
	p.canonical = strings.Join(all, "\n")
	return p, nil
}

type policyStatementJSON struct {
	Sid          string
	Effect       string
	Principal    json.RawMessage
	NotPrincipal json.RawMessage
	Action       policyList[string]
	NotAction    policyList[string]
	Resource     policyList[string]
	NotResource  policyList[string]
	Condition    map[string]map[string]policyList[policyValue]
}

// policyList is one value or a list of them: JSON policies allow both.
type policyList[T any] []T

func (l *policyList[T]) UnmarshalJSON(data []byte) error {
	strict := func(v any) error {
		dec := json.NewDecoder(bytes.NewReader(data))
		dec.DisallowUnknownFields()
		return dec.Decode(v)
	}
	if bytes.HasPrefix(data, []byte("[")) {
		return strict((*[]T)(l))
	}
	*l = make([]T, 1)
	return strict(&(*l)[0])
}

// policyValue is a condition's value: text, or a boolean or number that means
// the same as its text.
type policyValue string

func (v *policyValue) UnmarshalJSON(data []byte) error {
	if bytes.HasPrefix(data, []byte(`"`)) {
		return json.Unmarshal(data, (*string)(v))
	}
	var plain any
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	if err := dec.Decode(&plain); err != nil {
		return err
	}
	switch plain.(type) {
	case bool, json.Number:
		*v = policyValue(bytes.TrimSpace(data))
		return nil
	}
	return fmt.Errorf("condition value %s", clip(string(data)))
}

func (in policyStatementJSON) read() (policyStatement, error) {
	s := policyStatement{sid: in.Sid, allow: in.Effect == "Allow", actions: in.Action, resources: in.Resource}
	if in.Effect != "Allow" && in.Effect != "Deny" {
		return s, fmt.Errorf("effect %q", clip(in.Effect))
	}
	if (in.Action == nil) == (in.NotAction == nil) {
		return s, errors.New("it needs one of Action and NotAction")
	}
	if in.NotAction != nil {
		s.actions, s.notAction = in.NotAction, true
	}
	if in.NotResource != nil {
		if in.Resource != nil {
			return s, errors.New("Resource and NotResource")
		}
		s.resources, s.notResource = in.NotResource, true
	}
	who := in.Principal
	if in.NotPrincipal != nil {
		if in.Principal != nil {
			return s, errors.New("both Principal and NotPrincipal")
		}
		who, s.notPrincipal = in.NotPrincipal, true
	}
	var err error
	if s.principals, err = readPrincipals(who); err != nil {
		return s, err
	}
	conditions := map[string]map[string][]string{}
	for _, operator := range slices.Sorted(maps.Keys(in.Condition)) {
		conditions[operator] = map[string][]string{}
		for _, key := range slices.Sorted(maps.Keys(in.Condition[operator])) {
			var values []string
			for _, v := range in.Condition[operator][key] {
				values = append(values, string(v))
			}
			values = asSet(values)
			s.conditions = append(s.conditions, policyCondition{operator, key, values})
			conditions[operator][key] = values
		}
	}
	// Actions have no case; the rest has.
	lower := make([]string, len(s.actions))
	for i, a := range s.actions {
		lower[i] = strings.ToLower(a)
	}
	canonical, err := json.Marshal([]any{s.sid, in.Effect, s.notPrincipal, asSet(s.principals), s.notAction, asSet(lower), s.notResource, asSet(s.resources), conditions})
	s.canonical = string(canonical)
	return s, err
}

// readPrincipals reads "*" or {"AWS": ..., "Service": ...}; nothing where the
// policy is an identity's.
func readPrincipals(raw json.RawMessage) ([]string, error) {
	if raw == nil {
		return nil, nil
	}
	var everyone string
	if json.Unmarshal(raw, &everyone) == nil {
		if everyone != "*" {
			return nil, fmt.Errorf("principal %q", clip(everyone))
		}
		return []string{"*"}, nil
	}
	var by map[string]policyList[string]
	if err := json.Unmarshal(raw, &by); err != nil {
		return nil, fmt.Errorf("principal: %w", err)
	}
	var out []string
	for _, kind := range slices.Sorted(maps.Keys(by)) {
		for _, name := range by[kind] {
			switch kind {
			case "AWS":
				out = append(out, name)
			case "Service", "Federated", "CanonicalUser":
				out = append(out, kind+":"+name)
			default:
				return nil, fmt.Errorf("principal of kind %q", clip(kind))
			}
		}
	}
	if len(out) == 0 {
		return nil, errors.New("no principal")
	}
	return out, nil
}

func asSet(list []string) []string {
	out := slices.Clone(list)
	slices.Sort(out)
	return slices.Compact(out)
}

// about says whether the statement speaks of an action.
func (s policyStatement) about(action string) bool {
	action = strings.ToLower(action)
	return s.notAction != slices.ContainsFunc(s.actions, func(a string) bool { return policy.Glob(strings.ToLower(a), action) })
}

// on says whether the statement may speak of a resource. A policy variable
// stands for anything.
func (s policyStatement) on(resource string) bool {
	if s.resources == nil {
		return true // a trust policy has none
	}
	return s.notResource != slices.ContainsFunc(s.resources, func(r string) bool { return policy.Glob(variables(r), resource) })
}

// certainlyOn is on for a denial: a variable matches nothing.
func (s policyStatement) certainlyOn(resource string) bool {
	if s.resources == nil {
		return true
	}
	return s.notResource != slices.ContainsFunc(s.resources, func(r string) bool {
		return policy.Glob(r, resource) || s.notResource && policy.Glob(variables(r), resource)
	})
}

// variables puts '*' in the place of ${...}.
func variables(s string) string {
	var out strings.Builder
	for {
		before, rest, found := strings.Cut(s, "${")
		out.WriteString(before)
		if !found {
			return out.String()
		}
		_, after, closed := strings.Cut(rest, "}")
		if !closed {
			return out.String() + "*"
		}
		out.WriteByte('*')
		s = after
	}
}

// principalARN is the condition by which one statement for everyone is in
// truth one for a few.
const principalARN = "aws:principalarn"

// grantee is somebody whom a resource's policy gives an action.
type grantee struct {
	principal string
	statement string // its Sid, or "statement N"
	under     string // the conditions, "" for none
}

// grantees lists whom a resource's policy (a key's, a bucket's, a function's,
// a role's trust) lets do an action on it. context, where not nil, is the
// encryption context of the call: a statement whose conditions contradict it
// is left out.
func (p *policyDocument) grantees(action, resource string, context map[string]string) []grantee {
	var out []grantee
	for i, s := range p.statements {
		if !s.allow || !s.about(action) || !s.on(resource) || s.contradicts(context) {
			continue
		}
		name := s.sid
		if name == "" {
			name = fmt.Sprintf("statement %d", i+1)
		}
		for _, principal := range s.who() {
			if !p.denied(action, resource, principal) {
				out = append(out, grantee{principal, name, s.under()})
			}
		}
	}
	return out
}

// who are the principals of an Allow. NotPrincipal is everyone else. A
// statement for everyone, or for a whole account, under aws:PrincipalArn is for
// those named there.
func (s policyStatement) who() []string {
	if s.notPrincipal {
		return []string{"*"}
	}
	if slices.ContainsFunc(s.principals, func(p string) bool { return p != "*" && !wholeAccount(p) }) {
		return s.principals
	}
	for _, c := range s.conditions {
		if strings.ToLower(c.key) == principalARN && slices.Contains([]string{"stringequals", "arnequals", "stringlike", "arnlike"}, strings.ToLower(c.operator)) {
			return c.values
		}
	}
	return s.principals
}

// wholeAccount says whether a principal is an account: then IAM's policies
// decide who of it.
func wholeAccount(principal string) bool {
	return strings.HasSuffix(principal, ":root") || len(principal) == 12 && strings.Trim(principal, "0123456789") == ""
}

// denied says whether the policy certainly denies principal the action.
func (p *policyDocument) denied(action, resource, principal string) bool {
	return slices.ContainsFunc(p.statements, func(s policyStatement) bool {
		if s.allow || !s.about(action) || !s.certainlyOn(resource) {
			return false
		}
		if !s.isFor(principal) {
			return false
		}
		switch len(s.conditions) {
		case 0:
			return true
		case 1:
			return s.conditions[0].holdsFor(principal)
		}
		return false
	})
}

// isFor says whether a denial names the principal.
func (s policyStatement) isFor(principal string) bool {
	if s.principals == nil {
		return true // an identity's policy is for that identity
	}
	named := slices.Contains(s.principals, "*") || slices.Contains(s.principals, principal)
	return named != s.notPrincipal
}

// holdsFor says whether a condition on aws:PrincipalArn certainly holds for a
// principal that is one role or user.
func (c policyCondition) holdsFor(principal string) bool {
	if strings.ToLower(c.key) != principalARN || !strings.HasPrefix(principal, "arn:") || strings.ContainsAny(principal, "*?") || wholeAccount(principal) {
		return false
	}
	among := slices.ContainsFunc(c.values, func(v string) bool { return v == principal || policy.Glob(v, principal) })
	switch strings.ToLower(c.operator) {
	case "stringequals", "arnequals", "stringlike", "arnlike":
		return among
	case "stringnotequals", "arnnotequals", "stringnotlike", "arnnotlike":
		return !among
	}
	return false
}

const contextCondition = "kms:encryptioncontext:"

// contradicts says whether a condition asks for another value of the
// encryption context than this.
func (s policyStatement) contradicts(context map[string]string) bool {
	if context == nil {
		return false
	}
	return slices.ContainsFunc(s.conditions, func(c policyCondition) bool {
		name, ok := strings.CutPrefix(strings.ToLower(c.key), contextCondition)
		value, there := context[name]
		return ok && there && (c.operator == "StringEquals" || c.operator == "StringLike") &&
			!slices.ContainsFunc(c.values, func(v string) bool { return policy.Glob(v, value) })
	})
}

// under shows the conditions on one line.
func (s policyStatement) under() string {
	var out []string
	for _, c := range s.conditions {
		out = append(out, fmt.Sprintf("%s %s %s", c.key, c.operator, strings.Join(c.values, "|")))
	}
	return strings.Join(out, ", ")
}

// asks shows what a policy asks of whoever does an action, beside the
// encryption context and who it is: an attestation, a second factor.
func (p *policyDocument) asks(action, resource string) string {
	var out []string
	for _, s := range p.statements {
		if !s.about(action) || !s.on(resource) {
			continue
		}
		for _, c := range s.conditions {
			key := strings.ToLower(c.key)
			if !strings.HasPrefix(key, "kms:encryption") && key != principalARN {
				out = append(out, fmt.Sprintf("%s %s %s", c.key, c.operator, strings.Join(c.values, "|")))
			}
		}
	}
	return strings.Join(asSet(out), ", ")
}

// documentDifference says in which statements two policies differ, "" for
// none.
func documentDifference(live, want *policyDocument) string {
	if live.canonical == want.canonical {
		return ""
	}
	count := func(p *policyDocument) map[string]int {
		n := map[string]int{}
		for _, s := range p.statements {
			n[s.canonical]++
		}
		return n
	}
	var parts []string
	more := func(verb string, a, b *policyDocument) {
		there := count(b)
		for i, s := range a.statements {
			if there[s.canonical]--; there[s.canonical] < 0 {
				parts = append(parts, verb+" "+s.describe(i))
			}
		}
	}
	more("it has", live, want)
	more("it lacks", want, live)
	if parts == nil {
		return "its Version is another"
	}
	return strings.Join(parts, "; ")
}

// describe shows a statement on one line.
func (s policyStatement) describe(i int) string {
	name := fmt.Sprintf("statement %d", i+1)
	if s.sid != "" {
		name = fmt.Sprintf("%q", clip(s.sid))
	}
	effect, not := "Deny", func(is bool, what string) string {
		if is {
			return "all but " + what
		}
		return what
	}
	if s.allow {
		effect = "Allow"
	}
	text := fmt.Sprintf("%s: %s %s", name, effect, not(s.notAction, strings.Join(s.actions, ",")))
	if s.principals != nil {
		text += " to " + not(s.notPrincipal, strings.Join(s.principals, ","))
	}
	if len(s.resources) > 0 && !slices.Equal(s.resources, []string{"*"}) {
		text += " on " + not(s.notResource, strings.Join(s.resources, ","))
	}
	if under := s.under(); under != "" {
		text += " if " + under
	}
	return oneLine(text)
}

// oneLine makes text of others safe for a terminal and for a table: what does
// not print is shown as '?', and what is long is cut.
func oneLine(s string) string {
	const most = 600
	out := strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, s)
	if len(out) > most {
		return out[:most] + "..."
	}
	return out
}
