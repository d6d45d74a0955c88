package world_test

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation"
	"github.com/aws/aws-sdk-go-v2/service/cloudtrail"
	cttypes "github.com/aws/aws-sdk-go-v2/service/cloudtrail/types"
	sdkddb "github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/eventbridge"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	kmstypes "github.com/aws/aws-sdk-go-v2/service/kms/types"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/sts"

	"github.com/stakeseal/stakeseal/infra/stack"
	"github.com/stakeseal/stakeseal/internal/aws/awstest/world"
	"github.com/stakeseal/stakeseal/internal/aws/session"
)

// global is a configuration for IAM, which has one host for all regions.
func global(w *world.World, role string) aws.Config {
	return session.New(world.Region, w.Credentials(role), session.Options{Global: true, Backoff: func(int) time.Duration { return 0 }})
}

// TestStacks: what init and doctor read of the stacks.
func TestStacks(t *testing.T) {
	w, inst := deployed(t)
	c := cloudformation.NewFromConfig(as(w, "auditor"))
	for _, name := range []string{"bootstrap", "foundation", "function"} {
		got, err := c.DescribeStacks(ctx, &cloudformation.DescribeStacksInput{StackName: aws.String(installation + "-" + name)})
		must(t, err)
		outputs := map[string]string{}
		for _, o := range got.Stacks[0].Outputs {
			outputs[*o.OutputKey] = *o.OutputValue
		}
		if len(outputs) == 0 || len(outputs) != len(inst.Outputs[name]) || got.Stacks[0].StackStatus != "CREATE_COMPLETE" || len(got.Stacks[0].Parameters) == 0 {
			t.Errorf("%s: %v", name, outputs)
		}
		for key, want := range inst.Outputs[name] {
			if outputs[key] != want {
				t.Errorf("%s: %s is %q", name, key, outputs[key])
			}
		}
	}
	resources, err := c.ListStackResources(ctx, &cloudformation.ListStackResourcesInput{StackName: aws.String(installation + "-function")})
	must(t, err)
	template, err := c.GetTemplate(ctx, &cloudformation.GetTemplateInput{StackName: aws.String(installation + "-function"), TemplateStage: "Original"})
	must(t, err)
	for _, r := range resources.StackResourceSummaries {
		if *r.LogicalResourceId == "CodeSigning" && *r.PhysicalResourceId != inst.Outputs["function"]["CodeSigningConfigArn"] {
			t.Errorf("%s", *r.PhysicalResourceId)
		}
	}
	if len(resources.StackResourceSummaries) != 3 || !strings.Contains(*template.TemplateBody, "AWS::Lambda::Function") {
		t.Errorf("%d resources", len(resources.StackResourceSummaries))
	}
	if _, err := c.DescribeStacks(ctx, &cloudformation.DescribeStacksInput{StackName: aws.String(installation + "-network")}); code(err) != "ValidationError" {
		t.Errorf("a stack that is not up: %v", err)
	}
}

