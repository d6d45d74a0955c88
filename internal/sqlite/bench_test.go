package sqlite

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stakeseal/stakeseal/record"
	"github.com/stakeseal/stakeseal/record/recordtest"
)

// BenchmarkPutBirth measures durable puts, each read back, by the number of
// goroutines that put at once.
func BenchmarkPutBirth(b *testing.B) {
	for _, writers := range []int{1, 2, 4, 16, 64} {
		b.Run(fmt.Sprintf("writers=%d", writers), func(b *testing.B) {
			s := create(b)
			o := recordtest.Order("o1", uint32(b.N))
			m := recordtest.Mnemonic(o, "m1")
			place(b, s, o, m)
			births := make([]record.Birth, b.N)
			for i := range births {
				births[i] = recordtest.Birth(o, m, uint32(i), "")
			}
			b.ResetTimer()
			var next atomic.Int64
			var wg sync.WaitGroup
			for range writers {
				wg.Go(func() {
					for i := next.Add(1) - 1; i < int64(b.N); i = next.Add(1) - 1 {
						if _, err := s.PutBirth(context.Background(), births[i]); err != nil {
							b.Error(err)
							return
						}
					}
				})
			}
			wg.Wait()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "puts/s")
		})
	}
}

// BenchmarkValidators measures how fast lists stream.
func BenchmarkValidators(b *testing.B) {
	const n = 20_000
	s := create(b)
	generate(b, s, "o1", n)
	for name, q := range map[string]record.Query{"order": {Order: "o1"}, "all": {}, "prefix": {Prefix: "7"}} {
		b.Run(name, func(b *testing.B) {
			rows := 0
			for b.Loop() {
				for _, err := range s.Validators(context.Background(), q) {
					if err != nil {
						b.Fatal(err)
					}
					rows++
				}
			}
			b.ReportMetric(float64(rows)/b.Elapsed().Seconds(), "rows/s")
		})
	}
}

func place(t testing.TB, s *Store, o record.Order, mnemonics ...record.Mnemonic) {
	t.Helper()
	if _, err := s.Place(context.Background(), o); err != nil {
		t.Fatal(err)
	}
	for _, m := range mnemonics {
		if err := s.PutMnemonic(context.Background(), m); err != nil {
			t.Fatal(err)
		}
	}
}

// generate puts n births of an order, as many at once as share a commit.
func generate(t testing.TB, s *Store, id string, n int) []record.Birth {
	t.Helper()
	o := recordtest.Order(id, uint32(n))
	m := recordtest.Mnemonic(o, "m1")
	place(t, s, o, m)
	births := make([]record.Birth, n)
	var wg sync.WaitGroup
	for writer := range maxBatch {
		wg.Go(func() {
			for i := writer; i < n; i += maxBatch {
				births[i] = recordtest.Birth(o, m, uint32(i), "")
				if err := s.putBirth(context.Background(), births[i]); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	if t.Failed() {
		t.FailNow()
	}
	return births
}
