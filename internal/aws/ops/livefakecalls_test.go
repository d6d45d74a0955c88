package ops

import (
	"context"
	"fmt"
	"net/url"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation"
	cftypes "github.com/aws/aws-sdk-go-v2/service/cloudformation/types"
	"github.com/aws/aws-sdk-go-v2/service/cloudtrail"
	trailtypes "github.com/aws/aws-sdk-go-v2/service/cloudtrail/types"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	tabletypes "github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/aws-sdk-go-v2/service/eventbridge"
	ruletypes "github.com/aws/aws-sdk-go-v2/service/eventbridge/types"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	iamtypes "github.com/aws/aws-sdk-go-v2/service/iam/types"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	lambdatypes "github.com/aws/aws-sdk-go-v2/service/lambda/types"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	s3types "github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/aws-sdk-go-v2/service/signer"
)

// pageOf gives a list one by one, so that a reader who takes the first page for
// all of it fails.
func pageOf[T any](list []T, marker *string) (one []T, next *string) {
	n := 0
	if marker != nil {
		if _, err := fmt.Sscanf(*marker, "page-%d", &n); err != nil {
			panic(err)
		}
	}
	if n >= len(list) {
		return nil, nil
	}
	if n+1 < len(list) {
		next = aws.String(fmt.Sprintf("page-%d", n+1))
	}
	return list[n : n+1], next
}

// Lambda and Signer.

func (f *liveFake) GetFunctionConfiguration(_ context.Context, in *lambda.GetFunctionConfigurationInput, _ ...func(*lambda.Options)) (*lambda.GetFunctionConfigurationOutput, error) {
	if err := f.asked("lambda:GetFunctionConfiguration"); err != nil {
		return nil, err
	}
	if out := f.function[aws.ToString(in.Qualifier)]; out != nil && *in.FunctionName == "stakeseal-hoodi-generator" {
		return out, nil
	}
	return nil, apiFailure("ResourceNotFoundException")
}

func (f *liveFake) GetFunctionConcurrency(context.Context, *lambda.GetFunctionConcurrencyInput, ...func(*lambda.Options)) (*lambda.GetFunctionConcurrencyOutput, error) {
	return &lambda.GetFunctionConcurrencyOutput{ReservedConcurrentExecutions: f.reserved}, f.asked("lambda:GetFunctionConcurrency")
}

func (f *liveFake) GetRuntimeManagementConfig(context.Context, *lambda.GetRuntimeManagementConfigInput, ...func(*lambda.Options)) (*lambda.GetRuntimeManagementConfigOutput, error) {
	return &lambda.GetRuntimeManagementConfigOutput{UpdateRuntimeOn: f.runtime}, f.asked("lambda:GetRuntimeManagementConfig")
}

func (f *liveFake) GetFunctionCodeSigningConfig(context.Context, *lambda.GetFunctionCodeSigningConfigInput, ...func(*lambda.Options)) (*lambda.GetFunctionCodeSigningConfigOutput, error) {
	out := &lambda.GetFunctionCodeSigningConfigOutput{}
	if f.signing != nil {
		out.CodeSigningConfigArn = aws.String("arn:aws:lambda:us-east-1:111122223333:code-signing-config:csc-1")
	}
	return out, f.asked("lambda:GetFunctionCodeSigningConfig")
}

func (f *liveFake) GetCodeSigningConfig(context.Context, *lambda.GetCodeSigningConfigInput, ...func(*lambda.Options)) (*lambda.GetCodeSigningConfigOutput, error) {
	return &lambda.GetCodeSigningConfigOutput{CodeSigningConfig: f.signing}, f.asked("lambda:GetCodeSigningConfig")
}

func (f *liveFake) ListVersionsByFunction(_ context.Context, in *lambda.ListVersionsByFunctionInput, _ ...func(*lambda.Options)) (*lambda.ListVersionsByFunctionOutput, error) {
	list, next := pageOf(f.versions, in.Marker)
	return &lambda.ListVersionsByFunctionOutput{Versions: list, NextMarker: next}, f.asked("lambda:ListVersionsByFunction")
}

func (f *liveFake) ListAliases(_ context.Context, in *lambda.ListAliasesInput, _ ...func(*lambda.Options)) (*lambda.ListAliasesOutput, error) {
	list, next := pageOf(f.aliases, in.Marker)
	return &lambda.ListAliasesOutput{Aliases: list, NextMarker: next}, f.asked("lambda:ListAliases")
}

