package config

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/fstest"

	"github.com/stakeseal/stakeseal/certificate"
	"github.com/stakeseal/stakeseal/eth"
)

const generatorText = `version: 1
network: hoodi
withdrawal_addresses:
  acme-cold: "0x71C7656EC7ab88b098defB751B7401B5f6d8976F"
max_validators_per_order: 500
keystore: scrypt
recipients: recipients/
seal_to:
  signing: [signer-a]
  recovery: [anna, vault]
certifier: file:certifier.key
store: sqlite:records.db
archive: dir:bundles/
`

const homeText = `version: 1
generator: local
signers: [signer-a, signer-b]
beacon: ["http://127.0.0.1:5052"]
`

// folder is a home or package in memory.
func folder(files map[string]string) fstest.MapFS {
	all := map[string]string{GeneratorFile: generatorText, HomeFile: homeText,
		"recipients/signer-a.txt": "age1signer\n", "recipients/anna.txt": "age1anna\n", "recipients/vault.txt": "age1vault\n"}
	maps.Copy(all, files)
	fsys := fstest.MapFS{}
	for name, text := range all {
		fsys[name] = &fstest.MapFile{Data: []byte(text), Mode: 0o600}
	}
	return fsys
}

func TestLoadGenerator(t *testing.T) {
	g, err := LoadGenerator(folder(nil))
	if err != nil {
		t.Fatal(err)
	}
	hoodi, _ := eth.LookupNetwork("hoodi")
	if g.Network != hoodi || g.MaxPerOrder != 500 || g.Keystore != "scrypt" || len(g.Addresses) != 1 ||
		g.Addresses["acme-cold"].String() != "0x71C7656EC7ab88b098defB751B7401B5f6d8976F" ||
		g.Certifier != (Ref{"file", "certifier.key"}) || g.Store != (Ref{"sqlite", "records.db"}) || g.Archive != (Ref{"dir", "bundles/"}) {
		t.Errorf("read as %+v", g)
	}
	if got := fmt.Sprintf("%q %q", g.Signing, g.Recovery); got != `[{"signer-a" "age1signer\n"}] [{"anna" "age1anna\n"} {"vault" "age1vault\n"}]` {
		t.Errorf("recipients read as %s", got)
	}
	if name, ok := g.AddressName(g.Addresses["acme-cold"]); name != "acme-cold" || !ok {
		t.Errorf("the address is called %q", name)
	}
	if name, ok := g.AddressName(eth.Address{1}); name != "" || ok {
		t.Errorf("an address that is not allowed is called %q", name)
	}
	if g.Store.String() != "sqlite:records.db" {
		t.Errorf("the store prints as %s", g.Store)
	}
}

func TestDefaults(t *testing.T) {
	text := generatorText
	for _, line := range []string{"max_validators_per_order: 500\n", "keystore: scrypt\n", "recipients: recipients/\n"} {
		text = strings.Replace(text, line, "", 1)
	}
	g, err := LoadGenerator(folder(map[string]string{GeneratorFile: text}))
	if err != nil {
		t.Fatal(err)
	}
	if g.MaxPerOrder != 1000 || g.Keystore != "pbkdf2" || string(g.Signing[0].Data) != "age1signer\n" {
		t.Errorf("defaults are %d, %q, %q", g.MaxPerOrder, g.Keystore, g.Signing)
	}
}

type edit struct {
	name, old, new string
	want           string // a part of the error; "" when it loads
}

