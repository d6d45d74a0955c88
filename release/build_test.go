package release

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"filippo.io/age"

	"github.com/stakeseal/stakeseal/internal/config"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// missing skips where something is not installed, and fails in CI.
func missing(t testing.TB, what string) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatalf("%s, and CI must have it", what)
	}
	t.Skipf("SKIPPED: %s", what)
}

const testAddress = "0x388C818CA8B9251b393131C08a736A67ccB19297"

// testSettings makes a folder with settings and returns it.
func testSettings(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	must(t, os.Mkdir(filepath.Join(dir, "recipients"), 0o700))
	for _, name := range []string{"anna", "vault", "signer-a", "stranger"} {
		id, err := age.GenerateHybridIdentity()
		must(t, err)
		must(t, os.WriteFile(filepath.Join(dir, "recipients", name+".txt"), []byte("# "+name+"\n"+id.Recipient().String()+"\n"), 0o600))
	}
	must(t, os.WriteFile(filepath.Join(dir, config.GeneratorFile), []byte(`version: 1
network: hoodi
withdrawal_addresses: {acme-cold: "`+testAddress+`"}
max_validators_per_order: 100
recipients: recipients/
seal_to: {signing: [signer-a], recovery: [anna, vault]}
certifier: file:certifier.key
store: sqlite:records.db
archive: dir:bundles/
`), 0o600))
	return dir
}

// head is this repository and the commit that is checked out.
func head(t testing.TB) (Repository, string) {
	t.Helper()
	r := Repository{".."}
	commit, err := r.Resolve(context.Background(), "HEAD")
	if err != nil {
		missing(t, "the tests need git and the repository: "+err.Error())
	}
	return r, commit
}

func needCompiler(t testing.TB, arch string) {
	t.Helper()
	if _, err := exec.LookPath(architectures[arch].gcc); err != nil {
		missing(t, architectures[arch].gcc+" is not installed")
	}
}

// built is one package of the checked-out commit, made once.
var built struct {
	once sync.Once
	p    *Package
	err  error
}

func onePackage(t testing.TB) *Package {
	t.Helper()
	needCompiler(t, "amd64")
	r, commit := head(t)
	dir := testSettings(t)
	built.once.Do(func() {
		built.p, built.err = Build(context.Background(), Recipe{Repository: r, Commit: commit, Settings: os.DirFS(dir), Arch: "amd64"})
	})
	must(t, built.err)
	return built.p
}

// TestReproducible builds the same commit in two folders with two build caches
// and two module caches, under other users' names and other times: the bytes
// are equal.
func TestReproducible(t *testing.T) {
	if testing.Short() {
		t.Skip("two builds from nothing take minutes")
	}
	r, commit := head(t)
	dir := testSettings(t)
	for _, arch := range []string{"amd64", "arm64"} {
		t.Run(arch, func(t *testing.T) {
			needCompiler(t, arch)
			recipe := Recipe{Repository: r, Commit: commit, Settings: os.DirFS(dir), Arch: arch}
			first, err := Build(t.Context(), recipe)
			must(t, err)
			// The other machine: a clone elsewhere with a tag on the commit, an
			// empty build cache, another home and other git settings.
			other := t.TempDir()
			clone := filepath.Join(other, "a clone with a longer name")
			for _, args := range [][]string{
				{"clone", "--quiet", "--no-checkout", "..", clone},
				{"-C", clone, "tag", "v9.9.9", commit},
			} {
				if out, err := exec.Command("git", args...).CombinedOutput(); err != nil {
					t.Fatalf("git %v: %v\n%s", args, err, out)
				}
			}
			env, err := goEnvironment(t.Context(), ".")
			must(t, err)
			t.Setenv("HOME", other)
			t.Setenv("USER", "somebody-else")
			t.Setenv("TMPDIR", t.TempDir())
			t.Setenv("GOFLAGS", "-tags=nonsense")
			t.Setenv("CGO_CFLAGS", "-O0")
			t.Setenv("GOAMD64", "v3")
			t.Setenv("GOEXPERIMENT", "nocoverageredesign")
			t.Setenv("GOPATH", env["GOPATH"])
			t.Setenv("GOCACHE", filepath.Join(other, "cache"))
			must(t, os.WriteFile(filepath.Join(other, ".gitconfig"), []byte("[core]\n\tautocrlf = true\n\teol = crlf\n"), 0o600))
			recipe.Repository, recipe.Cache = Repository{clone}, filepath.Join(other, "cache")
			// Modules come from what is downloaded here, into a folder of their own.
			recipe.Modules = filepath.Join(other, "modules")
			t.Setenv("GOPROXY", "file://"+filepath.Join(env["GOMODCACHE"], "cache", "download"))
			t.Setenv("GONOSUMDB", "*")
			second, err := Build(t.Context(), recipe)
			// Modules are written read-only.
			_ = exec.Command("chmod", "-R", "u+w", recipe.Modules).Run()
			must(t, err)
			if !bytes.Equal(first.Data, second.Data) {
				for name, data := range first.Files {
					if !bytes.Equal(data, second.Files[name]) {
						t.Errorf("%s differs: %d and %d bytes", name, len(data), len(second.Files[name]))
					}
				}
				t.Fatalf("the packages differ: %s and %s", first.Digest, second.Digest)
			}
			if size := len(first.Data); size > 12<<20 {
				t.Errorf("the package has %d bytes, more than 12 MB", size)
			}
			t.Logf("%s: %d bytes, %s", arch, len(first.Data), first.Digest)
		})
	}
}

