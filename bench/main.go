// Command bench measures stakeseal as its users run it: the real programs,
// built for the purpose, on a home of their own with a real database and a
// real archive, the generator as a child process. Beside the figures of the
// whole flow it measures in the same minutes, in turn with them, what the key
// derivation function alone costs here: that is the limit that no flow passes.
//
// It trusts the kernel's accounts of processor time and memory (wait4). They
// count what a process used and not what its neighbours took, so a figure by
// processor time holds on a busy machine too; figures by the clock are marked
// as such and hold on a quiet one.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	measure := func() error { return run(ctx, os.Args[1:]) }
	if len(os.Args) > 1 && os.Args[1] == kdfArgument {
		measure = func() error { return kdfMain(os.Args[2:]) }
	}
	if len(os.Args) > 1 && os.Args[1] == answerArgument {
		measure = answerMain
	}
	if err := measure(); err != nil {
		fmt.Fprintln(os.Stderr, "bench: error:", err)
		os.Exit(1)
	}
}

// parts are what can be measured on its own, in this order.
var parts = []struct {
	name, what string
	measure    func(*bench, context.Context) error
}{
	{"start", "how long the command line takes to start", (*bench).start},
	{"none", "orders without keystores: all work but the KDF", (*bench).none},
	{"pbkdf2", "orders with pbkdf2 keystores beside pbkdf2 alone", (*bench).pbkdf2},
	{"scaling", "two cores over one", (*bench).scaling},
	{"scrypt", "orders with scrypt keystores beside scrypt alone", (*bench).scrypt},
	{"order", "one order of 10,000 validators", (*bench).order},
	{"list", "a list of 100,000 records", (*bench).list},
	{"burst", "1,000 attestations at one moment beside BLS alone", (*bench).burst},
	{"load", "10,000 keys ready to sign beside opening them alone", (*bench).load},
}

// bench is one run of the benchmark.
type bench struct {
	dir     string // of the programs and the homes
	workers int
	rounds  int
	table   table
}

func run(ctx context.Context, args []string) (err error) {
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	only := flags.String("only", "", "measure these parts, joined by commas (default: all)")
	dir := flags.String("dir", "build", "a `FOLDER` on the disk to measure; that for temporary files is often in memory")
	rounds := flags.Int("rounds", 3, "repeat each comparison this many times; medians are reported")
	workers := flags.Int("workers", runtime.NumCPU(), "how many validators are made at once")
	flags.Usage = func() {
		fmt.Fprintln(flags.Output(), "usage: bench [flags]; parts:")
		for _, p := range parts {
			fmt.Fprintf(flags.Output(), "  %-8s %s\n", p.name, p.what)
		}
		flags.PrintDefaults()
	}
	if err := flags.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return nil
		}
		return err
	}
	if flags.NArg() > 0 || *rounds < 1 || *workers < 1 {
		return errors.New("give no arguments, and at least one round and one worker")
	}
	wanted, err := choose(*only)
	if err != nil {
		return err
	}
	b := &bench{workers: *workers, rounds: *rounds}
	if err := os.MkdirAll(*dir, 0o755); err != nil {
		return fmt.Errorf("couldn't make a folder: %w", err)
	}
	if *dir, err = filepath.Abs(*dir); err != nil {
		return err
	}
	if b.dir, err = os.MkdirTemp(*dir, "stakeseal-bench-"); err != nil {
		return fmt.Errorf("couldn't make a folder: %w", err)
	}
	defer func() {
		if e := os.RemoveAll(b.dir); err == nil && e != nil {
			err = fmt.Errorf("couldn't remove %s: %w", b.dir, e)
		}
	}()
	if err := b.build(ctx); err != nil {
		return err
	}
	b.table.note("%s/%s, %d cores, %s; %s", runtime.GOOS, runtime.GOARCH, runtime.NumCPU(), runtime.Version(), fileSystem(b.dir))
	b.table.note("load average at the beginning %s", loadAverage())
	for _, p := range parts {
		if !slices.Contains(wanted, p.name) {
			continue
		}
		fmt.Fprintf(os.Stderr, "bench: %s: %s\n", p.name, p.what)
		began, others := time.Now(), othersTime()
		if err := p.measure(b, ctx); err != nil {
			return fmt.Errorf("%s: %w", p.name, err)
		}
		took := time.Since(began)
		b.table.note("%s took %.0f s, during which other programs used %s", p.name, took.Seconds(), shareOf(othersTime()-others, took))
	}
	b.table.note("load average at the end %s", loadAverage())
	return b.table.print(os.Stdout)
}

// choose resolves -only.
func choose(only string) (names []string, err error) {
	for _, p := range parts {
		names = append(names, p.name)
	}
	if only == "" {
		return names, nil
	}
	chosen := strings.Split(only, ",")
	for _, name := range chosen {
		if !slices.Contains(names, name) {
			return nil, fmt.Errorf("-only %q: there are %s", name, strings.Join(names, ", "))
		}
	}
	return chosen, nil
}

// home makes a home with the command line itself, identities beside it.
func (b *bench) home(ctx context.Context, name string, most int) (string, error) {
	dir := filepath.Join(b.dir, name)
	_, err := b.stakeseal(ctx, nil, "init", "--home", dir, "--network", "hoodi", "--withdrawal-address", withdrawals,
		"--identities", dir+"-identities", "--max-validators-per-order", fmt.Sprint(most))
	return dir, err
}

// withdrawals is a checksummed address that nothing here pays to.
const withdrawals = "0x388C818CA8B9251b393131C08a736A67ccB19297"

// makeKeys places an order in a home and runs it to its receipt.
func (b *bench) makeKeys(ctx context.Context, home string, count, workers int, keystore string, pin []int) (usage, error) {
	u, err := b.stakeseal(ctx, pin, "generate", "--home", home, "--count", fmt.Sprint(count), "--keystore", keystore,
		"--workers", fmt.Sprint(workers), "--yes", "--json")
	if err == nil && !strings.Contains(u.head, `"stakeseal/receipt/v1"`) {
		err = fmt.Errorf("no receipt in %.80q", u.head)
	}
	return u, err
}
