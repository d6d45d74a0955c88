package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stakeseal/stakeseal/birth"
	"github.com/stakeseal/stakeseal/internal/aws/awskms"
	"github.com/stakeseal/stakeseal/internal/aws/awstest"
	"github.com/stakeseal/stakeseal/internal/aws/awstest/call"
	"github.com/stakeseal/stakeseal/internal/aws/session"
	"github.com/stakeseal/stakeseal/internal/config"
	"github.com/stakeseal/stakeseal/internal/runtimeapi"
	"github.com/stakeseal/stakeseal/record"
	"github.com/stakeseal/stakeseal/seal"
)

// TestOrdersOnAWS: orders through the whole of the function but its process.
func TestOrdersOnAWS(t *testing.T) {
	s := newSky(t)
	h := s.started()
	init := s.last("init")
	if init["function_version"] != "7" || init["network"] != "hoodi" || init["memory_mb"] != 1769.0 || fmt.Sprint(init["settings_digest"]) != fmt.Sprint(h.flow.Maker.SettingsDigest) {
		t.Errorf("the first fact is %v", init)
	}
	for _, kdf := range []string{"none", "pbkdf2"} {
		count := map[string]uint32{"none": 21, "pbkdf2": 4}[kdf]
		q := s.request("o-"+kdf, count, kdf)
		signed, sealed := len(s.calls("Sign")), len(s.calls("Encrypt"))
		a, answer, failure := s.invoke(h, q, long)
		if failure != nil {
			t.Fatal(failure)
		}
		v, err := h.flow.Verifier.VerifyReceipt(a.Receipt)
		must(t, err)
		if len(v.Validators) != int(count) || a.Remaining != nil {
			t.Errorf("%d validators are listed, %v remain", len(v.Validators), a.Remaining)
		}
		end := s.last("end")
		want := map[string]any{"encrypt": float64(count + 1), "sign": float64(count + 1), "get_public_key": 0.0}
		if end["made"] != float64(count) || end["found"] != 0.0 || end["remaining"] != 0.0 || end["order"] != q.Order || fmt.Sprint(end["kms_requests"]) != fmt.Sprint(want) {
			t.Errorf("the last fact is %v", end)
		}
		if peak, ok := end["peak_mb"].(float64); !ok || runtime.GOOS == "linux" && (peak < 5 || peak > 4096) {
			t.Errorf("the peak is %v", end["peak_mb"])
		}
		if n, m := len(s.calls("Sign"))-signed, len(s.calls("Encrypt"))-sealed; n != int(count)+1 || m != int(count)+1 {
			t.Errorf("%d signatures and %d sealings in the trail", n, m)
		}
		// The id beside each record is of the very request that signed it:
		// none twice, and all of them in the trail.
		trail := s.calls("Sign")
		seen := map[string]bool{}
		for row, err := range s.records().Validators(t.Context(), record.Query{Order: q.Order}) {
			must(t, err)
			if !slices.Contains(trail, row.SignRequest) || seen[row.SignRequest] {
				t.Errorf("index %d was signed by request %q", row.Index, row.SignRequest)
			}
			seen[row.SignRequest] = true
			b, err := s.records().Birth(t.Context(), row.Pubkey)
			must(t, err)
			c, err := h.flow.Verifier.VerifyBirth(b.Certificate)
			must(t, err)
			if want := strings.TrimSuffix(testAlias, "live") + "7"; c.Maker.Function != want {
				t.Errorf("the certificate names the function %q, want %q", c.Maker.Function, want)
			}
		}
		// The same event again, in this process and in another.
		for _, h := range []*handler{h, s.started()} {
			_, again, failure := s.invoke(h, q, long)
			if failure != nil || !bytes.Equal(again, answer) {
				t.Errorf("the same event again: another answer, or %v", failure)
			}
			if end := s.last("end"); end["made"] != 0.0 || end["found"] != float64(count) {
				t.Errorf("the same event again: %v", end)
			}
		}
	}
	s.noSecrets(h, 100)
}

