package ops

import (
	"context"
	"net/url"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/iam/types"
)

// What is asked of IAM.
type (
	peopleAPI interface {
		GetAccountAuthorizationDetails(context.Context, *iam.GetAccountAuthorizationDetailsInput, ...func(*iam.Options)) (*iam.GetAccountAuthorizationDetailsOutput, error)
		GetAccountSummary(context.Context, *iam.GetAccountSummaryInput, ...func(*iam.Options)) (*iam.GetAccountSummaryOutput, error)
		ListAccessKeys(context.Context, *iam.ListAccessKeysInput, ...func(*iam.Options)) (*iam.ListAccessKeysOutput, error)
	}
	simulatorAPI interface {
		SimulatePrincipalPolicy(context.Context, *iam.SimulatePrincipalPolicyInput, ...func(*iam.Options)) (*iam.SimulatePrincipalPolicyOutput, error)
	}
)

// principal is a role or user with all that its rights come from.
type principal struct {
	arn, name string
	user      bool
	service   bool              // a service-linked role: one of AWS's services only can hold it
	trust     string            // of a role: who can take it, as text
	inline    map[string]string // policies by name, as text
	attached  map[string]string // by ARN
	groups    map[string]string // a user's, by "group/policy"
	bounded   string            // the boundary's ARN
	boundary  string            // as text; "" for none

	documents  []*policyDocument // all that give it rights, read
	understood bool              // false: one of them cannot be read, and counts as allowing everything
	bounds     *policyDocument   // nil where there is none, or it cannot be read
}

// people are who there is.
type people struct {
	principals []principal
	managed    map[string]string // policies' documents by ARN
}

// lookAtAccount judges who else could change any of it.
func (e *examination) lookAtAccount(ctx context.Context) {
	e.lookAtRoot(ctx)
	c := e.check("account", "", "")
	people, err := readAccount(ctx, e.IAM)
	if !c.seen("iam:GetAccountAuthorizationDetails", err) {
		return
	}
	e.people = people
	e.lookAtRoles()
	e.lookAtPolicies()
	e.lookAtPowers()
	e.lookAtUsers(ctx)
	e.simulate(ctx)
}

// lookAtRoot judges the one principal that no policy binds.
func (e *examination) lookAtRoot(ctx context.Context) {
	c := e.check("root user", "no policy binds the root user: everything but what KMS key policies keep from it, and these it can get back through AWS's support", "delete its access keys; give it a second factor; keep both holders apart")
	out, err := e.IAM.GetAccountSummary(ctx, &iam.GetAccountSummaryInput{})
	if !c.seen("iam:GetAccountSummary", err) {
		return
	}
	n := func(key types.SummaryKeyType) int32 { return out.SummaryMap[string(key)] }
	c.want(n(types.SummaryKeyTypeAccountAccessKeysPresent) == 0, "the root user has access keys")
	c.want(n(types.SummaryKeyTypeAccountMFAEnabled) == 1 || n(types.SummaryKeyTypeAccountPasswordPresent) == 0 && passwordKnown(out), "the root user has no second factor")
	c.ok("no access keys, and a second factor or no password")
}

// passwordKnown: accounts whose root has no credentials at all (centrally
// managed) say so; others leave the entry out.
func passwordKnown(out *iam.GetAccountSummaryOutput) bool {
	_, known := out.SummaryMap[string(types.SummaryKeyTypeAccountPasswordPresent)]
	return known
}

