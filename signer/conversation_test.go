package signer_test

import (
	"fmt"
	"testing"

	"github.com/stakeseal/stakeseal/eth"
)

// How clients ask: the headers they send, and the spelling of the signing
// root that they computed themselves.
var asClients = []struct {
	name, accept, root string
}{
	{"lighthouse", "application/json", "signingRoot"},
	{"prysm", "", "signingRoot"},
	{"teku", "application/json", "signingRoot"},
	{"lodestar", "application/json", "signingRoot"},
	{"nimbus", "text/plain", "signing_root"},
}

// TestConversation is two epochs of a validator client's requests, in their
// order, over HTTP: every duty is signed the first time, the very same again
// is signed again (a client that saw no answer asks once more), and no other
// of its place.
func TestConversation(t *testing.T) {
	for _, client := range asClients {
		t.Run(client.name, func(t *testing.T) {
			b := newBench(t, 3, nil)
			asked := 0
			ask := func(key eth.Pubkey, body map[string]any, want int) {
				t.Helper()
				asked++
				header := []string{"User-Agent", client.name}
				if client.accept != "" {
					header = append(header, "Accept", client.accept)
				}
				root, err := request(t, body).SigningRoot(hoodi)
				if err != nil {
					t.Fatal(err)
				}
				body[client.root] = root.String()
				a := b.sign(t, key, body, header...)
				if a.status != want || want == 200 && !good(t, key, body, signatureOf(t, a)) {
					t.Errorf("%v of %v: %d %s", body["type"], key, a.status, a.body)
				}
			}
			of := func(kind, member string, message map[string]any) map[string]any {
				return map[string]any{"type": kind, "fork_info": forkInfo(), member: message}
			}
			for i, key := range b.keys { // at its start: where fees go
				ask(key, map[string]any{"type": "VALIDATOR_REGISTRATION", "validator_registration": map[string]any{
					"fee_recipient": fmt.Sprintf("0x%x", own[:]), "gas_limit": "36000000", "timestamp": fmt.Sprint(1742213400 + i), "pubkey": key.String()}}, 200)
			}
			for slot := uint64(epochNow * 32); slot < (epochNow+2)*32; slot++ {
				epoch, at := slot/32, fmt.Sprint(slot)
				for i, key := range b.keys {
					if slot%32 == uint64(i*7) { // its turn to propose
						ask(key, of("RANDAO_REVEAL", "randao_reveal", map[string]any{"epoch": fmt.Sprint(epoch)}), 200)
						ask(key, block(slot, 1), 200)
						ask(key, block(slot, 1), 200)
						ask(key, block(slot, 2), 412)
					}
					if slot%32 == uint64(i*9+1) { // to attest, and to aggregate
						vote := attestation(epoch-1, epoch, 1)
						vote["attestation"].(map[string]any)["slot"] = at
						ask(key, vote, 200)
						ask(key, vote, 200)
						other := attestation(epoch-1, epoch, 2)
						other["attestation"].(map[string]any)["slot"] = at
						ask(key, other, 412)
						ask(key, of("AGGREGATION_SLOT", "aggregation_slot", map[string]any{"slot": at}), 200)
						ask(key, of("AGGREGATE_AND_PROOF_V2", "aggregate_and_proof", map[string]any{"version": "FULU", "data": map[string]any{
							"aggregator_index": "5", "selection_proof": hexOf(96, 3), "aggregate": map[string]any{
								"aggregation_bits": "0xff01", "committee_bits": hexOf(8, 1), "signature": hexOf(96, 4), "data": vote["attestation"]}}}), 200)
					}
				}
				if slot%8 == 0 { // one of them is in the sync committee
					key := b.keys[2]
					ask(key, of("SYNC_COMMITTEE_MESSAGE", "sync_committee_message", map[string]any{"beacon_block_root": hexOf(32, byte(slot)), "slot": at}), 200)
					ask(key, of("SYNC_COMMITTEE_SELECTION_PROOF", "sync_aggregator_selection_data", map[string]any{"slot": at, "subcommittee_index": "2"}), 200)
					ask(key, of("SYNC_COMMITTEE_CONTRIBUTION_AND_PROOF", "contribution_and_proof", map[string]any{
						"aggregator_index": "5", "selection_proof": hexOf(96, 3), "contribution": map[string]any{
							"slot": at, "beacon_block_root": hexOf(32, byte(slot)), "subcommittee_index": "2", "aggregation_bits": hexOf(16, 0x55), "signature": hexOf(96, 4)}}), 200)
				}
			}
			if asked < 80 {
				t.Errorf("only %d requests", asked)
			}
			for m, err := range b.ledger.Marks(ctx) {
				if err != nil || m.Target != epochNow+1 || m.Slot/32 != epochNow+1 {
					t.Errorf("%+v, %v", m, err)
				}
			}
		})
	}
}
