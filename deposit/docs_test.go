package deposit_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// Scripts rely on the codes, so that each must be explained, and none that is
// explained may be gone.
func TestCodesDocumented(t *testing.T) {
	code := regexp.MustCompile(`Code\s+= "([a-z0-9-]+)"`)
	source := string(read(t, "finding.go"))
	page := string(read(t, filepath.Join("..", "docs", "deposits.md")))
	_, tables, ok := strings.Cut(page, "\n## Codes\n")
	if !ok {
		t.Fatal("the page has no chapter of codes")
	}
	tables, _, _ = strings.Cut(tables, "\n## ")
	known := map[string]bool{}
	for _, m := range code.FindAllStringSubmatch(source, -1) {
		known[m[1]] = true
		if !strings.Contains(tables, "`"+m[1]+"`") {
			t.Errorf("code %s is not in docs/deposits.md", m[1])
		}
	}
	if len(known) < 40 {
		t.Errorf("only %d codes were found in finding.go", len(known))
	}
	for line := range strings.Lines(tables) {
		first, _, _ := strings.Cut(strings.TrimPrefix(line, "|"), "|")
		for _, m := range regexp.MustCompile("`([a-z0-9-]+)`").FindAllStringSubmatch(first, -1) {
			if strings.HasPrefix(line, "|") && !known[m[1]] {
				t.Errorf("docs/deposits.md explains %s, which is no code", m[1])
			}
		}
	}
}

// The format's page shows the fields in the order in which they are written.
func TestFormatDocumented(t *testing.T) {
	page, err := os.ReadFile(filepath.Join("..", "docs", "formats", "deposit-data.md"))
	if err != nil {
		t.Fatal(err)
	}
	at := 0
	for _, m := range regexp.MustCompile(`"([a-z_]+)":`).FindAllStringSubmatch(row(), -1) {
		next := strings.Index(string(page[at:]), "| `"+m[1]+"` |")
		if next < 0 {
			t.Fatalf("field %s is missing, or in another order", m[1])
		}
		at += next
	}
}
