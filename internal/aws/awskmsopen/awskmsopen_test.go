package awskmsopen

import (
	"bytes"
	"context"
	"errors"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"filippo.io/age"
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
	"github.com/aws/smithy-go"

	"github.com/stakeseal/stakeseal/internal/aws/arn"
	"github.com/stakeseal/stakeseal/internal/aws/session"
	"github.com/stakeseal/stakeseal/seal"
)

const (
	keyA = "arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab"
	keyB = "arn:aws:kms:eu-west-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ac"
)

var want = seal.SigningBinding("hoodi", "order-1", 3, [48]byte{1})

// answering is KMS as a function; out is what it handed over last.
type answering struct {
	answer func(*kms.DecryptInput) (*kms.DecryptOutput, error)
	asked  []string
	out    []byte
}

func (a *answering) Decrypt(_ context.Context, in *kms.DecryptInput, _ ...func(*kms.Options)) (*kms.DecryptOutput, error) {
	a.asked = append(a.asked, aws.ToString(in.KeyId))
	out, err := a.answer(in)
	if out != nil {
		a.out = out.Plaintext
	}
	return out, err
}

func sound(in *kms.DecryptInput) (*kms.DecryptOutput, error) {
	return &kms.DecryptOutput{KeyId: in.KeyId, EncryptionAlgorithm: in.EncryptionAlgorithm, Plaintext: bytes.Repeat([]byte{0x5e}, 16)}, nil
}

