package certificate

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/stakeseal/stakeseal/eth"
)

// Check refuses a Trust whose verdicts would be ambiguous or that could never
// say yes: no address or key, an address, key or release under two names, a
// name twice, a validity that ends before it begins. The error is ErrFormat.
func (t *Trust) Check() error {
	if err := t.check(); err != nil {
		return fmt.Errorf("%w: trust: %w", ErrFormat, err)
	}
	return nil
}

func (t *Trust) check() error {
	if t.Network.Name == "" {
		return errors.New("no network")
	}
	if len(t.Addresses) == 0 || len(t.Keys) == 0 {
		return errors.New("no withdrawal address or no certifying key: it could verify nothing")
	}
	if len(t.Addresses) > maxListed || len(t.Keys) > maxListed || len(t.Releases) > maxListed {
		return fmt.Errorf("more than %d addresses, keys or releases", maxListed)
	}
	owners := make(map[eth.Address]string, len(t.Addresses))
	for _, name := range slices.Sorted(maps.Keys(t.Addresses)) {
		if err := CheckText("address name", name, maxText, false); err != nil {
			return err
		}
		a := t.Addresses[name]
		if other, taken := owners[a]; taken {
			return fmt.Errorf("withdrawal address %s has two names, %q and %q", a, other, name)
		}
		owners[a] = name
	}
	// One key in two lists would be one person in two roles: who submits must
	// not approve, and what makes keys must do neither.
	ids := make(map[string]string)
	for _, list := range []struct {
		what string
		keys []TrustedKey
	}{{"certifying key", t.Keys}, {"developer", t.Developers}, {"release manager", t.Managers}, {"approver", t.Approvers}} {
		if len(list.keys) > maxListed {
			return fmt.Errorf("more than %d of %s", maxListed, list.what)
		}
		names := make(map[string]bool)
		for _, k := range list.keys {
			if err := checkEntry(list.what, k.Name, names, k.Validity); err != nil {
				return err
			}
			id := k.Key.ID()
			if id == "" {
				return fmt.Errorf("%s %q has no key", list.what, k.Name)
			}
			if other, taken := ids[id]; taken {
				return fmt.Errorf("%s and %s %q are one key", other, list.what, k.Name)
			}
			ids[id] = fmt.Sprintf("%s %q", list.what, k.Name)
		}
	}
	if t.Threshold < 0 || t.Threshold > len(t.Managers) {
		return fmt.Errorf("release_threshold is %d, and there are %d release managers", t.Threshold, len(t.Managers))
	}
	return t.checkReleases()
}

func (t *Trust) checkReleases() error {
	names := make(map[string]bool)
	builds := make(map[[2]Hash]string)
	for _, r := range t.Releases {
		if err := checkEntry("release", r.Name, names, r.Validity); err != nil {
			return err
		}
		if err := t.checkStatement(r); err != nil {
			return err
		}
		if len(r.Binaries) == 0 || len(r.Binaries) > maxListed || r.Settings.IsZero() {
			return fmt.Errorf("release %q has no binary_sha256 or no settings_sha256", r.Name)
		}
		for _, b := range r.Binaries {
			if b.IsZero() {
				return fmt.Errorf("release %q has a binary_sha256 of zeros", r.Name)
			}
			build := [2]Hash{b, r.Settings}
			if other, taken := builds[build]; taken {
				return fmt.Errorf("releases %q and %q have binary %s with the same settings", other, r.Name, b)
			}
			builds[build] = r.Name
		}
	}
	return nil
}

func checkEntry(what, name string, names map[string]bool, v Validity) error {
	if err := CheckText(what+" name", name, maxText, false); err != nil {
		return err
	}
	if names[name] {
		return fmt.Errorf("%s name %q twice", what, name)
	}
	names[name] = true
	for _, at := range []time.Time{v.NotBefore, v.NotAfter} {
		if !at.IsZero() && CheckTime(at) != nil {
			return fmt.Errorf("%s %q: %s is not UTC in whole seconds", what, name, at.Format(time.RFC3339Nano))
		}
	}
	if !v.NotBefore.IsZero() && !v.NotAfter.IsZero() && v.NotAfter.Before(v.NotBefore) {
		return fmt.Errorf("%s %q ends before it begins", what, name)
	}
	return nil
}
