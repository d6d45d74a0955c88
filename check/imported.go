package check

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/stakeseal/stakeseal/eth"
	"github.com/stakeseal/stakeseal/eth/bls"
	"github.com/stakeseal/stakeseal/eth/keystore"
	"github.com/stakeseal/stakeseal/keygen"
	"github.com/stakeseal/stakeseal/seal"
	"github.com/stakeseal/stakeseal/secret"
)

// ErrForeign says that a key which was made elsewhere is not what was found
// with it. The error is a *ForeignError.
var ErrForeign = errors.New("not what was found with it")

// ForeignError is everything that was wrong. No part of it holds a secret.
type ForeignError struct {
	Key      []error // the keystore, its pubkey, the mnemonic
	Deposits []error // the key is what they say, and its deposits are not
}

func (e *ForeignError) Error() string {
	return fmt.Sprintf("%v: %v", ErrForeign, errors.Join(slices.Concat(e.Key, e.Deposits)...))
}

// Unwrap makes errors.Is(err, ErrForeign) true.
func (e *ForeignError) Unwrap() error { return ErrForeign }

// Foreign is a key that another program made, with all that was found of it.
// Nothing of it is believed: each part is held against the key itself. The
// secrets stay the caller's to wipe.
type Foreign struct {
	Network     eth.Network
	Pubkey      eth.Pubkey       // under which it was found; zero: under none, and without deposits or words
	Keystore    []byte           // EIP-2335
	Password    *secret.Bytes    // of the keystore
	Seed        *secret.Bytes    // of the mnemonic that was found with it; nil: none was
	Credentials eth.Credentials  // of its deposits; zero: not known
	Deposits    []keygen.Deposit // none: not known
}

// Importable is a foreign key that passed. Only Imported makes one; the zero
// value is refused by Seal.
type Importable struct {
	pubkey eth.Pubkey
	path   string
	secret *secret.Bytes
}

// Imported opens a foreign keystore, KDF and all, and holds everything against
// the key inside: the pubkey, the mnemonic at the keystore's path, 0x00
// credentials against the mnemonic's withdrawal key, and each deposit's roots
// and signature on the network. The caller wipes what it returns.
func Imported(ctx context.Context, f Foreign) (*Importable, error) {
	if f.Pubkey == (eth.Pubkey{}) && (f.Seed != nil || len(f.Deposits) > 0) {
		return nil, &ForeignError{Key: []error{errors.New("words or deposits came with it, and no pubkey to hold them against")}}
	}
	i, err := f.open(ctx)
	if ctx.Err() != nil {
		i.Wipe()
		return nil, ctx.Err()
	}
	var wrong ForeignError
	note := func(list *[]error, err error) {
		if err != nil {
			*list = append(*list, err)
		}
	}
	note(&wrong.Key, err)
	if f.Seed != nil {
		note(&wrong.Key, f.descends())
		note(&wrong.Deposits, f.withdraws())
	}
	note(&wrong.Deposits, f.deposits())
	if len(wrong.Key)+len(wrong.Deposits) > 0 {
		i.Wipe()
		return nil, &wrong
	}
	return i, nil
}

func (f Foreign) open(ctx context.Context) (*Importable, error) {
	k, err := keystore.Parse(f.Keystore)
	if err != nil {
		return nil, fmt.Errorf("its keystore does not parse: %w", err)
	}
	want := f.Pubkey
	if named := k.Pubkey(); want == (eth.Pubkey{}) {
		want = named
	} else if named != (eth.Pubkey{}) && named != want {
		return nil, fmt.Errorf("its keystore is of %v", named)
	}
	opened, err := k.Open(ctx, f.Password)
	if err != nil {
		return nil, fmt.Errorf("its keystore does not open: %w", err)
	}
	key, err := bls.Parse(opened)
	if err != nil {
		opened.Wipe()
		return nil, errors.New("its keystore holds no BLS key")
	}
	pubkey := key.Pubkey()
	key.Wipe()
	if want != (eth.Pubkey{}) && pubkey != want {
		opened.Wipe()
		return nil, fmt.Errorf("its keystore holds the key of %v", pubkey)
	}
	path := k.Path()
	if _, err := eth.ParsePath(path); err != nil || !seal.GoodPath(path) {
		path = "" // any text may stand there; it must not get into a sealed body
	}
	return &Importable{pubkey, path, opened}, nil
}

