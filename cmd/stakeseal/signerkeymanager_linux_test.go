package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stakeseal/stakeseal/eth"
	"github.com/stakeseal/stakeseal/eth/bls"
	"github.com/stakeseal/stakeseal/eth/duty"
	"github.com/stakeseal/stakeseal/internal/canary"
	"github.com/stakeseal/stakeseal/signer"
	"github.com/stakeseal/stakeseal/slashing"
)

const managedSettings = `version: 1
clients:
  - {name: vc, token: vc.token}
  - {name: manager, token: manager.token, operations: [KEYMANAGER]}
  - {name: closer, token: closer.token, operations: [VOLUNTARY_EXIT]}
  - {name: narrow, token: narrow.token, operations: [KEYMANAGER_IMPORT, KEYMANAGER_DELETE], keys: ["0x` + "%s" + `"]}
`

// newManagedTest is a home with two signers, the first of which has clients
// that may manage keys.
func newManagedTest(t *testing.T, keys int) *signerTest {
	t.Helper()
	s := newSignerTest(t, keys)
	s.must("signer", "init", "signer-a")
	s.must("signer", "init", "signer-b")
	folder := filepath.Join(s.dir, "h", "signers")
	writeFile(t, filepath.Join(folder, "signer-a.yaml"), fmt.Sprintf(managedSettings, strings.Repeat("b", 96)))
	for _, client := range []string{"vc", "manager", "closer", "narrow"} {
		writeFile(t, filepath.Join(folder, client+".token"), tokenOf(client))
	}
	return s
}

func tokenOf(client string) string { return client + strings.Repeat("-0123456789abcdef", 2) }

// ask sends a request as a client; "" sends no token.
func (p *serving) askAs(client, method, path string, body any) (int, string) {
	p.s.t.Helper()
	var data []byte
	if text, ok := body.(string); ok {
		data = []byte(text)
	} else if body != nil {
		var err error
		if data, err = json.Marshal(body); err != nil {
			p.s.t.Fatal(err)
		}
	}
	r, err := http.NewRequestWithContext(p.s.t.Context(), method, p.url+path, bytes.NewReader(data))
	if err != nil {
		p.s.t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	if client != "" {
		r.Header.Set("Authorization", "Bearer "+tokenOf(client))
	}
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		return 0, err.Error()
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		return 0, err.Error()
	}
	return answer.StatusCode, string(text)
}

func (p *serving) vote(key eth.Pubkey, source, target uint64, root byte) int {
	code, _ := p.askAs("vc", "POST", "/api/v1/eth2/sign/"+key.String(), attestationBody(source, target, root))
	return code
}

// managedAnswer is what the keymanager API answers to a change.
type managedAnswer struct {
	Data     []signer.Outcome
	Slashing string `json:"slashing_protection"`
}

func (a managedAnswer) statuses() (text string) {
	for _, o := range a.Data {
		text += string(o.Status) + " "
	}
	return strings.TrimSpace(text)
}

func (p *serving) change(client, method string, body any) (a managedAnswer) {
	p.s.t.Helper()
	code, text := p.askAs(client, method, "/eth/v1/keystores", body)
	if err := json.Unmarshal([]byte(text), &a); err != nil || code != 200 {
		p.s.t.Fatalf("%s %v: %d %s", method, err, code, text)
	}
	return a
}

// bring imports keys through the API.
func (p *serving) bring(history string, keys ...foreignKey) managedAnswer {
	p.s.t.Helper()
	var files, passwords []string
	for _, k := range keys {
		files, passwords = append(files, string(k.file)), append(passwords, k.password)
	}
	return p.change("manager", "POST", map[string]any{"keystores": files, "passwords": passwords, "slashing_protection": history})
}

