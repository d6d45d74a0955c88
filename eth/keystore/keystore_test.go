package keystore

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"github.com/stakeseal/stakeseal/eth"
	"github.com/stakeseal/stakeseal/eth/internal/vectors"
	"github.com/stakeseal/stakeseal/secret"
)

// The password and the secret of EIP-2335's test vectors.
const (
	eipPassword = "𝔱𝔢𝔰𝔱𝔭𝔞𝔰𝔰𝔴𝔬𝔯𝔡🔑"
	eipSecret   = "000000000019d6689c085ae165831e934ff763ae46a2a6c172b3f1b60a8ce26f"
)

func hexSecret(t testing.TB, s string) *secret.Bytes {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return secret.Take(b)
}

func text2(s string) *secret.Bytes { return secret.Copy([]byte(s)) }

// lane is one to make a keystore of.
func lane(t testing.TB) Lane {
	t.Helper()
	return Lane{
		Secret:   hexSecret(t, eipSecret),
		Password: text2(eipPassword),
		Pubkey:   eth.Pubkey{0x96, 1, 2, 3},
		Path:     "m/12381/3600/0/0/0",
	}
}

// make1 makes one keystore, or fails the test.
func make1(t testing.TB, kdf KDF, l Lane) *Made {
	t.Helper()
	made, err := Encrypt(context.Background(), kdf, []Lane{l})
	if err != nil || len(made) != 1 {
		t.Fatalf("%d keystores, %v", len(made), err)
	}
	return made[0]
}

// TestEIP2335 opens the standard's vectors and makes each again, byte for
// byte but for white space and the order of fields.
func TestEIP2335(t *testing.T) {
	for _, kdf := range []KDF{PBKDF2, Scrypt} {
		data := vectors.Read(t, "eip2335/"+string(kdf)+".json")
		k, err := Parse(data)
		if err != nil {
			t.Fatal(err)
		}
		if k.KDF() != kdf {
			t.Errorf("%s: kdf %s", kdf, k.KDF())
		}
		want := hexSecret(t, eipSecret)
		got, err := Open(context.Background(), data, text2(eipPassword))
		if err != nil || !got.Equal(want) {
			t.Errorf("%s: opens to another secret, %v", kdf, err)
		}
		f := fresh{salt: k.Salt(), iv: k.iv}
		id, err := hex.DecodeString(strings.ReplaceAll(k.UUID(), "-", ""))
		if err != nil {
			t.Fatal(err)
		}
		f.uuid = [16]byte(id)
		m, err := encrypt(context.Background(), kdf, &Lane{want, text2(eipPassword), k.Pubkey(), k.Path(), k.Description()}, f)
		if err != nil {
			t.Fatal(err)
		}
		var ours, theirs any
		if err := json.Unmarshal(m.JSON, &ours); err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(data, &theirs); err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(ours, theirs) {
			t.Errorf("%s: made again it is\n%s\nnot\n%s", kdf, m.JSON, data)
		}
		if err := k.Check(m.Key, want); err != nil {
			t.Errorf("%s: the vector under our derived key: %v", kdf, err)
		}
	}
}

// TestShape pins the file's text: order of the fields, lower-case hex, one
// line.
func TestShape(t *testing.T) {
	l := lane(t)
	l.Description = "line\nfeed \"quoted\""
	shape := `^\{"crypto":\{"kdf":\{"function":"pbkdf2","params":\{"dklen":32,"c":262144,"prf":"hmac-sha256","salt":"[0-9a-f]{64}"\},"message":""\},` +
		`"checksum":\{"function":"sha256","params":\{\},"message":"[0-9a-f]{64}"\},` +
		`"cipher":\{"function":"aes-128-ctr","params":\{"iv":"[0-9a-f]{32}"\},"message":"[0-9a-f]{64}"\}\},` +
		`"description":"line\\nfeed \\"quoted\\"","pubkey":"96010203[0]{88}","path":"m/12381/3600/0/0/0",` +
		`"uuid":"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}","version":4\}$`
	m := make1(t, PBKDF2, l)
	if !regexp.MustCompile(shape).Match(m.JSON) {
		t.Errorf("shape of\n%s", m.JSON)
	}
	shape = strings.Replace(shape, `"pbkdf2"`, `"scrypt"`, 1)
	shape = strings.Replace(shape, `"c":262144,"prf":"hmac-sha256"`, `"n":262144,"r":8,"p":1`, 1)
	if m = make1(t, Scrypt, l); !regexp.MustCompile(shape).Match(m.JSON) {
		t.Errorf("shape of\n%s", m.JSON)
	}
}

