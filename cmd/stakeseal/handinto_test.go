package main

import (
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/stakeseal/stakeseal/eth"
	"github.com/stakeseal/stakeseal/eth/keystore"
	"github.com/stakeseal/stakeseal/secret"
	"github.com/stakeseal/stakeseal/slashing"
)

// keymanagers is other software with a keymanager API, as the API's
// specification has it: it opens what it is given, takes the slashing
// protection of all of it first, and lists what it took. A test makes it
// misbehave.
type keymanagers struct {
	*httptest.Server
	t     *testing.T
	token string

	mu      sync.Mutex
	keys    map[eth.Pubkey]bool
	marks   map[eth.Pubkey]slashing.Mark
	batches []int
	secrets []string

	refuse map[eth.Pubkey]string                             // keys, and the message
	twist  func(w http.ResponseWriter, r *http.Request) bool // answers in its place
	liar   bool                                              // takes nothing, and says that it does
	sly    bool                                              // takes all, and says that it does not
}

func newKeymanagers(t *testing.T, secure bool) *keymanagers {
	k := &keymanagers{t: t, token: "api-token-0x0123456789", keys: map[eth.Pubkey]bool{}, marks: map[eth.Pubkey]slashing.Mark{}}
	if secure {
		k.Server = httptest.NewTLSServer(k)
	} else {
		k.Server = httptest.NewServer(k)
	}
	t.Cleanup(k.Close)
	return k
}

func (k *keymanagers) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	k.mu.Lock()
	defer k.mu.Unlock()
	switch {
	case r.URL.Path != "/eth/v1/keystores":
		http.NotFound(w, r)
	case r.Header.Get("Authorization") != "Bearer "+k.token:
		http.Error(w, `{"message":"no"}`, http.StatusUnauthorized)
	case k.twist != nil && k.twist(w, r):
	case r.Method == http.MethodGet:
		list := []map[string]any{}
		for p := range k.keys {
			list = append(list, map[string]any{"validating_pubkey": p, "derivation_path": "", "readonly": false})
		}
		k.answer(w, list)
	case r.Method == http.MethodPost:
		k.take(w, r)
	default:
		http.Error(w, "no", http.StatusMethodNotAllowed)
	}
}

func (k *keymanagers) answer(w http.ResponseWriter, data any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(map[string]any{"data": data})
}

func (k *keymanagers) take(w http.ResponseWriter, r *http.Request) {
	var q struct {
		Keystores, Passwords []string
		Slashing             string `json:"slashing_protection"`
	}
	d := json.NewDecoder(r.Body)
	d.DisallowUnknownFields()
	hoodi, _ := eth.LookupNetwork("hoodi")
	if err := d.Decode(&q); err != nil || r.Header.Get("Content-Type") != "application/json" || len(q.Keystores) != len(q.Passwords) {
		k.t.Errorf("no request of the API: %v", err)
		http.Error(w, "bad", http.StatusBadRequest)
		return
	}
	marks, err := slashing.Read(strings.NewReader(q.Slashing), hoodi.GenesisValidatorsRoot)
	if err != nil || len(marks) != len(q.Keystores) {
		k.t.Errorf("slashing protection of %d keys for %d: %v", len(marks), len(q.Keystores), err)
	}
	for _, m := range marks {
		k.marks[m.Pubkey] = m
	}
	k.batches = append(k.batches, len(q.Keystores))
	k.secrets = append(k.secrets, q.Passwords...)
	statuses := []map[string]string{}
	for i, file := range q.Keystores {
		parsed, err := keystore.Parse([]byte(file))
		if err != nil {
			k.t.Fatal(err)
		}
		inside, err := keystore.Open(k.t.Context(), []byte(file), secret.Copy([]byte(q.Passwords[i])))
		if err != nil {
			k.t.Errorf("a keystore that does not open: %v", err)
		} else {
			inside.Wipe()
		}
		if _, ok := k.marks[parsed.Pubkey()]; !ok {
			k.t.Errorf("%v came without slashing protection", parsed.Pubkey())
		}
		status := map[string]string{"status": "imported"}
		why, refused := k.refuse[parsed.Pubkey()]
		switch {
		case refused:
			status = map[string]string{"status": "error", "message": strings.ReplaceAll(why, "PASSWORD", q.Passwords[i])}
		case k.liar:
		case k.keys[parsed.Pubkey()]:
			status["status"] = "duplicate"
		case k.sly:
			k.keys[parsed.Pubkey()] = true
			status = map[string]string{"status": "error", "message": "disk full"}
		default:
			k.keys[parsed.Pubkey()] = true
		}
		statuses = append(statuses, status)
	}
	k.answer(w, statuses)
}

