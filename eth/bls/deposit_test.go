package bls

import (
	"crypto/pbkdf2"
	"crypto/sha512"
	"encoding/json"
	"fmt"
	"testing"

	"github.com/stakeseal/stakeseal/eth"
	"github.com/stakeseal/stakeseal/eth/internal/vectors"
	"github.com/stakeseal/stakeseal/secret"
)

// TestDepositFiles makes real deposits again from their mnemonics: derivation,
// credentials, roots and signatures against files of another tool. The seed
// is BIP-39's for an ASCII mnemonic without passphrase.
func TestDepositFiles(t *testing.T) {
	const (
		many = "window lottery throw arrange visit play gate open scare strategy sadness fame soul bronze soap"
		one  = "0x0000000000000000000000000000000000000001"
	)
	checked := 0
	for _, c := range []struct {
		folder, mnemonic, address string
		start                     uint32
	}{
		{"withdrawal_credentials_bls", "ski interest capable knee usual ugly duty exercise tattoo subway delay upper bid forget say", "", 0},
		{"multiple_validators", many, one, 0},
		{"regenerate_from_seed_index", many, one, 1},
		{"withdrawal_credentials_execution", "satisfy suit expire castle fluid must electric genuine aim clock such under basic rabbit method", "0x71C7656EC7ab88b098defB751B7401B5f6d8976F", 0},
	} {
		seed, err := pbkdf2.Key(sha512.New, c.mnemonic, []byte("mnemonic"), 2048, 64)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range vectors.Glob(t, "deposit/"+c.folder+"/*/deposit_data-*.json") {
			var entries []struct {
				Pubkey             eth.Pubkey      `json:"pubkey"`
				Credentials        eth.Credentials `json:"withdrawal_credentials"`
				Amount             eth.Gwei        `json:"amount"`
				Signature          eth.Signature   `json:"signature"`
				DepositMessageRoot eth.Root        `json:"deposit_message_root"`
				DepositDataRoot    eth.Root        `json:"deposit_data_root"`
				NetworkName        string          `json:"network_name"`
			}
			if err := json.Unmarshal(vectors.Read(t, name), &entries); err != nil {
				t.Fatal(err)
			}
			var claims []Claim
			for i, e := range entries {
				path := fmt.Sprintf("m/12381/3600/%d/0", c.start+uint32(i))
				k, err := FromSeed(secret.Copy(seed), path+"/0")
				if err != nil {
					t.Fatal(err)
				}
				var credentials eth.Credentials
				if c.address == "" {
					withdrawal, err := FromSeed(secret.Copy(seed), path)
					if err != nil {
						t.Fatal(err)
					}
					credentials = eth.BLSCredentials(withdrawal.Pubkey())
				} else {
					a, err := eth.ParseAddress(c.address)
					if err != nil {
						t.Fatal(err)
					}
					credentials = eth.ExecutionCredentials(a, false)
				}
				n, ok := eth.LookupNetwork(e.NetworkName)
				if !ok {
					t.Fatalf("%s: network %q", name, e.NetworkName)
				}
				message := eth.DepositMessage{Pubkey: k.Pubkey(), Credentials: credentials, Amount: e.Amount}
				root := eth.SigningRoot(message.Root(), n.DepositDomain())
				data := eth.DepositData{Pubkey: message.Pubkey, Credentials: credentials, Amount: e.Amount, Signature: k.Sign(root)}
				if data.Pubkey != e.Pubkey || data.Credentials != e.Credentials || data.Signature != e.Signature ||
					message.Root() != e.DepositMessageRoot || data.Root() != e.DepositDataRoot {
					t.Errorf("%s[%d] isn't what we make", name, i)
				}
				claims = append(claims, Claim{e.Pubkey, root, e.Signature})
				checked++
			}
			if err := VerifyBatch(claims); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
	if checked != 14 {
		t.Errorf("%d deposits checked, want 14", checked)
	}
}
