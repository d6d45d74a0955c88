package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stakeseal/stakeseal/eth"
	awscall "github.com/stakeseal/stakeseal/internal/aws/awstest/call"
	"github.com/stakeseal/stakeseal/internal/aws/awstest/tables"
	"github.com/stakeseal/stakeseal/internal/aws/ops"
	"github.com/stakeseal/stakeseal/internal/aws/session"
	"github.com/stakeseal/stakeseal/internal/config"
	"github.com/stakeseal/stakeseal/record"
	"github.com/stakeseal/stakeseal/signer"
	"github.com/stakeseal/stakeseal/slashing"
)

const tablesARN = "arn:aws:dynamodb:us-east-1:111122223333:table/test-"

// tableHome is a home on tables of this process. who is the caller's session.
func tableHome(t *testing.T, store *tables.Store, who string) *home {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		if strings.Contains(string(body), "GetCallerIdentity") {
			fmt.Fprintf(w, `<GetCallerIdentityResponse><GetCallerIdentityResult><Arn>arn:aws:sts::111122223333:assumed-role/test-signer/%s</Arn><Account>111122223333</Account></GetCallerIdentityResult></GetCallerIdentityResponse>`, who)
			return
		}
		c, failure := store.Understand(awscall.Request{HTTP: r, Body: body, Region: "us-east-1", ID: "id", May: func(awscall.Need) bool { return true }})
		var answer *awscall.Answer
		if failure == nil {
			answer, failure = c.Do(r.Context())
		}
		if failure != nil {
			awscall.JSON10.Write(w, failure, "id")
			return
		}
		answer.Write(w, awscall.JSON10, "id")
	}))
	t.Cleanup(server.Close)
	for name, value := range map[string]string{"AWS_ACCESS_KEY_ID": "ASIA0000000000000000", "AWS_SECRET_ACCESS_KEY": "none", "AWS_SESSION_TOKEN": "none", "AWS_EC2_METADATA_DISABLED": "true"} {
		t.Setenv(name, value)
	}
	account, err := ops.Open(t.Context(), ops.Place{Region: "us-east-1", Account: "111122223333"}, ops.Options{Session: session.Options{Endpoint: server.URL}})
	if err != nil {
		t.Fatal(err)
	}
	h := &home{dir: t.TempDir(), generator: &config.Generator{Store: config.Ref{Scheme: "dynamodb", Rest: tablesARN + "records"}}, operator: &config.Home{Signers: []string{"signer-a", "signer-b"}},
		cloud: account, rights: &rights{installation: "test", caller: account.Caller}}
	h.generator.Network = hoodiNetwork()
	return h
}

func hoodiNetwork() eth.Network {
	n, _ := eth.LookupNetwork("hoodi")
	return n
}

func newTables(t *testing.T) *tables.Store {
	t.Helper()
	store := tables.New()
	for _, name := range []string{"ledger", "leases"} {
		if err := store.Make(tables.Table{ARN: tablesARN + name, Hash: "pk", Range: "sk"}); err != nil {
			t.Fatal(err)
		}
	}
	return store
}

