package release

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"strings"

	"github.com/stakeseal/stakeseal/internal/aws/awskms"
	"github.com/stakeseal/stakeseal/internal/config"
	"github.com/stakeseal/stakeseal/seal"
)

// settingRow is one setting as a person compares it: a name that stays, and
// its value as text.
type settingRow struct {
	name, value string
	weight      string // of a change
	grave       string // what a change of it means
}

// parseRecipient reads a recipient file of any kind that a generator knows. A
// KMS key is only named here.
func parseRecipient(file []byte) (seal.Recipient, error) {
	return awskms.ParseRecipientFile(file, nil)
}

// settingRows spells the settings out. Each recipient and address is a row of
// its own, by its name, so that a swapped key under an old name stands out.
func settingRows(g *config.Generator) ([]settingRow, error) {
	var rows []settingRow
	add := func(weight, name, value, grave string) {
		rows = append(rows, settingRow{name, value, weight, grave})
	}
	network := g.Network
	add(Danger, "network", fmt.Sprintf("%s (parameters %x)", network.Name, sha8(network.Digest())), "keys for another network")
	for _, name := range sortedKeys(g.Addresses) {
		add(Danger, "withdrawal address "+name, g.Addresses[name].String(), "stake and rewards go to it")
	}
	for _, approver := range approvers(g) {
		add(Danger, "approver "+approver, "allowed", "who holds that key may add withdrawal addresses without a release")
	}
	signing, recovery, err := g.SealTo(parseRecipient)
	if err != nil {
		return nil, err
	}
	for _, list := range []struct {
		purpose string
		to      *seal.Recipients
		grave   string
	}{{"signing", signing, "who holds its identity opens signing keys"}, {"recovery", recovery, "who holds its identity opens mnemonics"}} {
		for _, n := range list.to.Names() {
			add(Danger, list.purpose+" recipient "+n.Name, n.Recipient.String(), list.grave)
		}
	}
	add(Danger, "certifier", g.Certifier.String(), "another key certifies births")
	add(Danger, "store", g.Store.String(), "records go elsewhere")
	add(Danger, "archive", g.Archive.String(), "the second copy goes elsewhere")
	add(Look, "max_validators_per_order", fmt.Sprint(g.MaxPerOrder), "one order may make more, or fewer")
	add(Look, "keystore", g.Keystore, "another form of keystore")
	return rows, nil
}

func sha8(d [32]byte) []byte { return d[:8] }

// settings compares them side by side.
func (r *Report) settings(_ context.Context, p *Package, in Inspection) error {
	r.Settings = []Setting{}
	after, err := settingRows(p.Settings)
	if err != nil {
		r.attend(Danger, "The settings cannot be sealed to: %s.", err)
		return nil
	}
	var before []settingRow
	if in.Base != nil {
		if before, err = settingRows(in.Base.Settings); err != nil {
			r.attend(Danger, "The settings of the release in force cannot be read: %s.", err)
			return nil
		}
	}
	was := map[string]settingRow{}
	for _, row := range before {
		was[row.name] = row
	}
	is := map[string]bool{}
	for _, row := range after {
		is[row.name] = true
		old, there := was[row.name]
		s := Setting{Name: row.name, Before: old.value, After: row.value}
		switch {
		case in.Base == nil:
		case !there:
			s.Change, s.Weight = "added", row.weight
			r.attend(row.weight, "Settings: %s is new: %s (%s).", row.name, shown(row.value), row.grave)
		case old.value != row.value:
			s.Change, s.Weight = "changed", row.weight
			r.attend(row.weight, "Settings: %s changed from %s to %s (%s).", row.name, shown(old.value), shown(row.value), row.grave)
		}
		r.Settings = append(r.Settings, s)
	}
	for _, row := range before {
		if !is[row.name] {
			r.Settings = append(r.Settings, Setting{row.name, row.value, "", "removed", row.weight})
			r.attend(row.weight, "Settings: %s is gone: %s.", row.name, shown(row.value))
		}
	}
	if in.Base != nil {
		for name, data := range p.SettingsFiles() {
			if old, there := in.Base.Files[name]; there && !bytes.Equal(old, data) && len(changedRows(r.Settings)) == 0 {
				r.attend(Note, "%s was rewritten without a change of any setting (comments, spaces).", name)
			}
		}
	}
	return nil
}

func changedRows(rows []Setting) (out []Setting) {
	for _, s := range rows {
		if s.Change != "" {
			out = append(out, s)
		}
	}
	return out
}

// shown keeps a long key readable and comparable: its beginning would not do,
// since somebody can make keys until that matches.
func shown(value string) string {
	if len(value) <= 100 {
		return value
	}
	return fmt.Sprintf("%s.. (sha256 %x)", value[:12], sha256.Sum256([]byte(value)))
}

// approvers are the keys that may approve further addresses.
func approvers(g *config.Generator) (keys []string) {
	for _, k := range g.Approvers {
		keys = append(keys, k.Key.String())
	}
	return keys
}

// modules compares what the programs hold.
func (r *Report) modules(ctx context.Context, p *Package, in Inspection) error {
	r.Modules = []ModuleChange{}
	was := map[string]Module{}
	if in.Base != nil {
		for _, m := range in.Base.Provenance.Modules {
			was[m.Path] = m
		}
		if a, b := in.Base.Provenance.Toolchain, p.Provenance.Toolchain; a != b {
			r.attend(Look, "Go changed from %s to %s.", a, b)
		}
		if a, b := in.Base.Provenance.Compiler.Version, p.Provenance.Compiler.Version; a != b {
			r.attend(Look, "The C compiler changed from %q to %q.", a, b)
		}
	}
	is := map[string]bool{}
	for _, m := range p.Provenance.Modules {
		is[m.Path] = true
		c := ModuleChange{Path: m.Path, After: &m}
		old, there := was[m.Path]
		if there {
			c.Before = &old
		}
		switch {
		case in.Base == nil:
		case !there:
			c.Change = "added"
			r.attend(Danger, "New module %s %s (%s): its code runs where keys are made.", m.Path, m.Version, m.Sum)
		case old.Version == m.Version && old.Replace == m.Replace && old.Sum != m.Sum:
			c.Change = "changed"
			r.attend(Danger, "Module %s %s has other content under the same version: %s, before %s. A version never changes: somebody replaced it.", m.Path, m.Version, m.Sum, old.Sum)
		case old != m:
			c.Change = "changed"
			r.attend(Danger, "Module %s changed from %s to %s (%s): its code runs where keys are made.", m.Path, old.Version, m.Version, m.Sum)
		}
		if m.Replace != "" {
			r.attend(Danger, "Module %s is replaced by %s (%s).", m.Path, m.Replace, m.Sum)
		}
		r.Modules = append(r.Modules, c)
	}
	for _, m := range sortedKeys(was) {
		if !is[m] {
			old := was[m]
			r.Modules = append(r.Modules, ModuleChange{Path: m, Before: &old, Change: "removed"})
			r.attend(Look, "Module %s %s is gone.", m, old.Version)
		}
	}
	for i := range r.Modules {
		if c := &r.Modules[i]; c.Change == "changed" || c.Change == "added" {
			c.readSource(ctx)
		}
	}
	return nil
}

// linesOf counts the lines of a difference.
func linesOf(diff string) (added, removed int) {
	for line := range strings.SplitSeq(diff, "\n") {
		switch {
		case strings.HasPrefix(line, "+++ "), strings.HasPrefix(line, "--- "):
		case strings.HasPrefix(line, "+"):
			added++
		case strings.HasPrefix(line, "-"):
			removed++
		}
	}
	return added, removed
}
