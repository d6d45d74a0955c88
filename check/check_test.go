package check_test

import (
	"bytes"
	"context"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"strings"
	"testing"

	"filippo.io/age"

	"github.com/stakeseal/stakeseal/check"
	"github.com/stakeseal/stakeseal/eth"
	"github.com/stakeseal/stakeseal/eth/bls"
	"github.com/stakeseal/stakeseal/eth/keystore"
	"github.com/stakeseal/stakeseal/keygen"
	"github.com/stakeseal/stakeseal/seal"
	"github.com/stakeseal/stakeseal/secret"
	"github.com/stakeseal/stakeseal/unseal"
)

func spec(t testing.TB, kdf keystore.KDF) keygen.Spec {
	n, ok := eth.LookupNetwork("hoodi")
	if !ok {
		t.Fatal("no hoodi")
	}
	return keygen.Spec{Network: n, KDF: kdf, Plan: []eth.Gwei{1e9, 31e9},
		Credentials: eth.ExecutionCredentials(eth.Address{7}, true)}
}

func makeBatch(t testing.TB, s keygen.Spec, indexes ...uint32) []*keygen.Made {
	t.Helper()
	seed := secret.Random(64)
	defer seed.Wipe()
	maker, err := keygen.NewMaker(seed)
	if err != nil {
		t.Fatal(err)
	}
	defer maker.Wipe()
	made, err := maker.Make(context.Background(), s, indexes, nil)
	if err != nil {
		t.Fatal(err)
	}
	return made
}

func TestKnownAnswers(t *testing.T) {
	if err := check.KnownAnswers(); err != nil {
		t.Fatal(err)
	}
}

func TestGoodBatchPasses(t *testing.T) {
	for _, kdf := range []keystore.KDF{keygen.None, keystore.PBKDF2} {
		s := spec(t, kdf)
		checked, err := check.NewChecker(s).Validators(t.Context(), makeBatch(t, s, 0, 1, 77))
		if err != nil || len(checked) != 3 {
			t.Fatalf("%s: %d checked, %v", kdf, len(checked), err)
		}
	}
}

// TestEverySpoiledFieldIsRefused changes one thing of a good batch at a time.
// Each case is one that a bug in the making, a bit flip or a hostile maker
// could produce.
func TestEverySpoiledFieldIsRefused(t *testing.T) {
	s := spec(t, keystore.PBKDF2)
	other := makeBatch(t, s, 1)[0]
	wrongNetwork := s
	wrongNetwork.Network, _ = eth.LookupNetwork("mainnet")
	for name, spoil := range map[string]func(m *keygen.Made){
		"secret of another key": func(m *keygen.Made) { m.Secret = other.Secret },
		"secret zero":           func(m *keygen.Made) { m.Secret = secret.New(32) },
		"secret wiped":          func(m *keygen.Made) { m.Secret = nil },
		"secret bit":            func(m *keygen.Made) { m.Secret.Expose()[31] ^= 1 },
		"pubkey":                func(m *keygen.Made) { m.Pubkey = other.Pubkey },
		"path":                  func(m *keygen.Made) { m.Path = "m/12381/3600/2/0/0" },
		"index":                 func(m *keygen.Made) { m.Index++ },
		"credentials":           func(m *keygen.Made) { m.Credentials[31]++ },
		"deposit missing":       func(m *keygen.Made) { m.Deposits = m.Deposits[:1] },
		"deposit twice":         func(m *keygen.Made) { m.Deposits[1] = m.Deposits[0] },
		"amount":                func(m *keygen.Made) { m.Deposits[0].Amount++ },
		"message root":          func(m *keygen.Made) { m.Deposits[0].MessageRoot[0]++ },
		"data root":             func(m *keygen.Made) { m.Deposits[1].DataRoot[31]++ },
		"signature of another message": func(m *keygen.Made) {
			d := &m.Deposits[0]
			d.Signature = m.Deposits[1].Signature
			d.DataRoot = eth.DepositData{Pubkey: m.Pubkey, Credentials: m.Credentials, Amount: d.Amount, Signature: d.Signature}.Root()
		},
		"signature for another network": func(m *keygen.Made) {
			key, _ := bls.Parse(m.Secret)
			d := &m.Deposits[0]
			d.Signature = key.Sign(eth.SigningRoot(d.MessageRoot, wrongNetwork.Network.DepositDomain()))
			d.DataRoot = eth.DepositData{Pubkey: m.Pubkey, Credentials: m.Credentials, Amount: d.Amount, Signature: d.Signature}.Root()
		},
		"keystore missing":            func(m *keygen.Made) { m.Keystore = nil },
		"keystore of another":         func(m *keygen.Made) { m.Keystore = other.Keystore },
		"keystore and key of another": func(m *keygen.Made) { m.Keystore, m.KeystoreKey = other.Keystore, other.KeystoreKey },
		"keystore cut":                func(m *keygen.Made) { m.Keystore = m.Keystore[:40] },
		"keystore's derived key":      func(m *keygen.Made) { m.KeystoreKey = secret.Random(32) },
		"keystore names another pubkey": func(m *keygen.Made) {
			m.Keystore = bytes.ReplaceAll(m.Keystore, []byte(m.Pubkey.Hex()), []byte(other.Pubkey.Hex()))
		},
		"keystore's kdf weaker": func(m *keygen.Made) {
			m.Keystore = bytes.ReplaceAll(m.Keystore, []byte("262144"), []byte("1024"))
		},
		"password": func(m *keygen.Made) { m.Password = other.Password },
	} {
		t.Run(name, func(t *testing.T) {
			// The last of a batch: nothing is caught only because the first
			// keystore of an invocation is opened with its password.
			batch := makeBatch(t, s, 9, 0)
			if name == "password" {
				batch = batch[1:]
			}
			spoil(batch[len(batch)-1])
			checked, err := check.NewChecker(s).Validators(t.Context(), batch)
			if !errors.Is(err, check.ErrRefused) || checked != nil {
				t.Fatalf("got %d checked and %v, want ErrRefused", len(checked), err)
			}
		})
	}
}

