package main

import (
	"context"
	"errors"

	"github.com/stakeseal/stakeseal/birth"
	"github.com/stakeseal/stakeseal/certificate"
	"github.com/stakeseal/stakeseal/record"
)

// verifier is a store that can examine itself.
type verifier interface{ Verify(context.Context) error }

func (a *app) examineRecords(ctx context.Context, h *home, r *report) error {
	if s, ok := h.records.(verifier); ok {
		if err := s.Verify(ctx); err != nil {
			r.wrong("store", "keep the file; bundles and another copy have what it had", "%v", err)
		} else {
			r.ok("store", "%s is whole", h.generator.Store)
		}
	}
	var orders []record.Order
	for o, err := range h.records.Orders(ctx) {
		if err != nil {
			return err
		}
		orders = append(orders, o)
	}
	for _, o := range orders {
		if err := a.examineOrder(ctx, h, r, o); err != nil {
			return err
		}
	}
	if len(orders) == 0 {
		r.ok("orders", "none yet")
	}
	return a.examineImports(ctx, h, r)
}

// examineOrder compares all that there is of an order: store, archive,
// certificates and receipt, as a drill does before it opens anything.
func (a *app) examineOrder(ctx context.Context, h *home, r *report, o record.Order) error {
	check := "order " + o.ID
	resume := "stakeseal generate" + a.homeWords(h) + " --resume " + o.ID
	const tampered = "do not deposit to it; compare with the bundles and another copy"
	if o.Settings != record.Digest(h.generator.Digest) {
		r.warn(check, "it cannot be resumed under these settings; what it has stands", "placed under other settings")
	}
	s, err := h.sealedOrder(ctx, o.ID)
	if err != nil {
		if ctx.Err() != nil {
			return err
		}
		r.wrong(check, tampered, "%v", err)
		return nil
	}
	var births []func(context.Context) (record.Birth, *certificate.Verified, error)
	for read, err := range s.births {
		if err != nil {
			return err
		}
		births = append(births, read)
	}
	bar := a.progress(int64(s.count), "checked")
	defer bar.done()
	verdicts := make([]error, len(births)) // each its own: no lock, and the order's own order
	err = inParallel(ctx, h.readers(1), numbered(births), func(ctx context.Context, read nth[func(context.Context) (record.Birth, *certificate.Verified, error)]) error {
		b, v, err := read.of(ctx)
		if err == nil {
			err = s.covers(b, v)
		}
		if err != nil && ctx.Err() != nil {
			return err
		}
		bar.step()
		verdicts[read.at] = err
		return nil
	})
	if err != nil {
		return err
	}
	bad, cutShort := 0, 0
	for _, err := range verdicts {
		switch {
		case err == nil:
		case errors.Is(err, errCutShort):
			cutShort++
		default:
			if bad++; bad <= 5 {
				r.wrong(check, tampered, "%v", err)
			}
		}
	}
	if bad > 5 {
		r.wrong(check, "", "and %d more", bad-5)
	}
	_, err = h.archive.Get(ctx, birth.ReceiptObject(o.ID, 0, o.Count))
	unfinished := errors.Is(err, record.ErrNotFound)
	switch {
	case err != nil && !unfinished:
		return err
	case s.count < int(o.Count) || cutShort > 0:
		r.warn(check, resume, "%d of %d validators made and archived", s.count-cutShort, o.Count)
	case unfinished:
		r.warn(check, resume+" writes it", "%d validators made, and no receipt", o.Count)
	case bad == 0:
		r.ok(check, "%d validators: records, certificates, archive and receipt agree", o.Count)
	}
	drilled, err := h.drilled(ctx, o.ID)
	if err != nil {
		return err
	}
	if !drilled {
		r.warn(check, "stakeseal recovery drill"+a.homeWords(h)+" --order "+o.ID+" --identity FILE", "recovery of all that it has was never drilled")
	}
	return nil
}
