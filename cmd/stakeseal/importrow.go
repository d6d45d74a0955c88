package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/stakeseal/stakeseal/check"
	"github.com/stakeseal/stakeseal/deposit"
	"github.com/stakeseal/stakeseal/eth"
	"github.com/stakeseal/stakeseal/eth/keystore"
	"github.com/stakeseal/stakeseal/internal/aws/sample"
	"github.com/stakeseal/stakeseal/keygen"
	"github.com/stakeseal/stakeseal/keygen/mnemonic"
	"github.com/stakeseal/stakeseal/record"
	"github.com/stakeseal/stakeseal/secret"
)

// A row's state in the report.
const (
	rowImported = "imported"
	rowThere    = "already there"
	rowReady    = "ready"     // of a dry run
	rowRefused  = "refused"   // it is not what it says
	rowConflict = "conflict"  // it contradicts another row, or a record
	rowLeft     = "left out"  // it is for another network
	rowTwin     = "duplicate" // the same as a row that was taken
)

// foundIn is one thing that was found in a row.
type foundIn struct {
	Code     string           `json:"code"`
	Severity deposit.Severity `json:"severity"`
	Says     string           `json:"says"`
}

// sampleRow is a row on its way in.
type sampleRow struct {
	sample.Read
	state       string
	found       []foundIn
	bad         bool // not to be taken
	badDeposits bool // to be taken without its deposit data, if at all

	// As far as the row was opened. The words themselves are not kept.
	opened bool
	words  string     // the mnemonic's id
	first  eth.Pubkey // of the mnemonic
	index  uint32     // of the keystore's path
	facts  record.Imported
}

func (r *sampleRow) add(code string, severity deposit.Severity, format string, args ...any) {
	r.found = append(r.found, foundIn{code, severity, fmt.Sprintf(format, args...)})
}

func (r *sampleRow) refuse(code, format string, args ...any) {
	r.add(code, deposit.Refuse, format, args...)
	r.bad = true
}

// refuseDeposit is refuse for the row's deposit data: the key may be good.
func (r *sampleRow) refuseDeposit(code, format string, args ...any) {
	r.add(code, deposit.Refuse, format, args...)
	r.badDeposits = true
}

// inOneLine is an error's text without line ends.
func inOneLine(err error) string { return strings.ReplaceAll(err.Error(), "\n", "; ") }

// rowJudge looks at rows. Nothing in it writes.
type rowJudge struct {
	network   eth.Network
	addresses map[string]eth.Address
	opener    *sample.Opener
	place     string // of the table or its export
	key       string // the sample's KMS key
}

// public judges what stands in a row in the clear.
func (j *rowJudge) public(ctx context.Context, r *sampleRow) error {
	if r.unreadable() {
		return nil
	}
	for _, name := range r.Extra {
		r.add("attribute", deposit.Note, "its attribute %.80q is none of the sample's and is left behind", name)
	}
	if !r.Active {
		r.add("inactive", deposit.Note, "its active is false: Web3Signer was told not to load it")
	}
	entries := r.deposits()
	ours := slices.ContainsFunc(entries, func(e deposit.Entry) bool { return e.ForkVersion == j.network.GenesisForkVersion })
	switch {
	case r.Chain != j.network.Name && !ours:
		r.state = rowLeft
		r.add("other-network", deposit.Note, "it is for %.80q, and this home is for %s", r.Chain, j.network.Name)
		return nil
	case r.Chain != j.network.Name:
		r.refuse("chain", "its chain is %.80q and its deposit data is for %s: one of them was changed", r.Chain, j.network.Name)
		return nil
	case len(entries) == 0: // as was said
		return nil
	case len(entries) != 1:
		r.refuseDeposit("deposit-file", "its deposit data holds %d deposits, not one", len(entries))
		return nil
	case entries[0].Pubkey != r.Pubkey:
		r.refuseDeposit("deposit-pubkey", "its deposit data is of %v", entries[0].Pubkey)
		return nil
	}
	return j.deposit(ctx, r, entries)
}

func (r *sampleRow) unreadable() bool {
	if r.Err != nil {
		r.refuse("unreadable", "%s", inOneLine(r.Err))
	}
	return r.Err != nil
}

// deposits reads the row's deposit data, nil if there is none to be read.
func (r *sampleRow) deposits() []deposit.Entry {
	entries, err := deposit.ParseFile("deposit data", r.Deposit)
	if err != nil {
		r.refuseDeposit("deposit-file", "its deposit data: %s", inOneLine(err))
	}
	return entries
}

