package record

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"slices"
	"strconv"
	"time"

	"github.com/stakeseal/stakeseal/eth"
)

// Births and validators are written and read some ten times on their way into
// a store and out of it, and are most of what a list reads, so they do not go
// through reflection. What stands here adds no rule: a writer writes what
// encoding/json would, byte for byte, and a reader that does not recognise
// what it reads leaves it to encoding/json. Whatever a reader makes of some
// bytes is taken only if it is well-formed and writes the very same bytes
// (form.decode), so it can be incomplete and not wrong.

func writeBirth(w []byte, b Birth) []byte {
	size := 2048 + base64.StdEncoding.EncodedLen(len(b.Sealing.File)) + len(b.Certificate)
	for _, r := range b.Sealing.Recipients {
		size += len(r.Name) + len(r.Key) + 32
	}
	w = writeFields(slices.Grow(w, size), b.Validator)
	w = append(w, `,"sealing":{"purpose":`...)
	w = writeString(w, b.Sealing.Purpose)
	w = append(w, `,"generation":`...)
	w = strconv.AppendUint(w, uint64(b.Sealing.Generation), 10)
	if !b.Sealing.Previous.IsZero() {
		w = append(w, `,"previous":`...)
		w = writeHex(w, "", b.Sealing.Previous[:])
	}
	for i, r := range b.Sealing.Recipients {
		w = append(w, opening(i, `,"recipients":[`)...)
		w = append(w, `{"name":`...)
		w = writeString(w, r.Name)
		w = append(w, `,"key":`...)
		w = writeString(w, r.Key)
		w = append(w, '}')
	}
	w = append(w, `],"digest":`...)
	w = writeHex(w, "", b.Sealing.Digest[:])
	w = append(w, `,"file":"`...)
	w = base64.StdEncoding.AppendEncode(w, b.Sealing.File)
	w = append(w, `"},"certificate":`...)
	w = append(w, b.Certificate...) // Check saw that it is written as it stands
	return append(w, '}')
}

func writeValidator(w []byte, v Validator) []byte { return append(writeFields(w, v), '}') }

// writeFields writes the fields that a birth and a validator share. Check saw
// that there are deposits and recipients: an empty list would be null.
func writeFields(w []byte, v Validator) []byte {
	w = append(w, `"order":`...)
	w = writeString(w, v.Order)
	w = append(w, `,"index":`...)
	w = strconv.AppendUint(w, uint64(v.Index), 10)
	w = append(w, `,"pubkey":`...)
	w = writeHex(w, "0x", v.Pubkey[:])
	w = append(w, `,"path":`...)
	w = writeString(w, v.Path)
	w = append(w, `,"mnemonic":`...)
	w = writeString(w, v.Mnemonic)
	w = append(w, `,"network":`...)
	w = writeString(w, v.Network)
	w = append(w, `,"withdrawal_credentials":`...)
	w = writeHex(w, "0x", v.Credentials[:])
	for i, d := range v.Deposits {
		w = append(w, opening(i, `,"deposits":[`)...)
		w = append(w, `{"amount_gwei":`...)
		w = strconv.AppendUint(w, uint64(d.Amount), 10)
		w = append(w, `,"signature":`...)
		w = writeHex(w, "0x", d.Signature[:])
		w = append(w, `,"deposit_message_root":`...)
		w = writeHex(w, "0x", d.MessageRoot[:])
		w = append(w, `,"deposit_data_root":`...)
		w = writeHex(w, "0x", d.DataRoot[:])
		w = append(w, '}')
	}
	w = append(w, `],"created":"`...)
	w = v.Created.AppendFormat(w, time.RFC3339)
	w = append(w, '"')
	if v.SignRequest != "" {
		w = append(w, `,"sign_request":`...)
		w = writeString(w, v.SignRequest)
	}
	return w
}

// opening begins a list, or its next element.
func opening(i int, list string) string {
	if i > 0 {
		return ","
	}
	return list
}

func writeHex(w []byte, prefix string, data []byte) []byte {
	w = append(w, '"')
	w = append(w, prefix...)
	w = hex.AppendEncode(w, data)
	return append(w, '"')
}

func writeString(w []byte, s string) []byte {
	for i := range len(s) {
		if !plain[s[i]] {
			quoted, err := json.Marshal(s)
			if err != nil {
				panic("record: a string always marshals: " + err.Error())
			}
			return append(w, quoted...)
		}
	}
	w = append(w, '"')
	w = append(w, s...)
	return append(w, '"')
}

func readBirth(data []byte) (Birth, bool) {
	r := reader{rest: data}
	b := Birth{Validator: r.fields()}
	r.skip(`,"sealing":{"purpose":`)
	b.Sealing.Purpose = r.string()
	r.skip(`,"generation":`)
	b.Sealing.Generation = uint32(r.number(32))
	if r.at(`,"previous":"`) {
		r.hex(b.Sealing.Previous[:])
	}
	for r.element(len(b.Sealing.Recipients), `,"recipients":[`) {
		var to Recipient
		r.skip(`{"name":`)
		to.Name = r.string()
		r.skip(`,"key":`)
		to.Key = r.string()
		r.skip(`}`)
		b.Sealing.Recipients = append(b.Sealing.Recipients, to)
	}
	r.skip(`,"digest":"`)
	r.hex(b.Sealing.Digest[:])
	r.skip(`,"file":`)
	var err error
	b.Sealing.File, err = base64.StdEncoding.DecodeString(r.string())
	r.bad = r.bad || err != nil
	r.skip(`},"certificate":`)
	last := len(r.rest) - 1
	if r.bad || last < 0 || r.rest[last] != '}' {
		return Birth{}, false
	}
	b.Certificate = bytes.Clone(r.rest[:last])
	return b, true
}

