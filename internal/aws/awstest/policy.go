package awstest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"

	"github.com/stakeseal/stakeseal/internal/aws/awstest/call"
)

// A key policy, as far as this fake knows the language. What it does not know
// is an error when the key is made: a policy that was half understood would
// prove nothing.

type policy struct{ statements []statement }

type statement struct {
	sid        string
	allow      bool
	principals []string // role ARNs, or "*"
	actions    []string // "kms:*", or patterns that match known actions
	conditions []condition
}

type condition struct {
	operator, key string
	values        []string
}

// actions are those of the KMS API by late 2026: a statement about any other
// is a typing error, which would leave something allowed or denied unseen.
var actions = strings.Fields(`CancelKeyDeletion ConnectCustomKeyStore CreateAlias CreateCustomKeyStore
	CreateGrant CreateKey Decapsulate Decrypt DeleteAlias DeleteCustomKeyStore DeleteImportedKeyMaterial
	DeriveSharedSecret DescribeCustomKeyStores DescribeKey DisableKey DisableKeyRotation
	DisconnectCustomKeyStore EnableKey EnableKeyRotation Encapsulate Encrypt GenerateDataKey
	GenerateDataKeyPair GenerateDataKeyPairWithoutPlaintext GenerateDataKeyWithoutPlaintext GenerateMac
	GenerateRandom GetKeyLastUsage GetKeyPolicy GetKeyRotationStatus GetParametersForImport GetPublicKey
	ImportKeyMaterial ListAliases ListGrants ListKeyPolicies ListKeyRotations ListKeys ListResourceTags
	ListRetirableGrants PutKeyPolicy ReEncryptFrom ReEncryptTo ReplicateKey RetireGrant RevokeGrant
	RotateKeyOnDemand ScheduleKeyDeletion Sign SynchronizeMultiRegionKey TagResource UntagResource
	UpdateAlias UpdateCustomKeyStore UpdateKeyDescription UpdatePrimaryRegion Verify VerifyMac`)

// Condition keys beside kms:EncryptionContext:NAME, and whether they have
// several values.
var conditionKeys = map[string]bool{
	"aws:PrincipalArn":          false,
	"kms:CallerAccount":         false,
	"kms:EncryptionAlgorithm":   false,
	"kms:SigningAlgorithm":      false,
	"kms:MessageType":           false,
	"kms:EncryptionContextKeys": true,
}

const contextKey = "kms:EncryptionContext:"

func parsePolicy(text string) (*policy, error) {
	var doc struct {
		Version   string
		ID        string `json:"Id"`
		Statement []struct {
			Sid       string
			Effect    string
			Principal json.RawMessage
			Action    words
			Resource  words
			Condition map[string]map[string]words
		}
	}
	dec := json.NewDecoder(strings.NewReader(text))
	dec.DisallowUnknownFields() // NotAction, NotPrincipal and NotResource among them
	if err := dec.Decode(&doc); err != nil {
		return nil, fmt.Errorf("key policy: %w", err)
	}
	if _, err := dec.Token(); err != io.EOF {
		return nil, errors.New("key policy: data after it")
	}
	if doc.Version != "2012-10-17" || len(doc.Statement) == 0 {
		return nil, errors.New("key policy: no statements, or a version other than 2012-10-17")
	}
	p := &policy{}
	for i, in := range doc.Statement {
		refuse := func(format string, args ...any) (*policy, error) {
			return nil, fmt.Errorf("key policy: statement %d (%s): %s", i, in.Sid, fmt.Sprintf(format, args...))
		}
		s := statement{sid: in.Sid, allow: in.Effect == "Allow", actions: in.Action}
		if in.Effect != "Allow" && in.Effect != "Deny" {
			return refuse("effect %q", in.Effect)
		}
		if !slices.Equal(in.Resource, words{"*"}) {
			return refuse("resource %q: in a key policy it is \"*\", this key", in.Resource)
		}
		if len(in.Action) == 0 {
			return refuse("no action")
		}
		for _, a := range in.Action {
			if !slices.ContainsFunc(actions, func(known string) bool { return glob(a, "kms:"+known) }) {
				return refuse("action %q matches none of KMS", a)
			}
		}
		var err error
		if s.principals, err = parsePrincipal(in.Principal); err != nil {
			return refuse("%v", err)
		}
		for operator, keys := range in.Condition {
			for key, values := range keys {
				c := condition{operator, key, values}
				if err := c.check(); err != nil {
					return refuse("%v", err)
				}
				s.conditions = append(s.conditions, c)
			}
		}
		p.statements = append(p.statements, s)
	}
	return p, nil
}