func (f *liveFake) GetFunction(_ context.Context, in *lambda.GetFunctionInput, _ ...func(*lambda.Options)) (*lambda.GetFunctionOutput, error) {
	if err := f.asked("lambda:GetFunction"); err != nil {
		return nil, err
	}
	if f.function["live"] == nil {
		return nil, apiFailure("ResourceNotFoundException")
	}
	return &lambda.GetFunctionOutput{Code: &lambdatypes.FunctionCodeLocation{Location: aws.String("https://code")}, Configuration: &lambdatypes.FunctionConfiguration{Version: aws.String("7"), CodeSha256: f.versions[len(f.versions)-1].CodeSha256}}, nil
}

func (f *liveFake) Download(context.Context, string, int64) ([]byte, error) {
	return f.code, f.asked("download")
}

func (f *liveFake) GetPolicy(_ context.Context, in *lambda.GetPolicyInput, _ ...func(*lambda.Options)) (*lambda.GetPolicyOutput, error) {
	if err := f.asked("lambda:GetPolicy"); err != nil {
		return nil, err
	}
	if p, ok := f.policies[aws.ToString(in.Qualifier)]; ok {
		return &lambda.GetPolicyOutput{Policy: &p}, nil
	}
	return nil, apiFailure("ResourceNotFoundException")
}

func (f *liveFake) ListFunctionUrlConfigs(_ context.Context, in *lambda.ListFunctionUrlConfigsInput, _ ...func(*lambda.Options)) (*lambda.ListFunctionUrlConfigsOutput, error) {
	list, next := pageOf(f.urls, in.Marker)
	return &lambda.ListFunctionUrlConfigsOutput{FunctionUrlConfigs: list, NextMarker: next}, f.asked("lambda:ListFunctionUrlConfigs")
}

func (f *liveFake) ListEventSourceMappings(_ context.Context, in *lambda.ListEventSourceMappingsInput, _ ...func(*lambda.Options)) (*lambda.ListEventSourceMappingsOutput, error) {
	list, next := pageOf(f.mappings, in.Marker)
	return &lambda.ListEventSourceMappingsOutput{EventSourceMappings: list, NextMarker: next}, f.asked("lambda:ListEventSourceMappings")
}

func (f *liveFake) ListFunctionEventInvokeConfigs(_ context.Context, in *lambda.ListFunctionEventInvokeConfigsInput, _ ...func(*lambda.Options)) (*lambda.ListFunctionEventInvokeConfigsOutput, error) {
	list, next := pageOf(f.invokes, in.Marker)
	return &lambda.ListFunctionEventInvokeConfigsOutput{FunctionEventInvokeConfigs: list, NextMarker: next}, f.asked("lambda:ListFunctionEventInvokeConfigs")
}

func (f *liveFake) GetSigningProfile(context.Context, *signer.GetSigningProfileInput, ...func(*signer.Options)) (*signer.GetSigningProfileOutput, error) {
	return f.profile, f.asked("signer:GetSigningProfile")
}

func (f *liveFake) ListProfilePermissions(context.Context, *signer.ListProfilePermissionsInput, ...func(*signer.Options)) (*signer.ListProfilePermissionsOutput, error) {
	if err := f.asked("signer:ListProfilePermissions"); err != nil || f.permission == nil {
		if err == nil {
			err = apiFailure("ResourceNotFoundException")
		}
		return nil, err
	}
	return &signer.ListProfilePermissionsOutput{Permissions: f.permission}, nil
}

// KMS.

func (f *liveFake) DescribeKey(_ context.Context, in *kms.DescribeKeyInput, _ ...func(*kms.Options)) (*kms.DescribeKeyOutput, error) {
	if err := f.asked("kms:DescribeKey"); err != nil {
		return nil, err
	}
	if f.keys[*in.KeyId] == nil {
		return nil, apiFailure("NotFoundException")
	}
	return &kms.DescribeKeyOutput{KeyMetadata: f.keys[*in.KeyId]}, nil
}