// TestTwoAtOnce: the same event in two processes at once ends as one order.
func TestTwoAtOnce(t *testing.T) {
	s := newSky(t)
	answers := make([][]byte, 2)
	var all sync.WaitGroup
	for i := range answers {
		h := s.started()
		all.Go(func() {
			_, answer, failure := s.invoke(h, s.request("twice", 12, "none"), long)
			if failure != nil {
				t.Error(failure)
			}
			answers[i] = answer
		})
	}
	all.Wait()
	rows := 0
	for _, err := range s.records().Validators(t.Context(), record.Query{}) {
		must(t, err)
		rows++
	}
	if rows != 12 || !bytes.Equal(answers[0], answers[1]) {
		t.Errorf("%d validators, answers alike: %t", rows, bytes.Equal(answers[0], answers[1]))
	}
}

// TestThrottled: far more throttling than the SDK has patience for, of each
// service, costs time and no key.
func TestThrottled(t *testing.T) {
	for service, how := range map[string]*call.Failure{
		"KMS":                           nil,
		"dynamodb:PutItem":              {Status: 400, Code: "ProvisionedThroughputExceededException"},
		"dynamodb:GetItem":              {Status: 400, Code: "ThrottlingException"},
		"dynamodb:Query":                {Status: 500, Code: "InternalServerError"},
		"s3:PUT":                        {Status: 503, Code: "SlowDown"},
		"s3:GET":                        {Status: 500, Code: "InternalError"},
		"dynamodb:PutItem, all at once": {Status: 400, Code: "RequestLimitExceeded"},
	} {
		t.Run(service, func(t *testing.T) {
			s := newSky(t)
			h := s.started()
			left := 3 * session.MaxAttempts
			action, _, _ := strings.Cut(service, ",")
			s.refuse = func(a string) *call.Failure {
				if how == nil && a == "s3:GET" && left > 0 {
					// From the first sealing of a mnemonic on, and again when keys
					// are sealed and certified.
					for range 3 * session.MaxAttempts {
						s.kms.Fail(awstest.Fault{Status: 400, Code: "ThrottlingException", Message: "Rate exceeded"})
					}
					left -= session.MaxAttempts
				}
				if how == nil || a != action || left == 0 {
					return nil
				}
				left--
				return how
			}
			_, _, failure := s.invoke(h, s.request("busy", 6, "none"), long)
			if failure != nil {
				t.Fatal(failure)
			}
			if how != nil && left != 0 {
				t.Errorf("%d faults were never met", left)
			}
			rows := 0
			for _, err := range s.records().Validators(t.Context(), record.Query{}) {
				must(t, err)
				rows++
			}
			if end := s.last("end"); rows != 6 || end["made"] != 6.0 {
				t.Errorf("%d validators, %v", rows, end)
			}
		})
	}
}

// TestDenied: what the role may not do is said as that, once, and not tried
// again.
func TestDenied(t *testing.T) {
	for _, action := range []string{"dynamodb:PutItem", "dynamodb:GetItem", "s3:PUT", "s3:GET", "kms:Encrypt", "kms:Sign"} {
		t.Run(action, func(t *testing.T) {
			s := newSky(t)
			h := s.started()
			tries := 0
			s.refuse = func(a string) *call.Failure {
				if a != action {
					return nil
				}
				tries++
				return &call.Failure{Status: 403, Code: "AccessDeniedException", Message: "User is not authorized"}
			}
			if strings.HasPrefix(action, "kms:") {
				s.deny(h, action)
			}
			_, _, failure := s.invoke(h, s.request("denied", 3, "none"), long)
			if failure == nil || failure.Class != birth.ClassDenied || tries > 3 {
				t.Fatalf("%v after %d tries", failure, tries)
			}
			if fact := s.last("error"); fact["class"] != birth.ClassDenied || fact["request"] == "" || fact["order"] != "denied" {
				t.Errorf("the log has %v", fact)
			}
		})
	}
}

