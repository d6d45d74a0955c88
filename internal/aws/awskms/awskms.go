// Package awskms seals to AWS KMS keys and certifies with one: the half of KMS
// that the maker of keys may use. docs/formats/awskms.md describes the stanza
// field by field.
//
// It promises: a file key leaves only in a kms:Encrypt for the one key that the
// settings name, with the facts of the sealing as encryption context, so that
// KMS itself refuses to open it as anything else; an answer that is for another
// key, or a signature that does not verify, is an error and never part of a
// file; nothing here can open, and nothing here names the call that could (a
// test reads the sources, another the symbols of a linked program). It is
// linked into the generator. The other half is package awskmsopen.
//
// It trusts KMS to keep file keys that it is asked to wrap, and TLS to reach
// it. That the generator's role may not decrypt is the key policy's business;
// what is missing here is defence in depth.
//
// What stays in memory: this package makes no copy of a file key, but the SDK
// writes it into a request (JSON, then TLS records) that nobody can wipe.
package awskms

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"filippo.io/age"
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"github.com/stakeseal/stakeseal/internal/aws/arn"
	"github.com/stakeseal/stakeseal/internal/aws/session"
	"github.com/stakeseal/stakeseal/seal"
)

// The stanza: its type, with the key's ARN as only argument and what
// kms:Encrypt made of the file key as body.
const (
	StanzaType = "stakeseal.dev/awskms"
	MaxBlob    = 6144 // bytes of a CiphertextBlob, the limit of the KMS API
)

// Prefix stands before a key's ARN where settings name a recipient.
const Prefix = "awskms:"

const fileKeySize = 16 // age-encryption.org/v1

// Encrypter is what sealing needs of KMS. *kms.Client has it.
type Encrypter interface {
	Encrypt(ctx context.Context, in *kms.EncryptInput, o ...func(*kms.Options)) (*kms.EncryptOutput, error)
}

// Client is what the maker needs of KMS in one region.
type Client interface {
	Encrypter
	DigestSigner
}

// Dial returns a function that gives the client for a key, one for each
// region, with these credentials. It makes no call.
func Dial(c aws.CredentialsProvider, o session.Options) func(key arn.ARN) Client {
	in := session.EachRegion(c, o, func(cfg aws.Config) Client { return kms.NewFromConfig(cfg) })
	return func(key arn.ARN) Client { return in(key.Region) }
}

// Recipient is a symmetric KMS key to seal to. It is as strong as whatever
// list it is in (AES-256 under a key that never leaves KMS), so it goes with
// post-quantum and with classic recipients. It is safe for concurrent use.
type Recipient struct {
	client Encrypter
	key    arn.ARN
}

var _ seal.Labelled = (*Recipient)(nil)

// NewRecipient takes the client for the key's region. An ARN that arn.Key
// refuses (an alias, a multi-Region key) is seal.ErrRecipient.
func NewRecipient(client Encrypter, keyARN string) (*Recipient, error) {
	if client == nil {
		return nil, fmt.Errorf("%w: awskms without a client", seal.ErrRecipient)
	}
	key, err := arn.Key(keyARN)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", seal.ErrRecipient, err)
	}
	return &Recipient{client, key}, nil
}

// ParseRecipient reads awskms:KEY-ARN; anything else is seal.ErrRecipient. A
// program that only names recipients passes a nil dial: sealing to what it
// gets then fails.
func ParseRecipient(text string, dial func(key arn.ARN) Client) (*Recipient, error) {
	rest, ok := strings.CutPrefix(text, Prefix)
	if !ok {
		return nil, fmt.Errorf("%w: it does not begin with %s (not shown here: it may be a secret)", seal.ErrRecipient, Prefix)
	}
	key, err := arn.Key(rest)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", seal.ErrRecipient, err)
	}
	r := &Recipient{key: key}
	if dial != nil {
		r.client = dial(key)
	}
	return r, nil
}

