package policy

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"strings"
	"testing"
)

// A fuzz target that starts from nothing finds nothing, silently.
func TestFuzzTargetsHaveSeeds(t *testing.T) {
	names, err := filepath.Glob("*_test.go")
	if err != nil {
		t.Fatal(err)
	}
	targets := 0
	for _, name := range names {
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range file.Decls {
			f, ok := d.(*ast.FuncDecl)
			if !ok || !strings.HasPrefix(f.Name.Name, "Fuzz") {
				continue
			}
			targets++
			seeds := 0
			for _, s := range f.Body.List { // not in loops, which may be empty
				e, ok := s.(*ast.ExprStmt)
				if !ok {
					continue
				}
				if c, ok := e.X.(*ast.CallExpr); ok {
					if s, ok := c.Fun.(*ast.SelectorExpr); ok && s.Sel.Name == "Add" {
						seeds++
					}
				}
			}
			if seeds == 0 {
				t.Errorf("%s adds no seed", f.Name.Name)
			}
		}
	}
	if targets == 0 {
		t.Error("no fuzz target found")
	}
}
