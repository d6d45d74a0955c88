package seal_test

import (
	"bytes"
	"crypto/ecdh"
	"encoding/base64"
	"errors"
	"strings"
	"testing"
	"testing/cryptotest"

	"filippo.io/age"
	ageplugin "filippo.io/age/plugin"
	"filippo.io/age/tag"
	"filippo.io/hpke"

	"github.com/stakeseal/stakeseal/seal"
)

type keys struct {
	x25519    *age.X25519Identity
	hybrid    *age.HybridIdentity
	tag       hpke.PrivateKey
	tagHybrid hpke.PrivateKey

	x25519Text, hybridText, tagText, tagHybridText string
}

func newKeys(t testing.TB) (k keys) {
	t.Helper()
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	var err error
	k.x25519, err = age.GenerateX25519Identity()
	check(err)
	k.hybrid, err = age.GenerateHybridIdentity()
	check(err)
	k.tag, err = hpke.DHKEM(ecdh.P256()).GenerateKey()
	check(err)
	k.tagHybrid, err = hpke.MLKEM768P256().GenerateKey()
	check(err)
	k.x25519Text, k.hybridText = k.x25519.Recipient().String(), k.hybrid.Recipient().String()
	p := k.tag.PublicKey().Bytes()
	compressed := append([]byte{2 + p[64]&1}, p[1:33]...)
	k.tagText = ageplugin.EncodeRecipient("tag", compressed)
	k.tagHybridText = ageplugin.EncodeRecipient("tagpq", k.tagHybrid.PublicKey().Bytes())
	return k
}

func (k keys) all() map[string]string {
	return map[string]string{"x25519": k.x25519Text, "hybrid": k.hybridText, "tag": k.tagText, "tag hybrid": k.tagHybridText}
}

func parse(t testing.TB, text string) seal.Recipient {
	t.Helper()
	r, err := seal.ParseRecipient(text)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestParseRecipient(t *testing.T) {
	k := newKeys(t)
	for kind, text := range k.all() {
		if got := parse(t, text).String(); got != text {
			t.Errorf("%s: String is %q", kind, got)
		}
	}

	yubikey := ageplugin.EncodeRecipient("yubikey", bytes.Repeat([]byte{2}, 33))
	for _, c := range []struct{ name, text, says string }{
		{"empty", "", "empty"},
		{"identity", k.x25519.String(), "identity"},
		{"hybrid identity", k.hybrid.String(), "identity"},
		{"lower-case identity", strings.ToLower(k.x25519.String()), "identity"},
		{"plugin identity", ageplugin.EncodeIdentity("yubikey", []byte{1, 2, 3}), "identity"},
		{"plugin", yubikey, "plugin"},
		{"ssh", "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIA", "ssh"},
		{"ssh-rsa", "ssh-rsa AAAA", "ssh"},
		{"kms", "awskms:arn:aws:kms:eu-central-1:111122223333:key/1234", "not in this build"},
		{"hex key", strings.Repeat("4f", 32), "may be a secret"},
		{"words", "legal winner thank year wave sausage worth useful legal winner thank yellow", "may be a secret"},
		{"upper case", strings.ToUpper(k.x25519Text), "age1"},
		{"space before", " " + k.x25519Text, "age1"},
		{"space after", k.x25519Text + " ", "Bech32"},
		{"line feed", k.x25519Text + "\n", "Bech32"},
		{"mistyped", k.x25519Text[:20] + swap(k.x25519Text[20]) + k.x25519Text[21:], "checksum"},
		{"cut", k.x25519Text[:len(k.x25519Text)-1], "checksum"},
		{"short", "age1q", "short"},
		{"padding not zero", encodePadded("age", make([]byte, 32), 1), "no byte"},
		{"wrong length", encode(t, "age", make([]byte, 31)), "X25519"},
		{"hybrid, wrong length", encode(t, "age1pq", make([]byte, 1215)), "ML-KEM"},
		{"tag, wrong length", ageplugin.EncodeRecipient("tag", make([]byte, 32)), "valid"},
		{"tag, not on the curve", ageplugin.EncodeRecipient("tag", offCurve()), "valid"},
		{"tag, infinity", ageplugin.EncodeRecipient("tag", make([]byte, 33)), "valid"},
		{"tag hybrid, wrong length", ageplugin.EncodeRecipient("tagpq", make([]byte, 1248)), "valid"},
		{"tag hybrid, no point", ageplugin.EncodeRecipient("tagpq", make([]byte, 1249)), "valid"},
		{"hybrid, coefficients too large", encode(t, "age1pq", append(bytes.Repeat([]byte{0xff}, 1184), make([]byte, 32)...)), "valid"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r, err := seal.ParseRecipient(c.text)
			if !errors.Is(err, seal.ErrRecipient) || r != nil {
				t.Fatalf("got %v, %v", r, err)
			}
			if !strings.Contains(err.Error(), c.says) {
				t.Errorf("error %q does not say %q", err, c.says)
			}
			if len(err.Error()) > 400 {
				t.Errorf("an error of %d characters", len(err.Error()))
			}
			if c.text != "" && !strings.HasPrefix(c.text, "age1") && strings.Contains(err.Error(), c.text[:min(len(c.text), 12)]) {
				t.Errorf("the error shows what may be a secret: %v", err)
			}
		})
	}
}

