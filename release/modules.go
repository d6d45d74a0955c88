package release

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// modules compares what the programs hold.
func (r *Report) modules(ctx context.Context, p *Package, in Inspection) error {
	r.Modules = []ModuleChange{}
	was := map[string]Module{}
	if in.Base != nil {
		for _, m := range in.Base.Provenance.Modules {
			was[m.Path] = m
		}
		if a, b := in.Base.Provenance.Toolchain, p.Provenance.Toolchain; a != b {
			r.attend(Look, "Go changed from %s to %s.", a, b)
		}
		if a, b := in.Base.Provenance.Compiler, p.Provenance.Compiler; in.Base.Provenance.Platform == p.Provenance.Platform {
			r.compiler(a, b)
		} else if a.Version != b.Version {
			r.attend(Look, "The C compiler changed from %q to %q.", a.Version, b.Version)
		}
	}
	is := map[string]bool{}
	for _, m := range p.Provenance.Modules {
		is[m.Path] = true
		c := ModuleChange{Path: m.Path, After: &m}
		old, there := was[m.Path]
		if there {
			c.Before = &old
		}
		switch {
		case in.Base == nil:
		case !there:
			c.Change = "added"
			r.attend(Danger, "New module %s %s (%s): its code runs where keys are made.", m.Path, m.Version, m.Sum)
		case old.Version == m.Version && old.Replace == m.Replace && old.Sum != m.Sum:
			c.Change = "changed"
			r.attend(Danger, "Module %s %s has other content under the same version: %s, before %s. A version never changes: somebody replaced it.", m.Path, m.Version, m.Sum, old.Sum)
		case old != m:
			c.Change = "changed"
			r.attend(Danger, "Module %s changed from %s to %s (%s): its code runs where keys are made.", m.Path, old.Version, m.Version, m.Sum)
		}
		if m.Replace != "" {
			r.attend(Danger, "Module %s is replaced by %s (%s).", m.Path, m.Replace, m.Sum)
		}
		r.Modules = append(r.Modules, c)
	}
	for _, m := range sortedKeys(was) {
		if !is[m] {
			old := was[m]
			r.Modules = append(r.Modules, ModuleChange{Path: m, Before: &old, Change: "removed"})
			r.attend(Look, "Module %s %s is gone.", m, old.Version)
		}
	}
	for i := range r.Modules {
		if c := &r.Modules[i]; c.Change == "changed" || c.Change == "added" {
			c.readSource(ctx)
			if c.Change == "changed" && c.Note != "" {
				r.attend(Danger, "What changed in module %s is not shown: %s.", c.Path, c.Note)
			}
		}
	}
	return nil
}

// compiler names what of the C toolchain is another than in the release in
// force: it makes part of the program, and no source shows it.
func (r *Report) compiler(was, is Compiler) {
	for _, part := range []struct{ what, a, b string }{
		{"C compiler", was.Version, is.Version}, {"compiler's command", was.Command, is.Command}, {"assembler", was.Assembler, is.Assembler}, {"linker", was.Linker, is.Linker},
	} {
		if part.a != part.b {
			r.attend(Look, "The %s changed from %q to %q.", part.what, part.a, part.b)
		}
	}
	files := map[string]bool{}
	for _, list := range []map[string]string{was.Linked, is.Linked} {
		for name := range list {
			files[name] = true
		}
	}
	for _, name := range sortedKeys(files) {
		if was.Linked[name] == is.Linked[name] {
			continue
		}
		r.attend(Look, "%s, which is linked into the program, changed from sha256 %s to %s: no source shows it. An update of the C library of the building machine does that; ask which one it was.", oneLine(name), orNone(was.Linked[name]), orNone(is.Linked[name]))
	}
}

