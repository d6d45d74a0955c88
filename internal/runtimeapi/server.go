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
		return nil, s.ended()
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

func (s *Server) finish(w http.ResponseWriter, r *http.Request, failed bool) {
	s.mu.Lock()
	c := s.open[r.PathValue("id")]
	delete(s.open, r.PathValue("id"))
	s.mu.Unlock()
	if c == nil {
		http.Error(w, "no such invocation", http.StatusBadRequest)
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxAnswer))
	switch {
	case err != nil:
		c.err = fmt.Errorf("couldn't read the generator's answer: %w", err)
	case failed:
		c.err = parseFailure(body)
	default:
		c.answer = body
	}
	close(c.done)
	w.WriteHeader(http.StatusAccepted)
}

func (s *Server) initError(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 1<<16))
	if err == nil {
		s.mu.Lock()
		s.init = parseFailure(body)
		s.mu.Unlock()
	}
	w.WriteHeader(http.StatusAccepted)
}

func parseFailure(body []byte) error {
	var f Failure
	if err := json.Unmarshal(body, &f); err != nil || f.Message == "" {
		return errors.New("the generator failed and its error could not be read")
	}
	return &f
}
