package tables

import (
	"context"
	"errors"
	"fmt"
	"net/http/httptest"
	"os"
	"path"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	sdk "github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/smithy-go"

	"github.com/stakeseal/stakeseal/eth"
	"github.com/stakeseal/stakeseal/internal/aws/awstest/call"
	"github.com/stakeseal/stakeseal/internal/aws/dynamodb"
	create "github.com/stakeseal/stakeseal/internal/aws/dynamodb/tables"
	"github.com/stakeseal/stakeseal/internal/aws/session"
	"github.com/stakeseal/stakeseal/record"
	"github.com/stakeseal/stakeseal/record/recordtest"
	"github.com/stakeseal/stakeseal/slashing/slashingtest"
)

const account, region = "111122223333", "us-east-1"

var ctx = context.Background()

func arnOf(name string) string {
	return "arn:aws:dynamodb:" + region + ":" + account + ":table/" + name
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// served is a store with the tables of stakeseal, and a client of it.
func served(t testing.TB) (*Store, *sdk.Client, dynamodb.Tables) {
	t.Helper()
	s := New()
	names := dynamodb.Tables{Records: arnOf("x-records"), Assignments: arnOf("x-assignments"), Events: arnOf("x-events"),
		Ledger: arnOf("x-ledger"), Leases: arnOf("x-leases")}
	must(t, s.Make(Table{ARN: names.Records, Hash: "pk", Range: "sk", DeletionProtection: true, Backups: true}))
	for _, arn := range []string{names.Assignments, names.Ledger, names.Leases} {
		must(t, s.Make(Table{ARN: arn, Hash: "pk", Range: "sk"}))
	}
	must(t, s.Make(Table{ARN: names.Events, Hash: "pk", Range: "sk", Indexes: map[string]string{"by-time": "at"}}))
	server := httptest.NewServer(call.Open{Service: s, Protocol: call.JSON10, Region: region, Account: account})
	t.Cleanup(server.Close)
	return s, clientOf(server.URL), names
}

func clientOf(url string) *sdk.Client {
	return sdk.NewFromConfig(session.New(region, credentials.NewStaticCredentialsProvider("A", "s", "t"), session.Options{
		Endpoint: url, Backoff: func(int) time.Duration { return 0 },
	}))
}

// TestConformance runs the suites of the store's ports over the real client
// package, with pages of a few items. The same suites run over dynalite and
// moto (internal/aws/dynamodb), so that what they ask is answered alike.
func TestConformance(t *testing.T) {
	for port, suite := range map[string]func(*testing.T, string, func(testing.TB) recordtest.Opened){
		"Births": recordtest.Births, "Reader": recordtest.Reader, "Catalog": recordtest.Catalog,
		"Assignments": recordtest.Assignments, "Events": recordtest.Events,
	} {
		t.Run(port, func(t *testing.T) {
			suite(t, "*dynamodb.Store on *tables.Store", func(t testing.TB) recordtest.Opened {
				s, client, names := served(t)
				s.PageOf(17)
				open := func(t testing.TB) *dynamodb.Store {
					store, err := dynamodb.New(client, names)
					must(t, err)
					return store
				}
				store := open(t)
				return recordtest.Opened{Store: store, Name: fmt.Sprintf("%T on %T", store, s),
					Again: func(t testing.TB) recordtest.Store { return open(t) }}
			})
		})
	}
}

// TestSigners runs the suites of what signers ask.
func TestSigners(t *testing.T) {
	const want = "*dynamodb.Store on *tables.Store"
	fresh := func(t testing.TB) (func(testing.TB) *dynamodb.Store, string) {
		s, client, names := served(t)
		s.PageOf(17)
		open := func(t testing.TB) *dynamodb.Store {
			store, err := dynamodb.New(client, names)
			must(t, err)
			return store
		}
		return open, fmt.Sprintf("%T on %T", open(t), s)
	}
	opened := func(t testing.TB, s *dynamodb.Store, signer string) *dynamodb.Ledger {
		if _, err := s.CreateLedger(ctx, signer, eth.Root{1}); err != nil && !errors.Is(err, record.ErrExists) {
			t.Fatal(err)
		}
		l, err := s.OpenLedger(ctx, signer)
		must(t, err)
		return l
	}
	t.Run("Leases", func(t *testing.T) {
		recordtest.Leases(t, want, func(t testing.TB) recordtest.OpenedLeases {
			open, name := fresh(t)
			return recordtest.OpenedLeases{Store: open(t), Name: name, Again: func(t testing.TB) record.Leases { return open(t) }}
		})
	})
	t.Run("Ledger", func(t *testing.T) {
		slashingtest.Ledger(t, want, func(t testing.TB) slashingtest.Opened {
			open, name := fresh(t)
			l := opened(t, open(t), "signer-a")
			must(t, l.Hold(ctx, 1))
			return slashingtest.Opened{Store: l, Name: name, Again: func(t testing.TB) slashingtest.Store { return opened(t, open(t), "signer-a") }}
		})
	})
	t.Run("Shared", func(t *testing.T) {
		slashingtest.Shared(t, want, func(t testing.TB) slashingtest.Installation {
			open, name := fresh(t)
			return slashingtest.Installation{Name: name, Open: func(t testing.TB, signer string) slashingtest.Store { return opened(t, open(t), signer) }}
		})
	})
}

func code(err error) string {
	var api smithy.APIError
	if errors.As(err, &api) {
		return api.ErrorCode()
	}
	return fmt.Sprint(err)
}

func s(text string) types.AttributeValue { return &types.AttributeValueMemberS{Value: text} }

func entry(pk, sk string, more ...string) map[string]types.AttributeValue {
	it := map[string]types.AttributeValue{"pk": s(pk), "sk": s(sk)}
	for i := 0; i+1 < len(more); i += 2 {
		it[more[i]] = s(more[i+1])
	}
	return it
}

// TestOneWins: of many writers under a condition exactly one is told that it
// wrote, and what it wrote is there.
func TestOneWins(t *testing.T) {
	store, client, names := served(t)
	const writers = 32
	var won atomic.Int32
	var winner atomic.Value
	var wg sync.WaitGroup
	for i := range writers {
		wg.Go(func() {
			me := fmt.Sprint(i)
			_, err := client.PutItem(ctx, &sdk.PutItemInput{TableName: &names.Records, Item: entry("a", "b", "who", me),
				ConditionExpression: aws.String("attribute_not_exists(#pk)"), ExpressionAttributeNames: map[string]string{"#pk": "pk"}})
			switch {
			case err == nil:
				won.Add(1)
				winner.Store(me)
			case code(err) != "ConditionalCheckFailedException":
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if won.Load() != 1 || store.Count(names.Records) != 1 {
		t.Fatalf("%d won, %d items", won.Load(), store.Count(names.Records))
	}
	out, err := client.GetItem(ctx, &sdk.GetItemInput{TableName: &names.Records, Key: entry("a", "b")})
	must(t, err)
	if got := out.Item["who"].(*types.AttributeValueMemberS).Value; got != winner.Load() {
		t.Errorf("%s won and %s is there", winner.Load(), got)
	}
	if !strings.Contains(string(store.Dump()), `"who":{"S":"`+winner.Load().(string)) {
		t.Error("the dump does not have it")
	}
}

// TestUnknown: what the fake does not know is an error.
func TestUnknown(t *testing.T) {
	_, client, names := served(t)
	put := func(turn func(*sdk.PutItemInput)) error {
		in := &sdk.PutItemInput{TableName: &names.Records, Item: entry("a", "b")}
		turn(in)
		_, err := client.PutItem(ctx, in)
		return err
	}
	query := func(turn func(*sdk.QueryInput)) error {
		in := &sdk.QueryInput{TableName: &names.Events, KeyConditionExpression: aws.String("#p = :p"),
			ExpressionAttributeNames: map[string]string{"#p": "pk"}, ExpressionAttributeValues: map[string]types.AttributeValue{":p": s("a")}}
		turn(in)
		_, err := client.Query(ctx, in)
		return err
	}
	const invalid, unread, missing = "ValidationException", "SerializationException", "ResourceNotFoundException"
	for name, c := range map[string]struct {
		err  error
		want string
	}{
		"a put":                 {put(func(*sdk.PutItemInput) {}), ""},
		"another condition":     {put(func(in *sdk.PutItemInput) { in.ConditionExpression = aws.String("attribute_exists(pk)") }), invalid},
		"an unused name":        {put(func(in *sdk.PutItemInput) { in.ExpressionAttributeNames = map[string]string{"#pk": "pk"} }), invalid},
		"an undefined name":     {put(func(in *sdk.PutItemInput) { in.ConditionExpression = aws.String("attribute_not_exists(#pk)") }), invalid},
		"no sort key":           {put(func(in *sdk.PutItemInput) { delete(in.Item, "sk") }), invalid},
		"an empty key":          {put(func(in *sdk.PutItemInput) { in.Item["pk"] = s("") }), invalid},
		"a key of another type": {put(func(in *sdk.PutItemInput) { in.Item["pk"] = &types.AttributeValueMemberN{Value: "1"} }), invalid},
		"a number that is none": {put(func(in *sdk.PutItemInput) { in.Item["n"] = &types.AttributeValueMemberN{Value: "x"} }), invalid},
		"too large":             {put(func(in *sdk.PutItemInput) { in.Item["x"] = s(strings.Repeat("x", 400<<10)) }), invalid},
		"the old values":        {put(func(in *sdk.PutItemInput) { in.ReturnValues = "ALL_OLD" }), unread},
		"the capacity":          {put(func(in *sdk.PutItemInput) { in.ReturnConsumedCapacity = "TOTAL" }), unread},
		"another table":         {put(func(in *sdk.PutItemInput) { in.TableName = aws.String("y") }), missing},
		"another region's table": {put(func(in *sdk.PutItemInput) {
			in.TableName = aws.String(strings.Replace(names.Records, "east", "west", 1))
		}), missing},
		"an index key that is not": {put(func(in *sdk.PutItemInput) {
			in.TableName = &names.Events
			in.Item["at"] = &types.AttributeValueMemberN{Value: "1"}
		}), invalid},
		"a query":               {query(func(*sdk.QueryInput) {}), ""},
		"another key condition": {query(func(in *sdk.QueryInput) { in.KeyConditionExpression = aws.String("#p > :p") }), invalid},
		"not of the key":        {query(func(in *sdk.QueryInput) { in.ExpressionAttributeNames["#p"] = "sk" }), invalid},
		"a filter":              {query(func(in *sdk.QueryInput) { in.FilterExpression = aws.String("#p = :p") }), unread},
		"an unknown index":      {query(func(in *sdk.QueryInput) { in.IndexName = aws.String("by-x") }), invalid},
		"an unused value":       {query(func(in *sdk.QueryInput) { in.ExpressionAttributeValues[":q"] = s("b") }), invalid},
		"a start elsewhere":     {query(func(in *sdk.QueryInput) { in.ExclusiveStartKey = entry("b", "b") }), invalid},
		"no page":               {query(func(in *sdk.QueryInput) { in.Limit = aws.Int32(0) }), invalid},
		"UpdateItem": {func() error {
			_, err := client.UpdateItem(ctx, &sdk.UpdateItemInput{TableName: &names.Records, Key: entry("a", "b")})
			return err
		}(), "UnknownOperationException"},
		"DeleteItem": {func() error {
			_, err := client.DeleteItem(ctx, &sdk.DeleteItemInput{TableName: &names.Records, Key: entry("a", "b")})
			return err
		}(), "UnknownOperationException"},
		"BatchWriteItem": {func() error {
			_, err := client.BatchWriteItem(ctx, &sdk.BatchWriteItemInput{RequestItems: map[string][]types.WriteRequest{
				names.Records: {{PutRequest: &types.PutRequest{Item: entry("a", "b")}}}}})
			return err
		}(), "UnknownOperationException"},
		"a key with more": {func() error {
			_, err := client.GetItem(ctx, &sdk.GetItemInput{TableName: &names.Records, Key: entry("a", "b", "c", "d")})
			return err
		}(), invalid},
	} {
		if got := code(c.err); c.want == "" && c.err != nil || c.want != "" && got != c.want {
			t.Errorf("%s: %v, want %q", name, c.err, c.want)
		}
	}
}

// differ runs the same calls here and elsewhere and compares every answer.
func differ(t *testing.T, ours, theirs *sdk.Client, table func(*sdk.Client) *string) {
	t.Helper()
	show := func(c *sdk.Client) (out []string) {
		say := func(what string, v any, err error) {
			if err != nil {
				v = code(err)
			}
			out = append(out, fmt.Sprint(what, " ", v))
		}
		flat := func(items ...map[string]types.AttributeValue) (out []string) {
			for _, it := range items {
				var fields []string
				for name, v := range it {
					fields = append(fields, fmt.Sprintf("%s=%v", name, v))
				}
				for i, f := range fields { // the values' own text, not their addresses
					name, _, _ := strings.Cut(f, "=")
					switch v := it[name].(type) {
					case *types.AttributeValueMemberS:
						fields[i] = name + "=S" + v.Value
					case *types.AttributeValueMemberN:
						fields[i] = name + "=N" + v.Value
					case *types.AttributeValueMemberB:
						fields[i] = name + "=B" + string(v.Value)
					}
				}
				slices.Sort(fields)
				out = append(out, strings.Join(fields, " "))
			}
			return out
		}
		for i, p := range []struct {
			item      map[string]types.AttributeValue
			condition string
			names     map[string]string
			values    map[string]types.AttributeValue
		}{
			{item: entry("a", "x/1", "at", "3")}, {item: entry("a", "x/2", "at", "1")}, {item: entry("a", "y/1", "at", "2")}, {item: entry("b", "x/1")},
			{entry("a", "x/1", "v", "other"), "attribute_not_exists(#pk)", map[string]string{"#pk": "pk"}, nil},
			{entry("a", "x/3", "at", "2"), "attribute_not_exists(#pk)", map[string]string{"#pk": "pk"}, nil},
			{map[string]types.AttributeValue{"pk": s("n"), "sk": s("n"), "epoch": &types.AttributeValueMemberN{Value: "1"}, "b": &types.AttributeValueMemberB{Value: []byte{0, 255}}}, "", nil, nil},
			{entry("n", "n", "epoch", "1"), "#e = :b", map[string]string{"#e": "epoch"}, map[string]types.AttributeValue{":b": &types.AttributeValueMemberN{Value: "2"}}},
			{map[string]types.AttributeValue{"pk": s("n"), "sk": s("n"), "epoch": &types.AttributeValueMemberN{Value: "2"}}, "#e = :b", map[string]string{"#e": "epoch"}, map[string]types.AttributeValue{":b": &types.AttributeValueMemberN{Value: "1"}}},
			{entry("n", "m", "epoch", "1"), "#e = :b", map[string]string{"#e": "epoch"}, map[string]types.AttributeValue{":b": &types.AttributeValueMemberN{Value: "1"}}},
			{entry("", "m"), "", nil, nil},
			{entry("a", "m"), "", map[string]string{"#e": "epoch"}, nil},
			{entry("a", "m"), "attribute_not_exists(#e)", nil, nil},
		} {
			in := &sdk.PutItemInput{TableName: table(c), Item: p.item, ExpressionAttributeNames: p.names, ExpressionAttributeValues: p.values}
			if p.condition != "" {
				in.ConditionExpression = &p.condition
			}
			_, err := c.PutItem(ctx, in)
			say(fmt.Sprint("put ", i), "done", err)
		}
		for _, k := range [][2]string{{"a", "x/1"}, {"a", "x/3"}, {"n", "n"}, {"n", "m"}, {"a", "none"}} {
			for _, projection := range []string{"", "#pk, #at"} {
				in := &sdk.GetItemInput{TableName: table(c), Key: entry(k[0], k[1]), ConsistentRead: aws.Bool(true)}
				if projection != "" {
					in.ProjectionExpression, in.ExpressionAttributeNames = &projection, map[string]string{"#pk": "pk", "#at": "at"}
				}
				got, err := c.GetItem(ctx, in)
				if err == nil {
					say("get", flat(got.Item), nil)
				} else {
					say("get", nil, err)
				}
			}
		}
		for _, prefix := range []string{"", "x/", "z"} {
			for _, index := range []string{"", "by-time"} {
				if index != "" && prefix != "" {
					continue
				}
				in := &sdk.QueryInput{TableName: table(c), ConsistentRead: aws.Bool(true), Limit: aws.Int32(2),
					KeyConditionExpression: aws.String("#pk = :pk"), ExpressionAttributeNames: map[string]string{"#pk": "pk"},
					ExpressionAttributeValues: map[string]types.AttributeValue{":pk": s("a")}}
				if prefix != "" {
					in.KeyConditionExpression = aws.String("#pk = :pk AND begins_with(#sk, :prefix)")
					in.ExpressionAttributeNames["#sk"], in.ExpressionAttributeValues[":prefix"] = "sk", s(prefix)
				}
				if index != "" {
					in.IndexName = &index
				}
				for range 5 {
					got, err := c.Query(ctx, in)
					if err != nil {
						say("query", nil, err)
						break
					}
					say("query "+prefix+index, flat(got.Items...), nil)
					say("next", flat(got.LastEvaluatedKey), nil)
					if in.ExclusiveStartKey = got.LastEvaluatedKey; in.ExclusiveStartKey == nil {
						break
					}
				}
			}
		}
		return out
	}
	a, b := show(ours), show(theirs)
	if len(a) < 20 {
		t.Fatalf("only %d answers", len(a))
	}
	for i := range max(len(a), len(b)) {
		switch {
		case i >= len(a) || i >= len(b):
			t.Fatalf("%d answers here, %d there", len(a), len(b))
		case a[i] != b[i]:
			t.Errorf("here %q, there %q", a[i], b[i])
		}
	}
}

// TestDynalite compares this fake with dynalite, which others wrote from
// DynamoDB's behaviour (see internal/aws/emulators.sh).
func TestDynalite(t *testing.T) {
	endpoint := os.Getenv("STAKESEAL_DYNALITE")
	if endpoint == "" {
		if os.Getenv("CI") == "true" && os.Getenv("STAKESEAL_EMULATORS") == "required" {
			t.Fatal("STAKESEAL_DYNALITE is not set, and the emulators are required")
		}
		t.Skip("STAKESEAL_DYNALITE is not set: not compared with dynalite (see internal/aws/emulators.sh)")
	}
	_, ours, names := served(t)
	theirs := clientOf(endpoint)
	name := fmt.Sprintf("world-events-%d", os.Getpid())
	must(t, create.Create(ctx, theirs, create.Events(name)))
	t.Cleanup(func() { _, _ = theirs.DeleteTable(ctx, &sdk.DeleteTableInput{TableName: &name}) })
	differ(t, ours, theirs, func(c *sdk.Client) *string {
		if c == ours {
			return aws.String(path.Base(names.Events))
		}
		return &name
	})
}

// TestPages: a page ends where it is told to, at 1 MB, and leads to the rest.
func TestPages(t *testing.T) {
	store, client, names := served(t)
	const rows = 9
	for i := range rows {
		_, err := client.PutItem(ctx, &sdk.PutItemInput{TableName: &names.Records, Item: entry("a", fmt.Sprint(i), "x", strings.Repeat("x", 300<<10))})
		must(t, err)
	}
	for name, c := range map[string]struct{ page, limit, want int }{
		"as DynamoDB": {0, 0, 3}, "of one": {1, 0, 10}, "of two": {2, 0, 5}, "of three": {3, 0, 4}, "by the caller": {0, 2, 5}, "of many": {100, 0, 3},
	} {
		store.PageOf(c.page)
		in := &sdk.ScanInput{TableName: &names.Records}
		if c.limit > 0 {
			in.Limit = aws.Int32(int32(c.limit))
		}
		pages, seen := 0, 0
		for {
			out, err := client.Scan(ctx, in)
			must(t, err)
			pages++
			seen += len(out.Items)
			if in.ExclusiveStartKey = out.LastEvaluatedKey; in.ExclusiveStartKey == nil {
				break
			}
		}
		if pages != c.want || seen != rows {
			t.Errorf("%s: %d pages of %d items, want %d", name, pages, seen, c.want)
		}
	}
}

func TestDescribe(t *testing.T) {
	_, client, names := served(t)
	table, err := client.DescribeTable(ctx, &sdk.DescribeTableInput{TableName: &names.Events})
	must(t, err)
	if d := table.Table; *d.TableArn != names.Events || *d.DeletionProtectionEnabled || len(d.LocalSecondaryIndexes) != 1 || d.BillingModeSummary.BillingMode != "PAY_PER_REQUEST" {
		t.Errorf("%+v", d)
	}
	for name, want := range map[string]types.PointInTimeRecoveryStatus{names.Records: "ENABLED", names.Events: "DISABLED"} {
		out, err := client.DescribeContinuousBackups(ctx, &sdk.DescribeContinuousBackupsInput{TableName: &name})
		must(t, err)
		if got := out.ContinuousBackupsDescription.PointInTimeRecoveryDescription.PointInTimeRecoveryStatus; got != want {
			t.Errorf("%s: %s", name, got)
		}
	}
	if _, err := client.DescribeTimeToLive(ctx, &sdk.DescribeTimeToLiveInput{TableName: &names.Records}); err != nil {
		t.Error(err)
	}
	if _, err := client.DescribeKinesisStreamingDestination(ctx, &sdk.DescribeKinesisStreamingDestinationInput{TableName: &names.Records}); err != nil {
		t.Error(err)
	}
	if _, err := client.GetResourcePolicy(ctx, &sdk.GetResourcePolicyInput{ResourceArn: &names.Records}); code(err) != "PolicyNotFoundException" {
		t.Error(err)
	}
}
