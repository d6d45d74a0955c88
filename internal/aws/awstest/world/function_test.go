package world_test

import (
	"archive/zip"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	lambdatypes "github.com/aws/aws-sdk-go-v2/service/lambda/types"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/signer"
	signertypes "github.com/aws/aws-sdk-go-v2/service/signer/types"

	"github.com/stakeseal/stakeseal/infra/stack"
	"github.com/stakeseal/stakeseal/internal/aws/awstest/world"
)

// bootstrap builds the program of testdata once.
var bootstrap = sync.OnceValues(func() ([]byte, error) {
	dir, err := os.MkdirTemp("", "bootstrap-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	cmd := exec.Command("go", "build", "-o", filepath.Join(dir, "bootstrap"), "./testdata/bootstrap")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0") // Lambda's image has no libc of ours
	if out, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("%w\n%s", err, out)
	}
	return os.ReadFile(filepath.Join(dir, "bootstrap"))
})

// packaged is a package with the program and a note that makes it another.
func packaged(t testing.TB, note string) []byte {
	t.Helper()
	program, err := bootstrap()
	must(t, err)
	var out bytes.Buffer
	z := zip.NewWriter(&out)
	for name, data := range map[string][]byte{"bootstrap": program, "note.txt": []byte(note)} {
		h := &zip.FileHeader{Name: name, Method: zip.Store}
		h.SetMode(0o755)
		into, err := z.CreateHeader(h)
		must(t, err)
		_, err = into.Write(data)
		must(t, err)
	}
	must(t, z.Close())
	return out.Bytes()
}

// running is a world with the function installed and published.
func running(t testing.TB) (*world.World, *stack.Installation) {
	t.Helper()
	w, inst := deployed(t)
	at := filepath.Join(t.TempDir(), "package.zip")
	must(t, os.WriteFile(at, packaged(t, "1"), 0o600))
	must(t, w.Install(at))
	number, err := w.Publish()
	must(t, err)
	if number != "1" {
		t.Fatalf("version %s", number)
	}
	return w, inst
}

type event struct {
	Do    string
	Text  string `json:",omitempty"`
	Table string `json:",omitempty"`
	Size  int    `json:",omitempty"`
}

func invoke(t testing.TB, c *lambda.Client, inst *stack.Installation, e event) (*lambda.InvokeOutput, error) {
	t.Helper()
	body, err := json.Marshal(e)
	must(t, err)
	return c.Invoke(ctx, &lambda.InvokeInput{FunctionName: out(inst, "function", "FunctionAliasArn"), Payload: body})
}

// failed is the error of a function as its caller reads it.
func failed(t testing.TB, o *lambda.InvokeOutput, err error) (class, message string) {
	t.Helper()
	must(t, err)
	var f struct{ ErrorType, ErrorMessage string }
	if o.FunctionError == nil {
		t.Errorf("it did not fail: %.100s", o.Payload)
		return "", ""
	}
	must(t, json.Unmarshal(o.Payload, &f))
	return f.ErrorType, f.ErrorMessage
}