func TestEncrypt(t *testing.T) {
	a, b := lane(t), lane(t)
	made, err := Encrypt(context.Background(), PBKDF2, []Lane{a, b})
	if err != nil || len(made) != 2 {
		t.Fatalf("%d keystores, %v", len(made), err)
	}
	var all []string
	for i, m := range made {
		k, err := Parse(m.JSON)
		if err != nil {
			t.Fatal(err)
		}
		if k.Pubkey() != a.Pubkey || k.Path() != a.Path || k.Description() != "" {
			t.Errorf("lane %d reads back as %s %q %q", i, k.Pubkey(), k.Path(), k.Description())
		}
		if err := k.Check(m.Key, a.Secret); err != nil {
			t.Errorf("lane %d: %v", i, err)
		}
		got, err := k.Open(context.Background(), a.Password)
		if err != nil || !got.Equal(a.Secret) {
			t.Errorf("lane %d opens to another secret, %v", i, err)
		}
		all = append(all, string(k.Salt()), string(k.IV()), k.UUID(), string(m.Key.Expose()))
		noSecret(t, m.JSON, a.Secret.Expose(), a.Password.Expose(), m.Key.Expose(), m.Key.Expose()[:16], m.Key.Expose()[16:])
	}
	// the same secret under the same password: nothing may be the same
	for i := range all {
		for j := range i {
			if all[i] == all[j] {
				t.Errorf("salts, IVs, uuids, keys: values %d and %d are equal", j, i)
			}
		}
	}
	if !a.Secret.Equal(hexSecret(t, eipSecret)) || string(a.Password.Expose()) != eipPassword {
		t.Error("Encrypt changed what is the caller's")
	}
	key := made[0].Key.Expose()
	made[0].Wipe()
	made[0].Wipe()
	(*Made)(nil).Wipe()
	if !bytes.Equal(key, make([]byte, 32)) || made[0].JSON != nil {
		t.Error("Wipe leaves the derived key")
	}
	if made, err := Encrypt(context.Background(), PBKDF2, nil); err != nil || len(made) != 0 {
		t.Errorf("no lanes: %v, %v", made, err)
	}
}

// noSecret looks for secrets in a text in five encodings.
func noSecret(t testing.TB, text []byte, secrets ...[]byte) {
	t.Helper()
	lower := bytes.ToLower(text)
	for i, s := range secrets {
		decimals, _ := json.Marshal(intsOf(s))
		for name, form := range map[string][]byte{
			"raw": s, "hex": []byte(hex.EncodeToString(s)), "base64": []byte(base64.RawStdEncoding.EncodeToString(s)),
			"base64url": []byte(base64.RawURLEncoding.EncodeToString(s)), "decimal": bytes.Trim(decimals, "[]"),
		} {
			if bytes.Contains(text, form) || bytes.Contains(lower, form) {
				t.Errorf("secret %d is there in %s:\n%s", i, name, text)
			}
		}
	}
}

func intsOf(b []byte) []int {
	v := make([]int, len(b))
	for i := range b {
		v[i] = int(b[i])
	}
	return v
}

func TestEncryptRefuses(t *testing.T) {
	for _, c := range []struct {
		name   string
		kdf    KDF
		change func(l *Lane)
	}{
		{"unknown kdf", "argon2", func(*Lane) {}},
		{"no kdf", "", func(*Lane) {}},
		{"no secret", PBKDF2, func(l *Lane) { l.Secret = nil }},
		{"31 bytes", PBKDF2, func(l *Lane) { l.Secret = secret.Random(31) }},
		{"33 bytes", PBKDF2, func(l *Lane) { l.Secret = secret.Random(33) }},
		{"no password", PBKDF2, func(l *Lane) { l.Password = nil }},
		{"empty password", PBKDF2, func(l *Lane) { l.Password = text2("") }},
		{"password of control characters", PBKDF2, func(l *Lane) { l.Password = text2("\r\n\x7f\u0085") }},
		{"password not UTF-8", PBKDF2, func(l *Lane) { l.Password = text2("pass\xffword") }},
		{"no pubkey", PBKDF2, func(l *Lane) { l.Pubkey = eth.Pubkey{} }},
		{"bad path", PBKDF2, func(l *Lane) { l.Path = "m/12381'/0" }},
		{"long description", PBKDF2, func(l *Lane) { l.Description = strings.Repeat("x", 1025) }},
		{"description not UTF-8", PBKDF2, func(l *Lane) { l.Description = "\xff" }},
	} {
		good, l := lane(t), lane(t)
		c.change(&l)
		made, err := Encrypt(context.Background(), c.kdf, []Lane{good, l})
		if !errors.Is(err, ErrInput) || made != nil {
			t.Errorf("%s: %d keystores, %v", c.name, len(made), err)
			continue
		}
		noSecret(t, []byte(err.Error()), good.Secret.Expose(), good.Password.Expose())
	}
}

// expiring is a context that is cancelled after so many looks at it.
type expiring struct {
	context.Context
	looks int
}

func (e *expiring) Err() error {
	if e.looks--; e.looks < 0 {
		return context.Canceled
	}
	return nil
}