// deny gives the function keys that it may not use so.
func (s *sky) deny(h *handler, action string) {
	spec, may := awstest.Symmetric, "kms:DescribeKey"
	if action == "kms:Sign" {
		spec, may = awstest.P256, "kms:GetPublicKey"
	}
	key, err := s.kms.CreateKey(spec, mayOnly(may))
	must(s.t, err)
	who, err := session.EnvironmentCredentials(s.environ)
	must(s.t, err)
	cloud := newCloud(who, s.options(), h.function)
	if action == "kms:Sign" {
		b, err := cloud.connect(s.t.Context(), &config.Generator{Store: config.Ref{Rest: testTable}, Certifier: config.Ref{Rest: key}, Archive: config.Ref{Rest: testBucket}})
		must(s.t, err)
		h.flow.Signer = b.signer
		return
	}
	r, err := cloud.mode().recipient([]byte(awskms.Prefix + key))
	must(s.t, err)
	h.flow.Signing, err = seal.NewRecipients(seal.Signing, seal.Named{Name: "pool", Recipient: r})
	must(s.t, err)
}

// TestOutOfTime: with no time to begin, nothing is begun; a schedule's event
// is named by its time, fails while something remains, and then finds it.
func TestOutOfTime(t *testing.T) {
	s := newSky(t)
	h := s.started()
	q := s.request("monthly", 5, "none")
	q.ScheduledTime = time.Date(2026, 11, 22, 11, 0, 0, 0, time.UTC)
	_, _, failure := s.invoke(h, q, 100*time.Millisecond)
	if failure == nil || failure.Class != birth.ClassIncomplete {
		t.Fatalf("got %v", failure)
	}
	if fact, end := s.last("error"), s.last("end"); fact["class"] != birth.ClassIncomplete || end["order"] != "monthly-20261122t110000z" || end["remaining"] != 5.0 || end["made"] != 0.0 {
		t.Errorf("the log has %v and %v", fact, end)
	}
	if n := s.table.Count(testTable); n != 0 {
		t.Errorf("%d items were written", n)
	}
	a, first, failure := s.invoke(h, q, long)
	if failure != nil || a.Remaining != nil {
		t.Fatal(failure)
	}
	if _, again, _ := s.invoke(h, q, long); !bytes.Equal(first, again) {
		t.Error("delivered twice, it has two answers")
	}
}

// TestPartOfTheTime: an order for which the time is too short is answered
// with what was done and what remains; a schedule's fails, so that it comes
// again.
func TestPartOfTheTime(t *testing.T) {
	for _, scheduled := range []bool{false, true} {
		s := newSky(t)
		h := s.started()
		var mu sync.Mutex
		now := time.Date(2026, 12, 1, 0, 0, 0, 0, time.UTC)
		clock := func() time.Time { mu.Lock(); defer mu.Unlock(); return now }
		h.flow.Now, h.now = clock, clock
		// A table that takes two items a second, however many come at once.
		s.refuse = func(action string) *call.Failure {
			if action == "dynamodb:PutItem" {
				mu.Lock()
				defer mu.Unlock()
				now = now.Add(500 * time.Millisecond)
			}
			return nil
		}
		q := s.request("monthly", 120, "none")
		if scheduled {
			q.ScheduledTime = time.Date(2026, 11, 22, 11, 0, 0, 0, time.UTC)
		}
		listed := uint32(0)
		for runs := 1; ; runs++ {
			event, err := json.Marshal(q)
			must(t, err)
			answer, err := h.serve(t.Context(), runtimeapi.Invocation{ID: "1", Event: event, Function: testAlias, Deadline: clock().Add(90 * time.Second)})
			end := s.last("end")
			var failure *runtimeapi.Failure
			var a birth.Answer
			switch {
			case errors.As(err, &failure):
				if !scheduled || failure.Class != birth.ClassIncomplete || end["remaining"] == 0.0 || end["made"] == 0.0 {
					t.Fatalf("run %d: %v, %v", runs, failure, end)
				}
				continue
			case json.Unmarshal(answer, &a) != nil:
				t.Fatalf("run %d: %s", runs, answer)
			}
			v, err := h.flow.Verifier.VerifyReceipt(a.Receipt)
			must(t, err)
			if len(a.Remaining) == 0 {
				if v.To != 120 || runs < 2 {
					t.Errorf("after %d runs up to index %d", runs, v.To)
				}
				break
			}
			if scheduled || a.Remaining[0] != (birth.Span{From: v.To, To: 120}) || v.To <= listed || end["remaining"] != float64(120-v.To) {
				t.Fatalf("run %d: up to index %d, %v remain, %v", runs, v.To, a.Remaining, end)
			}
			listed = v.To
		}
	}
}

