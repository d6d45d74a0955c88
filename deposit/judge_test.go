package deposit_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	. "github.com/stakeseal/stakeseal/deposit"
	"github.com/stakeseal/stakeseal/eth"
)

// good judges by one address, a chain that knows nobody, and no plan.
func good() *Judge {
	return &Judge{Network: hoodi, Addresses: map[string]eth.Address{"cold": coldAddr}, Chain: chain{net: hoodi}}
}

func TestJudge(t *testing.T) {
	a := made(t, hoodi, 1, cold, 32*ether)
	a1, a31 := made(t, hoodi, 1, cold, ether), made(t, hoodi, 1, cold, 31*ether)
	b := at(made(t, hoodi, 2, cold, 32*ether), "b.json", 1)
	padded, builder, odd := cold, cold, cold
	padded[5], builder[0], odd[0] = 1, eth.KindBuilder, 0x03
	bls := eth.BLSCredentials(a.Pubkey)
	zero := eth.ExecutionCredentials(eth.Address{}, false)
	gnosis := network("gnosis")

	stray, b2 := made(t, hoodi, 1, thief, 32*ether), at(made(t, hoodi, 2, thief, 32*ether), "a.json", 2)
	burn := eth.Address{18: 0xde, 19: 0xad}
	placeholder := made(t, network("mainnet"), 1, eth.ExecutionCredentials(burn, false), 32*ether)

	withSignature := func(e Entry, s eth.Signature) Entry { e.Signature = s; return reroot(e) }
	noSignature := withSignature(a, eth.Signature{0: 0xc0})
	badPubkey := a
	badPubkey.Pubkey = eth.Pubkey{0: 0xc0} // infinity: everybody can sign for it
	badPubkey = reroot(badPubkey)

	for _, c := range []struct {
		name    string
		entries []Entry
		change  func(*Judge)
		refuse  []Code
		warn    []Code
		note    []Code
	}{
		{name: "one good", entries: []Entry{a}},
		{name: "two good", entries: []Entry{a, b}},
		{name: "compounding, 2048", entries: []Entry{made(t, hoodi, 1, cold02, 2048*ether)}},
		{name: "compounding, above", entries: []Entry{made(t, hoodi, 1, cold02, 2048*ether+1)}, refuse: sorted(AmountMaximum)},
		{name: "0x01 above 32", entries: []Entry{made(t, hoodi, 1, cold, 32*ether+1)}, refuse: sorted(AmountMaximum)},
		{name: "below minimum", entries: []Entry{made(t, hoodi, 1, cold, ether-1)}, refuse: sorted(AmountMinimum), note: sorted(BelowActivation)},
		{name: "first stage alone", entries: []Entry{a1}, note: sorted(BelowActivation)},
		{name: "split in two", entries: []Entry{a1, at(a31, "b.json", 1)}},
		{name: "gnosis, one GNO", entries: []Entry{made(t, gnosis, 1, cold, 32*ether)}, change: func(j *Judge) { j.Network, j.Chain = gnosis, chain{net: gnosis} }},

		{name: "same twice in a file", entries: []Entry{a, at(a, "a.json", 2)}, refuse: sorted(Duplicate, SumOverCap)},
		{name: "same twice across files", entries: []Entry{a1, b, at(a1, "c.json", 1)}, refuse: sorted(Duplicate), note: sorted(BelowActivation)},
		{name: "same twice, root disguised", entries: []Entry{a1, func() Entry { e := at(a1, "c.json", 1); e.DataRoot[0] ^= 1; return e }()}, refuse: sorted(Duplicate, DataRootDiffers), note: sorted(BelowActivation)},
		{name: "sum over the cap", entries: []Entry{a, at(a1, "b.json", 1)}, refuse: sorted(SumOverCap)},
		{name: "two credentials", entries: []Entry{a1, at(made(t, hoodi, 1, cold02, 31*ether), "b.json", 1)}, refuse: sorted(CredentialsConflict)},

		{name: "plan kept", entries: []Entry{a1, a31}, change: func(j *Judge) { j.Plan = []eth.Gwei{ether, 31 * ether} }},
		{name: "plan begun", entries: []Entry{a1}, change: func(j *Judge) { j.Plan = []eth.Gwei{ether, 31 * ether} }, note: sorted(PlanIncomplete)},
		{name: "not in the plan", entries: []Entry{a}, change: func(j *Judge) { j.Plan = []eth.Gwei{ether, 31 * ether} }, refuse: sorted(AmountNotPlanned)},
		{name: "over the plan", entries: []Entry{a1, a31, at(a1, "b.json", 1)}, change: func(j *Judge) { j.Plan = []eth.Gwei{ether, 31 * ether} }, refuse: sorted(Duplicate, SumOverPlan)},
		{name: "equal stages are no duplicate", entries: []Entry{made(t, hoodi, 1, cold, 16*ether), made(t, hoodi, 1, cold, 16*ether)}, change: func(j *Judge) { j.Plan = []eth.Gwei{16 * ether, 16 * ether} }},
		{name: "equal stages once too often", entries: slices.Repeat([]Entry{made(t, hoodi, 1, cold, 16*ether)}, 3), change: func(j *Judge) { j.Plan = []eth.Gwei{16 * ether, 16 * ether} }, refuse: sorted(Duplicate, SumOverPlan)},

		{name: "other address", entries: []Entry{made(t, hoodi, 1, thief, 32*ether)}, refuse: sorted(AddressUnknown)},
		{name: "any address", entries: []Entry{made(t, hoodi, 1, thief, 32*ether), b}, change: func(j *Judge) { j.Addresses, j.AnyAddress = nil, true }, warn: sorted(AddressAny)},
		{name: "padding", entries: []Entry{made(t, hoodi, 1, padded, 32*ether)}, refuse: sorted(CredentialsPadding)},
		{name: "builder", entries: []Entry{made(t, hoodi, 1, builder, 32*ether)}, refuse: sorted(CredentialsBuilder)},
		{name: "unknown prefix", entries: []Entry{made(t, hoodi, 1, odd, 32*ether)}, refuse: sorted(CredentialsPrefix)},
		{name: "BLS", entries: []Entry{made(t, hoodi, 1, bls, 32*ether)}, refuse: sorted(CredentialsBLS)},
		{name: "BLS, any address", entries: []Entry{made(t, hoodi, 1, bls, 32*ether)}, change: func(j *Judge) { j.Addresses, j.AnyAddress = nil, true }, refuse: sorted(CredentialsBLS)},
		{name: "BLS allowed", entries: []Entry{made(t, hoodi, 1, bls, 32*ether)}, change: func(j *Judge) { j.AllowBLS = true }, warn: sorted(CredentialsBLS)},
		{name: "zero address on a test network", entries: []Entry{made(t, hoodi, 1, zero, 32*ether)}, change: func(j *Judge) { j.Addresses["zero"] = eth.Address{} }, warn: sorted(AddressBad)},
		{name: "zero address on mainnet", entries: []Entry{made(t, network("mainnet"), 1, zero, 32*ether)}, change: func(j *Judge) {
			j.Network, j.Addresses["zero"], j.Chain = network("mainnet"), eth.Address{}, chain{net: network("mainnet")}
		}, refuse: sorted(AddressBad)},
		{name: "zero address on mainnet, allowed", entries: []Entry{made(t, network("mainnet"), 1, zero, 32*ether)}, change: func(j *Judge) {
			j.Network, j.Addresses["zero"], j.AllowBad, j.Chain = network("mainnet"), eth.Address{}, true, chain{net: network("mainnet")}
		}, warn: sorted(AddressBad)},

		{name: "no signature", entries: []Entry{noSignature}, refuse: sorted(SignatureInvalid)},
		{name: "another's signature", entries: []Entry{withSignature(a, b.Signature)}, refuse: sorted(SignatureInvalid)},
		{name: "second without a signature", entries: []Entry{a1, withSignature(a31, eth.Signature{0: 0xc0})}, refuse: sorted(SignatureInvalid)},
		{name: "infinity pubkey", entries: []Entry{badPubkey, b}, refuse: sorted(PubkeyInvalid)},
		{name: "signed for mainnet, labelled hoodi", entries: []Entry{func() Entry {
			e := made(t, network("mainnet"), 1, cold, 32*ether)
			e.NetworkName, e.ForkVersion = "hoodi", hoodi.GenesisForkVersion
			return e
		}()}, refuse: sorted(SignatureNetwork)},
		{name: "labelled mainnet, signed for hoodi", entries: []Entry{func() Entry { e := a; e.NetworkName = "mainnet"; return e }()}, refuse: sorted(NetworkNameDiffers)},
		{name: "no labels", entries: []Entry{func() Entry {
			e := a
			e.NetworkName, e.CLIVersion, e.Extra = "", "", []string{"x"}
			return e
		}()}, warn: sorted(NetworkNameMissing), note: sorted(CLIVersionMissing, ExtraField)},

		{name: "certified", entries: []Entry{a}, change: func(j *Judge) { j.Births = certified(a) }},
		{name: "certified in stages", entries: []Entry{a1, a31}, change: func(j *Judge) { j.Births = certified(a1, a31) }},
		{name: "certified plan counts before the wanted one", entries: []Entry{a1, a31, at(a1, "b", 1)}, change: func(j *Judge) { j.Births, j.Plan = certified(a1, a31), []eth.Gwei{ether, ether, 31 * ether} }, refuse: sorted(Duplicate, SumOverPlan)},
		{name: "certified, but not as planned", entries: []Entry{a}, change: func(j *Judge) { j.Births, j.Plan = certified(a), []eth.Gwei{ether, 31 * ether} }, refuse: sorted(AmountNotPlanned)},
		{name: "not certified", entries: []Entry{a, b}, change: func(j *Judge) { j.Births = certified(a) }, refuse: sorted(Uncertified)},
		{name: "not certified, allowed", entries: []Entry{a, b}, change: func(j *Judge) { j.Births, j.AllowUncertified = certified(a), true }, warn: sorted(Uncertified)},
		{name: "another amount than certified", entries: []Entry{a1}, change: func(j *Judge) { j.Births = certified(a) }, refuse: sorted(CertificateDiffers, AmountNotPlanned), note: sorted(PlanIncomplete)},
		{name: "other credentials than certified", entries: []Entry{made(t, hoodi, 1, cold02, 32*ether)}, change: func(j *Judge) { j.Births = certified(a) }, refuse: sorted(CertificateDiffers)},
		{name: "certified for another network", entries: []Entry{a}, change: func(j *Judge) {
			k := certified(a)
			known := k[a.Pubkey]
			known.Network = "sepolia"
			k[a.Pubkey] = known
			j.Births = k
		}, refuse: sorted(CertificateDiffers)},
		{name: "another signature than certified", entries: []Entry{noSignature}, change: func(j *Judge) { j.Births = certified(a) }, refuse: sorted(CertificateDiffers, SignatureInvalid)},
		{name: "another root than certified", entries: []Entry{func() Entry { e := a; e.MessageRoot[3] ^= 8; return e }()}, change: func(j *Judge) { j.Births = certified(a) }, refuse: sorted(CertificateDiffers, MessageRootDiffers)},
		{name: "approved address", entries: []Entry{stray}, change: func(j *Judge) { j.Births = approved(stray, thiefs) }, note: sorted(AddressApproved)},
		{name: "approved address, no list", entries: []Entry{stray}, change: func(j *Judge) { j.Addresses, j.Births = nil, approved(stray, thiefs) }, note: sorted(AddressApproved)},
		{name: "no list, listed elsewhere", entries: []Entry{a}, change: func(j *Judge) { j.Addresses, j.Births = nil, certified(a) }, refuse: sorted(AddressUnknown)},
		{name: "certified, not approved", entries: []Entry{stray}, change: func(j *Judge) { j.Births = certified(stray) }, refuse: sorted(AddressUnknown)},
		{name: "another address approved", entries: []Entry{stray}, change: func(j *Judge) { j.Births = approved(stray, eth.Address{7}) }, refuse: sorted(AddressUnknown)},
		{name: "no address approved, paying to zero", entries: []Entry{made(t, hoodi, 1, zero, 32*ether)}, change: func(j *Judge) { j.Births = certified(made(t, hoodi, 1, zero, 32*ether)) }, refuse: sorted(AddressUnknown), warn: sorted(AddressBad)},
		{name: "approved for another pubkey, certified", entries: []Entry{stray, b2}, change: func(j *Judge) { j.Births = merged(approved(stray, thiefs), certified(b2)) }, refuse: sorted(AddressUnknown), note: sorted(AddressApproved)},
		{name: "approved for another pubkey, uncertified", entries: []Entry{b2, stray}, change: func(j *Judge) { j.Births, j.AllowUncertified = approved(stray, thiefs), true }, refuse: sorted(AddressUnknown), warn: sorted(Uncertified), note: sorted(AddressApproved)},
		{name: "approved, but no certificates compared", entries: []Entry{stray}, refuse: sorted(AddressUnknown)},
		{name: "approved on another network", entries: []Entry{stray}, change: func(j *Judge) {
			k := approved(stray, thiefs)
			known := k[stray.Pubkey]
			known.Network = "sepolia"
			k[stray.Pubkey] = known
			j.Births = k
		}, refuse: sorted(AddressUnknown, CertificateDiffers)},
		{name: "approved by what is no certificate", entries: []Entry{stray}, change: func(j *Judge) {
			j.Births, j.AllowUncertified = births{stray.Pubkey: {Network: "hoodi", Approved: thiefs}}, true
		}, refuse: sorted(AddressUnknown), warn: sorted(Uncertified)},
		{name: "approved, other credentials than certified", entries: []Entry{stray}, change: func(j *Judge) {
			k := approved(made(t, hoodi, 1, cold, 32*ether), thiefs)
			j.Births = k
		}, refuse: sorted(CertificateDiffers), note: sorted(AddressApproved)},
		{name: "approved, but a placeholder on mainnet", entries: []Entry{placeholder}, change: func(j *Judge) {
			j.Network, j.Chain, j.Births = network("mainnet"), chain{net: network("mainnet")}, approved(placeholder, burn)
		}, refuse: sorted(AddressBad), note: sorted(AddressApproved)},
		{name: "nobody asks the chain", entries: []Entry{a}, change: func(j *Judge) { j.Chain = nil }, warn: sorted(ChainNotAsked)},
		{name: "no queue, given up", entries: []Entry{a}, change: func(j *Judge) { j.Chain, j.AllowNoQueue = chain{net: hoodi, noPending: true}, true }, warn: sorted(PendingNotSeen)},
	} {
		t.Run(c.name, func(t *testing.T) {
			j := good()
			if c.change != nil {
				c.change(j)
			}
			v, err := j.Verdict(context.Background(), c.entries)
			if err != nil {
				t.Fatal(err)
			}
			expect(t, v, c.refuse, c.warn, c.note)
		})
	}
}

