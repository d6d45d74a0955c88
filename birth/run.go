package birth

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"sync"
	"sync/atomic"

	"github.com/stakeseal/stakeseal/record"
)

// all runs the batches on r.Workers goroutines and yields what they finish.
// The first error stops all, but for ErrIncomplete: then what was begun is
// brought to its end, and nothing more is begun.
func (r *run) all(ctx context.Context) iter.Seq2[Born, error] {
	return func(yield func(Born, error) bool) {
		ctx, cancel := context.WithCancelCause(ctx)
		done := make(chan Born)
		gone := make(chan struct{})                 // closed when nobody listens any more
		var incomplete, fatal atomic.Pointer[error] // the first of each
		fail := func(err error) {
			if err = late(ctx, err); Class(err) == ClassIncomplete {
				incomplete.CompareAndSwap(nil, &err)
				r.work.stop()
				return
			}
			// Not left to the context's cause: the time may have been up before.
			fatal.CompareAndSwap(nil, &err)
			cancel(err)
			r.work.stop() // and nobody waits for what will not come
		}
		writing := &writers{slots: make(chan struct{}, max(r.Writers, 1)), fail: fail, done: func(b Born) {
			select {
			case done <- b:
			case <-gone:
			}
		}}
		var workers sync.WaitGroup
		for range max(r.Workers, 1) {
			workers.Go(func() {
				for ctx.Err() == nil {
					empty, filled := r.work.next()
					var err error
					switch {
					case len(empty) > 0:
						err = r.make(ctx, writing, empty)
					case len(filled) > 0:
						err = r.confirm(ctx, writing, filled)
					default:
						return
					}
					if err != nil {
						fail(err)
						return
					}
				}
			})
		}
		go func() { workers.Wait(); writing.all.Wait(); close(done) }()
		// Whichever way the loop ends, no worker outlives it: a worker may
		// hold secrets, which it wipes on its way out.
		defer func() {
			cancel(context.Canceled)
			close(gone)
			for range done {
			}
		}()
		for b := range done {
			if !yield(b, nil) {
				return
			}
		}
		switch {
		case fatal.Load() != nil:
			yield(Born{}, *fatal.Load())
		case incomplete.Load() != nil:
			yield(Born{}, *incomplete.Load())
		case ctx.Err() != nil:
			yield(Born{}, context.Cause(ctx))
		case r.work.left():
			yield(Born{}, ErrIncomplete)
		}
	}
}

// writers carry finished births to the store and the archive. What they hold
// is sealed: public data only.
type writers struct {
	slots chan struct{} // bounds how many wait for the disk
	fail  func(error)
	done  func(Born)
	all   sync.WaitGroup
}

