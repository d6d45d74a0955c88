package infra_test

import (
	"fmt"
	"slices"
	"strings"

	"github.com/stakeseal/stakeseal/infra/policy"
	"github.com/stakeseal/stakeseal/infra/stack"
)

// claim is a sentence of the design and what would contradict it.
type claim struct {
	id, says string
	against  func(*prover) []string
}

// only claims that of all roles these alone can do the actions, break-glass to
// what is not of the installation excepted. Actions may be patterns, which then
// must match something.
func only(roles string, actions ...string) func(*prover) []string {
	return func(p *prover) []string {
		var out []string
		for _, pattern := range actions {
			matched := false
			for _, a := range policy.Actions() {
				if !policy.Glob(pattern, a.Name) {
					continue
				}
				matched = true
				for _, role := range p.in.Roles() {
					if slices.Contains(strings.Fields(roles), role) {
						continue
					}
					for _, g := range p.can(role, a.Name) {
						if role != "break-glass" || p.ours(g.target) || g.target == "*" {
							out = append(out, fmt.Sprintf("%s may %s on %s (%s)", role, a.Name, short(g.target), g.says()))
						}
					}
				}
			}
			if !matched {
				out = append(out, fmt.Sprintf("%s is no action", pattern))
			}
		}
		return out
	}
}

// anywhere is only, for targets that are not ours too.
func anywhere(roles string, actions ...string) func(*prover) []string {
	return func(p *prover) []string {
		var out []string
		for _, a := range actions {
			for _, role := range p.in.Roles() {
				if !slices.Contains(strings.Fields(roles), role) && len(p.can(role, a)) > 0 {
					out = append(out, fmt.Sprintf("%s may %s on %s", role, a, short(p.can(role, a)[0].target)))
				}
			}
		}
		return out
	}
}

// call is one call that must be allowed, or with no that must not.
type call struct {
	role, action, target string
	when                 circumstance
}

func yes(calls ...call) func(*prover) []string { return judged(true, calls) }
func no(calls ...call) func(*prover) []string  { return judged(false, calls) }

func judged(want bool, calls []call) func(*prover) []string {
	return func(p *prover) []string {
		var out []string
		for _, c := range calls {
			if c.when.context == nil {
				c.when = nothing
			}
			if got := p.allowed(c.role, c.action, p.resolve(c.target), c.when); got != want {
				out = append(out, fmt.Sprintf("%s %s on %s (%s): allowed %v", c.role, c.action, c.target, c.when.says, got))
			}
		}
		return out
	}
}

// resolve reads "out:Key/rest", an output of foundation or function, and
// other words for what is ours.
func (p *prover) resolve(target string) string {
	if target == "profile" {
		r, _ := p.in.Resource("foundation", "SigningProfile")
		return r.ARN
	}
	head, rest, _ := strings.Cut(target, "|")
	for _, s := range []string{"foundation", "function"} {
		if v, ok := p.in.Outputs[s][head]; ok {
			return v + rest
		}
	}
	return target
}

func all(list ...func(*prover) []string) func(*prover) []string {
	return func(p *prover) []string {
		var out []string
		for _, f := range list {
			out = append(out, f(p)...)
		}
		return out
	}
}

const (
	signingKey, recoveryKey, certifyingKey = "SigningKeyArn", "RecoveryKeyArn", "CertifyingKeyArn"
	records, assignments, events           = "RecordsTableArn", "AssignmentsTableArn", "EventsTableArn"
	ledger, leases                         = "LedgerTableArn", "LeasesTableArn"
	archived, importedObject               = "ArchiveBucketArn|/order-1/receipt", "ArchiveBucketArn|/_imports/m.json"
	submitted, signed, statement           = "PackageBucketArn|/submitted/p.zip", "PackageBucketArn|/signed/p.zip", "PackageBucketArn|/statements/p.json"
	live, latest, version, bare            = "FunctionAliasArn", "FunctionArn|:$LATEST", "FunctionArn|:1", "FunctionArn"
)

func trusts(role string, principals ...string) func(*prover) []string {
	return func(p *prover) []string {
		var out []string
		candidates := []string{"lambda.amazonaws.com", "ec2.amazonaws.com", "scheduler.amazonaws.com", "cloudformation.amazonaws.com", "codebuild.amazonaws.com",
			"ssm.amazonaws.com", "states.amazonaws.com", "arn:aws:iam::" + account + ":root", "arn:aws:iam::999999999999:root", "arn:aws:iam::999999999999:role/x"}
		for _, who := range []string{"developer", "releasemanager", "requester", "depositor", "signer", "recovery", "auditor", "administrator", "breakglass", "importer"} {
			candidates = append(candidates, "arn:aws:iam::"+account+":role/people-"+who)
		}
		for _, r := range p.in.Roles() {
			candidates = append(candidates, p.in.RoleARN(r))
		}
		context := factor.and(circumstance{"", map[string][]string{"aws:SourceAccount": {account}, "aws:SourceArn": {"arn:aws:scheduler:" + region + ":" + account + ":schedule-group/" + name}}})
		for _, c := range candidates {
			d, err := p.in.Authorize(stack.Request{Principal: c, Action: "sts:AssumeRole", Resource: p.in.RoleARN(role), Context: context.context})
			if want := slices.Contains(principals, c); err != nil || d.Allowed != want {
				out = append(out, fmt.Sprintf("%s takes role %s: %+v %v", c, role, d, err))
			}
		}
		return out
	}
}

