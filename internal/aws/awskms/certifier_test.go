package awskms_test

import (
	"crypto/sha256"
	"errors"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stakeseal/stakeseal/certificate"
	"github.com/stakeseal/stakeseal/eth"
	"github.com/stakeseal/stakeseal/internal/aws/arn"
	"github.com/stakeseal/stakeseal/internal/aws/awskms"
	"github.com/stakeseal/stakeseal/internal/aws/awstest"
	"github.com/stakeseal/stakeseal/internal/aws/session"
)

const generator = "stakeseal-generator"

func newKMS(t *testing.T) *awstest.KMS {
	t.Helper()
	k, err := awstest.NewKMS("eu-central-1")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = k.Close() })
	return k
}

func newKey(t *testing.T, k *awstest.KMS, spec awstest.Spec) string {
	t.Helper()
	doc, err := os.ReadFile("../../../docs/formats/awskms.md")
	if err != nil {
		t.Fatal(err)
	}
	policy := regexp.MustCompile("(?ms)^```policy-certifying\n(.*?)^```$").FindSubmatch(doc)
	if policy == nil {
		t.Fatal("the documentation has no policy")
	}
	key, err := k.CreateKey(spec, string(policy[1]))
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func client(t *testing.T, k *awstest.KMS, role, keyARN string) awskms.Client {
	t.Helper()
	key, err := arn.Key(keyARN)
	if err != nil {
		t.Fatal(err)
	}
	return awskms.Dial(k.Credentials(role), session.Options{Endpoint: k.URL, Backoff: func(int) time.Duration { return 0 }})(key)
}

func newCertifier(t *testing.T, k *awstest.KMS, keyARN string) *awskms.Certifier {
	t.Helper()
	c, err := awskms.NewCertifier(t.Context(), client(t, k, generator, keyARN), keyARN)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func last(k *awstest.KMS) awstest.Event {
	trail := k.Trail()
	return trail[len(trail)-1]
}

func birth(t *testing.T, recipient string) (certificate.Birth, eth.Network, eth.Address) {
	t.Helper()
	hoodi, ok := eth.LookupNetwork("hoodi")
	if !ok {
		t.Fatal("no hoodi")
	}
	address, err := eth.ParseAddress("0x0000000000000000000000000000000000000001")
	if err != nil {
		t.Fatal(err)
	}
	b := certificate.Birth{
		Network: "hoodi", NetworkDigest: hoodi.Digest(), Pubkey: eth.Pubkey{0xa1, 47: 7}, Credentials: eth.ExecutionCredentials(address, false),
		Order: "order-1", OrderDigest: sha256.Sum256([]byte("order")), Index: 3, Path: "m/12381/3600/3/0/0",
		Mnemonic: certificate.MnemonicRef{ID: "m-0123456789abcdef", Digest: sha256.Sum256([]byte("mnemonic")), Recipients: sha256.Sum256([]byte("recipients"))},
		Sealing: certificate.SealingRef{Purpose: "signing", Digest: sha256.Sum256([]byte("sealing")),
			Recipients: []certificate.Recipient{{Name: "signer-a", Key: recipient}}},
		Maker: certificate.Maker{BinaryDigest: sha256.Sum256([]byte("binary")), SettingsDigest: sha256.Sum256([]byte("settings")), Version: "0.2.0", Commit: strings.Repeat("0a", 20)},
		Time:  time.Date(2026, 11, 22, 9, 30, 0, 0, time.UTC),
	}
	d := eth.DepositData{Pubkey: b.Pubkey, Credentials: b.Credentials, Amount: 32e9, Signature: eth.Signature{1}}
	b.Deposits = []certificate.Deposit{{Amount: d.Amount, Signature: d.Signature, MessageRoot: d.Message().Root(), DataRoot: d.Root()}}
	return b, hoodi, address
}

// A certificate signed in KMS verifies with the public key's PEM in a trust
// file, and an awskms recipient can stand in it.
func TestCertificate(t *testing.T) {
	k := newKMS(t)
	key := newKey(t, k, awstest.P256)
	c := newCertifier(t, k, key)
	b, network, address := birth(t, "awskms:"+key)
	envelope, err := certificate.SignBirth(t.Context(), c, b)
	if err != nil {
		t.Fatal(err)
	}
	if e := last(k); e.Action != "Sign" {
		t.Errorf("the trail says %+v", e)
	}

	// GetPublicKey as an auditor gets it, in a trust file's own words.
	pem := newAuditor(t, k, key).PEM()
	text := "version: 1\nnetwork: hoodi\nwithdrawal_addresses:\n  cold: \"" + address.String() + "\"\ncertifying_keys:\n  - name: kms\n    key: |\n      " +
		strings.ReplaceAll(strings.TrimSpace(pem), "\n", "\n      ") + "\n"
	trust, err := certificate.ParseTrust([]byte(text))
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	v, err := trust.VerifyBirth(envelope)
	if err != nil || v.Key != "kms" || v.Sealing.Recipients[0].Key != "awskms:"+key {
		t.Fatalf("got %+v, %v", v, err)
	}
	if id, err := c.KeyID(); err != nil || id != trust.Keys[0].Key.ID() {
		t.Errorf("key id %q, %v", id, err)
	}
	other := newCertifier(t, k, newKey(t, k, awstest.P256))
	stranger := &certificate.Trust{Network: network, Addresses: trust.Addresses, Keys: []certificate.TrustedKey{{Name: "other", Key: other.Public()}}}
	if _, err := stranger.VerifyBirth(envelope); !errors.Is(err, certificate.ErrSignature) {
		t.Errorf("another key verifies it: %v", err)
	}
}

func newAuditor(t *testing.T, k *awstest.KMS, key string) certificate.PublicKey {
	t.Helper()
	c, err := awskms.NewCertifier(t.Context(), client(t, k, "stakeseal-auditor", key), key)
	if err != nil {
		t.Fatal(err)
	}
	if sig, err := c.Sign(t.Context(), []byte("x")); !errors.Is(err, session.ErrDenied) || sig != nil {
		t.Fatalf("an auditor signed: %v", err)
	}
	return c.Public()
}

// Data beyond what kms:Sign takes is signed, as its digest.
func TestLongData(t *testing.T) {
	k := newKMS(t)
	c := newCertifier(t, k, newKey(t, k, awstest.P256))
	long := []byte(strings.Repeat("x", 100_000))
	sig, id, err := c.SignRequest(t.Context(), long)
	if err != nil || !c.Public().Verify(long, sig) || id != last(k).RequestID || id == "" {
		t.Errorf("id %q, %v", id, err)
	}
	if c.Public().Verify(long[1:], sig) {
		t.Error("it verifies for other data")
	}
}

// Keys of another kind, and answers that a sound KMS does not give.
func TestRefusedKeys(t *testing.T) {
	k := newKMS(t)
	for _, spec := range []awstest.Spec{awstest.Symmetric, awstest.P384, awstest.RSA2048} {
		key := newKey(t, k, spec)
		if _, err := awskms.NewCertifier(t.Context(), client(t, k, generator, key), key); !errors.Is(err, session.ErrRemote) {
			t.Errorf("%s: %v", spec, err)
		}
	}
	key, other := newKey(t, k, awstest.P256), newKey(t, k, awstest.P256)
	foreign := newCertifier(t, k, other)
	foreignSig, err := foreign.Sign(t.Context(), []byte("data"))
	if err != nil {
		t.Fatal(err)
	}
	for name, turn := range map[string]func(map[string]any){
		"another key":     func(a map[string]any) { a["KeyId"] = other },
		"another spec":    func(a map[string]any) { a["KeySpec"] = "ECC_SECG_P256K1" },
		"another usage":   func(a map[string]any) { a["KeyUsage"] = "KEY_AGREEMENT" },
		"no algorithm":    func(a map[string]any) { a["SigningAlgorithms"] = []string{} },
		"no public key":   func(a map[string]any) { delete(a, "PublicKey") },
		"a broken key":    func(a map[string]any) { a["PublicKey"] = []byte("x") },
		"not a key at it": func(a map[string]any) { a["KeyId"] = "" },
	} {
		k.Tamper(func(_ string, a map[string]any) { turn(a) })
		_, err := awskms.NewCertifier(t.Context(), client(t, k, generator, key), key)
		if !errors.Is(err, session.ErrRemote) || !strings.Contains(err.Error(), last(k).RequestID) {
			t.Errorf("%s: %v", name, err)
		}
	}
	k.Tamper(nil)
	c := newCertifier(t, k, key)
	for name, turn := range map[string]func(map[string]any){
		"another key":       func(a map[string]any) { a["KeyId"] = other },
		"another algorithm": func(a map[string]any) { a["SigningAlgorithm"] = "ECDSA_SHA_512" },
		"another signature": func(a map[string]any) { a["Signature"] = foreignSig },
		"no signature":      func(a map[string]any) { delete(a, "Signature") },
	} {
		k.Tamper(func(_ string, a map[string]any) { turn(a) })
		sig, id, err := c.SignRequest(t.Context(), []byte("data"))
		if !errors.Is(err, session.ErrRemote) || sig != nil || id != "" {
			t.Errorf("%s: %v", name, err)
		}
	}
	k.Tamper(nil)

	if _, err := awskms.NewCertifier(t.Context(), client(t, k, generator, key), "arn:aws:kms:eu-central-1:111122223333:alias/x"); !errors.Is(err, arn.ErrARN) {
		t.Errorf("an alias: %v", err)
	}
	if _, err := awskms.NewCertifier(t.Context(), nil, key); err == nil {
		t.Error("no client")
	}
	var zero awskms.Certifier
	if id, err := zero.KeyID(); err == nil || id != "" {
		t.Errorf("the zero certifier has key %q", id)
	}
	if _, err := zero.Sign(t.Context(), nil); err == nil {
		t.Error("the zero certifier signs")
	}
}

// Who may not, and who is not reached.
func TestSignFailures(t *testing.T) {
	k := newKMS(t)
	key := newKey(t, k, awstest.P256)
	if _, err := awskms.NewCertifier(t.Context(), client(t, k, "stranger", key), key); !errors.Is(err, session.ErrDenied) {
		t.Errorf("a stranger: %v", err)
	}
	c := newCertifier(t, k, key)
	throttled := awstest.Fault{Status: 400, Code: "ThrottlingException"}
	k.Fail(throttled, throttled)
	if _, err := c.Sign(t.Context(), []byte("x")); err != nil {
		t.Errorf("throttled twice: %v", err)
	}
	for range session.MaxAttempts {
		k.Fail(awstest.Fault{Status: 503})
	}
	if _, err := c.Sign(t.Context(), []byte("x")); !errors.Is(err, session.ErrRemote) {
		t.Errorf("down: %v", err)
	}
	if err := k.Disable(key); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Sign(t.Context(), []byte("x")); !errors.Is(err, session.ErrRemote) || !strings.Contains(err.Error(), "DisabledException") {
		t.Errorf("disabled: %v", err)
	}
}
