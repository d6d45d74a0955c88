package eth

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync/atomic"
)

// Network is a beacon chain's parameters, as far as making, checking and
// exiting validators needs them.
type Network struct {
	Name               string
	GenesisForkVersion Version
	// ExitForkVersion is the Capella fork version, under which voluntary
	// exits are signed for ever (EIP-7044).
	ExitForkVersion          Version
	GenesisValidatorsRoot    Root
	HasGenesisValidatorsRoot bool   // false: not known or not stable (ephemery)
	Multiplier               uint64 // gwei in a deposit file per gwei of the unit: 1, gnosis 32
	MinActivation            Gwei   // after the multiplier
	MinDeposit               Gwei   // after the multiplier
	DepositContract          Address
	ChainID                  uint64 // 0: unknown
	GenesisTime              int64  // unix seconds; 0: unknown
	SecondsPerSlot           uint64 // 0: unknown
	SlotsPerEpoch            uint64 // 0: unknown
	Mainnet                  bool   // real money
}

// ErrNetwork is what refused network parameters wrap.
var ErrNetwork = errors.New("network parameters not usable")

// Networks returns a copy of the known networks, always in the same order.
func Networks() []Network { return networks() }

// LookupNetwork finds a known network by its name.
func LookupNetwork(name string) (Network, bool) {
	for _, n := range networks() {
		if n.Name == name {
			return n, true
		}
	}
	return Network{}, false
}

// NetworkByForkVersion finds a known network by its genesis fork version.
func NetworkByForkVersion(v Version) (Network, bool) {
	for _, n := range networks() {
		if n.GenesisForkVersion == v {
			return n, true
		}
	}
	return Network{}, false
}

// NewNetwork checks the parameters of a network that is not in the table, and
// fills what was left zero: multiplier 1, minimum activation 32 and minimum
// deposit 1, after the multiplier. It refuses whatever would make a signature
// for the custom network count on a known one: a known network's name, any of
// its fork versions or its genesis validators root.
func NewNetwork(n Network) (Network, error) {
	if err := checkName(n.Name); err != nil {
		return Network{}, err
	}
	for _, known := range networks() {
		switch {
		case n.Name == known.Name:
			return Network{}, fmt.Errorf("%w: %q is a known network: use it without parameters", ErrNetwork, n.Name)
		case n.GenesisForkVersion == known.GenesisForkVersion || n.GenesisForkVersion == known.ExitForkVersion:
			return Network{}, fmt.Errorf("%w: genesis fork version %s belongs to %s: deposits would count there", ErrNetwork, n.GenesisForkVersion, known.Name)
		case n.ExitForkVersion == known.ExitForkVersion || n.ExitForkVersion == known.GenesisForkVersion:
			return Network{}, fmt.Errorf("%w: exit fork version %s belongs to %s", ErrNetwork, n.ExitForkVersion, known.Name)
		case known.HasGenesisValidatorsRoot && n.GenesisValidatorsRoot == known.GenesisValidatorsRoot:
			return Network{}, fmt.Errorf("%w: genesis validators root %s belongs to %s", ErrNetwork, n.GenesisValidatorsRoot, known.Name)
		}
	}
	if n.ExitForkVersion == n.GenesisForkVersion {
		return Network{}, fmt.Errorf("%w: exit and genesis fork version are both %s", ErrNetwork, n.GenesisForkVersion)
	}
	if n.HasGenesisValidatorsRoot == (n.GenesisValidatorsRoot == Root{}) {
		return Network{}, fmt.Errorf("%w: genesis validators root is %s, but present: %t", ErrNetwork, n.GenesisValidatorsRoot, n.HasGenesisValidatorsRoot)
	}
	if n.Multiplier == 0 {
		n.Multiplier = 1
	}
	if n.MinActivation == 0 {
		n.MinActivation = MaxEffectiveBalance
	}
	if n.MinDeposit == 0 {
		n.MinDeposit = gweiPerEther
	}
	if !finiteDecimal(n.Multiplier) {
		return Network{}, fmt.Errorf("%w: multiplier %d: only products of 2 and 5 up to 1000000, so that every amount has an exact decimal", ErrNetwork, n.Multiplier)
	}
	if n.MinDeposit > n.MinActivation || n.MinActivation > MaxEffectiveBalanceCompounding {
		return Network{}, fmt.Errorf("%w: minimum deposit %d, minimum activation %d gwei: must rise and stay within %d",
			ErrNetwork, n.MinDeposit, n.MinActivation, MaxEffectiveBalanceCompounding)
	}
	if n.GenesisTime < 0 {
		return Network{}, fmt.Errorf("%w: genesis time %d is negative", ErrNetwork, n.GenesisTime)
	}
	return n, nil
}

