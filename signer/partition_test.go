package signer_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"math/rand/v2"
	"path/filepath"
	"testing"
	"time"

	"github.com/stakeseal/stakeseal/eth"
	"github.com/stakeseal/stakeseal/internal/sqlite"
	"github.com/stakeseal/stakeseal/record"
	"github.com/stakeseal/stakeseal/record/recordtest"
	"github.com/stakeseal/stakeseal/signer"
	"github.com/stakeseal/stakeseal/slashing"
)

// machine is one that may hold the lease: it reaches the store or not, and its
// clock for people may say anything.
type machine struct {
	w      *world
	name   string
	away   bool
	now    time.Time
	lease  *signer.Lease
	signs  *signer.Signer
	ledger *sqlite.Ledger
}

var errAway = errors.New("unreachable")

func (m *machine) Take(ctx context.Context, l record.Lease) error {
	if m.away {
		return errAway
	}
	return m.w.store.Take(ctx, l)
}

func (m *machine) Lease(ctx context.Context, name string) (record.Lease, error) {
	if m.away {
		return record.Lease{}, errAway
	}
	return m.w.store.Lease(ctx, name)
}

func (m *machine) Leases(ctx context.Context) iter.Seq2[record.Lease, error] {
	return m.w.store.Leases(ctx)
}

func (m *machine) terms() signer.Terms {
	t := m.w.terms(1)
	t.Leases, t.Where, t.Now = m, "me@"+m.name+":/ledger.db", func() time.Time { return m.now }
	return t
}

// TestNeverTwo: machines that lose the store, come back, are suspended, have
// clocks that jump by years and take the lease from each other, in ten thousand
// events at random: at no moment do two of them hold it, whatever each believes,
// and an epoch is never had twice.
func TestNeverTwo(t *testing.T) {
	seed := rand.Uint64()
	random := rand.New(rand.NewPCG(seed, 1))
	w := newWorld(t)
	machines := make([]*machine, 3)
	for i := range machines {
		machines[i] = &machine{w: w, name: fmt.Sprint("machine-", i), now: recordtest.Start}
	}
	epochs := map[uint64]string{}
	held, taken, cut := 0, 0, 0
	look := func() {
		var holders []string
		for _, m := range machines {
			if m.lease == nil {
				continue
			}
			if epoch, err := m.lease.Epoch(); err == nil {
				holders = append(holders, m.name)
				if by := epochs[epoch]; by != "" && by != m.name {
					t.Fatalf("seed %d: epoch %d is %s's and %s's", seed, epoch, by, m.name)
				}
				epochs[epoch] = m.name
			}
		}
		if len(holders) > 1 {
			t.Fatalf("seed %d: at %s %v hold the lease", seed, w.clock(), holders)
		}
		held += len(holders)
	}
	for range 3000 {
		m := machines[random.IntN(len(machines))]
		switch event := random.IntN(100); {
		case event < 40: // it renews, as it does every three seconds
			if m.lease != nil {
				_ = m.lease.Renew(ctx) // what comes of it, look sees
			}
		case event < 60:
			w.pass(time.Duration(random.IntN(10_000)) * time.Millisecond)
		case event < 65: // suspended, or paused: time goes on and it does nothing
			w.pass(time.Duration(random.IntN(300)) * time.Second)
		case event < 75:
			if m.away = !m.away; m.away {
				cut++
			}
		case event < 80:
			m.now = m.now.AddDate(random.IntN(40)-20, 0, 0)
		case event < 83:
			if m.lease != nil {
				_ = m.lease.Release(ctx)
				m.lease = nil
			}
		default: // it tries to take it, while the others go on
			terms := m.terms()
			sleep := terms.Sleep
			terms.Sleep = func(ctx context.Context, d time.Duration) error {
				err := sleep(ctx, d)
				for _, other := range machines {
					if other != m && other.lease != nil && random.IntN(4) > 0 {
						_ = other.lease.Renew(ctx)
					}
				}
				look()
				return err
			}
			if lease, err := signer.TakeLease(ctx, terms); err == nil {
				m.lease = lease
				taken++
			}
		}
		look()
	}
	if held < 300 || taken < 30 || cut < 30 {
		t.Fatalf("seed %d: held %d times, taken %d times, cut off %d times: the test shows nothing", seed, held, taken, cut)
	}
	t.Logf("held at %d moments, taken %d times, cut off %d times", held, taken, cut)
}