func (f *liveFake) GetKeyPolicy(_ context.Context, in *kms.GetKeyPolicyInput, _ ...func(*kms.Options)) (*kms.GetKeyPolicyOutput, error) {
	p, ok := f.policy[*in.KeyId].(string)
	if !ok {
		p = jsonText(f.policy[*in.KeyId])
	}
	return &kms.GetKeyPolicyOutput{Policy: &p}, f.asked("kms:GetKeyPolicy")
}

func (f *liveFake) GetKeyRotationStatus(_ context.Context, in *kms.GetKeyRotationStatusInput, _ ...func(*kms.Options)) (*kms.GetKeyRotationStatusOutput, error) {
	return &kms.GetKeyRotationStatusOutput{KeyRotationEnabled: f.rotated[*in.KeyId]}, f.asked("kms:GetKeyRotationStatus")
}

func (f *liveFake) ListGrants(_ context.Context, in *kms.ListGrantsInput, _ ...func(*kms.Options)) (*kms.ListGrantsOutput, error) {
	list, next := pageOf(f.grants[*in.KeyId], in.Marker)
	return &kms.ListGrantsOutput{Grants: list, NextMarker: next, Truncated: next != nil}, f.asked("kms:ListGrants")
}

func (f *liveFake) Decrypt(_ context.Context, in *kms.DecryptInput, _ ...func(*kms.Options)) (*kms.DecryptOutput, error) {
	if err := f.asked("kms:Decrypt"); err != nil {
		return nil, err
	}
	if !aws.ToBool(in.DryRun) || len(in.DryRunModifiers) != 1 || in.CiphertextBlob != nil {
		f.t.Errorf("a Decrypt that is no dry run: %+v", in)
	}
	if map[string]string{signingKey: "signer", recoveryKey: "recovery"}[*in.KeyId] == f.opener {
		return nil, apiFailure("DryRunOperationException")
	}
	return nil, apiFailure("AccessDeniedException")
}

// DynamoDB.

func (f *liveFake) DescribeTable(_ context.Context, in *dynamodb.DescribeTableInput, _ ...func(*dynamodb.Options)) (*dynamodb.DescribeTableOutput, error) {
	if err := f.asked("dynamodb:DescribeTable"); err != nil {
		return nil, err
	}
	if f.tables[*in.TableName] == nil {
		return nil, apiFailure("ResourceNotFoundException")
	}
	return &dynamodb.DescribeTableOutput{Table: f.tables[*in.TableName]}, nil
}

func (f *liveFake) DescribeContinuousBackups(_ context.Context, in *dynamodb.DescribeContinuousBackupsInput, _ ...func(*dynamodb.Options)) (*dynamodb.DescribeContinuousBackupsOutput, error) {
	status := tabletypes.PointInTimeRecoveryStatusDisabled
	if f.pitr[*in.TableName] {
		status = tabletypes.PointInTimeRecoveryStatusEnabled
	}
	return &dynamodb.DescribeContinuousBackupsOutput{ContinuousBackupsDescription: &tabletypes.ContinuousBackupsDescription{PointInTimeRecoveryDescription: &tabletypes.PointInTimeRecoveryDescription{PointInTimeRecoveryStatus: status}}}, f.asked("dynamodb:DescribeContinuousBackups")
}

func (f *liveFake) DescribeTimeToLive(_ context.Context, in *dynamodb.DescribeTimeToLiveInput, _ ...func(*dynamodb.Options)) (*dynamodb.DescribeTimeToLiveOutput, error) {
	d := &tabletypes.TimeToLiveDescription{TimeToLiveStatus: tabletypes.TimeToLiveStatusDisabled}
	if name := f.ttl[*in.TableName]; name != "" {
		d.TimeToLiveStatus, d.AttributeName = tabletypes.TimeToLiveStatusEnabled, &name
	}
	return &dynamodb.DescribeTimeToLiveOutput{TimeToLiveDescription: d}, f.asked("dynamodb:DescribeTimeToLive")
}

func (f *liveFake) DescribeKinesisStreamingDestination(_ context.Context, in *dynamodb.DescribeKinesisStreamingDestinationInput, _ ...func(*dynamodb.Options)) (*dynamodb.DescribeKinesisStreamingDestinationOutput, error) {
	out := &dynamodb.DescribeKinesisStreamingDestinationOutput{}
	if arn := f.streams[*in.TableName]; arn != "" {
		out.KinesisDataStreamDestinations = []tabletypes.KinesisDataStreamDestination{{StreamArn: &arn, DestinationStatus: tabletypes.DestinationStatusActive}}
	}
	return out, f.asked("dynamodb:DescribeKinesisStreamingDestination")
}

