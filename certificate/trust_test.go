package certificate

import (
	"context"
	"testing"
	"time"

	"github.com/stakeseal/stakeseal/eth"
)

// What the trust file says decides, at exactly the stated seconds.
func TestTrustDecides(t *testing.T) {
	birth := at("2026-11-22T09:30:00Z")
	key := func(turn func(*TrustedKey)) func(*Trust) { return func(tr *Trust) { turn(&tr.Keys[0]) } }
	release := func(turn func(*Release)) func(*Trust) { return func(tr *Trust) { turn(&tr.Releases[0]) } }
	other := coldStore
	other[0] = 1
	for _, c := range []struct {
		name string
		turn func(*Trust)
		want error
	}{
		{"as it is", func(*Trust) {}, nil},
		{"zero trust", func(tr *Trust) { *tr = Trust{} }, ErrSignature},
		{"zero key", key(func(k *TrustedKey) { k.Key = PublicKey{} }), ErrSignature},

		{"key from this second", key(func(k *TrustedKey) { k.NotBefore = birth }), nil},
		{"key from the next second", key(func(k *TrustedKey) { k.NotBefore = birth.Add(time.Second) }), ErrUntrusted},
		{"key until this second", key(func(k *TrustedKey) { k.NotAfter = birth }), nil},
		{"key until the second before", key(func(k *TrustedKey) { k.NotAfter = birth.Add(-time.Second) }), ErrUntrusted},
		{"key retired later", key(func(k *TrustedKey) { k.NotAfter = birth.AddDate(1, 0, 0) }), nil},
		{"key revoked", key(func(k *TrustedKey) { k.Revoked = true }), ErrUntrusted},
		{"key revoked, within validity", key(func(k *TrustedKey) { k.Revoked, k.NotAfter = true, birth }), ErrUntrusted},

		{"other network", func(tr *Trust) { tr.Network, _ = eth.LookupNetwork("sepolia") }, ErrMismatch},
		{"network of the same name", func(tr *Trust) { tr.Network.MinDeposit++ }, ErrMismatch},
		{"network with another fork version", func(tr *Trust) { tr.Network.GenesisForkVersion[3] ^= 1 }, ErrMismatch},

		{"no address", func(tr *Trust) { tr.Addresses = nil }, ErrMismatch},
		{"another address", func(tr *Trust) { tr.Addresses = map[string]eth.Address{"acme-cold": other} }, ErrMismatch},
		{"two addresses", func(tr *Trust) { tr.Addresses["b"] = other }, nil},

		{"no releases", func(tr *Trust) { tr.Releases = nil }, nil},
		{"other binary", release(func(r *Release) { r.Binaries = []Hash{hashOf("x")} }), ErrUntrusted},
		{"no binary", release(func(r *Release) { r.Binaries = nil }), ErrUntrusted},
		{"other settings", release(func(r *Release) { r.Settings = hashOf("x") }), ErrUntrusted},
		{"binary and settings of two releases", func(tr *Trust) {
			tr.Releases = []Release{
				{Name: "a", Binaries: []Hash{hashOf("binary")}, Settings: hashOf("x")},
				{Name: "b", Binaries: []Hash{hashOf("x")}, Settings: hashOf("settings")},
			}
		}, ErrUntrusted},
		{"release from this second", release(func(r *Release) { r.NotBefore = birth }), nil},
		{"release from the next second", release(func(r *Release) { r.NotBefore = birth.Add(time.Second) }), ErrUntrusted},
		{"release until this second", release(func(r *Release) { r.NotAfter = birth }), nil},
		{"release until the second before", release(func(r *Release) { r.NotAfter = birth.Add(-time.Second) }), ErrUntrusted},
		{"release revoked", release(func(r *Release) { r.Revoked = true }), ErrUntrusted},
	} {
		t.Run(c.name, func(t *testing.T) {
			trust := exampleTrust()
			c.turn(trust)
			v, err := trust.VerifyBirth(mustSign(exampleBirth(0)))
			wantClass(t, err, c.want)
			if err != nil {
				return
			}
			want := "v0-1-0"
			if len(trust.Releases) == 0 {
				want = ""
			}
			if v.Release != want || v.AddressName != "acme-cold" || v.Key != "generator-2026" {
				t.Fatalf("release %q, address %q, key %q", v.Release, v.AddressName, v.Key)
			}
		})
	}
}

