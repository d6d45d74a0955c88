package certificate

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"

	"github.com/stakeseal/stakeseal/eth"
)

const (
	trustVersion  = 1
	maxTrustFile  = 1 << 20
	maxTrustDepth = 16 // the file's own structure needs 4
	maxListed     = 1024
)

// The file as written. Every value keeps its line, so that each refusal says
// where; every scalar is of exactly one YAML kind, because a digest of
// decimal digits that YAML reads as a number, or a "revoked:" without a value
// that it reads as false, would change the verdict in silence.
type trustDoc struct {
	Version   *number     `yaml:"version"`
	Network   NetworkYAML `yaml:"network"`
	Addresses addressDoc  `yaml:"withdrawal_addresses"`
	Keys      []keyDoc    `yaml:"certifying_keys"`
	Releases  []relDoc    `yaml:"releases"`

	Developers []keyDoc `yaml:"developers"`
	Managers   []keyDoc `yaml:"release_managers"`
	Threshold  *number  `yaml:"release_threshold"`
	Approvers  []keyDoc `yaml:"approvers"`
}

type keyDoc struct {
	Name     word        `yaml:"name"`
	Key      word        `yaml:"key"`
	Validity validityDoc `yaml:",inline"`
}

type relDoc struct {
	Name     word        `yaml:"name"`
	Binaries []word      `yaml:"binary_sha256"`
	Settings word        `yaml:"settings_sha256"`
	Validity validityDoc `yaml:",inline"`

	Package   word    `yaml:"package_sha256"`
	Review    word    `yaml:"review_sha256"`
	Commit    word    `yaml:"commit"`
	Statement word    `yaml:"statement"`
	Threshold *number `yaml:"threshold"`
}

type validityDoc struct {
	NotBefore word  `yaml:"not_before"`
	NotAfter  word  `yaml:"not_after"`
	Revoked   yesNo `yaml:"revoked"`
}

type customNet struct {
	Name                  word   `yaml:"name"`
	GenesisForkVersion    word   `yaml:"genesis_fork_version"`
	ExitForkVersion       word   `yaml:"exit_fork_version"`
	GenesisValidatorsRoot word   `yaml:"genesis_validators_root"`
	Multiplier            number `yaml:"multiplier"`
	MinActivation         number `yaml:"min_activation_gwei"`
	MinDeposit            number `yaml:"min_deposit_gwei"`
	DepositContract       word   `yaml:"deposit_contract"`
	ChainID               number `yaml:"chain_id"`
	GenesisTime           number `yaml:"genesis_time"`
	SecondsPerSlot        number `yaml:"seconds_per_slot"`
	SlotsPerEpoch         number `yaml:"slots_per_epoch"`
	Mainnet               yesNo  `yaml:"mainnet"`
}

type (
	word struct { // a YAML string
		value string
		line  int
	}
	number struct { // a decimal integer
		value uint64
		line  int
	}
	yesNo      struct{ value bool } // true or false
	addressDoc []namedWord
	namedWord  struct {
		name    string
		address word
	}
)

func lineOf(n ast.Node) int {
	if t := n.GetToken(); t != nil && t.Position != nil {
		return t.Position.Line
	}
	return 0
}

// lineError says where in the file; line 0 is the whole file.
func lineError(line int, err error) error {
	if line == 0 {
		return err
	}
	return fmt.Errorf("line %d: %w", line, err)
}

func (w *word) UnmarshalYAML(n ast.Node) error {
	line := lineOf(n)
	switch n := n.(type) {
	case *ast.StringNode:
		*w = word{n.Value, line}
	case *ast.LiteralNode:
		*w = word{n.Value.Value, line}
	default:
		return lineError(line, fmt.Errorf("%q is not text: put it in quotes", clip(n.String())))
	}
	return nil
}

func (v *number) UnmarshalYAML(n ast.Node) error {
	line := lineOf(n)
	if i, ok := n.(*ast.IntegerNode); ok {
		if x, err := strconv.ParseUint(i.GetToken().Value, 10, 63); err == nil {
			*v = number{x, line}
			return nil
		}
	}
	return lineError(line, fmt.Errorf("%q is not a whole number of decimal digits", clip(n.String())))
}

