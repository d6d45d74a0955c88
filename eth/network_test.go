package eth

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"reflect"
	"testing"
	"time"
)

func TestNetworks(t *testing.T) {
	all := Networks()
	want := []string{"mainnet", "sepolia", "hoodi", "plataberget", "ephemery", "gnosis", "chiado"}
	if len(all) != len(want) {
		t.Fatalf("%d networks, want %d", len(all), len(want))
	}
	genesis := map[string]string{
		"mainnet": "2020-12-01T12:00:23Z", "sepolia": "2022-06-20T14:00:00Z", "hoodi": "2025-03-17T12:10:00Z",
		"plataberget": "2026-08-13T12:00:00Z", "gnosis": "2021-12-08T19:55:40Z", "chiado": "2022-10-10T10:05:00Z",
	}
	contracts := map[string]string{ // with checksum, which finds a slip of the pen
		"mainnet": "0x00000000219ab540356cBB839Cbe05303d7705Fa", "sepolia": "0x7f02C3E3c98b133055B8B348B2Ac625669Ed295D",
		"hoodi": "0x00000000219ab540356cBB839Cbe05303d7705Fa", "plataberget": "0x00000000219ab540356cBB839Cbe05303d7705Fa",
		"gnosis": "0x0B98057eA310F4d31F2a452B414647007d1645d9", "chiado": "0xb97036A26259B7147018913bD58a774cf91acf25",
	}
	for i, n := range all {
		if want := contracts[n.Name]; want != "" && n.DepositContract.String() != want || want == "" && n.DepositContract != (Address{}) {
			t.Errorf("%s: deposit contract %s, want %s", n.Name, n.DepositContract, want)
		}
		if n.Name != want[i] {
			t.Errorf("network %d is %q, want %q", i, n.Name, want[i])
		}
		if n.MinActivation != 32e9 || n.MinDeposit != 1e9 {
			t.Errorf("%s: minimums %d and %d after the multiplier", n.Name, n.MinActivation, n.MinDeposit)
		}
		if n.HasGenesisValidatorsRoot == (n.GenesisValidatorsRoot == Root{}) {
			t.Errorf("%s: genesis validators root %s, present %t", n.Name, n.GenesisValidatorsRoot, n.HasGenesisValidatorsRoot)
		}
		if n.Mainnet != (n.Name == "mainnet" || n.Name == "gnosis") {
			t.Errorf("%s: real money %t", n.Name, n.Mainnet)
		}
		if s, ok := genesis[n.Name]; ok {
			if got := time.Unix(n.GenesisTime, 0).UTC().Format(time.RFC3339); got != s {
				t.Errorf("%s: genesis %s, want %s", n.Name, got, s)
			}
		} else if n.GenesisTime != 0 {
			t.Errorf("%s: a genesis time that doesn't last: %d", n.Name, n.GenesisTime)
		}
		if got, ok := LookupNetwork(n.Name); !ok || !reflect.DeepEqual(got, n) {
			t.Errorf("%s isn't found by name", n.Name)
		}
		if got, ok := NetworkByForkVersion(n.GenesisForkVersion); !ok || got.Name != n.Name {
			t.Errorf("%s isn't found by fork version", n.Name)
		}
		if n.GenesisForkVersion == n.ExitForkVersion {
			t.Errorf("%s: one fork version for both", n.Name)
		}
		for _, m := range all[:i] {
			if m.GenesisForkVersion == n.GenesisForkVersion || m.ExitForkVersion == n.ExitForkVersion ||
				m.HasGenesisValidatorsRoot && m.GenesisValidatorsRoot == n.GenesisValidatorsRoot || m.Digest() == n.Digest() {
				t.Errorf("%s and %s share a parameter", m.Name, n.Name)
			}
		}
		for _, s := range []string{"1", "32", "0.5"} { // the least and a full deposit parse to the minimums
			g, err := ParseEther(s, n)
			if err != nil {
				t.Errorf("%s: %v", n.Name, err)
			}
			if s == "1" && g != Gwei(1e9*n.Multiplier) {
				t.Errorf("%s: 1 is %d gwei", n.Name, g)
			}
		}
	}
	all[0].Name = "changed"
	if Networks()[0].Name != "mainnet" {
		t.Error("a caller can change the table")
	}
	if _, ok := LookupNetwork("Mainnet"); ok {
		t.Error("names match in any case")
	}
	if _, ok := NetworkByForkVersion(Version{9, 9, 9, 9}); ok {
		t.Error("an unknown fork version is known")
	}
}

// TestDomains compares with figures that do not come from this code: the
// deposit domain of mainnet is fixed in the consensus specs' test vectors and
// the wild (0x03000000f5a5fd42...: the root of two zero chunks), and the exit
// domain is composed here by hand.
func TestDomains(t *testing.T) {
	n := network(t, "mainnet")
	if got, want := n.DepositDomain().String(), "0x03000000f5a5fd42d16a20302798ef6ed309979b43003d2320d9f0e8ea9831a9"; got != want {
		t.Errorf("deposit domain %s, want %s", got, want)
	}
	fork := make([]byte, 64)
	copy(fork, []byte{0x03, 0, 0, 0})
	root := unhex32(t, "4b363db94e286120d76eb905340fdd4e54bfe9f06bf33ff6cf5ad27f511bfe95")
	copy(fork[32:], root[:])
	sum := sha256.Sum256(fork)
	want := "0x04000000" + hex.EncodeToString(sum[:28])
	if got, ok := n.ExitDomain(); !ok || got.String() != want {
		t.Errorf("exit domain %s, want %s", got, want)
	}
	if _, ok := network(t, "ephemery").ExitDomain(); ok {
		t.Error("ephemery has an exit domain without a genesis validators root")
	}
	object := Root{1, 2, 3}
	domain := n.DepositDomain()
	both := sha256.Sum256(append(object[:], domain[:]...))
	if got := SigningRoot(object, domain); got != both {
		t.Errorf("signing root %s, want %x", got, both)
	}
}

