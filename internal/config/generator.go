package config

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/stakeseal/stakeseal/certificate"
	"github.com/stakeseal/stakeseal/eth"
	"github.com/stakeseal/stakeseal/seal"
)

// GeneratorFile is the name of the maker's settings in its package or home.
const GeneratorFile = "generator.yaml"

// Generator is what the maker obeys.
type Generator struct {
	Network     eth.Network
	Addresses   map[string]eth.Address   // the withdrawal addresses it may make keys for, by name
	Approvers   []certificate.TrustedKey // who may approve further ones, each called by its key id
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
	Version     number                  `yaml:"version"`
	Network     certificate.NetworkYAML `yaml:"network"`
	Addresses   addresses               `yaml:"withdrawal_addresses"`
	Approvers   []text                  `yaml:"approvers"`
	MaxPerOrder *number                 `yaml:"max_validators_per_order"`
	Keystore    *text                   `yaml:"keystore"`
	Recipients  *text                   `yaml:"recipients"`
	SealTo      struct {
		Signing  []text `yaml:"signing"`
		Recovery []text `yaml:"recovery"`
	} `yaml:"seal_to"`
	Certifier text `yaml:"certifier"`
	Store     text `yaml:"store"`
	Archive   text `yaml:"archive"`
}

// maxOrder bounds max_validators_per_order: the receipt of a larger order
// would outgrow what a receipt may have, and that shows only after all
// its keys were made.
const maxOrder = 100_000

// maxApprovers bounds the list of approvers: whoever reviews it reads it.
const maxApprovers = 16

var (
	nameRule   = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{0,63}$`)
	schemeRule = regexp.MustCompile(`^[a-z][a-z0-9]{0,31}$`)
)

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
	if err := decode(GeneratorFile, data, &y); err != nil {
		return nil, err
	}
	g, folder, err := y.check()
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrSettings, GeneratorFile, err)
	}
	files := map[string][]byte{GeneratorFile: data}
	for _, list := range [][]RecipientFile{g.Signing, g.Recovery} {
		for i := range list {
			file := path.Join(folder, list[i].Name+".txt")
			if list[i].Data, err = readFile(fsys, file); err != nil {
				return nil, err
			}
			files[file] = list[i].Data
		}
	}
	g.Digest = digestFiles(files)
	return g, nil
}

// check returns the settings, recipients without their files, and the folder
// of those.
func (y *generatorYAML) check() (g *Generator, folder string, err error) {
	refuse := func(format string, args ...any) (*Generator, string, error) {
		return nil, "", fmt.Errorf(format, args...)
	}
	if y.Version != 1 {
		return refuse("version is %d, this program reads 1", y.Version)
	}
	if y.Network.Name == "" {
		return refuse("network is missing")
	}
	g = &Generator{Network: y.Network.Network, Addresses: y.Addresses, MaxPerOrder: 1000, Keystore: "pbkdf2"}
	if len(y.Addresses) == 0 {
		return refuse("withdrawal_addresses names no address")
	}
	if len(y.Approvers) > maxApprovers {
		return refuse("approvers names %d keys: use up to %d", len(y.Approvers), maxApprovers)
	}
	for _, key := range y.Approvers {
		public, err := certificate.ParsePublicKey(string(key))
		if err != nil {
			return refuse("approvers: %w", err)
		}
		if slices.ContainsFunc(g.Approvers, func(k certificate.TrustedKey) bool { return k.Key.Equal(public) }) {
			return refuse("approvers names key %s twice", public.ID())
		}
		g.Approvers = append(g.Approvers, certificate.TrustedKey{Name: public.ID(), Key: public})
	}
	if n := y.MaxPerOrder; n != nil {
		if *n == 0 || *n > maxOrder {
			return refuse("max_validators_per_order is %d: use 1 to %d", *n, maxOrder)
		}
		g.MaxPerOrder = uint32(*n)
	}
	if y.Keystore != nil {
		g.Keystore = string(*y.Keystore)
	}
	if !slices.Contains([]string{"pbkdf2", "scrypt", "none"}, g.Keystore) {
		return refuse("keystore is %q: use pbkdf2, scrypt or none", clip(g.Keystore))
	}
	folder = "recipients"
	if y.Recipients != nil {
		folder = strings.TrimSuffix(string(*y.Recipients), "/")
	}
	if !fs.ValidPath(folder) || strings.Contains(folder, `\`) {
		return refuse("recipients is %q: use a folder beside generator.yaml, such as recipients/", clip(folder))
	}
	if g.Signing, err = recipientNames("signing", y.SealTo.Signing, nil); err != nil {
		return nil, "", err
	}
	if g.Recovery, err = recipientNames("recovery", y.SealTo.Recovery, g.Signing); err != nil {
		return nil, "", err
	}
	for _, ref := range []struct {
		key  string
		text text
		into *Ref
	}{{"certifier", y.Certifier, &g.Certifier}, {"store", y.Store, &g.Store}, {"archive", y.Archive, &g.Archive}} {
		scheme, rest, _ := strings.Cut(string(ref.text), ":")
		if !schemeRule.MatchString(scheme) || rest == "" || rest != strings.TrimSpace(rest) {
			return refuse("%s is %q: write it as PREFIX:PLACE, such as file:certifier.key, sqlite:records.db or dir:bundles/", ref.key, clip(string(ref.text)))
		}
		*ref.into = Ref{scheme, rest}
	}
	return g, folder, nil
}

func recipientNames(purpose string, names []text, signing []RecipientFile) (list []RecipientFile, err error) {
	if len(names) == 0 || len(names) > seal.MaxRecipients {
		return nil, fmt.Errorf("seal_to: %s names %d recipients: use 1 to %d", purpose, len(names), seal.MaxRecipients)
	}
	named := func(name string) func(RecipientFile) bool {
		return func(r RecipientFile) bool { return r.Name == name }
	}
	for _, n := range names {
		name := string(n)
		if err := CheckName("recipient", name); err != nil {
			return nil, err
		}
		if slices.ContainsFunc(list, named(name)) {
			return nil, fmt.Errorf("seal_to: %s names %q twice", purpose, name)
		}
		if slices.ContainsFunc(signing, named(name)) {
			return nil, fmt.Errorf("seal_to: %q is named for signing and for recovery: who signs must not be able to open a mnemonic", name)
		}
		list = append(list, RecipientFile{Name: name})
	}
	return list, nil
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
