package unseal_test

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"strings"
	"testing"

	"filippo.io/age"

	"github.com/stakeseal/stakeseal/eth/bls"
	"github.com/stakeseal/stakeseal/seal"
	"github.com/stakeseal/stakeseal/secret"
	"github.com/stakeseal/stakeseal/unseal"
)

const (
	path     = "m/12381/3600/3/0/0"
	keyHex   = "25295f0d1d592a90b333e26e85149708208e9f8e8bc18f6c77bd62f8ad7a6866"
	password = "c0ffee00112233445566778899aabbccddeeff00112233445566778899aabbcc"
	words    = "legal winner thank year wave sausage worth useful legal winner thank yellow"
	keystore = `{"crypto":{"kdf":{}},"path":"m/12381/3600/3/0/0","version":4}`
)

// canaries are what no error may show.
var canaries = []string{keyHex[:16], password[:16], "legal winner", `"crypto"`, "AGE-SECRET-KEY-"}

func raw(t testing.TB, digits string) *secret.Bytes {
	t.Helper()
	b, err := hex.DecodeString(digits)
	if err != nil {
		t.Fatal(err)
	}
	return secret.Take(b)
}

func pubkeyOf(t testing.TB, digits string) [48]byte {
	t.Helper()
	k, err := bls.Parse(raw(t, digits))
	if err != nil {
		t.Fatal(err)
	}
	defer k.Wipe()
	return k.Pubkey()
}

// desk has one recipient of each native kind and what opens for it.
type desk struct {
	x, stranger *age.X25519Identity
	pq          *age.HybridIdentity
	signing     seal.Binding
	recovery    seal.Binding
}

func newDesk(t testing.TB) *desk {
	t.Helper()
	var d desk
	var err error
	if d.x, err = age.GenerateX25519Identity(); err != nil {
		t.Fatal(err)
	}
	if d.stranger, err = age.GenerateX25519Identity(); err != nil {
		t.Fatal(err)
	}
	if d.pq, err = age.GenerateHybridIdentity(); err != nil {
		t.Fatal(err)
	}
	d.signing = seal.SigningBinding("hoodi", "order-1", 3, pubkeyOf(t, keyHex))
	d.recovery = seal.RecoveryBinding("hoodi", "order-1", "m-0123456789abcdef")
	return &d
}

func (d *desk) opener() *unseal.Opener { return unseal.NewOpener(unseal.Age(d.x, "anna")) }

func sealTo(t testing.TB, recipient string, b seal.Binding, body []byte) []byte {
	t.Helper()
	r, err := seal.ParseRecipient(recipient)
	if err != nil {
		t.Fatal(err)
	}
	list, err := seal.NewRecipients(b.Purpose, seal.Named{Name: "anna", Recipient: r})
	if err != nil {
		t.Fatal(err)
	}
	file, err := list.Seal(t.Context(), b, secret.Copy(body))
	if err != nil {
		t.Fatal(err)
	}
	return file
}

func (d *desk) seal(t testing.TB, b seal.Binding, body []byte) []byte {
	return sealTo(t, d.x.Recipient().String(), b, body)
}

func signingBody(t testing.TB) []byte {
	return seal.SigningBody(path, raw(t, keyHex), secret.Copy([]byte(password)), []byte(keystore)).Expose()
}

func recoveryBody() []byte {
	return seal.RecoveryBody([]seal.Fact{
		{Name: "indexes", Value: "0-9"}, {Name: "withdrawal-credentials", Value: "0x01" + strings.Repeat("0", 62)},
		{Name: "plan", Value: "32"}, {Name: "language", Value: "english"}, {Name: "created", Value: "2026-01-02T03:04:05Z"},
	}, secret.Copy([]byte(words))).Expose()
}

