package ops

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudtrail"
	"github.com/aws/aws-sdk-go-v2/service/cloudtrail/types"
	kmstypes "github.com/aws/aws-sdk-go-v2/service/kms/types"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	s3types "github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/stakeseal/stakeseal/internal/aws/session"
)

var noon = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

// eventText is an event as CloudTrail has it.
func eventText(id, service, action string, at time.Time, more m) string {
	e := m{"eventVersion": "1.11", "eventID": id, "eventTime": at.Format(time.RFC3339), "eventSource": service + ".amazonaws.com", "eventName": action, "awsRegion": "us-east-1",
		"sourceIPAddress": "203.0.113.7", "userAgent": "aws-sdk-go-v2", "requestID": "r-" + id, "managementEvent": true, "recipientAccountId": testAccount,
		"userIdentity": m{"type": "AssumedRole", "arn": "arn:aws:sts::111122223333:assumed-role/stakeseal-hoodi-signer/i-1", "accountId": testAccount,
			"sessionContext": m{"sessionIssuer": m{"type": "Role", "arn": roleARN("signer"), "userName": "stakeseal-hoodi-signer"}}},
		"resources": []m{{"accountId": testAccount, "type": "AWS::KMS::Key", "ARN": signingKey}}}
	for k, v := range more {
		e[k] = v
	}
	return jsonText(e)
}

func decrypted(id string, at time.Time, context m, more ...string) string {
	e := m{"requestParameters": m{"encryptionContext": context, "encryptionAlgorithm": "SYMMETRIC_DEFAULT"}}
	if len(more) > 0 {
		e["errorCode"] = more[0]
	}
	return eventText(id, "kms", "Decrypt", at, e)
}

// lookups answers LookupEvents page by page.
type lookups struct {
	t      *testing.T
	events []string // newest first, as AWS gives them
	size   int
	asked  []cloudtrail.LookupEventsInput
	fail   map[int]error // by call
	round  bool
}

func (l *lookups) LookupEvents(_ context.Context, in *cloudtrail.LookupEventsInput, _ ...func(*cloudtrail.Options)) (*cloudtrail.LookupEventsOutput, error) {
	l.asked = append(l.asked, *in)
	if err := l.fail[len(l.asked)]; err != nil {
		return nil, err
	}
	if len(in.LookupAttributes) != 1 || aws.ToInt32(in.MaxResults) != 50 || in.EndTime.Sub(*in.StartTime) > HistoryDays*24*time.Hour {
		l.t.Errorf("CloudTrail would refuse %+v", in)
	}
	n := 0
	if in.NextToken != nil {
		if _, err := fmt.Sscan(*in.NextToken, &n); err != nil {
			l.t.Error(err)
		}
	}
	out := &cloudtrail.LookupEventsOutput{}
	for i := n; i < len(l.events) && i < n+l.size; i++ {
		out.Events = append(out.Events, types.Event{EventId: aws.String(fmt.Sprint(i)), CloudTrailEvent: &l.events[i]})
	}
	if n+l.size < len(l.events) || l.round {
		out.NextToken = aws.String(fmt.Sprint(n + l.size))
		if l.round {
			out.NextToken = aws.String("1")
		}
	}
	return out, nil
}

func historyOf(l *lookups) (*History, *[]time.Duration) {
	var waits []time.Duration
	return &History{client: l, pause: func(_ context.Context, d time.Duration) error {
		waits = append(waits, d)
		return nil
	}}, &waits
}

// TestHistoryReadsAllPages: every page, in AWS's pace, oldest first, each event
// once.
func TestHistoryReadsAllPages(t *testing.T) {
	l := &lookups{t: t, size: 2}
	for i := range 7 {
		l.events = append(l.events, decrypted(fmt.Sprint("e", i), noon.Add(-time.Duration(i)*time.Minute), m{"order": "o"}))
	}
	l.events = append(l.events, l.events[0]) // one that a later page repeats
	h, waits := historyOf(l)
	steps := 0
	h.step = func(n int) { steps += n }
	calls, err := h.Of(t.Context(), signingKey, noon.Add(-time.Hour), noon, func(c *Call) bool { return c.EventID != "e3" })
	if err != nil {
		t.Fatal(err)
	}
	var ids []string
	for _, c := range calls {
		ids = append(ids, c.EventID)
	}
	if !slices.Equal(ids, []string{"e6", "e5", "e4", "e2", "e1", "e0"}) || steps != 8 {
		t.Errorf("%v, %d steps", ids, steps)
	}
	if len(*waits) != 3 || (*waits)[0] < 500*time.Millisecond {
		t.Errorf("it takes two calls a second, and these were the pauses: %v", *waits)
	}
	if got := l.asked[0]; *got.LookupAttributes[0].AttributeValue != signingKey || got.LookupAttributes[0].AttributeKey != types.LookupAttributeKeyResourceName || !got.StartTime.Equal(noon.Add(-time.Hour)) {
		t.Errorf("asked %+v", got)
	}
}

