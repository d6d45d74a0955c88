package birth

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"

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
	From     uint32        `json:"from"`
	To       uint32        `json:"to"` // one past the last index
}

// Answer is what the generator returns for a Request: the receipt, signed.
type Answer struct {
	Schema  string          `json:"schema"`
	Receipt json.RawMessage `json:"receipt"`
}

// ParseRequest reads an event. Unknown and trailing data are refused: what a
// newer requester asks for is never silently left out.
func ParseRequest(data []byte) (Range, error) {
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.DisallowUnknownFields()
	var q Request
	if err := decoder.Decode(&q); err != nil {
		return Range{}, fmt.Errorf("%w: it does not read as a request: %w", ErrOrder, err)
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return Range{}, fmt.Errorf("%w: something follows the request", ErrOrder)
	}
	if q.Schema != RequestSchema {
		return Range{}, fmt.Errorf("%w: its schema is %q, not %q", ErrOrder, q.Schema, RequestSchema)
	}
	if q.WithdrawalAddress == (eth.Address{}) {
		return Range{}, fmt.Errorf("%w: it has no withdrawal address", ErrOrder)
	}
	o := record.Order{ID: q.Order, Network: q.Network, Count: q.Count, Plan: q.Plan, Keystore: q.Keystore, Labels: q.Labels, Settings: q.Settings,
		Credentials: eth.ExecutionCredentials(q.WithdrawalAddress, q.Compounding)}
	if err := record.CheckID(o.ID); err != nil {
		return Range{}, fmt.Errorf("%w: %w", ErrOrder, err)
	}
	return Range{Order: o, From: q.From, To: q.To}, nil
}

// Class names an error of the flow for the other side of the Runtime API.
func Class(err error) string {
	switch {
	case errors.Is(err, ErrOrder):
		return "refused"
	case errors.Is(err, ErrTampered), errors.Is(err, record.ErrCorrupt), errors.Is(err, record.ErrFormat):
		return "tampered"
	case errors.Is(err, record.ErrConflict):
		return "conflict"
	}
	return "failed"
}
