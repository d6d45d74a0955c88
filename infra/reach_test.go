package infra_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/stakeseal/stakeseal/infra/policy"
	"github.com/stakeseal/stakeseal/infra/stack"
)

// starters are what lets code run, or calls be made, with a role that was given
// to a service; with a machine also what changes what it runs.
var starters = map[string][]string{
	"ec2.amazonaws.com": {"ec2:RunInstances", "ec2:RequestSpotInstances", "ec2:RequestSpotFleet", "ec2:CreateFleet", "ec2:AssociateIamInstanceProfile", "ec2:ReplaceIamInstanceProfileAssociation",
		"ec2:ModifyInstanceAttribute", "ec2:CreateReplaceRootVolumeTask", "ec2:AttachVolume"},
	"lambda.amazonaws.com":         {"lambda:CreateFunction", "lambda:UpdateFunctionConfiguration", "lambda:UpdateFunctionCode", "lambda:CreateCapacityProvider", "lambda:RunMicrovm"},
	"scheduler.amazonaws.com":      {"scheduler:CreateSchedule", "scheduler:UpdateSchedule"},
	"cloudformation.amazonaws.com": {"cloudformation:CreateStack", "cloudformation:UpdateStack", "cloudformation:DeleteStack", "cloudformation:CreateChangeSet", "cloudformation:CreateStackSet"},
	"events.amazonaws.com":         {"events:PutTargets"},
	"states.amazonaws.com":         {"states:CreateStateMachine", "states:UpdateStateMachine"},
	"ssm.amazonaws.com":            {"ssm:StartAutomationExecution", "ssm:SendCommand", "ssm:CreateActivation"},
	"config.amazonaws.com":         {"config:PutConfigurationRecorder", "config:PutRemediationConfigurations"},
	"cloudtrail.amazonaws.com":     {"cloudtrail:CreateTrail", "cloudtrail:UpdateTrail"},
	"s3.amazonaws.com":             {"s3:PutReplicationConfiguration", "s3:CreateJob"},
}

// reaches are what starts a machine, copies one's disk or reaches into one.
var reaches = append(slices.Clone(starters["ec2.amazonaws.com"]), "ec2:CreateSnapshot", "ec2:CreateSnapshots", "ec2:CreateImage", "ec2:ModifySnapshotAttribute", "ec2:ModifyImageAttribute",
	"ec2:CreateInstanceExportTask", "ec2:CreateStoreImageTask", "ec2:GetPasswordData", "ec2:GetConsoleOutput", "ec2:GetConsoleScreenshot", "ec2:EnableSerialConsoleAccess",
	"ec2:StartInstances", "ec2:DetachVolume", "ec2:ModifyInstanceMetadataOptions", "ec2:CreateLaunchTemplate")

// passing finds every role that another could borrow through a service, and
// every role that may be passed at all.
func passing(p *prover) []string {
	var out []string
	meant := []string{"break-glass passes generator to lambda.amazonaws.com", "break-glass passes scheduler to scheduler.amazonaws.com"}
	for _, role := range p.in.Roles() {
		for service, actions := range starters {
			starts := slices.ContainsFunc(actions, func(a string) bool { return len(p.can(role, a)) > 0 })
			for _, to := range p.in.Roles() {
				arn := p.in.RoleARN(to)
				if !p.allowed(role, "iam:PassRole", arn, one("to "+service, "iam:PassedToService", service)) {
					continue
				}
				context := map[string][]string{"aws:SourceAccount": {account}, "aws:SourceArn": {"arn:aws:scheduler:" + region + ":" + account + ":schedule-group/" + name}}
				d, err := p.in.Authorize(stack.Request{Principal: service, Action: "sts:AssumeRole", Resource: arn, Context: context})
				if says := role + " passes " + to + " to " + service; err != nil || !slices.Contains(meant, says) {
					out = append(out, fmt.Sprintf("%s, which it trusts: %v, where %s may start something: %v; %v", says, d.Allowed, role, starts, err))
				} else if !d.Allowed || !starts {
					out = append(out, says+", and to no end")
				}
			}
		}
		if p.allowed(role, "iam:PassRole", p.in.RoleARN("signer"), nothing) || p.allowed(role, "iam:PassRole", p.in.RoleARN("generator"), nothing) {
			out = append(out, role+" passes a role to it does not say whom")
		}
	}
	return out
}

var persons = map[string]string{"developer": "developer", "release-manager": "releasemanager", "requester": "requester", "depositor": "depositor", "signer": "signer", "recovery": "recovery",
	"auditor": "auditor", "administrator": "administrator", "importer": "importer", "break-glass": "breakglass"}

// inOneRegion asks for roles, and calls as break-glass, in a region that has no
// alarms.
func inOneRegion(p *prover) []string {
	var out []string
	for role, who := range persons {
		for _, c := range []circumstance{factor, factor.and(elsewhere)} {
			d, err := p.in.Authorize(stack.Request{Principal: people(who), Action: "sts:AssumeRole", Resource: p.in.RoleARN(role), Context: c.context})
			if err != nil || d.Allowed != (c.says == factor.says) {
				out = append(out, fmt.Sprintf("%s, %s: %+v %v", role, c.says, d, err))
			}
		}
	}
	for _, a := range policy.Actions() {
		if service, _, _ := strings.Cut(a.Name, ":"); service == "iam" || a.Name == "sts:GetCallerIdentity" {
			continue
		}
		for _, target := range a.Example("eu-west-3", account) {
			if p.allowed("break-glass", a.Name, target, elsewhere) {
				out = append(out, "break-glass may "+a.Name+" on "+target)
			}
		}
	}
	return out
}

