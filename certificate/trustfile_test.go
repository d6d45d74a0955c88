package certificate

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/stakeseal/stakeseal/eth"
)

func customNetwork() eth.Network {
	return must(eth.NewNetwork(eth.Network{
		Name: "devnet-7", GenesisForkVersion: eth.Version{0x20, 0, 0, 7}, ExitForkVersion: eth.Version{0x50, 0, 0, 7},
		GenesisValidatorsRoot: eth.Root{1, 2, 3}, HasGenesisValidatorsRoot: true,
		Multiplier: 4, MinActivation: 16e9, MinDeposit: 2e9,
		DepositContract: must(eth.ParseAddress("0x00000000219ab540356cBB839Cbe05303d7705Fa")),
		ChainID:         7700, GenesisTime: 1742213400, SecondsPerSlot: 6, SlotsPerEpoch: 8,
	}))
}

func TestFormatTrust(t *testing.T) {
	bare := customNetwork()
	bare.GenesisValidatorsRoot, bare.HasGenesisValidatorsRoot = eth.Root{}, false
	bare.DepositContract, bare.ChainID, bare.GenesisTime, bare.SecondsPerSlot, bare.SlotsPerEpoch = eth.Address{}, 0, 0, 0, 0
	for name, turn := range map[string]func(*Trust){
		"example":              func(*Trust) {},
		"custom network":       func(tr *Trust) { tr.Network = customNetwork() },
		"bare custom network":  func(tr *Trust) { tr.Network = bare },
		"custom, real money":   func(tr *Trust) { tr.Network = customNetwork(); tr.Network.Mainnet = true },
		"no releases":          func(tr *Trust) { tr.Releases = nil },
		"no validity":          func(tr *Trust) { tr.Keys[0].Validity = Validity{} },
		"p256 and ed25519":     func(tr *Trust) { tr.Keys = append(tr.Keys, TrustedKey{"kms", newKMSSigner().public(), Validity{}}) },
		"revoked":              func(tr *Trust) { tr.Keys[0].Revoked, tr.Releases[0].Revoked = true, true },
		"names that YAML eats": func(tr *Trust) { tr.Keys[0].Name, tr.Releases[0].Name = "true", "1e3" },
		"names with YAML's own signs": func(tr *Trust) {
			tr.Keys[0].Name, tr.Releases[0].Name = `# "a": \n`, "{}: &a *b !c |"
			tr.Addresses = map[string]eth.Address{"null": coldStore, "~": {1}, `a"b`: {2}, "- x": {3}, "0x10": {4}}
		},
		"many addresses": func(tr *Trust) {
			for i := range byte(50) {
				tr.Addresses[fmt.Sprintf("cold-%d", i)] = eth.Address{0xab, i}
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			trust := exampleTrust()
			turn(trust)
			text, err := FormatTrust(*trust)
			if err != nil {
				t.Fatal(err)
			}
			back, err := ParseTrust(text)
			if err != nil {
				t.Fatal(err)
			}
			wantSameTrust(t, back, trust)
			for range 3 {
				if again := must(FormatTrust(*back)); !bytes.Equal(again, text) {
					t.Fatalf("formats differently the second time:\n%s\n%s", text, again)
				}
			}
			for i, line := range strings.Split(string(text), "\n") {
				if strings.TrimRight(line, " ") != line {
					t.Errorf("line %d ends with a space", i+1)
				}
			}
		})
	}
}

