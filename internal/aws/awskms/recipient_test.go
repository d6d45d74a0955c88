package awskms

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"

	"filippo.io/age"
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"

	"github.com/stakeseal/stakeseal/internal/aws/arn"
	"github.com/stakeseal/stakeseal/internal/aws/session"
	"github.com/stakeseal/stakeseal/seal"
	"github.com/stakeseal/stakeseal/secret"
)

const (
	keyARN  = "arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab"
	keyARN2 = "arn:aws:kms:eu-west-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab"
	classic = "age1zvkyg2lqzraa2lnjvqej32nkuu0ues2s82hzrye869xeexvn73equnujwj"
)

// answering is KMS as a function; it keeps the last request, its plaintext
// copied.
type answering struct {
	turn  func(*kms.EncryptOutput)
	err   error
	asked *kms.EncryptInput
}

func (a *answering) Encrypt(_ context.Context, in *kms.EncryptInput, _ ...func(*kms.Options)) (*kms.EncryptOutput, error) {
	asked := *in
	asked.Plaintext = bytes.Clone(in.Plaintext)
	a.asked = &asked
	if a.err != nil {
		return nil, a.err
	}
	out := &kms.EncryptOutput{KeyId: in.KeyId, EncryptionAlgorithm: in.EncryptionAlgorithm, CiphertextBlob: bytes.Repeat([]byte{7}, 168)}
	if a.turn != nil {
		a.turn(out)
	}
	return out, nil
}

func (*answering) Sign(context.Context, *kms.SignInput, ...func(*kms.Options)) (*kms.SignOutput, error) {
	return nil, errors.New("not asked for")
}

func (*answering) GetPublicKey(context.Context, *kms.GetPublicKeyInput, ...func(*kms.Options)) (*kms.GetPublicKeyOutput, error) {
	return nil, errors.New("not asked for")
}

func TestParseRecipient(t *testing.T) {
	for _, c := range []struct {
		text string
		good bool
	}{
		{"awskms:" + keyARN, true},
		{"awskms:" + keyARN2, true},
		{"", false},
		{keyARN, false},
		{"awskms:", false},
		{"AWSKMS:" + keyARN, false},
		{"awskms: " + keyARN, false},
		{"awskms:" + keyARN + "\n", false},
		{"awskms:arn:aws:kms:eu-central-1:111122223333:alias/sealing", false},
		{"awskms:" + strings.Replace(keyARN, "1234abcd-12ab-34cd-56ef-1234567890ab", "mrk-1234abcd12ab34cd56ef1234567890ab", 1), false},
		{classic, false},
		{"AGE-SECRET-KEY-1GFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPQ4EGAEX", false},
	} {
		var dialled []string
		r, err := ParseRecipient(c.text, func(key arn.ARN) Client { dialled = append(dialled, key.Region); return &answering{} })
		if !c.good {
			if !errors.Is(err, seal.ErrRecipient) || r != nil || dialled != nil {
				t.Errorf("%q: %v, %v", c.text, r, err)
			} else if strings.Contains(err.Error(), "GFPYYS") {
				t.Errorf("a secret was echoed: %v", err)
			}
			continue
		}
		if err != nil || r.String() != c.text || len(dialled) != 1 || !strings.Contains(c.text, dialled[0]) {
			t.Errorf("%q: %v, %v, dialled %v", c.text, r, err, dialled)
		}
	}
	if _, err := NewRecipient(nil, keyARN); !errors.Is(err, seal.ErrRecipient) {
		t.Errorf("without a client: %v", err)
	}
	if _, err := NewRecipient(&answering{}, "awskms:"+keyARN); !errors.Is(err, seal.ErrRecipient) {
		t.Errorf("not an ARN: %v", err)
	}
}