// TestHistoryHasNoHoles: a page that fails, an event that cannot be read and a
// list without an end are errors, never a shorter history.
func TestHistoryHasNoHoles(t *testing.T) {
	events := []string{decrypted("a", noon, nil), decrypted("b", noon, nil), decrypted("c", noon, nil)}
	all := func(*Call) bool { return true }
	for name, c := range map[string]struct {
		l    *lookups
		want error
	}{
		"failed page": {&lookups{events: events, size: 1, fail: map[int]error{2: apiFailure("InternalFailure")}}, session.ErrRemote},
		"denied":      {&lookups{events: events, size: 1, fail: map[int]error{1: apiFailure("AccessDeniedException")}}, session.ErrDenied},
		"no event":    {&lookups{events: []string{"{}"}, size: 1}, session.ErrRemote},
		"no JSON":     {&lookups{events: []string{events[0], ""}, size: 1}, session.ErrRemote},
		"goes round":  {&lookups{events: events, size: 1, round: true}, session.ErrRemote},
	} {
		c.l.t = t
		h, _ := historyOf(c.l)
		if calls, err := h.Of(t.Context(), signingKey, noon.Add(-time.Hour), noon, all); !errors.Is(err, c.want) || calls != nil {
			t.Errorf("%s: %v, %v", name, calls, err)
		}
	}
	l := &lookups{t: t, events: events, size: 1}
	h, _ := historyOf(l)
	ctx, cancel := context.WithCancel(t.Context())
	h.pause = func(ctx context.Context, _ time.Duration) error { cancel(); return ctx.Err() }
	if calls, err := h.Of(ctx, signingKey, noon.Add(-time.Hour), noon, all); !errors.Is(err, context.Canceled) || calls != nil {
		t.Errorf("cancelled: %v, %v", calls, err)
	}
	cancel()
	if err := trailPause(ctx, time.Hour); !errors.Is(err, context.Canceled) {
		t.Errorf("a pause outlives its context: %v", err)
	}
	if err := trailPause(t.Context(), 0); err != nil {
		t.Error(err)
	}
}