// handing is a site with keys to hand over.
type handing struct {
	*site
	keys []eth.Pubkey
}

func newHanding(t *testing.T, n int) *handing {
	t.Helper()
	s := &handing{site: newSite(t)}
	s.must(0, "generate", "--order", "first", "--count", fmt.Sprint(n), "--keystore", "none", "--assign", "signer-a", "--yes")
	for line := range strings.Lines(s.must(0, "list", "--json").out) {
		var v struct{ Pubkey eth.Pubkey }
		if err := json.Unmarshal([]byte(line), &v); err != nil {
			t.Fatal(err)
		}
		s.keys = append(s.keys, v.Pubkey)
	}
	return s
}

// into hands over, and sees to it that nothing that was said holds a password.
func (s *handing) into(want int, k *keymanagers, more ...string) outcome {
	s.Helper()
	file := s.path("token")
	if err := os.WriteFile(file, []byte(k.token+"\n"), 0o600); err != nil {
		s.Fatal(err)
	}
	o := s.must(want, append([]string{"keystore", "export", "--signer", "signer-a", "--identity", s.identity("signer-a"), "--into", k.URL, "--token", file, "--yes"}, more...)...)
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, secret := range append(slices.Clone(k.secrets), k.token) {
		if strings.Contains(o.out+o.err, secret) {
			s.Errorf("it shows a secret:\n%s%s", o.out, o.err)
		}
	}
	return o
}

// at counts the validators that are assigned to each.
func (s *handing) at() string {
	s.Helper()
	count := map[string]int{}
	for line := range strings.Lines(s.must(0, "list", "--json").out) {
		var v struct {
			To string `json:"assigned_to"`
		}
		if err := json.Unmarshal([]byte(line), &v); err != nil {
			s.Fatal(err)
		}
		count[v.To]++
	}
	return fmt.Sprintf("%d %d", count["signer-a"], count["external:signer-a"])
}

func (s *handing) says(o outcome, want ...string) {
	s.Helper()
	for _, text := range want {
		if !strings.Contains(o.out+o.err, text) {
			s.Errorf("no %q in\n%s%s", text, o.out, o.err)
		}
	}
}

// TestHandInto: keys go in parts, each assigned away first, with its slashing
// protection; what is refused comes back, and the rest is handed over later.
func TestHandInto(t *testing.T) {
	s := newHanding(t, 12)
	k := newKeymanagers(t, false)
	s.says(s.must(6, "keystore", "export", "--signer", "signer-a", "--identity", s.identity("signer-a"), "--into", k.URL, "--yes"), "the keymanager API answers 401")
	k.keys[s.keys[3]] = true
	s.says(s.into(5, k), "it may be signing beside it")
	delete(k.keys, s.keys[3])
	if s.at() != "12 0" || len(k.batches) > 0 {
		t.Fatalf("moved before it was asked for: %s, %v", s.at(), k.batches)
	}
	seen := false // while keys are sent they are assigned away already
	k.twist = func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method == http.MethodPost && !seen {
			seen = true
			if at := s.at(); at != "2 10" {
				t.Errorf("while the first part is sent: %s", at)
			}
		}
		return false
	}
	k.refuse = map[eth.Pubkey]string{s.keys[2]: "no: PASSWORD\x1b[2J", s.keys[5]: "wrong\nmood"}
	o := s.into(4, k)
	s.says(o, "10 of 12 keys were handed over", "2 it does not have, and are assigned to signer-a again", "(not shown: it holds the password)", "wrong mood", "refused")
	if !slices.Equal(k.batches, []int{10, 2}) || len(k.keys) != 10 || s.at() != "2 10" || !seen {
		t.Errorf("parts of %v, %d taken, %s", k.batches, len(k.keys), s.at())
	}
	s.says(s.must(0, "show", s.keys[2].String()), "exported-keystore", "into="+strings.TrimPrefix(k.URL, "http://"), "assigned by ")
	k.refuse, k.twist = nil, nil
	o = s.into(0, k, "--json")
	s.says(o, `"schema":"stakeseal/handover/v1"`, `"delivery":"imported"`)
	if len(k.keys) != 12 || s.at() != "0 12" {
		t.Errorf("%d, %s", len(k.keys), s.at())
	}
	s.says(s.into(5, k), "handed over already")
	s.says(s.into(0, k, "--again", s.keys[0].String()), "duplicate")
}

