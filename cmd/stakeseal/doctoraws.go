package main

import (
	"context"
	"strings"

	"github.com/stakeseal/stakeseal/internal/aws/awskms"
	"github.com/stakeseal/stakeseal/internal/aws/ops"
	"github.com/stakeseal/stakeseal/record"
	"github.com/stakeseal/stakeseal/seal"
)

// subject is the installation that the home's settings name.
func (h *home) subject() (*ops.Subject, error) {
	g := h.generator
	n := ops.Named{Store: g.Store.Rest, Archive: g.Archive.Rest}
	if g.Certifier.Scheme == "awskms" {
		n.Certifier = g.Certifier.Rest
	}
	if alias, ok := strings.CutPrefix(h.operator.Generator, "lambda:"); ok {
		n.Generator = alias
	}
	signing, recovery, err := g.SealTo(parseRecipient)
	if err != nil {
		return nil, err
	}
	n.Signing, n.Recovery = kmsOf(signing), kmsOf(recovery)
	s, err := ops.SubjectOf(n)
	if err != nil {
		return nil, usage("compare generator.yaml and home.yaml with the stacks' outputs", "the settings name no installation that could be examined: %w", err)
	}
	return s, nil
}

// kmsOf are the KMS keys among recipients.
func kmsOf(list *seal.Recipients) []string {
	var out []string
	for _, r := range list.Names() {
		if key, ok := strings.CutPrefix(r.Recipient.String(), awskms.Prefix); ok {
			out = append(out, key)
		}
	}
	return out
}

// examineCloud looks at the installation on AWS.
func (a *app) examineCloud(ctx context.Context, h *home, r *report, d diagnosis) error {
	subject, err := h.subject()
	if err != nil {
		return err
	}
	live := &ops.Live{
		Subject: *subject, Caller: h.cloud.Caller, Clients: ops.NewClients(h.cloud),
		Trust: h.trust, Settings: h.generator.Digest, Template: ops.Templates{}, Known: d.known, Now: a.now(), TryOpening: d.try,
	}
	if !d.quick {
		live.Newest = h.newest(ctx)
	}
	a.say("looking at %s in %s of account %s, as %s", subject.Name, subject.Region, subject.Account, h.cloud.Caller.ARN)
	found, err := live.Examine(ctx)
	if err != nil {
		return err
	}
	for _, f := range found.Findings {
		r.findings = append(r.findings, finding{"stakeseal/finding/v1", f.Check, string(f.State), f.Says, f.Gains, f.Hint})
	}
	r.lacks = append(r.lacks, found.Lacks...)
	if r.failed == nil {
		r.failed = found.Failed
	}
	return nil
}

// newest is the newest birth of the newest order that has any, nil where it
// cannot be told; whether the records can be read is judged elsewhere.
func (h *home) newest(ctx context.Context) *ops.Newest {
	var ids []string
	for o, err := range h.records.Orders(ctx) {
		if err != nil {
			return nil
		}
		ids = append(ids, o.ID)
	}
	for i := len(ids) - 1; i >= 0; i-- {
		var last record.Validator
		for v, err := range h.records.Validators(ctx, record.Query{Order: ids[i]}) {
			if err != nil {
				return nil
			}
			if !v.Created.Before(last.Created) {
				last = v
			}
		}
		if last.Order == "" {
			continue
		}
		b, err := h.records.Birth(ctx, last.Pubkey)
		if err != nil {
			return nil
		}
		v, err := h.trust.VerifyBirth(b.Certificate)
		if err != nil {
			return nil
		}
		return &ops.Newest{Maker: v.Maker, Pubkey: v.Pubkey.String(), Time: v.Time}
	}
	return nil
}
