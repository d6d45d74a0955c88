// Package recordfault makes the ports of a store fail on purpose: at a chosen
// call, before or after it was carried out, or in the middle of a list. It
// serves tests of what stands above the ports: whatever fails, nothing that
// was disclosed is lost and a repeated run ends as an undisturbed one.
//
// A test runs once with an empty Plan to learn the calls, then once for each
// of Points with a Plan of that one fault:
//
//	plan := recordfault.New()
//	run(plan.Births(store), plan.Archive(archive))
//	for _, fault := range recordfault.Points(plan.Calls()) {
//		plan := recordfault.New(fault)
//		err := run(plan.Births(fresh), plan.Archive(fresh))
//		// plan.Fired(), errors.Is(err, recordfault.ErrInjected), then run again without a fault
//	}
package recordfault

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"sync"

	"github.com/stakeseal/stakeseal/eth"
	"github.com/stakeseal/stakeseal/record"
)

// ErrInjected is every failure that a plan makes. It is none of record's
// sentinels: its outcome is unknown to the caller.
var ErrInjected = errors.New("injected fault")

// Mode says how a call fails.
type Mode string

const (
	// Pass carries the call out; for a fault that is only a hook.
	Pass Mode = ""
	// NotApplied fails the call without carrying it out.
	NotApplied Mode = "not applied"
	// Applied carries the call out and then loses its answer, whatever it
	// was.
	Applied Mode = "applied"
	// AtRow fails a list after Row rows. After all of them (or Applied), the
	// list's end becomes an error.
	AtRow Mode = "at row"
)

// Fault is what happens at one call.
type Fault struct {
	Call int // counted from 1 over all ports of the plan
	Mode Mode
	Row  int
	// Down fails every later call as NotApplied: to the caller it is as if it
	// had died here.
	Down bool
	// Err, if not nil, is joined to ErrInjected: a full disk, say.
	Err error
	// Hook, if not nil, is called at the fault, just before the call is
	// carried out or (Applied) just after: to kill the process, to let
	// another writer in between.
	Hook func(Call)
}

func (f Fault) String() string {
	s := fmt.Sprintf("call %d", f.Call)
	if f.Mode != Pass {
		s += " " + string(f.Mode)
	}
	if f.Mode == AtRow {
		s += fmt.Sprintf(" %d", f.Row)
	}
	if f.Down {
		s += " and down"
	}
	return s
}

// Call is a call that a plan saw. Using a list counts when its rows are
// asked for, each time anew.
type Call struct {
	N      int
	Port   string // Births, Reader, ...
	Method string
	List   bool
	Rows   int // that a list yielded
}

func (c Call) String() string { return fmt.Sprintf("call %d: %s.%s", c.N, c.Port, c.Method) }

// Plan counts the calls of the ports that it wraps, over all of them
// together, and fails those that its faults name. It is safe for concurrent
// use; which of two concurrent calls is the n-th is then up to them.
type Plan struct {
	mu     sync.Mutex
	calls  []Call
	faults map[int]Fault
	fired  int
	down   bool
}

// New returns a plan with one fault per call at most.
func New(faults ...Fault) *Plan {
	p := &Plan{faults: map[int]Fault{}}
	for _, f := range faults {
		if _, twice := p.faults[f.Call]; twice || f.Call < 1 {
			panic(fmt.Sprintf("recordfault: bad plan: %v", f))
		}
		p.faults[f.Call] = f
	}
	return p
}

// Calls returns the calls so far, in order.
func (p *Plan) Calls() []Call {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.calls)
}

// Fired reports whether every fault of the plan has happened. A test that
// does not ask may have tested nothing.
func (p *Plan) Fired() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.fired == len(p.faults)
}

// Points returns every fault that a run with these calls can meet: each call
// not applied and applied, each list after each number of rows; each of them
// passing and, where later calls follow, also staying down.
func Points(calls []Call) (points []Fault) {
	for _, c := range calls {
		at := []Fault{{Call: c.N, Mode: NotApplied}}
		if c.List {
			at = nil
			for row := range c.Rows + 1 {
				at = append(at, Fault{Call: c.N, Mode: AtRow, Row: row})
			}
		} else {
			at = append(at, Fault{Call: c.N, Mode: Applied})
		}
		for _, f := range at {
			points = append(points, f)
			if c.N < len(calls) {
				f.Down = true
				points = append(points, f)
			}
		}
	}
	return points
}