func (p *serving) remove(keys ...eth.Pubkey) (managedAnswer, map[eth.Pubkey]slashing.Mark) {
	p.s.t.Helper()
	a := p.change("manager", "DELETE", map[string]any{"pubkeys": keys})
	hoodi, _ := eth.LookupNetwork("hoodi")
	marks, err := slashing.Read(strings.NewReader(a.Slashing), hoodi.GenesisValidatorsRoot)
	if err != nil {
		p.s.t.Fatal(err)
	}
	all := map[eth.Pubkey]slashing.Mark{}
	for _, m := range marks {
		all[m.Pubkey] = m
	}
	return a, all
}

// TestKeymanager: keys come and go while the signer runs, with their history,
// and nothing that conflicts with it is signed, whoever asks, across deletion,
// another import, kill -9 and the same by the other way.
func TestKeymanager(t *testing.T) {
	s := newManagedTest(t, 2)
	hoodi, _ := eth.LookupNetwork("hoodi")
	now, _ := signer.EpochAt(hoodi, time.Now().Unix())
	k := foreignKeys(t, 4)
	a := s.serve("signer-a")

	// One with a history and one without.
	got := a.bring(interchange(t, hoodi, now-1, k[0].pubkey, eth.Pubkey{9}), k[0], k[1])
	if got.statuses() != "imported imported" || got.Data[0].Message != "" || !strings.Contains(got.Data[1].Message, "no slashing_protection") {
		t.Fatalf("%+v\n%s", got, a.words)
	}
	for _, c := range []struct {
		key            eth.Pubkey
		source, target uint64
		want           int
	}{{k[0].pubkey, now - 3, now - 2, 412}, {k[0].pubkey, now - 2, now - 1, 412}, {k[0].pubkey, now - 1, now, 200}, {k[1].pubkey, now - 1, now, 412}, {s.keys[0], now - 1, now, 200}} {
		if code := a.vote(c.key, c.source, c.target, 1); code != c.want {
			t.Errorf("%+v: %d", c, code)
		}
	}
	if code, text := a.askAs("manager", "GET", "/eth/v1/keystores", nil); code != 200 || strings.Count(text, `"readonly":false`) != 4 || !strings.Contains(text, "m/12381/3600/1/0/0") {
		t.Errorf("%d %s", code, text)
	}
	if out := s.must("list", "--signer", "signer-a", "--json"); strings.Count(out, "\n") != 4 || strings.Count(out, `"order":"imported"`) != 2 {
		t.Errorf("list: %s", out)
	}
	// What is here already, and what is not what it says. Nothing that comes
	// with a duplicate changes what is known of it.
	wrong, other, costly := k[2], k[2], k[2]
	wrong.password = "hunter2 hunter2 hunter2"
	other.file = bytes.Replace(k[2].file, []byte(k[2].pubkey.Hex()), []byte(k[3].pubkey.Hex()), 1)
	costly.file = []byte(strings.Replace(string(k[2].file), `"pbkdf2","params":{"dklen":32,"c":262144,"prf":"hmac-sha256"`, `"scrypt","params":{"dklen":32,"n":1073741824,"r":8,"p":1`, 1))
	heavy := k[2]
	heavy.file = bytes.Replace(costly.file, []byte(`"n":1073741824`), []byte(`"n":524288`), 1)
	got = a.bring(interchange(t, hoodi, now+1000, k[0].pubkey), k[0], wrong, other, costly, heavy)
	if got.statuses() != "duplicate error error error error" || !strings.Contains(got.Data[1].Message, "wrong password") || !strings.Contains(got.Data[2].Message, "holds the key of") ||
		!strings.Contains(got.Data[3].Message, "n 1073741824") || !strings.Contains(got.Data[4].Message, "takes more work") {
		t.Errorf("%+v", got)
	}
	if code := a.vote(k[0].pubkey, now, now+1, 1); code != 200 {
		t.Errorf("a duplicate's history ended its duties: %d", code)
	}
	// One that our other signer has.
	s.putKey(k[3])
	s.must("import", "keystores", filepath.Join(s.dir, "keys"), "--assign", "signer-b", "--yes")
	if got = a.bring("", k[3]); got.statuses() != "error" || !strings.Contains(got.Data[0].Message, "signer move --from signer-b --to signer-a") {
		t.Errorf("another signer's: %+v", got)
	}

	// Deleted: it signs nothing more from the answer on, which has all that it signed.
	got, marks := a.remove(k[0].pubkey, s.keys[0], k[3].pubkey, k[2].pubkey)
	if code := a.vote(k[0].pubkey, now, now+1, 1); code != 404 {
		t.Errorf("a deleted key signs: %d", code)
	}
	if got.statuses() != "deleted deleted error not_found" || len(marks) != 2 || marks[k[0].pubkey].Target != now+1 || marks[s.keys[0]].Target != now {
		t.Errorf("%+v %+v", got, marks)
	}
	if out := s.must("list", "--signer", external+"keymanager", "--json"); strings.Count(out, "\n") != 2 || !strings.Contains(out, s.keys[0].String()) {
		t.Errorf("after the deletion: %s", out)
	}
	again, marks2 := a.remove(k[0].pubkey, k[0].pubkey)
	if again.statuses() != "not_active not_active" || len(marks2) != 1 || marks2[k[0].pubkey] != marks[k[0].pubkey] {
		t.Errorf("a second deletion: %+v", again)
	}
	// Back, with what was told, and with less: what this signer knows stays.
	if got = a.bring(interchange(t, hoodi, now-1, k[0].pubkey), k[0]); got.statuses() != "imported" {
		t.Fatalf("back again: %+v", got)
	}
	if code := a.vote(k[0].pubkey, now, now+1, 2); code != 412 {
		t.Errorf("back again, a double vote: %d", code)
	}
	if code := a.vote(k[0].pubkey, now, now+1, 1); code != 412 && code != 200 {
		t.Errorf("back again, the same: %d", code)
	}
	// Killed, it comes back as it was.
	a.end(syscall.SIGKILL)
	a = s.serve("signer-a")
	if keys := a.publicKeysAs("vc"); len(keys) != 3 {
		t.Errorf("after kill -9 it serves %v\n%s", keys, a.words)
	}
	if code := a.vote(k[0].pubkey, now, now+1, 2); code != 412 {
		t.Errorf("after kill -9, a double vote: %d", code)
	}
	// Deleted and brought back without a word of what it did elsewhere: a floor.
	a.remove(k[0].pubkey)
	if got = a.bring("", k[0]); got.statuses() != "imported" || !strings.Contains(got.Data[0].Message, "no slashing_protection") {
		t.Errorf("without a history: %+v", got)
	}
	a.wait(regexp.MustCompile("no duties for a key"))
	// A key that was born here goes to other software from there.
	s.must("keystore", "export", "--signer", "keymanager", "--identity", filepath.Join(s.dir, "ids", "signer-a.identity"), "--for", "teku", "--out", filepath.Join(s.dir, "out"), "--again", "--yes", s.keys[0].String())
	own := s.readKey(filepath.Join(s.dir, "out"), s.keys[0])
	if got = a.bring(interchange(t, hoodi, now, s.keys[0]), own); got.statuses() != "imported" {
		t.Errorf("one that was born here, back again: %+v", got)
	}
	if code := a.vote(s.keys[0], now-1, now, 2); code != 412 {
		t.Errorf("its double vote: %d", code)
	}
	if out := s.must("audit", s.keys[0].String(), "--json"); !strings.Contains(out, "key-managed") {
		t.Errorf("audit: %s", out)
	}

	// Who may not.
	for client, want := range map[string]int{"vc": 403, "closer": 403, "narrow": 200, "": 401} {
		for _, method := range []string{"POST", "DELETE"} {
			code, text := a.askAs(client, method, "/eth/v1/keystores", map[string]any{"keystores": []string{string(k[2].file)}, "passwords": []string{k[2].password}, "pubkeys": []eth.Pubkey{k[1].pubkey}})
			if code != want || client == "narrow" && (strings.Contains(text, "imported") || strings.Contains(text, "deleted")) {
				t.Errorf("%s as %q: %d %s", method, client, code, text)
			}
		}
	}
	if code := a.vote(k[1].pubkey, now-1, now, 1); code != 412 { // still there
		t.Errorf("a key that nobody took away: %d", code)
	}
	if code, _ := a.askAs("closer", "POST", "/eth/v1/validator/"+k[1].pubkey.String()+"/voluntary_exit", nil); code != 501 {
		t.Errorf("an exit without beacon nodes: %d", code)
	}
	if code := a.end(syscall.SIGTERM); code != 0 {
		t.Errorf("exit %d\n%s", code, a.words)
	}
	s.must("doctor")
	var n canary.Needles
	for _, key := range append(k, wrong) {
		n.Add("a key", key.raw)
		n.Add("a password", []byte(key.password))
	}
	if found := n.In([]byte(a.words.String())); len(found) > 0 {
		t.Errorf("the log has %v", found)
	}
	if found, read, err := n.InTree(filepath.Join(s.dir, "h")); err != nil || read == 0 || len(found) > 0 {
		t.Errorf("the home holds %v (%v)", found, err)
	}
}

