package certificate

import (
	"bytes"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/stakeseal/stakeseal/eth"
)

const trustHeader = `# What this verifier believes: the network, where stake may be withdrawn to,
# which keys may certify births, and which releases may make keys.
# Keep it yourself. Never fill it from a certificate, a package or a stack that
# it is meant to judge; compare each entry with its owner over another channel.
`

// FormatTrust writes a trust file with comments. The same Trust gives the
// same bytes, and ParseTrust reads them back as the same Trust; one that
// could not be is an error.
func FormatTrust(t Trust) ([]byte, error) {
	if err := t.Check(); err != nil {
		return nil, err
	}
	out := formatTrust(t)
	back, err := ParseTrust(out)
	if err != nil {
		return nil, fmt.Errorf("couldn't format trust file: %w", err)
	}
	// Known networks are written by name only: a Trust that says "hoodi" with
	// parameters of its own would come back as the real one.
	if back.Network != t.Network || !bytes.Equal(formatTrust(*back), out) {
		return nil, fmt.Errorf("%w: trust: network %q has other parameters than the known one", ErrFormat, t.Network.Name)
	}
	return out, nil
}

func formatTrust(t Trust) []byte {
	var b bytes.Buffer
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	b.WriteString(trustHeader)
	line("version: %d", trustVersion)
	formatNetwork(line, t.Network)
	line("")
	line("# Withdrawal addresses by name, with their EIP-55 checksum.")
	line("withdrawal_addresses:")
	for _, name := range slices.Sorted(maps.Keys(t.Addresses)) {
		line("  %s: %q", scalar(name), t.Addresses[name].String())
	}
	line("")
	line("# Keys that may certify births: ed25519:BASE64, or PEM (Ed25519, P-256).")
	line("# not_after retires a key: what it certified until then stays good.")
	line("# revoked: true is for a key that may have been stolen: nothing it ever")
	line("# certified is believed, since a thief can write any date.")
	line("certifying_keys:")
	formatKeys(line, t.Keys)
	line("")
	if len(t.Developers) > 0 {
		line("# Those who may submit a package for release.")
		line("developers:")
		formatKeys(line, t.Developers)
		line("")
	}
	if len(t.Managers) > 0 {
		line("# Those who may review and sign releases, and how many of them each needs.")
		line("# With them, a release below that they did not sign is refused.")
		line("release_managers:")
		formatKeys(line, t.Managers)
		if t.Threshold != 0 {
			line("release_threshold: %d", t.Threshold)
		}
		line("")
	}
	if len(t.Approvers) > 0 {
		line("# Those who may approve further withdrawal addresses: a birth to one carries")
		line("# their approval.")
		line("approvers:")
		formatKeys(line, t.Approvers)
		line("")
	}
	line("# Releases of the generator that may make keys. With none, the program that")
	line("# made a key is not judged at all.")
	if len(t.Releases) == 0 {
		line("releases: []")
		return b.Bytes()
	}
	line("releases:")
	for _, r := range t.Releases {
		formatRelease(line, r)
	}
	return b.Bytes()
}

func formatRelease(line func(string, ...any), r Release) {
	line("  - name: %s", scalar(r.Name))
	line("    binary_sha256:")
	for _, h := range r.Binaries {
		line("      - %q", h.String())
	}
	line("    settings_sha256: %q", r.Settings.String())
	formatValidity(line, r.Validity)
	if !r.Package.IsZero() {
		line("    package_sha256: %q", r.Package.String())
	}
	if !r.Review.IsZero() {
		line("    review_sha256: %q", r.Review.String())
	}
	if r.Commit != "" {
		line("    commit: %q", r.Commit)
	}
	if len(r.Statement) > 0 {
		line("    statement: '%s'", r.Statement)
	}
	if r.Threshold != 0 {
		line("    threshold: %d", r.Threshold)
	}
}

// FormatRelease is a release as it stands in the list of a trust file, for
// people who keep theirs by hand.
func FormatRelease(r Release) []byte {
	var b bytes.Buffer
	formatRelease(func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }, r)
	return b.Bytes()
}

func formatKeys(line func(string, ...any), keys []TrustedKey) {
	for _, k := range keys {
		line("  - name: %s", scalar(k.Name))
		line("    # key id %s", k.Key.ID())
		if text := k.Key.String(); strings.Contains(text, "\n") {
			line("    key: |")
			for l := range strings.Lines(text) {
				line("      %s", strings.TrimSuffix(l, "\n"))
			}
		} else {
			line("    key: %q", text)
		}
		formatValidity(line, k.Validity)
	}
}

func formatValidity(line func(string, ...any), v Validity) {
	if !v.NotBefore.IsZero() {
		line("    not_before: %s", v.NotBefore.Format(time.RFC3339))
	}
	if !v.NotAfter.IsZero() {
		line("    not_after: %s", v.NotAfter.Format(time.RFC3339))
	}
	if v.Revoked {
		line("    revoked: true")
	}
}

func formatNetwork(line func(string, ...any), n eth.Network) {
	if _, known := eth.LookupNetwork(n.Name); known {
		line("network: %s", n.Name)
		return
	}
	line("network:")
	line("  name: %q", n.Name)
	line("  genesis_fork_version: %q", n.GenesisForkVersion.String())
	line("  exit_fork_version: %q", n.ExitForkVersion.String())
	if n.HasGenesisValidatorsRoot {
		line("  genesis_validators_root: %q", n.GenesisValidatorsRoot.String())
	}
	line("  multiplier: %d", n.Multiplier)
	line("  min_activation_gwei: %d", uint64(n.MinActivation))
	line("  min_deposit_gwei: %d", uint64(n.MinDeposit))
	if n.DepositContract != (eth.Address{}) {
		line("  deposit_contract: %q", n.DepositContract.String())
	}
	for _, f := range []struct {
		name  string
		value uint64
	}{
		{"chain_id", n.ChainID}, {"genesis_time", uint64(n.GenesisTime)},
		{"seconds_per_slot", n.SecondsPerSlot}, {"slots_per_epoch", n.SlotsPerEpoch},
	} {
		if f.value != 0 {
			line("  %s: %d", f.name, f.value)
		}
	}
	if n.Mainnet {
		line("  mainnet: true # real money")
	}
}

var bareWord = regexp.MustCompile(`^[a-z]+[0-9]*(-[a-z0-9]+)+$`)

// scalar leaves only words bare that no YAML reads as anything but text: they
// hold a hyphen, and YAML's own words do not.
func scalar(s string) string {
	if bareWord.MatchString(s) {
		return s
	}
	return strconv.Quote(s)
}
