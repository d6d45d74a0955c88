package infra_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// matches judges an event as EventBridge does, as far as the rules use its
// patterns; a kind of pattern that it does not know fails the test.
func matches(t *testing.T, pattern, event any, path string) bool {
	t.Helper()
	switch p := pattern.(type) {
	case map[string]any:
		e, ok := event.(map[string]any)
		if !ok {
			e = map[string]any{}
		}
		for key, inner := range p {
			if !matches(t, inner, e[key], path+"."+key) {
				return false
			}
		}
		return true
	case []any:
		return slices.ContainsFunc(p, func(one any) bool {
			m, ok := one.(map[string]any)
			if !ok {
				return one == event
			}
			if len(m) != 1 {
				t.Fatalf("%s: %v", path, m)
			}
			text, isText := event.(string)
			for kind, v := range m {
				switch kind {
				case "prefix":
					return isText && strings.HasPrefix(text, v.(string))
				case "anything-but":
					return isText && text != v.(string)
				case "exists":
					return (event != nil) == v.(bool)
				default:
					t.Fatalf("%s: %s is not known here", path, kind)
				}
			}
			return false
		})
	}
	t.Fatalf("%s: %T", path, pattern)
	return false
}

// trailed is an event of a trail as EventBridge delivers it.
func trailed(service, name string, more ...any) map[string]any {
	detail := map[string]any{"eventName": name, "eventSource": service + ".amazonaws.com", "userIdentity": map[string]any{"type": "AssumedRole"}}
	for i := 0; i < len(more); i += 2 {
		detail[more[i].(string)] = more[i+1]
	}
	return map[string]any{"source": "aws." + service, "detail-type": "AWS API Call via CloudTrail", "detail": detail}
}

func assumed(role, invokedBy string) []any {
	identity := map[string]any{"type": "AssumedRole"}
	if invokedBy != "" {
		identity["type"], identity["invokedBy"] = "AWSService", invokedBy
	}
	return []any{"requestParameters", map[string]any{"roleArn": "arn:aws:iam::" + account + ":role/" + name + "-" + role}, "userIdentity", identity}
}

