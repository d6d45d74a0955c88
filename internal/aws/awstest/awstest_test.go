package awstest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
	"github.com/aws/smithy-go"
)

const open = `{"Version":"2012-10-17","Statement":[{"Sid":"all","Effect":"Allow","Principal":{"AWS":"*"},"Action":"kms:*","Resource":"*"}]}`

func start(t *testing.T) (*KMS, string, *kms.Client) {
	t.Helper()
	k, err := NewKMS("eu-central-1")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = k.Close() })
	key, err := k.CreateKey(Symmetric, open)
	if err != nil {
		t.Fatal(err)
	}
	return k, key, kms.New(kms.Options{Region: "eu-central-1", Credentials: k.Credentials("r"), BaseEndpoint: &k.URL, RetryMaxAttempts: 1})
}

func code(err error) string {
	var api smithy.APIError
	if errors.As(err, &api) {
		return api.ErrorCode()
	}
	return ""
}

// What the fake does not know is an error, above all the calls that would
// change who may do what.
func TestUnknownCalls(t *testing.T) {
	k, key, c := start(t)
	ctx := t.Context()
	for name, call := range map[string]func() error{
		"PutKeyPolicy": func() error {
			_, err := c.PutKeyPolicy(ctx, &kms.PutKeyPolicyInput{KeyId: &key, Policy: aws.String(open)})
			return err
		},
		"CreateGrant": func() error {
			_, err := c.CreateGrant(ctx, &kms.CreateGrantInput{KeyId: &key, GranteePrincipal: aws.String(Role("r")), Operations: []types.GrantOperation{"Decrypt"}})
			return err
		},
		"ReEncrypt": func() error {
			_, err := c.ReEncrypt(ctx, &kms.ReEncryptInput{DestinationKeyId: &key, CiphertextBlob: []byte("x")})
			return err
		},
		"GenerateDataKey": func() error {
			_, err := c.GenerateDataKey(ctx, &kms.GenerateDataKeyInput{KeyId: &key, KeySpec: "AES_256"})
			return err
		},
		"ListKeys": func() error { _, err := c.ListKeys(ctx, &kms.ListKeysInput{}); return err },
	} {
		if got := code(call()); got != "UnknownOperationException" {
			t.Errorf("%s: %q", name, got)
		}
	}
	encrypt := func(turn func(*kms.EncryptInput)) error {
		in := &kms.EncryptInput{KeyId: &key, Plaintext: []byte("x"), EncryptionAlgorithm: "SYMMETRIC_DEFAULT"}
		turn(in)
		_, err := c.Encrypt(ctx, in)
		return err
	}
	for name, test := range map[string]struct {
		turn func(*kms.EncryptInput)
		want string
	}{
		"as it is":          {func(*kms.EncryptInput) {}, ""},
		"a dry run":         {func(in *kms.EncryptInput) { in.DryRun = aws.Bool(true) }, "DryRunOperationException"},
		"a grant":           {func(in *kms.EncryptInput) { in.GrantTokens = []string{"x"} }, "SerializationException"},
		"an alias":          {func(in *kms.EncryptInput) { in.KeyId = aws.String("alias/x") }, "NotFoundException"},
		"a key id":          {func(in *kms.EncryptInput) { in.KeyId = aws.String(key[strings.LastIndex(key, "/")+1:]) }, "NotFoundException"},
		"another key":       {func(in *kms.EncryptInput) { in.KeyId = aws.String(key[:len(key)-1] + "x") }, "NotFoundException"},
		"too long":          {func(in *kms.EncryptInput) { in.Plaintext = make([]byte, 4097) }, "ValidationException"},
		"another algorithm": {func(in *kms.EncryptInput) { in.EncryptionAlgorithm = "RSAES_OAEP_SHA_1" }, "InvalidKeyUsageException"},
		"a large context": {func(in *kms.EncryptInput) {
			in.EncryptionContext = map[string]string{"x": strings.Repeat("x", 9000)}
		}, "ValidationException"},
	} {
		if err := encrypt(test.turn); code(err) != test.want || (err == nil) != (test.want == "") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := c.Decrypt(ctx, &kms.DecryptInput{CiphertextBlob: []byte("x")}); code(err) != "ValidationException" {
		t.Errorf("Decrypt without a key: %v", err)
	}
	if _, err := c.Sign(ctx, &kms.SignInput{KeyId: &key, Message: make([]byte, 32), MessageType: "DIGEST", SigningAlgorithm: "ECDSA_SHA_256"}); code(err) != "InvalidKeyUsageException" {
		t.Errorf("Sign with a symmetric key: %v", err)
	}
	signing, err := k.CreateKey(P256, open)
	if err != nil {
		t.Fatal(err)
	}
	for name, in := range map[string]kms.SignInput{
		"a short digest":    {Message: make([]byte, 31), MessageType: "DIGEST", SigningAlgorithm: "ECDSA_SHA_256"},
		"too long":          {Message: make([]byte, 4097), MessageType: "RAW", SigningAlgorithm: "ECDSA_SHA_256"},
		"no message":        {MessageType: "RAW", Message: []byte{}, SigningAlgorithm: "ECDSA_SHA_256"},
		"another algorithm": {Message: make([]byte, 32), MessageType: "DIGEST", SigningAlgorithm: "ECDSA_SHA_384"},
	} {
		in.KeyId = &signing
		if _, err := c.Sign(ctx, &in); code(err) != "ValidationException" && code(err) != "InvalidKeyUsageException" {
			t.Errorf("Sign, %s: %v", name, err)
		}
	}
}

// The context must match to the last name, and the ciphertext to the last bit.
func TestContext(t *testing.T) {
	k, key, c := start(t)
	other, err := k.CreateKey(Symmetric, open)
	if err != nil {
		t.Fatal(err)
	}
	context := map[string]string{"a": "1", "b": "22"}
	out, err := c.Encrypt(t.Context(), &kms.EncryptInput{KeyId: &key, Plaintext: []byte("secret"), EncryptionAlgorithm: "SYMMETRIC_DEFAULT", EncryptionContext: context})
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(out.CiphertextBlob, []byte("secret")) {
		t.Error("the ciphertext holds the plaintext")
	}
	flipped := bytes.Clone(out.CiphertextBlob)
	flipped[len(flipped)-1] ^= 1
	for name, test := range map[string]struct {
		key     string
		blob    []byte
		context map[string]string
		want    string
	}{
		"as it is":      {key, out.CiphertextBlob, context, ""},
		"none":          {key, out.CiphertextBlob, nil, "InvalidCiphertextException"},
		"one less":      {key, out.CiphertextBlob, map[string]string{"a": "1"}, "InvalidCiphertextException"},
		"one more":      {key, out.CiphertextBlob, map[string]string{"a": "1", "b": "22", "c": ""}, "InvalidCiphertextException"},
		"another value": {key, out.CiphertextBlob, map[string]string{"a": "1", "b": "23"}, "InvalidCiphertextException"},
		"moved bytes":   {key, out.CiphertextBlob, map[string]string{"a": "1b", "2": "2"}, "InvalidCiphertextException"},
		"flipped":       {key, flipped, context, "InvalidCiphertextException"},
		"cut":           {key, out.CiphertextBlob[:90], context, "InvalidCiphertextException"},
		"nonsense":      {key, []byte{255, 1}, context, "InvalidCiphertextException"},
		"another key":   {other, out.CiphertextBlob, context, "IncorrectKeyException"},
	} {
		got, err := c.Decrypt(t.Context(), &kms.DecryptInput{KeyId: &test.key, CiphertextBlob: test.blob, EncryptionContext: test.context, EncryptionAlgorithm: "SYMMETRIC_DEFAULT"})
		if code(err) != test.want || (err == nil) != (test.want == "") || err == nil && string(got.Plaintext) != "secret" {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Requests that the SDK would not send: the signature decides before anything
// of them is read.
func TestSignatures(t *testing.T) {
	k, key, _ := start(t)
	good, err := k.Credentials("r").Retrieve(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	body := `{"KeyId":"` + key + `","Plaintext":"eHg=","EncryptionAlgorithm":"SYMMETRIC_DEFAULT"}`
	const emptyHash = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
	for _, test := range []struct {
		name   string
		before func(*http.Request) // signing
		after  func(*http.Request)
		at     time.Time
		hash   string // signed, "" the body's
		want   string
	}{
		{name: "as it is"},
		{name: "another target", after: func(r *http.Request) { r.Header.Set("X-Amz-Target", "TrentService.Decrypt") }, want: "InvalidSignatureException"},
		{name: "no target signed", before: func(r *http.Request) { r.Header.Del("X-Amz-Target") }, after: func(r *http.Request) { r.Header.Set("X-Amz-Target", "TrentService.Encrypt") }, want: "IncompleteSignatureException"},
		{name: "another body", hash: emptyHash, want: "InvalidSignatureException"},
		{name: "another host", after: func(r *http.Request) { r.Host = "kms.eu-central-1.amazonaws.com" }, want: "InvalidSignatureException"},
		{name: "old", at: time.Now().Add(-time.Hour), want: "InvalidSignatureException"},
		{name: "of tomorrow", at: time.Now().Add(24 * time.Hour), want: "InvalidSignatureException"},
		{name: "unsigned", after: func(r *http.Request) { r.Header.Del("Authorization") }, want: "MissingAuthenticationTokenException"},
		{name: "basic", after: func(r *http.Request) { r.SetBasicAuth("a", "b") }, want: "IncompleteSignatureException"},
		{name: "a query", after: func(r *http.Request) { r.URL.RawQuery = "Action=Decrypt" }, want: "IncompleteSignatureException"},
		{name: "GET", before: func(r *http.Request) { r.Method = "GET" }, want: "UnknownOperationException"},
		{name: "a path", before: func(r *http.Request) { r.URL.Path = "/x" }, want: "UnknownOperationException"},
		{name: "another service", before: func(r *http.Request) { r.Header.Set("X-Amz-Target", "DynamoDB_20120810.Encrypt") }, want: "UnknownOperationException"},
		{name: "another protocol", before: func(r *http.Request) { r.Header.Set("Content-Type", "application/json") }, want: "SerializationException"},
	} {
		t.Run(test.name, func(t *testing.T) {
			r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, k.URL+"/", strings.NewReader(body))
			if err != nil {
				t.Fatal(err)
			}
			r.Header.Set("Content-Type", "application/x-amz-json-1.1")
			r.Header.Set("X-Amz-Target", "TrentService.Encrypt")
			if test.before != nil {
				test.before(r)
			}
			if test.at.IsZero() {
				test.at = time.Now()
			}
			hash := test.hash
			if hash == "" {
				hash = hashOf(body)
			}
			if err := v4.NewSigner().SignHTTP(context.Background(), good, r, hash, "kms", "eu-central-1", test.at); err != nil {
				t.Fatal(err)
			}
			if test.after != nil {
				test.after(r)
			}
			response, err := http.DefaultClient.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			answer, _ := io.ReadAll(response.Body)
			_ = response.Body.Close()
			if test.want == "" && response.StatusCode != 200 || !strings.Contains(string(answer), test.want) {
				t.Errorf("%d %s", response.StatusCode, answer)
			}
		})
	}
}

func hashOf(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:])
}