func TestParseRecipientFile(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{"# signer pool a\n\nawskms:" + keyARN + "\n", "awskms:" + keyARN},
		{"  awskms:" + keyARN + "\r\n", "awskms:" + keyARN},
		{classic + "\n", classic},
		{"", ""},
		{"# nothing\n", ""},
		{"awskms:" + keyARN + "\nawskms:" + keyARN2 + "\n", ""},
		{"awskms:" + keyARN + "\n" + classic + "\n", ""},
		{classic + "\nawskms:" + keyARN + "\n", ""},
		{"awskms:x\n", ""},
		{"#" + strings.Repeat("x", 65<<10) + "\nawskms:" + keyARN + "\n", ""},
	} {
		r, err := ParseRecipientFile([]byte(c.text), nil)
		if c.want == "" {
			if !errors.Is(err, seal.ErrRecipient) {
				t.Errorf("%.60q: %v, %v", c.text, r, err)
			}
			continue
		}
		if err != nil || r.String() != c.want {
			t.Errorf("%.60q: %v, %v", c.text, r, err)
		}
	}
}

// Whatever parses is of a kind that its text says and is written the same;
// no input panics, and every refusal is of one class.
func FuzzParseRecipientFile(f *testing.F) {
	f.Add([]byte("# a\nawskms:" + keyARN + "\n"))
	f.Add([]byte(classic))
	f.Add([]byte("awskms:" + keyARN + "\nawskms:" + keyARN2))
	f.Add([]byte("awskms:arn:aws:kms:eu-central-1:111122223333:alias/x"))
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := ParseRecipientFile(data, nil)
		if err != nil {
			if !errors.Is(err, seal.ErrRecipient) {
				t.Fatal(err)
			}
			return
		}
		again, err := ParseRecipientFile([]byte(r.String()), nil)
		if err != nil || again.String() != r.String() || !bytes.Contains(data, []byte(r.String())) {
			t.Fatalf("%q became %v, %v", data, again, err)
		}
	})
}

// The request is what the format says, and nothing of the file key is kept.
func TestRequest(t *testing.T) {
	client := &answering{}
	r, err := NewRecipient(client, keyARN)
	if err != nil {
		t.Fatal(err)
	}
	b := seal.SigningBinding("hoodi", "order-1", 3, [48]byte{1})
	fileKey := bytes.Repeat([]byte{0x5e}, 16)
	stanzas, labels, err := r.BindLabels(t.Context(), b, []string{"postquantum"}).(age.RecipientWithLabels).WrapWithLabels(fileKey)
	if err != nil {
		t.Fatal(err)
	}
	if len(stanzas) != 1 || stanzas[0].Type != "stakeseal.dev/awskms" || len(stanzas[0].Args) != 1 || stanzas[0].Args[0] != keyARN ||
		!bytes.Equal(stanzas[0].Body, bytes.Repeat([]byte{7}, 168)) {
		t.Errorf("stanza %+v", stanzas)
	}
	if len(labels) != 1 || labels[0] != "postquantum" {
		t.Errorf("labels %q", labels)
	}
	in := client.asked
	if aws.ToString(in.KeyId) != keyARN || !bytes.Equal(in.Plaintext, fileKey) || in.EncryptionAlgorithm != "SYMMETRIC_DEFAULT" || in.DryRun != nil || in.GrantTokens != nil {
		t.Errorf("asked for %+v", in)
	}
	if len(in.EncryptionContext) != 7 || in.EncryptionContext["purpose"] != "signing" || in.EncryptionContext["pubkey"] != b.Subject {
		t.Errorf("context %v", in.EncryptionContext)
	}
	if _, labels, _ := r.Bind(t.Context(), b).(age.RecipientWithLabels).WrapWithLabels(fileKey); labels != nil {
		t.Errorf("alone it has labels %q", labels)
	}
	if stanzas, err := r.Bind(t.Context(), b).Wrap(fileKey); err != nil || len(stanzas) != 1 {
		t.Errorf("Wrap: %v, %v", stanzas, err)
	}
}

