// Package certificate makes and judges the two statements stakeseal signs:
// the birth certificate of a validator key and the receipt of an order. Both
// are in-toto Statements v1 in a DSSE envelope; docs/formats/certificate.md
// gives every field, so that a stranger can write a verifier.
//
// It promises that what VerifyBirth and VerifyReceipt return was signed by a
// certifying key of the trust file, has one meaning (exactly one encoding of
// a statement is accepted), does not contradict itself, and agrees with the
// trust file on network, withdrawal address and, when it names any, release.
//
// It trusts the trust file, and therefore whoever wrote it, and nothing of
// what it judges: no key, network or address is ever taken from an envelope.
// A certificate is the certifying key's claim. That the claim is true rests
// on who could use that key, which the trust file's releases speak about. BLS
// signatures are carried but not verified here; package deposit does that.
package certificate

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/stakeseal/stakeseal/eth"
)

const (
	// PayloadType is the DSSE payload type of every envelope here.
	PayloadType = "application/vnd.in-toto+json"
	// StatementType is the "_type" of every statement (in-toto Statement v1).
	StatementType = "https://in-toto.io/Statement/v1"
	// BirthType is the predicate type of a birth certificate.
	BirthType = "https://stakeseal.dev/birth/v1"
	// ReceiptType is the predicate type of a receipt.
	ReceiptType = "https://stakeseal.dev/receipt/v1"
)

// The classes of refusal; compare with errors.Is.
var (
	// ErrFormat: not a well-formed envelope, statement, key or trust file.
	ErrFormat = errors.New("malformed")
	// ErrSignature: no trusted key signed it, or a trusted key's signature
	// is wrong.
	ErrSignature = errors.New("not signed by a trusted key")
	// ErrUntrusted: signed, but by a revoked key or one outside its validity,
	// or made by an unknown, revoked or expired release.
	ErrUntrusted = errors.New("not trusted")
	// ErrMismatch: the statement contradicts itself or the trust file.
	ErrMismatch = errors.New("does not match")
)

// Signer is a certifying key that signs the DSSE pre-authentication encoding
// (PAE) it is handed. It is the same interface as dsse.Signer. Ed25519 signs
// data itself; ECDSA P-256 signs its sha256 and returns ASN.1 DER. KeyID
// returns PublicKey.ID of the public half.
type Signer interface {
	Sign(ctx context.Context, data []byte) ([]byte, error)
	KeyID() (string, error)
}

// Hash is a sha256. It prints and marshals as 64 lower-case hex digits. It
// converts to and from record.Digest, which this package may not import.
type Hash [32]byte

func (h Hash) String() string               { return hex.EncodeToString(h[:]) }
func (h Hash) IsZero() bool                 { return h == Hash{} }
func (h Hash) MarshalText() ([]byte, error) { return []byte(h.String()), nil }

// UnmarshalText reads exactly 64 lower-case hex digits.
func (h *Hash) UnmarshalText(b []byte) error {
	var got Hash
	if len(b) != 64 {
		return fmt.Errorf("sha256 %q has %d hex digits, not 64", clip(string(b)), len(b))
	}
	if _, err := hex.Decode(got[:], b); err != nil {
		return fmt.Errorf("sha256 %q is not hex: %w", clip(string(b)), err)
	}
	if got.String() != string(b) {
		return fmt.Errorf("sha256 %q is not in lower case", clip(string(b)))
	}
	*h = got
	return nil
}

// Birth is the predicate of a birth certificate: what the certifying key
// claims about one validator key. The order of the fields is the order of
// the JSON.
type Birth struct {
	Network       string          `json:"network"`
	NetworkDigest Hash            `json:"network_digest"` // eth.Network.Digest
	Pubkey        eth.Pubkey      `json:"pubkey"`
	Credentials   eth.Credentials `json:"withdrawal_credentials"` // 0x01 or 0x02
	Deposits      []Deposit       `json:"deposits"`               // in the order of the plan, at least one
	Order         string          `json:"order"`
	OrderDigest   Hash            `json:"order_digest"`
	Index         uint32          `json:"index"`
	Path          string          `json:"path"` // m/12381/3600/<index>/0/0
	Mnemonic      MnemonicRef     `json:"mnemonic"`
	Sealing       SealingRef      `json:"sealing"`
	Maker         Maker           `json:"maker"`
	Approval      string          `json:"approval,omitempty"` // envelope of the AddressApproval; absent: the settings name the address
	Time          time.Time       `json:"time"`               // UTC, whole seconds
}

// Deposit is one signed deposit message of the plan.
type Deposit struct {
	Amount      eth.Gwei      `json:"amount_gwei"`
	MessageRoot eth.Root      `json:"deposit_message_root"`
	DataRoot    eth.Root      `json:"deposit_data_root"`
	Signature   eth.Signature `json:"signature"`
}

