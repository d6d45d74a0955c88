package ops

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"

	"github.com/stakeseal/stakeseal/internal/aws/arn"
	"github.com/stakeseal/stakeseal/internal/aws/session"
	"github.com/stakeseal/stakeseal/internal/runtimeapi"
)

// Limits of a synchronous invocation.
const (
	// longest is the longest that a function runs, and a minute for what is
	// before and after. The connection is silent meanwhile but for TCP's
	// keepalive, which holds it open through gateways.
	longest = 16 * time.Minute
	// MaxAnswer is the most that Lambda hands on of an answer.
	MaxAnswer = 6 << 20
)

// Patience of Invoke.
const (
	throttleTries = 60 // a busy account: some half an hour at the longest wait
	lostTries     = 6  // the connection broke, or AWS failed
	shortestWait  = time.Second
	longestWait   = 40 * time.Second
)

// invoker is what Generator needs of Lambda. *lambda.Client has it.
type invoker interface {
	Invoke(context.Context, *lambda.InvokeInput, ...func(*lambda.Options)) (*lambda.InvokeOutput, error)
}

// Generator is the function that an alias stands for: the released maker of
// keys.
type Generator struct {
	client invoker
	alias  string
	// Backoff replaces the wait before attempt n+1, in tests.
	Backoff func(n int) time.Duration
}

// Generator returns the generator behind an alias of the account. It makes no
// call.
func (a *Account) Generator(alias string) (*Generator, error) {
	at, err := arn.Alias(alias)
	if err != nil {
		return nil, err
	}
	if PlaceOf(at) != a.Place {
		return nil, fmt.Errorf("%w: %s is not in region %s and account %s", arn.ErrARN, alias, a.Region, a.Place.Account)
	}
	// An attempt is repeated here and not in the SDK, which would give up
	// after a few seconds of throttling.
	client := lambda.NewFromConfig(a.config(configKey{attempt: longest}), func(o *lambda.Options) { o.Retryer = aws.NopRetryer{} })
	return &Generator{client: client, alias: at.String(), Backoff: wait}, nil
}

// wait grows from one second to forty, each time a random part of it: many
// that were throttled at once do not come back at once.
func wait(n int) time.Duration {
	most := min(shortestWait<<min(n-1, 10), longestWait)
	var random [8]byte
	_, _ = rand.Read(random[:]) // never fails
	return most/4 + time.Duration(binary.BigEndian.Uint64(random[:])%uint64(most*3/4))
}

// Invocation is an answered one.
type Invocation struct {
	Answer    []byte
	Version   string // of the function that ran
	RequestID string
}

// Invoke gives the function an event and waits for its answer. Throttling and
// answers that were lost on the way are met by invoking again: the event must
// be one that may come twice. What the function itself failed with is a
// *runtimeapi.Failure; other errors are those of session.
//
// When ctx ends, Invoke returns; the function goes on until it is done.
func (g *Generator) Invoke(ctx context.Context, event []byte) (Invocation, error) {
	throttled, lost := 0, 0
	for n := 1; ; n++ {
		answered, why, err := g.invoke(ctx, event)
		again := false
		switch why {
		case busy:
			throttled++
			again = throttled < throttleTries
		case broken:
			lost++
			again = lost < lostTries
		}
		if !again {
			return answered, err
		}
		select {
		case <-ctx.Done():
			return Invocation{}, ctx.Err()
		case <-time.After(g.Backoff(n)):
		}
	}
}

// invoke invokes once, and says whether another attempt may help.
func (g *Generator) invoke(ctx context.Context, event []byte) (Invocation, kind, error) {
	const operation = "lambda:Invoke"
	out, err := g.client.Invoke(ctx, &lambda.InvokeInput{
		FunctionName:   &g.alias,
		InvocationType: types.InvocationTypeRequestResponse,
		LogType:        types.LogTypeNone,
		Payload:        event,
	})
	if err != nil {
		if ctx.Err() != nil {
			return Invocation{}, final, ctx.Err()
		}
		err = session.Classify(operation, err)
		return Invocation{}, passing(err), err
	}
	id := session.RequestID(out.ResultMetadata)
	answered := Invocation{Answer: out.Payload, Version: aws.ToString(out.ExecutedVersion), RequestID: id}
	if out.FunctionError != nil {
		return answered, final, readFailure(out.Payload, id)
	}
	if out.StatusCode != 200 {
		return answered, final, session.Malformed(operation, id, "a synchronous invocation was answered with status %d", out.StatusCode)
	}
	return answered, final, nil
}

// readFailure reads what a failed invocation returns: the function's own words,
// or those of Lambda about it. They are another party's text.
func readFailure(payload []byte, requestID string) error {
	var f runtimeapi.Failure
	if err := json.Unmarshal(payload, &f); err != nil || f.Class == "" && f.Message == "" {
		return session.Malformed("lambda:Invoke", requestID, "the function failed, and what it answered is no failure")
	}
	f.Class, f.Message = line(f.Class, 100), line(f.Message, 2000)
	if f.Message == "" {
		f.Message = f.Class
	}
	return fmt.Errorf("%w (request %s)", &f, line(requestID, 100))
}

// line is text on one line, clipped.
func line(s string, most int) string {
	s = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, " "))
	if len(s) > most {
		s = strings.ToValidUTF8(s[:most], "") + "..."
	}
	return s
}

type kind int

const (
	final  kind = iota // no repetition helps
	busy               // not now
	broken             // it may or may not have run
)

// busyCodes are what Lambda answers when it did not run the function, yet.
var busyCodes = map[string]bool{
	"TooManyRequestsException": true, "ThrottlingException": true, "Throttling": true, "EC2ThrottledException": true,
	"ResourceConflictException": true, "ResourceNotReadyException": true, "ENINotReadyException": true, "ENILimitReachedException": true,
	"SubnetIPAddressLimitReachedException": true,
}

func passing(err error) kind {
	f, ok := errors.AsType[*session.Fault](err)
	switch {
	case !ok || errors.Is(err, session.ErrDenied) || errors.Is(err, session.ErrCredentials):
		return final
	case busyCodes[f.Code] || f.Status == 429:
		return busy
	case f.Status >= 500 || f.Status < 300: // no answer, or the beginning of one
		// A refusal of our own, such as an address outside of AWS, is not
		// made good by repeating it.
		var own interface{ RetryableError() bool }
		if errors.As(err, &own) && !own.RetryableError() {
			return final
		}
		return broken
	}
	return final
}
