package deposit_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	. "github.com/stakeseal/stakeseal/deposit"
	"github.com/stakeseal/stakeseal/eth"
)

// Public files of another tool are good for their own network and address,
// and only there.
func TestVectors(t *testing.T) {
	for file, n := range vectors(t) {
		t.Run(filepath.Join(filepath.Base(filepath.Dir(filepath.Dir(file))), n.Name), func(t *testing.T) {
			entries, err := ParseFile(filepath.Base(file), read(t, file))
			if err != nil {
				t.Fatal(err)
			}
			j := vectorJudge(file, n)
			v, err := j.Verdict(context.Background(), entries)
			if err != nil || !v.OK() || v.Count(Refuse) != 0 {
				t.Fatalf("verdict %s, error %v, findings %v", v.Outcome, err, v.Findings)
			}
			if v.Entries != len(entries) || v.Validators != len(entries) || v.Total != eth.Gwei(len(entries))*32*ether {
				t.Errorf("counts %d, %d, %d", v.Entries, v.Validators, v.Total)
			}

			other := network("mainnet")
			j.Network, j.Chain = other, chain{net: other}
			v, err = j.Verdict(context.Background(), entries)
			if err != nil {
				t.Fatal(err)
			}
			for _, want := range []Code{NetworkNameDiffers, ForkVersionDiffers, SignatureNetwork} {
				if v.OK() || !slices.Contains(codes(v.Findings, Refuse), want) {
					t.Errorf("on mainnet %s: %v, want %s", v.Outcome, codes(v.Findings, Refuse), want)
				}
			}
			for _, f := range v.Findings {
				if f.Code == SignatureNetwork && !strings.Contains(f.Message, "for network "+n.Name) {
					t.Errorf("%q doesn't name %s", f.Message, n.Name)
				}
			}

			var out bytes.Buffer
			if err := WriteFile(&out, entries); err != nil {
				t.Fatal(err)
			}
			again, err := ParseFile(filepath.Base(file), out.Bytes())
			if err != nil {
				t.Fatal(err)
			}
			sameEntries(t, entries, again)
		})
	}
}

func sameEntries(t *testing.T, a, b []Entry) {
	t.Helper()
	if len(a) != len(b) {
		t.Fatalf("%d entries became %d", len(a), len(b))
	}
	for i := range a {
		x, y := a[i], b[i]
		x.Line, y.Line = 0, 0
		x.Extra, y.Extra = nil, nil
		if fmt.Sprintf("%+v", x) != fmt.Sprintf("%+v", y) {
			t.Errorf("entry %d: %+v became %+v", i, x, y)
		}
	}
}

// Every digit of every field, changed alone, is refused, with exactly the
// codes that it must have: a check that is left out shows as a missing code.
func TestEveryMutationRefused(t *testing.T) {
	seen := map[string]int{}
	for file, n := range vectors(t) {
		// All digits of one file, and one digit of each field of the others.
		step := 29
		if strings.HasSuffix(file, filepath.Join("withdrawal_credentials_execution", "hoodi", filepath.Base(file))) {
			step = 1
		}
		bls := strings.Contains(file, "credentials_bls")
		var rows []map[string]any
		dec := json.NewDecoder(bytes.NewReader(read(t, file)))
		dec.UseNumber()
		if err := dec.Decode(&rows); err != nil {
			t.Fatal(err)
		}
		for field, value := range rows[0] {
			s, isText := value.(string)
			switch field {
			case "amount":
				for _, amount := range []string{"32000000001", "31999999999", "31000000000", "1000000000", "0", "999999999", "32000000000000", "2048000000000", "18446744073709551615"} {
					mutated(t, file, n, rows, field, json.Number(amount), amountCodes(amount))
				}
			case "network_name":
				for _, name := range []string{"mainnet", "Hoodi", "hood", "\x1b[2J", "sepolia2"} {
					mutated(t, file, n, rows, field, name, sorted(NetworkNameDiffers))
				}
			case "deposit_cli_version":
				mutated(t, file, n, rows, field, "0.0.1", sorted())
			default:
				if !isText {
					t.Fatalf("field %s is %T", field, value)
				}
				for at := 0; at < len(s); at += step {
					b := []byte(s)
					b[at] = "0123456789abcdef"[strings.IndexByte("0123456789abcdef", b[at])^1]
					mutated(t, file, n, rows, field, string(b), hexCodes(field, at, string(b), bls))
					seen[field]++
				}
			}
		}
	}
	for field, digits := range map[string]int{"pubkey": 96, "withdrawal_credentials": 64, "signature": 192, "deposit_message_root": 64, "deposit_data_root": 64, "fork_version": 8} {
		if seen[field] < digits {
			t.Errorf("only %d of %d digits of %s were tried", seen[field], digits, field)
		}
	}
}

