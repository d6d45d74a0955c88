package awstest_test

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"github.com/stakeseal/stakeseal/internal/aws/awskms"
	"github.com/stakeseal/stakeseal/internal/aws/awskmsopen"
	"github.com/stakeseal/stakeseal/internal/aws/session"
	"github.com/stakeseal/stakeseal/seal"
	"github.com/stakeseal/stakeseal/secret"
	"github.com/stakeseal/stakeseal/unseal"
)

const motoRegion = "eu-central-1"

// TestMoto is a second opinion on the plain calls, by a KMS that others wrote
// (moto, Apache-2.0). It knows no key policies, so it says nothing about who
// may do what. With the AWS command line tool in $PATH the commands of
// docs/formats/awskms.md are run as a stranger would.
//
//	python3 -m venv build/moto && build/moto/bin/pip install 'moto[server]' awscli cryptography
//	build/moto/bin/moto_server -H 127.0.0.1 -p 5566 &
//	PATH="$PWD/build/moto/bin:$PATH" STAKESEAL_MOTO=http://127.0.0.1:5566 go test -run TestMoto -v ./internal/aws/awstest
func TestMoto(t *testing.T) {
	endpoint := os.Getenv("STAKESEAL_MOTO")
	if endpoint == "" {
		t.Skip("STAKESEAL_MOTO is not set to the URL of a moto_server on 127.0.0.1")
	}
	who := credentials.NewStaticCredentialsProvider("ASIAEXAMPLE", "example", "token")
	options := session.Options{Endpoint: endpoint, Backoff: func(int) time.Duration { return 0 }}
	admin := kms.NewFromConfig(session.New(motoRegion, who, options))
	create := func(spec types.KeySpec, usage types.KeyUsageType) string {
		t.Helper()
		out, err := admin.CreateKey(t.Context(), &kms.CreateKeyInput{KeySpec: spec, KeyUsage: usage})
		if err != nil {
			t.Fatal(err)
		}
		return aws.ToString(out.KeyMetadata.Arn)
	}
	key, other := create("SYMMETRIC_DEFAULT", "ENCRYPT_DECRYPT"), create("SYMMETRIC_DEFAULT", "ENCRYPT_DECRYPT")

	r, err := awskms.ParseRecipient("awskms:"+key, awskms.Dial(who, options))
	if err != nil {
		t.Fatal(err)
	}
	to, err := seal.NewRecipients(seal.Signing, seal.Named{Name: "a", Recipient: r})
	if err != nil {
		t.Fatal(err)
	}
	var pubkey [48]byte
	rand.Read(pubkey[:])
	want := seal.SigningBinding("hoodi", "order-1", 3, pubkey)
	body := secret.Copy([]byte("path: m/12381/3600/3/0/0\n"))
	file, err := to.Seal(t.Context(), want, body)
	if err != nil {
		t.Fatal(err)
	}
	open := func(file []byte, b seal.Binding, keys ...string) error {
		t.Helper()
		id, err := awskmsopen.NewIdentity(awskmsopen.Dial(who, options), keys...)
		if err != nil {
			t.Fatal(err)
		}
		got, err := unseal.NewOpener(id).Open(t.Context(), file, b)
		if err == nil && !got.Equal(body) {
			t.Error("another body came out")
		}
		return err
	}
	if err := open(file, want, other, key); err != nil {
		t.Error(err)
	}
	for _, b := range []seal.Binding{
		seal.SigningBinding("mainnet", "order-1", 3, pubkey), seal.SigningBinding("hoodi", "order-2", 3, pubkey),
		seal.SigningBinding("hoodi", "order-1", 4, pubkey), seal.SigningBinding("hoodi", "order-1", 3, [48]byte{}),
		seal.RecoveryBinding("hoodi", "order-1", "m-0123456789abcdef"),
	} {
		if err := open(file, b, key); !errors.Is(err, awskmsopen.ErrContext) {
			t.Errorf("as %+v: %v", b, err)
		}
	}
	if err := open(file, want, other); !errors.Is(err, unseal.ErrNoIdentity) {
		t.Errorf("with another key: %v", err)
	}
	if err := open([]byte(strings.Replace(string(file), key, other, 1)), want, other); !errors.Is(err, session.ErrDenied) {
		// AWS documents IncorrectKeyException here; moto answers AccessDenied.
		t.Errorf("renamed to another key: %v", err)
	}
	missing := key[:strings.LastIndex(key, "/")+1] + "00000000-0000-4000-8000-000000000000"
	if err := open([]byte(strings.Replace(string(file), key, missing, 1)), want, missing); !errors.Is(err, session.ErrRemote) || !strings.Contains(err.Error(), "NotFoundException") {
		t.Errorf("a key that does not exist: %v", err)
	}

	motoCertifier(t, &asAWS{Client: admin}, create)
	t.Run("command line", func(t *testing.T) { byHand(t, endpoint, file, key, want) })
}

