package release

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"

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
		r.SettingsMissing = visible(err.Error())
		r.attend(Danger, "The settings cannot be sealed to: %s.", err)
		return nil
	}
	var before []settingRow
	if in.Base != nil {
		if before, err = settingRows(in.Base.Settings); err != nil {
			r.SettingsMissing = visible(err.Error())
			r.attend(Danger, "The settings of the release in force cannot be read: %s.", err)
			return nil
		}
	}
	r.Settings = beside(before, after)
	if in.Base == nil { // all is new, and nothing changed
		for i, s := range r.Settings {
			r.Settings[i] = Setting{Name: s.Name, After: s.After}
		}
		return nil
	}
	changes := 0
	for i, s := range r.Settings {
		if s.Change != "" {
			changes++
		}
		switch s.Change {
		case "added":
			r.attend(s.Weight, "Settings: %s is new: %s (%s).", s.Name, Shown(s.After), after[i].grave)
		case "changed":
			r.attend(s.Weight, "Settings: %s changed from %s to %s (%s).", s.Name, Shown(s.Before), Shown(s.After), after[i].grave)
		case "removed":
			r.attend(s.Weight, "Settings: %s is gone: %s.", s.Name, Shown(s.Before))
		}
	}
	files := p.settingsFiles()
	for _, name := range sortedKeys(files) {
		if old, there := in.Base.Files[name]; there && !bytes.Equal(old, files[name]) && changes == 0 {
			r.attend(Note, "%s was rewritten without a change of any setting (comments, spaces).", name)
		}
	}
	return nil
}

// beside puts settings beside those before, by their names: first those of
// after, each in its place, then those that are gone.
func beside(before, after []settingRow) []Setting {
	was := map[string]settingRow{}
	for _, row := range before {
		was[row.name] = row
	}
	list := []Setting{}
	for _, row := range after {
		s := Setting{Name: row.name, Before: was[row.name].value, After: row.value}
		if old, there := was[row.name]; !there {
			s.Change, s.Weight = "added", row.weight
		} else if old.value != row.value {
			s.Change, s.Weight = "changed", row.weight
		}
		delete(was, row.name)
		list = append(list, s)
	}
	for _, row := range before {
		if _, gone := was[row.name]; gone {
			list = append(list, Setting{Name: row.name, Before: row.value, Change: "removed", Weight: row.weight})
		}
	}
	return list
}

// Shown is a setting's value as a person compares it. A long key is shown by
// its digest: its beginning would not do, since somebody can make keys until
// that matches.
func Shown(value string) string {
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