func (p *serving) publicKeysAs(client string) (keys []eth.Pubkey) {
	_, text := p.askAs(client, "GET", "/api/v1/eth2/publicKeys", nil)
	_ = json.Unmarshal([]byte(text), &keys)
	return keys
}

// putKey writes a keystore and its password.
func (s *signerTest) putKey(k foreignKey) {
	s.t.Helper()
	dir := filepath.Join(s.dir, "keys")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		s.t.Fatal(err)
	}
	writeFile(s.t, filepath.Join(dir, k.pubkey.Hex()+".json"), string(k.file))
	writeFile(s.t, filepath.Join(dir, k.pubkey.Hex()+".txt"), k.password)
}

// readKey reads a keystore that was handed over.
func (s *signerTest) readKey(dir string, pubkey eth.Pubkey) foreignKey {
	s.t.Helper()
	file := theFiles(s.t, filepath.Join(dir, "keys"), "*.json")[0]
	data, err := os.ReadFile(file)
	if err != nil {
		s.t.Fatal(err)
	}
	password, err := os.ReadFile(filepath.Join(dir, "passwords", strings.TrimSuffix(filepath.Base(file), ".json")+".txt"))
	if err != nil {
		s.t.Fatal(err)
	}
	return foreignKey{pubkey: pubkey, file: data, password: string(password)}
}

