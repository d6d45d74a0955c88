// Package importstory tells how the AWS sample's validators are taken in, with
// the real program, unchanged, against package world: into a home on one
// machine from the sample's live table, and into an installation on AWS, role
// by role, with what is denied.
package importstory

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/kms"

	"github.com/stakeseal/stakeseal/eth"
	"github.com/stakeseal/stakeseal/eth/keystore"
	"github.com/stakeseal/stakeseal/infra/stack"
	"github.com/stakeseal/stakeseal/internal/aws/awstest"
	"github.com/stakeseal/stakeseal/internal/aws/awstest/tables"
	"github.com/stakeseal/stakeseal/internal/aws/awstest/world"
	"github.com/stakeseal/stakeseal/internal/aws/sample/sampletest"
	"github.com/stakeseal/stakeseal/internal/aws/session"
	"github.com/stakeseal/stakeseal/internal/canary"
)

func TestMain(m *testing.M) { os.Exit(world.Main(m)) }

const (
	name    = "stakeseal-hoodi"
	address = "0x388C818CA8B9251b393131C08a736A67ccB19297"
	table   = "arn:aws:dynamodb:" + world.Region + ":" + world.Account + ":table/secure-keygen-ValidatorKeysTable-ABC"
	// Roles of the sample's account, which are none of the installation's.
	function = "role/secure-keygen-function"
	operator = "role/people-importer"
)

var program = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "importstory-")
	if err != nil {
		return "", err
	}
	for _, from := range []string{"..", "../../stakeseal-generator"} {
		if out, err := exec.Command("go", "build", "-o", dir+"/", from).CombinedOutput(); err != nil {
			return "", fmt.Errorf("couldn't build: %w\n%s", err, out)
		}
	}
	return dir, nil
})

// site is a world with the sample deployed in it, and an operator's machine.
type site struct {
	*testing.T
	*world.World
	bin, dir, home string
	key            string // the sample's
	rows           []sampletest.Row
	said           bytes.Buffer
}

func newSite(t *testing.T) *site {
	t.Helper()
	bin, err := program()
	if err != nil {
		t.Fatal(err)
	}
	s := &site{T: t, World: world.New(t, t.TempDir()), bin: bin, dir: t.TempDir()}
	s.home = s.path("home")
	return s
}

// sample deploys the AWS sample: a key whose policy lets its function encrypt
// and, as its owner decided, some decrypt; a table of several pages.
func (s *site) sample(openers ...string) {
	s.Helper()
	for i, role := range openers {
		openers[i] = s.RoleARN(role)
	}
	policy, err := json.Marshal(map[string]any{"Version": "2012-10-17", "Statement": []map[string]any{
		{"Effect": "Allow", "Principal": map[string]any{"AWS": s.RoleARN(function)}, "Action": "kms:Encrypt", "Resource": "*"},
		{"Effect": "Allow", "Principal": map[string]any{"AWS": openers}, "Action": "kms:Decrypt", "Resource": "*"},
	}})
	if err != nil {
		s.Fatal(err)
	}
	if s.key, err = s.Keys.Make(awstest.Key{Spec: awstest.Symmetric, Policy: string(policy)}); err != nil {
		s.Fatal(err)
	}
	if err := s.Tables.Make(tables.Table{ARN: table, Hash: "web3signer_uuid", Range: "pubkey"}); err != nil {
		s.Fatal(err)
	}
	s.Tables.PageOf(2)
	hoodi, _ := eth.LookupNetwork("hoodi")
	to, err := eth.ParseAddress(address)
	if err != nil {
		s.Fatal(err)
	}
	as := session.New(world.Region, s.Credentials(function), session.Options{})
	f := sampletest.Function{Network: hoodi, Address: &to, KDF: keystore.PBKDF2, Now: time.Now(), Encrypt: func(plain []byte) ([]byte, error) {
		out, err := kms.NewFromConfig(as).Encrypt(context.Background(), &kms.EncryptInput{KeyId: &s.key, Plaintext: plain, EncryptionAlgorithm: "SYMMETRIC_DEFAULT"})
		if err != nil {
			return nil, err
		}
		return out.CiphertextBlob, nil
	}}
	arn := table
	s.rows = nil
	for _, n := range []uint32{3, 2} {
		rows, err := f.Invoke(n)
		if err != nil {
			s.Fatal(err)
		}
		for _, r := range rows {
			if _, err := dynamodb.NewFromConfig(as).PutItem(context.Background(), &dynamodb.PutItemInput{TableName: &arn, Item: r.Item}); err != nil {
				s.Fatal(err)
			}
		}
		s.rows = append(s.rows, rows...)
	}
}

func (s *site) path(name string) string { return filepath.Join(s.dir, name) }

type result struct {
	stdout, stderr string
	code           int
}

