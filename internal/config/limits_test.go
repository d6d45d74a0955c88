package config

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"filippo.io/age"

	"github.com/stakeseal/stakeseal/certificate"
	"github.com/stakeseal/stakeseal/eth"
	"github.com/stakeseal/stakeseal/record"
	"github.com/stakeseal/stakeseal/record/recordtest"
	"github.com/stakeseal/stakeseal/seal"
	"github.com/stakeseal/stakeseal/secret"
)

// nobody signs with a signature of the right size: these tests are about
// sizes.
type nobody struct{}

func (nobody) Sign(context.Context, []byte) ([]byte, error) { return make([]byte, 64), nil }
func (nobody) KeyID() (string, error)                       { return strings.Repeat("a", 64), nil }

// The settings must not allow an order whose receipt cannot be written: it
// would show when all its keys exist.
func TestReceiptOfLargestOrder(t *testing.T) {
	hoodi, _ := eth.LookupNetwork("hoodi")
	r := certificate.Receipt{Network: hoodi.Name, NetworkDigest: hoodi.Digest(), Order: strings.Repeat("o", 64), OrderDigest: certificate.Hash{1},
		SettingsDigest: certificate.Hash{1}, Count: maxOrder, To: maxOrder, Time: time.Date(2026, 11, 22, 0, 0, 0, 0, time.UTC)}
	// Ids of mnemonics as long as they may be, and a mnemonic for every
	// hundredth validator: a run that was resumed a thousand times.
	for i := range uint32(maxOrder) {
		v := certificate.ReceiptValidator{Index: i, Mnemonic: fmt.Sprintf("%064d", i/100)}
		binary.BigEndian.PutUint32(v.Pubkey[:], i+1)
		binary.BigEndian.PutUint32(v.Certificate[:], i+1)
		if i%100 == 0 {
			r.Mnemonics = append(r.Mnemonics, certificate.ReceiptMnemonic{ID: v.Mnemonic, From: i, To: maxOrder, Digest: certificate.Hash{2}})
		}
		r.Validators = append(r.Validators, v)
	}
	envelope, err := certificate.SignReceipt(t.Context(), nobody{}, r)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := certificate.Digest(envelope); err != nil {
		t.Error(err)
	}
}

// Nor a list of recipients so long that a birth sealed to it is no record.
func TestBirthOfMostRecipients(t *testing.T) {
	text := strings.Replace(generatorText, "[signer-a]", "["+strings.Join(manyNames(seal.MaxRecipients), ", ")+"]", 1)
	files := map[string]string{GeneratorFile: text}
	for _, name := range append(manyNames(seal.MaxRecipients), "anna", "vault") {
		id, err := age.GenerateHybridIdentity()
		if err != nil {
			t.Fatal(err)
		}
		files["recipients/"+name+".txt"] = id.Recipient().String() + "\n"
	}
	g, err := LoadGenerator(folder(files))
	if err != nil {
		t.Fatal(err)
	}
	signing, _, err := g.SealTo(seal.ParseRecipientFile)
	if err != nil {
		t.Fatal(err)
	}
	o := recordtest.Order("o1", 1)
	b := recordtest.Birth(o, recordtest.Mnemonic(o, "m1"), 0, "")
	body := secret.Take([]byte(strings.Repeat("x", 2000)))
	defer body.Wipe()
	if b.Sealing.File, err = signing.Seal(t.Context(), seal.SigningBinding("hoodi", "o1", 0, b.Pubkey), body); err != nil {
		t.Fatal(err)
	}
	b.Sealing.Digest, b.Sealing.Recipients = record.DigestOf(b.Sealing.File), nil
	statement := certificate.Birth{Network: "hoodi", NetworkDigest: certificate.Hash{1}, Pubkey: b.Pubkey, Credentials: eth.ExecutionCredentials(eth.Address{1}, false),
		Order: "o1", OrderDigest: certificate.Hash{1}, Path: b.Path, Time: b.Created,
		Mnemonic: certificate.MnemonicRef{ID: "m1", Digest: certificate.Hash{1}, Recipients: certificate.Hash{1}},
		Sealing:  certificate.SealingRef{Purpose: "signing", Digest: certificate.Hash(b.Sealing.Digest)},
		Maker:    certificate.Maker{BinaryDigest: certificate.Hash{1}, SettingsDigest: certificate.Hash{1}, Version: "0.1.0"}}
	for _, n := range signing.Names() {
		b.Sealing.Recipients = append(b.Sealing.Recipients, record.Recipient{Name: n.Name, Key: n.Recipient.String()})
		statement.Sealing.Recipients = append(statement.Sealing.Recipients, certificate.Recipient{Name: n.Name, Key: n.Recipient.String()})
	}
	message := eth.DepositMessage{Pubkey: b.Pubkey, Credentials: statement.Credentials, Amount: 32e9}
	data := eth.DepositData{Pubkey: b.Pubkey, Credentials: statement.Credentials, Amount: 32e9}
	statement.Deposits = []certificate.Deposit{{Amount: 32e9, MessageRoot: message.Root(), DataRoot: data.Root()}}
	if b.Certificate, err = certificate.SignBirth(t.Context(), nobody{}, statement); err != nil {
		t.Fatal(err)
	}
	encoded, err := record.EncodeBirth(b)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d bytes of %d", len(encoded), record.MaxRecord)
}

// SealTo: each program says which recipients it knows; what cannot be sealed
// to is ErrSettings.
func TestSealTo(t *testing.T) {
	key := func() string {
		id, err := age.GenerateHybridIdentity()
		if err != nil {
			t.Fatal(err)
		}
		return id.Recipient().String() + "\n"
	}
	classic, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	signer, anna, vault := key(), key(), key()
	for _, c := range []struct {
		name                string
		signer, anna, vault string
		want                string
	}{
		{"good", signer, anna, vault, ""},
		{"one key for both purposes", signer, anna, signer, "recipients signer-a and vault are one key"},
		{"one key under two names", signer, anna, anna, "seal_to recovery"},
		{"kinds mixed", signer, anna, classic.Recipient().String(), "seal_to recovery"},
		{"kinds apart", classic.Recipient().String(), anna, vault, ""},
		{"a program", "age1yubikey1qwt50d05nh5vutpdzmlg5wn80xq5negm4uj9ghv0snvdd3yysf5yw3rhl3t", anna, vault, "recipient signer-a"},
		{"nothing", "# nobody\n", anna, vault, "recipient signer-a"},
	} {
		g, err := LoadGenerator(folder(map[string]string{"recipients/signer-a.txt": c.signer, "recipients/anna.txt": c.anna, "recipients/vault.txt": c.vault}))
		if err != nil {
			t.Fatal(err)
		}
		signing, recovery, err := g.SealTo(seal.ParseRecipientFile)
		if c.want == "" {
			if err != nil || signing.Purpose() != seal.Signing || recovery.Purpose() != seal.Recovery || len(signing.Names()) != 1 || len(recovery.Names()) != 2 {
				t.Errorf("%s: %v", c.name, err)
			}
			continue
		}
		if !errors.Is(err, ErrSettings) || !strings.Contains(err.Error(), c.want) || signing != nil || recovery != nil {
			t.Errorf("%s: got %v, want %q", c.name, err, c.want)
		}
	}
}
