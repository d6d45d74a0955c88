package ops

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/aws/smithy-go"

	"github.com/stakeseal/stakeseal/certificate"
	"github.com/stakeseal/stakeseal/internal/aws/arn"
	"github.com/stakeseal/stakeseal/internal/aws/dynamodb"
	"github.com/stakeseal/stakeseal/internal/aws/session"
)

// Subject is what a home's settings say is there. The doctor takes no
// name of it from the account that it examines: whoever can change the
// account could then choose what is looked at.
type Subject struct {
	Place
	Partition  string
	Name       string          // stakeseal-hoodi
	Tables     dynamodb.Tables // ARNs
	Archive    string          // bucket names
	Packages   string
	Trail      string
	Signing    []string // ARNs of the KMS keys that signing secrets are sealed to
	Recovery   []string // and mnemonics
	Certifying string   // "" where certificates are signed elsewhere
	Function   string   // names
	Alias      string
}

// Named says what the settings name.
type Named struct {
	Store     string   // ARN of the table of records
	Archive   string   // ARN of the bucket
	Certifier string   // ARN of a KMS key, or ""
	Generator string   // ARN of the function's alias, or ""
	Signing   []string // ARNs of KMS keys, as far as recipients are such
	Recovery  []string
}

// SubjectOf reads what the settings name. A store whose table is not
// called NAME-records is refused, as nothing else can be found by it.
func SubjectOf(n Named) (*Subject, error) {
	table, err := arn.Table(n.Store)
	if err != nil {
		return nil, err
	}
	in := &Subject{Place: PlaceOf(table), Partition: table.Partition, Signing: n.Signing, Recovery: n.Recovery, Certifying: n.Certifier}
	if in.Tables, err = dynamodb.Beside(n.Store); err != nil {
		return nil, err
	}
	in.Name = dynamodb.Installation(n.Store)
	for _, key := range slices.Concat(n.Signing, n.Recovery, []string{n.Certifier}) {
		if key == "" {
			continue
		}
		if _, err := arn.Key(key); err != nil {
			return nil, err
		}
	}
	bucket, err := arn.Bucket(n.Archive)
	if err != nil {
		return nil, err
	}
	in.Archive = bucket.Resource
	in.Packages, in.Trail = in.Name+"-packages-"+in.Account, in.Name+"-trail-"+in.Account
	in.Function, in.Alias = in.Name+"-generator", "live"
	if n.Generator != "" {
		alias, err := arn.Alias(n.Generator)
		if err != nil {
			return nil, err
		}
		if alias.Account != in.Account || alias.Region != in.Region {
			return nil, fmt.Errorf("%w: the generator %s is not in the store's account and region", arn.ErrARN, n.Generator)
		}
		in.Function, in.Alias = alias.Function()
	}
	return in, nil
}

// resource is the ARN of something of the installation.
func (in *Subject) resource(service, name string) string {
	region, account := in.Region, in.Account
	switch service {
	case "iam":
		region = ""
	case "s3":
		region, account = "", ""
	}
	return arn.ARN{Partition: in.Partition, Service: service, Region: region, Account: account, Resource: name}.String()
}

// Role is the ARN of one of the installation's roles, such as "signer".
func (in *Subject) Role(role string) string {
	return in.resource("iam", "role/"+in.Name+"-"+role)
}

func (in *Subject) function() string { return in.resource("lambda", "function:"+in.Function) }

// short shows a principal of the account without what all of them share.
func (in *Subject) short(principal string) string {
	for _, kind := range []string{"role/", "user/"} {
		if name, ok := strings.CutPrefix(principal, in.resource("iam", kind)); ok {
			if kind == "role/" {
				return oneLine(name)
			}
			return "user " + oneLine(name)
		}
	}
	return oneLine(principal)
}

// State is what a look at one promise showed.
type State string

// The states of a finding. Only OK is a yes.
const (
	OK      State = "ok"
	Warning State = "warning" // nobody promised otherwise, and it should be known
	Changed State = "changed" // no longer as promised
	Unseen  State = "unseen"  // could not be looked at: neither yes nor no
)

// Finding is one line about an installation.
type Finding struct {
	Check string // what was looked at: "function", "key signing", "table records"
	State State
	Says  string
	Gains string // what whoever made the change gains
	Hint  string // what to do
}

// Report is what an examination found.
type Report struct {
	Findings []Finding
	Lacks    []string // actions that the caller has no right to, so that something was not looked at
	Failed   error    // the first failure of a service that kept something from being looked at; session.ErrRemote
}

// Count counts the findings of a state.
func (r *Report) Count(s State) int {
	n := 0
	for _, f := range r.Findings {
		if f.State == s {
			n++
		}
	}
	return n
}

