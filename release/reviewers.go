package release

import (
	"context"

	"github.com/stakeseal/stakeseal/certificate"
)

// Reviewer is an approval that a release rests on, by its digest. By is "" where
// the approval itself is not at hand: a release statement names reviews by their
// digests only.
type Reviewer struct {
	Digest certificate.Hash `json:"review"`
	By     string           `json:"by,omitempty"`
	Report certificate.Hash `json:"report_sha256,omitzero"`
}

// Reviewers are the approvals that a release statement names, as far as they lie
// in a store, each verified by its signer's key in the trust file. One that lies
// there and is another is passed over: it is not the one that was named.
func Reviewers(ctx context.Context, at Store, trust *certificate.Trust, pkg certificate.Hash, named []certificate.Hash) []Reviewer {
	list := make([]Reviewer, len(named))
	for i, digest := range named {
		list[i].Digest = digest
	}
	for _, k := range trust.Managers {
		envelope, err := at.Get(ctx, name(pkg, "review-"+k.Key.ID()+".json"))
		if err != nil {
			continue
		}
		st, err := certificate.VerifyStatement[Review](envelope, ReviewType, []certificate.TrustedKey{ever(k)})
		if err != nil || st.Subject != pkg || st.Predicate.Decision != "approved" {
			continue
		}
		for i := range list {
			if list[i].Digest != st.Digest || list[i].By != "" { // two people's may have one digest
				continue
			}
			list[i].By, list[i].Report = k.Name, st.Predicate.Report
			if k.Revoked {
				list[i].By += " (key revoked since)"
			}
			break
		}
	}
	return list
}
