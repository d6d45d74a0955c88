#!/usr/bin/env python3
"""Writes roots.json: signing requests with roots that our code had no part in.

Types from the consensus specs (phase0 to gloas), hashed by eth-remerkleable,
the library of the executable specs, which shares nothing with ours.

    pip install eth-remerkleable==0.1.31 && python3 roots.py > roots.json
"""
import hashlib, json, random
from remerkleable.basic import boolean, uint64, uint256
from remerkleable.bitfields import Bitlist, Bitvector
from remerkleable.byte_arrays import ByteList, ByteVector, Bytes4, Bytes32, Bytes48, Bytes96
from remerkleable.complex import Container, List, Vector
from remerkleable.progressive import ProgressiveBitlist, ProgressiveByteList, ProgressiveContainer, ProgressiveList

rng = random.Random(20261122)
Bytes20 = ByteVector[20]

class Checkpoint(Container):
    epoch: uint64
    root: Bytes32
class AttestationData(Container):
    slot: uint64
    index: uint64
    beacon_block_root: Bytes32
    source: Checkpoint
    target: Checkpoint
class BeaconBlockHeader(Container):
    slot: uint64
    proposer_index: uint64
    parent_root: Bytes32
    state_root: Bytes32
    body_root: Bytes32
class VoluntaryExit(Container):
    epoch: uint64
    validator_index: uint64
class SignedVoluntaryExit(Container):
    message: VoluntaryExit
    signature: Bytes96
class Attestation(Container):
    aggregation_bits: Bitlist[2048]
    data: AttestationData
    signature: Bytes96
class IndexedAttestation(Container):
    attesting_indices: List[uint64, 2048]
    data: AttestationData
    signature: Bytes96
class SignedBeaconBlockHeader(Container):
    message: BeaconBlockHeader
    signature: Bytes96
class ProposerSlashing(Container):
    signed_header_1: SignedBeaconBlockHeader
    signed_header_2: SignedBeaconBlockHeader
class AttesterSlashing(Container):
    attestation_1: IndexedAttestation
    attestation_2: IndexedAttestation
class DepositData(Container):
    pubkey: Bytes48
    withdrawal_credentials: Bytes32
    amount: uint64
    signature: Bytes96
class DepositMessage(Container):
    pubkey: Bytes48
    withdrawal_credentials: Bytes32
    amount: uint64
class Deposit(Container):
    proof: Vector[Bytes32, 33]
    data: DepositData
class Eth1Data(Container):
    deposit_root: Bytes32
    deposit_count: uint64
    block_hash: Bytes32
class BodyPhase0(Container):
    randao_reveal: Bytes96
    eth1_data: Eth1Data
    graffiti: Bytes32
    proposer_slashings: List[ProposerSlashing, 16]
    attester_slashings: List[AttesterSlashing, 2]
    attestations: List[Attestation, 128]
    deposits: List[Deposit, 16]
    voluntary_exits: List[SignedVoluntaryExit, 16]
class BlockPhase0(Container):
    slot: uint64
    proposer_index: uint64
    parent_root: Bytes32
    state_root: Bytes32
    body: BodyPhase0
class SyncAggregate(Container):
    sync_committee_bits: Bitvector[512]
    sync_committee_signature: Bytes96
class BodyAltair(Container):
    randao_reveal: Bytes96
    eth1_data: Eth1Data
    graffiti: Bytes32
    proposer_slashings: List[ProposerSlashing, 16]
    attester_slashings: List[AttesterSlashing, 2]
    attestations: List[Attestation, 128]
    deposits: List[Deposit, 16]
    voluntary_exits: List[SignedVoluntaryExit, 16]
    sync_aggregate: SyncAggregate
class BlockAltair(Container):
    slot: uint64
    proposer_index: uint64
    parent_root: Bytes32
    state_root: Bytes32
    body: BodyAltair
class AggregateAndProof(Container):
    aggregator_index: uint64
    aggregate: Attestation
    selection_proof: Bytes96
class AttestationElectra(Container):
    aggregation_bits: Bitlist[131072]
    data: AttestationData
    signature: Bytes96
    committee_bits: Bitvector[64]
