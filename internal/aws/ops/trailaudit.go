package ops

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"github.com/stakeseal/stakeseal/internal/aws/session"
)

// Opener is somebody whom a key's policy, as it stands or once stood, or a
// grant lets open.
type Opener struct {
	Principal string `json:"principal"`       // ARN
	By        string `json:"by"`              // the policy's statement, or the grant
	Under     string `json:"under,omitempty"` // conditions
}

// Openers reads who may open something sealed to a key under an encryption
// context: the live policy and the live grants. It says who may, not that
// somebody did, and sees neither what an organisation forbids nor who can take
// the role.
func Openers(ctx context.Context, client KMSReader, key string, under map[string]string) ([]Opener, error) {
	out, err := client.GetKeyPolicy(ctx, &kms.GetKeyPolicyInput{KeyId: &key, PolicyName: aws.String("default")})
	if err != nil {
		return nil, session.Classify("kms:GetKeyPolicy", err)
	}
	list, err := PolicyOpeners(aws.ToString(out.Policy), key, under)
	if err != nil {
		return nil, err
	}
	err = pages(func(next *string) (*string, error) {
		got, err := client.ListGrants(ctx, &kms.ListGrantsInput{KeyId: &key, Marker: next})
		if err != nil {
			return nil, session.Classify("kms:ListGrants", err)
		}
		for _, g := range got.Grants {
			if !slices.ContainsFunc(g.Operations, opensByGrant) {
				continue
			}
			to := aws.ToString(g.GranteePrincipal) + aws.ToString(g.GranteeServicePrincipal)
			list = append(list, Opener{Principal: to, By: "grant " + aws.ToString(g.GrantId)})
		}
		if !got.Truncated {
			return nil, nil
		}
		return got.NextMarker, nil
	})
	return list, err
}

func opensByGrant(o types.GrantOperation) bool {
	return o == types.GrantOperationDecrypt || o == types.GrantOperationReEncryptFrom
}

// PolicyOpeners reads whom a key's policy lets open.
func PolicyOpeners(policy, key string, under map[string]string) ([]Opener, error) {
	document, err := parsePolicy(policy)
	if err != nil {
		return nil, fmt.Errorf("the policy of %s: %w", key, err)
	}
	var list []Opener
	for _, action := range []string{"kms:Decrypt", "kms:ReEncryptFrom"} {
		for _, g := range document.grantees(action, key, under) {
			o := Opener{g.principal, g.statement, g.under}
			if !slices.Contains(list, o) {
				list = append(list, o)
			}
		}
	}
	return list, nil
}

// Sought is what an audit of one validator looks for in a trail.
type Sought struct {
	Keys        []string // ARNs of KMS keys that its secrets are sealed to, in one region
	Order       string   // of the encryption context
	Certifier   string   // ARN of the certifying key, "" for none
	SignRequest string   // of the kms:Sign of its certificate
	Table       string   // ARN of the records
	Item        []string // the record's key in it
	Objects     []string // its copies in the archive: names
	Archive     string   // bucket
	Function    string   // ARN of the generator's function
	Born        time.Time
}

// changing are the calls that change who may use a key, or whether it works.
var changing = []string{"PutKeyPolicy", "CreateGrant", "RetireGrant", "RevokeGrant", "CreateKey", "ScheduleKeyDeletion", "CancelKeyDeletion",
	"DisableKey", "EnableKey", "ReplicateKey", "ImportKeyMaterial", "DeleteImportedKeyMaterial", "UpdatePrimaryRegion"}

// Opens says whether a call opens what is sealed to a key: a re-encryption
// does too, and hands on what it opened.
func (c *Call) Opens() bool {
	return c.Service == "kms" && (c.Action == "Decrypt" || c.Action == "ReEncrypt")
}

// Changes says whether a call changes who may use a key, or whether it works.
func (c *Call) Changes() bool { return c.Service == "kms" && slices.Contains(changing, c.Action) }

// Seals says whether a call seals to a key.
func (c *Call) Seals() bool { return c.Service == "kms" && c.Action == "Encrypt" }

// Writes says whether a call writes an item or object, or takes one away.
func (c *Call) Writes() bool {
	switch c.Service {
	case "dynamodb":
		return c.Action != "GetItem" && c.Action != "Query" && c.Action != "Scan" && c.Action != "BatchGetItem" && c.Action != "TransactGetItems" &&
			!strings.HasPrefix(c.Action, "Describe") && !strings.HasPrefix(c.Action, "List") && c.Action != "GetRecords" && c.Action != "GetShardIterator" && c.Action != "GetResourcePolicy"
	case "s3":
		return strings.HasPrefix(c.Action, "Put") || strings.HasPrefix(c.Action, "Delete") || strings.HasPrefix(c.Action, "Restore") || strings.HasPrefix(c.Action, "Update") || strings.HasPrefix(c.Action, "Copy") || strings.HasPrefix(c.Action, "Complete")
	}
	return false
}

