package canary

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestFindsEveryForm: a search that finds nothing proves something only if it
// would have found it.
func TestFindsEveryForm(t *testing.T) {
	secret := []byte("\x01\x02\xfe\xffsome secret key bytes \x90\xab\x00\x7f")
	var n Needles
	n.Add("key", secret)
	inJSON, _ := json.Marshal(map[string][]byte{"x": append([]byte("prefix!"), append(secret, "suffix"...)...)})
	for name, text := range map[string]string{
		"raw":       "xx" + string(secret) + "yy",
		"hex":       "0x" + hex.EncodeToString(secret),
		"HEX":       strings.ToUpper(hex.EncodeToString(secret)) + "\n",
		"base64":    base64.StdEncoding.EncodeToString(secret),
		"base64url": base64.URLEncoding.EncodeToString(append([]byte("a"), secret...)),
		"in JSON":   string(inJSON),
		"shifted":   base64.StdEncoding.EncodeToString(append([]byte("ab"), append(secret, 'z')...)),
		"decimal":   "= " + new(big.Int).SetBytes(secret).String(),
	} {
		if len(n.In([]byte(text))) == 0 {
			t.Errorf("%s is not found", name)
		}
	}
	if found := n.In([]byte("nothing of it in here, only " + hex.EncodeToString(secret[:8]))); len(found) > 0 {
		t.Errorf("found %v where there is nothing", found)
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "f"), append([]byte("..."), secret...), 0o600); err != nil {
		t.Fatal(err)
	}
	found, read, err := n.InTree(dir)
	if err != nil || len(found) != 1 || read != int64(len(secret)+3) {
		t.Errorf("tree: %v, %d bytes, %v", found, read, err)
	}
}
