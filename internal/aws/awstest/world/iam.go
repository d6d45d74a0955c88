package world

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/stakeseal/stakeseal/infra/stack"
	"github.com/stakeseal/stakeseal/internal/aws/awstest/call"
)

// people is IAM, as far as it is read: the installation's roles and policies,
// and no users.
type people struct{ w *World }

// Understand reads a call of IAM.
func (s people) Understand(r call.Request) (*call.Call, *call.Failure) {
	return readForm(s.w, r, "iam", "2010-05-08", "https://iam.amazonaws.com/doc/2010-05-08/", peopleQueries)
}

var peopleQueries = map[string]query{
	"GetRole":                        {[]string{"RoleName"}, ofRole(func(r role) ([]element, *call.Failure) { return []element{r.describe("Role")}, nil })},
	"ListRoles":                      {[]string{"PathPrefix", "Marker", "MaxItems"}, ofAll("role/", listRoles)},
	"ListRolePolicies":               {[]string{"RoleName", "Marker", "MaxItems"}, ofRole(listRolePolicies)},
	"GetRolePolicy":                  {[]string{"RoleName", "PolicyName"}, getRolePolicy},
	"ListAttachedRolePolicies":       {[]string{"RoleName", "PathPrefix", "Marker", "MaxItems"}, ofRole(listAttached)},
	"GetPolicy":                      {[]string{"PolicyArn"}, ofPolicy(func(p managed, _ *form) ([]element, *call.Failure) { return []element{p.describe("Policy")}, nil })},
	"GetPolicyVersion":               {[]string{"PolicyArn", "VersionId"}, ofPolicy(getPolicyVersion)},
	"GetAccountAuthorizationDetails": {[]string{"Filter", "MaxItems", "Marker"}, ofAll("*", authorizationDetails)},
	"GetAccountSummary":              {nil, ofAll("*", accountSummary)},
	"SimulatePrincipalPolicy":        {[]string{"PolicySourceArn", "ActionNames", "ResourceArns", "ContextEntries", "MaxItems", "Marker"}, simulate},
	"ListAccessKeys":                 {[]string{"UserName", "Marker", "MaxItems"}, ofAll("user/*", listAccessKeys)},
	"ListUsers":                      {[]string{"PathPrefix", "Marker", "MaxItems"}, ofAll("user/", func(*World, *form) []element { return []element{members("Users"), leaf("IsTruncated", "false")} })},
}

func iamARN(rest string) string {
	if rest == "*" {
		return "*"
	}
	return "arn:aws:iam::" + Account + ":" + rest
}

// ofAll is a read of the whole account.
func ofAll(resource string, show func(*World, *form) []element) func(*World, *form) (reply, *call.Failure) {
	return func(w *World, f *form) (reply, *call.Failure) {
		f.need("iam", iamARN(resource))
		return func(context.Context) ([]element, *call.Failure) {
			w.mu.Lock()
			defer w.mu.Unlock()
			return show(w, f), nil
		}, nil
	}
}

// role is a role as the template has it.
type role struct {
	stack.Resource
	made time.Time
}

type managed struct {
	stack.Resource
	made time.Time
}

func (w *World) resources(kind string) (out []stack.Resource) {
	if w.inst == nil {
		return nil
	}
	for _, r := range w.inst.Resources {
		if r.Type == kind {
			out = append(out, r)
		}
	}
	return out
}

func (w *World) roles() (out []role) {
	for _, r := range w.resources("AWS::IAM::Role") {
		out = append(out, role{r, w.deployed})
	}
	return out
}

func (w *World) managed() (out []managed) {
	for _, r := range w.resources("AWS::IAM::ManagedPolicy") {
		out = append(out, managed{r, w.deployed})
	}
	return out
}

func noEntity(what, name string) *call.Failure {
	return call.Fail(http.StatusNotFound, "NoSuchEntity", "The %s with name %s cannot be found.", what, name)
}

