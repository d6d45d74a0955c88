package deposit_test

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	. "github.com/stakeseal/stakeseal/deposit"
	"github.com/stakeseal/stakeseal/eth"
)

var (
	pk  = strings.Repeat("8c", 48)
	wc  = "01" + strings.Repeat("00", 11) + strings.Repeat("ab", 20)
	sig = strings.Repeat("9d", 96)
	rt  = strings.Repeat("5e", 32)
)

// row is one well-formed entry with some fields replaced ("" removes).
func row(changes ...string) string {
	fields := [][2]string{
		{"pubkey", `"` + pk + `"`}, {"withdrawal_credentials", `"` + wc + `"`}, {"amount", "32000000000"},
		{"signature", `"` + sig + `"`}, {"deposit_message_root", `"` + rt + `"`}, {"deposit_data_root", `"` + rt + `"`},
		{"fork_version", `"10000910"`}, {"network_name", `"hoodi"`}, {"deposit_cli_version", `"2.7.0"`},
	}
	for i := 0; i+1 < len(changes); i += 2 {
		at := slices.IndexFunc(fields, func(f [2]string) bool { return f[0] == changes[i] })
		switch {
		case at < 0:
			fields = append(fields, [2]string{changes[i], changes[i+1]})
		case changes[i+1] == "":
			fields = slices.Delete(fields, at, at+1)
		default:
			fields[at][1] = changes[i+1]
		}
	}
	var parts []string
	for _, f := range fields {
		parts = append(parts, fmt.Sprintf("%q: %s", f[0], f[1]))
	}
	return "{" + strings.Join(parts, ", ") + "}"
}

// bad is a file that is refused, with code, row and field.
type bad struct {
	name, data string
	code       Code
	row        int
	field      string
}

var broken = []bad{
	{"empty", "", NotJSON, 0, ""},
	{"cut", "[" + row()[:200], NotJSON, 0, ""},
	{"two values", "[" + row() + "] []", NotJSON, 0, ""},
	{"trailing comma", "[" + row() + ",]", NotJSON, 0, ""},
	{"byte order mark", "\ufeff[" + row() + "]", NotJSON, 0, ""},
	{"not UTF-8", "[" + row("network_name", "\"\xff\"") + "]", NotJSON, 0, ""},
	{"NaN", "[" + row("amount", "NaN") + "]", NotJSON, 0, ""},
	{"deep", strings.Repeat("[", 20000), NotJSON, 0, ""},
	{"one object", row(), NotArray, 0, ""},
	{"null", "null", NotArray, 0, ""},
	{"no entries", " [ ] ", NoEntries, 0, ""},
	{"nested list", "[[" + row() + "]]", NotObject, 1, ""},
	{"null entry", "[" + row() + ", null]", NotObject, 2, ""},
	{"text entry", `["x"]`, NotObject, 1, ""},
	{"twice the same field", `[{"pubkey": "` + pk + `", ` + row()[1:] + "]", DuplicateField, 1, "pubkey"},
	{"twice by escape", "[{" + `"\u0070ubkey": "` + pk + `", ` + row()[1:] + "]", DuplicateField, 1, "pubkey"},
	{"twice an unknown field", `[{"x": 1, "x": {"y": [1]}, ` + row()[1:] + "]", DuplicateField, 1, "x"},
	{"name in another case", "[" + strings.Replace(row(), `"pubkey"`, `"Pubkey"`, 1) + "]", MissingField, 1, "pubkey"},
	{"two network names", "[" + row("eth2_network_name", `"sepolia"`) + "]", DuplicateField, 1, "network_name"},
	{"amount as text", "[" + row("amount", `"32000000000"`) + "]", WrongType, 1, "amount"},
	{"amount null", "[" + row("amount", "null") + "]", WrongType, 1, "amount"},
	{"amount list", "[" + row("amount", "[32000000000]") + "]", WrongType, 1, "amount"},
	{"amount with a point", "[" + row("amount", "32000000000.0") + "]", AmountNotInteger, 1, "amount"},
	{"amount with an exponent", "[" + row("amount", "32e9") + "]", AmountNotInteger, 1, "amount"},
	{"amount negative", "[" + row("amount", "-32000000000") + "]", AmountNotInteger, 1, "amount"},
	{"amount minus zero", "[" + row("amount", "-0") + "]", AmountNotInteger, 1, "amount"},
	{"amount too large", "[" + row("amount", "18446744073709551616") + "]", AmountNotInteger, 1, "amount"},
	{"network name a number", "[" + row("network_name", "5") + "]", WrongType, 1, "network_name"},
	{"network name long", "[" + row("network_name", `"`+strings.Repeat("h", 101)+`"`) + "]", WrongLength, 1, "network_name"},
	{"version a list", "[" + row("deposit_cli_version", `[{"a": []}]`) + "]", WrongType, 1, "deposit_cli_version"},
	{"version long", "[" + row("deposit_cli_version", `"`+strings.Repeat("1", 101)+`"`) + "]", WrongLength, 1, "deposit_cli_version"},
	{"second row", "[" + row() + ",\n" + row("amount", `"1"`) + "]", WrongType, 2, "amount"},
	{"many unknown fields", "[" + row(extras(33)...) + "]", WrongType, 1, "x32"},
}

