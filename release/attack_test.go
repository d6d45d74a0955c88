package release

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stakeseal/stakeseal/certificate"
)

// attacked is a repository of one's own with a commit before and one after,
// and what a report says of the change, without a build.
type attacked struct {
	t    *testing.T
	repo Repository
	base string
}

func (a *attacked) git(args ...string) string {
	a.t.Helper()
	cmd := exec.Command("git", append([]string{"-C", a.repo.Dir, "-c", "user.name=M", "-c", "user.email=m@example.com", "-c", "commit.gpgsign=false"}, args...)...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		a.t.Fatalf("git %v: %v: %s", args, err, out)
	}
	return strings.TrimSpace(string(out))
}

func (a *attacked) write(name, text string) {
	a.t.Helper()
	full := filepath.Join(a.repo.Dir, filepath.FromSlash(name))
	must(a.t, os.MkdirAll(filepath.Dir(full), 0o755))
	must(a.t, os.WriteFile(full, []byte(text), 0o644))
}

func (a *attacked) commit(words string) string {
	a.t.Helper()
	a.git("add", "-A")
	a.git("commit", "--quiet", "-m", words)
	return a.git("rev-parse", "HEAD")
}

// attack is a repository with a generator of two packages, one of which holds
// a list of words, and one that is not part of it.
func attack(t *testing.T) *attacked {
	t.Helper()
	if _, err := exec.LookPath("git"); err != nil {
		missing(t, "git is not installed")
	}
	a := &attacked{t: t, repo: Repository{t.TempDir()}}
	a.git("init", "--quiet")
	a.write("go.mod", "module "+modulePath+"\n\ngo 1.26.0\n")
	a.write("cmd/stakeseal-generator/main.go", "package main\n\nimport \""+modulePath+"/words\"\n\n// $Id$\nfunc main() { print(words.List) }\n")
	a.write("words/words.go", "package words\n\nimport _ \"embed\"\n\n//go:embed lists/english.txt\nvar List string\n")
	a.write("words/lists/english.txt", "abandon\n")
	a.write("other/other.go", "package other\n")
	a.base = a.commit("first")
	return a
}

// TestExportObeysNoAttributes: what the compiler reads is what the report
// shows, whatever a commit tells git to make of its files.
func TestExportObeysNoAttributes(t *testing.T) {
	const name = "cmd/stakeseal-generator/main.go"
	for _, attribute := range []string{"working-tree-encoding=UTF-7", "working-tree-encoding=UTF-16LE", "text eol=crlf", "ident", "crlf=input eol=crlf", "filter=other"} {
		for _, file := range []string{".gitattributes", "cmd/stakeseal-generator/.gitattributes"} {
			a := attack(t)
			rule := "*.go " + attribute + "\n"
			if file == ".gitattributes" {
				rule = "[attr]calm " + attribute + "\n*.go calm\n"
			}
			a.write(file, rule)
			a.git("add", file) // and no other file: their blobs stay
			a.git("commit", "--quiet", "-m", "attributes")
			dir := filepath.Join(t.TempDir(), "out")
			must(t, os.Mkdir(dir, 0o700))
			must(t, a.repo.Export(t.Context(), a.git("rev-parse", "HEAD"), dir))
			got, err := os.ReadFile(filepath.Join(dir, name))
			must(t, err)
			want, err := exec.Command("git", "-C", a.repo.Dir, "cat-file", "blob", "HEAD:"+name).Output()
			must(t, err)
			if string(got) != string(want) {
				t.Errorf("%s in %s: the compiler reads %q, the commit has %q", attribute, file, got, want)
			}
		}
	}
}

