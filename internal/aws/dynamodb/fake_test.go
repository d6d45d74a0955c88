package dynamodb

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/credentials"
	sdk "github.com/aws/aws-sdk-go-v2/service/dynamodb"

	"github.com/stakeseal/stakeseal/internal/aws/session"
)

// fake is DynamoDB on the wire, as far as this package may use it: it takes
// GetItem, PutItem and Query alone, refuses a write without a condition, a
// read that is not strongly consistent, and every expression but the few that
// are known. What it takes, the emulators must take too.
type fake struct {
	mu     sync.Mutex
	tables map[string]map[key]rawItem
	calls  []wireCall
	page   int  // items of a Query's page
	stuck  bool // every page of a Query is empty and leads to itself
	terse  bool // a failed condition does not return what stands there, as of servers that do not know how

	// gate holds the first PutItems back until so many are there at once.
	gate    chan struct{}
	gated   int
	waiting atomic.Int64

	// fault says what becomes of attempt n, from 1.
	fault func(n int) fate
}

// rawItem is an item in DynamoDB's JSON: name, type, value.
type rawItem map[string]map[string]string

// wireCall is an attempt that reached the fake.
type wireCall struct {
	Operation, Table, Index, Condition string
	Key                                key
	Applied                            bool
}

type fate int

const (
	answered fate = iota
	lost          // applied, but the connection breaks before the answer
	unsent        // not applied: the connection breaks before
	throttled
	missing // as if the table were gone
	denied
)

var tables = Tables{
	Records:     "arn:aws:dynamodb:eu-central-1:111122223333:table/stakeseal-records",
	Assignments: "arn:aws:dynamodb:eu-central-1:111122223333:table/stakeseal-assignments",
	Events:      "arn:aws:dynamodb:eu-central-1:111122223333:table/stakeseal-events",
	Ledger:      "arn:aws:dynamodb:eu-central-1:111122223333:table/stakeseal-ledger",
	Leases:      "arn:aws:dynamodb:eu-central-1:111122223333:table/stakeseal-leases",
}

func newFake() *fake {
	return &fake{
		page: 37,
		tables: map[string]map[key]rawItem{
			tables.Records: {}, tables.Assignments: {}, tables.Events: {}, tables.Ledger: {}, tables.Leases: {},
		},
	}
}

// client speaks to the fake through the SDK and the session that the programs
// use; only the wait between attempts is left out.
func (f *fake) client() *sdk.Client {
	cfg := session.New("eu-central-1", credentials.NewStaticCredentialsProvider("AKIDTEST", "test", "test"), session.Options{
		Endpoint: "http://127.0.0.1:1", Backoff: func(int) time.Duration { return 0 },
	})
	cfg.HTTPClient = f
	return sdk.NewFromConfig(cfg)
}

