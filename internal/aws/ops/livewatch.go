package ops

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudtrail"
	"github.com/aws/aws-sdk-go-v2/service/cloudtrail/types"
	"github.com/aws/aws-sdk-go-v2/service/eventbridge"
	ruletypes "github.com/aws/aws-sdk-go-v2/service/eventbridge/types"
)

// What is asked of CloudTrail and EventBridge about who is watching.
type (
	trailAPI interface {
		DescribeTrails(context.Context, *cloudtrail.DescribeTrailsInput, ...func(*cloudtrail.Options)) (*cloudtrail.DescribeTrailsOutput, error)
		GetTrailStatus(context.Context, *cloudtrail.GetTrailStatusInput, ...func(*cloudtrail.Options)) (*cloudtrail.GetTrailStatusOutput, error)
		GetEventSelectors(context.Context, *cloudtrail.GetEventSelectorsInput, ...func(*cloudtrail.Options)) (*cloudtrail.GetEventSelectorsOutput, error)
	}
	ruleAPI interface {
		DescribeRule(context.Context, *eventbridge.DescribeRuleInput, ...func(*eventbridge.Options)) (*eventbridge.DescribeRuleOutput, error)
		ListRules(context.Context, *eventbridge.ListRulesInput, ...func(*eventbridge.Options)) (*eventbridge.ListRulesOutput, error)
		ListTargetsByRule(context.Context, *eventbridge.ListTargetsByRuleInput, ...func(*eventbridge.Options)) (*eventbridge.ListTargetsByRuleOutput, error)
	}
)

// lookAtTrail judges whether what is done in the account is kept, and whether
// somebody is told.
func (e *examination) lookAtTrail(ctx context.Context) {
	c := e.check("trail", "can act without anything that lasts: the account's own history ends after 90 days, and has no data events", "start it again (administrator), and ask who stopped it: the account's event history still shows 90 days")
	out, err := e.CloudTrail.DescribeTrails(ctx, &cloudtrail.DescribeTrailsInput{IncludeShadowTrails: aws.Bool(true)})
	if c.seen("cloudtrail:DescribeTrails", err) {
		ours := slices.IndexFunc(out.TrailList, func(t types.Trail) bool { return aws.ToString(t.S3BucketName) == e.Trail })
		another := slices.IndexFunc(out.TrailList, func(t types.Trail) bool {
			return aws.ToBool(t.IsOrganizationTrail) || aws.ToBool(t.IsMultiRegionTrail)
		})
		switch {
		case ours >= 0:
			e.judgeTrail(ctx, c, out.TrailList[ours])
		case e.hasTrail():
			c.add(Changed, "no trail writes to %s", e.Trail)
		case another >= 0:
			t := out.TrailList[another]
			c.add(Warning, "the installation has no trail of its own; %s writes to %s, which was not judged", aws.ToString(t.Name), aws.ToString(t.S3BucketName))
		default:
			c.hint = "deploy the stack " + e.Name + "-watch with Trail=on; infra/README.md has the price"
			c.add(Warning, "there is no trail: only the account's own history of 90 days, without data events")
		}
	}
	e.lookAtRules(ctx)
}

// hasTrail says whether the installation was deployed with a trail; without
// templates it counts as if.
func (e *examination) hasTrail() bool {
	_, deployed := e.stacks.some("AWS::CloudTrail::Trail")
	return deployed || e.stacks == nil || e.stacks.resources == nil
}

