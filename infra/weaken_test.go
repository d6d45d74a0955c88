package infra_test

import (
	"io/fs"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/stakeseal/stakeseal/infra"
	"github.com/stakeseal/stakeseal/infra/stack"
)

// edit replaces, in a template, the first old behind a mark.
type edit struct{ file, mark, old, new string }

// edited returns the templates with the edits.
func edited(t *testing.T, edits ...edit) fs.FS {
	t.Helper()
	out := fstest.MapFS{}
	for _, short := range stack.Order {
		data, err := fs.ReadFile(infra.Templates, short+".yaml")
		if err != nil {
			t.Fatal(err)
		}
		text := string(data)
		for _, e := range edits {
			if e.file != short {
				continue
			}
			head, rest, ok := strings.Cut(text, e.mark)
			at := strings.Index(rest, e.old)
			if !ok || at < 0 {
				t.Fatalf("%s.yaml has no %q behind %q", e.file, e.old, e.mark)
			}
			text = head + e.mark + rest[:at] + e.new + rest[at+len(e.old):]
		}
		out[short+".yaml"] = &fstest.MapFile{Data: []byte(text)}
	}
	return out
}

const rootStatement = `          - Sid: Root
            Effect: Allow
            Principal: {AWS: !Sub "arn:${AWS::Partition}:iam::${AWS::AccountId}:root"}
            Action: kms:*
            Resource: "*"
`

// Layers that several cases take away.
var (
	keyOpens     = edit{"foundation", "  SigningKey:", "            Action: kms:Encrypt\n", "            Action: [kms:Encrypt, kms:Decrypt]\n"}
	keyDenies    = edit{"foundation", "Sid: NobodyElseOpens", "Action: kms:Decrypt", "Action: kms:ReplicateKey"}
	boundOpens   = edit{"bootstrap", "Sid: OnlySignerAndRecoveryOpen", "Action: kms:Decrypt", "Action: kms:ReplicateKey"}
	boundAlias   = edit{"bootstrap", "Sid: OnlyTheAliasIsCalled", "Action: [lambda:InvokeFunction, lambda:InvokeAsync, lambda:InvokeFunctionUrl]", "Action: lambda:InvokeAsync"}
	auditorMore  = edit{"bootstrap", "  AuditorRole:", "              - Sid: ReadsObjects\n", "              - Sid: More\n                Effect: Allow\n                Action: [dynamodb:UpdateTable, lambda:UpdateFunctionConfiguration]\n                Resource: \"*\"\n              - Sid: ReadsObjects\n"}
	boundRelease = edit{"bootstrap", "Sid: OnlyTheReleaseManagerReleases", "              - lambda:UpdateFunctionCode\n", ""}
)

// factorAsked is what a trust policy asks of a second factor.
const factorAsked = `              Bool: !If [FactorSeen, {"aws:MultiFactorAuthPresent": "true"}, !Ref AWS::NoValue]
              NumericLessThan: !If [FactorSeen, {"aws:MultiFactorAuthAge": "3600"}, !Ref AWS::NoValue]
`

