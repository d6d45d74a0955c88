package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"slices"
	"time"
)

// signerLive is what a running signer says of itself.
type signerLive struct {
	Health   string   `json:"health"`     // UP, DOWN; "": it was not reached
	Failed   int      `json:"not_served"` // assigned keys that could not be opened
	Keys     uint64   `json:"keys"`       // served
	Signed   uint64   `json:"signed"`     // signatures since its start
	Refused  uint64   `json:"refused"`    // by policy or slashing protection
	Errors   uint64   `json:"failed"`     // for want of the ledger, the lease or room
	P50      *float64 `json:"ledger_p50,omitempty"`
	P99      *float64 `json:"ledger_p99,omitempty"` // seconds; left out above 2.5
	Epoch    uint64   `json:"lease_epoch"`          // that it signs under; 0: it does not hold it
	slowest  bool     // P99 is above the last bound
	Trouble  string   `json:"trouble,omitempty"`
	NoCounts bool     `json:"no_metrics,omitempty"` // its settings turn them off
}

// askTimeout bounds the look at one signer.
const askTimeout = 2 * time.Second

// maxHealth bounds an answer of /healthcheck.
const maxHealth = 64 << 10

// ask asks a signer on the addresses that its settings here name. It answers
// what it can: a signer that runs on another machine may not be reached from
// here.
func (h *home) ask(ctx context.Context, name string) *signerLive {
	live := &signerLive{}
	trouble := func(err error) *signerLive {
		text := fmt.Sprintf("%q", err.Error()) // a server's words may be in it
		live.Trouble = text[1 : len(text)-1]
		return live
	}
	settings, err := h.signerSettings(name)
	if err != nil {
		return trouble(err)
	}
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	client, err := settings.asker()
	if err != nil {
		return trouble(err)
	}
	defer client.CloseIdleConnections()

	// The metrics first: they say who answers.
	if settings.Metrics == "none" {
		live.NoCounts = true
	} else {
		var m signerMetrics
		err := settings.get(ctx, client, settings.Metrics, "/metrics", true, func(_ int, body io.Reader) (err error) {
			m, err = readMetrics(body)
			return err
		})
		if err != nil {
			return trouble(err)
		}
		if m.name != name {
			return trouble(fmt.Errorf("%s is another signer's: %q", settings.Metrics, m.name))
		}
		live.Keys, live.Signed, live.Refused, live.Errors, live.Epoch = m.keys, m.signed, m.refused, m.failed, m.lease
		live.P50, _ = finite(m.quantile(0.5))
		live.P99, live.slowest = finite(m.quantile(0.99))
	}
	err = settings.get(ctx, client, settings.Listen, "/healthcheck", false, func(status int, body io.Reader) error {
		var answer struct {
			Outcome string
			Checks  []struct {
				ID   string
				Data map[string]any
			}
		}
		if err := json.NewDecoder(body).Decode(&answer); err != nil || answer.Outcome != "UP" && answer.Outcome != "DOWN" {
			return fmt.Errorf("%s answers %d, and no health of a signer", settings.Listen, status)
		}
		live.Health = answer.Outcome
		for _, c := range answer.Checks {
			number := func(name string) uint64 { n, _ := c.Data[name].(float64); return uint64(min(max(n, 0), 1<<40)) }
			if c.ID == "keys-check" {
				live.Failed = int(number("error-count"))
				if live.NoCounts {
					live.Keys = number("keys-loaded")
				}
			}
		}
		return nil
	})
	if err != nil {
		return trouble(err)
	}
	return live
}

// finite is a time that JSON can hold; true if there is one that is too long.
func finite(s float64, ok bool) (*float64, bool) {
	if !ok || math.IsInf(s, 0) || math.IsNaN(s) {
		return nil, ok
	}
	return &s, false
}

// asker is a client for one signer: with its own certificate, as the settings
// name it, it takes that very one and no other, whatever authority or name.
func (s *signerSettings) asker() (*http.Client, error) {
	transport := &http.Transport{DisableKeepAlives: true} // and no proxy
	if s.TLS != nil {
		data, err := readBounded(s.at(s.TLS.Certificate), 1<<20)
		if err != nil {
			return nil, err
		}
		block, _ := pem.Decode(data)
		if block == nil {
			return nil, fmt.Errorf("%s holds no certificate (PEM)", s.at(s.TLS.Certificate))
		}
		transport.TLSClientConfig = &tls.Config{
			MinVersion: tls.VersionTLS13,
			// The comparison below is stricter than what is left out.
			InsecureSkipVerify: true, //nolint:gosec // pinned: VerifyConnection
			VerifyConnection: func(c tls.ConnectionState) error {
				if !slices.ContainsFunc(c.PeerCertificates[:1], func(x *x509.Certificate) bool { return slices.Equal(x.Raw, block.Bytes) }) {
					return errors.New("its certificate is not that of the settings")
				}
				return nil
			},
		}
	}
	return &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return errors.New("it leads elsewhere") }}, nil
}

