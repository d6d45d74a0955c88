package main

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strings"
	"time"

	"github.com/stakeseal/stakeseal/eth"
	"github.com/stakeseal/stakeseal/eth/bls"
	"github.com/stakeseal/stakeseal/eth/duty"
)

const (
	burstKeys   = 1000
	connections = 64 // that the client keeps open
	burstRounds = 7  // for each of the rounds that are asked for
)

// burst: one attestation of each of many keys at one moment, as a validator
// client asks for them, by the real program with its durable ledger.
func (b *bench) burst(ctx context.Context) error {
	home, err := b.signerHome(ctx, "burst", burstKeys)
	if err != nil {
		return err
	}
	list, err := sealedKeys(ctx, home)
	if err != nil {
		return err
	}
	id, err := signerIdentity(ctx, home)
	if err != nil {
		return err
	}
	keys, err := openAlone(id, list, b.workers)
	defer wipeAll(keys)
	if err != nil {
		return err
	}
	s, err := b.serve(ctx, home)
	if err != nil {
		return err
	}
	r := &burstRun{keys: keys, list: list, pid: s.cmd.Process.Pid, cores: b.workers}
	err = r.rounds(ctx, s.address, b.rounds*burstRounds)
	if _, e := s.end(); err == nil {
		err = e
	}
	if err != nil {
		return err
	}
	r.report(&b.table)
	return nil
}

// burstRun gathers what is measured.
type burstRun struct {
	keys  []*bls.Key
	list  []sealedKey
	pid   int // the signer's
	cores int
	fill  byte

	single, whole, batch  []float64 // of the limit; whole: the client's cost left in
	shared                []float64 // of the limit with the message hashed once for all keys
	apart                 []float64 // of the limit, where every key has a message of its own
	processor             []float64 // BLS alone over the signer's processor time
	rate, limit, constant []float64 // a second
	client                []time.Duration
	took                  []time.Duration // until each answer was there
}

// rounds measures in pairs: whatever disturbs one half disturbs the other.
func (r *burstRun) rounds(ctx context.Context, address string, rounds int) error {
	toSigner, err := connect(ctx, address)
	if err != nil {
		return err
	}
	defer toSigner.close()
	constant, stop, err := answerer(ctx)
	if err != nil {
		return err
	}
	defer stop()
	toConstant, err := connect(ctx, constant)
	if err != nil {
		return err
	}
	defer toConstant.close()
	for round := range rounds {
		target := 3 * uint64(round+1)
		single := r.singles(target-2, false)
		var alone, aloneUsed [3]time.Duration
		alone[0], aloneUsed[0] = r.blsAlone()

		signerBefore, clientBefore := processorOfExact(r.pid), processorTime()
		took, answers, err := toSigner.burst(single)
		if err != nil {
			return err
		}
		wall := took[len(took)-1]
		signerUsed, clientUsed := processorOfExact(r.pid)-signerBefore, processorTime()-clientBefore
		if err := r.verify(target-2, false, answers); err != nil {
			return err
		}
		alone[1], aloneUsed[1] = r.blsAlone()

		begun := time.Now()
		_, answers, err = toSigner.burst([][]byte{r.together(target - 1)})
		if err != nil {
			return err
		}
		batch := time.Since(begun)
		if err := r.verifyBatch(target-1, answers[0]); err != nil {
			return err
		}
		alone[2], _ = r.blsAlone()
		once := r.blsOnce()

		// Where nothing is the same in any two requests.
		apart, answers, err := toSigner.burst(r.singles(target, true))
		if err != nil {
			return err
		}
		if err := r.verify(target, true, answers); err != nil {
			return err
		}

		// What sending and reading costs where nothing is signed.
		clientBefore = processorTime()
		none, _, err := toConstant.burst(single)
		if err != nil {
			return err
		}
		client := min(clientUsed, processorTime()-clientBefore)
		if round == 0 {
			continue // it warmed up
		}
		limit := (alone[0] + alone[1]) / 2
		r.single = append(r.single, limit.Seconds()/(wall-client/time.Duration(r.cores)).Seconds())
		r.whole = append(r.whole, limit.Seconds()/wall.Seconds())
		r.shared = append(r.shared, once.Seconds()/(wall-client/time.Duration(r.cores)).Seconds())
		r.apart = append(r.apart, alone[2].Seconds()/(apart[len(apart)-1]-client/time.Duration(r.cores)).Seconds())
		r.batch = append(r.batch, (alone[1]+alone[2]).Seconds()/2/batch.Seconds())
		if signerUsed > 0 {
			r.processor = append(r.processor, (aloneUsed[0]+aloneUsed[1]).Seconds()/2/signerUsed.Seconds())
		}
		r.rate = append(r.rate, burstKeys/wall.Seconds())
		r.limit = append(r.limit, burstKeys/limit.Seconds())
		r.constant = append(r.constant, burstKeys/none[len(none)-1].Seconds())
		r.client = append(r.client, client)
		r.took = append(r.took, took...)
	}
	return nil
}

