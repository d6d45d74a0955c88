package duty

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math/big"
	"math/bits"
	"strconv"
	"strings"

	"github.com/stakeseal/stakeseal/eth"
)

// shape is an SSZ type: it reads a value of the type from JSON (consensus
// specs, ssz/simple-serialize.md, "JSON mapping") and gives its hash tree
// root. path is where it stands, for errors.
type shape func(n node, path string) (eth.Root, error)

func wrong(path, format string, args ...any) error {
	return fmt.Errorf("%w: %s: %s", ErrMalformed, path, fmt.Sprintf(format, args...))
}

func textOf(n node, path string) (string, error) {
	if n.kind != '"' {
		return "", wrong(path, "not a string")
	}
	return n.text, nil
}

// number reads a uint64: decimal digits in a string, as few as it takes.
func number(n node, path string) (uint64, error) {
	s, err := textOf(n, path)
	if err != nil {
		return 0, err
	}
	v, err := strconv.ParseUint(s, 10, 64)
	if err != nil || s[0] == '+' || len(s) > 1 && s[0] == '0' {
		return 0, wrong(path, "%q is not a number from 0 to 2^64-1", clip(s))
	}
	return v, nil
}

// octets reads bytes in hex, with or without 0x.
func octets(n node, path string) ([]byte, error) {
	s, err := textOf(n, path)
	if err != nil {
		return nil, err
	}
	b, err := hex.DecodeString(strings.TrimPrefix(s, "0x"))
	if err != nil {
		return nil, wrong(path, "%q is not bytes in hex", clip(s))
	}
	return b, nil
}

func exactly(size int, n node, path string) ([]byte, error) {
	b, err := octets(n, path)
	if err == nil && len(b) != size {
		err = wrong(path, "%d bytes, not %d", len(b), size)
	}
	return b, err
}

func clip(s string) string {
	if len(s) > 100 {
		return s[:100] + "..."
	}
	return s
}

// Uint64.
func u64(n node, path string) (eth.Root, error) {
	v, err := number(n, path)
	return little(v), err
}

func little(v uint64) (r eth.Root) {
	binary.LittleEndian.PutUint64(r[:], v)
	return r
}

// Uint256.
func u256(n node, path string) (r eth.Root, err error) {
	s, err := textOf(n, path)
	if err != nil {
		return r, err
	}
	// Its length before anything else: to read a number of n digits takes
	// big.Int time in the square of n, and a body may hold millions.
	var v *big.Int
	ok := len(s) <= 78
	if ok {
		v, ok = new(big.Int).SetString(s, 10)
	}
	if !ok || s[0] == '+' || s[0] == '-' || len(s) > 1 && s[0] == '0' || v.BitLen() > 256 {
		return r, wrong(path, "%q is not a number from 0 to 2^256-1", clip(s))
	}
	v.FillBytes(r[:])
	for i := range 16 {
		r[i], r[31-i] = r[31-i], r[i]
	}
	return r, nil
}

// Boolean.
func boolean(n node, path string) (r eth.Root, err error) {
	switch n.kind {
	case 't':
		r[0] = 1
	case 'f':
	default:
		err = wrong(path, "neither true nor false")
	}
	return r, err
}

// fixed is ByteVector[size].
func fixed(size int) shape {
	return func(n node, path string) (eth.Root, error) {
		b, err := exactly(size, n, path)
		if err != nil {
			return eth.Root{}, err
		}
		return merkle(chunks(b), (size+31)/32), nil
	}
}

// byteList is ByteList[limit].
func byteList(limit int) shape {
	return func(n node, path string) (eth.Root, error) {
		b, err := octets(n, path)
		if err == nil && len(b) > limit {
			err = wrong(path, "%d bytes, more than %d", len(b), limit)
		}
		if err != nil {
			return eth.Root{}, err
		}
		return eth.Pair(merkle(chunks(b), (limit+31)/32), little(uint64(len(b)))), nil
	}
}

// byteLists is ProgressiveByteList (EIP-7916).
func byteLists(n node, path string) (eth.Root, error) {
	b, err := octets(n, path)
	if err != nil {
		return eth.Root{}, err
	}
	return eth.Pair(progressive(chunks(b), 1), little(uint64(len(b)))), nil
}

// bitVector is BitVector[size].
func bitVector(size int) shape {
	return func(n node, path string) (eth.Root, error) {
		b, err := exactly((size+7)/8, n, path)
		if err == nil && size%8 != 0 && b[len(b)-1]>>(size%8) != 0 {
			err = wrong(path, "more than %d bits", size)
		}
		if err != nil {
			return eth.Root{}, err
		}
		return merkle(chunks(b), (size+255)/256), nil
	}
}

// bitsOf reads a bit list and takes off the bit that marks its end.
func bitsOf(n node, path string) (b []byte, length int, err error) {
	if b, err = octets(n, path); err != nil {
		return nil, 0, err
	}
	if len(b) == 0 || b[len(b)-1] == 0 {
		return nil, 0, wrong(path, "bits without the one that marks their end")
	}
	last := len(b) - 1
	top := bits.Len8(b[last]) - 1
	length = 8*last + top
	if b[last] &^= 1 << top; top == 0 {
		b = b[:last]
	}
	return b, length, nil
}

// bitList is BitList[limit].
func bitList(limit int) shape {
	return func(n node, path string) (eth.Root, error) {
		b, length, err := bitsOf(n, path)
		if err == nil && length > limit {
			err = wrong(path, "%d bits, more than %d", length, limit)
		}
		if err != nil {
			return eth.Root{}, err
		}
		return eth.Pair(merkle(chunks(b), (limit+255)/256), little(uint64(length))), nil
	}
}

