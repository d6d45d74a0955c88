package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/smithy-go"

	"github.com/stakeseal/stakeseal/certificate"
	"github.com/stakeseal/stakeseal/eth"
	"github.com/stakeseal/stakeseal/internal/aws/ops"
	"github.com/stakeseal/stakeseal/internal/aws/session"
	"github.com/stakeseal/stakeseal/internal/config"
	"github.com/stakeseal/stakeseal/record"
)

const (
	auditSigning = "arn:aws:kms:us-east-1:111122223333:key/11111111-1111-1111-1111-111111111111"
	auditOther   = "arn:aws:kms:eu-west-1:111122223333:key/22222222-2222-2222-2222-222222222222"
	auditSigner  = "arn:aws:iam::111122223333:role/stakeseal-hoodi-signer"
)

var auditNoon = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

// audited is a key that was born at noon, and whose trail was read an hour on.
func audited() *auditReport {
	r := &auditReport{Schema: "stakeseal/audit/v1", Pubkey: eth.Pubkey{0xaa}, Order: "first", Index: 3, Network: "hoodi", Mnemonic: "m-0123456789abcdef",
		Placed: auditNoon.Add(-time.Minute), born: auditNoon, Birth: auditBirth{Time: auditNoon, Verdict: "verified", Key: "live", Function: "7", Request: "r-sign"},
		Could: []auditRecipient{}, Changes: []auditChange{}, Did: []auditDeed{}, Covered: []auditPeriod{{"the trail of us-east-1", auditNoon.Add(-time.Hour), auditNoon.Add(24 * time.Hour)}},
		CannotSee: []string{}, Findings: []string{}, Remarks: []string{}}
	r.sealed(record.Sealing{Purpose: "signing", Recipients: []record.Recipient{{Name: "signer-a", Key: "awskms:" + auditSigning}}})
	r.sealed(record.Sealing{Purpose: "recovery", Recipients: []record.Recipient{{Name: "anna", Key: "age1tag1xyz"}}})
	r.Could[0].Openers = []ops.Opener{{Principal: auditSigner, By: "Opens"}}
	return r
}

func call(action, request string, at time.Duration, more func(c *ops.Call)) ops.Call {
	c := ops.Call{EventID: request, Time: auditNoon.Add(at), Service: "kms", Action: action, RequestID: request, Who: auditSigner, Session: "i-1", Source: "203.0.113.7",
		Resources: []string{auditSigning}, Context: map[string]string{"order": "first", "purpose": "signing", "pubkey": eth.Pubkey{0xaa}.Hex()}}
	if more != nil {
		more(&c)
	}
	return c
}

func event(kind string, at time.Duration, requests string) record.Event {
	e := record.Event{Time: auditNoon.Add(at), Kind: kind, Order: "first", Actor: "bob@host", Detail: map[string]string{"for": "teku"}}
	if requests != "" {
		e.Detail[requestsKey] = requests
	}
	return e
}

var signed = call("Sign", "r-sign", 0, func(c *ops.Call) {
	c.Context, c.Who = nil, "arn:aws:iam::111122223333:role/stakeseal-hoodi-generator"
})

