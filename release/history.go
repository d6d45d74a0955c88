package release

import (
	"cmp"
	"context"
	"fmt"
	"path"
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
	r.suspiciousModules()
	if in.Base == nil {
		r.SourceMissing = "there is no release to compare with: all of the source is new, and to be read in the repository"
		// All is to be read; what no reader can read is named.
		made := newInputs()
		if _, err := in.Repository.addInputs(ctx, p.Provenance, made, true); err != nil {
			made.find(Danger, "Which files the generator is made of could not be listed: %s.", unquoted(err, nil))
		}
		made.report(r)
		r.inputs(made)
		return ctx.Err()
	}
	from, to := in.Base.Provenance.Commit, p.Provenance.Commit
	if from == to {
		r.attend(Note, "The commit is the one of the release in force: only settings, platform or compiler can differ.")
		made := newInputs()
		if _, err := in.Repository.addInputs(ctx, p.Provenance, made, true); err != nil {
			made.find(Danger, "Which files the generator is made of could not be listed: %s.", unquoted(err, nil))
		}
		made.report(r)
		r.inputs(made)
		return ctx.Err()
	}
	for _, commit := range []string{from, to} {
		if _, err := in.Repository.Resolve(ctx, commit); err != nil {
			r.SourceMissing = visible(err.Error())
			r.attend(Danger, "The source cannot be compared: %s. Nothing about what changed in it is shown below.", err)
			return nil
		}
	}
	if _, err := in.Repository.git(ctx, "merge-base", "--is-ancestor", from, to); err != nil {
		r.attend(Danger, "Commit %s does not come after %s, that of the release in force: history was rewritten, or this takes changes back. Differences below are between the two trees.", to[:12], from[:12])
	}
	if out, err := in.Repository.git(ctx, "rev-parse", "--is-shallow-repository"); err != nil || strings.TrimSpace(string(out)) != "false" {
		r.attend(Look, "Your repository is a shallow clone: commits between the two may be missing in the list (git fetch --unshallow). The differences are between the two whole trees.")
	}
	if err := r.readCommits(ctx, in.Repository, from, to); err != nil {
		return err
	}
	return r.source(ctx, in.Repository, in.Base, p)
}

// source adds the differences between the sources of two packages.
func (r *Report) source(ctx context.Context, repo Repository, before, after *Package) error {
	made := repo.bothInputs(ctx, before.Provenance, after.Provenance)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	files, err := repo.diff(ctx, before.Provenance.Commit, after.Provenance.Commit, made)
	if err != nil {
		return err
	}
	made.report(r)
	r.inputs(made)
	r.bySource(files)
	if len(files) == 0 {
		r.attend(Note, "The two commits have the same files.")
	}
	r.suspicious(made)
	return nil
}

// inputs adds what compilers read beside the files that go names, and marks the
// files of modules that are compiled or included.
func (r *Report) inputs(in *inputs) {
	r.Included = append(r.Included, in.included...)
	for _, i := range in.included {
		if len(i.Unknown) > 0 {
			where := i.Module
			if where == "" {
				where = "this repository"
			}
			r.attend(Note, "C or assembly of %s includes what is no file there, of the system or computed: %s.", where, strings.Join(i.Unknown[:min(len(i.Unknown), 12)], ", "))
		}
	}
	for _, m := range r.Modules {
		for i := range m.Files {
			m.Files[i].InGenerator = in.modules[m.Path][m.Files[i].Path]
		}
	}
}

// readCommits lists the commits after from.
func (r *Report) readCommits(ctx context.Context, repo Repository, from, to string) error {
	out, err := repo.run(ctx, plainGit(), "log", "--no-show-signature", "--date=iso-strict", "--format=%H%x00%an <%ae>%x00%cd%x00%s%x00", from+".."+to)
	if err != nil {
		return err
	}
	// Zero is the one byte that no name and no subject can hold.
	parts := strings.Split(string(out), "\x00")
	for ; len(parts) >= 4; parts = parts[4:] {
		r.Commits = append(r.Commits, Commit{strings.TrimSpace(parts[0]), oneLine(parts[1]), oneLine(parts[2]), oneLine(parts[3])})
	}
	return nil
}

