package keygen

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/stakeseal/stakeseal/eth"
	"github.com/stakeseal/stakeseal/eth/bls"
	"github.com/stakeseal/stakeseal/eth/keystore"
	"github.com/stakeseal/stakeseal/keygen/mnemonic"
	"github.com/stakeseal/stakeseal/secret"
)

const (
	wordsBLS    = "ski interest capable knee usual ugly duty exercise tattoo subway delay upper bid forget say"
	wordsOne    = "window lottery throw arrange visit play gate open scare strategy sadness fame soul bronze soap"
	wordsOneOff = "satisfy suit expire castle fluid must electric genuine aim clock such under basic rabbit method"
)

func maker(t testing.TB, words string) *Maker {
	t.Helper()
	text := secret.Copy([]byte(words))
	defer text.Wipe()
	phrase, err := mnemonic.Parse(text, mnemonic.English)
	if err != nil {
		t.Fatal(err)
	}
	defer phrase.Wipe()
	seed := phrase.Seed(nil)
	defer seed.Wipe()
	m, err := NewMaker(seed)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.Wipe)
	return m
}

func network(t testing.TB, name string) eth.Network {
	t.Helper()
	n, ok := eth.LookupNetwork(name)
	if !ok {
		t.Fatalf("no network %s", name)
	}
	return n
}

func address(t testing.TB, text string) eth.Address {
	t.Helper()
	a, err := eth.ParseAddress(text)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// TestVectors: from a mnemonic to every field of a deposit file that another
// program wrote, for both kinds of credentials that it knows.
func TestVectors(t *testing.T) {
	root := os.Getenv("STAKESEAL_VECTORS")
	if root == "" {
		root = filepath.Join("..", "..", "shared", "vectors")
	}
	root = filepath.Join(root, "deposit")
	if _, err := os.Stat(root); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("the deposit vectors are missing: %v", err)
		}
		t.Skipf("no deposit vectors in %s: set STAKESEAL_VECTORS", root)
	}
	one := eth.ExecutionCredentials(address(t, "0x0000000000000000000000000000000000000001"), false)
	for _, v := range []struct {
		folder, words string
		spec          Spec
		indexes       []uint32
	}{
		{"withdrawal_credentials_bls", wordsBLS, Spec{BLS: true}, []uint32{0}},
		{"withdrawal_credentials_execution", wordsOneOff, Spec{Credentials: eth.ExecutionCredentials(address(t, "0x71C7656EC7ab88b098defB751B7401B5f6d8976F"), false)}, []uint32{0}},
		{"multiple_validators", wordsOne, Spec{Credentials: one}, []uint32{0, 1, 2}},
		{"regenerate_from_seed_index", wordsOne, Spec{Credentials: one}, []uint32{1, 2}},
	} {
		for _, name := range []string{"hoodi", "sepolia"} {
			t.Run(v.folder+"/"+name, func(t *testing.T) {
				files, err := filepath.Glob(filepath.Join(root, v.folder, name, "deposit_data-*.json"))
				if err != nil || len(files) != 1 {
					t.Fatalf("%d deposit files: %v", len(files), err)
				}
				data, err := os.ReadFile(files[0])
				if err != nil {
					t.Fatal(err)
				}
				var want []map[string]any
				if err := json.Unmarshal(data, &want); err != nil || len(want) != len(v.indexes) {
					t.Fatalf("%d deposits for %d indexes: %v", len(want), len(v.indexes), err)
				}
				v.spec.Network, v.spec.Plan, v.spec.KDF = network(t, name), []eth.Gwei{32e9}, None
				made, err := maker(t, v.words).Make(t.Context(), v.spec, v.indexes, nil)
				if err != nil {
					t.Fatal(err)
				}
				for i, m := range made {
					got := map[string]string{
						"pubkey": m.Pubkey.Hex(), "withdrawal_credentials": fmt.Sprintf("%x", m.Credentials[:]), "amount": fmt.Sprint(uint64(m.Deposits[0].Amount)),
						"signature": fmt.Sprintf("%x", m.Deposits[0].Signature[:]), "deposit_message_root": fmt.Sprintf("%x", m.Deposits[0].MessageRoot[:]),
						"deposit_data_root": fmt.Sprintf("%x", m.Deposits[0].DataRoot[:]), "fork_version": fmt.Sprintf("%x", v.spec.Network.GenesisForkVersion[:]),
					}
					for field, value := range got {
						if other := strings.TrimSuffix(fmt.Sprintf("%.0f", want[i][field]), ".0"); field == "amount" && other != value || field != "amount" && want[i][field] != value {
							t.Errorf("index %d: %s is %s, want %v", m.Index, field, value, want[i][field])
						}
					}
					if m.Index != v.indexes[i] || m.Path != fmt.Sprintf("m/12381/3600/%d/0/0", m.Index) || m.Keystore != nil || m.Password != nil || m.KeystoreKey != nil {
						t.Errorf("index %d: %s, keystore %q", m.Index, m.Path, m.Keystore)
					}
					checkSecret(t, m)
					m.Wipe()
				}
			})
		}
	}
}

