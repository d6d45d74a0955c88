package main

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stakeseal/stakeseal/birth"
	"github.com/stakeseal/stakeseal/certificate"
	"github.com/stakeseal/stakeseal/eth"
	"github.com/stakeseal/stakeseal/internal/aws/session"
	"github.com/stakeseal/stakeseal/internal/keyfile"
	"github.com/stakeseal/stakeseal/internal/runtimeapi"
	"github.com/stakeseal/stakeseal/record"
)

// fakeMaker is a generator as its requester sees it: it fills indexes, first
// writer wins, and answers with signed receipts over what it did. Its
// validators are numbers.
type fakeMaker struct {
	t      *testing.T
	signer *keyfile.Signer
	trust  *certificate.Trust

	mu       sync.Mutex
	calls    int
	now, top int               // invocations that run, and the most that did
	owner    map[uint32]string // mnemonic of each index
	spans    map[string]span   // of each mnemonic
	archive  map[string][]byte
	most     uint32 // indexes in one invocation
	// before may fail the nth call, or change its answer.
	before func(n int, q birth.Request) error
	after  func(n int, q birth.Request, answer map[string]any)
}

func newFakeMaker(t *testing.T) *fakeMaker {
	t.Helper()
	path := filepath.Join(t.TempDir(), "key")
	public, err := keyfile.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := keyfile.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(signer.Wipe)
	network, _ := eth.LookupNetwork("hoodi")
	return &fakeMaker{t: t, signer: signer, most: 1 << 30, owner: map[uint32]string{}, spans: map[string]span{}, archive: map[string][]byte{},
		trust: &certificate.Trust{Network: network, Addresses: map[string]eth.Address{"cold": coldAddress}, Keys: []certificate.TrustedKey{{Name: "k", Key: public}}}}
}

var coldAddress = eth.Address{1, 2, 3}

func (m *fakeMaker) order(count uint32) birth.Request {
	return birth.Request{Schema: birth.RequestSchema, Order: "big", Network: "hoodi", Count: count, WithdrawalAddress: coldAddress,
		Plan: []eth.Gwei{32e9}, Keystore: "pbkdf2", Settings: record.Digest{7}, To: count}
}

func (m *fakeMaker) ranges(count uint32, workers int) *ranges {
	made := int64(0)
	var mu sync.Mutex
	m.t.Cleanup(func() {
		if made > int64(count) {
			m.t.Errorf("the progress is %d of %d", made, count)
		}
	})
	return &ranges{request: m.order(count), trust: m.trust, archive: m, invoke: m.invoke, workers: workers,
		made: func(n int64) { mu.Lock(); made += n; mu.Unlock() },
		wait: func(ctx context.Context, _ int) error { return ctx.Err() }}
}

func (m *fakeMaker) Put(context.Context, string, []byte) error { panic("the requester puts nothing") }
func (m *fakeMaker) Get(_ context.Context, name string) ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if data, ok := m.archive[name]; ok {
		return data, nil
	}
	return nil, record.ErrNotFound
}

func (m *fakeMaker) invoke(ctx context.Context, event []byte) ([]byte, error) {
	m.mu.Lock()
	m.calls++
	n := m.calls
	m.now++
	m.top = max(m.top, m.now)
	m.mu.Unlock()
	defer func() { m.mu.Lock(); m.now--; m.mu.Unlock() }()
	r, err := birth.ParseRequest(event)
	if err != nil {
		return nil, &runtimeapi.Failure{Class: "refused", Message: err.Error()}
	}
	var q birth.Request
	if err := json.Unmarshal(event, &q); err != nil {
		return nil, err
	}
	if m.before != nil {
		if err := m.before(n, q); err != nil {
			return nil, err
		}
	}
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	end := min(q.To, q.From+m.most)
	mnemonic := ""
	for i := q.From; i < end; i++ {
		if m.owner[i] != "" {
			continue
		}
		if mnemonic == "" {
			mnemonic = fmt.Sprintf("m-%06d", n)
			m.spans[mnemonic] = span{q.From, q.To}
		}
		m.owner[i] = mnemonic
	}
	envelope := m.receipt(r.Order, q.From, end)
	m.archive[birth.ReceiptObject(q.Order, q.From, end)] = envelope
	answer := map[string]any{"schema": birth.AnswerSchema, "receipt": json.RawMessage(envelope)}
	if end < q.To {
		answer["remaining"] = []birth.Span{{From: end, To: q.To}}
	}
	if m.after != nil {
		m.after(n, q, answer)
	}
	return json.Marshal(answer)
}

func numberedKey(i uint32) (p eth.Pubkey, h certificate.Hash) {
	binary.BigEndian.PutUint32(p[40:], i+1)
	return p, sha256.Sum256(p[:])
}

