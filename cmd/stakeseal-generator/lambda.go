package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"syscall"
	"time"

	"github.com/stakeseal/stakeseal/birth"
	"github.com/stakeseal/stakeseal/eth/keystore"
	"github.com/stakeseal/stakeseal/internal/aws/arn"
	"github.com/stakeseal/stakeseal/internal/aws/session"
	"github.com/stakeseal/stakeseal/internal/process"
	"github.com/stakeseal/stakeseal/internal/runtimeapi"
)

// Limits of a function.
const (
	// maxAnswer is what Lambda takes as the answer of a synchronous call: 6 MB.
	maxAnswer = 6 << 20
	// maxReceipt is how large a receipt in it may be.
	maxReceipt = 5 << 20
	// functionWriters is how many births are on their way to DynamoDB and S3 at
	// once. One takes six calls; the clients keep 32 connections.
	functionWriters = 16
	// functionCalls is how many births of a batch are at KMS at once.
	functionCalls = 8
)

// layers is where Lambda unpacks layers, and starts extensions from.
const layers = "/opt"

// bootstrap is the program as Lambda starts it. It ends with an error, which
// was told to the Runtime API and to standard error; or not at all, or as
// itself with a clean environment.
func bootstrap() error {
	began := time.Now()
	environ, err := startEnvironment()
	var told world
	var cleaned []string
	if err == nil {
		told, cleaned, err = clean(environ)
	}
	if err == nil && !slices.Equal(environ, cleaned) {
		// By its own inode, whatever lies under its name by now. Standard
		// output and error stay as they are for it: nothing was silenced yet.
		err = fmt.Errorf("couldn't start again with a clean environment: %w", syscall.Exec("/proc/self/exe", os.Args, cleaned))
	}
	// From here on a crash of the runtime prints into nothing: it would print
	// stacks.
	_, words, quietErr := process.Quiet()
	if quietErr != nil {
		words = os.Stderr
	}
	f := &facts{to: words, now: time.Now}
	var client *runtimeapi.Client
	if address := runtimeAddress(environ); address != "" {
		client = &runtimeapi.Client{HTTP: runtimeHTTP(address), Base: "http://" + address, MaxAnswer: maxAnswer}
	}
	ctx := context.Background()
	var h *handler
	if err = errors.Join(err, quietErr); err == nil {
		h, err = prepare(ctx, told, cleaned, f, began)
	}
	if err == nil {
		// That it ends is an error: the runtime has gone.
		err = client.Serve(ctx, h.serve)
	} else if client != nil {
		failure := &runtimeapi.Failure{Class: birth.ClassInit, Message: clip(err.Error(), maxMessage)}
		err = errors.Join(err, client.FailInit(ctx, failure))
	}
	f.unusable(err)
	return err
}

// runtimeHTTP talks to the one address and to nothing else: no proxy, no
// redirect, no name that is asked of anybody.
func runtimeHTTP(address string) *http.Client {
	dialer := &net.Dialer{Timeout: 5 * time.Second}
	return &http.Client{
		Transport: &http.Transport{
			DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				return dialer.DialContext(ctx, "tcp4", address)
			},
			DisableCompression: true,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return errors.New("the runtime does not redirect") },
	}
}

// prepare is everything before the first order.
func prepare(ctx context.Context, w world, environ []string, f *facts, began time.Time) (*handler, error) {
	if err := process.Seal(); err != nil {
		return nil, err
	}
	if err := noLayers(layers); err != nil {
		return nil, err
	}
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("couldn't find this program's folder: %w", err)
	}
	// A root, not a folder: a link in it that leads out is not followed.
	settings, err := os.OpenRoot(filepath.Dir(self))
	if err != nil {
		return nil, fmt.Errorf("couldn't open the package's folder: %w", err)
	}
	defer settings.Close()
	return newHandler(ctx, w, environ, settings.FS(), session.Options{}, f, began)
}

