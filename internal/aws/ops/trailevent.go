package ops

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Call is what the trail says of one call: who asked a service for what, and
// what came of it. The words in it are AWS's, but for what a caller chooses:
// session names, encryption context, user agent. They are as they were sent,
// for a terminal show them with Plain.
type Call struct {
	EventID   string
	Time      time.Time // UTC
	Region    string
	Service   string            // kms
	Action    string            // Decrypt
	RequestID string            // what the caller was told, "" for calls of AWS's own
	Who       string            // ARN of the role or user; of a service its name
	Session   string            // the session's name, which whoever took the role chose
	Account   string            // of the caller
	Source    string            // IP address, or a service's name
	Agent     string            // user agent
	Error     string            // AWS's code, "" when it was done
	DryRun    bool              // it asked for a right only
	Resources []string          // ARNs
	Context   map[string]string // encryption context
	Policy    string            // PutKeyPolicy, CreateKey: the policy that was put
	Grantee   string            // CreateGrant: to whom
	Grants    []string          // CreateGrant: for what
	GrantID   string
	Role      string   // AssumeRole: the role's ARN
	Attested  string   // of a Decrypt from an enclave: its image's digest
	Key       []string // of a table's item: its key's values; of an object: its key
}

// Plain makes a word of the trail safe for a terminal.
func Plain(s string) string { return oneLine(s) }

// Done says whether the call had an effect: it was allowed, and no dry run.
func (c *Call) Done() bool { return c.Error == "" && !c.DryRun }

// eventJSON is the part of an event that is looked at. The rest differs from
// service to service; unknown fields are no error, since AWS adds some.
type eventJSON struct {
	EventID     string          `json:"eventID"`
	EventTime   time.Time       `json:"eventTime"`
	EventSource string          `json:"eventSource"`
	EventName   string          `json:"eventName"`
	Region      string          `json:"awsRegion"`
	SourceIP    string          `json:"sourceIPAddress"`
	UserAgent   string          `json:"userAgent"`
	ErrorCode   string          `json:"errorCode"`
	RequestID   string          `json:"requestID"`
	Parameters  json.RawMessage `json:"requestParameters"`
	Answer      json.RawMessage `json:"responseElements"`
	Additional  json.RawMessage `json:"additionalEventData"`
	Identity    struct {
		Type      string `json:"type"`
		ARN       string `json:"arn"`
		Account   string `json:"accountId"`
		InvokedBy string `json:"invokedBy"`
		Session   struct {
			Issuer struct {
				ARN string `json:"arn"`
			} `json:"sessionIssuer"`
		} `json:"sessionContext"`
	} `json:"userIdentity"`
	Resources []struct {
		ARN  string `json:"ARN"`
		ARN2 string `json:"arn"`
	} `json:"resources"`
}

// parseCall reads one event. Everything that an audit decides by must be there.
func parseCall(data []byte) (*Call, error) {
	if len(data) > maxEventBytes {
		return nil, badEvent("%d bytes", len(data))
	}
	var e eventJSON
	if err := json.Unmarshal(data, &e); err != nil {
		return nil, badEvent("%w", err)
	}
	service, _, _ := strings.Cut(e.EventSource, ".")
	if e.EventID == "" || e.EventTime.IsZero() || service == "" || e.EventName == "" {
		return nil, badEvent("it lacks its id, time, source or name")
	}
	c := &Call{
		EventID: e.EventID, Time: e.EventTime.UTC(), Region: e.Region, Service: service, Action: e.EventName, RequestID: e.RequestID,
		Who: e.Identity.ARN, Account: e.Identity.Account, Source: e.SourceIP, Agent: e.UserAgent, Error: e.ErrorCode,
	}
	if role := e.Identity.Session.Issuer.ARN; role != "" {
		c.Who = role
		c.Session = e.Identity.ARN[strings.LastIndex(e.Identity.ARN, "/")+1:]
	}
	if c.Who == "" {
		c.Who = e.Identity.InvokedBy
	}
	if c.Who == "" {
		c.Who = e.Identity.Type
	}
	for _, r := range e.Resources {
		if arn := r.ARN + r.ARN2; arn != "" {
			c.Resources = append(c.Resources, arn)
		}
	}
	if err := c.readParameters(e.Parameters); err != nil {
		return nil, err
	}
	// The id of a grant stands in what CreateGrant answers, in what RevokeGrant
	// is asked, and beside both for RetireGrant.
	var answer struct {
		GrantID string `json:"grantId"`
	}
	if present(e.Answer) && json.Unmarshal(e.Answer, &answer) == nil {
		c.GrantID = cmp.Or(answer.GrantID, c.GrantID)
	}
	var additional struct {
		GrantID   string `json:"grantId"`
		Recipient struct {
			Image string `json:"attestationDocumentEnclaveImageDigest"`
		} `json:"recipient"`
	}
	if present(e.Additional) && json.Unmarshal(e.Additional, &additional) == nil {
		c.Attested, c.GrantID = additional.Recipient.Image, cmp.Or(c.GrantID, additional.GrantID)
	}
	// A dry run that would have been allowed fails with this code.
	if c.Error == "DryRunOperationException" || c.Error == "DryRunOperation" {
		c.DryRun = true
	}
	return c, nil
}

