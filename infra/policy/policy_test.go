package policy

import (
	"strings"
	"testing"
)

const good = `{"Version":"2012-10-17","Id":"x","Statement":[{"Sid":"s","Effect":"Allow","Principal":{"AWS":["arn:aws:iam::111122223333:role/a"]},` +
	`"Action":["kms:Encrypt","kms:ReEncrypt*"],"Resource":"*","Condition":{"StringEquals":{"kms:EncryptionContext:purpose":"signing"}}}]}`

// A policy that is not understood to the last word is an error.
func TestUnknown(t *testing.T) {
	if _, err := Parse(Key, []byte(good)); err != nil {
		t.Fatal(err)
	}
	for name, r := range map[string][2]string{
		"an action":                       {"kms:Encrypt", "kms:EncryptAll"},
		"an action in lower case":         {"kms:Encrypt", "kms:encrypt"},
		"an action without service":       {"kms:Encrypt", "Encrypt"},
		"a service":                       {"kms:Encrypt", "kmz:Encrypt"},
		"a pattern of nothing":            {"kms:ReEncrypt*", "kms:Foo*"},
		"an operator":                     {`"StringEquals"`, `"DateEquals"`},
		"an operator of numbers":          {`"StringEquals"`, `"NumericLessThan"`},
		"an operator of ARNs":             {`"StringEquals"`, `"ArnEquals"`},
		"Bool of a text":                  {`"StringEquals"`, `"Bool"`},
		"a set operator":                  {`"StringEquals"`, `"ForAllValues:StringEquals"`},
		"an unknown set operator":         {`"StringEquals"`, `"ForSomeValues:StringEquals"`},
		"a condition key":                 {"kms:EncryptionContext:purpose", "kms:EncryptionContexts"},
		"a misspelled condition key":      {"kms:EncryptionContext:purpose", "kms:EncryptionContxt:purpose"},
		"an upper-case context":           {"kms:EncryptionContext:purpose", "kms:EncryptionContext:Purpose"},
		"an empty context":                {"kms:EncryptionContext:purpose", "kms:EncryptionContext:"},
		"a set without its operator":      {"kms:EncryptionContext:purpose", "kms:EncryptionContextKeys"},
		"no value":                        {`"signing"`, `[]`},
		"a variable":                      {`"signing"`, `"${aws:username}"`},
		"Null with neither":               {`"StringEquals":{"kms:EncryptionContext:purpose":"signing"}`, `"Null":{"kms:EncryptionContext:purpose":"no"}`},
		"Bool with neither":               {`"StringEquals":{"kms:EncryptionContext:purpose":"signing"}`, `"Bool":{"aws:SecureTransport":"yes"}`},
		"an ARN that is none":             {`"StringEquals":{"kms:EncryptionContext:purpose":"signing"}`, `"ArnEquals":{"aws:PrincipalArn":"role/a"}`},
		"a number that is none":           {`"StringEquals":{"kms:EncryptionContext:purpose":"signing"}`, `"NumericLessThan":{"aws:MultiFactorAuthAge":"x"}`},
		"neither Action nor NotAction":    {`"Action":["kms:Encrypt","kms:ReEncrypt*"],`, ``},
		"both":                            {`"Action"`, `"NotAction":"kms:Sign","Action"`},
		"NotPrincipal":                    {`"Principal"`, `"NotPrincipal"`},
		"both Resource and NotResource":   {`"Resource"`, `"NotResource":"*","Resource"`},
		"no principal":                    {`"Principal":{"AWS":["arn:aws:iam::111122223333:role/a"]},`, ``},
		"an empty principal":              {`["arn:aws:iam::111122223333:role/a"]`, `[]`},
		"a pattern for a principal":       {"role/a", "role/*"},
		"an assumed role for a principal": {"iam::111122223333:role/a", "sts::111122223333:assumed-role/a/b"},
		"a federation":                    {`"AWS"`, `"Federated"`},
		"a service that is none":          {`"AWS":["arn:aws:iam::111122223333:role/a"]`, `"Service":"lambda"`},
		"an effect":                       {"Allow", "Permit"},
		"a key's ARN in its policy":       {`"Resource":"*"`, `"Resource":"arn:aws:kms:eu-central-1:111122223333:key/x"`},
		"a resource that is no ARN":       {`"Resource":"*"`, `"Resource":"key/x"`},
		"a resource with a variable":      {`"Resource":"*"`, `"Resource":"arn:aws:s3:::${aws:username}"`},
		"the old version":                 {"2012-10-17", "2008-10-17"},
		"no statement":                    {`"Statement":[{`, `"Statement":[],"X":[{`},
		"an unknown field":                {`"Id"`, `"Comment"`},
		"not JSON":                        {`]}`, `]`},
		"a second document":               {`{"Version"`, `{} {"Version"`},
		"a map for a word":                {`"signing"`, `{}`},
	} {
		text := strings.Replace(good, r[0], r[1], 1)
		if text == good {
			t.Errorf("%s: nothing changed", name)
		}
		if d, err := Parse(Key, []byte(text)); err == nil {
			t.Errorf("%s: %+v", name, d)
		}
	}
	for kind, text := range map[Kind]string{Identity: good, Trust: good} {
		if _, err := Parse(kind, []byte(text)); err == nil {
			t.Errorf("kind %v takes a key's policy", kind)
		}
	}
	if (Request{Action: "kms:Foo"}).Check() == nil || (Request{Action: "kms:Sign", Context: map[string][]string{"kms:Foo": {"x"}}}).Check() == nil {
		t.Error("a request of unknown words")
	}
}

