package main

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"

	"github.com/aws/aws-sdk-go-v2/service/kms"

	"github.com/stakeseal/stakeseal/certificate"
	"github.com/stakeseal/stakeseal/eth"
	"github.com/stakeseal/stakeseal/internal/aws/arn"
	"github.com/stakeseal/stakeseal/internal/aws/awskms"
	"github.com/stakeseal/stakeseal/internal/aws/ops"
	"github.com/stakeseal/stakeseal/internal/aws/session"
	"github.com/stakeseal/stakeseal/internal/config"
)

// cloudPlan is what init --aws adds.
type cloudPlan struct {
	aws           bool
	region        string
	stack         string // of the foundation
	function      string // stack, "" for the one that belongs to it
	certifying    string // file of the certifying key's public half
	noKMSRecovery bool
}

// Recipients of a home on AWS that are KMS keys.
const (
	kmsSigner   = "kms-signing"
	kmsRecovery = "kms-recovery"
)

// checkCloud refuses flags that do not go together, before anything is asked of AWS.
func (p initPlan) checkCloud() error {
	c := p.cloud
	if !c.aws {
		for _, f := range []struct {
			name  string
			given bool
		}{{"stack", c.stack != ""}, {"region", c.region != ""}, {"function-stack", c.function != ""}, {"certifying-key", c.certifying != ""}, {"no-kms-recovery", c.noKMSRecovery}} {
			if f.given {
				return usage("add --aws", "--%s goes with --aws", f.name)
			}
		}
		return nil
	}
	switch {
	case c.stack == "":
		return usage("the stack made from infra/foundation.yaml: --stack NAME-foundation", "--stack is missing")
	case !arn.GoodRegion(c.region):
		return usage("such as --region eu-central-1", "--region is %q", c.region)
	case len(p.signing) > 0:
		return usage("leave --signing out: the key's policy says who may open", "on AWS signing keys are sealed to the KMS signing key and to nothing else")
	case p.identities != "":
		return usage("make them with stakeseal identity new where they will live, and give their recipients with --recovery", "--identities: no identity is made for a home on AWS")
	case c.noKMSRecovery && len(p.recovery) == 0:
		return usage("give --recovery NAME=FILE", "--no-kms-recovery leaves nobody to recover")
	}
	if _, err := ops.NameOf(c.stack); err != nil {
		return usage("", "--stack: %w", err)
	}
	return nil
}

// initCloud makes a home for an installation on AWS, from what its stacks say
// of themselves and from the certifying key that its administrator read.
func (a *app) initCloud(ctx context.Context, p initPlan) error {
	network, err := a.needNetwork()
	if err != nil {
		return err
	}
	dir, err := a.homeDir()
	if err != nil {
		return err
	}
	a.say("%s, home %s (new)", network.Name, dir)
	addresses, err := p.parseAddresses(a, network)
	if err != nil {
		return err
	}
	if err := mustNotExist(dir, "choose another --home; init never changes one that exists"); err != nil {
		return err
	}
	given, err := p.givenParties()
	if err != nil {
		return err
	}
	if n := len(given); network.Mainnet && !p.oneRecovery && (p.cloud.noKMSRecovery && n < 2 || n < 1) {
		return usage("give --recovery NAME=FILE, made elsewhere; --one-recovery-recipient does without",
			"%s needs two recovery recipients: one lost identity, or one lost account, must not lose every mnemonic", network.Name)
	}
	read, err := p.cloud.readCertifying()
	if err != nil {
		return err
	}
	if read == nil {
		if err := a.canCompare(); err != nil {
			return err
		}
	}
	account, err := a.account(ctx, ops.Place{Region: p.cloud.region})
	if err != nil {
		return err
	}
	at, err := a.installation(ctx, account, p.cloud)
	if err != nil {
		return err
	}
	key, err := a.certifyingKey(ctx, account, at, read)
	if err != nil {
		return err
	}
	parties := append(at.parties(p.cloud), given...)
	if err := placeHome(dir, func(building string) (func() error, error) {
		return nil, writeCloudHome(building, network, addresses, parties, key, at.Installation, p)
	}); err != nil {
		return err
	}
	return a.reportCloudHome(network, dir, addresses, parties, key, at)
}

// canCompare fails before any work where nobody is there to compare a
// fingerprint. --yes is no answer: it cannot have seen it.
func (a *app) canCompare() error {
	if a.terminal && !a.yes {
		return nil
	}
	return usage("--certifying-key FILE, as its administrator read it:\naws kms get-public-key --key-id alias/NAME-certifying --query PublicKey --output text | base64 -d > certifying.der",
		"the certifying key is missing, and nobody is there to compare its fingerprint")
}

// landscape is an installation as its stacks describe it.
type landscape struct {
	ops.Installation
	released bool // its function stack is there
}

// installation reads the stacks.
func (a *app) installation(ctx context.Context, account *ops.Account, c cloudPlan) (landscape, error) {
	explain := func(err error) error {
		name, _ := ops.NameOf(c.stack)
		r := &rights{installation: name, caller: account.Caller}
		return r.explain(err, "read the stacks", readers)
	}
	outputs, err := account.Outputs(ctx, c.stack)
	if errors.Is(err, ops.ErrNoStack) {
		return landscape{}, usage("is the region right, and the profile (AWS_PROFILE)? infra/README.md says how the stack is made", "%w", err)
	}
	if err != nil {
		return landscape{}, explain(err)
	}
	found, err := ops.ReadFoundation(account.Place, c.stack, outputs)
	if err != nil {
		return landscape{}, err
	}
	at := landscape{Installation: found}
	function := c.function
	if function == "" {
		function = ops.FunctionStack(found.Name)
	}
	outputs, err = account.Outputs(ctx, function)
	switch {
	case errors.Is(err, ops.ErrNoStack) && c.function == "":
		return at, nil // made by the first release
	case errors.Is(err, ops.ErrNoStack):
		return at, usage("leave --function-stack out until it is there", "%w", err)
	case err != nil:
		return at, explain(err)
	}
	at.released = true
	return at, found.CheckFunction(function, outputs)
}

