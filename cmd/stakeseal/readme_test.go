package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestReadme runs the README's quick start as it stands there, in one shell
// with an empty HOME. Only the address is filled in, and the build folder is
// the one with the programs under test.
func TestReadme(t *testing.T) {
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	var script strings.Builder
	script.WriteString("set -eu\n")
	blocks := regexp.MustCompile("(?s)```sh\n(.*?)```").FindAllSubmatch(readme, -1)
	if len(blocks) < 4 {
		t.Fatalf("the README has %d blocks of commands, want at least 4", len(blocks))
	}
	for _, block := range blocks {
		script.Write(block[1])
	}
	text := strings.ReplaceAll(script.String(), "0xYOUR_ADDRESS", "0x388C818CA8B9251b393131C08a736A67ccB19297")
	text = strings.ReplaceAll(text, `"$PWD/build:$PATH"`, `"`+programs+`:$PATH"`)
	if !strings.Contains(text, programs) {
		t.Fatal("the README does not put the build folder into PATH")
	}
	dir := t.TempDir()
	shell := exec.CommandContext(t.Context(), "sh", "-c", text)
	shell.Dir = dir
	shell.Env = append(os.Environ(), "HOME="+filepath.Join(dir, "home"), "XDG_DATA_HOME=")
	out, err := shell.CombinedOutput()
	if err != nil {
		t.Fatalf("the quick start ended with %v:\n%s", err, out)
	}
	for _, want := range []string{"GOOD: 4 deposits", "4 validators made", "4 keys handed over"} {
		if !strings.Contains(string(out), want) {
			t.Errorf("the quick start did not print %q:\n%s", want, out)
		}
	}
	keystores, _ := filepath.Glob(filepath.Join(dir, "handover", "keys", "keystore-*.json"))
	if len(keystores) != 4 {
		t.Errorf("%d keystores were handed over, want 4", len(keystores))
	}
	// The table of losses, too, names only verbs and flags that exist.
	for _, m := range regexp.MustCompile("`stakeseal ([a-z ]+)((?: --[a-z-]+[^`]*)?)`").FindAllStringSubmatch(string(readme), -1) {
		args := strings.Fields(m[1])
		if args[0] == "show" {
			args = args[:1]
		}
		help, err := exec.CommandContext(t.Context(), filepath.Join(programs, "stakeseal"), append(args, "--help")...).CombinedOutput()
		if err != nil {
			t.Errorf("the README names %q: %s", m[0], help)
			continue
		}
		for _, flag := range regexp.MustCompile(`--[a-z-]+`).FindAllString(m[2], -1) {
			if !strings.Contains(string(help), flag) {
				t.Errorf("the README names %q, and %s has no %s", m[0], strings.Join(args, " "), flag)
			}
		}
	}
}
