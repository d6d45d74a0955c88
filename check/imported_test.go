package check_test

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"

	"filippo.io/age"

	"github.com/stakeseal/stakeseal/check"
	"github.com/stakeseal/stakeseal/eth"
	"github.com/stakeseal/stakeseal/eth/bls"
	"github.com/stakeseal/stakeseal/eth/keystore"
	"github.com/stakeseal/stakeseal/keygen"
	"github.com/stakeseal/stakeseal/seal"
	"github.com/stakeseal/stakeseal/secret"
	"github.com/stakeseal/stakeseal/unseal"
)

// foreign are two keys of one mnemonic, as another program would hand them
// over.
func foreign(t testing.TB, withdrawals bool) (a, b check.Foreign) {
	t.Helper()
	network, _ := eth.LookupNetwork("hoodi")
	spec := keygen.Spec{Network: network, KDF: keystore.PBKDF2, Plan: []eth.Gwei{32e9}, BLS: !withdrawals,
		Credentials: eth.ExecutionCredentials(eth.Address{7}, false)}
	seed := secret.Random(64)
	maker, err := keygen.NewMaker(seed)
	if err != nil {
		t.Fatal(err)
	}
	defer maker.Wipe()
	made, err := maker.Make(t.Context(), spec, []uint32{0, 5}, nil)
	if err != nil {
		t.Fatal(err)
	}
	of := func(m *keygen.Made) check.Foreign {
		return check.Foreign{Network: network, Pubkey: m.Pubkey, Keystore: m.Keystore, Password: m.Password, Seed: seed,
			Credentials: m.Credentials, Deposits: m.Deposits}
	}
	return of(made[0]), of(made[1])
}

func TestImported(t *testing.T) {
	id, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	r, err := seal.ParseRecipient(id.Recipient().String())
	if err != nil {
		t.Fatal(err)
	}
	to, err := seal.NewRecipients(seal.Signing, seal.Named{Name: "a", Recipient: r})
	if err != nil {
		t.Fatal(err)
	}
	for _, withdrawals := range []bool{true, false} {
		_, f := foreign(t, withdrawals)
		i, err := check.Imported(t.Context(), f)
		if err != nil {
			t.Fatal(err)
		}
		if i.Path() != "m/12381/3600/5/0/0" {
			t.Errorf("path %q", i.Path())
		}
		held := check.SecretOf(i)
		file, err := i.Seal(t.Context(), to, "hoodi", "imported", 5)
		if err != nil {
			t.Fatal(err)
		}
		if len(held) != 32 || !bytes.Equal(held, make([]byte, 32)) {
			t.Error("the key was not wiped after sealing")
		}
		if _, err := i.Seal(t.Context(), to, "hoodi", "imported", 5); !errors.Is(err, check.ErrUnchecked) {
			t.Errorf("sealed twice: %v", err)
		}
		opened, err := unseal.NewOpener(unseal.Age(id, "a")).Key(t.Context(), file, seal.SigningBinding("hoodi", "imported", 5, f.Pubkey))
		if err != nil {
			t.Fatal(err)
		}
		if opened.Keystore != nil || opened.Password.Len() != 0 {
			t.Error("the foreign keystore or its password was carried on")
		}
		opened.Wipe()
		if f.Password.Len() == 0 || f.Seed.Len() == 0 {
			t.Error("the caller's secrets were wiped")
		}
		i.Wipe()
	}
	var zero check.Importable
	if _, err := zero.Seal(t.Context(), to, "hoodi", "imported", 0); !errors.Is(err, check.ErrUnchecked) {
		t.Errorf("zero: %v", err)
	}
	if _, err := (*check.Importable)(nil).Seal(t.Context(), to, "hoodi", "imported", 0); !errors.Is(err, check.ErrUnchecked) {
		t.Errorf("nil: %v", err)
	}
	(*check.Importable)(nil).Wipe()
	if (*check.Importable)(nil).Path() != "" {
		t.Error("nil has a path")
	}
}

// TestImportedWithLittle: of a key without deposits, mnemonic and path
// nothing is claimed, and it can be sealed.
func TestImportedWithLittle(t *testing.T) {
	f, _ := foreign(t, true)
	f.Deposits, f.Credentials, f.Seed = nil, eth.Credentials{}, nil
	f.Keystore = bytes.Replace(f.Keystore, []byte(`"path":"m/12381/3600/0/0/0"`), []byte(`"path":""`), 1)
	i, err := check.Imported(t.Context(), f)
	if err != nil {
		t.Fatal(err)
	}
	dropped, err := check.Imported(t.Context(), f)
	if err != nil {
		t.Fatal(err)
	}
	held := check.SecretOf(dropped)
	dropped.Wipe()
	dropped.Wipe()
	if len(held) != 32 || !bytes.Equal(held, make([]byte, 32)) {
		t.Error("a key that is not to be sealed was not wiped")
	}
	id, _ := age.GenerateX25519Identity()
	r, _ := seal.ParseRecipient(id.Recipient().String())
	to, err := seal.NewRecipients(seal.Signing, seal.Named{Name: "a", Recipient: r})
	if err != nil {
		t.Fatal(err)
	}
	file, err := i.Seal(t.Context(), to, "hoodi", "imported", 0)
	if err != nil || i.Path() != "" {
		t.Fatal(i.Path(), err)
	}
	opened, err := unseal.NewOpener(unseal.Age(id, "a")).Key(t.Context(), file, seal.SigningBinding("hoodi", "imported", 0, f.Pubkey))
	if err != nil {
		t.Fatal(err)
	}
	opened.Wipe()
}