func expect(t *testing.T, v Verdict, refuse, warn, note []Code) {
	t.Helper()
	for _, want := range []struct {
		s     Severity
		codes []Code
	}{{Refuse, refuse}, {Warn, warn}, {Note, note}} {
		if got := codes(v.Findings, want.s); !slices.Equal(got, sorted(want.codes...)) {
			t.Errorf("%s: %v, want %v; %v", want.s, got, want.codes, v.Findings)
		}
	}
	if v.OK() != (len(refuse) == 0) || (v.Outcome == Refused) != (len(refuse) > 0) {
		t.Errorf("outcome %s", v.Outcome)
	}
}

// Labels of one network over a signature of another: the message names where
// the signature would count, for a whole file as for one row among good ones.
func TestSignatureOfEachNetwork(t *testing.T) {
	for _, n := range eth.Networks() {
		entries := []Entry{made(t, hoodi, 900, cold, 32*ether)}
		for i := range 140 {
			e := at(made(t, n, uint64(i+1), cold, 32*ether), "a", i+2)
			e.NetworkName, e.ForkVersion = hoodi.Name, hoodi.GenesisForkVersion
			entries = append(entries, e)
		}
		findings, err := good().Judge(context.Background(), entries)
		if err != nil {
			t.Fatal(err)
		}
		if n.Name == "hoodi" {
			if len(findings) != 0 {
				t.Errorf("hoodi: %v", findings)
			}
			continue
		}
		if len(findings) != 140 {
			t.Errorf("%s: %d findings", n.Name, len(findings))
		}
		for _, f := range findings {
			if f.Code != SignatureNetwork || !strings.Contains(f.Message, "for network "+n.Name+",") {
				t.Errorf("%s: %s", n.Name, f)
				break
			}
		}
	}
}

