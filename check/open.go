package check

import "errors"

// Keystore ends a checked validator as the keystore that was made of it,
// under its owner's password, instead of as a sealing: for a person who has
// the words anyway. It returns the public data (no File) with the EIP-2335
// JSON, and wipes the secrets whether it succeeds or not.
func (c *Checked) Keystore() (*Public, []byte, error) {
	if c == nil || c.made == nil {
		return nil, nil, ErrUnchecked
	}
	m := c.made
	c.made = nil
	defer m.Wipe()
	if m.Keystore == nil {
		return nil, nil, errors.New("no keystore was made")
	}
	return &Public{Index: m.Index, Path: m.Path, Pubkey: m.Pubkey, Credentials: m.Credentials, Deposits: m.Deposits}, m.Keystore, nil
}
