package tables

import (
	"regexp"
	"slices"
	"strings"

	"github.com/stakeseal/stakeseal/internal/aws/awstest/call"
)

// expressions are the placeholders of one request, and which were used. An
// unused one is an error, as on DynamoDB: it is a condition that somebody
// believes to be there.
type expressions struct {
	names  map[string]string
	values map[string]value
	used   map[string]bool
}

func expressionsOf(names map[string]string, values map[string]value) *expressions {
	return &expressions{names, values, map[string]bool{}}
}

func (e *expressions) name(placeholder string) (string, *call.Failure) {
	name, ok := e.names[placeholder]
	if !ok || name == "" {
		return "", invalid("An expression attribute name used in the document path is not defined; attribute name: %s", placeholder)
	}
	e.used[placeholder] = true
	return name, nil
}

func (e *expressions) value(placeholder string) (value, *call.Failure) {
	v, ok := e.values[placeholder]
	if !ok {
		return nil, invalid("An expression attribute value used in expression is not defined; attribute value: %s", placeholder)
	}
	if err := v.check(); err != nil {
		return nil, invalid("value %s: %v", placeholder, err)
	}
	e.used[placeholder] = true
	return v, nil
}

// done refuses placeholders that no expression used.
func (e *expressions) done() *call.Failure {
	var unused []string
	for name := range e.names {
		if !e.used[name] {
			unused = append(unused, name)
		}
	}
	for name := range e.values {
		if !e.used[name] {
			unused = append(unused, name)
		}
	}
	if len(unused) > 0 {
		slices.Sort(unused)
		return invalid("Value provided in ExpressionAttributeNames or ExpressionAttributeValues unused in expressions: keys: {%s}", strings.Join(unused, ", "))
	}
	return nil
}

// A condition judges the item that a write would replace, nil for none.
type condition struct {
	holds func(old item) bool
	names []string // attributes it looks at
}

var (
	notExists = regexp.MustCompile(`^attribute_not_exists\((#\w+)\)$`)
	equals    = regexp.MustCompile(`^(#\w+) = (:\w+)$`)
	ofPrefix  = regexp.MustCompile(`^(#\w+) = (:\w+) AND begins_with\((#\w+), (:\w+)\)$`)
)

// condition knows the two that the store writes under, and none.
func (e *expressions) condition(text string) (condition, *call.Failure) {
	if text == "" {
		return condition{holds: func(item) bool { return true }}, nil
	}
	if m := notExists.FindStringSubmatch(text); m != nil {
		name, failure := e.name(m[1])
		return condition{func(old item) bool { _, there := old[name]; return !there }, []string{name}}, failure
	}
	if m := equals.FindStringSubmatch(text); m != nil {
		name, failure := e.name(m[1])
		if failure != nil {
			return condition{}, failure
		}
		want, failure := e.value(m[2])
		return condition{func(old item) bool { got, there := old[name]; return there && same(got, want) }, []string{name}}, failure
	}
	return condition{}, invalid("this fake does not know the condition %q", text)
}

// projection returns the attributes to answer with, nil for all.
func (e *expressions) projection(text string) ([]string, *call.Failure) {
	if text == "" {
		return nil, nil
	}
	var out []string
	for part := range strings.SplitSeq(text, ",") {
		name, failure := e.name(strings.TrimSpace(part))
		if failure != nil {
			return nil, failure
		}
		if slices.Contains(out, name) {
			return nil, invalid("Invalid ProjectionExpression: Two document paths overlap with each other: %s", name)
		}
		out = append(out, name)
	}
	return out, nil
}

func project(it item, attributes []string) item {
	if attributes == nil {
		return it
	}
	out := item{}
	for _, name := range attributes {
		if v, ok := it[name]; ok {
			out[name] = v
		}
	}
	return out
}

// within is a key condition: one partition, and a prefix of its sort keys.
type within struct{ hash, prefix string }

func (e *expressions) within(text, hashName, sortName string) (within, *call.Failure) {
	m := ofPrefix.FindStringSubmatch(text)
	if m == nil {
		if m = equals.FindStringSubmatch(text); m == nil {
			return within{}, invalid("this fake does not know the key condition %q", text)
		}
	}
	var w within
	for i, into := range []struct {
		is string
		to *string
	}{{hashName, &w.hash}, {sortName, &w.prefix}}[:(len(m)-1)/2] {
		name, failure := e.name(m[1+2*i])
		if failure != nil {
			return w, failure
		}
		if name != into.is {
			return w, invalid("Query condition missed key schema element: %s", into.is)
		}
		v, failure := e.value(m[2+2*i])
		if failure != nil {
			return w, failure
		}
		text, ok := v.text()
		if !ok || text == "" {
			return w, invalid("One or more parameter values were invalid: the key condition's value of %s is not a string, or empty", name)
		}
		*into.to = text
	}
	return w, nil
}
