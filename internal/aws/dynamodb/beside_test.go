package dynamodb_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/stakeseal/stakeseal/internal/aws/arn"
	"github.com/stakeseal/stakeseal/internal/aws/dynamodb"
)

func TestBeside(t *testing.T) {
	const before = "arn:aws:dynamodb:eu-central-1:111122223333:table/"
	got, err := dynamodb.Beside(before + "stakeseal-hoodi-records")
	want := dynamodb.Tables{Records: before + "stakeseal-hoodi-records", Assignments: before + "stakeseal-hoodi-assignments", Events: before + "stakeseal-hoodi-events",
		Ledger: before + "stakeseal-hoodi-ledger", Leases: before + "stakeseal-hoodi-leases"}
	if err != nil || got != want {
		t.Errorf("got %+v, %v", got, err)
	}
	if name := dynamodb.Installation(want.Records); name != "stakeseal-hoodi" {
		t.Errorf("named %q", name)
	}
	for _, text := range []string{
		"", before + "records", before + "-records", before + "hoodi-record", before + "hoodi-records/index/x", before + "hoodi-Records",
		"arn:aws:dynamodb:eu-central-1:111122223333:table/" + strings.Repeat("x", 247) + "-records", // no room for -assignments
		"arn:aws:s3:::hoodi-records",
	} {
		if got, err := dynamodb.Beside(text); !errors.Is(err, arn.ErrARN) || got != (dynamodb.Tables{}) || dynamodb.Installation(text) != "" {
			t.Errorf("%q: %+v, %v", text, got, err)
		}
	}
}
