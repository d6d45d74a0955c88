package release

import (
	"bytes"
	"context"
	"crypto/sha256"
	"debug/buildinfo"
	"debug/elf"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/stakeseal/stakeseal/certificate"
)

// Recipe says what to build a package from.
type Recipe struct {
	Repository Repository
	Commit     string // its whole id (Repository.Resolve); "": the working tree as it is, for tests only
	Settings   fs.FS  // the folder of generator.yaml and recipients/
	Arch       string // arm64 or amd64 (Architecture)

	Compiler  string // "" or "gcc", "zig", or a path to zig
	Toolchain string // the Go version to build with, "go1.26.8"; "": the one that is installed
	Cache     string // go's build cache; "": the user's. An empty folder builds everything anew
	Modules   string // go's module cache; "": the user's
}

const buildTags = "netgo,osusergo"

// fixedEnvironment is every variable that could change the program's bytes,
// set; all else that go reads is left out of its environment.
//
// __BLST_PORTABLE__ makes blst choose its code by the processor it runs on,
// not the one it was built on.
func fixedEnvironment(arch string) []string {
	a := architectures[arch]
	return []string{"CGO_ENABLED=1", "CGO_CFLAGS=-O2 -D__BLST_PORTABLE__", "CGO_CPPFLAGS=", "CGO_CXXFLAGS=", "CGO_FFLAGS=", "CGO_LDFLAGS=",
		"GOOS=linux", "GOARCH=" + arch, a.level + "=" + a.want, "GOFLAGS=-mod=readonly", "GOEXPERIMENT=", "GOFIPS140=off", "GODEBUG=",
		"GOENV=off", "GOWORK=off", "LC_ALL=C", "SOURCE_DATE_EPOCH=0"}
}

// buildCommand is the command, but for its output.
//
// The names of users and hosts come from Go's own code (netgo, osusergo): a
// static program must not load the C library's modules for them. Symbols are
// left out because debug information of C code would name this machine's
// folders. The build id would be the linker's hash of its own inputs.
func buildCommand(vcs bool) []string {
	return []string{"go", "build", "-trimpath", fmt.Sprintf("-buildvcs=%t", vcs), "-buildmode=exe", "-tags=" + buildTags,
		"-ldflags=-s -w -buildid= -linkmode=external -extldflags '-static -s'", "./cmd/stakeseal-generator"}
}

// Build makes the package. The same recipe gives the same bytes on any machine
// with the same Go and the same C compiler and C library (which the provenance
// names with their digests); folders, caches, user and time do not matter.
// The error is ErrBuild, ErrSource or of the settings.
func Build(ctx context.Context, r Recipe) (*Package, error) {
	if r.Settings == nil {
		return nil, fmt.Errorf("%w: no settings are named", ErrBuild)
	}
	settings, files, err := readSettings(r.Settings)
	if err != nil {
		return nil, err
	}
	c, cc, err := compiler(ctx, r.Arch, r.Compiler)
	if err != nil {
		return nil, err
	}
	work, err := os.MkdirTemp("", "stakeseal-build-")
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrBuild, err)
	}
	defer os.RemoveAll(work)
	source := r.Repository.Dir
	if r.Commit != "" {
		source = filepath.Join(work, "source")
		if err := os.Mkdir(source, 0o700); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrBuild, err)
		}
		if err := r.Repository.Export(ctx, r.Commit, source); err != nil {
			return nil, err
		}
	}
	program, err := r.compile(ctx, cc, source, filepath.Join(work, "program"))
	if err != nil {
		return nil, err
	}
	if err := static(program); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrBuild, err)
	}
	p := Provenance{Schema: ProvenanceSchema, Commit: r.Commit, Program: programPath, Platform: "linux/" + r.Arch, Compiler: c,
		Environment: fixedEnvironment(r.Arch), Command: buildCommand(r.Commit != ""),
		Binary: sha256.Sum256(program), Settings: certificate.Hash(settings.Digest)}
	info, err := buildinfo.Read(bytes.NewReader(program))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrBuild, err)
	}
	p.Toolchain, p.Version, p.Modules = info.GoVersion, info.Main.Version, modules(info)
	for _, s := range info.Settings {
		if s.Key == "vcs.time" {
			p.CommitTime = s.Value
		}
	}
	if files[ProvenanceFile], err = encode(p); err != nil {
		return nil, err
	}
	if files[SBOMFile], err = p.sbom(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrBuild, err)
	}
	files[Program] = program
	data, err := writeZip(files)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrBuild, err)
	}
	// What is handed out is what a reader accepts.
	return Open(data)
}

