package parent

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/stakeseal/stakeseal/eth"
	"github.com/stakeseal/stakeseal/internal/sqlite"
	"github.com/stakeseal/stakeseal/record"
	"github.com/stakeseal/stakeseal/record/recordtest"
)

var (
	order    = recordtest.Order("o1", 3)
	mnemonic = recordtest.Mnemonic(order, "m1")
	newborn  = recordtest.Birth(order, mnemonic, 1, "")
)

// failing is a store and archive that fails every call with one error.
type failing struct{ err error }

func (f failing) Place(context.Context, record.Order) (record.Order, error) {
	return record.Order{}, f.err
}
func (f failing) PutMnemonic(context.Context, record.Mnemonic) error { return f.err }
func (f failing) PutBirth(context.Context, record.Birth) (record.Birth, error) {
	return record.Birth{}, f.err
}
func (f failing) Order(context.Context, string) (record.Order, error) { return record.Order{}, f.err }
func (f failing) Birth(context.Context, eth.Pubkey) (record.Birth, error) {
	return record.Birth{}, f.err
}
func (f failing) Validators(context.Context, record.Query) iter.Seq2[record.Validator, error] {
	return func(yield func(record.Validator, error) bool) {
		if yield(newborn.Validator, nil) {
			yield(record.Validator{}, f.err)
		}
	}
}
func (f failing) Put(context.Context, string, []byte) error   { return f.err }
func (f failing) Get(context.Context, string) ([]byte, error) { return nil, f.err }

// calls are all that the child can do, by name.
func calls(s *Store) map[string]func(context.Context) error {
	return map[string]func(context.Context) error{
		"Place":       func(ctx context.Context) error { _, err := s.Place(ctx, order); return err },
		"PutMnemonic": func(ctx context.Context) error { return s.PutMnemonic(ctx, mnemonic) },
		"PutBirth":    func(ctx context.Context) error { _, err := s.PutBirth(ctx, newborn); return err },
		"Order":       func(ctx context.Context) error { _, err := s.Order(ctx, "o1"); return err },
		"Birth":       func(ctx context.Context) error { _, err := s.Birth(ctx, newborn.Pubkey); return err },
		"Put":         func(ctx context.Context) error { return s.Put(ctx, "a", []byte("x")) },
		"Get":         func(ctx context.Context) error { _, err := s.Get(ctx, "a"); return err },
		"Validators": func(ctx context.Context) error {
			for _, err := range s.Validators(ctx, record.Query{}) {
				if err != nil {
					return err
				}
			}
			return nil
		},
	}
}

// TestSentinels: what a port's error is survives the wire, for every sentinel
// of record and every call; an error that is none stays none.
func TestSentinels(t *testing.T) {
	var all []string
	for _, file := range []string{"record.go", "check.go", "codec.go", "ports.go"} {
		source, err := os.ReadFile(filepath.Join("../../record", file))
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, regexp.MustCompile(`\bErr\w+ += errors\.New`).FindAllString(string(source), -1)...)
	}
	if len(all) != len(kinds) || len(all) < 6 {
		t.Fatalf("record has the sentinels %q, and %d cross the wire", all, len(kinds))
	}
	for _, kind := range append(kinds[:len(kinds):len(kinds)], struct {
		name string
		err  error
	}{"", errors.New("disk full")}) {
		child, _, _ := link(t, func() http.Handler {
			f := failing{fmt.Errorf("couldn't do it for %q: %w", "o1", kind.err)}
			return Ports{Births: f, Reader: f, Archive: f}.Handler()
		}())
		for name, call := range calls(child) {
			err := call(t.Context())
			if err == nil || err.Error() != fmt.Sprintf("couldn't do it for %q: %s", "o1", kind.err) {
				t.Errorf("%s, %q: got %v", name, kind.name, err)
			}
			for _, other := range kinds {
				if errors.Is(err, other.err) != (other.err == kind.err) {
					t.Errorf("%s, %q: is %q: %t", name, kind.name, other.name, errors.Is(err, other.err))
				}
			}
		}
	}
}

