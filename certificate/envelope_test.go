package certificate

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"reflect"
	"strings"
	"testing"

	intoto "github.com/in-toto/attestation/go/v1"
	"github.com/secure-systems-lab/go-securesystemslib/dsse"
	"google.golang.org/protobuf/encoding/protojson"
)

// in-toto's own module parses and validates our statements.
func TestSecondParser(t *testing.T) {
	for name, payload := range map[string][]byte{
		"birth":   must(canonical(exampleBirth(0).statement())),
		"receipt": must(canonical(exampleReceipt().statement())),
	} {
		t.Run(name, func(t *testing.T) {
			var st intoto.Statement
			if err := protojson.Unmarshal(payload, &st); err != nil {
				t.Fatal(err)
			}
			if err := st.Validate(); err != nil {
				t.Fatal(err)
			}
			var ours statement[json.RawMessage]
			if err := json.Unmarshal(payload, &ours); err != nil {
				t.Fatal(err)
			}
			if st.GetType() != StatementType || st.GetPredicateType() != ours.PredicateType || len(st.GetSubject()) != 1 {
				t.Fatalf("read as %s", protojson.Format(&st))
			}
			got := st.GetSubject()[0]
			if got.GetName() != ours.Subject[0].Name || got.GetDigest()["sha256"] != ours.Subject[0].Digest.SHA256.String() {
				t.Fatalf("subject read as %s", protojson.Format(got))
			}
			var predicate any
			if err := json.Unmarshal(ours.Predicate, &predicate); err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(st.GetPredicate().AsMap(), predicate) {
				t.Fatal("the predicate reads differently")
			}
		})
	}
	b := exampleBirth(1)
	if got, want := b.statement().Subject[0].Digest.SHA256, sha256.Sum256(b.Pubkey[:]); got != want {
		t.Fatalf("subject digest %s", got)
	}
}

// dsseVerifier adapts a PublicKey to the library's verifier.
type dsseVerifier struct{ key PublicKey }

func (v dsseVerifier) KeyID() (string, error)   { return v.key.ID(), nil }
func (v dsseVerifier) Public() crypto.PublicKey { return v.key.key }
func (v dsseVerifier) Verify(_ context.Context, data, sig []byte) error {
	if !v.key.Verify(data, sig) {
		return errors.New("wrong")
	}
	return nil
}

// The library's verifier accepts our envelopes and finds the same payload.
func TestSecondVerifier(t *testing.T) {
	env := must(Countersign(context.Background(), newKMSSigner(), mustSign(exampleBirth(0))))
	var e dsse.Envelope
	if err := json.Unmarshal(env, &e); err != nil {
		t.Fatal(err)
	}
	ev := must(dsse.NewEnvelopeVerifier(dsseVerifier{certifier.public()}))
	accepted, payload, err := ev.VerifyAndDecode(context.Background(), &e)
	if err != nil {
		t.Fatal(err)
	}
	if len(accepted) != 1 || accepted[0].KeyID != certifier.public().ID() {
		t.Fatalf("accepted %+v", accepted)
	}
	if !bytes.Equal(payload, must(canonical(exampleBirth(0).statement()))) {
		t.Fatal("another payload")
	}
}

// The PAE is spelled out here, so that the library is not its own witness.
func TestPAE(t *testing.T) {
	env := mustSign(exampleBirth(0))
	e := must(parseEnvelope(env, maxBirth))
	want := fmt.Sprintf("DSSEv1 28 application/vnd.in-toto+json %d %s", len(e.payload), e.payload)
	if string(e.pae()) != want {
		t.Fatal("the PAE is not DSSE v1's")
	}
	if !ed25519.Verify(certifier.key.Public().(ed25519.PublicKey), []byte(want), e.signatures[0].sig) {
		t.Fatal("the signature is not of the PAE")
	}
}

// wire is an envelope to be bent.
type wire struct {
	PayloadType string           `json:"payloadType"`
	Payload     string           `json:"payload"`
	Signatures  []dsse.Signature `json:"signatures"`
}

