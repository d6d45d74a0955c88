package eth

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"math"
	"strings"
	"testing"

	"github.com/stakeseal/stakeseal/eth/internal/vectors"
)

func network(t testing.TB, name string) Network {
	t.Helper()
	n, ok := LookupNetwork(name)
	if !ok {
		t.Fatalf("network %q is not in the table", name)
	}
	return n
}

func TestParseEther(t *testing.T) {
	odd := Network{Name: "odd", Multiplier: 1_000_000}
	for _, c := range []struct {
		network Network
		in      string
		want    Gwei
	}{
		{network(t, "mainnet"), "32", 32e9},
		{network(t, "mainnet"), "1", 1e9},
		{network(t, "mainnet"), "0", 0},
		{network(t, "mainnet"), "0.5", 5e8},
		{network(t, "mainnet"), "31.999999999", 31_999_999_999},
		{network(t, "mainnet"), "0.000000001", 1},
		{network(t, "mainnet"), "32.000000000000000000", 32e9}, // zeros finer than a gwei change nothing
		{network(t, "mainnet"), "2048", 2048e9},
		{network(t, "mainnet"), "18446744073.709551615", math.MaxUint64},
		{network(t, "gnosis"), "0.03125", 1e9},
		{network(t, "gnosis"), "1", 32e9},
		{network(t, "gnosis"), "64", 2048e9},
		{network(t, "gnosis"), "0.00000000003125", 1},
		{network(t, "chiado"), "1", 32e9},
		{odd, "0.000000000000001", 1},
		{Network{}, "32", 32e9}, // the zero multiplier counts as 1
	} {
		got, err := ParseEther(c.in, c.network)
		if err != nil || got != c.want {
			t.Errorf("ParseEther(%q, %s) = %d, %v, want %d", c.in, c.network.Name, got, err, c.want)
		}
	}
	for _, c := range []struct{ network, in string }{
		{"mainnet", ""}, {"mainnet", "."}, {"mainnet", "1."}, {"mainnet", ".5"},
		{"mainnet", "-1"}, {"mainnet", "+1"}, {"mainnet", "1e3"}, {"mainnet", "0x20"},
		{"mainnet", " 32"}, {"mainnet", "32 "}, {"mainnet", "32\n"}, {"mainnet", "1,5"},
		{"mainnet", "1_000"}, {"mainnet", "032"}, {"mainnet", "00"}, {"mainnet", "1.2.3"},
		{"mainnet", "٣٢"}, {"mainnet", "NaN"}, {"mainnet", "Inf"},
		{"mainnet", "0.0000000001"},          // finer than a gwei
		{"mainnet", "18446744073.709551616"}, // 2^64 gwei
		{"mainnet", strings.Repeat("9", 21)},
		{"mainnet", "1." + strings.Repeat("0", 41)},
		{"gnosis", "0.000000000015625"}, // half a gwei after the multiplier
		{"gnosis", "576460752.303423488"},
	} {
		if got, err := ParseEther(c.in, network(t, c.network)); !errors.Is(err, ErrAmount) {
			t.Errorf("ParseEther(%q, %s) = %d, %v, want ErrAmount", c.in, c.network, got, err)
		}
	}
}

func TestEther(t *testing.T) {
	for _, c := range []struct {
		network string
		in      Gwei
		want    string
	}{
		{"mainnet", 32e9, "32"}, {"mainnet", 31.5e9, "31.5"}, {"mainnet", 0, "0"},
		{"mainnet", 1, "0.000000001"}, {"mainnet", math.MaxUint64, "18446744073.709551615"},
		{"gnosis", 32e9, "1"}, {"gnosis", 1e9, "0.03125"}, {"gnosis", 1, "0.00000000003125"},
	} {
		if got := c.in.Ether(network(t, c.network)); got != c.want {
			t.Errorf("%d on %s prints %q, want %q", c.in, c.network, got, c.want)
		}
	}
	// a multiplier that NewNetwork refuses still must not loop for ever
	if got := Gwei(1).Ether(Network{Multiplier: 3}); len(got) > 80 {
		t.Errorf("endless decimal of %d characters", len(got))
	}
}

func FuzzEther(f *testing.F) {
	for _, s := range []string{"32", "0.03125", "31.999999999", "18446744073.709551615", "0.00000000003125", "-1", "1e9"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		for _, n := range Networks() {
			g, err := ParseEther(s, n)
			if err != nil {
				if !errors.Is(err, ErrAmount) {
					t.Fatalf("%q: error of another class: %v", s, err)
				}
				continue
			}
			again, err := ParseEther(g.Ether(n), n)
			if err != nil || again != g {
				t.Fatalf("%q is %d, printed %q, read back %d, %v", s, g, g.Ether(n), again, err)
			}
		}
	})
}

