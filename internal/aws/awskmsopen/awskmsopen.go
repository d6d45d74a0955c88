// Package awskmsopen opens what package awskms sealed. docs/formats/awskms.md
// describes the stanza field by field.
//
// It promises: the key to ask comes from the opener's own settings and never
// from the file, so a file can neither spend another key's rights nor send its
// file key to another account; KMS is given what the caller wants the file to
// be as encryption context, so a sealing that was moved to another index,
// order, network or purpose is refused by KMS before this process sees a byte
// of it; an answer for another key is an error.
//
// It trusts KMS, TLS to reach it, and whoever hands it credentials. Which
// purposes these may open is decided by the key's policy.
//
// What stays in memory: the SDK reads the file key out of a response (TLS
// records, then JSON) that nobody can wipe. The key that Unwrap returns is
// wiped by Wipe of the bound identity.
//
// The generator must never import this package.
package awskmsopen

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"filippo.io/age"
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"github.com/stakeseal/stakeseal/internal/aws/arn"
	"github.com/stakeseal/stakeseal/internal/aws/awskms"
	"github.com/stakeseal/stakeseal/internal/aws/session"
	"github.com/stakeseal/stakeseal/seal"
	"github.com/stakeseal/stakeseal/secret"
	"github.com/stakeseal/stakeseal/unseal"
)

// Classes of errors beside those of session.
var (
	// ErrContext: KMS does not open it as what was asked for. It was sealed as
	// something else, or the stanza was changed: KMS does not say which.
	ErrContext = errors.New("not sealed as what was asked for, or changed since")
	// ErrStanza: a stanza that awskms does not write.
	ErrStanza = errors.New("malformed awskms stanza")
)

const fileKeySize = 16 // age-encryption.org/v1

// Decrypter is what opening needs of KMS. *kms.Client has it.
type Decrypter interface {
	Decrypt(ctx context.Context, in *kms.DecryptInput, o ...func(*kms.Options)) (*kms.DecryptOutput, error)
}

// Dial returns a function that gives the client for a key, one for each
// region, with these credentials. It makes no call.
func Dial(c aws.CredentialsProvider, o session.Options) func(key arn.ARN) Decrypter {
	in := session.EachRegion(c, o, func(cfg aws.Config) Decrypter { return kms.NewFromConfig(cfg) })
	return func(key arn.ARN) Decrypter { return in(key.Region) }
}

// Identity opens with one or more KMS keys. It is safe for concurrent use.
type Identity struct {
	keys []ownKey
	hear func(want seal.Binding, requestID string)
}

type ownKey struct {
	arn    string
	client Decrypter
}

var _ unseal.Identity = (*Identity)(nil)

// NewIdentity takes the ARNs of the keys to open with, in the order to try
// them, and the clients to ask. Give keys of several regions to one Identity:
// it goes on to the next key when a region fails, while unseal stops at an
// identity that failed. An ARN that arn.Key refuses is arn.ErrARN.
func NewIdentity(dial func(key arn.ARN) Decrypter, keyARNs ...string) (*Identity, error) {
	if dial == nil || len(keyARNs) == 0 || len(keyARNs) > seal.MaxRecipients {
		return nil, fmt.Errorf("couldn't make an awskms identity of %d keys: it takes 1 to %d, and clients", len(keyARNs), seal.MaxRecipients)
	}
	id := &Identity{}
	for _, text := range keyARNs {
		key, err := arn.Key(text)
		if err != nil {
			return nil, fmt.Errorf("couldn't make an awskms identity: %w", err)
		}
		if slices.ContainsFunc(id.keys, func(k ownKey) bool { return k.arn == text }) {
			return nil, fmt.Errorf("couldn't make an awskms identity: %w: %s twice", arn.ErrARN, text)
		}
		client := dial(key)
		if client == nil {
			return nil, fmt.Errorf("couldn't make an awskms identity: no client for %s", text)
		}
		id.keys = append(id.keys, ownKey{text, client})
	}
	return id, nil
}

// String names the keys.
func (id *Identity) String() string {
	names := make([]string, len(id.keys))
	for i, k := range id.keys {
		names[i] = awskms.Prefix + k.arn
	}
	return strings.Join(names, ", ")
}

// Hear has f told of every Decrypt that succeeded: of what it opened, and AWS's
// id of the request, which names the event in the trail. It is set before the
// first opening, and called by whoever opens, several at once.
func (id *Identity) Hear(f func(want seal.Binding, requestID string)) { id.hear = f }

