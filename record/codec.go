package record

import (
	"bytes"
	"encoding/json"
	"fmt"
)

// MaxRecord bounds an encoded record in bytes: under the 400 KB that the
// smallest store allows for an item, and small enough that a hostile file
// costs no memory.
const MaxRecord = 384 << 10

// The forms below are what archive objects, bundles and stores hold. Each
// value has exactly one: a decoder accepts what the encoder writes and
// nothing else, so two records are equal if and only if their bytes are, and
// a digest of the bytes is a digest of the record. That refuses at once what
// encoding/json lets pass: keys in another case, keys given twice (where
// another parser may see another value), null, white space, upper-case hex.
//
// Decoders check what a record can show about itself (see Check), among it
// that a sealing's digest is the sha256 of its file. They do not verify
// certificates. All their errors are ErrFormat.
var (
	orders      = form[Order]{schema: "stakeseal/order/v1"}
	mnemonics   = form[Mnemonic]{schema: "stakeseal/mnemonic/v1"}
	births      = form[Birth]{"stakeseal/birth/v1", writeBirth, readBirth}
	validators  = form[Validator]{"stakeseal/validator/v1", writeValidator, readValidator}
	assignments = form[Assignment]{schema: "stakeseal/assignment/v1"}
	events      = form[Event]{schema: "stakeseal/event/v1"}
)

func EncodeOrder(o Order) ([]byte, error)           { return orders.encode(o) }
func DecodeOrder(data []byte) (Order, error)        { return orders.decode(data) }
func EncodeMnemonic(m Mnemonic) ([]byte, error)     { return mnemonics.encode(m) }
func DecodeMnemonic(data []byte) (Mnemonic, error)  { return mnemonics.decode(data) }
func EncodeBirth(b Birth) ([]byte, error)           { return births.encode(b) }
func DecodeBirth(data []byte) (Birth, error)        { return births.decode(data) }
func EncodeValidator(v Validator) ([]byte, error)   { return validators.encode(v) }
func DecodeValidator(b []byte) (Validator, error)   { return validators.decode(b) }
func EncodeAssignment(a Assignment) ([]byte, error) { return assignments.encode(a) }
func DecodeAssignment(b []byte) (Assignment, error) { return assignments.decode(b) }
func EncodeEvent(e Event) ([]byte, error)           { return events.encode(e) }
func DecodeEvent(data []byte) (Event, error)        { return events.decode(data) }

type checker interface{ Check() error }

// form is one JSON form: an object whose first field is "schema". write and
// read, of the fields that follow and the closing brace, spare encoding/json
// the work; see direct.go.
type form[T checker] struct {
	schema string
	write  func(w []byte, v T) []byte
	read   func(data []byte) (T, bool)
}

// opening is how every object of the form begins.
func (f form[T]) opening() []byte { return []byte(`{"schema":"` + f.schema + `",`) }

func (f form[T]) encode(v T) ([]byte, error) {
	if err := v.Check(); err != nil {
		return nil, fmt.Errorf("couldn't encode %s: %w", f.schema, err)
	}
	return f.marshal(v)
}

// marshal encodes a value that Check has passed.
func (f form[T]) marshal(v T) ([]byte, error) {
	var data []byte
	if f.write != nil {
		data = f.write(f.opening(), v)
	} else {
		body, err := json.Marshal(v)
		if err != nil {
			return nil, fmt.Errorf("couldn't encode %s: %w: %w", f.schema, ErrFormat, err)
		}
		data = append(f.opening(), body[1:]...) // every record has fields: body is {"...
	}
	if len(data) > MaxRecord {
		return nil, fmt.Errorf("couldn't encode %s: %w: %d bytes, more than %d", f.schema, ErrFormat, len(data), MaxRecord)
	}
	return data, nil
}

func (f form[T]) decode(data []byte) (v T, err error) {
	var zero T
	fail := func(format string, args ...any) (T, error) {
		return zero, fmt.Errorf("couldn't read %s: %w: %w", f.schema, ErrFormat, fmt.Errorf(format, args...))
	}
	if len(data) > MaxRecord {
		return fail("%d bytes, more than %d", len(data), MaxRecord)
	}
	opening := f.opening()
	rest, ok := bytes.CutPrefix(data, opening)
	if !ok {
		var other struct {
			Schema string `json:"schema"`
		}
		if json.Unmarshal(data, &other) == nil && other.Schema != "" && other.Schema != f.schema {
			return fail("it is a %q", clip(other.Schema))
		}
		return fail("does not begin with %s", opening)
	}
	if f.read != nil {
		if v, ok := f.read(rest); ok && v.Check() == nil {
			if again, err := f.marshal(v); err == nil && bytes.Equal(again, data) {
				return v, nil
			}
		}
	}
	dec := json.NewDecoder(bytes.NewReader(append([]byte{'{'}, rest...)))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&v); err != nil {
		return fail("%w", err)
	}
	if err := v.Check(); err != nil {
		return zero, fmt.Errorf("couldn't read %s: %w", f.schema, err)
	}
	again, err := f.marshal(v)
	if err != nil {
		return zero, err
	}
	if !bytes.Equal(again, data) { // trailing data differs too
		return fail("not in the one form that this record is written in (byte %d)", firstDifference(again, data))
	}
	return v, nil
}

func firstDifference(a, b []byte) int {
	n := min(len(a), len(b))
	for i := range n {
		if a[i] != b[i] {
			return i
		}
	}
	return n
}

// clip keeps a hostile value from filling a terminal.
func clip(s string) string {
	if len(s) > 200 {
		return s[:200] + "..."
	}
	return s
}
