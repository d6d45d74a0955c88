package world_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdkddb "github.com/aws/aws-sdk-go-v2/service/dynamodb"
	ddbtypes "github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	kmstypes "github.com/aws/aws-sdk-go-v2/service/kms/types"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/smithy-go"

	"github.com/stakeseal/stakeseal/infra/stack"
	"github.com/stakeseal/stakeseal/internal/aws/awstest/world"
	"github.com/stakeseal/stakeseal/internal/aws/session"
)

// TestMain runs the tests in the world, or is the program of TestWithout.
func TestMain(m *testing.M) {
	if os.Args[0] == "without" {
		world.New(without{}, "")
		os.Exit(0)
	}
	os.Exit(world.Main(m))
}

// without is a test for which there is no island.
type without struct{}

func (without) Helper()               {}
func (without) Errorf(string, ...any) {}
func (without) Cleanup(func())        {}
func (without) Skip(args ...any)      { fmt.Print("skipped: ", fmt.Sprint(args...)); os.Exit(0) }
func (without) Fatal(args ...any)     { fmt.Print("failed: ", fmt.Sprint(args...)); os.Exit(1) }

// TestWithout: a test that has no world is skipped, with a reason, and fails
// where nobody would read it.
func TestWithout(t *testing.T) {
	const skipped, failed = "skipped: no world, so nothing was shown: ", "failed: no world: "
	for _, c := range []struct{ ci, island, want string }{
		{"", "", skipped}, {"", "optional", skipped}, {"true", "", failed}, {"true", "needed", failed}, {"true", "optional", skipped},
	} {
		cmd := exec.Cmd{Path: "/proc/self/exe", Args: []string{"without"}, Env: append(os.Environ(), "CI="+c.ci, "STAKESEAL_ISLAND="+c.island)}
		out, _ := cmd.Output()
		if !strings.HasPrefix(string(out), c.want) || len(out) <= len(c.want) {
			t.Errorf("%+v: %s", c, out)
		}
	}
}

var ctx = context.Background()

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

const installation = "stakeseal-hoodi"

func deployed(t testing.TB) (*world.World, *stack.Installation) {
	t.Helper()
	w := world.New(t, t.TempDir())
	inst, err := w.Deploy(stack.Options{Name: installation, Account: world.Account, Region: world.Region})
	must(t, err)
	return w, inst
}

// as is what the programs' clients are made from: no endpoint, no authority.
func as(w *world.World, role string, how ...world.Session) aws.Config {
	return session.New(world.Region, w.Credentials(role, how...), session.Options{Backoff: func(int) time.Duration { return 0 }})
}

func code(err error) string {
	var api smithy.APIError
	switch {
	case err == nil:
		return ""
	case errors.As(err, &api):
		return api.ErrorCode()
	}
	return err.Error()
}

func second[T any](_ T, err error) error { return err }

func out(inst *stack.Installation, stack, name string) *string {
	return aws.String(inst.Outputs[stack][name])
}

// sealed is the encryption context of a signing secret.
func sealed() map[string]string {
	return map[string]string{"app": "stakeseal", "v": "1", "purpose": "signing", "network": "hoodi", "order": "o1", "index": "0", "pubkey": strings.Repeat("ab", 48)}
}

func encrypt(c *kms.Client, key *string) (*kms.EncryptOutput, error) {
	return c.Encrypt(ctx, &kms.EncryptInput{KeyId: key, Plaintext: []byte("secret"), EncryptionAlgorithm: "SYMMETRIC_DEFAULT", EncryptionContext: sealed()})
}

