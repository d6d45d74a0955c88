package ops

import (
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stakeseal/stakeseal/internal/aws/session"
)

func foundation() map[string]string {
	const key = "arn:aws:kms:us-east-1:111122223333:key/1234abcd-12ab-34cd-56ef-12345678900"
	return map[string]string{
		"Name":                "stakeseal-hoodi",
		"RecordsTableArn":     "arn:aws:dynamodb:us-east-1:111122223333:table/stakeseal-hoodi-records",
		"AssignmentsTableArn": "arn:aws:dynamodb:us-east-1:111122223333:table/stakeseal-hoodi-assignments",
		"EventsTableArn":      "arn:aws:dynamodb:us-east-1:111122223333:table/stakeseal-hoodi-events",
		"LedgerTableArn":      "arn:aws:dynamodb:us-east-1:111122223333:table/stakeseal-hoodi-ledger",
		"LeasesTableArn":      "arn:aws:dynamodb:us-east-1:111122223333:table/stakeseal-hoodi-leases",
		"ArchiveBucketArn":    "arn:aws:s3:::stakeseal-hoodi-archive-111122223333",
		"PackageBucketArn":    "arn:aws:s3:::stakeseal-hoodi-packages-111122223333",
		"SigningKeyArn":       key + "1",
		"RecoveryKeyArn":      key + "2",
		"CertifyingKeyArn":    key + "3",
		"SomethingNew":        "x",
	}
}

const foundationStack = "stakeseal-hoodi-foundation"

func TestReadFoundation(t *testing.T) {
	got, err := ReadFoundation(here, foundationStack, foundation())
	want := Installation{Place: here, Name: "stakeseal-hoodi", Records: foundation()["RecordsTableArn"], Archive: foundation()["ArchiveBucketArn"], Packages: foundation()["PackageBucketArn"],
		Signing: foundation()["SigningKeyArn"], Recovery: foundation()["RecoveryKeyArn"], Certifying: foundation()["CertifyingKeyArn"], Alias: aliasARN}
	if err != nil || got != want {
		t.Fatalf("got %+v, %v", got, err)
	}
	if FunctionStack(got.Name) != "stakeseal-hoodi-function" {
		t.Error("the function stack's name")
	}
	// Whatever is not as the template has it is refused.
	for key, value := range foundation() {
		if key == "SomethingNew" {
			continue
		}
		values := []string{"", "x", strings.Replace(value, account, "444455556666", 1), strings.Replace(value, "us-east-1", "eu-west-1", 1),
			strings.Replace(value, "arn:aws:", "arn:aws-cn:", 1), strings.Replace(value, "hoodi", "holesky", 1), value + "x"}
		if strings.HasPrefix(value, "arn:aws:kms:") {
			values = append(values, foundation()["SigningKeyArn"], foundation()["RecoveryKeyArn"], foundation()["CertifyingKeyArn"],
				"arn:aws:kms:us-east-1:111122223333:alias/stakeseal-hoodi-signing", foundation()["RecordsTableArn"])
		}
		for _, other := range values {
			if other == value {
				continue
			}
			outputs := foundation()
			outputs[key] = other
			if got, err := ReadFoundation(here, foundationStack, outputs); !errors.Is(err, ErrStack) || got != (Installation{}) {
				t.Errorf("%s %q: %v", key, other, err)
			}
		}
		outputs := foundation()
		delete(outputs, key)
		if _, err := ReadFoundation(here, foundationStack, outputs); !errors.Is(err, ErrStack) || !strings.Contains(err.Error(), key) {
			t.Errorf("without %s: %v", key, err)
		}
	}
	for _, stack := range []string{"", "stakeseal-hoodi", "-foundation", "Stakeseal-foundation", "x-foundation", strings.Repeat("x", 21) + "-foundation", "stakeseal-holesky-foundation", "a/b-foundation"} {
		if _, err := ReadFoundation(here, stack, foundation()); !errors.Is(err, ErrStack) {
			t.Errorf("stack %q: %v", stack, err)
		}
	}
}