// TestExportComparesBytes: should git write other bytes all the same, they are
// refused.
func TestExportComparesBytes(t *testing.T) {
	for what, change := range map[string]func(dir string) error{
		"other bytes":  func(dir string) error { return os.WriteFile(filepath.Join(dir, "go.mod"), []byte("module x\n"), 0o600) },
		"a file gone":  func(dir string) error { return os.Remove(filepath.Join(dir, "go.mod")) },
		"another file": func(dir string) error { return os.WriteFile(filepath.Join(dir, "words", "x.go"), nil, 0o600) },
		"a link": func(dir string) error {
			full := filepath.Join(dir, "go.mod")
			if err := os.Rename(full, filepath.Join(t.TempDir(), "go.mod")); err != nil {
				return err
			}
			return os.Symlink("words/words.go", full)
		},
	} {
		a, dir := attack(t), t.TempDir()
		must(t, a.repo.Export(t.Context(), a.base, dir))
		must(t, change(dir))
		if err := (Repository{dir}).checkedOut(t.Context(), a.base); err == nil {
			t.Errorf("%s: accepted", what)
		}
	}
}

// report is what is said of the change from the first commit to HEAD, for a
// processor.
func (a *attacked) report(arch string) *Report {
	a.t.Helper()
	env, err := goEnvironment(a.t.Context(), ".")
	must(a.t, err)
	of := func(commit string) *Package {
		return &Package{Provenance: Provenance{Commit: commit, Platform: "linux/" + arch, Toolchain: env["GOVERSION"]}}
	}
	r := &Report{}
	must(a.t, r.source(a.t.Context(), a.repo, of(a.base), of(a.git("rev-parse", "HEAD"))))
	r.order()
	return r
}

func says(r *Report, weight, what string) bool {
	for _, f := range r.Attention {
		if f.Weight == weight && strings.Contains(f.Text, what) {
			return true
		}
	}
	return false
}

const nothingChanged = "No file of this repository that the generator is made of changed."

