// Command stakeseal-generator makes validator keys and seals them. It is
// started by the stakeseal command, which serves it its records over an
// inherited descriptor; it has settings, recipients and a certifying key, and
// nothing that opens what it seals.
//
// It must not reach anything that decrypts: see imports_test.go.
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

	"github.com/stakeseal/stakeseal/internal/build"
	"github.com/stakeseal/stakeseal/internal/parent"
	"github.com/stakeseal/stakeseal/internal/process"
	"github.com/stakeseal/stakeseal/internal/runtimeapi"
)

func main() {
	if len(os.Args) == 2 && os.Args[1] == "--version" {
		fmt.Println("stakeseal-generator", build.Version, build.Commit())
		return
	}
	// From here on a crash of the runtime prints into nothing: it would
	// print stacks.
	_, words, err := process.Quiet()
	if err == nil {
		err = run(os.Args[1:], os.Environ(), nil)
	}
	if err != nil {
		fmt.Fprintln(words, "stakeseal-generator: error:", err)
		os.Exit(1)
	}
}

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

// run is the program. wrap, when not nil, stands between the flow and its
// store: tests panic there.
func run(args, environ []string, wrap func(store) store) error {
	// child WORKERS: the number of indexes made at once, the one thing that
	// its parent may choose.
	if len(args) != 2 || args[0] != "child" {
		return errors.New("this program is started by stakeseal, not by hand; see stakeseal generate")
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
	flow, err := wire(settings.FS(), records, time.Now, workers)
	if err != nil {
		failure := &runtimeapi.Failure{Class: "init", Message: err.Error()}
		return errors.Join(err, runtime.FailInit(ctx, failure))
	}
	return runtime.Serve(ctx, handler(flow))
}
