// Package duty reads what validator clients ask a remote signer to sign (the
// requests of Web3Signer's API, up to Fulu and Gloas) and computes what a key
// signs for it: the hash tree root of the message and its signing root.
//
// It promises that the root is that of the message as it was written: a name
// that is unknown, missing, given twice or in another case is an error, and
// so is a value out of its type's range. It takes nothing from the request on
// trust but the fork: which network it is for, whether it may be signed and
// whether that could be slashed is the caller's to judge by the facts it
// returns. A request that hands over a bare root to sign is not read at all:
// nobody could judge it.
//
// It holds no key and does no I/O.
package duty

import (
	"errors"
	"fmt"

	"github.com/stakeseal/stakeseal/eth"
)

var (
	// ErrMalformed is what every request that cannot be read wraps.
	ErrMalformed = errors.New("not a signing request")
	// ErrRoot says that the request's own signing root is not that of its
	// message.
	ErrRoot = errors.New("the signing root in the request is not that of its message")
)

// Kind is the type of a request, as it is written in it.
type Kind string

const (
	Attestation          Kind = "ATTESTATION"
	Block                Kind = "BLOCK_V2"
	AggregateAndProof    Kind = "AGGREGATE_AND_PROOF_V2"
	AggregationSlot      Kind = "AGGREGATION_SLOT"
	RandaoReveal         Kind = "RANDAO_REVEAL"
	VoluntaryExit        Kind = "VOLUNTARY_EXIT"
	SyncMessage          Kind = "SYNC_COMMITTEE_MESSAGE"
	SyncSelectionProof   Kind = "SYNC_COMMITTEE_SELECTION_PROOF"
	ContributionAndProof Kind = "SYNC_COMMITTEE_CONTRIBUTION_AND_PROOF"
	Registration         Kind = "VALIDATOR_REGISTRATION"
	Deposit              Kind = "DEPOSIT"
	PayloadBid           Kind = "EXECUTION_PAYLOAD_BID"
	PayloadEnvelope      Kind = "EXECUTION_PAYLOAD_ENVELOPE"
	PayloadAttestation   Kind = "PAYLOAD_ATTESTATION_MESSAGE"
	ProposerPreferences  Kind = "PROPOSER_PREFERENCES"
)

// Kinds are all of them, in this order.
func Kinds() []Kind {
	return []Kind{Attestation, Block, AggregateAndProof, AggregationSlot, RandaoReveal, VoluntaryExit, SyncMessage, SyncSelectionProof,
		ContributionAndProof, Registration, Deposit, PayloadBid, PayloadEnvelope, PayloadAttestation, ProposerPreferences}
}

// Domain types (consensus specs; 00000001 builder specs).
var domains = map[Kind][4]byte{
	Block:                {0x00},
	Attestation:          {0x01},
	RandaoReveal:         {0x02},
	Deposit:              eth.DomainDeposit,
	VoluntaryExit:        eth.DomainVoluntaryExit,
	AggregationSlot:      {0x05},
	AggregateAndProof:    {0x06},
	SyncMessage:          {0x07},
	SyncSelectionProof:   {0x08},
	ContributionAndProof: {0x09},
	PayloadBid:           {0x0b},
	PayloadEnvelope:      {0x0b},
	PayloadAttestation:   {0x0c},
	ProposerPreferences:  {0x0d},
	Registration:         {0x00, 0x00, 0x00, 0x01},
}

// Fork is what a request says of the fork it is for.
type Fork struct {
	Previous              eth.Version
	Current               eth.Version
	Epoch                 uint64 // from which on Current counts; clients also send the epoch of the duty
	GenesisValidatorsRoot eth.Root
}

// Request is a request that was read. Fields that its kind has not are zero.
type Request struct {
	Kind    Kind
	Version string   // fork whose form the message has, in capitals, where there are several
	Object  eth.Root // hash tree root of the message
	Claimed *eth.Root
	Fork    Fork

	Slot           uint64 // of a message that is of a slot
	Epoch          uint64 // of a message that is of an epoch
	Source, Target uint64 // epochs of an attestation's checkpoints
	Pubkey         eth.Pubkey
	FeeRecipient   eth.Address
	Credentials    eth.Credentials
	Amount         eth.Gwei
	Genesis        eth.Version // genesis fork version that a deposit is for
	ValidatorIndex uint64      // of an exit
}

// ForkBound says whether the request is for one network by its fork_info:
// deposits and registrations are signed under the genesis fork version alone.
func (k Kind) ForkBound() bool { return k != Deposit && k != Registration }

