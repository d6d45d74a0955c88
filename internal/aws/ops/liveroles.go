package ops

import (
	"context"
	"encoding/json"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/iam/types"
)

// lookAtRoles compares each role of the installation with its template, and
// shows who can take it.
func (e *examination) lookAtRoles() {
	wanted, known := e.stacks.some("AWS::IAM::Role")
	for _, p := range e.people.principals {
		name, ours := strings.CutPrefix(p.arn, e.Role(""))
		if !ours || p.user {
			continue
		}
		c := e.check("role "+name, "can take a role that was somebody else's, or do more with it than was reviewed", "put the template's role back (break-glass), and find the change in the trail")
		trust, err := parsePolicy(p.trust)
		if err != nil {
			c.add(Changed, "its trust policy is %v: look at it by hand", err)
			continue
		}
		if name == "generator" {
			for _, g := range trust.grantees("sts:AssumeRole", "", nil) {
				c.want(g.principal == "Service:lambda.amazonaws.com", "%s can take it (%s): they would seal, certify and write records with code of their own", e.short(g.principal), g.statement)
			}
		}
		if !known {
			c.add(Warning, "not compared with a template; taken by %s", e.takers(trust))
			continue
		}
		want, ok := e.stacks.one("AWS::IAM::Role", p.name)
		if !ok {
			c.add(Changed, "no template makes it; taken by %s", e.takers(trust))
			continue
		}
		e.compareRole(c, p, trust, want)
		c.ok("as in the template; taken by %s", e.takers(trust))
	}
	for _, want := range wanted {
		if !slices.ContainsFunc(e.people.principals, func(p principal) bool { return !p.user && p.name == want.PhysicalID }) {
			e.check("role "+want.PhysicalID, "", "deploy the stack "+want.Stack+" again").add(Changed, "it is gone")
		}
	}
}

// takers shows who can take a role.
func (e *examination) takers(trust *policyDocument) string {
	var out []string
	for _, action := range []string{"sts:AssumeRole", "sts:AssumeRoleWithSAML", "sts:AssumeRoleWithWebIdentity"} {
		for _, g := range trust.grantees(action, "", nil) {
			text := e.short(g.principal) + ifUnder(g.under)
			if !slices.Contains(out, text) {
				out = append(out, text)
			}
		}
	}
	if out == nil {
		return "nobody"
	}
	return strings.Join(out, "; ")
}

// inline are the policies that the templates put into a role, by name.
func (e *examination) inline(role string, want Resource) map[string]any {
	inline := map[string]any{}
	list, _ := want.Properties["Policies"].([]any)
	for _, one := range list {
		if m, ok := one.(map[string]any); ok {
			inline[loosely(m["PolicyName"])] = m["PolicyDocument"]
		}
	}
	// Policies that another resource puts into the role.
	for _, kind := range []string{"AWS::IAM::Policy", "AWS::IAM::RolePolicy"} {
		more, _ := e.stacks.some(kind)
		for _, r := range more {
			if slices.Contains(append(texts(r.Properties["Roles"]), loosely(r.Properties["RoleName"])), role) {
				inline[loosely(r.Properties["PolicyName"])] = r.Properties["PolicyDocument"]
			}
		}
	}
	return inline
}

// asInTemplate is a role as the templates have it.
func (e *examination) asInTemplate(p principal, want Resource) principal {
	text := func(document any) string {
		b, err := json.Marshal(document)
		if err != nil {
			return ""
		}
		return string(b)
	}
	managed := func(arn string) string {
		if r, ok := e.stacks.one("AWS::IAM::ManagedPolicy", arn); ok {
			return text(r.Properties["PolicyDocument"])
		}
		return e.people.managed[arn] // one of AWS's own
	}
	is := principal{arn: p.arn, name: p.name, inline: map[string]string{}, attached: map[string]string{}}
	for name, document := range e.inline(p.name, want) {
		is.inline[name] = text(document)
	}
	for _, arn := range texts(want.Properties["ManagedPolicyArns"]) {
		is.attached[arn] = managed(arn)
	}
	if is.bounded = loosely(want.Properties["PermissionsBoundary"]); is.bounded != "" {
		is.boundary = managed(is.bounded)
	}
	return is.read()
}

