package infra_test

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/stakeseal/stakeseal/infra/policy"
	"github.com/stakeseal/stakeseal/infra/stack"
	"github.com/stakeseal/stakeseal/seal"
)

const (
	name    = "stakeseal-hoodi"
	account = "111122223333"
	region  = "us-east-1"
)

// everything is every optional part at once: the most that roles can have.
func everything() stack.Options {
	return stack.Options{Name: name, Account: account, Region: region, Parameters: map[string]map[string]string{
		"bootstrap": {"Network": "on", "Schedule": "on", "ImporterPrincipals": people("importer"),
			"DeveloperPrincipals": people("developer") + "," + people("both"), "ReleaseManagerPrincipals": people("releasemanager") + "," + people("both")},
		"foundation": {"Importer": "on"},
		"network":    {"Zones": "2"},
		"schedule":   {},
		"watch":      {"AlarmEmail": "alarms@example.org", "ConfigRules": "on", "InvokeEvents": "on", "TableEvents": "on", "ObjectEvents": "on", "FailureAlarms": "on"},
	}}
}

// machines is everything, with the signer's role on machines.
func machines() stack.Options {
	o := everything()
	o.Parameters["bootstrap"]["SignerOn"] = "ec2"
	return o
}

func basic() stack.Options { return stack.Options{Name: name, Account: account, Region: region} }

func deploy(t *testing.T, o stack.Options) *stack.Installation {
	t.Helper()
	in, err := stack.Deploy(o)
	if err != nil {
		t.Fatal(err)
	}
	return in
}

// circumstance is what a call carries, in words and in condition keys.
type circumstance struct {
	says    string
	context map[string][]string
}

func (c circumstance) and(d circumstance) circumstance {
	says := strings.Trim(c.says+", "+d.says, ", ")
	context := maps.Clone(c.context)
	maps.Copy(context, d.context)
	return circumstance{says, context}
}

// within says whether everything that c carries d carries too.
func (c circumstance) within(d circumstance) bool {
	for key, values := range c.context {
		if !slices.Equal(values, d.context[key]) {
			return false
		}
	}
	return true
}

func one(says, key, value string) circumstance {
	return circumstance{says, map[string][]string{key: {value}}}
}

// encrypting is what Encrypt and Decrypt carry for a binding.
func encrypting(says string, b seal.Binding) circumstance {
	facts := b.Context()
	c := map[string][]string{
		"kms:EncryptionAlgorithm":   {"SYMMETRIC_DEFAULT"},
		"kms:EncryptionContextKeys": slices.Sorted(maps.Keys(facts)),
	}
	for fact, value := range facts {
		c["kms:EncryptionContext:"+fact] = []string{value}
	}
	return circumstance{says, c}
}

