package release

import (
	"crypto/sha256"
	"fmt"
	"strings"
)

// A CycloneDX 1.6 document, as much of it as a package has something to say.
type cdx struct {
	Format       string          `json:"bomFormat"`
	Spec         string          `json:"specVersion"`
	Serial       string          `json:"serialNumber"`
	Version      int             `json:"version"`
	Metadata     cdxMetadata     `json:"metadata"`
	Components   []cdxComponent  `json:"components"`
	Dependencies []cdxDependency `json:"dependencies"`
}

type cdxMetadata struct {
	Timestamp string       `json:"timestamp,omitempty"`
	Component cdxComponent `json:"component"`
}

type cdxComponent struct {
	Type       string        `json:"type"`
	Ref        string        `json:"bom-ref,omitempty"`
	Name       string        `json:"name"`
	Version    string        `json:"version,omitempty"`
	Hashes     []cdxHash     `json:"hashes,omitempty"`
	PURL       string        `json:"purl,omitempty"`
	Properties []cdxProperty `json:"properties,omitempty"`

	Components []cdxComponent `json:"components,omitempty"` // what it is made of
}

type cdxHash struct {
	Alg     string `json:"alg"`
	Content string `json:"content"`
}

type cdxProperty struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

type cdxDependency struct {
	Ref       string   `json:"ref"`
	DependsOn []string `json:"dependsOn,omitempty"`
}

// sbom is the CycloneDX list of what the program holds: the main module, the
// Go standard library, every module, and the C library and start files that
// were linked in. It follows from the provenance alone, which Open has held to
// the program's own build information; so nobody can write another.
func (p Provenance) sbom() ([]byte, error) {
	root := cdxComponent{Type: "application", Ref: "pkg:golang/" + modulePath + "@" + p.Version + "#cmd/stakeseal-generator",
		Name: "stakeseal-generator", Version: p.Version, Hashes: []cdxHash{{"SHA-256", p.Binary.String()}},
		PURL:       "pkg:golang/" + modulePath + "@" + p.Version + "#cmd/stakeseal-generator",
		Properties: []cdxProperty{{"stakeseal:platform", p.Platform}, {"stakeseal:settings:sha256", p.Settings.String()}}}
	if p.Commit != "" {
		root.Properties = append(root.Properties, cdxProperty{"stakeseal:commit", p.Commit})
	}
	goVersion := strings.TrimPrefix(p.Toolchain, "go")
	list := []cdxComponent{{Type: "library", Ref: "pkg:golang/std@" + goVersion, Name: "std", Version: goVersion, PURL: "pkg:golang/std@" + goVersion}}
	for _, m := range p.Modules {
		// A module's digest is the sha256 of its list of files and theirs (h1,
		// golang.org/ref/mod#go-sum-files), and of no file: CycloneDX's "hashes"
		// are of the component's own bytes, which is why it stands as a property.
		path, version := m.source()
		c := cdxComponent{Type: "library", Ref: "pkg:golang/" + m.Path + "@" + m.Version, Name: m.Path, Version: m.Version,
			PURL:       "pkg:golang/" + path + "@" + version,
			Properties: []cdxProperty{{"stakeseal:go.sum", m.Sum}}}
		if m.Replace != "" {
			c.Properties = append(c.Properties, cdxProperty{"stakeseal:replaced-by", m.Replace})
		}
		list = append(list, c)
	}
	c := cdxComponent{Type: "library", Ref: "c-runtime", Name: "C library of " + p.Compiler.Command, Version: p.Compiler.Version}
	for _, name := range sortedKeys(p.Compiler.Linked) {
		c.Components = append(c.Components, cdxComponent{Type: "file", Name: name, Hashes: []cdxHash{{"SHA-256", p.Compiler.Linked[name]}}})
	}
	list = append(list, c)
	depends := cdxDependency{Ref: root.Ref}
	var leaves []cdxDependency
	for _, c := range list {
		depends.DependsOn = append(depends.DependsOn, c.Ref)
		leaves = append(leaves, cdxDependency{Ref: c.Ref})
	}
	// A serial number that is new at each build would make each build another.
	sum := sha256.Sum256([]byte("stakeseal sbom v1\n" + p.Binary.String() + "\n" + p.Settings.String() + "\n"))
	id := sum[:16]
	id[6], id[8] = id[6]&0x0f|0x80, id[8]&0x3f|0x80 // RFC 9562: version 8, our own making
	return encode(cdx{Format: "CycloneDX", Spec: "1.6", Version: 1,
		Serial:   fmt.Sprintf("urn:uuid:%x-%x-%x-%x-%x", id[:4], id[4:6], id[6:8], id[8:10], id[10:]),
		Metadata: cdxMetadata{p.CommitTime, root}, Components: list, Dependencies: append([]cdxDependency{depends}, leaves...)})
}
