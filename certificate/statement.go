package certificate

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/stakeseal/stakeseal/eth"
)

// Bounds that no honest statement comes near; they keep a hostile one from
// costing more than its own bytes.
const (
	maxDeposits   = 64
	maxRecipients = 64
	maxText       = 256
	maxKeyText    = 4096 // a post-quantum age recipient has 1,959 characters
	maxAmount     = 1 << 53
)

// statement is the in-toto Statement v1 layer. The order of the fields is
// the order of the JSON.
type statement[P any] struct {
	Type          string    `json:"_type"`
	Subject       []subject `json:"subject"`
	PredicateType string    `json:"predicateType"`
	Predicate     P         `json:"predicate"`
}

type subject struct {
	Name   string        `json:"name"`
	Digest subjectDigest `json:"digest"`
}

type subjectDigest struct {
	SHA256 Hash `json:"sha256"`
}

func (b Birth) statement() statement[Birth] {
	return statement[Birth]{
		Type:          StatementType,
		Subject:       []subject{{b.Pubkey.String(), subjectDigest{sha256.Sum256(b.Pubkey[:])}}},
		PredicateType: BirthType,
		Predicate:     b,
	}
}

func (r Receipt) statement() statement[Receipt] {
	return statement[Receipt]{
		Type:          StatementType,
		Subject:       []subject{{r.Order, subjectDigest{r.OrderDigest}}},
		PredicateType: ReceiptType,
		Predicate:     r,
	}
}

// canonical is the one encoding of a statement: fields in the order of the
// structs, no white space, no HTML escapes. All text is printable ASCII
// (plain), so the escapes \" and \\ are the only ones that can occur.
func canonical(v any) ([]byte, error) {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, fmt.Errorf("couldn't encode: %w", err)
	}
	return bytes.TrimSuffix(buf.Bytes(), []byte("\n")), nil
}

// decode reads a payload that was signed. The bytes must be exactly what
// canonical makes of the decoded value. That refuses, without a list of
// tricks, everything two JSON parsers might read differently: a key twice, a
// key in another case, unknown or missing fields, numbers like 1e3, escapes,
// upper-case hex, other spellings of a time, trailing data.
func decode[P any](payload []byte, predicateType string) (statement[P], error) {
	var st statement[P]
	dec := json.NewDecoder(bytes.NewReader(payload))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&st); err != nil {
		// One of another kind fails at its first unknown field: say the kind.
		var head struct {
			PredicateType string `json:"predicateType"`
		}
		if json.Unmarshal(payload, &head) == nil && head.PredicateType != predicateType {
			st.PredicateType = head.PredicateType
		} else {
			return st, fmt.Errorf("%w: statement: %w", ErrFormat, err)
		}
	}
	if st.PredicateType != predicateType {
		return st, fmt.Errorf("%w: the statement is a %q, not a %q", ErrFormat, clip(st.PredicateType), predicateType)
	}
	again, err := canonical(st)
	if err != nil {
		return st, fmt.Errorf("%w: statement: %w", ErrFormat, err)
	}
	if !bytes.Equal(again, payload) {
		return st, fmt.Errorf("%w: the statement is not in its canonical encoding", ErrFormat)
	}
	if st.Type != StatementType {
		return st, fmt.Errorf("%w: statement type %q is not %q", ErrFormat, clip(st.Type), StatementType)
	}
	if len(st.Subject) != 1 {
		return st, fmt.Errorf("%w: the statement has %d subjects, not 1", ErrFormat, len(st.Subject))
	}
	return st, nil
}

// birthOf decodes a payload and checks everything that needs no trust file.
func birthOf(payload []byte) (Birth, error) {
	st, err := decode[Birth](payload, BirthType)
	if err != nil {
		return Birth{}, err
	}
	b := st.Predicate
	if st.Subject[0] != b.statement().Subject[0] {
		return Birth{}, fmt.Errorf("%w: the statement's subject is not the predicate's pubkey", ErrMismatch)
	}
	return b, b.check()
}

