package record_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stakeseal/stakeseal/eth"
	"github.com/stakeseal/stakeseal/record"
	"github.com/stakeseal/stakeseal/record/recordtest"
)

var (
	order    = recordtest.Order("o1", 3)
	mnemonic = recordtest.Mnemonic(order, "m1")
	birth    = recordtest.Birth(order, mnemonic, 2, "")
	assigned = recordtest.Assignment(birth, "signer-a", 7)
	event    = record.Event{
		Time: recordtest.Start, Kind: "exported", Order: "o1", Pubkey: birth.Pubkey, Actor: "anna <anna@example.org>",
		Detail: map[string]string{"client": "x", "a": "ü"}, Once: "export/1",
	}
	bare = record.Event{Time: recordtest.Start, Kind: "opened", Actor: "anna"}
	kms  = signed(birth) // its certifying key is kept by a service
)

func signed(b record.Birth) record.Birth {
	b.SignRequest = "7d1f5b4e-3c2a-4f61-9E80-0a1b2c3d4e5f"
	return b
}

// form is one record type with its two functions, so that every test runs
// over all of them.
type form struct {
	schema string
	encode func() ([]byte, error)
	again  func(data []byte) ([]byte, any, error) // decodes and encodes again
	value  any
}

func formOf[T any](schema string, v T, encode func(T) ([]byte, error), decode func([]byte) (T, error)) form {
	return form{schema, func() ([]byte, error) { return encode(v) }, func(data []byte) ([]byte, any, error) {
		v, err := decode(data)
		if err != nil {
			return nil, v, err
		}
		again, err := encode(v)
		return again, v, err
	}, v}
}

var forms = []form{
	formOf("order", order, record.EncodeOrder, record.DecodeOrder),
	formOf("mnemonic", mnemonic, record.EncodeMnemonic, record.DecodeMnemonic),
	formOf("birth", birth, record.EncodeBirth, record.DecodeBirth),
	formOf("validator", birth.Validator, record.EncodeValidator, record.DecodeValidator),
	formOf("assignment", assigned, record.EncodeAssignment, record.DecodeAssignment),
	formOf("event", event, record.EncodeEvent, record.DecodeEvent),
	formOf("event", bare, record.EncodeEvent, record.DecodeEvent),
	formOf("birth", kms, record.EncodeBirth, record.DecodeBirth),
	formOf("validator", kms.Validator, record.EncodeValidator, record.DecodeValidator),
}

// golden is the name of the file that holds a form's bytes.
func (f form) golden() string {
	switch {
	case reflect.DeepEqual(f.value, bare):
		return "event-bare.json"
	case reflect.DeepEqual(f.value, kms):
		return "birth-kms.json"
	case reflect.DeepEqual(f.value, kms.Validator):
		return "validator-kms.json"
	}
	return f.schema + ".json"
}

