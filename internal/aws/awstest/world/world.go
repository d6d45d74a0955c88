// Package world is AWS for tests, the rehearsal and the measurement of costs:
// every service that stakeseal talks to, under its real name and over TLS, in
// one process on an island (package island), so that the released programs meet
// it unchanged. There is no option, variable or file by which they are led
// there.
//
// It promises that a call is done only if its Signature Version 4 verifies,
// with credentials that have not expired, for this service and region; if the
// policies of our own templates allow it (package infra/stack), with the
// condition keys that AWS would have for it; and if the world knows the
// operation and each of its parameters. Whatever it does not know is refused
// and fails the test. Every call is in the trail, and everything that was tried
// beside them in Strays.
//
// It trusts the test. It is not AWS: docs/aws.md lists what only an account can
// show.
package world

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"sync"
	"time"

	"github.com/stakeseal/stakeseal/infra/stack"
	"github.com/stakeseal/stakeseal/internal/aws/awstest"
	"github.com/stakeseal/stakeseal/internal/aws/awstest/buckets"
	"github.com/stakeseal/stakeseal/internal/aws/awstest/island"
	"github.com/stakeseal/stakeseal/internal/aws/awstest/tables"
)

// Account and Region are those of the world; other regions have names and
// nothing in them.
const (
	Account = awstest.Account
	Region  = "us-east-1"
)

// regions have names. One that is not here resolves to nothing.
var regions = []string{Region, "eu-central-1", "us-west-2"}

// T is what the world needs of testing.TB; a program may have its own.
type T interface {
	Helper()
	Errorf(format string, args ...any)
	Fatal(args ...any)
	Skip(args ...any)
	Cleanup(func())
}

// Main runs the tests of a package on an island: it is all that TestMain does,
// as os.Exit(world.Main(m)). Where there can be no island the tests run all the
// same, and those that call New are skipped, or fail where the island is needed:
// with CI=true, unless STAKESEAL_ISLAND is optional.
func Main(m interface{ Run() int }) int { return Run(m.Run) }

// Run is Main for a program.
func Run(program func() int) int { return island.Run(program) }

// World is AWS, open for calls. Its methods are safe for concurrent use.
type World struct {
	// Tables, Buckets and Keys are what the services keep. A test may look
	// into them and change them as nobody with credentials could.
	Tables  *tables.Store
	Buckets *buckets.Store
	Keys    *awstest.Keys

	dir       string
	authority *authority
	server    *http.Server
	names     *nameServer
	began     int // attempts seen before this world
	functions *functions

	mu        sync.Mutex
	inst      *stack.Installation
	deployed  time.Time
	profiles  map[string]*profile
	jobs      map[string]*signingJob
	sessions  map[string]*session // by access key id
	trail     []Event
	faults    []*injected
	kill      *Kill
	problems  []string
	expected  map[netip.AddrPort]bool
	unknown   []string // names that were asked for and do not exist
	downloads map[string][]byte
	closed    bool
}

// open is the one world there can be at a time: all have the same addresses.
var open struct {
	sync.Mutex
	world *World
}

// New opens a world for a test and closes it with it. dir is for what the
// functions are made of. Problems that the world had fail the test.
func New(t T, dir string) *World {
	t.Helper()
	if err := island.Why(); err != nil {
		if island.Needed() {
			t.Fatal("no world: ", err)
		}
		t.Skip("no world, so nothing was shown: ", err)
	}
	w, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := w.Close(); err != nil {
			t.Errorf("the world: %v", err)
		}
	})
	return w
}

// Open opens a world in a program that Run runs.
func Open(dir string) (*World, error) {
	open.Lock()
	defer open.Unlock()
	if open.world != nil {
		return nil, errors.New("couldn't open a world: there is one already, and the names of AWS lead to it")
	}
	a, err := trusted()
	if err != nil {
		return nil, fmt.Errorf("couldn't open a world: %w", err)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("couldn't open a world: %w", err)
	}
	before, _ := island.Attempts()
	w := &World{
		Tables: tables.New(), Buckets: buckets.New(), Keys: awstest.NewKeys(Region, Account),
		dir: dir, authority: a, began: len(before),
		sessions: map[string]*session{}, expected: map[netip.AddrPort]bool{}, downloads: map[string][]byte{},
		profiles: map[string]*profile{}, jobs: map[string]*signingJob{},
	}
	w.functions = newFunctions(w)
	if err := w.listen(); err != nil {
		return nil, fmt.Errorf("couldn't open a world: %w", err)
	}
	open.world = w
	return w, nil
}

var tlsAddress, dnsAddress = netip.MustParseAddrPort("127.0.0.1:443"), netip.MustParseAddrPort("127.0.0.1:53")

func (w *World) listen() error {
	names, err := newNameServer(dnsAddress.String(), w.resolves)
	if err != nil {
		return err
	}
	l, err := new(net.ListenConfig).Listen(context.Background(), "tcp", tlsAddress.String())
	if err != nil {
		names.close()
		return err
	}
	w.names = names
	w.server = &http.Server{
		Handler: w, TLSConfig: w.authority.config(w.serves), ReadHeaderTimeout: 30 * time.Second,
		ErrorLog: w.logger(), TLSNextProto: noHTTP2,
	}
	go func() { _ = w.server.ServeTLS(l, "", "") }()
	return nil
}

// Close ends the world and returns what went wrong in it: calls that it did
// not know, decisions that it could not make. What is still running ends.
func (w *World) Close() error {
	open.Lock()
	defer open.Unlock()
	if w.closed {
		return nil
	}
	w.closed = true
	w.functions.close()
	_ = w.server.Close()
	w.names.close()
	if open.world == w {
		open.world = nil
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	var errs []error
	for _, p := range w.problems {
		errs = append(errs, errors.New(p))
	}
	return errors.Join(errs...)
}

// problem notes what a test must not pass over.
func (w *World) problem(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.problems = append(w.problems, fmt.Sprintf(format, args...))
}

// Problems returns what the world could not do, and forgets it: a test that
// provoked it says so by asking.
func (w *World) Problems() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	p := w.problems
	w.problems = nil
	return p
}

// Stray is an attempt at something that is not the world.
type Stray struct {
	What string // "tcp 169.254.169.254:80", or "name example.com"
}

// Expect says that connections to an address are the test's own, such as to a
// server that it started.
func (w *World) Expect(address string) {
	a, err := netip.ParseAddrPort(address)
	if err != nil {
		w.problem("expected address %q: %v", address, err)
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.expected[a] = true
}

// Strays returns every attempt, by whatever program, since the world was
// opened: connections and datagrams to anything but the world's own addresses
// and those that the test expects, and names that nothing has.
func (w *World) Strays() []Stray {
	attempts, lost := island.Attempts()
	w.mu.Lock()
	defer w.mu.Unlock()
	var out []Stray
	for _, a := range attempts[w.began:] {
		at := netip.AddrPortFrom(a.To.Addr().Unmap(), a.To.Port())
		if at != tlsAddress && at != dnsAddress && a.From != dnsAddress && !w.expected[at] {
			out = append(out, Stray{a.String()})
		}
	}
	for _, name := range w.unknown {
		out = append(out, Stray{"name " + name})
	}
	if lost > 0 {
		out = append(out, Stray{fmt.Sprintf("%d attempts that could not be shown", lost)})
	}
	return out
}
