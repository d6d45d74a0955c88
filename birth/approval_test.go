package birth_test

import (
	"context"
	"crypto/ed25519"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/stakeseal/stakeseal/birth"
	"github.com/stakeseal/stakeseal/certificate"
	"github.com/stakeseal/stakeseal/eth"
)

type approver struct{ key ed25519.PrivateKey }

func (a approver) Sign(_ context.Context, data []byte) ([]byte, error) {
	return ed25519.Sign(a.key, data), nil
}
func (a approver) KeyID() (string, error) { return a.public().ID(), nil }
func (a approver) public() certificate.PublicKey {
	k, err := certificate.NewPublicKey(a.key.Public())
	if err != nil {
		panic(err)
	}
	return k
}

func newApprover(seed byte) approver {
	return approver{ed25519.NewKeyFromSeed([]byte(strings.Repeat(string(rune(seed)), ed25519.SeedSize)))}
}

// TestApprovedAddress: an order to an address that the settings do not name
// needs the approval of one of the settings' approvers, for this address and
// network and now; it stands in every certificate, which verifies by it.
func TestApprovedAddress(t *testing.T) {
	h := newHouse(t)
	otto, stranger := newApprover('o'), newApprover('s')
	keys := []certificate.TrustedKey{{Name: "otto", Key: otto.public()}}
	h.flow.Approvers = keys
	trust := h.flow.Verifier.(*certificate.Trust)
	trust.Approvers = keys
	customer := eth.Address{7, 7, 7}
	now := h.flow.Now()
	sign := func(who approver, change func(*certificate.AddressApproval)) string {
		a := certificate.AddressApproval{Name: "customer-7", Address: customer, Network: "hoodi", NetworkDigest: h.flow.Network.Digest(),
			NotBefore: now.Add(-time.Hour), NotAfter: now.Add(time.Hour), Time: now.Add(-time.Hour)}
		if change != nil {
			change(&a)
		}
		envelope, err := certificate.SignAddressApproval(t.Context(), who, a)
		must(t, err)
		return string(envelope)
	}
	order := func(id, approval string) birth.Range {
		r := h.order(2, "none")
		r.Order.ID, r.Approval = id, approval
		r.Order.Credentials = eth.ExecutionCredentials(customer, true)
		return r
	}
	good := sign(otto, nil)
	births, _, err := run(t.Context(), &h.flow, order("good", good))
	must(t, err)
	if len(births) != 2 {
		t.Fatalf("%d births", len(births))
	}
	for _, b := range births {
		v, err := trust.VerifyBirth(b.Certificate)
		must(t, err)
		if v.Approval != good || v.AddressName != "customer-7" || v.Approver != "otto" {
			t.Errorf("%+v", v)
		}
		// A verifier who does not know the approver does not believe it.
		if _, err := (&certificate.Trust{Network: trust.Network, Addresses: trust.Addresses, Keys: trust.Keys}).VerifyBirth(b.Certificate); !errors.Is(err, certificate.ErrMismatch) {
			t.Errorf("believed without an approver: %v", err)
		}
	}
	// An address of the settings needs none, and its certificates carry none.
	named := h.order(1, "none")
	named.Order.ID, named.Approval = "named", good
	births, _, err = run(t.Context(), &h.flow, named)
	must(t, err)
	if v, err := trust.VerifyBirth(births[0].Certificate); err != nil || v.Approval != "" {
		t.Errorf("%v, %q", err, v.Approval)
	}
	for name, approval := range map[string]string{
		"none": "", "no envelope": "x", "of a stranger": sign(stranger, nil),
		"of another address":   sign(otto, func(a *certificate.AddressApproval) { a.Address = eth.Address{8} }),
		"of another network":   sign(otto, func(a *certificate.AddressApproval) { a.Network = "sepolia" }),
		"that ended":           sign(otto, func(a *certificate.AddressApproval) { a.NotAfter = now.Add(-time.Second) }),
		"under another's name": sign(otto, func(a *certificate.AddressApproval) { a.Name = "cold" }),
		"of tomorrow":          sign(otto, func(a *certificate.AddressApproval) { a.NotBefore = now.Add(time.Minute) }),
	} {
		births, _, err := run(t.Context(), &h.flow, order("bad", approval))
		if !errors.Is(err, birth.ErrOrder) || len(births) > 0 {
			t.Errorf("an approval %s: %d births, %v", name, len(births), err)
		}
	}
	h.flow.Approvers = nil
	if _, _, err := run(t.Context(), &h.flow, order("bad", good)); !errors.Is(err, birth.ErrOrder) {
		t.Errorf("settings without approvers: %v", err)
	}
}
