// Package ops is what the command line asks of AWS beside the stores and the
// keys: who is calling, what a stack holds, to run the generator, and how an
// installation stands. It is never linked into the generator.
//
// It promises that the operator's AWS configuration gives credentials and
// nothing else: where calls go, whose certificates are believed and in which
// region they are made is decided by package session and by the ARNs of the
// home's settings. One run of a program acts in one account: the one that the
// settings name, compared with sts:GetCallerIdentity before anything else.
//
// It trusts the operator's own files and environment to hold the operator's
// own credentials: whoever can write those can act as the operator already
// (a profile may even name a program to run for them).
package ops

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/sts"

	"github.com/stakeseal/stakeseal/internal/aws/arn"
	"github.com/stakeseal/stakeseal/internal/aws/session"
)

// ErrAccount says that the credentials are of another account than the one
// that the settings name.
var ErrAccount = errors.New("credentials of another AWS account")

// Place is where an installation stands.
type Place struct {
	Region  string // such as eu-central-1
	Account string // 12 digits
}

// PlaceOf is the place of a resource that has a region and an account.
func PlaceOf(a arn.ARN) Place { return Place{a.Region, a.Account} }

// Options of Open; the zero value finds credentials as the AWS tools do.
type Options struct {
	// MFA asks for the code of the device that a profile names (mfa_serial).
	// Without it such a profile is refused.
	MFA func(device string) (code string, err error)
	// Profile is the one of the shared configuration to take, before whatever
	// the environment holds: for who acts in two accounts in one run.
	Profile string
	// Warn hears of credentials that are usable but should not be used.
	Warn func(format string, args ...any)
	// Session is for tests.
	Session session.Options
}

// Caller is who AWS says is calling.
type Caller struct {
	Account string // 12 digits
	ARN     string // arn:aws:sts::ACCOUNT:assumed-role/ROLE/SESSION, or of a user
	Role    string // the role's name, "" for a user
	Session string // the session's name, "" for a user
}

// Account is the account that the settings name, as one caller may use it. It
// is safe for concurrent use.
type Account struct {
	Place
	Caller Caller

	credentials aws.CredentialsProvider
	options     session.Options

	mu      sync.Mutex
	configs map[configKey]aws.Config
}

type configKey struct {
	region  string
	attempt time.Duration
	global  bool
}

// Open finds credentials and asks AWS once whose they are. Credentials of
// another account are ErrAccount, unusable or missing ones
// session.ErrCredentials; other failures are those of session. Without an
// account in p the caller's own is taken: for who is about to name one.
func Open(ctx context.Context, p Place, o Options) (*Account, error) {
	if !arn.GoodRegion(p.Region) || p.Account != "" && (len(p.Account) != 12 || strings.Trim(p.Account, "0123456789") != "") {
		return nil, fmt.Errorf("couldn't use AWS: %q and %q are not a region and an account", clip(p.Region), clip(p.Account))
	}
	var more []func(*config.LoadOptions) error
	if o.Profile != "" {
		more = append(more, config.WithSharedConfigProfile(o.Profile))
	}
	provider, err := find(ctx, p.Region, outside(), o.MFA, more...)
	if err != nil {
		return nil, err
	}
	return open(ctx, p, provider, o)
}

// open is Open with the credentials in hand.
func open(ctx context.Context, p Place, provider aws.CredentialsProvider, o Options) (*Account, error) {
	a := &Account{Place: p, credentials: provider, options: o.Session, configs: map[configKey]aws.Config{}}
	keys, err := provider.Retrieve(ctx)
	if err != nil {
		return nil, err
	}
	out, err := sts.NewFromConfig(a.Config("")).GetCallerIdentity(ctx, &sts.GetCallerIdentityInput{})
	if err != nil {
		return nil, fmt.Errorf("couldn't ask AWS whose credentials these are: %w", session.Classify("sts:GetCallerIdentity", err))
	}
	if a.Caller, err = readCaller(out); err != nil {
		return nil, err
	}
	if p.Account == "" {
		a.Place.Account = a.Caller.Account
	}
	if a.Caller.Account != a.Place.Account {
		return nil, fmt.Errorf("%w: the settings name account %s, and these are of account %s (%s)", ErrAccount, p.Account, a.Caller.Account, a.Caller.ARN)
	}
	if o.Warn != nil {
		switch {
		case strings.HasSuffix(a.Caller.ARN, ":root"):
			o.Warn("these are credentials of the account's root user, which no policy restrains: use a role")
		case keys.SessionToken == "":
			o.Warn("%s is a long-lived access key (%s): it works until somebody deletes it, wherever it was copied to; use a role's session", clip(keys.AccessKeyID), a.Caller.ARN)
		}
	}
	return a, nil
}

// readCaller reads the answer of GetCallerIdentity.
func readCaller(out *sts.GetCallerIdentityOutput) (Caller, error) {
	c := Caller{Account: aws.ToString(out.Account), ARN: aws.ToString(out.Arn)}
	a, err := arn.Parse(c.ARN)
	if err != nil || a.Account != c.Account || a.Account == "" || (a.Service != "sts" && a.Service != "iam") {
		return Caller{}, session.Malformed("sts:GetCallerIdentity", "", "it answered with account %q and ARN %q", c.Account, clip(c.ARN))
	}
	if rest, ok := strings.CutPrefix(a.Resource, "assumed-role/"); ok && a.Service == "sts" {
		c.Role, c.Session, _ = strings.Cut(rest, "/")
	}
	return c, nil
}

// Config is the configuration for the services of a region, "" for that of
// the place. It makes no call.
func (a *Account) Config(region string) aws.Config { return a.config(configKey{region: region}) }

// GlobalConfig is the configuration for services that have one address for a
// whole partition (IAM).
func (a *Account) GlobalConfig() aws.Config { return a.config(configKey{global: true}) }

// What a duty waits for is worth nothing after a third of a slot, four seconds:
// an attempt that hangs is given up in time for another, and one that was
// refused for coming too fast comes again soon.
const (
	dutyAttempt  = 1500 * time.Millisecond
	dutyAttempts = 6 // the first one included
	dutyBackoff  = 400 * time.Millisecond
)

// DutyConfig is Config for calls that a duty of a validator waits for.
func (a *Account) DutyConfig() aws.Config {
	cfg := a.config(configKey{attempt: dutyAttempt})
	cfg.Retryer = func() aws.Retryer {
		return retry.NewStandard(func(s *retry.StandardOptions) {
			s.MaxAttempts = dutyAttempts
			s.MaxBackoff = dutyBackoff
			s.Backoff = retry.BackoffDelayerFunc(func(n int, _ error) (time.Duration, error) {
				var spread [1]byte // so that what was refused together does not come again together
				_, _ = rand.Read(spread[:])
				most := min(dutyBackoff, 25*time.Millisecond<<min(n, 8))
				return most/2 + most/2*time.Duration(spread[0])/255, nil
			})
		})
	}
	return cfg
}

func (a *Account) config(k configKey) aws.Config {
	if k.region == "" {
		k.region = a.Region
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	cfg, ok := a.configs[k]
	if !ok {
		o := a.options
		o.Attempt, o.Global = k.attempt, k.global
		cfg = session.New(k.region, a.credentials, o)
		a.configs[k] = cfg
	}
	return cfg
}

// Credentials are those of the caller, for clients that are made elsewhere
// from session.New.
func (a *Account) Credentials() aws.CredentialsProvider { return a.credentials }

// clip keeps a hostile value from filling a terminal.
func clip(s string) string {
	if len(s) > 200 {
		return s[:200] + "..."
	}
	return s
}
