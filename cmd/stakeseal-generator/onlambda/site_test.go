// Package onlambda runs the generator as AWS Lambda would: the program of the
// package, static and unchanged, in a sandbox of its own, with every call of its
// judged by the policies of our own templates (package world). Its tests show
// what holds whatever happens to a function: it is called twice, by many, killed,
// out of time, throttled, configured by somebody else, or its rows are replaced.
//
// What the same program does below AWS is tested in cmd/stakeseal-generator;
// what people do with it, in cmd/stakeseal/awsstory.
package onlambda

import (
	"archive/zip"
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"filippo.io/age"
	"github.com/aws/aws-sdk-go-v2/aws"
	sdkdynamodb "github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	lambdatypes "github.com/aws/aws-sdk-go-v2/service/lambda/types"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/stakeseal/stakeseal/birth"
	"github.com/stakeseal/stakeseal/certificate"
	"github.com/stakeseal/stakeseal/eth"
	"github.com/stakeseal/stakeseal/infra/stack"
	"github.com/stakeseal/stakeseal/internal/aws/awstest/world"
	"github.com/stakeseal/stakeseal/internal/aws/dynamodb"
	"github.com/stakeseal/stakeseal/internal/aws/s3archive"
	"github.com/stakeseal/stakeseal/internal/aws/session"
	"github.com/stakeseal/stakeseal/internal/config"
	"github.com/stakeseal/stakeseal/record"
)

func TestMain(m *testing.M) { os.Exit(world.Main(m)) }

const (
	name    = "stakeseal-hoodi"
	address = "0x388C818CA8B9251b393131C08a736A67ccB19297"
)

var ctx = context.Background()

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// program is the bootstrap, built once and static as for Lambda: where it runs
// there is no C library.
var program = sync.OnceValues(func() ([]byte, error) {
	dir, err := os.MkdirTemp("", "onlambda-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	at := filepath.Join(dir, "bootstrap")
	build := exec.Command("go", "build", "-o", at, "-tags", "netgo,osusergo", "-ldflags", "-linkmode=external -extldflags=-static", "..")
	if out, err := build.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("couldn't build the bootstrap: %w\n%s", err, out)
	}
	return os.ReadFile(at)
})

// site is an installation with a released generator.
type site struct {
	*testing.T
	*world.World
	inst     *stack.Installation
	trust    *certificate.Trust
	settings certificate.Hash
	anna     *age.HybridIdentity // the recovery recipient beside KMS
	function *lambda.Client      // as the requester; it tries nothing twice
}

// newSite deploys the stacks, and releases settings: the usual ones and what is
// added.
func newSite(t *testing.T, parameters map[string]map[string]string) *site {
	t.Helper()
	s := &site{T: t, World: world.New(t, filepath.Join(t.TempDir(), "world"))}
	if _, err := program(); err != nil && strings.Contains(err.Error(), "cannot find -l") && os.Getenv("CI") != "true" {
		t.Skipf("this machine has no static C library, so the generator was not run: %v", err)
	}
	var err error
	s.inst, err = s.Deploy(stack.Options{Name: name, Account: world.Account, Region: world.Region, Parameters: parameters})
	must(t, err)
	s.anna, err = age.GenerateHybridIdentity()
	must(t, err)
	// An answer comes when the function is done.
	cfg := session.New(world.Region, s.Credentials("requester"), session.Options{Attempt: 15 * time.Minute})
	cfg.Retryer = func() aws.Retryer { return aws.NopRetryer{} }
	s.function = lambda.NewFromConfig(cfg)
	s.release("")
	return s
}

func (s *site) must(err error) {
	s.Helper()
	must(s.T, err)
}

func (s *site) config(role string, how ...world.Session) aws.Config {
	return session.New(world.Region, s.Credentials(role, how...), session.Options{})
}

func (s *site) output(key string) string {
	s.Helper()
	for _, outputs := range s.inst.Outputs {
		if value := outputs[key]; value != "" {
			return value
		}
	}
	s.Fatalf("no stack has the output %s", key)
	return ""
}