// checkSecret holds the secret against the pubkey.
func checkSecret(t *testing.T, m *Made) {
	t.Helper()
	if m.Secret.Len() != 32 {
		t.Fatalf("index %d: a secret of %d bytes", m.Index, m.Secret.Len())
	}
	key, err := bls.Parse(m.Secret)
	if err != nil {
		t.Fatal(err)
	}
	defer key.Wipe()
	if key.Pubkey() != m.Pubkey {
		t.Errorf("index %d: the secret is another key's", m.Index)
	}
}

// TestEveryNetwork: each amount of a plan is signed for its network and for
// no other, with roots that eth computes from the outside.
func TestEveryNetwork(t *testing.T) {
	m := maker(t, wordsOne)
	cold := address(t, "0x71C7656EC7ab88b098defB751B7401B5f6d8976F")
	custom, err := eth.NewNetwork(eth.Network{Name: "devnet-7", GenesisForkVersion: eth.Version{0x20, 0, 0, 7}, ExitForkVersion: eth.Version{0x50, 0, 0, 7}})
	if err != nil {
		t.Fatal(err)
	}
	networks := append(eth.Networks(), custom)
	seen := map[eth.Signature]bool{}
	for _, n := range networks {
		for _, s := range []Spec{
			{Credentials: eth.ExecutionCredentials(cold, false), Plan: []eth.Gwei{1e9, 31e9}},
			{Credentials: eth.ExecutionCredentials(cold, true), Plan: []eth.Gwei{1e9, 31e9, 2016e9}},
			{BLS: true, Plan: []eth.Gwei{32e9}},
		} {
			s.Network, s.KDF = n, None
			made, err := m.Make(t.Context(), s, []uint32{0, 4_294_967_295}, nil)
			if err != nil {
				t.Fatalf("%s: %v", n.Name, err)
			}
			for _, v := range made {
				if s.BLS && v.Credentials.Kind() != 0 || !s.BLS && v.Credentials != s.Credentials || len(v.Deposits) != len(s.Plan) {
					t.Fatalf("%s: credentials %s, %d deposits", n.Name, v.Credentials, len(v.Deposits))
				}
				for i, d := range v.Deposits {
					message := eth.DepositMessage{Pubkey: v.Pubkey, Credentials: v.Credentials, Amount: s.Plan[i]}
					data := eth.DepositData{Pubkey: v.Pubkey, Credentials: v.Credentials, Amount: s.Plan[i], Signature: d.Signature}
					if d.Amount != s.Plan[i] || d.MessageRoot != message.Root() || d.DataRoot != data.Root() {
						t.Fatalf("%s: deposit %d is %+v", n.Name, i, d)
					}
					if seen[d.Signature] {
						t.Fatalf("%s: deposit %d has a signature that another has", n.Name, i)
					}
					seen[d.Signature] = true
					for _, other := range networks {
						claim := bls.Claim{Pubkey: v.Pubkey, Root: eth.SigningRoot(d.MessageRoot, other.DepositDomain()), Signature: d.Signature}
						if i == 0 && bls.Verify(claim) != (other.Name == n.Name) {
							t.Errorf("%s: deposit %d counts on %s: %t", n.Name, i, other.Name, other.Name != n.Name)
						}
					}
				}
				v.Wipe()
			}
		}
	}
}

