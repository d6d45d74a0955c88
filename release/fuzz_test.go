package release

import (
	"archive/zip"
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
)

// FuzzOpen: what opens is in its one form, and another reader of zip files sees
// the same files in it; all else is ErrPackage.
func FuzzOpen(f *testing.F) {
	small, err := writeZip(map[string][]byte{Program: []byte("x"), "generator.yaml": []byte("version: 1\n")})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(small)
	f.Add(append(bytes.Clone(small), 0))
	f.Add([]byte("PK\x05\x06" + strings.Repeat("\x00", 18)))
	f.Fuzz(func(t *testing.T, data []byte) {
		files, err := readZip(data)
		if err != nil {
			if !errors.Is(err, ErrPackage) {
				t.Fatal(err)
			}
			return
		}
		other, err := zip.NewReader(bytes.NewReader(data), int64(len(data)))
		if err != nil || len(other.File) != len(files) {
			t.Fatal(err)
		}
		for _, f := range other.File {
			r, err := f.Open()
			if err != nil {
				t.Fatal(err)
			}
			if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, files[f.Name]) {
				t.Fatalf("%q: %v", f.Name, err)
			}
		}
		if _, err := Open(data); err != nil && !errors.Is(err, ErrPackage) {
			t.Fatal(err)
		}
	})
}

// FuzzParseReport: what parses is written again as the same bytes.
func FuzzParseReport(f *testing.F) {
	for _, r := range []Report{{Schema: ReportSchema}, {Schema: ReportSchema, Attention: []Finding{{Danger, "x"}}, Base: &Base{Name: "v1"}}} {
		data, err := r.Encode()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := ParseReport(data)
		if err != nil {
			if !errors.Is(err, ErrPackage) {
				t.Fatal(err)
			}
			return
		}
		again, err := r.Encode()
		if err != nil || !bytes.Equal(again, data) {
			t.Fatalf("%v: %s", err, again)
		}
		if _, err := r.HTML(); err != nil {
			t.Fatal(err)
		}
	})
}

// FuzzParseProvenance: as above.
func FuzzParseProvenance(f *testing.F) {
	p := Provenance{Schema: ProvenanceSchema, Program: programPath, Platform: "linux/arm64", Toolchain: "go1.26.8", Compiler: Compiler{Command: "c", Version: "1"},
		Environment: fixedEnvironment("arm64"), Command: buildCommand(false), Modules: []Module{{"a.example/x", "v1.0.0", "h1:" + strings.Repeat("A", 43) + "=", ""}}}
	data, err := encode(p)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Fuzz(func(t *testing.T, data []byte) {
		p, err := parseProvenance(data)
		if err != nil {
			return
		}
		again, err := encode(p)
		if err != nil || !bytes.Equal(again, data) {
			t.Fatalf("%v: %s", err, again)
		}
		if _, err := p.sbom(); err != nil {
			t.Fatal(err)
		}
	})
}

// FuzzPointer: as above.
func FuzzPointer(f *testing.F) {
	data, err := encode(pointer{Schema: pointerSchema, Package: Digest(nil), Since: noon})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Fuzz(func(t *testing.T, data []byte) {
		at, err := parsePointer(data)
		if err != nil {
			if !errors.Is(err, ErrMixed) {
				t.Fatal(err)
			}
			return
		}
		if again, err := encode(at); err != nil || !bytes.Equal(again, data) {
			t.Fatalf("%v: %s", err, again)
		}
	})
}

// FuzzVisible: nothing that an editor hides is left, and text that hides
// nothing stays as it is.
func FuzzVisible(f *testing.F) {
	f.Add("plain\ttext\n")
	f.Add("a\u202eb\x1b[2J\x00\xff\r\n\r")
	f.Add("var a\u3164, b\u115f, c\uffa0 = 1 // \ufe0f\U000e0100\u034f\u2800")
	f.Fuzz(func(t *testing.T, text string) {
		got := visible(text)
		if strings.ContainsAny(got, "\x00\x1b\r\u202e\u2066\u200b\ufeff\u3164\u115f\uffa0\ufe0f\U000e0100\u034f\u2800") {
			t.Fatalf("%q", got)
		}
		if again := visible(got); again != got {
			t.Fatalf("%q becomes %q", got, again)
		}
	})
}
