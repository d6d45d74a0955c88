package certificate

import (
	"context"
	"crypto/sha256"
	"fmt"
	"regexp"
	"time"

	"github.com/stakeseal/stakeseal/eth"
)

// AddressApprovalType is the predicate type of an address approval.
const AddressApprovalType = "https://stakeseal.dev/address-approval/v1"

// maxApproval bounds the envelope of an address approval, bytes.
const maxApproval = 8 << 10

// AddressApproval is what an approver signs: that validators may be made for
// this withdrawal address, on this network, without a release that names it.
// Who may approve stands in the settings, and so in a release. The order of
// the fields is the order of the JSON; the subject is the address.
type AddressApproval struct {
	Name          string      `json:"name"` // what verdicts call the address
	Address       eth.Address `json:"address"`
	Network       string      `json:"network"`
	NetworkDigest Hash        `json:"network_digest"`
	NotBefore     time.Time   `json:"not_before"`
	NotAfter      time.Time   `json:"not_after"` // an approval ends: a lost one cannot be called back everywhere
	Time          time.Time   `json:"time"`
}

var addressNameRule = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{0,63}$`) // as in the settings

func (a AddressApproval) check() error {
	if !addressNameRule.MatchString(a.Name) {
		return fmt.Errorf("%w: address name %q: up to 64 of a-z, 0-9, '.', '_' and '-', beginning with a letter or digit", ErrFormat, clip(a.Name))
	}
	if err := CheckText("network", a.Network, maxText, false); err != nil {
		return err
	}
	if a.Address == (eth.Address{}) || a.NetworkDigest.IsZero() {
		return fmt.Errorf("%w: the approval has no address, or no network_digest", ErrFormat)
	}
	for _, at := range []time.Time{a.NotBefore, a.NotAfter, a.Time} {
		if err := CheckTime(at); err != nil {
			return err
		}
	}
	if a.NotAfter.Before(a.NotBefore) {
		return fmt.Errorf("%w: the approval ends before it begins", ErrFormat)
	}
	return nil
}

func addressSubject(a eth.Address) (string, Hash) { return a.String(), sha256.Sum256(a[:]) }

// SignAddressApproval returns an address approval, a DSSE envelope, one line.
func SignAddressApproval(ctx context.Context, s Signer, a AddressApproval) ([]byte, error) {
	if err := a.check(); err != nil {
		return nil, fmt.Errorf("couldn't approve: %w", err)
	}
	name, digest := addressSubject(a.Address)
	envelope, err := SignStatement(ctx, s, AddressApprovalType, name, digest, a)
	if err != nil {
		return nil, err
	}
	if len(envelope) > maxApproval {
		return nil, fmt.Errorf("couldn't approve: %w: the approval has %d bytes, more than %d", ErrFormat, len(envelope), maxApproval)
	}
	return envelope, nil
}

// VerifyAddressApproval judges an approval: signed by one of the approvers,
// whose key was valid when it did, for this network and address, and valid at
// the time. The error is of class ErrFormat, ErrSignature, ErrMismatch or
// ErrUntrusted.
func VerifyAddressApproval(envelope []byte, approvers []TrustedKey, network eth.Network, address eth.Address, at time.Time) (AddressApproval, TrustedKey, error) {
	fail := func(err error) (AddressApproval, TrustedKey, error) { return AddressApproval{}, TrustedKey{}, err }
	if len(envelope) > maxApproval {
		return fail(fmt.Errorf("%w: the approval has %d bytes, more than %d", ErrFormat, len(envelope), maxApproval))
	}
	st, err := VerifyStatement[AddressApproval](envelope, AddressApprovalType, approvers)
	if err != nil {
		return fail(err)
	}
	a := st.Predicate
	if err := a.check(); err != nil {
		return fail(err)
	}
	if name, digest := addressSubject(a.Address); st.Name != name || st.Subject != digest {
		return fail(fmt.Errorf("%w: the approval's subject is not its address", ErrMismatch))
	}
	if a.Address != address {
		return fail(fmt.Errorf("%w: the approval is of address %s, not %s", ErrMismatch, a.Address, address))
	}
	if a.Network != network.Name || a.NetworkDigest != Hash(network.Digest()) {
		return fail(fmt.Errorf("%w: the approval is for network %q with other parameters, or another network, than %q", ErrMismatch, clip(a.Network), network.Name))
	}
	if err := (Validity{NotBefore: a.NotBefore, NotAfter: a.NotAfter}).ValidAt(at); err != nil {
		return fail(fmt.Errorf("the approval of %s: %w", a.Name, err))
	}
	for _, k := range st.By {
		if err := k.ValidAt(a.Time); err != nil {
			return fail(fmt.Errorf("approver %q: %w", k.Name, err))
		}
	}
	return a, st.By[0], nil
}

// CheckApprovedName refuses (ErrMismatch) an approval that calls its address by
// a name which stands for another address: people read the name, and an
// approver could pass off an address as the one that they know.
func CheckApprovedName(a AddressApproval, named map[string]eth.Address) error {
	if known, taken := named[a.Name]; taken && known != a.Address {
		return fmt.Errorf("%w: the approval calls %s %q, which is the name of %s", ErrMismatch, a.Address, a.Name, known)
	}
	return nil
}

// approvedAddress reads the approval in a birth without judging who signed it:
// a certificate does not contradict itself.
func approvedAddress(envelope string) (AddressApproval, error) {
	e, err := parseEnvelope([]byte(envelope), maxApproval)
	if err != nil {
		return AddressApproval{}, err
	}
	st, err := decode[AddressApproval](e.payload, AddressApprovalType)
	if err != nil {
		return AddressApproval{}, err
	}
	return st.Predicate, st.Predicate.check()
}

// ApprovalName is what an approval calls its address. It verifies no
// signature.
func ApprovalName(envelope []byte) (string, error) {
	a, err := approvedAddress(string(envelope))
	return a.Name, err
}