// TestHandIntoUnclear: whatever may have arrived stays assigned away, and what
// was never sent stays where it is.
func TestHandIntoUnclear(t *testing.T) {
	s := newHanding(t, 11)
	back := func() {
		t.Helper()
		s.must(0, "assign", "--to", "signer-a", "--back", "--order", "first", "--yes")
		if at := s.at(); at != "11 0" {
			t.Fatal(at)
		}
	}
	post := func(f func(k *keymanagers, w http.ResponseWriter, r *http.Request)) *keymanagers {
		k := newKeymanagers(t, false)
		k.twist = func(w http.ResponseWriter, r *http.Request) bool {
			if r.Method == http.MethodPost {
				_, _ = io.Copy(io.Discard, r.Body)
				f(k, w, r)
			}
			return r.Method == http.MethodPost
		}
		return k
	}
	code := func(status int) func(*keymanagers, http.ResponseWriter, *http.Request) {
		return func(_ *keymanagers, w http.ResponseWriter, _ *http.Request) { http.Error(w, "no", status) }
	}
	say := func(text string) func(*keymanagers, http.ResponseWriter, *http.Request) {
		return func(_ *keymanagers, w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, text) }
	}
	for name, c := range map[string]struct {
		answer func(*keymanagers, http.ResponseWriter, *http.Request)
		at     string
	}{
		"it breaks":    {code(500), "1 10"},
		"another form": {say(`{"data":[{"status":"imported"}]}`), "1 10"},
		"another word": {say(`{"data":[` + strings.Repeat(`{"status":"yes"},`, 9) + `{"status":"error"}]}`), "2 9"},
		"not JSON":     {say(`<html>`), "1 10"},
		"a redirect": {func(_ *keymanagers, w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "/elsewhere", http.StatusTemporaryRedirect)
		}, "1 10"},
		"it is cut":        {func(*keymanagers, http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, "1 10"},
		"it is refused":    {code(400), "11 0"},
		"no right to send": {code(403), "11 0"},
		"refused, and yet": {func(k *keymanagers, w http.ResponseWriter, _ *http.Request) {
			k.keys[s.keys[0]] = true
			http.Error(w, "no", 400)
		}, "10 1"},
	} {
		o := s.into(4, post(c.answer))
		if at := s.at(); at != c.at {
			t.Errorf("%s: %s, want %s\n%s", name, at, c.at, o.err)
		}
		s.says(o, "of 11 keys were handed over")
		if !strings.HasSuffix(c.at, " 0") {
			s.says(o, "stay assigned to external:signer-a", "--again", "--back PUBKEY")
		}
		back()
	}
	for name, twist := range map[string]func(*keymanagers){"liar": func(k *keymanagers) { k.liar = true }, "sly": func(k *keymanagers) { k.sly = true }} {
		k := newKeymanagers(t, false)
		twist(k)
		o := s.into(4, k)
		if at := s.at(); at != "1 10" { // the second part is not sent to such a server
			t.Errorf("%s: %s\n%s", name, at, o.err)
		}
		if name == "sly" { // sent once more, it has them all
			k.sly = false
			s.says(s.into(0, k, "--again"), "duplicate")
		}
		back()
	}
}

// TestHandIntoTLS: over TLS, to the certificate that is given and to no other.
func TestHandIntoTLS(t *testing.T) {
	s := newHanding(t, 1)
	k := newKeymanagers(t, true)
	s.says(s.into(4, k), "couldn't ask the keymanager API")
	ca := s.path("ca.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: k.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	if s.at() != "1 0" {
		t.Fatal(s.at())
	}
	s.into(0, k, "--ca", ca)
	if s.at() != "0 1" || len(k.keys) != 1 {
		t.Errorf("%s, %d", s.at(), len(k.keys))
	}
}
