package main

import (
	"runtime"
	"runtime/debug"
)

// signerThreads lets Go code run beside the signatures: each is a third of a
// millisecond in C, during which the scheduler takes the processor away from
// the goroutine and, where there are as many as cores, makes it wait for one
// afterwards.
func signerThreads() { runtime.GOMAXPROCS(2 * runtime.GOMAXPROCS(0)) }

// manyOpened is from how many keys on opening them is tuned.
const manyOpened = 256

// forOpening makes room for opening n keys, which leaves a hundred times the
// garbage of what stays: it is collected less often meanwhile, and afterwards
// what it lay in goes back to the kernel at once, unless memory is locked. Keys
// were in some of it.
func forOpening(n int) (done func()) {
	if n < manyOpened {
		return func() {}
	}
	before := debug.SetGCPercent(400)
	return func() {
		debug.SetGCPercent(before)
		debug.FreeOSMemory()
	}
}