// TestRoles: the real clients, made as the programs make them, meet the real
// names, and the templates' policies decide.
func TestRoles(t *testing.T) {
	w, inst := deployed(t)
	key := out(inst, "foundation", "SigningKeyArn")
	blob, err := encrypt(kms.NewFromConfig(as(w, "generator")), key)
	must(t, err)
	open := func(role string, context map[string]string) error {
		got, err := kms.NewFromConfig(as(w, role)).Decrypt(ctx, &kms.DecryptInput{KeyId: key, CiphertextBlob: blob.CiphertextBlob, EncryptionContext: context, EncryptionAlgorithm: "SYMMETRIC_DEFAULT"})
		if err == nil && string(got.Plaintext) != "secret" {
			t.Errorf("opened as %q", got.Plaintext)
		}
		return err
	}
	must(t, open("signer", sealed()))
	other := sealed()
	other["index"] = "1"
	if err := open("signer", other); code(err) != "InvalidCiphertextException" {
		t.Errorf("with another context: %v", err)
	}
	for _, role := range []string{"generator", "requester", "depositor", "auditor", "administrator", "recovery", "release-manager", "developer", "break-glass"} {
		err := open(role, sealed())
		if code(err) != "AccessDeniedException" || !errors.Is(session.Classify("kms:Decrypt", err), session.ErrDenied) {
			t.Errorf("%s: %v", role, err)
		}
	}
	who, err := sts.NewFromConfig(as(w, "depositor", world.Session{Name: "anna"})).GetCallerIdentity(ctx, nil)
	must(t, err)
	if *who.Account != world.Account || *who.Arn != "arn:aws:sts::"+world.Account+":assumed-role/"+installation+"-depositor/anna" || !strings.HasSuffix(*who.UserId, ":anna") {
		t.Errorf("%s %s %s", *who.Account, *who.Arn, *who.UserId)
	}
	last := w.Trail()[len(w.Trail())-1]
	if last.Action != "GetCallerIdentity" || last.Role != inst.RoleARN("depositor") || last.Error != "" {
		t.Errorf("trail %+v", last)
	}
	if strays := w.Strays(); len(strays) > 0 {
		t.Errorf("strays %v", strays)
	}
}

// TestSignatures: credentials that are wrong in some way, each refused in the
// words of its service as the SDK and session read them.
func TestSignatures(t *testing.T) {
	w, inst := deployed(t)
	good, err := w.Credentials("auditor").Retrieve(ctx)
	must(t, err)
	with := func(change func(*aws.Credentials)) aws.CredentialsProvider {
		c := good
		change(&c)
		return aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) { return c, nil })
	}
	config := func(region string, p aws.CredentialsProvider) aws.Config {
		return session.New(region, p, session.Options{Backoff: func(int) time.Duration { return 0 }})
	}
	expired := w.Credentials("auditor", world.Session{Expired: true})
	calls := map[string]func(aws.Config) error{
		"kms": func(c aws.Config) error {
			return second(kms.NewFromConfig(c).DescribeKey(ctx, &kms.DescribeKeyInput{KeyId: out(inst, "foundation", "SigningKeyArn")}))
		},
		"dynamodb": func(c aws.Config) error {
			return second(sdkddb.NewFromConfig(c).DescribeTable(ctx, &sdkddb.DescribeTableInput{TableName: out(inst, "foundation", "RecordsTableArn")}))
		},
		"s3": func(c aws.Config) error {
			return second(s3.NewFromConfig(c).ListObjectsV2(ctx, &s3.ListObjectsV2Input{Bucket: aws.String(installation + "-archive-" + world.Account)}))
		},
		"sts": func(c aws.Config) error { return second(sts.NewFromConfig(c).GetCallerIdentity(ctx, nil)) },
	}
	for name, c := range map[string]struct {
		cfg  aws.Config
		want map[string]string
	}{
		"good": {config(world.Region, with(func(*aws.Credentials) {})), nil},
		"another secret": {config(world.Region, with(func(c *aws.Credentials) { c.SecretAccessKey = "x" })), map[string]string{
			"kms": "InvalidSignatureException", "dynamodb": "InvalidSignatureException", "s3": "SignatureDoesNotMatch", "sts": "SignatureDoesNotMatch"}},
		"another token": {config(world.Region, with(func(c *aws.Credentials) { c.SessionToken = "x" })), map[string]string{
			"kms": "UnrecognizedClientException", "dynamodb": "UnrecognizedClientException", "s3": "InvalidToken", "sts": "InvalidClientTokenId"}},
		"an unknown key": {config(world.Region, with(func(c *aws.Credentials) { c.AccessKeyID = "ASIANOBODY" })), map[string]string{
			"kms": "UnrecognizedClientException", "dynamodb": "UnrecognizedClientException", "s3": "InvalidAccessKeyId", "sts": "InvalidClientTokenId"}},
		"expired": {config(world.Region, expired), map[string]string{
			"kms": "ExpiredTokenException", "dynamodb": "ExpiredTokenException", "s3": "ExpiredToken", "sts": "ExpiredToken"}},
	} {
		for service, do := range calls {
			err := do(c.cfg)
			if code(err) != c.want[service] {
				t.Errorf("%s, %s: %v", name, service, err)
			}
			if err != nil && !errors.Is(session.Classify("x", err), session.ErrDenied) {
				t.Errorf("%s, %s: session calls it %v", name, service, session.Classify("x", err))
			}
		}
	}
	// Signed for here and sent there.
	elsewhere := config("eu-central-1", with(func(*aws.Credentials) {}))
	elsewhere.Region = world.Region
	if err := calls["sts"](elsewhere); err == nil {
		t.Error("a region's call went to another")
	}
	if err := calls["kms"](config("eu-central-1", with(func(*aws.Credentials) {}))); code(err) != "NotFoundException" {
		t.Errorf("a key of another region: %v", err)
	}
}

