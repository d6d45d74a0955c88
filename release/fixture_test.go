package release

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stakeseal/stakeseal/certificate"
	"github.com/stakeseal/stakeseal/eth"
	"github.com/stakeseal/stakeseal/internal/config"
)

// person is somebody with a key.
type person struct {
	name string
	key  ed25519.PrivateKey
}

func (p person) Sign(_ context.Context, data []byte) ([]byte, error) {
	return ed25519.Sign(p.key, data), nil
}
func (p person) KeyID() (string, error) { return p.public().ID(), nil }
func (p person) public() certificate.PublicKey {
	k, err := certificate.NewPublicKey(p.key.Public())
	if err != nil {
		panic(err)
	}
	return k
}

func newPerson(name string) person {
	seed := sha256.Sum256([]byte("release test: " + name))
	return person{name, ed25519.NewKeyFromSeed(seed[:])}
}

var (
	dora      = newPerson("dora")     // a developer
	dave      = newPerson("dave")     // another
	rita      = newPerson("rita")     // a release manager
	mona      = newPerson("mona")     // another
	maker     = newPerson("maker")    // the certifying key
	ada       = newPerson("ada")      // an approver of addresses
	stranger  = newPerson("stranger") // nobody
	everybody = []person{dora, dave, rita, mona, maker, ada, stranger}
)

func trusted(p person) certificate.TrustedKey {
	return certificate.TrustedKey{Name: p.name, Key: p.public()}
}

var noon = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

func testTrust(threshold int) *certificate.Trust {
	network, _ := eth.LookupNetwork("hoodi")
	address, err := eth.ParseAddress(testAddress)
	if err != nil {
		panic(err)
	}
	return &certificate.Trust{Network: network, Addresses: map[string]eth.Address{"acme-cold": address},
		Keys: []certificate.TrustedKey{trusted(maker)}, Developers: []certificate.TrustedKey{trusted(dora), trusted(dave)},
		Managers: []certificate.TrustedKey{trusted(rita), trusted(mona)}, Threshold: threshold,
		Approvers: []certificate.TrustedKey{trusted(ada)}}
}

// small is a repository with a tiny program under the generator's name, with
// two commits: the second changes the program and raises a module.
type small struct {
	repo     Repository
	old, new string
}

const smallMain = `package main

// #include <stdlib.h>
import "C"

import (
	"fmt"

	"golang.org/x/text/unicode/norm"
)

func main() { fmt.Println(norm.NFC.String("REPLACED"), C.abs(-1)) }
`

var smallOnce struct {
	sync.Once
	small
	err string
}

func smallRepo(t testing.TB) small {
	t.Helper()
	smallOnce.Do(func() {
		dir, err := os.MkdirTemp("", "release-test-")
		if err != nil {
			smallOnce.err = err.Error()
			return
		}
		git := func(args ...string) {
			cmd := exec.Command("git", append([]string{"-C", dir, "-c", "user.name=Dora <script>", "-c", "user.email=dora@example.com", "-c", "commit.gpgsign=false"}, args...)...)
			if out, err := cmd.CombinedOutput(); err != nil && smallOnce.err == "" {
				smallOnce.err = "git: " + string(out)
			}
		}
		write := func(name, text string) {
			full := filepath.Join(dir, name)
			err := os.MkdirAll(filepath.Dir(full), 0o755)
			if err == nil {
				err = os.WriteFile(full, []byte(text), 0o644)
			}
			if err != nil && smallOnce.err == "" {
				smallOnce.err = err.Error()
			}
		}
		sums, err := os.ReadFile(filepath.Join("..", "go.sum"))
		if err != nil {
			smallOnce.err = err.Error()
			return
		}
		older, err := os.ReadFile(filepath.Join("..", "tools", "go.sum"))
		if err != nil {
			smallOnce.err = err.Error()
			return
		}
		git("init", "--quiet")
		write("go.sum", string(sums)+textSums(older))
		write("go.mod", "module github.com/stakeseal/stakeseal\n\ngo 1.26.0\n\nrequire golang.org/x/text "+olderText+"\n")
		write("cmd/stakeseal-generator/main.go", smallMain)
		write("docs/readme.md", "# words\n")
		git("add", "-A")
		git("commit", "--quiet", "-m", "first")
		smallOnce.repo = Repository{dir}
		smallOnce.old, err = smallOnce.repo.Resolve(context.Background(), "HEAD")
		if err != nil {
			smallOnce.err = err.Error()
		}
		write("go.mod", "module github.com/stakeseal/stakeseal\n\ngo 1.26.0\n\nrequire golang.org/x/text v0.43.0\n")
		write("cmd/stakeseal-generator/main.go", string(bytes.ReplaceAll([]byte(smallMain), []byte("REPLACED"), []byte("changed"))))
		write("cmd/stakeseal-generator/hidden.go", "package main\n\n// harmless \u202e} if true {\n")
		write("docs/readme.md", "# other words, <b>bold</b>\n")
		git("add", "-A")
		git("commit", "--quiet", "-m", "raise text & <i>change</i> the program")
		if smallOnce.new, err = smallOnce.repo.Resolve(context.Background(), "HEAD"); err != nil {
			smallOnce.err = err.Error()
		}
	})
	if smallOnce.err != "" {
		missing(t, smallOnce.err)
	}
	return smallOnce.small
}