func parse(t *testing.T, kind Kind, statements string) *Document {
	t.Helper()
	d, err := Parse(kind, []byte(`{"Version":"2012-10-17","Statement":[`+statements+`]}`))
	if err != nil {
		t.Fatalf("%s: %v", statements, err)
	}
	return d
}

// The decision of one document, as AWS documents it.
func TestJudge(t *testing.T) {
	const a, b, root = "arn:aws:iam::111122223333:role/a", "arn:aws:iam::111122223333:role/b", "arn:aws:iam::111122223333:root"
	const table, index = "arn:aws:dynamodb:us-east-1:111122223333:table/x-records", "arn:aws:dynamodb:us-east-1:111122223333:table/x-records/index/by-time"
	allow := func(more string) string { return `{"Effect":"Allow","Principal":"*",` + more + `}` }
	type context = map[string][]string
	for _, c := range []struct {
		name, statements, principal, action, resource string
		context                                       context
		want                                          Verdict
	}{
		{"named", `{"Effect":"Allow","Principal":{"AWS":"` + a + `"},"Action":"dynamodb:GetItem","Resource":"` + table + `"}`, a, "dynamodb:GetItem", table, nil, Allowed},
		{"another", `{"Effect":"Allow","Principal":{"AWS":"` + a + `"},"Action":"dynamodb:GetItem","Resource":"` + table + `"}`, b, "dynamodb:GetItem", table, nil, Silent},
		{"the account", `{"Effect":"Allow","Principal":{"AWS":"` + root + `"},"Action":"*","Resource":"*"}`, a, "dynamodb:GetItem", table, nil, ByAccount},
		{"the account by number", `{"Effect":"Allow","Principal":{"AWS":"111122223333"},"Action":"*","Resource":"*"}`, a, "dynamodb:GetItem", table, nil, ByAccount},
		{"another account", `{"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::999999999999:root"},"Action":"*","Resource":"*"}`, a, "dynamodb:GetItem", table, nil, Silent},
		{"a deny for the account", `{"Effect":"Deny","Principal":{"AWS":"` + root + `"},"Action":"*","Resource":"*"}`, a, "dynamodb:GetItem", table, nil, Denied},
		{"a deny later", allow(`"Action":"*","Resource":"*"`) + `,{"Effect":"Deny","Principal":"*","Action":"dynamodb:Get*","Resource":"*"}`, a, "dynamodb:GetItem", table, nil, Denied},
		{"a deny before", `{"Effect":"Deny","Principal":"*","Action":"dynamodb:Get*","Resource":"*"},` + allow(`"Action":"*","Resource":"*"`), a, "dynamodb:GetItem", table, nil, Denied},
		{"a service", `{"Effect":"Allow","Principal":{"Service":"lambda.amazonaws.com"},"Action":"*","Resource":"*"}`, "lambda.amazonaws.com", "dynamodb:GetItem", table, nil, Allowed},
		{"a service is no role", `{"Effect":"Allow","Principal":{"Service":"lambda.amazonaws.com"},"Action":"*","Resource":"*"}`, a, "dynamodb:GetItem", table, nil, Silent},
		{"NotAction", allow(`"NotAction":"dynamodb:Get*","Resource":"*"`), a, "dynamodb:GetItem", table, nil, Silent},
		{"NotAction of another", allow(`"NotAction":"dynamodb:Put*","Resource":"*"`), a, "dynamodb:GetItem", table, nil, Allowed},
		{"NotResource", allow(`"Action":"*","NotResource":"` + table + `"`), a, "dynamodb:GetItem", table, nil, Silent},
		{"NotResource of another", allow(`"Action":"*","NotResource":"` + table + `"`), a, "dynamodb:GetItem", index, nil, Allowed},
		{"a table is not its index", allow(`"Action":"*","Resource":"` + table + `"`), a, "dynamodb:Query", index, nil, Silent},
		{"a pattern", allow(`"Action":"*","Resource":"arn:aws:dynamodb:*:111122223333:table/x-*"`), a, "dynamodb:Query", index, nil, Allowed},
		{"a star does not cross a colon", allow(`"Action":"*","Resource":"arn:aws:dynamodb:*:table/x-records:"`), a, "dynamodb:Query", table, nil, Silent},
		{"a question mark", allow(`"Action":"*","Resource":"arn:aws:dynamodb:us-east-?:111122223333:table/x-records"`), a, "dynamodb:Query", table, nil, Allowed},
		{"every resource is not one", allow(`"Action":"*","Resource":"` + table + `"`), a, "dynamodb:Query", "*", nil, Silent},

		{"a condition", allow(`"Action":"*","Resource":"*","Condition":{"StringEquals":{"aws:SourceAccount":["1","2"]}}`), a, "dynamodb:Query", table, context{"aws:SourceAccount": {"2"}}, Allowed},
		{"its value is another", allow(`"Action":"*","Resource":"*","Condition":{"StringEquals":{"aws:SourceAccount":["1","2"]}}`), a, "dynamodb:Query", table, context{"aws:SourceAccount": {"3"}}, Silent},
		{"its key is absent", allow(`"Action":"*","Resource":"*","Condition":{"StringEquals":{"aws:SourceAccount":"1"}}`), a, "dynamodb:Query", table, nil, Silent},
		{"IfExists, absent", allow(`"Action":"*","Resource":"*","Condition":{"StringEqualsIfExists":{"aws:SourceAccount":"1"}}`), a, "dynamodb:Query", table, nil, Allowed},
		{"IfExists, another", allow(`"Action":"*","Resource":"*","Condition":{"StringEqualsIfExists":{"aws:SourceAccount":"1"}}`), a, "dynamodb:Query", table, context{"aws:SourceAccount": {"2"}}, Silent},
		{"a negated one, absent", allow(`"Action":"*","Resource":"*","Condition":{"StringNotEquals":{"aws:SourceAccount":"1"}}`), a, "dynamodb:Query", table, nil, Allowed},
		{"a negated one of several", allow(`"Action":"*","Resource":"*","Condition":{"ArnNotEquals":{"aws:PrincipalArn":["` + a + `","` + b + `"]}}`), a, "dynamodb:Query", table, context{"aws:PrincipalArn": {b}}, Silent},
		{"a pattern of ARNs", allow(`"Action":"*","Resource":"*","Condition":{"ArnLike":{"aws:PrincipalArn":"arn:aws:iam::*:role/?"}}`), a, "dynamodb:Query", table, context{"aws:PrincipalArn": {b}}, Allowed},
		{"two conditions, one false", allow(`"Action":"*","Resource":"*","Condition":{"StringEquals":{"aws:SourceAccount":"1","aws:SourceVpc":"v"}}`), a, "dynamodb:Query", table, context{"aws:SourceAccount": {"1"}}, Silent},
		{"Bool without quotes", allow(`"Action":"*","Resource":"*","Condition":{"Bool":{"aws:SecureTransport":true}}`), a, "dynamodb:Query", table, context{"aws:SecureTransport": {"true"}}, Allowed},
		{"Bool, absent", allow(`"Action":"*","Resource":"*","Condition":{"Bool":{"aws:SecureTransport":"false"}}`), a, "dynamodb:Query", table, nil, Silent},
		{"Null of what is there", allow(`"Action":"*","Resource":"*","Condition":{"Null":{"aws:SourceVpc":"false"}}`), a, "dynamodb:Query", table, context{"aws:SourceVpc": {"v"}}, Allowed},
		{"Null of what is absent", allow(`"Action":"*","Resource":"*","Condition":{"Null":{"aws:SourceVpc":"false"}}`), a, "dynamodb:Query", table, nil, Silent},
		{"ForAllValues", allow(`"Action":"*","Resource":"*","Condition":{"ForAllValues:StringEquals":{"aws:TagKeys":["x","y"]}}`), a, "dynamodb:Query", table, context{"aws:TagKeys": {"x"}}, Allowed},
		{"ForAllValues, one too many", allow(`"Action":"*","Resource":"*","Condition":{"ForAllValues:StringEquals":{"aws:TagKeys":["x","y"]}}`), a, "dynamodb:Query", table, context{"aws:TagKeys": {"x", "z"}}, Silent},
		{"ForAllValues of none", allow(`"Action":"*","Resource":"*","Condition":{"ForAllValues:StringEquals":{"aws:TagKeys":"x"}}`), a, "dynamodb:Query", table, nil, Allowed},
		{"ForAnyValue", allow(`"Action":"*","Resource":"*","Condition":{"ForAnyValue:StringEquals":{"aws:TagKeys":"x"}}`), a, "dynamodb:Query", table, context{"aws:TagKeys": {"z", "x"}}, Allowed},
		{"ForAnyValue of none", allow(`"Action":"*","Resource":"*","Condition":{"ForAnyValue:StringEquals":{"aws:TagKeys":"x"}}`), a, "dynamodb:Query", table, nil, Silent},
		{"less", allow(`"Action":"*","Resource":"*","Condition":{"NumericLessThan":{"aws:MultiFactorAuthAge":3600}}`), a, "dynamodb:Query", table, context{"aws:MultiFactorAuthAge": {"3599"}}, Allowed},
		{"not less", allow(`"Action":"*","Resource":"*","Condition":{"NumericLessThan":{"aws:MultiFactorAuthAge":"3600"}}`), a, "dynamodb:Query", table, context{"aws:MultiFactorAuthAge": {"3600"}}, Silent},
		{"StringLike", allow(`"Action":"*","Resource":"*","Condition":{"StringLike":{"aws:SourceVpc":"vpc-*"}}`), a, "dynamodb:Query", table, context{"aws:SourceVpc": {"vpc-1"}}, Allowed},
		{"case", allow(`"Action":"*","Resource":"*","Condition":{"StringEqualsIgnoreCase":{"aws:SourceVpc":"VPC-1"}}`), a, "dynamodb:Query", table, context{"aws:SourceVpc": {"vpc-1"}}, Allowed},
	} {
		r := Request{Principal: c.principal, Action: c.action, Resource: c.resource, Context: c.context}
		if err := r.Check(); err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		if got, _ := parse(t, Resource, c.statements).Judge(r); got != c.want {
			t.Errorf("%s: %v", c.name, got)
		}
	}
}

