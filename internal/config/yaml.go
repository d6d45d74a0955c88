// Package config reads the settings files: generator.yaml, what the maker
// obeys, and home.yaml, what this operator uses. It parses them to plain
// values and references; what a reference such as "sqlite:records.db" means
// is decided by each program's own wiring. docs/formats/settings.md describes
// every key.
//
// Reading is strict: whatever a reviewer of the file could read otherwise than
// the program does is refused, and everything is validated before any key
// exists. Files are read once, and digests are of the very bytes that were
// parsed. It trusts the folder it is given: where that is a link, or holds
// links, they are followed (os.Root confines them), and the digest is of what
// they led to.
package config

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/goccy/go-yaml/ast"

	"github.com/stakeseal/stakeseal/certificate"
	"github.com/stakeseal/stakeseal/eth"
)

// maxFile bounds a settings or recipient file, bytes.
const maxFile = 1 << 20

// ErrSettings says that a settings file cannot be used as it is.
var ErrSettings = errors.New("bad settings")

// decode reads a settings file into a struct of the kinds below, by the rules
// of the trust file: one parser for what a reviewer reads, and one spelling of
// a custom network.
func decode(name string, data []byte, into any) error {
	err := plain(data)
	if err == nil {
		err = certificate.DecodeYAML(data, into)
	}
	if err != nil {
		return fmt.Errorf("%w: %s: %w", ErrSettings, name, err)
	}
	return nil
}

// plain refuses bytes that an editor or a terminal shows otherwise than YAML
// reads them: a lone carriage return (a line break to YAML, none on screen),
// a byte order mark, marks that turn or hide text, NUL.
func plain(data []byte) error {
	if !utf8.Valid(data) {
		return errors.New("it is not UTF-8")
	}
	line := 1
	for i, r := range string(data) {
		switch {
		case r == '\n':
			line++
		case r == '\t', r == '\r' && i+1 < len(data) && data[i+1] == '\n', unicode.IsPrint(r):
		default:
			return fmt.Errorf("line %d: the character %U is not allowed here", line, r)
		}
	}
	return nil
}

func readFile(fsys fs.FS, name string) ([]byte, error) {
	// Opening a pipe would wait for its writer, for ever.
	info, err := fs.Stat(fsys, name)
	if err != nil {
		return nil, fmt.Errorf("couldn't read settings: %w", err)
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%w: %s is not a regular file", ErrSettings, name)
	}
	f, err := fsys.Open(name)
	if err != nil {
		return nil, fmt.Errorf("couldn't read settings: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, fmt.Errorf("couldn't read settings: %w", err)
	}
	if len(data) > maxFile {
		return nil, fmt.Errorf("%w: %s is larger than %d bytes", ErrSettings, name, maxFile)
	}
	return data, nil
}

// Every scalar is of exactly one YAML kind. A library that converts would
// read the recipient 007 as "7", a limit of 1.5 as 1 and 1_0 as 10.
type (
	text      string // one printable line
	number    uint64 // decimal digits
	addresses map[string]eth.Address
)

// UnmarshalYAML takes a YAML string.
func (t *text) UnmarshalYAML(n ast.Node) error {
	s, ok := n.(*ast.StringNode)
	if !ok {
		return at(n, "%q is not text: put it in quotes", clip(n.String()))
	}
	if s.Value == "" || s.Value != strings.TrimSpace(s.Value) || strings.ContainsFunc(s.Value, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return at(n, "%q is not one line of text without spaces around it", clip(s.Value))
	}
	*t = text(s.Value)
	return nil
}

// UnmarshalYAML takes a YAML integer written in decimal digits.
func (v *number) UnmarshalYAML(n ast.Node) error {
	if i, ok := n.(*ast.IntegerNode); ok {
		if x, err := strconv.ParseUint(i.GetToken().Value, 10, 63); err == nil {
			*v = number(x)
			return nil
		}
	}
	return at(n, "%q is not a whole number of decimal digits", clip(n.String()))
}

// UnmarshalYAML takes a mapping of names to addresses with their checksum.
func (a *addresses) UnmarshalYAML(n ast.Node) error {
	m, ok := n.(ast.MapNode)
	if !ok {
		return at(n, "withdrawal_addresses is not a mapping of names to addresses")
	}
	*a = addresses{}
	owner := map[eth.Address]string{}
	for it := m.MapRange(); it.Next(); {
		var name, written text
		key := it.Key()
		if err := name.UnmarshalYAML(key); err != nil {
			return err
		}
		if err := written.UnmarshalYAML(it.Value()); err != nil {
			return err
		}
		if err := CheckName("address", string(name)); err != nil {
			return at(key, "%w", err)
		}
		address, err := eth.ParseAddress(string(written))
		if err != nil {
			return at(key, "withdrawal_addresses: %s: %w", name, err)
		}
		if other, taken := owner[address]; taken {
			return at(key, "withdrawal_addresses: %v has two names, %s and %s", address, other, name)
		}
		owner[address], (*a)[string(name)] = string(name), address
	}
	return nil
}

// at says where in the file.
func at(n ast.Node, format string, args ...any) error {
	err := fmt.Errorf(format, args...)
	if t := n.GetToken(); t != nil && t.Position != nil {
		return fmt.Errorf("line %d: %w", t.Position.Line, err)
	}
	return err
}

// NetworkNames lists the known networks.
func NetworkNames() []string {
	var names []string
	for _, n := range eth.Networks() {
		names = append(names, n.Name)
	}
	return names
}
