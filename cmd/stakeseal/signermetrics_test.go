package main

import (
	"bytes"
	"math"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stakeseal/stakeseal/eth"
	"github.com/stakeseal/stakeseal/eth/duty"
	"github.com/stakeseal/stakeseal/signer"
	"github.com/stakeseal/stakeseal/slashing"
)

// slowLedger refuses all.
type slowLedger struct{ slashing.Ledger }

// ownMetrics is what a signer of ours writes.
func ownMetrics(t testing.TB) []byte {
	t.Helper()
	hoodi, _ := eth.LookupNetwork("hoodi")
	s, err := signer.New(signer.Config{Name: "signer-a", Network: hoodi, Ledger: slowLedger{}, Fence: func() (uint64, error) { return 7, nil }})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Sign(t.Context(), &signer.Client{Name: "vc"}, signer.Order{Request: &duty.Request{Kind: duty.Attestation}}); err == nil {
		t.Fatal("signed without a key")
	}
	w := httptest.NewRecorder()
	s.Metrics.Handler().ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	return w.Body.Bytes()
}

// TestReadMetrics: what the signer itself writes is read, and nothing else.
func TestReadMetrics(t *testing.T) {
	m, err := readMetrics(bytes.NewReader(ownMetrics(t)))
	if err != nil {
		t.Fatal(err)
	}
	if m.name != "signer-a" || m.lease != 7 || m.keys != 0 || m.refused != 1 || m.signed != 0 || len(m.ledger) != 13 {
		t.Errorf("%+v", m)
	}
	if _, ok := m.quantile(0.5); ok {
		t.Error("a median of nothing")
	}
	for _, bad := range []string{"", "go_goroutines 5\n", "<html>", "signing_signers_loaded_count x\n", "a{b=\"c} 1\n", "a{b} 1\n", "a 1 2 3\n", strings.Repeat("x", maxMetricsLine+1)} {
		if _, err := readMetrics(strings.NewReader(bad)); err == nil {
			t.Errorf("%.40q is taken for metrics", bad)
		}
	}
}

// TestQuantile: straight between the bounds, and above the last is above it.
func TestQuantile(t *testing.T) {
	inf := math.Inf(1)
	for _, c := range []struct {
		buckets []bucket
		part    float64
		want    float64
		ok      bool
	}{
		{nil, 0.5, 0, false},
		{[]bucket{{1, 0}, {inf, 0}}, 0.5, 0, false},
		{[]bucket{{1, 10}, {inf, 10}}, 0.5, 0.5, true},
		{[]bucket{{1, 50}, {2, 100}, {inf, 100}}, 0.5, 1, true},
		{[]bucket{{1, 50}, {2, 100}, {inf, 100}}, 0.99, 1.98, true},
		{[]bucket{{1, 90}, {inf, 100}}, 0.99, inf, true},
		{[]bucket{{1, 90}, {2, 10}, {inf, 100}}, 0.95, inf, true}, // nonsense
	} {
		if got, ok := (signerMetrics{ledger: c.buckets}).quantile(c.part); ok != c.ok || math.Abs(got-c.want) > 1e-9 {
			t.Errorf("%v of %v: %v, %t", c.part, c.buckets, got, ok)
		}
	}
	for s, want := range map[float64]string{0.0004: "0.4 ms", 0.043: "43 ms", 1.26: "1.3 s", inf: ">2.5 s"} {
		if got := seconds(s); got != want {
			t.Errorf("%v: %q", s, got)
		}
	}
}

// TestDrawStates: a signer that is not reached, or another one, is not shown as
// one that serves.
func TestDrawStates(t *testing.T) {
	at := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	half := 0.0042
	var out bytes.Buffer
	err := drawStates(&out, []signerState{
		{Signer: "signer-a", State: "held", Assigned: 3, Epoch: 2, Watermark: 9, Renewed: &at, Where: "me@here:/h#1:2", Live: &signerLive{Health: "UP", Keys: 3, Signed: 40, Refused: 1, P50: &half, slowest: true}},
		{Signer: "signer-b", State: "held", Renewed: &at, Live: &signerLive{Trouble: "127.0.0.1:9001 is another signer's"}},
		{Signer: "signer-c", State: "not initialised"},
	}, true)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"4.2 ms / >2.5 s", "me@here:/h\n", "signer-b: 127.0.0.1:9001 is another signer's\n", "2026-11-22T12:00:00Z"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in\n%s", want, &out)
		}
	}
	if strings.Contains(out.String(), "#1:2") {
		t.Errorf("the number of a file is for the machine:\n%s", &out)
	}
}

// FuzzMetrics: whatever a port answers, reading it ends, and what it shows can
// be shown.
func FuzzMetrics(f *testing.F) {
	f.Add(ownMetrics(f))
	f.Add([]byte("signing_signers_loaded_count 1e400\nstakeseal_signer_ledger_seconds_bucket{le=\"NaN\"} -1\n"))
	f.Add([]byte(`stakeseal_signer_info{signer="a\"b",} 1`))
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := readMetrics(bytes.NewReader(data))
		if err != nil {
			return
		}
		if p, ok := m.quantile(0.99); ok && (math.IsNaN(p) || p < 0) {
			t.Errorf("p99 %v of %v", p, m.ledger)
		}
	})
}
