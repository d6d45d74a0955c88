//go:build unix

package main

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/stakeseal/stakeseal/eth"
	"github.com/stakeseal/stakeseal/eth/bls"
	"github.com/stakeseal/stakeseal/internal/aws/sample/sampletest"
	"github.com/stakeseal/stakeseal/secret"
)

// TestImportSampleDefects: every row that is not what it says is reported
// under its own code and left out; the others are taken.
func TestImportSampleDefects(t *testing.T) {
	s := newSampleSite(t)
	good := s.invoke(1)[0]
	other := s.invoke(2) // whose rows lend their parts
	s.rows = s.rows[:1]
	text := func(v string) types.AttributeValue { return &types.AttributeValueMemberS{Value: v} }
	mainnet, _ := eth.LookupNetwork("mainnet")
	hoodi := s.function.Network
	wants := map[eth.Pubkey]struct {
		state string
		codes []string
		name  string
	}{good.Pubkey: {rowImported, nil, "good"}}
	add := func(name, state string, change func(r *sampletest.Row, key *bls.Key), codes ...string) {
		rows, err := s.function.Invoke(1)
		if err != nil {
			t.Fatal(err)
		}
		r := rows[0]
		key, err := bls.Parse(secret.Copy(r.Raw))
		if err != nil {
			t.Fatal(err)
		}
		change(&r, key)
		s.rows = append(s.rows, r)
		wants[r.Pubkey] = struct {
			state string
			codes []string
			name  string
		}{state, codes, name}
	}
	seal := func(r *sampletest.Row) {
		if err := r.Seal(s.encrypt); err != nil {
			t.Fatal(err)
		}
	}
	stolen := eth.ExecutionCredentials(eth.Address{66}, false)

	add("another row's ciphertext", rowRefused, func(r *sampletest.Row, _ *bls.Key) {
		r.Item["encrypted_key_password_mnemonic_b64"] = other[0].Item["encrypted_key_password_mnemonic_b64"]
	}, "refuse key", "refuse key", "note mnemonic-shared")
	add("another's keystore", rowRefused, func(r *sampletest.Row, _ *bls.Key) {
		r.Keystore, r.Password = other[0].Keystore, other[0].Password
		seal(r)
	}, "refuse key")
	add("another's password", rowRefused, func(r *sampletest.Row, _ *bls.Key) { r.Password = other[0].Password; seal(r) }, "refuse key")
	add("another's mnemonic", rowRefused, func(r *sampletest.Row, _ *bls.Key) { r.Words = other[0].Words; seal(r) }, "refuse key", "note mnemonic-shared")
	add("no mnemonic", rowRefused, func(r *sampletest.Row, _ *bls.Key) { r.Words = []byte("legal winner legal winner"); seal(r) }, "refuse mnemonic")
	add("no keystore", rowRefused, func(r *sampletest.Row, _ *bls.Key) { r.Keystore = []byte("{}"); seal(r) }, "refuse keystore")
	add("a changed ciphertext", rowRefused, func(r *sampletest.Row, _ *bls.Key) {
		r.Item["encrypted_key_password_mnemonic_b64"] = text("AAAA")
	}, "refuse unopened")
	add("no pubkey", rowRefused, func(r *sampletest.Row, _ *bls.Key) { delete(r.Item, "pubkey"); r.Pubkey = eth.Pubkey{} }, "refuse unreadable")
	add("another's deposit data", rowRefused, func(r *sampletest.Row, _ *bls.Key) { r.Deposit = other[0].Deposit; seal(r) }, "refuse deposit-pubkey")
	add("an address put in its place", rowRefused, func(r *sampletest.Row, key *bls.Key) {
		honest := eth.ExecutionCredentials(*s.function.Address, false)
		r.Deposit = bytes.ReplaceAll(r.Deposit, []byte(honest.Hex()), []byte(stolen.Hex()))
		seal(r)
	}, "refuse deposit-message-root", "refuse deposit-data-root", "refuse deposit-signature-invalid", "warn address-unknown")
	add("deposit data in pieces", rowRefused, func(r *sampletest.Row, _ *bls.Key) { r.Deposit = r.Deposit[:50]; seal(r) }, "refuse deposit-file")
	add("two deposits", rowRefused, func(r *sampletest.Row, _ *bls.Key) {
		r.Deposit = []byte(strings.TrimSuffix(string(r.Deposit), "]") + "," + strings.TrimPrefix(string(r.Deposit), "["))
		seal(r)
	}, "refuse deposit-file")
	add("signed for another network", rowRefused, func(r *sampletest.Row, key *bls.Key) {
		r.Deposit = bytes.Replace(sampletest.Deposit(key, mainnet, eth.ExecutionCredentials(*s.function.Address, false)), []byte(`"fork_version": "00000000", "network_name": "mainnet"`),
			[]byte(`"fork_version": "10000910", "network_name": "hoodi"`), 1)
		seal(r)
	}, "refuse deposit-signature-other-network")
	add("0x00 of another mnemonic", rowRefused, func(r *sampletest.Row, key *bls.Key) {
		r.Deposit = sampletest.Deposit(key, hoodi, eth.BLSCredentials(other[0].Pubkey))
		seal(r)
	}, "warn credentials-bls", "refuse deposit")
	add("a chain that it is not for", rowRefused, func(r *sampletest.Row, _ *bls.Key) { r.Item["chain"] = text("goerli") }, "refuse chain")
	add("another network", rowLeft, func(r *sampletest.Row, key *bls.Key) {
		r.Deposit = sampletest.Deposit(key, mainnet, eth.ExecutionCredentials(*s.function.Address, false))
		seal(r)
		r.Item["chain"] = text("mainnet")
	}, "note other-network")
	add("another network, in pieces", rowLeft, func(r *sampletest.Row, _ *bls.Key) {
		r.Deposit = r.Deposit[:50]
		seal(r)
		r.Item["chain"] = text("goerli")
	}, "refuse deposit-file", "note other-network")
	add("an unknown address", rowImported, func(r *sampletest.Row, key *bls.Key) { r.Deposit = sampletest.Deposit(key, hoodi, stolen); seal(r) }, "warn address-unknown")
	add("not active, with a note", rowImported, func(r *sampletest.Row, _ *bls.Key) {
		r.Item["active"] = &types.AttributeValueMemberBOOL{}
		r.Item["remark"] = text("x")
	}, "note attribute", "note inactive")
	s.function.Address = nil
	add("0x00 credentials", rowImported, func(*sampletest.Row, *bls.Key) {}, "warn credentials-bls")

	o := s.takes(exitRefused, sampleFlags{})
	if len(o.rows) != len(wants) {
		t.Fatalf("%d rows reported, %d in the table", len(o.rows), len(wants))
	}
	for p, want := range wants {
		r := o.row(t, p)
		codes := r.codes()
		slices.Sort(codes)
		slices.Sort(want.codes)
		if r.State != want.state || !slices.Equal(codes, want.codes) {
			t.Errorf("%s: %s %q, want %s %q\n%+v", want.name, r.State, codes, want.state, want.codes, r.Findings)
		}
	}
	// With the deposit data left behind, those whose key is good come in, and
	// nothing is said of where their deposits pay to.
	o = s.takes(exitRefused, sampleFlags{withoutDeposits: true})
	taken := 0
	for _, r := range o.rows {
		if r.State == rowImported {
			taken++
			if r.Credentials != nil {
				t.Errorf("%v: credentials %v", r.Pubkey, r.Credentials)
			}
			if shown := s.must(0, "show", r.Pubkey.String()); !strings.Contains(shown.out, "not known") || strings.Contains(shown.out, "deposit 1") {
				t.Errorf("show:\n%s", shown.out)
			}
			if listed := s.must(0, "list", r.Pubkey.String(), "--json"); !strings.Contains(listed.out, `"withdrawal_credentials":null,"deposits":[]`) {
				t.Errorf("list: %s", listed.out)
			}
		}
	}
	if taken != 6 {
		t.Errorf("%d rows were taken without their deposit data, want 6", taken)
	}
	s.must(0, "recovery", "drill", "--order", "imported", "--identity", s.identity("recovery-a"))
	s.importedSecrets()
}

