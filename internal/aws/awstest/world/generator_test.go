package world_test

import (
	"archive/zip"
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"filippo.io/age"
	"github.com/aws/aws-sdk-go-v2/service/lambda"

	"github.com/stakeseal/stakeseal/birth"
	"github.com/stakeseal/stakeseal/eth"
	"github.com/stakeseal/stakeseal/infra/stack"
	"github.com/stakeseal/stakeseal/internal/aws/awstest/world"
)

const address = "0x388C818CA8B9251b393131C08a736A67ccB19297"

// generator is the package of the real program for an installation, static as
// for Lambda, and built as anybody would.
func generator(t *testing.T, inst *stack.Installation) string {
	t.Helper()
	dir := t.TempDir()
	build := exec.Command("go", "build", "-o", filepath.Join(dir, "bootstrap"), "-tags", "netgo,osusergo", "-ldflags", "-extldflags=-static", "../../../../cmd/stakeseal-generator")
	build.Env = append(os.Environ(), "CGO_ENABLED=1")
	if out, err := build.CombinedOutput(); err != nil {
		if os.Getenv("CI") != "true" && strings.Contains(string(out), "cannot find -l") {
			t.Skipf("this machine has no static C library, so the generator was not run: %s", out)
		}
		t.Fatalf("%v\n%s", err, out)
	}
	program, err := os.ReadFile(filepath.Join(dir, "bootstrap"))
	must(t, err)
	recovery, err := age.GenerateHybridIdentity()
	must(t, err)
	o := inst.Outputs["foundation"]
	var file bytes.Buffer
	z := zip.NewWriter(&file)
	for _, part := range []struct {
		name string
		mode os.FileMode
		text string
	}{
		{"bootstrap", 0o755, string(program)},
		{"generator.yaml", 0o644, "version: 1\nnetwork: hoodi\nwithdrawal_addresses: {cold: \"" + address + "\"}\nseal_to: {signing: [signer], recovery: [recovery]}\n" +
			"certifier: awskms:" + o["CertifyingKeyArn"] + "\nstore: dynamodb:" + o["RecordsTableArn"] + "\narchive: s3:" + o["ArchiveBucketArn"] + "\n"},
		{"recipients/signer.txt", 0o644, "awskms:" + o["SigningKeyArn"] + "\n"},
		{"recipients/recovery.txt", 0o644, recovery.Recipient().String() + "\n"},
	} {
		h := &zip.FileHeader{Name: part.name, Method: zip.Deflate}
		h.SetMode(part.mode)
		into, err := z.CreateHeader(h)
		must(t, err)
		_, err = into.Write([]byte(part.text))
		must(t, err)
	}
	must(t, z.Close())
	at := filepath.Join(dir, "package.zip")
	must(t, os.WriteFile(at, file.Bytes(), 0o600))
	return at
}

// TestGenerator: the real program in this world makes keys, says the same when
// it is asked again, and goes nowhere else, whatever its environment says.
func TestGenerator(t *testing.T) {
	w := world.New(t, t.TempDir())
	a, err := eth.ParseAddress(address)
	must(t, err)
	inst, err := w.Deploy(stack.Options{Name: installation, Account: world.Account, Region: world.Region, Parameters: map[string]map[string]string{
		"bootstrap": {"Schedule": "on"},
		"schedule":  {"WithdrawalAddress": address, "OrderId": "weekly", "Network": "hoodi", "ScheduleExpression": "rate(7 days)", "Count": "1", "Keystore": "none"},
	}})
	must(t, err)
	must(t, w.Install(generator(t, inst)))
	must(t, second(w.Publish()))
	c := lambda.NewFromConfig(as(w, "requester"))
	order := func(id string) (*lambda.InvokeOutput, *birth.Answer) {
		t.Helper()
		event, err := json.Marshal(birth.Request{Schema: birth.RequestSchema, Order: id, Network: "hoodi", Count: 2, To: 2, WithdrawalAddress: a, Plan: []eth.Gwei{32e9}, Keystore: "none"})
		must(t, err)
		o, err := c.Invoke(ctx, &lambda.InvokeInput{FunctionName: out(inst, "function", "FunctionAliasArn"), Payload: event})
		must(t, err)
		var answer birth.Answer
		if o.FunctionError == nil {
			must(t, json.Unmarshal(o.Payload, &answer))
		}
		return o, &answer
	}
	o, first := order("o1")
	if o.FunctionError != nil {
		t.Fatalf("%s\n%s", o.Payload, w.Logs())
	}
	records := w.Tables.Count(inst.Outputs["foundation"]["RecordsTableArn"])
	objects := w.Buckets.Keys(installation + "-archive-" + world.Account)
	if records == 0 || len(objects) == 0 || len(first.Receipt) == 0 {
		t.Errorf("%d items, objects %q", records, objects)
	}
	w.Chill()
	if o, again := order("o1"); o.FunctionError != nil || len(again.Receipt) == 0 || w.Tables.Count(inst.Outputs["foundation"]["RecordsTableArn"]) != records {
		t.Errorf("again: %s", o.Payload)
	}
	for _, e := range w.Trail() {
		if e.Role == inst.RoleARN("generator") && (e.Error != "" && e.Error != "ConditionalCheckFailedException" && e.Error != "PreconditionFailed" && e.Error != "NoSuchKey") {
			t.Errorf("the generator was refused %+v", e)
		}
	}

	// A schedule's event, delivered twice, is one order of its time.
	w.Fail("scheduler", "Fire", 1, world.Fault{Kind: world.Doubled})
	must(t, w.Fire(time.Date(2026, 11, 22, 11, 0, 0, 0, time.UTC)))
	w.Settle()
	if d := w.Dropped(); len(d) > 0 || !bytes.Contains(w.Tables.Dump(), []byte("weekly-20261122t110000z")) {
		t.Errorf("scheduled: %+v\n%s", d, w.Logs())
	}

	must(t, w.Configure(map[string]string{"AWS_ENDPOINT_URL_KMS": "https://evil.example", "HTTPS_PROXY": "http://192.0.2.1:3128"}, 0, 0, 0))
	must(t, second(w.Publish()))
	before := len(w.Trail())
	if o, _ := order("o2"); o.FunctionError == nil {
		t.Errorf("in a poisoned environment: %s", o.Payload)
	}
	if calls := slices.DeleteFunc(w.Trail()[before:], func(e world.Event) bool { return e.Service == "lambda" }); len(calls) > 0 {
		t.Errorf("it called %+v", calls)
	}
	if strays := w.Strays(); len(strays) > 0 {
		t.Errorf("strays %v", strays)
	}
	for _, r := range w.Invocations() {
		t.Logf("version %s, cold %v: init %s, %s, %d MB %s", r.Version, r.Cold, r.Init, r.Duration, r.Peak>>20, r.Error)
	}
}
