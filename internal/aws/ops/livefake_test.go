package ops

import (
	"archive/zip"
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/url"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	cftypes "github.com/aws/aws-sdk-go-v2/service/cloudformation/types"
	"github.com/aws/aws-sdk-go-v2/service/cloudtrail"
	trailtypes "github.com/aws/aws-sdk-go-v2/service/cloudtrail/types"
	tabletypes "github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	ruletypes "github.com/aws/aws-sdk-go-v2/service/eventbridge/types"
	iamtypes "github.com/aws/aws-sdk-go-v2/service/iam/types"
	kmstypes "github.com/aws/aws-sdk-go-v2/service/kms/types"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	lambdatypes "github.com/aws/aws-sdk-go-v2/service/lambda/types"
	s3types "github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/aws-sdk-go-v2/service/signer"
	signertypes "github.com/aws/aws-sdk-go-v2/service/signer/types"
	"github.com/aws/smithy-go"

	"github.com/stakeseal/stakeseal/certificate"
)

const (
	testAccount = "111122223333"
	testName    = "stakeseal-hoodi"
	signingKey  = "arn:aws:kms:us-east-1:111122223333:key/11111111-1111-1111-1111-111111111111"
	recoveryKey = "arn:aws:kms:us-east-1:111122223333:key/22222222-2222-2222-2222-222222222222"
	certKey     = "arn:aws:kms:us-east-1:111122223333:key/33333333-3333-3333-3333-333333333333"
	profileARN  = "arn:aws:signer:us-east-1:111122223333:/signing-profiles/StakesealHoodi/v1"
	boundaryARN = "arn:aws:iam::111122223333:policy/stakeseal-hoodi-boundary"
)

func roleARN(name string) string { return "arn:aws:iam::111122223333:role/stakeseal-hoodi-" + name }

// liveFake is an account at the methods of the SDK's clients: what a test puts
// into its fields is what a live account would answer. What a test did not
// think of does not exist, with AWS's own error for that.
type liveFake struct {
	t *testing.T

	function   map[string]*lambda.GetFunctionConfigurationOutput // by qualifier, "" is $LATEST
	versions   []lambdatypes.FunctionConfiguration
	aliases    []lambdatypes.AliasConfiguration
	signing    *lambdatypes.CodeSigningConfig // nil: none is attached
	policies   map[string]string              // of the function, by qualifier
	urls       []lambdatypes.FunctionUrlConfig
	mappings   []lambdatypes.EventSourceMappingConfiguration
	invokes    []lambdatypes.FunctionEventInvokeConfig
	reserved   *int32
	runtime    lambdatypes.UpdateRuntimeOn
	code       []byte
	profile    *signer.GetSigningProfileOutput
	permission []signertypes.Permission

	keys    map[string]*kmstypes.KeyMetadata
	policy  map[string]any // key policies
	grants  map[string][]kmstypes.GrantListEntry
	rotated map[string]bool
	opener  string // the role that this caller is, for KMS

	tables  map[string]*tabletypes.TableDescription
	pitr    map[string]bool
	ttl     map[string]string
	streams map[string]string
	tablep  map[string]string

	versioning map[string]s3types.BucketVersioningStatus
	lock       map[string]*s3types.ObjectLockConfiguration
	bucketp    map[string]any
	open       map[string]bool // public access not blocked
	acls       map[string]bool
	replicas   map[string]string
	lifecycle  map[string][]s3types.LifecycleRule

	trail     *trailtypes.Trail
	stopped   bool
	selectors *cloudtrail.GetEventSelectorsOutput
	rules     []ruletypes.Rule
	targets   map[string][]string

	stacks    map[string]*cftypes.Stack
	bodies    map[string]string
	physical  map[string]map[string]string
	resources []Resource

	roles    map[string]*iamtypes.RoleDetail
	users    []iamtypes.UserDetail
	groups   []iamtypes.GroupDetail
	managed  map[string]any
	keysOf   map[string]int
	summary  map[string]int32
	simulate iamtypes.PolicyEvaluationDecisionType

	fail map[string]error // by action
	asks map[string]int
}

func apiFailure(code string) error {
	return &smithy.GenericAPIError{Code: code, Message: "of the liveFake"}
}

