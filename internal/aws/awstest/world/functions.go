package world

import (
	"archive/zip"
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Bounds of Lambda.
const (
	maxZip       = 50 << 20
	maxUnzipped  = 250 << 20
	concurrent   = 1000 // an account's, at once
	maxEvent     = 6 << 20
	maxAsync     = 1 << 20
	maxResponse  = 6<<20 + 100 // bytes: 6291556
	asyncRetries = 2
)

// functions is Lambda: functions with their versions and aliases, and the
// processes that run them.
type functions struct {
	w *World

	mu      sync.Mutex
	byName  map[string]*function
	signing map[string]map[string]any // code-signing configurations by ARN
	running map[*instance]bool
	idle    map[*version][]*instance
	closing bool
	pending sync.WaitGroup // deliveries of events

	ran     []Invocation
	dropped []Delivery
	log     lockedBuffer
}

// config is what UpdateFunctionConfiguration would change, and no call here
// does.
type config struct {
	name, arn, role, runtime, handler, description string
	memoryMB                                       int
	timeout                                        time.Duration
	architectures                                  []string
	environment                                    map[string]string
	logFormat, logGroup                            string
	signingConfig                                  string
	vpc                                            map[string]any
	tags                                           map[string]string
	reserved                                       int // concurrency, -1 for none
	retries                                        int // of events
}

type function struct {
	config
	events   []map[string]any // configurations of asynchronous invocations
	latest   *version
	versions []*version // published, in order
	next     int
	aliases  map[string]*alias
}

// version is code and configuration, for good once it is published.
type version struct {
	config
	number string // "$LATEST", "1", ...
	code   code
	at     time.Time
	note   string
}

// code is a package that was installed.
type code struct {
	zip        []byte
	sum        string // base64 of its SHA-256
	dir        string // where it lies unpacked
	job        string // ARN of the signing job, "" for unsigned code
	profile    string // ARN of the signing profile's version
	unreadable string // why it does not start
}

type alias struct {
	name, version, note string
	revision            int
	weights             map[string]float64 // the share of another version, if any
	due                 float64            // of that share, towards the next call
}

// next is the version that a call of the alias goes to: shares are dealt out in
// turn, so that a test needs no luck.
func (a *alias) next() string {
	for other, share := range a.weights {
		if a.due += share; a.due >= 1 {
			a.due--
			return other
		}
	}
	return a.version
}

func newFunctions(w *World) *functions {
	return &functions{w: w, byName: map[string]*function{}, signing: map[string]map[string]any{}, running: map[*instance]bool{}, idle: map[*version][]*instance{}}
}

// make makes a function without code.
func (f *functions) make(c config) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.byName[c.name] != nil {
		return fmt.Errorf("function %q is there already", c.name)
	}
	made := &function{config: c, next: 1, aliases: map[string]*alias{}}
	made.latest = &version{config: c, number: "$LATEST", at: time.Now()}
	f.byName[c.name] = made
	return nil
}

// only returns the one function of an installation.
func (f *functions) only() (*function, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, fn := range f.byName {
		if len(f.byName) == 1 {
			return fn, nil
		}
	}
	return nil, fmt.Errorf("there are %d functions, not one", len(f.byName))
}

// Install makes a package the code of the function's $LATEST, without a
// release and its signatures: what a template's first deployment does.
func (w *World) Install(zipPath string) error {
	data, err := os.ReadFile(zipPath)
	if err != nil {
		return fmt.Errorf("couldn't install the package: %w", err)
	}
	fn, err := w.functions.only()
	if err == nil {
		var c code
		if c, err = w.functions.unpack(data); err == nil {
			w.functions.setCode(fn, c)
			return nil
		}
	}
	return fmt.Errorf("couldn't install the package: %w", err)
}

// Publish makes $LATEST a version and has the alias live lead to it, as a
// release does. It returns the version's number.
func (w *World) Publish() (string, error) {
	fn, err := w.functions.only()
	if err != nil {
		return "", fmt.Errorf("couldn't publish: %w", err)
	}
	f := w.functions
	f.mu.Lock()
	defer f.mu.Unlock()
	v, err := f.publish(fn, "")
	if err != nil {
		return "", fmt.Errorf("couldn't publish: %w", err)
	}
	f.point(fn, "live", v.number, "")
	return v.number, nil
}

// Point has the alias live lead to a version.
func (w *World) Point(number string) error {
	fn, err := w.functions.only()
	if err != nil {
		return err
	}
	f := w.functions
	f.mu.Lock()
	defer f.mu.Unlock()
	if fn.find(number) == nil || number == "$LATEST" {
		return fmt.Errorf("there is no version %q", number)
	}
	f.point(fn, "live", number, "")
	return nil
}

