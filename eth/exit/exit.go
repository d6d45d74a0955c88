// Package exit is the voluntary exit: the message, its root, and the JSON that
// beacon nodes take (beacon-APIs, SignedVoluntaryExit).
//
// It promises that what Parse accepts has one reading: every name once, spelled
// as specified, numbers as decimal strings without leading zeros. A file that
// two programs could read differently would be one exit to who confirms it and
// another to the node. It holds no key and judges no signature.
package exit

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"

	"github.com/stakeseal/stakeseal/eth"
)

// ErrFormat is what Parse's errors wrap.
var ErrFormat = errors.New("not a signed voluntary exit")

// MaxFile bounds what Parse reads; an exit has some 320 bytes.
const MaxFile = 4 << 10

// FarFuture is the epoch of what has not been decided (consensus specs,
// FAR_FUTURE_EPOCH).
const FarFuture = ^uint64(0)

// Message is a VoluntaryExit.
type Message struct {
	Epoch uint64 // valid from this epoch on
	Index uint64 // the validator's on the chain
}

// Root is the SSZ hash tree root of the message.
func (m Message) Root() eth.Root {
	var epoch, index eth.Root
	binary.LittleEndian.PutUint64(epoch[:], m.Epoch)
	binary.LittleEndian.PutUint64(index[:], m.Index)
	return eth.Pair(epoch, index)
}

// SigningRoot is what the validator's key signs: under the Capella fork
// version, whatever the fork (EIP-7044). It is false where the network's
// genesis validators root is not known.
func (m Message) SigningRoot(n eth.Network) (eth.Root, bool) {
	domain, ok := n.ExitDomain()
	return eth.SigningRoot(m.Root(), domain), ok
}

// Signed is a SignedVoluntaryExit.
type Signed struct {
	Message   Message
	Signature eth.Signature
}

// MarshalJSON writes the form of the beacon API.
func (s Signed) MarshalJSON() ([]byte, error) {
	return fmt.Appendf(nil, `{"message":{"epoch":"%d","validator_index":"%d"},"signature":"%s"}`, s.Message.Epoch, s.Message.Index, s.Signature), nil
}

// Parse reads one signed exit. Its errors repeat nothing of the file, which
// may be another one than the caller thinks, of secrets.
func Parse(data []byte) (s Signed, err error) {
	if len(data) > MaxFile {
		return s, fmt.Errorf("%w: more than %d bytes", ErrFormat, MaxFile)
	}
	d := decoder{json.NewDecoder(bytes.NewReader(data))}
	err = d.object(map[string]func() error{
		"message": func() error {
			return d.object(map[string]func() error{
				"epoch":           func() error { return d.number(&s.Message.Epoch) },
				"validator_index": func() error { return d.number(&s.Message.Index) },
			})
		},
		"signature": func() error { return d.signature(&s.Signature) },
	})
	if err == nil {
		if _, end := d.Token(); !errors.Is(end, io.EOF) {
			err = errors.New("something follows it")
		}
	}
	if err != nil {
		return Signed{}, fmt.Errorf("%w: %w", ErrFormat, err)
	}
	return s, nil
}

type decoder struct{ *json.Decoder }

var errShape = errors.New(`it should be {"message":{"epoch":"..","validator_index":".."},"signature":"0x.."}`)

// object reads an object that has each of the fields once, and no other.
func (d decoder) object(fields map[string]func() error) error {
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return errShape
	}
	seen := map[string]bool{}
	for d.More() {
		t, err := d.Token()
		name, ok := t.(string)
		if err != nil || !ok || fields[name] == nil {
			return errShape
		}
		if seen[name] {
			return fmt.Errorf("%s is there twice", name)
		}
		seen[name] = true
		if err := fields[name](); err != nil {
			return err
		}
	}
	if t, err := d.Token(); err != nil || t != json.Delim('}') || len(seen) != len(fields) {
		return errShape
	}
	return nil
}

func (d decoder) number(into *uint64) error {
	t, err := d.Token()
	text, ok := t.(string)
	if err != nil || !ok {
		return errShape
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil || strconv.FormatUint(n, 10) != text {
		return errors.New("a number is not a decimal string")
	}
	*into = n
	return nil
}

func (d decoder) signature(into *eth.Signature) error {
	t, err := d.Token()
	text, ok := t.(string)
	if err != nil || !ok || len(text) != 2+2*len(into) || text[:2] != "0x" || into.UnmarshalText([]byte(text)) != nil {
		return errors.New("the signature is not 0x and 192 hex digits")
	}
	return nil
}
