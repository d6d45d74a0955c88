package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"

	"github.com/stakeseal/stakeseal/birth"
	"github.com/stakeseal/stakeseal/certificate"
	"github.com/stakeseal/stakeseal/internal/runtimeapi"
	"github.com/stakeseal/stakeseal/record"
)

// span is a range of an order's indexes, [from, to).
type span struct{ from, to uint32 }

func (s span) String() string { return fmt.Sprintf("indexes %d to %d", s.from, int64(s.to)-1) }
func (s span) len() uint32    { return s.to - s.from }

// ranges runs one order as ranges of its indexes.
type ranges struct {
	request birth.Request // of the whole order
	trust   *certificate.Trust
	archive record.Archive
	invoke  invoke
	workers int
	made    func(n int64)                          // progress
	wait    func(ctx context.Context, n int) error // before the nth repetition

	mu    sync.Mutex
	lines map[uint32]certificate.ReceiptValidator // what the ranges' receipts list
	all   []byte                                  // the receipt over the whole order, once one was answered
}

// Range sizes: what an invocation of a function of a modest size makes in a
// few minutes, so that its end is not near the function's, and small enough
// that a progress bar moves. Each range that makes something has a mnemonic
// of its own.
const (
	mostOfRange  = 250 // about 90 KB of receipt
	scryptRange  = 40
	leastOfRange = 8
)

// cut divides an order into ranges of about one size, in as few rounds of all
// workers as the sizes allow.
func cut(q birth.Request, workers int) (list []span) {
	most := uint32(mostOfRange)
	if q.Keystore == "scrypt" {
		most = scryptRange
	}
	each := min(max((q.Count+uint32(workers)-1)/uint32(workers), leastOfRange), most)
	for from := uint32(0); from < q.Count; from += each {
		list = append(list, span{from, min(from+each, q.Count)})
	}
	return list
}

// job is a range to run, and how often it failed.
type job struct {
	span
	failed int
}

// run runs all ranges and returns the receipt over the whole order.
func (r *ranges) run(ctx context.Context) ([]byte, error) {
	r.lines = map[uint32]certificate.ReceiptValidator{}
	list := cut(r.request, r.workers)
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	queue := newQueue(list)
	var group sync.WaitGroup
	for range min(r.workers, len(list)) {
		group.Go(func() {
			for {
				j, ok := queue.take(ctx)
				if !ok {
					return
				}
				more, err := r.one(ctx, j)
				if err != nil {
					cancel(err)
				}
				queue.done(more)
			}
		})
	}
	group.Wait()
	if err := context.Cause(ctx); err != nil {
		return nil, err
	}
	if r.all != nil {
		return r.all, nil
	}
	return r.whole(ctx)
}

// one runs a range and returns what is left of it.
func (r *ranges) one(ctx context.Context, j job) ([]job, error) {
	x, err := r.ask(ctx, j.span)
	if err == nil {
		if err := r.keep(x); err != nil {
			return nil, err
		}
		var more []job
		for _, s := range x.left {
			more = append(more, job{span: s})
		}
		return more, nil
	}
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	if j.failed++; j.failed >= tries(err) {
		return nil, fmt.Errorf("%v: %w", j.span, err)
	}
	if err := r.wait(ctx, j.failed); err != nil {
		return nil, err
	}
	return []job{j}, nil
}

// whole asks for the whole order, all of which is made: the generator verifies
// what is there and signs one receipt over all of it, which must say what the
// receipts of the ranges said.
func (r *ranges) whole(ctx context.Context) ([]byte, error) {
	for failed := 1; ; failed++ {
		x, err := r.ask(ctx, span{0, r.request.Count})
		switch {
		case ctx.Err() != nil:
			return nil, context.Cause(ctx)
		case err == nil:
			if err := r.keep(x); err != nil {
				return nil, err
			}
			if r.all != nil {
				return r.all, nil
			}
			return nil, tooLong(fmt.Errorf("it gets no further than index %d of %d", x.receipt.To, r.request.Count))
		case failed >= tries(err):
			if outOfTime(err) {
				return nil, tooLong(err)
			}
			return nil, err
		}
		if err := r.wait(ctx, failed); err != nil {
			return nil, err
		}
	}
}