// TestKeystores: passwords of their own, 256 bits each, that open the
// keystores to the very secrets; a given password is used for all.
func TestKeystores(t *testing.T) {
	m := maker(t, wordsOne)
	spec := Spec{Network: network(t, "hoodi"), Credentials: eth.ExecutionCredentials(eth.Address{1}, false), Plan: []eth.Gwei{32e9}, KDF: keystore.PBKDF2}
	given := secret.Copy([]byte("a person's pass word"))
	for _, password := range []*secret.Bytes{nil, given} {
		made, err := m.Make(t.Context(), spec, []uint32{7, 0, 7}, password)
		if err != nil {
			t.Fatal(err)
		}
		passwords, keys, uuids := map[string]bool{}, map[string]bool{}, map[string]bool{}
		for i, v := range made {
			if want := []uint32{7, 0, 7}[i]; v.Index != want {
				t.Errorf("place %d has index %d", i, v.Index)
			}
			passwords[string(v.Password.Expose())], keys[string(v.KeystoreKey.Expose())] = true, true
			k, err := keystore.Parse(v.Keystore)
			if err != nil {
				t.Fatal(err)
			}
			uuids[k.UUID()] = true
			if k.Pubkey() != v.Pubkey || k.Path() != v.Path || k.KDF() != keystore.PBKDF2 || v.KeystoreKey.Len() != 32 {
				t.Errorf("a keystore of %s for %v, kdf %s", k.Path(), k.Pubkey(), k.KDF())
			}
			if err := k.Check(v.KeystoreKey, v.Secret); err != nil {
				t.Errorf("the derived key: %v", err)
			}
			opened, err := keystore.Open(t.Context(), v.Keystore, v.Password)
			if err != nil || !opened.Equal(v.Secret) {
				t.Errorf("index %d does not open to its secret: %v", v.Index, err)
			}
			opened.Wipe()
			checkSecret(t, v)
			if password == nil && !regexp.MustCompile(`^[0-9a-f]{64}$`).Match(v.Password.Expose()) {
				t.Error("a password that is not 64 hex digits")
			}
			if password != nil && (!v.Password.Equal(given) || &v.Password.Expose()[0] == &given.Expose()[0]) {
				t.Error("the given password is not used, or not copied")
			}
			v.Wipe()
			if v.Secret.Len()+v.Password.Len()+v.KeystoreKey.Len() != 0 || v.Keystore == nil || v.Pubkey == (eth.Pubkey{}) {
				t.Error("Wipe leaves a secret, or takes the public part")
			}
		}
		if want := map[bool]int{true: 3, false: 1}[password == nil]; len(passwords) != want || len(keys) != 3 || len(uuids) != 3 {
			t.Errorf("%d passwords, %d derived keys, %d uuids", len(passwords), len(keys), len(uuids))
		}
	}
	if given.Len() == 0 {
		t.Error("the caller's password was wiped")
	}
	(*Made)(nil).Wipe()
}

// counting is a context that ends after a number of looks at it.
type counting struct {
	context.Context
	left int
}

func (c *counting) Err() error {
	if c.left--; c.left < 0 {
		return context.Canceled
	}
	return nil
}

