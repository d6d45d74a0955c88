package beacon

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stakeseal/stakeseal/deposit"
	"github.com/stakeseal/stakeseal/eth"
)

func chainOf(t testing.TB, fakes ...*fake) *Chain {
	t.Helper()
	var nodes []*Node
	for _, f := range fakes {
		nodes = append(nodes, f.node(t))
	}
	c, err := New(hoodi, clock, nodes...)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestKnown(t *testing.T) {
	f := newFake(t)
	f.validators[pubkey(2)] = deposit.Validator{Index: 9, Status: deposit.PendingQueued, Credentials: eth.Credentials{1, 31: 7}, Balance: 1e9}
	p := deposit.Pending{Credentials: eth.Credentials{2, 31: 8}, Amount: 31e9, Signature: eth.Signature{5}, Slot: 99}
	f.pending = []pendingEntry{{pubkey(3), p}, {pubkey(77), p}, {pubkey(3), p}}
	got, at, err := chainOf(t, f).Known(context.Background(), append(pubkeys(4), pubkey(2)))
	if err != nil {
		t.Fatal(err)
	}
	if len(got) != 4 {
		t.Errorf("%d states", len(got))
	}
	if s, ok := got[pubkey(1)]; !ok || s.Validator != nil || s.Pending != nil {
		t.Errorf("new: %+v, %t", s, ok)
	}
	if v := got[pubkey(2)].Validator; v == nil || *v != f.validators[pubkey(2)] {
		t.Errorf("registered: %+v", v)
	}
	if q := got[pubkey(3)]; q.Validator != nil || !slices.Equal(q.Pending, []deposit.Pending{p, p}) {
		t.Errorf("pending: %+v", q)
	}
	want := deposit.At{Slot: 100, BlockRoot: root(100), ForkVersion: hoodi.GenesisForkVersion, GenesisValidatorsRoot: hoodi.GenesisValidatorsRoot,
		Nodes: []string{strings.TrimPrefix(f.URL, "http://")}, Pending: true}
	if fmt.Sprint(at) != fmt.Sprint(want) {
		t.Errorf("at %+v, want %+v", at, want)
	}
	// Everything is asked of one state, never of "head" twice.
	for _, a := range f.asked {
		if strings.Contains(a, "/states/") && !strings.Contains(a, "/states/100/") {
			t.Errorf("asked %s", a)
		}
	}
}

// A validator that is index 0 itself is found like any other.
func TestKnownCanary(t *testing.T) {
	f := newFake(t)
	got, _, err := chainOf(t, f).Known(context.Background(), []eth.Pubkey{pubkey(1 << 40), pubkey(1)})
	if err != nil || got[pubkey(1<<40)].Validator == nil || got[pubkey(1)].Validator != nil {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestBatches(t *testing.T) {
	for name, c := range map[string]struct {
		post int // status of POST, 0: it works
		want []int
	}{
		"post":       {0, []int{1000, 1000, 503}},
		"get by 404": {404, append(slices.Repeat([]int{64}, 39), 44)},
		"get by 405": {405, append(slices.Repeat([]int{64}, 39), 44)},
	} {
		f := newFake(t)
		f.validators[pubkey(2500)] = deposit.Validator{Index: 9, Status: deposit.ActiveOngoing, Credentials: eth.Credentials{1}, Balance: 32e9}
		posts := 0
		if c.post != 0 {
			f.override["/validators"] = func(w http.ResponseWriter, r *http.Request) {
				if r.Method == http.MethodPost {
					posts++
					http.Error(w, "no", c.post)
					return
				}
				f.good(w, r)
			}
		}
		got, _, err := chainOf(t, f).Known(context.Background(), pubkeys(2500))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if got[pubkey(2500)].Validator == nil || len(got) != 2500 {
			t.Errorf("%s: %d states, the last %+v", name, len(got), got[pubkey(2500)])
		}
		if !slices.Equal(f.ids, c.want) || c.post != 0 && posts != 1 {
			t.Errorf("%s: batches %v after %d posts, want %v", name, f.ids, posts, c.want)
		}
	}
}

// say answers 200 with JSON of the test's own.
func say(format string, args ...any) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { answer(w, format, args...) }
}

func status(code int) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(code)
		_, _ = io.WriteString(w, `{"data":[]}`)
	}
}

func raw(kind, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", kind)
		_, _ = io.WriteString(w, body)
	}
}

// cut promises more than it sends.
func cut(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", "1000")
	_, _ = io.WriteString(w, `{"data":[]}`)
}

