package keystore

import (
	"bytes"
	"context"
	"crypto/subtle"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/stakeseal/stakeseal/eth"
	"github.com/stakeseal/stakeseal/secret"
)

// What version 4 of the format allows.
const (
	version          = 4
	checksumFunction = "sha256"
	cipherFunction   = "aes-128-ctr"
	prf              = "hmac-sha256"

	maxFile = 64 << 10
	maxSalt = 128
)

// Keystore is a parsed file. What its getters return is the file's own
// unproven text.
type Keystore struct {
	cost        cost
	iv          [ivSize]byte
	ciphertext  [secretSize]byte
	checksum    [32]byte
	pubkey      eth.Pubkey
	path        string
	uuid        string
	description string
}

// Pubkey is zero if the file names none; the standard lets it.
func (k *Keystore) Pubkey() eth.Pubkey  { return k.pubkey }
func (k *Keystore) Path() string        { return k.path }
func (k *Keystore) UUID() string        { return k.uuid }
func (k *Keystore) Description() string { return k.description }

// Salt and IV are the file's own bytes, for whoever checks that they are new.
func (k *Keystore) Salt() []byte { return bytes.Clone(k.cost.salt) }
func (k *Keystore) IV() []byte   { return bytes.Clone(k.iv[:]) }

// FullCost says whether the KDF's parameters are the standard's own, those
// that Encrypt uses: pbkdf2 c=262144, or scrypt n=262144 r=8 p=1.
func (k *Keystore) FullCost() bool {
	c := k.cost
	return (c.kdf == PBKDF2 && c.c == 1<<18) || (c.kdf == Scrypt && c.n == 1<<18 && c.r == 8 && c.p == 1)
}

// Costly says whether opening it takes more memory than the standard's own
// scrypt parameters, or more than some seconds' fraction: what a service that
// does other work refuses to do for whoever asks.
func (k *Keystore) Costly() bool {
	c := k.cost
	return c.kdf == PBKDF2 && c.c > usualPBKDF2 || c.kdf == Scrypt && c.n*c.r*c.p*128 > usualScrypt
}

// KDF says how the password becomes a key.
func (k *Keystore) KDF() KDF { return k.cost.kdf }

// Parse reads a keystore file and runs no KDF. It takes what the known tools
// write: hex in either case, a pubkey with or without 0x, further fields, a
// missing description, path, pubkey or uuid. It is strict about all that the
// key depends on, and about which field is meant: names count in their exact
// case and once, so that two readers never see two keystores in one file.
// Errors wrap ErrFormat and quote nothing of a file that isn't JSON, because
// it may be a secret given by mistake.
func Parse(data []byte) (*Keystore, error) {
	if len(data) > maxFile {
		return nil, fmt.Errorf("%d bytes, more than %d: %w", len(data), maxFile, ErrFormat)
	}
	if !json.Valid(data) {
		return nil, fmt.Errorf("no JSON: %w", ErrFormat)
	}
	top, err := object("the file", data)
	if err != nil {
		return nil, err
	}
	k := new(Keystore)
	v, err := number(top, "version")
	if err != nil {
		return nil, err
	}
	if v != version {
		return nil, fmt.Errorf("version %d, not %d: %w", v, version, ErrFormat)
	}
	if err := k.readCrypto(top["crypto"]); err != nil {
		return nil, err
	}
	for name, to := range map[string]*string{"path": &k.path, "uuid": &k.uuid, "description": &k.description} {
		if *to, err = text(top, name, true); err != nil {
			return nil, err
		}
	}
	pubkey, err := text(top, "pubkey", true)
	if err != nil {
		return nil, err
	}
	if pubkey != "" {
		if k.pubkey, err = eth.ParsePubkey(pubkey); err != nil {
			return nil, fmt.Errorf("%w: %w", err, ErrFormat)
		}
	}
	return k, nil
}

