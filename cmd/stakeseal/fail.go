package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"syscall"

	"github.com/stakeseal/stakeseal/birth"
	"github.com/stakeseal/stakeseal/bundle"
	"github.com/stakeseal/stakeseal/certificate"
	"github.com/stakeseal/stakeseal/check"
	"github.com/stakeseal/stakeseal/deposit"
	"github.com/stakeseal/stakeseal/eth/keystore"
	"github.com/stakeseal/stakeseal/internal/aws/arn"
	"github.com/stakeseal/stakeseal/internal/aws/awskmsopen"
	"github.com/stakeseal/stakeseal/internal/aws/ops"
	"github.com/stakeseal/stakeseal/internal/aws/session"
	"github.com/stakeseal/stakeseal/internal/beacon"
	"github.com/stakeseal/stakeseal/internal/build"
	"github.com/stakeseal/stakeseal/internal/config"
	"github.com/stakeseal/stakeseal/internal/folder"
	"github.com/stakeseal/stakeseal/internal/identity"
	"github.com/stakeseal/stakeseal/internal/keyfile"
	"github.com/stakeseal/stakeseal/internal/runtimeapi"
	"github.com/stakeseal/stakeseal/internal/sqlite"
	"github.com/stakeseal/stakeseal/record"
	"github.com/stakeseal/stakeseal/unseal"
)

// Exit codes, the same for every verb; scripts rely on them.
const (
	exitInternal    = 1
	exitUsage       = 2 // usage or bad input
	exitRefused     = 3 // a verification says no
	exitRemote      = 4 // a remote service failed: never a pass
	exitConflict    = 5 // conflict or duplicate
	exitDenied      = 6 // denied or sealed
	exitInterrupted = 130
	exitUnread      = 141 // whoever read the output stopped reading
)

// failure is an error with its exit code and what to do about it.
type failure struct {
	code int
	hint string
	err  error
}

func (f *failure) Error() string { return f.err.Error() }
func (f *failure) Unwrap() error { return f.err }

// fail makes a failure; hint may be "".
func fail(code int, hint, format string, args ...any) error {
	return &failure{code, hint, fmt.Errorf(format, args...)}
}

// usage is a failure of the caller's input.
func usage(hint, format string, args ...any) error { return fail(exitUsage, hint, format, args...) }

// fail prints a verb's error with its hint and returns the exit code.
func (a *app) fail(ctx context.Context, err error, verb string) int {
	var f *failure
	if !errors.As(err, &f) {
		code, hint := classify(err)
		if ctx.Err() != nil && (code == exitInternal || code == exitInterrupted) {
			code, hint = exitInterrupted, ""
		}
		f = &failure{code, hint, err}
	}
	if errors.Is(err, errUnprinted) && errors.Is(err, syscall.EPIPE) {
		return exitUnread // as a program that does not look ends: silently
	}
	if f.hint == "" && f.code == exitUsage {
		f = &failure{f.code, "see " + verb + " --help", f.err}
	}
	text := strings.TrimSpace(err.Error())
	fmt.Fprintf(a.err, "stakeseal: error: %s\n", strings.ReplaceAll(text, "\n", "\n  "))
	if f.hint != "" {
		fmt.Fprintf(a.err, "stakeseal: hint: %s\n", strings.ReplaceAll(f.hint, "\n", "\nstakeseal: hint: "))
	}
	return f.code
}

// verdict is the exit code and hint that an error will end the command with.
func verdict(err error) (int, string) {
	var f *failure
	if errors.As(err, &f) {
		return f.code, f.hint
	}
	return classify(err)
}

// signIn is what to do about credentials that are missing or have ended.
const signIn = "sign in (aws sso login), or choose a profile that you are signed in with: AWS_PROFILE=NAME; aws sts get-caller-identity shows who you are"

