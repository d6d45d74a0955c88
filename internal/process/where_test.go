package process

import (
	"errors"
	"os"
	"strings"
	"testing"
)

type value struct{ next *value }

//go:noinline
func inner(kind string) {
	switch kind {
	case "panic":
		panic("hunter2")
	case "error":
		panic(errors.New("hunter2"))
	case "nil":
		var v *value
		v.next.next = v
	case "index":
		var list []string
		_ = list[len(os.Args)]
	case "method":
		(*value)(nil).method()
	case "closure":
		func() { panic("hunter2") }()
	case "again":
		defer func() { panic(recover()) }()
		panic("hunter2")
	}
}

//go:noinline
func (v *value) method() { v.next = nil }

//go:noinline
func outer(kind string) { inner(kind) }

// TestWhere names the function that panicked, its file and its line, and
// nothing of what it held.
func TestWhere(t *testing.T) {
	for kind, first := range map[string]string{
		"panic": "process.inner (where_test.go:", "error": "process.inner (where_test.go:", "nil": "process.inner (where_test.go:",
		"index": "process.inner (where_test.go:", "method": "process.(*value).method (where_test.go:",
		"closure": "process.inner.func", "again": "process.inner.func",
	} {
		where := ""
		func() {
			defer func() {
				if recover() != nil {
					where = Where()
				}
			}()
			outer(kind)
		}()
		if !strings.HasPrefix(where, "github.com/stakeseal/stakeseal/internal/"+first) {
			t.Errorf("%s: %q does not begin with %q", kind, where, first)
		}
		if kind != "again" && !strings.Contains(where, "process.outer (where_test.go:") && !strings.Contains(where, "process.inner (where_test.go:") {
			t.Errorf("%s: %q does not say who called", kind, where)
		}
		if strings.Contains(where, "hunter2") || strings.Contains(where, "0x") || strings.Contains(where, "/where_test.go") || strings.Count(where, " in ") > 2 {
			t.Errorf("%s: %q says too much", kind, where)
		}
	}
	if where := Where(); where != "" {
		t.Errorf("without a panic: %q", where)
	}
	// Deep in a stack it still names the innermost.
	var deep func(int)
	deep = func(n int) {
		if n == 0 {
			outer("nil")
		}
		deep(n - 1)
	}
	func() {
		defer func() {
			_ = recover()
			if where := Where(); !strings.HasPrefix(where, "github.com/stakeseal/stakeseal/internal/process.inner ") {
				t.Errorf("deep: %q", where)
			}
		}()
		deep(1000)
	}()
}
