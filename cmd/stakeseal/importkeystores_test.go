//go:build unix

package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stakeseal/stakeseal/eth"
	"github.com/stakeseal/stakeseal/eth/bls"
	"github.com/stakeseal/stakeseal/eth/keystore"
	"github.com/stakeseal/stakeseal/internal/canary"
	"github.com/stakeseal/stakeseal/record/recordfault"
	"github.com/stakeseal/stakeseal/secret"
	"github.com/stakeseal/stakeseal/slashing"
)

// foreignKey is a key that another program made.
type foreignKey struct {
	pubkey   eth.Pubkey
	file     []byte
	password string
	raw      []byte
}

// foreignKeys makes n keys with keystores, each under a password of its own.
func foreignKeys(t testing.TB, n int) (all []foreignKey) {
	t.Helper()
	for i := range n {
		path := fmt.Sprintf("m/12381/3600/%d/0/0", i)
		key, err := bls.FromSeed(secret.Random(64), path)
		if err != nil {
			t.Fatal(err)
		}
		raw := key.Raw()
		password := fmt.Sprintf("correct horse %x", secret.Random(8).Expose())
		made, err := keystore.Encrypt(t.Context(), keystore.PBKDF2, []keystore.Lane{{Secret: raw, Password: secret.Copy([]byte(password)), Pubkey: key.Pubkey(), Path: path}})
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, foreignKey{key.Pubkey(), made[0].JSON, password, bytes.Clone(raw.Expose())})
	}
	return all
}

// put writes a file below the site, with its folders.
func (s *site) put(text string, parts ...string) {
	s.Helper()
	name := s.path(parts...)
	if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
		s.Fatal(err)
	}
	writeFile(s, name, text)
}

func (s *site) importKeystores(code int, args ...string) (outcome, []keystoreJSON) {
	s.Helper()
	o := s.must(code, append([]string{"import", "keystores", "--json", "--yes", "--workers", "2"}, args...)...)
	return o, lines[keystoreJSON](s, o.out)
}

func states(rows []keystoreJSON) (all []string) {
	for _, r := range rows {
		all = append(all, r.State)
	}
	slices.Sort(all)
	return all
}