func (e *examination) compareRole(c *check, p principal, trust *policyDocument, want Resource) {
	e.compareDocument(c, trust, want.Properties["AssumeRolePolicyDocument"])
	inline := e.inline(p.name, want)
	for _, name := range sortedKeys(p.inline) {
		document, err := parsePolicy(p.inline[name])
		if err != nil {
			c.add(Changed, "its policy %s is %v: look at it by hand", name, err)
			continue
		}
		asked, there := inline[name]
		if !there {
			c.add(Changed, "it has the policy %s, which the template has not: %s", name, documentDifference(document, &policyDocument{}))
			continue
		}
		e.compareDocument(c, document, asked)
	}
	for _, name := range sortedKeys(inline) {
		if _, there := p.inline[name]; !there {
			c.add(Changed, "it lacks the template's policy %s", name)
		}
	}
	asked := texts(want.Properties["ManagedPolicyArns"])
	for _, arn := range sortedKeys(p.attached) {
		c.want(slices.Contains(asked, arn), "the policy %s is attached, and not by the template", arn)
	}
	for _, arn := range asked {
		if _, there := p.attached[arn]; !there && !unresolved(arn) {
			c.add(Changed, "the template's policy %s is not attached", arn)
		}
	}
	if b := loosely(want.Properties["PermissionsBoundary"]); !unresolved(b) {
		c.want(p.bounded == b, "its boundary is %q, by the template %q", p.bounded, b)
	}
}

// lookAtPolicies compares the managed policies of the templates, the boundary
// above all.
func (e *examination) lookAtPolicies() {
	wanted, _ := e.stacks.some("AWS::IAM::ManagedPolicy")
	for _, want := range wanted {
		c := e.check("policy "+want.LogicalID, "can do more with every role that it bounds or is attached to", "put the template's version back (break-glass), and find the change in the trail")
		arn := want.PhysicalID
		text, there := e.people.managed[arn]
		if !there {
			c.add(Changed, "%s is gone, or none of its versions is the default", arn)
			continue
		}
		document, err := parsePolicy(text)
		if err != nil {
			c.add(Changed, "%v: look at it by hand", err)
			continue
		}
		e.compareDocument(c, document, want.Properties["PolicyDocument"])
		c.ok("as in the template, to the letter")
	}
}

// simulate has IAM itself say that the generator's own policies open nothing.
// It looks at identity policies and the boundary, not at key policies (those
// were judged above, and decide alone): two engines, two halves.
func (e *examination) simulate(ctx context.Context) {
	keys := slices.Concat(e.Signing, e.Recovery)
	if len(keys) == 0 {
		return
	}
	c := e.check("generator cannot open", "a maker that can also open makes every sealing worthless", "take the right away (break-glass), and look for Decrypt by the generator in the trail")
	role := e.Role("generator")
	actions := []string{"kms:Decrypt", "kms:ReEncryptFrom", "kms:CreateGrant", "kms:PutKeyPolicy"}
	n := 0
	err := pages(func(next *string) (*string, error) {
		out, err := e.IAM.SimulatePrincipalPolicy(ctx, &iam.SimulatePrincipalPolicyInput{
			PolicySourceArn: &role, ActionNames: actions, ResourceArns: keys, Marker: next,
			ContextEntries: []types.ContextEntry{
				// As if called from within the function: what is allowed there is the question.
				{ContextKeyName: aws.String("lambda:SourceFunctionArn"), ContextKeyType: types.ContextKeyTypeEnumString, ContextKeyValues: []string{e.function()}},
				{ContextKeyName: aws.String("aws:PrincipalArn"), ContextKeyType: types.ContextKeyTypeEnumString, ContextKeyValues: []string{role}},
			},
		})
		if err != nil {
			return nil, err
		}
		for _, r := range out.EvaluationResults {
			n++
			c.want(r.EvalDecision != types.PolicyEvaluationDecisionTypeAllowed, "IAM lets the generator %s on %s: a key policy that lets IAM decide would be enough", aws.ToString(r.EvalActionName), aws.ToString(r.EvalResourceName))
		}
		if !out.IsTruncated {
			return nil, nil
		}
		return out.Marker, nil
	})
	if absent(err, "NoSuchEntity") {
		c.add(Changed, "there is no role %s", role)
		return
	}
	if !c.seen("iam:SimulatePrincipalPolicy", err) {
		return
	}
	c.want(n > 0, "IAM judged nothing")
	c.ok("IAM's own simulator denies it %s; the key policies, judged above, decide alone", strings.Join(actions, ", "))
}
