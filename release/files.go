package release

import (
	"bytes"
	"fmt"
	"io"
	"io/fs"
	"path"
	"time"
)

// memory is files by name, as a folder.
type memory map[string][]byte

// Open implements fs.FS.
func (m memory) Open(name string) (fs.File, error) {
	data, ok := m[name]
	if !ok || !fs.ValidPath(name) {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	return &memoryFile{bytes.NewReader(data), path.Base(name), int64(len(data))}, nil
}

type memoryFile struct {
	*bytes.Reader
	name string
	size int64
}

func (f *memoryFile) Stat() (fs.FileInfo, error) { return memoryInfo{f.name, f.size}, nil }
func (f *memoryFile) Close() error               { return nil }

type memoryInfo struct {
	name string
	size int64
}

func (i memoryInfo) Name() string       { return i.name }
func (i memoryInfo) Size() int64        { return i.size }
func (i memoryInfo) Mode() fs.FileMode  { return 0o444 }
func (i memoryInfo) ModTime() time.Time { return time.Time{} }
func (i memoryInfo) IsDir() bool        { return false }
func (i memoryInfo) Sys() any           { return nil }

// recorder keeps what was read of a folder: a package holds the very bytes
// that were parsed.
type recorder struct {
	from fs.FS
	read map[string][]byte
}

// Open reads the file, once.
func (r *recorder) Open(name string) (fs.File, error) {
	if data, ok := r.read[name]; ok {
		return memory{name: data}.Open(name)
	}
	info, err := fs.Stat(r.from, name)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() { // the reader says what is wrong with it
		return r.from.Open(name)
	}
	f, err := r.from.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	const most = 1 << 20
	data, err := io.ReadAll(io.LimitReader(f, most+1))
	if err != nil {
		return nil, err
	}
	if len(data) > most {
		return nil, fmt.Errorf("%s is larger than %d bytes", name, most)
	}
	r.read[name] = data
	return memory{name: data}.Open(name)
}
