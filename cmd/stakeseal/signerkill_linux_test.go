package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/stakeseal/stakeseal/eth"
	"github.com/stakeseal/stakeseal/eth/bls"
	"github.com/stakeseal/stakeseal/eth/duty"
)

// spot is what of conflicting messages one at most may be signed: a key's
// vote for a target, or its block of a slot.
type spot struct {
	key   eth.Pubkey
	block bool
	at    uint64 // target or slot
}

// message is what is asked for at a place; fill tells them apart.
func (p spot) message(fill byte) string {
	if !p.block {
		return attestationBody(p.at-1, p.at, fill)
	}
	return blockBody(p.at, fill)
}

func blockBody(slot uint64, fill byte) string {
	hoodi, _ := eth.LookupNetwork("hoodi")
	root := fmt.Sprintf("0x%x", bytes.Repeat([]byte{fill}, 32))
	return fmt.Sprintf(`{"type":"BLOCK_V2","fork_info":{"fork":{"previous_version":"0x60000910","current_version":"0x70000910","epoch":"50688"},"genesis_validators_root":"%v"},`+
		`"beacon_block":{"version":"FULU","block_header":{"slot":"%d","proposer_index":"7","parent_root":"%s","state_root":"%s","body_root":"%s"}}}`,
		hoodi.GenesisValidatorsRoot, slot, root, root, root)
}

// witness is the client's memory of every signature that it ever saw.
type witness struct {
	t      *testing.T
	mu     sync.Mutex
	seen   map[spot]byte
	last   []spot // of the round
	claims []bls.Claim
	next   map[eth.Pubkey]uint64 // where conflicts are certain
}

// saw holds a signature against those before it.
func (w *witness) saw(round int, p spot, fill byte, signature string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if former, ok := w.seen[p]; ok && former != fill {
		w.t.Errorf("round %d: two signatures for %+v", round, p)
	}
	w.seen[p] = fill
	w.last = append(w.last, p)
	w.next[p.key] = max(w.next[p.key], p.at)
	if len(w.last)%16 != 1 { // verifying takes longer than signing
		return
	}
	request, err := duty.Parse([]byte(p.message(fill)))
	if err != nil {
		w.t.Error(err)
		return
	}
	hoodi, _ := eth.LookupNetwork("hoodi")
	root, err := request.SigningRoot(hoodi)
	claim := bls.Claim{Pubkey: p.key, Root: root}
	if err != nil || claim.Signature.UnmarshalText([]byte(signature)) != nil {
		w.t.Errorf("round %d: not a signature: %s", round, signature)
		return
	}
	w.claims = append(w.claims, claim)
}

// signature asks for one; "" if none came.
func (p *serving) signature(client *http.Client, key eth.Pubkey, body string) string {
	r, err := client.Post(p.url+"/api/v1/eth2/sign/"+key.String(), "application/json", strings.NewReader(body))
	if err != nil {
		return ""
	}
	defer r.Body.Close()
	data, err := io.ReadAll(r.Body)
	if err != nil || r.StatusCode != http.StatusOK || len(data) != 2+2*96 { // cut off
		return ""
	}
	return string(data)
}