func TestCheckAmount(t *testing.T) {
	a := Address{1}
	one, two := ExecutionCredentials(a, false), ExecutionCredentials(a, true)
	zero := BLSCredentials(Pubkey{1})
	for _, c := range []struct {
		name    string
		network string
		creds   Credentials
		amount  Gwei
		want    error
	}{
		{"full", "mainnet", one, 32e9, nil},
		{"least", "mainnet", one, 1e9, nil},
		{"too little", "mainnet", one, 1e9 - 1, ErrAmount},
		{"nothing", "mainnet", one, 0, ErrAmount},
		{"too much", "mainnet", one, 32e9 + 1, ErrAmount},
		{"bls", "mainnet", zero, 32e9, nil},
		{"bls too much", "mainnet", zero, 33e9, ErrAmount},
		{"compounding", "mainnet", two, 2048e9, nil},
		{"compounding too much", "mainnet", two, 2048e9 + 1, ErrAmount},
		{"gnosis full", "gnosis", one, 32e9, nil},
		{"gnosis least", "gnosis", one, 1e9, nil},
		{"gnosis too much", "gnosis", one, 33e9, ErrAmount},
		{"gnosis compounding", "gnosis", two, 2048e9, nil},
		{"builder", "mainnet", Credentials{0xb0}, 32e9, ErrCredentials},
		{"unknown", "mainnet", Credentials{0x03}, 32e9, ErrCredentials},
	} {
		err := CheckAmount(network(t, c.network), c.creds, c.amount)
		if !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
		if c.name == "builder" && !strings.Contains(err.Error(), "never withdraw") {
			t.Errorf("the error doesn't say what is at stake: %v", err)
		}
	}
}

func TestAddress(t *testing.T) {
	// The examples of EIP-55, and an address without letters.
	for _, s := range []string{
		"0x52908400098527886E0F7030069857D2E4169EE7", "0x8617E340B3D01FA5F11F306F4090FD50E238070D",
		"0xde709f2102306220921060314715629080e2fb77", "0x27b1fdb04752bbc536007a920d24acb045561c26",
		"0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed", "0xfB6916095ca1df60bB79Ce92cE3Ea74c37c5d359",
		"0xdbF03B407c01E7cD3CBea99509d93f8DDDC8C6FB", "0xD1220A0cf47c7B9Be7A2E6BA89F429762e7b9aDb",
		"0x0000000000000000000000000000000000000001",
	} {
		a, err := ParseAddress(s)
		if err != nil || a.String() != s {
			t.Errorf("%s: got %s, %v", s, a, err)
		}
		var b Address
		text, _ := a.MarshalText()
		if err := b.UnmarshalText(text); err != nil || a != b {
			t.Errorf("%s doesn't survive its text form: %v", s, err)
		}
	}
	const good = "0x71C7656EC7ab88b098defB751B7401B5f6d8976F"
	for _, c := range []struct {
		name, in string
		checksum bool   // an ErrChecksum
		hint     string // the form the error offers
	}{
		{"lower case", strings.ToLower(good), true, good},
		{"upper case", "0x" + strings.ToUpper(good[2:]), true, good},
		{"one letter's case", "0x71c7656EC7ab88b098defB751B7401B5f6d8976F", true, ""},
		{"one digit", "0x72C7656EC7ab88b098defB751B7401B5f6d8976F", true, ""},
		{"no 0x", good[2:], false, ""},
		{"0X", "0X" + good[2:], false, ""},
		{"short", good[:41], false, ""},
		{"long", good + "0", false, ""},
		{"not hex", "0x71C7656EC7ab88b098defB751B7401B5f6d8976G", false, ""},
		{"space", " " + good, false, ""},
		{"newline", good + "\n", false, ""},
		{"empty", "", false, ""},
		{"huge", "0x" + strings.Repeat("a", 1<<20), false, ""},
	} {
		got, err := ParseAddress(c.in)
		if err == nil || got != (Address{}) {
			t.Errorf("%s: accepted as %s", c.name, got)
			continue
		}
		if errors.Is(err, ErrChecksum) != c.checksum {
			t.Errorf("%s: %v", c.name, err)
		}
		if len(err.Error()) > 500 {
			t.Errorf("%s: error of %d bytes", c.name, len(err.Error()))
		}
		var e *ChecksumError
		if errors.As(err, &e) && e.Checksummed != c.hint {
			t.Errorf("%s: offers %q, want %q", c.name, e.Checksummed, c.hint)
		}
		if c.checksum && c.hint == "" && strings.Contains(err.Error(), got.String()) {
			t.Errorf("%s: the error repairs a mistyped address: %v", c.name, err)
		}
	}
	var into struct{ To Address }
	if err := json.Unmarshal([]byte(`{"To":"`+strings.ToLower(good)+`"}`), &into); !errors.Is(err, ErrChecksum) {
		t.Errorf("JSON takes an address without checksum: %v", err)
	}
}

