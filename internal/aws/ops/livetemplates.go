package ops

import (
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"

	"github.com/stakeseal/stakeseal/infra"
	"github.com/stakeseal/stakeseal/infra/stack"
)

// Templates are this release's own, as package infra embeds them.
type Templates struct{}

var _ Template = Templates{}

// Body is a stack's template.
func (Templates) Body(short string) []byte {
	data, err := fs.ReadFile(infra.Templates, short+".yaml")
	if err != nil {
		return nil
	}
	return data
}

// Resolve resolves the templates with the stacks' parameters. Where AWS makes
// a name up (of keys, profiles, subnets), package stack makes up one of its own,
// which then is replaced by what stands there.
func (Templates) Resolve(d Deployed) ([]Resource, error) {
	parameters := map[string]map[string]string{}
	for short, given := range d.Parameters {
		parameters[short] = maps.Clone(given)
	}
	in, err := stack.Deploy(stack.Options{Name: d.Name, Account: d.Account, Region: d.Region, Parameters: parameters})
	if err != nil {
		return nil, err
	}
	var out []Resource
	var names []string // pairs: made up, real
	for _, r := range in.Resources {
		short := strings.TrimPrefix(r.Stack, d.Name+"-")
		if _, stands := d.Physical[short]; !stands {
			continue // a required stack that is not there: said elsewhere
		}
		real, known := d.Physical[short][r.LogicalID]
		if !known {
			real = r.PhysicalID
		}
		if known && real != r.PhysicalID && !strings.HasPrefix(real, "arn:") {
			if len(r.PhysicalID) < 8 {
				return nil, fmt.Errorf("%s/%s: %q is too short a name to be replaced by %q", short, r.LogicalID, r.PhysicalID, real)
			}
			names = append(names, r.PhysicalID, real)
		}
		if r.Type == "AWS::IAM::ManagedPolicy" && !strings.HasPrefix(real, "arn:") {
			real = r.ARN
		}
		out = append(out, Resource{Stack: short, LogicalID: r.LogicalID, Type: r.Type, PhysicalID: real, Properties: r.Properties})
	}
	replace := strings.NewReplacer(names...)
	for i := range out {
		p, _ := replaced(out[i].Properties, replace).(map[string]any)
		out[i].Properties = p
	}
	return out, nil
}

func replaced(v any, names *strings.Replacer) any {
	switch v := v.(type) {
	case string:
		return names.Replace(v)
	case []any:
		list := slices.Clone(v)
		for i := range list {
			list[i] = replaced(list[i], names)
		}
		return list
	case map[string]any:
		m := make(map[string]any, len(v))
		for k, one := range v {
			m[k] = replaced(one, names)
		}
		return m
	}
	return v
}
