package sample

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"maps"
	"os"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/stakeseal/stakeseal/eth"
	"github.com/stakeseal/stakeseal/eth/keystore"
	"github.com/stakeseal/stakeseal/internal/aws/sample/sampletest"
	"github.com/stakeseal/stakeseal/secret"
)

const table = "arn:aws:dynamodb:us-east-1:111122223333:table/secure-keygen-ValidatorKeysTable-ABC"

func plainly(b []byte) ([]byte, error) { return bytes.Clone(b), nil } // no encryption: what is in the row can be looked at

func function(t testing.TB, encrypt func([]byte) ([]byte, error)) sampletest.Function {
	t.Helper()
	n, ok := eth.LookupNetwork("hoodi")
	if !ok {
		t.Fatal("no hoodi")
	}
	return sampletest.Function{Network: n, Address: &eth.Address{7}, KDF: keystore.PBKDF2, Encrypt: encrypt, Now: time.Date(2022, 12, 3, 4, 5, 6, 789000, time.UTC)}
}

func invoke(t testing.TB, f sampletest.Function, n uint32) []sampletest.Row {
	t.Helper()
	rows, err := f.Invoke(n)
	if err != nil {
		t.Fatal(err)
	}
	return rows
}

// pages is a table whose pages are as given, for any caller that names it.
type pages struct {
	t     testing.TB
	pages [][]map[string]types.AttributeValue
	fail  error // of the last page
	stuck bool
	asked int
}

func (p *pages) Scan(_ context.Context, in *dynamodb.ScanInput, _ ...func(*dynamodb.Options)) (*dynamodb.ScanOutput, error) {
	if aws.ToString(in.TableName) != table || !aws.ToBool(in.ConsistentRead) || in.FilterExpression != nil || in.Limit != nil {
		p.t.Errorf("asked for %+v", in)
	}
	p.asked++
	n := 0
	if in.ExclusiveStartKey != nil {
		n = int(in.ExclusiveStartKey["n"].(*types.AttributeValueMemberS).Value[0])
	}
	if p.fail != nil && n == len(p.pages)-1 {
		return nil, p.fail
	}
	out := &dynamodb.ScanOutput{Items: p.pages[n]}
	if n++; p.stuck && n > 1 {
		n--
	}
	if n < len(p.pages) {
		out.LastEvaluatedKey = map[string]types.AttributeValue{"n": &types.AttributeValueMemberS{Value: string([]byte{byte(n)})}}
	}
	return out, nil
}

// TestRows: what the sample writes is read, from the table and from an export
// of it, whole.
func TestRows(t *testing.T) {
	made := invoke(t, function(t, plainly), 3)
	made[1].Item["web3signer_uuid"] = &types.AttributeValueMemberS{Value: "a5f1a0a5-0000-4000-8000-000000000001"}
	made[1].Item["active"] = &types.AttributeValueMemberBOOL{Value: false}
	delete(made[2].Item, "active")
	delete(made[2].Item, "datetime")
	made[2].Item["note"] = &types.AttributeValueMemberN{Value: "1"}
	p := &pages{t: t, pages: [][]map[string]types.AttributeValue{{made[0].Item}, {}, {made[1].Item, made[2].Item}}}
	scanned, err := Scan(t.Context(), p, table)
	if err != nil || p.asked != 3 {
		t.Fatalf("%d pages, %v", p.asked, err)
	}
	exported, err := ParseExport(sampletest.Export(made...))
	if err != nil {
		t.Fatal(err)
	}
	for _, rows := range [][]Read{scanned, exported} {
		if len(rows) != 3 {
			t.Fatalf("%d rows", len(rows))
		}
		for i, r := range rows {
			m := made[i]
			if r.Err != nil || r.Pubkey != m.Pubkey || r.Chain != "hoodi" || !bytes.Equal(r.Deposit, m.Deposit) ||
				r.Active != (i != 1) || (r.Made == "2022-12-03T04:05:06.000789") != (i != 2) || (r.Signer == "none") != (i != 1) || len(r.Extra) != i/2 {
				t.Errorf("row %d: %+v", i, r)
			}
			s, err := parse(secret.Copy(r.Blob))
			if err != nil || !bytes.Equal(s.Keystore.Expose(), m.Keystore) || !bytes.Equal(s.Password.Expose(), m.Password) || !bytes.Equal(s.Words.Expose(), m.Words) {
				t.Errorf("row %d: its secrets: %v", i, err)
			}
			s.Wipe()
			s.Wipe()
			if s.Keystore.Len()+s.Password.Len()+s.Words.Len() != 0 {
				t.Error("not wiped")
			}
		}
	}
}

