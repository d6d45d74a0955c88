package deposit

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/stakeseal/stakeseal/eth"
)

const (
	// MaxFileBytes bounds a deposit_data file: 40,000 entries of 800 bytes.
	MaxFileBytes = 32 << 20

	maxNameBytes   = 100 // of network_name and deposit_cli_version
	maxExtraFields = 32  // unknown fields that an entry may carry
	maxFaults      = 20  // after so many a file is not read on
)

// FormatError says where a file is not in the form of a deposit_data file.
// errors.Is(err, ErrFormat).
type FormatError struct {
	Findings []Finding // at least one; all refuse
}

func (e *FormatError) Error() string {
	if len(e.Findings) == 0 {
		return ErrFormat.Error()
	}
	f := e.Findings[0]
	s := f.Message
	if at := place(f.Source, f.Row); at != "" {
		s = at + ": " + s
	}
	if n := len(e.Findings) - 1; n > 0 {
		s += fmt.Sprintf(" (and %d more)", n)
	}
	return s
}

func (e *FormatError) Unwrap() error { return ErrFormat }

// ParseFile reads a launchpad deposit_data file of any tool. name is only
// used to say where an entry stands.
//
// It is as strict as the launchpad (an array with at least one entry; strings
// of exactly 96, 64, 192, 64, 64 and 8 hex digits; the amount a JSON number)
// and stricter where two readers could read different things: a field that
// occurs twice, upper-case hex, an amount with a point or exponent, bytes
// that are not UTF-8 are refused. network_name and deposit_cli_version may be
// missing, unknown fields are kept by name: the Judge reports both.
//
// A refused file gives a *FormatError with up to 20 findings, and no entry.
func ParseFile(name string, data []byte) ([]Entry, error) {
	p := &parser{name: name, data: data}
	entries := p.file()
	if len(p.faults) > 0 {
		return nil, &FormatError{p.faults}
	}
	return entries, nil
}

// parser walks tokens instead of filling a struct: encoding/json would match
// field names in any case and let the last of two equal names win.
type parser struct {
	name   string
	data   []byte
	dec    *json.Decoder
	row    int
	faults []Finding

	lineAt, lines int // newlines counted so far, up to offset lineAt
}

func (p *parser) fault(code Code, field, format string, args ...any) {
	p.faults = append(p.faults, Finding{
		Code: code, Severity: Refuse, Source: p.name, Row: p.row, Field: field,
		Message: fmt.Sprintf(format, args...), Hint: formHints[code],
	})
}

var formHints = map[Code]string{
	HexPrefix: "launchpad files carry bare hex; 0x marks another format (Lido, an API), which has to be converted",
	WrongType: "this looks like another tool's format; a launchpad file has strings, and the amount as a number of gwei",
	NotArray:  "a launchpad file is a list of deposits, even for one",
}

func (p *parser) file() []Entry {
	if len(p.data) > MaxFileBytes {
		p.fault(FileSize, "", "has %d bytes, more than %d", len(p.data), MaxFileBytes)
		return nil
	}
	if !utf8.Valid(p.data) {
		p.fault(NotJSON, "", "is not UTF-8 text")
		return nil
	}
	if err := syntax(p.data); err != nil {
		p.fault(NotJSON, "", "is not JSON: %v", err)
		return nil
	}
	// From here on the tokens are known to be well-formed JSON.
	p.dec = json.NewDecoder(bytes.NewReader(p.data))
	p.dec.UseNumber()
	if p.token() != json.Delim('[') {
		p.fault(NotArray, "", "is not a JSON array of deposits")
		return nil
	}
	var entries []Entry
	for p.dec.More() && len(p.faults) < maxFaults {
		p.row++
		if e, ok := p.entry(); ok {
			entries = append(entries, e)
		}
	}
	if p.row == 0 {
		p.fault(NoEntries, "", "holds no deposit")
	}
	return entries
}

// syntax checks the whole file and says on which line it breaks.
func syntax(data []byte) error {
	var raw json.RawMessage
	err := json.Unmarshal(data, &raw)
	var bad *json.SyntaxError
	if errors.As(err, &bad) {
		at := min(max(int(bad.Offset), 0), len(data))
		return fmt.Errorf("line %d: %w", 1+bytes.Count(data[:at], []byte("\n")), err)
	}
	return err
}

func (p *parser) token() json.Token {
	t, err := p.dec.Token()
	if err != nil {
		p.fault(NotJSON, "", "is not JSON: %v", err)
	}
	return t
}

// line of the next token.
func (p *parser) line() int {
	at := int(p.dec.InputOffset())
	for at < len(p.data) && strings.IndexByte(" \t\r\n,:", p.data[at]) >= 0 {
		at++
	}
	p.lines += bytes.Count(p.data[p.lineAt:at], []byte("\n"))
	p.lineAt = at
	return p.lines + 1
}

// skip passes over the rest of a value whose first token was t.
func (p *parser) skip(t json.Token) {
	for depth := 0; ; t = p.token() {
		switch t {
		case json.Delim('['), json.Delim('{'):
			depth++
		case json.Delim(']'), json.Delim('}'):
			depth--
		case nil: // JSON null, or the end after a fault
		}
		if depth == 0 || len(p.faults) >= maxFaults {
			return
		}
	}
}