func swap(c byte) string {
	if c == 'q' {
		return "p"
	}
	return "q"
}

// offCurve returns a compressed x that no point of P-256 has.
func offCurve() []byte {
	for x := byte(1); ; x++ {
		b := make([]byte, 33)
		b[0], b[32] = 2, x
		if _, err := tag.NewClassicRecipient(b); err != nil {
			return b
		}
	}
}

// encode makes Bech32 with any prefix, from age's encoder for plugins.
func encode(t testing.TB, prefix string, data []byte) string {
	t.Helper()
	return encodePadded(prefix, data, 0)
}

// encodePadded sets the bits of the last digit that belong to no byte.
func encodePadded(prefix string, data []byte, padding int) string {
	var digits []byte
	acc, bits := 0, 0
	for _, b := range data {
		acc, bits = acc<<8|int(b), bits+8
		for bits >= 5 {
			bits -= 5
			digits = append(digits, byte(acc>>bits&31))
		}
	}
	if bits > 0 {
		digits = append(digits, byte((acc<<(5-bits)|padding)&31))
	}
	const set = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
	text := []byte(prefix + "1")
	for _, d := range digits {
		text = append(text, set[d])
	}
	values := []byte{}
	for _, c := range []byte(prefix) {
		values = append(values, c>>5)
	}
	values = append(values, 0)
	for _, c := range []byte(prefix) {
		values = append(values, c&31)
	}
	values = append(append(values, digits...), 0, 0, 0, 0, 0, 0)
	sum := uint32(1)
	for _, v := range values {
		top := sum >> 25
		sum = sum&0x1ffffff<<5 ^ uint32(v)
		for i, g := range []uint32{0x3b6a57b2, 0x26508e6d, 0x1ea119fa, 0x3d4233dd, 0x2a1462b3} {
			if top>>i&1 == 1 {
				sum ^= g
			}
		}
	}
	sum ^= 1
	for i := range 6 {
		text = append(text, set[sum>>(5*(5-i))&31])
	}
	return string(text)
}

