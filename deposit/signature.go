package deposit

import (
	"context"
	"errors"
	"runtime"
	"sync"
	"sync/atomic"

	"github.com/stakeseal/stakeseal/eth"
	"github.com/stakeseal/stakeseal/eth/bls"
)

const (
	// batch is how many signatures are verified at once: larger gains little
	// (the cost a signature is flat from about 100), smaller lets one bad
	// signature spoil less.
	batch = 128

	// maxSingles bounds the search for the network that bad signatures are
	// of: a file full of garbage must not cost seven verifications a row.
	maxSingles = 256
)

// signature is what is known of an entry's signature.
type signature struct {
	ok      bool
	pubkey  bool   // the pubkey itself is not usable
	network string // not ok, but valid on this other network
}

// verify checks all entries' signatures over their own fields with the wanted
// network's deposit domain, and finds out of the bad ones what they are. The
// error is the context's or an internal one, never a bad signature.
func (c *trial) verify(ctx context.Context) ([]signature, error) {
	result := make([]signature, len(c.entries))
	rows := make([]int, len(c.entries))
	for i := range rows {
		rows[i] = i
	}
	good, err := verifyAll(ctx, c.claims(rows, c.Network), nil)
	if err != nil {
		return nil, err
	}
	var bad []int
	for i, ok := range good {
		result[i].ok = ok
		switch {
		case ok:
		case bls.CheckPubkey(c.entries[i].Pubkey) != nil:
			result[i].pubkey = true
		default:
			bad = append(bad, i)
		}
	}
	singles := new(atomic.Int64)
	singles.Store(maxSingles)
	for _, n := range eth.Networks() {
		if n.GenesisForkVersion == c.Network.GenesisForkVersion || len(bad) == 0 {
			continue
		}
		good, err := verifyAll(ctx, c.claims(bad, n), singles)
		if err != nil {
			return nil, err
		}
		var left []int
		for k, i := range bad {
			if good[k] {
				result[i].network = n.Name
			} else {
				left = append(left, i)
			}
		}
		bad = left
	}
	return result, nil
}

func (c *trial) claims(rows []int, n eth.Network) []bls.Claim {
	domain := n.DepositDomain()
	claims := make([]bls.Claim, len(rows))
	for k, i := range rows {
		e := &c.entries[i]
		claims[k] = bls.Claim{Pubkey: e.Pubkey, Root: eth.SigningRoot(e.message().Root(), domain), Signature: e.Signature}
	}
	return claims
}

// verifyAll says of each claim whether it holds, on all processors. With
// singles, only so many claims are verified one by one: when they are used
// up, the claims of a batch that fails count as bad.
func verifyAll(ctx context.Context, claims []bls.Claim, singles *atomic.Int64) ([]bool, error) {
	good := make([]bool, len(claims))
	var (
		next atomic.Int64
		work sync.WaitGroup
		once sync.Once
		fail error
	)
	for range min(runtime.GOMAXPROCS(0), (len(claims)+batch-1)/batch) {
		work.Go(func() {
			for ctx.Err() == nil {
				to := int(next.Add(batch))
				from := to - batch
				if from >= len(claims) {
					return
				}
				to = min(to, len(claims))
				if err := verifyBatch(ctx, claims[from:to], good[from:to], singles); err != nil {
					once.Do(func() { fail = err })
					return
				}
			}
		})
	}
	work.Wait()
	if fail == nil {
		fail = ctx.Err()
	}
	return good, fail
}

func verifyBatch(ctx context.Context, claims []bls.Claim, good []bool, singles *atomic.Int64) error {
	if singles != nil && singles.Load() <= 0 && !bls.Verify(claims[0]) {
		// A batch of another network's deposits is good as a whole; this one
		// is not, and looking further is what the bound forbids.
		return nil
	}
	err := bls.VerifyBatch(claims)
	var first *bls.BadClaim
	switch {
	case err == nil:
		for i := range good {
			good[i] = true
		}
		return nil
	case !errors.As(err, &first):
		return err // no claim is to blame: the machine is
	}
	if singles != nil {
		singles.Add(-int64(len(claims)))
	}
	for i := range claims {
		if err := ctx.Err(); err != nil {
			return err
		}
		// Those before the first bad one were verified one by one already.
		good[i] = i < first.Index || i > first.Index && bls.Verify(claims[i])
	}
	return nil
}