// TestBornIsTold of births that exist, and of no other call.
func TestBornIsTold(t *testing.T) {
	var born atomic.Int64
	s := open(t).Store.(family).rest.(*sqlite.Store)
	child, _, _ := link(t, Ports{Births: s, Reader: s, Born: func(b record.Birth) {
		if b.Pubkey == newborn.Pubkey {
			born.Add(1)
		}
	}}.Handler())
	for _, step := range []struct {
		name string
		want int64
	}{{"PutBirth", 0}, {"Birth", 0}, {"Place", 0}, {"PutMnemonic", 0}, {"PutBirth", 1}, {"PutBirth", 2}, {"Birth", 3}, {"Order", 3}, {"Validators", 3}} {
		err := calls(child)[step.name](t.Context())
		if failed := step.want == 0 && (step.name == "PutBirth" || step.name == "Birth"); (err != nil) != failed {
			t.Fatalf("%s: %v", step.name, err)
		}
		if born.Load() != step.want {
			t.Fatalf("after %s: told %d times, want %d", step.name, born.Load(), step.want)
		}
	}
}

// garbage answers every request with the same bytes.
func garbage(status int, body func(w io.Writer)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		body(w)
	})
}

func written(s string) func(io.Writer) { return func(w io.Writer) { _, _ = io.WriteString(w, s) } }

func endless(w io.Writer) {
	chunk := bytes.Repeat([]byte(" "), 1<<20)
	for {
		if _, err := w.Write(chunk); err != nil {
			return
		}
	}
}

// TestAnswersThatAreNone: whatever comes back is an error or the record that
// was asked for, and never more memory than the bound.
func TestAnswersThatAreNone(t *testing.T) {
	whole, err := record.EncodeBirth(newborn)
	if err != nil {
		t.Fatal(err)
	}
	for name, h := range map[string]http.Handler{
		"nothing":               garbage(200, written("")),
		"null":                  garbage(200, written("null")),
		"text":                  garbage(200, written("<html>")),
		"a record cut short":    garbage(200, written(string(whole[:len(whole)-1]))),
		"a record and more":     garbage(200, written(string(whole)+"x")),
		"endless":               garbage(200, endless),
		"an endless error":      garbage(500, endless),
		"an error of no form":   garbage(500, written("oops")),
		"an error of no words":  garbage(500, written(`{"kind":"not found"}`)),
		"an unknown kind":       garbage(500, written(`{"kind":"x","message":"m"}`)),
		"another status":        garbage(204, written("")),
		"a redirect":            http.RedirectHandler("http://elsewhere/", http.StatusTemporaryRedirect),
		"a redirect to a file":  http.RedirectHandler("file:///etc/passwd", http.StatusFound),
		"panic":                 http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic("a bug") }),
		"panic after an answer": http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.Write(whole[:100]); panic("a bug") }),
	} {
		t.Run(name, func(t *testing.T) {
			child, _, _ := link(t, h)
			for call, f := range calls(child) {
				// These take any bytes, or none, from a parent that says 200.
				if (call == "Get" && name != "endless" || call == "Put" || call == "PutMnemonic") && (name == "nothing" || name == "null" || name == "text" || strings.HasPrefix(name, "a record")) {
					continue
				}
				err := f(t.Context())
				if err == nil {
					t.Errorf("%s: no error", call)
				} else if len(err.Error()) > 2*maxMessage {
					t.Errorf("%s: an error of %d bytes", call, len(err.Error()))
				}
				for _, k := range kinds {
					if errors.Is(err, k.err) && k.err != record.ErrFormat {
						t.Errorf("%s: %v is %q", call, err, k.name)
					}
				}
			}
		})
	}
}