// begin counts a call and returns what is to happen at it.
func (p *Plan) begin(port, method string, list bool) (Call, Fault) {
	p.mu.Lock()
	defer p.mu.Unlock()
	c := Call{N: len(p.calls) + 1, Port: port, Method: method, List: list}
	p.calls = append(p.calls, c)
	if p.down {
		return c, Fault{Call: c.N, Mode: NotApplied}
	}
	return c, p.faults[c.N]
}

// fire notes that a fault happens and returns its error.
func (p *Plan) fire(c Call, f Fault) error {
	p.mu.Lock()
	if _, planned := p.faults[c.N]; planned && !p.down {
		p.fired++
	}
	p.down = p.down || f.Down
	p.mu.Unlock()
	if f.Hook != nil {
		f.Hook(c)
	}
	if f.Mode == Pass {
		return nil
	}
	err := fmt.Errorf("%w (%s, %s)", ErrInjected, c, f.Mode)
	if f.Err != nil {
		err = fmt.Errorf("%w: %w", err, f.Err)
	}
	return err
}

// do makes one call under the plan.
func do[T any](p *Plan, port, method string, call func() (T, error)) (T, error) {
	var zero T
	c, f := p.begin(port, method, false)
	switch f.Mode {
	case Applied:
		_, _ = call()
		return zero, p.fire(c, f)
	case Pass:
		if f.Hook != nil || f.Down {
			_ = p.fire(c, f)
		}
		return call()
	default: // AtRow too: this call is no list
		return zero, p.fire(c, f)
	}
}

func do0(p *Plan, port, method string, call func() error) error {
	_, err := do(p, port, method, func() (struct{}, error) { return struct{}{}, call() })
	return err
}

// list yields rows under the plan.
func list[T any](p *Plan, port, method string, rows iter.Seq2[T, error]) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		var zero T
		c, f := p.begin(port, method, true)
		left := -1 // rows before the fault: never
		switch f.Mode {
		case NotApplied:
			left = 0
		case AtRow:
			left = f.Row
		case Pass:
			if f.Hook != nil || f.Down {
				_ = p.fire(c, f)
			}
		}
		if left == 0 {
			yield(zero, p.fire(c, f))
			return
		}
		for v, err := range rows {
			if err == nil {
				p.mu.Lock()
				p.calls[c.N-1].Rows++
				p.mu.Unlock()
			}
			if !yield(v, err) || err != nil {
				return
			}
			if left--; left == 0 {
				yield(zero, p.fire(c, f))
				return
			}
		}
		if f.Mode == Applied {
			yield(zero, p.fire(c, f))
		}
	}
}

// Store is every port over records at once.
type Store interface {
	record.Births
	record.Reader
	record.Catalog
	record.Assignments
	record.Events
}

// Store wraps all ports of a store, for code that takes them as one value.
func (p *Plan) Store(s Store) Store {
	return struct {
		births
		reader
		catalog
		assignments
		events
	}{births{p, s}, reader{p, s}, catalog{p, s}, assignments{p, s}, events{p, s}}
}

// Births wraps the port.
func (p *Plan) Births(port record.Births) record.Births { return births{p, port} }

type births struct {
	p    *Plan
	port record.Births
}

func (b births) Place(ctx context.Context, o record.Order) (record.Order, error) {
	return do(b.p, "Births", "Place", func() (record.Order, error) { return b.port.Place(ctx, o) })
}

func (b births) PutMnemonic(ctx context.Context, m record.Mnemonic) error {
	return do0(b.p, "Births", "PutMnemonic", func() error { return b.port.PutMnemonic(ctx, m) })
}

func (b births) PutBirth(ctx context.Context, r record.Birth) (record.Birth, error) {
	return do(b.p, "Births", "PutBirth", func() (record.Birth, error) { return b.port.PutBirth(ctx, r) })
}

// Reader wraps the port.
func (p *Plan) Reader(port record.Reader) record.Reader { return reader{p, port} }

type reader struct {
	p    *Plan
	port record.Reader
}

func (r reader) Order(ctx context.Context, id string) (record.Order, error) {
	return do(r.p, "Reader", "Order", func() (record.Order, error) { return r.port.Order(ctx, id) })
}