// newHandler makes the handler of a function. Options are for tests.
func newHandler(ctx context.Context, w world, environ []string, settings fs.FS, o session.Options, f *facts, began time.Time) (*handler, error) {
	fn, err := newFunction(w)
	if err != nil {
		return nil, err
	}
	fn.tune()
	credentials, err := session.EnvironmentCredentials(environ)
	if err != nil {
		return nil, err
	}
	cloud := newCloud(credentials, o, fn)
	flow, took, err := wire(ctx, settings, cloud.mode())
	if err != nil {
		return nil, err
	}
	flow.Writers, flow.Calls, flow.Passing = functionWriters, functionCalls, passing
	took["total"] = time.Since(began)
	f.initialized(flow, fn, took)
	return &handler{flow: flow, now: time.Now, function: fn, facts: f, kms: &cloud.requests, largest: maxReceipt}, nil
}

// noLayers refuses a function with layers: an extension in one runs beside
// this program, as the same user, from before it until after it. It cannot
// read the memory of a process that is not dumpable, but it can see the
// network and the Runtime API. The release and the function's code-signing
// configuration are what keeps layers away; this is what of them can be seen
// from inside.
func noLayers(dir string) error {
	entries, err := os.ReadDir(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return fmt.Errorf("couldn't look for layers: %w", err)
	case len(entries) > 0:
		return fmt.Errorf("%s holds %q: the function has a layer, and what is in it would run beside the keys; remove it", dir, short(entries[0].Name()))
	}
	return nil
}

// function is what this program is on Lambda.
type function struct {
	name, version, region string
	memoryMB, cpus        int
	account, partition    string // of the settings' table; "" while these were not read
}

func newFunction(w world) (*function, error) {
	fn := &function{name: w["AWS_LAMBDA_FUNCTION_NAME"], version: w["AWS_LAMBDA_FUNCTION_VERSION"], region: w["AWS_REGION"], cpus: runtime.GOMAXPROCS(0)}
	// $LATEST can be changed at any time; a certificate that named it would
	// name nothing.
	if fn.version == "$LATEST" {
		return nil, errors.New("this is $LATEST: keys are made by a published version only, through the function's alias")
	}
	var err error
	if fn.memoryMB, err = strconv.Atoi(w["AWS_LAMBDA_FUNCTION_MEMORY_SIZE"]); err != nil {
		return nil, fmt.Errorf("couldn't read the memory's size: %w", err)
	}
	return fn, nil
}

// outside the heap, in megabytes: the program's own pages, stacks, and what
// the collector cannot move in time.
const outsideHeapMB = 48

// tune makes the collector work for a small memory that is paid for by the
// second.
func (fn *function) tune() {
	debug.SetGCPercent(200)
	debug.SetMemoryLimit(int64(max(fn.memoryMB-outsideHeapMB, 32)) << 20)
}

// workers is how many indexes are made at once. One more than there are
// processors, since a worker waits for KMS at the end of each batch; as many
// as there is memory for with scrypt, which takes 256 MiB each.
func (fn *function) workers(kdf string) (int, error) {
	if kdf != string(keystore.Scrypt) {
		return fn.cpus + 1, nil
	}
	n := min((fn.memoryMB-outsideHeapMB-64)/256, fn.cpus)
	if n < 1 {
		return 0, fmt.Errorf("%w: scrypt takes 256 MiB, and this function has %d MB: give it 512 or more, or order pbkdf2", birth.ErrOrder, fn.memoryMB)
	}
	return n, nil
}

var functionShape = regexp.MustCompile(`^function:([A-Za-z0-9_-]{1,64})(?::[A-Za-z0-9_-]{1,128})?$`)

// invoked returns the ARN of the version that runs, which the certificate
// names, from the one that was called, an alias of it. The two must be one
// function, in the account and region of the settings' table.
func (fn *function) invoked(text string) (string, error) {
	a, err := arn.Parse(text)
	if err != nil {
		return "", fmt.Errorf("couldn't read the invoked function: %w", err)
	}
	match := functionShape.FindStringSubmatch(a.Resource)
	if a.Service != "lambda" || match == nil || match[1] != fn.name || a.Region != fn.region || a.Account != fn.account || a.Partition != fn.partition {
		return "", fmt.Errorf("the invoked function %q is not %s in region %s and account %s, where the settings' table is", short(text), fn.name, fn.region, fn.account)
	}
	a.Resource = "function:" + fn.name + ":" + fn.version
	return a.String(), nil
}