func encoded(t testing.TB, f form) []byte {
	t.Helper()
	data, err := f.encode()
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestRoundTrip(t *testing.T) {
	for _, f := range forms {
		data := encoded(t, f)
		if !bytes.HasPrefix(data, []byte(`{"schema":"stakeseal/`+f.schema+`/v1",`)) || !json.Valid(data) {
			t.Errorf("%s: begins %.60q", f.schema, data)
		}
		again, v, err := f.again(data)
		if err != nil || !reflect.DeepEqual(v, f.value) || !bytes.Equal(again, data) {
			t.Errorf("%s: %v\n got %+v\nwant %+v", f.schema, err, v, f.value)
		}
		if !bytes.Equal(encoded(t, f), data) {
			t.Errorf("%s: encodes differently each time", f.schema)
		}
	}
}

// TestGolden holds the forms fast: what was archived years ago must still
// read, so a change of these bytes is a new schema version.
func TestGolden(t *testing.T) {
	for _, f := range forms {
		data := encoded(t, f)
		name := filepath.Join("testdata", f.golden())
		want, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(data, want) {
			t.Errorf("%s differs from %s:\n%s", f.schema, name, data)
		}
	}
}

// TestStrict changes valid objects into ones that a lax reader would take.
func TestStrict(t *testing.T) {
	for _, f := range forms {
		data := string(encoded(t, f))
		opening := `{"schema":"stakeseal/` + f.schema + `/v1",`
		fields := strings.TrimPrefix(data, opening)
		firstKey := regexp.MustCompile(`^"[a-z_]+"`).FindString(fields)
		indented := new(bytes.Buffer)
		if err := json.Indent(indented, []byte(data), "", " "); err != nil {
			t.Fatal(err)
		}
		for what, bad := range map[string]string{
			"nothing":              "",
			"null":                 "null",
			"an array":             "[" + data + "]",
			"cut short":            data[:len(data)-1],
			"trailing data":        data + "{}",
			"a trailing line":      data + "\n",
			"a leading space":      " " + data,
			"a byte order mark":    "\xef\xbb\xbf" + data,
			"white space inside":   indented.String(),
			"no schema":            "{" + fields,
			"another version":      strings.Replace(data, "/v1", "/v2", 1),
			"another schema":       strings.Replace(data, "stakeseal/"+f.schema, "stakeseal/other", 1),
			"the schema last":      "{" + strings.TrimSuffix(fields, "}") + `,"schema":"stakeseal/` + f.schema + `/v1"}`,
			"the schema twice":     opening + opening[1:] + fields,
			"an unknown field":     opening + `"extra":1,` + fields,
			"a field in capitals":  opening + strings.ToUpper(firstKey) + fields[len(firstKey):],
			"a field twice":        opening + firstKey + `:"x",` + fields,
			"only the schema":      opening[:len(opening)-1] + "}",
			"too large":            data + strings.Repeat(" ", record.MaxRecord),
			"another time zone":    regexp.MustCompile(`(T12:\d\d:\d\d)Z`).ReplaceAllString(data, "$1+00:00"),
			"a fraction of second": regexp.MustCompile(`(T12:\d\d:\d\d)Z`).ReplaceAllString(data, "$1.5Z"),
			"an escaped letter":    regexp.MustCompile(`:"(.)([^"]*",)`).ReplaceAllStringFunc(data, escapeFirst),
		} {
			if bad == data {
				t.Errorf("%s: %s changes nothing", f.schema, what)
			}
			_, v, err := f.again([]byte(bad))
			if !errors.Is(err, record.ErrFormat) {
				t.Errorf("%s with %s: got %v, want ErrFormat", f.schema, what, err)
			}
			if err != nil && (what == "too large") != strings.Contains(err.Error(), " bytes, more than ") {
				t.Errorf("%s with %s: %v", f.schema, what, err) // its size is looked at first, and only then
			}
			if !reflect.ValueOf(v).IsZero() {
				t.Errorf("%s with %s: returned a value beside the error", f.schema, what)
			}
		}
	}
	if _, err := record.DecodeBirth(encoded(t, forms[1])); err == nil || !strings.Contains(err.Error(), `it is a "stakeseal/mnemonic/v1"`) {
		t.Errorf("a mnemonic read as a birth: %v", err)
	}
}

// escapeFirst writes the first letter of a value as an escape: :"ab", to
// :"\u0061b",.
func escapeFirst(value string) string {
	return fmt.Sprintf(`:"\u%04x%s`, value[2], value[3:])
}

// TestEveryByte changes each byte of a birth: no change yields the same
// record, and none of the sealed file yields a record at all.
func TestEveryByte(t *testing.T) {
	data := encoded(t, forms[2])
	start := bytes.Index(data, []byte(`"file":"`)) + len(`"file":"`)
	end := start + bytes.IndexByte(data[start:], '"')
	for i := range data {
		for _, flip := range []byte{0x01, 0x20} {
			changed := bytes.Clone(data)
			changed[i] ^= flip
			b, err := record.DecodeBirth(changed)
			if err == nil && (reflect.DeepEqual(b, birth) || i >= start && i < end) {
				t.Fatalf("byte %d changed from %q to %q is still read", i, data[i], changed[i])
			}
		}
	}
}

func TestCheck(t *testing.T) {
	with := func(change func(*record.Birth)) func() error {
		return func() error {
			b := recordtest.Birth(order, mnemonic, 2, "")
			change(&b)
			_, err := record.EncodeBirth(b)
			return err
		}
	}
	ordered := func(change func(*record.Order)) func() error {
		return func() error {
			o := recordtest.Order("o1", 3)
			change(&o)
			_, err := record.EncodeOrder(o)
			return err
		}
	}
	words := func(change func(*record.Mnemonic)) func() error {
		return func() error {
			m := recordtest.Mnemonic(order, "m1")
			change(&m)
			_, err := record.EncodeMnemonic(m)
			return err
		}
	}
	resealed := func(change func(*record.Sealing)) func() error {
		return with(func(b *record.Birth) { change(&b.Sealing) })
	}
	for what, encode := range map[string]func() error{
		"a certificate with spaces":    with(func(b *record.Birth) { b.Certificate = json.RawMessage(`{"a": 1}`) }),
		"a certificate with <":         with(func(b *record.Birth) { b.Certificate = json.RawMessage(`{"a":"<"}`) }),
		"a certificate that is a list": with(func(b *record.Birth) { b.Certificate = json.RawMessage(`[]`) }),
		"a certificate cut short":      with(func(b *record.Birth) { b.Certificate = b.Certificate[:9] }),
		"a certificate not in UTF-8":   with(func(b *record.Birth) { b.Certificate = json.RawMessage("{\"a\":\"\xff\"}") }),
		"a huge certificate": with(func(b *record.Birth) {
			b.Certificate = json.RawMessage(`{"a":"` + strings.Repeat("x", record.MaxRecord) + `"}`)
		}),
		"another index's path":         with(func(b *record.Birth) { b.Index++ }),
		"an index beyond EIP-2334":     with(func(b *record.Birth) { b.Index, b.Path = 1<<31, "m/12381/3600/2147483648/0/0" }),
		"words beyond EIP-2334":        words(func(m *record.Mnemonic) { m.To = 1<<31 + 1 }),
		"an order beyond EIP-2334":     ordered(func(o *record.Order) { o.Count = 1<<31 + 1 }),
		"no pubkey":                    with(func(b *record.Birth) { b.Pubkey = eth.Pubkey{} }),
		"no deposits":                  with(func(b *record.Birth) { b.Deposits = nil }),
		"a deposit of nothing":         with(func(b *record.Birth) { b.Deposits[0].Amount = 0 }),
		"a time of its own zone":       with(func(b *record.Birth) { b.Created = b.Created.In(time.FixedZone("x", 3600)) }),
		"a time with nanoseconds":      with(func(b *record.Birth) { b.Created = b.Created.Add(1) }),
		"a monotonic time":             with(func(b *record.Birth) { b.Created = time.Now() }),
		"no time":                      with(func(b *record.Birth) { b.Created = time.Time{} }),
		"a far time":                   with(func(b *record.Birth) { b.Created = time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC) }),
		"a request id with a space":    with(func(b *record.Birth) { b.SignRequest = "a b" }),
		"a request id of two lines":    with(func(b *record.Birth) { b.SignRequest = "a\nb" }),
		"a long request id":            with(func(b *record.Birth) { b.SignRequest = strings.Repeat("a", 65) }),
		"a mnemonic id with a slash":   with(func(b *record.Birth) { b.Mnemonic = "a/b" }),
		"a file of another digest":     resealed(func(s *record.Sealing) { s.File[3]++ }),
		"no file":                      resealed(func(s *record.Sealing) { s.File, s.Digest = nil, record.DigestOf(nil) }),
		"a huge file":                  resealed(func(s *record.Sealing) { s.File = make([]byte, 200<<10); s.Digest = record.DigestOf(s.File) }),
		"no recipients":                resealed(func(s *record.Sealing) { s.Recipients = nil }),
		"a recipient in two lines":     resealed(func(s *record.Sealing) { s.Recipients[0].Key = "a\nb" }),
		"a nameless recipient":         resealed(func(s *record.Sealing) { s.Recipients[0].Name = "" }),
		"a later generation":           resealed(func(s *record.Sealing) { s.Generation, s.Previous = 1, record.Digest{1} }),
		"generation 0 with a former":   resealed(func(s *record.Sealing) { s.Previous = record.Digest{1} }),
		"a birth sealed for recovery":  resealed(func(s *record.Sealing) { s.Purpose = record.Recovery }),
		"words sealed for signing":     words(func(m *record.Mnemonic) { m.Sealing.Purpose = record.Signing }),
		"words for no index":           words(func(m *record.Mnemonic) { m.From = m.To }),
		"an order of none":             ordered(func(o *record.Order) { o.Count = 0 }),
		"an order without a plan":      ordered(func(o *record.Order) { o.Plan = []eth.Gwei{} }),
		"an order with a zero amount":  ordered(func(o *record.Order) { o.Plan[1] = 0 }),
		"an order with a huge plan":    ordered(func(o *record.Order) { o.Plan = make([]eth.Gwei, 33) }),
		"an order for another kdf":     ordered(func(o *record.Order) { o.Keystore = "argon2" }),
		"an order without settings":    ordered(func(o *record.Order) { o.Settings = record.Digest{} }),
		"an order without a network":   ordered(func(o *record.Order) { o.Network = "" }),
		"a label that rules terminals": ordered(func(o *record.Order) { o.Labels["x"] = "\x1b[2J" }),
		"a label not in UTF-8":         ordered(func(o *record.Order) { o.Labels["x"] = "\xff" }),
		"a label without a name":       ordered(func(o *record.Order) { o.Labels[""] = "x" }),
		"a label that turns text":      ordered(func(o *record.Order) { o.Labels["x"] = "a\u202eb" }),
		"a long label":                 ordered(func(o *record.Order) { o.Labels["x"] = strings.Repeat("x", 1025) }),
	} {
		if err := encode(); !errors.Is(err, record.ErrFormat) {
			t.Errorf("%s: got %v, want ErrFormat", what, err)
		} else if len(err.Error()) > 600 {
			t.Errorf("%s: an error of %d bytes", what, len(err.Error()))
		}
	}
	for _, f := range []func() error{with(func(*record.Birth) {}), ordered(func(*record.Order) {}), words(func(*record.Mnemonic) {})} {
		if err := f(); err != nil {
			t.Errorf("unchanged: %v", err)
		}
	}
}

