package ops

import (
	"encoding/json"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	cftypes "github.com/aws/aws-sdk-go-v2/service/cloudformation/types"
	"github.com/aws/aws-sdk-go-v2/service/cloudtrail"
	trailtypes "github.com/aws/aws-sdk-go-v2/service/cloudtrail/types"
	ruletypes "github.com/aws/aws-sdk-go-v2/service/eventbridge/types"
	iamtypes "github.com/aws/aws-sdk-go-v2/service/iam/types"
	lambdatypes "github.com/aws/aws-sdk-go-v2/service/lambda/types"
	s3types "github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/stakeseal/stakeseal/infra/stack"
)

// standing is an account in which the real templates were deployed: every
// role, policy, key policy, bucket policy, rule and trail as they say, under
// names that AWS made up.
func standing(t *testing.T, parameters map[string]map[string]string) (*liveFake, *Live) {
	t.Helper()
	f, l := healthy(t)
	f.deploy(parameters)
	l.Template = Templates{}
	return f, l
}

// again is an account like another, whose templates need not be resolved anew.
func again(t *testing.T, like *liveFake) (*liveFake, *Live) {
	t.Helper()
	f, l := healthy(t)
	f.physical, f.resources, f.stacks, f.bodies = like.physical, like.resources, like.stacks, like.bodies
	f.build()
	l.Template = resolved(like.resources)
	return f, l
}

// resolved are templates of which the resources are known.
type resolved []Resource

func (r resolved) Resolve(Deployed) ([]Resource, error) { return r, nil }
func (r resolved) Body(stack string) []byte             { return Templates{}.Body(stack) }

func (f *liveFake) deploy(parameters map[string]map[string]string) {
	t := f.t
	in, err := stack.Deploy(stack.Options{Name: testName, Account: testAccount, Region: "us-east-1", Parameters: parameters})
	if err != nil {
		t.Fatal(err)
	}
	real := map[string]string{"SigningKey": keyID(signingKey), "RecoveryKey": keyID(recoveryKey), "CertifyingKey": keyID(certKey)}
	d := Deployed{Name: testName, Account: testAccount, Region: "us-east-1", Parameters: parameters, Physical: map[string]map[string]string{}}
	f.physical = map[string]map[string]string{}
	for _, r := range in.Resources {
		short := strings.TrimPrefix(r.Stack, testName+"-")
		if f.physical[short] == nil {
			f.physical[short] = map[string]string{}
		}
		id := r.PhysicalID
		switch {
		case real[r.LogicalID] != "":
			id = real[r.LogicalID]
		case r.Type == "AWS::IAM::ManagedPolicy" || r.Type == "AWS::SNS::Topic":
			id = r.ARN
		case r.Type == "AWS::S3::BucketPolicy":
			id = loosely(r.Properties["Bucket"])
		case r.Type == "AWS::EC2::Subnet" || r.Type == "AWS::EC2::SecurityGroup":
			id = "live-" + r.LogicalID
		}
		f.physical[short][r.LogicalID] = id
	}
	d.Physical = f.physical
	f.resources, err = Templates{}.Resolve(d)
	if err != nil {
		t.Fatal(err)
	}
	f.stacks = map[string]*cftypes.Stack{}
	for short := range f.physical {
		s := &cftypes.Stack{StackStatus: cftypes.StackStatusCreateComplete, EnableTerminationProtection: aws.Bool(true)}
		for k, v := range parameters[short] {
			s.Parameters = append(s.Parameters, cftypes.Parameter{ParameterKey: aws.String(k), ParameterValue: aws.String(v)})
		}
		f.stacks[testName+"-"+short] = s
		f.bodies[short] = string(Templates{}.Body(short))
	}
	f.stacks[testName+"-foundation"].Outputs = []cftypes.Output{{OutputKey: aws.String("SigningProfileVersionArn"), OutputValue: aws.String(profileARN)}}
	f.build()
}

