package record

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/stakeseal/stakeseal/eth"
)

// ErrFormat is wrapped by every refusal of a record that contradicts itself,
// its order or its form. Nothing was written.
var ErrFormat = errors.New("not a well-formed record")

// The purposes of a sealing, as in Sealing.Purpose.
const (
	Signing  = "signing"
	Recovery = "recovery"
)

// Bounds in bytes or entries. They are far above what the generator makes and
// keep a hostile record from costing memory.
const (
	maxID         = 64
	maxText       = 256
	maxKey        = 4096 // a post-quantum age recipient has 1,959
	maxPlan       = 32
	maxPairs      = 64
	maxRecipients = 64
	maxFile       = 192 << 10
	maxName       = 200

	// endIndex is one past the last index: in EIP-2334 paths, as every tool
	// that followed BIP-32 reads them, a number is below 2^31.
	endIndex = 1 << 31

	signingPath = "m/12381/3600/%d/0/0" // of EIP-2334
)

// Time is t as records hold it: UTC, whole seconds, no monotonic reading.
func Time(t time.Time) time.Time { return t.UTC().Truncate(time.Second) }

// CheckID refuses what cannot be the id of an order or a mnemonic: 1 to 64
// bytes of [a-z0-9._-], the first a letter or digit. So an id is safe as part
// of a file name, of an object name and of a command line, and two ids never
// differ by case alone.
func CheckID(id string) error {
	if id == "" || len(id) > maxID {
		return bad("id %q has %d bytes, not 1 to %d", clip(id), len(id), maxID)
	}
	for i := range len(id) {
		if !isNameByte(id[i]) || i == 0 && strings.IndexByte("._-", id[i]) >= 0 {
			return bad("id %q is not of a-z, 0-9, '.', '_', '-' (beginning with a letter or digit)", id)
		}
	}
	return nil
}

// CheckName refuses what cannot be the name of an archive object: see
// Archive.Put. Empty, "." and ".." parts are refused, so that no name leads
// out of the archive and none has two spellings.
func CheckName(name string) error {
	if name == "" || len(name) > maxName {
		return bad("object name %q has %d bytes, not 1 to %d", clip(name), len(name), maxName)
	}
	for part := range strings.SplitSeq(name, "/") {
		if part == "" || part == "." || part == ".." {
			return bad("object name %q has the part %q", name, part)
		}
		for i := range len(part) {
			if !isNameByte(part[i]) {
				return bad("object name %q is not of a-z, 0-9, '.', '_', '-' and '/'", name)
			}
		}
	}
	return nil
}

func isNameByte(c byte) bool {
	return 'a' <= c && c <= 'z' || '0' <= c && c <= '9' || c == '.' || c == '_' || c == '-'
}

// Check refuses an order that cannot be placed. It knows no network: whether
// the credentials and amounts are allowed is the generator's to say.
func (o Order) Check() error {
	return first(
		CheckOrderID(o.ID),
		checkASCII("network", o.Network, maxID),
		when(o.Count == 0 || o.Count > endIndex, "order of %d validators", o.Count),
		when(len(o.Plan) == 0 || len(o.Plan) > maxPlan, "deposit plan of %d amounts", len(o.Plan)),
		when(slices.Contains(o.Plan, 0), "deposit plan holds the amount 0"),
		when(!slices.Contains([]string{"pbkdf2", "scrypt", "none"}, o.Keystore), "keystore %q is not pbkdf2, scrypt or none", clip(o.Keystore)),
		checkPairs("label", o.Labels),
		when(o.Settings.IsZero(), "no settings digest"),
		checkTime("created", o.Created),
	)
}

