package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/stakeseal/stakeseal/seal"
)

func (a *app) configVerb() *cobra.Command {
	cmd := &cobra.Command{Use: "config", Short: "Show the settings in force", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() }}
	cmd.AddCommand(&cobra.Command{
		Use:   "show",
		Short: "Show what the maker obeys, what you use, and what a verifier believes",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			h, err := a.openSettings()
			if err != nil {
				return err
			}
			return a.configShow(h)
		},
	})
	return cmd
}

type recipientJSON struct {
	Name string `json:"name"`
	Key  string `json:"key"`
}

func (a *app) configShow(h *home) error {
	g := h.generator
	signing, recovery, err := g.SealTo(parseRecipient)
	if err != nil {
		return err
	}
	list := func(to *seal.Recipients) (out []recipientJSON) {
		for _, n := range to.Names() {
			out = append(out, recipientJSON{n.Name, n.Recipient.String()})
		}
		return out
	}
	var keys, releases []string
	for _, k := range h.trust.Keys {
		keys = append(keys, k.Name)
	}
	for _, r := range h.trust.Releases {
		releases = append(releases, r.Name)
	}
	if a.json {
		addresses := map[string]string{}
		for name, address := range g.Addresses {
			addresses[name] = address.String()
		}
		return a.object(struct {
			Schema    string            `json:"schema"`
			Home      string            `json:"home"`
			Network   string            `json:"network"`
			Digest    string            `json:"settings_digest"`
			Addresses map[string]string `json:"withdrawal_addresses"`
			Max       uint32            `json:"max_validators_per_order"`
			Keystore  string            `json:"keystore"`
			Signing   []recipientJSON   `json:"signing"`
			Recovery  []recipientJSON   `json:"recovery"`
			Generator string            `json:"generator"`
			Certifier string            `json:"certifier"`
			Store     string            `json:"store"`
			Archive   string            `json:"archive"`
			Signers   []string          `json:"signers"`
			Beacon    []string          `json:"beacon"`
			Keys      []string          `json:"trusted_keys"`
			Releases  []string          `json:"trusted_releases"`
		}{"stakeseal/config/v1", h.dir, g.Network.Name, fmt.Sprintf("%x", g.Digest), addresses, g.MaxPerOrder, g.Keystore,
			list(signing), list(recovery), h.operator.Generator, g.Certifier.String(), g.Store.String(), g.Archive.String(),
			h.operator.Signers, h.operator.Beacon, keys, releases})
	}
	t := newTable(a.out)
	t.row("network", g.Network.Name)
	t.row("settings digest", fmt.Sprintf("%x", g.Digest))
	for _, name := range sortedNames(g.Addresses) {
		t.row("withdrawals to", fmt.Sprintf("%s = %v", name, g.Addresses[name]))
	}
	t.row("largest order", fmt.Sprint(g.MaxPerOrder))
	t.row("keystore", g.Keystore)
	for _, r := range list(signing) {
		t.row("signing keys to", r.Name+"  "+keyText(r.Key))
	}
	for _, r := range list(recovery) {
		t.row("mnemonics to", r.Name+"  "+keyText(r.Key))
	}
	t.row("generator", h.operator.Generator)
	t.row("certifier", g.Certifier.String())
	t.row("store", g.Store.String())
	t.row("archive", g.Archive.String())
	t.row("signers", strings.Join(h.operator.Signers, ", "))
	t.row("beacon nodes", orDash(strings.Join(h.operator.Beacon, ", ")))
	t.row("trusted keys", strings.Join(keys, ", "))
	t.row("trusted releases", orDash(strings.Join(releases, ", ")))
	return t.flush()
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}
