package awstest

import (
	"strings"
	"testing"

	"github.com/stakeseal/stakeseal/internal/aws/awstest/call"
)

// A policy that is not understood to the last word makes no key.
func TestUnknownPolicies(t *testing.T) {
	const good = `{"Version":"2012-10-17","Id":"x","Statement":[{"Sid":"s","Effect":"Allow","Principal":{"AWS":["arn:aws:iam::111122223333:role/a"]},"Action":["kms:Encrypt","kms:ReEncrypt*"],"Resource":"*","Condition":{"StringEquals":{"kms:EncryptionContext:purpose":"signing"}}}]}`
	if _, err := parsePolicy(good); err != nil {
		t.Fatal(err)
	}
	for name, r := range map[string][2]string{
		"an action":                     {"kms:Encrypt", "kms:EncryptAll"},
		"another service":               {"kms:Encrypt", "s3:PutObject"},
		"an action without service":     {"kms:Encrypt", "Encrypt"},
		"a pattern of nothing":          {"kms:ReEncrypt*", "kms:Foo*"},
		"an operator":                   {`"StringEquals"`, `"DateEquals"`},
		"an operator by number":         {`"StringEquals"`, `"NumericEquals"`},
		"a condition key":               {"kms:EncryptionContext:purpose", "kms:GranteePrincipal"},
		"a misspelled condition key":    {"kms:EncryptionContext:purpose", "kms:EncryptionContxt:purpose"},
		"an upper-case context":         {"kms:EncryptionContext:purpose", "kms:EncryptionContext:Purpose"},
		"an empty context":              {"kms:EncryptionContext:purpose", "kms:EncryptionContext:"},
		"no value":                      {`"signing"`, `[]`},
		"one value of several":          {"kms:EncryptionContext:purpose", "kms:EncryptionContextKeys"},
		"several values of one":         {"StringEquals", "ForAllValues:StringEquals"},
		"Null with neither":             {`"StringEquals":{"kms:EncryptionContext:purpose":"signing"}`, `"Null":{"kms:EncryptionContext:purpose":"no"}`},
		"NotAction":                     {`"Action"`, `"NotAction"`},
		"NotPrincipal":                  {`"Principal"`, `"NotPrincipal"`},
		"NotResource":                   {`"Resource"`, `"NotResource"`},
		"no principal":                  {`"Principal":{"AWS":["arn:aws:iam::111122223333:role/a"]},`, ``},
		"the account's root":            {"role/a", "root"},
		"a user":                        {"role/a", "user/a"},
		"a service":                     {`"AWS"`, `"Service"`},
		"a service of AWS":              {`"AWS":["arn:aws:iam::111122223333:role/a"]`, `"Service":"lambda.amazonaws.com"`},
		"a federation":                  {`{"AWS":[`, `{"Federated":"x","AWS":[`},
		"an effect":                     {"Allow", "Permit"},
		"a resource":                    {`"Resource":"*"`, `"Resource":"arn:aws:kms:eu-central-1:111122223333:key/x"`},
		"the old version":               {"2012-10-17", "2008-10-17"},
		"no statement":                  {`"Statement":[{`, `"Statement":[],"X":[{`},
		"an unknown field":              {`"Id"`, `"Comment"`},
		"not JSON":                      {`]}`, `]`},
		"a second document":             {`{"Version"`, `{} {"Version"`},
		"a map for a word":              {`"signing"`, `{}`},
		"a list of lists for an action": {`"kms:Encrypt"`, `["kms:Encrypt"]`},
	} {
		text := strings.Replace(good, r[0], r[1], 1)
		if text == good {
			t.Errorf("%s: nothing changed", name)
		}
		if p, err := parsePolicy(text); err == nil {
			t.Errorf("%s: %+v", name, p.Statements)
		}
	}
	if _, err := parsePolicy(good + good); err == nil {
		t.Error("two documents")
	}
}

