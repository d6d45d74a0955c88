package beacon

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/stakeseal/stakeseal/deposit"
	"github.com/stakeseal/stakeseal/eth"
	"github.com/stakeseal/stakeseal/eth/exit"
)

// Life is a validator with the epochs that bound its life; exit.FarFuture is
// one that has not been decided.
type Life struct {
	deposit.Validator
	Pubkey                         eth.Pubkey
	Activation, Exit, Withdrawable uint64
}

// Rules are what a chain's configuration says of exits. All nodes say the same.
type Rules struct {
	Deneb          uint64 // the epoch from which exits are signed under Capella's version (EIP-7044)
	MinimumActive  uint64 // epochs that a validator must have been active (SHARD_COMMITTEE_PERIOD)
	SlotsPerEpoch  uint64
	SecondsPerSlot uint64
	Genesis        int64 // unix seconds
}

// Moment is when a chain was asked.
type Moment struct {
	deposit.At
	Rules
	Epoch uint64 // of the block that was asked about
}

// Time is when an epoch begins, false for one that was not decided or is out
// of any calendar's reach.
func (r Rules) Time(epoch uint64) (time.Time, bool) {
	const years = 1 << 40 // seconds; some 34,000 years
	seconds := r.SlotsPerEpoch * r.SecondsPerSlot
	if seconds == 0 || epoch > years/seconds {
		return time.Time{}, false
	}
	return time.Unix(r.Genesis+int64(epoch*seconds), 0).UTC(), true
}

// Lives asks what the chain knows of pubkeys, as Known does: all of one block,
// and every node the same. Those that are not in the registry are not in the
// map. Errors wrap deposit.ErrChain.
func (c *Chain) Lives(ctx context.Context, pubkeys []eth.Pubkey) (map[eth.Pubkey]Life, Moment, error) {
	return lives(ctx, c, pubkeys, func(l Life) eth.Pubkey { return l.Pubkey })
}

// index is a validator's on the chain, as an id of the API.
type index uint64

func (i index) String() string { return strconv.FormatUint(uint64(i), 10) }

// LivesOf is Lives by indexes on the chain.
func (c *Chain) LivesOf(ctx context.Context, indexes []uint64) (map[uint64]Life, Moment, error) {
	list := make([]index, len(indexes))
	for i, n := range indexes {
		list[i] = index(n)
	}
	found, moment, err := lives(ctx, c, list, func(l Life) index { return index(l.Index) })
	if err != nil {
		return nil, moment, err
	}
	out := make(map[uint64]Life, len(found))
	for i, l := range found {
		out[uint64(i)] = l
	}
	return out, moment, nil
}

// id is what a validator is asked for by.
type id interface {
	comparable
	fmt.Stringer
}

func lives[T id](ctx context.Context, c *Chain, list []T, of func(Life) T) (map[T]Life, Moment, error) {
	found, moment, err := livesAgreed(ctx, c, list, of)
	if err != nil {
		return nil, Moment{}, fmt.Errorf("%w: %w", deposit.ErrChain, err)
	}
	return found, moment, nil
}

func livesAgreed[T id](ctx context.Context, c *Chain, list []T, of func(Life) T) (map[T]Life, Moment, error) {
	var m Moment
	asked := make(map[T]bool, len(list))
	var ask []T
	for _, one := range list {
		if !asked[one] {
			asked[one] = true
			ask = append(ask, one)
		}
	}
	if len(ask) == 0 {
		return nil, m, errors.New("no validator was asked for")
	}
	views, rules, found := make([]view, len(c.nodes)), make([]Rules, len(c.nodes)), make([]map[T]Life, len(c.nodes))
	common, err := c.common(ctx, views)
	if err != nil {
		return nil, m, err
	}
	if err := c.within(ctx, common, func(i int, n *Node) (err error) {
		if rules[i], err = n.rules(ctx, c.network, views[i].genesis); err != nil {
			return err
		}
		found[i] = make(map[T]Life, len(ask))
		return ids(ctx, n, common.slot, ask, func(r io.Reader, part []T) error {
			return readLives(r, part, of, found[i])
		})
	}); err != nil {
		return nil, m, err
	}
	for i, n := range c.nodes {
		if rules[i] != rules[0] {
			return nil, m, fmt.Errorf("%w about the chain's configuration: %s and %s", ErrDisagree, c.nodes[0], n)
		}
		for _, one := range ask {
			// Of one block: any difference means that somebody is wrong.
			if a, b := found[0][one], found[i][one]; a != b {
				return nil, m, fmt.Errorf("%w about validator %s: %s says %s, %s says %s", ErrDisagree, one, c.nodes[0], a.words(), n, b.words())
			}
		}
	}
	m = Moment{atOf(common, views), rules[0], common.slot / rules[0].SlotsPerEpoch}
	for _, n := range c.nodes {
		m.Nodes = append(m.Nodes, n.name)
	}
	return found[0], m, nil
}