func people(who string) string { return "arn:aws:iam::" + account + ":role/people-" + who }

// Who has the actions that only the release role or nobody may have.
const (
	releases  = "release-manager break-glass"
	breaks    = "break-glass"
	nobody    = ""
	certifies = "generator"
)

var claims = []claim{
	// ---- who may and who may not ---------------------------------------
	{"developer-may", "a developer builds and submits a package", yes(
		call{"developer", "s3:PutObject", submitted, ifAbsent}, call{"developer", "s3:GetObject", statement, nothing})},
	{"developer-may-not", "a developer does not sign, deploy, or touch keys", all(
		no(call{"developer", "s3:PutObject", submitted, nothing}, call{"developer", "s3:PutObject", signed, ifAbsent}, call{"developer", "s3:PutObject", statement, ifAbsent}),
		func(p *prover) []string {
			var out []string
			for _, a := range policy.Actions() {
				service, _, _ := strings.Cut(a.Name, ":")
				if !slices.Contains([]string{"kms", "signer", "lambda", "dynamodb"}, service) || a.Name == "kms:GetPublicKey" {
					continue
				}
				if g := p.can("developer", a.Name); len(g) > 0 {
					out = append(out, "developer may "+a.Name)
				}
			}
			return out
		})},
	{"release-may", "a release manager reviews, signs and deploys a package", yes(
		call{"release-manager", "s3:GetObjectVersion", submitted, nothing}, call{"release-manager", "s3:PutObject", signed, nothing},
		call{"release-manager", "s3:PutObject", statement, ifAbsent}, call{"release-manager", "s3:GetObject", signed, nothing},
		call{"release-manager", "signer:StartSigningJob", "profile", nothing}, call{"release-manager", "signer:DescribeSigningJob", "arn:aws:signer:us-east-1:111122223333:/signing-jobs/1", nothing},
		call{"release-manager", "lambda:UpdateFunctionCode", bare, nothing}, call{"release-manager", "lambda:PublishVersion", bare, nothing},
		call{"release-manager", "lambda:CreateAlias", bare, nothing}, call{"release-manager", "lambda:UpdateAlias", bare, nothing},
		call{"release-manager", "lambda:DeleteFunction", version, nothing})},
	{"release-may-not", "a release manager does not change a package, nor what runs it, nor place an order", no(
		call{"release-manager", "s3:PutObject", submitted, ifAbsent}, call{"release-manager", "lambda:DeleteFunction", bare, nothing},
		call{"release-manager", "lambda:UpdateFunctionConfiguration", bare, nothing}, call{"release-manager", "lambda:InvokeFunction", live, nothing},
		call{"release-manager", "iam:PassRole", "arn:aws:iam::111122223333:role/" + name + "-generator", nothing})},
	{"release-two", "what is signed was submitted by a developer: a signing job reads its source with the right to a version, which a release manager has of submitted/ only",
		all(no(call{"release-manager", "s3:GetObjectVersion", signed, nothing}, call{"release-manager", "s3:GetObjectVersion", statement, nothing},
			call{"release-manager", "s3:GetObjectVersion", "arn:aws:s3:::somebody-elses/object", nothing}, call{"release-manager", "s3:GetObject", "arn:aws:s3:::somebody-elses/object", nothing}))},
	{"requester-may", "a requester places an order and reads what came of it", yes(
		call{"requester", "lambda:InvokeFunction", live, nothing}, call{"requester", "dynamodb:Query", records, nothing}, call{"requester", "s3:GetObject", archived, nothing},
		call{"requester", "cloudformation:DescribeStacks", "arn:aws:cloudformation:us-east-1:111122223333:stack/" + name + "-function/1", nothing})},
	{"alias-only", "requesters and schedules call the alias and nothing else, nobody else calls", all(
		no(call{"requester", "lambda:InvokeFunction", bare, nothing}, call{"requester", "lambda:InvokeFunction", latest, nothing}, call{"requester", "lambda:InvokeFunction", version, nothing},
			call{"requester", "lambda:InvokeFunction", "FunctionArn|:other", nothing}, call{"scheduler", "lambda:InvokeFunction", version, nothing}, call{"scheduler", "lambda:InvokeFunction", bare, nothing}),
		yes(call{"scheduler", "lambda:InvokeFunction", live, nothing}),
		only("requester scheduler break-glass", "lambda:InvokeFunction", "lambda:InvokeAsync", "lambda:InvokeFunctionUrl"))},
	{"generator-may", "the generator seals, certifies and stores", yes(
		call{"generator", "kms:Encrypt", signingKey, inFunction.and(ofSigning)}, call{"generator", "kms:Encrypt", recoveryKey, inFunction.and(ofMnemonic)},
		call{"generator", "kms:Sign", certifyingKey, inFunction.and(digest)}, call{"generator", "kms:GetPublicKey", certifyingKey, inFunction},
		call{"generator", "dynamodb:GetItem", records, inFunction}, call{"generator", "dynamodb:PutItem", records, inFunction.and(underOrder)}, call{"generator", "dynamodb:PutItem", records, inFunction.and(underOrders)}, call{"generator", "dynamodb:PutItem", records, inFunction.and(underPubkey)}, call{"generator", "dynamodb:Query", records, inFunction},
		call{"generator", "s3:PutObject", archived, inFunction.and(ifAbsent)}, call{"generator", "s3:GetObject", archived, inFunction}, call{"generator", "s3:ListBucket", "ArchiveBucketArn", inFunction})},
	{"generator-least", "and has no other right", func(p *prover) []string {
		mine := strings.Fields(`kms:Encrypt kms:Sign kms:GetPublicKey dynamodb:GetItem dynamodb:PutItem dynamodb:Query s3:GetObject s3:PutObject s3:ListBucket
			logs:CreateLogStream logs:PutLogEvents ec2:AssignPrivateIpAddresses ec2:CreateNetworkInterface ec2:DeleteNetworkInterface
			ec2:DescribeNetworkInterfaces ec2:DescribeSubnets ec2:UnassignPrivateIpAddresses sqs:SendMessage`)
		var out []string
		for _, a := range policy.Actions() {
			if len(p.can("generator", a.Name)) > 0 && !slices.Contains(mine, a.Name) {
				out = append(out, "generator may "+a.Name)
			}
		}
		return append(out, no(
			call{"generator", "dynamodb:PutItem", assignments, inFunction}, call{"generator", "dynamodb:PutItem", events, inFunction}, call{"generator", "dynamodb:Query", events, inFunction},
			call{"generator", "s3:PutObject", signed, inFunction.and(ifAbsent)}, call{"generator", "s3:GetObject", submitted, inFunction},
			call{"generator", "ec2:CreateNetworkInterface", "*", inFunction}, call{"generator", "sqs:SendMessage", "arn:aws:sqs:us-east-1:111122223333:" + name + "-failed", inFunction})(p)...)
	}},
	{"generator-home", "the generator's role is worth nothing outside its function", func(p *prover) []string {
		outside := strings.Fields("logs:CreateLogStream logs:PutLogEvents ec2:AssignPrivateIpAddresses ec2:CreateNetworkInterface ec2:DeleteNetworkInterface ec2:DescribeNetworkInterfaces ec2:DescribeSubnets ec2:UnassignPrivateIpAddresses sqs:SendMessage")
		var out []string
		for _, a := range policy.Actions() {
			for _, g := range p.can("generator", a.Name) {
				if slices.ContainsFunc(g.when, func(c circumstance) bool { return !inFunction.within(c) }) && !slices.Contains(outside, a.Name) {
					out = append(out, "generator may "+a.Name+" outside its function")
				}
			}
		}
		return append(out, no(call{"generator", "kms:Encrypt", signingKey, ofSigning.and(one("in another function", "lambda:SourceFunctionArn", "arn:aws:lambda:us-east-1:111122223333:function:other"))})(p)...)
	}},
	{"G1", "the generator opens nothing, and nobody does but signer and recovery holder", only("signer recovery", "kms:Decrypt", "kms:ReEncrypt*", "kms:Decapsulate", "kms:DeriveSharedSecret", "kms:GenerateDataKey*")},
	{"grants", "a grant, a policy of the account or a detour opens nothing: the keys deny by name", func(p *prover) []string {
		var out []string
		openers := map[string]string{signingKey: "signer", recoveryKey: "recovery"}
		for key, opener := range openers {
			out = append(out, denied(p, key, opener, "kms:Decrypt")...)
			out = append(out, denied(p, key, "", "kms:CreateGrant", "kms:ReEncryptFrom", "kms:ReEncryptTo", "kms:GenerateDataKey", "kms:ReplicateKey", "kms:ScheduleKeyDeletion")...)
		}
		out = append(out, denied(p, certifyingKey, certifies, "kms:Sign")...)
		return append(out, denied(p, certifyingKey, "", "kms:CreateGrant", "kms:ReplicateKey", "kms:ScheduleKeyDeletion")...)
	}},
	{"signer", "the signer opens signing secrets and no mnemonic", all(
		yes(call{"signer", "kms:Decrypt", signingKey, ofSigning}, call{"signer", "dynamodb:Query", assignments, nothing}, call{"signer", "dynamodb:PutItem", assignments, nothing}, call{"signer", "dynamodb:PutItem", events, nothing}),
		no(call{"signer", "kms:Decrypt", recoveryKey, ofMnemonic}, call{"signer", "kms:Decrypt", signingKey, ofMnemonic},
			call{"signer", "kms:Decrypt", signingKey, nothing}, call{"signer", "kms:Decrypt", signingKey, withFact(ofSigning, "purpose", "other")}, call{"signer", "kms:Encrypt", signingKey, ofSigning}, call{"signer", "dynamodb:PutItem", records, underOrder}))},
	{"recovery", "the recovery holder opens mnemonics, by a session that says nothing of a second factor, as those of roles never do, and no signing secret", all(
		yes(call{"recovery", "kms:Decrypt", recoveryKey, ofMnemonic}, call{"recovery", "dynamodb:PutItem", events, nothing}),
		no(call{"recovery", "kms:Decrypt", signingKey, ofSigning}, call{"recovery", "kms:Decrypt", recoveryKey, ofSigning}, call{"recovery", "kms:Decrypt", recoveryKey, nothing},
			call{"recovery", "kms:Decrypt", recoveryKey, withFact(ofMnemonic, "purpose", "other")}))},
	{"G2", "a sealing key takes our whole context and no other: purposes do not mix", no(
		call{"generator", "kms:Encrypt", signingKey, inFunction.and(ofMnemonic)}, call{"generator", "kms:Encrypt", recoveryKey, inFunction.and(ofSigning)},
		call{"generator", "kms:Encrypt", signingKey, inFunction}, call{"generator", "kms:Encrypt", signingKey, inFunction.and(without(ofSigning, "pubkey"))},
		call{"generator", "kms:Encrypt", signingKey, inFunction.and(without(ofSigning, "network"))}, call{"generator", "kms:Encrypt", signingKey, inFunction.and(without(ofSigning, "order"))},
		call{"generator", "kms:Encrypt", signingKey, inFunction.and(without(ofSigning, "index"))}, call{"generator", "kms:Encrypt", signingKey, inFunction.and(withFact(ofSigning, "note", "x"))},
		call{"generator", "kms:Encrypt", recoveryKey, inFunction.and(without(ofMnemonic, "mnemonic"))}, call{"generator", "kms:Encrypt", signingKey, inFunction.and(withFact(ofSigning, "v", "2"))},
		call{"generator", "kms:Encrypt", signingKey, inFunction.and(withFact(ofSigning, "purpose", "other"))}, call{"signer", "kms:Decrypt", signingKey, withFact(ofSigning, "purpose", "recovery")})},
	{"certifying", "only the generator certifies, digests only", all(only(certifies, "kms:Sign"), no(call{"generator", "kms:Sign", certifyingKey, inFunction.and(raw)}, call{"generator", "kms:Sign", certifyingKey, inFunction}))},
	{"G4-archive", "an archived object is written once, by the generator, and taken away by nobody", all(
		no(call{"generator", "s3:PutObject", archived, inFunction}, call{"generator", "s3:PutObject", archived, inFunction.and(ifAbsent).and(copied)}, call{"generator", "s3:PutObject", archived, inFunction.and(ifMatch)},
			call{"generator", "s3:PutObject", archived, inFunction.and(ifAbsent).and(ifMatch)}, call{"break-glass", "s3:PutObject", archived, ifAbsent},
			call{"generator", "s3:GetObject", archived, inFunction.and(one("without TLS", "aws:SecureTransport", "false"))}),
		func(p *prover) []string {
			var out []string
			for _, role := range p.in.Roles() {
				for _, a := range []string{"s3:DeleteObject", "s3:DeleteObjectVersion", "s3:BypassGovernanceRetention", "s3:PutObjectRetention", "s3:PutObjectLegalHold", "s3:ReplicateObject", "s3:ReplicateDelete"} {
					for _, g := range p.can(role, a) {
						if strings.Contains(g.target, name+"-archive") {
							out = append(out, role+" may "+a+" on "+short(g.target))
						}
					}
				}
			}
			return out
		})},
	{"G4-tables", "no role changes or removes an item, break-glass included, before it changed the table's policy", only(nobody,
		"dynamodb:UpdateItem", "dynamodb:DeleteItem", "dynamodb:BatchWriteItem", "dynamodb:PartiQLDelete", "dynamodb:PartiQLInsert", "dynamodb:PartiQLUpdate")},
	{"records", "only the generator (and, while it exists, the importer) puts records", func(p *prover) []string {
		var out []string
		for _, role := range p.in.Roles() {
			for _, g := range p.can(role, "dynamodb:PutItem") {
				if strings.Contains(g.target, "-records") && role != "generator" && role != "importer" {
					out = append(out, role+" may put records")
				}
			}
		}
		return out
	}},
	{"ledger", "signers alone write the slashing ledger and the leases, and no other role, break-glass included; whoever reads records may read them", func(p *prover) []string {
		var out []string
		for _, role := range p.in.Roles() {
			for _, g := range p.can(role, "dynamodb:PutItem") {
				if (strings.Contains(g.target, "-ledger") || strings.Contains(g.target, "-leases")) && role != "signer" {
					out = append(out, role+" may write "+short(g.target))
				}
			}
		}
		for _, table := range []string{ledger, leases} {
			out = append(out, yes(call{"signer", "dynamodb:PutItem", table, nothing}, call{"signer", "dynamodb:GetItem", table, nothing}, call{"signer", "dynamodb:Query", table, nothing},
				call{"auditor", "dynamodb:Query", table, nothing}, call{"administrator", "dynamodb:GetItem", table, nothing}, call{"administrator", "dynamodb:CreateBackup", table, nothing})(p)...)
			out = append(out, no(call{"generator", "dynamodb:PutItem", table, inFunction.and(underPubkey)}, call{"generator", "dynamodb:GetItem", table, inFunction}, call{"requester", "dynamodb:PutItem", table, nothing},
				call{"depositor", "dynamodb:PutItem", table, nothing}, call{"administrator", "dynamodb:PutItem", table, nothing}, call{"break-glass", "dynamodb:PutItem", table, nothing},
				call{"signer", "dynamodb:UpdateItem", table, nothing}, call{"signer", "dynamodb:DeleteItem", table, nothing}, call{"signer", "dynamodb:BatchWriteItem", table, nothing}, call{"signer", "dynamodb:Scan", table, nothing})(p)...)
		}
		return out
	}},
	{"importer", "an importer seals and stores imports, writes no birth, opens nothing of ours and certifies nothing; the generator writes no import", all(
		yes(call{"importer", "kms:Encrypt", signingKey, ofImport}, call{"importer", "kms:Encrypt", recoveryKey, ofImportedMnemonic}, call{"importer", "s3:PutObject", importedObject, ifAbsent},
			call{"importer", "dynamodb:PutItem", records, underImport}, call{"importer", "dynamodb:PutItem", records, underPubkey}, call{"importer", "dynamodb:PutItem", events, nothing}),
		no(call{"importer", "kms:Decrypt", signingKey, ofImport}, call{"importer", "kms:Sign", certifyingKey, digest}, call{"importer", "lambda:InvokeFunction", live, nothing},
			call{"importer", "kms:Encrypt", signingKey, ofSigning}, call{"importer", "kms:Encrypt", recoveryKey, ofMnemonic}, call{"importer", "s3:PutObject", archived, ifAbsent},
			call{"importer", "dynamodb:PutItem", records, underOrder}, call{"importer", "dynamodb:PutItem", records, underOrders}, call{"importer", "dynamodb:PutItem", records, nothing}, call{"importer", "dynamodb:PutItem", assignments, nothing},
			call{"importer", "dynamodb:PutItem", ledger, underPubkey}, call{"importer", "dynamodb:PutItem", leases, nothing},
			call{"generator", "kms:Encrypt", signingKey, inFunction.and(ofImport)}, call{"generator", "kms:Encrypt", recoveryKey, inFunction.and(ofImportedMnemonic)},
			call{"generator", "dynamodb:PutItem", records, inFunction.and(underImport)}, call{"generator", "dynamodb:PutItem", records, inFunction},
			call{"generator", "s3:PutObject", importedObject, inFunction.and(ifAbsent)}))},
	{"depositor", "a depositor reads, verifies, notes what was exported, and sees no secret", all(
		yes(call{"depositor", "dynamodb:Query", records, nothing}, call{"depositor", "s3:GetObject", archived, nothing}, call{"depositor", "dynamodb:PutItem", events, nothing}, call{"depositor", "kms:GetPublicKey", certifyingKey, nothing}),
		no(call{"depositor", "dynamodb:PutItem", assignments, nothing}, call{"depositor", "lambda:InvokeFunction", live, nothing}))},
	{"auditor", "an auditor reads everything and changes nothing", all(
		yes(call{"auditor", "kms:GetKeyPolicy", signingKey, nothing}, call{"auditor", "kms:GetKeyPolicy", recoveryKey, nothing}, call{"auditor", "kms:ListGrants", signingKey, nothing}, call{"auditor", "kms:GetPublicKey", certifyingKey, nothing},
			call{"auditor", "dynamodb:Query", "EventsTableArn|/index/by-time", nothing}, call{"auditor", "dynamodb:DescribeTable", records, nothing}, call{"auditor", "dynamodb:DescribeContinuousBackups", records, nothing},
			call{"auditor", "cloudtrail:LookupEvents", "*", nothing}, call{"auditor", "lambda:GetFunction", bare, nothing}, call{"auditor", "lambda:ListVersionsByFunction", bare, nothing}, call{"auditor", "lambda:GetFunctionCodeSigningConfig", bare, nothing},
			call{"auditor", "iam:SimulatePrincipalPolicy", "arn:aws:iam::111122223333:role/" + name + "-generator", nothing}, call{"auditor", "s3:GetBucketPolicy", "ArchiveBucketArn", nothing}, call{"auditor", "s3:GetBucketObjectLockConfiguration", "ArchiveBucketArn", nothing}),
		func(p *prover) []string {
			var out []string
			for _, a := range policy.Actions() {
				// The reference counts starting a query of logs as reading.
				if a.Write() && len(p.can("auditor", a.Name)) > 0 {
					out = append(out, "auditor may "+a.Name)
				}
			}
			return out
		})},
	{"administrator", "an administrator assigns, backs up and stops the maker, and changes no right", all(
		yes(call{"administrator", "dynamodb:PutItem", assignments, nothing}, call{"administrator", "lambda:PutFunctionConcurrency", bare, nothing}, call{"administrator", "dynamodb:CreateBackup", records, nothing}),
		no(call{"administrator", "kms:PutKeyPolicy", signingKey, nothing}, call{"administrator", "dynamodb:PutItem", records, underOrder}, call{"administrator", "lambda:InvokeFunction", live, nothing}))},
	{"scheduler", "the schedule's role calls the alias and reports failed orders, and nothing else", func(p *prover) []string {
		var out []string
		for _, a := range policy.Actions() {
			if len(p.can("scheduler", a.Name)) > 0 && a.Name != "lambda:InvokeFunction" && a.Name != "sqs:SendMessage" {
				out = append(out, "scheduler may "+a.Name)
			}
		}
		return out
	}},
	{"break-glass", "break-glass changes policies, but opens, seals, certifies and writes nothing before it has", all(
		yes(call{"break-glass", "kms:PutKeyPolicy", signingKey, nothing}, call{"break-glass", "kms:PutKeyPolicy", recoveryKey, nothing}, call{"break-glass", "kms:PutKeyPolicy", certifyingKey, nothing}, call{"break-glass", "kms:CreateKey", "*", nothing},
			call{"break-glass", "iam:PassRole", "arn:aws:iam::111122223333:role/" + name + "-generator", toLambda}, call{"break-glass", "iam:PassRole", "arn:aws:iam::111122223333:role/aws-service-role/config.amazonaws.com/AWSServiceRoleForConfig", one("to Config", "iam:PassedToService", "config.amazonaws.com")},
			call{"break-glass", "ec2:CreateVpc", "arn:aws:ec2:us-east-1:111122223333:vpc/example", nothing}, call{"break-glass", "ec2:CreateVpcEndpoint", "arn:aws:ec2:us-east-1:111122223333:vpc-endpoint/example", nothing}, call{"break-glass", "kms:CreateAlias", signingKey, nothing}, call{"break-glass", "dynamodb:PutResourcePolicy", records, nothing}),
		func(p *prover) []string {
			var out []string
			for _, a := range []string{"kms:Decrypt", "kms:Encrypt", "kms:Sign", "kms:CreateGrant", "kms:ScheduleKeyDeletion", "dynamodb:PutItem"} {
				for _, g := range p.can("break-glass", a) {
					if p.ours(g.target) {
						out = append(out, "break-glass may "+a+" on "+short(g.target))
					}
				}
			}
			return out
		})},
	{"trust", "each role is given to its people only, the generator's to Lambda only, and no role of ours leads to another", all(
		trusts("generator", "lambda.amazonaws.com"), trusts("scheduler", "scheduler.amazonaws.com"), trusts("developer", people("developer")),
		trusts("release-manager", people("releasemanager")), trusts("requester", people("requester")), trusts("depositor", people("depositor")), trusts("signer", people("signer")),
		trusts("recovery", people("recovery")), trusts("auditor", people("auditor")), trusts("administrator", people("administrator")), trusts("break-glass", people("breakglass")), trusts("importer", people("importer")))},
	{"factor", "the roles that change, order or open are given to sessions with a second factor only, and not an old one", func(p *prover) []string {
		var out []string
		for role, who := range map[string]string{"release-manager": "releasemanager", "requester": "requester", "recovery": "recovery", "administrator": "administrator", "break-glass": "breakglass", "importer": "importer"} {
			old := circumstance{"", map[string][]string{"aws:MultiFactorAuthPresent": {"true"}, "aws:MultiFactorAuthAge": {"7200"}}}
			for _, c := range []circumstance{nothing, old} {
				d, err := p.in.Authorize(stack.Request{Principal: people(who), Action: "sts:AssumeRole", Resource: p.in.RoleARN(role), Context: c.context})
				if err != nil || d.Allowed {
					out = append(out, fmt.Sprintf("%s without a fresh second factor: %+v %v", role, d, err))
				}
			}
		}
		return out
	}},
	{"region", "a person's role is given in the installation's region only, where taking it is told; and what break-glass does elsewhere, but to IAM and to the second watch in us-east-1, it may not", inOneRegion},
	{"apart", "whoever is named as developer and as release manager takes the developer's role only", func(p *prover) []string {
		var out []string
		for role, want := range map[string]bool{"developer": true, "release-manager": false} {
			d, err := p.in.Authorize(stack.Request{Principal: people("both"), Action: "sts:AssumeRole", Resource: p.in.RoleARN(role), Context: factor.context})
			if err != nil || d.Allowed != want {
				out = append(out, fmt.Sprintf("%s: %+v %v", role, d, err))
			}
		}
		return out
	}},
	{"passing", "whoever may give a role to a service, and may start something there, has that role: break-glass so has the maker's in Lambda and the schedule's in the scheduler, and no role that opens", passing},
	{"machines", "nobody starts a machine, copies its disk, or reaches into it", anywhere(nobody, reaches...)},
	{"boundary", "every role but break-glass has the boundary", func(p *prover) []string {
		var out []string
		for _, name := range p.in.Roles() {
			if r, _ := p.in.Role(name); (r.Boundary == nil) != (name == "break-glass") {
				out = append(out, name+": boundary "+fmt.Sprint(r.Boundary != nil))
			}
		}
		return out
	}},

	// ---- what only the release role or nobody may have ---------------------
	{"two-lambda-release", "lambda: releasing", only(releases, "lambda:UpdateFunctionCode", "lambda:PublishVersion", "lambda:CreateAlias", "lambda:UpdateAlias", "lambda:DeleteFunction")},
	{"two-lambda", "lambda: configuring", only(breaks, "lambda:PutResourcePolicy", "lambda:DeleteResourcePolicy", "lambda:CreateCapacityProvider", "lambda:UpdateCapacityProvider",
		"lambda:DeleteFunctionCodeSigningConfig", "lambda:PutFunctionCodeSigningConfig", "lambda:UpdateFunctionCodeSigningConfig", "lambda:CreateCodeSigningConfig", "lambda:UpdateCodeSigningConfig", "lambda:DeleteCodeSigningConfig",
		"lambda:UpdateFunctionConfiguration", "lambda:DeleteAlias", "lambda:CreateFunction", "lambda:AddPermission", "lambda:RemovePermission", "lambda:CreateFunctionUrlConfig", "lambda:UpdateFunctionUrlConfig", "lambda:DeleteFunctionUrlConfig", "lambda:CreateEventSourceMapping", "lambda:UpdateEventSourceMapping",
		"lambda:PutRuntimeManagementConfig", "lambda:PublishLayerVersion", "lambda:AddLayerVersionPermission", "lambda:PutFunctionEventInvokeConfig", "lambda:UpdateFunctionEventInvokeConfig", "lambda:PassCapacityProvider", "lambda:PassNetworkConnector", "lambda:RunMicrovm", "lambda:ConnectMicrovm", "lambda:CreateMicrovmImage")},
	{"two-iam", "iam and sts: who is who", all(only(breaks, "iam:PassRole", "iam:UpdateAssumeRolePolicy", "iam:PutRolePolicy", "iam:AttachRolePolicy", "iam:DetachRolePolicy", "iam:DeleteRolePolicy",
		"iam:CreatePolicyVersion", "iam:SetDefaultPolicyVersion", "iam:Put*PermissionsBoundary", "iam:Delete*PermissionsBoundary", "iam:CreateAccessKey", "iam:AddRoleToInstanceProfile", "iam:RemoveRoleFromInstanceProfile", "iam:CreateInstanceProfile", "iam:CreateUser", "iam:CreateRole", "iam:CreateLoginProfile", "iam:CreateSAMLProvider", "iam:UpdateSAMLProvider", "iam:CreateOpenIDConnectProvider", "iam:*OpenIDConnectProviderThumbprint"),
		anywhere(nobody, "sts:AssumeRole", "sts:AssumeRoleWithSAML", "sts:AssumeRoleWithWebIdentity", "sts:AssumeRoot"))},
	{"two-ssm", "ssm: reaching into machines", anywhere(nobody, "ssm:StartSession", "ssm:SendCommand", "ssm:StartAutomationExecution", "ssm:ResumeSession")},
	{"two-stacks", "cloudformation and states: all that change anything", func(p *prover) []string {
		var out []string
		for _, a := range policy.Actions() {
			if service, _, _ := strings.Cut(a.Name, ":"); a.Write() && service == "cloudformation" {
				out = append(out, anywhere(breaks, a.Name)(p)...)
			} else if service == "states" {
				out = append(out, anywhere(nobody, a.Name)(p)...)
			}
		}
		return out
	}},
	{"two-s3", "s3: policies, lifecycle and locks", only(breaks, "s3:PutBucketPolicy", "s3:DeleteBucketPolicy", "s3:PutLifecycleConfiguration", "s3:PutBucketObjectLockConfiguration", "s3:PutBucketVersioning", "s3:PutBucketOwnershipControls",
		"s3:PutBucketPublicAccessBlock", "s3:PutAccountPublicAccessBlock", "s3:PutReplicationConfiguration", "s3:PutBucketNotification", "s3:PutEncryptionConfiguration", "s3:DeleteBucket", "s3:PutBucketAcl", "s3:PutInventoryConfiguration", "s3:CreateAccessPoint", "s3:PutAccessPointPolicy")},
	{"two-signer-release", "signer: signing", only(releases, "signer:StartSigningJob", "signer:RevokeSignature")},
	{"two-signer", "signer: profiles", only(breaks, "signer:SignPayload", "signer:PutSigningProfile", "signer:AddProfilePermission", "signer:RemoveProfilePermission", "signer:CancelSigningProfile", "signer:RevokeSigningProfile")},
	{"two-kms", "kms: policies and availability", only(breaks, "kms:PutKeyPolicy", "kms:DisableKey", "kms:EnableKey", "kms:CreateAlias", "kms:UpdateAlias", "kms:DeleteAlias", "kms:EnableKeyRotation", "kms:DisableKeyRotation", "kms:CreateKey", "kms:TagResource")},
	{"two-kms-nobody", "kms: detours and endings", func(p *prover) []string {
		var out []string
		for _, a := range []string{"kms:CreateGrant", "kms:ReEncryptFrom", "kms:ReEncryptTo", "kms:ReplicateKey", "kms:ScheduleKeyDeletion", "kms:ImportKeyMaterial", "kms:Decapsulate", "kms:DeriveSharedSecret", "kms:RetireGrant", "kms:RevokeGrant", "kms:UpdatePrimaryRegion", "kms:DeleteImportedKeyMaterial"} {
			for _, role := range p.in.Roles() {
				for _, g := range p.can(role, a) {
					if p.ours(g.target) {
						out = append(out, role+" may "+a+" on "+short(g.target))
					}
				}
			}
		}
		return out
	}},
	{"two-dynamodb", "dynamodb: tables", only(breaks, "dynamodb:PutResourcePolicy", "dynamodb:DeleteResourcePolicy", "dynamodb:RestoreTable*", "dynamodb:EnableKinesisStreamingDestination", "dynamodb:UpdateKinesisStreamingDestination",
		"dynamodb:ImportTable", "dynamodb:UpdateTimeToLive", "dynamodb:UpdateTable", "dynamodb:DeleteTable", "dynamodb:UpdateContinuousBackups", "dynamodb:CreateTable", "dynamodb:CreateTableReplica", "dynamodb:CreateGlobalTable", "dynamodb:DeleteBackup", "dynamodb:ExportTableToPointInTime")},
	{"two-trail", "cloudtrail, config, events, logs: what watches", only(breaks, "cloudtrail:StopLogging", "cloudtrail:DeleteTrail", "cloudtrail:UpdateTrail", "cloudtrail:PutEventSelectors", "config:StopConfigurationRecorder", "config:DeleteConfigRule",
		"events:DisableRule", "events:DeleteRule", "events:PutRule", "events:RemoveTargets", "logs:DeleteLogGroup", "logs:DeleteLogStream", "logs:PutRetentionPolicy", "logs:PutSubscriptionFilter", "sns:Unsubscribe", "sns:DeleteTopic", "sns:SetTopicAttributes", "cloudwatch:DeleteAlarms", "cloudwatch:PutMetricAlarm")},
}

