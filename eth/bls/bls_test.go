package bls

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"strings"
	"sync"
	"testing"

	blst "github.com/supranational/blst/bindings/go"

	"github.com/stakeseal/stakeseal/eth"
	"github.com/stakeseal/stakeseal/eth/internal/vectors"
	"github.com/stakeseal/stakeseal/secret"
)

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// scalar writes a number as 32 bytes, big endian.
func scalar(n *big.Int) *secret.Bytes { return secret.Take(n.FillBytes(make([]byte, 32))) }

func decimal(t testing.TB, n json.Number) *big.Int {
	t.Helper()
	v, ok := new(big.Int).SetString(n.String(), 10)
	if !ok {
		t.Fatalf("bad number %q", n)
	}
	return v
}

// key returns a fixed key, different for each n from 1.
func key(t testing.TB, n int64) *Key {
	t.Helper()
	k, err := Parse(scalar(big.NewInt(n)))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

type treeCase struct {
	Seed        string      `json:"seed"`
	MasterSK    json.Number `json:"master_SK"`
	ChildIndex  uint32      `json:"child_index"`
	ChildSK     json.Number `json:"child_SK"`
	Lamport0    []string    `json:"lamport_0"`
	Lamport1    []string    `json:"lamport_1"`
	CompressedP string      `json:"compressed_lamport_PK"`
}

func TestEIP2333(t *testing.T) {
	var file struct {
		Tests []treeCase `json:"kdf_tests"`
	}
	if err := json.Unmarshal(vectors.Read(t, "eip2333/tree_kdf.json"), &file); err != nil {
		t.Fatal(err)
	}
	var one treeCase
	if err := json.Unmarshal(vectors.Read(t, "eip2333/tree_kdf_intermediate.json"), &one); err != nil {
		t.Fatal(err)
	}
	if len(file.Tests) < 4 {
		t.Fatalf("%d cases, want at least 4", len(file.Tests))
	}
	for i, c := range append(file.Tests, one) {
		seed := secret.Take(unhex(t, c.Seed))
		master, err := FromSeed(seed, "m")
		if err != nil {
			t.Fatal(err)
		}
		if want := scalar(decimal(t, c.MasterSK)); !master.Raw().Equal(want) {
			t.Errorf("case %d: another master key", i)
		}
		want := scalar(decimal(t, c.ChildSK))
		if !master.Child(c.ChildIndex).Raw().Equal(want) {
			t.Errorf("case %d: another child key", i)
		}
		byPath, err := FromSeed(seed, fmt.Sprintf("m/%d", c.ChildIndex))
		if err != nil || !byPath.Raw().Equal(want) {
			t.Errorf("case %d: another key by path, %v", i, err)
		}
		if got := referenceMaster(unhex(t, c.Seed)); got.Cmp(decimal(t, c.MasterSK)) != 0 {
			t.Errorf("case %d: the reference's master key is %d", i, got)
		}
	}
	// The reference below against the standard's intermediate values.
	lamport0, lamport1, compressed := referenceLamport(decimal(t, one.MasterSK), one.ChildIndex)
	for i := range one.Lamport0 {
		if !bytes.Equal(lamport0[i], unhex(t, one.Lamport0[i])) || !bytes.Equal(lamport1[i], unhex(t, one.Lamport1[i])) {
			t.Fatalf("lamport chunk %d differs", i)
		}
	}
	if len(one.Lamport0) != 255 || !bytes.Equal(compressed, unhex(t, one.CompressedP)) {
		t.Error("another compressed lamport key")
	}
}

// TestEIP2333AgainstReference compares blst with a plain transcription of the
// standard over the standard library, on fresh seeds.
func TestEIP2333AgainstReference(t *testing.T) {
	for range 20 {
		seed := make([]byte, 32+randomByte()%33)
		_, _ = rand.Read(seed)
		index := binary.BigEndian.Uint32([]byte{randomByte(), randomByte(), randomByte(), randomByte()})
		master := referenceMaster(seed)
		k, err := FromSeed(secret.Copy(seed), fmt.Sprintf("m/12381/%d", index))
		if err != nil {
			t.Fatal(err)
		}
		if want := referenceChild(referenceChild(master, 12381), index); !k.Raw().Equal(scalar(want)) {
			t.Fatalf("seed %x, m/12381/%d: blst and the reference differ", seed, index)
		}
	}
}

func randomByte() byte {
	var b [1]byte
	_, _ = rand.Read(b[:])
	return b[0]
}

func TestFromSeedRefuses(t *testing.T) {
	good := secret.Random(32)
	for _, c := range []struct {
		name string
		seed *secret.Bytes
		path string
	}{
		{"no seed", nil, "m/0"},
		{"31 bytes", secret.Random(31), "m/0"},
		{"no path", good, ""},
		{"a hardened index", good, "m/12381'/3600/0/0/0"},
		{"an index of 2^32", good, "m/4294967296"},
		{"a relative path", good, "12381/3600"},
		{"two texts for one path", good, "m/00"},
	} {
		if k, err := FromSeed(c.seed, c.path); !errors.Is(err, ErrInvalid) || k != nil {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	var e1, e2 error
	_, e1 = FromSeed(good, "m/x")
	_, e2 = FromSeed(secret.Random(8), "m")
	for _, err := range []error{e1, e2} {
		if strings.Contains(err.Error(), hex.EncodeToString(good.Expose()[:4])) {
			t.Errorf("an error carries the seed: %v", err)
		}
	}
}

// order is r, the order of the groups.
var order, _ = new(big.Int).SetString("73eda753299d7d483339d80809a1d80553bda402fffe5bfeffffffff00000001", 16)

func TestParse(t *testing.T) {
	one := big.NewInt(1)
	for _, n := range []*big.Int{one, big.NewInt(2), new(big.Int).Sub(order, one)} {
		raw := scalar(n)
		k, err := Parse(raw)
		if err != nil {
			t.Errorf("%x: %v", n, err)
			continue
		}
		if !k.Raw().Equal(raw) {
			t.Errorf("%x reads back as another key", n)
		}
	}
	largest := new(big.Int).Sub(new(big.Int).Lsh(one, 256), one)
	for _, c := range []struct {
		name string
		raw  *secret.Bytes
	}{
		{"zero", scalar(new(big.Int))},
		{"r", scalar(order)},
		{"r+1", scalar(new(big.Int).Add(order, one))},
		{"2^256-1", scalar(largest)},
		{"31 bytes", secret.Random(31)},
		{"33 bytes", secret.New(33)},
		{"empty", secret.New(0)},
		{"nil", nil},
	} {
		if k, err := Parse(c.raw); !errors.Is(err, ErrInvalid) || k != nil {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	// r-1 and 1 are each other's negatives: same x, other sign bit
	a, b := key(t, 1).Pubkey(), eth.Pubkey{}
	if k, err := Parse(scalar(new(big.Int).Sub(order, one))); err == nil {
		b = k.Pubkey()
	}
	if a[0]^b[0] != 0x20 || !bytes.Equal(a[1:], b[1:]) {
		t.Errorf("pubkeys of 1 and r-1: %s, %s", a, b)
	}
}

func TestKeyKeepsItsSecret(t *testing.T) {
	k := key(t, 0x0123456789abcdef)
	for _, text := range []string{
		fmt.Sprint(k), fmt.Sprintf("%v %+v %#v %x %s %q %d", k, k, k, k, k, k, k), fmt.Sprintf("%v", struct{ K *Key }{k}), k.String(), k.GoString(),
		fmt.Sprintf("%v", *k), fmt.Sprintf("%+v", *k),
	} {
		lower := strings.ToLower(text)
		if strings.Contains(lower, "123456789abcdef") || strings.Contains(lower, "efcdab89") || strings.Contains(text, "81985529216486895") || strings.Contains(text, "239 205 171") {
			t.Errorf("printed: %s", text)
		}
	}
	for name, err := range map[string]error{
		"json": func() error { _, err := json.Marshal(map[string]any{"k": k}); return err }(),
		"text": func() error { _, err := k.MarshalText(); return err }(),
		"gob":  func() error { _, err := k.MarshalBinary(); return err }(),
	} {
		if !errors.Is(err, secret.ErrMarshal) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestWipe(t *testing.T) {
	k := key(t, 7)
	child := k.Child(1)
	inner := k.sk // the buffer that must be overwritten, not just forgotten
	k.Wipe()
	k.Wipe()
	if *inner != (blst.SecretKey{}) {
		t.Error("the scalar is still there")
	}
	(*Key)(nil).Wipe()
	child.Pubkey() // a child doesn't die with its parent
	for name, use := range map[string]func(){
		"Pubkey": func() { k.Pubkey() }, "Sign": func() { k.Sign(eth.Root{}) }, "Raw": func() { k.Raw() },
		"Child": func() { k.Child(0) }, "zero": func() { new(Key).Sign(eth.Root{}) }, "nil": func() { (*Key)(nil).Pubkey() },
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s works without a key", name)
				}
			}()
			use()
		}()
	}
}

func TestSignVerify(t *testing.T) {
	k := key(t, 42)
	root := eth.Root{1}
	good := Claim{k.Pubkey(), root, k.Sign(root)}
	if !Verify(good) {
		t.Fatal("a good signature doesn't verify")
	}
	if good.Signature != k.Sign(root) {
		t.Error("two signatures of one root differ")
	}
	for i := range 32 {
		c := good
		c.Root[i] ^= 0x80
		if Verify(c) {
			t.Errorf("verifies for another root, byte %d", i)
		}
	}
	c := good
	c.Pubkey = key(t, 43).Pubkey()
	if Verify(c) {
		t.Error("verifies for another pubkey")
	}
	c = good
	c.Signature[0] ^= 0x20 // the negated signature: a valid point
	if Verify(c) {
		t.Error("the negated signature verifies")
	}
	if Verify(Claim{}) {
		t.Error("nothing verifies")
	}
}

// TestEthereumVector is the signature of the zero root in the consensus specs'
// "sign" vectors, which every client reproduces.
func TestEthereumVector(t *testing.T) {
	k, err := Parse(secret.Take(unhex(t, "263dbd792f5b1be47ed85f8938c0f29586af0d3ac7b977f21c278fe1462040e3")))
	if err != nil {
		t.Fatal(err)
	}
	const (
		pubkey    = "a491d1b0ecd9bb917989f0e74f0dea0422eac4a873e5e2644f368dffb9a6e20fd6e10c1b77654d067c0618f6e5a7f79a"
		signature = "b6ed936746e01f8ecf281f020953fbf1f01debd5657c4a383940b020b26507f6076334f91e2366c96e9ab279fb5158090352ea1c5b0c9274504f4f0e7053af24802e51e4568d164fe986834f41e55c8e850ce1f98458c0cfc9ab380b55285a55"
	)
	if got := k.Pubkey().Hex(); got != pubkey {
		t.Errorf("pubkey %s", got)
	}
	if got := k.Sign(eth.Root{}).Hex(); got != signature {
		t.Errorf("signature of the zero root: %s", got)
	}
}

func batch(t testing.TB, n int) []Claim {
	t.Helper()
	claims := make([]Claim, n)
	for i := range claims {
		k := key(t, int64(i+1))
		root := eth.Root{byte(i), byte(i >> 8)}
		claims[i] = Claim{k.Pubkey(), root, k.Sign(root)}
	}
	return claims
}

func TestVerifyBatch(t *testing.T) {
	for _, n := range []int{1, 2, 15, 16, 17, 33, 100} { // blst gathers 16 pairs at a time
		if err := VerifyBatch(batch(t, n)); err != nil {
			t.Errorf("%d good claims: %v", n, err)
		}
	}
	if err := VerifyBatch(nil); !errors.Is(err, ErrInvalid) {
		t.Errorf("an empty batch: %v", err)
	}
	for _, c := range []struct {
		name string
		bad  []int // wrong signatures, well-formed
		torn []int // not a point
		want int
	}{
		{"the only", []int{0}, nil, 0},
		{"last", []int{19}, nil, 19},
		{"two wrong", []int{7, 3}, nil, 3},
		{"torn after wrong", []int{3}, []int{5}, 3},
		{"torn before wrong", []int{9}, []int{5}, 5},
		{"torn first", nil, []int{0}, 0},
		{"all", []int{0, 1, 2, 3}, []int{4, 5}, 0},
	} {
		claims := batch(t, 20)
		for _, i := range c.bad {
			claims[i].Root[31] ^= 1
		}
		for _, i := range c.torn {
			claims[i].Signature = eth.Signature{}
		}
		var bad *BadClaim
		if err := VerifyBatch(claims); !errors.As(err, &bad) || bad.Index != c.want || !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: %v, want claim %d", c.name, err, c.want)
		}
	}
	// one signature twice, and one key for several roots, are no mistake
	again := batch(t, 3)
	if err := VerifyBatch(append(again, again...)); err != nil {
		t.Errorf("repeated claims: %v", err)
	}
}

// TestCancellingSignatures shifts two signatures by D and -D: each is wrong,
// their sum is right. A batch without random coefficients passes it.
func TestCancellingSignatures(t *testing.T) {
	claims := batch(t, 2)
	d := blst.HashToG2([]byte("difference"), dst)
	shift := func(s eth.Signature, subtract bool) eth.Signature {
		p := new(blst.P2)
		p.FromAffine(new(blst.P2Affine).Uncompress(s[:]))
		if subtract {
			return eth.Signature(p.Sub(d).Compress())
		}
		return eth.Signature(p.Add(d).Compress())
	}
	claims[0].Signature = shift(claims[0].Signature, false)
	claims[1].Signature = shift(claims[1].Signature, true)

	ctx := blst.PairingCtx(true, dst) // the naive batch, to show that the attack is real
	for _, c := range claims {
		pk, sig, err := decode(&c)
		if err != nil {
			t.Fatal(err)
		}
		blst.PairingAggregatePkInG1(ctx, pk, false, sig, false, c.Root[:])
	}
	blst.PairingCommit(ctx)
	if !blst.PairingFinalVerify(ctx) {
		t.Fatal("the forged pair doesn't even pass a plain sum: the test is wrong")
	}
	for range 10 {
		var bad *BadClaim
		if err := VerifyBatch(claims); !errors.As(err, &bad) || bad.Index != 0 {
			t.Fatalf("forged pair: %v", err)
		}
	}
}

func TestCoefficient(t *testing.T) {
	seen := make(map[string]bool)
	union := make([]byte, 16)
	for range 1000 {
		b := coefficient().ToLEndian()
		if !bytes.Equal(b[16:], make([]byte, 16)) || bytes.Equal(b[:16], make([]byte, 16)) {
			t.Fatalf("coefficient %x isn't from 1 to 2^128-1", b)
		}
		seen[string(b)] = true
		for i := range union {
			union[i] |= b[i]
		}
	}
	if len(seen) != 1000 || !bytes.Equal(union, bytes.Repeat([]byte{0xff}, 16)) {
		t.Errorf("%d different coefficients of 1000, bits ever set: %x", len(seen), union)
	}
}

func TestConcurrent(t *testing.T) {
	claims := batch(t, 20)
	wrong := append([]Claim(nil), claims...)
	wrong[11].Root[0] ^= 1
	k := key(t, 3)
	want := k.Sign(eth.Root{})
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 3 {
				var bad *BadClaim
				if err := VerifyBatch(claims); err != nil {
					t.Error(err)
				}
				if err := VerifyBatch(wrong); !errors.As(err, &bad) || bad.Index != 11 {
					t.Error(err)
				}
				if k.Sign(eth.Root{}) != want || !Verify(claims[0]) {
					t.Error("another result")
				}
				k.Child(1).Wipe()
			}
		})
	}
	wg.Wait()
}

// FuzzPoints: what is accepted as a pubkey or a signature has exactly one
// encoding, and nothing panics.
func FuzzPoints(f *testing.F) {
	k := key(f, 5)
	p, s, in, out := k.Pubkey(), k.Sign(eth.Root{}), outsideG1(f), outsideG2(f)
	f.Add(p[:], s[:])
	f.Add(in[:], out[:])
	f.Add([]byte{0xc0}, []byte{0xc0})
	f.Fuzz(func(t *testing.T, pk, sig []byte) {
		var c Claim
		copy(c.Pubkey[:], pk)
		copy(c.Signature[:], sig)
		if a, err := decodePubkey(c.Pubkey); err == nil && eth.Pubkey(a.Compress()) != c.Pubkey {
			t.Fatalf("pubkey %s re-encodes to %x", c.Pubkey, a.Compress())
		}
		if a, err := decodeSignature(c.Signature); err == nil && eth.Signature(a.Compress()) != c.Signature {
			t.Fatalf("signature %s re-encodes to %x", c.Signature, a.Compress())
		}
		single := Verify(c)
		if err := VerifyBatch([]Claim{c, c}); (err == nil) != single {
			t.Fatalf("alone: %t, in a batch: %v", single, err)
		}
	})
}