// TestPeople: what doctor reads of IAM, and the doors between roles.
func TestPeople(t *testing.T) {
	w, inst := deployed(t)
	c := iam.NewFromConfig(global(w, "auditor"))
	roles, policies := map[string]string{}, 0
	for pages := iam.NewGetAccountAuthorizationDetailsPaginator(c, &iam.GetAccountAuthorizationDetailsInput{MaxItems: aws.Int32(3)}); pages.HasMorePages(); {
		page, err := pages.NextPage(ctx)
		must(t, err)
		for _, r := range page.RoleDetailList {
			trust, err := url.QueryUnescape(*r.AssumeRolePolicyDocument)
			must(t, err)
			roles[*r.Arn] = trust
			if r.PermissionsBoundary == nil && *r.RoleName != installation+"-break-glass" {
				t.Errorf("%s has no boundary", *r.RoleName)
			}
			for _, p := range r.RolePolicyList {
				text, err := url.QueryUnescape(*p.PolicyDocument)
				if err != nil || !json.Valid([]byte(text)) {
					t.Errorf("%s: %v %s", *p.PolicyName, err, text)
				}
			}
		}
		policies += len(page.Policies)
	}
	if len(roles) != len(inst.Roles()) || policies == 0 || !strings.Contains(roles[inst.RoleARN("generator")], "lambda.amazonaws.com") {
		t.Errorf("%d roles, %d policies", len(roles), policies)
	}
	simulate := func(role, action, resource string) string {
		out, err := c.SimulatePrincipalPolicy(ctx, &iam.SimulatePrincipalPolicyInput{PolicySourceArn: aws.String(inst.RoleARN(role)), ActionNames: []string{action}, ResourceArns: []string{resource}})
		must(t, err)
		return string(out.EvaluationResults[0].EvalDecision)
	}
	alias := inst.Outputs["function"]["FunctionAliasArn"]
	if a, b := simulate("requester", "lambda:InvokeFunction", alias), simulate("depositor", "lambda:InvokeFunction", alias); a != "allowed" || b == "allowed" {
		t.Errorf("requester %s, depositor %s", a, b)
	}
	for what, err := range map[string]error{
		"GetAccountSummary": second(c.GetAccountSummary(ctx, nil)),
		"ListAccessKeys":    second(c.ListAccessKeys(ctx, &iam.ListAccessKeysInput{UserName: aws.String("x")})),
		"GetRole":           second(c.GetRole(ctx, &iam.GetRoleInput{RoleName: aws.String(installation + "-signer")})),
		"ListRoles":         second(c.ListRoles(ctx, nil)),
	} {
		if err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}

	// People come in through the roles' trust.
	assume := func(from, role string, factor bool) (*sts.AssumeRoleOutput, error) {
		in := &sts.AssumeRoleInput{RoleArn: aws.String(inst.RoleARN(role)), RoleSessionName: aws.String("anna")}
		if factor {
			in.SerialNumber, in.TokenCode = aws.String("arn:aws:iam::"+world.Account+":mfa/anna"), aws.String("123456")
		}
		how := []world.Session{{NoMFA: true}}
		if !strings.HasPrefix(from, "role/") {
			how = nil // a role of the installation: there is none to leave out
		}
		return sts.NewFromConfig(as(w, from, how...)).AssumeRole(ctx, in)
	}
	got, err := assume("role/people-auditor", "auditor", true)
	must(t, err)
	if *got.AssumedRoleUser.Arn != "arn:aws:sts::"+world.Account+":assumed-role/"+installation+"-auditor/anna" {
		t.Errorf("%s", *got.AssumedRoleUser.Arn)
	}
	// Roles that release, order, open or change are given with a second factor
	// only, of the code or of the person's own session.
	for _, role := range []string{"release-manager", "requester", "recovery", "administrator", "break-glass"} {
		from := "role/people-" + strings.ReplaceAll(role, "-", "")
		if _, err := assume(from, role, false); code(err) != "AccessDenied" {
			t.Errorf("%s without a second factor: %v", role, err)
		}
		if _, err := assume(from, role, true); err != nil {
			t.Errorf("%s with a code: %v", role, err)
		}
		own := sts.NewFromConfig(as(w, from))
		if _, err := own.AssumeRole(ctx, &sts.AssumeRoleInput{RoleArn: aws.String(inst.RoleARN(role)), RoleSessionName: aws.String("anna")}); err != nil {
			t.Errorf("%s from a session with a factor: %v", role, err)
		}
	}
	for _, c := range []struct{ from, role string }{{"role/people-auditor", "signer"}, {"auditor", "break-glass"}, {"role/people-developer", "generator"}, {"administrator", "generator"}} {
		if _, err := assume(c.from, c.role, true); code(err) != "AccessDenied" {
			t.Errorf("%s takes %s: %v", c.from, c.role, err)
		}
	}
	// A role has no device, so no code of its is right.
	if _, err := assume("auditor", "break-glass", true); err == nil || !strings.Contains(err.Error(), "MultiFactorAuthentication failed") {
		t.Errorf("a role with a code: %v", err)
	}
}