func (l Life) words() string {
	if l == (Life{}) {
		return "there is none"
	}
	return fmt.Sprintf("index %d of %s, %s, active from epoch %d, exit at %d", l.Index, l.Pubkey, l.Status, l.Activation, l.Exit)
}

func readLives[T id](r io.Reader, asked []T, of func(Life) T, found map[T]Life) error {
	life := func(e entry) Life { return Life{Validator: e.Validator, Pubkey: e.pubkey} }
	wanted := make(map[T]bool, len(asked))
	for _, one := range asked {
		wanted[one] = true
	}
	return readEntries(r, func(e entry) bool { return wanted[of(life(e))] }, func(e entry) error {
		if e.activation == nil || e.exit == nil || e.withdrawable == nil {
			return errMissing
		}
		l := life(e)
		l.Activation, l.Exit, l.Withdrawable = uint64(*e.activation), uint64(*e.exit), uint64(*e.withdrawable)
		if _, twice := found[of(l)]; twice {
			return fmt.Errorf("validator %s is in the answer twice", of(l))
		}
		found[of(l)] = l
		return nil
	})
}

const maxSpecBytes = 1 << 20 // some tens of kilobytes

// rules is GET /eth/v1/config/spec. What is known of the network here is held
// against it: under another Capella version, or in another time, an exit is not
// the one that it is taken for.
func (n *Node) rules(ctx context.Context, network eth.Network, g genesis) (Rules, error) {
	const path = "/eth/v1/config/spec"
	var a struct {
		Data struct {
			Capella *eth.Version `json:"CAPELLA_FORK_VERSION"`
			Deneb   *number      `json:"DENEB_FORK_EPOCH"`
			Period  *number      `json:"SHARD_COMMITTEE_PERIOD"`
			Slots   *number      `json:"SLOTS_PER_EPOCH"`
			Seconds *number      `json:"SECONDS_PER_SLOT"`
			Millis  *number      `json:"SLOT_DURATION_MS"` // what takes its place
		} `json:"data"`
	}
	if err := n.ask(ctx, n.limit, http.MethodGet, path, nil, nil, maxSpecBytes, func(r io.Reader) error { return decode(r, &a) }); err != nil {
		return Rules{}, err
	}
	d := a.Data
	if d.Seconds == nil && d.Millis != nil {
		seconds := *d.Millis / 1000
		d.Seconds = &seconds
	}
	switch {
	case d.Capella == nil || d.Deneb == nil || d.Period == nil || d.Slots == nil || d.Seconds == nil:
		return Rules{}, n.fail(path, errMissing)
	case *d.Slots == 0 || *d.Seconds == 0 || *d.Slots > 1<<20 || *d.Seconds > 1<<20:
		return Rules{}, n.fail(path, errors.New("a chain without time"))
	case *d.Capella != network.ExitForkVersion:
		return Rules{}, fmt.Errorf("%s: %w: its Capella fork version is %s, that of %s is %s", n, ErrNetwork, *d.Capella, network.Name, network.ExitForkVersion)
	case network.SlotsPerEpoch != 0 && uint64(*d.Slots) != network.SlotsPerEpoch, network.SecondsPerSlot != 0 && uint64(*d.Seconds) != network.SecondsPerSlot:
		return Rules{}, fmt.Errorf("%s: %w: its epochs have %d slots of %d seconds, those of %s %d of %d", n, ErrNetwork, *d.Slots, *d.Seconds, network.Name, network.SlotsPerEpoch, network.SecondsPerSlot)
	}
	begin := network.GenesisTime
	if begin == 0 {
		begin = int64(g.time)
	}
	return Rules{uint64(*d.Deneb), uint64(*d.Period), uint64(*d.Slots), uint64(*d.Seconds), begin}, nil
}