func (k *Keystore) readCrypto(raw json.RawMessage) error {
	modules, err := object("crypto", raw)
	if err != nil {
		return err
	}
	if err := k.cost.read(modules["kdf"]); err != nil {
		return err
	}

	sum, err := object("checksum", modules["checksum"])
	if err != nil {
		return err
	}
	if err := function("checksum", sum, checksumFunction); err != nil {
		return err
	}
	if err := exact(sum, "message", k.checksum[:]); err != nil {
		return err
	}

	cipher, err := object("cipher", modules["cipher"])
	if err != nil {
		return err
	}
	if err := function("cipher", cipher, cipherFunction); err != nil {
		return err
	}
	if err := exact(cipher, "message", k.ciphertext[:]); err != nil {
		return err
	}
	params, err := object("cipher's params", cipher["params"])
	if err != nil {
		return err
	}
	return exact(params, "iv", k.iv[:])
}

// read takes the kdf module within the bounds of kdf.go.
func (c *cost) read(raw json.RawMessage) error {
	kdf, err := object("kdf", raw)
	if err != nil {
		return err
	}
	name, err := text(kdf, "function", false)
	if err != nil {
		return err
	}
	params, err := object("kdf's params", kdf["params"])
	if err != nil {
		return err
	}
	dklen, err := number(params, "dklen")
	if err != nil {
		return err
	}
	if dklen != derivedSize {
		return fmt.Errorf("dklen %d, not %d: %w", dklen, derivedSize, ErrFormat)
	}
	salt, err := text(params, "salt", false)
	if err != nil {
		return err
	}
	c.salt, err = hex.DecodeString(salt)
	if err != nil || len(c.salt) == 0 || len(c.salt) > maxSalt {
		return fmt.Errorf("salt isn't hex of 1 to %d bytes: %w", maxSalt, ErrFormat)
	}
	switch c.kdf = KDF(name); c.kdf {
	case PBKDF2:
		if err := function("pbkdf2's prf", map[string]json.RawMessage{"function": params["prf"]}, prf); err != nil {
			return err
		}
		c.c, err = bounded(params, "c", maxPBKDF2)
		return err
	case Scrypt:
		if c.n, err = bounded(params, "n", maxN); err != nil {
			return err
		}
		if c.r, err = bounded(params, "r", maxR); err != nil {
			return err
		}
		if c.p, err = bounded(params, "p", maxP); err != nil {
			return err
		}
		if c.n < 2 || c.n&(c.n-1) != 0 {
			return fmt.Errorf("scrypt's n %d is no power of 2: %w", c.n, ErrFormat)
		}
		if work := uint64(c.n) * uint64(c.r) * uint64(c.p) * 128; work > maxScryptWork {
			return fmt.Errorf("scrypt with n %d, r %d, p %d asks for %d MiB, more than %d: %w",
				c.n, c.r, c.p, work>>20, maxScryptWork>>20, ErrFormat)
		}
		return nil
	default:
		return fmt.Errorf("unknown kdf %q: %w", clip(name), ErrFormat)
	}
}

// Check proves, without running the KDF, that the keystore opens with
// derivedKey and holds want: checksum, then decryption, then comparison, each
// in constant time. Its error is ErrMismatch.
func (k *Keystore) Check(derivedKey, want *secret.Bytes) error {
	got, err := k.decrypt(derivedKey)
	if err != nil {
		if errors.Is(err, ErrPassword) {
			return fmt.Errorf("checksum fails under the derived key: %w", ErrMismatch)
		}
		return err
	}
	defer got.Wipe()
	if !got.Equal(want) {
		return fmt.Errorf("decrypts to another secret: %w", ErrMismatch)
	}
	return nil
}

// decrypt returns the secret under a derived key, or ErrPassword.
func (k *Keystore) decrypt(key *secret.Bytes) (*secret.Bytes, error) {
	if key.Len() != derivedSize {
		return nil, fmt.Errorf("derived key has %d bytes, not %d: %w", key.Len(), derivedSize, ErrMismatch)
	}
	sum := checksum(key, k.ciphertext[:])
	if subtle.ConstantTimeCompare(sum[:], k.checksum[:]) != 1 {
		return nil, ErrPassword
	}
	out, err := ctr(key, k.iv, k.ciphertext[:])
	if err != nil {
		return nil, err
	}
	return secret.Take(out), nil
}