// Amounts are bounded by the network and the kind of credentials.
func TestAmounts(t *testing.T) {
	for _, c := range []struct {
		name        string
		compounding bool
		amount      eth.Gwei
		want        error
	}{
		{"1 ether", false, 1e9, nil},
		{"a gwei less", false, 1e9 - 1, ErrMismatch},
		{"32 ether", false, 32e9, nil},
		{"a gwei more", false, 32e9 + 1, ErrMismatch},
		{"2048 ether compounding", true, 2048e9, nil},
		{"a gwei more compounding", true, 2048e9 + 1, ErrMismatch},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := exampleBirth(0)
			b.Credentials = eth.ExecutionCredentials(coldStore, c.compounding)
			b.Deposits = []Deposit{depositOf(b, c.amount)}
			_, err := exampleTrust().VerifyBirth(mustSign(b))
			wantClass(t, err, c.want)
		})
	}
}

// The first key in the envelope that is valid counts; with none, all say why.
func TestFirstValidKeyCounts(t *testing.T) {
	env := must(Countersign(context.Background(), notary, mustSign(exampleBirth(0))))
	trust := exampleTrust()
	trust.Keys = append(trust.Keys, TrustedKey{"notary", notary.public(), Validity{}})
	if v := must(trust.VerifyBirth(env)); v.Key != "generator-2026" {
		t.Errorf("counted %q", v.Key)
	}
	trust.Keys[0].NotAfter = at("2026-11-02T00:00:00Z")
	if v := must(trust.VerifyBirth(env)); v.Key != "notary" {
		t.Errorf("counted %q", v.Key)
	}
	trust.Keys[1].NotBefore = at("2030-01-01T00:00:00Z")
	_, err := trust.VerifyBirth(env)
	wantClass(t, err, ErrUntrusted)
}

func TestReceipt(t *testing.T) {
	third := func(r *Receipt) *ReceiptValidator { return &r.Validators[2] }
	for _, c := range []struct {
		name string
		turn func(*Receipt)
		want error
	}{
		{"as it is", func(*Receipt) {}, nil},
		{"a part of the order", func(r *Receipt) { r.From, r.Validators = 1, r.Validators[1:] }, nil},
		{"two mnemonics", func(r *Receipt) {
			r.Mnemonics = []ReceiptMnemonic{{exampleMnemonic, 0, 2, hashOf("a")}, {"zz", 1, 3, hashOf("b")}}
			third(r).Mnemonic = "zz"
		}, nil},
		{"a mnemonic that nothing came from", func(r *Receipt) {
			r.Mnemonics = append(r.Mnemonics, ReceiptMnemonic{"zz", 0, 3, hashOf("b")})
		}, nil},
		{"last one missing", func(r *Receipt) { r.Validators = r.Validators[:2] }, ErrMismatch},
		{"first one missing", func(r *Receipt) { r.Validators = r.Validators[1:] }, ErrMismatch},
		{"one twice", func(r *Receipt) { r.Validators[1] = r.Validators[0] }, ErrMismatch},
		{"descending", func(r *Receipt) { r.Validators[0], r.Validators[1] = r.Validators[1], r.Validators[0] }, ErrMismatch},
		{"a gap", func(r *Receipt) { third(r).Index = 3 }, ErrMismatch},
		{"one too many", func(r *Receipt) { r.Validators = append(r.Validators, *third(r)) }, ErrMismatch},
		{"null validators", func(r *Receipt) { r.Validators = nil }, ErrMismatch},
		{"one pubkey twice", func(r *Receipt) { third(r).Pubkey = r.Validators[0].Pubkey }, ErrMismatch},
		{"one certificate twice", func(r *Receipt) { third(r).Certificate = r.Validators[0].Certificate }, ErrMismatch},
		{"zero pubkey", func(r *Receipt) { third(r).Pubkey = eth.Pubkey{} }, ErrFormat},
		{"zero certificate", func(r *Receipt) { third(r).Certificate = Hash{} }, ErrFormat},
		{"unknown mnemonic", func(r *Receipt) { third(r).Mnemonic = "zz" }, ErrMismatch},
		{"no mnemonics", func(r *Receipt) { r.Mnemonics = []ReceiptMnemonic{} }, ErrMismatch},
		{"mnemonic ends before its index", func(r *Receipt) { r.Mnemonics[0].To = 2 }, ErrMismatch},
		{"mnemonic begins after its index", func(r *Receipt) { r.Mnemonics[0].From = 1 }, ErrMismatch},
		{"mnemonic of an empty range", func(r *Receipt) { r.Mnemonics[0].From = 3 }, ErrMismatch},
		{"mnemonic beyond the order", func(r *Receipt) { r.Mnemonics[0].To = 4 }, ErrMismatch},
		{"mnemonic twice", func(r *Receipt) { r.Mnemonics = append(r.Mnemonics, r.Mnemonics[0]) }, ErrMismatch},
		{"mnemonics out of order by id", func(r *Receipt) {
			r.Mnemonics = append(r.Mnemonics, ReceiptMnemonic{"aa", 0, 3, hashOf("b")})
		}, ErrMismatch},
		{"mnemonics out of order by from", func(r *Receipt) {
			r.Mnemonics = []ReceiptMnemonic{{"aa", 1, 3, hashOf("a")}, {exampleMnemonic, 0, 3, hashOf("b")}}
		}, ErrMismatch},
		{"zero mnemonic digest", func(r *Receipt) { r.Mnemonics[0].Digest = Hash{} }, ErrFormat},
		{"mnemonic without an id", func(r *Receipt) { r.Mnemonics[0].ID = "" }, ErrFormat},
		{"empty range", func(r *Receipt) { r.From, r.Validators = 3, []ReceiptValidator{} }, ErrMismatch},
		{"range backwards", func(r *Receipt) { r.From, r.To = 3, 0 }, ErrMismatch},
		{"range beyond the order", func(r *Receipt) { r.Count = 2 }, ErrMismatch},
		{"no order", func(r *Receipt) { r.Order = "" }, ErrFormat},
		{"no network", func(r *Receipt) { r.Network = "" }, ErrFormat},
		{"zero settings digest", func(r *Receipt) { r.SettingsDigest = Hash{} }, ErrFormat},
		{"no time", func(r *Receipt) { r.Time = time.Time{} }, ErrFormat},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := exampleReceipt()
			c.turn(&r)
			_, err := SignReceipt(context.Background(), certifier, r)
			wantClass(t, err, c.want)
			v, err := exampleTrust().VerifyReceipt(signAny(certifier, r.statement()))
			wantClass(t, err, c.want)
			if err == nil && (v.Key != "generator-2026" || len(v.Validators) != int(r.To-r.From)) {
				t.Fatalf("got %+v", v)
			}
		})
	}
}

