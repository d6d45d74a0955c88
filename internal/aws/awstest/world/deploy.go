package world

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/stakeseal/stakeseal/infra/stack"
	"github.com/stakeseal/stakeseal/internal/aws/awstest"
	"github.com/stakeseal/stakeseal/internal/aws/awstest/buckets"
	"github.com/stakeseal/stakeseal/internal/aws/awstest/tables"
)

// Deploy puts the stacks up: it makes what their resources are, and from then
// on every call is judged by their policies. There is one installation in a
// world.
func (w *World) Deploy(o stack.Options) (*stack.Installation, error) {
	inst, err := stack.Deploy(o)
	if err != nil {
		return nil, err
	}
	if inst.Account != Account || inst.Region != Region {
		return nil, fmt.Errorf("couldn't deploy: the world is account %s in %s", Account, Region)
	}
	w.mu.Lock()
	taken := w.inst != nil
	w.mu.Unlock()
	if taken {
		return nil, fmt.Errorf("couldn't deploy: there is an installation already")
	}
	for _, r := range inst.Resources {
		make, known := makers[r.Type]
		if !known {
			return nil, fmt.Errorf("couldn't deploy: the world does not know %s (%s %s)", r.Type, r.Stack, r.LogicalID)
		}
		if make == nil {
			continue
		}
		if err := make(w, inst, r); err != nil {
			return nil, fmt.Errorf("couldn't deploy %s %s: %w", r.Stack, r.LogicalID, err)
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.inst, w.deployed = inst, time.Now()
	return inst, nil
}

// makers make resources by their type. nil is one that is only read, or that
// nothing here takes notice of.
var makers = map[string]func(*World, *stack.Installation, stack.Resource) error{
	"AWS::KMS::Key":                  makeKey,
	"AWS::DynamoDB::Table":           makeTable,
	"AWS::S3::Bucket":                makeBucket,
	"AWS::Lambda::Function":          makeFunction,
	"AWS::Lambda::CodeSigningConfig": makeSigningConfig,
	"AWS::Lambda::EventInvokeConfig": makeEventConfig,
	"AWS::Signer::SigningProfile":    makeProfile,

	"AWS::KMS::Alias": nil, "AWS::S3::BucketPolicy": nil,
	"AWS::IAM::Role": nil, "AWS::IAM::ManagedPolicy": nil, "AWS::IAM::InstanceProfile": nil,
	"AWS::Logs::LogGroup": nil,
	"AWS::EC2::VPC":       nil, "AWS::EC2::Subnet": nil, "AWS::EC2::RouteTable": nil, "AWS::EC2::SubnetRouteTableAssociation": nil,
	"AWS::EC2::SecurityGroup": nil, "AWS::EC2::SecurityGroupEgress": nil, "AWS::EC2::SecurityGroupIngress": nil, "AWS::EC2::VPCEndpoint": nil,
	"AWS::Scheduler::ScheduleGroup": nil, "AWS::Scheduler::Schedule": nil, "AWS::SQS::Queue": nil, "AWS::SQS::QueuePolicy": nil,
	"AWS::SNS::Topic": nil, "AWS::SNS::TopicPolicy": nil, "AWS::SNS::Subscription": nil, "AWS::Events::Rule": nil, "AWS::CloudTrail::Trail": nil,
	"AWS::Config::ConfigurationRecorder": nil, "AWS::Config::DeliveryChannel": nil, "AWS::Config::ConfigRule": nil, "AWS::CloudWatch::Alarm": nil,
}

// known refuses properties that the world would pass over.
func known(r stack.Resource, names ...string) error {
	for name := range r.Properties {
		found := name == "Tags" || name == "Description"
		for _, n := range names {
			found = found || n == name
		}
		if !found {
			return fmt.Errorf("the world does not know the property %s of %s", name, r.Type)
		}
	}
	return nil
}

// others returns the resources of a type of which a property has a value.
func others(inst *stack.Installation, kind, property, value string) (out []stack.Resource) {
	for _, r := range inst.Resources {
		if r.Type == kind && text(r.Properties[property]) == value {
			out = append(out, r)
		}
	}
	return out
}

func jsonOf(v any) string {
	if v == nil {
		return ""
	}
	body, err := json.Marshal(v)
	if err != nil {
		return ""
	}
	return string(body)
}

func number64(s string) int { n, _ := strconv.Atoi(s); return n }
func decimal(n int) string  { return strconv.Itoa(n) }

func tagsOf(r stack.Resource) map[string]string {
	out := map[string]string{}
	for _, t := range list(r.Properties["Tags"]) {
		out[text(fields(t)["Key"])] = text(fields(t)["Value"])
	}
	return out
}

func makeKey(w *World, inst *stack.Installation, r stack.Resource) error {
	if err := known(r, "KeySpec", "KeyUsage", "MultiRegion", "EnableKeyRotation", "RotationPeriodInDays", "PendingWindowInDays", "KeyPolicy", "Enabled"); err != nil {
		return err
	}
	want := awstest.Key{
		ID: r.PhysicalID, Spec: awstest.Spec(text(r.Properties["KeySpec"])), Policy: jsonOf(r.Properties["KeyPolicy"]), Description: text(r.Properties["Description"]),
		Rotation: truth(r.Properties["EnableKeyRotation"]), RotationDays: number64(text(r.Properties["RotationPeriodInDays"])),
	}
	if want.Spec == "" {
		want.Spec = awstest.Symmetric
	}
	for _, alias := range others(inst, "AWS::KMS::Alias", "TargetKeyId", r.PhysicalID) {
		want.Aliases = append(want.Aliases, text(alias.Properties["AliasName"]))
	}
	arn, err := w.Keys.Make(want)
	if err == nil && arn != r.ARN {
		err = fmt.Errorf("made as %s", arn)
	}
	return err
}

func makeTable(w *World, _ *stack.Installation, r stack.Resource) error {
	if err := known(r, "TableName", "AttributeDefinitions", "BillingMode", "DeletionProtectionEnabled", "KeySchema", "LocalSecondaryIndexes",
		"PointInTimeRecoverySpecification", "ResourcePolicy", "SSESpecification", "TableClass", "ContributorInsightsSpecification"); err != nil {
		return err
	}
	for _, a := range list(r.Properties["AttributeDefinitions"]) {
		if text(fields(a)["AttributeType"]) != "S" {
			return fmt.Errorf("keys of type %v", fields(a)["AttributeType"])
		}
	}
	if r.Properties["SSESpecification"] != nil && text(fields(r.Properties["SSESpecification"])["KMSMasterKeyId"]) != "" {
		return fmt.Errorf("a table under a key of the account")
	}
	recovery := fields(r.Properties["PointInTimeRecoverySpecification"])
	t := tables.Table{
		ARN: r.ARN, DeletionProtection: truth(r.Properties["DeletionProtectionEnabled"]), Backups: truth(recovery["PointInTimeRecoveryEnabled"]),
		BackupDays: number64(text(recovery["RecoveryPeriodInDays"])), Policy: jsonOf(fields(r.Properties["ResourcePolicy"])["PolicyDocument"]),
		Indexes: map[string]string{},
	}
	t.Hash, t.Range = schema(r.Properties["KeySchema"])
	for _, index := range list(r.Properties["LocalSecondaryIndexes"]) {
		_, t.Indexes[text(fields(index)["IndexName"])] = schema(fields(index)["KeySchema"])
	}
	return w.Tables.Make(t)
}

func schema(v any) (hash, sort string) {
	for _, k := range list(v) {
		name := text(fields(k)["AttributeName"])
		if fields(k)["KeyType"] == "HASH" {
			hash = name
		} else {
			sort = name
		}
	}
	return hash, sort
}

func makeBucket(w *World, inst *stack.Installation, r stack.Resource) error {
	if err := known(r, "BucketName", "BucketEncryption", "ObjectLockConfiguration", "ObjectLockEnabled", "OwnershipControls",
		"PublicAccessBlockConfiguration", "VersioningConfiguration", "LifecycleConfiguration"); err != nil {
		return err
	}
	for _, rule := range list(fields(r.Properties["BucketEncryption"])["ServerSideEncryptionConfiguration"]) {
		if text(fields(fields(rule)["ServerSideEncryptionByDefault"])["SSEAlgorithm"]) != "AES256" {
			return fmt.Errorf("a bucket under a key of the account")
		}
	}
	retention := fields(fields(fields(r.Properties["ObjectLockConfiguration"])["Rule"])["DefaultRetention"])
	b := buckets.Bucket{
		Name: r.PhysicalID, Region: Region, Account: Account,
		Versioned:  text(fields(r.Properties["VersioningConfiguration"])["Status"]) == "Enabled",
		ObjectLock: truth(r.Properties["ObjectLockEnabled"]), LockMode: text(retention["Mode"]), LockDays: number64(text(retention["Days"])),
		Configurations: map[string][]byte{},
	}
	if years := number64(text(retention["Years"])); years > 0 {
		b.LockDays = 365 * years
	}
	for _, p := range others(inst, "AWS::S3::BucketPolicy", "Bucket", r.PhysicalID) {
		b.Configurations["policy"] = []byte(jsonOf(p.Properties["PolicyDocument"]))
	}
	const xmlns = ` xmlns="http://s3.amazonaws.com/doc/2006-03-01/">`
	if block := fields(r.Properties["PublicAccessBlockConfiguration"]); block != nil {
		var out strings.Builder
		for _, name := range []string{"BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets"} {
			leaf(name, strconv.FormatBool(truth(block[name]))).write(&out)
		}
		b.Configurations["publicAccessBlock"] = []byte("<PublicAccessBlockConfiguration" + xmlns + out.String() + "</PublicAccessBlockConfiguration>")
	}
	for _, rule := range list(fields(r.Properties["OwnershipControls"])["Rules"]) {
		var out strings.Builder
		branch("Rule", leaf("ObjectOwnership", text(fields(rule)["ObjectOwnership"]))).write(&out)
		b.Configurations["ownershipControls"] = []byte("<OwnershipControls" + xmlns + out.String() + "</OwnershipControls>")
	}
	if rules := list(fields(r.Properties["LifecycleConfiguration"])["Rules"]); rules != nil {
		text, err := lifecycle(rules)
		if err != nil {
			return err
		}
		b.Configurations["lifecycle"] = []byte("<LifecycleConfiguration" + xmlns + text + "</LifecycleConfiguration>")
	}
	return w.Buckets.Make(b)
}

// lifecycle writes a template's rules as the API has them.
func lifecycle(rules []any) (string, error) {
	var out strings.Builder
	for _, rule := range rules {
		e := branch("Rule")
		prefix := ""
		for name, v := range fields(rule) {
			switch name {
			case "Id":
				e.in = append(e.in, leaf("ID", text(v)))
			case "Status":
				e.in = append(e.in, leaf("Status", text(v)))
			case "Prefix":
				prefix = text(v)
			case "ExpirationInDays":
				e.in = append(e.in, branch("Expiration", leaf("Days", text(v))))
			case "NoncurrentVersionExpiration":
				e.in = append(e.in, branch("NoncurrentVersionExpiration", leaf("NoncurrentDays", text(fields(v)["NoncurrentDays"]))))
			case "AbortIncompleteMultipartUpload":
				e.in = append(e.in, branch("AbortIncompleteMultipartUpload", leaf("DaysAfterInitiation", text(fields(v)["DaysAfterInitiation"]))))
			default:
				return "", fmt.Errorf("the world does not know %s of a lifecycle rule", name)
			}
		}
		e.in = append(e.in, branch("Filter", leaf("Prefix", prefix)))
		e.write(&out)
	}
	return out.String(), nil
}

func makeFunction(w *World, _ *stack.Installation, r stack.Resource) error {
	if err := known(r, "FunctionName", "Runtime", "Handler", "Architectures", "MemorySize", "Timeout", "Role", "Code", "CodeSigningConfigArn",
		"LoggingConfig", "ReservedConcurrentExecutions", "VpcConfig"); err != nil {
		return err
	}
	p := r.Properties
	c := config{
		name: r.PhysicalID, arn: r.ARN, role: text(p["Role"]), runtime: text(p["Runtime"]), handler: text(p["Handler"]), description: text(p["Description"]),
		memoryMB: number64(text(p["MemorySize"])), timeout: time.Duration(number64(text(p["Timeout"]))) * time.Second,
		logFormat: text(fields(p["LoggingConfig"])["LogFormat"]), logGroup: text(fields(p["LoggingConfig"])["LogGroup"]),
		signingConfig: text(p["CodeSigningConfigArn"]), vpc: fields(p["VpcConfig"]), tags: tagsOf(r), reserved: -1, retries: asyncRetries,
	}
	for _, a := range list(p["Architectures"]) {
		c.architectures = append(c.architectures, text(a))
	}
	if n, ok := p["ReservedConcurrentExecutions"]; ok {
		c.reserved = number64(text(n))
	}
	if c.runtime != "provided.al2023" || c.memoryMB == 0 || c.timeout == 0 || c.role == "" {
		return fmt.Errorf("runtime %q, %d MB, %s, role %q", c.runtime, c.memoryMB, c.timeout, c.role)
	}
	if c.logGroup == "" {
		c.logGroup = "/aws/lambda/" + c.name
	}
	if c.logFormat == "" {
		c.logFormat = "Text"
	}
	return w.functions.make(c)
}

func makeSigningConfig(w *World, _ *stack.Installation, r stack.Resource) error {
	if err := known(r, "AllowedPublishers", "CodeSigningPolicies"); err != nil {
		return err
	}
	w.functions.mu.Lock()
	defer w.functions.mu.Unlock()
	w.functions.signing[r.ARN] = map[string]any{
		"CodeSigningConfigId": r.ARN[strings.LastIndex(r.ARN, ":")+1:], "CodeSigningConfigArn": r.ARN, "Description": text(r.Properties["Description"]),
		"AllowedPublishers": fields(r.Properties["AllowedPublishers"]), "CodeSigningPolicies": fields(r.Properties["CodeSigningPolicies"]),
		"LastModified": time.Now().UTC().Format("2006-01-02T15:04:05.000+0000"),
	}
	return nil
}

func makeEventConfig(w *World, _ *stack.Installation, r stack.Resource) error {
	if err := known(r, "FunctionName", "Qualifier", "MaximumRetryAttempts", "MaximumEventAgeInSeconds", "DestinationConfig"); err != nil {
		return err
	}
	f, p := w.functions, r.Properties
	f.mu.Lock()
	defer f.mu.Unlock()
	fn := f.byName[text(p["FunctionName"])]
	if fn == nil {
		return fmt.Errorf("no function %q", text(p["FunctionName"]))
	}
	fn.retries = number64(text(p["MaximumRetryAttempts"]))
	fn.events = append(fn.events, map[string]any{
		"FunctionArn": fn.arn + ":" + text(p["Qualifier"]), "MaximumRetryAttempts": fn.retries,
		"MaximumEventAgeInSeconds": number64(text(p["MaximumEventAgeInSeconds"])), "DestinationConfig": p["DestinationConfig"],
	})
	return nil
}

func makeProfile(w *World, inst *stack.Installation, r stack.Resource) error {
	validity := fields(r.Properties["SignatureValidityPeriod"])
	months := number64(text(validity["Value"]))
	versionARN := inst.Outputs["foundation"]["SigningProfileVersionArn"]
	if text(validity["Type"]) != "MONTHS" || months < 1 || !strings.HasPrefix(versionARN, r.ARN+"/") {
		return fmt.Errorf("signing profile %s of %v, version %q", r.ARN, validity, versionARN)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.profiles[r.PhysicalID] = newProfile(r.PhysicalID, versionARN, text(r.Properties["PlatformId"]), months, tagsOf(r))
	return nil
}
