package onlambda

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/stakeseal/stakeseal/internal/aws/awstest/world"
)

// TestKilled: the process ends, as by kill -9, at one call of an order after the
// other, before or after the call was done. What was made is whole or not there,
// and the same event again ends the order.
func TestKilled(t *testing.T) {
	s := newSite(t, nil)
	const n = 3
	points := []struct {
		service, action string
		skip            int // calls of the order that are done before
		what            string
		kinds           []world.Kind
	}{
		{"dynamodb", "PutItem", 0, "the order", both},
		{"kms", "Encrypt", 0, "the mnemonic's sealing", both},
		{"dynamodb", "PutItem", 1, "the mnemonic", both},
		{"kms", "Encrypt", 1, "a key's sealing", both[:1]},
		{"kms", "Sign", 1, "a certificate", both[1:]},
		{"dynamodb", "PutItem", 2, "a pubkey's claim", both[1:]},
		{"dynamodb", "PutItem", 2 + n, "a birth", both},
		{"s3", "PutObject", 0, "the archive's order", both[1:]},
		{"s3", "PutObject", 2, "an archived birth", both},
		{"kms", "Sign", n, "the receipt's signature", both},
		{"s3", "PutObject", 2 + n, "the archived receipt", both},
	}
	for i, p := range points {
		for _, kind := range p.kinds {
			order := fmt.Sprintf("%02d-%d", i, kind)
			t.Run(fmt.Sprintf("%s %s", kind, p.what), func(t *testing.T) {
				s.T = t
				s.Fail(p.service, p.action, 1, world.Fault{Kind: kind, Skip: p.skip, Role: "generator"})
				s.refused(s.request(order, n), "Runtime.ExitError", "signal: killed")
				s.Heal()
				must(t, s.store("auditor").Verify(ctx)) // nothing half
				made := map[uint32]string{}
				for _, row := range s.rows(order) {
					made[row.Index] = row.Pubkey.String()
				}
				again := s.made(s.request(order, n))
				for _, b := range s.whole(order, n, again.answer.Receipt) {
					if was := made[b.Index]; was != "" && was != b.Pubkey.String() {
						t.Errorf("index %d was %s and is %s", b.Index, was, b.Pubkey)
					}
				}
				if once := s.made(s.request(order, n)); !bytes.Equal(once.payload, again.payload) {
					t.Error("and once more gives another answer")
				}
			})
		}
	}
	s.T = t
	s.strayed()
	s.facts() // a killed process leaves no half lines
}

var both = []world.Kind{world.Killed, world.KilledAfter}

// TestKilledAgainAndAgain: one order whose process dies at every sixth write to
// the table, until none is left to kill.
func TestKilledAgainAndAgain(t *testing.T) {
	s := newSite(t, nil)
	const n = 12
	died := 0
	s.Fail("dynamodb", "PutItem", 5, world.Fault{Kind: world.KilledAfter, Skip: 1, Every: 6, Role: "generator"})
	q := s.request("stubborn", n)
	for {
		o := s.ask(q)
		if o.class == "" {
			s.whole("stubborn", n, o.answer.Receipt)
			break
		}
		if died++; o.class != "Runtime.ExitError" || died > 5 {
			t.Fatalf("%s: %s", o.class, o.message)
		}
		must(t, s.store("auditor").Verify(ctx))
	}
	if died < 2 {
		t.Errorf("it was killed only %d times", died)
	}
}

// TestFaults: what AWS answers badly, or not at all, costs time and nothing
// else.
func TestFaults(t *testing.T) {
	s := newSite(t, nil)
	const n = 6
	for _, f := range []struct {
		service, action string
		kind            world.Kind
		skip            int
	}{
		{"dynamodb", "PutItem", world.Lost, 2 + n}, {"dynamodb", "PutItem", world.Throttled, 3}, {"s3", "GetObject", world.Dropped, 4},
		{"kms", "Encrypt", world.Throttled, 1}, {"kms", "Sign", world.Broken, 0}, {"kms", "Sign", world.Lost, 1},
		{"s3", "PutObject", world.Lost, 3}, {"s3", "PutObject", world.Throttled, 2}, {"s3", "GetObject", world.Broken, 2},
	} {
		s.Fail(f.service, f.action, 1, world.Fault{Kind: f.kind, Skip: f.skip, Role: "generator"})
	}
	s.whole("weather", n, s.made(s.request("weather", n)).answer.Receipt)
	faults := map[world.Kind]int{}
	for _, e := range s.Trail() {
		if e.Fault != 0 {
			faults[e.Fault]++
		}
	}
	for _, kind := range []world.Kind{world.Throttled, world.Broken, world.Lost} { // what was dropped has no trail
		if faults[kind] == 0 {
			t.Errorf("nothing was %s", kind)
		}
	}
	s.strayed()
}
