package main

import (
	"context"
	"os"
	"path/filepath"
	"strings"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/stakeseal/stakeseal/birth"
	"github.com/stakeseal/stakeseal/certificate"
	"github.com/stakeseal/stakeseal/internal/config"
	"github.com/stakeseal/stakeseal/internal/folder"
	"github.com/stakeseal/stakeseal/internal/identity"
	"github.com/stakeseal/stakeseal/internal/keyfile"
	"github.com/stakeseal/stakeseal/internal/sqlite"
	"github.com/stakeseal/stakeseal/keygen/mnemonic"
	"github.com/stakeseal/stakeseal/record"
	"github.com/stakeseal/stakeseal/seal"
	"github.com/stakeseal/stakeseal/unseal"
)

// forgery is what somebody who can write store and archive made of an order.
type forgery struct {
	ts     *testscript.TestScript
	home   string
	config *config.Generator
	order  record.Order
	words  record.Mnemonic
	births []record.Birth

	// certified: that somebody has the certifying key too, so that all
	// digests and signatures are in order, and only opening shows the lie.
	certified bool
}

// forgeCommand replaces the store and the archive of a home by forged ones:
// forge HOME ORDER KIND [RECIPIENTFILE].
func forgeCommand(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 3 {
		ts.Fatalf("usage: forge HOME ORDER KIND [RECIPIENTFILE]")
	}
	f := &forgery{ts: ts, home: ts.MkAbs(args[0])}
	f.read(args[1])
	kind, certified := strings.CutPrefix(args[2], "certified-")
	f.certified = certified
	facts, words := f.openWords()
	_, recovery, err := f.config.SealTo(seal.ParseRecipientFile)
	ts.Check(err)
	to := recovery.Names()
	switch kind {
	case "words": // another mnemonic under the same name
		fresh, err := mnemonic.New(mnemonic.English)
		ts.Check(err)
		words.Words = fresh
	case "dropped": // the first recipient is recorded and cannot open it
		to = to[1:]
	case "unlisted": // somebody can open it and is not recorded
		data, err := os.ReadFile(ts.MkAbs(args[3]))
		ts.Check(err)
		stranger, err := seal.ParseRecipientFile(data)
		ts.Check(err)
		to = append(to, seal.Named{Name: "stranger", Recipient: stranger})
	case "facts": // it tells who recovers by hand another address
		for i := range facts {
			if facts[i].Name == "withdrawal-address" {
				facts[i].Value = "0x0000000000000000000000000000000000000001"
			}
		}
	case "order": // it was sealed as another order's
	case "sealing": // index 0 has the sealed key of index 1
		f.births[0].Sealing.File = f.births[1].Sealing.File
		f.births[0].Sealing.Digest = f.births[1].Sealing.Digest
	case "twins": // two validators stand in each other's places
		first, second := &f.births[0].Validator, &f.births[1].Validator
		first.Pubkey, second.Pubkey = second.Pubkey, first.Pubkey
		first.Deposits, second.Deposits = second.Deposits, first.Deposits
	case "missing": // the last validator is gone from the store
	case "unfinished": // the last was never made: no lie, but a run that ended early
		f.births = f.births[:len(f.births)-1]
		f.certified = true // no receipt
	default:
		ts.Fatalf("unknown forgery %q", kind)
	}
	switch kind {
	case "sealing", "twins", "missing", "unfinished":
	default:
		list, err := seal.NewRecipients(seal.Recovery, to...)
		ts.Check(err)
		sealedAs := f.order.ID
		if kind == "order" {
			sealedAs = "another"
		}
		file, err := list.Seal(context.Background(), seal.RecoveryBinding(f.order.Network, sealedAs, f.words.ID), seal.RecoveryBody(facts, words.Words))
		ts.Check(err)
		f.words.Sealing.File, f.words.Sealing.Digest = file, record.DigestOf(file)
	}
	if certified {
		f.certify()
	}
	f.write(kind == "missing")
}

