package sqlite

import (
	"context"
	"os"
	"regexp"
	"strings"
	"testing"
)

// TestDocs: the page on the formats names every table and column, and its
// query works.
func TestDocs(t *testing.T) {
	data, err := os.ReadFile("../../docs/formats/records.md")
	must(t, err)
	page := string(data)
	s := create(t)
	births := generate(t, s, "o1", 3)
	tables, err := s.findings(context.Background(), "SELECT name FROM sqlite_schema WHERE type = 'table'")
	must(t, err)
	if len(tables) != 8 {
		t.Errorf("tables %v", tables)
	}
	for _, table := range tables {
		line := regexp.MustCompile("(?m)^\\| `" + table + "` \\|.*$").FindString(page)
		columns, err := s.findings(context.Background(), "SELECT name FROM pragma_table_info('"+table+"')")
		must(t, err)
		for _, column := range columns {
			if !strings.Contains(line, "`"+column+"`") {
				t.Errorf("column %s.%s is not on the page", table, column)
			}
		}
	}
	query := regexp.MustCompile(`"(SELECT validator [^"]+)"`).FindStringSubmatch(page)
	if query == nil {
		t.Fatal("no query on the page")
	}
	got, err := s.findings(context.Background(), strings.Replace(query[1], "ORDER'", "o1'", 1))
	must(t, err)
	if len(got) != 3 || got[2] != births[2].Pubkey.String() {
		t.Errorf("the page's query returns %v", got)
	}
}