// The same point in another encoding would be sealed to and could not be
// opened. Shown here with age itself, then that we refuse it.
func TestOtherEncodingsOfAKeyAreRefused(t *testing.T) {
	k := newKeys(t)
	fileKey := bytes.Repeat([]byte{7}, 16)

	raw, _ := rawOf(t, k.x25519Text)
	raw[31] |= 0x80
	text := encode(t, "age", raw)
	other, err := age.ParseX25519Recipient(text)
	if err != nil {
		t.Fatalf("age refuses it too now; the check may go: %v", err)
	}
	stanzas, err := other.Wrap(fileKey)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := k.x25519.Unwrap(stanzas); !errors.Is(err, age.ErrIncorrectIdentity) {
		t.Errorf("the identity opens the other encoding (%v): the reason for the check is gone", err)
	}
	if _, err := seal.ParseRecipient(text); !errors.Is(err, seal.ErrRecipient) {
		t.Errorf("x25519 with its top bit set: %v", err)
	}

	raw, _ = rawOf(t, k.hybridText)
	raw[len(raw)-1] |= 0x80
	if _, err := seal.ParseRecipient(encode(t, "age1pq", raw)); !errors.Is(err, seal.ErrRecipient) {
		t.Errorf("hybrid with the top bit set: %v", err)
	}

	// 2^255-19 itself and the largest value below it.
	edge := bytes.Repeat([]byte{0xff}, 32)
	edge[0], edge[31] = 0xed, 0x7f
	if _, err := seal.ParseRecipient(encode(t, "age", edge)); !errors.Is(err, seal.ErrRecipient) {
		t.Errorf("2^255-19: %v", err)
	}
	edge[0] = 0xec
	if _, err := seal.ParseRecipient(encode(t, "age", edge)); err != nil {
		t.Errorf("2^255-20: %v", err)
	}
}

// rawOf decodes with age's own parser for plugin recipients where it can, else
// by base32 digits; the checksum was checked by ParseRecipient before.
func rawOf(t testing.TB, text string) ([]byte, string) {
	t.Helper()
	parse(t, text)
	i := strings.LastIndexByte(text, '1')
	var out []byte
	acc, bits := 0, 0
	for _, c := range []byte(text[i+1 : len(text)-6]) {
		acc, bits = acc<<5|strings.IndexByte("qpzry9x8gf2tvdw0s3jn54khce6mua7l", c), bits+5
		if bits >= 8 {
			bits -= 8
			out = append(out, byte(acc>>bits))
			acc &= 1<<bits - 1
		}
	}
	return out, text[:i]
}

// A low-order point gives every sender the same shared secret: age's wrap
// fails on it, and so must the list, before the first key.
func TestLowOrderPointIsRefused(t *testing.T) {
	r, err := seal.ParseRecipient(encode(t, "age", make([]byte, 32)))
	if err != nil {
		return // refused even earlier
	}
	if _, err := seal.NewRecipients(seal.Signing, seal.Named{Name: "zero", Recipient: r}); !errors.Is(err, seal.ErrRecipient) {
		t.Errorf("the point zero: %v", err)
	}
}

// Our tagged stanzas against age's package and against HPKE's opening half.
func TestTagStanzas(t *testing.T) {
	k := newKeys(t)
	fileKey := []byte("sixteen byte key")
	for _, c := range []struct {
		name, text, kind string
		private          hpke.PrivateKey
		labels           int
	}{
		{"classic", k.tagText, "p256tag", k.tag, 0},
		{"hybrid", k.tagHybridText, "mlkem768p256tag", k.tagHybrid, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			theirs, err := tag.ParseRecipient(c.text)
			if err != nil {
				t.Fatal(err)
			}
			ours, ok := parse(t, c.text).Bind(t.Context(), seal.Binding{}).(age.RecipientWithLabels)
			if !ok {
				t.Fatal("no labels")
			}
			stanzas, labels, err := ours.WrapWithLabels(fileKey)
			if err != nil {
				t.Fatal(err)
			}
			if len(labels) != c.labels || c.labels == 1 && labels[0] != "postquantum" {
				t.Errorf("labels %q", labels)
			}
			s := stanzas[0]
			if len(stanzas) != 1 || s.Type != c.kind || len(s.Args) != 2 {
				t.Fatalf("stanzas %+v", stanzas)
			}
			enc, err := base64.RawStdEncoding.Strict().DecodeString(s.Args[1])
			if err != nil {
				t.Fatal(err)
			}
			want, err := theirs.Tag(enc)
			if err != nil {
				t.Fatal(err)
			}
			if got, _ := base64.RawStdEncoding.DecodeString(s.Args[0]); !bytes.Equal(got, want) {
				t.Errorf("tag %x, age computes %x", got, want)
			}
			r, err := hpke.NewRecipient(enc, c.private, hpke.HKDFSHA256(), hpke.ChaCha20Poly1305(), []byte("age-encryption.org/"+c.kind))
			if err != nil {
				t.Fatal(err)
			}
			if got, err := r.Open(nil, s.Body); err != nil || !bytes.Equal(got, fileKey) {
				t.Errorf("opens to %x, %v", got, err)
			}
		})
	}
}

