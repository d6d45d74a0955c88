package parent

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"net/url"

	"github.com/stakeseal/stakeseal/eth"
	"github.com/stakeseal/stakeseal/record"
)

// Bounds on the wire, bytes. Records have record.MaxRecord. Of the archive's
// objects receipts are the largest, with up to 64 MiB.
const (
	maxObject  = 65 << 20
	maxRow     = record.MaxRecord + 1<<10
	maxMessage = 4 << 10
)

// Store is the child's end: the ports of the generator over the inherited
// connection. It keeps nothing.
type Store struct {
	HTTP *http.Client
}

var (
	_ record.Births  = (*Store)(nil)
	_ record.Reader  = (*Store)(nil)
	_ record.Archive = (*Store)(nil)
)

// kinds are the sentinels that cross the wire, by name.
var kinds = []struct {
	name string
	err  error
}{
	{"not found", record.ErrNotFound},
	{"exists", record.ErrExists},
	{"conflict", record.ErrConflict},
	{"stale", record.ErrStale},
	{"corrupt", record.ErrCorrupt},
	{"format", record.ErrFormat},
}

// remoteError is a port's error as the parent told it.
type remoteError struct {
	kind    error
	message string
}

func (e *remoteError) Error() string { return e.message }
func (e *remoteError) Unwrap() error { return e.kind }

func (s *Store) call(ctx context.Context, path string, query url.Values, body []byte) (*http.Response, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, Base+path+"?"+query.Encode(), bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	response, err := s.HTTP.Do(request)
	if err != nil {
		return nil, fmt.Errorf("couldn't reach the store: %w", err)
	}
	if response.StatusCode == http.StatusOK {
		return response, nil
	}
	defer response.Body.Close()
	var told wireError
	if err := json.NewDecoder(io.LimitReader(response.Body, 16*maxMessage)).Decode(&told); err != nil || told.Message == "" {
		return nil, fmt.Errorf("the store answered %s", response.Status)
	}
	return nil, told.error()
}

type wireError struct {
	Kind    string `json:"kind"`
	Message string `json:"message"`
}

func (w wireError) error() error {
	for _, k := range kinds {
		if k.name == w.Kind {
			return &remoteError{k.err, w.Message}
		}
	}
	return &remoteError{nil, w.Message}
}

func (s *Store) ask(ctx context.Context, path string, query url.Values, body []byte, max int64) ([]byte, error) {
	response, err := s.call(ctx, path, query, body)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(response.Body, max+1))
	if err != nil {
		return nil, fmt.Errorf("couldn't read the store's answer: %w", err)
	}
	if int64(len(answer)) > max {
		return nil, fmt.Errorf("couldn't read the store's answer: more than %d bytes", max)
	}
	return answer, nil
}

// Place implements record.Births.
func (s *Store) Place(ctx context.Context, o record.Order) (record.Order, error) {
	body, err := record.EncodeOrder(o)
	if err != nil {
		return record.Order{}, err
	}
	answer, err := s.ask(ctx, "/records/place", nil, body, record.MaxRecord)
	if err != nil {
		return record.Order{}, err
	}
	return record.DecodeOrder(answer)
}

// PutMnemonic implements record.Births.
func (s *Store) PutMnemonic(ctx context.Context, m record.Mnemonic) error {
	body, err := record.EncodeMnemonic(m)
	if err != nil {
		return err
	}
	_, err = s.ask(ctx, "/records/mnemonic", nil, body, 0)
	return err
}

// PutBirth implements record.Births.
func (s *Store) PutBirth(ctx context.Context, b record.Birth) (record.Birth, error) {
	body, err := record.EncodeBirth(b)
	if err != nil {
		return record.Birth{}, err
	}
	answer, err := s.ask(ctx, "/records/birth", nil, body, record.MaxRecord)
	if err != nil {
		return record.Birth{}, err
	}
	return record.DecodeBirth(answer)
}

// Order implements record.Reader.
func (s *Store) Order(ctx context.Context, id string) (record.Order, error) {
	answer, err := s.ask(ctx, "/records/order", url.Values{"id": {id}}, nil, record.MaxRecord)
	if err != nil {
		return record.Order{}, err
	}
	return record.DecodeOrder(answer)
}

// Birth implements record.Reader.
func (s *Store) Birth(ctx context.Context, pubkey eth.Pubkey) (record.Birth, error) {
	answer, err := s.ask(ctx, "/records/read-birth", url.Values{"pubkey": {pubkey.Hex()}}, nil, record.MaxRecord)
	if err != nil {
		return record.Birth{}, err
	}
	return record.DecodeBirth(answer)
}

// row is one line of a validators answer. The last line has End, so that an
// answer that was cut is never taken for a short one.
type row struct {
	Validator json.RawMessage `json:"validator,omitempty"`
	Error     *wireError      `json:"error,omitempty"`
	End       bool            `json:"end,omitempty"`
}

// Validators implements record.Reader.
func (s *Store) Validators(ctx context.Context, q record.Query) iter.Seq2[record.Validator, error] {
	return func(yield func(record.Validator, error) bool) {
		fail := func(err error) { yield(record.Validator{}, err) }
		response, err := s.call(ctx, "/records/validators", url.Values{"order": {q.Order}, "prefix": {q.Prefix}}, nil)
		if err != nil {
			fail(err)
			return
		}
		defer response.Body.Close()
		lines := bufio.NewScanner(response.Body)
		lines.Buffer(nil, maxRow)
		for lines.Scan() {
			// What has arrived already would make a list look whole that its
			// caller gave up on.
			if err := ctx.Err(); err != nil {
				fail(err)
				return
			}
			var r row
			if err := json.Unmarshal(lines.Bytes(), &r); err != nil {
				fail(fmt.Errorf("couldn't read the store's list: %w", err))
				return
			}
			if r.Error != nil {
				fail(r.Error.error())
				return
			}
			if r.End {
				return
			}
			v, err := record.DecodeValidator(r.Validator)
			if err != nil {
				fail(fmt.Errorf("couldn't read the store's list: %w", err))
				return
			}
			if !yield(v, nil) {
				return
			}
		}
		if err := lines.Err(); err != nil {
			fail(fmt.Errorf("couldn't read the store's list: %w", err))
			return
		}
		fail(errors.New("the store's list was cut short"))
	}
}

// Put implements record.Archive.
func (s *Store) Put(ctx context.Context, name string, data []byte) error {
	_, err := s.ask(ctx, "/archive/put", url.Values{"name": {name}}, data, 0)
	return err
}

// Get implements record.Archive.
func (s *Store) Get(ctx context.Context, name string) ([]byte, error) {
	return s.ask(ctx, "/archive/get", url.Values{"name": {name}}, nil, maxObject)
}