func readAccount(ctx context.Context, client peopleAPI) (*people, error) {
	a := &people{managed: map[string]string{}}
	var users []types.UserDetail
	var roles []types.RoleDetail
	groups := map[string]types.GroupDetail{}
	err := pages(func(next *string) (*string, error) {
		out, err := client.GetAccountAuthorizationDetails(ctx, &iam.GetAccountAuthorizationDetailsInput{Marker: next})
		if err != nil {
			return nil, err
		}
		users, roles = append(users, out.UserDetailList...), append(roles, out.RoleDetailList...)
		for _, g := range out.GroupDetailList {
			groups[aws.ToString(g.GroupName)] = g
		}
		for _, p := range out.Policies {
			for _, v := range p.PolicyVersionList {
				if v.IsDefaultVersion {
					a.managed[aws.ToString(p.Arn)] = unescaped(v.Document)
				}
			}
		}
		if !out.IsTruncated {
			return nil, nil
		}
		return out.Marker, nil
	})
	if err != nil {
		return nil, err
	}
	inline := func(into map[string]string, prefix string, list []types.PolicyDetail) {
		for _, p := range list {
			into[prefix+aws.ToString(p.PolicyName)] = unescaped(p.PolicyDocument)
		}
	}
	attached := func(into map[string]string, prefix string, list []types.AttachedPolicy) {
		for _, p := range list {
			into[prefix+aws.ToString(p.PolicyArn)] = a.managed[aws.ToString(p.PolicyArn)]
		}
	}
	bound := func(p *principal, b *types.AttachedPermissionsBoundary) {
		if b != nil {
			p.bounded = aws.ToString(b.PermissionsBoundaryArn)
			p.boundary = a.managed[p.bounded]
		}
	}
	for _, r := range roles {
		p := principal{arn: aws.ToString(r.Arn), name: aws.ToString(r.RoleName), trust: unescaped(r.AssumeRolePolicyDocument),
			service: strings.HasPrefix(aws.ToString(r.Path), "/aws-service-role/"), inline: map[string]string{}, attached: map[string]string{}}
		inline(p.inline, "", r.RolePolicyList)
		attached(p.attached, "", r.AttachedManagedPolicies)
		bound(&p, r.PermissionsBoundary)
		a.principals = append(a.principals, p.read())
	}
	for _, u := range users {
		p := principal{arn: aws.ToString(u.Arn), name: aws.ToString(u.UserName), user: true, inline: map[string]string{}, attached: map[string]string{}, groups: map[string]string{}}
		inline(p.inline, "", u.UserPolicyList)
		attached(p.attached, "", u.AttachedManagedPolicies)
		for _, name := range u.GroupList {
			inline(p.groups, name+"/", groups[name].GroupPolicyList)
			attached(p.groups, name+"/", groups[name].AttachedManagedPolicies)
		}
		bound(&p, u.PermissionsBoundary)
		a.principals = append(a.principals, p.read())
	}
	slices.SortFunc(a.principals, func(x, y principal) int { return strings.Compare(x.arn, y.arn) })
	return a, nil
}

// unescaped is a policy document of IAM, which comes percent-encoded.
func unescaped(document *string) string {
	text, err := url.PathUnescape(aws.ToString(document))
	if err != nil {
		return aws.ToString(document)
	}
	return text
}

// read reads the principal's policies.
func (p principal) read() principal {
	p.documents, p.understood = nil, true
	for _, policies := range []map[string]string{p.inline, p.attached, p.groups} {
		for _, name := range sortedKeys(policies) {
			d, err := parsePolicy(policies[name])
			if err != nil {
				p.understood = false
				continue
			}
			p.documents = append(p.documents, d)
		}
	}
	if p.bounded != "" {
		if d, err := parsePolicy(p.boundary); err == nil {
			p.bounds = d
		}
	}
	return p
}

// may says whether the principal's own policies, within its boundary, could
// allow an action on a resource. What a resource's policy gives is judged with
// the resource; what an organisation's policies take away is not seen.
func (p principal) may(action, resource string) bool {
	allows := !p.understood
	for _, d := range p.documents {
		if d.denied(action, resource, p.arn) {
			return false
		}
		allows = allows || slices.ContainsFunc(d.statements, func(s policyStatement) bool { return s.allow && s.about(action) && s.on(resource) })
	}
	if !allows || p.bounds == nil {
		return allows
	}
	return !p.bounds.denied(action, resource, p.arn) &&
		slices.ContainsFunc(p.bounds.statements, func(s policyStatement) bool { return s.allow && s.about(action) && s.on(resource) })
}

// power is what somebody could change the guarantees with.
type power struct {
	name    string
	actions []string
	on      []string // resources of ours
	roles   []string // whose it is beside break-glass
	gains   string
}

