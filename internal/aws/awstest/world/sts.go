package world

import (
	"context"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/stakeseal/stakeseal/internal/aws/awstest/call"
)

// tokens is STS.
type tokens struct{ w *World }

// Understand reads a call of STS.
func (s tokens) Understand(r call.Request) (*call.Call, *call.Failure) {
	return readForm(s.w, r, "sts", "2011-06-15", "https://sts.amazonaws.com/doc/2011-06-15/", tokenQueries)
}

var tokenQueries = map[string]query{
	// Everybody may ask who they are.
	"GetCallerIdentity": {nil, func(w *World, f *form) (reply, *call.Failure) {
		return func(context.Context) ([]element, *call.Failure) {
			return []element{leaf("Arn", f.Caller.Session), leaf("UserId", f.Caller.ID), leaf("Account", f.Caller.Account)}, nil
		}, nil
	}},
	"AssumeRole": {[]string{"RoleArn", "RoleSessionName", "DurationSeconds", "SerialNumber", "TokenCode"}, assumeRole},
}

var sessionName = regexp.MustCompile(`^[\w+=,.@-]{2,64}$`)

// assumeRole opens a session if the role's trust policy lets the caller. A
// second factor is taken with any code of six digits, or the one that the
// caller's own session began with; the session that is opened carries neither.
func assumeRole(w *World, f *form) (reply, *call.Failure) {
	role, name := f.Get("RoleArn"), f.Get("RoleSessionName")
	seconds := 3600
	if text := f.Get("DurationSeconds"); text != "" {
		var err error
		if seconds, err = strconv.Atoi(text); err != nil || seconds < 900 || seconds > 12*3600 {
			return nil, call.Refuse("ValidationError", "duration %q", text)
		}
	}
	if !sessionName.MatchString(name) || !strings.Contains(role, ":role/") {
		return nil, call.Refuse("ValidationError", "role %q, session %q", role, name)
	}
	f.need("sts", role)
	code := f.Get("TokenCode") != ""
	if code != (f.Get("SerialNumber") != "") || code && !regexp.MustCompile(`^[0-9]{6}$`).MatchString(f.Get("TokenCode")) {
		return nil, call.Refuse("ValidationError", "a serial number and a code of six digits go together")
	}
	if code {
		if w.ours(f.Caller.Role) { // a role has no device
			return nil, call.Fail(403, "AccessDenied", "MultiFactorAuthentication failed, unable to validate MFA code. Please verify your MFA serial number is valid and associated with this user.")
		}
		f.Needs[0].Context = factor(0)
	}
	delete(f.Params, "TokenCode")
	return func(context.Context) ([]element, *call.Failure) {
		s := w.open(role, Session{Name: name, NoMFA: !w.ours(role), Life: time.Duration(seconds) * time.Second})
		return []element{
			branch("Credentials", leaf("AccessKeyId", s.AccessKey), leaf("SecretAccessKey", s.secret), leaf("SessionToken", s.token),
				leaf("Expiration", s.expires.UTC().Format(time.RFC3339))),
			branch("AssumedRoleUser", leaf("AssumedRoleId", s.ID), leaf("Arn", s.Session)),
			leaf("PackedPolicySize", "1"),
		}, nil
	}, nil
}
