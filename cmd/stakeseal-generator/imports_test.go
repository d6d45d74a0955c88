package main

import (
	"os/exec"
	"path/filepath"
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
		"service/kms.(*Client).Decrypt",
	} {
		if strings.Contains(symbols, symbol) {
			t.Errorf("the generator's program holds %s", symbol)
		}
	}
	if !strings.Contains(symbols, "filippo.io/age.Encrypt") {
		t.Error("the generator's program does not hold age.Encrypt: the symbols are of something else")
	}
}
