package beacon

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"

	"github.com/stakeseal/stakeseal/deposit"
	"github.com/stakeseal/stakeseal/eth"
)

// Pointers tell what an answer left out, which is an error, from what is zero.

var errMissing = errors.New("the answer lacks a field")

// genesis is GET /eth/v1/beacon/genesis.
type genesis struct {
	time           uint64
	forkVersion    eth.Version
	validatorsRoot eth.Root
}

func (n *Node) genesis(ctx context.Context) (g genesis, err error) {
	const path = "/eth/v1/beacon/genesis"
	var a struct {
		Data struct {
			Time *number      `json:"genesis_time"`
			Fork *eth.Version `json:"genesis_fork_version"`
			Root *eth.Root    `json:"genesis_validators_root"`
		} `json:"data"`
	}
	if err := n.get(ctx, path, &a); err != nil {
		return g, err
	}
	if a.Data.Time == nil || a.Data.Fork == nil || a.Data.Root == nil {
		return g, n.fail(path, errMissing)
	}
	return genesis{uint64(*a.Data.Time), *a.Data.Fork, *a.Data.Root}, nil
}

// synced is GET /eth/v1/node/syncing. All fields are required by the API, so
// one that is missing is no "false".
func (n *Node) synced(ctx context.Context) error {
	const path = "/eth/v1/node/syncing"
	var a struct {
		Data struct {
			Head       *number `json:"head_slot"`
			Distance   *number `json:"sync_distance"`
			Syncing    *bool   `json:"is_syncing"`
			Optimistic *bool   `json:"is_optimistic"`
			Offline    *bool   `json:"el_offline"`
		} `json:"data"`
	}
	if err := n.get(ctx, path, &a); err != nil {
		return err
	}
	d := a.Data
	switch {
	case d.Head == nil || d.Distance == nil || d.Syncing == nil || d.Optimistic == nil || d.Offline == nil:
		return n.fail(path, errMissing)
	case *d.Syncing:
		return fmt.Errorf("%s: %w: it is %d slots behind", n.name, ErrNotSynced, *d.Distance)
	case *d.Optimistic:
		return fmt.Errorf("%s: %w: its head is optimistic, not verified by its execution client", n.name, ErrNotSynced)
	case *d.Offline:
		return fmt.Errorf("%s: %w: its execution client is offline", n.name, ErrNotSynced)
	}
	return nil
}

// header is a block that the node holds canonical.
type header struct {
	slot uint64
	root eth.Root
}

// header is GET /eth/v1/beacon/headers/{block}, of "head" or a slot.
func (n *Node) header(ctx context.Context, block string) (h header, err error) {
	path := "/eth/v1/beacon/headers/" + block
	var a struct {
		Optimistic bool `json:"execution_optimistic"`
		Data       struct {
			Root      *eth.Root `json:"root"`
			Canonical *bool     `json:"canonical"`
			Header    struct {
				Message struct {
					Slot *number `json:"slot"`
				} `json:"message"`
			} `json:"header"`
		} `json:"data"`
	}
	if err := n.get(ctx, path, &a); err != nil {
		return h, err
	}
	switch slot := a.Data.Header.Message.Slot; {
	case a.Data.Root == nil || a.Data.Canonical == nil || slot == nil:
		return h, n.fail(path, errMissing)
	case a.Optimistic:
		return h, fmt.Errorf("%s: %w: its block is optimistic", n.name, ErrNotSynced)
	case !*a.Data.Canonical:
		return h, n.fail(path, errors.New("the block isn't canonical"))
	case block != "head" && block != strconv.FormatUint(uint64(*slot), 10):
		return h, n.fail(path, fmt.Errorf("the answer is of slot %d", *slot))
	default:
		return header{uint64(*slot), *a.Data.Root}, nil
	}
}

const (
	postBatch = 1000 // ids a POST
	getBatch  = 64   // ids a GET: the API's bound
	canary    = "0"  // the validator that each chain has from its genesis on
)

