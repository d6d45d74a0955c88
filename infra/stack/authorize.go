package stack

import (
	"fmt"
	"maps"
	"strings"

	"github.com/stakeseal/stakeseal/infra/policy"
)

// Request is a call: who (a role's ARN, or a service such as
// lambda.amazonaws.com), what, at which resource, under which condition keys.
//
// Authorize adds what follows from the caller: aws:PrincipalArn,
// aws:PrincipalAccount, kms:CallerAccount for KMS, and, unless they are given,
// aws:SecureTransport "true", aws:ViaAWSService "false" and aws:RequestedRegion
// the installation's. Every other key must be given where a real call would
// carry it: kms:EncryptionContext:NAME with kms:EncryptionContextKeys,
// kms:EncryptionAlgorithm, kms:MessageType, s3:if-none-match,
// iam:PassedToService, for every call of the function's code
// lambda:SourceFunctionArn, and for sts:AssumeRole by a person's own session
// aws:MultiFactorAuthPresent and aws:MultiFactorAuthAge: calls of a role's
// session carry neither.
type Request = policy.Request

// Decision is the answer, with the statement that decided.
type Decision struct {
	Allowed bool
	Why     string
}

// Authorize judges a call as AWS does within one account: an explicit deny of
// any document wins; else the resource's policy or the caller's own policies
// must allow it, and the caller's boundary too. A KMS key and a role's trust
// decide alone: the caller's policies count there only if the key's or role's
// policy leaves it to the account.
//
// Callers that are none of our roles are taken to hold every right that their
// own policies could give: a person's role that assumes one of ours, another
// account, a service.
func (in *Installation) Authorize(r Request) (Decision, error) {
	if err := r.Check(); err != nil {
		return Decision{}, err
	}
	if r.Action == "sts:GetCallerIdentity" {
		return yes("AWS answers it to everybody, whatever policies say")
	}
	r.Context = in.complete(r)
	role, ours := in.roles[r.Principal]
	if !ours && strings.HasPrefix(r.Principal, in.RoleARN("")) {
		return Decision{}, fmt.Errorf("request: no role %q", r.Principal)
	}

	guard := in.guards[guarded(r.Resource)]
	if guard != nil && guard.Kind == policy.Trust && !strings.HasPrefix(r.Action, "sts:") {
		guard = nil // a role's trust is about taking the role and nothing else
	}
	atResource, resourceStatement := policy.Silent, policy.Statement{}
	if guard != nil {
		atResource, resourceStatement = guard.Judge(r)
	}
	if atResource == policy.Denied {
		return no("the resource's policy denies it (%s)", resourceStatement.Sid)
	}

	identity, identityStatement := policy.Silent, policy.Statement{}
	if !ours {
		identity = policy.Allowed
	} else {
		for _, d := range role.Policies {
			if v, s := d.Judge(r); v > identity {
				identity, identityStatement = v, s
			}
		}
		if identity == policy.Denied {
			return no("the role's policy denies it (%s)", identityStatement.Sid)
		}
		if role.Boundary != nil {
			v, s := role.Boundary.Judge(r)
			if v == policy.Denied {
				return no("the boundary denies it (%s)", s.Sid)
			}
			if v != policy.Allowed {
				return no("the boundary does not allow it")
			}
		}
	}

	alone := guard != nil && (guard.Kind == policy.Key || guard.Kind == policy.Trust)
	foreign := policy.Account(r.Principal) != in.Account
	switch {
	case alone && atResource == policy.ByAccount && identity == policy.Allowed:
		return yes("the account's root is named at the resource (%s), and the role's policy allows it (%s)", resourceStatement.Sid, identityStatement.Sid)
	case alone && atResource != policy.Allowed:
		return no("the resource's policy, which decides alone, does not allow it")
	case atResource == policy.Allowed:
		return yes("the resource's policy (%s)", resourceStatement.Sid)
	case foreign:
		return no("the caller is of another account, and the resource's policy does not allow it")
	case identity == policy.Allowed:
		return yes("the role's policy (%s)", identityStatement.Sid)
	}
	return no("no policy allows it")
}

func yes(format string, args ...any) (Decision, error) {
	return Decision{true, fmt.Sprintf(format, args...)}, nil
}

func no(format string, args ...any) (Decision, error) {
	return Decision{false, fmt.Sprintf(format, args...)}, nil
}

// guarded is the resource whose policy guards a resource: the bucket of an
// object, the table of an index.
func guarded(arn string) string {
	part := strings.SplitN(arn, ":", 6)
	if len(part) != 6 {
		return arn
	}
	switch part[2] {
	case "s3":
		part[5], _, _ = strings.Cut(part[5], "/")
	case "dynamodb":
		table, rest, ok := strings.Cut(part[5], "/index/")
		if ok && rest != "" {
			part[5] = table
		}
	}
	return strings.Join(part, ":")
}

func (in *Installation) complete(r Request) map[string][]string {
	context := map[string][]string{"aws:SecureTransport": {"true"}, "aws:ViaAWSService": {"false"}, "aws:RequestedRegion": {in.Region}}
	maps.Copy(context, r.Context)
	if account := policy.Account(r.Principal); account != "" {
		context["aws:PrincipalArn"], context["aws:PrincipalAccount"] = []string{r.Principal}, []string{account}
		context["aws:PrincipalIsAWSService"] = []string{"false"}
		if strings.HasPrefix(r.Action, "kms:") {
			context["kms:CallerAccount"] = []string{account}
		}
	} else {
		context["aws:PrincipalIsAWSService"] = []string{"true"}
	}
	return context
}
