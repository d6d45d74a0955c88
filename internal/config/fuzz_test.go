package config

import (
	"bytes"
	"errors"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"testing"
	"testing/fstest"

	"github.com/stakeseal/stakeseal/eth"
	"github.com/stakeseal/stakeseal/seal"
)

// FuzzLoadGenerator: nothing panics; every refusal is ErrSettings or a file
// that is not there, and fits a line; what loads is complete, and another
// content of a recipient gives another digest.
func FuzzLoadGenerator(f *testing.F) {
	for _, seed := range seeds(f, "network: hoodi", generatorText) {
		f.Add(seed, []byte("age1x"))
	}
	f.Fuzz(func(t *testing.T, settings, recipient []byte) {
		fsys := fstest.MapFS{GeneratorFile: {Data: settings}}
		for _, name := range []string{"signer-a", "anna", "vault", "b"} {
			fsys["recipients/"+name+".txt"] = &fstest.MapFile{Data: recipient}
			fsys[name+".txt"] = &fstest.MapFile{Data: recipient}
		}
		g, err := LoadGenerator(fsys)
		if err != nil {
			checkRefusal(t, err, g == nil)
			return
		}
		if g.Digest == ([32]byte{}) || g.Network.Name == "" || g.Network.Digest() == (eth.Network{}).Digest() || len(g.Addresses) == 0 ||
			g.MaxPerOrder == 0 || g.MaxPerOrder > maxOrder || g.Certifier.Rest == "" || g.Store.Rest == "" || g.Archive.Rest == "" {
			t.Fatalf("loaded as %+v", g)
		}
		names := map[string]bool{}
		for _, list := range [][]RecipientFile{g.Signing, g.Recovery} {
			if len(list) == 0 || len(list) > seal.MaxRecipients {
				t.Fatalf("%d recipients", len(list))
			}
			for _, r := range list {
				if names[r.Name] || !fs.ValidPath(r.Name) || !bytes.Equal(r.Data, recipient) {
					t.Fatalf("recipient %+v", r)
				}
				names[r.Name] = true
			}
		}
		for name, file := range fsys {
			if name != GeneratorFile {
				file.Data = append(append([]byte{}, recipient...), '\n')
			}
		}
		other, err := LoadGenerator(fsys)
		if len(recipient) < maxFile && (err != nil || other.Digest == g.Digest) {
			t.Fatalf("other recipients, the same digest: %v", err)
		}
	})
}

// FuzzLoadHome: the same, and no secret that a URL could hold is kept.
func FuzzLoadHome(f *testing.F) {
	for _, seed := range seeds(f, "generator: local", homeText) {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, settings []byte) {
		h, err := LoadHome(fstest.MapFS{HomeFile: {Data: settings}})
		if err != nil {
			checkRefusal(t, err, h == nil)
			return
		}
		if h.Generator != "local" {
			t.Fatalf("loaded as %+v", h)
		}
		for _, node := range h.Beacon {
			if u, err := url.Parse(node); err != nil || u.User != nil || u.RawQuery != "" || u.Host == "" {
				t.Fatalf("node %q", node)
			}
		}
		for _, signer := range h.Signers {
			if CheckName("signer", signer) != nil {
				t.Fatalf("signer %q", signer)
			}
		}
	})
}

func checkRefusal(t *testing.T, err error, nothing bool) {
	t.Helper()
	if !errors.Is(err, ErrSettings) && !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("a refusal of no class: %v", err)
	}
	if !nothing || len(err.Error()) > 2000 {
		t.Fatalf("an error of %d bytes, settings nil: %t", len(err.Error()), nothing)
	}
	for _, r := range err.Error() {
		if r < ' ' || r == 0x7f {
			t.Fatalf("an error not fit to print: %q", err)
		}
	}
}

// seeds are the file itself, each edit of the strictness table, and the
// example of the documents.
func seeds(t testing.TB, first, text string) [][]byte {
	t.Helper()
	out := [][]byte{[]byte(text), nil}
	for _, e := range strict(first) {
		if len(e.new) > 10_000 {
			continue
		}
		changed := []byte(e.new)
		if e.old != "*" {
			changed = bytes.Replace([]byte(text), []byte(e.old), changed, 1)
		}
		out = append(out, changed)
	}
	return out
}

// TestSeeds fails when a target starts from nothing, or is not known here.
func TestSeeds(t *testing.T) {
	if n := len(seeds(t, "network: hoodi", generatorText)); n < 30 {
		t.Errorf("only %d seeds", n)
	}
	files, err := filepath.Glob("*_test.go")
	if err != nil {
		t.Fatal(err)
	}
	targets := 0
	for _, file := range files {
		source, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile(`(?m)^func (Fuzz\w+)\((?s:.*?)\n}\n`).FindAllSubmatch(source, -1) {
			targets++
			if !bytes.Contains(m[0], []byte("range seeds(f, ")) || !bytes.Contains(m[0], []byte("f.Add(seed")) {
				t.Errorf("%s has no seeds", m[1])
			}
		}
	}
	if targets != 2 {
		t.Errorf("%d fuzz targets found, not 2", targets)
	}
}