func (e *examination) judgeTrail(ctx context.Context, c *check, t types.Trail) {
	c.want(aws.ToBool(t.IsMultiRegionTrail), "it covers one region only: what is done in another leaves nothing")
	c.want(aws.ToBool(t.IncludeGlobalServiceEvents), "it leaves out the global services: IAM and STS")
	c.want(aws.ToBool(t.LogFileValidationEnabled), "its files are not signed: a changed one is not noticed")
	status, err := e.CloudTrail.GetTrailStatus(ctx, &cloudtrail.GetTrailStatusInput{Name: t.TrailARN})
	if c.seen("cloudtrail:GetTrailStatus", err) {
		c.want(aws.ToBool(status.IsLogging), "it is stopped, since %s", when(status.StopLoggingTime))
		for what, failed := range map[string]*string{"files": status.LatestDeliveryError, "signatures": status.LatestDigestDeliveryError} {
			c.want(aws.ToString(failed) == "", "its %s cannot be written: %s", what, aws.ToString(failed))
		}
	}
	selectors, err := e.CloudTrail.GetEventSelectors(ctx, &cloudtrail.GetEventSelectorsInput{TrailName: t.TrailARN})
	if !c.seen("cloudtrail:GetEventSelectors", err) {
		return
	}
	seen := readSelectors(selectors)
	c.want(seen.management, "it leaves out management events, or a part of them: the opening of keys is among them")
	for _, source := range seen.excluded {
		c.add(Changed, "it leaves out the events of %s", source)
	}
	c.ok("%s: in every region, all management events, signed files, running", aws.ToString(t.Name))
	d := e.check("trail data events", "", "the stack watch has parameters for them: TableEvents, ObjectEvents, InvokeEvents; infra/README.md has the prices")
	for _, want := range []struct{ kind, arn, what string }{
		{"AWS::DynamoDB::Table", e.Tables.Records, "who wrote a record"},
		{"AWS::S3::Object", e.resource("s3", e.Archive) + "/", "who put or read a copy in the archive"},
		{"AWS::Lambda::Function", e.function(), "who ran the generator"},
	} {
		if !slices.ContainsFunc(seen.data, func(s dataEvents) bool { return s.covers(want.kind, want.arn) }) {
			d.add(Warning, "not kept for %s: audit cannot say %s", want.arn, want.what)
		}
	}
	d.ok("kept for records, archive and function")
}

// selected is what a trail keeps, from either form of event selectors.
type selected struct {
	management bool     // all of them, reads and writes
	excluded   []string // but of these sources
	data       []dataEvents
}

type dataEvents struct {
	kind   string
	arns   []string // beginnings, as classic selectors have them; nil: all
	exact  []string
	narrow bool // reads or writes only, or another condition
}

func (d dataEvents) covers(kind, arn string) bool {
	if d.kind != kind || d.narrow {
		return false
	}
	if d.arns == nil && d.exact == nil {
		return true
	}
	return slices.Contains(d.exact, arn) || slices.ContainsFunc(d.arns, func(a string) bool { return strings.HasPrefix(arn, a) })
}

func readSelectors(out *cloudtrail.GetEventSelectorsOutput) selected {
	var s selected
	for _, c := range out.EventSelectors {
		if c.IncludeManagementEvents == nil || *c.IncludeManagementEvents {
			if s.management = s.management || c.ReadWriteType == types.ReadWriteTypeAll || c.ReadWriteType == ""; len(c.ExcludeManagementEventSources) > 0 {
				s.excluded = append(s.excluded, c.ExcludeManagementEventSources...)
			}
		}
		for _, d := range c.DataResources {
			list := d.Values
			if len(list) == 1 && (list[0] == "arn:aws:lambda" || list[0] == "arn:aws:dynamodb" || list[0] == "arn:aws:s3") {
				list = nil
			}
			s.data = append(s.data, dataEvents{kind: aws.ToString(d.Type), arns: list, narrow: c.ReadWriteType != types.ReadWriteTypeAll && c.ReadWriteType != ""})
		}
	}
	for _, a := range out.AdvancedEventSelectors {
		fields := map[string]types.AdvancedFieldSelector{}
		for _, f := range a.FieldSelectors {
			fields[aws.ToString(f.Field)] = f
		}
		category := fields["eventCategory"].Equals
		source, sourced := fields["eventSource"]
		switch {
		case slices.Equal(category, []string{"Management"}):
			switch {
			case len(fields) == 2 && sourced && len(source.NotEquals) > 0 && len(source.Equals) == 0:
				s.management, s.excluded = true, append(s.excluded, source.NotEquals...)
			case len(fields) == 1:
				s.management = true
			}
		case slices.Equal(category, []string{"Data"}) && len(fields["resources.type"].Equals) == 1:
			d := dataEvents{kind: fields["resources.type"].Equals[0]}
			read := 2
			if where, ok := fields["resources.ARN"]; ok {
				read++
				d.exact, d.arns = where.Equals, where.StartsWith
				d.narrow = len(where.NotEquals)+len(where.NotStartsWith)+len(where.EndsWith)+len(where.NotEndsWith) > 0
			}
			d.narrow = d.narrow || len(fields) != read
			s.data = append(s.data, d)
		}
	}
	return s
}

// alarms are the calls that somebody must be told of, by the name under which
// CloudTrail has them.
var alarms = []string{"PutKeyPolicy", "CreateGrant", "AssumeRole", "UpdateStack", "ExecuteChangeSet"}