// TestAuditJoins: openings in the trail against events, either way.
func TestAuditJoins(t *testing.T) {
	for name, c := range map[string]struct {
		calls    []ops.Call
		events   []record.Event
		change   func(r *auditReport)
		deeds    []string // beginnings of "source what: says"
		findings []string
		remarks  []string
	}{
		"nothing": {calls: []ops.Call{signed}},
		"noted": {
			calls:  []ops.Call{signed, call("Decrypt", "r-1", time.Hour, nil)},
			events: []record.Event{event("exported-keystore", time.Hour, "r-1")},
			deeds:  []string{"both exported-keystore: ", "both KMS Decrypt of the signing key: noted as exported-keystore"}},
		"nobody noted it": {
			calls:    []ops.Call{signed, call("Decrypt", "r-1", time.Hour, nil)},
			events:   []record.Event{event("exported-keystore", time.Hour, "r-2")},
			deeds:    []string{"events exported-keystore: 1 of its requests are not in the trail", "trail KMS Decrypt of the signing key: NOBODY NOTED IT"},
			findings: []string{auditSigner + " (i-1) from 203.0.113.7 opened the signing key at 2026-11-22T13:00:00Z (request r-1), and no event says why"},
			remarks:  []string{"exported-keystore of 2026-11-22T13:00:00Z by bob@host names requests that the trail does not have: r-2"}},
		"a re-encryption": {
			calls:    []ops.Call{signed, call("ReEncrypt", "r-1", time.Hour, nil)},
			deeds:    []string{"trail KMS ReEncrypt of the signing key: NOBODY NOTED IT"},
			findings: []string{auditSigner + " (i-1) from 203.0.113.7 opened the signing key"}},
		"in an enclave": {
			calls:  []ops.Call{signed, call("Decrypt", "r-1", time.Hour, func(c *ops.Call) { c.Attested = "abcd" })},
			events: []record.Event{event("opened", time.Hour, "r-1")},
			deeds:  []string{"both opened: ", "both KMS Decrypt of the signing key: noted as opened in an enclave of image abcd"}},
		"of the mnemonic, in the second part of the requests": {
			calls: []ops.Call{signed, call("Decrypt", "r-1", time.Hour, func(c *ops.Call) {
				c.Context = map[string]string{"order": "first", "mnemonic": "m-0123456789abcdef"}
			})},
			events: []record.Event{{Time: auditNoon.Add(time.Hour), Kind: "drilled", Order: "first", Actor: "eve", Detail: map[string]string{requestsKey: "r-0", requestsKey + ".2": "r-1"}}},
			change: func(r *auditReport) { r.Covered[0].To = auditNoon.Add(time.Hour) }, // the rest may come yet
			deeds:  []string{"both drilled: not within what was read", "both KMS Decrypt of the mnemonic: noted as drilled"}},
		"of another key of the order": {
			calls:  []ops.Call{signed, call("Decrypt", "r-1", time.Hour, func(c *ops.Call) { c.Context["pubkey"] = "bb" })},
			events: []record.Event{event("drilled", time.Hour, "r-1")},
			deeds:  []string{"events drilled: "}},
		"refused": {
			calls:   []ops.Call{signed, call("Decrypt", "r-1", time.Hour, func(c *ops.Call) { c.Error, c.Who = "AccessDenied", "arn:aws:iam::111122223333:role/x" })},
			deeds:   []string{"trail KMS Decrypt of the signing key: refused: AccessDenied"},
			remarks: []string{"arn:aws:iam::111122223333:role/x (i-1) from 203.0.113.7 tried to open the signing key"}},
		"refused before it was read": {
			calls:   []ops.Call{signed, call("Decrypt", "r-1", time.Hour, func(c *ops.Call) { c.Error, c.Context = "AccessDenied", nil })},
			deeds:   []string{"trail KMS Decrypt of a secret: refused: AccessDenied"},
			remarks: []string{auditSigner + " (i-1) from 203.0.113.7 tried to open a secret"}},
		"a refused call does not stand for an opening": {
			calls:   []ops.Call{signed, call("Decrypt", "r-1", time.Hour, func(c *ops.Call) { c.Error = "AccessDenied" })},
			events:  []record.Event{event("opened", time.Hour, "r-1")},
			deeds:   []string{"events opened: 1 of its requests are not in the trail", "trail KMS Decrypt of the signing key: refused"},
			remarks: []string{"opened of 2026-11-22T13:00:00Z by bob@host names requests", auditSigner + " (i-1) from 203.0.113.7 tried"}},
		"refused again and again": {
			calls: []ops.Call{signed, call("Decrypt", "r-1", time.Hour, func(c *ops.Call) { c.Error = "AccessDenied" }), call("Decrypt", "r-2", 2*time.Hour, func(c *ops.Call) { c.Error = "AccessDenied" }),
				call("Decrypt", "r-3", 2*time.Hour, func(c *ops.Call) { c.Error, c.Who = "AccessDenied", "arn:x" })},
			deeds:   []string{"trail KMS Decrypt of the signing key: refused", "trail KMS Decrypt of the signing key: refused", "trail KMS Decrypt of the signing key: refused"},
			remarks: []string{auditSigner + " (i-1) from 203.0.113.7 tried to open the signing key 2 times from 2026-11-22T13:00:00Z on", "arn:x (i-1) from 203.0.113.7 tried to open the signing key at"}},
		"a dry run": {
			calls: []ops.Call{signed, call("Decrypt", "r-1", time.Hour, func(c *ops.Call) { c.Error, c.DryRun = "DryRunOperationException", true })},
			deeds: []string{"trail KMS Decrypt of the signing key: a dry run"}},
		"sealed": {
			calls: []ops.Call{call("Encrypt", "r-e", -time.Second, nil), signed, call("Encrypt", "r-f", -time.Second, func(c *ops.Call) { c.Context["pubkey"] = "bb" })},
			deeds: []string{"trail KMS Encrypt of the signing key: "}},
		"written at birth": {
			calls: []ops.Call{signed, call("PutItem", "r-p", time.Second, func(c *ops.Call) { c.Service, c.Context = "dynamodb", nil })},
			deeds: []string{"trail DynamoDB PutItem: "}},
		"written later": {
			calls:    []ops.Call{signed, call("PutItem", "r-p", time.Hour, func(c *ops.Call) { c.Service, c.Context = "dynamodb", nil })},
			deeds:    []string{"trail DynamoDB PutItem: LONG AFTER THE BIRTH"},
			findings: []string{auditSigner + " (i-1) from 203.0.113.7 wrote or removed the record or its copy at 2026-11-22T13:00:00Z (DynamoDB PutItem)"}},
		"refused to write later": {
			calls: []ops.Call{signed, call("DeleteObject", "r-p", time.Hour, func(c *ops.Call) { c.Service, c.Context, c.Error = "s3", nil, "AccessDenied" })},
			deeds: []string{"trail S3 DeleteObject: refused: AccessDenied"}},
		"no signature in the trail":         {findings: []string{"the trail has no kms:Sign under the request r-sign"}},
		"the signature is older than it":    {change: func(r *auditReport) { r.Covered[0].From = auditNoon.Add(time.Minute) }},
		"the trail was not read":            {change: func(r *auditReport) { r.Covered = nil }, events: []record.Event{event("opened", time.Hour, "r-1")}, deeds: []string{"events opened: not within what was read"}},
		"one of two trails was not read":    {change: func(r *auditReport) { r.lacks = []string{"cloudtrail:LookupEvents"} }, events: []record.Event{event("opened", time.Hour, "r-1")}, deeds: []string{"events opened: not within what was read"}},
		"no signature by a service at all":  {change: func(r *auditReport) { r.Birth.Request = "" }},
		"an event without any request":      {calls: []ops.Call{signed}, events: []record.Event{event("exported", time.Hour, "")}, deeds: []string{"events exported: "}},
		"a grant":                           {calls: []ops.Call{signed, call("CreateGrant", "r-g", time.Hour, func(c *ops.Call) { c.Grantee, c.Grants, c.GrantID = "arn:x", []string{"Decrypt"}, "g" })}, findings: []string{"a grant of 2026-11-22T13:00:00Z let arn:x open"}},
		"a grant that opens nothing":        {calls: []ops.Call{signed, call("CreateGrant", "r-g", time.Hour, func(c *ops.Call) { c.Grantee, c.Grants = "arn:x", []string{"Encrypt"} })}},
		"a grant that was refused":          {calls: []ops.Call{signed, call("CreateGrant", "r-g", time.Hour, func(c *ops.Call) { c.Grants, c.Error = []string{"Decrypt"}, "AccessDenied" })}},
		"a policy that is as it is now":     {calls: []ops.Call{signed, call("PutKeyPolicy", "r-k", time.Hour, func(c *ops.Call) { c.Policy = auditPolicy(auditSigner) })}},
		"a policy that could not be read":   {calls: []ops.Call{signed, call("PutKeyPolicy", "r-k", time.Hour, func(c *ops.Call) { c.Policy = "{" })}},
		"a policy that let another open":    {calls: []ops.Call{signed, call("PutKeyPolicy", "r-k", time.Hour, func(c *ops.Call) { c.Policy = auditPolicy("arn:aws:iam::999988887777:role/evil") })}, findings: []string{"the policy that " + auditSigner + " (i-1) from 203.0.113.7 put at 2026-11-22T13:00:00Z let arn:aws:iam::999988887777:role/evil open, who now may not"}},
		"a policy, and the key is not seen": {calls: []ops.Call{signed, call("PutKeyPolicy", "r-k", time.Hour, func(c *ops.Call) { c.Policy = auditPolicy("arn:evil") })}, change: func(r *auditReport) { r.Could[0].Openers = nil }},
	} {
		t.Run(name, func(t *testing.T) {
			r := audited()
			if c.change != nil {
				c.change(r)
			}
			for _, e := range c.events {
				r.Did = append(r.Did, auditDeed{Time: e.Time, What: e.Kind, Who: e.Actor, Detail: e.Detail, Source: "events"})
			}
			r.join(c.calls, c.events)
			var deeds []string
			for _, d := range r.Did {
				deeds = append(deeds, d.Source+" "+d.What+": "+d.Says)
			}
			for what, lists := range map[string][2][]string{"deeds": {deeds, c.deeds}, "findings": {r.Findings, c.findings}, "remarks": {r.Remarks, c.remarks}} {
				if got, want := lists[0], lists[1]; !slices.EqualFunc(got, want, strings.HasPrefix) {
					t.Errorf("%s:\n  %s\nwant\n  %s", what, strings.Join(got, "\n  "), strings.Join(want, "\n  "))
				}
			}
		})
	}
}