// TestFence: from the moment that a key is other software's, a signer that runs
// and knows of nothing signs nothing more for it, and what it signed before is
// in what the software gets. Coming back, the key counts as one of which nobody
// knows what was signed.
func TestFence(t *testing.T) {
	ctx, root := context.Background(), hoodiNetwork().GenesisValidatorsRoot
	h := tableHome(t, newTables(t), "i-1")
	s := h.signers()
	if _, err := s.create(ctx, "signer-a", root); err != nil {
		t.Fatal(err)
	}
	running, err := s.open(ctx, "signer-a")
	if err != nil {
		t.Fatal(err)
	}
	keys := []eth.Pubkey{{1}, {2}, {3}}
	err = errors.Join(running.Hold(ctx, 2), running.Admit(ctx, 2, []slashing.Admission{{Mark: slashing.Mark{Pubkey: keys[0]}, Assignment: 1}, {Mark: slashing.Mark{Pubkey: keys[1]}, Assignment: 1}}))
	if err != nil {
		t.Fatal(err)
	}
	claim := func(key eth.Pubkey, target uint64) error {
		return running.Sign(ctx, 2, []slashing.Claim{{Pubkey: key, Source: 1, Target: target, Root: eth.Root{byte(target)}}})[0]
	}
	// It signs on and on while the keys are taken away: the last of what it
	// signed is in the marks, and nothing comes after.
	var highest uint64
	var group sync.WaitGroup
	started := make(chan struct{})
	group.Go(func() {
		for target := uint64(2); ; target++ {
			if err := claim(keys[0], target); err != nil {
				if !errors.Is(err, slashing.ErrHolder) {
					t.Errorf("it ended with %v", err)
				}
				return
			}
			if highest = target; target == 20 {
				close(started)
			}
		}
	})
	<-started
	assigned := map[eth.Pubkey]uint64{keys[0]: 2, keys[2]: 1} // the third was never served
	marks, err := h.fence(ctx, external+"vc", root, assigned, nil)
	if err != nil {
		t.Fatal(err)
	}
	group.Wait()
	if len(marks) != 2 || marks[keys[0]].Target != highest || marks[keys[2]] != (slashing.Mark{Pubkey: keys[2]}) {
		t.Errorf("signed up to %d, handed over %+v", highest, marks)
	}
	if err := claim(keys[1], 2); err != nil {
		t.Errorf("a key that stayed: %v", err)
	}
	if again, err := h.fence(ctx, external+"vc", root, assigned, nil); err != nil || !maps.Equal(again, marks) {
		t.Errorf("once more: %+v, %v", again, err)
	}
	if err := running.Admit(ctx, 2, []slashing.Admission{{Mark: slashing.Mark{Pubkey: keys[0]}, Assignment: 1}}); !errors.Is(err, slashing.ErrHolder) {
		t.Errorf("its former signer takes it back: %v", err)
	}
	if _, err := h.fence(ctx, "signer-b", root, assigned, nil); err == nil {
		t.Error("a signer of ours is taken for other software")
	}
	if err := running.Admit(ctx, 2, []slashing.Admission{{Mark: slashing.Mark{Pubkey: keys[0]}, Assignment: 3}}); err != nil {
		t.Fatal(err)
	}
	if _, err := h.fence(ctx, external+"vc", root, assigned, nil); !errors.Is(err, slashing.ErrHolder) {
		t.Errorf("what was assigned on meanwhile: %v", err)
	}
	// Handed over and back: complete for nobody.
	if _, err := h.fence(ctx, external+"other", root, map[eth.Pubkey]uint64{keys[1]: 2}, nil); err != nil {
		t.Fatal(err)
	}
	if complete, err := running.Complete(ctx, keys); err != nil || complete[keys[1]] != 0 || complete[keys[0]] != 3 {
		t.Errorf("complete: %v, %v", complete, err)
	}
}

// TestUntold: of a key that comes back from other software and goes to some
// again before one of ours served it, the table does not say all; nor of any
// key where the table is older than the leases.
func TestUntold(t *testing.T) {
	ctx, root := context.Background(), hoodiNetwork().GenesisValidatorsRoot
	h := tableHome(t, newTables(t), "i-1")
	a := &app{now: time.Now, err: io.Discard}
	s := h.signers()
	info, err := s.create(ctx, "signer-a", root)
	if err != nil {
		t.Fatal(err)
	}
	ledger, err := s.open(ctx, "signer-a")
	if err != nil {
		t.Fatal(err)
	}
	served, back, fresh := eth.Pubkey{1}, eth.Pubkey{2}, eth.Pubkey{3}
	err = errors.Join(ledger.Hold(ctx, 2), ledger.Admit(ctx, 2, []slashing.Admission{
		{Mark: slashing.Mark{Pubkey: served, Attestation: true, Source: 6, Target: 7}, Assignment: 1},
		{Mark: slashing.Mark{Pubkey: back, Attestation: true, Source: 6, Target: 7}, Assignment: 1}}))
	if err != nil {
		t.Fatal(err)
	}
	// Assigned away as epoch 2, and back as 3.
	if _, err := h.fence(ctx, external+"signer-a", root, map[eth.Pubkey]uint64{back: 2}, nil); err != nil {
		t.Fatal(err)
	}
	f := handoverFlags{}
	f.signer = "signer-a"
	floor, _ := signer.EpochAt(hoodiNetwork(), time.Now().Unix())
	hand := func(assigned string, pubkey eth.Pubkey, epoch uint64) slashing.Mark {
		t.Helper()
		k := &handed{validator: record.Validator{Pubkey: pubkey}, assigned: record.Assignment{Pubkey: pubkey, Signer: assigned, Epoch: epoch}}
		if err := a.fenced(ctx, h, f, []*handed{k}, root); err != nil {
			t.Fatal(err)
		}
		return k.mark
	}
	if m := hand("signer-a", served, 1); m.Target != 7 {
		t.Errorf("served by ours: %+v", m)
	}
	if m := hand("signer-a", fresh, 1); m.Attestation {
		t.Errorf("never served: %+v", m)
	}
	if m := hand("signer-a", back, 3); m.Target < floor || !m.Block {
		t.Errorf("back from other software: %+v", m)
	}
	if m := hand(external+"signer-a", back, 4); m.Target < floor {
		t.Errorf("and handed over again: %+v", m)
	}
	if m := hand(external+"signer-a", served, 2); m.Target != 7 {
		t.Errorf("handed over again: %+v", m)
	}
	if _, whole, err := newElders(a, h, "signer-a", nil).with(ctx, slashing.Mark{Pubkey: back}, 3); err != nil || !whole {
		t.Errorf("a file of what other software signed: %v, %v", whole, err)
	}
	leases, done, err := s.leases()
	if err != nil {
		t.Fatal(err)
	}
	defer done()
	if err := leases.Take(ctx, record.Lease{Name: "signer-a", Epoch: 1, Holder: "1", Where: "here", Ledger: info.ID, Watermark: 1000, Beat: 1, Time: record.Time(time.Now())}); err != nil {
		t.Fatal(err)
	}
	if m := hand("signer-a", eth.Pubkey{4}, 1); m.Target < floor {
		t.Errorf("by a table that is older than its leases: %+v", m)
	}
	if _, whole, err := newElders(a, h, "signer-a", nil).with(ctx, slashing.Mark{Pubkey: back}, 3); err != nil || whole {
		t.Errorf("a file beside such a table: %v, %v", whole, err)
	}
}

