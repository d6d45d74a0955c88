package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// client sends requests that were written out before, over connections that
// stay open, and takes answers apart as far as needed: it shares the cores with
// what it measures, so it does little.
type client struct {
	conns []net.Conn
	read  []*bufio.Reader
}

func connect(ctx context.Context, address string) (*client, error) {
	c := &client{}
	for range connections {
		conn, err := new(net.Dialer).DialContext(ctx, "tcp", address)
		if err != nil {
			c.close()
			return nil, err
		}
		c.conns, c.read = append(c.conns, conn), append(c.read, bufio.NewReader(conn))
	}
	return c, nil
}

func (c *client) close() {
	for _, conn := range c.conns {
		_ = conn.Close() // nothing is lost with it
	}
}

// burst sends all requests as fast as they are answered. It returns how long
// it took until an answer was there, sorted, and the answers' bodies in the
// order of the requests.
func (c *client) burst(requests [][]byte) (took []time.Duration, answers [][]byte, err error) {
	took, answers = make([]time.Duration, len(requests)), make([][]byte, len(requests))
	failed := make([]error, len(c.conns))
	var next atomic.Int64
	var all sync.WaitGroup
	begun := time.Now()
	for at := range min(len(c.conns), len(requests)) {
		all.Go(func() {
			for i := int(next.Add(1)) - 1; i < len(requests); i = int(next.Add(1)) - 1 {
				if _, failed[at] = c.conns[at].Write(requests[i]); failed[at] != nil {
					return
				}
				if answers[i], failed[at] = answer(c.read[at]); failed[at] != nil {
					return
				}
				took[i] = time.Since(begun)
			}
		})
	}
	all.Wait()
	slices.Sort(took)
	return took, answers, errors.Join(failed...)
}

// answer reads an answer of HTTP/1.1: its status must be 200, and its body has
// a length or comes in chunks.
func answer(r *bufio.Reader) ([]byte, error) {
	status, err := r.ReadSlice('\n')
	if err != nil {
		return nil, err
	}
	good, length, said := bytes.HasPrefix(status, []byte("HTTP/1.1 200 ")), -1, string(status)
	for {
		line, err := r.ReadSlice('\n')
		if err != nil {
			return nil, err
		}
		if len(line) <= 2 {
			break
		}
		if value, ok := bytes.CutPrefix(line, []byte("Content-Length: ")); ok {
			if length, err = strconv.Atoi(string(bytes.TrimSpace(value))); err != nil {
				return nil, err
			}
		}
	}
	body := make([]byte, max(0, length))
	if _, err := io.ReadFull(r, body); err != nil {
		return nil, err
	}
	if length < 0 {
		if body, err = chunks(r); err != nil {
			return nil, err
		}
	}
	if !good {
		return nil, fmt.Errorf("%.40q: %.200q", said, body)
	}
	return body, nil
}

// chunks reads a body of RFC 9112, section 7.1.
func chunks(r *bufio.Reader) (body []byte, err error) {
	for {
		line, err := r.ReadSlice('\n')
		if err != nil {
			return nil, err
		}
		size, err := strconv.ParseUint(string(bytes.TrimSpace(line)), 16, 31)
		if err != nil {
			return nil, err
		}
		part := make([]byte, size+2) // with the end of its line
		if _, err := io.ReadFull(r, part); err != nil {
			return nil, err
		}
		if body = append(body, part[:size]...); size == 0 {
			return body, nil
		}
	}
}
