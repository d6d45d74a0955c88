package keystore

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"

	"github.com/stakeseal/stakeseal/eth"
)

// foreign is a keystore of the standard's secret and password with a PBKDF2
// of two iterations, which is enough to see that it opens. Made with Python's
// hashlib and OpenSSL, not with this package.
const foreign = `{"crypto":{"kdf":{"function":"pbkdf2","params":{"dklen":32,"c":2,"prf":"hmac-sha256","salt":"d4e56740f876aef8c010b86a40d5f56745a118d0906a34e69aec8c0db1cb8fa3"},"message":""},` +
	`"checksum":{"function":"sha256","params":{},"message":"@CHECKSUM@"},` +
	`"cipher":{"function":"aes-128-ctr","params":{"iv":"264daa3f303d7259501c93d997d84fe6"},"message":"@CIPHER@"}},` +
	`"description":"d","pubkey":"9612d7a727c9d0a22e185a1c768478dfe919cada9266988cb32359c11f2b7b27f4ae4040902382ae2910c15e2b420d07",` +
	`"path":"m/12381/60/0/0","uuid":"64625def-3331-4eea-ab6f-782f3ed16a83","version":4}`

const foreignScrypt = `"function":"scrypt","params":{"dklen":32,"n":16,"r":1,"p":1,"salt":"d4e56740f876aef8c010b86a40d5f56745a118d0906a34e69aec8c0db1cb8fa3"}`

// replace changes a keystore's text and fails if there was nothing to change.
func replace(t testing.TB, in, old, new string) string {
	t.Helper()
	if !strings.Contains(in, old) {
		t.Fatalf("the test's keystore has no %s", old)
	}
	return strings.Replace(in, old, new, 1)
}

// TestParseTolerates: what the known tools write, each opened for real.
func TestParseTolerates(t *testing.T) {
	upper := func(s string) string { // all hex, as some tools write it
		for _, v := range []string{
			"d4e56740f876aef8c010b86a40d5f56745a118d0906a34e69aec8c0db1cb8fa3", "264daa3f303d7259501c93d997d84fe6", "@CHECKSUM@", "@CIPHER@",
			"9612d7a727c9d0a22e185a1c768478dfe919cada9266988cb32359c11f2b7b27f4ae4040902382ae2910c15e2b420d07",
		} {
			s = replace(t, s, v, strings.ToUpper(v))
		}
		return s
	}
	indent := func(s string) string {
		var b bytes.Buffer
		if err := json.Indent(&b, []byte(s), "", "    "); err != nil {
			t.Fatal(err)
		}
		return b.String() + "\n"
	}
	noPubkey := replace(t, foreign, `"pubkey":"9612d7a727c9d0a22e185a1c768478dfe919cada9266988cb32359c11f2b7b27f4ae4040902382ae2910c15e2b420d07",`, ``)
	for _, c := range []struct{ name, file string }{
		{"as it is", foreign},
		{"deposit-cli, spaced", strings.NewReplacer(`":`, `": `, `,"`, `, "`).Replace(foreign)},
		{"indented", indent(foreign)},
		{"upper-case hex", upper(foreign)},
		{"lighthouse: no path", replace(t, foreign, `"path":"m/12381/60/0/0"`, `"path":""`)},
		{"lighthouse: description null", replace(t, foreign, `"description":"d"`, `"description":null`)},
		{"teku: no description", replace(t, foreign, `"description":"d",`, ``)},
		{"no path at all", replace(t, foreign, `"path":"m/12381/60/0/0",`, ``)},
		{"no uuid", replace(t, foreign, `"uuid":"64625def-3331-4eea-ab6f-782f3ed16a83",`, ``)},
		{"prysm: name", replace(t, foreign, `"version":4`, `"version":4,"name":"keystore"`)},
		{"ethdo: no pubkey, a name", replace(t, noPubkey, `"version":4`, `"name":"Validators/0","version":4,"x":[{"crypto":{}}]`)},
		{"pubkey with 0x", replace(t, foreign, `"pubkey":"`, `"pubkey":"0x`)},
		{"fields in another order", replace(t, `{"version":4,`+foreign[1:], `,"version":4}`, `}`)},
		{"kdf without message", replace(t, foreign, `,"message":""`, ``)},
		{"checksum without params", replace(t, foreign, `"params":{},`, ``)},
		{"a path of another shape", replace(t, foreign, `m/12381/60/0/0`, `imported`)},
	} {
		k, err := Parse([]byte(fill(t, c.file)))
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		got, err := k.Open(context.Background(), text2(eipPassword))
		if err != nil || !got.Equal(hexSecret(t, eipSecret)) {
			t.Errorf("%s: opens to another secret, %v", c.name, err)
		}
	}
	k, err := Parse([]byte(fill(t, noPubkey)))
	if err != nil || k.Pubkey() != (eth.Pubkey{}) {
		t.Errorf("without pubkey: %v", err)
	}
	k, err = Parse([]byte(fill(t, foreign)))
	if err != nil || k.UUID() != "64625def-3331-4eea-ab6f-782f3ed16a83" || k.Path() != "m/12381/60/0/0" || k.Description() != "d" ||
		k.Pubkey().Hex()[:8] != "9612d7a7" || k.KDF() != PBKDF2 || len(k.Salt()) != 32 || hex.EncodeToString(k.IV()) != "264daa3f303d7259501c93d997d84fe6" {
		t.Errorf("getters: %+v, %v", k, err)
	}
	k.Salt()[0] ^= 1
	k.IV()[0] ^= 1
	if again, err := k.Open(context.Background(), text2(eipPassword)); err != nil || !again.Equal(hexSecret(t, eipSecret)) {
		t.Error("a getter's slice reaches into the keystore")
	}
}

