package birth_test

import (
	"context"
	"errors"
	"sync"
	"testing"

	"github.com/stakeseal/stakeseal/birth"
	"github.com/stakeseal/stakeseal/record"
	"github.com/stakeseal/stakeseal/record/recordfault"
)

// TestFaultsWhileManyWrite is TestFaults with births on their way to the
// store and the archive side by side. Which call is the n-th is then up to
// them; what must hold is not.
func TestFaultsWhileManyWrite(t *testing.T) {
	const count = 6
	learn := newHouse(t)
	plan := recordfault.New()
	flow := learn.flow
	flow.Writers = 8
	flow.Store, flow.Archive = faulty(plan, learn)
	_, _, err := run(t.Context(), &flow, learn.order(count, "none"))
	must(t, err)
	points := recordfault.Points(plan.Calls())
	fired := 0
	tried := 0
	for i := 0; i < len(points); i += 3 {
		point := points[i]
		t.Run(point.String(), func(t *testing.T) {
			tried++
			h := newHouse(t)
			plan := recordfault.New(point)
			flow := h.flow
			flow.Writers = 8
			flow.Store, flow.Archive = faulty(plan, h)
			r := h.order(count, "none")
			disclosed, receipt, err := run(t.Context(), &flow, r)
			if plan.Fired() {
				fired++
				if err == nil && point.Mode != recordfault.Pass {
					t.Error("the fault was swallowed")
				}
			}
			if err != nil && !errors.Is(err, recordfault.ErrInjected) {
				t.Fatalf("failed otherwise than injected: %v", err)
			}
			_, final, err := run(t.Context(), &h.flow, r)
			must(t, err)
			keys := h.audit(r)
			if len(keys) != count {
				t.Fatalf("%d validators after the second run, want %d", len(keys), count)
			}
			for _, b := range disclosed {
				if keys[b.Index] != b.Pubkey {
					t.Errorf("index %d was disclosed as %v and is %v", b.Index, b.Pubkey, keys[b.Index])
				}
			}
			if receipt != nil && string(receipt) != string(final) {
				t.Error("a receipt was disclosed and is another now")
			}
		})
	}
	if tried < 20 || fired < tried/2 {
		t.Errorf("only %d of %d faults were met", fired, tried)
	}
}

// gate is a store whose births wait until enough of them have come at once.
type gate struct {
	birth.Store
	mu   sync.Mutex
	now  int
	most int
	full chan struct{} // closed when want births wait
	want int
}

func (g *gate) PutBirth(ctx context.Context, b record.Birth) (record.Birth, error) {
	g.mu.Lock()
	g.now++
	g.most = max(g.most, g.now)
	if g.most == g.want {
		select {
		case <-g.full:
		default:
			close(g.full)
		}
	}
	g.mu.Unlock()
	defer func() {
		g.mu.Lock()
		g.now--
		g.mu.Unlock()
	}()
	select {
	case <-g.full:
	case <-ctx.Done():
		return record.Birth{}, ctx.Err()
	}
	return g.Store.PutBirth(ctx, b)
}

// TestWriters: one worker goes on while births wait for the store, as many as
// there are writers and no more. With fewer on their way the gate would never
// open.
func TestWriters(t *testing.T) {
	h := newHouse(t)
	h.flow.Workers, h.flow.Writers = 1, 5
	g := &gate{Store: h.store, full: make(chan struct{}), want: 5}
	h.flow.Store = g
	r := h.order(40, "none")
	made, _, err := run(t.Context(), &h.flow, r)
	must(t, err)
	if len(made) != 40 || g.most != 5 {
		t.Errorf("%d validators with %d births waiting at most, want 40 with 5", len(made), g.most)
	}
	if keys := h.audit(r); len(keys) != 40 {
		t.Errorf("%d validators recorded, want 40", len(keys))
	}
}

// TestStoppedWhileManyWrite: a caller that stops listening gets no further
// birth, and no writer outlives the run.
func TestStoppedWhileManyWrite(t *testing.T) {
	h := newHouse(t)
	h.flow.Writers = 8
	plan := recordfault.New()
	flow := h.flow
	flow.Store, flow.Archive = faulty(plan, h)
	r := h.order(30, "none")
	seen := 0
	for _, err := range flow.Run(t.Context(), r) {
		must(t, err)
		if seen++; seen == 3 {
			break
		}
	}
	calls := len(plan.Calls())
	_, _, err := run(t.Context(), &h.flow, r) // not through the plan
	must(t, err)
	if after := len(plan.Calls()); after != calls {
		t.Errorf("%d calls were made after the run had ended", after-calls)
	}
	if keys := h.audit(r); len(keys) != 30 {
		t.Errorf("%d validators, want 30", len(keys))
	}
}
