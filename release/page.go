package release

import (
	"bytes"
	_ "embed"
	"fmt"
	"html/template"
	"io"
	"strings"
	"text/tabwriter"
	"time"
)

//go:embed page.html
var pageText string

var page = template.Must(template.New("report").Funcs(template.FuncMap{
	"lines": diffLines,
	"short": func(s string) string { return s[:min(len(s), 12)] },
	"mb":    func(n int) string { return fmt.Sprintf("%.1f MB", float64(n)/1e6) },
	"utc":   func(t time.Time) string { return t.Format("2006-01-02 15:04 MST") },
	"took":  func(d time.Duration) string { return d.Round(100 * time.Millisecond).String() },
	"shown": Shown,
	"this":  orThis,
	"anchor": func(s string) string {
		return strings.Map(func(r rune) rune {
			if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' {
				return r
			}
			return '-'
		}, strings.ToLower(s))
	},
}).Parse(pageText))

// HTML is the report as one page that needs nothing else: no script, no font,
// no picture, and a policy that lets it load none.
func (r *Report) HTML() ([]byte, error) {
	settings, sameSettings := split(r.Settings, func(s Setting) bool { return s.Change != "" })
	modules, sameModules := split(r.Modules, func(m ModuleChange) bool { return m.Change != "" })
	var out bytes.Buffer
	err := page.Execute(&out, struct {
		*Report
		Dangers, Looks                []Finding
		ChangedSettings, SameSettings []Setting
		ChangedModules, SameModules   []ModuleChange
		TestsPassed, TestsFailed      int
		LinesInGenerator              int
		Short                         string
	}{r, r.weighing(Danger), r.weighing(Look), settings, sameSettings, modules, sameModules, r.testCount("pass"), r.testCount("fail"), r.generatorLines(), r.short()})
	if err != nil {
		return nil, fmt.Errorf("couldn't write the page: %w", err)
	}
	return out.Bytes(), nil
}

func (r *Report) weighing(weight string) []Finding {
	list, _ := split(r.Attention, func(f Finding) bool { return f.Weight == weight })
	return list
}

// split parts a list, in its order, into those that are so and those that are
// not.
func split[T any](list []T, so func(T) bool) (yes, no []T) {
	for _, v := range list {
		if so(v) {
			yes = append(yes, v)
		} else {
			no = append(no, v)
		}
	}
	return yes, no
}

func (r *Report) testCount(result string) (n int) {
	for _, p := range r.Tests.Packages {
		if p.Result == result {
			n++
		}
	}
	return n
}

func (r *Report) generatorLines() (n int) {
	for _, g := range r.Source {
		for _, f := range g.Files {
			if f.InGenerator {
				n += f.Added + f.Removed
			}
		}
	}
	return n
}

// diffLine is a line of a difference with the class that colours it.
type diffLine struct{ Class, Text string }

func diffLines(diff string) []diffLine {
	var out []diffLine
	body := false
	for line := range strings.SplitSeq(strings.TrimSuffix(diff, "\n"), "\n") {
		class := "same"
		switch {
		case strings.HasPrefix(line, "@@"):
			class, body = "where", true
		case !body: // the head, which names the file again
			continue
		case strings.HasPrefix(line, "+"):
			class = "plus"
		case strings.HasPrefix(line, "-"):
			class = "minus"
		}
		out = append(out, diffLine{class, line})
	}
	return out
}

// marks stand before findings in a terminal.
var marks = map[string]string{Danger: "!!", Look: " !", Note: "  "}

// short is the report in one line: whether it is what it says, and how much
// there is to read.
func (r *Report) short() string {
	settings, _ := split(r.Settings, func(s Setting) bool { return s.Change != "" })
	modules, _ := split(r.Modules, func(m ModuleChange) bool { return m.Change != "" })
	parts := []string{"rebuilt: " + r.Rebuild.Verdict, fmt.Sprintf("%d dangers, %d to look at", len(r.weighing(Danger)), len(r.weighing(Look)))}
	if r.Base == nil {
		return strings.Join(append(parts, "compared with nothing, so that all of it is new"), "; ")
	}
	count := func(missing, what string, n int) {
		if missing != "" {
			parts = append(parts, what+" NOT COMPARED")
		} else {
			parts = append(parts, fmt.Sprintf("%d %s changed", n, what))
		}
	}
	count(r.SettingsMissing, "settings", len(settings))
	count("", "modules", len(modules))
	count(r.SourceMissing, "lines of the generator's source", r.generatorLines())
	return strings.Join(parts, "; ")
}

// maxShownLines bounds the differences that a terminal gets.
const maxShownLines = 2000

// differences prints what changed in the files that the generator is made of.
func (r *Report) differences(say func(string, ...any)) {
	left, first := maxShownLines, true
	show := func(name string, f SourceFile) {
		if !f.InGenerator || f.Diff == "" {
			return
		}
		if first {
			say("\nDIFFERENCES in files that the generator is made of (all others: in the page and the JSON)")
			first = false
		}
		lines := diffLines(f.Diff)
		if len(lines) > left {
			say("\n--- %s: NOT SHOWN HERE, %d lines: read it in the page", name, len(lines))
			return
		}
		left -= len(lines)
		say("\n--- %s (%s)", name, f.Change)
		for _, l := range lines {
			say("  %s", l.Text)
		}
	}
	for _, g := range r.Source {
		for _, f := range g.Files {
			show(f.Path, f)
		}
	}
	for _, m := range r.Modules {
		for _, f := range m.Files {
			show(m.Path+"/"+f.Path, f)
		}
	}
}

