package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/stakeseal/stakeseal/eth"
	"github.com/stakeseal/stakeseal/record"
	"github.com/stakeseal/stakeseal/seal"
)

// openings are the secrets that AWS KMS opened in this run, with the ids of
// its requests. AWS's trail has each of them; the events of the store say what
// they were for. One that no event names is a finding of audit, so none is
// forgotten: not even where what came after it failed.
type openings struct {
	mu   sync.Mutex
	list []opening
}

type opening struct {
	by      string // the identity's recipient
	of      seal.Binding
	request string
}

// hear returns what is called for every opening with one identity.
func (o *openings) hear(by string) func(of seal.Binding, request string) {
	return func(of seal.Binding, request string) {
		o.mu.Lock()
		defer o.mu.Unlock()
		o.list = append(o.list, opening{by, of, request})
	}
}

// take returns the requests that opened what is chosen, for one event that
// will name them: as many as one can.
func (o *openings) take(chosen func(opening) bool) (requests []string) {
	if o == nil {
		return nil
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.list = slices.DeleteFunc(o.list, func(x opening) bool {
		if len(requests) < requestsMost && chosen(x) {
			requests = append(requests, x.request)
			return true
		}
		return false
	})
	return requests
}

// ofKey chooses the openings of one validator's signing key.
func ofKey(pubkey eth.Pubkey) func(opening) bool {
	return func(x opening) bool { return x.of.Purpose == seal.Signing && x.of.Subject == pubkey.Hex() }
}

// ofMnemonics chooses the openings of an order's mnemonics, with one identity
// where by is not "".
func ofMnemonics(order, by string) func(opening) bool {
	return func(x opening) bool {
		return x.of.Purpose == seal.Recovery && x.of.Order == order && (by == "" || x.by == by)
	}
}

const (
	requestsKey  = "kms_requests"
	requestsEach = 27 // of 36 characters, and a space: the length of a detail's value
	requestsMost = requestsEach * 16
)

// withRequests adds the ids of KMS's requests to an event's details.
func withRequests(detail map[string]string, requests []string) {
	for part := range (len(requests) + requestsEach - 1) / requestsEach {
		key := requestsKey
		if part > 0 {
			key = fmt.Sprintf("%s.%d", requestsKey, part+1)
		}
		detail[key] = strings.Join(requests[part*requestsEach:min((part+1)*requestsEach, len(requests))], " ")
	}
}

// noteOpenings notes what KMS opened and no other event names. It is deferred
// by whoever opens; without a home it says them.
func (a *app) noteOpenings(ctx context.Context, h *home, what string, failed *error) {
	if a.openings == nil {
		return
	}
	ctx = context.WithoutCancel(ctx)
	for len(a.openings.list) > 0 {
		of := a.openings.list[0].of
		requests := a.openings.take(func(x opening) bool { return x.of.Purpose == of.Purpose && x.of.Order == of.Order })
		if h == nil {
			a.say("nothing was noted, as a bundle has no home; AWS's trail has what was opened of order %s as %d requests, the first of them %s", of.Order, len(requests), requests[0])
			continue
		}
		detail := map[string]string{"purpose": string(of.Purpose), "for": what}
		if *failed != nil {
			detail["outcome"] = "failed"
		}
		withRequests(detail, requests)
		err := h.note(ctx, record.Event{Time: record.Time(a.now()), Kind: "opened", Order: of.Order, Detail: detail})
		if err != nil && *failed == nil {
			*failed = err
		} else if err != nil {
			a.say("warning: %v", err)
		}
	}
}
