package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/stakeseal/stakeseal/birth"
	"github.com/stakeseal/stakeseal/deposit"
	"github.com/stakeseal/stakeseal/eth"
	"github.com/stakeseal/stakeseal/record"
)

// showImported shows what is known of an imported key, and says what is not.
func (a *app) showImported(ctx context.Context, h *home, c chosen) error {
	i, foreignErr := h.foreign(ctx, c.Pubkey)
	if foreignErr != nil && i.Pubkey != c.Pubkey {
		return foreignErr // there is nothing to show
	}
	history, err := h.history(ctx, c)
	if err != nil {
		return err
	}
	verdict := "the same in the archive"
	if foreignErr != nil {
		verdict = "REFUSED: " + foreignErr.Error()
	}
	if a.json {
		err = a.object(struct {
			importedJSON
			Sealing     record.Sealing `json:"sealing"`
			Certificate *jsonRaw       `json:"certificate"` // null
			Verdict     string         `json:"certificate_verdict"`
			Record      string         `json:"record_verdict"`
			Events      []record.Event `json:"events"`
		}{c.importedJSON(), i.Sealing, nil, "none: it was " + foreignWords, verdict, history})
	} else {
		err = a.tableImported(h, c, i, verdict, history)
	}
	if err != nil {
		return err
	}
	if foreignErr != nil {
		return fmt.Errorf("the import of %v: %w", c.Pubkey, foreignErr)
	}
	return nil
}

func (a *app) tableImported(h *home, c chosen, i record.Import, verdict string, history []record.Event) error {
	known := func(s string) string { return cmp.Or(s, "not known") }
	n := h.generator.Network
	t := newTable(a.out)
	t.row("pubkey", c.Pubkey.String())
	t.row("", foreignWords)
	t.row("path", known(i.Path))
	withdrawals, credentials := "not known", "not known"
	if i.Credentials != (eth.Credentials{}) {
		credentials, withdrawals = i.Credentials.String(), "a BLS withdrawal key (0x00)"
		if address, ok := i.Credentials.Address(); ok {
			name, named := h.generator.AddressName(address)
			if !named {
				name = "not one of this home's addresses"
			}
			withdrawals = fmt.Sprintf("%v (%s)", address, name)
		}
	}
	t.row("withdrawals to", withdrawals)
	t.row("credentials", credentials)
	for k, d := range i.Deposits {
		t.row(fmt.Sprintf("deposit %d", k+1), fmt.Sprintf("%s, data root %v", deposit.Coins(n, d.Amount), d.DataRoot))
	}
	t.row("mnemonic", known(i.Mnemonic))
	for _, r := range i.Sealing.Recipients {
		t.row("sealed to", r.Name+"  "+keyText(r.Key))
	}
	t.row("imported", i.Created.Format(time.RFC3339)+" by "+i.Importer)
	t.row("from", i.Source.Kind+", "+i.Source.Place)
	if len(i.Source.Detail) > 0 {
		t.row("  there", sortedPairs(i.Source.Detail))
	}
	t.row("certificate", "none")
	t.row("record", verdict)
	t.row("signer", orDash(c.Signer))
	for _, e := range history {
		t.row("event", fmt.Sprintf("%s  %s by %s  %s", e.Time.Format(time.RFC3339), e.Kind, e.Actor, sortedPairs(e.Detail)))
	}
	return t.flush()
}

