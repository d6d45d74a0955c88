package runtimeapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"sync"
)

// ErrGone says that the function went away without an answer: it crashed or
// was killed. What it committed stands.
var ErrGone = errors.New("the generator ended without an answer")

// Server is the runtime's end for one function: an http.Handler for the
// function to call, and Invoke for whoever has an event.
type Server struct {
	mux     *http.ServeMux
	waiting chan *call

	mu     sync.Mutex
	serial int
	open   map[string]*call
	gone   chan struct{}
	init   error
}

type call struct {
	Invocation
	answer []byte
	err    error
	done   chan struct{}
}

// NewServer returns a server that has no function yet.
func NewServer() *Server {
	s := &Server{mux: http.NewServeMux(), waiting: make(chan *call), open: map[string]*call{}, gone: make(chan struct{})}
	s.mux.HandleFunc("GET "+version+"/invocation/next", s.next)
	s.mux.HandleFunc("POST "+version+"/invocation/{id}/response", func(w http.ResponseWriter, r *http.Request) { s.finish(w, r, false) })
	s.mux.HandleFunc("POST "+version+"/invocation/{id}/error", func(w http.ResponseWriter, r *http.Request) { s.finish(w, r, true) })
	s.mux.HandleFunc("POST "+version+"/init/error", s.initError)
	return s
}

// Invoke hands an event to the function and waits for its answer. The error
// is a *Failure when the function said so, ErrGone when it went away.
func (s *Server) Invoke(ctx context.Context, inv Invocation) ([]byte, error) {
	s.mu.Lock()
	s.serial++
	inv.ID = fmt.Sprintf("%08d", s.serial)
	s.mu.Unlock()
	c := &call{Invocation: inv, done: make(chan struct{})}
	select {
	case s.waiting <- c:
	case <-s.gone:
		return nil, s.ended()
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	select {
	case <-c.done:
		return c.answer, c.err
	case <-s.gone:
		// It may have answered and then gone.
		select {
		case <-c.done:
			return c.answer, c.err
		default:
			return nil, s.ended()
		}
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// Gone tells the server that the function has ended.
func (s *Server) Gone() {
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case <-s.gone:
	default:
		close(s.gone)
	}
}

func (s *Server) ended() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.init != nil {
		return s.init
	}
	return ErrGone
}

// ServeHTTP implements the paths of the Runtime API.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.mux.ServeHTTP(w, r) }

func (s *Server) next(w http.ResponseWriter, r *http.Request) {
	select {
	case c := <-s.waiting:
		if r.Context().Err() != nil {
			// Both happened at once, and whoever asked is no longer there.
			c.end(nil, ErrGone)
			return
		}
		s.mu.Lock()
		s.open[c.ID] = c
		s.mu.Unlock()
		w.Header().Set(requestID, c.ID)
		if !c.Deadline.IsZero() {
			w.Header().Set(deadlineMS, strconv.FormatInt(c.Deadline.UnixMilli(), 10))
		}
		if c.Function != "" {
			w.Header().Set(functionARN, c.Function)
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(c.Event)
	case <-r.Context().Done():
	}
}

// end gives the call its outcome. Whoever took it out of waiting or open is
// the only one to call it.
func (c *call) end(answer []byte, err error) {
	c.answer, c.err = answer, err
	close(c.done)
}

func (s *Server) finish(w http.ResponseWriter, r *http.Request, failed bool) {
	id := r.PathValue("id")
	s.mu.Lock()
	_, ok := s.open[id]
	s.mu.Unlock()
	if !ok {
		reply(w, http.StatusBadRequest, &Failure{"InvalidRequestID", "no such invocation"})
		return
	}
	body, err := io.ReadAll(io.LimitReader(r.Body, maxAnswer+1))
	if err != nil {
		// Cut short: the function has gone, or will answer again.
		reply(w, http.StatusBadRequest, &Failure{"InvalidRequest", "the answer was cut short"})
		return
	}
	if len(body) > maxAnswer {
		// The invocation stays open: the function may still say that it failed.
		_, _ = io.Copy(io.Discard, r.Body)
		reply(w, http.StatusRequestEntityTooLarge, &Failure{"RequestEntityTooLarge", "the answer is too large"})
		return
	}
	s.mu.Lock()
	c := s.open[id]
	delete(s.open, id)
	s.mu.Unlock()
	switch {
	case c == nil:
		reply(w, http.StatusBadRequest, &Failure{"InvalidRequestID", "the invocation has its answer"})
		return
	case failed:
		c.end(nil, parseFailure(body))
	default:
		c.end(body, nil)
	}
	reply(w, http.StatusAccepted, nil)
}

func (s *Server) initError(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 1<<16))
	if err == nil {
		s.mu.Lock()
		s.init = parseFailure(body)
		s.mu.Unlock()
	}
	reply(w, http.StatusAccepted, nil)
}

// reply writes what Lambda writes: a status, and a small JSON object.
func reply(w http.ResponseWriter, status int, f *Failure) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	if f != nil {
		_ = json.NewEncoder(w).Encode(f)
		return
	}
	_, _ = io.WriteString(w, `{"status":"OK"}`+"\n")
}

func parseFailure(body []byte) error {
	var f Failure
	if err := json.Unmarshal(body, &f); err != nil || f.Message == "" {
		return errors.New("the generator failed and its error could not be read")
	}
	if len(f.Message) > maxMessage {
		f.Message = f.Message[:maxMessage] + "..."
	}
	return &f
}
