package infra_test

import (
	"strings"
	"testing"

	"github.com/stakeseal/stakeseal/infra/stack"
)

// TestSampleWeaknesses goes through what the AWS sample for making validator
// keys in a function gets wrong, as far as templates decide it: each must be
// impossible here.
func TestSampleWeaknesses(t *testing.T) {
	in := deploy(t, basic())
	p, most := newProver(in), newProver(deploy(t, everything()))
	holds := func(ids ...string) func(*testing.T) {
		return func(t *testing.T) {
			for _, id := range ids {
				found := false
				for _, c := range claims {
					if c.id == id {
						found = true
						if against := c.against(most); len(against) > 0 {
							t.Errorf("not true: %s: %q", c.says, against)
						}
					}
				}
				if !found {
					t.Errorf("no claim %q", id)
				}
			}
		}
	}
	for weakness, check := range map[string]func(*testing.T){
		"key and table go with the stack": func(t *testing.T) {
			for _, id := range []string{"SigningKey", "RecoveryKey", "CertifyingKey", "RecordsTable", "AssignmentsTable", "EventsTable", "LedgerTable", "LeasesTable", "ArchiveBucket"} {
				if r, ok := in.Resource("foundation", id); !ok || !r.Retain {
					t.Errorf("%s: retained %v", id, r.Retain)
				}
			}
		},
		"who opens one record opens mnemonic and siblings": holds("signer", "recovery", "G2"),
		"no encryption context, rows can be swapped":       holds("G2"),
		"a table writer can substitute an address":         holds("records", "certifying", "G4-archive"),
		"the generator updates and deletes records":        holds("generator-least", "G4-tables"),
		"batch writes replace, a retry makes a second set": func(t *testing.T) {
			holds("G4-tables")(t)
			TestSchedule(t) // one order for one scheduled time
		},
		"a row is deleted and made again to assign it": func(t *testing.T) {
			holds("G4-tables", "administrator")(t)
			if !p.allowed("administrator", "dynamodb:PutItem", p.resolve(assignments), nothing) || p.allowed("administrator", "dynamodb:PutItem", p.resolve(records), underOrder) {
				t.Error("assigning is not apart from recording")
			}
		},
		"key and table are named in the environment": func(t *testing.T) {
			TestFunction(t)
			holds("two-lambda")(t) // UpdateFunctionConfiguration
		},
		"without an address there is a default": func(t *testing.T) {
			for name, address := range map[string]string{"none": "", "too short": "0x80"} {
				o := everything()
				o.Parameters["schedule"] = map[string]string{"WithdrawalAddress": address}
				if _, err := stack.Deploy(o); err == nil {
					t.Errorf("%s: a schedule", name)
				}
			}
		},
		"the network's S3 endpoint lets everything pass": TestEndpoints,
		"an interface endpoint costs when nothing happens": func(t *testing.T) {
			for _, r := range in.Resources {
				if strings.HasPrefix(r.Type, "AWS::EC2::") || strings.HasPrefix(r.Type, "AWS::CloudWatch::") || strings.HasPrefix(r.Type, "AWS::Config::") {
					t.Errorf("the basic installation has %s", r.Type)
				}
			}
			keys := 0
			for _, r := range in.Resources {
				if r.Type == "AWS::KMS::Key" {
					keys++
				}
			}
			if keys != 3 {
				t.Errorf("%d keys, at a dollar a month each", keys)
			}
		},
	} {
		t.Run(weakness, check)
	}
}