// bitLists is ProgressiveBitList (EIP-7916).
func bitLists(n node, path string) (eth.Root, error) {
	b, length, err := bitsOf(n, path)
	if err != nil {
		return eth.Root{}, err
	}
	return eth.Pair(progressive(chunks(b), 1), little(uint64(length))), nil
}

func elements(of shape, n node, path string) ([]eth.Root, error) {
	if n.kind != '[' {
		return nil, wrong(path, "not an array")
	}
	roots := make([]eth.Root, len(n.items))
	for i, item := range n.items {
		var err error
		if roots[i], err = of(item, fmt.Sprintf("%s[%d]", path, i)); err != nil {
			return nil, err
		}
	}
	return roots, nil
}

// vector is Vector[of, size] of composites.
func vector(of shape, size int) shape {
	return func(n node, path string) (eth.Root, error) {
		roots, err := elements(of, n, path)
		if err == nil && len(roots) != size {
			err = wrong(path, "%d elements, not %d", len(roots), size)
		}
		if err != nil {
			return eth.Root{}, err
		}
		return merkle(roots, size), nil
	}
}

// list is List[of, limit] of composites.
func list(of shape, limit int) shape {
	return func(n node, path string) (eth.Root, error) {
		roots, err := elements(of, n, path)
		if err == nil && len(roots) > limit {
			err = wrong(path, "%d elements, more than %d", len(roots), limit)
		}
		if err != nil {
			return eth.Root{}, err
		}
		return eth.Pair(merkle(roots, limit), little(uint64(len(roots)))), nil
	}
}

// lists is ProgressiveList[of] of composites (EIP-7916).
func lists(of shape) shape {
	return func(n node, path string) (eth.Root, error) {
		roots, err := elements(of, n, path)
		if err != nil {
			return eth.Root{}, err
		}
		return eth.Pair(progressive(roots, 1), little(uint64(len(roots)))), nil
	}
}

// numbers is List[Uint64, limit].
func numbers(limit int) shape {
	return func(n node, path string) (eth.Root, error) {
		roots, err := elements(u64, n, path)
		if err == nil && len(roots) > limit {
			err = wrong(path, "%d elements, more than %d", len(roots), limit)
		}
		if err != nil {
			return eth.Root{}, err
		}
		var packed []byte
		for _, r := range roots {
			packed = append(packed, r[:8]...)
		}
		return eth.Pair(merkle(chunks(packed), (limit*8+31)/32), little(uint64(len(roots)))), nil
	}
}

// field is one of a container, in its order.
type field struct {
	name string
	of   shape
}

func fields(of []field, n node, path string) ([]eth.Root, error) {
	if n.kind != '{' {
		return nil, wrong(path, "not an object")
	}
	roots := make([]eth.Root, len(of))
	for i, f := range of {
		item, ok := n.get(f.name)
		if !ok {
			return nil, wrong(path, "%q is missing", f.name)
		}
		var err error
		if roots[i], err = f.of(item, path+"."+f.name); err != nil {
			return nil, err
		}
	}
	// What we don't know of cannot be in the root that we sign: whoever sent
	// it means another message.
	if len(n.names) != len(of) {
		for _, name := range n.names {
			known := false
			for _, f := range of {
				known = known || f.name == name
			}
			if !known {
				return nil, wrong(path, "%q is unknown", clip(name))
			}
		}
	}
	return roots, nil
}

// container is Container.
func container(of ...field) shape {
	return func(n node, path string) (eth.Root, error) {
		roots, err := fields(of, n, path)
		if err != nil {
			return eth.Root{}, err
		}
		return merkle(roots, len(roots)), nil
	}
}

// containers is ProgressiveContainer(active_fields=[1] * len(of)) (EIP-7495).
func containers(of ...field) shape {
	return func(n node, path string) (eth.Root, error) {
		roots, err := fields(of, n, path)
		if err != nil {
			return eth.Root{}, err
		}
		var active eth.Root
		for i := range of {
			active[i/8] |= 1 << (i % 8)
		}
		return eth.Pair(progressive(roots, 1), active), nil
	}
}

func chunks(b []byte) []eth.Root {
	out := make([]eth.Root, (len(b)+31)/32)
	for i := range out {
		copy(out[i][:], b[i*32:])
	}
	return out
}

// zeros[i] is the root of 2^i chunks of zeros.
var zeros = func() (z [48]eth.Root) {
	for i := 1; i < len(z); i++ {
		z[i] = eth.Pair(z[i-1], z[i-1])
	}
	return z
}()

// merkle is merkleize(chunks, limit): a tree over limit leaves, rounded up to
// a power of two, those that are missing zero. It overwrites leaves.
func merkle(leaves []eth.Root, limit int) eth.Root {
	depth := 0
	if limit > 1 {
		depth = bits.Len(uint(limit - 1))
	}
	if len(leaves) == 0 {
		return zeros[depth]
	}
	for level := range depth {
		half := leaves[:(len(leaves)+1)/2]
		for i := range half {
			right := zeros[level]
			if 2*i+1 < len(leaves) {
				right = leaves[2*i+1]
			}
			half[i] = eth.Pair(leaves[2*i], right)
		}
		leaves = half
	}
	return leaves[0]
}

// progressive is merkleize_progressive(chunks, num_leaves) (EIP-7916): on the
// left the first so many leaves as a tree, on the right the rest, which begins
// with one four times as large.
func progressive(leaves []eth.Root, size int) eth.Root {
	if len(leaves) == 0 {
		return eth.Root{}
	}
	here := min(size, len(leaves))
	rest := progressive(leaves[here:], size*4) // before merkle overwrites
	return eth.Pair(merkle(leaves[:here], size), rest)
}
