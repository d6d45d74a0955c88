package release

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// inspected is the report on the second commit against the first.
func inspected(t *testing.T, change func(*Inspection)) *Report {
	t.Helper()
	old, changed := packages(t)
	trust, d := testTrust(1), newDepot(t)
	must(t, Submit(t.Context(), d, trust, dora, changed, "routine update </script><script>alert(1)</script>", noon))
	s, err := LoadSubmitted(t.Context(), d, trust, changed.Digest)
	must(t, err)
	in := Inspection{Repository: smallRepo(t).repo, Base: old, BaseName: "v1", Offline: true, Now: func() time.Time { return noon }}
	if change != nil {
		change(&in)
	}
	r, err := Inspect(t.Context(), s, in)
	must(t, err)
	return r
}

// TestWhatMattersStandsOnTop: a raised dependency and a changed recipient are
// the first things a reviewer reads, before all that is harmless.
func TestWhatMattersStandsOnTop(t *testing.T) {
	r := inspected(t, nil)
	if !r.Rebuild.Same() || r.Rebuild.Verdict != Equal {
		t.Fatalf("the rebuild: %+v", r.Rebuild)
	}
	top := map[string]bool{}
	for _, f := range r.Attention {
		if f.Weight != Danger {
			break
		}
		for _, what := range []string{"recovery recipient vault changed", "golang.org/x/text changed from v0.41.0 to v0.43.0", "cmd/stakeseal-generator/hidden.go has characters"} {
			if strings.Contains(f.Text, what) {
				top[what] = true
			}
		}
	}
	if len(top) != 3 {
		t.Errorf("at the top stands: %+v", r.Attention)
	}
	var code *SourcePackage
	for i := range r.Source {
		if r.Source[i].Path == "cmd/stakeseal-generator" {
			code = &r.Source[i]
		}
	}
	if code == nil || !code.InGenerator || r.Source[0].Path != code.Path || !strings.Contains(code.Files[1].Diff, `+func main() { fmt.Println(norm.NFC.String("changed"), C.abs(-1)) }`) {
		t.Fatalf("the source: %+v", r.Source)
	}
	if !strings.Contains(code.Files[0].Diff, hiddenMark+"U+202E"+hiddenEnd) || strings.ContainsRune(code.Files[0].Diff, '\u202e') {
		t.Errorf("a mark that turns text is not spelled out: %q", code.Files[0].Diff)
	}
	var module *ModuleChange
	for i := range r.Modules {
		if r.Modules[i].Path == "golang.org/x/text" {
			module = &r.Modules[i]
		}
	}
	if module == nil || module.Change != "changed" || module.Before.Sum == module.After.Sum || len(module.Files) < 2 || module.Note != "" {
		t.Errorf("the module: %+v", module)
	}
	if len(r.Commits) != 1 || r.Commits[0].Subject != "raise text & <i>change</i> the program" {
		t.Errorf("commits: %+v", r.Commits)
	}
	// Unchanged settings are there, unmarked.
	marked, plain := 0, 0
	for _, s := range r.Settings {
		if s.Change == "" {
			plain++
		} else {
			marked++
		}
	}
	if marked != 1 || plain < 8 {
		t.Errorf("%d settings marked, %d not", marked, plain)
	}
	data, err := r.Encode()
	must(t, err)
	back, err := ParseReport(data)
	must(t, err)
	again, err := back.Encode()
	must(t, err)
	if !bytes.Equal(data, again) {
		t.Error("the report does not read back as it was written")
	}
	var text bytes.Buffer
	must(t, r.Text(&text))
	for _, want := range []string{"recovery recipient vault changed", "v0.43.0", "REBUILD: EQUAL", "NOT CHECKED", "NOT RUN"} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("the text does not say %q", want)
		}
	}
	if strings.ContainsAny(text.String(), "\x1b\u202e") {
		t.Error("the text holds what a terminal obeys")
	}
}