// TestKeymanagerKilled: kill -9 anywhere in an import. Afterwards each key is
// there once or not at all, the next request ends as an undisturbed one, and no
// key signs below its history in between.
func TestKeymanagerKilled(t *testing.T) {
	s := newManagedTest(t, 1)
	hoodi, _ := eth.LookupNetwork("hoodi")
	now, _ := signer.EpochAt(hoodi, time.Now().Unix())
	k := foreignKeys(t, 6)
	var pubkeys []eth.Pubkey
	for _, key := range k {
		pubkeys = append(pubkeys, key.pubkey)
	}
	history := interchange(t, hoodi, now, pubkeys...)
	body := map[string]any{"keystores": []string{}, "passwords": []string{}, "slashing_protection": history}
	for _, key := range k {
		body["keystores"], body["passwords"] = append(body["keystores"].([]string), string(key.file)), append(body["passwords"].([]string), key.password)
	}
	a := s.serve("signer-a")
	rounds := 4
	for range rounds {
		begun := time.Now()
		done := make(chan bool)
		go func() { a.askAs("manager", "POST", "/eth/v1/keystores", body); close(done) }()
		time.Sleep(rand.N(300 * time.Millisecond))
		a.end(syscall.SIGKILL)
		<-done
		a = s.serve("signer-a")
		for _, key := range k {
			if code := a.vote(key.pubkey, now-1, now, 2); code == 200 {
				t.Fatalf("%v signs what its history forbids, after %v", key.pubkey, time.Since(begun))
			}
		}
	}
	got := a.bring(history, k...)
	for i, o := range got.Data {
		if o.Status != signer.Imported && o.Status != signer.Duplicate {
			t.Errorf("%v: %+v", k[i].pubkey, o)
		}
		if code := a.vote(k[i].pubkey, now-1, now, 2); code != 412 {
			t.Errorf("%v: %d", k[i].pubkey, code)
		}
	}
	if keys := a.publicKeysAs("vc"); len(keys) != 7 {
		t.Errorf("it serves %d", len(keys))
	}
	a.end(syscall.SIGTERM)
	s.must("doctor")
}