// endless sends white space until nobody listens.
func endless(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	chunk := []byte(`{"data":` + strings.Repeat(" ", 1<<16))
	for r.Context().Err() == nil {
		if _, err := w.Write(chunk); err != nil {
			return
		}
		chunk = []byte(strings.Repeat(" ", 1<<16))
	}
}

const genesisPath, syncingPath, headPath, atPath, validatorsPath, pendingPath = "/genesis", "/syncing", "/headers/head", "/headers/100", "/validators", "/pending_deposits"

var everyPath = []string{genesisPath, syncingPath, headPath, atPath, validatorsPath, pendingPath}

// One node that misbehaves in any way is an error of the right kind, with one
// node and with a good one beside it.
func TestNeverAPass(t *testing.T) {
	zero := validatorJSON(pubkey(1<<40), deposit.Validator{Status: deposit.ActiveOngoing})
	asked := deposit.Validator{Index: 3, Status: deposit.ActiveOngoing}
	list := func(rows ...string) http.HandlerFunc {
		return say(`{"execution_optimistic":false,"data":[%s]}`, strings.Join(rows, ","))
	}
	queue := func(entry string) http.HandlerFunc {
		return say(`{"version":"fulu","execution_optimistic":false,"finalized":false,"data":[%s]}`, entry)
	}
	entry := fmt.Sprintf(`{"pubkey":"%s","withdrawal_credentials":"%s","amount":"1","signature":"%s","slot":"1"}`, pubkey(1), eth.Credentials{1}, eth.Signature{})
	genesisOf := func(root eth.Root, v eth.Version) http.HandlerFunc {
		return say(`{"data":{"genesis_time":"1","genesis_validators_root":"%s","genesis_fork_version":"%s"}}`, root, v)
	}
	type bad struct {
		name, path string
		handler    http.HandlerFunc
		want       error
	}
	cases := []bad{
		{"other network", genesisPath, genesisOf(hoodi.GenesisValidatorsRoot, eth.Version{}), ErrNetwork},
		{"other root", genesisPath, genesisOf(eth.Root{1}, hoodi.GenesisForkVersion), ErrNetwork},
		{"no root", genesisPath, say(`{"data":{"genesis_time":"1","genesis_fork_version":"0x10000910"}}`), ErrNode},
		{"short root", genesisPath, say(`{"data":{"genesis_time":"1","genesis_validators_root":"0x01","genesis_fork_version":"0x10000910"}}`), ErrNode},
		{"time a number", genesisPath, say(`{"data":{"genesis_time":1,"genesis_validators_root":"%s","genesis_fork_version":"0x10000910"}}`, hoodi.GenesisValidatorsRoot), ErrNode},
		{"two roots", genesisPath, say(`{"data":{"genesis_time":"1","genesis_validators_root":"%s","Genesis_Validators_Root":"%s","genesis_fork_version":"0x10000910"}}`, eth.Root{1}, hoodi.GenesisValidatorsRoot), ErrNode},
		{"syncing", syncingPath, say(`{"data":{"head_slot":"100","sync_distance":"5","is_syncing":true,"is_optimistic":false,"el_offline":false}}`), ErrNotSynced},
		{"optimistic", syncingPath, say(`{"data":{"head_slot":"100","sync_distance":"0","is_syncing":false,"is_optimistic":true,"el_offline":false}}`), ErrNotSynced},
		{"execution offline", syncingPath, say(`{"data":{"head_slot":"100","sync_distance":"0","is_syncing":false,"is_optimistic":false,"el_offline":true}}`), ErrNotSynced},
		{"execution unsaid", syncingPath, say(`{"data":{"head_slot":"100","sync_distance":"0","is_syncing":false,"is_optimistic":false}}`), ErrNode},
		{"optimism unsaid", syncingPath, say(`{"data":{"head_slot":"100","sync_distance":"0","is_syncing":false,"el_offline":false}}`), ErrNode},
		{"null", syncingPath, say(`{"data":null}`), ErrNode},
		{"stale head", headPath, say(headerJSON, root(67), true, 67), ErrNotSynced},
		{"head to come", headPath, say(headerJSON, root(102), true, 102), ErrNotSynced},
		{"optimistic head", headPath, say(strings.Replace(headerJSON, `optimistic":false`, `optimistic":true`, 1), root(100), true, 100), ErrNotSynced},
		{"orphaned head", headPath, say(headerJSON, root(100), false, 100), ErrNode},
		{"head without slot", headPath, say(`{"data":{"root":"%s","canonical":true,"header":{"message":{}}}}`, root(100)), ErrNode},
		{"block of another slot", atPath, say(headerJSON, root(100), true, 99), ErrNode},
		{"block of another root", atPath, say(headerJSON, root(99), true, 100), ErrDisagree},
		{"block gone", atPath, status(404), ErrDisagree},
		{"nobody, not even validator 0", validatorsPath, list(), ErrNode},
		{"null list", validatorsPath, say(`{"data":null}`), ErrNode},
		{"no list", validatorsPath, say(`{}`), ErrNode},
		{"not asked for", validatorsPath, list(zero, validatorJSON(pubkey(50), asked)), ErrNode},
		{"twice the index", validatorsPath, list(zero, validatorJSON(pubkey(1), asked), validatorJSON(pubkey(2), asked)), ErrNode},
		{"twice the pubkey", validatorsPath, list(zero, validatorJSON(pubkey(1), asked), validatorJSON(pubkey(1), deposit.Validator{Index: 4, Status: deposit.ActiveOngoing})), ErrNode},
		{"unknown status", validatorsPath, list(zero, validatorJSON(pubkey(1), deposit.Validator{Index: 4, Status: "gone"})), ErrNode},
		{"without credentials", validatorsPath, list(zero, strings.Replace(validatorJSON(pubkey(1), asked), "withdrawal_credentials", "x", 1)), ErrNode},
		{"null pubkey", validatorsPath, list(zero, strings.Replace(validatorJSON(pubkey(1), asked), `"`+pubkey(1).String()+`"`, "null", 1)), ErrNode},
		{"negative balance", validatorsPath, list(zero, strings.Replace(validatorJSON(pubkey(1), asked), `"balance":"0"`, `"balance":"-1"`, 1)), ErrNode},
		{"optimistic state", validatorsPath, say(`{"execution_optimistic":true,"data":[%s]}`, zero), ErrNode},
		{"all refused", validatorsPath, status(400), ErrNode},
		{"POST and GET refused", validatorsPath, status(404), ErrNode},
		{"queue optimistic", pendingPath, say(`{"execution_optimistic":true,"data":[]}`), ErrNode},
		{"queue null", pendingPath, say(`{"execution_optimistic":false,"data":null}`), ErrNode},
		{"queue missing", pendingPath, say(`{"execution_optimistic":false}`), ErrNode},
		{"queue twice", pendingPath, say(`{"data":[%s],"data":[]}`, entry), ErrNode},
		{"queue cut", pendingPath, say(`{"data":[%s`, entry), ErrNode},
		{"queue not closed", pendingPath, say(`{"data":[%s]`, entry), ErrNode},
		{"queue entry without credentials", pendingPath, queue(strings.Replace(entry, "withdrawal_credentials", "x", 1)), ErrNode},
		{"queue entry without signature", pendingPath, queue(strings.Replace(entry, "signature", "x", 1)), ErrNode},
		{"queue entry with two pubkeys", pendingPath, queue(strings.Replace(entry, `"amount"`, `"PUBKEY":"`+pubkey(9).String()+`","amount"`, 1)), ErrNode},
		{"queue entry huge", pendingPath, queue(`{"x":"` + strings.Repeat("y", 5000) + `"}`), ErrNode},
	}
	for _, path := range everyPath {
		cases = append(cases,
			bad{"status 500", path, status(500), ErrNode},
			bad{"status 503", path, status(503), ErrNode},
			bad{"status 206", path, status(206), ErrNode},
			bad{"status 204", path, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(204) }, ErrNode},
			bad{"HTML", path, raw("text/html", "<html>"), ErrNode},
			bad{"no type", path, raw("", `{"data":[]}`), ErrNode},
			bad{"garbage", path, raw("application/json", "\x00\xff garbage"), ErrNode},
			bad{"empty", path, raw("application/json", ""), ErrNode},
			bad{"a list", path, raw("application/json", "[]"), ErrNode},
			bad{"trailing", path, raw("application/json", `{"data":[]} {}`), ErrNode},
			bad{"cut", path, cut, ErrNode},
			bad{"hangs up", path, func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, ErrNode},
			bad{"huge by its length", path, func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", "application/json")
				w.Header().Set("Content-Length", "99999999999")
				_, _ = io.WriteString(w, "{")
			}, ErrNode},
		)
		if path != pendingPath { // its bound is 128 MB: TestBound
			cases = append(cases, bad{"endless", path, endless, ErrNode})
		}
	}
	for _, c := range cases {
		f, beside := newFake(t), newFake(t)
		f.override[c.path] = c.handler
		for _, fakes := range [][]*fake{{f}, {f, beside}, {beside, f}} {
			states, at, err := chainOf(t, fakes...).Known(context.Background(), pubkeys(3))
			if !errors.Is(err, c.want) || !errors.Is(err, deposit.ErrChain) || states != nil || at.Nodes != nil {
				t.Errorf("%s at %s, one of %d: %v, want %v", c.name, c.path, len(fakes), err, c.want)
			}
			if err != nil && (!strings.Contains(err.Error(), "127.0.0.1:") || len(err.Error()) > 1500) {
				t.Errorf("%s at %s: error %q", c.name, c.path, err)
			}
		}
		f.Close()
		beside.Close()
	}
}

