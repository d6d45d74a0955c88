package seal

import (
	"bytes"
	"encoding/hex"
	"regexp"
	"strings"
	"unicode/utf8"

	"github.com/stakeseal/stakeseal/secret"
)

// The two bodies. A builder returns nil for input that the parser in unseal
// would refuse, and Seal refuses a nil body: what was sealed can be read.

// Fact is a public line of a recovery body.
type Fact struct {
	Name  string // [a-z][a-z0-9-]{0,63}, not "mnemonic"
	Value string // printable ASCII, 1 to 4096 characters, no space at either end
}

var (
	pathShape  = regexp.MustCompile(`^m(/(0|[1-9][0-9]{0,9})){1,16}$`)
	nameOfFact = regexp.MustCompile(`^[a-z][a-z0-9-]{0,63}$`)
)

// Lines of the bodies, shared with their parsers.
const (
	PathLine      = "path: "
	KeyLine       = "secret-key: 0x"
	PasswordLine  = "keystore-password: "
	KeystoreLine  = "keystore: "
	MnemonicLine  = "mnemonic: "
	passwordChars = 64
)

// GoodPath says whether p is an EIP-2334 path in plain decimals (m/12381/...).
func GoodPath(p string) bool { return pathShape.MatchString(p) }

// GoodPassword says whether p is a keystore password as made at birth: the 64
// lower-case hex digits that are typed into a tool, not the 32 bytes they
// could be decoded to.
func GoodPassword(p []byte) bool {
	if len(p) != passwordChars {
		return false
	}
	for _, c := range p {
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}

// GoodKeystore says whether k can stand in one line: a JSON object by its
// braces, printable ASCII. Whether it is a keystore, eth/keystore says.
func GoodKeystore(k []byte) bool {
	if len(k) < 2 || k[0] != '{' || k[len(k)-1] != '}' {
		return false
	}
	for _, c := range k {
		if c < ' ' || c > '~' {
			return false
		}
	}
	return true
}

// Good says whether f can stand in a recovery body.
func (f Fact) Good() bool {
	if !nameOfFact.MatchString(f.Name) || f.Name == "mnemonic" {
		return false
	}
	for _, c := range []byte(f.Value) {
		if c < ' ' || c > '~' {
			return false
		}
	}
	return f.Value != "" && len(f.Value) <= 4096 && f.Value == strings.TrimSpace(f.Value)
}

// GoodWords says whether w can stand behind "mnemonic: ": UTF-8 words, one
// space between them, no control characters. It does not know the word lists.
func GoodWords(w []byte) bool {
	if len(w) == 0 || w[0] == ' ' || w[len(w)-1] == ' ' || bytes.Contains(w, []byte("  ")) || !utf8.Valid(w) {
		return false
	}
	for len(w) > 0 {
		r, n := utf8.DecodeRune(w)
		if r < ' ' || r >= 0x7f && r < 0xa0 || r == 0x2028 || r == 0x2029 {
			return false
		}
		w = w[n:]
	}
	return true
}

// SigningBody is the body of a signing secret:
//
//	path: m/12381/3600/3/0/0
//	secret-key: 0x<64 hex digits>
//	keystore-password: <64 hex digits>
//	keystore: <EIP-2335 JSON in one line>
//
// key is the raw 32 bytes, big endian; password is the keystore's password as
// text, 64 lower-case hex digits; password and keystore are both nil where no
// keystore was made. It returns nil for anything else. The arguments stay the
// caller's to wipe, as is the result.
func SigningBody(path string, key, password *secret.Bytes, keystore []byte) *secret.Bytes {
	if !GoodPath(path) || key.Len() != 32 {
		return nil
	}
	with := password.Len() > 0 || len(keystore) > 0
	if with && (!GoodPassword(password.Expose()) || !GoodKeystore(keystore)) {
		return nil
	}
	n := len(PathLine) + len(path) + 1 + len(KeyLine) + 64 + 1
	if with {
		n += len(PasswordLine) + passwordChars + 1 + len(KeystoreLine) + len(keystore) + 1
	}
	// Sized first and never grown: append would leave copies behind.
	body := secret.New(n)
	w := body.Expose()[:0]
	w = append(append(append(w, PathLine...), path...), '\n')
	w = append(w, KeyLine...)
	w = hex.AppendEncode(w, key.Expose())
	w = append(w, '\n')
	if with {
		w = append(append(append(w, PasswordLine...), password.Expose()...), '\n')
		_ = append(append(append(w, KeystoreLine...), keystore...), '\n')
	}
	return body
}

// help is for whoever opens the file without stakeseal. It takes the shortest
// way that works with any deposit tool.
const help = `
These words make validator keys as EIP-2333 and EIP-2334 say, so any deposit
tool that follows them can remake the keys; stakeseal is not needed for it.
With ethstaker-deposit-cli (or its predecessor staking-deposit-cli), on a
machine without network, run

    deposit existing-mnemonic

and answer: the mnemonic above, in the language above; no mnemonic password
(unless a line above names one); as first index ("validator_start_index") the
first number of the line "indexes", and as count ("num_validators") how many
numbers that line spans; the network of this file's second line; and the
withdrawal address above. Compare each pubkey with the records before use, as
an index in the range may have been filled from another mnemonic of the order.

Whoever reads these words can sign for all validators made from them. Never
run one of these keys in two places at once: both would sign, and the
validator would be slashed.
`

// RecoveryBody is the body of a mnemonic's sealing: a line "name: value" for
// each fact in the given order, then
//
//	mnemonic: word word ...
//
// an empty line and a text that says how to recover without stakeseal. words
// are UTF-8, separated by single spaces. Facts that the design asks for:
// indexes, withdrawal-credentials, withdrawal-address, plan, path, language,
// created. It returns nil for a malformed or repeated fact or malformed words.
// words stays the caller's to wipe, as is the result.
func RecoveryBody(facts []Fact, words *secret.Bytes) *secret.Bytes {
	if !GoodWords(words.Expose()) {
		return nil
	}
	n := len(MnemonicLine) + words.Len() + 1 + len(help)
	seen := map[string]bool{}
	for _, f := range facts {
		if !f.Good() || seen[f.Name] {
			return nil
		}
		seen[f.Name] = true
		n += len(f.Name) + 2 + len(f.Value) + 1
	}
	body := secret.New(n)
	w := body.Expose()[:0]
	for _, f := range facts {
		w = append(append(append(append(w, f.Name...), ": "...), f.Value...), '\n')
	}
	w = append(append(append(w, MnemonicLine...), words.Expose()...), '\n')
	_ = append(w, help...)
	return body
}