// Slashable says whether a conflicting message of the kind is punished.
func (k Kind) Slashable() bool { return k == Attestation || k == Block }

// Parse reads the body of a request.
func Parse(body []byte) (*Request, error) {
	top, err := parseJSON(body)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	return read(top)
}

func read(top node) (*Request, error) {
	if top.kind != '{' {
		return nil, fmt.Errorf("%w: not a JSON object", ErrMalformed)
	}
	kind, ok := top.get("type")
	if !ok {
		return nil, wrong("type", "it is missing")
	}
	name, err := textOf(kind, "type")
	if err != nil {
		return nil, err
	}
	r := &Request{Kind: Kind(name)}
	if _, known := domains[r.Kind]; !known {
		return nil, wrong("type", "%q is none that is signed here", clip(name))
	}
	for _, spelling := range []string{"signingRoot", "signing_root"} {
		n, ok := top.get(spelling)
		if !ok || n.kind == 'n' { // null: some clients write what they leave out
			continue
		}
		b, err := exactly(32, n, spelling)
		if err != nil {
			return nil, err
		}
		claimed := eth.Root(b)
		if r.Claimed != nil && *r.Claimed != claimed {
			return nil, wrong(spelling, "signingRoot and signing_root differ")
		}
		r.Claimed = &claimed
	}
	if r.Kind.ForkBound() {
		if r.Fork, err = readFork(top); err != nil {
			return nil, err
		}
	}
	return r, r.message(top)
}

func readFork(top node) (f Fork, err error) {
	info, ok := top.get("fork_info")
	if !ok || info.kind != '{' {
		return f, wrong("fork_info", "it is missing, or no object")
	}
	fork, ok := info.get("fork")
	if !ok || fork.kind != '{' {
		return f, wrong("fork_info.fork", "it is missing, or no object")
	}
	for _, part := range []struct {
		of   node
		name string
		into []byte
	}{{fork, "previous_version", f.Previous[:]}, {fork, "current_version", f.Current[:]}, {info, "genesis_validators_root", f.GenesisValidatorsRoot[:]}} {
		n, ok := part.of.get(part.name)
		if !ok {
			return f, wrong("fork_info", "%q is missing", part.name)
		}
		b, err := exactly(len(part.into), n, "fork_info."+part.name)
		if err != nil {
			return f, err
		}
		copy(part.into, b)
	}
	epoch, ok := fork.get("epoch")
	if !ok {
		return f, wrong("fork_info", "%q is missing", "epoch")
	}
	f.Epoch, err = number(epoch, "fork_info.fork.epoch")
	return f, err
}

// SigningRoot is what a key signs for the request, on a network: its domain
// is under the fork of the message's own slot or epoch. ErrRoot if the
// request names another. The network is not compared here.
func (r *Request) SigningRoot(n eth.Network) (eth.Root, error) {
	root := eth.SigningRoot(r.Object, r.domain(n))
	if r.Claimed != nil && *r.Claimed != root {
		return eth.Root{}, fmt.Errorf("%w: %v in the request, %v computed", ErrRoot, *r.Claimed, root)
	}
	return root, nil
}

func (r *Request) domain(n eth.Network) eth.Domain {
	switch r.Kind {
	case Deposit:
		return eth.ComputeDomain(domains[r.Kind], r.Genesis, eth.Root{})
	case Registration:
		return eth.ComputeDomain(domains[r.Kind], n.GenesisForkVersion, eth.Root{})
	case VoluntaryExit:
		// Under the Capella fork version for ever (EIP-7044): every known
		// network is past Deneb.
		return eth.ComputeDomain(domains[r.Kind], n.ExitForkVersion, r.Fork.GenesisValidatorsRoot)
	}
	version := r.Fork.Current
	if r.DutyEpoch(n) < r.Fork.Epoch {
		version = r.Fork.Previous
	}
	return eth.ComputeDomain(domains[r.Kind], version, r.Fork.GenesisValidatorsRoot)
}

// DutyEpoch is the epoch whose fork the message is signed under.
func (r *Request) DutyEpoch(n eth.Network) uint64 {
	switch r.Kind {
	case Attestation:
		return r.Target
	case RandaoReveal, VoluntaryExit:
		return r.Epoch
	}
	return r.SlotEpoch(n)
}

// SlotEpoch is the epoch of the message's slot.
func (r *Request) SlotEpoch(n eth.Network) uint64 {
	if n.SlotsPerEpoch == 0 {
		return r.Slot / 32
	}
	return r.Slot / n.SlotsPerEpoch
}
