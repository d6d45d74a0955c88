// Package folder is an archive in a folder: one file per object.
//
// It promises what record.Archive asks: an object appears whole or not at
// all, is never replaced, and is on the disk with every folder above it when
// Put returns. Files have mode 0400 and folders 0700. No name leads out of
// the folder, whatever links lie in it (os.Root).
//
// It trusts the file system to keep what fsync acknowledged and to link
// atomically. Whoever can write the folder can change objects: the
// certificates and the store stand against that.
package folder

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/stakeseal/stakeseal/record"
)

// Sentinels beside those of record; a folder that is missing is
// fs.ErrNotExist.
var (
	ErrNotAnArchive = errors.New("not a stakeseal archive")
	ErrReadOnly     = errors.New("archive cannot be written")
	ErrFull         = errors.New("no room left for the archive")
)

var _ record.Archive = (*Archive)(nil)

// No object's name has a '~', so these collide with none.
const (
	marker     = "archive~"     // makes a folder an archive: an empty mount point is none
	tempPrefix = "~"            // of files that are being written, or were when a process died
	stale      = 24 * time.Hour // the age at which such a file is of a dead process
)

var markerText = []byte("stakeseal archive v1\n")

// Archive is an open folder. Its methods are safe for concurrent use.
type Archive struct {
	root  *os.Root
	fsync func(dir string) error // a test watches it

	mu    sync.Mutex
	syncs map[string]*syncer // by folder
	known map[string]bool    // folders whose own entry is on the disk
}

// Create makes dir an empty archive and opens it. The folder must not exist
// or must be empty (the mount point of a new disk); else ErrExists.
func Create(dir string) (*Archive, error) {
	a, err := create(dir)
	if err != nil {
		return nil, fmt.Errorf("couldn't create archive %q: %w", dir, classify(err))
	}
	return a, nil
}

func create(dir string) (*Archive, error) {
	if err := os.Mkdir(dir, 0o700); errors.Is(err, fs.ErrExist) {
		entries, err := os.ReadDir(dir)
		if err != nil && !errors.Is(err, syscall.ENOTDIR) {
			return nil, err
		}
		if err != nil || slices.ContainsFunc(entries, func(e fs.DirEntry) bool { return !strings.HasPrefix(e.Name(), tempPrefix) }) {
			return nil, record.ErrExists
		}
	} else if err != nil {
		return nil, err
	}
	parent, err := os.OpenRoot(filepath.Dir(filepath.Clean(dir)))
	if err != nil {
		return nil, err
	}
	defer parent.Close()
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	a := opened(root)
	err = a.write(marker, markerText)
	if errors.Is(err, fs.ErrExist) { // another was faster
		err = record.ErrExists
	}
	if err == nil {
		err = fsync(parent, ".")
	}
	if err != nil {
		return nil, errors.Join(err, a.Close())
	}
	return a, nil
}

// Open opens an archive that Create made. It never makes one: the folder of a
// disk that is not mounted is ErrNotAnArchive.
func Open(dir string) (*Archive, error) {
	a, err := open(dir)
	if err != nil {
		return nil, fmt.Errorf("couldn't open archive %q: %w", dir, classify(err))
	}
	return a, nil
}

