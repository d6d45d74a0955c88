package awskmsopen_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"filippo.io/age"
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"

	"github.com/stakeseal/stakeseal/internal/aws/arn"
	"github.com/stakeseal/stakeseal/internal/aws/awskms"
	"github.com/stakeseal/stakeseal/internal/aws/awskmsopen"
	"github.com/stakeseal/stakeseal/internal/aws/awstest"
	"github.com/stakeseal/stakeseal/internal/aws/session"
	"github.com/stakeseal/stakeseal/seal"
	"github.com/stakeseal/stakeseal/secret"
	"github.com/stakeseal/stakeseal/unseal"
)

const region = "eu-central-1"

// cloud is a region with a signing and a recovery key under the policies of
// the documentation.
type cloud struct {
	*awstest.KMS
	signing, recovery string // key ARNs
	waits             []int  // attempts before which a client waited
}

func newCloud(t *testing.T) *cloud {
	t.Helper()
	k, err := awstest.NewKMS(region)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = k.Close() })
	c := &cloud{KMS: k}
	policy := documented(t, "policy-signing")
	if c.signing, err = k.CreateKey(awstest.Symmetric, policy); err != nil {
		t.Fatal(err)
	}
	for _, r := range [][2]string{
		{`"index", "pubkey"]`, `"mnemonic"]`}, {"EncryptionContext:pubkey", "EncryptionContext:mnemonic"},
		{`purpose": "signing"`, `purpose": "recovery"`}, {"stakeseal-signer-a", "stakeseal-recovery"},
	} {
		if !strings.Contains(policy, r[0]) {
			t.Fatalf("the documented policy has no %s", r[0])
		}
		policy = strings.ReplaceAll(policy, r[0], r[1])
	}
	if c.recovery, err = k.CreateKey(awstest.Symmetric, policy); err != nil {
		t.Fatal(err)
	}
	return c
}

// documented is a block of docs/formats/awskms.md.
func documented(t *testing.T, name string) string {
	t.Helper()
	doc, err := os.ReadFile("../../../docs/formats/awskms.md")
	if err != nil {
		t.Fatal(err)
	}
	found := regexp.MustCompile("(?ms)^```"+regexp.QuoteMeta(name)+"\n(.*?)^```$").FindAllSubmatch(doc, -1)
	if len(found) != 1 {
		t.Fatalf("the documentation has %d blocks %q", len(found), name)
	}
	return string(found[0][1])
}

func (c *cloud) options() session.Options {
	return session.Options{Endpoint: c.URL, Backoff: func(n int) time.Duration { c.waits = append(c.waits, n); return 0 }}
}