// Where the installation is not in us-east-1, the second watch goes up there,
// by a session that was opened at home.
func TestSecondWatch(t *testing.T) {
	o := basic()
	o.Region = "eu-central-1"
	in := deploy(t, o)
	for _, c := range []struct {
		principal, action, resource, region string
		want                                bool
	}{
		{people("breakglass"), "sts:AssumeRole", in.RoleARN("break-glass"), "eu-central-1", true},
		{people("breakglass"), "sts:AssumeRole", in.RoleARN("break-glass"), "us-east-1", false},
		{in.RoleARN("break-glass"), "cloudformation:CreateStack", "arn:aws:cloudformation:us-east-1:" + account + ":stack/" + name + "-watch/*", "us-east-1", true},
		{in.RoleARN("break-glass"), "events:PutRule", "arn:aws:events:us-east-1:" + account + ":rule/" + name + "-roles", "us-east-1", true},
		{in.RoleARN("break-glass"), "sns:CreateTopic", "arn:aws:sns:us-east-1:" + account + ":" + name + "-alarms", "us-east-1", true},
		{in.RoleARN("break-glass"), "ec2:CreateVpc", "arn:aws:ec2:us-east-1:" + account + ":vpc/x", "us-east-1", false},
		{in.RoleARN("break-glass"), "events:PutRule", "arn:aws:events:eu-west-3:" + account + ":rule/" + name + "-roles", "eu-west-3", false},
		{in.RoleARN("break-glass"), "iam:UpdateAssumeRolePolicy", in.RoleARN("signer"), "us-east-1", true},
	} {
		context := factor.and(one("", "aws:RequestedRegion", c.region)).context
		d, err := in.Authorize(stack.Request{Principal: c.principal, Action: c.action, Resource: c.resource, Context: context})
		if err != nil || d.Allowed != c.want {
			t.Errorf("%s %s in %s: %+v %v", c.principal, c.action, c.region, d, err)
		}
	}
}

// While SignerLaunch is on, break-glass may start machines with the signer's
// role, and so has it; with SignerOn=principals it says nothing.
func TestSignerLaunch(t *testing.T) {
	for signerOn, want := range map[string]bool{"ec2": true, "principals": false} {
		o := machines()
		o.Parameters["bootstrap"]["SignerOn"], o.Parameters["bootstrap"]["SignerLaunch"] = signerOn, "on"
		p := newProver(deploy(t, o))
		if got := p.allowed("break-glass", "iam:PassRole", p.in.RoleARN("signer"), toMachines); got != want {
			t.Errorf("SignerOn=%s: passes the signer's role: %v", signerOn, got)
		}
		if got := len(p.can("break-glass", "ec2:RunInstances")) > 0; got != want {
			t.Errorf("SignerOn=%s: starts machines: %v", signerOn, got)
		}
		for _, c := range []struct {
			role string
			to   circumstance
		}{{"signer", toLambda}, {"signer", nothing}, {"recovery", toMachines}, {"generator", toMachines}} {
			if p.allowed("break-glass", "iam:PassRole", p.in.RoleARN(c.role), c.to) {
				t.Errorf("SignerOn=%s: passes %s %s", signerOn, c.role, c.to.says)
			}
		}
	}
}

// Who may take a role is named one by one: no account, no pattern, no session.
func TestPrincipalsAreNamed(t *testing.T) {
	good := []string{people("x"), "arn:aws:iam::444455556666:user/people/anna@example.org", "arn:aws-cn:iam::444455556666:role/x",
		"arn:aws:iam::111122223333:role/aws-reserved/sso.amazonaws.com/eu-central-1/AWSReservedSSO_Developer_0123456789abcdef", people("x") + ", " + people("y")}
	bad := []string{"*", "arn:aws:iam::111122223333:root", "111122223333", "arn:aws:iam::111122223333:role/*", "arn:aws:iam::*:role/x", "arn:aws:iam::111122223333:role/x?", "arn:aws:iam::111122223333:group/x",
		"arn:aws:sts::111122223333:assumed-role/x/y", "AROAEXAMPLEEXAMPLE123", "x", people("x") + ",arn:aws:iam::111122223333:root", "arn:aws:iam::111122223333:root," + people("x"), people("x") + ",", ""}
	for role := range persons {
		parameter := map[string]string{"release-manager": "ReleaseManager", "break-glass": "BreakGlass"}[role]
		if parameter == "" {
			parameter = strings.ToUpper(role[:1]) + role[1:]
		}
		parameter += "Principals"
		try := func(value string, edits ...edit) error {
			o := everything()
			o.Parameters["bootstrap"][parameter] = value
			o.Templates = edited(t, edits...)
			_, err := stack.Deploy(o)
			return err
		}
		for _, value := range good {
			if role == "importer" && strings.Contains(value, ",") {
				continue // one
			}
			if err := try(value); err != nil {
				t.Errorf("%s=%s: %v", parameter, value, err)
			}
		}
		for _, value := range bad {
			if role == "importer" && value == "" {
				continue // none
			}
			if err := try(value); err == nil {
				t.Errorf("%s=%q", parameter, value)
			}
		}
		// It is the pattern that refuses.
		if err := try("arn:aws:iam::111122223333:root", edit{"bootstrap", "  " + parameter + ":", "(role|user)/[A-Za-z0-9_+=.@/-]+", "(role/x|root)"}); err != nil {
			t.Errorf("%s: without the pattern: %v", parameter, err)
		}
	}
}
