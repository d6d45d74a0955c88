package identity

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"filippo.io/age"
	"filippo.io/age/armor"

	"github.com/stakeseal/stakeseal/secret"
)

// workFactor is log2 of scrypt's N: 256 MiB and about a second for each guess,
// what age -p uses. Tests lower it.
var workFactor = 18

// WriteNew writes an identity file that must not exist yet (fs.ErrExist), mode
// 0600, and returns when file and folder are on disk. With a passphrase the
// file is encrypted as age -p does and armored; nil means in the clear, while
// an empty one is an error, so that an unanswered prompt protects nothing in
// silence. What Load could not read is not written.
//
// The file appears under its name whole or not at all, also across a crash: it
// is written beside it, under a hidden name, and linked. A crash may leave the
// hidden one, mode 0600. A file system without hard links gives an error. Both
// arguments stay the caller's to wipe.
func WriteNew(path string, file, passphrase *secret.Bytes) error {
	if err := writeNew(path, file, passphrase); err != nil {
		return fmt.Errorf("couldn't write identity file %q: %w", path, err)
	}
	return nil
}

func writeNew(path string, file, passphrase *secret.Bytes) (err error) {
	if file.Len() > maxFile/2 {
		return fmt.Errorf("%w: %d bytes", ErrFormat, file.Len())
	}
	// Plugin identities are checked for their shape only, when read.
	if err := check(file.Expose()); err != nil {
		return err
	}
	data := file.Expose()
	if passphrase != nil {
		if data, err = encrypt(file, passphrase); err != nil {
			return err
		}
	}
	// Asked early for a clear answer; the link below is what decides.
	if _, err := os.Lstat(path); err == nil {
		return fs.ErrExist
	}

	dir := filepath.Dir(path)
	hidden := filepath.Join(dir, "."+filepath.Base(path)+"."+strings.ToLower(rand.Text()[:10]))
	f, err := os.OpenFile(hidden, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return withoutPath(err)
	}
	defer func() {
		if e := os.Remove(hidden); e != nil && err == nil {
			err = fmt.Errorf("it is written, but also stands under %q: %w", hidden, withoutPath(e))
		}
	}()
	if err := fill(f, data); err != nil {
		return withoutPath(err)
	}
	if err := os.Link(hidden, path); err != nil {
		if l, ok := errors.AsType[*os.LinkError](err); ok {
			err = l.Err
		}
		return err
	}
	if err := syncFolder(dir); err != nil {
		// Not known to be durable: whoever seals to it now could lose it.
		if e := os.Remove(path); e != nil {
			return errors.Join(withoutPath(err), withoutPath(e))
		}
		return withoutPath(err)
	}
	return nil
}

// fill writes, syncs and closes f.
func fill(f *os.File, data []byte) error {
	_, err := f.Write(data)
	if err == nil {
		err = f.Chmod(0o600) // whatever the umask took
	}
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

func syncFolder(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// check refuses what Load would refuse, plugins aside.
func check(text []byte) error {
	found := false
	for line := range bytes.Lines(text) {
		line = bytes.TrimRight(line, "\r\n")
		if len(line) == 0 || line[0] == '#' {
			continue
		}
		found = true
		if bytes.HasPrefix(line, []byte("AGE-PLUGIN-")) {
			if _, err := pluginName(string(line)); err != nil {
				return err
			}
			continue
		}
		if _, err := new(loader).one("", line); err != nil {
			return err
		}
	}
	if !found {
		return fmt.Errorf("%w: it has no identity", ErrFormat)
	}
	return nil
}

// encrypt returns ciphertext. The passphrase becomes a string inside age.
func encrypt(file, passphrase *secret.Bytes) ([]byte, error) {
	if passphrase.Len() == 0 {
		return nil, fmt.Errorf("%w: it is empty", ErrPassphrase)
	}
	r, err := age.NewScryptRecipient(string(passphrase.Expose()))
	if err != nil {
		return nil, fmt.Errorf("%w: it can't be used", ErrPassphrase)
	}
	r.SetWorkFactor(workFactor)
	var out bytes.Buffer
	a := armor.NewWriter(&out)
	w, err := age.Encrypt(a, r)
	if err != nil {
		return nil, err
	}
	if _, err := w.Write(file.Expose()); err != nil {
		return nil, err
	}
	if err := errors.Join(w.Close(), a.Close()); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}