// TestScheduledAndInterrupted: a schedule whose time runs out in the middle
// of a call fails, though some were made.
func TestScheduledAndInterrupted(t *testing.T) {
	s := newSky(t)
	h := s.started()
	h.flow.Passing = nil
	q := s.request("monthly", 40, "none")
	q.ScheduledTime = time.Date(2026, 11, 22, 11, 0, 0, 0, time.UTC)
	ctx, end := context.WithCancelCause(t.Context())
	puts := 0
	s.refuse = func(action string) *call.Failure {
		if action == "s3:PUT" {
			if puts++; puts == 20 {
				end(birth.ErrIncomplete)
			}
		}
		return nil
	}
	event, err := json.Marshal(q)
	must(t, err)
	_, err = h.serve(ctx, runtimeapi.Invocation{ID: "1", Event: event, Function: testAlias})
	var failure *runtimeapi.Failure
	if !errors.As(err, &failure) || failure.Class != birth.ClassIncomplete {
		t.Fatalf("got %v", err)
	}
	if fact := s.last("end"); fact["made"] == 0.0 || fact["remaining"] == 0.0 {
		t.Errorf("the log has %v", fact)
	}
	s.mu.Lock() // a call that was cut off may still be under way
	s.refuse = nil
	s.mu.Unlock()
	if _, _, failure := s.invoke(h, q, long); failure != nil {
		t.Errorf("and again: %v", failure)
	}
	if fact := s.last("end"); fact["found"] == 0.0 || fact["made"] == 0.0 || fact["remaining"] != 0.0 {
		t.Errorf("the log has %v", fact)
	}
}

// TestOtherFunctions: the function that was invoked is this one, in its own
// account and region.
func TestOtherFunctions(t *testing.T) {
	s := newSky(t)
	h := s.started()
	event, err := json.Marshal(s.request("o", 1, "none"))
	must(t, err)
	for _, text := range []string{"", "x", strings.Replace(testAlias, testAccount, "444455556666", 1), strings.Replace(testAlias, testRegion, "eu-west-1", 1),
		strings.Replace(testAlias, "generator", "other", 1), strings.Replace(testAlias, ":lambda:", ":kms:", 1), strings.Replace(testAlias, "function:", "layer:", 1), testAlias + ":x",
		strings.Replace(testAlias, "live", "$LATEST", 1)} {
		_, err := h.serve(t.Context(), runtimeapi.Invocation{ID: "1", Event: event, Function: text})
		var failure *runtimeapi.Failure
		if !errors.As(err, &failure) || failure.Class != birth.ClassFailed {
			t.Errorf("invoked as %q: %v", text, err)
		}
	}
	if n := s.table.Count(testTable); n != 0 {
		t.Errorf("%d items were written", n)
	}
	for _, text := range []string{testAlias, strings.TrimSuffix(testAlias, ":live")} {
		if got, err := h.function.invoked(text); err != nil || got != strings.TrimSuffix(testAlias, "live")+"7" {
			t.Errorf("%s: %q, %v", text, got, err)
		}
	}
}

