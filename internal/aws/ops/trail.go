package ops

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudtrail"
	"github.com/aws/aws-sdk-go-v2/service/cloudtrail/types"

	"github.com/stakeseal/stakeseal/internal/aws/session"
)

// lookupAPI is what is asked of CloudTrail about the past.
type lookupAPI interface {
	LookupEvents(context.Context, *cloudtrail.LookupEventsInput, ...func(*cloudtrail.Options)) (*cloudtrail.LookupEventsOutput, error)
}

// Limits of CloudTrail's own history.
const (
	HistoryDays   = 90
	TrailLag      = 15 * time.Minute       // within which an event appears, usually
	lookupPause   = 600 * time.Millisecond // it takes two calls a second for a whole account
	lookupPage    = 50
	maxLookups    = 20000 // a million events
	maxEventBytes = 1 << 20
)

// History reads CloudTrail's history of the last 90 days in one region. What
// happened before, and who only read data, is in the files of a trail: Logs.
type History struct {
	client lookupAPI
	pause  func(context.Context, time.Duration) error
	step   func(events int) // told after each page
}

// NewHistory makes the reader for the account's region, or another. step, if
// not nil, hears of each page.
func NewHistory(a *Account, region string, step func(events int)) *History {
	return &History{cloudtrail.NewFromConfig(a.Config(region)), trailPause, step}
}

// trailPause is a pause that ctx ends.
func trailPause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}

// Of returns the calls that name a resource (the ARN of a key) from the time
// on, oldest first; keep says which. An event that cannot be read is an error: a
// history with holes would look like one without openings. Denied calls whose
// event names no resource are not among them.
func (h *History) Of(ctx context.Context, resource string, from, to time.Time, keep func(*Call) bool) ([]Call, error) {
	const operation = "cloudtrail:LookupEvents"
	in := &cloudtrail.LookupEventsInput{
		LookupAttributes: []types.LookupAttribute{{AttributeKey: types.LookupAttributeKeyResourceName, AttributeValue: &resource}},
		StartTime:        &from, EndTime: &to, MaxResults: aws.Int32(lookupPage),
	}
	var calls []Call
	seen := map[string]bool{}
	for n := 0; ; n++ {
		if n == maxLookups {
			return nil, session.Malformed(operation, "", "its history of %s has no end", clip(resource))
		}
		if n > 0 {
			if err := h.pause(ctx, lookupPause); err != nil {
				return nil, err
			}
		}
		out, err := h.client.LookupEvents(ctx, in)
		if err != nil {
			return nil, session.Classify(operation, err)
		}
		for _, e := range out.Events {
			c, err := parseCall([]byte(aws.ToString(e.CloudTrailEvent)))
			if err != nil {
				return nil, session.Malformed(operation, "", "event %q: %w", clip(aws.ToString(e.EventId)), err)
			}
			// A page that is asked again may give an event again.
			if !seen[c.EventID] && keep(c) {
				calls = append(calls, *c)
			}
			seen[c.EventID] = true
		}
		if h.step != nil {
			h.step(len(out.Events))
		}
		if aws.ToString(out.NextToken) == "" {
			break
		}
		if aws.ToString(in.NextToken) == *out.NextToken {
			return nil, session.Malformed(operation, "", "its history of %s goes round", clip(resource))
		}
		in.NextToken = out.NextToken
	}
	sortCalls(calls)
	return calls, nil
}

func sortCalls(calls []Call) {
	slices.SortStableFunc(calls, func(a, b Call) int {
		if c := a.Time.Compare(b.Time); c != 0 {
			return c
		}
		return strings.Compare(a.EventID, b.EventID)
	})
}

// errEvent is wrapped where an event of the trail is not one.
var errEvent = errors.New("not an event of CloudTrail")

func badEvent(format string, args ...any) error {
	return fmt.Errorf("%w: %w", errEvent, fmt.Errorf(format, args...))
}
