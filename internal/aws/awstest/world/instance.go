package world

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/stakeseal/stakeseal/internal/aws/awstest/call"
	"github.com/stakeseal/stakeseal/internal/aws/awstest/island"
	"github.com/stakeseal/stakeseal/internal/runtimeapi"
)

// instance is a process that runs a version, with the Runtime API that it
// talks to.
type instance struct {
	of      *version
	session *session
	process *island.Process
	runtime *runtimeapi.Server
	server  *http.Server
	stream  string

	mu      sync.Mutex
	current string        // request id of the invocation that it has
	serial  string        // under which the Runtime API server knows it
	spent   bool          // the current one has its answer, though the process does not know
	ready   chan struct{} // closed at the first request for an invocation
	waits   chan struct{} // holds one when it has asked for an invocation
	asked   time.Time
	uses    int
}

// runtimeHost is where Lambda's functions find the Runtime API. On an island
// every address is this machine's.
const runtimeHost = "169.254.100.1"

// start starts a process for a version and does not wait for it.
func (f *functions) start(v *version) (*instance, error) {
	if v.code.unreadable != "" {
		return nil, &runtimeapi.Failure{Class: "Runtime.InvalidEntrypoint", Message: v.code.unreadable}
	}
	if err := f.permitted(v); err != nil {
		return nil, &runtimeapi.Failure{Class: "Runtime.AccessDenied", Message: err.Error()}
	}
	l, err := new(net.ListenConfig).Listen(context.Background(), "tcp", runtimeHost+":0")
	if err != nil {
		return nil, err
	}
	f.w.Expect(l.Addr().String())
	i := &instance{of: v, runtime: runtimeapi.NewServer(), ready: make(chan struct{}), waits: make(chan struct{}, 1)}
	i.stream = time.Now().UTC().Format("2006/01/02/") + v.name + "[" + v.number + "]" + strings.ReplaceAll(call.UUID(), "-", "")
	i.session = f.w.open(v.role, Session{Name: v.name, Life: 12 * time.Hour})
	i.session.context["lambda:SourceFunctionArn"] = []string{v.arn}
	i.session.instance = i
	i.server = &http.Server{Handler: http.HandlerFunc(i.gate), ReadHeaderTimeout: time.Minute, ErrorLog: f.w.logger()}
	go func() { _ = i.server.Serve(l) }()
	i.process, err = island.Task{
		Folder: v.code.dir, At: "/var/task", Path: "/var/task/bootstrap", Args: []string{"/var/task/bootstrap"},
		Env: i.environ(l.Addr().String()), Output: &f.log,
	}.Start()
	if err != nil {
		_ = i.server.Close()
		return nil, &runtimeapi.Failure{Class: "Runtime.InvalidEntrypoint", Message: err.Error()}
	}
	go func() {
		<-i.process.Done
		i.runtime.Gone()
		_ = i.server.Close()
	}()
	return i, nil
}

// permitted says whether Lambda can take the function's role and write its log
// with it. A log that cannot be written is lost on AWS without a word.
func (f *functions) permitted(v *version) error {
	f.w.mu.Lock()
	inst := f.w.inst
	f.w.mu.Unlock()
	if inst == nil {
		return errors.New("nothing is deployed")
	}
	if err := f.w.trusts(inst, v.role, "lambda.amazonaws.com", map[string][]string{"aws:SourceAccount": {Account}, "aws:SourceArn": {v.arn}}); err != nil {
		return err
	}
	platform := &session{Caller: call.Caller{Role: v.role}}
	platform.context = map[string][]string{}
	stream := "arn:aws:logs:" + Region + ":" + Account + ":log-group:" + v.logGroup + ":log-stream:" + v.name
	for _, action := range []string{"logs:CreateLogStream", "logs:PutLogEvents"} {
		if allowed, why := f.w.may(platform, Region, call.Need{Action: action, Resource: stream}); !allowed {
			f.w.problem("the function's log is lost: %s may not %s: %s", v.role, action, why)
		}
	}
	return nil
}

