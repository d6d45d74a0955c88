package beacon

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/stakeseal/stakeseal/deposit"
	"github.com/stakeseal/stakeseal/eth"
)

var _ deposit.Chain = (*Chain)(nil)

// Chain is one network as seen by all of its nodes together. It is safe for
// concurrent use.
type Chain struct {
	network eth.Network
	nodes   []*Node
	now     func() time.Time
}

// New makes a Chain of at least one node. The same node named twice is
// refused: it would look like a second opinion. now is the clock that a head
// is held against.
func New(network eth.Network, now func() time.Time, nodes ...*Node) (*Chain, error) {
	if len(nodes) == 0 {
		return nil, fmt.Errorf("%w: %w: no beacon node is named", deposit.ErrChain, ErrURL)
	}
	c := &Chain{network: network, now: now}
	for i, n := range nodes {
		named := *n
		for k, m := range nodes[:i] {
			if n.same(m) {
				return nil, fmt.Errorf("%w: %w: %s is named twice, as node %d and %d", deposit.ErrChain, ErrURL, n, k+1, i+1)
			}
			if n.name == m.name { // one host, two paths
				named.name = n.name + "#" + strconv.Itoa(i+1)
			}
		}
		c.nodes = append(c.nodes, &named)
	}
	return c, nil
}

// Known implements deposit.Chain. All that it returns is of one state: the
// one after the latest block that every node has.
func (c *Chain) Known(ctx context.Context, pubkeys []eth.Pubkey) (map[eth.Pubkey]deposit.State, deposit.At, error) {
	states, at, err := c.known(ctx, pubkeys)
	if err != nil {
		return nil, deposit.At{}, fmt.Errorf("%w: %w", deposit.ErrChain, err)
	}
	return states, at, nil
}

// view is what one node says.
type view struct {
	genesis    genesis
	head       header
	validators map[eth.Pubkey]deposit.Validator
	pending    map[eth.Pubkey][]deposit.Pending
	hasPending bool
}

func (c *Chain) known(ctx context.Context, pubkeys []eth.Pubkey) (map[eth.Pubkey]deposit.State, deposit.At, error) {
	var at deposit.At
	wanted := make(map[eth.Pubkey]bool, len(pubkeys))
	var ask []eth.Pubkey
	for _, p := range pubkeys {
		if !wanted[p] {
			wanted[p] = true
			ask = append(ask, p)
		}
	}
	if len(ask) == 0 {
		return nil, at, errors.New("no pubkey was asked for")
	}

	views := make([]view, len(c.nodes))
	common, err := c.common(ctx, views)
	if err != nil {
		return nil, at, err
	}
	if err := c.within(ctx, common, func(i int, n *Node) (err error) {
		v := &views[i]
		if v.validators, err = n.validators(ctx, common.slot, ask); err != nil {
			return err
		}
		v.pending, v.hasPending, err = n.pending(ctx, common.slot, wanted)
		return err
	}); err != nil {
		return nil, at, err
	}

	at = atOf(common, views)
	// A queue that one node shows is one node's word: it is believed when it
	// speaks against a deposit, but only the words of all are a second opinion.
	for i, n := range c.nodes {
		at.Nodes = append(at.Nodes, n.name)
		if !views[i].hasPending {
			at.NoPending = append(at.NoPending, n.name)
		}
	}
	at.Pending = len(at.NoPending) == 0
	states, err := c.agree(ask, views)
	return states, at, err
}

// common opens all nodes and returns the latest block that every one of them
// may have.
func (c *Chain) common(ctx context.Context, views []view) (common header, err error) {
	if err := c.each(func(i int, n *Node) error { return c.open(ctx, n, &views[i]) }); err != nil {
		return common, err
	}
	common = views[0].head
	for i := range views {
		if views[i].genesis.validatorsRoot != views[0].genesis.validatorsRoot {
			return common, fmt.Errorf("%w: %s and %s have different genesis validators roots", ErrDisagree, c.nodes[0], c.nodes[i])
		}
		if views[i].head.slot < common.slot {
			common = views[i].head
		}
	}
	return common, nil
}

// within asks all nodes for something of the state after one block. Asking by
// slot, not by "head": the head moves between two requests, and between two
// nodes. The block is asked for before and after, so that a reorganisation in
// between shows.
func (c *Chain) within(ctx context.Context, common header, ask func(i int, n *Node) error) error {
	block := strconv.FormatUint(common.slot, 10)
	return c.each(func(i int, n *Node) error {
		if err := c.hasBlock(ctx, n, block, common); err != nil {
			return err
		}
		if err := ask(i, n); err != nil {
			return err
		}
		return c.hasBlock(ctx, n, block, common)
	})
}

func atOf(common header, views []view) deposit.At {
	return deposit.At{
		Slot: common.slot, BlockRoot: common.root,
		ForkVersion: views[0].genesis.forkVersion, GenesisValidatorsRoot: views[0].genesis.validatorsRoot,
	}
}