// asked counts the call, and fails it where the test wants that.
func (f *liveFake) asked(action string) error {
	f.asks[action]++
	return f.fail[action]
}

func jsonObject(v any) map[string]any {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	var out map[string]any
	if err := json.Unmarshal(b, &out); err != nil {
		panic(err)
	}
	return out
}

func jsonText(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return string(b)
}

type m = map[string]any

func statements(list ...m) m {
	return jsonObject(m{"Version": "2012-10-17", "Statement": list})
}

func keyPolicy(purpose, opener string) m {
	if purpose == "certifying" {
		return statements(
			m{"Sid": "Certifies", "Effect": "Allow", "Principal": m{"AWS": roleARN("generator")}, "Action": "kms:Sign", "Resource": "*"},
			m{"Sid": "BreakGlass", "Effect": "Allow", "Principal": m{"AWS": roleARN("break-glass")}, "Action": []string{"kms:PutKeyPolicy", "kms:Describe*"}, "Resource": "*"},
			m{"Sid": "NoDetours", "Effect": "Deny", "Principal": "*", "Action": []string{"kms:CreateGrant", "kms:ReplicateKey"}, "Resource": "*"})
	}
	return statements(
		m{"Sid": "Seals", "Effect": "Allow", "Principal": m{"AWS": roleARN("generator")}, "Action": "kms:Encrypt", "Resource": "*",
			"Condition": m{"StringEquals": m{"kms:EncryptionContext:purpose": purpose}}},
		m{"Sid": "Opens", "Effect": "Allow", "Principal": m{"AWS": roleARN(opener)}, "Action": "kms:Decrypt", "Resource": "*",
			"Condition": m{"StringEquals": m{"kms:EncryptionContext:purpose": purpose}}},
		m{"Sid": "NobodyElse", "Effect": "Deny", "Principal": "*", "Action": "kms:Decrypt", "Resource": "*", "Condition": m{"ArnNotEquals": m{"aws:PrincipalArn": roleARN(opener)}}},
		m{"Sid": "BreakGlass", "Effect": "Allow", "Principal": m{"AWS": roleARN("break-glass")}, "Action": []string{"kms:PutKeyPolicy", "kms:ScheduleKeyDeletion"}, "Resource": "*"},
		m{"Sid": "Reads", "Effect": "Allow", "Principal": "*", "Action": []string{"kms:GetKeyPolicy", "kms:ListGrants"}, "Resource": "*", "Condition": m{"ArnEquals": m{"aws:PrincipalArn": []string{roleARN("auditor"), roleARN("administrator")}}}},
		m{"Sid": "NoDetours", "Effect": "Deny", "Principal": "*", "Action": []string{"kms:CreateGrant", "kms:ReplicateKey", "kms:ReEncrypt*"}, "Resource": "*"})
}

func bucketPolicy(bucket string, archive bool) m {
	list := []m{{"Sid": "TLS", "Effect": "Deny", "Principal": "*", "Action": "s3:*", "Resource": []string{"arn:aws:s3:::" + bucket, "arn:aws:s3:::" + bucket + "/*"}, "Condition": m{"Bool": m{"aws:SecureTransport": false}}}}
	if archive {
		list = append(list, m{"Sid": "Once", "Effect": "Deny", "Principal": "*", "Action": "s3:PutObject", "Resource": "arn:aws:s3:::" + bucket + "/*", "Condition": m{"Null": m{"s3:if-none-match": "true"}}})
	}
	return statements(list...)
}

// rolePolicies are what the roles of the liveFake installation may.
var rolePolicies = map[string][]m{
	"generator":       {{"Sid": "Records", "Effect": "Allow", "Action": []string{"dynamodb:GetItem", "dynamodb:PutItem", "dynamodb:Query"}, "Resource": "arn:aws:dynamodb:us-east-1:111122223333:table/stakeseal-hoodi-records"}},
	"release-manager": {{"Sid": "Deploys", "Effect": "Allow", "Action": []string{"lambda:UpdateFunctionCode", "lambda:PublishVersion", "lambda:UpdateAlias", "signer:StartSigningJob"}, "Resource": "*"}},
	"requester":       {{"Sid": "Orders", "Effect": "Allow", "Action": "lambda:InvokeFunction", "Resource": "arn:aws:lambda:us-east-1:111122223333:function:stakeseal-hoodi-generator:live"}},
	"signer":          {{"Sid": "Reads", "Effect": "Allow", "Action": "dynamodb:GetItem", "Resource": "*"}},
	"auditor":         {{"Sid": "Reads", "Effect": "Allow", "Action": []string{"iam:Get*", "lambda:Get*"}, "Resource": "*"}},
	"break-glass":     {{"Sid": "All", "Effect": "Allow", "Action": "*", "Resource": "*"}},
}

