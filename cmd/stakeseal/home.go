package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"sync"

	"github.com/stakeseal/stakeseal/certificate"
	"github.com/stakeseal/stakeseal/internal/aws/ops"
	"github.com/stakeseal/stakeseal/internal/config"
	"github.com/stakeseal/stakeseal/record"
)

// trustFile is the verifier's own list in a home.
const trustFile = "trust.yaml"

// home is an opened home: its settings and its stores.
type home struct {
	dir       string
	generator *config.Generator
	operator  *config.Home
	trust     *certificate.Trust
	records   records
	archive   record.Archive
	closer    func() error
	cloud     *ops.Account // nil: not on AWS, or not opened yet
	rights    *rights      // who may do what there
	verified  sync.Map     // madeBy to *certificate.Birth: the first that verified
}

// close ends the use of a home. Writes were durable when they returned, so
// there is nothing left that could fail.
func (h *home) close() { _ = h.closer() }

// records is what the operator's command line may do with the store.
type records interface {
	record.Births
	record.Reader
	record.Catalog
	record.Assignments
	record.Events
	record.Imports
	record.ImportReader
}

// dataDir is where homes stand unless --home says otherwise.
func dataDir() (string, error) {
	if dir := os.Getenv("XDG_DATA_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "stakeseal"), nil
	}
	dir, err := os.UserHomeDir()
	if err != nil {
		return "", usage("name a folder with --home", "couldn't tell where homes stand: %w", err)
	}
	return filepath.Join(dir, ".local", "share", "stakeseal"), nil
}

// homeDir resolves --home and --network. Without either, the one home that
// there is; with several, the caller must say which.
func (a *app) homeDir() (string, error) {
	if a.homeFlag != "" {
		return filepath.Abs(a.homeFlag)
	}
	data, err := dataDir()
	if err != nil {
		return "", err
	}
	if a.networkFlag != "" {
		return filepath.Join(data, a.networkFlag), nil
	}
	var found []string
	entries, err := os.ReadDir(data)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("couldn't look for a home: %w", err)
	}
	for _, e := range entries {
		if _, err := os.Stat(filepath.Join(data, e.Name(), config.GeneratorFile)); err == nil {
			found = append(found, e.Name())
		}
	}
	slices.Sort(found)
	switch len(found) {
	case 0:
		return "", usage("make one: stakeseal init --network hoodi --withdrawal-address 0xYOUR_ADDRESS", "there is no home in %s", data)
	case 1:
		return filepath.Join(data, found[0]), nil
	}
	return "", usage("choose one with --network or --home", "there are several homes: %v", found)
}

// openHome opens the home that the flags name, settings and stores.
func (a *app) openHome(ctx context.Context) (*home, error) {
	h, err := a.openSettings()
	if err != nil {
		return nil, err
	}
	return h, h.wire(ctx, a)
}

// openSettings reads the settings of the home that the flags name and says
// which it is, as every command does first.
func (a *app) openSettings() (*home, error) {
	dir, err := a.homeDir()
	if err != nil {
		return nil, err
	}
	notHome := usage("make one: stakeseal init --home "+quoted(dir)+" --network NAME --withdrawal-address 0xYOUR_ADDRESS",
		"%s is not a stakeseal home (it has no %s)", dir, config.GeneratorFile)
	// A root, not a folder: a link in it that leads out is not followed.
	folder, err := os.OpenRoot(dir)
	if info, e := os.Stat(dir); errors.Is(err, fs.ErrNotExist) || e == nil && !info.IsDir() {
		return nil, notHome
	}
	if err != nil {
		return nil, fmt.Errorf("couldn't open the home: %w", err)
	}
	defer folder.Close()
	root := folder.FS()
	if _, err := fs.Stat(root, config.GeneratorFile); errors.Is(err, fs.ErrNotExist) {
		return nil, notHome
	}
	h := &home{dir: dir}
	settings, err := settingsFolder(root)
	if err != nil {
		return nil, fmt.Errorf("home %s: %w", dir, err)
	}
	if h.generator, err = config.LoadGenerator(settings); err != nil {
		return nil, fmt.Errorf("home %s: %w", dir, err)
	}
	a.say("%s, home %s", h.generator.Network.Name, dir)
	if a.networkFlag != "" && a.networkFlag != h.generator.Network.Name {
		return nil, usage("leave --network out, or choose another --home", "--network is %q, and this home is for %q", a.networkFlag, h.generator.Network.Name)
	}
	if h.operator, err = config.LoadHome(root); err != nil {
		return nil, err
	}
	if err := h.operator.Fits(h.generator); err != nil {
		return nil, err
	}
	if h.trust, err = loadTrust(filepath.Join(dir, trustFile)); err != nil {
		return nil, err
	}
	if h.trust.Network.Digest() != h.generator.Network.Digest() {
		return nil, usage("a home is for one network; correct "+trustFile, "%s is for network %q, %s for %q",
			trustFile, h.trust.Network.Name, config.GeneratorFile, h.generator.Network.Name)
	}
	return h, nil
}

func loadTrust(path string) (*certificate.Trust, error) {
	data, err := readBounded(path, 1<<20)
	if err != nil {
		return nil, fmt.Errorf("couldn't read the trust file: %w", err)
	}
	trust, err := certificate.ParseTrust(data)
	if errors.Is(err, certificate.ErrTooFew) {
		return nil, fail(exitRefused, "a release that was signed when fewer had to says so itself, with threshold: N in its entry: see More managers in docs/release.md", "couldn't use the trust file %s: %w", path, err)
	}
	if err != nil {
		return nil, fmt.Errorf("couldn't use the trust file %s: %w", path, err)
	}
	return trust, nil
}

// readers is how many records are read at once: on AWS each waits for its
// answers most of the time.
func (h *home) readers(workers int) int {
	if h != nil && h.cloud != nil {
		return max(workers, 16)
	}
	return workers
}

// who is this user; on AWS who AWS says that it is, as its trail does.
func (h *home) who() string {
	if h.cloud != nil {
		return h.cloud.Caller.ARN
	}
	return actor()
}

// note appends an event about a validator or order, by this user.
func (h *home) note(ctx context.Context, e record.Event) error {
	e.Actor = h.who()
	if h.cloud != nil {
		e.Detail = maps.Clone(e.Detail)
		if e.Detail == nil {
			e.Detail = map[string]string{}
		}
		e.Detail["user"] = actor()
	}
	if err := h.records.Append(ctx, e); err != nil {
		return fmt.Errorf("couldn't note that it was %s: %w", e.Kind, err)
	}
	return nil
}

// actor names who runs the command, for the events.
func actor() string {
	name := "unknown"
	if u, err := user.Current(); err == nil {
		name = u.Username
	}
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	return name + "@" + host
}