func (f *yesNo) UnmarshalYAML(n ast.Node) error {
	b, ok := n.(*ast.BoolNode)
	if !ok {
		return lineError(lineOf(n), fmt.Errorf("%q is neither true nor false", clip(n.String())))
	}
	f.value = b.Value
	return nil
}

func (a *addressDoc) UnmarshalYAML(n ast.Node) error {
	m, ok := n.(ast.MapNode)
	if !ok {
		return lineError(lineOf(n), errors.New("withdrawal_addresses is not a mapping of names to addresses"))
	}
	for it := m.MapRange(); it.Next(); {
		name, ok := it.Key().(*ast.StringNode)
		if !ok {
			return lineError(lineOf(it.Key()), fmt.Errorf("address name %q is not text: put it in quotes", clip(it.Key().String())))
		}
		var w word
		if err := w.UnmarshalYAML(it.Value()); err != nil {
			return err
		}
		*a = append(*a, namedWord{name.Value, w})
	}
	return nil
}

// NetworkYAML is a network as a settings file writes it (docs/formats/trust.md,
// Network parameters): the name of a known one, or the mapping of a custom
// one's parameters. Its Name is empty while the file has not named it.
type NetworkYAML struct{ eth.Network }

// UnmarshalYAML reads either form.
func (d *NetworkYAML) UnmarshalYAML(n ast.Node) error {
	if s, ok := n.(*ast.StringNode); ok {
		known, found := eth.LookupNetwork(s.Value)
		if !found {
			return lineError(lineOf(n), fmt.Errorf("unknown network %q: a custom one needs its parameters", clip(s.Value)))
		}
		d.Network = known
		return nil
	}
	var c customNet
	if err := yaml.NodeToValue(n, &c, yaml.Strict()); err != nil {
		return err
	}
	network, err := c.network()
	if err != nil {
		return lineError(lineOf(n), fmt.Errorf("network: %w", err))
	}
	d.Network = network
	return nil
}

func (c customNet) network() (eth.Network, error) {
	n := eth.Network{
		Name:           c.Name.value,
		Multiplier:     c.Multiplier.value,
		MinActivation:  eth.Gwei(c.MinActivation.value),
		MinDeposit:     eth.Gwei(c.MinDeposit.value),
		ChainID:        c.ChainID.value,
		GenesisTime:    int64(c.GenesisTime.value),
		SecondsPerSlot: c.SecondsPerSlot.value,
		SlotsPerEpoch:  c.SlotsPerEpoch.value,
		Mainnet:        c.Mainnet.value,
	}
	if err := n.GenesisForkVersion.UnmarshalText([]byte(c.GenesisForkVersion.value)); err != nil {
		return n, err
	}
	if err := n.ExitForkVersion.UnmarshalText([]byte(c.ExitForkVersion.value)); err != nil {
		return n, err
	}
	if c.GenesisValidatorsRoot.line != 0 {
		if err := n.GenesisValidatorsRoot.UnmarshalText([]byte(c.GenesisValidatorsRoot.value)); err != nil {
			return n, err
		}
		n.HasGenesisValidatorsRoot = true
	}
	if c.DepositContract.line != 0 {
		a, err := eth.ParseAddress(c.DepositContract.value)
		if err != nil {
			return n, err
		}
		n.DepositContract = a
	}
	return eth.NewNetwork(n)
}

// ParseTrust reads a trust file (docs/formats/trust.md). It is strict: an
// unknown or repeated key, a key without a value, more than one document, an
// anchor, alias or tag, or a value of another kind is refused, with its line.
// Every error is ErrFormat.
func ParseTrust(data []byte) (*Trust, error) {
	t, err := parseTrust(data)
	if err != nil {
		return nil, fmt.Errorf("%w: trust file: %w", ErrFormat, err)
	}
	return t, nil
}

