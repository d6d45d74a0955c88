// Package awsstory tells the command line's stories on AWS: the real programs,
// unchanged, against package world, where every call is judged by the policies
// of our own templates. Each story is told role by role, with what is denied.
package awsstory

import (
	"archive/zip"
	"bytes"
	"context"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/kms"

	"github.com/stakeseal/stakeseal/infra/stack"
	"github.com/stakeseal/stakeseal/internal/aws/awstest/world"
	"github.com/stakeseal/stakeseal/internal/aws/session"
)

func TestMain(m *testing.M) { os.Exit(world.Main(m)) }

const (
	name    = "stakeseal-hoodi"
	address = "0x388C818CA8B9251b393131C08a736A67ccB19297"
)

// programs builds the two programs once.
var programs = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "awsstory-")
	if err != nil {
		return "", err
	}
	// The generator as a package has it: where it runs there is no C library.
	for _, args := range [][]string{
		{"-o", dir + "/stakeseal", ".."},
		{"-o", dir + "/stakeseal-generator", "../../stakeseal-generator"},
		{"-o", dir + "/bootstrap", "-tags", "netgo,osusergo", "-ldflags", "-linkmode=external -extldflags=-static", "../../stakeseal-generator"},
	} {
		if out, err := exec.Command("go", append([]string{"build"}, args...)...).CombinedOutput(); err != nil {
			return "", fmt.Errorf("couldn't build the programs: %w\n%s", err, out)
		}
	}
	return dir, nil
})

// site is an installation with an operator's machine.
type site struct {
	*testing.T
	*world.World
	inst *stack.Installation
	bin  string
	dir  string
	home string
}

// deployed is a site whose stacks stand, and nothing else.
func deployed(t *testing.T, parameters map[string]map[string]string) *site {
	t.Helper()
	bin, err := programs()
	if err != nil {
		t.Fatal(err)
	}
	s := &site{T: t, World: world.New(t, t.TempDir()), bin: bin, dir: t.TempDir()}
	s.home = filepath.Join(s.dir, "home")
	if s.inst, err = s.Deploy(stack.Options{Name: name, Account: world.Account, Region: world.Region, Parameters: parameters}); err != nil {
		t.Fatal(err)
	}
	return s
}

// released is a site with a home, and its settings in force behind the alias.
func released(t *testing.T, parameters map[string]map[string]string) *site {
	t.Helper()
	s := deployed(t, parameters)
	s.ok("auditor", s.init()...)
	s.release()
	return s
}

// init is the command that makes the home, with the certifying key as its
// administrator reads it and a recovery recipient beside KMS.
func (s *site) init(more ...string) []string {
	s.Helper()
	s.ok("", "identity", "new", "--out", s.path("anna.identity"))
	s.write("anna.txt", []byte(s.ok("", "identity", "new", "--out", s.path("anna2.identity")).stdout))
	s.write("certifying.der", s.certifying())
	return append([]string{"init", "--home", s.home, "--aws", "--stack", name + "-foundation", "--region", world.Region, "--certifying-key", s.path("certifying.der"),
		"--network", "hoodi", "--withdrawal-address", "cold=" + address, "--recovery", "anna=" + s.path("anna.txt")}, more...)
}

// certifying is the certifying key's public half, DER.
func (s *site) certifying() []byte {
	s.Helper()
	client := kms.NewFromConfig(session.New(world.Region, s.Credentials("administrator"), session.Options{}))
	key := s.output("CertifyingKeyArn")
	out, err := client.GetPublicKey(context.Background(), &kms.GetPublicKeyInput{KeyId: &key})
	if err != nil {
		s.Fatal(err)
	}
	return out.PublicKey
}

func (s *site) output(key string) string {
	s.Helper()
	value := s.inst.Outputs["foundation"][key]
	if value == "" {
		s.Fatalf("the foundation has no output %s", key)
	}
	return value
}

// release puts the home's settings into a package, and that into force.
func (s *site) release() {
	s.Helper()
	var buffer bytes.Buffer
	z := zip.NewWriter(&buffer)
	add := func(name, from string, mode os.FileMode) {
		data, err := os.ReadFile(from)
		if err != nil {
			s.Fatal(err)
		}
		h := &zip.FileHeader{Name: name, Method: zip.Deflate}
		h.SetMode(mode)
		w, err := z.CreateHeader(h)
		if err == nil {
			_, err = w.Write(data)
		}
		if err != nil {
			s.Fatal(err)
		}
	}
	add("bootstrap", filepath.Join(s.bin, "bootstrap"), 0o755)
	add("generator.yaml", filepath.Join(s.home, "generator.yaml"), 0o644)
	recipients, err := filepath.Glob(filepath.Join(s.home, "recipients", "*.txt"))
	if err != nil || len(recipients) == 0 {
		s.Fatalf("recipients: %q, %v", recipients, err)
	}
	for _, file := range recipients {
		add("recipients/"+filepath.Base(file), file, 0o644)
	}
	if err := z.Close(); err != nil {
		s.Fatal(err)
	}
	path := s.path("package.zip")
	s.write("package.zip", buffer.Bytes())
	if err := s.Install(path); err != nil {
		s.Fatal(err)
	}
	if _, err := s.Publish(); err != nil {
		s.Fatal(err)
	}
}