// run is a run of stakeseal by a role, "" for one without credentials.
func (s *site) run(role string, args ...string) result {
	s.Helper()
	cmd := exec.Command(filepath.Join(s.bin, "stakeseal"), args...)
	cmd.Dir = s.dir
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + s.dir, "AWS_EC2_METADATA_DISABLED=true"}
	if role != "" {
		cmd.Env = append(cmd.Env, s.Environ(role, world.Session{Name: "anna"})...)
	}
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	var exit *exec.ExitError
	if err := cmd.Run(); err != nil && !errors.As(err, &exit) {
		s.Fatal(err)
	}
	s.said.Write(stdout.Bytes())
	s.said.Write(stderr.Bytes())
	return result{stdout.String(), stderr.String(), cmd.ProcessState.ExitCode()}
}

// must is run in the home, with the exit code that is expected.
func (s *site) must(code int, role string, args ...string) result {
	s.Helper()
	r := s.run(role, append(args, "--home", s.home)...)
	if r.code != code {
		s.Fatalf("%s: stakeseal %s: exit %d, not %d\n%s%s", role, strings.Join(args, " "), r.code, code, r.stdout, r.stderr)
	}
	return r
}

// hidden searches what was printed, written and kept for every secret of the
// sample's rows.
func (s *site) hidden(kept ...[]byte) {
	s.Helper()
	var n canary.Needles
	for _, r := range s.rows {
		short := r.Pubkey.Hex()[:8]
		n.Add("key of "+short, r.Raw)
		n.Add("password of "+short, r.Password)
		n.Add("keystore of "+short, r.Keystore)
		n.Add("mnemonic of "+short, r.Words)
	}
	found, _, err := n.InTree(s.dir)
	if err != nil {
		s.Fatal(err)
	}
	for _, data := range append(kept, s.said.Bytes()) {
		found = append(found, n.In(data)...)
	}
	if len(found) > 0 {
		s.Errorf("secrets in the clear: %q", found)
	}
	if len(n.In(s.rows[0].Raw)) == 0 {
		s.Error("the search finds nothing")
	}
}

// TestFromTable: a home on one machine takes in the live table, page by page,
// as somebody of the sample's account.
func TestFromTable(t *testing.T) {
	s := newSite(t)
	// The world judges calls by an installation's policies; this one is not used.
	if _, err := s.Deploy(stack.Options{Name: name, Account: world.Account, Region: world.Region}); err != nil {
		t.Fatal(err)
	}
	s.sample(operator)
	s.must(0, "", "init", "--network", "hoodi", "--withdrawal-address", "cold="+address, "--identities", s.path("identities"))
	take := []string{"import", "aws-sample", "--table", table, "--kms-key", s.key, "--yes"}
	s.must(2, "", take...) // no credentials
	export := s.path("table.json")
	if err := os.WriteFile(export, sampletest.Export(s.rows...), 0o600); err != nil {
		t.Fatal(err)
	}
	if r := s.must(6, "auditor", "import", "aws-sample", "--from-file", export, "--kms-key", s.key, "--yes"); !strings.Contains(r.stderr, "policy of "+s.key) {
		t.Errorf("who could let them in is not said:\n%s", r.stderr)
	}
	s.must(6, "auditor", take...)
	if r := s.must(0, operator, append(take, "--dry-run")...); strings.Count(r.stdout, "ready") != 5 {
		t.Errorf("dry run:\n%s", r.stdout)
	}
	s.Fail("kms", "Decrypt", 3, world.Fault{Kind: world.Throttled, Skip: 4})
	s.Fail("dynamodb", "Scan", 1, world.Fault{Kind: world.Lost, Skip: 1})
	if r := s.must(0, operator, take...); !strings.Contains(r.stderr, "5 rows: 5 imported") {
		t.Errorf("%s%s", r.stdout, r.stderr)
	}
	if r := s.must(0, operator, take...); !strings.Contains(r.stderr, "5 rows: 5 already there") {
		t.Errorf("%s%s", r.stdout, r.stderr)
	}
	s.must(0, "", "recovery", "drill", "--order", "imported", "--identity", s.path("identities/recovery-a.identity"))
	s.must(0, "", "assign", "--to", "signer-a", "--order", "imported")
	for _, e := range s.Trail() {
		if e.Service == "dynamodb" && e.Action != "Scan" && e.Role != s.RoleARN(function) || e.Service == "kms" && e.Action == "Decrypt" && !strings.Contains(e.Resource, s.key) {
			t.Errorf("a call that an import does not make: %+v", e)
		}
	}
	s.hidden()
}

// profile writes an AWS profile with a session of the role.
func (s *site) profile(profile, role string) {
	s.Helper()
	keys, err := s.Credentials(role).Retrieve(context.Background())
	if err != nil {
		s.Fatal(err)
	}
	if err := os.MkdirAll(s.path(".aws"), 0o700); err != nil {
		s.Fatal(err)
	}
	text := fmt.Sprintf("[%s]\naws_access_key_id = %s\naws_secret_access_key = %s\naws_session_token = %s\n", profile, keys.AccessKeyID, keys.SecretAccessKey, keys.SessionToken)
	if err := os.WriteFile(filepath.Join(s.dir, ".aws", "credentials"), []byte(text), 0o600); err != nil {
		s.Fatal(err)
	}
}

