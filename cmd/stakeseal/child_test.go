package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestCheckProgram: a program that others can change makes no keys, and the hint
// is the command that mends it.
func TestCheckProgram(t *testing.T) {
	dir := t.TempDir()
	bin, elsewhere := filepath.Join(dir, "bin"), filepath.Join(dir, "elsewhere")
	for _, d := range []string{bin, elsewhere} {
		if err := os.Mkdir(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	program, linked := filepath.Join(bin, "generator"), filepath.Join(elsewhere, "generator")
	link := filepath.Join(bin, "link")
	for _, p := range []string{program, linked} {
		if err := os.WriteFile(p, []byte("x"), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(linked, link); err != nil {
		t.Fatal(err)
	}
	// A group that is not root's: as another user than root any of ours is.
	group := os.Getegid()
	if os.Geteuid() == 0 {
		group = 4242
	}
	for _, p := range []string{program, bin, linked, elsewhere} {
		if err := os.Lchown(p, -1, group); err != nil {
			t.Fatal(err)
		}
	}
	for what, c := range map[string]struct {
		path  string
		mode  os.FileMode
		check string
		hint  string // "": it is fine
	}{
		"only ours":              {program, 0o755, program, ""},
		"everybody's":            {program, 0o757, program, "chmod go-w " + program},
		"a group's":              {program, 0o770, program, "chmod g-w " + program},
		"everybody's folder":     {bin, 0o777, program, "chmod go-w " + bin},
		"a group's folder":       {bin, 0o775, program, "chmod g-w " + bin},
		"a link to ours":         {linked, 0o755, link, ""},
		"a link to everybody's":  {linked, 0o777, link, "chmod go-w " + link},
		"a link into another's":  {elsewhere, 0o777, link, "chmod go-w " + elsewhere},
		"a link into a group's":  {elsewhere, 0o775, link, "chmod g-w " + elsewhere},
		"a sticky shared folder": {bin, 0o777 | os.ModeSticky, program, ""},
	} {
		was, err := os.Stat(c.path)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(c.path, c.mode); err != nil {
			t.Fatal(err)
		}
		err = checkProgram(c.check)
		if err := os.Chmod(c.path, was.Mode()); err != nil {
			t.Fatal(err)
		}
		f, _ := err.(*failure)
		if c.hint == "" && err != nil || c.hint != "" && (f == nil || f.hint != c.hint || f.code != exitUsage || !strings.Contains(err.Error(), "it makes keys")) {
			t.Errorf("%s: %v, hint %+v", what, err, f)
		}
	}
	if err := checkProgram(filepath.Join(bin, "none")); err == nil {
		t.Error("a program that is not there")
	}
}
