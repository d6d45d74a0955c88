package signer_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/stakeseal/stakeseal/eth"
	"github.com/stakeseal/stakeseal/eth/duty"
	"github.com/stakeseal/stakeseal/signer"
	"github.com/stakeseal/stakeseal/slashing"
)

func TestSignOverHTTP(t *testing.T) {
	b := newBench(t, 2, nil)
	body := attestation(epochNow-1, epochNow, 1)
	for _, c := range []struct {
		accept string
		json   bool
	}{{"", false}, {"application/json", true}, {"*/*", true}, {"text/plain", false}, {"text/plain, application/json;q=0.5", true}, {"application/json;q=0, text/plain", false}, {"application/jsonx", false}} {
		a := b.sign(t, b.keys[0], body, "Accept", c.accept)
		if a.status != 200 || (a.header.Get("Content-Type") == "application/json") != c.json || !good(t, b.keys[0], body, signatureOf(t, a)) {
			t.Errorf("Accept %q: %d %s %s", c.accept, a.status, a.header.Get("Content-Type"), a.body)
		}
	}
	if a := b.do(t, "POST", "/api/v1/eth2/sign/"+b.keys[1].Hex(), body); a.status != 200 || !good(t, b.keys[1], body, a.body) {
		t.Errorf("a pubkey without 0x: %+v", a)
	}
	for name, c := range map[string]struct {
		key    string
		body   any
		status int
	}{
		"a double vote":          {b.keys[0].String(), attestation(epochNow-1, epochNow, 9), 412},
		"a surrounding vote":     {b.keys[0].String(), attestation(epochNow-2, epochNow+1, 9), 412},
		"an unknown key":         {eth.Pubkey{7}.String(), body, 404},
		"a short key":            {"0x1234", body, 400},
		"no request":             {b.keys[0].String(), "{}", 400},
		"no JSON":                {b.keys[0].String(), "hello", 400},
		"another signing root":   {b.keys[0].String(), with(block(1920000, 1), "signingRoot", hexOf(32, 5)), 400},
		"an exit":                {b.keys[0].String(), map[string]any{"type": "VOLUNTARY_EXIT", "fork_info": forkInfo(), "voluntary_exit": map[string]any{"epoch": "1", "validator_index": "2"}}, 403},
		"a bare root":            {b.keys[0].String(), map[string]any{"type": "GENERIC", "merkle_root": hexOf(32, 1)}, 400},
		"another network":        {b.keys[0].String(), with(block(1920000, 1), "fork_info", map[string]any{"fork": forkInfo()["fork"], "genesis_validators_root": hexOf(32, 5)}), 403},
		"a target in two epochs": {b.keys[0].String(), attestation(epochNow, epochNow+2, 1), 403},
		"a block in two epochs":  {b.keys[0].String(), block((epochNow+2)*32, 1), 403},
	} {
		if a := b.do(t, "POST", "/api/v1/eth2/sign/"+c.key, c.body); a.status != c.status {
			t.Errorf("%s: %d %s", name, a.status, a.body)
		}
	}
	if a := b.do(t, "POST", "/api/v1/eth2/sign/"+b.keys[0].String(), string(encode(t, body)), "Content-Type", "text/plain"); a.status != 415 {
		t.Errorf("as text: %+v", a)
	}
}

func with(body map[string]any, name string, v any) map[string]any {
	body[name] = v
	return body
}

