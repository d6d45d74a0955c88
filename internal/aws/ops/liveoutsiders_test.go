package ops

import (
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	iamtypes "github.com/aws/aws-sdk-go-v2/service/iam/types"

	"github.com/stakeseal/stakeseal/infra/policy"
)

// outsider gives a role that is none of ours these rights, and says what is
// found of it.
func outsider(t *testing.T, list ...m) []string {
	t.Helper()
	f, l := healthy(t)
	f.roles["x"] = &iamtypes.RoleDetail{Arn: aws.String("arn:aws:iam::111122223333:role/app"), RoleName: aws.String("app"), Path: aws.String("/")}
	setPolicy(f.roles["x"], "p", list...)
	return changedOnes(examine(t, l))
}

// TestNarrowRights: a right over one thing of ours is found, however narrow its
// pattern is and whatever else of ours it misses.
func TestNarrowRights(t *testing.T) {
	const here = ":us-east-1:111122223333:"
	for _, c := range [][2]string{
		{"iam:UpdateAssumeRolePolicy", "arn:aws:iam::111122223333:role/stakeseal-hoodi-break-glass"},
		{"iam:PutRolePolicy", "arn:aws:iam::111122223333:role/stakeseal-hoodi-*-manager"},
		{"iam:CreatePolicyVersion", "arn:aws:iam::111122223333:policy/stakeseal-hoodi-readers"},
		{"iam:CreateAccessKey", "arn:aws:iam::111122223333:user/bob"},
		{"iam:PutUserPolicy", "arn:aws:iam::111122223333:user/${aws:username}"},
		{"iam:PassRole", "arn:aws:iam::111122223333:role/stakeseal-hoodi-schedul*"},
		{"cloudformation:UpdateStack", "arn:aws:cloudformation" + here + "stack/stakeseal-hoodi-bootstrap/*"},
		{"lambda:InvokeFunction", "arn:aws:lambda" + here + "function:stakeseal-hoodi-generator:6"},
		{"lambda:UpdateCodeSigningConfig", "arn:aws:lambda" + here + "code-signing-config:csc-0123456789abcdef0"},
		{"s3:DeleteObjectVersion", "arn:aws:s3:::" + archiveBucket + "/monthly-1/*"},
		{"s3:PutBucketPolicy", "arn:aws:s3:::stakeseal-hoodi-packages-111122223333"},
		{"s3:PutEncryptionConfiguration", "*"},
		{"events:DisableRule", "arn:aws:events" + here + "rule/stakeseal-hoodi-keys"},
		{"ssm:StartSession", "arn:aws:ec2" + here + "instance/i-0123456789abcdef0"},
		{"ssm:SendCommand", "arn:aws:ssm:us-east-1::document/AWS-RunShellScript"},
		{"dynamodb:PutItem", "arn:aws:dynamodb" + here + "table/stakeseal-hoodi-assignments"},
		{"dynamodb:PutItem", "arn:aws:dynamodb" + here + "table/stakeseal-hoodi-ledger"}, {"dynamodb:DeleteItem", "arn:aws:dynamodb" + here + "table/stakeseal-hoodi-leases"},
		{"dynamodb:PutResourcePolicy", "arn:aws:dynamodb" + here + "table/stakeseal-hoodi-events"},
		{"sns:*", "*"}, {"sns:Subscribe", "arn:aws:sns" + here + "stakeseal-hoodi-alarm"},
		{"sts:AssumeRole", "*"}, {"STS:assumerole", "arn:aws:iam::111122223333:role/stakeseal-hoodi-signer"},
		{"ec2:RunInstances", "*"}, {"organizations:LeaveOrganization", "*"},
		{"lambda:AnActionOfTomorrow", "arn:aws:lambda" + here + "function:*"},
		{"cloudwatch:Dis*", "arn:aws:cloudwatch" + here + "alarm:stakeseal-*"},
		{"scheduler:UpdateSchedule", "arn:aws:scheduler" + here + "schedule/*/*"},
	} {
		got := outsider(t, m{"Effect": "Allow", "Action": c[0], "Resource": c[1]})
		if len(got) != 1 || !strings.HasPrefix(got[0], "changed outsiders: app may ") {
			t.Errorf("%s on %s: %q", c[0], c[1], got)
		}
		// Denied on all that is meant, it is no right.
		if got := outsider(t, m{"Effect": "Allow", "Action": c[0], "Resource": c[1]}, m{"Effect": "Deny", "Action": c[0], "Resource": "*"}); got != nil {
			t.Errorf("%s on %s, denied: %q", c[0], c[1], got)
		}
	}
	for _, c := range [][2]string{
		{"lambda:*", "arn:aws:lambda" + here + "function:another"}, {"s3:*", "arn:aws:s3:::another/*"},
		{"dynamodb:*", "arn:aws:dynamodb" + here + "table/orders"}, {"iam:PassRole", "arn:aws:iam::111122223333:role/app-*"},
		{"iam:CreateServiceLinkedRole", "*"}, {"sts:AssumeRole", "arn:aws:iam::444455556666:role/x"}, {"lambda:GetFunction", "*"},
		{"sts:TagSession", "*"}, {"cloudformation:*", "arn:aws:cloudformation" + here + "stack/app/*"},
	} {
		if got := outsider(t, m{"Effect": "Allow", "Action": c[0], "Resource": c[1]}); got != nil {
			t.Errorf("%s on %s: %q", c[0], c[1], got)
		}
	}
	// A denial of less, or under a condition, takes nothing away.
	allow := m{"Effect": "Allow", "Action": "sns:*", "Resource": "*"}
	for _, deny := range []m{
		{"Effect": "Deny", "Action": "sns:*", "Resource": "arn:aws:sns:*:*:stakeseal-hoodi-?*"},
		{"Effect": "Deny", "Action": "sns:*", "NotResource": "arn:aws:sns:*:*:*-hoodi-*"},
		{"Effect": "Deny", "Action": "sns:*", "Resource": "*", "Condition": m{"Bool": m{"aws:MultiFactorAuthPresent": "false"}}},
	} {
		if got := outsider(t, allow, deny); len(got) != 1 {
			t.Errorf("%v: %q", deny, got)
		}
	}
}