func identity(t *testing.T, a *answering, keys ...string) *Identity {
	t.Helper()
	id, err := NewIdentity(func(arn.ARN) Decrypter { return a }, keys...)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func stanza(args ...string) *age.Stanza {
	return &age.Stanza{Type: "stakeseal.dev/awskms", Args: args, Body: bytes.Repeat([]byte{7}, 168)}
}

func TestNewIdentity(t *testing.T) {
	dial := func(arn.ARN) Decrypter { return &answering{} }
	for name, c := range map[string]struct {
		dial func(arn.ARN) Decrypter
		keys []string
	}{
		"no key":    {dial, nil},
		"no dial":   {nil, []string{keyA}},
		"no client": {func(arn.ARN) Decrypter { return nil }, []string{keyA}},
		"twice":     {dial, []string{keyA, keyB, keyA}},
		"an alias":  {dial, []string{"arn:aws:kms:eu-central-1:111122223333:alias/x"}},
		"a prefix":  {dial, []string{"awskms:" + keyA}},
		"too many":  {dial, slices.Repeat([]string{keyA}, seal.MaxRecipients+1)},
	} {
		if id, err := NewIdentity(c.dial, c.keys...); err == nil {
			t.Errorf("%s: %v", name, id)
		}
	}
	if got := identity(t, &answering{}, keyA, keyB).String(); got != "awskms:"+keyA+", awskms:"+keyB {
		t.Errorf("its name is %s", got)
	}
}

// The stanza does not choose: not the key, not how often KMS is asked.
func TestStanzas(t *testing.T) {
	foreign := strings.Replace(keyA, "111122223333", "444455556666", 1)
	cut := func(n int) *age.Stanza { s := stanza(keyA); s.Body = make([]byte, n); return s }
	native := &age.Stanza{Type: "X25519", Args: []string{"x"}, Body: make([]byte, 32)}
	for _, c := range []struct {
		name    string
		stanzas []*age.Stanza
		err     error // nil: opens
		asked   string
	}{
		{"ours", []*age.Stanza{stanza(keyA)}, nil, keyA},
		{"among others", []*age.Stanza{native, stanza(foreign), stanza(keyA)}, nil, keyA},
		{"both, in the order of the settings", []*age.Stanza{stanza(keyB), stanza(keyA)}, nil, keyA},
		{"none", nil, age.ErrIncorrectIdentity, ""},
		{"of another type", []*age.Stanza{native}, age.ErrIncorrectIdentity, ""},
		{"another account's", []*age.Stanza{stanza(foreign)}, age.ErrIncorrectIdentity, ""},
		{"a key with a suffix", []*age.Stanza{stanza(keyA + "0")}, ErrStanza, ""},
		{"an alias", []*age.Stanza{stanza("alias/x")}, ErrStanza, ""},
		{"no argument", []*age.Stanza{stanza()}, ErrStanza, ""},
		{"two arguments", []*age.Stanza{stanza(keyA, keyB)}, ErrStanza, ""},
		{"twice", []*age.Stanza{stanza(keyA), stanza(keyA)}, ErrStanza, ""},
		{"no body", []*age.Stanza{cut(0)}, ErrStanza, ""},
		{"a file key in the clear", []*age.Stanza{cut(16)}, ErrStanza, ""},
		{"too long", []*age.Stanza{cut(6145)}, ErrStanza, ""},
	} {
		a := &answering{answer: sound}
		key, err := identity(t, a, keyA, keyB).Bind(t.Context(), want).Unwrap(c.stanzas)
		if !errors.Is(err, c.err) || (err == nil) != (len(key) == 16) || strings.Join(a.asked, " ") != c.asked {
			t.Errorf("%s: %d bytes, %v, asked %q", c.name, len(key), err, a.asked)
		}
	}
}

// The request is what the format says.
func TestRequest(t *testing.T) {
	a := &answering{answer: func(in *kms.DecryptInput) (*kms.DecryptOutput, error) {
		if aws.ToString(in.KeyId) != keyA || len(in.CiphertextBlob) != 168 || in.EncryptionAlgorithm != "SYMMETRIC_DEFAULT" ||
			in.DryRun != nil || in.GrantTokens != nil || in.Recipient != nil {
			t.Errorf("asked for %+v", in)
		}
		if len(in.EncryptionContext) != 7 || in.EncryptionContext["index"] != "3" || in.EncryptionContext["purpose"] != "signing" {
			t.Errorf("context %v", in.EncryptionContext)
		}
		return sound(in)
	}}
	if _, err := identity(t, a, keyA).Bind(t.Context(), want).Unwrap([]*age.Stanza{stanza(keyA)}); err != nil {
		t.Error(err)
	}
	bad := want
	bad.Order = "Order 1"
	if _, err := identity(t, a, keyA).Bind(t.Context(), bad).Unwrap([]*age.Stanza{stanza(keyA)}); !errors.Is(err, seal.ErrBinding) || len(a.asked) != 1 {
		t.Errorf("a malformed binding: %v", err)
	}
}

// File keys are wiped: those handed out by Wipe, others before the error.
func TestWipes(t *testing.T) {
	a := &answering{answer: sound}
	bound := identity(t, a, keyA).Bind(t.Context(), want).(*Bound)
	key, err := bound.Unwrap([]*age.Stanza{stanza(keyA)})
	if err != nil || !bytes.Equal(key, bytes.Repeat([]byte{0x5e}, 16)) {
		t.Fatal(err)
	}
	bound.Wipe()
	bound.Wipe()
	if !bytes.Equal(key, make([]byte, 16)) {
		t.Error("Wipe left the file key")
	}
	for name, turn := range map[string]func(*kms.DecryptOutput){
		"another key":       func(o *kms.DecryptOutput) { o.KeyId = aws.String(keyB) },
		"another algorithm": func(o *kms.DecryptOutput) { o.EncryptionAlgorithm = "RSAES_OAEP_SHA_1" },
		"too long":          func(o *kms.DecryptOutput) { o.Plaintext = bytes.Repeat([]byte{0x5e}, 17) },
	} {
		a := &answering{answer: func(in *kms.DecryptInput) (*kms.DecryptOutput, error) {
			o, err := sound(in)
			turn(o)
			return o, err
		}}
		if key, err := identity(t, a, keyA).Bind(t.Context(), want).Unwrap([]*age.Stanza{stanza(keyA)}); err == nil || key != nil {
			t.Errorf("%s: %v", name, err)
		}
		if len(a.out) == 0 || bytes.ContainsFunc(a.out, func(r rune) bool { return r != 0 }) {
			t.Errorf("%s: %x is left", name, a.out)
		}
	}
}

// All keys are tried; what went wrong with each is said and keeps its class.
func TestSeveralFailures(t *testing.T) {
	a := &answering{}
	a.answer = func(in *kms.DecryptInput) (*kms.DecryptOutput, error) {
		if aws.ToString(in.KeyId) == keyA {
			return nil, &smithy.GenericAPIError{Code: "AccessDeniedException", Message: "no"}
		}
		return nil, &types.InvalidCiphertextException{}
	}
	both := []*age.Stanza{stanza(keyA), stanza(keyB)}
	_, err := identity(t, a, keyA, keyB).Bind(t.Context(), want).Unwrap(both)
	if !errors.Is(err, session.ErrDenied) || !errors.Is(err, ErrContext) || !strings.Contains(err.Error(), keyA) || !strings.Contains(err.Error(), keyB) || len(a.asked) != 2 {
		t.Errorf("asked %q: %v", a.asked, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	a = &answering{answer: func(*kms.DecryptInput) (*kms.DecryptOutput, error) { cancel(); return nil, ctx.Err() }}
	if _, err := identity(t, a, keyA, keyB).Bind(ctx, want).Unwrap(both); !errors.Is(err, context.Canceled) || len(a.asked) != 1 {
		t.Errorf("given up, asked %q: %v", a.asked, err)
	}
}

// No stanza makes it panic, ask for a foreign key, or ask twice for one.
func FuzzStanzas(f *testing.F) {
	f.Add("stakeseal.dev/awskms", keyA, bytes.Repeat([]byte{7}, 168), "stakeseal.dev/awskms", keyB)
	f.Add("stakeseal.dev/awskms", keyA, bytes.Repeat([]byte{7}, 168), "stakeseal.dev/awskms", keyA)
	f.Add("X25519", "x", make([]byte, 32), "stakeseal.dev/awskms", "arn:aws:kms:eu-central-1:111122223333:alias/x")
	f.Fuzz(func(t *testing.T, type1, arg1 string, body []byte, type2, arg2 string) {
		a := &answering{answer: sound}
		key, err := identity(t, a, keyA).Bind(t.Context(), want).Unwrap([]*age.Stanza{
			{Type: type1, Args: []string{arg1}, Body: body}, {Type: type2, Args: []string{arg2}, Body: body},
		})
		if len(a.asked) > 1 || len(a.asked) == 1 && a.asked[0] != keyA || (err == nil) != (len(a.asked) == 1) || (err == nil) != (len(key) == 16) {
			t.Fatalf("%d bytes, %v, asked %q", len(key), err, a.asked)
		}
	})
}

// The opener has its own half of KMS; the maker's half does not come to have
// this one.
func TestMakerDoesNotReachThis(t *testing.T) {
	for _, maker := range []string{"seal", "internal/aws/awskms"} {
		out, err := exec.Command("go", "list", "-deps", "github.com/stakeseal/stakeseal/"+maker).Output()
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(out), "awskmsopen") || !strings.Contains(string(out), "stakeseal/secret") {
			t.Errorf("%s reaches awskmsopen, or the list is of something else", maker)
		}
	}
}