func TestOtherEndpoints(t *testing.T) {
	b := newBench(t, 3, nil)
	if a := b.do(t, "GET", "/upcheck", nil); a.status != 200 || a.body != "OK" {
		t.Errorf("upcheck: %+v", a)
	}
	var keys []eth.Pubkey
	if a := b.do(t, "GET", "/api/v1/eth2/publicKeys", nil); json.Unmarshal([]byte(a.body), &keys) != nil || len(keys) != 3 {
		t.Errorf("public keys: %+v", a)
	}
	if a := b.do(t, "GET", "/api/v1/eth2/highWatermark", nil); a.status != 200 || strings.TrimSpace(a.body) != "{}" {
		t.Errorf("high watermark: %+v", a)
	}
	if a := b.do(t, "GET", "/healthcheck", nil); a.status != 200 || !strings.Contains(a.body, `"keys-loaded":3`) {
		t.Errorf("health: %+v", a)
	}
	if a := b.do(t, "GET", "/openapi.yaml", nil); a.status != 200 || !strings.HasPrefix(a.body, "openapi:") {
		t.Errorf("openapi: %d", a.status)
	}
	if a := b.do(t, "GET", "/nothing", nil); a.status != 404 {
		t.Errorf("nothing: %d", a.status)
	}
	if a := b.do(t, "GET", "/api/v1/eth2/sign/x", nil); a.status != 405 {
		t.Errorf("GET of sign: %d", a.status)
	}
	// A name that somebody's page resolved to this address.
	if a := b.do(t, "GET", "/upcheck", nil, "Host", "evil.example:9000"); a.status != 403 {
		t.Errorf("another host: %+v", a)
	}
	for _, host := range []string{"localhost", "localhost:9000", "127.0.0.1", "[::1]:9000", "LOCALHOST"} {
		if a := b.do(t, "GET", "/upcheck", nil, "Host", host); a.status != 200 {
			t.Errorf("%s: %d", host, a.status)
		}
	}
	// A reload that is under way is not begun again.
	begun, end := make(chan bool), make(chan bool)
	b.service.Reload = func() error { begun <- true; <-end; return errors.New("couldn't") }
	if a := b.do(t, "POST", "/reload", nil); a.status != 202 {
		t.Errorf("reload: %+v", a)
	}
	<-begun
	if a := b.do(t, "POST", "/reload", nil); a.status != 409 {
		t.Errorf("a second one: %+v", a)
	}
	if a := b.do(t, "GET", "/reload", nil); !strings.Contains(a.body, "running") {
		t.Errorf("its status: %+v", a)
	}
	end <- true
	b.service.Checks = []signer.Check{{ID: "disk", OK: func() error { return errors.New("full") }}}
	if a := b.do(t, "GET", "/healthcheck", nil); a.status != 503 || !strings.Contains(a.body, `{"id":"disk","status":"DOWN"}`) {
		t.Errorf("health with a bad disk: %+v", a)
	}
}

// TestTwoAtOnce: of conflicting requests at one moment exactly one is signed,
// over HTTP, for attestations and blocks.
func TestTwoAtOnce(t *testing.T) {
	b := newBench(t, 1, nil)
	for round := range uint64(10) {
		for _, make := range []func(fill byte) map[string]any{
			func(fill byte) map[string]any { return attestation(100+round, 101+round, fill) },
			func(fill byte) map[string]any { return block(4000+round, fill) },
		} {
			var group sync.WaitGroup
			var mu sync.Mutex
			count := map[int]int{}
			for fill := range byte(6) {
				body := make(fill)
				group.Go(func() {
					a := b.sign(t, b.keys[0], body)
					mu.Lock()
					count[a.status]++
					mu.Unlock()
				})
			}
			group.Wait()
			if count[200] != 1 || count[412] != 5 {
				t.Fatalf("round %d: %v", round, count)
			}
		}
	}
}

