package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// outFolder is a folder of files that appears whole or not at all. Files are
// written beside their place under a hidden name; place moves them there. It
// works on a medium without hard links. A process that is killed leaves the
// hidden folder, which nobody but its owner can read; sayLeft tells of it.
type outFolder struct {
	path  string // where the files go
	temp  string // where they are until then
	there bool   // path existed, empty: a mount point, say
}

// newPrefix begins the hidden names.
const newPrefix = ".stakeseal-new-"

// sayLeft warns of what a killed run left beside the new folder: it may hold
// keys, and nobody sees it. It is not removed, as its run may be alive.
func (a *app) sayLeft(o *outFolder) { a.sayLeftIn(filepath.Dir(o.temp), o.temp, "keys") }

// sayLeftIn is sayLeft for a folder in which own is this run's.
func (a *app) sayLeftIn(dir, own, what string) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return // only a service: who may not list the folder may still write there
	}
	for _, e := range entries {
		if path := filepath.Join(dir, e.Name()); strings.HasPrefix(e.Name(), newPrefix) && path != own {
			a.say("warning: %s is of another run; if none is under way, it was left by one that was killed and may hold %s: delete it", path, what)
		}
	}
}

// newOutFolder begins a folder at path, which must not exist or be empty:
// nothing is overwritten, and two runs are never mixed.
func newOutFolder(path string) (*outFolder, error) {
	if path == "" {
		return nil, usage("name a new folder: --out DIR", "--out is missing")
	}
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("couldn't use --out: %w", err)
	}
	o := &outFolder{path: path}
	above := filepath.Dir(path)
	entries, err := os.ReadDir(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return nil, fmt.Errorf("couldn't use --out: %w", err)
	case len(entries) > 0:
		return nil, fail(exitConflict, "choose a new or empty folder: nothing is overwritten or mixed", "%s is not empty: it holds %s", path, entries[0].Name())
	default:
		o.there, above = true, path
	}
	if o.temp, err = os.MkdirTemp(above, newPrefix); err != nil { // mode 0700
		return nil, fmt.Errorf("couldn't make a folder: %w", err)
	}
	return o, nil
}

// write writes a new file, mode 0400, synced. name may be in folders, which
// are made, mode 0700.
func (o *outFolder) write(name string, data []byte) error { return o.writeMode(name, data, 0o400) }

func (o *outFolder) writeMode(name string, data []byte, mode fs.FileMode) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("couldn't write %s: %w", name, err)
		}
	}()
	if dir := filepath.Dir(name); dir != "." {
		if err := os.MkdirAll(filepath.Join(o.temp, dir), 0o700); err != nil {
			return err
		}
	}
	f, err := os.OpenFile(filepath.Join(o.temp, name), os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	return errors.Join(err, f.Sync(), f.Close())
}

// place moves what was written to where it belongs.
func (o *outFolder) place() error {
	err := filepath.WalkDir(o.temp, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.IsDir() {
			return err
		}
		return syncDir(path)
	})
	switch {
	case err != nil:
	case o.there:
		err = o.fill()
	default:
		err = os.Rename(o.temp, o.path) // refuses a folder that came to be meanwhile
	}
	if err == nil {
		err = syncDir(filepath.Dir(o.path))
	}
	if err != nil {
		return fmt.Errorf("couldn't put the files into place: %w", err)
	}
	return nil
}

// fill moves everything up into the folder that was there. What fails is
// undone.
func (o *outFolder) fill() error {
	entries, err := os.ReadDir(o.temp)
	if err != nil {
		return err
	}
	var moved []string
	for _, e := range entries {
		to := filepath.Join(o.path, e.Name())
		if _, err = os.Lstat(to); err == nil {
			err = &fs.PathError{Op: "move", Path: to, Err: fs.ErrExist}
		} else if errors.Is(err, fs.ErrNotExist) {
			err = os.Rename(filepath.Join(o.temp, e.Name()), to)
		}
		if err != nil {
			break
		}
		moved = append(moved, e.Name())
	}
	if err != nil {
		for _, name := range moved {
			err = errors.Join(err, os.Rename(filepath.Join(o.path, name), filepath.Join(o.temp, name)))
		}
		return err
	}
	return errors.Join(syncDir(o.path), os.Remove(o.temp))
}

// discard removes what was not placed. After place it does nothing.
func (o *outFolder) discard() { _ = os.RemoveAll(o.temp) }
