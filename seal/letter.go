package seal

import (
	"bytes"
	"errors"
	"fmt"

	"filippo.io/age"
)

// HeaderStart begins the plaintext of every sealing, and of no letter.
const HeaderStart = "stakeseal sealed "

// MaxLetter bounds a letter's text.
const MaxLetter = 16 << 10

// Letter seals a text that is a validator's, but no key, to people: a signed
// exit on its way to whoever keeps it. The file is the text in an age file and
// nothing else, so that age -d gives what other software takes. It says nothing
// of what it is: whoever opens it verifies the text. Recipients of KMS are
// refused, as their key policy judges by a binding, and a letter has none.
func (r *Recipients) Letter(text []byte) ([]byte, error) {
	switch {
	case r == nil || len(r.list) == 0:
		return nil, fmt.Errorf("couldn't seal: %w: no recipient", ErrRecipient)
	case len(text) == 0 || len(text) > MaxLetter:
		return nil, fmt.Errorf("couldn't seal: %w: a letter of %d bytes, not 1 to %d", ErrSize, len(text), MaxLetter)
	case bytes.HasPrefix(text, []byte(HeaderStart)):
		return nil, fmt.Errorf("couldn't seal: %w", errSealing)
	}
	bound := make([]age.Recipient, len(r.list))
	for i, n := range r.list {
		plain, ok := n.Recipient.(interface{ letter() age.Recipient })
		if !ok {
			return nil, fmt.Errorf("couldn't seal to %s: %w: it is not a key that a letter can be sealed to", n.Name, ErrRecipient)
		}
		bound[i] = plain.letter()
	}
	var file bytes.Buffer
	w, err := age.Encrypt(&file, bound...)
	if err != nil {
		return nil, fmt.Errorf("couldn't seal: %w", err)
	}
	if _, err := w.Write(text); err != nil {
		return nil, fmt.Errorf("couldn't seal: %w", err)
	}
	if err := w.Close(); err != nil {
		return nil, fmt.Errorf("couldn't seal: %w", err)
	}
	return file.Bytes(), nil
}

var errSealing = errors.New("the text begins as a sealing does")

// letter is the key of a recipient that wraps by itself.
func (p *plain) letter() age.Recipient { return p.key }
