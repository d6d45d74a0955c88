package deposit

import (
	"context"
	"errors"
	"fmt"
	"math"

	"github.com/stakeseal/stakeseal/eth"
)

// Judge says whether deposits may be sent. Its fields come from the person
// who asks and from the trust file, never from the files that are judged. A
// Judge is not changed by judging and may be used concurrently if its ports
// may.
type Judge struct {
	Network eth.Network // the wanted network

	// Addresses are the withdrawal addresses that may receive the stake, by
	// name. Empty needs AnyAddress, or Births: then each pubkey may pay only
	// to the address that was approved for it (Known.Approved).
	Addresses  map[string]eth.Address
	AnyAddress bool // any address may; reported once

	AllowBLS         bool // 0x00 credentials only warn
	AllowBad         bool // eth.KnownBad addresses only warn on mainnets too
	AllowUncertified bool // with Births: a pubkey without a certificate only warns

	// AllowNoQueue: nodes that don't show the queue of pending deposits only
	// warn on known networks too, all of which have one (Electra).
	AllowNoQueue bool

	// Plan is the deposit plan wanted for each pubkey, in gwei; empty: any.
	// The plan of a certificate counts before it.
	Plan []eth.Gwei

	Births Births // nil: no certificates are compared
	Chain  Chain  // nil: the chain is not asked, which is a warning
}

// Judge is Verdict for callers that want the findings alone. The findings
// hold whatever the error says; an error is never a pass.
func (j *Judge) Judge(ctx context.Context, entries []Entry) ([]Finding, error) {
	v, err := j.Verdict(ctx, entries)
	return v.Findings, err
}

// Verdict judges all entries of all files together: duplicates and sums are
// only seen across everything that is about to be sent.
//
// An error that wraps ErrChain or ErrBirths, or of the context, means that a
// check could not be made: the verdict then is Unknown, or Refused where the
// other checks already refuse, and never Good.
func (j *Judge) Verdict(ctx context.Context, entries []Entry) (Verdict, error) {
	v := Verdict{
		Schema: Schema, Outcome: Unknown, Network: j.Network.Name, ForkVersion: j.Network.GenesisForkVersion,
		Entries: len(entries), Findings: []Finding{},
	}
	if err := j.check(entries); err != nil {
		v.NotChecked = err.Error()
		return v, err
	}
	c := newTrial(j, entries)
	v.Validators = len(c.groups)
	for i := range entries {
		v.Total = add(v.Total, entries[i].Amount)
	}
	at, err := c.run(ctx)
	v.AsOf = at
	for _, list := range c.byEntry {
		v.Findings = append(v.Findings, list...)
	}
	v.Findings = append(v.Findings, c.overall...)
	switch {
	case v.Count(Refuse) > 0:
		v.Outcome = Refused
	case err == nil:
		v.Outcome = Good
	}
	if err != nil {
		v.NotChecked = err.Error()
	}
	return v, err
}

func (j *Judge) check(entries []Entry) error {
	switch {
	case j.Network.Name == "" || j.Network.MinDeposit == 0:
		return fmt.Errorf("%w: no network is named", ErrJudge)
	case len(entries) == 0:
		return fmt.Errorf("%w: no deposits are given", ErrJudge)
	case len(j.Addresses) == 0 && !j.AnyAddress && j.Births == nil:
		return fmt.Errorf("%w: no withdrawal address is named", ErrJudge)
	case len(j.Addresses) != 0 && j.AnyAddress:
		return fmt.Errorf("%w: withdrawal addresses are named, and any is allowed too", ErrJudge)
	}
	for i, amount := range j.Plan {
		if amount < j.Network.MinDeposit {
			return fmt.Errorf("%w: stage %d of the plan is %d gwei, less than the smallest deposit", ErrJudge, i+1, amount)
		}
	}
	return nil
}

// trial is one judging: the entries, grouped, and what was found.
type trial struct {
	*Judge
	entries []Entry
	groups  []*group // by first occurrence
	byKey   map[eth.Pubkey]*group

	signatures []signature
	byEntry    [][]Finding
	overall    []Finding
}