// wantSameTrust compares field by field.
func wantSameTrust(t *testing.T, got, want *Trust) {
	t.Helper()
	if got.Network != want.Network {
		t.Fatalf("network: got %+v, want %+v", got.Network, want.Network)
	}
	if len(got.Addresses) != len(want.Addresses) || len(got.Keys) != len(want.Keys) || len(got.Releases) != len(want.Releases) {
		t.Fatalf("got %+v, want %+v", got, want)
	}
	for name, a := range want.Addresses {
		if got.Addresses[name] != a {
			t.Fatalf("address %q: got %s, want %s", name, got.Addresses[name], a)
		}
	}
	same := func(a, b Validity) bool {
		return a.NotBefore.Equal(b.NotBefore) && a.NotAfter.Equal(b.NotAfter) && a.Revoked == b.Revoked
	}
	for i, k := range want.Keys {
		g := got.Keys[i]
		if g.Name != k.Name || !g.Key.Equal(k.Key) || !same(g.Validity, k.Validity) {
			t.Fatalf("key: got %+v, want %+v", g, k)
		}
	}
	for i, r := range want.Releases {
		g := got.Releases[i]
		if g.Name != r.Name || g.Settings != r.Settings || fmt.Sprint(g.Binaries) != fmt.Sprint(r.Binaries) || !same(g.Validity, r.Validity) {
			t.Fatalf("release: got %+v, want %+v", g, r)
		}
	}
}

// A Trust that FormatTrust could not write so that it reads back, or that
// could not judge, is an error.
func TestTrustCheck(t *testing.T) {
	for name, turn := range map[string]func(*Trust){
		"zero":                     func(tr *Trust) { *tr = Trust{} },
		"no addresses":             func(tr *Trust) { tr.Addresses = nil },
		"no keys":                  func(tr *Trust) { tr.Keys = nil },
		"one address, two names":   func(tr *Trust) { tr.Addresses["b"] = coldStore },
		"address without a name":   func(tr *Trust) { tr.Addresses[""] = eth.Address{1} },
		"name of two lines":        func(tr *Trust) { tr.Addresses["a\nb"] = eth.Address{1} },
		"zero key":                 func(tr *Trust) { tr.Keys[0].Key = PublicKey{} },
		"one key, two names":       func(tr *Trust) { tr.Keys = append(tr.Keys, TrustedKey{"b", certifier.public(), Validity{}}) },
		"two keys, one name":       func(tr *Trust) { tr.Keys = append(tr.Keys, TrustedKey{tr.Keys[0].Name, notary.public(), Validity{}}) },
		"key without a name":       func(tr *Trust) { tr.Keys[0].Name = "" },
		"validity backwards":       func(tr *Trust) { tr.Keys[0].NotAfter = tr.Keys[0].NotBefore.Add(-1e9) },
		"validity in milliseconds": func(tr *Trust) { tr.Keys[0].NotAfter = tr.Keys[0].NotBefore.Add(1e6) },
		"two releases, one name": func(tr *Trust) {
			tr.Releases = append(tr.Releases, Release{Name: "v0-1-0", Binaries: []Hash{{1}}, Settings: Hash{2}, Validity: Validity{}})
		},
		"two releases, one build": func(tr *Trust) {
			tr.Releases = append(tr.Releases, Release{Name: "b", Binaries: []Hash{hashOf("binary")}, Settings: hashOf("settings"), Validity: Validity{}})
		},
		"release without binaries":   func(tr *Trust) { tr.Releases[0].Binaries = nil },
		"release with a zero binary": func(tr *Trust) { tr.Releases[0].Binaries = []Hash{{}} },
		"release without settings":   func(tr *Trust) { tr.Releases[0].Settings = Hash{} },
		"hoodi in name only":         func(tr *Trust) { tr.Network.ChainID = 1 },
		"network without parameters": func(tr *Trust) { tr.Network = eth.Network{Name: "devnet-7"} },
	} {
		trust := exampleTrust()
		turn(trust)
		if text, err := FormatTrust(*trust); !errors.Is(err, ErrFormat) || text != nil {
			t.Errorf("%s: %v\n%s", name, err, text)
		}
	}
}

