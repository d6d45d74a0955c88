package birth_test

import (
	"fmt"
	"net"
	"syscall"
	"testing"

	"filippo.io/age"

	"github.com/stakeseal/stakeseal/eth"
	"github.com/stakeseal/stakeseal/internal/parent"
	"github.com/stakeseal/stakeseal/seal"
)

// BenchmarkFlow is an order of b.N validators without keystores, through the
// real stores, in one process: without the connection that joins the
// generator to its parent, and with it. It is what profiles are taken from;
// `make bench` has the figures, of the real programs.
func BenchmarkFlow(b *testing.B) {
	for _, joined := range []bool{false, true} {
		for _, writers := range []int{1, 64} {
			b.Run(fmt.Sprintf("joined=%v/writers=%d", joined, writers), func(b *testing.B) {
				h := newHouse(b)
				h.flow.Writers = writers
				h.flow.MaxPerOrder = 1 << 20
				id, err := age.GenerateHybridIdentity() // what init makes
				must(b, err)
				to, err := seal.ParseRecipient(id.Recipient().String())
				must(b, err)
				h.flow.Signing, err = seal.NewRecipients(seal.Signing, seal.Named{Name: "signing", Recipient: to})
				must(b, err)
				if joined {
					join(b, h)
				}
				r := h.order(uint32(b.N), "none")
				r.Order.Plan = []eth.Gwei{32e9}
				b.ResetTimer()
				start := processorTime()
				_, _, err = run(b.Context(), &h.flow, r)
				must(b, err)
				b.ReportMetric(float64(processorTime()-start)/1e6/float64(b.N), "cpu-ms/op")
			})
		}
	}
}

// join puts the parent's connection between the flow and its stores.
func join(b *testing.B, h *house) {
	conn, inherited, err := parent.Pair()
	must(b, err)
	end, err := net.FileConn(inherited) // a duplicate: Inherited would close the descriptor under the file
	must(b, err)
	must(b, inherited.Close())
	ports := parent.Ports{Births: h.store, Reader: h.store, Archive: h.archive}
	served := make(chan error, 1)
	go func() { served <- parent.Serve(conn, ports.Handler()) }()
	b.Cleanup(func() { end.Close(); conn.Close(); <-served })
	remote := &parent.Store{HTTP: parent.Client(end)}
	h.flow.Store, h.flow.Archive = remote, remote
}

// processorTime is what the process has used so far, in nanoseconds: unlike
// the clock it does not count what other programs took.
func processorTime() int64 {
	var r syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &r)
	return r.Utime.Nano() + r.Stime.Nano()
}