func parseTrust(data []byte) (*Trust, error) {
	var doc trustDoc
	if err := DecodeYAML(data, &doc); err != nil {
		return nil, err
	}
	if doc.Version == nil || doc.Version.value != trustVersion {
		return nil, fmt.Errorf("no \"version: %d\", the one this program reads", trustVersion)
	}
	if doc.Network.Name == "" {
		return nil, errors.New("no network")
	}
	t := &Trust{Network: doc.Network.Network, Addresses: make(map[string]eth.Address, len(doc.Addresses))}
	for _, a := range doc.Addresses {
		if _, taken := t.Addresses[a.name]; taken {
			return nil, lineError(a.address.line, fmt.Errorf("address name %q twice", clip(a.name)))
		}
		address, err := eth.ParseAddress(a.address.value)
		if err != nil {
			return nil, lineError(a.address.line, fmt.Errorf("withdrawal address %q: %w", clip(a.name), err))
		}
		t.Addresses[a.name] = address
	}
	var err error
	if t.Keys, err = keysOf("certifying key", doc.Keys); err != nil {
		return nil, err
	}
	if t.Developers, err = keysOf("developer", doc.Developers); err != nil {
		return nil, err
	}
	if t.Managers, err = keysOf("release manager", doc.Managers); err != nil {
		return nil, err
	}
	if t.Approvers, err = keysOf("approver", doc.Approvers); err != nil {
		return nil, err
	}
	if n := doc.Threshold; n != nil {
		if n.value == 0 || n.value > uint64(len(t.Managers)) {
			return nil, lineError(n.line, fmt.Errorf("release_threshold is %d, and there are %d release managers", n.value, len(t.Managers)))
		}
		t.Threshold = int(n.value)
	}
	for _, r := range doc.Releases {
		rel := Release{Name: r.Name.value}
		for _, b := range r.Binaries {
			var h Hash
			if err := h.UnmarshalText([]byte(b.value)); err != nil {
				return nil, lineError(b.line, fmt.Errorf("release %q: %w", clip(r.Name.value), err))
			}
			rel.Binaries = append(rel.Binaries, h)
		}
		if err := rel.Settings.UnmarshalText([]byte(r.Settings.value)); err != nil {
			return nil, lineError(r.Settings.line, fmt.Errorf("release %q: settings: %w", clip(r.Name.value), err))
		}
		for _, h := range []struct {
			word word
			into *Hash
		}{{r.Package, &rel.Package}, {r.Review, &rel.Review}} {
			if h.word.line == 0 {
				continue
			}
			if err := h.into.UnmarshalText([]byte(h.word.value)); err != nil {
				return nil, lineError(h.word.line, fmt.Errorf("release %q: %w", clip(r.Name.value), err))
			}
		}
		rel.Commit = r.Commit.value
		if r.Statement.line != 0 {
			rel.Statement = []byte(r.Statement.value)
		}
		if n := r.Threshold; n != nil {
			if n.value == 0 || n.value > uint64(max(1, t.Threshold)) {
				return nil, lineError(n.line, fmt.Errorf("release %q: threshold is %d, and release_threshold %d: an entry may ask for fewer signatures, not for more or none", clip(r.Name.value), n.value, max(1, t.Threshold)))
			}
			rel.Threshold = int(n.value)
		}
		v, err := r.Validity.parse()
		if err != nil {
			return nil, err
		}
		rel.Validity = v
		t.Releases = append(t.Releases, rel)
	}
	return t, t.check()
}

func keysOf(what string, docs []keyDoc) (keys []TrustedKey, err error) {
	for _, k := range docs {
		key, err := ParsePublicKey(k.Key.value)
		if err != nil {
			return nil, lineError(k.Key.line, fmt.Errorf("%s %q: %w", what, clip(k.Name.value), err))
		}
		v, err := k.Validity.parse()
		if err != nil {
			return nil, err
		}
		keys = append(keys, TrustedKey{k.Name.value, key, v})
	}
	return keys, nil
}

