package ops

import (
	"slices"
	"strings"
)

// The parameters of the stacks come from the account that is judged, and the
// templates are resolved with them: one that ends a guarantee makes every
// comparison agree. So those that can are named.

const (
	gainsParameter = "whoever may update stacks can hand a role out, or weaken how it is taken, and every policy still agrees with its template"
	hintParameter  = "if you did not mean it, update the stack with the parameters that you keep"
)

// principalsOf lists the people of a role's parameter.
func principalsOf(parameters map[string]string, name string) []string {
	var out []string
	for _, p := range strings.Split(parameters[name], ",") {
		if p = strings.TrimSpace(p); p != "" {
			out = append(out, p)
		}
	}
	return out
}

// tooWide says whether a principal is more than one role or user.
func tooWide(principal string) bool {
	return wholeAccount(principal) || strings.ContainsAny(principal, "*?")
}

// refusedPeople says whether parameters name principals that the templates' own rules
// refuse: then a stack with another template holds them.
func refusedPeople(parameters map[string]map[string]string) bool {
	for name := range parameters["bootstrap"] {
		if strings.HasSuffix(name, "Principals") && slices.ContainsFunc(principalsOf(parameters["bootstrap"], name), tooWide) {
			return true
		}
	}
	return false
}

func (e *examination) lookAtParameters(stack string, given map[string]string) {
	c := e.check("parameters", gainsParameter, hintParameter)
	if given["Importer"] == "on" {
		c.add(Warning, "Importer=on: while there is an importer, keys made elsewhere come in")
	}
	if stack != "bootstrap" {
		return
	}
	var own []string
	for _, name := range sortedKeys(given) {
		if !strings.HasSuffix(name, "Principals") {
			continue
		}
		for _, p := range principalsOf(given, name) {
			switch {
			case tooWide(p):
				c.add(Changed, "%s names %s: everybody whom that account, or its pattern, lets in takes the role", name, p)
			case strings.HasPrefix(p, e.resource("iam", "")):
				own = append(own, name+" "+e.short(p))
			}
		}
	}
	if own != nil {
		c.add(Warning, "people of this account, where whoever may change IAM becomes them: %s", strings.Join(own, ", "))
	}
	if given["SecondFactor"] == "provider" {
		c.add(Warning, "SecondFactor=provider: AWS sees no second factor, and only your identity provider asks for one")
	}
	if by := given["ImporterPrincipals"]; by != "" {
		c.add(Warning, "ImporterPrincipals=%s: while there is an importer, keys made elsewhere come in", by)
	}
	if given["SignerOn"] == "ec2" && given["SignerLaunch"] == "on" {
		c.add(Warning, "SignerLaunch=on: break-glass may give machines the signer's role, and whoever starts one opens what it opens; turn it off when the machine stands")
	}
	managers := principalsOf(given, "ReleaseManagerPrincipals")
	for _, p := range principalsOf(given, "DeveloperPrincipals") {
		if slices.Contains(managers, p) {
			c.add(Warning, "%s is developer and release manager: one person writes, signs and deploys", e.short(p))
		}
	}
	c.ok("the roles' people are each named, of another account, with a factor that AWS sees; nobody is developer and release manager")
}