// Configure changes the function's configuration as UpdateFunctionConfiguration
// would: the environment, and where not zero memory (MB), timeout and reserved
// concurrency. It is for the next version, but for the concurrency.
func (w *World) Configure(environment map[string]string, memoryMB int, timeout time.Duration, reserved int) error {
	fn, err := w.functions.only()
	if err != nil {
		return err
	}
	f := w.functions
	f.mu.Lock()
	defer f.mu.Unlock()
	latest := *fn.latest
	latest.environment = maps.Clone(environment)
	if memoryMB != 0 {
		latest.memoryMB = memoryMB
	}
	if timeout != 0 {
		latest.timeout = timeout
	}
	if reserved != 0 {
		fn.reserved = reserved
	}
	f.forget(fn.latest)
	latest.at = time.Now()
	fn.latest = &latest
	return nil
}

// setCode replaces the code of $LATEST.
func (f *functions) setCode(fn *function, c code) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.forget(fn.latest)
	latest := *fn.latest
	latest.code, latest.at = c, time.Now()
	fn.latest = &latest
}

// publish makes a version of $LATEST, or returns the newest if it is the same.
func (f *functions) publish(fn *function, note string) (*version, error) {
	if fn.latest.code.zip == nil {
		return nil, fmt.Errorf("the function has no code")
	}
	if n := len(fn.versions); n > 0 && fn.versions[n-1].same(fn.latest) {
		return fn.versions[n-1], nil
	}
	v := *fn.latest
	v.number, v.at, v.note = strconv.Itoa(fn.next), time.Now(), note
	fn.next++
	fn.versions = append(fn.versions, &v)
	return &v, nil
}

func (v *version) same(other *version) bool {
	return v.code.sum == other.code.sum && v.memoryMB == other.memoryMB && v.timeout == other.timeout && maps.Equal(v.environment, other.environment)
}

func (f *functions) point(fn *function, name, number, note string) *alias {
	a := fn.aliases[name]
	if a == nil {
		a = &alias{name: name}
		fn.aliases[name] = a
	}
	a.version, a.note, a.revision = number, note, a.revision+1
	return a
}

// find returns a version by its number.
func (fn *function) find(number string) *version {
	if number == "$LATEST" {
		return fn.latest
	}
	i := slices.IndexFunc(fn.versions, func(v *version) bool { return v.number == number })
	if i < 0 {
		return nil
	}
	return fn.versions[i]
}

// resolve returns what a qualifier stands for: an alias, a number, or nothing.
func (fn *function) resolve(qualifier string) *version {
	if qualifier == "" {
		return fn.latest
	}
	if a := fn.aliases[qualifier]; a != nil {
		qualifier = a.next()
	}
	return fn.find(qualifier)
}

// unpack lays a package out as Lambda does under /var/task.
func (f *functions) unpack(data []byte) (code, error) {
	sum := sha256.Sum256(data)
	c := code{zip: data, sum: base64.StdEncoding.EncodeToString(sum[:])}
	if len(data) > maxZip {
		return c, fmt.Errorf("a package of %d bytes, more than %d", len(data), maxZip)
	}
	archive, err := zip.NewReader(bytes.NewReader(data), int64(len(data)))
	if err != nil {
		return c, fmt.Errorf("the package is no zip file: %w", err)
	}
	if c.dir, err = os.MkdirTemp(f.w.dir, "task-"); err != nil {
		return c, err
	}
	left := int64(maxUnzipped)
	for _, file := range archive.File {
		if !filepath.IsLocal(file.Name) || strings.Contains(file.Name, `\`) {
			return c, fmt.Errorf("the package has a file %q", file.Name)
		}
		at := filepath.Join(c.dir, filepath.FromSlash(file.Name))
		if strings.HasSuffix(file.Name, "/") {
			if err := os.MkdirAll(at, 0o755); err != nil {
				return c, err
			}
			continue
		}
		if !file.Mode().IsRegular() {
			return c, fmt.Errorf("the package has %q, which is no plain file", file.Name)
		}
		if left, err = unpackFile(file, at, left); err != nil {
			return c, err
		}
	}
	// Lambda reads a package as another user.
	info, err := os.Stat(filepath.Join(c.dir, "bootstrap"))
	switch {
	case err != nil:
		c.unreadable = "Couldn't find valid bootstrap(s): [/var/task/bootstrap /opt/bootstrap]"
	case info.Mode().Perm()&0o005 != 0o005:
		c.unreadable = "fork/exec /var/task/bootstrap: permission denied"
	}
	return c, nil
}

func unpackFile(file *zip.File, at string, left int64) (int64, error) {
	if err := os.MkdirAll(filepath.Dir(at), 0o755); err != nil {
		return left, err
	}
	from, err := file.Open()
	if err != nil {
		return left, err
	}
	defer from.Close()
	into, err := os.OpenFile(at, os.O_WRONLY|os.O_CREATE|os.O_EXCL, file.Mode().Perm()|0o600)
	if err != nil {
		return left, err
	}
	n, err := io.Copy(into, io.LimitReader(from, left+1))
	if closeErr := into.Close(); err == nil {
		err = closeErr
	}
	if n > left {
		return left, fmt.Errorf("the package is larger than %d bytes unpacked", maxUnzipped)
	}
	return left - n, err
}

// lockedBuffer is a log that several processes write.
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

// Logs is what the function wrote, with Lambda's own START, END and REPORT
// lines.
func (w *World) Logs() []byte { return w.functions.log.bytes() }
