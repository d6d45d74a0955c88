package main

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/stakeseal/stakeseal/birth"
	"github.com/stakeseal/stakeseal/certificate"
	"github.com/stakeseal/stakeseal/internal/runtimeapi"
)

// facts writes what happens, one line of JSON each: what a person needs to
// see how an order went and what it cost. Every field is a number, a digest,
// an id that was checked, or a message that was clipped; no event, no answer
// and no record is written. Its methods do nothing on nil.
type facts struct {
	mu  sync.Mutex
	to  io.Writer
	now func() time.Time
}

// maxText bounds a text of a fact in bytes.
const maxText = 512

func (f *facts) write(fact string, fields any) {
	if f == nil {
		return
	}
	head, err := json.Marshal(struct {
		Fact string    `json:"fact"`
		Time time.Time `json:"time"`
	}{fact, f.now().UTC()})
	if err != nil {
		return
	}
	body, err := json.Marshal(fields)
	if err != nil {
		return
	}
	line := append(head[:len(head)-1], ',') // every fact has fields
	line = append(line, body[1:]...)
	f.mu.Lock()
	defer f.mu.Unlock()
	_, _ = f.to.Write(append(line, '\n'))
}

type milliseconds float64

func ms(d time.Duration) milliseconds {
	return milliseconds(math.Round(float64(d)/1e4) / 100)
}

func allMS(all map[string]time.Duration) map[string]milliseconds {
	out := map[string]milliseconds{}
	for name, d := range all {
		out[name] = ms(d)
	}
	return out
}

// initialized says what runs and what the start took.
func (f *facts) initialized(flow *birth.Flow, fn *function, took durations) {
	f.write("init", struct {
		Version  string                  `json:"version"`
		Commit   string                  `json:"commit,omitempty"`
		Function string                  `json:"function_version"`
		Memory   int                     `json:"memory_mb"`
		CPUs     int                     `json:"cpus"`
		Network  string                  `json:"network"`
		Binary   certificate.Hash        `json:"binary_digest"`
		Settings certificate.Hash        `json:"settings_digest"`
		MS       map[string]milliseconds `json:"ms"`
	}{flow.Maker.Version, flow.Maker.Commit, fn.version, fn.memoryMB, fn.cpus, flow.Network.Name, flow.Maker.BinaryDigest, flow.Maker.SettingsDigest, allMS(took)})
}

// tally is what happened in one invocation.
type tally struct {
	id     string
	start  time.Time
	before [3]int64 // KMS requests

	orderID   string // "" while the event was not read
	from, to  uint32
	made      int
	found     int
	remaining uint32

	mu    sync.Mutex
	steps map[string]time.Duration
}

func (t *tally) took(step string, d time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.steps[step] += d
}

func (t *tally) order(r birth.Range) {
	t.orderID, t.from, t.to = r.Order.ID, r.From, r.To
	t.remaining = r.To - min(r.From, r.To)
}

func (t *tally) born(b birth.Born) {
	if b.Made {
		t.made++
	} else {
		t.found++
	}
}

func (f *facts) started(t *tally, r birth.Range, now time.Time) {
	left := milliseconds(0)
	if !r.Until.IsZero() {
		left = ms(r.Until.Sub(now))
	}
	f.write("start", struct {
		Request   string       `json:"request"`
		Order     string       `json:"order"`
		From      uint32       `json:"from"`
		To        uint32       `json:"to"`
		Count     uint32       `json:"count"`
		Keystore  string       `json:"keystore"`
		Scheduled bool         `json:"scheduled,omitempty"`
		LeftMS    milliseconds `json:"left_ms,omitempty"`
	}{clip(t.id, maxText), r.Order.ID, r.From, r.To, r.Order.Count, clip(r.Order.Keystore, 32), r.Scheduled, left})
}

func (f *facts) failed(t *tally, failure *runtimeapi.Failure) {
	f.write("error", struct {
		Request string `json:"request"`
		Order   string `json:"order,omitempty"`
		Class   string `json:"class"`
		Message string `json:"message"`
	}{clip(t.id, maxText), t.orderID, failure.Class, clip(failure.Message, maxText)})
}

// ended says what an invocation did. The times of steps are summed over all
// that ran at once.
func (f *facts) ended(t *tally, kms [3]int64, total time.Duration) {
	if f == nil || t.orderID == "" {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	f.write("end", struct {
		Request   string                  `json:"request"`
		Order     string                  `json:"order"`
		From      uint32                  `json:"from"`
		To        uint32                  `json:"to"`
		Made      int                     `json:"made"`
		Found     int                     `json:"found"`
		Remaining uint32                  `json:"remaining"`
		MS        map[string]milliseconds `json:"ms"`
		TotalMS   milliseconds            `json:"total_ms"`
		KMS       map[string]int64        `json:"kms_requests"`
		PeakMB    int64                   `json:"peak_mb"`
	}{clip(t.id, maxText), t.orderID, t.from, t.to, t.made, t.found, t.remaining, allMS(t.steps), ms(total),
		map[string]int64{"encrypt": kms[0] - t.before[0], "sign": kms[1] - t.before[1], "get_public_key": kms[2] - t.before[2]},
		peakMB()})
}

// peakMB is the most memory that the process has had, 0 where the system does
// not say. (Not getrusage, which counts what the process was before it
// started this program.)
func peakMB() int64 {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0
	}
	_, rest, _ := strings.Cut(string(status), "\nVmHWM:")
	kb, _, _ := strings.Cut(strings.TrimSpace(rest), " ")
	n, err := strconv.ParseInt(kb, 10, 64)
	if err != nil {
		return 0
	}
	return n >> 10
}

// unusable says why the program takes no orders.
func (f *facts) unusable(err error) {
	f.write("error", struct {
		Class   string `json:"class"`
		Message string `json:"message"`
	}{birth.ClassInit, clip(fmt.Sprint(err), maxText)})
}