// group is all entries of one pubkey.
type group struct {
	pubkey eth.Pubkey
	rows   []int // indexes into entries, in order
	known  Known
	plan   []eth.Gwei // nil: unknown
	onward bool       // the chain holds a validly signed deposit of the same owner
}

func newTrial(j *Judge, entries []Entry) *trial {
	c := &trial{Judge: j, entries: entries, byKey: make(map[eth.Pubkey]*group), byEntry: make([][]Finding, len(entries))}
	for i := range entries {
		g := c.byKey[entries[i].Pubkey]
		if g == nil {
			g = &group{pubkey: entries[i].Pubkey, plan: j.Plan}
			c.byKey[g.pubkey] = g
			c.groups = append(c.groups, g)
		}
		g.rows = append(g.rows, i)
	}
	return c
}

// run makes every check that it can, also after a source failed, so that a
// person sees all there is to see. The errors say what could not be checked.
func (c *trial) run(ctx context.Context) (at *At, err error) {
	var errs []error
	if err := c.certificates(ctx); err != nil {
		errs = append(errs, err)
	}
	c.signatures, err = c.verify(ctx)
	if err != nil {
		return nil, errors.Join(append(errs, err)...)
	}
	if c.Chain != nil {
		at, err = c.askChain(ctx)
		if err != nil {
			errs = append(errs, err)
		}
	} else {
		c.overall = append(c.overall, Finding{
			Code: ChainNotAsked, Severity: Warn,
			Message: "no beacon node was asked: a pubkey that somebody deposited to before is not noticed",
			Hint:    "name one or better two beacon nodes",
		})
	}
	for i := range c.entries {
		c.judgeEntry(i)
	}
	for _, g := range c.groups {
		c.judgeGroup(g)
	}
	c.reportAnyAddress()
	c.reportApproved()
	return at, errors.Join(errs...)
}

func (c *trial) certificates(ctx context.Context) error {
	if c.Births == nil {
		return nil
	}
	for _, g := range c.groups {
		if err := ctx.Err(); err != nil {
			return err
		}
		known, err := c.Births.Deposits(ctx, g.pubkey)
		if errors.Is(err, ErrCertificate) {
			c.each(g, Refuse, CertificateInvalid, "ask whoever keeps the trust file, and compare with another copy; send nothing to it until then", "pubkey %s: %v", g.pubkey.Hex(), err)
			continue
		}
		if err != nil {
			return fmt.Errorf("%w: of %s: %w", ErrBirths, g.pubkey, err)
		}
		g.known = known
		if known.Ours {
			g.plan = nil
			for _, d := range known.Deposits {
				g.plan = append(g.plan, d.Amount)
			}
		}
		c.compareCertificate(g)
	}
	return nil
}

// found adds a finding to an entry.
func (c *trial) found(i int, s Severity, code Code, field, hint, format string, args ...any) {
	e := &c.entries[i]
	c.byEntry[i] = append(c.byEntry[i], Finding{
		Code: code, Severity: s, Source: e.Source, Row: e.Row, Field: field, Pubkey: e.Pubkey,
		Message: fmt.Sprintf(format, args...), Hint: hint,
	})
}

// ether is an amount for a message.
func (c *trial) ether(g eth.Gwei) string {
	return fmt.Sprintf("%d gwei (%s)", g, Coins(c.Network, g))
}

// Coins is an amount in the network's coin, with the coin's name.
func Coins(n eth.Network, g eth.Gwei) string {
	return g.Ether(n) + " " + n.Unit()
}

// add saturates: a hostile file must not bring a sum back below a bound.
func add(a, b eth.Gwei) eth.Gwei {
	if a > math.MaxUint64-b {
		return math.MaxUint64
	}
	return a + b
}

func sum(amounts []eth.Gwei) (total eth.Gwei) {
	for _, a := range amounts {
		total = add(total, a)
	}
	return total
}

func count(amounts []eth.Gwei, a eth.Gwei) (n int) {
	for _, b := range amounts {
		if a == b {
			n++
		}
	}
	return n
}
