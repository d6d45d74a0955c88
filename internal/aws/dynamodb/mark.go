package dynamodb

import (
	"errors"
	"fmt"
	"strings"

	"github.com/stakeseal/stakeseal/eth"
	"github.com/stakeseal/stakeseal/slashing"
)

// signersPartition holds the heads: what each signer's ledger is.
const signersPartition = "signers"

// Attributes of the ledger.
const (
	attrSigner     = "signer"
	attrLedger     = "ledger"
	attrAssignment = "assignment"
	attrHeld       = "held"
	attrVersion    = "version"
	attrSlot       = "slot"
	attrBlockRoot  = "block_root"
	attrSource     = "source"
	attrTarget     = "target"
	attrRoot       = "root"
	attrBeat       = "beat"
)

// externalPrefix begins the name of what is not a signer of ours.
const externalPrefix = "external:"

// markKey has the genesis validators root beside the pubkey: a mark of another
// network is another item, and never taken for this one's.
func markKey(pubkey eth.Pubkey, root eth.Root) key {
	k := pubkeyKey(pubkey)
	return key{k.pk, fmt.Sprintf("%s/%x", k.sk, root[:])}
}

// standing is the item of one key on one network: its mark, and who may raise
// it.
type standing struct {
	root       eth.Root
	mark       slashing.Mark
	signer     string // that the key is admitted to
	ledger     string // of that signer, that wrote this
	assignment uint64 // under which the mark is complete; 0: none yet
	held       uint64 // the epoch of the lease that this was written under
	version    uint64 // rises by one with each write, from 1
}

func (st standing) item(table string) item {
	m := st.mark
	it := markKey(m.Pubkey, st.root).item()
	it[attrSigner], it[attrLedger] = str(st.signer), str(st.ledger)
	it[attrAssignment], it[attrHeld], it[attrVersion] = number(st.assignment), number(st.held), number(st.version)
	if m.Block {
		it[attrSlot], it[attrBlockRoot] = number(m.Slot), bin(m.BlockRoot[:])
	}
	if m.Attestation {
		it[attrSource], it[attrTarget], it[attrRoot] = number(m.Source), number(m.Target), bin(m.Root[:])
	}
	it[attrSum] = digest("stakeseal/mark/v1", table, m.Pubkey[:], st.root[:], st.signer, st.ledger, st.assignment, st.held, st.version,
		flag(m.Block), m.Slot, m.BlockRoot[:], flag(m.Attestation), m.Source, m.Target, m.Root[:])
	return it
}

// standing reads the item of a key. Whatever is not as it was written is
// ErrCorrupt of record: a mark that cannot be read allows nothing.
func (it item) standing(table string) (standing, error) {
	var st standing
	pubkey, root, _ := strings.Cut(it.text(attrSK), "/")
	var err error
	if st.mark.Pubkey, err = eth.ParsePubkey(pubkey); err == nil {
		err = st.root.UnmarshalText([]byte(root))
	}
	if err != nil {
		return st, corrupt(it, errors.New("its key is no pubkey and root"))
	}
	st.signer, st.ledger = it.text(attrSigner), it.text(attrLedger)
	for name, into := range map[string]*uint64{attrAssignment: &st.assignment, attrHeld: &st.held, attrVersion: &st.version} {
		*into, _ = it.number(name)
	}
	if slot, ok := it.number(attrSlot); ok {
		st.mark.Block, st.mark.Slot = true, slot
		copy(st.mark.BlockRoot[:], it.bytes(attrBlockRoot))
	}
	if target, ok := it.number(attrTarget); ok {
		st.mark.Attestation, st.mark.Target = true, target
		st.mark.Source, _ = it.number(attrSource)
		copy(st.mark.Root[:], it.bytes(attrRoot))
	}
	if st.version == 0 {
		return st, corrupt(it, errors.New("it has no version"))
	}
	return st, wholly(it, st.item(table))
}

// head is the item of one signer's ledger.
type head struct {
	slashing.Info
	epoch uint64 // of the lease that it is held under
	beat  uint64 // rises by one with each write, from 0: the watermark
}

func headKey(signer string) key { return key{signersPartition, signer} }

func (h head) item(table string) item {
	it := headKey(h.Signer).item()
	it[attrLedger], it[attrRoot] = str(h.ID), bin(h.Root[:])
	it[attrEpoch], it[attrBeat] = number(h.epoch), number(h.beat)
	it[attrSum] = digest("stakeseal/ledger/v1", table, h.Signer, h.ID, h.Root[:], h.epoch, h.beat)
	return it
}

func (it item) head(table string) (head, error) {
	var h head
	h.Signer, h.ID = it.text(attrSK), it.text(attrLedger)
	copy(h.Root[:], it.bytes(attrRoot))
	h.epoch, _ = it.number(attrEpoch)
	h.beat, _ = it.number(attrBeat)
	return h, wholly(it, h.item(table))
}