// words is a string or a list of strings.
type words []string

func (w *words) UnmarshalJSON(data []byte) error {
	if bytes.HasPrefix(data, []byte(`"`)) {
		*w = make(words, 1)
		return json.Unmarshal(data, &(*w)[0])
	}
	return json.Unmarshal(data, (*[]string)(w))
}

func parsePrincipal(raw json.RawMessage) ([]string, error) {
	var any words
	if json.Unmarshal(raw, &any) == nil && slices.Equal(any, words{"*"}) {
		return any, nil
	}
	var by map[string]words
	if err := json.Unmarshal(raw, &by); err != nil || len(by) != 1 || len(by["AWS"]) == 0 {
		return nil, fmt.Errorf("principal %s: this fake knows \"*\" and {\"AWS\": ...}", raw)
	}
	for _, p := range by["AWS"] {
		parts := strings.SplitN(p, ":", 6)
		if p != "*" && (len(parts) != 6 || parts[0] != "arn" || parts[2] != "iam" || !strings.HasPrefix(parts[5], "role/")) {
			// An account's root would hand the decision to IAM policies, which
			// this fake does not have.
			return nil, fmt.Errorf("principal %q: this fake knows roles", p)
		}
	}
	return by["AWS"], nil
}

func (c condition) check() error {
	several, known := conditionKeys[c.key]
	if name, ok := strings.CutPrefix(c.key, contextKey); ok && name != "" && name == strings.ToLower(name) {
		several, known = false, true
	}
	if !known {
		return fmt.Errorf("condition key %q: this fake does not know it", c.key)
	}
	if len(c.values) == 0 {
		return fmt.Errorf("condition %s of %s without a value", c.operator, c.key)
	}
	switch c.operator {
	case "StringEquals", "StringNotEquals", "StringLike", "StringEqualsIfExists":
		if several {
			return fmt.Errorf("condition key %s has several values: say ForAllValues or ForAnyValue", c.key)
		}
	case "ForAllValues:StringEquals", "ForAnyValue:StringEquals":
		if !several {
			return fmt.Errorf("condition key %s has one value: %s is for several", c.key, c.operator)
		}
	case "Null":
		if len(c.values) != 1 || c.values[0] != "true" && c.values[0] != "false" {
			return errors.New("condition Null with neither true nor false")
		}
	default:
		return fmt.Errorf("condition operator %q: this fake does not know it", c.operator)
	}
	return nil
}

// allows judges as AWS does: a Deny that applies wins, then an Allow that
// applies, else no.
func (p *policy) allows(need call.Need, principal string) (ok bool, why string) {
	ok, why = false, "because no resource-based policy allows the "+need.Action+" action"
	for _, s := range p.statements {
		if !s.applies(need, principal) {
			continue
		}
		if !s.allow {
			return false, "with an explicit deny in a resource-based policy"
		}
		ok = true
	}
	return ok, why
}

func (s statement) applies(need call.Need, principal string) bool {
	return slices.ContainsFunc(s.principals, func(p string) bool { return p == "*" || p == principal }) &&
		slices.ContainsFunc(s.actions, func(a string) bool { return glob(a, need.Action) }) &&
		!slices.ContainsFunc(s.conditions, func(c condition) bool { return !c.holds(need, principal) })
}

func (c condition) holds(need call.Need, principal string) bool {
	values := need.Context[c.key]
	if c.key == "aws:PrincipalArn" {
		values = []string{principal}
	}
	listed := func(v string) bool { return slices.Contains(c.values, v) }
	like := func(v string) bool {
		return slices.ContainsFunc(c.values, func(pattern string) bool { return glob(pattern, v) })
	}
	switch c.operator {
	case "StringEquals", "ForAnyValue:StringEquals":
		return slices.ContainsFunc(values, listed)
	case "StringEqualsIfExists":
		return len(values) == 0 || listed(values[0])
	case "StringNotEquals":
		return !slices.ContainsFunc(values, listed)
	case "StringLike":
		return slices.ContainsFunc(values, like)
	case "ForAllValues:StringEquals":
		return !slices.ContainsFunc(values, func(v string) bool { return !listed(v) }) // true of none, as on AWS
	case "Null":
		return (len(values) == 0) == (c.values[0] == "true")
	}
	return false // check knows no other
}

// glob matches * and ?, which in policies also match slashes.
func glob(pattern, s string) bool {
	hide := strings.NewReplacer("/", "\x00", "[", "\x01", `\`, "\x02")
	ok, err := path.Match(hide.Replace(pattern), hide.Replace(s))
	return err == nil && ok
}