// TestBadRows: a row that is not as the sample writes it says why, by its key,
// and the rows beside it are read.
func TestBadRows(t *testing.T) {
	text := func(s string) types.AttributeValue { return &types.AttributeValueMemberS{Value: s} }
	made := invoke(t, function(t, plainly), 2)
	for what, c := range map[string]struct {
		change func(item map[string]types.AttributeValue)
		says   string
	}{
		"no pubkey":           {func(i map[string]types.AttributeValue) { delete(i, "pubkey") }, "it has no pubkey"},
		"a short pubkey":      {func(i map[string]types.AttributeValue) { i["pubkey"] = text("ab") }, "96 lower-case hex digits"},
		"a pubkey with 0x":    {func(i map[string]types.AttributeValue) { i["pubkey"] = text("0x" + made[0].Pubkey.Hex()) }, "96 lower-case hex digits"},
		"a pubkey in capital": {func(i map[string]types.AttributeValue) { i["pubkey"] = text(strings.ToUpper(made[0].Pubkey.Hex())) }, "96 lower-case hex digits"},
		"a pubkey as number":  {func(i map[string]types.AttributeValue) { i["pubkey"] = &types.AttributeValueMemberN{Value: "1"} }, "its pubkey is no text"},
		"no signer":           {func(i map[string]types.AttributeValue) { delete(i, "web3signer_uuid") }, "it has no web3signer_uuid"},
		"no chain":            {func(i map[string]types.AttributeValue) { delete(i, "chain") }, "it has no chain"},
		"an empty chain":      {func(i map[string]types.AttributeValue) { i["chain"] = text("") }, "its chain has 0 bytes"},
		"a long chain":        {func(i map[string]types.AttributeValue) { i["chain"] = text(strings.Repeat("x", 300)) }, "its chain has 300 bytes"},
		"no ciphertext":       {func(i map[string]types.AttributeValue) { delete(i, attrBlob) }, "it has no " + attrBlob},
		"ciphertext not b64":  {func(i map[string]types.AttributeValue) { i[attrBlob] = text("%%%%") }, "is not base64"},
		"ciphertext in lines": {func(i map[string]types.AttributeValue) { i[attrBlob] = text("QUJD\nQUJD") }, "is not base64"},
		"ciphertext unpadded": {func(i map[string]types.AttributeValue) { i[attrBlob] = text("QUI") }, "is not base64"},
		"a huge ciphertext":   {func(i map[string]types.AttributeValue) { i[attrBlob] = text(strings.Repeat("QUJD", 3000)) }, "has 12000 bytes"},
		"no deposit data":     {func(i map[string]types.AttributeValue) { delete(i, attrDeposit) }, "it has no " + attrDeposit},
		"deposit as binary": {func(i map[string]types.AttributeValue) {
			i[attrDeposit] = &types.AttributeValueMemberB{Value: []byte("x")}
		}, "is no text"},
		"active as a text": {func(i map[string]types.AttributeValue) { i[attrActive] = text("true") }, "no truth value"},
	} {
		bad := maps.Clone(made[0].Item)
		c.change(bad)
		rows, err := Scan(t.Context(), &pages{t: t, pages: [][]map[string]types.AttributeValue{{bad, made[1].Item}}}, table)
		if err != nil || len(rows) != 2 {
			t.Fatalf("%s: %v", what, err)
		}
		if r := rows[0]; !errors.Is(r.Err, ErrRow) || !strings.Contains(r.Err.Error(), c.says) || r.Blob != nil || r.Name == "" {
			t.Errorf("%s: %q: %v", what, r.Name, r.Err)
		}
		if rows[1].Err != nil || rows[1].Pubkey != made[1].Pubkey {
			t.Errorf("%s: the row beside it: %v", what, rows[1].Err)
		}
	}
}

