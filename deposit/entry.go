// Package deposit judges deposits before money moves: it reads and writes the
// launchpad's deposit_data files and says of each entry whether it may be
// sent, and why not.
//
// It promises that a verdict "good" means: every check of docs/deposits.md
// was made and none refused, and every source that was named (certificates,
// chain) answered. What could not be checked is an error or a finding, never
// silence. It holds no key and does no I/O; what it knows of certificates and
// of the chain comes through the ports Births and Chain.
//
// It trusts the Judge's own fields (network, addresses, plan), which must not
// be filled from the file that is judged, and the two ports.
package deposit

import (
	"fmt"
	"strconv"

	"github.com/stakeseal/stakeseal/eth"
)

// Entry is one deposit of a deposit_data file, as it stands there: nothing in
// it has been checked but its form.
type Entry struct {
	Source string // the file's name, as the caller gave it
	Row    int    // place in the file's array, from 1
	Line   int    // line in the file where the entry begins, from 1

	Pubkey      eth.Pubkey
	Credentials eth.Credentials
	Amount      eth.Gwei
	Signature   eth.Signature
	MessageRoot eth.Root
	DataRoot    eth.Root
	ForkVersion eth.Version
	NetworkName string // "" when the file has none
	CLIVersion  string // "" when the file has none

	// Extra names the fields that the format does not know, in file order.
	Extra []string
}

// message is what the deposit signature covers.
func (e *Entry) message() eth.DepositMessage {
	return eth.DepositMessage{Pubkey: e.Pubkey, Credentials: e.Credentials, Amount: e.Amount}
}

// data is what the deposit contract hashes.
func (e *Entry) data() eth.DepositData {
	var d eth.DepositData
	d.Pubkey, d.Credentials, d.Amount, d.Signature = e.Pubkey, e.Credentials, e.Amount, e.Signature
	return d
}

// place says where an entry stands, for messages.
func place(source string, row int) string {
	switch {
	case source == "" && row == 0:
		return ""
	case row == 0:
		return printable(source)
	default:
		return printable(source) + " entry " + strconv.Itoa(row)
	}
}

// printable quotes a name that would do something to a terminal, or that is
// too long: file names come from folders that others can write to.
func printable(s string) string {
	if len(s) > 200 {
		return fmt.Sprintf("%q...", s[:200])
	}
	for _, r := range s {
		if !strconv.IsPrint(r) || r == '"' {
			return fmt.Sprintf("%q", s)
		}
	}
	return s
}

// clip shortens a value from a file.
func clip(s string) string {
	if len(s) > 100 {
		return s[:100] + "..."
	}
	return s
}

// quote echoes a value from a file, short and harmless.
func quote(s string) string {
	return fmt.Sprintf("%q", clip(s))
}