func TestReceiptSubject(t *testing.T) {
	for name, turn := range map[string]func(*subject){
		"other name":   func(s *subject) { s.Name = "other" },
		"other digest": func(s *subject) { s.Digest.SHA256 = hashOf("other") },
	} {
		st := exampleReceipt().statement()
		turn(&st.Subject[0])
		_, err := exampleTrust().VerifyReceipt(signAny(certifier, st))
		if classOf(err) != ErrMismatch {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestTrustDecidesReceipts(t *testing.T) {
	placed := exampleReceipt().Time
	for _, c := range []struct {
		name string
		turn func(*Trust)
		want error
	}{
		{"as it is", func(*Trust) {}, nil},
		{"key revoked", func(tr *Trust) { tr.Keys[0].Revoked = true }, ErrUntrusted},
		{"key too young", func(tr *Trust) { tr.Keys[0].NotBefore = placed.Add(time.Second) }, ErrUntrusted},
		{"other network", func(tr *Trust) { tr.Network.ChainID++ }, ErrMismatch},
		{"no releases", func(tr *Trust) { tr.Releases = nil }, nil},
		{"other settings", func(tr *Trust) { tr.Releases[0].Settings = hashOf("x") }, ErrUntrusted},
		{"release revoked", func(tr *Trust) { tr.Releases[0].Revoked = true }, ErrUntrusted},
		{"release expired", func(tr *Trust) { tr.Releases[0].NotAfter = placed.Add(-time.Second) }, ErrUntrusted},
		{"release revoked, the next one good", func(tr *Trust) {
			tr.Releases[0].Revoked = true
			tr.Releases = append(tr.Releases, Release{Name: "v0-1-1", Binaries: []Hash{hashOf("y")}, Settings: hashOf("settings"), Validity: Validity{}})
		}, nil},
		{"other key", func(tr *Trust) { tr.Keys[0].Key = notary.public() }, ErrSignature},
	} {
		t.Run(c.name, func(t *testing.T) {
			trust := exampleTrust()
			c.turn(trust)
			v, err := trust.VerifyReceipt(must(SignReceipt(context.Background(), certifier, exampleReceipt())))
			wantClass(t, err, c.want)
			if (err != nil) != (v == nil) {
				t.Fatal("a verdict and an error at once")
			}
		})
	}
}
