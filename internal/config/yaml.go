// Package config reads the settings files: generator.yaml, what the maker
// obeys, and home.yaml, what this operator uses. It parses them to plain
// values and references; what a reference such as "sqlite:records.db" means
// is decided by each program's own wiring.
//
// Reading is strict: an unknown or repeated key is an error, and everything
// is validated before any key exists. Files are read once, and digests are of
// the very bytes that were parsed.
package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/goccy/go-yaml"

	"github.com/stakeseal/stakeseal/eth"
)

// maxFile bounds a settings or recipient file, bytes.
const maxFile = 1 << 20

// ErrSettings says that a settings file cannot be used as it is.
var ErrSettings = errors.New("bad settings")

func decodeStrict(name string, data []byte, into any) error {
	decoder := yaml.NewDecoder(bytes.NewReader(data), yaml.Strict(), yaml.DisallowUnknownField())
	if err := decoder.Decode(into); err != nil {
		if errors.Is(err, io.EOF) {
			return fmt.Errorf("%w: %s is empty", ErrSettings, name)
		}
		return fmt.Errorf("%w: %s: %s", ErrSettings, name, strings.TrimSpace(yaml.FormatError(err, false, false)))
	}
	var more any
	if err := decoder.Decode(&more); !errors.Is(err, io.EOF) {
		return fmt.Errorf("%w: %s holds more than one document", ErrSettings, name)
	}
	return nil
}

// Network is a network in a settings file: the name of a known one, or the
// parameters of a custom one.
type Network struct{ eth.Network }

type customNetwork struct {
	Name                  string   `yaml:"name"`
	GenesisForkVersion    string   `yaml:"genesis_fork_version"`
	ExitForkVersion       string   `yaml:"exit_fork_version"`
	GenesisValidatorsRoot string   `yaml:"genesis_validators_root"`
	DepositContract       string   `yaml:"deposit_contract"`
	Multiplier            uint64   `yaml:"multiplier"`
	MinActivationGwei     eth.Gwei `yaml:"min_activation_gwei"`
	MinDepositGwei        eth.Gwei `yaml:"min_deposit_gwei"`
	ChainID               uint64   `yaml:"chain_id"`
}

// UnmarshalYAML reads either form.
func (n *Network) UnmarshalYAML(unmarshal func(any) error) error {
	var name string
	if err := unmarshal(&name); err == nil {
		known, ok := eth.LookupNetwork(name)
		if !ok {
			return fmt.Errorf("unknown network %q (known: %s)", name, strings.Join(NetworkNames(), ", "))
		}
		n.Network = known
		return nil
	}
	var c customNetwork
	if err := unmarshal(&c); err != nil {
		return err
	}
	custom := eth.Network{Name: c.Name, Multiplier: c.Multiplier, MinActivation: c.MinActivationGwei,
		MinDeposit: c.MinDepositGwei, ChainID: c.ChainID}
	if err := custom.GenesisForkVersion.UnmarshalText([]byte(c.GenesisForkVersion)); err != nil {
		return fmt.Errorf("genesis_fork_version: %w", err)
	}
	if err := custom.ExitForkVersion.UnmarshalText([]byte(c.ExitForkVersion)); err != nil {
		return fmt.Errorf("exit_fork_version: %w", err)
	}
	if c.GenesisValidatorsRoot != "" {
		if err := custom.GenesisValidatorsRoot.UnmarshalText([]byte(c.GenesisValidatorsRoot)); err != nil {
			return fmt.Errorf("genesis_validators_root: %w", err)
		}
		custom.HasGenesisValidatorsRoot = true
	}
	if c.DepositContract != "" {
		a, err := eth.ParseAddress(c.DepositContract)
		if err != nil {
			return fmt.Errorf("deposit_contract: %w", err)
		}
		custom.DepositContract = a
	}
	made, err := eth.NewNetwork(custom)
	if err != nil {
		return err
	}
	n.Network = made
	return nil
}

// NetworkNames lists the known networks.
func NetworkNames() []string {
	var names []string
	for _, n := range eth.Networks() {
		names = append(names, n.Name)
	}
	return names
}