// checkName keeps a name usable as a file name and as one word on a line.
func checkName(name string) error {
	if len(name) == 0 || len(name) > 32 || name[0] == '-' {
		return fmt.Errorf("%w: name %q: 1 to 32 of a-z, 0-9 and -, not beginning with -", ErrNetwork, clip(name))
	}
	for _, c := range []byte(name) {
		if c != '-' && (c < 'a' || c > 'z') && (c < '0' || c > '9') {
			return fmt.Errorf("%w: name %q: 1 to 32 of a-z, 0-9 and -, not beginning with -", ErrNetwork, name)
		}
	}
	return nil
}

func finiteDecimal(m uint64) bool {
	if m == 0 || m > 1_000_000 {
		return false
	}
	for _, p := range []uint64{2, 5} {
		for m%p == 0 {
			m /= p
		}
	}
	return m == 1
}

// DepositDomain is the domain of deposit messages: the genesis fork version
// and a zero root, so that a deposit stays valid across forks.
func (n Network) DepositDomain() Domain {
	return ComputeDomain(DomainDeposit, n.GenesisForkVersion, Root{})
}

// ExitDomain is the domain of voluntary exits from Deneb on (EIP-7044), and
// false if the network's genesis validators root is not known.
func (n Network) ExitDomain() (Domain, bool) {
	if !n.HasGenesisValidatorsRoot {
		return Domain{}, false
	}
	return ComputeDomain(DomainVoluntaryExit, n.ExitForkVersion, n.GenesisValidatorsRoot), true
}

// Digest identifies the parameters. It is the sha256 of this text, each line
// ended by one \n, hex in lower case with 0x, numbers in decimal, the genesis
// validators root "none" when it is not known:
//
//	stakeseal network v1
//	name: hoodi
//	genesis_fork_version: 0x10000910
//	exit_fork_version: 0x40000910
//	genesis_validators_root: 0x212f...cb5f
//	multiplier: 1
//	min_activation_gwei: 32000000000
//	min_deposit_gwei: 1000000000
//	deposit_contract: 0x00000000219ab540356cbb839cbe05303d7705fa
//	chain_id: 560048
//	genesis_time: 1742213400
//	seconds_per_slot: 12
//	slots_per_epoch: 32
//	mainnet: false
func (n Network) Digest() [32]byte {
	if last := digested.Load(); last != nil && last.network == n {
		return last.digest
	}
	digest := n.sum()
	digested.Store(&digestedNetwork{n, digest})
	return digest
}

// digested is the network that was digested last: every certificate is compared
// with the digest of the one network that a home is for.
var digested atomic.Pointer[digestedNetwork]

type digestedNetwork struct {
	network Network
	digest  [32]byte
}

func (n Network) sum() [32]byte {
	root := "none"
	if n.HasGenesisValidatorsRoot {
		root = n.GenesisValidatorsRoot.String()
	}
	number := func(v uint64) string { return strconv.FormatUint(v, 10) }
	var b strings.Builder
	b.WriteString("stakeseal network v1\n")
	for _, line := range [...][2]string{
		{"name", n.Name},
		{"genesis_fork_version", n.GenesisForkVersion.String()},
		{"exit_fork_version", n.ExitForkVersion.String()},
		{"genesis_validators_root", root},
		{"multiplier", number(n.Multiplier)},
		{"min_activation_gwei", number(uint64(n.MinActivation))},
		{"min_deposit_gwei", number(uint64(n.MinDeposit))},
		{"deposit_contract", fmt.Sprintf("0x%x", n.DepositContract[:])},
		{"chain_id", number(n.ChainID)},
		{"genesis_time", strconv.FormatInt(n.GenesisTime, 10)},
		{"seconds_per_slot", number(n.SecondsPerSlot)},
		{"slots_per_epoch", number(n.SlotsPerEpoch)},
		{"mainnet", strconv.FormatBool(n.Mainnet)},
	} {
		b.WriteString(line[0] + ": " + line[1] + "\n")
	}
	return sha256.Sum256([]byte(b.String()))
}