// asAWS completes moto's GetPublicKey, which answers with the key's id where AWS
// documents its ARN, and without KeySpec, which DescribeKey knows.
type asAWS struct {
	*kms.Client
	signature []byte
}

func (c *asAWS) GetPublicKey(ctx context.Context, in *kms.GetPublicKeyInput, o ...func(*kms.Options)) (*kms.GetPublicKeyOutput, error) {
	out, err := c.Client.GetPublicKey(ctx, in, o...)
	if err == nil && strings.HasSuffix(aws.ToString(in.KeyId), ":key/"+aws.ToString(out.KeyId)) {
		described, err := c.DescribeKey(ctx, &kms.DescribeKeyInput{KeyId: in.KeyId})
		if err != nil {
			return nil, err
		}
		out.KeyId, out.KeySpec = in.KeyId, described.KeyMetadata.KeySpec
	}
	return out, err
}

// Sign keeps the signature. moto does not know MessageType DIGEST and hashes
// the digest once more: an answer that does not verify and must not pass.
func (c *asAWS) Sign(ctx context.Context, in *kms.SignInput, o ...func(*kms.Options)) (*kms.SignOutput, error) {
	out, err := c.Client.Sign(ctx, in, o...)
	if err == nil {
		c.signature = out.Signature
	}
	return out, err
}

func motoCertifier(t *testing.T, client *asAWS, create func(types.KeySpec, types.KeyUsageType) string) {
	t.Helper()
	key := create("ECC_NIST_P256", "SIGN_VERIFY")
	c, err := awskms.NewCertifier(t.Context(), client, key)
	if err != nil {
		t.Fatal(err)
	}
	data := []byte(strings.Repeat("DSSEv1 ", 1000))
	digest := sha256.Sum256(data)
	if sig, err := c.Sign(t.Context(), data); !errors.Is(err, session.ErrRemote) || sig != nil {
		t.Errorf("moto has learned MessageType DIGEST, make this test simpler: %v", err)
	}
	// What it signed, its own way, is the digest: the request and the key are
	// read alike.
	if !c.Public().Verify(digest[:], client.signature) {
		t.Error("moto's signature is not of the digest")
	}
	for _, spec := range []types.KeySpec{"ECC_NIST_P384", "ECC_SECG_P256K1", "RSA_2048"} {
		if _, err := awskms.NewCertifier(t.Context(), client, create(spec, "SIGN_VERIFY")); !errors.Is(err, session.ErrRemote) {
			t.Errorf("%s: %v", spec, err)
		}
	}
}

// byHand runs the documented commands.
func byHand(t *testing.T, endpoint string, file []byte, key string, b seal.Binding) {
	if _, err := exec.LookPath("aws"); err != nil {
		t.Skip("no AWS command line tool in $PATH")
	}
	doc, err := os.ReadFile("../../../docs/formats/awskms.md")
	if err != nil {
		t.Fatal(err)
	}
	block := func(name string) []byte {
		found := regexp.MustCompile("(?ms)^```" + name + "\n(.*?)^```$").FindSubmatch(doc)
		if found == nil {
			t.Fatalf("the documentation has no block %s", name)
		}
		return found[1]
	}
	facts, err := json.Marshal(b.Context())
	if err != nil {
		t.Fatal(err)
	}
	folder := t.TempDir()
	for name, data := range map[string][]byte{"open.py": block("python"), "sealed.age": file, "context.json": facts} {
		if err := os.WriteFile(filepath.Join(folder, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command("sh", "-e", "-c", string(block("sh")))
	cmd.Dir = folder
	cmd.Env = append(os.Environ(), "KEY="+key, "AWS_ENDPOINT_URL="+endpoint, "AWS_REGION="+motoRegion, "AWS_DEFAULT_REGION="+motoRegion,
		"AWS_ACCESS_KEY_ID=ASIAEXAMPLE", "AWS_SECRET_ACCESS_KEY=example", "AWS_SESSION_TOKEN=token")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	header, err := b.Header()
	if err != nil {
		t.Fatal(err)
	}
	if string(out) != header+"path: m/12381/3600/3/0/0\n" {
		t.Errorf("the commands print %q", out)
	}
}