var boundary = statements(
	m{"Sid": "AtMost", "Effect": "Allow", "Action": []string{"dynamodb:*", "lambda:*", "iam:Get*", "signer:*", "s3:*"}, "Resource": "*"},
	m{"Sid": "Never", "Effect": "Deny", "Action": []string{"s3:Delete*", "dynamodb:Delete*"}, "Resource": "*"})

func trust(name string) m {
	if name == "generator" {
		return statements(m{"Sid": "Lambda", "Effect": "Allow", "Principal": m{"Service": "lambda.amazonaws.com"}, "Action": "sts:AssumeRole"})
	}
	return statements(m{"Sid": "People", "Effect": "Allow", "Principal": m{"AWS": "arn:aws:iam::444455556666:role/" + name}, "Action": "sts:AssumeRole", "Condition": m{"Bool": m{"aws:MultiFactorAuthPresent": "true"}}})
}

// testPackage is a zip as a release is deployed.
func testPackage(t *testing.T, more ...string) []byte {
	t.Helper()
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	for _, f := range []struct{ name, text string }{
		{"bootstrap", "a program"},
		{"generator.yaml", "version: 1\nnetwork: hoodi\nwithdrawal_addresses: {cold: \"0x388C818CA8B9251b393131C08a736A67ccB19297\"}\nseal_to: {signing: [signer-a], recovery: [anna]}\ncertifier: awskms:x\nstore: dynamodb:x\narchive: s3:x\n"},
		{"recipients/signer-a.txt", "a"}, {"recipients/anna.txt", "b"},
	} {
		w, err := z.Create(f.name)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(f.text)); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range more {
		if _, err := z.Create(name); err != nil {
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// pack has version 7 hold more files than a package.
func (f *liveFake) pack(more ...string) {
	f.code = testPackage(f.t, more...)
	f.versions[2].CodeSha256 = aws.String(sha256Text(f.code))
}

func sha256Text(b []byte) string {
	d := sha256.Sum256(b)
	return base64.StdEncoding.EncodeToString(d[:])
}

func configured(version string) *lambda.GetFunctionConfigurationOutput {
	return &lambda.GetFunctionConfigurationOutput{
		Version: &version, Role: aws.String(roleARN("generator")), Runtime: lambdatypes.RuntimeProvidedal2023, Handler: aws.String("bootstrap"),
		PackageType: lambdatypes.PackageTypeZip, Architectures: []lambdatypes.Architecture{lambdatypes.ArchitectureArm64},
		Timeout: aws.Int32(600), MemorySize: aws.Int32(1024),
	}
}

// healthy is an installation as the templates put it up.
func healthy(t *testing.T) (*liveFake, *Live) {
	t.Helper()
	code := testPackage(t)
	version := func(n string) lambdatypes.FunctionConfiguration {
		return lambdatypes.FunctionConfiguration{Version: &n, CodeSha256: aws.String(sha256Text(code)), SigningProfileVersionArn: aws.String(profileARN), SigningJobArn: aws.String("arn:aws:signer:job"), LastModified: aws.String("2026-11-01")}
	}
	f := &liveFake{
		t: t,
		function: map[string]*lambda.GetFunctionConfigurationOutput{
			"": configured("$LATEST"), "live": configured("7"), "6": configured("6"), "7": configured("7"),
		},
		versions: []lambdatypes.FunctionConfiguration{{Version: aws.String("$LATEST")}, version("6"), version("7")},
		aliases:  []lambdatypes.AliasConfiguration{{Name: aws.String("live"), FunctionVersion: aws.String("7")}},
		signing: &lambdatypes.CodeSigningConfig{AllowedPublishers: &lambdatypes.AllowedPublishers{SigningProfileVersionArns: []string{profileARN}},
			CodeSigningPolicies: &lambdatypes.CodeSigningPolicies{UntrustedArtifactOnDeployment: lambdatypes.CodeSigningPolicyEnforce}},
		policies: map[string]string{}, runtime: lambdatypes.UpdateRuntimeOnAuto, reserved: aws.Int32(5), code: code,
		profile: &signer.GetSigningProfileOutput{Status: signertypes.SigningProfileStatusActive, PlatformId: aws.String("AWSLambda-SHA384-ECDSA")},
		keys:    map[string]*kmstypes.KeyMetadata{}, policy: map[string]any{}, grants: map[string][]kmstypes.GrantListEntry{}, rotated: map[string]bool{},
		opener: "auditor",
		tables: map[string]*tabletypes.TableDescription{}, pitr: map[string]bool{}, ttl: map[string]string{}, streams: map[string]string{}, tablep: map[string]string{},
		versioning: map[string]s3types.BucketVersioningStatus{}, lock: map[string]*s3types.ObjectLockConfiguration{}, bucketp: map[string]any{},
		open: map[string]bool{}, acls: map[string]bool{}, replicas: map[string]string{}, lifecycle: map[string][]s3types.LifecycleRule{},
		trail: &trailtypes.Trail{Name: aws.String("stakeseal-hoodi-trail"), TrailARN: aws.String("arn:aws:cloudtrail:us-east-1:111122223333:trail/stakeseal-hoodi-trail"), S3BucketName: aws.String("stakeseal-hoodi-trail-111122223333"),
			IsMultiRegionTrail: aws.Bool(true), IncludeGlobalServiceEvents: aws.Bool(true), LogFileValidationEnabled: aws.Bool(true)},
		selectors: &cloudtrail.GetEventSelectorsOutput{AdvancedEventSelectors: []trailtypes.AdvancedEventSelector{
			advanced("eventCategory", "Management"),
			advanced("eventCategory", "Data", "resources.type", "AWS::DynamoDB::Table", "resources.ARN", "arn:aws:dynamodb:us-east-1:111122223333:table/stakeseal-hoodi-records"),
			advanced("eventCategory", "Data", "resources.type", "AWS::Lambda::Function"),
			starting(advanced("eventCategory", "Data", "resources.type", "AWS::S3::Object"), "arn:aws:s3:::stakeseal-hoodi-archive-111122223333/"),
		}},
		targets: map[string][]string{}, stacks: map[string]*cftypes.Stack{}, bodies: map[string]string{}, physical: map[string]map[string]string{},
		roles: map[string]*iamtypes.RoleDetail{}, managed: map[string]any{boundaryARN: boundary}, keysOf: map[string]int{},
		summary: map[string]int32{"AccountMFAEnabled": 1}, simulate: iamtypes.PolicyEvaluationDecisionTypeImplicitDeny,
		fail: map[string]error{}, asks: map[string]int{},
	}
	add := func(stack, logical, kind, physical string, properties m) {
		f.resources = append(f.resources, Resource{stack, logical, kind, physical, properties})
		if f.physical[stack] == nil {
			f.physical[stack] = map[string]string{}
		}
		f.physical[stack][logical] = physical
	}
	for name, list := range rolePolicies {
		r := &iamtypes.RoleDetail{Arn: aws.String(roleARN(name)), RoleName: aws.String(testName + "-" + name), Path: aws.String("/"), AssumeRolePolicyDocument: aws.String(url.PathEscape(jsonText(trust(name))))}
		r.RolePolicyList = []iamtypes.PolicyDetail{{PolicyName: aws.String(name), PolicyDocument: aws.String(url.PathEscape(jsonText(statements(list...))))}}
		properties := m{"AssumeRolePolicyDocument": trust(name), "Policies": []any{m{"PolicyName": name, "PolicyDocument": statements(list...)}}}
		if name != "break-glass" {
			r.PermissionsBoundary = &iamtypes.AttachedPermissionsBoundary{PermissionsBoundaryArn: aws.String(boundaryARN)}
			properties["PermissionsBoundary"] = boundaryARN
		}
		f.roles[name] = r
		add("bootstrap", "Role"+name, "AWS::IAM::Role", testName+"-"+name, jsonObject(properties))
	}
	add("bootstrap", "Boundary", "AWS::IAM::ManagedPolicy", boundaryARN, m{"PolicyDocument": boundary})
	f.roles["elb"] = &iamtypes.RoleDetail{Arn: aws.String("arn:aws:iam::111122223333:role/aws-service-role/support.amazonaws.com/AWSServiceRoleForSupport"), RoleName: aws.String("AWSServiceRoleForSupport"), Path: aws.String("/aws-service-role/support.amazonaws.com/"),
		RolePolicyList: []iamtypes.PolicyDetail{{PolicyName: aws.String("x"), PolicyDocument: aws.String(jsonText(statements(m{"Effect": "Allow", "Action": "*", "Resource": "*"})))}}}
	for arn, k := range map[string][2]string{signingKey: {"signing", "signer"}, recoveryKey: {"recovery", "recovery"}, certKey: {"certifying", ""}} {
		spec, usage := kmstypes.KeySpecSymmetricDefault, kmstypes.KeyUsageTypeEncryptDecrypt
		if k[0] == "certifying" {
			spec, usage = kmstypes.KeySpecEccNistP256, kmstypes.KeyUsageTypeSignVerify
		}
		f.keys[arn] = &kmstypes.KeyMetadata{KeyState: kmstypes.KeyStateEnabled, Enabled: true, KeySpec: spec, KeyUsage: usage, Origin: kmstypes.OriginTypeAwsKms, MultiRegion: aws.Bool(false)}
		f.policy[arn] = keyPolicy(k[0], k[1])
		add("foundation", k[0], "AWS::KMS::Key", keyID(arn), m{"KeyPolicy": keyPolicy(k[0], k[1]), "EnableKeyRotation": false})
	}
	for _, name := range []string{"records", "assignments", "events", "ledger", "leases"} {
		arn := "arn:aws:dynamodb:us-east-1:111122223333:table/stakeseal-hoodi-" + name
		t := &tabletypes.TableDescription{TableStatus: tabletypes.TableStatusActive, DeletionProtectionEnabled: aws.Bool(true), BillingModeSummary: &tabletypes.BillingModeSummary{BillingMode: tabletypes.BillingModePayPerRequest},
			KeySchema: []tabletypes.KeySchemaElement{{AttributeName: aws.String("pk")}, {AttributeName: aws.String("sk")}}}
		if name == "events" {
			t.LocalSecondaryIndexes = []tabletypes.LocalSecondaryIndexDescription{{IndexName: aws.String("by-time"), KeySchema: []tabletypes.KeySchemaElement{{AttributeName: aws.String("pk")}, {AttributeName: aws.String("at")}}}}
		}
		f.tables[arn], f.pitr[arn] = t, true
		add("foundation", name, "AWS::DynamoDB::Table", testName+"-"+name, m{})
	}
	for _, name := range []string{"archive", "packages", "trail"} {
		bucket := testName + "-" + name + "-" + testAccount
		f.versioning[bucket] = s3types.BucketVersioningStatusEnabled
		f.bucketp[bucket] = bucketPolicy(bucket, name == "archive")
		properties := m{"VersioningConfiguration": m{"Status": "Enabled"}}
		if name == "archive" {
			f.lock[bucket] = &s3types.ObjectLockConfiguration{ObjectLockEnabled: s3types.ObjectLockEnabledEnabled, Rule: &s3types.ObjectLockRule{DefaultRetention: &s3types.DefaultRetention{Mode: s3types.ObjectLockRetentionModeCompliance, Days: aws.Int32(30)}}}
			properties["ObjectLockConfiguration"] = jsonObject(m{"Rule": m{"DefaultRetention": m{"Mode": "COMPLIANCE", "Days": "30"}}})
		}
		add("foundation", name+"-bucket", "AWS::S3::Bucket", bucket, properties)
		add("foundation", name+"-bucket-policy", "AWS::S3::BucketPolicy", "policy-of-"+bucket, m{"Bucket": bucket, "PolicyDocument": bucketPolicy(bucket, name == "archive")})
	}
	add("foundation", "trail", "AWS::CloudTrail::Trail", "stakeseal-hoodi-trail", m{})
	add("function", "Generator", "AWS::Lambda::Function", "stakeseal-hoodi-generator", m{"Timeout": "600", "MemorySize": float64(1024), "Architectures": []any{"arm64"}, "ReservedConcurrentExecutions": "5"})
	pattern := m{"detail": m{"eventName": []string{"PutKeyPolicy", "CreateGrant", "AssumeRole", "UpdateStack", "ExecuteChangeSet"}}}
	f.rules = []ruletypes.Rule{{Name: aws.String("stakeseal-hoodi-watch"), State: ruletypes.RuleStateEnabled, EventPattern: aws.String(jsonText(pattern))}}
	f.targets["stakeseal-hoodi-watch"] = []string{"arn:aws:sns:us-east-1:111122223333:alarm"}
	add("watch", "Rule", "AWS::Events::Rule", "stakeseal-hoodi-watch", m{"EventPattern": jsonObject(pattern), "Targets": []any{m{"Arn": "arn:aws:sns:us-east-1:111122223333:alarm"}}})
	add("watch", "Alarm", "AWS::SNS::Topic", "arn:aws:sns:us-east-1:111122223333:alarm", m{})
	for _, name := range []string{"bootstrap", "foundation", "function", "watch"} {
		f.stacks[testName+"-"+name] = &cftypes.Stack{StackStatus: cftypes.StackStatusCreateComplete, EnableTerminationProtection: aws.Bool(true), Parameters: []cftypes.Parameter{{ParameterKey: aws.String("Name"), ParameterValue: aws.String(testName)}}}
		f.bodies[name] = "template of " + name + "\n"
	}
	f.stacks[testName+"-foundation"].Outputs = []cftypes.Output{{OutputKey: aws.String("SigningProfileVersionArn"), OutputValue: aws.String(profileARN)}}

	in, err := SubjectOf(Named{
		Store: "arn:aws:dynamodb:us-east-1:111122223333:table/stakeseal-hoodi-records", Archive: "arn:aws:s3:::stakeseal-hoodi-archive-111122223333",
		Certifier: certKey, Generator: "arn:aws:lambda:us-east-1:111122223333:function:stakeseal-hoodi-generator:live", Signing: []string{signingKey}, Recovery: []string{recoveryKey},
	})
	if err != nil {
		t.Fatal(err)
	}
	p, err := readPackage(code)
	if err != nil {
		t.Fatal(err)
	}
	return f, &Live{
		Subject: *in, Caller: Caller{Account: testAccount, ARN: "arn:aws:sts::111122223333:assumed-role/stakeseal-hoodi-auditor/eve", Role: testName + "-auditor", Session: "eve"},
		Clients: Clients{f, f, func(string) KMSReader { return f }, f, f, f, f, f, f, f},
		Trust:   &certificate.Trust{Releases: []certificate.Release{{Name: "v1", Binaries: []certificate.Hash{p.binary}, Settings: p.settings}}}, Settings: p.settings,
		Template: f, Now: time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC), TryOpening: true,
	}
}

func advanced(pairs ...string) trailtypes.AdvancedEventSelector {
	var s trailtypes.AdvancedEventSelector
	for i := 0; i < len(pairs); i += 2 {
		s.FieldSelectors = append(s.FieldSelectors, trailtypes.AdvancedFieldSelector{Field: &pairs[i], Equals: []string{pairs[i+1]}})
	}
	return s
}

func starting(s trailtypes.AdvancedEventSelector, prefix string) trailtypes.AdvancedEventSelector {
	s.FieldSelectors = append(s.FieldSelectors, trailtypes.AdvancedFieldSelector{Field: aws.String("resources.ARN"), StartsWith: []string{prefix}})
	return s
}

// The templates.

func (f *liveFake) Resolve(d Deployed) ([]Resource, error) {
	if err := f.asked("Resolve"); err != nil {
		return nil, err
	}
	if d.Physical["foundation"]["signing"] != keyID(signingKey) {
		return nil, fmt.Errorf("the physical ids were not read: %v", d.Physical)
	}
	return f.resources, nil
}

func (f *liveFake) Body(stack string) []byte { return []byte("template of " + stack) }
