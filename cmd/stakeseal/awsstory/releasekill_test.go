package awsstory

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stakeseal/stakeseal/internal/aws/awstest/world"
)

// TestKilledAtEveryCall ends the real program without warning at each
// request that a step of a release makes (of reads in a row, the first and the
// last), before it is applied and, where it changes something, after. The alias leads to a whole release at every such
// point; orders that are placed all the while are answered by a whole one, its
// program with its own settings; and the step again ends as if nothing had
// been.
func TestKilledAtEveryCall(t *testing.T) {
	k := &killing{pipeline: newPipeline(t, 1), seen: map[string]bool{}}
	k.begin()
	zip, one := k.built("one")
	step := k.steps("one", zip, one)
	k.each("dora", "submit one", k.keyed(step["submit"], "dora"))
	k.does("rita", step["review"]...)
	k.each("rita", "approve one", k.keyed(step["approve"], "rita"))
	k.each("rita", "sign one", k.keyed(step["sign"], "rita"))
	k.each("rita", "deploy one", step["deploy"])
	if k.standsFor() != one {
		t.Fatal("the first release is not in force")
	}
	k.allow(k.whole("one"))

	// The second has another program and other settings.
	k.commit("two")
	k.edit("generator.yaml", "max_validators_per_order: 1000", "max_validators_per_order: 3")
	two := k.signed("two")
	k.allow(k.whole("two"))
	k.each("rita", "deploy two", k.steps("two", "", two)["deploy"])
	k.each("rita", "rollback to one", []string{"release", "rollback", "--to", one, "--yes"})
	if k.standsFor() != one {
		t.Error("the rollback did not bring back the first")
	}
	k.each("rita", "revoke two", k.keyed(k.steps("two", "", two)["revoke"], "rita"))
	k.end()
	if k.killed < 60 || k.changed < 12 || k.answered[k.whole("one")] == 0 || k.answered[k.whole("two")] == 0 {
		t.Errorf("%d kills, %d of them after a change, answers %v: that shows too little", k.killed, k.changed, k.answered)
	}
	t.Logf("%d kills, %d of them after a change; orders were answered by %v", k.killed, k.changed, k.answered)
}

// killing is a story of kills, with orders that are placed meanwhile.
type killing struct {
	*pipeline
	killed, changed int
	seen            map[string]bool // states from which a command went on

	turning  sync.RWMutex // held while the world is put back
	mu       sync.Mutex
	allowed  []answer
	answered map[answer]int
	stop     chan struct{}
	stopped  sync.WaitGroup
}

// begin places orders from now on, as soon as something may answer.
func (k *killing) begin() {
	k.stop, k.answered = make(chan struct{}), map[answer]int{}
	k.stopped.Go(func() {
		for {
			select {
			case <-k.stop:
				return
			case <-time.After(150 * time.Millisecond): // a pause, and no more: nothing is due by then
				k.place()
			}
		}
	})
	k.Cleanup(k.end)
}

func (k *killing) end() {
	if k.stop != nil {
		close(k.stop)
		k.stopped.Wait()
		k.stop = nil
	}
}

// place places one order.
func (k *killing) place() {
	k.turning.RLock()
	defer k.turning.RUnlock()
	k.mu.Lock()
	allowed := slices.Clone(k.allowed)
	k.mu.Unlock()
	if len(allowed) == 0 {
		return
	}
	got, err := k.order("requester", "live")
	switch {
	case err != nil:
		k.Errorf("an order was not answered: %v", err)
	case !slices.Contains(allowed, got):
		k.Errorf("an order was answered by %+v, which is no release", got)
	}
	k.mu.Lock()
	k.answered[got]++
	k.mu.Unlock()
}

func (k *killing) allow(a answer) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.allowed = append(k.allowed, a)
}

// each kills a command at each of its calls, and runs it to its end at last.
func (k *killing) each(who, what string, args []string) {
	k.Helper()
	begin := k.mark()
	from, before := k.state(), k.standsFor()
	n := len(k.Trail())
	k.does(who, args...)
	calls := k.calls(who, n)
	after, shape := k.standsFor(), k.shape()
	begin()
	if k.state() != from {
		k.Fatalf("%s: the world could not be put back", what)
	}
	for i, e := range calls {
		if like := func(j int) bool {
			return j >= 0 && j < len(calls) && calls[j].ReadOnly && calls[j].Service == e.Service && calls[j].Action == e.Action
		}; like(i-1) && like(i) && like(i+1) {
			continue // amid reads of one kind nothing changes: the first and the last of them are enough
		}
		points := map[string]bool{"before": false}
		if !e.ReadOnly && e.Error == "" && e.Service != "sts" {
			points["after"] = true
		}
		for word, applied := range points {
			at := what + ", killed " + word + " " + e.Service + " " + e.Action
			k.kill(at, i, applied, who, args)
			now := k.state()
			if stands := k.standsFor(); stands != before && stands != after {
				k.Errorf("%s: the alias leads to %q", at, stands)
			}
			if now == from {
				continue // nothing was changed: the next kill begins where this one did
			}
			k.changed++
			k.place()
			if seen := what + k.Standing() + k.shape() + treeOf(k.T, k.home); !k.seen[seen] { // else it goes on as it did from there
				k.seen[seen] = true
				k.again(at, who, args, before, after, shape)
			}
			begin()
		}
	}
	k.does(who, args...)
}

