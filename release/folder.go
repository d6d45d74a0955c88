package release

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"

	"github.com/stakeseal/stakeseal/record"
)

// maxObject bounds what is read of a depot, bytes.
const maxObject = 64 << 20

// Folder is a store in a folder. Objects appear whole or not at all and are
// never replaced by this code; whoever may write the folder can replace them,
// which the digests and signatures notice. Modes are the umask's to say, so
// that several users of a machine can share one.
type Folder struct{ Dir string }

// Put implements Store.
func (f Folder) Put(_ context.Context, name string, data []byte) error {
	if err := record.CheckName(name); err != nil {
		return err
	}
	full := filepath.Join(f.Dir, filepath.FromSlash(name))
	if err := os.MkdirAll(filepath.Dir(full), 0o777); err != nil {
		return fmt.Errorf("couldn't write %s: %w", name, err)
	}
	if _, err := os.Lstat(full); err == nil {
		return fmt.Errorf("%s: %w", name, record.ErrExists)
	}
	if err := writeNew(full, data, 0o444); errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%s: %w", name, record.ErrExists)
	} else if err != nil {
		return err
	}
	return nil
}

// Get implements Store.
func (f Folder) Get(_ context.Context, name string) ([]byte, error) {
	if err := record.CheckName(name); err != nil {
		return nil, err
	}
	// A root: a link in the folder that leads out of it is not followed.
	root, err := os.OpenRoot(f.Dir)
	if err != nil {
		return nil, fmt.Errorf("couldn't open the folder %s: %w", f.Dir, err)
	}
	defer root.Close()
	info, err := root.Stat(path.Clean(name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s: %w", name, record.ErrNotFound)
	}
	if err != nil {
		return nil, fmt.Errorf("couldn't read %s: %w", name, err)
	}
	if !info.Mode().IsRegular() { // opening a pipe would wait for its writer
		return nil, fmt.Errorf("couldn't read %s: it is no regular file", name)
	}
	file, err := root.Open(path.Clean(name))
	if err != nil {
		return nil, fmt.Errorf("couldn't read %s: %w", name, err)
	}
	defer file.Close()
	data, err := io.ReadAll(io.LimitReader(file, maxObject+1))
	if err != nil {
		return nil, fmt.Errorf("couldn't read %s: %w", name, err)
	}
	if len(data) > maxObject {
		return nil, fmt.Errorf("couldn't read %s: it is larger than %d bytes", name, maxObject)
	}
	return data, nil
}

// writeNew writes a file that must not exist, whole, and on the disk when it
// returns: written beside its place and linked there.
func writeNew(full string, data []byte, mode fs.FileMode) error {
	temporary, err := writeBeside(full, data, mode)
	if err != nil {
		return err
	}
	defer os.Remove(temporary)
	if err := os.Link(temporary, full); err != nil {
		return fmt.Errorf("couldn't write %s: %w", full, err)
	}
	return syncDir(filepath.Dir(full))
}

// replace writes a file in the place of one that may be there: a reader sees
// the one or the other, whole.
func replace(full string, data []byte, mode fs.FileMode) error {
	temporary, err := writeBeside(full, data, mode)
	if err != nil {
		return err
	}
	if err := os.Rename(temporary, full); err != nil {
		return fmt.Errorf("couldn't write %s: %w", full, errors.Join(err, os.Remove(temporary)))
	}
	return syncDir(filepath.Dir(full))
}

func writeBeside(full string, data []byte, mode fs.FileMode) (string, error) {
	f, err := os.CreateTemp(filepath.Dir(full), ".stakeseal-new-")
	if err != nil {
		return "", fmt.Errorf("couldn't write %s: %w", full, err)
	}
	_, err = f.Write(data)
	if err = errors.Join(err, f.Chmod(mode), f.Sync(), f.Close()); err != nil {
		return "", fmt.Errorf("couldn't write %s: %w", full, errors.Join(err, os.Remove(f.Name())))
	}
	return f.Name(), nil
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