func readValidator(data []byte) (Validator, bool) {
	r := reader{rest: data}
	v := r.fields()
	r.skip(`}`)
	if r.bad || len(r.rest) > 0 {
		return Validator{}, false
	}
	return v, true
}

// reader reads the parts of a record in the order in which they are written.
// Once something else stands there it is bad and reads nothing.
type reader struct {
	rest []byte
	bad  bool
}

func (r *reader) fields() (v Validator) {
	r.skip(`"order":`)
	v.Order = r.string()
	r.skip(`,"index":`)
	v.Index = uint32(r.number(32))
	r.skip(`,"pubkey":"0x`)
	r.hex(v.Pubkey[:])
	r.skip(`,"path":`)
	v.Path = r.string()
	r.skip(`,"mnemonic":`)
	v.Mnemonic = r.string()
	r.skip(`,"network":`)
	v.Network = r.string()
	r.skip(`,"withdrawal_credentials":"0x`)
	r.hex(v.Credentials[:])
	for r.element(len(v.Deposits), `,"deposits":[`) {
		var d Deposit
		r.skip(`{"amount_gwei":`)
		d.Amount = eth.Gwei(r.number(64))
		r.skip(`,"signature":"0x`)
		r.hex(d.Signature[:])
		r.skip(`,"deposit_message_root":"0x`)
		r.hex(d.MessageRoot[:])
		r.skip(`,"deposit_data_root":"0x`)
		r.hex(d.DataRoot[:])
		r.skip(`}`)
		v.Deposits = append(v.Deposits, d)
	}
	r.skip(`,"created":`)
	var err error
	v.Created, err = time.Parse(time.RFC3339, r.string())
	r.bad = r.bad || err != nil
	if r.at(`,"sign_request":`) {
		v.SignRequest = r.string()
	}
	return v
}

// at reads text if it stands here.
func (r *reader) at(text string) bool {
	if r.bad || len(r.rest) < len(text) || string(r.rest[:len(text)]) != text {
		return false
	}
	r.rest = r.rest[len(text):]
	return true
}

func (r *reader) skip(text string) { r.bad = !r.at(text) || r.bad }

// element says whether another element of a list follows the n that were
// read, and reads what stands before it.
func (r *reader) element(n int, list string) bool {
	if n == 0 {
		r.skip(list)
		return !r.bad
	}
	if r.at(`]`) || r.bad {
		return false
	}
	r.skip(`,`)
	return !r.bad
}

// string reads a string in which nothing is escaped.
func (r *reader) string() string {
	r.skip(`"`)
	end := bytes.IndexByte(r.rest, '"')
	if r.bad || end < 0 || bytes.IndexByte(r.rest[:end], '\\') >= 0 {
		r.bad = true
		return ""
	}
	s := string(r.rest[:end])
	r.rest = r.rest[end+1:]
	return s
}

// hex reads exactly the digits of dst, and the quote that ends them.
func (r *reader) hex(dst []byte) {
	n := 2 * len(dst)
	if r.bad || len(r.rest) < n {
		r.bad = true
		return
	}
	_, err := hex.Decode(dst, r.rest[:n])
	r.bad = err != nil
	r.rest = r.rest[n:]
	r.skip(`"`)
}

func (r *reader) number(bits int) uint64 {
	end := 0
	for end < len(r.rest) && '0' <= r.rest[end] && r.rest[end] <= '9' {
		end++
	}
	n, err := strconv.ParseUint(string(r.rest[:end]), 10, bits)
	r.bad = r.bad || err != nil
	r.rest = r.rest[end:]
	return n
}

// isPlain says that data is JSON as encoding/json would write it again:
// valid, without white space between its parts, every character that it
// escapes escaped. It knows strings of plain characters only, which is what
// certificates hold; of other JSON it says false, and encoding/json decides.
func isPlain(data []byte) bool {
	rest := make([]byte, 0, 256) // data with every string emptied: as valid as data
	for {
		before, after, found := bytes.Cut(data, []byte{'"'})
		rest = append(rest, before...)
		if !found {
			return !bytes.ContainsAny(rest, " \t\r\n<>&") && json.Valid(rest)
		}
		text, behind, closed := bytes.Cut(after, []byte{'"'})
		if !closed {
			return false
		}
		for _, c := range text {
			if !plain[c] {
				return false
			}
		}
		rest = append(rest, '"', '"')
		data = behind
	}
}

// plain are the bytes that stand for themselves in a string.
var plain = func() (is [256]bool) {
	for c := byte(' '); c <= '~'; c++ {
		is[c] = c != '"' && c != '\\' && c != '<' && c != '>' && c != '&'
	}
	return is
}()