// TestAttacksOnTheSource: every way to change the program is named with the
// weight that it has, and none is called no change.
func TestAttacksOnTheSource(t *testing.T) {
	const dir = "cmd/stakeseal-generator/"
	cgo := func(preamble string) string {
		return "package main\n\n/*\n" + preamble + "\n*/\nimport \"C\"\n\nvar _ C.int\n"
	}
	long := strings.Repeat("// a line of a long file\n", 12000)
	for name, c := range map[string]struct {
		change func(a *attacked)
		weight string
		what   string
		arch   string
	}{
		"attributes":           {func(a *attacked) { a.write("other/.gitattributes", "*.go text\n") }, Danger, "other/.gitattributes changed", ""},
		"an embedded file":     {func(a *attacked) { a.write("words/lists/english.txt", "zoo\n") }, Look, "1 files in words/lists", ""},
		"another processor":    {func(a *attacked) { a.write("words/x_arm64.go", "package words\n\nfunc init() {}\n") }, Look, "of 1 files in words.", "arm64"},
		"a build tag":          {func(a *attacked) { a.write("words/x.go", "//go:build netgo\n\npackage words\n") }, Look, "of 1 files in words.", ""},
		"go.mod":               {func(a *attacked) { a.write("go.mod", "module "+modulePath+"\n\ngo 1.26.0\n\ngodebug x509sha1=1\n") }, Look, "Code of the generator changed", ""},
		"a package that left":  {func(a *attacked) { a.write(dir+"main.go", "package main\n\nfunc main() {}\n") }, Look, "Package words is no longer part", ""},
		"a package that came":  {func(a *attacked) { a.write("words/o.go", "package words\n\nimport _ \""+modulePath+"/other\"\n") }, Look, "Package other is new in the generator", ""},
		"compiled code":        {func(a *attacked) { a.write(dir+"x.syso", "\x7fELF\x00") }, Danger, "x.syso is compiled code", ""},
		"compiled code hidden": {func(a *attacked) { a.write(dir+"x.syso", "\x7fELF\x00") }, Danger, "x.syso is not shown", ""},
		"an assembler's file":  {func(a *attacked) { a.write(dir+"x.s", "// nothing\n") }, Look, "1 files in cmd/stakeseal-generator", ""},
		"an include outside":   {func(a *attacked) { a.write(dir+"c.go", cgo("#include \"../../other/x.h\"")) }, Danger, "c.go includes what is not a plain file", ""},
		"an include in parts":  {func(a *attacked) { a.write(dir+"c.go", cgo("#inc\\\nlude \"../../other/x.h\"")) }, Danger, "c.go includes what is not a plain file", ""},
		"an include by a name": {func(a *attacked) { a.write(dir+"c.go", cgo("#define X <stdlib.h>\n#include X")) }, Danger, "c.go includes what is not a plain file", ""},
		"an incbin":            {func(a *attacked) { a.write(dir+"c.go", cgo("__asm__(\".incbin \\\"x\\\"\");")) }, Danger, "c.go includes what is not a plain file", ""},
		"a folder of headers":  {func(a *attacked) { a.write(dir+"c.go", cgo("#cgo CFLAGS: -I${SRCDIR}/../../other")) }, Danger, "c.go gives the C compiler", ""},
		"a header":             {func(a *attacked) { a.write(dir+"c.go", cgo("#include \"x.inc\"")); a.write(dir+"x.inc", "\n") }, Look, "2 files in cmd/stakeseal-generator", ""},
		"a link": {func(a *attacked) {
			must(t, os.Symlink("../other/other.go", filepath.Join(a.repo.Dir, "words", "x.txt")))
		}, Danger, "words/x.txt is no file but a symbolic link", ""},
		"a file made a link": {func(a *attacked) {
			must(t, os.Remove(filepath.Join(a.repo.Dir, "other", "other.go")))
			must(t, os.Symlink("../words/words.go", filepath.Join(a.repo.Dir, "other", "other.go")))
		}, Danger, "other/other.go turned from file to symbolic link", ""},
		"another repository": {func(a *attacked) { a.git("update-index", "--add", "--cacheinfo", modeModule+","+a.base+",words/sub") }, Danger, "words/sub is no file but another repository", ""},
		"a mode":             {func(a *attacked) { must(t, os.Chmod(filepath.Join(a.repo.Dir, "words", "words.go"), 0o755)) }, Look, "words/words.go turned from file to executable file", ""},
		"a long file":        {func(a *attacked) { a.write("words/long.go", "package words\n\n"+long) }, Danger, "words/long.go is not shown: too long", ""},
		"a long other file":  {func(a *attacked) { a.write("other/long.go", "package other\n\n"+long) }, Look, "other/long.go is not shown: too long", ""},
		"no text":            {func(a *attacked) { a.write("words/lists/english.txt", "a\x00b") }, Danger, "english.txt is not shown: not text", ""},
		"letters":            {func(a *attacked) { a.write("words/x.go", "package words\n\nvar \u0430 = 1\n") }, Look, "words/x.go has 1 added lines with letters", ""},
	} {
		t.Run(name, func(t *testing.T) {
			a := attack(t)
			a.t = t
			c.change(a)
			if name != "another repository" {
				a.git("add", "-A")
			}
			a.git("commit", "--quiet", "-m", name)
			arch := c.arch
			if arch == "" {
				arch = "amd64"
			}
			r := a.report(arch)
			if !says(r, c.weight, c.what) {
				t.Errorf("no %s %q in %+v", c.weight, c.what, r.Attention)
			}
			harmless := strings.HasPrefix(c.what, "other/")
			if says(r, Note, nothingChanged) && !harmless {
				t.Error("it is called no change of the generator")
			}
			if name != "another repository" && !harmless && len(r.Source) > 0 && !r.Source[0].InGenerator {
				t.Errorf("the generator is not first: %+v", r.Source)
			}
			page, err := (&Report{Source: r.Source}).HTML()
			must(t, err)
			if strings.Contains(c.what, " turned from ") && !strings.Contains(string(page), c.what[strings.Index(c.what, "file to"):]) {
				t.Error("the page does not show the mode")
			}
		})
	}
	// Also where there is no release to compare with.
	first := attack(t)
	first.write(dir+"x.syso", "\x7fELF\x00")
	first.base = first.commit("compiled")
	env, err := goEnvironment(t.Context(), ".")
	must(t, err)
	alone := &Report{}
	must(t, alone.history(t.Context(), &Package{Provenance: Provenance{Commit: first.base, Platform: "linux/amd64", Toolchain: env["GOVERSION"]}}, Inspection{Repository: first.repo}))
	if !says(alone, Danger, "x.syso is compiled code") {
		t.Errorf("%+v", alone.Attention)
	}
	// What is none of it is said to be none.
	a := attack(t)
	a.write("other/other.go", "package other\n\n// Another.\n")
	a.write("words/x_windows.go", "package words\n")
	a.write("words/words_test.go", "package words\n")
	a.commit("harmless")
	if r := a.report("amd64"); !says(r, Note, nothingChanged) || len(r.Attention) != 1 {
		t.Errorf("%+v", r.Attention)
	}
	// A commit whose files go cannot list.
	a.write("words/words.go", "package \x1b[2J\n")
	a.commit("broken")
	if r := a.report("amd64"); !says(r, Danger, "could not be listed") || says(r, Note, nothingChanged) || strings.Contains(strings.Join(texts(r.Attention), ""), "\x1b") {
		t.Errorf("%+v", r.Attention)
	}
}