// writes says whether a payload is exactly the statement of b. With check, that
// is all that birthOf asks: a payload is accepted only in the one encoding of
// what it says, and text that passes check and a time in UTC decode to
// themselves.
func (b Birth) writes(payload []byte) bool {
	text, err := canonical(b.statement())
	return err == nil && bytes.Equal(text, payload)
}

// receiptOf does the same for a receipt.
func receiptOf(payload []byte) (Receipt, error) {
	st, err := decode[Receipt](payload, ReceiptType)
	if err != nil {
		return Receipt{}, err
	}
	r := st.Predicate
	if st.Subject[0] != r.statement().Subject[0] {
		return Receipt{}, fmt.Errorf("%w: the statement's subject is not the predicate's order", ErrMismatch)
	}
	return r, r.check()
}

func (b Birth) check() error {
	for _, t := range []struct {
		what, text string
		empty      bool
	}{
		{"network", b.Network, false},
		{"order", b.Order, false},
		{"mnemonic id", b.Mnemonic.ID, false},
		{"version", b.Maker.Version, false},
		{"commit", b.Maker.Commit, true},
		{"function", b.Maker.Function, true},
	} {
		if err := CheckText(t.what, t.text, maxText, t.empty); err != nil {
			return err
		}
	}
	if err := nonZero(map[string]Hash{
		"network_digest": b.NetworkDigest, "order_digest": b.OrderDigest,
		"mnemonic digest": b.Mnemonic.Digest, "mnemonic recipients_digest": b.Mnemonic.Recipients,
		"sealing digest": b.Sealing.Digest, "binary_digest": b.Maker.BinaryDigest, "settings_digest": b.Maker.SettingsDigest,
	}); err != nil {
		return err
	}
	if err := CheckTime(b.Time); err != nil {
		return err
	}
	if err := checkRecipients(b.Sealing.Recipients); err != nil {
		return err
	}
	if b.Pubkey == (eth.Pubkey{}) {
		return fmt.Errorf("%w: the pubkey is zero", ErrFormat)
	}
	if want := fmt.Sprintf("m/12381/3600/%d/0/0", b.Index); b.Path != want {
		return fmt.Errorf("%w: path %q is not %q, that of index %d", ErrMismatch, clip(b.Path), want, b.Index)
	}
	if b.Sealing.Purpose != "signing" || b.Sealing.Generation != 0 {
		return fmt.Errorf("%w: a birth names the signing sealing of generation 0, not the %q one of generation %d",
			ErrMismatch, clip(b.Sealing.Purpose), b.Sealing.Generation)
	}
	if _, ok := b.Credentials.Address(); !ok {
		return fmt.Errorf("%w: withdrawal credentials %s do not pay to an address (0x01 or 0x02, 11 zero bytes, address)", ErrMismatch, b.Credentials)
	}
	if b.Approval != "" {
		if err := CheckText("approval", b.Approval, maxApproval, false); err != nil {
			return err
		}
		a, err := approvedAddress(b.Approval)
		if err != nil {
			return fmt.Errorf("approval: %w", err)
		}
		if address, _ := b.Credentials.Address(); a.Address != address || a.Network != b.Network || a.NetworkDigest != b.NetworkDigest {
			return fmt.Errorf("%w: the approval is of another address or network than the birth", ErrMismatch)
		}
	}
	return b.checkDeposits()
}

