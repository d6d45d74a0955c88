package main

import (
	"bytes"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"filippo.io/age/armor"
)

// identitiesInside finds files in the home that hold an age identity, in the
// clear or under a passphrase: with one of them, whoever copies the home opens
// what is sealed in it. Only small files can be one.
func (h *home) identitiesInside() ([]string, error) {
	var found []string
	err := filepath.WalkDir(h.dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if !d.Type().IsRegular() {
			return nil
		}
		info, err := d.Info()
		if err != nil || info.Size() > 256<<10 {
			return err
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		defer clear(data)
		if holdsIdentity(data) {
			found = append(found, path)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("couldn't look for identities in the home: %w", err)
	}
	return found, nil
}

// holdsIdentity recognises an identity file, also one that is encrypted with a
// passphrase: its header, which stands in the clear, has a scrypt stanza, as no
// sealed secret has.
func holdsIdentity(data []byte) bool {
	if bytes.Contains(data, []byte("AGE-SECRET-KEY-")) || bytes.Contains(data, []byte("AGE-PLUGIN-")) {
		return true
	}
	header := data
	if armored := bytes.Index(data, []byte(armor.Header)); armored >= 0 {
		// What is cut off at its end still begins with the header.
		header, _ = io.ReadAll(armor.NewReader(bytes.NewReader(data[armored:])))
	}
	return bytes.HasPrefix(header, []byte("age-encryption.org/v1\n-> scrypt "))
}

// noIdentityInside refuses to make keys for real money in a home that holds
// an identity.
func (h *home) noIdentityInside(accept bool) error {
	if !h.generator.Network.Mainnet || accept {
		return nil
	}
	found, err := h.identitiesInside()
	if err != nil {
		return err
	}
	if len(found) > 0 {
		return usage("move it to where it belongs; --allow-identity-in-home makes keys all the same, and whoever copies the home then opens them",
			"the home holds an identity: %s", found[0])
	}
	return nil
}
