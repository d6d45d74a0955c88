package awstest

import (
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"maps"
	"net/http"
	"slices"

	"github.com/stakeseal/stakeseal/internal/aws/awstest/call"
)

// aad is the encryption context in one spelling: each name and value behind
// its length, in the order of the names.
func aad(context map[string]string) []byte {
	var b []byte
	for _, name := range slices.Sorted(maps.Keys(context)) {
		for _, s := range []string{name, context[name]} {
			b = append(binary.BigEndian.AppendUint32(b, uint32(len(s))), s...)
		}
	}
	return b
}

// A ciphertext is the length and text of its key's ARN, a nonce and a box.
func (k *Keys) encrypt(by key, in input) (map[string]any, *call.Failure) {
	if by.Spec != Symmetric || in.EncryptionAlgorithm != string(Symmetric) {
		return nil, call.Refuse("InvalidKeyUsageException", "%s is for %s, not for %q", by.arn, by.Spec, in.EncryptionAlgorithm)
	}
	if n := len(in.Plaintext); n == 0 || n > maxPlain || in.CiphertextBlob != nil || in.Message != nil {
		return nil, call.Refuse("ValidationException", "a plaintext of %d bytes, not 1 to %d", n, maxPlain)
	}
	nonce := random(by.aead.NonceSize())
	blob := append([]byte{byte(len(by.arn))}, by.arn...)
	blob = by.aead.Seal(append(blob, nonce...), nonce, in.Plaintext, aad(in.EncryptionContext))
	return map[string]any{"CiphertextBlob": blob, "KeyId": by.arn, "EncryptionAlgorithm": by.Spec}, nil
}

func (k *Keys) decrypt(by key, in input) (map[string]any, *call.Failure) {
	if by.Spec != Symmetric || in.EncryptionAlgorithm != string(Symmetric) {
		return nil, call.Refuse("InvalidKeyUsageException", "%s is for %s, not for %q", by.arn, by.Spec, in.EncryptionAlgorithm)
	}
	if len(in.DryRunModifiers) > 0 {
		if !in.DryRun || !slices.Equal(in.DryRunModifiers, []string{"IGNORE_CIPHERTEXT"}) || in.CiphertextBlob != nil {
			return nil, call.Refuse("ValidationException", "modifiers %q of a dry run", in.DryRunModifiers)
		}
		return nil, nil // the right was all that was asked for
	}
	blob := in.CiphertextBlob
	if len(blob) < 1 || len(blob) < 1+int(blob[0])+by.aead.NonceSize() {
		return nil, call.Refuse("InvalidCiphertextException", "")
	}
	name, rest := string(blob[1:1+blob[0]]), blob[1+blob[0]:]
	if name != by.arn {
		if _, there := k.named(name); !there {
			return nil, call.Refuse("InvalidCiphertextException", "")
		}
		return nil, call.Refuse("IncorrectKeyException", "The key ID in the request does not identify a CMK that can perform this operation.")
	}
	plain, err := by.aead.Open(nil, rest[:by.aead.NonceSize()], rest[by.aead.NonceSize():], aad(in.EncryptionContext))
	if err != nil {
		return nil, call.Refuse("InvalidCiphertextException", "")
	}
	return map[string]any{"Plaintext": plain, "KeyId": by.arn, "EncryptionAlgorithm": by.Spec}, nil
}

func (k *Keys) sign(by key, in input) (map[string]any, *call.Failure) {
	if by.Spec != P256 || in.SigningAlgorithm != "ECDSA_SHA_256" {
		return nil, call.Refuse("InvalidKeyUsageException", "%s (%s) does not sign with %q", by.arn, by.Spec, in.SigningAlgorithm)
	}
	digest := in.Message
	switch {
	case in.MessageType == "DIGEST" && len(in.Message) == sha256.Size:
	case in.MessageType == "RAW" && len(in.Message) > 0 && len(in.Message) <= maxPlain:
		sum := sha256.Sum256(in.Message)
		digest = sum[:]
	default:
		return nil, call.Refuse("ValidationException", "a message of type %q and %d bytes", in.MessageType, len(in.Message))
	}
	sig, err := ecdsa.SignASN1(rand.Reader, by.private, digest)
	if err != nil {
		return nil, call.Fail(http.StatusInternalServerError, "KMSInternalException", "%v", err)
	}
	return map[string]any{"KeyId": by.arn, "Signature": sig, "SigningAlgorithm": in.SigningAlgorithm}, nil
}

func rsaPublicKey() ([]byte, error) {
	private, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return nil, errors.Join(errors.New("couldn't make an RSA key"), err)
	}
	return spki(private.Public())
}