// TestRefused: on an error nothing is returned.
func TestRefused(t *testing.T) {
	m := maker(t, wordsOne)
	good := Spec{Network: network(t, "hoodi"), Credentials: eth.ExecutionCredentials(eth.Address{1}, false), Plan: []eth.Gwei{32e9}, KDF: None}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	for _, c := range []struct {
		name string
		ctx  context.Context
		turn func(*Spec)
		want error
	}{
		{"good", t.Context(), func(*Spec) {}, nil},
		{"ended before", ended, func(*Spec) {}, context.Canceled},
		{"ended after two", &counting{t.Context(), 2}, func(*Spec) {}, context.Canceled},
		{"ended at the keystores", &counting{t.Context(), 3}, func(s *Spec) { s.KDF = keystore.PBKDF2 }, context.Canceled},
		{"too little", t.Context(), func(s *Spec) { s.Plan = []eth.Gwei{32e9, 1e9 - 1} }, eth.ErrAmount},
		{"too much", t.Context(), func(s *Spec) { s.Plan = []eth.Gwei{33e9} }, eth.ErrAmount},
		{"nothing", t.Context(), func(s *Spec) { s.Plan = []eth.Gwei{0} }, eth.ErrAmount},
		{"unknown kdf", t.Context(), func(s *Spec) { s.KDF = "argon2" }, errAny},
		{"no kdf", t.Context(), func(s *Spec) { s.KDF = "" }, errAny},
		{"credentials of no kind", t.Context(), func(s *Spec) { s.Credentials = eth.Credentials{} }, eth.ErrCredentials},
	} {
		spec := good
		c.turn(&spec)
		made, err := m.Make(c.ctx, spec, []uint32{0, 1, 2}, nil)
		if c.want == nil {
			if err != nil || len(made) != 3 {
				t.Errorf("%s: %d, %v", c.name, len(made), err)
			}
			continue
		}
		if made != nil || err == nil || c.want != errAny && !errors.Is(err, c.want) {
			t.Errorf("%s: %d made, %v", c.name, len(made), err)
		}
	}
	for _, n := range []int{0, 31} { // EIP-2333 asks for 256 bits
		if m, err := NewMaker(secret.New(n)); err == nil || m != nil {
			t.Errorf("a seed of %d bytes was taken", n)
		}
	}
	if made, err := m.Make(t.Context(), good, nil, nil); err != nil || len(made) != 0 {
		t.Errorf("no indexes: %v", err)
	}
}

var errAny = errors.New("any error")

// TestConcurrent: one maker serves many workers, each with the same result.
func TestConcurrent(t *testing.T) {
	m := maker(t, wordsOne)
	spec := Spec{Network: network(t, "hoodi"), Credentials: eth.ExecutionCredentials(eth.Address{1}, false), Plan: []eth.Gwei{32e9}, KDF: None}
	results := make([]string, 8)
	var wg sync.WaitGroup
	for i := range results {
		wg.Go(func() {
			made, err := m.Make(t.Context(), spec, []uint32{3, 4}, nil)
			if err != nil {
				t.Error(err)
				return
			}
			for _, v := range made {
				results[i] += hex.EncodeToString(v.Deposits[0].Signature[:])
				v.Wipe()
			}
		})
	}
	wg.Wait()
	if slices.Compact(slices.Clone(results))[0] == "" || len(slices.Compact(results)) != 1 {
		t.Error("workers made different keys")
	}
}

// TestNothingPrints: a Made in a log shows no secret.
func TestNothingPrints(t *testing.T) {
	m := maker(t, wordsOne)
	made, err := m.Make(t.Context(), Spec{Network: network(t, "hoodi"), Credentials: eth.ExecutionCredentials(eth.Address{1}, false), Plan: []eth.Gwei{32e9}, KDF: keystore.PBKDF2}, []uint32{0}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer made[0].Wipe()
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x"} {
		text := fmt.Sprintf(verb, made[0]) + fmt.Sprintf(verb, *made[0]) + fmt.Sprintf(verb, m) + fmt.Sprintf(verb, made)
		for what, s := range map[string]*secret.Bytes{"secret": made[0].Secret, "password": made[0].Password, "derived key": made[0].KeystoreKey} {
			if strings.Contains(text, string(s.Expose())) || strings.Contains(strings.ToLower(text), hex.EncodeToString(s.Expose())) || strings.Contains(text, fmt.Sprint(s.Expose())) {
				t.Errorf("%s prints the %s", verb, what)
			}
		}
	}
	if _, err := json.Marshal(made[0]); !errors.Is(err, secret.ErrMarshal) {
		t.Errorf("a Made marshals: %v", err)
	}
}
