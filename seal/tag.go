package seal

import (
	"crypto/ecdh"
	"crypto/elliptic"
	"crypto/hkdf"
	"crypto/hpke"
	"crypto/sha256"
	"encoding/base64"
	"errors"

	"filippo.io/age"
)

// tagged is a P-256 key on a token (C2SP age, p256tag and mlkem768p256tag). A
// four-byte tag in the stanza lets a plugin ask for the touch of one key only;
// it also lets whoever knows the public key see which files are sealed to it.
//
// filippo.io/age/tag has the same, but imports age's plugin package and with
// it os/exec, which the generator must not reach. A test compares the two.
type tagged struct {
	key    hpke.PublicKey
	point  []byte // the P-256 key in the form that the tag covers
	hybrid bool
}

var _ age.RecipientWithLabels = (*tagged)(nil)

// newTagged takes the raw key: a compressed point of 33 bytes, or an
// ML-KEM-768 key followed by an uncompressed point of 65.
func newTagged(raw []byte, hybrid bool) (*tagged, error) {
	if hybrid {
		if len(raw) != mlkemKey+65 {
			return nil, errors.New("wrong length")
		}
		key, err := hpke.MLKEM768P256().NewPublicKey(raw)
		if err != nil {
			return nil, err
		}
		return &tagged{key, raw[mlkemKey:], true}, nil
	}
	if len(raw) != 33 {
		return nil, errors.New("wrong length")
	}
	x, y := elliptic.UnmarshalCompressed(elliptic.P256(), raw)
	if x == nil {
		return nil, errors.New("not a point of P-256")
	}
	point := append([]byte{4}, make([]byte, 64)...)
	x.FillBytes(point[1:33])
	y.FillBytes(point[33:])
	key, err := hpke.DHKEM(ecdh.P256()).NewPublicKey(point)
	if err != nil {
		return nil, err
	}
	return &tagged{key, raw, false}, nil
}

// Wrap drops the labels, which age asks for through WrapWithLabels.
func (t *tagged) Wrap(fileKey []byte) ([]*age.Stanza, error) {
	s, _, err := t.WrapWithLabels(fileKey)
	return s, err
}

// WrapWithLabels seals the file key with HPKE (RFC 9180) in base mode,
// HKDF-SHA256 and ChaCha20-Poly1305. The hybrid one carries age's label
// "postquantum", which keeps classic keys out of its files.
func (t *tagged) WrapWithLabels(fileKey []byte) ([]*age.Stanza, []string, error) {
	kind, labels := "p256tag", []string(nil)
	if t.hybrid {
		kind, labels = "mlkem768p256tag", []string{"postquantum"}
	}
	info := "age-encryption.org/" + kind
	enc, sender, err := hpke.NewSender(t.key, hpke.HKDFSHA256(), hpke.ChaCha20Poly1305(), []byte(info))
	if err != nil {
		return nil, nil, err
	}
	body, err := sender.Seal(nil, fileKey)
	if err != nil {
		return nil, nil, err
	}
	keyHash := sha256.Sum256(t.point)
	tag, err := hkdf.Extract(sha256.New, append(append([]byte(nil), enc...), keyHash[:4]...), []byte(info))
	if err != nil {
		return nil, nil, err
	}
	b64 := base64.RawStdEncoding.EncodeToString
	return []*age.Stanza{{Type: kind, Args: []string{b64(tag[:4]), b64(enc)}, Body: body}}, labels, nil
}