// TestKeymanagerExitIndex: an exit for the index that the home's beacon node
// tells, noted in the store.
func TestKeymanagerExitIndex(t *testing.T) {
	s := newManagedTest(t, 1)
	hoodi, _ := eth.LookupNetwork("hoodi")
	canned := &cannedNode{network: hoodi, head: uint64(time.Now().Unix()-hoodi.GenesisTime)/hoodi.SecondsPerSlot - 1, quirks: map[string]bool{},
		validators: []cannedValidator{{}, canned(s.keys[0].String(), eth.Credentials{1}.String(), "active_ongoing", "32000000000")}}
	node := httptest.NewServer(canned)
	defer node.Close()
	home := filepath.Join(s.dir, "h", "home.yaml")
	data, err := os.ReadFile(home)
	if err != nil {
		t.Fatal(err)
	}
	changed := bytes.Replace(data, []byte("beacon: []"), []byte("beacon: [\""+node.URL+"\"]"), 1)
	if err := os.WriteFile(home, changed, 0o600); err != nil || bytes.Equal(changed, data) {
		t.Fatal(err)
	}
	a := s.serve("signer-a")
	code, text := a.askAs("closer", "POST", "/eth/v1/validator/"+s.keys[0].String()+"/voluntary_exit?epoch=9", nil)
	var got struct {
		Data struct {
			Message   struct{ Epoch, Validator_index string }
			Signature eth.Signature
		}
	}
	if err := json.Unmarshal([]byte(text), &got); err != nil || code != 200 || got.Data.Message.Validator_index != "2" {
		t.Fatalf("%d %s %v\n%s", code, text, err, a.words)
	}
	version := hoodi.ExitForkVersion.String()
	r, err := duty.Parse(fmt.Appendf(nil, `{"type":"VOLUNTARY_EXIT","fork_info":{"fork":{"previous_version":%q,"current_version":%q,"epoch":"0"},"genesis_validators_root":"%v"},"voluntary_exit":{"epoch":"9","validator_index":"2"}}`, version, version, hoodi.GenesisValidatorsRoot))
	if err != nil {
		t.Fatal(err)
	}
	root, err := r.SigningRoot(hoodi)
	if err != nil || !bls.Verify(bls.Claim{Pubkey: s.keys[0], Root: root, Signature: got.Data.Signature}) {
		t.Errorf("it does not verify: %v", err)
	}
	if out := s.must("audit", s.keys[0].String(), "--json"); !strings.Contains(out, "exit-signed") || !strings.Contains(out, "closer") {
		t.Errorf("audit: %s", out)
	}
	for _, client := range []string{"manager", "vc"} {
		if code, _ := a.askAs(client, "POST", "/eth/v1/validator/"+s.keys[0].String()+"/voluntary_exit", nil); code != 403 {
			t.Errorf("an exit as %s: %d", client, code)
		}
	}
	a.end(syscall.SIGTERM)
}

