package main

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/stakeseal/stakeseal/eth"
	"github.com/stakeseal/stakeseal/record"
)

// selection is the same everywhere: which validators a command is about.
type selection struct {
	words      []string // PUBKEY (a unique prefix, with or without 0x) or @FILE of them
	order      string
	labels     []string
	signer     string
	unassigned bool

	// shown: who is assigned is shown, though nothing is selected by it. On
	// AWS not everybody who may read records may read assignments.
	shown bool

	// foreign: the command knows what to do with imported keys, which have no
	// certificate. For all others there are none: one that is named is refused.
	foreign bool
}

// selectors adds the flags; the words are the command's arguments.
func (s *selection) selectors(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&s.order, "order", "", "only validators of the order `ID`")
	f.StringArrayVar(&s.labels, "label", nil, "only validators of orders with `KEY=VALUE`; repeat to narrow down")
	f.StringVar(&s.signer, "signer", "", "only validators assigned to `NAME`")
	f.BoolVar(&s.unassigned, "unassigned", false, "only validators that no signer has")
}

func (s *selection) empty() bool {
	return len(s.words) == 0 && s.order == "" && len(s.labels) == 0 && s.signer == "" && !s.unassigned
}

// chosen is a selected validator with what stands beside its record.
type chosen struct {
	record.Validator
	Imported *record.Imported // nil: it was born here
	Signer   string
	Labels   map[string]string
}

func chosenImport(i record.Imported) chosen {
	return chosen{Validator: foreignValidator(i), Imported: &i}
}

// validators yields what a selection selects, as a stream: those that were
// born here, then, to commands that handle them, imported ones. Words name
// each validator; an unknown or ambiguous one is an error.
func (h *home) validators(ctx context.Context, s *selection) iter.Seq2[chosen, error] {
	return func(yield func(chosen, error) bool) {
		view, err := h.view(ctx, s)
		if err != nil {
			yield(chosen{}, err)
			return
		}
		h.viewed(ctx, s, view)(yield)
	}
}

// judged yields the same with each row held against what was signed, then what
// was signed and is not there.
func (h *home) judged(ctx context.Context, s *selection) iter.Seq2[judged, error] {
	return func(yield func(judged, error) bool) {
		view, err := h.view(ctx, s)
		if err != nil {
			yield(judged{}, err)
			return
		}
		check := newRowCheck(h, s, view.orders)
		view.see = func(c *chosen) { check.seen[c.Order]++ }
		// That nothing is selected is said last: all rows may be gone.
		none := error(nil)
		for j, err := range check.rows(ctx, h.viewed(ctx, s, view)) {
			if err != nil && errors.Is(err, errNoneSelected) {
				none = err
				break
			}
			if !yield(j, err) || err != nil {
				return
			}
		}
		for j, err := range check.missing(ctx, view.selects) {
			none = nil
			if !yield(j, err) || err != nil {
				return
			}
		}
		if none != nil {
			yield(judged{}, none)
		}
	}
}

// errNoneSelected says that a selection selects nothing.
var errNoneSelected = errors.New("no validator is selected")

func (h *home) viewed(ctx context.Context, s *selection, view *view) iter.Seq2[chosen, error] {
	return func(yield func(chosen, error) bool) {
		fail := func(err error) { yield(chosen{}, err) }
		if s.order == record.ImportedOrder && !s.foreign {
			fail(errForeignOrder())
			return
		}
		rows := h.everything(ctx, s)
		if len(s.words) > 0 {
			rows = h.named(ctx, s)
		}
		found := false
		for c, err := range rows {
			if err != nil {
				fail(err)
				return
			}
			if view.see != nil {
				view.see(&c)
			}
			if !view.add(&c) {
				continue
			}
			found = true
			if !yield(c, nil) {
				return
			}
		}
		if !found && !s.empty() {
			fail(usage("stakeseal list shows all", "%w", errNoneSelected))
		}
	}
}

// everything yields the validators of an order, or all that there are.
func (h *home) everything(ctx context.Context, s *selection) iter.Seq2[chosen, error] {
	return func(yield func(chosen, error) bool) {
		if s.order != record.ImportedOrder {
			for v, err := range h.records.Validators(ctx, record.Query{Order: s.order}) {
				if !yield(chosen{Validator: v}, err) || err != nil {
					return
				}
			}
		}
		if !s.foreign || s.order != "" && s.order != record.ImportedOrder {
			return
		}
		for i, err := range h.records.Imported(ctx, "") {
			if !yield(chosenImport(i), err) || err != nil {
				return
			}
		}
	}
}

// view is what a selection joins and filters by: who is assigned, and the
// labels of each order. Assignments of a hundred thousand keys take about
// ten megabytes.
type view struct {
	s       *selection
	labels  map[string]string
	signers map[eth.Pubkey]string
	orders  map[string]record.Order
	see     func(*chosen) // is called with every row, selected or not; nil: nobody asks
}

func (h *home) view(ctx context.Context, s *selection) (*view, error) {
	v := &view{s: s, labels: map[string]string{}, signers: map[eth.Pubkey]string{}, orders: map[string]record.Order{}}
	for _, label := range s.labels {
		key, value, ok := strings.Cut(label, "=")
		if !ok {
			return nil, usage("write KEY=VALUE", "--label is %q", label)
		}
		v.labels[key] = value
	}
	if s.unassigned && s.signer != "" {
		return nil, usage("", "--unassigned and --signer exclude each other")
	}
	if s.shown || s.unassigned || s.signer != "" {
		for assigned, err := range h.records.Assigned(ctx, "") {
			if err != nil {
				return nil, err
			}
			v.signers[assigned.Pubkey] = assigned.Signer
		}
	}
	known := s.order == record.ImportedOrder
	for o, err := range h.records.Orders(ctx) {
		if err != nil {
			return nil, err
		}
		v.orders[o.ID] = o
		known = known || o.ID == s.order
	}
	if s.order != "" && !known {
		return nil, usage("stakeseal orders lists them", "there is no order %q in this home", s.order)
	}
	return v, nil
}

