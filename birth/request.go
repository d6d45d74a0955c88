package birth

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/stakeseal/stakeseal/eth"
	"github.com/stakeseal/stakeseal/record"
)

// Schemas of what goes into the generator and comes out.
const (
	RequestSchema = "stakeseal/order-request/v1"
	AnswerSchema  = "stakeseal/order-answer/v1"
)

// Request is the generator's event: an order, or the part of one that this
// invocation runs.
type Request struct {
	Schema            string            `json:"schema"`
	Order             string            `json:"order"`
	Network           string            `json:"network"`
	Count             uint32            `json:"count"`
	WithdrawalAddress eth.Address       `json:"withdrawal_address"`
	Compounding       bool              `json:"compounding,omitempty"` // 0x02 credentials (EIP-7251), else 0x01
	Plan              []eth.Gwei        `json:"plan_gwei"`
	Keystore          string            `json:"keystore"` // pbkdf2, scrypt or none
	Labels            map[string]string `json:"labels,omitempty"`
	// Settings, where it is given, is the digest of the settings that the
	// requester saw: under any other the generator refuses.
	Settings record.Digest `json:"settings_digest,omitzero"`
	// Approval allows a withdrawal address that the settings do not name: the
	// envelope of an address approval, as text.
	Approval string `json:"approval,omitempty"`
	From     uint32 `json:"from"`
	To       uint32 `json:"to"` // one past the last index
	// ScheduledTime is set by a schedule, whose event is otherwise the same
	// each time: the order's id is then ScheduledID(Order, ScheduledTime), so
	// that a repeated delivery is the same order and the next date another.
	ScheduledTime time.Time `json:"scheduled_time,omitzero"`
}

// Answer is what the generator returns for a Request: the receipt, signed,
// and what it does not list.
type Answer struct {
	Schema  string          `json:"schema"`
	Receipt json.RawMessage `json:"receipt,omitempty"`
	// ReceiptSHA256 stands for a receipt that is larger than an answer may be:
	// the digest of the envelope, which is in the archive under ReceiptObject.
	ReceiptSHA256 record.Digest `json:"receipt_sha256,omitzero"`
	// Remaining are the indexes asked for that the receipt does not list,
	// since the time ran out. Some may be made already: asking for them again
	// finds those.
	Remaining []Span `json:"remaining,omitempty"`
}

// Span is the indexes from From to To-1.
type Span struct {
	From uint32 `json:"from"`
	To   uint32 `json:"to"`
}

// ScheduledID is the id of the order that a schedule places at t:
// monthly-20261122t110000z.
func ScheduledID(order string, t time.Time) string {
	return order + "-" + strings.ToLower(t.UTC().Format("20060102T150405Z"))
}

// maxWords bounds what an error repeats of a request.
const maxWords = 300

func clip(s string) string {
	if len(s) > maxWords {
		return strings.ToValidUTF8(s[:maxWords], "") + "..."
	}
	return s
}

// ParseRequest reads an event. Unknown and trailing data are refused: what a
// newer requester asks for is never silently left out.
func ParseRequest(data []byte) (Range, error) {
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.DisallowUnknownFields()
	var q Request
	if err := decoder.Decode(&q); err != nil {
		return Range{}, fmt.Errorf("%w: it does not read as a request: %s", ErrOrder, clip(err.Error()))
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return Range{}, fmt.Errorf("%w: something follows the request", ErrOrder)
	}
	if q.Schema != RequestSchema {
		return Range{}, fmt.Errorf("%w: its schema is %q, not %q", ErrOrder, clip(q.Schema), RequestSchema)
	}
	if q.WithdrawalAddress == (eth.Address{}) {
		return Range{}, fmt.Errorf("%w: it has no withdrawal address", ErrOrder)
	}
	o := record.Order{ID: q.Order, Network: q.Network, Count: q.Count, Plan: q.Plan, Keystore: q.Keystore, Labels: q.Labels, Settings: q.Settings,
		Credentials: eth.ExecutionCredentials(q.WithdrawalAddress, q.Compounding)}
	if err := record.CheckID(o.ID); err != nil {
		return Range{}, fmt.Errorf("%w: %w", ErrOrder, err)
	}
	r := Range{Order: o, From: q.From, To: q.To, Approval: q.Approval, Scheduled: !q.ScheduledTime.IsZero()}
	if !r.Scheduled {
		return r, nil
	}
	if q.ScheduledTime.Nanosecond() != 0 || q.ScheduledTime.Year() < 2000 {
		return Range{}, fmt.Errorf("%w: scheduled_time %s is not a time of this century in whole seconds", ErrOrder, q.ScheduledTime.Format(time.RFC3339Nano))
	}
	r.Order.ID = ScheduledID(o.ID, q.ScheduledTime)
	if err := record.CheckID(r.Order.ID); err != nil {
		return Range{}, fmt.Errorf("%w: with the scheduled time: %w", ErrOrder, err)
	}
	return r, nil
}

// Done takes what Run yielded of the range before it ended with
// ErrIncomplete. It returns what a Receipt can list, the beginning of the
// range up to the first index that is missing, and the rest. Nothing is done
// where done.From is done.To.
func (r Range) Done(lines []Line) (done Range, listed []Line, remaining []Span) {
	listed = slices.Clone(lines)
	slices.SortFunc(listed, func(a, b Line) int { return cmp.Compare(a.Index, b.Index) })
	done = r
	done.To = r.From
	for _, line := range listed {
		if line.Index != done.To {
			break
		}
		done.To++
	}
	if done.To < r.To {
		remaining = []Span{{done.To, r.To}}
	}
	return done, listed[:done.To-r.From], remaining
}

// The classes of errors that cross the Runtime API. An error whose class is
// incomplete is gone when the same request comes again; so is most of failed.
const (
	ClassInit       = "init"       // the program cannot take orders
	ClassRefused    = "refused"    // ErrOrder
	ClassTampered   = "tampered"   // ErrTampered, or a record that is none
	ClassConflict   = "conflict"   // record.ErrConflict
	ClassIncomplete = "incomplete" // ErrIncomplete, and there is no receipt
	ClassDenied     = "denied"     // the generator's own role may not do what it has to
	ClassFailed     = "failed"     // any other
)

// Class names an error of the flow for the other side of the Runtime API.
func Class(err error) string {
	switch {
	case errors.Is(err, ErrOrder):
		return ClassRefused
	case errors.Is(err, ErrTampered), errors.Is(err, record.ErrCorrupt), errors.Is(err, record.ErrFormat):
		return ClassTampered
	case errors.Is(err, record.ErrConflict):
		return ClassConflict
	case errors.Is(err, ErrIncomplete):
		return ClassIncomplete
	}
	return ClassFailed
}
