package world

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/stakeseal/stakeseal/infra/policy"
	"github.com/stakeseal/stakeseal/internal/aws/awstest/call"
)

// listed returns the values of NAME.member.1, NAME.member.2 and so on.
func (f *form) listed(name string) (out []string) {
	for i := 1; ; i++ {
		v, there := f.Values[fmt.Sprintf("%s.member.%d", name, i)]
		if !there {
			return out
		}
		out = append(out, v[0])
	}
}

// simulate says what a role's own policies and boundary would say to calls:
// the identity's side, as IAM's simulator does without a resource policy.
func simulate(w *World, f *form) (reply, *call.Failure) {
	source := f.Get("PolicySourceArn")
	actions, resources := f.listed("ActionNames"), f.listed("ResourceArns")
	if len(resources) == 0 {
		resources = []string{"*"}
	}
	given := map[string][]string{}
	for i := 1; ; i++ {
		entry := fmt.Sprintf("ContextEntries.member.%d.", i)
		name, there := f.Values[entry+"ContextKeyName"]
		if !there {
			break
		}
		for j := 1; ; j++ {
			v, there := f.Values[fmt.Sprintf("%sContextKeyValues.member.%d", entry, j)]
			if !there {
				break
			}
			given[name[0]] = append(given[name[0]], v[0])
		}
	}
	f.need("iam", source)
	return func(context.Context) ([]element, *call.Failure) {
		w.mu.Lock()
		inst := w.inst
		w.mu.Unlock()
		name := source[strings.LastIndex(source, "/")+1:]
		if inst == nil || !strings.HasPrefix(name, inst.Name+"-") {
			return nil, noEntity("role", name)
		}
		r, there := inst.Role(strings.TrimPrefix(name, inst.Name+"-"))
		if !there || r.ARN != source {
			return nil, noEntity("role", name)
		}
		var results []element
		for _, action := range actions {
			for _, resource := range resources {
				request := policy.Request{Principal: source, Action: action, Resource: resource, Context: given}
				if err := request.Check(); err != nil {
					return nil, call.Refuse("InvalidInput", "%v", err)
				}
				decision := verdict(r.Policies, request)
				if r.Boundary != nil {
					decision = lesser(decision, verdict([]*policy.Document{r.Boundary}, request))
				}
				results = append(results, branch("", leaf("EvalActionName", action), leaf("EvalResourceName", resource), leaf("EvalDecision", decision)))
			}
		}
		return []element{members("EvaluationResults", results...), leaf("IsTruncated", "false")}, nil
	}, nil
}

func verdict(documents []*policy.Document, r policy.Request) string {
	v := policy.Silent
	for _, d := range documents {
		if one, _ := d.Judge(r); one > v {
			v = one
		}
	}
	switch v {
	case policy.Denied:
		return "explicitDeny"
	case policy.Allowed:
		return "allowed"
	}
	return "implicitDeny"
}

// lesser is what two have to say together.
func lesser(a, b string) string {
	order := []string{"explicitDeny", "implicitDeny", "allowed"}
	return order[min(slices.Index(order, a), slices.Index(order, b))]
}
