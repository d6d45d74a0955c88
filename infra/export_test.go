package infra_test

import (
	"encoding/json"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stakeseal/stakeseal/infra"
	"github.com/stakeseal/stakeseal/infra/policy"
	"github.com/stakeseal/stakeseal/infra/stack"
)

// asked is one request of the cross-check, with our own decision.
type asked struct {
	Role     string              `json:"role"`
	Action   string              `json:"action"`
	Resource string              `json:"resource"`
	Guard    string              `json:"guard,omitempty"` // whose policy guards it
	Context  map[string][]string `json:"context"`
	Allowed  bool                `json:"allowed"`
}

// TestExport writes what infra/check compares with others' programs, into the
// folder that STAKESEAL_INFRA_EXPORT names: every role's policies, some ten
// thousand requests with our decisions, and the templates as we read them.
func TestExport(t *testing.T) {
	dir := os.Getenv("STAKESEAL_INFRA_EXPORT")
	if dir == "" {
		t.Skip("STAKESEAL_INFRA_EXPORT names no folder: infra/check/check.sh does")
	}
	p := newProver(deploy(t, everything()))
	identities := map[string]any{}
	for _, name := range p.in.Roles() {
		r, _ := p.in.Role(name)
		one := map[string]any{"policies": texts(r.Policies...)}
		if r.Boundary != nil {
			one["boundary"] = r.Boundary.Text
		}
		identities[name] = one
	}
	guards := map[string]json.RawMessage{}
	for _, r := range p.in.Resources {
		if d, ok := p.in.Guard(r.ARN); ok && d.Kind != policy.Trust {
			guards[r.ARN] = d.Text
		}
	}
	write(t, filepath.Join(dir, "requests.json"), map[string]any{
		"account": account, "region": region, "name": name, "identities": identities, "guards": guards, "requests": requests(t, p, guards),
	})
	templates := map[string]any{}
	for _, short := range stack.Order {
		data, err := fs.ReadFile(infra.Templates, short+".yaml")
		if err != nil {
			t.Fatal(err)
		}
		v, err := stack.Plain(data)
		if err != nil {
			t.Fatal(err)
		}
		templates[short] = v
	}
	write(t, filepath.Join(dir, "templates.json"), templates)
	parameters := map[string]map[string]string{}
	for short, given := range stack.Example(account) {
		parameters[short] = maps.Clone(given)
		maps.Copy(parameters[short], everything().Parameters[short])
	}
	write(t, filepath.Join(dir, "parameters.json"), parameters)
}

// TestExportResolved writes the templates as they are without parameters and
// conditions, for checkers that do not resolve them.
func TestExportResolved(t *testing.T) {
	dir := os.Getenv("STAKESEAL_INFRA_EXPORT")
	if dir == "" {
		t.Skip("STAKESEAL_INFRA_EXPORT names no folder: infra/check/check.sh does")
	}
	for parts, o := range map[string]stack.Options{"basic": basic(), "everything": everything()} {
		in := deploy(t, o)
		for _, short := range stack.Order {
			resources := map[string]any{}
			for _, r := range in.Resources {
				if r.Stack != name+"-"+short {
					continue
				}
				one := map[string]any{"Type": r.Type, "Properties": numbers(r.Properties)}
				if r.Retain {
					one["DeletionPolicy"], one["UpdateReplacePolicy"] = "Retain", "Retain"
				}
				resources[r.LogicalID] = one
			}
			if len(resources) > 0 {
				write(t, filepath.Join(dir, parts+"-"+short+".json"), map[string]any{"AWSTemplateFormatVersion": "2010-09-09", "Resources": resources})
			}
		}
	}
}

// numbers turns text that is a small number into one: CloudFormation takes
// either, rules compare.
func numbers(v any) any {
	switch v := v.(type) {
	case string:
		if n, err := strconv.Atoi(v); err == nil && len(v) < 8 && strconv.Itoa(n) == v {
			return n
		}
	case []any:
		out := make([]any, len(v))
		for i := range v {
			out[i] = numbers(v[i])
		}
		return out
	case map[string]any:
		out := map[string]any{}
		for k, one := range v {
			if out[k] = numbers(one); strings.Contains(k, "PolicyDocument") || k == "KeyPolicy" || k == "Condition" {
				out[k] = one
			}
		}
		return out
	}
	return v
}

func texts(list ...*policy.Document) []json.RawMessage {
	var out []json.RawMessage
	for _, d := range list {
		out = append(out, d.Text)
	}
	return out
}

func write(t *testing.T, path string, v any) {
	t.Helper()
	data, err := json.Marshal(v)
	if err == nil {
		err = os.WriteFile(path, data, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// requests are every action of every role on a target that fits, and for what
// guards the secrets every target under every circumstance, odd ones included.
func requests(t *testing.T, p *prover, guards map[string]json.RawMessage) []asked {
	odd := map[string][]circumstance{
		"kms:Encrypt":  {without(ofSigning, "pubkey"), without(ofSigning, "purpose"), withFact(ofSigning, "note", "x"), withFact(ofSigning, "purpose", "other"), withFact(ofMnemonic, "v", "2")},
		"kms:Decrypt":  {without(ofSigning, "purpose"), withFact(ofSigning, "purpose", "recovery"), withFact(ofMnemonic, "app", "other")},
		"kms:Sign":     {raw},
		"s3:PutObject": {ifMatch, copied, ifAbsent.and(copied), ifAbsent.and(ifMatch), one("without TLS", "aws:SecureTransport", "false")},
		"s3:GetObject": {one("without TLS", "aws:SecureTransport", "false")},
	}
	var out []asked
	for _, role := range p.in.Roles() {
		for _, a := range policy.Actions() {
			service, _, _ := strings.Cut(a.Name, ":")
			when := circumstances(a.Name, odd[a.Name]...)
			targets := p.candidates(a.Name)
			if !slices.Contains([]string{"kms", "dynamodb", "s3", "lambda", "signer", "sqs"}, service) || !p.mentioned(role, a.Name) {
				targets, when = targets[:min(1, len(targets))], when[:1]
			}
			for _, target := range targets {
				for _, c := range when {
					r := stack.Request{Principal: p.in.RoleARN(role), Action: a.Name, Resource: target, Context: c.context}
					d, err := p.in.Authorize(r)
					if err != nil {
						t.Fatal(err)
					}
					one := asked{Role: role, Action: a.Name, Resource: target, Context: c.context, Allowed: d.Allowed}
					for arn := range guards {
						if target == arn || strings.HasPrefix(target, arn+"/") {
							one.Guard = arn
						}
					}
					out = append(out, one)
				}
			}
		}
	}
	return out
}
