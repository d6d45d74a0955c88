package main

import (
	"crypto/sha256"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/rogpeppe/go-internal/testscript"
)

// scriptCommandsRefused are the script commands of the bad-input scripts.
var scriptCommandsRefused = map[string]func(ts *testscript.TestScript, neg bool, args []string){
	"refused": refused, "unprivileged": unprivileged, "programs": programsCommand, "put": put, "more": more, "grown": grown, "behind": behind,
}

func init() { moreCommands = append(moreCommands, scriptCommandsRefused) }

// refused runs stakeseal and demands a refusal as a person and a script want
// it: refused CODE PATTERN ARGS... The exit code is exact; stdout is empty;
// stderr has one error line, which matches PATTERN, and a hint, and nothing of
// Go's; no file in the script's folder came, went or changed. Then the same
// with --json.
func refused(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 3 {
		ts.Fatalf("usage: refused CODE PATTERN ARGS...")
	}
	refusedBy(ts, args[0], args[1], append([]string{"stakeseal"}, args[2:]...))
}

func refusedBy(ts *testscript.TestScript, code, pattern string, args []string) {
	before := treeOf(ts, ts.MkAbs("."))
	lines := [][]string{args}
	if !slices.Contains(args, "--json") {
		lines = append(lines, slices.Concat(args, []string{"--json"}))
	}
	for _, line := range slices.Backward(lines) { // the plain one last, for what follows in the script
		exits(ts, false, append([]string{code}, line...))
		if out := ts.ReadFile("stdout"); out != "" {
			ts.Fatalf("stdout: %q", out)
		}
		checkRefusal(ts, ts.ReadFile("stderr"), pattern)
		after := treeOf(ts, ts.MkAbs("."))
		for path := range maps.Keys(after) {
			if before[path] != after[path] {
				ts.Fatalf("%s came or changed", path)
			}
		}
		if len(before) != len(after) {
			ts.Fatalf("files have gone: %d, were %d", len(after), len(before))
		}
	}
}

var errorLine = regexp.MustCompile(`(?m)^stakeseal: error: (.*)$`)

func checkRefusal(ts *testscript.TestScript, words, pattern string) {
	found := errorLine.FindAllStringSubmatch(words, -1)
	if len(found) != 1 {
		ts.Fatalf("%d error lines, want 1", len(found))
	}
	if !regexp.MustCompile(pattern).MatchString(found[0][1]) {
		ts.Fatalf("the error line does not match %q", pattern)
	}
	if !strings.Contains(words, "\nstakeseal: hint: ") {
		ts.Fatalf("there is no hint")
	}
	for _, odd := range []string{"goroutine", "panic", "runtime error", "%!", "<nil>", "&{", "map[", "AGE-SECRET-KEY", "PRIVATE KEY"} {
		if strings.Contains(words, odd) {
			ts.Fatalf("stderr holds %q", odd)
		}
	}
}

// treeOf is what lies below a folder: paths to mode and content. The
// database's log and index come and go with whoever opens it.
func treeOf(ts *testscript.TestScript, dir string) map[string]string {
	tree := map[string]string{}
	ts.Check(filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || strings.HasSuffix(path, "-wal") || strings.HasSuffix(path, "-shm") {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		tree[path] = info.Mode().String()
		if info.Mode().IsRegular() {
			data, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			tree[path] += fmt.Sprintf(" %x", sha256.Sum256(data))
		}
		return nil
	}))
	return tree
}

// unprivileged is refused for a program that file modes bind, also where the
// tests run as root: without CAP_DAC_OVERRIDE root is an owner like any other.
func unprivileged(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 3 {
		ts.Fatalf("usage: unprivileged CODE PATTERN ARGS...")
	}
	line := append([]string{"stakeseal"}, args[2:]...)
	if os.Geteuid() == 0 {
		const without = "-dac_override,-dac_read_search"
		program := []string{"setpriv", "--bounding-set=" + without, "--inh-caps=" + without}
		if err := exec.Command(program[0], append(program[1:], "true")...).Run(); err != nil {
			if os.Getenv("CI") == "true" {
				ts.Fatalf("root is bound by no mode, and setpriv can't change that: %v", err)
			}
			ts.Logf("skipped: root is bound by no mode, and setpriv can't change that: %v", err)
			return
		}
		line = append(program, line...)
	}
	refusedBy(ts, args[0], args[1], line)
}

// programsCommand copies programs into a folder: programs DIR NAME...
func programsCommand(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: programs DIR NAME...")
	}
	ts.Check(os.MkdirAll(ts.MkAbs(args[0]), 0o755))
	for _, name := range args[1:] {
		data, err := os.ReadFile(filepath.Join(programs, name))
		ts.Check(err)
		ts.Check(os.WriteFile(filepath.Join(ts.MkAbs(args[0]), name), data, 0o755))
	}
}

// put writes a text into a file, over what is there: put FILE TEXT...; words
// become lines.
func put(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: put FILE LINE...")
	}
	path := ts.MkAbs(args[0])
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		ts.Check(err)
	}
	ts.Check(os.WriteFile(path, []byte(strings.Join(args[1:], "\n")+"\n"), 0o600))
}

// more adds lines to a file: more FILE LINE...
func more(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: more FILE LINE...")
	}
	f, err := os.OpenFile(ts.MkAbs(args[0]), os.O_APPEND|os.O_WRONLY, 0)
	ts.Check(err)
	_, err = f.WriteString(strings.Join(args[1:], "\n") + "\n")
	ts.Check(errors.Join(err, f.Close()))
}

// grown appends so many bytes to a file: grown FILE BYTES.
func grown(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: grown FILE BYTES")
	}
	n, err := strconv.Atoi(args[1])
	ts.Check(err)
	f, err := os.OpenFile(ts.MkAbs(args[0]), os.O_APPEND|os.O_WRONLY, 0)
	ts.Check(err)
	_, err = f.Write([]byte("\n#" + strings.Repeat("x", n)))
	ts.Check(errors.Join(err, f.Close()))
}

// behind runs a statement on a store as somebody would who knows its guards:
// they are put back afterwards. behind DATABASE STATEMENT.
func behind(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: behind DATABASE STATEMENT")
	}
	db, err := sql.Open("sqlite3", ts.MkAbs(args[0]))
	ts.Check(err)
	defer db.Close()
	rows, err := db.Query(`SELECT name, sql FROM sqlite_schema WHERE type = 'trigger'`)
	ts.Check(err)
	guards := map[string]string{}
	for rows.Next() {
		var name, text string
		ts.Check(rows.Scan(&name, &text))
		guards[name] = text
	}
	ts.Check(rows.Close())
	for name := range guards {
		_, err := db.Exec(`DROP TRIGGER "` + name + `"`)
		ts.Check(err)
	}
	result, err := db.Exec(args[1])
	ts.Check(err)
	if n, err := result.RowsAffected(); err != nil || n == 0 {
		ts.Fatalf("nothing was changed (%v)", err)
	}
	for _, text := range guards {
		_, err := db.Exec(text)
		ts.Check(err)
	}
}
