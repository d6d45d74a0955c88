package dynamodb

import (
	"context"
	"errors"
	"fmt"
	"reflect"

	sdk "github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/stakeseal/stakeseal/record"
)

// unchanged lets an item be put in the place of one that still has the digest
// over all of it that the writer saw. Two items with the same digest are the
// same item, so nothing in it can have changed unseen.
func unchanged(before item) condition {
	return condition{"#sum = :before", map[string]string{"#sum": attrSum}, item{":before": before[attrSum]}}
}

// swap puts an item in the place of one that was seen, or of none (nil). It
// returns nil once it stands there, be it by an attempt of this very call whose
// answer was lost; else what stands there instead.
func (s *Store) swap(ctx context.Context, table string, it, before item) (stands item, err error) {
	if table == "" {
		return nil, errNoTable
	}
	c := absent
	if before != nil {
		c = unchanged(before)
	}
	_, err = call(ctx, "PutItem", func(ctx context.Context) (*sdk.PutItemOutput, error) {
		return s.client.PutItem(ctx, &sdk.PutItemInput{
			TableName: &table, Item: it,
			ConditionExpression: &c.expression, ExpressionAttributeNames: c.names, ExpressionAttributeValues: c.values,
			ReturnValuesOnConditionCheckFailure: types.ReturnValuesOnConditionCheckFailureAllOld,
		})
	})
	var failed *types.ConditionalCheckFailedException
	if !errors.As(err, &failed) {
		return nil, err
	}
	stands = failed.Item
	if len(stands) == 0 { // none, or a server that does not return it
		if stands, err = s.get(ctx, table, it.key()); err != nil {
			return nil, err
		}
	}
	switch {
	case stands == nil:
		return nil, errVanished
	case reflect.DeepEqual(stands, it):
		return nil, nil
	}
	return stands, nil
}

// wholly refuses an item that is not, attribute for attribute, the one that
// what was read from it makes: a change of any of them, its key, and one that
// does not belong there are found.
func wholly(it, again item) error {
	if !reflect.DeepEqual(it, again) {
		return corrupt(it, errors.New("it is not as it was written, or belongs elsewhere"))
	}
	return nil
}

// digest is over the lines of what an item says, and the table that it stands
// in: an item of another installation does not read here. Text is quoted, so
// that no two sets of lines are the same bytes.
func digest(lines ...any) types.AttributeValue {
	var text []byte
	for _, l := range lines {
		switch l := l.(type) {
		case string:
			text = fmt.Appendf(text, "%q\n", l)
		case []byte:
			text = fmt.Appendf(text, "%x\n", l)
		default: // numbers and bools
			text = fmt.Appendf(text, "%d\n", l)
		}
	}
	d := record.DigestOf(text)
	return bin(d[:])
}

// swaps is how often a change is tried again because another came first.
const swaps = 32

// errContended is a change that others always came before.
var errContended = errors.New("others changed it again and again")

func flag(b bool) uint64 {
	if b {
		return 1
	}
	return 0
}