// TestOthersUseNoRoom: files that are not the generator's do not push its own
// out of the report.
func TestOthersUseNoRoom(t *testing.T) {
	a := attack(t)
	text := "// " + strings.Repeat("x", maxDiffFile*7/8) + "\n"
	for i := range 12 {
		a.write(string(rune('a'+i))+"/x.go", "package x\n"+text)
	}
	for i := range maxDiffs/maxDiffFile + 2 {
		a.write("a/"+string(rune('a'+i%26))+string(rune('a'+i/26))+".txt", text)
	}
	a.write("words/words.go", "package words\n\nvar List = \"\"\n"+text)
	a.commit("much")
	r := a.report("amd64")
	if !says(r, Look, "is not shown") {
		t.Error("all fits: this test tests nothing")
	}
	for _, g := range r.Source {
		for _, f := range g.Files {
			if f.InGenerator && f.Diff == "" && f.Change != "removed" {
				t.Errorf("%s is not shown: %s", f.Path, f.Note)
			}
		}
	}
}

// TestModulesHideNothing: the marks and gaps of a module's differences are
// found like those of the repository.
func TestModulesHideNothing(t *testing.T) {
	r := &Report{Modules: []ModuleChange{{Path: "example.org/m", Change: "changed", Files: []SourceFile{
		{Path: "a.go", Diff: "@@\n+var x = 1 // " + visible("\u202e")},
		{Path: "b.go", Note: "too long for this report"},
		{Path: "c_test.go", Note: "too long for this report"},
		{Path: "d.go", Diff: "@@\n+var \u0430 = 1"},
		{Path: "e.go", Diff: "@@\n+func f() {" + strings.Repeat(" ", 200) + "evil() }"},
		{Path: "f.go", Diff: "@@\n+" + strings.Repeat("\t", 50) + "evil()"},
		{Path: "g.go", Diff: "@@\n+var s = \"" + strings.Repeat("a", 600) + "\"; func init() { evil() }"},
		{Path: "h.go", Diff: "@@\n+\t\t\tplain()" + strings.Repeat(" ", 40) + "// as gofmt writes it" + strings.Repeat(" ", 200)},
	}}}}
	same := &Package{Provenance: Provenance{Commit: "the same"}} // a module need not come with a commit
	must(t, r.history(t.Context(), same, Inspection{Base: same}))
	for _, c := range []struct{ weight, what string }{{Danger, "example.org/m/a.go has characters"}, {Danger, "m/b.go is not shown"}, {Look, "m/c_test.go is not shown"}, {Look, "m/d.go has 1 added lines"},
		{Danger, "m/e.go has an added line with more behind 200 columns"}, {Danger, "m/f.go has an added line with more behind"}, {Look, "m/g.go has an added line of 6"}} {
		if !says(r, c.weight, c.what) {
			t.Errorf("no %s %q in %+v", c.weight, c.what, r.Attention)
		}
	}
	if says(r, Danger, "h.go") || says(r, Look, "h.go") {
		t.Errorf("an ordinary line is a finding: %+v", r.Attention)
	}
}