func (c *cloud) recipient(t *testing.T, role, key string) *awskms.Recipient {
	t.Helper()
	r, err := awskms.ParseRecipient("awskms:"+key, awskms.Dial(c.Credentials(role), c.options()))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func (c *cloud) identity(t *testing.T, role string, keys ...string) *awskmsopen.Identity {
	t.Helper()
	id, err := awskmsopen.NewIdentity(awskmsopen.Dial(c.Credentials(role), c.options()), keys...)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

const (
	generator = "stakeseal-generator"
	signer    = "stakeseal-signer-a"
	holder    = "stakeseal-recovery"
)

var (
	pubkey = [48]byte{0: 0xa1, 47: 7}
	want   = seal.SigningBinding("hoodi", "order-1", 3, pubkey)
	words  = seal.RecoveryBinding("hoodi", "order-1", "m-0123456789abcdef")
	body   = secret.Copy([]byte("path: m/12381/3600/3/0/0\n"))
)

func sealed(t *testing.T, b seal.Binding, list ...seal.Named) []byte {
	t.Helper()
	to, err := seal.NewRecipients(b.Purpose, list...)
	if err != nil {
		t.Fatal(err)
	}
	file, err := to.Seal(t.Context(), b, body)
	if err != nil {
		t.Fatal(err)
	}
	return file
}

func opens(t *testing.T, file []byte, b seal.Binding, id unseal.Identity) {
	t.Helper()
	got, err := unseal.NewOpener(id).Open(t.Context(), file, b)
	if err != nil {
		t.Fatal(err)
	}
	if !got.Equal(body) {
		t.Fatal("another body came out")
	}
}

// KMS alone, beside a classic and beside a post-quantum key: each identity
// opens alone.
func TestSealAndOpen(t *testing.T) {
	c := newCloud(t)
	classic, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	hybrid, err := age.GenerateHybridIdentity()
	if err != nil {
		t.Fatal(err)
	}
	named := func(name, text string) seal.Named {
		r, err := seal.ParseRecipient(text)
		if err != nil {
			t.Fatal(err)
		}
		return seal.Named{Name: name, Recipient: r}
	}
	kmsKey := seal.Named{Name: "signer-a", Recipient: c.recipient(t, generator, c.signing)}
	a, q := named("anna", classic.Recipient().String()), named("quentin", hybrid.Recipient().String())
	for _, test := range []struct {
		name   string
		list   []seal.Named
		others []unseal.Identity
	}{
		{"alone", []seal.Named{kmsKey}, nil},
		{"classic", []seal.Named{kmsKey, a}, []unseal.Identity{unseal.Age(classic, "anna")}},
		{"classic first", []seal.Named{a, kmsKey}, []unseal.Identity{unseal.Age(classic, "anna")}},
		{"post-quantum", []seal.Named{kmsKey, q}, []unseal.Identity{unseal.Age(hybrid, "quentin")}},
		{"post-quantum first", []seal.Named{q, kmsKey}, []unseal.Identity{unseal.Age(hybrid, "quentin")}},
	} {
		t.Run(test.name, func(t *testing.T) {
			file := sealed(t, want, test.list...)
			opens(t, file, want, c.identity(t, signer, c.signing))
			for _, id := range test.others {
				opens(t, file, want, id)
			}
		})
	}
	if _, err := seal.NewRecipients(seal.Signing, kmsKey, a, q); !errors.Is(err, seal.ErrMixed) {
		t.Errorf("KMS must not join classic and post-quantum: %v", err)
	}
	// Two keys of two holders in one file.
	file := sealed(t, words, seal.Named{Name: "x", Recipient: c.recipient(t, generator, c.recovery)}, a)
	opens(t, file, words, c.identity(t, holder, c.recovery))
}

// KMS itself refuses what was moved: the opener sees no byte of it.
func TestAnotherContext(t *testing.T) {
	c := newCloud(t)
	file := sealed(t, want, seal.Named{Name: "signer-a", Recipient: c.recipient(t, generator, c.signing)})
	other := pubkey
	other[1] ^= 1
	for _, test := range []struct {
		name string
		as   seal.Binding
		err  error
	}{
		{"order", seal.SigningBinding("hoodi", "order-2", 3, pubkey), awskmsopen.ErrContext},
		{"index", seal.SigningBinding("hoodi", "order-1", 4, pubkey), awskmsopen.ErrContext},
		{"pubkey", seal.SigningBinding("hoodi", "order-1", 3, other), awskmsopen.ErrContext},
		{"network", seal.SigningBinding("mainnet", "order-1", 3, pubkey), awskmsopen.ErrContext},
		{"purpose", words, session.ErrDenied}, // the policy comes first
	} {
		t.Run(test.name, func(t *testing.T) {
			id := c.identity(t, signer, c.signing)
			if _, err := id.Bind(t.Context(), test.as).Unwrap(stanzasOf(t, file)); !errors.Is(err, test.err) {
				t.Errorf("KMS gave the key: %v", err)
			}
			_, err := unseal.NewOpener(id).Open(t.Context(), file, test.as)
			if !errors.Is(err, test.err) || errors.Is(err, session.ErrRemote) || errors.Is(err, unseal.ErrNoIdentity) {
				t.Fatalf("got %v, want %v", err, test.err)
			}
			if e := last(c); e.Action != "Decrypt" || e.RequestID == "" || !strings.Contains(err.Error(), e.RequestID) {
				t.Errorf("the error does not name the request %s: %v", e.RequestID, err)
			}
		})
	}
	opens(t, file, want, c.identity(t, signer, c.signing))
}

// What was sealed for recovery under the very key that a signer may use stays
// shut to him: the condition on the purpose, not only the key, keeps it.
func TestPurposeUnderOneKey(t *testing.T) {
	c := newCloud(t)
	both := strings.NewReplacer(
		`"kms:EncryptionContext:purpose": "signing"
        },
        "ForAllValues`, `"kms:EncryptionContext:purpose": ["signing", "recovery"]
        },
        "ForAllValues`,
		`"index", "pubkey"]`, `"index", "pubkey", "mnemonic"]`,
		`,
        "Null": {"kms:EncryptionContext:pubkey": "false"}`, "").Replace(documented(t, "policy-signing"))
	key, err := c.CreateKey(awstest.Symmetric, both)
	if err != nil {
		t.Fatal(err)
	}
	to := seal.Named{Name: "k", Recipient: c.recipient(t, generator, key)}
	forSigning, forRecovery := sealed(t, want, to), sealed(t, words, to)
	id := c.identity(t, signer, key)
	opens(t, forSigning, want, id)
	if _, err := unseal.NewOpener(id).Open(t.Context(), forRecovery, words); !errors.Is(err, session.ErrDenied) {
		t.Fatalf("a signer opened a mnemonic: %v", err)
	}
}

// Who may do what, by the documented policy.
func TestRoles(t *testing.T) {
	c := newCloud(t)
	file := sealed(t, want, seal.Named{Name: "signer-a", Recipient: c.recipient(t, generator, c.signing)})
	for _, role := range []string{generator, holder, "stakeseal-break-glass", "stranger"} {
		_, err := unseal.NewOpener(c.identity(t, role, c.signing)).Open(t.Context(), file, want)
		if !errors.Is(err, session.ErrDenied) {
			t.Errorf("%s opened: %v", role, err)
		}
		if e := last(c); e.Role != awstest.Role(role) || e.Error != "AccessDeniedException" {
			t.Errorf("the trail says %+v", e)
		}
	}
	for _, role := range []string{signer, "stranger"} {
		to, err := seal.NewRecipients(seal.Signing, seal.Named{Name: "k", Recipient: c.recipient(t, role, c.signing)})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := to.Seal(t.Context(), want, body); !errors.Is(err, session.ErrDenied) {
			t.Errorf("%s sealed: %v", role, err)
		}
	}
	// The generator's own right ends where the context is not that of a
	// signing secret.
	to, err := seal.NewRecipients(seal.Recovery, seal.Named{Name: "k", Recipient: c.recipient(t, generator, c.signing)})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := to.Seal(t.Context(), words, body); !errors.Is(err, session.ErrDenied) {
		t.Errorf("a mnemonic was sealed to the signing key: %v", err)
	}
}

// The stanza does not choose the key.
func TestStanzaOfAnotherKey(t *testing.T) {
	c := newCloud(t)
	file := sealed(t, want, seal.Named{Name: "signer-a", Recipient: c.recipient(t, generator, c.signing)})
	before := len(c.Trail())
	_, err := unseal.NewOpener(c.identity(t, signer, c.recovery)).Open(t.Context(), file, want)
	if !errors.Is(err, unseal.ErrNoIdentity) || !strings.Contains(err.Error(), c.recovery) {
		t.Errorf("got %v", err)
	}
	if n := len(c.Trail()); n != before {
		t.Error("KMS was called for a key that the settings do not name")
	}
	// Renamed to the opener's key, the ciphertext is still the other one's.
	forged := bytes.Replace(file, []byte(c.signing), []byte(c.recovery), 1)
	_, err = unseal.NewOpener(c.identity(t, holder, c.recovery)).Open(t.Context(), forged, want)
	if !errors.Is(err, session.ErrDenied) { // the holder's policy knows recovery only
		t.Errorf("got %v", err)
	}
	key, err := c.CreateKey(awstest.Symmetric, documented(t, "policy-signing"))
	if err != nil {
		t.Fatal(err)
	}
	forged = bytes.Replace(file, []byte(c.signing), []byte(key), 1)
	if _, err = unseal.NewOpener(c.identity(t, signer, key)).Open(t.Context(), forged, want); !errors.Is(err, awskmsopen.ErrContext) {
		t.Errorf("got %v", err)
	}
}

// One identity of two keys opens with the other when one fails.
func TestAnotherKeyHelps(t *testing.T) {
	c := newCloud(t)
	second, err := c.CreateKey(awstest.Symmetric, documented(t, "policy-signing"))
	if err != nil {
		t.Fatal(err)
	}
	file := sealed(t, want,
		seal.Named{Name: "a", Recipient: c.recipient(t, generator, c.signing)},
		seal.Named{Name: "b", Recipient: c.recipient(t, generator, second)})
	if err := c.Disable(c.signing); err != nil {
		t.Fatal(err)
	}
	opens(t, file, want, c.identity(t, signer, c.signing, second))
	_, err = unseal.NewOpener(c.identity(t, signer, c.signing)).Open(t.Context(), file, want)
	if !errors.Is(err, session.ErrRemote) || !strings.Contains(err.Error(), "DisabledException") {
		t.Errorf("got %v", err)
	}
}

// Request ids of what succeeded are those of the trail.
func TestRequestIDs(t *testing.T) {
	c := newCloud(t)
	file := sealed(t, want, seal.Named{Name: "signer-a", Recipient: c.recipient(t, generator, c.signing)})
	if e := last(c); fmt.Sprint(e.Context) != fmt.Sprint(want.Context()) || e.Key != c.signing || e.Error != "" {
		t.Errorf("the trail says %+v", e)
	}
	id := c.identity(t, signer, c.signing)
	var heard []string
	id.Hear(func(of seal.Binding, request string) {
		if of != want {
			t.Errorf("heard of %+v", of)
		}
		heard = append(heard, request)
	})
	opens(t, file, want, id)
	e := last(c)
	if e.Action != "Decrypt" || e.RequestID == "" || fmt.Sprint(heard) != "["+e.RequestID+"]" {
		t.Errorf("heard %q, the trail says %+v", heard, e)
	}
	// What KMS refuses opened nothing.
	other := want
	other.Order = "another"
	if _, err := unseal.NewOpener(id).Open(t.Context(), file, other); !errors.Is(err, awskmsopen.ErrContext) || len(heard) != 1 {
		t.Errorf("%v, heard %q", err, heard)
	}
}

// Throttled and failing calls are repeated with waits between, then the error
// is a remote one.
func TestRepeats(t *testing.T) {
	throttled := awstest.Fault{Status: 400, Code: "ThrottlingException", Message: "Rate exceeded"}
	for _, test := range []struct {
		name   string
		faults []awstest.Fault
		err    error
		says   string
	}{
		{"throttled", []awstest.Fault{throttled, throttled}, nil, ""},
		{"internal error", []awstest.Fault{{Status: 500, Code: "KMSInternalException"}, {Status: 503, Code: "DependencyTimeoutException"}}, nil, ""},
		{"closed connections", []awstest.Fault{{}, {}}, nil, ""},
		{"a proxy's page", []awstest.Fault{{Status: 502, Message: "bad gateway"}, {Status: 504, Message: "timeout"}}, nil, ""},
		{"throttled for good", []awstest.Fault{throttled, throttled, throttled, throttled, throttled}, session.ErrRemote, "ThrottlingException"},
		{"down for good", []awstest.Fault{{Status: 503}, {Status: 503}, {Status: 503}, {Status: 503}, {Status: 503}}, session.ErrRemote, "503"},
		{"a redirect", []awstest.Fault{{Status: 302, Header: map[string][]string{"Location": {"http://127.0.0.1:1/"}}}}, session.ErrRemote, "302"},
		{"a redirect of a body", []awstest.Fault{{Status: 307, Header: map[string][]string{"Location": {"http://127.0.0.1:1/"}}}}, session.ErrRemote, "307"},
		{"not repeated", []awstest.Fault{{Status: 400, Code: "ValidationException", Message: "no"}}, session.ErrRemote, "ValidationException"},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := newCloud(t)
			file := sealed(t, want, seal.Named{Name: "a", Recipient: c.recipient(t, generator, c.signing)})
			id := c.identity(t, signer, c.signing)
			before := len(c.Trail())
			c.Fail(test.faults...)
			_, err := unseal.NewOpener(id).Open(t.Context(), file, want)
			if !errors.Is(err, test.err) || errors.Is(err, session.ErrDenied) || (err != nil && !strings.Contains(err.Error(), test.says)) {
				t.Fatalf("got %v, want %v", err, test.err)
			}
			calls := len(c.Trail()) - before
			wanted := len(test.faults)
			if err == nil {
				wanted++
			}
			if calls != wanted || len(c.waits) != wanted-1 {
				t.Errorf("%d calls with waits before %v, want %d calls", calls, c.waits, wanted)
			}
			if e := last(c); err != nil && !strings.Contains(err.Error(), e.RequestID) {
				t.Errorf("no request id %s in %v", e.RequestID, err)
			}
		})
	}
}

