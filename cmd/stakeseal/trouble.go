package main

import (
	"context"
	"errors"
	"sync"

	"github.com/stakeseal/stakeseal/internal/runtimeapi"
	"github.com/stakeseal/stakeseal/record"
)

// trouble stands between the generator and the home's stores and remembers
// their first failure: the generator can only tell its text, and what to do
// about a full disk is known here.
type trouble struct {
	births  record.Births
	archive record.Archive

	mu    sync.Mutex
	first error
}

var (
	_ record.Births  = (*trouble)(nil)
	_ record.Archive = (*trouble)(nil)
)

// note remembers a failure that is no answer of the ports.
func (t *trouble) note(err error) error {
	for _, answer := range []error{nil, record.ErrConflict, record.ErrExists, record.ErrNotFound, context.Canceled} {
		if errors.Is(err, answer) {
			return err
		}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.first == nil {
		t.first = err
	}
	return err
}

// explain gives an error of the generator the exit code and hint of what
// failed here.
func (t *trouble) explain(err error) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	var remote *runtimeapi.Failure
	if t.first == nil || !errors.As(err, &remote) || remote.Class != "failed" {
		return err
	}
	code, hint := classify(t.first)
	if hint == "" {
		return err
	}
	return fail(code, hint, "%w", err)
}

// Place implements record.Births.
func (t *trouble) Place(ctx context.Context, o record.Order) (record.Order, error) {
	o, err := t.births.Place(ctx, o)
	return o, t.note(err)
}

// PutMnemonic implements record.Births.
func (t *trouble) PutMnemonic(ctx context.Context, m record.Mnemonic) error {
	return t.note(t.births.PutMnemonic(ctx, m))
}

// PutBirth implements record.Births.
func (t *trouble) PutBirth(ctx context.Context, b record.Birth) (record.Birth, error) {
	b, err := t.births.PutBirth(ctx, b)
	return b, t.note(err)
}

// Put implements record.Archive.
func (t *trouble) Put(ctx context.Context, name string, data []byte) error {
	return t.note(t.archive.Put(ctx, name, data))
}

// Get implements record.Archive.
func (t *trouble) Get(ctx context.Context, name string) ([]byte, error) {
	data, err := t.archive.Get(ctx, name)
	return data, t.note(err)
}
