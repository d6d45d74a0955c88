// Package signer signs what validator clients ask for, and refuses the rest.
// It speaks the API of Web3Signer, so that every client that knows that one
// can use this one.
//
// It promises, for each key it was given: nothing is signed before its
// slashing ledger has stored it durably, and there is no switch for that;
// nothing is signed for another network than the key's certificate names, for
// another deposit than was planned at its birth, or for a client that was not
// granted the operation and the key; a key that was taken away signs nothing
// more from the moment Remove returns; and when the lease of the signer's
// name is lost, or was not renewed in time, nothing is signed at all. Too many
// requests at once are refused at once: a late signature is worth nothing, and
// a queue without end would hold memory for it.
//
// It trusts whoever gave it the keys to have verified their certificates, the
// ledger to be the only one for these keys, and the clock for one check: how
// far ahead of time a duty may lie. It does not check what a block or an
// attestation says about the chain: that is the client's part.
//
// It never opens a sealing: it has no import of package unseal.
package signer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/stakeseal/stakeseal/eth"
	"github.com/stakeseal/stakeseal/eth/duty"
	"github.com/stakeseal/stakeseal/slashing"
)

var (
	// ErrUnknownKey: no such key here, or none that the client may see.
	ErrUnknownKey = errors.New("no such key")
	// ErrRefused: the policy says no, whatever the ledger would say.
	ErrRefused = errors.New("refused")
	// ErrBusy: too much is waiting already. Nothing was signed or stored.
	ErrBusy = errors.New("too many requests are waiting")
	// ErrStopped: the lease is not held (any more). Nothing is signed.
	ErrStopped = errors.New("this signer does not hold its lease")
)

// Fence says under which epoch of the lease may be signed now, or ErrStopped.
// It is asked before the ledger is written and again before a signature
// leaves.
type Fence func() (epoch uint64, err error)

// Config is what a Signer needs. Ledger, Fence and a network with its genesis
// validators root are needed; the rest has defaults.
type Config struct {
	Name    string // of the signer, for the metrics
	Network eth.Network
	Ledger  slashing.Ledger
	Fence   Fence
	Policy  Policy
	Log     *slog.Logger
	Metrics *Metrics
	Now     func() time.Time

	// Workers is how many BLS signatures are made at once: one for each core.
	Workers int
	// Queue is how many may wait, those that are being signed included.
	Queue int
	// Patience is how long one may wait before it is refused.
	Patience time.Duration
}

// Signer holds opened keys and signs with them.
type Signer struct {
	Config
	Keys     *Keys
	queue    chan struct{}
	workers  chan struct{}
	messages messages
}

