package main

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stakeseal/stakeseal/eth"
	"github.com/stakeseal/stakeseal/internal/aws/arn"
	"github.com/stakeseal/stakeseal/internal/aws/awskmsopen"
	"github.com/stakeseal/stakeseal/internal/aws/ops"
	"github.com/stakeseal/stakeseal/internal/aws/session"
	"github.com/stakeseal/stakeseal/record"
	"github.com/stakeseal/stakeseal/seal"
)

const kmsKey = "arn:aws:kms:us-east-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab"

// Which words name KMS keys. A file of another kind is left to whoever reads
// identities, and nothing of it is repeated.
func TestKMSLines(t *testing.T) {
	other := strings.Replace(kmsKey, "us-east-1", "eu-west-1", 1)
	for name, c := range map[string]struct {
		text string
		want []string
		ok   bool
		err  bool
	}{
		"one":            {"awskms:" + kmsKey + "\n", []string{kmsKey}, true, false},
		"two":            {"# the keys\n\nawskms:" + kmsKey + "\r\nawskms:" + other, []string{kmsKey, other}, true, false},
		"an identity":    {"# created\nAGE-SECRET-KEY-1CANARY\n", nil, false, false},
		"identity first": {"AGE-SECRET-KEY-1CANARY\nawskms:" + kmsKey + "\n", nil, false, false},
		"mixed":          {"awskms:" + kmsKey + "\nAGE-SECRET-KEY-1CANARY\n", nil, true, true},
		"an alias":       {"awskms:arn:aws:kms:us-east-1:111122223333:alias/x\n", nil, true, true},
		"empty":          {"", nil, false, false},
		"comments":       {"# nothing\n", nil, false, false},
		"binary":         {"\x00\x01", nil, false, false},
	} {
		path := filepath.Join(t.TempDir(), "file")
		if err := os.WriteFile(path, []byte(c.text), 0o600); err != nil {
			t.Fatal(err)
		}
		got, ok, err := kmsLines(path)
		if ok != c.ok || (err != nil) != c.err || err == nil && fmt.Sprint(got) != fmt.Sprint(c.want) {
			t.Errorf("%s: %v, %v, %v", name, got, ok, err)
		}
		if err != nil && strings.Contains(err.Error(), "CANARY") {
			t.Errorf("%s: the error repeats the file: %v", name, err)
		}
	}
	if got, ok, err := kmsLines("awskms:" + kmsKey); !ok || err != nil || got[0] != kmsKey {
		t.Errorf("a word: %v, %v, %v", got, ok, err)
	}
	if _, ok, err := kmsLines("awskms:alias/x"); !ok || !errors.Is(err, arn.ErrARN) {
		t.Errorf("a word that is none: %v, %v", ok, err)
	}
	if _, ok, err := kmsLines(filepath.Join(t.TempDir(), "none")); ok || err != nil {
		t.Errorf("no file: %v, %v", ok, err)
	}
	pipe := filepath.Join(t.TempDir(), "pipe") // that nobody writes to: whoever opens it waits
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, ok, err := kmsLines(pipe); ok || err != nil {
		t.Errorf("a pipe: %v, %v", ok, err)
	}
}

// denial is the error of a call that AWS denied.
func denial(code string) error {
	return fmt.Errorf("couldn't read: %w", &deniedFault{session.Fault{Operation: "dynamodb:Query", Code: code}})
}

// deniedFault is a Fault of the class ErrDenied, which only package session
// can make.
type deniedFault struct{ session.Fault }

func (d *deniedFault) Unwrap() []error { return []error{session.ErrDenied, &d.Fault} }

func TestRightsExplain(t *testing.T) {
	r := &rights{installation: "stakeseal-hoodi", caller: ops.Caller{ARN: "arn:aws:sts::1:assumed-role/stakeseal-hoodi-developer/x", Role: "stakeseal-hoodi-developer"}}
	err := r.explain(denial("AccessDeniedException"), toNote, noters)
	code, hint := verdict(err)
	if code != exitDenied || !errors.Is(err, session.ErrDenied) ||
		!strings.Contains(hint, "the role stakeseal-hoodi-developer may not note events; stakeseal-hoodi-depositor, stakeseal-hoodi-signer, stakeseal-hoodi-recovery or stakeseal-hoodi-administrator may") {
		t.Errorf("%d: %s", code, hint)
	}
	if _, hint := verdict(r.explain(denial("AccessDeniedException"), toImport, importers)); !strings.Contains(hint, "stakeseal-hoodi-importer (an optional role") {
		t.Error(hint)
	}
	if code, hint := verdict(r.explain(denial("AccessDeniedException"), toBear, nobody)); code != exitDenied || !strings.Contains(hint, "nobody's role may record births but the generator's") {
		t.Errorf("%d: %s", code, hint)
	}
	user := &rights{installation: "n", caller: ops.Caller{ARN: "arn:aws:iam::1:user/anna"}}
	if _, hint := verdict(user.explain(denial("AccessDeniedException"), toRead, readers)); !strings.Contains(hint, "arn:aws:iam::1:user/anna may not read records") {
		t.Error(hint)
	}
	// A session that has ended is no lack of rights, and other errors stay.
	if code, hint := verdict(r.explain(denial("ExpiredTokenException"), toRead, readers)); code != exitDenied || !strings.Contains(hint, "aws sso login") {
		t.Errorf("%d: %s", code, hint)
	}
	for _, other := range []error{nil, session.ErrRemote, record.ErrNotFound} {
		if got := r.explain(other, toRead, readers); got != other {
			t.Errorf("%v became %v", other, got)
		}
	}
}