// TestEveryKindOverHTTP signs each example whose root others computed.
func TestEveryKindOverHTTP(t *testing.T) {
	var file struct {
		Cases []struct {
			Name    string          `json:"name"`
			Body    json.RawMessage `json:"body"`
			Signing eth.Root        `json:"signing_root"`
		}
	}
	if err := json.Unmarshal([]byte(vectors(t)), &file); err != nil {
		t.Fatal(err)
	}
	b := newBench(t, 1, nil)
	b.clients.Anyone(&signer.Client{Name: "all", Operations: duty.Kinds()})
	signed := map[string]bool{}
	for _, c := range file.Cases {
		var fields map[string]any
		if err := json.Unmarshal(c.Body, &fields); err != nil {
			t.Fatal(err)
		}
		kind := fields["type"].(string)
		a := b.sign(t, b.keys[0], string(c.Body))
		switch a.status {
		case 200:
			if kind == "DEPOSIT" || kind == "VALIDATOR_REGISTRATION" || kind == "PROPOSER_PREFERENCES" {
				t.Errorf("%s: signed for another key or address", c.Name)
			}
			signed[kind] = true
			var signature eth.Signature
			if err := signature.UnmarshalText([]byte(a.body)); err != nil || signature != secretKey(t, 0).Sign(c.Signing) {
				t.Errorf("%s: another signature", c.Name)
			}
		case 403:
			if kind != "DEPOSIT" && kind != "VALIDATOR_REGISTRATION" && kind != "PROPOSER_PREFERENCES" {
				t.Errorf("%s: %s", c.Name, a.body)
			}
		case 412:
			if kind != "ATTESTATION" && kind != "BLOCK_V2" {
				t.Errorf("%s: %s", c.Name, a.body)
			}
		default:
			t.Errorf("%s: %d %s", c.Name, a.status, a.body)
		}
	}
	if len(signed) != len(duty.Kinds())-3 {
		t.Errorf("signed %v", signed)
	}
}

func TestBatch(t *testing.T) {
	b := newBench(t, 5, nil)
	ids := func(keys ...eth.Pubkey) (list []string) {
		for _, k := range keys {
			list = append(list, k.String())
		}
		return list
	}
	same, other := attestation(epochNow-1, epochNow, 1), attestation(epochNow-1, epochNow, 2)
	groups := []map[string]any{
		{"identifiers": ids(b.keys...), "signing_request": same},
		{"identifiers": ids(b.keys[0], eth.Pubkey{1}), "signing_request": other},
	}
	a := b.do(t, "POST", "/stakeseal/v1/sign", groups)
	var list []struct {
		Identifier eth.Pubkey
		Signature  string
		Error      *struct{ Code int }
	}
	if err := json.Unmarshal([]byte(a.body), &list); err != nil || a.status != 200 || len(list) != 7 {
		t.Fatalf("%+v", a)
	}
	for i, o := range list[:5] {
		if o.Identifier != b.keys[i] || o.Error != nil || !good(t, b.keys[i], same, o.Signature) {
			t.Errorf("%d: %+v", i, o)
		}
	}
	if list[5].Error == nil || list[5].Error.Code != 412 || list[5].Signature != "" || list[6].Error == nil || list[6].Error.Code != 404 {
		t.Errorf("a double vote and an unknown key: %+v", list[5:])
	}
	for name, body := range map[string]any{
		"nothing":            "[]",
		"an object":          "{}",
		"no identifiers":     []any{map[string]any{"identifiers": []string{}, "signing_request": same}},
		"something more":     []any{map[string]any{"identifiers": ids(b.keys[0]), "signing_request": same, "x": 1}},
		"no request":         []any{map[string]any{"identifiers": ids(b.keys[0])}},
		"a block":            []any{map[string]any{"identifiers": ids(b.keys[0]), "signing_request": block(5, 1)}},
		"a bad identifier":   []any{map[string]any{"identifiers": []string{"0x12"}, "signing_request": same}},
		"a bad request":      []any{map[string]any{"identifiers": ids(b.keys[0]), "signing_request": map[string]any{"type": "ATTESTATION"}}},
		"a group in a group": "[[[]]]",
	} {
		if a := b.do(t, "POST", "/stakeseal/v1/sign", body); a.status != 400 {
			t.Errorf("%s: %d %s", name, a.status, a.body)
		}
	}
	// One too many, over two groups: the document does not count over groups.
	group := func(n int) map[string]any {
		return map[string]any{"identifiers": slices.Repeat(ids(b.keys[0]), n), "signing_request": same}
	}
	r, err := http.Post(b.server.URL+"/stakeseal/v1/sign", "application/json", bytes.NewReader(encode(t, []any{group(signer.MaxBatch), group(1)})))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	if r.StatusCode != 400 {
		t.Errorf("%d signatures: %s", signer.MaxBatch+1, r.Status)
	}
	if _, err := duty.ParseBatch(encode(t, groups), 6); !errors.Is(err, duty.ErrMalformed) {
		t.Errorf("seven where six are allowed: %v", err)
	}
}

