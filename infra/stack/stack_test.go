package stack_test

import (
	"slices"
	"testing"

	"github.com/stakeseal/stakeseal/infra/stack"
)

func deploy(t *testing.T) *stack.Installation {
	t.Helper()
	in, err := stack.Deploy(stack.Options{Name: "stakeseal-hoodi", Account: "111122223333", Region: "us-east-1"})
	if err != nil {
		t.Fatal(err)
	}
	return in
}

// The names that programs and people rely on.
func TestNames(t *testing.T) {
	in := deploy(t)
	const account, name = "111122223333", "stakeseal-hoodi"
	for stack, outputs := range map[string]map[string]string{
		"foundation": {
			"Name":                name,
			"RecordsTableArn":     "arn:aws:dynamodb:us-east-1:" + account + ":table/" + name + "-records",
			"AssignmentsTableArn": "arn:aws:dynamodb:us-east-1:" + account + ":table/" + name + "-assignments",
			"EventsTableArn":      "arn:aws:dynamodb:us-east-1:" + account + ":table/" + name + "-events",
			"LedgerTableArn":      "arn:aws:dynamodb:us-east-1:" + account + ":table/" + name + "-ledger",
			"LeasesTableArn":      "arn:aws:dynamodb:us-east-1:" + account + ":table/" + name + "-leases",
			"ArchiveBucketArn":    "arn:aws:s3:::" + name + "-archive-" + account,
			"PackageBucketArn":    "arn:aws:s3:::" + name + "-packages-" + account,
		},
		"function": {
			"FunctionArn":      "arn:aws:lambda:us-east-1:" + account + ":function:" + name + "-generator",
			"FunctionAliasArn": "arn:aws:lambda:us-east-1:" + account + ":function:" + name + "-generator:live",
		},
		"bootstrap": {
			"GeneratorRoleArn":      "arn:aws:iam::" + account + ":role/" + name + "-generator",
			"ReleaseManagerRoleArn": "arn:aws:iam::" + account + ":role/" + name + "-release-manager",
			"BreakGlassRoleArn":     "arn:aws:iam::" + account + ":role/" + name + "-break-glass",
			"PermissionBoundaryArn": "arn:aws:iam::" + account + ":policy/" + name + "-boundary",
		},
	} {
		for output, want := range outputs {
			if got := in.Outputs[stack][output]; got != want {
				t.Errorf("%s %s: %q", stack, output, got)
			}
		}
	}
	want := []string{"administrator", "auditor", "break-glass", "depositor", "developer", "generator", "recovery", "release-manager", "requester", "signer"}
	if got := in.Roles(); !slices.Equal(got, want) {
		t.Errorf("roles %q", got)
	}
	for _, alias := range []string{"signing", "recovery", "certifying"} {
		if !slices.ContainsFunc(in.Resources, func(r stack.Resource) bool { return r.PhysicalID == "alias/"+name+"-"+alias }) {
			t.Errorf("no alias %s", alias)
		}
	}
}

// The same options give the same installation, made-up names included.
func TestRepeatable(t *testing.T) {
	a, b := deploy(t), deploy(t)
	for i, r := range a.Resources {
		if r.ARN != b.Resources[i].ARN || r.PhysicalID != b.Resources[i].PhysicalID {
			t.Errorf("%+v, then %+v", r, b.Resources[i])
		}
	}
	if a.Outputs["foundation"]["SigningKeyArn"] == a.Outputs["foundation"]["RecoveryKeyArn"] {
		t.Error("two keys of one name")
	}
}