// TestPartition: a holder that is cut off from the store signs on until its
// term ends, then nothing; who takes over begins after that, and of conflicting
// messages that both are asked for again and again one is signed. Then the first
// one's machine is back, with its clock set back by a year.
func TestPartition(t *testing.T) {
	w := newWorld(t)
	key := secretKey(t, 0)
	pubkey := key.Pubkey()
	a, b := newMachine(t, w, "here"), newMachine(t, w, "there")
	client := &signer.Client{Name: "vc", Operations: signer.Duties()}
	ask := func(m *machine, target uint64, fill byte) bool {
		_, err := m.signs.Sign(ctx, client, signer.Order{Pubkey: pubkey, Request: request(t, attestation(target-1, target, fill))})
		if err != nil && !errors.Is(err, signer.ErrStopped) && !errors.Is(err, slashing.ErrSlashable) {
			t.Fatal(err)
		}
		return err == nil
	}
	a.take(t)
	if !ask(a, 10, 1) {
		t.Fatal("the holder does not sign")
	}
	a.away = true
	var signedAt, refusedAt time.Duration
	target := uint64(11)
	terms := b.terms()
	sleep := terms.Sleep
	terms.Sleep = func(ctx context.Context, d time.Duration) error {
		_ = a.lease.Renew(ctx) // it tries, and cannot
		if ask(a, target, 1) {
			if refusedAt > 0 {
				t.Errorf("signed at %s, after it stopped at %s", w.clock(), refusedAt)
			}
			signedAt = w.clock()
			target++
		} else if refusedAt == 0 {
			refusedAt = w.clock()
		}
		return sleep(ctx, d)
	}
	lease, err := signer.TakeLease(ctx, terms)
	if err != nil {
		t.Fatal(err)
	}
	b.lease = lease
	if err := b.ledger.Hold(ctx, 3); err != nil {
		t.Fatal(err)
	}
	if signedAt == 0 || refusedAt == 0 || signedAt >= signer.Term || w.clock() < refusedAt+signer.Term/2 {
		t.Errorf("the one signed last at %s and was refused from %s, the other began at %s", signedAt, refusedAt, w.clock())
	}
	// Now both are asked for conflicting messages, at every moment.
	a.away, a.now = false, a.now.AddDate(-1, 0, 0)
	both := 0
	for n := range uint64(20) {
		w.pass(time.Second)
		_, _ = a.lease.Renew(ctx), b.lease.Renew(ctx)
		byA, byB := ask(a, 100+n, 1), ask(b, 100+n, 2)
		if byA {
			t.Errorf("the former holder signs at %s", w.clock())
		}
		if byB {
			both++
		}
	}
	if both != 20 {
		t.Errorf("the new holder signed %d of 20", both)
	}
}

// newMachine is one with a signer, whose fence is its lease.
func newMachine(t *testing.T, w *world, name string) *machine {
	t.Helper()
	m := &machine{w: w, name: name, now: recordtest.Start}
	path := filepath.Join(t.TempDir(), "ledger.db")
	if _, err := sqlite.CreateLedger(path, "signer-a", hoodi.GenesisValidatorsRoot); err != nil {
		t.Fatal(err)
	}
	var err error
	if m.ledger, err = sqlite.OpenLedger(path); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = m.ledger.Close() })
	m.signs, err = signer.New(signer.Config{Network: hoodi, Ledger: m.ledger, Now: clockNow, Patience: time.Minute,
		Fence: func() (uint64, error) {
			if m.lease == nil {
				return 0, signer.ErrStopped
			}
			return m.lease.Epoch()
		}})
	if err != nil {
		t.Fatal(err)
	}
	key := secretKey(t, 0)
	if err := m.ledger.Hold(ctx, 1); err != nil {
		t.Fatal(err)
	}
	if err := m.ledger.Add(ctx, 1, []slashing.Mark{{Pubkey: key.Pubkey()}}); err != nil {
		t.Fatal(err)
	}
	if err := m.signs.Keys.Put(signer.Key{Pubkey: key.Pubkey(), Secret: key, Credentials: credentials(), Plan: []eth.Gwei{32e9}}); err != nil {
		t.Fatal(err)
	}
	return m
}

func (m *machine) take(t *testing.T) {
	t.Helper()
	lease, err := signer.TakeLease(ctx, m.terms())
	if err != nil {
		t.Fatal(err)
	}
	m.lease = lease
	epoch, err := lease.Epoch()
	if err != nil {
		t.Fatal(err)
	}
	if err := m.ledger.Hold(ctx, epoch); err != nil {
		t.Fatal(err)
	}
}

// TestClockJumps: the clock for people decides one thing, how far ahead a duty
// may lie. Set back by years nothing is signed that would be ahead then; set
// forward, nothing that was signed is forgotten; the lease does not look at it.
func TestClockJumps(t *testing.T) {
	now := clockNow()
	b := newBench(t, 1, func(c *signer.Config) { c.Now = func() time.Time { return now } })
	body := func(target uint64, fill byte) map[string]any { return attestation(target-1, target, fill) }
	for _, c := range []struct {
		jump   time.Duration
		target uint64
		fill   byte
		want   int
	}{
		{0, epochNow, 1, 200},
		{-2 * 365 * 24 * time.Hour, epochNow + 1, 1, 403}, // before genesis even
		{-2 * 365 * 24 * time.Hour, epochNow, 2, 403},
		{365 * 24 * time.Hour, epochNow, 2, 412},
		{365 * 24 * time.Hour, epochNow + 2, 1, 200},
		{0, epochNow + 2, 1, 403}, // the very same, once more, by the right clock
		{0, epochNow + 1, 1, 412},
		{30 * time.Minute, epochNow + 3, 1, 200},
	} {
		now = clockNow().Add(c.jump)
		if a := b.sign(t, b.keys[0], body(c.target, c.fill)); a.status != c.want {
			t.Errorf("%+v: %d %s", c, a.status, a.body)
		}
	}
}
