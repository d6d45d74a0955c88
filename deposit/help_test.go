package deposit_test

import (
	"context"
	"encoding/binary"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	. "github.com/stakeseal/stakeseal/deposit"
	"github.com/stakeseal/stakeseal/eth"
	"github.com/stakeseal/stakeseal/eth/bls"
	"github.com/stakeseal/stakeseal/secret"
)

const ether = eth.Gwei(1_000_000_000)

var (
	hoodi    = network("hoodi")
	coldAddr = eth.Address{0xaa, 0xbb, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18}
	thiefs   = eth.Address{0xee, 0xee, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18}
	cold     = eth.ExecutionCredentials(coldAddr, false)
	cold02   = eth.ExecutionCredentials(coldAddr, true)
	thief    = eth.ExecutionCredentials(thiefs, false)
)

func network(name string) eth.Network {
	n, ok := eth.LookupNetwork(name)
	if !ok {
		panic("no network " + name)
	}
	return n
}

// key makes the nth test key.
func key(t testing.TB, n uint64) *bls.Key {
	t.Helper()
	var b [32]byte
	b[0] = 1
	binary.BigEndian.PutUint64(b[24:], n)
	k, err := bls.Parse(secret.Copy(b[:]))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// made is a valid deposit of the nth key.
func made(t testing.TB, net eth.Network, n uint64, c eth.Credentials, amount eth.Gwei) Entry {
	t.Helper()
	k := key(t, n)
	defer k.Wipe()
	m := eth.DepositMessage{Pubkey: k.Pubkey(), Credentials: c, Amount: amount}
	e := Entry{
		Source: "a.json", Row: 1, Pubkey: m.Pubkey, Credentials: c, Amount: amount, MessageRoot: m.Root(),
		ForkVersion: net.GenesisForkVersion, NetworkName: net.Name, CLIVersion: CLIVersion,
		Signature: k.Sign(eth.SigningRoot(m.Root(), net.DepositDomain())),
	}
	return reroot(e)
}

// reroot makes both roots those of the entry's fields.
func reroot(e Entry) Entry {
	e.MessageRoot = eth.DepositMessage{Pubkey: e.Pubkey, Credentials: e.Credentials, Amount: e.Amount}.Root()
	var d eth.DepositData
	d.Pubkey, d.Credentials, d.Amount, d.Signature = e.Pubkey, e.Credentials, e.Amount, e.Signature
	e.DataRoot = d.Root()
	return e
}

func at(e Entry, source string, row int) Entry {
	e.Source, e.Row = source, row
	return e
}

// codes lists the distinct codes of a severity, sorted.
func codes(findings []Finding, s Severity) []Code {
	out := []Code{}
	for _, f := range findings {
		if f.Severity == s && !slices.Contains(out, f.Code) {
			out = append(out, f.Code)
		}
	}
	slices.Sort(out)
	return out
}

func sorted(c ...Code) []Code {
	out := append([]Code{}, c...)
	slices.Sort(out)
	return slices.Compact(out)
}

// births is a Births of a map.
type births map[eth.Pubkey]Known

func (b births) Deposits(_ context.Context, p eth.Pubkey) (Known, error) { return b[p], nil }

// certified is what a certificate says of the entries, which are of one pubkey.
func certified(entries ...Entry) births {
	k := Known{Ours: true, Network: entries[0].NetworkName, Credentials: entries[0].Credentials}
	for _, e := range entries {
		k.Deposits = append(k.Deposits, Planned{Amount: e.Amount, Signature: e.Signature, MessageRoot: e.MessageRoot, DataRoot: e.DataRoot})
	}
	return births{entries[0].Pubkey: k}
}

// approved is what a certificate says that carries an approval of the address.
func approved(e Entry, a eth.Address) births {
	b := certified(e)
	k := b[e.Pubkey]
	k.Approved, k.ApprovedAs, k.ApprovedBy = a, "customer-7", "otto"
	b[e.Pubkey] = k
	return b
}

func merged(all ...births) births {
	out := births{}
	for _, b := range all {
		maps.Copy(out, b)
	}
	return out
}

// chain is a Chain of a map; pubkeys that are not in it are new.
type chain struct {
	net       eth.Network
	states    map[eth.Pubkey]State
	nodes     []string // nil: one
	without   []string // those without the queue
	noPending bool
	forget    bool
	err       error
}

func (c chain) Known(_ context.Context, pubkeys []eth.Pubkey) (map[eth.Pubkey]State, At, error) {
	out := map[eth.Pubkey]State{}
	for i, p := range pubkeys {
		if !c.forget || i > 0 {
			out[p] = c.states[p]
		}
	}
	nodes := c.nodes
	if nodes == nil {
		nodes = []string{"one"}
	}
	return out, At{Slot: 7, ForkVersion: c.net.GenesisForkVersion, GenesisValidatorsRoot: c.net.GenesisValidatorsRoot,
		Nodes: nodes, Pending: !c.noPending, NoPending: c.without}, c.err
}

// vectors lists the public deposit files, with the network that the folder
// names.
func vectors(t testing.TB) map[string]eth.Network {
	t.Helper()
	dir := os.Getenv("STAKESEAL_VECTORS")
	if dir == "" {
		dir = filepath.Join("..", "..", "shared", "vectors")
	}
	files, err := filepath.Glob(filepath.Join(dir, "deposit", "*", "*", "deposit_data-*.json"))
	if err != nil {
		t.Fatal(err)
	}
	if len(files) == 0 {
		if os.Getenv("CI") == "true" {
			t.Fatalf("no deposit vectors in %s", dir)
		}
		t.Skipf("no deposit vectors in %s: set STAKESEAL_VECTORS", dir)
	}
	out := map[string]eth.Network{}
	for _, f := range files {
		out[f] = network(filepath.Base(filepath.Dir(f)))
	}
	return out
}

func read(t testing.TB, file string) []byte {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// vectorJudge allows what a vector's folder is made with.
func vectorJudge(file string, n eth.Network) *Judge {
	one, satisfy := eth.Address{19: 1}, eth.Address{0x71, 0xC7, 0x65, 0x6E, 0xC7, 0xab, 0x88, 0xb0, 0x98, 0xde, 0xfB, 0x75, 0x1B, 0x74, 0x01, 0xB5, 0xf6, 0xd8, 0x97, 0x6F}
	return &Judge{
		Network: n, Addresses: map[string]eth.Address{"one": one, "satisfy": satisfy},
		AllowBLS: strings.Contains(file, "withdrawal_credentials_bls"), Plan: []eth.Gwei{32 * ether},
		Chain: chain{net: n},
	}
}

func validPoint(p eth.Pubkey) bool { return bls.CheckPubkey(p) == nil }