// TestWorkers: as many as there is memory for; scrypt needs a larger function
// than pbkdf2.
func TestWorkers(t *testing.T) {
	for _, c := range []struct {
		mb, cpus int
		kdf      string
		want     int // 0: refused
	}{
		{128, 2, "pbkdf2", 3}, {128, 2, "none", 3}, {10240, 6, "pbkdf2", 7},
		{128, 2, "scrypt", 0}, {256, 2, "scrypt", 0}, {512, 2, "scrypt", 1}, {1024, 2, "scrypt", 2}, {1769, 2, "scrypt", 2}, {10240, 6, "scrypt", 6},
	} {
		fn := &function{memoryMB: c.mb, cpus: c.cpus}
		if n, err := fn.workers(c.kdf); n != c.want || (err != nil) != (c.want == 0) || err != nil && !errors.Is(err, birth.ErrOrder) {
			t.Errorf("%+v: %d workers, %v", c, n, err)
		}
	}
	s := newSky(t)
	h := s.started("AWS_LAMBDA_FUNCTION_MEMORY_SIZE=256")
	if _, _, failure := s.invoke(h, s.request("o", 1, "scrypt"), long); failure == nil || failure.Class != birth.ClassRefused || !strings.Contains(failure.Message, "512") {
		t.Errorf("got %v", failure)
	}
	if limit := debug.SetMemoryLimit(-1); limit != (256-outsideHeapMB)<<20 {
		t.Errorf("the memory limit is %d", limit)
	}
}

// TestKeysThatDoNotCertify: what is wrong with the certifying key is known
// before the first order.
func TestKeysThatDoNotCertify(t *testing.T) {
	for name, spoil := range map[string]func(s *sky) string{
		"of another kind": func(s *sky) string {
			key, err := s.kms.CreateKey(awstest.Symmetric, mayOnly("kms:GetPublicKey"))
			must(s.t, err)
			return key
		},
		"denied": func(s *sky) string {
			key, err := s.kms.CreateKey(awstest.P256, mayOnly("kms:Sign"))
			must(s.t, err)
			return key
		},
		"missing": func(s *sky) string { return testKey },
	} {
		t.Run(name, func(t *testing.T) {
			s := newSky(t)
			key := spoil(s)
			file := s.settings[config.GeneratorFile]
			file.Data = bytes.ReplaceAll(file.Data, []byte(s.key), []byte(key))
			if _, err := s.handler(); err == nil || !strings.Contains(err.Error(), "certifying key") {
				t.Errorf("it started: %v", err)
			}
		})
	}
	s := newSky(t)
	for range 2 * session.MaxAttempts {
		s.kms.Fail(awstest.Fault{Status: 503, Code: "KMSInternalException"})
	}
	if _, err := s.handler(); err == nil {
		t.Error("it started without its certifying key")
	}
	if _, err := s.handler(); err == nil {
		t.Error("and again")
	}
	s.started() // Lambda starts it again, and all is well
}

// TestHostileEvents: an event's free text reaches a log and an answer in a
// few words at most, and no line break of it is one.
func TestHostileEvents(t *testing.T) {
	s := newSky(t)
	h := s.started()
	text := strings.Repeat("free text\n\u2028\x1b[2J", 50_000)
	quoted, err := json.Marshal(text)
	must(t, err)
	good, err := json.Marshal(s.request("o", 1, "none"))
	must(t, err)
	for name, event := range map[string]string{
		"empty": "", "no JSON": text, "an unknown field": `{` + string(quoted) + `:1}`, "a schema": `{"schema":` + string(quoted) + `}`,
		"an id":      strings.Replace(string(good), `"o"`, string(quoted), 1),
		"a network":  strings.Replace(string(good), `"hoodi"`, string(quoted), 1),
		"a keystore": strings.Replace(string(good), `"none"`, string(quoted), 1),
		"a label":    strings.Replace(string(good), `"from"`, `"labels":{"a":`+string(quoted)+`},"from"`, 1),
	} {
		before := len(s.log.bytes())
		_, _, failure := s.invoke(h, []byte(event), long)
		if failure == nil || len(failure.Message) > maxMessage+10 {
			t.Errorf("%s: %d bytes: %.200v", name, len(fmt.Sprint(failure)), failure)
		}
		if logged := s.log.bytes()[before:]; len(logged) > 3000 || bytes.Count(logged, []byte("\n")) > 3 {
			t.Errorf("%s: %d bytes were logged", name, len(logged))
		}
	}
	s.last("error") // every line is one
}