// MnemonicRef names the mnemonic a key was derived from by the digest of its
// generation 0 sealing, and whom that was sealed to.
type MnemonicRef struct {
	ID         string `json:"id"`
	Digest     Hash   `json:"digest"`
	Recipients Hash   `json:"recipients_digest"` // RecipientsDigest
}

// SealingRef names the sealed signing secret by its digest, and whom it was
// sealed to.
type SealingRef struct {
	Purpose    string      `json:"purpose"`    // signing
	Generation uint32      `json:"generation"` // 0
	Digest     Hash        `json:"digest"`     // sha256 of the age file
	Recipients []Recipient `json:"recipients"`
}

// Recipient is the name and public key that a secret was sealed to.
type Recipient struct {
	Name string `json:"name"`
	Key  string `json:"key"`
}

// RecipientsDigest is the sha256 of the list's canonical JSON:
// [{"name":"anna","key":"age1..."},...], in the order of the sealing.
func RecipientsDigest(list []Recipient) (Hash, error) {
	if err := checkRecipients(list); err != nil {
		return Hash{}, err
	}
	b, err := canonical(list)
	return sha256.Sum256(b), err
}

// Maker says which program made the key, under which settings.
type Maker struct {
	BinaryDigest   Hash   `json:"binary_digest"`
	SettingsDigest Hash   `json:"settings_digest"`
	Version        string `json:"version"`
	Commit         string `json:"commit,omitempty"`   // absent: built outside of version control
	Function       string `json:"function,omitempty"` // absent: no function, a local process
}

// Receipt is the predicate of a receipt: the validators of the range
// [From, To) of an order, and the mnemonics they were derived from.
type Receipt struct {
	Network        string             `json:"network"`
	NetworkDigest  Hash               `json:"network_digest"`
	Order          string             `json:"order"`
	OrderDigest    Hash               `json:"order_digest"`
	SettingsDigest Hash               `json:"settings_digest"`
	Count          uint32             `json:"count"` // of the whole order
	From           uint32             `json:"from"`
	To             uint32             `json:"to"` // one past the last index
	Validators     []ReceiptValidator `json:"validators"`
	Mnemonics      []ReceiptMnemonic  `json:"mnemonics"`
	Time           time.Time          `json:"time"` // when the order was placed; UTC, whole seconds
}

// ReceiptValidator is one line of a receipt.
type ReceiptValidator struct {
	Index       uint32     `json:"index"`
	Pubkey      eth.Pubkey `json:"pubkey"`
	Mnemonic    string     `json:"mnemonic"`
	Certificate Hash       `json:"certificate"` // Digest of its envelope
}

// ReceiptMnemonic is a mnemonic that a receipt's validators come from.
type ReceiptMnemonic struct {
	ID     string `json:"id"`
	From   uint32 `json:"from"`
	To     uint32 `json:"to"`
	Digest Hash   `json:"digest"` // sha256 of its generation 0 sealing
}

// SignBirth returns a birth certificate: a DSSE envelope, one line of JSON.
// A birth that VerifyBirth could not accept under any trust file is not
// signed (ErrFormat, ErrMismatch), so that a bug in the caller cannot become
// a signed lie that only a later reader notices. The network's minimum and
// maximum deposit are the trust file's to know and are not checked here.
func SignBirth(ctx context.Context, s Signer, b Birth) ([]byte, error) {
	if err := b.check(); err != nil {
		return nil, fmt.Errorf("couldn't certify birth: %w", err)
	}
	payload, err := canonical(b.statement())
	if err != nil {
		return nil, fmt.Errorf("couldn't certify birth: %w", err)
	}
	return sign(ctx, s, payload, maxBirth)
}

// SignReceipt returns a receipt: a DSSE envelope, one line of JSON.
func SignReceipt(ctx context.Context, s Signer, r Receipt) ([]byte, error) {
	if err := r.check(); err != nil {
		return nil, fmt.Errorf("couldn't sign receipt: %w", err)
	}
	payload, err := canonical(r.statement())
	if err != nil {
		return nil, fmt.Errorf("couldn't sign receipt: %w", err)
	}
	return sign(ctx, s, payload, maxReceipt)
}

// Digest is what a receipt names a certificate by: the sha256 of the
// envelope's decoded payload. It is not that of the envelope, which changes
// when a notary adds a signature or a store re-spaces its JSON. Digest
// verifies no signature.
func Digest(envelope []byte) (Hash, error) {
	e, err := parseEnvelope(envelope, maxReceipt)
	if err != nil {
		return Hash{}, err
	}
	return sha256.Sum256(e.payload), nil
}

// clip keeps a hostile value from filling a terminal.
func clip(s string) string {
	if len(s) > 200 {
		return strings.ToValidUTF8(s[:200], "") + "..."
	}
	return s
}
