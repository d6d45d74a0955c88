package config

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/stakeseal/stakeseal/seal"
)

// page is docs/formats/settings.md; its examples stand in fenced blocks after
// "<!-- example NAME -->".
func page(t *testing.T) string {
	t.Helper()
	data, err := os.ReadFile("../../docs/formats/settings.md")
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func block(t *testing.T, name string) string {
	t.Helper()
	_, rest, ok := strings.Cut(page(t), "<!-- example "+name+" -->\n```")
	_, rest, ok2 := strings.Cut(rest, "\n")
	text, _, ok3 := strings.Cut(rest, "```")
	if !ok || !ok2 || !ok3 {
		t.Fatalf("docs/formats/settings.md has no example %s", name)
	}
	return text
}

var exampleFiles = []string{"generator.yaml", "recipients/anna.txt", "recipients/signer-a.txt", "recipients/vault.txt"}

// TestDocs: the page's files load, can be sealed to, and have the digest that
// the page works out.
func TestDocs(t *testing.T) {
	fsys := fstest.MapFS{HomeFile: {Data: []byte(block(t, HomeFile))}}
	frames := ""
	for _, name := range exampleFiles {
		content := block(t, name)
		fsys[name] = &fstest.MapFile{Data: []byte(content)}
		frames += fmt.Sprintf("%016x %016x %s\n", len(name), len(content), name)
	}
	g, err := LoadGenerator(fsys)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := g.SealTo(seal.ParseRecipientFile); err != nil {
		t.Error(err)
	}
	if _, err := LoadHome(fsys); err != nil {
		t.Error(err)
	}
	if got := block(t, "frames"); got != frames {
		t.Errorf("the page's lengths are\n%sand should be\n%s", got, frames)
	}
	if got, want := block(t, "digest"), fmt.Sprintf("%x\n", g.Digest); got != want {
		t.Errorf("the page's digest is %s and should be %s", got, want)
	}
}

// TestDocsProgram: the page's own program, which knows nothing of ours,
// computes the digest.
func TestDocsProgram(t *testing.T) {
	python, err := exec.LookPath("python3")
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skipf("the page's program needs python3: %v", err)
	}
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "recipients"), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, name := range exampleFiles {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(block(t, name)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command(python, "-c", block(t, "digest.py"))
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	if err != nil || string(out) != block(t, "digest") {
		t.Errorf("it prints %s, %v", out, err)
	}
}

// TestDocsNameEveryKey: a key that the program reads stands in the page's
// tables, and the other way round.
func TestDocsNameEveryKey(t *testing.T) {
	keys := []string{"version", "generator", "signers", "beacon"} // home.yaml's
	for i := range reflect.TypeFor[generatorYAML]().NumField() {
		keys = append(keys, reflect.TypeFor[generatorYAML]().Field(i).Tag.Get("yaml"))
	}
	slices.Sort(keys)
	keys = slices.Compact(keys)
	var listed []string
	for line := range strings.Lines(page(t)) {
		if cell, ok := strings.CutPrefix(line, "| `"); ok {
			name, _, _ := strings.Cut(cell, "`")
			listed = append(listed, name)
		}
	}
	slices.Sort(listed)
	if listed = slices.Compact(listed); !slices.Equal(listed, keys) {
		t.Errorf("the page lists %q, the program reads %q", listed, keys)
	}
	if !strings.Contains(page(t), fmt.Sprintf("1 to %d. ", maxOrder)) || !strings.Contains(page(t), fmt.Sprintf("1 to %d names", seal.MaxRecipients)) {
		t.Error("the page states other limits")
	}
}
