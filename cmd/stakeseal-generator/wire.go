package main

import (
	"fmt"
	"io/fs"
	"time"

	"github.com/stakeseal/stakeseal/birth"
	"github.com/stakeseal/stakeseal/certificate"
	"github.com/stakeseal/stakeseal/check"
	"github.com/stakeseal/stakeseal/internal/build"
	"github.com/stakeseal/stakeseal/internal/config"
	"github.com/stakeseal/stakeseal/internal/keyfile"
	"github.com/stakeseal/stakeseal/record"
	"github.com/stakeseal/stakeseal/seal"
)

// store is what the connection to the parent offers.
type store interface {
	birth.Store
	record.Archive
}

// writers is how many births wait for the parent's disk at once: enough to
// keep two cores busy while a slow disk syncs, a few megabytes at most.
const writers = 64

// wire builds the flow that the settings ask for. The settings are read here,
// once, and nothing but them decides where anything goes.
func wire(settings fs.FS, records store, now func() time.Time, workers int) (*birth.Flow, error) {
	if err := check.KnownAnswers(); err != nil {
		return nil, err
	}
	if err := build.CheckClock(now()); err != nil {
		return nil, err
	}
	g, err := config.LoadGenerator(settings)
	if err != nil {
		return nil, err
	}
	signing, recovery, err := g.SealTo(seal.ParseRecipientFile)
	if err != nil {
		return nil, err
	}
	signer, key, err := certifier(g.Certifier)
	if err != nil {
		return nil, err
	}
	binary, err := build.BinaryDigest()
	if err != nil {
		return nil, err
	}
	// Locally the parent holds the database and the bundles; the settings
	// still say so, and a setting for another place is refused, not ignored.
	if g.Store.Scheme != "sqlite" {
		return nil, fmt.Errorf("store %q: this program knows sqlite:FILE", g.Store)
	}
	if g.Archive.Scheme != "dir" {
		return nil, fmt.Errorf("archive %q: this program knows dir:FOLDER", g.Archive)
	}
	return &birth.Flow{
		Network: g.Network, Addresses: g.Addresses, MaxPerOrder: g.MaxPerOrder,
		Signing: signing, Recovery: recovery, Signer: signer,
		// The generator believes its own certifying key and no other: a record
		// of another maker in its store is not its to hand out.
		Verifier: &certificate.Trust{Network: g.Network, Addresses: g.Addresses,
			Keys: []certificate.TrustedKey{{Name: "self", Key: key}}},
		Maker: certificate.Maker{BinaryDigest: binary, SettingsDigest: g.Digest, Version: build.Version, Commit: build.Commit()},
		Store: records, Archive: records, Now: now, Workers: workers, Writers: writers,
	}, nil
}

func certifier(ref config.Ref) (certificate.Signer, certificate.PublicKey, error) {
	switch ref.Scheme {
	case "file":
		signer, err := keyfile.Open(ref.Rest)
		if err != nil {
			return nil, certificate.PublicKey{}, err
		}
		return signer, signer.Public(), nil
	}
	return nil, certificate.PublicKey{}, fmt.Errorf("certifier %q: this program knows file:NAME", ref)
}
