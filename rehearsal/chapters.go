package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	lambdatypes "github.com/aws/aws-sdk-go-v2/service/lambda/types"

	"github.com/stakeseal/stakeseal/internal/aws/awstest/world"
	"github.com/stakeseal/stakeseal/internal/aws/session"
	"github.com/stakeseal/stakeseal/internal/telling"
)

func (s *story) home() error {
	s.Heading("The depositor makes a home from the stacks' outputs, and from the certifying key that the auditor read.")
	args, err := s.Init()
	if err != nil {
		return err
	}
	if _, err := s.Stakeseal(s.as("depositor"), 0, args...); err != nil {
		return err
	}
	settings, err := os.ReadFile(filepath.Join(s.Home, "generator.yaml"))
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(settings)) {
		for _, key := range []string{"certifier:", "store:", "archive:"} {
			if strings.HasPrefix(line, key) {
				s.Line("%s", strings.TrimSpace(line))
			}
		}
	}
	return nil
}

// release takes the package through the hands it has to go through, each with
// that person's role and key.
func (s *story) release() error {
	s.Heading("A developer submits the generator with these settings; a release manager rebuilds, approves, signs and deploys it.")
	begun := time.Now()
	people := "developers:\n"
	for _, name := range []string{"dora", "rita"} {
		r, err := s.Run(nil, "stakeseal", "release", "key", "--out", s.key(name))
		if err != nil {
			return err
		}
		public := keyLine.FindString(r.Out)
		if public == "" {
			return fmt.Errorf("no public key was printed: %s%s", r.Out, r.Err)
		}
		if name == "rita" {
			people += "release_managers:\n"
		}
		people += fmt.Sprintf("  - name: %s\n    key: %q\n", name, public)
	}
	if err := appendTo(filepath.Join(s.Home, "trust.yaml"), people); err != nil {
		return err
	}
	zip := filepath.Join(s.Dir, "package.zip")
	if err := s.must(nil, "release", "build", "--settings", s.Home, "--arch", "x86_64", "--source", s.source, "--out", zip); err != nil {
		return err
	}
	data, err := os.ReadFile(zip)
	if err != nil {
		return err
	}
	s.release1 = fmt.Sprintf("%x", sha256.Sum256(data))
	s.Line("%s...: static, %.1f MB, built from the commit in %.0f s", s.release1[:16], float64(len(data))/1e6, time.Since(begun).Seconds())
	depot := "s3:" + s.Output("foundation", "PackageBucketArn")
	report := filepath.Join(s.Dir, "report.json")
	for _, step := range []struct {
		role string
		args []string
	}{
		{"developer", []string{"submit", zip, "--depot", depot, "--key", s.key("dora"), "--description", "the first release"}},
		{"release-manager", []string{"review", s.release1, "--depot", depot, "--source", s.source, "--report", report, "--offline"}},
		{"release-manager", []string{"approve", s.release1, "--depot", depot, "--report", report, "--key", s.key("rita"), "--comment", "rebuilt equally", "--yes"}},
		{"release-manager", []string{"sign", s.release1, "--depot", depot, "--name", "v1", "--key", s.key("rita"), "--yes"}},
	} {
		if err := s.must(s.as(step.role), append([]string{"release"}, step.args...)...); err != nil {
			return err
		}
		s.Line("%-16s %s", step.role, step.args[0])
	}
	r, err := s.Stakeseal(s.as("developer"), 6, "release", "sign", s.release1, "--depot", depot, "--name", "mine", "--key", s.key("dora"), "--yes")
	if err != nil {
		return err
	}
	s.Line("%-16s %s: refused: %s", "developer", "sign", r.Quote())
	return s.deploy()
}

// deploy puts the release in force.
func (s *story) deploy() error {
	if err := s.must(s.as("release-manager"), "release", "deploy", s.release1, "--yes", "--depot", "s3:"+s.Output("foundation", "PackageBucketArn")); err != nil {
		return err
	}
	if err := s.must(s.as("release-manager"), "release", "verify"); err != nil {
		return err
	}
	s.Line("%-16s %s", "release-manager", "deploy: a version is published, read back and compared, and the alias live moves to it")
	return nil
}

// must is Stakeseal for those whose words are not told.
func (s *story) must(environ []string, args ...string) error {
	_, err := s.Stakeseal(environ, 0, args...)
	return err
}

func (s *story) key(name string) string { return filepath.Join(s.Dir, name+".key") }

var keyLine = regexp.MustCompile(`ed25519:[A-Za-z0-9+/=_-]+`)

func appendTo(file, text string) error {
	data, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	return os.WriteFile(file, append(data, text...), 0o600)
}

func (s *story) list(order string) ([]string, error) {
	r, err := s.Stakeseal(s.as("auditor"), 0, "list", "--order", order)
	if err != nil {
		return nil, err
	}
	return telling.Pubkey.FindAllString(r.Out, -1), nil
}

func (s *story) generate(order string, count int, more ...string) error {
	_, err := s.Stakeseal(s.as("requester"), 0, append([]string{"generate", "--count", fmt.Sprint(count), "--order", order, "--yes"}, more...)...)
	return err
}

