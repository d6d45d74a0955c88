package world

import (
	"context"
	"encoding/xml"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/stakeseal/stakeseal/internal/aws/awstest/call"
)

// Services that take forms and answer XML.

// element is an XML element: a name, and text or elements.
type element struct {
	name string
	text string
	in   []element
}

func leaf(name, text string) element            { return element{name: name, text: text} }
func branch(name string, in ...element) element { return element{name: name, in: in} }

// members is a list as the query services write one.
func members(name string, in ...element) element {
	for i := range in {
		in[i].name = "member"
	}
	return element{name: name, in: in}
}

func (e element) write(out *strings.Builder) {
	out.WriteString("<" + e.name + ">")
	_ = xml.EscapeText(out, []byte(e.text))
	for _, in := range e.in {
		in.write(out)
	}
	out.WriteString("</" + e.name + ">")
}

// form is a request of a query service.
type form struct {
	call.Request
	*call.Call
	url.Values
}

// reply does a query and returns its result's elements.
type reply = func(context.Context) ([]element, *call.Failure)

// query is an operation of such a service: the parameters that it may have,
// and how it is read.
type query struct {
	parameters []string
	read       func(w *World, f *form) (reply, *call.Failure)
}

func readForm(w *World, r call.Request, service, version, namespace string, known map[string]query) (*call.Call, *call.Failure) {
	values, err := url.ParseQuery(string(r.Body))
	if err != nil || r.HTTP.Method != http.MethodPost || r.HTTP.URL.Path != "/" || r.HTTP.URL.RawQuery != "" ||
		!strings.HasPrefix(r.HTTP.Header.Get("Content-Type"), "application/x-www-form-urlencoded") {
		return nil, unknown("%s %s %s", service, r.HTTP.Method, r.HTTP.URL)
	}
	operation := values.Get("Action")
	q, ok := known[operation]
	if !ok || values.Get("Version") != version {
		return nil, unknown("%s %q of version %q", service, operation, values.Get("Version"))
	}
	params := map[string]any{}
	for name, v := range values {
		if name == "Action" || name == "Version" {
			continue
		}
		base, _, _ := strings.Cut(name, ".member.")
		if len(v) != 1 || !slices.Contains(q.parameters, base) {
			return nil, unknown("parameter %q of %s %s", name, service, operation)
		}
		params[name] = v[0]
	}
	f := &form{Request: r, Values: values, Call: &call.Call{Operation: operation, ReadOnly: true, Params: params}}
	reply, failure := q.read(w, f)
	if failure != nil {
		return nil, failure
	}
	f.Do = func(ctx context.Context) (*call.Answer, *call.Failure) {
		result, failure := reply(ctx)
		if failure != nil {
			return nil, failure
		}
		var out strings.Builder
		out.WriteString(xml.Header + "<" + operation + `Response xmlns="` + namespace + `">`)
		branch(operation+"Result", result...).write(&out)
		branch("ResponseMetadata", leaf("RequestId", r.ID)).write(&out)
		out.WriteString("</" + operation + "Response>")
		return &call.Answer{Body: []byte(out.String())}, nil
	}
	return f.Call, nil
}

// need asks for the right to the operation on a resource.
func (f *form) need(service, resource string) {
	f.Needs = append(f.Needs, call.Need{Action: service + ":" + f.Operation, Resource: resource})
}
