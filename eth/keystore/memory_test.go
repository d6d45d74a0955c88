package keystore

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/stakeseal/stakeseal/secret"
)

// peakKiB is the most memory the process ever had, in KiB (Linux).
func peakKiB(t testing.TB) int {
	t.Helper()
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Skipf("no /proc/self/status here: %v", err)
	}
	_, rest, ok := strings.Cut(string(status), "VmHWM:")
	if !ok {
		t.Skip("no VmHWM in /proc/self/status")
	}
	v, err := strconv.Atoi(strings.Fields(rest)[0])
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// TestScryptMemory runs workers in a process of their own, several keystores
// each, and holds their peak against what docs and settings promise: 256 MiB
// for each worker, and 256 + 64 MiB.
func TestScryptMemory(t *testing.T) {
	const workers, lanes = 2, 3
	if os.Getenv("STAKESEAL_TEST_MEMORY") == "1" {
		var wg sync.WaitGroup
		for range workers {
			wg.Go(func() {
				batch := make([]Lane, lanes)
				for i := range batch {
					batch[i] = lane(t)
				}
				if _, err := Encrypt(context.Background(), Scrypt, batch); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if peak, most := peakKiB(t)>>10, workers*256+256+64; peak > most || peak < workers*256 {
			t.Errorf("peak of %d MiB with %d workers, want %d to %d", peak, workers, workers*256, most)
		}
		return
	}
	if testing.Short() {
		t.Skip("six scrypt keystores: not with -short")
	}
	if runtime.GOOS != "linux" || race {
		t.Skip("peak memory is read from /proc, and not with the race detector's shadow copies")
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	run := exec.Command(self, "-test.run=^TestScryptMemory$", "-test.v")
	run.Env = append(os.Environ(), "STAKESEAL_TEST_MEMORY=1")
	out, err := run.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "--- PASS: TestScryptMemory") {
		t.Errorf("%v\n%s", err, out)
	}
}

// TestOversized: a second derivation above 256 MiB waits for the first, and
// can be called off while it waits.
func TestOversized(t *testing.T) {
	oversized <- struct{}{} // somebody is at it
	defer func() { <-oversized }()
	large := cost{kdf: Scrypt, n: 1 << 19, r: 8, p: 1, salt: []byte{1}}
	ctx, cancel := context.WithCancel(context.Background())
	go cancel()
	if _, err := derive(ctx, large, text2("x")); !errors.Is(err, context.Canceled) {
		t.Errorf("waiting, then cancelled: %v", err)
	}
	// what is usual doesn't wait
	small := cost{kdf: Scrypt, n: 16, r: 1, p: 1, salt: []byte{1}}
	if _, err := derive(context.Background(), small, text2("x")); err != nil {
		t.Error(err)
	}
}

func BenchmarkEncrypt(b *testing.B) {
	for _, kdf := range []KDF{PBKDF2, Scrypt} {
		b.Run(string(kdf), func(b *testing.B) {
			l := lane(b)
			for b.Loop() {
				make1(b, kdf, l).Wipe()
			}
		})
	}
}

func BenchmarkOpen(b *testing.B) {
	m := make1(b, PBKDF2, lane(b))
	for b.Loop() {
		s, err := Open(context.Background(), m.JSON, text2(eipPassword))
		if err != nil {
			b.Fatal(err)
		}
		s.Wipe()
	}
}

// BenchmarkCheck is an opening without the KDF.
func BenchmarkCheck(b *testing.B) {
	l := lane(b)
	m := make1(b, PBKDF2, l)
	for b.Loop() {
		k, err := Parse(m.JSON)
		if err != nil {
			b.Fatal(err)
		}
		if err := k.Check(m.Key, l.Secret); err != nil {
			b.Fatal(err)
		}
	}
}

var sink []uint32

// BenchmarkCollect is what derive pays to keep scrypt's peaks apart: a
// collection with 256 MiB to free, their allocation not counted.
func BenchmarkCollect(b *testing.B) {
	for range b.N { // not Loop: the timer stops within
		b.StopTimer()
		sink = make([]uint32, 64<<20)
		sink = nil
		b.StartTimer()
		runtime.GC()
	}
}

// BenchmarkNormalizePassword is for a password of 64 hex digits, as at birth.
func BenchmarkNormalizePassword(b *testing.B) {
	p := secret.Copy([]byte(strings.Repeat("0123456789abcdef", 4)))
	for b.Loop() {
		n, err := NormalizePassword(p)
		if err != nil {
			b.Fatal(err)
		}
		n.Wipe()
	}
}
