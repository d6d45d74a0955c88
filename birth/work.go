package birth

import (
	"sync"
	"time"

	"github.com/stakeseal/stakeseal/eth/keystore"
	"github.com/stakeseal/stakeseal/record"
)

// batchSize is how many indexes a worker makes at a time, at least (towards
// the end of an order, and before it is known how long one takes) and at
// most: enough for batched signature verification to pay, few enough that a
// crash wastes little. first is what one index is taken to take at most while
// nothing was measured: the program's first one includes opening a keystore,
// a second run of the KDF, and a small function has a third of a core.
func batchSize(kdf string) (least, most int, first time.Duration) {
	switch kdf {
	case string(keystore.Scrypt):
		return 1, 4, 6 * time.Second
	case string(keystore.PBKDF2):
		return 1, 16, time.Second
	}
	return 8, 64, 100 * time.Millisecond
}

// slice is how long a batch may take where the time is limited: what is left
// when the time ends is wasted by up to one batch of each worker.
const slice = 2 * time.Second

// confirmBatch is how many owned indexes are verified at a time.
const confirmBatch = 64

// work hands out the indexes of a range in batches, lowest first, so that
// whatever was done when the time ends is the beginning of the range but for
// a batch or two.
type work struct {
	kdf              string
	workers, writers int
	limit            allowance

	mu       sync.Mutex
	changed  sync.Cond // a birth was written, or stopped
	pending  int       // indexes handed out and not written
	written  int
	began    time.Time          // when the first was handed out
	cutShort bool               // there were empty indexes, and no time for any
	filled   []record.Validator // not handed out yet
	empty    []uint32
	stopped  bool
	// The slowest that counts: newer ones count more, so that one hiccup does
	// not make a run end minutes early.
	index time.Duration // from derivation to certificate, of one index; 0: not known
	write time.Duration // store and archive, of one birth
}

// newWork splits a range into its owned indexes, which are given, and the
// others.
func newWork(kdf string, r Range, filled []record.Validator, workers, writers int, limit allowance) *work {
	w := &work{kdf: kdf, workers: max(workers, 1), writers: max(writers, 1), limit: limit, filled: filled}
	w.changed.L = &w.mu
	rest := filled
	for index := r.From; index < r.To; index++ {
		if len(rest) > 0 && rest[0].Index == index {
			rest = rest[1:]
		} else {
			w.empty = append(w.empty, index)
		}
	}
	return w
}

// begin drops the empty indexes if there is no time for even one, and says
// whether there are any to fill: a mnemonic that nothing is derived from
// would stay for ever.
func (w *work) begin() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.empty) > 0 && !w.fits(1) {
		w.empty, w.cutShort = nil, true
	}
	return len(w.empty) > 0
}

// fits says whether a batch of n can be made and written in the time left.
// If it is mistaken, the last of them are cut off, and made again another
// time; the receipt's time is not touched.
func (w *work) fits(n int) bool {
	index := w.index
	if index == 0 {
		_, _, index = batchSize(w.kdf)
	}
	return !w.limit.limited() || w.limit.left() > time.Duration(n)*index*3/2+w.writing(n)
}

// writing is how long n births take into store and archive, behind those
// that are on their way: by what one took, as many at once as may be, and by
// how many were written since the run began, whichever says longer. A store
// that is throttled takes no more of them at once.
func (w *work) writing(n int) time.Duration {
	n += w.pending
	byOne := w.write + w.write*time.Duration(n)/time.Duration(w.writers)
	if w.written == 0 {
		return byOne
	}
	return max(byOne, w.limit.now().Sub(w.began)*time.Duration(n)/time.Duration(w.written))
}

// next returns the next batch: indexes to fill, or owned ones to verify. Both
// are empty when nothing is left to do, or no time to do it.
func (w *work) next() (empty []uint32, filled []record.Validator) {
	w.mu.Lock()
	defer w.mu.Unlock()
	empty, filled = w.batch()
	// Where nothing is known of the store, no more is begun than it may get
	// at once: it could be throttled to a fraction of what there is time for.
	for w.limit.limited() && w.write == 0 && w.pending > 0 && w.pending+len(empty)+len(filled) > w.writers && !w.stopped {
		w.changed.Wait()
		empty, filled = w.batch()
	}
	if w.stopped {
		return nil, nil
	}
	w.empty, w.filled = w.empty[len(empty):], w.filled[len(filled):]
	if w.began.IsZero() {
		w.began = w.limit.now()
	}
	w.pending += len(empty) + len(filled)
	return empty, filled
}

// batch is what next returns if nothing speaks against it.
func (w *work) batch() (empty []uint32, filled []record.Validator) {
	if w.stopped || len(w.empty)+len(w.filled) == 0 {
		return nil, nil
	}
	if len(w.empty) == 0 || len(w.filled) > 0 && w.filled[0].Index < w.empty[0] {
		n := min(confirmBatch, len(w.filled))
		switch {
		case !w.limit.limited():
		case w.write == 0: // nothing was measured
			n = min(n, w.writers)
		default:
			n = max(min(n, int(slice*time.Duration(w.writers)/w.write)), 1)
		}
		for n > 1 && w.limit.left() <= w.writing(n) {
			n /= 2
		}
		if w.limit.left() <= w.writing(n) {
			w.stopped = true
			return nil, nil
		}
		return nil, w.filled[:n]
	}
	n := w.size()
	for n > 1 && !w.fits(n) {
		n /= 2
	}
	if !w.fits(n) {
		w.stopped = true
		return nil, nil
	}
	return w.empty[:n], nil
}

// size is how many indexes the next batch has. Towards the end they become
// fewer, so that all workers end at about the same time.
func (w *work) size() int {
	least, most, _ := batchSize(w.kdf)
	n := min(max(len(w.empty)/(2*w.workers), least), most, len(w.empty))
	switch {
	case !w.limit.limited():
	case w.index == 0:
		n = min(n, least)
	default:
		n = max(min(n, int(slice/(w.index+w.write/time.Duration(w.writers)))), 1)
	}
	return n
}

// made notes how long a batch of n took to make; wrote, how long a birth was
// on its way into store and archive.
func (w *work) made(n int, d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.index = max(d/time.Duration(n), w.index*3/4, 1)
}

func (w *work) wrote(d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.write = max(d, w.write*7/8, 1)
	w.pending--
	w.written++
	w.changed.Broadcast()
}

// stop hands out nothing more.
func (w *work) stop() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.stopped = true
	w.changed.Broadcast()
}

// left says whether indexes of the range were not handed out.
func (w *work) left() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.stopped || w.cutShort || len(w.empty)+len(w.filled) > 0
}
