package signer_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/stakeseal/stakeseal/eth"
	"github.com/stakeseal/stakeseal/eth/bls"
	"github.com/stakeseal/stakeseal/eth/duty"
	"github.com/stakeseal/stakeseal/signer"
	"github.com/stakeseal/stakeseal/slashing"
)

// manager is a keymanager that remembers what it was asked.
type manager struct {
	mu        sync.Mutex
	client    string
	keystores []string
	passwords []string
	held      []signer.Foreign // as they were handed over
	told      map[eth.Pubkey]slashing.Mark
	deleted   []eth.Pubkey
	wait      chan bool // nil: it does not
}

func (m *manager) Import(_ context.Context, c *signer.Client, keys []signer.Foreign, told map[eth.Pubkey]slashing.Mark) []signer.Outcome {
	if m.wait != nil {
		m.wait <- true
		<-m.wait
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.client, m.told, m.held = c.Name, told, keys
	m.keystores, m.passwords = nil, nil
	var all []signer.Outcome
	for _, k := range keys {
		m.keystores, m.passwords = append(m.keystores, string(k.Keystore)), append(m.passwords, string(k.Password.Expose()))
		all = append(all, signer.Outcome{Status: signer.Imported})
	}
	return all
}

func (m *manager) Delete(_ context.Context, c *signer.Client, pubkeys []eth.Pubkey) ([]signer.Outcome, []slashing.Mark) {
	m.client, m.deleted = c.Name, pubkeys
	var all []signer.Outcome
	var marks []slashing.Mark
	for _, p := range pubkeys {
		all = append(all, signer.Outcome{Status: signer.Deleted})
		marks = append(marks, slashing.Mark{Pubkey: p, Attestation: true, Source: 1, Target: 2})
	}
	return all, marks
}

// exits knows an index, or why not.
type exits struct {
	err   error
	noted []string
	fault error
}

func (x *exits) Index(context.Context, eth.Pubkey) (uint64, error) { return 77, x.err }
func (x *exits) Signed(_ context.Context, c *signer.Client, p eth.Pubkey, epoch, index uint64) error {
	x.noted = append(x.noted, fmt.Sprintf("%s %v %d %d", c.Name, p, epoch, index))
	return x.fault
}

func token(name string) string { return name + strings.Repeat("-0123456789", 4) }

// newManaged is a bench with a client for each thing that may be granted.
func newManaged(t *testing.T) (*bench, *manager, *exits) {
	t.Helper()
	b := newBench(t, 2, nil)
	for _, c := range []*signer.Client{
		{Name: "all", Rights: signer.Rights(), Operations: []duty.Kind{duty.VoluntaryExit}},
		{Name: "list", Rights: []signer.Right{signer.ListKeys}},
		{Name: "import", Rights: []signer.Right{signer.ImportKeys}},
		{Name: "delete", Rights: []signer.Right{signer.DeleteKeys}},
		{Name: "exit", Operations: []duty.Kind{duty.VoluntaryExit}},
		{Name: "duties", Operations: signer.Duties()},
		{Name: "first", Rights: signer.Rights(), Operations: []duty.Kind{duty.VoluntaryExit}, Keys: map[eth.Pubkey]bool{b.keys[0]: true}},
	} {
		if err := b.clients.Token([]byte(token(c.Name)), c); err != nil {
			t.Fatal(err)
		}
	}
	m, x := &manager{}, &exits{}
	b.service.Keymanager, b.service.Exits = m, x
	return b, m, x
}

func (b *bench) as(t *testing.T, client, method, path string, body any, more ...string) answer {
	t.Helper()
	return b.do(t, method, path, body, append([]string{"Authorization", "Bearer " + token(client)}, more...)...)
}

const (
	keystoresPath = "/eth/v1/keystores"
	exitPath      = "/eth/v1/validator/%v/voluntary_exit"
)

// TestKeymanagerGrants: each thing is for those that were granted it; never for
// who only signs, whoever is not known, or everybody on this machine; never for
// a page in a browser, whatever certificate or token comes with it.
func TestKeymanagerGrants(t *testing.T) {
	b, m, x := newManaged(t)
	// Whoever makes everybody a manager makes nobody one.
	b.clients.Anyone(&signer.Client{Name: "anyone", Operations: append(signer.Duties(), duty.VoluntaryExit), Rights: signer.Rights()})
	requests := []struct {
		right, method, path string
		body                any
	}{
		{"list", "GET", keystoresPath, nil},
		{"import", "POST", keystoresPath, map[string]any{"keystores": []string{"{}"}, "passwords": []string{"x"}}},
		{"delete", "DELETE", keystoresPath, map[string]any{"pubkeys": []string{b.keys[0].String()}}},
		{"exit", "POST", fmt.Sprintf(exitPath, b.keys[0]), nil},
	}
	for _, r := range requests {
		for _, client := range []string{"all", "list", "import", "delete", "exit", "duties"} {
			want := 403
			if client == "all" || client == r.right {
				want = 200
			}
			a := b.as(t, client, r.method, r.path, r.body)
			if a.status != want || want == 403 && !strings.Contains(a.body, `"code":403`) {
				t.Errorf("%s as %s: %d %s", r.right, client, a.status, a.body)
			}
		}
		m.client, x.noted = "", nil
		if a := b.do(t, r.method, r.path, r.body); a.status != 401 || !strings.Contains(a.body, `"code":401`) || a.header.Get("WWW-Authenticate") != "Bearer" {
			t.Errorf("%s as nobody: %+v", r.right, a)
		}
		if a := b.do(t, r.method, r.path, r.body, "Authorization", "Bearer "+token("stranger")); a.status != 403 || !strings.Contains(a.body, "not known") {
			t.Errorf("%s as a stranger: %+v", r.right, a)
		}
		for _, origin := range []string{"https://evil.example", "null", "http://localhost:9000"} {
			if a := b.as(t, "all", r.method, r.path, r.body, "Origin", origin); a.status != 403 || !strings.Contains(a.body, "browser") {
				t.Errorf("%s from a page of %s: %+v", r.right, origin, a)
			}
		}
		if a := b.as(t, "all", r.method, r.path, r.body, "Host", "evil.example"); a.status != 403 {
			t.Errorf("%s under another name: %d", r.right, a.status)
		}
		if m.client != "" || x.noted != nil {
			t.Errorf("%s: it was done for %q, %v", r.right, m.client, x.noted)
		}
	}
	// A page cannot send JSON to another place without asking first, and a form not at all.
	for _, media := range []string{"text/plain", "application/x-www-form-urlencoded", ""} {
		if a := b.as(t, "all", "POST", keystoresPath, `{"keystores":[],"passwords":[]}`, "Content-Type", media); a.status != 415 {
			t.Errorf("as %q: %+v", media, a)
		}
	}
	// The rights are no part of signing.
	if a := b.sign(t, b.keys[0], attestation(epochNow-1, epochNow, 1), "Authorization", "Bearer "+token("all")); a.status != 403 {
		t.Errorf("a keymanager signs: %+v", a)
	}
}

func TestKeymanagerImport(t *testing.T) {
	b, m, _ := newManaged(t)
	var file bytes.Buffer
	if err := slashing.Write(&file, hoodi.GenesisValidatorsRoot, []slashing.Mark{{Pubkey: eth.Pubkey{5}, Block: true, Slot: 9}}); err != nil {
		t.Fatal(err)
	}
	odd := "a\"b\\c,]\u00e9 🔑\n"
	a := b.as(t, "import", "POST", keystoresPath, map[string]any{"keystores": []string{"{1}", "{2}"}, "passwords": []string{odd, ""}, "slashing_protection": file.String()})
	if a.status != 200 || strings.TrimSpace(a.body) != `{"data":[{"status":"imported"},{"status":"imported"}]}` {
		t.Errorf("%+v", a)
	}
	if m.client != "import" || !slices.Equal(m.keystores, []string{"{1}", "{2}"}) || !slices.Equal(m.passwords, []string{odd, ""}) || m.told[eth.Pubkey{5}].Slot != 9 || len(m.told) != 1 {
		t.Errorf("asked for %+v", m)
	}
	for _, k := range m.held {
		if bytes.Trim(k.Password.Expose(), "\x00") != nil {
			t.Error("a password was not wiped")
		}
	}
	for name, c := range map[string]struct {
		body   any
		status int
		says   string
	}{
		"no JSON":               {"hello", 400, "not as the keymanager API"},
		"a list":                {"[]", 400, "not as the keymanager API"},
		"no passwords":          {`{"keystores":["{}"]}`, 400, "1 keystores and 0 passwords"},
		"a password too many":   {`{"keystores":["{}"],"passwords":["a","b"]}`, 400, "1 keystores and 2 passwords"},
		"passwords twice":       {`{"keystores":["{}"],"passwords":["a"],"passwords":["b"]}`, 400, "1 keystores and 2 passwords"},
		"a number":              {`{"keystores":["{}"],"passwords":[1]}`, 400, "not as"},
		"an object":             {`{"keystores":["{}"],"passwords":{"a":"b"}}`, 400, "not as"},
		"null":                  {`{"keystores":["{}"],"passwords":[null]}`, 400, "not as"},
		"nested":                {`{"keystores":["{}"],"passwords":[["a"]]}`, 400, "not as"},
		"too many":              {map[string]any{"keystores": make([]string, 257), "passwords": make([]string, 257)}, 400, "not as"},
		"nothing":               {`{}`, 200, `{"data":[]}`},
		"null as history":       {`{"keystores":["{}"],"passwords":["hunter2"],"slashing_protection":null}`, 200, "imported"},
		"no history at all":     {`{"keystores":["{}"],"passwords":["hunter2"],"slashing_protection":""}`, 200, "imported"},
		"a broken history":      {`{"keystores":["{}"],"passwords":["hunter2"],"slashing_protection":"{}"}`, 200, `"status":"error","message":"slashing_protection: `},
		"another network's":     {map[string]any{"keystores": []string{"{}"}, "passwords": []string{"hunter2"}, "slashing_protection": strings.Replace(file.String(), "0x212f", "0x212e", 1)}, 200, "genesis validators root"},
		"broken off":            {`{"keystores":["{}"],"passwords":["hunter2`, 400, "not as"},
		"a lone surrogate":      {`{"keystores":["{}"],"passwords":["\ud800"]}`, 200, "imported"},
		"spaces":                {"{ \"keystores\" : [ \"{}\" ] ,\n \"passwords\" : [ \"a\" ] }", 200, "imported"},
		"fields of other times": {`{"keystores":["{}"],"passwords":["a"],"more":{"a":[1,2]}}`, 200, "imported"},
	} {
		a := b.as(t, "import", "POST", keystoresPath, c.body)
		if a.status != c.status || !strings.Contains(a.body, c.says) || strings.Contains(a.body, "hunter2") {
			t.Errorf("%s: %d %s", name, a.status, a.body)
		}
	}
	if strings.Contains(b.log.String(), "hunter2") {
		t.Error("the log has a password")
	}
	if a := b.as(t, "import", "POST", keystoresPath, strings.Repeat(" ", 17<<20)); a.status != 413 {
		t.Errorf("too large: %d", a.status)
	}
	// One at a time; the second is told to come back, and signing goes on.
	m.wait = make(chan bool)
	body := map[string]any{"keystores": []string{"{}"}, "passwords": []string{"x"}}
	first := make(chan answer)
	go func() { first <- b.as(t, "import", "POST", keystoresPath, body) }()
	<-m.wait
	if a := b.as(t, "all", "POST", keystoresPath, body); a.status != 503 || a.header.Get("Retry-After") == "" {
		t.Errorf("a second one: %+v", a)
	}
	if a := b.as(t, "delete", "DELETE", keystoresPath, map[string]any{"pubkeys": []string{}}); a.status != 503 {
		t.Errorf("a deletion meanwhile: %+v", a)
	}
	if a := b.sign(t, b.keys[0], attestation(epochNow-1, epochNow, 1), "Authorization", "Bearer "+token("duties")); a.status != 200 {
		t.Errorf("signing meanwhile: %+v", a)
	}
	m.wait <- true
	if a := <-first; a.status != 200 {
		t.Errorf("the first: %+v", a)
	}
	// Without the lease nothing is changed; where keys follow assignments only, it says so.
	b.stop(signer.ErrStopped)
	if a := b.as(t, "import", "POST", keystoresPath, body); a.status != 503 {
		t.Errorf("without the lease: %+v", a)
	}
	b.stop(nil)
	b.service.Keymanager = nil
	if a := b.as(t, "import", "POST", keystoresPath, body); a.status != 501 || !strings.Contains(a.body, "stakeseal assign") {
		t.Errorf("without a keymanager: %+v", a)
	}
}

func TestKeymanagerListAndDelete(t *testing.T) {
	b, m, _ := newManaged(t)
	if a := b.as(t, "list", "GET", keystoresPath, nil); strings.Count(a.body, `"readonly":false`) != 2 {
		t.Errorf("%+v", a)
	}
	if a := b.as(t, "first", "GET", keystoresPath, nil); strings.Count(a.body, "validating_pubkey") != 1 || !strings.Contains(a.body, b.keys[0].String()) {
		t.Errorf("of one key: %+v", a)
	}
	a := b.as(t, "delete", "DELETE", keystoresPath, map[string]any{"pubkeys": []string{b.keys[1].String(), b.keys[0].Hex()}})
	var got struct {
		Data     []signer.Outcome
		Slashing string `json:"slashing_protection"`
	}
	if err := json.Unmarshal([]byte(a.body), &got); err != nil || a.status != 200 || len(got.Data) != 2 || got.Data[0].Status != signer.Deleted {
		t.Fatalf("%+v, %v", a, err)
	}
	marks, err := slashing.Read(strings.NewReader(got.Slashing), hoodi.GenesisValidatorsRoot)
	if err != nil || len(marks) != 2 || marks[0].Target != 2 || !slices.Equal(m.deleted, []eth.Pubkey{b.keys[1], b.keys[0]}) {
		t.Errorf("%s: %+v %v", got.Slashing, marks, err)
	}
	many := make([]eth.Pubkey, signer.MaxDeleted+1)
	for name, body := range map[string]any{"no pubkey": `{"pubkeys":["0x12"]}`, "no list": `{"pubkeys":"all"}`, "no JSON": `x`, "too many": map[string]any{"pubkeys": many}} {
		if a := b.as(t, "delete", "DELETE", keystoresPath, body); a.status != 400 || !strings.Contains(a.body, `"code":400`) {
			t.Errorf("%s: %d %.200s", name, a.status, a.body)
		}
	}
	if a := b.as(t, "delete", "DELETE", keystoresPath, `{}`); a.status != 200 || !strings.Contains(a.body, `"data":[]`) || !strings.Contains(a.body, "interchange_format_version") {
		t.Errorf("nothing: %+v", a)
	}
	b.service.Keymanager = nil
	if a := b.as(t, "list", "GET", keystoresPath, nil); strings.Count(a.body, `"readonly":true`) != 2 {
		t.Errorf("%+v", a)
	}
}

// TestKeymanagerExit: the exit is the key's, for the chain's index, under
// Capella's fork version, noted before it leaves.
func TestKeymanagerExit(t *testing.T) {
	b, _, x := newManaged(t)
	path := fmt.Sprintf(exitPath, b.keys[0])
	for query, epoch := range map[string]uint64{"": epochNow, "?epoch=12": 12, "?confirm=yes&epoch=13": 13} {
		a := b.as(t, "exit", "POST", path+query, nil)
		var got struct {
			Data struct {
				Message struct {
					Epoch string
					Index string `json:"validator_index"`
				}
				Signature eth.Signature
			}
		}
		if err := json.Unmarshal([]byte(a.body), &got); err != nil || a.status != 200 || got.Data.Message.Epoch != fmt.Sprint(epoch) || got.Data.Message.Index != "77" {
			t.Fatalf("%+v, %v", a, err)
		}
		root, err := request(t, map[string]any{"type": "VOLUNTARY_EXIT", "fork_info": forkInfo(), "voluntary_exit": map[string]any{"epoch": fmt.Sprint(epoch), "validator_index": "77"}}).SigningRoot(hoodi)
		if err != nil || !bls.Verify(bls.Claim{Pubkey: b.keys[0], Root: root, Signature: got.Data.Signature}) {
			t.Errorf("it does not verify: %+v, %v", a, err)
		}
		if want := fmt.Sprintf("exit %v %d 77", b.keys[0], epoch); x.noted[len(x.noted)-1] != want {
			t.Errorf("noted is %q", x.noted)
		}
	}
	for name, c := range map[string]struct {
		client, path string
		status       int
	}{
		"no pubkey":   {"exit", fmt.Sprintf(exitPath, "0x12"), 400},
		"no epoch":    {"exit", path + "?epoch=-1", 400},
		"no such key": {"exit", fmt.Sprintf(exitPath, eth.Pubkey{4}), 404},
		"another's":   {"first", fmt.Sprintf(exitPath, b.keys[1]), 404},
	} {
		if a := b.as(t, c.client, "POST", c.path, nil); a.status != c.status {
			t.Errorf("%s: %+v", name, a)
		}
	}
	x.err = errors.New("the nodes at http://user:secret@10.0.0.1 disagree")
	if a := b.as(t, "exit", "POST", path, nil); a.status != 500 || strings.Contains(a.body, "10.0.0.1") {
		t.Errorf("no index: %+v", a)
	}
	x.err, x.fault = nil, errors.New("the disk is full")
	if a := b.as(t, "exit", "POST", path, nil); a.status != http.StatusInternalServerError || strings.Contains(a.body, "signature") {
		t.Errorf("an exit that could not be noted left: %+v", a)
	}
	b.service.Exits = nil
	if a := b.as(t, "exit", "POST", path, nil); a.status != 501 {
		t.Errorf("without nodes: %+v", a)
	}
}