// build makes all resources of the templates live.
func (f *liveFake) build() {
	f.roles, f.managed, f.rules, f.targets = map[string]*iamtypes.RoleDetail{}, map[string]any{}, nil, map[string][]string{}
	f.versioning, f.lock, f.bucketp = map[string]s3types.BucketVersioningStatus{}, map[string]*s3types.ObjectLockConfiguration{}, map[string]any{}
	f.trail = nil
	for _, r := range f.resources {
		f.put(r)
	}
}

// number32 reads a template's number.
func number32(t *testing.T, v any) *int32 {
	n, err := strconv.Atoi(loosely(v))
	if err != nil {
		t.Fatal(err)
	}
	return aws.Int32(int32(n))
}

// put makes one resource of the templates live.
func (f *liveFake) put(r Resource) {
	p := r.Properties
	switch r.Type {
	case "AWS::IAM::Role":
		arn := "arn:aws:iam::" + testAccount + ":role/" + r.PhysicalID
		role := &iamtypes.RoleDetail{Arn: &arn, RoleName: aws.String(r.PhysicalID), Path: aws.String("/"), AssumeRolePolicyDocument: aws.String(url.PathEscape(jsonText(p["AssumeRolePolicyDocument"])))}
		list, _ := p["Policies"].([]any)
		for _, one := range list {
			role.RolePolicyList = append(role.RolePolicyList, iamtypes.PolicyDetail{PolicyName: aws.String(one.(m)["PolicyName"].(string)), PolicyDocument: aws.String(url.PathEscape(jsonText(one.(m)["PolicyDocument"])))})
		}
		for _, arn := range texts(p["ManagedPolicyArns"]) {
			role.AttachedManagedPolicies = append(role.AttachedManagedPolicies, iamtypes.AttachedPolicy{PolicyArn: &arn})
			if strings.HasPrefix(arn, "arn:aws:iam::aws:") {
				f.managed[arn] = statements(m{"Effect": "Allow", "Action": "*", "Resource": "*"})
			}
		}
		if b := loosely(p["PermissionsBoundary"]); b != "" {
			role.PermissionsBoundary = &iamtypes.AttachedPermissionsBoundary{PermissionsBoundaryArn: &b}
		}
		f.roles[r.LogicalID] = role
	case "AWS::IAM::ManagedPolicy":
		f.managed[r.PhysicalID] = p["PolicyDocument"]
	case "AWS::KMS::Key":
		arn := "arn:aws:kms:us-east-1:" + testAccount + ":key/" + r.PhysicalID
		f.policy[arn], f.rotated[arn] = p["KeyPolicy"], loosely(p["EnableKeyRotation"]) == "true"
	case "AWS::DynamoDB::Table":
		if policy, ok := p["ResourcePolicy"].(m); ok {
			f.tablep["arn:aws:dynamodb:us-east-1:"+testAccount+":table/"+r.PhysicalID] = jsonText(policy["PolicyDocument"])
		}
	case "AWS::S3::Bucket":
		if p["VersioningConfiguration"] != nil {
			f.versioning[r.PhysicalID] = s3types.BucketVersioningStatusEnabled
		}
		if rule, ok := p["ObjectLockConfiguration"].(m); ok {
			d := rule["Rule"].(m)["DefaultRetention"].(m)
			f.lock[r.PhysicalID] = &s3types.ObjectLockConfiguration{ObjectLockEnabled: s3types.ObjectLockEnabledEnabled,
				Rule: &s3types.ObjectLockRule{DefaultRetention: &s3types.DefaultRetention{Mode: s3types.ObjectLockRetentionMode(loosely(d["Mode"])), Days: number32(f.t, d["Days"])}}}
		}
		if rules, ok := p["LifecycleConfiguration"].(m); ok {
			for _, one := range rules["Rules"].([]any) {
				f.lifecycle[r.PhysicalID] = append(f.lifecycle[r.PhysicalID], s3types.LifecycleRule{ID: aws.String(loosely(one.(m)["Id"])), Status: s3types.ExpirationStatusEnabled,
					Expiration: &s3types.LifecycleExpiration{Days: number32(f.t, one.(m)["ExpirationInDays"])}, NoncurrentVersionExpiration: &s3types.NoncurrentVersionExpiration{NoncurrentDays: aws.Int32(1)}})
			}
		}
	case "AWS::S3::BucketPolicy":
		f.bucketp[loosely(p["Bucket"])] = p["PolicyDocument"]
	case "AWS::Lambda::Function":
		for _, c := range f.function {
			c.Timeout, c.MemorySize = number32(f.t, p["Timeout"]), number32(f.t, p["MemorySize"])
			c.Architectures = []lambdatypes.Architecture{lambdatypes.Architecture(loosely(p["Architectures"]))}
			if vpc, ok := p["VpcConfig"].(m); ok {
				c.VpcConfig = &lambdatypes.VpcConfigResponse{SubnetIds: texts(vpc["SubnetIds"]), SecurityGroupIds: texts(vpc["SecurityGroupIds"])}
			}
		}
		f.reserved = nil
		if n := loosely(p["ReservedConcurrentExecutions"]); n != "" {
			f.reserved = number32(f.t, n)
		}
	case "AWS::Lambda::EventInvokeConfig":
		f.invokes = []lambdatypes.FunctionEventInvokeConfig{{DestinationConfig: &lambdatypes.DestinationConfig{OnFailure: &lambdatypes.OnFailure{Destination: aws.String(loosely(p["DestinationConfig"].(m)["OnFailure"].(m)["Destination"]))}}}}
	case "AWS::Events::Rule":
		f.rules = append(f.rules, ruletypes.Rule{Name: aws.String(r.PhysicalID), State: ruletypes.RuleState(loosely(p["State"])), EventPattern: aws.String(jsonText(p["EventPattern"]))})
		for _, one := range p["Targets"].([]any) {
			f.targets[r.PhysicalID] = append(f.targets[r.PhysicalID], loosely(one.(m)["Arn"]))
		}
	case "AWS::CloudTrail::Trail":
		yes := aws.Bool(true)
		f.trail = &trailtypes.Trail{Name: aws.String(r.PhysicalID), TrailARN: aws.String("arn:trail"), S3BucketName: aws.String(loosely(p["S3BucketName"])), IsMultiRegionTrail: yes, IncludeGlobalServiceEvents: yes, LogFileValidationEnabled: yes}
		f.selectors = &cloudtrail.GetEventSelectorsOutput{}
		if err := json.Unmarshal([]byte(jsonText(p["AdvancedEventSelectors"])), &f.selectors.AdvancedEventSelectors); err != nil {
			f.t.Fatal(err)
		}
	}
}