const trustText = `version: 1
network: hoodi
withdrawal_addresses:
  acme-cold: "0x71C7656EC7ab88b098defB751B7401B5f6d8976F"
certifying_keys:
  - name: generator-2026
    key: ed25519:A6EHv/POEL4dcN0Y50vAmWfk1jCbpQ1fHdyGZBJVMbg=
    not_before: 2026-11-01T00:00:00Z
releases:
  - name: v0-1-0
    binary_sha256:
      - "9a3a45d01531a20e89ac6ae10b0b0beb0492acd7216a368aa062d1a5fecaf9cd"
    settings_sha256: "5b6c5a7e9e3b6c5a7e9e3b6c5a7e9e3b6c5a7e9e3b6c5a7e9e3b6c5a7e9e3b6c"
`

func TestParseTrust(t *testing.T) {
	trust, err := ParseTrust([]byte(trustText))
	if err != nil {
		t.Fatal(err)
	}
	if trust.Network != hoodi || trust.Keys[0].Name != "generator-2026" || !trust.Keys[0].Key.Equal(certifier.public()) ||
		trust.Addresses["acme-cold"].String() != "0x71C7656EC7ab88b098defB751B7401B5f6d8976F" || len(trust.Releases) != 1 {
		t.Fatalf("read as %+v", trust)
	}
	custom := "network:\n  name: devnet-7\n  genesis_fork_version: \"0x20000007\"\n  exit_fork_version: \"0x50000007\"\n"
	address := `"0x71C7656EC7ab88b098defB751B7401B5f6d8976F"`
	for _, c := range []struct {
		name, old, new string
		want           string // a part of the error; "": it parses
	}{
		{"flow style", "withdrawal_addresses:\n  acme-cold: " + address, "withdrawal_addresses: {acme-cold: " + address + "}", ""},
		{"comments", "version: 1", "# a\nversion: 1 # b", ""},
		{"no releases", trustText[strings.Index(trustText, "releases:"):], "releases: []", ""},
		{"no releases key", trustText[strings.Index(trustText, "releases:"):], "", ""},
		{"custom network", "network: hoodi\n", custom, ""},
		{"address unquoted", address, address[1 : len(address)-1], ""},
		{"not revoked", "not_before:", "revoked: false\n    not_before:", ""},
		{"windows line ends", "\n", "\r\n", ""},

		{"empty", trustText, "", "not exactly one YAML document"},
		{"not a mapping", trustText, "- a\n", "line 1: not a mapping"},
		{"two documents", "releases:", "---\nreleases:", "not exactly one YAML document"},
		{"not YAML", "network: hoodi", "network: [", ""},
		{"unknown key", "network: hoodi", "network: hoodi\nnetwrk: hoodi", `line 3: unknown field "netwrk"`},
		{"unknown key of a key", "not_before:", "not_befor:", `line 8: unknown field "not_befor"`},
		{"unknown key of a release", "settings_sha256:", "settings:", `line 13: unknown field "settings"`},
		{"key twice", "network: hoodi", "network: hoodi\nnetwork: hoodi", "line 3: mapping key \"network\" already defined"},
		{"address name twice", address, address + "\n  acme-cold: \"0x00000000219ab540356cBB839Cbe05303d7705Fa\"", "line 5: mapping key"},
		{"key name twice within", "name: generator-2026", "name: a\n    name: generator-2026", "line 7: mapping key"},
		{"anchor", "network: hoodi", "network: &n hoodi", "line 2: an anchor"},
		{"alias", "network: hoodi", "network: *n", "line 2: an alias"},
		{"tag", "network: hoodi", "network: !!str hoodi", "line 2: a tag"},
		{"merge key", "network: hoodi", "network: hoodi\n<<: {a: b}", "line 3: a merge key"},
		{"empty value", "not_before: 2026-11-01T00:00:00Z", "revoked:", "line 8: an empty value"},
		{"null", "network: hoodi", "network: null", "line 2: an empty value"},
		{"bracket bomb", "network: hoodi", "network: " + strings.Repeat("[", 100_000), "line 2: nested too deeply"},
		{"indent bomb", "network: hoodi", "network:\n" + indentBomb(300), "nested too deeply"},
		{"dash bomb", "network: hoodi", "network:\n" + strings.Repeat("- ", 100_000) + "a", "line 3: nested too deeply"},
		{"colon bomb", "network: hoodi", "network: " + strings.Repeat("? ", 100_000) + "a", ""},
		{"huge", "version: 1", "#" + strings.Repeat("x", maxTrustFile) + "\nversion: 1", "more than 1048576"},

		{"no version", "version: 1\n", "", `no "version: 1"`},
		{"version 2", "version: 1", "version: 2", `no "version: 1"`},
		{"version as text", "version: 1", `version: "1"`, "line 1"},
		{"version in hex", "version: 1", "version: 0x1", "line 1"},
		{"no network", "network: hoodi\n", "", "no network"},
		{"unknown network", "network: hoodi", "network: hodi", `line 2: unknown network "hodi"`},
		{"network list", "network: hoodi", "network: [hoodi]", "line 2"},
		{"known name with parameters", "network: hoodi\n", strings.Replace(custom, "devnet-7", "hoodi", 1), "known network"},
		{"known fork version", "network: hoodi\n", strings.Replace(custom, "0x20000007", "0x00000000", 1), "belongs to mainnet"},
		{"no fork version", "network: hoodi\n", strings.Replace(custom, "  exit_fork_version: \"0x50000007\"\n", "", 1), "fork version"},
		{"fork version as a number", "network: hoodi\n", strings.ReplaceAll(custom, `"`, ""), "line 4"},
		{"unknown parameter", "network: hoodi\n", custom + "  chainid: 7\n", `line 6: unknown field "chainid"`},
		{"negative parameter", "network: hoodi\n", custom + "  chain_id: -7\n", "line 6"},

		{"no addresses", "withdrawal_addresses:\n  acme-cold: " + address + "\n", "", "no withdrawal address"},
		{"lower-case address", address, strings.ToLower(address), "line 4: withdrawal address \"acme-cold\""},
		{"wrong checksum", "976F", "976f", "line 4: withdrawal address \"acme-cold\""},
		{"number that YAML would read", address, "0x0000000000000000000000000000000000000001", "line 4"},
		{"address list", "withdrawal_addresses:\n  acme-cold: " + address, "withdrawal_addresses: [" + address + "]", "line 3"},
		{"number as address name", "acme-cold", "1", "line 4"},
		{"one address, two names", address, address + "\n  b: " + address, "two names"},

		{"no certifying keys", trustText[strings.Index(trustText, "certifying_keys:"):strings.Index(trustText, "releases:")], "", "no certifying key"},
		{"short key", "A6EHv/POEL4dcN0Y50vAmWfk1jCbpQ1fHdyGZBJVMbg=", "A6EHvw==", "line 7: certifying key \"generator-2026\""},
		{"key without a key", "    key: ed25519:A6EHv/POEL4dcN0Y50vAmWfk1jCbpQ1fHdyGZBJVMbg=\n", "", "neither ed25519"},
		{"date only", "2026-11-01T00:00:00Z", "2026-11-01", "line 8: time"},
		{"offset", "2026-11-01T00:00:00Z", "2026-11-01T00:00:00+00:00", "line 8: time"},
		{"fraction", "2026-11-01T00:00:00Z", "2026-11-01T00:00:00.5Z", "line 8: time"},
		{"revoked: yes", "not_before: 2026-11-01T00:00:00Z", "revoked: yes", "line 8"},
		{"revoked as text", "not_before: 2026-11-01T00:00:00Z", `revoked: "true"`, "line 8"},
		{"ends before it begins", "2026-11-01T00:00:00Z", "2026-11-01T00:00:00Z\n    not_after: 2026-10-01T00:00:00Z", "ends before"},

		{"short digest", "9a3a45d0", "9a3a", "line 12: release \"v0-1-0\""},
		{"upper-case digest", "9a3a45d0", "9A3A45D0", "line 12: release \"v0-1-0\""},
		{"one binary, no list", "binary_sha256:\n      - ", "binary_sha256: ", "line 11"},
		{"no settings", "    settings_sha256: \"5b6c5a7e9e3b6c5a7e9e3b6c5a7e9e3b6c5a7e9e3b6c5a7e9e3b6c5a7e9e3b6c\"\n", "", "settings"},
	} {
		t.Run(c.name, func(t *testing.T) {
			text := strings.Replace(trustText, c.old, c.new, 1)
			if c.old == "\n" {
				text = strings.ReplaceAll(trustText, c.old, c.new)
			}
			if text == trustText {
				t.Fatal("the case changes nothing")
			}
			trust, err := ParseTrust([]byte(text))
			switch {
			case c.name == "not YAML" || c.name == "colon bomb":
				wantClass(t, err, ErrFormat)
			case c.want == "":
				if err != nil {
					t.Fatal(err)
				}
			default:
				wantClass(t, err, ErrFormat)
				if trust != nil {
					t.Fatal("a trust and an error at once")
				}
				if !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "\n") || len(err.Error()) > 600 {
					t.Fatalf("got %q, want a line with %q", err, c.want)
				}
			}
		})
	}
}