// Live reads an installation through the clients of one caller.
type Live struct {
	Subject
	Caller Caller
	Clients

	Trust    *certificate.Trust
	Settings certificate.Hash // of the home's own generator.yaml and recipients
	Newest   *Newest          // nil: there is no birth yet, or it was not looked for
	Template Template         // nil: live policies are not compared with templates
	Known    []string         // ARNs of principals outside of the installation that may have power over it
	Now      time.Time

	// TryOpening has KMS asked, by dry runs, whether this caller may open. It
	// decrypts nothing; a denial is in the trail as one.
	TryOpening bool
}

// Clients are what an examination asks; NewClients makes them.
type Clients struct {
	Lambda interface {
		functionAPI
		codeSigningAPI
		versionAPI
		doorAPI
		eventAPI
	}
	Signer   profileAPI
	KMS      func(region string) KMSReader
	DynamoDB interface {
		tableAPI
		tableDoorAPI
	}
	S3 interface {
		bucketAPI
		bucketPolicyAPI
		bucketRuleAPI
	}
	CloudTrail     trailAPI
	EventBridge    ruleAPI
	CloudFormation stackAPI
	IAM            interface {
		peopleAPI
		simulatorAPI
	}
	Code downloader
}

// Newest is what the newest birth's certificate says of its maker, the one
// thing about the function that a caller without rights on it can know.
type Newest struct {
	certificate.Maker
	Pubkey string
	Time   time.Time
}

// examination is a Live while it is being looked at.
type examination struct {
	*Live
	report *Report
	stacks *stacks // nil: not to be seen
	people *people // nil: not to be seen
}

// Examine looks at everything. A check that could not be made is a finding of
// its own (Unseen); only a cancelled ctx is an error.
func (l *Live) Examine(ctx context.Context) (*Report, error) {
	e := &examination{Live: l, report: &Report{}}
	for _, look := range []func(context.Context){
		e.lookAtStacks, e.lookAtFunction, e.lookAtVersions, e.lookAtDoors, e.lookAtPackage,
		e.lookAtKeys, e.lookAtTables, e.lookAtBuckets, e.lookAtTrail, e.lookAtAccount, e.lookAtTemplates,
	} {
		if look(ctx); ctx.Err() != nil {
			return nil, ctx.Err()
		}
	}
	return e.report, nil
}

// check collects what is found about one promise.
type check struct {
	e           *examination
	name, gains string
	hint        string
	said        bool
}

// check begins a check; gains says what an attacker has of a change.
func (e *examination) check(name, gains, hint string) *check {
	return &check{e: e, name: name, gains: gains, hint: hint}
}

// add adds a line. Its text may be another party's.
func (c *check) add(s State, format string, args ...any) {
	f := Finding{Check: oneLine(c.name), State: s, Says: oneLine(fmt.Sprintf(format, args...))}
	if s == Changed || s == Warning {
		f.Gains, f.Hint = c.gains, c.hint
	}
	c.said = c.said || s != OK
	c.e.report.Findings = append(c.e.report.Findings, f)
}

// want adds a line if the promise does not hold.
func (c *check) want(holds bool, format string, args ...any) {
	if !holds {
		c.add(Changed, format, args...)
	}
}

// ok adds the line for a promise of which nothing else was said.
func (c *check) ok(format string, args ...any) {
	if !c.said {
		c.add(OK, format, args...)
	}
}

// seen says whether a call brought an answer, and otherwise adds the line that
// says why not.
func (c *check) seen(action string, err error) bool {
	if err == nil {
		return true
	}
	err = session.Classify(action, err)
	r := c.e.report
	switch {
	case errors.Is(err, context.Canceled):
	case errors.Is(err, session.ErrDenied):
		c.add(Unseen, "not checked: this role lacks %s", action)
		if !slices.Contains(r.Lacks, action) {
			r.Lacks = append(r.Lacks, action)
		}
	default:
		c.add(Unseen, "not checked: %v", err)
		if r.Failed == nil {
			r.Failed = err
		}
	}
	return false
}

// absent says whether AWS answered that what was asked for is not there.
func absent(err error, codes ...string) bool {
	var api smithy.APIError
	return errors.As(err, &api) && slices.Contains(codes, api.ErrorCode())
}

// maxPages bounds how often a list is asked for its next page.
const maxPages = 1000

// pages calls next with the marker of each page, from "" on, until there is
// none.
func pages(next func(marker *string) (*string, error)) error {
	var marker *string
	for range maxPages {
		got, err := next(marker)
		if err != nil {
			return err
		}
		if got == nil || *got == "" {
			return nil
		}
		if marker != nil && *marker == *got {
			break // it would go on for ever
		}
		marker = got
	}
	return session.Malformed("a list", "", "it has no end")
}
