package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"time"

	"github.com/stakeseal/stakeseal/birth"
	"github.com/stakeseal/stakeseal/certificate"
	"github.com/stakeseal/stakeseal/internal/aws/session"
	"github.com/stakeseal/stakeseal/internal/runtimeapi"
	"github.com/stakeseal/stakeseal/record"
)

// cloudWorkers is how many invocations run at once unless --workers says
// otherwise: a new AWS account may run ten.
const cloudWorkers = 8

// invoke runs one event on the released generator.
type invoke func(ctx context.Context, event []byte) ([]byte, error)

// lambda returns what invokes the generator that home.yaml names, and says
// once which version of it answered.
func (a *app) lambda(h *home) (invoke, error) {
	g, err := h.cloud.Generator(h.operator.Function.String())
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context, event []byte) ([]byte, error) {
		answered, err := g.Invoke(ctx, event)
		if err != nil {
			return nil, h.lambdaTrouble(err)
		}
		return answered.Answer, nil
	}, nil
}

// lambdaTrouble says what to do about an invocation that did not come about.
func (h *home) lambdaTrouble(err error) error {
	if fault, ok := errors.AsType[*session.Fault](err); ok && fault.Code == "ResourceNotFoundException" {
		return fail(exitRemote, "a release puts a version into force behind the alias: stakeseal release deploy; the alias is in home.yaml", "%w", err)
	}
	return h.rights.explain(err, "run the generator", invokers)
}

// settingsRefusal is how a generator refuses an order that was confirmed under
// other settings than its own.
var settingsRefusal = regexp.MustCompile(`under the settings ([0-9a-f]{64}), and these are ([0-9a-f]{64})`)

// explainSettings turns that refusal into what it means here: the package that
// was released holds other settings than this home.
func explainSettings(err error) error {
	var f *runtimeapi.Failure
	if !errors.As(err, &f) || f.Class != "refused" {
		return err
	}
	m := settingsRefusal.FindStringSubmatch(f.Message)
	if m == nil {
		return err
	}
	return fail(exitConflict,
		"bring generator.yaml and recipients/ to what was released (they are inside the package; stakeseal release verify shows its digest), or release what this home has",
		"the deployed package has other settings (digest %s) than this home (%s): nothing was made", m[2], m[1])
}

// runCloud places an order with the released generator and returns the receipt
// over the whole of it. The order is run as ranges, several at once; whatever
// is left of one is invoked again. The receipts of the ranges are verified, and
// the whole one must say the same.
func (a *app) runCloud(ctx context.Context, h *home, request birth.Request, workers int, bar *bar) ([]byte, error) {
	run, err := a.lambda(h)
	if err != nil {
		return nil, err
	}
	r := &ranges{request: request, trust: h.trust, archive: h.archive, invoke: run, workers: workers, made: bar.add, wait: pause}
	return r.run(ctx)
}

// pause waits before a failed range is tried for the nth time again.
func pause(ctx context.Context, n int) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(time.Duration(n) * 2 * time.Second):
		return nil
	}
}

// answered is a verified answer: of the range it was asked for, what is done
// and what is left.
type answered struct {
	receipt  *certificate.VerifiedReceipt // nil when nothing was done
	envelope []byte
	left     []span
}

// readAnswer verifies what the generator answered for a range: a receipt that
// the trust file accepts, of this order under the confirmed settings, over
// indexes that were asked for; and together with what is left exactly these.
func (r *ranges) readAnswer(ctx context.Context, asked span, data []byte) (*answered, error) {
	var x birth.Answer
	if err := json.Unmarshal(data, &x); err != nil || x.Schema != birth.AnswerSchema {
		return nil, fmt.Errorf("%w: couldn't read the generator's answer for %v", session.ErrRemote, asked)
	}
	out := &answered{envelope: x.Receipt}
	if string(out.envelope) == "null" {
		out.envelope = nil
	}
	for _, s := range x.Remaining {
		out.left = append(out.left, span{s.From, s.To})
	}
	end, err := restOf(asked, out.left)
	if err != nil {
		return nil, err
	}
	if end == asked.from {
		return nil, fmt.Errorf("%w: the generator answered for %v without having done any of it", session.ErrRemote, asked)
	}
	if out.envelope == nil {
		// Too large for an answer: it lies in the archive, under the name that
		// the range has.
		if out.envelope, err = r.archive.Get(ctx, birth.ReceiptObject(r.request.Order, asked.from, end)); err != nil {
			return nil, fmt.Errorf("couldn't read the receipt for %v from the archive: %w", asked, err)
		}
		if got := record.DigestOf(out.envelope); got != x.ReceiptSHA256 {
			return nil, fmt.Errorf("%w: the receipt for %v in the archive has sha256 %s, and the generator answered %s", birth.ErrTampered, asked, got, x.ReceiptSHA256)
		}
	}
	if out.receipt, err = confirmedReceipt(r.trust, r.request, out.envelope, asked.from, end); err != nil {
		return nil, err
	}
	return out, nil
}

// restOf returns where the done part of a range ends: it is its beginning,
// and what is left follows it without a gap.
func restOf(asked span, left []span) (end uint32, err error) {
	end = asked.to
	for i := len(left) - 1; i >= 0; i-- {
		if s := left[i]; s.from >= s.to || s.to != end || s.from < asked.from {
			return 0, fmt.Errorf("%w: the generator answered for %v that %v are left", session.ErrRemote, asked, left)
		}
		end = left[i].from
	}
	return end, nil
}

// confirmedReceipt verifies a receipt over [from, to): what was confirmed is
// what must have been used.
func confirmedReceipt(trust *certificate.Trust, q birth.Request, envelope []byte, from, to uint32) (*certificate.VerifiedReceipt, error) {
	v, err := trust.VerifyReceipt(envelope)
	if err != nil {
		return nil, fmt.Errorf("the generator's receipt is not what trust.yaml accepts: %w", err)
	}
	if v.SettingsDigest != certificate.Hash(q.Settings) || v.From != from || v.To != to {
		return nil, fmt.Errorf("%w: the receipt is of other settings or another part of the order than was confirmed", birth.ErrTampered)
	}
	event, err := json.Marshal(q)
	if err != nil {
		return nil, err
	}
	// The address and the amounts that were confirmed are in the order's digest.
	confirmed, err := birth.ParseRequest(event)
	if err != nil {
		return nil, err
	}
	if v.Receipt.Order != q.Order || v.Count != q.Count || v.OrderDigest != certificate.Hash(confirmed.Order.Digest()) {
		return nil, fmt.Errorf("%w: the receipt is of another order than was confirmed", birth.ErrTampered)
	}
	return v, nil
}