// get asks one address. What is served off loopback is for known clients only:
// there a client's token that the settings name goes with it, over TLS to the
// settings' own certificate. In the clear never: whoever has the port of a
// signer that died would have the token.
func (s *signerSettings) get(ctx context.Context, client *http.Client, address, path string, known bool, read func(status int, body io.Reader) error) error {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return err
	}
	ip := net.ParseIP(host)
	if host == "" || ip != nil && ip.IsUnspecified() { // every address of this machine
		host = "127.0.0.1"
	}
	scheme := "http"
	if s.TLS != nil {
		scheme = "https"
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, scheme+"://"+net.JoinHostPort(host, port)+path, nil)
	if err != nil {
		return err
	}
	if len(s.Hosts) > 0 && s.Hosts[0] != "*" {
		r.Host = s.Hosts[0]
	}
	if i := slices.IndexFunc(s.Clients, func(c clientEntry) bool { return c.Token != "" }); known && i >= 0 && s.TLS != nil {
		token, err := readToken(s.at(s.Clients[i].Token))
		if err != nil {
			return err
		}
		defer token.Wipe()
		r.Header.Set("Authorization", "Bearer "+string(token.Expose()))
	}
	answer, err := client.Do(r)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK && answer.StatusCode != http.StatusServiceUnavailable {
		return fmt.Errorf("%s%s answers %d", address, path, answer.StatusCode)
	}
	limit := int64(maxHealth)
	if path == "/metrics" {
		limit = maxMetrics
	}
	return read(answer.StatusCode, io.LimitReader(answer.Body, limit))
}

// watchEvery is how often a watched status is drawn again.
const watchEvery = 2 * time.Second

// watchSigners shows the status again and again until the run is asked to end.
// On a terminal it is drawn over the former one; with --json each look is a
// line for each signer.
func (a *app) watchSigners(ctx context.Context, h *home) error {
	const (
		toTop       = "\x1b[H"  // CUP
		clear       = "\x1b[2J" // ED, all
		clearToEnd  = "\x1b[K"  // EL
		clearBeyond = "\x1b[J"  // ED, from here
	)
	counts, err := h.countAssigned(ctx)
	if err != nil {
		return err
	}
	counted := bootTime()
	if !a.json {
		fmt.Fprint(a.out, clear)
	}
	for {
		if bootTime()-counted >= readEvery { // on AWS each costs
			if counts, err = h.countAssigned(ctx); err != nil {
				return unlessAsked(ctx, err)
			}
			counted = bootTime()
		}
		list, err := h.signerStates(ctx, counts, true)
		if err != nil {
			return unlessAsked(ctx, err)
		}
		switch {
		case a.json:
			err = a.printStates(list)
		default:
			var screen clearedLines
			screen.end = clearToEnd
			if err = drawStates(&screen, list, true); err == nil {
				_, err = fmt.Fprintf(a.out, "%s%s  %s%s\n\n%s%s", toTop, h.generator.Network.Name, a.now().UTC().Format("15:04:05 UTC"), clearToEnd, screen.text, clearBeyond)
			}
		}
		if err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(watchEvery):
		}
	}
}

// unlessAsked is the error of a look, unless it was cut short by who asked the
// run to end, which is how a watch ends.
func unlessAsked(ctx context.Context, err error) error {
	select {
	case <-ctx.Done():
		return nil
	default:
		return err
	}
}

// clearedLines ends each line with a sequence.
type clearedLines struct {
	text []byte
	end  string
}

func (c *clearedLines) Write(p []byte) (int, error) {
	for _, b := range p {
		if b == '\n' {
			c.text = append(c.text, c.end...)
		}
		c.text = append(c.text, b)
	}
	return len(p), nil
}

// drawLive are the cells of a signer that was asked.
func drawLive(s signerState) []string {
	live := s.Live
	if live == nil {
		return []string{"", "", "", "", "", ""}
	}
	health := live.Health
	switch {
	case live.Trouble != "":
		health = "?"
	case live.Failed > 0:
		health += fmt.Sprintf(", %d keys not served", live.Failed)
	}
	if live.Trouble != "" && live.Health == "" && live.Keys == 0 {
		return []string{"", "", "", "", "", health}
	}
	if live.NoCounts {
		return []string{fmt.Sprint(live.Keys), "", "", "", "", health}
	}
	times := ""
	if live.P50 != nil {
		times = seconds(*live.P50) + " / "
		if live.P99 != nil {
			times += seconds(*live.P99)
		} else if live.slowest {
			times += seconds(math.Inf(1))
		}
	}
	return []string{fmt.Sprint(live.Keys), fmt.Sprint(live.Signed), fmt.Sprint(live.Refused), fmt.Sprint(live.Errors), times, health}
}
