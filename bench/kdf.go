package main

import (
	"context"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"sync"
	"syscall"
	"time"

	"golang.org/x/crypto/scrypt"
)

// limit is what a KDF takes when nothing else is done, on as many goroutines
// as the flow has workers.
type limit struct {
	Processor time.Duration `json:"processor"` // for one key
	Wall      time.Duration `json:"wall"`      // of all goroutines, for one key
}

// kdfArgument makes this program measure a KDF and print a limit.
const kdfArgument = "kdf-alone"

// kdfAlone measures in a process of its own, as the generator is one: what
// scrypt leaves in memory would count for whatever is measured next.
func kdfAlone(ctx context.Context, kdf string, goroutines, keys int) (l limit, err error) {
	self, err := os.Executable()
	if err != nil {
		return l, err
	}
	out, err := exec.CommandContext(ctx, self, kdfArgument, kdf, strconv.Itoa(goroutines), strconv.Itoa(keys)).Output()
	if err != nil {
		return l, fmt.Errorf("couldn't run %s alone: %w", kdf, err)
	}
	return l, json.Unmarshal(out, &l)
}

// kdfMain is that process: args are the KDF, goroutines and keys.
func kdfMain(args []string) error {
	if len(args) != 3 {
		return errors.New("which KDF, how many goroutines, how many keys?")
	}
	goroutines, err1 := strconv.Atoi(args[1])
	keys, err2 := strconv.Atoi(args[2])
	if err := errors.Join(err1, err2); err != nil {
		return err
	}
	if _, err := derive(args[0], goroutines, goroutines); err != nil { // touches the memory first
		return err
	}
	l, err := derive(args[0], goroutines, keys)
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(l)
}

// derive derives keys with the calls and parameters that eth/keystore uses.
func derive(kdf string, goroutines, keys int) (limit, error) {
	one := func(password string, salt []byte) error {
		_, err := pbkdf2.Key(sha256.New, password, salt, 1<<18, 32)
		return err
	}
	if kdf == "scrypt" {
		one = func(password string, salt []byte) error {
			_, err := scrypt.Key([]byte(password), salt, 1<<18, 8, 1, 32)
			return err
		}
	}
	work := make(chan struct{}, keys)
	for range keys {
		work <- struct{}{}
	}
	close(work)
	failed := make(chan error, goroutines)
	before, began := processorTime(), time.Now()
	var all sync.WaitGroup
	for range goroutines {
		all.Go(func() {
			for range work {
				salt := make([]byte, 32)
				rand.Read(salt)
				if err := one(rand.Text()+rand.Text(), salt); err != nil {
					failed <- fmt.Errorf("couldn't run %s: %w", kdf, err)
					return
				}
			}
		})
	}
	all.Wait()
	l := limit{(processorTime() - before) / time.Duration(keys), time.Since(began) / time.Duration(keys)}
	select {
	case err := <-failed:
		return l, err
	default:
		return l, nil
	}
}

// processorTime is what this process has used so far.
func processorTime() time.Duration {
	var r syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &r) // fails for a wrong argument only
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}
