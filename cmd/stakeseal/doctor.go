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
	a.examineMachine(&r)
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

func (a *app) examineMachine(r *report) {
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
	version := exec.Command(program, "--version")
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
	drilled := map[string]bool{}
	for e, err := range h.records.Events(ctx, record.EventQuery{Kind: "drilled"}) {
		if err != nil {
			return err
		}
		drilled[e.Order] = true
	}
	for _, o := range orders {
		if err := a.examineOrder(ctx, h, r, o, drilled[o.ID]); err != nil {
			return err
		}
	}
	if len(orders) == 0 {
		r.ok("orders", "none yet")
	}
	return nil
}

func (a *app) examineOrder(ctx context.Context, h *home, r *report, o record.Order, drilled bool) error {
	check := "order " + o.ID
	if o.Settings != record.Digest(h.generator.Digest) {
		r.warn(check, "it cannot be resumed under these settings; what it has stands", "placed under other settings")
	}
	indexes := map[uint32]bool{}
	bad := 0
	bar := a.progress(int64(o.Count), "checked")
	defer bar.done()
	for v, err := range h.records.Validators(ctx, record.Query{Order: o.ID}) {
		if err != nil {
			return err
		}
		bar.step()
		indexes[v.Index] = true
		if err := h.examineBirth(ctx, v); err != nil {
			if errors.Is(err, context.Canceled) {
				return err
			}
			if bad++; bad <= 5 {
				r.wrong(check, "do not deposit to it; compare with the bundles and another copy", "index %d: %v", v.Index, err)
			}
		}
	}
	if bad > 5 {
		r.wrong(check, "", "and %d more", bad-5)
	}
	if len(indexes) < int(o.Count) {
		r.warn(check, "stakeseal generate --resume "+o.ID, "%d of %d validators made", len(indexes), o.Count)
		return nil
	}
	_, receipt, _, err := h.receipt(ctx, o.ID)
	switch {
	case err != nil:
		r.wrong(check, "stakeseal generate --resume "+o.ID+" writes a missing receipt", "receipt: %v", err)
		return nil
	case len(receipt.Validators) != int(o.Count):
		r.wrong(check, "", "its receipt lists %d validators", len(receipt.Validators))
		return nil
	}
	if bad == 0 {
		r.ok(check, "%d validators: records, certificates, archive and receipt agree", o.Count)
	}
	if !drilled {
		r.warn(check, "stakeseal recovery drill --order "+o.ID+" --identity FILE", "recovery was never drilled")
	}
	return nil
}

// examineBirth compares a row with the record, its certificate and the
// archive.
func (h *home) examineBirth(ctx context.Context, v record.Validator) error {
	listed, err := h.archived(ctx, v.Order, v.Index, v.Pubkey)
	if err != nil {
		return err
	}
	if listed.Order != v.Order || listed.Index != v.Index {
		return fmt.Errorf("%w: its row stands for another index", birth.ErrTampered)
	}
	m, err := h.archive.Get(ctx, birth.MnemonicObject(v.Order, v.Mnemonic))
	if err != nil {
		return fmt.Errorf("mnemonic %s: %w", v.Mnemonic, err)
	}
	if _, err := record.DecodeMnemonic(m); err != nil {
		return fmt.Errorf("mnemonic %s: %w", v.Mnemonic, err)
	}
	return nil
}