// What AWS says has its exit code and its hint.
func TestAWSVerdicts(t *testing.T) {
	for _, c := range []struct {
		err  error
		code int
		hint string
	}{
		{session.ErrDenied, exitDenied, "get-caller-identity"},
		{session.ErrRemote, exitRemote, "try again"},
		{session.ErrCredentials, exitUsage, "aws sso login"},
		{fmt.Errorf("%w: %w", session.ErrRemote, session.ErrCredentials), exitUsage, "aws sso login"},
		{ops.ErrAccount, exitDenied, "AWS_PROFILE"},
		{ops.ErrStack, exitRefused, "template"},
		{ops.ErrNoStack, exitUsage, "region"},
		{awskmsopen.ErrContext, exitRefused, "sealed as something else"},
		{awskmsopen.ErrStanza, exitRefused, "another copy"},
		{arn.ErrARN, exitUsage, "outputs"},
		{fmt.Errorf("identity x failed: %w", session.ErrDenied), exitDenied, ""},
	} {
		if code, hint := verdict(fmt.Errorf("couldn't: %w", c.err)); code != c.code || !strings.Contains(hint, c.hint) {
			t.Errorf("%v: %d, %s", c.err, code, hint)
		}
	}
}

// eventLog keeps the events that are noted.
type eventLog struct {
	records
	events []record.Event
	fails  error
}

func (l *eventLog) Append(_ context.Context, e record.Event) error {
	if l.fails != nil {
		return l.fails
	}
	if err := e.Check(); err != nil {
		return err
	}
	l.events = append(l.events, e)
	return nil
}

// Every opening ends in one event, whatever became of the run.
func TestOpeningsAreNoted(t *testing.T) {
	pubkey := eth.Pubkey{1}
	var words bytes.Buffer
	a := &app{err: &words, now: func() time.Time { return time.Unix(1.79e9, 0) }, openings: &openings{}}
	log := &eventLog{}
	h := &home{records: log, cloud: &ops.Account{Caller: ops.Caller{ARN: "arn:aws:sts::1:assumed-role/r/anna"}}}
	hear := a.openings.hear("awskms:" + kmsKey)
	const many = 500 // more than one event can name
	for i := range many {
		hear(seal.RecoveryBinding("hoodi", "first", "m-0123456789abcdef"), fmt.Sprintf("%036d", i))
	}
	hear(seal.RecoveryBinding("hoodi", "second", "m-0123456789abcdef"), "second-1")
	hear(seal.SigningBinding("hoodi", "first", 3, pubkey), "key-1")
	hear(seal.SigningBinding("hoodi", "first", 4, eth.Pubkey{2}), "key-2")

	if got := a.openings.take(ofKey(pubkey)); fmt.Sprint(got) != "[key-1]" {
		t.Errorf("of the key: %v", got)
	}
	if got := a.openings.take(ofMnemonics("second", "another")); got != nil {
		t.Errorf("of another identity: %v", got)
	}
	if got := a.openings.take(ofMnemonics("second", "awskms:"+kmsKey)); fmt.Sprint(got) != "[second-1]" {
		t.Errorf("of the order: %v", got)
	}
	failed := errors.New("it failed later")
	a.noteOpenings(t.Context(), h, "recovery drill", &failed)
	seen := map[string]int{}
	for _, e := range log.events {
		if e.Kind != "opened" || e.Order != "first" || e.Detail["outcome"] != "failed" || e.Detail["for"] != "recovery drill" || e.Actor != h.cloud.Caller.ARN || !strings.Contains(e.Detail["user"], "@") {
			t.Errorf("noted %+v", e)
		}
		for name, ids := range e.Detail {
			if strings.HasPrefix(name, requestsKey) {
				for _, id := range strings.Fields(ids) {
					seen[id]++
				}
			}
		}
	}
	if len(seen) != many+1 || seen["key-2"] != 1 || seen["key-1"] != 0 {
		t.Errorf("%d openings are noted", len(seen))
	}
	if failed.Error() != "it failed later" {
		t.Errorf("the error became %v", failed)
	}
	// A note that cannot be made fails a run that went well.
	hear(seal.SigningBinding("hoodi", "first", 3, pubkey), "key-3")
	log.fails = errors.New("no room")
	var none error
	a.noteOpenings(t.Context(), h, "keystore export", &none)
	if none == nil {
		t.Error("an opening was not noted, and nobody heard of it")
	}
	// Without a home it is said.
	hear(seal.SigningBinding("hoodi", "first", 3, pubkey), "key-4")
	none = nil
	a.noteOpenings(t.Context(), nil, "recovery drill", &none)
	if none != nil || !strings.Contains(words.String(), "key-4") {
		t.Errorf("%v, said %q", none, words.String())
	}
	// Nothing opened, nothing noted.
	(&app{}).noteOpenings(t.Context(), nil, "", &none)
	var nothing *openings
	if nothing.take(ofKey(pubkey)) != nil {
		t.Error("taken of nothing")
	}
}