// Check refuses a sealing whose digest is not that of its file, and a
// generation that does not name, or falsely names, a predecessor.
func (s Sealing) Check() error {
	var errs []error
	for _, r := range s.Recipients {
		errs = append(errs, checkASCII("recipient's name", r.Name, maxID), checkASCII("recipient's key", r.Key, maxKey))
	}
	return first(append(errs,
		when(s.Purpose != Signing && s.Purpose != Recovery, "purpose %q is not signing or recovery", clip(s.Purpose)),
		when((s.Generation == 0) != s.Previous.IsZero(), "generation %d with the predecessor %s", s.Generation, s.Previous),
		when(len(s.Recipients) == 0 || len(s.Recipients) > maxRecipients, "sealed to %d recipients", len(s.Recipients)),
		when(len(s.File) == 0 || len(s.File) > maxFile, "sealed file of %d bytes", len(s.File)),
		when(DigestOf(s.File) != s.Digest, "sealed file is not the one that its digest names"),
	)...)
}

// Check refuses a mnemonic that is not sealed for recovery in generation 0.
func (m Mnemonic) Check() error {
	return first(
		CheckID(m.ID),
		CheckID(m.Order),
		when(m.From >= m.To || m.To > endIndex, "mnemonic of the indexes [%d, %d)", m.From, m.To),
		m.Sealing.Check(),
		when(m.Sealing.Purpose != Recovery || m.Sealing.Generation != 0, "mnemonic sealed for %q, generation %d", m.Sealing.Purpose, m.Sealing.Generation),
		checkTime("created", m.Created),
	)
}

// Check refuses a validator whose path is not that of its index.
func (v Validator) Check() error {
	var zeroAmount bool
	for _, d := range v.Deposits {
		zeroAmount = zeroAmount || d.Amount == 0
	}
	return first(
		CheckID(v.Order),
		when(v.Pubkey == eth.Pubkey{}, "no pubkey"),
		when(v.Index >= endIndex, "index %d is not below 2^31", v.Index),
		when(v.Path != fmt.Sprintf(signingPath, v.Index), "path %q is not that of index %d", clip(v.Path), v.Index),
		CheckID(v.Mnemonic),
		checkASCII("network", v.Network, maxID),
		when(len(v.Deposits) == 0 || len(v.Deposits) > maxPlan, "%d deposits", len(v.Deposits)),
		when(zeroAmount, "deposit of the amount 0"),
		checkTime("created", v.Created),
		checkRequest(v.SignRequest),
	)
}

// Check refuses a birth that is not sealed for signing in generation 0, or
// whose certificate would not survive storage byte for byte: it must be one
// JSON object without white space, with '<', '>' and '&' escaped, as
// encoding/json writes it. It does not verify the certificate.
func (b Birth) Check() error {
	if err := first(
		b.Validator.Check(),
		b.Sealing.Check(),
		when(b.Sealing.Purpose != Signing || b.Sealing.Generation != 0, "birth sealed for %q, generation %d", b.Sealing.Purpose, b.Sealing.Generation),
		when(len(b.Certificate) == 0 || b.Certificate[0] != '{' || !utf8.Valid(b.Certificate), "certificate is not a JSON object"),
	); err != nil {
		return err
	}
	if isPlain(b.Certificate) {
		return nil
	}
	stored, err := json.Marshal(b.Certificate)
	if err != nil {
		return bad("certificate is not JSON: %w", err)
	}
	if !bytes.Equal(stored, b.Certificate) {
		return bad("certificate is not compact JSON (byte %d)", firstDifference(stored, b.Certificate))
	}
	return nil
}

// Fits refuses a mnemonic for other indexes than the order has.
func (m Mnemonic) Fits(o Order) error {
	return first(
		when(m.Order != o.ID, "mnemonic of order %q, not %q", m.Order, o.ID),
		when(m.To > o.Count, "mnemonic up to index %d of an order of %d", m.To, o.Count),
	)
}

// Fits refuses a validator that is not one of those ordered: another network,
// other credentials or amounts, or an index beyond the count.
func (v Validator) Fits(o Order) error {
	sameAmounts := len(v.Deposits) == len(o.Plan)
	for i := 0; sameAmounts && i < len(o.Plan); i++ {
		sameAmounts = v.Deposits[i].Amount == o.Plan[i]
	}
	return first(
		when(v.Order != o.ID, "validator of order %q, not %q", v.Order, o.ID),
		when(v.Index >= o.Count, "index %d in an order of %d", v.Index, o.Count),
		when(v.Network != o.Network, "validator on %q, order on %q", v.Network, o.Network),
		when(v.Credentials != o.Credentials, "withdrawal credentials %s, ordered %s", v.Credentials, o.Credentials),
		when(!sameAmounts, "deposits are not those of the order's plan"),
	)
}