var (
	nothing    = circumstance{"", map[string][]string{}}
	inFunction = one("in the function", "lambda:SourceFunctionArn", "arn:aws:lambda:"+region+":"+account+":function:"+name+"-generator")
	toLambda   = one("to Lambda", "iam:PassedToService", "lambda.amazonaws.com")
	toSchedule = one("to the scheduler", "iam:PassedToService", "scheduler.amazonaws.com")
	toMachines = one("to EC2", "iam:PassedToService", "ec2.amazonaws.com")
	elsewhere  = one("in another region", "aws:RequestedRegion", "eu-west-3")
	// What a call of AssumeRole carries; a session of a role never does.
	factor    = circumstance{"with a second factor", map[string][]string{"aws:MultiFactorAuthPresent": {"true"}, "aws:MultiFactorAuthAge": {"60"}}}
	ifAbsent  = one("If-None-Match", "s3:if-none-match", "*")
	ifMatch   = one("If-Match", "s3:if-match", "0123456789abcdef0123456789abcdef")
	copied    = one("as a copy", "s3:x-amz-copy-source", "somewhere/else")
	digest    = circumstance{"DIGEST, ECDSA_SHA_256", map[string][]string{"kms:MessageType": {"DIGEST"}, "kms:SigningAlgorithm": {"ECDSA_SHA_256"}}}
	raw       = circumstance{"RAW", map[string][]string{"kms:MessageType": {"RAW"}, "kms:SigningAlgorithm": {"ECDSA_SHA_256"}}}
	ofSigning = encrypting("context of a signing secret", seal.Binding{Purpose: seal.Signing, Network: "hoodi", Order: "order-1", Index: "3",
		Subject: "9612d7a727c9d0a22e185a1c768478dfe919cada9266988cb32359c11f2b7b27f4ae4040902382ae2910c15e2b420d07"})
	ofImport = encrypting("context of an import", seal.Binding{Purpose: seal.Signing, Network: "hoodi", Order: "imported", Index: "3",
		Subject: "9612d7a727c9d0a22e185a1c768478dfe919cada9266988cb32359c11f2b7b27f4ae4040902382ae2910c15e2b420d07"})
	ofImportedMnemonic = encrypting("context of an imported mnemonic", seal.Binding{Purpose: seal.Recovery, Network: "hoodi", Order: "imported", Subject: "m-0123456789abcdef"})
	underOrder         = one("below order/", "dynamodb:LeadingKeys", "order/order-1")
	underImport        = one("below import/", "dynamodb:LeadingKeys", "import/9")
	underPubkey        = one("below pubkey/", "dynamodb:LeadingKeys", "pubkey/9")
	underOrders        = one("of orders", "dynamodb:LeadingKeys", "orders")
	ofMnemonic         = encrypting("context of a mnemonic", seal.Binding{Purpose: seal.Recovery, Network: "hoodi", Order: "order-1", Subject: "m-0123456789abcdef"})
)

// circumstances are those that calls of an action can be made under, the
// poorer ones first.
func circumstances(action string, more ...circumstance) []circumstance {
	a, _ := policy.Lookup(action)
	var list []circumstance
	for _, c := range append([]circumstance{nothing, digest, ofSigning, ofMnemonic, ofImport, ofImportedMnemonic, ifAbsent, underOrder, underPubkey, underImport, toLambda, toSchedule, toMachines}, more...) {
		possible := true
		for key := range c.context {
			possible = possible && a.Carries(key)
		}
		if possible {
			list = append(list, c)
		}
	}
	for _, c := range slices.Clone(list) {
		list = append(list, c.and(inFunction))
	}
	return list
}

// prover asks what roles can do, over all that calls could name and carry.
type prover struct {
	in      *stack.Installation
	targets map[string][]string // by service
	reach   map[string][]grant  // by role and action
}

// grant is a call that is allowed, under the poorest circumstances found.
type grant struct {
	target string
	when   []circumstance
}

func (g grant) says() string {
	var out []string
	for _, c := range g.when {
		out = append(out, c.says)
	}
	return strings.Join(out, "; or ")
}

func newProver(in *stack.Installation) *prover {
	p := &prover{in: in, targets: map[string][]string{}, reach: map[string][]grant{}}
	add := func(arns ...string) {
		for _, a := range arns {
			service := strings.Split(a, ":")[2]
			p.targets[service] = append(p.targets[service], a)
		}
	}
	for _, r := range in.Resources {
		if r.ARN == "" {
			continue
		}
		add(r.ARN)
		switch r.Type {
		case "AWS::S3::Bucket":
			add(r.ARN + "/order-1/receipt")
			if r.LogicalID == "ArchiveBucket" {
				add(r.ARN + "/_imports/m.json")
			}
			if r.LogicalID == "PackageBucket" {
				add(r.ARN+"/submitted/p.zip", r.ARN+"/signed/p.zip", r.ARN+"/statements/p.json")
			}
		case "AWS::DynamoDB::Table":
			add(r.ARN+"/backup/01", r.ARN+"/index/by-time")
		case "AWS::Lambda::Function":
			add(r.ARN+":live", r.ARN+":other", r.ARN+":1", r.ARN+":$LATEST")
		case "AWS::Logs::LogGroup":
			add(r.ARN+":*", r.ARN+":log-stream:s")
		}
	}
	// Of ours, but no resources of the templates.
	add("arn:aws:cloudformation:"+region+":"+account+":stack/"+name+"-foundation/00000000-0000-4000-8000-000000000000",
		"arn:aws:signer:"+region+":"+account+":/signing-jobs/1")
	for _, service := range policy.Services() {
		p.targets[service] = append(p.targets[service], "*")
	}
	p.targets["sts"] = append(p.targets["sts"], p.targets["iam"]...)
	return p
}