// TestKeymanagerTwoSigners: a key that goes from one signer of ours to another
// by way of its keystore keeps what the first one signed, whatever file comes
// with it; and the first tells nobody what is no longer all of its history.
func TestKeymanagerTwoSigners(t *testing.T) {
	s := newManagedTest(t, 1)
	folder := filepath.Join(s.dir, "h", "signers")
	writeFile(t, filepath.Join(folder, "signer-b.yaml"), fmt.Sprintf(managedSettings, strings.Repeat("b", 96)))
	hoodi, _ := eth.LookupNetwork("hoodi")
	now, _ := signer.EpochAt(hoodi, time.Now().Unix())
	k := foreignKeys(t, 2)
	old := interchange(t, hoodi, now-2, k[0].pubkey, k[1].pubkey)
	a, b := s.serve("signer-a"), s.serve("signer-b")
	if got := a.bring(old, k...); got.statuses() != "imported imported" {
		t.Fatalf("%+v", got)
	}
	for _, key := range k {
		if code := a.vote(key.pubkey, now-1, now, 1); code != 200 {
			t.Fatalf("%d", code)
		}
	}
	if got := b.bring(old, k[0]); got.statuses() != "error" {
		t.Errorf("a key that the other signs with: %+v", got)
	}
	if got, marks := a.remove(k[0].pubkey); got.statuses() != "deleted" || marks[k[0].pubkey].Target != now {
		t.Fatalf("%+v", got)
	}
	if got := b.bring(old, k[0]); got.statuses() != "imported" { // with what was known before it was here
		t.Fatalf("%+v", got)
	}
	if code := b.vote(k[0].pubkey, now-1, now, 2); code != 412 {
		t.Errorf("the second signer signs what conflicts with the first's: %d", code)
	}
	if code := b.vote(k[0].pubkey, now, now+1, 2); code != 200 {
		t.Errorf("and nothing after: %d", code)
	}
	if got, marks := a.remove(k[0].pubkey); got.statuses() != "error" || len(marks) != 0 || !strings.Contains(got.Data[0].Message, "signer-b") {
		t.Errorf("the first tells what is no longer all: %+v", got)
	}
	if got, marks := b.remove(k[0].pubkey); got.statuses() != "deleted" || marks[k[0].pubkey].Target != now+1 {
		t.Errorf("%+v", got)
	}
	if got, marks := a.remove(k[0].pubkey); got.statuses() != "error" || len(marks) != 0 {
		t.Errorf("the first tells what is no longer all, after: %+v", got)
	}
	// A key that left a signer of ours without a note: a floor, whatever is told.
	a.end(syscall.SIGKILL)
	s.must("keystore", "export", "--signer", "signer-a", "--identity", filepath.Join(s.dir, "ids", "signer-a.identity"), "--for", "teku", "--out", filepath.Join(s.dir, "out"), "--no-history-known", "--yes", k[1].pubkey.String())
	if got := b.bring("", k[1]); got.statuses() != "error" || !strings.Contains(got.Data[0].Message, "slashing_protection") {
		t.Errorf("from other software, without its history: %+v", got)
	}
	if got := b.bring(old, k[1]); got.statuses() != "imported" {
		t.Fatalf("%+v", got)
	}
	if code := b.vote(k[1].pubkey, now-1, now, 2); code != 412 {
		t.Errorf("it signs what conflicts with a signer that left no note: %d", code)
	}
}

// TestKeymanagerOnAWS: a signer's role there may neither import nor assign, so
// the service has no keymanager, whatever was granted, and answers 501.
func TestKeymanagerOnAWS(t *testing.T) {
	var log bytes.Buffer
	for scheme, want := range map[string]bool{"dynamodb": false, "sqlite": true} {
		s := newSite(t)
		a := &app{}
		h := s.opened(a)
		h.generator.Store.Scheme = scheme
		l := &loader{app: a, home: h, name: "signer-a", log: slog.New(slog.NewTextHandler(&log, nil))}
		service := &signer.Service{}
		err := l.manage(t.Context(), service, &signerSettings{Clients: []clientEntry{{Name: "manager", Operations: []string{"KEYMANAGER"}}}})
		if err != nil || (service.Keymanager != nil) != want {
			t.Errorf("%s: %v, %v", scheme, service.Keymanager, err)
		}
	}
	if !strings.Contains(log.String(), "by their assignments only") {
		t.Errorf("it says %s", &log)
	}
}
