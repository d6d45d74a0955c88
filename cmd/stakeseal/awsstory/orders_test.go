package awsstory

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stakeseal/stakeseal/internal/aws/awstest/world"
)

func (s *site) otherKey() []byte {
	s.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		s.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		s.Fatal(err)
	}
	return der
}

// whole demands that an order has exactly its validators.
func (s *site) whole(order string, count int) {
	s.Helper()
	seen := map[string]bool{}
	list := s.validators(order)
	for i, v := range list {
		if v.Index != uint32(i) || seen[v.Pubkey] {
			s.Errorf("index %d is %s, place %d", v.Index, v.Pubkey, i)
		}
		seen[v.Pubkey] = true
	}
	if len(list) != count {
		s.Errorf("order %s has %d validators, not %d", order, len(list), count)
	}
}

// An order as ranges at once, through throttling, broken and lost answers and
// killed functions, ends with exactly its validators and one receipt.
func TestRangesThroughFaults(t *testing.T) {
	s := released(t, nil)
	const count = 60
	s.Fail("lambda", "Invoke", 4, world.Fault{Kind: world.Throttled, Every: 2})
	s.Fail("lambda", "Invoke", 1, world.Fault{Kind: world.Lost, Skip: 3})
	s.Fail("dynamodb", "PutItem", 2, world.Fault{Kind: world.Killed, Skip: 15, Every: 40, Role: "generator"})
	s.Fail("dynamodb", "PutItem", 5, world.Fault{Kind: world.Throttled, Skip: 5, Every: 5, Role: "generator"})
	r := s.generate("big", count, "--workers", "5", "--json")
	if !strings.Contains(r.stdout, fmt.Sprintf(`"from":0,"to":%d`, count)) {
		t.Errorf("the receipt is not of the whole: %.300s", r.stdout)
	}
	s.Heal()
	s.whole("big", count)
	s.ok("depositor", "deposit", "export", "--order", "big", "--out", s.path("d"))
	// Again, and as continued, it is the same receipt.
	if again := s.ok("requester", "generate", "--resume", "big", "--json"); again.stdout != r.stdout {
		t.Error("the same order gives another receipt")
	}
	if n := len(s.Calls("lambda", "Invoke")); n < 8 {
		t.Errorf("only %d invocations", n)
	}
}

// An order that nothing answers for says so and can be continued.
func TestUnfinished(t *testing.T) {
	s := released(t, nil)
	if err := s.Configure(nil, 0, 5*time.Second, 0); err != nil { // it is patient as long as it may be
		t.Fatal(err)
	}
	if _, err := s.Publish(); err != nil {
		t.Fatal(err)
	}
	s.Fail("dynamodb", "PutItem", -1, world.Fault{Kind: world.Broken, Skip: 4, Role: "generator"})
	r := s.no("requester", 1, []string{"--resume", "what was made is kept"}, "generate", "--yes", "--order", "half", "--count", "4", "--keystore", "none")
	if strings.Contains(r.stderr, "nothing was made") {
		t.Errorf("it says\n%s", r.stderr)
	}
	s.Heal()
	if err := s.Configure(nil, 0, 15*time.Minute, 0); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Publish(); err != nil {
		t.Fatal(err)
	}
	s.ok("requester", "generate", "--resume", "half")
	s.whole("half", 4)
}