// TestDenied: what each service says to who may not, as the SDK reads it.
func TestDenied(t *testing.T) {
	w, inst := deployed(t)
	nobody := as(w, "developer")
	archive := aws.String(installation + "-archive-" + world.Account)
	for name, c := range map[string]struct {
		err  error
		want string
	}{
		"kms":      {second(encrypt(kms.NewFromConfig(nobody), out(inst, "foundation", "SigningKeyArn"))), "AccessDeniedException"},
		"dynamodb": {second(sdkddb.NewFromConfig(nobody).GetItem(ctx, &sdkddb.GetItemInput{TableName: out(inst, "foundation", "RecordsTableArn"), Key: item("order/a", "b")})), "AccessDeniedException"},
		"s3":       {second(s3.NewFromConfig(nobody).GetObject(ctx, &s3.GetObjectInput{Bucket: archive, Key: aws.String("k")})), "AccessDenied"},
		"s3 head":  {second(s3.NewFromConfig(nobody).HeadObject(ctx, &s3.HeadObjectInput{Bucket: archive, Key: aws.String("k")})), "Forbidden"},
	} {
		if code(c.err) != c.want || !errors.Is(session.Classify("x", c.err), session.ErrDenied) {
			t.Errorf("%s: %v", name, c.err)
		}
	}
	for _, e := range w.Trail() {
		if e.Error != "" && e.Role != inst.RoleARN("developer") {
			t.Errorf("%+v", e)
		}
	}
}

func item(pk, sk string) map[string]ddbtypes.AttributeValue {
	return map[string]ddbtypes.AttributeValue{"pk": &ddbtypes.AttributeValueMemberS{Value: pk}, "sk": &ddbtypes.AttributeValueMemberS{Value: sk}}
}

