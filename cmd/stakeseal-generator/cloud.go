package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdkdynamodb "github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	sdks3 "github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/stakeseal/stakeseal/birth"
	"github.com/stakeseal/stakeseal/internal/aws/arn"
	"github.com/stakeseal/stakeseal/internal/aws/awskms"
	"github.com/stakeseal/stakeseal/internal/aws/dynamodb"
	"github.com/stakeseal/stakeseal/internal/aws/s3archive"
	"github.com/stakeseal/stakeseal/internal/aws/session"
	"github.com/stakeseal/stakeseal/internal/config"
	"github.com/stakeseal/stakeseal/seal"
)

// cloud is AWS as the function reaches it: with the credentials of its role,
// at the places that the settings' ARNs name.
type cloud struct {
	credentials aws.CredentialsProvider
	options     session.Options
	function    *function
	requests    requests
	dial        func(arn.ARN) awskms.Client
	here        func() (aws.Config, time.Duration, error) // of the function's region
}

// newCloud begins to read the certificate authorities, which takes longer
// than the settings do.
func newCloud(c aws.CredentialsProvider, o session.Options, fn *function) *cloud {
	return &cloud{credentials: c, options: o, function: fn, dial: awskms.Dial(c, o),
		here: meanwhile(func() (aws.Config, error) { return session.New(fn.region, c, o), nil })}
}

// mode is the mode of a function.
func (c *cloud) mode() mode {
	return mode{
		name:  "the generator on Lambda",
		knows: map[string]string{"certifier": "awskms", "store": "dynamodb", "archive": "s3"},
		recipient: func(data []byte) (seal.Recipient, error) {
			return awskms.ParseRecipientFile(data, c.key)
		},
		connect: c.connect,
	}
}

// key returns the client for a key, counted.
func (c *cloud) key(a arn.ARN) awskms.Client {
	return &counted{c.dial(a), &c.requests, c.options.Backoff}
}

// connect makes the clients and asks KMS for the certifying key's public
// half, the one call before the first order.
//
// The table's ARN says where the function itself is; the certifying key is
// there too, so that one account's administrators and trail see all of it.
// Keys to seal to may be anywhere.
func (c *cloud) connect(ctx context.Context, g *config.Generator) (b backends, err error) {
	table, err := arn.Table(g.Store.Rest)
	if err != nil {
		return b, fmt.Errorf("store: %w", err)
	}
	if table.Region != c.function.region {
		return b, fmt.Errorf("store: the table is in region %s and this function in %s", table.Region, c.function.region)
	}
	key, err := arn.Key(g.Certifier.Rest)
	if err != nil {
		return b, fmt.Errorf("certifier: %w", err)
	}
	if key.Region != table.Region || key.Account != table.Account || key.Partition != table.Partition {
		return b, fmt.Errorf("certifier: the key %s is not in the region and account of the table, %s and %s", key, table.Region, table.Account)
	}
	c.function.account, c.function.partition = table.Account, table.Partition
	where, _, _ := c.here()
	if b.store, err = dynamodb.New(sdkdynamodb.NewFromConfig(where), dynamodb.Tables{Records: g.Store.Rest}); err != nil {
		return b, err
	}
	if b.archive, err = s3archive.New(sdks3.NewFromConfig(where), g.Archive.Rest, "", s3archive.Options{Owner: table.Account}); err != nil {
		return b, err
	}
	certifier, err := awskms.NewCertifier(ctx, c.key(key), g.Certifier.Rest)
	if err != nil {
		return b, err
	}
	b.signer, b.key = certifier, certifier.Public()
	return b, nil
}

// requests counts the calls to KMS, which are paid for one by one. What the
// SDK repeats is counted once.
type requests struct{ encrypt, sign, publicKey atomic.Int64 }

func (r *requests) count() [3]int64 {
	if r == nil {
		return [3]int64{}
	}
	return [3]int64{r.encrypt.Load(), r.sign.Load(), r.publicKey.Load()}
}

// counted is a client whose calls are counted, and whose Encrypt is patient:
// what could not be sealed is wiped, so unlike the other calls the flow cannot
// make this one again.
type counted struct {
	awskms.Client
	requests *requests
	backoff  func(n int) time.Duration // nil: birth.Backoff
}

func (c *counted) Sign(ctx context.Context, in *kms.SignInput, o ...func(*kms.Options)) (*kms.SignOutput, error) {
	c.requests.sign.Add(1)
	return c.Client.Sign(ctx, in, o...)
}

func (c *counted) GetPublicKey(ctx context.Context, in *kms.GetPublicKeyInput, o ...func(*kms.Options)) (*kms.GetPublicKeyOutput, error) {
	c.requests.publicKey.Add(1)
	return c.Client.GetPublicKey(ctx, in, o...)
}

// Encrypt makes the call again while its error is one that passes, until ctx
// ends; the flow's context ends with its time.
func (c *counted) Encrypt(ctx context.Context, in *kms.EncryptInput, o ...func(*kms.Options)) (*kms.EncryptOutput, error) {
	const most = 64 // some five minutes
	for n := 1; ; n++ {
		c.requests.encrypt.Add(1)
		out, err := c.Client.Encrypt(ctx, in, o...)
		if err == nil || n > most || ctx.Err() != nil || !passing(session.Classify("kms:Encrypt", err)) {
			return out, err
		}
		wait := birth.Backoff(n)
		if c.backoff != nil {
			wait = c.backoff(n)
		}
		select {
		case <-ctx.Done():
			return out, err
		case <-time.After(wait):
		}
	}
}

// throttled are the names under which services say: not so many, not now.
var throttled = map[string]bool{
	"ThrottlingException": true, "Throttling": true, "ThrottledException": true, "RequestThrottled": true, "RequestThrottledException": true,
	"ProvisionedThroughputExceededException": true, "RequestLimitExceeded": true, "TooManyRequestsException": true,
	"LimitExceededException": true, "SlowDown": true, "BandwidthLimitExceeded": true, "RequestTimeout": true,
}

// passing says of an error whether the same call may succeed a moment later:
// AWS was busy or out of order, or the connection broke. A refusal does not
// pass, nor does an answer that AWS would not give.
func passing(err error) bool {
	var f *session.Fault
	if !errors.As(err, &f) || errors.Is(err, session.ErrDenied) {
		return false
	}
	var connection net.Error
	var request *url.Error
	return throttled[f.Code] || f.Status >= 500 || f.Status == 429 ||
		f.Status == 0 && (errors.As(err, &connection) || errors.As(err, &request)) ||
		errors.Is(err, context.DeadlineExceeded) // of the one call
}