// TestRealTemplates: what the templates put up is as promised, with few and
// with all of their parts; a statement more or less anywhere in them is seen.
func TestRealTemplates(t *testing.T) {
	example := stack.Example(testAccount)
	few := map[string]map[string]string{"bootstrap": example["bootstrap"], "foundation": {}, "function": example["function"]}
	all := map[string]map[string]string{}
	for short, p := range example {
		all[short] = p
	}
	all["foundation"] = map[string]string{"KeyRotation": "yearly", "ArchiveLockMode": "COMPLIANCE", "ArchiveLockDays": "365"}
	all["watch"] = map[string]string{"Trail": "on", "InvokeEvents": "on", "TableEvents": "on", "ObjectEvents": "on", "AlarmEmail": "x@example.org"}
	all["bootstrap"] = map[string]string{"Network": "on", "Schedule": "on"}
	for k, v := range example["bootstrap"] {
		all["bootstrap"][k] = v
	}
	for name, c := range map[string]struct {
		parameters map[string]map[string]string
		want       []string
	}{
		"few": {few, []string{"warning parameters: people of this account, where", "warning trail: there is no trail", "warning alarms: nobody is told at once of PutKeyPolicy"}},
		"all": {all, []string{"warning parameters: people of this account, where"}},
	} {
		_, l := standing(t, c.parameters)
		got := troubles(examine(t, l))
		if len(got) != len(c.want) || !slices.EqualFunc(got, c.want, strings.HasPrefix) {
			t.Errorf("%s:\n  %s", name, strings.Join(got, "\n  "))
		}
	}
	f, l := standing(t, all)
	f.tablep = map[string]string{}
	if got := changedOnes(examine(t, l)); len(got) != 5 || !strings.HasPrefix(got[0], "changed table records: its resource policy, which denies") {
		t.Errorf("tables without their policies: %q", got)
	}
	documents := 0
	for i, r := range f.resources {
		for _, change := range policiesOf(&f.resources[i]) {
			documents++
			g, l := again(t, f)
			g.put(Resource{r.Stack, r.LogicalID, r.Type, r.PhysicalID, change})
			if len(changedOnes(examine(t, l))) == 0 {
				t.Errorf("%s/%s: one statement less is not noticed", r.Stack, r.LogicalID)
			}
		}
	}
	if documents < 30 {
		t.Errorf("only %d policies were changed", documents)
	}
}

