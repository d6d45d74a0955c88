package release

import (
	"errors"
	"strings"
	"testing"
)

// TestSettingsChanges: a package of another installation, whose recipient has
// another key under the same name, shows; the same settings show nothing.
func TestSettingsChanges(t *testing.T) {
	p, q := packages(t)
	same, err := SettingsChanges(p.Settings, p.Settings)
	if err != nil || len(same) != 0 {
		t.Errorf("%v, %+v", err, same)
	}
	changes, err := SettingsChanges(p.Settings, q.Settings)
	if err != nil || len(changes) == 0 || changes[0].Weight != Danger || changes[0].Change != "changed" || !strings.Contains(changes[0].Name, "recipient vault") ||
		changes[0].Before == changes[0].After {
		t.Errorf("%v, %+v", err, changes)
	}
	all, err := SettingsChanges(nil, q.Settings)
	if err != nil || len(all) < 7 || all[len(all)-1].Weight != Look {
		t.Errorf("%v, %+v", err, all)
	}
	// The dangerous ones come first, whatever their place in the file.
	light, grave := *p.Settings, *p.Settings
	light.MaxPerOrder++
	grave.MaxPerOrder, grave.Store = 7, q.Settings.Archive
	changes, err = SettingsChanges(&light, &grave)
	if err != nil || len(changes) != 2 || changes[0].Name != "store" || changes[1].Name != "max_validators_per_order" {
		t.Errorf("%v, %+v", err, changes)
	}
}

// TestAnotherPlatform: a program that cannot start here comes into no force.
func TestAnotherPlatform(t *testing.T) {
	p, _ := packages(t)
	trust, d := testTrust(1), newDepot(t)
	advance(t, d, trust, p, "signed")
	s, err := LoadSigned(t.Context(), d, trust, p.Digest)
	must(t, err)
	other := *p
	other.Provenance.Platform = "linux/riscv64"
	s.Reviewed.Submitted.Package = &other
	home := Home{Dir: t.TempDir(), Trust: trust}
	if err := home.Install(t.Context(), s, noon); !errors.Is(err, ErrPlatform) {
		t.Errorf("deployed: %v", err)
	}
	if _, err := home.InForce(t.Context(), noon); !errors.Is(err, ErrNoRelease) {
		t.Errorf("something is in force: %v", err)
	}
}