// TestListsThatAreCut: a list without its last line is an error, whatever
// stands before it.
func TestListsThatAreCut(t *testing.T) {
	encoded, err := record.EncodeValidator(newborn.Validator)
	if err != nil {
		t.Fatal(err)
	}
	one := `{"validator":` + string(encoded) + "}\n"
	for name, c := range map[string]struct {
		body string
		rows int
		says string // "" for a whole list
	}{
		"whole":                 {one + one + `{"end":true}` + "\n", 2, ""},
		"whole, no row":         {`{"end":true}` + "\n", 0, ""},
		"nothing":               {"", 0, "cut short"},
		"after a row":           {one, 1, "cut short"},
		"after two rows":        {one + one, 2, "cut short"},
		"within a row":          {one + one[:len(one)/2], 1, "couldn't read"},
		"an end that is none":   {one + `{"end":false}` + "\n", 1, "couldn't read"},
		"an empty row":          {one + "{}\n", 1, "couldn't read"},
		"an empty line":         {one + "\n", 1, "couldn't read"},
		"null":                  {one + "null\n", 1, "couldn't read"},
		"a row that is none":    {one + `{"validator":null}` + "\n", 1, "couldn't read"},
		"a row with more":       {strings.Replace(one, `"schema"`, `"note":"x","schema"`, 1), 0, "couldn't read"},
		"another record":        {strings.Replace(one, "validator/v1", "order/v1", 1), 0, "couldn't read"},
		"an index of no path":   {strings.Replace(one, `"index":1`, `"index":2`, 1), 0, "couldn't read"},
		"an error":              {one + `{"error":{"kind":"corrupt","message":"row 2"}}` + "\n", 1, "row 2"},
		"a row without its end": {one + strings.Repeat(" ", 2*maxRow), 1, "couldn't read"},
	} {
		t.Run(name, func(t *testing.T) {
			child, _, _ := link(t, garbage(200, written(c.body)))
			rows, failure := 0, error(nil)
			for v, err := range child.Validators(t.Context(), record.Query{}) {
				if failure != nil {
					t.Fatal("the list went on after its error")
				}
				if failure = err; err == nil {
					if rows++; v.Pubkey != newborn.Pubkey {
						t.Errorf("row %d is %v", rows, v.Pubkey)
					}
				}
			}
			if rows != c.rows || (c.says == "") != (failure == nil) || failure != nil && !strings.Contains(failure.Error(), c.says) {
				t.Errorf("%d rows, %v; want %d and %q", rows, failure, c.rows, c.says)
			}
		})
	}
}

// TestParentGone: calls in flight end with an error when the parent goes, and
// so does every later one.
func TestParentGone(t *testing.T) {
	var arrived atomic.Int64
	all := make(chan struct{})
	child, _, end := link(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if arrived.Add(1) == 8 {
			close(all)
		}
		<-r.Context().Done() // ended with the connection
	}))
	errs := make(chan error)
	for _, call := range calls(child) {
		go func() { errs <- call(context.Background()) }()
	}
	<-all
	end()
	for range 8 {
		if err := <-errs; err == nil {
			t.Error("a call in flight: no error")
		}
	}
	for name, call := range calls(child) {
		if err := call(context.Background()); err == nil {
			t.Errorf("%s after the end: no error", name)
		}
	}
	// A parent that was never there.
	child, _, end = link(t, http.NotFoundHandler())
	end()
	if _, err := child.Get(context.Background(), "a"); err == nil {
		t.Error("a parent that was never there: no error")
	}
	child, conn, _ := link(t, http.NotFoundHandler())
	_ = conn.Close()
	if _, err := child.Get(context.Background(), "a"); err == nil {
		t.Error("a connection that was closed: no error")
	}
}

// TestContextReachesTheParent: a call given up is given up on both sides.
func TestContextReachesTheParent(t *testing.T) {
	arrived, ended := make(chan struct{}), make(chan struct{})
	child, _, _ := link(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		close(arrived)
		<-r.Context().Done()
		close(ended)
	}))
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-arrived; cancel() }()
	if _, err := child.Get(ctx, "a"); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	<-ended
}