// TestWeakened: each of these changes to the templates, some of them what a
// console or an example suggests, makes a claim fail; where nothing fails, a
// second layer holds, and the case that takes that away too comes next.
func TestWeakened(t *testing.T) {
	for _, c := range []struct {
		name  string
		edits []edit
		fails string // the claim; "" when all hold
	}{
		{"a root statement in a key's policy", []edit{{"foundation", "  SigningKey:", "          - Sid: Seals\n", rootStatement + "          - Sid: Seals\n"}}, "break-glass"},
		{"the key lets the generator decrypt", []edit{keyOpens}, ""},
		{"and its deny is gone", []edit{keyOpens, keyDenies}, "grants"},
		{"and the boundary's", []edit{keyOpens, keyDenies, boundOpens}, "G1"},
		{"a sealing's purpose is not asked for", []edit{{"foundation", "Sid: Seals", "                kms:EncryptionContext:purpose: signing\n", ""}}, "G2"},
		{"a sealing may carry further facts", []edit{{"foundation", "Sid: Seals", "order, index, pubkey]", "order, index, pubkey, note]"}}, "G2"},
		{"a sealing may leave the pubkey out", []edit{{"foundation", "Sid: Seals", "                kms:EncryptionContext:pubkey: \"false\"\n", ""}}, "G2"},
		{"the signer need not say what it opens", []edit{{"foundation", "Sid: Opens", "                kms:EncryptionContext:purpose: signing\n", ""}}, "signer"},
		{"mnemonics by sessions that say there was a second factor, which none does", []edit{{"foundation", "  RecoveryKey:", "                kms:EncryptionContext:purpose: recovery\n          # Nobody", "                kms:EncryptionContext:purpose: recovery\n              Bool: {\"aws:MultiFactorAuthPresent\": \"true\"}\n          # Nobody"}}, "recovery"},
		{"the signer's role opens mnemonics", []edit{{"foundation", "  RecoveryKey:", `role/${Name}-recovery"`, `role/${Name}-signer"`}}, "recovery"},
		{"grants are not denied", []edit{{"foundation", "  SigningKey:", "              - kms:CreateGrant\n", ""}}, "grants"},
		{"nor is re-encryption", []edit{{"foundation", "  RecoveryKey:", "              - kms:ReEncrypt*\n", ""}}, "grants"},
		{"nor a key's deletion", []edit{{"foundation", "  CertifyingKey:", "              - kms:ScheduleKeyDeletion\n", ""}}, "grants"},
		{"the administrator changes key policies", []edit{{"foundation", "Sid: Changes", `role/${Name}-break-glass"`, `role/${Name}-administrator"`}}, "break-glass"},
		{"anything is certified, not only digests", []edit{{"foundation", "Sid: Certifies", "                kms:MessageType: DIGEST\n", ""}}, "certifying"},
		{"the archive's deny of overwriting is gone", []edit{{"foundation", "Sid: OnlyIfAbsent", "Action: s3:PutObject", "Action: s3:PutObjectAcl"}}, "G4-archive"},
		{"it asks for the condition the wrong way round", []edit{{"foundation", "Sid: OnlyIfAbsent", `"s3:if-none-match": "true"`, `"s3:if-none-match": "false"`}}, "generator-may"},
		{"the archive takes If-Match", []edit{{"foundation", "Sid: NoReplacing", "Action: s3:PutObject", "Action: s3:PutObjectAcl"}}, "G4-archive"},
		{"the archive takes copies", []edit{{"foundation", "Sid: NoCopies", "Action: s3:PutObject", "Action: s3:PutObjectAcl"}}, "G4-archive"},
		{"break-glass writes to the archive", []edit{{"foundation", "  ArchivePolicy:", `                  - !Sub "arn:${AWS::Partition}:iam::${AWS::AccountId}:role/${Name}-generator"` + "\n", `                  - !Sub "arn:${AWS::Partition}:iam::${AWS::AccountId}:role/${Name}-generator"` + "\n" + `                  - !Sub "arn:${AWS::Partition}:iam::${AWS::AccountId}:role/${Name}-break-glass"` + "\n"}}, "G4-archive"},
		{"the archive can be emptied", []edit{{"foundation", "Sid: NothingIsTakenAway", "s3:PutObject]", "s3:PutObject, s3:DeleteObjectVersion]"}}, "G4-archive"},
		{"the archive without TLS", []edit{{"foundation", "Sid: TLSOnly", "Effect: Deny", "Effect: Allow"}}, "G4-archive"},
		{"items can be deleted", []edit{{"foundation", "  RecordsTable:", "                - dynamodb:DeleteItem\n", ""}}, "G4-tables"},
		{"items can be updated through PartiQL", []edit{{"foundation", "  EventsTable:", "                - dynamodb:PartiQLUpdate\n", ""}}, "G4-tables"},
		{"anybody puts records", []edit{{"foundation", "  RecordsTable:", "              Action: dynamodb:PutItem\n", "              Action: dynamodb:UpdateItem\n"}}, "records"},
		{"marks can be deleted", []edit{{"foundation", "  LedgerTable:", "                - dynamodb:DeleteItem\n", ""}}, "G4-tables"},
		{"leases can be updated", []edit{{"foundation", "  LeasesTable:", "                - dynamodb:UpdateItem\n", ""}}, "G4-tables"},
		{"anybody writes marks", []edit{{"foundation", "  LedgerTable:", "              Action: dynamodb:PutItem\n", "              Action: dynamodb:UpdateItem\n"}}, "ledger"},
		{"the administrator writes leases", []edit{{"foundation", "  LeasesTable:", `role/${Name}-signer"`, `role/${Name}-administrator"`}}, "ledger"},
		{"the administrator's policy reaches the marks", []edit{{"bootstrap", "Sid: Assigns", `table/${Name}-assignments"`, `table/${Name}-ledger"`}}, "administrator"},
		{"the signer may not write its lease", []edit{{"bootstrap", "Sid: Signs\n                Effect: Allow\n                Action: dynamodb:PutItem", `table/${Name}-leases"`, `table/${Name}-lease"`}}, "ledger"},
		{"the generator reaches every table", []edit{{"bootstrap", "Sid: Records", `table/${Name}-records"`, `table/*"`}}, "generator-least"},
		{"the generator writes imports", []edit{{"bootstrap", "Sid: Births", "[orders, order/*, pubkey/*]", "[orders, order/*, pubkey/*, import/*]"}}, "importer"},
		{"the importer writes births", []edit{{"bootstrap", "Sid: Imports", "[import/*, pubkey/*]", "[\"*\"]"}}, "importer"},
		{"an importer seals births", []edit{{"foundation", "Sid: SealsImports", "                  kms:EncryptionContext:order: imported\n", ""}}, "importer"},
		{"the generator works outside its function", []edit{{"bootstrap", "Sid: NothingOutsideItsFunction", "Effect: Deny", "Effect: Allow"}}, "generator-home"},
		{"in every function", []edit{{"bootstrap", "lambda:SourceFunctionArn:", `function:${Name}-generator"`, `function:*"`}}, "generator-home"},
		{"the account can take the generator's role", []edit{{"bootstrap", "Sid: LambdaOnly", "Principal: {Service: lambda.amazonaws.com}", `Principal: {AWS: !Sub "arn:${AWS::Partition}:iam::${AWS::AccountId}:root"}`}}, "trust"},
		{"EC2 can take the signer's role though nobody asked", []edit{{"bootstrap", "SignerIsMachine: !Equals [!Ref SignerOn, ", "ec2", "principals"}}, "trust"},
		{"the signer's role leads to the recovery holder's", []edit{{"bootstrap", "  RecoveryRole:", "Principal: {AWS: !Ref RecoveryPrincipals}", `Principal: {AWS: !Sub "arn:${AWS::Partition}:iam::${AWS::AccountId}:role/${Name}-signer"}`}}, "trust"},
		{"requesters without a second factor", []edit{{"bootstrap", "  RequesterRole:", factorAsked, ""}}, "factor"},
		{"mnemonics without a second factor", []edit{{"bootstrap", "  RecoveryRole:", factorAsked, ""}}, "factor"},
		{"a developer who releases", []edit{{"bootstrap", "Sid: NoDevelopers", "Effect: Deny", "Effect: Allow"}}, "apart"},
		{"a role taken where nobody is told", []edit{{"bootstrap", "  BreakGlassRole:", `              StringEquals: {"aws:RequestedRegion": !Ref "AWS::Region"}` + "\n", ""}}, "region"},
		{"a role without a factor, taken there", []edit{{"bootstrap", "  AuditorRole:", `            Condition: {StringEquals: {"aws:RequestedRegion": !Ref "AWS::Region"}}` + "\n", ""}}, "region"},
		{"break-glass in every region", []edit{{"bootstrap", "Sid: Installs", `                Condition: {StringEquals: {"aws:RequestedRegion": [!Ref "AWS::Region", us-east-1]}}` + "\n", ""}}, "region"},
		{"its networks too", []edit{{"bootstrap", "Sid: Networks", `                Condition: {StringEquals: {"aws:RequestedRegion": !Ref "AWS::Region"}}` + "\n", ""}}, "region"},
		{"break-glass starts machines", []edit{{"bootstrap", "Sid: Networks", "                    - ec2:CreateVpc\n", "                    - ec2:*\n"}}, "machines"},
		{"and copies disks", []edit{{"bootstrap", "Sid: Networks", "                    - ec2:CreateSubnet\n", "                    - ec2:CreateS*\n"}}, "machines"},
		{"break-glass passes every role", []edit{{"bootstrap", "Sid: PassesNoRoleThatOpens", "Action: iam:PassRole", "Action: iam:CreateUser"}}, "passing"},
		{"the maker's role to any service", []edit{{"bootstrap", "Sid: TheMakerToLambda", "StringNotEquals", "StringEquals"}}, "passing"},
		{"the schedule's to any service", []edit{{"bootstrap", "Sid: TheScheduleToTheScheduler", "StringNotEquals", "StringEquals"}}, "passing"},
		{"a second factor of last week", []edit{{"bootstrap", "  BreakGlassRole:", `"3600"`, `"36000"`}}, "factor"},
		{"a boundary is dropped", []edit{{"bootstrap", "  AuditorRole:", "      PermissionsBoundary: !Ref Boundary\n", ""}}, "boundary"},
		{"and a policy adds what it held back", []edit{{"bootstrap", "  AuditorRole:", "      PermissionsBoundary: !Ref Boundary\n", ""}, auditorMore}, "two-dynamodb"},
		{"a policy alone adds it", []edit{auditorMore}, ""},
		{"requesters call any version", []edit{{"bootstrap", "  RequesterRole:", `-generator:live"`, `-generator:*"`}}, ""},
		{"and the boundary does not hold it back", []edit{{"bootstrap", "  RequesterRole:", `-generator:live"`, `-generator:*"`}, boundAlias}, "alias-only"},
		{"the boundary of callers alone is gone", []edit{boundAlias}, ""},
		{"developers deploy", []edit{{"bootstrap", "  DeveloperRole:", "              - Sid: Submits\n", "              - Sid: Deploys\n                Effect: Allow\n                Action: lambda:UpdateFunctionCode\n                Resource: \"*\"\n              - Sid: Submits\n"}}, ""},
		{"and the boundary lets them", []edit{{"bootstrap", "  DeveloperRole:", "              - Sid: Submits\n", "              - Sid: Deploys\n                Effect: Allow\n                Action: lambda:UpdateFunctionCode\n                Resource: \"*\"\n              - Sid: Submits\n"}, boundRelease}, "two-lambda-release"},
		{"release managers submit", []edit{{"bootstrap", "Sid: WritesSignedAndStatements", `/signed/*"`, `/*"`}}, ""},
		{"and the bucket takes it", []edit{{"bootstrap", "Sid: WritesSignedAndStatements", `/signed/*"`, `/*"`}, {"foundation", "Sid: OnlyDevelopersSubmit", "Action: s3:PutObject", "Action: s3:PutObjectAcl"}}, "release-may-not"},
		{"release managers sign from signed/", []edit{{"bootstrap", "Sid: ReadsWhatIsSigned", "Action: s3:GetObject", "Action: [s3:GetObject, s3:GetObjectVersion]"}}, "release-two"},
		{"release managers delete the function", []edit{{"bootstrap", "Sid: RemovesVersionsNotTheFunction", `-generator:*"`, `-generator*"`}}, "release-may-not"},
		{"the administrator may have roles passed", []edit{{"bootstrap", "Sid: NobodyUndoesAGuarantee", "              - iam:PassRole\n", ""}}, ""},
		{"the certifying key is anybody's", []edit{{"foundation", "Sid: Certifies", `Principal: {AWS: !Sub "arn:${AWS::Partition}:iam::${AWS::AccountId}:role/${Name}-generator"}`, `Principal: "*"`}}, ""},
		{"and denies nobody", []edit{{"foundation", "Sid: Certifies", `Principal: {AWS: !Sub "arn:${AWS::Partition}:iam::${AWS::AccountId}:role/${Name}-generator"}`, `Principal: "*"`}, {"foundation", "Sid: NobodyElseCertifies", "Effect: Deny", "Effect: Allow"}}, "break-glass"},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := everything()
			o.Templates = edited(t, c.edits...)
			in, err := stack.Deploy(o)
			if err != nil {
				t.Fatal(err)
			}
			p := newProver(in)
			for _, claim := range claims {
				if c.fails != "" && claim.id != c.fails {
					continue
				}
				against := claim.against(p)
				switch {
				case c.fails == "" && len(against) > 0:
					t.Errorf("%q fails, though a second layer should hold: %q", claim.id, against)
				case c.fails != "" && len(against) == 0:
					t.Errorf("%q holds all the same", claim.id)
				}
			}
		})
	}
}
