package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/stakeseal/stakeseal/birth"
	"github.com/stakeseal/stakeseal/internal/canary"
	"github.com/stakeseal/stakeseal/internal/folder"
	"github.com/stakeseal/stakeseal/internal/identity"
	"github.com/stakeseal/stakeseal/internal/sqlite"
	"github.com/stakeseal/stakeseal/internal/telling"
	"github.com/stakeseal/stakeseal/keygen"
	"github.com/stakeseal/stakeseal/keygen/mnemonic"
	"github.com/stakeseal/stakeseal/record"
	"github.com/stakeseal/stakeseal/seal"
	"github.com/stakeseal/stakeseal/unseal"
)

// sealed returns an order's births and mnemonics as the store has them.
func (s *story) sealed(home, order string) (births []record.Birth, mnemonics []record.Mnemonic, err error) {
	ctx := context.Background()
	store, err := sqlite.Open(filepath.Join(home, "records.db"))
	if err != nil {
		return nil, nil, err
	}
	defer store.Close()
	for row, err := range store.Validators(ctx, record.Query{Order: order}) {
		if err != nil {
			return nil, nil, err
		}
		b, err := store.Birth(ctx, row.Pubkey)
		if err != nil {
			return nil, nil, err
		}
		births = append(births, b)
	}
	for m, err := range store.Mnemonics(ctx, order) {
		if err != nil {
			return nil, nil, err
		}
		mnemonics = append(mnemonics, m)
	}
	return births, mnemonics, nil
}