// TestOneWins: through TLS, signatures and policies as well, of many
// conditional writes one wins.
func TestOneWins(t *testing.T) {
	w, inst := deployed(t)
	const writers = 16
	var rows, objects atomic.Int32
	var group sync.WaitGroup
	for i := range writers {
		group.Go(func() {
			cfg := as(w, "generator", world.Session{Name: fmt.Sprint("writer-", i)})
			_, err := sdkddb.NewFromConfig(cfg).PutItem(ctx, &sdkddb.PutItemInput{TableName: out(inst, "foundation", "RecordsTableArn"), Item: item("order/a", "b"),
				ConditionExpression: aws.String("attribute_not_exists(#pk)"), ExpressionAttributeNames: map[string]string{"#pk": "pk"}})
			var lost *ddbtypes.ConditionalCheckFailedException
			switch {
			case err == nil:
				rows.Add(1)
			case !errors.As(err, &lost):
				t.Error(err)
			}
			_, err = s3.NewFromConfig(cfg).PutObject(ctx, &s3.PutObjectInput{Bucket: aws.String(installation + "-archive-" + world.Account), Key: aws.String("k"),
				Body: strings.NewReader(fmt.Sprint(i)), IfNoneMatch: aws.String("*")})
			switch {
			case err == nil:
				objects.Add(1)
			case code(err) != "PreconditionFailed":
				t.Error(err)
			}
		})
	}
	group.Wait()
	if rows.Load() != 1 || objects.Load() != 1 {
		t.Errorf("%d rows, %d objects", rows.Load(), objects.Load())
	}
	// The bucket's policy: not without the condition.
	_, err := s3.NewFromConfig(as(w, "generator")).PutObject(ctx, &s3.PutObjectInput{Bucket: aws.String(installation + "-archive-" + world.Account), Key: aws.String("l"), Body: strings.NewReader("x")})
	if code(err) != "AccessDenied" {
		t.Errorf("without a condition: %v", err)
	}
}

// TestUnknown: what the world does not know is refused, and fails the test
// that does not ask for it.
func TestUnknown(t *testing.T) {
	w, inst := deployed(t)
	key := out(inst, "foundation", "SigningKeyArn")
	for name, do := range map[string]func() error{
		"PutKeyPolicy": func() error {
			return second(kms.NewFromConfig(as(w, "break-glass")).PutKeyPolicy(ctx, &kms.PutKeyPolicyInput{KeyId: key, Policy: aws.String("{}")}))
		},
		"a grant token": func() error {
			return second(kms.NewFromConfig(as(w, "generator")).Encrypt(ctx, &kms.EncryptInput{KeyId: key, Plaintext: []byte("x"), GrantTokens: []string{"t"}}))
		},
		"DeleteItem": func() error {
			return second(sdkddb.NewFromConfig(as(w, "break-glass")).DeleteItem(ctx, &sdkddb.DeleteItemInput{TableName: out(inst, "foundation", "RecordsTableArn"), Key: item("order/a", "b")}))
		},
		"DeleteBucket": func() error {
			return second(s3.NewFromConfig(as(w, "break-glass")).DeleteBucket(ctx, &s3.DeleteBucketInput{Bucket: aws.String(installation + "-archive-" + world.Account)}))
		},
		"GetSessionToken": func() error { return second(sts.NewFromConfig(as(w, "auditor")).GetSessionToken(ctx, nil)) },
	} {
		err := do()
		if err == nil {
			t.Errorf("%s was done", name)
		}
		if problems := w.Problems(); len(problems) == 0 {
			t.Errorf("%s: %v, and no problem is noted", name, err)
		}
	}
}

