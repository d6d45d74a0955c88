package main

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stakeseal/stakeseal/eth"
	"github.com/stakeseal/stakeseal/internal/config"
	"github.com/stakeseal/stakeseal/internal/sqlite"
	"github.com/stakeseal/stakeseal/record"
	"github.com/stakeseal/stakeseal/signer"
	"github.com/stakeseal/stakeseal/slashing"
)

var signerNow = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

func signerTestHome(t *testing.T) *home {
	t.Helper()
	hoodi, _ := eth.LookupNetwork("hoodi")
	h := &home{dir: t.TempDir(), generator: &config.Generator{}, operator: &config.Home{Signers: []string{"signer-a"}}}
	h.generator.Network = hoodi
	if err := os.Mkdir(filepath.Join(h.dir, signersFolder), 0o700); err != nil {
		t.Fatal(err)
	}
	return h
}

// TestNewborn: only what cannot have been active yet begins without a floor.
func TestNewborn(t *testing.T) {
	a, _, _ := newApp(signerNow)
	h := signerTestHome(t)
	for age, want := range map[time.Duration]bool{
		0: true, 31 * time.Minute: true, 32 * time.Minute: false, 24 * time.Hour: false, -30 * time.Second: true, -time.Hour: false,
	} {
		if got := h.newborn(a, signerNow.Add(-age)); got != want {
			t.Errorf("born %s ago: %t", age, got)
		}
	}
	if h.newborn(a, time.Time{}) {
		t.Error("a key whose birth nobody knows counts as newborn")
	}
}

