// Package build says which build of stakeseal is running.
package build

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"time"
)

// Version is the release that this source is of, or leads to.
const Version = "0.1.0"

// Date is a day before which this source did not exist. A clock that is
// earlier is wrong, and would write its error into every certificate.
var Date = time.Date(2026, 11, 22, 0, 0, 0, 0, time.UTC)

// ErrClock says that the machine's clock cannot be right.
var ErrClock = errors.New("the clock is wrong")

// CheckClock refuses a time before this source existed.
func CheckClock(now time.Time) error {
	if now.Before(Date) {
		return fmt.Errorf("%w: it says %s, and this program is of %s", ErrClock,
			now.UTC().Format(time.RFC3339), Date.Format(time.DateOnly))
	}
	return nil
}

// Commit returns the version-control revision of the build, with "-dirty"
// when the tree had changes, or "" where the build does not say.
func Commit() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return ""
	}
	return commit(info.Settings)
}

func commit(settings []debug.BuildSetting) string {
	revision, dirty := "", ""
	for _, s := range settings {
		switch {
		case s.Key == "vcs.revision":
			revision = s.Value
		case s.Key == "vcs.modified" && s.Value == "true":
			dirty = "-dirty"
		}
	}
	if revision == "" {
		return ""
	}
	return revision + dirty
}

// BinaryDigest hashes the program file that is running.
func BinaryDigest() (digest [32]byte, err error) {
	path, err := os.Executable()
	if err != nil {
		return digest, fmt.Errorf("couldn't find the running program: %w", err)
	}
	f, err := os.Open(path)
	if err != nil {
		return digest, fmt.Errorf("couldn't hash the running program: %w", err)
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return digest, fmt.Errorf("couldn't hash the running program: %w", err)
	}
	h.Sum(digest[:0])
	return digest, nil
}