func (e *examination) powers() []power {
	table, archive := e.Tables.Records, e.resource("s3", e.Archive)
	// Every role is one that nobody else may have: break-glass can take the others.
	secret := []string{e.Role("break-glass")}
	for _, name := range roleNames {
		secret = append(secret, e.Role(name))
	}
	stack := e.resource("cloudformation", "stack/"+e.Name+"-foundation/any")
	marks := []string{e.Tables.Ledger, e.Tables.Leases}
	changeTable := prefixed("dynamodb:", "UpdateItem", "DeleteItem", "BatchWriteItem", "PartiQLInsert", "PartiQLUpdate", "PartiQLDelete", "DeleteTable", "UpdateTable", "UpdateTimeToLive",
		"PutResourcePolicy", "UpdateContinuousBackups", "RestoreTableFromBackup", "RestoreTableToPointInTime", "ImportTable", "EnableKinesisStreamingDestination")
	return []power{
		{"change the maker", prefixed("lambda:", "UpdateFunctionCode", "UpdateFunctionConfiguration", "PublishVersion", "UpdateAlias", "CreateAlias", "DeleteAlias",
			"PutFunctionCodeSigningConfig", "DeleteFunctionCodeSigningConfig", "UpdateCodeSigningConfig", "DeleteCodeSigningConfig", "AddPermission", "PutResourcePolicy",
			"CreateFunctionUrlConfig", "UpdateFunctionUrlConfig", "CreateEventSourceMapping", "PutRuntimeManagementConfig", "PublishLayerVersion", "CreateFunction", "DeleteFunction"),
			[]string{e.function(), e.function() + ":" + e.Alias, e.resource("lambda", "code-signing-config:csc-0")}, []string{"release-manager"}, gainsCode},
		{"sign packages", prefixed("signer:", "StartSigningJob", "SignPayload", "PutSigningProfile", "AddProfilePermission", "RemoveProfilePermission", "CancelSigningProfile", "RevokeSigningProfile", "RevokeSignature"),
			[]string{e.resource("signer", "/signing-profiles/any")}, []string{"release-manager"}, gainsCode},
		{"run the generator past its alias", []string{"lambda:InvokeFunction"}, []string{e.function(), e.function() + ":" + latest, e.function() + ":1"}, nil, gainsVersion},
		{"change rights", prefixed("iam:", "PutRolePolicy", "AttachRolePolicy", "DetachRolePolicy", "DeleteRolePolicy", "UpdateAssumeRolePolicy", "PutRolePermissionsBoundary",
			"DeleteRolePermissionsBoundary", "CreateRole", "DeleteRole", "AddRoleToInstanceProfile"), secret, nil,
			"can give themselves every right that a policy of IAM gives: break-glass, the generator's role with code of their own, the signer's role"},
		{"change policies", prefixed("iam:", "CreatePolicyVersion", "SetDefaultPolicyVersion", "DeletePolicyVersion", "DeletePolicy"), []string{e.resource("iam", "policy/"+e.Name+"-boundary")}, nil, "can take away the bounds of every role"},
		{"make users and keys", prefixed("iam:", "CreateUser", "CreateAccessKey", "CreateLoginProfile", "UpdateLoginProfile", "AttachUserPolicy", "PutUserPolicy", "AddUserToGroup", "CreateOpenIDConnectProvider", "CreateSAMLProvider"),
			[]string{e.resource("iam", "user/any")}, nil, "can make access that lasts and belongs to nobody"},
		{"hand out secret roles", []string{"iam:PassRole"}, secret, nil, "can run code of their own with the role of the generator, the signer or recovery"},
		{"change stacks", prefixed("cloudformation:", "CreateStack", "UpdateStack", "DeleteStack", "CreateChangeSet", "ExecuteChangeSet", "SetStackPolicy", "CreateStackSet", "UpdateTerminationProtection"), []string{stack}, []string{"administrator"}, "can change every policy that a stack holds, as far as their own or the stack's role reaches"},
		{"write records", []string{"dynamodb:PutItem"}, []string{table}, []string{"generator", "importer"}, "can replace records: certificates and archive stand against them (list, verify, doctor and drill notice)"},
		{"change or delete records", changeTable, []string{table}, nil, "can replace or lose records: certificates and archive stand against them"},
		{"write marks and leases", []string{"dynamodb:PutItem"}, marks, []string{"signer"}, "can lower a mark, so that a key signs against what it has signed, or have a key's signer stop"},
		{"change or delete marks and leases", changeTable, marks, nil, "can make what was signed forgotten: a validator could be slashed"},
		{"change the archive", prefixed("s3:", "PutBucketPolicy", "DeleteBucketPolicy", "PutBucketVersioning", "PutBucketObjectLockConfiguration", "PutLifecycleConfiguration", "PutReplicationConfiguration",
			"DeleteObject", "DeleteObjectVersion", "BypassGovernanceRetention", "PutBucketPublicAccessBlock", "PutBucketOwnershipControls", "DeleteBucket"), []string{archive, archive + "/any"}, nil, "can let the copies be replaced or deleted that a changed record stands against"},
		{"blind the trail", slices.Concat(prefixed("cloudtrail:", "StopLogging", "DeleteTrail", "UpdateTrail", "PutEventSelectors"), prefixed("s3:", "DeleteObjectVersion", "DeleteObject", "PutBucketPolicy", "PutLifecycleConfiguration"), prefixed("events:", "DisableRule", "DeleteRule", "RemoveTargets", "PutRule")),
			[]string{e.resource("cloudtrail", "trail/"+e.Name), e.resource("s3", e.Trail), e.resource("s3", e.Trail+"/any"), e.resource("events", "rule/"+e.Name+"-any")}, nil, "can act without anything that lasts"},
		{"reach machines", []string{"ssm:StartSession", "ssm:SendCommand", "ec2-instance-connect:SendSSHPublicKey", "ec2:CreateInstanceConnectEndpoint", "ec2:ModifyInstanceAttribute"}, []string{e.resource("ec2", "instance/any"), e.resource("ssm", "document/any")}, nil, "can enter a signer's machine, where keys are open"},
	}
}

