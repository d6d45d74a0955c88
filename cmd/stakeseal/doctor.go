package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/stakeseal/stakeseal/internal/aws/session"
)

// finding is one line of the doctor's report.
type finding struct {
	Schema string `json:"schema"`
	Check  string `json:"check"`
	State  string `json:"state"` // ok, warning, wrong, changed or unseen
	Says   string `json:"says"`
	Gains  string `json:"gains,omitempty"` // what whoever made the change gains
	Hint   string `json:"hint,omitempty"`
}

type report struct {
	findings []finding
	lacks    []string // what the caller has no right to on AWS, so that something was not looked at
	failed   error    // the first failure of a service that kept something from being looked at
}

func (r *report) ok(check, format string, args ...any) {
	r.add(check, "ok", "", format, args...)
}
func (r *report) warn(check, hint, format string, args ...any) {
	r.add(check, "warning", hint, format, args...)
}
func (r *report) wrong(check, hint, format string, args ...any) {
	r.add(check, "wrong", hint, format, args...)
}
func (r *report) add(check, state, hint, format string, args ...any) {
	r.findings = append(r.findings, finding{Schema: "stakeseal/finding/v1", Check: check, State: state, Says: fmt.Sprintf(format, args...), Hint: hint})
}

// unseen adds that something could not be looked at, if err is AWS's refusal
// or failure; any other err is the caller's.
func (r *report) unseen(check string, err error) bool {
	switch {
	case errors.Is(err, session.ErrDenied):
		var fault *session.Fault
		action := "a right"
		if errors.As(err, &fault) {
			action = fault.Operation
		}
		r.lacks = append(r.lacks, action)
	case errors.Is(err, session.ErrRemote):
		if r.failed == nil {
			r.failed = err
		}
	default:
		return false
	}
	r.add(check, "unseen", "", "not checked: %v", err)
	return true
}

// diagnosis is what a run of the doctor was asked for.
type diagnosis struct {
	quick bool
	known []string
	try   bool
}

func (a *app) doctorVerb() *cobra.Command {
	var d diagnosis
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Look at the whole home and say what is not as it should be",
		Long: `Look at settings, keys, permissions, the store and the archive, and compare every
record with its certificate, with the archive's copy and with the order's
receipt.

On AWS look at the living installation too: code signing, what can be called and
by whom, the release in force against the trust file, keys and who may open with
them, tables, buckets, trail and alarms, every role and policy against this
release's templates, and who else in the account could change any of it. It
changes nothing. What this caller may not look at is said, and is never a yes.

Exit code 3 when something is wrong or no longer as promised, 4 when a service
failed, 6 when this caller may not see all.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			h, err := a.openHome(cmd.Context())
			if err != nil {
				return err
			}
			defer h.close()
			return a.doctor(cmd.Context(), h, d)
		},
	}
	f := cmd.Flags()
	f.BoolVar(&d.quick, "quick", false, "leave the records out")
	f.StringArrayVar(&d.known, "known-administrator", nil, "on AWS: you know and watch the principal `ARN`, which has power over the installation and is none of its roles; repeat")
	f.BoolVar(&d.try, "try-opening", false, "on AWS: have KMS itself say, by dry runs, whether you may open; where you may not, this rings the alarm for refused openings")
	return cmd
}

func (a *app) doctor(ctx context.Context, h *home, d diagnosis) error {
	if h.cloud == nil && (d.try || d.known != nil) {
		return usage("leave the flag out", "--try-opening and --known-administrator are for homes on AWS, and this one is not")
	}
	var r report
	a.examineMachine(ctx, h, &r)
	a.examineSettings(ctx, h, &r)
	if err := h.examineFiles(&r); err != nil {
		return err
	}
	if h.cloud != nil {
		if err := a.examineCloud(ctx, h, &r, d); err != nil {
			return err
		}
	}
	if !d.quick {
		if err := a.examineRecords(ctx, h, &r); err != nil && !r.unseen("records", err) {
			return err
		}
	}
	return a.tell(&r)
}

// tell prints a report and makes its exit code.
func (a *app) tell(r *report) error {
	count := map[string]int{}
	t := newTable(a.out, "CHECK", "STATE", "")
	for _, f := range r.findings {
		count[f.State]++
		if a.json {
			if err := a.object(f); err != nil {
				return err
			}
			continue
		}
		state := f.State
		switch state {
		case "changed":
			state = "CHANGED"
		case "unseen":
			state = "cannot see"
		}
		t.row(f.Check, state, f.Says)
	}
	if !a.json {
		if err := t.flush(); err != nil {
			return err
		}
		said := map[finding]bool{}
		for _, f := range r.findings {
			words := finding{Check: f.Check, Gains: f.Gains, Hint: f.Hint}
			if said[words] {
				continue
			}
			said[words] = true
			if f.Gains != "" {
				a.say("%s: gained by it: %s", f.Check, f.Gains)
			}
			if f.Hint != "" {
				a.say("hint: %s: %s", f.Check, f.Hint)
			}
		}
	}
	all := len(r.findings)
	switch wrong := count["wrong"] + count["changed"]; {
	case wrong > 0:
		return fail(exitRefused, "", "%d of %d checks found something wrong", wrong, all)
	case r.failed != nil:
		return fail(exitRemote, "try again", "%d of %d checks could not be made: %w", count["unseen"], all, r.failed)
	case len(r.lacks) > 0:
		return fail(exitDenied, "the auditor's role sees all of it: AWS_PROFILE=NAME chooses another profile",
			"%d of %d checks could not be made, for want of %s; the others found nothing wrong", count["unseen"], all, few(r.lacks))
	case count["unseen"] > 0:
		return fail(exitRemote, "use the program of the release that is deployed", "%d of %d checks could not be made; the others found nothing wrong", count["unseen"], all)
	}
	a.say("%d checks, %d warnings, nothing wrong", all, count["warning"])
	return nil
}

// few shows the beginning of a list.
func few(list []string) string {
	text := ""
	for i, s := range list {
		if i == 5 {
			return fmt.Sprintf("%s and %d more", text, len(list)-i)
		}
		if i > 0 {
			text += ", "
		}
		text += s
	}
	return text
}
