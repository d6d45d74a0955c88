package certificate

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/stakeseal/stakeseal/eth"
)

func TestBirthVerifies(t *testing.T) {
	kms := newKMSSigner()
	for name, s := range map[string]interface {
		Signer
		public() PublicKey
	}{"ed25519": certifier, "p256": kms} {
		t.Run(name, func(t *testing.T) {
			trust := exampleTrust()
			trust.Keys[0].Key = s.public()
			full := exampleBirth(2)
			full.Maker.Function = "arn:aws:lambda:eu-central-1:111122223333:function:stakeseal:7"
			staged := exampleBirth(0)
			staged.Deposits = []Deposit{depositOf(staged, 1e9), depositOf(staged, 31e9)}
			compounding := exampleBirth(0)
			compounding.Credentials = eth.ExecutionCredentials(coldStore, true)
			compounding.Deposits = []Deposit{depositOf(compounding, 2048e9)}
			for _, b := range []Birth{exampleBirth(0), exampleBirth(1), full, staged, compounding} {
				env, err := SignBirth(context.Background(), s, b)
				if err != nil {
					t.Fatal(err)
				}
				v, err := trust.VerifyBirth(env)
				if err != nil {
					t.Fatal(err)
				}
				digest, err := Digest(env)
				if err != nil {
					t.Fatal(err)
				}
				if want := (&Verified{Birth: b, Key: "generator-2026", Release: "v0-1-0", AddressName: "acme-cold", Digest: digest}); !reflect.DeepEqual(v, want) {
					t.Fatalf("got %+v, want %+v", v, want)
				}
			}
		})
	}
}

// depositOf makes a deposit of any amount; its signature is of no key.
func depositOf(b Birth, amount eth.Gwei) Deposit {
	d := Deposit{Amount: amount, Signature: eth.Signature{0xaa}}
	d.MessageRoot = eth.DepositMessage{Pubkey: b.Pubkey, Credentials: b.Credentials, Amount: amount}.Root()
	d.DataRoot = eth.DepositData{Pubkey: b.Pubkey, Credentials: b.Credentials, Amount: amount, Signature: d.Signature}.Root()
	return d
}

// The roots of deposits that another program made must be those we compute.
func TestVectors(t *testing.T) {
	dir := os.Getenv("STAKESEAL_VECTORS")
	if dir == "" {
		dir = filepath.Join("..", "..", "shared", "vectors")
	}
	data, err := os.ReadFile(filepath.Join(dir, "deposit", "multiple_validators", "hoodi", "deposit_data-1755071454.json"))
	if errors.Is(err, os.ErrNotExist) && os.Getenv("CI") != "true" {
		t.Skipf("no vectors in %s (set STAKESEAL_VECTORS)", dir)
	}
	if err != nil {
		t.Fatal(err)
	}
	var list []struct {
		Pubkey      eth.Pubkey      `json:"pubkey"`
		Credentials eth.Credentials `json:"withdrawal_credentials"`
		Amount      eth.Gwei        `json:"amount"`
		Signature   eth.Signature   `json:"signature"`
		MessageRoot eth.Root        `json:"deposit_message_root"`
		DataRoot    eth.Root        `json:"deposit_data_root"`
	}
	if err := json.Unmarshal(data, &list); err != nil {
		t.Fatal(err)
	}
	if len(list) != len(vectorDeposits) {
		t.Fatalf("%d deposits in the file, %d in the table", len(list), len(vectorDeposits))
	}
	for i, d := range list {
		b := exampleBirth(uint32(i))
		if got := (Deposit{d.Amount, d.MessageRoot, d.DataRoot, d.Signature}); got != b.Deposits[0] || d.Pubkey != b.Pubkey || d.Credentials != b.Credentials {
			t.Errorf("deposit %d differs from the table", i)
		}
		if err := b.check(); err != nil {
			t.Error(err)
		}
	}
}