func TestEncryptCancelled(t *testing.T) {
	lanes := []Lane{lane(t), lane(t), lane(t)}
	for looks := range 3 {
		made, err := Encrypt(&expiring{context.Background(), looks}, PBKDF2, lanes)
		if !errors.Is(err, context.Canceled) || made != nil {
			t.Errorf("cancelled after %d lanes: %d keystores, %v", looks, len(made), err)
		}
	}
}

func TestCheck(t *testing.T) {
	l := lane(t)
	m := make1(t, PBKDF2, l)
	k, err := Parse(m.JSON)
	if err != nil {
		t.Fatal(err)
	}
	if err := k.Check(m.Key, l.Secret); err != nil {
		t.Fatal(err)
	}
	flip := func(s *secret.Bytes, i int) *secret.Bytes {
		c := secret.Copy(s.Expose())
		c.Expose()[i] ^= 1
		return c
	}
	changed := func(f func(k *Keystore)) *Keystore { c := *k; f(&c); return &c }
	for _, c := range []struct {
		name      string
		k         *Keystore
		key, want *secret.Bytes
	}{
		{"another secret", k, m.Key, flip(l.Secret, 31)},
		{"no secret", k, m.Key, nil},
		{"another AES key", k, flip(m.Key, 0), l.Secret}, // the checksum covers the second half only
		{"another checksum key", k, flip(m.Key, 31), l.Secret},
		{"short key", k, secret.Copy(m.Key.Expose()[:31]), l.Secret},
		{"no key", k, nil, l.Secret},
		{"changed ciphertext", changed(func(k *Keystore) { k.ciphertext[0] ^= 1 }), m.Key, l.Secret},
		{"changed checksum", changed(func(k *Keystore) { k.checksum[31] ^= 1 }), m.Key, l.Secret},
		{"changed iv", changed(func(k *Keystore) { k.iv[0] ^= 1 }), m.Key, l.Secret},
	} {
		err := c.k.Check(c.key, c.want)
		if !errors.Is(err, ErrMismatch) {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		noSecret(t, []byte(err.Error()), l.Secret.Expose(), m.Key.Expose())
	}
}

func TestOpenRefuses(t *testing.T) {
	l := lane(t)
	m := make1(t, PBKDF2, l)
	for _, c := range []struct {
		name, password string
		want           error
	}{
		{"wrong", "hunter2", ErrPassword},
		{"almost", eipPassword + " ", ErrPassword},
		{"empty", "", ErrPassword},
		{"not UTF-8", "\xff", ErrInput},
	} {
		got, err := Open(context.Background(), m.JSON, text2(c.password))
		if !errors.Is(err, c.want) || got != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		if c.password != "" {
			noSecret(t, []byte(err.Error()), []byte(c.password))
		}
	}
	// the standard's normalisation: the same password in another spelling,
	// with the newline of a password file
	if got, err := Open(context.Background(), m.JSON, text2("testpassword🔑\n")); err != nil || !got.Equal(l.Secret) {
		t.Errorf("NFKD spelling of the password: %v", err)
	}
	done, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := Open(done, m.JSON, l.Password); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	// a ciphertext that was changed looks like a wrong password
	torn := bytes.Replace(m.JSON, []byte(`"iv"`), []byte(`"iv"`), 1)
	at := bytes.LastIndex(torn, []byte(`"message":"`)) + len(`"message":"`)
	if torn[at] == '0' {
		torn[at] = '1'
	} else {
		torn[at] = '0'
	}
	if _, err := Open(context.Background(), torn, l.Password); !errors.Is(err, ErrPassword) {
		t.Errorf("changed ciphertext: %v", err)
	}
}

func TestFileName(t *testing.T) {
	for _, c := range []struct{ path, want string }{
		{"m/12381/3600/0/0/0", "keystore-m_12381_3600_0_0_0-1700000000.json"},
		{"m/12381/3600/4294967295/0/0", "keystore-m_12381_3600_4294967295_0_0-1700000000.json"},
		{"", "keystore--1700000000.json"},
		{"../../etc/x", "keystore-______etc_x-1700000000.json"},
		{"a\x00b\nc\\d:e", "keystore-a_b_c_d_e-1700000000.json"},
	} {
		if got := FileName(c.path, 1700000000); got != c.want {
			t.Errorf("%q: %s, want %s", c.path, got, c.want)
		}
	}
}

func FuzzFileName(f *testing.F) {
	f.Add("m/12381/3600/0/0/0", int64(1700000000))
	f.Add("../..", int64(-1))
	safe := regexp.MustCompile(`^keystore-[0-9A-Za-z_]{0,128}--?[0-9]{1,20}\.json$`)
	f.Fuzz(func(t *testing.T, path string, unix int64) {
		if got := FileName(path, unix); !safe.MatchString(got) || filepath.Base(got) != got {
			t.Fatalf("%q becomes %q", path, got)
		}
	})
}
