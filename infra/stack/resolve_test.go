package stack

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/stakeseal/stakeseal/infra/policy"
)

// resolved puts one template up.
func resolved(text string, parameters map[string]string) (*Installation, error) {
	o := Options{Name: "abc", Account: "111122223333", Region: "eu-central-1"}
	in := &Installation{
		Name: o.Name, Account: o.Account, Region: o.Region, Partition: "aws", Parameters: map[string]map[string]string{}, Outputs: map[string]map[string]string{},
		Exports: map[string]string{"abc-Known": "known"}, roles: map[string]*Role{}, guards: map[string]*policy.Document{}, endpoints: map[string]*policy.Document{},
	}
	t, err := parse("test", []byte(text))
	if err != nil {
		return nil, err
	}
	if err := in.put(o, "test", t, parameters); err != nil {
		return nil, err
	}
	return in, in.read()
}

const head = `AWSTemplateFormatVersion: "2010-09-09"
Parameters:
  Name: {Type: String}
  Flag: {Type: String, AllowedValues: [a, b], Default: a}
  Many: {Type: CommaDelimitedList, Default: "x, y"}
  Size: {Type: Number, MinValue: 1, MaxValue: 9, Default: 3}
  Word: {Type: String, AllowedPattern: "[a-z]+", MinLength: 2, MaxLength: 4, Default: abc}
Mappings:
  Of: {"eu-central-1": {Color: blue}}
Conditions:
  IsA: !Equals [!Ref Flag, a]
  IsB: !Equals [!Ref Flag, b]
  Both: !And [!Condition IsA, !Not [!Condition IsB]]
  Either: !Or [!Condition IsB, !Condition Both]
`

// value resolves one expression as a property of a topic.
func value(expression string) (string, error) {
	in, err := resolved(head+"Resources:\n  Other:\n    Type: AWS::SQS::Queue\n    Properties: {QueueName: !Sub \"${Name}-q\"}\n  Gone:\n    Type: AWS::SQS::Queue\n    Condition: IsB\n"+
		"  It:\n    Type: AWS::SNS::Topic\n    Properties:\n      TopicName: t\n      V: "+expression+"\n", nil)
	if err != nil {
		return "", err
	}
	r, _ := in.Resource("test", "It")
	data, err := json.Marshal(r.Properties["V"])
	return string(data), err
}

func TestIntrinsics(t *testing.T) {
	for expression, want := range map[string]string{
		`!Ref Name`:                          `"abc"`,
		`{"Ref": "Name"}`:                    `"abc"`,
		`!Ref Many`:                          `["x","y"]`,
		`!Ref Size`:                          `"3"`,
		`!Ref AWS::Region`:                   `"eu-central-1"`,
		`!Ref AWS::AccountId`:                `"111122223333"`,
		`!Ref AWS::StackName`:                `"abc-test"`,
		`!Ref Other`:                         `"https://sqs.eu-central-1.amazonaws.com/111122223333/abc-q"`,
		`!GetAtt Other.Arn`:                  `"arn:aws:sqs:eu-central-1:111122223333:abc-q"`,
		`{"Fn::GetAtt": [Other, QueueName]}`: `"abc-q"`,
		`!Sub "${Name}:${Other.Arn}:${!Raw}:${AWS::Partition}"`: `"abc:arn:aws:sqs:eu-central-1:111122223333:abc-q:${Raw}:aws"`,
		`!Sub ["${x}-${Name}", {x: !Ref Flag}]`:                 `"a-abc"`,
		`!Join [",", [a, !Ref Name]]`:                           `"a,abc"`,
		`!Join ["", !Ref Many]`:                                 `"xy"`,
		`!Select [1, !Ref Many]`:                                `"y"`,
		`!Split ["-", "a-b"]`:                                   `["a","b"]`,
		`!If [IsA, yes-it-is, !Ref Nothing]`:                    `"yes-it-is"`,
		`!If [Both, 1, 2]`:                                      `"1"`,
		`!If [Either, 1, 2]`:                                    `"1"`,
		`[a, !If [IsB, b, !Ref AWS::NoValue], c]`:               `["a","c"]`,
		`{k: v, l: !If [IsB, b, !Ref "AWS::NoValue"]}`:          `{"k":"v"}`,
		`!FindInMap [Of, !Ref AWS::Region, Color]`:              `"blue"`,
		`!ImportValue abc-Known`:                                `"known"`,
		`{"Fn::ImportValue": !Sub "${Name}-Known"}`:             `"known"`,
		`!Select [0, !GetAZs ""]`:                               `"eu-central-1a"`,
		`true`:                                                  `true`,
		`{Condition: {Bool: x}}`:                                `{"Condition":{"Bool":"x"}}`,
	} {
		got, err := value(expression)
		if err != nil || got != want {
			t.Errorf("%s: %s, %v", expression, got, err)
		}
	}
}