// ParseRecipientFile is seal.ParseRecipientFile that also knows awskms
// recipients. dial is as in ParseRecipient.
func ParseRecipientFile(data []byte, dial func(key arn.ARN) Client) (seal.Recipient, error) {
	only, ok := onlyLine(data)
	if !ok || !strings.HasPrefix(only, Prefix) {
		return seal.ParseRecipientFile(data) // which also says what is wrong with several lines
	}
	return ParseRecipient(only, dial)
}

// onlyLine returns the one line that is neither blank nor a comment.
func onlyLine(data []byte) (only string, ok bool) {
	const limit = 64 << 10 // as in seal
	if len(data) > limit {
		return "", false
	}
	for line := range strings.SplitSeq(string(data), "\n") {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		if ok {
			return "", false
		}
		only, ok = line, true
	}
	return only, ok
}

// String is awskms: and the key's ARN.
func (r *Recipient) String() string { return Prefix + r.key.String() }

// Bind is BindLabels for a list of which nothing is known: classic.
func (r *Recipient) Bind(ctx context.Context, b seal.Binding) age.Recipient {
	return r.BindLabels(ctx, b, nil)
}

// BindLabels binds the key to one sealing. Wrapping makes one call, which ctx
// ends.
func (r *Recipient) BindLabels(ctx context.Context, b seal.Binding, labels []string) age.Recipient {
	return &bound{ctx, r, b, labels}
}

type bound struct {
	ctx     context.Context
	to      *Recipient
	binding seal.Binding
	labels  []string
}

var _ age.RecipientWithLabels = (*bound)(nil)

// Wrap drops the labels, which age asks for through WrapWithLabels.
func (b *bound) Wrap(fileKey []byte) ([]*age.Stanza, error) {
	s, _, err := b.WrapWithLabels(fileKey)
	return s, err
}

// WrapWithLabels has KMS encrypt the file key.
func (b *bound) WrapWithLabels(fileKey []byte) ([]*age.Stanza, []string, error) {
	blob, err := b.encrypt(fileKey)
	if err != nil {
		return nil, nil, fmt.Errorf("couldn't wrap the file key for %s: %w", b.to, err)
	}
	return []*age.Stanza{{Type: StanzaType, Args: []string{b.to.key.String()}, Body: blob}}, b.labels, nil
}

func (b *bound) encrypt(fileKey []byte) ([]byte, error) {
	const operation = "kms:Encrypt"
	if b.to.client == nil {
		return nil, errors.New("this program only names the key and has no client to seal with")
	}
	if len(fileKey) != fileKeySize {
		return nil, fmt.Errorf("a file key of %d bytes, not %d", len(fileKey), fileKeySize)
	}
	// The context stands in AWS's trail in the clear: nothing that is not
	// known to be public may get there.
	if err := b.binding.Check(); err != nil {
		return nil, err
	}
	key := b.to.key.String()
	out, err := b.to.client.Encrypt(b.ctx, &kms.EncryptInput{
		KeyId:               &key,
		Plaintext:           fileKey,
		EncryptionAlgorithm: types.EncryptionAlgorithmSpecSymmetricDefault,
		EncryptionContext:   b.binding.Context(),
	})
	if err != nil {
		return nil, session.Classify(operation, err)
	}
	id := session.RequestID(out.ResultMetadata)
	if got := aws.ToString(out.KeyId); got != key {
		return nil, session.Malformed(operation, id, "it answered for key %q", got)
	}
	// The API's model lets an answer leave it out.
	if got := out.EncryptionAlgorithm; got != "" && got != types.EncryptionAlgorithmSpecSymmetricDefault {
		return nil, session.Malformed(operation, id, "it encrypted with %q", got)
	}
	if n := len(out.CiphertextBlob); n <= fileKeySize || n > MaxBlob {
		return nil, session.Malformed(operation, id, "it answered with a ciphertext of %d bytes", n)
	}
	return out.CiphertextBlob, nil
}
