package ops

import (
	"errors"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"

	"github.com/stakeseal/stakeseal/internal/aws/session"
)

// TestDutyConfig: what a duty waits for is over, with all its retries, while a
// signature is still worth something; and one attempt that hangs leaves time
// for another.
func TestDutyConfig(t *testing.T) {
	const worth = 4 * time.Second // signer.Config.Patience
	a := &Account{Place: Place{Region: "us-east-1"}, credentials: credentials.NewStaticCredentialsProvider("AKIA", "x", ""), configs: map[configKey]aws.Config{}}
	cfg := a.DutyConfig()
	if d := session.Bound(cfg); d == 0 || 2*d > worth {
		t.Errorf("an attempt may take %s", d)
	}
	r := cfg.Retryer()
	var all time.Duration
	last := time.Duration(0)
	for n := 1; n < r.MaxAttempts(); n++ {
		d, err := r.RetryDelay(n, errors.New("throttled"))
		if err != nil || d <= 0 {
			t.Fatalf("retry %d: %s, %v", n, d, err)
		}
		all, last = all+d, d
	}
	if all > worth/2 || last < 50*time.Millisecond {
		t.Errorf("%d attempts wait %s in all, at last %s", r.MaxAttempts(), all, last)
	}
	if other := a.Config("").Retryer().MaxAttempts(); other != session.MaxAttempts {
		t.Errorf("other calls have %d attempts", other)
	}
}
