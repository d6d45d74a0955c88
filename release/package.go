package release

import (
	"bytes"
	"crypto/sha256"
	"debug/buildinfo"
	"encoding/json"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"strings"

	"github.com/stakeseal/stakeseal/certificate"
	"github.com/stakeseal/stakeseal/internal/config"
)

// The files of a package beside the settings.
const (
	Program        = "bootstrap" // the name that Lambda's provided.al2023 starts
	SBOMFile       = "sbom.cdx.json"
	ProvenanceFile = "provenance.json"
)

// Package is a package that was read, or built, and does not contradict
// itself. It is not judged by anybody yet. The zero value is no package.
type Package struct {
	Data       []byte           // the zip
	Digest     certificate.Hash // of Data: the package's name
	Files      map[string][]byte
	Provenance Provenance
	Settings   *config.Generator
	Binary     certificate.Hash // of the program
}

// Open reads a package, in its one form only. The error is ErrPackage.
func Open(data []byte) (*Package, error) {
	files, err := readZip(data)
	if err != nil {
		return nil, err
	}
	p, err := assembleParts(files)
	if err != nil {
		return nil, err
	}
	p.Data, p.Digest = data, Digest(data)
	return p, nil
}

// assembleParts reads the parts and holds them to each other.
func assembleParts(files map[string][]byte) (*Package, error) {
	bad := func(format string, args ...any) (*Package, error) {
		return nil, fmt.Errorf("%w: %w", ErrPackage, fmt.Errorf(format, args...))
	}
	p := &Package{Files: files}
	for _, name := range []string{Program, config.GeneratorFile, ProvenanceFile, SBOMFile} {
		if len(files[name]) == 0 {
			return bad("it has no %s", name)
		}
	}
	p.Binary = sha256.Sum256(files[Program])
	var err error
	if p.Settings, err = p.onlySettings(); err != nil {
		return bad("%w", err)
	}
	if p.Provenance, err = parseProvenance(files[ProvenanceFile]); err != nil {
		return bad("%w", err)
	}
	if p.Provenance.Binary != p.Binary {
		return bad("%s speaks of another program: %s, and %s is %s", ProvenanceFile, p.Provenance.Binary, Program, p.Binary)
	}
	if p.Provenance.Settings != certificate.Hash(p.Settings.Digest) {
		return bad("%s speaks of other settings: %s, and these are %x", ProvenanceFile, p.Provenance.Settings, p.Settings.Digest)
	}
	info, err := buildinfo.Read(bytes.NewReader(files[Program]))
	if err != nil {
		return bad("%s says nothing of its build: %w", Program, err)
	}
	if err := p.Provenance.agrees(info); err != nil {
		return bad("%s and %s disagree: %w", ProvenanceFile, Program, err)
	}
	sbom, err := p.Provenance.sbom()
	if err != nil {
		return bad("%w", err)
	}
	if !bytes.Equal(sbom, files[SBOMFile]) {
		return bad("%s is not the list of what %s holds", SBOMFile, Program)
	}
	return p, nil
}

// onlySettings reads the settings as a build does, and refuses any file that
// they do not name: what nobody reads, nobody reviews.
func (p *Package) onlySettings() (*config.Generator, error) {
	files := p.settingsFiles()
	g, read, err := readSettings(memory(files))
	if err != nil {
		return nil, err
	}
	for _, name := range sortedKeys(files) {
		if _, named := read[name]; !named {
			return nil, fmt.Errorf("it holds %q, which nothing names", clip(name))
		}
	}
	return g, nil
}

// settingsFiles returns generator.yaml and the recipients by their names.
func (p *Package) settingsFiles() map[string][]byte {
	out := maps.Clone(p.Files)
	for _, name := range []string{Program, SBOMFile, ProvenanceFile} {
		delete(out, name)
	}
	return out
}

// readSettings reads generator.yaml and the recipients it names from a folder,
// each once, and returns their bytes.
func readSettings(folder fs.FS) (*config.Generator, map[string][]byte, error) {
	r := &recorder{from: folder, read: map[string][]byte{}}
	g, err := config.LoadGenerator(r)
	if err != nil {
		return nil, nil, err
	}
	for name := range r.read {
		if name != config.GeneratorFile && (path.Dir(name) != recipientsFolder || !strings.HasSuffix(name, ".txt")) {
			return nil, nil, fmt.Errorf("%w: a package keeps recipients in %s/: write recipients: %s/, and put %s there",
				config.ErrSettings, recipientsFolder, recipientsFolder, clip(name))
		}
	}
	// The digest is of what was read: hold both to each other.
	again, err := config.LoadGenerator(memory(r.read))
	if err != nil {
		return nil, nil, err
	}
	if again.Digest != g.Digest {
		return nil, nil, fmt.Errorf("%w: the files changed while they were read", config.ErrSettings)
	}
	return g, r.read, nil
}

const recipientsFolder = "recipients"

// encode is the one encoding of the JSON in a package: indented, for people.
func encode(v any) ([]byte, error) {
	var buf bytes.Buffer
	e := json.NewEncoder(&buf)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(v); err != nil {
		return nil, fmt.Errorf("couldn't encode: %w", err)
	}
	return buf.Bytes(), nil
}

// strict decodes JSON that encode wrote: exactly those bytes.
func strict(what string, data []byte, into any) error {
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(into); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	again, err := encode(into)
	if err != nil {
		return err
	}
	if !bytes.Equal(again, data) {
		return fmt.Errorf("%s is not in its one form", what)
	}
	return nil
}
