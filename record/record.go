// Package record holds the nouns that stakeseal remembers (order, mnemonic,
// birth, sealing, assignment, event) and the ports to wherever they are kept,
// one port per role. Everything here is public data: secrets occur only as
// sealed age files.
//
// A record is written once. Nothing in this package can change or delete one;
// what changes over a key's life (its assignment, its later sealings, what
// was done with it) is kept beside the record, never in it.
package record

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"time"

	"github.com/stakeseal/stakeseal/eth"
)

// Sentinels of every port; compare with errors.Is. Any other error leaves the
// outcome unknown: the write may or may not have been applied.
var (
	ErrNotFound = errors.New("not found")
	ErrExists   = errors.New("exists already")
	ErrConflict = errors.New("exists already with other content")
	ErrStale    = errors.New("changed meanwhile")
	ErrCorrupt  = errors.New("does not read back as it was written")
)

// Digest is a sha256. It prints and marshals as 64 lower-case hex digits.
type Digest [32]byte

// DigestOf hashes b.
func DigestOf(b []byte) Digest { return sha256.Sum256(b) }

// Order is a request for Count validators on one network with one set of
// withdrawal credentials. Its placing is the claim on its id.
type Order struct {
	ID          string            `json:"order"`
	Network     string            `json:"network"`
	Count       uint32            `json:"count"`
	Credentials eth.Credentials   `json:"withdrawal_credentials"`
	Plan        []eth.Gwei        `json:"plan_gwei"` // what each deposit message signs, in order
	Keystore    string            `json:"keystore"`  // pbkdf2, scrypt or none
	Labels      map[string]string `json:"labels,omitempty"`
	Settings    Digest            `json:"settings_digest"` // of the generator's settings it was placed under
	Created     time.Time         `json:"created"`         // UTC, whole seconds; not part of the digest
}

// Digest identifies what was ordered: everything but the settings and the
// time, so that placing the same order again is recognised. It is the sha256
// of the order's JSON without those two fields, keys in the order above
// (labels sorted), no white space.
func (o Order) Digest() Digest {
	b, err := json.Marshal(struct {
		ID          string            `json:"order"`
		Network     string            `json:"network"`
		Count       uint32            `json:"count"`
		Credentials eth.Credentials   `json:"withdrawal_credentials"`
		Plan        []eth.Gwei        `json:"plan_gwei"`
		Keystore    string            `json:"keystore"`
		Labels      map[string]string `json:"labels,omitempty"`
	}{o.ID, o.Network, o.Count, o.Credentials, o.Plan, o.Keystore, o.Labels})
	if err != nil {
		panic("record: an order always marshals: " + err.Error())
	}
	return DigestOf(b)
}

// Recipient says whom a secret was sealed to: the name in the settings and
// the public key (an age recipient or an awskms: reference), as text.
type Recipient struct {
	Name string `json:"name"`
	Key  string `json:"key"`
}

// Sealing is one generation of a sealed secret. Generation 0 is made at
// birth; each later one names the digest of its predecessor.
type Sealing struct {
	Purpose    string      `json:"purpose"` // signing or recovery
	Generation uint32      `json:"generation"`
	Previous   Digest      `json:"previous,omitzero"`
	Recipients []Recipient `json:"recipients"`
	Digest     Digest      `json:"digest"` // sha256 of File
	File       []byte      `json:"file"`   // a binary age file
}

// Mnemonic is the sealed words that the indexes [From, To) of an order may
// have been derived from. Each invocation that still had an empty index to
// fill made one; every birth names its own.
type Mnemonic struct {
	ID      string    `json:"mnemonic"`
	Order   string    `json:"order"`
	From    uint32    `json:"from"`
	To      uint32    `json:"to"` // one past the last index
	Sealing Sealing   `json:"sealing"`
	Created time.Time `json:"created"`
}

// Deposit is one signed deposit message of a birth's plan.
type Deposit struct {
	Amount      eth.Gwei      `json:"amount_gwei"`
	Signature   eth.Signature `json:"signature"`
	MessageRoot eth.Root      `json:"deposit_message_root"`
	DataRoot    eth.Root      `json:"deposit_data_root"`
}

// Validator is the public part of a birth, what lists show.
type Validator struct {
	Order       string          `json:"order"`
	Index       uint32          `json:"index"` // 0..n-1 in the order, and the EIP-2334 key index
	Pubkey      eth.Pubkey      `json:"pubkey"`
	Path        string          `json:"path"` // m/12381/3600/<index>/0/0
	Mnemonic    string          `json:"mnemonic"`
	Network     string          `json:"network"`
	Credentials eth.Credentials `json:"withdrawal_credentials"`
	Deposits    []Deposit       `json:"deposits"`
	Created     time.Time       `json:"created"`
	// SignRequest is the id under which a certifying key kept by a service
	// knows the request that signed the birth's certificate (AWS's, of a
	// kms:Sign): that service's own log does not say what was signed, and this
	// is what joins the two. It came after the signature, so the certificate
	// cannot vouch for it; the archived object does. "" for a key in a file.
	SignRequest string `json:"sign_request,omitempty"`
}

// Birth is the whole record of one validator: its public part, its signing
// secret's generation 0 and its certificate (a DSSE envelope, JSON).
type Birth struct {
	Validator
	Sealing     Sealing         `json:"sealing"`
	Certificate json.RawMessage `json:"certificate"`
}

// Assignment says which one signer may sign for a validator. Epoch rises by
// one with each change.
type Assignment struct {
	Pubkey eth.Pubkey `json:"pubkey"`
	Signer string     `json:"signer"` // "external:NAME" where a key went to other software
	Epoch  uint64     `json:"epoch"`  // 1 for the first
	Time   time.Time  `json:"time"`
}

// Event is an append-only note of what was done.
type Event struct {
	Time   time.Time         `json:"time"`
	Kind   string            `json:"kind"` // exported, assigned, opened, drilled, ...
	Order  string            `json:"order,omitempty"`
	Pubkey eth.Pubkey        `json:"pubkey,omitzero"`
	Actor  string            `json:"actor"`
	Detail map[string]string `json:"detail,omitempty"`
	// Once, when not empty, is a key of which the store takes one event only:
	// the second Append fails with ErrExists. It is how "exported twice" is
	// caught with two commands at once.
	Once string `json:"once,omitempty"`
}
