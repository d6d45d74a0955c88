package awsstory

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stakeseal/stakeseal/internal/aws/awstest/world"
)

// From stacks to keys in the signer's hands, each role doing what is its and
// denied what is not.
func TestRoleByRole(t *testing.T) {
	s := released(t, nil)
	recovery, signing := "awskms:"+s.output("RecoveryKeyArn"), "awskms:"+s.output("SigningKeyArn")

	// The requester places orders, and only that.
	made := s.generate("first", 5)
	if !strings.Contains(made.stderr, "5 validators made, sealed, certified and archived") || !strings.Contains(made.stderr, ":function:"+name+"-generator:live") {
		t.Errorf("it says\n%s", made.stderr)
	}
	list := s.validators("first")
	if len(list) != 5 {
		t.Fatalf("%d validators are listed", len(list))
	}
	first := list[0].Pubkey
	if again := s.ok("requester", "generate", "--resume", "first"); !strings.Contains(again.stdout, first) {
		t.Errorf("the order again has other validators:\n%s", again.stdout)
	}
	for _, args := range [][]string{{"orders"}, {"show", first[:12]}, {"certificate", "export", first, "--out", s.path("c")}} {
		s.ok("requester", args...)
	}
	s.no("requester", 6, []string{name + "-requester may not note events", name + "-depositor"}, "deposit", "export", "--order", "first", "--out", s.path("d0"))
	s.no("requester", 6, []string{"may not open mnemonics", name + "-recovery may"}, "recovery", "drill", "--identity", recovery)
	s.no("requester", 6, []string{"may not assign validators", name + "-administrator"}, "assign", "--to", "signer-a", "--order", "first")
	s.no("depositor", 6, []string{"may not run the generator", name + "-requester may"}, "generate", "--yes", "--count", "1")
	s.no("developer", 6, []string{name + "-developer may not read records", name + "-auditor"}, "orders")

	// The depositor exports and verifies.
	s.ok("depositor", "deposit", "export", "--order", "first", "--out", s.path("deposits"))
	files, err := filepath.Glob(filepath.Join(s.path("deposits"), "*.json"))
	if err != nil || len(files) != 1 {
		t.Fatalf("deposit files %q, %v", files, err)
	}
	s.ok("depositor", "deposit", "verify", files[0])
	s.no("depositor", 5, []string{"exported before", ":assumed-role/" + name + "-depositor/anna"}, "deposit", "export", "--order", "first", "--out", s.path("deposits2"))

	// Recovery drills; the role is taken with a second factor, or not at all.
	s.no("signer", 6, []string{"may not open mnemonics"}, "recovery", "drill", "--identity", recovery)
	without := s.result(s.commandWith(s.taking("recovery", world.Session{Name: "anna", NoMFA: true}), "recovery", "drill", "--identity", recovery, "--home", s.home))
	s.refused(without, "recovery without MFA", 2, []string{"sts:AssumeRole", name + "-recovery"}, nil)
	drill := s.result(s.commandWith(s.taking("recovery", world.Session{Name: "anna"}), "recovery", "drill", "--identity", recovery, "--home", s.home, "--json"))
	if drill.code != 0 {
		t.Errorf("recovery with MFA: exit %d\n%s", drill.code, drill.stderr)
	}
	if !strings.Contains(drill.stdout, `"kms-recovery"`) || !strings.Contains(drill.stdout, `"undrilled":["anna"]`) {
		t.Errorf("the drill says %s", drill.stdout)
	}
	// One for each invocation that made something: on a slow machine the order
	// may have taken more than one.
	var report struct {
		Mnemonics int `json:"mnemonics"`
	}
	if err := json.Unmarshal([]byte(drill.stdout), &report); err != nil || report.Mnemonics == 0 {
		t.Fatalf("%v: %s", err, drill.stdout)
	}
	s.sameDecrypts("drilled", report.Mnemonics)
	s.ok("recovery", "recovery", "drill", "--identity", s.path("anna2.identity"))
	s.write("password", []byte("a long enough password\n"))
	s.ok("recovery", "recovery", "restore", "--yes", "--order", "first", "--identity", recovery, "--password-file", s.path("password"), "--kdf", "pbkdf2", "--out", s.path("restored"))
	s.sameDecrypts("restored", report.Mnemonics)

	// The signer opens what is assigned to it.
	s.ok("administrator", "assign", "--to", "signer-a", "--order", "first")
	s.no("depositor", 6, []string{"may not open signing keys", name + "-signer may"}, "keystore", "export", "--yes", "--no-history-known", "--signer", "signer-a", "--identity", signing, "--for", "web3signer", "--out", s.path("k0"))
	s.no("recovery", 6, []string{"may not open signing keys"}, "keystore", "export", "--yes", "--no-history-known", "--signer", "signer-a", "--identity", signing, "--for", "web3signer", "--out", s.path("k0"))
	s.write("signing.txt", []byte("# the signer's\n"+signing+"\n"))
	s.ok("signer", "keystore", "export", "--yes", "--no-history-known", "--signer", "signer-a", "--identity", s.path("signing.txt"), "--for", "web3signer", "--out", s.path("keys"))
	s.sameDecrypts("exported-keystore", 5)

	// An opening that led to nothing is noted all the same.
	before := len(s.noted("opened"))
	s.no("signer", 6, nil, "recovery", "drill", "--identity", recovery)
	if got := len(s.noted("opened")); got != before {
		t.Errorf("what was denied is noted as opened: %d events", got-before)
	}
	if strays := s.Strays(); len(strays) > 0 {
		t.Errorf("calls beside AWS: %v", strays)
	}
}