func TestOverlap(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want bool
	}{
		{"", "", true}, {"", "*", true}, {"", "?", false}, {"a", "a", true}, {"a", "b", false}, {"a*", "*b", true}, {"a*c", "b*", false},
		{"a?c", "ab*", true}, {"a?", "a", false}, {"*-manager", "release-*", true}, {"ab*", "a?c*", true}, {"ab*", "a?", true}, {"ab*", "ac*", false}, {"*a*", "*b*", true}, {"a*b", "a", false},
		{"x/*/y", "x/y", false}, {"x*y", "xy", true}, {"**", "", true}, {"a*a", "a", false}, {"?*", "*", true}, {"ab", "?*?*?", false},
	} {
		if overlap(c.a, c.b) != c.want || overlap(c.b, c.a) != c.want {
			t.Errorf("%q and %q: want %v", c.a, c.b, c.want)
		}
	}
}

var overlapSeeds = []string{"a*", "*b", "ab", "a?c", "*", "a*a", "?*?", "arn:aws:s3:::x/*"}

// FuzzOverlap: a text that both patterns match is one that they share, and a
// pattern that covers another shares all of its texts.
func FuzzOverlap(f *testing.F) {
	for i, text := range overlapSeeds {
		f.Add(overlapSeeds[(i+1)%len(overlapSeeds)], overlapSeeds[(i+2)%len(overlapSeeds)], text)
	}
	f.Add("a*", "*b", "ab")
	f.Add("?*?", "**", "xy")
	f.Fuzz(func(t *testing.T, a, b, text string) {
		if len(a)+len(b)+len(text) > 200 {
			return
		}
		if policy.Glob(a, text) && policy.Glob(b, text) && !overlap(a, b) {
			t.Errorf("%q matches %q and %q, which do not overlap", text, a, b)
		}
		if covers(a, b) && policy.Glob(b, text) && !policy.Glob(a, text) {
			t.Errorf("%q covers %q, and does not match %q", a, b, text)
		}
		if !strings.ContainsAny(b, "*?") && overlap(a, b) != policy.Glob(a, b) {
			t.Errorf("%q and %q", a, b)
		}
	})
}
