//go:build unix

package main

import (
	"bytes"
	"io"
	"net/http"
	"os"
	"syscall"
	"testing"
	"time"
)

// TestHandIntoKilled: killed, or interrupted, while keys are on their way, what
// was sent is assigned away, what was not is not, and --again sends it once more.
func TestHandIntoKilled(t *testing.T) {
	s := newHanding(t, 11)
	k := newKeymanagers(t, false)
	if err := os.WriteFile(s.path("token"), []byte(k.token), 0o600); err != nil {
		t.Fatal(err)
	}
	posted, ended := make(chan bool), make(chan bool)
	k.twist = func(_ http.ResponseWriter, r *http.Request) bool {
		if r.Method == http.MethodPost {
			data, err := io.ReadAll(r.Body) // whole, before anybody is killed
			if err != nil {
				t.Error(err)
			}
			r.Body = io.NopCloser(bytes.NewReader(data))
			posted <- true
			<-ended
		}
		return false
	}
	run := s.start("keystore", "export", "--signer", "signer-a", "--identity", s.identity("signer-a"), "--into", k.URL, "--token", s.path("token"), "--yes")
	wait := func() {
		t.Helper()
		select {
		case <-posted:
		case <-time.After(2 * time.Minute):
			t.Fatal("nothing was sent")
		}
	}
	wait()
	if err := run.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	run.wait()
	if at := s.at(); at != "1 10" {
		t.Errorf("killed: %s", at)
	}
	ended <- true
	// The rest is interrupted after the first answer: it is waited for.
	run = s.start("keystore", "export", "--signer", "signer-a", "--identity", s.identity("signer-a"), "--into", k.URL, "--token", s.path("token"), "--yes", "--again")
	wait()
	if err := run.cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	ended <- true
	if o := run.wait(); o.code != exitInterrupted {
		t.Errorf("interrupted: exit %d\n%s", o.code, o.err)
	} else {
		s.says(o, "interrupted: 10 of 11 keys were handed over", "1 were not sent, and are assigned as before")
	}
	if at := s.at(); at != "1 10" {
		t.Errorf("interrupted: %s", at)
	}
	k.mu.Lock()
	k.twist = nil
	k.mu.Unlock()
	s.into(0, k, "--again")
	if at := s.at(); at != "0 11" || len(k.keys) != 11 {
		t.Errorf("%s, %d", at, len(k.keys))
	}
}