// New makes a Signer without keys.
func New(c Config) (*Signer, error) {
	if c.Ledger == nil || c.Fence == nil {
		return nil, errors.New("a signer needs a ledger and a lease")
	}
	if !c.Network.HasGenesisValidatorsRoot {
		return nil, fmt.Errorf("a signer needs the genesis validators root of %q, which is not known", c.Network.Name)
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Workers == 0 {
		c.Workers = runtime.NumCPU()
	}
	if c.Queue == 0 {
		c.Queue = 8192
	}
	if c.Patience == 0 {
		c.Patience = 4 * time.Second // a third of a slot: what comes later is missed
	}
	s := &Signer{Config: c, Keys: newKeys(), queue: make(chan struct{}, c.Queue), workers: make(chan struct{}, c.Workers)}
	if s.Metrics == nil {
		s.Metrics = NewMetrics(s)
	}
	return s, nil
}

// Order is one signature that a client asks for.
type Order struct {
	Pubkey  eth.Pubkey
	Request *duty.Request
}

// Sign signs one order of a client.
func (s *Signer) Sign(ctx context.Context, c *Client, o Order) (eth.Signature, error) {
	signatures, errs := s.SignAll(ctx, c, []Order{o})
	return signatures[0], errs[0]
}

// SignAll signs orders of a client, each by itself: as many signatures and as
// many errors, a signature counting where the error is nil. What could be
// slashed is stored with few writes for all of them. It takes as many places in
// the queue as there are orders, all or none.
func (s *Signer) SignAll(ctx context.Context, c *Client, orders []Order) ([]eth.Signature, []error) {
	signatures, errs := make([]eth.Signature, len(orders)), make([]error, len(orders))
	begun := s.Now()
	if err := s.signAll(ctx, c, orders, signatures, errs); err != nil {
		clear(signatures)
		for i := range errs {
			errs[i] = err
		}
	}
	for i, o := range orders {
		s.account(c, o, errs[i], begun)
	}
	return signatures, errs
}

// signAll fills in signatures and errs. An error is that of all orders.
func (s *Signer) signAll(ctx context.Context, c *Client, orders []Order, signatures []eth.Signature, errs []error) error {
	leave, err := s.enter(len(orders))
	if err != nil {
		s.Metrics.busy.Add(float64(len(orders)))
		return err
	}
	defer leave()
	epoch, err := s.held(0)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, s.Patience)
	defer cancel()

	// The keys are held until the end: one that is being removed waits for
	// what is under way, and nothing new begins.
	held := make([]*heldKey, len(orders))
	defer func() {
		for _, k := range held {
			if k != nil {
				k.release()
			}
		}
	}()
	roots := make([]eth.Root, len(orders))
	for i, o := range orders {
		if held[i], errs[i] = s.Keys.hold(o.Pubkey, c); errs[i] != nil {
			s.Metrics.missing.Inc()
			continue
		}
		if errs[i] = s.allow(c, held[i].Key, o.Request); errs[i] != nil {
			continue
		}
		if i > 0 && orders[i-1].Request == o.Request && errs[i-1] == nil {
			roots[i] = roots[i-1] // a group's message is one
			continue
		}
		roots[i], errs[i] = o.Request.SigningRoot(s.Network)
	}
	s.make(ctx, held, roots, signatures, errs, func(ready func(i int)) {
		s.store(ctx, epoch, orders, roots, errs, ready)
	})
	// Once more, and last: a lease that was lost meanwhile may be another's by
	// now, who knows nothing of what was stored here.
	_, err = s.held(epoch)
	return err
}

// held is the lease's epoch, and an ErrStopped where it is not held, or not
// under the epoch that it should be (0: any).
func (s *Signer) held(want uint64) (uint64, error) {
	epoch, err := s.Fence()
	switch {
	case err != nil && !errors.Is(err, ErrStopped):
		return 0, fmt.Errorf("%w: %w", ErrStopped, err)
	case err == nil && want != 0 && epoch != want:
		return 0, fmt.Errorf("%w: it was lost and taken again", ErrStopped)
	}
	return epoch, err
}

func claimOf(o Order, root eth.Root) slashing.Claim {
	r := o.Request
	return slashing.Claim{Pubkey: o.Pubkey, Block: r.Kind == duty.Block, Slot: r.Slot, Source: r.Source, Target: r.Target, Root: root}
}

// enter takes n places in the queue.
func (s *Signer) enter(n int) (leave func(), err error) {
	for i := range n {
		select {
		case s.queue <- struct{}{}:
		default:
			for range i {
				<-s.queue
			}
			return nil, ErrBusy
		}
	}
	return func() {
		for range n {
			<-s.queue
		}
	}, nil
}

// storedAtOnce is how many claims one write of the ledger holds at most: while
// it is written, those of the one before are being signed.
const storedAtOnce = 128

// store asks the ledger for everything that could be slashed, and calls ready
// with each order that nothing stands against, once it is stored durably.
func (s *Signer) store(ctx context.Context, epoch uint64, orders []Order, roots []eth.Root, errs []error, ready func(int)) {
	var claims []slashing.Claim
	var claimed []int
	for i, o := range orders {
		switch {
		case errs[i] != nil:
		case o.Request.Kind.Slashable():
			claims, claimed = append(claims, claimOf(o, roots[i])), append(claimed, i)
		default:
			ready(i)
		}
	}
	for len(claims) > 0 {
		n := min(len(claims), storedAtOnce)
		outcomes := s.stored(ctx, epoch, claims[:n])
		for i, at := range claimed[:n] {
			if errs[at] = outcomes[i]; outcomes[i] == nil {
				ready(at)
			}
		}
		claims, claimed = claims[n:], claimed[n:]
	}
}

