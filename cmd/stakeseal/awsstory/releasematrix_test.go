package awsstory

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/stakeseal/stakeseal/internal/aws/awstest/world"
)

// everyRole are the roles that people can take, and the generator's, in whose
// session foreign code may run one day.
var everyRole = []string{"developer", "release-manager", "requester", "depositor", "signer", "recovery", "auditor", "administrator", "break-glass", "generator"}

// TestEveryRoleTriesEveryStep: on AWS each step is done by the role whose it is
// and by nobody else, even with the right person's key file in hand; and by that
// role only with the right key. What is refused is refused with the exit code of
// a denial and a hint, and changes nothing.
func TestEveryRoleTriesEveryStep(t *testing.T) {
	m := &matrix{pipeline: newPipeline(t, 2), tried: map[string]int{}}
	for _, role := range everyRole {
		if role == "generator" {
			m.people[role] = m.Environ(role, world.Session{Name: "stolen"})
			continue
		}
		m.people[role] = m.takes(role, role+"-holder")
	}
	for name, role := range map[string]string{"dora": "developer", "dave": "developer", "rita": "release-manager", "mona": "release-manager", "rex": "release-manager"} {
		m.people[name] = m.takes(role, name)
	}
	m.otherRoles()
	zip, one := m.built("one")
	step := m.steps("one", zip, one)
	others := func(may ...string) (out []string) {
		for _, role := range everyRole {
			if !slices.Contains(may, role) {
				out = append(out, role)
			}
		}
		return out
	}

	m.roles("submit", others("developer"), m.keyed(step["submit"], "dora"))
	m.keys("submit", "dora", []string{"rita", "rex", "otto", "mallory"}, step["submit"])
	m.does("dora", m.keyed(step["submit"], "dora")...)

	// Whoever may read packages may review them: that decides nothing.
	m.roles("review", others("developer", "release-manager", "auditor", "break-glass"), step["review"])
	before := m.state()
	for _, who := range []string{"dave", "auditor", "break-glass"} {
		own := slices.Clone(step["review"])
		own[len(own)-1] = m.path(who + ".json")
		m.does(who, append(own, "--against", "none")...)
	}
	m.same("review", before)
	m.does("rita", step["review"]...)

	m.roles("approve", others("release-manager"), m.keyed(step["approve"], "rita"))
	m.roles("reject", others("release-manager"), m.keyed(step["reject"], "rita"))
	m.keys("approve", "rita", []string{"dora", "dave", "rex", "otto", "mallory"}, step["approve"]) // dora's is the submitter's own
	m.keys("reject", "rita", []string{"dora", "rex", "mallory"}, step["reject"])
	m.keys("sign before anybody approved", "rita", []string{"rita", "mona"}, step["sign"])
	m.does("rita", m.keyed(step["approve"], "rita")...)

	// Two must agree: one who does it twice, or with a key that is revoked, is one.
	m.does("mona", m.keyed(step["approve"], "rita")...) // rita's again: a role of two people, and one key
	m.keys("sign with one approval", "mona", []string{"rita", "mona", "rex"}, step["sign"])
	m.no("deploy with one approval", "rita", step["deploy"])
	m.does("mona", m.keyed(step["approve"], "mona")...)
	m.roles("sign", others("release-manager"), m.keyed(step["sign"], "rita"))
	m.keys("sign", "rita", []string{"dora", "dave", "rex", "otto", "mallory"}, step["sign"])
	m.no("deploy before anybody signed", "rita", step["deploy"])
	m.does("rita", m.keyed(step["sign"], "rita")...)
	m.does("rita", m.keyed(step["sign"], "rita")...)
	m.no("deploy with one signature", "rita", step["deploy"])
	if n := len(m.Calls("signer", "StartSigningJob")); n != 0 {
		t.Errorf("AWS Signer was asked for %d signatures before two people had signed", n)
	}
	m.does("mona", m.keyed(step["sign"], "mona")...)

	// Who may read what is in force learns only when the code is to be replaced
	// that they may not: the entry, signed by both managers, stands in the trust
	// file by then.
	m.no("deploy", "developer", step["deploy"])
	m.result(m.as("auditor", step["deploy"]...))
	m.roles("deploy", others("release-manager", "break-glass"), step["deploy"])
	m.breaks(step["deploy"])
	m.no("generate before anything is deployed", "requester", []string{"generate", "--yes", "--count", "1", "--order", "early", "--keystore", "none"})
	m.does("rita", step["deploy"]...)
	m.commit("two")
	two := m.signedByTwo("two")
	m.does("mona", m.steps("two", "", two)["deploy"]...)

	m.roles("rollback", others("release-manager", "break-glass"), []string{"release", "rollback", "--yes"})
	m.breaks([]string{"release", "rollback", "--yes"})
	m.roles("verify", others("release-manager", "auditor", "break-glass"), []string{"release", "verify"})
	before = m.state()
	for _, who := range []string{"release-manager", "auditor", "break-glass"} {
		m.does(who, "release", "verify")
	}
	m.same("verify", before)
	m.does("mona", "release", "rollback", "--yes")

	// The small generator makes no keys: that its answer is not believed shows
	// that the requester reached it, and the trail that nobody else did.
	order := []string{"generate", "--yes", "--count", "1", "--order", "first", "--keystore", "none"}
	m.roles("generate", others("requester", "break-glass"), order)
	before = m.state()
	if r := m.result(m.as("requester", m.at(order)...)); r.code != 4 || !strings.Contains(r.stderr, "couldn't read the generator's answer") {
		t.Errorf("the requester's order: exit %d\n%s", r.code, r.stderr)
	}
	m.same("generate", before)
	for _, e := range m.Calls("lambda", "Invoke") {
		if e.Error == "" && !strings.Contains(e.Session, "-requester/") {
			t.Errorf("%s ran the generator", e.Session)
		}
	}
	for _, role := range others("break-glass") {
		for _, qualifier := range []string{"", "$LATEST", "1", "2"} {
			if _, err := m.order(role, qualifier); err == nil || !strings.Contains(err.Error(), "AccessDenied") {
				t.Errorf("%s calls the version %q directly: %v", role, qualifier, err)
			}
		}
	}

	m.roles("revoke", others("release-manager"), m.keyed(m.steps("two", "", two)["revoke"], "rita"))
	m.keys("revoke", "rita", []string{"dora", "rex", "otto", "mallory"}, m.steps("two", "", two)["revoke"])
	m.does("mona", m.keyed(m.steps("two", "", two)["revoke"], "mona")...)
	m.no("rollback to what is revoked", "rita", []string{"release", "rollback", "--yes"})
	m.no("deploy what is revoked", "rita", m.steps("two", "", two)["deploy"])
	m.does("rita", "release", "verify")
	t.Logf("refused: %v", m.tried)
	machine, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	for _, stray := range m.Strays() {
		if stray.What != "name "+machine { // git asks for it while a package is built
			t.Errorf("a call beside AWS: %v", stray)
		}
	}
}

