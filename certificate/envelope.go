package certificate

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/secure-systems-lab/go-securesystemslib/dsse"
)

const (
	maxBirth      = 256 << 10 // a certificate has 3 KB, with 16 post-quantum recipients 50
	maxReceipt    = 64 << 20  // about 400 bytes for each validator
	maxSignatures = 16
	maxSignature  = 1024
)

// envelope is a DSSE envelope, decoded.
type envelope struct {
	payload    []byte
	signatures []signature
}

type signature struct {
	keyID string
	sig   []byte
}

func (e envelope) pae() []byte { return dsse.PAE(PayloadType, e.payload) }

// sign wraps a payload. The library carries on when a signer cannot name its
// key; nobody could ever verify that envelope, so it is an error here.
func sign(ctx context.Context, s Signer, payload []byte, limit int) ([]byte, error) {
	if s == nil {
		return nil, errors.New("couldn't sign: no signer")
	}
	es, err := dsse.NewEnvelopeSigner(s)
	if err != nil {
		return nil, fmt.Errorf("couldn't sign: %w", err)
	}
	e, err := es.SignPayload(ctx, PayloadType, payload)
	if err != nil {
		return nil, fmt.Errorf("couldn't sign: %w", err)
	}
	out, err := canonical(e)
	if err != nil {
		return nil, fmt.Errorf("couldn't sign: %w", err)
	}
	// What leaves here is at least readable by what will judge it.
	if _, err := parseEnvelope(out, limit); err != nil {
		return nil, fmt.Errorf("couldn't sign: %w", err)
	}
	return out, nil
}

// Countersign adds a signature to an envelope and leaves the payload and the
// signatures it has as they are. It verifies nothing: a notary verifies
// first, and adds its name to what it has seen for itself.
func Countersign(ctx context.Context, s Signer, data []byte) ([]byte, error) {
	e, err := parseEnvelope(data, maxReceipt)
	if err != nil {
		return nil, fmt.Errorf("couldn't countersign: %w", err)
	}
	one, err := sign(ctx, s, e.payload, maxReceipt)
	if err != nil {
		return nil, fmt.Errorf("couldn't countersign: %w", err)
	}
	added, err := parseEnvelope(one, maxReceipt)
	if err != nil {
		return nil, fmt.Errorf("couldn't countersign: %w", err)
	}
	e.signatures = append(e.signatures, added.signatures...)
	out, err := e.encode(maxReceipt)
	if err != nil {
		return nil, fmt.Errorf("couldn't countersign: %w", err)
	}
	return out, nil
}

// encode writes an envelope that parseEnvelope reads, and refuses one that it
// would not: the same key twice, too many, too long.
func (e envelope) encode(limit int) ([]byte, error) {
	wire := dsse.Envelope{PayloadType: PayloadType, Payload: base64.StdEncoding.EncodeToString(e.payload)}
	for _, s := range e.signatures {
		wire.Signatures = append(wire.Signatures, dsse.Signature{KeyID: s.keyID, Sig: base64.StdEncoding.EncodeToString(s.sig)})
	}
	out, err := canonical(wire)
	if err != nil {
		return nil, err
	}
	if _, err := parseEnvelope(out, limit); err != nil {
		return nil, err
	}
	return out, nil
}

// parseEnvelope reads DSSE v1 JSON. White space and the order of the fields
// are free, as other tools write envelopes too and none of it is signed;
// unknown, repeated and missing fields are refused, so that no two readers
// see different payloads. Every error is ErrFormat.
func parseEnvelope(data []byte, limit int) (envelope, error) {
	if len(data) > limit {
		return envelope{}, fmt.Errorf("%w: envelope has %d bytes, more than %d", ErrFormat, len(data), limit)
	}
	if e, ok := plainEnvelope(data); ok {
		return e, nil
	}
	return parseAnyEnvelope(data)
}

// parseAnyEnvelope reads an envelope in any JSON spelling.
func parseAnyEnvelope(data []byte) (envelope, error) {
	fields, err := object(data, "payloadType", "payload", "signatures")
	if err != nil {
		return envelope{}, fmt.Errorf("%w: envelope: %w", ErrFormat, err)
	}
	kind, err := text(fields["payloadType"])
	if err != nil || kind != PayloadType {
		return envelope{}, fmt.Errorf("%w: envelope: payloadType %q is not %q", ErrFormat, clip(kind), PayloadType)
	}
	payload, err := base64Field(fields["payload"])
	if err != nil {
		return envelope{}, fmt.Errorf("%w: envelope: payload: %w", ErrFormat, err)
	}
	var list []json.RawMessage
	if err := json.Unmarshal(fields["signatures"], &list); err != nil {
		return envelope{}, fmt.Errorf("%w: envelope: signatures: %w", ErrFormat, err)
	}
	if len(list) == 0 || len(list) > maxSignatures {
		return envelope{}, fmt.Errorf("%w: envelope has %d signatures, not 1 to %d", ErrFormat, len(list), maxSignatures)
	}
	e := envelope{payload: payload}
	for i, raw := range list {
		s, err := parseSignature(raw)
		if err != nil {
			return envelope{}, fmt.Errorf("%w: envelope: signature %d: %w", ErrFormat, i, err)
		}
		if slices.ContainsFunc(e.signatures, func(o signature) bool { return o.keyID == s.keyID }) {
			return envelope{}, fmt.Errorf("%w: envelope: two signatures of key %s", ErrFormat, s.keyID)
		}
		e.signatures = append(e.signatures, s)
	}
	return e, nil
}

