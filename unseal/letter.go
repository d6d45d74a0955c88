package unseal

import (
	"bytes"
	"context"
	"fmt"

	"github.com/stakeseal/stakeseal/seal"
	"github.com/stakeseal/stakeseal/secret"
)

// Letter returns the text of a file that seal's Letter, or any other age
// program, made: the caller's to wipe, and to verify, as it vouches for
// nothing. A sealing stays shut: it would come out without its binding being
// compared with anything.
func (o *Opener) Letter(ctx context.Context, file []byte) (*secret.Bytes, error) {
	plain, n, err := o.decrypt(ctx, file, seal.Binding{})
	if err != nil {
		return nil, fmt.Errorf("couldn't open: %w", err)
	}
	defer plain.Wipe()
	text := plain.Expose()[:n]
	if bytes.HasPrefix(text, []byte(seal.HeaderStart)) {
		return nil, fmt.Errorf("couldn't open: %w: it is a sealed key or mnemonic, not a letter", ErrBinding)
	}
	if n == 0 || n > seal.MaxLetter {
		return nil, fmt.Errorf("couldn't open: %w: a letter of %d bytes, not 1 to %d", ErrBody, n, seal.MaxLetter)
	}
	return secret.Copy(text), nil
}