// Events that must be told, by the rule that tells them, and some that must
// not: alarms that come every day are not read.
func TestAlarms(t *testing.T) {
	in := deploy(t, everything())
	rules := map[string]map[string]any{}
	reading := map[string]bool{}
	for _, r := range in.Resources {
		if r.Type == "AWS::Events::Rule" {
			rules[r.LogicalID] = r.Properties["EventPattern"].(map[string]any)
			reading[r.LogicalID] = r.Properties["State"] == "ENABLED_WITH_ALL_CLOUDTRAIL_MANAGEMENT_EVENTS"
			if got := fmt.Sprint(r.Properties["Targets"]); got != "[map[Arn:arn:aws:sns:us-east-1:111122223333:"+name+"-alarms Id:alarms]]" {
				t.Errorf("%s goes to %s", r.LogicalID, got)
			}
		}
	}
	context := func(purpose string) map[string]any {
		return map[string]any{"encryptionContext": map[string]any{"app": "stakeseal", "purpose": purpose}}
	}
	told := map[string]bool{}
	for _, c := range []struct {
		rule  string // "" for none
		event map[string]any
	}{
		{"KeysRule", trailed("kms", "PutKeyPolicy")},
		{"KeysRule", trailed("kms", "CreateGrant")},
		{"KeysRule", trailed("kms", "ScheduleKeyDeletion")},
		{"KeysRule", trailed("kms", "ReplicateKey")},
		{"KeysRule", trailed("kms", "UpdateAlias")},
		{"", trailed("kms", "Encrypt", "requestParameters", context("signing"))},
		{"", trailed("kms", "Decrypt", "requestParameters", context("signing"))},
		{"MnemonicsRule", trailed("kms", "Decrypt", "requestParameters", context("recovery"))},
		{"DeniedCallsRule", trailed("kms", "Decrypt", "errorCode", "AccessDenied")},
		{"", trailed("sts", "AssumeRole", assumed("generator", "lambda.amazonaws.com")...)},
		{"MakerRule", trailed("sts", "AssumeRole", assumed("generator", "")...)},
		{"MakerRule", trailed("sts", "AssumeRole", assumed("generator", "ec2.amazonaws.com")...)},
		{"MakerRule", trailed("sts", "AssumeRoleWithWebIdentity", assumed("generator", "")...)},
		{"PeopleRule", trailed("sts", "AssumeRole", assumed("break-glass", "")...)},
		{"PeopleRule", trailed("sts", "AssumeRole", assumed("recovery", "")...)},
		{"", trailed("sts", "AssumeRole", assumed("auditor", "")...)},
		{"StacksRule", trailed("cloudformation", "UpdateStack")},
		{"StacksRule", trailed("cloudformation", "ExecuteChangeSet")},
		{"", trailed("cloudformation", "DescribeStacks")},
		{"FunctionRule", trailed("lambda", "UpdateFunctionCode20150331v2")},
		{"FunctionRule", trailed("lambda", "UpdateFunctionConfiguration20150331v2")},
		{"FunctionRule", trailed("lambda", "PutFunctionCodeSigningConfig20200630")},
		{"FunctionRule", trailed("lambda", "DeleteFunctionCodeSigningConfig20200630")},
		{"FunctionRule", trailed("lambda", "UpdateCodeSigningConfig20200422")},
		{"FunctionRule", trailed("lambda", "UpdateAlias20150331")},
		{"FunctionRule", trailed("lambda", "AddPermission20150331v2")},
		{"FunctionRule", trailed("lambda", "PutResourcePolicy20260101")},
		{"FunctionRule", trailed("lambda", "CreateFunction20150331")},
		{"FunctionRule", trailed("lambda", "CreateEventSourceMapping20150331")},
		{"FunctionRule", trailed("lambda", "PublishLayerVersion20181031")},
		{"", trailed("lambda", "GetFunction20150331v2")},
		{"SigningRule", trailed("signer", "StartSigningJob")},
		{"SigningRule", trailed("signer", "AddProfilePermission")},
		{"RolesRule", trailed("iam", "UpdateAssumeRolePolicy")},
		{"RolesRule", trailed("iam", "PutRolePolicy")},
		{"RolesRule", trailed("iam", "DeleteRolePermissionsBoundary")},
		{"RolesRule", trailed("iam", "CreatePolicyVersion")},
		{"RolesRule", trailed("iam", "CreateAccessKey")},
		{"RolesRule", trailed("iam", "DeactivateMFADevice")},
		{"", trailed("iam", "GetRole")},
		{"StorageRule", trailed("s3", "PutBucketPolicy")},
		{"StorageRule", trailed("s3", "DeleteBucketPolicy")},
		{"StorageRule", trailed("s3", "PutBucketLifecycle")},
		{"StorageRule", trailed("s3", "PutObjectLockConfiguration")},
		{"StorageRule", trailed("dynamodb", "PutResourcePolicy")},
		{"StorageRule", trailed("dynamodb", "RestoreTableToPointInTime")},
		{"StorageRule", trailed("dynamodb", "UpdateContinuousBackups")},
		{"", trailed("dynamodb", "PutItem")},
		{"WatchRule", trailed("cloudtrail", "StopLogging")},
		{"WatchRule", trailed("cloudtrail", "PutEventSelectors")},
		{"WatchRule", trailed("logs", "DeleteLogGroup")},
		{"WatchRule", trailed("events", "DisableRule")},
		{"WatchRule", trailed("sns", "Unsubscribe")},
		{"WatchRule", trailed("sns", "RemovePermission")},
		{"WatchRule", trailed("sns", "AddPermission")},
		{"WatchRule", trailed("monitoring", "PutMetricAlarm")},
		{"WatchRule", trailed("config", "PutDeliveryChannel")},
		{"WatchRule", trailed("config", "PutConfigurationRecorder")},
		{"WatchRule", trailed("config", "StopConfigurationRecorder")},
		{"HostsRule", trailed("ssm", "StartSession")},
		{"HostsRule", trailed("ssm", "SendCommand")},
		{"HostsRule", trailed("ec2", "RunInstances")},
		{"HostsRule", trailed("ec2", "CreateReplaceRootVolumeTask")},
		{"HostsRule", trailed("ec2", "CreateSnapshot")},
		{"HostsRule", trailed("ec2", "CreateImage")},
		{"HostsRule", trailed("ec2", "AttachVolume")},
		{"HostsRule", trailed("ec2", "AssociateIamInstanceProfile")},
		{"", trailed("ec2", "DescribeInstances")},
		{"RootRule", trailed("s3", "ListBuckets", "userIdentity", map[string]any{"type": "Root"})},
		{"RootRule", map[string]any{"source": "aws.signin", "detail-type": "AWS Console Sign In via CloudTrail", "detail": map[string]any{"userIdentity": map[string]any{"type": "Root"}}}},
	} {
		var by []string
		for id, pattern := range rules {
			if matches(t, pattern, c.event, id) {
				by = append(by, id)
			}
		}
		if c.rule == "" && len(by) > 0 || c.rule != "" && !slices.Contains(by, c.rule) {
			t.Errorf("%v: told by %q, not %q", c.event, by, c.rule)
		}
		told[c.rule] = true
		// Without this state a rule does not hear of calls that only read.
		detail := c.event["detail"].(map[string]any)
		if name := fmt.Sprint(detail["eventName"]); c.rule != "" && (name == "Decrypt" || strings.HasPrefix(name, "AssumeRole") || name == "ListBuckets") && !reading[c.rule] {
			t.Errorf("%s does not hear %s", c.rule, name)
		}
	}
	for id := range rules {
		if !told[id] {
			t.Errorf("%s is not tried", id)
		}
	}
}

// The trail: everything that manages, in every region, files that can be shown
// to be whole; data events as the parameters say.
func TestTrail(t *testing.T) {
	for on, want := range map[string]int{"off": 1, "on": 4} {
		o := basic()
		o.Parameters = map[string]map[string]string{"watch": {"InvokeEvents": on, "TableEvents": on, "ObjectEvents": on}}
		in := deploy(t, o)
		r, _ := in.Resource("watch", "AuditTrail")
		if list, _ := r.Properties["AdvancedEventSelectors"].([]any); len(list) != want {
			t.Errorf("%s: selectors %v", on, list)
		}
		for _, property := range []string{"IsLogging", "IsMultiRegionTrail", "IncludeGlobalServiceEvents", "EnableLogFileValidation"} {
			if r.Properties[property] != true {
				t.Errorf("%s is %v", property, r.Properties[property])
			}
		}
	}
	o := basic()
	o.Parameters = map[string]map[string]string{"watch": {"Trail": "off"}}
	in := deploy(t, o)
	for _, id := range []string{"AuditTrail", "TrailBucket"} {
		if _, ok := in.Resource("watch", id); ok {
			t.Errorf("alarms alone, and there is %s", id)
		}
	}
	// IAM, root, and roles taken at the global endpoint of STS are told of there.
	for _, id := range []string{"RolesRule", "RootRule", "PeopleRule", "MakerRule"} {
		if _, ok := in.Resource("watch", id); !ok {
			t.Errorf("alarms alone, and no %s", id)
		}
	}
}
