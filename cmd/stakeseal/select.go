package main

import (
	"context"
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
	Signer string
	Labels map[string]string
}

// validators yields what a selection selects, as a stream. Words name each
// validator; an unknown or ambiguous one is an error.
func (h *home) validators(ctx context.Context, s *selection) iter.Seq2[chosen, error] {
	return func(yield func(chosen, error) bool) {
		fail := func(err error) { yield(chosen{}, err) }
		view, err := h.view(ctx, s)
		if err != nil {
			fail(err)
			return
		}
		rows := h.records.Validators(ctx, record.Query{Order: s.order})
		if len(s.words) > 0 {
			rows = h.named(ctx, s)
		}
		found := false
		for v, err := range rows {
			if err != nil {
				fail(err)
				return
			}
			c, keep := view.add(v)
			if !keep {
				continue
			}
			found = true
			if !yield(c, nil) {
				return
			}
		}
		if !found && !s.empty() {
			fail(usage("stakeseal list shows all", "no validator is selected"))
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
	orders  map[string]map[string]string
}

func (h *home) view(ctx context.Context, s *selection) (*view, error) {
	v := &view{s: s, labels: map[string]string{}, signers: map[eth.Pubkey]string{}, orders: map[string]map[string]string{}}
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
	for assigned, err := range h.records.Assigned(ctx, "") {
		if err != nil {
			return nil, err
		}
		v.signers[assigned.Pubkey] = assigned.Signer
	}
	known := false
	for o, err := range h.records.Orders(ctx) {
		if err != nil {
			return nil, err
		}
		v.orders[o.ID] = o.Labels
		known = known || o.ID == s.order
	}
	if s.order != "" && !known {
		return nil, usage("stakeseal orders lists them", "there is no order %q in this home", s.order)
	}
	return v, nil
}

func (v *view) add(row record.Validator) (chosen, bool) {
	c := chosen{row, v.signers[row.Pubkey], v.orders[row.Order]}
	switch {
	case v.s.order != "" && row.Order != v.s.order,
		v.s.signer != "" && c.Signer != v.s.signer,
		v.s.unassigned && c.Signer != "":
		return c, false
	}
	for key, value := range v.labels {
		if got, ok := c.Labels[key]; !ok || got != value {
			return c, false
		}
	}
	return c, true
}

var hexRule = regexp.MustCompile(`^[0-9a-f]{1,96}$`)

// digits are a pubkey's hex digits, or what stands in their place.
func digits(word string) string { return strings.TrimPrefix(strings.ToLower(word), "0x") }

// named yields the validators that the words name, each once.
func (h *home) named(ctx context.Context, s *selection) iter.Seq2[record.Validator, error] {
	return func(yield func(record.Validator, error) bool) {
		words, err := expand(s.words)
		if err != nil {
			yield(record.Validator{}, err)
			return
		}
		seen := map[eth.Pubkey]bool{}
		for _, word := range words {
			v, err := h.one(ctx, word)
			if err != nil {
				yield(record.Validator{}, err)
				return
			}
			if seen[v.Pubkey] {
				continue
			}
			seen[v.Pubkey] = true
			if !yield(v, nil) {
				return
			}
		}
	}
}

// one finds the validator whose pubkey begins with word.
func (h *home) one(ctx context.Context, word string) (record.Validator, error) {
	prefix := digits(word)
	if !hexRule.MatchString(prefix) {
		return record.Validator{}, usage("a pubkey or the beginning of one, with or without 0x; @FILE for a list", "%q is no pubkey", short(word))
	}
	var found []record.Validator
	for v, err := range h.records.Validators(ctx, record.Query{Prefix: prefix}) {
		if err != nil {
			return record.Validator{}, err
		}
		if found = append(found, v); len(found) > 1 {
			return record.Validator{}, usage("give more digits", "%q is ambiguous: %s and %s begin with it", short(word), short(found[0].Pubkey.String()), short(found[1].Pubkey.String()))
		}
	}
	if len(found) == 0 && len(prefix) == 64 {
		return record.Validator{}, usage("a pubkey has 96 hex digits", "no validator's pubkey begins with these 64 digits (not shown: a secret key has as many)")
	}
	if len(found) == 0 {
		return record.Validator{}, usage("stakeseal list shows all", "no validator's pubkey begins with %q", short(word))
	}
	return found[0], nil
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
