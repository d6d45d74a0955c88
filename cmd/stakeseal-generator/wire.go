package main

import (
	"context"
	"fmt"
	"io/fs"
	"time"

	"github.com/stakeseal/stakeseal/birth"
	"github.com/stakeseal/stakeseal/certificate"
	"github.com/stakeseal/stakeseal/check"
	"github.com/stakeseal/stakeseal/internal/build"
	"github.com/stakeseal/stakeseal/internal/config"
	"github.com/stakeseal/stakeseal/record"
	"github.com/stakeseal/stakeseal/seal"
)

// mode is a place where the generator runs, with the one backend of each kind
// that it has there.
type mode struct {
	name      string
	knows     map[string]string // the prefix of certifier, store and archive
	recipient func(file []byte) (seal.Recipient, error)
	connect   func(context.Context, *config.Generator) (backends, error)
}

// backends are what a flow works with.
type backends struct {
	signer  certificate.Signer
	key     certificate.PublicKey // the signer's
	store   birth.Store
	archive record.Archive
}

// durations are what the start took, by step.
type durations map[string]time.Duration

// wire builds the flow that the settings ask for. The settings are read here,
// once, and nothing but them decides where anything goes. What does not need
// them, known answers and the program's digest, is computed meanwhile.
func wire(ctx context.Context, settings fs.FS, m mode) (*birth.Flow, durations, error) {
	took := durations{}
	known := meanwhile(func() (struct{}, error) { return struct{}{}, check.KnownAnswers() })
	binary := meanwhile(build.BinaryDigest)
	flow, err := func() (*birth.Flow, error) {
		if err := build.CheckClock(time.Now()); err != nil {
			return nil, err
		}
		start := time.Now()
		g, err := config.LoadGenerator(settings)
		if err != nil {
			return nil, err
		}
		if err := m.has(g); err != nil {
			return nil, err
		}
		signing, recovery, err := g.SealTo(m.recipient)
		if err != nil {
			return nil, err
		}
		took["settings"] = time.Since(start)
		start = time.Now()
		b, err := m.connect(ctx, g)
		if err != nil {
			return nil, err
		}
		took["certifier"] = time.Since(start)
		return &birth.Flow{
			Network: g.Network, Addresses: g.Addresses, Approvers: g.Approvers, MaxPerOrder: g.MaxPerOrder,
			Signing: signing, Recovery: recovery, Signer: b.signer,
			// The generator believes its own certifying key and no other: a record
			// of another maker in its store is not its to hand out.
			Verifier: &certificate.Trust{Network: g.Network, Addresses: g.Addresses, Approvers: g.Approvers,
				Keys: []certificate.TrustedKey{{Name: "self", Key: b.key}}},
			Maker: certificate.Maker{SettingsDigest: g.Digest, Version: build.Version, Commit: build.Commit()},
			Store: b.store, Archive: b.archive, Now: time.Now,
		}, nil
	}()
	// Both are waited for whatever happened: this package leaves nothing
	// running behind an error.
	_, answering, knownErr := known()
	digest, digesting, digestErr := binary()
	took["known_answers"], took["binary_digest"] = answering, digesting
	for _, err := range []error{err, knownErr, digestErr} {
		if err != nil {
			return nil, took, err
		}
	}
	flow.Maker.BinaryDigest = digest
	return flow, took, nil
}

// has refuses settings for another place than this.
func (m mode) has(g *config.Generator) error {
	for _, ref := range []struct {
		what string
		ref  config.Ref
	}{{"certifier", g.Certifier}, {"store", g.Store}, {"archive", g.Archive}} {
		if want := m.knows[ref.what]; ref.ref.Scheme != want {
			return fmt.Errorf("%s %q: %s knows %s: only", ref.what, ref.ref, m.name, want)
		}
	}
	return nil
}

// meanwhile runs f on its own goroutine; the function it returns waits for
// the outcome, and can be called again.
func meanwhile[T any](f func() (T, error)) func() (T, time.Duration, error) {
	done := make(chan struct{})
	var v T
	var err error
	var took time.Duration
	go func() {
		defer close(done)
		start := time.Now()
		v, err = f()
		took = time.Since(start)
	}()
	return func() (T, time.Duration, error) { <-done; return v, took, err }
}
