package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/stakeseal/stakeseal/birth"
	"github.com/stakeseal/stakeseal/internal/build"
	"github.com/stakeseal/stakeseal/internal/keyfile"
	"github.com/stakeseal/stakeseal/record"
	"github.com/stakeseal/stakeseal/seal"
)

// finding is one line of the doctor's report.
type finding struct {
	Schema string `json:"schema"`
	Check  string `json:"check"`
	State  string `json:"state"` // ok, warning or wrong
	Says   string `json:"says"`
	Hint   string `json:"hint,omitempty"`
}

type report struct{ findings []finding }

func (r *report) ok(check, format string, args ...any) {
	r.add(check, "ok", "", format, args...)
}
func (r *report) warn(check, hint, format string, args ...any) {
	r.add(check, "warning", hint, format, args...)
}
func (r *report) wrong(check, hint, format string, args ...any) {
	r.add(check, "wrong", hint, format, args...)
}
func (r *report) add(check, state, hint, format string, args ...any) {
	r.findings = append(r.findings, finding{"stakeseal/finding/v1", check, state, fmt.Sprintf(format, args...), hint})
}

func (a *app) doctorVerb() *cobra.Command {
	var quick bool
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Look at the whole home and say what is not as it should be",
		Long: `Look at settings, keys, permissions, the store and the archive, and compare every
record with its certificate, with the archive's copy and with the order's
receipt. Exit code 3 when something is wrong.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			h, err := a.openHome()
			if err != nil {
				return err
			}
			defer h.close()
			return a.doctor(cmd.Context(), h, quick)
		},
	}
	cmd.Flags().BoolVar(&quick, "quick", false, "leave the records out")
	return cmd
}

func (a *app) doctor(ctx context.Context, h *home, quick bool) error {
	var r report
	a.examineMachine(ctx, &r)
	h.examineSettings(&r)
	if err := h.examineFiles(&r); err != nil {
		return err
	}
	if !quick {
		if err := a.examineRecords(ctx, h, &r); err != nil {
			return err
		}
	}
	count := map[string]int{}
	t := newTable(a.out, "CHECK", "STATE", "")
	for _, f := range r.findings {
		count[f.State]++
		if a.json {
			if err := a.object(f); err != nil {
				return err
			}
			continue
		}
		t.row(f.Check, f.State, f.Says)
	}
	if !a.json {
		if err := t.flush(); err != nil {
			return err
		}
		for _, f := range r.findings {
			if f.Hint != "" {
				a.say("hint: %s: %s", f.Check, f.Hint)
			}
		}
	}
	if n := count["wrong"]; n > 0 {
		return fail(exitRefused, "", "%d of %d checks found something wrong", n, len(r.findings))
	}
	a.say("%d checks, %d warnings, nothing wrong", len(r.findings), count["warning"])
	return nil
}

func (a *app) examineMachine(ctx context.Context, r *report) {
	if err := build.CheckClock(a.now()); err != nil {
		r.wrong("clock", "set it: its time is written into every certificate", "%v", err)
	} else {
		r.ok("clock", "not before this program's date")
	}
	self, err := os.Executable()
	if err != nil {
		r.wrong("generator", "", "couldn't find this program's folder: %v", err)
		return
	}
	program := filepath.Join(filepath.Dir(self), generatorProgram)
	version := exec.CommandContext(ctx, program, "--version")
	version.Env = []string{"GOTRACEBACK=none"}
	out, err := version.Output()
	want := strings.TrimSpace("stakeseal-generator " + build.Version + " " + build.Commit())
	switch {
	case err != nil:
		r.wrong("generator", "install both programs into one folder", "couldn't run %s: %v", program, err)
	case strings.TrimSpace(string(out)) != want:
		r.wrong("generator", "install both programs from one release", "%s says %q, this is %q", program, strings.TrimSpace(string(out)), want)
	default:
		r.ok("generator", "%s", program)
	}
}

func (h *home) examineSettings(r *report) {
	g := h.generator
	signing, recovery, err := g.SealTo(seal.ParseRecipientFile)
	if err != nil {
		r.wrong("recipients", "", "%v", err)
	} else {
		r.ok("recipients", "%d for signing keys, %d for mnemonics", len(signing.Names()), len(recovery.Names()))
	}
	if len(g.Recovery) < 2 {
		hint := "losing that one identity loses every mnemonic made from now on"
		if g.Network.Mainnet {
			r.wrong("recovery", hint, "one recovery recipient")
		} else {
			r.warn("recovery", hint, "one recovery recipient")
		}
	}
	for name, address := range g.Addresses {
		if why, bad := knownBad(g.Network, address); bad {
			r.warn("addresses", "", "%s = %v: %s", name, address, why)
		}
		trusted := false
		for _, t := range h.trust.Addresses {
			trusted = trusted || t == address
		}
		if !trusted {
			r.wrong("addresses", "what is made for it will not verify: add it to "+trustFile+" if it is meant", "%s = %v is allowed to the maker and not in %s", name, address, trustFile)
		}
	}
	if g.Certifier.Scheme != "file" {
		r.wrong("certifier", "use file:NAME", "%q is of a kind that this program does not know", g.Certifier)
		return
	}
	signer, err := keyfile.Open(h.path(g.Certifier.Rest))
	if err != nil {
		r.wrong("certifier", "", "%v", err)
		return
	}
	defer signer.Wipe()
	for _, k := range h.trust.Keys {
		if k.Key.Equal(signer.Public()) {
			if k.Revoked {
				r.wrong("certifier", "nothing that it signs will verify", "key %s is revoked in %s", k.Name, trustFile)
			} else {
				r.ok("certifier", "%s, trusted as %s", signer.Public().ID()[:16], k.Name)
			}
			return
		}
	}
	r.wrong("certifier", "add it there if it is yours: what it signs does not verify", "key %s is not in %s", signer.Public(), trustFile)
}

func (h *home) examineFiles(r *report) error {
	found, err := h.identitiesInside()
	if err != nil {
		return err
	}
	for _, path := range found {
		r.wrong("identities", "move it to where it belongs, away from what it opens", "an identity lies in the home: %s", path)
	}
	if len(found) == 0 {
		r.ok("identities", "none in the home")
	}
	var open []string
	err = filepath.WalkDir(h.dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		if info.Mode().Perm()&0o022 != 0 || (path == h.dir && info.Mode().Perm()&0o077 != 0) {
			open = append(open, path)
		}
		if d.IsDir() && path == h.path(h.generator.Archive.Rest) {
			return fs.SkipDir
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("couldn't look at the home: %w", err)
	}
	if len(open) > 0 {
		r.wrong("permissions", "chmod go-rwx", "others may read the home or write in it: %s", strings.Join(open, ", "))
	} else {
		r.ok("permissions", "only their owner writes")
	}
	return nil
}

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
	return nil
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
	bad, cutShort := 0, 0
	bar := a.progress(int64(s.count), "checked")
	defer bar.done()
	for job, err := range s.births {
		if err != nil {
			return err
		}
		b, v, err := job(ctx)
		if err == nil {
			err = s.covers(b, v)
		}
		bar.step()
		switch {
		case err == nil:
		case ctx.Err() != nil:
			return err
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
