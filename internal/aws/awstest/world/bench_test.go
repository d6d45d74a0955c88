package world_test

import (
	"fmt"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdkddb "github.com/aws/aws-sdk-go-v2/service/dynamodb"
)

// BenchmarkPutItem is one call, with its signature on both sides, TLS, the
// policies and the write: what the world adds to a measurement.
func BenchmarkPutItem(b *testing.B) {
	w, inst := deployed(b)
	c := sdkddb.NewFromConfig(as(w, "generator"))
	for i := 0; b.Loop(); i++ {
		_, err := c.PutItem(ctx, &sdkddb.PutItemInput{TableName: out(inst, "foundation", "RecordsTableArn"), Item: item("order/a", fmt.Sprintf("%09d", i)),
			ConditionExpression: aws.String("attribute_not_exists(#pk)"), ExpressionAttributeNames: map[string]string{"#pk": "pk"}})
		must(b, err)
	}
}