// TestImportKeystoreLayouts: the folders that clients keep keystores and
// passwords in. Everything else in them is passed over, and nothing of a secret
// is left anywhere.
func TestImportKeystoreLayouts(t *testing.T) {
	s := newSite(t)
	k := foreignKeys(t, 6)
	name := func(i int) string { return fmt.Sprintf("keystore-m_12381_3600_%d_0_0-1700000000", i) }
	// Teku, Web3Signer and keystore export; the deposit CLI's other file beside.
	s.put(string(k[0].file), "teku", "keys", name(0)+".json")
	s.put(k[0].password+"\n", "teku", "passwords", name(0)+".txt")
	s.put("[]", "teku", "deposit_data-1700000000.json")
	s.put(`{"metadata":{"interchange_format_version":"5"},"data":[]}`, "teku", "slashing-protection.json")
	// Lighthouse, Lodestar; Nimbus.
	s.put(string(k[1].file), "lighthouse", "validators", k[1].pubkey.String(), "voting-keystore.json")
	s.put(k[1].password, "lighthouse", "secrets", k[1].pubkey.String())
	s.put(string(k[2].file), "nimbus", "validators", k[2].pubkey.String(), "keystore.json")
	s.put(k[2].password, "nimbus", "secrets", k[2].pubkey.String())
	// A file that does not say whose it is, and one beside its password.
	s.put(strings.Replace(string(k[3].file), `"pubkey":"`+k[3].pubkey.Hex()+`",`, "", 1), "beside", "a.json")
	s.put(k[3].password, "beside", "a.txt")
	// As Kubernetes mounts secrets: links to a hidden folder.
	s.put(string(k[4].file), "mounted", "..2026", "k.json")
	s.put(k[4].password, "mounted", "..2026", "k.txt")
	if err := errors.Join(os.Symlink("..2026", s.path("mounted", "..data")), os.Symlink("..data/k.json", s.path("mounted", "k.json")), os.Symlink("..data/k.txt", s.path("mounted", "k.txt"))); err != nil {
		t.Fatal(err)
	}
	for i, args := range [][]string{
		{s.path("teku"), "--label", "from=teku"},
		{s.path("lighthouse", "validators"), "--passwords", s.path("lighthouse", "secrets")},
		{s.path("nimbus")},
		{s.path("beside"), "--withdrawal-address", "cold", "--compounding"},
		{s.path("mounted"), "--dry-run"},
		{s.path("mounted")},
	} {
		o, rows := s.importKeystores(0, args...)
		want := rowImported
		if i == 4 {
			want = rowReady
		}
		if len(rows) != 1 || rows[0].State != want || rows[0].Pubkey != k[min(i, 4)].pubkey || rows[0].Signer != nil || rows[0].Path == "" {
			t.Errorf("%v: %s%s", args, o.out, o.err)
		}
	}
	if o, rows := s.importKeystores(0, s.path("teku", "keys"), "--passwords", s.path("teku", "passwords")); len(rows) != 1 || rows[0].State != rowThere || strings.Contains(o.err, "still has") {
		t.Errorf("again: %s%s", o.out, o.err)
	}
	// One password for all, and the same key in two files.
	s.put(string(k[5].file), "one", "a.json")
	s.put(string(k[5].file), "one", "below", "b.json")
	s.put(k[5].password, "pw")
	o, rows := s.importKeystores(0, s.path("one"), "--password-file", s.path("pw"))
	if !slices.Equal(states(rows), []string{rowTwin, rowImported}) || !strings.Contains(o.err, "whoever has these files and their passwords still has the keys") {
		t.Errorf("two files: %s%s", o.out, o.err)
	}
	if held := s.tree(); len(held) != 2*6 {
		t.Errorf("%d things are kept: %v", len(held), held)
	}
	if o := s.must(0, "list", "--label", "from=teku", "--json"); strings.Count(o.out, "\n") != 1 || !strings.Contains(o.out, k[0].pubkey.String()) || !strings.Contains(o.out, `"labels":{"from":"teku"}`) {
		t.Errorf("by label: %s%s", o.out, o.err)
	}
	if o := s.must(0, "show", k[3].pubkey.String()); !strings.Contains(o.out, "0x020000000000000000000000") || !strings.Contains(o.out, "no recovery") && !strings.Contains(o.out, foreignWords) {
		t.Errorf("show: %s", o.out)
	}
	if o := s.must(0, "show", k[0].pubkey.String()); !strings.Contains(o.out, "keys/"+name(0)+".json") || !strings.Contains(o.out, "not known") {
		t.Errorf("show: %s", o.out)
	}
	// And they are the keys: handed over, they open.
	s.must(0, "assign", "--to", "signer-a", "--order", "imported")
	s.must(0, "keystore", "export", "--signer", "signer-a", "--identity", s.identity("signer-a"), "--for", "teku", "--out", s.path("out"), "--no-history-known", "--yes")
	for _, key := range k {
		s.secretFree(key)
	}
}

// secretFree searches the home and everything that was said.
func (s *site) secretFree(k foreignKey) {
	s.Helper()
	var n canary.Needles
	n.Add("the key", k.raw)
	n.Add("the password", []byte(k.password))
	for _, said := range s.said {
		if found := n.In(said.text); len(found) > 0 {
			s.Errorf("%s printed %v", said.command, found)
		}
	}
	if found, read, err := n.InTree(s.home); err != nil || read == 0 || len(found) > 0 {
		s.Errorf("the home holds %v (%v)", found, err)
	}
}

