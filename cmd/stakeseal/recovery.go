package main

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/stakeseal/stakeseal/record"
)

func (a *app) recoveryVerb() *cobra.Command {
	cmd := &cobra.Command{Use: "recovery", Short: "Prove that mnemonics open, and get keys back", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() }}
	cmd.AddCommand(a.drillVerb(), a.restoreVerb(), a.rebuildVerb())
	return cmd
}

type drillFlags struct {
	identity identityFlags
	order    string
	bundles  []string
	trust    string
	workers  int
}

func (a *app) drillVerb() *cobra.Command {
	var f drillFlags
	cmd := &cobra.Command{
		Use:   "drill --identity FILE [--order ID | --bundle FILE...]",
		Short: "Prove that recovery opens and re-derives all, showing nothing",
		Long: `Prove that an identity opens every mnemonic of the orders, and that every
validator's pubkey comes out of its mnemonic again. Records are compared with
their certificates, the receipt and the archive's copies. Nothing secret is
shown or written, and no signing key is opened.

Each recovery recipient is drilled on its own: the output says which of them the
identity is and which are still to be drilled. What passed is noted with the
order. With --bundle no home is needed, and nothing is noted: a holder can drill
where the identity lives.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.drill(cmd.Context(), f) },
	}
	f.identity.add(cmd, "a recovery recipient; repeat to drill several")
	cmd.Flags().StringVar(&f.order, "order", "", "only the order `ID` (default: all)")
	cmd.Flags().StringArrayVar(&f.bundles, "bundle", nil, "an exported bundle `FILE` instead of a home; repeat for several")
	cmd.Flags().StringVar(&f.trust, "trust", "", "the trust `FILE` to judge bundles by (default: the home's)")
	cmd.Flags().IntVar(&f.workers, "workers", defaultWorkers, "re-derive `N` validators at once")
	return cmd
}

// drilled is the report on one order that passed.
type drilled struct {
	Schema     string   `json:"schema"`
	Network    string   `json:"network"`
	Order      string   `json:"order"`
	Validators int      `json:"validators"`
	Mnemonics  int      `json:"mnemonics"`
	Identities []string `json:"identities"`          // the recipients that were drilled now
	Undrilled  []string `json:"undrilled,omitempty"` // those that never were, as far as is noted
	Noted      bool     `json:"noted"`
}

func (a *app) drill(ctx context.Context, f drillFlags) (err error) {
	switch {
	case f.order != "" && len(f.bundles) > 0:
		return usage("a bundle holds one order", "--order and --bundle exclude each other")
	case f.trust != "" && len(f.bundles) == 0:
		return usage("a home is judged by its own trust.yaml", "--trust goes with --bundle")
	}
	if err := checkWorkers(f.workers); err != nil {
		return err
	}
	if len(f.bundles) > 0 {
		trust, err := a.trustOrHome(f.trust)
		if err != nil {
			return err
		}
		keys, err := a.keys(ctx, nil, f.identity)
		if err != nil {
			return err
		}
		failed := a.drillAll(ctx, f, keys, nil, f.bundles, func(path string) (*sealedOrder, func(), error) {
			return bundledOrder(path, trust)
		})
		a.noteOpenings(ctx, nil, "recovery drill", &failed)
		return failed
	}
	h, err := a.openHome(ctx)
	if err != nil {
		return err
	}
	defer h.close()
	ids := []string{f.order}
	if f.order == "" {
		ids = nil
		for o, err := range h.records.Orders(ctx) {
			if err != nil {
				return err
			}
			ids = append(ids, o.ID)
		}
		if some, err := h.hasImports(ctx); err != nil {
			return err
		} else if some {
			ids = append(ids, record.ImportedOrder)
		}
		if len(ids) == 0 {
			return usage("stakeseal generate --count 1 makes the first", "there is no order to drill")
		}
	}
	keys, err := a.keys(ctx, h, f.identity)
	if err != nil {
		return err
	}
	defer func() { a.noteOpenings(ctx, h, "recovery drill", &err) }()
	return a.drillAll(ctx, f, keys, h, ids, func(id string) (*sealedOrder, func(), error) {
		s, err := h.sealedOrder(ctx, id)
		return s, func() {}, err
	})
}

// drillAll drills one order after the other. One that fails does not keep the
// others from being drilled, but the command fails.
func (a *app) drillAll(ctx context.Context, f drillFlags, keys []key, h *home, orders []string, open func(string) (*sealedOrder, func(), error)) error {
	var passed []drilled
	var failed []error
	for _, name := range orders {
		report, err := a.drillOne(ctx, f, keys, h, name, open)
		switch {
		case err == nil && report == nil: // nothing to drill
		case err == nil:
			passed = append(passed, *report)
		case drillRefused(err):
			if len(orders) > 1 {
				a.say("FAILED: %v", err)
			}
			failed = append(failed, err)
		default:
			return err
		}
	}
	if err := a.reportDrill(h, passed); err != nil {
		return err
	}
	switch {
	case len(failed) == 0:
		return nil
	case len(orders) == 1:
		return failed[0]
	}
	// The worst of them decides: what was changed before what stays shut.
	worst := failed[0]
	for _, err := range failed {
		if code, _ := verdict(err); code == exitRefused {
			worst = err
			break
		}
	}
	code, hint := verdict(worst)
	return fail(code, hint, "%d of %d orders did not pass", len(failed), len(orders))
}

// drillRefused tells a drill that was held and did not pass from one that
// could not be held.
func drillRefused(err error) bool {
	code, _ := verdict(err)
	return code == exitRefused || code == exitDenied
}

func (a *app) drillOne(ctx context.Context, f drillFlags, keys []key, h *home, name string, open func(string) (*sealedOrder, func(), error)) (*drilled, error) {
	s, done, err := open(name)
	if err != nil {
		return nil, err
	}
	defer done()
	if s.count == 0 {
		a.say("order %s has no validator yet: nothing to drill", s.order.ID)
		return nil, nil
	}
	opened, err := s.open(ctx, keys)
	if err != nil {
		return nil, err
	}
	defer opened.wipe()
	bar := a.progress(int64(s.count), "re-derived")
	rows, err := s.prove(ctx, opened, h.readers(f.workers), bar)
	bar.done()
	if err != nil {
		return nil, err
	}
	if uint32(len(rows)) < s.order.Count {
		a.say("warning: order %s is not finished, %d of %d validators: drill it again when it is", s.order.ID, len(rows), s.order.Count)
	}
	report := &drilled{Schema: "stakeseal/drill/v1", Network: s.order.Network, Order: s.order.ID,
		Validators: len(rows), Mnemonics: len(s.mnemonics), Identities: opened.names}
	earlier, err := h.drilledBefore(ctx, report)
	if err != nil {
		return nil, err
	}
	if h != nil {
		for _, name := range report.Identities {
			if err := h.note(ctx, record.Event{Time: record.Time(a.now()), Kind: "drilled", Order: s.order.ID, Detail: a.drillNote(report, name, s)}); err != nil {
				return nil, err
			}
		}
		report.Noted = true
	}
	for _, name := range s.recipients() {
		if !slices.Contains(report.Identities, name) && !earlier[name] {
			report.Undrilled = append(report.Undrilled, name)
		}
	}
	return report, nil
}

func drillDetail(d *drilled, identity string) map[string]string {
	return map[string]string{"validators": fmt.Sprint(d.Validators), "mnemonics": fmt.Sprint(d.Mnemonics), "identity": identity}
}

// drillNote is drillDetail, and for a KMS key under which requests it opened.
func (a *app) drillNote(d *drilled, identity string, s *sealedOrder) map[string]string {
	detail := drillDetail(d, identity)
	if key := s.keyOf(identity); key != "" {
		withRequests(detail, a.openings.take(ofMnemonics(d.Order, key)))
	}
	return detail
}

// drilledBefore is who was drilled on the whole of what an order has now: a
// drill of fewer validators or mnemonics proves nothing of the later ones.
func (h *home) drilledBefore(ctx context.Context, d *drilled) (map[string]bool, error) {
	who := map[string]bool{}
	if h == nil {
		return who, nil
	}
	for e, err := range h.records.Events(ctx, record.EventQuery{Order: d.Order, Kind: "drilled"}) {
		if err != nil {
			return nil, err
		}
		name := e.Detail["identity"]
		same := true
		for k, v := range drillDetail(d, name) {
			same = same && e.Detail[k] == v
		}
		who[name] = who[name] || same
	}
	return who, nil
}

func (a *app) reportDrill(h *home, list []drilled) error {
	if a.json {
		for _, d := range list {
			if err := a.object(d); err != nil {
				return err
			}
		}
	} else if len(list) > 0 {
		t := newTable(a.out, "ORDER", "VALIDATORS", "MNEMONICS", "DRILLED NOW", "STILL TO DRILL")
		for _, d := range list {
			rest := strings.Join(d.Undrilled, ", ")
			if rest == "" {
				rest = "-"
			}
			t.row(d.Order, fmt.Sprint(d.Validators), fmt.Sprint(d.Mnemonics), strings.Join(d.Identities, ", "), rest)
		}
		if err := t.flush(); err != nil {
			return err
		}
	}
	if len(list) == 0 {
		return nil
	}
	a.say("every mnemonic opens, and every validator re-derives from its own; nothing was shown")
	left := map[string]bool{}
	for _, d := range list {
		for _, name := range d.Undrilled {
			left[name] = true
		}
	}
	switch {
	case h == nil:
		a.say("nothing was noted: a bundle has no home. The other recipients drill the same bundle, each with its own identity")
	case len(left) > 0:
		a.say("next: the other recipients, each with its own identity: stakeseal recovery drill%s --identity FILE", a.homeWords(h))
	default:
		a.say("every recovery recipient has been drilled")
		if len(list) == 1 {
			a.say("next: stakeseal deposit export%s --order %s --out DIR", a.homeWords(h), list[0].Order)
		}
	}
	return nil
}