// TestWhole: leases tell of a table that is older than they are.
func TestWhole(t *testing.T) {
	ctx, root := context.Background(), hoodiNetwork().GenesisValidatorsRoot
	store := newTables(t)
	h := tableHome(t, store, "i-1")
	s := &tableSigners{h}
	if err := s.whole(ctx); err != nil {
		t.Errorf("without signers: %v", err)
	}
	leases, done, err := s.leases()
	if err != nil {
		t.Fatal(err)
	}
	defer done()
	empty, err := store.Backup(tablesARN + "ledger")
	if err != nil {
		t.Fatal(err)
	}
	var a signerLedger
	for _, name := range []string{"signer-a", "signer-b"} {
		info, err := s.create(ctx, name, root)
		if err != nil {
			t.Fatal(err)
		}
		l, err := s.open(ctx, name)
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		if name == "signer-a" {
			a = l
		}
		lease := record.Lease{Name: name, Epoch: 1, Beat: 1, Ledger: info.ID, Where: "here", Time: record.Time(time.Now())}
		if err := leases.Take(ctx, lease); err != nil {
			t.Fatal(err)
		}
	}
	before, err := store.Backup(tablesARN + "ledger")
	if err != nil {
		t.Fatal(err)
	}
	key := eth.Pubkey{1}
	if err := errors.Join(a.Hold(ctx, 1), a.Admit(ctx, 1, []slashing.Admission{{Mark: slashing.Mark{Pubkey: key}, Assignment: 1}})); err != nil {
		t.Fatal(err)
	}
	mark, err := a.Watermark(ctx)
	if err != nil {
		t.Fatal(err)
	}
	lease, err := leases.Lease(ctx, "signer-a")
	if err != nil {
		t.Fatal(err)
	}
	lease.Beat, lease.Watermark = 2, mark
	if err := leases.Take(ctx, lease); err != nil {
		t.Fatal(err)
	}
	if err := s.whole(ctx); err != nil {
		t.Errorf("as it was signed by last: %v", err)
	}
	now, err := store.Backup(tablesARN + "ledger")
	if err != nil {
		t.Fatal(err)
	}
	for what, restore := range map[string]func(){"older": before, "empty": empty} {
		restore()
		if err := s.whole(ctx); !errors.Is(err, signer.ErrLedger) {
			t.Errorf("%s: %v", what, err)
		}
	}
	now()
	if _, err := s.replace(ctx, "signer-b", root, ""); err != nil {
		t.Fatal(err)
	}
	if err := s.whole(ctx); !errors.Is(err, signer.ErrLedger) {
		t.Errorf("another ledger than the lease names: %v", err)
	}
}