// each runs one step at all nodes at once. One that fails fails the step; all
// errors are told, since the next run would meet the second.
func (c *Chain) each(step func(i int, n *Node) error) error {
	errs := make([]error, len(c.nodes))
	var work sync.WaitGroup
	for i, n := range c.nodes {
		work.Go(func() { errs[i] = step(i, n) })
	}
	work.Wait()
	return errors.Join(errs...)
}

// open learns whether a node can be asked at all.
func (c *Chain) open(ctx context.Context, n *Node, v *view) (err error) {
	if v.genesis, err = n.genesis(ctx); err != nil {
		return err
	}
	if v.genesis.forkVersion != c.network.GenesisForkVersion {
		whose := "a network not known here"
		if other, ok := eth.NetworkByForkVersion(v.genesis.forkVersion); ok {
			whose = other.Name
		}
		return fmt.Errorf("%s: %w: genesis fork version %s, of %s, not %s", n, ErrNetwork, v.genesis.forkVersion, whose, c.network.Name)
	}
	if c.network.HasGenesisValidatorsRoot && v.genesis.validatorsRoot != c.network.GenesisValidatorsRoot {
		return fmt.Errorf("%s: %w: genesis validators root %s is not of %s", n, ErrNetwork, v.genesis.validatorsRoot, c.network.Name)
	}
	if err := n.synced(ctx); err != nil {
		return err
	}
	if v.head, err = n.header(ctx, "head"); err != nil {
		return err
	}
	return c.recent(n, v)
}

// recent holds a node's head against the clock: a node that is cut off from
// its peers may believe itself synced. Networks whose slot time is not known
// here are not held against it.
func (c *Chain) recent(n *Node, v *view) error {
	if c.network.SecondsPerSlot == 0 {
		return nil
	}
	begin := c.network.GenesisTime
	if begin == 0 {
		begin = int64(v.genesis.time)
	}
	since := c.now().Unix() - begin
	if since < 0 {
		return fmt.Errorf("%s: %w: by this machine's clock the chain has not begun", n, ErrNotSynced)
	}
	slot := uint64(since) / c.network.SecondsPerSlot
	epoch := max(c.network.SlotsPerEpoch, 1)
	if v.head.slot > slot+1 {
		return fmt.Errorf("%s: %w: its head is slot %d, but by this machine's clock it is slot %d", n, ErrNotSynced, v.head.slot, slot)
	}
	if slot-min(slot, v.head.slot) > epoch {
		return fmt.Errorf("%s: %w: its head is slot %d, %d slots ago by this machine's clock", n, ErrNotSynced, v.head.slot, slot-v.head.slot)
	}
	return nil
}

// hasBlock says whether the node has the common block at its slot.
func (c *Chain) hasBlock(ctx context.Context, n *Node, block string, want header) error {
	h, err := n.header(ctx, block)
	var status statusError
	switch {
	case errors.As(err, &status) && status == 404:
		return fmt.Errorf("%s: %w: it has no block at slot %d, where others have %s", n, ErrDisagree, want.slot, want.root)
	case err != nil:
		return err
	case h.root != want.root:
		return fmt.Errorf("%s: %w: its block at slot %d is %s, not %s", n, ErrDisagree, want.slot, h.root, want.root)
	}
	return nil
}

// agree joins the views. They are of one block, so that any difference means
// that somebody is wrong.
func (c *Chain) agree(pubkeys []eth.Pubkey, views []view) (map[eth.Pubkey]deposit.State, error) {
	queue := slices.IndexFunc(views, func(v view) bool { return v.hasPending })
	states := make(map[eth.Pubkey]deposit.State, len(pubkeys))
	var differ []string
	for _, p := range pubkeys {
		var state deposit.State
		if v, ok := views[0].validators[p]; ok {
			state.Validator = &v
		}
		if queue >= 0 {
			state.Pending = views[queue].pending[p]
		}
		states[p] = state
		for i := range views {
			v, ok := views[i].validators[p]
			sameValidator := ok == (state.Validator != nil) && (!ok || v == *state.Validator)
			samePending := !views[i].hasPending || slices.Equal(views[i].pending[p], state.Pending)
			if sameValidator && samePending {
				continue
			}
			differ = append(differ, fmt.Sprintf("about %s: %s says %s, %s says %s", p,
				c.nodes[0], describe(&views[0], p), c.nodes[i], describe(&views[i], p)))
			break
		}
		if len(differ) == 5 {
			differ = append(differ, "and maybe more")
			break
		}
	}
	if len(differ) > 0 {
		return nil, fmt.Errorf("%w %s", ErrDisagree, strings.Join(differ, "; "))
	}
	return states, nil
}

func describe(v *view, p eth.Pubkey) string {
	s := "no such validator"
	if known, ok := v.validators[p]; ok {
		s = fmt.Sprintf("validator %d with withdrawal credentials %s and %d gwei, %s", known.Index, known.Credentials, known.Balance, known.Status)
	}
	if n := len(v.pending[p]); n > 0 {
		s += fmt.Sprintf(" and %d pending deposits, the first with withdrawal credentials %s", n, v.pending[p][0].Credentials)
	}
	return s
}
