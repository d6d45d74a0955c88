package release

import (
	"debug/buildinfo"
	"errors"
	"fmt"
	"regexp"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/stakeseal/stakeseal/certificate"
)

// ProvenanceSchema names the form of provenance.json.
const ProvenanceSchema = "stakeseal/provenance/v1"

// What a package's program is.
const (
	modulePath  = "github.com/stakeseal/stakeseal"
	programPath = modulePath + "/cmd/stakeseal-generator"
)

// Provenance says how a package was built: everything that somebody else needs
// to build the same bytes, and nothing that may differ where they do (no time
// of the build, no path, no machine). docs/formats/release.md gives every
// field.
type Provenance struct {
	Schema      string           `json:"schema"`
	Commit      string           `json:"commit"`      // "": of a working tree, for tests; cannot be submitted
	CommitTime  string           `json:"commit_time"` // RFC 3339, UTC; "" as Commit
	Version     string           `json:"version"`     // of the main module, as go derives it
	Program     string           `json:"program"`     // import path
	Platform    string           `json:"platform"`    // linux/arm64
	Toolchain   string           `json:"toolchain"`   // go1.26.8
	Compiler    Compiler         `json:"compiler"`
	Environment []string         `json:"environment"` // what of it decides about the bytes
	Command     []string         `json:"command"`
	Modules     []Module         `json:"modules"` // all that the program holds, by path
	Binary      certificate.Hash `json:"binary_sha256"`
	Settings    certificate.Hash `json:"settings_sha256"`
}

// Compiler is the C compiler, with what it links in.
type Compiler struct {
	Command   string            `json:"command"` // without its folder
	Version   string            `json:"version"`
	Assembler string            `json:"assembler,omitempty"`
	Linker    string            `json:"linker,omitempty"`
	Linked    map[string]string `json:"linked_sha256,omitempty"` // the system's static libraries and start files
}

// Module is a Go module in the program, with the digest of its content as
// go.sum has it.
type Module struct {
	Path    string `json:"path"`
	Version string `json:"version"`
	Sum     string `json:"sum"`
	Replace string `json:"replaced_by,omitempty"` // path@version whose code stands in for it; Sum is of that
}

var (
	sumRule       = regexp.MustCompile(`^h1:[A-Za-z0-9+/]{43}=$`)
	toolchainRule = regexp.MustCompile(`^go1\.[0-9]+(\.[0-9]+|rc[0-9]+)?$`)
)

func parseProvenance(data []byte) (Provenance, error) {
	var p Provenance
	if err := strict(ProvenanceFile, data, &p); err != nil {
		return p, err
	}
	if err := p.check(); err != nil {
		return p, fmt.Errorf("%s: %w", ProvenanceFile, err)
	}
	return p, nil
}

// arch is Go's name of the processor.
func (p Provenance) arch() string { return strings.TrimPrefix(p.Platform, "linux/") }

// source is the module whose code it is: its own, or the one that stands in.
func (m Module) source() (path, version string) {
	if path, version, replaced := strings.Cut(m.Replace, "@"); replaced {
		return path, version
	}
	return m.Path, m.Version
}