func TestEmptyLabels(t *testing.T) {
	o := order
	o.Labels = map[string]string{}
	data, err := record.EncodeOrder(o)
	if err != nil {
		t.Fatal(err)
	}
	got, err := record.DecodeOrder(data)
	if err != nil || got.Labels != nil || got.Digest() != o.Digest() {
		t.Fatalf("%v %v", got.Labels, err)
	}
}

func TestDigest(t *testing.T) {
	// The digest of an order is that of its own form without the schema, the
	// settings and the time: a stranger can compute it from the object.
	data := string(encoded(t, forms[0]))
	data = strings.Replace(data, `"schema":"stakeseal/order/v1",`, "", 1)
	data = regexp.MustCompile(`,"settings_digest":"[0-9a-f]{64}","created":"[^"]+"`).ReplaceAllString(data, "")
	if got, want := record.DigestOf([]byte(data)), order.Digest(); got != want {
		t.Errorf("digest of %s is %s, want %s", data, got, want)
	}
	var d record.Digest
	for _, bad := range []string{"", "00", strings.Repeat("g", 64), strings.Repeat("0", 65)} {
		if d.UnmarshalText([]byte(bad)) == nil {
			t.Errorf("digest %q was read", bad)
		}
	}
}

func TestIDAndName(t *testing.T) {
	for _, good := range []string{"a", "0", "o-1_2.3", strings.Repeat("a", 64), "a..b"} {
		if err := record.CheckID(good); err != nil {
			t.Error(err)
		}
	}
	for _, bad := range []string{"", "A", "-a", ".a", "_a", "..", "a/b", "a b", "ä", "a\n", strings.Repeat("a", 65)} {
		if err := record.CheckID(bad); !errors.Is(err, record.ErrFormat) {
			t.Errorf("id %q: %v", bad, err)
		}
	}
}

