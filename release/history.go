package release

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"unicode"
)

// What a report holds of differences, in bytes: a review of more is no review,
// and the report says so at its top.
const (
	maxDiffFile = 256 << 10
	maxDiffs    = 8 << 20
)

// history lists the commits and the source's differences by package.
func (r *Report) history(ctx context.Context, p *Package, in Inspection) error {
	if in.Base == nil {
		return nil
	}
	from, to := in.Base.Provenance.Commit, p.Provenance.Commit
	if from == to {
		r.attend(Note, "The commit is the one of the release in force: only settings, platform or compiler can differ.")
		return nil
	}
	for _, commit := range []string{from, to} {
		if _, err := in.Repository.Resolve(ctx, commit); err != nil {
			r.attend(Danger, "The source cannot be compared: %s.", err)
			return nil
		}
	}
	if _, err := in.Repository.git(ctx, "merge-base", "--is-ancestor", from, to); err != nil {
		r.attend(Danger, "Commit %s does not come after %s, that of the release in force: history was rewritten, or this takes changes back. Differences below are between the two trees.", to[:12], from[:12])
	}
	if err := r.readCommits(ctx, in.Repository, from, to); err != nil {
		return err
	}
	files, err := in.Repository.diff(ctx, from, to)
	if err != nil {
		return err
	}
	inside := in.Repository.generatorFolders(ctx, to)
	if inside == nil {
		r.attend(Note, "Which packages are part of the generator could not be listed; all are shown alike.")
	}
	r.bySource(files, inside)
	r.suspicious()
	return nil
}

// readCommits lists the commits after from.
func (r *Report) readCommits(ctx context.Context, repo Repository, from, to string) error {
	out, err := repo.run(ctx, plainGit(), "log", "--no-show-signature", "--date=iso-strict", "--format=%H%x00%an <%ae>%x00%cd%x00%s%x1e", from+".."+to)
	if err != nil {
		return err
	}
	for entry := range strings.SplitSeq(string(out), "\x1e") {
		parts := strings.Split(strings.TrimSpace(entry), "\x00")
		if len(parts) == 4 {
			r.Commits = append(r.Commits, Commit{parts[0], visible(parts[1]), parts[2], visible(parts[3])})
		}
	}
	return nil
}

// diff lists the files that two trees have otherwise.
func (r Repository) diff(ctx context.Context, from, to string) ([]SourceFile, error) {
	names, err := r.run(ctx, plainGit(), "diff", "--no-ext-diff", "--no-textconv", "--no-renames", "--name-status", "-z", from, to)
	if err != nil {
		return nil, err
	}
	var files []SourceFile
	parts := strings.Split(strings.TrimSuffix(string(names), "\x00"), "\x00")
	left := maxDiffs
	for i := 0; i+1 < len(parts); i += 2 {
		f := SourceFile{Path: visible(parts[i+1]), Change: map[string]string{"A": "added", "D": "removed"}[parts[i]]}
		if f.Change == "" {
			f.Change = "changed"
		}
		// As git shows it, whatever attributes files in the tree claim to be
		// binary: --text.
		diff, err := r.run(ctx, plainGit(), "diff", "--no-ext-diff", "--no-textconv", "--no-color", "--no-renames", "--text", from, to, "--", ":(literal,top)"+parts[i+1])
		if err != nil {
			return nil, err
		}
		f.keep(string(diff), &left)
		files = append(files, f)
	}
	return files, nil
}

// keep takes a difference into the report, or says why it is not there.
func (f *SourceFile) keep(diff string, left *int) {
	f.Added, f.Removed = linesOf(diff)
	switch {
	case strings.ContainsRune(diff, 0):
		f.Note = "not text: compare it with git"
	case len(diff) > maxDiffFile || len(diff) > *left:
		f.Note = "too long for this report: read it with git diff"
	default:
		*left -= len(diff)
		f.Diff = visible(diff)
	}
}

