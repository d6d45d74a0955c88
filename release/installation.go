package release

import (
	"errors"
	"fmt"
	"runtime"
	"slices"

	"github.com/stakeseal/stakeseal/internal/config"
)

// ErrPlatform says that a package is for machines of another kind.
var ErrPlatform = errors.New("the package is for another platform")

// SettingsChanges are the settings that a package would change in an
// installation, the dangerous ones first; before is nil where the installation
// has none. A release's signatures say that somebody reviewed its settings, not
// for which installation: one that the same people signed for another of theirs
// has other recipients, stores and addresses, and shows here.
func SettingsChanges(before, after *config.Generator) ([]Setting, error) {
	var was []settingRow
	var err error
	if before != nil {
		if was, err = settingRows(before); err != nil {
			return nil, fmt.Errorf("the settings that are there: %w", err)
		}
	}
	is, err := settingRows(after)
	if err != nil {
		return nil, fmt.Errorf("the package's settings: %w", err)
	}
	changes, _ := split(beside(was, is), func(s Setting) bool { return s.Change != "" })
	slices.SortStableFunc(changes, func(a, b Setting) int { return rank(a.Weight) - rank(b.Weight) })
	return changes, nil
}

// fitsMachine refuses a package whose program this machine could not start: it
// would come into force, and the home would make no keys any more.
func fitsMachine(p *Package) error {
	if here := "linux/" + runtime.GOARCH; p.Provenance.Platform != here {
		return fmt.Errorf("%w: it is for %s, and this home is on %s/%s", ErrPlatform, p.Provenance.Platform, runtime.GOOS, runtime.GOARCH)
	}
	return nil
}
