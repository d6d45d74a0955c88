package bls

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"math/big"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/stakeseal/stakeseal/eth"
	"github.com/stakeseal/stakeseal/secret"
)

// TestNothingStays derives and uses a key in a process of its own, wipes it,
// and searches all memory that the process can write for that key, its master
// and every key between, in both byte orders. The process is told only their
// hashes, so that what it finds can only come from what it did.
func TestNothingStays(t *testing.T) {
	if hashes := os.Getenv("STAKESEAL_TEST_WIPE"); hashes != "" {
		nothingStays(t, strings.Split(hashes, ","))
		return
	}
	if runtime.GOOS != "linux" || race {
		t.Skip("memory is searched through /proc, and not with the race detector's shadow copies")
	}
	n := referenceMaster(fixedSeed())
	hashes := hashesOf(n)
	for _, index := range []uint32{12381, 3600, 7, 0, 0} {
		n = referenceChild(n, index)
		hashes = append(hashes, hashesOf(n)...)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	run := exec.Command(self, "-test.run=^TestNothingStays$", "-test.v")
	run.Env = append(os.Environ(), "STAKESEAL_TEST_WIPE="+strings.Join(hashes, ","))
	out, err := run.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "--- PASS: TestNothingStays") {
		t.Errorf("%v\n%s", err, out)
	}
}

func fixedSeed() []byte { return bytes.Repeat([]byte("seed of a test. "), 4) }

// hashesOf names a key in both byte orders.
func hashesOf(n *big.Int) []string {
	b := n.FillBytes(make([]byte, 32))
	forward := sha256.Sum256(b)
	slices.Reverse(b)
	backward := sha256.Sum256(b)
	return []string{hex.EncodeToString(forward[:]), hex.EncodeToString(backward[:])}
}

func nothingStays(t *testing.T, hashes []string) {
	k, err := FromSeed(secret.Take(fixedSeed()), "m/12381/3600/7/0/0")
	if err != nil {
		t.Fatal(err)
	}
	k.Pubkey()
	k.Sign(eth.Root{1})
	k.SignMessage(NewMessage(eth.Root{1}))
	raw := k.Raw()
	// first the search itself: the live key must be found, and nothing but
	// the live key (the last two hashes)
	if found := search(t, hashes); !slices.Contains(found, len(hashes)-1) && !slices.Contains(found, len(hashes)-2) {
		t.Fatal("the search doesn't find a key that is there")
	} else if slices.Min(found) < len(hashes)-2 {
		t.Errorf("keys between were not wiped: found %v of %d", found, len(hashes))
	}
	runtime.KeepAlive(k)
	raw.Wipe()
	k.Wipe()
	if found := search(t, hashes); len(found) != 0 {
		t.Errorf("after Wipe there is still: %v of %d", found, len(hashes))
	}
}

// search returns which hashes match 32 bytes, at any multiple of 8, in the
// writable memory of this process.
func search(t *testing.T, hashes []string) (found []int) {
	t.Helper()
	want := make(map[[32]byte]int)
	for i, h := range hashes {
		b, err := hex.DecodeString(h)
		if err != nil || len(b) != 32 {
			t.Fatalf("bad hash %q", h)
		}
		want[[32]byte(b)] = i
	}
	maps, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		t.Fatal(err)
	}
	memory, err := os.Open("/proc/self/mem")
	if err != nil {
		t.Skipf("this system doesn't let a process read its own memory: %v", err)
	}
	defer memory.Close()
	page := make([]byte, 4096+24) // a window may reach into the next page
	defer clear(page)
	searched := 0
	for lines := bufio.NewScanner(bytes.NewReader(maps)); lines.Scan(); {
		var from, to int64
		var rights string
		if _, err := fmt.Sscanf(lines.Text(), "%x-%x %s", &from, &to, &rights); err != nil || !strings.HasPrefix(rights, "rw") {
			continue
		}
		for at := from; at < to; at += 4096 {
			n, _ := memory.ReadAt(page, at)
			for i := 0; i+32 <= n; i += 8 {
				// no key of these has eight zeros at either end
				if [8]byte(page[i:]) == ([8]byte{}) || [8]byte(page[i+24:]) == ([8]byte{}) {
					continue
				}
				searched++
				if which, ok := want[sha256.Sum256(page[i:i+32])]; ok && !slices.Contains(found, which) {
					found = append(found, which)
				}
			}
		}
	}
	if searched < 1000 {
		t.Fatalf("only %d windows searched", searched)
	}
	return found
}