// TestImportSampleSwapped: two rows whose ciphertexts changed places, which
// the sample cannot notice, are both refused.
func TestImportSampleSwapped(t *testing.T) {
	s := newSampleSite(t)
	rows := s.invoke(2)
	const blob = "encrypted_key_password_mnemonic_b64"
	rows[0].Item[blob], rows[1].Item[blob] = rows[1].Item[blob], rows[0].Item[blob]
	o := s.takes(exitRefused, sampleFlags{})
	for _, r := range o.rows {
		if r.State != rowRefused || !slices.Contains(r.codes(), "refuse key") {
			t.Errorf("%+v", r)
		}
	}
	if len(s.tree()) != 0 {
		t.Errorf("something was taken: %v", s.tree())
	}
}

// TestImportSampleTwice: a pubkey that stands in two rows comes in once if
// they say the same, and not at all if they do not.
func TestImportSampleTwice(t *testing.T) {
	s := newSampleSite(t)
	copyOf := func(r sampletest.Row, signer string) sampletest.Row {
		c := r
		c.Item = map[string]types.AttributeValue{}
		for k, v := range r.Item {
			c.Item[k] = v
		}
		c.Item["web3signer_uuid"] = &types.AttributeValueMemberS{Value: signer}
		return c
	}
	same, differ := s.invoke(1)[0], s.invoke(1)[0]
	s.rows = append(s.rows, copyOf(same, "signer-2"))
	changed := copyOf(differ, "signer-2")
	key, err := bls.Parse(secret.Copy(differ.Raw))
	if err != nil {
		t.Fatal(err)
	}
	changed.Deposit = sampletest.Deposit(key, s.function.Network, eth.ExecutionCredentials(eth.Address{66}, false))
	if err := changed.Seal(s.encrypt); err != nil {
		t.Fatal(err)
	}
	s.rows = append(s.rows, changed)
	o := s.takes(exitConflict, sampleFlags{})
	states := map[string]int{}
	for _, r := range o.rows {
		states[r.State]++
		if !slices.Contains(r.codes(), "warn pubkey-twice") {
			t.Errorf("%+v", r)
		}
	}
	if states[rowImported] != 1 || states[rowTwin] != 1 || states[rowConflict] != 2 {
		t.Errorf("%v", states)
	}
	if _, there := s.tree()["import "+differ.Pubkey.Hex()]; there {
		t.Error("one of two that contradict each other was taken")
	}
	// And a row that contradicts what was recorded.
	s.rows = s.rows[:1]
	key, _ = bls.Parse(secret.Copy(same.Raw))
	s.rows[0].Deposit = sampletest.Deposit(key, s.function.Network, eth.ExecutionCredentials(eth.Address{66}, false))
	if err := s.rows[0].Seal(s.encrypt); err != nil {
		t.Fatal(err)
	}
	for _, dry := range []bool{true, false} {
		if o := s.takes(exitConflict, sampleFlags{dry: dry}); o.rows[0].State != rowConflict || !slices.Contains(o.rows[0].codes(), "refuse recorded") {
			t.Errorf("%+v", o.rows)
		}
	}
}

// TestImportBorn: a key that was born here is not taken in as foreign.
func TestImportBorn(t *testing.T) {
	s := newSampleSite(t)
	s.must(0, "generate", "--order", "born", "--count", "1", "--keystore", "none", "--yes")
	s.must(0, "bundle", "export", "--order", "born", "--out", s.path("born.bundle"))
	story := &story{site: s.site, order: []string{"born"}}
	h := s.opened(&app{})
	for m, err := range h.records.Mnemonics(t.Context(), "born") {
		if err != nil {
			t.Fatal(err)
		}
		_, plain, _ := strings.Cut(string(story.age("recovery-a", m.Sealing.File)), "\nmnemonic: ")
		s.function.Words, _, _ = strings.Cut(plain, "\n")
	}
	s.invoke(1)
	o := s.takes(exitConflict, sampleFlags{})
	if o.rows[0].State != rowConflict || !strings.Contains(fmt.Sprint(o.rows[0].Findings), "born here") {
		t.Errorf("%+v", o.rows)
	}
	if list := s.must(0, "list"); strings.Contains(list.out, "imported 2") {
		t.Errorf("list:\n%s", list.out)
	}
}