// Whatever is not known, or would fail at AWS, is an error.
func TestRefusals(t *testing.T) {
	for _, expression := range []string{
		`!Ref Nothing`, `!GetAtt Other.Nothing`, `!GetAtt Nothing.Arn`, `!Sub "${Nothing}"`, `!Sub "${Other.Nothing}"`, `!Sub "${Many}"`, `!Ref Gone`,
		`!Select [2, !Ref Many]`, `!Select [x, !Ref Many]`, `!If [Nothing, a, b]`, `!If [IsA, a]`, `!FindInMap [Of, x, y]`, `!ImportValue abc-Unknown`, `!GetAZs us-east-1`,
		`!Base64 x`, `!Cidr [a, 1, 2]`, `!Transform {Name: x}`, `{"Fn::ForEach": x}`, `{"Fn::ToJsonString": x}`, `{"Fn::Sub": "x", "b": "c"}`, `!Join [1, 2]`, `!Split [a]`, `1.5`,
		`&anchor x`, `!Ref [a]`, `!Sub [a]`,
	} {
		if got, err := value(expression); err == nil {
			t.Errorf("%s: %s", expression, got)
		}
	}
	topic := "Resources:\n  It:\n    Type: AWS::SNS::Topic\n"
	for name, text := range map[string]string{
		"a transform":                 "Transform: AWS::Serverless-2016-10-31\n" + head + topic,
		"an unknown section":          head + topic + "Hooks:\n  x: {}\n",
		"no resources":                head,
		"an unknown type":             head + "Resources:\n  It:\n    Type: AWS::Lambda::Alias\n",
		"a way out":                   head + "Resources:\n  It:\n    Type: AWS::EC2::InternetGateway\n",
		"a custom resource":           head + "Resources:\n  It:\n    Type: Custom::Thing\n",
		"a user":                      head + "Resources:\n  It:\n    Type: AWS::IAM::User\n",
		"an unknown resource key":     head + topic + "    CreationPolicy: {}\n",
		"an unknown condition":        head + topic + "    Condition: Nothing\n",
		"depends on nothing":          head + topic + "    DependsOn: Nothing\n",
		"a key twice":                 head + topic + "    Type: AWS::SQS::Queue\n",
		"two documents":               head + topic + "---\nx: y\n",
		"another version":             strings.Replace(head, "2010-09-09", "2012-10-17", 1) + topic,
		"too large":                   head + topic + "#" + strings.Repeat("x", maxTemplate),
		"a circle of resources":       head + "Resources:\n  A:\n    Type: AWS::SNS::Topic\n    Properties: {TopicName: a, V: !Ref B}\n  B:\n    Type: AWS::SNS::Topic\n    Properties: {TopicName: b, V: !Ref A}\n",
		"a circle of DependsOn":       head + "Resources:\n  A:\n    Type: AWS::SNS::Topic\n    DependsOn: B\n  B:\n    Type: AWS::SNS::Topic\n    DependsOn: [A]\n",
		"a circle of names":           head + "Resources:\n  A:\n    Type: AWS::SNS::Topic\n    Properties: {TopicName: !GetAtt B.TopicName}\n  B:\n    Type: AWS::SNS::Topic\n    Properties: {TopicName: !GetAtt A.TopicName}\n",
		"a circle of conditions":      strings.Replace(head, "IsB: !Equals [!Ref Flag, b]", "IsB: !Not [!Condition Both]", 1) + topic,
		"a condition of a resource":   strings.Replace(head, "IsB: !Equals [!Ref Flag, b]", "IsB: !Equals [!Ref It, b]", 1) + topic,
		"a condition of an import":    strings.Replace(head, "IsB: !Equals [!Ref Flag, b]", "IsB: !Equals [!ImportValue abc-Known, b]", 1) + topic,
		"an export that is taken":     head + topic + "Outputs:\n  X: {Value: x, Export: {Name: abc-Known}}\n",
		"an output that is no text":   head + topic + "Outputs:\n  X: {Value: !Ref Many}\n",
		"an unknown parameter type":   strings.Replace(head, "Type: Number", "Type: AWS::SSM::Parameter::Value<String>", 1) + topic,
		"a rule that does not hold":   head + topic + "Rules:\n  R:\n    Assertions:\n      - Assert: {\"Fn::Equals\": [a, b]}\n        AssertDescription: no\n",
		"a rule that asserts nothing": head + topic + "Rules:\n  R: {Assertions: []}\n",
		"a policy of a policy":        head + "Resources:\n  It:\n    Type: AWS::IAM::Role\n    Properties:\n      RoleName: abc-x\n      ManagedPolicyArns: [\"arn:aws:iam::aws:policy/ReadOnlyAccess\"]\n      AssumeRolePolicyDocument: {Version: \"2012-10-17\", Statement: [{Effect: Allow, Principal: {Service: ec2.amazonaws.com}, Action: \"sts:AssumeRole\"}]}\n",
	} {
		if _, err := resolved(text, nil); err == nil {
			t.Error(name)
		} else {
			t.Logf("%s: %v", name, err)
		}
	}
	for name, bad := range map[string][2]string{
		"none of the allowed": {"Flag", "c"}, "too small": {"Size", "0"}, "too large": {"Size", "10"}, "no number": {"Size", "x"}, "another pattern": {"Word", "ab1"},
		"too short": {"Word", "a"}, "too long": {"Word", "abcde"}, "no such parameter": {"Nothing", "x"},
	} {
		if _, err := resolved(head+topic, map[string]string{bad[0]: bad[1]}); err == nil {
			t.Error(name)
		}
	}
	if _, err := resolved(strings.Replace(head, `, Default: a}`, `}`, 1)+topic, nil); err == nil {
		t.Error("a parameter without a value")
	}
}

