package check_test

import (
	"context"
	"errors"
	"testing"

	"github.com/stakeseal/stakeseal/check"
	"github.com/stakeseal/stakeseal/eth"
	"github.com/stakeseal/stakeseal/eth/keystore"
	"github.com/stakeseal/stakeseal/keygen"
	"github.com/stakeseal/stakeseal/secret"
)

// Only what a Checker passed gives a keystore, once, and the secrets are gone
// afterwards.
func TestKeystoreOfChecked(t *testing.T) {
	if _, _, err := new(check.Checked).Keystore(); !errors.Is(err, check.ErrUnchecked) {
		t.Errorf("the zero value: %v", err)
	}
	if _, _, err := (*check.Checked)(nil).Keystore(); !errors.Is(err, check.ErrUnchecked) {
		t.Errorf("nil: %v", err)
	}
	network, _ := eth.LookupNetwork("hoodi")
	maker, err := keygen.NewMaker(secret.Random(64))
	if err != nil {
		t.Fatal(err)
	}
	defer maker.Wipe()
	for _, kdf := range []keystore.KDF{keystore.PBKDF2, keygen.None} {
		spec := keygen.Spec{Network: network, Credentials: eth.ExecutionCredentials(eth.Address{19: 1}, false),
			Plan: []eth.Gwei{32e9}, KDF: kdf}
		made, err := maker.Make(context.Background(), spec, []uint32{7}, secret.Copy([]byte("eight chars")))
		if err != nil {
			t.Fatal(err)
		}
		checked, err := check.NewChecker(spec).Validators(context.Background(), made)
		if err != nil {
			t.Fatal(err)
		}
		public, file, err := checked[0].Keystore()
		if kdf == keygen.None {
			if err == nil || file != nil {
				t.Errorf("none: a keystore out of nothing, %v", err)
			}
		} else if err != nil || public.Pubkey != made[0].Pubkey || public.Index != 7 || len(public.Deposits) != 1 {
			t.Errorf("%+v, %v", public, err)
		} else if k, err := keystore.Parse(file); err != nil || k.Pubkey() != public.Pubkey {
			t.Errorf("the keystore: %v", err)
		}
		if made[0].Secret.Len() != 0 || made[0].Password.Len() != 0 || made[0].KeystoreKey.Len() != 0 {
			t.Errorf("%s: a secret is still there", kdf)
		}
		if _, _, err := checked[0].Keystore(); !errors.Is(err, check.ErrUnchecked) {
			t.Errorf("twice: %v", err)
		}
	}
}
