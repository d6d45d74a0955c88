package bundle

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"iter"
	"slices"
	"testing"
	"time"

	"github.com/stakeseal/stakeseal/birth"
	"github.com/stakeseal/stakeseal/certificate"
	"github.com/stakeseal/stakeseal/eth"
	"github.com/stakeseal/stakeseal/record"
)

// signer certifies with the key of the documents' worked example: its seed is
// 00 01 02 ... 1f.
type signer struct{ key ed25519.PrivateKey }

func exampleSigner() signer {
	seed := make([]byte, ed25519.SeedSize)
	for i := range seed {
		seed[i] = byte(i)
	}
	return signer{ed25519.NewKeyFromSeed(seed)}
}

func (s signer) Sign(_ context.Context, data []byte) ([]byte, error) {
	return ed25519.Sign(s.key, data), nil
}

func (s signer) KeyID() (string, error) { return s.public().ID(), nil }

func (s signer) public() certificate.PublicKey {
	key, err := certificate.ParsePublicKey("ed25519:" + base64.StdEncoding.EncodeToString(s.key.Public().(ed25519.PublicKey)))
	if err != nil {
		panic(err)
	}
	return key
}

var cold = eth.Address{19: 1}

func hoodi() eth.Network {
	n, _ := eth.LookupNetwork("hoodi")
	return n
}

func trusting(key certificate.PublicKey) *certificate.Trust {
	return &certificate.Trust{Network: hoodi(), Addresses: map[string]eth.Address{"acme-cold": cold},
		Keys: []certificate.TrustedKey{{Name: "generator-2026", Key: key}}}
}

// clinic makes orders whose certificates are real and whose secrets are
// noise: a bundle holds sealed files, and nobody opens them here.
type clinic struct {
	t      testing.TB
	signer certificate.Signer
}

func (c clinic) ok(err error) {
	c.t.Helper()
	if err != nil {
		c.t.Fatal(err)
	}
}

// noise depends on its name alone.
func noise(name string, n int) (out []byte) {
	for i := uint64(0); len(out) < n; i++ {
		h := sha256.Sum256(binary.BigEndian.AppendUint64([]byte(name), i))
		out = append(out, h[:]...)
	}
	return out[:n]
}

var start = time.Date(2026, 11, 22, 9, 29, 0, 0, time.UTC)

func (c clinic) order(id string, count uint32) record.Order {
	return record.Order{ID: id, Network: "hoodi", Count: count, Credentials: eth.ExecutionCredentials(cold, false), Plan: []eth.Gwei{32e9},
		Keystore: "pbkdf2", Labels: map[string]string{"team": "a <&> b"}, Settings: record.Digest(certificate.Hash{1, 2, 3}), Created: start}
}

func sealing(purpose, salt string, size int) record.Sealing {
	file := append([]byte("age-encryption.org/v1\n"), noise("file "+purpose+salt, size)...)
	return record.Sealing{Purpose: purpose, Digest: record.DigestOf(file), File: file,
		Recipients: []record.Recipient{{Name: purpose + "-a", Key: "age1" + purpose + "a"}, {Name: purpose + "-b", Key: "age1" + purpose + "b"}}}
}

func (c clinic) mnemonic(o record.Order, id string) record.Mnemonic {
	return record.Mnemonic{ID: id, Order: o.ID, From: 0, To: o.Count, Sealing: sealing(record.Recovery, o.ID+id, 100), Created: start.Add(time.Second)}
}