// TestHostileBodies: large, deep and slow ones end in an error, and nothing is
// kept of them.
func TestHostileBodies(t *testing.T) {
	b := newBench(t, 1, nil)
	post := func(body string) int {
		r, err := http.Post(b.server.URL+"/api/v1/eth2/sign/"+b.keys[0].String(), "application/json", strings.NewReader(body))
		if err != nil {
			return 0 // the connection was closed while we still wrote
		}
		defer r.Body.Close()
		return r.StatusCode
	}
	for name, c := range map[string]struct {
		body string
		want []int
	}{
		"40 MB of spaces":    {strings.Repeat(" ", 40<<20), []int{413, 0}},
		"a million arrays":   {strings.Repeat("[", 1<<20), []int{400}},
		"many members":       {`{"type":"ATTESTATION"` + strings.Repeat(`,"a":1`, 1<<16) + "}", []int{400}},
		"many numbers":       {"[" + strings.Repeat("1,", 1<<20) + "1]", []int{400}},
		"a long number":      {`{"type":"AGGREGATION_SLOT","aggregation_slot":{"slot":"` + strings.Repeat("9", 1<<20) + `"}}`, []int{400}},
		"a longer number":    {envelopeOf(strings.Repeat("9", 16<<20)), []int{400}},
		"a long type":        {`{"type":"` + strings.Repeat("A", 1<<20) + `"}`, []int{400}},
		"control characters": {"{\"type\":\"\x00\"}", []int{400}},
	} {
		got := post(c.body)
		ok := false
		for _, want := range c.want {
			ok = ok || got == want
		}
		if !ok {
			t.Errorf("%s: %d", name, got)
		}
	}
	if strings.Contains(b.log.String(), "panic") {
		t.Error("a request ended in a panic")
	}
	if a := b.sign(t, b.keys[0], attestation(1, 2, 1)); a.status != 200 {
		t.Errorf("afterwards: %+v", a)
	}
}

// envelopeOf is a message as far as it is read up to a number of 256 bits,
// which is the one that is not read by the standard library's bounded parser.
func envelopeOf(number string) string {
	root := hexOf(32, 1)
	return `{"type":"EXECUTION_PAYLOAD_ENVELOPE","fork_info":` + fmt.Sprintf(`{"fork":{"previous_version":"0x60000910","current_version":"0x70000910","epoch":"1"},"genesis_validators_root":"%s"}`, hoodi.GenesisValidatorsRoot) +
		`,"execution_payload_envelope":{"version":"GLOAS","data":{"payload":{"parent_hash":"` + root + `","fee_recipient":"` + hexOf(20, 1) + `","state_root":"` + root + `","receipts_root":"` + root +
		`","logs_bloom":"` + hexOf(256, 0) + `","prev_randao":"` + root + `","block_number":"1","gas_limit":"1","gas_used":"1","timestamp":"1","extra_data":"0x","base_fee_per_gas":"` + number + `"}}}}`
}