func (r *burstRun) report(t *table) {
	t.add(figure{"burst_of_bls_limit", median(r.single), "at least 0.85", "clock",
		fmt.Sprintf("signatures a second that signer serve makes of %d attestations, one for each key, as separate requests over %d connections that stay open, each in the synced ledger before its signature leaves, over those of BLS alone with the same keys on the same cores, in turn. All attest to the same data, as validators of a slot do since Electra: the signer hashes it to the curve once, BLS alone for each signature. Median of %d pairs: %.0f a second as seen, BLS alone %.0f. The client shares the cores: its processor time, %.1f ms a burst (the smaller of what it took there and against a program that answers a constant, at %.0f a second), divided by %d cores, is taken off the burst's time",
			burstKeys, connections, len(r.single), median(r.rate), median(r.limit), milliseconds(median(r.client)), median(r.constant), r.cores)})
	t.add(figure{"burst_with_client_of_bls_limit", median(r.whole), "", "clock", "the same with the client's cost left in"})
	t.add(figure{"burst_of_shared_bls_limit", median(r.shared), "", "clock",
		"the same over BLS alone that hashes the data once too: what is left is HTTP, the ledger, and going from one to the other"})
	t.add(figure{"burst_apart_of_bls_limit", median(r.apart), "", "clock",
		"the same as burst_of_bls_limit with other data for every key, so that nothing is shared"})
	t.add(figure{"burst_batch_of_bls_limit", median(r.batch), "at least 0.85", "clock",
		"the same signatures by one request, POST /stakeseal/v1/sign; nothing is taken off"})
	if len(r.processor) > 0 {
		t.add(figure{"burst_processor_of_bls", median(r.processor), "", "processor",
			"processor time of BLS alone, hashing for each signature, over that of the signer with separate requests"})
	}
	slices.Sort(r.took)
	for _, c := range []struct {
		name string
		at   int
	}{{"burst_p50_ms", len(r.took) / 2}, {"burst_p99_ms", len(r.took) * 99 / 100}} {
		t.add(figure{c.name, milliseconds(r.took[c.at]), "", "clock", "from the beginning of the burst of separate requests until an answer was there, over all bursts"})
	}
}

// blsAlone signs once with every key on every core.
func (r *burstRun) blsAlone() (wall, used time.Duration) {
	r.fill++
	before, begun := processorTime(), time.Now()
	_ = eachIndex(len(r.keys), r.cores, func(i int) error { // which never fails
		r.keys[i].Sign(eth.Root{r.fill, byte(i), byte(i >> 8)})
		return nil
	})
	return time.Since(begun), processorTime() - before
}

// blsOnce is the same for one message, hashed once.
func (r *burstRun) blsOnce() time.Duration {
	r.fill++
	begun := time.Now()
	message := bls.NewMessage(eth.Root{r.fill})
	_ = eachIndex(len(r.keys), r.cores, func(i int) error { // which never fails
		r.keys[i].SignMessage(message)
		return nil
	})
	return time.Since(begun)
}