func TestSignatures(t *testing.T) {
	ctx := context.Background()
	good := mustSign(exampleBirth(0))
	stranger := newEdSigner(0x80)
	kms := newKMSSigner()
	sigOf := func(s Signer, message []byte) dsse.Signature {
		return dsse.Signature{KeyID: must(s.KeyID()), Sig: base64.StdEncoding.EncodeToString(must(s.Sign(ctx, message)))}
	}
	payload := must(canonical(exampleBirth(0).statement()))
	pae := dsse.PAE(PayloadType, payload)
	id := certifier.public().ID()
	for _, c := range []struct {
		name string
		turn func(*Trust, *wire)
		want error
	}{
		{"as it is", func(*Trust, *wire) {}, nil},
		{"unknown signature after", func(_ *Trust, w *wire) { w.Signatures = append(w.Signatures, sigOf(stranger, pae)) }, nil},
		{"unknown signature before", func(_ *Trust, w *wire) {
			w.Signatures = append([]dsse.Signature{sigOf(stranger, pae)}, w.Signatures...)
		}, nil},
		{"unknown signature, wrong", func(_ *Trust, w *wire) { w.Signatures = append(w.Signatures, sigOf(stranger, []byte("x"))) }, nil},
		{"unknown signature alone", func(_ *Trust, w *wire) { w.Signatures = []dsse.Signature{sigOf(stranger, pae)} }, ErrSignature},
		{"stranger in the key's name", func(_ *Trust, w *wire) {
			w.Signatures[0].Sig = sigOf(stranger, pae).Sig
		}, ErrSignature},
		{"known notary, good", func(tr *Trust, w *wire) {
			tr.Keys = append(tr.Keys, TrustedKey{"notary", notary.public(), Validity{}})
			w.Signatures = append(w.Signatures, sigOf(notary, pae))
		}, nil},
		{"known notary, wrong", func(tr *Trust, w *wire) {
			tr.Keys = append(tr.Keys, TrustedKey{"notary", notary.public(), Validity{}})
			w.Signatures = append(w.Signatures, sigOf(notary, []byte("x")))
		}, ErrSignature},
		{"known P-256 notary, wrong", func(tr *Trust, w *wire) {
			tr.Keys = append(tr.Keys, TrustedKey{"notary", kms.public(), Validity{}})
			w.Signatures = append(w.Signatures, sigOf(kms, []byte("x")))
		}, ErrSignature},
		{"known notary, revoked", func(tr *Trust, w *wire) {
			tr.Keys = append(tr.Keys, TrustedKey{"notary", notary.public(), Validity{Revoked: true}})
			w.Signatures = append(w.Signatures, sigOf(notary, pae))
		}, ErrUntrusted},
		{"known notary, expired", func(tr *Trust, w *wire) {
			tr.Keys = append(tr.Keys, TrustedKey{"notary", notary.public(), Validity{NotAfter: at("2020-01-01T00:00:00Z")}})
			w.Signatures = append(w.Signatures, sigOf(notary, pae))
		}, nil},
		{"two signatures of one key", func(_ *Trust, w *wire) { w.Signatures = append(w.Signatures, sigOf(certifier, pae)) }, ErrFormat},
		{"no signature", func(_ *Trust, w *wire) { w.Signatures = []dsse.Signature{} }, ErrFormat},
		{"null signatures", func(_ *Trust, w *wire) { w.Signatures = nil }, ErrFormat},
		{"17 signatures", func(_ *Trust, w *wire) {
			for i := range byte(16) {
				w.Signatures = append(w.Signatures, sigOf(newEdSigner(0x90+i), pae))
			}
		}, ErrFormat},
		{"no key id", func(_ *Trust, w *wire) { w.Signatures[0].KeyID = "" }, ErrFormat},
		{"key id in upper case", func(_ *Trust, w *wire) { w.Signatures[0].KeyID = strings.ToUpper(id) }, ErrFormat},
		{"key id of another key", func(_ *Trust, w *wire) { w.Signatures[0].KeyID = hashOf("x").String() }, ErrSignature},
		{"empty signature", func(_ *Trust, w *wire) { w.Signatures[0].Sig = "" }, ErrFormat},
		{"huge signature", func(_ *Trust, w *wire) { w.Signatures[0].Sig = strings.Repeat("AAAA", 400) }, ErrFormat},
		{"signature of the bare payload", func(_ *Trust, w *wire) { w.Signatures[0] = sigOf(certifier, payload) }, ErrSignature},
		{"signature of another payload", func(_ *Trust, w *wire) {
			w.Payload = base64.StdEncoding.EncodeToString(must(canonical(exampleBirth(1).statement())))
		}, ErrSignature},
		{"another payload type", func(_ *Trust, w *wire) { w.PayloadType = "application/json" }, ErrFormat},
		{"URL base64", func(_ *Trust, w *wire) {
			w.Payload = base64.URLEncoding.EncodeToString(payload)
			w.Signatures[0].Sig = strings.NewReplacer("+", "-", "/", "_").Replace(w.Signatures[0].Sig)
		}, nil},
		{"base64 without padding", func(_ *Trust, w *wire) { w.Signatures[0].Sig = strings.TrimRight(w.Signatures[0].Sig, "=") }, ErrFormat},
		{"base64 with a line break", func(_ *Trust, w *wire) { w.Payload = w.Payload[:64] + "\n" + w.Payload[64:] }, ErrFormat},
		{"base64 with stray bits", func(_ *Trust, w *wire) {
			// 64 bytes leave four unused bits before the padding
			cut := strings.TrimRight(w.Signatures[0].Sig, "=")
			last := strings.IndexByte(alphabet, cut[len(cut)-1])
			w.Signatures[0].Sig = cut[:len(cut)-1] + string(alphabet[last|1]) + "=="
		}, ErrFormat},
	} {
		t.Run(c.name, func(t *testing.T) {
			var w wire
			if err := json.Unmarshal(good, &w); err != nil {
				t.Fatal(err)
			}
			trust := exampleTrust()
			c.turn(trust, &w)
			v, err := trust.VerifyBirth(must(json.Marshal(w)))
			wantClass(t, err, c.want)
			if err == nil && v.Key != "generator-2026" {
				t.Fatalf("verified by %q", v.Key)
			}
		})
	}
}