class AggregateAndProofElectra(Container):
    aggregator_index: uint64
    aggregate: AttestationElectra
    selection_proof: Bytes96
class AttestationGloas(ProgressiveContainer(active_fields=[1] * 4)):
    aggregation_bits: ProgressiveBitlist
    data: AttestationData
    signature: Bytes96
    committee_bits: Bitvector[64]
class AggregateAndProofGloas(Container):
    aggregator_index: uint64
    aggregate: AttestationGloas
    selection_proof: Bytes96
class SyncAggregatorSelectionData(Container):
    slot: uint64
    subcommittee_index: uint64
class SyncCommitteeContribution(Container):
    slot: uint64
    beacon_block_root: Bytes32
    subcommittee_index: uint64
    aggregation_bits: Bitvector[128]
    signature: Bytes96
class ContributionAndProof(Container):
    aggregator_index: uint64
    contribution: SyncCommitteeContribution
    selection_proof: Bytes96
class ValidatorRegistration(Container):
    fee_recipient: Bytes20
    gas_limit: uint64
    timestamp: uint64
    pubkey: Bytes48
class PayloadAttestationData(Container):
    beacon_block_root: Bytes32
    slot: uint64
    payload_present: boolean
    blob_data_available: boolean
class ProposerPreferences(Container):
    dependent_root: Bytes32
    proposal_slot: uint64
    validator_index: uint64
    fee_recipient: Bytes20
    target_gas_limit: uint64
class ExecutionPayloadBid(ProgressiveContainer(active_fields=[1] * 12)):
    parent_block_hash: Bytes32
    parent_block_root: Bytes32
    block_hash: Bytes32
    prev_randao: Bytes32
    fee_recipient: Bytes20
    gas_limit: uint64
    builder_index: uint64
    slot: uint64
    value: uint64
    execution_payment: uint64
    blob_kzg_commitments: ProgressiveList[Bytes48]
    execution_requests_root: Bytes32
class Withdrawal(Container):
    index: uint64
    validator_index: uint64
    address: Bytes20
    amount: uint64
class ExecutionPayload(ProgressiveContainer(active_fields=[1] * 19)):
    parent_hash: Bytes32
    fee_recipient: Bytes20
    state_root: Bytes32
    receipts_root: Bytes32
    logs_bloom: ByteVector[256]
    prev_randao: Bytes32
    block_number: uint64
    gas_limit: uint64
    gas_used: uint64
    timestamp: uint64
    extra_data: ByteList[32]
    base_fee_per_gas: uint256
    block_hash: Bytes32
    transactions: ProgressiveList[ProgressiveByteList]
    withdrawals: ProgressiveList[Withdrawal]
    blob_gas_used: uint64
    excess_blob_gas: uint64
    block_access_list: ProgressiveByteList
    slot_number: uint64
class DepositRequest(Container):
    pubkey: Bytes48
    withdrawal_credentials: Bytes32
    amount: uint64
    signature: Bytes96
    index: uint64
class WithdrawalRequest(Container):
    source_address: Bytes20
    validator_pubkey: Bytes48
    amount: uint64
class ConsolidationRequest(Container):
    source_address: Bytes20
    source_pubkey: Bytes48
    target_pubkey: Bytes48
class BuilderExitRequest(Container):
    source_address: Bytes20
    pubkey: Bytes48
class ExecutionRequests(ProgressiveContainer(active_fields=[1] * 5)):
    deposits: ProgressiveList[DepositRequest]
    withdrawals: ProgressiveList[WithdrawalRequest]
    consolidations: ProgressiveList[ConsolidationRequest]
    builder_deposits: ProgressiveList[DepositData]
    builder_exits: ProgressiveList[BuilderExitRequest]
class ExecutionPayloadEnvelope(ProgressiveContainer(active_fields=[1] * 5)):
    payload: ExecutionPayload
    execution_requests: ExecutionRequests
    builder_index: uint64
    beacon_block_root: Bytes32
    parent_beacon_block_root: Bytes32
class ForkData(Container):
    current_version: Bytes4
    genesis_validators_root: Bytes32
class SigningData(Container):
    object_root: Bytes32
    domain: Bytes32


