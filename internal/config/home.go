package config

import (
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"slices"
	"strings"
)

// HomeFile is the name of the operator's settings in a home.
const HomeFile = "home.yaml"

// Home is what this operator uses.
type Home struct {
	Generator string   `yaml:"generator"` // local
	Signers   []string `yaml:"signers"`   // the signers that exist
	Beacon    []string `yaml:"beacon"`    // beacon nodes, URLs
}

// LoadHome reads home.yaml from the root of fsys.
func LoadHome(fsys fs.FS) (*Home, error) {
	data, err := readFile(fsys, HomeFile)
	if err != nil {
		return nil, err
	}
	var y struct {
		Version int `yaml:"version"`
		Home    `yaml:",inline"`
	}
	if err := decodeStrict(HomeFile, data, &y); err != nil {
		return nil, err
	}
	if err := y.check(y.Version); err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrSettings, HomeFile, err)
	}
	return &y.Home, nil
}

func (h *Home) check(version int) error {
	if version != 1 {
		return fmt.Errorf("version is %d, this program reads 1", version)
	}
	if h.Generator != "local" {
		return fmt.Errorf("generator is %q: this version knows only local", clip(h.Generator))
	}
	for i, signer := range h.Signers {
		if err := CheckName("signer", signer); err != nil {
			return err
		}
		if slices.Contains(h.Signers[:i], signer) {
			return fmt.Errorf("signer %q is named twice", signer)
		}
	}
	for _, text := range h.Beacon {
		u, err := url.Parse(text)
		if err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") {
			return errors.New("beacon: each node is an http:// or https:// URL")
		}
		if u.User != nil || strings.Contains(u.RawQuery, "key") {
			return errors.New("beacon: a URL in home.yaml must not carry a password or key; secrets do not belong in settings")
		}
	}
	return nil
}