// again looks at what stands after a kill with release verify, tries to go back
// from there, and runs the command again.
func (k *killing) again(at, who string, args []string, before, after, shape string) {
	k.Helper()
	r := k.result(k.as("rita", "release", "verify"))
	none := before == "" && k.standsFor() == "" && r.code == 2 && strings.Contains(r.stderr, "no release is in force")
	if r.code != 0 && !none {
		k.Errorf("%s: release verify: exit %d\n%s%s", at, r.code, r.stdout, r.stderr)
	}
	back := k.mark()
	r = k.result(k.as("rita", "release", "rollback", "--yes"))
	k.place()
	if r.code == 0 {
		k.does("rita", "release", "verify")
	} else if !strings.Contains(r.stderr, "hint: ") {
		k.Errorf("%s: release rollback: exit %d\n%s%s", at, r.code, r.stdout, r.stderr)
	}
	back()
	if r := k.result(k.as(who, args...)); r.code != 0 {
		k.Errorf("%s, again: exit %d\n%s%s", at, r.code, r.stdout, r.stderr)
	} else if stands := k.standsFor(); stands != after {
		k.Errorf("%s, again: the alias leads to %q, not %q", at, stands, after)
	} else if got := k.shape(); got != shape {
		k.Errorf("%s, again: there are\n%snot\n%s", at, got, shape)
	}
}

// calls are those of somebody's session since the nth of the trail.
func (k *killing) calls(who string, n int) (out []world.Event) {
	for _, e := range k.Trail()[n:] {
		if strings.HasSuffix(e.Session, "/"+who) {
			out = append(out, e)
		}
	}
	return out
}

// shape is what stands, without what is another each time: the names of
// objects, how many versions, and which of them are in force.
func (k *killing) shape() string {
	k.Helper()
	var out []string
	bucket := strings.TrimPrefix(k.output("PackageBucketArn"), "arn:aws:s3:::")
	for _, key := range k.Buckets.Keys(bucket) {
		if !strings.HasPrefix(key, "signed/") { // an object of a job whose note was not written may stay
			out = append(out, key)
		}
	}
	for line := range strings.Lines(k.Standing()) {
		if !strings.HasPrefix(line, "job ") {
			_, note, _ := strings.Cut(line, " note ")
			out = append(out, strings.TrimSpace(note))
		}
	}
	slices.Sort(out)
	return strings.Join(out, "\n") + "\n"
}

// kill runs a command that is killed at its nth call.
func (k *killing) kill(at string, n int, after bool, who string, args []string) {
	k.Helper()
	cmd := k.as(who, args...)
	before, started := len(k.Trail()), make(chan struct{})
	k.KillAt(world.Kill{Session: who, Skip: n, After: after, Kill: func() {
		<-started
		_ = cmd.Process.Kill()
	}})
	defer k.KillAt(world.Kill{})
	if err := cmd.Start(); err != nil {
		k.Fatal(err)
	}
	close(started)
	_ = cmd.Wait()
	status, ok := cmd.ProcessState.Sys().(syscall.WaitStatus)
	switch {
	case ok && status.Signal() == syscall.SIGKILL:
	case cmd.ProcessState.ExitCode() == 0 && len(k.calls(who, before)) <= n:
		return // the run that was counted had to ask something twice
	default:
		k.Errorf("%s: it ended by itself: %v", at, cmd.ProcessState)
	}
	k.killed++
}

// mark remembers the world and the home, and returns what brings them back.
func (k *killing) mark() (back func()) {
	k.Helper()
	world, home := k.Mark(), filesOf(k.T, k.home)
	return func() {
		k.Helper()
		k.turning.Lock()
		defer k.turning.Unlock()
		world()
		now := filesOf(k.T, k.home)
		for _, name := range slices.Sorted(maps.Keys(now)) {
			if _, kept := home[name]; !kept {
				if err := os.Remove(filepath.Join(k.home, name)); err != nil {
					k.Fatal(err)
				}
			}
		}
		for name, data := range home {
			if now[name] != data {
				if err := os.WriteFile(filepath.Join(k.home, name), []byte(data), 0o600); err != nil {
					k.Fatal(err)
				}
			}
		}
	}
}

func filesOf(t testing.TB, dir string) map[string]string {
	t.Helper()
	out := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		rel, e := filepath.Rel(dir, path)
		if err == nil {
			err = e
		}
		out[rel] = string(data)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}
