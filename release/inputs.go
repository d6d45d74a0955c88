package release

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// inputs are the files of this repository that the generator is made of, in
// two commits: what was one before counts as what is one now.
type inputs struct {
	known   bool            // both commits could be listed
	files   map[string]bool // what go hands to a compiler or puts into the program
	code    map[string]bool // folders of packages with C or assembly, which may include any file there
	strange []Finding

	included []Included                 // what the C and assembly of the commit under review reads beside what go list names
	modules  map[string]map[string]bool // module's path: its files that are compiled or included
}

// listed is what go list says of a package (go help list).
type listed struct {
	Dir, ImportPath                                     string
	Standard                                            bool
	GoFiles, CgoFiles, CFiles, CXXFiles, MFiles, HFiles []string
	FFiles, SFiles, SwigFiles, SwigCXXFiles, SysoFiles  []string
	EmbedFiles                                          []string
	Module                                              *struct{ Path, Version, Dir string }
	Error                                               *struct{ Err string }
}

// listFields are the fields of listed.
const listFields = "Dir,ImportPath,Standard,GoFiles,CgoFiles,CFiles,CXXFiles,MFiles,HFiles,FFiles,SFiles,SwigFiles,SwigCXXFiles,SysoFiles,EmbedFiles,Module,Error"

// bothInputs lists the inputs of two packages' commits, each as it was built:
// for its processor, with its tags and its Go.
func (r Repository) bothInputs(ctx context.Context, before, after Provenance) *inputs {
	in := newInputs()
	was, err := r.addInputs(ctx, before, in, false)
	if err == nil {
		var is map[string]bool
		if is, err = r.addInputs(ctx, after, in, true); err == nil {
			for _, dir := range sortedKeys(was) {
				if !is[dir] {
					in.find(Look, "Package %s is no longer part of the generator.", oneLine(dir))
				}
			}
			for _, dir := range sortedKeys(is) {
				if !was[dir] {
					in.find(Look, "Package %s is new in the generator: all of it, also where no difference is shown.", oneLine(dir))
				}
			}
		}
	}
	if err != nil {
		in.known = false
		in.find(Danger, "Which files the generator is made of could not be listed, so that all are taken for some: %s.", unquoted(err, nil))
	}
	return in
}

func newInputs() *inputs {
	return &inputs{known: true, files: map[string]bool{}, code: map[string]bool{}, modules: map[string]map[string]bool{}}
}

func (in *inputs) find(weight, format string, args ...any) {
	in.strange = append(in.strange, Finding{weight, fmt.Sprintf(format, args...)})
}

// report adds what was found.
func (in *inputs) report(r *Report) {
	for _, f := range in.strange {
		r.attend(f.Weight, "%s", f.Text)
	}
}

// has reports whether the generator may be made of a file. In a folder with C
// or assembly, and below, that is every file, whatever its name: the compiler
// looks for included files there.
func (in *inputs) has(name string) bool {
	if !in.known || in.files[name] || name == "go.mod" || name == "go.sum" || strings.HasSuffix(name, ".syso") {
		return true
	}
	for dir := path.Dir(name); ; dir = path.Dir(dir) {
		if in.code[dir] {
			return true
		}
		if dir == "." || dir == "/" {
			return false
		}
	}
}

// testFile reports whether go builds no program of a file.
func testFile(name string) bool {
	return strings.HasSuffix(name, "_test.go") || strings.HasPrefix(name, "testdata/") || strings.Contains(name, "/testdata/")
}

// codeFile reports whether a file's text is read by a compiler.
func codeFile(name string) bool {
	switch strings.ToLower(path.Ext(name)) {
	case ".go", ".c", ".h", ".s", ".cc", ".cpp", ".cxx", ".hh", ".hpp", ".hxx", ".m", ".inc", ".f", ".for", ".f90", ".swig", ".swigcxx":
		return true
	}
	return false
}

