package signer_test

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/stakeseal/stakeseal/eth/duty"
	"github.com/stakeseal/stakeseal/signer"
)

// TestDocs: the page names every type of request, status and metric, and the
// document has every type.
func TestDocs(t *testing.T) {
	page, err := os.ReadFile("../docs/signing.md")
	if err != nil {
		t.Fatal(err)
	}
	api, err := os.ReadFile("../docs/openapi/signer.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for _, kind := range duty.Kinds() {
		if !strings.Contains(string(page), string(kind)) {
			t.Errorf("the page does not name %s", kind)
		}
		if !strings.Contains(string(api), string(kind)+": ") {
			t.Errorf("the API's document does not have %s", kind)
		}
	}
	b := newBench(t, 1, nil)
	b.sign(t, b.keys[0], attestation(1, 2, 1))
	w := recorder()
	b.Metrics.Handler().ServeHTTP(w, get("/metrics"))
	dashboard, err := os.ReadFile("../docs/signer-dashboard.json")
	if err != nil {
		t.Fatal(err)
	}
	names := 0
	for line := range strings.Lines(w.Body.String()) {
		name, found := strings.CutPrefix(line, "# TYPE ")
		if !found {
			continue
		}
		names++
		name, _, _ = strings.Cut(name, " ")
		if !strings.Contains(string(dashboard), name) && !strings.Contains(name, "permitted") {
			t.Errorf("the dashboard does not show %s", name)
		}
		if !strings.Contains(string(page), "`"+name) {
			t.Errorf("the page does not name the metric %s", name)
		}
	}
	if names < 10 {
		t.Errorf("%d metrics", names)
	}
	if !strings.Contains(string(page), fmt.Sprintf("Up to %d signatures", signer.MaxBatch)) {
		t.Error("the page does not say how many a batch may have")
	}
}
