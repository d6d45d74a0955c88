package ops

import (
	"github.com/aws/aws-sdk-go-v2/service/cloudformation"
	"github.com/aws/aws-sdk-go-v2/service/cloudtrail"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/eventbridge"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/signer"
)

// NewClients makes the clients of an account. It makes no call.
func NewClients(a *Account) Clients {
	here := a.Config("")
	return Clients{
		Lambda: lambda.NewFromConfig(here), Signer: signer.NewFromConfig(here), KMS: KMSIn(a),
		DynamoDB: dynamodb.NewFromConfig(here), S3: s3.NewFromConfig(here),
		CloudTrail: cloudtrail.NewFromConfig(here), EventBridge: eventbridge.NewFromConfig(here),
		CloudFormation: cloudformation.NewFromConfig(here), IAM: iam.NewFromConfig(a.GlobalConfig()),
		Code: direct{here.HTTPClient},
	}
}

// KMSIn gives the KMS client of a region.
func KMSIn(a *Account) func(region string) KMSReader {
	return func(region string) KMSReader { return kms.NewFromConfig(a.Config(region)) }
}
