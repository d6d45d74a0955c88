package signer

import (
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Metrics are what a signer counts. Where a metric means the same as one of
// Web3Signer's it has that name, so that its dashboards go on working.
type Metrics struct {
	registry  *prometheus.Registry
	permitted prometheus.Counter
	prevented prometheus.Counter
	malformed prometheus.Counter
	missing   prometheus.Counter
	busy      prometheus.Counter
	signing   prometheus.Summary
	database  prometheus.Histogram
	requests  *prometheus.CounterVec
}

// NewMetrics makes the metrics of a signer, in a registry of their own.
func NewMetrics(s *Signer) *Metrics {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
	}
	m := &Metrics{
		registry:  prometheus.NewRegistry(),
		permitted: counter("eth2_slashing_protection_permitted_signings_total", "Messages that the slashing ledger allowed."),
		prevented: counter("eth2_slashing_protection_prevented_signings_total", "Messages that the slashing ledger refused."),
		malformed: counter("http_bls_malformed_request_count_total", "Requests that could not be read."),
		missing:   counter("signing_bls_missing_identifier_count_total", "Requests for a key that is not here."),
		busy:      counter("stakeseal_signer_busy_total", "Requests that were refused because too many waited."),
		signing: prometheus.NewSummary(prometheus.SummaryOpts{Name: "signing_bls_signing_duration", Help: "Seconds of one BLS signature.",
			Objectives: map[float64]float64{0.5: 0.05, 0.95: 0.01, 0.99: 0.001}}),
		database: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "stakeseal_signer_ledger_seconds", Help: "Seconds until the slashing ledger had stored a request durably.",
			Buckets: []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5}}),
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "stakeseal_signer_requests_total", Help: "Signatures asked for, by type and outcome."}, []string{"type", "outcome"}),
	}
	gauge := func(name, help string, value func() float64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, value)
	}
	who := prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "stakeseal_signer_info", Help: "Always 1; says which signer this is.",
		ConstLabels: prometheus.Labels{"signer": s.Name}}, func() float64 { return 1 })
	m.registry.MustRegister(who, m.permitted, m.prevented, m.malformed, m.missing, m.busy, m.signing, m.database, m.requests,
		gauge("signing_signers_loaded_count", "Keys that are ready to sign.", func() float64 { return float64(s.Keys.Len()) }),
		gauge("stakeseal_signer_queue", "Signatures that are being made or wait.", func() float64 { return float64(len(s.queue)) }),
		gauge("stakeseal_signer_lease_epoch", "The epoch of the lease that is held; 0 when it is not.", func() float64 {
			epoch, err := s.Fence()
			if err != nil {
				return 0
			}
			return float64(epoch)
		}))
	return m
}

// Handler serves the metrics as text.
func (m *Metrics) Handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{})
}
