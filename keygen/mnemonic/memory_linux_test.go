//go:build !race

// Not under the race detector, whose shadow memory is gigabytes to search.

package mnemonic

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"unsafe"

	"golang.org/x/text/unicode/norm"

	"github.com/stakeseal/stakeseal/secret"
)

// piece is the length of a needle in bytes: too long for chance, and shorter
// than what two neighbouring words have in common with their two pieces.
const piece = 8

// mask hides what is searched for from the search itself: needles are kept
// under it, and memory is compared under it.
const mask = 0xa5a5a5a5a5a5a5a5

func masked(s []byte) uint64 { return binary.LittleEndian.Uint64(s) ^ mask }

// needles are masked pieces to search for, and what they are.
type needles map[uint64]string

// raw cuts a random secret into pieces.
func (n needles) raw(name string, s []byte) {
	for i := 0; i+piece <= len(s); i += piece {
		n[masked(s[i:])] = fmt.Sprintf("%s, from byte %d", name, i)
	}
}

// words cuts a mnemonic into pieces around each space. A piece inside a word
// would be found in the word list.
func (n needles) words(name string, s []byte) {
	for i, b := range s {
		if b != ' ' {
			continue
		}
		at := min(max(0, i-piece/2), len(s)-piece)
		if bytes.Count(s, s[at:at+piece]) == 1 { // else one copy would count as two
			n[masked(s[at:])] = fmt.Sprintf("%s, around byte %d", name, i)
		}
	}
}

// window is what search reads memory through.
var window [1<<20 + piece - 1]byte

// search counts the needles in everything that this process can read and
// write: heap, freed heap, stacks, data.
func search(t *testing.T, needles needles) map[string]int {
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
	var likely [1 << 16]bool // by the first two bytes, faster than the map
	found := map[string]int{}
	for needle, name := range needles {
		likely[uint16(needle)] = true
		found[name] = 0
	}
	own := uint64(uintptr(unsafe.Pointer(&window)))
	var total uint64
	for lines := bufio.NewScanner(bytes.NewReader(maps)); lines.Scan(); {
		field := strings.Fields(lines.Text())
		if !strings.HasPrefix(field[1], "rw") {
			continue
		}
		from, to, _ := strings.Cut(field[0], "-")
		begin, _ := strconv.ParseUint(from, 16, 64)
		end, _ := strconv.ParseUint(to, 16, 64)
		for at := begin; at < end; at += 1 << 20 {
			n, err := memory.ReadAt(window[:min(uint64(len(window)), end-at)], int64(at))
			if err != nil && !errors.Is(err, io.EOF) && n == 0 {
				continue // a guard page
			}
			total += uint64(n)
			// Not what the window itself shows of the window.
			if a, b := max(at, own), min(at+uint64(n), own+uint64(len(window))); a < b {
				clear(window[a-at : b-at])
			}
			for i := range max(0, n-piece+1) {
				if v := masked(window[i:]); likely[uint16(v)] {
					if name, ok := needles[v]; ok {
						found[name]++
					}
				}
			}
		}
	}
	if total < 1<<20 {
		t.Fatalf("only %d bytes of memory were read", total)
	}
	clear(window[:])
	return found
}

// quiet marks the child process in which the search runs.
const quiet = "STAKESEAL_TEST_QUIET"

// heap returns a buffer that is not on the stack, where it would be copied
// when the stack grows, with s in it, copied byte by byte: the wide registers
// of a block copy keep the end of what they copied.
//
//go:noinline
func heap(s []byte) []byte {
	b := make([]byte, len(s))
	for i := range s { //nolint:staticcheck // on purpose, see above
		b[i] = s[i]
	}
	return b
}

// After everything is wiped, no piece of the entropy, of the text as it was
// typed, of the passphrase or of the seed is anywhere in the process, freed
// heap too, and the words are there once for each seed: crypto/pbkdf2 makes a
// copy of its password. It is the claim of the package comment, as far as a
// test can see: the words' own bytes without a neighbour, and under 15 bytes
// of the rest, may escape it, and so do registers, dead stack, and what HMAC
// makes of the words.
//
// It runs in a process of its own, without the remains of other tests, and
// without asynchronous preemption, which saves registers to the stack at
// moments that no two runs share. The collector is off, so that nothing
// freed is written over before it is searched.
func TestWhatStaysInMemory(t *testing.T) {
	if os.Getenv(quiet) == "" {
		self, err := os.Executable()
		if err != nil {
			t.Fatal(err)
		}
		child := exec.Command(self, "-test.run=^TestWhatStaysInMemory$", "-test.v")
		child.Env = append(os.Environ(), quiet+"=1", "GODEBUG=asyncpreemptoff=1", "GOGC=off")
		out, err := child.CombinedOutput()
		switch {
		case err != nil:
			t.Fatalf("%v\n%s", err, out)
		case bytes.Contains(out, []byte("--- SKIP")):
			t.Skipf("%s", out)
		case bytes.Count(out, []byte("    --- PASS")) != len(remains):
			t.Fatalf("not every case ran:\n%s", out)
		}
		return
	}
	for _, c := range remains {
		t.Run(fmt.Sprintf("%s, %d words", c.language, c.words), func(t *testing.T) { searchRemains(t, c.language, c.words) })
	}
}

