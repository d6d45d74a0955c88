package fuzzseeds

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"strings"
	"testing"
)

const root = "../.."

// elsewhere are the packages with targets whose seeds come out of a list or a
// function, and the test there which shows that it is not empty.
var elsewhere = map[string]string{
	"birth":                   "TestRequestSeeds",
	"bundle":                  "TestSeeds",
	"cmd/stakeseal-generator": "TestCleanSeeds",
	"deposit":                 "TestFuzzSeeds",
	"internal/aws/dynamodb":   "TestSeeds",
	"internal/aws/ops":        "TestSeeds",
	"internal/aws/sample":     "TestSeeds",
	"internal/beacon":         "TestFuzzSeeds",
	"internal/config":         "TestSeeds",
	"internal/runtimeapi":     "TestSeeds",
	"keygen/mnemonic":         "TestFuzzSeeds",
	"record":                  "TestSeeds",
	"slashing":                "TestSeedsAreThere",
}

func TestEveryTargetHasSeeds(t *testing.T) {
	targets, excused, shown := 0, map[string]bool{}, map[string]bool{}
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && (d.Name() == "build" || d.Name() == "testdata" || strings.HasPrefix(d.Name(), ".") && path != root):
			return fs.SkipDir
		case !strings.HasSuffix(path, "_test.go"):
			return nil
		}
		folder, err := filepath.Rel(root, filepath.Dir(path))
		if err != nil {
			return err
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
		if err != nil {
			return err
		}
		for _, d := range file.Decls {
			f, ok := d.(*ast.FuncDecl)
			if !ok || f.Recv != nil {
				continue
			}
			shown[folder+" "+f.Name.Name] = true
			if !strings.HasPrefix(f.Name.Name, "Fuzz") {
				continue
			}
			targets++
			kept, err := filepath.Glob(filepath.Join(filepath.Dir(path), "testdata", "fuzz", f.Name.Name, "*"))
			if err != nil {
				return err
			}
			if adds(f.Body.List) || len(kept) > 0 {
				continue
			}
			if _, ok := elsewhere[folder]; !ok {
				t.Errorf("%s: %s has no seed of its own", folder, f.Name.Name)
			}
			excused[folder] = true
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if targets < 60 {
		t.Errorf("only %d fuzz targets found", targets)
	}
	for folder, test := range elsewhere {
		if !excused[folder] || !shown[folder+" "+test] {
			t.Errorf("%s: no target is excused by %s, or that is gone", folder, test)
		}
	}
}

// adds says whether statements surely add a seed: f.Add itself, or in a loop
// over elements that are written there. Another loop may be empty.
func adds(list []ast.Stmt) bool {
	for _, s := range list {
		switch s := s.(type) {
		case *ast.ExprStmt:
			if c, ok := s.X.(*ast.CallExpr); ok {
				if s, ok := c.Fun.(*ast.SelectorExpr); ok && s.Sel.Name == "Add" {
					return true
				}
			}
		case *ast.RangeStmt:
			if over, ok := s.X.(*ast.CompositeLit); ok && len(over.Elts) > 0 && adds(s.Body.List) {
				return true
			}
		}
	}
	return false
}