// compile runs go and returns the program.
func (r Recipe) compile(ctx context.Context, cc, source, out string) ([]byte, error) {
	env, err := r.environment(ctx, source)
	if err != nil {
		return nil, err
	}
	command := buildCommand(r.Commit != "")
	args := append([]string{}, command[1:len(command)-1]...)
	args = append(args, "-o", out, command[len(command)-1])
	cmd := exec.CommandContext(ctx, command[0], args...)
	cmd.Dir = source
	// Zig otherwise leaves a cache in the folder of each C package: in the
	// module cache, which go mod verify then calls modified.
	cmd.Env = append(env, "CC="+cc, "ZIG_LOCAL_CACHE_DIR="+filepath.Join(filepath.Dir(out), "zig-cache"))
	words, err := cmd.CombinedOutput()
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	if err != nil {
		return nil, &quoting{fmt.Errorf("%w: %w", ErrBuild, err), tailText(words)}
	}
	program, err := os.ReadFile(out)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrBuild, err)
	}
	return program, nil
}

// environment is all that go sees when it builds or lists the program.
func (r Recipe) environment(ctx context.Context, source string) ([]string, error) {
	env, err := goEnvironment(ctx, source)
	if err != nil {
		return nil, err
	}
	if r.Cache != "" {
		env["GOCACHE"] = r.Cache
	}
	if r.Modules != "" {
		env["GOMODCACHE"] = r.Modules
	}
	env["GOTOOLCHAIN"] = "local"
	if r.Toolchain != "" && r.Toolchain != env["GOVERSION"] {
		if !toolchainRule.MatchString(r.Toolchain) {
			return nil, fmt.Errorf("%w: toolchain %q is no released Go", ErrBuild, clip(r.Toolchain))
		}
		env["GOTOOLCHAIN"] = r.Toolchain // go fetches it, checked against the checksum database
	}
	delete(env, "GOVERSION")
	out := inherited(fixedEnvironment(r.Arch)...)
	out = append(out, plainGit()...) // go asks git for the commit
	for _, name := range sortedKeys(env) {
		out = append(out, name+"="+env[name])
	}
	return out, nil
}

// goEnvironment is where go keeps things on this machine and where it fetches
// modules, whose content go.sum pins.
func goEnvironment(ctx context.Context, dir string) (map[string]string, error) {
	names := []string{"GOVERSION", "GOCACHE", "GOMODCACHE", "GOPATH", "GOPROXY", "GOSUMDB", "GONOSUMDB", "GONOPROXY", "GOPRIVATE", "GOAUTH", "GOTMPDIR"}
	cmd := exec.CommandContext(ctx, "go", append([]string{"env", "-json"}, names...)...)
	cmd.Dir = dir
	// Flags and experiments that a package is not built with must not keep go
	// from answering.
	cmd.Env = append(os.Environ(), "GOTOOLCHAIN=local", "GOFLAGS=", "GOEXPERIMENT=", "GODEBUG=")
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("%w: couldn't run go: %w", ErrBuild, err)
	}
	var env map[string]string
	if err := json.Unmarshal(out, &env); err != nil {
		return nil, fmt.Errorf("%w: couldn't read go env: %w", ErrBuild, err)
	}
	return env, nil
}

// static refuses a program that would load libraries where it runs.
func static(program []byte) error {
	f, err := elf.NewFile(bytes.NewReader(program))
	if err != nil {
		return err
	}
	libraries, err := f.ImportedLibraries()
	if err != nil && f.Section(".dynamic") != nil {
		return err
	}
	if len(libraries) > 0 {
		return fmt.Errorf("the program is not static: it loads %v", libraries)
	}
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP {
			return fmt.Errorf("the program is not static: it names a loader")
		}
	}
	return nil
}