// A digest without quotes is read as written or refused, never as a number.
func TestUnquotedDigests(t *testing.T) {
	const quoted = `"5b6c5a7e9e3b6c5a7e9e3b6c5a7e9e3b6c5a7e9e3b6c5a7e9e3b6c5a7e9e3b6c"`
	for _, digits := range []string{
		strings.Repeat("12345678", 8), strings.Repeat("0", 63) + "7", strings.Repeat("1", 62) + "e1",
		"0e" + strings.Repeat("0", 61) + "1", strings.Repeat("0", 56) + "12345678", "0b" + strings.Repeat("1", 62),
	} {
		trust, err := ParseTrust([]byte(strings.Replace(trustText, quoted, digits, 1)))
		if err == nil && trust.Releases[0].Settings.String() != digits {
			t.Errorf("%s is read as %s", digits, trust.Releases[0].Settings)
		}
		t.Logf("%s...: %v", digits[:8], err)
	}
}

func indentBomb(depth int) string {
	var b strings.Builder
	for i := range depth {
		b.WriteString(strings.Repeat(" ", i+1) + "a:\n")
	}
	return b.String()
}

// Whatever trust can be put together, formatting it and reading it back
// changes nothing. The generator is seeded: a failure repeats.
func TestFormatTrustReadsBack(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	name := func(i int) string {
		b := make([]byte, 1+rng.IntN(12))
		for j := range b {
			b[j] = byte(0x21 + rng.IntN(0x5e))
		}
		return fmt.Sprintf("%s%d", b, i)
	}
	validity := func() (v Validity) {
		if rng.IntN(2) == 0 {
			v.NotBefore = at("2026-01-01T00:00:00Z").AddDate(0, 0, rng.IntN(300))
		}
		if rng.IntN(2) == 0 {
			v.NotAfter = at("2027-01-01T00:00:00Z").AddDate(0, 0, rng.IntN(300))
		}
		v.Revoked = rng.IntN(4) == 0
		return v
	}
	for range 100 {
		trust := &Trust{Network: hoodi, Addresses: map[string]eth.Address{}}
		for i := range 1 + rng.IntN(4) {
			trust.Addresses[name(i)] = eth.Address{byte(rng.Uint32()), byte(i)}
			trust.Keys = append(trust.Keys, TrustedKey{name(i), newEdSigner(byte(i)).public(), validity()})
			trust.Releases = append(trust.Releases, Release{Name: name(i), Binaries: []Hash{{byte(i + 1)}, {byte(i + 1), 1}}, Settings: Hash{9}, Validity: validity()})
		}
		text, err := FormatTrust(*trust)
		if err != nil {
			t.Fatal(err)
		}
		back, err := ParseTrust(text)
		if err != nil {
			t.Fatalf("%v\n%s", err, text)
		}
		wantSameTrust(t, back, trust)
	}
}