type matrix struct {
	*pipeline
	tried map[string]int
}

// breaks is a step that break-glass may do, which is an alarm: through the
// program it too puts only a whole release in force. It is undone.
func (m *matrix) breaks(args []string) {
	m.Helper()
	back := m.Mark()
	m.does("break-glass", args...)
	m.does("auditor", "release", "verify")
	back()
}

// takes is the environment of somebody who takes a role with their own session,
// at each command.
func (m *matrix) takes(role, name string) []string { return m.taken(role, role, name, false) }

// taken is a role that somebody takes who is a person of the same or another.
func (m *matrix) taken(person, role, name string, noMFA bool) []string {
	m.Helper()
	keys, err := m.Credentials("role/people-"+strings.ReplaceAll(person, "-", ""), world.Session{Name: name, NoMFA: noMFA}).Retrieve(m.Context())
	if err != nil {
		m.Fatal(err)
	}
	file := "profile-" + name
	m.write(file, fmt.Appendf(nil, "[profile mine]\nrole_arn = %s\nrole_session_name = %s\nsource_profile = own\n[profile own]\naws_access_key_id = %s\naws_secret_access_key = %s\naws_session_token = %s\n",
		m.RoleARN(role), name, keys.AccessKeyID, keys.SecretAccessKey, keys.SessionToken))
	return []string{"AWS_CONFIG_FILE=" + m.path(file), "AWS_PROFILE=mine"}
}

