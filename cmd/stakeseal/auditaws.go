package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/stakeseal/stakeseal/birth"
	"github.com/stakeseal/stakeseal/internal/aws/arn"
	"github.com/stakeseal/stakeseal/internal/aws/awskms"
	"github.com/stakeseal/stakeseal/internal/aws/ops"
	"github.com/stakeseal/stakeseal/record"
	"github.com/stakeseal/stakeseal/seal"
)

// trailReader is what an audit asks of the past, in one region.
type trailReader func(ctx context.Context, region string, s *ops.Sought, from, now time.Time) (calls []ops.Call, since time.Time, err error)

// auditCloud adds what AWS knows of a key.
func (a *app) auditCloud(ctx context.Context, h *home, r *auditReport, history []record.Event, from time.Time, logs bool) error {
	for i := range r.Could {
		if err := h.openersOf(ctx, r, &r.Could[i]); err != nil {
			return err
		}
	}
	read := 0
	step := func(events int) {
		if read += events; read > 0 && a.terminal && !a.json {
			fmt.Fprintf(a.err, "\rstakeseal: %d events of the trail read", read)
		}
	}
	var reader trailReader = func(ctx context.Context, region string, s *ops.Sought, from, now time.Time) ([]ops.Call, time.Time, error) {
		return ops.NewHistory(h.cloud, region, step).Search(ctx, s, from, now)
	}
	what := "CloudTrail's history"
	if logs {
		subject, err := h.subject()
		if err != nil {
			return err
		}
		what = "the files in " + subject.Trail
		reader = func(ctx context.Context, region string, s *ops.Sought, from, now time.Time) ([]ops.Call, time.Time, error) {
			calls, err := ops.NewLogs(h.cloud, subject.Trail, step).Search(ctx, s, region, from, now)
			return calls, from, err
		}
	}
	err := h.readTrail(ctx, r, history, reader, what, from, a.now())
	if read > 0 && a.terminal && !a.json {
		fmt.Fprintln(a.err)
	}
	return err
}

// openersOf adds whom a KMS key's policy lets open a sealing now.
func (h *home) openersOf(ctx context.Context, r *auditReport, to *auditRecipient) error {
	text, ok := strings.CutPrefix(to.Key, awskms.Prefix)
	if !ok {
		return nil
	}
	key, err := arn.Key(text)
	if err != nil {
		r.Findings = append(r.Findings, fmt.Sprintf("recipient %s: %v", to.Name, err))
		return nil
	}
	to.Openers, err = ops.Openers(ctx, ops.KMSIn(h.cloud)(key.Region), text, r.context(to.Purpose))
	switch {
	case errors.Is(err, ops.ErrPolicy):
		to.Says = "its policy is not to be understood: look at it by hand"
		r.Findings = append(r.Findings, fmt.Sprintf("recipient %s: %v", to.Name, err))
	case err != nil:
		to.Says = "not to be seen by this caller"
		if !r.unseen("who may open with "+to.Name, err) {
			return err
		}
	case to.Openers == nil:
		to.Openers, to.Says = []ops.Opener{}, "nobody, as its policy stands"
	default:
		to.Says = "whom the policy of the key lets, as it stands"
	}
	return nil
}

// context is the encryption context of a sealing of this key or its mnemonic.
func (r *auditReport) context(purpose string) map[string]string {
	if purpose == record.Signing {
		return seal.SigningBinding(r.Network, r.Order, r.Index, r.Pubkey).Context()
	}
	return seal.RecoveryBinding(r.Network, r.Order, r.Mnemonic).Context()
}

// readTrail adds what the trail has, region by region.
func (h *home) readTrail(ctx context.Context, r *auditReport, history []record.Event, read trailReader, what string, from, now time.Time) error {
	subject, err := h.subject()
	if err != nil {
		return err
	}
	keys := map[string][]string{} // by region
	keys[subject.Region] = nil
	for _, to := range r.Could {
		if text, ok := strings.CutPrefix(to.Key, awskms.Prefix); ok {
			key, err := arn.Key(text)
			if err == nil && !slices.Contains(keys[key.Region], text) {
				keys[key.Region] = append(keys[key.Region], text)
			}
		}
	}
	var calls []ops.Call
	for _, region := range sortedNames(keys) {
		s := &ops.Sought{Keys: keys[region], Order: r.Order, Born: r.born}
		if region == subject.Region {
			s.Certifier, s.SignRequest = subject.Certifying, r.Birth.Request
			s.Table, s.Item = subject.Tables.Records, []string{"order/" + r.Order, fmt.Sprintf("birth/%010d", r.Index)} // docs/formats/dynamodb.md
			s.Archive, s.Objects = subject.Archive, []string{birth.BirthObject(r.Order, r.Index), birth.MnemonicObject(r.Order, r.Mnemonic), birth.OrderObject(r.Order)}
			s.Function = strings.Join([]string{"arn", subject.Partition, "lambda", subject.Region, subject.Account, "function", subject.Function}, ":")
		}
		got, since, err := read(ctx, region, s, from, now)
		if err != nil {
			if !r.unseen("the trail of "+region, err) {
				return err
			}
			continue
		}
		calls = append(calls, got...)
		r.Covered = append(r.Covered, auditPeriod{what + " of " + region, since, now})
		if since.After(r.born) {
			r.CannotSee = append(r.CannotSee, fmt.Sprintf("what happened in %s before %s: that is older than what was read (--since, --logs)", region, since.Format(time.RFC3339)))
		}
	}
	r.join(calls, history)
	return nil
}