// validators asks for pubkeys in the state at slot. Those that are not in the
// registry are not in the map.
//
// Each request asks for validator 0 as well. The API answers an unknown
// pubkey with nothing, so a node, cache or proxy that loses the question and
// answers "none" would otherwise pass for good news.
func (n *Node) validators(ctx context.Context, slot uint64, pubkeys []eth.Pubkey) (map[eth.Pubkey]deposit.Validator, error) {
	found := make(map[eth.Pubkey]deposit.Validator)
	err := ids(ctx, n, slot, pubkeys, func(r io.Reader, part []eth.Pubkey) error { return readValidators(r, part, found) })
	if err != nil {
		return nil, err
	}
	return found, nil
}

// ids asks for validators in the state at slot by ids of one kind, in as many
// requests as it takes.
func ids[T fmt.Stringer](ctx context.Context, n *Node, slot uint64, list []T, read func(r io.Reader, part []T) error) error {
	path := "/eth/v1/beacon/states/" + strconv.FormatUint(slot, 10) + "/validators"
	post := true
	for from := 0; from < len(list); {
		size := getBatch - 1
		if post {
			size = postBatch - 1
		}
		part := list[from:min(from+size, len(list))]
		ids := make([]string, 0, len(part)+1)
		for _, id := range part {
			ids = append(ids, id.String())
		}
		if !slices.Contains(ids, canary) {
			ids = append(ids, canary)
		}
		read := func(r io.Reader) error { return read(r, part) }
		limit := int64(maxSmallBytes + maxEntryBytes*len(ids))
		var err error
		if post {
			err = n.ask(ctx, n.limit, http.MethodPost, path, nil, map[string][]string{"ids": ids}, limit, read)
			var status statusError
			if errors.As(err, &status) && (status == http.StatusNotFound || status == http.StatusMethodNotAllowed) {
				// A node from before the POST variant. If the state is what
				// is not found, the GET says so too.
				post = false
				continue
			}
		} else {
			err = n.ask(ctx, n.limit, http.MethodGet, path, url.Values{"id": ids}, nil, limit, read)
		}
		if err != nil {
			return err
		}
		from += len(part)
	}
	return nil
}

// entry is a validator as the API shows it. Its epochs are nil where the answer
// left them out.
type entry struct {
	deposit.Validator
	pubkey                         eth.Pubkey
	activation, exit, withdrawable *number
}

func readValidators(r io.Reader, asked []eth.Pubkey, found map[eth.Pubkey]deposit.Validator) error {
	wanted := make(map[eth.Pubkey]bool, len(asked))
	for _, p := range asked {
		wanted[p] = true
	}
	return readEntries(r, func(e entry) bool { return wanted[e.pubkey] }, func(e entry) error {
		if _, twice := found[e.pubkey]; twice {
			return fmt.Errorf("pubkey %s is in the answer twice", e.pubkey)
		}
		found[e.pubkey] = e.Validator
		return nil
	})
}

// readEntries hands those that were asked for to found, and sees to it that
// validator 0 is in the answer.
func readEntries(r io.Reader, wanted func(entry) bool, found func(entry) error) error {
	var a struct {
		Optimistic bool `json:"execution_optimistic"`
		Data       *[]struct {
			Index     *number         `json:"index"`
			Balance   *number         `json:"balance"`
			Status    *deposit.Status `json:"status"`
			Validator struct {
				Pubkey      *eth.Pubkey      `json:"pubkey"`
				Credentials *eth.Credentials `json:"withdrawal_credentials"`

				Activation   *number `json:"activation_epoch"`
				Exit         *number `json:"exit_epoch"`
				Withdrawable *number `json:"withdrawable_epoch"`
			} `json:"validator"`
		} `json:"data"`
	}
	if err := decode(r, &a); err != nil {
		return err
	}
	if a.Data == nil {
		return errMissing
	}
	if a.Optimistic {
		return errors.New("the state is optimistic")
	}
	first := false
	seen := make(map[uint64]bool, len(*a.Data))
	for _, d := range *a.Data {
		if d.Index == nil || d.Balance == nil || d.Status == nil || d.Validator.Pubkey == nil || d.Validator.Credentials == nil {
			return errMissing
		}
		index := uint64(*d.Index)
		e := entry{
			deposit.Validator{Index: index, Status: *d.Status, Credentials: *d.Validator.Credentials, Balance: eth.Gwei(*d.Balance)},
			*d.Validator.Pubkey, d.Validator.Activation, d.Validator.Exit, d.Validator.Withdrawable,
		}
		switch {
		case !d.Status.Known():
			return fmt.Errorf("validator %d has the unknown status %q", index, clip(string(*d.Status)))
		case seen[index]:
			return fmt.Errorf("validator %d is in the answer twice", index)
		case index != 0 && !wanted(e):
			return fmt.Errorf("validator %d was not asked for", index)
		}
		seen[index] = true
		first = first || index == 0
		if !wanted(e) {
			continue
		}
		if err := found(e); err != nil {
			return err
		}
	}
	if !first {
		return errors.New("validator 0 was asked for and is not in the answer: the node didn't take the question")
	}
	return nil
}