func FuzzAddress(f *testing.F) {
	f.Add("0x71C7656EC7ab88b098defB751B7401B5f6d8976F")
	f.Add("0x71c7656ec7ab88b098defb751b7401b5f6d8976f")
	f.Add("0x0000000000000000000000000000000000000000")
	f.Add("0X")
	f.Fuzz(func(t *testing.T, s string) {
		a, err := ParseAddress(s)
		if err == nil && a.String() != s {
			t.Fatalf("%q parses, but prints as %q: two texts for one address", s, a)
		}
		if err != nil && a != (Address{}) {
			t.Fatalf("%q: an address and an error: %v", s, err)
		}
	})
}

func TestCredentials(t *testing.T) {
	a, err := ParseAddress("0x71C7656EC7ab88b098defB751B7401B5f6d8976F")
	if err != nil {
		t.Fatal(err)
	}
	one, two := ExecutionCredentials(a, false), ExecutionCredentials(a, true)
	if got, want := one.Hex(), "01000000000000000000000071c7656ec7ab88b098defb751b7401b5f6d8976f"; got != want {
		t.Errorf("0x01: %s, want %s", got, want)
	}
	if got, want := two.Hex(), "02000000000000000000000071c7656ec7ab88b098defb751b7401b5f6d8976f"; got != want {
		t.Errorf("0x02: %s, want %s", got, want)
	}
	for _, c := range []Credentials{one, two} {
		if got, ok := c.Address(); !ok || got != a {
			t.Errorf("%s: address %s, %t", c, got, ok)
		}
	}
	bls := BLSCredentials(Pubkey{7})
	sum := sha256.Sum256(append([]byte{7}, make([]byte, 47)...))
	if bls.Kind() != KindBLS || [31]byte(bls[1:]) != [31]byte(sum[1:]) {
		t.Errorf("0x00 credentials: %s", bls)
	}
	if _, ok := bls.Address(); ok {
		t.Error("0x00 credentials have an address")
	}
	for i := 1; i < 12; i++ { // each byte between prefix and address
		c := one
		c[i] = 1
		if _, ok := c.Address(); ok {
			t.Errorf("byte %d isn't zero, yet there is an address", i)
		}
	}
	for _, kind := range []byte{0x03, 0xb0, 0xff} {
		c := one
		c[0] = kind
		if _, ok := c.Address(); ok {
			t.Errorf("kind %#02x has an address", kind)
		}
	}
}

func TestKnownBad(t *testing.T) {
	for _, list := range badLists {
		for _, digits := range list.digits {
			a, err := ParseAddress("0x" + digits)
			if err != nil {
				t.Errorf("a slip in the table: %v", err)
				continue
			}
			if reason, bad := KnownBad(a); !bad || reason != list.reason {
				t.Errorf("%s: %q, %t", a, reason, bad)
			}
		}
	}
	for last := range 256 { // zero and the precompiles
		if _, bad := KnownBad(Address{19: byte(last)}); !bad {
			t.Errorf("0x00..%02x passes", last)
		}
	}
	for _, n := range Networks() {
		if _, bad := KnownBad(n.DepositContract); !bad {
			t.Errorf("the deposit contract of %s passes", n.Name)
		}
	}
	for _, s := range []string{"0x52908400098527886E0F7030069857D2E4169EE7", "0x0000000000000000000000000000000000000100"} {
		a, err := ParseAddress(s)
		if err != nil {
			t.Fatal(err)
		}
		if reason, bad := KnownBad(a); bad {
			t.Errorf("%s is refused: %s", s, reason)
		}
	}
}

func TestParsePath(t *testing.T) {
	got, err := ParsePath("m/12381/3600/4294967295/0/0")
	if err != nil || len(got) != 5 || got[2] != math.MaxUint32 {
		t.Errorf("got %v, %v", got, err)
	}
	if got, err := ParsePath("m"); err != nil || len(got) != 0 {
		t.Errorf("m: got %v, %v", got, err)
	}
	for _, s := range []string{
		"", "/", "m/", "M/0", "12381/3600", "m//0", "m/0/", "m/-1", "m/+1", "m/01", "m/0x1",
		"m/4294967296", "m/12381'/0", "m/ 1", "m/1 ", "m/1\n", "n/0", "m" + strings.Repeat("/0", 17),
	} {
		if got, err := ParsePath(s); !errors.Is(err, ErrPath) {
			t.Errorf("%q: got %v, %v, want ErrPath", s, got, err)
		}
	}
}

