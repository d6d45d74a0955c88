// Package awstest is AWS for tests: a KMS in this process, on 127.0.0.1, that
// speaks the real protocol (AWS JSON 1.1) and is as strict as the real one
// where stakeseal's guarantees rest on it.
//
// It promises: a call counts as its caller's only if its Signature Version 4
// verifies with that caller's secret, for this region and service, over the
// headers that matter; the key's policy decides, as package infra/policy judges
// it, with the condition keys that our policies use; an encryption context must match to
// the last key; and anything that it does not know - an operation, a field of a
// request, an operator, action or condition key of a policy - is an error and
// not passed over, so that no test is green because the fake looked away.
//
// It trusts the test that made it. Only tests, the rehearsal and the measurement
// of costs import it.
//
// Package world beside it is all of AWS that stakeseal talks to, under its real
// names: it takes the keys of this package (Keys) and asks the policies of the
// templates instead of the keys' alone.
package awstest

import (
	"context"
	"crypto/rand"
	"encoding/base32"
	"encoding/hex"
	"fmt"
	"maps"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"

	"github.com/stakeseal/stakeseal/infra/policy"
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

// KMS is one region of the fake: keys, each with a policy that alone decides.
// Its methods are safe for concurrent use.
type KMS struct {
	URL    string // http://127.0.0.1:PORT
	region string
	server *http.Server
	*Keys

	mu         sync.Mutex
	principals map[string]*principal       // by access key id
	policies   map[string]*policy.Document // by key ARN
	faults     []Fault
	trail      []Event
	tamper     func(action string, answer map[string]any)
}

type principal struct{ role, secretKey, token string }

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
		URL: "http://" + l.Addr().String(), region: region, Keys: NewKeys(region, Account),
		principals: map[string]*principal{}, policies: map[string]*policy.Document{},
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

// CreateKey makes a key under a policy and returns its ARN.
func (k *KMS) CreateKey(spec Spec, keyPolicy string) (string, error) {
	p, err := parsePolicy(keyPolicy)
	if err != nil {
		return "", err
	}
	arn, err := k.Make(Key{Spec: spec, Policy: keyPolicy})
	if err != nil {
		return "", err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.policies[arn] = p
	return arn, nil
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
