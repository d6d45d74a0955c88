package birth

import (
	"fmt"

	"github.com/stakeseal/stakeseal/certificate"
	"github.com/stakeseal/stakeseal/eth"
)

// approve refuses a withdrawal address that neither the settings nor an
// approver that they name allow, and returns the approval that the
// certificates carry: "" for an address of the settings, which needs none,
// whatever the request brought.
func (f *Flow) approve(address eth.Address, approval string) (string, error) {
	for _, a := range f.Addresses {
		if a == address {
			return "", nil
		}
	}
	if approval == "" {
		return "", fmt.Errorf("%w: the withdrawal address %v is not among those that the settings allow", ErrOrder, address)
	}
	if len(f.Approvers) == 0 {
		return "", fmt.Errorf("%w: the withdrawal address %v is not among those that the settings allow, and they name nobody who could approve it", ErrOrder, address)
	}
	a, _, err := certificate.VerifyAddressApproval([]byte(approval), f.Approvers, f.Network, address, f.Now().UTC())
	if err == nil {
		err = certificate.CheckApprovedName(a, f.Addresses)
	}
	if err != nil {
		return "", fmt.Errorf("%w: the withdrawal address %v is not among those that the settings allow, and its approval: %w", ErrOrder, address, err)
	}
	return approval, nil
}
