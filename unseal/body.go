package unseal

import (
	"bytes"
	"context"
	"encoding/hex"
	"fmt"

	"github.com/stakeseal/stakeseal/eth/bls"
	"github.com/stakeseal/stakeseal/seal"
	"github.com/stakeseal/stakeseal/secret"
)

// SigningSecret is an opened signing sealing, the caller's to wipe.
type SigningSecret struct {
	Key      *bls.Key
	Path     string        // EIP-2334
	Keystore []byte        // EIP-2335 JSON; nil where none was made
	Password *secret.Bytes // the keystore's, 64 hex digits; nil where none was made
}

// Wipe wipes the key and the password; the keystore is ciphertext.
func (s *SigningSecret) Wipe() {
	if s == nil {
		return
	}
	if s.Key != nil {
		s.Key.Wipe()
	}
	s.Password.Wipe()
}

// RecoverySecret is an opened recovery sealing, the caller's to wipe.
type RecoverySecret struct {
	Words    *secret.Bytes     // UTF-8, single spaces
	Language string            // the fact of that name; empty if the sealer wrote none
	Facts    map[string]string // public lines by name
}

// Wipe wipes the words.
func (r *RecoverySecret) Wipe() {
	if r != nil {
		r.Words.Wipe()
	}
}

// Key opens a signing sealing and returns its key only if that key's pubkey is
// the one in want: the header alone would let a sealer hand a signer another
// key under a known name. Errors are those of Open; a key of another pubkey is
// ErrBinding, field secret-key. The keystore is not opened.
func (o *Opener) Key(ctx context.Context, file []byte, want seal.Binding) (*SigningSecret, error) {
	if want.Purpose != seal.Signing {
		return nil, fmt.Errorf("couldn't open a signing key: %w: the purpose asked for is not signing", seal.ErrBinding)
	}
	body, err := o.Open(ctx, file, want)
	if err != nil {
		return nil, err
	}
	defer body.Wipe()
	p, err := parseSigning(body.Expose())
	if err != nil {
		return nil, fmt.Errorf("couldn't open: %w", err)
	}
	defer p.key.Wipe()
	s := &SigningSecret{Path: p.path, Keystore: p.keystore, Password: p.password}
	if s.Key, err = bls.Parse(p.key); err != nil {
		s.Wipe()
		return nil, fmt.Errorf("couldn't open: %w: its secret key is not one of BLS12-381", ErrBody)
	}
	if found := s.Key.Pubkey().Hex(); found != want.Subject {
		s.Wipe()
		return nil, fmt.Errorf("couldn't open: %w", &BindingError{[]Mismatch{{"secret-key", want.Subject, found}}})
	}
	return s, nil
}

// Mnemonic opens a recovery sealing. Errors are those of Open. That the words
// are a valid mnemonic and make the recorded pubkeys, a drill shows.
func (o *Opener) Mnemonic(ctx context.Context, file []byte, want seal.Binding) (*RecoverySecret, error) {
	if want.Purpose != seal.Recovery {
		return nil, fmt.Errorf("couldn't open a mnemonic: %w: the purpose asked for is not recovery", seal.ErrBinding)
	}
	body, err := o.Open(ctx, file, want)
	if err != nil {
		return nil, err
	}
	defer body.Wipe()
	facts, words, _, err := parseRecovery(body.Expose())
	if err != nil {
		return nil, fmt.Errorf("couldn't open: %w", err)
	}
	r := &RecoverySecret{Words: words, Facts: map[string]string{}}
	for _, f := range facts {
		r.Facts[f.Name] = f.Value
	}
	r.Language = r.Facts["language"]
	return r, nil
}

type signingBody struct {
	path          string
	key, password *secret.Bytes
	keystore      []byte
}

// parseSigning reads exactly what seal.SigningBody writes. Secrets go from
// body to a secret.Bytes without a string between; errors give the line only.
func parseSigning(body []byte) (p signingBody, err error) {
	number := 0
	line := func(prefix string) ([]byte, error) {
		number++
		after, ok := bytes.CutPrefix(body, []byte(prefix))
		end := bytes.IndexByte(after, '\n')
		if !ok || end < 0 {
			return nil, badLine(number)
		}
		body = after[end+1:]
		return after[:end], nil
	}
	defer func() {
		if err != nil {
			p.key.Wipe()
			p.password.Wipe()
			p = signingBody{}
		}
	}()

	path, err := line(seal.PathLine)
	if err != nil {
		return p, err
	}
	if len(path) > 256 || !seal.GoodPath(string(path)) {
		return p, badLine(number)
	}
	p.path = string(path)

	digits, err := line(seal.KeyLine)
	if err != nil {
		return p, err
	}
	if len(digits) != 64 || !lowerHex(digits) {
		return p, badLine(number)
	}
	p.key = secret.New(32)
	if _, err := hex.Decode(p.key.Expose(), digits); err != nil {
		return p, badLine(number) // not err: it would show a character
	}
	if len(body) == 0 {
		return p, nil
	}

	password, err := line(seal.PasswordLine)
	if err != nil {
		return p, err
	}
	if !seal.GoodPassword(password) {
		return p, badLine(number)
	}
	p.password = secret.Copy(password)

	keystore, err := line(seal.KeystoreLine)
	if err != nil {
		return p, err
	}
	if !seal.GoodKeystore(keystore) || len(body) > 0 {
		return p, badLine(number)
	}
	p.keystore = bytes.Clone(keystore)
	return p, nil
}

// parseRecovery reads what seal.RecoveryBody writes, with any help text, which
// it returns as a part of body.
func parseRecovery(body []byte) (facts []seal.Fact, words *secret.Bytes, help []byte, err error) {
	seen := map[string]bool{}
	for number := 1; ; number++ {
		end := bytes.IndexByte(body, '\n')
		if end < 0 {
			return nil, nil, nil, badLine(number)
		}
		line := body[:end]
		body = body[end+1:]
		if w, ok := bytes.CutPrefix(line, []byte(seal.MnemonicLine)); ok {
			if !seal.GoodWords(w) || len(body) > 0 && body[0] != '\n' {
				return nil, nil, nil, badLine(number)
			}
			return facts, secret.Copy(w), body, nil
		}
		name, value, ok := bytes.Cut(line, []byte(": "))
		if !ok {
			return nil, nil, nil, badLine(number)
		}
		f := seal.Fact{Name: string(name), Value: string(value)}
		if !f.Good() || seen[f.Name] {
			return nil, nil, nil, badLine(number)
		}
		seen[f.Name] = true
		facts = append(facts, f)
	}
}

func lowerHex(b []byte) bool {
	for _, c := range b {
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}

func badLine(n int) error { return fmt.Errorf("%w: its line %d", ErrBody, n) }
