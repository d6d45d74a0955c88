package certificate

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/stakeseal/stakeseal/eth"
)

var (
	approver = newEdSigner(0x80)
	customer = eth.Address{7, 7, 7, 7}
)

func exampleApproval() AddressApproval {
	return AddressApproval{Name: "customer-7", Address: customer, Network: "hoodi", NetworkDigest: Hash(hoodi.Digest()),
		NotBefore: at("2026-11-01T00:00:00Z"), NotAfter: at("2026-12-01T00:00:00Z"), Time: at("2026-11-01T00:00:00Z")}
}

// approvedBirth is a birth to an address that no trust file names.
func approvedBirth(approval []byte) Birth {
	b := exampleBirth(0)
	b.Credentials = eth.ExecutionCredentials(customer, false)
	b.Deposits = []Deposit{depositOf(b, 32e9)}
	b.Approval = string(approval)
	return b
}

func approvingTrust() *Trust {
	trust := exampleTrust()
	trust.Approvers = []TrustedKey{{"otto", approver.public(), Validity{}}}
	return trust
}

func TestApprovedAddress(t *testing.T) {
	ctx := context.Background()
	good := must(SignAddressApproval(ctx, approver, exampleApproval()))
	v, err := approvingTrust().VerifyBirth(mustSign(approvedBirth(good)))
	if err != nil || v.AddressName != "customer-7" || v.Approver != "otto" {
		t.Fatalf("%+v, %v", v, err)
	}
	// An address that the trust file names needs no approver.
	named := approvingTrust()
	named.Addresses["mine"] = customer
	if v, err := named.VerifyBirth(mustSign(approvedBirth(good))); err != nil || v.AddressName != "mine" || v.Approver != "" {
		t.Errorf("%+v, %v", v, err)
	}
	changed := func(change func(*AddressApproval)) []byte {
		a := exampleApproval()
		change(&a)
		return must(SignAddressApproval(ctx, approver, a))
	}
	for name, c := range map[string]struct {
		approval []byte
		trust    func(*Trust)
		want     error
	}{
		"none":                {nil, nil, ErrMismatch},
		"no approvers":        {good, func(tr *Trust) { tr.Approvers = nil }, ErrMismatch},
		"another approver":    {must(SignAddressApproval(ctx, newEdSigner(0x81), exampleApproval())), nil, ErrSignature},
		"the certifying key":  {must(SignAddressApproval(ctx, certifier, exampleApproval())), nil, ErrSignature},
		"a revoked approver":  {good, func(tr *Trust) { tr.Approvers[0].Revoked = true }, ErrUntrusted},
		"a retired approver":  {good, func(tr *Trust) { tr.Approvers[0].NotAfter = at("2026-10-31T00:00:00Z") }, ErrUntrusted},
		"another's name":      {changed(func(a *AddressApproval) { a.Name = "acme-cold" }), nil, ErrMismatch},
		"ended":               {changed(func(a *AddressApproval) { a.NotAfter = at("2026-11-02T00:00:00Z") }), nil, ErrUntrusted},
		"not yet":             {changed(func(a *AddressApproval) { a.NotBefore = at("2026-11-30T00:00:00Z") }), nil, ErrUntrusted},
		"a changed signature": {[]byte(strings.Replace(string(good), `"sig":"`, `"sig":"AAAA`, 1)), nil, ErrSignature},
	} {
		trust := approvingTrust()
		if c.trust != nil {
			c.trust(trust)
		}
		if v, err := trust.VerifyBirth(mustSign(approvedBirth(c.approval))); !errors.Is(err, c.want) || v != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	// A birth that contradicts its own approval is not even signed.
	for name, approval := range map[string][]byte{
		"of another address": changed(func(a *AddressApproval) { a.Address = coldStore }),
		"for another chain":  changed(func(a *AddressApproval) { a.Network = "sepolia" }),
		"other parameters":   changed(func(a *AddressApproval) { a.NetworkDigest[0] ^= 1 }),
		"a receipt":          must(SignReceipt(ctx, certifier, exampleReceipt())),
		"no envelope":        []byte("approved!"),
		"not ASCII":          []byte("\x1b[2J"),
	} {
		if _, err := SignBirth(ctx, certifier, approvedBirth(approval)); !errors.Is(err, ErrMismatch) && !errors.Is(err, ErrFormat) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, change := range map[string]func(*AddressApproval){
		"no name": func(a *AddressApproval) { a.Name = "" }, "capitals": func(a *AddressApproval) { a.Name = "Acme" }, "no address": func(a *AddressApproval) { a.Address = eth.Address{} },
		"no end": func(a *AddressApproval) { a.NotAfter = time.Time{} }, "backwards": func(a *AddressApproval) { a.NotAfter = a.NotBefore.Add(-1e9) },
	} {
		a := exampleApproval()
		change(&a)
		if _, err := SignAddressApproval(ctx, approver, a); !errors.Is(err, ErrFormat) {
			t.Errorf("signed an approval with %s: %v", name, err)
		}
	}
	// One person is not certifier, release manager and approver.
	both := approvingTrust()
	both.Approvers = append(both.Approvers, TrustedKey{"self", certifier.public(), Validity{}})
	if err := both.Check(); !errors.Is(err, ErrFormat) {
		t.Errorf("the certifying key approves: %v", err)
	}
	text := must(FormatTrust(*approvingTrust()))
	back, err := ParseTrust(text)
	if err != nil || len(back.Approvers) != 1 || !back.Approvers[0].Key.Equal(approver.public()) {
		t.Errorf("%v, %+v", err, back)
	}
}

// FuzzAddressApproval: whatever is verified is of the address and network that
// were asked for.
func FuzzAddressApproval(f *testing.F) {
	f.Add(must(canonical(must(decode[AddressApproval](must(parseEnvelope(must(SignAddressApproval(context.Background(), approver, exampleApproval())), maxApproval)).payload, AddressApprovalType)))))
	f.Add([]byte(`{}`))
	keys := approvingTrust().Approvers
	f.Fuzz(func(t *testing.T, payload []byte) {
		if len(payload) > maxApproval/2 {
			return
		}
		a, _, err := VerifyAddressApproval(signBytes(approver, payload), keys, hoodi, customer, at("2026-11-22T09:30:00Z"))
		if err != nil {
			if !isClass(classOf(err)) {
				t.Fatal(err)
			}
			return
		}
		if a.Address != customer || a.Network != "hoodi" || a.check() != nil {
			t.Fatalf("%+v", a)
		}
	})
}
