// Package policy reads and judges AWS policy documents: it proves what the
// roles of the templates may do without an account of AWS.
//
// It promises to know what it judges. An action that AWS does not have, an
// operator, a condition key, a variable or a kind of principal that is not
// known here is an error when the document is read, and so are a request's
// action and condition keys: a policy that was half understood would prove
// nothing. It judges one document; how documents of several kinds add up to a
// decision is package stack's.
//
// It trusts the lists of actions in actions/, each of which names its source.
package policy

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
)

// Kind is where a document stands.
type Kind int

// Kinds of documents.
const (
	Identity Kind = iota // of a role, or its boundary: no principals
	Resource             // of a bucket, a table, a queue, a topic, a function
	Key                  // of a KMS key: its only resource is "*", itself
	Trust                // of a role: who may assume it
	Endpoint             // of a VPC endpoint: what may pass
)

// Document is a policy that was understood to the last word.
type Document struct {
	Kind       Kind
	Text       json.RawMessage
	Statements []Statement
}

// Statement is one of a document's statements.
type Statement struct {
	Sid          string
	Allow        bool
	Actions      []string // patterns, all with their service
	NotActions   []string
	Resources    []string // patterns of ARNs
	NotResources []string
	Principals   []Principal
	conditions   []condition
}

// ConditionKeys returns the condition keys that the statement looks at.
func (s Statement) ConditionKeys() []string {
	var out []string
	for _, c := range s.conditions {
		out = append(out, c.key)
	}
	return out
}

// Principal is a kind and a name: AWS and an ARN or "*", or Service and the
// service's name.
type Principal struct{ Kind, Name string }

// Request is one call as policies see it.
type Request struct {
	Principal string              // ARN of a role or user, or a service such as lambda.amazonaws.com
	Action    string              // kms:Encrypt
	Resource  string              // ARN
	Context   map[string][]string // condition keys
}

// Check says whether every word of the request is known.
func (r Request) Check() error {
	if _, ok := Lookup(r.Action); !ok {
		return fmt.Errorf("request: unknown action %q", r.Action)
	}
	for key := range r.Context {
		if _, ok := kindOf(key); !ok {
			return fmt.Errorf("request: unknown condition key %q", key)
		}
	}
	return nil
}

// word is a string or a list of strings; true, false and numbers, which YAML
// writes without quotes, are taken as the text that AWS takes them for.
type word []string

func (w *word) UnmarshalJSON(data []byte) error {
	var v any
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	if err := dec.Decode(&v); err != nil {
		return err
	}
	list, ok := v.([]any)
	if !ok {
		list = []any{v}
	}
	*w = make(word, 0, len(list))
	for _, v := range list {
		switch v := v.(type) {
		case string:
			*w = append(*w, v)
		case bool, json.Number:
			*w = append(*w, fmt.Sprint(v))
		default:
			return fmt.Errorf("%s is no word", data)
		}
	}
	return nil
}

// Parse reads a document.
func Parse(kind Kind, text []byte) (*Document, error) {
	var in struct {
		Version   string
		ID        string `json:"Id"`
		Statement []struct {
			Sid                   string
			Effect                string
			Principal             json.RawMessage
			Action, NotAction     word
			Resource, NotResource word
			Condition             map[string]map[string]word
		}
	}
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.DisallowUnknownFields() // NotPrincipal among them, see below
	if err := dec.Decode(&in); err != nil {
		return nil, fmt.Errorf("policy: %w", err)
	}
	if _, err := dec.Token(); err != io.EOF {
		return nil, errors.New("policy: data after it")
	}
	// Without this version AWS reads ${...} as plain text.
	if in.Version != "2012-10-17" || len(in.Statement) == 0 {
		return nil, errors.New("policy: no statement, or a version other than 2012-10-17")
	}
	d := &Document{Kind: kind, Text: slices.Clone(text)}
	for i, s := range in.Statement {
		out := Statement{
			Sid: s.Sid, Allow: s.Effect == "Allow", Actions: s.Action, NotActions: s.NotAction,
			Resources: s.Resource, NotResources: s.NotResource,
		}
		err := out.check(kind, s.Effect)
		if err == nil {
			out.Principals, err = parsePrincipals(kind, s.Principal)
		}
		for _, operator := range slices.Sorted(maps.Keys(s.Condition)) {
			for _, key := range slices.Sorted(maps.Keys(s.Condition[operator])) {
				c, bad := parseCondition(operator, key, s.Condition[operator][key])
				err = errors.Join(err, bad)
				out.conditions = append(out.conditions, c)
			}
		}
		if err != nil {
			return nil, fmt.Errorf("policy: statement %d (%s): %w", i, s.Sid, err)
		}
		d.Statements = append(d.Statements, out)
	}
	return d, nil
}