def arbitrary(t, full):
    """A value of the type; full: with lists that are not empty."""
    if issubclass(t, boolean):
        return t(rng.random() < 0.5)
    if issubclass(t, (uint64, uint256)):
        return t(rng.choice([0, 1, 7, rng.getrandbits(32), 2 ** (8 * t.type_byte_length()) - 1]))
    if issubclass(t, ByteVector):
        return t(rng.randbytes(t.type_byte_length()))
    if issubclass(t, (ByteList, ProgressiveByteList)):
        return t(rng.randbytes(rng.randint(1, 31 if issubclass(t, ByteList) else 6000) if full else 0))
    if issubclass(t, Bitvector):
        return t(*[rng.random() < 0.5 for _ in range(t.vector_length())])
    if issubclass(t, (Bitlist, ProgressiveBitlist)):
        n = rng.choice([1, 8, 255, 256, 257, 1500]) if full else 0
        return t(*[rng.random() < 0.5 for _ in range(n)])
    if issubclass(t, Vector):
        return t(*[arbitrary(t.element_cls(), full) for _ in range(t.vector_length())])
    if issubclass(t, (List, ProgressiveList)):
        n = rng.randint(1, 2 if issubclass(t, List) else 7) if full else 0
        return t(*[arbitrary(t.element_cls(), full) for _ in range(n)])
    return t(**{k: arbitrary(v, full) for k, v in t.fields().items()})


def text(v):
    """The JSON mapping of the SSZ specification."""
    if isinstance(v, boolean):
        return bool(v)
    if isinstance(v, (uint64, uint256)):
        return str(int(v))
    if isinstance(v, (ByteVector, ByteList, ProgressiveByteList, Bitvector, Bitlist, ProgressiveBitlist)):
        return "0x" + v.encode_bytes().hex()
    if isinstance(v, (Vector, List, ProgressiveList)):
        return [text(x) for x in v]
    return {k: text(getattr(v, k)) for k in v.fields()}


NETWORK = {"genesis_fork_version": "10000910", "exit_fork_version": "40000910",
           "genesis_validators_root": "212f13fc4df078b6cb7db228f1c8307566dcecf900867401a92023d7ba99cb5f"}
PREVIOUS, CURRENT, EPOCH = "60000910", "70000910", 50688


def domain(kind, version, root):
    return bytes.fromhex(kind) + ForkData(current_version=bytes.fromhex(version), genesis_validators_root=root).hash_tree_root()[:28]


def case(name, kind, member, obj, domain_type, epoch, message=None, version=None, wrap="data", fixed=None):
    root = bytes.fromhex(NETWORK["genesis_validators_root"])
    of = PREVIOUS if epoch is not None and epoch < EPOCH else CURRENT
    if fixed is not None:
        of, root = fixed
    body = {"type": kind}
    if kind not in ("DEPOSIT", "VALIDATOR_REGISTRATION"):
        body["fork_info"] = {"fork": {"previous_version": "0x" + PREVIOUS, "current_version": "0x" + CURRENT, "epoch": str(EPOCH)},
                             "genesis_validators_root": "0x" + NETWORK["genesis_validators_root"]}
    content = text(obj) if message is None else message
    body[member] = content if version is None else {"version": version, wrap: content}
    object_root = obj.hash_tree_root() if hasattr(obj, "hash_tree_root") else obj
    signing = SigningData(object_root=object_root, domain=domain(domain_type, of, root)).hash_tree_root()
    return {"name": name, "body": body, "object_root": "0x" + bytes(object_root).hex(), "signing_root": "0x" + bytes(signing).hex()}


