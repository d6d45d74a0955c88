package birth

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"
)

// allowance is the time that a run has.
type allowance struct {
	now   func() time.Time
	until time.Time // zero: without limit
}

// The tail of an invocation is kept free for the receipt (about eight calls,
// one after the other) and for the answer's way out: a tenth of the time, in
// these bounds.
const (
	minTail    = time.Second
	maxTail    = 5 * time.Second
	answerTime = 200 * time.Millisecond
)

// allow gives a run its time: until its tail begins.
func (f *Flow) allow(r Range) allowance {
	a := allowance{now: f.Now, until: r.Until}
	if a.limited() {
		a.until = r.Until.Add(-min(max(a.left()/10, minTail), maxTail))
	}
	return a
}

func (a allowance) limited() bool { return !a.until.IsZero() }

// left is the time left, a day where there is no limit.
func (a allowance) left() time.Duration {
	if !a.limited() {
		return 24 * time.Hour
	}
	return a.until.Sub(a.now())
}

// cut ends calls that are in flight when the time is over, with ErrIncomplete
// as the cause: what a batch cannot finish is lost, what was done is not.
func (a allowance) cut(ctx context.Context) (context.Context, context.CancelFunc) {
	if !a.limited() {
		return context.WithCancel(ctx)
	}
	return context.WithTimeoutCause(ctx, a.left(), ErrIncomplete)
}

// late makes the error of a call that the end of the time cut off the error
// that it is.
func late(ctx context.Context, err error) error {
	if errors.Is(context.Cause(ctx), ErrIncomplete) && !errors.Is(err, ErrIncomplete) {
		return fmt.Errorf("%w: %w", ErrIncomplete, err)
	}
	return err
}

// attempts is how often a call is made where no time limits it. With the
// waits between it is half a minute, beside what the clients below repeat.
const attempts = 8

// again makes a call, and again while its error is one that passes: a table
// that is throttled for a minute costs that minute and not the keys that are
// waiting for it, whose KDF is most of the bill. It ends with the time
// (ErrIncomplete). Every port allows that a call is repeated as it was.
func again[T any](ctx context.Context, f *Flow, a allowance, call func() (T, error)) (T, error) {
	for n := 1; ; n++ {
		v, err := call()
		if err == nil || f.Passing == nil || ctx.Err() != nil || !f.Passing(err) {
			return v, err
		}
		wait := f.backoff(n)
		switch {
		case a.limited() && a.left() <= wait:
			return v, fmt.Errorf("%w: %w", ErrIncomplete, err)
		case !a.limited() && n == attempts:
			return v, err
		}
		select {
		case <-ctx.Done():
			return v, err
		case <-time.After(wait):
		}
	}
}

func (f *Flow) backoff(n int) time.Duration {
	if f.Backoff != nil {
		return f.Backoff(n)
	}
	return Backoff(n)
}

// Backoff is the wait before repetition n (1, 2, ...) of a call: 0 to 200 ms
// before the first, doubling up to 0 to 6.4 s. It is random, so that many who
// were throttled together do not come back together.
func Backoff(n int) time.Duration { return rand.N(200 * time.Millisecond << min(n-1, 5)) }