type event struct {
	Kind   string            `json:"kind"`
	Actor  string            `json:"actor"`
	Detail map[string]string `json:"detail"`
}

// noted are the events of a kind about the first validator or its order.
func (s *site) noted(kind string) (list []event) {
	s.Helper()
	for _, v := range s.validators("first") {
		var shown struct {
			Events []event `json:"events"`
		}
		out := s.ok("auditor", "show", "--json", v.Pubkey).stdout
		if err := json.Unmarshal([]byte(out), &shown); err != nil {
			s.Fatal(err)
		}
		for _, e := range shown.Events {
			if e.Kind == kind && !slices.ContainsFunc(list, func(x event) bool { return x.Detail["kms_requests"] == e.Detail["kms_requests"] }) {
				list = append(list, e)
			}
		}
	}
	return list
}

// sameDecrypts demands that the events of a kind name exactly so many of the
// trail's Decrypts that were done, by the same caller.
func (s *site) sameDecrypts(kind string, count int) {
	s.Helper()
	callers := map[string]string{}
	for _, e := range s.Calls("kms", "Decrypt") {
		if e.Error == "" {
			callers[e.ID] = e.Session
		}
	}
	n := 0
	for _, e := range s.noted(kind) {
		for _, id := range strings.Fields(e.Detail["kms_requests"]) {
			if n++; callers[id] != e.Actor {
				s.Errorf("%s by %s names request %q, which the trail has as %q's", kind, e.Actor, id, callers[id])
			}
		}
	}
	if n != count {
		s.Errorf("%s names %d Decrypts, not %d", kind, n, count)
	}
}

// Whose credentials they are is asked once, and has to be the home's account.
func TestCallers(t *testing.T) {
	s := released(t, nil)
	s.generate("first", 1)

	n := len(s.Calls("sts", "GetCallerIdentity"))
	s.ok("depositor", "deposit", "export", "--order", "first", "--out", s.path("d"))
	if got := len(s.Calls("sts", "GetCallerIdentity")) - n; got != 1 {
		t.Errorf("sts was asked %d times", got)
	}
	other := s.result(s.commandWith(s.Environ("arn:aws:iam::444455556666:role/anna"), "orders", "--home", s.home))
	s.refused(other, "another account", 6, []string{"444455556666", world.Account, "AWS_PROFILE"}, nil)
	expired := s.result(s.commandWith(s.Environ("auditor", world.Session{Expired: true}), "orders", "--home", s.home))
	s.refused(expired, "expired", 6, []string{"aws sso login"}, nil)
	s.no("", 2, []string{"aws sso login"}, "orders")

	// What the environment and the profile say beside credentials moves nothing.
	trap := "http://127.0.0.1:9"
	s.write("config", []byte("[default]\nregion = eu-central-1\nendpoint_url = "+trap+"\nca_bundle = /does/not/exist\n"))
	hostile := append(s.Environ("auditor"), "AWS_CONFIG_FILE="+s.path("config"), "AWS_ENDPOINT_URL="+trap, "AWS_ENDPOINT_URL_DYNAMODB="+trap, "HTTPS_PROXY="+trap,
		"AWS_CA_BUNDLE=/does/not/exist", "SSL_CERT_FILE=/does/not/exist", "AWS_REGION=eu-central-1")
	if r := s.result(s.commandWith(hostile, "orders", "--home", s.home)); r.code != 0 || !strings.Contains(r.stdout, "first") {
		t.Errorf("led astray: exit %d\n%s", r.code, r.stderr)
	}
	// Long-lived keys are told of; here nobody has any, so a session is not.
	if r := s.ok("auditor", "orders"); strings.Contains(r.stderr, "warning") {
		t.Errorf("warned of a session: %s", r.stderr)
	}
}