// Covers refuses a validator whose index the mnemonic was not made for.
func (m Mnemonic) Covers(v Validator) error {
	return first(
		when(v.Order != m.Order || v.Mnemonic != m.ID, "validator of mnemonic %q in order %q, not %q in %q", v.Mnemonic, v.Order, m.ID, m.Order),
		when(v.Index < m.From || v.Index >= m.To, "index %d of a mnemonic for [%d, %d)", v.Index, m.From, m.To),
	)
}

// Check refuses an assignment that cannot be one.
func (a Assignment) Check() error {
	return first(
		when(a.Pubkey == eth.Pubkey{}, "no pubkey"),
		CheckSigner(a.Signer),
		when(a.Epoch == 0, "assignment of epoch 0: the first is 1"),
		checkTime("time", a.Time),
	)
}

// CheckSigner refuses what no key can be assigned to: the name of a signer, or
// of other software behind "external:", is 1 to 256 bytes of printable ASCII.
func CheckSigner(name string) error { return checkASCII("signer", name, maxText) }

// Check refuses an event that says neither what was done nor who did it.
func (e Event) Check() error {
	var order error
	if e.Order != "" {
		order = CheckID(e.Order)
	}
	return first(
		CheckID(e.Kind),
		order,
		checkText("actor", e.Actor, 1, maxText),
		checkPairs("detail", e.Detail),
		checkText("once", e.Once, 0, maxText),
		checkTime("time", e.Time),
	)
}

// checkRequest takes the id of a request as services give them: letters,
// digits and dashes. It is copied into searches of their logs.
func checkRequest(id string) error {
	if len(id) > maxID {
		return bad("sign_request %q has %d bytes, more than %d", clip(id), len(id), maxID)
	}
	for i := range len(id) {
		if c := id[i]; c != '-' && (c < '0' || c > '9') && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') {
			return bad("sign_request %q is not of a-z, A-Z, 0-9 and '-'", id)
		}
	}
	return nil
}

func checkTime(what string, t time.Time) error {
	if t.IsZero() || t.Year() < 0 || t.Year() > 9999 || t != Time(t) {
		return bad("%s %s is not a time in UTC and whole seconds", what, t)
	}
	return nil
}

// checkASCII takes one line of 1 to max printable ASCII bytes.
func checkASCII(what, s string, max int) error {
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return bad("%s %q is not printable ASCII", what, clip(s))
		}
	}
	return checkLength(what, s, 1, max)
}

func checkLength(what, s string, min, max int) error {
	return when(len(s) < min || len(s) > max, "%s %q has %d bytes, not %d to %d", what, clip(s), len(s), min, max)
}

// checkText takes one line of UTF-8: invalid bytes would be replaced in JSON,
// control characters would rule the terminal that shows them.
func checkText(what, s string, min, max int) error {
	return first(
		checkLength(what, s, min, max),
		when(!utf8.ValidString(s) || strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }), "%s %q is not one line of printable text", what, clip(s)),
	)
}

func checkPairs(what string, pairs map[string]string) error {
	errs := []error{when(len(pairs) > maxPairs, "%d %ss", len(pairs), what)}
	for k, v := range pairs {
		errs = append(errs, checkASCII(what+" name", k, maxID), checkText(what, v, 0, 4*maxText))
	}
	return first(errs...)
}

func bad(format string, args ...any) error {
	return fmt.Errorf("%w: %w", ErrFormat, fmt.Errorf(format, args...))
}

func when(wrong bool, format string, args ...any) error {
	if !wrong {
		return nil
	}
	return bad(format, args...)
}

func first(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}
