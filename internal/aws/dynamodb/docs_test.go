package dynamodb

import (
	"errors"
	"fmt"
	"os"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stakeseal/stakeseal/eth"
	create "github.com/stakeseal/stakeseal/internal/aws/dynamodb/tables"
	"github.com/stakeseal/stakeseal/record"
	"github.com/stakeseal/stakeseal/record/recordtest"
	"github.com/stakeseal/stakeseal/slashing"
	"github.com/stakeseal/stakeseal/slashing/slashingtest"
)

func page(t testing.TB) string {
	t.Helper()
	data, err := os.ReadFile("../../../docs/formats/dynamodb.md")
	must(t, err)
	return string(data)
}

// line returns the cells of the page's one row that begins with `first`.
func line(t testing.TB, page, first string) []string {
	t.Helper()
	found := regexp.MustCompile("(?m)^\\| `"+regexp.QuoteMeta(first)+"` \\|(.*)\\|$").FindAllStringSubmatch(page, -1)
	if len(found) != 1 {
		t.Fatalf("the page has %d rows for %q", len(found), first)
	}
	cells := strings.Split(found[0][1], "|")
	for i := range cells {
		cells[i] = strings.TrimSpace(cells[i])
	}
	return cells
}

// TestActions holds each method to the page: the actions on each table that a
// policy has to allow, and no other. What a role is granted follows from it.
func TestActions(t *testing.T) {
	text := page(t)
	o := recordtest.Order("o1", 3)
	m := recordtest.Mnemonic(o, "m1")
	b := recordtest.Birth(o, m, 0, "")
	once := note
	once.Once = "once"
	var opened *Ledger
	onLedger := func(f func(*Ledger) error) func(*Store) error {
		return func(s *Store) error {
			var err error
			if opened, err = s.OpenLedger(ctx, "signer-a"); err != nil {
				return err
			}
			return f(opened)
		}
	}
	admission := []slashing.Admission{{Mark: slashing.Mark{Pubkey: slashingtest.Key(1)}, Assignment: 1}}
	methods := []struct {
		name  string
		calls []func(s *Store) error
	}{
		// New, repeated and refused by a conflict: all that a method can do.
		{"Place", []func(s *Store) error{
			func(s *Store) error { return second(s.Place(ctx, o)) },
			func(s *Store) error { return second(s.Place(ctx, o)) },
			func(s *Store) error { o := o; o.Count++; return second(s.Place(ctx, o)) },
		}},
		{"PutMnemonic", []func(s *Store) error{
			func(s *Store) error { return s.PutMnemonic(ctx, m) },
			func(s *Store) error { return s.PutMnemonic(ctx, m) },
		}},
		{"PutBirth", []func(s *Store) error{
			func(s *Store) error { return second(s.PutBirth(ctx, b)) },
			func(s *Store) error { return second(s.PutBirth(ctx, b)) },
			func(s *Store) error { return second(s.PutBirth(ctx, recordtest.Birth(o, m, 0, "late"))) },
			func(s *Store) error {
				b := recordtest.Birth(o, m, 1, "")
				b.Pubkey = recordtest.Birth(o, m, 0, "").Pubkey
				return second(s.PutBirth(ctx, b))
			},
		}},
		{"Order", []func(s *Store) error{func(s *Store) error { return second(s.Order(ctx, "o1")) }}},
		{"Birth", []func(s *Store) error{func(s *Store) error { return second(s.Birth(ctx, b.Pubkey)) }}},
		{"Validators of an order", []func(s *Store) error{func(s *Store) error { return end(s.Validators(ctx, record.Query{Order: "o1"})) }}},
		{"Validators of all", []func(s *Store) error{func(s *Store) error { return end(s.Validators(ctx, record.Query{})) }}},
		{"Validators of a prefix", []func(s *Store) error{func(s *Store) error { return end(s.Validators(ctx, record.Query{Prefix: b.Pubkey.Hex()[:5]})) }}},
		{"Orders", []func(s *Store) error{func(s *Store) error { return end(s.Orders(ctx)) }}},
		{"Mnemonics", []func(s *Store) error{func(s *Store) error { return end(s.Mnemonics(ctx, "o1")) }}},
		{"Assign", []func(s *Store) error{
			func(s *Store) error { return s.Assign(ctx, recordtest.Assignment(b, "signer-a", 1)) },
			func(s *Store) error { return s.Assign(ctx, recordtest.Assignment(b, "signer-a", 1)) },
			func(s *Store) error { return s.Assign(ctx, recordtest.Assignment(b, "signer-b", 2)) },
		}},
		{"Assignment", []func(s *Store) error{func(s *Store) error { return second(s.Assignment(ctx, b.Pubkey)) }}},
		{"Assigned", []func(s *Store) error{func(s *Store) error { return end(s.Assigned(ctx, "signer-a")) }}},
		{"Append", []func(s *Store) error{
			func(s *Store) error { return s.Append(ctx, note) },
			func(s *Store) error { return s.Append(ctx, once) },
			func(s *Store) error { return s.Append(ctx, once) },
		}},
		{"Events", []func(s *Store) error{func(s *Store) error { return end(s.Events(ctx, record.EventQuery{})) }}},
		{"PutImportedMnemonic", []func(s *Store) error{
			func(s *Store) error { return s.PutImportedMnemonic(ctx, storyWords) },
			func(s *Store) error { return s.PutImportedMnemonic(ctx, storyWords) },
		}},
		{"PutImport", []func(s *Store) error{
			func(s *Store) error { return s.PutImport(ctx, storyImport) },
			func(s *Store) error { return s.PutImport(ctx, storyImport) },
			func(s *Store) error { i := storyImport; i.Pubkey = b.Pubkey; return s.PutImport(ctx, i) },
		}},
		{"Import", []func(s *Store) error{func(s *Store) error { return second(s.Import(ctx, storyImport.Pubkey)) }}},
		{"Imported", []func(s *Store) error{func(s *Store) error { return end(s.Imported(ctx, "")) }}},
		{"ImportedMnemonics", []func(s *Store) error{func(s *Store) error { return end(s.ImportedMnemonics(ctx)) }}},
		{"CreateLedger", []func(s *Store) error{
			func(s *Store) error { return second(s.CreateLedger(ctx, "signer-a", genesis)) },
			func(s *Store) error { return second(s.CreateLedger(ctx, "signer-a", genesis)) },
		}},
		{"OpenLedger, Epoch", []func(s *Store) error{onLedger(func(l *Ledger) error { return discard(l.Epoch(ctx)) })}},
		{"Hold", []func(s *Store) error{onLedger(func(l *Ledger) error { return l.Hold(ctx, 1) }), onLedger(func(l *Ledger) error { return l.Hold(ctx, 1) })}},
		{"Add, Admit", []func(s *Store) error{
			onLedger(func(l *Ledger) error { return l.Admit(ctx, 1, admission) }),
			onLedger(func(l *Ledger) error { return l.Add(ctx, 1, []slashing.Mark{{Pubkey: slashingtest.Key(2)}}) }),
		}},
		{"Sign", []func(s *Store) error{onLedger(func(l *Ledger) error { return sign(l, slashingtest.Attestation(1, 1, 2, 1)) })}},
		{"Watermark", []func(s *Store) error{onLedger(func(l *Ledger) error {
			return errors.Join(sign(l, slashingtest.Attestation(1, 2, 3, 1)), discard(l.Watermark(ctx)))
		})}},
		{"Complete", []func(s *Store) error{onLedger(func(l *Ledger) error { return discard(l.Complete(ctx, []eth.Pubkey{b.Pubkey})) })}},
		{"Admitted", []func(s *Store) error{func(s *Store) error { return discard(opened.Admitted(ctx)) }}},
		{"Marks", []func(s *Store) error{func(s *Store) error { return end(opened.Marks(ctx)) }}},
		{"ReplaceLedger", []func(s *Store) error{onLedger(func(l *Ledger) error { return discard(l.s.ReplaceLedger(ctx, l.Info(), genesis)) })}},
		{"Lease", []func(s *Store) error{func(s *Store) error { return second(s.Lease(ctx, "signer-a")) }}},
		{"Take", []func(s *Store) error{
			func(s *Store) error { return s.Take(ctx, recordtest.Lease("signer-a")) },
			func(s *Store) error { return s.Take(ctx, recordtest.Lease("signer-a")) },
		}},
		{"Leases", []func(s *Store) error{func(s *Store) error { return end(s.Leases(ctx)) }}},
		{"Verify", []func(s *Store) error{func(s *Store) error { return s.Verify(ctx) }}},
		{"Unborn", []func(s *Store) error{func(s *Store) error { return end(s.Unborn(ctx)) }}},
	}
	f := newFake()
	births := map[string]bool{}
	for _, method := range methods {
		actions := map[string]bool{}
		for _, call := range method.calls {
			_ = call(f.store(t)) // a conflict is a way to go too
			calls := f.taken()
			onlyConditional(t, calls)
			for _, c := range calls {
				where := strings.TrimPrefix(path.Base(c.Table), "stakeseal-")
				if c.Index != "" {
					where += "/index/" + c.Index
				}
				actions[c.Operation+" "+where] = true
				if slices.Contains([]string{"Place", "PutMnemonic", "PutBirth"}, method.name) {
					births[c.Operation+" "+where] = true
				}
			}
		}
		got := strings.Join(sortedKeys(actions), ", ")
		if want := line(t, text, method.name)[0]; got != strings.ReplaceAll(want, "`", "") {
			t.Errorf("%s calls %q, the page says %q", method.name, got, want)
		}
	}
	// The generator's port, and so its role.
	if got := fmt.Sprint(sortedKeys(births)); got != "[GetItem records PutItem records]" {
		t.Errorf("record.Births calls %s", got)
	}
}

