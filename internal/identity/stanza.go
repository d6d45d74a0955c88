package identity

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"errors"
	"io"
	"strings"
)

// stanza is the unit of the plugin protocol, in the form of an age header: a
// line "-> arg arg ...", then base64 without padding in lines of 64, of which
// the last is shorter (and may be empty).
type stanza struct {
	args []string
	body []byte
}

const (
	maxLine = 64 << 10
	maxBody = 64 << 10
	columns = 64
)

var b64 = base64.RawStdEncoding.Strict()

var errStanza = errors.New("it does not keep to the protocol")

func (s stanza) write(w io.Writer) error {
	for _, a := range s.args {
		if !goodArg(a) {
			return errStanza
		}
	}
	var out bytes.Buffer
	out.WriteString("-> " + strings.Join(s.args, " ") + "\n")
	text := make([]byte, b64.EncodedLen(len(s.body)))
	defer clear(text)
	b64.Encode(text, s.body)
	rest := text
	for len(rest) >= columns {
		out.Write(rest[:columns])
		out.WriteByte('\n')
		rest = rest[columns:]
	}
	out.Write(rest)
	out.WriteByte('\n')
	_, err := w.Write(out.Bytes())
	clear(out.Bytes())
	return err
}

func readStanza(r *bufio.Reader) (s stanza, err error) {
	line, err := r.ReadSlice('\n')
	if err != nil {
		return s, errStanza
	}
	head, ok := strings.CutPrefix(strings.TrimSuffix(string(line), "\n"), "-> ")
	if !ok {
		return s, errStanza
	}
	s.args = strings.Split(head, " ")
	for _, a := range s.args {
		if !goodArg(a) {
			return s, errStanza
		}
	}
	for {
		line, err := r.ReadSlice('\n')
		if err != nil {
			return s, errStanza
		}
		line = line[:len(line)-1]
		if len(line) > columns || bytes.ContainsAny(line, "\r\n") {
			return s, errStanza
		}
		part := make([]byte, b64.DecodedLen(len(line)))
		n, err := b64.Decode(part, line)
		if err != nil || len(s.body)+n > maxBody {
			return s, errStanza
		}
		s.body = append(s.body, part[:n]...)
		if len(line) < columns {
			return s, nil
		}
	}
}

// goodArg: one or more printable ASCII characters without space.
func goodArg(a string) bool {
	for _, c := range []byte(a) {
		if c < 33 || c > 126 {
			return false
		}
	}
	return a != ""
}