// strict are edits of any settings file; first is its second line.
func strict(first string) []edit {
	return []edit{
		{"comments", "version: 1", "# a\nversion: 1 # b", ""},
		{"windows line ends", "\n", "\r\n", ""},
		{"document start", "version: 1", "---\nversion: 1", ""},

		{"empty", "*", "", "not exactly one YAML document"},
		{"comments only", "*", "# nothing\n", "not exactly one YAML document"},
		{"a list", "*", "- version: 1\n", "line 1: not a mapping"},
		{"a scalar", "*", "1\n", "line 1: not a mapping"},
		{"null", "*", "null\n", "line 1: not a mapping"},
		{"not YAML", "*", "version: [\n", ""},
		{"another file", "*", "%PDF-1.7", ""},
		{"two documents", first, "---\n" + first, "not exactly one YAML document"},
		{"a second, empty document", first, first + "\n---\n", ""},
		{"end of document and more", first, "...\n" + first, ""},
		{"a directive", "version: 1", "%YAML 1.1\n---\nversion: 1", ""},
		{"unknown key", first, first + "\ndebug: true", `unknown field "debug"`},
		{"key in another case", "version: 1", "Version: 1", `unknown field "Version"`},
		{"key twice", first, first + "\n" + first, "already defined"},
		{"key twice, once in quotes", first, first + "\n\"version\": 2", "already defined"},
		{"anchor", "version: 1", "version: &v 1", "an anchor is not allowed"},
		{"alias", "version: 1", "version: *v", "an alias is not allowed"},
		{"merge key", first, first + "\n<<: {version: 1}", "a merge key is not allowed"},
		{"merge key instead", "version: 1", "<<: {version: 1}", "a merge key is not allowed"},
		{"tag", "version: 1", "version: !!int 1", "a tag is not allowed"},
		{"binary", first, first + "\nsigners: !!binary bm9uZQ==", ""},
		{"key without a value", "version: 1", "version:", "an empty value is not allowed"},
		{"bracket bomb", first, first + "\nsigners: " + strings.Repeat("[", 50_000), "nested too deeply"},
		{"alias bomb", first, first + "\na: &a [x,x]\nb: &b [*a,*a]", "is not allowed"},
		{"huge", "version: 1", "#" + strings.Repeat("x", maxFile) + "\nversion: 1", "larger than 1048576 bytes"},

		{"NUL", "version: 1", "version: 1 # \x00", "line 1: the character U+0000"},
		{"NUL at the end", "*", "version: 1\n\x00", "line 2: the character U+0000"},
		{"byte order mark", "version: 1", "\ufeffversion: 1", "line 1: the character U+FEFF"},
		{"lone carriage return", "version: 1", "# old\rversion: 1", "line 1: the character U+000D"},
		{"terminal escape", "version: 1", "version: 1 # \x1b[2A", "line 1: the character U+001B"},
		{"text that runs backwards", "version: 1", "version: 1 # \u202e", "line 1: the character U+202E"},
		{"line separator", "version: 1", "# a\u2028version: 1", "line 1: the character U+2028"},
		{"not UTF-8", "version: 1", "version: 1 # \xff", "not UTF-8"},
		{"UTF-16", "version: 1", "\xfe\xff\x00v", "not UTF-8"},

		{"no version", "version: 1\n", "", "version is 0, this program reads 1"},
		{"version 2", "version: 1", "version: 2", "version is 2, this program reads 1"},
		{"version as text", "version: 1", `version: "1"`, "not a whole number"},
		{"version 1.0", "version: 1", "version: 1.0", "not a whole number"},
		{"version in hex", "version: 1", "version: 0x1", "not a whole number"},
		{"version in octal", "version: 1", "version: 0o1", "not a whole number"},
		{"version with a sign", "version: 1", "version: -1", "not a whole number"},
		{"version with an underscore", "version: 1", "version: 1_0", "not a whole number"},
	}
}