// wants says whether a call belongs into the audit.
func (s *Sought) wants(c *Call) bool {
	switch c.Service {
	case "kms":
		if s.Certifier != "" && c.Names(s.Certifier) {
			return c.Action == "Sign" && c.RequestID == s.SignRequest || c.Changes()
		}
		if !slices.ContainsFunc(s.Keys, c.Names) {
			return false
		}
		return c.Changes() || (c.Opens() || c.Seals()) && s.concerns(c)
	case "dynamodb":
		if !c.Writes() || !slices.ContainsFunc(c.Resources, s.ofTable) {
			return false
		}
		// Transactions, batches, statements and restores name no key, or not
		// all: what could have been this record belongs into the report.
		return slices.Equal(asSet(c.Key), asSet(s.Item)) || c.Keyless()
	case "s3":
		return c.Writes() && (c.Keyless() || slices.Contains(s.Objects, c.Key[0])) && slices.ContainsFunc(c.Resources, func(arn string) bool {
			_, name, _ := strings.Cut(arn, ":::")
			bucket, _, _ := strings.Cut(name, "/")
			return bucket == s.Archive
		})
	case "lambda":
		// Lambda's names in the trail may carry a date: Invoke, Invoke20150331.
		return strings.HasPrefix(c.Action, "Invoke") && slices.ContainsFunc(c.Resources, func(arn string) bool { return arn == s.Function || strings.HasPrefix(arn, s.Function+":") }) &&
			c.Time.After(s.Born.Add(-TrailLag)) && !c.Time.After(s.Born)
	}
	return false
}

// ofTable says whether an ARN is the table of the records, or a backup, index or
// stream of it.
func (s *Sought) ofTable(arn string) bool {
	return arn == s.Table || strings.HasPrefix(arn, s.Table+"/")
}

// Keyless says whether the key of what a call wrote cannot be read from its
// event: it names none, or it is a call that writes many at once.
func (c *Call) Keyless() bool {
	switch c.Action {
	case "TransactWriteItems", "BatchWriteItem", "ExecuteStatement", "BatchExecuteStatement", "ExecuteTransaction", "DeleteObjects":
		return true
	}
	if len(c.Key) > 0 {
		return false
	}
	// What is done to a table or bucket as a whole says so in its name; of that,
	// only what puts other content in place, or takes all of it away.
	return strings.HasPrefix(c.Action, "Restore") || c.Action == "DeleteTable" || c.Action == "ImportTable" ||
		strings.HasSuffix(c.Action, "Item") || c.Service == "s3" && !strings.Contains(c.Action, "Bucket") && strings.Contains(c.Action, "Object")
}

// concerns says whether a call's encryption context is of the order. A denied
// call without a context may be about anything.
func (s *Sought) concerns(c *Call) bool {
	if c.Context == nil {
		return c.Error != ""
	}
	return c.Context["order"] == s.Order
}

// Search asks CloudTrail's own history for what is sought, from a time on or
// as far as it goes back, which is the time returned.
func (h *History) Search(ctx context.Context, s *Sought, from, now time.Time) (calls []Call, since time.Time, err error) {
	if oldest := now.Add(-HistoryDays*24*time.Hour + time.Minute); from.Before(oldest) {
		from = oldest
	}
	keys := slices.Clone(s.Keys)
	if s.Certifier != "" {
		keys = append(keys, s.Certifier)
	}
	for _, key := range keys {
		f, to := from, now
		if key == s.Certifier && s.SignRequest != "" {
			// It signs once for each birth: only those around this one are read.
			f, to = s.Born.Add(-TrailLag), s.Born.Add(TrailLag)
			if to.Before(from) {
				continue
			}
			if f.Before(from) {
				f = from
			}
			if to.After(now) {
				to = now
			}
		}
		got, err := h.Of(ctx, key, f, to, s.wants)
		if err != nil {
			return nil, from, err
		}
		calls = append(calls, got...)
	}
	sortCalls(calls)
	return calls, from, nil
}

// Search reads a trail's files for what is sought, data events among it.
func (l *Logs) Search(ctx context.Context, s *Sought, region string, from, now time.Time) ([]Call, error) {
	return l.Read(ctx, region, from, now, s.wants)
}
