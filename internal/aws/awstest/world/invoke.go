package world

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/stakeseal/stakeseal/internal/runtimeapi"
)

// Invocation is one run of the function, as Lambda's REPORT line has it.
type Invocation struct {
	RequestID string
	Qualifier string // that was invoked: live
	Version   string
	Cold      bool
	Init      time.Duration // from the start of the program to its first request for an event; of a cold start
	Duration  time.Duration // from the event to the answer
	Billed    time.Duration // whole milliseconds, with the init
	MemoryMB  int           // configured
	Peak      int64         // bytes at most in this process so far; 0 where it ended
	Error     string        // class; "" when it was answered
	Message   string
	Event     []byte
}

// Delivery is an event of an asynchronous invocation.
type Delivery struct {
	RequestID string
	Event     []byte
	Attempts  int
	Error     string
}

// Invocations returns the runs that have ended, in that order.
func (w *World) Invocations() []Invocation {
	w.functions.mu.Lock()
	defer w.functions.mu.Unlock()
	return slices.Clone(w.functions.ran)
}

// Dropped returns the events that were given up after their retries.
func (w *World) Dropped() []Delivery {
	w.functions.mu.Lock()
	defer w.functions.mu.Unlock()
	return slices.Clone(w.functions.dropped)
}

// Settle waits until every event that was accepted is answered or dropped.
func (w *World) Settle() { w.functions.pending.Wait() }

// Instances is how many processes there are, and how many of them have an
// event.
func (w *World) Instances() (all, busy int) {
	w.functions.mu.Lock()
	defer w.functions.mu.Unlock()
	all = len(w.functions.running)
	busy = all
	for _, idle := range w.functions.idle {
		busy -= len(idle)
	}
	return all, busy
}

// Chill ends the processes that wait for an event, so that the next start is a
// cold one.
func (w *World) Chill() {
	f := w.functions
	f.mu.Lock()
	defer f.mu.Unlock()
	for v := range f.idle {
		f.forget(v)
	}
}

// forget ends the idle processes of a version. The lock is held.
func (f *functions) forget(v *version) {
	for _, i := range f.idle[v] {
		i.kill()
		delete(f.running, i)
	}
	delete(f.idle, v)
}

func (f *functions) close() {
	f.mu.Lock()
	f.closing = true
	var all []*instance
	for i := range f.running {
		i.kill()
		all = append(all, i)
	}
	f.mu.Unlock()
	for _, i := range all {
		<-i.process.Done
	}
	f.pending.Wait()
}

// errBusy is that as many processes have an event as may.
var errBusy = errors.New("rate exceeded")

// take returns a process for a version: one that waits, or a new one.
func (f *functions) take(fn *function, v *version) (*instance, bool, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closing {
		return nil, false, errors.New("the world is closing")
	}
	for idle := f.idle[v]; len(idle) > 0; idle = f.idle[v] {
		i := idle[len(idle)-1]
		f.idle[v] = idle[:len(idle)-1]
		select {
		case <-i.process.Done: // it died while it waited
			delete(f.running, i)
		default:
			return i, false, nil
		}
	}
	busy := 0
	for i := range f.running {
		if i.of.arn == fn.arn {
			busy++
		}
	}
	for other, idle := range f.idle {
		if other.arn == fn.arn {
			busy -= len(idle)
		}
	}
	most := concurrent
	if fn.reserved >= 0 {
		most = fn.reserved
	}
	if busy >= most {
		return nil, false, errBusy
	}
	i, err := f.start(v)
	if err != nil {
		return nil, true, err
	}
	f.running[i] = true
	return i, true, nil
}

// give puts a process back, or lets it go.
func (f *functions) give(i *instance, again bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !again || f.closing {
		i.kill()
		delete(f.running, i)
		return
	}
	f.idle[i.of] = append(f.idle[i.of], i)
}