func TestParseCall(t *testing.T) {
	for name, c := range map[string]struct {
		text string
		want Call
	}{
		"decrypt": {decrypted("1", noon, m{"app": "stakeseal", "order": "o"}), Call{EventID: "1", Time: noon, Region: "us-east-1", Service: "kms", Action: "Decrypt", RequestID: "r-1", Who: roleARN("signer"), Session: "i-1", Account: testAccount,
			Source: "203.0.113.7", Agent: "aws-sdk-go-v2", Resources: []string{signingKey}, Context: map[string]string{"app": "stakeseal", "order": "o"}}},
		"dry run": {decrypted("1", noon, m{"app": "x"}, "DryRunOperationException"), Call{EventID: "1", Time: noon, Region: "us-east-1", Service: "kms", Action: "Decrypt", RequestID: "r-1", Who: roleARN("signer"), Session: "i-1", Account: testAccount,
			Source: "203.0.113.7", Agent: "aws-sdk-go-v2", Error: "DryRunOperationException", DryRun: true, Resources: []string{signingKey}, Context: map[string]string{"app": "x"}}},
		"re-encrypted": {eventText("1", "kms", "ReEncrypt", noon, m{"requestParameters": m{"sourceEncryptionContext": m{"order": "o"}}, "resources": nil}), Call{EventID: "1", Time: noon, Region: "us-east-1", Service: "kms", Action: "ReEncrypt", RequestID: "r-1",
			Who: roleARN("signer"), Session: "i-1", Account: testAccount, Source: "203.0.113.7", Agent: "aws-sdk-go-v2", Context: map[string]string{"order": "o"}}},
		"policy": {eventText("1", "kms", "PutKeyPolicy", noon, m{"requestParameters": m{"keyId": signingKey, "policy": "{}", "policyName": "default"}, "resources": []m{}}), Call{EventID: "1", Time: noon, Region: "us-east-1", Service: "kms", Action: "PutKeyPolicy", RequestID: "r-1",
			Who: roleARN("signer"), Session: "i-1", Account: testAccount, Source: "203.0.113.7", Agent: "aws-sdk-go-v2", Resources: []string{signingKey}, Policy: "{}"}},
		"grant": {eventText("1", "kms", "CreateGrant", noon, m{"requestParameters": m{"granteePrincipal": "arn:x", "operations": []string{"Decrypt"}}, "responseElements": m{"grantId": "g"}}), Call{EventID: "1", Time: noon, Region: "us-east-1", Service: "kms", Action: "CreateGrant", RequestID: "r-1",
			Who: roleARN("signer"), Session: "i-1", Account: testAccount, Source: "203.0.113.7", Agent: "aws-sdk-go-v2", Resources: []string{signingKey}, Grantee: "arn:x", Grants: []string{"Decrypt"}, GrantID: "g"}},
		"grant revoked": {eventText("1", "kms", "RevokeGrant", noon, m{"requestParameters": m{"grantId": "g"}, "responseElements": m{"keyId": signingKey}}), Call{EventID: "1", Time: noon, Region: "us-east-1", Service: "kms", Action: "RevokeGrant", RequestID: "r-1",
			Who: roleARN("signer"), Session: "i-1", Account: testAccount, Source: "203.0.113.7", Agent: "aws-sdk-go-v2", Resources: []string{signingKey}, GrantID: "g"}},
		"grant retired": {eventText("1", "kms", "RetireGrant", noon, m{"requestParameters": nil, "responseElements": m{"keyId": signingKey}, "additionalEventData": m{"grantId": "g"}}), Call{EventID: "1", Time: noon, Region: "us-east-1", Service: "kms", Action: "RetireGrant", RequestID: "r-1",
			Who: roleARN("signer"), Session: "i-1", Account: testAccount, Source: "203.0.113.7", Agent: "aws-sdk-go-v2", Resources: []string{signingKey}, GrantID: "g"}},
		"service": {eventText("1", "sts", "AssumeRole", noon, m{"userIdentity": m{"type": "AWSService", "invokedBy": "lambda.amazonaws.com"}, "requestParameters": m{"roleArn": "arn:r"}, "resources": nil}), Call{EventID: "1", Time: noon, Region: "us-east-1", Service: "sts", Action: "AssumeRole", RequestID: "r-1",
			Who: "lambda.amazonaws.com", Source: "203.0.113.7", Agent: "aws-sdk-go-v2", Role: "arn:r"}},
		"enclave": {eventText("1", "kms", "Decrypt", noon, m{"additionalEventData": m{"recipient": m{"attestationDocumentEnclaveImageDigest": "abc"}}}), Call{EventID: "1", Time: noon, Region: "us-east-1", Service: "kms", Action: "Decrypt", RequestID: "r-1",
			Who: roleARN("signer"), Session: "i-1", Account: testAccount, Source: "203.0.113.7", Agent: "aws-sdk-go-v2", Resources: []string{signingKey}, Attested: "abc"}},
		"item": {eventText("1", "dynamodb", "PutItem", noon, m{"requestParameters": m{"key": m{"sk": m{"S": "birth/0000000001"}, "pk": "order/o"}}, "resources": []m{{"ARN": recordsTable}}}), Call{EventID: "1", Time: noon, Region: "us-east-1", Service: "dynamodb", Action: "PutItem", RequestID: "r-1",
			Who: roleARN("signer"), Session: "i-1", Account: testAccount, Source: "203.0.113.7", Agent: "aws-sdk-go-v2", Resources: []string{recordsTable}, Key: []string{"order/o", "birth/0000000001"}}},
		"object": {eventText("1", "s3", "PutObject", noon, m{"requestParameters": m{"key": "o/1.json"}, "resources": nil}), Call{EventID: "1", Time: noon, Region: "us-east-1", Service: "s3", Action: "PutObject", RequestID: "r-1",
			Who: roleARN("signer"), Session: "i-1", Account: testAccount, Source: "203.0.113.7", Agent: "aws-sdk-go-v2", Key: []string{"o/1.json"}}},
	} {
		got, err := parseCall([]byte(c.text))
		if err != nil || fmt.Sprintf("%+v", *got) != fmt.Sprintf("%+v", c.want) {
			t.Errorf("%s:\n%+v\n%+v, %v", name, got, c.want, err)
		}
	}
	for name, text := range map[string]string{
		"nothing": "", "no object": "[]", "two events": decrypted("1", noon, nil) + decrypted("2", noon, nil), "no id": eventText("", "kms", "Decrypt", noon, nil), "no time": `{"eventID":"1","eventSource":"kms.amazonaws.com","eventName":"Decrypt"}`,
		"no source": eventText("1", "kms", "Decrypt", noon, m{"eventSource": ""}), "no name": eventText("1", "kms", "", noon, nil),
		"a context that is none": eventText("1", "kms", "Decrypt", noon, m{"requestParameters": m{"encryptionContext": 3}}),
		"too long":               eventText("1", "kms", "Decrypt", noon, m{"userAgent": strings.Repeat("x", maxEventBytes)}),
	} {
		if got, err := parseCall([]byte(text)); !errors.Is(err, errEvent) || got != nil {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
	c, err := parseCall([]byte(eventText("1", "kms", "Decrypt\x1b[2J\n", noon, m{"errorCode": "x\r"})))
	if err != nil || strings.ContainsAny(c.String(), "\x1b\n\r") {
		t.Errorf("%q, %v", c, err)
	}
}

var sought = &Sought{
	Keys: []string{signingKey, recoveryKey}, Order: "o", Certifier: certKey, SignRequest: "r-sign", Table: recordsTable, Item: []string{"order/o", "birth/0000000001"},
	Objects: []string{"o/00000001.json"}, Archive: archiveBucket, Function: "arn:aws:lambda:us-east-1:111122223333:function:stakeseal-hoodi-generator", Born: noon,
}

// TestSought: what belongs into an audit, and what does not.
func TestSought(t *testing.T) {
	kms := func(action string, context map[string]string, more ...string) Call {
		c := Call{Service: "kms", Action: action, Context: context, Resources: []string{signingKey}}
		if len(more) > 0 {
			c.Error = more[0]
		}
		return c
	}
	for name, c := range map[string]struct {
		call Call
		want bool
	}{
		"opening":                     {kms("Decrypt", map[string]string{"order": "o"}), true},
		"opening of another order":    {kms("Decrypt", map[string]string{"order": "p"}), false},
		"opening without a context":   {kms("Decrypt", nil), false},
		"denied without a context":    {kms("Decrypt", nil, "AccessDenied"), true},
		"re-encryption":               {kms("ReEncrypt", map[string]string{"order": "o"}), true},
		"sealing":                     {kms("Encrypt", map[string]string{"order": "o"}), true},
		"reading its policy":          {kms("GetKeyPolicy", nil), false},
		"a new policy":                {kms("PutKeyPolicy", nil), true},
		"another key":                 {Call{Service: "kms", Action: "PutKeyPolicy", Resources: []string{"arn:x"}}, false},
		"the signature":               {Call{Service: "kms", Action: "Sign", Resources: []string{certKey}, RequestID: "r-sign"}, true},
		"another signature":           {Call{Service: "kms", Action: "Sign", Resources: []string{certKey}, RequestID: "r-2"}, false},
		"a write":                     {Call{Service: "dynamodb", Action: "PutItem", Resources: []string{recordsTable}, Key: []string{"birth/0000000001", "order/o"}}, true},
		"a write of another":          {Call{Service: "dynamodb", Action: "PutItem", Resources: []string{recordsTable}, Key: []string{"birth/0000000002", "order/o"}}, false},
		"a transaction":               {Call{Service: "dynamodb", Action: "TransactWriteItems", Resources: []string{"arn:other", recordsTable}}, true},
		"a batch":                     {Call{Service: "dynamodb", Action: "BatchWriteItem", Resources: []string{recordsTable}, Key: []string{"birth/0000000002"}}, true},
		"a statement":                 {Call{Service: "dynamodb", Action: "ExecuteStatement", Resources: []string{recordsTable}}, true},
		"a restore":                   {Call{Service: "dynamodb", Action: "RestoreTableToPointInTime", Resources: []string{recordsTable}}, true},
		"a batch elsewhere":           {Call{Service: "dynamodb", Action: "BatchWriteItem", Resources: []string{recordsTable + "2"}}, false},
		"a transaction that reads":    {Call{Service: "dynamodb", Action: "TransactGetItems", Resources: []string{recordsTable}}, false},
		"objects deleted":             {Call{Service: "s3", Action: "DeleteObjects", Resources: []string{"arn:aws:s3:::" + archiveBucket}}, true},
		"objects deleted beside it":   {Call{Service: "s3", Action: "DeleteObjects", Resources: []string{"arn:aws:s3:::" + archiveBucket + "2"}}, false},
		"a read":                      {Call{Service: "dynamodb", Action: "GetItem", Resources: []string{recordsTable}, Key: sought.Item}, false},
		"a copy deleted":              {Call{Service: "s3", Action: "DeleteObject", Resources: []string{"arn:aws:s3:::" + archiveBucket}, Key: []string{"o/00000001.json"}}, true},
		"an object of another bucket": {Call{Service: "s3", Action: "PutObject", Resources: []string{"arn:aws:s3:::other"}, Key: []string{"o/00000001.json"}}, false},
		"a copy read":                 {Call{Service: "s3", Action: "GetObject", Resources: []string{"arn:aws:s3:::" + archiveBucket}, Key: []string{"o/00000001.json"}}, false},
		"the run":                     {Call{Service: "lambda", Action: "Invoke", Resources: []string{sought.Function + ":live"}, Time: noon.Add(-time.Minute)}, true},
		"a later run":                 {Call{Service: "lambda", Action: "Invoke", Resources: []string{sought.Function + ":live"}, Time: noon.Add(time.Minute)}, false},
		"a run of another":            {Call{Service: "lambda", Action: "Invoke", Resources: []string{sought.Function + "2"}, Time: noon.Add(-time.Minute)}, false},
		"something else":              {Call{Service: "ec2", Action: "RunInstances"}, false},
	} {
		if got := sought.wants(&c.call); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

// TestSearch: each key once, no further back than there is a history, and the
// signatures around the birth only.
func TestSearch(t *testing.T) {
	l := &lookups{t: t, size: 50, events: []string{decrypted("a", noon, m{"order": "o"})}}
	h, _ := historyOf(l)
	calls, since, err := h.Search(t.Context(), sought, noon.AddDate(-1, 0, 0), noon.Add(time.Hour))
	if err != nil || len(calls) != 3 { // the fake gives the same event for every key
		t.Fatal(calls, err)
	}
	if oldest := noon.Add(time.Hour).AddDate(0, 0, -90); since.Before(oldest) || since.After(oldest.Add(time.Hour)) {
		t.Errorf("since %v", since)
	}
	if len(l.asked) != 3 || !l.asked[2].StartTime.Equal(noon.Add(-TrailLag)) || !l.asked[2].EndTime.Equal(noon.Add(TrailLag)) || *l.asked[2].LookupAttributes[0].AttributeValue != certKey {
		t.Errorf("asked %+v", l.asked)
	}
	l.asked = nil
	if _, _, err := h.Search(t.Context(), sought, noon.Add(time.Hour), noon.Add(2*time.Hour)); err != nil || len(l.asked) != 2 {
		t.Errorf("signatures of before the time are looked for: %d, %v", len(l.asked), err)
	}
}

// files is a trail's bucket.
type files struct {
	objects map[string][]byte
	listed  []string
	fail    error
}

func (f *files) ListObjectsV2(_ context.Context, in *s3.ListObjectsV2Input, _ ...func(*s3.Options)) (*s3.ListObjectsV2Output, error) {
	f.listed = append(f.listed, *in.Prefix)
	var keys []string
	for _, k := range sortedKeys(f.objects) {
		if strings.HasPrefix(k, *in.Prefix) {
			keys = append(keys, k)
		}
	}
	one, next := pageOf(keys, in.ContinuationToken)
	out := &s3.ListObjectsV2Output{NextContinuationToken: next}
	for _, k := range one {
		out.Contents = append(out.Contents, s3types.Object{Key: &k})
	}
	return out, nil
}

func (f *files) GetObject(_ context.Context, in *s3.GetObjectInput, _ ...func(*s3.Options)) (*s3.GetObjectOutput, error) {
	if f.fail != nil {
		return nil, f.fail
	}
	return &s3.GetObjectOutput{Body: io.NopCloser(bytes.NewReader(f.objects[*in.Key]))}, nil
}

func packed(text string) []byte {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	if _, err := z.Write([]byte(text)); err != nil {
		panic(err)
	}
	if err := z.Close(); err != nil {
		panic(err)
	}
	return b.Bytes()
}

func records(events ...string) []byte {
	return packed(`{"Records":[` + strings.Join(events, ",") + `]}`)
}

func TestLogs(t *testing.T) {
	day := func(d string) string { return "AWSLogs/111122223333/CloudTrail/us-east-1/2026/11/" + d + "/" }
	f := &files{objects: map[string][]byte{
		day("21") + "a.json.gz":                  records(decrypted("early", noon.AddDate(0, 0, -1).Add(-time.Hour), m{"order": "o"}), decrypted("first", noon.AddDate(0, 0, -1), m{"order": "o"})),
		day("22") + "a.json.gz":                  records(decrypted("second", noon.Add(-time.Minute), m{"order": "o"}), decrypted("other", noon, m{"order": "p"})),
		day("22") + "b.json.gz":                  records(decrypted("second", noon.Add(-time.Minute), m{"order": "o"})),
		day("23") + "a.json.gz":                  records(decrypted("late written", noon, m{"order": "o"}), decrypted("after", noon.Add(time.Hour), m{"order": "o"})),
		day("22") + "digest.txt":                 []byte("not a log"),
		"AWSLogs/111122223333/CloudTrail-Digest": nil,
	}}
	l := &Logs{f, "b", testAccount, nil}
	calls, err := l.Search(t.Context(), sought, "us-east-1", noon.AddDate(0, 0, -1), noon)
	var ids []string
	for _, c := range calls {
		ids = append(ids, c.EventID)
	}
	if err != nil || !slices.Equal(ids, []string{"first", "second", "late written"}) {
		t.Errorf("%v, %v", ids, err)
	}
	if !slices.Equal(asSet(f.listed), []string{day("21"), day("22"), day("23")}) {
		t.Errorf("listed %v", f.listed)
	}
	good := records(decrypted("a", noon, m{"order": "o"}), decrypted("b", noon, m{"order": "o"}))
	for name, data := range map[string][]byte{
		"cut short": good[:len(good)-9], "not packed": []byte(`{"Records":[]}`), "another file": packed(`{"Other":[]}`), "no list": packed(`{"Records":{}}`),
		"no end": packed(`{"Records":[`), "something in it": packed(`{"Records":[3]}`), "empty": nil, "more keys": packed(`{"Records":[],"x":1}`),
	} {
		f.objects = map[string][]byte{day("22") + "a.json.gz": data}
		if calls, err := l.Search(t.Context(), sought, "us-east-1", noon.Add(-time.Hour), noon); !errors.Is(err, session.ErrRemote) || calls != nil {
			t.Errorf("%s: %v, %v", name, calls, err)
		}
	}
	f.fail = apiFailure("AccessDenied")
	if _, err := l.Search(t.Context(), sought, "us-east-1", noon.Add(-time.Hour), noon); !errors.Is(err, session.ErrDenied) {
		t.Error(err)
	}
}

func TestOpeners(t *testing.T) {
	f, _ := healthy(t)
	f.grants[signingKey] = []kmstypes.GrantListEntry{
		{GrantId: aws.String("g1"), GranteePrincipal: aws.String("arn:a"), Operations: []kmstypes.GrantOperation{kmstypes.GrantOperationEncrypt}},
		{GrantId: aws.String("g2"), GranteePrincipal: aws.String("arn:b"), Operations: []kmstypes.GrantOperation{kmstypes.GrantOperationDecrypt}}}
	got, err := Openers(t.Context(), f, signingKey, map[string]string{"purpose": "signing"})
	want := []Opener{{roleARN("signer"), "Opens", "kms:EncryptionContext:purpose StringEquals signing"}, {"arn:b", "grant g2", ""}}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("%+v, %v", got, err)
	}
	if got, err := Openers(t.Context(), f, signingKey, map[string]string{"purpose": "recovery"}); err != nil || len(got) != 1 {
		t.Errorf("the signers may not open what is sealed for recovery: %+v, %v", got, err)
	}
	f.policy[signingKey] = "{"
	if _, err := Openers(t.Context(), f, signingKey, nil); !errors.Is(err, ErrPolicy) {
		t.Error(err)
	}
	f.fail["kms:GetKeyPolicy"] = apiFailure("AccessDeniedException")
	if _, err := Openers(t.Context(), f, signingKey, nil); !errors.Is(err, session.ErrDenied) {
		t.Error(err)
	}
}