// What contradicts itself is neither signed nor believed, although the
// trusted key signed it.
func TestBirthContradictions(t *testing.T) {
	for _, c := range []struct {
		name string
		turn func(*Birth)
		want error
	}{
		{"nothing", func(*Birth) {}, nil},
		{"path of another index", func(b *Birth) { b.Path = "m/12381/3600/1/0/0" }, ErrMismatch},
		{"path of a withdrawal key", func(b *Birth) { b.Path = "m/12381/3600/0/0" }, ErrMismatch},
		{"index of another path", func(b *Birth) { b.Index = 1 }, ErrMismatch},
		{"other pubkey", func(b *Birth) { b.Pubkey[47] ^= 1 }, ErrMismatch},
		{"zero pubkey", func(b *Birth) { b.Pubkey = eth.Pubkey{} }, ErrFormat},
		{"other address", func(b *Birth) { b.Credentials[31] ^= 2 }, ErrMismatch},
		{"0x00 credentials", func(b *Birth) { b.Credentials = eth.BLSCredentials(b.Pubkey) }, ErrMismatch},
		{"builder credentials", func(b *Birth) { b.Credentials[0] = 0xb0 }, ErrMismatch},
		{"dirty padding", func(b *Birth) { b.Credentials[5] = 1 }, ErrMismatch},
		{"prefix 0x02, roots of 0x01", func(b *Birth) { b.Credentials[0] = 2 }, ErrMismatch},
		{"other amount", func(b *Birth) { b.Deposits[0].Amount = 31e9 }, ErrMismatch},
		{"amount zero", func(b *Birth) { b.Deposits[0] = depositOf(*b, 0) }, ErrFormat},
		{"amount 2^53", func(b *Birth) { b.Deposits[0] = depositOf(*b, 1<<53) }, ErrFormat},
		{"other deposit signature", func(b *Birth) { b.Deposits[0].Signature[0] ^= 1 }, ErrMismatch},
		{"other message root", func(b *Birth) { b.Deposits[0].MessageRoot[0] ^= 1 }, ErrMismatch},
		{"other data root", func(b *Birth) { b.Deposits[0].DataRoot[0] ^= 1 }, ErrMismatch},
		{"another key's deposit", func(b *Birth) { b.Deposits = exampleBirth(1).Deposits }, ErrMismatch},
		{"amounts of two deposits swapped", func(b *Birth) {
			b.Deposits = []Deposit{depositOf(*b, 1e9), depositOf(*b, 31e9)}
			b.Deposits[0].Amount, b.Deposits[1].Amount = b.Deposits[1].Amount, b.Deposits[0].Amount
		}, ErrMismatch},
		{"second deposit wrong", func(b *Birth) {
			b.Deposits = append(b.Deposits, depositOf(*b, 1e9))
			b.Deposits[1].DataRoot[9] ^= 1
		}, ErrMismatch},
		{"no deposits", func(b *Birth) { b.Deposits = []Deposit{} }, ErrFormat},
		{"null deposits", func(b *Birth) { b.Deposits = nil }, ErrFormat},
		{"65 deposits", func(b *Birth) {
			for len(b.Deposits) < 65 {
				b.Deposits = append(b.Deposits, depositOf(*b, 1e9))
			}
		}, ErrFormat},
		{"recovery sealing", func(b *Birth) { b.Sealing.Purpose = "recovery" }, ErrMismatch},
		{"later generation", func(b *Birth) { b.Sealing.Generation = 1 }, ErrMismatch},
		{"no recipients", func(b *Birth) { b.Sealing.Recipients = []Recipient{} }, ErrFormat},
		{"recipient twice by name", func(b *Birth) {
			b.Sealing.Recipients = append(b.Sealing.Recipients, Recipient{"signer-a", "age1other"})
		}, ErrMismatch},
		{"recipient twice by key", func(b *Birth) {
			b.Sealing.Recipients = append(b.Sealing.Recipients, Recipient{"signer-b", b.Sealing.Recipients[0].Key})
		}, ErrMismatch},
		{"recipient without a name", func(b *Birth) { b.Sealing.Recipients[0].Name = "" }, ErrFormat},
		{"recipient key of two lines", func(b *Birth) { b.Sealing.Recipients[0].Key = "age1\nage1" }, ErrFormat},
		{"recipient key too long", func(b *Birth) { b.Sealing.Recipients[0].Key = strings.Repeat("a", 4097) }, ErrFormat},
		{"no order", func(b *Birth) { b.Order = "" }, ErrFormat},
		{"order with a terminal escape", func(b *Birth) { b.Order = "a\x1b[2J" }, ErrFormat},
		{"order beyond ASCII", func(b *Birth) { b.Order = "ordér" }, ErrFormat},
		{"order too long", func(b *Birth) { b.Order = strings.Repeat("a", 257) }, ErrFormat},
		{"order begins with a space", func(b *Birth) { b.Order = " a" }, ErrFormat},
		{"no mnemonic id", func(b *Birth) { b.Mnemonic.ID = "" }, ErrFormat},
		{"no version", func(b *Birth) { b.Maker.Version = "" }, ErrFormat},
		{"zero network digest", func(b *Birth) { b.NetworkDigest = Hash{} }, ErrFormat},
		{"zero order digest", func(b *Birth) { b.OrderDigest = Hash{} }, ErrFormat},
		{"zero mnemonic digest", func(b *Birth) { b.Mnemonic.Digest = Hash{} }, ErrFormat},
		{"zero recipients digest", func(b *Birth) { b.Mnemonic.Recipients = Hash{} }, ErrFormat},
		{"zero sealing digest", func(b *Birth) { b.Sealing.Digest = Hash{} }, ErrFormat},
		{"zero binary digest", func(b *Birth) { b.Maker.BinaryDigest = Hash{} }, ErrFormat},
		{"zero settings digest", func(b *Birth) { b.Maker.SettingsDigest = Hash{} }, ErrFormat},
		{"no time", func(b *Birth) { b.Time = time.Time{} }, ErrFormat},
		{"1970", func(b *Birth) { b.Time = time.Unix(0, 0).UTC() }, ErrFormat},
		{"milliseconds", func(b *Birth) { b.Time = b.Time.Add(time.Millisecond) }, ErrFormat},
		{"another zone", func(b *Birth) { b.Time = b.Time.In(time.FixedZone("", 3600)) }, ErrFormat},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := exampleBirth(0)
			c.turn(&b)
			_, err := SignBirth(context.Background(), certifier, b)
			wantClass(t, err, c.want)
			v, err := exampleTrust().VerifyBirth(signAny(certifier, b.statement()))
			wantClass(t, err, c.want)
			if (err != nil) != (v == nil) {
				t.Fatal("a verdict and an error at once")
			}
		})
	}
}

