// Package seal puts secrets into age files (age-encryption.org/v1) that their
// maker cannot open, and writes into each what it is: purpose, network, order,
// index and subject. docs/formats/sealing.md describes the file byte by byte.
//
// It promises: a file is sealed to every recipient of the list or not made at
// all; a list that would be only as strong as its weakest recipient against a
// quantum computer is refused when it is made, not at the first key; nothing
// here can open a file or starts a program. It is the half of the envelope
// that the generator links, so what it imports is part of the promise, and a
// test lists what it must never reach. The other half is package unseal.
//
// It trusts filippo.io/age for the envelope and crypto/hpke for the tagged
// recipients, and whoever calls it to hand over the right body for a binding.
//
// What stays in memory: Seal wipes the one plaintext buffer it makes. Inside
// age the file key, the payload key and the cipher's state are garbage that
// nobody can wipe. age's STREAM writer copies the plaintext into its own
// buffer and encrypts it there in place; if that buffer has no room left for
// the 16-byte tag it moves first, and the plaintext stays behind until the
// garbage collector reuses the page. Hence the generator is a process that
// ends soon, cannot be dumped and does not swap.
package seal

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"filippo.io/age"

	"github.com/stakeseal/stakeseal/secret"
)

// Limits. A whole plaintext fits age's first STREAM chunk of 64 KiB, so that
// an opener authenticates all of it before it sees the first byte.
const (
	MaxBody       = 32 << 10  // bytes of a body
	MaxRecipients = 20        // of one list
	MaxFile       = 128 << 10 // bytes of a sealed file: 20 post-quantum stanzas take 35 KiB
)

// Sentinels; compare with errors.Is.
var (
	// ErrRecipient: a text or key that this package does not seal to.
	ErrRecipient = errors.New("not a recipient to seal to")
	// ErrMixed: recipients that must not share a file.
	ErrMixed = errors.New("recipients can't share a sealing")
	// ErrBinding: a binding with a missing or malformed field, or one of
	// another purpose.
	ErrBinding = errors.New("malformed binding")
	// ErrSize: an empty or oversized body, or an oversized file.
	ErrSize = errors.New("size out of bounds")
)

// Recipient is a public key to seal to, not yet bound to a file. Bind is
// called anew for each file, so that a recipient whose key management can
// authenticate facts (the encryption context of AWS KMS) receives them; plain
// age keys ignore the binding. String is the key as text, in the one form that
// is compared for duplicates and recorded in certificates.
//
// NewRecipients makes one trial wrap of a throw-away file key, through a
// binding of the network and order "trial". A recipient that asks somebody
// else to wrap implements Labelled, which is never tried.
type Recipient interface {
	Bind(ctx context.Context, b Binding) age.Recipient
	String() string
}

// Labelled is a Recipient that is as strong as whatever list it is in, so it
// goes with post-quantum and with classic recipients: a symmetric key held by
// a service. age demands equal labels of all recipients of a file; the list
// passes down the labels that its other recipients agree on (none if there are
// no others), and BindLabels must return an age.RecipientWithLabels that
// returns exactly these. Bind is not called on it.
type Labelled interface {
	Recipient
	BindLabels(ctx context.Context, b Binding, labels []string) age.Recipient
}

// Named is a recipient with the name that settings and records know it by.
type Named struct {
	Name string // [a-z0-9][a-z0-9._-]{0,63}
	Recipient
}

// Recipients is a checked list of recipients for one purpose. The zero value
// and nil seal nothing. It is safe for concurrent use if its recipients are.
type Recipients struct {
	purpose Purpose
	list    []Named
	labels  []string // what every recipient that is not Labelled returned
}