func amountCodes(amount string) []Code {
	all := []Code{MessageRootDiffers, DataRootDiffers, SignatureInvalid}
	switch amount {
	case "0", "999999999":
		return sorted(append(all, AmountMinimum)...)
	case "32000000001", "32000000000000", "2048000000000", "18446744073709551615":
		// above the plan, and so is the sum
		return sorted(append(all, AmountMaximum, SumOverPlan)...)
	}
	return sorted(append(all, AmountNotPlanned)...)
}

func hexCodes(field string, at int, value string, bls bool) []Code {
	switch field {
	case "deposit_message_root":
		return sorted(MessageRootDiffers)
	case "deposit_data_root":
		return sorted(DataRootDiffers)
	case "fork_version":
		return sorted(ForkVersionDiffers)
	case "signature":
		return sorted(DataRootDiffers, SignatureInvalid)
	case "pubkey":
		p, err := eth.ParsePubkey(value)
		if err == nil && validPoint(p) {
			return sorted(MessageRootDiffers, DataRootDiffers, SignatureInvalid)
		}
		return sorted(MessageRootDiffers, DataRootDiffers, PubkeyInvalid)
	case "withdrawal_credentials":
		all := []Code{MessageRootDiffers, DataRootDiffers, SignatureInvalid}
		switch {
		case value[:2] == "00" && bls: // 0x00 is allowed; only the digest changed
		case value[:2] == "00":
			all = append(all, CredentialsBLS)
		case value[:2] == "01" && bls: // now an address prefix before a digest
			all = append(all, CredentialsPadding)
		case at < 2:
			all = append(all, CredentialsPrefix)
		case at < 24:
			all = append(all, CredentialsPadding)
		default:
			all = append(all, AddressUnknown)
		}
		return sorted(all...)
	}
	panic("unexpected field " + field)
}

func mutated(t *testing.T, file string, n eth.Network, rows []map[string]any, field string, value any, want []Code) {
	t.Helper()
	old := rows[0][field]
	rows[0][field] = value
	data, err := json.Marshal(rows)
	rows[0][field] = old
	if err != nil {
		t.Fatal(err)
	}
	entries, err := ParseFile("f", data)
	if err != nil {
		t.Fatalf("%s: %s=%v: %v", file, field, value, err)
	}
	v, err := vectorJudge(file, n).Verdict(context.Background(), entries)
	if err != nil {
		t.Fatal(err)
	}
	got := codes(v.Findings, Refuse)
	if v.OK() != (len(want) == 0) || !slices.Equal(got, want) {
		t.Errorf("%s: %s=%v: %s with %v, want %v", filepath.Base(file), field, value, v.Outcome, got, want)
	}
	for _, f := range v.Findings {
		if f.Severity == Refuse && (f.Row != 1 || f.Source != "f" || f.Message == "") {
			t.Errorf("finding without its place or message: %+v", f)
		}
		if strings.ContainsAny(f.String(), "\x1b\n") {
			t.Errorf("finding carries control characters: %q", f.String())
		}
	}
}