// A node without the queue's endpoint is no failure; that the queue was not
// seen is told.
func TestNoQueue(t *testing.T) {
	for _, code := range []int{400, 404, 405, 501} {
		f, with := newFake(t), newFake(t)
		f.override[pendingPath] = status(code)
		with.pending = []pendingEntry{{pubkey(1), deposit.Pending{Amount: 1}}}
		got, at, err := chainOf(t, f).Known(context.Background(), pubkeys(2))
		if err != nil || at.Pending || len(at.NoPending) != 1 || len(got) != 2 {
			t.Errorf("%d: %v, %+v", code, err, at)
		}
		for _, fakes := range [][]*fake{{f, with}, {with, f}} {
			got, at, err := chainOf(t, fakes...).Known(context.Background(), pubkeys(2))
			// What one shows is passed on, but does not stand for both.
			if err != nil || at.Pending || !slices.Equal(at.NoPending, []string{strings.TrimPrefix(f.URL, "http://")}) || len(got[pubkey(1)].Pending) != 1 {
				t.Errorf("%d, beside one that has it: %v, %+v, %+v", code, err, at, got)
			}
		}
	}
}

func TestSilence(t *testing.T) {
	gone := newFake(t)
	gone.Close()
	if _, _, err := chainOf(t, gone).Known(context.Background(), pubkeys(1)); !errors.Is(err, ErrNode) {
		t.Errorf("down: %v", err)
	}
	for _, path := range everyPath {
		for name, h := range map[string]http.HandlerFunc{
			"says nothing": func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() },
			"stops in the middle": func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Content-Type", "application/json")
				_, _ = io.WriteString(w, `{"data":`)
				w.(http.Flusher).Flush()
				<-r.Context().Done()
			},
		} {
			f := newFake(t)
			f.override[path] = func(w http.ResponseWriter, r *http.Request) {
				_, _ = io.Copy(io.Discard, r.Body) // else the server doesn't see the client leave
				h(w, r)
			}
			n, err := NewNode(f.URL, 100*time.Millisecond)
			if err != nil {
				t.Fatal(err)
			}
			c, err := New(hoodi, clock, n)
			if err != nil {
				t.Fatal(err)
			}
			if _, _, err := c.Known(context.Background(), pubkeys(1)); !errors.Is(err, ErrNode) || !errors.Is(err, deposit.ErrChain) || !errors.Is(err, context.DeadlineExceeded) && !os.IsTimeout(err) {
				t.Errorf("%s at %s: %v", name, path, err)
			}
			f.Close()
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, _, err := chainOf(t, newFake(t)).Known(ctx, pubkeys(1)); !errors.Is(err, context.Canceled) {
		t.Errorf("canceled: %v", err)
	}
}