func TestScanRefuses(t *testing.T) {
	made := invoke(t, function(t, plainly), 1)
	page := []map[string]types.AttributeValue{made[0].Item}
	lost := errors.New("connection reset")
	if rows, err := Scan(t.Context(), &pages{t: t, pages: [][]map[string]types.AttributeValue{page, page}, fail: lost}, table); !errors.Is(err, lost) || rows != nil {
		t.Errorf("a page failed: %d rows, %v", len(rows), err)
	}
	p := &pages{t: t, pages: [][]map[string]types.AttributeValue{page, page, page}, stuck: true}
	if rows, err := Scan(t.Context(), p, table); err == nil || rows != nil || p.asked > 3 {
		t.Errorf("a page that leads to itself: %d rows after %d pages, %v", len(rows), p.asked, err)
	}
	for _, bad := range []string{"", "ValidatorKeysTable", table + "/index/x", strings.Replace(table, "dynamodb", "kms", 1)} {
		if _, err := Scan(t.Context(), p, bad); err == nil {
			t.Errorf("table %q was read", bad)
		}
	}
}

func TestPlaintexts(t *testing.T) {
	b := base64.StdEncoding.EncodeToString
	k, p, m := b([]byte(`{"version": 4}`)), b([]byte("a password")), b([]byte("legal winner"))
	good := `{"keystore_b64": "` + k + `", "password_b64": "` + p + `", "mnemonic_b64": "` + m + `"}`
	for _, text := range []string{good, " \n" + good + "\t\r\n", `{"mnemonic_b64":"` + m + `","keystore_b64":"` + k + `","password_b64":"` + p + `"}`} {
		s, err := parse(secret.Copy([]byte(text)))
		if err != nil || string(s.Words.Expose()) != "legal winner" || string(s.Password.Expose()) != "a password" || string(s.Keystore.Expose()) != `{"version": 4}` {
			t.Errorf("%s: %v", text, err)
		}
	}
	for what, text := range map[string]string{
		"nothing":         "",
		"null":            "null",
		"a list":          "[" + good + "]",
		"cut":             good[:len(good)-1],
		"cut in a text":   good[:30],
		"two":             good + good,
		"a field less":    `{"keystore_b64": "` + k + `", "password_b64": "` + p + `"}`,
		"a field more":    strings.TrimSuffix(good, "}") + `, "x": "` + k + `"}`,
		"another field":   strings.Replace(good, "password_b64", "passw0rd_b64", 1),
		"a field twice":   strings.Replace(good, "mnemonic_b64", "password_b64", 1),
		"capitals":        strings.Replace(good, "mnemonic_b64", "Mnemonic_b64", 1),
		"an escape":       strings.Replace(good, "mnemonic_b64", `mnemonic\u005fb64`, 1),
		"not base64":      strings.Replace(good, m, "legal", 1),
		"base64 in lines": strings.Replace(good, m, m[:4]+`\n`+m[4:], 1),
		"unpadded":        strings.Replace(good, p, strings.TrimRight(p, "="), 1),
		"empty":           strings.Replace(good, m, "", 1),
		"a number":        strings.Replace(good, `"`+m+`"`, "7", 1),
		"huge":            strings.Replace(good, m, strings.Repeat("QUJD", 2000), 1),
		"a comma more":    strings.TrimSuffix(good, "}") + ",}",
	} {
		s, err := parse(secret.Copy([]byte(text)))
		if !errors.Is(err, ErrRow) || s != nil {
			t.Errorf("%s: %v", what, err)
		} else if strings.Contains(err.Error(), "legal") || strings.Contains(err.Error(), m) || len(err.Error()) > 200 {
			t.Errorf("%s: the error says too much: %v", what, err)
		}
	}
}

