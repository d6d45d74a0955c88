package onlambda

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stakeseal/stakeseal/birth"
	"github.com/stakeseal/stakeseal/certificate"
	"github.com/stakeseal/stakeseal/internal/aws/awstest/world"
)

// TestCalls: the first call, warm ones, and the same event again, at any time.
func TestCalls(t *testing.T) {
	s := newSite(t, nil)
	q := s.request("first", 5)
	first := s.made(q)
	births := s.whole("first", 5, first.answer.Receipt)
	for _, b := range births {
		if v, err := s.trust.VerifyBirth(b.Certificate); err != nil || v.Release != "this" || v.Maker.Function != s.output("FunctionArn")+":1" {
			t.Errorf("the certificate says %+v, %v", v, err)
		}
	}

	// Other orders, by the same process.
	for _, id := range []string{"second", "third"} {
		s.whole(id, 2, s.made(s.request(id, 2)).answer.Receipt)
	}
	runs := s.Invocations()
	if len(runs) != 3 || !runs[0].Cold || runs[1].Cold || runs[2].Cold {
		t.Errorf("not one cold and two warm: %+v", runs)
	}
	t.Logf("init %v, first call %v, warm %v and %v, %d MB", runs[0].Init, runs[0].Duration, runs[1].Duration, runs[2].Duration, runs[2].Peak>>20)

	// The same event gives the same bytes: from the same process, from a new
	// one, and by parts of it.
	same := func(when string) {
		t.Helper()
		before := s.Tables.Dump()
		if again := s.made(q); !bytes.Equal(again.payload, first.payload) {
			t.Errorf("%s: another answer", when)
		}
		if !bytes.Equal(s.Tables.Dump(), before) {
			t.Errorf("%s: the tables were changed", when)
		}
	}
	same("warm")
	s.Chill()
	same("cold")
	part := q
	part.From, part.To = 1, 3
	one := s.made(part)
	if two := s.made(part); !bytes.Equal(one.payload, two.payload) || bytes.Equal(one.payload, first.payload) {
		t.Error("a part of it is not answered for")
	}
	same("after a part")
	s.strayed()
	seen := map[any]int{}
	for _, fact := range s.facts() {
		seen[fact["fact"]]++
	}
	if seen["init"] != 2 || seen["start"] != len(s.Invocations()) || seen["end"] != len(s.Invocations()) || seen["error"] != 0 {
		t.Errorf("facts %v of %d invocations", seen, len(s.Invocations()))
	}
}

// TestAtOnce: one order asked for by several at once, whole and in parts, is one
// set of validators.
func TestAtOnce(t *testing.T) {
	s := newSite(t, nil)
	const n, times = 24, 4
	// As long as a write takes, others come to the same index.
	s.Fail("dynamodb", "PutItem", -1, world.Fault{Kind: world.Slow, Delay: 5 * time.Millisecond, Role: "generator"})
	var group sync.WaitGroup
	answers := make([]outcome, 2*times)
	for i := range answers {
		q := s.request("one", n)
		if i >= times { // parts that overlap
			q.From, q.To = uint32(i-times)*4, uint32(i-times)*4+12
		}
		event, err := json.Marshal(q)
		must(t, err)
		group.Go(func() {
			var err error
			if answers[i], err = s.send(event); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	s.Heal()
	for i, a := range answers {
		if a.class != "" {
			t.Fatalf("%s: %s", a.class, a.message)
		}
		if i < times && !bytes.Equal(a.payload, answers[0].payload) {
			t.Errorf("answer %d differs", i)
		}
	}
	s.whole("one", n, answers[0].answer.Receipt)
	whole, err := s.trust.VerifyReceipt(answers[0].answer.Receipt)
	must(t, err)
	for _, a := range answers[times:] {
		part, err := s.trust.VerifyReceipt(a.answer.Receipt)
		must(t, err)
		for _, v := range part.Validators {
			if v != whole.Validators[v.Index] {
				t.Errorf("index %d stands in two receipts as two validators", v.Index)
			}
		}
	}
	made := 0.0
	for _, fact := range s.facts() {
		if fact["fact"] == "end" {
			made += fact["made"].(float64)
		}
	}
	if made != n {
		t.Errorf("by their own words they made %v validators, not %d", made, n)
	}
	s.strayed()
}

// TestSettings: what was ordered under other settings than the package's is not
// made; other settings are another release.
func TestSettings(t *testing.T) {
	s := newSite(t, nil)
	old, before := s.trust, s.settings
	first := s.request("first", 2)
	receipt := s.made(first).answer.Receipt
	other := s.request("other", 2)
	other.Settings[0] ^= 1
	s.refused(other, birth.ClassRefused, "settings")
	stranger := s.request("stranger", 1)
	stranger.WithdrawalAddress[19] ^= 1
	s.refused(stranger, birth.ClassRefused, "withdrawal")
	many := s.request("many", 100_000)
	s.refused(many, birth.ClassRefused, "")
	second := s.request("first", 3)
	s.refused(second, birth.ClassConflict, "first")
	for _, id := range []string{"other", "stranger", "many"} {
		if bytes.Contains(s.Tables.Dump(), []byte("order/"+id)) || len(s.rows(id)) > 0 {
			t.Errorf("order %s left something", id)
		}
	}

	// A comment is another package.
	s.release("# changed\n")
	if s.settings == before {
		t.Fatal("the digest is the same")
	}
	s.refused(first, birth.ClassRefused, before.String()) // it says which it was asked under
	resumed := first
	resumed.Settings = [32]byte{}
	s.refused(resumed, birth.ClassConflict, "first")
	fresh := s.made(s.request("fresh", 1))
	for _, b := range s.whole("fresh", 1, fresh.answer.Receipt) {
		if _, err := old.VerifyBirth(b.Certificate); !errors.Is(err, certificate.ErrUntrusted) {
			t.Errorf("under the trust in the old release: %v", err)
		}
		if v, err := s.trust.VerifyBirth(b.Certificate); err != nil || v.Maker.SettingsDigest != s.settings || !strings.HasSuffix(v.Maker.Function, ":2") {
			t.Errorf("the new release's: %+v, %v", v, err)
		}
	}
	if _, err := old.VerifyReceipt(receipt); err != nil {
		t.Errorf("what was made before: %v", err)
	}
	digests := map[any]bool{}
	for _, fact := range s.facts() {
		if fact["fact"] == "init" {
			digests[fact["settings_digest"]] = true
		}
	}
	if len(digests) != 2 || !digests[before.String()] || !digests[s.settings.String()] {
		t.Errorf("the log names the settings %v", digests)
	}
	s.strayed()
}
