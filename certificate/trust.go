package certificate

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/stakeseal/stakeseal/eth"
)

// Trust is what a verifier has decided to believe. ParseTrust reads it from
// a trust file; one that is put together by hand must pass Check.
type Trust struct {
	Network   eth.Network
	Addresses map[string]eth.Address // withdrawal addresses by name
	Keys      []TrustedKey           // certifying keys
	Releases  []Release              // none: the maker is not judged

	// Who brings code to the place where it makes keys. With Managers, each
	// release must carry a statement that Threshold of them signed; without,
	// the releases are what the writer of the trust file says they are.
	Developers []TrustedKey // those who may submit a package
	Managers   []TrustedKey // those who may review and sign one
	Threshold  int          // of Managers, for a release; 0 counts as 1

	// Those who may approve withdrawal addresses beside Addresses: a birth to
	// another one is believed when it carries their approval.
	Approvers []TrustedKey
}

// Validity says when a key or release could be believed. Zero times are open
// ends; both ends belong to it.
type Validity struct {
	NotBefore, NotAfter time.Time
	// Revoked refuses everything the key or release ever made, whatever time
	// it states. The time in a statement is the signer's word: whoever stole
	// the key writes any he likes, so a revocation from a date on would stop
	// nobody. A key that is merely retired gets NotAfter, which leaves what
	// it signed in honest times alone.
	Revoked bool
}

// TrustedKey is a certifying key by the name that verdicts call it.
type TrustedKey struct {
	Name string
	Key  PublicKey
	Validity
}

// Release is a reviewed build of the generator with its settings.
type Release struct {
	Name     string
	Binaries []Hash // sha256 of the program, one for each platform
	Settings Hash   // sha256 of the settings
	Validity

	// Of a release that its managers signed; all zero for another.
	Package   Hash   // sha256 of the package
	Review    Hash   // Digest of the review that approved it, the first where several did
	Commit    string // the source it was built from
	Statement []byte // the envelope that SignRelease makes

	// Threshold is how many of its managers had to sign it, where that was
	// fewer than the trust file asks of releases by now; 0: as many.
	Threshold int
}

// Verified is a birth certificate that a trust file agrees with.
type Verified struct {
	Birth
	Key         string // name of the certifying key, the first in the envelope that counts
	Release     string // name of the release; "": the trust file names none, so nothing is known of the maker
	Review      Hash   // of the review that approved the release; zero: the trust file does not say
	Commit      string // the source of the release; "": the trust file does not say
	Package     Hash   // of the release; zero: the trust file does not say
	AddressName string // name of the withdrawal address, in the trust file or in its approval
	Approver    string // name of who approved the address; "": the trust file names it
	Digest      Hash   // as Digest gives it, which receipts name
}

// VerifiedReceipt is a receipt that a trust file agrees with. It names no
// release: a receipt has a settings digest but no binary's, so several
// releases may fit. Its certificates name theirs.
type VerifiedReceipt struct {
	Receipt
	Key string
}

// VerifyBirth judges a birth certificate, offline. The error is of class
// ErrFormat, ErrSignature, ErrMismatch or ErrUntrusted; a nil error is the
// only yes.
func (t *Trust) VerifyBirth(envelope []byte) (*Verified, error) {
	return t.verifyBirth(envelope, birthOf)
}

// VerifyBirthAs is VerifyBirth for a caller who has a guess of what the
// certificate says: from the record beside it, and from another certificate of
// the same order. Where the guess is right, byte for byte of what was signed,
// nothing needs to be decoded; where it is not, it counts for nothing. Both give
// the same answer to every envelope, whatever the guess.
func (t *Trust) VerifyBirthAs(envelope []byte, guess Birth) (*Verified, error) {
	return t.verifyBirth(envelope, func(payload []byte) (Birth, error) {
		if guess.writes(payload) && guess.check() == nil {
			return guess, nil
		}
		return birthOf(payload)
	})
}