// TestModulesRuleNoDifference: a module's own .gitattributes hides none of its code: git obeys it where it is
// run in a repository, which is where a reviewer runs the review.
func TestModulesRuleNoDifference(t *testing.T) {
	work := t.TempDir()
	if out, err := exec.Command("git", "init", "--quiet", work).CombinedOutput(); err != nil {
		missing(t, "git: "+string(out))
	}
	t.Chdir(work)
	t.Setenv("TMPDIR", work)
	before, after := t.TempDir(), t.TempDir()
	for dir, files := range map[string]map[string]string{
		before: {"shown.go": "func f() {}\n", "hidden.go": "/*$Id$*/\n"},
		after:  {"shown.go": "func f() { /*$Id: */ evil() /*$*/ }\n", "hidden.go": "/*$Id: */ evil() /*$*/\n"},
	} {
		files[".gitattributes"] = "* ident\n"
		for name, text := range files {
			must(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600))
		}
	}
	var c ModuleChange
	must(t, c.compareFolders(t.Context(), before, after))
	if len(c.Files) != 2 {
		t.Fatalf("%d files, not 2: %+v", len(c.Files), c.Files)
	}
	for _, f := range c.Files {
		if !strings.Contains(f.Diff, "evil()") || f.Added != 1 || f.Removed != 1 {
			t.Errorf("%s: its code is not in the difference: %+v", f.Path, f)
		}
	}
}

// TestReportQuotesNoFile: a commit that includes a file of the reviewer's as C has
// the compiler print its lines. They are in no part of the report, which its
// submitter reads once it is rejected.
func TestReportQuotesNoFile(t *testing.T) {
	needCompiler(t, "amd64")
	old, _ := packages(t)
	const secret = "MC4CAQAwBQYDK2VwBCIEIFORTHISTEST"
	key := filepath.Join(t.TempDir(), "rita.key")
	must(t, os.WriteFile(key, []byte(secret+"\n"), 0o600))
	for name, files := range map[string]map[string]string{
		"an include": {"cmd/stakeseal-generator/more.go": "package main\n\n// #include \"" + key + "\"\nimport \"C\"\n"},
		"a link":     {"cmd/stakeseal-generator/more.go": "-> " + key},
	} {
		dir := t.TempDir()
		git := func(args ...string) string {
			out, err := exec.Command("git", append([]string{"-C", dir, "-c", "user.name=d", "-c", "user.email=d@example.com", "-c", "commit.gpgsign=false"}, args...)...).CombinedOutput()
			if err != nil {
				t.Fatalf("git %v: %v: %s", args, err, out)
			}
			return strings.TrimSpace(string(out))
		}
		repo := smallRepo(t).repo
		git("clone", "--quiet", repo.Dir, ".")
		git("checkout", "--quiet", old.Provenance.Commit)
		for file, text := range files {
			full := filepath.Join(dir, file)
			if to, link := strings.CutPrefix(text, "-> "); link {
				must(t, os.Symlink(to, full))
			} else {
				must(t, os.WriteFile(full, []byte(text), 0o600))
			}
		}
		git("add", "-A")
		git("commit", "--quiet", "-m", "an include")
		p := *old
		p.Provenance.Commit = git("rev-parse", "HEAD")
		said := ""
		r := &Report{}
		in := Inspection{Repository: Repository{dir}, Base: old, Now: func() time.Time { return noon }, Words: func(words string) { said += words }}
		must(t, errors.Join(r.rebuild(t.Context(), &p, in), r.history(t.Context(), &p, in)))
		data, err := r.Encode()
		must(t, err)
		if r.Rebuild.Verdict != NotRebuilt || !says(r, Danger, "could not be rebuilt") {
			t.Errorf("%s: %+v", name, r.Rebuild)
		}
		if strings.Contains(string(data), "MC4CAQ") {
			t.Errorf("%s: the report holds the file:\n%s", name, data)
		}
		if !strings.Contains(said, "MC4CAQ") { // or this test shows nothing
			t.Errorf("%s: nobody was told what the compiler said: %q", name, said)
		}
	}
}

