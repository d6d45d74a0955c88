package certificate

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stakeseal/stakeseal/eth"
)

// vectorDeposits are the three deposits of multiple_validators/hoodi in the
// shared vectors, made by another program, so that the example's roots are
// not our own word. TestVectors compares them with the file.
var vectorDeposits = []struct{ pubkey, signature, messageRoot, dataRoot string }{
	{
		"8c239d313e3f4efb1ed937e7560dfaabeb6def6b88001357d5e9a3c33fdb022f7b028085c09451667f06b6b849c71ce8",
		"b75c4efccece365c659c27e736357d39e4fbc0ebe3b604cd17e85bf1d2efaf5d401f0b81e2a357ba229d9b50ca60e7ad06f8ec747580490a91864f5429ec613b8991e200d59d036c39d1edad51d39e9173163e824d97b12016c5f5cbd424d0fe",
		"2fbd8c8ae64bf60838663354422ff2004f37ddfc3a482fc29d39082b4a3903cb",
		"2b1e08816db71d077e326c0d2b88f40970bdb0787c94eb914a2f0fb0575e6b2a",
	},
	{
		"80145bdb454a8f55f7275903108f516ade8747efff0906616febb11c6e307667431ee286d1a1a919ea22739e0e7f6e9a",
		"94d4855ecb68f9b8fd469b8b1a7571c5b59ebd4f16b134a1067f99da539c15d22ec6fc6f8b15dbd20597e4283e732d59173e46544d343cdefabe6a1513b52e00902b42966060d5040bafb6a12e9e59f4211699e752ec37f0f04ba48d8e88f120",
		"f3b7eb90dfc663686ec76975c54ad12d7557c59e63fdb26eddeb8a68fb7c2711",
		"86a86d4dddca9b467abc696be635bd91e1d073d0060e5f617f9885c402f9f9a2",
	},
	{
		"a759ea6450a376507bebc596b8e52981a70467fd7a33c6a66e45b51afb388078eb1dd7e9a751a91d65fba793ab2430fd",
		"98b281de0f39d57a9937b5c1774378434141acca185d6ecef1e08fa00f4e4b4dd5ef8805fbbdc8f40fcd81df08d8430b165cba608304693fae89839fe77f8faac058df5d910c2da5c6bad82c9b880c1d4b9bbd84298e2397da56ae327fa77440",
		"c40f308d03554f2f183475436014943545b2be2397376aec42b7fa5e1054481d",
		"01a695929f6fd21c186881c6dfccf3a9b3af3461513a7b55463209af17343bf8",
	},
}

// edSigner is an Ed25519 Signer in memory.
type edSigner struct{ key ed25519.PrivateKey }

func (s edSigner) Sign(_ context.Context, data []byte) ([]byte, error) {
	return ed25519.Sign(s.key, data), nil
}
func (s edSigner) KeyID() (string, error)    { return s.public().ID(), nil }
func (s edSigner) public() PublicKey         { return mustKey(s.key.Public()) }
func newEdSigner(first byte) edSigner        { return edSigner{ed25519.NewKeyFromSeed(seed(first))} }
func hashOf(s string) Hash                   { return sha256.Sum256([]byte(s)) }
func at(s string) time.Time                  { t, _ := time.Parse(time.RFC3339, s); return t }
func mustKey(pub crypto.PublicKey) PublicKey { return must(NewPublicKey(pub)) }

// seed is first, first+1, ...: bytes that nobody takes for a real key.
func seed(first byte) []byte {
	b := make([]byte, ed25519.SeedSize)
	for i := range b {
		b[i] = first + byte(i)
	}
	return b
}

// kmsSigner signs as AWS KMS does with ECC_NIST_P256 and MessageType DIGEST:
// ASN.1 DER over a sha256 that the caller computed.
type kmsSigner struct{ key *ecdsa.PrivateKey }

func newKMSSigner() kmsSigner {
	return kmsSigner{must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))}
}
func (s kmsSigner) Sign(_ context.Context, data []byte) ([]byte, error) {
	digest := sha256.Sum256(data)
	return ecdsa.SignASN1(rand.Reader, s.key, digest[:])
}
func (s kmsSigner) KeyID() (string, error) { return s.public().ID(), nil }
func (s kmsSigner) public() PublicKey      { return mustKey(&s.key.PublicKey) }

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func unhex(s string) []byte { return must(hex.DecodeString(s)) }

var (
	certifier = newEdSigner(0x00) // the example's certifying key
	notary    = newEdSigner(0x40)
	hoodi, _  = eth.LookupNetwork("hoodi")
	coldStore = must(eth.ParseAddress("0x0000000000000000000000000000000000000001"))
)

