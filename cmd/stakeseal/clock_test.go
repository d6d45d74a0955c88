package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stakeseal/stakeseal/internal/build"
)

// TestClock: a clock that says a day before this program existed is wrong, and
// would write its error into every certificate: no order is placed.
func TestClock(t *testing.T) {
	home := filepath.Join(t.TempDir(), "home")
	a, _, words := newApp(time.Now())
	if code := a.run(t.Context(), []string{"init", "--home", home, "--network", "hoodi", "--withdrawal-address", testAddress}); code != 0 {
		t.Fatalf("init ended with %d: %s", code, words)
	}
	store := filepath.Join(home, "records.db")
	before, err := os.ReadFile(store)
	if err != nil {
		t.Fatal(err)
	}
	for _, now := range []time.Time{{}, time.Unix(0, 0), build.Date.AddDate(-1, 0, 0), build.Date.Add(-time.Second)} {
		for _, line := range []string{"generate --count 1 --yes", "generate --count 1 --yes --json", "generate --resume first"} {
			a, out, words := newApp(now)
			code := a.run(t.Context(), append(strings.Fields(line), "--home", home))
			if code != exitUsage || out.Len() > 0 || !strings.Contains(words.String(), "error: the clock is wrong: it says "+now.UTC().Format(time.RFC3339)) ||
				!strings.Contains(words.String(), "hint: set the clock") {
				t.Errorf("%v: %s: exit code %d, stdout %q, stderr %q", now, line, code, out, words)
			}
		}
		a, out, words := newApp(now)
		if code := a.run(t.Context(), []string{"doctor", "--home", home}); code != exitRefused || !strings.Contains(out.String(), "clock") || !strings.Contains(words.String(), "hint: clock: set it") {
			t.Errorf("%v: doctor: exit code %d, stdout %q, stderr %q", now, code, out, words)
		}
	}
	after, err := os.ReadFile(store)
	if err != nil || string(before) != string(after) {
		t.Errorf("the store was changed (%v)", err)
	}
	// On its day it is right; what is wrong then is that a test is no
	// stakeseal with a generator beside it.
	a, _, words = newApp(build.Date)
	if code := a.run(t.Context(), []string{"generate", "--count", "1", "--yes", "--home", home}); code != exitUsage || !strings.Contains(words.String(), "couldn't find the generator") {
		t.Errorf("on the day itself: exit code %d, stderr %q", code, words)
	}
}