// The package in force decides: an order that was confirmed under other
// settings is refused, with both digests.
func TestOtherSettingsInForce(t *testing.T) {
	s := released(t, nil)
	s.generate("first", 1)
	path := filepath.Join(s.home, "generator.yaml")
	old, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, append(old, "# a draft\n"...), 0o600); err != nil {
		t.Fatal(err)
	}
	s.no("requester", 5, []string{"the deployed package has other settings", "than this home"}, "generate", "--yes", "--order", "second", "--count", "1")
	s.no("requester", 5, []string{"other settings"}, "generate", "--resume", "first")
	if err := os.WriteFile(path, old, 0o600); err != nil {
		t.Fatal(err)
	}
	s.generate("second", 1)
	// A certifying key that trust.yaml does not name makes nothing.
	trust := filepath.Join(s.home, "trust.yaml")
	data, err := os.ReadFile(trust)
	if err != nil {
		t.Fatal(err)
	}
	_, id, _ := strings.Cut(string(data), "key: ")
	id, _, _ = strings.Cut(id, "\n")
	other := s.ok("", "init", "--home", s.path("local"), "--network", "hoodi", "--withdrawal-address", "cold="+address, "--identities", s.path("ids"))
	_ = other
	local, err := os.ReadFile(filepath.Join(s.path("local"), "trust.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(trust, local, 0o600); err != nil || id == "" {
		t.Fatal(err)
	}
	calls := len(s.Calls("lambda", "Invoke"))
	s.no("requester", 2, []string{"does not name the certifying key"}, "generate", "--yes", "--order", "third", "--count", "1")
	if got := len(s.Calls("lambda", "Invoke")); got != calls {
		t.Error("the generator was run all the same")
	}
}

// Ctrl-C ends the command, not the order.
func TestInterrupted(t *testing.T) {
	s := released(t, nil)
	s.Fail("kms", "Sign", -1, world.Fault{Kind: world.Slow, Delay: 300 * time.Millisecond, Role: "generator"})
	cmd := s.command("requester", s.at([]string{"generate", "--yes", "--order", "slow", "--count", "20", "--keystore", "none", "--workers", "1"})...)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for len(s.Calls("kms", "Sign")) == 0 {
		time.Sleep(10 * time.Millisecond)
	}
	if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	if code := cmd.ProcessState.ExitCode(); code != 130 || !strings.Contains(stderr.String(), "--resume slow") || !strings.Contains(stderr.String(), "goes on to its end") {
		t.Errorf("exit %d\n%s", code, stderr.String())
	}
	s.Heal()
	s.ok("requester", "generate", "--resume", "slow")
	s.whole("slow", 20)
}

// A bundle carries an order from AWS to one machine. Into AWS nobody's role
// brings births: only the generator records them there.
func TestMove(t *testing.T) {
	s := released(t, map[string]map[string]string{"bootstrap": {"ImporterPrincipals": "arn:aws:iam::" + world.Account + ":role/people-importer"}, "foundation": {"Importer": "on"}})
	s.generate("first", 3)
	s.ok("depositor", "bundle", "export", "--order", "first", "--out", s.path("first.bundle"))
	// A home on this machine that believes the same certifying key.
	local := s.path("local")
	s.ok("", "init", "--home", local, "--network", "hoodi", "--withdrawal-address", "cold="+address, "--identities", s.path("ids"))
	trust, err := os.ReadFile(filepath.Join(s.home, "trust.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(local, "trust.yaml"), trust, 0o600); err != nil {
		t.Fatal(err)
	}
	s.ok("", "bundle", "import", "--home", local, s.path("first.bundle"))
	here := s.ok("", "list", "--home", local, "--json").stdout
	if there := s.ok("auditor", "list", "--json").stdout; here != there {
		t.Errorf("it came as\n%snot\n%s", here, there)
	}
	// Recovery works there too, where the key is still in KMS.
	s.ok("recovery", "recovery", "drill", "--home", local, "--identity", "awskms:"+s.output("RecoveryKeyArn"))
	s.ok("", "bundle", "export", "--home", local, "--order", "first", "--out", s.path("back.bundle"))

	for _, role := range []string{"requester", "depositor", "administrator", "importer", "break-glass"} {
		s.no(role, 6, []string{"nobody's role may record births but the generator's"}, "bundle", "import", s.path("back.bundle"))
	}
	s.whole("first", 3)
	s.no("administrator", 2, []string{"restore-table-to-point-in-time"}, "recovery", "store")
}
