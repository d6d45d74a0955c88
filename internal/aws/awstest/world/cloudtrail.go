package world

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/stakeseal/stakeseal/internal/aws/awstest/call"
)

// trails is CloudTrail: the last 90 days' management events, which every
// account has without asking, and the installation's own trail.
type trails struct{ w *World }

const trailTarget = "CloudTrail_20131101."

// Understand reads a call of CloudTrail.
func (s trails) Understand(r call.Request) (*call.Call, *call.Failure) {
	operation, ours := strings.CutPrefix(r.HTTP.Header.Get("X-Amz-Target"), trailTarget)
	c := &call.Call{Operation: operation, ReadOnly: true, Params: map[string]any{}}
	if r.HTTP.Method != http.MethodPost || !ours {
		return nil, unknown("cloudtrail target %q", r.HTTP.Header.Get("X-Amz-Target"))
	}
	switch operation {
	case "LookupEvents":
		return c, s.lookup(r, c)
	case "DescribeTrails", "GetTrailStatus", "GetEventSelectors", "GetTrail":
		return c, s.trail(r, c)
	}
	return nil, unknown("cloudtrail %s", operation)
}

func (s trails) lookup(r call.Request, c *call.Call) *call.Failure {
	var in struct {
		LookupAttributes   []struct{ AttributeKey, AttributeValue string }
		StartTime, EndTime *float64
		MaxResults         *int
		NextToken          string
	}
	if err := call.Strict(r.Body, &in); err != nil {
		return unknown("cloudtrail LookupEvents with %v", err)
	}
	most := 50
	if in.MaxResults != nil {
		most = *in.MaxResults
	}
	// A token goes on in what there was at the first page: asking is an event
	// as well.
	from, known := 0, len(s.w.Trail())
	if in.NextToken != "" {
		if n, err := fmt.Sscanf(in.NextToken, "%d/%d", &from, &known); n != 2 || err != nil || from < 0 || known < 0 || known > len(s.w.Trail()) {
			return call.Refuse("InvalidNextTokenException", "token %q", in.NextToken)
		}
	}
	if len(in.LookupAttributes) > 1 || most < 1 || most > 50 {
		return call.Refuse("InvalidLookupAttributesException", "one attribute at most, and 1 to 50 results")
	}
	keep := func(Event) bool { return true }
	for _, a := range in.LookupAttributes {
		value := a.AttributeValue
		test := map[string]func(e Event) bool{
			"EventName":    func(e Event) bool { return e.trailName() == value },
			"EventSource":  func(e Event) bool { return e.source() == value },
			"EventId":      func(e Event) bool { return e.eventID() == value },
			"Username":     func(e Event) bool { return e.user() == value },
			"AccessKeyId":  func(e Event) bool { return e.AccessKey == value },
			"ReadOnly":     func(e Event) bool { return strconv.FormatBool(e.ReadOnly) == value },
			"ResourceName": func(e Event) bool { return e.Resource == value },
		}[a.AttributeKey]
		if test == nil {
			return unknown("attribute %q of cloudtrail LookupEvents", a.AttributeKey)
		}
		keep = test
	}
	c.Needs = []call.Need{{Action: "cloudtrail:LookupEvents", Resource: "*"}}
	c.Do = func(context.Context) (*call.Answer, *call.Failure) {
		var found []map[string]any
		for _, e := range slices.Backward(s.w.Trail()[:known]) { // the newest first
			at := float64(e.Time.UnixMilli()) / 1000
			if e.Data || e.Session == "" || e.Region != r.Region || !keep(e) || in.StartTime != nil && at < *in.StartTime || in.EndTime != nil && at > *in.EndTime {
				continue
			}
			found = append(found, e.lookedUp())
		}
		page := found[min(from, len(found)):min(from+most, len(found))]
		out := map[string]any{"Events": page}
		if page == nil {
			out["Events"] = []string{}
		}
		if from+len(page) < len(found) {
			out["NextToken"] = fmt.Sprintf("%d/%d", from+len(page), known)
		}
		return call.JSON(out)
	}
	return nil
}

