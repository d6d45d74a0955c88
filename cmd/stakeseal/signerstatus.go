package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/stakeseal/stakeseal/eth"
	"github.com/stakeseal/stakeseal/internal/sqlite"
	"github.com/stakeseal/stakeseal/record"
	"github.com/stakeseal/stakeseal/signer"
	"github.com/stakeseal/stakeseal/slashing"
)

func (a *app) signerStatusVerb() *cobra.Command {
	return &cobra.Command{
		Use:   "status",
		Short: "Show the signers of a home: their leases and keys",
		Long: `Show the signers of a home: whether somebody holds their lease, how far their
slashing ledger has come, and how many keys are assigned to them.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.signerStatus(cmd.Context()) },
	}
}

// signerState is a row of the status.
type signerState struct {
	Schema    string     `json:"schema"`
	Signer    string     `json:"signer"`
	State     string     `json:"state"` // held, released, not initialised
	Assigned  int        `json:"assigned"`
	Epoch     uint64     `json:"lease_epoch,omitempty"`
	Watermark uint64     `json:"watermark,omitempty"`
	Ledger    string     `json:"ledger,omitempty"`
	Where     string     `json:"where,omitempty"`
	Renewed   *time.Time `json:"renewed,omitempty"`
}

func (a *app) signerStatus(ctx context.Context) error {
	h, err := a.signerHome(ctx, "")
	if err != nil {
		return err
	}
	defer h.close()
	leases, err := sqlite.OpenLeases(h.leasesPath())
	if err == nil {
		defer func() { _ = leases.Close() }() // its writes are durable already
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	counts := map[string]int{}
	for assigned, err := range h.records.Assigned(ctx, "") {
		if err != nil {
			return err
		}
		counts[assigned.Signer]++
	}
	t := newTable(a.out, "SIGNER", "STATE", "KEYS", "LEASE", "WATERMARK", "RENEWED", "WHERE")
	for _, name := range h.operator.Signers {
		s := signerState{Schema: "stakeseal/signer-status/v1", Signer: name, State: "not initialised", Assigned: counts[name]}
		renewed := ""
		if leases != nil {
			lease, err := leases.Lease(ctx, name)
			if err != nil && !errors.Is(err, record.ErrNotFound) {
				return err
			}
			if err == nil {
				s.Epoch, s.Watermark, s.Ledger, s.Where, s.Renewed = lease.Epoch, lease.Watermark, lease.Ledger, lease.Where, &lease.Time
				s.State = "released"
				if lease.Holder != "" {
					s.State = "held"
				}
				renewed = lease.Time.Format(time.RFC3339)
			}
		}
		if a.json {
			if err := a.object(s); err != nil {
				return err
			}
			continue
		}
		place, _, _ := strings.Cut(s.Where, "#")
		t.row(name, s.State, fmt.Sprint(s.Assigned), fmt.Sprint(s.Epoch), fmt.Sprint(s.Watermark), renewed, place)
	}
	if a.json {
		return nil
	}
	return t.flush()
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

// stoppedLedger opens the ledger of a signer that does not run, if it is the
// one that was signed by last.
func (h *home) stoppedLedger(ctx context.Context, name string) (*sqlite.Ledger, error) {
	ledger, err := sqlite.OpenLedger(h.signerPath(name, ".db"))
	if err != nil {
		return nil, err
	}
	leases, err := sqlite.OpenLeases(h.leasesPath())
	if err != nil {
		return nil, errors.Join(err, ledger.Close())
	}
	defer func() { _ = leases.Close() }() // its writes are durable already
	lease, err := leases.Lease(ctx, name)
	mark, markErr := ledger.Watermark(ctx)
	if err := errors.Join(err, markErr); err != nil {
		return nil, errors.Join(err, ledger.Close())
	}
	if lease.Ledger != ledger.Info().ID || mark < lease.Watermark {
		return nil, errors.Join(fmt.Errorf("%w: the lease names %s at watermark %d, this one is %s at %d", signer.ErrLedger, lease.Ledger, lease.Watermark, ledger.Info().ID, mark), ledger.Close())
	}
	return ledger, nil
}

// signedBy is what the signer of a home has signed for its keys, by its
// ledger, which is held until done is called: nobody signs by it meanwhile.
// Nothing where it was never a signer of this machine. A signer that runs, or
// whose ledger is not to be had, is an error: then nobody can tell.
func (h *home) signedBy(ctx context.Context, name string) (marks map[eth.Pubkey]slashing.Mark, done func(), err error) {
	done = func() {}
	known, err := h.everInitialised(ctx, name)
	if err != nil || !known {
		return nil, done, err
	}
	ledger, err := h.stoppedLedger(ctx, name)
	if err != nil {
		return nil, done, signerFailure(name, err)
	}
	marks = map[eth.Pubkey]slashing.Mark{}
	for m, err := range ledger.Marks(ctx) {
		if err != nil {
			return nil, done, errors.Join(err, ledger.Close())
		}
		marks[m.Pubkey] = m
	}
	return marks, func() { _ = ledger.Close() }, nil
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
counts as all that was signed for them before: give the last one that their former
signer wrote, after it stopped.`,
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
	var others []slashing.Mark
	var admissions []slashing.Admission
	for _, m := range marks {
		assigned, err := h.records.Assignment(ctx, m.Pubkey)
		switch {
		case err == nil && assigned.Signer == name:
			admissions = append(admissions, slashing.Admission{Mark: m, Assignment: assigned.Epoch})
		case err == nil || errors.Is(err, record.ErrNotFound):
			others = append(others, m)
		default:
			return err
		}
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
