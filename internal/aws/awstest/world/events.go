package world

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"

	"github.com/stakeseal/stakeseal/infra/stack"
	"github.com/stakeseal/stakeseal/internal/aws/awstest/call"
)

// rules is EventBridge, as far as its rules are read.
type rules struct{ w *World }

// Understand reads a call of EventBridge.
func (s rules) Understand(r call.Request) (*call.Call, *call.Failure) {
	operation, ours := strings.CutPrefix(r.HTTP.Header.Get("X-Amz-Target"), "AWSEvents.")
	var in struct {
		Name, Rule, EventBusName, NamePrefix, NextToken string
		Limit                                           int
	}
	if err := call.Strict(r.Body, &in); err != nil || r.HTTP.Method != http.MethodPost || !ours || in.EventBusName != "" && in.EventBusName != "default" {
		return nil, unknown("events %s: %v", r.HTTP.Header.Get("X-Amz-Target"), err)
	}
	switch operation {
	case "ListRules":
		return s.list(in.NamePrefix, in.NextToken)
	case "DescribeRule", "ListTargetsByRule":
	default:
		return nil, unknown("events %s", operation)
	}
	name := in.Name + in.Rule
	arn := "arn:aws:events:" + Region + ":" + Account + ":rule/" + name
	c := &call.Call{Operation: operation, ReadOnly: true, Params: map[string]any{"name": name}, Needs: []call.Need{{Action: "events:" + operation, Resource: arn}}}
	c.Do = func(context.Context) (*call.Answer, *call.Failure) {
		s.w.mu.Lock()
		defer s.w.mu.Unlock()
		for _, rule := range s.w.resources("AWS::Events::Rule") {
			if rule.PhysicalID == name {
				return call.JSON(showRule(operation, rule))
			}
		}
		return nil, call.Refuse("ResourceNotFoundException", "Rule %s does not exist on EventBus default.", name)
	}
	return c, nil
}

// list answers all rules in one page.
func (s rules) list(prefix, token string) (*call.Call, *call.Failure) {
	if token != "" {
		return nil, call.Refuse("ValidationException", "token %q", token)
	}
	c := &call.Call{Operation: "ListRules", ReadOnly: true, Params: map[string]any{"namePrefix": prefix}, Needs: []call.Need{{Action: "events:ListRules", Resource: "*"}}}
	c.Do = func(context.Context) (*call.Answer, *call.Failure) {
		s.w.mu.Lock()
		defer s.w.mu.Unlock()
		all := []any{}
		for _, rule := range s.w.resources("AWS::Events::Rule") {
			if strings.HasPrefix(rule.PhysicalID, prefix) {
				all = append(all, showRule("DescribeRule", rule))
			}
		}
		return call.JSON(map[string]any{"Rules": all})
	}
	return c, nil
}

func showRule(operation string, rule stack.Resource) any {
	if operation == "DescribeRule" {
		state := text(rule.Properties["State"])
		if state == "" {
			state = "ENABLED"
		}
		out := map[string]any{"Name": rule.PhysicalID, "Arn": rule.ARN, "State": state, "EventBusName": "default"}
		if pattern := rule.Properties["EventPattern"]; pattern != nil {
			body, _ := json.Marshal(pattern)
			out["EventPattern"] = string(body)
		}
		if d := text(rule.Properties["Description"]); d != "" {
			out["Description"] = d
		}
		return out
	}
	targets := []map[string]any{}
	for _, t := range list(rule.Properties["Targets"]) {
		one := map[string]any{}
		for name, v := range fields(t) {
			one[name] = v
		}
		targets = append(targets, one)
	}
	return map[string]any{"Targets": targets}
}
