package release

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// architecture is how one is spoken of by Go, GNU and Zig.
type architecture struct {
	gcc, zig    string
	level, want string // the variable of the instruction set, and its value: the oldest
}

var architectures = map[string]architecture{
	"amd64": {"x86_64-linux-gnu-gcc", "x86_64-linux-musl", "GOAMD64", "v1"},
	"arm64": {"aarch64-linux-gnu-gcc", "aarch64-linux-musl", "GOARM64", "v8.0"},
}

// Architecture returns Go's name of an architecture: arm64, or amd64, which
// Lambda and others call x86_64.
func Architecture(name string) (string, error) {
	switch name {
	case "arm64", "aarch64":
		return "arm64", nil
	case "amd64", "x86_64", "x86-64":
		return "amd64", nil
	}
	return "", fmt.Errorf("unknown architecture %q: use arm64 or x86_64", clip(name))
}

// linked are the parts of the system that gcc puts into a static program: the
// C library of another version makes another program.
var linked = []string{"libc.a", "libgcc.a", "libgcc_eh.a", "libpthread.a", "crt1.o", "crti.o", "crtn.o", "crtbeginT.o", "crtend.o"}

// compiler finds a C compiler and says which it is. choice is "" or "gcc" (the
// machine's cross compiler by its full name), or "zig", or a path to zig, which
// brings its own C library: with the same version of it every machine makes
// the same bytes. cc is the command for CC.
func compiler(ctx context.Context, arch, choice string) (c Compiler, cc string, err error) {
	a := architectures[arch]
	if a == (architecture{}) {
		return c, "", fmt.Errorf("%w: unknown architecture %q", ErrBuild, clip(arch))
	}
	if choice == "" || choice == "gcc" {
		return gcc(ctx, a.gcc)
	}
	if filepath.Base(choice) != "zig" {
		return c, "", fmt.Errorf("%w: C compiler %q: use gcc, zig, or the path of zig", ErrBuild, clip(choice))
	}
	path, err := exec.LookPath(choice)
	if err == nil {
		path, err = filepath.Abs(path)
	}
	if err != nil {
		return c, "", fmt.Errorf("%w: couldn't find zig: %w", ErrBuild, err)
	}
	if strings.ContainsAny(path, " '\"") {
		return c, "", fmt.Errorf("%w: the path of zig has a space or quote in it, which go cannot pass on: %q", ErrBuild, path)
	}
	version, err := firstLine(ctx, path, "version")
	if err != nil {
		return c, "", err
	}
	tail := " cc -target " + a.zig
	return Compiler{Command: "zig" + tail, Version: "zig " + version}, path + tail, nil
}

func gcc(ctx context.Context, name string) (c Compiler, cc string, err error) {
	if _, err := exec.LookPath(name); err != nil {
		return c, "", fmt.Errorf("%w: the C compiler %s is not installed (on Debian: gcc, gcc-aarch64-linux-gnu, gcc-x86-64-linux-gnu): %w", ErrBuild, name, err)
	}
	c = Compiler{Command: name, Linked: map[string]string{}}
	if c.Version, err = firstLine(ctx, name, "--version"); err != nil {
		return c, "", err
	}
	for _, tool := range []struct {
		name string
		into *string
	}{{"as", &c.Assembler}, {"ld", &c.Linker}} {
		path, err := firstLine(ctx, name, "-print-prog-name="+tool.name)
		if err != nil {
			return c, "", err
		}
		if *tool.into, err = firstLine(ctx, path, "--version"); err != nil {
			return c, "", err
		}
	}
	for _, file := range linked {
		path, err := firstLine(ctx, name, "-print-file-name="+file)
		if err != nil {
			return c, "", err
		}
		data, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) && file == "libpthread.a" {
			continue // part of libc.a since glibc 2.34, and a stub where it is there
		}
		if err != nil {
			return c, "", fmt.Errorf("%w: a static program needs %s (on Debian: libc6-dev): %w", ErrBuild, file, err)
		}
		c.Linked[file] = fmt.Sprintf("%x", sha256.Sum256(data))
	}
	return c, name, nil
}

// firstLine runs a program and returns the first line it prints.
func firstLine(ctx context.Context, program string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Env = inherited("LC_ALL=C")
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("%w: %s %s: %w", ErrBuild, program, strings.Join(args, " "), err)
	}
	line, _, _ := bytes.Cut(out, []byte("\n"))
	return strings.TrimSpace(string(line)), nil
}

// inherited is the little of this process's environment that programs need to
// run at all, and what is added.
func inherited(add ...string) []string {
	var out []string
	for _, name := range []string{"PATH", "HOME", "TMPDIR", "USER", "LOGNAME", "XDG_CACHE_HOME", "HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY", "https_proxy", "http_proxy", "no_proxy", "SSL_CERT_FILE", "SSL_CERT_DIR"} {
		if value, ok := os.LookupEnv(name); ok {
			out = append(out, name+"="+value)
		}
	}
	return append(out, add...)
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
