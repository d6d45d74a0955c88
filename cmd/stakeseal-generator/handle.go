package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/stakeseal/stakeseal/birth"
	"github.com/stakeseal/stakeseal/internal/aws/session"
	"github.com/stakeseal/stakeseal/internal/runtimeapi"
	"github.com/stakeseal/stakeseal/record"
)

// handler answers orders with receipts.
type handler struct {
	flow     *birth.Flow
	now      func() time.Time
	function *function // nil for a child
	facts    *facts    // nil for a child: it keeps quiet
	kms      *requests // nil for a child
	largest  int       // bytes of a receipt that goes into the answer; 0: of any size
}

// maxMessage bounds the message of a failure in bytes.
const maxMessage = 2 << 10

// serve answers one event. Its errors are failures, their messages clipped:
// they go to whoever asked.
func (h *handler) serve(ctx context.Context, inv runtimeapi.Invocation) ([]byte, error) {
	t := &tally{id: inv.ID, start: h.now(), steps: map[string]time.Duration{}, before: h.kms.count()}
	answer, err := h.answer(ctx, inv, t)
	if err != nil {
		failure := &runtimeapi.Failure{Class: class(err), Message: clip(err.Error(), maxMessage)}
		h.facts.failed(t, failure)
		err = failure
	}
	h.facts.ended(t, h.kms.count(), h.now().Sub(t.start))
	return answer, err
}

func (h *handler) answer(ctx context.Context, inv runtimeapi.Invocation, t *tally) ([]byte, error) {
	r, err := birth.ParseRequest(inv.Event)
	if err != nil {
		return nil, err
	}
	r.Until = inv.Deadline
	t.order(r)
	h.facts.started(t, r, h.now())
	flow := *h.flow
	flow.Took = t.took
	if h.function != nil {
		if flow.Maker.Function, err = h.function.invoked(inv.Function); err != nil {
			return nil, err
		}
		if flow.Workers, err = h.function.workers(r.Order.Keystore); err != nil {
			return nil, err
		}
	}
	var lines []birth.Line
	var ended error
	for b, err := range flow.Run(ctx, r) {
		if err != nil {
			ended = err
			break
		}
		lines = append(lines, b.Line())
		t.born(b)
	}
	if ended != nil && class(ended) != birth.ClassIncomplete {
		return nil, ended
	}
	done, lines, remaining := r.Done(lines)
	t.remaining = r.To - done.To
	switch {
	case ended == nil:
	case done.From == done.To:
		return nil, ended
	case r.Scheduled && len(remaining) > 0: // nobody reads the answer; the failure has it come again
		return nil, fmt.Errorf("%w (%d of %d indexes)", ended, t.remaining, r.To-r.From)
	}
	receipt, err := flow.Receipt(ctx, done, lines)
	if err != nil {
		return nil, err
	}
	a := birth.Answer{Schema: birth.AnswerSchema, Receipt: receipt, Remaining: remaining}
	if h.largest > 0 && len(receipt) > h.largest { // it is in the archive
		a.Receipt, a.ReceiptSHA256 = nil, record.DigestOf(receipt)
	}
	return json.Marshal(a)
}

// class is birth.Class, which does not know AWS.
func class(err error) string {
	c := birth.Class(err)
	if c == birth.ClassFailed && errors.Is(err, session.ErrDenied) {
		return birth.ClassDenied
	}
	return c
}

func clip(s string, most int) string {
	if len(s) > most {
		return strings.ToValidUTF8(s[:most], "") + "..."
	}
	return s
}
