package seal

import "github.com/stakeseal/stakeseal/secret"

// WatchBuffer calls see with each plaintext buffer made until undo runs.
func WatchBuffer(see func([]byte)) (undo func()) {
	newBuffer = func(n int) *secret.Bytes {
		s := secret.New(n)
		see(s.Expose())
		return s
	}
	return func() { newBuffer = secret.New }
}
