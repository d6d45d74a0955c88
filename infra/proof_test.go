package infra_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/stakeseal/stakeseal/infra/stack"
)

// TestProof: every claim holds, with every optional part at once, with the
// signer on machines, and with no optional part.
func TestProof(t *testing.T) {
	for parts, o := range map[string]stack.Options{"every part": everything(), "signers are machines": machines(), "no optional part": basic()} {
		p := newProver(deploy(t, o))
		for _, c := range claims {
			if parts == "no optional part" && slices.Contains([]string{"importer", "scheduler", "alias-only", "trust", "factor", "region", "apart", "passing"}, c.id) {
				continue // about roles, or people, that are not there then
			}
			if parts == "signers are machines" && slices.Contains([]string{"trust", "region"}, c.id) {
				continue // the signer's role is no person's then
			}
			t.Run(parts+"/"+c.id, func(t *testing.T) {
				if against := c.against(p); len(against) > 0 {
					t.Errorf("not true: %s\n\t%s", c.says, strings.Join(against, "\n\t"))
				}
			})
		}
	}
}