// TestPage: the page holds all findings, escaped, and loads nothing.
func TestPage(t *testing.T) {
	r := inspected(t, nil)
	page, err := r.HTML()
	must(t, err)
	text := string(page)
	if out := os.Getenv("STAKESEAL_REPORT_PAGE"); out != "" {
		must(t, os.WriteFile(out, page, 0o644))
	}
	if strings.Contains(text, "<script") || strings.Contains(text, "<i>change") {
		t.Error("a submitter's text is not escaped")
	}
	if m := regexp.MustCompile(`(?i)<[a-z][^<>]*\s(src|href|action|data|srcset)\s*=\s*["']?[^"'#\s>]|<(link|img|iframe|object|embed|form)\b`).FindString(text); m != "" {
		t.Errorf("the page loads or leads somewhere: %q", m)
	}
	if !strings.Contains(text, "default-src 'none'") {
		t.Error("no policy")
	}
	if strings.Contains(text, "white-space:pre;") || !strings.Contains(text, "pre span{display:block;padding:0 .8rem;white-space:break-spaces") {
		t.Error("lines of source run out of the window, where nobody reads them")
	}
	if n := strings.Count(text, `<li class="danger">`); n != len(r.weighing(Danger)) || n < 3 {
		t.Errorf("%d dangers on the page, %d in the report", n, len(r.weighing(Danger)))
	}
	if !strings.Contains(text, "recovery recipient vault") || !strings.Contains(text, `<span class="minus">-func main`) {
		t.Error("settings or differences are missing")
	}
}

// TestOtherSource: a package that its commit does not give says so at the top.
func TestOtherSource(t *testing.T) {
	old, changed := packages(t)
	trust, d := testTrust(1), newDepot(t)
	// The program of one commit under the statement of another would need a
	// program that lies about itself; a program that was built otherwise is
	// enough: another C flag stands for a changed compiler.
	program := bytes.Clone(changed.Files[Program])
	at := bytes.Index(program, []byte("changed"))
	if at < 0 {
		t.Fatal("the program does not hold its text")
	}
	copy(program[at:], "altered")
	evil, err := Open(repacked(t, changed, true, func(f map[string][]byte) { f[Program] = program }))
	must(t, err)
	must(t, Submit(t.Context(), d, trust, dora, evil, "a change", noon))
	s, err := LoadSubmitted(t.Context(), d, trust, evil.Digest)
	must(t, err)
	r, err := Inspect(t.Context(), s, Inspection{Repository: smallRepo(t).repo, Base: old, Offline: true, Now: func() time.Time { return noon }})
	must(t, err)
	if r.Rebuild.Verdict != Different || r.Attention[0].Weight != Danger || !strings.Contains(r.Attention[0].Text, "rebuild is different") {
		t.Errorf("%+v, first %+v", r.Rebuild.Verdict, r.Attention[0])
	}
	data, err := r.Encode()
	must(t, err)
	if err := Decide(t.Context(), d, trust, rita, s, data, true, "", noon); err == nil {
		t.Error("it was approved")
	}
	// A repository without the commit.
	r, err = Inspect(t.Context(), s, Inspection{Repository: Repository{t.TempDir()}, Base: old, Offline: true, Now: func() time.Time { return noon }})
	must(t, err)
	if r.Rebuild.Verdict != NotRebuilt || r.Attention[0].Weight != Danger {
		t.Errorf("%+v", r.Rebuild)
	}
}