// TestRestoredWithRecords: records and ledger were restored to a time when a key
// was still the first signer's. By its own lease nothing is wrong: another's
// tells, and once that one's ledger is replaced, nobody's.
func TestRestoredWithRecords(t *testing.T) {
	ctx, root := context.Background(), hoodiNetwork().GenesisValidatorsRoot
	for name, replaced := range map[string]bool{"its start": false, "another's ledger replaced first": true} {
		t.Run(name, func(t *testing.T) {
			store := newTables(t)
			h := tableHome(t, store, "i-1")
			s := &tableSigners{h}
			leases, done, err := s.leases()
			if err != nil {
				t.Fatal(err)
			}
			defer done()
			opened := map[string]signerLedger{}
			for _, signer := range []string{"signer-a", "signer-b"} {
				info, err := s.create(ctx, signer, root)
				if err != nil {
					t.Fatal(err)
				}
				if opened[signer], err = s.open(ctx, signer); err != nil {
					t.Fatal(err)
				}
				defer opened[signer].Close()
				lease := record.Lease{Name: signer, Epoch: 1, Beat: 1, Ledger: info.ID, Where: "here", Time: record.Time(time.Now())}
				if err := errors.Join(leases.Take(ctx, lease), opened[signer].Hold(ctx, 1)); err != nil {
					t.Fatal(err)
				}
			}
			a, _, _ := newApp(signerNow)
			now, _ := signer.EpochAt(h.generator.Network, signerNow.Unix())
			key := eth.Pubkey{1}
			mine := slashing.Admission{Mark: slashing.Mark{Pubkey: key}, Assignment: 1}
			var log bytes.Buffer
			start := func() error { // and what it would sign
				t.Helper()
				ledger := opened["signer-a"]
				if err := h.afterRestore(ctx, a, ledger, 1, slog.New(slog.NewTextHandler(&log, nil))); err != nil {
					t.Fatal(err)
				}
				return ledger.Sign(ctx, 1, []slashing.Claim{{Pubkey: key, Source: now - 1, Target: now, Root: eth.Root{2}}})[0]
			}
			if err := opened["signer-a"].Admit(ctx, 1, []slashing.Admission{mine}); err != nil {
				t.Fatal(err)
			}
			before, err := store.Backup(tablesARN + "ledger")
			if err != nil {
				t.Fatal(err)
			}
			// The other takes it over, signs, and its lease keeps how far it came.
			mine.Assignment = 2
			b := opened["signer-b"]
			err = errors.Join(b.Admit(ctx, 1, []slashing.Admission{mine}), b.Sign(ctx, 1, []slashing.Claim{{Pubkey: key, Source: now - 1, Target: now, Root: eth.Root{1}}})[0])
			if err != nil {
				t.Fatal(err)
			}
			lease, err := leases.Lease(ctx, "signer-b")
			if err != nil {
				t.Fatal(err)
			}
			lease.Beat++
			if lease.Watermark, err = b.Watermark(ctx); err != nil {
				t.Fatal(err)
			}
			if err := leases.Take(ctx, lease); err != nil {
				t.Fatal(err)
			}
			before()
			opened["signer-a"].(*lockedLedger).Ledger.Close() // a new process has seen nothing
			if replaced {
				if err := s.floorOthers(ctx, "signer-b", now); err != nil {
					t.Fatal(err)
				}
				info, err := s.replace(ctx, "signer-b", root, "")
				if err != nil {
					t.Fatal(err)
				}
				lease.Beat, lease.Epoch, lease.Ledger, lease.Watermark = lease.Beat+1, 2, info.ID, 0
				if err := leases.Take(ctx, lease); err != nil {
					t.Fatal(err)
				}
			}
			if err := start(); !errors.Is(err, slashing.ErrSlashable) {
				t.Errorf("what the other signed: %v", err)
			}
			if strings.Contains(log.String(), "older") == replaced {
				t.Errorf("it says %q", &log)
			}
		})
	}
}

// TestTableSignersAlone: one process of a machine has a signer's name, also
// where the file of the former one is still there; and two machines of which
// one is a copy of the other are told apart.
func TestTableSignersAlone(t *testing.T) {
	ctx, root := context.Background(), hoodiNetwork().GenesisValidatorsRoot
	store := newTables(t)
	h := tableHome(t, store, "i-1")
	s := h.signers()
	if _, err := s.create(ctx, "signer-a", root); err != nil {
		t.Fatal(err)
	}
	if _, err := s.create(ctx, "signer-a", root); !errors.Is(err, record.ErrExists) {
		t.Errorf("a second ledger: %v", err)
	}
	first, err := s.open(ctx, "signer-a")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.open(ctx, "signer-a"); !errors.Is(err, errBusy) {
		t.Errorf("a second process: %v", err)
	}
	if _, err := s.open(ctx, "signer-b"); !errors.Is(err, record.ErrNotFound) {
		t.Errorf("one that was never made: %v", err)
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	again, err := s.open(ctx, "signer-a")
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	where := s.where("signer-a")
	other := tableHome(t, store, "i-2")
	other.dir = h.dir // the same file, as on a disk that was copied
	if got := other.signers().where("signer-a"); got == where || strings.SplitN(got, "#", 2)[0] != strings.SplitN(where, "#", 2)[0] {
		t.Errorf("two machines are %q and %q", where, got)
	}
	if len(where) > 256 || strings.Contains(where, "#?") {
		t.Errorf("where is %q", where)
	}
	files, err := filepath.Glob(filepath.Join(h.dir, signersFolder, "*"))
	slices.Sort(files)
	if err != nil || len(files) != 2 || filepath.Base(files[0]) != "signer-a.lock" {
		t.Errorf("in the home: %q, %v", files, err)
	}
}