var nameShape = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{0,63}$`)

// NewRecipients checks a list. Errors: ErrMixed with the names on either side
// when post-quantum and classic recipients (or any differing age labels) stand
// together; ErrRecipient for none, too many, duplicates by name or key, a
// passphrase, or a key that a trial wrap fails on.
func NewRecipients(purpose Purpose, list ...Named) (*Recipients, error) {
	if !purpose.known() {
		return nil, fmt.Errorf("%w: unknown purpose %q", ErrBinding, clip(string(purpose)))
	}
	if len(list) == 0 {
		return nil, fmt.Errorf("%w: no %s recipient", ErrRecipient, purpose)
	}
	if len(list) > MaxRecipients {
		return nil, fmt.Errorf("%w: %d %s recipients, at most %d", ErrRecipient, len(list), purpose, MaxRecipients)
	}
	names, keys := map[string]bool{}, map[string]string{}
	for _, n := range list {
		if !nameShape.MatchString(n.Name) {
			return nil, fmt.Errorf("%w: name %q is not of [a-z0-9._-], 1 to 64 characters, beginning with a letter or digit", ErrRecipient, clip(n.Name))
		}
		if n.Recipient == nil {
			return nil, fmt.Errorf("%w: %s has no key", ErrRecipient, n.Name)
		}
		if names[n.Name] {
			return nil, fmt.Errorf("%w: %s is listed twice", ErrRecipient, n.Name)
		}
		// Two names for one key would count as two holders when there is one.
		key := n.String()
		if first, ok := keys[key]; ok {
			return nil, fmt.Errorf("%w: %s and %s are the same key", ErrRecipient, first, n.Name)
		}
		names[n.Name], keys[key] = true, n.Name
	}

	r := &Recipients{purpose: purpose, list: slices.Clone(list)}
	sides := map[string][]string{} // labels in words -> names
	for _, n := range list {
		if _, ok := n.Recipient.(Labelled); ok {
			continue
		}
		labels, err := trial(n.Recipient, purpose)
		if err != nil {
			return nil, fmt.Errorf("%w: couldn't wrap a key for %s: %w", ErrRecipient, n.Name, err)
		}
		side := strength(labels)
		sides[side] = append(sides[side], n.Name)
		r.labels = labels
	}
	if len(sides) > 1 {
		return nil, mixed(sides)
	}
	return r, nil
}

// trial wraps a throw-away key and returns the sorted labels. What a type says
// about itself is not asked: age compares what the wrap returns.
func trial(r Recipient, purpose Purpose) ([]string, error) {
	b := Binding{Purpose: purpose, Network: "trial", Order: "trial"}
	if purpose == Signing {
		b.Index, b.Subject = "0", strings.Repeat("0", 96)
	} else {
		b.Subject = "m-" + strings.Repeat("0", 16)
	}
	bound := r.Bind(context.Background(), b)
	if bound == nil {
		return nil, errors.New("it binds to nothing")
	}
	fileKey := secret.Random(16)
	defer fileKey.Wipe()
	var (
		stanzas []*age.Stanza
		labels  []string
		err     error
	)
	if l, ok := bound.(age.RecipientWithLabels); ok {
		stanzas, labels, err = l.WrapWithLabels(fileKey.Expose())
	} else {
		stanzas, err = bound.Wrap(fileKey.Expose())
	}
	if err != nil {
		return nil, err
	}
	if len(stanzas) == 0 {
		return nil, errors.New("it returned no stanza")
	}
	for _, s := range stanzas {
		if s.Type == "scrypt" {
			return nil, errors.New("a passphrase opens what it seals, so its maker could open the file")
		}
	}
	labels = slices.Clone(labels)
	slices.Sort(labels)
	return labels, nil
}

// strength puts sorted age labels into words.
func strength(labels []string) string {
	switch {
	case len(labels) == 0:
		return "classic"
	case len(labels) == 1 && labels[0] == "postquantum":
		return "post-quantum"
	}
	return fmt.Sprintf("labelled %q", labels)
}

func mixed(sides map[string][]string) error {
	var parts []string
	for side, names := range sides {
		parts = append(parts, fmt.Sprintf("%s (%s)", strings.Join(names, ", "), side))
	}
	slices.Sort(parts)
	err := fmt.Errorf("%w: %s", ErrMixed, strings.Join(parts, " and "))
	if len(sides["post-quantum"]) > 0 && len(sides["classic"]) > 0 {
		err = fmt.Errorf("%w: whoever keeps a copy could open it through the classic key with a quantum computer later", err)
	}
	return err
}

// Seal writes the binding's header and body into one age file, binary, that
// every recipient opens. The body stays the caller's to wipe and is not
// changed; what of it stays in memory, the package comment says. It fails with
// ErrBinding for a malformed binding or another purpose, and ErrSize for an
// empty body (a builder refused its input) or one above MaxBody.
func (r *Recipients) Seal(ctx context.Context, b Binding, body *secret.Bytes) ([]byte, error) {
	if r == nil || len(r.list) == 0 {
		return nil, fmt.Errorf("couldn't seal: %w: no recipient", ErrRecipient)
	}
	if b.Purpose != r.purpose {
		return nil, fmt.Errorf("couldn't seal: %w: purpose %q with the recipients for %s", ErrBinding, clip(string(b.Purpose)), r.purpose)
	}
	header, err := b.Header()
	if err != nil {
		return nil, fmt.Errorf("couldn't seal: %w", err)
	}
	if n := body.Len(); n == 0 || n > MaxBody {
		return nil, fmt.Errorf("couldn't seal: %w: a body of %d bytes, not 1 to %d", ErrSize, n, MaxBody)
	}
	bound := make([]age.Recipient, len(r.list))
	for i, n := range r.list {
		if l, ok := n.Recipient.(Labelled); ok {
			bound[i] = l.BindLabels(ctx, b, slices.Clone(r.labels))
		} else {
			bound[i] = n.Bind(ctx, b)
		}
		if bound[i] == nil {
			return nil, fmt.Errorf("couldn't seal to %s: %w: it binds to nothing", n.Name, ErrRecipient)
		}
	}
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("couldn't seal: %w", err)
	}

	plain := newBuffer(len(header) + body.Len())
	defer plain.Wipe()
	copy(plain.Expose()[copy(plain.Expose(), header):], body.Expose())

	var file bytes.Buffer
	w, err := age.Encrypt(&file, bound...)
	if err != nil {
		return nil, fmt.Errorf("couldn't seal: %w", err)
	}
	// One Write: the more writes, the more often age's buffer grows and leaves
	// a copy behind.
	if _, err := w.Write(plain.Expose()); err != nil {
		return nil, fmt.Errorf("couldn't seal: %w", err)
	}
	if err := w.Close(); err != nil {
		return nil, fmt.Errorf("couldn't seal: %w", err)
	}
	if file.Len() > MaxFile {
		return nil, fmt.Errorf("couldn't seal: %w: a file of %d bytes, at most %d", ErrSize, file.Len(), MaxFile)
	}
	return file.Bytes(), nil
}

// Names returns a copy of the list, in its order.
func (r *Recipients) Names() []Named { return slices.Clone(r.list) }

// Purpose is what the list seals for.
func (r *Recipients) Purpose() Purpose { return r.purpose }

// newBuffer makes the plaintext's buffer; a test looks into it afterwards.
var newBuffer = secret.New

// clip keeps a hostile value from filling a terminal.
func clip(s string) string {
	if len(s) > 80 {
		return s[:80] + "..."
	}
	return s
}
