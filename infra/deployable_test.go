package infra_test

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	sdk "github.com/aws/aws-sdk-go-v2/service/dynamodb"

	"github.com/stakeseal/stakeseal/birth"
	"github.com/stakeseal/stakeseal/infra/policy"
	"github.com/stakeseal/stakeseal/infra/stack"
	"github.com/stakeseal/stakeseal/internal/aws/dynamodb"
	"github.com/stakeseal/stakeseal/internal/aws/dynamodb/tables"
)

// installations are those that the tests of this file look at.
func installations(t *testing.T) map[string]*stack.Installation {
	network := basic()
	network.Parameters = map[string]map[string]string{"bootstrap": {"Network": "on"}, "network": {}}
	china := basic()
	china.Region = "cn-north-1"
	return map[string]*stack.Installation{"basic": deploy(t, basic()), "everything": deploy(t, everything()), "one zone": deploy(t, network), "another partition": deploy(t, china)}
}

// Policies within what IAM, KMS, S3 and DynamoDB take, in characters without
// white space (IAM) or as they are.
func TestSizes(t *testing.T) {
	size := func(d *policy.Document) int { return len(d.Text) } // compact JSON
	for name, in := range installations(t) {
		for _, short := range in.Roles() {
			r, _ := in.Role(short)
			if n := size(r.Trust); n > 2048 {
				t.Errorf("%s: trust of %s: %d", name, short, n)
			}
			inline := 0
			for _, d := range r.Policies {
				inline += size(d) // more than what counts, since some are managed
			}
			if inline > 10240 {
				t.Errorf("%s: policies of %s: %d", name, short, inline)
			}
		}
		for _, r := range in.Resources {
			if r.Type == "AWS::IAM::ManagedPolicy" {
				text, err := json.Marshal(r.Properties["PolicyDocument"])
				if err != nil || len(text) > 6144 {
					t.Errorf("%s: managed policy %s: %d, IAM takes 6144; %v", name, r.LogicalID, len(text), err)
				}
			}
			d, ok := in.Guard(r.ARN)
			if !ok {
				continue
			}
			if limit := map[string]int{"AWS::KMS::Key": 32768, "AWS::S3::Bucket": 20480, "AWS::DynamoDB::Table": 20480}[r.Type]; limit > 0 && size(d) > limit {
				t.Errorf("%s: policy of %s: %d", name, r.LogicalID, size(d))
			}
		}
	}
}

// A role that a policy names as a principal must exist by then: AWS refuses the
// policy otherwise.
func TestPrincipalsExist(t *testing.T) {
	for name, in := range installations(t) {
		if missing := absent(in); len(missing) > 0 {
			t.Errorf("%s: %q", name, missing)
		}
	}
	o := basic()
	o.Parameters = map[string]map[string]string{"foundation": {"Importer": "on"}} // and no importer in bootstrap
	if missing := absent(deploy(t, o)); len(missing) != 2 {
		t.Errorf("an importer that does not exist is named by both sealing keys, found: %q", missing)
	}
}

func absent(in *stack.Installation) []string {
	var missing []string
	made := map[string]bool{}
	for _, r := range in.Resources {
		if r.Type == "AWS::IAM::Role" {
			made[r.ARN] = true
		}
		d, ok := in.Guard(r.ARN)
		if !ok {
			continue
		}
		for _, s := range d.Statements {
			for _, p := range s.Principals {
				if strings.HasPrefix(p.Name, in.RoleARN("")) && !made[p.Name] {
					missing = append(missing, r.LogicalID+" "+p.Name)
				}
			}
		}
	}
	return missing
}

// What CloudFormation does with break-glass's rights to make and change a key
// is allowed, and the check against locking oneself out passes: it asks for
// PutKeyPolicy by the caller, without anything that a call through
// CloudFormation might not carry.
func TestKeysCanBeMadeAndChanged(t *testing.T) {
	in := deploy(t, basic())
	for _, out := range []string{"SigningKeyArn", "RecoveryKeyArn", "CertifyingKeyArn"} {
		for _, action := range strings.Fields(`PutKeyPolicy DescribeKey GetKeyPolicy ListKeyPolicies GetKeyRotationStatus ListResourceTags TagResource UntagResource
			UpdateKeyDescription EnableKey DisableKey CreateAlias UpdateAlias DeleteAlias`) {
			for _, via := range []string{"true", "false"} {
				d, err := in.Authorize(stack.Request{Principal: in.RoleARN("break-glass"), Action: "kms:" + action, Resource: in.Outputs["foundation"][out],
					Context: map[string][]string{"aws:ViaAWSService": {via}}})
				if err != nil || !d.Allowed {
					t.Errorf("%s %s: %+v %v", out, action, d, err)
				}
			}
		}
	}
}