// deposit judges the deposit data as deposit verify would, but for the chain
// and for what the sample is known to do.
func (j *rowJudge) deposit(ctx context.Context, r *sampleRow, entries []deposit.Entry) error {
	judge := deposit.Judge{Network: j.network, AnyAddress: true, AllowBLS: true, AllowBad: true}
	findings, err := judge.Judge(ctx, entries)
	if err != nil {
		return err
	}
	for _, f := range findings {
		switch {
		case f.Code == deposit.AddressAny || f.Code == deposit.ChainNotAsked || f.Code == deposit.CredentialsBLS || f.Severity == deposit.Note:
		case f.Severity == deposit.Refuse:
			r.refuseDeposit("deposit-"+string(f.Code), "its deposit data: %s", f.Message)
		default:
			r.add("deposit-"+string(f.Code), f.Severity, "its deposit data: %s", f.Message)
		}
	}
	e := entries[0]
	if e.Credentials.Kind() == eth.KindBLS {
		r.add("credentials-bls", deposit.Warn, "0x00 credentials: whoever could open a row of this mnemonic can withdraw; move them to an address (BLS to execution change)")
	} else if address, ok := e.Credentials.Address(); ok && !hasAddress(j.addresses, address) {
		r.add("address-unknown", deposit.Warn, "it pays to %v, which trust.yaml does not name", address)
	}
	r.facts.Credentials = e.Credentials
	r.facts.Deposits = []record.Deposit{{Amount: e.Amount, Signature: e.Signature, MessageRoot: e.MessageRoot, DataRoot: e.DataRoot}}
	return nil
}

// look opens a row, keeps of its mnemonic what tells it from others, and
// closes it again. An error is of KMS, not of the row.
func (j *rowJudge) look(ctx context.Context, r *sampleRow) error {
	return j.open(ctx, r, func(s *sample.Secret, phrase *mnemonic.Phrase) error {
		seed := phrase.Seed(nil)
		defer seed.Wipe()
		first, err := firstPubkey(seed)
		if err != nil {
			r.refuse("mnemonic", "%v", err)
			return nil
		}
		k, err := keystore.Parse(s.Keystore.Expose())
		if err != nil {
			r.refuse("keystore", "its keystore does not parse: %v", err)
			return nil
		}
		r.opened, r.first, r.words = true, first, record.ImportedMnemonicID(first)
		r.index = record.Imported{Path: k.Path()}.Index()
		return nil
	})
}

// open hands what a row holds to f, and wipes it after.
func (j *rowJudge) open(ctx context.Context, r *sampleRow, f func(*sample.Secret, *mnemonic.Phrase) error) error {
	s, err := j.opener.Open(ctx, r.Row)
	if errors.Is(err, sample.ErrRow) {
		r.refuse("unopened", "%s", inOneLine(err))
		return nil
	}
	if err != nil {
		return err
	}
	defer s.Wipe()
	phrase, err := mnemonic.Parse(s.Words, "")
	if err != nil {
		r.refuse("mnemonic", "its mnemonic: %v", err)
		return nil
	}
	defer phrase.Wipe()
	return f(s, phrase)
}

// check opens a row once more and holds all of it against the key inside. It
// returns the key unless that is refused: the caller's to seal or wipe.
func (j *rowJudge) check(ctx context.Context, r *sampleRow) (key *check.Importable, err error) {
	err = j.open(ctx, r, func(s *sample.Secret, phrase *mnemonic.Phrase) error {
		seed := phrase.Seed(nil)
		defer seed.Wipe()
		if r.badDeposits { // as was said already, in the words of deposit verify
			r.facts.Credentials, r.facts.Deposits = eth.Credentials{}, nil
		}
		key, err = j.holds(ctx, r, s, seed)
		return err
	})
	if err == nil && key != nil {
		j.describe(r, key)
	}
	return key, err
}

func (j *rowJudge) holds(ctx context.Context, r *sampleRow, s *sample.Secret, seed *secret.Bytes) (*check.Importable, error) {
	f := check.Foreign{Network: j.network, Pubkey: r.Pubkey, Keystore: s.Keystore.Expose(), Password: s.Password, Seed: seed, Credentials: r.facts.Credentials}
	for _, d := range r.facts.Deposits {
		f.Deposits = append(f.Deposits, keygen.Deposit(d))
	}
	key, err := check.Imported(ctx, f)
	var wrong *check.ForeignError
	if !errors.As(err, &wrong) {
		return key, err
	}
	for _, e := range wrong.Key {
		r.refuse("key", "%s", inOneLine(e))
	}
	for _, e := range wrong.Deposits {
		r.refuseDeposit("deposit", "its deposit data: %s", inOneLine(e))
	}
	if r.bad {
		return nil, nil
	}
	r.facts.Credentials, r.facts.Deposits = eth.Credentials{}, nil
	return j.holds(ctx, r, s, seed) // of which nothing but the key is left to be wrong
}

// describe fills in what will be recorded of a row that passed.
func (j *rowJudge) describe(r *sampleRow, key *check.Importable) {
	detail := map[string]string{"web3signer_uuid": short256(r.Signer), "active": fmt.Sprint(r.Active), "kms_key": j.key}
	if r.Made != "" {
		detail["datetime"] = short256(r.Made)
	}
	r.facts.Pubkey, r.facts.Network, r.facts.Path, r.facts.Mnemonic = r.Pubkey, j.network.Name, key.Path(), r.words
	r.facts.Source = record.Source{Kind: sampleKind, Place: j.place, Digest: record.DigestOf(r.Blob), Detail: detail}
}

// short256 is a text that a detail can hold: printable, and not longer.
func short256(s string) string {
	q := fmt.Sprintf("%+q", s)
	if q = q[1 : len(q)-1]; len(q) > 256 {
		q = q[:256] + "..."
	}
	return q
}
