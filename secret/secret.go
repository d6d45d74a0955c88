// Package secret holds bytes that must never be shown: they print as
// [secret], refuse to be marshalled, and are wiped by whoever made them.
//
// It promises that no fmt verb, JSON, text or gob encoder reaches the bytes,
// and that Wipe overwrites the one buffer it owns. It does not promise that
// the kernel, the garbage collector's stack copies or a library that was
// given the bytes kept no other copy: callers hand secrets to as few
// functions as they can and wipe early.
package secret

import (
	"crypto/rand"
	"crypto/subtle"
	"errors"
	"fmt"
	"runtime"
)

// ErrMarshal is returned by every encoder that is handed a secret.
var ErrMarshal = errors.New("a secret refuses to be marshalled")

// Bytes owns one secret buffer. The zero value is an empty secret. A Bytes is
// used by pointer and not copied; it is safe for concurrent reads, while Wipe
// needs the caller to be the only user.
type Bytes struct {
	// Behind a pointer of its own: where a Bytes stands in an unexported
	// field, fmt cannot ask our Format, walks the fields itself, and prints
	// a pointer at that depth as an address.
	b *[]byte
}

// New returns an all-zero secret of n bytes, for the caller to fill through
// Expose.
func New(n int) *Bytes { return Take(allocate(n)) }

// allocate makes buffers on the heap: inlined, a small one could stand on the
// goroutine's stack, and a stack that grows leaves its old copy behind.
//
//go:noinline
func allocate(n int) []byte { return make([]byte, n) }

// Random returns n bytes from crypto/rand.
func Random(n int) *Bytes {
	s := New(n)
	rand.Read(*s.b) // never fails since Go 1.24: it ends the program instead
	return s
}

// Take makes b a secret without copying it: the caller gives b away and must
// not use it again.
func Take(b []byte) *Bytes { return &Bytes{&b} }

// Copy returns a secret with its own copy of b; b stays the caller's to wipe.
func Copy(b []byte) *Bytes {
	s := New(len(b))
	copy(*s.b, b)
	return s
}

// Expose is the one way to the bytes. The slice is the secret's own buffer:
// it must not outlive the secret, and must not be kept, printed or converted
// to a string.
func (s *Bytes) Expose() []byte {
	if s == nil || s.b == nil {
		return nil
	}
	return *s.b
}

// Len returns the length in bytes.
func (s *Bytes) Len() int { return len(s.Expose()) }

// Equal compares in constant time (for equal lengths).
func (s *Bytes) Equal(t *Bytes) bool {
	return subtle.ConstantTimeCompare(s.Expose(), t.Expose()) == 1
}

// Wipe overwrites the buffer and forgets it. It may be called twice and on
// nil.
func (s *Bytes) Wipe() {
	if s == nil || s.b == nil {
		return
	}
	Wipe(*s.b)
	s.b = nil
}

// Wipe overwrites b, which need not be a Bytes: for the buffers that a
// library hands back.
func Wipe(b []byte) {
	clear(b)
	runtime.KeepAlive(&b)
}

// Format implements fmt.Formatter, so that every verb prints [secret].
func (Bytes) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte("[secret]")) }

// String returns "[secret]".
func (Bytes) String() string { return "[secret]" }

// GoString returns "[secret]".
func (Bytes) GoString() string { return "[secret]" }

// MarshalJSON refuses.
func (Bytes) MarshalJSON() ([]byte, error) { return nil, ErrMarshal }

// MarshalText refuses.
func (Bytes) MarshalText() ([]byte, error) { return nil, ErrMarshal }

// MarshalBinary refuses; encoding/gob asks it too.
func (Bytes) MarshalBinary() ([]byte, error) { return nil, ErrMarshal }

// UnmarshalJSON refuses: a secret never comes out of a general decoder,
// which keeps copies.
func (s *Bytes) UnmarshalJSON([]byte) error { return ErrMarshal }
