package deposit

import (
	"context"
	"errors"

	"github.com/stakeseal/stakeseal/eth"
)

// Sentinels; compare with errors.Is.
var (
	// ErrFormat: a file is not a deposit_data file. The error is a
	// *FormatError, whose findings say where.
	ErrFormat = errors.New("not a deposit data file")

	// ErrChain: the chain could not be asked, or the nodes' answers cannot be
	// relied on (other network, still syncing, disagreement, garbage). It
	// says nothing about the deposits and is never a pass.
	ErrChain = errors.New("couldn't learn the chain's state")

	// ErrQueue: a node doesn't show the queue of pending deposits, where a
	// front-run waits for days. It comes wrapped in ErrChain.
	ErrQueue = errors.New("the queue of pending deposits was not seen")

	// ErrBirths: the certificates could not be read. Never a pass.
	ErrBirths = errors.New("couldn't read the birth certificates")

	// ErrCertificate: Births found a certificate for the pubkey, and it does
	// not stand: revoked, of another key, or not what was certified. The
	// pubkey's deposits are refused.
	ErrCertificate = errors.New("the birth certificate doesn't stand")

	// ErrJudge: the Judge's own fields make no sense.
	ErrJudge = errors.New("couldn't judge deposits")
)

// Births tells what a birth certificate says of a pubkey's deposits. The
// implementation must have verified the certificate against the trust file
// before it answers: what it returns is believed.
type Births interface {
	// Deposits returns what was certified for pubkey. For a pubkey without a
	// certificate it must return the zero Known and no error; an error is
	// for what could not be read, or, wrapping ErrCertificate, for what was
	// read and does not verify.
	Deposits(ctx context.Context, pubkey eth.Pubkey) (Known, error)
}

// Known is a certified validator's deposit plan, whole and in order.
type Known struct {
	Ours        bool // false: no certificate, and the rest is empty
	Network     string
	Credentials eth.Credentials
	Deposits    []Planned

	// Approved is the withdrawal address that the certificate carries an
	// approval for, one that stands by the judging person's own trust file:
	// this pubkey, and no other, may pay to it although the Judge's Addresses
	// leave it out. Zero: there is none, or none is needed.
	Approved   eth.Address
	ApprovedAs string // the address's name in the approval
	ApprovedBy string // the approver's name in the trust file
}

// Planned is one certified deposit.
type Planned struct {
	Amount      eth.Gwei
	Signature   eth.Signature
	MessageRoot eth.Root
	DataRoot    eth.Root
}

// Chain tells what the beacon chain knows of pubkeys.
type Chain interface {
	// Known must return a State for each pubkey asked (the zero State: the
	// chain has never heard of it), all as of one block, or an error that
	// wraps ErrChain. A missing pubkey is taken for a failure, so that a
	// forgetful answer does not pass for "never heard of it".
	Known(ctx context.Context, pubkeys []eth.Pubkey) (map[eth.Pubkey]State, At, error)
}

// At says as of when and by whom a chain was asked.
type At struct {
	Slot                  uint64      `json:"slot"`
	BlockRoot             eth.Root    `json:"block_root"`
	ForkVersion           eth.Version `json:"genesis_fork_version"`
	GenesisValidatorsRoot eth.Root    `json:"genesis_validators_root"`
	Nodes                 []string    `json:"nodes"`            // names without credentials; all gave the same answer
	Pending               bool        `json:"pending_deposits"` // the queue of pending deposits was seen too, at every node

	NoPending []string `json:"nodes_without_pending_deposits,omitempty"` // those of Nodes that did not show it
}

// State is what the chain knows of one pubkey.
type State struct {
	Validator *Validator // nil: not in the registry
	Pending   []Pending  // in the queue, in its order
}

// Validator is a pubkey's entry in the registry.
type Validator struct {
	Index       uint64
	Status      Status
	Credentials eth.Credentials
	Balance     eth.Gwei
}

// Pending is a deposit in the queue that Electra introduced (EIP-7251,
// pending_deposits). Its signature has not been looked at by the chain yet.
type Pending struct {
	Credentials eth.Credentials
	Amount      eth.Gwei
	Signature   eth.Signature
	Slot        uint64
}

// Status is a validator's status as the beacon API names it.
type Status string

const (
	PendingInitialized Status = "pending_initialized"
	PendingQueued      Status = "pending_queued"
	ActiveOngoing      Status = "active_ongoing"
	ActiveExiting      Status = "active_exiting"
	ActiveSlashed      Status = "active_slashed"
	ExitedUnslashed    Status = "exited_unslashed"
	ExitedSlashed      Status = "exited_slashed"
	WithdrawalPossible Status = "withdrawal_possible"
	WithdrawalDone     Status = "withdrawal_done"
)

// Known reports whether s is a status of the beacon API.
func (s Status) Known() bool {
	switch s {
	case PendingInitialized, PendingQueued, ActiveOngoing, ActiveExiting, ActiveSlashed,
		ExitedUnslashed, ExitedSlashed, WithdrawalPossible, WithdrawalDone:
		return true
	}
	return false
}

// waiting: not active yet, so its balance is exactly what was deposited.
func (s Status) waiting() bool { return s == PendingInitialized || s == PendingQueued }

// leaving: on its way out or gone; a deposit would only come back later.
func (s Status) leaving() bool { return !s.waiting() && s != ActiveOngoing }
