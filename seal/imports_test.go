package seal_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// The generator links this package, so what it reaches is what the generator
// can do (G1).
func TestForbiddenImports(t *testing.T) {
	forbidden := map[string]string{
		"os/exec":                               "the generator starts no program: one would be given the secret or the file key",
		"filippo.io/age/plugin":                 "it starts programs found in $PATH, and prints file keys under AGEDEBUG",
		"filippo.io/age/tag":                    "it imports age's plugin package; tag.go has the two stanzas",
		"filippo.io/age/agessh":                 "ssh keys are not sealed to",
		"golang.org/x/sys/execabs":              "it is os/exec",
		"net/rpc":                               "its reflection makes the linker keep every method, Decrypt of a KMS client among them",
		"text/template":                         "calls methods by name: the linker then keeps every method",
		"html/template":                         "calls methods by name: the linker then keeps every method",
		"encoding/json":                         "secrets never pass a general encoder, which keeps copies",
		"net":                                   "sealing needs no network; a key service's recipient lives elsewhere",
		"github.com/stakeseal/stakeseal/unseal": "the maker can't open what it seals",
		"github.com/stakeseal/stakeseal/internal/identity": "the maker has no identities",
		"github.com/stakeseal/stakeseal/eth/bls":           "sealing is of generic bytes",
	}
	out, err := exec.Command("go", "list", "-deps", ".").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	deps := strings.Fields(string(out))
	seen := map[string]bool{}
	for _, d := range deps {
		seen[d] = true
		if why, bad := forbidden[d]; bad {
			t.Errorf("seal reaches %s: %s", d, why)
		}
	}
	// The list is the real one.
	for _, must := range []string{"filippo.io/age", "crypto/hpke", "github.com/stakeseal/stakeseal/secret"} {
		if !seen[must] {
			t.Errorf("go list does not show %s, so it can't be trusted to show what is forbidden", must)
		}
	}
}

// age both seals and opens: of what it exports, this package may name the
// sealing half only, so that the linker can drop the other.
func TestNamesNothingThatOpens(t *testing.T) {
	allowed := map[string]bool{
		"Encrypt": true, "Recipient": true, "RecipientWithLabels": true, "Stanza": true,
		"ParseX25519Recipient": true, "ParseHybridRecipient": true,
	}
	named := 0
	for name, file := range sources(t) {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		ast.Inspect(file, func(n ast.Node) bool {
			s, ok := n.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			x, ok := s.X.(*ast.Ident)
			switch {
			case ok && x.Name == "age":
				named++
				if !allowed[s.Sel.Name] {
					t.Errorf("seal names age.%s", s.Sel.Name)
				}
			case ok && x.Name == "hpke" && (s.Sel.Name == "NewRecipient" || s.Sel.Name == "Open"):
				t.Errorf("seal names hpke.%s, which opens", s.Sel.Name)
			}
			return true
		})
	}
	if named < 5 {
		t.Errorf("only %d uses of age found: the search is broken", named)
	}
}

// sources parses the package's files.
func sources(t *testing.T) map[string]*ast.File {
	t.Helper()
	names, err := filepath.Glob("*.go")
	if err != nil || len(names) == 0 {
		t.Fatalf("no sources: %v", err)
	}
	files := map[string]*ast.File{}
	for _, name := range names {
		f, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		files[name] = f
	}
	return files
}