// checkDeposits recomputes the roots, so that a depositor can copy amount,
// credentials, signature and roots from a certificate without looking twice.
func (b Birth) checkDeposits() error {
	if len(b.Deposits) == 0 || len(b.Deposits) > maxDeposits {
		return fmt.Errorf("%w: %d deposits, not 1 to %d", ErrFormat, len(b.Deposits), maxDeposits)
	}
	for i, d := range b.Deposits {
		if d.Amount == 0 || d.Amount >= maxAmount {
			return fmt.Errorf("%w: deposit %d: amount %d gwei is not between 1 and 2^53-1", ErrFormat, i, uint64(d.Amount))
		}
		var message eth.DepositMessage
		message.Pubkey, message.Credentials, message.Amount = b.Pubkey, b.Credentials, d.Amount
		if got := message.Root(); got != d.MessageRoot {
			return fmt.Errorf("%w: deposit %d: deposit_message_root is %s, computed %s", ErrMismatch, i, d.MessageRoot, got)
		}
		var data eth.DepositData
		data.Pubkey, data.Credentials, data.Amount, data.Signature = b.Pubkey, b.Credentials, d.Amount, d.Signature
		if got := data.Root(); got != d.DataRoot {
			return fmt.Errorf("%w: deposit %d: deposit_data_root is %s, computed %s", ErrMismatch, i, d.DataRoot, got)
		}
	}
	return nil
}

func (r Receipt) check() error {
	if err := CheckText("network", r.Network, maxText, false); err != nil {
		return err
	}
	if err := CheckText("order", r.Order, maxText, false); err != nil {
		return err
	}
	if err := nonZero(map[string]Hash{
		"network_digest": r.NetworkDigest, "order_digest": r.OrderDigest, "settings_digest": r.SettingsDigest,
	}); err != nil {
		return err
	}
	if err := CheckTime(r.Time); err != nil {
		return err
	}
	if r.From >= r.To || r.To > r.Count {
		return fmt.Errorf("%w: range [%d,%d) is not a part of an order of %d", ErrMismatch, r.From, r.To, r.Count)
	}
	mnemonics, err := r.checkMnemonics()
	if err != nil {
		return err
	}
	if uint64(len(r.Validators)) != uint64(r.To-r.From) {
		return fmt.Errorf("%w: %d validators for the %d indexes of [%d,%d)", ErrMismatch, len(r.Validators), r.To-r.From, r.From, r.To)
	}
	pubkeys := make(map[eth.Pubkey]uint32, len(r.Validators))
	certificates := make(map[Hash]uint32, len(r.Validators))
	for i, v := range r.Validators {
		if want := r.From + uint32(i); v.Index != want {
			return fmt.Errorf("%w: validator %d of the list has index %d, not %d", ErrMismatch, i, v.Index, want)
		}
		if v.Pubkey == (eth.Pubkey{}) || v.Certificate.IsZero() {
			return fmt.Errorf("%w: index %d: the pubkey or the certificate digest is zero", ErrFormat, v.Index)
		}
		if other, taken := pubkeys[v.Pubkey]; taken {
			return fmt.Errorf("%w: indexes %d and %d have one pubkey, %s", ErrMismatch, other, v.Index, v.Pubkey)
		}
		if other, taken := certificates[v.Certificate]; taken {
			return fmt.Errorf("%w: indexes %d and %d have one certificate, %s", ErrMismatch, other, v.Index, v.Certificate)
		}
		pubkeys[v.Pubkey], certificates[v.Certificate] = v.Index, v.Index
		m, ok := mnemonics[v.Mnemonic]
		if !ok {
			return fmt.Errorf("%w: index %d names mnemonic %q, which the receipt does not list", ErrMismatch, v.Index, clip(v.Mnemonic))
		}
		if v.Index < m.From || v.Index >= m.To {
			return fmt.Errorf("%w: index %d is outside [%d,%d) of its mnemonic %q", ErrMismatch, v.Index, m.From, m.To, m.ID)
		}
	}
	return nil
}