func (s *story) birth() error {
	s.Heading("A requester orders 6 validators: one call of the alias. Nobody sees a key.")
	if err := s.generate("first", 6); err != nil {
		return err
	}
	keys, err := s.list("first")
	if err != nil {
		return err
	}
	s.keys = keys
	if len(keys) != 6 {
		return fmt.Errorf("%d keys were made", len(keys))
	}
	ran := s.World.Invocations()
	last := ran[len(ran)-1]
	s.Line("made in %d ms after a cold start of %d ms, %d MB at most; the first is %s...", last.Duration.Milliseconds(), last.Init.Milliseconds(), last.Peak>>20, keys[0][:20])
	if err := s.generate("first", 6); err != nil {
		return err
	}
	again, err := s.list("first")
	if err != nil || !slices.Equal(again, keys) {
		return errors.Join(err, fmt.Errorf("the same order again gave other keys"))
	}
	s.Line("the same order again: the same 6")
	if _, err := s.Stakeseal(s.as("administrator"), 0, "assign", "--to", "signer-a", "--order", "first"); err != nil {
		return err
	}
	s.Line("the administrator assigns them to the signer signer-a")
	return nil
}

func (s *story) generatorCannotOpen() error {
	s.Heading("The generator's own role asks KMS to open what it sealed. (G1)")
	sealed := s.World.Calls("kms", "Encrypt")
	client := kms.NewFromConfig(s.Config("generator"))
	for _, key := range []string{"SigningKeyArn", "RecoveryKeyArn"} {
		// What is asked is refused before the ciphertext is looked at.
		_, err := client.Decrypt(context.Background(), &kms.DecryptInput{KeyId: aws.String(s.Output("foundation", key)), CiphertextBlob: make([]byte, 200)})
		var fault *session.Fault
		if err = session.Classify("kms:Decrypt", err); !errors.Is(err, session.ErrDenied) || !errors.As(err, &fault) {
			return fmt.Errorf("kms:Decrypt as the generator: %w", err)
		}
		s.Line("%s: %s", strings.TrimSuffix(key, "Arn"), fault.Code)
	}
	s.Line("it sealed %d times with that role, and each sealing says in the trail what it is for", len(sealed))
	return nil
}

// redirected plays somebody who may change the function's configuration.
func (s *story) redirected() error {
	s.Heading("Somebody points the function's calls elsewhere, through its environment. (G7)")
	var poisoned string
	var err error
	before := len(s.World.Strays()) // git asks for this machine's name while a release is built
	for _, poison := range []struct{ name, value string }{
		{"AWS_ENDPOINT_URL_KMS", "https://203.0.113.1"}, {"HTTPS_PROXY", "http://203.0.113.1:3128"}, {"SSL_CERT_FILE", "/tmp/ca.pem"}, {"GODEBUG", "http2debug=2"},
	} {
		if err := s.World.Configure(map[string]string{poison.name: poison.value}, 0, 0, 0); err != nil {
			return err
		}
		if poisoned, err = s.World.Publish(); err != nil {
			return err
		}
		r, err := s.Run(s.as("requester"), "stakeseal", "--home", s.Home, "generate", "--count", "1", "--order", "poisoned", "--yes")
		if err != nil || r.Code == 0 {
			return errors.Join(err, fmt.Errorf("keys were made with %s", poison.name))
		}
		s.Line("%s: refused: %s", poison.name, r.Quote())
	}
	if strays := s.World.Strays()[before:]; len(strays) > 0 {
		return fmt.Errorf("calls went elsewhere: %v", strays)
	}
	s.Line("not one byte went elsewhere")
	if err := s.World.Configure(map[string]string{}, 0, 0, 0); err != nil {
		return err
	}
	return s.restore(poisoned)
}

// restore deploys the release over a version that somebody else published.
// That must be gone then: nobody may go back to it, or call it.
func (s *story) restore(version string) error {
	if err := s.deploy(); err != nil {
		return err
	}
	function, _ := strings.CutSuffix(s.Output("function", "FunctionAliasArn"), ":live")
	_, err := lambda.NewFromConfig(s.Config("release-manager")).GetFunction(context.Background(), &lambda.GetFunctionInput{FunctionName: &function, Qualifier: &version})
	var gone *lambdatypes.ResourceNotFoundException
	if !errors.As(err, &gone) {
		return fmt.Errorf("version %s, which nobody released, is still there: %v", version, err)
	}
	return nil
}