// TestHTTP2 speaks it without TLS, as a client beside the signer may.
func TestHTTP2(t *testing.T) {
	b := newBench(t, 1, nil)
	protocols := new(http.Protocols)
	protocols.SetUnencryptedHTTP2(true)
	client := &http.Client{Transport: &http.Transport{Protocols: protocols}}
	defer client.CloseIdleConnections()
	body := attestation(1, 2, 1)
	r, err := client.Post(b.server.URL+"/api/v1/eth2/sign/"+b.keys[0].String(), "application/json", strings.NewReader(string(encode(t, body))))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	if r.ProtoMajor != 2 || r.StatusCode != 200 {
		t.Errorf("%s %s", r.Proto, r.Status)
	}
}

func TestTooManyAtOnce(t *testing.T) {
	gate := &gated{enter: make(chan bool, 100), open: make(chan bool)}
	b := newBench(t, 4, func(c *signer.Config) {
		c.Queue = 2
		gate.Ledger = c.Ledger
		c.Ledger = gate
	})
	var group sync.WaitGroup
	for i := range 2 {
		group.Go(func() {
			if a := b.sign(t, b.keys[i], attestation(1, 2, 1)); a.status != 200 {
				t.Errorf("one that waited: %+v", a)
			}
		})
	}
	<-gate.enter
	<-gate.enter
	a := b.sign(t, b.keys[2], attestation(1, 2, 1))
	if a.status != 503 || a.header.Get("Retry-After") != "1" {
		t.Errorf("a third: %+v", a)
	}
	two := []any{map[string]any{"identifiers": []string{b.keys[2].String(), b.keys[3].String()}, "signing_request": attestation(1, 2, 1)}}
	if a := b.do(t, "POST", "/stakeseal/v1/sign", two); a.status != 503 || a.header.Get("Retry-After") != "1" {
		t.Errorf("a batch: %+v", a)
	}
	w := recorder()
	b.Metrics.Handler().ServeHTTP(w, get("/metrics"))
	for _, line := range []string{"stakeseal_signer_busy_total 3", `stakeseal_signer_requests_total{outcome="busy",type="ATTESTATION"} 3`} {
		if !strings.Contains(w.Body.String(), "\n"+line+"\n") {
			t.Errorf("no %q in the metrics", line)
		}
	}
	close(gate.open)
	group.Wait()
	if a := b.do(t, "POST", "/stakeseal/v1/sign", two); a.status != 200 || strings.Contains(a.body, "error") {
		t.Errorf("afterwards: %+v", a)
	}
}

type gated struct {
	slashing.Ledger
	enter, open chan bool
}

func (g *gated) Sign(ctx ctxType, epoch uint64, claims []slashing.Claim) []error {
	g.enter <- true
	<-g.open
	return g.Ledger.Sign(ctx, epoch, claims)
}

func TestMetrics(t *testing.T) {
	b := newBench(t, 1, nil)
	b.sign(t, b.keys[0], attestation(1, 2, 1))
	b.sign(t, b.keys[0], attestation(1, 2, 2))
	b.sign(t, eth.Pubkey{1}, attestation(1, 2, 2))
	b.sign(t, b.keys[0], "{}")
	w := recorder()
	b.Metrics.Handler().ServeHTTP(w, get("/metrics"))
	for _, line := range []string{
		"eth2_slashing_protection_permitted_signings_total 1",
		"eth2_slashing_protection_prevented_signings_total 1",
		"signing_bls_missing_identifier_count_total 1",
		"http_bls_malformed_request_count_total 1",
		"signing_signers_loaded_count 1",
		`stakeseal_signer_requests_total{outcome="slashable",type="ATTESTATION"} 1`,
		"signing_bls_signing_duration_count 1",
		"stakeseal_signer_lease_epoch 1",
	} {
		if !strings.Contains(w.Body.String(), "\n"+line+"\n") {
			t.Errorf("no %q in the metrics", line)
		}
	}
	if log := b.log.String(); !strings.Contains(log, "not signed") || !strings.Contains(log, fmt.Sprint("pubkey=", b.keys[0])) {
		t.Errorf("the log: %s", log)
	}
}