func (v validityDoc) parse() (Validity, error) {
	from, err := v.NotBefore.time()
	if err != nil {
		return Validity{}, err
	}
	to, err := v.NotAfter.time()
	return Validity{from, to, v.Revoked.value}, err
}

// time reads RFC 3339, UTC, whole seconds, in its one spelling.
func (w word) time() (time.Time, error) {
	if w.line == 0 {
		return time.Time{}, nil
	}
	t, err := time.Parse(time.RFC3339, w.value)
	if err != nil || t.Format(time.RFC3339) != w.value || CheckTime(t) != nil {
		return time.Time{}, lineError(w.line, fmt.Errorf("time %q is not like 2026-01-31T00:00:00Z", clip(w.value)))
	}
	return t, nil
}

// DecodeYAML reads a settings file into a struct, as strictly as a trust file
// (docs/formats/trust.md, Strictness) except for the kinds of values, which
// are up to the struct's types. The error is one line.
func DecodeYAML(data []byte, into any) error {
	if len(data) > maxTrustFile {
		return fmt.Errorf("%d bytes, more than %d", len(data), maxTrustFile)
	}
	body, err := trustBody(data)
	if err != nil {
		return err
	}
	if err := yaml.NodeToValue(body, into, yaml.Strict()); err != nil {
		return yamlError(err)
	}
	return nil
}

// trustBody parses the YAML and refuses what the format does not need, and a
// reader of the file might not see.
func trustBody(data []byte) (ast.Node, error) {
	if err := shallow(data); err != nil {
		return nil, err
	}
	file, err := parser.ParseBytes(data, 0)
	if err != nil {
		return nil, yamlError(err)
	}
	if len(file.Docs) != 1 || file.Docs[0].Body == nil {
		return nil, errors.New("not exactly one YAML document")
	}
	body := file.Docs[0].Body
	if _, ok := body.(ast.MapNode); !ok {
		return nil, lineError(lineOf(body), errors.New("not a mapping of keys to values"))
	}
	v := &plainYAML{}
	ast.Walk(v, body)
	return body, v.err
}

// shallow bounds nesting before the parser recurses into it: only brackets
// nest without indentation, so counting them and the deepest indent is
// enough, and counting those in text and comments only errs to the safe side.
func shallow(data []byte) error {
	depth := 0
	for i, line := range bytes.Split(data, []byte("\n")) {
		for _, c := range line {
			switch c {
			case '[', '{':
				depth++
			case ']', '}':
				depth = max(0, depth-1)
			}
		}
		lead := len(line) - len(bytes.TrimLeft(line, " -?\t"))
		if depth > maxTrustDepth || lead > 8*maxTrustDepth {
			return lineError(i+1, errors.New("nested too deeply"))
		}
	}
	return nil
}

type plainYAML struct{ err error }

func (v *plainYAML) Visit(n ast.Node) ast.Visitor {
	if v.err != nil {
		return nil
	}
	what := ""
	switch n.(type) {
	case *ast.AnchorNode:
		what = "an anchor"
	case *ast.AliasNode:
		what = "an alias"
	case *ast.MergeKeyNode:
		what = "a merge key"
	case *ast.TagNode:
		what = "a tag"
	case *ast.DirectiveNode:
		what = "a directive"
	case *ast.NullNode:
		what = "an empty value"
	}
	if what != "" {
		v.err = lineError(lineOf(n), fmt.Errorf("%s is not allowed here", what))
		return nil
	}
	return v
}

// yamlError turns the library's error, which quotes the source over several
// lines, into one line.
func yamlError(err error) error {
	var y yaml.Error
	if !errors.As(err, &y) {
		return err
	}
	line := 0
	if t := y.GetToken(); t != nil && t.Position != nil {
		line = t.Position.Line
	}
	return lineError(line, errors.New(printable(clip(y.GetMessage()))))
}

// printable keeps the library, which quotes the file raw, from passing the
// file's terminal escapes on.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < 0x20 || r > 0x7e {
			return '?'
		}
		return r
	}, s)
}
