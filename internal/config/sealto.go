package config

import (
	"fmt"

	"github.com/stakeseal/stakeseal/seal"
)

// SealTo returns the recipients of the settings, read with parse: each
// program says itself which kinds it knows. Lists that cannot be sealed to,
// and a key that stands in both, are ErrSettings.
func (g *Generator) SealTo(parse func(file []byte) (seal.Recipient, error)) (signing, recovery *seal.Recipients, err error) {
	signs := map[string]string{} // key to name
	list := func(purpose seal.Purpose, files []RecipientFile) (*seal.Recipients, error) {
		var named []seal.Named
		for _, f := range files {
			r, err := parse(f.Data)
			if err != nil {
				return nil, fmt.Errorf("%w: recipient %s: %w", ErrSettings, f.Name, err)
			}
			if other, ok := signs[r.String()]; ok && purpose == seal.Recovery {
				return nil, fmt.Errorf("%w: recipients %s and %s are one key: who signs must not be able to open a mnemonic", ErrSettings, other, f.Name)
			}
			if purpose == seal.Signing {
				signs[r.String()] = f.Name
			}
			named = append(named, seal.Named{Name: f.Name, Recipient: r})
		}
		to, err := seal.NewRecipients(purpose, named...)
		if err != nil {
			return nil, fmt.Errorf("%w: seal_to %s: %w", ErrSettings, purpose, err)
		}
		return to, nil
	}
	if signing, err = list(seal.Signing, g.Signing); err != nil {
		return nil, nil, err
	}
	if recovery, err = list(seal.Recovery, g.Recovery); err != nil {
		return nil, nil, err
	}
	return signing, recovery, nil
}
