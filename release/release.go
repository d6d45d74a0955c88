// Package release is how code comes to make keys: it builds the package of the
// generator with its settings, so that the same commit gives the same bytes on
// another person's machine, and takes it from the developer who submits it to
// the release manager who rebuilds, reviews and signs it, and to where it runs.
//
// It promises that a package it opens is in its one form, byte for byte, and
// does not contradict itself: the program, the settings, the list of modules
// and the statement of how it was built agree. It promises that nothing is
// signed but what was approved by somebody other than its submitter, and
// nothing installed but what was signed: the types Reviewed and Signed are
// made only by what verified the former step's signed file, and their zero
// values are refused.
//
// It trusts the trust file for whose key is whose, the Go toolchain and C
// compiler of the machine it builds on, and git for what a commit is. That
// several people rebuild on machines of their own is what makes a bad
// toolchain show.
//
// It runs git, go and the C compiler, and is never linked into the generator.
package release

import (
	"crypto/sha256"
	"errors"

	"github.com/stakeseal/stakeseal/certificate"
)

// The classes of refusal; compare with errors.Is.
var (
	// ErrPackage: not a package in its one form, or one that contradicts itself.
	ErrPackage = errors.New("not a sound package")
	// ErrBuild: the program could not be built.
	ErrBuild = errors.New("couldn't build the generator")
	// ErrSource: the repository or commit is not there, or cannot be read.
	ErrSource = errors.New("couldn't read the source")
)

// Digest is the sha256 of a package: its name everywhere.
func Digest(data []byte) certificate.Hash { return sha256.Sum256(data) }