func (f *forgery) read(order string) {
	ctx := context.Background()
	var err error
	f.config, err = config.LoadGenerator(os.DirFS(f.home))
	f.ts.Check(err)
	s, err := sqlite.Open(filepath.Join(f.home, "records.db"))
	f.ts.Check(err)
	defer s.Close()
	f.order, err = s.Order(ctx, order)
	f.ts.Check(err)
	for m, err := range s.Mnemonics(ctx, order) {
		f.ts.Check(err)
		f.words = m
	}
	for v, err := range s.Validators(ctx, record.Query{Order: order}) {
		f.ts.Check(err)
		b, err := s.Birth(ctx, v.Pubkey)
		f.ts.Check(err)
		f.births = append(f.births, b)
	}
}

func (f *forgery) openWords() ([]seal.Fact, *unseal.RecoverySecret) {
	ids, err := identity.Load(f.home+"-identities/recovery-a.identity", nil)
	f.ts.Check(err)
	opened, err := unseal.NewOpener(ids...).Mnemonic(context.Background(), f.words.Sealing.File,
		seal.RecoveryBinding(f.order.Network, f.order.ID, f.words.ID))
	f.ts.Check(err)
	var facts []seal.Fact
	for _, name := range []string{"indexes", "path", "withdrawal-address", "withdrawal-credentials", "plan", "language", "created"} {
		facts = append(facts, seal.Fact{Name: name, Value: opened.Facts[name]})
	}
	return facts, opened
}

func (f *forgery) certify() {
	signer, err := keyfile.Open(filepath.Join(f.home, "certifier.key"))
	f.ts.Check(err)
	defer signer.Wipe()
	trust, err := loadTrust(filepath.Join(f.home, trustFile))
	f.ts.Check(err)
	for i := range f.births {
		b := &f.births[i]
		v, err := trust.VerifyBirth(b.Certificate)
		f.ts.Check(err)
		s := v.Birth
		s.Mnemonic.Digest = certificate.Hash(f.words.Sealing.Digest)
		s.Sealing.Digest = certificate.Hash(b.Sealing.Digest)
		b.Certificate, err = certificate.SignBirth(context.Background(), signer, s)
		f.ts.Check(err)
	}
}

// write makes a new store and archive, and puts them into the places of the
// old ones. With short the last birth is in the archive only.
func (f *forgery) write(short bool) {
	ctx := context.Background()
	store, archive := filepath.Join(f.home, "records.db"), filepath.Join(f.home, "bundles")
	receipt := birth.ReceiptObject(f.order.ID, 0, f.order.Count)
	envelope, err := os.ReadFile(filepath.Join(archive, receipt))
	f.ts.Check(err)
	for _, old := range []string{store, store + "-wal", store + "-shm", archive} {
		f.ts.Check(os.RemoveAll(old))
	}
	s, err := sqlite.Create(store)
	f.ts.Check(err)
	defer s.Close()
	a, err := folder.Create(archive)
	f.ts.Check(err)
	_, err = s.Place(ctx, f.order)
	f.ts.Check(err)
	object, err := record.EncodeOrder(f.order)
	f.ts.Check(err)
	f.ts.Check(a.Put(ctx, birth.OrderObject(f.order.ID), object))
	f.ts.Check(s.PutMnemonic(ctx, f.words))
	object, err = record.EncodeMnemonic(f.words)
	f.ts.Check(err)
	f.ts.Check(a.Put(ctx, birth.MnemonicObject(f.order.ID, f.words.ID), object))
	for i, b := range f.births {
		if !short || i < len(f.births)-1 {
			_, err := s.PutBirth(ctx, b)
			f.ts.Check(err)
		}
		object, err := record.EncodeBirth(b)
		f.ts.Check(err)
		f.ts.Check(a.Put(ctx, birth.BirthObject(b.Order, b.Index), object))
	}
	if !f.certified {
		f.ts.Check(a.Put(ctx, receipt, envelope))
	}
}
