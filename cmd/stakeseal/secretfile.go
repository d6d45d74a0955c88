package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"unicode/utf8"

	"github.com/stakeseal/stakeseal/eth/keystore"
	"github.com/stakeseal/stakeseal/secret"
)

// maxSecretFile bounds the files that mnemonics, passphrases and passwords
// are read from.
const maxSecretFile = 4096

// minPassword is what the deposit CLI asks of a keystore's password.
const minPassword = 8

// readSecret reads a file, or for "-" the standard input, into one buffer
// that is wiped with the secret. It warns of a file that others can read.
func (a *app) readSecret(path, what string) (*secret.Bytes, error) {
	return unlessEnded(a.ended, func() (*secret.Bytes, error) { return a.readAll(path, what) })
}

func (a *app) readAll(path, what string) (*secret.Bytes, error) {
	in := a.in
	if path != "-" {
		f, err := os.Open(path)
		if err != nil {
			return nil, fmt.Errorf("couldn't read the %s: %w", what, err)
		}
		defer f.Close()
		info, err := f.Stat()
		if err != nil {
			return nil, fmt.Errorf("couldn't read the %s: %w", what, err)
		}
		if info.Mode().IsRegular() && info.Mode().Perm()&0o077 != 0 {
			a.say("warning: others on this machine can read %s: chmod 600 it", path)
		}
		in = f
	}
	return readWhole(in, what, maxSecretFile)
}

// readWhole reads at most max bytes into one buffer: one that grew would leave
// pieces of the secret behind.
func readWhole(in io.Reader, what string, max int) (*secret.Bytes, error) {
	all := secret.New(max + 1)
	defer all.Wipe()
	n := 0
	for n < all.Len() {
		k, err := in.Read(all.Expose()[n:])
		n += k
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("couldn't read the %s: %w", what, err)
		}
	}
	if n > max {
		return nil, usage("", "the %s has more than %d bytes", what, max)
	}
	return secret.Copy(all.Expose()[:n]), nil
}

// readToken reads a file of one word, which opens a signer.
func readToken(path string) (*secret.Bytes, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	all, err := readWhole(f, "token", maxSecretFile)
	if err != nil {
		return nil, err
	}
	defer all.Wipe()
	return secret.Copy(bytes.TrimSpace(all.Expose())), nil
}

// readLine reads a secret of one line: the file without the newline at its
// end. A second line is refused, as programs differ in what they make of it.
func (a *app) readLine(path, what string) (*secret.Bytes, error) {
	all, err := a.readSecret(path, what)
	if err != nil {
		return nil, err
	}
	defer all.Wipe()
	return onlyLine(all, what)
}

// onlyLine is a copy of a file's one line.
func onlyLine(all *secret.Bytes, what string) (*secret.Bytes, error) {
	line := bytes.TrimSuffix(bytes.TrimSuffix(all.Expose(), []byte("\n")), []byte("\r"))
	switch {
	case len(line) == 0:
		return nil, usage("", "the file of the %s is empty", what)
	case bytes.ContainsAny(line, "\r\n"):
		return nil, usage("the file holds the "+what+" and nothing else", "the file of the %s has more than one line", what)
	}
	return secret.Copy(line), nil
}

// password reads the password of keystores that a person will open: from a
// file, or asked for on a terminal.
func (a *app) password(path string) (p *secret.Bytes, err error) {
	switch {
	case path != "":
		p, err = a.readLine(path, "password")
	case a.terminal:
		a.say("the password that the keystores will have:")
		p, err = a.askTwice()
	default:
		return nil, usage("a file with the password of the keystores, in one line", "--password-file is missing")
	}
	if err != nil {
		return nil, err
	}
	normal, err := keystore.NormalizePassword(p)
	if err != nil {
		p.Wipe()
		return nil, usage("", "the password: %w", err)
	}
	defer normal.Wipe()
	if n := utf8.RuneCount(normal.Expose()); n < minPassword {
		p.Wipe()
		return nil, usage("the deposit CLI asks for as many, and a short one is guessed", "the password has %d characters: use at least %d", n, minPassword)
	}
	return p, nil
}