// run gives an event to a process and waits for its answer, at most until its
// time is over. The failure is the function's; the error is Lambda's own.
func (f *functions) run(fn *function, v *version, qualifier, requestID string, event []byte) (answer []byte, failure *runtimeapi.Failure, err error) {
	report := Invocation{RequestID: requestID, Qualifier: qualifier, Version: v.number, MemoryMB: v.memoryMB, Event: event}
	i, cold, err := f.take(fn, v)
	if err != nil {
		if !errors.As(err, &failure) {
			return nil, nil, err
		}
		report.Error, report.Message = failure.Class, failure.Message
		f.ended(report)
		return nil, failure, nil
	}
	report.Cold = cold
	i.begin(requestID)
	fmt.Fprintf(&f.log, "START RequestId: %s Version: %s\n", requestID, v.number)
	// The time that a start takes is not the event's.
	select {
	case <-i.ready:
	case <-i.process.Done:
	case <-time.After(v.timeout):
	}
	select {
	case <-i.waits:
	default:
	}
	arn := v.arn
	if qualifier != "" {
		arn += ":" + qualifier
	}
	began := time.Now()
	ctx, cancel := context.WithTimeout(context.Background(), v.timeout)
	defer cancel()
	answer, err = i.runtime.Invoke(ctx, runtimeapi.Invocation{Event: event, Deadline: began.Add(v.timeout), Function: arn})
	report.Duration = time.Since(began)
	alive := true
	if err != nil {
		answer = nil
		if errors.Is(err, context.DeadlineExceeded) {
			i.kill()
			failure = &runtimeapi.Failure{Class: "Sandbox.Timedout",
				Message: fmt.Sprintf("RequestId: %s Error: Task timed out after %.2f seconds", requestID, v.timeout.Seconds())}
			alive = false
		} else {
			failure = i.failureOf(err, requestID)
		}
	}
	report.Peak = i.peak()
	if report.Peak > int64(v.memoryMB)<<20 {
		i.kill()
		answer, alive = nil, false
		failure = &runtimeapi.Failure{Class: "Runtime.OutOfMemory", Message: "RequestId: " + requestID + " Error: Runtime exited with error: signal: killed"}
	}
	// It is free when it asks for the next.
	select {
	case <-i.waits:
	case <-i.process.Done:
		alive = false
	case <-time.After(v.timeout):
		alive = false
	}
	f.give(i, alive)
	if cold {
		i.mu.Lock()
		if !i.asked.IsZero() {
			report.Init = i.asked.Sub(i.process.Started)
		}
		i.mu.Unlock()
	}
	if failure != nil {
		report.Error, report.Message = failure.Class, failure.Message
	}
	f.ended(report)
	return answer, failure, nil
}

func (f *functions) ended(r Invocation) {
	ms := func(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
	r.Billed = time.Duration(math.Ceil(ms(r.Init)+ms(r.Duration))) * time.Millisecond
	line := fmt.Sprintf("END RequestId: %s\nREPORT RequestId: %s\tDuration: %.2f ms\tBilled Duration: %d ms\tMemory Size: %d MB\tMax Memory Used: %d MB\t",
		r.RequestID, r.RequestID, ms(r.Duration), r.Billed.Milliseconds(), r.MemoryMB, (r.Peak+1<<20-1)>>20)
	if r.Cold {
		line += fmt.Sprintf("Init Duration: %.2f ms\t", ms(r.Init))
	}
	if r.Error != "" {
		line += "Status: error\tError Type: " + r.Error
	}
	fmt.Fprintln(&f.log, line)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.ran = append(f.ran, r)
}

// deliver is an asynchronous invocation: it is accepted, and then tried up to
// three times. AWS waits minutes between tries; here they follow one another.
// A throttled try is none: it waits for its turn.
func (f *functions) deliver(fn *function, qualifier, requestID string, event []byte) {
	f.pending.Add(1)
	go func() {
		defer f.pending.Done()
		d := Delivery{RequestID: requestID, Event: event}
		for d.Attempts <= fn.retries {
			f.mu.Lock()
			v := fn.resolve(qualifier)
			closing := f.closing
			f.mu.Unlock()
			if v == nil || closing {
				d.Error = "ResourceNotFound"
				break
			}
			_, failure, err := f.run(fn, v, qualifier, requestID, event)
			if errors.Is(err, errBusy) {
				time.Sleep(20 * time.Millisecond)
				continue
			}
			d.Attempts++
			if err == nil && failure == nil {
				return
			}
			d.Error = "failed"
			if failure != nil {
				d.Error = failure.Class
			}
		}
		f.mu.Lock()
		defer f.mu.Unlock()
		f.dropped = append(f.dropped, d)
	}()
}

func failureBody(f *runtimeapi.Failure) []byte {
	body, _ := json.Marshal(f)
	return body
}