// environ is what a function of provided.al2023 finds in its environment: as
// AWS documents it and as it was seen, and what its configuration adds.
func (i *instance) environ(api string) []string {
	v := i.of
	env := map[string]string{
		"AWS_ACCESS_KEY_ID": i.session.AccessKey, "AWS_SECRET_ACCESS_KEY": i.session.secret, "AWS_SESSION_TOKEN": i.session.token,
		"AWS_DEFAULT_REGION": Region, "AWS_REGION": Region,
		"AWS_LAMBDA_FUNCTION_MEMORY_SIZE": strconv.Itoa(v.memoryMB), "AWS_LAMBDA_FUNCTION_NAME": v.name, "AWS_LAMBDA_FUNCTION_VERSION": v.number,
		"AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand", "AWS_LAMBDA_LOG_FORMAT": v.logFormat, "AWS_LAMBDA_LOG_GROUP_NAME": v.logGroup,
		"AWS_LAMBDA_LOG_STREAM_NAME": i.stream, "AWS_LAMBDA_RUNTIME_API": api,
		"AWS_LAMBDA_METADATA_API": runtimeHost + ":9001", "AWS_LAMBDA_METADATA_TOKEN": call.UUID(),
		"AWS_XRAY_CONTEXT_MISSING": "LOG_ERROR", "AWS_XRAY_DAEMON_ADDRESS": runtimeHost + ":2000",
		"_AWS_XRAY_DAEMON_ADDRESS": runtimeHost, "_AWS_XRAY_DAEMON_PORT": "2000",
		"LAMBDA_RUNTIME_DIR": "/var/runtime", "LAMBDA_TASK_ROOT": "/var/task", "LANG": "en_US.UTF-8", "TZ": ":UTC", "_HANDLER": v.handler,
		"LD_LIBRARY_PATH": "/lib64:/usr/lib64:/var/runtime:/var/runtime/lib:/var/task:/var/task/lib:/opt/lib",
		"PATH":            "/usr/local/bin:/usr/bin/:/bin:/opt/bin",
	}
	maps.Copy(env, v.environment)
	var out []string
	for name, value := range env {
		out = append(out, name+"="+value)
	}
	slices.Sort(out)
	return out
}

func (i *instance) kill() { i.process.Kill() }

// begin is told what comes next, before it is handed over.
func (i *instance) begin(requestID string) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.current, i.serial, i.spent = requestID, "", false
	i.uses++
}

const (
	requestIDHeader = "Lambda-Runtime-Aws-Request-Id"
	invocationPath  = "/2018-06-01/runtime/invocation/"
)

// gate stands before the Runtime API: it gives invocations the request ids
// that their callers know, and refuses answers that Lambda would not take.
func (i *instance) gate(w http.ResponseWriter, r *http.Request) {
	rest, ours := strings.CutPrefix(r.URL.Path, invocationPath)
	if !ours {
		i.runtime.ServeHTTP(w, r)
		return
	}
	if rest == "next" {
		i.mu.Lock()
		if i.asked.IsZero() {
			i.asked = time.Now()
			close(i.ready)
		}
		i.mu.Unlock()
		select {
		case i.waits <- struct{}{}:
		default:
		}
		i.runtime.ServeHTTP(&renamed{ResponseWriter: w, i: i}, r)
		return
	}
	id, what, _ := strings.Cut(rest, "/")
	i.mu.Lock()
	serial, good, spent := i.serial, id == i.current && i.serial != "", i.spent
	i.mu.Unlock()
	switch {
	case !good:
		refuseRuntime(w, http.StatusBadRequest, "InvalidRequestID", "Invalid request ID")
		return
	case spent:
		refuseRuntime(w, http.StatusForbidden, "InvalidStateTransition", "Transition from state InvocationResponse to "+what+" is not allowed")
		return
	}
	body, err := io.ReadAll(io.LimitReader(r.Body, maxResponse+1))
	if err != nil {
		return
	}
	if len(body) > maxResponse {
		// The caller is told at once, whatever the function says next.
		i.mu.Lock()
		i.spent = true
		i.mu.Unlock()
		message, _ := json.Marshal(&runtimeapi.Failure{Class: "Function.ResponseSizeTooLarge",
			Message: fmt.Sprintf("Response payload size exceeded maximum allowed payload size (%d bytes).", maxResponse)})
		i.forward(discard{http.Header{}}, r, serial+"/error", message)
		_, _ = io.Copy(io.Discard, r.Body)
		refuseRuntime(w, http.StatusRequestEntityTooLarge, "RequestEntityTooLarge", fmt.Sprintf("Exceeded maximum allowed payload size (%d bytes).", maxResponse))
		return
	}
	i.forward(w, r, serial+"/"+what, body)
}