// Nothing is asked that should not be, and no wrong answer gets into a file.
func TestRefusedWraps(t *testing.T) {
	good := seal.SigningBinding("hoodi", "order-1", 3, [48]byte{1})
	bad := good
	bad.Subject = "THE SECRET KEY BY MISTAKE"
	for _, c := range []struct {
		name   string
		client *answering
		b      seal.Binding
		key    int
		is     error
		asks   bool
	}{
		{"a short file key", &answering{}, good, 15, nil, false},
		{"a long file key", &answering{}, good, 32, nil, false},
		{"a malformed binding", &answering{}, bad, 16, seal.ErrBinding, false},
		{"no binding", &answering{}, seal.Binding{}, 16, seal.ErrBinding, false},
		{"for another key", &answering{turn: func(o *kms.EncryptOutput) { o.KeyId = aws.String(keyARN2) }}, good, 16, session.ErrRemote, true},
		{"for no key", &answering{turn: func(o *kms.EncryptOutput) { o.KeyId = nil }}, good, 16, session.ErrRemote, true},
		{"another algorithm", &answering{turn: func(o *kms.EncryptOutput) { o.EncryptionAlgorithm = "RSAES_OAEP_SHA_256" }}, good, 16, session.ErrRemote, true},
		{"no ciphertext", &answering{turn: func(o *kms.EncryptOutput) { o.CiphertextBlob = nil }}, good, 16, session.ErrRemote, true},
		{"the plaintext's length", &answering{turn: func(o *kms.EncryptOutput) { o.CiphertextBlob = make([]byte, 16) }}, good, 16, session.ErrRemote, true},
		{"too long", &answering{turn: func(o *kms.EncryptOutput) { o.CiphertextBlob = make([]byte, MaxBlob+1) }}, good, 16, session.ErrRemote, true},
		{"an error", &answering{err: errors.New("gone")}, good, 16, session.ErrRemote, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			r, err := NewRecipient(c.client, keyARN)
			if err != nil {
				t.Fatal(err)
			}
			key := bytes.Repeat([]byte("K"), c.key)
			stanzas, err := r.Bind(t.Context(), c.b).Wrap(key)
			if err == nil || stanzas != nil || c.is != nil && !errors.Is(err, c.is) {
				t.Fatalf("got %v, %v", stanzas, err)
			}
			if (c.client.asked != nil) != c.asks {
				t.Errorf("asked %v", c.client.asked)
			}
			if text := err.Error(); strings.Contains(text, "KKK") || strings.Contains(text, "SECRET") {
				t.Errorf("the error repeats a secret: %s", text)
			}
		})
	}
}

// A program without clients can read and name the list, not seal to it.
func TestNamedOnly(t *testing.T) {
	r, err := ParseRecipientFile([]byte("awskms:"+keyARN), nil)
	if err != nil {
		t.Fatal(err)
	}
	to, err := seal.NewRecipients(seal.Signing, seal.Named{Name: "a", Recipient: r})
	if err != nil {
		t.Fatal(err)
	}
	if file, err := to.Seal(t.Context(), seal.SigningBinding("hoodi", "o", 0, [48]byte{}), secret.Copy([]byte("x"))); err == nil || file != nil {
		t.Errorf("sealed without a client: %v", err)
	}
}

// One key under two names is refused by seal; this is what it compares.
func TestDuplicates(t *testing.T) {
	a, err := NewRecipient(&answering{}, keyARN)
	if err != nil {
		t.Fatal(err)
	}
	b, err := NewRecipient(&answering{}, keyARN)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := seal.NewRecipients(seal.Signing, seal.Named{Name: "a", Recipient: a}, seal.Named{Name: "b", Recipient: b}); !errors.Is(err, seal.ErrRecipient) {
		t.Errorf("got %v", err)
	}
}

// One client for each region, whatever the number of keys.
func TestDial(t *testing.T) {
	dial := Dial(nil, session.Options{})
	one, err := arn.Key(keyARN)
	if err != nil {
		t.Fatal(err)
	}
	two, err := arn.Key(keyARN2)
	if err != nil {
		t.Fatal(err)
	}
	if dial(one) != dial(one) || dial(one) == dial(two) {
		t.Error("clients are not by region")
	}
	for key, region := range map[arn.ARN]string{one: "eu-central-1", two: "eu-west-1"} {
		if got := dial(key).(*kms.Client).Options().Region; got != region {
			t.Errorf("a client for %s in %s", region, got)
		}
	}
}