// One bad signature anywhere in a large file is found, and only that one.
func TestOneBadAmongMany(t *testing.T) {
	var all []Entry
	for i := range 300 {
		all = append(all, at(made(t, hoodi, uint64(i+1), cold, 32*ether), "a", i+1))
	}
	for _, bad := range []int{0, 1, 127, 128, 200, 299} {
		entries := slices.Clone(all)
		entries[bad].Signature = all[(bad+1)%300].Signature
		entries[bad] = reroot(entries[bad])
		findings, err := good().Judge(context.Background(), entries)
		if err != nil || len(findings) != 1 || findings[0].Code != SignatureInvalid || findings[0].Row != bad+1 {
			t.Errorf("bad at %d: %v, %v", bad, findings, err)
		}
	}
	// Two signatures swapped cancel in a plain sum; they must not pass.
	entries := slices.Clone(all)
	entries[5].Signature, entries[6].Signature = all[6].Signature, all[5].Signature
	entries[5], entries[6] = reroot(entries[5]), reroot(entries[6])
	if findings, err := good().Judge(context.Background(), entries); err != nil || len(findings) != 2 {
		t.Errorf("swapped: %v, %v", findings, err)
	}
}

func TestJudgeRefusesToGuess(t *testing.T) {
	a := made(t, hoodi, 1, cold, 32*ether)
	for name, change := range map[string]func(*Judge) []Entry{
		"no entries":            func(*Judge) []Entry { return nil },
		"no network":            func(j *Judge) []Entry { j.Network = eth.Network{}; return []Entry{a} },
		"no address":            func(j *Judge) []Entry { j.Addresses = nil; return []Entry{a} },
		"any and named address": func(j *Judge) []Entry { j.AnyAddress = true; return []Entry{a} },
		"plan of nothing":       func(j *Judge) []Entry { j.Plan = []eth.Gwei{32 * ether, 0}; return []Entry{a} },
	} {
		j := good()
		v, err := j.Verdict(context.Background(), change(j))
		if !errors.Is(err, ErrJudge) || v.OK() || v.Outcome != Unknown {
			t.Errorf("%s: %v, %s", name, err, v.Outcome)
		}
	}
	if (Verdict{}).OK() || (Verdict{Outcome: Good}).OK() {
		t.Error("a verdict that nobody made is good")
	}
}

