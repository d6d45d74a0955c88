package exit

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/stakeseal/stakeseal/eth"
	"github.com/stakeseal/stakeseal/eth/duty"
)

var (
	signature = "0x" + strings.Repeat("ab", 96)
	good      = `{"message":{"epoch":"7","validator_index":"12345"},"signature":"` + signature + `"}`
)

// TestRoot: the same root as the signing API's, which has public vectors, and
// the version of Capella whatever fork the request names (EIP-7044).
func TestRoot(t *testing.T) {
	for _, name := range []string{"mainnet", "hoodi", "gnosis"} {
		n, _ := eth.LookupNetwork(name)
		for _, m := range []Message{{0, 0}, {7, 12345}, {1 << 40, FarFuture - 1}} {
			body := fmt.Sprintf(`{"type":"VOLUNTARY_EXIT","voluntary_exit":{"epoch":"%d","validator_index":"%d"},"fork_info":{"fork":`+
				`{"previous_version":"0x01020304","current_version":"0x05060708","epoch":"9"},"genesis_validators_root":"%s"}}`, m.Epoch, m.Index, n.GenesisValidatorsRoot)
			r, err := duty.Parse([]byte(body))
			if err != nil {
				t.Fatal(err)
			}
			want, err := r.SigningRoot(n)
			if err != nil {
				t.Fatal(err)
			}
			if got, ok := m.SigningRoot(n); !ok || got != want {
				t.Errorf("%s %+v: %v, want %v", name, m, got, want)
			}
		}
	}
	ephemery, _ := eth.LookupNetwork("ephemery")
	if _, ok := (Message{}).SigningRoot(ephemery); ok {
		t.Error("a root without a genesis validators root")
	}
	// sha256 of two zero chunks, which every SSZ implementation has in its table.
	if r := (Message{}).Root(); hex.EncodeToString(r[:4]) != "f5a5fd42" {
		t.Errorf("the root of zeros is %v", r)
	}
}

func TestParse(t *testing.T) {
	s, err := Parse([]byte(" " + good + "\n"))
	if err != nil || s.Message != (Message{7, 12345}) || s.Signature.String() != signature {
		t.Errorf("%+v %v", s, err)
	}
	if again, err := json.Marshal(s); err != nil || string(again) != good {
		t.Errorf("%s %v", again, err)
	}
	if s, err := Parse([]byte(`{"signature":"` + signature + `","message":{"validator_index":"12345","epoch":"7"}}`)); err != nil || s.Message.Index != 12345 {
		t.Errorf("in another order: %+v %v", s, err)
	}
	for _, bad := range []string{
		"", "{}", "[" + good + "]", good + good, good[:len(good)-1], "null", `"x"`,
		strings.Replace(good, `"7"`, `7`, 1),
		strings.Replace(good, `"7"`, `"07"`, 1),
		strings.Replace(good, `"7"`, `"-7"`, 1),
		strings.Replace(good, `"7"`, `"+7"`, 1),
		strings.Replace(good, `"7"`, `""`, 1),
		strings.Replace(good, `"7"`, `"18446744073709551616"`, 1),
		strings.Replace(good, `"epoch"`, `"Epoch"`, 1),
		strings.Replace(good, `"epoch":"7"`, `"epoch":"7","epoch":"8"`, 1),
		strings.Replace(good, `"epoch":"7"`, `"epoch":"7","Epoch":"8"`, 1),
		strings.Replace(good, `"epoch":"7",`, ``, 1),
		strings.Replace(good, `{"message"`, `{"more":1,"message"`, 1),
		strings.Replace(good, `"0xab`, `"ab`, 1),
		strings.Replace(good, `"0xab`, `"0xzz`, 1),
		strings.Replace(good, `"0xab`, `"0x`, 1),
		strings.Replace(good, signature, signature+"ab", 1),
		good + strings.Repeat(" ", MaxFile),
	} {
		if s, err := Parse([]byte(bad)); !errors.Is(err, ErrFormat) || s != (Signed{}) {
			t.Errorf("%.80q: %+v, %v", bad, s, err)
		}
	}
	// The wrong file may be one of secrets.
	if _, err := Parse([]byte(`{"secret-mnemonic":"x"}`)); strings.Contains(err.Error(), "mnemonic") {
		t.Errorf("it repeats the file: %v", err)
	}
}

// FuzzParse: what parses is written the same, but for space and order.
func FuzzParse(f *testing.F) {
	f.Add([]byte(good))
	f.Add([]byte("{}"))
	f.Add([]byte(`{"signature":"` + signature + `","message":{"validator_index":"0","epoch":"18446744073709551615"}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := Parse(data)
		if err != nil {
			return
		}
		out, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		again, err := Parse(out)
		if err != nil || again != s {
			t.Fatalf("%s: %+v, %v", out, again, err)
		}
		if !bytes.Contains(bytes.ToLower(data), []byte(s.Signature.Hex())) && !bytes.Contains(data, []byte(`\u`)) {
			t.Fatalf("a signature that the file does not have: %s", s.Signature)
		}
	})
}