// What needs no AWS asks nothing of it.
func TestOffline(t *testing.T) {
	s := released(t, nil)
	s.generate("first", 1)
	s.ok("requester", "certificate", "export", "--order", "first", "--out", s.path("certificates"))
	s.ok("depositor", "bundle", "export", "--order", "first", "--out", s.path("first.bundle"))
	files, err := filepath.Glob(filepath.Join(s.path("certificates"), "*"))
	if err != nil || len(files) == 0 {
		t.Fatalf("certificates %q, %v", files, err)
	}
	trust := filepath.Join(s.home, "trust.yaml")
	n := len(s.Trail())
	for _, args := range [][]string{
		{"--help"}, {"generate", "--help"}, {"version"}, {"config", "show"},
		{"certificate", "verify", "--trust", trust, files[0]}, {"bundle", "verify", "--trust", trust, s.path("first.bundle")},
		{"recovery", "drill", "--trust", trust, "--bundle", s.path("first.bundle"), "--identity", s.path("anna2.identity")},
	} {
		s.ok("", args...)
	}
	if got := s.Trail()[n:]; len(got) > 0 {
		t.Errorf("AWS was called: %+v", got[0])
	}
	// A bundle that KMS opens needs its account, and no home.
	r := s.ok("recovery", "recovery", "drill", "--trust", trust, "--bundle", s.path("first.bundle"), "--identity", "awskms:"+s.output("RecoveryKeyArn"))
	if !strings.Contains(r.stderr, "nothing was noted") {
		t.Errorf("it says\n%s", r.stderr)
	}
}

// A home is for what its stacks say, or is not made.
func TestInit(t *testing.T) {
	s := deployed(t, nil)
	args := s.init()
	gone := func() {
		t.Helper()
		entries, err := os.ReadDir(s.dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			if e.Name() == "home" || strings.HasPrefix(e.Name(), ".stakeseal-new-") {
				t.Errorf("%s is there", e.Name())
			}
		}
	}
	with := func(flag, value string) []string {
		out := slices.Clone(args)
		i := slices.Index(out, flag)
		if i < 0 {
			t.Fatalf("no %s", flag)
		}
		out[i+1] = value
		return out
	}
	without := func(flag string) []string {
		i := slices.Index(args, flag)
		return slices.Concat(args[:i], args[i+2:])
	}
	s.no("auditor", 6, []string{"may not read the stacks"}, with("--stack", "stakeseal-other-foundation")...)
	s.no("auditor", 2, []string{"no such stack"}, append(slices.Clone(args), "--function-stack", name+"-functions")...)
	s.no("auditor", 2, []string{"get-public-key"}, without("--certifying-key")...)
	s.no("auditor", 2, []string{"nobody is there"}, append(without("--certifying-key"), "--yes")...)
	s.write("other.der", s.otherKey())
	s.no("auditor", 3, []string{"is not the one in KMS"}, with("--certifying-key", s.path("other.der"))...)
	s.no("generator", 6, []string{"may not read the stacks"}, args...)
	s.write("classic.txt", []byte(strings.TrimSpace(s.ok("", "identity", "new", "--classic", "--out", s.path("classic.identity")).stdout)+"\n"))
	s.no("auditor", 2, []string{"one kind"}, append(slices.Clone(args), "--recovery", "bert="+s.path("classic.txt"))...)
	gone()

	s.write("certifying.pem", asPEM(t, s.certifying()))
	s.ok("auditor", with("--certifying-key", s.path("certifying.pem"))...)
	s.no("auditor", 5, []string{"is there already"}, args...)
	shown := s.ok("", "config", "show", "--json").stdout
	for _, want := range []string{s.output("RecordsTableArn"), s.output("ArchiveBucketArn"), s.output("CertifyingKeyArn"), s.output("SigningKeyArn"), s.output("RecoveryKeyArn"),
		"lambda:arn:aws:lambda:us-east-1:" + world.Account + ":function:" + name + "-generator:live", `"anna"`} {
		if !strings.Contains(shown, want) {
			t.Errorf("config show has no %s:\n%s", want, shown)
		}
	}
	// Before the first release there is nothing to run.
	s.no("requester", 4, []string{"stakeseal release deploy"}, "generate", "--yes", "--count", "1")
}
