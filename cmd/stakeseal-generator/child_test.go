package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"filippo.io/age"

	"github.com/stakeseal/stakeseal/birth"
	"github.com/stakeseal/stakeseal/certificate"
	"github.com/stakeseal/stakeseal/eth"
	"github.com/stakeseal/stakeseal/internal/canary"
	"github.com/stakeseal/stakeseal/internal/config"
	"github.com/stakeseal/stakeseal/internal/folder"
	"github.com/stakeseal/stakeseal/internal/keyfile"
	"github.com/stakeseal/stakeseal/internal/parent"
	"github.com/stakeseal/stakeseal/internal/runtimeapi"
	"github.com/stakeseal/stakeseal/internal/sqlite"
	"github.com/stakeseal/stakeseal/keygen"
	"github.com/stakeseal/stakeseal/keygen/mnemonic"
	"github.com/stakeseal/stakeseal/record"
	"github.com/stakeseal/stakeseal/seal"
	"github.com/stakeseal/stakeseal/unseal"
)

// TestMain lets the test program stand in as a generator that panics in the
// middle of the flow: it is main's own run, with a store between that panics.
// It is chosen by an argument, since the environment must be exact.
func TestMain(m *testing.M) {
	if len(os.Args) >= 4 && os.Args[1] == "function" {
		enterFunction(os.Args[2], os.Args[3], os.Args[4:])
	}
	if len(os.Args) == 3 && os.Args[1] == "child" {
		// Without Quiet: what GOTRACEBACK=none gives on its own.
		err := run(os.Args[1:], os.Environ(), func(s store) store { return &panicking{store: s} })
		fmt.Fprintln(os.Stderr, "stakeseal-generator: error:", err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

type panicking struct {
	store
	mu    sync.Mutex
	calls int
}

func (p *panicking) PutBirth(ctx context.Context, b record.Birth) (record.Birth, error) {
	p.mu.Lock()
	p.calls++
	third := p.calls == 3
	p.mu.Unlock()
	if third {
		panic("forced in the middle of the flow")
	}
	return p.store.PutBirth(ctx, b)
}

// nursery is a parent with real stores for one generator child, which records
// every byte that passes.
type nursery struct {
	t        *testing.T
	dir      string
	store    *sqlite.Store
	archive  *folder.Archive
	trust    *certificate.Trust
	signing  *unseal.Opener
	recovery *unseal.Opener
	output   lockedBuffer
	traffic  lockedBuffer
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) bytes() []byte {
	l.mu.Lock()
	defer l.mu.Unlock()
	return bytes.Clone(l.b.Bytes())
}

const address = "0x388C818CA8B9251b393131C08a736A67ccB19297"

func newNursery(t *testing.T) *nursery {
	t.Helper()
	n := &nursery{t: t, dir: t.TempDir()}
	must(t, os.MkdirAll(filepath.Join(n.dir, "recipients"), 0o700))
	for _, purpose := range []string{"signing", "recovery"} {
		id, err := age.GenerateHybridIdentity()
		must(t, err)
		must(t, os.WriteFile(filepath.Join(n.dir, "recipients", purpose+".txt"), []byte(id.Recipient().String()+"\n"), 0o600))
		opener := unseal.NewOpener(unseal.Age(id, purpose))
		if purpose == "signing" {
			n.signing = opener
		} else {
			n.recovery = opener
		}
	}
	n.settings(`version: 1
network: hoodi
withdrawal_addresses: {cold: "` + address + `"}
seal_to: {signing: [signing], recovery: [recovery]}
certifier: file:certifier.key
store: sqlite:records.db
archive: dir:bundles/
`)
	public, err := keyfile.Create(filepath.Join(n.dir, "certifier.key"))
	must(t, err)
	n.store, err = sqlite.Create(filepath.Join(n.dir, "records.db"))
	must(t, err)
	t.Cleanup(func() { must(t, n.store.Close()) })
	n.archive, err = folder.Create(filepath.Join(n.dir, "bundles"))
	must(t, err)
	network, _ := eth.LookupNetwork("hoodi")
	a, err := eth.ParseAddress(address)
	must(t, err)
	n.trust = &certificate.Trust{Network: network, Addresses: map[string]eth.Address{"cold": a},
		Keys: []certificate.TrustedKey{{Name: "self", Key: public}}}
	return n
}

func (n *nursery) settings(yaml string) {
	n.t.Helper()
	must(n.t, os.WriteFile(filepath.Join(n.dir, config.GeneratorFile), []byte(yaml), 0o600))
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// tee is a connection that keeps a copy of what passes, both ways.
type tee struct {
	net.Conn
	to *lockedBuffer
}

func (c tee) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	_, _ = c.to.Write(p[:n])
	return n, err
}

func (c tee) Write(p []byte) (int, error) {
	_, _ = c.to.Write(p)
	return c.Conn.Write(p)
}

type child struct {
	cmd     *exec.Cmd
	runtime *runtimeapi.Server
	ended   chan error
}

// start runs a program as the generator's child.
func (n *nursery) start(program string, environ []string, args ...string) *child {
	t := n.t
	t.Helper()
	conn, inherited, err := parent.Pair()
	must(t, err)
	cmd := exec.Command(program, args...)
	cmd.Env, cmd.Dir = environ, n.dir
	cmd.ExtraFiles = []*os.File{inherited}
	cmd.Stdout, cmd.Stderr = &n.output, &n.output
	must(t, cmd.Start())
	must(t, inherited.Close())
	c := &child{cmd, runtimeapi.NewServer(), make(chan error, 1)}
	mux := http.NewServeMux()
	mux.Handle("/2018-06-01/", c.runtime)
	mux.Handle("/", parent.Ports{Births: n.store, Reader: n.store, Archive: n.archive}.Handler())
	go func() { _ = parent.Serve(tee{conn, &n.traffic}, mux) }()
	go func() {
		err := cmd.Wait()
		c.runtime.Gone()
		c.ended <- err
	}()
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = conn.Close() })
	return c
}

func (n *nursery) request(count uint32, kdf string) birth.Request {
	a, err := eth.ParseAddress(address)
	must(n.t, err)
	return birth.Request{Schema: birth.RequestSchema, Order: "o-" + kdf, Network: "hoodi", Count: count, To: count,
		WithdrawalAddress: a, Plan: []eth.Gwei{32e9}, Keystore: kdf}
}

func (c *child) invoke(t *testing.T, q birth.Request) ([]byte, error) {
	t.Helper()
	event, err := json.Marshal(q)
	must(t, err)
	return c.runtime.Invoke(t.Context(), runtimeapi.Invocation{Event: event, Deadline: time.Now().Add(2 * time.Minute)})
}

// secrets opens every mnemonic that the store holds and derives what it could
// have made, committed or not: words, seed, and the keys of all its indexes;
// and opens every sealed signing secret.
func (n *nursery) secrets() *canary.Needles {
	t, ctx := n.t, n.t.Context()
	t.Helper()
	var needles canary.Needles
	for o, err := range n.store.Orders(ctx) {
		must(t, err)
		for m, err := range n.store.Mnemonics(ctx, o.ID) {
			must(t, err)
			opened, err := n.recovery.Mnemonic(ctx, m.Sealing.File, seal.RecoveryBinding("hoodi", o.ID, m.ID))
			must(t, err)
			needles.Add("words of "+m.ID, opened.Words.Expose())
			words := bytes.Fields(opened.Words.Expose())
			for i := 0; i+4 <= len(words); i += 4 {
				needles.Add(fmt.Sprintf("words %d.. of %s", i, m.ID), bytes.Join(words[i:i+4], []byte(" ")))
			}
			phrase, err := mnemonic.Parse(opened.Words, mnemonic.English)
			must(t, err)
			seed := phrase.Seed(nil)
			needles.Add("seed of "+m.ID, seed.Expose())
			maker, err := keygen.NewMaker(seed)
			must(t, err)
			var indexes []uint32
			for i := m.From; i < m.To; i++ {
				indexes = append(indexes, i)
			}
			made, err := maker.Make(ctx, keygen.Spec{Network: n.trust.Network, KDF: keygen.None}, indexes, nil)
			must(t, err)
			for _, v := range made {
				needles.Add(fmt.Sprintf("key %d of %s", v.Index, m.ID), v.Secret.Expose())
			}
		}
		for row, err := range n.store.Validators(ctx, record.Query{Order: o.ID}) {
			must(t, err)
			b, err := n.store.Birth(ctx, row.Pubkey)
			must(t, err)
			opened, err := n.signing.Key(ctx, b.Sealing.File, seal.SigningBinding("hoodi", o.ID, b.Index, b.Pubkey))
			must(t, err)
			needles.Add(fmt.Sprintf("opened key %d of %s", b.Index, o.ID), opened.Key.Raw().Expose())
			if opened.Password != nil {
				needles.Add(fmt.Sprintf("password %d of %s", b.Index, o.ID), opened.Password.Expose())
			}
		}
	}
	return &needles
}

// noneFound is G3: no secret in the output, the traffic, or any file.
func (n *nursery) noneFound(atLeast int) {
	n.t.Helper()
	needles := n.secrets()
	if needles.Len() < atLeast {
		n.t.Fatalf("only %d forms to search for, want %d", needles.Len(), atLeast)
	}
	traffic := n.traffic.bytes()
	if len(traffic) < 1000 {
		n.t.Fatalf("only %d bytes of traffic were captured", len(traffic))
	}
	for where, data := range map[string][]byte{"output": n.output.bytes(), "traffic": traffic} {
		if found := needles.In(data); len(found) > 0 {
			n.t.Errorf("%s holds %v", where, found)
		}
	}
	found, read, err := needles.InTree(n.dir)
	must(n.t, err)
	if len(found) > 0 || read < 10_000 {
		n.t.Errorf("files (%d bytes) hold %v", read, found)
	}
}

var buildOnce sync.Once
var builtProgram string

// generator builds the real program once.
func generator(t *testing.T) string {
	t.Helper()
	buildOnce.Do(func() {
		dir, err := os.MkdirTemp("", "generator-")
		must(t, err)
		builtProgram = filepath.Join(dir, "stakeseal-generator")
		if out, err := exec.Command("go", "build", "-o", builtProgram, ".").CombinedOutput(); err != nil {
			t.Fatalf("couldn't build the generator: %v\n%s", err, out)
		}
	})
	return builtProgram
}

func TestOrdersThroughTheRealProgram(t *testing.T) {
	n := newNursery(t)
	c := n.start(generator(t), environment, "child", "2")
	for _, kdf := range []string{"none", "pbkdf2"} {
		answer, err := c.invoke(t, n.request(4, kdf))
		must(t, err)
		var a birth.Answer
		must(t, json.Unmarshal(answer, &a))
		v, err := n.trust.VerifyReceipt(a.Receipt)
		must(t, err)
		if len(v.Validators) != 4 {
			t.Errorf("the receipt lists %d validators", len(v.Validators))
		}
		again, err := c.invoke(t, n.request(4, kdf))
		must(t, err)
		if !bytes.Equal(again, answer) {
			t.Error("the same order again gives another answer")
		}
	}
	changed := n.request(5, "none")
	var failure *runtimeapi.Failure
	if _, err := c.invoke(t, changed); !errors.As(err, &failure) || failure.Class != "conflict" {
		t.Errorf("an order id with other content: %v", err)
	}
	bad := n.request(0, "none")
	if _, err := c.invoke(t, bad); !errors.As(err, &failure) || failure.Class != "refused" {
		t.Errorf("an order of none: %v", err)
	}
	if _, err := c.runtime.Invoke(t.Context(), runtimeapi.Invocation{Event: []byte("{")}); !errors.As(err, &failure) || failure.Class != "refused" {
		t.Errorf("a broken event: %v", err)
	}
	n.noneFound(100)
}

// TestPanicShowsNothing: a panic in the middle of the flow, with secrets on
// every worker's stack, prints its message and no stack.
func TestPanicShowsNothing(t *testing.T) {
	n := newNursery(t)
	self, err := os.Executable()
	must(t, err)
	c := n.start(self, environment, "child", "2")
	_, err = c.invoke(t, n.request(8, "pbkdf2"))
	if !errors.Is(err, runtimeapi.ErrGone) {
		t.Fatalf("the generator did not end: %v", err)
	}
	output := string(n.output.bytes())
	if !strings.Contains(output, "forced in the middle") {
		t.Fatalf("it did not panic: %s", output)
	}
	if strings.Contains(output, "goroutine ") || strings.Contains(output, "0xc0") {
		t.Errorf("the panic printed a stack:\n%s", output)
	}
	n.noneFound(100)
	// And the order goes on to its end in a program that does not panic.
	c = n.start(generator(t), environment, "child", "2")
	_, err = c.invoke(t, n.request(8, "pbkdf2"))
	must(t, err)
	n.noneFound(200)
}

// TestSignalsShowNothing: signals that make a Go program dump its stacks or a
// core.
func TestSignalsShowNothing(t *testing.T) {
	for _, signal := range []syscall.Signal{syscall.SIGQUIT, syscall.SIGABRT, syscall.SIGSEGV, syscall.SIGTERM} {
		t.Run(signal.String(), func(t *testing.T) {
			n := newNursery(t)
			c := n.start(generator(t), environment, "child", "2")
			go func() {
				for {
					rows := 0
					for range n.store.Validators(context.Background(), record.Query{}) {
						rows++
					}
					if rows > 0 {
						_ = c.cmd.Process.Signal(signal)
						return
					}
					time.Sleep(time.Millisecond)
				}
			}()
			_, err := c.invoke(t, n.request(90, "pbkdf2"))
			if !errors.Is(err, runtimeapi.ErrGone) {
				t.Fatalf("the generator did not end: %v", err)
			}
			if output := string(n.output.bytes()); strings.Contains(output, "goroutine ") || strings.Contains(output, "rsp ") {
				t.Errorf("the signal printed a stack or registers:\n%s", output)
			}
			n.noneFound(100)
		})
	}
}

// TestEnvironmentIsExact: no variable more, none less, no other value.
func TestEnvironmentIsExact(t *testing.T) {
	for name, environ := range map[string][]string{
		"empty":                {},
		"more":                 {"GOTRACEBACK=none", "GODEBUG=http2debug=2"},
		"other value":          {"GOTRACEBACK=all"},
		"other value after":    {"GOTRACEBACK=none", "GOTRACEBACK=all"},
		"redirected endpoint":  {"GOTRACEBACK=none", "AWS_ENDPOINT_URL_KMS=http://127.0.0.1:1"},
		"another trust anchor": {"GOTRACEBACK=none", "SSL_CERT_FILE=/tmp/x"},
	} {
		t.Run(name, func(t *testing.T) {
			n := newNursery(t)
			c := n.start(generator(t), environ, "child", "1")
			if _, err := c.invoke(t, n.request(1, "none")); err == nil {
				t.Fatal("it made keys")
			}
			if output := string(n.output.bytes()); !strings.Contains(output, "environment is not exactly") {
				t.Errorf("it said: %s", output)
			}
		})
	}
}

// TestSettingsOfARelease: with a folder below the home the settings are read
// there, and the home's own not at all; a folder elsewhere is none.
func TestSettingsOfARelease(t *testing.T) {
	n := newNursery(t)
	release := filepath.Join(n.dir, "releases", "r1")
	must(t, os.MkdirAll(release, 0o700))
	for _, name := range []string{config.GeneratorFile, "recipients"} {
		must(t, os.Rename(filepath.Join(n.dir, name), filepath.Join(release, name)))
	}
	outside := t.TempDir()
	must(t, os.CopyFS(outside, os.DirFS(release)))
	must(t, os.Symlink(outside, filepath.Join(n.dir, "link")))
	c := n.start(generator(t), environment, "child", "2", "releases/r1")
	_, err := c.invoke(t, n.request(3, "none"))
	must(t, err)
	for _, folder := range []string{"../" + filepath.Base(outside), outside, "link", "releases/none", "certifier.key", ""} {
		c := n.start(generator(t), environment, "child", "2", folder)
		if _, err := c.invoke(t, n.request(1, "none")); err == nil {
			t.Errorf("settings were read from %q", folder)
		}
	}
	c = n.start(generator(t), environment, "child", "2", "releases/r1", "more")
	if _, err := c.invoke(t, n.request(1, "none")); err == nil {
		t.Error("a further argument is passed over")
	}
}

// TestUnusableSettings: whatever is wrong with the settings is said before
// any key exists.
func TestUnusableSettings(t *testing.T) {
	good, err := os.ReadFile(filepath.Join(newNursery(t).dir, config.GeneratorFile))
	must(t, err)
	for name, c := range map[string]struct {
		spoil func(n *nursery)
		says  string
	}{
		"missing":            {func(n *nursery) { must(n.t, os.Remove(filepath.Join(n.dir, config.GeneratorFile))) }, "no such file"},
		"unknown key":        {func(n *nursery) { n.settings(string(good) + "debug: true\n") }, "debug"},
		"repeated key":       {func(n *nursery) { n.settings(string(good) + "network: hoodi\n") }, "network"},
		"another version":    {func(n *nursery) { n.settings(strings.Replace(string(good), "version: 1", "version: 2", 1)) }, "version"},
		"another network":    {func(n *nursery) { n.settings(strings.Replace(string(good), "hoodi", "holesky", 1)) }, "holesky"},
		"checksum":           {func(n *nursery) { n.settings(strings.Replace(string(good), "0x388C", "0x388c", 1)) }, "checksum"},
		"store elsewhere":    {func(n *nursery) { n.settings(strings.Replace(string(good), "sqlite:", "postgres:", 1)) }, "postgres"},
		"archive elsewhere":  {func(n *nursery) { n.settings(strings.Replace(string(good), "dir:", "s3:", 1)) }, "s3"},
		"certifier missing":  {func(n *nursery) { must(n.t, os.Remove(filepath.Join(n.dir, "certifier.key"))) }, "certifier.key"},
		"certifier readable": {func(n *nursery) { must(n.t, os.Chmod(filepath.Join(n.dir, "certifier.key"), 0o644)) }, "certifier.key"},
		"recipient missing":  {func(n *nursery) { must(n.t, os.Remove(filepath.Join(n.dir, "recipients/signing.txt"))) }, "signing.txt"},
		"recipient unknown": {func(n *nursery) {
			must(n.t, os.WriteFile(filepath.Join(n.dir, "recipients/signing.txt"), []byte("age1yubikey1qwertyuiop\n"), 0o600))
		}, "signing"},
		"one key for both": {func(n *nursery) {
			data, err := os.ReadFile(filepath.Join(n.dir, "recipients/signing.txt"))
			must(n.t, err)
			must(n.t, os.WriteFile(filepath.Join(n.dir, "recipients/recovery.txt"), data, 0o600))
		}, "one key"},
		"approvers": {func(n *nursery) { n.settings(string(good) + "approvers: [x]\n") }, "approvers"},
	} {
		t.Run(name, func(t *testing.T) {
			n := newNursery(t)
			c.spoil(n)
			child := n.start(generator(t), environment, "child", "1")
			if _, err := child.invoke(t, n.request(1, "none")); err == nil {
				t.Fatal("it made keys")
			} else if !strings.Contains(err.Error(), c.says) {
				t.Errorf("it said %q, which does not name %q", err, c.says)
			}
			for range n.store.Orders(t.Context()) {
				t.Error("an order was placed")
			}
		})
	}
}
