package certificate

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
)

// FuzzVerifyBirth: any envelope is refused with one class, or it verifies and
// says exactly what its payload says. Any payload under a good signature is
// refused with one class, or it is canonical.
func FuzzVerifyBirth(f *testing.F) {
	env := mustSign(exampleBirth(0))
	f.Add(env, false)
	f.Add([]byte(strings.Replace(string(env), `"payload"`, `"PAYLOAD":"","payload"`, 1)), false)
	f.Add(must(canonical(exampleBirth(1).statement())), true)
	f.Add(must(canonical(exampleReceipt().statement())), true)
	f.Add([]byte(`{"predicateType":"`+BirthType+`"}`), true)
	trust := exampleTrust()
	f.Fuzz(func(t *testing.T, data []byte, payloadOnly bool) {
		if payloadOnly {
			e := wire{PayloadType: PayloadType}
			if len(data) > maxBirth/2 {
				return
			}
			if err := json.Unmarshal(signBytes(certifier, data), &e); err != nil {
				t.Fatal(err)
			}
			data = must(json.Marshal(e))
		}
		v, err := trust.VerifyBirth(data)
		if err != nil {
			if v != nil || classOf(err) == nil || !isClass(classOf(err)) {
				t.Fatalf("verdict %v, error %v", v, err)
			}
			return
		}
		e := must(parseEnvelope(data, maxBirth))
		if again := must(canonical(v.Birth.statement())); !bytes.Equal(again, e.payload) {
			t.Fatalf("verified %s\nfrom     %s", again, e.payload)
		}
		if d := must(Digest(data)); d != must(Digest(must(json.Marshal(json.RawMessage(data))))) {
			t.Fatalf("the digest %s changes with spacing", d)
		}
	})
}

// FuzzVerifyReceipt: a payload under a good signature is refused with one
// class or is canonical.
func FuzzVerifyReceipt(f *testing.F) {
	f.Add(must(canonical(exampleReceipt().statement())))
	f.Add(must(canonical(exampleBirth(0).statement())))
	trust := exampleTrust()
	f.Fuzz(func(t *testing.T, payload []byte) {
		v, err := trust.VerifyReceipt(signBytes(certifier, payload))
		if err != nil {
			if v != nil || !isClass(classOf(err)) {
				t.Fatalf("verdict %v, error %v", v, err)
			}
			return
		}
		if again := must(canonical(v.Receipt.statement())); !bytes.Equal(again, payload) {
			t.Fatalf("verified %s\nfrom     %s", again, payload)
		}
	})
}

// FuzzParseTrust: what parses passes Check and formats to a file that reads
// back the same; errors are one line of class ErrFormat.
func FuzzParseTrust(f *testing.F) {
	f.Add([]byte(trustText))
	f.Add(must(FormatTrust(*exampleTrust())))
	custom := exampleTrust()
	custom.Network = customNetwork()
	custom.Keys = append(custom.Keys, TrustedKey{"kms", newKMSSigner().public(), Validity{Revoked: true}})
	f.Add(must(FormatTrust(*custom)))
	f.Add(must(FormatTrust(*managedTrust(f))))
	f.Fuzz(func(t *testing.T, data []byte) {
		trust, err := ParseTrust(data)
		if err != nil {
			if trust != nil || classOf(err) != ErrFormat || strings.ContainsAny(err.Error(), "\n\r\x1b") {
				t.Fatalf("trust %v, error %q", trust, err)
			}
			return
		}
		if err := trust.Check(); err != nil {
			t.Fatal(err)
		}
		text, err := FormatTrust(*trust)
		if err != nil {
			t.Fatal(err)
		}
		back, err := ParseTrust(text)
		if err != nil {
			t.Fatal(err)
		}
		wantSameTrust(t, back, trust)
	})
}

// FuzzParsePublicKey: what parses has one text, one id and reads back.
func FuzzParsePublicKey(f *testing.F) {
	f.Add(certifier.public().String())
	f.Add(certifier.public().PEM())
	f.Add(newKMSSigner().public().PEM())
	f.Fuzz(func(t *testing.T, text string) {
		k, err := ParsePublicKey(text)
		if err != nil {
			if classOf(err) != ErrFormat {
				t.Fatal(err)
			}
			return
		}
		for _, again := range []string{k.String(), k.PEM()} {
			back, err := ParsePublicKey(again)
			if err != nil || !back.Equal(k) || back.ID() != k.ID() {
				t.Fatalf("%q reads back as %v, %v", again, back, err)
			}
		}
	})
}

func isClass(err error) bool {
	for _, c := range classes {
		if err == c {
			return true
		}
	}
	return false
}
