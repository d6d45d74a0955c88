package sqlite

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/stakeseal/stakeseal/record"
	"github.com/stakeseal/stakeseal/record/recordtest"
)

// The tests below start the test program anew as other processes: locks,
// kills, rights and full disks are between processes and the kernel.
const childVariable = "STAKESEAL_TEST_CHILD"

var children = map[string]func(args []string) error{
	"race":    childRace,
	"puts":    childPuts,
	"creates": childCreates,
	"full":    childFull,
	"sealed":  childReadOnlyMount,
	"nobody":  childNobody,
}

func TestMain(m *testing.M) {
	if name := os.Getenv(childVariable); name != "" {
		if err := children[name](os.Args[1:]); err != nil {
			fmt.Println("failed:", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func child(name string, args ...string) *exec.Cmd {
	cmd := exec.Command("/proc/self/exe", args...)
	cmd.Env = []string{childVariable + "=" + name}
	cmd.Stderr = os.Stderr
	return cmd
}

// unprivileged skips a test whose child could not be started for want of
// rights: elsewhere with a clear line, never in CI.
func unprivileged(t *testing.T, what string, err error) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatalf("%s is not possible here: %v", what, err)
	}
	t.Skipf("%s is not possible here: %v", what, err)
}

var (
	raceOrder    = recordtest.Order("o1", 12)
	raceMnemonic = recordtest.Mnemonic(raceOrder, "m1")
)

const raceEpochs = 20

// childRace puts births of its own into every index, then tries to take every
// epoch of the first one's assignment. It prints the owners that it was told
// and the epochs that it won.
func childRace(args []string) error {
	s, err := Open(args[0])
	if err != nil {
		return err
	}
	ctx, me := context.Background(), args[1]
	if _, err := bufio.NewReader(os.Stdin).ReadString('\n'); err != nil { // all start at once
		return err
	}
	var first record.Birth
	for i := range raceOrder.Count {
		owner, err := s.PutBirth(ctx, recordtest.Birth(raceOrder, raceMnemonic, i, me))
		if err != nil {
			return err
		}
		fmt.Printf("owner %d %s\n", i, owner.Pubkey)
		if i == 0 {
			first = owner
		}
	}
	for epoch := uint64(1); epoch <= raceEpochs; {
		err := s.Assign(ctx, recordtest.Assignment(first, "signer-"+me, epoch))
		switch {
		case err == nil:
			fmt.Printf("won %d\n", epoch)
			epoch++
		case errors.Is(err, record.ErrStale): // somebody has it
			epoch++
		default:
			return err
		}
		event := record.Event{Time: recordtest.Start, Kind: "exported", Actor: me, Once: fmt.Sprint("export ", epoch)}
		if err := s.Append(ctx, event); err == nil {
			fmt.Printf("noted %d\n", epoch)
		} else if !errors.Is(err, record.ErrExists) {
			return err
		}
	}
	return s.Close()
}

// TestProcessesRace: several processes on one order and one assignment.
func TestProcessesRace(t *testing.T) {
	s := create(t)
	place(t, s, raceOrder, raceMnemonic)
	const processes = 4
	var cmds []*exec.Cmd
	var inputs []*os.File
	outputs := make([]strings.Builder, processes)
	for i := range processes {
		cmd := child("race", s.path, fmt.Sprint(i))
		r, w, err := os.Pipe()
		must(t, err)
		cmd.Stdin, cmd.Stdout = r, &outputs[i]
		must(t, cmd.Start())
		must(t, r.Close())
		cmds, inputs = append(cmds, cmd), append(inputs, w)
	}
	for _, w := range inputs {
		_, err := w.WriteString("go\n")
		must(t, errors.Join(err, w.Close()))
	}
	for i, cmd := range cmds {
		if err := cmd.Wait(); err != nil {
			t.Fatalf("process %d: %v\n%s", i, err, outputs[i].String())
		}
	}
	ctx := context.Background()
	owners, winners, once := map[string]string{}, map[string]int{}, map[string]int{}
	for i := range outputs {
		for line := range strings.Lines(outputs[i].String()) {
			f := strings.Fields(line)
			switch f[0] {
			case "owner":
				if known, ok := owners[f[1]]; ok && known != f[2] {
					t.Errorf("index %s has two owners", f[1])
				}
				owners[f[1]] = f[2]
			case "won":
				winners[f[1]]++
			case "noted":
				once[f[1]]++
			}
		}
	}
	if len(owners) != int(raceOrder.Count) || len(winners) != raceEpochs {
		t.Errorf("%d owners, %d epochs won", len(owners), len(winners))
	}
	for epoch, n := range winners {
		if n != 1 {
			t.Errorf("epoch %s was won %d times", epoch, n)
		}
	}
	for key, n := range once {
		if n != 1 {
			t.Errorf("event %s was noted %d times", key, n)
		}
	}
	for v, err := range s.Validators(ctx, record.Query{Order: "o1"}) {
		must(t, err)
		if owners[fmt.Sprint(v.Index)] != v.Pubkey.String() {
			t.Errorf("index %d holds %s, the processes were told %s", v.Index, v.Pubkey, owners[fmt.Sprint(v.Index)])
		}
	}
	must(t, s.Verify(ctx))
}

var killOrder = recordtest.Order("o1", 100_000)

// childPuts puts births from several goroutines and prints each index once
// its put has returned, until it is killed.
func childPuts(args []string) error {
	s, err := Open(args[0])
	if err != nil {
		return err
	}
	start, err := strconv.Atoi(args[1])
	if err != nil {
		return err
	}
	m := recordtest.Mnemonic(killOrder, "m1")
	var wg sync.WaitGroup
	var mu sync.Mutex
	for writer := range 8 {
		wg.Go(func() {
			for i := start + writer; ; i += 8 {
				_, err := s.PutBirth(context.Background(), recordtest.Birth(killOrder, m, uint32(i), ""))
				mu.Lock()
				fmt.Println(i, err)
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	return nil
}

// TestKill kills a process with -9 while it writes: whatever it acknowledged
// is there, and nothing is half there.
func TestKill(t *testing.T) {
	s := create(t)
	m := recordtest.Mnemonic(killOrder, "m1")
	place(t, s, killOrder, m)
	must(t, s.Close())
	ctx := context.Background()
	acknowledged := map[uint32]bool{}
	for round, lines := range []int{1, 7, 30, 64, 100} {
		cmd := child("puts", s.path, fmt.Sprint(round*10_000))
		out, err := cmd.StdoutPipe()
		must(t, err)
		must(t, cmd.Start())
		scanner := bufio.NewScanner(out)
		for n := 0; scanner.Scan(); n++ {
			if n == lines {
				must(t, cmd.Process.Kill())
			}
			f := strings.Fields(scanner.Text())
			if len(f) != 2 { // the line that the kill cut
				continue
			}
			i, err := strconv.Atoi(f[0])
			must(t, err)
			if f[1] != "<nil>" {
				t.Fatal(scanner.Text())
			}
			acknowledged[uint32(i)] = true
		}
		err = cmd.Wait()
		var exit *exec.ExitError
		if !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
			t.Fatalf("was not killed: %v", err)
		}
		if _, err := os.Stat(s.path + "-wal"); err != nil {
			t.Fatalf("no log was left by the kill: %v", err)
		}

		s, err := Open(s.path)
		must(t, err)
		must(t, s.Verify(ctx))
		stored := map[uint32]bool{}
		for v, err := range s.Validators(ctx, record.Query{Order: "o1"}) {
			must(t, err)
			stored[v.Index] = true
			b, err := s.Birth(ctx, v.Pubkey)
			must(t, err)
			if string(b.Certificate) != string(recordtest.Birth(killOrder, m, v.Index, "").Certificate) {
				t.Fatalf("index %d is another birth", v.Index)
			}
		}
		for i := range acknowledged {
			if !stored[i] {
				t.Errorf("round %d: index %d was acknowledged and is lost", round, i)
			}
		}
		must(t, s.Close())
	}
	if len(acknowledged) < 100 {
		t.Errorf("only %d acknowledged", len(acknowledged))
	}
}

// childCreates makes one database after another until it is killed.
func childCreates(args []string) error {
	for i := 0; ; i++ {
		s, err := Create(filepath.Join(args[0], fmt.Sprintf("%d.db", i)))
		if err != nil {
			return err
		}
		if err := s.Close(); err != nil {
			return err
		}
		fmt.Println(i)
	}
}

// TestKillCreate: a database that is there is whole.
func TestKillCreate(t *testing.T) {
	for _, lines := range []int{1, 3, 6} {
		dir := t.TempDir()
		cmd := child("creates", dir)
		out, err := cmd.StdoutPipe()
		must(t, err)
		must(t, cmd.Start())
		scanner := bufio.NewScanner(out)
		for n := 1; scanner.Scan(); n++ {
			if n == lines {
				must(t, cmd.Process.Kill())
			}
		}
		_ = cmd.Wait() // killed
		made, err := filepath.Glob(filepath.Join(dir, "[0-9]*.db"))
		must(t, err)
		if len(made) < lines {
			t.Errorf("%d databases, %d were announced", len(made), lines)
		}
		slices.Sort(made)
		for _, path := range made {
			s, err := Open(path)
			if err != nil {
				t.Error(err)
				continue
			}
			must(t, errors.Join(s.Verify(context.Background()), s.Close()))
		}
	}
}

// TestFull: at a limit of pages SQLite says what it says when the disk is
// full. What was there stays, and with room again the same write succeeds.
func TestFull(t *testing.T) {
	s := create(t)
	ctx := context.Background()
	o := recordtest.Order("o1", 2000)
	m := recordtest.Mnemonic(o, "m1")
	place(t, s, o, m)
	var pages int
	must(t, s.conn.QueryRowContext(ctx, "PRAGMA page_count").Scan(&pages))
	var limit int
	must(t, s.conn.QueryRowContext(ctx, fmt.Sprintf("PRAGMA max_page_count = %d", pages+40)).Scan(&limit))
	put := uint32(0)
	var err error
	for ; err == nil && put < o.Count; put++ {
		_, err = s.PutBirth(ctx, recordtest.Birth(o, m, put, ""))
	}
	if put--; !errors.Is(err, ErrFull) || put < 3 {
		t.Fatalf("after %d puts: %v", put, err)
	}
	count := 0
	for v, err := range s.Validators(ctx, record.Query{Order: "o1"}) {
		must(t, err)
		_, err = s.Birth(ctx, v.Pubkey)
		must(t, err)
		count++
	}
	if count != int(put) {
		t.Errorf("%d stored, %d acknowledged", count, put)
	}
	must(t, s.Verify(ctx))
	must(t, s.conn.QueryRowContext(ctx, "PRAGMA max_page_count = 1000000").Scan(&limit))
	_, err = s.PutBirth(ctx, recordtest.Birth(o, m, put, ""))
	must(t, err)
}

// mounted starts a child that has mounts of its own.
func mounted(t *testing.T, name string) {
	t.Helper()
	cmd := child(name, t.TempDir())
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS}
	if os.Geteuid() != 0 {
		cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Geteuid(), Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getegid(), Size: 1}}
	}
	out, err := cmd.Output()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) || strings.Contains(string(out), errMount.Error()) {
		unprivileged(t, "a file system of its own", fmt.Errorf("%w %s", err, out))
	}
	if err != nil || !strings.HasSuffix(string(out), "all good\n") {
		t.Fatalf("%v\n%s", err, out)
	}
}

var errMount = errors.New("couldn't mount")

func tmpfs(dir, options string) error {
	if err := errors.Join(
		syscall.Mount("", "/", "", syscall.MS_PRIVATE|syscall.MS_REC, ""),
		syscall.Mount("tmpfs", dir, "tmpfs", 0, options),
	); err != nil {
		return fmt.Errorf("%w: %w", errMount, err)
	}
	return nil
}

// childFull fills a real file system.
func childFull(args []string) error {
	dir, ctx := args[0], context.Background()
	if err := tmpfs(dir, "size=1m"); err != nil {
		return err
	}
	path := filepath.Join(dir, "records.db")
	s, err := Create(path)
	if err != nil {
		return err
	}
	o := recordtest.Order("o1", 10_000)
	m := recordtest.Mnemonic(o, "m1")
	if _, err := s.Place(ctx, o); err != nil {
		return err
	}
	if err := s.PutMnemonic(ctx, m); err != nil {
		return err
	}
	put := uint32(0)
	for err = nil; err == nil; put++ {
		_, err = s.PutBirth(ctx, recordtest.Birth(o, m, put, ""))
	}
	put--
	if !errors.Is(err, ErrFull) || put == 0 {
		return fmt.Errorf("after %d puts: %w", put, err)
	}
	for i := range put {
		if b, err := s.Birth(ctx, recordtest.Birth(o, m, i, "").Pubkey); err != nil || b.Index != i {
			return fmt.Errorf("index %d on the full disk: %w", i, err)
		}
	}
	if _, err := Create(filepath.Join(dir, "second.db")); !errors.Is(err, ErrFull) {
		return fmt.Errorf("Create on a full disk: %w", err)
	}
	if left, err := filepath.Glob(filepath.Join(dir, "*second*")); err != nil || len(left) > 0 {
		return fmt.Errorf("Create left %v %w", left, err)
	}
	if left, err := filepath.Glob(filepath.Join(dir, ".*")); err != nil || len(left) > 0 {
		return fmt.Errorf("Create left %v %w", left, err)
	}
	if err := syscall.Mount("", dir, "", syscall.MS_REMOUNT, "size=4m"); err != nil {
		return err
	}
	if _, err := s.PutBirth(ctx, recordtest.Birth(o, m, put, "")); err != nil {
		return fmt.Errorf("with room again: %w", err)
	}
	if err := errors.Join(s.Verify(ctx), s.Close()); err != nil {
		return err
	}
	fmt.Println("all good")
	return nil
}

func TestFullDisk(t *testing.T) { mounted(t, "full") }

// childReadOnlyMount opens a store whose disk is mounted read-only.
func childReadOnlyMount(args []string) error {
	dir := args[0]
	if err := tmpfs(dir, "size=4m"); err != nil {
		return err
	}
	path := filepath.Join(dir, "records.db")
	s, err := Create(path)
	if err != nil {
		return err
	}
	if err := s.Close(); err != nil {
		return err
	}
	if err := syscall.Mount("", dir, "", syscall.MS_REMOUNT|syscall.MS_RDONLY, ""); err != nil {
		return err
	}
	if _, err := Open(path); !errors.Is(err, ErrReadOnly) {
		return fmt.Errorf("Open: %w", err)
	}
	if _, err := Create(path + "2"); !errors.Is(err, ErrReadOnly) {
		return fmt.Errorf("Create: %w", err)
	}
	fmt.Println("all good")
	return nil
}

func TestReadOnlyDisk(t *testing.T) { mounted(t, "sealed") }

// childNobody opens stores that its user may not write.
func childNobody(args []string) error {
	for _, path := range args {
		s, err := Open(path)
		if err == nil {
			return errors.Join(errors.New("opened "+path), s.Close())
		}
		if !errors.Is(err, ErrReadOnly) {
			return err
		}
	}
	fmt.Println("all good")
	return nil
}

func TestReadOnlyFile(t *testing.T) {
	dir, err := os.MkdirTemp("", "stakeseal") // t.TempDir lies in a folder that others may not enter
	must(t, err)
	defer os.RemoveAll(dir)
	must(t, os.Chmod(dir, 0o755))
	var paths []string
	for name, modes := range map[string][2]os.FileMode{"file": {0o777, 0o444}, "folder": {0o555, 0o666}} {
		sub := filepath.Join(dir, name)
		must(t, os.Mkdir(sub, 0o700))
		s, err := Create(filepath.Join(sub, "records.db"))
		must(t, err)
		must(t, s.Close())
		must(t, os.Chmod(s.path, modes[1]))
		must(t, os.Chmod(sub, modes[0]))
		paths = append(paths, s.path)
	}
	cmd := child("nobody", paths...)
	if os.Geteuid() == 0 { // root may write everything
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	}
	out, err := cmd.Output()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		unprivileged(t, "a process of another user", err)
	}
	if err != nil || string(out) != "all good\n" {
		t.Fatalf("%v\n%s", err, out)
	}
	must(t, os.Chmod(filepath.Join(dir, "folder"), 0o700)) // so that it can be removed
}
