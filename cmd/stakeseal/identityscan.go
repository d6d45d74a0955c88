package main

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// identitiesInside finds files in the home that hold an age identity: with
// one of them, whoever copies the home opens what is sealed in it. Only small
// files can be one.
func (h *home) identitiesInside() ([]string, error) {
	var found []string
	err := filepath.WalkDir(h.dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && path == h.path(h.generator.Archive.Rest) {
			return fs.SkipDir // the archive, which only stakeseal writes
		}
		info, err := d.Info()
		if err != nil || !d.Type().IsRegular() || info.Size() > 64<<10 {
			return err
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		defer clear(data)
		if bytes.Contains(data, []byte("AGE-SECRET-KEY-")) || bytes.Contains(data, []byte("AGE-PLUGIN-")) {
			found = append(found, path)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("couldn't look for identities in the home: %w", err)
	}
	return found, nil
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