func (p Provenance) check() error {
	arch, linux := strings.CutPrefix(p.Platform, "linux/")
	switch {
	case p.Schema != ProvenanceSchema:
		return fmt.Errorf("schema %q is not %q", clip(p.Schema), ProvenanceSchema)
	case p.Commit != "" && !certificate.IsCommit(p.Commit):
		return fmt.Errorf("commit %q is no whole id", clip(p.Commit))
	case (p.Commit == "") != (p.CommitTime == ""):
		return errors.New("commit and commit_time come together")
	case p.Program != programPath:
		return fmt.Errorf("program %q is not %q", clip(p.Program), programPath)
	case !linux || architectures[arch] == (architecture{}):
		return fmt.Errorf("platform %q is none of linux/arm64 and linux/amd64", clip(p.Platform))
	case !toolchainRule.MatchString(p.Toolchain):
		return fmt.Errorf("toolchain %q is no released Go", clip(p.Toolchain))
	case p.Compiler.Command == "" || p.Compiler.Version == "":
		return errors.New("it names no C compiler")
	case !slices.Equal(p.Environment, fixedEnvironment(arch)):
		return fmt.Errorf("its environment is not the one that packages are built with: %q", p.Environment)
	case !slices.Equal(p.Command, buildCommand(p.Commit != "")):
		return fmt.Errorf("its command is not the one that packages are built with: %q", p.Command)
	}
	for name, sum := range p.Compiler.Linked {
		if err := new(certificate.Hash).UnmarshalText([]byte(sum)); err != nil {
			return fmt.Errorf("what is linked of %q is no sha256: %q", clip(name), clip(sum))
		}
	}
	if p.Commit != "" {
		if at, err := time.Parse(time.RFC3339, p.CommitTime); err != nil || at.UTC().Format(time.RFC3339) != p.CommitTime {
			return fmt.Errorf("commit_time %q is not like 2026-01-31T00:00:00Z", clip(p.CommitTime))
		}
	}
	if !slices.IsSortedFunc(p.Modules, func(a, b Module) int { return strings.Compare(a.Path, b.Path) }) {
		return errors.New("its modules are not in order")
	}
	for i, m := range p.Modules {
		if m.Path == "" || m.Version == "" && m.Replace == "" || i > 0 && m.Path == p.Modules[i-1].Path {
			return fmt.Errorf("module %q has no version, or occurs twice", clip(m.Path))
		}
		// Code of a folder has no digest: nobody could tell what was in it.
		if !sumRule.MatchString(m.Sum) {
			return fmt.Errorf("module %q has no digest: it was built from a folder", clip(m.Path))
		}
	}
	return nil
}

// modules are those of a program's build information.
func modules(info *debug.BuildInfo) []Module {
	var out []Module
	for _, d := range info.Deps {
		m := Module{Path: d.Path, Version: d.Version, Sum: d.Sum}
		if r := d.Replace; r != nil {
			m.Sum, m.Replace = r.Sum, r.Path+"@"+r.Version
		}
		out = append(out, m)
	}
	slices.SortFunc(out, func(a, b Module) int { return strings.Compare(a.Path, b.Path) })
	return out
}

// agrees holds a provenance to what the linker wrote into the program.
func (p Provenance) agrees(info *buildinfo.BuildInfo) error {
	level := architectures[p.arch()]
	want := map[string]string{"GOOS": "linux", "GOARCH": p.arch(), level.level: level.want, "CGO_ENABLED": "1", "-trimpath": "true", "-tags": buildTags,
		"-buildmode": "exe", "-compiler": "gc", "vcs": "", "vcs.revision": "", "vcs.time": "", "vcs.modified": ""}
	if p.Commit != "" {
		want["vcs"], want["vcs.revision"], want["vcs.time"], want["vcs.modified"] = "git", p.Commit, p.CommitTime, "false"
	}
	got := map[string]string{}
	for _, s := range info.Settings {
		if _, known := want[s.Key]; !known {
			return fmt.Errorf("the program was built with %s=%q, which no package is", clip(s.Key), clip(s.Value))
		}
		got[s.Key] = s.Value
	}
	for key, value := range want {
		if got[key] != value {
			return fmt.Errorf("%s is %q, not %q", key, clip(got[key]), value)
		}
	}
	switch {
	case info.GoVersion != p.Toolchain:
		return fmt.Errorf("built with %q, not %q", clip(info.GoVersion), p.Toolchain)
	case info.Path != p.Program || info.Main.Path != modulePath || info.Main.Replace != nil:
		return fmt.Errorf("the program is %q of %q", clip(info.Path), clip(info.Main.Path))
	case info.Main.Version != p.Version:
		return fmt.Errorf("version %q, not %q", clip(info.Main.Version), clip(p.Version))
	case !slices.Equal(modules(info), p.Modules):
		return errors.New("the modules are not the same")
	}
	return nil
}