// A service that is not there is a remote failure; a call that its caller
// gives up is not.
func TestNobodyAnswers(t *testing.T) {
	c := newCloud(t)
	file := sealed(t, want, seal.Named{Name: "a", Recipient: c.recipient(t, generator, c.signing)})
	id := c.identity(t, signer, c.signing)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := id.Bind(ctx, want).Unwrap(stanzasOf(t, file)); !errors.Is(err, context.Canceled) || errors.Is(err, session.ErrRemote) {
		t.Errorf("got %v", err)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := unseal.NewOpener(id).Open(t.Context(), file, want); !errors.Is(err, session.ErrRemote) || !strings.Contains(err.Error(), "refused") {
		t.Errorf("got %v", err)
	}
	to, err := seal.NewRecipients(seal.Signing, seal.Named{Name: "k", Recipient: c.recipient(t, generator, c.signing)})
	if err != nil {
		t.Fatal(err)
	}
	if file, err := to.Seal(t.Context(), want, body); !errors.Is(err, session.ErrRemote) || file != nil {
		t.Errorf("got %d bytes and %v", len(file), err)
	}
}

// Signed with another secret, or for another region.
func TestBadSignature(t *testing.T) {
	c := newCloud(t)
	good, err := c.Credentials(signer).Retrieve(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	file := sealed(t, want, seal.Named{Name: "a", Recipient: c.recipient(t, generator, c.signing)})
	for _, test := range []struct {
		name, code string
		turn       func(*aws.Credentials)
	}{
		{"secret key", "InvalidSignatureException", func(c *aws.Credentials) { c.SecretAccessKey += "x" }},
		{"access key", "UnrecognizedClientException", func(c *aws.Credentials) { c.AccessKeyID += "X" }},
		{"token", "UnrecognizedClientException", func(c *aws.Credentials) { c.SessionToken += "x" }},
		{"no token", "IncompleteSignatureException", func(c *aws.Credentials) { c.SessionToken = "" }},
	} {
		t.Run(test.name, func(t *testing.T) {
			bad := good
			test.turn(&bad)
			provider := aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) { return bad, nil })
			id, err := awskmsopen.NewIdentity(awskmsopen.Dial(provider, c.options()), c.signing)
			if err != nil {
				t.Fatal(err)
			}
			_, err = unseal.NewOpener(id).Open(t.Context(), file, want)
			if !errors.Is(err, session.ErrDenied) || !strings.Contains(err.Error(), test.code) {
				t.Errorf("got %v", err)
			}
			if e := last(c); e.Role != "" {
				t.Errorf("it was taken for %s", e.Role)
			}
		})
	}
	elsewhere := func(arn.ARN) awskmsopen.Decrypter {
		return kms.NewFromConfig(session.New("eu-west-1", c.Credentials(signer), c.options()))
	}
	id, err := awskmsopen.NewIdentity(elsewhere, c.signing)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := unseal.NewOpener(id).Open(t.Context(), file, want); !errors.Is(err, session.ErrDenied) || !strings.Contains(err.Error(), "eu-west-1") {
		t.Errorf("got %v", err)
	}
}