// What was read before a plaintext turned out bad is wiped.
func TestReadWipes(t *testing.T) {
	text := `{"keystore_b64":"a2V5c3RvcmU=","password_b64":"cGFzc3dvcmQ=","mnemonic_b64":"bGVnYWw="} and more`
	s := &Secret{}
	if err := s.read(secret.Copy([]byte(text))); err == nil {
		t.Fatal("it was read")
	}
	for what, b := range map[string]*secret.Bytes{"keystore": s.Keystore, "password": s.Password, "words": s.Words} {
		if b == nil || b.Len() != 0 {
			t.Errorf("the %s: %d bytes are left", what, b.Len())
		}
	}
}

func TestExports(t *testing.T) {
	made := invoke(t, function(t, plainly), 2)
	good := string(sampletest.Export(made...))
	none, err := ParseExport([]byte(`{"Items": [], "Count": 0, "ScannedCount": 0, "ConsumedCapacity": null}`))
	if err != nil || len(none) != 0 {
		t.Errorf("an empty table: %d rows, %v", len(none), err)
	}
	cut := strings.LastIndex(good, "}")
	for what, text := range map[string]string{
		"nothing":             "",
		"text":                "Items",
		"a list":              "[" + good + "]",
		"cut":                 good[:len(good)/2],
		"two":                 good + good,
		"another count":       strings.Replace(good, `"Count": 2`, `"Count": 3`, 1),
		"no count":            strings.Replace(good, `"Count": 2,`, "", 1),
		"a filter":            strings.Replace(good, `"ScannedCount": 2`, `"ScannedCount": 9`, 1),
		"more to come":        good[:cut] + `,"NextToken": "abc"}`,
		"a last key":          good[:cut] + `,"LastEvaluatedKey": {"pubkey": {"S": "x"}}}`,
		"Items twice":         good[:cut] + `,"Items": []}`,
		"an unknown field":    good[:cut] + `,"items": []}`,
		"no items":            `{"Count": 0, "ScannedCount": 0}`,
		"an attribute twice":  strings.Replace(good, `"chain": {`, `"active": {"BOOL": true}, "chain": {`, 1),
		"two types":           strings.Replace(good, `"S": "hoodi"`, `"S": "hoodi", "N": "1"`, 1),
		"no type":             strings.Replace(good, `"S": "hoodi"`, ``, 1),
		"null":                strings.Replace(good, `"S": "hoodi"`, `"S": null`, 1),
		"a number as a text":  strings.Replace(good, `"S": "hoodi"`, `"S": 7`, 1),
		"plain JSON, no type": `{"Items": [{"chain": "hoodi"}], "Count": 1, "ScannedCount": 1}`,
		"not UTF-8":           strings.Replace(good, "hoodi", "h\xff", 1),
	} {
		if text == good {
			t.Fatalf("%s changes nothing", what)
		}
		if rows, err := ParseExport([]byte(text)); !errors.Is(err, ErrExport) || rows != nil {
			t.Errorf("%s: %d rows, %v", what, len(rows), err)
		}
	}
	other, err := ParseExport([]byte(strings.Replace(good, `"S": "hoodi"`, `"L": [{"S": "hoodi"}]`, 1)))
	if err != nil || len(other) != 2 || errors.Is(other[0].Err, ErrRow) == errors.Is(other[1].Err, ErrRow) {
		t.Errorf("a list as an attribute: %v", err)
	}
}