func (m *fakeMaker) receipt(o record.Order, from, to uint32) []byte {
	c := certificate.Receipt{Network: o.Network, NetworkDigest: m.trust.Network.Digest(), Order: o.ID, OrderDigest: certificate.Hash(o.Digest()),
		SettingsDigest: certificate.Hash(o.Settings), Count: o.Count, From: from, To: to, Time: time.Unix(1.79e9, 0).UTC()}
	for i := from; i < to; i++ {
		pubkey, digest := numberedKey(i)
		c.Validators = append(c.Validators, certificate.ReceiptValidator{Index: i, Pubkey: pubkey, Mnemonic: m.owner[i], Certificate: digest})
		s := m.spans[m.owner[i]]
		ref := certificate.ReceiptMnemonic{ID: m.owner[i], From: s.from, To: s.to, Digest: sha256.Sum256([]byte(m.owner[i]))}
		if !slices.Contains(c.Mnemonics, ref) {
			c.Mnemonics = append(c.Mnemonics, ref)
		}
	}
	slices.SortFunc(c.Mnemonics, func(a, b certificate.ReceiptMnemonic) int {
		return cmp.Or(cmp.Compare(a.From, b.From), strings.Compare(a.ID, b.ID))
	})
	envelope, err := certificate.SignReceipt(context.Background(), m.signer, c)
	if err != nil {
		m.t.Error(err)
	}
	return envelope
}

func failed(class string) error { return &runtimeapi.Failure{Class: class, Message: class} }

// A large order with everything that goes wrong on the way ends with exactly
// its validators and one receipt over all of them, and at no time run more
// invocations than were asked for.
func TestLargeOrder(t *testing.T) {
	const count, workers = 10_000, 20
	m := newFakeMaker(t)
	m.most = 170 // less than a range: each leaves something
	ended, failures := map[uint32]bool{}, map[uint32]int{}
	m.before = func(n int, q birth.Request) error {
		m.mu.Lock()
		defer m.mu.Unlock()
		fails := n%7 == 0 || n%11 == 0
		if !fails || failures[q.From] == 3 { // whoever fails four times is given up, whatever the order of calls
			return nil
		}
		failures[q.From]++
		if n%7 == 0 {
			return failed([]string{"failed", "Runtime.ExitError", "Function.Unknown"}[n%3])
		}
		return failed("Sandbox.Timedout")
	}
	m.after = func(n int, q birth.Request, answer map[string]any) {
		if n%13 == 0 { // it ran, and its answer was too large for the way
			answer["receipt_sha256"] = record.DigestOf(answer["receipt"].(json.RawMessage))
			delete(answer, "receipt")
		}
		ended[q.From] = true
	}
	r := m.ranges(count, workers)
	// The whole receipt comes when all are there, and is not limited.
	whole := func(q birth.Request) bool { return q.From == 0 && q.To == count }
	before := m.before
	m.before = func(n int, q birth.Request) error {
		if whole(q) {
			m.mu.Lock()
			m.most = count
			m.mu.Unlock()
			return nil
		}
		return before(n, q)
	}
	envelope, err := r.run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	v, err := confirmedReceipt(m.trust, m.order(count), envelope, 0, count)
	if err != nil {
		t.Fatal(err)
	}
	if len(v.Validators) != count || len(m.owner) != count || len(r.lines) != count {
		t.Errorf("%d validators in the receipt, %d made, %d seen", len(v.Validators), len(m.owner), len(r.lines))
	}
	if m.top > workers {
		t.Errorf("%d invocations ran at once", m.top)
	}
	if m.calls < count/170 {
		t.Errorf("only %d invocations", m.calls)
	}
}

// One range is one invocation, and its receipt that of the order.
func TestSmallOrder(t *testing.T) {
	m := newFakeMaker(t)
	if _, err := m.ranges(4, 8).run(t.Context()); err != nil || m.calls != 1 {
		t.Errorf("%d invocations, %v", m.calls, err)
	}
	// Again it is the same, and nothing is made.
	before := len(m.owner)
	if _, err := m.ranges(4, 1).run(t.Context()); err != nil || len(m.owner) != before {
		t.Errorf("%d made, %v", len(m.owner), err)
	}
}