// TestKeysRead: what doctor reads of a key, and its dry run.
func TestKeysRead(t *testing.T) {
	w, inst := deployed(t)
	c := kms.NewFromConfig(as(w, "auditor"))
	key := out(inst, "foundation", "RecoveryKeyArn")
	d, err := c.DescribeKey(ctx, &kms.DescribeKeyInput{KeyId: key})
	must(t, err)
	p, err := c.GetKeyPolicy(ctx, &kms.GetKeyPolicyInput{KeyId: key})
	must(t, err)
	g, err := c.ListGrants(ctx, &kms.ListGrantsInput{KeyId: key})
	must(t, err)
	r, err := c.GetKeyRotationStatus(ctx, &kms.GetKeyRotationStatusInput{KeyId: key})
	must(t, err)
	a, err := c.ListAliases(ctx, &kms.ListAliasesInput{})
	must(t, err)
	if !d.KeyMetadata.Enabled || d.KeyMetadata.MultiRegion == nil || *d.KeyMetadata.MultiRegion || !strings.Contains(*p.Policy, "NobodyElseOpens") || len(g.Grants) != 0 || r.KeyRotationEnabled || len(a.Aliases) != 3 {
		t.Errorf("%+v %+v %+v %+v", d.KeyMetadata, g, r, a)
	}
	dry := func(as aws.Config) error {
		return second(kms.NewFromConfig(as).Decrypt(ctx, &kms.DecryptInput{KeyId: key, DryRun: aws.Bool(true), DryRunModifiers: []kmstypes.DryRunModifierType{"IGNORE_CIPHERTEXT"},
			EncryptionAlgorithm: "SYMMETRIC_DEFAULT", EncryptionContext: map[string]string{"app": "stakeseal", "v": "1", "purpose": "recovery"}}))
	}
	// A session that was taken as people take it opens, though its calls say
	// nothing of the factor that was asked for.
	taken, err := sts.NewFromConfig(as(w, "role/people-recovery")).AssumeRole(ctx, &sts.AssumeRoleInput{RoleArn: aws.String(inst.RoleARN("recovery")), RoleSessionName: aws.String("anna")})
	must(t, err)
	holder := as(w, "recovery")
	holder.Credentials = credentials.NewStaticCredentialsProvider(*taken.Credentials.AccessKeyId, *taken.Credentials.SecretAccessKey, *taken.Credentials.SessionToken)
	if err := dry(holder); code(err) != "DryRunOperationException" {
		t.Errorf("recovery: %v", err)
	}
	if err := dry(as(w, "role/people-recovery")); code(err) != "AccessDeniedException" {
		t.Errorf("a person with a second factor and without the role: %v", err)
	}
	if err := dry(as(w, "generator")); code(err) != "AccessDeniedException" {
		t.Errorf("generator: %v", err)
	}
}