func (f *liveFake) GetResourcePolicy(_ context.Context, in *dynamodb.GetResourcePolicyInput, _ ...func(*dynamodb.Options)) (*dynamodb.GetResourcePolicyOutput, error) {
	if err := f.asked("dynamodb:GetResourcePolicy"); err != nil {
		return nil, err
	}
	if p := f.tablep[*in.ResourceArn]; p != "" {
		return &dynamodb.GetResourcePolicyOutput{Policy: &p}, nil
	}
	return nil, apiFailure("PolicyNotFoundException")
}

// S3.

func (f *liveFake) GetBucketVersioning(_ context.Context, in *s3.GetBucketVersioningInput, _ ...func(*s3.Options)) (*s3.GetBucketVersioningOutput, error) {
	if err := f.asked("s3:GetBucketVersioning"); err != nil {
		return nil, err
	}
	if _, ok := f.bucketp[*in.Bucket]; !ok {
		return nil, apiFailure("NoSuchBucket")
	}
	if aws.ToString(in.ExpectedBucketOwner) != testAccount {
		f.t.Errorf("bucket %s is asked for without its owner", *in.Bucket)
	}
	return &s3.GetBucketVersioningOutput{Status: f.versioning[*in.Bucket]}, nil
}

func (f *liveFake) GetObjectLockConfiguration(_ context.Context, in *s3.GetObjectLockConfigurationInput, _ ...func(*s3.Options)) (*s3.GetObjectLockConfigurationOutput, error) {
	if err := f.asked("s3:GetBucketObjectLockConfiguration"); err != nil {
		return nil, err
	}
	if f.lock[*in.Bucket] == nil {
		return nil, apiFailure("ObjectLockConfigurationNotFoundError")
	}
	return &s3.GetObjectLockConfigurationOutput{ObjectLockConfiguration: f.lock[*in.Bucket]}, nil
}

func (f *liveFake) GetBucketReplication(_ context.Context, in *s3.GetBucketReplicationInput, _ ...func(*s3.Options)) (*s3.GetBucketReplicationOutput, error) {
	if err := f.asked("s3:GetReplicationConfiguration"); err != nil {
		return nil, err
	}
	if to := f.replicas[*in.Bucket]; to != "" {
		return &s3.GetBucketReplicationOutput{ReplicationConfiguration: &s3types.ReplicationConfiguration{Rules: []s3types.ReplicationRule{{Destination: &s3types.Destination{Bucket: &to}}}}}, nil
	}
	return nil, apiFailure("ReplicationConfigurationNotFoundError")
}

func (f *liveFake) GetBucketPolicy(_ context.Context, in *s3.GetBucketPolicyInput, _ ...func(*s3.Options)) (*s3.GetBucketPolicyOutput, error) {
	if err := f.asked("s3:GetBucketPolicy"); err != nil {
		return nil, err
	}
	if f.bucketp[*in.Bucket] == nil {
		return nil, apiFailure("NoSuchBucketPolicy")
	}
	return &s3.GetBucketPolicyOutput{Policy: aws.String(jsonText(f.bucketp[*in.Bucket]))}, nil
}

func (f *liveFake) GetPublicAccessBlock(_ context.Context, in *s3.GetPublicAccessBlockInput, _ ...func(*s3.Options)) (*s3.GetPublicAccessBlockOutput, error) {
	b := aws.Bool(!f.open[*in.Bucket])
	return &s3.GetPublicAccessBlockOutput{PublicAccessBlockConfiguration: &s3types.PublicAccessBlockConfiguration{BlockPublicAcls: aws.Bool(true), BlockPublicPolicy: aws.Bool(true), IgnorePublicAcls: aws.Bool(true), RestrictPublicBuckets: b}}, f.asked("s3:GetBucketPublicAccessBlock")
}

