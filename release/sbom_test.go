package release

import (
	"encoding/json"
	"regexp"
	"strings"
	"testing"
)

// TestHashesAreOfBytes: CycloneDX's hashes are of a component's own bytes. A
// module's digest in go.sum is of a list of files: a scanner that took it for a
// hash would find every module changed.
func TestHashesAreOfBytes(t *testing.T) {
	p, _ := packages(t)
	var list cdx
	must(t, json.Unmarshal(p.Files[SBOMFile], &list))
	if h := list.Metadata.Component.Hashes; len(h) != 1 || h[0] != (cdxHash{"SHA-256", p.Binary.String()}) {
		t.Errorf("the program's hashes are %v", h)
	}
	modules, files := 0, 0
	for _, c := range list.Components {
		if strings.HasPrefix(c.Ref, "pkg:golang/") {
			if len(c.Hashes) > 0 {
				t.Errorf("%s has hashes %v, and nobody knows the bytes", c.Name, c.Hashes)
			}
			if c.Name == "std" {
				continue
			}
			modules++
			if len(c.Properties) != 1 || c.Properties[0] != (cdxProperty{"stakeseal:go.sum", p.Provenance.Modules[0].Sum}) {
				t.Errorf("%s has properties %v", c.Name, c.Properties)
			}
			continue
		}
		for _, f := range c.Components {
			files++
			if len(f.Hashes) != 1 || f.Hashes[0].Content != p.Provenance.Compiler.Linked[f.Name] || !regexp.MustCompile("^[0-9a-f]{64}$").MatchString(f.Hashes[0].Content) {
				t.Errorf("%s has hashes %v", f.Name, f.Hashes)
			}
		}
	}
	if modules != len(p.Provenance.Modules) || modules == 0 || files != len(p.Provenance.Compiler.Linked) || files == 0 {
		t.Errorf("%d modules and %d linked files are listed", modules, files)
	}
	// A provenance that gives no digest for a linked file is none.
	bad := p.Provenance
	bad.Compiler.Linked = map[string]string{"libc.a": "unknown"}
	if err := bad.check(); err == nil || !strings.Contains(err.Error(), "libc.a") {
		t.Errorf("a linked file without a digest: %v", err)
	}
}