// attestation is what all keys attest to with a target; index is that of a key
// where each has other data, else 0.
func attestation(target uint64, index int) string {
	hoodi, _ := eth.LookupNetwork("hoodi")
	root := "0x" + strings.Repeat("11", 32)
	return fmt.Sprintf(`{"type":"ATTESTATION","fork_info":{"fork":{"previous_version":"0x60000910","current_version":"0x70000910","epoch":"50688"},"genesis_validators_root":"%v"},`+
		`"attestation":{"slot":"%d","index":"0","beacon_block_root":"%s","source":{"epoch":"%d","root":"%s"},"target":{"epoch":"%d","root":"%s"}}}`,
		hoodi.GenesisValidatorsRoot, target*hoodi.SlotsPerEpoch, fmt.Sprintf("0x%064x", index), target-1, root, target, root)
}

func (r *burstRun) singles(target uint64, apart bool) [][]byte {
	list := make([][]byte, len(r.list))
	for i, k := range r.list {
		list[i] = post("/api/v1/eth2/sign/"+k.pubkey.String(), attestation(target, own(i, apart)))
	}
	return list
}

// own is the index that a key's data has.
func own(i int, apart bool) int {
	if !apart {
		return 0
	}
	return i
}

func (r *burstRun) together(target uint64) []byte {
	ids := make([]string, len(r.list))
	for i, k := range r.list {
		ids[i] = `"` + k.pubkey.String() + `"`
	}
	return post("/stakeseal/v1/sign", `[{"identifiers":[`+strings.Join(ids, ",")+`],"signing_request":`+attestation(target, 0)+`}]`)
}

func post(path, body string) []byte {
	return fmt.Appendf(nil, "POST %s HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nAccept: application/json\r\nContent-Length: %d\r\n\r\n%s", path, len(body), body)
}

// verify refuses answers that are not the keys' signatures: a fast signer that
// signs anything else is worth nothing.
func (r *burstRun) verify(target uint64, apart bool, answers [][]byte) error {
	list := make([]string, len(answers))
	for i, a := range answers {
		var v struct{ Signature string }
		if err := json.Unmarshal(a, &v); err != nil {
			return err
		}
		list[i] = v.Signature
	}
	return r.verifyAll(target, apart, list)
}

func (r *burstRun) verifyBatch(target uint64, answer []byte) error {
	var outcomes []struct{ Signature string }
	if err := json.Unmarshal(answer, &outcomes); err != nil {
		return err
	}
	list := make([]string, len(outcomes))
	for i, o := range outcomes {
		list[i] = o.Signature
	}
	return r.verifyAll(target, false, list)
}

// verifyAll compares every signature with the one that the key makes here.
func (r *burstRun) verifyAll(target uint64, apart bool, list []string) error {
	hoodi, _ := eth.LookupNetwork("hoodi")
	if len(list) != len(r.keys) {
		return fmt.Errorf("%d signatures, not %d", len(list), len(r.keys))
	}
	return eachIndex(len(list), r.cores, func(i int) error {
		request, err := duty.Parse([]byte(attestation(target, own(i, apart))))
		if err != nil {
			return err
		}
		root, err := request.SigningRoot(hoodi)
		if err != nil {
			return err
		}
		if want := r.keys[i].Sign(root); list[i] != "0x"+hex.EncodeToString(want[:]) {
			return errors.New("an answer is not the key's signature")
		}
		return nil
	})
}

// answerArgument makes this program answer every request with a constant.
const answerArgument = "answer"

// answerMain is that program: what a signer would answer, and nothing else.
func answerMain() error {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Println(listener.Addr())
	body := []byte(`{"signature":"0x` + strings.Repeat("00", 96) + `"}` + "\n")
	go func() { // the parent holds the other end while it runs
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}()
	return http.Serve(listener, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { //nolint:gosec // it serves its parent, for a moment
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(body)
	}))
}

// answerer starts it.
func answerer(ctx context.Context) (address string, stop func(), err error) {
	self, err := os.Executable()
	if err != nil {
		return "", nil, err
	}
	cmd := exec.CommandContext(ctx, self, answerArgument)
	in, err := cmd.StdinPipe()
	if err != nil {
		return "", nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return "", nil, err
	}
	if err := cmd.Start(); err != nil {
		return "", nil, err
	}
	stop = func() { _ = in.Close(); _ = cmd.Wait() }
	line := make([]byte, 64)
	n, err := out.Read(line)
	if err != nil {
		stop()
		return "", nil, err
	}
	return string(bytes.TrimSpace(line[:n])), stop, nil
}
