package mnemonic

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unsafe"

	"golang.org/x/text/unicode/norm"

	"github.com/stakeseal/stakeseal/secret"
)

// mask hides what is searched for from the search itself: needles are kept
// under it, and memory is compared under it.
const mask = 0xa5

// piece is the length of a needle in bytes: too long for chance, and shorter
// than what two neighbouring words have in common with their two pieces.
const piece = 8

// masked hides a needle.
func masked(s []byte, under byte) []byte {
	needle := make([]byte, len(s))
	for i := range s {
		needle[i] = s[i] ^ under ^ mask
	}
	return needle
}

// needles are pieces to search for, by what they are.
type needles map[string][]byte

// raw cuts a random secret into pieces.
func (n needles) raw(name string, s []byte) {
	for i := 0; i+piece <= len(s); i += piece {
		n[fmt.Sprintf("%s, from byte %d", name, i)] = masked(s[i:i+piece], 0)
	}
}

// words cuts a mnemonic into pieces around each space, under a further XOR
// for forms in which it may survive (HMAC pads its key with 0x36 and 0x5c). A
// piece inside a word would be found in the word list.
func (n needles) words(name string, s []byte, under byte) {
	for i, b := range s {
		if b == ' ' {
			n[fmt.Sprintf("%s, around byte %d", name, i)] = masked(s[max(0, i-piece/2):min(len(s), i+piece/2)], under)
		}
	}
}

// states cuts the two hash states behind HMAC's padded keys into pieces: who
// has them needs no words. Both in the byte order of a saved state and in that
// of a working one.
func (n needles) states(words []byte) {
	s, h := newStretcher(), newSHA512()
	if len(words) > len(s.pad) {
		digest(h.Hash, s.pad[:0], words)
	} else {
		copy(s.pad[:], words)
	}
	for name, x := range map[string]byte{"inner": 0x36, "outer": 0x5c} {
		for i := range s.pad {
			s.pad[i] ^= x
		}
		state := h.padded(s.inner[:0], &s.pad, 0)[4:][:SeedSize] // behind the magic
		for i := range s.pad {
			s.pad[i] ^= x
		}
		n.raw(name+" state", state)
		for i := 0; i < SeedSize; i += 8 {
			slices.Reverse(state[i : i+8])
		}
		n.raw(name+" state, little endian", state)
	}
	h.wipe()
	*s = stretcher{}
}

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
	window := make([]byte, 1<<20+piece)
	own := uint64(uintptr(unsafe.Pointer(&window[0])))
	found := map[string]int{}
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
			for i := range window[:n] {
				// Not what the window itself shows of the window.
				if a := at + uint64(i); a >= own && a < own+uint64(len(window)) {
					window[i] = 0
				}
				window[i] ^= mask
			}
			for name, needle := range needles {
				found[name] += bytes.Count(window[:n], needle)
			}
		}
	}
	if total < 1<<20 {
		t.Fatalf("only %d bytes of memory were read", total)
	}
	clear(window)
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
	for i := range s {
		b[i] = s[i]
	}
	return b
}

// After everything is wiped, no piece of the words, of the entropy, of HMAC's
// padded key and states or of the seed is anywhere in the process: not in freed heap, not
// on a stack. It is the claim of the package comment, as far as a test can
// see: the words' own bytes without a neighbour, and under 15 bytes of the
// entropy or the seed, may escape it, and so do registers.
//
// It runs in a process of its own, without the remains of other tests, and
// without asynchronous preemption, which saves registers to the stack at
// moments that no two runs share.
func TestNothingStaysInMemory(t *testing.T) {
	if os.Getenv(quiet) == "" {
		self, err := os.Executable()
		if err != nil {
			t.Fatal(err)
		}
		child := exec.Command(self, "-test.run=^TestNothingStaysInMemory$", "-test.v")
		child.Env = append(os.Environ(), quiet+"=1", "GODEBUG=asyncpreemptoff=1")
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
	{English, 12}, // a text below HMAC's block
	{English, 24}, // and above
	{Korean, 24},  // typed composed
	{French, 24},
}

// aside runs f on a goroutine that then waits for the end of the test, so that
// no later call covers what f left on its stack.
func aside(t *testing.T, f func()) {
	done, end := make(chan struct{}), make(chan struct{})
	t.Cleanup(func() { close(end) })
	go func() {
		f()
		close(done)
		<-end
	}()
	<-done
}

func searchRemains(t *testing.T, language Language, count int) {
	l, err := lookup(language)
	if err != nil {
		t.Fatal(err)
	}
	var words *secret.Bytes
	aside(t, func() {
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
	for i := range w.split(words.Expose()) {
		w.typed.read(w.raw[i])
		w.number[0][i] = int16(l.find(&w.typed))
	}
	aside(t, func() {
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

	inUse := needles{}
	inUse.raw("entropy", entropy)
	inUse.words("words", words.Expose(), 0)
	inUse.words("typed", typed, 0)
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

	gone := needles{}
	gone.raw("entropy", entropy)
	gone.words("inner pad", words.Expose(), 0x36)
	gone.words("outer pad", words.Expose(), 0x5c)
	gone.states(words.Expose())
	clear(entropy)
	// Making words leaves no entropy, even while the words are in use.
	nowhere("after New", gone)

	var p *Phrase
	aside(t, func() { p, err = Parse(secret.Take(typed), "") })
	if err != nil {
		t.Fatal(err)
	}
	nowhere("after Parse", gone)
	var text, seed *secret.Bytes
	aside(t, func() { text = p.Text() })
	aside(t, func() { seed = p.Seed(text) })
	nowhere("after Seed", gone)
	gone.raw("seed", seed.Expose())
	gone.words("words", words.Expose(), 0)
	gone.words("typed", typed, 0)
	broken := heap(typed)
	broken[len(broken)-1] = '!' // errors wipe too
	aside(t, func() {
		if _, err := Parse(secret.Take(broken), language); err == nil {
			t.Error("a broken text was read")
		}
	})
	if want := len(inUse) + 2*(count-1) + 4*SeedSize/piece + SeedSize/piece; len(gone) != want {
		t.Fatalf("%d needles, want %d", len(gone), want)
	}
	clear(typed)
	clear(broken)
	words.Wipe()
	text.Wipe()
	seed.Wipe()
	p.Wipe()
	nowhere("at the end", gone)
}