// The certifying key comes as its administrator read it, and no other way.
func TestReadCertifying(t *testing.T) {
	public := func(c elliptic.Curve) []byte {
		key, err := ecdsa.GenerateKey(c, rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		der, err := x509.MarshalPKIXPublicKey(key.Public())
		if err != nil {
			t.Fatal(err)
		}
		return der
	}
	good := public(elliptic.P256())
	block := func(kind string, der []byte) []byte { return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}) }
	for name, c := range map[string]struct {
		data []byte
		ok   bool
	}{
		"DER": {good, true}, "PEM": {block("PUBLIC KEY", good), true}, "PEM with text before": {append([]byte("of anna\n"), block("PUBLIC KEY", good)...), true},
		"two": {append(block("PUBLIC KEY", good), block("PUBLIC KEY", good)...), false}, "a certificate": {block("CERTIFICATE", good), false},
		"another curve": {public(elliptic.P384()), false}, "cut": {good[:len(good)-1], false}, "longer": {append(bytes.Clone(good), 0), false},
		"empty": {nil, false}, "base64": {[]byte("MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE"), false},
	} {
		path := filepath.Join(t.TempDir(), "key")
		if err := os.WriteFile(path, c.data, 0o600); err != nil {
			t.Fatal(err)
		}
		key, err := cloudPlan{certifying: path}.readCertifying()
		if c.ok != (err == nil) {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if c.ok && key.ID() == "" {
			t.Errorf("%s: no key", name)
		}
		if !c.ok {
			if code, hint := verdict(err); code != exitUsage || !strings.Contains(hint, "get-public-key") {
				t.Errorf("%s: %d, %s", name, code, hint)
			}
		}
	}
	if key, err := (cloudPlan{}).readCertifying(); key != nil || err != nil {
		t.Errorf("none: %v, %v", key, err)
	}
}

// Flags that cannot be meant together are refused before AWS is asked anything.
func TestCloudFlags(t *testing.T) {
	good := initPlan{cloud: cloudPlan{aws: true, region: "eu-central-1", stack: "stakeseal-hoodi-foundation"}}
	if err := good.checkCloud(); err != nil {
		t.Error(err)
	}
	for name, change := range map[string]func(*initPlan){
		"no stack":               func(p *initPlan) { p.cloud.stack = "" },
		"another stack":          func(p *initPlan) { p.cloud.stack = "stakeseal-hoodi-function" },
		"no region":              func(p *initPlan) { p.cloud.region = "" },
		"a host":                 func(p *initPlan) { p.cloud.region = "evil.example" },
		"signing":                func(p *initPlan) { p.signing = []string{"a=b"} },
		"identities":             func(p *initPlan) { p.identities = "x" },
		"nobody recovers":        func(p *initPlan) { p.cloud.noKMSRecovery = true },
		"stack without --aws":    func(p *initPlan) { p.cloud = cloudPlan{stack: "x"} },
		"region without --aws":   func(p *initPlan) { p.cloud = cloudPlan{region: "x"} },
		"key without --aws":      func(p *initPlan) { p.cloud = cloudPlan{certifying: "x"} },
		"function without --aws": func(p *initPlan) { p.cloud = cloudPlan{function: "x"} },
		"recovery without --aws": func(p *initPlan) { p.cloud = cloudPlan{noKMSRecovery: true} },
	} {
		p := good
		change(&p)
		if code, _ := verdict(p.checkCloud()); code != exitUsage && code != exitRefused {
			t.Errorf("%s: %v", name, p.checkCloud())
		}
	}
	if err := (initPlan{}).checkCloud(); err != nil {
		t.Errorf("a home on this machine: %v", err)
	}
}
