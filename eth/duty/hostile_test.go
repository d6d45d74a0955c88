package duty_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/stakeseal/stakeseal/eth"
	"github.com/stakeseal/stakeseal/eth/duty"
)

const attestation = `{"type":"ATTESTATION","fork_info":{"fork":{"previous_version":"0x60000910","current_version":"0x70000910","epoch":"50688"},` +
	`"genesis_validators_root":"0x212f13fc4df078b6cb7db228f1c8307566dcecf900867401a92023d7ba99cb5f"},"attestation":{"slot":"1","index":"0",` +
	`"beacon_block_root":"0x0000000000000000000000000000000000000000000000000000000000000001","source":{"epoch":"0","root":"0x0000000000000000000000000000000000000000000000000000000000000000"},` +
	`"target":{"epoch":"1","root":"0x0000000000000000000000000000000000000000000000000000000000000000"}}}`

func TestFacts(t *testing.T) {
	r, err := duty.Parse([]byte(attestation))
	if err != nil {
		t.Fatal(err)
	}
	if r.Kind != duty.Attestation || r.Slot != 1 || r.Source != 0 || r.Target != 1 || r.Fork.GenesisValidatorsRoot != hoodi.GenesisValidatorsRoot || r.Fork.Epoch != 50688 || r.Claimed != nil {
		t.Errorf("%+v", r)
	}
	by := map[duty.Kind]*duty.Request{}
	for _, e := range examples(t) {
		r, err := duty.Parse(e.Body)
		if err != nil {
			t.Fatal(err)
		}
		by[r.Kind] = r
	}
	for kind, r := range by {
		if kind.ForkBound() && (r.Slot == 0 && r.Epoch == 0 || r.DutyEpoch(hoodi) < 50687 || r.DutyEpoch(hoodi) > 50692) {
			t.Errorf("%s: slot %d, epoch %d", kind, r.Slot, r.Epoch)
		}
	}
	if by[duty.Deposit].Genesis != hoodi.GenesisForkVersion || by[duty.Deposit].Pubkey == (eth.Pubkey{}) || by[duty.Deposit].Credentials == (eth.Credentials{}) ||
		by[duty.Registration].FeeRecipient == (eth.Address{}) || by[duty.ProposerPreferences].FeeRecipient == (eth.Address{}) {
		t.Error("facts are missing")
	}
}