// join compares the trail's calls with the events of the store.
func (r *auditReport) join(calls []ops.Call, history []record.Event) {
	noted := map[string]*auditDeed{} // by request
	for i, e := range history {
		for _, request := range requestsOf(e) {
			noted[request] = &r.Did[i]
		}
	}
	seen := map[string]bool{}
	var deeds []auditDeed
	for _, c := range calls {
		switch {
		case c.Changes():
			r.changed(c)
		case c.Service == "kms" && c.Action == "Sign":
			r.Birth.Signed = fmt.Sprintf("%s by %s", c.Time.Format(time.RFC3339), ops.Plain(c.Who))
		case c.Opens():
			seen[c.RequestID] = seen[c.RequestID] || c.Done()
			if secret, mine := r.secret(c); mine {
				deeds = append(deeds, r.opened(c, secret, noted[c.RequestID]))
			}
		case c.Seals():
			if secret, mine := r.secret(c); mine {
				deeds = append(deeds, r.touched(c, secret))
			}
		default:
			deeds = append(deeds, r.touched(c, ""))
		}
	}
	if r.Birth.Request != "" && r.Birth.Signed == "" {
		r.Birth.Signed = "not in what was read of the trail"
		if r.covers(r.born) {
			r.Findings = append(r.Findings, "the trail has no kms:Sign under the request "+r.Birth.Request+", which the record names as that of its certificate")
		}
	}
	for i, e := range history {
		var missing []string
		for _, request := range requestsOf(e) {
			if !seen[request] {
				missing = append(missing, request)
			}
		}
		switch {
		case missing == nil:
		case !r.covers(e.Time):
			r.Did[i].Says = "not within what was read of the trail"
		default:
			r.Did[i].Says = fmt.Sprintf("%d of its requests are not in the trail", len(missing))
			r.Remarks = append(r.Remarks, fmt.Sprintf("%s of %s by %s names requests that the trail does not have: %s", e.Kind, e.Time.Format(time.RFC3339), e.Actor, few(missing)))
		}
	}
	r.Did = append(r.Did, deeds...)
	r.sortDeeds()
	r.remarkTries()
}

// try is an opening that was refused.
type try struct {
	who, secret string
	at          time.Time
}

// remarkTries makes one remark of all tries of one caller at one secret.
func (r *auditReport) remarkTries() {
	for i, t := range r.tries {
		same := func(o try) bool { return o.who == t.who && o.secret == t.secret }
		if slices.ContainsFunc(r.tries[:i], same) {
			continue
		}
		n := 0
		for _, o := range r.tries[i:] {
			if same(o) {
				n++
			}
		}
		text := fmt.Sprintf("%s tried to open %s at %s and was refused", t.who, t.secret, t.at.Format(time.RFC3339))
		if n > 1 {
			text = fmt.Sprintf("%s tried to open %s %d times from %s on and was refused", t.who, t.secret, n, t.at.Format(time.RFC3339))
		}
		r.Remarks = append(r.Remarks, text)
	}
}

// requestsOf are the ids of the KMS requests that an event names.
func requestsOf(e record.Event) []string {
	var out []string
	for _, name := range sortedNames(e.Detail) {
		if name == requestsKey || strings.HasPrefix(name, requestsKey+".") {
			out = append(out, strings.Fields(e.Detail[name])...)
		}
	}
	return out
}

// covers says whether every trail that was to be read was, at a time; what
// happened just now may not be in it yet.
func (r *auditReport) covers(t time.Time) bool {
	if len(r.Covered) == 0 || r.failed != nil || r.lacks != nil {
		return false
	}
	return !slices.ContainsFunc(r.Covered, func(p auditPeriod) bool {
		return t.Before(p.From.Add(time.Second)) || t.After(p.To.Add(-ops.TrailLag))
	})
}

// secret says which secret of this key a call is about; mine is false where it
// is about another key of the order.
func (r *auditReport) secret(c ops.Call) (what string, mine bool) {
	switch {
	case c.Context == nil: // denied before it was read
		return "a secret", true
	case c.Context["pubkey"] == r.Pubkey.Hex():
		return "the signing key", true
	case c.Context["mnemonic"] == r.Mnemonic:
		return "the mnemonic", true
	}
	return "", false
}