// One statement has one encoding: everything that a second JSON parser might
// read as something else is refused, although the trusted key signed it.
func TestPayloadIsCanonical(t *testing.T) {
	good := string(must(canonical(exampleBirth(0).statement())))
	pubkey := "0x" + vectorDeposits[0].pubkey
	for _, c := range []struct {
		name, old, new string
		want           error
	}{
		{"as it is", "", "", nil},
		{"space", `"index":0`, `"index": 0`, ErrFormat},
		{"line break at the end", "\x00end", "\n", ErrFormat},
		{"trailing data", "\x00end", "{}", ErrFormat},
		{"unknown field in the predicate", `"index":0`, `"index":0,"x":1`, ErrFormat},
		{"unknown field in the statement", `"subject":`, `"x":1,"subject":`, ErrFormat},
		{"unknown field in a deposit", `"amount_gwei":`, `"x":1,"amount_gwei":`, ErrFormat},
		{"unknown digest of the subject", `"digest":{"sha256"`, `"digest":{"sha1":"","sha256"`, ErrFormat},
		{"key twice", `"index":0`, `"index":1,"index":0`, ErrFormat},
		{"key twice in another case", `"index":0`, `"Index":1,"index":0`, ErrFormat},
		{"key in another case", `"index":0`, `"INDEX":0`, ErrFormat},
		{"key escaped", `"index":0`, `"\u0069ndex":0`, ErrFormat},
		{"value escaped", `"network":"hoodi"`, `"network":"\u0068oodi"`, ErrFormat},
		{"fields in another order", `"order":"first-three","order_digest":"` + hashOf("order").String() + `"`,
			`"order_digest":"` + hashOf("order").String() + `","order":"first-three"`, ErrFormat},
		{"missing field", `"index":0,`, ``, ErrFormat},
		{"missing purpose", `"purpose":"signing",`, ``, ErrFormat},
		{"empty optional field", `"version":"0.1.0"`, `"version":"0.1.0","commit":""`, ErrFormat},
		{"null", `"index":0`, `"index":null`, ErrFormat},
		{"number as text", `"index":0`, `"index":"0"`, ErrFormat},
		{"negative zero", `"index":0`, `"index":-0`, ErrFormat},
		{"fraction", `"index":0`, `"index":0.0`, ErrFormat},
		{"exponent", `32000000000`, `32e9`, ErrFormat},
		{"index of 2^32", `"index":0`, `"index":4294967296`, ErrFormat},
		{"upper-case hex", `"pubkey":"0x8c239d`, `"pubkey":"0x8C239d`, ErrFormat},
		{"no 0x", `"pubkey":"0x`, `"pubkey":"`, ErrFormat},
		{"0x before a digest", `"order_digest":"`, `"order_digest":"0x`, ErrFormat},
		{"time with an offset", `09:30:00Z`, `09:30:00+00:00`, ErrFormat},
		{"time with a fraction", `09:30:00Z`, `09:30:00.000Z`, ErrFormat},
		{"other statement type", `Statement/v1`, `Statement/v0.1`, ErrFormat},
		{"other predicate type", `birth/v1`, `birth/v2`, ErrFormat},
		{"two subjects", `"subject":[`, `"subject":[{"name":"0x","digest":{"sha256":"` + hashOf("").String() + `"}},`, ErrFormat},
		{"other subject digest", exampleBirth(0).statement().Subject[0].Digest.SHA256.String(), hashOf("other").String(), ErrMismatch},
		{"other subject name", `"name":"` + pubkey, `"name":"0x` + vectorDeposits[1].pubkey, ErrMismatch},
		{"array", "\x00whole", `[]`, ErrFormat},
		{"nothing", "\x00whole", ``, ErrFormat},
		{"deeply nested", "\x00whole", strings.Repeat(`{"predicate":`, 50_000), ErrFormat},
	} {
		t.Run(c.name, func(t *testing.T) {
			payload := good
			switch c.old {
			case "":
			case "\x00end":
				payload += c.new
			case "\x00whole":
				payload = c.new
			default:
				if payload = strings.Replace(good, c.old, c.new, 1); payload == good {
					t.Fatalf("%q is not in the payload: the case tests nothing", c.old)
				}
			}
			_, err := birthOf([]byte(payload))
			wantClass(t, err, c.want)
			if len(payload) < maxBirth/2 {
				_, err = exampleTrust().VerifyBirth(signBytes(certifier, []byte(payload)))
				wantClass(t, err, c.want)
			}
		})
	}
}

