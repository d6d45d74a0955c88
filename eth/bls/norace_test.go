//go:build !race

package bls

const race = false