// pending asks for the queue of pending deposits in the state at slot, and
// keeps those of the wanted pubkeys. ok is false if the node has no such
// queue: it answers 404, 405 or 501 before it knew the endpoint, 400 for a
// state before Electra.
func (n *Node) pending(ctx context.Context, slot uint64, wanted map[eth.Pubkey]bool) (queue map[eth.Pubkey][]deposit.Pending, ok bool, err error) {
	path := "/eth/v1/beacon/states/" + strconv.FormatUint(slot, 10) + "/pending_deposits"
	queue = make(map[eth.Pubkey][]deposit.Pending)
	err = n.ask(ctx, 4*n.limit, http.MethodGet, path, nil, nil, maxQueueBytes, func(r io.Reader) error { return readPending(r, wanted, queue) })
	var status statusError
	if errors.As(err, &status) {
		switch status {
		case http.StatusBadRequest, http.StatusNotFound, http.StatusMethodNotAllowed, http.StatusNotImplemented:
			return nil, false, nil
		}
	}
	return queue, err == nil, err
}

// readPending walks the answer entry by entry: the whole queue is large, and
// only a few of it matter.
func readPending(r io.Reader, wanted map[eth.Pubkey]bool, queue map[eth.Pubkey][]deposit.Pending) error {
	dec := json.NewDecoder(r)
	if t, err := dec.Token(); err != nil || t != json.Delim('{') {
		return orNotJSON(err)
	}
	names := map[string]bool{}
	for dec.More() {
		t, err := dec.Token()
		name, ok := t.(string)
		if err != nil || !ok {
			return orNotJSON(err)
		}
		if names[name] {
			return fmt.Errorf("the JSON has the name %q twice", clip(name))
		}
		names[name] = true
		switch name {
		case "data":
			err = readQueue(dec, wanted, queue)
		case "execution_optimistic":
			var optimistic bool
			if err = dec.Decode(&optimistic); err == nil && optimistic {
				err = errors.New("the state is optimistic")
			}
		default:
			var ignored json.RawMessage
			err = dec.Decode(&ignored)
		}
		if err != nil {
			return err
		}
	}
	if _, err := dec.Token(); err != nil { // }
		return orNotJSON(err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return orNotJSON(err)
	}
	if !names["data"] {
		return errMissing
	}
	return nil
}

func readQueue(dec *json.Decoder, wanted map[eth.Pubkey]bool, queue map[eth.Pubkey][]deposit.Pending) error {
	if t, err := dec.Token(); err != nil || t != json.Delim('[') {
		return orNotJSON(err)
	}
	for dec.More() {
		var raw json.RawMessage
		if err := dec.Decode(&raw); err != nil {
			return err
		}
		if len(raw) > maxEntryBytes {
			return errLarge
		}
		var d struct {
			Pubkey      *eth.Pubkey      `json:"pubkey"`
			Credentials *eth.Credentials `json:"withdrawal_credentials"`
			Amount      *number          `json:"amount"`
			Signature   *eth.Signature   `json:"signature"`
			Slot        *number          `json:"slot"`
		}
		if err := strict(raw, &d); err != nil {
			return err
		}
		if d.Pubkey == nil || d.Credentials == nil || d.Amount == nil || d.Signature == nil || d.Slot == nil {
			return errMissing
		}
		if wanted[*d.Pubkey] {
			queue[*d.Pubkey] = append(queue[*d.Pubkey], deposit.Pending{
				Credentials: *d.Credentials, Amount: eth.Gwei(*d.Amount), Signature: *d.Signature, Slot: uint64(*d.Slot),
			})
		}
	}
	_, err := dec.Token() // ]
	return err
}

func orNotJSON(err error) error {
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	return errors.New("the answer isn't the JSON of this endpoint")
}