var remains = []struct {
	language Language
	words    int // 24: from New
}{
	{English, 12},
	{English, 24},
	{Korean, 24}, // typed composed
	{French, 24},
}

// aside runs f on another goroutine, and covers what f's calls left on its
// stack: SHA-2 works there, and the package does not claim to clean it.
func aside(f func()) {
	done := make(chan struct{})
	go func() {
		cover() // grows the stack first: the old one would be freed as it is
		f()
		cover()
		close(done)
	}()
	<-done
}

//go:noinline
func cover() {
	var frame [32 << 10]byte
	fill(frame[:])
}

//go:noinline
func fill(b []byte) {
	for i := range b {
		b[i] = 0xff
	}
}

func searchRemains(t *testing.T, language Language, count int) {
	l, err := lookup(language)
	if err != nil {
		t.Fatal(err)
	}
	var words *secret.Bytes
	aside(func() {
		if count == 24 {
			words, err = New(language)
			return
		}
		entropy := secret.Take(heap(make([]byte, count*4/3)))
		rand.Read(entropy.Expose())
		words = l.compose(entropy.Expose())
		entropy.Wipe()
	})
	if err != nil {
		t.Fatal(err)
	}
	w := newWorkspace()
	aside(func() {
		for i := range w.split(words.Expose()) {
			w.typed.read(w.raw[i])
			w.number[0][i] = int16(l.find(&w.typed))
		}
		if !w.checks(w.number[0][:count]) {
			t.Error("the words have no checksum")
		}
	})
	entropy := heap(w.bits[:count*4/3])
	w.wipe()
	composed := norm.NFC.Append(make([]byte, 0, words.Len()), words.Expose()...)
	typed := heap(composed)
	clear(composed)
	for i, b := range typed {
		if b >= 'a' && b <= 'z' {
			typed[i] = b - 'a' + 'A'
		}
	}
	// Random, with letters between that NFKD takes apart.
	random := secret.Random(32).Expose()
	passphrase := make([]byte, 0, 2*len(random)+len(random)/4*len("é"))
	for i := 0; i < len(random); i += 4 {
		passphrase = append(hex.AppendEncode(passphrase, random[i:i+4]), "é"...)
	}
	clear(random)

	inUse, gone, seedOnly := needles{}, needles{}, needles{}
	aside(func() {
		inUse.raw("entropy", entropy)
		gone.raw("entropy", entropy)
		inUse.words("words", words.Expose())
		inUse.words("typed", typed)
		for i := 0; i < len(passphrase); i += piece + len("é") {
			inUse.raw(fmt.Sprintf("passphrase at %d", i), passphrase[i:i+piece])
		}
	})
	if len(inUse) < count {
		t.Fatalf("only %d needles", len(inUse))
	}
	for name, count := range search(t, inUse) {
		if count == 0 {
			t.Fatalf("%s: not found while it is in use: this test shows nothing", name)
		}
	}
	nowhere := func(when string, needles needles) {
		t.Helper()
		for name, count := range search(t, needles) {
			if count != 0 {
				t.Errorf("%s: %s: %d left in memory", when, name, count)
			}
		}
	}

	clear(entropy)
	// Making words leaves no entropy, even while the words are in use.
	nowhere("after New", gone)

	var p *Phrase
	aside(func() { p, err = Parse(secret.Take(typed), "") })
	if err != nil {
		t.Fatal(err)
	}
	nowhere("after Parse", gone)
	broken := heap(typed)
	broken[len(broken)-1] = '!' // errors wipe too
	refused := append(make([]byte, 0, 256), passphrase...)
	refused = append(refused, strings.Repeat("\u0301", 31)...)
	var text, seed *secret.Bytes
	aside(func() {
		if _, err := Parse(secret.Take(broken), language); err == nil {
			t.Error("a broken text was read")
		}
		if CheckPassphrase(secret.Take(passphrase)) != nil || p.Seed(secret.Take(refused)).Len() != 0 {
			t.Error("the wrong passphrase was refused")
		}
		text = p.Text()
		seed = p.Seed(secret.Take(passphrase))
	})
	aside(func() { seedOnly.raw("seed", seed.Expose()) })
	if len(seedOnly) != SeedSize/piece {
		t.Fatalf("the seed has %d needles", len(seedOnly))
	}
	for name, count := range search(t, seedOnly) {
		if count != 1 {
			t.Errorf("%s: %d in memory, want one", name, count)
		}
	}
	for _, b := range [][]byte{typed, broken, passphrase, refused} {
		clear(b)
	}
	words.Wipe()
	text.Wipe()
	seed.Wipe()
	p.Wipe()
	nowhere("at the end", seedOnly)
	for name, count := range search(t, inUse) {
		kept := 0
		if strings.HasPrefix(name, "words") {
			kept = 1 // by crypto/pbkdf2
		}
		if count > kept {
			t.Errorf("at the end: %s: %d left in memory, want %d", name, count, kept)
		}
	}
}
