package release

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/stakeseal/stakeseal/certificate"
)

// TestEveryFieldIsDocumented: each field of each format stands in the
// document, by its name.
func TestEveryFieldIsDocumented(t *testing.T) {
	data, err := os.ReadFile(filepath.Join("..", "docs", "formats", "release.md"))
	must(t, err)
	doc := string(data)
	seen := 0
	var look func(reflect.Type)
	done := map[reflect.Type]bool{}
	look = func(typ reflect.Type) {
		for typ.Kind() == reflect.Pointer || typ.Kind() == reflect.Slice {
			typ = typ.Elem()
		}
		if typ.Kind() != reflect.Struct || done[typ] || typ.PkgPath() == "time" {
			return
		}
		done[typ] = true
		for i := range typ.NumField() {
			f := typ.Field(i)
			name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
			if name == "" {
				t.Errorf("%s.%s has no JSON name", typ, f.Name)
				continue
			}
			seen++
			if !strings.Contains(doc, "`"+name+"`") {
				t.Errorf("docs/formats/release.md does not name `%s` of %s", name, typ)
			}
			look(f.Type)
		}
	}
	for _, v := range []any{Provenance{}, Submission{}, Review{}, Revocation{}, certificate.ReleaseStatement{}, pointer{}, Report{}} {
		look(reflect.TypeOf(v))
	}
	for _, text := range []string{ProvenanceSchema, SubmissionType, ReviewType, certificate.ReleaseType, RevocationType, pointerSchema, ReportSchema} {
		seen++
		if !strings.Contains(doc, "`"+text+"`") {
			t.Errorf("docs/formats/release.md does not name %s", text)
		}
	}
	if seen < 90 {
		t.Errorf("only %d fields", seen)
	}
}
