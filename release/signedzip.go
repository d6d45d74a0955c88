package release

import (
	"archive/zip"
	"bytes"
	"fmt"
	"io"
	"strings"
)

// signatureFolder is where AWS Signer puts its signature in a zip for Lambda.
// Nothing of the generator reads it.
const signatureFolder = "META-INF/"

// VerifySigned holds a zip that AWS Signer has signed to the package it was
// given: every file with the same content, and beside them only the signature.
// The zip around them is Signer's; that Lambda unpacks what stands in its
// directory is what is trusted here, and files twice or outside are refused.
func (p *Package) VerifySigned(data []byte) error {
	bad := func(format string, args ...any) error {
		return fmt.Errorf("%w: the signed object: %w", ErrMixed, fmt.Errorf(format, args...))
	}
	if len(data) > maxZip {
		return bad("%d bytes, more than %d", len(data), maxZip)
	}
	z, err := zip.NewReader(bytes.NewReader(data), int64(len(data)))
	if err != nil {
		return bad("%w", err)
	}
	seen := map[string]bool{}
	for _, f := range z.File {
		if seen[f.Name] {
			return bad("%q occurs twice", clip(f.Name))
		}
		seen[f.Name] = true
		want, ours := p.Files[f.Name]
		if !ours {
			if strings.HasPrefix(f.Name, signatureFolder) && !strings.Contains(f.Name, "..") {
				continue
			}
			return bad("it holds %q, which the package does not", clip(f.Name))
		}
		if f.UncompressedSize64 != uint64(len(want)) {
			return bad("%q is another than the package's", f.Name)
		}
		if f.Name == Program && f.Mode()&0o111 == 0 {
			return bad("%q cannot be run", f.Name)
		}
		r, err := f.Open()
		if err != nil {
			return bad("%q: %w", f.Name, err)
		}
		got, err := io.ReadAll(io.LimitReader(r, int64(len(want))+1))
		r.Close()
		if err != nil {
			return bad("%q: %w", f.Name, err)
		}
		if !bytes.Equal(got, want) {
			return bad("%q is another than the package's", f.Name)
		}
	}
	for name := range p.Files {
		if !seen[name] {
			return bad("%q is missing", name)
		}
	}
	return nil
}