// What ends a run ends it at once, in its own words.
func TestFatal(t *testing.T) {
	for _, class := range []string{"refused", "tampered", "conflict", "init", "denied"} {
		m := newFakeMaker(t)
		m.before = func(int, birth.Request) error { return failed(class) }
		_, err := m.ranges(4, 8).run(t.Context())
		if f, ok := errors.AsType[*runtimeapi.Failure](err); !ok || f.Class != class || m.calls != 1 {
			t.Errorf("%s: %d calls, %v", class, m.calls, err)
		}
	}
	m := newFakeMaker(t)
	m.before = func(int, birth.Request) error { return session.ErrDenied }
	if _, err := m.ranges(4, 8).run(t.Context()); !errors.Is(err, session.ErrDenied) || m.calls != 1 {
		t.Errorf("denied by AWS: %d calls, %v", m.calls, err)
	}
	for class, want := range map[string]int{"failed": 4, "Runtime.ExitError": 4, "Sandbox.Timedout": 4, "incomplete": 2} {
		m := newFakeMaker(t)
		m.before = func(int, birth.Request) error { return failed(class) }
		_, err := m.ranges(4, 8).run(t.Context())
		if f, ok := errors.AsType[*runtimeapi.Failure](err); !ok || f.Class != class || m.calls != want {
			t.Errorf("%s for ever: %d calls, %v", class, m.calls, err)
		}
	}
}

// The whole receipt that the function's time is too short for is said so, and
// not tried for ever.
func TestWholeReceiptTooLong(t *testing.T) {
	for name, fails := range map[string]bool{"in part": false, "not at all": true} {
		m := newFakeMaker(t)
		m.most = 20
		if fails {
			m.before = func(_ int, q birth.Request) error {
				if q.To-q.From == 60 {
					return failed("Sandbox.Timedout")
				}
				return nil
			}
		}
		_, err := m.ranges(60, 2).run(t.Context())
		if code, hint := verdict(err); code != exitInternal || !strings.Contains(hint, "give the function more time") || len(m.owner) != 60 || m.calls > 20 {
			t.Errorf("%s: %d calls, %d made, %v", name, m.calls, len(m.owner), err)
		}
	}
}

// fill gives the first indexes an owner, so that any receipt of them can be
// written.
func (m *fakeMaker) fill() {
	for i := range uint32(8) {
		m.owner[i] = "m-000000"
	}
	m.spans["m-000000"] = span{0, 4}
}