func TestBuildStatesWhatItIs(t *testing.T) {
	p := onePackage(t)
	_, commit := head(t)
	if p.Provenance.Commit != commit || p.Provenance.Platform != "linux/amd64" || !strings.HasPrefix(p.Provenance.Toolchain, "go1.") {
		t.Errorf("%+v", p.Provenance)
	}
	if !bytes.Contains(p.Files[Program], []byte(commit)) {
		t.Error("the program does not name its commit")
	}
	// No folder of this machine is in the program.
	dir, err := os.Getwd()
	must(t, err)
	for _, needle := range []string{filepath.Dir(dir), os.TempDir() + "/stakeseal", "go-build"} {
		if bytes.Contains(p.Files[Program], []byte(needle)) {
			t.Errorf("the program holds %q", needle)
		}
	}
	if _, there := p.Files["recipients/stranger.txt"]; there || len(p.settingsFiles()) != 4 {
		t.Errorf("settings files: %v", sortedKeys(p.settingsFiles()))
	}
	program := filepath.Join(t.TempDir(), Program)
	must(t, os.WriteFile(program, p.Files[Program], 0o700))
	out, err := exec.Command(program, "--version").CombinedOutput()
	if err != nil || !strings.Contains(string(out), commit) {
		t.Errorf("%v: %s", err, out)
	}
	again, err := Open(p.Data)
	must(t, err)
	if again.Digest != p.Digest || again.Binary != p.Binary {
		t.Error("reading a package gives another")
	}
}

func TestBuildRefuses(t *testing.T) {
	needCompiler(t, "amd64")
	r, commit := head(t)
	settings := os.DirFS(testSettings(t))
	elsewhere := testSettings(t)
	must(t, os.Rename(filepath.Join(elsewhere, "recipients"), filepath.Join(elsewhere, "people")))
	text, err := os.ReadFile(filepath.Join(elsewhere, config.GeneratorFile))
	must(t, err)
	must(t, os.WriteFile(filepath.Join(elsewhere, config.GeneratorFile), bytes.ReplaceAll(text, []byte("recipients/"), []byte("people/")), 0o600))
	for name, c := range map[string]struct {
		recipe Recipe
		want   error
	}{
		"no settings":       {Recipe{Repository: r, Commit: commit, Arch: "amd64"}, ErrBuild},
		"no arch":           {Recipe{Repository: r, Commit: commit, Settings: settings}, ErrBuild},
		"another arch":      {Recipe{Repository: r, Commit: commit, Settings: settings, Arch: "riscv64"}, ErrBuild},
		"a short commit":    {Recipe{Repository: r, Commit: commit[:12], Settings: settings, Arch: "amd64"}, ErrSource},
		"an unknown commit": {Recipe{Repository: r, Commit: strings.Repeat("0", 40), Settings: settings, Arch: "amd64"}, ErrSource},
		"no repository":     {Recipe{Repository: Repository{t.TempDir()}, Commit: commit, Settings: settings, Arch: "amd64"}, ErrSource},
		"another compiler":  {Recipe{Repository: r, Commit: commit, Settings: settings, Arch: "amd64", Compiler: "tcc"}, ErrBuild},
		"no compiler":       {Recipe{Repository: r, Commit: commit, Settings: settings, Arch: "amd64", Compiler: "/nowhere/zig"}, ErrBuild},
		"empty settings":    {Recipe{Repository: r, Commit: commit, Settings: os.DirFS(t.TempDir()), Arch: "amd64"}, os.ErrNotExist},
		"other folder":      {Recipe{Repository: r, Commit: commit, Settings: os.DirFS(elsewhere), Arch: "amd64"}, config.ErrSettings},
		"toolchain":         {Recipe{Repository: r, Commit: commit, Settings: settings, Arch: "amd64", Toolchain: "path"}, ErrBuild},
	} {
		if _, err := Build(t.Context(), c.recipe); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Build(ctx, Recipe{Repository: r, Commit: commit, Settings: settings, Arch: "amd64"}); err == nil {
		t.Error("an ended run built a package")
	}
}