// TestImportKeystoresRefused: what is not what it says is left out, and said.
func TestImportKeystoresRefused(t *testing.T) {
	s := newSite(t)
	k := foreignKeys(t, 3)
	text := string(k[0].file)
	var born listed
	s.must(0, "generate", "--order", "born", "--count", "1", "--yes")
	born = lines[listed](t, s.must(0, "list", "--json").out)[0]
	s.must(0, "assign", "--to", "signer-a", "--order", "born")
	s.must(0, "keystore", "export", "--signer", "signer-a", "--identity", s.identity("signer-a"), "--for", "teku", "--out", s.path("own"), "--yes")
	for name, c := range map[string]struct {
		file, password, code string
		exit                 int
		says                 string
	}{
		"wrong password":   {text, "another", "key", exitRefused, "wrong password"},
		"another's pubkey": {strings.Replace(text, k[0].pubkey.Hex(), k[1].pubkey.Hex(), 1), k[0].password, "key", exitRefused, "holds the key of"},
		"no password":      {text, "", "password-missing", exitRefused, "no file holds its password"},
		"two lines":        {text, k[0].password + "\nmore", "unreadable", exitRefused, "more than one line"},
		"cut short":        {text[:200], k[0].password, "keystore", exitRefused, "no JSON"},
		"too costly": {strings.Replace(text, text[strings.Index(text, `"pbkdf2"`):strings.Index(text, `,"message"`)],
			`"scrypt","params":{"dklen":32,"n":1073741824,"r":8,"p":1,"salt":"00"}`, 1), k[0].password, "keystore", exitRefused, "not from 1 to"},
		"too large": {text[:len(text)-1] + `,"x":"` + strings.Repeat("x", maxKeystoreFile) + `"}`, k[0].password, "keystore", exitRefused, ""},
	} {
		dir := strings.ReplaceAll(name, " ", "-")
		s.put(c.file, dir, "keystore.json")
		if c.password != "" {
			s.put(c.password, dir, "keystore.txt")
		}
		o, rows := s.importKeystores(c.exit, s.path(dir))
		if (c.code == "password-missing") != strings.Contains(o.err, "hint: --password-file FILE") {
			t.Errorf("%s: the hint: %s", name, o.err)
		}
		if len(rows) != 1 || rows[0].State != rowRefused || rows[0].Findings[0].Code != c.code || !strings.Contains(rows[0].Findings[0].Says, c.says) || !strings.Contains(o.err, "hint") {
			t.Errorf("%s: %s%s", name, o.out, o.err)
		}
	}
	if o, rows := s.importKeystores(exitConflict, s.path("own")); len(rows) != 1 || rows[0].State != rowConflict || !strings.Contains(o.out, "born here") || rows[0].Pubkey.String() != "0x"+strings.TrimPrefix(born.Pubkey, "0x") {
		t.Errorf("born here: %s%s", o.out, o.err)
	}
	// A link that leads out of the folder is not followed.
	s.put(k[0].password, "links", "k.txt")
	if err := os.Symlink(s.path("wrong-password", "keystore.json"), s.path("links", "k.json")); err != nil {
		t.Fatal(err)
	}
	if o, rows := s.importKeystores(exitRefused, s.path("links")); len(rows) != 1 || rows[0].Findings[0].Code != "unreadable" {
		t.Errorf("a link: %s%s", o.out, o.err)
	}
	// A path that is none is not carried into the sealed text.
	s.put(strings.Replace(string(k[2].file), `"m/12381/3600/2/0/0"`, `"m/0\nsecret: 00"`, 1), "path", "k.json")
	s.put(k[2].password, "path", "k.txt")
	if o, rows := s.importKeystores(0, s.path("path")); len(rows) != 1 || rows[0].State != rowImported || rows[0].Path != "" {
		t.Errorf("a bad path: %s%s", o.out, o.err)
	}
	s.must(0, "assign", "--to", "signer-a", k[2].pubkey.String())
	s.must(0, "keystore", "export", "--signer", "signer-a", "--identity", s.identity("signer-a"), "--for", "teku", "--out", s.path("out"), "--no-history-known", "--yes", k[2].pubkey.String())
	if held := s.tree(); len(held) != 2 {
		t.Errorf("what was refused is kept: %v", held)
	}
	for _, args := range [][]string{
		{s.path("own"), "--passwords", s.path("own"), "--password-file", s.path("pw")}, {s.path("own"), "--slashing-protection", "x"}, {s.path("own"), "--compounding"},
		{s.path("own"), "--withdrawal-address", "0x12"}, {s.path("own"), "--assign", "nobody"}, {s.path("own"), "--label", "x"}, {s.path("tmp")}, {s.path("none")}, {},
		{s.path("own"), "--withdrawal-address", "0x0000000000000000000000000000000000000000"}, {s.path("own"), "--workers", "0"},
	} {
		if o := s.must(exitUsage, append([]string{"import", "keystores", "--yes"}, args...)...); o.out != "" || !strings.Contains(o.err, "hint") {
			t.Errorf("%q: %s%s", args, o.out, o.err)
		}
	}
}

