// Package livestory examines and audits a whole installation over the wire:
// the real templates, put up in a world that answers as AWS does and judges
// every call by them.
package livestory

import (
	"archive/zip"
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	kmstypes "github.com/aws/aws-sdk-go-v2/service/kms/types"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	lambdatypes "github.com/aws/aws-sdk-go-v2/service/lambda/types"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/signer"
	signertypes "github.com/aws/aws-sdk-go-v2/service/signer/types"

	"github.com/stakeseal/stakeseal/certificate"
	"github.com/stakeseal/stakeseal/infra/stack"
	"github.com/stakeseal/stakeseal/internal/aws/awstest/world"
	"github.com/stakeseal/stakeseal/internal/aws/ops"
	"github.com/stakeseal/stakeseal/internal/aws/session"
	"github.com/stakeseal/stakeseal/internal/config"
)

func TestMain(m *testing.M) { os.Exit(world.Main(m)) }

const installation = "stakeseal-hoodi"

// put is an installation whose function holds a package, with its settings'
// digest and what they name.
func put(t *testing.T) (*world.World, *stack.Installation, *ops.Subject, certificate.Hash) {
	t.Helper()
	w := world.New(t, t.TempDir())
	inst, err := w.Deploy(stack.Options{Name: installation, Account: world.Account, Region: world.Region, Parameters: map[string]map[string]string{
		"watch": {"Trail": "on", "InvokeEvents": "on", "TableEvents": "on", "ObjectEvents": "on"}}})
	if err != nil {
		t.Fatal(err)
	}
	o := inst.Outputs["foundation"]
	files := map[string]string{
		"bootstrap": "#!/bin/sh\n",
		"generator.yaml": "version: 1\nnetwork: hoodi\nwithdrawal_addresses: {cold: \"0x388C818CA8B9251b393131C08a736A67ccB19297\"}\nseal_to: {signing: [signer], recovery: [vault]}\n" +
			"certifier: awskms:" + o["CertifyingKeyArn"] + "\nstore: dynamodb:" + o["RecordsTableArn"] + "\narchive: s3:" + o["ArchiveBucketArn"] + "\n",
		"recipients/signer.txt": "awskms:" + o["SigningKeyArn"] + "\n",
		"recipients/vault.txt":  "awskms:" + o["RecoveryKeyArn"] + "\n",
	}
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	dir := t.TempDir()
	for _, name := range []string{"bootstrap", "generator.yaml", "recipients/signer.txt", "recipients/vault.txt"} {
		h := &zip.FileHeader{Name: name, Method: zip.Deflate}
		h.SetMode(0o755)
		into, err := z.CreateHeader(h)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := into.Write([]byte(files[name])); err != nil {
			t.Fatal(err)
		}
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(files[name]), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	deployed(t, w, o, b.Bytes())
	settings, err := config.LoadGenerator(os.DirFS(dir))
	if err != nil {
		t.Fatal(err)
	}
	s, err := ops.SubjectOf(ops.Named{Store: o["RecordsTableArn"], Archive: o["ArchiveBucketArn"], Certifier: o["CertifyingKeyArn"], Generator: inst.Outputs["function"]["FunctionAliasArn"],
		Signing: []string{o["SigningKeyArn"]}, Recovery: []string{o["RecoveryKeyArn"]}})
	if err != nil {
		t.Fatal(err)
	}
	return w, inst, s, settings.Digest
}

// deployed submits, signs and deploys a package, as a developer and a release
// manager do.
func deployed(t *testing.T, w *world.World, o map[string]string, data []byte) {
	t.Helper()
	bucket := aws.String(installation + "-packages-" + world.Account)
	config := func(role string) aws.Config {
		return session.New(world.Region, w.Credentials(role), session.Options{})
	}
	developer, manager := s3.NewFromConfig(config("developer")), config("release-manager")
	put, err := developer.PutObject(t.Context(), &s3.PutObjectInput{Bucket: bucket, Key: aws.String("submitted/p.zip"), Body: bytes.NewReader(data), IfNoneMatch: aws.String("*")})
	if err != nil {
		t.Fatal(err)
	}
	jobs := signer.NewFromConfig(manager)
	job, err := jobs.StartSigningJob(t.Context(), &signer.StartSigningJobInput{ProfileName: aws.String(o["SigningProfileName"]), ClientRequestToken: aws.String("story"),
		Source:      &signertypes.Source{S3: &signertypes.S3Source{BucketName: bucket, Key: aws.String("submitted/p.zip"), Version: put.VersionId}},
		Destination: &signertypes.Destination{S3: &signertypes.S3Destination{BucketName: bucket, Prefix: aws.String("signed/")}}})
	if err != nil {
		t.Fatal(err)
	}
	done, err := jobs.DescribeSigningJob(t.Context(), &signer.DescribeSigningJobInput{JobId: job.JobId})
	if err != nil || done.SignedObject == nil {
		t.Fatal(done, err)
	}
	functions, name := lambda.NewFromConfig(manager), aws.String(installation+"-generator")
	if _, err := functions.UpdateFunctionCode(t.Context(), &lambda.UpdateFunctionCodeInput{FunctionName: name, S3Bucket: bucket, S3Key: done.SignedObject.S3.Key, Architectures: []lambdatypes.Architecture{lambdatypes.ArchitectureArm64}}); err != nil {
		t.Fatal(err)
	}
	version, err := functions.PublishVersion(t.Context(), &lambda.PublishVersionInput{FunctionName: name})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := functions.CreateAlias(t.Context(), &lambda.CreateAliasInput{FunctionName: name, Name: aws.String("live"), FunctionVersion: version.Version}); err != nil {
		t.Fatal(err)
	}
}

// as opens the account with a role's session, as the command line does.
func as(t *testing.T, w *world.World, role string) *ops.Account {
	t.Helper()
	for _, line := range w.Environ(role) {
		name, value, _ := strings.Cut(line, "=")
		t.Setenv(name, value)
	}
	a, err := ops.Open(t.Context(), ops.Place{Region: world.Region, Account: world.Account}, ops.Options{Session: session.Options{Backoff: func(int) time.Duration { return 0 }}})
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func examine(t *testing.T, a *ops.Account, s *ops.Subject, settings certificate.Hash, try bool) *ops.Report {
	t.Helper()
	l := &ops.Live{Subject: *s, Caller: a.Caller, Clients: ops.NewClients(a), Trust: &certificate.Trust{}, Settings: settings, Template: ops.Templates{}, Now: time.Now(), TryOpening: try}
	r, err := l.Examine(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func lines(r *ops.Report, states ...ops.State) []string {
	var out []string
	for _, f := range r.Findings {
		if slices.Contains(states, f.State) {
			out = append(out, fmt.Sprintf("%s %s: %s", f.State, f.Check, f.Says))
		}
	}
	return out
}

// TestExamined: the auditor sees all of a sound installation, and each change;
// other roles see less, and are told so.
func TestExamined(t *testing.T) {
	w, inst, s, settings := put(t)
	auditor := as(t, w, "auditor")
	r := examine(t, auditor, s, settings, true)
	want := []string{"warning parameters: people of this account, where", "warning release: version 1: program ", "warning not looked at: whether anybody is subscribed"}
	if got := lines(r, ops.Changed, ops.Unseen, ops.Warning); !slices.EqualFunc(got, want, strings.HasPrefix) {
		t.Errorf("a sound installation:\n  %s", strings.Join(got, "\n  "))
	}
	for _, f := range r.Findings {
		t.Logf("%-32s %-8s %s", f.Check, f.State, f.Says)
	}

	// The signer may open, by KMS's own word, and sees little else.
	r = examine(t, as(t, w, "signer"), s, settings, true)
	if got := lines(r, ops.OK); !slices.ContainsFunc(got, func(l string) bool {
		return strings.HasPrefix(l, "ok key signing dry run: KMS would let stakeseal-hoodi-signer open")
	}) {
		t.Errorf("the signer: %q", got)
	}
	if r.Count(ops.Changed) > 0 || r.Count(ops.Unseen) < 20 || len(r.Lacks) < 20 {
		t.Errorf("the signer: %q, lacks %v, %v", lines(r, ops.Changed), r.Lacks, r.Failed)
	}
	// The generator's own session, which only this world can give away, is
	// denied by KMS.
	r = examine(t, as(t, w, "generator"), s, settings, true)
	for _, key := range []string{"signing", "recovery"} {
		if got := lines(r, ops.OK); !slices.Contains(got, "ok key "+key+" dry run: KMS denies it to stakeseal-hoodi-generator, who runs this; nobody can ask in the generator's name") {
			t.Errorf("the generator: %q", got)
		}
	}

	// Drifts.
	if err := w.Configure(map[string]string{"HTTPS_PROXY": "http://192.0.2.1"}, 0, 0, 0); err != nil {
		t.Fatal(err)
	}
	auditor = as(t, w, "auditor")
	if got := lines(examine(t, auditor, s, settings, false), ops.Changed); len(got) != 1 || !strings.HasPrefix(got[0], "changed function $LATEST: $LATEST has environment variables: HTTPS_PROXY") {
		t.Errorf("%q", got)
	}
	if err := w.Configure(map[string]string{}, 0, 0, 0); err != nil {
		t.Fatal(err)
	}
	key := inst.Outputs["foundation"]["SigningKeyArn"]
	if err := w.Keys.PutPolicy(key, `{"Version":"2012-10-17","Statement":[{"Sid":"Mine","Effect":"Allow","Principal":{"AWS":["`+inst.RoleARN("generator")+`","`+inst.RoleARN("auditor")+`"]},"Action":["kms:Decrypt","kms:DescribeKey","kms:GetKeyPolicy","kms:GetKeyRotationStatus","kms:ListGrants"],"Resource":"*"}]}`); err != nil {
		t.Fatal(err)
	}
	got := lines(examine(t, auditor, s, settings, false), ops.Changed)
	for _, want := range []string{"changed key signing policy: its policy is not the template's", "changed key signing opens: stakeseal-hoodi-generator may kms:Decrypt (Mine)", "changed key signing opens: stakeseal-hoodi-auditor may kms:Decrypt (Mine)"} {
		if !slices.ContainsFunc(got, func(l string) bool { return strings.HasPrefix(l, want) }) {
			t.Errorf("%q is missing in %q", want, got)
		}
	}
	// A service that fails is neither a yes nor a no.
	w.Fail("dynamodb", "DescribeTable", session.MaxAttempts, world.Fault{Kind: world.Broken})
	if r := examine(t, auditor, s, settings, false); r.Failed == nil || len(lines(r, ops.Unseen)) != 1 {
		t.Errorf("%v, %q", r.Failed, lines(r, ops.Unseen))
	}
	w.Heal()
	for _, p := range w.Problems() {
		if !strings.Contains(p, "ListRules") { // which this world does not know, and callers who see no template ask
			t.Error(p)
		}
	}
}

// TestOpeningsInTheTrail: what KMS opened is found, in the history and in the
// trail's files, with who did it; a refused try is found too.
func TestOpeningsInTheTrail(t *testing.T) {
	w, inst, s, _ := put(t)
	key := inst.Outputs["foundation"]["SigningKeyArn"]
	context1 := map[string]string{"app": "stakeseal", "v": "1", "purpose": "signing", "network": "hoodi", "order": "o1", "index": "0", "pubkey": strings.Repeat("ab", 48)}
	began := time.Now().Add(-time.Minute)
	client := func(role string) *kms.Client {
		return kms.NewFromConfig(session.New(world.Region, w.Credentials(role), session.Options{}))
	}
	sealed, err := client("generator").Encrypt(t.Context(), &kms.EncryptInput{KeyId: &key, Plaintext: make([]byte, 16), EncryptionContext: context1, EncryptionAlgorithm: kmstypes.EncryptionAlgorithmSpecSymmetricDefault})
	if err != nil {
		t.Fatal(err)
	}
	open := func(role string) error {
		_, err := client(role).Decrypt(t.Context(), &kms.DecryptInput{KeyId: &key, CiphertextBlob: sealed.CiphertextBlob, EncryptionContext: context1, EncryptionAlgorithm: kmstypes.EncryptionAlgorithmSpecSymmetricDefault})
		return err
	}
	if err := open("signer"); err != nil {
		t.Fatal(err)
	}
	if open("requester") == nil {
		t.Fatal("the requester opened it")
	}
	sought := &ops.Sought{Keys: []string{key}, Order: "o1", Born: began}
	auditor := as(t, w, "auditor")
	seen := func(what string, calls []ops.Call, err error) {
		t.Helper()
		var got []string
		for _, c := range calls {
			if c.Opens() || c.Seals() {
				got = append(got, fmt.Sprintf("%s by %s done %v order %s", c.Action, strings.TrimPrefix(c.Who, inst.RoleARN("")), c.Done(), c.Context["order"]))
			}
			if c.RequestID == "" {
				t.Errorf("%s: %+v has no request id", what, c)
			}
		}
		want := []string{"Encrypt by generator done true order o1", "Decrypt by signer done true order o1", "Decrypt by requester done false order o1"}
		if slices.Sort(got); err != nil || !slices.Equal(got, slices.Sorted(slices.Values(want))) {
			t.Errorf("%s: %q, %v", what, got, err)
		}
	}
	calls, _, err := ops.NewHistory(auditor, world.Region, nil).Search(context.Background(), sought, began, time.Now().Add(time.Minute))
	seen("history", calls, err)
	if _, err := w.DeliverTrail(); err != nil {
		t.Fatal(err)
	}
	calls, err = ops.NewLogs(auditor, s.Trail, nil).Search(t.Context(), sought, world.Region, began, time.Now().Add(time.Minute))
	seen("files", calls, err)
	openers, err := ops.Openers(t.Context(), ops.KMSIn(auditor)(world.Region), key, context1)
	if err != nil || len(openers) != 1 || openers[0].Principal != inst.RoleARN("signer") {
		t.Errorf("%+v, %v", openers, err)
	}
	if _, err := ops.Openers(t.Context(), ops.KMSIn(as(t, w, "depositor"))(world.Region), key, context1); !strings.Contains(fmt.Sprint(err), "denied") {
		t.Errorf("the depositor: %v", err)
	}
}
