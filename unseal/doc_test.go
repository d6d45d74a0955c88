package unseal_test

import (
	"bytes"
	"crypto/ecdh"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"os"
	"strings"
	"testing"

	"filippo.io/age"
	"golang.org/x/crypto/chacha20poly1305"

	"github.com/stakeseal/stakeseal/seal"
	"github.com/stakeseal/stakeseal/secret"
	"github.com/stakeseal/stakeseal/unseal"
)

// block returns the fenced block of docs/formats/sealing.md with that name.
func block(t *testing.T, name string) string {
	t.Helper()
	doc, err := os.ReadFile("../docs/formats/sealing.md")
	if err != nil {
		t.Fatal(err)
	}
	_, after, ok := strings.Cut(string(doc), "\n```"+name+"\n")
	text, _, ended := strings.Cut(after, "```\n")
	if !ok || !ended {
		t.Fatalf("the document has no block %q", name)
	}
	return text
}

func exampleFile(t *testing.T) []byte {
	t.Helper()
	file, err := base64.StdEncoding.DecodeString(strings.ReplaceAll(block(t, "base64"), "\n", ""))
	if err != nil {
		t.Fatal(err)
	}
	return file
}

// The document's example is what this package opens.
func TestDocumentedExample(t *testing.T) {
	id, err := age.ParseX25519Identity(strings.TrimSpace(block(t, "identity")))
	if err != nil {
		t.Fatal(err)
	}
	_, key, _ := strings.Cut(block(t, "plaintext"), "secret-key: 0x")
	key = strings.TrimSpace(key)
	want := seal.SigningBinding("hoodi", "example-1", 3, pubkeyOf(t, key))
	s, err := unseal.NewOpener(unseal.Age(id, "example")).Key(t.Context(), exampleFile(t), want)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Wipe()
	if hex.EncodeToString(s.Key.Raw().Expose()) != key || s.Path != "m/12381/3600/3/0/0" {
		t.Error("another key")
	}
}

// An opener that knows only the document: no age, no stakeseal. It also makes
// the table of values.
func TestStrangersOpener(t *testing.T) {
	file := exampleFile(t)
	b64 := base64.RawStdEncoding.Strict()
	must := func(b []byte, err error) []byte {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	derive := func(ikm, salt []byte, info string) []byte {
		return must(hkdf.Key(sha256.New, ikm, salt, info, 32))
	}
	unwrap := func(key, nonce, box []byte) []byte {
		a, err := chacha20poly1305.New(key)
		if err != nil {
			t.Fatal(err)
		}
		return must(a.Open(nil, nonce, box, nil))
	}

	end := bytes.Index(file, []byte("\n--- ")) + len("\n--- ") + 43 + 1
	lines := strings.Split(string(file[:end]), "\n")
	share := must(b64.DecodeString(strings.TrimPrefix(lines[1], "-> X25519 ")))
	box := must(b64.DecodeString(lines[2]))
	mac := must(b64.DecodeString(strings.TrimPrefix(lines[3], "--- ")))
	payload := file[end:]

	scalar := bytes.Repeat([]byte{0x42}, 32) // what the example's identity encodes
	private, err := ecdh.X25519().NewPrivateKey(scalar)
	if err != nil {
		t.Fatal(err)
	}
	peer, err := ecdh.X25519().NewPublicKey(share)
	if err != nil {
		t.Fatal(err)
	}
	salt := append(bytes.Clone(share), private.PublicKey().Bytes()...)
	wrapping := derive(must(private.ECDH(peer)), salt, "age-encryption.org/v1/X25519")
	fileKey := unwrap(wrapping, make([]byte, 12), box)

	macKey := derive(fileKey, nil, "header")
	h := hmac.New(sha256.New, macKey)
	h.Write(file[:bytes.Index(file, []byte("\n---"))+len("\n---")])
	if !hmac.Equal(h.Sum(nil), mac) {
		t.Error("the header's MAC is wrong")
	}
	payloadKey := derive(fileKey, payload[:16], "payload")
	plain := unwrap(payloadKey, []byte("\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01"), payload[16:])
	if string(plain) != block(t, "plaintext") {
		t.Errorf("opens to\n%s", plain)
	}

	values := fmt.Sprintf("file length   %d\nheader length %d\nsha256 of it  %x\nshare         %x\nwrapping key  %x\nfile key      %x\nMAC key       %x\nMAC           %x\nnonce         %x\npayload key   %x\n",
		len(file), end, sha256.Sum256(file), share, wrapping, fileKey, macKey, mac, payload[:16], payloadKey)
	if got := block(t, "values"); got != values {
		t.Errorf("the document has\n%s, computed\n%s", got, values)
	}
}

// The document's recovery body is what seal writes, help text and all.
func TestDocumentedRecoveryBody(t *testing.T) {
	text := block(t, "recovery")
	head, body, _ := strings.Cut(text, "\n\n")
	b := seal.RecoveryBinding("hoodi", "example-1", "m-0123456789abcdef")
	if want, err := b.Header(); err != nil || head+"\n\n" != want {
		t.Errorf("header %q, %v", head, err)
	}
	var facts []seal.Fact
	var words string
	for _, line := range strings.Split(body, "\n") {
		name, value, _ := strings.Cut(line, ": ")
		if name == "mnemonic" {
			words = value
			break
		}
		facts = append(facts, seal.Fact{Name: name, Value: value})
	}
	if got := seal.RecoveryBody(facts, secret.Copy([]byte(words))); string(got.Expose()) != body {
		t.Errorf("seal writes\n%s", got.Expose())
	}
}

// Limits stand in the document as numbers.
func TestDocumentedLimits(t *testing.T) {
	doc, err := os.ReadFile("../docs/formats/sealing.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, must := range []string{
		fmt.Sprintf("| body | 1 to %d bytes |", seal.MaxBody),
		fmt.Sprintf("| recipients | 1 to %d |", seal.MaxRecipients),
		fmt.Sprintf("| file | at most %d bytes |", seal.MaxFile),
	} {
		if !strings.Contains(string(doc), must) {
			t.Errorf("the document does not say %q", must)
		}
	}
}