// An answer that does not say what was asked for is refused.
func TestLyingAnswers(t *testing.T) {
	other := func(m *fakeMaker, change func(*birth.Request)) any {
		q := m.order(4)
		change(&q)
		event, err := json.Marshal(q)
		if err != nil {
			t.Fatal(err)
		}
		r, err := birth.ParseRequest(event)
		if err != nil {
			t.Fatal(err)
		}
		m.fill()
		return json.RawMessage(m.receipt(r.Order, q.From, q.To))
	}
	for name, c := range map[string]struct {
		lie func(m *fakeMaker, answer map[string]any)
		is  error
	}{
		"no schema":     {func(_ *fakeMaker, a map[string]any) { delete(a, "schema") }, session.ErrRemote},
		"nothing":       {func(_ *fakeMaker, a map[string]any) { delete(a, "receipt") }, birth.ErrTampered},
		"null":          {func(_ *fakeMaker, a map[string]any) { a["receipt"] = nil }, birth.ErrTampered},
		"not a receipt": {func(_ *fakeMaker, a map[string]any) { a["receipt"] = "x" }, certificate.ErrFormat},
		"another's key": {func(m *fakeMaker, a map[string]any) { a["receipt"] = other(newFakeMaker(m.t), func(*birth.Request) {}) }, certificate.ErrSignature},
		"other settings": {func(m *fakeMaker, a map[string]any) {
			a["receipt"] = other(m, func(q *birth.Request) { q.Settings[0]++ })
		}, birth.ErrTampered},
		"another order": {func(m *fakeMaker, a map[string]any) {
			a["receipt"] = other(m, func(q *birth.Request) { q.Order = "other" })
		}, birth.ErrTampered},
		"another address": {func(m *fakeMaker, a map[string]any) {
			a["receipt"] = other(m, func(q *birth.Request) { q.WithdrawalAddress[0]++ })
		}, birth.ErrTampered},
		"other amounts": {func(m *fakeMaker, a map[string]any) {
			a["receipt"] = other(m, func(q *birth.Request) { q.Plan = []eth.Gwei{1e9, 31e9} })
		}, birth.ErrTampered},
		"other labels": {func(m *fakeMaker, a map[string]any) {
			a["receipt"] = other(m, func(q *birth.Request) { q.Labels = map[string]string{"a": "b"} })
		}, birth.ErrTampered},
		"a larger order":    {func(m *fakeMaker, a map[string]any) { a["receipt"] = other(m, func(q *birth.Request) { q.Count = 5 }) }, birth.ErrTampered},
		"less than it says": {func(m *fakeMaker, a map[string]any) { a["receipt"] = other(m, func(q *birth.Request) { q.To = 3 }) }, birth.ErrTampered},
		"more than it says": {func(_ *fakeMaker, a map[string]any) { a["remaining"] = []birth.Span{{From: 3, To: 4}} }, birth.ErrTampered},
		"all remains":       {func(_ *fakeMaker, a map[string]any) { a["remaining"] = []birth.Span{{From: 0, To: 4}} }, session.ErrRemote},
		"beyond remains":    {func(_ *fakeMaker, a map[string]any) { a["remaining"] = []birth.Span{{From: 3, To: 5}} }, session.ErrRemote},
		"a gap":             {func(_ *fakeMaker, a map[string]any) { a["remaining"] = []birth.Span{{From: 2, To: 3}} }, session.ErrRemote},
		"backwards":         {func(_ *fakeMaker, a map[string]any) { a["remaining"] = []birth.Span{{From: 4, To: 3}} }, session.ErrRemote},
		"overlapping": {func(_ *fakeMaker, a map[string]any) {
			a["remaining"] = []birth.Span{{From: 2, To: 4}, {From: 3, To: 4}}
		}, session.ErrRemote},
		"another in the archive": {func(m *fakeMaker, a map[string]any) {
			delete(a, "receipt")
			a["receipt_sha256"] = record.Digest{1}
		}, birth.ErrTampered},
		"nothing in the archive": {func(m *fakeMaker, a map[string]any) {
			delete(a, "receipt")
			clear(m.archive)
		}, record.ErrNotFound},
	} {
		m := newFakeMaker(t)
		m.after = func(_ int, _ birth.Request, a map[string]any) { c.lie(m, a) }
		m.fill()
		if _, err := m.ranges(4, 8).run(t.Context()); !errors.Is(err, c.is) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Two receipts that name two owners of one index: one of them is a lie.
func TestTwoOwners(t *testing.T) {
	m := newFakeMaker(t)
	m.after = func(_ int, q birth.Request, a map[string]any) {
		if q.From == 0 && q.To == 600 { // the whole receipt: index 5 is another's
			m.owner[5] = "m-999999"
			m.spans["m-999999"] = span{0, 600}
			event, _ := json.Marshal(m.order(600))
			r, _ := birth.ParseRequest(event)
			a["receipt"] = json.RawMessage(m.receipt(r.Order, 0, 600))
		}
	}
	if _, err := m.ranges(600, 2).run(t.Context()); !errors.Is(err, birth.ErrTampered) || !strings.Contains(err.Error(), "index 5") {
		t.Errorf("got %v", err)
	}
}

func TestRunInterrupted(t *testing.T) {
	m := newFakeMaker(t)
	ctx, cancel := context.WithCancel(t.Context())
	m.before = func(n int, _ birth.Request) error {
		if n == 3 {
			cancel()
		}
		return nil
	}
	if _, err := m.ranges(5000, 2).run(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if m.calls > 6 {
		t.Errorf("%d invocations", m.calls)
	}
	// And goes on where it was.
	made := len(m.owner)
	m.before = nil
	if _, err := m.ranges(5000, 2).run(t.Context()); err != nil || made == 0 || len(m.owner) != 5000 {
		t.Errorf("%d made before, %d after, %v", made, len(m.owner), err)
	}
}

func TestCut(t *testing.T) {
	for _, kdf := range []string{"pbkdf2", "scrypt", "none"} {
		for _, count := range []uint32{1, 7, 8, 9, 100, 250, 251, 1000, 10_000, 100_000} {
			for _, workers := range []int{1, 8, 20, 1024} {
				next, most := uint32(0), uint32(mostOfRange)
				if kdf == "scrypt" {
					most = scryptRange
				}
				for _, s := range cut(birth.Request{Count: count, Keystore: kdf}, workers) {
					if s.from != next || s.to <= s.from || s.len() > most || s.len() < leastOfRange && s.to != count {
						t.Fatalf("%s, %d by %d: %v after %d", kdf, count, workers, s, next)
					}
					next = s.to
				}
				if next != count {
					t.Errorf("%s, %d by %d: ends at %d", kdf, count, workers, next)
				}
			}
		}
	}
}

// The generator's refusal of settings that are not its own is the one that
// requesters will meet: its words come from package birth.
func TestOtherSettings(t *testing.T) {
	ours, theirs := record.Digest{1}, record.Digest{2}
	words := fmt.Sprintf("order refused: it was asked for under the settings %s, and these are %s: they were changed meanwhile", ours, theirs)
	err := explainSettings(fmt.Errorf("%w (request r-1)", &runtimeapi.Failure{Class: "refused", Message: words}))
	code, hint := verdict(err)
	if code != exitConflict || !strings.Contains(hint, "release") || !strings.Contains(err.Error(), "other settings (digest "+theirs.String()+") than this home ("+ours.String()+")") {
		t.Errorf("%d: %v; %s", code, err, hint)
	}
	for _, other := range []error{failed("refused"), &runtimeapi.Failure{Class: "failed", Message: words}, errors.New(words)} {
		if explainSettings(other) != other {
			t.Errorf("%v was changed", other)
		}
	}
}