// tooLong says what to do where only the whole receipt is missing.
func tooLong(err error) error {
	return fail(exitInternal, "all of them are made, and each range has its receipt; give the function more time or memory, and continue",
		"the generator's time is too short for the receipt of the whole order: %w", err)
}

// ask invokes the generator for a part of the order.
func (r *ranges) ask(ctx context.Context, s span) (*answered, error) {
	q := r.request
	q.From, q.To = s.from, s.to
	event, err := json.Marshal(q)
	if err != nil {
		return nil, err
	}
	data, err := r.invoke(ctx, event)
	if err != nil {
		return nil, explainSettings(err)
	}
	return r.readAnswer(ctx, s, data)
}

// keep notes what a receipt lists. An index that another receipt listed as
// another validator is tampering: its first owner stays its owner.
func (r *ranges) keep(x *answered) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	fresh := int64(0)
	for _, line := range x.receipt.Validators {
		before, there := r.lines[line.Index]
		if there && before != line {
			return fmt.Errorf("%w: index %d of order %s is listed as two validators, %v and %v", birth.ErrTampered, line.Index, r.request.Order, before.Pubkey, line.Pubkey)
		}
		if !there {
			r.lines[line.Index] = line
			fresh++
		}
	}
	r.made(fresh)
	if x.receipt.From == 0 && x.receipt.To == r.request.Count {
		r.all = x.envelope
	}
	return nil
}

// tries is how often an invocation is made that fails like this, the first one
// included, each after what others would call for trying again. The failures
// of the generator have classes; those that Lambda reports about it have types.
func tries(err error) int {
	var f *runtimeapi.Failure
	if !errors.As(err, &f) {
		return 1 // AWS, the network: they were tried again already
	}
	switch f.Class {
	case "refused", "tampered", "conflict", "init", "denied", "Function.ResponseSizeTooLarge":
		return 1 // the same again
	case "incomplete":
		return 2 // in all its time it made nothing
	}
	// A run that died, in which what was made stands, or something that it
	// needs was away.
	return 4
}

// outOfTime says that an invocation failed because its time was over.
func outOfTime(err error) bool {
	var f *runtimeapi.Failure
	return errors.As(err, &f) && (f.Class == "incomplete" || f.Class == "Sandbox.Timedout")
}

// queue hands out jobs until none is left and none is with a worker.
type queue struct {
	mu   sync.Mutex
	more *sync.Cond
	jobs []job
	out  int
}

func newQueue(list []span) *queue {
	q := &queue{}
	q.more = sync.NewCond(&q.mu)
	for _, s := range list {
		q.jobs = append(q.jobs, job{span: s})
	}
	return q
}

// take waits for a job; false when there will be none.
func (q *queue) take(ctx context.Context) (job, bool) {
	stop := context.AfterFunc(ctx, func() { // under the lock, or who is about to wait would not hear it
		q.mu.Lock()
		defer q.mu.Unlock()
		q.more.Broadcast()
	})
	defer stop()
	q.mu.Lock()
	defer q.mu.Unlock()
	for len(q.jobs) == 0 && q.out > 0 && ctx.Err() == nil {
		q.more.Wait()
	}
	if len(q.jobs) == 0 || ctx.Err() != nil {
		return job{}, false
	}
	j := q.jobs[0]
	q.jobs = q.jobs[1:]
	q.out++
	return j, true
}

// done gives a job back, with what is left of it.
func (q *queue) done(more []job) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.out--
	q.jobs = append(q.jobs, more...)
	q.more.Broadcast()
}
