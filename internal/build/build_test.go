package build

import (
	"crypto/sha256"
	"errors"
	"os"
	"regexp"
	"runtime/debug"
	"strings"
	"testing"
	"time"
)

func TestCheckClock(t *testing.T) {
	for _, c := range []struct {
		name string
		now  time.Time
		ok   bool
	}{
		{"the day itself", Date, true},
		{"later", Date.AddDate(3, 0, 0), true},
		{"a moment before", Date.Add(-1), false},
		{"the day before", Date.AddDate(0, 0, -1), false},
		{"an unset clock", time.Unix(0, 0), false},
		{"no time", time.Time{}, false},
		{"the same instant elsewhere", Date.In(time.FixedZone("east", 14*3600)), true},
		{"that midnight in the east, which is earlier", time.Date(Date.Year(), Date.Month(), Date.Day(), 0, 0, 0, 0, time.FixedZone("east", 14*3600)), false},
	} {
		err := CheckClock(c.now)
		if (err == nil) != c.ok || err != nil && !errors.Is(err, ErrClock) {
			t.Errorf("%s: %v", c.name, err)
		}
		if err != nil && (!strings.Contains(err.Error(), c.now.UTC().Format(time.RFC3339)) || !strings.Contains(err.Error(), Date.Format(time.DateOnly))) {
			t.Errorf("%s: the error names no times: %v", c.name, err)
		}
	}
	if Date.IsZero() || !Date.Equal(Date.Truncate(24*time.Hour)) {
		t.Errorf("%v is no day", Date)
	}
}

func TestVersion(t *testing.T) {
	if !regexp.MustCompile(`^\d+\.\d+\.\d+$`).MatchString(Version) {
		t.Errorf("version %q", Version)
	}
}

func TestCommit(t *testing.T) {
	revision := debug.BuildSetting{Key: "vcs.revision", Value: "5f0c6f0e"}
	clean, dirty := debug.BuildSetting{Key: "vcs.modified", Value: "false"}, debug.BuildSetting{Key: "vcs.modified", Value: "true"}
	for _, c := range []struct {
		settings []debug.BuildSetting
		want     string
	}{
		{nil, ""},
		{[]debug.BuildSetting{{Key: "GOOS", Value: "linux"}, revision, clean}, "5f0c6f0e"},
		{[]debug.BuildSetting{revision}, "5f0c6f0e"},
		{[]debug.BuildSetting{revision, dirty}, "5f0c6f0e-dirty"},
		{[]debug.BuildSetting{dirty, revision}, "5f0c6f0e-dirty"},
		{[]debug.BuildSetting{dirty}, ""},
	} {
		if got := commit(c.settings); got != c.want {
			t.Errorf("%v: %q, want %q", c.settings, got, c.want)
		}
	}
	if got := Commit(); strings.ContainsAny(got, " \n") {
		t.Errorf("this build's commit is %q", got)
	}
}

func TestBinaryDigest(t *testing.T) {
	path, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	program, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	got, err := BinaryDigest()
	if err != nil || got != sha256.Sum256(program) {
		t.Errorf("%x, %v", got, err)
	}
}