// trailName is how CloudTrail names a call: for Lambda with its API's date.
func (e Event) trailName() string {
	const dated = "20150331"
	if e.Service != "lambda" {
		return e.Action
	}
	switch e.Action {
	case "UpdateFunctionCode", "GetFunction", "GetFunctionConfiguration", "GetPolicy":
		return e.Action + dated + "v2"
	case "PublishVersion", "CreateAlias", "UpdateAlias", "GetAlias", "ListAliases", "ListVersionsByFunction", "DeleteFunction", "ListEventSourceMappings":
		return e.Action + dated
	}
	return e.Action
}

func (e Event) source() string { return e.Service + ".amazonaws.com" }

func (e Event) eventID() string {
	return uuidOf(e.ID)
}

func (e Event) user() string { return e.Session[strings.LastIndex(e.Session, "/")+1:] }

func (e Event) resourceType() string {
	return map[string]string{"kms": "AWS::KMS::Key", "dynamodb": "AWS::DynamoDB::Table", "s3": "AWS::S3::Object", "lambda": "AWS::Lambda::Function", "iam": "AWS::IAM::Role", "sts": "AWS::IAM::Role"}[e.Service]
}

// record is the event as CloudTrail writes it into files and answers.
func (e Event) record() map[string]any {
	account := strings.Split(e.Role, ":")[4]
	issuer := map[string]any{"type": "Role", "principalId": roleID(e.Role), "arn": e.Role, "accountId": account, "userName": e.Role[strings.LastIndex(e.Role, "/")+1:]}
	category := "Management"
	if e.Data {
		category = "Data"
	}
	out := map[string]any{
		"eventVersion": "1.11",
		"userIdentity": map[string]any{
			"type": "AssumedRole", "principalId": roleID(e.Role) + ":" + e.user(), "arn": e.Session, "accountId": account, "accessKeyId": e.AccessKey,
			"sessionContext": map[string]any{"sessionIssuer": issuer, "attributes": map[string]any{"creationDate": when(e.Time), "mfaAuthenticated": strconv.FormatBool(e.factor)}},
		},
		"eventTime": when(e.Time), "eventSource": e.source(), "eventName": e.trailName(), "awsRegion": e.Region,
		"sourceIPAddress": "127.0.0.1", "userAgent": e.agent, "requestParameters": e.Params, "responseElements": nil,
		"requestID": e.ID, "eventID": e.eventID(), "readOnly": e.ReadOnly, "eventType": "AwsApiCall", "managementEvent": !e.Data,
		"recipientAccountId": Account, "eventCategory": category,
	}
	if e.Error != "" {
		// Whatever a service calls it, the trail says AccessDenied.
		code := e.Error
		if strings.HasPrefix(code, "AccessDenied") {
			code = "AccessDenied"
		}
		out["errorCode"], out["errorMessage"] = code, e.Message
	}
	if kind := e.resourceType(); kind != "" && e.Resource != "" && e.Resource != "*" {
		out["resources"] = []map[string]any{{"accountId": Account, "type": kind, "ARN": e.Resource}}
	}
	return out
}

func (e Event) lookedUp() map[string]any {
	text, _ := json.Marshal(e.record())
	out := map[string]any{
		"EventId": e.eventID(), "EventName": e.trailName(), "ReadOnly": strconv.FormatBool(e.ReadOnly), "AccessKeyId": e.AccessKey,
		"EventTime": float64(e.Time.UnixMilli()) / 1000, "EventSource": e.source(), "Username": e.user(), "CloudTrailEvent": string(text),
		"Resources": []string{},
	}
	if kind := e.resourceType(); kind != "" && e.Resource != "" && e.Resource != "*" {
		out["Resources"] = []map[string]any{{"ResourceType": kind, "ResourceName": e.Resource}}
	}
	return out
}

// DeliverTrail writes every event so far, data events too, into the trail's
// bucket as one log file, and returns its key.
func (w *World) DeliverTrail() (string, error) {
	w.mu.Lock()
	inst := w.inst
	w.mu.Unlock()
	if inst == nil {
		return "", fmt.Errorf("nothing is deployed")
	}
	var records []map[string]any
	for _, e := range w.Trail() {
		if e.Session != "" {
			records = append(records, e.record())
		}
	}
	var file bytes.Buffer
	zipped := gzip.NewWriter(&file)
	if err := json.NewEncoder(zipped).Encode(map[string]any{"Records": records}); err != nil {
		return "", err
	}
	if err := zipped.Close(); err != nil {
		return "", err
	}
	now := time.Now().UTC()
	key := fmt.Sprintf("AWSLogs/%s/CloudTrail/%s/%s/%s_CloudTrail_%s_%s_%s.json.gz", Account, Region, now.Format("2006/01/02"),
		Account, Region, now.Format("20060102T1504Z"), sumText(call.UUID())[:16])
	return key, w.Buckets.Put(inst.Name+"-trail-"+Account, key, file.Bytes())
}