func (s *site) path(name string) string { return filepath.Join(s.dir, name) }

func (s *site) write(name string, data []byte) {
	s.Helper()
	if err := os.WriteFile(s.path(name), data, 0o600); err != nil {
		s.Fatal(err)
	}
}

// result is what a command said.
type result struct {
	stdout, stderr string
	code           int
}

// command is a run of stakeseal by a role, "" for one without credentials.
func (s *site) command(role string, args ...string) *exec.Cmd {
	s.Helper()
	var credentials []string
	if role != "" {
		credentials = s.Environ(role, world.Session{Name: "anna"})
	}
	return s.commandWith(credentials, args...)
}

func (s *site) commandWith(credentials []string, args ...string) *exec.Cmd {
	cmd := exec.Command(filepath.Join(s.bin, "stakeseal"), args...)
	cmd.Dir = s.dir
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + s.dir, "AWS_EC2_METADATA_DISABLED=true"}, credentials...)
	return cmd
}

// taking is the environment of somebody who has their own session and a
// profile that takes a role with it: what the role's trust asks is asked.
func (s *site) taking(role string, own world.Session) []string {
	s.Helper()
	keys, err := s.Credentials("role/people-"+role, own).Retrieve(s.Context())
	if err != nil {
		s.Fatal(err)
	}
	s.write("profile", fmt.Appendf(nil, "[profile %s]\nrole_arn = %s\nrole_session_name = %s\nsource_profile = own\n[profile own]\naws_access_key_id = %s\naws_secret_access_key = %s\naws_session_token = %s\n",
		role, s.RoleARN(role), own.Name, keys.AccessKeyID, keys.SecretAccessKey, keys.SessionToken))
	return []string{"AWS_CONFIG_FILE=" + s.path("profile"), "AWS_PROFILE=" + role}
}

func (s *site) result(cmd *exec.Cmd) result {
	s.Helper()
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		s.Fatal(err)
	}
	return result{stdout.String(), stderr.String(), cmd.ProcessState.ExitCode()}
}

// at adds the home to a command.
func (s *site) at(args []string) []string {
	for _, a := range args {
		if a == "--home" || a == "--trust" || a == "new" {
			return args
		}
	}
	return append(args, "--home", s.home)
}

// ok runs a command that must succeed.
func (s *site) ok(role string, args ...string) result {
	s.Helper()
	r := s.result(s.command(role, s.at(args)...))
	if r.code != 0 {
		s.Fatalf("%s: stakeseal %s: exit %d\n%s%s", role, strings.Join(args, " "), r.code, r.stdout, r.stderr)
	}
	return r
}

// no runs a command that must end with the exit code, say so in one error line
// and give hints in which all of the words stand.
func (s *site) no(role string, code int, words []string, args ...string) result {
	s.Helper()
	return s.refused(s.result(s.command(role, s.at(args)...)), role, code, words, args)
}

func (s *site) refused(r result, role string, code int, words, args []string) result {
	s.Helper()
	if r.code != code || !strings.Contains(r.stderr, "stakeseal: error: ") {
		s.Fatalf("%s: stakeseal %s: exit %d, not %d\n%s%s", role, strings.Join(args, " "), r.code, code, r.stdout, r.stderr)
	}
	for _, w := range words {
		if !strings.Contains(r.stderr, w) {
			s.Errorf("%s: stakeseal %s does not say %q:\n%s", role, strings.Join(args, " "), w, r.stderr)
		}
	}
	return r
}

// validators are what list prints.
func (s *site) validators(order string) (list []validator) {
	s.Helper()
	out := s.ok("auditor", "list", "--json", "--order", order).stdout
	for line := range strings.Lines(out) {
		var v validator
		if err := json.Unmarshal([]byte(line), &v); err != nil {
			s.Fatal(err)
		}
		list = append(list, v)
	}
	return list
}

type validator struct {
	Order  string  `json:"order"`
	Index  uint32  `json:"index"`
	Pubkey string  `json:"pubkey"`
	Signer *string `json:"assigned_to"`
}

// generate places an order as the requester.
func (s *site) generate(order string, count int, more ...string) result {
	s.Helper()
	return s.ok("requester", append([]string{"generate", "--yes", "--order", order, "--count", fmt.Sprint(count), "--keystore", "none"}, more...)...)
}

// asPEM writes a public key as PEM, as openssl does.
func asPEM(t *testing.T, der []byte) []byte {
	t.Helper()
	if _, err := x509.ParsePKIXPublicKey(der); err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
}
