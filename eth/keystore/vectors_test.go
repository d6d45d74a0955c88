package keystore_test

import (
	"context"
	"testing"

	"github.com/stakeseal/stakeseal/eth/bls"
	"github.com/stakeseal/stakeseal/eth/internal/vectors"
	"github.com/stakeseal/stakeseal/eth/keystore"
	"github.com/stakeseal/stakeseal/secret"
)

// TestDepositKeystores opens keystores that another tool made (two layouts of
// the file) and derives their pubkeys from what is inside.
func TestDepositKeystores(t *testing.T) {
	if testing.Short() {
		t.Skip("three scrypt keystores: not with -short")
	}
	for _, c := range []struct{ pattern, password string }{
		{"deposit/withdrawal_credentials_bls/hoodi/keystore-*.json", "testtesttest"},
		{"deposit/multiple_validators/sepolia/keystore-m_12381_3600_2_*.json", "blablatesttest"},
		{"deposit/withdrawal_credentials_execution/hoodi/keystore-*.json", "anothertesttest"},
	} {
		names := vectors.Glob(t, c.pattern)
		data := vectors.Read(t, names[0])
		k, err := keystore.Parse(data)
		if err != nil {
			t.Errorf("%s: %v", names[0], err)
			continue
		}
		raw, err := k.Open(context.Background(), secret.Copy([]byte(c.password)))
		if err != nil {
			t.Errorf("%s: %v", names[0], err)
			continue
		}
		key, err := bls.Parse(raw)
		if err != nil {
			t.Errorf("%s: %v", names[0], err)
			continue
		}
		if key.Pubkey() != k.Pubkey() {
			t.Errorf("%s: key of %s, not of %s", names[0], key.Pubkey(), k.Pubkey())
		}
	}
	// every file parses, whoever made it
	for _, name := range vectors.Glob(t, "deposit/*/*/keystore-*.json") {
		if _, err := keystore.Parse(vectors.Read(t, name)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}