func open(dir string) (*Archive, error) {
	info, err := os.Stat(dir)
	if err != nil {
		return nil, err
	}
	if !info.IsDir() {
		return nil, fmt.Errorf("%w: not a folder", ErrNotAnArchive)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	a := opened(root)
	text, err := a.read(marker)
	if errors.Is(err, fs.ErrNotExist) || err == nil && string(text) != string(markerText) {
		err = fmt.Errorf("%w: no file %q that says so", ErrNotAnArchive, marker)
	}
	if err == nil {
		err = a.tidy()
	}
	if err != nil {
		return nil, errors.Join(err, a.Close())
	}
	return a, nil
}

func opened(root *os.Root) *Archive {
	return &Archive{
		root:  root,
		fsync: func(dir string) error { return fsync(root, dir) },
		syncs: map[string]*syncer{},
		known: map[string]bool{".": true},
	}
}

// Close closes the archive.
func (a *Archive) Close() error { return a.root.Close() }

// tidy removes what dead processes left. A file of a living one that takes
// longer than a day to write is lost, and its Put fails.
func (a *Archive) tidy() error {
	dir, err := a.root.Open(".")
	if err != nil {
		return err
	}
	defer dir.Close()
	for {
		entries, err := dir.ReadDir(256)
		for _, e := range entries {
			info, statErr := e.Info()
			if strings.HasPrefix(e.Name(), tempPrefix) && statErr == nil && info.Mode().IsRegular() && time.Since(info.ModTime()) > stale {
				_ = a.root.Remove(e.Name()) // harmless if it stays
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// Put implements record.Archive.
func (a *Archive) Put(ctx context.Context, name string, data []byte) error {
	err := record.CheckName(name)
	if err == nil {
		err = ctx.Err()
	}
	if err == nil {
		err = a.put(name, data)
	}
	if err != nil {
		return fmt.Errorf("couldn't archive %q: %w", name, classify(err))
	}
	return nil
}

func (a *Archive) put(name string, data []byte) error {
	if err := a.folders(path.Dir(name)); err != nil {
		return err
	}
	if a.holds(name) { // spare the writing; link decides
		return a.exists(name)
	}
	if err := a.write(name, data); errors.Is(err, fs.ErrExist) {
		return a.exists(name)
	} else if err != nil {
		return err
	}
	return nil
}

func (a *Archive) holds(name string) bool {
	info, err := a.root.Lstat(name)
	return err == nil && info.Mode().IsRegular()
}

// exists returns ErrExists once the object's entry is on the disk: another
// process may have linked it and not yet synced, and the caller goes on as if
// it were archived.
func (a *Archive) exists(name string) error {
	if !a.holds(name) {
		return fmt.Errorf("%q is not a file", name) // a folder of other objects
	}
	if err := a.sync(path.Dir(name)); err != nil {
		return err
	}
	return record.ErrExists
}

// folders makes the folder of an object, and sees to it that its entry and
// that of every folder above it are on the disk, by whomever they were made.
func (a *Archive) folders(dir string) error {
	a.mu.Lock()
	known := a.known[dir]
	a.mu.Unlock()
	if known {
		return nil
	}
	above := path.Dir(dir)
	if err := a.folders(above); err != nil {
		return err
	}
	if err := a.root.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	if err := a.sync(above); err != nil {
		return err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.known[dir] = true
	return nil
}

// write makes the file name, whole and durable, or fails with fs.ErrExist.
// The content is synced before the link gives it its name, so that no crash
// leaves a name on half an object.
func (a *Archive) write(name string, data []byte) (err error) {
	temp := tempPrefix + rand.Text()
	f, err := a.root.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o400)
	if err != nil {
		return err
	}
	defer func() {
		if e := a.root.Remove(temp); err == nil {
			err = e
		}
	}()
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := a.root.Link(temp, name); err != nil {
		return err
	}
	return a.sync(path.Dir(name))
}

// Get implements record.Archive.
func (a *Archive) Get(ctx context.Context, name string) ([]byte, error) {
	err := record.CheckName(name)
	if err == nil {
		err = ctx.Err()
	}
	var data []byte
	if err == nil {
		data, err = a.read(name)
	}
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) || errors.Is(err, syscall.EISDIR) {
		err = record.ErrNotFound
	}
	if err != nil {
		return nil, fmt.Errorf("couldn't read %q of the archive: %w", name, err)
	}
	return data, nil
}

func (a *Archive) read(name string) ([]byte, error) {
	f, err := a.root.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0) // a pipe put there must not hang us
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if info.IsDir() {
		return nil, syscall.EISDIR
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%w: not a regular file", record.ErrCorrupt)
	}
	return io.ReadAll(f)
}

// syncer syncs one folder for many at once: whoever asks while a sync runs is
// served by the next one, which begins after they asked.
type syncer struct {
	running sync.Mutex
	mu      sync.Mutex
	next    *pass
}

type pass struct {
	once sync.Once
	err  error
}

// sync returns when all that was linked in dir before the call is on the
// disk.
func (a *Archive) sync(dir string) error {
	a.mu.Lock()
	s := a.syncs[dir]
	if s == nil {
		s = &syncer{}
		a.syncs[dir] = s
	}
	a.mu.Unlock()
	return s.sync(func() error { return a.fsync(dir) })
}

func (s *syncer) sync(run func() error) error {
	s.mu.Lock()
	if s.next == nil {
		s.next = &pass{}
	}
	p := s.next
	s.mu.Unlock()

	p.once.Do(func() { // the others of this pass wait here for the first
		s.running.Lock()
		defer s.running.Unlock()
		s.mu.Lock()
		s.next = nil // whoever comes from now on may have linked too late for it
		s.mu.Unlock()
		p.err = run()
	})
	return p.err
}

// fsync syncs a folder of root.
func fsync(root *os.Root, dir string) error {
	f, err := root.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// classify adds the sentinel that an error of the file system stands for.
func classify(err error) error {
	switch {
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT), errors.Is(err, syscall.EFBIG):
		return fmt.Errorf("%w: %w", ErrFull, err)
	case errors.Is(err, syscall.EROFS), errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%w: %w", ErrReadOnly, err)
	}
	return err
}
