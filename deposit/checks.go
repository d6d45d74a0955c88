package deposit

import (
	"errors"
	"fmt"
	"slices"

	"github.com/stakeseal/stakeseal/eth"
)

// judgeEntry makes the checks that need one entry alone.
func (c *trial) judgeEntry(i int) {
	e := &c.entries[i]
	c.judgeForm(i, e)
	c.judgeNetwork(i, e)
	if c.judgeCredentials(i, e) {
		c.judgeAmount(i, e)
	}
	c.judgeRoots(i, e)
	c.judgeSignature(i, e)
}

func (c *trial) judgeForm(i int, e *Entry) {
	for _, name := range e.Extra {
		c.found(i, Note, ExtraField, name, "", "carries a field that the format doesn't know: %s", quote(name))
	}
	if e.CLIVersion == "" {
		c.found(i, Note, CLIVersionMissing, fieldCLI, "some launchpads demand it", "has no %s", fieldCLI)
	}
}

// judgeNetwork compares the labels. The launchpad looks at neither; a file
// whose labels and signature disagree was put together from two.
func (c *trial) judgeNetwork(i int, e *Entry) {
	switch e.NetworkName {
	case c.Network.Name:
	case "":
		c.found(i, Warn, NetworkNameMissing, fieldNetwork, "", "doesn't name its network")
	default:
		c.found(i, Refuse, NetworkNameDiffers, fieldNetwork, "", "is for network %s, not %s", quote(e.NetworkName), c.Network.Name)
	}
	if e.ForkVersion != c.Network.GenesisForkVersion {
		whose := "no network known here"
		if n, ok := eth.NetworkByForkVersion(e.ForkVersion); ok {
			whose = n.Name
		}
		c.found(i, Refuse, ForkVersionDiffers, "fork_version", "", "fork version %s is of %s, not of %s (%s)",
			e.ForkVersion.Hex(), whose, c.Network.Name, c.Network.GenesisForkVersion.Hex())
	}
}

const fieldCredentials = "withdrawal_credentials"

// judgeCredentials says whether the credentials are of a validator's kind, so
// that an amount can be judged by them.
func (c *trial) judgeCredentials(i int, e *Entry) bool {
	switch kind := e.Credentials.Kind(); kind {
	case eth.KindBLS:
		severity := Refuse
		if c.AllowBLS {
			severity = Warn
		}
		c.found(i, severity, CredentialsBLS, fieldCredentials, "make the deposit with an execution address (0x01 or 0x02)",
			"withdrawal credentials %s are a BLS key's (0x00): they name no address that could be compared, and whoever holds the mnemonic can take the stake", e.Credentials)
		return true
	case eth.KindExecution, eth.KindCompounding:
		a, ok := e.Credentials.Address()
		if !ok {
			// Neither the contract nor the launchpad looks at these bytes.
			c.found(i, Refuse, CredentialsPadding, fieldCredentials, "",
				"withdrawal credentials %s: the 11 bytes between prefix and address are not zero", e.Credentials)
			return true
		}
		c.judgeAddress(i, a)
		return true
	case eth.KindBuilder:
		c.found(i, Refuse, CredentialsBuilder, fieldCredentials, "builders deposit to a contract of their own (EIP-8282)",
			"withdrawal credentials %s are a builder's (0xb0): deposited as a validator it could never withdraw", e.Credentials)
	default:
		c.found(i, Refuse, CredentialsPrefix, fieldCredentials, "",
			"withdrawal credentials %s begin with 0x%02x, which no validator has: it could never withdraw", e.Credentials, kind)
	}
	return false
}

func (c *trial) judgeAddress(i int, a eth.Address) {
	if !c.AnyAddress && !c.listed(a) && !c.approved(i, a) {
		nor := ""
		if c.Births != nil {
			nor = ", nor allowed by this pubkey's certificate"
		}
		c.found(i, Refuse, AddressUnknown, fieldCredentials, "compare every digit with its source; an address is added by whoever keeps the list, never from the file",
			"pays to %s, which is not one of the %d allowed withdrawal addresses%s", a, len(c.Addresses), nor)
	}
	if reason, bad := eth.KnownBad(a); bad {
		severity := Warn
		if c.Network.Mainnet && !c.AllowBad {
			severity = Refuse
		}
		c.found(i, severity, AddressBad, fieldCredentials, "", "pays to %s, %s", a, reason)
	}
}

func (c *trial) listed(a eth.Address) bool {
	for _, b := range c.Addresses {
		if a == b {
			return true
		}
	}
	return false
}

