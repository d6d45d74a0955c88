package check

import (
	"context"
	"encoding/hex"
	"fmt"

	"github.com/stakeseal/stakeseal/eth"
	"github.com/stakeseal/stakeseal/eth/bls"
	"github.com/stakeseal/stakeseal/eth/keystore"
	"github.com/stakeseal/stakeseal/secret"
)

// KnownAnswers recomputes published results once at start: a build whose
// primitives are broken (a miscompiled curve, a wrong CPU feature) must not
// make a single key. It takes about two milliseconds.
func KnownAnswers() error {
	for _, known := range []struct {
		what string
		same func() (bool, error)
	}{
		{"EIP-2333 derivation", derivesAsPublished},
		{"BLS verification", refusesForgery},
		{"EIP-2335 keystore", opensAsPublished},
		{"deposit domain", domainAsPublished},
	} {
		same, err := known.same()
		if err != nil {
			return fmt.Errorf("known answer of %s: %w", known.what, err)
		}
		if !same {
			return fmt.Errorf("known answer of %s: this build computes something else, it must not make keys", known.what)
		}
	}
	return nil
}

func unhex(s string) []byte {
	b, err := hex.DecodeString(s)
	if err != nil {
		panic("check: a constant of this file is not hex")
	}
	return b
}

// derivesAsPublished: EIP-2333, test case 0, at child index 0.
func derivesAsPublished() (bool, error) {
	seed := secret.Take(unhex("c55257c360c07c72029aebc1b53c05ed0362ada38ead3e3e9efa3708e53495531f09a6987599d18264c1e1c92f2cf141630c7a3c4ab7c81b2f001698e7463b04"))
	key, err := bls.FromSeed(seed, "m/0")
	if err != nil {
		return false, err
	}
	defer key.Wipe()
	raw := key.Raw()
	defer raw.Wipe()
	return hex.EncodeToString(raw.Expose()) == "2d18bd6c14e6d15bf8b5085c9b74f3daae3b03cc2014770a599d8c1539e50f8e", nil
}

// refusesForgery signs, verifies, and expects a changed message to fail: a
// verifier that says yes to everything must not stand behind the check.
func refusesForgery() (bool, error) {
	raw := secret.New(32)
	raw.Expose()[31] = 1
	key, err := bls.Parse(raw)
	if err != nil {
		return false, err
	}
	defer key.Wipe()
	claim := bls.Claim{Pubkey: key.Pubkey(), Root: eth.Root{1}, Signature: key.Sign(eth.Root{1})}
	other := claim
	other.Root[0]++
	return bls.Verify(claim) && bls.VerifyBatch([]bls.Claim{claim, claim}) == nil &&
		!bls.Verify(other) && bls.VerifyBatch([]bls.Claim{claim, other}) != nil, nil
}

// opensAsPublished opens keystores whose secret is known, one of each KDF,
// with parameters small enough for every start. They were made with OpenSSL,
// not with this program.
func opensAsPublished() (bool, error) {
	for _, text := range knownKeystores {
		got, err := keystore.Open(context.Background(), []byte(text), secret.Copy([]byte("stakeseal known answer")))
		if err != nil {
			return false, err
		}
		same := hex.EncodeToString(got.Expose()) == "000000000019d6689c085ae165831e934ff763ae46a2a6c172b3f1b60a8ce26f"
		got.Wipe()
		if !same {
			return false, nil
		}
	}
	return true, nil
}

// domainAsPublished: the deposit domain of mainnet, which any deposit on the
// chain was signed under.
func domainAsPublished() (bool, error) {
	domain := depositDomain(eth.Version{})
	return hex.EncodeToString(domain[:]) == "03000000f5a5fd42d16a20302798ef6ed309979b43003d2320d9f0e8ea9831a9", nil
}

var knownKeystores = []string{
	`{"crypto":{"kdf":{"function":"pbkdf2","params":{"dklen":32,"c":64,"prf":"hmac-sha256","salt":"0ab6b824a61119a9001fbd57bcabaa255869e2debed5aa986431787bebc1f54e"},"message":""},"checksum":{"function":"sha256","params":{},"message":"fd8fadb63da77253fda10c4c22ac62307cbc973cc20834092e68e2eb6979aae2"},"cipher":{"function":"aes-128-ctr","params":{"iv":"9be82e4c741d2de1eec6403af6a4076d"},"message":"644d88b0213b50561aca79264c933733db544b6ab6a8b29e2d426be3832c6e3f"}},"description":"","pubkey":"9612d7a727c9d0a22e185a1c768478dfe919cada9266988cb32359c11f2b7b27f4ae4040902382ae2910c15e2b420d07","path":"","uuid":"1d85ae20-35c5-4611-98e8-aa14a633906f","version":4}`,
	`{"crypto":{"kdf":{"function":"scrypt","params":{"dklen":32,"n":64,"r":8,"p":1,"salt":"8181c6f586417ef4dbeeeb762ba7213ec4f05fae60f2f9b6634301109242118e"},"message":""},"checksum":{"function":"sha256","params":{},"message":"4f49377264a5e781d4777ebec51f4e5167f4a243c39cc50baa70bcbd97d9e925"},"cipher":{"function":"aes-128-ctr","params":{"iv":"827730189f9859112c7b8a8ce925432f"},"message":"5d23f75fb8fd7dc0ac9d2ab6a99fedb9e05187b0e6c1dc58c793ca77b9f5cd79"}},"description":"","pubkey":"9612d7a727c9d0a22e185a1c768478dfe919cada9266988cb32359c11f2b7b27f4ae4040902382ae2910c15e2b420d07","path":"","uuid":"1d85ae20-35c5-4611-98e8-aa14a633906f","version":4}`,
}
