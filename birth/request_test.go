package birth_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stakeseal/stakeseal/birth"
	"github.com/stakeseal/stakeseal/certificate"
	"github.com/stakeseal/stakeseal/record"
)

// event is a request with one field changed or added; "" leaves it out.
func event(field, value string) string {
	fields := []string{"schema", "order", "network", "count", "withdrawal_address", "plan_gwei", "keystore", "from", "to"}
	values := map[string]string{"schema": `"stakeseal/order-request/v1"`, "order": `"monthly"`, "network": `"hoodi"`, "count": "3",
		"withdrawal_address": `"0x71C7656EC7ab88b098defB751B7401B5f6d8976F"`, "plan_gwei": "[32000000000]", "keystore": `"pbkdf2"`, "from": "0", "to": "3"}
	if _, ok := values[field]; !ok && field != "" {
		fields = append(fields, field)
	}
	values[field] = value
	var lines []string
	for _, name := range fields {
		if values[name] != "" {
			lines = append(lines, fmt.Sprintf("%q:%s", name, values[name]))
		}
	}
	return "{" + strings.Join(lines, ",") + "}"
}

// TestScheduledID: the order of a schedule is named by the time it was for,
// and only by that: a second delivery is the same order.
func TestScheduledID(t *testing.T) {
	for text, want := range map[string]string{
		`"2026-11-22T11:00:00Z"`:      "monthly-20261122t110000z",
		`"2026-11-22T12:00:00+01:00"`: "monthly-20261122t110000z", // the same instant
		`"2027-01-01T00:00:59Z"`:      "monthly-20270101t000059z",
		``:                            "monthly",
		`null`:                        "monthly",
	} {
		r, err := birth.ParseRequest([]byte(event("scheduled_time", text)))
		if err != nil || r.Order.ID != want || r.Scheduled != (want != "monthly") {
			t.Errorf("%s: order %q, scheduled %t, %v", text, r.Order.ID, r.Scheduled, err)
		}
	}
	at, _ := time.Parse(time.RFC3339, "2026-11-22T11:00:00Z")
	if id := birth.ScheduledID("monthly", at); id != "monthly-20261122t110000z" || record.CheckID(id) != nil {
		t.Errorf("id %q", id)
	}
	for _, text := range []string{`"2026-11-22T11:00:00.5Z"`, `"2026-11-22"`, `"11:00"`, `""`, `1795345200`, `"1970-01-01T00:00:00Z"`, `"<aws.scheduler.scheduled-time>"`, `[]`} {
		if r, err := birth.ParseRequest([]byte(event("scheduled_time", text))); !errors.Is(err, birth.ErrOrder) {
			t.Errorf("%s: %+v, %v", text, r, err)
		}
	}
	// An id that is too long with the time is refused, not cut.
	long := strings.Replace(event("scheduled_time", `"2026-11-22T11:00:00Z"`), "monthly", strings.Repeat("m", 48), 1)
	if _, err := birth.ParseRequest([]byte(long)); !errors.Is(err, birth.ErrOrder) || !strings.Contains(err.Error(), "scheduled time") {
		t.Errorf("a long id: %v", err)
	}
}

// TestRequestErrorsAreShort: whatever an event holds, what is said of it is a
// line.
func TestRequestErrorsAreShort(t *testing.T) {
	long := strings.Repeat("xy\n\u001b[2J", 100_000)
	quoted, err := json.Marshal(long)
	must(t, err)
	for name, text := range map[string]string{
		"unknown field": event(strings.Repeat("z", 1_000_000), "1"),
		"schema":        event("schema", string(quoted)),
		"order":         event("order", string(quoted)),
		"address":       event("withdrawal_address", string(quoted)),
		"network":       event("count", string(quoted)),
		"time":          event("scheduled_time", string(quoted)),
		"no JSON":       long,
		"trailing":      event("", "") + long,
	} {
		_, err := birth.ParseRequest([]byte(text))
		if !errors.Is(err, birth.ErrOrder) || birth.Class(err) != birth.ClassRefused || len(err.Error()) > 800 {
			t.Errorf("%s: %d bytes: %.300v", name, len(fmt.Sprint(err)), err)
		}
	}
}

func TestDone(t *testing.T) {
	line := func(i uint32) birth.Line { return birth.Line{ReceiptValidator: certificate.ReceiptValidator{Index: i}} }
	for _, c := range []struct {
		done []uint32
		to   uint32
		rest []birth.Span
	}{
		{nil, 2, []birth.Span{{From: 2, To: 6}}},
		{[]uint32{2}, 3, []birth.Span{{From: 3, To: 6}}},
		{[]uint32{4, 3, 2}, 5, []birth.Span{{From: 5, To: 6}}},
		{[]uint32{3, 4, 5}, 2, []birth.Span{{From: 2, To: 6}}},
		{[]uint32{5, 2, 3}, 4, []birth.Span{{From: 4, To: 6}}},
		{[]uint32{5, 2, 4, 3}, 6, nil},
	} {
		var lines []birth.Line
		for _, i := range c.done {
			lines = append(lines, line(i))
		}
		given := slices.Clone(lines)
		done, listed, rest := birth.Range{From: 2, To: 6}.Done(lines)
		if done.From != 2 || done.To != c.to || !slices.Equal(rest, c.rest) || len(listed) != int(c.to-2) || !slices.Equal(lines, given) {
			t.Errorf("%v: done up to %d, %d listed, remaining %v", c.done, done.To, len(listed), rest)
		}
		for i, l := range listed {
			if l.Index != 2+uint32(i) {
				t.Errorf("%v: listed %v", c.done, listed)
			}
		}
	}
}

func TestClass(t *testing.T) {
	for class, errs := range map[string][]error{
		birth.ClassRefused:    {birth.ErrOrder, fmt.Errorf("%w: %w", birth.ErrOrder, record.ErrFormat)},
		birth.ClassTampered:   {birth.ErrTampered, record.ErrCorrupt, record.ErrFormat, fmt.Errorf("%w: %w", birth.ErrIncomplete, birth.ErrTampered)},
		birth.ClassConflict:   {record.ErrConflict},
		birth.ClassIncomplete: {birth.ErrIncomplete, fmt.Errorf("%w: %w", birth.ErrIncomplete, errBusy)},
		birth.ClassFailed:     {errBusy, record.ErrNotFound},
	} {
		for _, err := range errs {
			if got := birth.Class(err); got != class {
				t.Errorf("%v is of class %s, want %s", err, got, class)
			}
		}
	}
}

// FuzzParseRequest: what reads is an order with a good id; what does not is
// refused in a few words.
func FuzzParseRequest(f *testing.F) {
	for _, seed := range requestSeeds {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := birth.ParseRequest(data)
		if err != nil {
			if !errors.Is(err, birth.ErrOrder) || len(err.Error()) > 800 {
				t.Fatalf("%d bytes: %.300v", len(err.Error()), err)
			}
			return
		}
		if record.CheckID(r.Order.ID) != nil {
			t.Fatalf("order %q", r.Order.ID)
		}
	})
}

var requestSeeds = []string{event("", ""), event("scheduled_time", `"2026-11-22T11:00:00Z"`), event("labels", `{"a":"b"}`), event("extra", "1"), "{", "null", event("", "") + "{}"}

func TestRequestSeeds(t *testing.T) {
	good := 0
	for _, seed := range requestSeeds {
		if _, err := birth.ParseRequest([]byte(seed)); err == nil {
			good++
		}
	}
	if good < 3 || good == len(requestSeeds) {
		t.Errorf("%d of %d seeds read", good, len(requestSeeds))
	}
}
