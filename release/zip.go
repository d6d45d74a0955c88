package release

import (
	"archive/zip"
	"bytes"
	"compress/flate"
	"fmt"
	"hash/crc32"
	"io"
	"maps"
	"slices"
)

// Bounds of a package: Lambda takes 250 MiB unzipped, ours has a tenth.
const (
	maxZip     = 64 << 20
	maxContent = 128 << 20
	maxFiles   = 128
)

// The date of every file in a package, in the zip format's own terms: the
// earliest that it can write, 1980-01-01 00:00:00.
const (
	zipDate = 1<<5 | 1
	zipTime = 0
)

// writeZip writes the one form of a package: files in the order of their
// names, one date, modes 0755 for the program and 0644 for all else, sizes and
// checksums in front of the data, no comments and no extra fields.
//
// The compressed bytes are those of compress/flate, so that packages of equal
// content are equal in their bytes when they were zipped by programs of one Go
// version. That is the version in the provenance when the command line was
// built with it, and always so when it is run with "go run".
func writeZip(files map[string][]byte) ([]byte, error) {
	raw := map[string][]byte{}
	for name, data := range files {
		var out bytes.Buffer
		w, err := flate.NewWriter(&out, flate.BestCompression)
		if err != nil {
			return nil, fmt.Errorf("couldn't zip: %w", err)
		}
		if _, err := w.Write(data); err != nil {
			return nil, fmt.Errorf("couldn't zip: %w", err)
		}
		if err := w.Close(); err != nil {
			return nil, fmt.Errorf("couldn't zip: %w", err)
		}
		raw[name] = out.Bytes()
	}
	return assemble(files, raw)
}

// assemble writes the zip around compressed data.
func assemble(files, raw map[string][]byte) ([]byte, error) {
	var out bytes.Buffer
	z := zip.NewWriter(&out)
	for _, name := range slices.Sorted(maps.Keys(files)) {
		h := &zip.FileHeader{Name: name, Method: zip.Deflate, CRC32: crc32.ChecksumIEEE(files[name]),
			CompressedSize64: uint64(len(raw[name])), UncompressedSize64: uint64(len(files[name])),
			ModifiedDate: zipDate, ModifiedTime: zipTime} //nolint:staticcheck // Modified would add an extra field
		h.SetMode(0o644)
		if name == Program {
			h.SetMode(0o755)
		}
		w, err := z.CreateRaw(h)
		if err != nil {
			return nil, fmt.Errorf("couldn't zip: %w", err)
		}
		if _, err := w.Write(raw[name]); err != nil {
			return nil, fmt.Errorf("couldn't zip: %w", err)
		}
	}
	if err := z.Close(); err != nil {
		return nil, fmt.Errorf("couldn't zip: %w", err)
	}
	return out.Bytes(), nil
}

// readZip reads a package's files. Whatever is not compressed data must be,
// byte for byte, what assemble writes around it: a zip has two directories and
// room between its parts, and two readers of another form can see two
// packages.
func readZip(data []byte) (map[string][]byte, error) {
	bad := func(format string, args ...any) (map[string][]byte, error) {
		return nil, fmt.Errorf("%w: %w", ErrPackage, fmt.Errorf(format, args...))
	}
	if len(data) > maxZip {
		return bad("%d bytes, more than %d", len(data), maxZip)
	}
	z, err := zip.NewReader(bytes.NewReader(data), int64(len(data)))
	if err != nil {
		return bad("%w", err)
	}
	if len(z.File) == 0 || len(z.File) > maxFiles {
		return bad("it holds %d files: 1 to %d are expected", len(z.File), maxFiles)
	}
	files, raw := map[string][]byte{}, map[string][]byte{}
	left := int64(maxContent)
	for _, f := range z.File {
		if f.Method != zip.Deflate || f.CompressedSize64 > maxZip || f.UncompressedSize64 > uint64(left) {
			return bad("%q is stored in another way, or too large", clip(f.Name))
		}
		if _, twice := files[f.Name]; twice {
			return bad("%q occurs twice", clip(f.Name))
		}
		compressed, err := f.OpenRaw()
		if err != nil {
			return bad("%q: %w", clip(f.Name), err)
		}
		if raw[f.Name], err = io.ReadAll(compressed); err != nil {
			return bad("%q: %w", clip(f.Name), err)
		}
		content, rest, err := inflate(raw[f.Name], int64(f.UncompressedSize64))
		if err != nil {
			return bad("%q: %w", clip(f.Name), err)
		}
		if rest > 0 {
			return bad("%q: %d bytes follow its data", clip(f.Name), rest)
		}
		files[f.Name] = content
		left -= int64(len(content))
	}
	again, err := assemble(files, raw)
	if err != nil {
		return bad("%w", err)
	}
	if !bytes.Equal(again, data) {
		return bad("the zip is not in its one form (names in order, fixed dates and modes, nothing between its parts)")
	}
	return files, nil
}

// inflate decompresses exactly size bytes and says how many compressed bytes
// were not needed.
func inflate(raw []byte, size int64) (content []byte, rest int, err error) {
	source := bytes.NewReader(raw) // an io.ByteReader: flate reads no further than it must
	r := flate.NewReader(source)
	content, err = io.ReadAll(io.LimitReader(r, size+1))
	if err != nil {
		return nil, 0, err
	}
	if int64(len(content)) != size {
		return nil, 0, fmt.Errorf("its data is not of the length that it states")
	}
	return content, source.Len(), nil
}
