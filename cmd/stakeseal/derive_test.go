package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stakeseal/stakeseal/deposit"
	"github.com/stakeseal/stakeseal/eth/bls"
	"github.com/stakeseal/stakeseal/eth/keystore"
	"github.com/stakeseal/stakeseal/secret"
)

// What derive writes is what another program wrote for the same mnemonic:
// every field of every deposit, and the keys inside the keystores.
func TestDeriveGivesThePublishedVectors(t *testing.T) {
	root := filepath.Join(vectors(), "deposit")
	if _, err := os.Stat(root); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("the test vectors are missing: %v", err)
		}
		t.Skipf("no test vectors in %s: STAKESEAL_VECTORS names another folder", root)
	}
	const window = "window lottery throw arrange visit play gate open scare strategy sadness fame soul bronze soap"
	for _, v := range []struct {
		folder, words, password string
		kdf                     string
		flags                   []string
	}{
		{"withdrawal_credentials_bls", "ski interest capable knee usual ugly duty exercise tattoo subway delay upper bid forget say",
			"testtesttest", "scrypt", []string{"--count", "1", "--bls-withdrawal"}},
		{"withdrawal_credentials_execution", "satisfy suit expire castle fluid must electric genuine aim clock such under basic rabbit method",
			"anothertesttest", "pbkdf2", []string{"--count", "1", "--allow-known-bad-address", "--withdrawal-address", "0x71C7656EC7ab88b098defB751B7401B5f6d8976F"}},
		{"multiple_validators", window, "blablatesttest", "pbkdf2",
			[]string{"--count", "3", "--allow-known-bad-address", "--withdrawal-address", "0x0000000000000000000000000000000000000001"}},
		{"regenerate_from_seed_index", window, "blablatesttest", "pbkdf2",
			[]string{"--start-index", "1", "--count", "2", "--allow-known-bad-address", "--withdrawal-address", "0x0000000000000000000000000000000000000001"}},
	} {
		for _, network := range []string{"hoodi", "sepolia"} {
			t.Run(v.folder+"/"+network, func(t *testing.T) {
				dir := t.TempDir()
				writeFile(t, filepath.Join(dir, "words"), v.words+"\n")
				writeFile(t, filepath.Join(dir, "password"), v.password+"\r\n")
				out := filepath.Join(dir, "out")
				cmd := exec.Command(filepath.Join(programs, "stakeseal"), slices.Concat([]string{"derive", "--network", network, "--kdf", v.kdf,
					"--mnemonic-file", filepath.Join(dir, "words"), "--password-file", filepath.Join(dir, "password"), "--out", out}, v.flags)...)
				cmd.Env = []string{"HOME=" + dir}
				if said, err := cmd.CombinedOutput(); err != nil {
					t.Fatalf("%v\n%s", err, said)
				}
				sameDeposits(t, out, filepath.Join(root, v.folder, network))
				sameKeystores(t, out, filepath.Join(root, v.folder, network), v.password, keystore.KDF(v.kdf))
			})
		}
	}
}

func writeFile(t testing.TB, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// theFiles are the files of a pattern, of which there must be some.
func theFiles(t *testing.T, dir, pattern string) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, pattern))
	if err != nil || len(files) == 0 {
		t.Fatalf("%s holds no %s (%v)", dir, pattern, err)
	}
	return files
}

// sameDeposits compares two deposit files in all but order, name and the
// version of the program.
func sameDeposits(t *testing.T, gotDir, wantDir string) {
	t.Helper()
	read := func(dir string) (lines []string) {
		file := theFiles(t, dir, "deposit_data-*.json")[0]
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		entries, err := deposit.ParseFile("file", data)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			if len(e.Extra) > 0 {
				t.Errorf("%s: unknown fields %q", file, e.Extra)
			}
			e.Row, e.Line, e.CLIVersion = 0, 0, ""
			lines = append(lines, fmt.Sprintf("%+v", e))
		}
		slices.Sort(lines)
		return lines
	}
	got, want := read(gotDir), read(wantDir)
	if !slices.Equal(got, want) {
		t.Errorf("deposits:\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// sameKeystores compares keystores by index: pubkey and path of the files,
// and for each of ours that it opens to the key of that pubkey.
func sameKeystores(t *testing.T, gotDir, wantDir, password string, kdf keystore.KDF) {
	t.Helper()
	read := func(dir string) map[string][]byte {
		out := map[string][]byte{}
		for _, file := range theFiles(t, dir, "keystore-*.json") {
			name := filepath.Base(file)
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			out[name[:strings.LastIndexByte(name, '-')]] = data
		}
		return out
	}
	got, want := read(gotDir), read(wantDir)
	if len(got) != len(want) {
		t.Errorf("%d keystores, want %d", len(got), len(want))
	}
	for name, data := range want {
		w, err := keystore.Parse(data)
		if err != nil {
			t.Fatal(err)
		}
		g, err := keystore.Parse(got[name])
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if g.Pubkey() != w.Pubkey() || g.Path() != w.Path() || g.KDF() != kdf {
			t.Errorf("%s: %v %q %s, want %v %q %s", name, g.Pubkey(), g.Path(), g.KDF(), w.Pubkey(), w.Path(), kdf)
		}
		raw, err := keystore.Open(context.Background(), got[name], secret.Copy([]byte(password)))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		key, err := bls.Parse(raw)
		if err != nil || key.Pubkey() != w.Pubkey() {
			t.Errorf("%s: it holds the key of another pubkey (%v)", name, err)
		}
	}
}

// Salts and IVs of one run must not repeat: under one password two equal ones
// give away the difference of two keys.
func TestDeriveSaltsEachKeystore(t *testing.T) {
	dir := t.TempDir()
	writeFile(t, filepath.Join(dir, "words"), strings.Repeat("abandon ", 11)+"about")
	writeFile(t, filepath.Join(dir, "password"), "long enough")
	out := filepath.Join(dir, "out")
	cmd := exec.Command(filepath.Join(programs, "stakeseal"), "derive", "--network", "hoodi", "--kdf", "pbkdf2", "--count", "5", "--bls-withdrawal",
		"--mnemonic-file", filepath.Join(dir, "words"), "--password-file", filepath.Join(dir, "password"), "--out", out)
	if said, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, said)
	}
	var seen [][]byte
	for _, file := range theFiles(t, out, "keystore-*.json") {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		k, err := keystore.Parse(data)
		if err != nil {
			t.Fatal(err)
		}
		for _, fresh := range [][]byte{k.Salt(), k.IV(), []byte(k.UUID())} {
			if slices.ContainsFunc(seen, func(b []byte) bool { return bytes.Equal(b, fresh) }) {
				t.Errorf("%s repeats a salt, IV or uuid", file)
			}
			seen = append(seen, fresh)
		}
	}
	if len(seen) != 15 {
		t.Errorf("%d values of 5 keystores", len(seen))
	}
}
