package world

import (
	"context"
	"maps"
	"slices"
	"strings"

	"github.com/stakeseal/stakeseal/infra"
	"github.com/stakeseal/stakeseal/infra/stack"
	"github.com/stakeseal/stakeseal/internal/aws/awstest/call"
)

// stacks is CloudFormation, as far as it is read.
type stacks struct{ w *World }

// Understand reads a call of CloudFormation.
func (s stacks) Understand(r call.Request) (*call.Call, *call.Failure) {
	return readForm(s.w, r, "cloudformation", "2010-05-15", "http://cloudformation.amazonaws.com/doc/2010-05-15/", stackQueries)
}

var stackQueries = map[string]query{
	"DescribeStacks":     {[]string{"StackName", "NextToken"}, named(describeStack)},
	"ListStackResources": {[]string{"StackName", "NextToken"}, named(listResources)},
	"GetTemplate":        {[]string{"StackName", "TemplateStage"}, named(getTemplate)},
}

// named reads the stack's name, which may be its ARN, and asks for the right
// to it.
func named(show func(w *World, short string, f *form) ([]element, *call.Failure)) func(*World, *form) (reply, *call.Failure) {
	return func(w *World, f *form) (reply, *call.Failure) {
		name := f.Get("StackName")
		if name == "" || f.Get("NextToken") != "" {
			return nil, unknown("cloudformation %s of all stacks", f.Operation)
		}
		if strings.HasPrefix(name, "arn:") {
			parts := strings.Split(name, "/")
			name = parts[min(1, len(parts)-1)]
		}
		f.need("cloudformation", stackID(name))
		return func(context.Context) ([]element, *call.Failure) {
			w.mu.Lock()
			defer w.mu.Unlock()
			short, ours := "", false
			if w.inst != nil {
				short, ours = strings.CutPrefix(name, w.inst.Name+"-")
				_, there := w.inst.Outputs[short]
				ours = ours && there
			}
			if !ours {
				return nil, call.Refuse("ValidationError", "Stack with id %s does not exist", name)
			}
			return show(w, short, f)
		}, nil
	}
}

// stackID is the ARN of a stack: its last part is random on AWS.
func stackID(name string) string {
	return "arn:aws:cloudformation:" + Region + ":" + Account + ":stack/" + name + "/" + uuidOf(name)
}

func describeStack(w *World, short string, _ *form) ([]element, *call.Failure) {
	var outputs, parameters []element
	for _, key := range slices.Sorted(maps.Keys(w.inst.Outputs[short])) {
		outputs = append(outputs, branch("", leaf("OutputKey", key), leaf("OutputValue", w.inst.Outputs[short][key])))
	}
	for _, key := range slices.Sorted(maps.Keys(w.inst.Parameters[short])) {
		parameters = append(parameters, branch("", leaf("ParameterKey", key), leaf("ParameterValue", w.inst.Parameters[short][key])))
	}
	name := w.inst.Name + "-" + short
	return []element{members("Stacks", branch("",
		leaf("StackId", stackID(name)), leaf("StackName", name), leaf("CreationTime", w.deployed.UTC().Format("2006-01-02T15:04:05.000Z")),
		leaf("StackStatus", "CREATE_COMPLETE"), leaf("DisableRollback", "false"), leaf("EnableTerminationProtection", "true"),
		members("Capabilities", leaf("", "CAPABILITY_NAMED_IAM")), members("Parameters", parameters...), members("Outputs", outputs...),
		branch("DriftInformation", leaf("StackDriftStatus", "NOT_CHECKED")),
	))}, nil
}

func listResources(w *World, short string, _ *form) ([]element, *call.Failure) {
	var all []element
	for _, r := range w.inst.Resources {
		if r.Stack == w.inst.Name+"-"+short {
			all = append(all, branch("", leaf("LogicalResourceId", r.LogicalID), leaf("PhysicalResourceId", physical(r)), leaf("ResourceType", r.Type),
				leaf("LastUpdatedTimestamp", w.deployed.UTC().Format("2006-01-02T15:04:05.000Z")), leaf("ResourceStatus", "CREATE_COMPLETE"),
				branch("DriftInformation", leaf("StackResourceDriftStatus", "NOT_CHECKED"))))
		}
	}
	return []element{members("StackResourceSummaries", all...)}, nil
}

// physical is the id under which CloudFormation knows a resource: of some types
// it is not the name.
func physical(r stack.Resource) string {
	switch r.Type {
	case "AWS::IAM::ManagedPolicy", "AWS::Lambda::CodeSigningConfig", "AWS::SNS::Topic":
		return r.ARN
	case "AWS::SQS::Queue":
		return "https://sqs." + Region + ".amazonaws.com/" + Account + "/" + r.PhysicalID
	}
	return r.PhysicalID
}

func getTemplate(_ *World, short string, f *form) ([]element, *call.Failure) {
	if stage := f.Get("TemplateStage"); stage != "" && stage != "Original" {
		return nil, unknown("template stage %q", stage)
	}
	text, err := infra.Templates.ReadFile(short + ".yaml")
	if err != nil {
		return nil, call.Refuse("ValidationError", "%v", err)
	}
	return []element{leaf("TemplateBody", string(text)), members("StagesAvailable", leaf("", "Original"), leaf("", "Processed"))}, nil
}