// write runs f, and hands on the birth that it returns. With one slot it
// waits for f; with more it waits for a free slot only, and an error of f
// ends the run.
func (w *writers) write(ctx context.Context, f func() (Born, error)) error {
	one := func() error {
		b, err := f()
		if err == nil {
			w.done(b)
		}
		return err
	}
	if cap(w.slots) == 1 {
		return one()
	}
	select {
	case w.slots <- struct{}{}:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	w.all.Go(func() {
		defer func() { <-w.slots }()
		if err := one(); err != nil {
			w.fail(err)
		}
	})
	return nil
}

// make fills a batch of indexes.
func (r *run) make(ctx context.Context, w *writers, indexes []uint32) error {
	start := r.Now()
	took := r.step("keys")
	made, err := r.words.maker.Make(ctx, r.spec, indexes, nil)
	if err != nil {
		return err
	}
	defer func() {
		for _, m := range made {
			m.Wipe()
		}
	}()
	took()
	took = r.step("check")
	checked, err := r.checker.Validators(ctx, made)
	if err != nil {
		return err
	}
	took()
	births := make([]record.Birth, len(checked))
	err = atOnce(r.Calls, len(checked), func(i int) error {
		took := r.step("seal")
		sealed, err := checked[i].Seal(ctx, r.Signing, r.Network.Name, r.order.ID)
		if err != nil {
			return err
		}
		took()
		defer r.step("certify")()
		births[i], err = r.certify(ctx, sealed)
		return err
	})
	if err != nil {
		return err
	}
	r.work.made(len(indexes), r.Now().Sub(start))
	for _, b := range births {
		err := w.write(ctx, func() (Born, error) {
			start := r.Now()
			took := r.step("store")
			owner, err := again(ctx, r.Flow, r.limit, func() (record.Birth, error) { return r.Store.PutBirth(ctx, b) })
			if err != nil {
				return Born{}, fmt.Errorf("couldn't store index %d: %w", b.Index, err)
			}
			took()
			born, err := r.settle(ctx, b.Index, owner, r.archive)
			born.Made = owner.Pubkey == b.Pubkey
			r.work.wrote(r.Now().Sub(start))
			return born, err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// atOnce calls f(0) to f(n-1), up to limit of them at once, and returns when
// all have returned; after an error no further one is begun.
func atOnce(limit, n int, f func(i int) error) error {
	var next atomic.Int64
	var failed atomic.Bool
	errs := make([]error, n)
	var all sync.WaitGroup
	one := func() {
		for i := int(next.Add(1)) - 1; i < n && !failed.Load(); i = int(next.Add(1)) - 1 {
			if errs[i] = f(i); errs[i] != nil {
				failed.Store(true)
			}
		}
	}
	for range min(limit, n) - 1 {
		all.Go(one)
	}
	one()
	all.Wait()
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// confirm verifies indexes that were filled before.
func (r *run) confirm(ctx context.Context, w *writers, rows []record.Validator) error {
	for _, row := range rows {
		err := w.write(ctx, func() (Born, error) {
			start := r.Now()
			took := r.step("store")
			b, err := again(ctx, r.Flow, r.limit, func() (record.Birth, error) { return r.Store.Birth(ctx, row.Pubkey) })
			if err != nil {
				return Born{}, fmt.Errorf("couldn't read index %d of order %s back: %w", row.Index, r.order.ID, err)
			}
			took()
			born, err := r.settle(ctx, row.Index, b, r.archivedBefore)
			r.work.wrote(r.Now().Sub(start))
			return born, err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// settle takes the owner of an index as the store returned it, ours or
// another's, and makes sure of it: its certificate verifies and says what the
// record says, and the archive holds the same. A winner that crashed before
// archiving is archived here.
func (r *run) settle(ctx context.Context, index uint32, owner record.Birth, archive archiving) (Born, error) {
	verified, err := r.verify(index, owner)
	if err != nil {
		return Born{}, err
	}
	defer r.step("archive")()
	if err := r.mnemonicArchived(ctx, owner, verified.Mnemonic); err != nil {
		return Born{}, err
	}
	object, err := record.EncodeBirth(owner)
	if err != nil {
		return Born{}, err
	}
	if err := archive(ctx, r.limit, BirthObject(owner.Order, owner.Index), object); err != nil {
		return Born{}, err
	}
	return Born{Birth: owner, words: verified.Mnemonic, digest: verified.Digest}, nil
}

// archiving makes sure that an object is in the archive.
type archiving func(ctx context.Context, limit allowance, name string, object []byte) error

// archive puts an object if its name is free and in any case reads it back.
func (f *Flow) archive(ctx context.Context, limit allowance, name string, object []byte) error {
	_, err := again(ctx, f, limit, func() (struct{}, error) { return struct{}{}, f.Archive.Put(ctx, name, object) })
	if err != nil && !errors.Is(err, record.ErrExists) {
		return fmt.Errorf("couldn't archive %s: %w", name, err)
	}
	return f.readBack(ctx, limit, name, object)
}

// archivedBefore is archive for what is there already unless somebody died
// before archiving it: it looks first. S3 asks twelve times as much for a put
// that is refused as for a get.
func (f *Flow) archivedBefore(ctx context.Context, limit allowance, name string, object []byte) error {
	err := f.readBack(ctx, limit, name, object)
	if errors.Is(err, record.ErrNotFound) {
		return f.archive(ctx, limit, name, object)
	}
	return err
}

// readBack refuses an archive that has another object under the name, or
// none: record.ErrNotFound.
func (f *Flow) readBack(ctx context.Context, limit allowance, name string, object []byte) error {
	back, err := again(ctx, f, limit, func() ([]byte, error) { return f.Archive.Get(ctx, name) })
	if err != nil {
		return fmt.Errorf("couldn't read %s back from the archive: %w", name, err)
	}
	if !bytes.Equal(back, object) {
		return fmt.Errorf("%w: the archive's %s differs from the store's record", ErrTampered, name)
	}
	return nil
}