// approved says whether the certificate of the entry's own pubkey lets it pay
// to an address beyond the list. What was approved for one validator says
// nothing of another in the same file: its key may be somebody else's.
func (c *trial) approved(i int, a eth.Address) bool {
	k := &c.byKey[c.entries[i].Pubkey].known
	return k.Ours && k.Network == c.Network.Name && k.Approved != (eth.Address{}) && k.Approved == a
}

// reportApproved names each address that counts by its approval, once: who
// reads the list alone would not expect it.
func (c *trial) reportApproved() {
	if c.AnyAddress {
		return
	}
	type approval struct {
		address eth.Address
		as, by  string
	}
	n := map[approval]int{}
	var order []approval
	for i := range c.entries {
		a, ok := c.entries[i].Credentials.Address()
		if !ok || c.listed(a) || !c.approved(i, a) {
			continue
		}
		k := &c.byKey[c.entries[i].Pubkey].known
		it := approval{a, k.ApprovedAs, k.ApprovedBy}
		if n[it]++; n[it] == 1 {
			order = append(order, it)
		}
	}
	const most = 20
	for k, it := range order {
		if k == most {
			c.overall = append(c.overall, Finding{Code: AddressApproved, Severity: Note,
				Message: fmt.Sprintf("and %d further approved addresses", len(order)-most)})
			break
		}
		c.overall = append(c.overall, Finding{Code: AddressApproved, Severity: Note, Field: fieldCredentials,
			Message: fmt.Sprintf("%d deposits pay to %s, which is in no list: %s approved it as %s, in the certificates", n[it], it.address, quote(it.by), quote(it.as))})
	}
}

// reportAnyAddress lists the addresses once for all entries, since nothing
// compared them.
func (c *trial) reportAnyAddress() {
	if !c.AnyAddress {
		return
	}
	n := map[eth.Address]int{}
	var order []eth.Address
	for i := range c.entries {
		if a, ok := c.entries[i].Credentials.Address(); ok {
			if n[a]++; n[a] == 1 {
				order = append(order, a)
			}
		}
	}
	const most = 20
	for k, a := range order {
		if k == most {
			c.overall = append(c.overall, Finding{Code: AddressAny, Severity: Warn,
				Message: fmt.Sprintf("and %d further addresses, none of them compared", len(order)-most)})
			break
		}
		c.overall = append(c.overall, Finding{Code: AddressAny, Severity: Warn, Field: fieldCredentials,
			Message: fmt.Sprintf("%d deposits pay to %s, which was compared with no list", n[a], a)})
	}
}

func (c *trial) judgeAmount(i int, e *Entry) {
	// Amounts are whole gwei by their type, which is what the contract's
	// multiple-of-a-gwei rule asks for.
	if err := eth.CheckAmount(c.Network, e.Credentials, e.Amount); err != nil {
		code := AmountMaximum
		if e.Amount < c.Network.MinDeposit {
			code = AmountMinimum
		}
		c.found(i, Refuse, code, fieldAmount, "", "%v", err)
		return
	}
	plan := c.byKey[e.Pubkey].plan
	if len(plan) == 0 {
		plan = c.Plan
	}
	if len(plan) > 0 && count(plan, e.Amount) == 0 || len(c.Plan) > 0 && count(c.Plan, e.Amount) == 0 {
		c.found(i, Refuse, AmountNotPlanned, fieldAmount, "", "amount %s is no stage of the deposit plan", c.ether(e.Amount))
	}
}

func (c *trial) judgeRoots(i int, e *Entry) {
	if want := e.message().Root(); e.MessageRoot != want {
		c.found(i, Refuse, MessageRootDiffers, "deposit_message_root", "", "deposit_message_root is %s, but the entry's own fields give %s", e.MessageRoot.Hex(), want.Hex())
	}
	if want := e.data().Root(); e.DataRoot != want {
		c.found(i, Refuse, DataRootDiffers, "deposit_data_root", "", "deposit_data_root is %s, but the entry's own fields give %s: the deposit contract would revert", e.DataRoot.Hex(), want.Hex())
	}
}

func (c *trial) judgeSignature(i int, e *Entry) {
	s := c.signatures[i]
	switch {
	case s.ok:
	case s.pubkey:
		c.found(i, Refuse, PubkeyInvalid, "pubkey", "", "pubkey %s is not a usable BLS key: no deposit for it can ever be valid", e.Pubkey.Hex())
	case s.network != "":
		c.found(i, Refuse, SignatureNetwork, "signature", "make the deposit anew for "+c.Network.Name,
			"is signed for network %s, not %s: the contract would take the money and the chain would drop the deposit", s.network, c.Network.Name)
	case c.byKey[e.Pubkey].onward:
		c.found(i, Warn, SignatureTopUp, "signature", "launchpads that check it will refuse the file",
			"the signature is not valid; the chain doesn't look at it, because the validator's first deposit is there already")
	default:
		c.found(i, Refuse, SignatureInvalid, "signature", "a top-up without a signature can be judged once the first deposit is on the chain, with a beacon node",
			"the signature is not the pubkey's over this deposit on %s: the contract would take the money and the chain would drop the deposit", c.Network.Name)
	}
}

