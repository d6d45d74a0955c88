package arn

import (
	"errors"
	"os/exec"
	"strings"
	"testing"
)

const (
	key    = "arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab"
	table  = "arn:aws:dynamodb:us-gov-west-1:111122223333:table/stakeseal.births-1"
	bucket = "arn:aws-cn:s3:::acme-archive"
	alias  = "arn:aws:lambda:eu-central-1:111122223333:function:stakeseal-hoodi-generator:live"
)

func TestParse(t *testing.T) {
	for _, c := range []struct {
		text string
		want ARN // zero: refused
	}{
		{key, ARN{"aws", "kms", "eu-central-1", "111122223333", "key/1234abcd-12ab-34cd-56ef-1234567890ab"}},
		{"arn:aws-cn:kms:cn-north-1:111122223333:key/x", ARN{"aws-cn", "kms", "cn-north-1", "111122223333", "key/x"}},
		{"arn:aws-eusc:kms:eusc-de-east-1:111122223333:key/x", ARN{"aws-eusc", "kms", "eusc-de-east-1", "111122223333", "key/x"}},
		{"arn:aws-us-gov:kms:us-gov-east-1:111122223333:key/x", ARN{"aws-us-gov", "kms", "us-gov-east-1", "111122223333", "key/x"}},
		{"arn:aws:lambda:ap-southeast-2:111122223333:function:maker:live", ARN{"aws", "lambda", "ap-southeast-2", "111122223333", "function:maker:live"}},
		{bucket, ARN{Partition: "aws-cn", Service: "s3", Resource: "acme-archive"}},

		{"", ARN{}},
		{"arn", ARN{}},
		{"ARN:aws:kms:eu-central-1:111122223333:key/x", ARN{}},
		{"arn:aws:kms:eu-central-1:111122223333", ARN{}},
		{" " + key, ARN{}},
		{key + " ", ARN{}},
		{key + "\n", ARN{}},
		{key + "*", ARN{}},
		{key + "?", ARN{}},
		{key + "\x00", ARN{}},
		{key + "é", ARN{}},
		{key + "${aws:username}", ARN{}},
		{"arn:aws:kms:eu-central-1:111122223333:", ARN{}},
		{"arn::kms:eu-central-1:111122223333:key/x", ARN{}},
		{"arn:aws-iso:kms:us-iso-east-1:111122223333:key/x", ARN{}},
		{"arn:aws:kms:cn-north-1:111122223333:key/x", ARN{}},
		{"arn:aws-cn:kms:eu-central-1:111122223333:key/x", ARN{}},
		{"arn:aws:kms:evil.com/#-1:111122223333:key/x", ARN{}},
		{"arn:aws:kms:EU-CENTRAL-1:111122223333:key/x", ARN{}},
		{"arn:aws:kms:eu-central:111122223333:key/x", ARN{}},
		{"arn:aws:kms:eu-central-1:11112222333:key/x", ARN{}},
		{"arn:aws:kms:eu-central-1:1111222233334:key/x", ARN{}},
		{"arn:aws:kms:eu-central-1:aws:key/x", ARN{}},
		{"arn:aws:KMS:eu-central-1:111122223333:key/x", ARN{}},
		{key + strings.Repeat("x", maxARN), ARN{}},
	} {
		got, err := Parse(c.text)
		if (err == nil) != (c.want != ARN{}) || got != c.want {
			t.Errorf("%q: %+v, %v", c.text, got, err)
		}
		if err != nil && !errors.Is(err, ErrARN) {
			t.Errorf("%q: %v is not ErrARN", c.text, err)
		}
		if err == nil && got.String() != c.text {
			t.Errorf("%q became %q", c.text, got)
		}
	}
}

