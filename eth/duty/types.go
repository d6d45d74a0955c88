package duty

// The containers of the consensus specs that a validator signs, or that
// stand in what it signs. Fields in their order; limits are those of the
// mainnet preset, which every known network has.

var (
	root32    = fixed(32)
	pubkey    = fixed(48)
	signature = fixed(96)
	address20 = fixed(20)
	version4  = fixed(4)
)

// Phase 0.
var (
	checkpoint      = container(field{"epoch", u64}, field{"root", root32})
	attestationData = container(
		field{"slot", u64}, field{"index", u64}, field{"beacon_block_root", root32},
		field{"source", checkpoint}, field{"target", checkpoint})
	blockHeader = container(
		field{"slot", u64}, field{"proposer_index", u64}, field{"parent_root", root32},
		field{"state_root", root32}, field{"body_root", root32})
	voluntaryExit = container(field{"epoch", u64}, field{"validator_index", u64})

	attestation        = attestationOf(bitList(2048))
	indexedAttestation = container(field{"attesting_indices", numbers(2048)}, field{"data", attestationData}, field{"signature", signature})
	signedHeader       = container(field{"message", blockHeader}, field{"signature", signature})
	depositData        = container(field{"pubkey", pubkey}, field{"withdrawal_credentials", root32}, field{"amount", u64}, field{"signature", signature})

	bodyPhase0 = []field{
		{"randao_reveal", signature},
		{"eth1_data", container(field{"deposit_root", root32}, field{"deposit_count", u64}, field{"block_hash", root32})},
		{"graffiti", root32},
		{"proposer_slashings", list(container(field{"signed_header_1", signedHeader}, field{"signed_header_2", signedHeader}), 16)},
		{"attester_slashings", list(container(field{"attestation_1", indexedAttestation}, field{"attestation_2", indexedAttestation}), 2)},
		{"attestations", list(attestation, 128)},
		{"deposits", list(container(field{"proof", vector(root32, 33)}, field{"data", depositData}), 16)},
		{"voluntary_exits", list(container(field{"message", voluntaryExit}, field{"signature", signature}), 16)},
	}
	blockPhase0 = blockOf(container(bodyPhase0...))
)

func attestationOf(bits shape) shape {
	return container(field{"aggregation_bits", bits}, field{"data", attestationData}, field{"signature", signature})
}

func blockOf(body shape) shape {
	return container(field{"slot", u64}, field{"proposer_index", u64}, field{"parent_root", root32}, field{"state_root", root32}, field{"body", body})
}

func aggregateOf(attestation shape) shape {
	return container(field{"aggregator_index", u64}, field{"aggregate", attestation}, field{"selection_proof", signature})
}

// Altair.
var (
	syncAggregate = container(field{"sync_committee_bits", bitVector(512)}, field{"sync_committee_signature", signature})
	blockAltair   = blockOf(container(append(bodyPhase0[:len(bodyPhase0):len(bodyPhase0)], field{"sync_aggregate", syncAggregate})...))
	syncSelection = container(field{"slot", u64}, field{"subcommittee_index", u64})
	contribution  = container(
		field{"slot", u64}, field{"beacon_block_root", root32}, field{"subcommittee_index", u64},
		field{"aggregation_bits", bitVector(128)}, field{"signature", signature})
	contributionAndProof = container(field{"aggregator_index", u64}, field{"contribution", contribution}, field{"selection_proof", signature})
)

// Electra: an attestation of several committees (EIP-7549).
var attestationElectra = container(
	field{"aggregation_bits", bitList(131072)}, field{"data", attestationData},
	field{"signature", signature}, field{"committee_bits", bitVector(64)})

// The builder specs, and deposits.
var (
	registration = container(field{"fee_recipient", address20}, field{"gas_limit", u64}, field{"timestamp", u64}, field{"pubkey", pubkey})
)

// Gloas (EIP-7732, EIP-7688, EIP-8282).
var (
	attestationGloas = containers(
		field{"aggregation_bits", bitLists}, field{"data", attestationData},
		field{"signature", signature}, field{"committee_bits", bitVector(64)})
	payloadAttestation = container(
		field{"beacon_block_root", root32}, field{"slot", u64}, field{"payload_present", boolean}, field{"blob_data_available", boolean})
	preferences = container(
		field{"dependent_root", root32}, field{"proposal_slot", u64}, field{"validator_index", u64},
		field{"fee_recipient", address20}, field{"target_gas_limit", u64})
	bid = containers(
		field{"parent_block_hash", root32}, field{"parent_block_root", root32}, field{"block_hash", root32},
		field{"prev_randao", root32}, field{"fee_recipient", address20}, field{"gas_limit", u64},
		field{"builder_index", u64}, field{"slot", u64}, field{"value", u64}, field{"execution_payment", u64},
		field{"blob_kzg_commitments", lists(pubkey)}, field{"execution_requests_root", root32})
	payload = containers(
		field{"parent_hash", root32}, field{"fee_recipient", address20}, field{"state_root", root32},
		field{"receipts_root", root32}, field{"logs_bloom", fixed(256)}, field{"prev_randao", root32},
		field{"block_number", u64}, field{"gas_limit", u64}, field{"gas_used", u64}, field{"timestamp", u64},
		field{"extra_data", byteList(32)}, field{"base_fee_per_gas", u256}, field{"block_hash", root32},
		field{"transactions", lists(byteLists)},
		field{"withdrawals", lists(container(field{"index", u64}, field{"validator_index", u64}, field{"address", address20}, field{"amount", u64}))},
		field{"blob_gas_used", u64}, field{"excess_blob_gas", u64},
		field{"block_access_list", byteLists}, field{"slot_number", u64})
	requests = containers(
		field{"deposits", lists(container(field{"pubkey", pubkey}, field{"withdrawal_credentials", root32}, field{"amount", u64}, field{"signature", signature}, field{"index", u64}))},
		field{"withdrawals", lists(container(field{"source_address", address20}, field{"validator_pubkey", pubkey}, field{"amount", u64}))},
		field{"consolidations", lists(container(field{"source_address", address20}, field{"source_pubkey", pubkey}, field{"target_pubkey", pubkey}))},
		field{"builder_deposits", lists(depositData)},
		field{"builder_exits", lists(container(field{"source_address", address20}, field{"pubkey", pubkey}))})
	envelope = containers(
		field{"payload", payload}, field{"execution_requests", requests}, field{"builder_index", u64},
		field{"beacon_block_root", root32}, field{"parent_beacon_block_root", root32})
)
