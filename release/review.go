package release

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"time"
)

// Inspection is what a review is made with.
type Inspection struct {
	Repository Repository // the reviewer's own, not the submitter's
	Base       *Package   // of the release in force; nil: there is none
	BaseName   string
	Compiler   string // a path to zig, where it is not in PATH
	Cache      string // go's build cache for the rebuild
	Tests      string // the packages whose tests to run, such as ./...; "": none
	Database   string // of vulnerabilities: "" is the public one; an https:// or file:// URL
	Offline    bool   // ask no database
	Now        func() time.Time
	Words      func(string) // is told what a compiler printed that failed, which no report holds; may be nil
}

// Inspect makes the report on a submitted package. A package that cannot be
// rebuilt or compared still gets one, which says so at its top; only an ended
// context, or a repository that cannot be read at all, is an error.
func Inspect(ctx context.Context, s *Submitted, in Inspection) (*Report, error) {
	if s == nil || s.Package == nil || s.envelope == nil {
		return nil, fmt.Errorf("couldn't review: %w: no submission was loaded", ErrNotReviewed)
	}
	p := s.Package
	r := &Report{Schema: ReportSchema, Time: in.Now().UTC().Truncate(time.Second), Package: p.Digest, Bytes: len(p.Data), Submission: s.Digest,
		Submitter: s.By.Name, Description: s.Submission.Description, Commit: p.Provenance.Commit, CommitTime: p.Provenance.CommitTime,
		Platform: p.Provenance.Platform, Network: p.Settings.Network.Name, Binary: p.Binary, SettingsDigest: p.Provenance.Settings,
		Attention: []Finding{}, Commits: []Commit{}, Source: []SourcePackage{}, Included: []Included{}}
	if in.Base != nil {
		r.Base = &Base{in.BaseName, in.Base.Digest, in.Base.Provenance.Commit}
	} else {
		r.attend(Note, "There is no release in force to compare with: all of it is new.")
	}
	for _, step := range []func(context.Context, *Package, Inspection) error{r.rebuild, r.settings, r.modules, r.history, r.vulnerabilities, r.tests} {
		if err := step(ctx, p, in); err != nil {
			return nil, err
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
	}
	if in.Base != nil && in.Base.Provenance.Platform != p.Provenance.Platform {
		r.attend(Note, "The platform is %s; the release in force is for %s.", p.Provenance.Platform, in.Base.Provenance.Platform)
	}
	r.order()
	return r, nil
}

// rebuild builds the commit here and compares.
func (r *Report) rebuild(ctx context.Context, p *Package, in Inspection) error {
	r.Rebuild = Rebuild{Verdict: NotRebuilt, Toolchain: p.Provenance.Toolchain, Compiler: p.Provenance.Compiler.Version}
	begin := in.Now()
	compared, err := Compare(ctx, p, in.Repository, in.Compiler, in.Cache)
	took := in.Now().Sub(begin)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil {
		err = unquoted(err, in.Words)
		r.Rebuild.Detail = visible(err.Error())
		r.attend(Danger, "It could not be rebuilt from commit %s: %s. It cannot be approved.", p.Provenance.Commit, err)
		if errors.Is(err, ErrSource) {
			r.attend(Look, "Fetch the commit into your own repository from where your team keeps it, not from the submitter.")
		}
		return nil
	}
	r.Rebuild, r.Rebuild.Took = compared, took
	switch r.Rebuild.Verdict {
	case Different:
		r.attend(Danger, "The rebuild is different: %s. It cannot be approved.", r.Rebuild.Detail)
	case Contents:
		r.attend(Note, "Every file was rebuilt to the same bytes; the zip itself was compressed by another Go version than this program's (%s).", runtime.Version())
	}
	return nil
}

// Compare builds a package again from its commit and compares.
func Compare(ctx context.Context, p *Package, repo Repository, zig, cache string) (Rebuild, error) {
	built, err := rebuilt(ctx, p, repo, zig, cache)
	if err != nil {
		return Rebuild{}, err
	}
	r := Rebuild{Toolchain: p.Provenance.Toolchain, Compiler: p.Provenance.Compiler.Version}
	r.compare(p, built)
	return r, nil
}

// rebuilt builds what a package says it was built from: its commit, from this
// repository, with its own settings, toolchain and kind of compiler.
func rebuilt(ctx context.Context, p *Package, repo Repository, zig, cache string) (*Package, error) {
	if p == nil || p.Provenance.Commit == "" {
		return nil, fmt.Errorf("%w: the package names no commit", ErrPackage)
	}
	choice := "gcc"
	if strings.HasPrefix(p.Provenance.Compiler.Version, "zig ") {
		if choice = zig; choice == "" || choice == "gcc" {
			choice = "zig"
		}
	}
	return Build(ctx, Recipe{Repository: repo, Commit: p.Provenance.Commit, Settings: memory(p.settingsFiles()),
		Arch: p.Provenance.arch(), Compiler: choice, Toolchain: p.Provenance.Toolchain, Cache: cache})
}

// compare fills in the verdict.
func (r *Rebuild) compare(p, built *Package) {
	r.Package = built.Digest
	names := map[string]bool{}
	for name := range p.Files {
		names[name] = true
	}
	for name := range built.Files {
		names[name] = true
	}
	equal := true
	for _, name := range sortedKeys(names) {
		f := RebuiltFile{Name: name, Equal: bytes.Equal(p.Files[name], built.Files[name])}
		if data, ok := p.Files[name]; ok {
			f.Is = sha256.Sum256(data)
		}
		if data, ok := built.Files[name]; ok {
			f.Built = sha256.Sum256(data)
		}
		equal = equal && f.Equal
		r.Files = append(r.Files, f)
	}
	switch {
	case built.Digest == p.Digest:
		r.Verdict, r.Detail = Equal, "every byte of the package"
	case equal:
		r.Verdict, r.Detail = Contents, "every byte of every file"
	default:
		r.Verdict, r.Detail = Different, "the program or another file is not what the commit gives here"
		r.Machine = differences(p.Provenance, built.Provenance)
		if len(r.Machine) > 0 {
			r.Detail += "; this machine's compiler is another, so that it could not be equal (see what differs), and nothing is shown either way"
		}
	}
}

// differences are what a machine has otherwise than a package was built with.
func differences(is, here Provenance) map[string]string {
	out := map[string]string{}
	add := func(what, a, b string) {
		if a != b {
			out[what] = fmt.Sprintf("%s, here %s", a, b)
		}
	}
	add("toolchain", is.Toolchain, here.Toolchain)
	add("compiler", is.Compiler.Version, here.Compiler.Version)
	add("assembler", is.Compiler.Assembler, here.Compiler.Assembler)
	add("linker", is.Compiler.Linker, here.Compiler.Linker)
	for _, name := range sortedKeys(is.Compiler.Linked) {
		add(name, is.Compiler.Linked[name], here.Compiler.Linked[name])
	}
	return out
}
