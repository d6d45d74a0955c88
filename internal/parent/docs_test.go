package parent

import (
	"errors"
	"fmt"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stakeseal/stakeseal/birth"
	"github.com/stakeseal/stakeseal/record"
)

// TestDocs holds docs/formats/generator.md against the code: the example is a
// request, and the tables name every path, kind and class.
func TestDocs(t *testing.T) {
	data, err := os.ReadFile("../../docs/formats/generator.md")
	if err != nil {
		t.Fatal(err)
	}
	page := string(data)
	_, rest, _ := strings.Cut(page, "<!-- example request -->\n```json\n")
	example, _, _ := strings.Cut(rest, "```")
	r, err := birth.ParseRequest([]byte(example))
	if err != nil {
		t.Fatalf("the example: %v", err)
	}
	if r.Order.ID != "first-three-20261122t110000z" || !r.Scheduled || r.Order.Count != 3 || r.To != 3 || len(r.Order.Plan) != 2 || r.Order.Credentials.Kind() != 2 || r.Order.Labels["team"] != "north" {
		t.Errorf("the example reads as %+v", r)
	}
	if strings.Count(example, "\n") != reflect.TypeFor[birth.Request]().NumField()+2 || r.Order.Settings.IsZero() {
		t.Error("the example does not show every field")
	}

	section := func(heading string) string {
		_, rest, ok := strings.Cut(page, "\n"+heading+"\n")
		if !ok {
			t.Fatalf("no section %q", heading)
		}
		body, _, _ := strings.Cut(rest, "\n## ")
		return body
	}
	first := func(text string) (cells []string) { // of table rows
		for _, m := range regexp.MustCompile("(?m)^\\| `([^`]+)`").FindAllStringSubmatch(text, -1) {
			cells = append(cells, m[1])
		}
		return cells
	}
	source, err := os.ReadFile("serve.go")
	if err != nil {
		t.Fatal(err)
	}
	var want []string
	for _, m := range regexp.MustCompile(`"(?:POST )?(/(?:records|archive)/[a-z-]+)"`).FindAllStringSubmatch(string(source), -1) {
		want = append(want, m[1])
	}
	for _, k := range kinds {
		want = append(want, k.name)
	}
	var got []string
	for _, cell := range first(section("### Records")) {
		path, _, _ := strings.Cut(cell, "?")
		got = append(got, path)
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) || len(want) != 14 {
		t.Errorf("the page lists the paths and kinds %q, the code has %q", got, want)
	}

	classes := first(section("## Errors"))
	for _, err := range []error{birth.ErrOrder, birth.ErrTampered, record.ErrConflict, record.ErrCorrupt, birth.ErrIncomplete, errors.New("any other")} {
		if !slices.Contains(classes, birth.Class(err)) {
			t.Errorf("the page does not name the class %q", birth.Class(err))
		}
	}
	if len(classes) != 8 || !slices.Contains(classes, birth.ClassInit) || !slices.Contains(classes, birth.ClassDenied) || !slices.Contains(classes, "error") {
		t.Errorf("the page names the classes %q", classes)
	}
	for _, fact := range []string{birth.RequestSchema, birth.AnswerSchema, fmt.Sprint(maxObject), fmt.Sprint(record.MaxRecord)} {
		if !strings.Contains(page, fact) {
			t.Errorf("the page does not say %s", fact)
		}
	}
}
