//go:build unix

package main

import (
	"bytes"
	"context"
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stakeseal/stakeseal/eth/bls"
	"github.com/stakeseal/stakeseal/internal/canary"
	"github.com/stakeseal/stakeseal/internal/identity"
	"github.com/stakeseal/stakeseal/internal/sqlite"
	"github.com/stakeseal/stakeseal/keygen/mnemonic"
	"github.com/stakeseal/stakeseal/record"
	"github.com/stakeseal/stakeseal/seal"
	"github.com/stakeseal/stakeseal/secret"
	"github.com/stakeseal/stakeseal/unseal"
)

// Secrets that a person gives to a command. No command says them again.
const (
	givenWords    = "legal winner thank year wave sausage worth useful legal winner thank yellow"
	givenPassword = "a battery of horses"
	// A person's mistakes: a word that is none, a sum that is wrong.
	givenTypo     = "legal winner thank year wave sausages worth useful legal winner thank yellow"
	givenChecksum = "legal winner thank year wave sausage worth useful legal winner thank legal"
)

// TestNoSecretInTheClear tells a whole story with the real programs, failures
// included, opens every secret of it, and searches everything that was
// printed and written (G3).
func TestNoSecretInTheClear(t *testing.T) {
	s := newSite(t)
	// A reader that stays keeps the log of the database in place: it holds
	// every page that was ever written.
	held, err := sqlite.Open(filepath.Join(s.home, "records.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer held.Close()
	story := &story{site: s, other: s.path("other")}
	story.given()
	story.tell()

	needles := story.needles(held)
	// What was made to hold secrets, or given.
	excluded := []string{"identities", "other-identities", "given", "handed", "restored", "derived"}
	found, read := story.search(needles, excluded)
	if len(found) > 0 {
		t.Fatalf("secrets in the clear:\n%s", strings.Join(found, "\n"))
	}
	wal, err := os.Stat(filepath.Join(s.home, "records.db-wal"))
	if err != nil || wal.Size() == 0 {
		t.Fatalf("the log of the database was not there to be searched: %v", err)
	}
	t.Logf("%d forms of secrets, none in %d bytes of %d runs and their files", needles.Len(), read, len(s.said))
	story.control(needles, held, excluded)
}

type story struct {
	*site
	other string // a second home
	order []string
}

func (s *story) given() {
	if err := os.Mkdir(s.path("given"), 0o700); err != nil {
		s.Fatal(err)
	}
	for name, text := range map[string]string{"words": givenWords, "typo": givenTypo, "checksum": givenChecksum, "password": givenPassword + "\n"} {
		if err := os.WriteFile(s.path("given", name), []byte(text), 0o600); err != nil {
			s.Fatal(err)
		}
	}
}

func (s *story) tell() {
	s.must(0, "generate", "--order", "plain", "--count", "3", "--keystore", "none", "--yes", "--json")
	s.must(0, "generate", "--order", "usual", "--count", "3", "--plan", "1,31", "--assign", "signer-a", "--yes")
	s.order = []string{"plain", "usual", "cut"}
	if !testing.Short() {
		s.must(0, "generate", "--order", "slow", "--count", "2", "--keystore", "scrypt", "--workers", "1", "--yes")
		s.order = append(s.order, "slow")
	}
	run := s.start("generate", "--order", "cut", "--count", "12", "--keystore", "none", "--workers", "1", "--yes")
	run.archived("cut", 5)
	run.kill(both)
	s.must(0, "generate", "--resume", "cut")

	recovery, signer := s.identity("recovery-a"), s.identity("signer-a")
	s.must(0, "recovery", "drill", "--identity", recovery, "--identity", s.identity("recovery-b"))
	s.must(exitDenied, "recovery", "drill", "--identity", signer)
	s.must(exitUsage, "recovery", "drill", "--identity", s.path("given", "words"))
	s.must(exitUsage, "recovery", "drill", "--identity", filepath.Join(s.home, "certifier.key"))

	s.must(0, "deposit", "export", "--order", "usual", "--out", s.path("deposits"))
	deposits, err := filepath.Glob(s.path("deposits", "*"))
	if err != nil || len(deposits) != 2 {
		s.Fatalf("deposit files: %q (%v)", deposits, err)
	}
	s.must(0, append([]string{"deposit", "verify", "--network", "hoodi", "--withdrawal-address", testAddress}, deposits...)...)
	s.must(0, "certificate", "export", "--order", "usual", "--out", s.path("certificates"))

	s.bundles(recovery)
	pubkey := s.owners("usual")[0]
	s.must(0, "doctor")
	s.must(0, "show", pubkey)
	s.must(0, "show", pubkey, "--json")
	s.must(0, "orders", "--json")
	s.must(0, "list", "--json")
	s.must(0, "config", "show", "--json")
	s.handing(pubkey, recovery, signer)
	s.mistakes(recovery)
}

// bundles carries the orders into a second home, where one is then tampered
// with: the drill fails with secrets open.
func (s *story) bundles(recovery string) {
	s.must(0, "init", "--home", s.other, "--network", "hoodi", "--withdrawal-address", testAddress)
	trust, err := os.ReadFile(filepath.Join(s.home, trustFile))
	if err != nil {
		s.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(s.other, trustFile), trust, 0o600); err != nil {
		s.Fatal(err)
	}
	for _, order := range s.order {
		bundle := s.path(order + ".bundle")
		s.must(0, "bundle", "export", "--order", order, "--out", bundle)
		s.must(0, "recovery", "drill", "--bundle", bundle, "--trust", filepath.Join(s.home, trustFile), "--identity", recovery)
		s.must(0, "bundle", "import", "--home", s.other, bundle)
	}
	object := filepath.Join(s.other, "bundles", "usual", "00000002.json")
	data, err := os.ReadFile(object)
	if err != nil {
		s.Fatal(err)
	}
	data[len(data)/2] ^= 1
	if err := replaceFile(object, data); err != nil {
		s.Fatal(err)
	}
	s.must(exitRefused, "recovery", "drill", "--home", s.other, "--order", "usual", "--identity", recovery)
	s.must(exitRefused, "doctor", "--home", s.other)
	s.must(exitRefused, "recovery", "restore", "--home", s.other, "--order", "usual", "--identity", recovery,
		"--password-file", s.path("given", "password"), "--kdf", "pbkdf2", "--out", s.path("never"), "--yes")
}

// replaceFile replaces a file that is read-only.
func replaceFile(path string, data []byte) error {
	if err := os.Remove(path); err != nil {
		return err
	}
	return os.WriteFile(path, data, 0o400)
}

// handing opens signing keys and mnemonics for other software, with the wrong
// identity first.
func (s *story) handing(pubkey, recovery, signer string) {
	export := []string{"keystore", "export", "--signer", "signer-a", "--for", "lighthouse", "--yes"}
	s.must(exitDenied, append(export, "--identity", recovery, "--out", s.path("never"))...)
	s.must(0, append(export, "--identity", signer, "--out", s.path("handed"))...)
	s.must(exitConflict, "assign", "--to", "signer-a", pubkey)
	restore := []string{"recovery", "restore", "--order", "usual", "--kdf", "pbkdf2", "--password-file", s.path("given", "password"), "--yes"}
	s.must(exitDenied, append(restore, "--identity", signer, "--out", s.path("never"))...)
	s.must(0, append(restore, "--identity", recovery, "--out", s.path("restored"))...)
	s.must(exitUsage, append(restore, "--identity", recovery, "--show-secret")...)
	if _, err := os.Stat(s.path("never")); err == nil {
		s.Error("a refused export left its folder")
	}
}

// mistakes are errors of all kinds, with secrets at hand.
func (s *story) mistakes(recovery string) {
	derive := []string{"derive", "--network", "hoodi", "--count", "2", "--withdrawal-address", testAddress, "--kdf", "pbkdf2",
		"--password-file", s.path("given", "password"), "--out", s.path("derived"), "--mnemonic-file"}
	for name, hidden := range map[string][]string{"typo": {"sausage", "legal"}, "checksum": {"sausage", "legal"}, "password": {"battery"}} {
		o := s.must(exitUsage, append(derive, s.path("given", name))...)
		for _, word := range hidden {
			if strings.Contains(o.out+o.err, word) {
				s.Errorf("derive echoes %q:\n%s", word, o.err)
			}
		}
	}
	s.must(0, append(derive, s.path("given", "words"))...)
	s.must(exitConflict, append(derive, s.path("given", "words"))...)
	s.must(exitUsage, "init", "--home", s.path("no"), "--network", "hoodi", "--withdrawal-address", testAddress, "--recovery", "anna="+recovery)
	s.must(exitUsage, "init", "--home", s.path("no"), "--network", "hoodi", "--withdrawal-address", testAddress, "--signing", "anna="+filepath.Join(s.home, "certifier.key"))
	s.must(exitUsage, "generate", "--resume", "nosuch")
	s.must(exitUsage, "generate", "--count", "many")
	s.must(exitConflict, "generate", "--order", "usual", "--count", "4", "--yes")
	s.must(exitUsage, "bundle", "verify", recovery)
	s.must(exitUsage, "certificate", "verify", recovery)
	s.must(exitUsage, "deposit", "verify", recovery, "--network", "hoodi", "--any-withdrawal-address")
	s.must(exitUsage, "list", "@"+recovery)
	s.must(exitUsage, "nosuch")
}

// needles opens all that the home holds, with the identities, and what was
// given, and returns every form of it.
func (s *story) needles(store *sqlite.Store) *canary.Needles {
	ctx := context.Background()
	var n canary.Needles
	keys := 0
	for _, order := range s.order {
		for m, err := range store.Mnemonics(ctx, order) {
			if err != nil {
				s.Fatal(err)
			}
			opened, err := s.opener("recovery-b").Mnemonic(ctx, m.Sealing.File, seal.RecoveryBinding("hoodi", order, m.ID))
			if err != nil {
				s.Fatal(err)
			}
			addWords(s, &n, "mnemonic "+m.ID, string(opened.Words.Expose()))
		}
		for v, err := range store.Validators(ctx, record.Query{Order: order}) {
			if err != nil {
				s.Fatal(err)
			}
			b, err := store.Birth(ctx, v.Pubkey)
			if err != nil {
				s.Fatal(err)
			}
			opened, err := s.opener("signer-a").Key(ctx, b.Sealing.File, seal.SigningBinding("hoodi", order, b.Index, b.Pubkey))
			if err != nil {
				s.Fatal(err)
			}
			name := fmt.Sprintf("%s/%d", order, b.Index)
			n.Add("key of "+name, opened.Key.Raw().Expose())
			if order != "plain" && order != "cut" {
				password := opened.Password.Expose()
				raw, err := hex.DecodeString(string(password))
				if err != nil {
					s.Fatal(err)
				}
				n.Add("password of "+name, password)
				n.Add("bytes of the password of "+name, raw)
			}
			keys++
		}
	}
	if want := 3 + 3 + 12; keys != want && keys != want+2 {
		s.Fatalf("%d keys opened, want %d", keys, want)
	}
	addWords(s, &n, "the words given", givenWords)
	n.Add("the password given", []byte(givenPassword))
	for _, name := range []string{"recovery-a", "recovery-b", "signer-a"} {
		data, err := os.ReadFile(s.identity(name))
		if err != nil {
			s.Fatal(err)
		}
		_, text, ok := bytes.Cut(data, []byte("AGE-SECRET-KEY-PQ-1"))
		if !ok {
			s.Fatalf("identity %s holds no key", name)
		}
		n.Add("identity "+name, bytes.TrimSpace(text))
	}
	return &n
}

// addWords adds a mnemonic whole and every four words in a row of it, in
// several spellings, its seed, and the keys above the signing keys.
func addWords(t testing.TB, n *canary.Needles, name, text string) {
	t.Helper()
	n.Add(name, []byte(text))
	words := strings.Fields(text)
	for i := range len(words) - 3 {
		for _, between := range []string{" ", "\n", ",", ", ", `","`, `", "`} {
			n.Add(fmt.Sprintf("words %d to %d of %s, joined by %q", i+1, i+4, name, between), []byte(strings.Join(words[i:i+4], between)))
		}
	}
	phrase, err := mnemonic.Parse(secret.Copy([]byte(text)), mnemonic.English)
	if err != nil {
		t.Fatal(err)
	}
	seed := phrase.Seed(nil)
	n.Add("seed of "+name, seed.Expose())
	for _, path := range []string{"m/12381", "m/12381/3600", "m/12381/3600/0", "m/12381/3600/0/0"} {
		key, err := bls.FromSeed(seed, path)
		if err != nil {
			t.Fatal(err)
		}
		n.Add(path+" of "+name, key.Raw().Expose())
	}
}

func (s *story) opener(name string) *unseal.Opener {
	ids, err := identity.Load(s.identity(name), nil)
	if err != nil {
		s.Fatal(err)
	}
	return unseal.NewOpener(ids...)
}

// search searches all that was printed, and every file of the site but those
// below the excluded folders. The certifying keys are in their files only.
func (s *story) search(n *canary.Needles, excluded []string) (found []string, read int64) {
	for _, run := range s.said {
		read += int64(len(run.text))
		for _, name := range n.In(run.text) {
			found = append(found, fmt.Sprintf("stakeseal %s prints %s", run.command, name))
		}
	}
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		s.Fatal(err)
	}
	for _, e := range entries {
		if slices.Contains(excluded, e.Name()) {
			continue
		}
		in, bytes, err := n.InTree(s.path(e.Name()))
		if err != nil {
			s.Fatal(err)
		}
		found, read = append(found, in...), read+bytes
	}
	return found, read
}

// control shows that the search finds what it looks for: in the plaintext
// that age opens, in what was handed out, in a file of the home, on a
// program's output, in every form.
func (s *story) control(n *canary.Needles, store *sqlite.Store, excluded []string) {
	for _, form := range n.Forms() {
		if len(n.In(append(append([]byte("before "), form...), " after"...))) == 0 {
			s.Errorf("a form of %d bytes is not found", len(form))
		}
	}
	ctx := context.Background()
	for m, err := range store.Mnemonics(ctx, "usual") {
		if err != nil {
			s.Fatal(err)
		}
		s.wants(n, s.age("recovery-a", m.Sealing.File), "mnemonic "+m.ID+" raw", "words 21 to 24 of mnemonic "+m.ID)
	}
	for v, err := range store.Validators(ctx, record.Query{Order: "usual"}) {
		if err != nil {
			s.Fatal(err)
		}
		b, err := store.Birth(ctx, v.Pubkey)
		if err != nil {
			s.Fatal(err)
		}
		name := fmt.Sprintf("usual/%d", b.Index)
		s.wants(n, s.age("signer-a", b.Sealing.File), "key of "+name+" hex", "password of "+name+" raw")
	}
	in, _, err := n.InTree(s.path("handed"))
	if err != nil || len(in) < 3 {
		s.Errorf("the passwords that were handed out are not found: %q (%v)", in, err)
	}
	planted := filepath.Join(s.home, "bundles", "usual", "planted")
	if err := os.WriteFile(planted, n.Forms()[0], 0o600); err != nil {
		s.Fatal(err)
	}
	s.hear([]string{"planted"}, outcome{err: "stakeseal: error: " + givenWords})
	found, _ := s.search(n, excluded)
	all := strings.Join(found, "\n")
	if !strings.Contains(all, planted) || !strings.Contains(all, "stakeseal planted prints the words given raw") {
		s.Errorf("what was planted is not found: %q", found)
	}
}

// age opens a sealed file with the real age program.
func (s *story) age(name string, sealed []byte) []byte {
	cmd := exec.Command(filepath.Join(programs, "age"), "-d", "-i", s.identity(name))
	cmd.Stdin = bytes.NewReader(sealed)
	opened, err := cmd.Output()
	if err != nil {
		s.Fatalf("age can't open it: %v", err)
	}
	return opened
}

func (s *story) wants(n *canary.Needles, data []byte, names ...string) {
	s.Helper()
	found := strings.Join(n.In(data), "\n")
	for _, name := range names {
		if !strings.Contains(found, name) {
			s.Errorf("%s is not found in its own plaintext, only %q", name, found)
		}
	}
}