// diff lists the files that two trees have otherwise: those that the generator
// is made of first, so that no others use up the room of the report.
func (r Repository) diff(ctx context.Context, from, to string, in *inputs) ([]SourceFile, error) {
	raw, err := r.run(ctx, plainGit(), "diff", "--no-ext-diff", "--no-textconv", "--no-renames", "--ignore-submodules=none", "--raw", "--no-abbrev", "-z", from, to)
	if err != nil {
		return nil, err
	}
	type named struct {
		SourceFile
		name string // Path as git has it
	}
	var list []named
	parts := strings.Split(strings.TrimSuffix(string(raw), "\x00"), "\x00")
	for i := 0; i+1 < len(parts); i += 2 {
		fields := strings.Fields(strings.TrimPrefix(parts[i], ":")) // modes, ids, what
		if len(fields) != 5 {
			return nil, fmt.Errorf("%w: git diff: a line that cannot be read: %q", ErrSource, clip(parts[i]))
		}
		f := named{SourceFile{Path: oneLine(parts[i+1]), Change: map[string]string{"A": "added", "D": "removed"}[fields[4]]}, parts[i+1]}
		if f.Change == "" {
			f.Change = "changed"
		}
		if fields[0] != fields[1] && (f.Change == "changed" || f.Change == "added" && fields[1] != "100644") {
			f.Mode = modeNames(fields[0]) + " to " + modeNames(fields[1])
		}
		// What a link leads to may be anything: it counts as the generator's.
		f.InGenerator = in.has(f.name) || slices.ContainsFunc(fields[:2], func(mode string) bool { return mode == modeLink || mode == modeModule })
		list = append(list, f)
	}
	slices.SortStableFunc(list, func(a, b named) int { return cmp.Compare(rankOf(a.InGenerator), rankOf(b.InGenerator)) })
	files, left := []SourceFile{}, maxDiffs
	for _, f := range list {
		// As git shows it, whatever attributes files in the tree claim to be
		// binary: --text.
		diff, err := r.run(ctx, plainGit(), "diff", "--no-ext-diff", "--no-textconv", "--no-color", "--no-renames", "--ignore-submodules=none", "--submodule=short", "--text", from, to, "--", ":(literal,top)"+f.name)
		if err != nil {
			return nil, err
		}
		f.keep(string(diff), &left)
		files = append(files, f.SourceFile)
	}
	slices.SortStableFunc(files, func(a, b SourceFile) int { return strings.Compare(a.Path, b.Path) })
	return files, nil
}

func rankOf(first bool) int {
	if first {
		return 0
	}
	return 1
}