func TestGlob(t *testing.T) {
	for _, c := range []struct {
		pattern, s string
		want       bool
	}{
		{"", "", true}, {"", "a", false}, {"*", "", true}, {"*", "a/b:c", true}, {"a*", "a", true}, {"a*c", "abcbc", true}, {"a*c", "abcb", false},
		{"?", "", false}, {"?", "/", true}, {"a?c*", "abcd", true}, {"*a*b", "xaxaxb", true}, {"[a]", "a", false}, {"[a]", "[a]", true}, {`\*`, "*", false},
		{"**", "x", true}, {"a**", "a", true}, {"*a", "aaab", false},
	} {
		if got := Glob(c.pattern, c.s); got != c.want {
			t.Errorf("%q %q: %v", c.pattern, c.s, got)
		}
	}
}

// The lists say where they come from, and hold every service in use.
func TestActions(t *testing.T) {
	if got := len(Actions()); got < 2000 {
		t.Errorf("%d actions", got)
	}
	want := strings.Fields("cloudformation cloudtrail cloudwatch config dynamodb ec2 events iam kms lambda logs s3 scheduler signer sns sqs ssm states sts")
	if got := Services(); strings.Join(got, " ") != strings.Join(want, " ") {
		t.Errorf("services %q", got)
	}
	files, err := lists.ReadDir("actions")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		data, err := lists.ReadFile("actions/" + f.Name())
		if err != nil {
			t.Fatal(err)
		}
		first, _, _ := strings.Cut(string(data), "\n")
		if !strings.HasPrefix(first, "# "+strings.TrimSuffix(f.Name(), ".tsv")+": ") || !strings.Contains(first, "iam-data 0.") || !strings.Contains(first, ", of 20") {
			t.Errorf("%s begins %q", f.Name(), first)
		}
	}
	for name, write := range map[string]bool{"kms:Decrypt": true, "kms:GetKeyPolicy": false, "s3:ListBucket": false, "s3:PutBucketPolicy": true, "kms:TagResource": true, "kms:Decapsulate": true} {
		if a, ok := Lookup(name); !ok || a.Write() != write {
			t.Errorf("%s: %+v", name, a)
		}
	}
}

// What parses is judged without a panic, whatever is asked.
func FuzzParse(f *testing.F) {
	f.Add(good, "kms:Encrypt", "*")
	f.Add(`{"Version":"2012-10-17","Statement":[{"Effect":"Deny","Principal":"*","NotAction":"s3:*","NotResource":"arn:aws:s3:::b/*","Condition":{"Null":{"s3:if-none-match":true}}}]}`, "s3:PutObject", "arn:aws:s3:::b/k")
	f.Add(`{"Version":"2012-10-17","Statement":[]}`, "x", "y")
	f.Fuzz(func(t *testing.T, text, action, resource string) {
		for _, kind := range []Kind{Identity, Resource, Key, Trust, Endpoint} {
			d, err := Parse(kind, []byte(text))
			if err != nil {
				continue
			}
			v, s := d.Judge(Request{Principal: "arn:aws:iam::111122223333:role/a", Action: action, Resource: resource})
			if v == Allowed && !s.Allow || v == Denied && s.Allow {
				t.Errorf("%v by %+v", v, s)
			}
			if again, err := Parse(kind, d.Text); err != nil || len(again.Statements) != len(d.Statements) {
				t.Errorf("what parsed does not parse again: %v", err)
			}
		}
	})
}
