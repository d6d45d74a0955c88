package awskms

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"github.com/stakeseal/stakeseal/certificate"
	"github.com/stakeseal/stakeseal/internal/aws/arn"
	"github.com/stakeseal/stakeseal/internal/aws/session"
)

// DigestSigner is what certifying needs of KMS. *kms.Client has it.
type DigestSigner interface {
	Sign(ctx context.Context, in *kms.SignInput, o ...func(*kms.Options)) (*kms.SignOutput, error)
	GetPublicKey(ctx context.Context, in *kms.GetPublicKeyInput, o ...func(*kms.Options)) (*kms.GetPublicKeyOutput, error)
}

// Certifier is a certifying key in KMS: ECC_NIST_P256, ECDSA with sha256. It is
// safe for concurrent use.
type Certifier struct {
	client DigestSigner
	key    string
	public certificate.PublicKey
}

var _ certificate.Signer = (*Certifier)(nil)

// NewCertifier asks KMS once for the public key, which names the key in every
// certificate, and refuses one of another kind. It is believed here only to
// notice wrong signatures: what a verifier believes stands in its trust file.
func NewCertifier(ctx context.Context, client DigestSigner, keyARN string) (*Certifier, error) {
	const operation = "kms:GetPublicKey"
	if client == nil {
		return nil, errors.New("couldn't read certifying key: no client")
	}
	key, err := arn.Key(keyARN)
	if err != nil {
		return nil, fmt.Errorf("couldn't read certifying key: %w", err)
	}
	c := &Certifier{client: client, key: key.String()}
	out, err := client.GetPublicKey(ctx, &kms.GetPublicKeyInput{KeyId: &c.key})
	if err != nil {
		return nil, fmt.Errorf("couldn't read certifying key: %w", session.Classify(operation, err))
	}
	refuse := func(format string, args ...any) (*Certifier, error) {
		return nil, fmt.Errorf("couldn't read certifying key: %w", session.Malformed(operation, session.RequestID(out.ResultMetadata), format, args...))
	}
	if got := aws.ToString(out.KeyId); got != c.key {
		return refuse("it answered for key %q", got)
	}
	if out.KeySpec != types.KeySpecEccNistP256 || out.KeyUsage != types.KeyUsageTypeSignVerify ||
		!slices.Contains(out.SigningAlgorithms, types.SigningAlgorithmSpecEcdsaSha256) {
		return refuse("%s is a key %q for %q: certifying takes ECC_NIST_P256 for SIGN_VERIFY", c.key, out.KeySpec, out.KeyUsage)
	}
	public, err := x509.ParsePKIXPublicKey(out.PublicKey)
	if err != nil {
		return refuse("its public key is malformed")
	}
	if c.public, err = certificate.NewPublicKey(public); err != nil {
		return refuse("its public key is not on P-256")
	}
	return c, nil
}

// Public is the public key, as it goes into trust files.
func (c *Certifier) Public() certificate.PublicKey { return c.public }

// KeyID is certificate.PublicKey.ID: the sha256 of the SubjectPublicKeyInfo.
func (c *Certifier) KeyID() (string, error) {
	if id := c.public.ID(); id != "" {
		return id, nil
	}
	return "", errors.New("no certifying key") // the zero value
}

// Sign signs a DSSE PAE: ECDSA over its sha256, ASN.1 DER.
func (c *Certifier) Sign(ctx context.Context, data []byte) ([]byte, error) {
	sig, _, err := c.SignRequest(ctx, data)
	return sig, err
}

// SignRequest is Sign that also returns AWS's id of the request. The trail's
// event of a kms:Sign does not say what was signed: the id beside the record is
// what joins the two. The digest is sent, not the data (MessageType DIGEST): a
// certificate may outgrow the 4096 bytes that kms:Sign takes. A signature that
// does not verify is an error.
func (c *Certifier) SignRequest(ctx context.Context, data []byte) (sig []byte, id string, err error) {
	const operation = "kms:Sign"
	if _, err := c.KeyID(); err != nil {
		return nil, "", fmt.Errorf("couldn't sign: %w", err)
	}
	digest := sha256.Sum256(data)
	out, err := c.client.Sign(ctx, &kms.SignInput{
		KeyId:            &c.key,
		Message:          digest[:],
		MessageType:      types.MessageTypeDigest,
		SigningAlgorithm: types.SigningAlgorithmSpecEcdsaSha256,
	})
	if err != nil {
		return nil, "", fmt.Errorf("couldn't sign: %w", session.Classify(operation, err))
	}
	id = session.RequestID(out.ResultMetadata)
	switch got := aws.ToString(out.KeyId); {
	case got != c.key:
		err = session.Malformed(operation, id, "it answered for key %q", got)
	case out.SigningAlgorithm != types.SigningAlgorithmSpecEcdsaSha256:
		err = session.Malformed(operation, id, "it signed with %q", out.SigningAlgorithm)
	case !c.public.Verify(data, out.Signature):
		err = session.Malformed(operation, id, "its signature does not verify with the key's public half")
	}
	if err != nil {
		return nil, "", fmt.Errorf("couldn't sign: %w", err)
	}
	return out.Signature, id, nil
}
