// Package dynamodb is a store in DynamoDB tables: one for orders, mnemonics
// and births, one for assignments, one for events, one for the slashing ledger
// and one for the leases of signers, so that the right to record a birth is
// not the right to assign a key, nor that the right to sign for it.
//
// It promises what the ports of record and slashing ask, by conditional writes
// of single items. It calls GetItem, PutItem and Query, the three methods of
// API, and no other action; every PutItem carries a condition under which it
// replaces nothing (an assignment: nothing but the epoch before; a mark or a
// lease: nothing but what was read and judged). Every read is
// strongly consistent; there is no global secondary index. Items, keys and
// which method calls which action are in docs/formats/dynamodb.md.
//
// It trusts DynamoDB to keep what it acknowledged and to evaluate conditions.
// Nobody else can force a condition onto a PutItem: whoever holds that right
// (the generator's role too, were its code another) can replace an item, which
// the certificates and the archive stand against. The digest beside each
// record finds accidents, not them.
package dynamodb

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/stakeseal/stakeseal/internal/aws/arn"
	"github.com/stakeseal/stakeseal/internal/aws/session"
	"github.com/stakeseal/stakeseal/record"
)

// API is what this package can ask of DynamoDB; the SDK's client, made from a
// configuration of package session, has it. A retry inside it is harmless: a
// condition that fails because the first attempt was applied is recognised by
// reading the item.
type API interface {
	GetItem(context.Context, *sdk.GetItemInput, ...func(*sdk.Options)) (*sdk.GetItemOutput, error)
	PutItem(context.Context, *sdk.PutItemInput, ...func(*sdk.Options)) (*sdk.PutItemOutput, error)
	Query(context.Context, *sdk.QueryInput, ...func(*sdk.Options)) (*sdk.QueryOutput, error)
}

// Tables are the ARNs of the store's tables, all in one region and account.
// The ARN, not the name, is sent with each call: a table of that name in the
// account of other credentials is never taken for it. All but Records may be
// empty where the role has no right to them; their methods then fail.
type Tables struct{ Records, Assignments, Events, Ledger, Leases string }

// beside are the tables beside that of the records, by what they hold.
func (t *Tables) beside() map[string]*string {
	return map[string]*string{"assignments": &t.Assignments, "events": &t.Events, "ledger": &t.Ledger, "leases": &t.Leases}
}

// callTimeout bounds one call with all its retries: a caller without a
// deadline of its own is not held by a table that throttles for ever.
const callTimeout = 30 * time.Second

var (
	_ record.Births      = (*Store)(nil)
	_ record.Reader      = (*Store)(nil)
	_ record.Catalog     = (*Store)(nil)
	_ record.Assignments = (*Store)(nil)
	_ record.Events      = (*Store)(nil)
)

// Store is the tables as ports. Its methods are safe for concurrent use.
type Store struct {
	client API
	tables Tables

	// What is written once stays true once read. PutBirth asks for the same
	// order and mnemonic each time.
	mu        sync.Mutex
	orders    map[string]record.Order
	mnemonics map[[2]string]record.Mnemonic // by order and id, without the sealing
}

// maxKnown bounds what a Store remembers, in entries of each map.
const maxKnown = 256

// New returns the store in the tables. It makes no call.
func New(client API, tables Tables) (*Store, error) {
	if client == nil {
		return nil, errors.New("couldn't use the DynamoDB store: no client")
	}
	first, err := arn.Table(tables.Records)
	if err != nil {
		return nil, fmt.Errorf("couldn't use the DynamoDB store: records: %w", err)
	}
	seen := map[string]bool{tables.Records: true}
	for what, given := range tables.beside() {
		text := *given
		if text == "" {
			continue
		}
		a, err := arn.Table(text)
		if err != nil {
			return nil, fmt.Errorf("couldn't use the DynamoDB store: %s: %w", what, err)
		}
		if a.Partition != first.Partition || a.Region != first.Region || a.Account != first.Account {
			return nil, fmt.Errorf("couldn't use the DynamoDB store: table %q is not in the region and account of %q", text, tables.Records)
		}
		if seen[text] { // one right for two purposes
			return nil, fmt.Errorf("couldn't use the DynamoDB store: table %q is given twice", text)
		}
		seen[text] = true
	}
	return &Store{
		client: client, tables: tables,
		orders: map[string]record.Order{}, mnemonics: map[[2]string]record.Mnemonic{},
	}, nil
}

// call runs one call of the API under the bound. Its error is a Fault of
// package session and never one of record's sentinels: a table that is missing
// is not a record that is.
func call[T any](ctx context.Context, operation string, f func(context.Context) (T, error)) (T, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	out, err := f(ctx)
	return out, session.Classify("dynamodb:"+operation, err)
}

// get reads one item, or returns nil if there is none. Only the attributes
// named are returned; none named is all.
func (s *Store) get(ctx context.Context, table string, k key, attributes ...string) (item, error) {
	in := &sdk.GetItemInput{TableName: &table, Key: k.item(), ConsistentRead: aws.Bool(true)}
	in.ProjectionExpression, in.ExpressionAttributeNames = projection(attributes, nil)
	out, err := call(ctx, "GetItem", func(ctx context.Context) (*sdk.GetItemOutput, error) { return s.client.GetItem(ctx, in) })
	if err != nil {
		return nil, err
	}
	if len(out.Item) == 0 {
		return nil, nil
	}
	return out.Item, nil
}

// A condition under which an item may be put. There is no empty one.
type condition struct {
	expression string
	names      map[string]string
	values     item
}

// absent lets an item be put where none is.
var absent = condition{"attribute_not_exists(#pk)", map[string]string{"#pk": "pk"}, nil}

// put writes one item under the condition. applied is false if the condition
// did not hold; that includes the item of this very call, put by an attempt
// whose answer was lost, so the caller looks what is there.
func (s *Store) put(ctx context.Context, table string, it item, c condition) (applied bool, err error) {
	if table == "" {
		return false, errNoTable
	}
	if n := it.size(); n > maxItem {
		return false, fmt.Errorf("%w: an item of %d bytes, more than %d", record.ErrFormat, n, maxItem)
	}
	_, err = call(ctx, "PutItem", func(ctx context.Context) (*sdk.PutItemOutput, error) {
		return s.client.PutItem(ctx, &sdk.PutItemInput{
			TableName: &table, Item: it,
			ConditionExpression: &c.expression, ExpressionAttributeNames: c.names, ExpressionAttributeValues: c.values,
		})
	})
	var failed *types.ConditionalCheckFailedException
	if errors.As(err, &failed) {
		return false, nil
	}
	return err == nil, err
}

// putOnce puts an item whose record is the one fact about its key. One that is
// there must hold the same record, and read as one.
func (s *Store) putOnce(ctx context.Context, it item, read func(stored item) error) error {
	applied, err := s.put(ctx, s.tables.Records, it, absent)
	if err != nil || applied {
		return err
	}
	stored, err := s.get(ctx, s.tables.Records, it.key())
	switch {
	case err != nil:
		return err
	case stored == nil:
		return errVanished
	case !stored.same(it, attrRecord):
		return record.ErrConflict
	}
	return read(stored)
}

func discard[T any](_ T, err error) error { return err }

// errNoTable is a method whose table this role was not given.
var errNoTable = errors.New("no table for it in the settings")

// errVanished is an item that a condition found and a consistent read did
// not. Nothing here deletes: the outcome is unknown.
var errVanished = errors.New("an item is there and then is not: it was deleted, or the table is not what it seems")