// add joins a validator, and says whether it is selected.
func (v *view) add(c *chosen) bool {
	c.Signer, c.Labels = v.signers[c.Pubkey], v.orders[c.Order].Labels
	if c.Imported != nil {
		c.Labels = c.Imported.Labels
	}
	switch {
	case v.s.order != "" && c.Order != v.s.order,
		v.s.signer != "" && c.Signer != v.s.signer,
		v.s.unassigned && c.Signer != "":
		return false
	}
	return v.labelled(c.Labels)
}

func (v *view) labelled(labels map[string]string) bool {
	for key, value := range v.labels {
		if got, ok := labels[key]; !ok || got != value {
			return false
		}
	}
	return true
}

// selects says whether all validators of an order may be selected.
func (v *view) selects(o record.Order) bool {
	return (v.s.order == "" || v.s.order == o.ID) && v.labelled(o.Labels)
}

var hexRule = regexp.MustCompile(`^[0-9a-f]{1,96}$`)

// digits are a pubkey's hex digits, or what stands in their place.
func digits(word string) string { return strings.TrimPrefix(strings.ToLower(word), "0x") }

// named yields the validators that the words name, each once.
func (h *home) named(ctx context.Context, s *selection) iter.Seq2[chosen, error] {
	return func(yield func(chosen, error) bool) {
		words, err := expand(s.words)
		if err != nil {
			yield(chosen{}, err)
			return
		}
		seen := map[eth.Pubkey]bool{}
		for _, word := range words {
			c, err := h.which(ctx, word)
			if err == nil && c.Imported != nil && !s.foreign {
				err = errForeign(c.Pubkey)
			}
			if err != nil {
				yield(chosen{}, err)
				return
			}
			if seen[c.Pubkey] {
				continue
			}
			seen[c.Pubkey] = true
			if !yield(c, nil) {
				return
			}
		}
	}
}

// one is which, for who asks the record what it is: an imported key's order is
// record.ImportedOrder.
func (h *home) one(ctx context.Context, word string) (record.Validator, error) {
	c, err := h.which(ctx, word)
	return c.Validator, err
}

// which finds the validator whose pubkey begins with word, born here or
// imported.
func (h *home) which(ctx context.Context, word string) (chosen, error) {
	prefix := digits(word)
	if !hexRule.MatchString(prefix) {
		return chosen{}, usage("a pubkey or the beginning of one, with or without 0x; @FILE for a list", "%q is no pubkey", short(word))
	}
	var found []chosen
	for c, err := range h.beginning(ctx, prefix) {
		if err != nil {
			return chosen{}, err
		}
		if found = append(found, c); len(found) > 1 {
			return chosen{}, usage("give more digits", "%q is ambiguous: %s and %s begin with it", short(word), short(found[0].Pubkey.String()), short(found[1].Pubkey.String()))
		}
	}
	if len(found) == 0 && len(prefix) == 64 {
		return chosen{}, usage("a pubkey has 96 hex digits", "no validator's pubkey begins with these 64 digits (not shown: a secret key has as many)")
	}
	if len(found) == 0 {
		return chosen{}, usage("stakeseal list shows all", "no validator's pubkey begins with %q", short(word))
	}
	return found[0], nil
}

// beginning yields the validators whose pubkeys begin with the digits.
func (h *home) beginning(ctx context.Context, prefix string) iter.Seq2[chosen, error] {
	return func(yield func(chosen, error) bool) {
		for v, err := range h.records.Validators(ctx, record.Query{Prefix: prefix}) {
			if !yield(chosen{Validator: v}, err) || err != nil {
				return
			}
		}
		for i, err := range h.records.Imported(ctx, prefix) {
			if !yield(chosenImport(i), err) || err != nil {
				return
			}
		}
	}
}

// expand replaces @FILE by the file's words: one pubkey a line, '#' comments.
func expand(words []string) ([]string, error) {
	var out []string
	for _, word := range words {
		name, isFile := strings.CutPrefix(word, "@")
		if !isFile {
			out = append(out, word)
			continue
		}
		data, err := readBounded(name, 64<<20)
		if err != nil {
			return nil, fmt.Errorf("couldn't read the list %s: %w", name, err)
		}
		before, number := len(out), 0
		for line := range strings.Lines(string(data)) {
			number++
			line, _, _ = strings.Cut(line, "#")
			for _, word := range strings.Fields(line) {
				if !hexRule.MatchString(digits(word)) {
					// Not echoed: the wrong file may be one of secrets.
					return nil, usage("one pubkey a line", "line %d of the list %s holds something that is no pubkey", number, name)
				}
				out = append(out, word)
			}
		}
		if len(out) == before {
			return nil, usage("one pubkey a line", "the list %s is empty", name)
		}
	}
	return out, nil
}

// sortedPairs shows labels as KEY=VALUE.
func sortedPairs(m map[string]string) string {
	var out []string
	for _, key := range sortedNames(m) {
		out = append(out, key+"="+m[key])
	}
	return strings.Join(out, " ")
}

func sortedNames[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