// TestNothingElse: a child that has been taken over can ask for the calls of
// the generator's role and for nothing else.
func TestNothingElse(t *testing.T) {
	f := failing{errors.New("reached")}
	child, _, _ := link(t, Ports{Births: f, Reader: f, Archive: f}.Handler())
	for _, c := range []struct {
		method, path string
		want         int
	}{
		{"GET", "/", 404}, {"POST", "/", 404}, {"POST", "/records", 404}, {"POST", "/records/", 404},
		{"POST", "/records/assign", 404}, {"POST", "/records/assignment", 404}, {"POST", "/records/append", 404},
		{"POST", "/records/orders", 404}, {"POST", "/records/mnemonics", 404}, {"POST", "/records/delete", 404},
		{"POST", "/archive/delete", 404}, {"POST", "/archive/list", 404}, {"POST", "/archive/put/", 404}, {"POST", "/RECORDS/birth", 404},
		{"GET", "/debug/pprof/", 404}, {"GET", "/debug/vars", 404},
		{"GET", "/archive/get", 405}, {"HEAD", "/archive/get", 405}, {"DELETE", "/archive/put", 405}, {"PUT", "/archive/put", 405},
		{"PATCH", "/records/birth", 405}, {"DELETE", "/records/birth", 405}, {"GET", "/records/validators", 405}, {"OPTIONS", "/records/order", 405},
		{"POST", "/archive/get?name=a", 500}, // the control: this one is there
	} {
		request, err := http.NewRequestWithContext(t.Context(), c.method, Base+c.path, nil)
		if err != nil {
			t.Fatal(err)
		}
		response, err := child.HTTP.Do(request)
		if err != nil {
			t.Errorf("%s %s: %v", c.method, c.path, err)
			continue
		}
		body, _ := io.ReadAll(response.Body)
		response.Body.Close()
		if response.StatusCode != c.want || strings.Contains(string(body), "reached") != (c.want == 500) {
			t.Errorf("%s %s: %d %q, want %d", c.method, c.path, response.StatusCode, body, c.want)
		}
	}
}

// TestRequestsThatAreNone: what is no record is refused before a port sees it.
func TestRequestsThatAreNone(t *testing.T) {
	f := failing{errors.New("reached")}
	child, _, _ := link(t, Ports{Births: f, Reader: f, Archive: f}.Handler())
	whole, err := record.EncodeBirth(newborn)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		path string
		body []byte
	}{
		"nothing":          {"/records/birth", nil},
		"text":             {"/records/birth", []byte("x")},
		"another record":   {"/records/mnemonic", whole},
		"a birth and more": {"/records/birth", append(bytes.Clone(whole), '\n')},
		"a huge birth":     {"/records/birth", make([]byte, record.MaxRecord+1)},
		"a huge object":    {"/archive/put?name=a", make([]byte, maxObject+1)},
		"a body to a read": {"/archive/get?name=a", []byte("x")},
		"a pubkey of none": {"/records/read-birth?pubkey=ab", nil},
		"no pubkey":        {"/records/read-birth", nil},
	} {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, Base+c.path, bytes.NewReader(c.body))
		if err != nil {
			t.Fatal(err)
		}
		response, err := child.HTTP.Do(request)
		if err != nil {
			continue // the server may end the stream of a body that is too long
		}
		body, _ := io.ReadAll(response.Body)
		response.Body.Close()
		if response.StatusCode != 500 || strings.Contains(string(body), "reached") {
			t.Errorf("%s: %d %q", name, response.StatusCode, body)
		}
	}
	if err := child.Put(t.Context(), "a", make([]byte, maxObject+1)); err == nil || strings.Contains(err.Error(), "reached") {
		t.Errorf("a huge object: %v", err)
	}
}

