package world

import (
	"slices"
	"time"
)

// Event is one call, done or refused.
type Event struct {
	Time            time.Time
	ID              string // AWS's request id
	Service, Action string // dynamodb, PutItem
	Region          string
	Role, Session   string // ARNs; "" where the signature was refused
	AccessKey       string
	Resource        string // ARN of what the first right was needed for
	Params          map[string]any
	ReadOnly, Data  bool
	Bytes           int    // of the items read or written, in DynamoDB
	Error, Message  string // AWS's code and words; "" when it was done
	Fault           Kind   // what was injected

	agent  string
	factor bool
}

// Trail returns every call since the world was opened, in the order in which
// they ended. Unlike CloudTrail's it has data events, and calls without a valid
// signature.
func (w *World) Trail() []Event {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.trail)
}

// Calls returns the trail's events of a service and action; "" is any.
func (w *World) Calls(service, action string) (out []Event) {
	for _, e := range w.Trail() {
		if (service == "" || e.Service == service) && (action == "" || e.Action == action) {
			out = append(out, e)
		}
	}
	return out
}

func (w *World) note(e Event) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.trail = append(w.trail, e)
}

// uuidOf is an id that is the same for the same text.
func uuidOf(s string) string {
	h := sumText(s)
	return h[:8] + "-" + h[8:12] + "-4" + h[13:16] + "-8" + h[17:20] + "-" + h[20:32]
}
