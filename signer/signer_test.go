package signer_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"math/big"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stakeseal/stakeseal/eth"
	"github.com/stakeseal/stakeseal/eth/duty"
	"github.com/stakeseal/stakeseal/signer"
	"github.com/stakeseal/stakeseal/slashing"
)

type ctxType = context.Context

func recorder() *httptest.ResponseRecorder { return httptest.NewRecorder() }
func get(path string) *http.Request        { return httptest.NewRequest("GET", path, nil) }

// TestPolicy: what is refused whatever the ledger says.
func TestPolicy(t *testing.T) {
	told := eth.Address{0xbb}
	b := newBench(t, 2, func(c *signer.Config) { c.Policy.FeeRecipients = []eth.Address{told} })
	everything := &signer.Client{Name: "all", Operations: duty.Kinds()}
	duties := &signer.Client{Name: "vc", Operations: signer.Duties()}
	one := &signer.Client{Name: "one", Operations: []duty.Kind{duty.Attestation}, Keys: map[eth.Pubkey]bool{b.keys[0]: true}}
	deposit := func(change func(map[string]any)) map[string]any {
		d := map[string]any{"pubkey": b.keys[0].String(), "withdrawal_credentials": credentials().String(), "amount": "32000000000", "genesis_fork_version": hoodi.GenesisForkVersion.String()}
		change(d)
		return map[string]any{"type": "DEPOSIT", "deposit": d}
	}
	registration := func(to eth.Address, key eth.Pubkey) map[string]any {
		return map[string]any{"type": "VALIDATOR_REGISTRATION", "validator_registration": map[string]any{
			"fee_recipient": fmt.Sprintf("0x%x", to[:]), "gas_limit": "30000000", "timestamp": "1", "pubkey": key.String()}}
	}
	preferences := func(to eth.Address) map[string]any {
		return map[string]any{"type": "PROPOSER_PREFERENCES", "fork_info": forkInfo(), "proposer_preferences": map[string]any{"version": "GLOAS", "data": map[string]any{
			"dependent_root": hexOf(32, 1), "proposal_slot": "5", "validator_index": "1", "fee_recipient": fmt.Sprintf("0x%x", to[:]), "target_gas_limit": "6"}}}
	}
	exit := map[string]any{"type": "VOLUNTARY_EXIT", "fork_info": forkInfo(), "voluntary_exit": map[string]any{"epoch": "1", "validator_index": "2"}}
	elsewhere := attestation(1, 2, 1)
	elsewhere["fork_info"].(map[string]any)["genesis_validators_root"] = hexOf(32, 9)
	for name, c := range map[string]struct {
		client *signer.Client
		key    int
		body   map[string]any
		want   error
	}{
		"an exit that was granted":            {everything, 0, exit, nil},
		"an exit that was not":                {duties, 0, exit, signer.ErrRefused},
		"the planned deposit":                 {everything, 0, deposit(func(map[string]any) {}), nil},
		"without a grant":                     {duties, 0, deposit(func(map[string]any) {}), signer.ErrRefused},
		"a deposit of another amount":         {everything, 0, deposit(func(d map[string]any) { d["amount"] = "1000000000" }), signer.ErrRefused},
		"a deposit to another address":        {everything, 0, deposit(func(d map[string]any) { d["withdrawal_credentials"] = hexOf(32, 1) }), signer.ErrRefused},
		"a deposit of another key":            {everything, 0, deposit(func(d map[string]any) { d["pubkey"] = b.keys[1].String() }), signer.ErrRefused},
		"a deposit on another network":        {everything, 0, deposit(func(d map[string]any) { d["genesis_fork_version"] = "0x00000000" }), signer.ErrRefused},
		"fees to its own address":             {duties, 0, registration(own, b.keys[0]), nil},
		"fees to one that was told":           {duties, 0, registration(told, b.keys[0]), nil},
		"fees to a stranger":                  {duties, 0, registration(eth.Address{0xcc}, b.keys[0]), signer.ErrRefused},
		"a registration of another key":       {duties, 0, registration(own, b.keys[1]), signer.ErrRefused},
		"preferences to its own address":      {duties, 0, preferences(own), nil},
		"preferences to a stranger":           {duties, 0, preferences(eth.Address{0xcc}), signer.ErrRefused},
		"another network":                     {duties, 0, elsewhere, signer.ErrRefused},
		"another network, with every grant":   {everything, 0, elsewhere, signer.ErrRefused},
		"the next epoch":                      {duties, 0, attestation(epochNow, epochNow+1, 1), nil},
		"the one after":                       {duties, 0, attestation(epochNow, epochNow+2, 1), signer.ErrRefused},
		"a block of the next epoch":           {duties, 0, block((epochNow+2)*32-1, 1), nil},
		"a block of the one after":            {duties, 0, block((epochNow+2)*32, 1), signer.ErrRefused},
		"a key that it has not":               {one, 1, attestation(1, 2, 1), signer.ErrUnknownKey},
		"an operation that it has not":        {one, 0, block(9, 1), signer.ErrRefused},
		"a root that is not that of the body": {duties, 0, with(block(10, 1), "signing_root", hexOf(32, 1)), duty.ErrRoot},
	} {
		_, err := b.Sign(ctx, c.client, signer.Order{Pubkey: b.keys[c.key], Request: request(t, c.body)})
		if !errors.Is(err, c.want) || (err == nil) != (c.want == nil) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
	if _, err := b.Sign(ctx, one, signer.Order{Pubkey: b.keys[0], Request: request(t, attestation(epochNow-5, epochNow-4, 1))}); !errors.Is(err, slashing.ErrSlashable) {
		t.Errorf("an attestation before the one that was signed: %v", err)
	}
	// What was refused by policy has not moved the ledger.
	for m, err := range b.ledger.Marks(ctx) {
		if err != nil || m.Target > epochNow+1 || m.Slot > (epochNow+2)*32-1 || m.Pubkey == b.keys[1] && (m.Attestation || m.Block) {
			t.Errorf("%+v, %v", m, err)
		}
	}
	if keys := b.Keys.Pubkeys(one); len(keys) != 1 || keys[0] != b.keys[0] {
		t.Errorf("the client sees %v", keys)
	}
}

// TestNothingWithoutLease: neither begun nor handed out.
func TestNothingWithoutLease(t *testing.T) {
	var b *bench
	gone := errors.New("gone")
	b = newBench(t, 1, func(c *signer.Config) {
		c.Ledger = &meanwhile{c.Ledger, sync.OnceFunc(func() { b.stop(gone) })}
	})
	// Why is the log's: a store's words may hold paths.
	stopped := func(a answer) bool {
		return a.status == 503 && a.header.Get("Retry-After") == "1" && a.body == signer.ErrStopped.Error()
	}
	if a := b.sign(t, b.keys[0], attestation(1, 2, 1)); !stopped(a) {
		t.Errorf("lost between the ledger and the signature: %+v", a)
	}
	if a := b.sign(t, b.keys[0], attestation(1, 2, 1)); !stopped(a) {
		t.Errorf("lost before: %+v", a)
	}
	if a := b.do(t, "POST", "/stakeseal/v1/sign", []any{map[string]any{"identifiers": []string{b.keys[0].String()}, "signing_request": attestation(1, 2, 1)}}); !stopped(a) {
		t.Errorf("a batch, lost before: %+v", a)
	}
	// Whenever it was lost, each is counted and in the log, with the reason.
	w := recorder()
	b.Metrics.Handler().ServeHTTP(w, get("/metrics"))
	if !strings.Contains(w.Body.String(), `stakeseal_signer_requests_total{outcome="stopped",type="ATTESTATION"} 3`) || strings.Count(b.log.String(), "its lease: gone") != 3 {
		t.Errorf("three were not signed, of which the log has %s", b.log)
	}
	if a := b.do(t, "GET", "/healthcheck", nil); a.status != 503 || !strings.Contains(a.body, `{"id":"lease","status":"DOWN"}`) {
		t.Errorf("health: %+v", a)
	}
	b.stop(nil)
	if a := b.sign(t, b.keys[0], attestation(1, 2, 2)); a.status != 412 {
		t.Errorf("what was stored is forgotten: %+v", a)
	}
}

type meanwhile struct {
	slashing.Ledger
	do func()
}

func (m *meanwhile) Sign(ctx ctxType, epoch uint64, claims []slashing.Claim) []error {
	errs := m.Ledger.Sign(ctx, epoch, claims)
	m.do()
	return errs
}

// faulty fails: before anything was written, or after it was.
type faulty struct {
	slashing.Ledger
	fail    bool
	applied bool
	short   bool
}

func (f *faulty) Sign(ctx ctxType, epoch uint64, claims []slashing.Claim) []error {
	if !f.fail {
		return f.Ledger.Sign(ctx, epoch, claims)
	}
	if f.applied {
		f.Ledger.Sign(ctx, epoch, claims)
	}
	if f.short {
		return nil
	}
	errs := make([]error, len(claims))
	for i := range errs {
		errs[i] = errors.New("disk /var/lib/secret-path failed")
	}
	return errs
}

// TestLedgerFaults: an error of the ledger, whether it had written or not, and
// no signature; afterwards the same is signed, and a conflict is not, if it
// had.
func TestLedgerFaults(t *testing.T) {
	for _, c := range []faulty{{fail: true}, {fail: true, applied: true}, {fail: true, short: true}} {
		f := &faulty{fail: c.fail, applied: c.applied, short: c.short}
		b := newBench(t, 1, func(c *signer.Config) {
			f.Ledger = c.Ledger
			c.Ledger = f
		})
		a := b.sign(t, b.keys[0], attestation(1, 2, 1))
		if a.status != 500 || strings.Contains(a.body, "secret-path") || strings.Contains(a.body, "0x") {
			t.Errorf("applied %t, short %t: %+v", c.applied, c.short, a)
		}
		f.fail = false
		if a := b.sign(t, b.keys[0], attestation(1, 2, 1)); a.status != 200 {
			t.Errorf("applied %t: the same again: %+v", c.applied, a)
		}
		if a := b.sign(t, b.keys[0], attestation(1, 2, 2)); a.status != 412 {
			t.Errorf("applied %t: a conflict: %+v", c.applied, a)
		}
	}
}

// TestKeyWithoutMark: a key whose mark the ledger lost signs no slashable
// message, and others it does.
func TestKeyWithoutMark(t *testing.T) {
	b := newBench(t, 1, nil)
	key := secretKey(t, 77)
	pubkey := key.Pubkey()
	if err := b.Keys.Put(signer.Key{Pubkey: pubkey, Secret: key}); err != nil {
		t.Fatal(err)
	}
	if a := b.sign(t, pubkey, attestation(1, 2, 1)); a.status != 412 {
		t.Errorf("%+v", a)
	}
	again := secretKey(t, 77)
	if err := b.Keys.Put(signer.Key{Pubkey: pubkey, Secret: again}); err == nil {
		t.Error("a key was put twice")
	}
	wrong := secretKey(t, 78)
	if err := b.Keys.Put(signer.Key{Pubkey: eth.Pubkey{5}, Secret: wrong}); err == nil {
		t.Error("a key was put under another pubkey")
	}
}

// TestRemoved: from the moment Remove returns nothing is signed, whatever was
// under way.
func TestRemoved(t *testing.T) {
	b := newBench(t, 1, nil)
	client := &signer.Client{Name: "vc", Operations: signer.Duties()}
	var group sync.WaitGroup
	var mu sync.Mutex
	removed, late, signed := false, 0, 0
	begun := make(chan bool, 1000)
	for i := range 4 {
		group.Go(func() {
			for n := range uint64(50) {
				mu.Lock()
				before := removed
				mu.Unlock()
				_, err := b.Sign(ctx, client, signer.Order{Pubkey: b.keys[0], Request: request(t, block(uint64(i)*1000+n+1, byte(i)))})
				mu.Lock()
				if err == nil {
					signed++
					if before {
						late++
					}
				}
				mu.Unlock()
				begun <- true
			}
		})
	}
	<-begun
	if !b.Keys.Remove(b.keys[0]) || b.Keys.Remove(b.keys[0]) {
		t.Error("it was not there, or twice")
	}
	mu.Lock()
	removed = true
	mu.Unlock()
	group.Wait()
	if late > 0 || b.Keys.Len() != 0 || b.Keys.Has(b.keys[0]) {
		t.Errorf("%d signed after it was removed", late)
	}
}

func TestPatience(t *testing.T) {
	b := newBench(t, 1, func(c *signer.Config) { c.Patience = time.Nanosecond })
	if a := b.sign(t, b.keys[0], attestation(1, 2, 1)); a.status != 503 || a.header.Get("Retry-After") == "" {
		t.Errorf("%+v", a)
	}
}

func TestNeeds(t *testing.T) {
	ephemery, _ := eth.LookupNetwork("ephemery")
	fence := func() (uint64, error) { return 1, nil }
	b := newBench(t, 0, nil)
	for name, c := range map[string]signer.Config{
		"no ledger":                  {Network: hoodi, Fence: fence},
		"no lease":                   {Network: hoodi, Ledger: b.ledger},
		"no genesis validators root": {Network: ephemery, Ledger: b.ledger, Fence: fence},
	} {
		if _, err := signer.New(c); err == nil {
			t.Errorf("%s: it was made", name)
		}
	}
}

func certificate(t *testing.T, serial int64) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(serial), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), DNSNames: []string{"localhost"}}
	raw, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(raw)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{raw}, PrivateKey: key, Leaf: leaf}
}