// TestCloudTrail: management events with their facts, no data events, no
// secrets; and the log files, which have both.
func TestCloudTrail(t *testing.T) {
	w := world.New(t, t.TempDir())
	inst, err := w.Deploy(stack.Options{Name: installation, Account: world.Account, Region: world.Region, Parameters: map[string]map[string]string{"watch": {}}})
	must(t, err)
	key := out(inst, "foundation", "SigningKeyArn")
	must(t, second(encrypt(kms.NewFromConfig(as(w, "generator")), key)))
	_, err = kms.NewFromConfig(as(w, "auditor", world.Session{Name: "bert"})).Decrypt(ctx, &kms.DecryptInput{KeyId: key, CiphertextBlob: []byte("x"), EncryptionContext: sealed(), EncryptionAlgorithm: "SYMMETRIC_DEFAULT"})
	if code(err) != "AccessDeniedException" {
		t.Fatal(err)
	}
	_, err = sdkddb.NewFromConfig(as(w, "auditor")).GetItem(ctx, &sdkddb.GetItemInput{TableName: out(inst, "foundation", "RecordsTableArn"), Key: item("order/a", "b")})
	must(t, err)

	c := cloudtrail.NewFromConfig(as(w, "auditor"))
	lookup := func(key cttypes.LookupAttributeKey, value string) (all []cttypes.Event) {
		t.Helper()
		in := &cloudtrail.LookupEventsInput{MaxResults: aws.Int32(1), StartTime: aws.Time(time.Now().Add(-time.Hour))}
		if value != "" {
			in.LookupAttributes = []cttypes.LookupAttribute{{AttributeKey: key, AttributeValue: &value}}
		}
		for pages := cloudtrail.NewLookupEventsPaginator(c, in); pages.HasMorePages(); {
			page, err := pages.NextPage(ctx)
			must(t, err)
			all = append(all, page.Events...)
		}
		return all
	}
	events := lookup(cttypes.LookupAttributeKeyResourceName, *key)
	if len(events) != 2 || *events[0].EventName != "Decrypt" || *events[1].EventName != "Encrypt" || *events[0].Username != "bert" {
		t.Fatalf("%+v", events)
	}
	var record struct {
		RequestParameters struct {
			EncryptionContext map[string]string
			KeyID             string `json:"keyId"`
		}
		ErrorCode, RequestID string
		UserIdentity         struct {
			ARN            string `json:"arn"`
			SessionContext struct {
				Attributes    struct{ MfaAuthenticated string }
				SessionIssuer struct{ ARN string }
			}
		}
	}
	must(t, json.Unmarshal([]byte(*events[0].CloudTrailEvent), &record))
	calls := w.Calls("kms", "Decrypt")
	if record.ErrorCode != "AccessDenied" || record.RequestParameters.EncryptionContext["index"] != "0" || record.RequestParameters.KeyID != *key || record.RequestID != calls[len(calls)-1].ID ||
		record.UserIdentity.SessionContext.SessionIssuer.ARN != inst.RoleARN("auditor") || record.UserIdentity.SessionContext.Attributes.MfaAuthenticated != "false" {
		t.Errorf("%+v", record)
	}
	for _, e := range lookup("", "") {
		if *e.EventSource == "dynamodb.amazonaws.com" || strings.Contains(*e.CloudTrailEvent, "c2VjcmV0") {
			t.Errorf("%s", *e.CloudTrailEvent)
		}
	}
	name, err := w.DeliverTrail()
	must(t, err)
	got, err := s3.NewFromConfig(as(w, "auditor")).GetObject(ctx, &s3.GetObjectInput{Bucket: aws.String(installation + "-trail-" + world.Account), Key: &name})
	must(t, err)
	defer got.Body.Close()
	unzipped, err := gzip.NewReader(got.Body)
	must(t, err)
	var file struct {
		Records []struct{ EventName, EventCategory string }
	}
	must(t, json.NewDecoder(unzipped).Decode(&file))
	if !slices.ContainsFunc(file.Records, func(r struct{ EventName, EventCategory string }) bool {
		return r.EventName == "GetItem" && r.EventCategory == "Data"
	}) {
		t.Errorf("%+v", file.Records)
	}
	trails, err := c.DescribeTrails(ctx, nil)
	must(t, err)
	if len(trails.TrailList) == 0 {
		t.Fatal("no trail")
	}
	status, err := c.GetTrailStatus(ctx, &cloudtrail.GetTrailStatusInput{Name: trails.TrailList[0].TrailARN})
	must(t, err)
	selectors, err := c.GetEventSelectors(ctx, &cloudtrail.GetEventSelectorsInput{TrailName: trails.TrailList[0].TrailARN})
	must(t, err)
	if !*status.IsLogging || len(selectors.EventSelectors)+len(selectors.AdvancedEventSelectors) == 0 {
		t.Errorf("%+v %+v", status, selectors)
	}
	rules := 0
	for _, r := range inst.Resources {
		if r.Type != "AWS::Events::Rule" {
			continue
		}
		rules++
		b := eventbridge.NewFromConfig(as(w, "auditor"))
		rule, err := b.DescribeRule(ctx, &eventbridge.DescribeRuleInput{Name: aws.String(r.PhysicalID)})
		must(t, err)
		targets, err := b.ListTargetsByRule(ctx, &eventbridge.ListTargetsByRuleInput{Rule: aws.String(r.PhysicalID)})
		must(t, err)
		if !strings.HasPrefix(string(rule.State), "ENABLED") || !json.Valid([]byte(aws.ToString(rule.EventPattern))) || len(targets.Targets) == 0 {
			t.Errorf("%s: %s, %d targets", r.PhysicalID, rule.State, len(targets.Targets))
		}
	}
	listed, err := eventbridge.NewFromConfig(as(w, "auditor")).ListRules(ctx, &eventbridge.ListRulesInput{NamePrefix: aws.String(installation)})
	must(t, err)
	if rules == 0 || len(listed.Rules) != rules {
		t.Errorf("%d rules, %d listed", rules, len(listed.Rules))
	}
}