func ofRole(show func(role) ([]element, *call.Failure)) func(*World, *form) (reply, *call.Failure) {
	return func(w *World, f *form) (reply, *call.Failure) {
		name := f.Get("RoleName")
		f.need("iam", iamARN("role/"+name))
		return func(context.Context) ([]element, *call.Failure) {
			w.mu.Lock()
			defer w.mu.Unlock()
			for _, r := range w.roles() {
				if r.PhysicalID == name {
					return show(r)
				}
			}
			return nil, noEntity("role", name)
		}, nil
	}
}

func ofPolicy(show func(managed, *form) ([]element, *call.Failure)) func(*World, *form) (reply, *call.Failure) {
	return func(w *World, f *form) (reply, *call.Failure) {
		arn := f.Get("PolicyArn")
		f.need("iam", arn)
		return func(context.Context) ([]element, *call.Failure) {
			w.mu.Lock()
			defer w.mu.Unlock()
			for _, p := range w.managed() {
				if p.ARN == arn {
					return show(p, f)
				}
			}
			return nil, noEntity("policy", arn)
		}, nil
	}
}

// document is a policy as IAM gives it back: in the encoding of a URL.
func document(v any) string {
	text, err := json.Marshal(v)
	if err != nil {
		return ""
	}
	return strings.ReplaceAll(url.QueryEscape(string(text)), "+", "%20")
}

func text(v any) string { s, _ := v.(string); return s }

func list(v any) []any { l, _ := v.([]any); return l }

func fields(v any) map[string]any { m, _ := v.(map[string]any); return m }

func when(t time.Time) string { return t.UTC().Format(time.RFC3339) }

func (r role) describe(name string) element {
	path := text(r.Properties["Path"])
	if path == "" {
		path = "/"
	}
	e := branch(name, leaf("Path", path), leaf("RoleName", r.PhysicalID), leaf("RoleId", roleID(r.ARN)), leaf("Arn", r.ARN),
		leaf("CreateDate", when(r.made)), leaf("AssumeRolePolicyDocument", document(r.Properties["AssumeRolePolicyDocument"])))
	if seconds := text(r.Properties["MaxSessionDuration"]); seconds != "" && name == "Role" {
		e.in = append(e.in, leaf("MaxSessionDuration", seconds))
	}
	if boundary := text(r.Properties["PermissionsBoundary"]); boundary != "" {
		e.in = append(e.in, branch("PermissionsBoundary", leaf("PermissionsBoundaryType", "Policy"), leaf("PermissionsBoundaryArn", boundary)))
	}
	var tags []element
	for _, t := range list(r.Properties["Tags"]) {
		tags = append(tags, branch("", leaf("Key", text(fields(t)["Key"])), leaf("Value", text(fields(t)["Value"]))))
	}
	e.in = append(e.in, members("Tags", tags...))
	return e
}

func (r role) inline() (out []element) {
	for _, p := range list(r.Properties["Policies"]) {
		out = append(out, branch("", leaf("PolicyName", text(fields(p)["PolicyName"])), leaf("PolicyDocument", document(fields(p)["PolicyDocument"]))))
	}
	return out
}

func (r role) attached() (out []element) {
	for _, arn := range list(r.Properties["ManagedPolicyArns"]) {
		out = append(out, branch("", leaf("PolicyName", text(arn)[strings.LastIndex(text(arn), "/")+1:]), leaf("PolicyArn", text(arn))))
	}
	return out
}

func listRoles(w *World, _ *form) []element {
	var all []element
	for _, r := range w.roles() {
		all = append(all, r.describe("Role"))
	}
	return []element{members("Roles", all...), leaf("IsTruncated", "false")}
}

func listRolePolicies(r role) ([]element, *call.Failure) {
	var names []element
	for _, p := range list(r.Properties["Policies"]) {
		names = append(names, leaf("", text(fields(p)["PolicyName"])))
	}
	return []element{members("PolicyNames", names...), leaf("IsTruncated", "false")}, nil
}

func listAttached(r role) ([]element, *call.Failure) {
	return []element{members("AttachedPolicies", r.attached()...), leaf("IsTruncated", "false")}, nil
}

