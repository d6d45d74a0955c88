package awsstory

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lambda"

	"github.com/stakeseal/stakeseal/internal/aws/awstest/world"
	"github.com/stakeseal/stakeseal/internal/aws/session"
)

// TestLargeOrder is a large order as ranges, 20 at once, with what goes wrong on
// the way: throttling, lost answers, functions that are killed, and events that
// are delivered once more, at any time. It ends with exactly its validators. A
// few hundred show that; STAKESEAL_LOAD says how many, and make load has 10,000.
func TestLargeOrder(t *testing.T) {
	count := 600
	if text := os.Getenv("STAKESEAL_LOAD"); text != "" {
		var err error
		if count, err = strconv.Atoi(text); err != nil || count < 100 {
			t.Fatalf("STAKESEAL_LOAD is %q", text)
		}
	}
	s := deployed(t, nil)
	s.ok("auditor", s.init("--max-validators-per-order", fmt.Sprint(count))...)
	s.release()
	s.Fail("lambda", "Invoke", 10, world.Fault{Kind: world.Throttled, Every: 5})
	s.Fail("lambda", "Invoke", 3, world.Fault{Kind: world.Lost, Skip: 7, Every: 11})
	s.Fail("dynamodb", "PutItem", 4, world.Fault{Kind: world.Killed, Skip: 100, Every: 500, Role: "generator"})
	s.Fail("dynamodb", "PutItem", 50, world.Fault{Kind: world.Throttled, Skip: 50, Every: 50, Role: "generator"})
	s.Fail("s3", "PutObject", 20, world.Fault{Kind: world.Lost, Skip: 30, Every: 60, Role: "generator"})
	stop, again := make(chan struct{}), make(chan int)
	go s.deliverAgain(stop, again)
	start := time.Now()
	r := s.generate("large", count, "--workers", "20", "--json")
	took := time.Since(start)
	close(stop)
	duplicates := <-again
	s.Heal()
	killed := 0
	for _, run := range s.Invocations() {
		if run.Error == "Runtime.ExitError" {
			killed++
		}
	}
	t.Logf("%d validators in %v: %d invocations, %d of them events delivered again, %d killed", count, took.Round(time.Second/10), len(s.Invocations()), duplicates, killed)
	if killed == 0 || duplicates == 0 {
		t.Errorf("%d were killed and %d delivered again", killed, duplicates)
	}
	if !strings.Contains(r.stdout, fmt.Sprintf(`"from":0,"to":%d`, count)) {
		t.Errorf("the receipt is not of the whole: %.300s", r.stdout)
	}
	s.whole("large", count)
	start = time.Now()
	s.ok("depositor", "deposit", "export", "--order", "large", "--out", s.path("d"))
	t.Logf("exported in %v", time.Since(start).Round(time.Second/10))
	if again := s.ok("requester", "generate", "--resume", "large", "--json"); again.stdout != r.stdout {
		t.Error("the same order gives another receipt")
	}
}

// deliverAgain invokes the function with every third event that it had, as AWS
// may, until stop is closed, and once at least. It says how often.
func (s *site) deliverAgain(stop <-chan struct{}, said chan<- int) {
	cfg := session.New(world.Region, s.Credentials("requester"), session.Options{Attempt: 15 * time.Minute})
	client := lambda.NewFromConfig(cfg)
	n := 0
	defer func() { said <- n }()
	for next := 0; ; {
		ran := s.Invocations()
		if next < len(ran) {
			_, err := client.Invoke(s.Context(), &lambda.InvokeInput{FunctionName: aws.String(s.inst.Outputs["function"]["FunctionAliasArn"]), Payload: ran[next].Event})
			if next += 3; err == nil {
				n++
			}
		}
		select {
		case <-stop:
			if n > 0 || next >= len(ran) {
				return
			}
		case <-time.After(10 * time.Millisecond):
		}
	}
}
