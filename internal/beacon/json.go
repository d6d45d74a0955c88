package beacon

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// number is an integer as the beacon API writes it: a decimal string.
type number uint64

func (n *number) UnmarshalJSON(b []byte) error {
	s := string(b)
	if len(s) < 3 || s[0] != '"' || s[len(s)-1] != '"' {
		return errors.New("a number is not a decimal string")
	}
	s = s[1 : len(s)-1]
	v, err := strconv.ParseUint(s, 10, 64)
	if err != nil || len(s) > 1 && s[0] == '0' {
		return errors.New("a number is not a decimal string")
	}
	*n = number(v)
	return nil
}

// decode reads one JSON value and nothing after it.
func decode(r io.Reader, into any) error {
	data, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	return strict(data, into)
}

// strict is json.Unmarshal without its leniency: encoding/json matches names
// in any case and lets the last of two win, so that a checker and a client
// could read different things.
func strict(data []byte, into any) error {
	if err := unambiguous(data); err != nil {
		return err
	}
	if err := json.Unmarshal(data, into); err != nil {
		var kind *json.UnmarshalTypeError
		if errors.As(err, &kind) {
			return fmt.Errorf("the JSON has a wrong type at %q", clip(kind.Field))
		}
		return fmt.Errorf("the JSON can't be read: %w", err)
	}
	return nil
}

func clip(s string) string {
	if len(s) > 100 {
		return s[:100] + "..."
	}
	return s
}

// unambiguous refuses an object that has two names which are equal but for
// their case.
func unambiguous(data []byte) error {
	if !json.Valid(data) {
		return errors.New("the answer isn't JSON")
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	type level struct {
		names map[string]bool // nil in an array
		value bool            // the next token is a value, not a name
	}
	var stack []level
	for {
		t, err := dec.Token()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("the JSON can't be read: %w", err)
		}
		top := len(stack) - 1
		if name, ok := t.(string); ok && top >= 0 && stack[top].names != nil && !stack[top].value {
			name = strings.ToLower(name)
			if stack[top].names[name] {
				return fmt.Errorf("the JSON has the name %q twice", clip(name))
			}
			stack[top].names[name] = true
			stack[top].value = true
			continue
		}
		switch t {
		case json.Delim('{'):
			stack = append(stack, level{names: map[string]bool{}})
		case json.Delim('['):
			stack = append(stack, level{})
		case json.Delim('}'), json.Delim(']'):
			stack = stack[:top]
			if top > 0 {
				stack[top-1].value = false
			}
		default:
			if top >= 0 {
				stack[top].value = false
			}
		}
	}
}
