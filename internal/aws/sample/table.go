package sample

import (
	"context"
	"fmt"
	"reflect"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/stakeseal/stakeseal/internal/aws/arn"
	"github.com/stakeseal/stakeseal/internal/aws/session"
)

// maxRows bounds a table: some 4 KB a row are held at once, since a pubkey
// that stands twice is only seen when all are.
const maxRows = 250_000

// Scanner is what reading the table needs of DynamoDB. *dynamodb.Client has it.
type Scanner interface {
	Scan(context.Context, *dynamodb.ScanInput, ...func(*dynamodb.Options)) (*dynamodb.ScanOutput, error)
}

// Scan reads the whole table, strongly consistent, page by page. (The sample's
// partition key says which Web3Signer a row is for, and only the table knows
// which there are; so no query would find all.) A page that fails fails all: a
// short list never looks whole.
func Scan(ctx context.Context, client Scanner, tableARN string) (rows []Read, err error) {
	const operation = "dynamodb:Scan"
	if _, err := arn.Table(tableARN); err != nil {
		return nil, fmt.Errorf("couldn't read the sample's table: %w", err)
	}
	in := &dynamodb.ScanInput{TableName: &tableARN, ConsistentRead: aws.Bool(true)}
	for {
		out, err := client.Scan(ctx, in)
		if err != nil {
			return nil, fmt.Errorf("couldn't read the sample's table: %w", session.Classify(operation, err))
		}
		for _, item := range out.Items {
			rows = append(rows, read(values(item)))
		}
		if len(rows) > maxRows {
			return nil, fmt.Errorf("couldn't read the sample's table: more than %d rows", maxRows)
		}
		if len(out.LastEvaluatedKey) == 0 { // a page may be empty and not the last
			return rows, nil
		}
		if reflect.DeepEqual(out.LastEvaluatedKey, in.ExclusiveStartKey) {
			return nil, session.Malformed(operation, "", "a page ends where it began")
		}
		in.ExclusiveStartKey = out.LastEvaluatedKey
	}
}

func values(item map[string]types.AttributeValue) map[string]value {
	out := make(map[string]value, len(item))
	for name, v := range item {
		switch v := v.(type) {
		case *types.AttributeValueMemberS:
			out[name] = value{text: &v.Value}
		case *types.AttributeValueMemberBOOL:
			out[name] = value{truth: &v.Value}
		default:
			out[name] = value{}
		}
	}
	return out
}