// TestOtherProtocols: only HTTP/2 without an upgrade is spoken; anything else
// ends the connection without reaching a port.
func TestOtherProtocols(t *testing.T) {
	for name, text := range map[string]string{
		"HTTP/1.1":   "POST /archive/get?name=a HTTP/1.1\r\nHost: parent\r\nContent-Length: 0\r\n\r\n",
		"an upgrade": "GET / HTTP/1.1\r\nHost: parent\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: \r\n\r\n",
		"garbage":    strings.Repeat("\x00\xff", 5000) + "\r\n\r\n",
		"half":       "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x04\x07\x00\x00\x00\x00\x00goaw",
	} {
		t.Run(name, func(t *testing.T) {
			_, conn, _ := link(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("a handler was reached") }))
			_, _ = io.WriteString(conn, text)
			if c, ok := conn.(interface{ CloseWrite() error }); ok {
				_ = c.CloseWrite()
			}
			answer, _ := io.ReadAll(bufio.NewReader(conn)) // to its end: the parent hangs up
			if strings.HasPrefix(string(answer), "HTTP/1.1 2") || strings.HasPrefix(string(answer), "HTTP/1.1 101") {
				t.Errorf("answered %q", answer)
			}
		})
	}
}

// TestServeEnds when the child goes.
func TestServeEnds(t *testing.T) {
	ours, file, err := Pair()
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error)
	go func() { served <- Serve(ours, http.NotFoundHandler()) }()
	if err := file.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-served; err != nil {
		t.Error(err)
	}
	_ = ours.Close()
}

// TestDescriptors: nothing is left for other programs to inherit, and what is
// no socket is refused.
func TestDescriptors(t *testing.T) {
	ours, file, err := Pair()
	if err != nil {
		t.Fatal(err)
	}
	defer ours.Close()
	defer file.Close()
	raw, err := ours.(*net.UnixConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	closesOnExec := func(fd uintptr) {
		if flags, err := unix.FcntlInt(fd, unix.F_GETFD, 0); err != nil || flags&unix.FD_CLOEXEC == 0 {
			t.Errorf("descriptor %d: flags %#x, %v", fd, flags, err)
		}
	}
	if err := raw.Control(closesOnExec); err != nil {
		t.Fatal(err)
	}
	closesOnExec(file.Fd())

	regular, err := os.Create(filepath.Join(t.TempDir(), "file"))
	if err != nil {
		t.Fatal(err)
	}
	defer regular.Close()
	fd, err := unix.Dup(int(regular.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Inherited(uintptr(fd)); err == nil || !strings.Contains(err.Error(), "started by stakeseal") {
		t.Errorf("a file: %v", err)
	}
	if _, err := Inherited(uintptr(fd)); err == nil {
		t.Error("a closed descriptor was taken") // the first call closed it
	}
}

// BenchmarkPutBirth compares a birth put directly with one put through the
// parent, into a store that does nothing and into the real one.
func BenchmarkPutBirth(b *testing.B) {
	o := recordtest.Order("o1", 1<<20)
	m := recordtest.Mnemonic(o, "m1")
	births := make([]record.Birth, 512)
	for i := range births {
		births[i] = recordtest.Birth(o, m, uint32(i), "")
	}
	put := func(b *testing.B, s record.Births) {
		b.Helper()
		i := 0
		for b.Loop() {
			// Again and again: after the first round the store reads back.
			if _, err := s.PutBirth(b.Context(), births[i%len(births)]); err != nil {
				b.Fatal(err)
			}
			i++
		}
	}
	b.Run("none/direct", func(b *testing.B) { put(b, echo{}) })
	b.Run("none/parent", func(b *testing.B) {
		child, _, _ := link(b, Ports{Births: echo{}}.Handler())
		put(b, child)
	})
	b.Run("sqlite/direct", func(b *testing.B) { put(b, benchStore(b, o, m)) })
	b.Run("sqlite/parent", func(b *testing.B) {
		child, _, _ := link(b, Ports{Births: benchStore(b, o, m)}.Handler())
		put(b, child)
	})
}

type echo struct{ failing }

func (echo) PutBirth(_ context.Context, b record.Birth) (record.Birth, error) { return b, nil }

func benchStore(b *testing.B, o record.Order, m record.Mnemonic) *sqlite.Store {
	b.Helper()
	s, err := sqlite.Create(filepath.Join(b.TempDir(), "records.db"))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = s.Close() })
	if _, err := s.Place(b.Context(), o); err != nil {
		b.Fatal(err)
	}
	if err := s.PutMnemonic(b.Context(), m); err != nil {
		b.Fatal(err)
	}
	return s
}