// checkMnemonics wants the list by From, then id, as the record keeps it, so
// that one set of mnemonics has one encoding. A mnemonic that no validator
// names is no contradiction: a run that lost every index still sealed one.
func (r Receipt) checkMnemonics() (map[string]ReceiptMnemonic, error) {
	byID := make(map[string]ReceiptMnemonic, len(r.Mnemonics))
	for i, m := range r.Mnemonics {
		if err := CheckText("mnemonic id", m.ID, maxText, false); err != nil {
			return nil, err
		}
		if _, taken := byID[m.ID]; taken {
			return nil, fmt.Errorf("%w: mnemonic %q is listed twice", ErrMismatch, m.ID)
		}
		if m.Digest.IsZero() {
			return nil, fmt.Errorf("%w: mnemonic %q: the digest is zero", ErrFormat, m.ID)
		}
		if m.From >= m.To || m.To > r.Count {
			return nil, fmt.Errorf("%w: mnemonic %q: range [%d,%d) is not a part of an order of %d", ErrMismatch, m.ID, m.From, m.To, r.Count)
		}
		if i > 0 {
			last := r.Mnemonics[i-1]
			if last.From > m.From || last.From == m.From && last.ID > m.ID {
				return nil, fmt.Errorf("%w: mnemonics %q and %q are not in the order of from, then id", ErrMismatch, last.ID, m.ID)
			}
		}
		byID[m.ID] = m
	}
	return byID, nil
}

// CheckText refuses (ErrFormat) text that a statement cannot carry: it reads
// and encodes in one way everywhere, printable ASCII of at most limit bytes, no
// space at either end. A line break or a terminal escape in an order's id would
// let a certificate draw its own verdict on a screen.
func CheckText(what, s string, limit int, mayBeEmpty bool) error {
	if s == "" && mayBeEmpty {
		return nil
	}
	if s == "" || len(s) > limit {
		return fmt.Errorf("%w: %s has %d characters, not 1 to %d", ErrFormat, what, len(s), limit)
	}
	for i := range len(s) {
		if s[i] < 0x20 || s[i] > 0x7e {
			return fmt.Errorf("%w: %s %q is not printable ASCII", ErrFormat, what, clip(s))
		}
	}
	if s[0] == ' ' || s[len(s)-1] == ' ' {
		return fmt.Errorf("%w: %s %q begins or ends with a space", ErrFormat, what, clip(s))
	}
	return nil
}

// CheckTime refuses (ErrFormat) a time that a statement cannot carry: one that
// is not UTC in whole seconds, a year that RFC 3339 cannot spell, and a Unix
// time of zero or less, the mark of a clock that was never set.
func CheckTime(t time.Time) error {
	if t.Location() != time.UTC || t.Nanosecond() != 0 || t.Unix() <= 0 || t.Year() > 9999 {
		return fmt.Errorf("%w: time %s is not UTC in whole seconds after 1970", ErrFormat, t.Format(time.RFC3339Nano))
	}
	return nil
}

func checkRecipients(list []Recipient) error {
	if len(list) == 0 || len(list) > maxRecipients {
		return fmt.Errorf("%w: %d recipients, not 1 to %d", ErrFormat, len(list), maxRecipients)
	}
	for i, r := range list {
		if err := CheckText("recipient name", r.Name, maxText, false); err != nil {
			return err
		}
		if err := CheckText("recipient key", r.Key, maxKeyText, false); err != nil {
			return err
		}
		if slices.ContainsFunc(list[:i], func(o Recipient) bool { return o.Name == r.Name || o.Key == r.Key }) {
			return fmt.Errorf("%w: recipient %q is listed twice, by name or key", ErrMismatch, r.Name)
		}
	}
	return nil
}

// nonZero refuses a digest that nobody computed: the zero value of a field
// that a caller forgot.
func nonZero(digests map[string]Hash) error {
	var zero []string
	for name, h := range digests {
		if h.IsZero() {
			zero = append(zero, name)
		}
	}
	if len(zero) > 0 {
		slices.Sort(zero)
		return fmt.Errorf("%w: %s: a sha256 of zeros", ErrFormat, zero[0])
	}
	return nil
}

// hexID reports whether s has the shape of a key id.
func hexID(s string) bool {
	b, err := hex.DecodeString(s)
	return err == nil && len(b) == sha256.Size && hex.EncodeToString(b) == s
}
