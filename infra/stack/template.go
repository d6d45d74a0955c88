package stack

import (
	"errors"
	"fmt"
	"strings"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
)

// template is a template as it is written, with every short form of an
// intrinsic (!Ref) in its long one.
type template struct {
	name       string
	parameters map[string]parameter
	rules      map[string]any
	mappings   map[string]any
	conditions map[string]any
	resources  map[string]resource
	outputs    map[string]map[string]any
}

type parameter struct {
	kind     string
	def      *string
	allowed  []string
	pattern  string
	min, max string // MinLength and MaxLength, or MinValue and MaxValue
}

type resource struct {
	kind       string
	condition  string
	dependsOn  []string
	retain     bool // on deletion and on replacement
	properties map[string]any
}

// maxTemplate is what CreateStack takes as the body of a call, bytes; larger
// ones would have to lie in a bucket that nobody has made yet.
const maxTemplate = 51200

func parse(name string, data []byte) (*template, error) {
	refuse := func(format string, args ...any) (*template, error) {
		return nil, fmt.Errorf("template %s: %w", name, fmt.Errorf(format, args...))
	}
	if len(data) > maxTemplate {
		return refuse("%d bytes, more than the %d that a call takes", len(data), maxTemplate)
	}
	v, err := Plain(data)
	if err != nil {
		return refuse("%w", err)
	}
	root, ok := v.(map[string]any)
	if !ok {
		return refuse("no mapping")
	}
	t := &template{name: name, parameters: map[string]parameter{}, resources: map[string]resource{}, outputs: map[string]map[string]any{}}
	for key, v := range root {
		section, isMap := v.(map[string]any)
		switch key {
		case "AWSTemplateFormatVersion":
			if v != "2010-09-09" {
				return refuse("format version %v", v)
			}
			continue
		case "Description":
			continue
		}
		if !isMap {
			return refuse("section %s is no mapping", key)
		}
		switch key {
		case "Metadata":
		case "Rules":
			t.rules = section
		case "Mappings":
			t.mappings = section
		case "Conditions":
			t.conditions = section
		case "Parameters":
			err = t.readParameters(section)
		case "Resources":
			err = t.readResources(section)
		case "Outputs":
			err = t.readOutputs(section)
		default: // Transform (SAM, macros), Hooks
			err = fmt.Errorf("section %s", key)
		}
		if err != nil {
			return refuse("%w", err)
		}
	}
	if len(t.resources) == 0 {
		return refuse("no resources")
	}
	return t, nil
}

func (t *template) readParameters(section map[string]any) error {
	for name, v := range section {
		m, err := fields(v, "Type", "Default", "AllowedValues", "AllowedPattern", "ConstraintDescription", "Description", "MinLength", "MaxLength", "MinValue", "MaxValue")
		if err != nil {
			return fmt.Errorf("parameter %s: %w", name, err)
		}
		p := parameter{kind: fmt.Sprint(m["Type"])}
		switch p.kind {
		case "String", "Number", "CommaDelimitedList":
		default:
			return fmt.Errorf("parameter %s: type %s is not known here", name, p.kind)
		}
		if d, ok := m["Default"]; ok {
			s := fmt.Sprint(d)
			p.def = &s
		}
		if list, ok := m["AllowedValues"].([]any); ok {
			for _, v := range list {
				p.allowed = append(p.allowed, fmt.Sprint(v))
			}
		}
		if v, ok := m["AllowedPattern"]; ok {
			p.pattern = fmt.Sprint(v)
		}
		for _, k := range []string{"MinLength", "MinValue"} {
			if v, ok := m[k]; ok {
				p.min = fmt.Sprint(v)
			}
		}
		for _, k := range []string{"MaxLength", "MaxValue"} {
			if v, ok := m[k]; ok {
				p.max = fmt.Sprint(v)
			}
		}
		t.parameters[name] = p
	}
	return nil
}