// TestImportedRefuses changes one thing at a time: what a table's writer, a
// bug of the maker or a mix-up of rows could have done.
func TestImportedRefuses(t *testing.T) {
	a, b := foreign(t, true)
	bls0, bls1 := foreign(t, false)
	mainnet, _ := eth.LookupNetwork("mainnet")
	signed := func(f check.Foreign, c eth.Credentials, by check.Foreign, path string, n eth.Network) check.Foreign {
		key, err := bls.FromSeed(by.Seed, path)
		if err != nil {
			t.Fatal(err)
		}
		m := eth.DepositMessage{Pubkey: f.Pubkey, Credentials: c, Amount: 32e9}
		d := keygen.Deposit{Amount: 32e9, MessageRoot: m.Root(), Signature: key.Sign(eth.SigningRoot(m.Root(), n.DepositDomain()))}
		d.DataRoot = eth.DepositData{Pubkey: f.Pubkey, Credentials: c, Amount: 32e9, Signature: d.Signature}.Root()
		f.Credentials, f.Deposits = c, []keygen.Deposit{d}
		return f
	}
	other := eth.ExecutionCredentials(eth.Address{66}, false)
	const path0 = "m/12381/3600/0/0/0"
	if _, err := check.Imported(t.Context(), signed(a, other, a, path0, a.Network)); err != nil {
		t.Errorf("the key itself signed for another address, which only the trust file can judge: %v", err)
	}
	with := func(f check.Foreign, change func(*check.Foreign)) check.Foreign {
		f.Deposits = append([]keygen.Deposit(nil), f.Deposits...)
		change(&f)
		return f
	}
	for name, c := range map[string]struct {
		f        check.Foreign
		deposits bool // only these are wrong
		says     string
	}{
		"another pubkey":     {with(a, func(f *check.Foreign) { f.Pubkey = b.Pubkey }), false, "keystore is of"},
		"another's keystore": {with(a, func(f *check.Foreign) { f.Keystore, f.Password = b.Keystore, b.Password }), false, "keystore is of"},
		"a keystore that lies": {with(a, func(f *check.Foreign) {
			f.Keystore, f.Password = bytes.ReplaceAll(b.Keystore, []byte(b.Pubkey.Hex()), []byte(a.Pubkey.Hex())), b.Password
		}), false, "holds the key of"},
		"another's password": {with(a, func(f *check.Foreign) { f.Password = b.Password }), false, "does not open"},
		"no password":        {with(a, func(f *check.Foreign) { f.Password = nil }), false, "does not open"},
		"no keystore":        {with(a, func(f *check.Foreign) { f.Keystore = nil }), false, "does not parse"},
		"another mnemonic":   {with(a, func(f *check.Foreign) { f.Seed = bls0.Seed }), false, "mnemonic gives"},
		"another path": {with(a, func(f *check.Foreign) {
			f.Keystore = bytes.Replace(f.Keystore, []byte(path0), []byte("m/12381/3600/1/0/0"), 1)
		}), false, "mnemonic gives"},
		"no path":                    {with(a, func(f *check.Foreign) { f.Keystore = bytes.Replace(f.Keystore, []byte(path0), nil, 1) }), false, "leads nowhere"},
		"another address, unsigned":  {with(a, func(f *check.Foreign) { f.Credentials = other }), true, "root of deposit 0"},
		"another address, own roots": {signed(a, other, b, path0[:len(path0)-5]+"5/0/0", a.Network), true, "did not sign"},
		"another amount":             {with(a, func(f *check.Foreign) { f.Deposits[0].Amount-- }), true, "root of deposit 0"},
		"another data root":          {with(a, func(f *check.Foreign) { f.Deposits[0].DataRoot[3]++ }), true, "root of deposit 0"},
		"another's deposit":          {with(a, func(f *check.Foreign) { f.Deposits = b.Deposits }), true, "root of deposit 0"},
		"signed for another network": {signed(a, a.Credentials, a, path0, mainnet), true, "did not sign"},
		"0x00 of another's mnemonic": {signed(bls0, a.Credentials, bls0, path0, bls0.Network), true, ""},
		"0x00 of a sibling":          {signed(bls0, bls1.Credentials, bls0, path0, bls0.Network), true, "withdrawal key"},
	} {
		if name == "0x00 of another's mnemonic" {
			c.f = signed(bls0, eth.BLSCredentials(a.Pubkey), bls0, path0, bls0.Network)
			c.says = "withdrawal key"
		}
		i, err := check.Imported(t.Context(), c.f)
		var wrong *check.ForeignError
		if !errors.Is(err, check.ErrForeign) || !errors.As(err, &wrong) || i != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if (len(wrong.Key) == 0) != c.deposits || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v", name, err)
		}
	}
	both := with(a, func(f *check.Foreign) { f.Password, f.Credentials = b.Password, other })
	if _, err := check.Imported(t.Context(), both); err == nil || !strings.Contains(err.Error(), "does not open") || !strings.Contains(err.Error(), "root of deposit") {
		t.Errorf("two things wrong, one said: %v", err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := check.Imported(ended, a); !errors.Is(err, context.Canceled) || errors.Is(err, check.ErrForeign) {
		t.Errorf("cancelled: %v", err)
	}
}
