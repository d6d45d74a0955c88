package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
)

// signerMetrics is what a running signer counts, as far as the status shows it.
type signerMetrics struct {
	name    string // of the signer that answers; "" if it does not say
	keys    uint64
	signed  uint64
	refused uint64 // by policy or slashing protection
	failed  uint64 // for want of the ledger, the lease or room
	lease   uint64 // epoch; 0: not held
	ledger  []bucket
}

// bucket is how many of a histogram's observations were at most so long.
type bucket struct{ seconds, count float64 }

const (
	maxMetrics     = 1 << 20
	maxMetricsLine = 4 << 10
)

// errMetrics: not the metrics of a signer.
var errMetrics = errors.New("not the metrics of a signer")

// readMetrics reads the text format of Prometheus, version 0.0.4, of which it
// knows what our own signer writes: samples without a time.
func readMetrics(r io.Reader) (m signerMetrics, err error) {
	lines := bufio.NewScanner(io.LimitReader(r, maxMetrics))
	lines.Buffer(nil, maxMetricsLine)
	known := false
	for lines.Scan() {
		line := strings.TrimSpace(lines.Text())
		if line == "" || line[0] == '#' {
			continue
		}
		name, labels, value, ok := metric(line)
		if !ok {
			return m, fmt.Errorf("%w: %q", errMetrics, line[:min(len(line), 80)])
		}
		count := uint64(0)
		if value >= 0 && value < 1<<62 {
			count = uint64(value)
		}
		switch name {
		case "stakeseal_signer_info":
			m.name = labels["signer"]
		case "signing_signers_loaded_count":
			m.keys, known = count, true
		case "stakeseal_signer_lease_epoch":
			m.lease = count
		case "stakeseal_signer_requests_total":
			switch labels["outcome"] {
			case "signed":
				m.signed += count
			case "slashable", "refused", "unknown":
				m.refused += count
			default:
				m.failed += count
			}
		case "stakeseal_signer_ledger_seconds_bucket":
			if bound, err := strconv.ParseFloat(labels["le"], 64); err == nil && bound >= 0 && value >= 0 {
				m.ledger = append(m.ledger, bucket{bound, value})
			}
		}
	}
	if err := lines.Err(); err != nil {
		return m, fmt.Errorf("%w: %w", errMetrics, err)
	}
	if !known {
		return m, errMetrics
	}
	slices.SortFunc(m.ledger, func(a, b bucket) int {
		switch {
		case a.seconds < b.seconds:
			return -1
		case a.seconds > b.seconds:
			return 1
		}
		return 0
	})
	return m, nil
}

// metric reads NAME{LABEL="VALUE",...} NUMBER.
func metric(line string) (name string, labels map[string]string, value float64, ok bool) {
	end := strings.IndexAny(line, "{ ")
	if end <= 0 {
		return "", nil, 0, false
	}
	name, rest := line[:end], line[end:]
	if rest[0] == '{' {
		labels = map[string]string{}
		rest = rest[1:]
		for !strings.HasPrefix(rest, "}") {
			label, after, found := strings.Cut(rest, "=")
			if !found {
				return "", nil, 0, false
			}
			quoted, err := strconv.QuotedPrefix(after)
			if err != nil || quoted[0] != '"' {
				return "", nil, 0, false
			}
			if labels[label], err = strconv.Unquote(quoted); err != nil {
				return "", nil, 0, false
			}
			rest = strings.TrimPrefix(after[len(quoted):], ",")
		}
		rest = rest[1:]
	}
	value, err := strconv.ParseFloat(strings.TrimSpace(rest), 64)
	return name, labels, value, err == nil
}

// quantile is the time within which that part of the ledger's writes was done,
// in seconds, straight between the bounds of its bucket; +Inf above the last
// bound; false while there was none.
func (m signerMetrics) quantile(part float64) (float64, bool) {
	if len(m.ledger) == 0 || m.ledger[len(m.ledger)-1].count < 1 {
		return 0, false
	}
	want := part * m.ledger[len(m.ledger)-1].count
	below := bucket{}
	for _, b := range m.ledger {
		if b.count < want || b.count <= below.count {
			below = bucket{b.seconds, max(b.count, below.count)}
			continue
		}
		if math.IsInf(b.seconds, 1) {
			return b.seconds, true
		}
		return below.seconds + (b.seconds-below.seconds)*(want-below.count)/(b.count-below.count), true
	}
	return math.Inf(1), true
}

// seconds shows a time with two digits that count.
func seconds(s float64) string {
	switch {
	case math.IsInf(s, 1):
		return ">2.5 s" // the last bound
	case s < 0.01:
		return fmt.Sprintf("%.1f ms", s*1e3)
	case s < 1:
		return fmt.Sprintf("%.0f ms", s*1e3)
	}
	return fmt.Sprintf("%.1f s", s)
}
