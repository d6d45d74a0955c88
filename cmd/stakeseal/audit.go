package main

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/stakeseal/stakeseal/certificate"
	"github.com/stakeseal/stakeseal/eth"
	"github.com/stakeseal/stakeseal/internal/aws/ops"
	"github.com/stakeseal/stakeseal/record"
)

// auditReport is the life of one key: who could have opened it, who did, and what
// of that nobody can see.
type auditReport struct {
	Schema      string             `json:"schema"`
	Pubkey      eth.Pubkey         `json:"pubkey"`
	Order       string             `json:"order"`
	Index       uint32             `json:"index"`
	Network     string             `json:"network"`
	Placed      time.Time          `json:"placed"`
	Mnemonic    string             `json:"mnemonic"`
	Birth       auditBirth         `json:"birth"`
	Could       []auditRecipient   `json:"could_open"`
	Changes     []auditChange      `json:"key_changes"`
	Did         []auditDeed        `json:"did"`
	Assigned    *record.Assignment `json:"assigned"` // null: nobody
	Covered     []auditPeriod      `json:"covered"`
	CannotSee   []string           `json:"cannot_see"`
	Findings    []string           `json:"findings"` // what should not be
	Remarks     []string           `json:"remarks"`  // what should be known
	lacks       []string
	failed      error
	born        time.Time
	certificate error
	tries       []try
}

type auditBirth struct {
	Time     time.Time        `json:"time"`
	Verdict  string           `json:"certificate"` // verified, or why not
	Key      string           `json:"certified_by,omitempty"`
	Release  string           `json:"release,omitempty"`
	Binary   certificate.Hash `json:"binary_digest"`
	Settings certificate.Hash `json:"settings_digest"`
	Function string           `json:"function,omitempty"`
	Request  string           `json:"sign_request,omitempty"`
	Signed   string           `json:"sign_in_trail,omitempty"` // what the trail says of it
}

// auditRecipient is one recipient of one sealing.
type auditRecipient struct {
	Purpose    string        `json:"purpose"`
	Generation uint32        `json:"generation"`
	Sealing    record.Digest `json:"sealing"`
	Name       string        `json:"recipient"`
	Key        string        `json:"key"`
	Openers    []ops.Opener  `json:"openers"` // null: not a key of KMS, or not to be seen
	Says       string        `json:"says"`
}

// auditChange is a call that changed who may use a key.
type auditChange struct {
	Time    time.Time    `json:"time"`
	Key     string       `json:"key"`
	What    string       `json:"what"`
	Who     string       `json:"who"`
	Request string       `json:"request"`
	Error   string       `json:"error,omitempty"`
	Openers []ops.Opener `json:"openers,omitempty"` // whom the policy that was put let open
	Says    string       `json:"says,omitempty"`
}

// auditDeed is what was done with the key, from events, the trail, or both.
type auditDeed struct {
	Time    time.Time         `json:"time"`
	What    string            `json:"what"`
	Who     string            `json:"who"`
	Detail  map[string]string `json:"detail,omitempty"`
	Request string            `json:"request,omitempty"`
	Source  string            `json:"source"` // events, trail, or both
	Says    string            `json:"says,omitempty"`
}

// auditPeriod is what of the trail was read.
type auditPeriod struct {
	What string    `json:"what"`
	From time.Time `json:"from"`
	To   time.Time `json:"to"`
}

