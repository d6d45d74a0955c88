// Package recordtest is the conformance suite of record's ports: one function
// per port, in which every "must" of the port's contract is a named case. An
// implementation that passes can stand behind any caller.
//
// An opener says which backend it really opened, and the suite fails if that
// is not the one that the test names: a suite that silently ran against a
// default backend would prove nothing.
package recordtest

import (
	"crypto/sha512"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"time"

	"github.com/stakeseal/stakeseal/eth"
	"github.com/stakeseal/stakeseal/record"
)

// The records below are well-formed and depend on their arguments alone.
// Their pubkeys, signatures and sealed files are hashes, and their
// certificate is signed by nobody: a store cannot tell.

// Start is the time of the first record.
var Start = time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)

// Order returns an order of count validators with the plan 1 + 31.
func Order(id string, count uint32) record.Order {
	return record.Order{
		ID:          id,
		Network:     "hoodi",
		Count:       count,
		Credentials: eth.Credentials{0: 1, 31: 0xaa},
		Plan:        []eth.Gwei{1e9, 31e9},
		Keystore:    "pbkdf2",
		Labels:      map[string]string{"team": "north <&> söuth", "cluster": "1"},
		Settings:    record.DigestOf([]byte("settings")),
		Created:     Start,
	}
}

// Mnemonic returns a mnemonic for all indexes of o.
func Mnemonic(o record.Order, id string) record.Mnemonic {
	return record.Mnemonic{
		ID: id, Order: o.ID, From: 0, To: o.Count,
		Sealing: Sealing(record.Recovery, o.ID+"/"+id),
		Created: Start.Add(time.Second),
	}
}

// Sealing returns generation 0 of a file made from salt.
func Sealing(purpose, salt string) record.Sealing {
	file := append([]byte("age-encryption.org/v1\n"), noise("file "+purpose+salt, 1200)...)
	return record.Sealing{
		Purpose:    purpose,
		Recipients: []record.Recipient{{Name: "anna", Key: "age1anna"}, {Name: "vault", Key: "age1vault"}},
		Digest:     record.DigestOf(file),
		File:       file,
	}
}

// Birth returns the birth at index of o, derived from m. Births of another
// salt have another pubkey.
func Birth(o record.Order, m record.Mnemonic, index uint32, salt string) record.Birth {
	seed := fmt.Sprintf("%s/%s/%d/%s", o.ID, m.ID, index, salt)
	b := record.Birth{
		Validator: record.Validator{
			Order: o.ID, Index: index,
			Pubkey:      eth.Pubkey(noise("pubkey "+seed, 48)),
			Path:        fmt.Sprintf("m/12381/3600/%d/0/0", index),
			Mnemonic:    m.ID,
			Network:     o.Network,
			Credentials: o.Credentials,
			Created:     Start.Add(2 * time.Second),
		},
		Sealing: Sealing(record.Signing, seed),
	}
	for i, amount := range o.Plan {
		part := fmt.Sprintf("%s deposit %d", seed, i)
		b.Deposits = append(b.Deposits, record.Deposit{
			Amount:      amount,
			Signature:   eth.Signature(noise("signature "+part, 96)),
			MessageRoot: eth.Root(noise("message "+part, 32)),
			DataRoot:    eth.Root(noise("data "+part, 32)),
		})
	}
	envelope, err := json.Marshal(map[string]any{
		"payload":     noise("payload "+seed, 900),
		"payloadType": "application/vnd.in-toto+json",
		"signatures":  []map[string]any{{"keyid": "test", "sig": noise("sig "+seed, 64)}},
	})
	if err != nil {
		panic("recordtest: a certificate always marshals: " + err.Error())
	}
	b.Certificate = envelope
	return b
}

// ImportedMnemonic returns a mnemonic that was made elsewhere.
func ImportedMnemonic(salt string) record.ImportedMnemonic {
	first := eth.Pubkey(noise("first pubkey "+salt, 48))
	return record.ImportedMnemonic{
		ID: record.ImportedMnemonicID(first), First: first,
		Network:  "hoodi",
		Source:   source("mnemonic " + salt),
		Importer: "anna@host",
		Created:  Start.Add(time.Second),
		Sealing:  Sealing(record.Recovery, "imported "+salt),
	}
}

// Import returns an import of the key at index of m.
func Import(m record.ImportedMnemonic, index uint32, salt string) record.Import {
	i := BareImport(fmt.Sprintf("%s/%d/%s", m.ID, index, salt))
	i.Path, i.Mnemonic = fmt.Sprintf("m/12381/3600/%d/0/0", index), m.ID
	i.Credentials = eth.Credentials{0: 1, 31: 0xaa}
	i.Deposits = []record.Deposit{{
		Amount:      32e9,
		Signature:   eth.Signature(noise("signature "+i.Importer+salt, 96)),
		MessageRoot: eth.Root(noise("message "+salt, 32)),
		DataRoot:    eth.Root(noise("data "+salt, 32)),
	}}
	return i
}

// BareImport returns an import of which nothing is known but its key.
func BareImport(salt string) record.Import {
	return record.Import{
		Imported: record.Imported{
			Pubkey:   eth.Pubkey(noise("imported pubkey "+salt, 48)),
			Network:  "hoodi",
			Source:   source("key " + salt),
			Importer: "anna@host",
			Created:  Start.Add(2 * time.Second),
		},
		Sealing: Sealing(record.Signing, "imported "+salt),
	}
}

func source(salt string) record.Source {
	return record.Source{Kind: "keystores", Place: "kéys/<&>.json", Digest: record.DigestOf([]byte(salt)), Detail: map[string]string{"b": "2", "a": "1"}}
}

// Assignment returns an assignment of b.
func Assignment(b record.Birth, signer string, epoch uint64) record.Assignment {
	return record.Assignment{Pubkey: b.Pubkey, Signer: signer, Epoch: epoch, Time: Start.Add(time.Minute)}
}

// noise returns n bytes that depend on seed.
func noise(seed string, n int) []byte {
	var out []byte
	for i := uint64(0); len(out) < n; i++ {
		block := sha512.Sum512(binary.BigEndian.AppendUint64([]byte(seed), i))
		out = append(out, block[:]...)
	}
	return out[:n]
}