// policiesOf gives the properties of a resource with one statement less, for
// each policy that it has.
func policiesOf(r *Resource) []m {
	var out []m
	without := func(p m, path ...string) {
		c := jsonObject(r.Properties)
		at := c
		for _, step := range path {
			next, ok := at[step].(m)
			if !ok {
				return
			}
			at = next
		}
		list, ok := at["Statement"].([]any)
		if !ok {
			return
		}
		at["Statement"] = list[1:]
		out = append(out, c)
	}
	switch r.Type {
	case "AWS::IAM::ManagedPolicy", "AWS::S3::BucketPolicy":
		without(r.Properties, "PolicyDocument")
	case "AWS::KMS::Key":
		without(r.Properties, "KeyPolicy")
	case "AWS::DynamoDB::Table":
		without(r.Properties, "ResourcePolicy", "PolicyDocument")
	case "AWS::IAM::Role":
		without(r.Properties, "AssumeRolePolicyDocument")
		list, _ := r.Properties["Policies"].([]any)
		for i := range list {
			c := jsonObject(r.Properties)
			document := c["Policies"].([]any)[i].(m)["PolicyDocument"].(m)
			document["Statement"] = document["Statement"].([]any)[1:]
			out = append(out, c)
		}
	}
	return out
}

// TestMadeUpNames: where AWS made a name up, the templates' resources have it,
// also where others refer to it; what does not stand is left out.
func TestMadeUpNames(t *testing.T) {
	example := stack.Example(testAccount)
	d := Deployed{Name: testName, Account: testAccount, Region: "us-east-1", Parameters: map[string]map[string]string{"bootstrap": example["bootstrap"], "foundation": {}, "function": example["function"]},
		Physical: map[string]map[string]string{"foundation": {"SigningProfile": "LiveProfile", "SigningKey": keyID(signingKey)}, "function": {}}}
	list, err := Templates{}.Resolve(d)
	if err != nil {
		t.Fatal(err)
	}
	s := &stacks{resources: list}
	if _, ok := s.one("AWS::KMS::Key", keyID(signingKey)); !ok {
		t.Error("the signing key has not the name that AWS made up")
	}
	signing, _ := s.some("AWS::Lambda::CodeSigningConfig")
	if len(signing) != 1 || !strings.Contains(jsonText(signing[0].Properties), "/signing-profiles/LiveProfile/") {
		t.Errorf("%+v", signing)
	}
	if roles, any := s.some("AWS::IAM::Role"); any {
		t.Errorf("the stack bootstrap does not stand, and has %d roles", len(roles))
	}
	d.Parameters["foundation"] = map[string]string{"Magic": "on"}
	if list, err := (Templates{}).Resolve(d); err == nil || list != nil {
		t.Errorf("an unknown parameter: %v", err)
	}
}