// generatorCannotOpen tries every file that the generator can read as an
// identity, on both kinds of secret.
func (s *story) generatorCannotOpen() error {
	s.Heading("The generator tries to open what it sealed, with all it holds. (G1)")
	births, mnemonics, err := s.sealed(s.Home, "first")
	if err != nil {
		return err
	}
	secrets := map[string][]byte{"signing.age": births[0].Sealing.File, "mnemonic.age": mnemonics[0].Sealing.File}
	tried := 0
	for name, file := range secrets {
		path := filepath.Join(s.dir, name)
		if err := os.WriteFile(path, file, 0o600); err != nil {
			return err
		}
		err := filepath.WalkDir(s.Home, func(held string, d fs.DirEntry, err error) error {
			if err != nil || !d.Type().IsRegular() {
				return err
			}
			r, err := s.Run(nil, "age", "-d", "-i", held, path)
			if err != nil {
				return err
			}
			if tried++; r.Code == 0 {
				return fmt.Errorf("%s opened %s", held, name)
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	s.Line("refused, %d times of %d: settings, recipients, certifying key, records, bundles; none is an identity", tried, tried)
	return nil
}

func (s *story) killedAndResumed() error {
	const count = 96
	s.Heading("An order of %d is killed in the middle (kill -9), and resumed.", count)
	cmd := exec.Command(filepath.Join(s.Programs, "stakeseal"), "--home", s.Home, "generate", "--count", fmt.Sprint(count), "--order", "killed", "--assign", "signer-a", "--yes")
	if err := cmd.Start(); err != nil {
		return err
	}
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	// The archive's folder tells how far it is without touching the store.
	for made := 0; made < 20; {
		entries, _ := os.ReadDir(filepath.Join(s.Home, "bundles", "killed"))
		made = len(entries)
		select {
		case err := <-done:
			return fmt.Errorf("the order ended before it could be killed (%w)", err)
		case <-time.After(2 * time.Millisecond):
		}
	}
	if err := cmd.Process.Kill(); err != nil {
		return err
	}
	<-done
	// The generator ends when its parent is gone.
	time.Sleep(200 * time.Millisecond)
	before, err := s.keys("killed")
	if err != nil {
		return err
	}
	s.Line("killed with %d of %d keys recorded", len(before), count)
	if _, err := s.stakeseal(0, "generate", "--resume", "killed", "--assign", "signer-a"); err != nil {
		return err
	}
	after, err := s.keys("killed")
	if err != nil {
		return err
	}
	kept := 0
	for _, key := range before {
		if slices.Contains(after, key) {
			kept++
		}
	}
	if kept != len(before) || len(after) != count {
		return fmt.Errorf("of %d keys recorded before %d are there; %d in all", len(before), kept, len(after))
	}
	again, err := s.stakeseal(0, "generate", "--resume", "killed")
	if err != nil {
		return err
	}
	if first := telling.Pubkey.FindString(again.Out); first != after[0] {
		return fmt.Errorf("a third run shows another key")
	}
	s.Line("resumed: the same %d and %d more, %d in all; a third run changes nothing", kept, len(after)-kept, len(after))
	return nil
}

func (s *story) deposits() error {
	s.Heading("Deposits are exported and judged; then one digit of the withdrawal address is changed. (G9)")
	out := filepath.Join(s.dir, "deposits")
	if err := os.Mkdir(out, 0o700); err != nil {
		return err
	}
	if _, err := s.stakeseal(0, "deposit", "export", "--order", "first", "--out", out); err != nil {
		return err
	}
	files, err := filepath.Glob(filepath.Join(out, "*.json"))
	if err != nil || len(files) != 1 {
		return errors.Join(err, fmt.Errorf("%d deposit files", len(files)))
	}
	verify := func(path string) (telling.Result, error) {
		return s.Run(nil, "stakeseal", "deposit", "verify", path, "--network", "hoodi", "--withdrawal-address", address)
	}
	good, err := verify(files[0])
	if err != nil || good.Code != 0 {
		return errors.Join(err, fmt.Errorf("the deposit file was refused: %s", good.Err))
	}
	data, err := os.ReadFile(files[0])
	if err != nil {
		return err
	}
	s.Line("%d deposits good: roots, signatures, network, address", strings.Count(string(data), `"signature"`))
	digit := regexp.MustCompile(`("withdrawal_credentials": ?"[0-9a-f]{63})[0-9a-f]`)
	changed := digit.ReplaceAll(data, []byte("${1}0"))
	if bytes.Equal(changed, data) {
		return fmt.Errorf("no address to change in the deposit file")
	}
	path := filepath.Join(out, "changed.json")
	if err := os.WriteFile(path, changed, 0o600); err != nil {
		return err
	}
	bad, err := verify(path)
	if err != nil || bad.Code != 3 {
		return errors.Join(err, fmt.Errorf("a changed address ended with %d: %s", bad.Code, bad.Err))
	}
	s.Line("changed: refused, exit code %d: %s", bad.Code, finding(bad))
	return nil
}

// finding is what the verdict's first refused row says.
func finding(r telling.Result) string {
	for line := range strings.Lines(r.Out + r.Err) {
		if strings.Contains(line, "credentials") || strings.Contains(line, "address") {
			return strings.Join(strings.Fields(line), " ")
		}
	}
	return r.Quote()
}

func (s *story) exportedTwice() error {
	s.Heading("The same deposit is exported a second time.")
	r, err := s.stakeseal(5, "deposit", "export", "--order", "first", "--out", filepath.Join(s.dir, "deposits"))
	if err != nil {
		return err
	}
	s.Line("refused, exit code %d: %s", r.Code, r.Quote())
	return nil
}

// swapped plays somebody who can write the store and recomputes every
// checksum in it.
func (s *story) swapped() error {
	s.Heading("Somebody with the store's file swaps two sealed keys, checksums and all. (G2, G4)")
	copied := filepath.Join(s.dir, "copy")
	if err := os.CopyFS(copied, os.DirFS(s.Home)); err != nil {
		return err
	}
	births, _, err := s.sealed(copied, "first")
	if err != nil {
		return err
	}
	if err := swapSealings(filepath.Join(copied, "records.db"), births[0], births[1]); err != nil {
		return err
	}
	// Copying made the modes wider than a home's.
	if err := os.Chmod(filepath.Join(copied, "certifier.key"), 0o400); err != nil {
		return err
	}
	r, err := s.Run(nil, "stakeseal", "--home", copied, "keystore", "export", "--signer", "signer-a", "--identity", s.identity("signer-a"),
		"--for", "web3signer", "--out", filepath.Join(s.dir, "stolen"), "--yes")
	if err != nil || r.Code != 3 {
		return errors.Join(err, fmt.Errorf("swapped secrets ended with %d: %s", r.Code, r.Err))
	}
	s.Line("refused, exit code %d: %s", r.Code, r.Quote())
	opener, err := s.opener("signer-a")
	if err != nil {
		return err
	}
	b := births[0]
	if _, err := opener.Key(context.Background(), births[1].Sealing.File, seal.SigningBinding("hoodi", b.Order, b.Index, b.Pubkey)); err == nil {
		return fmt.Errorf("one key opened as another")
	}
	s.Line("and with no certificate in the way: the secret itself says what it is, and the opener refuses")
	return nil
}

func (s *story) anotherSigner() error {
	s.Heading("Another signer asks for the keys. (G11)")
	for _, name := range []string{"signer-b", "anna"} {
		r, err := s.stakeseal(6, "keystore", "export", "--signer", "signer-a", "--identity", s.identity(name),
			"--for", "web3signer", "--out", filepath.Join(s.dir, "stolen"), "--yes")
		if err != nil {
			return err
		}
		s.Line("%s: refused, exit code %d: %s", name, r.Code, r.Quote())
	}
	return nil
}

func (s *story) opener(name string) (*unseal.Opener, error) {
	ids, err := identity.Load(s.identity(name), nil)
	if err != nil {
		return nil, err
	}
	return unseal.NewOpener(ids...), nil
}

// searched opens every secret of the story and looks for it in everything
// that was written and printed.
func (s *story) searched() error {
	s.Heading("Every secret of this story is opened with its identity, and searched for in everything written. (G3)")
	var needles canary.Needles
	secrets := 0
	anna, err := s.opener("anna")
	if err != nil {
		return err
	}
	signer, err := s.opener("signer-a")
	if err != nil {
		return err
	}
	ctx := context.Background()
	for _, order := range []string{"first", "killed"} {
		births, mnemonics, err := s.sealed(s.Home, order)
		if err != nil {
			return err
		}
		for _, m := range mnemonics {
			opened, err := anna.Mnemonic(ctx, m.Sealing.File, seal.RecoveryBinding("hoodi", order, m.ID))
			if err != nil {
				return err
			}
			phrase, err := mnemonic.Parse(opened.Words, mnemonic.English)
			if err != nil {
				return err
			}
			needles.Add("mnemonic "+m.ID, opened.Words.Expose())
			needles.Add("seed of "+m.ID, phrase.Seed(nil).Expose())
			secrets += 2
		}
		for _, b := range births {
			opened, err := signer.Key(ctx, b.Sealing.File, seal.SigningBinding("hoodi", order, b.Index, b.Pubkey))
			if err != nil {
				return err
			}
			needles.Add("key "+keygen.SigningPath(b.Index), opened.Key.Raw().Expose())
			needles.Add("password "+keygen.SigningPath(b.Index), opened.Password.Expose())
			secrets += 2
		}
	}
	found := needles.In(s.Said())
	read := int64(len(s.Said()))
	for _, dir := range []string{s.Home, filepath.Join(s.dir, "deposits")} {
		in, n, err := needles.InTree(dir)
		if err != nil {
			return err
		}
		found, read = append(found, in...), read+n
	}
	if len(found) > 0 {
		return fmt.Errorf("secrets were found: %v", found)
	}
	// The search must be able to find: the same secrets in one opened file.
	if len(needles.In(bytes.Join(needles.Forms(), nil))) < needles.Len() {
		return fmt.Errorf("the search does not find what is there")
	}
	s.Line("%d secrets in %d forms, %.1f MB of files and output: none found", secrets, needles.Len(), float64(read)/1e6)
	return nil
}

func (s *story) ageOpens() error {
	s.Heading("Without stakeseal: plain age opens a sealed mnemonic to readable text.")
	archive, err := folder.Open(filepath.Join(s.Home, "bundles"))
	if err != nil {
		return err
	}
	_, mnemonics, err := s.sealed(s.Home, "first")
	if err != nil {
		return err
	}
	object, err := archive.Get(context.Background(), birth.MnemonicObject("first", mnemonics[0].ID))
	if err != nil {
		return err
	}
	var kept struct {
		Sealing struct {
			File []byte `json:"file"`
		} `json:"sealing"`
	}
	if err := json.Unmarshal(object, &kept); err != nil {
		return err
	}
	path := filepath.Join(s.dir, "mnemonic.age")
	if err := os.WriteFile(path, kept.Sealing.File, 0o600); err != nil {
		return err
	}
	cmd := exec.Command(filepath.Join(s.Programs, "age"), "-d", "-i", s.identity("vault"), path)
	text, err := cmd.Output()
	if err != nil {
		return fmt.Errorf("age did not open the mnemonic: %w", err)
	}
	defer clear(text)
	shown := 0
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		if words, ok := strings.CutPrefix(line, "mnemonic: "); ok {
			line = fmt.Sprintf("mnemonic: (%d words, not shown here)", len(strings.Fields(words)))
		}
		if line == "" {
			continue
		}
		s.Line("  %s", line)
		if shown++; strings.HasPrefix(line, "mnemonic:") {
			break
		}
	}
	if shown < 5 {
		return fmt.Errorf("the opened mnemonic is no readable text")
	}
	return nil
}