// Text prints the report for a terminal: what needs attention first, and the
// source as a list of files, with the differences of those that the generator is
// made of. The others are in the page and in --json.
func (r *Report) Text(to io.Writer) error {
	w := &bytes.Buffer{}
	say := func(format string, args ...any) { fmt.Fprintf(w, format+"\n", args...) }
	say("Review of package %s", r.Package)
	say("  commit      %s", r.Commit)
	say("  for         %s, network %s", r.Platform, r.Network)
	say("  submitted   by %s: %q", r.Submitter, r.Description)
	if r.Base != nil {
		say("  compared    with release %q, package %s", r.Base.Name, r.Base.Package)
	}
	say("  in short    %s", r.short())
	say("\nATTENTION (!! could give keys or money to somebody else, or hides something; ! to be understood first)")
	for _, f := range r.Attention {
		mark := marks[f.Weight]
		// No text begins a line that could be taken for another finding.
		say("%s %s", mark, strings.ReplaceAll(f.Text, "\n", "\n      | "))
	}
	if len(r.Attention) == 0 {
		say("   nothing")
	}
	say("\nREBUILD: %s", strings.ToUpper(r.Rebuild.Verdict))
	if r.Rebuild.Detail != "" {
		say("  %s (%s, %s; %s)", r.Rebuild.Detail, r.Rebuild.Toolchain, r.Rebuild.Compiler, r.Rebuild.Took.Round(100*time.Millisecond))
	}
	for _, what := range sortedKeys(r.Rebuild.Machine) {
		say("  %s: %s", what, r.Rebuild.Machine[what])
	}
	say("\nSETTINGS")
	if r.SettingsMissing != "" {
		say("!! NOT COMPARED: %s", r.SettingsMissing)
	}
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	for _, s := range r.Settings {
		switch s.Change {
		case "":
			fmt.Fprintf(t, "   %s\t%s\n", s.Name, Shown(s.After))
		case "removed":
			fmt.Fprintf(t, "%s %s\t%s\tREMOVED\n", marks[s.Weight], s.Name, Shown(s.Before))
		default:
			fmt.Fprintf(t, "%s %s\t%s\t%s, before: %s\n", marks[s.Weight], s.Name, Shown(s.After), strings.ToUpper(s.Change), orNone(Shown(s.Before)))
		}
	}
	_ = t.Flush() // a buffer takes all
	say("\nMODULES")
	for _, m := range r.Modules {
		switch {
		case m.Change == "":
			fmt.Fprintf(t, "   %s\t%s\t%s\n", m.Path, m.After.Version, m.After.Sum)
		case m.After == nil:
			fmt.Fprintf(t, "!! %s\t%s\tREMOVED\n", m.Path, m.Before.Version)
		default:
			before := "none"
			if m.Before != nil {
				before = m.Before.Version + " " + m.Before.Sum
			}
			files := fmt.Sprintf("%d files differ", len(m.Files))
			if m.Note != "" {
				files = "SOURCE NOT SHOWN: " + oneLine(m.Note)
			}
			fmt.Fprintf(t, "!! %s\t%s\t%s\t%s, before: %s\t%s\n", m.Path, m.After.Version, m.After.Sum, strings.ToUpper(m.Change), before, files)
		}
	}
	_ = t.Flush()
	if r.Vulnerabilities.Checked {
		say("\nKNOWN VULNERABILITIES: %d, by %s", len(r.Vulnerabilities.Found), r.Vulnerabilities.Database)
	} else {
		say("\nKNOWN VULNERABILITIES: NOT CHECKED: %s", r.Vulnerabilities.Why)
	}
	if r.Tests.Ran {
		say("TESTS of %s: %d packages pass, %d fail", r.Tests.Pattern, r.testCount("pass"), r.testCount("fail"))
	} else {
		say("TESTS: NOT RUN here: %s", r.Tests.Why)
	}
	if len(r.Included) > 0 {
		say("\nREAD BY COMPILERS, and not named by go list (which files: in the page and the JSON)")
		for _, i := range r.Included {
			fmt.Fprintf(t, "   %s\t%d files\n", orThis(i.Module), len(i.Files))
		}
		_ = t.Flush()
	}
	say("\nCOMMITS: %s", r.orMissing(len(r.Commits)))
	for _, c := range r.Commits {
		say("   %s %s  %s", c.ID[:min(12, len(c.ID))], c.Author, c.Subject)
	}
	say("\nSOURCE, folders: %s (* holds changed files that the generator is made of)", r.orMissing(len(r.Source)))
	if r.SourceMissing != "" {
		say("!! NOT COMPARED: %s", r.SourceMissing)
	}
	for _, g := range r.Source {
		mark := " "
		if g.InGenerator {
			mark = "*"
		}
		fmt.Fprintf(t, " %s %s\t+%d -%d\n", mark, g.Path, g.Added, g.Removed)
		for _, f := range g.Files {
			fmt.Fprintf(t, "     %s\t+%d -%d\t%s\n", f.Path, f.Added, f.Removed, strings.TrimSpace(strings.Join([]string{f.Change, f.Mode, f.Note}, "  ")))
		}
	}
	_ = t.Flush()
	r.differences(say)
	// Names, errors and messages in it come from the submitted commit.
	_, err := io.WriteString(to, visible(w.String()))
	return err
}

// orMissing is a count, or what stands for it where nothing was counted.
func (r *Report) orMissing(n int) string {
	if r.SourceMissing != "" {
		return "not compared"
	}
	return fmt.Sprint(n)
}

func orThis(module string) string {
	if module == "" {
		return "this repository"
	}
	return module
}

func orNone(s string) string {
	if s == "" {
		return "none"
	}
	return s
}
