package dynamodb

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/stakeseal/stakeseal/eth"
	"github.com/stakeseal/stakeseal/record"
)

// maxItem is DynamoDB's bound on an item, names and values together.
const maxItem = 400 << 10

// Attributes. docs/formats/dynamodb.md says what each holds.
const (
	attrPK           = "pk"
	attrSK           = "sk"
	attrRecord       = "record"
	attrSum          = "sha256"
	attrValidator    = "validator"
	attrValidatorSum = "validator_sha256"
	attrSealing      = "sealing"
	attrCertificate  = "certificate"
	attrRecordSum    = "record_sha256"
	attrOrder        = "order_id"
	attrIndex        = "idx"
	attrEpoch        = "epoch"
	attrAt           = "at"

	byTime = "by-time" // the local secondary index of events

	mnemonicPrefix = "mnemonic/"
	birthPrefix    = "birth/"
	notePrefix     = "note/"
	oncePrefix     = "once/"
)

// key is the primary key of an item.
type key struct{ pk, sk string }

// All orders share a partition: that an order's claim is its place in the
// list leaves no moment in which it is the one without being the other.
func orderKey(id string) key { return key{"orders", id} }

// isID says whether an order or a lease of that id can be. No other is asked for:
// an empty or very long key is an error to DynamoDB.
func isID(order string) bool { return record.CheckID(order) == nil }

func mnemonicKey(order, id string) key { return key{"order/" + order, mnemonicPrefix + id} }

// Ten digits hold every index below 2^31, so that items sort by index.
func birthKey(order string, index uint32) key {
	return key{"order/" + order, fmt.Sprintf("%s%010d", birthPrefix, index)}
}

// pubkeyKey spreads pubkeys, which are evenly distributed, over 16
// partitions by their first digit: sixteen times a partition's throughput,
// and still one partition for any prefix.
func pubkeyKey(pubkey eth.Pubkey) key {
	digits := pubkey.Hex()
	return key{pubkeyPartition(digits[:1]), digits}
}

func pubkeyPartition(digit string) string { return "pubkey/" + digit }

const hexDigits = "0123456789abcdef"

func checkPrefix(what, prefix string) error {
	if len(prefix) > 96 || strings.Trim(prefix, hexDigits) != "" {
		return fmt.Errorf("couldn't list %s: pubkey prefix %.100q is not up to 96 lower-case hex digits", what, prefix)
	}
	return nil
}

func (k key) item() item { return item{attrPK: str(k.pk), attrSK: str(k.sk)} }

// item is an item as the SDK holds it.
type item map[string]types.AttributeValue

func str(s string) types.AttributeValue { return &types.AttributeValueMemberS{Value: s} }
func bin(b []byte) types.AttributeValue { return &types.AttributeValueMemberB{Value: b} }
func number(n uint64) types.AttributeValue {
	return &types.AttributeValueMemberN{Value: strconv.FormatUint(n, 10)}
}
func sum(data []byte) types.AttributeValue     { d := record.DigestOf(data); return bin(d[:]) }
func same(a, b types.AttributeValue) bool      { return a != nil && reflect.DeepEqual(a, b) }
func (it item) same(other item, n string) bool { return same(it[n], other[n]) }

// text returns the string attribute, or "".
func (it item) text(name string) string {
	s, _ := it[name].(*types.AttributeValueMemberS)
	if s == nil {
		return ""
	}
	return s.Value
}

func (it item) bytes(name string) []byte {
	b, _ := it[name].(*types.AttributeValueMemberB)
	if b == nil {
		return nil
	}
	return b.Value
}

func (it item) number(name string) (uint64, bool) {
	n, _ := it[name].(*types.AttributeValueMemberN)
	if n == nil {
		return 0, false
	}
	v, err := strconv.ParseUint(n.Value, 10, 64)
	return v, err == nil
}

func (it item) key() key { return key{it.text(attrPK), it.text(attrSK)} }

// size is what DynamoDB counts: names and values. A number takes up to 21
// bytes. Only the types that this package writes are known.
func (it item) size() (n int) {
	for name, v := range it {
		n += len(name)
		switch v := v.(type) {
		case *types.AttributeValueMemberS:
			n += len(v.Value)
		case *types.AttributeValueMemberB:
			n += len(v.Value)
		default:
			n += 21
		}
	}
	return n
}

