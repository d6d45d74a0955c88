package birth_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stakeseal/stakeseal/birth"
	"github.com/stakeseal/stakeseal/certificate"
	"github.com/stakeseal/stakeseal/eth"
	"github.com/stakeseal/stakeseal/record"
	"github.com/stakeseal/stakeseal/record/recordfault"
)

// clock is the flow's clock where time passes only when a test says so.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) time() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) pass(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// timed gives a house a clock, one worker and no writers, so that time passes
// in one place at a time.
func timed(h *house) *clock {
	c := &clock{now: time.Date(2026, 12, 1, 0, 0, 0, 0, time.UTC)}
	h.flow.Now, h.flow.Workers, h.flow.Writers = c.time, 1, 1
	return c
}

// hooked is a store that is disturbed when it takes or gives a birth.
type hooked struct {
	birth.Store
	put  func(record.Birth) error
	read func(eth.Pubkey) error
}

func (s hooked) PutBirth(ctx context.Context, b record.Birth) (record.Birth, error) {
	if s.put != nil {
		if err := s.put(b); err != nil {
			return record.Birth{}, err
		}
	}
	return s.Store.PutBirth(ctx, b)
}

func (s hooked) Birth(ctx context.Context, p eth.Pubkey) (record.Birth, error) {
	if s.read != nil {
		if err := s.read(p); err != nil {
			return record.Birth{}, err
		}
	}
	return s.Store.Birth(ctx, p)
}

// partly runs a range until it ends, complete or not, and signs the receipt
// of what was done. err is that of Run.
func partly(t *testing.T, flow *birth.Flow, r birth.Range) (v *certificate.VerifiedReceipt, remaining []birth.Span, made int, err error) {
	t.Helper()
	var lines []birth.Line
	for b, failed := range flow.Run(t.Context(), r) {
		if failed != nil {
			err = failed
			break
		}
		if b.Made {
			made++
		}
		lines = append(lines, b.Line())
	}
	if err != nil && birth.Class(err) != birth.ClassIncomplete {
		return nil, nil, made, err
	}
	done, lines, remaining := r.Done(lines)
	if done.From == done.To {
		return nil, remaining, made, err
	}
	envelope, failed := flow.Receipt(t.Context(), done, lines)
	must(t, failed)
	v, failed = flow.Verifier.VerifyReceipt(envelope)
	must(t, failed)
	if v.From != done.From || v.To != done.To {
		t.Errorf("the receipt is of %d to %d, done were %d to %d", v.From, v.To, done.From, done.To)
	}
	return v, remaining, made, err
}

// TestStopsBeforeItsTimeIsUp: with more to do than time, a run ends in time
// with the beginning of its range done, receipted and the rest named; the same
// range again, and again, comes to the end with one set of keys.
func TestStopsBeforeItsTimeIsUp(t *testing.T) {
	for _, kdf := range []string{"none", "pbkdf2"} {
		t.Run(kdf, func(t *testing.T) {
			count := map[string]uint32{"none": 60, "pbkdf2": 12}[kdf]
			h := newHouse(t)
			c := timed(h)
			flow := h.flow
			flow.Store = hooked{Store: h.store, put: func(record.Birth) error { c.pass(time.Second); return nil }}
			r := h.order(count, kdf)
			// Half as much time as is needed, and what is kept free of it.
			given := time.Duration(count/2)*time.Second + 5*time.Second
			keys := map[uint32]eth.Pubkey{}
			runs, last := 0, uint32(0)
			for {
				r.Until = c.time().Add(given)
				v, remaining, _, err := partly(t, &flow, r)
				if over := c.time().Sub(r.Until); over > 0 {
					t.Fatalf("it ended %v after its time", over)
				}
				runs++
				for _, line := range v.Validators {
					if was, ok := keys[line.Index]; ok && was != line.Pubkey {
						t.Fatalf("index %d has another key than before", line.Index)
					}
					keys[line.Index] = line.Pubkey
				}
				if err == nil {
					break
				}
				if !errors.Is(err, birth.ErrIncomplete) || !slices.Equal(remaining, []birth.Span{{From: v.To, To: count}}) || v.To <= last {
					t.Fatalf("run %d: %v, receipt up to %d (before: %d), remaining %v", runs, err, v.To, last, remaining)
				}
				if runs == 1 && v.To < count/4 {
					t.Errorf("of %d indexes only %d were made in the time for half of them", count, v.To)
				}
				last = v.To
			}
			if audited := h.audit(r); runs < 2 || runs > 6 || len(keys) != int(count) || len(audited) != int(count) {
				t.Errorf("%d runs, %d receipted, %d recorded of %d", runs, len(keys), len(audited), count)
			}
		})
	}
}

