package signer_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stakeseal/stakeseal/eth"
	"github.com/stakeseal/stakeseal/eth/bls"
	"github.com/stakeseal/stakeseal/eth/duty"
	"github.com/stakeseal/stakeseal/internal/sqlite"
	"github.com/stakeseal/stakeseal/secret"
	"github.com/stakeseal/stakeseal/signer"
	"github.com/stakeseal/stakeseal/slashing"
)

var (
	ctx      = context.Background()
	hoodi, _ = eth.LookupNetwork("hoodi")
)

const epochNow = 60_000 // by the clock of the tests

func clockNow() time.Time {
	return time.Unix(hoodi.GenesisTime+int64(epochNow*hoodi.SlotsPerEpoch*hoodi.SecondsPerSlot)+5, 0)
}

// bench is a signer with keys, a durable ledger and its API.
type bench struct {
	*signer.Signer
	ledger  *sqlite.Ledger
	clients *signer.Clients
	service *signer.Service
	server  *httptest.Server
	keys    []eth.Pubkey
	log     *safeBuffer

	mu    sync.Mutex
	fence error
}

type safeBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *safeBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *safeBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

func secretKey(t testing.TB, n int) *bls.Key {
	t.Helper()
	seed := secret.Copy(bytes.Repeat([]byte{byte(n), byte(n >> 8), 1}, 16))
	key, err := bls.FromSeed(seed, "m/12381/3600/0/0/0")
	if err != nil {
		t.Fatal(err)
	}
	return key
}

var own = eth.Address{0xaa, 1}

func credentials() (c eth.Credentials) {
	c[0] = 1
	copy(c[12:], own[:])
	return c
}

// newBench makes one with n keys. change may change the configuration.
func newBench(t testing.TB, n int, change func(*signer.Config)) *bench {
	t.Helper()
	path := filepath.Join(t.TempDir(), "ledger.db")
	if _, err := sqlite.CreateLedger(path, "signer-a", hoodi.GenesisValidatorsRoot); err != nil {
		t.Fatal(err)
	}
	ledger, err := sqlite.OpenLedger(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ledger.Close() })
	if err := ledger.Hold(ctx, 1); err != nil {
		t.Fatal(err)
	}
	b := &bench{ledger: ledger, log: &safeBuffer{}, clients: signer.NewClients()}
	c := signer.Config{
		Network: hoodi, Ledger: ledger, Now: clockNow, Patience: time.Minute,
		Log: slog.New(slog.NewTextHandler(b.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
		Fence: func() (uint64, error) {
			b.mu.Lock()
			defer b.mu.Unlock()
			return 1, b.fence
		},
	}
	if change != nil {
		change(&c)
	}
	if b.Signer, err = signer.New(c); err != nil {
		t.Fatal(err)
	}
	var marks []slashing.Mark
	for i := range n {
		key := secretKey(t, i)
		b.keys = append(b.keys, key.Pubkey())
		marks = append(marks, slashing.Mark{Pubkey: key.Pubkey()})
		if err := b.Keys.Put(signer.Key{Pubkey: key.Pubkey(), Secret: key, Credentials: credentials(), Plan: []eth.Gwei{32e9}}); err != nil {
			t.Fatal(err)
		}
	}
	if err := ledger.Add(ctx, 1, marks); err != nil {
		t.Fatal(err)
	}
	b.clients.Anyone(&signer.Client{Name: "local", Operations: signer.Duties()})
	b.service = &signer.Service{Signer: b.Signer, Clients: b.clients}
	b.server = httptest.NewUnstartedServer(nil)
	b.server.Config = b.service.Server()
	b.server.Start()
	t.Cleanup(b.server.Close)
	return b
}

func (b *bench) stop(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.fence = err
}

// body is the body of a request of a kind, as JSON that a test may change.
func forkInfo() map[string]any {
	return map[string]any{
		"fork":                    map[string]any{"previous_version": "0x60000910", "current_version": "0x70000910", "epoch": "50688"},
		"genesis_validators_root": hoodi.GenesisValidatorsRoot.String(),
	}
}

func hexOf(n int, fill byte) string { return fmt.Sprintf("0x%x", bytes.Repeat([]byte{fill}, n)) }

func attestation(source, target uint64, fill byte) map[string]any {
	return map[string]any{"type": "ATTESTATION", "fork_info": forkInfo(), "attestation": map[string]any{
		"slot": fmt.Sprint(target * 32), "index": "0", "beacon_block_root": hexOf(32, fill),
		"source": map[string]any{"epoch": fmt.Sprint(source), "root": hexOf(32, 1)},
		"target": map[string]any{"epoch": fmt.Sprint(target), "root": hexOf(32, 2)}}}
}

func block(slot uint64, fill byte) map[string]any {
	return map[string]any{"type": "BLOCK_V2", "fork_info": forkInfo(), "beacon_block": map[string]any{"version": "FULU", "block_header": map[string]any{
		"slot": fmt.Sprint(slot), "proposer_index": "7", "parent_root": hexOf(32, fill), "state_root": hexOf(32, 1), "body_root": hexOf(32, 2)}}}
}

func encode(t testing.TB, v any) []byte {
	t.Helper()
	data, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func request(t testing.TB, v any) *duty.Request {
	t.Helper()
	r, err := duty.Parse(encode(t, v))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// answer is what came back over HTTP.
type answer struct {
	status int
	header http.Header
	body   string
}

func (b *bench) do(t testing.TB, method, path string, body any, header ...string) answer {
	t.Helper()
	var reader io.Reader
	switch v := body.(type) {
	case nil:
	case string:
		reader = strings.NewReader(v)
	default:
		reader = bytes.NewReader(encode(t, v))
	}
	r, err := http.NewRequestWithContext(ctx, method, b.server.URL+path, reader)
	if err != nil {
		t.Fatal(err)
	}
	if body != nil {
		r.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i < len(header); i += 2 {
		if header[i] == "Host" {
			r.Host = header[i+1]
		} else {
			r.Header.Set(header[i], header[i+1])
		}
	}
	checkRequest := document(t).request(r, encodeBody(t, body))
	response, err := b.server.Client().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	data, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	document(t).answer(t, r, response, data, checkRequest)
	return answer{response.StatusCode, response.Header, string(data)}
}

func encodeBody(t testing.TB, body any) []byte {
	switch v := body.(type) {
	case nil:
		return nil
	case string:
		return []byte(v)
	}
	return encode(t, body)
}

func (b *bench) sign(t testing.TB, key eth.Pubkey, body any, header ...string) answer {
	t.Helper()
	return b.do(t, "POST", "/api/v1/eth2/sign/"+key.String(), body, header...)
}

// good says whether an answer is the key's signature of what was asked for.
func good(t testing.TB, key eth.Pubkey, body any, text string) bool {
	t.Helper()
	var signature eth.Signature
	if err := signature.UnmarshalText([]byte(text)); err != nil {
		return false
	}
	root, err := request(t, body).SigningRoot(hoodi)
	if err != nil {
		t.Fatal(err)
	}
	return bls.Verify(bls.Claim{Pubkey: key, Root: root, Signature: signature})
}

func signatureOf(t testing.TB, a answer) string {
	t.Helper()
	if a.header.Get("Content-Type") != "application/json" {
		return a.body
	}
	var v struct{ Signature string }
	if err := json.Unmarshal([]byte(a.body), &v); err != nil {
		t.Fatal(err)
	}
	return v.Signature
}

func vectors(t testing.TB) string {
	data, err := os.ReadFile("../eth/duty/testdata/roots.json")
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}
