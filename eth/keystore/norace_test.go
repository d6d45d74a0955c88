//go:build !race

package keystore

const race = false
