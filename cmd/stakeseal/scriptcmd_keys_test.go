package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/stakeseal/stakeseal/eth/bls"
	"github.com/stakeseal/stakeseal/eth/keystore"
	"github.com/stakeseal/stakeseal/internal/identity"
	"github.com/stakeseal/stakeseal/internal/sqlite"
	"github.com/stakeseal/stakeseal/keygen/mnemonic"
	"github.com/stakeseal/stakeseal/record"
	"github.com/stakeseal/stakeseal/seal"
	"github.com/stakeseal/stakeseal/secret"
	"github.com/stakeseal/stakeseal/unseal"
)

// scriptCommandsKeys are the script commands of the recovery, derive and
// keystore scripts.
var scriptCommandsKeys = map[string]func(ts *testscript.TestScript, neg bool, args []string){
	"opens": opensCommand, "keymanager": keymanagerCommand, "hides": hides, "forge": forgeCommand,
	"events": eventsCommand, "laidout": laidOut,
}

func init() { moreCommands = append(moreCommands, scriptCommandsKeys) }

// openOneKeystore opens a keystore with a password and demands that its key
// is that of its pubkey, and its mode 0400.
func openOneKeystore(ts *testscript.TestScript, data []byte, password string) {
	parsed, err := keystore.Parse(data)
	ts.Check(err)
	raw, err := keystore.Open(context.Background(), data, secret.Copy([]byte(password)))
	ts.Check(err)
	key, err := bls.Parse(raw)
	ts.Check(err)
	if key.Pubkey() != parsed.Pubkey() {
		ts.Fatalf("the keystore of %v holds another key", parsed.Pubkey())
	}
}

// opensCommand opens every keystore of a folder: opens DIR PASSWORDFILE N, or
// with a folder of one password file for each: opens DIR PASSWORDDIR N.
func opensCommand(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: opens DIR PASSWORDFILE|PASSWORDDIR N")
	}
	files, err := filepath.Glob(filepath.Join(ts.MkAbs(args[0]), "keystore-m_12381_3600_*_0_0-*.json"))
	ts.Check(err)
	if strconv.Itoa(len(files)) != args[2] {
		ts.Fatalf("%d keystores, want %s", len(files), args[2])
	}
	passwords := ts.MkAbs(args[1])
	info, err := os.Stat(passwords)
	ts.Check(err)
	for _, file := range files {
		from := passwords
		if info.IsDir() {
			from = filepath.Join(passwords, strings.TrimSuffix(filepath.Base(file), ".json")+".txt")
		}
		password, err := os.ReadFile(from)
		ts.Check(err)
		if info.IsDir() && len(password) != 64 {
			ts.Fatalf("the password in %s has %d bytes", from, len(password))
		}
		data, err := os.ReadFile(file)
		ts.Check(err)
		openOneKeystore(ts, data, strings.TrimSuffix(string(password), "\n"))
	}
}

// laidOut reads a data directory as a client does that finds a keystore in a
// folder named by its pubkey, and the password in a file of that name, opens
// each, and demands that nothing else is there but the slashing-protection
// file: laidout DIR KEYSTORES PASSWORDS N.
func laidOut(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 4 {
		ts.Fatalf("usage: laidout DIR KEYSTORES PASSWORDS N")
	}
	dir := ts.MkAbs(args[0])
	stores, err := filepath.Glob(filepath.Join(dir, args[1]))
	ts.Check(err)
	passwords, err := filepath.Glob(filepath.Join(dir, args[2]))
	ts.Check(err)
	if strconv.Itoa(len(stores)) != args[3] || len(passwords) != len(stores) {
		ts.Fatalf("%d keystores and %d passwords, want %s", len(stores), len(passwords), args[3])
	}
	for _, file := range stores {
		data, err := os.ReadFile(file)
		ts.Check(err)
		name := filepath.Base(filepath.Dir(file))
		var k struct{ Pubkey string }
		ts.Check(json.Unmarshal(data, &k))
		if name != "0x"+k.Pubkey {
			ts.Fatalf("%s holds the key %s", file, k.Pubkey)
		}
		password, err := os.ReadFile(filepath.Join(filepath.Dir(passwords[0]), name))
		ts.Check(err)
		openOneKeystore(ts, data, string(password))
	}
	files := 0
	ts.Check(filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if d.Type().IsRegular() {
			files++
		}
		if err == nil && info.Mode().Perm()&0o077 != 0 {
			return fmt.Errorf("%s has mode %v", path, info.Mode())
		}
		// A data directory is the client's to write: Nimbus opens keystores for
		// writing, to lock them.
		if err == nil && info.Mode().Perm()&0o600 != 0o600 {
			return fmt.Errorf("%s is not its owner's to write: %v", path, info.Mode())
		}
		return err
	}))
	if files != 2*len(stores)+1 {
		ts.Fatalf("%d files", files)
	}
}