// readSource adds the differences of a module's source between two versions,
// or the list of its files where it is new, from go's module cache (go fetches
// what is missing and checks it against the checksum database).
func (c *ModuleChange) readSource(ctx context.Context) {
	after, err := moduleFolder(ctx, *c.After)
	if err != nil {
		c.Note = "its source could not be read here: " + visible(err.Error())
		return
	}
	if c.Before == nil {
		c.Note = "new: read it in " + c.After.Path + "@" + c.After.Version
		return
	}
	before, err := moduleFolder(ctx, *c.Before)
	if err != nil {
		c.Note = "the source of the version before could not be read here: " + visible(err.Error())
		return
	}
	if err := c.compareFolders(ctx, before, after); err != nil {
		c.Note = "its sources could not be compared: " + visible(err.Error())
	}
	slices.SortFunc(c.Files, func(a, b SourceFile) int { return strings.Compare(a.Path, b.Path) })
}

// compareFolders adds what two folders have otherwise: tests last, so that they
// do not use up the room of the report.
func (c *ModuleChange) compareFolders(ctx context.Context, before, after string) error {
	var names []string
	seen := map[string]bool{}
	for _, root := range []string{before, after} {
		err := filepath.WalkDir(root, func(full string, d os.DirEntry, err error) error {
			if err != nil || !d.Type().IsRegular() {
				return err
			}
			rel, err := filepath.Rel(root, full)
			if err == nil && !seen[rel] {
				seen[rel] = true
				names = append(names, rel)
			}
			return err
		})
		if err != nil {
			return err
		}
	}
	slices.SortStableFunc(names, func(a, b string) int {
		return cmp.Compare(rankOf(!testFile(filepath.ToSlash(a))), rankOf(!testFile(filepath.ToSlash(b))))
	})
	left := maxDiffs
	for _, rel := range names {
		a, errA := os.ReadFile(filepath.Join(before, rel))
		b, errB := os.ReadFile(filepath.Join(after, rel))
		if errA == nil && errB == nil && bytes.Equal(a, b) {
			continue
		}
		f := SourceFile{Path: oneLine(filepath.ToSlash(rel)), Change: "changed"}
		if errA != nil {
			f.Change = "added"
		} else if errB != nil {
			f.Change = "removed"
		}
		text, err := differ(ctx, a, b)
		if err != nil {
			return err
		}
		f.keep(text, &left)
		if text == "" && !bytes.Equal(a, b) {
			f.Note = "git shows nothing of it: compare the files"
		}
		c.Files = append(c.Files, f)
	}
	return nil
}

// differ is the difference of two files in unified form, without a head: "" where
// git sees none.
//
// The files are copied to a folder of their own, which git is not to take for part
// of a repository. Run in one, git obeys each .gitattributes beside the files that
// it compares, a module's own too, and compares them as it would check them in:
// with "* ident", all between "$Id:" and the next "$" of a line is left out.
func differ(ctx context.Context, a, b []byte) (string, error) {
	dir, err := os.MkdirTemp("", "stakeseal-differ-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(dir)
	if dir, err = filepath.EvalSymlinks(dir); err != nil { // git compares ceilings with real paths
		return "", err
	}
	for name, data := range map[string][]byte{"before": a, "after": b} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			return "", err
		}
	}
	cmd := exec.CommandContext(ctx, "git", "--no-pager", "diff", "--no-index", "--no-ext-diff", "--no-textconv", "--no-color", "--text", "--", "before", "after")
	cmd.Dir = dir
	cmd.Env = append(append(withoutGit(os.Environ()), plainGit()...), "GIT_CEILING_DIRECTORIES="+filepath.Dir(dir))
	diff, err := cmd.Output()
	if exit := (*exec.ExitError)(nil); err != nil && (!errors.As(err, &exit) || exit.ExitCode() != 1) { // 1: they differ
		return "", err
	}
	_, body, found := strings.Cut(string(diff), "\n@@")
	if !found {
		return "", nil
	}
	return "@@" + body, nil
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

// suspiciousModules does the same for the modules, whose code is part of the
// program, but for their tests.
func (r *Report) suspiciousModules() {
	for _, m := range r.Modules {
		for _, f := range m.Files {
			f.suspicious(r, m.Path+"/"+f.Path, !testFile(f.Path))
		}
	}
}