func (f *liveFake) GetBucketOwnershipControls(_ context.Context, in *s3.GetBucketOwnershipControlsInput, _ ...func(*s3.Options)) (*s3.GetBucketOwnershipControlsOutput, error) {
	if err := f.asked("s3:GetBucketOwnershipControls"); err != nil {
		return nil, err
	}
	if f.acls[*in.Bucket] {
		return nil, apiFailure("OwnershipControlsNotFoundError")
	}
	return &s3.GetBucketOwnershipControlsOutput{OwnershipControls: &s3types.OwnershipControls{Rules: []s3types.OwnershipControlsRule{{ObjectOwnership: s3types.ObjectOwnershipBucketOwnerEnforced}}}}, nil
}

func (f *liveFake) GetBucketLifecycleConfiguration(_ context.Context, in *s3.GetBucketLifecycleConfigurationInput, _ ...func(*s3.Options)) (*s3.GetBucketLifecycleConfigurationOutput, error) {
	if err := f.asked("s3:GetLifecycleConfiguration"); err != nil {
		return nil, err
	}
	if f.lifecycle[*in.Bucket] == nil {
		return nil, apiFailure("NoSuchLifecycleConfiguration")
	}
	return &s3.GetBucketLifecycleConfigurationOutput{Rules: f.lifecycle[*in.Bucket]}, nil
}

// CloudTrail and EventBridge.

func (f *liveFake) DescribeTrails(context.Context, *cloudtrail.DescribeTrailsInput, ...func(*cloudtrail.Options)) (*cloudtrail.DescribeTrailsOutput, error) {
	out := &cloudtrail.DescribeTrailsOutput{}
	if f.trail != nil {
		out.TrailList = []trailtypes.Trail{{Name: aws.String("another"), S3BucketName: aws.String("another")}, *f.trail}
	}
	return out, f.asked("cloudtrail:DescribeTrails")
}

func (f *liveFake) GetTrailStatus(context.Context, *cloudtrail.GetTrailStatusInput, ...func(*cloudtrail.Options)) (*cloudtrail.GetTrailStatusOutput, error) {
	return &cloudtrail.GetTrailStatusOutput{IsLogging: aws.Bool(!f.stopped)}, f.asked("cloudtrail:GetTrailStatus")
}

func (f *liveFake) GetEventSelectors(context.Context, *cloudtrail.GetEventSelectorsInput, ...func(*cloudtrail.Options)) (*cloudtrail.GetEventSelectorsOutput, error) {
	return f.selectors, f.asked("cloudtrail:GetEventSelectors")
}

func (f *liveFake) DescribeRule(_ context.Context, in *eventbridge.DescribeRuleInput, _ ...func(*eventbridge.Options)) (*eventbridge.DescribeRuleOutput, error) {
	if err := f.asked("events:DescribeRule"); err != nil {
		return nil, err
	}
	for _, r := range f.rules {
		if *r.Name == *in.Name {
			return &eventbridge.DescribeRuleOutput{Name: r.Name, State: r.State, EventPattern: r.EventPattern}, nil
		}
	}
	return nil, apiFailure("ResourceNotFoundException")
}

func (f *liveFake) ListRules(_ context.Context, in *eventbridge.ListRulesInput, _ ...func(*eventbridge.Options)) (*eventbridge.ListRulesOutput, error) {
	list, next := pageOf(f.rules, in.NextToken)
	return &eventbridge.ListRulesOutput{Rules: list, NextToken: next}, f.asked("events:ListRules")
}

func (f *liveFake) ListTargetsByRule(_ context.Context, in *eventbridge.ListTargetsByRuleInput, _ ...func(*eventbridge.Options)) (*eventbridge.ListTargetsByRuleOutput, error) {
	out := &eventbridge.ListTargetsByRuleOutput{}
	for _, arn := range f.targets[*in.Rule] {
		out.Targets = append(out.Targets, ruletypes.Target{Arn: &arn})
	}
	return out, f.asked("events:ListTargetsByRule")
}

// CloudFormation.

func (f *liveFake) DescribeStacks(_ context.Context, in *cloudformation.DescribeStacksInput, _ ...func(*cloudformation.Options)) (*cloudformation.DescribeStacksOutput, error) {
	if err := f.asked("cloudformation:DescribeStacks"); err != nil {
		return nil, err
	}
	if s := f.stacks[*in.StackName]; s != nil {
		return &cloudformation.DescribeStacksOutput{Stacks: []cftypes.Stack{*s}}, nil
	}
	return nil, apiFailure("ValidationError")
}