// bySource groups files by their folder: those of the generator first.
func (r *Report) bySource(files []SourceFile, inside map[string]bool) {
	groups := map[string]*SourcePackage{}
	for _, f := range files {
		dir := path.Dir(f.Path)
		g := groups[dir]
		if g == nil {
			g = &SourcePackage{Path: dir, InGenerator: inside[dir]}
			groups[dir] = g
		}
		g.Added, g.Removed, g.Files = g.Added+f.Added, g.Removed+f.Removed, append(g.Files, f)
	}
	for _, dir := range sortedKeys(groups) {
		r.Source = append(r.Source, *groups[dir])
	}
	slices.SortStableFunc(r.Source, func(a, b SourcePackage) int {
		if a.InGenerator == b.InGenerator {
			return 0
		}
		if a.InGenerator {
			return -1
		}
		return 1
	})
}

// suspicious looks for what hides from a reader.
func (r *Report) suspicious() {
	changed, count := []string{}, 0
	for _, g := range r.Source {
		code := 0
		for _, f := range g.Files {
			if f.Note != "" {
				r.attend(Look, "%s is not shown: %s.", f.Path, f.Note)
			}
			for line := range strings.SplitSeq(f.Diff, "\n") {
				if !strings.HasPrefix(line, "+") {
					continue
				}
				if strings.Contains(line, hiddenMark) {
					r.attend(Danger, "%s has characters that an editor does not show, or shows elsewhere (marked %sU+....%s): a reader sees other code than the compiler.", f.Path, hiddenMark, hiddenEnd)
					break
				}
			}
			if strings.HasSuffix(f.Path, ".go") && !strings.HasSuffix(f.Path, "_test.go") || strings.HasSuffix(f.Path, ".s") || strings.HasSuffix(f.Path, ".c") {
				code += f.Added + f.Removed
			}
			switch base := path.Base(f.Path); {
			case f.Path == ".gitattributes" || base == ".gitattributes":
				r.attend(Look, "%s changed: it can make git show files otherwise than they are.", f.Path)
			case strings.HasPrefix(f.Path, ".github/") || f.Path == "Makefile" || strings.HasPrefix(f.Path, ".ci"):
				r.attend(Note, "%s changed: it decides what is tested.", f.Path)
			case strings.HasSuffix(f.Path, "_test.go") && f.Change == "removed":
				r.attend(Look, "The tests in %s are gone.", f.Path)
			}
		}
		if g.InGenerator && code > 0 {
			changed, count = append(changed, g.Path), count+code
		}
	}
	if len(changed) > 0 {
		r.attend(Look, "Code of the generator changed: %d lines in %s.", count, strings.Join(changed, ", "))
	} else if len(r.Source) > 0 {
		r.attend(Note, "No code of this repository that is part of the generator changed.")
	}
}

// The marks around a character that an editor would not show.
const (
	hiddenMark = "⟦"
	hiddenEnd  = "⟧"
)

// visible spells out control characters, marks that turn or hide text, and
// bytes that are no UTF-8: a source may look harmless on a screen and be none.
func visible(text string) string {
	var b strings.Builder
	for i, c := range text {
		switch {
		case c == '\n' || c == '\t' || c == ' ':
			b.WriteRune(c)
		case c == '\r' && strings.HasPrefix(text[i+1:], "\n"):
		case c == unicode.ReplacementChar && !strings.HasPrefix(text[i:], "\ufffd"):
			fmt.Fprintf(&b, "%sbyte %02x%s", hiddenMark, text[i], hiddenEnd)
		case !unicode.IsPrint(c):
			fmt.Fprintf(&b, "%sU+%04X%s", hiddenMark, c, hiddenEnd)
		default:
			b.WriteRune(c)
		}
	}
	return b.String()
}

// generatorFolders are the folders of this repository whose code is linked
// into the generator; nil when they cannot be listed.
func (r Repository) generatorFolders(ctx context.Context, commit string) map[string]bool {
	dir, err := os.MkdirTemp("", "stakeseal-source-")
	if err != nil {
		return nil
	}
	defer os.RemoveAll(dir)
	if r.Export(ctx, commit, dir) != nil {
		return nil
	}
	cmd := exec.CommandContext(ctx, "go", "list", "-deps", "-f", "{{if not .Standard}}{{.ImportPath}}{{end}}", "./cmd/stakeseal-generator")
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GOFLAGS=-mod=readonly", "GOOS=linux", "GOWORK=off", "CGO_ENABLED=1", "GOTOOLCHAIN=local")
	out, err := cmd.Output()
	if err != nil {
		return nil
	}
	folders := map[string]bool{}
	for _, dep := range strings.Fields(string(out)) {
		if rest, ours := strings.CutPrefix(dep, modulePath+"/"); ours {
			folders[rest] = true
		}
	}
	return folders
}