// compareCertificate holds the entries of a pubkey against its certificate.
func (c *trial) compareCertificate(g *group) {
	if !g.known.Ours {
		severity := Refuse
		if c.AllowUncertified {
			severity = Warn
		}
		for _, i := range g.rows {
			c.found(i, severity, Uncertified, "pubkey", "somebody else may hold its key; a validator that is not ours can be run, and slashed, by its holder",
				"pubkey %s has no birth certificate", g.pubkey.Hex())
		}
		return
	}
	for _, i := range g.rows {
		e := &c.entries[i]
		differs := func(field, format string, args ...any) {
			c.found(i, Refuse, CertificateDiffers, field, "the file was changed after the key was made, or is of another key set", format, args...)
		}
		if g.known.Network != c.Network.Name {
			differs(fieldNetwork, "was certified for network %s", quote(g.known.Network))
		}
		if g.known.Credentials != e.Credentials {
			differs(fieldCredentials, "withdrawal credentials are %s, but %s were certified", e.Credentials, g.known.Credentials)
		}
		at := slices.IndexFunc(g.known.Deposits, func(p Planned) bool { return p.Amount == e.Amount })
		if at < 0 {
			differs(fieldAmount, "amount %s was not certified", c.ether(e.Amount))
			continue
		}
		want := g.known.Deposits[at] // equal amounts have equal deposits: BLS signatures are deterministic
		if e.Signature != want.Signature {
			differs("signature", "the signature is not the certified one")
		}
		if e.MessageRoot != want.MessageRoot {
			differs("deposit_message_root", "deposit_message_root is %s, but %s was certified", e.MessageRoot.Hex(), want.MessageRoot.Hex())
		}
		if e.DataRoot != want.DataRoot {
			differs("deposit_data_root", "deposit_data_root is %s, but %s was certified", e.DataRoot.Hex(), want.DataRoot.Hex())
		}
	}
}

// judgeGroup makes the checks over all entries of one pubkey, in whatever
// files they stand. The launchpad makes none of them.
func (c *trial) judgeGroup(g *group) {
	first := &c.entries[g.rows[0]]
	times := map[eth.DepositMessage]int{}
	var total eth.Gwei
	for _, i := range g.rows {
		e := &c.entries[i]
		total = add(total, e.Amount)
		// The same pubkey, credentials and amount are the same deposit,
		// whatever root the file claims for it.
		m := e.message()
		if times[m]++; times[m] > max(1, count(g.plan, e.Amount)) {
			c.found(i, Refuse, Duplicate, "", "sent twice, the stake is paid twice", "is the same deposit as in %s", c.where(g, m))
		}
		if e.Credentials != first.Credentials {
			c.found(i, Refuse, CredentialsConflict, fieldCredentials, "the first deposit that arrives decides for ever who can withdraw",
				"has withdrawal credentials %s, but %s has %s for the same pubkey", e.Credentials, place(first.Source, first.Row), first.Credentials)
		}
	}
	last := g.rows[len(g.rows)-1]
	planned := sum(g.plan)
	switch err := eth.CheckAmount(c.Network, first.Credentials, total); {
	case planned > 0 && total > planned:
		c.found(last, Refuse, SumOverPlan, fieldAmount, "", "all deposits for this pubkey make %s, more than its plan of %s", c.ether(total), c.ether(planned))
	case planned == 0 && len(g.rows) > 1 && errors.Is(err, eth.ErrAmount) && total > c.Network.MinDeposit:
		c.found(last, Refuse, SumOverCap, fieldAmount, "", "all deposits for this pubkey together: %v", err)
	case g.onward:
	case planned > 0 && total < planned:
		c.found(last, Note, PlanIncomplete, fieldAmount, "", "deposits for this pubkey make %s of its plan of %s", c.ether(total), c.ether(planned))
	case planned == 0 && total < c.Network.MinActivation:
		c.found(last, Note, BelowActivation, fieldAmount, "", "deposits for this pubkey make %s: it stays inactive below %s", c.ether(total), c.ether(c.Network.MinActivation))
	}
}

// where names the first place of a deposit message in the group.
func (c *trial) where(g *group, m eth.DepositMessage) string {
	for _, i := range g.rows {
		if c.entries[i].message() == m {
			return place(c.entries[i].Source, c.entries[i].Row)
		}
	}
	return ""
}