// otherRoles has everybody try to take a role of the releases that is not
// theirs, and the release manager's without a second factor.
func (m *matrix) otherRoles() {
	m.Helper()
	for _, role := range []string{"developer", "release-manager", "requester"} {
		for _, person := range everyRole {
			noMFA := person == role && role == "release-manager"
			if person == role && !noMFA {
				continue
			}
			m.people["crossing"] = m.taken(person, role, "crossing", noMFA)
			r := m.result(m.as("crossing", "release", "verify"))
			if r.code != 2 || !strings.Contains(r.stderr, "sts:AssumeRole") || !strings.Contains(r.stderr, "hint: ") {
				m.Errorf("%s takes the role %s: exit %d\n%s", person, role, r.code, r.stderr)
			}
		}
	}
}

// no is a step that is refused, whoever tries it, and changes nothing.
func (m *matrix) no(what, who string, args []string) result {
	m.Helper()
	m.tried[strings.Fields(what)[0]]++
	before := m.state()
	n := len(m.Trail())
	r := m.result(m.as(who, args...))
	if r.code != 6 && r.code != 2 && r.code != 3 && r.code != 4 {
		m.Errorf("%s by %s: exit %d\n%s%s", what, who, r.code, r.stdout, r.stderr)
	}
	if !strings.Contains(r.stderr, "stakeseal: error: ") || !strings.Contains(r.stderr, "stakeseal: hint: ") {
		m.Errorf("%s by %s is refused without a reason and a hint:\n%s", what, who, r.stderr)
	}
	m.same(what+" by "+who, before)
	for _, e := range m.Trail()[n:] {
		if !e.ReadOnly && e.Error == "" && e.Service != "sts" {
			m.Errorf("%s by %s is refused, and did %s %s", what, who, e.Service, e.Action)
		}
	}
	return r
}

func (m *matrix) same(what, before string) {
	m.Helper()
	if after := m.state(); after != before {
		m.Errorf("%s changed something:\n%s\nwas\n%s", what, after, before)
	}
}

// roles are those who try a step with the right person's key in hand: AWS
// denies them, and the hint names the role whose step it is.
func (m *matrix) roles(what string, roles, args []string) {
	m.Helper()
	for _, role := range roles {
		if r := m.no(what, role, args); r.code != 6 || !strings.Contains(r.stderr, hinted[what]) {
			m.Errorf("%s by the role %s: exit %d, and the hint does not name %s:\n%s", what, role, r.code, hinted[what], r.stderr)
		}
	}
}

// hinted is whose step it is, in the hint of a denial.
var hinted = map[string]string{
	"submit": "is for the role developer:", "generate": name + "-requester may:",
	"review": "is for the role release-manager or auditor:", "verify": "is for the role release-manager or auditor:",
	"approve": "is for the role release-manager:", "reject": "is for the role release-manager:", "sign": "is for the role release-manager:",
	"deploy": "is for the role release-manager:", "rollback": "is for the role release-manager:", "revoke": "is for the role release-manager:",
}

// keys are other people's, with which the right role tries a step.
func (m *matrix) keys(what, who string, keys, args []string) {
	m.Helper()
	for _, key := range keys {
		m.no(what+" with the key of "+key, who, m.keyed(args, key))
	}
}

// signedByTwo takes a package through both release managers' hands.
func (m *matrix) signedByTwo(name string) (digest string) {
	m.Helper()
	zip, digest := m.built(name)
	step := m.steps(name, zip, digest)
	m.does("dave", m.keyed(step["submit"], "dave")...)
	m.does("mona", step["review"]...)
	for _, verb := range []string{"approve", "sign"} {
		for _, who := range []string{"mona", "rita"} {
			m.does(who, m.keyed(step[verb], who)...)
		}
	}
	return digest
}