func sortedKeys(m map[string]bool) (out []string) {
	for k := range m {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}

// TestPage holds the page's tables to the items that are written and to the
// tables that tests are run against.
func TestPage(t *testing.T) {
	text := page(t)
	f, _ := filled(t)
	rows := map[string]bool{}
	for name, table := range f.tables {
		for k, it := range table {
			row := ""
			switch short := strings.TrimPrefix(path.Base(name), "stakeseal-"); {
			case short == "records" && k.pk == "orders":
				row = "orders"
			case k.pk == importedWords:
				row = "import/mnemonics"
			case strings.HasPrefix(k.pk, importPrefix):
				row = "import/D"
			case strings.HasPrefix(k.sk, mnemonicPrefix):
				row = "order/ID mnemonic/ID"
			case strings.HasPrefix(k.sk, birthPrefix):
				row = "order/ID birth/INDEX"
			case short == "records":
				row = "pubkey/D"
			case short == "assignments":
				row = "assigned pubkey/D"
			case k.pk == signersPartition:
				row = "signers"
			case short == "ledger":
				row = "marked pubkey/D"
			case k.pk == leasesPartition:
				row = "leases"
			case strings.HasPrefix(k.sk, notePrefix):
				row = "events note/AT"
			case strings.HasPrefix(k.sk, oncePrefix):
				row = "events once/ONCE"
			default:
				t.Fatalf("%s holds %v", name, k)
			}
			rows[row] = true
			cells := line(t, text, row)
			var want []string
			for _, a := range regexp.MustCompile("`([a-z0-9_]+)`").FindAllStringSubmatch(cells[len(cells)-1], -1) {
				want = append(want, a[1])
			}
			var got []string
			for a := range it {
				if a != "pk" && a != "sk" {
					got = append(got, a)
				}
			}
			slices.Sort(want)
			if slices.Sort(got); !slices.Equal(got, want) {
				t.Errorf("%s has %q, the page says %q", row, got, want)
			}
		}
	}
	if len(rows) != 12 {
		t.Errorf("only the items %v", rows)
	}
	index := create.Events("x").LocalSecondaryIndexes[0]
	if *index.IndexName != byTime || *index.KeySchema[1].AttributeName != attrAt || len(create.Records("x").LocalSecondaryIndexes)+len(create.Assignments("x").LocalSecondaryIndexes)+
		len(create.Ledger("x").LocalSecondaryIndexes)+len(create.Leases("x").LocalSecondaryIndexes) != 0 {
		t.Error("the tables have other indexes than the code asks for")
	}
	for _, c := range []condition{absent} {
		if !strings.Contains(text, "`"+strings.ReplaceAll(c.expression, "#", "")+"`") {
			t.Errorf("the page does not have the condition %q", c.expression)
		}
	}
	if !strings.Contains(text, "`epoch = :before`") {
		t.Error("the page does not have the condition of an assignment")
	}
	if !strings.Contains(text, "`sha256 = :before`") {
		t.Error("the page does not have the condition of a mark")
	}
}

// TestKeys: keys sort as their records do, and none is another's.
func TestKeys(t *testing.T) {
	last := key{}
	for _, index := range []uint32{0, 1, 9, 10, 99, 1 << 20, 1<<31 - 1} {
		k := birthKey("o1", index)
		if k.sk <= last.sk {
			t.Errorf("%d: %q after %q", index, k.sk, last.sk)
		}
		last = k
	}
	// An id has no slash, so no order's partition is another's, nor a fixed one.
	if record.CheckID("a/b") == nil || orderKey("x").pk == birthKey("x", 0).pk {
		t.Error("partitions can meet")
	}
}