// withRecord is the item at k that holds a record in its one form.
func withRecord(k key, data []byte) item {
	it := k.item()
	it[attrRecord], it[attrSum] = str(string(data)), sum(data)
	return it
}

// corrupt is an item that is not what was written there.
func corrupt(it item, err error) error {
	k := it.key()
	return fmt.Errorf("item %.120q %.120q: %w: %w", k.pk, k.sk, record.ErrCorrupt, err)
}

// decode reads the record of an attribute and checks the digest noted with it
// and that its key is the one it was found under.
func decode[T any](it item, attr, attrSum string, read func([]byte) (T, error), under func(T) key) (T, error) {
	var zero T
	data := []byte(it.text(attr))
	if d := record.DigestOf(data); !bytes.Equal(d[:], it.bytes(attrSum)) {
		return zero, corrupt(it, fmt.Errorf("the sha256 of %q is %s, noted was %x", attr, d, it.bytes(attrSum)))
	}
	v, err := read(data)
	if err != nil {
		return zero, corrupt(it, plain(err))
	}
	if want := under(v); want != it.key() {
		return zero, corrupt(it, fmt.Errorf("its record belongs under %q %q", want.pk, want.sk))
	}
	return v, nil
}

// plain drops ErrFormat from an error about what was read: to a caller that
// sentinel says that its own record was refused.
func plain(err error) error { return errors.New(err.Error()) }

func (it item) order() (record.Order, error) {
	return decode(it, attrRecord, attrSum, record.DecodeOrder, func(o record.Order) key { return orderKey(o.ID) })
}

func (it item) mnemonic() (record.Mnemonic, error) {
	return decode(it, attrRecord, attrSum, record.DecodeMnemonic, func(m record.Mnemonic) key { return mnemonicKey(m.Order, m.ID) })
}

func (it item) validator() (record.Validator, error) {
	return decode(it, attrValidator, attrValidatorSum, record.DecodeValidator, func(v record.Validator) key { return birthKey(v.Order, v.Index) })
}

// birthItem holds a birth in three parts, so that lists can leave the large
// ones out and nothing is stored twice. The digest is of the whole.
func birthItem(b record.Birth) (item, error) {
	whole, err := record.EncodeBirth(b)
	if err != nil {
		return nil, err
	}
	validator, err := record.EncodeValidator(b.Validator)
	if err != nil {
		return nil, err
	}
	sealing, err := json.Marshal(b.Sealing)
	if err != nil {
		return nil, err
	}
	it := birthKey(b.Order, b.Index).item()
	it[attrValidator], it[attrValidatorSum] = str(string(validator)), sum(validator)
	it[attrSealing], it[attrCertificate], it[attrRecordSum] = str(string(sealing)), str(string(b.Certificate)), sum(whole)
	return it, nil
}

func (it item) birth() (record.Birth, error) {
	v, err := it.validator()
	if err != nil {
		return record.Birth{}, err
	}
	b := record.Birth{Validator: v, Certificate: json.RawMessage(it.text(attrCertificate))}
	if err := json.Unmarshal([]byte(it.text(attrSealing)), &b.Sealing); err != nil {
		return record.Birth{}, corrupt(it, err)
	}
	data, err := record.EncodeBirth(b)
	if err != nil {
		return record.Birth{}, corrupt(it, plain(err))
	}
	if d := record.DigestOf(data); !bytes.Equal(d[:], it.bytes(attrRecordSum)) {
		return record.Birth{}, corrupt(it, fmt.Errorf("the birth's sha256 is %s, noted was %x", d, it.bytes(attrRecordSum)))
	}
	return b, nil
}

// validatorAttributes are those of a birth that a list needs.
var validatorAttributes = []string{attrPK, attrSK, attrValidator, attrValidatorSum}

// projection names the attributes to return; every name goes through #, as
// DynamoDB reserves several hundred words.
func projection(attributes []string, names map[string]string) (*string, map[string]string) {
	if len(attributes) == 0 {
		return nil, names
	}
	if names == nil {
		names = map[string]string{}
	}
	parts := make([]string, len(attributes))
	for i, a := range attributes {
		parts[i] = "#" + a
		names["#"+a] = a
	}
	return aws.String(strings.Join(parts, ", ")), names
}

// query selects items of one partition.
type query struct {
	table, pk  string
	index      string // byTime, or none
	prefix     string // of the sort key, or none
	attributes []string
}

