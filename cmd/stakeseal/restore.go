package main

import (
	"context"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/stakeseal/stakeseal/birth"
	"github.com/stakeseal/stakeseal/check"
	"github.com/stakeseal/stakeseal/eth"
	"github.com/stakeseal/stakeseal/eth/keystore"
	"github.com/stakeseal/stakeseal/keygen"
	"github.com/stakeseal/stakeseal/record"
	"github.com/stakeseal/stakeseal/seal"
	"github.com/stakeseal/stakeseal/secret"
)

type restoreFlags struct {
	identity identityFlags
	order    string
	bundle   string
	trust    string
	out      string
	password string
	kdf      string
	show     bool
	workers  int
}

func (a *app) restoreVerb() *cobra.Command {
	var f restoreFlags
	cmd := &cobra.Command{
		Use:   "restore --identity FILE (--order ID | --bundle FILE) --out DIR",
		Short: "Get the keys of an order back, as keystores",
		Long: `Get the signing keys of an order back when its machine or its signers are lost:
open its mnemonics with a recovery identity, derive every validator again, compare
each with its certificate, and write one keystore for each under a password of
yours. From then on the keys exist outside of stakeseal: make sure that they sign
in one place only.

With --bundle no home is needed: an exported bundle, the identity and a trust file
are enough. The mnemonics are not shown unless --show-secret asks for it.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.restore(cmd.Context(), f) },
	}
	f.identity.add(cmd, "a recovery recipient")
	flags := cmd.Flags()
	flags.StringVar(&f.order, "order", "", "the order's `ID`")
	flags.StringVar(&f.bundle, "bundle", "", "an exported bundle `FILE` instead of a home")
	flags.StringVar(&f.trust, "trust", "", "the trust `FILE` to judge the bundle by (default: the home's)")
	flags.StringVarP(&f.out, "out", "o", "", "the `DIR` for the keystores, new or empty")
	flags.StringVar(&f.password, "password-file", "", "the `FILE` with the password of the keystores (default: asked for)")
	flags.StringVar(&f.kdf, "kdf", string(keystore.Scrypt), "the `KDF` by which the password protects a keystore: scrypt, or pbkdf2 for a long random password")
	flags.BoolVar(&f.show, "show-secret", false, "show the mnemonics, on a terminal, after a confirmation")
	workersFlag(cmd, &f.workers)
	return cmd
}

func (f restoreFlags) check(a *app) (keystore.KDF, error) {
	switch {
	case f.order == "" && f.bundle == "":
		return "", usage("stakeseal orders lists the orders", "--order or --bundle is missing")
	case f.order != "" && f.bundle != "":
		return "", usage("a bundle holds one order", "--order and --bundle exclude each other")
	case f.trust != "" && f.bundle == "":
		return "", usage("a home is judged by its own trust.yaml", "--trust goes with --bundle")
	case f.out == "" && !f.show:
		return "", usage("name a new folder: --out DIR", "--out is missing")
	case f.show && !a.showsOnTerminal():
		return "", usage("run it in a terminal, without a pipe", "--show-secret shows a mnemonic on a terminal only")
	}
	if err := checkWorkers(f.workers); err != nil {
		return "", err
	}
	if err := a.canConfirm(); err != nil {
		return "", err
	}
	return parseKDF(f.kdf)
}

// showsOnTerminal says whether somebody looks at the standard output.
func (a *app) showsOnTerminal() bool {
	file, ok := a.out.(*os.File)
	return ok && a.terminal && term.IsTerminal(int(file.Fd()))
}

func (a *app) restore(ctx context.Context, f restoreFlags) (err error) {
	kdf, err := f.check(a)
	if err != nil {
		return err
	}
	if err := check.KnownAnswers(); err != nil {
		return err
	}
	s, h, done, err := a.restoreSource(ctx, f)
	if err != nil {
		return err
	}
	defer done()
	if s.count == 0 {
		return usage("", "order %s has no validator", s.order.ID)
	}
	if s.order.ID == record.ImportedOrder && f.out != "" {
		// Indexes repeat from mnemonic to mnemonic: files would take each other's names.
		return usage("stakeseal keystore export hands single keys over; --show-secret shows the mnemonics", "imported keys are not restored as keystores")
	}
	var out *outFolder
	var password *secret.Bytes
	if f.out != "" {
		if out, err = newOutFolder(f.out); err != nil {
			return err
		}
		defer out.discard()
		a.sayLeft(out)
		if password, err = a.password(f.password); err != nil {
			return err
		}
		defer password.Wipe()
	}
	keys, err := a.keys(ctx, h, f.identity)
	if err != nil {
		return err
	}
	defer func() { a.noteOpenings(ctx, h, "recovery restore", &err) }()
	opened, err := s.open(ctx, keys)
	if err != nil {
		return err
	}
	defer opened.wipe()
	bar := a.progress(int64(s.count), "re-derived")
	rows, err := s.prove(ctx, opened, h.readers(f.workers), bar)
	bar.done()
	if err != nil {
		return err
	}
	a.say("order %s: every mnemonic opens, and all %d validators re-derive from them", s.order.ID, len(rows))
	if f.show {
		if err := a.showMnemonics(ctx, h, s, rows, keys); err != nil {
			return err
		}
	}
	if out == nil {
		return nil
	}
	if err := a.confirmRestore(ctx, h, s, out, rows); err != nil {
		return err
	}
	if err := a.writeRestored(ctx, f, kdf, s, h, opened, rows, password, out); err != nil {
		return err
	}
	return a.reportRestored(s, h, out.path, rows)
}

// writeRestored notes and then writes: that a key may exist outside must
// never go unrecorded, also when the process is killed with half of the
// keystores on the disk. A note too many does no harm.
func (a *app) writeRestored(ctx context.Context, f restoreFlags, kdf keystore.KDF, s *sealedOrder, h *home, opened *openedOrder, rows []record.Validator, password *secret.Bytes, out *outFolder) error {
	if h != nil {
		detail := map[string]string{"validators": fmt.Sprint(len(rows)), "identity": strings.Join(opened.names, ", ")}
		withRequests(detail, a.openings.take(ofMnemonics(s.order.ID, "")))
		if err := h.note(ctx, record.Event{Time: record.Time(a.now()), Kind: "restored", Order: s.order.ID, Detail: detail}); err != nil {
			return err
		}
	}
	if err := a.makeRestored(ctx, f, kdf, s, opened, rows, password, out); err != nil {
		return err
	}
	return out.place()
}

func (a *app) restoreSource(ctx context.Context, f restoreFlags) (*sealedOrder, *home, func(), error) {
	if f.bundle != "" {
		trust, err := a.trustOrHome(f.trust)
		if err != nil {
			return nil, nil, nil, err
		}
		s, done, err := bundledOrder(f.bundle, trust)
		return s, nil, done, err
	}
	h, err := a.openHome(ctx)
	if err != nil {
		return nil, nil, nil, err
	}
	s, err := h.sealedOrder(ctx, f.order)
	if err != nil {
		h.close()
		return nil, nil, nil, err
	}
	return s, h, h.close, nil
}

// confirmRestore says what it means that the keys exist twice, and asks.
func (a *app) confirmRestore(ctx context.Context, h *home, s *sealedOrder, out *outFolder, rows []record.Validator) error {
	assigned := map[string]int{}
	if h != nil {
		mine := map[eth.Pubkey]bool{}
		for _, v := range rows {
			mine[v.Pubkey] = true
		}
		for c, err := range h.records.Assigned(ctx, "") {
			if err != nil {
				return err
			}
			if mine[c.Pubkey] {
				assigned[c.Signer]++
			}
		}
	}
	a.say("the keys of %d validators will exist outside of stakeseal, in %s, under one password", len(rows), out.path)
	for _, signer := range slices.Sorted(maps.Keys(assigned)) {
		a.say("warning: %d of them are assigned to %s: stop it for good before they sign anywhere else, or they are slashed", assigned[signer], signer)
	}
	if len(assigned) == 0 {
		a.say("warning: a key that signs in two places is slashed: make sure that no other signer has them, and bring its slashing protection history along")
	}
	return a.confirm(fmt.Sprintf("Write the keystores of order %s?", s.order.ID))
}

// makeRestored makes the keystores and compares each validator once more with
// its record: pubkey, credentials and deposit signatures, which are a
// function of the key.
func (a *app) makeRestored(ctx context.Context, f restoreFlags, kdf keystore.KDF, s *sealedOrder, opened *openedOrder, rows []record.Validator, password *secret.Bytes, out *outFolder) error {
	spec := keygen.Spec{Network: s.network, Credentials: s.order.Credentials, Plan: s.order.Plan, KDF: kdf}
	unix := a.now().Unix()
	want := map[uint32]record.Validator{}
	indexes := map[string][]uint32{} // by mnemonic
	for _, v := range rows {
		want[v.Index] = v
		indexes[v.Mnemonic] = append(indexes[v.Mnemonic], v.Index)
	}
	bar := a.progress(int64(len(rows)), "restored")
	defer bar.done()
	for _, id := range slices.Sorted(maps.Keys(indexes)) {
		jobs, err := newKeystoreJobs(opened.seeds[id], spec, password, bar)
		if err != nil {
			return err
		}
		err = jobs.run(ctx, f.workers, indexes[id], func(p *check.Public, file []byte) error {
			v := want[p.Index]
			same := slices.EqualFunc(p.Deposits, v.Deposits, func(x keygen.Deposit, y record.Deposit) bool { return record.Deposit(x) == y })
			if p.Pubkey != v.Pubkey || p.Credentials != v.Credentials || !same {
				return fmt.Errorf("%w: index %d comes out of its mnemonic as another validator than is recorded", birth.ErrTampered, p.Index)
			}
			return out.write(keystore.FileName(p.Path, unix), file)
		})
		jobs.wipe()
		if err != nil {
			return err
		}
	}
	return nil
}

func (a *app) reportRestored(s *sealedOrder, h *home, folder string, rows []record.Validator) error {
	if a.json {
		type validator struct {
			Index  uint32     `json:"index"`
			Pubkey eth.Pubkey `json:"pubkey"`
			Path   string     `json:"path"`
		}
		list := make([]validator, len(rows))
		for i, v := range rows {
			list[i] = validator{v.Index, v.Pubkey, v.Path}
		}
		return a.object(struct {
			Schema     string      `json:"schema"`
			Network    string      `json:"network"`
			Order      string      `json:"order"`
			Folder     string      `json:"folder"`
			Noted      bool        `json:"noted"`
			Validators []validator `json:"validators"`
		}{"stakeseal/restored/v1", s.order.Network, s.order.ID, folder, h != nil, list})
	}
	t := newTable(a.out, "INDEX", "PUBKEY")
	for _, v := range rows {
		t.row(fmt.Sprint(v.Index), v.Pubkey.String())
	}
	if err := t.flush(); err != nil {
		return err
	}
	a.say("%d keystores are in %s; keep them and their password apart", len(rows), folder)
	if h == nil {
		a.say("nothing was noted: a bundle has no home; where the order's home still stands, tell who runs it that the keys exist outside")
	}
	return nil
}

// showMnemonics prints the words on the terminal, opening them again: nobody
// else keeps them. One that no validator came out of is not shown: a run that
// was interrupted left it, or somebody put it into the store so that money is
// sent to what he knows.
func (a *app) showMnemonics(ctx context.Context, h *home, s *sealedOrder, rows []record.Validator, keys []key) error {
	named := slices.DeleteFunc(slices.Clone(s.mnemonics), func(m record.Mnemonic) bool {
		return !slices.ContainsFunc(rows, func(v record.Validator) bool { return v.Mnemonic == m.ID })
	})
	if err := a.confirm(fmt.Sprintf("Show %d mnemonics on this terminal? Who reads them has the keys of every validator made from them.", len(named))); err != nil {
		return err
	}
	if h != nil { // before the first word is seen
		if err := h.note(ctx, record.Event{Time: record.Time(a.now()), Kind: "mnemonic-shown", Order: s.order.ID,
			Detail: map[string]string{"mnemonics": fmt.Sprint(len(named))}}); err != nil {
			return err
		}
	}
	for _, m := range named {
		for i, k := range keys {
			opened, err := k.opener.Mnemonic(ctx, m.Sealing.File, seal.RecoveryBinding(s.order.Network, s.order.ID, m.ID))
			if err != nil {
				if i == len(keys)-1 {
					return err
				}
				continue
			}
			fmt.Fprintf(a.out, "%s, indexes %d to %d, %s:\n", m.ID, m.From, m.To-1, opened.Language)
			_, err = a.out.Write(opened.Words.Expose())
			opened.Wipe()
			fmt.Fprintln(a.out)
			if err != nil {
				return unprinted(err)
			}
			break
		}
	}
	return nil
}