// keymanagerCommand reads a keymanager request, opens its keystores with its
// passwords, and demands that its slashing protection is that of a file:
// keymanager FILE N [SLASHINGFILE].
func keymanagerCommand(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: keymanager FILE N [SLASHINGFILE]")
	}
	var body struct {
		Keystores, Passwords []string
		Slashing             string `json:"slashing_protection"`
	}
	decoder := json.NewDecoder(strings.NewReader(ts.ReadFile(args[0])))
	decoder.DisallowUnknownFields()
	ts.Check(decoder.Decode(&body))
	if strconv.Itoa(len(body.Keystores)) != args[1] || len(body.Passwords) != len(body.Keystores) {
		ts.Fatalf("%d keystores and %d passwords, want %s", len(body.Keystores), len(body.Passwords), args[1])
	}
	for i, k := range body.Keystores {
		openOneKeystore(ts, []byte(k), body.Passwords[i])
	}
	var interchange struct {
		Metadata struct {
			Version string `json:"interchange_format_version"`
		}
		Data []struct{ Pubkey string }
	}
	ts.Check(json.Unmarshal([]byte(body.Slashing), &interchange))
	if interchange.Metadata.Version != "5" || len(interchange.Data) != len(body.Keystores) {
		ts.Fatalf("slashing protection: %s", body.Slashing)
	}
	if len(args) == 3 && strings.TrimSpace(ts.ReadFile(args[2])) != body.Slashing {
		ts.Fatalf("the request's slashing protection is not that of %s", args[2])
	}
}

// hides opens every mnemonic and every signing key of a home with all its
// identities, and demands that none of them stands, in any of its forms, in
// the last output or in a file of a folder: hides HOME FOLDER. It fails when
// there was nothing to look for.
func hides(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: hides HOME FOLDER")
	}
	canaries := secretsOf(ts, ts.MkAbs(args[0]))
	look := func(where string, data []byte) {
		for what, c := range canaries {
			if bytes.Contains(data, []byte(c)) {
				ts.Fatalf("%s holds %s", where, what)
			}
		}
	}
	look("stdout", []byte(ts.ReadFile("stdout")))
	look("stderr", []byte(ts.ReadFile("stderr")))
	files := 0
	ts.Check(filepath.WalkDir(ts.MkAbs(args[1]), func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		look(path, data)
		files++
		return err
	}))
	if files == 0 {
		ts.Fatalf("%s holds no file", args[1])
	}
}

// secretsOf are a home's mnemonics, seeds and keys in several forms.
func secretsOf(ts *testscript.TestScript, home string) map[string]string {
	found := map[string]string{}
	add := func(what string, b []byte) {
		found[what] = string(b)
		found[what+" in hex"] = hex.EncodeToString(b)
		found[what+" in HEX"] = strings.ToUpper(hex.EncodeToString(b))
		found[what+" in base64"] = strings.TrimRight(base64.StdEncoding.EncodeToString(b), "=")
		found[what+" as Go prints it"] = strings.Trim(fmt.Sprint(b), "[]")
	}
	files, err := filepath.Glob(home + "-identities/*.identity")
	ts.Check(err)
	var ids []unseal.Identity
	for _, file := range files {
		loaded, err := identity.Load(file, nil)
		ts.Check(err)
		ids = append(ids, loaded...)
	}
	opener := unseal.NewOpener(ids...)
	ctx := context.Background()
	s, err := sqlite.Open(filepath.Join(home, "records.db"))
	ts.Check(err)
	defer s.Close()
	for o, err := range s.Orders(ctx) {
		ts.Check(err)
		for m, err := range s.Mnemonics(ctx, o.ID) {
			ts.Check(err)
			opened, err := opener.Mnemonic(ctx, m.Sealing.File, seal.RecoveryBinding(o.Network, o.ID, m.ID))
			ts.Check(err)
			add("the words of "+m.ID, opened.Words.Expose())
			phrase, err := mnemonic.Parse(opened.Words, mnemonic.English)
			ts.Check(err)
			add("the seed of "+m.ID, phrase.Seed(nil).Expose())
		}
		for v, err := range s.Validators(ctx, record.Query{Order: o.ID}) {
			ts.Check(err)
			b, err := s.Birth(ctx, v.Pubkey)
			ts.Check(err)
			opened, err := opener.Key(ctx, b.Sealing.File, seal.SigningBinding(b.Network, b.Order, b.Index, b.Pubkey))
			ts.Check(err)
			add(fmt.Sprintf("key %d of %s", b.Index, o.ID), opened.Key.Raw().Expose())
			if opened.Password.Len() > 0 {
				add(fmt.Sprintf("password %d of %s", b.Index, o.ID), opened.Password.Expose())
			}
		}
	}
	if len(found) == 0 {
		ts.Fatalf("%s holds no secret to look for", home)
	}
	return found
}

// eventsCommand demands N events of a kind that have the given details: events HOME KIND N [KEY=VALUE...].
func eventsCommand(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 3 {
		ts.Fatalf("usage: events HOME KIND N [KEY=VALUE...]")
	}
	s, err := sqlite.Open(filepath.Join(ts.MkAbs(args[0]), "records.db"))
	ts.Check(err)
	defer s.Close()
	n := 0
	for e, err := range s.Events(context.Background(), record.EventQuery{Kind: args[1]}) {
		ts.Check(err)
		fits := true
		for _, pair := range args[3:] {
			key, value, _ := strings.Cut(pair, "=")
			fits = fits && e.Detail[key] == value
		}
		if fits {
			n++
		}
	}
	if strconv.Itoa(n) != args[2] {
		ts.Fatalf("%d events %s %q, want %s", n, args[1], args[3:], args[2])
	}
}
