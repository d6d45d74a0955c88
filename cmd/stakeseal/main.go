// Command stakeseal makes Ethereum validator keys that are sealed at birth:
// it places orders, runs the generator that makes them, proves that recovery
// works, judges deposits, and hands keys to the machine that signs.
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"regexp"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/stakeseal/stakeseal/internal/aws/ops"
	"github.com/stakeseal/stakeseal/internal/process"
)

func main() { os.Exit(start()) }

// start hardens the process, then runs the command line: several verbs open
// secrets, so no run leaves a core file or prints a stack.
func start() (code int) {
	terminal := term.IsTerminal(int(os.Stdin.Fd())) && term.IsTerminal(int(os.Stderr.Fd()))
	out, words, err := process.Quiet()
	if err == nil {
		os.Stdout, os.Stderr = out, words
		err = process.Seal()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "stakeseal: error:", err)
		return exitInternal
	}
	ctx, stop := signal.NotifyContext(context.Background(), endings()...)
	defer stop()
	// The second signal ends the program at once: something may wait where
	// nothing looks at ctx, such as the opening of a pipe that nobody writes to.
	context.AfterFunc(ctx, stop)
	a := &app{in: os.Stdin, out: out, err: words, now: time.Now, terminal: terminal}
	defer func() {
		if recover() != nil { // its value may hold anything, a secret too
			fmt.Fprintf(words, "stakeseal: error: a bug in %s\nstakeseal: hint: please report this line; it holds no secret\n", process.Where())
			code = exitInternal
		}
	}()
	return a.run(ctx, os.Args[1:])
}

// endings are the signals on which a run cleans up and ends. What our parent
// lets us ignore stays ignored: with nohup a terminal that closes ends nothing.
func endings() []os.Signal {
	list := []os.Signal{syscall.SIGTERM}
	for _, s := range []os.Signal{os.Interrupt, syscall.SIGHUP, syscall.SIGQUIT} {
		if !signal.Ignored(s) {
			list = append(list, s)
		}
	}
	return list
}

// app is one run of the command: where it reads and writes, and the flags
// that every verb has. Verbs get it instead of globals.
type app struct {
	in       io.Reader
	out      io.Writer // data
	err      io.Writer // words
	terminal bool      // somebody is there to answer
	now      func() time.Time
	ended    <-chan struct{} // closed when the run shall end; nil: never

	homeFlag    string
	networkFlag string
	json        bool
	yes         bool

	cloud    *ops.Account // the run's AWS account, once something asked for it
	openings *openings    // what KMS opened; nil where it was not asked to
}

// run runs one command line and returns its exit code.
func (a *app) run(ctx context.Context, args []string) int {
	a.ended = ctx.Done()
	root := a.root()
	root.SetArgs(args)
	root.SetIn(a.in)
	root.SetOut(a.out)
	root.SetErr(a.err)
	if verb, err := root.ExecuteContextC(ctx); err != nil {
		return a.fail(ctx, err, verb.CommandPath())
	}
	return 0
}

// goWords are what Go's number parser says before it says what is wrong.
var goWords = regexp.MustCompile(`strconv\.\w+: parsing "[^"]*": `)

func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "stakeseal",
		Short: "Ethereum validator keys, sealed at birth",
		Long: `stakeseal makes Ethereum validator keys that nobody saw: each is made in memory,
checked, sealed at once to recipients that its maker cannot open, recorded once
and certified. It checks deposits before money moves, and opens a key only
where it signs.

Begin with:   stakeseal init --network hoodi --withdrawal-address 0xYOUR_ADDRESS
              stakeseal generate --count 4`,
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          cobra.NoArgs,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	flags := root.PersistentFlags()
	flags.StringVar(&a.homeFlag, "home", "", "the home `DIR` to use (default: by --network, in your data folder)")
	flags.StringVar(&a.networkFlag, "network", "", "the network `NAME`; picks the home")
	flags.BoolVar(&a.json, "json", false, "print data as JSON (lists: one object a line)")
	flags.BoolVarP(&a.yes, "yes", "y", false, "answer yes to every question")
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return usage("see "+cmd.CommandPath()+" --help", "%s", goWords.ReplaceAllString(err.Error(), ""))
	})
	root.AddGroup(
		&cobra.Group{ID: "make", Title: "Make keys:"},
		&cobra.Group{ID: "check", Title: "Check and deposit:"},
		&cobra.Group{ID: "use", Title: "Use and recover:"},
		&cobra.Group{ID: "look", Title: "Look:"},
	)
	for group, verbs := range map[string][]*cobra.Command{
		"make":  {a.initVerb(), a.identityVerb(), a.generateVerb(), a.deriveVerb(), a.importVerb(), a.releaseVerb(), a.addressVerb()},
		"check": {a.depositVerb(), a.certificateVerb(), a.bundleVerb()},
		"use":   {a.recoveryVerb(), a.keystoreVerb(), a.assignVerb(), a.signerVerb(), a.exitVerb()},
		"look":  {a.ordersVerb(), a.listVerb(), a.showVerb(), a.doctorVerb(), a.auditVerb(), a.configVerb(), a.versionVerb()},
	} {
		for _, verb := range verbs {
			verb.GroupID = group
			root.AddCommand(verb)
		}
	}
	// Wrong arguments are usage errors everywhere, with the verb's own help
	// as the hint.
	walk(root, func(cmd *cobra.Command) {
		if check := cmd.Args; check != nil {
			cmd.Args = func(cmd *cobra.Command, args []string) error {
				if err := check(cmd, args); err != nil {
					return usage("see "+cmd.CommandPath()+" --help", "%w", err)
				}
				return nil
			}
		}
	})
	return root
}

func walk(cmd *cobra.Command, f func(*cobra.Command)) {
	f(cmd)
	for _, sub := range cmd.Commands() {
		walk(sub, f)
	}
}
