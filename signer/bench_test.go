package signer_test

import (
	"fmt"
	"io"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stakeseal/stakeseal/eth"
	"github.com/stakeseal/stakeseal/eth/bls"
	"github.com/stakeseal/stakeseal/signer"
)

// BenchmarkBurst is one attestation of each of 1,000 keys at once, by a
// durable ledger, against what BLS signing alone reaches on the same cores in
// the same run:
//
//	sign/s     signatures a second
//	of-limit   that over BLS alone
//	p50-ms, p99-ms  until an answer was there, from the beginning of the burst
func BenchmarkBurst(b *testing.B) {
	const keys = 1000
	for _, mode := range []string{"one-request-each", "one-batch"} {
		b.Run(mode, func(b *testing.B) {
			bench := newBench(b, keys, func(c *signer.Config) { c.Log = nil })
			var secrets []*bls.Key
			for i := range keys {
				secrets = append(secrets, secretKey(b, i))
			}
			transport := &http.Transport{MaxIdleConnsPerHost: 64, MaxConnsPerHost: 64}
			client := &http.Client{Transport: transport}
			defer transport.CloseIdleConnections()
			post := func(path string, body []byte) error {
				r, err := client.Post(bench.server.URL+path, "application/json", strings.NewReader(string(body)))
				if err != nil {
					return err
				}
				defer r.Body.Close()
				data, err := io.ReadAll(r.Body)
				if err == nil && (r.StatusCode != 200 || strings.Contains(string(data), `"error"`)) {
					err = fmt.Errorf("%s: %.200s", r.Status, data)
				}
				return err
			}
			ids := make([]string, keys)
			for i, k := range bench.keys {
				ids[i] = k.String()
			}
			var alone, whole time.Duration
			var took []time.Duration
			target := uint64(1)
			for b.Loop() {
				alone += blsAlone(secrets, byte(target))
				body := encode(b, attestation(target-1, target, 1))
				batch := encode(b, []any{map[string]any{"identifiers": ids, "signing_request": attestation(target-1, target, 1)}})
				target++
				begun := time.Now()
				if mode == "one-batch" {
					if err := post("/stakeseal/v1/sign", batch); err != nil {
						b.Fatal(err)
					}
					took = append(took, time.Since(begun))
				} else {
					took = append(took, each(b, bench.keys, func(k eth.Pubkey) error { return post("/api/v1/eth2/sign/"+k.String(), body) }, begun)...)
				}
				whole += time.Since(begun)
			}
			slices.Sort(took)
			b.ReportMetric(float64(b.N*keys)/whole.Seconds(), "sign/s")
			b.ReportMetric(float64(b.N*keys)/alone.Seconds(), "bls/s")
			b.ReportMetric(alone.Seconds()/whole.Seconds(), "of-limit")
			b.ReportMetric(float64(took[len(took)/2].Microseconds())/1000, "p50-ms")
			b.ReportMetric(float64(took[len(took)*99/100].Microseconds())/1000, "p99-ms")
		})
	}
}

// blsAlone signs with every key, on every core.
func blsAlone(keys []*bls.Key, fill byte) time.Duration {
	begun := time.Now()
	var group sync.WaitGroup
	cores := runtime.NumCPU()
	for core := range cores {
		group.Go(func() {
			for i := core; i < len(keys); i += cores {
				keys[i].Sign(eth.Root{fill, byte(i), byte(i >> 8)})
			}
		})
	}
	group.Wait()
	return time.Since(begun)
}

func each(b *testing.B, keys []eth.Pubkey, do func(eth.Pubkey) error, begun time.Time) []time.Duration {
	took := make([]time.Duration, len(keys))
	next := make(chan int)
	var group sync.WaitGroup
	for range 64 {
		group.Go(func() {
			for i := range next {
				if err := do(keys[i]); err != nil {
					b.Error(err)
				}
				took[i] = time.Since(begun)
			}
		})
	}
	for i := range keys {
		next <- i
	}
	close(next)
	group.Wait()
	return took
}

// BenchmarkSign is one attestation at a time, without HTTP: the latency of a
// durable signature.
func BenchmarkSign(b *testing.B) {
	bench := newBench(b, 1, nil)
	client := &signer.Client{Name: "vc", Operations: signer.Duties()}
	target := uint64(1)
	for b.Loop() {
		if target > epochNow {
			b.Skip("no more epochs")
		}
		if _, err := bench.Sign(ctx, client, signer.Order{Pubkey: bench.keys[0], Request: request(b, attestation(target-1, target, 1))}); err != nil {
			b.Fatal(err)
		}
		target++
	}
}