// An approval names its row's own fault only, and each address once.
func TestApprovedFindings(t *testing.T) {
	stray, other := made(t, hoodi, 1, thief, 32*ether), at(made(t, hoodi, 2, thief, 32*ether), "a.json", 2)
	third := at(made(t, hoodi, 3, thief, 32*ether), "a.json", 3)
	j := good()
	j.Births = merged(approved(stray, thiefs), certified(other), approved(third, thiefs))
	v, err := j.Verdict(context.Background(), []Entry{stray, other, third})
	if err != nil {
		t.Fatal(err)
	}
	if len(v.Findings) != 2 || v.Findings[0].Code != AddressUnknown || v.Findings[0].Row != 2 || v.Findings[0].Pubkey != other.Pubkey {
		t.Errorf("not the one row that nobody approved: %v", v.Findings)
	}
	want := "2 deposits pay to " + thiefs.String() + `, which is in no list: "otto" approved it as "customer-7", in the certificates`
	if f := v.Findings[len(v.Findings)-1]; f.Code != AddressApproved || f.Row != 0 || f.Message != want {
		t.Errorf("the approval is not named: %v", f)
	}
	// A certificate that does not stand approves nothing.
	j.Births = failing{fmt.Errorf("%w: its approver is revoked", ErrCertificate)}
	v, err = j.Verdict(context.Background(), []Entry{stray})
	if err != nil {
		t.Fatal(err)
	}
	expect(t, v, sorted(AddressUnknown, CertificateInvalid), nil, nil)
}