// TestInvoke: the alias, by a requester, to a process that lives on.
func TestInvoke(t *testing.T) {
	w, inst := running(t)
	c := lambda.NewFromConfig(as(w, "requester"))
	var first, again struct {
		Text, ID, ARN string
		Runs, PID     int
		Left          bool
	}
	o, err := invoke(t, c, inst, event{Do: "echo", Text: "ü"})
	must(t, err)
	must(t, json.Unmarshal(o.Payload, &first))
	if first.Text != "ü" || first.Runs != 1 || !first.Left || first.ARN != inst.Outputs["function"]["FunctionAliasArn"] || aws.ToString(o.ExecutedVersion) != "1" || o.FunctionError != nil {
		t.Errorf("%+v %+v", first, o)
	}
	o, err = invoke(t, c, inst, event{Do: "echo"})
	must(t, err)
	must(t, json.Unmarshal(o.Payload, &again))
	if again.Runs != 2 || again.PID != first.PID || again.ID == first.ID {
		t.Errorf("not the same process: %+v %+v", first, again)
	}
	runs := w.Invocations()
	if len(runs) != 2 || !runs[0].Cold || runs[1].Cold || runs[0].Init <= 0 || runs[1].Init != 0 || runs[0].Peak < 1<<20 || runs[0].RequestID != first.ID {
		t.Errorf("%+v", runs)
	}
	if calls := w.Calls("lambda", "Invoke"); len(calls) != 2 || calls[0].ID != first.ID || !calls[0].Data {
		t.Errorf("%+v", calls)
	}
	for _, want := range []string{"up\n", "START RequestId: " + first.ID, "REPORT RequestId: " + first.ID, "Init Duration"} {
		if !strings.Contains(string(w.Logs()), want) {
			t.Errorf("the log has no %q:\n%s", want, w.Logs())
		}
	}
	// Only the alias, and only who may.
	for name, in := range map[string]*lambda.InvokeInput{
		"the function":  {FunctionName: out(inst, "function", "FunctionArn")},
		"a version":     {FunctionName: out(inst, "function", "FunctionArn"), Qualifier: aws.String("1")},
		"another alias": {FunctionName: out(inst, "function", "FunctionArn"), Qualifier: aws.String("dev")},
	} {
		if _, err := c.Invoke(ctx, in); code(err) != "AccessDeniedException" {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, role := range []string{"signer", "depositor", "auditor", "developer", "recovery", "administrator", "generator"} {
		if _, err := invoke(t, lambda.NewFromConfig(as(w, role)), inst, event{Do: "echo"}); code(err) != "AccessDeniedException" {
			t.Errorf("%s: %v", role, err)
		}
	}
	if strays := w.Strays(); len(strays) > 0 {
		t.Errorf("strays %v", strays)
	}
}

// TestSandbox: what the function sees.
func TestSandbox(t *testing.T) {
	w, inst := running(t)
	c := lambda.NewFromConfig(as(w, "requester"))
	o, err := invoke(t, c, inst, event{Do: "files"})
	must(t, err)
	if want := `{"err":null,"exe":"/var/task/bootstrap","machine":false}`; string(o.Payload) != want {
		t.Errorf("%s", o.Payload)
	}
	o, err = invoke(t, c, inst, event{Do: "environment"})
	must(t, err)
	var lines []string
	must(t, json.Unmarshal(o.Payload, &lines))
	got := map[string]string{}
	for _, line := range lines {
		name, value, _ := strings.Cut(line, "=")
		got[name] = value
	}
	for name, want := range map[string]string{
		"AWS_REGION": world.Region, "AWS_LAMBDA_FUNCTION_NAME": installation + "-generator", "AWS_LAMBDA_FUNCTION_VERSION": "1", "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "1769",
		"LAMBDA_TASK_ROOT": "/var/task", "_HANDLER": "bootstrap", "TZ": ":UTC", "PATH": "/usr/local/bin:/usr/bin/:/bin:/opt/bin",
	} {
		if got[name] != want {
			t.Errorf("%s is %q", name, got[name])
		}
	}
	if len(got) != 26 || got["HOME"] != "" || !strings.HasPrefix(got["AWS_LAMBDA_RUNTIME_API"], "169.254.100.1:") {
		t.Errorf("%d variables: %v", len(got), lines)
	}
	// What is configured is there as well, in the next version.
	must(t, w.Configure(map[string]string{"AWS_ENDPOINT_URL": "https://evil.example"}, 512, 0, 0))
	number, err := w.Publish()
	must(t, err)
	o, err = invoke(t, c, inst, event{Do: "environment"})
	must(t, err)
	if number != "2" || !strings.Contains(string(o.Payload), "AWS_ENDPOINT_URL=https://evil.example") || !strings.Contains(string(o.Payload), "MEMORY_SIZE=512") {
		t.Errorf("version %s: %s", number, o.Payload)
	}
}

// TestFailures: what a caller is told of each way to fail.
func TestFailures(t *testing.T) {
	w, inst := running(t)
	c := lambda.NewFromConfig(as(w, "requester"))
	for _, test := range []struct {
		e              event
		class, message string
	}{
		{event{Do: "fail", Text: "no"}, "refused", "no"},
		{event{Do: "x"}, "error", "unknown event"},
		{event{Do: "exit"}, "Runtime.ExitError", "Runtime exited with error: exit status 3"},
		{event{Do: "signal"}, "Runtime.ExitError", "Runtime exited with error: signal: killed"},
		{event{Do: "large", Size: 6291556}, "Function.ResponseSizeTooLarge", "Response payload size exceeded maximum allowed payload size (6291556 bytes)."},
	} {
		o, err := invoke(t, c, inst, test.e)
		if class, message := failed(t, o, err); class != test.class || !strings.HasSuffix(message, test.message) {
			t.Errorf("%+v: %s %s", test.e, class, message)
		}
	}
	o, err := invoke(t, c, inst, event{Do: "large", Size: 6291554})
	must(t, err)
	if o.FunctionError != nil || len(o.Payload) != 6291556 {
		t.Errorf("the largest answer: %d bytes, %v", len(o.Payload), aws.ToString(o.FunctionError))
	}
	if _, err := c.Invoke(ctx, &lambda.InvokeInput{FunctionName: out(inst, "function", "FunctionAliasArn"), Payload: make([]byte, 6<<20+1)}); code(err) != "RequestTooLargeException" {
		t.Errorf("the largest event: %v", err)
	}
	must(t, w.Configure(nil, 128, 0, 0))
	must(t, second(w.Publish()))
	o, err = invoke(t, c, inst, event{Do: "hog", Size: 200 << 20})
	if class, _ := failed(t, o, err); class != "Runtime.OutOfMemory" {
		t.Error(class)
	}
	must(t, w.Configure(nil, 0, time.Second, 0))
	must(t, second(w.Publish()))
	o, err = invoke(t, c, inst, event{Do: "wait"})
	if class, message := failed(t, o, err); class != "Sandbox.Timedout" || !strings.HasSuffix(message, "Task timed out after 1.00 seconds") {
		t.Error(class, message)
	}
	must(t, w.Configure(map[string]string{"FAIL_INIT": "1"}, 0, time.Minute, 0))
	must(t, second(w.Publish()))
	o, err = invoke(t, c, inst, event{Do: "echo"})
	if class, message := failed(t, o, err); class != "init" || message != "asked to" {
		t.Error(class, message)
	}
	must(t, w.Point("1"))
	o, err = invoke(t, c, inst, event{Do: "echo"})
	must(t, err)
	if o.FunctionError != nil || aws.ToString(o.ExecutedVersion) != "1" {
		t.Errorf("the former version: %s", o.Payload)
	}
}

// TestAtOnce: invocations at once are processes at once, up to the reserve.
func TestAtOnce(t *testing.T) {
	w, inst := running(t)
	must(t, w.Configure(nil, 0, 0, 3))
	w.Fail("dynamodb", "PutItem", -1, world.Fault{Kind: world.Slow, Delay: 50 * time.Millisecond})
	cfg := as(w, "requester")
	cfg.Retryer = func() aws.Retryer { return aws.NopRetryer{} }
	c := lambda.NewFromConfig(cfg)
	var mu sync.Mutex
	done, busy := 0, 0
	var group sync.WaitGroup
	for i := range 12 {
		group.Go(func() {
			for { // until it was let in: at the end each has run once
				o, err := invoke(t, c, inst, event{Do: "put", Text: fmt.Sprint(i), Table: inst.Outputs["foundation"]["RecordsTableArn"]})
				mu.Lock()
				var many *lambdatypes.TooManyRequestsException
				switch {
				case errors.As(err, &many):
					busy++
					mu.Unlock()
					time.Sleep(20 * time.Millisecond)
					continue
				case err != nil || o.FunctionError != nil:
					t.Errorf("%v %s", err, o.Payload)
				default:
					done++
				}
				mu.Unlock()
				return
			}
		})
	}
	group.Wait()
	if all, _ := w.Instances(); done != 12 || all > 3 || w.Tables.Count(inst.Outputs["foundation"]["RecordsTableArn"]) != 12 {
		t.Errorf("%d done, %d refused, %d processes", done, busy, all)
	}
	for _, e := range w.Calls("dynamodb", "PutItem") {
		if e.Role != inst.RoleARN("generator") || !strings.HasSuffix(e.Session, "/"+installation+"-generator") {
			t.Errorf("%+v", e)
		}
	}
}

// TestKilled: a process that dies at a call, and the same event again.
func TestKilled(t *testing.T) {
	w, inst := running(t)
	table := inst.Outputs["foundation"]["RecordsTableArn"]
	c := lambda.NewFromConfig(as(w, "requester"))
	for kind, rows := range map[world.Kind]int{world.Killed: 0, world.KilledAfter: 1} {
		before := w.Tables.Count(table)
		w.Fail("dynamodb", "PutItem", 1, world.Fault{Kind: kind})
		e := event{Do: "put", Text: kind.String(), Table: table}
		o, err := invoke(t, c, inst, e)
		if class, message := failed(t, o, err); class != "Runtime.ExitError" || !strings.HasSuffix(message, "signal: killed") {
			t.Errorf("%s: %s %s", kind, class, message)
		}
		if got := w.Tables.Count(table) - before; got != rows {
			t.Errorf("%s: %d rows", kind, got)
		}
		o, err = invoke(t, c, inst, e)
		must(t, err)
		if o.FunctionError != nil || w.Tables.Count(table) != before+1 {
			t.Errorf("%s, again: %s, %d rows", kind, o.Payload, w.Tables.Count(table))
		}
	}
}

// TestEvents: accepted at once, tried again when it fails, and sometimes
// delivered twice.
func TestEvents(t *testing.T) {
	w, inst := running(t)
	table := inst.Outputs["foundation"]["RecordsTableArn"]
	c := lambda.NewFromConfig(as(w, "requester"))
	send := func(e event) {
		t.Helper()
		body, err := json.Marshal(e)
		must(t, err)
		o, err := c.Invoke(ctx, &lambda.InvokeInput{FunctionName: out(inst, "function", "FunctionAliasArn"), Payload: body, InvocationType: "Event"})
		must(t, err)
		if o.StatusCode != 202 {
			t.Errorf("status %d", o.StatusCode)
		}
		w.Settle()
	}
	w.Fail("dynamodb", "PutItem", 2, world.Fault{Kind: world.Killed})
	send(event{Do: "put", Text: "a", Table: table})
	if n := len(w.Invocations()); n != 3 || w.Tables.Count(table) != 1 || len(w.Dropped()) != 0 {
		t.Errorf("%d runs, %d rows, dropped %v", n, w.Tables.Count(table), w.Dropped())
	}
	send(event{Do: "fail", Text: "no"})
	if d := w.Dropped(); len(d) != 1 || d[0].Attempts != 3 || d[0].Error != "refused" {
		t.Errorf("dropped %+v", d)
	}
	before := len(w.Invocations())
	w.Fail("lambda", "Invoke", 1, world.Fault{Kind: world.Doubled})
	send(event{Do: "echo"})
	runs := w.Invocations()[before:]
	if len(runs) != 2 || runs[0].RequestID != runs[1].RequestID {
		t.Errorf("%+v", runs)
	}
}

// TestRelease: from a submitted package to the alias, each step by its role,
// and what is not signed is not deployed.
func TestRelease(t *testing.T) {
	w, inst := running(t)
	bucket := aws.String(installation + "-packages-" + world.Account)
	put, err := s3.NewFromConfig(as(w, "developer")).PutObject(ctx, &s3.PutObjectInput{Bucket: bucket, Key: aws.String("submitted/2.zip"),
		Body: bytes.NewReader(packaged(t, "2")), IfNoneMatch: aws.String("*")})
	must(t, err)
	manager := as(w, "release-manager")
	profile := inst.Outputs["foundation"]["SigningProfileName"]
	sign := func(cfg aws.Config, key, version string) (*signer.DescribeSigningJobOutput, error) {
		c := signer.NewFromConfig(cfg)
		job, err := c.StartSigningJob(ctx, &signer.StartSigningJobInput{ProfileName: &profile, ClientRequestToken: aws.String("t"),
			Source:      &signertypes.Source{S3: &signertypes.S3Source{BucketName: bucket, Key: &key, Version: &version}},
			Destination: &signertypes.Destination{S3: &signertypes.S3Destination{BucketName: bucket, Prefix: aws.String("signed/")}}})
		if err != nil {
			return nil, err
		}
		return c.DescribeSigningJob(ctx, &signer.DescribeSigningJobInput{JobId: job.JobId})
	}
	if _, err := sign(as(w, "developer"), "submitted/2.zip", *put.VersionId); code(err) != "AccessDeniedException" {
		t.Errorf("a developer signs: %v", err)
	}
	job, err := sign(manager, "submitted/2.zip", *put.VersionId)
	must(t, err)
	signed := *job.SignedObject.S3.Key
	if job.Status != signertypes.SigningStatusSucceeded || signed != "signed/"+*job.JobId+".zip" {
		t.Errorf("%+v", job)
	}
	c := lambda.NewFromConfig(manager)
	function := out(inst, "function", "FunctionArn")
	deploy := func(c *lambda.Client, key string) (*lambda.UpdateFunctionCodeOutput, error) {
		return c.UpdateFunctionCode(ctx, &lambda.UpdateFunctionCodeInput{FunctionName: function, S3Bucket: bucket, S3Key: &key})
	}
	var unsigned *lambdatypes.CodeVerificationFailedException
	if _, err := deploy(c, "submitted/2.zip"); !errors.As(err, &unsigned) {
		t.Errorf("unsigned code: %v", err)
	}
	for _, role := range []string{"developer", "administrator", "requester", "generator"} {
		if _, err := deploy(lambda.NewFromConfig(as(w, role)), signed); code(err) != "AccessDeniedException" {
			t.Errorf("%s deploys: %v", role, err)
		}
	}
	// It is read with the deployer's right, which ends at the other bucket.
	archive := installation + "-archive-" + world.Account
	must(t, w.Buckets.Put(archive, "x.zip", packaged(t, "3")))
	if _, err := c.UpdateFunctionCode(ctx, &lambda.UpdateFunctionCodeInput{FunctionName: function, S3Bucket: &archive, S3Key: aws.String("x.zip")}); code(err) != "AccessDeniedException" {
		t.Errorf("out of the archive: %v", err)
	}
	updated, err := deploy(c, signed)
	must(t, err)
	if aws.ToString(updated.SigningJobArn) == "" || aws.ToString(updated.SigningProfileVersionArn) != inst.Outputs["foundation"]["SigningProfileVersionArn"] {
		t.Errorf("%+v", updated)
	}
	version, err := c.PublishVersion(ctx, &lambda.PublishVersionInput{FunctionName: function, CodeSha256: updated.CodeSha256})
	must(t, err)
	_, err = c.UpdateAlias(ctx, &lambda.UpdateAliasInput{FunctionName: function, Name: aws.String("live"), FunctionVersion: version.Version})
	must(t, err)
	o, err := invoke(t, lambda.NewFromConfig(as(w, "requester")), inst, event{Do: "echo"})
	must(t, err)
	if aws.ToString(o.ExecutedVersion) != "2" || *version.Version != "2" {
		t.Errorf("runs %s", aws.ToString(o.ExecutedVersion))
	}
	_, err = c.DeleteFunction(ctx, &lambda.DeleteFunctionInput{FunctionName: function, Qualifier: aws.String("1")})
	must(t, err)
	if err := second(c.DeleteFunction(ctx, &lambda.DeleteFunctionInput{FunctionName: function, Qualifier: aws.String("2")})); code(err) != "ResourceConflictException" {
		t.Errorf("the version that is live: %v", err)
	}
	// What was signed once is not signed again, and what was changed after it
	// is no longer signed.
	body, ok := w.Buckets.Get(*bucket, signed)
	if !ok {
		t.Fatal("no signed object")
	}
	_, current, _ := w.Buckets.Version(*bucket, signed, "")
	if job, err := sign(manager, signed, current); code(err) != "AccessDeniedException" && (err != nil || job.Status != signertypes.SigningStatusFailed) {
		t.Errorf("signed twice: %v %v", job, err)
	}
	body[100] ^= 1
	must(t, w.Buckets.Put(*bucket, "signed/changed.zip", body))
	if _, err := deploy(c, "signed/changed.zip"); !errors.As(err, &unsigned) {
		t.Errorf("changed code: %v", err)
	}
	w.RevokeSigning(profile)
	if _, err := deploy(c, signed); !errors.As(err, &unsigned) {
		t.Errorf("revoked code: %v", err)
	}
	if problems := w.Problems(); len(problems) > 0 {
		t.Error(problems)
	}
}

// TestLambdaReads: what a doctor reads.
func TestLambdaReads(t *testing.T) {
	w, inst := running(t)
	c := lambda.NewFromConfig(as(w, "auditor"))
	name := out(inst, "function", "FunctionArn")
	live := aws.String("live")
	f, err := c.GetFunction(ctx, &lambda.GetFunctionInput{FunctionName: name, Qualifier: live})
	must(t, err)
	if v := f.Configuration; *v.Version != "1" || v.Runtime != "provided.al2023" || *v.Role != inst.RoleARN("generator") || *v.FunctionArn != *name+":1" || v.LoggingConfig.LogFormat != "Text" || v.Environment != nil {
		t.Errorf("%+v", v)
	}
	response, err := http.Get(*f.Code.Location)
	if err == nil { // the test's own client trusts what this machine trusts
		data, _ := io.ReadAll(response.Body)
		_ = response.Body.Close()
		if len(data) != int(f.Configuration.CodeSize) {
			t.Errorf("%d bytes of code", len(data))
		}
	} else {
		t.Error(err)
	}
	versions, err := c.ListVersionsByFunction(ctx, &lambda.ListVersionsByFunctionInput{FunctionName: name})
	must(t, err)
	aliases, err := c.ListAliases(ctx, &lambda.ListAliasesInput{FunctionName: name})
	must(t, err)
	config, err := c.GetFunctionCodeSigningConfig(ctx, &lambda.GetFunctionCodeSigningConfigInput{FunctionName: name})
	must(t, err)
	signing, err := c.GetCodeSigningConfig(ctx, &lambda.GetCodeSigningConfigInput{CodeSigningConfigArn: config.CodeSigningConfigArn})
	must(t, err)
	if len(versions.Versions) != 2 || len(aliases.Aliases) != 1 || *aliases.Aliases[0].FunctionVersion != "1" || signing.CodeSigningConfig.CodeSigningPolicies.UntrustedArtifactOnDeployment != "Enforce" ||
		signing.CodeSigningConfig.AllowedPublishers.SigningProfileVersionArns[0] != inst.Outputs["foundation"]["SigningProfileVersionArn"] {
		t.Errorf("%+v %+v %+v", versions, aliases, signing)
	}
	for what, err := range map[string]error{
		"GetFunctionConfiguration":          second(c.GetFunctionConfiguration(ctx, &lambda.GetFunctionConfigurationInput{FunctionName: name})),
		"GetAlias":                          second(c.GetAlias(ctx, &lambda.GetAliasInput{FunctionName: name, Name: live})),
		"ListTags":                          second(c.ListTags(ctx, &lambda.ListTagsInput{Resource: name})),
		"GetFunctionConcurrency":            second(c.GetFunctionConcurrency(ctx, &lambda.GetFunctionConcurrencyInput{FunctionName: name})),
		"ListEventSourceMappings":           second(c.ListEventSourceMappings(ctx, &lambda.ListEventSourceMappingsInput{FunctionName: name})),
		"ListFunctionUrlConfigs":            second(c.ListFunctionUrlConfigs(ctx, &lambda.ListFunctionUrlConfigsInput{FunctionName: name})),
		"GetRuntimeManagementConfig":        second(c.GetRuntimeManagementConfig(ctx, &lambda.GetRuntimeManagementConfigInput{FunctionName: name})),
		"ListFunctionEventInvokeConfigs":    second(c.ListFunctionEventInvokeConfigs(ctx, &lambda.ListFunctionEventInvokeConfigsInput{FunctionName: name})),
		"ListProvisionedConcurrencyConfigs": second(c.ListProvisionedConcurrencyConfigs(ctx, &lambda.ListProvisionedConcurrencyConfigsInput{FunctionName: name})),
	} {
		if err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	var none *lambdatypes.ResourceNotFoundException
	if _, err := c.GetPolicy(ctx, &lambda.GetPolicyInput{FunctionName: name}); !errors.As(err, &none) {
		t.Errorf("GetPolicy: %v", err)
	}
	s := signer.NewFromConfig(as(w, "auditor"))
	got, err := s.GetSigningProfile(ctx, &signer.GetSigningProfileInput{ProfileName: out(inst, "foundation", "SigningProfileName"), ProfileOwner: aws.String(world.Account)})
	must(t, err)
	if got.Status != signertypes.SigningProfileStatusActive || *got.ProfileVersionArn != inst.Outputs["foundation"]["SigningProfileVersionArn"] {
		t.Errorf("%+v", got)
	}
	if _, err := s.ListProfilePermissions(ctx, &signer.ListProfilePermissionsInput{ProfileName: got.ProfileName}); err != nil {
		t.Error(err)
	}
}