// rawFile makes any age file, for what seal would not make.
func rawFile(t testing.TB, r age.Recipient, plain string) []byte {
	t.Helper()
	var out bytes.Buffer
	w, err := age.Encrypt(&out, r)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write([]byte(plain)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func noCanary(t *testing.T, err error) {
	t.Helper()
	for _, c := range canaries {
		if err != nil && strings.Contains(err.Error(), c) {
			t.Errorf("the error shows %q: %v", c, err)
		}
	}
}

func TestRoundTrip(t *testing.T) {
	d := newDesk(t)
	for name, to := range map[string]struct {
		recipient string
		id        age.Identity
	}{
		"x25519": {d.x.Recipient().String(), d.x},
		"hybrid": {d.pq.Recipient().String(), d.pq},
	} {
		t.Run(name, func(t *testing.T) {
			o := unseal.NewOpener(unseal.Age(d.stranger, "stranger"), unseal.Age(to.id, "anna"))
			file := sealTo(t, to.recipient, d.signing, signingBody(t))
			body, err := o.Open(t.Context(), file, d.signing)
			if err != nil || !bytes.Equal(body.Expose(), signingBody(t)) {
				t.Fatalf("opened %d bytes, %v", body.Len(), err)
			}
			s, err := o.Key(t.Context(), file, d.signing)
			if err != nil {
				t.Fatal(err)
			}
			if s.Path != path || string(s.Keystore) != keystore || string(s.Password.Expose()) != password || hex.EncodeToString(s.Key.Raw().Expose()) != keyHex {
				t.Error("another secret came out")
			}
			s.Wipe()
			if s.Password.Len() != 0 {
				t.Error("Wipe left the password")
			}

			bare := seal.SigningBody(path, raw(t, keyHex), nil, nil).Expose()
			s, err = o.Key(t.Context(), sealTo(t, to.recipient, d.signing, bare), d.signing)
			if err != nil || s.Keystore != nil || s.Password != nil {
				t.Errorf("without keystore: %+v, %v", s, err)
			}

			r, err := o.Mnemonic(t.Context(), sealTo(t, to.recipient, d.recovery, recoveryBody()), d.recovery)
			if err != nil {
				t.Fatal(err)
			}
			if string(r.Words.Expose()) != words || r.Language != "english" || len(r.Facts) != 5 || r.Facts["indexes"] != "0-9" || r.Facts["created"] != "2026-01-02T03:04:05Z" {
				t.Errorf("opened %v, %q", r.Facts, r.Language)
			}
			r.Wipe()
			if r.Words.Len() != 0 {
				t.Error("Wipe left the words")
			}
		})
	}
}

// The largest body that seal takes opens again.
func TestLargest(t *testing.T) {
	d := newDesk(t)
	body := bytes.Repeat([]byte("x"), seal.MaxBody)
	got, err := d.opener().Open(t.Context(), d.seal(t, d.signing, body), d.signing)
	if err != nil || !bytes.Equal(got.Expose(), body) {
		t.Errorf("%d bytes, %v", got.Len(), err)
	}
}

// G2: what was sealed as one thing opens as nothing else.
func TestBinding(t *testing.T) {
	d := newDesk(t)
	other := seal.SigningBinding("hoodi", "order-1", 4, pubkeyOf(t, strings.Repeat("0", 63)+"1"))
	file := d.seal(t, d.signing, signingBody(t))
	recoveryFile := d.seal(t, d.recovery, recoveryBody())
	change := func(b seal.Binding, f func(*seal.Binding)) seal.Binding {
		f(&b)
		return b
	}
	for _, c := range []struct {
		name   string
		file   []byte
		want   seal.Binding
		fields []string
	}{
		{"network", file, change(d.signing, func(b *seal.Binding) { b.Network = "mainnet" }), []string{"network"}},
		{"order", file, change(d.signing, func(b *seal.Binding) { b.Order = "order-2" }), []string{"order"}},
		{"order that begins alike", file, change(d.signing, func(b *seal.Binding) { b.Order = "order-11" }), []string{"order"}},
		{"index", file, change(d.signing, func(b *seal.Binding) { b.Index = "33" }), []string{"index"}},
		{"pubkey", file, change(d.signing, func(b *seal.Binding) { b.Subject = other.Subject }), []string{"pubkey"}},
		{"swapped rows", d.seal(t, other, signingBody(t)), d.signing, []string{"index", "pubkey"}},
		{"all", d.seal(t, seal.SigningBinding("mainnet", "o", 0, [48]byte{}), signingBody(t)), d.signing, []string{"network", "order", "index", "pubkey"}},
		{"recovery for signing", recoveryFile, d.signing, []string{"purpose", "index", "pubkey"}},
		{"signing for recovery", file, d.recovery, []string{"purpose", "index", "mnemonic-id"}},
		{"another mnemonic", recoveryFile, change(d.recovery, func(b *seal.Binding) { b.Subject = "m-0123456789abcdee" }), []string{"mnemonic-id"}},
		{"a mnemonic's network", recoveryFile, change(d.recovery, func(b *seal.Binding) { b.Network = "mainnet" }), []string{"network"}},
		{"a mnemonic's order", recoveryFile, change(d.recovery, func(b *seal.Binding) { b.Order = "order-2" }), []string{"order"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var buffers [][]byte
			defer unseal.WatchBuffer(func(b []byte) { buffers = append(buffers, b) })()
			body, err := d.opener().Open(t.Context(), c.file, c.want)
			if body != nil || !errors.Is(err, unseal.ErrBinding) {
				t.Fatalf("opened: %v", err)
			}
			noCanary(t, err)
			e, ok := errors.AsType[*unseal.BindingError](err)
			if !ok || len(e.Fields) != len(c.fields) {
				t.Fatalf("fields of %v", err)
			}
			for i, f := range e.Fields {
				if f.Field != c.fields[i] || f.Want == f.Found {
					t.Errorf("field %d is %+v, wanted %s", i, f, c.fields[i])
				}
				for _, s := range []string{f.Field, f.Want, f.Found} {
					if !strings.Contains(err.Error(), s) {
						t.Errorf("the error does not say %q: %v", s, err)
					}
				}
			}
			if len(buffers) != 1 || !bytes.Equal(buffers[0], make([]byte, len(buffers[0]))) {
				t.Errorf("of %d plaintext buffers, not all are wiped", len(buffers))
			}
		})
	}
}

// The plaintext's buffer is wiped after success too: the body is a copy.
func TestOpenWipes(t *testing.T) {
	d := newDesk(t)
	var buffers [][]byte
	defer unseal.WatchBuffer(func(b []byte) { buffers = append(buffers, b) })()
	good := d.seal(t, d.signing, signingBody(t))
	if _, err := d.opener().Open(t.Context(), good, d.signing); err != nil {
		t.Fatal(err)
	}
	if _, err := d.opener().Open(t.Context(), good[:len(good)-1], d.signing); !errors.Is(err, unseal.ErrDamaged) {
		t.Fatal(err)
	}
	if _, err := d.opener().Open(t.Context(), rawFile(t, d.x.Recipient(), words), d.signing); !errors.Is(err, unseal.ErrBinding) {
		t.Fatal(err)
	}
	// Of a file of two chunks the first is out before the second fails.
	long := rawFile(t, d.x.Recipient(), strings.Repeat(words, 1300))
	if _, err := d.opener().Open(t.Context(), long[:len(long)-1], d.signing); !errors.Is(err, unseal.ErrDamaged) {
		t.Fatal(err)
	}
	if len(buffers) != 4 {
		t.Fatalf("%d buffers", len(buffers))
	}
	for i, b := range buffers {
		if len(b) == 0 || !bytes.Equal(b, make([]byte, len(b))) {
			t.Errorf("buffer %d is not wiped", i)
		}
	}
}

// A header that is nearly right is wrong.
func TestHeaderIsExact(t *testing.T) {
	d := newDesk(t)
	head, err := d.signing.Header()
	if err != nil {
		t.Fatal(err)
	}
	line := strings.SplitAfter(head, "\n")
	for name, plain := range map[string]string{
		"empty":                "",
		"another file":         words,
		"an identity file":     "# created: 2026\n" + d.x.String() + "\n",
		"version 2":            strings.Replace(head, "signing v1", "signing v2", 1) + "body",
		"another app":          strings.Replace(head, "stakeseal", "Stakeseal", 1) + "body",
		"unknown purpose":      strings.Replace(head, "sealed signing", "sealed voting", 1) + "body",
		"no first line":        strings.Join(line[1:], "") + "body",
		"an empty line first":  "\n" + head + "body",
		"no network":           line[0] + line[2] + line[3] + line[4] + "\nbody",
		"network twice":        line[0] + line[1] + line[1] + line[2] + line[3] + line[4] + "\nbody",
		"order before network": line[0] + line[2] + line[1] + line[3] + line[4] + "\nbody",
		"index twice":          line[0] + line[1] + line[2] + line[3] + line[3] + line[4] + "\nbody",
		"a line more":          strings.TrimSuffix(head, "\n") + "note: x\n\nbody",
		"no empty line":        strings.TrimSuffix(head, "\n") + "body",
		"carriage returns":     strings.ReplaceAll(head, "\n", "\r\n") + "body",
		"two spaces":           strings.Replace(head, "network: ", "network:  ", 1) + "body",
		"no space":             strings.Replace(head, "network: ", "network:", 1) + "body",
		"trailing space":       strings.Replace(head, "hoodi\n", "hoodi \n", 1) + "body",
		"upper-case name":      strings.Replace(head, "network:", "Network:", 1) + "body",
		"upper-case pubkey":    strings.Replace(head, d.signing.Subject, strings.ToUpper(d.signing.Subject), 1) + "body",
		"0x":                   strings.Replace(head, "pubkey: ", "pubkey: 0x", 1) + "body",
		"index 03":             strings.Replace(head, "index: 3", "index: 03", 1) + "body",
		"cut in a line":        head[:len(head)-20],
		"a long line":          strings.Replace(head, "hoodi", strings.Repeat("h", 40000), 1) + "body",
		"mnemonic for pubkey":  line[0] + line[1] + line[2] + "mnemonic-id: m-0123456789abcdef\n\nbody",
		"a secret as network":  strings.Replace(head, "hoodi", words, 1) + "body",
		"a secret as order":    strings.Replace(head, "order-1", keyHex+keyHex, 1) + "body",
		"byte order mark":      "\ufeff" + head + "body",
	} {
		body, err := d.opener().Open(t.Context(), rawFile(t, d.x.Recipient(), plain), d.signing)
		if body != nil || !errors.Is(err, unseal.ErrBinding) {
			t.Errorf("%s: %v", name, err)
		}
		noCanary(t, err)
	}
	if _, err := d.opener().Open(t.Context(), rawFile(t, d.x.Recipient(), head), d.signing); !errors.Is(err, unseal.ErrBody) {
		t.Errorf("no body: %v", err)
	}
}

func TestClasses(t *testing.T) {
	d := newDesk(t)
	file := d.seal(t, d.signing, signingBody(t))
	mac := bytes.Index(file, []byte("--- ")) + 4
	payload := mac + 44
	flip := func(at int) []byte {
		f := bytes.Clone(file)
		f[at] ^= 1
		return f
	}
	otherDigit := func(at int) []byte { // another base64 digit, so that the stanza stays well-formed
		f := bytes.Clone(file)
		f[at] = 'A'
		if file[at] == 'A' {
			f[at] = 'B'
		}
		return f
	}
	cut := func(n int) []byte { return file[:n] }
	for _, c := range []struct {
		name  string
		file  []byte
		class error
	}{
		{"whole", file, nil},
		{"nothing", nil, unseal.ErrDamaged},
		{"words", []byte(words), unseal.ErrDamaged},
		{"an identity", []byte(d.x.String()), unseal.ErrDamaged},
		{"armored", []byte("-----BEGIN AGE ENCRYPTED FILE-----\nYWdl\n-----END AGE ENCRYPTED FILE-----\n"), unseal.ErrDamaged},
		{"another version", bytes.Replace(file, []byte("/v1\n"), []byte("/v2\n"), 1), unseal.ErrDamaged},
		{"too large", append(bytes.Clone(file), make([]byte, seal.MaxFile)...), unseal.ErrDamaged},
		{"cut in the intro", cut(10), unseal.ErrDamaged},
		{"cut behind the intro", cut(22), unseal.ErrDamaged},
		{"cut in the header", cut(mac - 10), unseal.ErrDamaged},
		{"cut in the mac", cut(mac + 10), unseal.ErrDamaged},
		{"cut before the payload", cut(payload), unseal.ErrDamaged},
		{"cut in the nonce", cut(payload + 8), unseal.ErrDamaged},
		{"cut behind the nonce", cut(payload + 16), unseal.ErrDamaged},
		{"cut in the payload", cut(len(file) - 20), unseal.ErrDamaged},
		{"cut by one", cut(len(file) - 1), unseal.ErrDamaged},
		{"longer by one", append(bytes.Clone(file), 0), unseal.ErrDamaged},
		{"twice", append(bytes.Clone(file), file...), unseal.ErrDamaged},
		{"mac changed", otherDigit(mac), unseal.ErrDamaged},
		{"nonce changed", flip(payload), unseal.ErrDamaged},
		{"payload changed", flip(payload + 16), unseal.ErrDamaged},
		{"tag changed", flip(len(file) - 1), unseal.ErrDamaged},
		{"sealed to another", sealTo(t, d.stranger.Recipient().String(), d.signing, signingBody(t)), unseal.ErrNoIdentity},
		{"sealed to another kind", sealTo(t, d.pq.Recipient().String(), d.signing, signingBody(t)), unseal.ErrNoIdentity},
		{"share changed", otherDigit(bytes.Index(file, []byte("X25519 ")) + 8), unseal.ErrNoIdentity},
		{"stanza cut short", bytes.Replace(file, []byte("X25519 "), []byte("X25519 AAAA "), 1), unseal.ErrDamaged},
		{"header of one, payload of another", append(bytes.Clone(file[:payload]), d.seal(t, d.signing, signingBody(t))[payload:]...), unseal.ErrDamaged},
	} {
		t.Run(c.name, func(t *testing.T) {
			body, err := d.opener().Open(t.Context(), c.file, d.signing)
			if c.class == nil {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			if body != nil || !errors.Is(err, c.class) {
				t.Fatalf("got %v", err)
			}
			for _, other := range []error{unseal.ErrDamaged, unseal.ErrNoIdentity, unseal.ErrBinding, unseal.ErrBody} {
				if other != c.class && errors.Is(err, other) {
					t.Errorf("%v is also %v", err, other)
				}
			}
			noCanary(t, err)
		})
	}

	if _, err := unseal.NewOpener().Open(t.Context(), file, d.signing); !errors.Is(err, unseal.ErrNoIdentity) {
		t.Errorf("no identities: %v", err)
	}
	var none *unseal.Opener
	if _, err := none.Open(t.Context(), file, d.signing); !errors.Is(err, unseal.ErrNoIdentity) {
		t.Errorf("no opener: %v", err)
	}
	if _, err := d.opener().Open(t.Context(), file, seal.Binding{}); !errors.Is(err, seal.ErrBinding) {
		t.Errorf("nothing asked for: %v", err)
	}
	ended, end := context.WithCancel(t.Context())
	end()
	if _, err := d.opener().Open(ended, file, d.signing); !errors.Is(err, context.Canceled) {
		t.Errorf("ended context: %v", err)
	}
}

// Each byte of a file, changed in each of its bits, and each length: none may
// open, whatever the class.
func TestEveryByteCounts(t *testing.T) {
	d := newDesk(t)
	for name, c := range map[string]struct {
		file []byte
		id   age.Identity
		bits int
	}{
		"x25519": {sealTo(t, d.x.Recipient().String(), d.signing, []byte("b")), d.x, 8},
		"hybrid": {sealTo(t, d.pq.Recipient().String(), d.recovery, []byte("b")), d.pq, 1},
	} {
		want := d.signing
		if name == "hybrid" {
			want = d.recovery
		}
		o := unseal.NewOpener(unseal.Age(c.id, "anna"))
		if _, err := o.Open(t.Context(), c.file, want); err != nil {
			t.Fatalf("%s: the unchanged file: %v", name, err)
		}
		try := func(what string, at int, file []byte) {
			body, err := o.Open(t.Context(), file, want)
			if err == nil || body != nil {
				t.Errorf("%s: %s %d of %d opens", name, what, at, len(c.file))
			} else if !errors.Is(err, unseal.ErrDamaged) && !errors.Is(err, unseal.ErrNoIdentity) {
				t.Errorf("%s: %s %d: %v", name, what, at, err)
			}
		}
		for i := range c.file {
			for bit := range c.bits {
				f := bytes.Clone(c.file)
				f[i] ^= 1 << ((bit + i) % 8)
				try("changed byte", i, f)
			}
			try("length", i, c.file[:i])
			// A byte taken out, or one put in.
			try("without byte", i, append(bytes.Clone(c.file[:i]), c.file[i+1:]...))
			try("with a byte before", i, append(append(bytes.Clone(c.file[:i]), '\n'), c.file[i:]...))
		}
	}
}
