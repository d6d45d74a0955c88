package ops

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stakeseal/stakeseal/infra/policy"
)

func mustParse(t *testing.T, v any) *policyDocument {
	t.Helper()
	p, err := parsePolicy(jsonText(v))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestGlob(t *testing.T) {
	for _, c := range []struct {
		pattern, s string
		want       bool
	}{
		{"", "", true}, {"*", "", true}, {"*", "abc", true}, {"a*c", "abc", true}, {"a*c", "ab", false}, {"a?c", "abc", true}, {"a?c", "ac", false},
		{"a*b*c", "aXbXbc", true}, {"kms:D*", "kms:Decrypt", true}, {"**", "x", true}, {"a", "ab", false}, {"ab", "a", false}, {"*b", "ab", true}, {"[a]", "a", false}, {"a/*", "a/b/c", true},
	} {
		if got := policy.Glob(c.pattern, c.s); got != c.want {
			t.Errorf("Glob(%q, %q) = %v", c.pattern, c.s, got)
		}
	}
	// Quadratic at worst, not exponential.
	if policy.Glob(strings.Repeat("*a", 2000)+"b", strings.Repeat("a", 4000)) {
		t.Error("it matches")
	}
}

// TestGrantees: whoever could be meant is in the list, and only a denial that
// certainly holds takes somebody out.
func TestGrantees(t *testing.T) {
	a, b := roleARN("a"), roleARN("b")
	allow := func(more m) m {
		s := m{"Sid": "A", "Effect": "Allow", "Principal": m{"AWS": []string{a, b}}, "Action": "kms:Decrypt", "Resource": "*"}
		for k, v := range more {
			if s[k] = v; v == nil {
				delete(s, k)
			}
		}
		return s
	}
	deny := func(more m) m {
		s := m{"Effect": "Deny", "Principal": "*", "Action": "kms:*", "Resource": "*"}
		for k, v := range more {
			if s[k] = v; v == nil {
				delete(s, k)
			}
		}
		return s
	}
	for name, c := range map[string]struct {
		list []m
		want []string
	}{
		"both":                          {[]m{allow(nil)}, []string{a, b}},
		"another case":                  {[]m{allow(m{"Action": "KMS:decrypt"})}, []string{a, b}},
		"a pattern":                     {[]m{allow(m{"Action": []string{"s3:*", "k?s:De*"}})}, []string{a, b}},
		"another action":                {[]m{allow(m{"Action": "kms:Encrypt"})}, nil},
		"all but others":                {[]m{allow(m{"Action": nil, "NotAction": "kms:Encrypt"})}, []string{a, b}},
		"all but this":                  {[]m{allow(m{"Action": nil, "NotAction": "kms:*"})}, nil},
		"another resource":              {[]m{allow(m{"Resource": "arn:other"})}, nil},
		"not that resource":             {[]m{allow(m{"Resource": nil, "NotResource": "arn:other"})}, []string{a, b}},
		"a variable":                    {[]m{allow(m{"Resource": "arn:${aws:x}:y"})}, nil},
		"everyone":                      {[]m{allow(m{"Principal": "*"})}, []string{"*"}},
		"everyone, the other spelling":  {[]m{allow(m{"Principal": m{"AWS": "*"}})}, []string{"*"}},
		"everyone but":                  {[]m{allow(m{"Principal": nil, "NotPrincipal": m{"AWS": a}})}, []string{"*"}},
		"everyone who is":               {[]m{allow(m{"Principal": "*", "Condition": m{"ArnLike": m{"aws:PrincipalArn": []string{a}}}})}, []string{a}},
		"the account's who is":          {[]m{allow(m{"Principal": m{"AWS": testAccount}, "Condition": m{"StringEquals": m{"aws:principalarn": a}}})}, []string{a}},
		"everyone if there is a name":   {[]m{allow(m{"Principal": "*", "Condition": m{"StringEqualsIfExists": m{"aws:PrincipalArn": a}}})}, []string{"*"}},
		"the account":                   {[]m{allow(m{"Principal": m{"AWS": "arn:aws:iam::111122223333:root"}})}, []string{"arn:aws:iam::111122223333:root"}},
		"a service":                     {[]m{allow(m{"Principal": m{"Service": "lambda.amazonaws.com"}})}, []string{"Service:lambda.amazonaws.com"}},
		"for that purpose":              {[]m{allow(m{"Condition": m{"StringEquals": m{"kms:EncryptionContext:purpose": "signing"}}})}, []string{a, b}},
		"for another purpose":           {[]m{allow(m{"Condition": m{"StringEquals": m{"kms:EncryptionContext:purpose": "recovery"}}})}, nil},
		"for a purpose or more":         {[]m{allow(m{"Condition": m{"StringEquals": m{"kms:EncryptionContext:purpose": []string{"recovery", "signing"}}}})}, []string{a, b}},
		"an unknown condition":          {[]m{allow(m{"Condition": m{"Magic": m{"aws:x": "y"}}})}, []string{a, b}},
		"denied to all":                 {[]m{allow(nil), deny(nil)}, nil},
		"denied to one":                 {[]m{allow(nil), deny(m{"Principal": m{"AWS": a}})}, []string{b}},
		"denied to all but one":         {[]m{allow(nil), deny(m{"Condition": m{"ArnNotEquals": m{"aws:PrincipalArn": a}}})}, []string{a}},
		"denied to one by condition":    {[]m{allow(nil), deny(m{"Condition": m{"StringEquals": m{"aws:PrincipalArn": a}}})}, []string{b}},
		"denied under two conditions":   {[]m{allow(nil), deny(m{"Condition": m{"ArnNotEquals": m{"aws:PrincipalArn": a}, "Bool": m{"aws:x": "true"}}})}, []string{a, b}},
		"denied under another":          {[]m{allow(nil), deny(m{"Condition": m{"Bool": m{"aws:MultiFactorAuthPresent": "false"}}})}, []string{a, b}},
		"denied elsewhere":              {[]m{allow(nil), deny(m{"Resource": "arn:other"})}, []string{a, b}},
		"denied where a variable says":  {[]m{allow(nil), deny(m{"Resource": "${aws:x}"})}, []string{a, b}},
		"denied not where it says":      {[]m{allow(nil), deny(m{"Resource": nil, "NotResource": "arn:key*"})}, []string{a, b}},
		"denied to all but by name":     {[]m{allow(nil), deny(m{"Principal": nil, "NotPrincipal": m{"AWS": a}})}, []string{a}},
		"an account is not one of them": {[]m{allow(m{"Principal": m{"AWS": testAccount}}), deny(m{"Condition": m{"ArnNotEquals": m{"aws:PrincipalArn": a}}})}, []string{testAccount}},
		"a pattern is not one of them":  {[]m{allow(m{"Principal": "*", "Condition": m{"ArnLike": m{"aws:PrincipalArn": "arn:*"}}}), deny(m{"Condition": m{"ArnNotEquals": m{"aws:PrincipalArn": a}}})}, []string{"arn:*"}},
	} {
		var got []string
		for _, g := range mustParse(t, statements(c.list...)).grantees("kms:Decrypt", "arn:key", map[string]string{"purpose": "signing"}) {
			got = append(got, g.principal)
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}

// TestSameMeaning: what means the same compares as the same, and nothing else.
func TestSameMeaning(t *testing.T) {
	s := m{"Sid": "A", "Effect": "Allow", "Principal": m{"AWS": []string{"x", "y"}}, "Action": []string{"kms:Decrypt", "kms:Encrypt"}, "Resource": "*", "Condition": m{"Bool": m{"aws:SecureTransport": "false"}}}
	other := m{"Effect": "Deny", "Principal": "*", "Action": "kms:*", "Resource": "*"}
	change := func(key string, v any) m {
		c := jsonObject(s)
		c[key] = v
		return c
	}
	first := mustParse(t, statements(s, other))
	for name, list := range map[string][]m{
		"order of statements": {other, s}, "order of actions": {change("Action", []string{"kms:Encrypt", "kms:Decrypt"}), other}, "case of actions": {change("Action", []string{"KMS:encrypt", "kms:Decrypt"}), other},
		"order of principals": {change("Principal", m{"AWS": []string{"y", "x"}}), other}, "one or a list": {change("Resource", []string{"*"}), other},
		"a boolean": {change("Condition", m{"Bool": m{"aws:SecureTransport": false}}), other},
	} {
		if d := documentDifference(mustParse(t, statements(list...)), first); d != "" {
			t.Errorf("%s: %s", name, d)
		}
	}
	for name, list := range map[string][]m{
		"one less": {s}, "one more": {s, other, change("Sid", "B")}, "twice": {s, s, other}, "effect": {change("Effect", "Deny"), other}, "an action": {change("Action", "kms:Decrypt"), other},
		"a principal": {change("Principal", m{"AWS": "x"}), other}, "a resource": {change("Resource", "a"), other}, "no condition": {change("Condition", m{}), other},
		"a value": {change("Condition", m{"Bool": m{"aws:SecureTransport": true}}), other}, "case of a resource": {change("Principal", m{"AWS": []string{"X", "y"}}), other},
	} {
		if documentDifference(mustParse(t, statements(list...)), first) == "" {
			t.Errorf("%s: no difference", name)
		}
	}
	old := mustParse(t, m{"Version": "2008-10-17", "Statement": []m{s, other}})
	if d := documentDifference(old, first); d != "its Version is another" {
		t.Errorf("%q", d)
	}
}

func TestParsePolicyRefuses(t *testing.T) {
	for name, text := range map[string]string{
		"nothing": "", "no JSON": "x", "data after it": `{"Version":"2012-10-17","Statement":[]}x`, "unknown element": `{"Statement":[{"Effect":"Allow","Action":"a","Magic":1}]}`,
		"no effect": `{"Statement":[{"Action":"a"}]}`, "no action": `{"Statement":[{"Effect":"Allow"}]}`, "both actions": `{"Statement":[{"Effect":"Allow","Action":"a","NotAction":"b"}]}`,
		"both resources": `{"Statement":[{"Effect":"Allow","Action":"a","Resource":"a","NotResource":"b"}]}`, "both principals": `{"Statement":[{"Effect":"Allow","Action":"a","Principal":"*","NotPrincipal":"*"}]}`,
		"a word for everyone": `{"Statement":[{"Effect":"Allow","Action":"a","Principal":"all"}]}`, "a kind of principal": `{"Statement":[{"Effect":"Allow","Action":"a","Principal":{"Alien":"x"}}]}`,
		"no principal": `{"Statement":[{"Effect":"Allow","Action":"a","Principal":{}}]}`, "a condition's value": `{"Statement":[{"Effect":"Allow","Action":"a","Condition":{"Bool":{"a":{}}}}]}`,
		"too long": `{"Version":"` + strings.Repeat("x", maxPolicy) + `"}`,
	} {
		if p, err := parsePolicy(text); !errors.Is(err, ErrPolicy) || p != nil {
			t.Errorf("%s: %+v, %v", name, p, err)
		}
	}
}

// policySeeds are the policies that the fake installation has.
func policySeeds() []string {
	return []string{
		jsonText(keyPolicy("signing", "signer")), jsonText(keyPolicy("certifying", "")), jsonText(bucketPolicy("b", true)), jsonText(boundary), jsonText(trust("generator")), jsonText(trust("x")),
		`{"Version":"2012-10-17","Statement":{"Effect":"Allow","NotPrincipal":{"AWS":"x"},"NotAction":"a:*","NotResource":["b*"],"Condition":{"NumericLessThan":{"a":3}}}}`,
	}
}

// FuzzPolicy: whatever parses can be asked about; a denial of everything leaves
// nobody; and its statements mean the same in another order.
func FuzzPolicy(f *testing.F) {
	for _, s := range policySeeds() {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		p, err := parsePolicy(text)
		if err != nil {
			if !errors.Is(err, ErrPolicy) {
				t.Fatalf("%v is of no class", err)
			}
			return
		}
		p.grantees("kms:Decrypt", signingKey, map[string]string{"purpose": "signing"})
		for i, s := range p.statements {
			if line := s.describe(i); strings.ContainsFunc(line, func(r rune) bool { return r < ' ' || r > '~' }) {
				t.Fatalf("%q does not print on one line", line)
			}
		}
		if d := documentDifference(p, p); d != "" {
			t.Fatalf("it differs from itself: %s", d)
		}
		all := &policyDocument{statements: append(slices.Clone(p.statements), policyStatement{principals: []string{"*"}, actions: []string{"*"}, resources: []string{"*"}})}
		if got := all.grantees("kms:Decrypt", signingKey, nil); got != nil {
			t.Fatalf("all is denied, and %v may", got)
		}
	})
}

// FuzzCall: whatever parses prints on one line, and no input breaks the reader.
func FuzzCall(f *testing.F) {
	for _, s := range callSeeds() {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := parseCall(data)
		if err != nil {
			if !errors.Is(err, errEvent) {
				t.Fatalf("%v is of no class", err)
			}
			return
		}
		if line := c.String(); strings.ContainsFunc(line, func(r rune) bool { return r < ' ' || r > '~' }) {
			t.Fatalf("%q does not print on one line", line)
		}
		if c.Done() && c.Error != "" || c.EventID == "" || c.Time.IsZero() {
			t.Fatalf("%+v", c)
		}
		sought.wants(c)
	})
}

func callSeeds() []string {
	return []string{
		decrypted("1", noon, m{"order": "o", "pubkey": "aa"}), decrypted("2", noon, nil, "AccessDenied"), eventText("3", "kms", "PutKeyPolicy", noon, m{"requestParameters": m{"policy": "{}"}}),
		eventText("4", "dynamodb", "PutItem", noon, m{"requestParameters": m{"key": m{"pk": m{"S": "x"}}}}), eventText("5", "s3", "PutObject", noon, m{"requestParameters": m{"key": "k"}}),
		eventText("6", "sts", "AssumeRole", noon, m{"requestParameters": m{"roleArn": "r"}}),
	}
}

// TestSeeds: a fuzz target without seeds finds nothing, silently.
func TestSeeds(t *testing.T) {
	for target, seeds := range map[string][]string{"FuzzPolicy": policySeeds(), "FuzzCall": callSeeds(), "FuzzOverlap": overlapSeeds} {
		kept, err := filepath.Glob("testdata/fuzz/" + target + "/*")
		if err != nil || len(seeds)+len(kept) < 5 {
			t.Errorf("%s has %d seeds, %v", target, len(seeds)+len(kept), err)
		}
	}
	for _, s := range policySeeds() {
		if _, err := parsePolicy(s); err != nil {
			t.Errorf("the seed %s: %v", s, err)
		}
	}
	for _, s := range callSeeds() {
		if _, err := parseCall([]byte(s)); err != nil {
			t.Errorf("the seed %s: %v", s, err)
		}
	}
	if _, err := os.Stat("testdata/healthy.golden"); err != nil {
		t.Error(err)
	}
}
