package certificate

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"time"
)

// maxStated bounds a statement of another kind than births and receipts.
const maxStated = 256 << 10

// Stated is a statement of a kind that another package defines (a submission,
// a review), with its signatures judged and nothing else: what the predicate
// says, and when its keys were valid, is the caller's to judge.
type Stated[P any] struct {
	Name      string // of the subject
	Subject   Hash   // sha256 of what it is about
	Predicate P
	Digest    Hash         // of the payload
	By        []TrustedKey // the given keys that signed it, none of them revoked; at least one
}

// SignStatement returns an in-toto Statement v1 in a DSSE envelope. The
// predicate must be a struct whose JSON is canonical as that of Birth is: text
// of printable ASCII (CheckText), times in UTC and whole seconds.
func SignStatement[P any](ctx context.Context, s Signer, kind, name string, subjectHash Hash, predicate P) ([]byte, error) {
	payload, err := stated(kind, name, subjectHash, predicate)
	if err != nil {
		return nil, err
	}
	return sign(ctx, s, payload, maxStated)
}

func stated[P any](kind, name string, subjectHash Hash, predicate P) ([]byte, error) {
	st := statement[P]{Type: StatementType, Subject: []subject{{name, subjectDigest{subjectHash}}}, PredicateType: kind, Predicate: predicate}
	payload, err := canonical(st)
	if err != nil {
		return nil, err
	}
	// What could not be read back is not signed.
	if _, err := decode[P](payload, kind); err != nil {
		return nil, fmt.Errorf("couldn't sign: %w", err)
	}
	return payload, nil
}

// VerifyStatement reads a statement of a kind that one of the keys signed, by
// the rules for certificates: unknown signatures are passed over, a wrong one
// of a known key and one of a revoked key refuse all. The error is of class
// ErrFormat, ErrSignature or ErrUntrusted.
func VerifyStatement[P any](envelope []byte, kind string, keys []TrustedKey) (Stated[P], error) {
	payload, by, err := authenticate(envelope, maxStated, keys)
	if err != nil {
		return Stated[P]{}, err
	}
	st, err := decode[P](payload, kind)
	if err != nil {
		return Stated[P]{}, err
	}
	return Stated[P]{st.Subject[0].Name, st.Subject[0].Digest.SHA256, st.Predicate, sha256.Sum256(payload), by}, nil
}

// Join makes one envelope of several over the same payload: what each of
// several people signed alone. It verifies nothing.
func Join(envelopes ...[]byte) ([]byte, error) {
	if len(envelopes) == 0 {
		return nil, errors.New("couldn't join: no envelope")
	}
	var joined envelope
	for i, data := range envelopes {
		e, err := parseEnvelope(data, maxStated)
		if err != nil {
			return nil, err
		}
		if i == 0 {
			joined.payload = e.payload
		} else if string(e.payload) != string(joined.payload) {
			return nil, fmt.Errorf("%w: the signatures are of different statements", ErrMismatch)
		}
		for _, s := range e.signatures {
			if !slices.ContainsFunc(joined.signatures, func(had signature) bool { return had.keyID == s.keyID }) {
				joined.signatures = append(joined.signatures, s)
			}
		}
	}
	return joined.encode(maxStated)
}

// ValidAt refuses (ErrUntrusted) what was revoked, or was not valid at a time.
func (v Validity) ValidAt(at time.Time) error {
	if err := v.check(at); err != nil {
		return fmt.Errorf("%w: it %w", ErrUntrusted, err)
	}
	return nil
}
