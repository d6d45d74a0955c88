package birth_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"filippo.io/age"

	"github.com/stakeseal/stakeseal/birth"
	"github.com/stakeseal/stakeseal/certificate"
	"github.com/stakeseal/stakeseal/eth"
	"github.com/stakeseal/stakeseal/internal/folder"
	"github.com/stakeseal/stakeseal/internal/keyfile"
	"github.com/stakeseal/stakeseal/internal/sqlite"
	"github.com/stakeseal/stakeseal/keygen"
	"github.com/stakeseal/stakeseal/keygen/mnemonic"
	"github.com/stakeseal/stakeseal/record"
	"github.com/stakeseal/stakeseal/record/recordfault"
	"github.com/stakeseal/stakeseal/seal"
	"github.com/stakeseal/stakeseal/unseal"
)

// house is everything that a flow and its judges need: real stores, real
// identities, a real certifying key.
type house struct {
	t        testing.TB
	store    *sqlite.Store
	archive  *folder.Archive
	flow     birth.Flow
	signing  *unseal.Opener
	recovery *unseal.Opener
}

func newHouse(t testing.TB) *house {
	t.Helper()
	dir := t.TempDir()
	store, err := sqlite.Create(filepath.Join(dir, "records.db"))
	must(t, err)
	t.Cleanup(func() { must(t, store.Close()) })
	archive, err := folder.Create(filepath.Join(dir, "bundles"))
	must(t, err)
	public, err := keyfile.Create(filepath.Join(dir, "certifier.key"))
	must(t, err)
	signer, err := keyfile.Open(filepath.Join(dir, "certifier.key"))
	must(t, err)
	h := &house{t: t, store: store, archive: archive}
	recipients := func(purpose seal.Purpose) (*seal.Recipients, *unseal.Opener) {
		id, err := age.GenerateX25519Identity()
		must(t, err)
		r, err := seal.ParseRecipient(id.Recipient().String())
		must(t, err)
		list, err := seal.NewRecipients(purpose, seal.Named{Name: string(purpose), Recipient: r})
		must(t, err)
		return list, unseal.NewOpener(unseal.Age(id, string(purpose)))
	}
	network, _ := eth.LookupNetwork("hoodi")
	address := eth.Address{19: 1, 0: 0xaa}
	h.flow = birth.Flow{Network: network, Addresses: map[string]eth.Address{"cold": address}, MaxPerOrder: 100,
		Signer: signer, Store: store, Archive: archive, Now: func() time.Time { return time.Date(2026, 12, 1, 0, 0, 0, 0, time.UTC) },
		Maker: certificate.Maker{BinaryDigest: certificate.Hash{1}, SettingsDigest: certificate.Hash{2}, Version: "0.0.0"}, Workers: 2,
		Verifier: &certificate.Trust{Network: network, Addresses: map[string]eth.Address{"cold": address},
			Keys: []certificate.TrustedKey{{Name: "self", Key: public}}}}
	h.flow.Signing, h.signing = recipients(seal.Signing)
	h.flow.Recovery, h.recovery = recipients(seal.Recovery)
	return h
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (h *house) order(n uint32, kdf string) birth.Range {
	return birth.Range{Order: record.Order{ID: "test", Network: "hoodi", Count: n, Plan: []eth.Gwei{1e9, 31e9}, Keystore: kdf,
		Credentials: eth.ExecutionCredentials(h.flow.Addresses["cold"], true)}, To: n}
}

// run runs a range to its receipt. It returns what was disclosed, also when
// it fails.
func run(ctx context.Context, flow *birth.Flow, r birth.Range) (disclosed []record.Birth, receipt []byte, err error) {
	var lines []birth.Line
	for b, err := range flow.Run(ctx, r) {
		if err != nil {
			return disclosed, nil, err
		}
		disclosed = append(disclosed, b.Birth)
		lines = append(lines, b.Line())
	}
	receipt, err = flow.Receipt(ctx, r, lines)
	return disclosed, receipt, err
}

// audit opens everything that the store holds of the order with the
// recipients' identities, re-derives every key from its mnemonic, and returns
// the pubkeys by index. It is the judge of every fault below.
func (h *house) audit(r birth.Range) map[uint32]eth.Pubkey {
	t, ctx := h.t, h.t.Context()
	t.Helper()
	makers := map[string]*keygen.Maker{}
	for m, err := range h.store.Mnemonics(ctx, r.Order.ID) {
		must(t, err)
		opened, err := h.recovery.Mnemonic(ctx, m.Sealing.File, seal.RecoveryBinding("hoodi", r.Order.ID, m.ID))
		must(t, err)
		phrase, err := mnemonic.Parse(opened.Words, mnemonic.English)
		must(t, err)
		makers[m.ID], err = keygen.NewMaker(phrase.Seed(nil))
		must(t, err)
	}
	keys := map[uint32]eth.Pubkey{}
	for row, err := range h.store.Validators(ctx, record.Query{Order: r.Order.ID}) {
		must(t, err)
		if _, twice := keys[row.Index]; twice {
			t.Fatalf("index %d has two keys", row.Index)
		}
		keys[row.Index] = row.Pubkey
		b, err := h.store.Birth(ctx, row.Pubkey)
		must(t, err)
		opened, err := h.signing.Key(ctx, b.Sealing.File, seal.SigningBinding("hoodi", r.Order.ID, b.Index, b.Pubkey))
		must(t, err)
		opened.Wipe()
		again, err := makers[b.Mnemonic].Make(ctx, keygen.Spec{Network: h.flow.Network, KDF: keygen.None}, []uint32{b.Index}, nil)
		must(t, err)
		if again[0].Pubkey != b.Pubkey {
			t.Fatalf("index %d does not re-derive from mnemonic %s", b.Index, b.Mnemonic)
		}
	}
	return keys
}

func TestOrderBecomesValidators(t *testing.T) {
	for _, kdf := range []string{"none", "pbkdf2"} {
		t.Run(kdf, func(t *testing.T) {
			h := newHouse(t)
			r := h.order(5, kdf)
			made, receipt, err := run(t.Context(), &h.flow, r)
			must(t, err)
			keys := h.audit(r)
			if len(made) != 5 || len(keys) != 5 {
				t.Fatalf("made %d, recorded %d, want 5", len(made), len(keys))
			}
			v, err := h.flow.Verifier.VerifyReceipt(receipt)
			must(t, err)
			for _, line := range v.Validators {
				if keys[line.Index] != line.Pubkey {
					t.Errorf("the receipt lists another key at index %d", line.Index)
				}
			}
			again, receiptAgain, err := run(t.Context(), &h.flow, r)
			must(t, err)
			if len(again) != 5 || string(receiptAgain) != string(receipt) {
				t.Error("the same order again gives another receipt")
			}
		})
	}
}

// TestFaults is G5 and G6: a fault at every call of every port, before and
// after it was applied, passing and lasting; then the order again.
func TestFaults(t *testing.T) {
	learn := newHouse(t)
	plan := recordfault.New()
	flow := learn.flow
	flow.Workers = 1 // so that calls are numbered the same in every run
	flow.Store, flow.Archive = faulty(plan, learn)
	_, _, err := run(t.Context(), &flow, learn.order(3, "none"))
	must(t, err)
	points := recordfault.Points(plan.Calls())
	if len(points) < 40 {
		t.Fatalf("only %d points: the plan does not see the flow's calls", len(points))
	}
	fired := 0
	for _, point := range points {
		t.Run(point.String(), func(t *testing.T) {
			h := newHouse(t)
			plan := recordfault.New(point)
			flow := h.flow
			flow.Workers = 1
			flow.Store, flow.Archive = faulty(plan, h)
			r := h.order(3, "none")
			disclosed, receipt, err := run(t.Context(), &flow, r)
			if plan.Fired() {
				fired++
			}
			if err != nil && !errors.Is(err, recordfault.ErrInjected) {
				t.Fatalf("failed otherwise than injected: %v", err)
			}
			all, final, err := run(t.Context(), &h.flow, r)
			must(t, err)
			keys := h.audit(r)
			if len(keys) != 3 || len(all) != 3 {
				t.Fatalf("%d validators after the second run, want 3", len(keys))
			}
			for _, b := range disclosed {
				if keys[b.Index] != b.Pubkey {
					t.Errorf("index %d was disclosed as %v and is %v", b.Index, b.Pubkey, keys[b.Index])
				}
			}
			if receipt != nil && string(receipt) != string(final) {
				t.Error("a receipt was disclosed and is another now")
			}
		})
	}
	if fired < len(points)*9/10 {
		t.Errorf("only %d of %d faults were met", fired, len(points))
	}
}

// TestArchiveIsAskedFirst: a range that was made before costs a get for each
// object and, but for the order's, no put.
func TestArchiveIsAskedFirst(t *testing.T) {
	h := newHouse(t)
	r := h.order(3, "none")
	_, _, err := run(t.Context(), &h.flow, r)
	must(t, err)
	flow := h.flow
	plan := recordfault.New()
	flow.Workers = 1
	flow.Store, flow.Archive = faulty(plan, h)
	_, _, err = run(t.Context(), &flow, r)
	must(t, err)
	n := map[string]int{}
	for _, c := range plan.Calls() {
		n[c.Port+"."+c.Method]++
	}
	// The order at the beginning and for the receipt, 3 births, the mnemonic
	// for them and for the receipt, the receipt.
	if n["Archive.Put"] != 1 || n["Archive.Get"] != 2+3+2+1 {
		t.Errorf("the calls were %v", n)
	}
}

// faulty is the house's ports with a plan's faults.
func faulty(plan *recordfault.Plan, h *house) (birth.Store, record.Archive) {
	return struct {
		record.Births
		record.Reader
	}{plan.Births(h.store), plan.Reader(h.store)}, plan.Archive(h.archive)
}

// TestManyAtOnce is G5: several invocations of one order at once.
func TestManyAtOnce(t *testing.T) {
	h := newHouse(t)
	r := h.order(8, "none")
	var all sync.WaitGroup
	results := make([][]record.Birth, 4)
	receipts := make([][]byte, len(results))
	for i := range results {
		all.Go(func() {
			var err error
			results[i], receipts[i], err = run(t.Context(), &h.flow, r)
			if err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	keys := h.audit(r)
	if len(keys) != 8 {
		t.Fatalf("%d validators, want 8", len(keys))
	}
	for i, made := range results {
		if len(made) != 8 || string(receipts[i]) != string(receipts[0]) {
			t.Errorf("run %d saw %d validators or another receipt", i, len(made))
		}
		for _, b := range made {
			if keys[b.Index] != b.Pubkey {
				t.Errorf("run %d was told another key for index %d", i, b.Index)
			}
		}
	}
}

// TestRanges: an order run in parts ends as one.
func TestRanges(t *testing.T) {
	h := newHouse(t)
	whole := h.order(7, "none")
	for _, part := range [][2]uint32{{3, 5}, {0, 3}, {4, 7}} {
		r := whole
		r.From, r.To = part[0], part[1]
		_, _, err := run(t.Context(), &h.flow, r)
		must(t, err)
	}
	_, receipt, err := run(t.Context(), &h.flow, whole)
	must(t, err)
	v, err := h.flow.Verifier.VerifyReceipt(receipt)
	must(t, err)
	if len(h.audit(whole)) != 7 || len(v.Validators) != 7 || len(v.Mnemonics) != 3 {
		t.Errorf("%d validators and %d mnemonics, want 7 and 3", len(v.Validators), len(v.Mnemonics))
	}
}

func TestRefusedOrders(t *testing.T) {
	h := newHouse(t)
	for name, spoil := range map[string]func(*birth.Range){
		"no validators":          func(r *birth.Range) { r.Order.Count, r.To = 0, 0 },
		"too many":               func(r *birth.Range) { r.Order.Count = 101 },
		"range outside":          func(r *birth.Range) { r.To = 4 },
		"range empty":            func(r *birth.Range) { r.From = 3 },
		"another network":        func(r *birth.Range) { r.Order.Network = "mainnet" },
		"another address":        func(r *birth.Range) { r.Order.Credentials[31]++ },
		"BLS credentials":        func(r *birth.Range) { r.Order.Credentials[0] = 0 },
		"builder credentials":    func(r *birth.Range) { r.Order.Credentials[0] = 0xb0 },
		"no plan":                func(r *birth.Range) { r.Order.Plan = nil },
		"amount below a deposit": func(r *birth.Range) { r.Order.Plan = []eth.Gwei{1e9 - 1} },
		"sum over the maximum":   func(r *birth.Range) { r.Order.Plan = []eth.Gwei{2048e9, 1e9} },
		"keystore kind":          func(r *birth.Range) { r.Order.Keystore = "argon2" },
	} {
		t.Run(name, func(t *testing.T) {
			r := h.order(3, "none")
			spoil(&r)
			if _, _, err := run(t.Context(), &h.flow, r); !errors.Is(err, birth.ErrOrder) {
				t.Fatalf("got %v, want ErrOrder", err)
			}
			if _, err := h.store.Order(t.Context(), "test"); !errors.Is(err, record.ErrNotFound) {
				t.Error("a refused order was placed")
			}
		})
	}
}

// liar answers PutBirth with another birth than the stored one, as somebody
// who controls the store would.
type liar struct {
	birth.Store
	lie func(record.Birth) record.Birth
}

func (l liar) PutBirth(ctx context.Context, b record.Birth) (record.Birth, error) {
	b, err := l.Store.PutBirth(ctx, b)
	return l.lie(b), err
}

func (l liar) Birth(ctx context.Context, p eth.Pubkey) (record.Birth, error) {
	b, err := l.Store.Birth(ctx, p)
	return l.lie(b), err
}

// TestStoreIsNotTrusted: whatever the store says of a birth is held against
// its certificate.
func TestStoreIsNotTrusted(t *testing.T) {
	other := newHouse(t)
	foreign, _, err := run(t.Context(), &other.flow, other.order(1, "none"))
	must(t, err)
	for name, lie := range map[string]func(record.Birth) record.Birth{
		"another certifier's birth": func(record.Birth) record.Birth { return foreign[0] },
		"changed credentials":       func(b record.Birth) record.Birth { b.Credentials[31]++; return b },
		"changed deposit": func(b record.Birth) record.Birth {
			b.Deposits = slices.Clone(b.Deposits)
			b.Deposits[0].Signature[5]++
			return b
		},
		"moved to another index": func(b record.Birth) record.Birth { b.Index++; b.Path = keygen.SigningPath(b.Index); return b },
		"another sealed secret": func(b record.Birth) record.Birth {
			b.Sealing.File = append(slices.Clone(b.Sealing.File), 0)
			b.Sealing.Digest = record.DigestOf(b.Sealing.File)
			return b
		},
		"no certificate": func(b record.Birth) record.Birth { b.Certificate = nil; return b },
	} {
		for _, second := range []bool{false, true} {
			t.Run(fmt.Sprint(name, ", second run ", second), func(t *testing.T) {
				h := newHouse(t)
				r := h.order(1, "none")
				if second {
					_, _, err := run(t.Context(), &h.flow, r)
					must(t, err)
				}
				flow := h.flow
				flow.Store = liar{h.store, lie}
				disclosed, _, err := run(t.Context(), &flow, r)
				if !errors.Is(err, birth.ErrTampered) || len(disclosed) > 0 {
					t.Fatalf("disclosed %d, error %v; want none and ErrTampered", len(disclosed), err)
				}
			})
		}
	}
}

// TestSettingsAsAskedFor: an order that was asked for under other settings is
// refused before anything is stored; what was confirmed is what is used.
func TestSettingsAsAskedFor(t *testing.T) {
	h := newHouse(t)
	r := h.order(1, "none")
	r.Order.Settings = record.Digest{9}
	if _, _, err := run(t.Context(), &h.flow, r); !errors.Is(err, birth.ErrOrder) {
		t.Fatalf("got %v, want ErrOrder", err)
	}
	if _, err := h.store.Order(t.Context(), "test"); !errors.Is(err, record.ErrNotFound) {
		t.Error("a refused order was placed")
	}
	r.Order.Settings = record.Digest(h.flow.Maker.SettingsDigest)
	_, _, err := run(t.Context(), &h.flow, r)
	must(t, err)
}

// orderLiar tells another order than the stored one.
type orderLiar struct {
	birth.Store
	lie func(*record.Order)
}

func (l orderLiar) Order(ctx context.Context, id string) (record.Order, error) {
	o, err := l.Store.Order(ctx, id)
	l.lie(&o)
	return o, err
}

// TestReceiptSignsNoHearsay: what the store and the archive say by the time
// of the receipt is held against what was asked for and certified.
func TestReceiptSignsNoHearsay(t *testing.T) {
	for name, lie := range map[string]func(*record.Order){
		"other settings": func(o *record.Order) { o.Settings[0]++ },
		"other labels":   func(o *record.Order) { o.Labels = map[string]string{"team": "mallory"} },
		"another time":   func(o *record.Order) { o.Created = o.Created.Add(time.Hour) },
		"another count":  func(o *record.Order) { o.Count++ },
	} {
		t.Run(name, func(t *testing.T) {
			h := newHouse(t)
			flow := h.flow
			flow.Store = orderLiar{h.store, lie}
			_, receipt, err := run(t.Context(), &flow, h.order(1, "none"))
			if !errors.Is(err, birth.ErrTampered) || receipt != nil {
				t.Fatalf("receipt of %d bytes, %v; want none and ErrTampered", len(receipt), err)
			}
		})
	}
	t.Run("another mnemonic in the archive", func(t *testing.T) {
		h := newHouse(t)
		flow := h.flow
		flow.Archive = archiveLiar{h.archive}
		_, receipt, err := run(t.Context(), &flow, h.order(1, "none"))
		if !errors.Is(err, birth.ErrTampered) || receipt != nil {
			t.Fatalf("receipt of %d bytes, %v; want none and ErrTampered", len(receipt), err)
		}
	})
}

// archiveLiar answers the second question for a mnemonic, that of the receipt,
// with one that was sealed to somebody else.
type archiveLiar struct{ record.Archive }

func (l archiveLiar) Get(ctx context.Context, name string) ([]byte, error) {
	object, err := l.Archive.Get(ctx, name)
	if err != nil || !strings.Contains(name, "/m-") {
		return object, err
	}
	m, err := record.DecodeMnemonic(object)
	if err != nil {
		return nil, err
	}
	if _, err := l.Archive.Get(ctx, birth.BirthObject(m.Order, 0)); err != nil {
		return object, nil // not yet the time of the receipt
	}
	m.Sealing.Recipients[0].Name = "mallory"
	return record.EncodeMnemonic(m)
}

// TestCertificateOfOtherSettings: a birth made under other settings than its
// order was placed under does not pass as one of the order.
func TestCertificateOfOtherSettings(t *testing.T) {
	h := newHouse(t)
	r := h.order(1, "none")
	made, _, err := run(t.Context(), &h.flow, r)
	must(t, err)
	o, err := h.store.Order(t.Context(), "test")
	must(t, err)
	v, err := h.flow.Verifier.VerifyBirth(made[0].Certificate)
	must(t, err)
	must(t, birth.Fills(v.Birth, o))
	o.Settings[0]++
	if err := birth.Fills(v.Birth, o); !errors.Is(err, birth.ErrTampered) {
		t.Errorf("got %v, want ErrTampered", err)
	}
}
