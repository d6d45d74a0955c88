package ops

import (
	"context"
	"encoding/json"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation/types"
)

// stackAPI is what is asked of CloudFormation.
type stackAPI interface {
	DescribeStacks(context.Context, *cloudformation.DescribeStacksInput, ...func(*cloudformation.Options)) (*cloudformation.DescribeStacksOutput, error)
	ListStackResources(context.Context, *cloudformation.ListStackResourcesInput, ...func(*cloudformation.Options)) (*cloudformation.ListStackResourcesOutput, error)
	GetTemplate(context.Context, *cloudformation.GetTemplateInput, ...func(*cloudformation.Options)) (*cloudformation.GetTemplateOutput, error)
}

// Template is this release's own templates. What they say, with the deployed
// stacks' parameters, is what live policies are compared with: a drift is then
// visible whatever it is. The parameters come from the account that is judged,
// so what they decide (who may be told, who may hold a role) is shown to be
// read, and the guarantees themselves are judged without any template.
type Template interface {
	// Resolve gives the resources of the deployed stacks, every reference
	// replaced. A value that only AWS knows begins with "unresolved:".
	Resolve(Deployed) ([]Resource, error)
	// Body is a stack's template, nil for a stack that has none.
	Body(stack string) []byte
}

// Deployed is what CloudFormation says of the stacks that stand, by their
// short names ("foundation").
type Deployed struct {
	Name, Account, Region string
	Parameters            map[string]map[string]string // stack, parameter
	Outputs               map[string]map[string]string // stack, output
	Physical              map[string]map[string]string // stack, logical id
}

// Resource is what the templates say of one resource.
type Resource struct {
	Stack, LogicalID, Type, PhysicalID string
	Properties                         map[string]any
}

// The stacks in the order of their deployment, and which of them must be.
var (
	requiredStacks = []string{"bootstrap", "foundation", "function"}
	optionalStacks = []string{"network", "schedule", "watch"}
)

// stacks is what stands, and what it should be.
type stacks struct {
	deployed  Deployed
	resources []Resource // nil: not to be compared
}

// one finds the resource of a type and a physical id (of a bucket policy: the
// bucket). A nil receiver knows nothing.
func (s *stacks) one(kind, physical string) (Resource, bool) {
	if s == nil || physical == "" {
		return Resource{}, false
	}
	for _, r := range s.resources {
		if r.Type == kind && (r.PhysicalID == physical || kind == "AWS::S3::BucketPolicy" && loosely(r.Properties["Bucket"]) == physical) {
			return r, true
		}
	}
	return Resource{}, false
}

// some finds all resources of a type.
func (s *stacks) some(kind string) (list []Resource, any bool) {
	if s == nil {
		return nil, false
	}
	for _, r := range s.resources {
		if r.Type == kind {
			list = append(list, r)
		}
	}
	return list, list != nil
}

func (s *stacks) output(stack, name string) string {
	if s == nil {
		return ""
	}
	return s.deployed.Outputs[stack][name]
}

// lookAtStacks reads the stacks and resolves our templates for them.
func (e *examination) lookAtStacks(ctx context.Context) {
	s := &stacks{deployed: Deployed{
		Name: e.Name, Account: e.Account, Region: e.Region,
		Parameters: map[string]map[string]string{}, Outputs: map[string]map[string]string{}, Physical: map[string]map[string]string{},
	}}
	complete := true
	for _, name := range slices.Concat(requiredStacks, optionalStacks) {
		complete = e.lookAtStack(ctx, s, name) && complete
	}
	e.stacks = s
	c := e.check("templates", "", "")
	switch {
	case e.Template == nil:
		c.add(Unseen, "this program has no templates: live policies were not compared")
		return
	case !complete:
		c.add(Unseen, "not every stack could be read: live policies were not compared with the templates")
		return
	}
	resources, err := e.Template.Resolve(s.deployed)
	if err != nil {
		if refusedPeople(s.deployed.Parameters) {
			c.gains, c.hint = gainsParameter, hintParameter
			c.add(Changed, "the templates refuse the stacks' parameters: %v", err)
		} else {
			c.add(Unseen, "the templates cannot be resolved for these stacks: %v", err)
		}
		return
	}
	s.resources = resources
}

