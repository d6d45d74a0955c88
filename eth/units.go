package eth

import (
	"errors"
	"fmt"
	"math/big"
	"strings"
)

// Gwei is an amount in gwei (1e-9 of the network's unit). Maximum of a
// deposit: 2048e9 (EIP-7251). Gnosis amounts stand after the multiplier of
// 32, as in deposit files.
type Gwei uint64

const gweiPerEther = 1_000_000_000

// Bounds of a balance that the protocol pays for, in gwei after the
// multiplier: the same on every network.
const (
	MaxEffectiveBalance            Gwei = 32 * gweiPerEther   // 0x00 and 0x01 (phase 0)
	MaxEffectiveBalanceCompounding Gwei = 2048 * gweiPerEther // 0x02 (EIP-7251)
)

// ErrAmount is what every refused amount wraps.
var ErrAmount = errors.New("amount not usable")

// ParseEther reads a decimal amount of n's unit ("32", "0.03125") and returns
// it in gwei after n's multiplier. It is exact: an amount that is no whole
// number of gwei is an error and nothing is ever rounded. Signs, exponents,
// spaces, separators, leading zeros and a bare point are refused, because in
// an amount of money they are typing errors.
func ParseEther(s string, n Network) (Gwei, error) {
	whole, fraction, point := strings.Cut(s, ".")
	switch {
	case len(whole) == 0 || len(whole) > 20 || len(fraction) > 40 || point && fraction == "":
		return 0, fmt.Errorf("%w: %q is no decimal number", ErrAmount, clip(s))
	case len(whole) > 1 && whole[0] == '0':
		return 0, fmt.Errorf("%w: %q begins with a zero", ErrAmount, clip(s))
	}
	for _, c := range []byte(whole + fraction) {
		if c < '0' || c > '9' {
			return 0, fmt.Errorf("%w: %q is no decimal number", ErrAmount, clip(s))
		}
	}
	// digits * 1e9 * multiplier / 10^len(fraction), in integers.
	v, _ := new(big.Int).SetString(whole+fraction, 10)
	v.Mul(v, n.gweiPerUnit())
	scale := new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(len(fraction))), nil)
	v, rest := v.QuoRem(v, scale, new(big.Int))
	if rest.Sign() != 0 {
		return 0, fmt.Errorf("%w: %q is finer than a gwei", ErrAmount, clip(s))
	}
	if !v.IsUint64() {
		return 0, fmt.Errorf("%w: %q is too large", ErrAmount, clip(s))
	}
	return Gwei(v.Uint64()), nil
}

// Ether prints g exactly in n's unit, without trailing zeros ("32", "31.5").
// ParseEther(g.Ether(n), n) gives g again.
func (g Gwei) Ether(n Network) string {
	per := n.gweiPerUnit()
	whole, rest := new(big.Int).QuoRem(new(big.Int).SetUint64(uint64(g)), per, new(big.Int))
	if rest.Sign() == 0 {
		return whole.String()
	}
	// per has no prime factor but 2 and 5 (NewNetwork sees to it), so the
	// expansion ends: each step makes one digit.
	var digits []byte
	ten := big.NewInt(10)
	digit := new(big.Int)
	for rest.Sign() != 0 {
		rest.Mul(rest, ten)
		digit.QuoRem(rest, per, rest)
		digits = append(digits, '0'+byte(digit.Uint64()))
		if len(digits) == 64 { // a Network that NewNetwork never saw
			break
		}
	}
	return whole.String() + "." + string(digits)
}

// CheckAmount says whether one deposit of amount to c can be what an operator
// wants on n: at least the contract's minimum, and at most what the protocol
// will ever count for the kind of credentials (more would earn nothing). It
// refuses every kind that is no validator's, above all 0xB0, a builder's
// (EIP-8282): as a validator it could never withdraw.
func CheckAmount(n Network, c Credentials, amount Gwei) error {
	var most Gwei
	switch c.Kind() {
	case KindBLS, KindExecution:
		most = MaxEffectiveBalance
	case KindCompounding:
		most = MaxEffectiveBalanceCompounding
	case KindBuilder:
		return fmt.Errorf("%w: 0xb0 credentials are a builder's: such a validator can never withdraw", ErrCredentials)
	default:
		return fmt.Errorf("%w: unknown prefix 0x%02x", ErrCredentials, c.Kind())
	}
	if amount < n.MinDeposit {
		return fmt.Errorf("%w: %s is less than the smallest deposit on %s, %s",
			ErrAmount, amount.Ether(n), n.Name, n.MinDeposit.Ether(n))
	}
	if amount > most {
		return fmt.Errorf("%w: %s is more than 0x%02x credentials hold on %s, %s",
			ErrAmount, amount.Ether(n), c.Kind(), n.Name, most.Ether(n))
	}
	return nil
}

// gweiPerUnit is how many gwei a deposit file counts for one unit of n.
func (n Network) gweiPerUnit() *big.Int {
	v := big.NewInt(gweiPerEther)
	if n.Multiplier > 1 { // the zero Network counts as 1
		v.Mul(v, new(big.Int).SetUint64(n.Multiplier))
	}
	return v
}

// Unit is what amounts of the network are called: GNO on Gnosis chains, where
// 1 GNO counts as 32, else ETH.
func (n Network) Unit() string {
	if n.Multiplier == 32 {
		return "GNO"
	}
	return "ETH"
}
