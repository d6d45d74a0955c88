package main

import (
	"fmt"
	"strings"

	"github.com/stakeseal/stakeseal/certificate"
	"github.com/stakeseal/stakeseal/eth"
)

// generatorText writes generator.yaml.
func generatorText(n eth.Network, addresses map[string]eth.Address, names map[string][]string, p initPlan, stores string) []byte {
	var b strings.Builder
	fmt.Fprintf(&b, "# What the maker obeys. Every certificate names this file's digest: a change\n# here is a change of the maker, and an order placed before it stays as it was.\nversion: 1\nnetwork: %s\nwithdrawal_addresses:\n", n.Name)
	for _, name := range sortedNames(addresses) {
		fmt.Fprintf(&b, "  %s: %q\n", name, addresses[name])
	}
	fmt.Fprintf(&b, "max_validators_per_order: %d\n", p.maxPerOrder)
	fmt.Fprintf(&b, "keystore: %s        # pbkdf2, scrypt or none\n", p.keystore)
	fmt.Fprintf(&b, "recipients: recipients/     # one public key in each NAME.txt\nseal_to:\n  signing: [%s]\n  recovery: [%s]\n",
		strings.Join(names["signing"], ", "), strings.Join(names["recovery"], ", "))
	b.WriteString(stores)
	return []byte(b.String())
}

const homeText = `# What you use with this home. Nothing here reaches the maker.
version: 1
generator: local
signers: [signer-a]     # the signers that validators can be assigned to
beacon: []              # your beacon nodes, http://127.0.0.1:5052
`

func cloudHomeText(alias string) string {
	return `# What you use with this home. Nothing here reaches the maker.
version: 1
generator: lambda:` + alias + `
signers: [signer-a]     # the signers that validators can be assigned to
beacon: []              # your beacon nodes, http://127.0.0.1:5052
`
}

// reportHome tells what was made and what to do with it.
func (a *app) reportHome(n eth.Network, dir string, addresses map[string]eth.Address, parties []party, key certificate.PublicKey, next string) error {
	type recipient struct {
		Name     string `json:"name"`
		Purpose  string `json:"purpose"`
		Identity string `json:"identity,omitempty"`
	}
	out := struct {
		Schema       string                 `json:"schema"`
		Network      string                 `json:"network"`
		Home         string                 `json:"home"`
		Addresses    map[string]eth.Address `json:"withdrawal_addresses"`
		CertifyingID string                 `json:"certifying_key"`
		Recipients   []recipient            `json:"recipients"`
	}{"stakeseal/home/v1", n.Name, dir, addresses, key.ID(), nil}
	for _, q := range parties {
		out.Recipients = append(out.Recipients, recipient{q.name, q.purpose, q.made})
	}
	if a.json {
		return a.object(out)
	}
	for _, name := range sortedNames(addresses) {
		a.say("withdrawals may go to %s = %v", name, addresses[name])
	}
	t := newTable(a.out, "RECIPIENT", "OPENS", "IDENTITY")
	for _, r := range out.Recipients {
		opens, where := "signing keys", r.Identity
		if r.Purpose == "recovery" {
			opens = "mnemonics"
		}
		switch {
		case where == "" && (r.Name == kmsSigner || r.Name == kmsRecovery):
			where = "(in AWS KMS)"
		case where == "":
			where = "(yours, kept elsewhere)"
		}
		t.row(r.Name, opens, where)
	}
	if err := t.flush(); err != nil {
		return err
	}
	for _, r := range out.Recipients {
		if r.Identity != "" {
			a.say("move the identities to where they belong, away from this machine and from each other")
			break
		}
	}
	a.say("compare the withdrawal address above with the device that owns it")
	a.say("next: %s", next)
	return nil
}
