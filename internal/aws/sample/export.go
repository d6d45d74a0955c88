package sample

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"unicode/utf8"
)

// MaxExport bounds an export in bytes.
const MaxExport = 512 << 20

// ErrExport says that a file is not a whole export of a table.
var ErrExport = errors.New("not a whole output of aws dynamodb scan --output json")

// ParseExport reads what aws dynamodb scan --output json prints: an object
// with Items, each in DynamoDB's JSON, and their Count. It refuses an export
// that says that it is not all of the table (--max-items, --no-paginate, a
// filter), names that stand twice, and all that is no such file (ErrExport);
// an item that is not a row of the sample's is a Read with its error.
func ParseExport(data []byte) ([]Read, error) {
	rows, err := parseExport(data)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrExport, err)
	}
	return rows, nil
}

func parseExport(data []byte) (rows []Read, err error) {
	switch {
	case len(data) > MaxExport:
		return nil, fmt.Errorf("%d bytes, more than %d", len(data), MaxExport)
	case !utf8.Valid(data): // a decoder would replace what is not
		return nil, errors.New("not UTF-8")
	}
	d := json.NewDecoder(bytes.NewReader(data))
	count, scanned, items := int64(-1), int64(-1), false
	err = object(d, func(name string) error {
		switch name {
		case "Items":
			items = true
			return list(d, func() error {
				item, err := item(d)
				if err != nil {
					return err
				}
				if rows = append(rows, read(item)); len(rows) > maxRows {
					return fmt.Errorf("more than %d rows", maxRows)
				}
				return nil
			})
		case "Count":
			return d.Decode(&count)
		case "ScannedCount":
			return d.Decode(&scanned)
		case "ConsumedCapacity":
			return d.Decode(&json.RawMessage{})
		case "NextToken", "LastEvaluatedKey":
			return errors.New("it says that the table goes on: export it without --max-items and --no-paginate")
		}
		return fmt.Errorf("it has a field %.80q", name)
	})
	if err != nil {
		return nil, err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("something follows it")
	}
	switch {
	case !items || count < 0 || scanned < 0:
		return nil, errors.New("it lacks Items, Count or ScannedCount")
	case count != int64(len(rows)) || scanned != count:
		return nil, fmt.Errorf("it holds %d items, counts %d and saw %d: it was cut, or made with a filter", len(rows), count, scanned)
	}
	return rows, nil
}

// item reads an item: an object of attributes, each an object of one type and
// its value.
func item(d *json.Decoder) (map[string]value, error) {
	out := map[string]value{}
	err := object(d, func(attribute string) error {
		var v value
		types := 0
		err := object(d, func(kind string) error {
			types++
			switch kind {
			case "S":
				return typed(d, &v.text)
			case "BOOL":
				return typed(d, &v.truth)
			}
			return d.Decode(&json.RawMessage{}) // no row of the sample's has it
		})
		if err != nil {
			return err
		}
		if types != 1 {
			return fmt.Errorf("an attribute %.80q of %d types", attribute, types)
		}
		out[attribute] = v
		return nil
	})
	return out, err
}

// typed reads a value that must be of this type; null is none.
func typed[T any](d *json.Decoder, into **T) error {
	var raw json.RawMessage
	if err := d.Decode(&raw); err != nil {
		return err
	}
	if string(raw) == "null" {
		return errors.New("an attribute is null")
	}
	v := new(T)
	if err := json.Unmarshal(raw, v); err != nil {
		return errors.New("an attribute's value is not of the type that it names")
	}
	*into = v
	return nil
}

// object reads an object, each name once.
func object(d *json.Decoder, field func(name string) error) error {
	if err := delim(d, '{'); err != nil {
		return err
	}
	seen := map[string]bool{}
	for d.More() {
		token, err := d.Token()
		if err != nil {
			return err
		}
		name, ok := token.(string)
		if !ok || seen[name] { // of two, another reader may see the other
			return fmt.Errorf("a name stands twice: %.80q", name)
		}
		seen[name] = true
		if err := field(name); err != nil {
			return err
		}
	}
	return delim(d, '}')
}

func list(d *json.Decoder, element func() error) error {
	if err := delim(d, '['); err != nil {
		return err
	}
	for d.More() {
		if err := element(); err != nil {
			return err
		}
	}
	return delim(d, ']')
}

func delim(d *json.Decoder, want json.Delim) error {
	token, err := d.Token()
	if err != nil {
		return err
	}
	if token != want {
		return fmt.Errorf("no %q where one should be", string(want))
	}
	return nil
}