// plainEnvelope reads the form that sign writes, one signature and no white
// space, without a JSON decoder: an order's certificates are nearly all of
// this form, and each is read several times. What it does not take the general
// parser judges; what it takes that parser would read the same (a test holds
// them to each other).
func plainEnvelope(data []byte) (envelope, bool) {
	rest, a := bytes.CutPrefix(data, []byte(`{"payloadType":"`+PayloadType+`","payload":"`))
	payload, rest, b := bytes.Cut(rest, []byte(`","signatures":[{"keyid":"`))
	id, rest, c := bytes.Cut(rest, []byte(`","sig":"`))
	sig, d := bytes.CutSuffix(rest, []byte(`"}]}`))
	if !a || !b || !c || !d || !hexID(string(id)) {
		return envelope{}, false
	}
	read := func(text []byte) ([]byte, bool) {
		if bytes.ContainsAny(text, "\r\n") { // which the decoder would skip
			return nil, false
		}
		out := make([]byte, base64.StdEncoding.DecodedLen(len(text)))
		n, err := base64.StdEncoding.Strict().Decode(out, text)
		return out[:n], err == nil
	}
	body, ok := read(payload)
	if !ok {
		return envelope{}, false
	}
	signed, ok := read(sig)
	if !ok || len(signed) == 0 || len(signed) > maxSignature {
		return envelope{}, false
	}
	return envelope{payload: body, signatures: []signature{{string(id), signed}}}, true
}

func parseSignature(raw json.RawMessage) (signature, error) {
	fields, err := object(raw, "keyid", "sig")
	if err != nil {
		return signature{}, err
	}
	id, err := text(fields["keyid"])
	if err != nil || !hexID(id) {
		return signature{}, fmt.Errorf("keyid %q is not 64 lower-case hex digits", clip(id))
	}
	sig, err := base64Field(fields["sig"])
	if err != nil {
		return signature{}, fmt.Errorf("sig: %w", err)
	}
	if len(sig) == 0 || len(sig) > maxSignature {
		return signature{}, fmt.Errorf("sig has %d bytes, not 1 to %d", len(sig), maxSignature)
	}
	return signature{id, sig}, nil
}

// object splits a JSON object that has exactly these fields, each once and
// spelled exactly. encoding/json alone takes the last of two equal keys and
// takes "PAYLOAD" for "payload".
func object(data []byte, names ...string) (map[string]json.RawMessage, error) {
	dec := json.NewDecoder(bytes.NewReader(data))
	if t, err := dec.Token(); err != nil || t != json.Delim('{') {
		return nil, errors.New("not a JSON object")
	}
	fields := make(map[string]json.RawMessage, len(names))
	for dec.More() {
		t, err := dec.Token()
		if err != nil {
			return nil, err
		}
		name, ok := t.(string)
		if !ok || !slices.Contains(names, name) {
			return nil, fmt.Errorf("unknown field %q", clip(fmt.Sprint(t)))
		}
		if _, twice := fields[name]; twice {
			return nil, fmt.Errorf("field %q twice", name)
		}
		var value json.RawMessage
		if err := dec.Decode(&value); err != nil {
			return nil, err
		}
		fields[name] = value
	}
	if _, err := dec.Token(); err != nil { // the closing brace
		return nil, err
	}
	if _, err := dec.Token(); err != io.EOF {
		return nil, errors.New("data after the JSON object")
	}
	for _, name := range names {
		if _, ok := fields[name]; !ok {
			return nil, fmt.Errorf("no field %q", name)
		}
	}
	return fields, nil
}

// text reads a JSON string; null is not one.
func text(raw json.RawMessage) (string, error) {
	if len(raw) == 0 || raw[0] != '"' {
		return "", errors.New("not a JSON string")
	}
	var s string
	err := json.Unmarshal(raw, &s)
	return s, err
}

// base64Field reads padded base64, of the standard or the URL alphabet (DSSE
// v1 allows both to a signer and demands both of a verifier), in its one
// encoding: no line breaks and no stray bits, which Go's decoder forgives.
func base64Field(raw json.RawMessage) ([]byte, error) {
	s, err := text(raw)
	if err != nil {
		return nil, err
	}
	for _, enc := range []*base64.Encoding{base64.StdEncoding, base64.URLEncoding} {
		if b, err := enc.Strict().DecodeString(s); err == nil && enc.EncodeToString(b) == s {
			return b, nil
		}
	}
	return nil, errors.New("not padded base64")
}