func FuzzParsePath(f *testing.F) {
	f.Add("m/12381/3600/0/0/0")
	f.Add("m")
	f.Add("m/01")
	f.Fuzz(func(t *testing.T, s string) {
		got, err := ParsePath(s)
		if err != nil {
			return
		}
		text, _ := json.Marshal(got)
		again := strings.TrimSuffix("m/"+strings.ReplaceAll(strings.Trim(string(text), "[]"), ",", "/"), "/")
		if again != s {
			t.Fatalf("%q parses to %v, which is %q: two texts for one path", s, got, again)
		}
	})
}

func FuzzHex(f *testing.F) {
	f.Add(strings.Repeat("ab", 48))
	f.Add("0x" + strings.Repeat("AB", 96))
	f.Add("0x00000000")
	f.Fuzz(func(t *testing.T, s string) {
		want := strings.ToLower("0x" + strings.TrimPrefix(s, "0x"))
		for _, v := range []interface {
			UnmarshalText([]byte) error
			String() string
		}{new(Pubkey), new(Signature), new(Root), new(Version), new(Credentials)} {
			if v.UnmarshalText([]byte(s)) == nil && v.String() != want {
				t.Fatalf("%q decodes to %s", s, v)
			}
		}
	})
}

func unhex32(t testing.TB, s string) (r Root) {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil || len(b) != 32 {
		t.Fatalf("bad literal %q", s)
	}
	return Root(b)
}

// TestDepositFiles recomputes the roots of real deposit files.
func TestDepositFiles(t *testing.T) {
	for _, name := range vectors.Glob(t, "deposit/*/*/deposit_data-*.json") {
		var entries []struct {
			Pubkey             Pubkey      `json:"pubkey"`
			Credentials        Credentials `json:"withdrawal_credentials"`
			Amount             Gwei        `json:"amount"`
			Signature          Signature   `json:"signature"`
			DepositMessageRoot Root        `json:"deposit_message_root"`
			DepositDataRoot    Root        `json:"deposit_data_root"`
			ForkVersion        Version     `json:"fork_version"`
			NetworkName        string      `json:"network_name"`
		}
		if err := json.Unmarshal(vectors.Read(t, name), &entries); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if len(entries) == 0 {
			t.Errorf("%s is empty", name)
		}
		for i, e := range entries {
			d := DepositData{e.Pubkey, e.Credentials, e.Amount, e.Signature}
			if got := d.Message().Root(); got != e.DepositMessageRoot {
				t.Errorf("%s[%d]: message root %s, want %s", name, i, got, e.DepositMessageRoot)
			}
			if got := d.Root(); got != e.DepositDataRoot {
				t.Errorf("%s[%d]: data root %s, want %s", name, i, got, e.DepositDataRoot)
			}
			n, ok := NetworkByForkVersion(e.ForkVersion)
			if !ok || n.Name != e.NetworkName {
				t.Errorf("%s[%d]: fork version %s is %q, want %q", name, i, e.ForkVersion, n.Name, e.NetworkName)
			}
			if err := CheckAmount(n, e.Credentials, e.Amount); err != nil {
				t.Errorf("%s[%d]: %v", name, i, err)
			}
		}
	}
}

// TestSSZFields changes each field by one bit: every bit must move the root.
func TestSSZFields(t *testing.T) {
	d := DepositData{Amount: 32e9}
	message, data := d.Message().Root(), d.Root()
	for _, c := range []struct {
		name    string
		bytes   int
		message bool
		flip    func(d *DepositData, i int)
	}{
		{"pubkey", 48, true, func(d *DepositData, i int) { d.Pubkey[i] ^= 1 }},
		{"credentials", 32, true, func(d *DepositData, i int) { d.Credentials[i] ^= 1 }},
		{"amount", 8, true, func(d *DepositData, i int) { d.Amount ^= 1 << (8 * i) }},
		{"signature", 96, false, func(d *DepositData, i int) { d.Signature[i] ^= 1 }},
	} {
		for i := range c.bytes {
			e := d
			c.flip(&e, i)
			if e.Root() == data {
				t.Errorf("%s byte %d isn't in the data root", c.name, i)
			}
			if (e.Message().Root() != message) != c.message {
				t.Errorf("%s byte %d in the message root: %t", c.name, i, !c.message)
			}
		}
	}
}
