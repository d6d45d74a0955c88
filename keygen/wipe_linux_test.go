//go:build !race

// Not under the race detector, whose shadow memory is gigabytes to search.

package keygen

import (
	"bufio"
	"bytes"
	"context"
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"unsafe"

	"github.com/stakeseal/stakeseal/eth"
	"github.com/stakeseal/stakeseal/eth/keystore"
)

const wipeTest = "STAKESEAL_TEST_WIPE"

// TestWipedOnErrors: when Make fails, however far it was, the keys that it
// had made are nowhere in the process. A child that fails in that way, and
// wipes what is its own, searches its memory for them, which it knows only
// inverted.
func TestWipedOnErrors(t *testing.T) {
	if case_ := os.Getenv(wipeTest); case_ != "" {
		failAndSearch(t, case_)
		return
	}
	made, err := maker(t, wordsOne).Make(t.Context(), Spec{Network: network(t, "hoodi"), KDF: None}, []uint32{0, 1, 2}, nil)
	if err != nil {
		t.Fatal(err)
	}
	inverted := ""
	for _, v := range made {
		for _, b := range v.Secret.Expose() {
			inverted += fmt.Sprintf("%02x", ^b)
		}
		v.Wipe()
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for _, case_ := range []string{"kept", "wiped", "ended", "ended at the keystores", "amount", "kdf"} {
		run := exec.Command(self, "-test.run=^TestWipedOnErrors$", "-test.v")
		run.Env = append(os.Environ(), wipeTest+"="+case_, wipeTest+"_KEYS="+inverted)
		out, err := run.CombinedOutput()
		if bytes.Contains(out, []byte("--- SKIP")) {
			t.Skipf("%s", out)
		}
		if err != nil || !bytes.Contains(out, []byte("--- PASS: TestWipedOnErrors")) {
			t.Errorf("%s: %v\n%s", case_, err, out)
		}
	}
}

func failAndSearch(t *testing.T, case_ string) {
	inverted, err := hex.DecodeString(os.Getenv(wipeTest + "_KEYS"))
	if err != nil || len(inverted) != 3*32 {
		t.Fatal("no keys to search for")
	}
	m := maker(t, wordsOne)
	spec := Spec{Network: network(t, "hoodi"), Credentials: eth.ExecutionCredentials(eth.Address{1}, false), Plan: []eth.Gwei{32e9}, KDF: None}
	var ctx context.Context = t.Context()
	switch case_ {
	case "ended":
		ctx = &counting{ctx, 2}
	case "ended at the keystores":
		ctx, spec.KDF = &counting{ctx, 4}, keystore.PBKDF2
	case "amount":
		spec.Plan = []eth.Gwei{32e9, 1}
	case "kdf":
		spec.KDF = "argon2"
	}
	made, err := m.Make(ctx, spec, []uint32{0, 1, 2}, nil)
	if fails := case_ != "kept" && case_ != "wiped"; fails != (err != nil) {
		t.Fatalf("%s: %v", case_, err)
	}
	if case_ == "wiped" {
		for _, v := range made {
			v.Wipe()
		}
	}
	m.Wipe()
	found := searchInverted(t, inverted)
	if (case_ == "kept") != (found > 0) {
		t.Errorf("%s: %d pieces of keys are in memory", case_, found)
	}
	for _, v := range made {
		v.Wipe() // alive until here
	}
}

var window [1<<20 + 15]byte

// searchInverted counts the 16-byte pieces of keys, written either way round,
// in all memory that this process can write.
func searchInverted(t *testing.T, inverted []byte) (found int) {
	t.Helper()
	maps, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		t.Skipf("this system has no /proc/self/maps: %v", err)
	}
	memory, err := os.Open("/proc/self/mem")
	if err != nil {
		t.Skipf("this system does not let a process read /proc/self/mem: %v", err)
	}
	defer memory.Close()
	var likely [1 << 16]bool // by the first two bytes, as they stand in memory
	var needles [][]byte
	for i := 0; i < len(inverted); i += 16 {
		piece := inverted[i : i+16]
		turned := make([]byte, 16)
		for j := range piece {
			turned[15-j] = piece[j]
		}
		for _, n := range [][]byte{piece, turned} {
			needles = append(needles, n)
			likely[uint16(^n[0])<<8|uint16(^n[1])] = true
		}
	}
	own, total := uint64(uintptr(unsafe.Pointer(&window))), 0
	for lines := bufio.NewScanner(bytes.NewReader(maps)); lines.Scan(); {
		field := strings.Fields(lines.Text())
		if !strings.HasPrefix(field[1], "rw") {
			continue
		}
		from, to, _ := strings.Cut(field[0], "-")
		begin, _ := strconv.ParseUint(from, 16, 64)
		end, _ := strconv.ParseUint(to, 16, 64)
		for at := begin; at < end; at += 1 << 20 {
			n, _ := memory.ReadAt(window[:min(uint64(len(window)), end-at)], int64(at))
			total += n
			// Not what the window itself shows of the window.
			if a, b := max(at, own), min(at+uint64(n), own+uint64(len(window))); a < b {
				clear(window[a-at : b-at])
			}
			for i := 0; i+16 <= n; i++ {
				if !likely[uint16(window[i])<<8|uint16(window[i+1])] {
					continue
				}
				for _, needle := range needles {
					same := true
					for j := range needle {
						same = same && needle[j] == ^window[i+j]
					}
					if same {
						found++
					}
				}
			}
		}
	}
	if total < 1<<20 {
		t.Fatalf("only %d bytes of memory were read", total)
	}
	return found
}
