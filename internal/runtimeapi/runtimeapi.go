// Package runtimeapi speaks the AWS Lambda Runtime API (version 2018-06-01),
// both ends: the loop in which the generator takes its invocations, and the
// small server with which the command line, or a test, drives it. The program
// that makes keys on Lambda is so the program that makes them here.
//
// It is our own because the public runtime library brings net/rpc, with which
// the linker keeps every method of the KMS client, Decrypt among them.
package runtimeapi

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

const (
	version      = "/2018-06-01/runtime"
	requestID    = "Lambda-Runtime-Aws-Request-Id"
	deadlineMS   = "Lambda-Runtime-Deadline-Ms"
	functionARN  = "Lambda-Runtime-Invoked-Function-Arn"
	errorTypeKey = "Lambda-Runtime-Function-Error-Type"

	maxEvent  = 6 << 20  // bytes, what Lambda takes in one synchronous call
	maxAnswer = 64 << 20 // bytes; Lambda itself takes 6 MB and says 413 to more

	maxMessage = 16 << 10 // bytes of an error's message that are kept
)

// errTooLarge says that the runtime does not take an answer of that size.
var errTooLarge = errors.New("the answer is larger than the runtime takes")

// Invocation is one event to answer.
type Invocation struct {
	ID       string
	Deadline time.Time // zero when there is none
	Function string    // the ARN that was invoked, with version or alias; empty outside Lambda
	Event    []byte
}

// Failure is the error of an invocation as it crosses the API: a class for
// programs and a message for people. It carries no stack.
type Failure struct {
	Class   string `json:"errorType"`
	Message string `json:"errorMessage"`
}

func (f *Failure) Error() string { return f.Message }

// Client is the function's end.
type Client struct {
	HTTP *http.Client
	Base string // such as http://127.0.0.1:9001
	// MaxAnswer bounds an answer in bytes below the bound that there is; Lambda
	// takes 6 MB, and what it does with more its caller learns late. 0: no other.
	MaxAnswer int
}

// Next waits for an invocation, without a timeout of its own: on Lambda the
// process may be frozen meanwhile. An error ends the loop: the other end has
// gone, or is no runtime.
func (c *Client) Next(ctx context.Context) (Invocation, error) {
	response, err := c.do(ctx, http.MethodGet, "/invocation/next", nil, nil)
	if err != nil {
		return Invocation{}, err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return Invocation{}, fmt.Errorf("couldn't take an invocation: status %s", response.Status)
	}
	inv := Invocation{ID: response.Header.Get(requestID), Function: response.Header.Get(functionARN)}
	if inv.ID == "" {
		return Invocation{}, errors.New("couldn't take an invocation: it has no request id")
	}
	if text := response.Header.Get(deadlineMS); text != "" {
		ms, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return Invocation{}, fmt.Errorf("couldn't take an invocation: deadline %q", text)
		}
		inv.Deadline = time.UnixMilli(ms)
	}
	inv.Event, err = io.ReadAll(io.LimitReader(response.Body, maxEvent+1))
	if err != nil {
		return Invocation{}, fmt.Errorf("couldn't read the event: %w", err)
	}
	if len(inv.Event) > maxEvent {
		return Invocation{}, fmt.Errorf("the event is larger than %d bytes", maxEvent)
	}
	return inv, nil
}

// Respond answers an invocation.
func (c *Client) Respond(ctx context.Context, id string, answer []byte) error {
	if len(answer) > maxAnswer || c.MaxAnswer > 0 && len(answer) > c.MaxAnswer {
		return errTooLarge
	}
	if answer == nil {
		answer = []byte{}
	}
	return c.post(ctx, "/invocation/"+url.PathEscape(id)+"/response", answer, nil)
}

// Fail answers an invocation with an error.
func (c *Client) Fail(ctx context.Context, id string, f *Failure) error {
	return c.fail(ctx, "/invocation/"+url.PathEscape(id)+"/error", f)
}

// FailInit says that the program cannot take invocations at all.
func (c *Client) FailInit(ctx context.Context, f *Failure) error {
	return c.fail(ctx, "/init/error", f)
}

func (c *Client) fail(ctx context.Context, path string, f *Failure) error {
	body, err := json.Marshal(f)
	if err != nil {
		return err
	}
	return c.post(ctx, path, body, http.Header{errorTypeKey: {f.Class}})
}

func (c *Client) post(ctx context.Context, path string, body []byte, header http.Header) error {
	response, err := c.do(ctx, http.MethodPost, path, body, header)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	_, _ = io.Copy(io.Discard, io.LimitReader(response.Body, 1<<16))
	switch response.StatusCode {
	case http.StatusAccepted:
	case http.StatusRequestEntityTooLarge:
		return errTooLarge
	default:
		return fmt.Errorf("the runtime answered %s to %s", response.Status, path)
	}
	return nil
}

func (c *Client) do(ctx context.Context, method, path string, body []byte, header http.Header) (*http.Response, error) {
	request, err := http.NewRequestWithContext(ctx, method, c.Base+version+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	for key, values := range header {
		request.Header[key] = values
	}
	if body != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	response, err := c.HTTP.Do(request)
	if err != nil {
		return nil, fmt.Errorf("couldn't reach the runtime: %w", err)
	}
	return response, nil
}

// Serve takes invocations one after the other and answers each with what
// handle returns, until ctx ends or the other end goes. A Failure goes out as
// it is; of any other error only the message does, under the class "error".
// An answer that is too large for the runtime goes out as such an error, so
// that its caller learns more than that the function is gone.
// A panic in handle is not recovered: it ends the program, without a word
// about its values (see the callers' GOTRACEBACK), and the runtime sees the
// function go.
func (c *Client) Serve(ctx context.Context, handle func(context.Context, Invocation) ([]byte, error)) error {
	for {
		inv, err := c.Next(ctx)
		if err != nil {
			return err
		}
		if err := c.one(ctx, inv, handle); err != nil {
			return err
		}
	}
}

func (c *Client) one(ctx context.Context, inv Invocation, handle func(context.Context, Invocation) ([]byte, error)) error {
	work := ctx
	if !inv.Deadline.IsZero() {
		var cancel context.CancelFunc
		work, cancel = context.WithDeadline(ctx, inv.Deadline)
		defer cancel()
	}
	answer, err := handle(work, inv)
	if err == nil {
		if err = c.Respond(ctx, inv.ID, answer); !errors.Is(err, errTooLarge) {
			return err
		}
	}
	var failure *Failure
	if !errors.As(err, &failure) {
		failure = &Failure{Class: "error", Message: err.Error()}
	}
	return c.Fail(ctx, inv.ID, failure)
}