// TestFaults: each kind, as the SDK sees it.
func TestFaults(t *testing.T) {
	w, inst := deployed(t)
	key := out(inst, "foundation", "SigningKeyArn")
	single := as(w, "generator")
	single.Retryer = func() aws.Retryer { return aws.NopRetryer{} }
	put := func(cfg aws.Config, pk string) error {
		return second(sdkddb.NewFromConfig(cfg).PutItem(ctx, &sdkddb.PutItemInput{TableName: out(inst, "foundation", "RecordsTableArn"), Item: item("order/"+pk, "b")}))
	}
	w.Fail("kms", "Encrypt", 1, world.Fault{Kind: world.Throttled})
	var throttled *kmstypes.LimitExceededException
	if err := second(encrypt(kms.NewFromConfig(single), key)); code(err) != "ThrottlingException" || errors.As(err, &throttled) {
		t.Error(err)
	}
	w.Fail("dynamodb", "PutItem", 1, world.Fault{Kind: world.Throttled})
	var busy *ddbtypes.ProvisionedThroughputExceededException
	if err := put(single, "a"); !errors.As(err, &busy) {
		t.Error(err)
	}
	w.Fail("dynamodb", "", 1, world.Fault{Kind: world.Broken})
	if err := put(single, "a"); code(err) != "InternalServerError" {
		t.Error(err)
	}
	w.Fail("dynamodb", "PutItem", 1, world.Fault{Kind: world.Dropped})
	if err := put(single, "a"); err == nil || w.Tables.Count(inst.Outputs["foundation"]["RecordsTableArn"]) != 0 {
		t.Errorf("dropped: %v", err)
	}
	w.Fail("dynamodb", "PutItem", 1, world.Fault{Kind: world.Lost})
	if err := put(single, "a"); err == nil || w.Tables.Count(inst.Outputs["foundation"]["RecordsTableArn"]) != 1 {
		t.Errorf("lost: %v", err)
	}
	w.Fail("dynamodb", "PutItem", 1, world.Fault{Kind: world.Slow, Delay: time.Millisecond})
	must(t, put(single, "b"))
	// With the session's own retries they pass.
	w.Fail("dynamodb", "PutItem", -1, world.Fault{Kind: world.Throttled, Every: 2, Role: "generator"})
	before := len(w.Calls("dynamodb", "PutItem"))
	for i := range 6 {
		must(t, put(as(w, "generator"), fmt.Sprint(i)))
	}
	failed := 0
	for _, e := range w.Calls("dynamodb", "PutItem")[before:] {
		if e.Fault == world.Throttled {
			failed++
		}
	}
	if failed != 5 { // calls 2, 4, 6, 8 and 10 of 11
		t.Errorf("%d were throttled", failed)
	}
	w.Heal()
	must(t, put(single, "z"))
}

// TestStrays: what goes anywhere else is refused, and seen.
func TestStrays(t *testing.T) {
	w, _ := deployed(t)
	for _, address := range []string{"192.0.2.1:443", "169.254.169.254:80", "127.0.0.1:4566"} {
		if conn, err := net.Dial("tcp", address); err == nil {
			t.Errorf("connected to %s", conn.RemoteAddr())
		}
	}
	for _, name := range []string{"example.com", "kms.mars-north-1.amazonaws.com", "evil.us-east-1.amazonaws.com", "kms.us-east-1.amazonaws.com.evil.example"} {
		if found, err := net.LookupHost(name); err == nil {
			t.Errorf("%s is %v", name, found)
		}
	}
	own, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer own.Close()
	w.Expect(own.Addr().String())
	conn, err := net.Dial("tcp", own.Addr().String())
	must(t, err)
	_ = conn.Close()
	seen := map[string]int{}
	for _, s := range w.Strays() {
		seen[s.What]++
	}
	for _, want := range []string{"tcp 192.0.2.1:443", "tcp 169.254.169.254:80", "tcp 127.0.0.1:4566", "name example.com", "name kms.mars-north-1.amazonaws.com", "name kms.us-east-1.amazonaws.com.evil.example"} {
		if seen[want] == 0 {
			t.Errorf("%s was not seen: %v", want, seen)
		}
	}
	if seen["tcp "+own.Addr().String()] != 0 {
		t.Error("the test's own server is a stray")
	}
	if _, err := net.LookupHost("kms.us-east-1.amazonaws.com"); err != nil {
		t.Error(err)
	}
}

// TestOneWorld: there is one at a time, and what it knew ends with it.
func TestOneWorld(t *testing.T) {
	w, inst := deployed(t)
	if second, err := world.Open(t.TempDir()); err == nil {
		_ = second.Close()
		t.Error("two worlds")
	}
	cfg := as(w, "generator")
	must(t, w.Close())
	next, err := world.Open(t.TempDir())
	must(t, err)
	defer next.Close()
	if err := second(encrypt(kms.NewFromConfig(cfg), out(inst, "foundation", "SigningKeyArn"))); code(err) != "UnrecognizedClientException" {
		t.Errorf("the next world knows the credentials: %v", err)
	}
}
