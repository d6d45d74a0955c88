package sqlite

import (
	"bufio"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/stakeseal/stakeseal/eth"
	"github.com/stakeseal/stakeseal/slashing"
	"github.com/stakeseal/stakeseal/slashing/slashingtest"
)

func init() {
	children["ledger signs"] = childLedgerSigns
	children["ledger full"] = childLedgerFull
	children["ledger second"] = childLedgerSecond
}

// childLedgerSigns signs for four keys, further and further on, from four
// goroutines at once, and prints each claim when it was allowed: what it
// printed has left, as a signature would have.
func childLedgerSigns(args []string) error {
	l, err := OpenLedger(args[0])
	if err != nil {
		return err
	}
	from, err := strconv.ParseUint(args[1], 10, 64)
	if err != nil {
		return err
	}
	return signOn(l, from, args[2][0])
}

func signOn(l *Ledger, from uint64, fill byte) error {
	done := make(chan error)
	for key := range 4 {
		go func() {
			for target := from; ; target++ {
				if err := l.Sign(bg, 1, []slashing.Claim{slashingtest.Attestation(key, target-1, target, fill)})[0]; err != nil {
					done <- err
					return
				}
				fmt.Printf("%d %d\n", key, target)
			}
		}()
	}
	return <-done
}

// TestLedgerKilled: kill -9 at any moment under load; what was answered
// before is known after, and nothing that conflicts with it is signed.
func TestLedgerKilled(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ledger.db")
	if _, err := CreateLedger(path, "signer-a", eth.Root{1}); err != nil {
		t.Fatal(err)
	}
	l, err := OpenLedger(path)
	if err != nil {
		t.Fatal(err)
	}
	marks := make([]slashing.Mark, 4)
	for i := range marks {
		marks[i].Pubkey = slashingtest.Key(i)
	}
	if err := errors.Join(l.Hold(bg, 1), l.Add(bg, 1, marks), l.Close()); err != nil {
		t.Fatal(err)
	}
	highest := map[int]uint64{}
	from := uint64(1)
	for round := range 25 {
		cmd := child("ledger signs", path, fmt.Sprint(from), string(rune('a'+round)))
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines, until := bufio.NewScanner(out), 1+rand.IntN(200)
		for n := 0; lines.Scan(); n++ { // also what it printed before it died
			var key int
			var target uint64
			if _, err := fmt.Sscanf(lines.Text(), "%d %d", &key, &target); err != nil {
				break // cut off
			}
			highest[key] = max(highest[key], target)
			if n == until {
				_ = cmd.Process.Signal(syscall.SIGKILL)
			}
		}
		if err := cmd.Wait(); err == nil || !strings.Contains(err.Error(), "killed") {
			t.Fatalf("round %d ended by itself: %v", round, err)
		}
		l, err := OpenLedger(path) // at once: the kernel has let go
		if err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		for key, target := range highest {
			for _, c := range []slashing.Claim{slashingtest.Attestation(key, target-1, target, '!'), slashingtest.Attestation(key, 0, target+1, '!')} {
				if c.Source < target-1 || c.Target == target {
					if err := l.Sign(bg, 1, []slashing.Claim{c})[0]; !errors.Is(err, slashing.ErrSlashable) {
						t.Fatalf("round %d: key %d signed target %d, and then %+v: %v", round, key, target, c, err)
					}
				}
			}
			from = max(from, target+100)
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if len(highest) != 4 {
		t.Fatalf("signed for %d keys: the test shows nothing", len(highest))
	}
}

// childLedgerFull signs until its file may not grow any more.
func childLedgerFull(args []string) error {
	l, err := OpenLedger(args[0])
	if err != nil {
		return err
	}
	if err := unix.Setrlimit(unix.RLIMIT_FSIZE, &unix.Rlimit{Cur: 96 << 10, Max: 96 << 10}); err != nil {
		return err
	}
	for target := uint64(1); target < 100_000; target++ {
		if err := l.Sign(bg, 1, []slashing.Claim{slashingtest.Attestation(0, target-1, target, 1)})[0]; err != nil {
			fmt.Printf("full %t at %d\n", errors.Is(err, ErrFull), target)
			return nil
		}
		fmt.Printf("%d\n", target)
	}
	return errors.New("it never filled up")
}

// TestLedgerFull: without room nothing is signed, and what was signed before
// is known.
func TestLedgerFull(t *testing.T) {
	l := createLedger(t)
	if err := errors.Join(l.Hold(bg, 1), l.Add(bg, 1, []slashing.Mark{{Pubkey: slashingtest.Key(0)}}), l.Close()); err != nil {
		t.Fatal(err)
	}
	out, err := child("ledger full", l.s.path).Output()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	lines := strings.Fields(strings.TrimSpace(string(out)))
	if len(lines) < 4 || lines[len(lines)-3] != "true" {
		t.Fatalf("it ended with %v", lines[max(0, len(lines)-4):])
	}
	signed, err := strconv.ParseUint(lines[len(lines)-5], 10, 64)
	if err != nil {
		t.Skipf("it filled up at once")
	}
	l = openLedger(t, l.s.path)
	want := slashingtest.Attestation(0, signed-1, signed, 2)
	if err := l.Sign(bg, 1, []slashing.Claim{want})[0]; !errors.Is(err, slashing.ErrSlashable) {
		t.Errorf("%+v, which was signed with another root: %v", want, err)
	}
}

func childLedgerSecond(args []string) error {
	_, err := OpenLedger(args[0])
	fmt.Println(errors.Is(err, ErrBusy))
	return nil
}

// TestLedgerSecondProcess: another process is refused while we hold it.
func TestLedgerSecondProcess(t *testing.T) {
	l := createLedger(t)
	if err := l.Hold(bg, 1); err != nil {
		t.Fatal(err)
	}
	out, err := child("ledger second", l.s.path).Output()
	if err != nil || string(out) != "true\n" {
		t.Errorf("%q, %v", out, err)
	}
	if _, err := os.Stat(l.s.path + "-shm"); err == nil {
		t.Error("it keeps its index in a file, where others could share it")
	}
}