// interchange is an EIP-3076 file of attestations up to a target.
func interchange(t testing.TB, n eth.Network, target uint64, keys ...eth.Pubkey) string {
	t.Helper()
	var marks []slashing.Mark
	for _, k := range keys {
		marks = append(marks, slashing.Mark{Pubkey: k, Attestation: true, Source: target - 1, Target: target, Block: true, Slot: target * 32})
	}
	var b bytes.Buffer
	if err := slashing.Write(&b, n.GenesisValidatorsRoot, marks); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// exported is a stopped signer's history by pubkey.
func (s *site) exported(signer string) map[eth.Pubkey]slashing.Mark {
	s.Helper()
	file := s.path(fmt.Sprintf("history-%d.json", time.Now().UnixNano()))
	s.must(0, "signer", "export", signer, "--out", file)
	f, err := os.Open(file)
	if err != nil {
		s.Fatal(err)
	}
	defer f.Close()
	hoodi, _ := eth.LookupNetwork("hoodi")
	marks, err := slashing.Read(f, hoodi.GenesisValidatorsRoot)
	if err != nil {
		s.Fatal(err)
	}
	all := map[eth.Pubkey]slashing.Mark{}
	for _, m := range marks {
		all[m.Pubkey] = m
	}
	return all
}

// TestImportKeystoresHistory: what was signed before is in the signer's ledger
// before it can sign; a history that is of no use ends the run before anything
// is taken in.
func TestImportKeystoresHistory(t *testing.T) {
	s := newSite(t)
	hoodi, _ := eth.LookupNetwork("hoodi")
	mainnet, _ := eth.LookupNetwork("mainnet")
	k := foreignKeys(t, 3)
	for i, key := range k {
		s.put(string(key.file), "keys", fmt.Sprintf("%d.json", i))
		s.put(key.password, "keys", fmt.Sprintf("%d.txt", i))
	}
	other := eth.Pubkey{9}
	s.put(interchange(t, hoodi, 1000, k[0].pubkey, k[1].pubkey, other), "history.json")
	s.put(interchange(t, mainnet, 1000, k[0].pubkey), "mainnet.json")
	args := []string{s.path("keys"), "--assign", "signer-a", "--slashing-protection", s.path("history.json")}
	s.importKeystores(exitUsage, args...) // the signer has no ledger yet
	s.must(0, "signer", "init", "signer-a")
	s.importKeystores(exitUsage, s.path("keys"), "--assign", "signer-a", "--slashing-protection", s.path("mainnet.json"))
	if held := s.tree(); len(held) != 0 {
		t.Fatalf("it took in %v", held)
	}
	o, rows := s.importKeystores(0, args...)
	told := 0
	for _, r := range rows {
		if r.State != rowImported || r.Signer == nil || *r.Signer != "signer-a" {
			t.Errorf("%+v", r)
		}
		if r.History {
			told++
		}
	}
	if len(rows) != 3 || told != 2 || !strings.Contains(o.err, "3 keys are assigned to signer-a; the history of 2 is in its ledger") || !strings.Contains(o.err, "of 1 nothing is known") {
		t.Errorf("%s%s", o.out, o.err)
	}
	marks := s.exported("signer-a")
	if m := marks[k[0].pubkey]; len(marks) != 2 || m.Target != 1000 || m.Slot != 32000 {
		t.Errorf("the ledger has %+v", marks)
	}
	// Again with an older file: nothing is lowered, nothing is assigned twice.
	s.put(interchange(t, hoodi, 900, k[0].pubkey, k[1].pubkey), "history.json")
	if _, rows := s.importKeystores(0, args...); states(rows)[0] != rowThere {
		t.Errorf("again: %+v", rows)
	}
	if m := s.exported("signer-a")[k[0].pubkey]; m.Target != 1000 {
		t.Errorf("an older file left %+v", m)
	}
	// A key that our other signer has stays there.
	setHomeSigners(t, s.home, "signer-a", "signer-b")
	s.must(0, "signer", "init", "signer-b")
	o, rows = s.importKeystores(exitConflict, s.path("keys"), "--assign", "signer-b")
	if states(rows)[2] != rowConflict || !strings.Contains(o.out, "it is assigned to signer-a and was left there") {
		t.Errorf("assigned elsewhere: %s%s", o.out, o.err)
	}
}

func setHomeSigners(t testing.TB, home string, names ...string) {
	t.Helper()
	file := filepath.Join(home, "home.yaml")
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	changed := bytes.Replace(data, []byte("[signer-a]"), []byte("["+strings.Join(names, ", ")+"]"), 1)
	if bytes.Equal(changed, data) {
		t.Fatalf("%s names other signers", file)
	}
	if err := os.WriteFile(file, changed, 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestImportKeystoresCrash ends the import at every call of the store and the
// archive, carried out or not, and once by kill -9; the next run ends as an
// undisturbed one would.
func TestImportKeystoresCrash(t *testing.T) {
	s := newSite(t)
	for i, key := range foreignKeys(t, 2) {
		s.put(string(key.file), "keys", fmt.Sprintf("%d.json", i))
		s.put(key.password, "keys", fmt.Sprintf("%d.txt", i))
	}
	template := s.path("template")
	if err := os.CopyFS(template, os.DirFS(s.home)); err != nil {
		t.Fatal(err)
	}
	fresh := func() {
		if err := errors.Join(os.RemoveAll(s.home), os.CopyFS(s.home, os.DirFS(template))); err != nil {
			t.Fatal(err)
		}
		private(t, s.home)
	}
	run := func(plan *recordfault.Plan) error {
		a := &app{yes: true, json: true}
		h := s.opened(a)
		store := h.records
		h.records = faulty{store, plan.Imports(store), plan.ImportReader(store), plan.Reader(store), plan.Events(store)}
		h.archive = plan.Archive(h.archive)
		return a.takeKeystores(t.Context(), h, s.path("keys"), keystoresFlags{workers: 1})
	}
	fresh()
	plan := recordfault.New()
	if err := run(plan); err != nil {
		t.Fatal(err)
	}
	points := slices.DeleteFunc(recordfault.Points(plan.Calls()), func(f recordfault.Fault) bool { return f.Down }) // the first error ends it anyway
	if len(points) < 20 {
		t.Fatalf("only %d points in %v", len(points), plan.Calls())
	}
	for _, fault := range points {
		fresh()
		plan := recordfault.New(fault)
		if err := run(plan); err == nil || !errors.Is(err, recordfault.ErrInjected) || !plan.Fired() {
			t.Fatalf("%v: %v", fault, err)
		}
		if err := run(recordfault.New()); err != nil {
			t.Fatalf("%v: the next run: %v", fault, err)
		}
		if held := s.tree(); len(held) != 2*2 {
			t.Fatalf("%v: %d things are kept: %v", fault, len(held), held)
		}
	}
	fresh()
	r := s.start("import", "keystores", "--json", "--yes", "--workers", "1", s.path("keys"))
	for !r.over() && len(s.archived()) == 0 {
		time.Sleep(time.Millisecond)
	}
	_ = r.cmd.Process.Signal(syscall.SIGKILL)
	r.wait()
	s.importKeystores(0, s.path("keys"))
	if held := s.tree(); len(held) != 2*2 {
		t.Fatalf("after kill -9: %v", held)
	}
}

func (s *site) archived() []string {
	found, _ := filepath.Glob(filepath.Join(s.home, "bundles", "_imports", "*.json"))
	return found
}

// TestImportKeystoreVectors: scrypt keystores of the deposit CLI.
func TestImportKeystoreVectors(t *testing.T) {
	if testing.Short() {
		t.Skip("scrypt")
	}
	dir := os.Getenv("STAKESEAL_VECTORS")
	from := filepath.Join(dir, "deposit", "withdrawal_credentials_execution", "hoodi")
	if _, err := os.Stat(from); dir == "" || err != nil {
		t.Skip("public vectors are missing: set STAKESEAL_VECTORS")
	}
	s := newSite(t)
	s.put("anothertesttest", "pw")
	want := theFiles(t, from, "keystore-*.json")
	_, rows := s.importKeystores(0, from, "--password-file", s.path("pw"))
	for _, r := range rows {
		var file struct{ Pubkey, Path string }
		data, err := os.ReadFile(filepath.Join(from, filepath.FromSlash(r.File)))
		if err != nil || json.Unmarshal(data, &file) != nil || r.State != rowImported || r.Pubkey.Hex() != file.Pubkey || r.Path != file.Path {
			t.Errorf("%+v, %v", r, err)
		}
	}
	if len(rows) != len(want) {
		t.Errorf("%d of %d keystores", len(rows), len(want))
	}
}

// TestPipesInFolders: a pipe that somebody put among the files holds nobody up.
func TestPipesInFolders(t *testing.T) {
	s := newSite(t)
	s.put("correct horse", "in", "keystore-1.txt")
	for _, name := range []string{"keystore-1.json", "exit-1.json"} {
		if err := syscall.Mkfifo(s.path("in", name), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if _, rows := s.importKeystores(exitRefused, s.path("in")); len(rows) != 2 || rows[0].State != rowRefused || rows[1].State != rowRefused {
		t.Errorf("%+v", rows)
	}
	a := &app{err: io.Discard}
	if _, err := a.readExits(t.Context(), identityFlags{}, []string{s.path("in")}); verdictOf(err) != exitUsage {
		t.Errorf("exits: %v", err)
	}
}

// TestTekuParts: Teku parts folders at colons and commas.
func TestTekuParts(t *testing.T) {
	for folder, want := range map[string]string{
		"/tmp/it's":  `teku validator-client --network=hoodi --data-path=DATA_PATH --validator-keys='/tmp/it'\''s/keys':'/tmp/it'\''s/passwords'`,
		"/tmp/12:00": `cd '/tmp/12:00' && teku validator-client --network=hoodi --data-path=DATA_PATH --validator-keys=keys:passwords`,
	} {
		if lines := clients["teku"].next(folder, "hoodi"); lines[1] != want {
			t.Errorf("%s", lines[1])
		}
	}
}