const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"

// Envelope JSON: spacing and order are free, fields are not.
func TestEnvelopeJSON(t *testing.T) {
	good := string(mustSign(exampleBirth(0)))
	payload := good[strings.Index(good, `"payload":`) : strings.Index(good, `"signatures"`)-1]
	for _, c := range []struct {
		name, env string
		want      error
	}{
		{"as it is", good, nil},
		{"spaced", " \n" + strings.ReplaceAll(good, `,"`, ", \t\r\n\"") + "\n", nil},
		{"other order", "{" + payload + "," + strings.Replace(good[1:], payload+",", "", 1), nil},
		{"payload twice", strings.Replace(good, payload, payload+","+payload, 1), ErrFormat},
		{"payload twice, once in capitals", strings.Replace(good, payload, `"PAYLOAD":"e30=",`+payload, 1), ErrFormat},
		{"payload in capitals", strings.Replace(good, `"payload":`, `"Payload":`, 1), ErrFormat},
		{"no payload", strings.Replace(good, payload+",", "", 1), ErrFormat},
		{"null payload", strings.Replace(good, payload, `"payload":null`, 1), ErrFormat},
		{"payload is a number", strings.Replace(good, payload, `"payload":1`, 1), ErrFormat},
		{"unknown field", `{"x":1,` + good[1:], ErrFormat},
		{"unknown field of a signature", strings.Replace(good, `{"keyid"`, `{"cert":"","keyid"`, 1), ErrFormat},
		{"keyid twice", strings.Replace(good, `{"keyid"`, `{"keyid":"","keyid"`, 1), ErrFormat},
		{"trailing object", good + "{}", ErrFormat},
		{"trailing bracket", good + "]", ErrFormat},
		{"array", "[" + good + "]", ErrFormat},
		{"cut", good[:len(good)-1], ErrFormat},
		{"empty", "", ErrFormat},
		{"null", "null", ErrFormat},
		{"not UTF-8", "\xff" + good, ErrFormat},
		{"deeply nested", strings.Repeat(`{"payload":`, 20_000), ErrFormat},
		{"huge", good + strings.Repeat(" ", maxBirth), ErrFormat},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.name != "as it is" && c.env == good {
				t.Fatal("the case changes nothing")
			}
			_, err := exampleTrust().VerifyBirth([]byte(c.env))
			wantClass(t, err, c.want)
		})
	}
}

// A receipt names a certificate by what it says: the digest stays the same
// when a notary signs too and when a store re-spaces the JSON.
func TestDigest(t *testing.T) {
	env := mustSign(exampleBirth(0))
	want := Hash(sha256.Sum256(must(canonical(exampleBirth(0).statement()))))
	var spaced bytes.Buffer
	if err := json.Indent(&spaced, env, "", "  "); err != nil {
		t.Fatal(err)
	}
	for name, e := range map[string][]byte{
		"as signed": env, "spaced": spaced.Bytes(), "countersigned": must(Countersign(context.Background(), notary, env)),
	} {
		if got, err := Digest(e); err != nil || got != want {
			t.Errorf("%s: %s, %v", name, got, err)
		}
	}
	if other := must(Digest(mustSign(exampleBirth(1)))); other == want {
		t.Error("two births, one digest")
	}
	_, err := Digest([]byte("{}"))
	wantClass(t, err, ErrFormat)
}