func TestRepeatsAreRefused(t *testing.T) {
	s := spec(t, keystore.PBKDF2)
	c := check.NewChecker(s)
	batch := makeBatch(t, s, 0, 1)
	if _, err := c.Validators(t.Context(), batch); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Validators(t.Context(), batch[:1]); !errors.Is(err, check.ErrRefused) {
		t.Errorf("the same pubkey twice: %v", err)
	}
	none := spec(t, keygen.None)
	batch = makeBatch(t, none, 3)
	if _, err := check.NewChecker(none).Validators(t.Context(), append(batch, batch...)); !errors.Is(err, check.ErrRefused) {
		t.Errorf("the same pubkey twice in a batch: %v", err)
	}
	// A keystore where the order says none would be sealed unnoticed.
	if _, err := check.NewChecker(none).Validators(t.Context(), makeBatch(t, s, 4)); !errors.Is(err, check.ErrRefused) {
		t.Errorf("a keystore where none was asked for: %v", err)
	}
}

// TestOnlyCheckedIsSealed is the proof by parameter at run time.
func TestOnlyCheckedIsSealed(t *testing.T) {
	id, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	r, err := seal.ParseRecipient(id.Recipient().String())
	if err != nil {
		t.Fatal(err)
	}
	to, err := seal.NewRecipients(seal.Signing, seal.Named{Name: "a", Recipient: r})
	if err != nil {
		t.Fatal(err)
	}
	var zero check.Checked
	if _, err := zero.Seal(t.Context(), to, "hoodi", "o"); !errors.Is(err, check.ErrUnchecked) {
		t.Errorf("zero Checked: %v", err)
	}
	var none *check.Checked
	if _, err := none.Seal(t.Context(), to, "hoodi", "o"); !errors.Is(err, check.ErrUnchecked) {
		t.Errorf("nil Checked: %v", err)
	}
	var sealed check.Sealed
	if _, err := sealed.Public(); !errors.Is(err, check.ErrUnchecked) {
		t.Errorf("zero Sealed: %v", err)
	}

	s := spec(t, keystore.PBKDF2)
	batch := makeBatch(t, s, 5)
	raw, want := batch[0].Secret.Expose(), batch[0].Pubkey
	checked, err := check.NewChecker(s).Validators(t.Context(), batch)
	if err != nil {
		t.Fatal(err)
	}
	out, err := checked[0].Seal(t.Context(), to, "hoodi", "o")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(raw, make([]byte, 32)) {
		t.Error("the secret was not wiped after sealing")
	}
	if _, err := checked[0].Seal(t.Context(), to, "hoodi", "o"); !errors.Is(err, check.ErrUnchecked) {
		t.Errorf("sealed twice: %v", err)
	}
	public, err := out.Public()
	if err != nil {
		t.Fatal(err)
	}
	opened, err := unseal.NewOpener(unseal.Age(id, "a")).Key(t.Context(), public.File, seal.SigningBinding("hoodi", "o", 5, want))
	if err != nil {
		t.Fatal(err)
	}
	if opened.Keystore == nil || opened.Password.Len() != 64 {
		t.Error("the sealed secret lacks its keystore or password")
	}
	opened.Wipe()
}

// TestCallsNothingOfKeygen: check knows keygen's types and calls none of its
// functions; else a mistake in the making would be made twice.
func TestCallsNothingOfKeygen(t *testing.T) {
	entries, err := os.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	allowed := map[string]bool{"Spec": true, "Made": true, "Deposit": true, "None": true}
	files := 0
	for _, entry := range entries {
		if !strings.HasSuffix(entry.Name(), ".go") || strings.HasSuffix(entry.Name(), "_test.go") {
			continue
		}
		files++
		file, err := parser.ParseFile(token.NewFileSet(), entry.Name(), nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(file, func(n ast.Node) bool {
			if s, ok := n.(*ast.SelectorExpr); ok {
				if x, ok := s.X.(*ast.Ident); ok && x.Name == "keygen" && !allowed[s.Sel.Name] {
					t.Errorf("%s uses keygen.%s", entry.Name(), s.Sel.Name)
				}
				// Nor eth's own domains and signing roots, which the making uses.
				switch s.Sel.Name {
				case "DepositDomain", "SigningRoot", "ComputeDomain":
					t.Errorf("%s uses %s of eth", entry.Name(), s.Sel.Name)
				}
			}
			return true
		})
	}
	if files < 3 {
		t.Fatalf("looked at %d files only", files)
	}
}
