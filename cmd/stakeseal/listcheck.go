package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"

	"github.com/stakeseal/stakeseal/birth"
	"github.com/stakeseal/stakeseal/certificate"
	"github.com/stakeseal/stakeseal/eth"
	"github.com/stakeseal/stakeseal/keygen"
	"github.com/stakeseal/stakeseal/record"
)

// wholeReads is up to how many validators of an order a list reads whole. Of
// larger orders it holds what it prints against the receipt, one read an order;
// what it does not print (the sealed file, the certificate) is doctor's.
const wholeReads = 1000

// rowCheck holds the rows of a list against what was signed: whoever can write
// the store can replace a row, its checksums included (a role that may put an
// item may overwrite it), and what a list prints is copied into other systems.
type rowCheck struct {
	h      *home
	orders map[string]record.Order
	signed map[string]*signedOrder // of one order only, unless they are named one by one
	seen   map[string]uint32       // rows of each order, selected or not
	whole  bool                    // every row of the selected orders is to be there
	named  bool                    // the words name rows one by one
}

// signedOrder is what was signed of an order.
type signedOrder struct {
	order record.Order
	lines []certificate.ReceiptValidator // by index; nil: there is no receipt yet, or none is needed
	err   error                          // the receipt says no: it stands for every row
}

// judged is a row with why it is refused.
type judged struct {
	chosen
	refused error
}

func newRowCheck(h *home, s *selection, orders map[string]record.Order) *rowCheck {
	return &rowCheck{h: h, orders: orders, signed: map[string]*signedOrder{}, seen: map[string]uint32{},
		whole: len(s.words) == 0 && s.signer == "" && !s.unassigned, named: len(s.words) > 0}
}

// saysNo tells a record that is not what was signed from a place that could
// not be read.
func saysNo(err error) bool {
	code, _ := classify(err)
	return code == exitRefused || errors.Is(err, certificate.ErrFormat)
}

// of is what was signed of an order; its receipt is read once.
func (k *rowCheck) of(ctx context.Context, id string) (*signedOrder, error) {
	if s, ok := k.signed[id]; ok {
		return s, nil
	}
	s := &signedOrder{}
	var ok bool
	if s.order, ok = k.orders[id]; !ok {
		// Placed after the orders were read, or never.
		s.order, s.err = k.h.records.Order(ctx, id)
		if errors.Is(s.err, record.ErrNotFound) {
			s.err = fmt.Errorf("%w: order %s is missing in the store", birth.ErrTampered, id)
		}
	}
	// Of one that is named its certificate says all that the receipt would.
	if s.err == nil && !k.named {
		s.lines, s.err = k.lines(ctx, s.order)
	}
	if s.err != nil && !saysNo(s.err) {
		return nil, s.err
	}
	if !k.named {
		clear(k.signed) // rows come by order; a receipt of a large one takes megabytes
	}
	k.signed[id] = s
	return s, nil
}

func (k *rowCheck) lines(ctx context.Context, order record.Order) ([]certificate.ReceiptValidator, error) {
	if order.Network != k.h.generator.Network.Name {
		return nil, fmt.Errorf("%w: order %s is for network %q", birth.ErrTampered, order.ID, order.Network)
	}
	envelope, err := k.h.archive.Get(ctx, birth.ReceiptObject(order.ID, 0, order.Count))
	if errors.Is(err, record.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("couldn't read the receipt of order %s: %w", order.ID, err)
	}
	receipt, err := k.h.verifiedReceipt(order, envelope)
	if err != nil {
		return nil, err
	}
	if receipt.From != 0 || receipt.To != order.Count || len(receipt.Validators) != int(order.Count) {
		return nil, fmt.Errorf("%w: the receipt of order %s is of a part of it", birth.ErrTampered, order.ID)
	}
	return receipt.Validators, nil
}

// rows judges a stream, many at once and in its order.
func (k *rowCheck) rows(ctx context.Context, rows iter.Seq2[chosen, error]) iter.Seq2[judged, error] {
	return func(yield func(judged, error) bool) {
		var batch []judged
		flush := func() bool {
			err := k.judge(ctx, batch)
			for _, j := range batch {
				if err == nil && !yield(j, nil) {
					return false
				}
			}
			batch = batch[:0]
			if err != nil {
				yield(judged{}, err)
			}
			return err == nil
		}
		for c, err := range rows {
			if err != nil {
				if flush() {
					yield(judged{}, err)
				}
				return
			}
			if batch = append(batch, judged{chosen: c}); len(batch) == 256 && !flush() {
				return
			}
		}
		flush()
	}
}

func (k *rowCheck) judge(ctx context.Context, batch []judged) error {
	type deep struct {
		row    *judged
		signed *signedOrder
	}
	var reads []deep
	for i := range batch {
		j := &batch[i]
		if j.Imported != nil {
			continue // read with its own check
		}
		s, err := k.of(ctx, j.Order)
		if err != nil {
			return err
		}
		if j.refused = s.err; j.refused == nil {
			j.refused = s.lists(j.Validator)
		}
		if j.refused == nil && (s.lines == nil || s.order.Count <= wholeReads) {
			reads = append(reads, deep{j, s})
		}
	}
	return inParallel(ctx, 16, each(reads), func(ctx context.Context, d deep) error {
		err := k.certified(ctx, d.row.Validator, d.signed)
		if err != nil && (!saysNo(err) || ctx.Err() != nil) {
			return err
		}
		d.row.refused = err
		return nil
	})
}

