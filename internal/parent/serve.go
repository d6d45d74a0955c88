package parent

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"

	"github.com/stakeseal/stakeseal/eth"
	"github.com/stakeseal/stakeseal/record"
)

// Ports is what the parent gives its child.
type Ports struct {
	Births  record.Births
	Reader  record.Reader
	Archive record.Archive
	// Born is told each birth that an index has, as the child hears it; it
	// drives the progress bar. It may be nil, and is called by several
	// goroutines at once.
	Born func(record.Birth)
}

// Handler serves the ports' half of the connection.
func (p Ports) Handler() http.Handler {
	mux := http.NewServeMux()
	answer := func(path string, max int64, f func(ctx context.Context, r *http.Request, body []byte) ([]byte, error)) {
		mux.HandleFunc("POST "+path, func(w http.ResponseWriter, r *http.Request) {
			body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, max))
			if err == nil {
				body, err = f(r.Context(), r, body)
			}
			if err != nil {
				w.WriteHeader(http.StatusInternalServerError)
				_ = json.NewEncoder(w).Encode(tell(err))
				return
			}
			_, _ = w.Write(body)
		})
	}
	answer("/records/place", record.MaxRecord, func(ctx context.Context, _ *http.Request, body []byte) ([]byte, error) {
		o, err := record.DecodeOrder(body)
		if err != nil {
			return nil, err
		}
		if o, err = p.Births.Place(ctx, o); err != nil {
			return nil, err
		}
		return record.EncodeOrder(o)
	})
	answer("/records/mnemonic", record.MaxRecord, func(ctx context.Context, _ *http.Request, body []byte) ([]byte, error) {
		m, err := record.DecodeMnemonic(body)
		if err != nil {
			return nil, err
		}
		return nil, p.Births.PutMnemonic(ctx, m)
	})
	answer("/records/birth", record.MaxRecord, func(ctx context.Context, _ *http.Request, body []byte) ([]byte, error) {
		b, err := record.DecodeBirth(body)
		if err != nil {
			return nil, err
		}
		if b, err = p.Births.PutBirth(ctx, b); err != nil {
			return nil, err
		}
		return p.birth(b)
	})
	answer("/records/order", 0, func(ctx context.Context, r *http.Request, _ []byte) ([]byte, error) {
		o, err := p.Reader.Order(ctx, r.URL.Query().Get("id"))
		if err != nil {
			return nil, err
		}
		return record.EncodeOrder(o)
	})
	answer("/records/read-birth", 0, func(ctx context.Context, r *http.Request, _ []byte) ([]byte, error) {
		pubkey, err := eth.ParsePubkey(r.URL.Query().Get("pubkey"))
		if err != nil {
			return nil, err
		}
		b, err := p.Reader.Birth(ctx, pubkey)
		if err != nil {
			return nil, err
		}
		return p.birth(b)
	})
	answer("/archive/put", maxObject, func(ctx context.Context, r *http.Request, body []byte) ([]byte, error) {
		return nil, p.Archive.Put(ctx, r.URL.Query().Get("name"), body)
	})
	answer("/archive/get", 0, func(ctx context.Context, r *http.Request, _ []byte) ([]byte, error) {
		return p.Archive.Get(ctx, r.URL.Query().Get("name"))
	})
	mux.HandleFunc("POST /records/validators", p.validators)
	return mux
}

func (p Ports) birth(b record.Birth) ([]byte, error) {
	if p.Born != nil {
		p.Born(b)
	}
	return record.EncodeBirth(b)
}

func (p Ports) validators(w http.ResponseWriter, r *http.Request) {
	out := json.NewEncoder(w)
	fail := func(err error) {
		told := tell(err)
		_ = out.Encode(row{Error: &told})
	}
	q := record.Query{Order: r.URL.Query().Get("order"), Prefix: r.URL.Query().Get("prefix")}
	for v, err := range p.Reader.Validators(r.Context(), q) {
		if err != nil {
			fail(err)
			return
		}
		encoded, err := record.EncodeValidator(v)
		if err != nil {
			fail(err)
			return
		}
		if out.Encode(row{Validator: encoded}) != nil {
			return
		}
	}
	_ = out.Encode(row{End: true})
}

// tell reduces an error to its sentinel and its text.
func tell(err error) wireError {
	told := wireError{Message: err.Error()}
	if len(told.Message) > maxMessage {
		told.Message = told.Message[:maxMessage] + "..."
	}
	for _, k := range kinds {
		if errors.Is(err, k.err) {
			told.Kind = k.name
			break
		}
	}
	return told
}