func (a *app) auditVerb() *cobra.Command {
	var since string
	var logs bool
	cmd := &cobra.Command{
		Use:   "audit PUBKEY",
		Short: "Say who could have opened a key, who did, and what that cannot show",
		Long: `Print the life of one key: its order and birth, the recipients of each of its
sealings and of its mnemonic's, what was noted about it, its assignments, and a
list of what no program can see.

On AWS also: whom the policies of the KMS keys let open it, now and after every
change of them that the trail shows, and every Decrypt in the trail, compared
with the events that stakeseal notes. The trail's own history goes back 90 days;
--logs reads the files in the trail's bucket instead, which go back further and
hold who wrote the record, where the trail keeps data events.

Exit code 3 when something should not be: an opening that nobody noted, a
certificate that does not verify; 4 when a service failed, 6 when this caller
may not see all.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			h, err := a.openHome(cmd.Context())
			if err != nil {
				return err
			}
			defer h.close()
			return a.audit(cmd.Context(), h, args[0], since, logs)
		},
	}
	f := cmd.Flags()
	f.StringVar(&since, "since", "", "read the trail from `TIME` on: 2026-11-22, 2026-11-22T11:00:00Z or 30d (default: the birth)")
	f.BoolVar(&logs, "logs", false, "read the files of the trail instead of its history of 90 days")
	return cmd
}

var daysRule = regexp.MustCompile(`^([1-9][0-9]{0,4})d$`)

// sinceTime reads --since; "" is the birth.
func sinceTime(text string, born, now time.Time) (time.Time, error) {
	if text == "" {
		return born.Add(-ops.TrailLag), nil
	}
	if m := daysRule.FindStringSubmatch(text); m != nil {
		days, err := strconv.Atoi(m[1])
		return now.AddDate(0, 0, -days), err
	}
	for _, layout := range []string{time.DateOnly, time.RFC3339} {
		if t, err := time.Parse(layout, text); err == nil {
			if t.After(now) {
				break
			}
			return t.UTC(), nil
		}
	}
	return time.Time{}, usage("write 2026-11-22, 2026-11-22T11:00:00Z or 30d", "--since is %q, which is no time in the past", text)
}

func (a *app) audit(ctx context.Context, h *home, word, since string, logs bool) error {
	if logs && h.cloud == nil || since != "" && h.cloud == nil {
		return usage("leave the flag out", "--logs and --since are about AWS's trail, and this home is not on AWS")
	}
	v, err := h.one(ctx, word)
	if err != nil {
		return err
	}
	from, err := sinceTime(since, v.Created, a.now())
	if err != nil {
		return err
	}
	r, history, err := h.lifeOf(ctx, v)
	if err != nil {
		return err
	}
	if h.cloud != nil {
		if err := a.auditCloud(ctx, h, r, history, from, logs); err != nil {
			return err
		}
	}
	r.CannotSee = append(r.CannotSee, blindSpots(h.cloud != nil, logs)...)
	return a.tellAudit(h, r)
}

// lifeOf is what the home itself knows of a key.
func (h *home) lifeOf(ctx context.Context, v record.Validator) (*auditReport, []record.Event, error) {
	b, err := h.records.Birth(ctx, v.Pubkey)
	if err != nil {
		return nil, nil, err
	}
	order, err := h.records.Order(ctx, b.Order)
	if err != nil {
		return nil, nil, err
	}
	r := &auditReport{Schema: "stakeseal/audit/v1", Pubkey: b.Pubkey, Order: b.Order, Index: b.Index, Network: b.Network,
		Placed: order.Created, Mnemonic: b.Mnemonic, born: b.Created,
		Could: []auditRecipient{}, Changes: []auditChange{}, Did: []auditDeed{}, Covered: []auditPeriod{}, CannotSee: []string{}, Findings: []string{}, Remarks: []string{}}
	r.Birth = auditBirth{Time: b.Created, Verdict: "verified", Request: b.SignRequest}
	verified, err := h.trust.VerifyBirth(b.Certificate)
	if err == nil {
		r.Birth.Key, r.Birth.Release = verified.Key, verified.Release
		r.Birth.Binary, r.Birth.Settings, r.Birth.Function = verified.Maker.BinaryDigest, verified.Maker.SettingsDigest, verified.Maker.Function
		err = agrees(b, verified)
	}
	if err != nil {
		r.Birth.Verdict = "REFUSED: " + err.Error()
		r.certificate = err
		r.Findings = append(r.Findings, "the certificate does not verify: who could open this key is what its record says, and nobody vouches for that: "+err.Error())
	}
	r.sealed(b.Sealing)
	found := false
	for m, err := range h.records.Mnemonics(ctx, b.Order) {
		if err != nil {
			return nil, nil, err
		}
		if m.ID == b.Mnemonic {
			found = true
			r.sealed(m.Sealing)
		}
	}
	if !found {
		r.Findings = append(r.Findings, "its mnemonic "+b.Mnemonic+" is not recorded: whoever it was sealed to can derive this key")
	}
	if c, err := h.records.Assignment(ctx, b.Pubkey); err == nil {
		r.Assigned = &c
	} else if !errors.Is(err, record.ErrNotFound) && !r.unseen("assignments", err) {
		return nil, nil, err
	}
	var history []record.Event
	for e, err := range h.records.Events(ctx, record.EventQuery{Order: b.Order}) {
		if err != nil {
			if r.unseen("events", err) {
				break
			}
			return nil, nil, err
		}
		if e.Pubkey == b.Pubkey || e.Pubkey == (eth.Pubkey{}) {
			history = append(history, e)
			r.Did = append(r.Did, auditDeed{Time: e.Time, What: e.Kind, Who: e.Actor, Detail: e.Detail, Source: "events"})
		}
	}
	return r, history, nil
}

// unseen notes that something could not be looked at, where that is AWS's
// refusal or failure.
func (r *auditReport) unseen(what string, err error) bool {
	var seen report
	if !seen.unseen(what, err) {
		return false
	}
	r.lacks = append(r.lacks, seen.lacks...)
	if r.failed == nil {
		r.failed = seen.failed
	}
	r.CannotSee = append(r.CannotSee, fmt.Sprintf("%s: %v", what, err))
	return true
}

// sealed adds the recipients of a sealing. A later generation does not take
// the earlier one back: whoever could open that still can, with a copy of it.
func (r *auditReport) sealed(s record.Sealing) {
	for _, to := range s.Recipients {
		says := "whoever holds the identity " + to.Name
		if strings.HasPrefix(to.Key, "age1tag") {
			says += ", in hardware"
		}
		r.Could = append(r.Could, auditRecipient{Purpose: s.Purpose, Generation: s.Generation, Sealing: s.Digest, Name: to.Name, Key: to.Key, Says: says})
	}
}

// blindSpots are what no audit of this kind can see.
func blindSpots(cloud, logs bool) []string {
	list := []string{
		"copies: a sealed file, an exported keystore or an identity that was copied opens anywhere, and leaves nothing here",
		"openings with identities that are files or hardware: only stakeseal's own commands note them, and a program that is not ours need not",
	}
	if !cloud {
		return append(list,
			"events: on one machine nobody signs them, and whoever controls the store can remove or invent them",
			"root, debuggers and backups of this machine while the key was being made or opened")
	}
	list = append(list,
		"who stood behind a role: the trail has the session's name and address, and whoever took the role chose the name; the identity provider knows more",
		"what was done with a key once it was open",
		"events: roles that note them can invent them; the trail, not they, says that KMS opened something",
		"calls that other accounts made and that were denied: these are in their trail",
		"the root user and AWS itself, as far as they act outside of the trail",
	)
	if logs {
		return append(list, "files that were taken out of the trail's bucket: aws cloudtrail validate-logs checks their signatures")
	}
	return append(list, "who read or wrote the record and its copies: data events are in the trail's files only (--logs), where the trail keeps them")
}

// sortDeeds puts what was done in the order of its time.
func (r *auditReport) sortDeeds() {
	slices.SortStableFunc(r.Did, func(x, y auditDeed) int { return x.Time.Compare(y.Time) })
}