const (
	exampleOrder    = "first-three"
	exampleMnemonic = "q7m2c4kd"
)

// exampleBirth is the birth certificate of docs/formats/certificate.md.
func exampleBirth(index uint32) Birth {
	v := vectorDeposits[index]
	recovery := []Recipient{
		{"anna", "age1zvkyg2lqzraa2lnjvqej32nkuu0ues2s82hzrye869xeexvn73equnujwj"},
		{"vault", "age1lggyhqrw2nlhcxprm67z43rta597azn8gknawjehu9d9dl0jq3yqqvfafg"},
	}
	return Birth{
		Network:       "hoodi",
		NetworkDigest: hoodi.Digest(),
		Pubkey:        eth.Pubkey(unhex(v.pubkey)),
		Credentials:   eth.ExecutionCredentials(coldStore, false),
		Deposits: []Deposit{{
			Amount:      32e9,
			MessageRoot: eth.Root(unhex(v.messageRoot)),
			DataRoot:    eth.Root(unhex(v.dataRoot)),
			Signature:   eth.Signature(unhex(v.signature)),
		}},
		Order:       exampleOrder,
		OrderDigest: hashOf("order"),
		Index:       index,
		Path:        fmt.Sprintf("m/12381/3600/%d/0/0", index),
		Mnemonic:    MnemonicRef{exampleMnemonic, hashOf("mnemonic sealing"), must(RecipientsDigest(recovery))},
		Sealing: SealingRef{"signing", 0, hashOf(fmt.Sprintf("signing sealing %d", index)), []Recipient{
			{"signer-a", "age1t7rxyev2z3rw82stdlrrepyc39nvn86l5078zqkf5uasdy86jp6svpy7pa"},
		}},
		Maker: Maker{
			BinaryDigest:   hashOf("binary"),
			SettingsDigest: hashOf("settings"),
			Version:        "0.1.0",
			Commit:         "5f0c6f0e1a2b3c4d5e6f708192a3b4c5d6e7f809",
		},
		Time: at("2026-11-22T09:30:00Z"),
	}
}

// exampleReceipt lists the three births of the example.
func exampleReceipt() Receipt {
	r := Receipt{
		Network: "hoodi", NetworkDigest: hoodi.Digest(),
		Order: exampleOrder, OrderDigest: hashOf("order"), SettingsDigest: hashOf("settings"),
		Count: 3, From: 0, To: 3,
		Mnemonics: []ReceiptMnemonic{{exampleMnemonic, 0, 3, hashOf("mnemonic sealing")}},
		Time:      at("2026-11-22T09:29:00Z"),
	}
	for i := range uint32(3) {
		b := exampleBirth(i)
		r.Validators = append(r.Validators, ReceiptValidator{i, b.Pubkey, exampleMnemonic, must(Digest(mustSign(b)))})
	}
	return r
}

func exampleTrust() *Trust {
	return &Trust{
		Network:   hoodi,
		Addresses: map[string]eth.Address{"acme-cold": coldStore},
		Keys:      []TrustedKey{{"generator-2026", certifier.public(), Validity{NotBefore: at("2026-11-01T00:00:00Z")}}},
		Releases: []Release{{Name: "v0-1-0", Binaries: []Hash{hashOf("binary"), hashOf("binary arm64")}, Settings: hashOf("settings"),
			Validity: Validity{NotBefore: at("2026-11-01T00:00:00Z"), NotAfter: at("2027-10-31T23:59:59Z")}}},
	}
}

func mustSign(b Birth) []byte { return must(SignBirth(context.Background(), certifier, b)) }

// signAny signs a statement that SignBirth and SignReceipt would refuse, as a
// generator with a bug, or a thief with the key, could.
func signAny(s Signer, statement any) []byte {
	return signBytes(s, must(canonical(statement)))
}

func signBytes(s Signer, payload []byte) []byte {
	return must(sign(context.Background(), s, payload, maxReceipt))
}

// classes are the only errors a verdict may have.
var classes = []error{ErrFormat, ErrSignature, ErrUntrusted, ErrMismatch}

// wantClass fails unless err is of exactly the wanted class.
func wantClass(t *testing.T, err, want error) {
	t.Helper()
	if got := classOf(err); got != want {
		t.Fatalf("got class %v (%v), want %v", got, err, want)
	}
}

// classOf returns the one class of err, nil for nil, or an error of no class
// when err has none or two.
func classOf(err error) error {
	if err == nil {
		return nil
	}
	var found []error
	for _, c := range classes {
		if errors.Is(err, c) {
			found = append(found, c)
		}
	}
	if len(found) != 1 {
		return fmt.Errorf("classes %v of %w", found, err)
	}
	return found[0]
}