// trail answers what is asked about the installation's trail.
func (s trails) trail(r call.Request, c *call.Call) *call.Failure {
	var in struct {
		TrailName           string
		Name                string
		TrailNameList       []string `json:"trailNameList"`
		IncludeShadowTrails *bool    `json:"includeShadowTrails"`
	}
	if err := call.Strict(r.Body, &in); err != nil {
		return unknown("cloudtrail %s with %v", c.Operation, err)
	}
	asked := in.TrailName + in.Name
	resource := "*"
	if c.Operation != "DescribeTrails" {
		if resource = asked; !strings.HasPrefix(resource, "arn:") {
			resource = "arn:aws:cloudtrail:" + Region + ":" + Account + ":trail/" + asked
		}
	}
	c.Needs = []call.Need{{Action: "cloudtrail:" + c.Operation, Resource: resource}}
	c.Do = func(context.Context) (*call.Answer, *call.Failure) {
		s.w.mu.Lock()
		defer s.w.mu.Unlock()
		all := []map[string]any{}
		for _, t := range s.w.resources("AWS::CloudTrail::Trail") {
			if c.Operation == "DescribeTrails" && len(in.TrailNameList) > 0 && !slices.Contains(in.TrailNameList, t.PhysicalID) && !slices.Contains(in.TrailNameList, t.ARN) {
				continue
			}
			if c.Operation != "DescribeTrails" && t.ARN != resource {
				continue
			}
			yes := func(name string) bool { return truth(t.Properties[name]) }
			all = append(all, map[string]any{
				"Name": t.PhysicalID, "TrailARN": t.ARN, "HomeRegion": Region, "S3BucketName": text(t.Properties["S3BucketName"]),
				"IncludeGlobalServiceEvents": t.Properties["IncludeGlobalServiceEvents"] == nil || yes("IncludeGlobalServiceEvents"),
				"IsMultiRegionTrail":         yes("IsMultiRegionTrail"), "LogFileValidationEnabled": yes("EnableLogFileValidation"),
				"HasCustomEventSelectors": t.Properties["EventSelectors"] != nil || t.Properties["AdvancedEventSelectors"] != nil, "IsOrganizationTrail": false,
			})
			if c.Operation == "DescribeTrails" {
				continue
			}
			switch c.Operation {
			case "GetTrailStatus":
				return call.JSON(map[string]any{"IsLogging": yes("IsLogging"), "LatestDeliveryTime": s.w.deployed.Unix(), "StartLoggingTime": s.w.deployed.Unix()})
			case "GetTrail":
				return call.JSON(map[string]any{"Trail": all[0]})
			}
			out := map[string]any{"TrailARN": t.ARN}
			for _, name := range []string{"EventSelectors", "AdvancedEventSelectors"} {
				if v := t.Properties[name]; v != nil {
					out[name] = booleans(v)
				}
			}
			return call.JSON(out)
		}
		if c.Operation != "DescribeTrails" {
			return nil, call.Refuse("TrailNotFoundException", "Unknown trail: %s", resource)
		}
		return call.JSON(map[string]any{"trailList": all})
	}
	return nil
}

// truth reads a boolean of a template, which may be text.
func truth(v any) bool { return v == true || v == "true" }

// booleans makes text that stands for one into it, all the way down.
func booleans(v any) any {
	switch v := v.(type) {
	case string:
		if v == "true" || v == "false" {
			return v == "true"
		}
	case []any:
		out := make([]any, len(v))
		for i := range v {
			out[i] = booleans(v[i])
		}
		return out
	case map[string]any:
		out := map[string]any{}
		for name := range v {
			out[name] = booleans(v[name])
		}
		return out
	}
	return v
}