const poolPath = "/eth/v1/beacon/pool/voluntary_exits"

// Submission is what one node did with an exit.
type Submission struct {
	Node string
	Err  error // nil: it took it
}

// Submit hands a signed exit to every node. One that takes it broadcasts it.
func (c *Chain) Submit(ctx context.Context, s exit.Signed) []Submission {
	out := make([]Submission, len(c.nodes))
	_ = c.each(func(i int, n *Node) error {
		out[i] = Submission{n.name, nil}
		if err := n.submit(ctx, s); err != nil {
			out[i].Err = fmt.Errorf("%w: %w", deposit.ErrChain, err)
		}
		return nil
	})
	return out
}

func (n *Node) submit(ctx context.Context, s exit.Signed) error {
	ctx, cancel := context.WithTimeout(ctx, n.limit)
	defer cancel()
	response, err := n.send(ctx, http.MethodPost, poolPath, nil, s)
	if err != nil {
		return n.fail(poolPath, err)
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode == http.StatusOK {
		return nil
	}
	var why struct {
		Message string `json:"message"`
	}
	err = statusError(response.StatusCode)
	if isJSON(response) && decode(&bound{r: response.Body, left: maxSmallBytes}, &why) == nil && why.Message != "" && !n.reveals(why.Message) {
		err = fmt.Errorf("%w: %q", err, clip(strings.Map(func(r rune) rune {
			if unicode.IsPrint(r) {
				return r
			}
			return ' '
		}, why.Message)))
	}
	return n.fail(poolPath, err)
}

// reveals says whether a text of the node has a part of its URL that may be a
// credential.
func (n *Node) reveals(text string) bool {
	parts := append(strings.Split(n.base.Path, "/"), strings.FieldsFunc(n.base.RawQuery, func(r rune) bool { return r == '&' || r == '=' })...)
	if u := n.base.User; u != nil {
		password, _ := u.Password()
		parts = append(parts, u.Username(), password)
	}
	return slices.ContainsFunc(parts, func(part string) bool { return part != "" && strings.Contains(text, part) })
}

// InPool tells which exits are in the pools of the nodes: signed, broadcast,
// and not in a block yet. A node that does not show its pool has none; only if
// none does it is an error.
func (c *Chain) InPool(ctx context.Context) (map[exit.Message]bool, error) {
	pools, errs := make([][]exit.Message, len(c.nodes)), make([]error, len(c.nodes))
	_ = c.each(func(i int, n *Node) error {
		pools[i], errs[i] = n.pool(ctx)
		return nil
	})
	if !slices.ContainsFunc(errs, func(err error) bool { return err == nil }) {
		return nil, fmt.Errorf("%w: %w", deposit.ErrChain, errors.Join(errs...))
	}
	all := map[exit.Message]bool{}
	for _, pool := range pools {
		for _, m := range pool {
			all[m] = true
		}
	}
	return all, nil
}

func (n *Node) pool(ctx context.Context) (list []exit.Message, err error) {
	var a struct {
		Data *[]struct {
			Message struct {
				Epoch *number `json:"epoch"`
				Index *number `json:"validator_index"`
			} `json:"message"`
		} `json:"data"`
	}
	const limit = 32 << 20 // a hundred thousand exits
	if err := n.ask(ctx, n.limit, http.MethodGet, poolPath, nil, nil, limit, func(r io.Reader) error { return decode(r, &a) }); err != nil {
		return nil, err
	}
	if a.Data == nil {
		return nil, n.fail(poolPath, errMissing)
	}
	for _, d := range *a.Data {
		if d.Message.Epoch == nil || d.Message.Index == nil {
			return nil, n.fail(poolPath, errMissing)
		}
		list = append(list, exit.Message{Epoch: uint64(*d.Message.Epoch), Index: uint64(*d.Message.Index)})
	}
	return list, nil
}
