package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/spf13/cobra"

	"github.com/stakeseal/stakeseal/eth"
	"github.com/stakeseal/stakeseal/record"
	"github.com/stakeseal/stakeseal/signer"
	"github.com/stakeseal/stakeseal/slashing"
)

type serveFlags struct {
	identity identityFlags
	listen   string
	metrics  string
	workers  int
	debug    bool
	whole    bool // this home is no copy from a backup
}

func (a *app) signerServeVerb() *cobra.Command {
	var f serveFlags
	cmd := &cobra.Command{
		Use:   "serve NAME --identity FILE",
		Short: "Open the keys that are assigned to a signer, and sign",
		Long: `Take the lease of the signer NAME, verify the certificate of every key that is
assigned to it, open the keys in memory, and sign for validator clients over the
API of Web3Signer. What opens is served; what does not is reported. Keys that are
assigned meanwhile are opened, and keys that are taken away sign nothing more, both
without a restart. SIGTERM ends it and lets go of the lease at once.

It listens on 127.0.0.1:9000, metrics on 127.0.0.1:9001. signers/NAME.yaml in the
home names clients, their keys and operations, TLS and fee recipients; without
clients in it, everybody on this machine may ask for duties (never for exits), and
off loopback it does not start.

Every attestation and block is stored in the slashing ledger before its signature
leaves. There is no switch for that.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return signerFailure(args[0], a.signerServe(cmd.Context(), args[0], f))
		},
	}
	f.identity.add(cmd, "the signer")
	cmd.Flags().StringVar(&f.listen, "listen", "", "listen on `ADDRESS` (default: of signers/NAME.yaml, or "+defaultListen+")")
	cmd.Flags().StringVar(&f.metrics, "metrics", "", "serve metrics on `ADDRESS` (default: of signers/NAME.yaml, or "+defaultMetrics+"); none: off")
	cmd.Flags().IntVar(&f.workers, "workers", defaultWorkers, "open `N` keys at once")
	cmd.Flags().BoolVar(&f.whole, "not-restored", false, "after a long stop: this home was not restored from a backup or snapshot, go on where its ledger ended")
	cmd.Flags().BoolVar(&f.debug, "log-signatures", false, "log every signature, not only what was refused")
	return cmd
}

func (a *app) signerServe(ctx context.Context, name string, f serveFlags) error {
	if err := checkWorkers(f.workers); err != nil {
		return err
	}
	h, err := a.signerHome(ctx, name)
	if err != nil {
		return err
	}
	defer h.close()
	settings, err := h.signerSettings(name)
	if err != nil {
		return err
	}
	if f.listen != "" {
		settings.Listen = f.listen
	}
	if f.metrics != "" {
		settings.Metrics = f.metrics
	}
	clients, err := settings.clients()
	if err != nil {
		return err
	}
	encryption, err := settings.serverTLS(clients)
	if err != nil {
		return err
	}
	if err := clients.Exposed(settings.Listen, encryption != nil); err != nil {
		return err
	}
	keys, err := a.keys(ctx, h, f.identity)
	if err != nil {
		return err
	}
	log := a.signerLog(f.debug)
	store := h.signers()
	ledger, err := store.open(ctx, name)
	if err != nil {
		return err
	}
	defer func() { _ = ledger.Close() }() // its writes are durable already
	leases, done, err := store.leases()
	if err != nil {
		return err
	}
	defer done()
	network := h.generator.Network
	if network.HasGenesisValidatorsRoot && network.GenesisValidatorsRoot != ledger.Info().Root || ledger.Info().Signer != name {
		return fmt.Errorf("%w: it is of signer %q and another network", signer.ErrLedger, ledger.Info().Signer)
	}
	network.GenesisValidatorsRoot, network.HasGenesisValidatorsRoot = ledger.Info().Root, true
	terms := h.terms(a, leases, name, ledger.Info().ID, ledger.Watermark)
	terms.Log = log
	lease, err := signer.TakeLease(ctx, terms)
	if err != nil {
		return err
	}
	defer func() { // whatever ends it: the next one need not wait
		ending, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		if err := lease.Release(ending); err != nil && !errors.Is(err, signer.ErrStopped) {
			log.Error("the lease could not be let go of", "why", err.Error())
		}
	}()
	if err := lockMemory(); err != nil {
		log.Warn("memory is not locked: it may be written to swap", "why", err.Error())
	}
	epoch, err := lease.Epoch()
	if err != nil {
		return err
	}
	if err := ledger.Hold(ctx, epoch); err != nil {
		return err
	}
	switch {
	case h.remote():
		err = h.afterRestore(ctx, a, ledger, epoch, log)
	case !f.whole:
		err = h.afterAbsence(ctx, a, ledger, lease.Former, epoch, log)
	}
	if err != nil {
		return err
	}
	fence := signer.Fence(lease.Epoch)
	var guard *timeGuard
	if _, known := signer.EpochAt(h.generator.Network, a.now().Unix()); known && !h.remote() { // on AWS no marks are on the machine
		guard = newTimeGuard(h.generator.Network, a.now, bootTime)
		fence = guard.fence(lease.Epoch)
	}
	s, err := signer.New(signer.Config{Name: name, Network: network, Ledger: ledger, Fence: fence, Policy: signer.Policy{FeeRecipients: settings.fees}, Log: log, Now: a.now})
	if err != nil {
		return err
	}
	defer s.Keys.RemoveAll()
	l := &loader{app: a, home: h, name: name, keys: keys, ledger: ledger, leases: leases, epoch: lease.Epoch, guard: guard, to: s, log: log, workers: f.workers,
		serving: map[eth.Pubkey]uint64{}, failed: map[eth.Pubkey]unopened{}, watching: map[string]formerSigner{}, noted: map[eth.Pubkey]uint64{}}
	service := &signer.Service{Signer: s, Clients: clients, Hosts: settings.Hosts}
	if err := l.manage(ctx, service, settings); err != nil {
		return err
	}
	return a.signerRun(ctx, l, lease, service, settings, encryption)
}

// afterAbsence raises floors after a signer was not running for longer than two
// epochs. A home that was restored from a backup or a snapshot, with ledger,
// lease and store as of then, looks the same as one that was only stopped; the
// floors cost a stop of that length little, and the other its stake. Where marks
// and leases are on AWS nothing of them is in a home, so that a restored one
// goes on from what was signed last.
func (h *home) afterAbsence(ctx context.Context, a *app, ledger signerLedger, former record.Lease, held uint64, log *slog.Logger) error {
	away, long := h.absent(a, former)
	if !long {
		return nil
	}
	epoch, _ := signer.EpochAt(h.generator.Network, a.now().Unix())
	var floors []slashing.Mark
	for m, err := range ledger.Marks(ctx) {
		if err != nil {
			return err
		}
		floors = append(floors, slashing.Floor(m.Pubkey, epoch, h.slotsPerEpoch()))
	}
	if len(floors) == 0 {
		return nil
	}
	log.Warn("no duties until nothing that may have been signed meanwhile can conflict: this home may be a restored copy (if it is not: --not-restored)",
		"away", away.Round(time.Second).String(), "keys", len(floors), "first attestation in epoch", floors[0].Target+1, "first block in slot", floors[0].Slot+1)
	return ledger.Add(ctx, held, floors)
}

// absent is how long ago a signer held its lease, and whether that is too long
// for the marks of this home to be all that it signed; see afterAbsence.
func (h *home) absent(a *app, lease record.Lease) (away time.Duration, long bool) {
	n := h.generator.Network
	if _, known := signer.EpochAt(n, a.now().Unix()); lease.Watermark == 0 || !known {
		return 0, false // it never served, or nobody knows the epoch
	}
	away = a.now().Sub(lease.Time)
	return away, away <= -time.Minute || away >= absence(n)
}

// signerLog is structured, on stderr; JSON with --json.
func (a *app) signerLog(debug bool) *slog.Logger {
	options := &slog.HandlerOptions{Level: slog.LevelInfo}
	if debug {
		options.Level = slog.LevelDebug
	}
	if a.json {
		return slog.New(slog.NewJSONHandler(a.err, options))
	}
	return slog.New(slog.NewTextHandler(a.err, options))
}

// signerRun serves until ctx ends or the lease is lost.
func (a *app) signerRun(ctx context.Context, l *loader, lease *signer.Lease, service *signer.Service, settings *signerSettings, encryption *tls.Config) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stamp := l.home.stamp() // before the first look, so that no change is missed
	if err := l.pass(ctx, false); err != nil {
		return err
	}
	signerThreads() // opening keys fills the cores as it is
	again := make(chan struct{}, 1)
	service.Failed = l.count
	service.Reload = func() error {
		defer func() {
			select {
			case again <- struct{}{}:
			default:
			}
		}()
		return l.pass(ctx, true)
	}
	var listener listeners
	if err := listener.open(ctx, settings, encryption, service); err != nil {
		return err
	}
	defer listener.close()
	err := l.home.note(ctx, record.Event{Time: record.Time(a.now()), Kind: eventServing, Detail: map[string]string{
		"signer": l.name, "ledger": l.ledger.Info().ID, "keys": fmt.Sprint(l.to.Keys.Len()), "not_opened": fmt.Sprint(l.count())}})
	if err != nil {
		return err
	}
	a.say("signer %s serves %d keys on %s", l.name, l.to.Keys.Len(), listener.address)
	if n := l.count(); n > 0 {
		a.say("warning: %d assigned keys are not served: the log above says why", n)
	}

	go func() {
		if err := lease.Run(ctx); err != nil {
			cancel(err)
		}
	}()
	listener.serve(cancel)
	l.follow(ctx, stamp)
	listener.close()
	if err := context.Cause(ctx); !errors.Is(err, context.Canceled) {
		return err
	}
	a.say("signer %s ends", l.name)
	return nil
}

// Times of looking for changed assignments: the store's files are looked at
// often, which is cheap, and the assignments when those changed. Tables have no
// such files and each look costs (docs/signing.md), so there it is the time
// alone, or POST /reload.
const (
	lookEvery = 200 * time.Millisecond
	readEvery = 30 * time.Second
)

// follow keeps the keys up to date until ctx ends.
func (l *loader) follow(ctx context.Context, stamp string) {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	read := bootTime()
	failing, unsettled := false, false
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if l.guard != nil {
			if err := l.guard.afterJump(ctx, l.app, l.home, l.ledger, l.epoch, l.log); err != nil {
				if !unsettled {
					l.log.Error("the clock jumped, and floors cannot be raised: nothing is signed", "why", err.Error())
				}
				unsettled = true
				continue
			}
			unsettled = false
		}
		now, waited := l.home.stamp(), bootTime()-read
		soon := failing || l.waits()
		if now == stamp && waited < readEvery && (waited < signer.RenewEvery || !soon) {
			continue
		}
		read = bootTime()
		if err := l.pass(ctx, false); err != nil && ctx.Err() == nil {
			if !failing {
				l.log.Error("assignments cannot be followed", "why", err.Error())
			}
			failing = true
			continue // and look again
		}
		stamp, failing = now, false
	}
}

// listeners are what listens: the API and the metrics.
type listeners struct {
	address string
	servers []*http.Server
	ready   []net.Listener
	closed  bool
}

// maxConnections is how many clients' connections are open at once.
const maxConnections = 1024

func (c *listeners) open(ctx context.Context, settings *signerSettings, encryption *tls.Config, service *signer.Service) error {
	add := func(address string, handler http.Handler) (string, error) {
		server := service.Server()
		if handler != nil {
			server.Handler = handler
		}
		// A connection's requests are not cut off by the end of the run, which
		// waits for them.
		listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", address)
		if err != nil {
			return "", fmt.Errorf("couldn't listen on %s: %w", address, err)
		}
		if encryption != nil {
			server.TLSConfig = encryption.Clone()
		}
		c.servers, c.ready = append(c.servers, server), append(c.ready, signer.Limit(listener, maxConnections))
		return listener.Addr().String(), nil
	}
	var err error
	if c.address, err = add(settings.Listen, nil); err != nil {
		return err
	}
	if settings.Metrics == "none" {
		return nil
	}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", service.Signer.Metrics.Handler())
	var metrics http.Handler = mux
	if host, _, err := net.SplitHostPort(settings.Metrics); err != nil || net.ParseIP(host) == nil || !net.ParseIP(host).IsLoopback() {
		if err := service.Clients.Exposed(settings.Metrics, encryption != nil); err != nil {
			return err
		}
		metrics = service.Known(metrics)
	}
	_, err = add(settings.Metrics, metrics)
	return err
}

// serve serves in the background; failed is called if one ends by itself.
func (c *listeners) serve(failed func(error)) {
	for i, server := range c.servers {
		go func() {
			var err error
			if server.TLSConfig != nil {
				err = server.ServeTLS(c.ready[i], "", "")
			} else {
				err = server.Serve(c.ready[i])
			}
			if !errors.Is(err, http.ErrServerClosed) {
				failed(fmt.Errorf("couldn't go on serving: %w", err))
			}
		}()
	}
}

// close ends what listens, and waits a moment for requests under way.
func (c *listeners) close() {
	if c.closed {
		return
	}
	c.closed = true
	ending, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	for i, server := range c.servers {
		if server.Shutdown(ending) != nil {
			_ = server.Close()
		}
		_ = c.ready[i].Close()
	}
}