// askAll asks for other messages at places, and for votes that surround those
// that were cast, in one request. It returns how many were signed.
func (p *serving) askAll(t *testing.T, places []spot) (asked, signed int) {
	t.Helper()
	var groups []any
	add := func(key eth.Pubkey, body string) {
		groups = append(groups, map[string]any{"identifiers": []eth.Pubkey{key}, "signing_request": json.RawMessage(body)})
	}
	for _, at := range places {
		if at.block { // not of the batch
			if p.signature(http.DefaultClient, at.key, at.message(0xee)) != "" {
				signed++
			}
			asked++
			continue
		}
		add(at.key, at.message(0xee))
		if at.at > 2 {
			add(at.key, attestationBody(at.at-2, at.at+1, 0xee))
		}
	}
	if len(groups) == 0 {
		return asked, signed
	}
	body, err := json.Marshal(groups)
	if err != nil {
		t.Fatal(err)
	}
	r, err := http.Post(p.url+"/stakeseal/v1/sign", "application/json", bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	data, err := io.ReadAll(r.Body)
	if err != nil || r.StatusCode != http.StatusOK {
		t.Fatalf("%s %s %v", r.Status, data, err)
	}
	return asked + len(groups), signed + strings.Count(string(data), `"signature"`)
}

// TestSignerKilledUnderLoad kills the real program with -9 at random points
// under load, while it starts too, and starts it again: of conflicting messages
// the client never sees two signed, neither those that are asked for at one
// moment nor those that are asked for after the restart. `make kills` does it a
// thousand times.
func TestSignerKilledUnderLoad(t *testing.T) {
	const keys, workers = 16, 8
	rounds := 25
	if testing.Short() {
		rounds = 4
	}
	if more, err := strconv.Atoi(os.Getenv("STAKESEAL_KILL_ROUNDS")); err == nil {
		rounds = more
	}
	s := newSignerTest(t, keys)
	s.must("signer", "init", "signer-a")
	w := &witness{t: t, seen: map[spot]byte{}, next: map[eth.Pubkey]uint64{}}
	for _, key := range s.keys {
		w.next[key] = 1
	}
	begun, refused, starts := time.Now(), 0, 0
	for round := range rounds {
		if t.Failed() {
			break
		}
		if round%8 == 7 { // also while it starts
			s.killStarting(time.Duration(rand.IntN(120)) * time.Millisecond)
			starts++
		}
		p := s.serve("signer-a")
		asked, signed := p.askAll(t, w.last)
		if refused += asked; signed > 0 {
			t.Errorf("round %d: of %d messages that conflict with what was signed before the kill, %d were signed", round, asked, signed)
		}
		w.last = nil

		transport := &http.Transport{MaxIdleConnsPerHost: workers}
		client := &http.Client{Transport: transport}
		var stop atomic.Bool
		var group sync.WaitGroup
		enough := make(chan struct{})
		until, count := int64(1+rand.IntN(240)), atomic.Int64{}
		for worker := range workers {
			group.Go(func() {
				// Two of them disagree about each key.
				fill := byte(1 + worker + workers*(round%20))
				for n := uint64(0); !stop.Load(); n++ {
					key := s.keys[int(n)%(keys/workers*2)+worker/2*(keys/workers*2)]
					at := spot{key, n%8 == 7, w.from(key) + n/4}
					if signature := p.signature(client, key, at.message(fill)); signature != "" {
						w.saw(round, at, fill, signature)
					}
					if count.Add(1) == until {
						close(enough)
					}
				}
			})
		}
		<-enough
		p.end(syscall.SIGKILL)
		stop.Store(true)
		group.Wait()
		transport.CloseIdleConnections()
		if len(w.claims) > 0 {
			if err := bls.VerifyBatch(w.claims); err != nil {
				t.Errorf("round %d: %v", round, err)
			}
		}
		w.claims = nil
	}
	if len(w.seen) < 2*rounds || refused < rounds {
		t.Fatalf("%d signatures and %d conflicts in %d rounds: the test shows nothing", len(w.seen), refused, rounds)
	}
	t.Logf("%d rounds, %d kills while it started: %d signatures, %d conflicting messages afterwards, none signed; %s a round",
		rounds, starts, len(w.seen), refused, (time.Since(begun) / time.Duration(rounds)).Round(time.Millisecond))
}

// from is where a key's next messages begin: below what was signed, so that
// some conflict.
func (w *witness) from(key eth.Pubkey) uint64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return max(2, w.next[key]) - 1
}

// killStarting starts a signer and kills it a moment later, wherever it is.
func (s *signerTest) killStarting(after time.Duration) {
	s.t.Helper()
	cmd := s.command("signer", "serve", "signer-a", "--identity", filepath.Join(s.dir, "ids", "signer-a.identity"), "--listen", "127.0.0.1:0", "--metrics", "none")
	if err := cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	time.Sleep(after)
	_ = cmd.Process.Kill()
	if err := cmd.Wait(); err == nil || !strings.Contains(err.Error(), "killed") {
		s.t.Errorf("it was not killed: %v", err)
	}
}

// TestSignerFullDisk fills the disk under a signer that runs, as far as its
// files go: nothing is signed that could not be stored, it says so, with room
// again it goes on, and what it signed before is known after a restart.
func TestSignerFullDisk(t *testing.T) {
	s := newSignerTest(t, 1)
	s.must("signer", "init", "signer-a")
	p := s.serve("signer-a")
	if code, text := p.attest(s.keys[0], 1, 2, 1); code != http.StatusOK {
		t.Fatalf("%d %s", code, text)
	}
	log, err := os.Stat(filepath.Join(s.dir, "h", "signers", "signer-a.db-wal"))
	if err != nil {
		t.Fatal(err)
	}
	size := uint64(log.Size()) //nolint:gosec // of a file
	limit := func(most uint64) {
		t.Helper()
		if err := unix.Prlimit(p.cmd.Process.Pid, unix.RLIMIT_FSIZE, &unix.Rlimit{Cur: most, Max: unix.RLIM_INFINITY}, nil); err != nil {
			t.Fatal(err)
		}
	}
	limit(size + 64<<10)
	last := uint64(2)
	for code := http.StatusOK; code == http.StatusOK; {
		var text string
		if code, text = p.attest(s.keys[0], last, last+1, 1); code == http.StatusOK {
			last++
		} else if code != http.StatusInternalServerError || !strings.Contains(text, "not signed") || strings.Contains(text, s.dir) {
			t.Fatalf("on the full disk: %d %s", code, text)
		}
		if last > 10_000 {
			t.Fatal("it never filled up")
		}
	}
	p.wait(regexp.MustCompile(`not signed.*no room left`)) // it says so
	limit(unix.RLIM_INFINITY)
	if code, text := p.attest(s.keys[0], last+1, last+2, 1); code != http.StatusOK {
		t.Errorf("with room again: %d %s", code, text)
	}
	p.end(syscall.SIGKILL)
	p = s.serve("signer-a")
	for _, target := range []uint64{last, last + 1, last + 2} { // the one that failed lies below what was signed
		if code, text := p.attest(s.keys[0], target-1, target, 9); code != http.StatusPreconditionFailed {
			t.Errorf("another vote for target %d after the restart: %d %s", target, code, text)
		}
	}
}
