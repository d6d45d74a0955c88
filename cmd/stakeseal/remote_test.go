package main

import (
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// TestRemoteHereOnly: what goes over http does not leave this machine, whatever
// its names are resolved to.
func TestRemoteHereOnly(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) }))
	defer server.Close()
	_, port, _ := net.SplitHostPort(strings.TrimPrefix(server.URL, "http://"))
	r, err := newRemote(remoteFlags{flag: "--into", url: "http://localhost:" + port, wait: time.Minute, keys: true})
	if err != nil {
		t.Fatal(err)
	}
	if status, _, err := r.ask(t.Context(), http.MethodGet, nil, 1); err != nil || status != http.StatusNoContent {
		t.Errorf("on this machine: %d, %v", status, err)
	}
	// As if a name server had said that localhost is there (TEST-NET-1).
	transport, ok := r.http.Transport.(*http.Transport)
	if !ok || transport.DialContext == nil {
		t.Fatal("it connects to anywhere")
	}
	for _, address := range []string{"192.0.2.1:80", "[2001:db8::1]:80"} {
		conn, err := transport.DialContext(t.Context(), "tcp", address)
		if err == nil {
			_ = conn.Close()
		}
		if !errors.Is(err, errElsewhere) {
			t.Errorf("%s: %v", address, err)
		}
	}
}
