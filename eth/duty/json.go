package duty

import (
	"errors"
	"fmt"
	"unicode/utf8"
)

// node is a JSON value as it was written. Names are compared as they are: the
// standard decoder takes "TYPE" for type and the last of two equal names,
// where whoever built the message may mean the first.
type node struct {
	kind  byte   // { [ " t f n or 0 (a number)
	text  string // of a string (unescaped) or number
	names []string
	items []node // of an object or array
}

// maxDepth is deeper than any message; maxNodes is beyond the largest block.
const (
	maxDepth = 16
	maxNodes = 1 << 18
)

var errJSON = errors.New("not well-formed JSON")

var (
	words   = map[byte]string{'t': "true", 'f': "false", 'n': "null"}
	escapes = map[byte]byte{'"': '"', '\\': '\\', '/': '/', 'b': '\b', 'f': '\f', 'n': '\n', 'r': '\r', 't': '\t'}
)

type parser struct {
	data  []byte
	at    int
	nodes int
}

// parseJSON reads one value of RFC 8259 that is all of data. Strings are
// valid UTF-8 without a NUL, and of escapes only the short ones occur in what
// clients write: \u is refused, so that a text has few spellings.
func parseJSON(data []byte) (node, error) {
	p := parser{data: data}
	n, err := p.value(0)
	if err != nil {
		return node{}, err
	}
	if p.space(); p.at != len(data) {
		return node{}, p.bad("something follows the value")
	}
	return n, nil
}

func (p *parser) bad(what string) error {
	return fmt.Errorf("%w: %s at byte %d", errJSON, what, p.at)
}

func (p *parser) space() {
	for p.at < len(p.data) {
		switch p.data[p.at] {
		case ' ', '\t', '\n', '\r':
			p.at++
		default:
			return
		}
	}
}

func (p *parser) value(depth int) (node, error) {
	p.space()
	if p.nodes++; p.nodes > maxNodes || depth > maxDepth {
		return node{}, p.bad("too many values, or too deep,")
	}
	if p.at == len(p.data) {
		return node{}, p.bad("a value is missing")
	}
	switch c := p.data[p.at]; c {
	case '{':
		return p.object(depth)
	case '[':
		return p.array(depth)
	case '"':
		text, err := p.text()
		return node{kind: '"', text: text}, err
	case 't', 'f', 'n':
		word := words[c]
		if len(p.data)-p.at < len(word) || string(p.data[p.at:p.at+len(word)]) != word {
			return node{}, p.bad("an unknown word")
		}
		p.at += len(word)
		return node{kind: c}, nil
	}
	return p.number()
}

func (p *parser) object(depth int) (node, error) {
	n := node{kind: '{'}
	p.at++
	for first := true; ; first = false {
		p.space()
		if p.at < len(p.data) && p.data[p.at] == '}' && first {
			p.at++
			return n, nil
		}
		if p.at == len(p.data) || p.data[p.at] != '"' {
			return n, p.bad("a name is missing")
		}
		name, err := p.text()
		if err != nil {
			return n, err
		}
		for _, other := range n.names {
			if name == other {
				return n, p.bad("a name that is given twice ends")
			}
		}
		if len(n.names) == 64 {
			return n, p.bad("an object with too many names")
		}
		if p.space(); p.at == len(p.data) || p.data[p.at] != ':' {
			return n, p.bad("a colon is missing")
		}
		p.at++
		v, err := p.value(depth + 1)
		if err != nil {
			return n, err
		}
		n.names, n.items = append(n.names, name), append(n.items, v)
		more, err := p.more('}')
		if err != nil || !more {
			return n, err
		}
	}
}

func (p *parser) array(depth int) (node, error) {
	n := node{kind: '['}
	p.at++
	if p.space(); p.at < len(p.data) && p.data[p.at] == ']' {
		p.at++
		return n, nil
	}
	for {
		v, err := p.value(depth + 1)
		if err != nil {
			return n, err
		}
		n.items = append(n.items, v)
		more, err := p.more(']')
		if err != nil || !more {
			return n, err
		}
	}
}

// more reads a comma, or the end.
func (p *parser) more(end byte) (bool, error) {
	p.space()
	if p.at == len(p.data) || p.data[p.at] != ',' && p.data[p.at] != end {
		return false, p.bad("a comma or an end is missing")
	}
	p.at++
	return p.data[p.at-1] == ',', nil
}

func (p *parser) text() (string, error) {
	p.at++
	start := p.at
	for ; p.at < len(p.data); p.at++ {
		switch c := p.data[p.at]; {
		case c == '"':
			text := p.data[start:p.at]
			if !utf8.Valid(text) {
				return "", p.bad("a text that is not UTF-8 ends")
			}
			p.at++
			return string(text), nil
		case c == '\\':
			return p.escaped(start)
		case c < ' ':
			return "", p.bad("a control character")
		}
	}
	return "", p.bad("the end of a text is missing")
}

// escaped goes on at the first backslash of a text.
func (p *parser) escaped(start int) (string, error) {
	text := append([]byte(nil), p.data[start:p.at]...)
	for ; p.at < len(p.data); p.at++ {
		switch c := p.data[p.at]; {
		case c == '"':
			if !utf8.Valid(text) {
				return "", p.bad("a text that is not UTF-8 ends")
			}
			p.at++
			return string(text), nil
		case c < ' ':
			return "", p.bad("a control character")
		case c != '\\':
			text = append(text, c)
		default:
			if p.at++; p.at == len(p.data) {
				return "", p.bad("the end of a text is missing")
			}
			plain, ok := escapes[p.data[p.at]]
			if !ok {
				return "", p.bad("an escape that is not read here")
			}
			text = append(text, plain)
		}
	}
	return "", p.bad("the end of a text is missing")
}

// number reads one as text; where numbers are meant, the messages have
// strings.
func (p *parser) number() (node, error) {
	start := p.at
	digits := func() bool {
		from := p.at
		for p.at < len(p.data) && p.data[p.at] >= '0' && p.data[p.at] <= '9' {
			p.at++
		}
		return p.at > from
	}
	skip := func(set string) bool {
		if p.at == len(p.data) {
			return false
		}
		for i := range len(set) {
			if p.data[p.at] == set[i] {
				p.at++
				return true
			}
		}
		return false
	}
	skip("-")
	ok := skip("0") || digits()
	if ok && skip(".") {
		ok = digits()
	}
	if ok && skip("eE") {
		skip("+-")
		ok = digits()
	}
	if !ok {
		return node{}, p.bad("no value")
	}
	return node{text: string(p.data[start:p.at])}, nil
}

// get returns a member of an object.
func (n node) get(name string) (node, bool) {
	for i, have := range n.names {
		if have == name {
			return n.items[i], true
		}
	}
	return node{}, false
}