// TestIntoInstallation: the importer's role seals to the installation's KMS
// keys and puts into its tables and bucket, and opens nothing, neither here
// nor there: the sample is read as somebody of its own account.
func TestIntoInstallation(t *testing.T) {
	s := newSite(t)
	inst, err := s.Deploy(stack.Options{Name: name, Account: world.Account, Region: world.Region, Parameters: map[string]map[string]string{
		"bootstrap":  {"ImporterPrincipals": "arn:aws:iam::" + world.Account + ":role/people-importer"},
		"foundation": {"Importer": "on"},
	}})
	if err != nil {
		t.Fatal(err)
	}
	s.sample(operator)
	s.init(inst)
	s.profile("sample", operator)
	take := []string{"import", "aws-sample", "--table", table, "--kms-key", s.key, "--sample-profile", "sample", "--yes"}
	export := s.path("table.json")
	if err := os.WriteFile(export, sampletest.Export(s.rows...), 0o600); err != nil {
		t.Fatal(err)
	}
	s.must(6, "importer", append(take[:len(take)-3:len(take)-3], "--yes")...)                         // as itself it may not read the table
	s.must(6, "importer", "import", "aws-sample", "--from-file", export, "--kms-key", s.key, "--yes") // nor open it
	s.must(2, "importer", append(take, "--sample-profile", "nosuch")...)
	s.must(6, "requester", take...)
	s.must(6, "administrator", take...)
	if n := len(s.Buckets.Dump()); s.Tables.Count(inst.Outputs["foundation"]["RecordsTableArn"]) != 0 {
		t.Errorf("who may not import left %d bytes", n)
	}
	if r := s.must(0, "importer", take...); !strings.Contains(r.stderr, "5 rows: 5 imported") {
		t.Errorf("%s%s", r.stdout, r.stderr)
	}
	if r := s.must(0, "importer", take...); !strings.Contains(r.stderr, "5 rows: 5 already there") {
		t.Errorf("%s%s", r.stdout, r.stderr)
	}
	if r := s.must(0, "auditor", "list"); strings.Count(r.stdout, "imported 2") != 5 {
		t.Errorf("list:\n%s", r.stdout)
	}
	pubkey := s.rows[0].Pubkey.String()
	if r := s.must(0, "auditor", "show", pubkey); !strings.Contains(r.stdout, "nobody can say who saw this key before") {
		t.Errorf("show:\n%s", r.stdout)
	}
	drill := []string{"recovery", "drill", "--order", "imported", "--identity", "awskms:" + inst.Outputs["foundation"]["RecoveryKeyArn"]}
	s.must(6, "importer", drill...)
	s.must(6, "signer", drill...)
	s.must(0, "recovery", drill...)
	s.must(6, "importer", "assign", "--to", "signer-a", pubkey)
	s.must(0, "administrator", "assign", "--to", "signer-a", pubkey)
	hand := []string{"keystore", "export", "--signer", "signer-a", "--for", "web3signer", "--yes", "--no-history-known", pubkey,
		"--identity", "awskms:" + inst.Outputs["foundation"]["SigningKeyArn"]}
	s.must(6, "importer", append(hand, "--out", s.path("never"))...)
	s.hidden(s.Tables.Dump(), s.Buckets.Dump())
	s.must(0, "signer", append(hand, "--out", s.path("handed"))...)
	for _, e := range s.Calls("kms", "Encrypt") {
		if e.Role == s.RoleARN("importer") && !strings.Contains(fmt.Sprint(e.Params), "imported") {
			t.Errorf("an import sealed as something else: %+v", e)
		}
	}
}

// init makes the operator's home of the installation.
func (s *site) init(inst *stack.Installation) {
	s.Helper()
	client := kms.NewFromConfig(session.New(world.Region, s.Credentials("administrator"), session.Options{}))
	key := inst.Outputs["foundation"]["CertifyingKeyArn"]
	out, err := client.GetPublicKey(context.Background(), &kms.GetPublicKeyInput{KeyId: &key})
	if err != nil {
		s.Fatal(err)
	}
	if err := os.WriteFile(s.path("certifying.der"), out.PublicKey, 0o600); err != nil {
		s.Fatal(err)
	}
	anna := s.run("", "identity", "new", "--out", s.path("anna.identity"))
	if err := os.WriteFile(s.path("anna.txt"), []byte(anna.stdout), 0o600); err != nil {
		s.Fatal(err)
	}
	s.must(0, "auditor", "init", "--aws", "--stack", name+"-foundation", "--region", world.Region, "--certifying-key", s.path("certifying.der"),
		"--network", "hoodi", "--withdrawal-address", "cold="+address, "--recovery", "anna="+s.path("anna.txt"))
}
