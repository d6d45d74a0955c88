package signer

import (
	"net/http"
	"slices"

	"github.com/stakeseal/stakeseal/eth"
	"github.com/stakeseal/stakeseal/eth/duty"
)

// batchable are the kinds of which many are due at one moment.
var batchable = []duty.Kind{duty.Attestation, duty.SyncMessage, duty.AggregationSlot, duty.SyncSelectionProof}

// MaxBatch is how many signatures one batch may ask for.
const MaxBatch = 4096

// batch signs many duties in one request, with few writes of the ledger. It is
// ours, not Web3Signer's: docs/signing.md describes it. Each signature has an
// outcome of its own; the order is that of the request.
func (a *api) batch(w http.ResponseWriter, r *http.Request, c *Client) {
	data, done, ok := a.body(w, r)
	if !ok {
		return
	}
	groups, err := duty.ParseBatch(data, MaxBatch)
	done()
	if err != nil {
		a.Signer.Metrics.malformed.Inc()
		plainText(w, http.StatusBadRequest, err.Error())
		return
	}
	var orders []Order
	for _, g := range groups {
		if !slices.Contains(batchable, g.Request.Kind) {
			plainText(w, http.StatusBadRequest, "a batch is of "+joinKinds(batchable)+", not of "+string(g.Request.Kind))
			return
		}
		for _, pubkey := range g.Pubkeys {
			orders = append(orders, Order{pubkey, g.Request})
		}
	}
	if len(orders) > cap(a.Signer.queue) {
		plainText(w, http.StatusBadRequest, "more signatures than this signer ever lets wait")
		return
	}
	signatures, errs := a.Signer.SignAll(r.Context(), c, orders)
	if allUnavailable(errs) {
		refuse(w, errs[0])
		return
	}
	type failure struct {
		Code    int    `json:"code"`
		Message string `json:"message"`
	}
	type outcome struct {
		Identifier eth.Pubkey     `json:"identifier"`
		Signature  *eth.Signature `json:"signature,omitempty"`
		Error      *failure       `json:"error,omitempty"`
	}
	list := make([]outcome, len(orders))
	for i, o := range orders {
		list[i].Identifier = o.Pubkey
		if errs[i] == nil {
			list[i].Signature = &signatures[i]
			continue
		}
		list[i].Error = &failure{statusOf(errs[i]), wordsOf(errs[i])}
	}
	asJSON(w, http.StatusOK, list)
}

func allUnavailable(errs []error) bool {
	for _, err := range errs {
		if err == nil || statusOf(err) != http.StatusServiceUnavailable {
			return false
		}
	}
	return true
}

func joinKinds(kinds []duty.Kind) string {
	text := ""
	for i, k := range kinds {
		if i > 0 {
			text += ", "
		}
		text += string(k)
	}
	return text
}