// TestNothingForTheTerminal: words of the submitted commit reach no terminal
// as they are.
func TestNothingForTheTerminal(t *testing.T) {
	const evil = "\x1b]0;x\x07\x1b[2J\u202e\u009b"
	if text := tailText([]byte("main.go:1: " + evil)); strings.ContainsAny(text, "\x1b\x07\u202e\u009b") {
		t.Errorf("a compiler's words: %q", text)
	}
	r := &Report{Submitter: evil, Network: evil, Rebuild: Rebuild{Verdict: NotRebuilt, Detail: evil, Machine: map[string]string{"linker": evil}},
		Settings: []Setting{{Name: evil, After: evil}}, Modules: []ModuleChange{{Path: evil, After: &Module{Version: evil}}},
		Vulnerabilities: Vulnerabilities{Why: evil}, Tests: Tests{Why: evil}, Commits: []Commit{{ID: evil, Author: evil, Subject: evil}},
		Source: []SourcePackage{{Path: evil, Files: []SourceFile{{Path: evil, Note: evil}}}}}
	r.attend(Danger, "%s\n!! all is well", evil)
	var text strings.Builder
	must(t, r.Text(&text))
	if strings.ContainsAny(text.String(), "\x1b\x07\u202e\u009b") {
		t.Errorf("%q", text.String())
	}
	if strings.Contains(text.String(), "\n!! all is well") {
		t.Error("a finding's text makes another finding")
	}
	if strings.ContainsAny(strings.Join(texts(r.Attention), ""), "\x1b\u202e") {
		t.Error("the JSON's findings hold it")
	}
	if got := oneLine("a\nb\tc"); strings.ContainsAny(got, "\n\t") {
		t.Errorf("%q", got)
	}
	// A git that answers with the commit's words.
	dir := t.TempDir()
	must(t, os.WriteFile(filepath.Join(dir, "git"), []byte("#!/bin/sh\nprintf '\\033[2Jgone' >&2\nexit 1\n"), 0o700))
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	if _, err := (Repository{dir}).Changed(t.Context()); err == nil || strings.Contains(err.Error(), "\x1b") || !strings.Contains(err.Error(), "gone") {
		t.Errorf("%q", err)
	}
}

// TestNoCommitHides: a commit cannot drop out of the list by its words.
func TestNoCommitHides(t *testing.T) {
	a := attack(t)
	for _, words := range []string{"one\x1etwo", "\x1e", "three\n\nand more"} {
		a.git("commit", "--quiet", "--allow-empty", "-m", words)
	}
	r := &Report{}
	must(t, r.readCommits(t.Context(), a.repo, a.base, a.git("rev-parse", "HEAD")))
	if len(r.Commits) != 3 || r.Commits[0].Subject != "three" || r.Commits[2].Subject != "one"+hiddenMark+"U+001E"+hiddenEnd+"two" {
		t.Errorf("%+v", r.Commits)
	}
	for _, c := range r.Commits {
		if !certificate.IsCommit(c.ID) {
			t.Errorf("%+v", c)
		}
	}
}
