//go:build race

package keystore

// The race detector keeps shadow copies of memory, which a test that measures
// or searches memory would count.
const race = true