// A rule that holds, one that does not apply, and a list within another.
func TestRules(t *testing.T) {
	topic := "Resources:\n  It:\n    Type: AWS::SNS::Topic\n"
	rule := "Rules:\n  R:\n    Assertions:\n      - Assert: {\"Fn::Not\": [{\"Fn::EachMemberIn\": [{\"Ref\": \"Many\"}, [x, z]]}]}\n        AssertDescription: apart\n"
	for many, ok := range map[string]bool{"x,y": true, "x": false, "z,x": false} {
		if _, err := resolved(head+topic+rule, map[string]string{"Many": many}); (err == nil) != ok {
			t.Errorf("%s: %v", many, err)
		}
	}
	off := strings.Replace(rule, "    Assertions", "    RuleCondition: {\"Fn::Equals\": [{\"Ref\": \"Flag\"}, b]}\n    Assertions", 1)
	if _, err := resolved(head+topic+off, map[string]string{"Many": "x"}); err != nil {
		t.Error(err)
	}
}

func TestOptions(t *testing.T) {
	good := Options{Name: "stakeseal", Account: "111122223333", Region: "eu-central-1"}
	if _, err := Deploy(good); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*Options){
		"a name with capitals": func(o *Options) { o.Name = "Stakeseal" },
		"a short name":         func(o *Options) { o.Name = "ab" },
		"a long name":          func(o *Options) { o.Name = "abcdefghijklmnopqrstu" },
		"an account":           func(o *Options) { o.Account = "1111" },
		"a region":             func(o *Options) { o.Region = "nowhere" },
		"a stack":              func(o *Options) { o.Parameters = map[string]map[string]string{"other": {}} },
		"a parameter":          func(o *Options) { o.Parameters = map[string]map[string]string{"foundation": {"Other": "x"}} },
		"a schedule without its role": func(o *Options) {
			o.Parameters = map[string]map[string]string{"schedule": {}}
		},
		"one person for a release": func(o *Options) {
			o.Parameters = map[string]map[string]string{"bootstrap": {"DeveloperPrincipals": "arn:aws:iam::111122223333:role/x", "ReleaseManagerPrincipals": "arn:aws:iam::111122223333:role/x"}}
		},
		"every release manager a developer": func(o *Options) {
			o.Parameters = map[string]map[string]string{"bootstrap": {"DeveloperPrincipals": "arn:aws:iam::111122223333:role/x,arn:aws:iam::111122223333:role/y", "ReleaseManagerPrincipals": "arn:aws:iam::111122223333:role/x"}}
		},
		"every developer a release manager": func(o *Options) {
			o.Parameters = map[string]map[string]string{"bootstrap": {"DeveloperPrincipals": "arn:aws:iam::111122223333:role/x", "ReleaseManagerPrincipals": "arn:aws:iam::111122223333:role/x,arn:aws:iam::111122223333:role/y"}}
		},
	} {
		o := good
		change(&o)
		if _, err := Deploy(o); err == nil {
			t.Error(name)
		}
	}
}