// A service that answers wrongly gives no key.
func TestWrongAnswers(t *testing.T) {
	c := newCloud(t)
	file := sealed(t, want, seal.Named{Name: "a", Recipient: c.recipient(t, generator, c.signing)})
	for name, test := range map[string]struct {
		turn func(string, map[string]any)
		err  error
	}{
		"another key":     {func(_ string, a map[string]any) { a["KeyId"] = c.recovery }, session.ErrRemote},
		"no key":          {func(_ string, a map[string]any) { delete(a, "KeyId") }, session.ErrRemote},
		"algorithm":       {func(_ string, a map[string]any) { a["EncryptionAlgorithm"] = "RSAES_OAEP_SHA_1" }, session.ErrRemote},
		"a short key":     {func(_ string, a map[string]any) { a["Plaintext"] = make([]byte, 15) }, awskmsopen.ErrStanza},
		"no plaintext":    {func(_ string, a map[string]any) { delete(a, "Plaintext") }, awskmsopen.ErrStanza},
		"another file's":  {func(_ string, a map[string]any) { a["Plaintext"] = make([]byte, 16) }, unseal.ErrDamaged},
		"not even base64": {func(_ string, a map[string]any) { a["Plaintext"] = "?" }, session.ErrRemote},
	} {
		t.Run(name, func(t *testing.T) {
			c.Tamper(test.turn)
			defer c.Tamper(nil)
			_, err := unseal.NewOpener(c.identity(t, signer, c.signing)).Open(t.Context(), file, want)
			if !errors.Is(err, test.err) {
				t.Errorf("got %v, want %v", err, test.err)
			}
		})
	}
}

func last(c *cloud) awstest.Event {
	trail := c.Trail()
	return trail[len(trail)-1]
}

// stanzasOf has age parse a file's header.
func stanzasOf(t *testing.T, file []byte) []*age.Stanza {
	t.Helper()
	spy := &stanzaSpy{}
	if _, err := age.Decrypt(bytes.NewReader(file), spy); err == nil || spy.seen == nil {
		t.Fatalf("no stanza seen: %v", err)
	}
	return spy.seen
}

type stanzaSpy struct{ seen []*age.Stanza }

func (s *stanzaSpy) Unwrap(stanzas []*age.Stanza) ([]byte, error) {
	s.seen = stanzas
	return nil, age.ErrIncorrectIdentity
}