// TestSlowStore: a store that turns out to take one birth a second, whatever
// is asked of it at once, does not make a run late: before anything is known
// of it, no more is begun than may wait there.
func TestSlowStore(t *testing.T) {
	for _, filled := range []uint32{0, 40} {
		t.Run(fmt.Sprint(filled, " filled"), func(t *testing.T) {
			h := newHouse(t)
			c := timed(h)
			r := h.order(90, "none")
			if r.To = filled; filled > 0 {
				_, _, err := run(t.Context(), &h.flow, r)
				must(t, err)
			}
			r.To = 90
			flow := h.flow
			flow.Workers, flow.Writers = 3, 16
			flow.Store = hooked{Store: h.store, put: func(record.Birth) error { c.pass(time.Second); return nil },
				read: func(eth.Pubkey) error { c.pass(time.Second); return nil }}
			r.Until = c.time().Add(25 * time.Second)
			v, remaining, _, err := partly(t, &flow, r)
			if !errors.Is(err, birth.ErrIncomplete) || c.time().After(r.Until) || v.To == 0 || len(remaining) != 1 {
				t.Errorf("%v at %v, until %v, receipt up to %d", err, c.time(), r.Until, v.To)
			}
		})
	}
}

// TestNoTimeAtAll: nothing is begun that cannot be brought to its end. A
// mnemonic above all, which would stay for ever with nothing derived from it.
func TestNoTimeAtAll(t *testing.T) {
	h := newHouse(t)
	c := timed(h)
	plan := recordfault.New()
	flow := h.flow
	flow.Store, flow.Archive = faulty(plan, h)
	r := h.order(10, "none")
	r.Until = c.time().Add(time.Second) // as much as is kept free
	if _, _, _, err := partly(t, &flow, r); !errors.Is(err, birth.ErrIncomplete) || len(plan.Calls()) != 0 {
		t.Errorf("%v after %d calls, want ErrIncomplete and none", err, len(plan.Calls()))
	}
	r.Until = c.time().Add(time.Second + 100*time.Millisecond) // and less than one index takes
	if _, _, _, err := partly(t, &flow, r); !errors.Is(err, birth.ErrIncomplete) || len(plan.Calls()) == 0 {
		t.Errorf("%v after %d calls, want ErrIncomplete and some", err, len(plan.Calls()))
	}
	for m, err := range h.store.Mnemonics(t.Context(), r.Order.ID) {
		must(t, err)
		t.Errorf("mnemonic %s was made for nothing", m.ID)
	}
	// What is there already takes less time than to make it.
	first := r
	first.To, first.Until = 4, time.Time{}
	_, _, err := run(t.Context(), &h.flow, first)
	must(t, err)
	v, remaining, made, err := partly(t, &flow, r)
	if !errors.Is(err, birth.ErrIncomplete) || v == nil || v.To != 4 || made != 0 || !slices.Equal(remaining, []birth.Span{{From: 4, To: 10}}) {
		t.Errorf("%v, %d made, receipt %+v, remaining %v", err, made, v, remaining)
	}
}

// TestSlowReads: reading back what is there stops in time as well.
func TestSlowReads(t *testing.T) {
	h := newHouse(t)
	c := timed(h)
	r := h.order(50, "none")
	_, whole, err := run(t.Context(), &h.flow, r)
	must(t, err)
	flow := h.flow
	flow.Store = hooked{Store: h.store, read: func(eth.Pubkey) error { c.pass(time.Second); return nil }}
	r.Until = c.time().Add(30 * time.Second)
	v, remaining, made, err := partly(t, &flow, r)
	if !errors.Is(err, birth.ErrIncomplete) || made != 0 || len(remaining) != 1 || v.To < 10 || v.To > 27 || c.time().After(r.Until) {
		t.Errorf("%v, %d made, remaining %v at %v, until %v", err, made, remaining, c.time(), r.Until)
	}
	// A complete run returns the receipt that was first, to the byte.
	r.Until = c.time().Add(time.Hour)
	_, again, err := run(t.Context(), &flow, r)
	must(t, err)
	if string(again) != string(whole) {
		t.Error("another receipt than the first")
	}
}

var errBusy = errors.New("throttled")