func prefixed(prefix string, names ...string) []string {
	out := make([]string, len(names))
	for i, n := range names {
		out[i] = prefix + n
	}
	return out
}

// held lists the actions of a power that a principal has.
func (w power) held(p principal) []string {
	var out []string
	for _, action := range w.actions {
		if slices.ContainsFunc(w.on, func(resource string) bool { return p.may(action, resource) }) {
			out = append(out, action)
		}
	}
	return out
}

// lookAtPowers lists who could change any of it. Roles of the installation are
// judged power by power; anybody else in the account in one line of their own.
func (e *examination) lookAtPowers() {
	others := map[string][]string{}
	for _, w := range e.powers() {
		c := e.check("may "+w.name, w.gains, "take the right away (break-glass), and find in the trail who gave it and what it was used for")
		var holders []string
		for _, p := range e.people.principals {
			actions := w.held(p)
			if len(actions) == 0 {
				continue
			}
			_, ours := strings.CutPrefix(p.arn, e.Role(""))
			switch {
			case p.service:
			case ours:
				if more := e.beyond(w, p, actions); len(more) > 0 {
					c.add(Changed, "%s may %s", e.short(p.arn), few(more))
				} else {
					holders = append(holders, e.short(p.arn))
				}
			default:
				others[p.arn] = append(others[p.arn], w.name)
			}
		}
		if holders == nil {
			holders = []string{"nobody of the installation"}
		}
		c.ok("%s", strings.Join(holders, ", "))
	}
	e.lookAtOutsiders(others)
}

// beyond are those of a role's actions that are not its own: by its template
// where there is one, else by what the power says.
func (e *examination) beyond(w power, p principal, actions []string) []string {
	want, known := e.stacks.one("AWS::IAM::Role", p.name)
	if !known {
		if role := strings.TrimPrefix(p.arn, e.Role("")); role == "break-glass" || slices.Contains(w.roles, role) {
			return nil
		}
		return actions
	}
	own := w.held(e.asInTemplate(p, want))
	return slices.DeleteFunc(slices.Clone(actions), func(a string) bool { return slices.Contains(own, a) })
}

func few(list []string) string {
	if len(list) > 4 {
		return strings.Join(list[:4], ", ") + " and more"
	}
	return strings.Join(list, ", ")
}

// lookAtUsers: everybody of the installation takes a role for a while. A user
// has a password or keys that last.
func (e *examination) lookAtUsers(ctx context.Context) {
	c := e.check("users", "access that lasts until somebody notices, wherever a copy of it is", "delete it; people come through the identity provider or another account, and take a role")
	for _, p := range e.people.principals {
		if !p.user || slices.Contains(e.Known, p.arn) {
			continue
		}
		out, err := e.IAM.ListAccessKeys(ctx, &iam.ListAccessKeysInput{UserName: &p.name})
		if !c.seen("iam:ListAccessKeys", err) {
			return
		}
		keys := 0
		for _, k := range out.AccessKeyMetadata {
			if k.Status == types.StatusTypeActive {
				keys++
			}
		}
		if keys > 0 {
			c.add(Changed, "user %s has %d active access keys", p.name, keys)
		} else {
			c.add(Warning, "there is a user %s, without access keys", p.name)
		}
	}
	c.ok("none, but those you named")
}
