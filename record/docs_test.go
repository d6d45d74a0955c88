package record_test

import (
	"encoding/json"
	"os"
	"strings"
	"testing"
)

// TestDocs: the page on the formats names every schema and every field that
// is written.
func TestDocs(t *testing.T) {
	page, err := os.ReadFile("../docs/formats/records.md")
	if err != nil {
		t.Fatal(err)
	}
	fields := map[string]bool{}
	var walk func(any)
	walk = func(v any) {
		switch v := v.(type) {
		case map[string]any:
			for key, inner := range v {
				fields[key] = true
				if key != "labels" && key != "detail" && key != "certificate" {
					walk(inner)
				}
			}
		case []any:
			for _, inner := range v {
				walk(inner)
			}
		}
	}
	for _, f := range forms {
		if !strings.Contains(string(page), "\n## stakeseal/"+f.schema+"/v1\n") {
			t.Errorf("no section on %s", f.schema)
		}
		var v any
		if err := json.Unmarshal(encoded(t, f), &v); err != nil {
			t.Fatal(err)
		}
		walk(v)
	}
	for field := range fields {
		if !strings.Contains(string(page), "`"+field+"`") && !strings.Contains(string(page), `"`+field+`":`) {
			t.Errorf("field %q is not on the page", field)
		}
	}
	if len(fields) < 30 {
		t.Errorf("only %d fields were looked up", len(fields))
	}
}