// stored is one write of the ledger: an outcome for each claim.
func (s *Signer) stored(ctx context.Context, epoch uint64, claims []slashing.Claim) []error {
	begun := time.Now()
	outcomes := s.Ledger.Sign(ctx, epoch, claims)
	s.Metrics.database.Observe(time.Since(begun).Seconds())
	if len(outcomes) != len(claims) { // a faulty ledger: nothing of it counts
		outcomes = slices.Repeat([]error{errors.New("the slashing ledger gave no answer")}, len(claims))
	}
	for i, err := range outcomes {
		switch {
		case err == nil:
			s.Metrics.permitted.Inc()
		case errors.Is(err, slashing.ErrSlashable):
			s.Metrics.prevented.Inc()
		case errors.Is(err, slashing.ErrHolder):
			outcomes[i] = fmt.Errorf("%w: %w", ErrStopped, err)
		case ctx.Err() != nil:
			outcomes[i] = fmt.Errorf("%w: %w", ErrBusy, err)
		}
	}
	return outcomes
}

// make makes the signatures that store calls ready for, on as many cores as
// there are, beginning while store goes on.
func (s *Signer) make(ctx context.Context, held []*heldKey, roots []eth.Root, signatures []eth.Signature, errs []error, store func(ready func(int))) {
	one := func(i int) {
		select {
		case s.workers <- struct{}{}:
			defer func() { <-s.workers }()
		case <-ctx.Done():
			errs[i] = ErrBusy
			return
		}
		if ctx.Err() != nil { // both were ready
			errs[i] = ErrBusy
			return
		}
		begun := time.Now()
		signatures[i] = held[i].Secret.SignMessage(s.messages.of(roots[i]))
		s.Metrics.signing.Observe(time.Since(begun).Seconds())
	}
	if len(roots) == 1 {
		store(one)
		return
	}
	next := make(chan int, len(roots)) // store never waits for a signature
	var group sync.WaitGroup
	for range min(s.Workers, len(roots)) {
		group.Go(func() {
			for i := range next {
				one(i)
			}
		})
	}
	defer group.Wait() // also where store panics: the keys are held until then
	defer close(next)
	store(func(i int) { next <- i })
}

// account counts and logs an outcome. Nothing of it is secret: a signature is
// not, and is left out only because nobody reads it.
func (s *Signer) account(c *Client, o Order, err error, begun time.Time) {
	s.Metrics.requests.WithLabelValues(string(o.Request.Kind), class(err)).Inc()
	level := slog.LevelDebug
	if err != nil && !errors.Is(err, ErrUnknownKey) {
		level = slog.LevelWarn
	}
	if !s.Log.Enabled(context.Background(), level) {
		return
	}
	r := o.Request
	attrs := []slog.Attr{slog.String("client", c.Name), slog.String("pubkey", o.Pubkey.String()), slog.String("type", string(r.Kind)), slog.Duration("took", s.Now().Sub(begun))}
	switch {
	case r.Kind == duty.Attestation:
		attrs = append(attrs, slog.Uint64("slot", r.Slot), slog.Uint64("source", r.Source), slog.Uint64("target", r.Target))
	case r.Slot > 0:
		attrs = append(attrs, slog.Uint64("slot", r.Slot))
	}
	text := "signed"
	if err != nil {
		text = "not signed"
		attrs = append(attrs, slog.String("why", err.Error()))
	}
	s.Log.LogAttrs(context.Background(), level, text, attrs...)
}

// class is an outcome's name in the metrics.
func class(err error) string {
	switch {
	case err == nil:
		return "signed"
	case errors.Is(err, slashing.ErrSlashable):
		return "slashable"
	case errors.Is(err, ErrUnknownKey), errors.Is(err, slashing.ErrUnknownKey):
		return "unknown"
	case errors.Is(err, ErrRefused), errors.Is(err, duty.ErrRoot):
		return "refused"
	case errors.Is(err, ErrBusy):
		return "busy"
	case errors.Is(err, ErrStopped):
		return "stopped"
	}
	return "failed"
}