func busy(err error) bool { return errors.Is(err, errBusy) }

// TestThrottledAnywhere: a call of any port that fails as throttled, applied
// or not, is made again, and the run ends as if nothing had been.
func TestThrottledAnywhere(t *testing.T) {
	learn := newHouse(t)
	plan := recordfault.New()
	flow := learn.flow
	flow.Workers = 1
	flow.Store, flow.Archive = faulty(plan, learn)
	_, _, err := run(t.Context(), &flow, learn.order(3, "none"))
	must(t, err)
	tried := 0
	for _, point := range recordfault.Points(plan.Calls()) {
		if point.Down {
			continue
		}
		point.Err = errBusy
		t.Run(point.String(), func(t *testing.T) {
			tried++
			h := newHouse(t)
			plan := recordfault.New(point)
			flow := h.flow
			flow.Workers, flow.Passing = 1, busy
			waits := 0
			flow.Backoff = func(n int) time.Duration { waits++; return 0 }
			flow.Store, flow.Archive = faulty(plan, h)
			r := h.order(3, "none")
			made, receipt, err := run(t.Context(), &flow, r)
			if err != nil || len(made) != 3 || !plan.Fired() || waits != 1 {
				t.Fatalf("%v, %d made, fired %t, waited %d times", err, len(made), plan.Fired(), waits)
			}
			if keys := h.audit(r); len(keys) != 3 {
				t.Errorf("%d validators recorded", len(keys))
			}
			_, again, err := run(t.Context(), &h.flow, r)
			must(t, err)
			if string(again) != string(receipt) {
				t.Error("another receipt than the first")
			}
		})
	}
	if tried < 40 {
		t.Errorf("only %d calls were throttled", tried)
	}
}

// TestThrottledUntilTheEnd: an index that stays throttled costs what comes
// after it, not what came before; and no more time than there is.
func TestThrottledUntilTheEnd(t *testing.T) {
	h := newHouse(t)
	c := timed(h)
	flow := h.flow
	flow.Passing = busy
	flow.Backoff = func(int) time.Duration { c.pass(5 * time.Second); return 0 }
	flow.Store = hooked{Store: h.store, put: func(b record.Birth) error {
		if b.Index == 7 {
			return errBusy
		}
		return nil
	}}
	r := h.order(20, "none")
	r.Until = c.time().Add(time.Minute)
	v, remaining, made, err := partly(t, &flow, r)
	if !errors.Is(err, birth.ErrIncomplete) || !errors.Is(err, errBusy) || made != 7 || v.To != 7 || !slices.Equal(remaining, []birth.Span{{From: 7, To: 20}}) {
		t.Fatalf("%v, %d made, receipt up to %d, remaining %v", err, made, v.To, remaining)
	}
	if c.time().After(r.Until) {
		t.Errorf("it ended at %v, after %v", c.time(), r.Until)
	}
	// Without a limit it gives up after a while, as what it is.
	calls := 0
	flow.Backoff = func(int) time.Duration { calls++; return 0 }
	r.Until = time.Time{}
	if _, _, err := run(t.Context(), &flow, r); !errors.Is(err, errBusy) || errors.Is(err, birth.ErrIncomplete) || calls < 3 || calls > 50 {
		t.Errorf("without a limit: %v after %d repetitions", err, calls)
	}
	// And what does not pass is not repeated.
	calls = 0
	flow.Passing = func(error) bool { return false }
	if _, _, err := run(t.Context(), &flow, r); !errors.Is(err, errBusy) || calls != 0 {
		t.Errorf("an error that does not pass: %v after %d repetitions", err, calls)
	}
}

// TestSigningAndSealingAreRepeated: the same for the two keys in a service
// that the flow itself asks.
func TestSigningAndSealingAreRepeated(t *testing.T) {
	h := newHouse(t)
	failing := &flaky{Signer: h.flow.Signer, every: 2}
	flow := h.flow
	flow.Workers, flow.Passing, flow.Backoff, flow.Signer = 1, busy, func(int) time.Duration { return 0 }, failing
	r := h.order(5, "none")
	_, _, err := run(t.Context(), &flow, r)
	must(t, err)
	if failing.failed < 5 {
		t.Errorf("only %d signatures failed first", failing.failed)
	}
	if keys := h.audit(r); len(keys) != 5 {
		t.Errorf("%d validators", len(keys))
	}
}

// flaky fails every n-th signature as throttled.
type flaky struct {
	certificate.Signer
	every, n, failed int
}