func (f *fake) store(t testing.TB) *Store {
	t.Helper()
	s, err := New(f.client(), tables)
	must(t, err)
	return s
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// Do implements aws.HTTPClient.
func (f *fake) Do(r *http.Request) (*http.Response, error) {
	if err := r.Context().Err(); err != nil {
		return nil, err
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	if f.gate != nil && strings.HasSuffix(r.Header.Get("X-Amz-Target"), ".PutItem") {
		if f.waiting.Add(1) == int64(f.gated) {
			close(f.gate)
		}
		select {
		case <-f.gate:
		case <-r.Context().Done():
			return nil, r.Context().Err()
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	operation, ours := strings.CutPrefix(r.Header.Get("X-Amz-Target"), "DynamoDB_20120810.")
	if !ours || r.Header.Get("Authorization") == "" {
		return answer(400, "UnknownOperationException", "not a signed DynamoDB call")
	}
	f.calls = append(f.calls, wireCall{Operation: operation})
	c := &f.calls[len(f.calls)-1]
	what := answered
	if f.fault != nil {
		what = f.fault(len(f.calls))
	}
	switch what {
	case unsent:
		return nil, errors.New("connection refused")
	case throttled:
		return answer(400, "ProvisionedThroughputExceededException", "too many requests")
	case missing:
		return answer(400, "ResourceNotFoundException", "Requested resource not found")
	case denied:
		return answer(400, "AccessDeniedException", "not authorized to perform")
	}
	var out any
	switch operation {
	case "GetItem":
		out, err = f.get(c, body)
	case "PutItem":
		out, err = f.put(c, body)
	case "Query":
		out, err = f.query(c, body)
	default:
		err = fmt.Errorf("ValidationException: operation %q", operation)
	}
	if what == lost && err != nil {
		return nil, errors.New("connection reset by peer")
	}
	if refused := (refusal{}); errors.As(err, &refused) && refused.stands != nil {
		data, err := json.Marshal(map[string]any{"__type": "com.amazonaws.dynamodb.v20120810#ConditionalCheckFailedException", "message": "The conditional request failed", "Item": refused.stands})
		return response(400, data), err
	}
	if err != nil {
		class, message, _ := strings.Cut(err.Error(), ": ")
		return answer(400, class, message)
	}
	c.Applied = true
	if what == lost {
		return nil, errors.New("connection reset by peer")
	}
	data, err := json.Marshal(out)
	if err != nil {
		return nil, err
	}
	return response(200, data), nil
}

func answer(status int, class, message string) (*http.Response, error) {
	data, err := json.Marshal(map[string]string{"__type": "com.amazonaws.dynamodb.v20120810#" + class, "message": message})
	return response(status, data), err
}

func response(status int, data []byte) *http.Response {
	return &http.Response{
		StatusCode: status, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: http.Header{"Content-Type": {"application/x-amz-json-1.0"}}, ContentLength: int64(len(data)),
		Body: io.NopCloser(bytes.NewReader(data)),
	}
}

// refusal is a condition that did not hold, and what stands there if it was
// asked for.
type refusal struct{ stands rawItem }

func (refusal) Error() string {
	return "ConditionalCheckFailedException: The conditional request failed"
}

func invalid(format string, args ...any) error {
	return fmt.Errorf("ValidationException: "+format, args...)
}

// read decodes a request strictly: a field that the fake does not know could
// mean anything.
func read(body []byte, into any) error {
	dec := json.NewDecoder(bytes.NewReader(body))
	dec.DisallowUnknownFields()
	if err := dec.Decode(into); err != nil {
		return invalid("%v", err)
	}
	return nil
}

func (f *fake) table(c *wireCall, name string) (map[key]rawItem, error) {
	c.Table = name
	table, ok := f.tables[name]
	if !ok {
		return nil, fmt.Errorf("ResourceNotFoundException: table %q", name)
	}
	return table, nil
}

func (it rawItem) key() (key, error) {
	k := key{it["pk"]["S"], it["sk"]["S"]}
	if k.pk == "" || k.sk == "" || len(k.pk) > 2048 || len(k.sk) > 1024 {
		return k, invalid("key %q", k)
	}
	return k, nil
}

// project returns the attributes that the expression names.
func project(it rawItem, expression string, names map[string]string) (rawItem, error) {
	if expression == "" {
		return it, nil
	}
	out := rawItem{}
	for part := range strings.SplitSeq(expression, ", ") {
		name, ok := names[part]
		if !ok {
			return nil, invalid("projection %q", expression)
		}
		if v, ok := it[name]; ok {
			out[name] = v
		}
	}
	return out, nil
}

func (f *fake) get(c *wireCall, body []byte) (any, error) {
	var in struct {
		TableName, ProjectionExpression string
		Key                             rawItem
		ConsistentRead                  bool
		ExpressionAttributeNames        map[string]string
	}
	if err := read(body, &in); err != nil {
		return nil, err
	}
	table, err := f.table(c, in.TableName)
	if err != nil {
		return nil, err
	}
	if c.Key, err = in.Key.key(); err != nil || len(in.Key) != 2 {
		return nil, invalid("key of %d attributes: %v", len(in.Key), err)
	}
	if !in.ConsistentRead {
		return nil, invalid("a read that may lag")
	}
	it, ok := table[c.Key]
	if !ok {
		return map[string]any{}, nil
	}
	it, err = project(it, in.ProjectionExpression, in.ExpressionAttributeNames)
	return map[string]any{"Item": it}, err
}

func (f *fake) put(c *wireCall, body []byte) (any, error) {
	var in struct {
		TableName, ConditionExpression      string
		ReturnValuesOnConditionCheckFailure string
		Item                                rawItem
		ExpressionAttributeNames            map[string]string
		ExpressionAttributeValues           map[string]map[string]string
	}
	if err := read(body, &in); err != nil {
		return nil, err
	}
	table, err := f.table(c, in.TableName)
	if err != nil {
		return nil, err
	}
	if c.Key, err = in.Item.key(); err != nil {
		return nil, err
	}
	c.Condition = in.ConditionExpression
	size := 0
	for name, v := range in.Item {
		size += len(name)
		if len(v) != 1 {
			return nil, invalid("attribute %q of %d types", name, len(v))
		}
		for kind, value := range v {
			if size += len(value); kind == "B" {
				size -= len(value) / 4
			}
		}
	}
	if size > 400<<10 {
		return nil, invalid("Item size has exceeded the maximum allowed size")
	}
	old, there := table[c.Key]
	holds := false
	switch in.ConditionExpression {
	case "attribute_not_exists(#pk)":
		holds = !there && in.ExpressionAttributeNames["#pk"] == "pk"
	case "#epoch = :before":
		before := in.ExpressionAttributeValues[":before"]["N"]
		holds = there && before != "" && old[in.ExpressionAttributeNames["#epoch"]]["N"] == before
	case "#sum = :before":
		before := in.ExpressionAttributeValues[":before"]["B"]
		holds = there && before != "" && old[in.ExpressionAttributeNames["#sum"]]["B"] == before
	default:
		return nil, invalid("condition %q", in.ConditionExpression)
	}
	if !holds {
		refused := refusal{}
		if in.ReturnValuesOnConditionCheckFailure == "ALL_OLD" && there && !f.terse {
			refused.stands = old
		}
		return nil, refused
	}
	table[c.Key] = in.Item
	return map[string]any{}, nil
}

func (f *fake) query(c *wireCall, body []byte) (any, error) {
	var in struct {
		TableName, IndexName, KeyConditionExpression, ProjectionExpression string
		ConsistentRead                                                     bool
		ExpressionAttributeNames                                           map[string]string
		ExpressionAttributeValues                                          map[string]map[string]string
		ExclusiveStartKey                                                  rawItem
	}
	if err := read(body, &in); err != nil {
		return nil, err
	}
	table, err := f.table(c, in.TableName)
	if err != nil {
		return nil, err
	}
	c.Index, c.Key.pk = in.IndexName, in.ExpressionAttributeValues[":pk"]["S"]
	sortKey, prefix := "sk", ""
	switch {
	case !in.ConsistentRead:
		return nil, invalid("a read that may lag")
	case in.ExpressionAttributeNames["#pk"] != "pk" || c.Key.pk == "":
		return nil, invalid("no partition")
	case in.KeyConditionExpression == "#pk = :pk AND begins_with(#sk, :prefix)" && in.ExpressionAttributeNames["#sk"] == "sk":
		prefix = in.ExpressionAttributeValues[":prefix"]["S"]
	case in.KeyConditionExpression != "#pk = :pk":
		return nil, invalid("key condition %q", in.KeyConditionExpression)
	}
	switch {
	case in.IndexName == "":
	case in.IndexName == "by-time" && in.TableName == tables.Events && prefix == "":
		sortKey = "at"
	default:
		return nil, invalid("index %q of %q", in.IndexName, in.TableName)
	}
	if f.stuck {
		return map[string]any{"Items": []rawItem{}, "LastEvaluatedKey": rawItem{"pk": {"S": c.Key.pk}, "sk": {"S": "x"}}}, nil
	}
	after := in.ExclusiveStartKey[sortKey]["S"]
	var found []rawItem
	for _, it := range table {
		if it["pk"]["S"] == c.Key.pk && strings.HasPrefix(it["sk"]["S"], prefix) && it[sortKey]["S"] > after {
			found = append(found, it)
		}
	}
	slices.SortFunc(found, func(a, b rawItem) int { return strings.Compare(a[sortKey]["S"], b[sortKey]["S"]) })
	out := map[string]any{}
	// As DynamoDB does, a full page names its last key even if nothing follows.
	if len(found) >= f.page {
		found = found[:f.page]
		last := rawItem{}
		for _, name := range []string{"pk", "sk", sortKey} {
			last[name] = found[len(found)-1][name]
		}
		out["LastEvaluatedKey"] = last
	}
	items := make([]rawItem, len(found))
	for i, it := range found {
		if items[i], err = project(it, in.ProjectionExpression, in.ExpressionAttributeNames); err != nil {
			return nil, err
		}
	}
	out["Items"], out["Count"] = items, len(items)
	return out, nil
}

// taken returns the attempts since the last time and forgets them.
func (f *fake) taken() []wireCall {
	f.mu.Lock()
	defer f.mu.Unlock()
	calls := f.calls
	f.calls = nil
	return calls
}

// dump is everything stored, as text in a fixed order.
func (f *fake) dump() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	var out strings.Builder
	for _, name := range slices.Sorted(maps.Keys(f.tables)) {
		for _, k := range slices.SortedFunc(maps.Keys(f.tables[name]), func(a, b key) int {
			return strings.Compare(a.pk+"\x00"+a.sk, b.pk+"\x00"+b.sk)
		}) {
			data, err := json.Marshal(f.tables[name][k])
			if err != nil {
				panic(err)
			}
			out.WriteString(name + " " + strconv.Quote(k.pk) + " " + strconv.Quote(k.sk) + " " + string(data) + "\n")
		}
	}
	return out.String()
}
