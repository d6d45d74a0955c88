package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"runtime/debug"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"filippo.io/age"
	sdkdynamodb "github.com/aws/aws-sdk-go-v2/service/dynamodb"

	"github.com/stakeseal/stakeseal/birth"
	"github.com/stakeseal/stakeseal/eth"
	"github.com/stakeseal/stakeseal/internal/aws/awskms"
	"github.com/stakeseal/stakeseal/internal/aws/awstest"
	"github.com/stakeseal/stakeseal/internal/aws/awstest/call"
	"github.com/stakeseal/stakeseal/internal/aws/awstest/tables"
	"github.com/stakeseal/stakeseal/internal/aws/dynamodb"
	"github.com/stakeseal/stakeseal/internal/aws/session"
	"github.com/stakeseal/stakeseal/internal/canary"
	"github.com/stakeseal/stakeseal/internal/config"
	"github.com/stakeseal/stakeseal/internal/runtimeapi"
	"github.com/stakeseal/stakeseal/keygen"
	"github.com/stakeseal/stakeseal/keygen/mnemonic"
	"github.com/stakeseal/stakeseal/record"
	"github.com/stakeseal/stakeseal/seal"
	"github.com/stakeseal/stakeseal/unseal"
)

// sky is AWS for one function, in this process: KMS with its policies, the
// records table, the archive bucket. Everything between the handler and the
// HTTP requests is the real thing.
type sky struct {
	t        *testing.T
	kms      *awstest.KMS
	table    *tables.Store
	server   *httptest.Server
	settings fstest.MapFS
	environ  []string
	log      lockedBuffer
	traffic  lockedBuffer
	key      string // that certifies

	signing  *unseal.Opener // identities beside the KMS keys
	recovery *unseal.Opener

	mu      sync.Mutex
	objects map[string][]byte
	refuse  func(action string) *call.Failure // of DynamoDB's and S3's calls
}

// mayOnly is a key policy under which the generator may do what is listed.
func mayOnly(actions ...string) string {
	list, _ := json.Marshal(actions)
	return fmt.Sprintf(`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":%q},"Action":%s,"Resource":"*"}]}`,
		awstest.Role("stakeseal-hoodi-generator"), list)
}

func newSky(t *testing.T) *sky {
	t.Helper()
	s := &sky{t: t, objects: map[string][]byte{}, table: tables.New()}
	// What tune sets is of the process; a test leaves it as it was.
	percent, limit := debug.SetGCPercent(100), debug.SetMemoryLimit(-1)
	debug.SetGCPercent(percent)
	t.Cleanup(func() { debug.SetGCPercent(percent); debug.SetMemoryLimit(limit) })
	var err error
	s.kms, err = awstest.NewKMS(testRegion)
	must(t, err)
	t.Cleanup(func() { must(t, s.kms.Close()) })
	s.key, err = s.kms.CreateKey(awstest.P256, mayOnly("kms:Sign", "kms:GetPublicKey"))
	must(t, err)
	must(t, s.table.Make(tables.Table{ARN: testTable, Hash: "pk", Range: "sk"}))
	s.server = httptest.NewServer(s)
	t.Cleanup(s.server.Close)

	s.settings = fstest.MapFS{config.GeneratorFile: {Data: []byte(`version: 1
network: hoodi
withdrawal_addresses: {cold: "` + address + `"}
max_validators_per_order: 20000
seal_to: {signing: [pool, signing], recovery: [vault, recovery]}
certifier: awskms:` + s.key + `
store: dynamodb:` + testTable + `
archive: s3:` + testBucket + `
`)}}
	for _, name := range []string{"pool", "vault"} {
		key, err := s.kms.CreateKey(awstest.Symmetric, mayOnly("kms:Encrypt"))
		must(t, err)
		s.settings["recipients/"+name+".txt"] = &fstest.MapFile{Data: []byte(awskms.Prefix + key + "\n")}
	}
	for _, name := range []string{"signing", "recovery"} {
		id, err := age.GenerateX25519Identity()
		must(t, err)
		s.settings["recipients/"+name+".txt"] = &fstest.MapFile{Data: []byte(id.Recipient().String() + "\n")}
		opener := unseal.NewOpener(unseal.Age(id, name))
		if name == "signing" {
			s.signing = opener
		} else {
			s.recovery = opener
		}
	}
	who, err := s.kms.Credentials("stakeseal-hoodi-generator").Retrieve(t.Context())
	must(t, err)
	s.environ = with(lambdaEnvironment("127.0.0.1:9001"), "AWS_ACCESS_KEY_ID="+who.AccessKeyID, "AWS_SECRET_ACCESS_KEY="+who.SecretAccessKey, "AWS_SESSION_TOKEN="+who.SessionToken)
	return s
}

