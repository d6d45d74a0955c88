package onlambda

import (
	"bytes"
	"testing"
	"time"

	"github.com/stakeseal/stakeseal/birth"
	"github.com/stakeseal/stakeseal/internal/aws/awstest/world"
)

// slow makes each signature take longer than the order's share of the
// function's time allows, whatever the machine is like.
func (s *site) slow(timeout time.Duration) {
	s.Helper()
	s.must(s.Configure(nil, 0, timeout, 0))
	s.publish()
	s.Fail("kms", "Sign", -1, world.Fault{Kind: world.Slow, Delay: 300 * time.Millisecond, Role: "generator"})
}

// TestOutOfTime: a function that has no time for all of it says what remains,
// and asked for that it goes on to the end.
func TestOutOfTime(t *testing.T) {
	s := newSite(t, nil)
	const n = 96 // eight signatures at once take 3.6 s in all, and there are 2
	s.slow(3 * time.Second)
	q := s.request("long", n)
	next, partial := uint32(0), 0
	for tries := 0; next < n; tries++ {
		if tries == 60 {
			t.Fatalf("it does not get beyond index %d", next)
		}
		q.From = next
		o := s.ask(q)
		if o.class == birth.ClassIncomplete && o.answer.Receipt == nil { // not even the first
			continue
		}
		if o.class != "" {
			t.Fatalf("%s: %s", o.class, o.message)
		}
		r, err := s.trust.VerifyReceipt(o.answer.Receipt)
		must(t, err)
		done := uint32(n)
		if len(o.answer.Remaining) > 0 {
			partial++
			rest := o.answer.Remaining
			if len(rest) != 1 || rest[0].To != n || rest[0].From <= next || rest[0].From >= n {
				t.Fatalf("from %d it remains %v", next, rest)
			}
			done = rest[0].From
		}
		if r.From != next || r.To != done || uint32(len(r.Validators)) != done-next {
			t.Errorf("the receipt is of %d to %d with %d validators, and %d to %d are done", r.From, r.To, len(r.Validators), next, done)
		}
		if rows := s.rows("long"); uint32(len(rows)) < done {
			t.Errorf("%d are in the store, and %d were answered for", len(rows), done)
		}
		must(t, s.store("auditor").Verify(ctx))
		next = done
	}
	if partial == 0 {
		t.Error("it was never out of time")
	}
	for _, run := range s.Invocations() {
		if run.Error != "" && run.Error != birth.ClassIncomplete {
			t.Errorf("an invocation ended with %s %s", run.Error, run.Message)
		}
	}
	s.Heal()
	q.From = 0
	whole := s.made(q)
	s.whole("long", n, whole.answer.Receipt)
	if again := s.made(q); !bytes.Equal(again.payload, whole.payload) {
		t.Error("and once more gives another answer")
	}
	s.strayed()
}

// TestScheduled: nobody reads the answer to a schedule's event, so one that is
// not done is a failure, and Lambda's retries end it; delivered twice, it is one
// order still.
func TestScheduled(t *testing.T) {
	const n = 96
	s := newSite(t, map[string]map[string]string{
		"bootstrap": {"Schedule": "on"},
		"schedule":  {"WithdrawalAddress": address, "OrderId": "weekly", "Network": "hoodi", "ScheduleExpression": "rate(7 days)", "Count": "96", "Keystore": "none"},
	})
	at := time.Date(2026, 11, 22, 11, 0, 0, 0, time.UTC)
	id := birth.ScheduledID("weekly", at)
	s.slow(3 * time.Second)
	for range 20 { // on a slow machine three tries may not be enough; the queue of what failed is for that
		dropped := len(s.Dropped())
		must(t, s.Fire(at))
		s.Settle()
		if len(s.Dropped()) == dropped {
			break
		}
	}
	ran := s.Invocations()
	if last := ran[len(ran)-1]; len(ran) < 2 || last.Error != "" {
		t.Fatalf("%d runs, the last: %s %s\n%s", len(ran), last.Error, last.Message, s.Logs())
	}
	for _, run := range ran[:len(ran)-1] {
		if run.Error != birth.ClassIncomplete {
			t.Errorf("a try that was not the last: %q %s", run.Error, run.Message)
		}
	}
	s.Heal()
	receipt, err := s.archive("auditor").Get(ctx, birth.ReceiptObject(id, 0, n))
	must(t, err)
	s.whole(id, n, receipt)

	before := s.Tables.Dump()
	s.Fail("scheduler", "Fire", 1, world.Fault{Kind: world.Doubled})
	must(t, s.Fire(at))
	s.Settle()
	done := 0
	for _, run := range s.Invocations()[len(ran):] {
		if run.Error == "" {
			done++
		} else if run.Error != birth.ClassIncomplete {
			t.Errorf("fired again: %s %s", run.Error, run.Message)
		}
	}
	if done != 2 || !bytes.Equal(s.Tables.Dump(), before) {
		t.Errorf("fired again and delivered twice: %d done, or the tables changed", done)
	}
	must(t, s.Fire(at.AddDate(0, 0, 7)))
	s.Settle()
	next := birth.ScheduledID("weekly", at.AddDate(0, 0, 7))
	receipt, err = s.archive("auditor").Get(ctx, birth.ReceiptObject(next, 0, n))
	must(t, err)
	s.whole(next, n, receipt)
	s.strayed()
}