// addInputs adds one commit's and returns the folders of its packages. now: it
// is the one under review, whose strange files are found too.
func (r Repository) addInputs(ctx context.Context, p Provenance, in *inputs, now bool) (map[string]bool, error) {
	work, err := os.MkdirTemp("", "stakeseal-source-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(work)
	if work, err = filepath.EvalSymlinks(work); err != nil { // as go names folders
		return nil, err
	}
	if err := r.Export(ctx, p.Commit, work); err != nil {
		return nil, err
	}
	if now {
		list, err := r.entries(ctx, p.Commit)
		if err != nil {
			return nil, err
		}
		for _, e := range list {
			if e.Mode == modeLink || e.Mode == modeModule {
				in.find(Danger, "%s is no file but %s: what it leads to is not in the differences.", oneLine(e.Path), map[string]string{modeLink: "a symbolic link", modeModule: "another repository"}[e.Mode])
			}
		}
	}
	packages, err := list(ctx, work, p)
	if err != nil {
		return nil, err
	}
	folders := map[string]bool{}
	for _, l := range packages {
		dir, err := filepath.Rel(work, l.Dir)
		if l.Standard {
			continue // Go's own
		}
		if err != nil || !filepath.IsLocal(dir) {
			// A module's, whose source the list of modules compares.
			if now {
				if err := in.module(l); err != nil {
					return nil, err
				}
			}
			continue
		}
		dir = filepath.ToSlash(dir)
		folders[dir] = true
		native := l.native()
		in.code[dir] = in.code[dir] || native
		for _, name := range l.all() {
			in.files[path.Join(dir, name)] = true
		}
		if !now {
			continue
		}
		for _, name := range l.SysoFiles {
			in.find(Danger, "%s is compiled code that no reader can read, and goes into the generator as it is.", oneLine(path.Join(dir, name)))
		}
		if native {
			if err := errors.Join(in.leaving(work, dir), in.include("", work, dir, l)); err != nil {
				return nil, err
			}
		}
	}
	if len(folders) == 0 {
		return nil, fmt.Errorf("%w: go lists no package of the generator", ErrSource)
	}
	return folders, nil
}

// all are the files that go list names.
func (l listed) all() []string {
	return slices.Concat(l.GoFiles, l.CgoFiles, l.CFiles, l.CXXFiles, l.MFiles, l.HFiles, l.FFiles, l.SFiles, l.SwigFiles, l.SwigCXXFiles, l.SysoFiles, l.EmbedFiles)
}

// native reports whether another compiler than Go's, or an assembler, reads some.
func (l listed) native() bool {
	return len(l.CgoFiles)+len(l.CFiles)+len(l.CXXFiles)+len(l.MFiles)+len(l.FFiles)+len(l.SFiles)+len(l.SwigFiles)+len(l.SwigCXXFiles) > 0
}

// module adds a package of a module: which of its files are compiled, and what
// its C and assembly includes beside them.
func (in *inputs) module(l listed) error {
	if l.Module == nil || l.Module.Dir == "" {
		return fmt.Errorf("%w: go list does not say which module package %s is of", ErrSource, clip(l.ImportPath))
	}
	dir, err := filepath.Rel(l.Module.Dir, l.Dir)
	if err != nil || !filepath.IsLocal(dir) {
		return fmt.Errorf("%w: package %s is not in its module's folder", ErrSource, clip(l.ImportPath))
	}
	dir = filepath.ToSlash(dir)
	files := in.modules[l.Module.Path]
	if files == nil {
		files = map[string]bool{}
		in.modules[l.Module.Path] = files
	}
	for _, name := range l.all() {
		files[path.Join(dir, name)] = true
	}
	for _, name := range l.SysoFiles {
		in.find(Danger, "%s/%s is compiled code that no reader can read, and goes into the generator as it is.", oneLine(l.ImportPath), oneLine(name))
	}
	if !l.native() {
		return nil
	}
	if err := in.include(l.Module.Path+"@"+l.Module.Version, l.Module.Dir, dir, l); err != nil {
		return err
	}
	for _, i := range in.included {
		if i.Module == l.Module.Path+"@"+l.Module.Version {
			for _, name := range i.Files {
				files[name] = true
			}
		}
	}
	return nil
}

// list asks go for the packages of the generator.
func list(ctx context.Context, dir string, p Provenance) ([]listed, error) {
	env, err := Recipe{Arch: p.arch(), Toolchain: p.Toolchain}.environment(ctx, dir)
	if err != nil {
		return nil, err
	}
	command := buildCommand(true)
	cmd := exec.CommandContext(ctx, "go", "list", "-deps", "-tags="+buildTags, "-json="+listFields, command[len(command)-1])
	cmd.Dir, cmd.Env = dir, env
	out, err := cmd.Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			return nil, &quoting{fmt.Errorf("%w: go list", ErrSource), tailText(exit.Stderr)}
		}
		return nil, fmt.Errorf("%w: go list: %w", ErrSource, err)
	}
	var packages []listed
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		var l listed
		if err := d.Decode(&l); errors.Is(err, io.EOF) {
			return packages, nil
		} else if err != nil {
			return nil, fmt.Errorf("%w: go list: %w", ErrSource, err)
		}
		if l.Error != nil {
			return nil, &quoting{fmt.Errorf("%w: go list", ErrSource), visible(clip(l.Error.Err))}
		}
		packages = append(packages, l)
	}
}