// opened reads one opening in the trail; by is the event that names it.
func (r *auditReport) opened(c ops.Call, secret string, by *auditDeed) auditDeed {
	d := auditDeed{Time: c.Time, What: "KMS " + c.Action + " of " + secret, Who: who(c), Request: c.RequestID, Source: "trail"}
	if c.Attested != "" {
		d.Says = "in an enclave of image " + ops.Plain(c.Attested)
	}
	switch {
	case c.DryRun:
		d.Says = "a dry run: it asked for the right and opened nothing"
	case c.Error != "":
		d.Says = "refused: " + ops.Plain(c.Error)
		r.tries = append(r.tries, try{d.Who, secret, c.Time})
	case by != nil:
		by.Source = "both"
		d.Source, d.Says = "both", strings.TrimSpace("noted as "+by.What+" "+d.Says)
	default:
		d.Says = strings.TrimSpace("NOBODY NOTED IT " + d.Says)
		r.Findings = append(r.Findings, fmt.Sprintf("%s opened %s at %s (request %s), and no event says why", d.Who, secret, c.Time.Format(time.RFC3339), ops.Plain(c.RequestID)))
	}
	return d
}

// who shows a caller: the role, its session and from where.
func who(c ops.Call) string {
	text := c.Who
	if c.Session != "" {
		text += " (" + c.Session + ")"
	}
	if c.Source != "" {
		text += " from " + c.Source
	}
	return ops.Plain(text)
}

// touched is a call that sealed, wrote or ran.
func (r *auditReport) touched(c ops.Call, of string) auditDeed {
	if of != "" {
		of = " of " + of
	}
	service := map[string]string{"kms": "KMS", "dynamodb": "DynamoDB", "s3": "S3", "lambda": "Lambda"}[c.Service]
	d := auditDeed{Time: c.Time, What: service + " " + ops.Plain(c.Action) + of, Who: who(c), Request: c.RequestID, Source: "trail"}
	if c.Error != "" {
		d.Says = "refused: " + ops.Plain(c.Error)
	}
	if c.Writes() && c.Error == "" && c.Time.After(r.born.Add(ops.TrailLag)) {
		d.Says = "LONG AFTER THE BIRTH"
		r.Findings = append(r.Findings, fmt.Sprintf("%s wrote or removed the record or its copy at %s (%s): compare them (stakeseal doctor)", d.Who, c.Time.Format(time.RFC3339), d.What))
	}
	return d
}

// changed adds a change of a key, and whom the policy that was put let open.
func (r *auditReport) changed(c ops.Call) {
	change := auditChange{Time: c.Time, What: ops.Plain(c.Action), Who: who(c), Request: c.RequestID, Error: ops.Plain(c.Error)}
	purpose := ""
	for _, to := range r.Could {
		if text, ok := strings.CutPrefix(to.Key, awskms.Prefix); ok && c.Names(text) {
			change.Key, purpose = text, to.Purpose
		}
	}
	if change.Key == "" && len(c.Resources) > 0 {
		change.Key = ops.Plain(c.Resources[0])
	}
	switch {
	case c.Error != "":
		change.Says = "refused"
	case c.Policy != "" && purpose != "":
		openers, err := ops.PolicyOpeners(c.Policy, change.Key, r.context(purpose))
		if err != nil {
			change.Says = ops.Plain(err.Error())
			break
		}
		change.Openers = openers
		change.Says = "from then on: " + openersText(openers)
		r.strangers(change, openers)
	case c.Action == "CreateGrant":
		change.Says = fmt.Sprintf("lets %s %s (grant %s)", ops.Plain(c.Grantee), ops.Plain(strings.Join(c.Grants, ", ")), ops.Plain(c.GrantID))
		if slices.Contains(c.Grants, "Decrypt") || slices.Contains(c.Grants, "ReEncryptFrom") {
			r.Findings = append(r.Findings, fmt.Sprintf("a grant of %s let %s open, for as long as it stood", c.Time.Format(time.RFC3339), ops.Plain(c.Grantee)))
		}
	case c.GrantID != "":
		change.Says = "grant " + ops.Plain(c.GrantID)
	}
	r.Changes = append(r.Changes, change)
}

// strangers finds whom a former policy let open and the present one does not:
// they could have opened, though nobody could tell from how things stand.
func (r *auditReport) strangers(c auditChange, then []ops.Opener) {
	var now []ops.Opener
	for _, to := range r.Could {
		if to.Key == awskms.Prefix+c.Key {
			now = to.Openers
		}
	}
	if now == nil {
		return // not to be seen
	}
	for _, o := range then {
		if !slices.ContainsFunc(now, func(n ops.Opener) bool { return n.Principal == o.Principal }) {
			r.Findings = append(r.Findings, fmt.Sprintf("the policy that %s put at %s let %s open, who now may not", c.Who, c.Time.Format(time.RFC3339), ops.Plain(o.Principal)))
		}
	}
}

func openersText(list []ops.Opener) string {
	if len(list) == 0 {
		return "nobody opens"
	}
	var out []string
	for _, o := range list {
		text := ops.Plain(o.Principal)
		if !slices.Contains(out, text) {
			out = append(out, text)
		}
	}
	return strings.Join(out, ", ") + " may open"
}