func (t *Trust) verifyBirth(envelope []byte, read func(payload []byte) (Birth, error)) (*Verified, error) {
	payload, keys, err := authenticate(envelope, maxBirth, t.Keys)
	if err != nil {
		return nil, err
	}
	b, err := read(payload)
	if err != nil {
		return nil, err
	}
	if err := t.checkNetwork(b.Network, b.NetworkDigest); err != nil {
		return nil, err
	}
	for i, d := range b.Deposits {
		if err := eth.CheckAmount(t.Network, b.Credentials, d.Amount); err != nil {
			return nil, fmt.Errorf("%w: deposit %d: %w", ErrMismatch, i, err)
		}
	}
	v := &Verified{Birth: b, Digest: sha256.Sum256(payload)}
	if v.AddressName, v.Approver, err = t.addressName(b); err != nil {
		return nil, err
	}
	if v.Key, err = validKey(keys, b.Time); err != nil {
		return nil, err
	}
	release, err := t.release(b.Maker, b.Time)
	if err != nil {
		return nil, err
	}
	v.Release, v.Review, v.Commit, v.Package = release.Name, release.Review, release.Commit, release.Package
	return v, nil
}

// VerifyReceipt judges a receipt, offline. It does not see the certificates
// that the receipt names; the caller compares Digest and pubkey of each.
func (t *Trust) VerifyReceipt(envelope []byte) (*VerifiedReceipt, error) {
	payload, keys, err := authenticate(envelope, maxReceipt, t.Keys)
	if err != nil {
		return nil, err
	}
	r, err := receiptOf(payload)
	if err != nil {
		return nil, err
	}
	if err := t.checkNetwork(r.Network, r.NetworkDigest); err != nil {
		return nil, err
	}
	v := &VerifiedReceipt{Receipt: r}
	if v.Key, err = validKey(keys, r.Time); err != nil {
		return nil, err
	}
	if err := t.checkSettings(r.SettingsDigest, r.Time); err != nil {
		return nil, err
	}
	return v, nil
}

// authenticate returns the payload and the trusted keys whose signatures of
// it are good. Nothing of the payload has been parsed when it is handed out.
// A signature of an unknown key says nothing and is passed over, which keeps
// room for a notary that this verifier does not know. A wrong signature under
// a known key's name is damage or an attack, and a good one by a revoked key
// means that the thief was here: both refuse the envelope although another
// signature may be good. (Whoever made it can strip that signature; what then
// remains is judged by what remains.)
func authenticate(data []byte, limit int, keys []TrustedKey) ([]byte, []TrustedKey, error) {
	e, err := parseEnvelope(data, limit)
	if err != nil {
		return nil, nil, err
	}
	pae := e.pae()
	var good []TrustedKey
	for _, s := range e.signatures {
		k, known := keyOf(keys, s.keyID)
		if !known {
			continue
		}
		if !k.Key.Verify(pae, s.sig) {
			return nil, nil, fmt.Errorf("%w: the signature of key %q is wrong", ErrSignature, k.Name)
		}
		if k.Revoked {
			return nil, nil, fmt.Errorf("%w: key %q is revoked", ErrUntrusted, k.Name)
		}
		good = append(good, k)
	}
	if len(good) == 0 {
		return nil, nil, fmt.Errorf("%w: it is signed by key %s", ErrSignature, e.signatures[0].keyID)
	}
	return e.payload, good, nil
}

func keyOf(keys []TrustedKey, id string) (TrustedKey, bool) {
	for _, k := range keys {
		if k.Key.key != nil && k.Key.ID() == id {
			return k, true
		}
	}
	return TrustedKey{}, false
}

// validKey returns the first key whose validity holds at a statement's time.
func validKey(keys []TrustedKey, at time.Time) (string, error) {
	var reasons []error
	for _, k := range keys {
		err := k.check(at)
		if err == nil {
			return k.Name, nil
		}
		reasons = append(reasons, fmt.Errorf("key %q %w", k.Name, err))
	}
	return "", fmt.Errorf("%w: %w", ErrUntrusted, errors.Join(reasons...))
}

func (v Validity) check(at time.Time) error {
	switch {
	case v.Revoked:
		return errors.New("is revoked")
	case !v.NotBefore.IsZero() && at.Before(v.NotBefore):
		return fmt.Errorf("is valid from %s, and this is of %s", v.NotBefore.Format(time.RFC3339), at.Format(time.RFC3339))
	case !v.NotAfter.IsZero() && at.After(v.NotAfter):
		return fmt.Errorf("was valid until %s, and this is of %s", v.NotAfter.Format(time.RFC3339), at.Format(time.RFC3339))
	}
	return nil
}

