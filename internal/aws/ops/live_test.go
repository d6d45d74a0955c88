package ops

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	ruletypes "github.com/aws/aws-sdk-go-v2/service/eventbridge/types"

	"github.com/stakeseal/stakeseal/internal/aws/session"
)

func examine(t *testing.T, l *Live) *Report {
	t.Helper()
	report, err := l.Examine(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return report
}

// troubles are the lines that are no plain yes.
func troubles(r *Report) []string {
	var out []string
	for _, f := range r.Findings {
		if f.State != OK && f.Check != notLookedAt {
			out = append(out, fmt.Sprintf("%s %s: %s", f.State, f.Check, f.Says))
		}
	}
	return out
}

func changedOnes(r *Report) []string {
	var out []string
	for _, s := range troubles(r) {
		if strings.HasPrefix(s, "changed ") {
			out = append(out, s)
		}
	}
	return out
}

// TestHealthy: an installation that is as promised has a yes on every line,
// and the lines are those of the golden file.
func TestHealthy(t *testing.T) {
	f, l := healthy(t)
	r := examine(t, l)
	var got strings.Builder
	for _, f := range r.Findings {
		fmt.Fprintf(&got, "%s | %s | %s\n", f.Check, f.State, f.Says)
		if f.Check == notLookedAt {
			for _, what := range []string{"subscribed", "default encryption", "watch/Alarm"} {
				if f.State != Warning || !strings.Contains(f.Says, what) {
					t.Errorf("what is not looked at does not name %s: %+v", what, f)
				}
			}
			continue
		}
		if f.Gains != "" || f.Hint != "" {
			t.Errorf("%s is fine, and says what an attacker gains", f.Check)
		}
	}
	const golden = "testdata/healthy.golden"
	if os.Getenv("UPDATE_GOLDEN") != "" {
		if err := os.WriteFile(golden, []byte(got.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if got.String() != string(want) {
		t.Errorf("the lines are not those of %s:\n%s", golden, got.String())
	}
	if len(troubles(r)) > 0 || r.Lacks != nil || r.Failed != nil {
		t.Errorf("not all is well: %q, lacks %v, failed %v", troubles(r), r.Lacks, r.Failed)
	}
	for action, n := range f.asks {
		if n == 0 {
			t.Errorf("%s was not asked", action)
		}
	}
}

func TestDrift(t *testing.T) {
	for _, d := range drifts {
		t.Run(d.name, func(t *testing.T) {
			f, l := healthy(t)
			d.change(f, l)
			r := examine(t, l)
			got := troubles(r)
			fits := len(got) == len(d.want)
			for i := 0; fits && i < len(got); i++ {
				fits = strings.HasPrefix(got[i], d.want[i])
			}
			if !fits {
				t.Errorf("got\n  %s\nwant\n  %s", strings.Join(got, "\n  "), strings.Join(d.want, "\n  "))
			}
			for _, f := range r.Findings {
				if f.State == Changed && (f.Hint == "" || f.Gains == "" && !strings.HasPrefix(f.Check, "role ")) {
					t.Errorf("%s: %s: it does not say what is gained (%q) and what to do (%q)", f.Check, f.Says, f.Gains, f.Hint)
				}
			}
		})
	}
}

// TestUnseen: whatever call is denied or fails, a line says so, nothing else
// becomes worse, and no line that needed it says yes.
func TestUnseen(t *testing.T) {
	f, l := healthy(t)
	examine(t, l)
	actions := sortedKeys(f.asks)
	if len(actions) < 44 {
		t.Fatalf("only %d calls are made", len(actions))
	}
	for _, action := range actions {
		if action == "Resolve" || action == "download" {
			continue
		}
		f, l := healthy(t)
		f.fail[action] = apiFailure("AccessDeniedException")
		if action == "kms:Decrypt" {
			continue // denied is its good answer
		}
		r := examine(t, l)
		if !slices.Equal(r.Lacks, []string{action}) || r.Failed != nil || r.Count(Unseen) == 0 || changedOnes(r) != nil {
			t.Errorf("%s denied: lacks %v, failed %v, %q", action, r.Lacks, r.Failed, troubles(r))
		}
		if !slices.ContainsFunc(troubles(r), func(s string) bool { return strings.HasSuffix(s, "not checked: this role lacks "+action) }) {
			t.Errorf("%s denied: no line says so: %q", action, troubles(r))
		}
	}
	for _, action := range actions {
		if action == "Resolve" {
			continue
		}
		f, l := healthy(t)
		f.fail[action] = apiFailure("InternalFailure")
		r := examine(t, l)
		if !errors.Is(r.Failed, session.ErrRemote) || r.Count(Unseen) == 0 || changedOnes(r) != nil {
			t.Errorf("%s fails: %v, %q", action, r.Failed, troubles(r))
		}
	}
}

// TestWithoutTemplates: the guarantees are judged without any stack or
// template, and what then cannot be compared is said.
func TestWithoutTemplates(t *testing.T) {
	for name, change := range map[string]func(f *liveFake, l *Live){
		"no stacks":        func(f *liveFake, _ *Live) { f.stacks = nil },
		"no templates":     func(_ *liveFake, l *Live) { l.Template = nil },
		"not resolved":     func(f *liveFake, _ *Live) { f.fail["Resolve"] = errors.New("an intrinsic of the future") },
		"stack not to see": func(f *liveFake, _ *Live) { f.fail["cloudformation:DescribeStacks"] = apiFailure("AccessDenied") },
	} {
		f, l := healthy(t)
		change(f, l)
		r := examine(t, l)
		if changed := changedOnes(r); changed != nil || r.Count(Unseen) == 0 {
			t.Errorf("%s: %q", name, changed)
		}
		f.policy[signingKey] = withStatement(listless(f.policy[signingKey]), m{"Sid": "Oops", "Effect": "Allow", "Principal": m{"AWS": roleARN("generator")}, "Action": "kms:Decrypt", "Resource": "*"})
		f.signing = nil
		setPolicy(f.roles["requester"], "more", m{"Effect": "Allow", "Action": "dynamodb:PutItem", "Resource": "*"})
		r = examine(t, l)
		for _, want := range []string{"changed key signing opens: stakeseal-hoodi-generator may kms:Decrypt (Oops)", "changed code signing: ", "changed may write records: stakeseal-hoodi-requester"} {
			if !slices.ContainsFunc(troubles(r), func(s string) bool { return strings.HasPrefix(s, want) }) {
				t.Errorf("%s: %q is missing in %q", name, want, troubles(r))
			}
		}
	}
}

// TestUnseenRules: without templates the rules are listed, which can be denied.
func TestUnseenRules(t *testing.T) {
	f, l := healthy(t)
	l.Template = nil
	r := examine(t, l)
	if slices.ContainsFunc(troubles(r), func(s string) bool { return strings.Contains(s, "alarms") }) || f.asks["events:ListRules"] != 1 {
		t.Errorf("%q", troubles(r))
	}
	f.rules[0].State = ruletypes.RuleStateDisabled
	if r := examine(t, l); !slices.Contains(troubles(r), "changed alarms: the rule stakeseal-hoodi-watch is off") {
		t.Errorf("%q", troubles(r))
	}
	f.fail["events:ListRules"] = apiFailure("AccessDeniedException")
	if r := examine(t, l); !slices.Contains(r.Lacks, "events:ListRules") {
		t.Errorf("%v", r.Lacks)
	}
}

// listless is a key policy without its denial.
func listless(policy any) m {
	p := jsonObject(policy)
	p["Statement"] = slices.DeleteFunc(p["Statement"].([]any), func(s any) bool { return s.(m)["Effect"] == "Deny" })
	return p
}

func TestCancelled(t *testing.T) {
	_, l := healthy(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if r, err := l.Examine(ctx); !errors.Is(err, context.Canceled) || r != nil {
		t.Errorf("a cancelled examination gives %v, %v", r, err)
	}
}

func TestSubject(t *testing.T) {
	good := Named{Store: recordsTable, Archive: "arn:aws:s3:::" + archiveBucket, Signing: []string{signingKey}}
	if in, err := SubjectOf(good); err != nil || in.Name != testName || in.Function != "stakeseal-hoodi-generator" || in.Alias != "live" || in.Trail != "stakeseal-hoodi-trail-111122223333" {
		t.Errorf("%+v, %v", in, err)
	}
	for name, change := range map[string]func(n *Named){
		"no table":        func(n *Named) { n.Store = "x" },
		"another table":   func(n *Named) { n.Store = strings.TrimSuffix(n.Store, "s") },
		"no bucket":       func(n *Named) { n.Archive = "x" },
		"no key":          func(n *Named) { n.Signing = []string{"alias/x"} },
		"no certifier":    func(n *Named) { n.Certifier = "x" },
		"no alias":        func(n *Named) { n.Generator = "arn:aws:lambda:us-east-1:111122223333:function:x" },
		"another account": func(n *Named) { n.Generator = "arn:aws:lambda:us-east-1:999988887777:function:x:live" },
	} {
		n := good
		change(&n)
		if in, err := SubjectOf(n); err == nil {
			t.Errorf("%s: %+v", name, in)
		}
	}
}

// TestPages: a list ends, also one that leads back to its own page or on for
// ever.
func TestPages(t *testing.T) {
	for name, c := range map[string]struct {
		next  func(asked int) string
		asked int
		fails bool
	}{
		"one page":    {func(int) string { return "" }, 1, false},
		"three pages": {func(n int) string { return []string{"a", "b", ""}[n] }, 3, false},
		"one again":   {func(int) string { return "a" }, 2, true},
		"no end":      {func(n int) string { return strconv.Itoa(n) }, maxPages, true},
	} {
		asked := 0
		err := pages(func(*string) (*string, error) {
			marker := c.next(asked)
			asked++
			return &marker, nil
		})
		if asked != c.asked || errors.Is(err, session.ErrRemote) != c.fails {
			t.Errorf("%s: asked %d times, %v", name, asked, err)
		}
	}
}
