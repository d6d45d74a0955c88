package slashing

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"

	"github.com/stakeseal/stakeseal/eth"
)

// Version is the interchange format that is read and written (EIP-3076).
const Version = "5"

// maxInterchange bounds a file, bytes: a hundred thousand validators with
// long histories.
const maxInterchange = 1 << 30

// ErrInterchange says that a file cannot be imported. Nothing of it may be
// taken.
var ErrInterchange = errors.New("not a usable slashing-protection file")

type file struct {
	Metadata struct {
		Version               string   `json:"interchange_format_version"`
		GenesisValidatorsRoot eth.Root `json:"genesis_validators_root"`
	} `json:"metadata"`
	Data []history `json:"data"`
}

type history struct {
	Pubkey       eth.Pubkey    `json:"pubkey"`
	Blocks       []block       `json:"signed_blocks"`
	Attestations []attestation `json:"signed_attestations"`
}

type block struct {
	Slot number    `json:"slot"`
	Root *eth.Root `json:"signing_root,omitempty"`
}

type attestation struct {
	Source number    `json:"source_epoch"`
	Target number    `json:"target_epoch"`
	Root   *eth.Root `json:"signing_root,omitempty"`
}

// told is file as it is read: pointers tell what was left out, which the
// format's schema does not allow, from what is empty or zero. An entry without
// its list of attestations would read as a key that never signed one, and whose
// history that is all.
type told struct {
	Metadata struct {
		Version               string   `json:"interchange_format_version"`
		GenesisValidatorsRoot eth.Root `json:"genesis_validators_root"`
	} `json:"metadata"`
	Data *[]struct {
		Pubkey *eth.Pubkey `json:"pubkey"`
		Blocks *[]struct {
			Slot *number `json:"slot"`
		} `json:"signed_blocks"`
		Attestations *[]struct {
			Source *number `json:"source_epoch"`
			Target *number `json:"target_epoch"`
		} `json:"signed_attestations"`
	} `json:"data"`
}

// number is a uint64 as a decimal string, as the format writes it.
type number uint64

func (n number) MarshalText() ([]byte, error) { return strconv.AppendUint(nil, uint64(n), 10), nil }

func (n *number) UnmarshalText(b []byte) error {
	v, err := strconv.ParseUint(string(b), 10, 64)
	*n = number(v)
	return err
}

// Read reads an interchange file, complete or minimal, for a network with
// this genesis validators root, and returns a mark for every pubkey in it, by
// pubkey. A key that occurs twice gets the higher of both. Roots in the file
// are not kept: after an import nothing old is signed again. A file of
// another network is refused whole: its histories say nothing about this one.
func Read(r io.Reader, genesisValidatorsRoot eth.Root) ([]Mark, error) {
	data, err := io.ReadAll(io.LimitReader(r, maxInterchange+1))
	if err != nil {
		return nil, fmt.Errorf("couldn't read the slashing-protection file: %w", err)
	}
	if len(data) > maxInterchange {
		return nil, fmt.Errorf("%w: it is larger than %d bytes", ErrInterchange, maxInterchange)
	}
	decoder := json.NewDecoder(bytes.NewReader(data))
	var f told
	if err := decoder.Decode(&f); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInterchange, err)
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("%w: something follows its end", ErrInterchange)
	}
	if f.Metadata.Version != Version {
		return nil, fmt.Errorf("%w: its format is version %q, not %q", ErrInterchange, f.Metadata.Version, Version)
	}
	if f.Metadata.GenesisValidatorsRoot != genesisValidatorsRoot {
		return nil, fmt.Errorf("%w: it is of the network with genesis validators root %v, not %v", ErrInterchange, f.Metadata.GenesisValidatorsRoot, genesisValidatorsRoot)
	}
	if f.Data == nil {
		return nil, fmt.Errorf("%w: it has no data", ErrInterchange)
	}
	marks := map[eth.Pubkey]Mark{}
	for i, h := range *f.Data {
		if h.Pubkey == nil || h.Blocks == nil || h.Attestations == nil {
			return nil, fmt.Errorf("%w: entry %d lacks its pubkey, signed_blocks or signed_attestations", ErrInterchange, i)
		}
		m := marks[*h.Pubkey]
		m.Pubkey = *h.Pubkey
		for _, b := range *h.Blocks {
			if b.Slot == nil {
				return nil, fmt.Errorf("%w: a block of %v has no slot", ErrInterchange, m.Pubkey)
			}
			m = m.Raise(Mark{Block: true, Slot: uint64(*b.Slot)})
		}
		for _, a := range *h.Attestations {
			if a.Source == nil || a.Target == nil {
				return nil, fmt.Errorf("%w: an attestation of %v has no source_epoch or target_epoch", ErrInterchange, m.Pubkey)
			}
			if *a.Source > *a.Target {
				return nil, fmt.Errorf("%w: an attestation of %v has source %d after target %d", ErrInterchange, m.Pubkey, *a.Source, *a.Target)
			}
			m = m.Raise(Mark{Attestation: true, Source: uint64(*a.Source), Target: uint64(*a.Target)})
		}
		marks[m.Pubkey] = m
	}
	out := slices.Collect(maps.Values(marks))
	slices.SortFunc(out, func(a, b Mark) int { return bytes.Compare(a.Pubkey[:], b.Pubkey[:]) })
	return out, nil
}

// Write writes marks as a minimal interchange file: at most one block and one
// attestation for each pubkey. A key that has signed nothing is listed with
// empty lists: to an importer a key without an entry is one that it was told
// nothing about.
func Write(w io.Writer, genesisValidatorsRoot eth.Root, marks []Mark) error {
	f := file{Data: make([]history, len(marks))}
	f.Metadata.Version, f.Metadata.GenesisValidatorsRoot = Version, genesisValidatorsRoot
	for i, m := range marks {
		h := history{Pubkey: m.Pubkey, Blocks: []block{}, Attestations: []attestation{}}
		if m.Block {
			h.Blocks = append(h.Blocks, block{number(m.Slot), known(m.BlockRoot)})
		}
		if m.Attestation {
			h.Attestations = append(h.Attestations, attestation{number(m.Source), number(m.Target), known(m.Root)})
		}
		f.Data[i] = h
	}
	if err := json.NewEncoder(w).Encode(f); err != nil {
		return fmt.Errorf("couldn't write the slashing-protection file: %w", err)
	}
	return nil
}

func known(r eth.Root) *eth.Root {
	if r == (eth.Root{}) {
		return nil
	}
	return &r
}
