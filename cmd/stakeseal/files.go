package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// readBounded reads a file of at most max bytes.
func readBounded(path string, max int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, max+1))
	if err != nil {
		return nil, err
	}
	if int64(len(data)) > max {
		return nil, usage("", "%s is larger than %d bytes", path, max)
	}
	return data, nil
}

// writeNew writes a file that must not exist, whole or not at all.
func writeNew(path string, data []byte, mode fs.FileMode) error {
	return writeNewFunc(path, mode, func(w io.Writer) error {
		_, err := w.Write(data)
		return err
	})
}

// writeNewFunc is writeNew for what is written as a stream. The file is
// written and synced beside its place and then linked there, which fails if
// something is there; so nobody sees half of it, and nothing is overwritten.
func writeNewFunc(path string, mode fs.FileMode, write func(io.Writer) error) error {
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, newPrefix)
	if err != nil {
		return fmt.Errorf("couldn't write %s: %w", path, err)
	}
	defer os.Remove(f.Name())
	if err := errors.Join(write(f), f.Chmod(mode), f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("couldn't write %s: %w", path, err)
	}
	if err := os.Link(f.Name(), path); err != nil {
		return fmt.Errorf("couldn't write %s: %w", path, err)
	}
	return syncDir(dir)
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