// TestLargeReceipts: a receipt that would not fit into an answer is named by
// its digest, and lies in the archive.
func TestLargeReceipts(t *testing.T) {
	s := newSky(t)
	h := s.started()
	if h.largest != maxReceipt || maxReceipt+(64<<10) > maxAnswer {
		t.Errorf("receipts up to %d bytes in answers up to %d", h.largest, maxAnswer)
	}
	a, _, failure := s.invoke(h, s.request("o", 3, "none"), long)
	if failure != nil || a.Receipt == nil || !a.ReceiptSHA256.IsZero() {
		t.Fatalf("%v %+v", failure, a)
	}
	whole := a.Receipt
	h.largest = len(whole) - 1
	a, small, failure := s.invoke(h, s.request("o", 3, "none"), long)
	if failure != nil || a.Receipt != nil || bytes.Contains(small, []byte(`"receipt":`)) || a.ReceiptSHA256 != record.DigestOf(whole) {
		t.Fatalf("%v %s", failure, small)
	}
	archived, err := h.flow.Archive.Get(t.Context(), birth.ReceiptObject("o", 0, 3))
	must(t, err)
	if record.DigestOf(archived) != a.ReceiptSHA256 {
		t.Error("the archive has another receipt")
	}
}

// TestPassing tells what is tried again from what is not.
func TestPassing(t *testing.T) {
	for name, c := range map[string]struct {
		err  error
		want bool
	}{
		"nothing of AWS":         {record.ErrConflict, false},
		"a throttled table":      {&session.Fault{Code: "ProvisionedThroughputExceededException", Status: 400}, true},
		"an error of theirs":     {&session.Fault{Code: "InternalFailure", Status: 500}, true},
		"too many":               {&session.Fault{Status: 429}, true},
		"a refusal of ours":      {&session.Fault{Code: "ValidationException", Status: 400}, false},
		"no such table":          {&session.Fault{Code: "ResourceNotFoundException", Status: 400}, false},
		"nonsense":               {session.Malformed("kms:Sign", "", "it answered for another key"), false},
		"a deadline of one call": {session.Classify("dynamodb:GetItem", fmt.Errorf("x: %w", context.DeadlineExceeded)), true},
		"a broken connection":    {session.Classify("dynamodb:GetItem", &netError{}), true},
		"given up":               {session.Classify("dynamodb:GetItem", context.Canceled), false},
	} {
		if got := passing(fmt.Errorf("couldn't store index 3: %w", c.err)); got != c.want {
			t.Errorf("%s: passing is %t", name, got)
		}
	}
}

type netError struct{}

func (*netError) Error() string   { return "connection reset" }
func (*netError) Timeout() bool   { return false }
func (*netError) Temporary() bool { return false }

func TestNoLayers(t *testing.T) {
	dir := t.TempDir()
	must(t, noLayers(dir))
	must(t, noLayers(filepath.Join(dir, "none")))
	must(t, os.Mkdir(filepath.Join(dir, "extensions"), 0o755))
	if err := noLayers(dir); err == nil || !strings.Contains(err.Error(), "extensions") {
		t.Errorf("a layer: %v", err)
	}
	if err := noLayers(filepath.Join(dir, "extensions\x00")); err == nil {
		t.Error("a folder that cannot be read passes")
	}
}

// TestQuietFacts: a child writes none.
func TestQuietFacts(t *testing.T) {
	var f *facts
	var k *requests
	f.write("x", struct{}{})
	f.failed(&tally{}, &runtimeapi.Failure{})
	f.ended(&tally{orderID: "o"}, k.count(), 0)
	f.started(&tally{}, birth.Range{}, time.Time{})
	if k.count() != [3]int64{} {
		t.Error("counted")
	}
	runtime.KeepAlive(f)
}