func (s *Statement) check(kind Kind, effect string) error {
	if effect != "Allow" && effect != "Deny" {
		return fmt.Errorf("effect %q", effect)
	}
	if (len(s.Actions) == 0) == (len(s.NotActions) == 0) {
		return errors.New("it needs Action or NotAction")
	}
	for _, a := range slices.Concat(s.Actions, s.NotActions) {
		if !knownPattern(a) {
			return fmt.Errorf("action %q matches none that AWS has", a)
		}
	}
	if kind == Trust {
		if len(s.Resources)+len(s.NotResources) > 0 {
			return errors.New("a trust policy names no resource")
		}
		s.Resources = []string{"*"}
	}
	if (len(s.Resources) == 0) == (len(s.NotResources) == 0) {
		return errors.New("it needs Resource or NotResource")
	}
	for _, r := range slices.Concat(s.Resources, s.NotResources) {
		if strings.Contains(r, "${") {
			return fmt.Errorf("policy variables are not known here: %q", r)
		}
		if r != "*" && (!strings.HasPrefix(r, "arn:") || strings.Count(r, ":") < 5) {
			return fmt.Errorf("resource %q is no ARN", r)
		}
		if kind == Key && r != "*" {
			return fmt.Errorf("resource %q: in a key policy it is \"*\", this key", r)
		}
	}
	return nil
}

func knownPattern(pattern string) bool {
	if _, exact := known()[pattern]; exact || pattern == "*" {
		return true
	}
	for name := range known() {
		if Glob(pattern, name) {
			return true
		}
	}
	return false
}

// parsePrincipals knows AWS and Service. NotPrincipal is refused: with Deny it
// also hits the sessions of a role that it names, so it rarely says what its
// writer meant; with Allow it opens to the world.
func parsePrincipals(kind Kind, raw json.RawMessage) ([]Principal, error) {
	if kind == Identity {
		if raw != nil {
			return nil, errors.New("an identity's policy names no principal")
		}
		return nil, nil
	}
	var all string
	if json.Unmarshal(raw, &all) == nil && all == "*" {
		return []Principal{{"AWS", "*"}}, nil
	}
	var by map[string]word
	if err := json.Unmarshal(raw, &by); err != nil || len(by) == 0 {
		return nil, fmt.Errorf("principal %s is not understood", raw)
	}
	var list []Principal
	for _, k := range slices.Sorted(maps.Keys(by)) {
		if len(by[k]) == 0 {
			return nil, errors.New("no principal")
		}
		for _, name := range by[k] {
			switch {
			case k == "AWS" && (name == "*" || rootOf(name) != "" || strings.Contains(name, ":iam::") && (strings.Contains(name, ":role/") || strings.Contains(name, ":user/"))):
			case k == "Service" && strings.HasSuffix(name, ".amazonaws.com"):
			default:
				return nil, fmt.Errorf("principal %s %q is not understood", k, name)
			}
			if name != "*" && strings.ContainsAny(name, "*?") {
				return nil, fmt.Errorf("principal %q: AWS takes no pattern here", name)
			}
			list = append(list, Principal{k, name})
		}
	}
	return list, nil
}

// rootOf returns the account of a principal that stands for a whole account.
func rootOf(name string) string {
	if len(name) == 12 && strings.Trim(name, "0123456789") == "" {
		return name
	}
	part := strings.Split(name, ":")
	if len(part) == 6 && part[0] == "arn" && part[2] == "iam" && part[5] == "root" {
		return part[4]
	}
	return ""
}

// Account returns the account of a principal's ARN, "" for a service.
func Account(principal string) string {
	if part := strings.SplitN(principal, ":", 6); len(part) == 6 {
		return part[4]
	}
	return ""
}
