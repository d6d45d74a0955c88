// Package fuzzseeds is a test over the whole tree: every fuzz target has seeds.
// One that starts from nothing finds nothing, silently, and a folder of seeds
// is easily lost.
package fuzzseeds