func TestVulnerabilities(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) {
		full := filepath.Join(dir, filepath.FromSlash(name))
		must(t, os.MkdirAll(filepath.Dir(full), 0o700))
		must(t, os.WriteFile(full, []byte(text), 0o600))
	}
	write("index/modules.json", `[{"path":"golang.org/x/text","vulns":[{"id":"GO-1"},{"id":"GO-2"},{"id":"GO-3"}]},{"path":"other.example/x","vulns":[{"id":"GO-4"}]}]`)
	entry := func(id, events, more string) string {
		return `{"id":"` + id + `","summary":"a fault",` + more + `"affected":[{"package":{"name":"golang.org/x/text"},"ranges":[{"type":"SEMVER","events":[` + events + `]}]}]}`
	}
	write("ID/GO-1.json", entry("GO-1", `{"introduced":"0"},{"fixed":"0.43.1"}`, ""))
	write("ID/GO-2.json", entry("GO-2", `{"introduced":"0"},{"fixed":"0.43.0"}`, ""))
	write("ID/GO-3.json", entry("GO-3", `{"introduced":"0"}`, `"withdrawn":"2026-01-01T00:00:00Z",`))
	r := inspected(t, func(in *Inspection) { in.Offline, in.Database = false, "file://"+dir })
	if v := r.Vulnerabilities; !v.Checked || len(v.Found) != 1 || v.Found[0].ID != "GO-1" || v.Found[0].Fixed != "0.43.1" {
		t.Errorf("%+v", v)
	}
	if !strings.Contains(strings.Join(texts(r.weighing(Danger)), "\n"), "GO-1") {
		t.Error("it does not stand at the top")
	}
	// What cannot be asked is not clean.
	server := httptest.NewServer(http.NotFoundHandler())
	defer server.Close()
	for _, database := range []string{"file://" + t.TempDir(), server.URL, "https://127.0.0.1:1/", "ftp://x"} {
		r := inspected(t, func(in *Inspection) { in.Offline, in.Database = false, database })
		if r.Vulnerabilities.Checked || r.Vulnerabilities.Why == "" || !strings.Contains(strings.Join(texts(r.weighing(Look)), "\n"), "NOT CHECKED") {
			t.Errorf("%s: %+v", database, r.Vulnerabilities)
		}
	}
}

func texts(list []Finding) (out []string) {
	for _, f := range list {
		out = append(out, f.Text)
	}
	return out
}

func TestCompareVersions(t *testing.T) {
	inOrder := []string{"0.0.0-20200101000000-abc", "0.1.0", "0.9.9", "0.10.0", "1.0.0-alpha", "1.0.0-alpha.1", "1.0.0-alpha.beta", "1.0.0-beta.2", "1.0.0-beta.11", "1.0.0-rc.1", "1.0.0", "1.26rc1", "1.26", "1.26.8", "1.26.10", "2.0.0+incompatible"}
	for i, a := range inOrder {
		for j, b := range inOrder {
			if got := compareVersions(a, b); (got < 0) != (i < j) || (got > 0) != (i > j) {
				t.Errorf("%s and %s: %d", a, b, got)
			}
		}
	}
}

func TestTestResults(t *testing.T) {
	var events bytes.Buffer
	for _, e := range []map[string]string{
		{"Action": "run", "Package": "a", "Test": "TestX"}, {"Action": "pass", "Package": "a", "Test": "TestX"}, {"Action": "skip", "Package": "a", "Test": "TestY"},
		{"Action": "pass", "Package": "a"}, {"Action": "fail", "Package": "b", "Test": "TestZ"}, {"Action": "fail", "Package": "b"}, {"Action": "skip", "Package": "c"},
	} {
		must(t, json.NewEncoder(&events).Encode(e))
	}
	got := testResults(append([]byte("# words before\n"), events.Bytes()...))
	if len(got) != 3 || got[0].Passed != 1 || got[0].Skipped[0] != "TestY" || got[1].Result != "fail" || got[1].Failed[0] != "TestZ" || got[2].Result != "skip" {
		t.Errorf("%+v", got)
	}
}

func TestReportRunsTests(t *testing.T) {
	r := inspected(t, func(in *Inspection) { in.Tests = "./..." })
	if !r.Tests.Ran || len(r.Tests.Packages) != 1 || r.Tests.Packages[0].Result != "skip" {
		t.Errorf("%+v", r.Tests)
	}
	r = inspected(t, func(in *Inspection) { in.Tests = "-exec=/bin/sh" })
	if r.Tests.Ran {
		t.Errorf("a flag is a pattern: %+v", r.Tests)
	}
}