// TestSignedElsewhere: a request that is good for another region or service,
// or that was changed, sent by hand since no SDK would.
func TestSignedElsewhere(t *testing.T) {
	w, inst := deployed(t)
	body := []byte(`{"KeyId":"` + inst.Outputs["foundation"]["SigningKeyArn"] + `"}`)
	now := time.Now()
	for _, c := range []struct {
		name, region, service, want string
		at                          time.Time
	}{
		{"good", world.Region, "kms", "", now},
		{"another region", "eu-central-1", "kms", "InvalidSignatureException", now},
		{"another service", world.Region, "sts", "InvalidSignatureException", now},
		{"an hour ago", world.Region, "kms", "InvalidSignatureException", now.Add(-time.Hour)},
		{"tomorrow", world.Region, "kms", "InvalidSignatureException", now.Add(24 * time.Hour)},
	} {
		status, answer := sendSigned(t, w, c.region, c.service, c.at, body, body, nil)
		if c.want == "" && status != 200 || !bytes.Contains(answer, []byte(c.want)) {
			t.Errorf("%s: %d %s", c.name, status, answer)
		}
	}
	if _, answer := sendSigned(t, w, world.Region, "kms", now, body, append(bytes.Clone(body), ' '), nil); !bytes.Contains(answer, []byte("InvalidSignatureException")) {
		t.Errorf("another body: %s", answer)
	}
	for what, change := range map[string]func(*http.Request){
		"another target":       func(r *http.Request) { r.Header.Set("X-Amz-Target", "TrentService.GetKeyPolicy") },
		"a header that is new": func(r *http.Request) { r.Header.Set("X-Amz-Expected-Bucket-Owner", "111122223333") },
		"no signature":         func(r *http.Request) { r.Header.Del("Authorization") },
		"of yesterday":         func(r *http.Request) { r.Header.Set("X-Amz-Date", "20261121T000000Z") },
	} {
		if status, answer := sendSigned(t, w, world.Region, "kms", now, body, body, change); status != 400 || !bytes.Contains(answer, []byte("Exception")) {
			t.Errorf("%s: %d %s", what, status, answer)
		}
	}
}

// sendSigned asks for a key as the auditor, signed for a region and service,
// and returns what the world's KMS says.
func sendSigned(t *testing.T, w *world.World, region, service string, at time.Time, body, sent []byte, change func(*http.Request)) (int, []byte) {
	t.Helper()
	c, err := w.Credentials("auditor").Retrieve(ctx)
	must(t, err)
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, "https://kms."+world.Region+".amazonaws.com/", bytes.NewReader(sent))
	must(t, err)
	r.Header.Set("Content-Type", "application/x-amz-json-1.1")
	r.Header.Set("X-Amz-Target", "TrentService.DescribeKey")
	sum := sha256.Sum256(body)
	must(t, v4.NewSigner().SignHTTP(ctx, c, r, hex.EncodeToString(sum[:]), service, region, at))
	if change != nil {
		change(r)
	}
	answer, err := (&http.Client{Transport: session.Transport()}).Do(r)
	must(t, err)
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	must(t, err)
	return answer.StatusCode, text
}
