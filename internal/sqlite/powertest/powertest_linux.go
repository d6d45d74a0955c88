// Package powertest cuts the power under SQLite, for tests. It puts itself
// between SQLite and the files of this process (as its default VFS) and keeps
// an image of each file as of its last sync: what a disk is bound to have kept.
// Whoever kills the process then puts the images where the files are.
//
// A kill alone shows nothing of this: what was written and never synced is in
// the kernel's cache, which outlives every process.
package powertest

// #include <stdlib.h>
// int powertest_install(const char *images);
import "C"

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"unsafe"

	_ "github.com/mattn/go-sqlite3" // the SQLite that it goes under
)

// Install makes every database that this process opens from now on keep its
// images in a folder. The process runs to its end with it.
func Install(images string) error {
	path := C.CString(images)
	defer C.free(unsafe.Pointer(path))
	if code := C.powertest_install(path); code != 0 {
		return fmt.Errorf("couldn't go under SQLite: code %d", code)
	}
	return nil
}

// Sector is what a disk writes whole or not at all.
const Sector = 512

// Cut puts images of the files of dir in their place, as if the power had gone:
// a file without an image was never synced, and is gone. Of each sector that
// differs, kept says whether the disk had written it all the same.
func Cut(dir, images string, kept func() bool) error {
	files, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, f := range files {
		if !f.Type().IsRegular() {
			continue
		}
		path := filepath.Join(dir, f.Name())
		image, err := os.ReadFile(filepath.Join(images, f.Name()))
		if os.IsNotExist(err) {
			if err := os.Remove(path); err != nil {
				return err
			}
			continue
		}
		live, e := os.ReadFile(path)
		if err != nil || e != nil {
			return fmt.Errorf("couldn't read an image or its file: %w, %w", err, e)
		}
		if err := os.WriteFile(path, mix(image, live, kept), 0o600); err != nil {
			return err
		}
	}
	return nil
}

// mix is the image with those sectors of the live file that were kept.
func mix(image, live []byte, kept func() bool) []byte {
	if len(live) > len(image) { // how far it had grown is kept or not as well
		if kept() {
			image = append(image, make([]byte, len(live)-len(image))...)
		}
	}
	for at := 0; at < min(len(image), len(live)); at += Sector {
		end := min(at+Sector, len(image), len(live))
		if string(image[at:end]) != string(live[at:end]) && kept() {
			copy(image[at:end], live[at:end])
		}
	}
	return image
}

// Settle makes what is in dir the images: everything there is on the disk.
func Settle(dir, images string) error {
	if err := os.RemoveAll(images); err != nil {
		return err
	}
	if err := os.Mkdir(images, 0o700); err != nil {
		return err
	}
	return filepath.WalkDir(dir, func(path string, f fs.DirEntry, err error) error {
		if err != nil || !f.Type().IsRegular() {
			return err
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(images, f.Name()), data, 0o600)
	})
}
