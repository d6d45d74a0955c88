package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/stakeseal/stakeseal/internal/aws/ops"
)

// tellAudit prints an audit and makes its exit code.
func (a *app) tellAudit(h *home, r *auditReport) error {
	if a.json {
		if err := a.object(r); err != nil {
			return err
		}
	} else if err := a.printAudit(r); err != nil {
		return err
	}
	switch {
	case r.certificate != nil && len(r.Findings) == 1:
		return fmt.Errorf("the certificate of %v does not verify: %w", r.Pubkey, r.certificate)
	case len(r.Findings) > 0:
		return fail(exitRefused, "ask whoever held the role then; if nobody can say why, treat the key as known to others: exit the validator, and rotate what else they could open",
			"%d things should not be: %s", len(r.Findings), strings.Join(r.Findings, "; "))
	case r.failed != nil:
		return fail(exitRemote, "try again", "something could not be read: %w", r.failed)
	case len(r.lacks) > 0:
		return fail(exitDenied, "the auditor's role sees all of it: AWS_PROFILE=NAME chooses another profile", "something was not looked at, for want of %s", few(r.lacks))
	}
	if h.cloud != nil {
		a.say("every opening in the trail that was read is noted by an event")
	}
	return nil
}

func (a *app) printAudit(r *auditReport) error {
	stamp := func(t time.Time) string { return t.UTC().Format(time.RFC3339) }
	t := newTable(a.out)
	t.row("pubkey", r.Pubkey.String())
	t.row("order, index", fmt.Sprintf("%s, %d, on %s", r.Order, r.Index, r.Network))
	t.row("placed", stamp(r.Placed))
	t.row("made", stamp(r.Birth.Time))
	t.row("certificate", r.Birth.Verdict)
	if r.certificate == nil {
		release := r.Birth.Release
		if release == "" {
			release = "not judged: trust.yaml names no release"
		}
		t.row("  signed by", r.Birth.Key)
		t.row("  release", release)
		t.row("  program", r.Birth.Binary.String())
		t.row("  settings", r.Birth.Settings.String())
		if r.Birth.Function != "" {
			t.row("  function", r.Birth.Function)
		}
	}
	if r.Birth.Request != "" {
		t.row("  kms:Sign", r.Birth.Request)
		t.row("  in the trail", r.Birth.Signed)
	}
	t.row("mnemonic", r.Mnemonic)
	if c := r.Assigned; c != nil {
		t.row("assigned", fmt.Sprintf("%s, epoch %d, since %s", c.Signer, c.Epoch, stamp(c.Time)))
	} else {
		t.row("assigned", "to nobody")
	}
	if err := t.flush(); err != nil {
		return err
	}
	fmt.Fprintln(a.out, "\nWHO COULD HAVE OPENED IT")
	t = newTable(a.out, "SECRET", "GENERATION", "RECIPIENT", "KEY", "")
	for _, c := range r.Could {
		secret := map[string]string{"signing": "signing key", "recovery": "mnemonic"}[c.Purpose]
		t.row(secret, fmt.Sprint(c.Generation), c.Name, keyText(c.Key), c.Says)
		for _, o := range c.Openers {
			text := o.Principal + " by " + o.By
			if o.Under != "" {
				text += ", if " + o.Under
			}
			t.row("", "", "", "", "  "+text)
		}
	}
	if err := t.flush(); err != nil {
		return err
	}
	if len(r.Changes) > 0 {
		fmt.Fprintln(a.out, "\nCHANGES OF THE KEYS")
		t = newTable(a.out, "TIME", "WHAT", "WHO", "")
		for _, c := range r.Changes {
			t.row(stamp(c.Time), c.What+" "+c.Key, c.Who, c.Says)
		}
		if err := t.flush(); err != nil {
			return err
		}
	}
	fmt.Fprintln(a.out, "\nWHO DID")
	t = newTable(a.out, "TIME", "WHAT", "WHO", "KNOWN FROM", "")
	for _, d := range r.Did {
		says := d.Says
		if pairs := sortedPairs(withoutRequests(d.Detail)); pairs != "" {
			says = strings.TrimSpace(pairs + "  " + says)
		}
		t.row(stamp(d.Time), d.What, d.Who, d.Source, says)
	}
	if len(r.Did) == 0 {
		t.row("-", "nothing was noted", "", "", "")
	}
	if err := t.flush(); err != nil {
		return err
	}
	for _, p := range r.Covered {
		fmt.Fprintf(a.out, "\nread: %s, from %s to %s (what happened in the last %d minutes may not be there yet)\n", p.What, stamp(p.From), stamp(p.To), ops.TrailLag/time.Minute)
	}
	fmt.Fprintln(a.out, "\nWHAT THIS CANNOT SEE")
	for _, s := range r.CannotSee {
		fmt.Fprintf(a.out, "- %s\n", s)
	}
	for _, list := range []struct {
		head  string
		lines []string
	}{{"REMARKS", r.Remarks}, {"FINDINGS", r.Findings}} {
		if len(list.lines) == 0 {
			continue
		}
		fmt.Fprintf(a.out, "\n%s\n", list.head)
		for _, s := range list.lines {
			if _, err := fmt.Fprintf(a.out, "- %s\n", s); err != nil {
				return unprinted(err)
			}
		}
	}
	return nil
}

// withoutRequests leaves out what the joined lines show.
func withoutRequests(detail map[string]string) map[string]string {
	out := map[string]string{}
	for name, value := range detail {
		if name != requestsKey && !strings.HasPrefix(name, requestsKey+".") {
			out[name] = value
		}
	}
	return out
}