// Bind binds the keys to one opening. Unwrapping makes at most one call for
// each key, which ctx ends.
func (id *Identity) Bind(ctx context.Context, want seal.Binding) age.Identity {
	return &Bound{ctx: ctx, id: id, want: want}
}

// Bound is an Identity bound to one opening.
type Bound struct {
	ctx  context.Context
	id   *Identity
	want seal.Binding
	keys [][]byte // handed out
}

// Wipe overwrites the file keys that Unwrap returned; whoever used them has
// no more use for them.
func (b *Bound) Wipe() {
	for _, key := range b.keys {
		secret.Wipe(key)
	}
	b.keys = nil
}

// Unwrap returns age.ErrIncorrectIdentity when no stanza names a key of ours,
// and otherwise the file key or what went wrong with each key that was named.
func (b *Bound) Unwrap(stanzas []*age.Stanza) ([]byte, error) {
	blobs, err := read(stanzas)
	if err != nil {
		return nil, err
	}
	var failures []error
	for _, k := range b.id.keys {
		blob, named := blobs[k.arn]
		if !named {
			continue
		}
		key, err := b.decrypt(k, blob)
		if err == nil {
			b.keys = append(b.keys, key)
			return key, nil
		}
		failures = append(failures, fmt.Errorf("%s: %w", k.arn, err))
		if b.ctx.Err() != nil {
			break
		}
	}
	if failures == nil {
		return nil, age.ErrIncorrectIdentity
	}
	return nil, errors.Join(failures...)
}

// read returns the ciphertext of each key that a stanza names. A key named
// twice, which seal refuses to write, would let a file cost one call for each
// of many stanzas.
func read(stanzas []*age.Stanza) (map[string][]byte, error) {
	blobs := map[string][]byte{}
	for _, s := range stanzas {
		if s.Type != awskms.StanzaType {
			continue
		}
		if len(s.Args) != 1 || len(s.Body) <= fileKeySize || len(s.Body) > awskms.MaxBlob {
			return nil, fmt.Errorf("%w: %d arguments and %d bytes", ErrStanza, len(s.Args), len(s.Body))
		}
		if _, err := arn.Key(s.Args[0]); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrStanza, err)
		}
		if _, twice := blobs[s.Args[0]]; twice {
			return nil, fmt.Errorf("%w: %s twice", ErrStanza, s.Args[0])
		}
		blobs[s.Args[0]] = s.Body
	}
	return blobs, nil
}

func (b *Bound) decrypt(k ownKey, blob []byte) (key []byte, err error) {
	const operation = "kms:Decrypt"
	if err := b.want.Check(); err != nil {
		return nil, err
	}
	out, err := k.client.Decrypt(b.ctx, &kms.DecryptInput{
		KeyId:               &k.arn, // ours: without it KMS takes the one that the ciphertext names
		CiphertextBlob:      blob,
		EncryptionAlgorithm: types.EncryptionAlgorithmSpecSymmetricDefault,
		EncryptionContext:   b.want.Context(),
	})
	if err != nil {
		var ciphertext *types.InvalidCiphertextException
		var other *types.IncorrectKeyException
		if errors.As(err, &ciphertext) || errors.As(err, &other) {
			// A sound answer about the file: neither a failure of the service
			// nor a refusal of the caller.
			var fault *session.Fault
			errors.As(session.Classify(operation, err), &fault)
			return nil, fmt.Errorf("%w (%s: %s, request %s)", ErrContext, operation, fault.Code, fault.RequestID)
		}
		return nil, session.Classify(operation, err)
	}
	defer func() {
		if err != nil {
			secret.Wipe(out.Plaintext)
		}
	}()
	id := session.RequestID(out.ResultMetadata)
	if b.id.hear != nil { // whatever becomes of it: KMS gave the key away
		b.id.hear(b.want, id)
	}
	if got := aws.ToString(out.KeyId); got != k.arn {
		return nil, session.Malformed(operation, id, "it answered for key %q", got)
	}
	// The API's model lets an answer leave it out.
	if got := out.EncryptionAlgorithm; got != "" && got != types.EncryptionAlgorithmSpecSymmetricDefault {
		return nil, session.Malformed(operation, id, "it decrypted with %q", got)
	}
	if n := len(out.Plaintext); n != fileKeySize {
		// KMS authenticates what it decrypts: whoever sealed it sealed this.
		return nil, fmt.Errorf("%w: it holds %d bytes, not a file key", ErrStanza, n)
	}
	return out.Plaintext, nil
}