// descends re-derives the key from the mnemonic at the path that the keystore
// names.
func (f Foreign) descends() error {
	path, ok := f.path()
	if !ok {
		return nil // as was said
	}
	key, err := bls.FromSeed(f.Seed, path)
	if err != nil {
		// Not echoed: it was in a sealed text, and may be anything.
		return errors.New("its keystore's path leads nowhere from the mnemonic")
	}
	pubkey := key.Pubkey()
	key.Wipe()
	if pubkey != f.Pubkey {
		return fmt.Errorf("its mnemonic gives %v at %s", pubkey, path)
	}
	return nil
}

// withdraws holds 0x00 credentials against the mnemonic's withdrawal key,
// which is the signing key's parent (EIP-2334).
func (f Foreign) withdraws() error {
	if f.Credentials.Kind() != eth.KindBLS || f.Credentials == (eth.Credentials{}) {
		return nil
	}
	path, _ := f.path()
	parent, _ := strings.CutSuffix(path, "/0")
	withdrawal, err := bls.FromSeed(f.Seed, parent)
	if err != nil {
		return errors.New("it is not known whose its 0x00 credentials are: the path leads nowhere from the mnemonic")
	}
	defer withdrawal.Wipe()
	if eth.BLSCredentials(withdrawal.Pubkey()) != f.Credentials {
		return errors.New("its 0x00 credentials are not those of the mnemonic's withdrawal key")
	}
	return nil
}

// path is what the keystore names, false if there is no keystore.
func (f Foreign) path() (path string, ok bool) {
	k, err := keystore.Parse(f.Keystore)
	if err == nil {
		path = k.Path()
	}
	return path, err == nil
}

func (f Foreign) deposits() error {
	if len(f.Deposits) == 0 {
		return nil
	}
	domain := depositDomain(f.Network.GenesisForkVersion)
	claims := make([]bls.Claim, len(f.Deposits))
	for i, d := range f.Deposits {
		message := messageRoot(f.Pubkey, f.Credentials, d.Amount)
		if d.MessageRoot != message || d.DataRoot != dataRoot(f.Pubkey, f.Credentials, d.Amount, d.Signature) {
			return fmt.Errorf("a root of deposit %d is not that of its content", i)
		}
		claims[i] = bls.Claim{Pubkey: f.Pubkey, Root: signingRoot(message, domain), Signature: d.Signature}
	}
	if err := bls.VerifyBatch(claims); err != nil {
		return fmt.Errorf("the key did not sign a deposit for these credentials on %s: %w", f.Network.Name, err)
	}
	return nil
}

// Pubkey is the key's own, derived from it.
func (i *Importable) Pubkey() eth.Pubkey {
	if i == nil {
		return eth.Pubkey{}
	}
	return i.pubkey
}

// Path is the keystore's, "" where it names none of EIP-2334. It is proven only
// if there was a mnemonic.
func (i *Importable) Path() string {
	if i == nil {
		return ""
	}
	return i.path
}

// noPath stands in a sealed body, which must have a path, for a key of which
// nobody knows one.
const noPath = "m/0"

// Seal seals the raw key, alone, and wipes it, whether it succeeds or not. The
// keystore and its password are not carried on: others have seen them, and a
// keystore is made anew when the key is handed to software that wants one.
func (i *Importable) Seal(ctx context.Context, to *seal.Recipients, network, order string, index uint32) ([]byte, error) {
	if i == nil || i.secret == nil {
		return nil, ErrUnchecked
	}
	raw, path := i.secret, i.path
	i.secret = nil
	defer raw.Wipe()
	if path == "" {
		path = noPath
	}
	body := seal.SigningBody(path, raw, nil, nil)
	defer body.Wipe()
	file, err := to.Seal(ctx, seal.SigningBinding(network, order, index, i.pubkey), body)
	if err != nil {
		return nil, fmt.Errorf("couldn't seal the key of %v: %w", i.pubkey, err)
	}
	return file, nil
}

// Wipe forgets a key that is not to be sealed. It may be called twice and on
// nil.
func (i *Importable) Wipe() {
	if i != nil {
		i.secret.Wipe()
		i.secret = nil
	}
}