func auditPolicy(opener string) string {
	return fmt.Sprintf(`{"Version":"2012-10-17","Statement":[{"Sid":"Opens","Effect":"Allow","Principal":{"AWS":%q},"Action":"kms:Decrypt","Resource":"*"}]}`, opener)
}

// cloudHome is a home on AWS whose settings name the fixture's keys.
func cloudHome() *home {
	return &home{
		operator: &config.Home{Generator: "lambda:arn:aws:lambda:us-east-1:111122223333:function:stakeseal-hoodi-generator:live"},
		generator: &config.Generator{
			Store: config.Ref{Scheme: "dynamodb", Rest: "arn:aws:dynamodb:us-east-1:111122223333:table/stakeseal-hoodi-records"}, Archive: config.Ref{Scheme: "s3", Rest: "arn:aws:s3:::stakeseal-hoodi-archive-111122223333"},
			Certifier: config.Ref{Scheme: "awskms", Rest: auditOther},
			Signing:   []config.RecipientFile{{Name: "signer-a", Data: []byte("awskms:" + auditSigning)}}, Recovery: []config.RecipientFile{{Name: "vault", Data: []byte("awskms:" + auditOther)}},
		},
	}
}

// TestAuditReadsEveryRegion: each key in its own region; what cannot be read is
// said, and decides the exit code.
func TestAuditReadsEveryRegion(t *testing.T) {
	h, r := cloudHome(), audited()
	r.Covered = nil
	r.sealed(record.Sealing{Purpose: "recovery", Recipients: []record.Recipient{{Name: "vault", Key: "awskms:" + auditOther}}})
	var asked []string
	denied := session.Classify("cloudtrail:LookupEvents", &smithy.GenericAPIError{Code: "AccessDeniedException"})
	err := h.readTrail(t.Context(), r, nil, func(_ context.Context, region string, s *ops.Sought, from, now time.Time) ([]ops.Call, time.Time, error) {
		asked = append(asked, fmt.Sprintf("%s%v%v%v%s", region, s.Keys, s.Item, s.Objects, s.Function))
		if region == "eu-west-1" {
			return nil, from, denied
		}
		return nil, from.Add(time.Hour), nil
	}, "CloudTrail's history", auditNoon, auditNoon.Add(24*time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"eu-west-1[" + auditOther + "][][]",
		"us-east-1[" + auditSigning + "][order/first birth/0000000003][first/00000003.json first/m-0123456789abcdef.json first/order.json]arn:aws:lambda:us-east-1:111122223333:function:stakeseal-hoodi-generator",
	}
	if !slices.Equal(asked, want) {
		t.Errorf("asked %q\nwant %q", asked, want)
	}
	if len(r.Covered) != 1 || !slices.Equal(r.lacks, []string{"cloudtrail:LookupEvents"}) || len(r.CannotSee) != 2 || !strings.HasPrefix(r.CannotSee[0], "the trail of eu-west-1: cloudtrail:LookupEvents: denied") || !strings.HasPrefix(r.CannotSee[1], "what happened in us-east-1 before 2026-11-22T13:00:00Z") {
		t.Errorf("%+v, lacks %v, cannot see %q", r.Covered, r.lacks, r.CannotSee)
	}
	other := errors.New("a bug")
	if err := h.readTrail(t.Context(), r, nil, func(context.Context, string, *ops.Sought, time.Time, time.Time) ([]ops.Call, time.Time, error) {
		return nil, auditNoon, other
	}, "", auditNoon, auditNoon); !errors.Is(err, other) {
		t.Errorf("%v", err)
	}
}

// TestAuditText: the printed audit is that of the golden file, and its exit
// code follows from what was found.
func TestAuditText(t *testing.T) {
	r := audited()
	r.Placed, r.Birth.Binary, r.Birth.Settings = auditNoon.Add(-time.Minute), certificate.Hash{1}, certificate.Hash{2}
	r.Assigned = &record.Assignment{Pubkey: r.Pubkey, Signer: "external:teku", Epoch: 2, Time: auditNoon.Add(time.Hour)}
	events := []record.Event{event("drilled", time.Minute, ""), event("exported-keystore", time.Hour, "r-1")}
	for _, e := range events {
		r.Did = append(r.Did, auditDeed{Time: e.Time, What: e.Kind, Who: e.Actor, Detail: e.Detail, Source: "events"})
	}
	r.join([]ops.Call{call("Encrypt", "r-e", -time.Second, func(c *ops.Call) { c.Who = signed.Who }), signed, call("Decrypt", "r-1", time.Hour, nil), call("Decrypt", "r-9", 2*time.Hour, nil),
		call("Decrypt", "r-8", 3*time.Hour, func(c *ops.Call) { c.Error, c.Who = "AccessDenied", "arn:aws:iam::111122223333:role/admin" }),
		call("PutKeyPolicy", "r-k", time.Minute, func(c *ops.Call) { c.Policy = auditPolicy(auditSigner) })}, events)
	r.CannotSee = blindSpots(true, false)
	a, out, words := newApp(auditNoon)
	err := a.tellAudit(&home{}, r)
	var f *failure
	if !errors.As(err, &f) || f.code != exitRefused {
		t.Errorf("%v", err)
	}
	golden := filepath.Join("testdata", "audit.golden")
	if os.Getenv("UPDATE_GOLDEN") != "" {
		if err := os.WriteFile(golden, out.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if out.String() != string(want) || words.Len() > 0 {
		t.Errorf("printed\n%s\nand said %q", out, words)
	}
	for name, c := range map[string]struct {
		change func(r *auditReport)
		code   int
	}{
		"well":          {func(*auditReport) {}, 0},
		"denied":        {func(r *auditReport) { r.lacks = []string{"x"} }, exitDenied},
		"failed":        {func(r *auditReport) { r.failed, r.lacks = session.ErrRemote, []string{"x"} }, exitRemote},
		"found":         {func(r *auditReport) { r.failed, r.Findings = session.ErrRemote, []string{"x"} }, exitRefused},
		"certificate":   {func(r *auditReport) { r.certificate, r.Findings = certificate.ErrMismatch, []string{"x"} }, exitRefused},
		"two things":    {func(r *auditReport) { r.certificate, r.Findings = certificate.ErrMismatch, []string{"x", "y"} }, exitRefused},
		"just a remark": {func(r *auditReport) { r.Remarks = []string{"x"} }, 0},
	} {
		r := audited()
		c.change(r)
		a, _, _ := newApp(auditNoon)
		code := 0
		if err := a.tellAudit(&home{}, r); err != nil {
			code = a.fail(t.Context(), err, "stakeseal audit")
		}
		if code != c.code {
			t.Errorf("%s: exit code %d, want %d", name, code, c.code)
		}
	}
}

func TestSince(t *testing.T) {
	born := auditNoon.AddDate(0, 0, -10)
	for text, want := range map[string]time.Time{
		"": born.Add(-ops.TrailLag), "30d": auditNoon.AddDate(0, 0, -30), "2026-11-01": time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC), "2026-11-22T11:00:00+01:00": auditNoon.Add(-2 * time.Hour),
	} {
		if got, err := sinceTime(text, born, auditNoon); err != nil || !got.Equal(want) {
			t.Errorf("%q: %v, %v", text, got, err)
		}
	}
	for _, text := range []string{"0d", "-1d", "yesterday", "2026-13-01", "2027-01-01", "999999d", "1h"} {
		var f *failure
		if got, err := sinceTime(text, born, auditNoon); !errors.As(err, &f) || f.code != exitUsage {
			t.Errorf("%q: %v, %v", text, got, err)
		}
	}
}

// TestDoctorTells: the exit code of a report, worst first.
func TestDoctorTells(t *testing.T) {
	for name, c := range map[string]struct {
		r    report
		code int
		says string
	}{
		"well":         {report{findings: []finding{{State: "ok"}, {State: "warning"}}}, 0, "2 checks, 1 warnings, nothing wrong"},
		"changed":      {report{findings: []finding{{State: "changed", Check: "key", Gains: "can open", Hint: "undo it"}, {State: "unseen"}}, failed: session.ErrRemote, lacks: []string{"x"}}, exitRefused, "key: gained by it: can open"},
		"failed":       {report{findings: []finding{{State: "unseen"}}, failed: session.ErrRemote, lacks: []string{"x"}}, exitRemote, "1 of 1 checks could not be made"},
		"denied":       {report{findings: []finding{{State: "unseen"}, {State: "ok"}}, lacks: []string{"a", "b", "c", "d", "e", "f"}}, exitDenied, "for want of a, b, c, d, e and 1 more"},
		"not compared": {report{findings: []finding{{State: "unseen"}}}, exitRemote, "the others found nothing wrong"},
	} {
		a, out, words := newApp(auditNoon)
		code := 0
		if err := a.tell(&c.r); err != nil {
			code = a.fail(t.Context(), err, "stakeseal doctor")
		}
		if code != c.code || !strings.Contains(words.String(), c.says) {
			t.Errorf("%s: exit code %d, %q", name, code, words)
		}
		if name == "changed" && (!strings.Contains(out.String(), "CHANGED") || !strings.Contains(out.String(), "cannot see")) {
			t.Errorf("%s", out)
		}
	}
}