type failing struct{ err error }

func (f failing) Deposits(context.Context, eth.Pubkey) (Known, error) { return Known{}, f.err }

// A source that fails is never a pass, and what the other checks found stays.
func TestSourceFails(t *testing.T) {
	a := made(t, hoodi, 1, cold, 32*ether)
	stolen := made(t, hoodi, 1, thief, 32*ether)
	broken := errors.New("broken")
	canceled, cancel := context.WithCancel(context.Background())
	cancel()
	for _, c := range []struct {
		name   string
		ctx    context.Context
		change func(*Judge)
		want   error
	}{
		{"births", context.Background(), func(j *Judge) { j.Births = failing{broken} }, ErrBirths},
		{"births' own error", context.Background(), func(j *Judge) { j.Births = failing{broken} }, broken},
		{"chain", context.Background(), func(j *Judge) { j.Chain = chain{net: hoodi, err: broken} }, ErrChain},
		{"chain's own error", context.Background(), func(j *Judge) { j.Chain = chain{net: hoodi, err: broken} }, broken},
		{"chain of another network", context.Background(), func(j *Judge) { j.Chain = chain{net: network("sepolia")} }, ErrChain},
		{"chain leaves a pubkey out", context.Background(), func(j *Judge) { j.Chain = chain{net: hoodi, forget: true} }, ErrChain},
		{"canceled", canceled, func(*Judge) {}, context.Canceled},
	} {
		for _, e := range []Entry{a, stolen} {
			j := good()
			c.change(j)
			v, err := j.Verdict(c.ctx, []Entry{e})
			if !errors.Is(err, c.want) || v.OK() || v.Outcome == Good || v.AsOf != nil && c.want == ErrChain {
				t.Errorf("%s: %v, %s", c.name, err, v.Outcome)
			}
			if e.Credentials == thief && c.ctx.Err() == nil && v.Outcome != Refused {
				t.Errorf("%s: the stolen deposit is %s", c.name, v.Outcome)
			}
		}
	}
}