// A boundary gives nothing, and takes away what it does not allow: those of the
// templates allow everything and deny by name, so they do not show it.
func TestBoundary(t *testing.T) {
	const object = "arn:aws:s3:::b/k"
	role := "  It:\n    Type: AWS::IAM::Role\n    Properties:\n      RoleName: abc-x\n      PermissionsBoundary: !Ref Bound\n" +
		"      AssumeRolePolicyDocument: {Version: \"2012-10-17\", Statement: [{Effect: Allow, Principal: {Service: lambda.amazonaws.com}, Action: sts:AssumeRole}]}\n" +
		"      Policies: [{PolicyName: p, PolicyDocument: {Version: \"2012-10-17\", Statement: [{Effect: Allow, Action: s3:GetObject, Resource: \"*\"}]}}]\n"
	for action, want := range map[string]bool{"s3:*": true, "s3:PutObject": false} {
		in, err := resolved(head+"Resources:\n  Bound:\n    Type: AWS::IAM::ManagedPolicy\n    Properties:\n      ManagedPolicyName: abc-bound\n"+
			"      PolicyDocument: {Version: \"2012-10-17\", Statement: [{Effect: Allow, Action: \""+action+"\", Resource: \"*\"}]}\n"+role, nil)
		if err != nil {
			t.Fatal(err)
		}
		for asked, may := range map[string]bool{"s3:GetObject": want, "s3:PutObject": false} {
			d, err := in.Authorize(Request{Principal: in.RoleARN("x"), Action: asked, Resource: object})
			if err != nil || d.Allowed != may {
				t.Errorf("a boundary of %s, %s: %+v, %v", action, asked, d, err)
			}
		}
	}
}

// Whose policy is asked: an index has none of its own, nor has an object.
func TestGuarded(t *testing.T) {
	const table = "arn:aws:dynamodb:us-east-1:111122223333:table/abc-records"
	for arn, want := range map[string]string{
		table:                     table,
		table + "/index/by-time":  table,
		table + "/index/":         table + "/index/",
		table + "/backup/01":      table + "/backup/01",
		"arn:aws:s3:::b":          "arn:aws:s3:::b",
		"arn:aws:s3:::b/x/y:z":    "arn:aws:s3:::b",
		"arn:aws:sqs:r:1:a/b":     "arn:aws:sqs:r:1:a/b",
		"arn:aws:iam::1:role/p/x": "arn:aws:iam::1:role/p/x",
		"*":                       "*",
	} {
		if got := guarded(arn); got != want {
			t.Errorf("%s: %s", arn, got)
		}
	}
}
