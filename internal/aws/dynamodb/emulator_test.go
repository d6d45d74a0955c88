package dynamodb

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	sdk "github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	create "github.com/stakeseal/stakeseal/internal/aws/dynamodb/tables"
	"github.com/stakeseal/stakeseal/internal/aws/session"
	"github.com/stakeseal/stakeseal/record"
	"github.com/stakeseal/stakeseal/record/recordtest"
)

// The emulators were written by others, from DynamoDB's own documentation and
// behaviour. Neither checks who calls.
var emulators = map[string]struct {
	variable   string                 // holds its URL
	path, says string                 // what it says there, at the start
	answered   func(http.Header) bool // whether an answer is its own
}{
	"dynalite": {
		"STAKESEAL_DYNALITE", "/", "healthy: dynamodb.",
		func(h http.Header) bool { return h.Get("x-amz-crc32") != "" && h.Get("Server") == "" }, // DynamoDB has both
	},
	"moto": {
		"STAKESEAL_MOTO", "/moto-api/data.json", "{",
		func(h http.Header) bool { return strings.HasPrefix(h.Get("Server"), "Werkzeug/") },
	},
}

// TestEmulators runs the suites over dynalite and moto. internal/aws/emulators.sh
// installs and starts both.
func TestEmulators(t *testing.T) {
	for name, e := range emulators {
		t.Run(name, func(t *testing.T) {
			endpoint := os.Getenv(e.variable)
			if endpoint == "" {
				if os.Getenv("CI") == "true" && os.Getenv("STAKESEAL_EMULATORS") == "required" {
					t.Fatalf("%s is not set, and the emulators are required", e.variable)
				}
				t.Skipf("%s is not set: not run against %s (see internal/aws/emulators.sh)", e.variable, name)
			}
			answer, err := http.Get(endpoint + e.path)
			must(t, err)
			defer answer.Body.Close()
			text, err := io.ReadAll(io.LimitReader(answer.Body, 1<<16))
			must(t, err)
			if !strings.HasPrefix(string(text), e.says) {
				t.Fatalf("%s is not %s: it says %.100q", endpoint, name, text)
			}
			for port, suite := range suites {
				t.Run(port, func(t *testing.T) {
					suite(t, "*dynamodb.Store on "+name, func(t testing.TB) recordtest.Opened {
						return onEmulator(t, name, endpoint, e.answered)
					})
				})
			}
			signerSuites(t, name, func(t testing.TB) (func(testing.TB) *Store, string) {
				o := onEmulator(t, name, endpoint, e.answered)
				return func(t testing.TB) *Store { return o.Again(t).(*Store) }, o.Name
			})
		})
	}
}

var opened atomic.Int64

// onEmulator opens a store in new tables of an emulator.
func onEmulator(t testing.TB, name, endpoint string, ours func(http.Header) bool) recordtest.Opened {
	t.Helper()
	cfg := session.New("eu-central-1", credentials.NewStaticCredentialsProvider("AKIDTEST", "test", "test"), session.Options{Endpoint: endpoint})
	wire := &witness{next: cfg.HTTPClient, ours: ours}
	if name == "moto" {
		wire.one = &oneAtATime
	}
	cfg.HTTPClient = wire
	client := sdk.NewFromConfig(cfg)
	suffix := fmt.Sprintf("-%d-%d", os.Getpid(), opened.Add(1))
	own := Tables{tables.Records + suffix, tables.Assignments + suffix, tables.Events + suffix, tables.Ledger + suffix, tables.Leases + suffix}
	short := func(arn string) string { return path.Base(arn) }
	for _, in := range []*sdk.CreateTableInput{create.Records(short(own.Records)), create.Assignments(short(own.Assignments)), create.Events(short(own.Events)),
		create.Ledger(short(own.Ledger)), create.Leases(short(own.Leases))} {
		err := create.Create(ctx, client, in)
		// There already: the answer to a first attempt was lost. No other test has the name.
		if there := (*types.ResourceInUseException)(nil); errors.As(err, &there) {
			err = sdk.NewTableExistsWaiter(client).Wait(ctx, &sdk.DescribeTableInput{TableName: in.TableName}, time.Minute)
		}
		must(t, err)
	}
	t.Cleanup(func() { // an emulator keeps everything in memory
		for _, arn := range []string{own.Records, own.Assignments, own.Events, own.Ledger, own.Leases} {
			_, err := client.DeleteTable(ctx, &sdk.DeleteTableInput{TableName: aws.String(short(arn))})
			// Gone already: the answer to a first attempt was lost.
			if gone := (*types.ResourceNotFoundException)(nil); err != nil && !errors.As(err, &gone) {
				t.Error(err)
			}
		}
	})
	open := func(t testing.TB) *Store {
		s, err := New(named{client}, own)
		must(t, err)
		return s
	}
	s := open(t)
	// A first call, so that the name is that of the backend that answered it.
	if _, err := s.Order(ctx, "none"); !errors.Is(err, record.ErrNotFound) {
		t.Fatalf("an empty store: %v", err)
	}
	answeredBy := name
	if wire.foreign.Load() > 0 || wire.own.Load() == 0 {
		answeredBy = "another server"
	}
	t.Cleanup(func() {
		if n := wire.foreign.Load(); n > 0 {
			t.Errorf("%d answers are not from %s", n, name)
		}
	})
	return recordtest.Opened{
		Store: s, Name: fmt.Sprintf("%T on %s", s, answeredBy),
		Again: func(t testing.TB) recordtest.Store { return open(t) },
	}
}

// witness counts whose answers they were.
type witness struct {
	next         aws.HTTPClient
	ours         func(http.Header) bool
	own, foreign atomic.Int64
	one          *sync.Mutex // when not nil, held by one request at a time
}

// oneAtATime is for moto, which looks at a condition and then writes, with
// other threads in between: a condition holds there for one request at a time
// only. dynalite runs in one thread, and DynamoDB promises it.
var oneAtATime sync.Mutex

func (w *witness) Do(r *http.Request) (*http.Response, error) {
	if w.one != nil {
		w.one.Lock()
		defer w.one.Unlock()
	}
	answer, err := w.next.Do(r)
	if err == nil {
		if w.ours(answer.Header) {
			w.own.Add(1)
		} else {
			w.foreign.Add(1)
		}
	}
	return answer, err
}

// named sends a table's name where DynamoDB takes its ARN, too: neither
// emulator does. That the ARN is sent is TestConformance's to see.
type named struct{ client *sdk.Client }

func (n named) GetItem(ctx context.Context, in *sdk.GetItemInput, o ...func(*sdk.Options)) (*sdk.GetItemOutput, error) {
	short := *in
	short.TableName = aws.String(path.Base(*in.TableName))
	return n.client.GetItem(ctx, &short, o...)
}

func (n named) PutItem(ctx context.Context, in *sdk.PutItemInput, o ...func(*sdk.Options)) (*sdk.PutItemOutput, error) {
	short := *in
	short.TableName = aws.String(path.Base(*in.TableName))
	return n.client.PutItem(ctx, &short, o...)
}

func (n named) Query(ctx context.Context, in *sdk.QueryInput, o ...func(*sdk.Options)) (*sdk.QueryOutput, error) {
	short := *in
	short.TableName = aws.String(path.Base(*in.TableName))
	return n.client.Query(ctx, &short, o...)
}