// lookAtRules judges whether somebody is told: the installation's rules on the
// default bus, on and with a target.
func (e *examination) lookAtRules(ctx context.Context) {
	c := e.check("alarms", "can change policies, grants and stacks, and nobody is told at once", "turn it on again (administrator), and look in the trail at what was done meanwhile")
	wanted, installed := e.stacks.some("AWS::Events::Rule")
	rules, ok := e.rules(ctx, c, wanted)
	if !ok {
		return
	}
	covered := map[string]bool{}
	for _, r := range rules {
		name := aws.ToString(r.Name)
		want, known := e.stacks.one("AWS::Events::Rule", name)
		if known {
			if same, err := sameJSON(aws.ToString(r.EventPattern), want.Properties["EventPattern"]); err != nil || !same {
				c.add(Changed, "the rule %s has another pattern than in the template", name)
				continue
			}
		}
		if r.State == ruletypes.RuleStateDisabled {
			c.add(Changed, "the rule %s is off", name)
			continue
		}
		if state := loosely(want.Properties["State"]); state != "" && state != string(r.State) {
			// Only with all management events does a rule see calls that read:
			// AssumeRole and Decrypt.
			c.add(Changed, "the rule %s is %s, by the template %s", name, r.State, state)
			continue
		}
		targets, err := e.targets(ctx, name)
		if !c.seen("events:ListTargetsByRule", err) {
			return
		}
		if len(targets) == 0 {
			c.add(Changed, "the rule %s has no target: nobody is told", name)
			continue
		}
		if known {
			asked := targetARNs(want)
			c.want(slices.Equal(targets, asked) || unresolved(asked), "the rule %s tells %s, by the template %s", name, strings.Join(targets, " and "), strings.Join(asked, " and "))
		}
		for _, event := range alarms {
			covered[event] = covered[event] || strings.Contains(aws.ToString(r.EventPattern), `"`+event+`"`)
		}
	}
	if c.said {
		return
	}
	var silent []string
	for _, event := range alarms {
		if !covered[event] {
			silent = append(silent, event)
		}
	}
	switch {
	case len(silent) > 0 && !installed:
		c.hint = "deploy the stack " + e.Name + "-watch"
		c.add(Warning, "nobody is told at once of %s", strings.Join(silent, ", "))
	case len(silent) > 0:
		c.add(Changed, "nobody is told at once of %s", strings.Join(silent, ", "))
	}
	c.ok("%d rules are on and have their targets; %s among what they tell", len(rules), strings.Join(alarms, ", "))
}

// rules are those that the templates make or, without templates, those of the
// installation's name.
func (e *examination) rules(ctx context.Context, c *check, wanted []Resource) (list []ruletypes.Rule, ok bool) {
	for _, w := range wanted {
		out, err := e.EventBridge.DescribeRule(ctx, &eventbridge.DescribeRuleInput{Name: &w.PhysicalID})
		if absent(err, "ResourceNotFoundException") {
			c.add(Changed, "the rule %s is gone", w.PhysicalID)
			continue
		}
		if !c.seen("events:DescribeRule", err) {
			return nil, false
		}
		list = append(list, ruletypes.Rule{Name: out.Name, State: out.State, EventPattern: out.EventPattern})
	}
	if wanted != nil {
		return list, true
	}
	err := pages(func(next *string) (*string, error) {
		out, err := e.EventBridge.ListRules(ctx, &eventbridge.ListRulesInput{NamePrefix: aws.String(e.Name + "-"), NextToken: next})
		if err != nil {
			return nil, err
		}
		list = append(list, out.Rules...)
		return out.NextToken, nil
	})
	return list, c.seen("events:ListRules", err)
}

func (e *examination) targets(ctx context.Context, rule string) ([]string, error) {
	var out []string
	err := pages(func(next *string) (*string, error) {
		got, err := e.EventBridge.ListTargetsByRule(ctx, &eventbridge.ListTargetsByRuleInput{Rule: &rule, NextToken: next})
		if err != nil {
			return nil, err
		}
		for _, t := range got.Targets {
			out = append(out, aws.ToString(t.Arn))
		}
		return got.NextToken, nil
	})
	return asSet(out), err
}

func targetARNs(want Resource) []string {
	var out []string
	list, _ := want.Properties["Targets"].([]any)
	for _, t := range list {
		if m, ok := t.(map[string]any); ok {
			out = append(out, loosely(m["Arn"]))
		}
	}
	return asSet(out)
}

// sameJSON compares a document of AWS with one of a template.
func sameJSON(live string, want any) (bool, error) {
	var got any
	if err := json.Unmarshal([]byte(live), &got); err != nil {
		return false, fmt.Errorf("it is no JSON: %w", err)
	}
	a, err := json.Marshal(got)
	if err != nil {
		return false, err
	}
	b, err := json.Marshal(want)
	return string(a) == string(b), err
}