// Nobody has an account's root, or anybody, as a principal of a key's Allow.
func TestKeysNameRolesOnly(t *testing.T) {
	for name, in := range installations(t) {
		for _, r := range in.Resources {
			if r.Type != "AWS::KMS::Key" {
				continue
			}
			d, _ := in.Guard(r.ARN)
			for _, s := range d.Statements {
				for _, p := range s.Principals {
					if s.Allow && !strings.HasPrefix(p.Name, in.RoleARN("")) {
						t.Errorf("%s: %s, %s: %v", name, r.LogicalID, s.Sid, p)
					}
				}
			}
			if r.Properties["PendingWindowInDays"] != "30" || r.Properties["MultiRegion"] != false || r.Properties["BypassPolicyLockoutSafetyCheck"] != nil {
				t.Errorf("%s: %s: %v", name, r.LogicalID, r.Properties)
			}
		}
	}
}

// What cannot be had again stays when a stack is deleted or a change would
// replace it.
func TestRetained(t *testing.T) {
	for name, in := range installations(t) {
		for _, r := range in.Resources {
			keep := slices.Contains([]string{"AWS::KMS::Key", "AWS::KMS::Alias", "AWS::DynamoDB::Table", "AWS::S3::Bucket", "AWS::S3::BucketPolicy", "AWS::Logs::LogGroup", "AWS::Signer::SigningProfile"}, r.Type) ||
				// Keys know a role by an id that a role made again does not have.
				slices.Contains([]string{"GeneratorRole", "SignerRole", "RecoveryRole", "BreakGlassRole"}, r.LogicalID)
			if r.Retain != keep {
				t.Errorf("%s: %s %s: retained %v", name, r.Type, r.LogicalID, r.Retain)
			}
		}
	}
}

// Every resource that takes tags has ours.
func TestTagged(t *testing.T) {
	for name, in := range installations(t) {
		for _, r := range in.Resources {
			if !stack.Taggable(r.Type) {
				continue
			}
			if got := fmt.Sprint(r.Properties["Tags"]); got != fmt.Sprintf("[map[Key:stakeseal Value:%s]]", in.Name) {
				t.Errorf("%s: %s %s: tags %s", name, r.Type, r.LogicalID, got)
			}
		}
	}
}

// The tables are those that package dynamodb speaks to.
func TestTables(t *testing.T) {
	in := deploy(t, basic())
	out := in.Outputs["foundation"]
	beside, err := dynamodb.Beside(out["RecordsTableArn"])
	if err != nil || beside.Assignments != out["AssignmentsTableArn"] || beside.Events != out["EventsTableArn"] ||
		beside.Ledger != out["LedgerTableArn"] || beside.Leases != out["LeasesTableArn"] {
		t.Fatalf("%+v, %v", beside, err)
	}
	for id, want := range map[string]*sdk.CreateTableInput{"RecordsTable": tables.Records("x"), "AssignmentsTable": tables.Assignments("x"), "EventsTable": tables.Events("x"),
		"LedgerTable": tables.Ledger("x"), "LeasesTable": tables.Leases("x")} {
		r, _ := in.Resource("foundation", id)
		var got struct {
			BillingMode           string
			AttributeDefinitions  []struct{ AttributeName, AttributeType string }
			KeySchema             []struct{ AttributeName, KeyType string }
			LocalSecondaryIndexes []struct {
				IndexName  string
				KeySchema  []struct{ AttributeName, KeyType string }
				Projection struct{ ProjectionType string }
			}
			DeletionProtectionEnabled        bool
			PointInTimeRecoverySpecification struct {
				PointInTimeRecoveryEnabled bool
				RecoveryPeriodInDays       string
			}
		}
		into(t, r.Properties, &got)
		if got.BillingMode != string(want.BillingMode) || !got.DeletionProtectionEnabled || !got.PointInTimeRecoverySpecification.PointInTimeRecoveryEnabled || got.PointInTimeRecoverySpecification.RecoveryPeriodInDays != "35" {
			t.Errorf("%s: %+v", id, got)
		}
		if r.Properties["GlobalSecondaryIndexes"] != nil || r.Properties["StreamSpecification"] != nil || r.Properties["TimeToLiveSpecification"] != nil {
			t.Errorf("%s has more than it needs: %v", id, r.Properties)
		}
		var here, there []string
		for _, a := range got.AttributeDefinitions {
			here = append(here, a.AttributeName+" "+a.AttributeType)
		}
		for _, k := range got.KeySchema {
			here = append(here, k.AttributeName+" "+k.KeyType)
		}
		for _, a := range want.AttributeDefinitions {
			there = append(there, *a.AttributeName+" "+string(a.AttributeType))
		}
		for _, k := range want.KeySchema {
			there = append(there, *k.AttributeName+" "+string(k.KeyType))
		}
		for _, i := range got.LocalSecondaryIndexes {
			here = append(here, i.IndexName+" "+i.Projection.ProjectionType)
			for _, k := range i.KeySchema {
				here = append(here, k.AttributeName+" "+k.KeyType)
			}
		}
		for _, i := range want.LocalSecondaryIndexes {
			there = append(there, *i.IndexName+" "+string(i.Projection.ProjectionType))
			for _, k := range i.KeySchema {
				there = append(there, *k.AttributeName+" "+string(k.KeyType))
			}
		}
		slices.Sort(here)
		slices.Sort(there)
		if !reflect.DeepEqual(here, there) {
			t.Errorf("%s: %q, the store needs %q", id, here, there)
		}
	}
}