func FuzzDecodeOrder(f *testing.F)      { fuzz(f, forms[0]) }
func FuzzDecodeMnemonic(f *testing.F)   { fuzz(f, forms[1]) }
func FuzzDecodeBirth(f *testing.F)      { fuzz(f, forms[2]) }
func FuzzDecodeValidator(f *testing.F)  { fuzz(f, forms[3]) }
func FuzzDecodeAssignment(f *testing.F) { fuzz(f, forms[4]) }
func FuzzDecodeEvent(f *testing.F)      { fuzz(f, forms[5]) }

// seeds are what every decoder starts from: each form, whole and damaged.
func seeds(t testing.TB) (out [][]byte) {
	t.Helper()
	for _, f := range forms {
		data := encoded(t, f)
		out = append(out, data, data[:len(data)/2], append(bytes.Clone(data), '\n'), bytes.ToUpper(data))
	}
	return append(out, nil, []byte("null"), []byte(`{"schema":"stakeseal/birth/v1",}`))
}

// fuzz: what is read is written again byte for byte; nothing panics; every
// refusal is ErrFormat and short.
func fuzz(f *testing.F, form form) {
	for _, seed := range seeds(f) {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		again, _, err := form.again(data)
		switch {
		case err == nil && !bytes.Equal(again, data):
			t.Fatalf("read:\n%s\nwritten again:\n%s", data, again)
		case err != nil && !errors.Is(err, record.ErrFormat):
			t.Fatal(err)
		case err != nil && len(err.Error()) > 2000:
			t.Fatalf("an error of %d bytes", len(err.Error()))
		}
	})
}

