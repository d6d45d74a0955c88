package duty

import "github.com/stakeseal/stakeseal/eth"

// forms are the shapes of a message by fork, for the kinds that name one.
var forms = map[Kind]map[string]shape{
	Block: {
		"PHASE0": blockPhase0, "ALTAIR": blockAltair,
		"BELLATRIX": blockHeader, "CAPELLA": blockHeader, "DENEB": blockHeader,
		"ELECTRA": blockHeader, "FULU": blockHeader, "GLOAS": blockHeader,
	},
	AggregateAndProof: {
		"PHASE0": aggregateOf(attestation), "ALTAIR": aggregateOf(attestation), "BELLATRIX": aggregateOf(attestation),
		"CAPELLA": aggregateOf(attestation), "DENEB": aggregateOf(attestation),
		"ELECTRA": aggregateOf(attestationElectra), "FULU": aggregateOf(attestationElectra),
		"GLOAS": aggregateOf(attestationGloas),
	},
	PayloadBid:          {"GLOAS": bid},
	PayloadEnvelope:     {"GLOAS": envelope},
	PayloadAttestation:  {"GLOAS": payloadAttestation},
	ProposerPreferences: {"GLOAS": preferences},
}

// member is the field of a request that holds its message.
var member = map[Kind]string{
	Attestation: "attestation", Block: "beacon_block", AggregateAndProof: "aggregate_and_proof", AggregationSlot: "aggregation_slot",
	RandaoReveal: "randao_reveal", VoluntaryExit: "voluntary_exit", SyncMessage: "sync_committee_message",
	SyncSelectionProof: "sync_aggregator_selection_data", ContributionAndProof: "contribution_and_proof",
	Registration: "validator_registration", Deposit: "deposit", PayloadBid: "execution_payload_bid",
	PayloadEnvelope: "execution_payload_envelope", PayloadAttestation: "payload_attestation_message", ProposerPreferences: "proposer_preferences",
}

// plain are the kinds whose message has one shape for all forks.
var plain = map[Kind]shape{
	Attestation:          attestationData,
	VoluntaryExit:        voluntaryExit,
	SyncSelectionProof:   syncSelection,
	ContributionAndProof: contributionAndProof,
	Registration:         registration,
}

// message reads the message, its root and the facts that the kind has.
func (r *Request) message(top node) error {
	path := member[r.Kind]
	n, ok := top.get(path)
	if !ok {
		return wrong(path, "it is missing")
	}
	if forms[r.Kind] != nil {
		return r.versioned(n, path)
	}
	var err error
	switch r.Kind {
	case AggregationSlot: // what is signed is the number itself
		r.Object, err = only(n, path, "slot")
	case RandaoReveal:
		r.Object, err = only(n, path, "epoch")
	case SyncMessage: // what is signed is the block's root alone
		var roots []eth.Root
		if roots, err = fields([]field{{"beacon_block_root", root32}, {"slot", u64}}, n, path); err == nil {
			r.Object = roots[0]
		}
	case Deposit: // genesis_fork_version chooses the domain and is no part of it
		var roots []eth.Root
		if roots, err = fields([]field{{"pubkey", pubkey}, {"withdrawal_credentials", root32}, {"amount", u64}, {"genesis_fork_version", version4}}, n, path); err == nil {
			copy(r.Genesis[:], roots[3][:4])
			r.Object = merkle(roots[:3], 3)
		}
	default:
		r.Object, err = plain[r.Kind](n, path)
	}
	if err != nil {
		return err
	}
	return r.facts(n, path)
}

// only reads an object of one number.
func only(n node, path, name string) (eth.Root, error) {
	roots, err := fields([]field{{name, u64}}, n, path)
	if err != nil {
		return eth.Root{}, err
	}
	return roots[0], nil
}

// versioned reads {"version": FORK, "data": ...}; a block stands in "block"
// up to Altair and as its header in "block_header" after.
func (r *Request) versioned(n node, path string) (err error) {
	if n.kind != '{' {
		return wrong(path, "not an object")
	}
	version, ok := n.get("version")
	if !ok {
		return wrong(path, "%q is missing", "version")
	}
	if r.Version, err = textOf(version, path+".version"); err != nil {
		return err
	}
	of, ok := forms[r.Kind][r.Version]
	if !ok {
		return wrong(path+".version", "%q is no fork that is known here", clip(r.Version))
	}
	name := "data"
	if r.Kind == Block {
		if name = "block_header"; r.Version == "PHASE0" || r.Version == "ALTAIR" {
			name = "block"
		}
	}
	data, ok := n.get(name)
	if !ok {
		return wrong(path, "%q is missing", name)
	}
	path += "." + name
	if r.Object, err = of(data, path); err != nil {
		return err
	}
	return r.facts(data, path)
}

// facts picks out what the caller judges by. The shape was read before: what
// is asked for here is there and well-formed.
func (r *Request) facts(n node, path string) error {
	at := func(names ...string) node {
		v := n
		for _, name := range names {
			v, _ = v.get(name)
		}
		return v
	}
	var err error
	num := func(into *uint64, names ...string) {
		if err == nil {
			*into, err = number(at(names...), path)
		}
	}
	raw := func(into []byte, name string) {
		var b []byte
		if err == nil {
			b, err = exactly(len(into), at(name), path)
			copy(into, b)
		}
	}
	switch r.Kind {
	case Attestation:
		num(&r.Slot, "slot")
		num(&r.Source, "source", "epoch")
		num(&r.Target, "target", "epoch")
	case Block, AggregationSlot, SyncMessage, SyncSelectionProof, PayloadAttestation, PayloadBid:
		num(&r.Slot, "slot")
	case AggregateAndProof:
		num(&r.Slot, "aggregate", "data", "slot")
	case ContributionAndProof:
		num(&r.Slot, "contribution", "slot")
	case RandaoReveal:
		num(&r.Epoch, "epoch")
	case VoluntaryExit:
		num(&r.Epoch, "epoch")
		num(&r.ValidatorIndex, "validator_index")
	case PayloadEnvelope:
		num(&r.Slot, "payload", "slot_number")
	case ProposerPreferences:
		num(&r.Slot, "proposal_slot")
		raw(r.FeeRecipient[:], "fee_recipient")
	case Registration:
		raw(r.Pubkey[:], "pubkey")
		raw(r.FeeRecipient[:], "fee_recipient")
	case Deposit:
		raw(r.Pubkey[:], "pubkey")
		raw(r.Credentials[:], "withdrawal_credentials")
		num((*uint64)(&r.Amount), "amount")
	}
	return err
}
