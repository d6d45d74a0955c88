package sqlite

import (
	"bufio"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/stakeseal/stakeseal/eth"
	"github.com/stakeseal/stakeseal/internal/sqlite/powertest"
	"github.com/stakeseal/stakeseal/slashing"
	"github.com/stakeseal/stakeseal/slashing/slashingtest"
)

func init() { children["power"] = childPower }

// childPower is childLedgerSigns on a disk that remembers what was synced; with
// a third argument SQLite syncs as that says.
func childPower(args []string) error {
	if err := powertest.Install(args[1]); err != nil {
		return err
	}
	l, err := OpenLedger(args[0])
	if err != nil {
		return err
	}
	from, err := strconv.ParseUint(args[2], 10, 64)
	if err != nil {
		return err
	}
	if len(args) > 3 {
		if _, err := l.s.conn.ExecContext(bg, "PRAGMA synchronous = "+args[3]); err != nil {
			return err
		}
	}
	return signOn(l, from, 'p')
}

// TestPowerLoss cuts the power under a ledger at random moments: whatever was
// not synced is gone, or of every sector some chance says whether it is. What
// was answered before is known after, and nothing that conflicts with it is
// signed. With a weaker synchronous the same test finds marks that are lost, so
// it would see it.
func TestPowerLoss(t *testing.T) {
	for _, c := range []struct {
		name, synchronous string
		kept              func() bool
		rounds            int
	}{
		{"all that was not synced is gone", "", func() bool { return false }, 3},
		{"some sectors of it are gone", "", func() bool { return rand.IntN(2) == 0 }, 3},
		{"synchronous NORMAL", "NORMAL", func() bool { return false }, 1},
		{"synchronous OFF", "OFF", func() bool { return false }, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			lost, signed := 0, 0
			for range c.rounds {
				n, missing := powerLoss(t, c.synchronous, c.kept)
				signed, lost = signed+n, lost+missing
			}
			if signed < c.rounds {
				t.Fatalf("%d signatures: the test shows nothing", signed)
			}
			if weak := c.synchronous != ""; weak != (lost > 0) {
				t.Errorf("of %d signatures %d were forgotten", signed, lost)
			}
		})
	}
}

// powerLoss signs until the power goes, twice on one ledger, and counts what
// was signed and what of it could be signed against afterwards.
func powerLoss(t *testing.T, synchronous string, kept func() bool) (signed, lost int) {
	t.Helper()
	dir, images := filepath.Join(t.TempDir(), "disk"), filepath.Join(t.TempDir(), "images")
	path := filepath.Join(dir, "ledger.db")
	marks := make([]slashing.Mark, 4)
	for i := range marks {
		marks[i].Pubkey = slashingtest.Key(i)
	}
	must(t, os.Mkdir(dir, 0o700))
	_, err := CreateLedger(path, "signer-a", eth.Root{1})
	must(t, err)
	l := openLedger(t, path)
	must(t, errors.Join(l.Hold(bg, 1), l.Add(bg, 1, marks), l.Close()))
	from, highest := uint64(1), map[int]uint64{}
	for range 2 {
		must(t, powertest.Settle(dir, images))
		args := []string{path, images, fmt.Sprint(from)}
		if synchronous != "" {
			args = append(args, synchronous)
		}
		cmd := child("power", args...)
		out, err := cmd.StdoutPipe()
		must(t, err)
		must(t, cmd.Start())
		lines, until := bufio.NewScanner(out), 1+rand.IntN(150)
		for n := 0; lines.Scan(); n++ { // also what it printed before it died
			var key int
			var target uint64
			if _, err := fmt.Sscanf(lines.Text(), "%d %d", &key, &target); err != nil {
				break // cut off
			}
			highest[key] = max(highest[key], target)
			if signed++; n == until {
				_ = cmd.Process.Kill()
			}
		}
		if err := cmd.Wait(); err == nil {
			t.Fatal("it ended by itself")
		}
		must(t, powertest.Cut(dir, images, kept))
		l, err := OpenLedger(path)
		if err != nil && synchronous != "" {
			return signed, lost + 1 // damaged
		}
		must(t, err)
		for key, target := range highest {
			err := l.Sign(bg, 1, []slashing.Claim{slashingtest.Attestation(key, target-1, target, '!')})[0]
			if err == nil {
				lost++
			} else if !errors.Is(err, slashing.ErrSlashable) {
				t.Fatal(err)
			}
			from = max(from, target+100)
		}
		must(t, l.Close())
	}
	return signed, lost
}