// FuzzCheckName: a name that passes is its own and only spelling and stays
// inside any folder.
func FuzzCheckName(f *testing.F) {
	for _, name := range nameSeeds {
		f.Add(name)
	}
	f.Fuzz(func(t *testing.T, name string) {
		if record.CheckName(name) == nil && (path.Clean(name) != name || !filepath.IsLocal(name) || path.IsAbs(name) || len(name) > 200) {
			t.Fatalf("name %q passes", name)
		}
		if record.CheckID(name) == nil && record.CheckName(name) != nil {
			t.Fatalf("id %q is no name", name)
		}
	})
}

var nameSeeds = []string{"a", "a/b", "../a", "a/..", "/a", "a//b", "a/./b", "", "A", "...", strings.Repeat("a/", 100) + "a"}

// TestSeeds fails when a fuzz target starts from nothing: it would find
// nothing, silently.
func TestSeeds(t *testing.T) {
	if len(seeds(t)) < 2*len(forms) || len(nameSeeds) == 0 {
		t.Fatal("no seeds")
	}
	source, err := os.ReadFile("codec_test.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, target := range regexp.MustCompile(`(?m)^func Fuzz\w+\(f \*testing\.F\).*$`).FindAllString(string(source), -1) {
		if !strings.Contains(target, "{ fuzz(f, forms[") && !strings.HasPrefix(target, "func FuzzCheckName(") {
			t.Errorf("unknown target, has it seeds? %s", target)
		}
	}
	for i, schema := range []string{"order", "mnemonic", "birth", "validator", "assignment", "event"} {
		if forms[i].schema != schema {
			t.Errorf("form %d is %s, not %s", i, forms[i].schema, schema)
		}
		if _, _, err := forms[i].again(encoded(t, forms[i])); err != nil {
			t.Errorf("the %s seed does not decode: %v", schema, err)
		}
	}
}
