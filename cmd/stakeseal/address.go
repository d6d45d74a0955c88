package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/stakeseal/stakeseal/certificate"
	"github.com/stakeseal/stakeseal/eth"
	"github.com/stakeseal/stakeseal/internal/config"
)

// approvalDays is how long an approval holds unless --until says otherwise.
const approvalDays = 30

func (a *app) addressVerb() *cobra.Command {
	cmd := &cobra.Command{Use: "address", Short: "Approve withdrawal addresses without a release", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() }}
	cmd.AddCommand(a.addressApproveVerb())
	return cmd
}

type approveFlags struct {
	key, out, until string
	anyAddress      bool
}

func (a *app) addressApproveVerb() *cobra.Command {
	var f approveFlags
	cmd := &cobra.Command{
		Use:   "approve NAME=0xADDRESS --network NAME --key FILE",
		Short: "Approver: sign that validators may be made for an address",
		Long: `Sign that validators may be made for a withdrawal address that the settings do not
name. It counts where the settings name the key under approvers:, which is part
of a release; orders carry it, the generator checks it, and it stands in the
certificates. Verifiers name the approver's key under approvers: of their trust
file.

It ends, after 30 days unless --until says otherwise, since it can't be called
back everywhere. Compare the address with the device that owns it before.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error { return a.addressApprove(cmd.Context(), args[0], f) },
	}
	flags := cmd.Flags()
	flags.StringVar(&f.key, "key", "", "the approver's own key `FILE`, as release key makes it")
	flags.StringVarP(&f.out, "out", "o", "", "the `FILE` to write (default: stdout)")
	flags.StringVar(&f.until, "until", "", "births are good until this `TIME`, 2026-01-31T00:00:00Z (default: in 30 days)")
	flags.BoolVar(&f.anyAddress, "allow-known-bad-address", false, "approve an address that nobody is known to control: what is paid there may be lost")
	return cmd
}

func (a *app) addressApprove(ctx context.Context, text string, f approveFlags) error {
	network, err := a.needNetwork()
	if err != nil {
		return err
	}
	name, value, named := strings.Cut(text, "=")
	if !named {
		return usage("write NAME=0x...", "%q has no name", text)
	}
	if err := config.CheckName("address", name); err != nil {
		return usage("", "%w", err)
	}
	address, err := eth.ParseAddress(value)
	if err != nil {
		return usage(addressHint(err), "%w", err)
	}
	if why, bad := knownBad(network, address); bad {
		if !f.anyAddress {
			return usage("--allow-known-bad-address approves it all the same", "%v: %s", address, why)
		}
		a.say("warning: %v: %s", address, why)
	}
	now := a.now().UTC().Truncate(time.Second)
	until := now.AddDate(0, 0, approvalDays)
	if f.until != "" {
		if until, err = flagTime("--until", f.until); err != nil {
			return err
		}
		if !until.After(now) {
			return usage("", "--until %s is over", f.until)
		}
	}
	signer, err := openKey(f.key)
	if err != nil {
		return err
	}
	defer signer.Wipe()
	a.say("%s: %v (%s), until %s", network.Name, address, name, until.Format(time.RFC3339))
	if err := a.confirm("Approve this withdrawal address?"); err != nil {
		return err
	}
	envelope, err := certificate.SignAddressApproval(ctx, signer, certificate.AddressApproval{Name: name, Address: address, Network: network.Name,
		NetworkDigest: network.Digest(), NotBefore: now, NotAfter: until, Time: now})
	if err != nil {
		return err
	}
	envelope = append(envelope, '\n')
	if f.out != "" {
		if err := writeNew(f.out, envelope, 0o644); err != nil {
			return err
		}
		a.say("give %s to whoever places the order", f.out)
		return nil
	}
	if _, err := fmt.Fprintf(a.out, "%s", envelope); err != nil {
		return unprinted(err)
	}
	return nil
}

// readApproval reads an approval file, "" without one.
func readApproval(path string) (string, error) {
	if path == "" {
		return "", nil
	}
	data, err := readBounded(path, 16<<10)
	if err != nil {
		return "", fmt.Errorf("couldn't read the approval: %w", err)
	}
	return strings.TrimSpace(string(data)), nil
}

// approved refuses, before any key exists, an approval that the generator or
// the home's own trust file would not accept.
func (h *home) approved(address eth.Address, approval string, now time.Time) error {
	for _, list := range []struct {
		file  string
		keys  []certificate.TrustedKey
		named map[string]eth.Address
	}{{config.GeneratorFile, h.generator.Approvers, h.generator.Addresses}, {trustFile, h.trust.Approvers, h.trust.Addresses}} {
		if len(list.keys) == 0 {
			return usage("name the approver's key under approvers:", "%s names nobody who may approve the withdrawal address %v", list.file, address)
		}
		a, _, err := certificate.VerifyAddressApproval([]byte(approval), list.keys, h.trust.Network, address, now.UTC())
		if err == nil {
			err = certificate.CheckApprovedName(a, list.named)
		}
		if err != nil {
			return fmt.Errorf("the approval of %v, judged by %s: %w", address, list.file, err)
		}
	}
	return nil
}

// hasAddress says whether a list of withdrawal addresses, by name, has one.
func hasAddress(list map[string]eth.Address, address eth.Address) bool {
	for _, a := range list {
		if a == address {
			return true
		}
	}
	return false
}

// addressWords is an address's name as a verdict says it: one that an approver
// gave is shown as theirs, and in quotes, beside those of the trust file.
func addressWords(name, approver string) string {
	if approver == "" {
		return name
	}
	return fmt.Sprintf("%s's %q", approver, name)
}

// approvalName is what an approval that was judged calls its address, in quotes:
// it is the approver's word.
func approvalName(approval string) string {
	name, err := certificate.ApprovalName([]byte(approval))
	if err != nil {
		return "?"
	}
	return fmt.Sprintf("%q", name)
}
