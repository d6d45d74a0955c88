package keystore

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/pbkdf2"
	"crypto/sha256"
	"fmt"
	"runtime"
	"unsafe"

	"golang.org/x/crypto/scrypt"

	"github.com/stakeseal/stakeseal/secret"
)

// Bounds of what a file may ask for. Ours and every known tool's defaults are
// far below; a hostile file gets no further.
const (
	maxPBKDF2     = 1 << 24 // iterations: about 3 s
	maxN          = 1 << 20
	maxR          = 32
	maxP          = 16
	maxScryptWork = 1 << 30 // n*r*p*128 bytes: bounds memory (n*r*128) and time (times p) at once
)

// usualScrypt is the memory of the standard's own parameters; usualPBKDF2 are
// sixteen times the standard's iterations, which take no longer than its scrypt.
const (
	usualScrypt = 256 << 20
	usualPBKDF2 = 1 << 22
)

// cost is a KDF with its parameters. Exactly those of its kdf are set.
type cost struct {
	kdf     KDF
	n, r, p int
	c       int
	salt    []byte
}

// oversized lets one derivation at a time have more than 256 MiB, so that
// many workers that open foreign files together need no more than one worker
// alone does above the usual.
var oversized = make(chan struct{}, 1)

// derive runs the KDF and returns 32 bytes. It can't be stopped once it runs.
//
// Memory: x/crypto/scrypt allocates 256 MiB anew on each call, and as that
// makes the heap twice what lived before, the collector would start only when
// the next call's 256 MiB exist as well: two for each worker. So a collection
// runs before this returns, and at any time there are no more such buffers,
// live or dead, than there are callers inside (TestScryptMemory: two workers
// peak at 520 MiB, without the collection at 1030). It costs 0.5 to 4 ms of
// the derivation's 580 (BenchmarkCollect), and most of the pages stay mapped
// for the next one, which saves touching them first.
func derive(ctx context.Context, c cost, password *secret.Bytes) (*secret.Bytes, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if c.kdf == PBKDF2 {
		// The string shares the secret's buffer: string(b) would leave a copy
		// that nobody can wipe. It doesn't outlive the call.
		b := password.Expose()
		key, err := pbkdf2.Key(sha256.New, unsafe.String(unsafe.SliceData(b), len(b)), c.salt, c.c, derivedSize)
		if err != nil {
			return nil, fmt.Errorf("couldn't run pbkdf2: %w", err)
		}
		return secret.Take(key), nil
	}
	if c.n*c.r*128 > usualScrypt {
		select {
		case oversized <- struct{}{}:
			defer func() { <-oversized }()
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	key, err := scrypt.Key(password.Expose(), c.salt, c.n, c.r, c.p, derivedSize)
	runtime.GC()
	if err != nil {
		return nil, fmt.Errorf("couldn't run scrypt: %w", err)
	}
	return secret.Take(key), nil
}

// ctr is AES-128-CTR under the first half of the derived key; it is its own
// inverse.
func ctr(key *secret.Bytes, iv [ivSize]byte, in []byte) ([]byte, error) {
	block, err := aes.NewCipher(key.Expose()[:16])
	if err != nil {
		return nil, fmt.Errorf("couldn't set up AES: %w", err)
	}
	out := make([]byte, len(in))
	cipher.NewCTR(block, iv[:]).XORKeyStream(out, in)
	return out, nil
}

// checksum is sha256 of the second half of the derived key and the
// ciphertext.
func checksum(key *secret.Bytes, ciphertext []byte) [32]byte {
	var b [16 + secretSize]byte // every ciphertext here has that length
	defer secret.Wipe(b[:])
	copy(b[:16], key.Expose()[16:derivedSize])
	n := copy(b[16:], ciphertext)
	return sha256.Sum256(b[:16+n])
}