// ServeHTTP tells the services apart as their names would.
func (s *sky) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	_, _ = fmt.Fprintf(&s.traffic, "%s %s %v\n", r.Method, r.URL, r.Header)
	_, _ = s.traffic.Write(body)
	target := r.Header.Get("X-Amz-Target")
	switch {
	case strings.HasPrefix(target, "TrentService."):
		s.kms.ServeHTTP(w, r)
	case strings.HasPrefix(target, "DynamoDB_20120810."):
		open := call.Open{Service: s.table, Protocol: call.JSON10, Region: testRegion, Account: testAccount}
		if f := s.refused("dynamodb:" + strings.TrimPrefix(target, "DynamoDB_20120810.")); f != nil {
			open.Judge = func(*call.Call) *call.Failure { return f }
		}
		open.ServeHTTP(w, r)
	default:
		s.object(w, r, body)
	}
}

func (s *sky) refused(action string) *call.Failure {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.refuse == nil {
		return nil
	}
	return s.refuse(action)
}

// object is as much of S3 as an archive asks for: put if absent, get.
func (s *sky) object(w http.ResponseWriter, r *http.Request, body []byte) {
	fail := func(status int, code string) {
		w.WriteHeader(status)
		_, _ = fmt.Fprintf(w, `<?xml version="1.0"?><Error><Code>%s</Code><Message>no</Message></Error>`, code)
	}
	if !strings.HasPrefix(r.URL.Path, "/stakeseal-hoodi-archive-"+testAccount+"/") || r.Header.Get("X-Amz-Expected-Bucket-Owner") != testAccount {
		fail(http.StatusForbidden, "AccessDenied")
		return
	}
	if f := s.refused("s3:" + r.Method); f != nil {
		fail(f.Status, f.Code)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	there, ok := s.objects[r.URL.Path]
	switch {
	case r.Method == http.MethodPut && ok:
		fail(http.StatusPreconditionFailed, "PreconditionFailed")
	case r.Method == http.MethodPut && r.Header.Get("If-None-Match") == "*":
		s.objects[r.URL.Path] = body
	case r.Method == http.MethodGet && ok:
		sum := sha256.Sum256(there)
		w.Header().Set("X-Amz-Checksum-Sha256", base64.StdEncoding.EncodeToString(sum[:]))
		w.Header().Set("Content-Length", fmt.Sprint(len(there)))
		_, _ = w.Write(there)
	case r.Method == http.MethodGet:
		fail(http.StatusNotFound, "NoSuchKey")
	default:
		fail(http.StatusBadRequest, "InvalidRequest")
	}
}

func (s *sky) options() session.Options {
	return session.Options{Endpoint: s.server.URL, Backoff: func(int) time.Duration { return 0 }}
}

// handler starts the function, with lines of the environment changed.
func (s *sky) handler(change ...string) (*handler, error) {
	w, cleaned, err := clean(with(s.environ, change...))
	must(s.t, err)
	h, err := newHandler(s.t.Context(), w, cleaned, s.settings, s.options(), &facts{to: &s.log, now: time.Now}, time.Now())
	if err == nil {
		h.flow.Backoff = func(int) time.Duration { return 0 }
	}
	return h, err
}

func (s *sky) started(change ...string) *handler {
	s.t.Helper()
	h, err := s.handler(change...)
	must(s.t, err)
	return h
}

func (s *sky) request(order string, count uint32, kdf string) birth.Request {
	a, err := eth.ParseAddress(address)
	must(s.t, err)
	return birth.Request{Schema: birth.RequestSchema, Order: order, Network: "hoodi", Count: count, To: count,
		WithdrawalAddress: a, Plan: []eth.Gwei{32e9}, Keystore: kdf}
}

// invoke hands the handler one event as the runtime does.
func (s *sky) invoke(h *handler, event any, deadline time.Duration) (*birth.Answer, []byte, *runtimeapi.Failure) {
	s.t.Helper()
	data, ok := event.([]byte)
	if !ok {
		var err error
		data, err = json.Marshal(event)
		must(s.t, err)
	}
	inv := runtimeapi.Invocation{ID: "7d1f5b4e-3c2a-4f61-9e80-0a1b2c3d4e5f", Event: data, Function: testAlias, Deadline: time.Now().Add(deadline)}
	ctx, cancel := context.WithDeadline(s.t.Context(), inv.Deadline)
	defer cancel()
	out, err := h.serve(ctx, inv)
	var failure *runtimeapi.Failure
	if err != nil && !errors.As(err, &failure) {
		s.t.Fatalf("an error that is no failure: %v", err)
	}
	if failure != nil {
		return nil, nil, failure
	}
	var a birth.Answer
	must(s.t, json.Unmarshal(out, &a))
	if a.Schema != birth.AnswerSchema {
		s.t.Errorf("the answer's schema is %q", a.Schema)
	}
	return &a, out, nil
}

// last is the last fact of a kind.
func (s *sky) last(fact string) map[string]any {
	s.t.Helper()
	var last map[string]any
	for line := range bytes.Lines(s.log.bytes()) {
		var v map[string]any
		if err := json.Unmarshal(line, &v); err != nil || len(line) > 2000 {
			s.t.Fatalf("a line of %d bytes: %v: %.200s", len(line), err, line)
		}
		if v["fact"] == fact {
			last = v
		}
	}
	if last == nil {
		s.t.Fatalf("no fact %q in %s", fact, s.log.bytes())
	}
	return last
}

// records is the table as an auditor reads it.
func (s *sky) records() *dynamodb.Store {
	who, err := session.EnvironmentCredentials(s.environ)
	must(s.t, err)
	store, err := dynamodb.New(sdkdynamodb.NewFromConfig(session.New(testRegion, who, s.options())), dynamodb.Tables{Records: testTable})
	must(s.t, err)
	return store
}

// calls counts what the trail has of an action that was done.
func (s *sky) calls(action string) (ids []string) {
	for _, e := range s.kms.Trail() {
		if e.Action == action && e.Error == "" {
			ids = append(ids, e.RequestID)
		}
	}
	return ids
}

const long = time.Hour // more than any order here takes

// noSecrets is G3: what was logged, sent and stored has no secret in it, nor
// has the log the credentials.
func (s *sky) noSecrets(h *handler, atLeast int) {
	t := s.t
	t.Helper()
	ctx, store := t.Context(), s.records()
	var needles canary.Needles
	for o, err := range store.Orders(ctx) {
		must(t, err)
		for m, err := range store.Mnemonics(ctx, o.ID) {
			must(t, err)
			opened, err := s.recovery.Mnemonic(ctx, m.Sealing.File, seal.RecoveryBinding("hoodi", o.ID, m.ID))
			must(t, err)
			needles.Add("words of "+m.ID, opened.Words.Expose())
			phrase, err := mnemonic.Parse(opened.Words, mnemonic.English)
			must(t, err)
			needles.Add("seed of "+m.ID, phrase.Seed(nil).Expose())
			maker, err := keygen.NewMaker(phrase.Seed(nil))
			must(t, err)
			var indexes []uint32
			for i := m.From; i < m.To; i++ {
				indexes = append(indexes, i)
			}
			made, err := maker.Make(ctx, keygen.Spec{Network: h.flow.Network, KDF: keygen.None}, indexes, nil)
			must(t, err)
			for _, v := range made {
				needles.Add(fmt.Sprintf("key %d of %s", v.Index, m.ID), v.Secret.Expose())
			}
		}
		for row, err := range store.Validators(ctx, record.Query{Order: o.ID}) {
			must(t, err)
			b, err := store.Birth(ctx, row.Pubkey)
			must(t, err)
			opened, err := s.signing.Key(ctx, b.Sealing.File, seal.SigningBinding("hoodi", o.ID, b.Index, b.Pubkey))
			must(t, err)
			needles.Add(fmt.Sprintf("opened key %d of %s", b.Index, o.ID), opened.Key.Raw().Expose())
			if opened.Password != nil {
				needles.Add(fmt.Sprintf("password %d of %s", b.Index, o.ID), opened.Password.Expose())
			}
		}
	}
	if needles.Len() < atLeast {
		t.Fatalf("only %d forms to search for", needles.Len())
	}
	places := map[string][]byte{"the log": s.log.bytes(), "the traffic": s.traffic.bytes(), "the table": s.table.Dump()}
	for name, object := range s.objects {
		places[name] = object
	}
	for where, data := range places {
		if len(data) == 0 {
			t.Errorf("%s is empty", where)
		}
		if found := needles.In(data); len(found) > 0 {
			t.Errorf("%s holds %v", where, found)
		}
	}
	for _, line := range s.environ {
		if name, value, _ := strings.Cut(line, "="); strings.Contains(name, "SECRET") || strings.Contains(name, "TOKEN") {
			if bytes.Contains(s.log.bytes(), []byte(value)) {
				t.Errorf("the log holds %s", name)
			}
		}
	}
}