func (s *story) crash() error {
	const count = 60
	s.Heading("An order of %d while DynamoDB throttles, an answer is lost, and the function is killed in the middle. (G5, G6)", count)
	s.World.Fail("dynamodb", "", 12, world.Fault{Kind: world.Throttled, Every: 9})
	s.World.Fail("kms", "Encrypt", 3, world.Fault{Kind: world.Throttled, Every: 11})
	s.World.Fail("dynamodb", "PutItem", 1, world.Fault{Kind: world.KilledAfter, Skip: 30})
	s.World.Fail("s3", "PutObject", 1, world.Fault{Kind: world.Lost, Skip: 15})
	if err := s.generate("crashed", count); err != nil {
		return err
	}
	s.World.Heal()
	keys, err := s.list("crashed")
	if err != nil {
		return err
	}
	gone := 0
	for _, run := range s.World.Invocations() {
		if run.Error != "" {
			gone++
		}
	}
	injected := 0
	for _, e := range s.World.Trail() {
		if e.Fault != 0 {
			injected++
		}
	}
	if len(keys) != count {
		return fmt.Errorf("%d keys were recorded", len(keys))
	}
	s.Line("%d calls went wrong; the order has exactly %d validators", injected, len(keys))
	return nil
}

// otherRoles lets each person try what is another's.
func (s *story) otherRoles() error {
	s.Heading("Each role tries what is not its own.")
	open := []string{"keystore", "export", "--signer", "signer-a", "--identity", "awskms:" + s.Output("foundation", "SigningKeyArn"), "--for", "web3signer",
		"--out", filepath.Join(s.Dir, "stolen"), "--yes", s.keys[0]}
	drill := []string{"recovery", "drill", "--identity", "awskms:" + s.Output("foundation", "RecoveryKeyArn"), "--order", "first"}
	for _, try := range []struct {
		role string
		what string
		args []string
	}{
		{"depositor", "order keys", []string{"generate", "--count", "1", "--yes"}},
		{"requester", "open a mnemonic", drill},
		{"depositor", "open a mnemonic", drill},
		{"signer", "open a mnemonic", drill},
		{"release-manager", "read the records", []string{"list"}},
		{"developer", "read the records", []string{"list"}},
		{"recovery", "hand over signing keys", open},
		{"auditor", "hand over signing keys", open},
	} {
		r, err := s.Stakeseal(s.as(try.role), 6, try.args...)
		if err != nil {
			return err
		}
		s.Line("%-16s %-24s exit code %d: %s", try.role, try.what, r.Code, r.Quote())
	}
	return nil
}

func (s *story) drill() error {
	s.Heading("The recovery holder drills: every mnemonic opened, every key derived again, nothing shown. (G12)")
	args := []string{"recovery", "drill", "--identity", "awskms:" + s.Output("foundation", "RecoveryKeyArn")}
	without, err := s.taking("recovery", world.Session{Name: "anna", NoMFA: true})
	if err != nil {
		return err
	}
	r, err := s.Stakeseal(without, 2, args...)
	if err != nil {
		return err
	}
	s.Line("without a second factor the role is not given: %s", r.Quote())
	with, err := s.taking("recovery", world.Session{Name: "anna"})
	if err != nil {
		return err
	}
	if r, err = s.Stakeseal(with, 0, args...); err != nil {
		return err
	}
	s.Line("with it: %d orders", strings.Count(r.Out, "\n")-1)
	return nil
}

// taking is the environment of somebody who has their own session and a
// profile that takes a role with it: what the role's trust asks is asked.
func (s *story) taking(role string, own world.Session) ([]string, error) {
	keys, err := s.World.Credentials("role/people-"+role, own).Retrieve(context.Background())
	if err != nil {
		return nil, err
	}
	profile := fmt.Sprintf("[profile %s]\nrole_arn = %s\nrole_session_name = %s\nsource_profile = own\n[profile own]\naws_access_key_id = %s\naws_secret_access_key = %s\naws_session_token = %s\n",
		role, s.World.RoleARN(role), own.Name, keys.AccessKeyID, keys.SecretAccessKey, keys.SessionToken)
	file := filepath.Join(s.Dir, "profile-"+role)
	if err := os.WriteFile(file, []byte(profile), 0o600); err != nil {
		return nil, err
	}
	return append(slices.Clone(s.golang), "PATH="+os.Getenv("PATH"), "HOME="+s.Dir, "AWS_CONFIG_FILE="+file, "AWS_PROFILE="+role), nil
}

func (s *story) deposits() error {
	s.Heading("The depositor exports the deposit file and judges it. (G9)")
	out := filepath.Join(s.Dir, "deposits")
	if err := os.Mkdir(out, 0o700); err != nil {
		return err
	}
	if _, err := s.Stakeseal(s.as("depositor"), 0, "deposit", "export", "--order", "first", "--out", out); err != nil {
		return err
	}
	files, err := filepath.Glob(filepath.Join(out, "*.json"))
	if err != nil || len(files) != 1 {
		return errors.Join(err, fmt.Errorf("%d deposit files", len(files)))
	}
	if _, err := s.Stakeseal(s.as("depositor"), 0, "deposit", "verify", files[0]); err != nil {
		return err
	}
	s.Line("6 deposits good: roots, signatures, network, address, certificates of the KMS key")
	r, err := s.Stakeseal(s.as("depositor"), 5, "deposit", "export", "--order", "first", "--out", out)
	if err != nil {
		return err
	}
	s.Line("exported again: refused, exit code %d: %s", r.Code, r.Quote())
	return nil
}
