package world

import (
	"strings"
	"time"

	"github.com/stakeseal/stakeseal/internal/aws/awstest/call"
)

// Kind is what befalls a call.
type Kind int

// The kinds of faults. A killed function is one whose process ends, as by
// kill -9, at the moment of the call.
const (
	Throttled   Kind = iota + 1 // refused as the service does that is asked too much
	Broken                      // the service's own error, status 500; not applied
	Dropped                     // not applied, and the connection closes
	Lost                        // applied, and the connection closes before the answer
	Slow                        // applied after Delay
	Killed                      // the function that calls is killed before it is applied
	KilledAfter                 // and after it
	Doubled                     // of lambda Invoke with type Event: delivered twice
)

func (k Kind) String() string {
	return [...]string{"", "throttled", "broken", "dropped", "lost", "slow", "killed", "killed after", "doubled"}[k]
}

func (k Kind) aborts() bool { return k == Dropped || k == Lost || k == Killed || k == KilledAfter }

// Fault is a kind, and which calls it befalls.
type Fault struct {
	Kind
	Skip  int           // calls that are let pass first
	Every int           // then each, or only every so manieth
	Role  string        // "" is anybody's, "generator" only of that role's sessions
	Delay time.Duration // of Slow

	Session  string // only of a session of this name; "" is any
	Resource string // only on a resource whose ARN ends so, such as "-leases"; "" is any
}

// touches says whether the fault is one of such a call at all.
func (f Fault) touches(who *session, resource string) bool {
	name := who.Caller.Session[strings.LastIndexByte(who.Caller.Session, '/')+1:]
	return (f.Role == "" || f.Role == who.Role) && (f.Session == "" || f.Session == name) && strings.HasSuffix(resource, f.Resource)
}

type injected struct {
	Fault
	service, action string
	left, seen      int
}

// Fail has the next n calls of a service befallen by a fault; n < 0 is every
// call from now on. The action is the operation's name, such as PutItem, or ""
// for each.
func (w *World) Fail(service, action string, n int, f Fault) {
	role := f.Role
	if role != "" {
		f.Role = w.RoleARN(role)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.faults = append(w.faults, &injected{Fault: f, service: service, action: action, left: n})
}

// Heal forgets all faults.
func (w *World) Heal() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.faults = nil
}

// fault returns what befalls a call: the first that fits.
func (w *World) fault(who *session, service, action, resource string) Fault {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, f := range w.faults {
		if f.left == 0 || f.service != service || f.action != "" && !strings.EqualFold(f.action, action) || !f.touches(who, resource) {
			continue
		}
		if (f.Kind == Killed || f.Kind == KilledAfter) && who.instance == nil {
			continue // nobody to kill
		}
		if f.seen++; f.seen <= f.Skip || f.Every > 1 && (f.seen-f.Skip)%f.Every != 0 {
			continue
		}
		f.left--
		return f.Fault
	}
	return Fault{}
}

// before is what happens instead of the call.
func (f Fault) before(s service, who *session) *call.Failure {
	switch f.Kind {
	case Throttled:
		failure := call.Fail(s.throttle.status, s.throttle.code, "Rate exceeded")
		if s.signed == "lambda" {
			failure.Fields = map[string]any{"Reason": "ReservedFunctionConcurrentInvocationLimitExceeded"}
		}
		return failure
	case Broken:
		return call.Fail(s.broken.status, s.broken.code, "An internal error occurred")
	case Slow:
		time.Sleep(f.Delay)
	case Killed:
		who.instance.kill()
	}
	return nil
}

func (f Fault) after(who *session) {
	if f.Kind == KilledAfter {
		who.instance.kill()
	}
}
