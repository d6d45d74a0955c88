package config

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/stakeseal/stakeseal/eth"
)

// GeneratorFile is the name of the maker's settings in its package or home.
const GeneratorFile = "generator.yaml"

// Generator is what the maker obeys.
type Generator struct {
	Network     eth.Network
	Addresses   map[string]eth.Address // the withdrawal addresses it may make keys for, by name
	MaxPerOrder uint32
	Keystore    string // pbkdf2, scrypt or none: the default of an order
	Signing     []RecipientFile
	Recovery    []RecipientFile
	Certifier   Ref
	Store       Ref
	Archive     Ref
	Digest      [32]byte // of generator.yaml and every recipient file named in it
}

// RecipientFile is a recipient's name and its file as read.
type RecipientFile struct {
	Name string
	Data []byte
}

// Ref is a backend chosen by a prefix, such as "sqlite:records.db".
type Ref struct{ Scheme, Rest string }

func (r Ref) String() string { return r.Scheme + ":" + r.Rest }

type generatorYAML struct {
	Version     int               `yaml:"version"`
	Network     Network           `yaml:"network"`
	Addresses   map[string]string `yaml:"withdrawal_addresses"`
	Approvers   []string          `yaml:"approvers"`
	MaxPerOrder *uint32           `yaml:"max_validators_per_order"`
	Keystore    string            `yaml:"keystore"`
	Recipients  string            `yaml:"recipients"`
	SealTo      struct {
		Signing  []string `yaml:"signing"`
		Recovery []string `yaml:"recovery"`
	} `yaml:"seal_to"`
	Certifier string `yaml:"certifier"`
	Store     string `yaml:"store"`
	Archive   string `yaml:"archive"`
}