var (
	// An include by C's preprocessor or an assembler, with what it names.
	includeRule = regexp.MustCompile(`(?m)(?:#|%:|\?\?=)[ \t]*(?:include|include_next|import|embed)\b[ \t]*(.*)$|\.inc(?:bin|lude)\b(.*)`)
	plainNames  = regexp.MustCompile(`^(?:"[A-Za-z0-9_][A-Za-z0-9_.+-]*"|<[A-Za-z0-9_][A-Za-z0-9_+-]*(?:[./][A-Za-z0-9_][A-Za-z0-9_+-]*)*>)[ \t]*(?:/[/*].*)?$`)
	flagRule    = regexp.MustCompile(`(?m)^[ \t/*]*#cgo\b.*$`)
	plainFlags  = regexp.MustCompile(`^[ \t/*]*#cgo\b[^:]*:([ \t]+(-l[a-z0-9]+|-O[0-3s]|-W[a-z-]+|-std=[a-z0-9]+|-D[A-Za-z0-9_]+(=[A-Za-z0-9_]*)?))*[ \t\r]*$`)
)

// leaving finds what C and assembly of a folder read that is not in it or
// below: the lists of go name none of that.
func (in *inputs) leaving(root, dir string) error {
	return filepath.WalkDir(filepath.Join(root, filepath.FromSlash(dir)), func(full string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.Name() == ".git" && d.IsDir() {
			return filepath.SkipDir
		}
		if !d.Type().IsRegular() { // links are found elsewhere
			return nil
		}
		name, err := filepath.Rel(root, full)
		if err != nil {
			return err
		}
		data, err := os.ReadFile(full)
		if err != nil {
			return err
		}
		// A line that goes on is one line to the preprocessor.
		text := strings.NewReplacer("\\\r\n", "", "\\\n", "").Replace(string(data))
		for _, m := range includeRule.FindAllStringSubmatch(text, -1) {
			if !plainNames.MatchString(strings.TrimSpace(m[1])) || strings.Contains(m[0], "embed") {
				in.find(Danger, "%s includes what is not a plain file of its folder: %s", oneLine(filepath.ToSlash(name)), oneLine(clip(strings.TrimSpace(m[0]))))
			}
		}
		for _, line := range flagRule.FindAllString(text, -1) {
			if !plainFlags.MatchString(line) {
				in.find(Danger, "%s gives the C compiler or linker flags that can read other files: %s", oneLine(filepath.ToSlash(name)), oneLine(clip(strings.TrimSpace(line))))
			}
		}
		return nil
	})
}
