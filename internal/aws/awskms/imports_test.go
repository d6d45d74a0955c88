package awskms

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

const client = "github.com/aws/aws-sdk-go-v2/service/kms.(*Client)."

// opening is what a maker's program must not be able to ask KMS for.
var opening = []string{
	"Decrypt", "ReEncrypt", "GenerateDataKey", "GenerateDataKeyPair", "DeriveSharedSecret", "Decapsulate",
	"CreateGrant", "PutKeyPolicy", "ReplicateKey",
}

// The package names no call that opens, nor one that hands the right to
// another.
func TestNamesNothingThatOpens(t *testing.T) {
	names, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	named := map[string]bool{}
	for _, name := range names {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(f, func(n ast.Node) bool {
			id, ok := n.(*ast.Ident)
			if !ok {
				return true
			}
			named[id.Name] = true
			for _, bad := range opening {
				if strings.HasPrefix(id.Name, bad) {
					t.Errorf("%s names %s", name, id.Name)
				}
			}
			return true
		})
	}
	for _, must := range []string{"Encrypt", "EncryptInput", "Sign", "GetPublicKey"} {
		if !named[must] {
			t.Errorf("%s is not named: the search is broken", must)
		}
	}
}

// What this package brings along, the generator brings along.
func TestForbiddenImports(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", ".").Output()
	if err != nil {
		t.Fatal(err)
	}
	deps := "\n" + string(out)
	for _, bad := range []string{
		"github.com/stakeseal/stakeseal/unseal", "github.com/stakeseal/stakeseal/internal/identity",
		"github.com/stakeseal/stakeseal/internal/aws/awskmsopen", "github.com/aws/aws-sdk-go-v2/config", "github.com/aws/aws-lambda-go",
		"net/rpc", "text/template", "html/template", "os/exec", "plugin",
	} {
		if strings.Contains(deps, "\n"+bad+"\n") {
			t.Errorf("awskms reaches %s", bad)
		}
	}
	if !strings.Contains(deps, "\ngithub.com/aws/aws-sdk-go-v2/service/kms\n") {
		t.Error("go list does not show the KMS client: the list is of something else")
	}
}

// A program that uses all of this package holds no call of the client but the
// three: one use of net/rpc or of a template, anywhere, would make the linker
// keep all of them.
func TestForbiddenSymbols(t *testing.T) {
	program := filepath.Join(t.TempDir(), "linked")
	if out, err := exec.Command("go", "build", "-o", program, "./testdata/linked").CombinedOutput(); err != nil {
		t.Fatalf("couldn't build: %v\n%s", err, out)
	}
	out, err := exec.Command("go", "tool", "nm", program).Output()
	if err != nil {
		t.Fatal(err)
	}
	held := map[string]bool{}
	for line := range strings.Lines(string(out)) {
		if _, method, ok := strings.Cut(strings.TrimSpace(line), client); ok {
			held[method] = true
		}
	}
	for _, bad := range opening {
		if held[bad] {
			t.Errorf("the program holds %s%s", client, bad)
		}
	}
	for _, must := range []string{"Encrypt", "Sign", "GetPublicKey"} {
		if !held[must] {
			t.Errorf("the program does not hold %s%s: the symbols are of something else", client, must)
		}
	}
	if strings.Contains(string(out), "filippo.io/age.Decrypt") {
		t.Error("the program holds age.Decrypt")
	}
}
