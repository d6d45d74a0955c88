package main

import (
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	_ "github.com/mattn/go-sqlite3"
	"github.com/rogpeppe/go-internal/testscript"
)

// programs is the folder with the real programs, built once for the scripts:
// stakeseal, stakeseal-generator and age.
var programs string

func TestMain(m *testing.M) { os.Exit(testMain(m)) }

func testMain(m *testing.M) int {
	dir, err := os.MkdirTemp("", "stakeseal-programs-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	build := exec.Command("go", "build", "-o", dir+"/", ".", "../stakeseal-generator", "filippo.io/age/cmd/age", "filippo.io/age/cmd/age-keygen")
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "couldn't build the programs: %v\n%s", err, out)
		return 1
	}
	programs = dir
	return m.Run()
}

// TestScripts runs testdata/*.txtar, one for each promise, against the real
// programs.
func TestScripts(t *testing.T) {
	commands := map[string]func(ts *testscript.TestScript, neg bool, args []string){
		"exits": exits, "flip": flip, "setline": setline, "sql": sqlCommand(false), "corrupt": sqlCommand(true), "capture": capture,
	}
	for _, more := range moreCommands {
		maps.Copy(commands, more)
	}
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata",
		Cmds:                commands,
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(env *testscript.Env) error {
			env.Setenv("PATH", programs+string(os.PathListSeparator)+os.Getenv("PATH"))
			env.Setenv("HOME", filepath.Join(env.WorkDir, "home"))
			env.Setenv("VECTORS", vectors())
			env.Setenv("ADDRESS", "0x388C818CA8B9251b393131C08a736A67ccB19297")
			env.Setenv("OTHER_ADDRESS", "0xdAC17F958D2ee523a2206206994597C13D831ec7")
			return os.MkdirAll(filepath.Join(env.WorkDir, "home"), 0o700)
		},
	})
}

// moreCommands are the script commands of other files.
var moreCommands []map[string]func(ts *testscript.TestScript, neg bool, args []string)

// vectors is the folder of public test data.
func vectors() string {
	if dir := os.Getenv("STAKESEAL_VECTORS"); dir != "" {
		return dir
	}
	dir, _ := filepath.Abs("../../../shared/vectors")
	return dir
}

// exits runs a program and asserts its exact exit code: exits 3 stakeseal ...
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE PROGRAM ARGS...")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	err = ts.Exec(args[1], args[2:]...)
	code := 0
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		code = exit.ExitCode()
	} else if err != nil {
		ts.Fatalf("couldn't run %s: %v", args[1], err)
	}
	if code != want {
		ts.Fatalf("exit code %d, want %d", code, want)
	}
}

// flip changes one byte of a file: flip FILE OFFSET; a negative offset counts
// from the end.
func flip(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: flip FILE OFFSET")
	}
	path := ts.MkAbs(args[0])
	data, err := os.ReadFile(path)
	ts.Check(err)
	at, err := strconv.Atoi(args[1])
	ts.Check(err)
	if at < 0 {
		at += len(data)
	}
	data[at] ^= 1
	ts.Check(os.Chmod(path, 0o600))
	ts.Check(os.WriteFile(path, data, 0o600))
}

// setline replaces every match of a pattern in a file, and fails if there is
// none: setline FILE PATTERN REPLACEMENT.
func setline(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: setline FILE PATTERN REPLACEMENT")
	}
	path := ts.MkAbs(args[0])
	data, err := os.ReadFile(path)
	ts.Check(err)
	pattern, err := regexp.Compile("(?m)" + args[1])
	ts.Check(err)
	if !pattern.Match(data) {
		ts.Fatalf("%s has no %q", args[0], args[1])
	}
	ts.Check(os.Chmod(path, 0o600))
	ts.Check(os.WriteFile(path, pattern.ReplaceAll(data, []byte(args[2])), 0o600))
}

// sqlCommand runs a statement on a store; corrupt drops the accident guards
// first, as somebody would who means it.
func sqlCommand(guardless bool) func(ts *testscript.TestScript, neg bool, args []string) {
	return func(ts *testscript.TestScript, neg bool, args []string) {
		if len(args) != 2 {
			ts.Fatalf("usage: sql|corrupt DATABASE STATEMENT")
		}
		db, err := sql.Open("sqlite3", ts.MkAbs(args[0]))
		ts.Check(err)
		defer db.Close()
		if guardless {
			rows, err := db.Query(`SELECT name FROM sqlite_schema WHERE type = 'trigger'`)
			ts.Check(err)
			var names []string
			for rows.Next() {
				var name string
				ts.Check(rows.Scan(&name))
				names = append(names, name)
			}
			ts.Check(rows.Close())
			for _, name := range names {
				_, err := db.Exec(`DROP TRIGGER "` + name + `"`)
				ts.Check(err)
			}
		}
		_, err = db.Exec(args[1])
		if neg {
			if err == nil {
				ts.Fatalf("the statement was accepted")
			}
			ts.Logf("refused: %v", err)
			return
		}
		ts.Check(err)
	}
}

// capture puts the first group of a pattern's match in the last stdout into a
// variable: capture NAME PATTERN [N-th match, from 1].
func capture(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: capture NAME PATTERN [N]")
	}
	nth := 1
	if len(args) == 3 {
		var err error
		nth, err = strconv.Atoi(args[2])
		ts.Check(err)
	}
	matches := regexp.MustCompile("(?m)"+args[1]).FindAllStringSubmatch(ts.ReadFile("stdout"), nth)
	if len(matches) < nth || len(matches[nth-1]) < 2 {
		ts.Fatalf("stdout has no match %d of %q with a group", nth, args[1])
	}
	ts.Setenv(args[0], strings.TrimSpace(matches[nth-1][1]))
}