// TestClients: tokens, certificates, and neither.
func TestClients(t *testing.T) {
	b := newBench(t, 2, nil)
	word := strings.Repeat("0123456789abcdef", 4)
	list := signer.NewClients()
	vc := &signer.Client{Name: "vc", Operations: signer.Duties(), Keys: map[eth.Pubkey]bool{b.keys[0]: true}}
	if err := list.Token([]byte(word), vc); err != nil {
		t.Fatal(err)
	}
	for _, bad := range []string{"", "short", word, strings.Repeat("a b ", 20), strings.Repeat("\x00", 64)} {
		if err := list.Token([]byte(bad), &signer.Client{Name: "x"}); err == nil || bad != "" && len(bad) > 5 && strings.Contains(err.Error(), bad) {
			t.Errorf("token %q: %v", bad, err)
		}
	}
	b.service.Clients = list
	b.server.Close()
	serve := func(config *tls.Config) *httptest.Server {
		s := httptest.NewUnstartedServer(nil)
		s.Config = b.service.Server()
		s.TLS = config
		if config != nil {
			s.EnableHTTP2 = true
			s.StartTLS()
		} else {
			s.Start()
		}
		t.Cleanup(s.Close)
		return s
	}
	ask := func(s *httptest.Server, token string, with *tls.Certificate) (int, int) {
		config := &tls.Config{InsecureSkipVerify: true}
		if with != nil {
			config.Certificates = []tls.Certificate{*with}
		}
		client := &http.Client{Transport: &http.Transport{TLSClientConfig: config, ForceAttemptHTTP2: true}}
		defer client.CloseIdleConnections()
		r, err := http.NewRequest("GET", s.URL+"/api/v1/eth2/publicKeys", nil)
		if err != nil {
			t.Fatal(err)
		}
		if token != "" {
			r.Header.Set("Authorization", token)
		}
		a, err := client.Do(r)
		if err != nil {
			return 0, 0
		}
		defer a.Body.Close()
		return a.StatusCode, a.ProtoMajor
	}
	plain := serve(nil)
	for token, want := range map[string]int{"": 401, "Bearer " + word: 200, "bearer " + word: 200, "Bearer " + word + "x": 401, "Basic " + word: 401, "Bearer": 401, word: 401} {
		if got, _ := ask(plain, token, nil); got != want {
			t.Errorf("token %q: %d", token, got)
		}
	}
	known, unknown := certificate(t, 1), certificate(t, 2)
	if err := list.Certificate(known.Leaf, vc); err != nil {
		t.Fatal(err)
	}
	if err := list.Certificate(known.Leaf, vc); err == nil {
		t.Error("a certificate of two clients")
	}
	secure := serve(list.TLS(certificate(t, 3)))
	for _, c := range []struct {
		token string
		with  *tls.Certificate
		want  int
	}{{"", &known, 200}, {"", nil, 401}, {"Bearer " + word, nil, 200}, {"", &unknown, 0}, {"Bearer " + word, &unknown, 0}} {
		if got, proto := ask(secure, c.token, c.with); got != c.want || got != 0 && proto != 2 {
			t.Errorf("token %q, certificate %t: %d over HTTP/%d", c.token, c.with != nil, got, proto)
		}
	}
	alone := signer.NewClients()
	if err := alone.Certificate(known.Leaf, vc); err != nil {
		t.Fatal(err)
	}
	b.service.Clients = alone
	if got, _ := ask(serve(alone.TLS(certificate(t, 4))), "", nil); got != 0 {
		t.Errorf("without the certificate that everybody needs: %d", got)
	}
}

