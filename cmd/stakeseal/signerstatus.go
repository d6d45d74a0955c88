package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/stakeseal/stakeseal/record"
	"github.com/stakeseal/stakeseal/slashing"
)

func (a *app) signerStatusVerb() *cobra.Command {
	var live, watch bool
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show the signers of a home: their leases and keys",
		Long: `Show the signers of a home: whether somebody holds their lease, how far their
slashing ledger has come, and how many keys are assigned to them.

With --live it also asks those that run, on the addresses that signers/NAME.yaml in
this home names: how many keys they serve, what they signed and refused since they
started, how long their ledger takes (half and 99 of 100 of its writes), and whether
duties would be signed. --watch does that every two seconds until it is interrupted.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.signerStatus(cmd.Context(), live, watch) },
	}
	cmd.Flags().BoolVar(&live, "live", false, "also ask the signers that run")
	cmd.Flags().BoolVarP(&watch, "watch", "w", false, "ask them again and again, on a terminal or with --json")
	return cmd
}

// signerState is a row of the status.
type signerState struct {
	Schema    string      `json:"schema"`
	Signer    string      `json:"signer"`
	State     string      `json:"state"` // held, released, not initialised
	Assigned  int         `json:"assigned"`
	Epoch     uint64      `json:"lease_epoch,omitempty"`
	Watermark uint64      `json:"watermark,omitempty"`
	Ledger    string      `json:"ledger,omitempty"`
	Where     string      `json:"where,omitempty"`
	Renewed   *time.Time  `json:"renewed,omitempty"`
	Live      *signerLive `json:"live,omitempty"`
}

func (a *app) signerStatus(ctx context.Context, live, watch bool) error {
	if file, ok := a.out.(*os.File); watch && !a.json && (!ok || !term.IsTerminal(int(file.Fd()))) {
		return usage("run it in a terminal, or add --json for a line for each signer and look", "--watch draws on a terminal, and the output is none")
	}
	h, err := a.signerHome(ctx, "")
	if err != nil {
		return err
	}
	defer h.close()
	if watch {
		return signerFailure("", a.watchSigners(ctx, h))
	}
	counts, err := h.countAssigned(ctx)
	if err != nil {
		return err
	}
	list, err := h.signerStates(ctx, counts, live)
	if err != nil {
		return err
	}
	if a.json {
		return a.printStates(list)
	}
	return drawStates(a.out, list, live)
}

// countAssigned is how many keys each signer has.
func (h *home) countAssigned(ctx context.Context) (map[string]int, error) {
	counts := map[string]int{}
	for assigned, err := range h.records.Assigned(ctx, "") {
		if err != nil {
			return nil, err
		}
		counts[assigned.Signer]++
	}
	return counts, nil
}

// signerStates is a row for each signer of the home. live: as asked, all at
// once.
func (h *home) signerStates(ctx context.Context, counts map[string]int, live bool) ([]signerState, error) {
	leases, done, err := h.signers().leases()
	if err == nil {
		defer done()
	} else if !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	list := make([]signerState, len(h.operator.Signers))
	var asked sync.WaitGroup
	defer asked.Wait()
	for i, name := range h.operator.Signers {
		s := &list[i]
		*s = signerState{Schema: "stakeseal/signer-status/v1", Signer: name, State: "not initialised", Assigned: counts[name]}
		if leases == nil {
			continue
		}
		lease, err := leases.Lease(ctx, name)
		if errors.Is(err, record.ErrNotFound) {
			continue
		}
		if err != nil {
			return nil, err
		}
		s.Epoch, s.Watermark, s.Ledger, s.Where, s.Renewed = lease.Epoch, lease.Watermark, lease.Ledger, lease.Where, &lease.Time
		s.State = "released"
		if lease.Holder == "" {
			continue
		}
		s.State = "held"
		if live {
			asked.Go(func() { s.Live = h.ask(ctx, name) })
		}
	}
	return list, nil
}

func (a *app) printStates(list []signerState) error {
	for _, s := range list {
		if err := a.object(s); err != nil {
			return err
		}
	}
	return nil
}

func drawStates(to io.Writer, list []signerState, live bool) error {
	head := []string{"SIGNER", "STATE", "KEYS", "LEASE", "WATERMARK", "RENEWED"}
	if live {
		head = append(head, "SERVED", "SIGNED", "REFUSED", "FAILED", "LEDGER P50 / P99", "HEALTH")
	}
	t := newTable(to, append(head, "WHERE")...)
	var troubles []string
	for _, s := range list {
		renewed := ""
		if s.Renewed != nil {
			renewed = s.Renewed.Format(time.RFC3339)
		}
		cells := []string{s.Signer, s.State, fmt.Sprint(s.Assigned), fmt.Sprint(s.Epoch), fmt.Sprint(s.Watermark), renewed}
		if live {
			cells = append(cells, drawLive(s)...)
			if s.Live != nil && s.Live.Trouble != "" {
				troubles = append(troubles, s.Signer+": "+s.Live.Trouble)
			}
		}
		place, _, _ := strings.Cut(s.Where, "#")
		t.row(append(cells, place)...)
	}
	if err := t.flush(); err != nil {
		return err
	}
	for _, text := range troubles {
		if _, err := fmt.Fprintln(to, text); err != nil {
			return unprinted(err)
		}
	}
	return nil
}

func (a *app) signerExportVerb() *cobra.Command {
	var out string
	cmd := &cobra.Command{
		Use:   "export NAME --out FILE",
		Short: "Write a stopped signer's slashing history as an EIP-3076 file",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return signerFailure(args[0], a.signerExport(cmd.Context(), args[0], out))
		},
	}
	cmd.Flags().StringVarP(&out, "out", "o", "", "the `FILE` to write; it must not exist")
	return cmd
}

func (a *app) signerExport(ctx context.Context, name, out string) error {
	if out == "" {
		return usage("for example --out slashing-protection.json", "--out is missing")
	}
	h, err := a.signerHome(ctx, name)
	if err != nil {
		return err
	}
	defer h.close()
	ledger, err := h.stoppedLedger(ctx, name)
	if err != nil {
		return err
	}
	defer func() { _ = ledger.Close() }() // its writes are durable already
	var marks []slashing.Mark
	for m, err := range ledger.Marks(ctx) {
		if err != nil {
			return err
		}
		marks = append(marks, m)
	}
	var file bytes.Buffer
	if err := slashing.Write(&file, ledger.Info().Root, marks); err != nil {
		return err
	}
	if err := writeNew(out, file.Bytes(), 0o600); err != nil {
		return err
	}
	a.say("%d keys' history is in %s", len(marks), out)
	return nil
}

func (a *app) signerImportVerb() *cobra.Command {
	return &cobra.Command{
		Use:   "import NAME FILE",
		Short: "Take an EIP-3076 file into a stopped signer's slashing ledger",
		Long: `Take the histories of an EIP-3076 file into the slashing ledger of the signer NAME,
which must be stopped. Marks only rise. For keys that are assigned to NAME the file
counts as all that other software signed for them before: give the last one that it
wrote, after it stopped. What other signers of this home signed is added from their
notes; one that runs and has not let go of a key yet is an error.`,
		Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			return signerFailure(args[0], a.signerImport(cmd.Context(), args[0], args[1]))
		},
	}
}

func (a *app) signerImport(ctx context.Context, name, path string) error {
	if err := a.canConfirm(); err != nil {
		return err
	}
	h, err := a.signerHome(ctx, name)
	if err != nil {
		return err
	}
	defer h.close()
	ledger, err := h.stoppedLedger(ctx, name)
	if err != nil {
		return err
	}
	defer func() { _ = ledger.Close() }() // its writes are durable already
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	marks, err := slashing.Read(f, ledger.Info().Root)
	if err != nil {
		return err
	}
	epoch, err := ledger.Epoch(ctx)
	if err != nil {
		return err
	}
	admitted, err := ledger.Admitted(ctx)
	if err != nil {
		return err
	}
	ended, err := ledger.Ended(ctx)
	if err != nil {
		return err
	}
	e, partly := newElders(a, h, name, admitted), 0
	var others []slashing.Mark
	var admissions []slashing.Admission
	for _, m := range marks {
		assigned, err := h.records.Assignment(ctx, m.Pubkey)
		switch {
		case err == nil && assigned.Signer == name && (admitted[m.Pubkey] > assigned.Epoch || admitted[m.Pubkey] == assigned.Epoch && ended[m.Pubkey]):
			// The store was set back: the file is not what others of ours signed.
			partly++
			others = append(others, m)
		case err == nil && assigned.Signer == name:
			one, whole, err := e.with(ctx, m, assigned.Epoch)
			if err != nil {
				return err
			}
			if m = one; !whole {
				partly++
				others = append(others, m)
				continue
			}
			admissions = append(admissions, slashing.Admission{Mark: m, Assignment: assigned.Epoch})
		case err == nil || errors.Is(err, record.ErrNotFound):
			others = append(others, m)
		default:
			return err
		}
	}
	if partly > 0 {
		a.say("warning: for %d keys of %s the file is not taken as all that was signed: another signer of this home had them and left no note, or the ledger is an older copy; they pause until nothing that it may have signed can conflict", partly, name)
	}
	if err := a.confirm(fmt.Sprintf("Take the file as all that was signed for %d keys of %s (and raise the marks of %d others)?", len(admissions), name, len(others))); err != nil {
		return err
	}
	if err := errors.Join(ledger.Admit(ctx, epoch, admissions), ledger.Add(ctx, epoch, others)); err != nil {
		return err
	}
	a.say("%d keys' history was taken into the ledger of %s", len(marks), name)
	return nil
}