func TestCountersign(t *testing.T) {
	ctx := context.Background()
	env := mustSign(exampleBirth(0))
	if _, err := Countersign(ctx, certifier, env); !errors.Is(err, ErrFormat) {
		t.Errorf("one key signed twice: %v", err)
	}
	two := must(Countersign(ctx, notary, env))
	trust := exampleTrust()
	trust.Keys = []TrustedKey{{"notary", notary.public(), Validity{}}}
	v, err := trust.VerifyBirth(two)
	if err != nil || v.Key != "notary" {
		t.Fatalf("%+v, %v", v, err)
	}
	if _, err := trust.VerifyBirth(env); !errors.Is(err, ErrSignature) {
		t.Errorf("without the notary: %v", err)
	}
}

// badSigner fails in the ways that signers fail.
type badSigner struct {
	sig   []byte
	sigOK error
	id    string
	idOK  error
}

func (s badSigner) Sign(context.Context, []byte) ([]byte, error) { return s.sig, s.sigOK }
func (s badSigner) KeyID() (string, error)                       { return s.id, s.idOK }

func TestSignerFailures(t *testing.T) {
	denied := errors.New("denied")
	id := certifier.public().ID()
	for name, s := range map[string]Signer{
		"nil":              nil,
		"cannot sign":      badSigner{nil, denied, id, nil},
		"cannot name key":  badSigner{[]byte("sig"), nil, "", denied},
		"no key id":        badSigner{[]byte("sig"), nil, "", nil},
		"key id of others": badSigner{[]byte("sig"), nil, "arn:aws:kms:1", nil},
		"empty signature":  badSigner{nil, nil, id, nil},
	} {
		env, err := SignBirth(context.Background(), s, exampleBirth(0))
		if err == nil || env != nil {
			t.Errorf("%s: %s, %v", name, env, err)
		}
		if name == "cannot sign" && !errors.Is(err, denied) {
			t.Errorf("the signer's error is lost: %v", err)
		}
	}
}

// KMS makes high-S and low-S signatures; both are good. Other encodings of
// the same two numbers are not.
func TestECDSAEncodings(t *testing.T) {
	s := newKMSSigner()
	message := []byte("message")
	var sig struct{ R, S *big.Int }
	if _, err := asn1.Unmarshal(must(s.Sign(context.Background(), message)), &sig); err != nil {
		t.Fatal(err)
	}
	n := elliptic.P256().Params().N
	other := struct{ R, S *big.Int }{sig.R, new(big.Int).Sub(n, sig.S)}
	key := s.public()
	for name, der := range map[string][]byte{"as made": must(asn1.Marshal(sig)), "other half": must(asn1.Marshal(other))} {
		if !key.Verify(message, der) {
			t.Errorf("%s is refused", name)
		}
	}
	der := must(asn1.Marshal(sig))
	raw := append(sig.R.FillBytes(make([]byte, 32)), sig.S.FillBytes(make([]byte, 32))...)
	long := append([]byte{0x30, 0x81, der[1]}, der[2:]...)
	for name, bad := range map[string][]byte{
		"raw r and s": raw, "long-form length": long, "trailing byte": append(bytes.Clone(der), 0), "empty": nil,
		"s plus n": must(asn1.Marshal(struct{ R, S *big.Int }{sig.R, new(big.Int).Add(n, sig.S)})),
		"zeros":    must(asn1.Marshal(struct{ R, S *big.Int }{new(big.Int), new(big.Int)})),
	} {
		if key.Verify(message, bad) {
			t.Errorf("%s is accepted", name)
		}
	}
	if key.Verify([]byte("other"), der) || (PublicKey{}).Verify(message, der) {
		t.Error("accepted by the wrong key or for the wrong message")
	}
}