func extras(n int) (out []string) {
	for i := range n {
		out = append(out, fmt.Sprintf("x%d", i), "0")
	}
	return out
}

func init() {
	for field, digits := range map[string]int{"pubkey": 96, "withdrawal_credentials": 64, "signature": 192,
		"deposit_message_root": 64, "deposit_data_root": 64, "fork_version": 8} {
		hex := strings.Repeat("ab", digits/2)
		for _, c := range []struct {
			value string
			code  Code
		}{
			{"", MissingField},
			{"null", WrongType}, {"12", WrongType}, {"true", WrongType}, {`["` + hex + `"]`, WrongType}, {`{"a": "` + hex + `"}`, WrongType},
			{`"0x` + hex + `"`, HexPrefix}, {`"0X` + hex[2:] + `"`, HexPrefix},
			{`""`, WrongLength}, {`"` + hex[1:] + `"`, WrongLength}, {`"` + hex + `a"`, WrongLength}, {`" ` + hex + `"`, WrongLength},
			{`"` + strings.ToUpper(hex) + `"`, UpperCase}, {`"` + hex[:digits-1] + `B"`, UpperCase},
			{`"` + hex[:digits-1] + `g"`, NotHex}, {`" ` + hex[1:] + `"`, NotHex}, {`"` + hex[:digits-1] + `\u0000"`, NotHex},
		} {
			broken = append(broken, bad{field + "=" + c.value, "[" + row(field, c.value) + "]", c.code, 1, field})
		}
	}
	broken = append(broken, bad{"no amount", "[" + row("amount", "") + "]", MissingField, 1, "amount"})
}

func TestParseRefuses(t *testing.T) {
	for _, c := range broken {
		entries, err := ParseFile("f.json", []byte(c.data))
		var fault *FormatError
		if !errors.As(err, &fault) || !errors.Is(err, ErrFormat) || entries != nil {
			t.Errorf("%s: %d entries, error %v", c.name, len(entries), err)
			continue
		}
		f := fault.Findings[0]
		if len(fault.Findings) != 1 || f.Code != c.code || f.Row != c.row || f.Field != c.field || f.Severity != Refuse || f.Source != "f.json" {
			t.Errorf("%s: %+v, want %s in row %d, field %q", c.name, fault.Findings, c.code, c.row, c.field)
		}
		if len(err.Error()) > 600 {
			t.Errorf("%s: error of %d bytes", c.name, len(err.Error()))
		}
	}
}

func TestParseSize(t *testing.T) {
	_, err := ParseFile("f", make([]byte, MaxFileBytes+1))
	var fault *FormatError
	if !errors.As(err, &fault) || fault.Findings[0].Code != FileSize {
		t.Error(err)
	}
	if _, err := ParseFile("f", append([]byte("["+row()+"]"), bytes.Repeat([]byte(" "), 1000)...)); err != nil {
		t.Error(err)
	}
}

// A file that is wrong throughout is reported with its first faults, not with
// all of them.
func TestParseManyFaults(t *testing.T) {
	_, err := ParseFile("f", []byte("["+strings.Repeat(row("amount", "1.5")+",\n", 1000)+row()+"]"))
	var fault *FormatError
	if !errors.As(err, &fault) || len(fault.Findings) != 20 || fault.Findings[19].Row != 20 {
		t.Fatalf("%v", err)
	}
	if !strings.Contains(fault.Findings[19].Message, "line 20:") || !strings.Contains(err.Error(), "and 19 more") {
		t.Errorf("%v, %q", err, fault.Findings[19].Message)
	}
}

