package policy

import "slices"

// Verdict is what one document says of a request.
type Verdict int

// Verdicts, the stronger one later.
const (
	Silent Verdict = iota
	// ByAccount: the document leaves it to the policies of the identities of an
	// account whose root it names.
	ByAccount
	// Allowed: it names the caller, or everybody.
	Allowed
	Denied
)

func (v Verdict) String() string {
	return [...]string{"silent", "left to the account's identities", "allowed", "denied"}[v]
}

// Judge returns the strongest that any statement says, and that statement.
// The request must have passed Check.
func (d *Document) Judge(r Request) (Verdict, Statement) {
	verdict, by := Silent, Statement{}
	for _, s := range d.Statements {
		v := s.judge(r, d.Kind)
		if v > verdict {
			verdict, by = v, s
		}
	}
	return verdict, by
}

func (s Statement) judge(r Request, kind Kind) Verdict {
	if !s.covers(r) {
		return Silent
	}
	named := Allowed
	if kind != Identity {
		if named = s.names(r.Principal); named == Silent {
			return Silent
		}
	}
	if slices.ContainsFunc(s.conditions, func(c condition) bool { return !c.holds(r.Context) }) {
		return Silent
	}
	if !s.Allow {
		return Denied
	}
	return named
}

// covers compares action and resource.
func (s Statement) covers(r Request) bool {
	action := func(p string) bool { return p == "*" || Glob(p, r.Action) }
	resource := func(p string) bool { return p == "*" || matchARN(p, r.Resource) }
	if s.Actions != nil && !slices.ContainsFunc(s.Actions, action) || s.NotActions != nil && slices.ContainsFunc(s.NotActions, action) {
		return false
	}
	if s.Resources != nil && !slices.ContainsFunc(s.Resources, resource) || s.NotResources != nil && slices.ContainsFunc(s.NotResources, resource) {
		return false
	}
	return true
}

func (s Statement) names(principal string) Verdict {
	v := Silent
	for _, p := range s.Principals {
		switch {
		case p.Name == principal || p.Kind == "AWS" && p.Name == "*":
			return Allowed
		case p.Kind == "AWS" && rootOf(p.Name) != "" && rootOf(p.Name) == Account(principal):
			v = ByAccount
		}
	}
	return v
}