// fill puts the ciphertext and the checksum in.
func fill(t testing.TB, s string) string {
	t.Helper()
	r := strings.NewReplacer(
		"@CHECKSUM@", foreignChecksum, "@CIPHER@", foreignCipher,
		strings.ToUpper("@checksum@"), strings.ToUpper(foreignChecksum), strings.ToUpper("@cipher@"), strings.ToUpper(foreignCipher))
	return r.Replace(s)
}

func TestParseRefuses(t *testing.T) {
	scrypt := replace(t, foreign, `"function":"pbkdf2","params":{"dklen":32,"c":2,"prf":"hmac-sha256","salt":"d4e56740f876aef8c010b86a40d5f56745a118d0906a34e69aec8c0db1cb8fa3"}`, foreignScrypt)
	if _, err := Parse([]byte(fill(t, scrypt))); err != nil {
		t.Fatalf("the scrypt keystore itself: %v", err)
	}
	in := func(base, old, new string) string { return replace(t, base, old, new) }
	for _, c := range []struct{ name, file string }{
		{"nothing", ""},
		{"null", "null"},
		{"a list", "[]"},
		{"a string", `"x"`},
		{"half a file", foreign[:len(foreign)/2]},
		{"two files", foreign + foreign},
		{"a tail", foreign + "x"},
		{"a huge file", in(foreign, `"d"`, `"`+strings.Repeat("x", maxFile)+`"`)},
		{"deep nesting", strings.Repeat("[", 30000) + strings.Repeat("]", 30000)},
		{"version 3", in(foreign, `"version":4`, `"version":3`)},
		{"version as text", in(foreign, `"version":4`, `"version":"4"`)},
		{"no version", in(foreign, `,"version":4`, ``)},
		{"no crypto", in(foreign, `"crypto"`, `"crypt0"`)},
		{"crypto null", `{"crypto":null,"version":4}`},
		{"crypto a list", `{"crypto":[],"version":4}`},
		{"two versions", in(foreign, `"version":4`, `"version":4,"version":4`)},
		{"two ciphers", in(foreign, `"cipher":`, `"cipher":{},"cipher":`)},
		{"two salts", in(foreign, `"salt":`, `"salt":"00","salt":`)},
		{"field in another case", in(foreign, `"version"`, `"Version"`)},
		{"crypto in another case", in(foreign, `"crypto"`, `"Crypto"`)},
		{"unknown kdf", in(foreign, `"pbkdf2"`, `"argon2id"`)},
		{"kdf in another case", in(foreign, `"pbkdf2"`, `"PBKDF2"`)},
		{"no kdf", in(foreign, `"kdf"`, `"kd"`)},
		{"prf sha512", in(foreign, `"hmac-sha256"`, `"hmac-sha512"`)},
		{"prf missing", in(foreign, `"prf":"hmac-sha256",`, ``)},
		{"dklen 64", in(foreign, `"dklen":32`, `"dklen":64`)},
		{"dklen 16", in(foreign, `"dklen":32`, `"dklen":16`)},
		{"dklen missing", in(foreign, `"dklen":32,`, ``)},
		{"c 0", in(foreign, `"c":2`, `"c":0`)},
		{"c negative", in(foreign, `"c":2`, `"c":-2`)},
		{"c a fraction", in(foreign, `"c":2`, `"c":2.5`)},
		{"c as text", in(foreign, `"c":2`, `"c":"2"`)},
		{"c null", in(foreign, `"c":2`, `"c":null`)},
		{"c too large", in(foreign, `"c":2`, `"c":16777217`)},
		{"c beyond 64 bits", in(foreign, `"c":2`, `"c":18446744073709551618`)},
		{"salt empty", in(foreign, `"salt":"d4e56740f876aef8c010b86a40d5f56745a118d0906a34e69aec8c0db1cb8fa3"`, `"salt":""`)},
		{"salt too long", in(foreign, `"salt":"`, `"salt":"`+strings.Repeat("00", 97))},
		{"salt odd", in(foreign, `"salt":"`, `"salt":"0`)},
		{"salt with 0x", in(foreign, `"salt":"`, `"salt":"0x`)},
		{"salt a number", in(foreign, `"salt":"d4e56740f876aef8c010b86a40d5f56745a118d0906a34e69aec8c0db1cb8fa3"`, `"salt":1`)},
		{"n 0", in(scrypt, `"n":16`, `"n":0`)},
		{"n 1", in(scrypt, `"n":16`, `"n":1`)},
		{"n no power of 2", in(scrypt, `"n":16`, `"n":17`)},
		{"n too large", in(scrypt, `"n":16`, `"n":2097152`)},
		{"r 0", in(scrypt, `"r":1`, `"r":0`)},
		{"r too large", in(scrypt, `"r":1`, `"r":33`)},
		{"p 0", in(scrypt, `"p":1`, `"p":0`)},
		{"p too large", in(scrypt, `"p":1`, `"p":17`)},
		{"memory too large", in(scrypt, `"n":16,"r":1`, `"n":1048576,"r":9`)},
		{"work too large", in(scrypt, `"n":16,"r":1,"p":1`, `"n":524288,"r":8,"p":3`)},
		{"checksum md5", in(foreign, `"sha256"`, `"md5"`)},
		{"checksum short", in(foreign, `"@CHECKSUM@"`, `"8a9f"`)},
		{"checksum missing", in(foreign, `"checksum"`, `"checksun"`)},
		{"cipher ecb", in(foreign, `"aes-128-ctr"`, `"aes-128-ecb"`)},
		{"cipher aes-256", in(foreign, `"aes-128-ctr"`, `"aes-256-ctr"`)},
		{"iv short", in(foreign, `"264daa3f303d7259501c93d997d84fe6"`, `"264daa3f303d7259501c93d997d84f"`)},
		{"iv long", in(foreign, `"264daa3f303d7259501c93d997d84fe6"`, `"264daa3f303d7259501c93d997d84fe600"`)},
		{"iv missing", in(foreign, `"iv"`, `"vi"`)},
		{"ciphertext short", in(foreign, `"@CIPHER@"`, `"cee0"`)},
		{"ciphertext long", in(foreign, `"@CIPHER@"`, `"@CIPHER@00"`)},
		{"ciphertext empty", in(foreign, `"@CIPHER@"`, `""`)},
		{"ciphertext not hex", in(foreign, `"@CIPHER@"`, `"`+strings.Repeat("zz", 32)+`"`)},
		{"pubkey short", in(foreign, `"pubkey":"96`, `"pubkey":"`)},
		{"pubkey a number", in(foreign, `"pubkey":"9612d7a727c9d0a22e185a1c768478dfe919cada9266988cb32359c11f2b7b27f4ae4040902382ae2910c15e2b420d07"`, `"pubkey":1`)},
		{"path a list", in(foreign, `"path":"m/12381/60/0/0"`, `"path":[]`)},
		{"an ethereum v3 wallet", `{"address":"71c7656ec7ab88b098defb751b7401b5f6d8976f","crypto":{"cipher":"aes-128-ctr","ciphertext":"00","kdf":"scrypt"},"version":3}`},
	} {
		k, err := Parse([]byte(fill(t, c.file)))
		if !errors.Is(err, ErrFormat) || k != nil {
			t.Errorf("%s: %v", c.name, err)
		} else if len(err.Error()) > 800 {
			t.Errorf("%s: error of %d bytes", c.name, len(err.Error()))
		}
	}
	for _, c := range []struct{ name, old, new string }{ // the bounds themselves pass
		{"c", `"c":2`, `"c":16777216`},
		{"salt of 128 bytes", `"salt":"`, `"salt":"` + strings.Repeat("00", 96)},
		{"salt of one byte", `"salt":"d4e56740f876aef8c010b86a40d5f56745a118d0906a34e69aec8c0db1cb8fa3"`, `"salt":"00"`},
	} {
		if _, err := Parse([]byte(fill(t, in(foreign, c.old, c.new)))); err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	for _, params := range []string{`"n":1048576,"r":8,"p":1`, `"n":262144,"r":32,"p":1`, `"n":262144,"r":8,"p":4`, `"n":2,"r":1,"p":16`} {
		if _, err := Parse([]byte(fill(t, in(scrypt, `"n":16,"r":1,"p":1`, params)))); err != nil {
			t.Errorf("%s: %v", params, err)
		}
	}
}

// TestParseShowsNothing: somebody gives the wrong file, and the error goes to
// a log.
func TestParseShowsNothing(t *testing.T) {
	for _, s := range []string{
		"satisfy suit expire castle fluid must electric genuine aim clock such under",
		"hunter2",
		`"hunter2"`,
		"7f3a9b1c5d", // a raw key's beginning
		`{"mnemonic":"satisfy suit expire","version":4,"crypto":{"kdf":{"function":"scrypt","params":{"dklen":32,"salt":"hunter2"}}}}`,
		`{"version":7391}`,
	} {
		_, err := Parse([]byte(s))
		if err == nil {
			t.Fatalf("%q parses", s)
		}
		for _, piece := range []string{"satisfy", "suit", "hunter2", "7f3a", "'s'", "'h'", "'7'"} {
			if strings.Contains(err.Error(), piece) {
				t.Errorf("%q: the error shows %q: %v", s, piece, err)
			}
		}
	}
}

// again writes a parsed keystore as a file.
func (k *Keystore) again() []byte {
	f := file{
		Crypto: crypto{
			Checksum: module{checksumFunction, struct{}{}, hex.EncodeToString(k.checksum[:])},
			Cipher:   module{cipherFunction, cipherParams{hex.EncodeToString(k.iv[:])}, hex.EncodeToString(k.ciphertext[:])},
		},
		Description: k.description, Path: k.path, UUID: k.uuid, Version: version,
	}
	if k.pubkey != (eth.Pubkey{}) {
		f.Pubkey = k.pubkey.Hex()
	}
	salt := hex.EncodeToString(k.cost.salt)
	if k.cost.kdf == Scrypt {
		f.Crypto.KDF = module{string(Scrypt), scryptParams{derivedSize, k.cost.n, k.cost.r, k.cost.p, salt}, ""}
	} else {
		f.Crypto.KDF = module{string(PBKDF2), pbkdf2Params{derivedSize, k.cost.c, prf, salt}, ""}
	}
	out, err := json.Marshal(f)
	if err != nil {
		panic(err)
	}
	return out
}

// FuzzParse: what parses stays within the bounds and, written again, parses
// to the same; what doesn't gives ErrFormat.
func FuzzParse(f *testing.F) {
	f.Add([]byte(fill(f, foreign)))
	f.Add([]byte(fill(f, replace(f, foreign, `"function":"pbkdf2","params":{"dklen":32,"c":2,"prf":"hmac-sha256","salt":"d4e56740f876aef8c010b86a40d5f56745a118d0906a34e69aec8c0db1cb8fa3"}`, foreignScrypt))))
	f.Add([]byte(`{"version":4,"crypto":{"kdf":{},"checksum":{},"cipher":{}}}`))
	f.Add([]byte("{}"))
	f.Fuzz(func(t *testing.T, data []byte) {
		k, err := Parse(data)
		if err != nil {
			if !errors.Is(err, ErrFormat) || k != nil {
				t.Fatalf("error of another class: %v", err)
			}
			return
		}
		c := k.cost
		if work := uint64(c.n) * uint64(c.r) * uint64(c.p) * 128; work > 1<<30 || c.c > 1<<24 || (c.kdf == Scrypt) == (c.n == 0) || (c.kdf == PBKDF2) == (c.c == 0) || len(c.salt) == 0 {
			t.Fatalf("beyond the bounds: %+v", c)
		}
		out := k.again()
		if len(out) > maxFile { // escapes made a long description longer
			return
		}
		back, err := Parse(out)
		if err != nil || !reflect.DeepEqual(back, k) {
			t.Fatalf("%s\nreads back as %+v, %v\nnot as %+v", out, back, err, k)
		}
	})
}

const (
	foreignChecksum = "a967f18d3d8e9a9fe08d744ce7a3e5d235cae979947da9d56aa0a05ea3dfa4ad"
	foreignCipher   = "e1ec2106433a1a1b8d04610071c806586d5eb5b712c1d938eaafb223a7a7e53e"
)