// readSource adds the differences of a module's source between two versions,
// or the list of its files where it is new, from go's module cache (go fetches
// what is missing and checks it against the checksum database).
func (c *ModuleChange) readSource(ctx context.Context) {
	after, err := moduleFolder(ctx, *c.After)
	if err != nil {
		c.Note = "its source could not be read here: " + err.Error()
		return
	}
	if c.Before == nil {
		c.Note = "new: read it in " + c.After.Path + "@" + c.After.Version
		return
	}
	before, err := moduleFolder(ctx, *c.Before)
	if err != nil {
		c.Note = "the source of the version before could not be read here: " + err.Error()
		return
	}
	if err := c.compareFolders(ctx, before, after); err != nil {
		c.Note = "its sources could not be compared: " + err.Error()
	}
	slices.SortFunc(c.Files, func(a, b SourceFile) int { return strings.Compare(a.Path, b.Path) })
}

// compareFolders adds what two folders have otherwise.
func (c *ModuleChange) compareFolders(ctx context.Context, before, after string) error {
	left := maxDiffs
	seen := map[string]bool{}
	for _, root := range []string{before, after} {
		err := filepath.WalkDir(root, func(full string, d os.DirEntry, err error) error {
			if err != nil || !d.Type().IsRegular() {
				return err
			}
			rel, err := filepath.Rel(root, full)
			if err != nil || seen[rel] {
				return err
			}
			seen[rel] = true
			old, new := filepath.Join(before, rel), filepath.Join(after, rel)
			a, errA := os.ReadFile(old)
			b, errB := os.ReadFile(new)
			if errA == nil && errB == nil && bytes.Equal(a, b) {
				return nil
			}
			f := SourceFile{Path: visible(filepath.ToSlash(rel)), Change: "changed"}
			if errA != nil {
				f.Change, old = "added", os.DevNull
			} else if errB != nil {
				f.Change, new = "removed", os.DevNull
			}
			cmd := exec.CommandContext(ctx, "git", "--no-pager", "diff", "--no-index", "--no-ext-diff", "--no-textconv", "--no-color", "--text", "--", old, new)
			cmd.Env = append(withoutGit(os.Environ()), plainGit()...)
			diff, err := cmd.Output()
			if exit := (*exec.ExitError)(nil); err != nil && (!errors.As(err, &exit) || exit.ExitCode() != 1) { // 1: they differ
				return err
			}
			text := string(diff)
			if _, body, ok := strings.Cut(text, "\n@@"); ok { // the head names this machine's folders
				text = "@@" + body
			}
			f.keep(text, &left)
			c.Files = append(c.Files, f)
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// moduleFolder is where go keeps a module's source, verified: its digest is
// the one that the program was linked with.
func moduleFolder(ctx context.Context, m Module) (string, error) {
	at := m.Path + "@" + m.Version
	if m.Replace != "" {
		at = m.Replace
	}
	if strings.HasPrefix(at, "-") {
		return "", fmt.Errorf("%q is no module", clip(at))
	}
	dir, err := os.MkdirTemp("", "stakeseal-module-") // outside of any module
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(dir)
	cmd := exec.CommandContext(ctx, "go", "mod", "download", "-json", at)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GOFLAGS=", "GOWORK=off", "GOTOOLCHAIN=local")
	out, err := cmd.Output()
	var got struct{ Dir, Sum, Error string }
	if e := json.Unmarshal(out, &got); e != nil || got.Error != "" || err != nil {
		return "", fmt.Errorf("go mod download %s: %s%w", at, clip(got.Error), err)
	}
	if got.Sum != m.Sum {
		return "", fmt.Errorf("%s has digest %s here, and the program was linked with %s", at, got.Sum, m.Sum)
	}
	return got.Dir, nil
}