func (f *liveFake) ListStackResources(_ context.Context, in *cloudformation.ListStackResourcesInput, _ ...func(*cloudformation.Options)) (*cloudformation.ListStackResourcesOutput, error) {
	short := strings.TrimPrefix(*in.StackName, testName+"-")
	name, next := pageOf(sortedKeys(f.physical[short]), in.NextToken)
	out := &cloudformation.ListStackResourcesOutput{NextToken: next}
	for _, n := range name {
		out.StackResourceSummaries = append(out.StackResourceSummaries, cftypes.StackResourceSummary{LogicalResourceId: &n, PhysicalResourceId: aws.String(f.physical[short][n])})
	}
	return out, f.asked("cloudformation:ListStackResources")
}

func (f *liveFake) GetTemplate(_ context.Context, in *cloudformation.GetTemplateInput, _ ...func(*cloudformation.Options)) (*cloudformation.GetTemplateOutput, error) {
	return &cloudformation.GetTemplateOutput{TemplateBody: aws.String(f.bodies[strings.TrimPrefix(*in.StackName, testName+"-")])}, f.asked("cloudformation:GetTemplate")
}

// IAM.

func (f *liveFake) GetAccountAuthorizationDetails(_ context.Context, in *iam.GetAccountAuthorizationDetailsInput, _ ...func(*iam.Options)) (*iam.GetAccountAuthorizationDetailsOutput, error) {
	var all []any
	for _, name := range sortedKeys(f.roles) {
		all = append(all, *f.roles[name])
	}
	for _, u := range f.users {
		all = append(all, u)
	}
	for _, g := range f.groups {
		all = append(all, g)
	}
	for _, arn := range sortedKeys(f.managed) {
		all = append(all, iamtypes.ManagedPolicyDetail{Arn: &arn, PolicyVersionList: []iamtypes.PolicyVersion{
			{Document: aws.String("of old"), IsDefaultVersion: false}, {Document: aws.String(url.PathEscape(jsonText(f.managed[arn]))), IsDefaultVersion: true}}})
	}
	one, next := pageOf(all, in.Marker)
	out := &iam.GetAccountAuthorizationDetailsOutput{Marker: next, IsTruncated: next != nil}
	for _, v := range one {
		switch v := v.(type) {
		case iamtypes.RoleDetail:
			out.RoleDetailList = append(out.RoleDetailList, v)
		case iamtypes.UserDetail:
			out.UserDetailList = append(out.UserDetailList, v)
		case iamtypes.GroupDetail:
			out.GroupDetailList = append(out.GroupDetailList, v)
		case iamtypes.ManagedPolicyDetail:
			out.Policies = append(out.Policies, v)
		}
	}
	return out, f.asked("iam:GetAccountAuthorizationDetails")
}

func (f *liveFake) GetAccountSummary(context.Context, *iam.GetAccountSummaryInput, ...func(*iam.Options)) (*iam.GetAccountSummaryOutput, error) {
	return &iam.GetAccountSummaryOutput{SummaryMap: f.summary}, f.asked("iam:GetAccountSummary")
}

func (f *liveFake) ListAccessKeys(_ context.Context, in *iam.ListAccessKeysInput, _ ...func(*iam.Options)) (*iam.ListAccessKeysOutput, error) {
	out := &iam.ListAccessKeysOutput{}
	for range f.keysOf[*in.UserName] {
		out.AccessKeyMetadata = append(out.AccessKeyMetadata, iamtypes.AccessKeyMetadata{Status: iamtypes.StatusTypeActive})
	}
	return out, f.asked("iam:ListAccessKeys")
}

func (f *liveFake) SimulatePrincipalPolicy(_ context.Context, in *iam.SimulatePrincipalPolicyInput, _ ...func(*iam.Options)) (*iam.SimulatePrincipalPolicyOutput, error) {
	out := &iam.SimulatePrincipalPolicyOutput{}
	for _, a := range in.ActionNames {
		for _, r := range in.ResourceArns {
			out.EvaluationResults = append(out.EvaluationResults, iamtypes.EvaluationResult{EvalActionName: &a, EvalResourceName: &r, EvalDecision: f.simulate})
		}
	}
	return out, f.asked("iam:SimulatePrincipalPolicy")
}