func (t *template) readResources(section map[string]any) error {
	for id, v := range section {
		m, err := fields(v, "Type", "Condition", "DependsOn", "DeletionPolicy", "UpdateReplacePolicy", "Metadata", "Properties")
		if err != nil {
			return fmt.Errorf("resource %s: %w", id, err)
		}
		r := resource{kind: fmt.Sprint(m["Type"])}
		if _, ok := kinds[r.kind]; !ok {
			return fmt.Errorf("resource %s: type %s is not known here", id, r.kind)
		}
		if c, ok := m["Condition"]; ok {
			r.condition = fmt.Sprint(c)
		}
		switch d := m["DependsOn"].(type) {
		case nil:
		case string:
			r.dependsOn = []string{d}
		case []any:
			for _, v := range d {
				r.dependsOn = append(r.dependsOn, fmt.Sprint(v))
			}
		default:
			return fmt.Errorf("resource %s: DependsOn %v", id, d)
		}
		r.retain = m["DeletionPolicy"] == "Retain" && m["UpdateReplacePolicy"] == "Retain"
		if m["Properties"] != nil {
			p, ok := m["Properties"].(map[string]any)
			if !ok {
				return fmt.Errorf("resource %s: properties are no mapping", id)
			}
			r.properties = p
		}
		t.resources[id] = r
	}
	return nil
}

func (t *template) readOutputs(section map[string]any) error {
	for name, v := range section {
		m, err := fields(v, "Value", "Description", "Export", "Condition")
		if err != nil {
			return fmt.Errorf("output %s: %w", name, err)
		}
		t.outputs[name] = m
	}
	return nil
}

// fields returns a mapping that has no other keys than these.
func fields(v any, names ...string) (map[string]any, error) {
	m, ok := v.(map[string]any)
	if !ok {
		return nil, errors.New("no mapping")
	}
next:
	for k := range m {
		for _, n := range names {
			if k == n {
				continue next
			}
		}
		return nil, fmt.Errorf("unknown key %q", k)
	}
	return m, nil
}

// plain turns a YAML node into maps, lists and scalars. Anchors and merges,
// which CloudFormation takes in some places only, are refused.
func plain(n ast.Node) (any, error) {
	switch n := n.(type) {
	case *ast.MappingNode:
		return mapping(n.Values)
	case *ast.MappingValueNode:
		return mapping([]*ast.MappingValueNode{n})
	case *ast.SequenceNode:
		list := make([]any, 0, len(n.Values))
		for _, v := range n.Values {
			one, err := plain(v)
			if err != nil {
				return nil, err
			}
			list = append(list, one)
		}
		return list, nil
	case *ast.TagNode:
		return short(n)
	case *ast.StringNode:
		return n.Value, nil
	case *ast.LiteralNode:
		return n.Value.Value, nil
	case *ast.BoolNode:
		return n.Value, nil
	case *ast.IntegerNode:
		return n.GetToken().Value, nil
	case *ast.NullNode:
		return nil, fmt.Errorf("line %d: nothing", line(n))
	}
	return nil, fmt.Errorf("line %d: %s is not known here", line(n), n.Type())
}

func line(n ast.Node) int {
	if t := n.GetToken(); t != nil && t.Position != nil {
		return t.Position.Line
	}
	return 0
}

func mapping(values []*ast.MappingValueNode) (any, error) {
	m := map[string]any{}
	for _, v := range values {
		var key string
		switch k := v.Key.(type) {
		case *ast.StringNode:
			key = k.Value
		case *ast.IntegerNode:
			key = k.GetToken().Value
		default:
			return nil, fmt.Errorf("line %d: a key that is no text", line(v))
		}
		if _, ok := m[key]; ok {
			return nil, fmt.Errorf("line %d: %q twice", line(v), key)
		}
		one, err := plain(v.Value)
		if err != nil {
			return nil, err
		}
		m[key] = one
	}
	return m, nil
}

// short turns !Sub x into {Fn::Sub: x}.
func short(n *ast.TagNode) (any, error) {
	name := strings.TrimPrefix(n.Start.Value, "!")
	long := "Fn::" + name
	if name == "Ref" || name == "Condition" {
		long = name
	}
	v, err := plain(n.Value)
	if err != nil {
		return nil, err
	}
	if s, ok := v.(string); ok && name == "GetAtt" {
		id, attribute, _ := strings.Cut(s, ".")
		v = []any{id, attribute}
	}
	return map[string]any{long: v}, nil
}

// Plain reads a template to maps, lists, text and booleans, every short form
// of an intrinsic in its long one: what others' readers of YAML are compared
// with.
func Plain(data []byte) (any, error) {
	file, err := parser.ParseBytes(data, 0)
	if err != nil {
		return nil, err
	}
	if len(file.Docs) != 1 {
		return nil, fmt.Errorf("%d documents", len(file.Docs))
	}
	return plain(file.Docs[0].Body)
}
