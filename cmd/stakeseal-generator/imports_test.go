package main

import (
	"debug/elf"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"
)

// forbidden is what the program that makes keys must not reach, and why. It
// is defence in depth: on AWS the role's policy is the guarantee.
var forbidden = map[string]string{
	"github.com/stakeseal/stakeseal/unseal":                  "it opens what this program seals",
	"github.com/stakeseal/stakeseal/internal/identity":       "it reads identities",
	"github.com/stakeseal/stakeseal/internal/sqlite":         "the parent holds the store: this program only adds to it",
	"github.com/stakeseal/stakeseal/internal/folder":         "the parent holds the archive",
	"github.com/stakeseal/stakeseal/internal/beacon":         "it needs no network",
	"github.com/stakeseal/stakeseal/deposit":                 "judging is for those who did not make",
	"github.com/stakeseal/stakeseal/internal/aws/awskmsopen": "it calls Decrypt",
	"github.com/stakeseal/stakeseal/internal/aws/ops":        "it administers",
	"github.com/stakeseal/stakeseal/internal/aws/awstest":    "it is a fake",
	"github.com/aws/aws-sdk-go-v2/credentials":               "it has credentials of its own and asks nobody for others",
	"github.com/aws/aws-sdk-go-v2/feature/ec2/imds":          "as credentials",
	"github.com/aws/aws-sdk-go-v2/service/lambda":            "it changes no function",
	"github.com/aws/aws-sdk-go-v2/service/iam":               "it changes no rights",
	"github.com/aws/aws-sdk-go-v2/service/sts":               "it becomes nobody else",
	"github.com/aws/aws-sdk-go-v2/config":                    "it reads files and variables that could redirect calls",
	"github.com/aws/aws-lambda-go":                           "it brings net/rpc",
	"net/rpc":                                                "it makes the linker keep every exported method, Decrypt of a KMS client among them",
	"text/template":                                          "as net/rpc",
	"html/template":                                          "as net/rpc",
	"os/exec":                                                "it starts no program",
	"plugin":                                                 "it loads no code",
	"filippo.io/age/plugin":                                  "it would start a program that gets the file key",
	"filippo.io/age/agessh":                                  "ssh keys are no recipients here",
	"database/sql":                                           "the parent holds the store",
	"os/user":                                                "it would ask the C library, which a static program lacks",
	"net/http/pprof":                                         "it would serve memory",
	"runtime/pprof":                                          "it would write memory",
	"expvar":                                                 "it would serve variables",
}

func TestForbiddenImports(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", ".").CombinedOutput()
	if err != nil {
		t.Fatalf("couldn't list what the generator imports: %v\n%s", err, out)
	}
	deps := strings.Fields(string(out))
	if len(deps) < 100 {
		t.Fatalf("only %d packages listed", len(deps))
	}
	seal := false
	for _, dep := range deps {
		for path, why := range forbidden {
			if dep == path || strings.HasPrefix(dep, path+"/") && strings.Contains(path, ".") {
				t.Errorf("the generator reaches %s: %s", dep, why)
			}
		}
		seal = seal || dep == "github.com/stakeseal/stakeseal/seal"
	}
	if !seal {
		t.Error("the generator does not import seal: the list is of something else")
	}
}

// TestForbiddenSymbols looks into the built program for functions that open
// an age file. The list of imports cannot show them: age seals and opens in
// one package, and only the linker knows which half is there.
func TestForbiddenSymbols(t *testing.T) {
	program := filepath.Join(t.TempDir(), "stakeseal-generator")
	if out, err := exec.Command("go", "build", "-o", program, ".").CombinedOutput(); err != nil {
		t.Fatalf("couldn't build the generator: %v\n%s", err, out)
	}
	out, err := exec.Command("go", "tool", "nm", program).Output()
	if err != nil {
		t.Fatalf("couldn't read the generator's symbols: %v", err)
	}
	symbols := string(out)
	for _, symbol := range []string{
		"filippo.io/age.Decrypt", "filippo.io/age.(*X25519Identity).Unwrap", "filippo.io/age.(*HybridIdentity).Unwrap",
		"filippo.io/age.(*ScryptIdentity).Unwrap", "filippo.io/age.ParseIdentities", "filippo.io/age/internal/stream.NewDecryptReader",
	} {
		if strings.Contains(symbols, symbol) {
			t.Errorf("the generator's program holds %s", symbol)
		}
	}
	if !strings.Contains(symbols, "filippo.io/age.Encrypt") {
		t.Error("the generator's program does not hold age.Encrypt: the symbols are of something else")
	}
	// Of AWS's operations it holds those that it calls, and no other: no
	// Decrypt, no CreateGrant, no UpdateItem, no DeleteObject. One careless
	// import (net/rpc, a template) would keep them all.
	var linked []string
	for _, m := range regexp.MustCompile(`aws-sdk-go-v2/service/(\w+)\.\(\*Client\)\.([A-Z]\w*)\n`).FindAllStringSubmatch(symbols, -1) {
		linked = append(linked, m[1]+":"+m[2])
	}
	slices.Sort(linked)
	want := []string{
		"dynamodb:DescribeEndpoints", // of the SDK, for endpoint discovery, which is off
		"dynamodb:GetItem", "dynamodb:PutItem", "dynamodb:Query",
		"kms:Encrypt", "kms:GetPublicKey", "kms:Sign",
		"s3:CreateSession", // of the SDK, for directory buckets
		"s3:GetObject", "s3:PutObject",
	}
	if linked = slices.Compact(linked); !slices.Equal(linked, want) {
		t.Errorf("the generator's program holds the operations %q, want %q", linked, want)
	}
}

// TestStaticBuild: the program as it is packaged for Lambda needs no library
// of the machine, and is linked without a warning: one of glibc's would say
// that it needs its libraries after all, to look up names.
func TestStaticBuild(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("packages are built on Linux")
	}
	program := filepath.Join(t.TempDir(), "bootstrap")
	cmd := exec.Command("go", "build", "-o", program, "-tags", "netgo,osusergo", "-ldflags", "-extldflags=-static", ".")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=1")
	out, err := cmd.CombinedOutput()
	if err != nil || len(out) > 0 {
		if os.Getenv("CI") != "true" && strings.Contains(string(out), "cannot find -l") {
			t.Skipf("this machine has no static C library: %s", out)
		}
		t.Fatalf("%v: %s", err, out)
	}
	f, err := elf.Open(program)
	must(t, err)
	defer f.Close()
	libraries, err := f.ImportedLibraries()
	if err != nil || len(libraries) > 0 {
		t.Errorf("it needs %q (%v)", libraries, err)
	}
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP {
			t.Error("it needs a loader")
		}
	}
	if out, err := exec.Command(program, "--version").CombinedOutput(); err != nil || !strings.HasPrefix(string(out), "stakeseal-generator ") {
		t.Errorf("it prints %q, %v", out, err)
	}
}