// TestAfterAbsence: a ledger that was away for long allows nothing that may
// have been signed meanwhile; a short stop, and a first start, cost nothing.
func TestAfterAbsence(t *testing.T) {
	ctx := context.Background()
	a, _, _ := newApp(signerNow)
	for name, c := range map[string]struct {
		watermark uint64
		ago       time.Duration
		floor     bool
	}{
		"at once": {5, time.Second, false}, "within two epochs": {5, 12 * time.Minute, false}, "a day": {5, 24 * time.Hour, true},
		"from the future": {5, -time.Hour, true}, "never served": {0, 24 * time.Hour, false},
	} {
		h := signerTestHome(t)
		path := h.signerPath("signer-a", ".db")
		if _, err := sqlite.CreateLedger(path, "signer-a", h.generator.Network.GenesisValidatorsRoot); err != nil {
			t.Fatal(err)
		}
		ledger, err := sqlite.OpenLedger(path)
		if err != nil {
			t.Fatal(err)
		}
		key := eth.Pubkey{1}
		if err := errors.Join(ledger.Hold(ctx, 1), ledger.Add(ctx, 1, []slashing.Mark{{Pubkey: key}})); err != nil {
			t.Fatal(err)
		}
		var log bytes.Buffer
		former := record.Lease{Watermark: c.watermark, Time: signerNow.Add(-c.ago)}
		if err := h.afterAbsence(ctx, a, ledger, former, 1, slog.New(slog.NewTextHandler(&log, nil))); err != nil {
			t.Fatal(err)
		}
		now, _ := signer.EpochAt(h.generator.Network, signerNow.Unix())
		err = ledger.Sign(ctx, 1, []slashing.Claim{{Pubkey: key, Source: now, Target: now + 1, Root: eth.Root{1}}})[0]
		if errors.Is(err, slashing.ErrSlashable) != c.floor || strings.Contains(log.String(), "--not-restored") != c.floor {
			t.Errorf("%s: %v\n%s", name, err, &log)
		}
		if err := ledger.Sign(ctx, 1, []slashing.Claim{{Pubkey: key, Source: now, Target: now + 2, Root: eth.Root{1}}})[0]; err != nil {
			t.Errorf("%s: above the floor: %v", name, err)
		}
		if err := ledger.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestTimeGuard: a machine that was set back with its memory signs nothing from
// the moment that its clock is right again, and then nothing that may have been
// signed meanwhile. One that slept, or whose clock was put right a little, goes
// on.
func TestTimeGuard(t *testing.T) {
	ctx := context.Background()
	day, boot := signerNow, time.Hour
	a, _, words := newApp(signerNow)
	a.now = func() time.Time { return day }
	h := signerTestHome(t)
	path := h.signerPath("signer-a", ".db")
	if _, err := sqlite.CreateLedger(path, "signer-a", h.generator.Network.GenesisValidatorsRoot); err != nil {
		t.Fatal(err)
	}
	ledger, err := sqlite.OpenLedger(path)
	if err != nil {
		t.Fatal(err)
	}
	defer ledger.Close()
	key := eth.Pubkey{1}
	if err := errors.Join(ledger.Hold(ctx, 4), ledger.Add(ctx, 4, []slashing.Mark{{Pubkey: key}})); err != nil {
		t.Fatal(err)
	}
	lease := func() (uint64, error) { return 4, nil }
	g := newTimeGuard(h.generator.Network, a.now, func() time.Duration { return boot })
	fence := g.fence(lease)
	log := slog.New(slog.NewTextHandler(words, nil))
	open := func(what string, want bool) {
		t.Helper()
		if _, err := fence(); (err == nil) != want || err != nil && !errors.Is(err, signer.ErrStopped) {
			t.Errorf("%s: %v", what, err)
		}
		if err := g.afterJump(ctx, a, h, ledger, lease, log); err != nil {
			t.Fatal(err)
		}
		if _, err := fence(); err != nil {
			t.Errorf("%s, after floors: %v", what, err)
		}
		if strings.Contains(words.String(), "snapshot") == want {
			t.Errorf("%s: it says %q", what, words)
		}
	}
	open("at once", true)
	day, boot = day.Add(24*time.Hour), boot+24*time.Hour
	open("after a night's sleep", true)
	day = day.Add(6 * time.Minute)
	open("put right a little", true)
	day = day.Add(-48 * time.Hour)
	open("set back", true)
	day = day.Add(7 * time.Minute)
	open("and a little forth", true)
	day = day.Add(6 * time.Minute)
	open("and a little more", false)
	now, _ := signer.EpochAt(h.generator.Network, day.Unix())
	if err := ledger.Sign(ctx, 4, []slashing.Claim{{Pubkey: key, Source: now, Target: now + 1, Root: eth.Root{1}}})[0]; !errors.Is(err, slashing.ErrSlashable) {
		t.Errorf("what may have been signed: %v", err)
	}
	if err := ledger.Sign(ctx, 4, []slashing.Claim{{Pubkey: key, Source: now, Target: now + 2, Root: eth.Root{1}}})[0]; err != nil {
		t.Errorf("above the floor: %v", err)
	}
}

// TestSignerSettings: what a file says, and what is refused.
func TestSignerSettings(t *testing.T) {
	h := signerTestHome(t)
	write := func(name, text string, mode os.FileMode) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(h.dir, signersFolder, name), []byte(text), mode); err != nil {
			t.Fatal(err)
		}
	}
	s, err := h.signerSettings("signer-a")
	if err != nil || s.Listen != defaultListen || s.Metrics != defaultMetrics {
		t.Fatalf("without a file: %+v, %v", s, err)
	}
	if clients, err := s.clients(); err != nil || clients.Exposed(s.Listen, false) != nil || clients.Exposed("0.0.0.0:1", true) == nil {
		t.Errorf("without a file: %v", err)
	}
	write("good", strings.Repeat("a", 40)+"\n", 0o600)
	write("open", strings.Repeat("b", 40), 0o644)
	write("short", "c", 0o600)
	client := func(text string) string { return "version: 1\nclients:\n  - {name: vc, " + text + "}\n" }
	for text, good := range map[string]bool{
		"version: 1\n": true,
		"version: 1\nlisten: 10.0.0.1:9000\nhosts: [signer.example]\nfee_recipients: [\"0x388C818CA8B9251b393131C08a736A67ccB19297\"]\n": true,
		client("token: good"): true,
		client("token: good, operations: [duties, VOLUNTARY_EXIT]"): true,
		client("token: good, keys: []"):                             true,
		"version: 2\n":                                              false,
		"listen: 127.0.0.1:1\n":                                     false,
		"version: 1\nlisten_on: x\n":                                false,
		"version: 1\nlisten: a\nlisten: b\n":                        false,
		"version: 1\nfee_recipients: [\"0x12\"]\n":                  false,
		"version: 1\ntls: {certificate: x}\n":                       false,
		client("token: open"):                                       false,
		client("token: short"):                                      false,
		client("token: none"):                                       false,
		client("certificate: good"):                                 false,
		client("operations: [duties]"):                              false,
		client("token: good, certificate: good"):                    false,
		client("token: good, operations: [everything]"):             false,
		client("token: good, keys: [\"0x12\"]"):                     false,
		client("token: good") + "  - {name: vc, token: good}\n":     false,
		client("token: good") + "  - {name: vd, token: good}\n":     false,
	} {
		write("signer-a.yaml", text, 0o600)
		s, err := h.signerSettings("signer-a")
		if err == nil {
			_, err = s.clients()
		}
		if (err == nil) != good {
			t.Errorf("%q: %v", text, err)
		}
		if err != nil && (strings.Contains(err.Error(), strings.Repeat("a", 40)) || strings.Contains(err.Error(), strings.Repeat("b", 40))) {
			t.Errorf("%q: the error shows a token", text)
		}
	}
	// A client without keys uses none, which is not the same as all.
	write("signer-a.yaml", client("token: good, keys: []"), 0o600)
	if s, err = h.signerSettings("signer-a"); err != nil {
		t.Fatal(err)
	}
	if c, err := s.Clients[0].client(); err != nil || c.Keys == nil {
		t.Errorf("keys: [] means all: %+v, %v", c, err)
	}
}