func exportSeeds(t testing.TB) [][]byte {
	made := invoke(t, function(t, plainly), 1)
	good := sampletest.Export(made...)
	return [][]byte{good, good[:len(good)/2], []byte(`{"Items":[{}],"Count":1,"ScannedCount":1}`), []byte("{}"), nil}
}

// FuzzParseExport: nothing panics; what is read is short or an error; a row
// has all that it needs or says why not.
func FuzzParseExport(f *testing.F) {
	for _, seed := range exportSeeds(f) {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		rows, err := ParseExport(data)
		if err != nil {
			if !errors.Is(err, ErrExport) || rows != nil || len(err.Error()) > 1000 {
				t.Fatal(err)
			}
			return
		}
		for _, r := range rows {
			switch {
			case r.Err != nil && (!errors.Is(r.Err, ErrRow) || len(r.Err.Error()) > 1500):
				t.Fatal(r.Err)
			case r.Err == nil && (r.Pubkey.Hex() == "" || len(r.Blob) == 0 || len(r.Deposit) == 0 || r.Chain == "" || r.Signer == ""):
				t.Fatalf("half a row: %+v", r)
			case len(r.Name) > 4000:
				t.Fatalf("a name of %d bytes", len(r.Name))
			}
		}
	})
}

func plainSeeds() [][]byte {
	const good = `{"keystore_b64": "e30=", "password_b64": "cGFzc3dvcmQ=", "mnemonic_b64": "bGVnYWw="}`
	return [][]byte{[]byte(good), []byte(good[:40]), []byte(good + " "), []byte(`{"a":"b"}`), []byte("{}"), nil}
}

// FuzzPlaintext: what is read writes the same fields again; an error repeats
// nothing of the input.
func FuzzPlaintext(f *testing.F) {
	for _, seed := range plainSeeds() {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := parse(secret.Copy(data))
		if err != nil {
			if !errors.Is(err, ErrRow) || s != nil || len(err.Error()) > 200 {
				t.Fatal(err)
			}
			return
		}
		b := func(x *secret.Bytes) string { return base64.StdEncoding.EncodeToString(x.Expose()) }
		again, err := parse(secret.Copy([]byte(`{"keystore_b64":"` + b(s.Keystore) + `","password_b64":"` + b(s.Password) + `","mnemonic_b64":"` + b(s.Words) + `"}`)))
		if err != nil || !again.Keystore.Equal(s.Keystore) || !again.Password.Equal(s.Password) || !again.Words.Equal(s.Words) {
			t.Fatalf("not the same again: %v", err)
		}
	})
}

// TestSeeds fails when a fuzz target starts from nothing.
func TestSeeds(t *testing.T) {
	source, err := os.ReadFile("sample_test.go")
	if err != nil {
		t.Fatal(err)
	}
	targets := regexp.MustCompile(`(?m)^func (Fuzz\w+)`).FindAllSubmatch(source, -1)
	if len(targets) != 2 || len(exportSeeds(t)) < 3 || len(plainSeeds()) < 3 {
		t.Errorf("%d targets", len(targets))
	}
	if rows, err := ParseExport(exportSeeds(t)[0]); err != nil || len(rows) != 1 || rows[0].Err != nil {
		t.Errorf("the first seed is no export: %v", err)
	}
	if _, err := parse(secret.Copy(plainSeeds()[0])); err != nil {
		t.Errorf("the first seed is no plaintext: %v", err)
	}
}

// TestPage: docs/importing.md names every attribute and field that is read.
func TestPage(t *testing.T) {
	page, err := os.ReadFile(path.Join("..", "..", "..", "docs", "importing.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range slices.Concat([]string{attrSigner, attrPubkey, attrChain, attrBlob, attrDeposit, attrMade, attrActive}, []string{"keystore_b64", "password_b64", "mnemonic_b64"}) {
		if !strings.Contains(string(page), "`"+name+"`") {
			t.Errorf("docs/importing.md does not name %s", name)
		}
	}
}