// The network has had two names: earlier releases of the deposit CLI, and the
// tools that imitated them, wrote eth2_network_name.
const (
	fieldNetwork    = "network_name"
	fieldOldNetwork = "eth2_network_name"
	fieldCLI        = "deposit_cli_version"
	fieldAmount     = "amount"
)

func (p *parser) entry() (Entry, bool) {
	e := Entry{Source: p.name, Row: p.row, Line: p.line()}
	before := len(p.faults)
	first := p.token()
	if first != json.Delim('{') {
		p.fault(NotObject, "", "line %d: is not a JSON object", e.Line)
		p.skip(first)
		return e, false
	}
	seen := make(map[string]bool, 10)
	oldName := ""
	for p.dec.More() && len(p.faults) < maxFaults {
		line := p.line()
		key, _ := p.token().(string)
		value := p.token()
		if seen[key] {
			// Two readers could take either: what one checks is not what the
			// other sends.
			p.fault(DuplicateField, clip(key), "line %d: field %s occurs twice", line, quote(key))
			p.skip(value)
			continue
		}
		seen[key] = true
		switch key {
		case "pubkey":
			p.hex(line, key, value, e.Pubkey[:])
		case "withdrawal_credentials":
			p.hex(line, key, value, e.Credentials[:])
		case "signature":
			p.hex(line, key, value, e.Signature[:])
		case "deposit_message_root":
			p.hex(line, key, value, e.MessageRoot[:])
		case "deposit_data_root":
			p.hex(line, key, value, e.DataRoot[:])
		case "fork_version":
			p.hex(line, key, value, e.ForkVersion[:])
		case fieldAmount:
			e.Amount = p.amount(line, value)
		case fieldNetwork:
			e.NetworkName = p.text(line, key, value)
		case fieldOldNetwork:
			oldName = p.text(line, key, value)
		case fieldCLI:
			e.CLIVersion = p.text(line, key, value)
		default:
			p.skip(value)
			if e.Extra = append(e.Extra, clip(key)); len(e.Extra) > maxExtraFields {
				p.fault(WrongType, clip(key), "line %d: has more than %d unknown fields", line, maxExtraFields)
			}
		}
	}
	if len(p.faults) >= maxFaults {
		return e, false
	}
	p.token() // }
	for _, name := range required {
		if !seen[name] {
			p.fault(MissingField, name, "line %d: has no field %q", e.Line, name)
		}
	}
	if oldName != "" {
		if e.NetworkName != "" && e.NetworkName != oldName {
			p.fault(DuplicateField, fieldNetwork, "line %d: names two networks, %s and %s", e.Line, quote(e.NetworkName), quote(oldName))
		}
		e.NetworkName = oldName
	}
	return e, len(p.faults) == before
}

var required = []string{
	"pubkey", "withdrawal_credentials", fieldAmount, "signature",
	"deposit_message_root", "deposit_data_root", "fork_version",
}

// hex fills dst from a string of exactly twice its length. The launchpad
// counts characters, so a 0x prefix fails there; it is told apart here
// because it is the common mistake.
func (p *parser) hex(line int, field string, value json.Token, dst []byte) {
	s, ok := value.(string)
	switch {
	case !ok:
		p.fault(WrongType, field, "line %d: %s is not a string", line, field)
		p.skip(value)
	case strings.HasPrefix(s, "0x") || strings.HasPrefix(s, "0X"):
		p.fault(HexPrefix, field, "line %d: %s %s begins with 0x", line, field, quote(s))
	case len(s) != 2*len(dst):
		p.fault(WrongLength, field, "line %d: %s %s has %d characters, not %d", line, field, quote(s), len(s), 2*len(dst))
	case strings.ContainsAny(s, "ABCDEF"):
		// A second spelling of the same pubkey would hide a duplicate from
		// whoever compares text.
		p.fault(UpperCase, field, "line %d: %s %s is not lower-case hex", line, field, quote(s))
	default:
		if _, err := hex.Decode(dst, []byte(s)); err != nil {
			p.fault(NotHex, field, "line %d: %s %s is not hex", line, field, quote(s))
		}
	}
}

// amount reads a whole number of gwei. "3.2e10" is the same number to
// JavaScript, but no tool writes it and not every reader takes it.
func (p *parser) amount(line int, value json.Token) eth.Gwei {
	n, ok := value.(json.Number)
	if !ok {
		p.fault(WrongType, fieldAmount, "line %d: amount is not a number", line)
		p.skip(value)
		return 0
	}
	v, err := strconv.ParseUint(n.String(), 10, 64)
	if err != nil {
		p.fault(AmountNotInteger, fieldAmount, "line %d: amount %s is not a whole number of gwei", line, quote(n.String()))
	}
	return eth.Gwei(v)
}

func (p *parser) text(line int, field string, value json.Token) string {
	s, ok := value.(string)
	switch {
	case !ok:
		p.fault(WrongType, field, "line %d: %s is not a string", line, field)
		p.skip(value)
	case len(s) > maxNameBytes:
		p.fault(WrongLength, field, "line %d: %s %s has more than %d bytes", line, field, quote(s), maxNameBytes)
	}
	return s
}
