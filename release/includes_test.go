package release

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestIncludesAreFollowed: what C and assembly reads beside the files that go
// list names, by any name and in any folder.
func TestIncludesAreFollowed(t *testing.T) {
	root := t.TempDir()
	for name, text := range map[string]string{
		"bind/main.go":      "package bind\n\n// #cgo CFLAGS: -O2 -I${SRCDIR}/../lib -I ../more\n// #include \"part.inc\"\n// #include <stdlib.h>\nimport \"C\"\n",
		"bind/part.inc":     "#include \"../src/all.c\"\n",
		"bind/asm.S":        "#include \"textflag.h\"\n.incbin \"table.bin\"\n",
		"bind/table.bin":    "x",
		"bind/go.h":         "",
		"src/all.c":         "#  include \"field.h\"\n/* #include \"comment.h\" */\n#include \\\n  <deep/extra.h>\n%:include \"digraph\"\n#include NAME(x)\n#include \"missing.h\"\n",
		"src/digraph":       "#include \"all.c\"\n", // a circle
		"src/comment.h":     "",
		"lib/field.h":       "#embed \"blob\"\n",
		"lib/blob":          "\x00",
		"more/deep/extra.h": "",
		"src/unused.c":      "",
	} {
		full := filepath.Join(root, filepath.FromSlash(name))
		must(t, os.MkdirAll(filepath.Dir(full), 0o700))
		must(t, os.WriteFile(full, []byte(text), 0o600))
	}
	in := newInputs()
	l := listed{CgoFiles: []string{"main.go"}, SFiles: []string{"asm.S"}, HFiles: []string{"go.h"}}
	must(t, in.include("example.com/m@v1", root, "bind", l))
	if len(in.included) != 1 {
		t.Fatalf("%+v", in.included)
	}
	want := []string{"bind/part.inc", "bind/table.bin", "lib/blob", "lib/field.h", "more/deep/extra.h", "src/all.c", "src/comment.h", "src/digraph"}
	if got := in.included[0]; !slices.Equal(got.Files, want) || !slices.Equal(got.Unknown, []string{"NAME(x)", "missing.h"}) {
		t.Errorf("%q, unknown %q", got.Files, got.Unknown)
	}
	// In this repository they are inputs like those that go names.
	must(t, in.include("", root, "bind", l))
	if !in.has("src/digraph") || in.has("src/unused.c") {
		t.Error("an included file is no input, or another is one")
	}
	// A link, or a name that leads out of the module, is followed nowhere.
	must(t, os.WriteFile(filepath.Join(root, "bind", "part.inc"), []byte("#include \"../../outside.h\"\n"), 0o600))
	must(t, os.WriteFile(filepath.Join(filepath.Dir(root), "outside.h"), nil, 0o600))
	in = newInputs()
	must(t, in.include("example.com/m@v1", root, "bind", listed{CgoFiles: []string{"main.go"}}))
	if got := in.included[0]; !slices.Equal(got.Files, []string{"bind/part.inc"}) || !slices.Equal(got.Unknown, []string{"../../outside.h"}) {
		t.Errorf("outside: %+v", got)
	}
}

// TestIncludedByModules: the generator's own C, of blst, lies in files that go
// list does not name.
func TestIncludedByModules(t *testing.T) {
	needCompiler(t, "amd64")
	repo, commit := head(t)
	p := onePackage(t)
	in := newInputs()
	_, err := repo.addInputs(t.Context(), p.Provenance, in, true)
	must(t, err)
	at := slices.IndexFunc(in.included, func(i Included) bool { return strings.HasPrefix(i.Module, "github.com/supranational/blst@") })
	if at < 0 {
		t.Fatalf("of commit %s: %+v", commit, in.included)
	}
	for _, name := range []string{"src/keygen.c", "src/sha256.h", "build/elf/mulx_mont_384-x86_64.s"} {
		if !slices.Contains(in.included[at].Files, name) || !in.modules["github.com/supranational/blst"][name] {
			t.Errorf("%s is not among %d files", name, len(in.included[at].Files))
		}
	}
}

// TestMissingIsNotNothing: a comparison that could not be made never reads as
// one that found nothing.
func TestMissingIsNotNothing(t *testing.T) {
	old, new := packages(t)
	base := *old
	base.Provenance.Commit = strings.Repeat("1", 40) // not in the reviewer's repository
	base.Provenance.Modules = slices.Clone(base.Provenance.Modules)
	base.Provenance.Modules[0].Sum = "h1:" + strings.Repeat("A", 43) + "="
	base.Provenance.Compiler.Linked = map[string]string{"libc.a": strings.Repeat("0", 64)}
	r := &Report{Attention: []Finding{}, Base: &Base{}}
	in := Inspection{Repository: smallRepo(t).repo, Base: &base}
	must(t, r.modules(t.Context(), new, in))
	must(t, r.history(t.Context(), new, in))
	r.SettingsMissing = "they do not read"
	var text bytes.Buffer
	must(t, r.Text(&text))
	page, err := r.HTML()
	must(t, err)
	for what, out := range map[string]string{"text": text.String(), "page": string(page)} {
		for _, never := range []string{"No source file differs", "No setting changed", "0 files differ", "COMMITS: 0", "Commits (0)", "None."} {
			if strings.Contains(out, never) {
				t.Errorf("the %s says %q, and nothing was compared", what, never)
			}
		}
		if !strings.Contains(strings.ToUpper(out), "NOT COMPARED") || !strings.Contains(strings.ToUpper(out), "NOT SHOWN") || !strings.Contains(out, "they do not read") {
			t.Errorf("the %s does not say that something is missing:\n%s", what, out)
		}
	}
	dangers := ""
	for _, f := range r.Attention {
		dangers += f.Weight + ": " + f.Text + "\n"
	}
	for _, want := range []string{"danger: The source cannot be compared", "danger: What changed in module golang.org/x/text is not shown", "look: libc.a, which is linked into the program, changed"} {
		if !strings.Contains(dangers, want) {
			t.Errorf("no finding %q in\n%s", want, dangers)
		}
	}
}
