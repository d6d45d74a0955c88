package sample

import (
	"context"
	"errors"
	"fmt"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"github.com/stakeseal/stakeseal/internal/aws/arn"
	"github.com/stakeseal/stakeseal/internal/aws/session"
	"github.com/stakeseal/stakeseal/secret"
)

// Decrypter is what opening needs of KMS. *kms.Client has it.
type Decrypter interface {
	Decrypt(ctx context.Context, in *kms.DecryptInput, o ...func(*kms.Options)) (*kms.DecryptOutput, error)
}

// Opener opens rows with the sample's KMS key. It is safe for concurrent use.
type Opener struct {
	client Decrypter
	key    string
}

// NewOpener takes the ARN of the key, of which the client's credentials must
// have kms:Decrypt.
func NewOpener(client Decrypter, keyARN string) (*Opener, error) {
	if client == nil {
		return nil, errors.New("couldn't use the sample's key: no client")
	}
	if _, err := arn.Key(keyARN); err != nil {
		return nil, fmt.Errorf("couldn't use the sample's key: %w", err)
	}
	return &Opener{client, keyARN}, nil
}

// Open opens a row's ciphertext. It is ErrRow if the key does not open it (it
// was changed, or is of another key) or what it holds is not what the sample
// seals; a denial or a failure of KMS is one of package session's, and says
// nothing about the row. The caller wipes the secret.
func (o *Opener) Open(ctx context.Context, row Row) (*Secret, error) {
	const operation = "kms:Decrypt"
	out, err := o.client.Decrypt(ctx, &kms.DecryptInput{
		// Named, and not taken from the ciphertext: whoever can write the
		// table could put one of a key of their own there.
		KeyId:               &o.key,
		CiphertextBlob:      row.Blob,
		EncryptionAlgorithm: types.EncryptionAlgorithmSpecSymmetricDefault,
	})
	if err != nil {
		var ciphertext *types.InvalidCiphertextException
		var other *types.IncorrectKeyException
		fault := session.Classify(operation, err)
		if errors.As(err, &ciphertext) || errors.As(err, &other) {
			var f *session.Fault
			errors.As(fault, &f)
			return nil, fmt.Errorf("%w: the KMS key does not open it (%s, request %s): it was changed, or is of another key", ErrRow, f.Code, f.RequestID)
		}
		return nil, fault
	}
	plain := secret.Take(out.Plaintext)
	defer plain.Wipe()
	if got := aws.ToString(out.KeyId); got != o.key {
		return nil, session.Malformed(operation, session.RequestID(out.ResultMetadata), "it answered for key %q", got)
	}
	return parse(plain)
}