// pages yields what q selects, page by page (of up to 1 MB), in the order of
// the sort key or of the index. It ends with the error if one fails.
func (s *Store) pages(ctx context.Context, q query) iter.Seq2[[]item, error] {
	return func(yield func([]item, error) bool) {
		if q.table == "" {
			yield(nil, errNoTable)
			return
		}
		in := &sdk.QueryInput{
			TableName: &q.table, ConsistentRead: aws.Bool(true),
			KeyConditionExpression:    aws.String("#pk = :pk"),
			ExpressionAttributeValues: item{":pk": str(q.pk)},
		}
		names := map[string]string{"#pk": attrPK}
		if q.prefix != "" {
			in.KeyConditionExpression = aws.String("#pk = :pk AND begins_with(#sk, :prefix)")
			names["#sk"], in.ExpressionAttributeValues[":prefix"] = attrSK, str(q.prefix)
		}
		if q.index != "" {
			in.IndexName = &q.index
		}
		in.ProjectionExpression, in.ExpressionAttributeNames = projection(q.attributes, names)
		for {
			out, err := call(ctx, "Query", func(ctx context.Context) (*sdk.QueryOutput, error) { return s.client.Query(ctx, in) })
			if err != nil {
				yield(nil, err)
				return
			}
			page := make([]item, len(out.Items))
			for i := range out.Items {
				page[i] = out.Items[i]
			}
			// A page may be empty and not the last: only the key tells.
			if !yield(page, nil) || len(out.LastEvaluatedKey) == 0 {
				return
			}
			if reflect.DeepEqual(out.LastEvaluatedKey, in.ExclusiveStartKey) {
				yield(nil, fmt.Errorf("a page of %q ends where it began", q.pk))
				return
			}
			in.ExclusiveStartKey = out.LastEvaluatedKey
		}
	}
}

// list yields the items of pages as read returns them, each list error once
// and last, as "couldn't list what: ...". read takes a page at once; it may
// leave items out.
func list[T any](ctx context.Context, what string, pages iter.Seq2[[]item, error], read func([]item) ([]T, error)) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		var zero T
		for page, err := range pages {
			var values []T
			if err == nil {
				values, err = read(page)
			}
			if err != nil {
				yield(zero, fmt.Errorf("couldn't list %s: %w", what, err))
				return
			}
			for _, v := range values {
				if err := ctx.Err(); err != nil { // a short list never looks whole
					yield(zero, fmt.Errorf("couldn't list %s: %w", what, err))
					return
				}
				if !yield(v, nil) {
					return
				}
			}
		}
	}
}

// each is a read that takes items one by one.
func each[T any](read func(item) (T, error)) func([]item) ([]T, error) {
	return func(page []item) ([]T, error) {
		out := make([]T, 0, len(page))
		for _, it := range page {
			v, err := read(it)
			if err != nil {
				return nil, err
			}
			out = append(out, v)
		}
		return out, nil
	}
}

// readers is how many GetItem calls one page of claims makes at once.
const readers = 8

// atOnce is each with several reads at once; nil results are left out.
func atOnce[T any](read func(item) (*T, error)) func([]item) ([]T, error) {
	return func(page []item) ([]T, error) {
		found, errs := make([]*T, len(page)), make([]error, len(page))
		var wg sync.WaitGroup
		for worker := range min(readers, len(page)) {
			wg.Go(func() {
				for i := worker; i < len(page); i += readers {
					if found[i], errs[i] = read(page[i]); errs[i] != nil {
						return
					}
				}
			})
		}
		wg.Wait()
		if i := slices.IndexFunc(errs, func(err error) bool { return err != nil }); i >= 0 {
			return nil, errs[i]
		}
		out := make([]T, 0, len(page))
		for _, v := range found {
			if v != nil {
				out = append(out, *v)
			}
		}
		return out, nil
	}
}

// spread yields what q selects in the partition of each digit, one after the
// other.
func (s *Store) spread(ctx context.Context, digits string, partition func(digit string) string, q query) iter.Seq2[[]item, error] {
	return func(yield func([]item, error) bool) {
		for _, digit := range digits {
			q.pk = partition(string(digit))
			for page, err := range s.pages(ctx, q) {
				if !yield(page, err) || err != nil {
					return
				}
			}
		}
	}
}

// failed is a list that is only an error.
func failed[T any](err error) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		var zero T
		yield(zero, err)
	}
}
