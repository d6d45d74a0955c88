package release

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"

	"github.com/stakeseal/stakeseal/certificate"
)

// errByHand says that a trust file is written in a way that this code does not
// change: its owner does.
var errByHand = errors.New("the file is written in another way than stakeseal writes it")

// AddToTrust adds a signed release to a trust file. Every other line stays as
// its owner wrote it; what comes out is parsed and must say what it said
// before, and the release.
func AddToTrust(path string, r certificate.Release) error {
	return edit(path, func(t *certificate.Trust) {
		t.Releases = append([]certificate.Release{r}, t.Releases...)
	}, func(lines []string) ([]string, bool) {
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
		line := regexp.MustCompile(`^( *)- name: ["']?` + regexp.QuoteMeta(name) + `["']? *$`)
		start := slices.IndexFunc(lines, func(l string) bool { return strings.HasPrefix(l, "releases:") })
		if start < 0 {
			return nil, false
		}
		for i := start; i < len(lines); i++ {
			if m := line.FindStringSubmatch(lines[i]); m != nil {
				return slices.Insert(lines, i+1, m[1]+"  revoked: true"), true
			}
		}
		return nil, false
	})
}

// edit changes a trust file by its lines, and holds the result to the same
// change of what the file means.
func edit(path string, meaning func(*certificate.Trust), change func([]string) ([]string, bool)) error {
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
	return replace(path, out, info.Mode().Perm())
}
