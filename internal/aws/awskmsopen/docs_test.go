package awskmsopen_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"

	"github.com/stakeseal/stakeseal/internal/aws/arn"
	"github.com/stakeseal/stakeseal/internal/aws/awskmsopen"
	"github.com/stakeseal/stakeseal/internal/aws/awstest"
	"github.com/stakeseal/stakeseal/seal"
	"github.com/stakeseal/stakeseal/unseal"
)

const exampleKey = "arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab"

func example(t *testing.T) (file, fileKey []byte, binding seal.Binding) {
	t.Helper()
	file, err := base64.StdEncoding.DecodeString(strings.ReplaceAll(documented(t, "base64"), "\n", ""))
	if err != nil {
		t.Fatal(err)
	}
	fileKey, err = hex.DecodeString(strings.TrimSpace(documented(t, "file-key")))
	if err != nil {
		t.Fatal(err)
	}
	var c map[string]string
	if err := json.Unmarshal([]byte(documented(t, "json")), &c); err != nil {
		t.Fatal(err)
	}
	binding = seal.Binding{Purpose: seal.Purpose(c["purpose"]), Network: c["network"], Order: c["order"], Index: c["index"], Subject: c["pubkey"]}
	if !maps.Equal(c, binding.Context()) {
		t.Fatalf("the documented context is not the binding's: %v", c)
	}
	return file, fileKey, binding
}

// documentedKMS answers for the example's stanza only.
type documentedKMS struct {
	blob, fileKey []byte
	context       map[string]string
}

func (d documentedKMS) Decrypt(_ context.Context, in *kms.DecryptInput, _ ...func(*kms.Options)) (*kms.DecryptOutput, error) {
	out := &kms.DecryptOutput{KeyId: in.KeyId, EncryptionAlgorithm: in.EncryptionAlgorithm, Plaintext: make([]byte, 16)}
	if bytes.Equal(in.CiphertextBlob, d.blob) && maps.Equal(in.EncryptionContext, d.context) && aws.ToString(in.KeyId) == exampleKey {
		copy(out.Plaintext, d.fileKey)
	}
	return out, nil
}

// The documented example is what this program reads.
func TestDocumentedExample(t *testing.T) {
	file, fileKey, binding := example(t)
	if !bytes.HasPrefix(file, []byte(documented(t, "header"))) {
		t.Error("the documented header is another one")
	}
	stanzas := stanzasOf(t, file)
	if len(stanzas) != 1 || len(stanzas[0].Body) != 152 {
		t.Fatalf("stanzas %+v", stanzas)
	}
	id, err := awskmsopen.NewIdentity(func(arn.ARN) awskmsopen.Decrypter {
		return documentedKMS{stanzas[0].Body, fileKey, binding.Context()}
	}, exampleKey)
	if err != nil {
		t.Fatal(err)
	}
	body, err := unseal.NewOpener(id).Open(t.Context(), file, binding)
	if err != nil {
		t.Fatal(err)
	}
	header, err := binding.Header()
	if err != nil {
		t.Fatal(err)
	}
	if header+string(body.Expose()) != documented(t, "plaintext") {
		t.Error("the plaintext is another one")
	}
}

// The documented script opens what this program seals; the AWS command line
// tool in the middle is in TestMoto of awstest. With STAKESEAL_PYTHON=required
// the absence of the package cryptography is a failure.
func TestDocumentedScript(t *testing.T) {
	if out, err := exec.Command("python3", "-c", "import cryptography").CombinedOutput(); err != nil {
		if os.Getenv("STAKESEAL_PYTHON") == "required" {
			t.Fatalf("no python3 with cryptography: %v, %s", err, out)
		}
		t.Skip("no python3 with the package cryptography")
	}
	folder := t.TempDir()
	script := filepath.Join(folder, "open.py")
	if err := os.WriteFile(script, []byte(documented(t, "python")), 0o600); err != nil {
		t.Fatal(err)
	}
	run := func(stdin []byte, args ...string) ([]byte, error) {
		cmd := exec.Command("python3", append([]string{"-B", script}, args...)...)
		cmd.Stdin = bytes.NewReader(stdin)
		return cmd.Output()
	}
	write := func(data []byte) string {
		name := filepath.Join(folder, "sealed.age")
		if err := os.WriteFile(name, data, 0o600); err != nil {
			t.Fatal(err)
		}
		return name
	}

	file, fileKey, _ := example(t)
	name := write(file)
	blob, err := run(nil, "blob", name, exampleKey)
	if err != nil || !bytes.Equal(blob, stanzasOf(t, file)[0].Body) {
		t.Errorf("blob: %x, %v", blob, err)
	}
	if other, err := run(nil, "blob", name, exampleKey[:len(exampleKey)-1]+"0"); err != nil || len(other) != 0 {
		t.Errorf("another key's blob: %x, %v", other, err)
	}
	text, err := run(fileKey, "text", name)
	if err != nil || string(text) != documented(t, "plaintext") {
		t.Errorf("text: %q, %v", text, err)
	}
	fileKey[0] ^= 1
	if text, err := run(fileKey, "text", name); err == nil || len(text) != 0 {
		t.Errorf("with another file key: %q, %v", text, err)
	}

	// A file of two recipients, over the fake.
	c := newCloud(t)
	second, err := c.CreateKey(awstest.Symmetric, documented(t, "policy-signing"))
	if err != nil {
		t.Fatal(err)
	}
	name = write(sealed(t, want,
		seal.Named{Name: "a", Recipient: c.recipient(t, generator, c.signing)},
		seal.Named{Name: "b", Recipient: c.recipient(t, generator, second)}))
	for _, key := range []string{c.signing, second} {
		blob, err := run(nil, "blob", name, key)
		if err != nil {
			t.Fatal(err)
		}
		parsed, err := arn.Key(key)
		if err != nil {
			t.Fatal(err)
		}
		out, err := awskmsopen.Dial(c.Credentials(signer), c.options())(parsed).Decrypt(t.Context(), &kms.DecryptInput{
			KeyId: &key, CiphertextBlob: blob, EncryptionContext: want.Context(), EncryptionAlgorithm: "SYMMETRIC_DEFAULT",
		})
		if err != nil {
			t.Fatal(err)
		}
		text, err := run(out.Plaintext, "text", name)
		if err != nil || !bytes.HasSuffix(text, body.Expose()) || !bytes.HasPrefix(text, []byte("stakeseal sealed signing v1\nnetwork: hoodi\n")) {
			t.Errorf("text: %q, %v", text, err)
		}
	}
}