func custom() Network {
	return Network{Name: "devnet-7", GenesisForkVersion: Version{0x10, 0, 0, 7}, ExitForkVersion: Version{0x40, 0, 0, 7}}
}

func TestNewNetwork(t *testing.T) {
	n, err := NewNetwork(custom())
	if err != nil {
		t.Fatal(err)
	}
	if n.Multiplier != 1 || n.MinActivation != 32e9 || n.MinDeposit != 1e9 || n.Mainnet {
		t.Errorf("defaults: %+v", n)
	}
	full := custom()
	full.GenesisValidatorsRoot, full.HasGenesisValidatorsRoot = Root{1}, true
	full.Multiplier, full.MinActivation, full.MinDeposit = 32, 64e9, 2e9
	if got, err := NewNetwork(full); err != nil || !reflect.DeepEqual(got, full) {
		t.Errorf("what was given changed: %+v, %v", got, err)
	}
	mainnet := network(t, "mainnet")
	for _, c := range []struct {
		name   string
		change func(n *Network)
	}{
		{"no name", func(n *Network) { n.Name = "" }},
		{"a known name", func(n *Network) { n.Name = "hoodi" }},
		{"a path as name", func(n *Network) { n.Name = "../x" }},
		{"a capital", func(n *Network) { n.Name = "Devnet" }},
		{"an option as name", func(n *Network) { n.Name = "-x" }},
		{"two lines", func(n *Network) { n.Name = "a\nmainnet: true" }},
		{"a long name", func(n *Network) { n.Name = string(make([]byte, 33)) }},
		{"mainnet's fork version", func(n *Network) { n.GenesisForkVersion = mainnet.GenesisForkVersion }},
		{"mainnet's exit version as genesis", func(n *Network) { n.GenesisForkVersion = mainnet.ExitForkVersion }},
		{"mainnet's exit version", func(n *Network) { n.ExitForkVersion = mainnet.ExitForkVersion }},
		{"mainnet's genesis version as exit", func(n *Network) { n.ExitForkVersion = mainnet.GenesisForkVersion }},
		{"ephemery's fork version", func(n *Network) { n.GenesisForkVersion = Version{0x10, 0, 0x10, 0x1b} }},
		{"mainnet's root", func(n *Network) {
			n.GenesisValidatorsRoot, n.HasGenesisValidatorsRoot = mainnet.GenesisValidatorsRoot, true
		}},
		{"no exit version", func(n *Network) { n.ExitForkVersion = Version{} }},
		{"one version for both", func(n *Network) { n.ExitForkVersion = n.GenesisForkVersion }},
		{"a root said to be missing", func(n *Network) { n.GenesisValidatorsRoot = Root{1} }},
		{"a zero root said to be there", func(n *Network) { n.HasGenesisValidatorsRoot = true }},
		{"a multiplier without exact decimals", func(n *Network) { n.Multiplier = 3 }},
		{"a huge multiplier", func(n *Network) { n.Multiplier = 1 << 40 }},
		{"minimums that fall", func(n *Network) { n.MinDeposit = 33e9 }},
		{"an activation out of reach", func(n *Network) { n.MinActivation = 2049e9 }},
		{"a negative genesis", func(n *Network) { n.GenesisTime = -1 }},
	} {
		n := custom()
		c.change(&n)
		if got, err := NewNetwork(n); !errors.Is(err, ErrNetwork) {
			t.Errorf("%s: accepted as %+v, %v", c.name, got, err)
		}
	}
}

// TestNetworkDigest pins the canonical text by an independent copy of it, and
// shows that every field counts.
func TestNetworkDigest(t *testing.T) {
	want := sha256.Sum256([]byte("stakeseal network v1\n" +
		"name: hoodi\n" +
		"genesis_fork_version: 0x10000910\n" +
		"exit_fork_version: 0x40000910\n" +
		"genesis_validators_root: 0x212f13fc4df078b6cb7db228f1c8307566dcecf900867401a92023d7ba99cb5f\n" +
		"multiplier: 1\n" +
		"min_activation_gwei: 32000000000\n" +
		"min_deposit_gwei: 1000000000\n" +
		"deposit_contract: 0x00000000219ab540356cbb839cbe05303d7705fa\n" +
		"chain_id: 560048\n" +
		"genesis_time: 1742213400\n" +
		"seconds_per_slot: 12\n" +
		"slots_per_epoch: 32\n" +
		"mainnet: false\n"))
	if got := network(t, "hoodi").Digest(); got != want {
		t.Errorf("digest of hoodi %x, want %x", got, want)
	}
	base := custom()
	v := reflect.ValueOf(&base).Elem()
	for i := range v.NumField() {
		changed := base
		f := reflect.ValueOf(&changed).Elem().Field(i)
		switch f.Kind() {
		case reflect.String:
			f.SetString(f.String() + "x")
		case reflect.Bool:
			f.SetBool(!f.Bool())
		case reflect.Uint64:
			f.SetUint(f.Uint() + 1)
		case reflect.Int64:
			f.SetInt(f.Int() + 1)
		case reflect.Array:
			f.Index(0).SetUint(f.Index(0).Uint() ^ 1)
		default:
			t.Fatalf("field %s: kind %s", v.Type().Field(i).Name, f.Kind())
		}
		name := v.Type().Field(i).Name
		if name == "GenesisValidatorsRoot" {
			changed.HasGenesisValidatorsRoot = true
		}
		if changed.Digest() == base.Digest() {
			t.Errorf("field %s isn't in the digest", name)
		}
	}
}
