package main

import (
	"context"
	"errors"
	"io/fs"
	"path/filepath"

	awsdynamodb "github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/stakeseal/stakeseal/internal/aws/arn"
	"github.com/stakeseal/stakeseal/internal/aws/dynamodb"
	"github.com/stakeseal/stakeseal/internal/aws/ops"
	"github.com/stakeseal/stakeseal/internal/aws/s3archive"
	"github.com/stakeseal/stakeseal/internal/config"
	"github.com/stakeseal/stakeseal/internal/folder"
	"github.com/stakeseal/stakeseal/internal/sqlite"
	"github.com/stakeseal/stakeseal/record"
)

// wire opens the stores that the settings name.
func (h *home) wire(ctx context.Context, a *app) error {
	if place, ok := h.place(); ok {
		return h.wireCloud(ctx, a, place)
	}
	store, archive := h.generator.Store, h.generator.Archive
	switch store.Scheme {
	case "sqlite":
		s, err := sqlite.Open(h.path(store.Rest))
		if errors.Is(err, fs.ErrNotExist) {
			return fail(exitUsage, "put it back, or rebuild it from the archive: stakeseal recovery store --home "+quoted(h.dir), "%w", err)
		}
		if err != nil {
			return err
		}
		h.records, h.closer = s, s.Close
	default:
		return usage("use sqlite:FILE or dynamodb:ARN", "%s: store %q: this program does not know that kind", config.GeneratorFile, store)
	}
	switch archive.Scheme {
	case "dir":
		f, err := openArchive(h.path(archive.Rest))
		if err != nil {
			h.close()
			return err
		}
		h.archive = f
	default:
		h.close()
		return usage("use dir:FOLDER or s3:ARN", "%s: archive %q: this program does not know that kind", config.GeneratorFile, archive)
	}
	return nil
}

// place is where a home on AWS has its store, and with it all the rest; false
// for a home on this machine.
func (h *home) place() (ops.Place, bool) {
	if h.generator.Store.Scheme != "dynamodb" {
		return ops.Place{}, false
	}
	table, err := arn.Table(h.generator.Store.Rest)
	return ops.PlaceOf(table), err == nil
}

// wireCloud opens the tables and the bucket of a home on AWS. Region and
// account of every call are those of the records table's ARN.
func (h *home) wireCloud(ctx context.Context, a *app, place ops.Place) (err error) {
	tables, err := dynamodb.Beside(h.generator.Store.Rest)
	if err != nil {
		return usage("copy RecordsTableArn from the stack's outputs", "%s: store: %w", config.GeneratorFile, err)
	}
	if h.cloud, err = a.account(ctx, place); err != nil {
		return err
	}
	cfg := h.cloud.Config("")
	store, err := dynamodb.New(awsdynamodb.NewFromConfig(cfg), tables)
	if err != nil {
		return err
	}
	archive, err := s3archive.New(s3.NewFromConfig(cfg), h.generator.Archive.Rest, "", s3archive.Options{Owner: place.Account})
	if err != nil {
		return err
	}
	r := &rights{installation: dynamodb.Installation(tables.Records), caller: h.cloud.Caller}
	h.rights = r
	h.records, h.archive, h.closer = &guardedRecords{store, r}, &guardedArchive{archive, r}, func() error { return nil }
	return nil
}

// account is the AWS account of this run: opened when the first asks for it,
// the same for whoever asks after. It finds the operator's credentials and
// compares whose they are.
func (a *app) account(ctx context.Context, place ops.Place) (*ops.Account, error) {
	if a.cloud != nil {
		return a.cloud, nil
	}
	var err error
	a.cloud, err = ops.Open(ctx, place, a.sessionOptions(""))
	return a.cloud, err
}

// sessionOptions are how a session with AWS begins, with a profile where one
// is named.
func (a *app) sessionOptions(profile string) ops.Options {
	return ops.Options{Profile: profile, MFA: a.askMFA, Warn: func(format string, args ...any) { a.say("warning: "+format, args...) }}
}

// askMFA reads the code of an MFA device that a profile names.
func (a *app) askMFA(device string) (string, error) {
	if !a.terminal {
		return "", usage("run it in a terminal, or start the session beforehand and give its credentials", "the profile wants the code of the MFA device %q, which is only read from a terminal", device)
	}
	code, err := a.ask("code of the MFA device " + device)
	if err != nil {
		return "", err
	}
	defer code.Wipe()
	return string(code.Expose()), nil // one use, thirty seconds
}

// openArchive opens the archive in a folder.
func openArchive(dir string) (record.Archive, error) {
	f, err := folder.Open(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fail(exitUsage, "is its disk mounted? put it, or a copy of it, back there", "%w", err)
	}
	if err != nil {
		return nil, err
	}
	return f, nil
}

// path resolves a place in the settings, which is relative to the home.
func (h *home) path(place string) string {
	if filepath.IsAbs(place) {
		return place
	}
	return filepath.Join(h.dir, place)
}