// Open runs the KDF and returns the secret, 32 bytes, for the caller to wipe.
// It doesn't compare with the file's pubkey: derive it and do so. Errors are
// ErrPassword, ErrInput (the password can't be normalised) or ctx's; ctx is
// looked at before the KDF starts.
func (k *Keystore) Open(ctx context.Context, password *secret.Bytes) (*secret.Bytes, error) {
	normal, err := NormalizePassword(password)
	if err != nil {
		return nil, err
	}
	defer normal.Wipe()
	key, err := derive(ctx, k.cost, normal)
	if err != nil {
		return nil, err
	}
	defer key.Wipe()
	return k.decrypt(key)
}

// Open parses a file and opens it; see Parse and (*Keystore).Open.
func Open(ctx context.Context, data []byte, password *secret.Bytes) (*secret.Bytes, error) {
	k, err := Parse(data)
	if err != nil {
		return nil, err
	}
	return k.Open(ctx, password)
}

// object reads a JSON object's fields by their exact names, each at most
// once. (encoding/json into a struct takes any case, and the last of several.)
func object(what string, raw json.RawMessage) (map[string]json.RawMessage, error) {
	d := json.NewDecoder(bytes.NewReader(raw))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return nil, fmt.Errorf("%s is missing or no object: %w", what, ErrFormat)
	}
	fields := make(map[string]json.RawMessage)
	for d.More() {
		t, err := d.Token()
		name, ok := t.(string)
		if err != nil || !ok {
			return nil, fmt.Errorf("%s is no object: %w", what, ErrFormat)
		}
		if _, twice := fields[name]; twice {
			return nil, fmt.Errorf("%s has %q twice: %w", what, clip(name), ErrFormat)
		}
		var value json.RawMessage
		if err := d.Decode(&value); err != nil {
			return nil, fmt.Errorf("%s is no object: %w", what, ErrFormat)
		}
		fields[name] = value
	}
	return fields, nil
}

// text reads a string; an optional one may be missing or null.
func text(fields map[string]json.RawMessage, name string, optional bool) (string, error) {
	raw, ok := fields[name]
	if optional && (!ok || string(raw) == "null") {
		return "", nil
	}
	var s *string
	if err := json.Unmarshal(raw, &s); err != nil || s == nil {
		return "", fmt.Errorf("%s is missing or no string: %w", name, ErrFormat)
	}
	return *s, nil
}

// number reads a whole number that isn't negative.
func number(fields map[string]json.RawMessage, name string) (uint64, error) {
	var v *uint64
	if err := json.Unmarshal(fields[name], &v); err != nil || v == nil {
		return 0, fmt.Errorf("%s is missing or no whole number: %w", name, ErrFormat)
	}
	return *v, nil
}

// bounded reads a number from 1 to most.
func bounded(fields map[string]json.RawMessage, name string, most uint64) (int, error) {
	v, err := number(fields, name)
	if err != nil {
		return 0, err
	}
	if v < 1 || v > most {
		return 0, fmt.Errorf("%s %d: not from 1 to %d: %w", name, v, most, ErrFormat)
	}
	return int(v), nil
}

// exact reads hex of exactly len(dst) bytes.
func exact(fields map[string]json.RawMessage, name string, dst []byte) error {
	s, err := text(fields, name, false)
	if err != nil {
		return err
	}
	b, err := hex.DecodeString(s)
	if err != nil || len(b) != len(dst) {
		return fmt.Errorf("%s isn't hex of %d bytes: %w", name, len(dst), ErrFormat)
	}
	copy(dst, b)
	return nil
}

// function demands a module's one allowed function.
func function(what string, fields map[string]json.RawMessage, want string) error {
	got, err := text(fields, "function", false)
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	if got != want {
		return fmt.Errorf("%s %q, not %s: %w", what, clip(got), want, ErrFormat)
	}
	return nil
}