// examineImports is the doctor's look at imported keys: each record against
// the archive's copy, each with its mnemonic, and whether recovery was drilled.
func (a *app) examineImports(ctx context.Context, h *home, r *report) error {
	const name = "imported keys"
	const tampered = "do not use it; compare with the bundles and another copy"
	mnemonics, err := h.foreignMnemonics(ctx)
	if err != nil {
		if ctx.Err() != nil {
			return err
		}
		r.wrong(name, tampered, "%v", err)
		return nil
	}
	all, wordless, bad := 0, 0, 0
	for i, err := range h.records.Imported(ctx, "") {
		if err != nil {
			if ctx.Err() != nil {
				return err
			}
			r.wrong(name, tampered, "%v", err)
			return nil
		}
		all++
		if i.Mnemonic == "" {
			wordless++
		}
		_, err := h.foreign(ctx, i.Pubkey)
		if _, there := mnemonics[i.Mnemonic]; err == nil && !there && i.Mnemonic != "" {
			err = fmt.Errorf("%w: the mnemonic %s of the import of %v is missing", birth.ErrTampered, i.Mnemonic, i.Pubkey)
		}
		if err != nil {
			if ctx.Err() != nil {
				return err
			}
			if bad++; bad <= 5 {
				r.wrong(name, tampered, "%v", err)
			}
		}
	}
	switch {
	case all == 0 && len(mnemonics) == 0:
		return nil
	case bad > 5:
		r.wrong(name, "", "and %d more", bad-5)
	case bad == 0:
		r.ok(name, "%d, of %d mnemonics: store and archive agree", all, len(mnemonics))
	}
	r.warn(name, "treat them as you treated them where they come from; replace them by keys that are born here where you can", "%d have no birth certificate: %s", all, foreignWords)
	if wordless > 0 {
		r.warn(name, "keep what recovers them where it is", "%d came without a mnemonic: no recovery identity gets them back", wordless)
	}
	if len(mnemonics) > 0 {
		drilled, err := h.importsDrilled(ctx, all-wordless)
		if err != nil {
			return err
		}
		if !drilled {
			r.warn(name, "stakeseal recovery drill"+a.homeWords(h)+" --order "+record.ImportedOrder+" --identity FILE", "recovery of those that have a mnemonic was never drilled")
		}
	}
	return nil
}

// importsDrilled says whether a drill covered as many imported keys as there
// are now.
func (h *home) importsDrilled(ctx context.Context, keys int) (bool, error) {
	for e, err := range h.records.Events(ctx, record.EventQuery{Order: record.ImportedOrder, Kind: "drilled"}) {
		if err != nil {
			return false, err
		}
		if e.Detail["validators"] == fmt.Sprint(keys) {
			return true, nil
		}
	}
	return false, nil
}

// refillImports takes the imports of an archive folder into a store that is
// rebuilt: the mnemonics first, which the keys name.
func (a *app) refillImports(ctx context.Context, h *home, bundles string) (keys int, err error) {
	folder := filepath.Dir(record.ImportedMnemonicObject("x"))
	entries, err := os.ReadDir(filepath.Join(bundles, folder))
	if errors.Is(err, os.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("couldn't list the archive: %w", err)
	}
	for _, mnemonics := range []bool{true, false} {
		for _, e := range entries {
			id, isObject := strings.CutSuffix(e.Name(), ".json")
			if strings.HasPrefix(e.Name(), "~") || strings.HasPrefix(id, "m-") != mnemonics {
				continue // unfinished, or the other pass's
			}
			if !isObject || e.IsDir() {
				return keys, fmt.Errorf("%w: the archive holds %s/%.100q", birth.ErrTampered, folder, e.Name())
			}
			object, err := h.archive.Get(ctx, folder+"/"+e.Name())
			if err != nil {
				return keys, err
			}
			if mnemonics {
				err = refillWords(ctx, h.records, id, object)
			} else if err = refillKey(ctx, h.records, id, object); err == nil {
				keys++
			}
			if err != nil {
				return keys, fmt.Errorf("%s/%s: %w", folder, e.Name(), err)
			}
		}
	}
	if keys == 0 {
		return 0, nil
	}
	return keys, h.note(ctx, record.Event{Time: record.Time(a.now()), Kind: "imported", Order: record.ImportedOrder, Detail: map[string]string{"from": "archive"}})
}

func refillWords(ctx context.Context, imports record.Imports, id string, object []byte) error {
	m, err := record.DecodeImportedMnemonic(object)
	if err != nil {
		return err
	}
	if m.ID != id {
		return fmt.Errorf("%w: it is mnemonic %s", birth.ErrTampered, m.ID)
	}
	return imports.PutImportedMnemonic(ctx, m)
}

func refillKey(ctx context.Context, imports record.Imports, id string, object []byte) error {
	i, err := record.DecodeImport(object)
	if err != nil {
		return err
	}
	if i.Pubkey.Hex() != id {
		return fmt.Errorf("%w: it is the import of %v", birth.ErrTampered, i.Pubkey)
	}
	return imports.PutImport(ctx, i)
}