func TestKinds(t *testing.T) {
	gov := strings.Replace(table, ":aws:", ":aws-us-gov:", 1)
	for _, c := range []struct {
		text  string
		kind  string // of key, table, bucket; "" of none
		needs string // in the refusal of what it nearly is
	}{
		{key, "key", ""},
		{gov, "table", ""},
		{bucket, "bucket", ""},

		{table, "", "partition aws-us-gov"},
		{strings.Replace(key, "key/1234abcd-12ab-34cd-56ef-1234567890ab", "alias/sealing", 1), "", "alias"},
		{strings.Replace(key, "1234abcd-12ab-34cd-56ef-1234567890ab", "mrk-1234abcd12ab34cd56ef1234567890ab", 1), "", "multi-Region"},
		{strings.Replace(key, "1234abcd", "1234ABCD", 1), "", ""},
		{key + "0", "", ""},
		{key[:len(key)-1], "", ""},
		{strings.Replace(key, ":111122223333:", "::", 1), "", ""},
		{strings.Replace(key, ":eu-central-1:", "::", 1), "", ""},
		{strings.Replace(key, ":kms:", ":dynamodb:", 1), "", ""},

		{gov + "/index/by-order", "", ""},
		{gov + "/stream/2026-01-01T00:00:00.000", "", ""},
		{strings.Replace(gov, "table/stakeseal.births-1", "table/ab", 1), "", ""},
		{strings.Replace(gov, ":111122223333:", "::", 1), "", ""},

		{bucket + "/key", "", ""},
		{bucket + ".example", "", ""},
		{bucket + "-", "", ""},
		{"arn:aws:s3:::ab", "", ""},
		{"arn:aws:s3:::" + strings.Repeat("a", 64), "", ""},
		{"arn:aws:s3:::Archive", "", ""},
		{"arn:aws:s3:eu-central-1:111122223333:accesspoint/x", "", ""},
		{"arn:aws:s3:::accesspoint/x", "", ""},

		{alias, "alias", ""},
		{strings.Replace(alias, ":live", "", 1), "", "alias"},
		{strings.Replace(alias, ":live", ":$LATEST", 1), "", ""},
		{strings.Replace(alias, ":live", ":7", 1), "", "alias"},
		{strings.Replace(alias, ":live", ":live:7", 1), "", ""},
		{strings.Replace(alias, ":live", ":", 1), "", ""},
		{strings.Replace(alias, ":function:", ":layer:", 1), "", ""},
		{strings.Replace(alias, "eu-central-1", "", 1), "", ""},
		{strings.Replace(alias, "111122223333", "", 1), "", ""},
		{strings.Replace(alias, "generator:", strings.Repeat("x", 65)+":", 1), "", ""},
	} {
		fits := ""
		var said []string
		for _, k := range []struct {
			name  string
			parse func(string) (ARN, error)
		}{{"key", Key}, {"table", Table}, {"bucket", Bucket}, {"alias", Alias}} {
			a, err := k.parse(c.text)
			if err == nil {
				fits += k.name
				if a.String() != c.text {
					t.Errorf("%q became %q", c.text, a)
				}
				continue
			}
			if !errors.Is(err, ErrARN) || a != (ARN{}) {
				t.Errorf("%q: %+v and %v", c.text, a, err)
			}
			said = append(said, err.Error())
		}
		if fits != c.kind || !strings.Contains(strings.Join(said, "\n"), c.needs) {
			t.Errorf("%q is a %q: %q", c.text, fits, said)
		}
	}
}

func TestFunction(t *testing.T) {
	a, err := Alias(alias)
	if err != nil {
		t.Fatal(err)
	}
	if f, l := a.Function(); f != "stakeseal-hoodi-generator" || l != "live" {
		t.Errorf("function %q, alias %q", f, l)
	}
	if f, l := (ARN{}).Function(); f != "" || l != "" {
		t.Errorf("of nothing: %q, %q", f, l)
	}
}

// What parses is written the same, holds nothing that is more than a name, and
// every kind is an ARN.
func FuzzParse(f *testing.F) {
	f.Add(key)
	f.Add(strings.Replace(table, ":aws:", ":aws-us-gov:", 1))
	f.Add(bucket)
	f.Add(alias)
	f.Add("arn:aws:kms:eu-central-1:111122223333:alias/x")
	f.Fuzz(func(t *testing.T, text string) {
		a, err := Parse(text)
		if err != nil {
			if !errors.Is(err, ErrARN) || a != (ARN{}) {
				t.Fatalf("%+v and %v", a, err)
			}
		} else if a.String() != text || strings.ContainsAny(text, " \t\r\n*?\"'\\$<>\x00") || a.Partition == "" || len(text) > maxARN {
			t.Fatalf("%q became %+v", text, a)
		}
		for _, parse := range []func(string) (ARN, error){Key, Table, Bucket, Alias} {
			if k, kerr := parse(text); kerr == nil && (err != nil || k != a) {
				t.Fatalf("%q: a kind takes %+v, Parse %+v, %v", text, k, a, err)
			}
		}
	})
}

// The package comment says that nothing here talks.
func TestImportsNothingThatTalks(t *testing.T) {
	out, err := exec.Command("go", "list", "-f", `{{join .Imports " "}}`, ".").Output()
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.TrimSpace(string(out)); got != "errors fmt regexp strings" {
		t.Errorf("it imports %s", got)
	}
}