var nameRule = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{0,63}$`)

// CheckName refuses what cannot name a recipient, an address or a signer: the
// name becomes part of a file name and of a line in a sealed secret.
func CheckName(what, name string) error {
	if !nameRule.MatchString(name) {
		return fmt.Errorf("%s name %q: use up to 64 of a-z, 0-9, '.', '_' and '-', beginning with a letter or digit", what, clip(name))
	}
	return nil
}

func clip(s string) string {
	if len(s) > 100 {
		return s[:100] + "..."
	}
	return s
}

// LoadGenerator reads generator.yaml and the recipient files it names from
// the root of fsys (the package's folder or the home), each once.
func LoadGenerator(fsys fs.FS) (*Generator, error) {
	data, err := readFile(fsys, GeneratorFile)
	if err != nil {
		return nil, err
	}
	var y generatorYAML
	if err := decodeStrict(GeneratorFile, data, &y); err != nil {
		return nil, err
	}
	g, err := y.check()
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrSettings, GeneratorFile, err)
	}
	files := map[string][]byte{GeneratorFile: data}
	folder := path.Clean(y.Recipients)
	read := func(names []string) (list []RecipientFile, err error) {
		for _, name := range names {
			file := path.Join(folder, name+".txt")
			if files[file], err = readFile(fsys, file); err != nil {
				return nil, err
			}
			list = append(list, RecipientFile{name, files[file]})
		}
		return list, nil
	}
	if g.Signing, err = read(y.SealTo.Signing); err != nil {
		return nil, err
	}
	if g.Recovery, err = read(y.SealTo.Recovery); err != nil {
		return nil, err
	}
	g.Digest = digestFiles(files)
	return g, nil
}

func (y *generatorYAML) check() (*Generator, error) {
	if y.Version != 1 {
		return nil, fmt.Errorf("version is %d, this program reads 1", y.Version)
	}
	if y.Network.Name == "" {
		return nil, errors.New("network is missing")
	}
	if len(y.Approvers) > 0 {
		return nil, errors.New("approvers are named, and this version cannot check approvals yet: leave the list empty")
	}
	g := &Generator{Network: y.Network.Network, Addresses: map[string]eth.Address{}, MaxPerOrder: 1000, Keystore: "pbkdf2"}
	if len(y.Addresses) == 0 {
		return nil, errors.New("withdrawal_addresses names no address")
	}
	for name, text := range y.Addresses {
		if err := CheckName("address", name); err != nil {
			return nil, err
		}
		address, err := eth.ParseAddress(text)
		if err != nil {
			return nil, fmt.Errorf("withdrawal_addresses: %s: %w", name, err)
		}
		g.Addresses[name] = address
	}
	if y.MaxPerOrder != nil {
		g.MaxPerOrder = *y.MaxPerOrder
	}
	if g.MaxPerOrder == 0 || g.MaxPerOrder > 1<<20 {
		return nil, fmt.Errorf("max_validators_per_order is %d: use 1 to %d", g.MaxPerOrder, 1<<20)
	}
	switch y.Keystore {
	case "":
	case "pbkdf2", "scrypt", "none":
		g.Keystore = y.Keystore
	default:
		return nil, fmt.Errorf("keystore is %q: use pbkdf2, scrypt or none", clip(y.Keystore))
	}
	if y.Recipients == "" {
		y.Recipients = "recipients/"
	}
	if !fs.ValidPath(path.Clean(y.Recipients)) {
		return nil, fmt.Errorf("recipients is %q: use a folder beside generator.yaml", clip(y.Recipients))
	}
	for purpose, names := range map[string][]string{"signing": y.SealTo.Signing, "recovery": y.SealTo.Recovery} {
		if len(names) == 0 {
			return nil, fmt.Errorf("seal_to: %s names no recipient", purpose)
		}
		for _, name := range names {
			if err := CheckName("recipient", name); err != nil {
				return nil, err
			}
			if purpose == "signing" && slices.Contains(y.SealTo.Recovery, name) {
				return nil, fmt.Errorf("seal_to: %q is named for signing and for recovery: who signs must not be able to open a mnemonic", name)
			}
		}
	}
	for _, ref := range []struct {
		key  string
		text string
		into *Ref
	}{{"certifier", y.Certifier, &g.Certifier}, {"store", y.Store, &g.Store}, {"archive", y.Archive, &g.Archive}} {
		scheme, rest, ok := strings.Cut(ref.text, ":")
		if !ok || scheme == "" || rest == "" {
			return nil, fmt.Errorf("%s is %q: write it as PREFIX:PLACE, such as file:certifier.key, sqlite:records.db or dir:bundles/", ref.key, clip(ref.text))
		}
		*ref.into = Ref{scheme, rest}
	}
	return g, nil
}

// AddressName returns the name under which the settings allow an address.
func (g *Generator) AddressName(a eth.Address) (string, bool) {
	for _, name := range slices.Sorted(maps.Keys(g.Addresses)) {
		if g.Addresses[name] == a {
			return name, true
		}
	}
	return "", false
}

func readFile(fsys fs.FS, name string) ([]byte, error) {
	f, err := fsys.Open(name)
	if err != nil {
		return nil, fmt.Errorf("couldn't read settings: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, fmt.Errorf("couldn't read settings: %w", err)
	}
	if len(data) > maxFile {
		return nil, fmt.Errorf("%w: %s is larger than %d bytes", ErrSettings, name, maxFile)
	}
	return data, nil
}

// digestFiles is the settings digest: sha256 over, for each file in the order
// of its name, the length of the name and of the content (8 bytes big endian
// each), the name and the content.
func digestFiles(files map[string][]byte) (digest [32]byte) {
	h := sha256.New()
	for _, name := range slices.Sorted(maps.Keys(files)) {
		var lengths [16]byte
		binary.BigEndian.PutUint64(lengths[:8], uint64(len(name)))
		binary.BigEndian.PutUint64(lengths[8:], uint64(len(files[name])))
		h.Write(lengths[:])
		h.Write([]byte(name))
		h.Write(files[name])
	}
	h.Sum(digest[:0])
	return digest
}