// TestHandoverOfARestoredHome: what goes along with keys says what may have been
// signed since, where the home may be an older copy of the one that signed.
func TestHandoverOfARestoredHome(t *testing.T) {
	ctx := context.Background()
	a, _, _ := newApp(signerNow)
	served, fresh, old, moved, given := eth.Pubkey{1}, eth.Pubkey{2}, eth.Pubkey{3}, eth.Pubkey{4}, eth.Pubkey{5}
	for name, c := range map[string]struct {
		signer bool // it ever was one
		ago    time.Duration
		want   []eth.Pubkey
	}{
		"just stopped":      {true, time.Minute, []eth.Pubkey{old}},
		"stopped for a day": {true, 24 * time.Hour, []eth.Pubkey{served, old}},
		"never a signer":    {false, 0, []eth.Pubkey{served, old}}, // whatever the copy does not know of
	} {
		h := signerTestHome(t)
		admitted := map[eth.Pubkey]uint64(nil)
		if c.signer {
			admitted = map[eth.Pubkey]uint64{served: 1}
			if err := h.signers().prepare(); err != nil {
				t.Fatal(err)
			}
			leases, done, err := h.signers().leases()
			if err != nil {
				t.Fatal(err)
			}
			err = leases.Take(ctx, record.Lease{Name: "signer-a", Epoch: 1, Beat: 1, Ledger: "l", Watermark: 5, Where: "here", Time: record.Time(signerNow.Add(-c.ago))})
			done()
			if err != nil {
				t.Fatal(err)
			}
		}
		var list []*handed
		for _, key := range []eth.Pubkey{served, fresh, old, moved, given} {
			k := &handed{validator: record.Validator{Pubkey: key, Created: signerNow.Add(-24 * time.Hour)}, mark: slashing.Mark{Pubkey: key}}
			switch key {
			case fresh: // it cannot have been active
				k.validator.Created = signerNow.Add(-time.Minute)
			case moved: // with a note of what its former signer signed
				k.mark.Attestation, k.mark.Target = true, 7
			case given: // its history was given up
				k.unknown = true
			}
			list = append(list, k)
		}
		if err := a.mayBeRestored(ctx, h, "signer-a", admitted, list); err != nil {
			t.Fatal(err)
		}
		var got []eth.Pubkey
		for _, k := range list {
			if k.floor {
				got = append(got, k.validator.Pubkey)
			}
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: floors for %v, want %v", name, got, c.want)
		}
	}
}
