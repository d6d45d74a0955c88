package main

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

// names lists a folder, hidden files too.
func namesIn(t *testing.T, dir string) (list []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		list = append(list, e.Name())
	}
	return list
}

// A folder appears whole or not at all, and nothing is left of one that was
// given up.
func TestOutFolder(t *testing.T) {
	for _, there := range []bool{false, true} {
		above := t.TempDir()
		path := filepath.Join(above, "out")
		if there {
			if err := os.Mkdir(path, 0o700); err != nil {
				t.Fatal(err)
			}
		}
		begin := func() *outFolder {
			o, err := newOutFolder(path)
			if err != nil {
				t.Fatal(err)
			}
			for _, name := range []string{"a.json", "keys/b.json"} {
				if err := o.write(name, []byte(name)); err != nil {
					t.Fatal(err)
				}
			}
			if err := o.write("a.json", nil); !errors.Is(err, os.ErrExist) {
				t.Errorf("the same name twice: %v", err)
			}
			if _, err := os.Stat(filepath.Join(path, "a.json")); err == nil {
				t.Error("a file stands before all do")
			}
			return o
		}
		begin().discard()
		if list := namesIn(t, above); there && len(list) != 1 || !there && len(list) != 0 {
			t.Errorf("after giving up there is %q", list)
		}

		o := begin()
		if err := o.place(); err != nil {
			t.Fatal(err)
		}
		o.discard()
		if list := namesIn(t, path); len(list) != 2 {
			t.Errorf("in place there is %q", list)
		}
		if list := namesIn(t, above); len(list) != 1 {
			t.Errorf("beside it there is %q", list)
		}
		for name, mode := range map[string]os.FileMode{"a.json": 0o400, "keys": 0o700, "keys/b.json": 0o400} {
			info, err := os.Stat(filepath.Join(path, name))
			if err != nil || info.Mode().Perm() != mode {
				t.Errorf("%s: %v, %v", name, info.Mode(), err)
			}
		}
		if _, err := newOutFolder(path); verdictOf(err) != exitConflict {
			t.Errorf("into a full folder: %v", err)
		}
	}
}

func verdictOf(err error) int {
	if err == nil {
		return 0
	}
	code, _ := verdict(err)
	return code
}

// Whatever came to stand in the way meanwhile is left alone, and nothing is
// half moved.
func TestOutFolderInTheWay(t *testing.T) {
	for _, there := range []bool{false, true} {
		path := filepath.Join(t.TempDir(), "out")
		if there {
			if err := os.Mkdir(path, 0o700); err != nil {
				t.Fatal(err)
			}
		}
		o, err := newOutFolder(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"a", "b", "c"} {
			if err := o.write(name, []byte("ours")); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.MkdirAll(path, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(path, "b"), []byte("theirs"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := o.place(); !errors.Is(err, os.ErrExist) {
			t.Fatalf("placed over %v", err)
		}
		o.discard()
		if list := namesIn(t, path); len(list) != 1 || list[0] != "b" {
			t.Errorf("in place there is %q", list)
		}
		if b, err := os.ReadFile(filepath.Join(path, "b")); err != nil || string(b) != "theirs" {
			t.Errorf("theirs is now %q, %v", b, err)
		}
	}
}
