package duty

import (
	"fmt"

	"github.com/stakeseal/stakeseal/eth"
)

// Group is one request that several keys shall sign.
type Group struct {
	Pubkeys []eth.Pubkey
	Request *Request
}

// ParseBatch reads groups of requests, with most pubkeys in all:
//
//	[{"identifiers": ["0x..", ..], "signing_request": {"type": .., ..}}, ..]
//
// A group is what many validators have in common: since Electra all those of
// a slot attest to the same data.
func ParseBatch(body []byte, most int) ([]Group, error) {
	top, err := parseJSON(body)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	if top.kind != '[' || len(top.items) == 0 {
		return nil, fmt.Errorf("%w: not an array of groups", ErrMalformed)
	}
	groups := make([]Group, len(top.items))
	count := 0
	for i, n := range top.items {
		path := fmt.Sprintf("[%d]", i)
		list, ok := n.get("identifiers")
		if !ok || list.kind != '[' || len(list.items) == 0 {
			return nil, wrong(path, "%q is missing, empty or no array", "identifiers")
		}
		if count += len(list.items); count > most {
			return nil, wrong(path, "more than %d signatures", most)
		}
		for j, item := range list.items {
			b, err := exactly(len(eth.Pubkey{}), item, fmt.Sprintf("%s.identifiers[%d]", path, j))
			if err != nil {
				return nil, err
			}
			groups[i].Pubkeys = append(groups[i].Pubkeys, eth.Pubkey(b))
		}
		request, ok := n.get("signing_request")
		if !ok || len(n.names) != 2 {
			return nil, wrong(path, "a group has identifiers and a signing_request")
		}
		if groups[i].Request, err = read(request); err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
	}
	return groups, nil
}