func (t *Trust) checkNetwork(name string, digest Hash) error {
	if name != t.Network.Name {
		return fmt.Errorf("%w: the statement is for network %q, the trust file for %q", ErrMismatch, name, t.Network.Name)
	}
	if want := Hash(t.Network.Digest()); digest != want {
		return fmt.Errorf("%w: the parameters of network %q have digest %s in the statement, %s here", ErrMismatch, name, digest, want)
	}
	return nil
}

// addressName looks the address up; a birth's check has seen that there is
// one. An approval counts where this trust file names its approver, at the
// birth's time; for an address that the trust file names itself it is not
// needed, and not looked at.
func (t *Trust) addressName(b Birth) (name, approver string, err error) {
	address, ok := b.Credentials.Address()
	if ok {
		for name, known := range t.Addresses {
			if known == address {
				return name, "", nil
			}
		}
	}
	if ok && b.Approval != "" && len(t.Approvers) > 0 {
		a, by, err := VerifyAddressApproval([]byte(b.Approval), t.Approvers, t.Network, address, b.Time)
		if err != nil {
			return "", "", fmt.Errorf("withdrawal address %s is not in the trust file, and its approval: %w", address, err)
		}
		if err := CheckApprovedName(a, t.Addresses); err != nil {
			return "", "", err
		}
		return a.Name, by.Name, nil
	}
	return "", "", fmt.Errorf("%w: withdrawal address %s is not in the trust file", ErrMismatch, address)
}

func (t *Trust) release(m Maker, at time.Time) (Release, error) {
	if len(t.Releases) == 0 {
		return Release{}, nil
	}
	for _, r := range t.Releases {
		if r.Settings != m.SettingsDigest || !slices.Contains(r.Binaries, m.BinaryDigest) {
			continue
		}
		if err := r.check(at); err != nil {
			return Release{}, fmt.Errorf("%w: release %q %w", ErrUntrusted, r.Name, err)
		}
		if err := t.Stands(r); err != nil {
			return Release{}, err
		}
		// A program says itself what it was built from; one that says something
		// else than its release did not come from it, whatever its digest.
		if r.Commit != "" && m.Commit != "" && m.Commit != r.Commit {
			return Release{}, fmt.Errorf("%w: release %q is of commit %s, the birth names %q", ErrMismatch, r.Name, r.Commit, clip(m.Commit))
		}
		return r, nil
	}
	return Release{}, fmt.Errorf("%w: no release has binary %s with settings %s", ErrUntrusted, m.BinaryDigest, m.SettingsDigest)
}

// checkSettings wants one release of these settings that holds at the time.
func (t *Trust) checkSettings(settings Hash, at time.Time) error {
	if len(t.Releases) == 0 {
		return nil
	}
	known, err := t.anyHolds(settings, at)
	if !known {
		return fmt.Errorf("%w: no release has settings %s", ErrUntrusted, settings)
	}
	return err
}

// MayMake refuses (ErrUntrusted) settings all of whose releases are revoked, or
// do not hold now: what they made would not verify. Settings that the file does
// not know are not judged.
func (t *Trust) MayMake(settings Hash, now time.Time) error {
	_, err := t.anyHolds(settings, now)
	return err
}

// anyHolds says whether releases of these settings are listed, and why none of
// them holds at a time.
func (t *Trust) anyHolds(settings Hash, at time.Time) (known bool, err error) {
	var reasons []error
	for _, r := range t.Releases {
		if r.Settings != settings {
			continue
		}
		err := r.check(at)
		if err == nil {
			err = t.Stands(r)
		}
		if err == nil {
			return true, nil
		}
		reasons = append(reasons, fmt.Errorf("release %q %w", r.Name, err))
	}
	if reasons == nil {
		return false, nil
	}
	return true, fmt.Errorf("%w: %w", ErrUntrusted, errors.Join(reasons...))
}