// The JSON form is a contract with scripts.
func TestVerdictJSON(t *testing.T) {
	a := made(t, hoodi, 1, thief, 32*ether)
	v, err := good().Verdict(context.Background(), []Entry{a})
	if err != nil {
		t.Fatal(err)
	}
	got, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	want := fmt.Sprintf(`{"schema":"stakeseal/deposit-verdict/v1","verdict":"refused","network":"hoodi","genesis_fork_version":"0x10000910",`+
		`"entries":1,"validators":1,"total_gwei":32000000000,"as_of":{"slot":7,"block_root":"0x%064d","genesis_fork_version":"0x10000910",`+
		`"genesis_validators_root":"%s","nodes":["one"],"pending_deposits":true},"findings":[{"code":"address-unknown","severity":"refuse",`+
		`"source":"a.json","row":1,"field":"withdrawal_credentials","pubkey":"%s","message":%q,"hint":%q}]}`,
		0, hoodi.GenesisValidatorsRoot, a.Pubkey, v.Findings[0].Message, v.Findings[0].Hint)
	if string(got) != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	empty, err := good().Verdict(context.Background(), []Entry{made(t, hoodi, 1, cold, 32*ether)})
	if b, _ := json.Marshal(empty); err != nil || !strings.Contains(string(b), `"findings":[]`) {
		t.Errorf("no findings: %s, %v", b, err)
	}
}
