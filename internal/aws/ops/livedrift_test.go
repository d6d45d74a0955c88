package ops

import (
	"errors"
	"net/url"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	cftypes "github.com/aws/aws-sdk-go-v2/service/cloudformation/types"
	trailtypes "github.com/aws/aws-sdk-go-v2/service/cloudtrail/types"
	tabletypes "github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	ruletypes "github.com/aws/aws-sdk-go-v2/service/eventbridge/types"
	iamtypes "github.com/aws/aws-sdk-go-v2/service/iam/types"
	kmstypes "github.com/aws/aws-sdk-go-v2/service/kms/types"
	lambdatypes "github.com/aws/aws-sdk-go-v2/service/lambda/types"
	s3types "github.com/aws/aws-sdk-go-v2/service/s3/types"
	signertypes "github.com/aws/aws-sdk-go-v2/service/signer/types"

	"github.com/stakeseal/stakeseal/certificate"
)

func setPolicy(r *iamtypes.RoleDetail, name string, list ...m) {
	r.RolePolicyList = append(r.RolePolicyList, iamtypes.PolicyDetail{PolicyName: aws.String(name), PolicyDocument: aws.String(url.PathEscape(jsonText(statements(list...))))})
}

func withStatement(policy any, s m) m {
	p := jsonObject(policy)
	p["Statement"] = append(p["Statement"].([]any), jsonObject(s))
	return p
}

const archiveBucket = "stakeseal-hoodi-archive-111122223333"

const recordsTable = "arn:aws:dynamodb:us-east-1:111122223333:table/stakeseal-hoodi-records"

