package seal_test

import (
	"bytes"
	"strings"
	"testing"

	"github.com/stakeseal/stakeseal/seal"
	"github.com/stakeseal/stakeseal/secret"
)

const password = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"

func TestSigningBody(t *testing.T) {
	key := secret.Copy(bytes.Repeat([]byte{0x25, 0xab}, 16))
	hex := strings.Repeat("25ab", 16)
	pw := secret.Copy([]byte(password))
	keystore := []byte(`{"crypto":{},"version":4}`)

	got := seal.SigningBody("m/12381/3600/3/0/0", key, pw, keystore)
	want := "path: m/12381/3600/3/0/0\nsecret-key: 0x" + hex + "\nkeystore-password: " + password + "\nkeystore: {\"crypto\":{},\"version\":4}\n"
	if string(got.Expose()) != want {
		t.Errorf("got\n%s", got.Expose())
	}
	got = seal.SigningBody("m/12381/3600/3/0/0", key, nil, nil)
	if string(got.Expose()) != "path: m/12381/3600/3/0/0\nsecret-key: 0x"+hex+"\n" {
		t.Errorf("without keystore, got\n%s", got.Expose())
	}

	for name, body := range map[string]*secret.Bytes{
		"no path":               seal.SigningBody("", key, pw, keystore),
		"path of two lines":     seal.SigningBody("m/1\nx: y", key, pw, keystore),
		"path 03":               seal.SigningBody("m/12381/3600/03/0/0", key, pw, keystore),
		"path without m":        seal.SigningBody("12381/3600/3/0/0", key, pw, keystore),
		"path hardened":         seal.SigningBody("m/12381'/3600", key, pw, keystore),
		"no key":                seal.SigningBody("m/0", nil, pw, keystore),
		"short key":             seal.SigningBody("m/0", secret.New(31), pw, keystore),
		"long key":              seal.SigningBody("m/0", secret.New(33), pw, keystore),
		"password only":         seal.SigningBody("m/0", key, pw, nil),
		"keystore only":         seal.SigningBody("m/0", key, nil, keystore),
		"raw password":          seal.SigningBody("m/0", key, secret.New(32), keystore),
		"upper-case password":   seal.SigningBody("m/0", key, secret.Copy(bytes.ToUpper([]byte(password))), keystore),
		"keystore of two lines": seal.SigningBody("m/0", key, pw, []byte("{\n}")),
		"keystore with NUL":     seal.SigningBody("m/0", key, pw, []byte("{\x00}")),
		"keystore and newline":  seal.SigningBody("m/0", key, pw, []byte("{}\n")),
		"keystore is no object": seal.SigningBody("m/0", key, pw, []byte("[]")),
	} {
		if body != nil {
			t.Errorf("%s: built\n%s", name, body.Expose())
		}
	}
	if string(pw.Expose()) != password || key.Len() != 32 {
		t.Error("the builder changed its arguments")
	}
}

func TestRecoveryBody(t *testing.T) {
	facts := []seal.Fact{{"indexes", "0-9"}, {"language", "english"}}
	words := secret.Copy([]byte("legal winner thank yellow"))
	got := string(seal.RecoveryBody(facts, words).Expose())
	if !strings.HasPrefix(got, "indexes: 0-9\nlanguage: english\nmnemonic: legal winner thank yellow\n\n") {
		t.Errorf("got\n%s", got)
	}
	for _, must := range []string{"existing-mnemonic", "validator_start_index", "num_validators", "EIP-2333", "slashed"} {
		if !strings.Contains(got, must) {
			t.Errorf("the help does not speak of %s", must)
		}
	}
	for _, line := range strings.Split(got, "\n") {
		if len(line) > 79 {
			t.Errorf("a line of %d characters: %s", len(line), line)
		}
	}
	japanese := secret.Copy([]byte("あいこくしん あいさつ"))
	if seal.RecoveryBody(facts, japanese) == nil || seal.RecoveryBody(nil, words) == nil {
		t.Error("refused what is fine")
	}

	for name, body := range map[string]*secret.Bytes{
		"no words":               seal.RecoveryBody(facts, nil),
		"words of two lines":     seal.RecoveryBody(facts, secret.Copy([]byte("a\nb"))),
		"two spaces":             seal.RecoveryBody(facts, secret.Copy([]byte("a  b"))),
		"space before":           seal.RecoveryBody(facts, secret.Copy([]byte(" a"))),
		"space after":            seal.RecoveryBody(facts, secret.Copy([]byte("a "))),
		"tab":                    seal.RecoveryBody(facts, secret.Copy([]byte("a\tb"))),
		"not UTF-8":              seal.RecoveryBody(facts, secret.Copy([]byte("a\xff"))),
		"a C1 control":           seal.RecoveryBody(facts, secret.Copy([]byte("a\u0085b"))),
		"a line separator":       seal.RecoveryBody(facts, secret.Copy([]byte("a\u2028b"))),
		"a fact named mnemonic":  seal.RecoveryBody([]seal.Fact{{"mnemonic", "x"}}, words),
		"a fact twice":           seal.RecoveryBody([]seal.Fact{{"plan", "32"}, {"plan", "31"}}, words),
		"a fact without name":    seal.RecoveryBody([]seal.Fact{{"", "x"}}, words),
		"a fact without value":   seal.RecoveryBody([]seal.Fact{{"plan", ""}}, words),
		"a fact of two lines":    seal.RecoveryBody([]seal.Fact{{"plan", "32\nx: y"}}, words),
		"a fact ending in space": seal.RecoveryBody([]seal.Fact{{"plan", "32 "}}, words),
		"a fact in upper case":   seal.RecoveryBody([]seal.Fact{{"Plan", "32"}}, words),
		"a fact with umlaut":     seal.RecoveryBody([]seal.Fact{{"plan", "ä"}}, words),
		"a fact with a colon":    seal.RecoveryBody([]seal.Fact{{"a: b", "c"}}, words),
	} {
		if body != nil {
			t.Errorf("%s: built\n%s", name, body.Expose())
		}
	}
}
