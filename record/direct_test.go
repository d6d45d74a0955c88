package record_test

import (
	"bytes"
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/stakeseal/stakeseal/eth"
	"github.com/stakeseal/stakeseal/record"
	"github.com/stakeseal/stakeseal/record/recordtest"
)

// variants are births that differ where a writer or a reader could go wrong.
func variants() map[string]record.Birth {
	out := map[string]record.Birth{}
	for name, change := range map[string]func(*record.Birth){
		"plain":           func(*record.Birth) {},
		"index 0":         func(b *record.Birth) { b.Index, b.Path = 0, "m/12381/3600/0/0/0" },
		"the last index":  func(b *record.Birth) { b.Index, b.Path = 1<<31-1, "m/12381/3600/2147483647/0/0" },
		"eight deposits":  func(b *record.Birth) { b.Deposits = append(b.Deposits, make8(b.Deposits[0])...) },
		"largest amount":  func(b *record.Birth) { b.Deposits[0].Amount = eth.Gwei(1<<64 - 1) },
		"quoted network":  func(b *record.Birth) { b.Network = `a"b\c` },
		"escaped network": func(b *record.Birth) { b.Network = `<&>` },
		"many recipients": func(b *record.Birth) {
			b.Sealing.Recipients = []record.Recipient{{Name: "a", Key: strings.Repeat("k", 4096)}, {Name: "b", Key: `\`}, {Name: "<", Key: "~ "}}
		},
		"file of one byte":    func(b *record.Birth) { reseal(b, []byte{0}) },
		"file of two bytes":   func(b *record.Birth) { reseal(b, []byte{255, 254}) },
		"large file":          func(b *record.Birth) { reseal(b, bytes.Repeat([]byte{0xfb, 0xff}, 64<<10)) },
		"empty certificate":   func(b *record.Birth) { b.Certificate = json.RawMessage(`{}`) },
		"text in certificate": func(b *record.Birth) { b.Certificate = json.RawMessage(`{"a b":"\" }{\\","ü":"\u003c \u2028"}`) },
		"last day":            func(b *record.Birth) { b.Created = time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC) },
		"first year":          func(b *record.Birth) { b.Created = time.Date(0, 2, 29, 0, 0, 0, 0, time.UTC) },
		"signed by a service": func(b *record.Birth) { *b = signed(*b) },
		"before years":        func(b *record.Birth) { b.Created = time.Date(-1, 1, 1, 0, 0, 0, 0, time.UTC) },
		"space in certificate": func(b *record.Birth) {
			b.Certificate = json.RawMessage(`{"a":1 }`)
		},
		"line separator":      func(b *record.Birth) { b.Certificate = json.RawMessage("{\"a\":\"\u2028\"}") },
		"paragraph separator": func(b *record.Birth) { b.Certificate = json.RawMessage("{\"a\":\"\u2029\"}") },
		"another of its row":  func(b *record.Birth) { b.Certificate = json.RawMessage("{\"a\":\"\u202a\u2027\"}") },
		"ampersand":           func(b *record.Birth) { b.Certificate = json.RawMessage(`{"a":"&"}`) },
		"no JSON":             func(b *record.Birth) { b.Certificate = json.RawMessage(`{"a":}`) },
		"two objects":         func(b *record.Birth) { b.Certificate = json.RawMessage(`{}{}`) },
		"two fields":          func(b *record.Birth) { b.Certificate = json.RawMessage(`{},"x":{}`) },
	} {
		b := recordtest.Birth(order, mnemonic, 2, "")
		change(&b)
		out[name] = b
	}
	return out
}

func make8(d record.Deposit) (out []record.Deposit) {
	for i := range byte(7) {
		d.Signature[0], d.MessageRoot[31], d.DataRoot[0] = i, i, 255-i
		out = append(out, d)
	}
	return out
}

func reseal(b *record.Birth, file []byte) {
	b.Sealing.File, b.Sealing.Digest = file, record.DigestOf(file)
}

// TestDirectIsPlain: what direct.go writes is what encoding/json writes, what
// it refuses the same, and its readers read what there is to read.
func TestDirectIsPlain(t *testing.T) {
	refused := 0
	for name, b := range variants() {
		got, err := record.EncodeBirth(b)
		want, wantErr := record.PlainEncodeBirth(b)
		if (err == nil) != (wantErr == nil) || !bytes.Equal(got, want) {
			t.Errorf("%s: %v, %v\n got %s\nwant %s", name, err, wantErr, got, want)
		}
		if err != nil {
			refused++
			continue
		}
		if back, err := record.DecodeBirth(got); err != nil || !reflect.DeepEqual(back, b) {
			t.Errorf("%s does not read back: %v", name, err)
		}
		if !strings.Contains(string(got[:len(got)-len(b.Certificate)]), `\`) && !record.ReadBirth(got) {
			t.Errorf("%s is left to encoding/json", name)
		}
		got, err = record.EncodeValidator(b.Validator)
		want, wantErr = record.PlainEncodeValidator(b.Validator)
		if err != nil || wantErr != nil || !bytes.Equal(got, want) {
			t.Errorf("validator, %s: %v, %v\n got %s\nwant %s", name, err, wantErr, got, want)
		}
		if back, err := record.DecodeValidator(got); err != nil || !reflect.DeepEqual(back, b.Validator) {
			t.Errorf("validator, %s, does not read back: %v", name, err)
		}
		if !strings.Contains(string(got), `\`) && !record.ReadValidator(got) {
			t.Errorf("validator, %s, is left to encoding/json", name)
		}
	}
	if refused != 8 {
		t.Errorf("%d variants were refused, want 8", refused)
	}
}

// FuzzDirect: whatever the bytes, reading them with direct.go and without ends
// the same.
func FuzzDirect(f *testing.F) {
	for _, b := range variants() {
		if data, err := record.PlainEncodeBirth(b); err == nil && len(data) < 10_000 {
			f.Add(data)
		}
		if data, err := record.PlainEncodeValidator(b.Validator); err == nil {
			f.Add(data)
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		b, err := record.DecodeBirth(data)
		plain, plainErr := record.PlainDecodeBirth(data)
		if (err == nil) != (plainErr == nil) || !reflect.DeepEqual(b, plain) {
			t.Fatalf("%s\n%+v, %v\nby encoding/json: %+v, %v", data, b, err, plain, plainErr)
		}
		v, err := record.DecodeValidator(data)
		plainV, plainErr := record.PlainDecodeValidator(data)
		if (err == nil) != (plainErr == nil) || !reflect.DeepEqual(v, plainV) {
			t.Fatalf("%s\n%+v, %v\nby encoding/json: %+v, %v", data, v, err, plainV, plainErr)
		}
	})
}

func BenchmarkEncodeBirth(b *testing.B) {
	big := pqBirth()
	for b.Loop() {
		_, _ = record.EncodeBirth(big)
	}
}

func BenchmarkDecodeBirth(b *testing.B) {
	data, err := record.EncodeBirth(pqBirth())
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		_, _ = record.DecodeBirth(data)
	}
}

// pqBirth is as large as a birth sealed to one post-quantum recipient.
func pqBirth() record.Birth {
	b := recordtest.Birth(order, mnemonic, 2, "")
	b.Sealing.Recipients = []record.Recipient{{Name: "signer-a", Key: strings.Repeat("q", 1959)}}
	reseal(&b, bytes.Repeat([]byte{7}, 1800))
	b.Certificate = json.RawMessage(`{"payload":"` + strings.Repeat("x", 5000) + `"}`)
	return b
}
