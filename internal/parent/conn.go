// Package parent joins the generator, when it runs as a child process, to the
// command line that started it: one inherited socket, on which the parent
// serves the record ports and the Runtime API over HTTP/2 in the clear. There
// is no address to connect to and no file to open: whoever does not hold the
// descriptor has no way in.
//
// What the child can ask for is exactly what the generator's role has on AWS:
// add to the records, read them back, put into the archive if absent.
package parent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// Base is the URL under which the child reaches its parent; the host is a
// name only.
const Base = "http://parent"

// Pair returns the parent's connection and the file that the child inherits.
// The caller closes both.
func Pair() (net.Conn, *os.File, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("couldn't make a socket pair: %w", err)
	}
	ours, theirs := os.NewFile(uintptr(fds[0]), "parent"), os.NewFile(uintptr(fds[1]), "child")
	conn, err := net.FileConn(ours)
	ours.Close() // FileConn has its own duplicate
	if err != nil {
		theirs.Close()
		return nil, nil, fmt.Errorf("couldn't use the socket pair: %w", err)
	}
	return conn, theirs, nil
}

// Inherited returns the connection that the parent left at a descriptor.
func Inherited(fd uintptr) (net.Conn, error) {
	file := os.NewFile(fd, "parent")
	if file == nil {
		return nil, fmt.Errorf("descriptor %d is not open", fd)
	}
	defer file.Close()
	conn, err := net.FileConn(file)
	if err != nil {
		return nil, fmt.Errorf("descriptor %d is no socket: this program is started by stakeseal, not by hand: %w", fd, err)
	}
	return conn, nil
}

func protocols() *http.Protocols {
	p := new(http.Protocols)
	p.SetUnencryptedHTTP2(true)
	return p
}

// Client returns an HTTP client whose only connection is conn. It dials
// nothing, and follows no proxy and no redirect.
func Client(conn net.Conn) *http.Client {
	return &http.Client{
		Transport:     &one{conn: conn},
		CheckRedirect: func(*http.Request, []*http.Request) error { return errors.New("the parent does not redirect") },
	}
}

// one sends every request over one connection. A pooling http.Transport is no
// use here: it dials another for callers that come before the first is there,
// or that are more than the server's limit of streams, and forgets the one it
// had. This waits for a stream instead.
type one struct {
	start sync.Once
	conn  net.Conn
	http  *http.ClientConn
	err   error
}

func (o *one) RoundTrip(r *http.Request) (*http.Response, error) {
	o.start.Do(func() {
		t := &http.Transport{
			Protocols:          protocols(),
			DialContext:        func(context.Context, string, string) (net.Conn, error) { return o.conn, nil },
			DisableCompression: true,
		}
		// Not the request's context: the connection outlives it.
		o.http, o.err = t.NewClientConn(context.Background(), "http", "parent:80")
	})
	if o.err != nil {
		return nil, fmt.Errorf("the connection to the parent has ended: %w", o.err)
	}
	return o.http.RoundTrip(r)
}

// Serve answers the child's requests on conn until it closes.
func Serve(conn net.Conn, handler http.Handler) error {
	// A handler's panic ends its call with an error. It is not logged: the
	// log would hold a stack.
	server := &http.Server{Handler: handler, Protocols: protocols(), ErrorLog: log.New(io.Discard, "", 0)}
	l := &single{conn: conn, closed: make(chan struct{})}
	server.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateClosed {
			_ = l.Close()
		}
	}
	if err := server.Serve(l); !errors.Is(err, net.ErrClosed) {
		return err
	}
	return nil
}

// single is a listener that accepts one connection.
type single struct {
	mu     sync.Mutex
	conn   net.Conn
	once   sync.Once
	closed chan struct{}
}

func (l *single) Accept() (net.Conn, error) {
	l.mu.Lock()
	c := l.conn
	l.conn = nil
	l.mu.Unlock()
	if c != nil {
		return c, nil
	}
	<-l.closed
	return nil, net.ErrClosed
}

func (l *single) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

func (l *single) Addr() net.Addr { return &net.UnixAddr{Net: "unix", Name: "inherited"} }