// The decision, as AWS documents its evaluation of one policy.
func TestDecisions(t *testing.T) {
	const a, b = "arn:aws:iam::111122223333:role/a", "arn:aws:iam::111122223333:role/b"
	statement := func(effect, principal, action, condition string) string {
		return `{"Effect":"` + effect + `","Principal":` + principal + `,"Action":` + action + `,"Resource":"*","Condition":{` + condition + `}}`
	}
	allow := func(condition string) string {
		return statement("Allow", `{"AWS":"`+a+`"}`, `"kms:Encrypt"`, condition)
	}
	signing := map[string]string{"purpose": "signing", "app": "stakeseal"}
	for _, c := range []struct {
		name, statements  string
		principal, action string
		context           map[string]string
		want              bool
	}{
		{"allowed", allow(""), a, "kms:Encrypt", nil, true},
		{"another role", allow(""), b, "kms:Encrypt", nil, false},
		{"another action", allow(""), a, "kms:Decrypt", nil, false},
		{"every action", statement("Allow", `"*"`, `"kms:*"`, ""), b, "kms:Decrypt", nil, true},
		{"a pattern", statement("Allow", `{"AWS":"*"}`, `["kms:En*"]`, ""), b, "kms:Encrypt", nil, true},
		{"a pattern of others", statement("Allow", `{"AWS":"*"}`, `["kms:De*"]`, ""), b, "kms:Encrypt", nil, false},
		{"a deny wins", allow("") + "," + statement("Deny", `"*"`, `"kms:Encrypt"`, ""), a, "kms:Encrypt", nil, false},
		{"a deny in front wins", statement("Deny", `"*"`, `"kms:*"`, "") + "," + allow(""), a, "kms:Encrypt", nil, false},
		{"a deny of others", allow("") + "," + statement("Deny", `{"AWS":"`+b+`"}`, `"kms:*"`, ""), a, "kms:Encrypt", nil, true},

		{"equals", allow(`"StringEquals":{"kms:EncryptionContext:purpose":"signing"}`), a, "kms:Encrypt", signing, true},
		{"equals one of", allow(`"StringEquals":{"kms:EncryptionContext:purpose":["recovery","signing"]}`), a, "kms:Encrypt", signing, true},
		{"equals not", allow(`"StringEquals":{"kms:EncryptionContext:purpose":"recovery"}`), a, "kms:Encrypt", signing, false},
		{"equals by letter case", allow(`"StringEquals":{"kms:EncryptionContext:purpose":"Signing"}`), a, "kms:Encrypt", signing, false},
		{"equals of what is not there", allow(`"StringEquals":{"kms:EncryptionContext:order":"x"}`), a, "kms:Encrypt", signing, false},
		{"all conditions", allow(`"StringEquals":{"kms:EncryptionContext:purpose":"signing","kms:EncryptionContext:app":"x"}`), a, "kms:Encrypt", signing, false},
		{"all operators", allow(`"StringEquals":{"kms:EncryptionContext:purpose":"signing"},"Null":{"kms:EncryptionContext:app":"true"}`), a, "kms:Encrypt", signing, false},
		{"if exists, it does", allow(`"StringEqualsIfExists":{"kms:EncryptionContext:purpose":"recovery"}`), a, "kms:Encrypt", signing, false},
		{"if exists, it does not", allow(`"StringEqualsIfExists":{"kms:EncryptionContext:order":"x"}`), a, "kms:Encrypt", signing, true},
		{"not equals", allow(`"StringNotEquals":{"kms:EncryptionContext:purpose":"recovery"}`), a, "kms:Encrypt", signing, true},
		{"not equals, it is", allow(`"StringNotEquals":{"kms:EncryptionContext:purpose":"signing"}`), a, "kms:Encrypt", signing, false},
		{"not equals of what is not there", allow(`"StringNotEquals":{"kms:EncryptionContext:order":"x"}`), a, "kms:Encrypt", signing, true},
		{"like", allow(`"StringLike":{"kms:EncryptionContext:purpose":"s*n?"}`), a, "kms:Encrypt", signing, true},
		{"like not", allow(`"StringLike":{"kms:EncryptionContext:purpose":"s?"}`), a, "kms:Encrypt", signing, false},
		{"like of what is not there", allow(`"StringLike":{"kms:EncryptionContext:order":"*"}`), a, "kms:Encrypt", signing, false},
		{"null", allow(`"Null":{"kms:EncryptionContext:order":"true"}`), a, "kms:Encrypt", signing, true},
		{"not null", allow(`"Null":{"kms:EncryptionContext:order":"false"}`), a, "kms:Encrypt", signing, false},

		{"all keys", allow(`"ForAllValues:StringEquals":{"kms:EncryptionContextKeys":["app","purpose","order"]}`), a, "kms:Encrypt", signing, true},
		{"one key too many", allow(`"ForAllValues:StringEquals":{"kms:EncryptionContextKeys":["app"]}`), a, "kms:Encrypt", signing, false},
		{"all of none", allow(`"ForAllValues:StringEquals":{"kms:EncryptionContextKeys":["app"]}`), a, "kms:Encrypt", nil, true},
		{"any key", allow(`"ForAnyValue:StringEquals":{"kms:EncryptionContextKeys":["app","x"]}`), a, "kms:Encrypt", signing, true},
		{"any of none", allow(`"ForAnyValue:StringEquals":{"kms:EncryptionContextKeys":["app"]}`), a, "kms:Encrypt", nil, false},

		{"the caller by name", statement("Allow", `"*"`, `"kms:Encrypt"`, `"StringLike":{"aws:PrincipalArn":"arn:aws:iam::111122223333:role/?"}`), a, "kms:Encrypt", nil, true},
		{"the caller's account", statement("Allow", `"*"`, `"kms:Encrypt"`, `"StringEquals":{"kms:CallerAccount":"444455556666"}`), a, "kms:Encrypt", nil, false},
		{"deny unless", statement("Allow", `"*"`, `"kms:*"`, "") + "," + statement("Deny", `"*"`, `"kms:*"`, `"StringNotEquals":{"aws:PrincipalArn":"`+a+`"}`), b, "kms:Encrypt", nil, false},
	} {
		p, err := parsePolicy(`{"Version":"2012-10-17","Statement":[` + strings.ReplaceAll(c.statements, `,"Condition":{}`, "") + `]}`)
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		keys := NewKeys("eu-central-1", Account)
		got, why := allows(p, call.Need{Action: c.action, Context: keys.conditions("Encrypt", key{}, input{EncryptionContext: c.context})}, c.principal)
		if got != c.want || !got && why == "" {
			t.Errorf("%s: %v %s", c.name, got, why)
		}
	}
}