// A receipt is no birth certificate, whoever signed it, and the other way.
func TestStatementsAreNotConfused(t *testing.T) {
	receipt := must(SignReceipt(context.Background(), certifier, exampleReceipt()))
	_, err := exampleTrust().VerifyBirth(receipt)
	wantClass(t, err, ErrFormat)
	_, err = exampleTrust().VerifyReceipt(mustSign(exampleBirth(0)))
	wantClass(t, err, ErrFormat)
}

// Every bit of an envelope flipped, every byte removed, doubled or the rest
// cut off: refused, or the same birth. The signature covers the payload only,
// so a change outside it can be harmless; none may change what is read.
func TestTamper(t *testing.T) {
	one := mustSign(exampleBirth(0))
	two := must(Countersign(context.Background(), notary, one))
	var spaced bytes.Buffer
	if err := json.Indent(&spaced, two, "", " "); err != nil {
		t.Fatal(err)
	}
	trust := exampleTrust()
	for name, env := range map[string][]byte{"one signature": one, "two signatures, spaced": spaced.Bytes()} {
		t.Run(name, func(t *testing.T) {
			want, err := trust.VerifyBirth(env)
			if err != nil {
				t.Fatal(err)
			}
			refused, harmless := 0, 0
			try := func(changed []byte) {
				v, err := trust.VerifyBirth(changed)
				switch {
				case err == nil && reflect.DeepEqual(v, want):
					harmless++
				case err == nil:
					t.Fatalf("verifies to another birth: %s", changed)
				default:
					refused++
					if classOf(err) != ErrFormat && classOf(err) != ErrSignature {
						t.Fatalf("refused as %v: something unsigned was read", err)
					}
				}
			}
			for i := range env {
				for bit := range 8 {
					changed := bytes.Clone(env)
					changed[i] ^= 1 << bit
					try(changed)
				}
				try(append(bytes.Clone(env[:i]), env[i+1:]...))
				try(append(bytes.Clone(env[:i+1]), env[i:]...))
				try(env[:i:i])
			}
			t.Logf("%d refused, %d harmless", refused, harmless)
			if refused < 8*len(env) {
				t.Fatalf("only %d changes refused", refused)
			}
		})
	}
}
