package awstest

import (
	"fmt"
	"strings"

	"github.com/stakeseal/stakeseal/infra/policy"
	"github.com/stakeseal/stakeseal/internal/aws/awstest/call"
)

// A key policy, read and judged as those of the templates are (package
// infra/policy). What the calls here do not carry, and what a key's policy
// alone cannot decide, is an error when the key is made: a policy that was half
// understood would prove nothing.

// carried are the condition keys that the fake's calls are judged with, beside
// kms:EncryptionContext:NAME. A policy about any other, which calls of the real
// KMS may carry, would be judged as if they did not.
var carried = map[string]bool{
	"aws:PrincipalArn":          true,
	"kms:CallerAccount":         true,
	"kms:EncryptionAlgorithm":   true,
	"kms:SigningAlgorithm":      true,
	"kms:MessageType":           true,
	"kms:EncryptionContextKeys": true,
}

const contextKey = "kms:EncryptionContext:"

func carries(key string) bool { return carried[key] || strings.HasPrefix(key, contextKey) }

func parsePolicy(text string) (*policy.Document, error) {
	d, err := policy.Parse(policy.Key, []byte(text))
	if err != nil {
		return nil, fmt.Errorf("key policy: %w", err)
	}
	for i, s := range d.Statements {
		if err := supported(s); err != nil {
			return nil, fmt.Errorf("key policy: statement %d (%s): %w", i, s.Sid, err)
		}
	}
	return d, nil
}

// supported refuses what is understood but cannot be decided by this fake.
func supported(s policy.Statement) error {
	if s.NotActions != nil || s.NotResources != nil {
		return fmt.Errorf("NotAction %q, NotResource %q: this fake takes neither", s.NotActions, s.NotResources)
	}
	for _, a := range s.Actions {
		if a != "*" && !strings.HasPrefix(a, "kms:") {
			return fmt.Errorf("action %q is none of KMS", a)
		}
	}
	for _, p := range s.Principals {
		// An account's root would hand the decision to IAM policies, which this
		// fake does not have; nor has it users and services that call.
		if p.Name != "*" && !strings.Contains(p.Name, ":role/") {
			return fmt.Errorf("principal %s %q: this fake knows \"*\" and roles", p.Kind, p.Name)
		}
	}
	for _, key := range s.ConditionKeys() {
		if !carries(key) {
			return fmt.Errorf("condition key %q: this fake does not know it", key)
		}
	}
	return nil
}

// allows says whether a key's policy, which decides alone, lets a role do
// something, and if not, why.
func allows(d *policy.Document, need call.Need, role string) (ok bool, why string) {
	context := map[string][]string{}
	for key, values := range need.Context {
		if carries(key) { // the others are in no policy here, and the judge takes no key that it does not know
			context[key] = values
		}
	}
	context["aws:PrincipalArn"] = []string{role}
	switch verdict, _ := d.Judge(policy.Request{Principal: role, Action: need.Action, Resource: need.Resource, Context: context}); verdict {
	case policy.Allowed:
		return true, ""
	case policy.Denied:
		return false, "with an explicit deny in a resource-based policy"
	}
	return false, "because no resource-based policy allows the " + need.Action + " action"
}