// With the same randomness age's own tag package writes the same stanza.
func TestTagStanzasAreAges(t *testing.T) {
	k := newKeys(t)
	for _, text := range []string{k.tagText, k.tagHybridText} {
		theirs, err := tag.ParseRecipient(text)
		if err != nil {
			t.Fatal(err)
		}
		ours := parse(t, text).Bind(t.Context(), seal.Binding{})
		cryptotest.SetGlobalRandom(t, 1)
		a, err := ours.Wrap(make([]byte, 16))
		if err != nil {
			t.Fatal(err)
		}
		cryptotest.SetGlobalRandom(t, 1)
		b, err := theirs.Wrap(make([]byte, 16))
		if err != nil {
			t.Fatal(err)
		}
		if a[0].Type != b[0].Type || strings.Join(a[0].Args, " ") != strings.Join(b[0].Args, " ") || !bytes.Equal(a[0].Body, b[0].Body) {
			t.Errorf("%s: the stanzas differ", a[0].Type)
		}
	}
}

func TestParseRecipientFile(t *testing.T) {
	k := newKeys(t)
	for _, c := range []struct{ name, text, says string }{
		{"plain", k.x25519Text, ""},
		{"with comments", "# anna, safe 2\n\n" + k.hybridText + "\n# end\n", ""},
		{"carriage returns", "# anna\r\n" + k.x25519Text + "\r\n", ""},
		{"indented", "  " + k.x25519Text + "\t\n", ""},
		{"none", "# nobody\n\n", "none"},
		{"empty", "", "none"},
		{"two", k.x25519Text + "\n" + k.hybridText, "line 2 is a second"},
		{"the same twice", k.x25519Text + "\n" + k.x25519Text, "line 2 is a second"},
		{"comment behind it", k.x25519Text + " # anna", "line 1"},
		{"an identity file", "# public key: " + k.x25519Text + "\n" + k.x25519.String() + "\n", "identity"},
		{"too large", strings.Repeat("#\n", 40000) + k.x25519Text, "at most"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r, err := seal.ParseRecipientFile([]byte(c.text))
			if c.says == "" {
				if err != nil || r.String() != k.x25519Text && r.String() != k.hybridText {
					t.Fatalf("got %v, %v", r, err)
				}
				return
			}
			if !errors.Is(err, seal.ErrRecipient) || !strings.Contains(err.Error(), c.says) {
				t.Errorf("got %v", err)
			}
			if err != nil && strings.Contains(err.Error(), "SECRET-KEY-1") {
				t.Error("the error shows the identity")
			}
		})
	}
}

func FuzzParseRecipient(f *testing.F) {
	k := newKeys(f)
	f.Add(k.x25519Text)
	f.Add(k.hybridText)
	f.Add(k.tagText)
	f.Add(k.tagHybridText)
	f.Add("AGE-SECRET-KEY-1QQQQ")
	f.Add("awskms:arn:aws:kms:eu-central-1:111122223333:key/1234")
	f.Fuzz(func(t *testing.T, text string) {
		r, err := seal.ParseRecipient(text)
		if err != nil {
			if !errors.Is(err, seal.ErrRecipient) {
				t.Fatalf("unclassified: %v", err)
			}
			return
		}
		if r.String() != text {
			t.Fatalf("%q reads as %q", text, r.String())
		}
		again, err := seal.ParseRecipientFile([]byte("# x\n" + text + "\n"))
		if err != nil || again.String() != text {
			t.Fatalf("as a file: %v", err)
		}
	})
}