// TestRefused: a name or value that is not exactly as specified.
func TestRefused(t *testing.T) {
	swap := func(old, new string) string {
		if !strings.Contains(attestation, old) {
			t.Fatalf("no %s", old)
		}
		return strings.Replace(attestation, old, new, 1)
	}
	for name, body := range map[string]string{
		"nothing":                  "",
		"no JSON":                  "hello",
		"an array":                 "[]",
		"a text":                   `"x"`,
		"null":                     "null",
		"no type":                  swap(`"type":"ATTESTATION",`, ""),
		"type in another case":     swap(`"type"`, `"Type"`),
		"kind in another case":     swap(`ATTESTATION`, `attestation`),
		"type a number":            swap(`"ATTESTATION"`, `1`),
		"a bare root":              `{"type":"GENERIC","merkle_root":"0x00","domain":"0x01"}`,
		"a type given twice":       swap(`{"type":"ATTESTATION"`, `{"type":"BLOCK_V2","type":"ATTESTATION"`),
		"a slot given twice":       swap(`"slot":"1"`, `"slot":"1","slot":"2"`),
		"a slot as a number":       swap(`"slot":"1"`, `"slot":1`),
		"a negative slot":          swap(`"slot":"1"`, `"slot":"-1"`),
		"a slot with a plus":       swap(`"slot":"1"`, `"slot":"+1"`),
		"a slot with a zero":       swap(`"slot":"1"`, `"slot":"01"`),
		"a slot too large":         swap(`"slot":"1"`, `"slot":"18446744073709551616"`),
		"an empty slot":            swap(`"slot":"1"`, `"slot":""`),
		"a slot in hex":            swap(`"slot":"1"`, `"slot":"0x1"`),
		"null for a slot":          swap(`"slot":"1"`, `"slot":null`),
		"no slot":                  swap(`"slot":"1",`, ``),
		"Slot":                     swap(`"slot"`, `"Slot"`),
		"a field too many":         swap(`"slot":"1"`, `"slot":"1","more":"1"`),
		"a field in source":        swap(`"source":{`, `"source":{"x":[],`),
		"a short root":             swap(`0000000000000000000000000000000000000000000000000000000000000001`, `01`),
		"a root that is no hex":    swap(`0000000000000000000000000000000000000000000000000000000000000001`, strings.Repeat("zz", 32)),
		"no fork_info":             swap(`"fork_info"`, `"forkinfo"`),
		"fork_info a text":         `{"type":"ATTESTATION","fork_info":"x"}`,
		"no fork":                  swap(`"fork":`, `"frok":`),
		"no epoch of the fork":     swap(`,"epoch":"50688"`, ``),
		"no message":               swap(`"attestation":`, `"attestations":`),
		"a message that is a list": swap(`"attestation":{`, `"attestation":[{`)[:len(attestation)] + "]}",
		"a signing root too short": swap(`"type"`, `"signingRoot":"0x00","type"`),
		"two signing roots":        swap(`"type"`, `"signingRoot":"0x`+strings.Repeat("00", 32)+`","signing_root":"0x`+strings.Repeat("01", 32)+`","type"`),
		"something after it":       attestation + "x",
		"a second value":           attestation + attestation,
		"cut off":                  attestation[:len(attestation)-1],
		"an escape of unicode":     swap(`"slot":"1"`, `"sl\u006ft":"1"`),
		"bytes that are no UTF-8":  swap(`"slot":"1"`, "\"slot\":\"1\",\"\xff\":\"1\""),
		"deep":                     strings.Repeat(`{"a":`, 1000) + "1" + strings.Repeat("}", 1000),
		"deep arrays":              strings.Repeat(`[`, 1_000_000),
		"an unknown version":       `{"type":"BLOCK_V2","fork_info":{"fork":{"previous_version":"0x60000910","current_version":"0x70000910","epoch":"1"},"genesis_validators_root":"0x` + strings.Repeat("00", 32) + `"},"beacon_block":{"version":"fulu","block_header":{}}}`,
	} {
		if r, err := duty.Parse([]byte(body)); !errors.Is(err, duty.ErrMalformed) {
			t.Errorf("%s: read as %+v, %v", name, r, err)
		} else if len(err.Error()) > 400 {
			t.Errorf("%s: an error of %d bytes", name, len(err.Error()))
		}
	}
	// What clients add outside the message, or leave out as null, is passed over.
	for name, body := range map[string]string{
		"Nimbus's proofs":      swap(`"type"`, `"proofs":[{"index":"5"}],"type"`),
		"no signing root":      swap(`"type"`, `"signingRoot":null,"type"`),
		"hex without 0x":       swap(`"0x60000910"`, `"60000910"`),
		"white space":          strings.ReplaceAll(attestation, ",", " ,\r\n\t"),
		"both of the same":     swap(`"type"`, `"signingRoot":"0x`+strings.Repeat("00", 32)+`","signing_root":"0x`+strings.Repeat("00", 32)+`","type"`),
		"another order":        `{"attestation":` + attestation[strings.Index(attestation, `"attestation":`)+14:len(attestation)-1] + "," + attestation[1:strings.Index(attestation, `,"attestation"`)] + "}",
		"an escape of a slash": swap(`"type"`, `"a\/b":"\"\\\n","type"`),
	} {
		r, err := duty.Parse([]byte(body))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if want, _ := duty.Parse([]byte(attestation)); r.Object != want.Object {
			t.Errorf("%s: another root", name)
		}
		if _, err := r.SigningRoot(hoodi); (r.Claimed != nil) != errors.Is(err, duty.ErrRoot) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestForkBoundary: a duty of the epoch before the fork is signed under the
// former version, from the fork's epoch on under the current one.
func TestForkBoundary(t *testing.T) {
	root := func(target string) eth.Root {
		r, err := duty.Parse([]byte(strings.Replace(attestation, `"target":{"epoch":"1"`, `"target":{"epoch":"`+target+`"`, 1)))
		if err != nil {
			t.Fatal(err)
		}
		got, err := r.SigningRoot(hoodi)
		if err != nil {
			t.Fatal(err)
		}
		for _, version := range []eth.Version{r.Fork.Previous, r.Fork.Current} {
			if got == eth.SigningRoot(r.Object, eth.ComputeDomain([4]byte{1}, version, hoodi.GenesisValidatorsRoot)) {
				return eth.Root(append(version[:], make([]byte, 28)...))
			}
		}
		return eth.Root{}
	}
	if root("50687") != (eth.Root{0x60, 0, 9, 0x10}) || root("50688") != (eth.Root{0x70, 0, 9, 0x10}) {
		t.Error("the fork's epoch is not the boundary")
	}
}

func FuzzParse(f *testing.F) {
	for _, e := range examples(f) {
		if len(e.Body) < 4000 {
			f.Add([]byte(e.Body))
		}
	}
	f.Add([]byte(attestation))
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := duty.Parse(data)
		if err != nil {
			if !errors.Is(err, duty.ErrMalformed) {
				t.Fatal(err)
			}
			return
		}
		_, _ = r.SigningRoot(hoodi)
		// In a group it is the same, or too deep.
		groups, err := duty.ParseBatch(fmt.Appendf(nil, `[{"identifiers":["%096x"],"signing_request":%s}]`, 1, data), 1)
		if err == nil && !reflect.DeepEqual(groups[0].Request, r) || err != nil && !errors.Is(err, duty.ErrMalformed) {
			t.Fatalf("in a group: %+v, %v", groups, err)
		}
		// What is read here is JSON to others, with the same content: written
		// anew by the standard library it has the same root and facts.
		decoder := json.NewDecoder(bytes.NewReader(data))
		decoder.UseNumber()
		var v any
		if err := decoder.Decode(&v); err != nil {
			t.Fatalf("the standard library doesn't read it: %v", err)
		}
		again, err := json.Marshal(v)
		if err != nil || bytes.Contains(again, []byte(`\u`)) {
			return
		}
		s, err := duty.Parse(again)
		if err != nil || !reflect.DeepEqual(r, s) {
			t.Fatalf("written anew it is %+v, %v, not %+v", s, err, r)
		}
	})
}

func TestSeedsAreThere(t *testing.T) {
	if len(examples(t)) < 90 {
		t.Fatal("the fuzz target has lost its seeds")
	}
}

func BenchmarkAttestation(b *testing.B) {
	for b.Loop() {
		r, err := duty.Parse([]byte(attestation))
		if err == nil {
			_, err = r.SigningRoot(hoodi)
		}
		if err != nil {
			b.Fatal(err)
		}
	}
}