func TestPublicKeys(t *testing.T) {
	ed, p256 := certifier.public(), newKMSSigner().public()
	for name, k := range map[string]PublicKey{"ed25519": ed, "p256": p256} {
		for _, text := range []string{k.String(), k.PEM(), "\n" + k.PEM() + "\n"} {
			back, err := ParsePublicKey(text)
			if err != nil || !back.Equal(k) || back.ID() != k.ID() {
				t.Errorf("%s: %q reads as %v, %v", name, text, back, err)
			}
		}
	}
	if ed.Equal(p256) || ed.ID() == p256.ID() {
		t.Error("two keys are equal")
	}
	// RFC 8410: the SPKI of an Ed25519 key is this prefix and the 32 bytes.
	spki := append(unhex("302a300506032b6570032100"), certifier.key.Public().(ed25519.PublicKey)...)
	if sum := sha256.Sum256(spki); ed.ID() != hex.EncodeToString(sum[:]) {
		t.Error("the key id is not the sha256 of the SPKI")
	}
	if (PublicKey{}).ID() != "" || (PublicKey{}).PEM() != "" || (PublicKey{}).String() != "" {
		t.Error("the zero key has a name")
	}

	p384 := must(ecdsa.GenerateKey(elliptic.P384(), rand.Reader))
	rsaKey := must(rsa.GenerateKey(rand.Reader, 2048))
	block := func(kind string, der []byte) string {
		return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
	}
	for name, text := range map[string]string{
		"empty":          "",
		"31 bytes":       "ed25519:" + base64.StdEncoding.EncodeToString(make([]byte, 31)),
		"33 bytes":       "ed25519:" + base64.StdEncoding.EncodeToString(make([]byte, 33)),
		"no padding":     strings.TrimRight(ed.String(), "="),
		"line break":     ed.String()[:20] + "\n" + ed.String()[20:],
		"space after":    ed.String() + " ",
		"capital prefix": "E" + ed.String()[1:],
		"two blocks":     ed.PEM() + p256.PEM(),
		"text before":    "x\n" + ed.PEM(),
		"text after":     ed.PEM() + "x",
		"header":         strings.Replace(ed.PEM(), "KEY-----\n", "KEY-----\nA: b\n\n", 1),
		"private key":    block("PRIVATE KEY", must(x509.MarshalPKCS8PrivateKey(certifier.key))),
		"certificate":    block("CERTIFICATE", spki),
		"not DER":        block("PUBLIC KEY", []byte("x")),
		"P-384":          block("PUBLIC KEY", must(x509.MarshalPKIXPublicKey(&p384.PublicKey))),
		"RSA":            block("PUBLIC KEY", must(x509.MarshalPKIXPublicKey(&rsaKey.PublicKey))),
		// The AlgorithmIdentifier of Ed25519 must have no parameters (RFC 8410, 3).
		"with parameters": block("PUBLIC KEY", append(unhex("302c300706032b65700500032100"), spki[12:]...)),
		"second encoding": block("PUBLIC KEY", shifted(spki)),
	} {
		_, err := ParsePublicKey(text)
		if !errors.Is(err, ErrFormat) {
			t.Errorf("%s: %v", name, err)
		}
	}
	var none *ecdsa.PublicKey
	for name, pub := range map[string]crypto.PublicKey{
		"nil": nil, "nil pointer": none, "P-384": &p384.PublicKey, "RSA": &rsaKey.PublicKey, "short": ed25519.PublicKey{1},
	} {
		if _, err := NewPublicKey(pub); !errors.Is(err, ErrFormat) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// shifted is the same key in another DER: Go's parser moves a bit string with
// one unused bit to the right, so the bits moved to the left read the same.
func shifted(spki []byte) []byte {
	out := bytes.Clone(spki)
	out[11] = 1
	for i := 12; i < len(out); i++ {
		out[i] <<= 1
		if i+1 < len(spki) {
			out[i] |= spki[i+1] >> 7
		}
	}
	pub, err := x509.ParsePKIXPublicKey(out)
	if err != nil || !bytes.Equal(pub.(ed25519.PublicKey), spki[12:]) {
		panic("the case tests nothing: it is not the same key")
	}
	return out
}

func TestRecipientsDigest(t *testing.T) {
	got := must(RecipientsDigest([]Recipient{{"anna", "age1x"}, {"vault", "age1y"}}))
	if want := hashOf(`[{"name":"anna","key":"age1x"},{"name":"vault","key":"age1y"}]`); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if _, err := RecipientsDigest(nil); !errors.Is(err, ErrFormat) {
		t.Errorf("of nobody: %v", err)
	}
}
