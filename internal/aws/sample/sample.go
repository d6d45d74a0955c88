// Package sample reads the validators that the AWS sample made (aws-samples,
// eth-keygen-lambda-sam): the rows of its DynamoDB table, or of an export of
// it, and the KMS ciphertext that each row carries. docs/importing.md says
// what stands in a row.
//
// It promises: a row is read as that program writes it or is an error that
// says why, and one bad row hides no other; a table is read to its last page
// or not at all; a ciphertext is opened with the KMS key that the caller
// names, never with the one that it names itself; what comes out lives in
// buffers that the caller wipes, and no error holds a part of it.
//
// It trusts nothing in a row. Whoever could write the table could write all
// that stands there in the clear (chain, deposit data, whose row it is), and
// since the sample seals without a context, could move a ciphertext to another
// row: everything is for package check to hold against the key inside.
//
// What stays in memory: the SDK reads the plaintext out of a response (TLS
// records, then JSON) that nobody can wipe; the copy that it hands over is
// wiped here.
package sample

import (
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/stakeseal/stakeseal/eth"
	"github.com/stakeseal/stakeseal/secret"
)

// ErrRow is wrapped by every refusal of a row, or of what it carries. It says
// what is wrong; the other rows are read all the same.
var ErrRow = errors.New("not a row of the AWS sample")

// Attributes of a row. The first two are the table's key.
const (
	attrSigner  = "web3signer_uuid"
	attrPubkey  = "pubkey"
	attrChain   = "chain"
	attrBlob    = "encrypted_key_password_mnemonic_b64"
	attrDeposit = "deposit_json_b64"
	attrMade    = "datetime"
	attrActive  = "active"
)

// Limits in bytes. What the sample writes is far below them, except that KMS
// itself takes no longer ciphertext.
const (
	maxBlob    = 6144
	maxDeposit = 32 << 10
	maxText    = 256
)

// Row is a row as it stands, nothing of it checked but its form.
type Row struct {
	Signer  string     // the Web3Signer it is for, "none" if nobody assigned it
	Pubkey  eth.Pubkey // under which it stands
	Chain   string     // as the sample was asked for it: mainnet, goerli, ...
	Made    string     // the function's clock, without a zone; "" if there is none
	Active  bool       // whether Web3Signer should load it; true if it does not say
	Deposit []byte     // a deposit_data file of one deposit
	Blob    []byte     // KMS ciphertext of keystore, password and mnemonic
	Extra   []string   // names of further attributes, sorted
}

// Read is what became of one item of the table.
type Read struct {
	Row
	Name string // how to find it again: its key, quoted
	Err  error  // ErrRow; the Row is then empty
}

// value is an attribute: a text, a truth, or something else.
type value struct {
	text  *string
	truth *bool
}

// read makes a row of an item.
func read(item map[string]value) Read {
	r := Read{Name: nameOf(item)}
	row, err := rowOf(item)
	if err != nil {
		r.Err = fmt.Errorf("%w: %w", ErrRow, err)
		return r
	}
	r.Row = row
	return r
}

// nameOf is the item's key, as far as there is one.
func nameOf(item map[string]value) string {
	part := func(name string) string {
		if v := item[name]; v.text != nil {
			return fmt.Sprintf("%.120q", *v.text)
		}
		return "(no " + name + ")"
	}
	return part(attrSigner) + " " + part(attrPubkey)
}

func rowOf(item map[string]value) (row Row, err error) {
	var errs []error
	text := func(name string, max int, needed bool) string {
		v, there := item[name]
		switch {
		case !there && !needed:
		case !there:
			errs = append(errs, fmt.Errorf("it has no %s", name))
		case v.text == nil:
			errs = append(errs, fmt.Errorf("its %s is no text", name))
		case len(*v.text) == 0 || len(*v.text) > max:
			errs = append(errs, fmt.Errorf("its %s has %d bytes, not 1 to %d", name, len(*v.text), max))
		default:
			return *v.text
		}
		return ""
	}
	binary := func(name string, max int) []byte {
		encoded := text(name, base64.StdEncoding.EncodedLen(max), true)
		if encoded == "" {
			return nil
		}
		data, err := base64.StdEncoding.Strict().DecodeString(encoded)
		if err != nil || strings.ContainsAny(encoded, "\r\n") {
			errs = append(errs, fmt.Errorf("its %s is not base64", name))
			return nil
		}
		return data
	}
	row.Signer = text(attrSigner, 2048, true) // DynamoDB's bound of a partition key
	if digits := text(attrPubkey, 1024, true); digits != "" {
		// Bare lower-case hex, as the deposit CLI writes it into a keystore:
		// another spelling would be another row of the same key.
		if row.Pubkey, err = eth.ParsePubkey(digits); err != nil || digits != row.Pubkey.Hex() {
			errs = append(errs, fmt.Errorf("its %s is not 96 lower-case hex digits", attrPubkey))
		}
	}
	row.Chain = text(attrChain, maxText, true)
	row.Blob = binary(attrBlob, maxBlob)
	row.Deposit = binary(attrDeposit, maxDeposit)
	row.Made = text(attrMade, maxText, false)
	row.Active = true
	if v, there := item[attrActive]; there {
		if v.truth == nil {
			errs = append(errs, fmt.Errorf("its %s is no truth value", attrActive))
		} else {
			row.Active = *v.truth
		}
	}
	for name := range item {
		if !slices.Contains([]string{attrSigner, attrPubkey, attrChain, attrBlob, attrDeposit, attrMade, attrActive}, name) {
			row.Extra = append(row.Extra, name)
		}
	}
	slices.Sort(row.Extra)
	if err := errors.Join(errs...); err != nil {
		return Row{}, err
	}
	return row, nil
}

// Secret is what a ciphertext holds, the caller's to wipe.
type Secret struct {
	Keystore *secret.Bytes // EIP-2335 JSON
	Password *secret.Bytes // that opens it
	Words    *secret.Bytes // the mnemonic that the key was derived from
}

// Wipe wipes all three. It may be called twice and on nil.
func (s *Secret) Wipe() {
	if s == nil {
		return
	}
	s.Keystore.Wipe()
	s.Password.Wipe()
	s.Words.Wipe()
}