func present(raw json.RawMessage) bool { return len(raw) > 0 && !bytes.Equal(raw, []byte("null")) }

func (c *Call) readParameters(raw json.RawMessage) error {
	if !present(raw) {
		return nil
	}
	switch c.Service {
	case "kms":
		var p struct {
			KeyID     string            `json:"keyId"`
			Context   map[string]string `json:"encryptionContext"`
			From      map[string]string `json:"sourceEncryptionContext"` // of a ReEncrypt
			Policy    string            `json:"policy"`
			Grantee   string            `json:"granteePrincipal"`
			Service   string            `json:"granteeServicePrincipal"`
			Operation []string          `json:"operations"`
			GrantID   string            `json:"grantId"`
			DryRun    bool              `json:"dryRun"`
		}
		if err := json.Unmarshal(raw, &p); err != nil {
			return badEvent("%s: its parameters: %w", oneLine(c.Action), err)
		}
		c.Context, c.Policy, c.Grantee, c.Grants, c.GrantID, c.DryRun = p.Context, p.Policy, p.Grantee+p.Service, p.Operation, p.GrantID, p.DryRun
		if c.Context == nil {
			c.Context = p.From
		}
		if strings.HasPrefix(p.KeyID, "arn:") {
			c.Resources = append(c.Resources, p.KeyID)
		}
	case "sts":
		var p struct {
			Role string `json:"roleArn"`
		}
		if json.Unmarshal(raw, &p) == nil {
			c.Role = p.Role
		}
	case "dynamodb":
		var p struct {
			Key    map[string]json.RawMessage `json:"key"`
			Table  string                     `json:"tableName"`
			Source string                     `json:"sourceTableName"`
			Target string                     `json:"targetTableName"`
		}
		if json.Unmarshal(raw, &p) == nil {
			// Calls about a whole table, a restore among them, list no resource.
			for _, table := range []string{p.Table, p.Source, p.Target} {
				switch {
				case table == "":
				case strings.HasPrefix(table, "arn:"):
					c.Resources = append(c.Resources, table)
				default:
					c.Resources = append(c.Resources, "arn:aws:dynamodb:"+c.Region+":"+c.Account+":table/"+table)
				}
			}
			for _, name := range sortedKeys(p.Key) {
				c.Key = append(c.Key, attributeText(p.Key[name]))
			}
		}
	case "s3":
		var p struct {
			Key string `json:"key"`
		}
		if json.Unmarshal(raw, &p) == nil && p.Key != "" {
			c.Key = []string{p.Key}
		}
	}
	return nil
}

// attributeText is a key's value in a data event, which has been both plain
// text and {"S": text}.
func attributeText(raw json.RawMessage) string {
	var plain string
	if json.Unmarshal(raw, &plain) == nil {
		return plain
	}
	var typed struct{ S string }
	if json.Unmarshal(raw, &typed) == nil {
		return typed.S
	}
	return ""
}

// Names says whether the call is about a resource.
func (c *Call) Names(arn string) bool {
	return slices.Contains(c.Resources, arn)
}

// String shows a call on one line.
func (c *Call) String() string {
	result := ""
	if c.Error != "" {
		result = ": " + c.Error
	}
	return oneLine(fmt.Sprintf("%s %s:%s by %s%s", c.Time.Format(time.RFC3339), c.Service, c.Action, c.Who, result))
}
