package birth_test

import (
	"reflect"
	"testing"
	"time"

	"github.com/stakeseal/stakeseal/birth"
	"github.com/stakeseal/stakeseal/certificate"
	"github.com/stakeseal/stakeseal/eth"
	"github.com/stakeseal/stakeseal/record"
)

// TestGuess: a guess agrees with its record in every field that a record has,
// is otherwise like the certificate that was given, and shares no list with
// either.
func TestGuess(t *testing.T) {
	b := record.Birth{
		Validator: record.Validator{Order: "o", Index: 4, Pubkey: eth.Pubkey{1}, Path: "m/12381/3600/4/0/0", Mnemonic: "m", Network: "hoodi",
			Credentials: eth.Credentials{1}, Deposits: []record.Deposit{{Amount: 5, Signature: eth.Signature{6}, MessageRoot: eth.Root{7}, DataRoot: eth.Root{8}}, {Amount: 9}},
			Created: time.Unix(1763800000, 0).UTC()},
		Sealing: record.Sealing{Purpose: record.Signing, Recipients: []record.Recipient{{Name: "a", Key: "k"}, {Name: "b", Key: "l"}}, Digest: record.Digest{10}},
	}
	like := certificate.Birth{
		NetworkDigest: certificate.Hash{11}, OrderDigest: certificate.Hash{12}, Index: 3, Pubkey: eth.Pubkey{13}, Order: "another", Path: "another",
		Mnemonic: certificate.MnemonicRef{ID: "another", Digest: certificate.Hash{14}, Recipients: certificate.Hash{15}},
		Maker:    certificate.Maker{BinaryDigest: certificate.Hash{16}, SettingsDigest: certificate.Hash{17}, Version: "v", Commit: "c", Function: "f"},
		Approval: "approval", Time: time.Unix(1, 0).UTC(),
		Deposits: []certificate.Deposit{{Amount: 1}}, Sealing: certificate.SealingRef{Generation: 2, Recipients: []certificate.Recipient{{Name: "x"}}},
	}
	before := like
	before.Deposits, before.Sealing.Recipients = []certificate.Deposit{{Amount: 1}}, []certificate.Recipient{{Name: "x"}}
	g := birth.Guess(b, like)
	if err := birth.Agrees(b, g); err != nil {
		t.Error(err)
	}
	if g.NetworkDigest != like.NetworkDigest || g.OrderDigest != like.OrderDigest || g.Maker != like.Maker || g.Approval != like.Approval ||
		g.Mnemonic.Digest != like.Mnemonic.Digest || g.Mnemonic.Recipients != like.Mnemonic.Recipients {
		t.Errorf("not like the certificate: %+v", g)
	}
	g.Deposits[0].Amount, g.Sealing.Recipients[0].Name = 99, "changed"
	if !reflect.DeepEqual(like, before) || b.Deposits[0].Amount != 5 || b.Sealing.Recipients[0].Name != "a" {
		t.Error("a guess shares memory with what it was made of")
	}
}
