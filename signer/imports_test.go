package signer_test

import (
	"os/exec"
	"strings"
	"testing"
)

// TestImports: what signs cannot open a sealing, holds no store and starts no
// program; what reads requests holds no key.
func TestImports(t *testing.T) {
	const module = "github.com/stakeseal/stakeseal/"
	for room, forbidden := range map[string]map[string]string{
		"signer": {
			module + "unseal":            "it opens sealings; the command hands opened keys in",
			module + "internal/identity": "it holds the private halves",
			module + "internal/sqlite":   "the ledger and the leases are ports",
			"database/sql":               "the ledger and the leases are ports",
			"os/exec":                    "nothing is started beside keys",
			"filippo.io/age":             "it opens sealings",
			"text/template":              "it calls methods by name",
			"encoding/gob":               "it reaches into values",
		},
		"eth/duty": {
			module + "eth/bls": "it judges messages, and holds no key",
			module + "secret":  "it judges messages, and holds no key",
			"net/http":         "it does no I/O",
		},
		"slashing": {"net/http": "it does no I/O", module + "eth/bls": "the rules need no key"},
	} {
		out, err := exec.Command("go", "list", "-deps", module+room).Output()
		if err != nil {
			t.Fatalf("couldn't list the imports of %s: %v", room, err)
		}
		deps := strings.Fields(string(out))
		if len(deps) < 20 {
			t.Fatalf("%s has %d imports: the test shows nothing", room, len(deps))
		}
		for _, dep := range deps {
			if why, bad := forbidden[dep]; bad {
				t.Errorf("%s imports %s: %s", room, dep, why)
			}
		}
	}
}