// modeNames is what a mode of git stands for.
func modeNames(mode string) string {
	switch mode {
	case "000000":
		return "nothing"
	case "100644":
		return "file"
	case "100755":
		return "executable file"
	case modeLink:
		return "symbolic link"
	case modeModule:
		return "another repository"
	}
	return "mode " + mode
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
func (r *Report) bySource(files []SourceFile) {
	groups := map[string]*SourcePackage{}
	for _, f := range files {
		dir := path.Dir(f.Path)
		g := groups[dir]
		if g == nil {
			g = &SourcePackage{Path: dir}
			groups[dir] = g
		}
		g.InGenerator = g.InGenerator || f.InGenerator
		g.Added, g.Removed, g.Files = g.Added+f.Added, g.Removed+f.Removed, append(g.Files, f)
	}
	for _, dir := range sortedKeys(groups) {
		r.Source = append(r.Source, *groups[dir])
	}
	rank := func(g SourcePackage) int { // go.mod after the code
		return 2*rankOf(g.InGenerator) + rankOf(g.Path != ".")
	}
	slices.SortStableFunc(r.Source, func(a, b SourcePackage) int { return cmp.Compare(rank(a), rank(b)) })
}

// suspicious looks for what hides from a reader, and counts what changed in
// the files that the generator is made of.
func (r *Report) suspicious(in *inputs) {
	changed, count, made, beside := []string{}, 0, 0, 0
	for _, g := range r.Source {
		lines, files := 0, 0
		for _, f := range g.Files {
			f.suspicious(r, f.Path, f.InGenerator)
			if f.InGenerator {
				lines, files = lines+f.Added+f.Removed, files+1
			} else {
				beside++
			}
			switch base := path.Base(f.Path); {
			case strings.EqualFold(base, ".gitattributes"):
				r.attend(Danger, "%s changed: it can make git write and show files otherwise than they are, to whoever reads the commit in a checkout. The build and this report do not obey it.", f.Path)
			case strings.HasPrefix(f.Path, ".github/") || f.Path == "Makefile" || strings.HasPrefix(f.Path, ".ci"):
				r.attend(Note, "%s changed: it decides what is tested.", f.Path)
			case strings.HasSuffix(f.Path, "_test.go") && f.Change == "removed":
				r.attend(Look, "The tests in %s are gone.", f.Path)
			}
		}
		if files > 0 {
			changed, count, made = append(changed, g.Path), count+lines, made+files
		}
	}
	if made > 0 {
		r.attend(Look, "Code of the generator changed: %d lines of %d files in %s.", count, made, strings.Join(changed, ", "))
		if beside > 0 {
			r.attend(Note, "%d other files changed (tests, documents, the programs that people run): they are not in this package, and a release of it does not bring them anywhere.", beside)
		}
	} else if len(r.Source) > 0 && in.known && len(in.strange) == 0 {
		r.attend(Note, "No file of this repository that the generator is made of changed.")
	}
}

// suspicious says what of a changed file a reader does not see. made: it is
// part of the program that makes keys.
func (f *SourceFile) suspicious(r *Report, name string, made bool) {
	weight := Look
	if made {
		weight = Danger
	}
	if f.Note != "" {
		r.attend(weight, "%s is not shown: %s.", name, f.Note)
	}
	if f.Mode != "" {
		if strings.Contains(f.Mode, modeNames(modeLink)) || strings.Contains(f.Mode, modeNames(modeModule)) {
			weight = Danger
		} else {
			weight = Look
		}
		r.attend(weight, "%s turned from %s.", name, f.Mode)
	}
	foreign, gap, far := 0, 0, 0
	for line := range strings.SplitSeq(f.Diff, "\n") {
		if !strings.HasPrefix(line, "+") {
			continue
		}
		gap, far = max(gap, widestGap(line[1:])), max(far, len(line))
		if strings.Contains(line, hiddenMark) {
			r.attend(Danger, "%s has characters that an editor does not show, or shows elsewhere (marked %sU+....%s): a reader sees other code than the compiler.", name, hiddenMark, hiddenEnd)
			return
		}
		if strings.ContainsFunc(line, func(c rune) bool { return c > unicode.MaxASCII }) {
			foreign++
		}
	}
	if code := made && codeFile(name); code && gap >= maxGap {
		r.attend(Danger, "%s has an added line with more behind %d columns of nothing: beyond the edge of a window, where a reader does not look.", name, gap)
	} else if code && far > maxLine {
		r.attend(Look, "%s has an added line of %d characters: read it to its end.", name, far)
	}
	if foreign > 0 && made && codeFile(name) {
		r.attend(Look, "%s has %d added lines with letters that are not ASCII: one may look like another, so that two names look like one.", name, foreign)
	}
}

// What no line of code needs: what stands behind it, nobody sees who does not look
// for it. gofmt leaves such lines, in comments and in strings; nothing demands it.
const (
	maxGap  = 80  // columns of blanks within or before a line
	maxLine = 500 // bytes
)

// widestGap is the widest run of blanks in a line that something follows, in
// columns.
func widestGap(line string) (widest int) {
	run := 0
	for _, c := range line {
		switch c {
		case ' ':
			run++
		case '\t':
			run += 4
		default:
			widest, run = max(widest, run), 0
		}
	}
	return widest
}

// linesOf counts the lines of a difference.
func linesOf(diff string) (added, removed int) {
	for line := range strings.SplitSeq(diff, "\n") {
		switch {
		case strings.HasPrefix(line, "+++ "), strings.HasPrefix(line, "--- "):
		case strings.HasPrefix(line, "+"):
			added++
		case strings.HasPrefix(line, "-"):
			removed++
		}
	}
	return added, removed
}