func runEdits(t *testing.T, file, text string, edits []edit, load func(fs.FS) error) {
	for _, e := range edits {
		t.Run(e.name, func(t *testing.T) {
			changed := strings.Replace(text, e.old, e.new, 1)
			switch e.old {
			case "*":
				changed = e.new
			case "\n":
				changed = strings.ReplaceAll(text, e.old, e.new)
			}
			if changed == text {
				t.Fatal("the case changes nothing")
			}
			err := load(folder(map[string]string{file: changed}))
			loads := map[string]bool{"comments": true, "windows line ends": true, "document start": true}
			if e.want == "" && (loads[e.name] || strings.HasPrefix(e.name, "good: ")) {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			if !errors.Is(err, ErrSettings) || !strings.Contains(err.Error(), e.want) {
				t.Fatalf("got %v, want ErrSettings with %q", err, e.want)
			}
			if strings.ContainsFunc(err.Error(), func(r rune) bool { return r < ' ' || r == 0x7f }) || len(err.Error()) > 600 {
				t.Errorf("an error not fit to print: %q", err)
			}
		})
	}
}

func TestGeneratorIsStrict(t *testing.T) {
	const address = `"0x71C7656EC7ab88b098defB751B7401B5f6d8976F"`
	runEdits(t, GeneratorFile, generatorText, append(strict("network: hoodi"), []edit{
		{"no network", "network: hoodi\n", "", "network is missing"},
		{"unknown network", "hoodi", "holesky", `unknown network "holesky"`},
		{"network as a number", "hoodi", "560048", "line 2"},
		{"network with spaces", "hoodi", `" hoodi"`, `unknown network " hoodi"`},

		{"no addresses", "withdrawal_addresses:\n  acme-cold: " + address + "\n", "", "names no address"},
		{"addresses empty", "withdrawal_addresses:\n  acme-cold: " + address, "withdrawal_addresses: {}", "names no address"},
		{"addresses as a list", "withdrawal_addresses:\n  acme-cold: " + address, "withdrawal_addresses: [" + address + "]", "not a mapping"},
		{"good: addresses on one line", "withdrawal_addresses:\n  acme-cold: " + address, "withdrawal_addresses: {acme-cold: " + address + "}", ""},
		{"good: address without quotes", address, strings.Trim(address, `"`), ""},
		{"address that YAML reads as a number", address, "0x0000000000000000000000000000000000000001", "not text"},
		{"address in lower case", address, strings.ToLower(address), "checksum"},
		{"address with a wrong digit", "976F", "976f", "checksum"},
		{"address too short", "976F", "976", "acme-cold"},
		{"address twice under one name", address, address + "\n  acme-cold: " + address, "already defined"},
		{"address under two names", address, address + "\n  beta: " + address, "has two names, acme-cold and beta"},
		{"address name in capitals", "acme-cold", "Acme", "address name"},
		{"address name with a slash", "acme-cold", "acme/cold", "address name"},
		{"address name as a number", "acme-cold", "007", "not text"},
		{"address name in a list", "acme-cold", "? [a]\n ", ""},

		{"good: approvers empty", "keystore:", "approvers: []\nkeystore:", ""},
		{"good: approvers", "keystore:", "approvers: [\"ed25519:A6EHv/POEL4dcN0Y50vAmWfk1jCbpQ1fHdyGZBJVMbg=\"]\nkeystore:", ""},
		{"approvers", "keystore:", "approvers: [x]\nkeystore:", "approvers: malformed"},
		{"approver twice", "keystore:", "approvers: [\"ed25519:A6EHv/POEL4dcN0Y50vAmWfk1jCbpQ1fHdyGZBJVMbg=\", \"ed25519:A6EHv/POEL4dcN0Y50vAmWfk1jCbpQ1fHdyGZBJVMbg=\"]\nkeystore:", "twice"},

		{"order of none", "500", "0", "max_validators_per_order is 0"},
		{"good: largest order", "500", "100000", ""},
		{"order too large", "500", "100001", "max_validators_per_order is 100001"},
		{"order past 32 bits", "500", "4294967297", "max_validators_per_order is 4294967297"},
		{"order past 64 bits", "500", "18446744073709551617", "not a whole number"},
		{"order in exponents", "500", "1e3", "not a whole number"},
		{"order of a half", "500", "1.5", "not a whole number"},
		{"order as text", "500", `"500"`, "not a whole number"},

		{"good: no keystore", "keystore: scrypt", "keystore: none", ""},
		{"keystore of another kind", "keystore: scrypt", "keystore: argon2", `keystore is "argon2"`},
		{"keystore in capitals", "keystore: scrypt", "keystore: Scrypt", `keystore is "Scrypt"`},
		{"keystore empty", "keystore: scrypt", `keystore: ""`, "not one line of text"},
		{"keystore with NUL", "keystore: scrypt", `keystore: "scrypt\0"`, "not one line of text"},
		{"keystore as false", "keystore: scrypt", "keystore: false", "not text"},

		{"recipients empty", "recipients: recipients/", `recipients: ""`, "not one line of text"},
		{"recipients above", "recipients: recipients/", "recipients: ../recipients", "use a folder beside generator.yaml"},
		{"recipients above by a detour", "recipients: recipients/", "recipients: recipients/../../recipients", "use a folder beside"},
		{"recipients by a detour", "recipients: recipients/", "recipients: x/../recipients", "use a folder beside"},
		{"recipients at the root", "recipients: recipients/", "recipients: /etc", "use a folder beside"},
		{"recipients is the root", "recipients: recipients/", "recipients: /", "use a folder beside"},
		{"recipients with two slashes", "recipients: recipients/", "recipients: recipients//", "use a folder beside"},
		{"recipients with a backslash", "recipients: recipients/", `recipients: ..\recipients`, "use a folder beside"},
		{"good: recipients without a slash", "recipients: recipients/", "recipients: recipients", ""},

		{"no seal_to", "seal_to:\n  signing: [signer-a]\n  recovery: [anna, vault]\n", "", "signing names 0 recipients"},
		{"nobody signs", "  signing: [signer-a]\n", "", "signing names 0 recipients"},
		{"nobody recovers", "[anna, vault]", "[]", "recovery names 0 recipients"},
		{"one who does both", "[anna, vault]", "[anna, signer-a]", "who signs must not be able to open a mnemonic"},
		{"one twice", "[anna, vault]", "[anna, vault, anna]", `recovery names "anna" twice`},
		{"one twice for signing", "[signer-a]", "[signer-a, signer-a]", `signing names "signer-a" twice`},
		{"a recipient, not a list", "[signer-a]", "signer-a", "line 9"},
		{"a list in a list", "[signer-a]", "[[signer-a]]", "not text"},
		{"a recipient named by a number", "[signer-a]", "[007]", `"007" is not text`},
		{"a recipient named 0x10", "[signer-a]", "[0x10]", `"0x10" is not text`},
		{"a recipient above", "[signer-a]", "[../signer-a]", "recipient name"},
		{"a recipient below", "[signer-a]", "[a/signer-a]", "recipient name"},
		{"a recipient by its path", "[signer-a]", "[/etc/passwd]", "recipient name"},
		{"a recipient called ..", "[signer-a]", "[..]", "recipient name"},
		{"a recipient of two lines", "[signer-a]", `["signer-a\nx"]`, "not one line of text"},
		{"a recipient with NUL", "[signer-a]", `["signer-a\0"]`, "not one line of text"},
		{"an unknown purpose", "  signing:", "  deriving: [anna]\n  signing:", `unknown field "deriving"`},
		{"21 recipients", "[anna, vault]", "[" + strings.Join(manyNames(21), ", ") + "]", "recovery names 21 recipients"},

		{"no certifier", "certifier: file:certifier.key\n", "", `certifier is ""`},
		{"no store", "store: sqlite:records.db\n", "", `store is ""`},
		{"no archive", "archive: dir:bundles/\n", "", `archive is ""`},
		{"a place without a prefix", "sqlite:records.db", "records.db", `store is "records.db"`},
		{"a prefix without a place", "sqlite:records.db", `"sqlite:"`, `store is "sqlite:"`},
		{"a prefix in capitals", "sqlite:", "SQLite:", "store is"},
		{"a prefix with a space", "sqlite:records.db", `"sqlite :records.db"`, "store is"},
		{"a place with a space before it", "sqlite:records.db", `"sqlite: records.db"`, "store is"},
		{"a place of two lines", "sqlite:records.db", `"sqlite:a\nb"`, "not one line of text"},
		{"two stores", "sqlite:records.db", "[sqlite:a, sqlite:b]", "not text"},
	}...), func(fsys fs.FS) error {
		g, err := LoadGenerator(fsys)
		if err != nil && g != nil {
			t.Error("settings and an error at once")
		}
		return err
	})
}

func manyNames(n int) (names []string) {
	for i := range n {
		names = append(names, fmt.Sprintf("r%d", i))
	}
	return names
}

func TestHomeIsStrict(t *testing.T) {
	h, err := LoadHome(folder(nil))
	if err != nil || h.Generator != "local" || fmt.Sprint(h.Signers, h.Beacon) != "[signer-a signer-b] [http://127.0.0.1:5052]" {
		t.Fatalf("read as %+v, %v", h, err)
	}
	const node = `"http://127.0.0.1:5052"`
	runEdits(t, HomeFile, homeText, append(strict("generator: local"), []edit{
		{"no generator", "generator: local\n", "", `generator is ""`},
		{"another generator", "local", "docker:x", `generator is "docker:x"`},
		{"a function without alias", "local", "lambda:arn:aws:lambda:us-east-1:111122223333:function:maker", "not of a Lambda function's alias"},
		{"a version", "local", "lambda:arn:aws:lambda:us-east-1:111122223333:function:maker:7", "not of a Lambda function's alias"},
		{"a name", "local", "lambda:maker:live", "not an ARN to use"},
		{"good: lambda", "local", "lambda:arn:aws:lambda:us-east-1:111122223333:function:maker:live", ""},
		{"good: no signers", "signers: [signer-a, signer-b]\n", "", ""},
		{"good: signers empty", "[signer-a, signer-b]", "[]", ""},
		{"signer twice", "signer-b", "signer-a", `signer "signer-a" is named twice`},
		{"signer in capitals", "signer-b", "Signer", "signer name"},
		{"signer as a number", "signer-b", "12", "not text"},
		{"good: no beacon", "beacon: [" + node + "]\n", "", ""},
		{"good: with a path", node, `"https://node.example.org/abc/"`, ""},
		{"node without a scheme", node, "127.0.0.1:5052", "beacon: node 1"},
		{"node in a file", node, "file:///etc/passwd", "beacon: node 1"},
		{"node without a host", node, `"http://:5052"`, "beacon: node 1"},
		{"node with a password", node, `"http://u:hunter2@h"`, "secrets do not belong in settings"},
		{"node with a key", node, `"https://h/?apikey=hunter2"`, "secrets do not belong in settings"},
		{"node with a fragment", node, `"https://h/#hunter2"`, "secrets do not belong in settings"},
		{"node that does not parse", node, `"http://u:hunter2@%zz"`, "no http:// or https:// URL"},
		{"node twice", node, node + ", " + node, "node 2 is named twice"},
	}...), func(fsys fs.FS) error {
		h, err := LoadHome(fsys)
		if err != nil && strings.Contains(err.Error(), "hunter2") {
			t.Errorf("the error repeats a secret: %v", err)
		}
		if err != nil && h != nil {
			t.Error("settings and an error at once")
		}
		return err
	})
}

// A custom network has one spelling: the trust file's.
func TestCustomNetworkIsThatOfTrustFiles(t *testing.T) {
	const keys = `
  name: devnet-7
  genesis_fork_version: "0x20000007"
  exit_fork_version: "0x50000007"
  genesis_validators_root: "0x0100000000000000000000000000000000000000000000000000000000000000"
  multiplier: 4
  min_activation_gwei: 16000000000
  min_deposit_gwei: 2000000000
  deposit_contract: "0x00000000219ab540356cBB839Cbe05303d7705Fa"
  chain_id: 7700
  genesis_time: 1742213400
  seconds_per_slot: 6
  slots_per_epoch: 8
  mainnet: true
`
	digests := map[[32]byte]string{}
	lines := strings.Split(strings.Trim(keys, "\n"), "\n")
	for skip := -1; skip < len(lines); skip++ {
		text, without := "\n", "nothing"
		for i, line := range lines {
			if i == skip {
				without = strings.TrimSpace(line)
				continue
			}
			text += line + "\n"
		}
		g, err := LoadGenerator(folder(map[string]string{GeneratorFile: strings.Replace(generatorText, " hoodi\n", text, 1)}))
		trust, errTrust := certificate.ParseTrust([]byte("version: 1\nnetwork:" + text + `withdrawal_addresses: {a: "0x71C7656EC7ab88b098defB751B7401B5f6d8976F"}
certifying_keys: [{name: k, key: "ed25519:A6EHv/POEL4dcN0Y50vAmWfk1jCbpQ1fHdyGZBJVMbg="}]
`))
		if (err == nil) != (errTrust == nil) || (err == nil) != (skip < 0 || skip > 2) {
			t.Fatalf("without %q: the maker says %v, the verifier %v", without, err, errTrust)
		}
		if err != nil {
			continue
		}
		if g.Network != trust.Network {
			t.Errorf("without %q: the maker reads %+v, the verifier %+v", without, g.Network, trust.Network)
		}
		if other, taken := digests[g.Network.Digest()]; taken {
			t.Errorf("without %q the network is the same as without %q: a key is not read", without, other)
		}
		digests[g.Network.Digest()] = without
	}
	for _, e := range []struct{ old, new, want string }{
		{"devnet-7", "hoodi", "known network"},
		{"0x20000007", "0x00000000", "belongs to mainnet"},
		{"chain_id: 7700", "chainid: 7700", `unknown field "chainid"`},
		{"chain_id: 7700", "chain_id: 7700.5", "not a whole number"},
		{"mainnet: true", "mainnet: yes", "neither true nor false"},
		{`"0x20000007"`, "0x20000007", "not text"},
	} {
		text := strings.Replace(generatorText, " hoodi\n", strings.Replace(keys, e.old, e.new, 1), 1)
		if _, err := LoadGenerator(folder(map[string]string{GeneratorFile: text})); !errors.Is(err, ErrSettings) || !strings.Contains(err.Error(), e.want) {
			t.Errorf("%s: got %v, want %q", e.new, err, e.want)
		}
	}
}

// One byte of any file, changed, gives another digest or is refused.
func TestEveryByteIsInTheDigest(t *testing.T) {
	whole := folder(nil)
	g, err := LoadGenerator(whole)
	if err != nil {
		t.Fatal(err)
	}
	loaded := 0
	for name, file := range whole {
		if name == HomeFile {
			continue
		}
		for i := range file.Data {
			for _, flip := range []byte{0x01, 0x20, 0x80} {
				data := append([]byte{}, file.Data...)
				data[i] ^= flip
				other, err := LoadGenerator(folder(map[string]string{name: string(data)}))
				if err != nil {
					continue
				}
				loaded++
				if other.Digest == g.Digest {
					t.Fatalf("%s: byte %d changed from %q to %q leaves the digest as it is", name, i, file.Data[i], data[i])
				}
			}
		}
		longer, err := LoadGenerator(folder(map[string]string{name: string(file.Data) + "\n"}))
		if err != nil || longer.Digest == g.Digest {
			t.Errorf("%s: a byte more: %v", name, err)
		}
	}
	if loaded < 50 {
		t.Errorf("only %d changed files loaded", loaded)
	}
}

// What is not named is not part of it: home.yaml, trust.yaml, recipients that
// the settings do not use.
func TestDigestIsOfNamedFilesOnly(t *testing.T) {
	a, err := LoadGenerator(folder(nil))
	if err != nil {
		t.Fatal(err)
	}
	b, err := LoadGenerator(folder(map[string]string{HomeFile: "x", "recipients/other.txt": "x", "anna.txt": "x"}))
	if err != nil || a.Digest != b.Digest {
		t.Errorf("%v, digests %x and %x", err, a.Digest, b.Digest)
	}
}

func TestDigestOfFiles(t *testing.T) {
	one := func(pairs ...string) [32]byte {
		files := map[string][]byte{}
		for i := 0; i < len(pairs); i += 2 {
			files[pairs[i]] = []byte(pairs[i+1])
		}
		return digestFiles(files)
	}
	// Written out by hand: two lengths of 8 bytes, name, content; names sorted.
	if want := sha256.Sum256([]byte("\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x02abc" +
		"\x00\x00\x00\x00\x00\x00\x00\x02\x00\x00\x00\x00\x00\x00\x00\x00de")); one("de", "", "a", "bc") != want {
		t.Errorf("digest %x, want %x", one("de", "", "a", "bc"), want)
	}
	if one("a", "1", "b", "2", "c", "3") != one("c", "3", "a", "1", "b", "2") {
		t.Error("the order of the files matters")
	}
	// No two sets of files have one digest, however names and contents are
	// cut out of the same bytes.
	seen := map[[32]byte]string{}
	rng := rand.New(rand.NewPCG(1, 2))
	for range 20_000 {
		files := map[string][]byte{}
		for range rng.IntN(4) {
			name, data := make([]byte, rng.IntN(10)), make([]byte, rng.IntN(40))
			for _, b := range [][]byte{name, data} {
				for i := range b {
					b[i] = byte(rng.IntN(3)) // lengths and texts look alike
				}
			}
			files[string(name)] = data
		}
		text := fmt.Sprintf("%q", files) // fmt sorts keys
		if other, taken := seen[digestFiles(files)]; taken && other != text {
			t.Fatalf("one digest for %s and %s", other, text)
		}
		seen[digestFiles(files)] = text
	}
}

func TestFilesThatCannotBeRead(t *testing.T) {
	for name, spoil := range map[string]func(fstest.MapFS){
		"settings":  func(f fstest.MapFS) { delete(f, GeneratorFile) },
		"recipient": func(f fstest.MapFS) { delete(f, "recipients/vault.txt") },
		"recipient's suffix": func(f fstest.MapFS) {
			f["recipients/vault"] = f["recipients/vault.txt"]
			delete(f, "recipients/vault.txt")
		},
	} {
		fsys := folder(nil)
		spoil(fsys)
		if g, err := LoadGenerator(fsys); !errors.Is(err, fs.ErrNotExist) || g != nil {
			t.Errorf("%s missing: %v", name, err)
		}
	}
	huge := folder(map[string]string{"recipients/vault.txt": strings.Repeat("#", maxFile+1)})
	if _, err := LoadGenerator(huge); !errors.Is(err, ErrSettings) || !strings.Contains(err.Error(), "larger than") {
		t.Errorf("a huge recipient: %v", err)
	}
	if _, err := LoadHome(fstest.MapFS{}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no home.yaml: %v", err)
	}
	folderAsFile := folder(nil)
	folderAsFile["recipients/vault.txt"] = &fstest.MapFile{Mode: fs.ModeDir | 0o700}
	if _, err := LoadGenerator(folderAsFile); !errors.Is(err, ErrSettings) || !strings.Contains(err.Error(), "not a regular file") {
		t.Errorf("a folder as a file: %v", err)
	}
}

// disk writes the folder out, for what only a real one has.
func disk(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "recipients"), 0o700); err != nil {
		t.Fatal(err)
	}
	for name, file := range folder(nil) {
		if err := os.WriteFile(filepath.Join(dir, name), file.Data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestLinks(t *testing.T) {
	plain, err := LoadGenerator(os.DirFS(disk(t)))
	if err != nil {
		t.Fatal(err)
	}
	link := func(target string) string {
		dir := disk(t)
		path := filepath.Join(dir, "recipients/vault.txt")
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(target, path); err != nil {
			t.Fatal(err)
		}
		return dir
	}
	// A link within is followed; the digest is of the content.
	within := link("../v.txt")
	if err := os.WriteFile(filepath.Join(within, "v.txt"), []byte("age1vault\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	// A link that leads out is followed by os.DirFS, with its content in the
	// digest, and refused by os.Root.
	outside := filepath.Join(t.TempDir(), "v.txt")
	if err := os.WriteFile(outside, []byte("age1vault\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	out := link(outside)
	for name, fsys := range map[string]fs.FS{"within": os.DirFS(within), "within a root": rooted(t, within), "out": os.DirFS(out)} {
		g, err := LoadGenerator(fsys)
		if err != nil || g.Digest != plain.Digest {
			t.Errorf("a link %s: %v", name, err)
		}
	}
	if g, err := LoadGenerator(rooted(t, out)); err == nil || g != nil {
		t.Error("a link that leads out of a root was followed")
	}
	if err := os.WriteFile(outside, []byte("age1mallory\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if g, err := LoadGenerator(os.DirFS(out)); err != nil || g.Digest == plain.Digest {
		t.Errorf("what a link leads to changed, the digest did not: %v", err)
	}
	if _, err := LoadGenerator(os.DirFS(link("vault.txt"))); err == nil {
		t.Error("a link to itself was read")
	}
	for _, target := range []string{"/dev/zero", "."} {
		if _, err := LoadGenerator(os.DirFS(link(target))); !errors.Is(err, ErrSettings) {
			t.Errorf("a link to %s: %v", target, err)
		}
	}
	// A pipe that nobody writes to would hold the program for ever.
	pipe := filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := LoadGenerator(os.DirFS(link(pipe))); !errors.Is(err, ErrSettings) {
		t.Errorf("a link to a pipe: %v", err)
	}
}

func rooted(t *testing.T, dir string) fs.FS {
	t.Helper()
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { root.Close() })
	return root.FS()
}