// release makes a package of the program and settings, with more at their end,
// the code behind the alias, and trusts it: it alone.
func (s *site) release(more string) {
	s.Helper()
	binary, err := program()
	s.must(err)
	files := fstest.MapFS{
		"bootstrap": {Data: binary, Mode: 0o755},
		config.GeneratorFile: {Mode: 0o644, Data: []byte("version: 1\nnetwork: hoodi\nwithdrawal_addresses: {cold: \"" + address + "\"}\n" +
			"seal_to: {signing: [pool], recovery: [anna, vault]}\n" +
			"certifier: awskms:" + s.output("CertifyingKeyArn") + "\nstore: dynamodb:" + s.output("RecordsTableArn") + "\narchive: s3:" + s.output("ArchiveBucketArn") + "\n" + more)},
		"recipients/pool.txt":  {Data: []byte("awskms:" + s.output("SigningKeyArn") + "\n"), Mode: 0o644},
		"recipients/vault.txt": {Data: []byte("awskms:" + s.output("RecoveryKeyArn") + "\n"), Mode: 0o644},
		"recipients/anna.txt":  {Data: []byte(s.anna.Recipient().String() + "\n"), Mode: 0o644},
	}
	settings, err := config.LoadGenerator(files)
	s.must(err)
	s.settings = certificate.Hash(settings.Digest)
	key, err := kms.NewFromConfig(s.config("auditor")).GetPublicKey(ctx, &kms.GetPublicKeyInput{KeyId: aws.String(s.output("CertifyingKeyArn"))})
	s.must(err)
	public, err := x509.ParsePKIXPublicKey(key.PublicKey)
	s.must(err)
	certifying, err := certificate.NewPublicKey(public)
	s.must(err)
	s.trust = &certificate.Trust{
		Network: settings.Network, Addresses: settings.Addresses, Keys: []certificate.TrustedKey{{Name: "certifying", Key: certifying}},
		Releases: []certificate.Release{{Name: "this", Binaries: []certificate.Hash{sha256.Sum256(binary)}, Settings: s.settings}},
	}
	s.must(s.trust.Check())

	var buffer bytes.Buffer
	z := zip.NewWriter(&buffer)
	for path, file := range files {
		h := &zip.FileHeader{Name: path, Method: zip.Store} // compressing takes longer than the tests
		h.SetMode(file.Mode)
		into, err := z.CreateHeader(h)
		s.must(err)
		_, err = into.Write(file.Data)
		s.must(err)
	}
	s.must(z.Close())
	at := filepath.Join(s.TempDir(), "package.zip")
	s.must(os.WriteFile(at, buffer.Bytes(), 0o600))
	s.must(s.Install(at))
	s.publish()
}

func (s *site) publish() {
	s.Helper()
	_, err := s.Publish()
	s.must(err)
}

// request is an order of n validators, all of it, without a keystore: the KDF
// is what takes long.
func (s *site) request(order string, n uint32) birth.Request {
	s.Helper()
	a, err := eth.ParseAddress(address)
	s.must(err)
	return birth.Request{Schema: birth.RequestSchema, Order: order, Network: "hoodi", Count: n, To: n, WithdrawalAddress: a,
		Plan: []eth.Gwei{32e9}, Keystore: "none", Settings: record.Digest(s.settings)}
}

// outcome is what an invocation came to: an answer, or a class and message. The
// class is "throttled" where Lambda did not run it.
type outcome struct {
	payload        []byte
	answer         birth.Answer
	class, message string
}

func (s *site) send(event []byte) (o outcome, err error) {
	out, err := s.function.Invoke(ctx, &lambda.InvokeInput{FunctionName: aws.String(s.output("FunctionAliasArn")), Payload: event})
	var busy *lambdatypes.TooManyRequestsException
	switch {
	case errors.As(err, &busy):
		return outcome{class: "throttled", message: err.Error()}, nil
	case err != nil:
		return o, err
	}
	o.payload = out.Payload
	if out.FunctionError == nil {
		return o, json.Unmarshal(out.Payload, &o.answer)
	}
	var failure struct{ ErrorType, ErrorMessage string }
	err = json.Unmarshal(out.Payload, &failure)
	o.class, o.message = failure.ErrorType, failure.ErrorMessage
	return o, err
}

// ask invokes the alias.
func (s *site) ask(q birth.Request) outcome {
	s.Helper()
	event, err := json.Marshal(q)
	s.must(err)
	o, err := s.send(event)
	s.must(err)
	return o
}