func getRolePolicy(w *World, f *form) (reply, *call.Failure) {
	return ofRole(func(r role) ([]element, *call.Failure) {
		for _, p := range list(r.Properties["Policies"]) {
			if text(fields(p)["PolicyName"]) == f.Get("PolicyName") {
				return []element{leaf("RoleName", r.PhysicalID), leaf("PolicyName", f.Get("PolicyName")), leaf("PolicyDocument", document(fields(p)["PolicyDocument"]))}, nil
			}
		}
		return nil, noEntity("role policy", f.Get("PolicyName"))
	})(w, f)
}

func (p managed) describe(name string) element {
	return branch(name, leaf("PolicyName", p.PhysicalID[strings.LastIndex(p.PhysicalID, "/")+1:]), leaf("PolicyId", "ANPA"+roleID(p.ARN)[4:]), leaf("Arn", p.ARN), leaf("Path", "/"),
		leaf("DefaultVersionId", "v1"), leaf("AttachmentCount", "1"), leaf("PermissionsBoundaryUsageCount", "0"), leaf("IsAttachable", "true"),
		leaf("CreateDate", when(p.made)), leaf("UpdateDate", when(p.made)))
}

func (p managed) version() element {
	return branch("", leaf("Document", document(p.Properties["PolicyDocument"])), leaf("VersionId", "v1"), leaf("IsDefaultVersion", "true"), leaf("CreateDate", when(p.made)))
}

func getPolicyVersion(p managed, f *form) ([]element, *call.Failure) {
	if f.Get("VersionId") != "v1" {
		return nil, noEntity("policy version", f.Get("VersionId"))
	}
	v := p.version()
	v.name = "PolicyVersion"
	return []element{v}, nil
}

// authorizationDetails answers a page of everything that the filter names.
func authorizationDetails(w *World, f *form) []element {
	wanted := func(kind string) bool {
		any := false
		for name, v := range f.Values {
			if strings.HasPrefix(name, "Filter.member.") {
				any = true
				if v[0] == kind {
					return true
				}
			}
		}
		return !any
	}
	type entry struct {
		list string
		element
	}
	var all []entry
	if wanted("Role") {
		for _, r := range w.roles() {
			e := r.describe("")
			e.in = append(e.in, members("InstanceProfileList"), members("RolePolicyList", r.inline()...), members("AttachedManagedPolicies", r.attached()...))
			all = append(all, entry{"RoleDetailList", e})
		}
	}
	if wanted("LocalManagedPolicy") {
		for _, p := range w.managed() {
			e := p.describe("")
			e.in = append(e.in, members("PolicyVersionList", p.version()))
			all = append(all, entry{"Policies", e})
		}
	}
	from, most := number64(f.Get("Marker")), number64(f.Get("MaxItems"))
	if most == 0 {
		most = 100
	}
	lists := map[string][]element{}
	page := all[min(from, len(all)):min(from+most, len(all))]
	for _, e := range page {
		lists[e.list] = append(lists[e.list], e.element)
	}
	var out []element
	for _, name := range []string{"UserDetailList", "GroupDetailList", "RoleDetailList", "Policies"} {
		out = append(out, members(name, lists[name]...))
	}
	if from+len(page) < len(all) {
		return append(out, leaf("IsTruncated", "true"), leaf("Marker", decimal(from+len(page))))
	}
	return append(out, leaf("IsTruncated", "false"))
}

func accountSummary(w *World, _ *form) []element {
	var out []element
	for _, one := range []struct {
		name string
		n    int
	}{{"Users", 0}, {"AccountAccessKeysPresent", 0}, {"AccountMFAEnabled", 1}, {"Roles", len(w.roles())}, {"Policies", len(w.managed())}} {
		out = append(out, branch("entry", leaf("key", one.name), leaf("value", decimal(one.n))))
	}
	return []element{branch("SummaryMap", out...)}
}

func listAccessKeys(*World, *form) []element {
	return []element{members("AccessKeyMetadata"), leaf("IsTruncated", "false")}
}