func TestRedirectsRefused(t *testing.T) {
	for _, path := range everyPath {
		for _, code := range []int{301, 302, 303, 307, 308} {
			f, target := newFake(t), newFake(t)
			f.override[path] = func(w http.ResponseWriter, r *http.Request) {
				http.Redirect(w, r, target.URL+r.URL.Path, code)
			}
			_, _, err := chainOf(t, f).Known(context.Background(), pubkeys(1))
			if !errors.Is(err, ErrNode) || !strings.Contains(err.Error(), "redirect") {
				t.Errorf("%d at %s: %v", code, path, err)
			}
			if len(target.asked) > 0 {
				t.Errorf("%d at %s: was followed: %v", code, path, target.asked)
			}
			f.Close()
			target.Close()
		}
	}
}

func TestDisagree(t *testing.T) {
	v := deposit.Validator{Index: 9, Status: deposit.ActiveOngoing, Credentials: eth.Credentials{1, 31: 7}, Balance: 32e9}
	foreign := v
	foreign.Credentials[31] = 8
	moved, poorer, leaving := v, v, v
	moved.Index, poorer.Balance, leaving.Status = 10, 31e9, deposit.ActiveExiting
	p := deposit.Pending{Amount: 1, Slot: 3}
	for name, change := range map[string]func(a, b *fake){
		"one knows it, one does not": func(a, _ *fake) { a.validators[pubkey(1)] = v },
		"other credentials":          func(a, b *fake) { a.validators[pubkey(1)], b.validators[pubkey(1)] = v, foreign },
		"other index":                func(a, b *fake) { a.validators[pubkey(1)], b.validators[pubkey(1)] = v, moved },
		"other balance":              func(a, b *fake) { a.validators[pubkey(1)], b.validators[pubkey(1)] = v, poorer },
		"other status":               func(a, b *fake) { a.validators[pubkey(1)], b.validators[pubkey(1)] = v, leaving },
		"pending in one queue":       func(a, _ *fake) { a.pending = []pendingEntry{{pubkey(1), p}} },
		"fork":                       func(a, _ *fake) { a.blocks[100] = root(5) },
		"fork below the head":        func(a, b *fake) { a.head, b.blocks[99] = 99, root(5) },
	} {
		for _, swap := range []bool{false, true} {
			a, b := newFake(t), newFake(t)
			if swap {
				change(b, a)
			} else {
				change(a, b)
			}
			_, _, err := chainOf(t, a, b).Known(context.Background(), pubkeys(2))
			if !errors.Is(err, ErrDisagree) || !errors.Is(err, deposit.ErrChain) {
				t.Errorf("%s: %v", name, err)
			}
			a.Close()
			b.Close()
		}
	}
}