// made asks, and demands an answer for all that was asked for.
func (s *site) made(q birth.Request) outcome {
	s.Helper()
	o := s.ask(q)
	if o.class != "" || len(o.answer.Remaining) > 0 || len(o.answer.Receipt) == 0 {
		s.Fatalf("order %s: %s %s, remaining %v\n%s", q.Order, o.class, o.message, o.answer.Remaining, s.Logs())
	}
	return o
}

// refused asks, and demands a failure of the class, whose message has the words.
func (s *site) refused(q birth.Request, class, words string) {
	s.Helper()
	if o := s.ask(q); o.class != class || !strings.Contains(o.message, words) {
		s.Errorf("order %s: %q %q, not %s with %q; answer %.100s", q.Order, o.class, o.message, class, words, o.payload)
	}
}

// store and archive are what a role sees of them.
func (s *site) store(role string) *dynamodb.Store {
	s.Helper()
	at, err := dynamodb.Beside(s.output("RecordsTableArn"))
	s.must(err)
	store, err := dynamodb.New(sdkdynamodb.NewFromConfig(s.config(role)), at)
	s.must(err)
	return store
}

func (s *site) archive(role string) *s3archive.Archive {
	s.Helper()
	archive, err := s3archive.New(s3.NewFromConfig(s.config(role)), s.output("ArchiveBucketArn"), "", s3archive.Options{Owner: world.Account})
	s.must(err)
	return archive
}

// rows are the validators of an order, as the auditor lists them.
func (s *site) rows(order string) (list []record.Validator) {
	s.Helper()
	for v, err := range s.store("auditor").Validators(ctx, record.Query{Order: order}) {
		s.must(err)
		list = append(list, v)
	}
	return list
}

// whole demands that an order has exactly its validators, each once, in the
// store, in the archive and in the receipt, with certificates of this release
// that verify; and that nothing in the tables is half.
func (s *site) whole(order string, n uint32, receipt []byte) []record.Birth {
	s.Helper()
	store, archive := s.store("auditor"), s.archive("auditor")
	s.must(store.Verify(ctx))
	verified, err := s.trust.VerifyReceipt(receipt)
	s.must(err)
	rows := s.rows(order)
	if uint32(len(rows)) != n || uint32(len(verified.Validators)) != n || verified.Order != order {
		s.Fatalf("order %s has %d validators and a receipt of %d (of order %s), not %d", order, len(rows), len(verified.Validators), verified.Order, n)
	}
	var births []record.Birth
	for i, row := range rows {
		b, err := store.Birth(ctx, row.Pubkey)
		s.must(err)
		v, err := s.trust.VerifyBirth(b.Certificate)
		s.must(err)
		s.must(birth.Agrees(b, v.Birth))
		listed, err := birth.Listed(b)
		s.must(err)
		if b.Index != uint32(i) || listed != verified.Validators[i] {
			s.Errorf("order %s, place %d: index %d is not what the receipt lists there", order, i, b.Index)
		}
		object, err := record.EncodeBirth(b)
		s.must(err)
		there, err := archive.Get(ctx, birth.BirthObject(order, b.Index))
		s.must(err)
		if !bytes.Equal(there, object) {
			s.Errorf("order %s, index %d: store and archive differ", order, b.Index)
		}
		births = append(births, b)
	}
	return births
}

// strayed fails for whatever was tried beside AWS.
func (s *site) strayed() {
	s.Helper()
	if strays := s.Strays(); len(strays) > 0 {
		s.Errorf("calls beside AWS: %v", strays)
	}
}

// facts are the function's own lines of the log, each of which is one JSON
// object with a fact and a time: beside them only Lambda writes.
func (s *site) facts() (list []map[string]any) {
	s.Helper()
	for line := range strings.Lines(string(s.Logs())) {
		platform := false
		for _, begin := range []string{"START RequestId: ", "END RequestId: ", "REPORT RequestId: ", "INIT_"} {
			platform = platform || strings.HasPrefix(line, begin)
		}
		if platform {
			continue
		}
		var fact map[string]any
		if err := json.Unmarshal([]byte(line), &fact); err != nil {
			s.Errorf("a line of the log is no JSON: %q", line)
			continue
		}
		at, err := time.Parse(time.RFC3339Nano, fmt.Sprint(fact["time"]))
		if err != nil || fact["fact"] == nil || time.Since(at) > time.Hour {
			s.Errorf("a line of the log is no fact: %q", line)
		}
		list = append(list, fact)
	}
	return list
}
