package release

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stakeseal/stakeseal/certificate"
	"github.com/stakeseal/stakeseal/internal/config"
)

// flips are places in a file that reach every region of it: its beginning and
// end byte for byte, where a zip keeps its heads and directory, and steps
// through the middle.
func flips(size int) []int {
	seen := map[int]bool{}
	var out []int
	add := func(i int) {
		if i >= 0 && i < size && !seen[i] {
			seen[i], out = true, append(out, i)
		}
	}
	for i := range 48 {
		add(i)
	}
	for i := range 700 { // the central directory and its end
		add(size - 1 - i)
	}
	for i := range 16 {
		add(size * i / 16)
	}
	return out
}

func flipped(data []byte, at int) []byte {
	out := bytes.Clone(data)
	out[at] ^= 1
	return out
}

// TestPackageHasOneForm: a package with any changed byte does not open at all,
// with no digest to compare: heads, directory, data, statements.
func TestPackageHasOneForm(t *testing.T) {
	p, _ := packages(t)
	if _, err := Open(p.Data); err != nil {
		t.Fatal(err)
	}
	// Opening inflates megabytes: fewer places than the directory has bytes.
	for i, at := range flips(len(p.Data)) {
		if i >= 48 && i%19 != 0 {
			continue
		}
		if _, err := Open(flipped(p.Data, at)); !errors.Is(err, ErrPackage) {
			t.Errorf("byte %d of %d changed: %v", at, len(p.Data), err)
		}
	}
	for name, data := range map[string][]byte{
		"nothing": {}, "cut": p.Data[:len(p.Data)-1], "longer": append(bytes.Clone(p.Data), 0), "in front": append([]byte{0}, p.Data...),
		"comment": append(bytes.Clone(p.Data[:len(p.Data)-2]), 1, 0, 'x'),
	} {
		if _, err := Open(data); !errors.Is(err, ErrPackage) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestPackageAgreesWithItself: a package that is zipped properly and whose
// parts disagree does not open.
func TestPackageAgreesWithItself(t *testing.T) {
	if testing.Short() {
		t.Skip("it reads a package hundreds of times")
	}
	p, other := packages(t)
	if _, err := Open(repacked(t, p, true, func(map[string][]byte) {})); err != nil {
		t.Fatalf("as it was: %v", err)
	}
	replace := func(file, old, new string) func(map[string][]byte) {
		return func(files map[string][]byte) {
			if !bytes.Contains(files[file], []byte(old)) {
				t.Fatalf("%s does not hold %q", file, old)
			}
			files[file] = bytes.Replace(files[file], []byte(old), []byte(new), 1)
		}
	}
	for name, change := range map[string]func(map[string][]byte){
		"another program":   func(f map[string][]byte) { f[Program] = other.Files[Program] },
		"changed program":   func(f map[string][]byte) { f[Program] = flipped(f[Program], len(f[Program])/2) },
		"no program":        func(f map[string][]byte) { delete(f, Program) },
		"no settings":       func(f map[string][]byte) { delete(f, config.GeneratorFile) },
		"no provenance":     func(f map[string][]byte) { delete(f, ProvenanceFile) },
		"no list":           func(f map[string][]byte) { delete(f, SBOMFile) },
		"no recipient":      func(f map[string][]byte) { delete(f, "recipients/anna.txt") },
		"another recipient": func(f map[string][]byte) { f["recipients/vault.txt"] = other.Files["recipients/vault.txt"] },
		"a comment":         replace(config.GeneratorFile, "version: 1", "version: 1 # x"),
		"a file too many":   func(f map[string][]byte) { f["recipients/more.txt"] = f["recipients/anna.txt"] },
		"a library":         func(f map[string][]byte) { f["lib/evil.so"] = []byte("x") },
		"a way out":         func(f map[string][]byte) { f["../evil"] = []byte("x") },
		"another folder": func(f map[string][]byte) {
			for _, name := range sortedKeys(p.settingsFiles()) {
				if base, ok := strings.CutPrefix(name, "recipients/"); ok {
					f["people/"+base] = f[name]
					delete(f, name)
				}
			}
			f[config.GeneratorFile] = bytes.Replace(f[config.GeneratorFile], []byte("recipients: recipients/"), []byte("recipients: people/"), 1)
			g, err := config.LoadGenerator(memory(f))
			must(t, err)
			prov := p.Provenance
			prov.Settings = certificate.Hash(g.Digest)
			f[ProvenanceFile], err = encode(prov)
			must(t, err)
			f[SBOMFile], err = prov.sbom()
			must(t, err)
		},
		"another commit":    replace(ProvenanceFile, p.Provenance.Commit, other.Provenance.Commit),
		"another module":    replace(ProvenanceFile, p.Provenance.Modules[0].Version, "v9.9.9"),
		"another digest":    replace(ProvenanceFile, p.Provenance.Modules[0].Sum[3:20], "AAAAAAAAAAAAAAAAA"),
		"another toolchain": replace(ProvenanceFile, p.Provenance.Toolchain, "go1.26.7"),
		"another platform":  replace(ProvenanceFile, "linux/amd64", "linux/arm64"),
		"other flags":       replace(ProvenanceFile, "-trimpath", "-race"),
		"an environment":    replace(ProvenanceFile, "GODEBUG=", "GODEBUG=x"),
		"a space":           replace(ProvenanceFile, `"commit": `, `"commit":  `),
		"a field twice":     replace(ProvenanceFile, `"commit": `, `"commit": "","commit": `),
		"a list of less":    replace(SBOMFile, "golang.org/x/text", "golang.org/x/test"),
		"other settings":    replace(ProvenanceFile, p.Provenance.Settings.String(), p.Binary.String()),
		// Only a rebuild tells which one was linked in; the list names it too.
		"its C library": replace(ProvenanceFile, p.Provenance.Compiler.Linked["libc.a"], p.Binary.String()),
	} {
		if _, err := Open(repacked(t, p, false, change)); !errors.Is(err, ErrPackage) {
			t.Errorf("%s: %v", name, err)
		}
	}
	// What an honest build of other settings gives is another package.
	evil, err := Open(repacked(t, p, true, func(f map[string][]byte) { f["recipients/vault.txt"] = other.Files["recipients/vault.txt"] }))
	must(t, err)
	if evil.Digest == p.Digest {
		t.Error("two packages with one digest")
	}
}

// TestTamperingBetweenSteps: any byte of anything that lies in the depot,
// changed after any step, is caught at the next.
func TestTamperingBetweenSteps(t *testing.T) {
	if testing.Short() {
		t.Skip("it reads a package hundreds of times")
	}
	p, other := packages(t)
	ctx, trust := t.Context(), testTrust(1)
	load := map[string]func(Depot) error{
		"submitted": func(d Depot) error { return second(LoadSubmitted(ctx, d, trust, p.Digest)) },
		"approved":  func(d Depot) error { return second(LoadReviewed(ctx, d, trust, p.Digest)) },
		"signed":    func(d Depot) error { return second(LoadSigned(ctx, d, trust, p.Digest)) },
	}
	tried := 0
	for step, next := range load {
		d := newDepot(t)
		advance(t, d, trust, p, step)
		must(t, next(d))
		for _, store := range []Store{d.Submissions, d.Reviews} {
			must(t, filepath.WalkDir(store.(Folder).Dir, func(full string, e fs.DirEntry, err error) error {
				// The report is evidence for people; the review names its digest.
				if err != nil || e.IsDir() || strings.HasPrefix(e.Name(), "report-") {
					return err
				}
				data, err := os.ReadFile(full)
				if err != nil {
					return err
				}
				must(t, os.Chmod(full, 0o600))
				for i, at := range flips(len(data)) {
					if i%37 != 0 { // each one inflates and hashes megabytes
						continue
					}
					tried++
					must(t, os.WriteFile(full, flipped(data, at), 0o600))
					if err := next(d); err == nil {
						t.Errorf("%s: byte %d of %s changed, and the next step takes it", step, at, e.Name())
					}
				}
				return os.WriteFile(full, data, 0o600)
			}))
		}
		must(t, next(d))
		// A whole package that is sound, signed by nobody, in the place of this one.
		full := filepath.Join(d.Submissions.(Folder).Dir, p.Digest.String(), "package.zip")
		for what, data := range map[string][]byte{
			"another package": other.Data,
			"a recipient swapped, made anew": repacked(t, p, true, func(f map[string][]byte) {
				f["recipients/vault.txt"] = other.Files["recipients/vault.txt"]
			}),
		} {
			must(t, os.WriteFile(full, data, 0o600))
			if err := next(d); !errors.Is(err, ErrMixed) {
				t.Errorf("%s: %s: %v", step, what, err)
			}
		}
	}
	if tried < 150 {
		t.Errorf("only %d places tried", tried)
	}
}

// TestTamperingAHome: any byte of an installed release, any file too many or
// missing, and the pointer.
func TestTamperingAHome(t *testing.T) {
	if testing.Short() {
		t.Skip("it reads a package hundreds of times")
	}
	p, other := packages(t)
	ctx, trust, d := t.Context(), testTrust(1), newDepot(t)
	advance(t, d, trust, p, "signed")
	s, err := LoadSigned(ctx, d, trust, p.Digest)
	must(t, err)
	home := Home{Dir: t.TempDir(), Trust: trust}
	must(t, home.Install(ctx, s, noon))
	check := func() error { return second(home.InForce(ctx, noon)) }
	must(t, check())
	files := 0
	must(t, filepath.WalkDir(home.folder(p.Digest), func(full string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		files++
		data, err := os.ReadFile(full)
		if err != nil {
			return err
		}
		must(t, os.Chmod(full, 0o600))
		for i, at := range flips(len(data)) {
			if i%83 != 0 { // each one inflates and hashes megabytes
				continue
			}
			must(t, os.WriteFile(full, flipped(data, at), 0o600))
			if check() == nil {
				t.Errorf("byte %d of %s changed, and the release is in force", at, e.Name())
			}
		}
		must(t, os.Remove(full))
		if check() == nil {
			t.Errorf("%s is gone, and the release is in force", e.Name())
		}
		return os.WriteFile(full, data, 0o400)
	}))
	must(t, check())
	if files < 11 {
		t.Errorf("only %d files", files)
	}
	for _, extra := range []string{"recipients/more.txt", "evil.so", "generator.yaml.bak"} {
		full := filepath.Join(home.folder(p.Digest), extra)
		must(t, os.WriteFile(full, []byte("x"), 0o600))
		if err := check(); !errors.Is(err, ErrMixed) {
			t.Errorf("with %s: %v", extra, err)
		}
		must(t, os.Remove(full))
	}
	full := filepath.Join(home.Dir, PointerFile)
	at, err := os.ReadFile(full)
	must(t, err)
	for name, data := range map[string][]byte{
		"empty": {}, "of another package": bytes.ReplaceAll(at, []byte(p.Digest.String()), []byte(other.Digest.String())),
		"with a field": bytes.Replace(at, []byte(`"schema"`), []byte(`"x":1,"schema"`), 1), "spaced": append([]byte(" "), at...),
		"of nothing": bytes.ReplaceAll(at, []byte(p.Digest.String()), []byte(certificate.Hash{}.String())),
		"a way out":  bytes.ReplaceAll(at, []byte(p.Digest.String()), []byte("../../../../etc")),
	} {
		must(t, os.WriteFile(full, data, 0o600))
		if err := check(); err == nil || errors.Is(err, ErrNoRelease) {
			t.Errorf("a pointer %s: %v", name, err)
		}
	}
	must(t, os.WriteFile(full, at, 0o600))
	must(t, check())
}

// TestVerifySigned: what AWS Signer returns must hold the package's files, and
// beside them nothing but a signature.
func TestVerifySigned(t *testing.T) {
	p, other := packages(t)
	for name, c := range map[string]struct {
		change func(map[string][]byte)
		ok     bool
	}{
		"as submitted":   {func(map[string][]byte) {}, true},
		"signed":         {func(f map[string][]byte) { f["META-INF/aws_signer_signature_v1.0.SF"] = []byte("x") }, true},
		"a file more":    {func(f map[string][]byte) { f["lib/x.so"] = []byte("x") }, false},
		"a file less":    {func(f map[string][]byte) { delete(f, "recipients/anna.txt") }, false},
		"other settings": {func(f map[string][]byte) { f["recipients/vault.txt"] = other.Files["recipients/vault.txt"] }, false},
		"other program":  {func(f map[string][]byte) { f[Program] = other.Files[Program] }, false},
		"a way out":      {func(f map[string][]byte) { f["META-INF/../bootstrap"] = []byte("x") }, false},
	} {
		if err := p.VerifySigned(repacked(t, p, false, c.change)); (err == nil) != c.ok || err != nil && !errors.Is(err, ErrMixed) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := p.VerifySigned([]byte("PK")); !errors.Is(err, ErrMixed) {
		t.Errorf("no zip: %v", err)
	}
}