func (i *instance) forward(w http.ResponseWriter, r *http.Request, path string, body []byte) {
	to := r.Clone(r.Context())
	to.URL.Path, to.URL.RawPath = invocationPath+path, ""
	to.Body, to.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	i.runtime.ServeHTTP(w, to)
}

func refuseRuntime(w http.ResponseWriter, status int, class, message string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(&runtimeapi.Failure{Class: class, Message: message})
}

// renamed replaces the request id of an invocation on its way to the function.
type renamed struct {
	http.ResponseWriter
	i    *instance
	done bool
}

func (n *renamed) WriteHeader(status int) {
	if serial := n.Header().Get(requestIDHeader); serial != "" && !n.done {
		n.done = true
		n.i.mu.Lock()
		n.i.serial = serial
		n.Header().Set(requestIDHeader, n.i.current)
		n.i.mu.Unlock()
		n.Header().Set("Lambda-Runtime-Trace-Id", "Root=1-"+strconv.FormatInt(time.Now().Unix(), 16)+"-"+strings.ReplaceAll(call.UUID(), "-", "")[:24]+";Parent=0000000000000001;Sampled=0;Lineage=1:00000000:0")
	}
	n.ResponseWriter.WriteHeader(status)
}

func (n *renamed) Write(p []byte) (int, error) {
	if !n.done {
		n.WriteHeader(http.StatusOK)
	}
	return n.ResponseWriter.Write(p)
}

// discard is where the answer to nobody goes.
type discard struct{ h http.Header }

func (d discard) Header() http.Header       { return d.h }
func (discard) Write(p []byte) (int, error) { return len(p), nil }
func (discard) WriteHeader(int)             {}

// peak is the most memory that the process has had, in bytes; 0 when it has
// ended. (What wait(2) says counts this program's too, which it once was.)
func (i *instance) peak() int64 {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", i.process.PID))
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(status)) {
		if text, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			n, _ := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(text), "kB")), 10, 64)
			return n << 10
		}
	}
	return 0
}

// ended is how Lambda names the end of a process without an answer.
func (i *instance) ended(requestID string) *runtimeapi.Failure {
	<-i.process.Done
	reason := "Runtime exited without providing a reason"
	if i.process.State != "exit status 0" {
		reason = "Runtime exited with error: " + i.process.State
	}
	return &runtimeapi.Failure{Class: "Runtime.ExitError", Message: "RequestId: " + requestID + " Error: " + reason}
}

// failureOf makes what the Runtime API server returned into what Lambda says.
func (i *instance) failureOf(err error, requestID string) *runtimeapi.Failure {
	var failure *runtimeapi.Failure
	if errors.As(err, &failure) {
		return failure
	}
	if errors.Is(err, runtimeapi.ErrGone) {
		return i.ended(requestID)
	}
	return &runtimeapi.Failure{Class: "Runtime.Unknown", Message: err.Error()}
}