// denied says which callers but one a key does not deny the actions to by name;
// not allowing them is not enough, since a grant is another way to allow.
func denied(p *prover, key, but string, actions ...string) []string {
	d, ok := p.in.Guard(p.resolve(key))
	if !ok {
		return []string{key + " has no policy"}
	}
	var out []string
	callers := []string{"arn:aws:iam::" + account + ":root", "arn:aws:iam::" + account + ":role/other", "arn:aws:iam::999999999999:role/x"}
	for _, r := range p.in.Roles() {
		callers = append(callers, p.in.RoleARN(r))
	}
	for _, caller := range callers {
		if but != "" && caller == p.in.RoleARN(but) {
			continue
		}
		for _, a := range actions {
			r := policy.Request{Principal: caller, Action: a, Resource: p.resolve(key), Context: map[string][]string{"aws:PrincipalArn": {caller}}}
			if v, _ := d.Judge(r); v != policy.Denied {
				out = append(out, fmt.Sprintf("%s: %s by %s is %v", key, a, short(caller), v))
			}
		}
	}
	return out
}

// without takes a fact out of an encryption context, withFact puts one in.
func without(c circumstance, fact string) circumstance {
	out := c.and(nothing)
	delete(out.context, "kms:EncryptionContext:"+fact)
	out.context["kms:EncryptionContextKeys"] = slices.DeleteFunc(slices.Clone(out.context["kms:EncryptionContextKeys"]), func(k string) bool { return k == fact })
	out.says += " without " + fact
	return out
}

func withFact(c circumstance, fact, value string) circumstance {
	out := c.and(one("with "+fact, "kms:EncryptionContext:"+fact, value))
	if !slices.Contains(out.context["kms:EncryptionContextKeys"], fact) {
		out.context["kms:EncryptionContextKeys"] = append(slices.Clone(out.context["kms:EncryptionContextKeys"]), fact)
	}
	return out
}
