package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"slices"
	"strconv"
	"time"

	"github.com/stakeseal/stakeseal/birth"
	"github.com/stakeseal/stakeseal/certificate"
	"github.com/stakeseal/stakeseal/internal/aws/awskms"
	"github.com/stakeseal/stakeseal/internal/config"
	"github.com/stakeseal/stakeseal/internal/keyfile"
	"github.com/stakeseal/stakeseal/internal/parent"
	"github.com/stakeseal/stakeseal/internal/process"
	"github.com/stakeseal/stakeseal/internal/runtimeapi"
	"github.com/stakeseal/stakeseal/record"
	"github.com/stakeseal/stakeseal/seal"
)

// environment is what the parent sets, exactly. GOTRACEBACK must stand in
// the environment the process starts with: a panic then prints its message
// and no words of the stack, which can be secrets. (What that leaves, fatal
// signals and fatal errors of the runtime, prints to where Quiet sends it.)
var environment = []string{"GOTRACEBACK=none"}

// connection is the descriptor at which the parent's socket is inherited.
const connection = 3

// garbagePercent lets the heap grow to five times what is in use before it is
// collected: in use are a few megabytes, and collecting these after each few
// births took a twentieth of the time. What scrypt allocates does not wait for
// it: package keystore collects after each run.
const garbagePercent = 400

// writers is how many births wait for the parent's disk at once: enough to
// keep two cores busy while a slow disk syncs, a few megabytes at most.
const writers = 64

// store is what the connection to the parent offers.
type store interface {
	birth.Store
	record.Archive
}

// run is the program as a child. wrap, when not nil, stands between the flow
// and its store: tests panic there.
func run(args, environ []string, wrap func(store) store) error {
	// child WORKERS [SETTINGS]: the number of indexes made at once, and the
	// folder of a release in the home, which is all that its parent may choose.
	if len(args) < 2 || len(args) > 3 || args[0] != "child" {
		return errByHand
	}
	workers, err := strconv.Atoi(args[1])
	if err != nil || workers < 1 || workers > 1024 {
		return fmt.Errorf("the number of workers is %q: use 1 to 1024", args[1])
	}
	// Whoever could add a variable could redirect a library: GODEBUG,
	// SSL_CERT_FILE, LD_PRELOAD. So there is no variable to add.
	if !slices.Equal(environ, environment) {
		return fmt.Errorf("the environment is not exactly %q: refusing to make keys in it", environment)
	}
	if err := process.Seal(); err != nil {
		return err
	}
	debug.SetGCPercent(garbagePercent)
	// With scrypt each worker holds 256 MiB. As much again for one more is
	// room for what lies between them; beyond it pages go back to the system.
	debug.SetMemoryLimit(int64(workers+1) * 256 << 20)
	conn, err := parent.Inherited(connection)
	if err != nil {
		return err
	}
	defer conn.Close()
	client := parent.Client(conn)
	runtime := &runtimeapi.Client{HTTP: client, Base: parent.Base}
	ctx := context.Background()
	var records store = &parent.Store{HTTP: client}
	if wrap != nil {
		records = wrap(records)
	}
	// A root, not a folder: a link in it that leads out is not followed.
	settings, err := os.OpenRoot(".")
	if err != nil {
		return fmt.Errorf("couldn't open the settings' folder: %w", err)
	}
	defer settings.Close()
	if len(args) == 3 {
		if settings, err = settings.OpenRoot(args[2]); err != nil {
			return fmt.Errorf("couldn't open the settings' folder: %w", err)
		}
		defer settings.Close()
	}
	flow, _, err := wire(ctx, settings.FS(), local(records))
	if err != nil {
		failure := &runtimeapi.Failure{Class: birth.ClassInit, Message: err.Error()}
		return errors.Join(err, runtime.FailInit(ctx, failure))
	}
	flow.Workers, flow.Writers = workers, writers
	return runtime.Serve(ctx, (&handler{flow: flow, now: time.Now}).serve)
}

// local is the mode of a child process: the parent holds the database and the
// bundles. The settings still say so, and a setting for another place is
// refused, not ignored.
func local(records store) mode {
	return mode{
		name:  "a generator on this machine",
		knows: map[string]string{"certifier": "file", "store": "sqlite", "archive": "dir"},
		recipient: func(data []byte) (seal.Recipient, error) {
			r, err := awskms.ParseRecipientFile(data, nil)
			if _, ok := r.(*awskms.Recipient); ok {
				return nil, fmt.Errorf("%w: a key in AWS KMS is for the generator on Lambda, this one has no credentials", seal.ErrRecipient)
			}
			return r, err
		},
		connect: func(_ context.Context, g *config.Generator) (b backends, err error) {
			b.store, b.archive = records, records
			signer, err := keyfile.Open(g.Certifier.Rest)
			if err != nil {
				return b, err
			}
			b.signer, b.key = certificate.Signer(signer), signer.Public()
			return b, nil
		},
	}
}
