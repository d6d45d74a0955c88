package ops

import (
	"context"
	"slices"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"
)

// What is asked of Lambda about other ways to the function.
type (
	doorAPI interface {
		GetPolicy(context.Context, *lambda.GetPolicyInput, ...func(*lambda.Options)) (*lambda.GetPolicyOutput, error)
		ListFunctionUrlConfigs(context.Context, *lambda.ListFunctionUrlConfigsInput, ...func(*lambda.Options)) (*lambda.ListFunctionUrlConfigsOutput, error)
		ListEventSourceMappings(context.Context, *lambda.ListEventSourceMappingsInput, ...func(*lambda.Options)) (*lambda.ListEventSourceMappingsOutput, error)
	}
	eventAPI interface {
		ListFunctionEventInvokeConfigs(context.Context, *lambda.ListFunctionEventInvokeConfigsInput, ...func(*lambda.Options)) (*lambda.ListFunctionEventInvokeConfigsOutput, error)
	}
)

// lookAtDoors judges every way to run the function that is not a call of its
// alias by a role that may.
func (e *examination) lookAtDoors(ctx context.Context) {
	c := e.check("ways in", "orders without a requester's role: keys for allowed addresses only, but nobody stands for the order", "take it away, and find who put it there in the trail")
	name := &e.Function
	err := pages(func(next *string) (*string, error) {
		out, err := e.Lambda.ListFunctionUrlConfigs(ctx, &lambda.ListFunctionUrlConfigsInput{FunctionName: name, Marker: next})
		if err != nil {
			return nil, err
		}
		for _, u := range out.FunctionUrlConfigs {
			c.add(Changed, "the function has a URL (%s, authentication %s)", aws.ToString(u.FunctionUrl), u.AuthType)
		}
		return out.NextMarker, nil
	})
	if absent(err, "ResourceNotFoundException") {
		return // there is no function, and that was said
	}
	c.seen("lambda:ListFunctionUrlConfigs", err)
	c.seen("lambda:ListEventSourceMappings", pages(func(next *string) (*string, error) {
		out, err := e.Lambda.ListEventSourceMappings(ctx, &lambda.ListEventSourceMappingsInput{FunctionName: name, Marker: next})
		if err != nil {
			return nil, err
		}
		for _, m := range out.EventSourceMappings {
			c.add(Changed, "events of %s run the function", aws.ToString(m.EventSourceArn))
		}
		return out.NextMarker, nil
	}))
	c.seen("lambda:ListFunctionEventInvokeConfigs", pages(func(next *string) (*string, error) {
		out, err := e.Lambda.ListFunctionEventInvokeConfigs(ctx, &lambda.ListFunctionEventInvokeConfigsInput{FunctionName: name, Marker: next})
		if err != nil {
			return nil, err
		}
		for _, i := range out.FunctionEventInvokeConfigs {
			e.lookAtDestinations(c, i)
		}
		return out.NextMarker, nil
	}))
	// A permission can be given on the function, the alias or any version.
	for _, q := range e.qualifiers(ctx, c) {
		out, err := e.Lambda.GetPolicy(ctx, &lambda.GetPolicyInput{FunctionName: name, Qualifier: q})
		if absent(err, "ResourceNotFoundException") {
			continue
		}
		if !c.seen("lambda:GetPolicy", err) {
			break
		}
		of := "the function"
		if q != nil {
			of += ":" + *q
		}
		policy, err := parsePolicy(aws.ToString(out.Policy))
		if err != nil {
			c.add(Changed, "the policy of %s: %v", of, err)
			continue
		}
		for i, s := range policy.statements {
			if s.allow {
				c.add(Changed, "the policy of %s has %s", of, s.describe(i))
			}
		}
	}
	c.ok("no URL, no event source, no permission on the function or a version: only roles of this account whose own policies allow it")
}

// lookAtDestinations holds where answers go to the template's queue. An event
// that failed has the order in it, and an answer that did not the certificates.
func (e *examination) lookAtDestinations(c *check, i types.FunctionEventInvokeConfig) {
	var success, failure string
	if d := i.DestinationConfig; d != nil && d.OnSuccess != nil {
		success = aws.ToString(d.OnSuccess.Destination)
	}
	if d := i.DestinationConfig; d != nil && d.OnFailure != nil {
		failure = aws.ToString(d.OnFailure.Destination)
	}
	asked := map[string][]string{}
	list, _ := e.stacks.some("AWS::Lambda::EventInvokeConfig")
	for _, r := range list {
		for _, on := range []string{"OnSuccess", "OnFailure"} {
			if to := loosely(at(r.Properties, "DestinationConfig", on, "Destination")); to != "" {
				asked[on] = append(asked[on], to)
			}
		}
	}
	for on, live := range map[string]string{"OnSuccess": success, "OnFailure": failure} {
		switch {
		case live == "" || slices.Contains(asked[on], live):
		case unresolved(asked[on]):
			c.add(Warning, "answers of %s are sent to %s: not compared, the template's place is known to AWS only", aws.ToString(i.FunctionArn), live)
		default:
			c.add(Changed, "answers of %s are sent elsewhere: to %s", aws.ToString(i.FunctionArn), live)
		}
	}
}

// qualifiers are those under which a function can have a policy: none, the
// aliases, the versions.
func (e *examination) qualifiers(ctx context.Context, c *check) []*string {
	list := []*string{nil, &e.Alias}
	versions, err := publishedVersions(ctx, e.Lambda, e.Function) // the policy of $LATEST is the function's
	for _, v := range versions {
		list = append(list, v.Version)
	}
	c.seen("lambda:ListVersionsByFunction", err)
	aliases, err := e.aliases(ctx)
	for _, a := range aliases {
		if !slices.ContainsFunc(list, func(q *string) bool { return aws.ToString(q) == aws.ToString(a.Name) }) {
			list = append(list, a.Name)
		}
	}
	c.seen("lambda:ListAliases", err)
	return list
}