func TestExposed(t *testing.T) {
	nobody, anyone, known := signer.NewClients(), signer.NewClients(), signer.NewClients()
	anyone.Anyone(&signer.Client{})
	if err := known.Token([]byte(strings.Repeat("t", 40)), &signer.Client{}); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		clients   *signer.Clients
		listen    string
		encrypted bool
		ok        bool
	}{
		{anyone, "127.0.0.1:9000", false, true}, {anyone, "[::1]:9000", false, true}, {anyone, "localhost:9000", false, true},
		{anyone, "0.0.0.0:9000", true, false}, {anyone, ":9000", true, false}, {anyone, "10.0.0.1:9000", true, false},
		{nobody, "10.0.0.1:9000", true, false}, {known, "10.0.0.1:9000", false, false}, {known, "10.0.0.1:9000", true, true},
		{known, "signer.example:9000", false, false}, {known, "nonsense", true, false},
	} {
		if err := c.clients.Exposed(c.listen, c.encrypted); (err == nil) != c.ok {
			t.Errorf("%s, encrypted %t: %v", c.listen, c.encrypted, err)
		}
	}
}

// TestTheSameKeyTwice: a batch may name a key many times while it is being
// removed; neither waits for the other for ever.
func TestTheSameKeyTwice(t *testing.T) {
	b := newBench(t, 1, nil)
	client := &signer.Client{Name: "vc", Operations: signer.Duties()}
	for range 30 {
		orders := make([]signer.Order, 200)
		for i := range orders {
			orders[i] = signer.Order{Pubkey: b.keys[0], Request: &duty.Request{Kind: duty.RandaoReveal}} // refused: it is for no network
		}
		var group sync.WaitGroup
		begun := make(chan bool)
		group.Go(func() {
			close(begun)
			for range 20 {
				b.SignAll(ctx, client, orders)
			}
		})
		<-begun
		if !b.Keys.Remove(b.keys[0]) {
			t.Fatal("it was not there")
		}
		group.Wait()
		if err := b.Keys.Put(signer.Key{Pubkey: b.keys[0], Secret: secretKey(t, 0)}); err != nil {
			t.Fatal(err)
		}
	}
}