// drifts are the changes that an attacker, or an accident, makes; each gives
// these lines and no other. A line is "state check: beginning of what it says".
var drifts = []struct {
	name   string
	change func(f *liveFake, l *Live)
	want   []string
}{
	// The function.
	{"no function", func(f *liveFake, _ *Live) { f.function["live"] = nil; f.aliases = nil }, []string{
		"changed function: there is no function stakeseal-hoodi-generator with an alias live",
		"changed versions: the alias live does not exist"}},
	{"environment", func(f *liveFake, _ *Live) {
		f.function["live"].Environment = &lambdatypes.EnvironmentResponse{Variables: map[string]string{"AWS_ENDPOINT_URL_KMS": "https://evil.example", "B": "c"}}
	}, []string{"changed function: version 7 has environment variables: AWS_ENDPOINT_URL_KMS, B"}},
	{"environment of the next", func(f *liveFake, _ *Live) {
		f.function[""].Environment = &lambdatypes.EnvironmentResponse{Variables: map[string]string{"SSL_CERT_FILE": "x"}}
	}, []string{"changed function $LATEST: $LATEST has environment variables: SSL_CERT_FILE"}},
	{"environment unreadable", func(f *liveFake, _ *Live) {
		f.function["live"].Environment = &lambdatypes.EnvironmentResponse{Error: &lambdatypes.EnvironmentError{}}
	}, []string{"changed function: version 7 has environment variables: "}},
	{"layer", func(f *liveFake, _ *Live) {
		f.function["live"].Layers = []lambdatypes.Layer{{Arn: aws.String("arn:layer:1")}}
	}, []string{"changed function: version 7 has the layer arn:layer:1"}},
	{"role", func(f *liveFake, _ *Live) { f.function["live"].Role = aws.String(roleARN("signer")) }, []string{"changed function: version 7 runs as " + roleARN("signer")}},
	{"runtime", func(f *liveFake, _ *Live) { f.function["live"].Runtime = "python3.13" }, []string{`changed function: version 7 has the runtime "python3.13"`}},
	{"handler", func(f *liveFake, _ *Live) { f.function["live"].Handler = aws.String("other") }, []string{`changed function: version 7 has the handler "other"`}},
	{"image", func(f *liveFake, _ *Live) { f.function["live"].PackageType = lambdatypes.PackageTypeImage }, []string{"changed function: version 7 is a Image"}},
	{"architecture", func(f *liveFake, _ *Live) {
		f.function["live"].Architectures = []lambdatypes.Architecture{lambdatypes.ArchitectureX8664}
	}, []string{"changed function: version 7 has Architectures x86_64, by the template arm64"}},
	{"own instances", func(f *liveFake, _ *Live) {
		f.function["live"].CapacityProviderConfig = &lambdatypes.CapacityProviderConfig{}
	}, []string{"changed function: version 7 runs on instances of this account"}},
	{"durable", func(f *liveFake, _ *Live) { f.function["live"].DurableConfig = &lambdatypes.DurableConfig{} }, []string{"changed function: version 7 is a durable function"}},
	{"dead letters", func(f *liveFake, _ *Live) {
		f.function["live"].DeadLetterConfig = &lambdatypes.DeadLetterConfig{TargetArn: aws.String("arn:x")}
	}, []string{"changed function: version 7 sends failed events elsewhere"}},
	{"snapshots", func(f *liveFake, _ *Live) {
		f.function["live"].SnapStart = &lambdatypes.SnapStartResponse{ApplyOn: lambdatypes.SnapStartApplyOnPublishedVersions}
	}, []string{"changed function: version 7 keeps snapshots"}},
	{"file system", func(f *liveFake, _ *Live) {
		f.function["live"].FileSystemConfigs = []lambdatypes.FileSystemConfig{{Arn: aws.String("arn:efs"), LocalMountPath: aws.String("/mnt/x")}}
	}, []string{"changed function: version 7 mounts arn:efs at /mnt/x"}},
	{"network", func(f *liveFake, _ *Live) {
		f.function["live"].VpcConfig = &lambdatypes.VpcConfigResponse{SubnetIds: []string{"subnet-1"}, SecurityGroupIds: []string{"sg-1"}}
	}, []string{`changed function: version 7 is in the network "subnet-1 sg-1", by the template in ""`}},
	{"a key of its own", func(f *liveFake, _ *Live) { f.function["live"].KMSKeyArn = aws.String("arn:aws:kms:x") }, []string{"changed function: version 7 uses the KMS key arn:aws:kms:x"}},
	{"another log", func(f *liveFake, _ *Live) {
		f.function["live"].LoggingConfig = &lambdatypes.LoggingConfig{LogFormat: lambdatypes.LogFormatJson, LogGroup: aws.String("/elsewhere")}
	}, []string{"changed function: version 7 logs as JSON, not Text", `changed function: version 7 logs to "/elsewhere", not "/aws/lambda/stakeseal-hoodi-generator"`}},
	{"tracing", func(f *liveFake, _ *Live) {
		f.function["live"].TracingConfig = &lambdatypes.TracingConfigResponse{Mode: lambdatypes.TracingModeActive}
	}, []string{"changed function: version 7 is traced (Active)"}},
	{"storage", func(f *liveFake, _ *Live) {
		f.function["live"].EphemeralStorage = &lambdatypes.EphemeralStorage{Size: aws.Int32(1024)}
	}, []string{"changed function: version 7 has 1024 MB of storage, not 512"}},
	{"started as an image", func(f *liveFake, _ *Live) {
		f.function["live"].ImageConfigResponse = &lambdatypes.ImageConfigResponse{}
	}, []string{"changed function: version 7 is started as an image's"}},
	{"tenants", func(f *liveFake, _ *Live) { f.function["live"].TenancyConfig = &lambdatypes.TenancyConfig{} }, []string{"changed function: version 7 is shared out by tenants"}},
	{"memory", func(f *liveFake, _ *Live) { f.function["live"].MemorySize = aws.Int32(128) }, []string{"changed function: version 7 has MemorySize 128, by the template 1024"}},
	{"timeout", func(f *liveFake, _ *Live) { f.function["live"].Timeout = aws.Int32(3) }, []string{"changed function: version 7 has Timeout 3, by the template 600"}},
	{"concurrency 0", func(f *liveFake, _ *Live) { f.reserved = aws.Int32(0) }, []string{"changed function runtime: reserved concurrency is 0"}},
	{"concurrency", func(f *liveFake, _ *Live) { f.reserved = nil }, []string{`changed function runtime: reserved concurrency is "", by the template "5"`}},
	{"runtime updates", func(f *liveFake, _ *Live) { f.runtime = lambdatypes.UpdateRuntimeOnManual }, []string{"changed function runtime: the runtime is updated on Manual"}},

	// Code signing.
	{"no code signing", func(f *liveFake, _ *Live) { f.signing = nil }, []string{"changed code signing: the function has no code-signing configuration"}},
	{"only a warning", func(f *liveFake, _ *Live) {
		f.signing.CodeSigningPolicies.UntrustedArtifactOnDeployment = lambdatypes.CodeSigningPolicyWarn
	}, []string{"changed code signing: code signing is set to Warn"}},
	{"the default policy", func(f *liveFake, _ *Live) { f.signing.CodeSigningPolicies = nil }, []string{"changed code signing: code signing is set to Warn"}},
	{"another profile", func(f *liveFake, _ *Live) {
		f.signing.AllowedPublishers.SigningProfileVersionArns = append(f.signing.AllowedPublishers.SigningProfileVersionArns, "arn:aws:signer:us-east-1:999988887777:/signing-profiles/Evil/v1")
	}, []string{"changed code signing: it believes " + profileARN + " and arn:aws:signer:us-east-1:999988887777", "changed code signing: the profile arn:aws:signer:us-east-1:999988887777:/signing-profiles/Evil/v1 is another account's"}},
	{"profile canceled", func(f *liveFake, _ *Live) { f.profile.Status = signertypes.SigningProfileStatusCanceled }, []string{"changed code signing: the signing profile StakesealHoodi is Canceled"}},
	{"profile lent", func(f *liveFake, _ *Live) {
		f.permission = []signertypes.Permission{{Action: aws.String("signer:StartSigningJob"), Principal: aws.String("999988887777")}}
	}, []string{"changed code signing: the signing profile StakesealHoodi gives signer:StartSigningJob to 999988887777"}},

	// Versions and other ways in.
	{"an old version", func(f *liveFake, _ *Live) {
		f.versions = slices.Insert(f.versions, 1, lambdatypes.FunctionConfiguration{Version: aws.String("5"), SigningJobArn: aws.String("j"), SigningProfileVersionArn: aws.String(profileARN), LastModified: aws.String("2025")})
	}, []string{"changed versions: version 5 can still be called, of 2025"}},
	{"an old unsigned version", func(f *liveFake, _ *Live) {
		f.versions = slices.Insert(f.versions, 1, lambdatypes.FunctionConfiguration{Version: aws.String("5"), LastModified: aws.String("2025")})
	}, []string{"changed versions: version 5 holds unsigned code (sha256 ); it can still be called, of 2025"}},
	{"an environment to go back to", func(f *liveFake, _ *Live) {
		f.function["6"].Environment = &lambdatypes.EnvironmentResponse{Variables: map[string]string{"HTTPS_PROXY": "x"}}
	}, []string{"changed versions: version 6, to go back to, has environment variables: HTTPS_PROXY"}},
	{"rolled back", func(f *liveFake, _ *Live) { f.aliases[0].FunctionVersion = aws.String("6") }, nil},
	{"unsigned version", func(f *liveFake, _ *Live) { f.versions[1].SigningProfileVersionArn = nil }, []string{"changed versions: version 6 holds unsigned code"}},
	{"signed by another", func(f *liveFake, _ *Live) { f.versions[1].SigningProfileVersionArn = aws.String("arn:other") }, []string{"changed versions: version 6 was signed with arn:other"}},
	{"weights", func(f *liveFake, _ *Live) {
		f.aliases[0].RoutingConfig = &lambdatypes.AliasRoutingConfiguration{AdditionalVersionWeights: map[string]float64{"6": 0.01}}
	}, []string{"changed versions: the alias live sends 1% of its calls to version 6"}},
	{"alias of latest", func(f *liveFake, _ *Live) { f.aliases[0].FunctionVersion = aws.String("$LATEST") }, []string{
		"changed versions: the alias live runs $LATEST", "changed versions: version 6 can still be called, of"}},
	{"alias of nothing", func(f *liveFake, _ *Live) { f.aliases[0].FunctionVersion = aws.String("9") }, []string{
		"changed versions: version 6 can still be called, of", "changed versions: the alias live is for version 9, which is not listed"}},
	{"another alias", func(f *liveFake, _ *Live) {
		f.aliases = append(f.aliases, lambdatypes.AliasConfiguration{Name: aws.String("test"), FunctionVersion: aws.String("6")})
	}, []string{"changed versions: there is another alias: test for version 6"}},
	{"url", func(f *liveFake, _ *Live) {
		f.urls = []lambdatypes.FunctionUrlConfig{{FunctionUrl: aws.String("https://x"), AuthType: lambdatypes.FunctionUrlAuthTypeNone}}
	}, []string{"changed ways in: the function has a URL (https://x, authentication NONE)"}},
	{"event source", func(f *liveFake, _ *Live) {
		f.mappings = []lambdatypes.EventSourceMappingConfiguration{{}, {EventSourceArn: aws.String("arn:aws:sqs:x")}}
	}, []string{"changed ways in: events of ", "changed ways in: events of arn:aws:sqs:x run"}},
	{"answers elsewhere", func(f *liveFake, _ *Live) {
		f.invokes = []lambdatypes.FunctionEventInvokeConfig{{FunctionArn: aws.String("arn:f"), DestinationConfig: &lambdatypes.DestinationConfig{OnSuccess: &lambdatypes.OnSuccess{Destination: aws.String("arn:q")}}}}
	}, []string{"changed ways in: answers of arn:f are sent elsewhere"}},
	{"failures to another queue", func(f *liveFake, _ *Live) {
		f.resources = append(f.resources, Resource{"function", "Failures", "AWS::Lambda::EventInvokeConfig", "x", m{"DestinationConfig": m{"OnFailure": m{"Destination": "arn:queue"}}}})
		to := func(arn string) lambdatypes.FunctionEventInvokeConfig {
			return lambdatypes.FunctionEventInvokeConfig{FunctionArn: aws.String("arn:f"), DestinationConfig: &lambdatypes.DestinationConfig{OnFailure: &lambdatypes.OnFailure{Destination: &arn}}}
		}
		f.invokes = []lambdatypes.FunctionEventInvokeConfig{to("arn:queue"), to("arn:evil")}
	}, []string{"changed ways in: answers of arn:f are sent elsewhere: to arn:evil"}},
	{"permission", func(f *liveFake, _ *Live) {
		f.policies[""] = jsonText(statements(m{"Sid": "x", "Effect": "Allow", "Principal": m{"Service": "s3.amazonaws.com"}, "Action": "lambda:InvokeFunction", "Resource": "arn:f"}))
	}, []string{`changed ways in: the policy of the function has "x": Allow lambda:InvokeFunction to Service:s3.amazonaws.com on arn:f`}},
	{"permission on a version", func(f *liveFake, _ *Live) {
		f.policies["6"] = jsonText(statements(m{"Effect": "Allow", "Principal": "*", "Action": "lambda:*", "Resource": "arn:f"}))
	}, []string{`changed ways in: the policy of the function:6 has statement 1: Allow lambda:* to *`}},

	// What is in force.
	{"other settings here", func(_ *liveFake, l *Live) { l.Settings = certificate.Hash{1} }, []string{"changed release: version 7 obeys the settings "}},
	{"no release named", func(_ *liveFake, l *Live) { l.Trust.Releases = nil }, []string{"warning release: version 7: program "}},
	{"another program", func(_ *liveFake, l *Live) { l.Trust.Releases[0].Binaries = []certificate.Hash{{2}} }, []string{"changed release: version 7: program "}},
	{"revoked release", func(_ *liveFake, l *Live) { l.Trust.Releases[0].Revoked = true }, []string{"changed release: version 7: program "}},
	{"release of a stolen key", func(_ *liveFake, l *Live) {
		l.Trust.Managers = []certificate.TrustedKey{{Name: "rita", Validity: certificate.Validity{Revoked: true}}}
	}, []string{"changed release: version 7: program "}},
	{"ended release", func(_ *liveFake, l *Live) { l.Trust.Releases[0].NotAfter = l.Now.Add(-time.Hour) }, []string{"changed release: version 7: program "}},
	{"code is not what runs", func(f *liveFake, _ *Live) { f.code = append([]byte("x"), f.code...) }, []string{"changed release: the code that Lambda hands out has sha256 "}},
	{"no package", func(f *liveFake, _ *Live) {
		f.code = []byte("no zip")
		f.versions[2].CodeSha256 = aws.String(sha256Text(f.code))
	}, []string{"changed release: version 7 holds something that is no package of ours: zip"}},

	{"a second program", func(f *liveFake, _ *Live) { f.pack("./bootstrap") }, []string{`changed release: version 7 holds something that is no package of ours: it holds "./bootstrap"`}},
	{"a program of the root", func(f *liveFake, _ *Live) { f.pack("/bootstrap") }, []string{`changed release: version 7 holds something that is no package of ours: it holds "/bootstrap"`}},
	{"a library", func(f *liveFake, _ *Live) { f.pack("lib/evil.so") }, []string{`changed release: version 7 holds something that is no package of ours: it holds "lib/evil.so"`}},
	{"a signature and its statements", func(f *liveFake, _ *Live) { f.pack("META-INF/x.RSA", "provenance.json", "sbom.cdx.json") }, nil},

	// Keys.
	{"key pending deletion", func(f *liveFake, _ *Live) {
		f.keys[recoveryKey].KeyState, f.keys[recoveryKey].Enabled, f.keys[recoveryKey].DeletionDate = kmstypes.KeyStatePendingDeletion, false, aws.Time(time.Unix(1800000000, 0))
	}, []string{"changed key recovery: it is PendingDeletion, and is deleted on 2027-01-15"}},
	{"key gone", func(f *liveFake, _ *Live) { f.keys[signingKey] = nil }, []string{"changed key signing: the key " + signingKey + " does not exist any more"}},
	{"another kind of key", func(f *liveFake, _ *Live) { f.keys[certKey].KeySpec = kmstypes.KeySpecEccSecgP256k1 }, []string{"changed key certifying: it is a key ECC_SECG_P256K1 for SIGN_VERIFY"}},
	{"imported material", func(f *liveFake, _ *Live) { f.keys[signingKey].Origin = kmstypes.OriginTypeExternal }, []string{"changed key signing: its material comes from EXTERNAL"}},
	{"multi-Region", func(f *liveFake, _ *Live) { f.keys[signingKey].MultiRegion = aws.Bool(true) }, []string{"changed key signing: it is a multi-Region key"}},
	{"own key store", func(f *liveFake, _ *Live) { f.keys[signingKey].CustomKeyStoreId = aws.String("cks-1") }, []string{"changed key signing: it is kept in a key store of somebody's own"}},
	{"rotation", func(f *liveFake, _ *Live) { f.rotated[signingKey] = true }, []string{"changed key signing: yearly rotation is on, by the template off"}},
	{"grant", func(f *liveFake, _ *Live) {
		f.grants[signingKey] = []kmstypes.GrantListEntry{{GrantId: aws.String("g1"), GranteePrincipal: aws.String(roleARN("requester")), Operations: []kmstypes.GrantOperation{kmstypes.GrantOperationDecrypt}}, {GrantId: aws.String("g2"), GranteeServicePrincipal: aws.String("dynamodb.amazonaws.com")}}
	}, []string{
		"changed key signing grants: a grant of an unknown time lets stakeseal-hoodi-requester Decrypt (grant g1)",
		"changed key signing grants: a grant of an unknown time lets dynamodb.amazonaws.com  (grant g2)"}},
	{"generator may open", func(f *liveFake, _ *Live) {
		f.policy[signingKey] = statements(append(listOf(keyPolicy("signing", "signer"), 0, 1, 3, 4), m{"Sid": "Oops", "Effect": "Allow", "Principal": m{"AWS": roleARN("generator")}, "Action": "kms:D*", "Resource": "*"})...)
	}, []string{
		`changed key signing policy: its policy is not the template's: it has "Oops": Allow kms:D* to ` + roleARN("generator"),
		"changed key signing opens: stakeseal-hoodi-generator may kms:Decrypt (Oops)",
		"changed key signing opens: stakeseal-hoodi-generator may kms:Decapsulate (Oops)",
		"changed key signing opens: stakeseal-hoodi-generator may kms:DeriveSharedSecret (Oops)",
		"changed key signing can destroy it: stakeseal-hoodi-generator may kms:DisableKey (Oops)",
		"changed key signing can destroy it: stakeseal-hoodi-generator may kms:DeleteImportedKeyMaterial (Oops)"}},
	{"the account decides", func(f *liveFake, _ *Live) {
		f.policy[certKey] = withStatement(f.policy[certKey], m{"Sid": "Root", "Effect": "Allow", "Principal": m{"AWS": "arn:aws:iam::111122223333:root"}, "Action": "kms:Sign", "Resource": "*"})
	}, []string{
		`changed key certifying policy: its policy is not the template's: it has "Root"`,
		"changed key certifying signs: " + certKey + ": Root gives kms:Sign to the whole account"}},
	{"everyone under a condition", func(f *liveFake, _ *Live) {
		f.policy[certKey] = withStatement(f.policy[certKey], m{"Sid": "Any", "Effect": "Allow", "Principal": "*", "Action": "kms:Sign", "Resource": "*", "Condition": m{"StringEquals": m{"kms:CallerAccount": testAccount}}})
	}, []string{
		`changed key certifying policy: its policy is not the template's: it has "Any"`,
		"changed key certifying signs: * may kms:Sign (Any, if kms:CallerAccount StringEquals 111122223333)"}},
	{"opening under another condition, without templates", func(f *liveFake, l *Live) {
		l.Template = nil
		f.policy[signingKey] = withStatement(listless(f.policy[signingKey]), m{"Sid": "Hoodi", "Effect": "Allow", "Principal": m{"AWS": roleARN("auditor")}, "Action": "kms:Decrypt", "Resource": "*", "Condition": m{"StringEquals": m{"kms:EncryptionContext:network": "hoodi", "kms:EncryptionContext:order": "monthly-1"}}})
	}, []string{
		"unseen templates: this program has no templates", unsized[0], unsized[1], unsized[2],
		"changed key signing policy: no statement denies kms:Decrypt to everybody but its opener",
		"changed key signing policy: no statement denies kms:CreateGrant to everybody",
		"changed key signing policy: no statement denies kms:ReplicateKey to everybody",
		"changed key signing policy: no statement denies kms:ReEncryptFrom to everybody",
		"changed key signing policy: no statement denies kms:ReEncryptTo to everybody",
		"changed key signing opens: stakeseal-hoodi-auditor may kms:Decrypt (Hoodi, if ",
		"warning table records: it has no resource policy", "warning table assignments: it has no resource policy", "warning table events: it has no resource policy", "warning table ledger: it has no resource policy", "warning table leases: it has no resource policy",
		"warning role auditor: not compared", "warning role break-glass: not compared", "warning role generator: not compared",
		"warning role release-manager: not compared", "warning role requester: not compared", "warning role signer: not compared"}},
	{"all but", func(f *liveFake, _ *Live) {
		f.policy[certKey] = withStatement(f.policy[certKey], m{"Sid": "Not", "Effect": "Allow", "NotPrincipal": m{"AWS": roleARN("signer")}, "NotAction": []string{"kms:PutKeyPolicy", "kms:S*D*", "kms:Dis*", "kms:Del*", "kms:Cre*", "kms:Rep*", "kms:Imp*", "kms:Up*", "kms:Sy*"}, "Resource": "*"})
	}, []string{
		`changed key certifying policy: its policy is not the template's: it has "Not"`,
		"changed key certifying signs: * may kms:Sign (Not)"}},
	{"a policy of another language", func(f *liveFake, _ *Live) { f.policy[certKey] = `{"Version":"2012-10-17","Statement":[],"Magic":1}` }, []string{"changed key certifying policy: not a policy that this program understands"}},
	{"the caller may open", func(f *liveFake, _ *Live) { f.opener = "signer" }, []string{"changed key signing dry run: KMS would let stakeseal-hoodi-auditor open"}},
	{"the signer may", func(f *liveFake, l *Live) { f.opener, l.Caller.Role = "signer", testName+"-signer" }, nil},
	{"the signer may not here", func(f *liveFake, l *Live) {
		p := withStatement(f.policy[signingKey], m{"Sid": "Factor", "Effect": "Deny", "Principal": "*", "Action": "kms:Decrypt", "Resource": "*", "Condition": m{"BoolIfExists": m{"aws:MultiFactorAuthPresent": "false"}}})
		f.policy[signingKey] = p
		for i := range f.resources {
			if f.resources[i].PhysicalID == keyID(signingKey) {
				f.resources[i].Properties["KeyPolicy"] = p
			}
		}
		l.Caller.Role = testName + "-signer"
	}, []string{"warning key signing dry run: KMS denies it to stakeseal-hoodi-signer here and now; the policy asks for more: aws:MultiFactorAuthPresent BoolIfExists false"}},
	{"the signer may not", func(_ *liveFake, l *Live) { l.Caller.Role = testName + "-signer" }, []string{"changed key signing dry run: KMS denies it to stakeseal-hoodi-signer, whose right it is"}},

	// Tables and buckets.
	{"table gone", func(f *liveFake, _ *Live) { f.tables[recordsTable] = nil }, []string{"changed table records: it does not exist any more"}},
	{"deletion protection", func(f *liveFake, _ *Live) { f.tables[recordsTable].DeletionProtectionEnabled = nil }, []string{"changed table records: deletion protection is off"}},
	{"provisioned", func(f *liveFake, _ *Live) { f.tables[recordsTable].BillingModeSummary = nil }, []string{"changed table records: it is not on demand"}},
	{"point-in-time recovery", func(f *liveFake, _ *Live) { f.pitr[recordsTable] = false }, []string{"changed table records: point-in-time recovery is off"}},
	{"time to live", func(f *liveFake, _ *Live) { f.ttl[recordsTable] = "x" }, []string{`changed table records: items are deleted by their attribute "x"`}},
	{"stream", func(f *liveFake, _ *Live) {
		f.tables[recordsTable].StreamSpecification = &tabletypes.StreamSpecification{StreamEnabled: aws.Bool(true)}
	}, []string{"changed table records: its changes are streamed"}},
	{"kinesis", func(f *liveFake, _ *Live) { f.streams[recordsTable] = "arn:k" }, []string{"changed table records: its changes are streamed to arn:k"}},
	{"replica", func(f *liveFake, _ *Live) {
		f.tables[recordsTable].Replicas = []tabletypes.ReplicaDescription{{RegionName: aws.String("eu-west-1")}}
	}, []string{"changed table records: it is replicated to eu-west-1"}},
	{"restored", func(f *liveFake, _ *Live) {
		f.tables[recordsTable].RestoreSummary = &tabletypes.RestoreSummary{RestoreDateTime: aws.Time(time.Unix(1790000000, 0))}
	}, []string{"changed table records: it was restored from a backup of 2026-09-21"}},
	{"index", func(f *liveFake, _ *Live) {
		f.tables[recordsTable].GlobalSecondaryIndexes = []tabletypes.GlobalSecondaryIndexDescription{{IndexName: aws.String("i"), KeySchema: []tabletypes.KeySchemaElement{{AttributeName: aws.String("a")}}}}
	}, []string{`changed table records: its keys and indexes are "pk,sk global i:a", not "pk,sk"`}},
	{"table policy", func(f *liveFake, _ *Live) {
		f.tablep[recordsTable] = jsonText(statements(m{"Sid": "x", "Effect": "Allow", "Principal": m{"AWS": "999988887777"}, "Action": "dynamodb:*", "Resource": recordsTable}))
	}, []string{`changed table records: its resource policy has "x": Allow dynamodb:* to 999988887777`}},
	{"table policy that denies", func(f *liveFake, _ *Live) {
		f.tablep[recordsTable] = jsonText(statements(m{"Sid": "x", "Effect": "Deny", "Principal": "*", "Action": "dynamodb:DeleteTable", "Resource": recordsTable}))
	}, nil},
	{"bucket gone", func(f *liveFake, _ *Live) { delete(f.bucketp, archiveBucket) }, []string{"changed bucket archive: it does not exist any more"}},
	{"versioning", func(f *liveFake, _ *Live) { f.versioning[archiveBucket] = s3types.BucketVersioningStatusSuspended }, []string{`changed bucket archive: versioning is "Suspended"`}},
	{"object lock", func(f *liveFake, _ *Live) { f.lock[archiveBucket] = nil }, []string{"changed bucket archive: object lock is off"}},
	{"no retention", func(f *liveFake, _ *Live) { f.lock[archiveBucket].Rule = nil }, []string{"changed bucket archive: object lock has no default retention"}},
	{"another retention", func(f *liveFake, _ *Live) {
		f.lock[archiveBucket].Rule.DefaultRetention.Mode = s3types.ObjectLockRetentionModeGovernance
	}, []string{"changed bucket archive: object lock keeps for GOVERNANCE 30 days, by the template for COMPLIANCE 30 days"}},
	{"public", func(f *liveFake, _ *Live) { f.open[archiveBucket] = true }, []string{"changed bucket archive: public access is not blocked in all four ways"}},
	{"acls", func(f *liveFake, _ *Live) { f.acls[archiveBucket] = true }, []string{"changed bucket archive: objects belong to whoever puts them"}},
	{"replication", func(f *liveFake, _ *Live) { f.replicas[archiveBucket] = "arn:aws:s3:::evil" }, []string{"changed bucket archive: it is replicated to arn:aws:s3:::evil"}},
	{"lifecycle", func(f *liveFake, _ *Live) {
		f.lifecycle[archiveBucket] = []s3types.LifecycleRule{{ID: aws.String("a"), Status: s3types.ExpirationStatusEnabled, Expiration: &s3types.LifecycleExpiration{Days: aws.Int32(1)}},
			{ID: aws.String("b"), Status: s3types.ExpirationStatusDisabled, Expiration: &s3types.LifecycleExpiration{Days: aws.Int32(1)}},
			{ID: aws.String("c"), Status: s3types.ExpirationStatusEnabled, Transitions: []s3types.Transition{{}}}}
	}, []string{`changed bucket archive: the lifecycle rule "a" deletes objects`, `warning bucket archive: the lifecycle rule "c" moves`}},
	{"the template's own lifecycle", func(f *liveFake, _ *Live) {
		for i := range f.resources {
			if f.resources[i].PhysicalID == archiveBucket {
				f.resources[i].Properties["LifecycleConfiguration"] = jsonObject(m{"Rules": []m{{"Id": "keep", "ExpirationInDays": "90"}}})
			}
		}
		f.lifecycle[archiveBucket] = []s3types.LifecycleRule{{ID: aws.String("keep"), Status: s3types.ExpirationStatusEnabled, Expiration: &s3types.LifecycleExpiration{Days: aws.Int32(1)}}}
	}, []string{`changed bucket archive: the lifecycle rule "keep" deletes objects after "1" days, by the template "90"`}},
	{"no bucket policy", func(f *liveFake, _ *Live) { f.bucketp[archiveBucket] = nil }, []string{
		`changed bucket archive: its policy is not the template's: it lacks "TLS"`,
		"changed bucket archive: its policy does not refuse calls without TLS",
		"changed bucket archive: its policy does not refuse a PutObject without If-None-Match"}},
	{"overwriting allowed to one", func(f *liveFake, _ *Live) {
		p := bucketPolicy(archiveBucket, true)
		p["Statement"].([]any)[1].(m)["NotPrincipal"] = m{"AWS": roleARN("requester")}
		delete(p["Statement"].([]any)[1].(m), "Principal")
		f.bucketp[archiveBucket] = p
	}, []string{"changed bucket archive: its policy is not the template's: it has "}},
	{"bucket opened", func(f *liveFake, _ *Live) {
		f.bucketp[archiveBucket] = withStatement(f.bucketp[archiveBucket], m{"Sid": "x", "Effect": "Allow", "Principal": m{"AWS": "999988887777"}, "Action": "s3:*", "Resource": "*"})
	}, []string{`changed bucket archive: its policy is not the template's: it has "x": Allow s3:* to 999988887777`}},

	// The trail.
	{"no trail", func(f *liveFake, _ *Live) { f.trail = nil }, []string{"changed trail: no trail writes to stakeseal-hoodi-trail-111122223333"}},
	{"no trail, and none was deployed", func(f *liveFake, _ *Live) {
		f.trail = nil
		f.resources = slices.DeleteFunc(f.resources, func(r Resource) bool { return r.Type == "AWS::CloudTrail::Trail" })
		delete(f.bucketp, "stakeseal-hoodi-trail-111122223333")
	}, []string{"warning trail: there is no trail: only the account's own history"}},
	{"an organisation's trail", func(f *liveFake, _ *Live) {
		f.trail = &trailtypes.Trail{Name: aws.String("org"), S3BucketName: aws.String("elsewhere"), IsOrganizationTrail: aws.Bool(true)}
		f.resources = slices.DeleteFunc(f.resources, func(r Resource) bool { return r.Type == "AWS::CloudTrail::Trail" })
	}, []string{"warning trail: the installation has no trail of its own; org writes to elsewhere, which was not judged"}},
	{"stopped", func(f *liveFake, _ *Live) { f.stopped = true }, []string{"changed trail: it is stopped"}},
	{"one region", func(f *liveFake, _ *Live) { f.trail.IsMultiRegionTrail = nil }, []string{"changed trail: it covers one region only"}},
	{"no global services", func(f *liveFake, _ *Live) { f.trail.IncludeGlobalServiceEvents = aws.Bool(false) }, []string{"changed trail: it leaves out the global services"}},
	{"unsigned files", func(f *liveFake, _ *Live) { f.trail.LogFileValidationEnabled = nil }, []string{"changed trail: its files are not signed"}},
	{"without KMS", func(f *liveFake, _ *Live) {
		f.selectors.AdvancedEventSelectors[0].FieldSelectors = append(f.selectors.AdvancedEventSelectors[0].FieldSelectors, trailtypes.AdvancedFieldSelector{Field: aws.String("eventSource"), NotEquals: []string{"kms.amazonaws.com"}})
	}, []string{"changed trail: it leaves out the events of kms.amazonaws.com"}},
	{"writes only", func(f *liveFake, _ *Live) {
		f.selectors.AdvancedEventSelectors[0].FieldSelectors = append(f.selectors.AdvancedEventSelectors[0].FieldSelectors, trailtypes.AdvancedFieldSelector{Field: aws.String("readOnly"), Equals: []string{"false"}})
	}, []string{"changed trail: it leaves out management events"}},
	{"classic selectors", func(f *liveFake, _ *Live) {
		f.selectors.AdvancedEventSelectors = nil
		f.selectors.EventSelectors = []trailtypes.EventSelector{{ReadWriteType: trailtypes.ReadWriteTypeAll, ExcludeManagementEventSources: []string{"kms.amazonaws.com"}, DataResources: []trailtypes.DataResource{
			{Type: aws.String("AWS::Lambda::Function"), Values: []string{"arn:aws:lambda"}}, {Type: aws.String("AWS::S3::Object"), Values: []string{"arn:aws:s3:::" + archiveBucket + "/"}}}}}
	}, []string{"changed trail: it leaves out the events of kms.amazonaws.com", "warning trail data events: not kept for " + recordsTable}},
	{"no data events", func(f *liveFake, _ *Live) {
		f.selectors.AdvancedEventSelectors = f.selectors.AdvancedEventSelectors[:1]
	}, []string{
		"warning trail data events: not kept for " + recordsTable, "warning trail data events: not kept for arn:aws:s3:::" + archiveBucket, "warning trail data events: not kept for arn:aws:lambda:"}},
	{"alarm off", func(f *liveFake, _ *Live) { f.rules[0].State = ruletypes.RuleStateDisabled }, []string{"changed alarms: the rule stakeseal-hoodi-watch is off"}},
	{"alarm for writes only", func(f *liveFake, _ *Live) {
		for i := range f.resources {
			if f.resources[i].Type == "AWS::Events::Rule" {
				f.resources[i].Properties["State"] = "ENABLED_WITH_ALL_CLOUDTRAIL_MANAGEMENT_EVENTS"
			}
		}
	}, []string{"changed alarms: the rule stakeseal-hoodi-watch is ENABLED, by the template ENABLED_WITH_ALL"}},
	{"alarm gone", func(f *liveFake, _ *Live) { f.rules = nil }, []string{"changed alarms: the rule stakeseal-hoodi-watch is gone"}},
	{"alarm for nobody", func(f *liveFake, _ *Live) { f.targets = nil }, []string{"changed alarms: the rule stakeseal-hoodi-watch has no target"}},
	{"alarm for another", func(f *liveFake, _ *Live) { f.targets["stakeseal-hoodi-watch"] = []string{"arn:other"} }, []string{"changed alarms: the rule stakeseal-hoodi-watch tells arn:other"}},
	{"alarm of less", func(f *liveFake, _ *Live) {
		f.rules[0].EventPattern = aws.String(`{"detail":{"eventName":["AssumeRole"]}}`)
	}, []string{"changed alarms: the rule stakeseal-hoodi-watch has another pattern"}},
	{"no alarms installed", func(f *liveFake, _ *Live) {
		f.rules = nil
		f.resources = slices.DeleteFunc(f.resources, func(r Resource) bool { return r.Stack == "watch" })
	}, []string{"warning alarms: nobody is told at once of PutKeyPolicy, CreateGrant"}},

	// People.
	{"root keys", func(f *liveFake, _ *Live) { f.summary["AccountAccessKeysPresent"] = 1 }, []string{"changed root user: the root user has access keys"}},
	{"root without a factor", func(f *liveFake, _ *Live) { f.summary["AccountMFAEnabled"] = 0 }, []string{"changed root user: the root user has no second factor"}},
	{"root without anything", func(f *liveFake, _ *Live) { f.summary["AccountMFAEnabled"], f.summary["AccountPasswordPresent"] = 0, 0 }, nil},
	{"a user with keys", func(f *liveFake, _ *Live) {
		f.users = []iamtypes.UserDetail{{Arn: aws.String("arn:aws:iam::111122223333:user/bob"), UserName: aws.String("bob")}}
		f.keysOf["bob"] = 2
	}, []string{"changed users: user bob has 2 active access keys"}},
	{"a user without", func(f *liveFake, _ *Live) {
		f.users = []iamtypes.UserDetail{{Arn: aws.String("arn:aws:iam::111122223333:user/bob"), UserName: aws.String("bob")}}
	}, []string{"warning users: there is a user bob"}},
	{"a user's group", func(f *liveFake, _ *Live) {
		f.users = []iamtypes.UserDetail{{Arn: aws.String("arn:aws:iam::111122223333:user/bob"), UserName: aws.String("bob"), GroupList: []string{"admins"}}}
		f.managed["arn:aws:iam::aws:policy/IAMFullAccess"] = statements(m{"Effect": "Allow", "Action": "iam:*", "Resource": "*"})
		f.groups = []iamtypes.GroupDetail{{GroupName: aws.String("admins"), AttachedManagedPolicies: []iamtypes.AttachedPolicy{{PolicyArn: aws.String("arn:aws:iam::aws:policy/IAMFullAccess")}}}}
	}, []string{"changed outsiders: user bob may change rights, change policies, make users and keys, hand out secret roles", "warning users: there is a user bob"}},
	{"a role beside", func(f *liveFake, _ *Live) {
		f.roles["x"] = &iamtypes.RoleDetail{Arn: aws.String("arn:aws:iam::111122223333:role/OrganizationAccountAccessRole"), RoleName: aws.String("OrganizationAccountAccessRole"), Path: aws.String("/")}
		setPolicy(f.roles["x"], "admin", m{"Effect": "Allow", "NotAction": "iam:*", "Resource": "*"})
	}, []string{"changed outsiders: OrganizationAccountAccessRole may change the maker, sign packages, run the generator past its alias, change stacks, write records, change or delete records, write marks and leases, change or delete marks and leases, change the archive, blind the trail, reach machines"}},
	{"a role that you know", func(f *liveFake, l *Live) {
		f.roles["x"] = &iamtypes.RoleDetail{Arn: aws.String("arn:aws:iam::111122223333:role/admin"), RoleName: aws.String("admin"), Path: aws.String("/")}
		setPolicy(f.roles["x"], "admin", m{"Effect": "Allow", "Action": "*", "Resource": "*"})
		l.Known = []string{"arn:aws:iam::111122223333:role/admin"}
	}, nil},
	{"a harmless role beside", func(f *liveFake, _ *Live) {
		f.roles["x"] = &iamtypes.RoleDetail{Arn: aws.String("arn:aws:iam::111122223333:role/logs"), RoleName: aws.String("logs"), Path: aws.String("/")}
		setPolicy(f.roles["x"], "p", m{"Effect": "Allow", "Action": []string{"logs:Get*", "lambda:Get*", "sts:GetCallerIdentity", "s3:List*"}, "Resource": "*"}, m{"Effect": "Allow", "Action": "logs:*", "Resource": "arn:aws:logs:*:111122223333:log-group:/app/*"}, m{"Effect": "Allow", "Action": "lambda:*", "Resource": "arn:aws:lambda:us-east-1:111122223333:function:another"})
	}, nil},
	{"the generator's role for others", func(f *liveFake, _ *Live) {
		f.roles["generator"].AssumeRolePolicyDocument = aws.String(url.PathEscape(jsonText(statements(
			m{"Sid": "Lambda", "Effect": "Allow", "Principal": m{"Service": "lambda.amazonaws.com"}, "Action": "sts:AssumeRole"},
			m{"Sid": "Me", "Effect": "Allow", "Principal": m{"AWS": roleARN("requester")}, "Action": "sts:AssumeRole"}))))
	}, []string{
		"changed role generator: stakeseal-hoodi-requester can take it (Me)",
		`changed role generator: its policy is not the template's: it has "Me"`}},
	{"a second factor less", func(f *liveFake, _ *Live) {
		p := trust("recovery")
		delete(p["Statement"].([]any)[0].(m), "Condition")
		f.roles["signer"].AssumeRolePolicyDocument = aws.String(url.PathEscape(jsonText(p)))
	}, []string{`changed role signer: its policy is not the template's: it has "People"`}},
	{"a policy more", func(f *liveFake, _ *Live) {
		setPolicy(f.roles["requester"], "more", m{"Effect": "Allow", "Action": "lambda:InvokeFunction", "Resource": "*"})
	}, []string{
		"changed role requester: it has the policy more, which the template has not",
		"changed may run the generator past its alias: stakeseal-hoodi-requester may lambda:InvokeFunction"}},
	{"a policy less", func(f *liveFake, _ *Live) { f.roles["requester"].RolePolicyList = nil }, []string{"changed role requester: it lacks the template's policy requester"}},
	{"an attached policy", func(f *liveFake, _ *Live) {
		f.managed["arn:aws:iam::aws:policy/AdministratorAccess"] = statements(m{"Effect": "Allow", "Action": "*", "Resource": "*"})
		f.roles["auditor"].AttachedManagedPolicies = []iamtypes.AttachedPolicy{{PolicyArn: aws.String("arn:aws:iam::aws:policy/AdministratorAccess")}}
	}, []string{ // within the boundary, which knows neither IAM's changes nor deletions
		"changed role auditor: the policy arn:aws:iam::aws:policy/AdministratorAccess is attached",
		"changed may change the maker: stakeseal-hoodi-auditor may lambda:UpdateFunctionCode, lambda:UpdateFunctionConfiguration, lambda:PublishVersion, lambda:UpdateAlias and more",
		"changed may sign packages: stakeseal-hoodi-auditor may signer:StartSigningJob",
		"changed may run the generator past its alias: stakeseal-hoodi-auditor may lambda:InvokeFunction",
		"changed may write records: stakeseal-hoodi-auditor may dynamodb:PutItem",
		"changed may change or delete records: stakeseal-hoodi-auditor may dynamodb:UpdateItem",
		"changed may write marks and leases: stakeseal-hoodi-auditor may dynamodb:PutItem",
		"changed may change or delete marks and leases: stakeseal-hoodi-auditor may dynamodb:UpdateItem",
		"changed may change the archive: stakeseal-hoodi-auditor may s3:PutBucketPolicy",
		"changed may blind the trail: stakeseal-hoodi-auditor may s3:PutBucketPolicy, s3:PutLifecycleConfiguration"}},
	{"no boundary", func(f *liveFake, _ *Live) { f.roles["requester"].PermissionsBoundary = nil }, []string{`changed role requester: its boundary is "", by the template "` + boundaryARN}},
	{"a wider boundary", func(f *liveFake, _ *Live) {
		f.managed[boundaryARN] = statements(m{"Sid": "All", "Effect": "Allow", "Action": "*", "Resource": "*"})
	}, []string{`changed policy Boundary: its policy is not the template's: it has "All"`}},
	{"boundary gone", func(f *liveFake, _ *Live) { delete(f.managed, boundaryARN) }, []string{"changed policy Boundary: " + boundaryARN + " is gone"}},
	{"role gone", func(f *liveFake, _ *Live) { delete(f.roles, "signer") }, []string{"changed role stakeseal-hoodi-signer: it is gone"}},
	{"a role of ours that no template makes", func(f *liveFake, _ *Live) {
		f.roles["spy"] = &iamtypes.RoleDetail{Arn: aws.String(roleARN("spy")), RoleName: aws.String(testName + "-spy"), Path: aws.String("/"), AssumeRolePolicyDocument: aws.String(jsonText(trust("spy")))}
		setPolicy(f.roles["spy"], "p", m{"Effect": "Allow", "Action": "cloudtrail:StopLogging", "Resource": "*"})
	}, []string{
		"changed role spy: no template makes it; taken by arn:aws:iam::444455556666:role/spy",
		"changed may blind the trail: stakeseal-hoodi-spy may cloudtrail:StopLogging",
		"changed outsiders: stakeseal-hoodi-spy may cloudtrail:StopLogging, on patterns"}},
	{"IAM would let it open", func(f *liveFake, _ *Live) { f.simulate = iamtypes.PolicyEvaluationDecisionTypeAllowed }, []string{
		"changed generator cannot open: IAM lets the generator kms:Decrypt on " + signingKey, "changed generator cannot open: IAM lets the generator kms:Decrypt on " + recoveryKey,
		"changed generator cannot open: IAM lets the generator kms:ReEncryptFrom on " + signingKey, "changed generator cannot open: IAM lets the generator kms:ReEncryptFrom on " + recoveryKey,
		"changed generator cannot open: IAM lets the generator kms:CreateGrant on " + signingKey, "changed generator cannot open: IAM lets the generator kms:CreateGrant on " + recoveryKey,
		"changed generator cannot open: IAM lets the generator kms:PutKeyPolicy on " + signingKey, "changed generator cannot open: IAM lets the generator kms:PutKeyPolicy on " + recoveryKey}},

	// Stacks.
	{"another template", func(f *liveFake, _ *Live) { f.bodies["function"] = "another" }, []string{"changed stack function: it was deployed from another template"}},
	{"a whole account", func(f *liveFake, _ *Live) {
		f.parameter("bootstrap", "SignerPrincipals", "arn:aws:iam::444455556666:root")
		f.fail["Resolve"] = errors.New("parameter SignerPrincipals: refused")
	}, append([]string{
		"changed parameters: SignerPrincipals names arn:aws:iam::444455556666:root: everybody",
		"changed templates: the templates refuse the stacks' parameters: parameter SignerPrincipals"}, append(slices.Clone(unsized), uncompared...)...)},
	{"a pattern", func(f *liveFake, _ *Live) {
		f.parameter("bootstrap", "BreakGlassPrincipals", "arn:aws:iam::444455556666:role/a,arn:aws:iam::444455556666:role/b*")
	}, []string{"changed parameters: BreakGlassPrincipals names arn:aws:iam::444455556666:role/b*: everybody"}},
	{"people of this account", func(f *liveFake, _ *Live) {
		f.parameter("bootstrap", "BreakGlassPrincipals", "arn:aws:iam::111122223333:role/attacker")
	}, []string{"warning parameters: people of this account, where whoever may change IAM becomes them: BreakGlassPrincipals attacker"}},
	{"the provider's factor", func(f *liveFake, _ *Live) { f.parameter("bootstrap", "SecondFactor", "provider") }, []string{"warning parameters: SecondFactor=provider"}},
	{"an importer", func(f *liveFake, _ *Live) {
		f.parameter("bootstrap", "ImporterPrincipals", "arn:aws:iam::444455556666:role/a")
		f.parameter("foundation", "Importer", "on")
	}, []string{"warning parameters: ImporterPrincipals=arn:aws:iam::444455556666:role/a", "warning parameters: Importer=on"}},
	{"a launch", func(f *liveFake, _ *Live) {
		f.parameter("bootstrap", "SignerOn", "ec2")
		f.parameter("bootstrap", "SignerLaunch", "on")
	}, []string{"warning parameters: SignerLaunch=on"}},
	{"no launch", func(f *liveFake, _ *Live) { f.parameter("bootstrap", "SignerLaunch", "on") }, nil},
	{"one person for a release", func(f *liveFake, _ *Live) {
		f.parameter("bootstrap", "DeveloperPrincipals", "arn:aws:iam::444455556666:role/a, arn:aws:iam::444455556666:role/b")
		f.parameter("bootstrap", "ReleaseManagerPrincipals", "arn:aws:iam::444455556666:role/c,arn:aws:iam::444455556666:role/b")
	}, []string{"warning parameters: arn:aws:iam::444455556666:role/b is developer and release manager"}},
	{"line ends", func(f *liveFake, _ *Live) { f.bodies["function"] = "template of function\r\n" }, nil},
	{"in between", func(f *liveFake, _ *Live) {
		f.stacks[testName+"-function"].StackStatus = cftypes.StackStatusUpdateRollbackFailed
	}, []string{"changed stack function: it is UPDATE_ROLLBACK_FAILED"}},
	{"unprotected", func(f *liveFake, _ *Live) { f.stacks[testName+"-function"].EnableTerminationProtection = nil }, []string{"warning stack function: termination protection is off"}},
}

// unsized are the lines about a function that no template describes.
var unsized = []string{"warning function: version 7 has MemorySize 1024 and Timeout 600, and no template says", "warning function $LATEST: $LATEST has MemorySize", "warning versions: version 6, to go back to, has MemorySize"}

// uncompared are the lines of roles where no template can be resolved.
var uncompared = []string{
	"warning table records: it has no resource policy", "warning table assignments: it has no resource policy", "warning table events: it has no resource policy", "warning table ledger: it has no resource policy", "warning table leases: it has no resource policy",
	"warning role auditor: not compared", "warning role break-glass: not compared", "warning role generator: not compared",
	"warning role release-manager: not compared", "warning role requester: not compared", "warning role signer: not compared"}

// parameter gives a stack one more parameter.
func (f *liveFake) parameter(stack, key, value string) {
	s := f.stacks[testName+"-"+stack]
	s.Parameters = append(s.Parameters, cftypes.Parameter{ParameterKey: &key, ParameterValue: &value})
}

// listOf picks statements of a policy.
func listOf(policy m, indexes ...int) []m {
	var out []m
	for _, i := range indexes {
		out = append(out, policy["Statement"].([]any)[i].(m))
	}
	return out
}
