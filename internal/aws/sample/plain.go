package sample

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"

	"github.com/stakeseal/stakeseal/secret"
)

// The plaintext is one JSON object of three texts, each of them base64:
// keystore_b64, password_b64, mnemonic_b64. It is read here and not by
// encoding/json, which keeps copies of what it reads.

// maxPlain is the most that KMS encrypts.
const maxPlain = 4096

// parse reads a plaintext: the three names, each once, in any order, white
// space between tokens as JSON has it, no escapes (base64 needs none), nothing
// behind. Nothing of it is echoed. The plaintext stays the caller's to wipe.
func parse(plain *secret.Bytes) (*Secret, error) {
	if plain.Len() > maxPlain {
		return nil, fmt.Errorf("%w: its plaintext has %d bytes, more than %d", ErrRow, plain.Len(), maxPlain)
	}
	s := &Secret{}
	if err := s.read(plain); err != nil {
		return nil, fmt.Errorf("%w: its plaintext %w", ErrRow, err)
	}
	return s, nil
}

// read fills an empty s, or leaves nothing in it that is not wiped.
func (s *Secret) read(plain *secret.Bytes) (err error) {
	defer func() {
		if err != nil {
			s.Wipe()
		}
	}()
	r := &scanner{rest: plain.Expose()}
	if !r.token('{') {
		return errors.New("is no JSON object")
	}
	for n := range 3 {
		if n > 0 && !r.token(',') {
			return errors.New("lacks a field, or is no JSON")
		}
		name, ok := r.text()
		if !ok || !r.token(':') {
			return errors.New("is no JSON object of texts")
		}
		encoded, ok := r.text()
		if !ok {
			return errors.New("is no JSON object of texts")
		}
		var into **secret.Bytes
		switch string(name) { // the compiler makes no copy for it
		case "keystore_b64":
			into = &s.Keystore
		case "password_b64":
			into = &s.Password
		case "mnemonic_b64":
			into = &s.Words
		default:
			return errors.New("has a field that the sample does not write")
		}
		if *into != nil {
			return errors.New("has a field twice")
		}
		if *into, err = decode(encoded); err != nil {
			return err
		}
	}
	if !r.token('}') || !r.end() {
		return errors.New("goes on behind its three fields")
	}
	return nil
}

func decode(encoded []byte) (*secret.Bytes, error) {
	b := secret.New(base64.StdEncoding.DecodedLen(len(encoded)))
	defer b.Wipe()
	// The decoder skips line ends: text refuses them, as JSON does.
	n, err := base64.StdEncoding.Strict().Decode(b.Expose(), encoded)
	if err != nil || n == 0 {
		return nil, errors.New("has a field that is not base64")
	}
	return secret.Copy(b.Expose()[:n]), nil
}

// scanner reads JSON tokens out of a buffer, copying nothing.
type scanner struct{ rest []byte }

func (r *scanner) space() { r.rest = bytes.TrimLeft(r.rest, " \t\r\n") }

func (r *scanner) token(c byte) bool {
	r.space()
	if len(r.rest) == 0 || r.rest[0] != c {
		return false
	}
	r.rest = r.rest[1:]
	return true
}

// text reads a string of printable ASCII without escapes.
func (r *scanner) text() ([]byte, bool) {
	if !r.token('"') {
		return nil, false
	}
	for i, c := range r.rest {
		switch {
		case c == '"':
			text := r.rest[:i]
			r.rest = r.rest[i+1:]
			return text, true
		case c < ' ' || c > '~' || c == '\\':
			return nil, false
		}
	}
	return nil, false
}

func (r *scanner) end() bool {
	r.space()
	return len(r.rest) == 0
}