func TestCheckFunction(t *testing.T) {
	i, err := ReadFoundation(here, foundationStack, foundation())
	if err != nil {
		t.Fatal(err)
	}
	good := map[string]string{"FunctionArn": strings.TrimSuffix(aliasARN, ":live"), "FunctionAliasArn": aliasARN}
	if err := i.CheckFunction("stakeseal-hoodi-function", good); err != nil {
		t.Error(err)
	}
	for key := range good {
		for _, other := range []string{"", aliasARN + "x", strings.Replace(good[key], "hoodi", "holesky", 1), strings.Replace(good[key], account, "444455556666", 1)} {
			bad := maps.Clone(good)
			bad[key] = other
			if err := i.CheckFunction("s", bad); !errors.Is(err, ErrStack) {
				t.Errorf("%s %q: %v", key, other, err)
			}
		}
	}
}

func TestOutputs(t *testing.T) {
	clean(t)
	member := func(status, id, outputs string) string {
		return fmt.Sprintf(`<Stacks><member><StackName>%s</StackName><StackId>%s</StackId><CreationTime>2026-01-01T00:00:00Z</CreationTime><StackStatus>%s</StackStatus><Outputs>%s</Outputs></member></Stacks>`,
			foundationStack, id, status, outputs)
	}
	const id = "arn:aws:cloudformation:us-east-1:111122223333:stack/stakeseal-hoodi-foundation/1234"
	one := `<member><OutputKey>Name</OutputKey><OutputValue>stakeseal-hoodi</OutputValue></member>`
	for name, c := range map[string]struct {
		status int
		body   string
		err    error
	}{
		"complete":        {200, member("UPDATE_COMPLETE", id, one), nil},
		"in progress":     {200, member("UPDATE_IN_PROGRESS", id, one), ErrStack},
		"never completed": {200, member("ROLLBACK_COMPLETE", id, one), ErrStack},
		"deleted":         {200, member("DELETE_COMPLETE", id, one), ErrStack},
		"elsewhere":       {200, member("CREATE_COMPLETE", strings.Replace(id, account, "444455556666", 1), one), session.ErrRemote},
		"an output twice": {200, member("CREATE_COMPLETE", id, one+one), session.ErrRemote},
		"none":            {200, `<Stacks></Stacks>`, session.ErrRemote},
		"another":         {200, strings.Replace(member("CREATE_COMPLETE", id, one), foundationStack, "x-foundation", 1), session.ErrRemote},
		"not there":       {400, `<ErrorResponse><Error><Type>Sender</Type><Code>ValidationError</Code><Message>Stack with id x does not exist</Message></Error><RequestId>r</RequestId></ErrorResponse>`, ErrNoStack},
		"denied":          {403, `<ErrorResponse><Error><Type>Sender</Type><Code>AccessDenied</Code><Message>no</Message></Error><RequestId>r</RequestId></ErrorResponse>`, session.ErrDenied},
	} {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if err := r.ParseForm(); err != nil {
				t.Error(err)
			}
			switch r.Form.Get("Action") {
			case "DescribeStacks":
				if c.status == 200 {
					answer(w, "DescribeStacks", c.body)
					return
				}
				w.WriteHeader(c.status)
				fmt.Fprint(w, c.body)
			default:
				answer(w, "GetCallerIdentity", identity(account, role))
			}
		}))
		a, err := Open(t.Context(), here, Options{Session: session.Options{Endpoint: s.URL, Backoff: func(int) time.Duration { return 0 }}})
		if err != nil {
			t.Fatal(err)
		}
		got, err := a.Outputs(t.Context(), foundationStack)
		if !errors.Is(err, c.err) || c.err == nil && got["Name"] != "stakeseal-hoodi" {
			t.Errorf("%s: %v, %v", name, got, err)
		}
		s.Close()
	}
	a := &Account{Place: here}
	for _, bad := range []string{"", "a b", "arn:aws:cloudformation:us-east-1:111122223333:stack/x/y", strings.Repeat("x", 129)} {
		if _, err := outputs(t.Context(), nil, a.Place, bad); !errors.Is(err, ErrStack) {
			t.Errorf("stack %q: %v", bad, err)
		}
	}
}
