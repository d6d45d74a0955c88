package unseal_test

import (
	"encoding/hex"
	"errors"
	"strings"
	"testing"

	"github.com/stakeseal/stakeseal/seal"
	"github.com/stakeseal/stakeseal/secret"
	"github.com/stakeseal/stakeseal/unseal"
)

// G2: a header that names one key over a body that holds another.
func TestKeyOfAnotherPubkey(t *testing.T) {
	d := newDesk(t)
	one := strings.Repeat("0", 63) + "1"
	p := pubkeyOf(t, one)
	other := hex.EncodeToString(p[:])
	body := seal.SigningBody(path, raw(t, one), nil, nil).Expose()
	s, err := d.opener().Key(t.Context(), d.seal(t, d.signing, body), d.signing)
	if s != nil || !errors.Is(err, unseal.ErrBinding) {
		t.Fatalf("got %v, %v", s, err)
	}
	e, ok := errors.AsType[*unseal.BindingError](err)
	if !ok || len(e.Fields) != 1 || e.Fields[0] != (unseal.Mismatch{Field: "secret-key", Want: d.signing.Subject, Found: other}) {
		t.Errorf("fields of %v", err)
	}
	if strings.Contains(err.Error(), one) {
		t.Error("the error shows the key")
	}
}

func TestMalformedSigningBody(t *testing.T) {
	d := newDesk(t)
	good := string(signingBody(t))
	line := strings.SplitAfter(good, "\n")
	order := "73eda753299d7d483339d80809a1d80553bda402fffe5bfeffffffff00000001"
	for name, body := range map[string]string{
		"words":                 words,
		"recovery":              string(recoveryBody()),
		"no path":               strings.Join(line[1:], ""),
		"path only":             line[0],
		"bad path":              strings.Replace(good, "/3/", "/03/", 1),
		"long path":             "path: m" + strings.Repeat("/0", 200) + "\n" + line[1],
		"path twice":            line[0] + good,
		"key twice":             line[0] + line[1] + line[1],
		"key without 0x":        strings.Replace(good, "0x", "", 1),
		"key in upper case":     strings.Replace(good, keyHex, strings.ToUpper(keyHex), 1),
		"short key":             strings.Replace(good, keyHex, keyHex[2:], 1),
		"key not hex":           strings.Replace(good, keyHex, "g"+keyHex[1:], 1),
		"key zero":              strings.Replace(good, keyHex, strings.Repeat("0", 64), 1),
		"key is the order":      strings.Replace(good, keyHex, order, 1),
		"key not ended":         strings.TrimSuffix(line[0]+line[1], "\n"),
		"password only":         line[0] + line[1] + line[2],
		"keystore only":         line[0] + line[1] + line[3],
		"keystore first":        line[0] + line[1] + line[3] + line[2],
		"short password":        strings.Replace(good, password, password[1:], 1),
		"password not hex":      strings.Replace(good, password, "x"+password[1:], 1),
		"keystore no object":    strings.Replace(good, keystore, "null", 1),
		"keystore not ended":    strings.TrimSuffix(good, "\n"),
		"something behind":      good + "x",
		"an empty line behind":  good + "\n",
		"carriage returns":      strings.ReplaceAll(good, "\n", "\r\n"),
		"keystore of two lines": strings.Replace(good, `{"crypto"`, "{\n\"crypto\"", 1),
	} {
		s, err := d.opener().Key(t.Context(), d.seal(t, d.signing, []byte(body)), d.signing)
		if s != nil || !errors.Is(err, unseal.ErrBody) {
			t.Errorf("%s: %v", name, err)
		}
		noCanary(t, err)
	}
}

func TestMalformedRecoveryBody(t *testing.T) {
	d := newDesk(t)
	for name, body := range map[string]string{
		"a signing body":      string(signingBody(t)),
		"words alone":         words,
		"no mnemonic":         "plan: 32\nlanguage: english\n",
		"a fact twice":        "plan: 32\nplan: 32\nmnemonic: " + words + "\n",
		"not a fact":          "plan 32\nmnemonic: " + words + "\n",
		"a fact in capitals":  "PLAN: 32\nmnemonic: " + words + "\n",
		"an empty line":       "\nmnemonic: " + words + "\n",
		"mnemonic not ended":  "mnemonic: " + words,
		"no words":            "mnemonic: \n",
		"two spaces":          "mnemonic: legal winner  thank\n",
		"text right behind":   "mnemonic: " + words + "\nhelp",
		"a tab":               "mnemonic: legal winner\tthank\n",
		"not UTF-8":           "mnemonic: legal winner \xff\n",
		"a long fact":         "plan: " + strings.Repeat("3", 5000) + "\nmnemonic: " + words + "\n",
		"words as fact":       "words: " + words + "\n",
		"carriage returns":    "plan: 32\r\nmnemonic: " + words + "\r\n",
		"mnemonic and spaces": "mnemonic: " + words + " \n",
	} {
		r, err := d.opener().Mnemonic(t.Context(), d.seal(t, d.recovery, []byte(body)), d.recovery)
		if r != nil || !errors.Is(err, unseal.ErrBody) {
			t.Errorf("%s: %v", name, err)
		}
		noCanary(t, err)
	}
	for name, body := range map[string]string{
		"no facts, no help": "mnemonic: " + words + "\n",
		"other help":        "mnemonic: " + words + "\n\nanything\x00 at all",
	} {
		if r, err := d.opener().Mnemonic(t.Context(), d.seal(t, d.recovery, []byte(body)), d.recovery); err != nil || string(r.Words.Expose()) != words {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestOtherLanguages(t *testing.T) {
	d := newDesk(t)
	// Japanese in NFKD: the voiced kana are two code points.
	japanese := "あいこくしん あいさつ か\u3099いこく"
	body := seal.RecoveryBody([]seal.Fact{{Name: "language", Value: "japanese"}}, secret.Copy([]byte(japanese)))
	r, err := d.opener().Mnemonic(t.Context(), d.seal(t, d.recovery, body.Expose()), d.recovery)
	if err != nil || string(r.Words.Expose()) != japanese || r.Language != "japanese" {
		t.Errorf("%v", err)
	}
}

func TestWrongDoor(t *testing.T) {
	d := newDesk(t)
	file := d.seal(t, d.signing, signingBody(t))
	if s, err := d.opener().Key(t.Context(), file, d.recovery); s != nil || !errors.Is(err, seal.ErrBinding) {
		t.Errorf("Key for a mnemonic: %v", err)
	}
	if r, err := d.opener().Mnemonic(t.Context(), file, d.signing); r != nil || !errors.Is(err, seal.ErrBinding) {
		t.Errorf("Mnemonic for a key: %v", err)
	}
	if s, err := d.opener().Key(t.Context(), nil, d.signing); s != nil || !errors.Is(err, unseal.ErrDamaged) {
		t.Errorf("Key of nothing: %v", err)
	}
	if r, err := d.opener().Mnemonic(t.Context(), nil, d.recovery); r != nil || !errors.Is(err, unseal.ErrDamaged) {
		t.Errorf("Mnemonic of nothing: %v", err)
	}
	var s *unseal.SigningSecret
	s.Wipe()
	var r *unseal.RecoverySecret
	r.Wipe()
	(&unseal.SigningSecret{}).Wipe()
}