func (f *flaky) Sign(ctx context.Context, data []byte) ([]byte, error) {
	if f.n++; f.n%f.every != 0 {
		f.failed++
		return nil, errBusy
	}
	return f.Signer.Sign(ctx, data)
}

// TestCutOff: when the time ends in the middle of a call, what was yielded
// stands and the run is incomplete; but a record that was changed is not
// excused by the hour.
func TestCutOff(t *testing.T) {
	for name, want := range map[string]error{"in a call": birth.ErrIncomplete, "and a changed record": birth.ErrTampered} {
		t.Run(name, func(t *testing.T) {
			h := newHouse(t)
			timed(h)
			ctx, end := context.WithCancelCause(t.Context())
			defer end(nil)
			flow := h.flow
			var store birth.Store = hooked{Store: h.store, put: func(b record.Birth) error {
				if b.Index == 3 {
					end(birth.ErrIncomplete)
				}
				return nil
			}}
			if want == birth.ErrTampered {
				store = lateLiar{h.store, func() { end(birth.ErrIncomplete) }}
			}
			flow.Store = store
			var made int
			var err error
			for _, failed := range flow.Run(ctx, h.order(6, "none")) {
				if err = failed; err == nil {
					made++
				}
			}
			if made != 3 || birth.Class(err) != birth.Class(want) || !errors.Is(err, want) {
				t.Errorf("%d made, %v; want 3 and %v", made, err, want)
			}
		})
	}
}

// lateLiar answers the fourth birth with a changed one, when the time is up.
type lateLiar struct {
	birth.Store
	end func()
}

func (l lateLiar) PutBirth(ctx context.Context, b record.Birth) (record.Birth, error) {
	owner, err := l.Store.PutBirth(ctx, b)
	if b.Index == 3 {
		l.end()
		owner.Credentials[31]++
	}
	return owner, err
}

// service is a certifying key in a service: each signature has a request id.
type service struct {
	certificate.Signer
	mu  sync.Mutex
	ids map[string]string // by what was signed
}

func (s *service) SignRequest(ctx context.Context, data []byte) ([]byte, string, error) {
	sig, err := s.Signer.Sign(ctx, data)
	s.mu.Lock()
	defer s.mu.Unlock()
	id := fmt.Sprintf("request-%d", len(s.ids))
	s.ids[string(data)] = id
	return sig, id, err
}

// TestSignRequestIsKept: with many signed at once, each record has the id of
// the request that signed its own certificate; a key in a file leaves none.
func TestSignRequestIsKept(t *testing.T) {
	h := newHouse(t)
	s := &service{Signer: h.flow.Signer, ids: map[string]string{}}
	flow := h.flow
	flow.Calls, flow.Workers, flow.Signer = 8, 3, s
	made, _, err := run(t.Context(), &flow, h.order(20, "none"))
	must(t, err)
	seen := map[string]bool{}
	for _, b := range made {
		found := ""
		for data, id := range s.ids {
			if strings.Contains(data, b.Pubkey.Hex()) {
				found = id
			}
		}
		if b.SignRequest == "" || b.SignRequest != found || seen[found] {
			t.Errorf("index %d has request %q, its certificate was signed by %q", b.Index, b.SignRequest, found)
		}
		seen[found] = true
		stored, err := h.store.Birth(t.Context(), b.Pubkey)
		must(t, err)
		if stored.SignRequest != b.SignRequest {
			t.Errorf("stored is request %q", stored.SignRequest)
		}
	}
	other := newHouse(t)
	made, _, err = run(t.Context(), &other.flow, other.order(1, "none"))
	must(t, err)
	if made[0].SignRequest != "" {
		t.Errorf("a key in a file has request %q", made[0].SignRequest)
	}
}

// TestTook: every step is timed.
func TestTook(t *testing.T) {
	h := newHouse(t)
	var mu sync.Mutex
	seen := map[string]int{}
	h.flow.Took = func(step string, d time.Duration) { mu.Lock(); defer mu.Unlock(); seen[step]++ }
	_, _, err := run(t.Context(), &h.flow, h.order(9, "none"))
	must(t, err)
	for _, step := range birth.Steps {
		if seen[step] == 0 {
			t.Errorf("step %s was never timed", step)
		}
	}
	if len(seen) != len(birth.Steps) || seen["seal"] != 9 || seen["certify"] != 9 || seen["store"] != 9 || seen["archive"] != 9 {
		t.Errorf("timed were %v", seen)
	}
}
