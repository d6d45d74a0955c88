package main

import (
	"bytes"
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"sync"
	"syscall"
	"time"

	"filippo.io/age"

	"github.com/stakeseal/stakeseal/eth"
	"github.com/stakeseal/stakeseal/eth/bls"
	"github.com/stakeseal/stakeseal/internal/identity"
	"github.com/stakeseal/stakeseal/internal/sqlite"
	"github.com/stakeseal/stakeseal/record"
	"github.com/stakeseal/stakeseal/seal"
	"github.com/stakeseal/stakeseal/secret"
)

// signerName is the signer that init puts into a home.
const signerName = "signer-a"

// signerHome makes a home with keys that are assigned to its signer.
func (b *bench) signerHome(ctx context.Context, name string, keys int) (string, error) {
	home, err := b.home(ctx, name, keys)
	if err != nil {
		return "", err
	}
	if _, err := b.stakeseal(ctx, nil, "generate", "--home", home, "--count", fmt.Sprint(keys), "--keystore", "none",
		"--workers", fmt.Sprint(b.workers), "--assign", signerName, "--yes"); err != nil {
		return "", err
	}
	_, err = b.stakeseal(ctx, nil, "signer", "init", signerName, "--home", home)
	return home, err
}

// serving is a signer that runs.
type serving struct {
	address string
	keys    int
	ready   time.Duration // from its start until it serves
	cmd     *exec.Cmd
}

var servesOn = regexp.MustCompile(`serves (\d+) keys on (\S+)\n`)

// serve starts the signer of a home and waits until it serves.
func (b *bench) serve(ctx context.Context, home string) (*serving, error) {
	cmd := exec.CommandContext(ctx, filepath.Join(b.dir, "stakeseal"), "signer", "serve", signerName, "--home", home,
		"--identity", filepath.Join(home+"-identities", signerName+".identity"), "--listen", "127.0.0.1:0", "--metrics", "none")
	words := &announced{said: make(chan []string, 1)}
	cmd.Stderr = words
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	began := time.Now()
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	select {
	case found := <-words.said:
		s := &serving{address: found[2], ready: time.Since(began), cmd: cmd}
		s.keys, _ = strconv.Atoi(found[1]) // digits, by the pattern
		words.mu.Lock()
		words.ended = ended
		words.mu.Unlock()
		return s, nil
	case err := <-ended:
		return nil, fmt.Errorf("the signer ended before it served: %w: %s", err, words.text.Bytes())
	}
}

// announced waits for the line that says that the signer serves.
type announced struct {
	mu    sync.Mutex
	text  bytes.Buffer
	said  chan []string
	done  bool
	ended chan error
}

func (a *announced) Write(p []byte) (int, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.text.Write(p)
	if found := servesOn.FindStringSubmatch(a.text.String()); found != nil && !a.done {
		a.done = true
		a.said <- found
	}
	return len(p), nil
}

// end ends it and returns the processor time that it used in all.
func (s *serving) end() (time.Duration, error) {
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return 0, err
	}
	if err := <-s.cmd.Stderr.(*announced).ended; err != nil {
		return 0, fmt.Errorf("the signer ended with %w: %s", err, s.cmd.Stderr.(*announced).text.Bytes())
	}
	r := s.cmd.ProcessState.SysUsage().(*syscall.Rusage)
	return time.Duration(r.Utime.Nano() + r.Stime.Nano()), nil
}

// sealedKey is a signing secret as it lies in the store.
type sealedKey struct {
	pubkey eth.Pubkey
	file   []byte
}

// sealedKeys reads a home's signing secrets, still sealed.
func sealedKeys(ctx context.Context, home string) (list []sealedKey, err error) {
	store, err := sqlite.Open(filepath.Join(home, "records.db"))
	if err != nil {
		return nil, err
	}
	defer func() {
		if e := store.Close(); err == nil {
			err = e
		}
	}()
	for v, err := range store.Validators(ctx, record.Query{}) {
		if err != nil {
			return nil, err
		}
		b, err := store.Birth(ctx, v.Pubkey)
		if err != nil {
			return nil, err
		}
		list = append(list, sealedKey{b.Pubkey, b.Sealing.File})
	}
	return list, nil
}

// signerIdentity reads the signer's identity.
func signerIdentity(ctx context.Context, home string) (age.Identity, error) {
	ids, err := identity.Load(filepath.Join(home+"-identities", signerName+".identity"), nil)
	if err != nil {
		return nil, err
	}
	return ids[0].Bind(ctx, seal.Binding{}), nil // a file's identity is the same for every sealing
}

// openAlone is what no loader can leave out: the age file is decrypted and the
// key's pubkey derived, on as many goroutines as the signer opens with. The
// keys are the caller's to wipe.
func openAlone(id age.Identity, list []sealedKey, goroutines int) (keys []*bls.Key, err error) {
	keys = make([]*bls.Key, len(list))
	err = eachIndex(len(list), goroutines, func(i int) error {
		r, err := age.Decrypt(bytes.NewReader(list[i].file), id)
		if err != nil {
			return err
		}
		plain := secret.New(len(list[i].file))
		defer plain.Wipe()
		n := 0
		for err == nil {
			var k int
			k, err = r.Read(plain.Expose()[n:])
			n += k
		}
		_, rest, _ := bytes.Cut(plain.Expose()[:n], []byte(seal.KeyLine))
		digits, _, _ := bytes.Cut(rest, []byte("\n"))
		raw := secret.New(bls.KeySize)
		defer raw.Wipe()
		if err := unhex(raw.Expose(), digits); err != nil {
			return err
		}
		if keys[i], err = bls.Parse(raw); err != nil {
			return err
		}
		if keys[i].Pubkey() != list[i].pubkey {
			return fmt.Errorf("%v opens as another key", list[i].pubkey)
		}
		return nil
	})
	return keys, err
}

func wipeAll(keys []*bls.Key) {
	for _, k := range keys {
		k.Wipe()
	}
}
