package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stakeseal/stakeseal/internal/config"
	"github.com/stakeseal/stakeseal/internal/identity"
	"github.com/stakeseal/stakeseal/secret"
)

// TestIdentitiesInside: an identity is found wherever it lies in a home, in
// the clear and under a passphrase, and nothing else is taken for one.
func TestIdentitiesInside(t *testing.T) {
	for _, name := range []string{"clear", "bundles/order/00000000.json", "locked"} {
		dir := t.TempDir()
		h := &home{dir: dir, generator: &config.Generator{Archive: config.Ref{Scheme: "dir", Rest: "bundles"}}}
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		recipient, file := identity.New(identity.PostQuantum)
		if err := os.WriteFile(filepath.Join(dir, "recipient.txt"), []byte(recipient), 0o600); err != nil {
			t.Fatal(err)
		}
		if found, err := h.identitiesInside(); err != nil || len(found) > 0 {
			t.Fatalf("found %v, %v in a home without", found, err)
		}
		var passphrase *secret.Bytes
		if name == "locked" {
			passphrase = secret.Copy([]byte("correct horse"))
		}
		if err := identity.WriteNew(path, file, passphrase); err != nil {
			t.Fatal(err)
		}
		if found, err := h.identitiesInside(); err != nil || len(found) != 1 || found[0] != path {
			t.Errorf("%s: found %v, %v", name, found, err)
		}
	}
}
