package stack

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
)

// kind says what CloudFormation returns for a resource of a type. In patterns
// {id} is the physical id, {hash} digits that stand for what AWS makes up.
type kind struct {
	name string            // the property that names it; without one AWS makes a name up
	id   string            // pattern of the physical id, where it is neither
	arn  string            // "" for what has none
	ref  string            // pattern of Ref; "" is the physical id
	atts map[string]string // patterns of GetAtt; {arn} is the ARN
	tags string            // the property for tags, "" where the type takes none
}

var arnAtt = map[string]string{"Arn": "{arn}"}

// kinds are the types that the templates use. Any other is an error.
var kinds = map[string]kind{
	"AWS::IAM::Role":              {name: "RoleName", arn: "arn:{partition}:iam::{account}:role/{id}", atts: arnAtt, tags: "Tags"},
	"AWS::IAM::ManagedPolicy":     {name: "ManagedPolicyName", arn: "arn:{partition}:iam::{account}:policy/{id}", ref: "{arn}"},
	"AWS::IAM::InstanceProfile":   {name: "InstanceProfileName", arn: "arn:{partition}:iam::{account}:instance-profile/{id}", atts: arnAtt},
	"AWS::KMS::Key":               {id: "{uuid}", arn: "arn:{partition}:kms:{region}:{account}:key/{id}", atts: map[string]string{"Arn": "{arn}", "KeyId": "{id}"}, tags: "Tags"},
	"AWS::KMS::Alias":             {name: "AliasName", arn: "arn:{partition}:kms:{region}:{account}:{id}"},
	"AWS::DynamoDB::Table":        {name: "TableName", arn: "arn:{partition}:dynamodb:{region}:{account}:table/{id}", atts: arnAtt, tags: "Tags"},
	"AWS::S3::Bucket":             {name: "BucketName", arn: "arn:{partition}:s3:::{id}", atts: arnAtt, tags: "Tags"},
	"AWS::S3::BucketPolicy":       {},
	"AWS::Signer::SigningProfile": {id: "SigningProfile_{hash}", arn: "arn:{partition}:signer:{region}:{account}:/signing-profiles/{id}", atts: map[string]string{"Arn": "{arn}", "ProfileName": "{id}", "ProfileVersion": "{hash}", "ProfileVersionArn": "{arn}/{hash}"}, tags: "Tags"},
	"AWS::Lambda::Function":       {name: "FunctionName", arn: "arn:{partition}:lambda:{region}:{account}:function:{id}", atts: arnAtt, tags: "Tags"},
	"AWS::Lambda::CodeSigningConfig": {id: "csc-{hash}", arn: "arn:{partition}:lambda:{region}:{account}:code-signing-config:{id}", ref: "{arn}",
		atts: map[string]string{"CodeSigningConfigArn": "{arn}", "CodeSigningConfigId": "{id}"}, tags: "Tags"},
	"AWS::Lambda::EventInvokeConfig":        {},
	"AWS::Logs::LogGroup":                   {name: "LogGroupName", arn: "arn:{partition}:logs:{region}:{account}:log-group:{id}", atts: map[string]string{"Arn": "{arn}:*"}, tags: "Tags"},
	"AWS::EC2::VPC":                         {id: "vpc-{hash}", arn: "arn:{partition}:ec2:{region}:{account}:vpc/{id}", atts: map[string]string{"VpcId": "{id}"}, tags: "Tags"},
	"AWS::EC2::Subnet":                      {id: "subnet-{hash}", arn: "arn:{partition}:ec2:{region}:{account}:subnet/{id}", atts: map[string]string{"SubnetId": "{id}"}, tags: "Tags"},
	"AWS::EC2::RouteTable":                  {id: "rtb-{hash}", arn: "arn:{partition}:ec2:{region}:{account}:route-table/{id}", atts: map[string]string{"RouteTableId": "{id}"}, tags: "Tags"},
	"AWS::EC2::SubnetRouteTableAssociation": {id: "rtbassoc-{hash}"},
	"AWS::EC2::SecurityGroup":               {id: "sg-{hash}", arn: "arn:{partition}:ec2:{region}:{account}:security-group/{id}", atts: map[string]string{"GroupId": "{id}"}, tags: "Tags"},
	"AWS::EC2::SecurityGroupEgress":         {id: "sgr-{hash}"},
	"AWS::EC2::SecurityGroupIngress":        {id: "sgr-{hash}"},
	"AWS::EC2::VPCEndpoint":                 {id: "vpce-{hash}", arn: "arn:{partition}:ec2:{region}:{account}:vpc-endpoint/{id}", atts: map[string]string{"Id": "{id}"}, tags: "Tags"},
	"AWS::Scheduler::ScheduleGroup":         {name: "Name", arn: "arn:{partition}:scheduler:{region}:{account}:schedule-group/{id}", atts: arnAtt, tags: "Tags"},
	"AWS::Scheduler::Schedule":              {name: "Name", arn: "arn:{partition}:scheduler:{region}:{account}:schedule/{group}/{id}", atts: arnAtt},
	"AWS::SQS::Queue":                       {name: "QueueName", arn: "arn:{partition}:sqs:{region}:{account}:{id}", ref: "https://sqs.{region}.amazonaws.com/{account}/{id}", atts: map[string]string{"Arn": "{arn}", "QueueName": "{id}"}, tags: "Tags"},
	"AWS::SQS::QueuePolicy":                 {},
	"AWS::SNS::Topic":                       {name: "TopicName", arn: "arn:{partition}:sns:{region}:{account}:{id}", ref: "{arn}", atts: map[string]string{"TopicArn": "{arn}", "TopicName": "{id}"}, tags: "Tags"},
	"AWS::SNS::TopicPolicy":                 {},
	"AWS::SNS::Subscription":                {},
	"AWS::Events::Rule":                     {name: "Name", arn: "arn:{partition}:events:{region}:{account}:rule/{id}", atts: arnAtt, tags: "Tags"},
	"AWS::CloudTrail::Trail":                {name: "TrailName", arn: "arn:{partition}:cloudtrail:{region}:{account}:trail/{id}", atts: arnAtt, tags: "Tags"},
	"AWS::Config::ConfigurationRecorder":    {name: "Name"},
	"AWS::Config::DeliveryChannel":          {name: "Name"},
	"AWS::Config::ConfigRule":               {name: "ConfigRuleName", arn: "arn:{partition}:config:{region}:{account}:config-rule/config-rule-{hash}", atts: arnAtt},
	"AWS::CloudWatch::Alarm":                {name: "AlarmName", arn: "arn:{partition}:cloudwatch:{region}:{account}:alarm:{id}", atts: arnAtt, tags: "Tags"},
}

// made returns digits in place of what AWS makes up: the same for the same
// stack and logical id, so that what is written down of them stays.
func made(stack, id string) string {
	sum := sha256.Sum256([]byte(stack + "\x00" + id))
	return hex.EncodeToString(sum[:])
}

func uuid(hash string) string {
	return fmt.Sprintf("%s-%s-4%s-8%s-%s", hash[:8], hash[8:12], hash[13:16], hash[17:20], hash[20:32])
}

// fill replaces the braces of a pattern.
func (s *deployment) fill(pattern string, r *Resource) string {
	hash := made(r.Stack, r.LogicalID)
	return strings.NewReplacer("{partition}", s.partition, "{region}", s.options.Region, "{account}", s.options.Account,
		"{id}", r.PhysicalID, "{arn}", r.ARN, "{uuid}", uuid(hash), "{hash}", hash[:17]).Replace(pattern)
}

// Taggable says whether resources of a type take tags.
func Taggable(resourceType string) bool { return kinds[resourceType].tags != "" }
