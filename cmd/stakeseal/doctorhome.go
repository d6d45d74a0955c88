package main

import (
	"context"
	"fmt"
	"io/fs"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/stakeseal/stakeseal/certificate"
	"github.com/stakeseal/stakeseal/internal/build"
)

func (a *app) examineMachine(ctx context.Context, h *home, r *report) {
	if err := build.CheckClock(a.now()); err != nil {
		r.wrong("clock", "set it: its time is written into every certificate", "%v", err)
	} else {
		r.ok("clock", "not before this program's date")
	}
	if h.operator.Generator != "local" {
		return // no program of this machine makes keys
	}
	m, err := h.maker(ctx, a.now())
	if err != nil {
		_, hint := verdict(err)
		r.wrong("generator", hint, "%v", err)
		return
	}
	program := m.program
	if len(m.args) > 0 { // of a version of its own; every byte was verified
		r.ok("generator", "%s, of the release in force", program)
		return
	}
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

func (a *app) examineSettings(ctx context.Context, h *home, r *report) {
	g := h.generator
	signing, recovery, err := g.SealTo(parseRecipient)
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
		if !hasAddress(h.trust.Addresses, address) {
			r.wrong("addresses", "what is made for it will not verify: add it to "+trustFile+" if it is meant", "%s = %v is allowed to the maker and not in %s", name, address, trustFile)
		}
	}
	for _, k := range g.Approvers {
		i := slices.IndexFunc(h.trust.Approvers, func(t certificate.TrustedKey) bool { return t.Key.Equal(k.Key) })
		switch {
		case i < 0:
			r.warn("approvers", "name it under approvers: of "+trustFile+" if it is meant: what it approves does not verify", "key %s may approve withdrawal addresses and is not in %s", k.Key, trustFile)
		case h.trust.Approvers[i].Revoked:
			r.warn("approvers", "take it out of the settings: what it approves does not verify", "key %s may approve withdrawal addresses and is revoked in %s", h.trust.Approvers[i].Name, trustFile)
		}
	}
	public, err := h.certifierKey(ctx)
	if err != nil {
		if !r.unseen("certifier", err) {
			_, hint := verdict(err)
			r.wrong("certifier", hint, "%v", err)
		}
		return
	}
	for _, k := range h.trust.Keys {
		if k.Key.Equal(public) {
			if k.Revoked {
				r.wrong("certifier", "nothing that it signs will verify", "key %s is revoked in %s", k.Name, trustFile)
			} else {
				r.ok("certifier", "%s, trusted as %s", public.ID()[:16], k.Name)
			}
			return
		}
	}
	r.wrong("certifier", "add it there if it is yours: what it signs does not verify", "key %s is not in %s", public, trustFile)
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
		if d.IsDir() && h.generator.Archive.Scheme == "dir" && path == h.path(h.generator.Archive.Rest) {
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