// birth certifies the validator at an index; another salt is another key.
func (c clinic) birth(o record.Order, m record.Mnemonic, index uint32, salt string, size int) record.Birth {
	c.t.Helper()
	seed := fmt.Sprintf("%s/%s/%d/%s", o.ID, m.ID, index, salt)
	b := record.Birth{Validator: record.Validator{Order: o.ID, Index: index, Pubkey: eth.Pubkey(noise("pubkey"+seed, 48)), Mnemonic: m.ID,
		Path: fmt.Sprintf("m/12381/3600/%d/0/0", index), Network: o.Network, Credentials: o.Credentials, Created: start.Add(2 * time.Second)},
		Sealing: sealing(record.Signing, seed, size)}
	for _, amount := range o.Plan {
		signature := eth.Signature(noise("signature"+seed, 96))
		b.Deposits = append(b.Deposits, record.Deposit{Amount: amount, Signature: signature,
			MessageRoot: eth.DepositMessage{Pubkey: b.Pubkey, Credentials: b.Credentials, Amount: amount}.Root(),
			DataRoot:    eth.DepositData{Pubkey: b.Pubkey, Credentials: b.Credentials, Amount: amount, Signature: signature}.Root()})
	}
	ref, err := mnemonicRef(m)
	c.ok(err)
	n := hoodi()
	s := certificate.Birth{Network: b.Network, NetworkDigest: n.Digest(), Pubkey: b.Pubkey, Credentials: b.Credentials, Order: o.ID,
		OrderDigest: certificate.Hash(o.Digest()), Index: index, Path: b.Path, Mnemonic: ref, Time: b.Created,
		Sealing: certificate.SealingRef{Purpose: b.Sealing.Purpose, Digest: certificate.Hash(b.Sealing.Digest)},
		Maker:   certificate.Maker{BinaryDigest: certificate.Hash{9}, SettingsDigest: certificate.Hash(o.Settings), Version: "0.1.0"}}
	for _, r := range b.Sealing.Recipients {
		s.Sealing.Recipients = append(s.Sealing.Recipients, certificate.Recipient{Name: r.Name, Key: r.Key})
	}
	for _, d := range b.Deposits {
		s.Deposits = append(s.Deposits, certificate.Deposit{Amount: d.Amount, Signature: d.Signature, MessageRoot: d.MessageRoot, DataRoot: d.DataRoot})
	}
	b.Certificate, err = certificate.SignBirth(c.t.Context(), c.signer, s)
	c.ok(err)
	return b
}

// receipt lists births of the indexes [from, to).
func (c clinic) receipt(o record.Order, mnemonics []record.Mnemonic, from, to uint32, births iter.Seq[record.Birth]) []byte {
	c.t.Helper()
	n := hoodi()
	r := certificate.Receipt{Network: o.Network, NetworkDigest: n.Digest(), Order: o.ID, OrderDigest: certificate.Hash(o.Digest()),
		SettingsDigest: certificate.Hash(o.Settings), Count: o.Count, From: from, To: to, Time: o.Created}
	for b := range births {
		line, err := birth.Listed(b)
		c.ok(err)
		r.Validators = append(r.Validators, line)
	}
	for _, m := range mnemonics {
		r.Mnemonics = append(r.Mnemonics, certificate.ReceiptMnemonic{ID: m.ID, From: m.From, To: m.To, Digest: certificate.Hash(m.Sealing.Digest)})
	}
	envelope, err := certificate.SignReceipt(c.t.Context(), c.signer, r)
	c.ok(err)
	return envelope
}

// contents is what a bundle is written from, and what reading gives.
type contents struct {
	order     record.Order
	envelope  []byte
	mnemonics []record.Mnemonic
	births    []record.Birth
}

// finished is an order of count validators of two mnemonics.
func (c clinic) finished(id string, count uint32) contents {
	o := c.order(id, count)
	x := contents{order: o, mnemonics: []record.Mnemonic{c.mnemonic(o, "m-1"), c.mnemonic(o, "m-2")}}
	for i := range count {
		x.births = append(x.births, c.birth(o, x.mnemonics[i%2], i, "", 100))
	}
	x.envelope = c.receipt(o, x.mnemonics, 0, count, slices.Values(x.births))
	return x
}

func (x contents) seq() iter.Seq2[record.Birth, error] {
	return func(yield func(record.Birth, error) bool) {
		for _, b := range x.births {
			if !yield(b, nil) {
				return
			}
		}
	}
}

func (x contents) write(t testing.TB) []byte {
	t.Helper()
	var out bytes.Buffer
	if err := Write(&out, x.order, x.envelope, x.mnemonics, x.seq()); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// read reads a bundle to its end.
func read(data []byte, trust birth.Verifier) (x contents, err error) {
	b, err := Open(bytes.NewReader(data), trust)
	if err != nil {
		return contents{}, err
	}
	x = contents{order: b.Order, envelope: b.Envelope, mnemonics: b.Mnemonics}
	for born, err := range b.Births() {
		if err != nil {
			return x, err
		}
		x.births = append(x.births, born)
	}
	return x, nil
}