// lookAtStack reads one stack and says whether that could be done.
func (e *examination) lookAtStack(ctx context.Context, s *stacks, name string) bool {
	full := e.Name + "-" + name
	c := e.check("stack "+name, "can change every policy that the stack holds", "whoever may update stacks did this; put this release's template back (stakeseal init --aws prints the command), or use the program of the release that is deployed")
	out, err := e.CloudFormation.DescribeStacks(ctx, &cloudformation.DescribeStacksInput{StackName: &full})
	if absent(err, "ValidationError") || err == nil && len(out.Stacks) == 0 { // its way to say that there is none
		if slices.Contains(requiredStacks, name) {
			c.add(Warning, "there is no stack %s: the installation was deployed in another way", full)
			return false
		}
		return true
	}
	if !c.seen("cloudformation:DescribeStacks", err) {
		return false
	}
	stack := out.Stacks[0]
	s.deployed.Parameters[name], s.deployed.Outputs[name], s.deployed.Physical[name] = map[string]string{}, map[string]string{}, map[string]string{}
	var parameters []string
	for _, p := range stack.Parameters {
		value := aws.ToString(p.ParameterValue)
		if p.ResolvedValue != nil {
			value = *p.ResolvedValue
		}
		s.deployed.Parameters[name][aws.ToString(p.ParameterKey)] = value
		if value != "" && aws.ToString(p.ParameterKey) != "Name" {
			parameters = append(parameters, aws.ToString(p.ParameterKey)+"="+value)
		}
	}
	slices.Sort(parameters)
	for _, o := range stack.Outputs {
		s.deployed.Outputs[name][aws.ToString(o.OutputKey)] = aws.ToString(o.OutputValue)
	}
	switch stack.StackStatus {
	case types.StackStatusCreateComplete, types.StackStatusUpdateComplete, types.StackStatusUpdateRollbackComplete, types.StackStatusImportComplete:
	default:
		c.add(Changed, "it is %s (%s)", stack.StackStatus, aws.ToString(stack.StackStatusReason))
	}
	if !aws.ToBool(stack.EnableTerminationProtection) && slices.Contains(requiredStacks, name) {
		c.add(Warning, "termination protection is off; keys, tables and buckets are retained in any case")
	}
	err = pages(func(next *string) (*string, error) {
		out, err := e.CloudFormation.ListStackResources(ctx, &cloudformation.ListStackResourcesInput{StackName: &full, NextToken: next})
		if err != nil {
			return nil, err
		}
		for _, r := range out.StackResourceSummaries {
			s.deployed.Physical[name][aws.ToString(r.LogicalResourceId)] = aws.ToString(r.PhysicalResourceId)
		}
		return out.NextToken, nil
	})
	if !c.seen("cloudformation:ListStackResources", err) {
		return false
	}
	if e.Template != nil {
		live, err := e.CloudFormation.GetTemplate(ctx, &cloudformation.GetTemplateInput{StackName: &full, TemplateStage: types.TemplateStageOriginal})
		if c.seen("cloudformation:GetTemplate", err) {
			c.want(sameText(aws.ToString(live.TemplateBody), string(e.Template.Body(name))), "it was deployed from another template than this release's: what differs below may be the template's")
		}
	}
	e.lookAtParameters(name, s.deployed.Parameters[name])
	text := strings.Join(parameters, " ")
	if text == "" {
		text = "without parameters"
	}
	c.ok("of this release's template, %s", text)
	return true
}

// sameText compares templates but for the ends of lines, which tools change.
func sameText(a, b string) bool {
	plain := func(s string) string { return strings.TrimSpace(strings.ReplaceAll(s, "\r\n", "\n")) }
	return plain(a) == plain(b)
}

// unresolved says whether a template's value is one that only AWS knows.
func unresolved(v any) bool {
	switch v := v.(type) {
	case string:
		return strings.Contains(v, "unresolved:")
	case []string:
		return slices.ContainsFunc(v, func(s string) bool { return unresolved(s) })
	case []any:
		return slices.ContainsFunc(v, unresolved)
	case map[string]any:
		for _, one := range v {
			if unresolved(one) {
				return true
			}
		}
	}
	return false
}

// compareDocument compares a live policy with a template's.
func (e *examination) compareDocument(c *check, live *policyDocument, want any) {
	if want == nil {
		c.add(Changed, "the template has no such policy: %s", documentDifference(live, &policyDocument{}))
		return
	}
	if unresolved(want) {
		c.add(Unseen, "the template's policy holds a value that only AWS knows: not compared")
		return
	}
	text, err := json.Marshal(want)
	if err == nil {
		var asked *policyDocument
		if asked, err = parsePolicy(string(text)); err == nil {
			if d := documentDifference(live, asked); d != "" {
				c.add(Changed, "its policy is not the template's: %s", d)
			}
			return
		}
	}
	c.add(Unseen, "the template's policy: %v", err)
}

// covered are the types of resources that some check looks at, and how; what
// else a template makes is named in a line of its own.
var covered = map[string]bool{
	"AWS::IAM::Role": true, "AWS::IAM::ManagedPolicy": true, "AWS::IAM::Policy": true, "AWS::IAM::RolePolicy": true,
	"AWS::KMS::Key": true, "AWS::DynamoDB::Table": true, "AWS::S3::Bucket": true, "AWS::S3::BucketPolicy": true,
	"AWS::Lambda::Function": true, "AWS::Lambda::CodeSigningConfig": true, "AWS::Lambda::EventInvokeConfig": true,
	"AWS::Signer::SigningProfile": true, "AWS::CloudTrail::Trail": true, "AWS::Events::Rule": true,
}

// lookAtTemplates says what no check looked at: that is no yes.
func (e *examination) lookAtTemplates(context.Context) {
	blind := []string{"whether anybody is subscribed to the alarm's topic, and confirmed it, and who may publish to it", "the default encryption of the buckets"}
	if e.Region != "us-east-1" {
		blind = append(blind, "the second watch, in us-east-1")
	}
	if e.stacks != nil && e.stacks.resources != nil {
		var left []string
		for _, r := range e.stacks.resources {
			if !covered[r.Type] {
				left = append(left, r.Stack+"/"+r.LogicalID)
			}
		}
		e.check("templates", "", "").ok("%d resources compared with the templates", len(e.stacks.resources)-len(left))
		if left != nil {
			blind = append(blind, "and of the templates "+strings.Join(left, ", "))
		}
	}
	c := e.check(notLookedAt, "whatever these are for: this program says neither yes nor no", "aws sns list-subscriptions-by-topic, aws s3api get-bucket-encryption; aws cloudformation detect-stack-drift compares what the templates make")
	c.add(Warning, "%s", strings.Join(blind, "; "))
}

// notLookedAt is the check of what this program leaves to others. It is a
// warning each time, so that a healthy installation is never all yes.
const notLookedAt = "not looked at"
