package slashing_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/stakeseal/stakeseal/eth"
	"github.com/stakeseal/stakeseal/slashing"
	"github.com/stakeseal/stakeseal/slashing/slashingtest"
)

// TestScenarios plays the public interchange scenarios on the bare rules.
func TestScenarios(t *testing.T) {
	slashingtest.Scenarios(t, func(*testing.T) slashingtest.Stage {
		marks := map[eth.Pubkey]slashing.Mark{}
		return slashingtest.Stage{
			Raise: func(list []slashing.Mark) {
				for _, m := range list {
					old := marks[m.Pubkey]
					old.Pubkey = m.Pubkey
					marks[m.Pubkey] = old.Raise(m)
				}
			},
			Sign: func(c slashing.Claim) (err error) {
				marks[c.Pubkey], err = marks[c.Pubkey].Take(c)
				return err
			},
		}
	})
}

func TestTheVerySameAgain(t *testing.T) {
	root, other := eth.Root{1}, eth.Root{2}
	m, err := slashing.Mark{}.Propose(7, root)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := m.Propose(7, root); err != nil || again != m {
		t.Errorf("the same block again: %v", err)
	}
	if _, err := m.Propose(7, other); !errors.Is(err, slashing.ErrSlashable) {
		t.Errorf("another block of the slot: %v", err)
	}
	// A message whose root is unknown is never the same.
	unknown, err := slashing.Mark{}.Propose(7, eth.Root{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := unknown.Propose(7, eth.Root{}); !errors.Is(err, slashing.ErrSlashable) {
		t.Errorf("a block of unknown root again: %v", err)
	}
	m, err = m.Attest(1, 2, root)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := m.Attest(1, 2, root); err != nil || again != m {
		t.Errorf("the same attestation again: %v", err)
	}
	for _, epochs := range [][2]uint64{{1, 2}, {0, 2}, {0, 3}, {1, 1}, {2, 2}} {
		if _, err := m.Attest(epochs[0], epochs[1], other); !errors.Is(err, slashing.ErrSlashable) {
			t.Errorf("attestation %v: %v", epochs, err)
		}
	}
	if _, err := (slashing.Mark{}).Attest(3, 2, root); !errors.Is(err, slashing.ErrSlashable) {
		t.Errorf("source after target: %v", err)
	}
}

// TestRaiseNeverLowers: whatever two marks are joined, in either order, what
// one of them refused is refused by the result.
func TestRaiseNeverLowers(t *testing.T) {
	var marks []slashing.Mark
	for _, block := range []slashing.Mark{{}, {Block: true}, {Block: true, Slot: 3, BlockRoot: eth.Root{1}}, {Block: true, Slot: 3, BlockRoot: eth.Root{2}}, {Block: true, Slot: 4}} {
		for _, att := range []slashing.Mark{{}, {Attestation: true}, {Attestation: true, Source: 1, Target: 3, Root: eth.Root{1}},
			{Attestation: true, Source: 2, Target: 3, Root: eth.Root{1}}, {Attestation: true, Source: 1, Target: 4, Root: eth.Root{2}}} {
			m := block
			m.Attestation, m.Source, m.Target, m.Root = att.Attestation, att.Source, att.Target, att.Root
			marks = append(marks, m)
		}
	}
	for _, a := range marks {
		for _, b := range marks {
			joined := a.Raise(b)
			if joined != b.Raise(a) {
				t.Fatalf("%+v and %+v join differently in the other order", a, b)
			}
			if joined.Raise(a) != joined || a.Raise(a) != a {
				t.Fatalf("raising %+v again changes it", a)
			}
			for _, root := range []eth.Root{{}, {1}, {2}, {3}} {
				for x := range uint64(6) {
					_, errA := a.Propose(x, root)
					_, errB := b.Propose(x, root)
					if _, err := joined.Propose(x, root); err == nil && (errA != nil || errB != nil) {
						t.Fatalf("%+v joined with %+v allows slot %d", a, b, x)
					}
					for y := range uint64(6) {
						_, errA := a.Attest(x, y, root)
						_, errB := b.Attest(x, y, root)
						if _, err := joined.Attest(x, y, root); err == nil && (errA != nil || errB != nil) {
							t.Fatalf("%+v joined with %+v allows %d to %d", a, b, x, y)
						}
					}
				}
			}
		}
	}
}

func TestWriteReadsBack(t *testing.T) {
	root := eth.Root{9}
	marks := []slashing.Mark{
		{Pubkey: eth.Pubkey{1}},
		{Pubkey: eth.Pubkey{2}, Block: true, Slot: 5},
		{Pubkey: eth.Pubkey{3}, Block: true, Slot: 1 << 63, BlockRoot: eth.Root{4}, Attestation: true, Source: 7, Target: 8, Root: eth.Root{5}},
	}
	var out bytes.Buffer
	if err := slashing.Write(&out, root, marks); err != nil {
		t.Fatal(err)
	}
	got, err := slashing.Read(bytes.NewReader(out.Bytes()), root)
	if err != nil || len(got) != 3 {
		t.Fatalf("%d marks, %v", len(got), err)
	}
	for i, m := range marks {
		m.BlockRoot, m.Root = eth.Root{}, eth.Root{} // not kept
		if got[i] != m {
			t.Errorf("mark %d: %+v, want %+v", i, got[i], m)
		}
	}
	if _, err := slashing.Read(bytes.NewReader(out.Bytes()), eth.Root{8}); !errors.Is(err, slashing.ErrInterchange) {
		t.Errorf("a file of another network: %v", err)
	}
}

// TestReadWhole: what the schema requires is there, or the file says nothing at
// all. A key whose list was left out would count as one that never signed.
func TestReadWhole(t *testing.T) {
	const head = `{"metadata":{"interchange_format_version":"5","genesis_validators_root":"0x0000000000000000000000000000000000000000000000000000000000000000"}`
	const pubkey = `"pubkey":"0xa99a76ed7796f7be22d5b7e85deeb7c5677e88e511e0b337618f8c4eb61349b4bf2d153f649f7b53359fe8b94a38e44c"`
	const blocks, votes = `"signed_blocks":[{"slot":"1"}]`, `"signed_attestations":[{"source_epoch":"1","target_epoch":"2"}]`
	for _, c := range []struct {
		tail string
		good bool
	}{
		{`,"data":[{` + pubkey + `,` + blocks + `,` + votes + `}]}`, true},
		{`,"data":[{` + pubkey + `,"signed_blocks":[],"signed_attestations":[]}]}`, true},
		{`}`, false},
		{`,"data":null}`, false},
		{`,"data":[{` + blocks + `,` + votes + `}]}`, false},
		{`,"data":[{` + pubkey + `,` + blocks + `}]}`, false},
		{`,"data":[{` + pubkey + `,` + votes + `}]}`, false},
		{`,"data":[{` + pubkey + `,` + blocks + `,"signed_attestations":null}]}`, false},
		{`,"data":[{` + pubkey + `,` + blocks + `,"signed_attestation":[{"source_epoch":"1","target_epoch":"2"}]}]}`, false},
		{`,"data":[{` + pubkey + `,"signed_blocks":[{}],` + votes + `}]}`, false},
		{`,"data":[{` + pubkey + `,` + blocks + `,"signed_attestations":[{"source_epoch":"1"}]}]}`, false},
		{`,"data":[{` + pubkey + `,` + blocks + `,"signed_attestations":[{"source_epoch":null,"target_epoch":"2"}]}]}`, false},
	} {
		if _, err := slashing.Read(strings.NewReader(head+c.tail), eth.Root{}); (err == nil) != c.good || !c.good && !errors.Is(err, slashing.ErrInterchange) {
			t.Errorf("%s: %v", c.tail, err)
		}
	}
}

var seeds = []string{
	`{"metadata":{"interchange_format_version":"5","genesis_validators_root":"0x0000000000000000000000000000000000000000000000000000000000000000"},"data":[]}`,
	`{"metadata":{"interchange_format_version":"5","genesis_validators_root":"0x0000000000000000000000000000000000000000000000000000000000000000"},"data":[{"pubkey":"0xa99a76ed7796f7be22d5b7e85deeb7c5677e88e511e0b337618f8c4eb61349b4bf2d153f649f7b53359fe8b94a38e44c","signed_blocks":[{"slot":"1"}],"signed_attestations":[{"source_epoch":"1","target_epoch":"2"}]}]}`,
	`{"metadata":{"interchange_format_version":"4"}}`,
	`{`,
}

func TestSeedsAreThere(t *testing.T) {
	if len(seeds) < 4 {
		t.Fatal("the fuzz target has lost its seeds")
	}
	for i, want := range []bool{true, true, false, false} {
		if _, err := slashing.Read(strings.NewReader(seeds[i]), eth.Root{}); (err == nil) != want {
			t.Errorf("seed %d: %v", i, err)
		}
	}
}

// FuzzRead: what reads is written and read back as the same marks.
func FuzzRead(f *testing.F) {
	for _, seed := range seeds {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		marks, err := slashing.Read(bytes.NewReader(data), eth.Root{})
		if err != nil {
			return
		}
		var out bytes.Buffer
		if err := slashing.Write(&out, eth.Root{}, marks); err != nil {
			t.Fatal(err)
		}
		again, err := slashing.Read(&out, eth.Root{})
		if err != nil || len(again) != len(marks) {
			t.Fatalf("%d marks read back as %d: %v", len(marks), len(again), err)
		}
		for i := range marks {
			if again[i] != marks[i] {
				t.Fatalf("%+v reads back as %+v", marks[i], again[i])
			}
		}
	})
}