// classify gives the exit code and hint of errors that come from below,
// first match first.
func classify(err error) (int, string) {
	var remote *runtimeapi.Failure
	if errors.As(err, &remote) {
		switch remote.Class {
		case "refused":
			return exitUsage, "the generator obeys generator.yaml in the home; stakeseal config show prints it"
		case "conflict":
			return exitConflict, "an order id stands for one content: use another --order, or --resume to continue as it was placed"
		case "tampered":
			return exitRefused, "do not deposit to this order; keep the home as it is and compare with the bundles and another copy"
		case "init":
			return exitUsage, "stakeseal doctor looks at every setting"
		case "denied":
			return exitDenied, "the function's role lacks a right that the templates give it: stakeseal doctor compares them"
		}
		return exitInternal, ""
	}
	if fault, ok := errors.AsType[*session.Fault](err); ok && signedOut[fault.Code] && errors.Is(err, session.ErrDenied) {
		return exitDenied, signIn
	}
	known, ok := among([]meant{
		{context.Canceled, exitInterrupted, ""},
		{errUnprinted, exitInternal, "what the command does was done; only its report could not be printed: look with stakeseal list, orders or show"},
		// Before what a call that failed for them would say.
		{ops.ErrAccount, exitDenied, "choose the profile of that account: AWS_PROFILE=NAME (aws configure list-profiles)"},
		{session.ErrCredentials, exitUsage, signIn},
		{build.ErrClock, exitUsage, "set the clock: its time is written into every certificate"},
		{birth.ErrOrder, exitUsage, "generator.yaml in the home says what is allowed; stakeseal config show prints it"},
		{birth.ErrTampered, exitRefused, "do not deposit; compare with the bundles and another copy"},
		{check.ErrRefused, exitInternal, "nothing of it was kept; run stakeseal doctor, and do not use this machine for keys if it happens again"},
		{unseal.ErrNoIdentity, exitDenied, "the identity is not among those it was sealed to; stakeseal show prints the recipients"},
		{unseal.ErrBinding, exitRefused, "a sealed secret stands where another belongs: compare with the bundles and another copy"},
		{unseal.ErrDamaged, exitRefused, "compare with the bundles and another copy"},
		{unseal.ErrBody, exitRefused, "who sealed it was faulty or malicious: use another copy or another recovery, and do not deposit"},
		{awskmsopen.ErrContext, exitRefused, "KMS says that it was sealed as something else, or was changed since: compare with the bundles and another copy"},
		{awskmsopen.ErrStanza, exitRefused, "it was not sealed by stakeseal, or changed since: compare with the bundles and another copy"},
		{identity.ErrPermissions, exitUsage, "an identity file is its owner's only, mode 600"},
		{identity.ErrPassphrase, exitDenied, "type the passphrase that the identity file was encrypted with"},
		{identity.ErrPlugin, exitUsage, "name the program with --plugin /usr/bin/age-plugin-NAME"},
		{identity.ErrFormat, exitUsage, "the private half, as stakeseal identity new or age-keygen writes it"},
		{keystore.ErrPassword, exitRefused, "the sealed keystore does not open with its own password; recovery restore makes another"},
		{keystore.ErrMismatch, exitRefused, "the sealed keystore holds another key; recovery restore makes another"},
		{certificate.ErrSignature, exitRefused, "it was changed, or another key signed it; if that key is yours, add it to the trust file by hand"},
		{certificate.ErrUntrusted, exitRefused, "ask whoever keeps the trust file: it revokes or limits that key or release, or doesn't name it"},
		{certificate.ErrMismatch, exitRefused, "ask whoever keeps the trust file; what it should hold is added by hand, never from what it judges"},
		{certificate.ErrFormat, exitUsage, "the file was cut short, edited by hand, or is of another kind: compare it with its source"},
		{bundle.ErrFormat, exitUsage, "it was cut short or edited: take a fresh copy from its source"},
		{deposit.ErrFormat, exitUsage, ""},
		{deposit.ErrJudge, exitUsage, ""},
		{beacon.ErrURL, exitUsage, "such as http://127.0.0.1:5052, or your provider's https:// URL; each node once"},
		{beacon.ErrNetwork, exitRemote, "ask a node of the network that the deposits are for"},
		{beacon.ErrNotSynced, exitRemote, "wait until it is synced, or ask another node; and look at this machine's clock"},
		{beacon.ErrDisagree, exitRemote, "send nothing until you know which of the nodes is wrong"},
		{deposit.ErrChain, exitRemote, "is the node running, and the URL right? ask another node, or try again"},
		{keyfile.ErrUnsafe, exitUsage, "a certifying key that others could read is no longer one: chmod 0400, and make a new home if they could have read it"},
		{config.ErrSettings, exitUsage, "correct the file; one that stakeseal init writes shows how it should look"},
		{sqlite.ErrDamaged, exitRefused, "keep the file as it is; the bundles hold every birth, and stakeseal recovery restore brings keys back"},
		{sqlite.ErrNotAStore, exitUsage, "store in generator.yaml names the database that stakeseal init made; put it, or a copy of it, back there"},
		{sqlite.ErrReadOnly, exitUsage, "the home must be writable by the user who runs stakeseal"},
		{sqlite.ErrFull, exitInternal, "free some space and run the command again: nothing was half-written"},
		{folder.ErrFull, exitInternal, "free some space and run the command again: nothing was half-written"},
		{folder.ErrReadOnly, exitUsage, "the archive must be writable by the user who runs stakeseal"},
		{folder.ErrNotAnArchive, exitUsage, "archive in generator.yaml names the folder that stakeseal init made: is its disk mounted?"},
		{syscall.ENOSPC, exitInternal, "free some space and run the command again: nothing was half-written"},
		{record.ErrConflict, exitConflict, "an id stands for one content; compare the two"},
		{record.ErrExists, exitConflict, "nothing is overwritten"},
		{record.ErrStale, exitConflict, "somebody changed it meanwhile: look, then decide again"},
		{record.ErrNotFound, exitUsage, "stakeseal orders and stakeseal list show what there is"},
		{record.ErrCorrupt, exitRefused, "compare with the bundles and another copy"},
		{record.ErrFormat, exitRefused, "compare with the bundles and another copy"},
		{session.ErrDenied, exitDenied, "aws sts get-caller-identity shows who you are; docs/aws.md says which role each command is for"},
		{session.ErrRemote, exitRemote, "try again; what was done stays done, and nothing is done twice"},
		{ops.ErrStack, exitRefused, "compare the stack with its template in infra; its outputs are as the template wrote them, and nothing was changed by hand"},
		{ops.ErrNoStack, exitUsage, "is the region right, and the profile (AWS_PROFILE)?"},
		{arn.ErrARN, exitUsage, "copy the ARN from the stack's outputs"},
		{fs.ErrPermission, exitUsage, "check the file's owner and mode"},
		{fs.ErrNotExist, exitUsage, "check the name, and the folder you are in"},
		{syscall.EISDIR, exitUsage, "name a file, not a folder"},
		{syscall.ENOTDIR, exitUsage, "what should be a folder in that path is a file"},
		{fs.ErrExist, exitConflict, "nothing is overwritten: choose another place"},
	}, err)
	if !ok {
		return exitInternal, ""
	}
	return known.code, known.hint
}

// meant is what an error from below means here.
type meant struct {
	is   error
	code int
	hint string
}

// among finds the first of a list that err is.
func among(list []meant, err error) (meant, bool) {
	i := slices.IndexFunc(list, func(m meant) bool { return errors.Is(err, m.is) })
	if i < 0 {
		return meant{}, false
	}
	return list[i], true
}

// explainedBy gives err the exit code and hint that a list has for it. An error
// that has its own, or is not in the list, stays as it is.
func explainedBy(list []meant, err error) error {
	var f *failure
	if err == nil || errors.As(err, &f) {
		return err
	}
	if known, ok := among(list, err); ok {
		return fail(known.code, known.hint, "%w", err)
	}
	return err
}