// ours says whether a target belongs to the installation.
func (p *prover) ours(target string) bool {
	for _, r := range p.in.Resources {
		if r.ARN != "" && (target == r.ARN || strings.HasPrefix(target, r.ARN+":") || strings.HasPrefix(target, r.ARN+"/")) {
			return true
		}
	}
	return strings.Contains(target, ":stack/"+name+"-") || strings.Contains(target, "/signing-jobs/")
}

func (p *prover) allowed(role, action, target string, c circumstance) bool {
	d, err := p.in.Authorize(stack.Request{Principal: p.in.RoleARN(role), Action: action, Resource: target, Context: c.context})
	if err != nil {
		panic(err) // the request is the test's own
	}
	return d.Allowed
}

// can returns where a role may do an action, and under what.
func (p *prover) can(role, action string) []grant {
	key := role + " " + action
	if got, ok := p.reach[key]; ok {
		return got
	}
	var list []grant
	if p.mentioned(role, action) {
		for _, target := range p.candidates(action) {
			var enough []circumstance
			for _, c := range circumstances(action) {
				richer := func(d circumstance) bool { return d.within(c) }
				if !slices.ContainsFunc(enough, richer) && p.allowed(role, action, target, c) {
					enough = append(enough, c)
				}
			}
			if len(enough) > 0 {
				list = append(list, grant{target, enough})
			}
		}
	}
	p.reach[key] = list
	return list
}

// candidates are the targets that fit the action (deleting the alias of a key
// is not deleting a key), and one of each type that is not ours.
func (p *prover) candidates(action string) []string {
	a, _ := policy.Lookup(action)
	service, _, _ := strings.Cut(action, ":")
	var out []string
	for _, target := range p.targets[service] {
		if a.Fits(target) {
			out = append(out, target)
		}
	}
	for _, target := range a.Example(region, account) {
		if !slices.Contains(out, target) {
			out = append(out, target)
		}
	}
	return out
}

// mentioned spares the search where no statement allows the action at all.
func (p *prover) mentioned(role, action string) bool {
	r, ok := p.in.Role(role)
	if !ok {
		return false
	}
	covers := func(d *policy.Document) bool {
		return slices.ContainsFunc(d.Statements, func(s policy.Statement) bool {
			return s.Allow && (s.NotActions != nil || slices.ContainsFunc(s.Actions, func(a string) bool { return policy.Glob(a, action) }))
		})
	}
	if slices.ContainsFunc(r.Policies, covers) {
		return true
	}
	for _, res := range p.in.Resources {
		if d, ok := p.in.Guard(res.ARN); ok && d.Kind != policy.Trust && covers(d) {
			return true
		}
	}
	for _, res := range p.in.Roles() {
		if d, _ := p.in.Role(res); strings.HasPrefix(action, "sts:") && covers(d.Trust) {
			return true
		}
	}
	return false
}

// short is a target without what all have in common.
func short(target string) string {
	for _, r := range []struct{ from, to string }{
		{"arn:aws:", ""}, {region + ":" + account + ":", ""}, {"iam::" + account + ":", "iam:"}, {"-" + account, ""}, {"s3:::", "s3:"}, {name, "NAME"},
	} {
		target = strings.Replace(target, r.from, r.to, 1)
	}
	return target
}
