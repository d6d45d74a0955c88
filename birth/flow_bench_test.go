package birth_test

import (
	"fmt"
	"net"
	"testing"

	"github.com/stakeseal/stakeseal/internal/parent"
)

// BenchmarkFlow is an order of b.N validators without keystores, through the
// real stores and the connection that joins the generator to its parent, in
// one process: what a profile of the flow is taken from. `make bench` has the
// figures, of the real programs.
func BenchmarkFlow(b *testing.B) {
	for _, joined := range []bool{false, true} {
		for _, workers := range []int{1, 2} {
			b.Run(fmt.Sprintf("parent=%v/workers=%d", joined, workers), func(b *testing.B) {
				h := newHouse(b)
				h.flow.Workers = workers
				h.flow.MaxPerOrder = 1 << 20
				if joined {
					conn, inherited, err := parent.Pair()
					must(b, err)
					ports := parent.Ports{Births: h.store, Reader: h.store, Archive: h.archive}
					served := make(chan error, 1)
					go func() { served <- parent.Serve(conn, ports.Handler()) }()
					end, err := net.FileConn(inherited) // a duplicate: Inherited would take the descriptor away from the file
					must(b, err)
					must(b, inherited.Close())
					b.Cleanup(func() { end.Close(); conn.Close(); <-served })
					remote := &parent.Store{HTTP: parent.Client(end)}
					h.flow.Store, h.flow.Archive = remote, remote
				}
				r := h.order(uint32(b.N), "none")
				b.ResetTimer()
				_, _, err := run(b.Context(), &h.flow, r)
				must(b, err)
			})
		}
	}
}