func TestParseTolerates(t *testing.T) {
	data := "\n[ " + row("network_name", "", "deposit_cli_version", "", "x", `{"a": [1, {"b": null}]}`, "esc", "1") + ",\n\n\t" +
		row("network_name", "", "eth2_network_name", `"hoodi"`) + "," + row("eth2_network_name", `"hoodi"`) + "]\n"
	data = strings.Replace(data, `"esc"`, `"\u001b[2J"`, 1)
	entries, err := ParseFile("f", []byte(data))
	if err != nil {
		t.Fatal(err)
	}
	if len(entries) != 3 {
		t.Fatalf("%d entries", len(entries))
	}
	e := entries[0]
	if e.Row != 1 || e.Line != 2 || e.NetworkName != "" || e.CLIVersion != "" || !slices.Equal(e.Extra, []string{"x", "\x1b[2J"}) {
		t.Errorf("%+v", e)
	}
	if e.Pubkey.Hex() != pk || e.Credentials.Hex() != wc || e.Signature.Hex() != sig || e.MessageRoot.Hex() != rt ||
		e.DataRoot.Hex() != rt || e.Amount != 32*ether || e.ForkVersion != (eth.Version{0x10, 0, 9, 0x10}) {
		t.Errorf("%+v", e)
	}
	if e := entries[1]; e.Row != 2 || e.Line != 4 || e.NetworkName != "hoodi" || e.CLIVersion != "2.7.0" {
		t.Errorf("%+v", e)
	}
	if e := entries[2]; e.Row != 3 || e.Line != 4 || e.NetworkName != "hoodi" {
		t.Errorf("%+v", e)
	}
}

func TestWriteFile(t *testing.T) {
	entries, err := ParseFile("f", []byte("["+row("deposit_cli_version", "")+","+row()+"]"))
	if err != nil {
		t.Fatal(err)
	}
	var a, b bytes.Buffer
	if err := errors.Join(WriteFile(&a, entries), WriteFile(&b, entries)); err != nil {
		t.Fatal(err)
	}
	// Byte for byte what python's json.dumps gives, but for the line break.
	if want := "[" + row() + ",\n" + row() + "]\n"; a.String() != want || b.String() != want {
		t.Errorf("wrote %s, want %s", a.String(), want)
	}
	if err := WriteFile(&a, nil); !errors.Is(err, ErrFormat) {
		t.Errorf("no entries: %v", err)
	}
	entries[1].NetworkName = ""
	if err := WriteFile(&a, entries); !errors.Is(err, ErrFormat) {
		t.Errorf("no network: %v", err)
	}
	entries[1].NetworkName = "hoodi"
	if err := WriteFile(full{}, entries); !errors.Is(err, errFull) {
		t.Errorf("full disk: %v", err)
	}
}

var errFull = errors.New("disk full")

type full struct{}

func (full) Write([]byte) (int, error) { return 0, errFull }

// seeds of FuzzParseFile; TestFuzzSeeds keeps them from vanishing.
func seeds() (out [][]byte) {
	out = append(out, []byte("["+row()+"]"), []byte("["+row("x", `{"a": [1]}`)+","+row("network_name", "", "eth2_network_name", `"a\u2028<b"`)+"]"))
	for i, c := range broken {
		if i%5 == 0 && len(c.data) < 4000 {
			out = append(out, []byte(c.data))
		}
	}
	return out
}

func TestFuzzSeeds(t *testing.T) {
	good := 0
	for _, s := range seeds() {
		if _, err := ParseFile("f", s); err == nil {
			good++
		}
	}
	if good < 2 || len(seeds()) < good+5 {
		t.Errorf("%d of %d seeds parse", good, len(seeds()))
	}
}

// What parses is written and parses as the same; what does not gives a
// FormatError with a finding. Neither panics or grows an error without bound.
func FuzzParseFile(f *testing.F) {
	for _, s := range seeds() {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		entries, err := ParseFile("f", data)
		if err != nil {
			var fault *FormatError
			if !errors.As(err, &fault) || len(fault.Findings) == 0 || entries != nil || len(err.Error()) > 2000 {
				t.Fatalf("error %v with %d entries", err, len(entries))
			}
			return
		}
		if len(entries) == 0 {
			t.Fatal("no entries and no error")
		}
		for i := range entries {
			if entries[i].Row != i+1 || entries[i].Line < 1 || entries[i].Line > 1+bytes.Count(data, []byte("\n")) {
				t.Fatalf("entry %d: row %d, line %d", i, entries[i].Row, entries[i].Line)
			}
			if entries[i].CLIVersion == "" {
				entries[i].CLIVersion = CLIVersion
			}
			if entries[i].NetworkName == "" {
				entries[i].NetworkName = "none"
			}
		}
		var out bytes.Buffer
		if err := WriteFile(&out, entries); err != nil {
			t.Fatal(err)
		}
		again, err := ParseFile("f", out.Bytes())
		if err != nil {
			t.Fatalf("%v: %s", err, out.Bytes())
		}
		sameEntries(t, entries, again)
	})
}
