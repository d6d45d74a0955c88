package main

import (
	"errors"
	"strings"

	"github.com/stakeseal/stakeseal/internal/aws/session"
)

// stepRoles are the roles of infra/bootstrap.yaml that may do a step of a
// release on AWS. It is for hints: AWS decides, by the policies.
var stepRoles = map[string][]string{
	"submit": {"developer"},
	// A developer may read packages and not what is in force.
	"review":  {"release-manager", "auditor"},
	"approve": {"release-manager"}, "reject": {"release-manager"}, "sign": {"release-manager"},
	"deploy": {"release-manager"}, "rollback": {"release-manager"}, "revoke": {"release-manager"},
	"verify": {"release-manager", "auditor"},
}

// stepDenied adds to a denial of AWS whose step it was. A session that has
// ended is none, nor is the role of a person who brought another's key file.
func stepDenied(step string, err error) error {
	if err == nil || !errors.Is(err, session.ErrDenied) {
		return err
	}
	var f *failure
	if fault, ok := errors.AsType[*session.Fault](err); ok && signedOut[fault.Code] || errors.As(err, &f) {
		return err
	}
	roles := stepRoles[step]
	if len(roles) == 0 {
		return err
	}
	return fail(exitDenied, "on AWS release "+step+" is for the role "+strings.Join(roles, " or ")+": AWS_PROFILE=NAME chooses another profile, aws sts get-caller-identity shows who you are", "%w", err)
}
