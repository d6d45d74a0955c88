package certificate

import (
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"
)

// TestGuessDecidesNothing: whatever is guessed, a certificate is judged as
// without a guess, also one that somebody signed who may sign anything; and
// nobody can change what was verified through what was guessed.
func TestGuessDecidesNothing(t *testing.T) {
	births := map[string]Birth{"first": exampleBirth(0), "second": exampleBirth(1), "nothing": {}}
	change := func(name string, do func(*Birth)) {
		b := exampleBirth(0)
		do(&b)
		births[name] = b
	}
	change("pubkey", func(b *Birth) { b.Pubkey = exampleBirth(1).Pubkey })
	change("network", func(b *Birth) { b.Network = "mainnet" })
	change("network digest", func(b *Birth) { b.NetworkDigest = hashOf("another") })
	change("no digest", func(b *Birth) { b.Sealing.Digest = Hash{} })
	change("address", func(b *Birth) { b.Credentials[31]++ })
	change("root", func(b *Birth) { b.Deposits[0].DataRoot[0]++ })
	change("amount", func(b *Birth) { b.Deposits[0] = depositOf(*b, 1) })
	change("no deposit", func(b *Birth) { b.Deposits = nil })
	change("empty deposits", func(b *Birth) { b.Deposits = []Deposit{} })
	change("no recipients", func(b *Birth) { b.Sealing.Recipients = nil })
	change("path", func(b *Birth) { b.Path = "m/12381/3600/7/0/0" })
	change("release", func(b *Birth) { b.Maker.BinaryDigest = hashOf("another") })
	change("time", func(b *Birth) { b.Time = b.Time.Add(-365 * 24 * time.Hour) })
	change("zone", func(b *Birth) { b.Time = b.Time.In(time.FixedZone("", 0)) })         // reads the same
	change("parts of a second", func(b *Birth) { b.Time = b.Time.Add(1) })               // is written, and not allowed
	change("not UTF-8", func(b *Birth) { b.Order = "first\xff" })                        // is written as U+FFFD
	change("U+FFFD", func(b *Birth) { b.Order = "first\ufffd" })                         // reads the same
	change("text", func(b *Birth) { b.Maker.Version = "<0.1.0>" })                       // would be escaped in HTML
	change("approval", func(b *Birth) { b.Approval = `{"payloadType":"x","payload":"` }) // is none

	envelopes := map[string][]byte{"nothing": nil, "no JSON": []byte("{")}
	for name, b := range births {
		payload := must(canonical(b.statement()))
		envelopes[name] = signBytes(certifier, payload)
		envelopes[name+", spaced"] = signBytes(certifier, append([]byte(" "), payload...))
		envelopes[name+", by another"] = signBytes(notary, payload)
		envelopes[name+", another's subject"] = signBytes(certifier, []byte(strings.Replace(string(payload), exampleBirth(0).Pubkey.String(), exampleBirth(2).Pubkey.String(), 1)))
	}
	verdict := func(v *Verified, err error) string { return fmt.Sprint(err, "\n", reflect.ValueOf(v).IsNil()) }
	trust := exampleTrust()
	good := 0
	for name, envelope := range envelopes {
		want, wantErr := trust.VerifyBirth(envelope)
		for guessed, guess := range births {
			got, err := trust.VerifyBirthAs(envelope, guess)
			if verdict(got, err) != verdict(want, wantErr) || !reflect.DeepEqual(got, want) {
				t.Errorf("%s, guessed as %s: %v, %+v; without a guess %v, %+v", name, guessed, err, got, wantErr, want)
			}
		}
		if wantErr == nil {
			good++
		}
	}
	if good < 3 {
		t.Errorf("only %d of the certificates are good", good)
	}
}

// TestGuessIsRead: a right guess is not decoded again, which is what it is for.
func TestGuessIsRead(t *testing.T) {
	for i := range uint32(3) {
		b := exampleBirth(i)
		if !b.writes(must(canonical(b.statement()))) || b.check() != nil {
			t.Errorf("index %d: a right guess is not taken", i)
		}
		if b.writes(must(canonical(exampleBirth((i + 1) % 3).statement()))) {
			t.Errorf("index %d: a wrong guess is taken", i)
		}
	}
}