const olderText = "v0.41.0"

// textSums are the lines of x/text's older version.
func textSums(file []byte) string {
	var out []byte
	for line := range bytes.Lines(file) {
		if bytes.HasPrefix(line, []byte("golang.org/x/text "+olderText)) {
			out = append(out, line...)
		}
	}
	return string(out)
}

// pair are packages of the two commits, with settings that differ in one
// recipient's key, built once.
var pair struct {
	sync.Once
	old, new *Package
	err      error
}

func packages(t testing.TB) (old, new *Package) {
	t.Helper()
	needCompiler(t, "amd64")
	s := smallRepo(t)
	dir := testSettings(t)
	pair.Do(func() {
		build := func(commit string) *Package {
			p, err := Build(context.Background(), Recipe{Repository: s.repo, Commit: commit, Settings: os.DirFS(dir), Arch: "amd64"})
			if err != nil && pair.err == nil {
				pair.err = err
			}
			return p
		}
		pair.old = build(s.old)
		swapped, err := os.ReadFile(filepath.Join(dir, "recipients", "stranger.txt"))
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, "recipients", "vault.txt"), swapped, 0o600)
		}
		if err != nil {
			pair.err = err
		}
		pair.new = build(s.new)
	})
	must(t, pair.err)
	return pair.old, pair.new
}

// repacked is a package with other files, honest about itself where honest is
// set: the provenance and the list are made anew, as a build would.
func repacked(t testing.TB, p *Package, honest bool, change func(files map[string][]byte)) []byte {
	t.Helper()
	files := map[string][]byte{}
	for name, data := range p.Files {
		files[name] = bytes.Clone(data)
	}
	change(files)
	if honest {
		g, err := config.LoadGenerator(memory(files))
		must(t, err)
		prov := p.Provenance
		prov.Binary, prov.Settings = sha256.Sum256(files[Program]), certificate.Hash(g.Digest)
		files[ProvenanceFile], err = encode(prov)
		must(t, err)
		files[SBOMFile], err = prov.sbom()
		must(t, err)
	}
	data, err := writeZip(files)
	must(t, err)
	return data
}

func newDepot(t testing.TB) Depot {
	dir := t.TempDir()
	d := Depot{Folder{filepath.Join(dir, "submitted")}, Folder{filepath.Join(dir, "statements")}}
	for _, s := range []Store{d.Submissions, d.Reviews} {
		must(t, os.Mkdir(s.(Folder).Dir, 0o755))
	}
	return d
}

// reportOn is a report on a submitted package whose rebuild was equal, and that
// was compared with nothing.
func reportOn(t testing.TB, s *Submitted) []byte { return reportAfter(t, s, certificate.Hash{}) }

// reportAfter is a report that compares with a package.
func reportAfter(t testing.TB, s *Submitted, base certificate.Hash) []byte {
	t.Helper()
	r := &Report{Schema: ReportSchema, Time: noon, Package: s.Package.Digest, Submission: s.Digest, Commit: s.Submission.Commit,
		Binary: s.Submission.Binary, SettingsDigest: s.Submission.Settings, Attention: []Finding{}, Rebuild: Rebuild{Verdict: Equal}}
	if !base.IsZero() {
		r.Base = &Base{Package: base}
	}
	data, err := r.Encode()
	must(t, err)
	return data
}

// lastSigned is the package that advance signed last in a depot: the next one
// follows it.
var lastSigned sync.Map

// advance takes a package to a step: submitted, approved, signed. It follows the
// one that was signed before in the same depot.
func advance(t testing.TB, d Depot, trust *certificate.Trust, p *Package, to string) {
	t.Helper()
	ctx := context.Background()
	must(t, Submit(ctx, d, trust, dora, p, "a change", noon))
	if to == "submitted" {
		return
	}
	s, err := LoadSubmitted(ctx, d, trust, p.Digest)
	must(t, err)
	var base certificate.Hash
	if last, ok := lastSigned.Load(d.Submissions); ok && last != p.Digest {
		base = last.(certificate.Hash)
	}
	for _, k := range []person{rita, mona}[:max(1, trust.Threshold)] {
		must(t, Decide(ctx, d, trust, k, s, reportAfter(t, s, base), true, "looks right", noon))
	}
	if to == "approved" {
		return
	}
	r, err := LoadReviewed(ctx, d, trust, p.Digest)
	must(t, err)
	for _, k := range []person{rita, mona}[:max(1, trust.Threshold)] {
		must(t, Sign(ctx, d, k, r, Terms{Name: "v-" + p.Digest.String()[:8]}, noon))
	}
	lastSigned.Store(d.Submissions, p.Digest)
}
