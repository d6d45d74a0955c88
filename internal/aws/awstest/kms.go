// Package awstest is AWS for tests: a KMS in this process, on 127.0.0.1, that
// speaks the real protocol (AWS JSON 1.1) and is as strict as the real one
// where stakeseal's guarantees rest on it.
//
// It promises: a call counts as its caller's only if its Signature Version 4
// verifies with that caller's secret, for this region and service, over the
// headers that matter; the key's policy decides, explicit denies first, with
// the condition keys that our policies use; an encryption context must match to
// the last key; and anything that it does not know - an operation, a field of a
// request, an operator, action or condition key of a policy - is an error and
// not passed over, so that no test is green because the fake looked away.
//
// It trusts the test that made it. Only tests and the demonstration import it.
package awstest

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/base32"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
)

// Account owns every key and role of the fake.
const Account = "111122223333"

// Spec is what a key is for.
type Spec string

// The specs that the fake knows.
const (
	Symmetric Spec = "SYMMETRIC_DEFAULT" // encrypts, decrypts
	P256      Spec = "ECC_NIST_P256"     // signs
	P384      Spec = "ECC_NIST_P384"     // signs: a key that certifying must refuse
	RSA2048   Spec = "RSA_2048"          // has a public key and does nothing
)

// KMS is one region of the fake. Its methods are safe for concurrent use.
type KMS struct {
	URL    string // http://127.0.0.1:PORT
	region string
	server *http.Server

	mu         sync.Mutex
	principals map[string]*principal // by access key id
	keys       map[string]*key       // by ARN
	faults     []Fault
	trail      []Event
	tamper     func(action string, answer map[string]any)
}

type principal struct{ role, secretKey, token string }

type key struct {
	arn      string
	spec     Spec
	policy   *policy
	disabled bool
	aead     cipher.AEAD
	private  *ecdsa.PrivateKey
	public   []byte // SubjectPublicKeyInfo
}

// Event is what the trail keeps of a call, allowed or not.
type Event struct {
	RequestID string
	Action    string // Encrypt
	Role      string // ARN; "" when the signature was refused
	Key       string // ARN as asked for
	Context   map[string]string
	Error     string // AWS's code; "" when it was done
}

// Fault is an answer that a call gets instead of being looked at.
type Fault struct {
	Status  int    // 0: the connection is closed without an answer
	Code    string // "": a body that is not JSON, as a broken proxy sends
	Message string
	Header  http.Header
}

// NewKMS starts the fake for a region. Close ends it.
func NewKMS(region string) (*KMS, error) {
	l, err := new(net.ListenConfig).Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("couldn't start KMS: %w", err)
	}
	k := &KMS{
		URL: "http://" + l.Addr().String(), region: region,
		principals: map[string]*principal{}, keys: map[string]*key{},
	}
	k.server = &http.Server{Handler: k, ReadHeaderTimeout: 10 * time.Second}
	go func() { _ = k.server.Serve(l) }()
	return k, nil
}

// Close ends the server and its connections.
func (k *KMS) Close() error { return k.server.Close() }

// Role is the ARN of a role of the account.
func Role(name string) string { return "arn:aws:iam::" + Account + ":role/" + name }

// Credentials makes temporary credentials of a role, as Lambda would give
// them.
func (k *KMS) Credentials(role string) aws.CredentialsProvider {
	id := "ASIA" + base32.StdEncoding.EncodeToString(random(10))
	p := &principal{Role(role), hex.EncodeToString(random(20)), hex.EncodeToString(random(64))}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.principals[id] = p
	return credentials.NewStaticCredentialsProvider(id, p.secretKey, p.token)
}

// CreateKey makes a key and returns its ARN. There is no call for it, as there
// is none for PutKeyPolicy or CreateGrant: who may do these is the account's
// business, and nothing of ours does.
func (k *KMS) CreateKey(spec Spec, keyPolicy string) (string, error) {
	p, err := parsePolicy(keyPolicy)
	if err != nil {
		return "", err
	}
	made := &key{spec: spec, policy: p}
	made.arn = "arn:aws:kms:" + k.region + ":" + Account + ":key/" + uuid()
	switch spec {
	case Symmetric:
		block, err := aes.NewCipher(random(32))
		if err != nil {
			return "", err
		}
		if made.aead, err = cipher.NewGCM(block); err != nil {
			return "", err
		}
	case P256, P384, RSA2048:
		if err := made.generate(); err != nil {
			return "", err
		}
	default:
		return "", fmt.Errorf("key spec %q: this fake does not know it", spec)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.keys[made.arn] = made
	return made.arn, nil
}

func (made *key) generate() (err error) {
	curve := elliptic.P256()
	switch made.spec {
	case P384:
		curve = elliptic.P384()
	case RSA2048:
		made.public, err = rsaPublicKey()
		return err
	}
	if made.private, err = ecdsa.GenerateKey(curve, rand.Reader); err != nil {
		return err
	}
	made.public, err = spki(made.private.Public())
	return err
}

// Disable makes a key answer nothing, like one that waits for its deletion.
func (k *KMS) Disable(keyARN string) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.keys[keyARN] == nil {
		return errors.New("no such key")
	}
	k.keys[keyARN].disabled = true
	return nil
}

// Fail has the next calls answered with faults, one each.
func (k *KMS) Fail(faults ...Fault) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.faults = append(k.faults, faults...)
}

// Tamper changes the answers of calls that succeed, until it is given nil: a
// service that is wrong, or somebody in its place.
func (k *KMS) Tamper(change func(action string, answer map[string]any)) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.tamper = change
}

// Trail returns what was called, in order.
func (k *KMS) Trail() []Event {
	k.mu.Lock()
	defer k.mu.Unlock()
	events := slices.Clone(k.trail)
	for i := range events {
		events[i].Context = maps.Clone(events[i].Context)
	}
	return events
}

func random(n int) []byte {
	b := make([]byte, n)
	rand.Read(b)
	return b
}

func uuid() string {
	b := random(16)
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	h := hex.EncodeToString(b)
	return strings.Join([]string{h[:8], h[8:12], h[12:16], h[16:20], h[20:]}, "-")
}