cases = []
for full in (False, True):
    tag = "full" if full else "empty"
    for before in (False, True):
        epoch = EPOCH - 1 if before else EPOCH + 3
        slot = epoch * 32 + rng.randrange(32)
        when = f"{tag}, {'before' if before else 'after'} the fork"

        def of(t, **change):
            v = arbitrary(t, full)
            for k, x in change.items():
                setattr(v, k, x)
            return v

        a = of(AttestationData, slot=slot)
        a.target.epoch = epoch
        cases.append(case(f"attestation, {when}", "ATTESTATION", "attestation", a, "01000000", epoch))
        for version, t in (("PHASE0", BlockPhase0), ("ALTAIR", BlockAltair)):
            cases.append(case(f"block {version}, {when}", "BLOCK_V2", "beacon_block", of(t, slot=slot), "00000000", epoch, version=version, wrap="block"))
        for version in ("BELLATRIX", "CAPELLA", "DENEB", "ELECTRA", "FULU", "GLOAS"):
            cases.append(case(f"block {version}, {when}", "BLOCK_V2", "beacon_block", of(BeaconBlockHeader, slot=slot), "00000000", epoch, version=version, wrap="block_header"))
        for version, t in (("PHASE0", AggregateAndProof), ("ALTAIR", AggregateAndProof), ("BELLATRIX", AggregateAndProof), ("CAPELLA", AggregateAndProof),
                           ("DENEB", AggregateAndProof), ("ELECTRA", AggregateAndProofElectra), ("FULU", AggregateAndProofElectra), ("GLOAS", AggregateAndProofGloas)):
            v = of(t)
            v.aggregate.data.slot = slot
            cases.append(case(f"aggregate {version}, {when}", "AGGREGATE_AND_PROOF_V2", "aggregate_and_proof", v, "06000000", epoch, version=version))
        cases.append(case(f"aggregation slot, {when}", "AGGREGATION_SLOT", "aggregation_slot", uint64(slot), "05000000", epoch, message={"slot": str(slot)}))
        cases.append(case(f"randao, {when}", "RANDAO_REVEAL", "randao_reveal", uint64(epoch), "02000000", epoch, message={"epoch": str(epoch)}))
        cases.append(case(f"exit, {when}", "VOLUNTARY_EXIT", "voluntary_exit", of(VoluntaryExit, epoch=epoch), "04000000", epoch,
                          fixed=(NETWORK["exit_fork_version"], bytes.fromhex(NETWORK["genesis_validators_root"]))))
        block = rng.randbytes(32)
        cases.append(case(f"sync message, {when}", "SYNC_COMMITTEE_MESSAGE", "sync_committee_message", Bytes32(block), "07000000", epoch,
                          message={"beacon_block_root": "0x" + block.hex(), "slot": str(slot)}))
        cases.append(case(f"sync selection, {when}", "SYNC_COMMITTEE_SELECTION_PROOF", "sync_aggregator_selection_data", of(SyncAggregatorSelectionData, slot=slot), "08000000", epoch))
        v = of(ContributionAndProof)
        v.contribution.slot = slot
        cases.append(case(f"contribution, {when}", "SYNC_COMMITTEE_CONTRIBUTION_AND_PROOF", "contribution_and_proof", v, "09000000", epoch))
        cases.append(case(f"payload attestation, {when}", "PAYLOAD_ATTESTATION_MESSAGE", "payload_attestation_message", of(PayloadAttestationData, slot=slot), "0c000000", epoch, version="GLOAS"))
        cases.append(case(f"preferences, {when}", "PROPOSER_PREFERENCES", "proposer_preferences", of(ProposerPreferences, proposal_slot=slot), "0d000000", epoch, version="GLOAS"))
        cases.append(case(f"bid, {when}", "EXECUTION_PAYLOAD_BID", "execution_payload_bid", of(ExecutionPayloadBid, slot=slot), "0b000000", epoch, version="GLOAS"))
        v = of(ExecutionPayloadEnvelope)
        v.payload.slot_number = slot
        cases.append(case(f"envelope, {when}", "EXECUTION_PAYLOAD_ENVELOPE", "execution_payload_envelope", v, "0b000000", epoch, version="GLOAS"))
    cases.append(case(f"registration, {tag}", "VALIDATOR_REGISTRATION", "validator_registration", arbitrary(ValidatorRegistration, full), "00000001", None,
                      fixed=(NETWORK["genesis_fork_version"], bytes(32))))
    d = arbitrary(DepositMessage, full)
    cases.append(case(f"deposit, {tag}", "DEPOSIT", "deposit", d, "03000000", None, message={**text(d), "genesis_fork_version": "0x" + NETWORK["genesis_fork_version"]},
                      fixed=(NETWORK["genesis_fork_version"], bytes(32))))
print(json.dumps({"network": NETWORK, "cases": cases}, indent=0, separators=(",", ":")))