func (r reader) Birth(ctx context.Context, pubkey eth.Pubkey) (record.Birth, error) {
	return do(r.p, "Reader", "Birth", func() (record.Birth, error) { return r.port.Birth(ctx, pubkey) })
}

func (r reader) Validators(ctx context.Context, q record.Query) iter.Seq2[record.Validator, error] {
	return list(r.p, "Reader", "Validators", r.port.Validators(ctx, q))
}

// Catalog wraps the port.
func (p *Plan) Catalog(port record.Catalog) record.Catalog { return catalog{p, port} }

type catalog struct {
	p    *Plan
	port record.Catalog
}

func (c catalog) Orders(ctx context.Context) iter.Seq2[record.Order, error] {
	return list(c.p, "Catalog", "Orders", c.port.Orders(ctx))
}

func (c catalog) Mnemonics(ctx context.Context, order string) iter.Seq2[record.Mnemonic, error] {
	return list(c.p, "Catalog", "Mnemonics", c.port.Mnemonics(ctx, order))
}

// Assignments wraps the port.
func (p *Plan) Assignments(port record.Assignments) record.Assignments {
	return assignments{p, port}
}

type assignments struct {
	p    *Plan
	port record.Assignments
}

func (a assignments) Assignment(ctx context.Context, pubkey eth.Pubkey) (record.Assignment, error) {
	return do(a.p, "Assignments", "Assignment", func() (record.Assignment, error) { return a.port.Assignment(ctx, pubkey) })
}

func (a assignments) Assign(ctx context.Context, r record.Assignment) error {
	return do0(a.p, "Assignments", "Assign", func() error { return a.port.Assign(ctx, r) })
}

func (a assignments) Assigned(ctx context.Context, signer string) iter.Seq2[record.Assignment, error] {
	return list(a.p, "Assignments", "Assigned", a.port.Assigned(ctx, signer))
}

// Events wraps the port.
func (p *Plan) Events(port record.Events) record.Events { return events{p, port} }

type events struct {
	p    *Plan
	port record.Events
}

func (e events) Append(ctx context.Context, r record.Event) error {
	return do0(e.p, "Events", "Append", func() error { return e.port.Append(ctx, r) })
}

func (e events) Events(ctx context.Context, q record.EventQuery) iter.Seq2[record.Event, error] {
	return list(e.p, "Events", "Events", e.port.Events(ctx, q))
}

// Imports wraps the port.
func (p *Plan) Imports(port record.Imports) record.Imports { return imports{p, port} }

type imports struct {
	p    *Plan
	port record.Imports
}

func (i imports) PutImportedMnemonic(ctx context.Context, m record.ImportedMnemonic) error {
	return do0(i.p, "Imports", "PutImportedMnemonic", func() error { return i.port.PutImportedMnemonic(ctx, m) })
}

func (i imports) PutImport(ctx context.Context, r record.Import) error {
	return do0(i.p, "Imports", "PutImport", func() error { return i.port.PutImport(ctx, r) })
}

// ImportReader wraps the port.
func (p *Plan) ImportReader(port record.ImportReader) record.ImportReader {
	return importReader{p, port}
}

type importReader struct {
	p    *Plan
	port record.ImportReader
}

func (i importReader) Import(ctx context.Context, pubkey eth.Pubkey) (record.Import, error) {
	return do(i.p, "ImportReader", "Import", func() (record.Import, error) { return i.port.Import(ctx, pubkey) })
}

func (i importReader) Imported(ctx context.Context, prefix string) iter.Seq2[record.Imported, error] {
	return list(i.p, "ImportReader", "Imported", i.port.Imported(ctx, prefix))
}

func (i importReader) ImportedMnemonics(ctx context.Context) iter.Seq2[record.ImportedMnemonic, error] {
	return list(i.p, "ImportReader", "ImportedMnemonics", i.port.ImportedMnemonics(ctx))
}

// Archive wraps the port.
func (p *Plan) Archive(port record.Archive) record.Archive { return archive{p, port} }

type archive struct {
	p    *Plan
	port record.Archive
}

func (a archive) Put(ctx context.Context, name string, data []byte) error {
	return do0(a.p, "Archive", "Put", func() error { return a.port.Put(ctx, name, data) })
}

func (a archive) Get(ctx context.Context, name string) ([]byte, error) {
	return do(a.p, "Archive", "Get", func() ([]byte, error) { return a.port.Get(ctx, name) })
}
