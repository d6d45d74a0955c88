package main

import (
	"bufio"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"slices"

	"github.com/stakeseal/stakeseal/bundle"
	"github.com/stakeseal/stakeseal/certificate"
	"github.com/stakeseal/stakeseal/deposit"
	"github.com/stakeseal/stakeseal/eth"
	"github.com/stakeseal/stakeseal/record"
)

// errNoCertificate says that a JSON value is no certificate, nor a record
// that holds one.
var errNoCertificate = errors.New("no certificate")

// statement is one envelope in a file: a certificate or a receipt, unverified.
type statement struct {
	place    string // for messages: the file, and which of several
	envelope []byte
	record   *record.Birth // the record that it came in, if it did
	receipt  bool          // what it claims to be; verification decides
}

// maxStatement bounds one JSON value of a file: the receipt of the largest
// order.
const maxStatement = 64 << 20

// statements yields what a file holds: an envelope, several after each other
// (JSON lines), or birth records as the archive keeps them. Other records
// yield errNoCertificate, and a bundle is not read here.
func statements(path string) iter.Seq2[statement, error] {
	return func(yield func(statement, error) bool) {
		fail := func(err error) { yield(statement{place: printable(path)}, fmt.Errorf("%s: %w", printable(path), err)) }
		f, err := os.Open(path)
		if err != nil {
			yield(statement{}, fmt.Errorf("couldn't read certificates: %w", err))
			return
		}
		defer f.Close()
		in := &allowance{r: f, left: maxStatement}
		values := json.NewDecoder(in)
		for n := 1; ; n++ {
			in.left = maxStatement
			var raw json.RawMessage
			err := values.Decode(&raw)
			if errors.Is(err, io.EOF) && n > 1 {
				return
			}
			var errno *os.PathError
			switch {
			case errors.Is(err, io.EOF):
				fail(fmt.Errorf("%w: it is empty", certificate.ErrFormat))
				return
			case errors.As(err, &errno), errors.Is(err, errTooLarge):
				fail(err)
				return
			case err != nil:
				fail(fmt.Errorf("%w: value %d is not JSON: %w", certificate.ErrFormat, n, err))
				return
			}
			s, err := statementOf(raw)
			s.place = printable(path)
			if n > 1 || values.More() {
				s.place += fmt.Sprintf(" (%d)", n)
			}
			if err != nil {
				err = fmt.Errorf("%s: %w", s.place, err)
			}
			if !yield(s, err) {
				return
			}
		}
	}
}

var errTooLarge = fmt.Errorf("%w: a JSON value has more than %d bytes", certificate.ErrFormat, maxStatement)

// allowance fails after so many bytes, instead of pretending an end.
type allowance struct {
	r    io.Reader
	left int
}

func (a *allowance) Read(p []byte) (int, error) {
	if a.left <= 0 {
		return 0, errTooLarge
	}
	n, err := a.r.Read(p[:min(len(p), a.left)])
	a.left -= n
	return n, err
}

// statementOf tells an envelope from a record.
func statementOf(raw json.RawMessage) (statement, error) {
	var head struct {
		Schema      string  `json:"schema"`
		PayloadType *string `json:"payloadType"`
		Payload     string  `json:"payload"`
	}
	if err := json.Unmarshal(raw, &head); err != nil {
		return statement{}, fmt.Errorf("%w: not a JSON object of a certificate", certificate.ErrFormat)
	}
	switch {
	case head.PayloadType != nil:
		return statement{envelope: raw, receipt: claimsReceipt(head.Payload)}, nil
	case head.Schema == "stakeseal/birth/v1":
		b, err := record.DecodeBirth(raw)
		if err != nil {
			return statement{}, err
		}
		return statement{envelope: b.Certificate, record: &b}, nil
	case head.Schema == bundle.Schema:
		return statement{}, usage("stakeseal bundle verify judges a whole bundle", "it is a bundle")
	}
	return statement{}, fmt.Errorf("%w: %w: neither a DSSE envelope nor a birth record", certificate.ErrFormat, errNoCertificate)
}

// claimsReceipt looks at an envelope's predicate type, only to choose who
// verifies it: each verifier refuses the other's.
func claimsReceipt(payload string) bool {
	var st struct {
		PredicateType string `json:"predicateType"`
	}
	b, err := base64.StdEncoding.DecodeString(payload)
	if err != nil {
		b, err = base64.URLEncoding.DecodeString(payload)
	}
	return err == nil && json.Unmarshal(b, &st) == nil && st.PredicateType == certificate.ReceiptType
}

// verify judges a certificate, and the record that it came in by it.
func (s statement) verify(trust *certificate.Trust) (*certificate.Verified, error) {
	v, err := trust.VerifyBirth(s.envelope)
	if err == nil && s.record != nil {
		err = agrees(*s.record, v)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", s.place, err)
	}
	return v, nil
}

// read adds the certificates of a file, a bundle, or all .json files below a
// folder. One that does not verify is an error and not left out: who could
// change one file must not be able to make its pubkey look unknown.
func (c certified) read(path string, trust *certificate.Trust) error {
	if isFolder(path) {
		paths, err := under(path)
		if err != nil {
			return err
		}
		for _, path := range paths {
			if err := c.readFile(path, trust, true); err != nil {
				return err
			}
		}
		return nil
	}
	if isBundle(path) {
		b, closeBundle, err := openBundle(path, trust)
		if err != nil {
			return err
		}
		defer func() { _ = closeBundle() }()
		for born, err := range b.Births() {
			if err != nil {
				return fmt.Errorf("%s: %w", printable(path), err)
			}
			// The bundle's reader has held the record against it already.
			v, err := trust.VerifyBirth(born.Certificate)
			if err == nil {
				err = c.add(printable(path), v.Pubkey, knownOf(v))
			}
			if err != nil {
				return err
			}
		}
		return nil
	}
	return c.readFile(path, trust, false)
}

// readFile reads one file. In a folder, as an archive is one, receipts and
// mnemonics stand among the births.
func (c certified) readFile(path string, trust *certificate.Trust, inFolder bool) error {
	for s, err := range statements(path) {
		if inFolder && (errors.Is(err, errNoCertificate) || s.receipt) {
			continue
		}
		if err != nil {
			return err
		}
		if s.receipt {
			return usage("give the certificates of its validators, or a bundle", "%s is a receipt, no birth certificate", s.place)
		}
		v, err := s.verify(trust)
		if err != nil {
			return err
		}
		if err := c.add(s.place, v.Pubkey, knownOf(v)); err != nil {
			return err
		}
	}
	return nil
}

// add refuses a second certificate of a pubkey that says something else: one
// key is born once.
func (c certified) add(place string, pubkey eth.Pubkey, k deposit.Known) error {
	if old, ok := c[pubkey]; ok &&
		(old.Network != k.Network || old.Credentials != k.Credentials || !slices.Equal(old.Deposits, k.Deposits)) {
		return fail(exitRefused, "a key is born once: find out who signed the second certificate, and send nothing to it",
			"%s: another certificate, as well signed, says otherwise of %v", place, pubkey)
	}
	c[pubkey] = k
	return nil
}

// isBundle looks at a file's first bytes.
func isBundle(path string) bool {
	f, err := os.Open(path)
	if err != nil {
		return false
	}
	defer f.Close()
	opening := `{"schema":"` + bundle.Schema + `"`
	first, err := bufio.NewReaderSize(f, 64).Peek(len(opening))
	return err == nil && string(first) == opening
}
