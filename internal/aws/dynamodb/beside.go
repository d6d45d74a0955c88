package dynamodb

import (
	"fmt"
	"strings"

	"github.com/stakeseal/stakeseal/internal/aws/arn"
)

// recordsSuffix ends the name of the one table that settings name.
const recordsSuffix = "-records"

// Beside returns the tables of the installation whose records table is given:
// the others stand beside it, under the same name with another ending. They
// are derived, so that no setting can send assignments, events or marks
// elsewhere. A table whose name does not end in "-records" is arn.ErrARN.
func Beside(recordsARN string) (Tables, error) {
	if _, err := arn.Table(recordsARN); err != nil {
		return Tables{}, err
	}
	before, ok := strings.CutSuffix(recordsARN, recordsSuffix)
	if !ok || strings.HasSuffix(before, "/") {
		return Tables{}, fmt.Errorf("%w: %q does not end in NAME%s", arn.ErrARN, recordsARN, recordsSuffix)
	}
	t := Tables{Records: recordsARN}
	for what, into := range t.beside() {
		*into = before + "-" + what
		if _, err := arn.Table(*into); err != nil { // a name at the limit of 255 has no room for the longest ending
			return Tables{}, err
		}
	}
	return t, nil
}

// Installation is the name that an installation's tables begin with, "" for a
// records table that Beside refuses.
func Installation(recordsARN string) string {
	if _, err := Beside(recordsARN); err != nil {
		return ""
	}
	a, _ := arn.Table(recordsARN)
	return strings.TrimSuffix(strings.TrimPrefix(a.Resource, "table/"), recordsSuffix)
}
