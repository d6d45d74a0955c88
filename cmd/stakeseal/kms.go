package main

import (
	"bytes"
	"context"
	"errors"
	"os"
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/kms"

	"github.com/stakeseal/stakeseal/internal/aws/arn"
	"github.com/stakeseal/stakeseal/internal/aws/awskms"
	"github.com/stakeseal/stakeseal/internal/aws/awskmsopen"
	"github.com/stakeseal/stakeseal/internal/aws/ops"
	"github.com/stakeseal/stakeseal/internal/aws/session"
	"github.com/stakeseal/stakeseal/seal"
	"github.com/stakeseal/stakeseal/unseal"
)

// parseRecipient reads a recipient file of either kind. What it returns only
// names a KMS key: this program seals nothing.
func parseRecipient(file []byte) (seal.Recipient, error) {
	return awskms.ParseRecipientFile(file, nil)
}

// kmsLines reads --identity awskms:ARN, or a file that holds such lines; ok is
// false for a file of another kind. Such a file is no secret: who may open is
// the key policy's business.
func kmsLines(word string) (keys []string, ok bool, err error) {
	if rest, ok := strings.CutPrefix(word, awskms.Prefix); ok {
		_, err := arn.Key(rest)
		return []string{rest}, true, err
	}
	// Any other file is a secret, and a pipe would be empty for its reader:
	// whoever reads identities says what is wrong.
	if info, err := os.Stat(word); err != nil || !info.Mode().IsRegular() {
		return nil, false, nil
	}
	f, err := os.Open(word)
	if err != nil {
		return nil, false, nil
	}
	defer f.Close()
	data, err := readWhole(f, "identity file", 1<<20)
	if err != nil {
		return nil, false, nil
	}
	defer data.Wipe()
	for line := range bytes.SplitSeq(data.Expose(), []byte("\n")) {
		line = bytes.TrimSpace(line)
		if len(line) == 0 || line[0] == '#' {
			continue
		}
		rest, isKey := bytes.CutPrefix(line, []byte(awskms.Prefix))
		if !isKey {
			if len(keys) > 0 {
				return nil, true, usage("keep identities of different kinds in files of their own", "%s: beside %s lines it holds one of another kind", word, awskms.Prefix)
			}
			return nil, false, nil
		}
		if _, err := arn.Key(string(rest)); err != nil {
			return nil, true, usage("one line for each key: awskms:KEY-ARN", "%s: %w", word, err)
		}
		keys = append(keys, string(rest))
	}
	return keys, len(keys) > 0, nil
}

// kmsKeys makes the identities of KMS keys, each of its own, so that a drill
// proves each. In a home on AWS they are asked with the home's caller;
// elsewhere (a bundle) the first key's account is the one that the
// credentials must be of.
func (a *app) kmsKeys(ctx context.Context, h *home, texts []string) (list []key, err error) {
	if a.openings == nil {
		a.openings = &openings{}
	}
	for _, text := range texts {
		k, err := arn.Key(text)
		if err != nil {
			return nil, err
		}
		account, err := a.account(ctx, ops.PlaceOf(k))
		if err != nil {
			return nil, err
		}
		r := &rights{caller: account.Caller}
		if h != nil && h.rights != nil {
			r = h.rights
		}
		id, err := awskmsopen.NewIdentity(func(k arn.ARN) awskmsopen.Decrypter {
			return &guardedKey{kms.NewFromConfig(account.Config(k.Region)), r}
		}, text)
		if err != nil {
			return nil, err
		}
		id.Hear(a.openings.hear(awskms.Prefix + text))
		list = append(list, key{public: awskms.Prefix + text, text: id.String(), opener: unseal.NewOpener(id)})
	}
	return list, nil
}

// guardedKey is a KMS client with denials explained.
type guardedKey struct {
	awskmsopen.Decrypter
	rights *rights
}

// Decrypt implements awskmsopen.Decrypter.
func (g *guardedKey) Decrypt(ctx context.Context, in *kms.DecryptInput, o ...func(*kms.Options)) (*kms.DecryptOutput, error) {
	out, err := g.Decrypter.Decrypt(ctx, in, o...)
	if err == nil {
		return out, nil
	}
	what, role := "open signing keys", "signer"
	if in.EncryptionContext["purpose"] == string(seal.Recovery) {
		what, role = "open mnemonics", "recovery"
	}
	var f *failure
	if errors.As(g.rights.explain(session.Classify("kms:Decrypt", err), what, []string{role}), &f) {
		return out, f
	}
	return out, err // the SDK's own, whose types awskmsopen tells apart
}
