package main

import (
	"strings"
	"testing"
	"time"
)

func TestMedian(t *testing.T) {
	for _, c := range []struct {
		of   []float64
		want float64
	}{{[]float64{3}, 3}, {[]float64{9, 1, 2}, 2}, {[]float64{4, 1, 2, 100}, 3}} {
		if got := median(c.of); got != c.want {
			t.Errorf("median of %v is %v, want %v", c.of, got, c.want)
		}
	}
	if got := median([]time.Duration{time.Second, time.Minute, 2 * time.Second}); got != 2*time.Second {
		t.Errorf("median of durations is %v", got)
	}
}

func TestNumber(t *testing.T) {
	for v, want := range map[float64]string{0.93456: "0.935", 1.84: "1.84", 18.446: "18.4", 184.4: "184", 10000: "10000", 0: "0.000"} {
		if got := number(v); got != want {
			t.Errorf("%v prints as %q, want %q", v, got, want)
		}
	}
}

// TestLastLines: programs read the lines at the end, whatever stands above.
func TestLastLines(t *testing.T) {
	var table table
	table.note("a note")
	table.add(figure{"first", 0.5, "at least 1", "clock", strings.Repeat("long words ", 40)})
	table.add(figure{"second", 250, "", "memory", "short"})
	var out strings.Builder
	if err := table.print(&out); err != nil {
		t.Fatal(err)
	}
	if !strings.HasSuffix(out.String(), "\n\nbench: first 0.500\nbench: second 250\n") {
		t.Errorf("it ends with %q", out.String()[max(0, out.Len()-80):])
	}
	for line := range strings.Lines(out.String()) {
		if len(line) > 100 {
			t.Errorf("a line of %d bytes: %s", len(line), line)
		}
	}
}

func TestChoose(t *testing.T) {
	all, err := choose("")
	if err != nil || len(all) != len(parts) {
		t.Errorf("all is %v, %v", all, err)
	}
	some, err := choose("none,scrypt")
	if err != nil || strings.Join(some, " ") != "none scrypt" {
		t.Errorf("two parts are %v, %v", some, err)
	}
	if _, err := choose("argon2"); err == nil {
		t.Error("an unknown part was chosen")
	}
}