// parties are the recipients that are keys of the installation.
func (s landscape) parties(c cloudPlan) []party {
	file := func(name, what, key string) []byte {
		return fmt.Appendf(nil, "# %s: %s of %s\n%s%s\n", name, what, s.Name, awskms.Prefix, key)
	}
	list := []party{{name: kmsSigner, purpose: "signing", file: file(kmsSigner, "the signing key", s.Signing)}}
	if !c.noKMSRecovery {
		list = append(list, party{name: kmsRecovery, purpose: "recovery", file: file(kmsRecovery, "the recovery key", s.Recovery)})
	}
	return list
}

// readCertifying reads --certifying-key: a SubjectPublicKeyInfo, PEM or DER. nil
// when it is not given.
func (c cloudPlan) readCertifying() (*certificate.PublicKey, error) {
	if c.certifying == "" {
		return nil, nil
	}
	data, err := readBounded(c.certifying, 1<<16)
	if err != nil {
		return nil, fmt.Errorf("couldn't read the certifying key: %w", err)
	}
	refuse := func(why string) (*certificate.PublicKey, error) {
		return nil, usage("aws kms get-public-key --key-id alias/NAME-certifying --query PublicKey --output text | base64 -d > certifying.der",
			"--certifying-key %s: %s", c.certifying, why)
	}
	der := data
	if bytes.Contains(data, []byte("-----BEGIN ")) {
		block, rest := pem.Decode(data)
		if block == nil || block.Type != "PUBLIC KEY" || len(bytes.TrimSpace(rest)) > 0 {
			return refuse("it is not one PEM block PUBLIC KEY")
		}
		der = block.Bytes
	}
	public, err := x509.ParsePKIXPublicKey(der)
	if err != nil {
		return refuse("it is no public key, PEM or DER (SubjectPublicKeyInfo)")
	}
	key, err := certificate.NewPublicKey(public)
	if err != nil {
		return refuse("it is not on P-256, and KMS certifies with such a key")
	}
	return &key, nil
}

// certifyingKey settles which public key the trust file names: what the
// administrator read, compared with what KMS says where this caller may ask;
// or what KMS says, once somebody has compared it. Never what a stack says.
func (a *app) certifyingKey(ctx context.Context, account *ops.Account, at landscape, read *certificate.PublicKey) (certificate.PublicKey, error) {
	c, err := awskms.NewCertifier(ctx, kms.NewFromConfig(account.Config("")), at.Certifying)
	switch {
	case errors.Is(err, session.ErrDenied) && read != nil:
		a.say("warning: this caller may not read the certifying key from KMS: what --certifying-key holds was not compared with it")
		return *read, nil
	case err != nil:
		r := &rights{installation: at.Name, caller: account.Caller}
		return certificate.PublicKey{}, r.explain(err, "read the certifying key", readers)
	case read != nil && !read.Equal(c.Public()):
		return certificate.PublicKey{}, fail(exitRefused, "ask the key's administrator which is right: one of the two is somebody else's key",
			"the certifying key in the file (%s) is not the one in KMS (%s)", read.ID(), c.Public().ID())
	case read != nil:
		return *read, nil
	}
	a.say("the certifying key %s has the fingerprint", at.Certifying)
	a.say("  %s", c.Public().ID())
	a.say("(sha256 of its SubjectPublicKeyInfo). Compare it with what the key's administrator read, on another way than this:")
	a.say("  aws kms get-public-key --key-id %s --query PublicKey --output text | base64 -d | sha256sum", at.Certifying)
	same, err := a.answer("Is it the same, every digit?")
	if err == nil && !same {
		err = fail(exitRefused, "nothing was made", "the certifying key was not confirmed")
	}
	return c.Public(), err
}

func writeCloudHome(dir string, n eth.Network, addresses map[string]eth.Address, parties []party, key certificate.PublicKey, at ops.Installation, p initPlan) error {
	stores := fmt.Sprintf("certifier: %s%s\nstore: dynamodb:%s\narchive: s3:%s\n", awskms.Prefix, at.Certifying, at.Records, at.Archive)
	if err := writeSettings(dir, n, addresses, parties, certificate.TrustedKey{Name: at.Name, Key: key}, p, stores, cloudHomeText(at.Alias)); err != nil {
		return err
	}
	g, err := readBack(dir)
	if err != nil {
		return err
	}
	h, err := config.LoadHome(os.DirFS(dir))
	if err != nil {
		return err
	}
	return h.Fits(g)
}

// reportCloudHome tells what was made and what to do with it.
func (a *app) reportCloudHome(n eth.Network, dir string, addresses map[string]eth.Address, parties []party, key certificate.PublicKey, at landscape) error {
	outside := false
	for _, q := range parties {
		outside = outside || q.purpose == "recovery" && q.name != kmsRecovery
	}
	if !outside {
		a.say("warning: mnemonics open with the KMS recovery key alone: who loses the account loses them; --recovery NAME=FILE adds a recipient elsewhere")
	}
	next := "stakeseal generate" + a.homeFlagFor(n.Name, dir) + " --count 1"
	if !at.released {
		next = "stakeseal release build" + a.homeFlagFor(n.Name, dir) + ": these settings go into the package"
	}
	return a.reportHome(n, dir, addresses, parties, key, next)
}