func into(t *testing.T, properties map[string]any, v any) {
	t.Helper()
	data, err := json.Marshal(properties)
	if err == nil {
		err = json.Unmarshal(data, v)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// The function: what is signed and nothing else configures it.
func TestFunction(t *testing.T) {
	for name, in := range installations(t) {
		f, _ := in.Resource("function", "Generator")
		for _, property := range []string{"Environment", "Layers", "FileSystemConfigs", "SnapStart", "ImageConfig", "DeadLetterConfig"} {
			if f.Properties[property] != nil {
				t.Errorf("%s: the function has %s", name, property)
			}
		}
		c, _ := in.Resource("function", "CodeSigning")
		if f.Properties["CodeSigningConfigArn"] != c.ARN || fmt.Sprint(c.Properties["CodeSigningPolicies"]) != "map[UntrustedArtifactOnDeployment:Enforce]" {
			t.Errorf("%s: code signing: %v, %v", name, f.Properties["CodeSigningConfigArn"], c.Properties)
		}
		if got := fmt.Sprint(c.Properties["AllowedPublishers"]); got != "map[SigningProfileVersionArns:["+in.Outputs["foundation"]["SigningProfileVersionArn"]+"]]" {
			t.Errorf("%s: publishers %s", name, got)
		}
		if f.Properties["Role"] != in.RoleARN("generator") || f.Properties["Runtime"] != "provided.al2023" || f.Properties["VpcConfig"] != nil {
			t.Errorf("%s: %v", name, f.Properties)
		}
	}
	o := everything()
	o.Parameters["function"] = map[string]string{"Network": "on", "ReservedConcurrency": "5"}
	f, _ := deploy(t, o).Resource("function", "Generator")
	vpc, _ := f.Properties["VpcConfig"].(map[string]any)
	if subnets, _ := vpc["SubnetIds"].([]any); len(subnets) != 2 || f.Properties["ReservedConcurrentExecutions"] != "5" {
		t.Errorf("in the network: %v", f.Properties)
	}
}

// The scheduled event is a request that the generator reads, and its order's
// id comes from the scheduled time.
func TestSchedule(t *testing.T) {
	for plan, wei := range map[string]string{"32": "32000000000", "1,31": "1000000000,31000000000"} {
		o := everything()
		o.Parameters["schedule"] = map[string]string{"PlanGwei": wei, "Compounding": "true"}
		in := deploy(t, o)
		r, _ := in.Resource("schedule", "Orders")
		target := r.Properties["Target"].(map[string]any)
		if target["Arn"] != in.Outputs["function"]["FunctionAliasArn"] || target["RoleArn"] != in.RoleARN("scheduler") {
			t.Errorf("target %v", target)
		}
		event := target["Input"].(string)
		if strings.Count(event, "<aws.scheduler.scheduled-time>") != 1 {
			t.Fatalf("event %s", event)
		}
		run, err := birth.ParseRequest([]byte(strings.Replace(event, "<aws.scheduler.scheduled-time>", "2026-11-22T11:00:00Z", 1)))
		if err != nil {
			t.Fatalf("plan %s: %v in %s", plan, err, event)
		}
		if run.Order.ID != "weekly-20261122t110000z" || run.Order.Count != 10 || run.To != 10 || !run.Scheduled || run.Order.Network != "hoodi" {
			t.Errorf("order %+v", run)
		}
		if len(fmt.Sprint(target["DeadLetterConfig"])) < 20 || fmt.Sprint(target["RetryPolicy"]) != "map[MaximumEventAgeInSeconds:3600 MaximumRetryAttempts:10]" {
			t.Errorf("target %v", target)
		}
	}
	o := everything()
	o.Parameters["schedule"] = map[string]string{"OrderId": strings.Repeat("a", 48)}
	if _, err := stack.Deploy(o); err == nil {
		t.Error("an order id that is too long with the time behind it")
	}
}

// What may pass the network's endpoints: the generator's calls to what is ours.
func TestEndpoints(t *testing.T) {
	in := deploy(t, everything())
	out := in.Outputs["foundation"]
	for _, c := range []struct {
		endpoint, role, action, resource string
		want                             policy.Verdict
	}{
		{"TableEndpoint", "generator", "dynamodb:PutItem", out["RecordsTableArn"], policy.Allowed},
		{"TableEndpoint", "generator", "dynamodb:PutItem", "arn:aws:dynamodb:us-east-1:999999999999:table/" + name + "-records", policy.Silent},
		{"TableEndpoint", "generator", "dynamodb:DeleteItem", out["RecordsTableArn"], policy.Silent},
		{"TableEndpoint", "signer", "dynamodb:GetItem", out["RecordsTableArn"], policy.Silent},
		{"ArchiveEndpoint", "generator", "s3:PutObject", out["ArchiveBucketArn"] + "/x", policy.Allowed},
		{"ArchiveEndpoint", "generator", "s3:ListBucket", out["ArchiveBucketArn"], policy.Allowed},
		{"ArchiveEndpoint", "generator", "s3:PutObject", "arn:aws:s3:::somebody-elses/x", policy.Silent},
		{"KeyEndpoint", "generator", "kms:Encrypt", out["SigningKeyArn"], policy.Allowed},
		{"KeyEndpoint", "generator", "kms:Encrypt", out["RecoveryKeyArn"], policy.Allowed},
		{"KeyEndpoint", "generator", "kms:Sign", out["CertifyingKeyArn"], policy.Allowed},
		{"KeyEndpoint", "generator", "kms:Encrypt", "arn:aws:kms:us-east-1:999999999999:key/00000000-0000-4000-8000-000000000000", policy.Silent},
		{"KeyEndpoint", "generator", "kms:Decrypt", out["SigningKeyArn"], policy.Silent},
	} {
		d, ok := in.Endpoint(c.endpoint)
		if !ok {
			t.Fatal("no " + c.endpoint)
		}
		got, _ := d.Judge(policy.Request{Principal: in.RoleARN(c.role), Action: c.action, Resource: c.resource, Context: map[string][]string{"aws:PrincipalArn": {in.RoleARN(c.role)}}})
		if got != c.want {
			t.Errorf("%s: %s %s %s: %v", c.endpoint, c.role, c.action, c.resource, got)
		}
	}
}

// An importer reads and opens the sample that it is given, and nothing else.
func TestImportOfSample(t *testing.T) {
	const table, key = "arn:aws:dynamodb:us-east-1:111122223333:table/EthKeys", "arn:aws:kms:us-east-1:111122223333:key/0a0a0a0a-0000-4000-8000-000000000000"
	o := everything()
	o.Parameters["bootstrap"]["SampleTableArn"], o.Parameters["bootstrap"]["SampleKeyArn"] = table, key
	in := deploy(t, o)
	for _, c := range []struct {
		action, resource string
		want             bool
	}{
		{"dynamodb:Scan", table, true},
		{"kms:Decrypt", key, true},
		{"dynamodb:Scan", in.Outputs["foundation"]["RecordsTableArn"], false},
		{"dynamodb:PutItem", table, false},
		{"kms:Decrypt", in.Outputs["foundation"]["SigningKeyArn"], false},
		{"kms:Decrypt", in.Outputs["foundation"]["RecoveryKeyArn"], false},
		{"kms:Encrypt", key, false},
	} {
		d, err := in.Authorize(stack.Request{Principal: in.RoleARN("importer"), Action: c.action, Resource: c.resource})
		if err != nil || d.Allowed != c.want {
			t.Errorf("%s %s: %+v %v", c.action, c.resource, d, err)
		}
	}
	d, err := deploy(t, everything()).Authorize(stack.Request{Principal: in.RoleARN("importer"), Action: "kms:Decrypt", Resource: key})
	if err != nil || d.Allowed {
		t.Errorf("without a sample: %+v %v", d, err)
	}
}

// A condition key that an action does not have makes an Allow that never
// applies, or a Deny that never does: each statement's keys are keys of each of
// its actions.
func TestConditionKeysBelong(t *testing.T) {
	for _, in := range installations(t) {
		check := func(where string, d *policy.Document) {
			for _, s := range d.Statements {
				for _, key := range s.ConditionKeys() {
					for _, a := range policy.Actions() {
						if !slices.ContainsFunc(s.Actions, func(p string) bool { return policy.Glob(p, a.Name) }) {
							continue
						}
						if !a.Carries(key) {
							t.Errorf("%s, %s: %s has no condition key %s", where, s.Sid, a.Name, key)
						}
					}
				}
			}
		}
		for _, r := range in.Resources {
			if d, ok := in.Guard(r.ARN); ok {
				check(r.LogicalID, d)
			}
		}
		for _, name := range in.Roles() {
			r, _ := in.Role(name)
			for _, d := range append(slices.Clone(r.Policies), r.Trust) {
				check(name, d)
			}
		}
	}
}
