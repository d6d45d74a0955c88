package deposit_test

import (
	"bytes"
	"context"
	"sync"
	"testing"

	. "github.com/stakeseal/stakeseal/deposit"
)

var many = sync.OnceValue(func() (out []Entry) {
	t := new(testing.B)
	for i := range 10_000 {
		out = append(out, at(made(t, hoodi, uint64(i+1), cold, 32*ether), "a.json", i+1))
	}
	return out
})

// BenchmarkJudge reports the wall time an entry of a file of 10,000.
func BenchmarkJudge(b *testing.B) {
	entries := many()
	for b.Loop() {
		v, err := good().Verdict(context.Background(), entries)
		if err != nil || !v.OK() || len(v.Findings) != 0 {
			b.Fatal(err, v.Outcome)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Microseconds())/1000/float64(b.N)/float64(len(entries)), "ms/entry")
}

func BenchmarkParse(b *testing.B) {
	var file bytes.Buffer
	if err := WriteFile(&file, many()); err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(file.Len()))
	for b.Loop() {
		if _, err := ParseFile("f", file.Bytes()); err != nil {
			b.Fatal(err)
		}
	}
}