// lists compares a row with the order and with its line of the receipt, which
// signs the order's digest.
func (s *signedOrder) lists(v record.Validator) error {
	changed := func(what string) error {
		return fmt.Errorf("%w: index %d of order %s: %s", birth.ErrTampered, v.Index, s.order.ID, what)
	}
	switch {
	case v.Index >= s.order.Count:
		return changed("the order has no such index")
	case v.Path != keygen.SigningPath(v.Index):
		return changed("its path is another index's")
	case v.Network != s.order.Network:
		return changed("its network is not the order's")
	case v.Credentials != s.order.Credentials:
		return changed("its withdrawal credentials are not the order's")
	case !slices.EqualFunc(v.Deposits, s.order.Plan, func(d record.Deposit, amount eth.Gwei) bool { return d.Amount == amount }):
		return changed("its deposits are not the order's plan")
	}
	for _, d := range v.Deposits {
		data := eth.DepositData{Pubkey: v.Pubkey, Credentials: v.Credentials, Amount: d.Amount, Signature: d.Signature}
		if data.Root() != d.DataRoot || data.Message().Root() != d.MessageRoot {
			return changed("a deposit's roots are not those of the deposit")
		}
	}
	if s.lines == nil {
		return nil
	}
	if line := s.lines[v.Index]; line.Pubkey != v.Pubkey || line.Mnemonic != v.Mnemonic {
		return changed("it is not the validator in the receipt")
	}
	return nil
}

// certified reads the whole record of a row and compares it with its
// certificate, and that with the order and the receipt.
func (k *rowCheck) certified(ctx context.Context, row record.Validator, s *signedOrder) error {
	changed := func(what string) error {
		return fmt.Errorf("%w: index %d of order %s: %s", birth.ErrTampered, row.Index, row.Order, what)
	}
	b, v, err := k.h.born(ctx, row.Pubkey)
	if errors.Is(err, record.ErrNotFound) {
		return changed("its pubkey is nobody's")
	}
	if err != nil {
		return err
	}
	listed, err := record.EncodeValidator(row)
	if err != nil {
		return err
	}
	whole, err := record.EncodeValidator(b.Validator)
	if err != nil {
		return err
	}
	if !bytes.Equal(listed, whole) {
		return changed("its record is not what the store lists")
	}
	if v.NetworkDigest != k.h.generator.Network.Digest() {
		return changed("it was certified for another network")
	}
	if err := birth.Fills(v.Birth, s.order); err != nil {
		return err
	}
	if s.lines == nil {
		return nil
	}
	if line, err := birth.Listed(b); err != nil || line != s.lines[b.Index] {
		return changed("it is not the validator in the receipt")
	}
	return nil
}

// missing are the indexes that an order's receipt lists and the store does not
// have any more.
func (k *rowCheck) missing(ctx context.Context, selected func(record.Order) bool) iter.Seq2[judged, error] {
	return func(yield func(judged, error) bool) {
		if !k.whole {
			return
		}
		for _, id := range sortedNames(k.orders) {
			order := k.orders[id]
			if !selected(order) || k.seen[id] >= order.Count {
				continue
			}
			gone, err := k.gone(ctx, id)
			if err != nil {
				yield(judged{}, err)
				return
			}
			for _, j := range gone {
				if !yield(j, nil) {
					return
				}
			}
		}
	}
}

func (k *rowCheck) gone(ctx context.Context, id string) ([]judged, error) {
	s, err := k.of(ctx, id)
	if err != nil {
		return nil, err
	}
	if s.err != nil && k.seen[id] == 0 { // else it was said with each row
		return []judged{{chosen{Validator: record.Validator{Order: id}}, s.err}}, nil
	}
	if s.lines == nil {
		return nil, nil
	}
	there := make([]bool, len(s.lines))
	for v, err := range k.h.records.Validators(ctx, record.Query{Order: id}) {
		if err != nil {
			return nil, err
		}
		if int(v.Index) < len(there) {
			there[v.Index] = true
		}
	}
	var gone []judged
	for _, line := range s.lines {
		if !there[line.Index] {
			gone = append(gone, judged{chosen{Validator: record.Validator{Order: id, Index: line.Index, Pubkey: line.Pubkey}},
				fmt.Errorf("%w: index %d of order %s was made and is missing in the store", birth.ErrTampered, line.Index, id)})
		}
	}
	return gone, nil
}

// refusedJSON stands in a list where a row is not what was signed. What the
// row says is left out: a program that takes a pubkey or an address from it
// would take the attacker's.
type refusedJSON struct {
	Schema  string `json:"schema"`
	Order   string `json:"order"`
	Index   uint32 `json:"index"`
	Refused string `json:"refused"`
}

func (j judged) toJSON() refusedJSON {
	return refusedJSON{"stakeseal/refused-validator/v1", j.Order, j.Index, j.why()}
}

// why is one line.
func (j judged) why() string { return strings.ReplaceAll(j.refused.Error(), "\n", "; ") }

// errRefusedRows ends a list that has refused rows.
func (a *app) errRefusedRows(h *home, first error, count int) error {
	return fail(exitRefused, "do not deposit to them; stakeseal doctor"+a.homeWords(h)+" looks at all that there is; compare with the bundles and another copy",
		"%d of the validators are not what was signed; the first: %w", count, first)
}
