package config

import (
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"slices"
)

// HomeFile is the name of the operator's settings in a home.
const HomeFile = "home.yaml"

// Home is what this operator uses.
type Home struct {
	Generator string   // local
	Signers   []string // the signers that exist
	Beacon    []string // beacon nodes, URLs
}

// LoadHome reads home.yaml from the root of fsys.
func LoadHome(fsys fs.FS) (*Home, error) {
	data, err := readFile(fsys, HomeFile)
	if err != nil {
		return nil, err
	}
	var y struct {
		Version   number `yaml:"version"`
		Generator text   `yaml:"generator"`
		Signers   []text `yaml:"signers"`
		Beacon    []text `yaml:"beacon"`
	}
	if err := decode(HomeFile, data, &y); err != nil {
		return nil, err
	}
	h := &Home{Generator: string(y.Generator)}
	for _, signer := range y.Signers {
		h.Signers = append(h.Signers, string(signer))
	}
	for _, node := range y.Beacon {
		h.Beacon = append(h.Beacon, string(node))
	}
	if err := h.check(uint64(y.Version)); err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrSettings, HomeFile, err)
	}
	return h, nil
}

func (h *Home) check(version uint64) error {
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
	for i, text := range h.Beacon {
		if err := checkBeacon(text); err != nil {
			return fmt.Errorf("beacon: node %d: %w", i+1, err)
		}
		if slices.Contains(h.Beacon[:i], text) {
			return fmt.Errorf("beacon: node %d is named twice", i+1)
		}
	}
	return nil
}

// checkBeacon never repeats the URL, nor url.Parse's errors, which do: a
// password may stand in it.
func checkBeacon(text string) error {
	u, err := url.Parse(text)
	if err != nil || u.Hostname() == "" || (u.Scheme != "http" && u.Scheme != "https") {
		return errors.New("it is no http:// or https:// URL")
	}
	if u.User != nil || u.RawQuery != "" || u.ForceQuery || u.Fragment != "" {
		return errors.New("a URL in home.yaml has no user, password, ? or # part: secrets do not belong in settings")
	}
	return nil
}
