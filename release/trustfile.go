package release

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"

	"github.com/stakeseal/stakeseal/certificate"
	"github.com/stakeseal/stakeseal/record"
)

// errByHand says that a trust file is written in a way that this code does not
// change: its owner does.
var errByHand = errors.New("the file is written in another way than stakeseal writes it")

// AddToTrust adds a signed release to a trust file. Every other line stays as
// its owner wrote it; what comes out is parsed and must say what it said
// before, and the release. An entry of the same package whose signatures count
// no more, since a manager's key was revoked, makes room for it.
func AddToTrust(path string, r certificate.Release) error {
	var fallen []string
	return edit(path, func(t *certificate.Trust) {
		t.Releases = slices.DeleteFunc(t.Releases, func(old certificate.Release) bool {
			gone := old.Package == r.Package && !old.Revoked && t.Stands(old) != nil
			if gone {
				fallen = append(fallen, old.Name)
			}
			return gone
		})
		t.Releases = append([]certificate.Release{r}, t.Releases...)
	}, func(lines []string) ([]string, bool) {
		for _, name := range fallen {
			var ok bool
			if lines, ok = cutEntry(lines, name); !ok {
				return nil, false
			}
		}
		at := slices.IndexFunc(lines, func(l string) bool {
			return strings.TrimRight(l, " \t") == "releases: []" || strings.TrimRight(l, " \t") == "releases:"
		})
		if at < 0 {
			if slices.ContainsFunc(lines, func(l string) bool { return strings.HasPrefix(l, "releases") }) {
				return nil, false
			}
			lines = append(lines, "releases:")
			at = len(lines) - 1
		}
		indent := "  "
		for _, l := range lines[at+1:] {
			if body := strings.TrimLeft(l, " "); strings.HasPrefix(body, "-") {
				indent = l[:len(l)-len(body)]
				break
			}
		}
		entry := strings.Split(strings.TrimSuffix(string(certificate.FormatRelease(r)), "\n"), "\n")
		for i := range entry {
			entry[i] = indent + strings.TrimPrefix(entry[i], "  ")
		}
		lines[at] = "releases:"
		return slices.Insert(lines, at+1, entry...), true
	})
}

// RevokeInTrust marks a release as revoked.
func RevokeInTrust(path, name string) error {
	return edit(path, func(t *certificate.Trust) {
		for i := range t.Releases {
			if t.Releases[i].Name == name {
				t.Releases[i].Revoked = true
			}
		}
	}, func(lines []string) ([]string, bool) {
		at, indent := findEntry(lines, name)
		if at < 0 {
			return nil, false
		}
		return slices.Insert(lines, at+1, indent+"  revoked: true"), true
	})
}

// findEntry is the first line of a release's entry, and what it is indented
// by; -1 where there is none as this code writes it.
func findEntry(lines []string, name string) (at int, indent string) {
	line := regexp.MustCompile(`^( *)- name: ["']?` + regexp.QuoteMeta(name) + `["']? *$`)
	start := slices.IndexFunc(lines, func(l string) bool { return strings.HasPrefix(l, "releases:") })
	if start < 0 {
		return -1, ""
	}
	for i := start; i < len(lines); i++ {
		if m := line.FindStringSubmatch(lines[i]); m != nil {
			return i, m[1]
		}
	}
	return -1, ""
}

// cutEntry removes a release's entry: its first line, and those indented more.
func cutEntry(lines []string, name string) ([]string, bool) {
	at, indent := findEntry(lines, name)
	if at < 0 {
		return nil, false
	}
	end := at + 1
	for end < len(lines) && strings.HasPrefix(lines[end], indent+"  ") {
		end++
	}
	return slices.Delete(lines, at, end), true
}

// edit changes a trust file by its lines, and holds the result to the same
// change of what the file means.
//
// A link is followed first: the rename would put a file in its place, and what it
// leads to, which others read, would stay as it was. Two runs at once take turns
// by a lock of the folder, since a rename gives the file another inode: otherwise
// the later one would take the earlier one's line, which may be a revocation, out
// again. An editor takes no lock; what it saved meanwhile is not overwritten.
func edit(path string, meaning func(*certificate.Trust), change func([]string) ([]string, bool)) error {
	path, err := filepath.EvalSymlinks(path)
	if err != nil {
		return err
	}
	folder, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer folder.Close() // and unlocks
	if err := syscall.Flock(int(folder.Fd()), syscall.LOCK_EX); err != nil {
		return fmt.Errorf("couldn't lock %s: %w", filepath.Dir(path), err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	want, err := certificate.ParseTrust(data)
	if err != nil {
		return err
	}
	meaning(want)
	if err := want.Check(); err != nil {
		return err
	}
	lines, ok := change(strings.Split(strings.TrimSuffix(string(data), "\n"), "\n"))
	if !ok {
		return errByHand
	}
	out := []byte(strings.Join(lines, "\n") + "\n")
	got, err := certificate.ParseTrust(out)
	if err != nil {
		return fmt.Errorf("%w (%w)", errByHand, err)
	}
	a, errA := certificate.FormatTrust(*want)
	b, errB := certificate.FormatTrust(*got)
	if err := errors.Join(errA, errB); err != nil {
		return err
	}
	if !bytes.Equal(a, b) {
		return errByHand
	}
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	if now, err := os.ReadFile(path); err != nil || !bytes.Equal(now, data) {
		return errors.Join(fmt.Errorf("%s: %w", path, record.ErrStale), err)
	}
	return replace(path, out, info.Mode().Perm())
}