// Nodes whose heads are a few slots apart are asked for the older block.
func TestCommonSlot(t *testing.T) {
	a, b, c := newFake(t), newFake(t), newFake(t)
	b.head, c.head = 97, 99
	_, at, err := chainOf(t, a, b, c).Known(context.Background(), pubkeys(1))
	if err != nil || at.Slot != 97 || at.BlockRoot != root(97) || len(at.Nodes) != 3 {
		t.Errorf("%+v, %v", at, err)
	}
	for _, f := range []*fake{a, b, c} {
		if !slices.Contains(f.asked, "POST /eth/v1/beacon/states/97/validators") {
			t.Errorf("asked %v", f.asked)
		}
	}
}

// A block that is replaced while the questions are asked.
func TestReorganisation(t *testing.T) {
	f := newFake(t)
	f.override[pendingPath] = func(w http.ResponseWriter, r *http.Request) {
		f.blocks[100] = root(5)
		f.good(w, r)
	}
	if _, _, err := chainOf(t, f).Known(context.Background(), pubkeys(1)); !errors.Is(err, ErrDisagree) {
		t.Error(err)
	}
}

// On a network without a known validators root (ephemery), nodes of two
// incarnations of it must not pass as one.
func TestIncarnations(t *testing.T) {
	ephemery, _ := eth.LookupNetwork("ephemery")
	a, b := newFake(t), newFake(t)
	a.net, b.net = ephemery, ephemery
	a.net.GenesisValidatorsRoot, b.net.GenesisValidatorsRoot = eth.Root{1}, eth.Root{2}
	c, err := New(ephemery, clock, a.node(t), b.node(t))
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := c.Known(context.Background(), pubkeys(1)); !errors.Is(err, ErrDisagree) {
		t.Error(err)
	}
	b.net.GenesisValidatorsRoot = eth.Root{1}
	if _, at, err := c.Known(context.Background(), pubkeys(1)); err != nil || at.GenesisValidatorsRoot != (eth.Root{1}) {
		t.Error(at, err)
	}
}

func TestNew(t *testing.T) {
	f := newFake(t)
	n := f.node(t)
	if _, err := New(hoodi, clock); !errors.Is(err, ErrURL) {
		t.Error(err)
	}
	u, _ := url.Parse(f.URL)
	u.User = url.UserPassword("other", "user")
	again, err := NewNode(u.String(), 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := New(hoodi, clock, n, again); !errors.Is(err, ErrURL) {
		t.Error("the same node is a second opinion:", err)
	}
	apart, err := NewNode(f.URL+"/x", 0)
	if err != nil {
		t.Fatal(err)
	}
	c, err := New(hoodi, clock, n, apart)
	if err != nil || c.nodes[0].name == c.nodes[1].name {
		t.Error("two paths of one host have one name", err)
	}
	if _, _, err := chainOf(t, f).Known(context.Background(), nil); !errors.Is(err, deposit.ErrChain) {
		t.Error(err)
	}
}
