package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/stakeseal/stakeseal/birth"
	"github.com/stakeseal/stakeseal/internal/parent"
	"github.com/stakeseal/stakeseal/internal/runtimeapi"
	"github.com/stakeseal/stakeseal/record"
)

// generatorProgram stands beside this program. There is no flag and no
// variable to name another: the program that makes keys is the one that was
// installed.
const generatorProgram = "stakeseal-generator"

// runGenerator starts the generator as a child, gives it one request and
// returns the receipt. The child gets the home as its folder, one descriptor
// with the record ports, and an environment of one fixed variable; no
// identity, no standard input.
func (h *home) runGenerator(ctx context.Context, request birth.Request, workers int, born func(record.Birth)) ([]byte, error) {
	m, err := h.maker(ctx, time.Now())
	if err != nil {
		return nil, err
	}
	if err := checkProgram(m.program); err != nil {
		return nil, err
	}
	event, err := json.Marshal(request)
	if err != nil {
		return nil, err
	}
	conn, inherited, err := parent.Pair()
	if err != nil {
		return nil, err
	}
	defer conn.Close()

	words := &tail{max: 64 << 10}
	// Not ended by the context, but below, when its answer is no longer wanted.
	child := exec.CommandContext(context.WithoutCancel(ctx), m.program, append([]string{"child", strconv.Itoa(workers)}, m.args...)...)
	child.Env = []string{"GOTRACEBACK=none"}
	child.Dir = h.dir
	child.ExtraFiles = []*os.File{inherited}
	child.Stdout, child.Stderr = words, words
	// A process group of its own: Ctrl-C reaches this program, which then
	// ends the child; what was committed stands.
	child.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	err = child.Start()
	inherited.Close()
	if err != nil {
		return nil, fmt.Errorf("couldn't start the generator: %w", err)
	}

	// While records pass through, little of the heap is in use and much is
	// garbage: collecting it at twice its size took a twentieth of the time.
	defer debug.SetGCPercent(debug.SetGCPercent(400))
	runtime := runtimeapi.NewServer()
	mux := http.NewServeMux()
	mux.Handle("/2018-06-01/", runtime)
	stores := &trouble{births: h.records, archive: h.archive}
	mux.Handle("/", parent.Ports{Births: stores, Reader: h.records, Archive: stores, Born: born}.Handler())
	var serving sync.WaitGroup
	serving.Go(func() { _ = parent.Serve(conn, mux) })
	ended := make(chan error, 1)
	go func() {
		err := child.Wait()
		runtime.Gone()
		ended <- err
	}()
	answer, err := runtime.Invoke(ctx, runtimeapi.Invocation{Event: event})
	_ = child.Process.Kill()
	wait := <-ended
	_ = conn.Close()
	serving.Wait()
	if errors.Is(err, runtimeapi.ErrGone) {
		return nil, fmt.Errorf("%w (%s)%s", err, ending(wait), words)
	}
	if err != nil {
		return nil, stores.explain(err)
	}
	var a birth.Answer
	if err := json.Unmarshal(answer, &a); err != nil || a.Schema != birth.AnswerSchema {
		return nil, errors.New("couldn't read the generator's answer")
	}
	return a.Receipt, nil
}

// ending says how a program ended.
func ending(err error) string {
	if err == nil {
		return "exit status 0"
	}
	return err.Error()
}

// checkProgram refuses a generator that somebody else could have put there or
// changed: it is about to make keys. Where it is a link, what it leads to is
// looked at too. A group that may write is refused but root's own: whoever is
// added to it later could change the program.
func checkProgram(program string) error {
	real, err := filepath.EvalSymlinks(program)
	if err != nil {
		return usage("install both programs into one folder", "couldn't find the generator: %w", err)
	}
	for _, path := range []string{program, filepath.Dir(program), real, filepath.Dir(real)} {
		info, err := os.Stat(path)
		if err != nil {
			return usage("install both programs into one folder", "couldn't find the generator: %w", err)
		}
		owner, ok := info.Sys().(*syscall.Stat_t)
		mode, sticky := info.Mode().Perm(), info.Mode()&fs.ModeSticky != 0
		switch {
		case ok && owner.Uid != 0 && int(owner.Uid) != os.Geteuid():
			return usage("install the programs as root or as yourself: whoever owns a file may change it", "%s belongs to user %d, who can change it: it makes keys", path, owner.Uid)
		case mode&0o002 != 0 && !sticky:
			return usage("chmod go-w "+shellWord(path), "everybody can change %s: it makes keys", path)
		case ok && mode&0o020 != 0 && !sticky && owner.Gid != 0:
			return usage("chmod g-w "+shellWord(path), "group %d can change %s: it makes keys", owner.Gid, path)
		}
	}
	return nil
}

// tail keeps the last bytes of what a child writes.
type tail struct {
	mu  sync.Mutex
	max int
	buf bytes.Buffer
}

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.buf.Write(p)
	if over := t.buf.Len() - t.max; over > 0 {
		t.buf.Next(over)
	}
	return len(p), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	text := strings.TrimSpace(t.buf.String())
	if text == "" {
		return ""
	}
	return "; it said: " + text
}
