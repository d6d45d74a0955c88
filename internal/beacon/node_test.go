package beacon

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/stakeseal/stakeseal/deposit"
	"github.com/stakeseal/stakeseal/eth"
)

func TestNodeURL(t *testing.T) {
	for _, bad := range []string{
		"", "localhost:5052", "127.0.0.1:5052", "ftp://h/", "file:///etc/passwd", "unix:///x", "http:", "http://", "http:///x", "http://:5052",
		"http://SECRET:SECRET@", "http://user:SECRET@h:port/", "http://SECRET/%zz", "http://h/#SECRET", "http://h/SECRET#", "https:h", "://SECRET", "http://h\nSECRET",
		"http://user:SEC/RET@h/", " http://h",
	} {
		n, err := NewNode(bad, 0)
		if !errors.Is(err, ErrURL) || !errors.Is(err, deposit.ErrChain) || n != nil {
			t.Errorf("%q: %v", bad, err)
		}
		if err != nil && (strings.Contains(err.Error(), "SECRET") || strings.Contains(err.Error(), "SEC") || strings.Contains(err.Error(), "RET")) {
			t.Errorf("%q: the error says %q", bad, err)
		}
	}
	for _, good := range []string{"http://h", "https://h:1/", "http://[::1]:5052", "HTTPS://h/p/?q=1"} {
		if _, err := NewNode(good, 0); err != nil {
			t.Errorf("%q: %v", good, err)
		}
	}
}

// Credentials go to the node and nowhere else, however it fails.
func TestCredentialsStayHidden(t *testing.T) {
	for name, h := range map[string]http.HandlerFunc{
		"good":   nil,
		"status": func(w http.ResponseWriter, r *http.Request) { http.Error(w, r.URL.String(), 500) },
		"redirect": func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://127.0.0.1:1/SECRET", http.StatusFound)
		},
		"reflect": func(w http.ResponseWriter, r *http.Request) { answer(w, "%s", r.URL.String()) },
		"hang up": func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
		"down":    nil,
	} {
		f := newFake(t)
		var auth, uri string
		f.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			f.mu.Lock()
			auth, uri = r.Header.Get("Authorization"), r.URL.RequestURI()
			f.mu.Unlock()
			if h != nil {
				h(w, r)
				return
			}
			r.URL.Path = strings.TrimPrefix(r.URL.Path, "/SECRET/p")
			f.good(w, r)
		})
		n, err := NewNode(strings.Replace(f.URL, "http://", "http://user:SECRET@", 1)+"/SECRET%2Fp/?key=SECRET", 0)
		if err != nil {
			t.Fatal(err)
		}
		c, err := New(hoodi, clock, n)
		if err != nil {
			t.Fatal(err)
		}
		if name == "down" {
			f.Close()
		}
		_, at, err := c.Known(context.Background(), pubkeys(1))
		if (err == nil) != (name == "good") {
			t.Errorf("%s: %v", name, err)
		}
		f.mu.Lock()
		if name != "down" && (auth != "Basic dXNlcjpTRUNSRVQ=" || !strings.HasPrefix(uri, "/SECRET%2Fp/eth/v1/") || !strings.HasSuffix(uri, "?key=SECRET")) {
			t.Errorf("%s: sent %q, %q", name, auth, uri)
		}
		f.mu.Unlock()
		for _, shown := range []string{fmt.Sprint(err), fmt.Sprintf("%v %+v %#v %s", n, n, n, n), fmt.Sprintf("%v %+v %#v", *n, *n, *n), fmt.Sprintf("%v %+v", c, c), fmt.Sprintf("%+v", at)} {
			if strings.Contains(shown, "SECRET") {
				t.Errorf("%s: shows %q", name, shown)
			}
		}
	}
}

// Who can set the environment must not choose who answers.
func TestNoProxy(t *testing.T) {
	n, err := NewNode("http://example.invalid", 0)
	if err != nil {
		t.Fatal(err)
	}
	if n.client.Transport.(*http.Transport).Proxy != nil {
		t.Error("a proxy from the environment is used")
	}
}

func TestBound(t *testing.T) {
	for size, want := range map[int]error{9: nil, 10: nil, 11: errLarge, 1000: errLarge} {
		got, err := io.ReadAll(&bound{r: strings.NewReader(strings.Repeat("x", size)), left: 10})
		if !errors.Is(err, want) || len(got) != min(size, 10) {
			t.Errorf("%d: read %d, %v", size, len(got), err)
		}
	}
}

func TestUnambiguous(t *testing.T) {
	for text, ok := range map[string]bool{
		`{}`: true, `[]`: true, `1`: true, `"x"`: true, `{"a":1,"b":{"a":1}}`: true, `[{"a":1},{"a":2}]`: true, `{"a":["a","a"],"b":"a"}`: true, `{"a":{"b":1},"c":[{"b":1}]}`: true,
		`{"a":1,"a":2}`: false, `{"a":1,"A":2}`: false, `{"x":{"a":1,"a":2}}`: false, `[{"a":[],"b":{},"a":1}]`: false, `{"a":1,"\u0061":2}`: false,
		`{"a":"a","b":1,"B":"a"}`: false, ``: false, `{} {}`: false, `{"a"}`: false,
	} {
		if err := unambiguous([]byte(text)); (err == nil) != ok {
			t.Errorf("%s: %v", text, err)
		}
	}
}

var answerSeeds = []string{
	`{"execution_optimistic":false,"finalized":false,"data":[` + validatorJSON(pubkey(1<<40), deposit.Validator{Status: deposit.ActiveOngoing}) + `,` +
		validatorJSON(pubkey(1), deposit.Validator{Index: 7, Status: deposit.PendingQueued, Balance: 1}) + `]}`,
	`{"version":"fulu","execution_optimistic":false,"finalized":false,"data":[{"pubkey":"` + pubkey(1).String() + `","withdrawal_credentials":"` + eth.Credentials{2}.String() +
		`","amount":"32","signature":"` + eth.Signature{}.String() + `","slot":"5"}]}`,
	`{"data":[]}`, `{"data":null}`, `{"data":[{}]}`, `{"data":[]} x`, `[]`, ``,
}

func TestFuzzSeeds(t *testing.T) {
	validators, queue := 0, 0
	for _, s := range answerSeeds {
		if readValidators(strings.NewReader(s), pubkeys(2), map[eth.Pubkey]deposit.Validator{}) == nil {
			validators++
		}
		if readPending(strings.NewReader(s), map[eth.Pubkey]bool{pubkey(1): true}, map[eth.Pubkey][]deposit.Pending{}) == nil {
			queue++
		}
	}
	if validators == 0 || queue < 2 {
		t.Errorf("%d and %d of %d seeds are accepted", validators, queue, len(answerSeeds))
	}
}

// Whatever a node answers: no panic, nothing that was not asked for, and
// nothing accepted that is not one unambiguous JSON object.
func FuzzAnswers(f *testing.F) {
	for _, s := range answerSeeds {
		f.Add([]byte(s))
	}
	asked := pubkeys(2)
	wanted := map[eth.Pubkey]bool{asked[0]: true, asked[1]: true}
	f.Fuzz(func(t *testing.T, data []byte) {
		found := map[eth.Pubkey]deposit.Validator{}
		if err := readValidators(bytes.NewReader(data), asked, found); err == nil {
			if unambiguous(data) != nil || !json.Valid(data) {
				t.Fatalf("accepted %q", data)
			}
			for p, v := range found {
				if !wanted[p] || !v.Status.Known() {
					t.Fatalf("found %s: %+v", p, v)
				}
			}
		}
		queue := map[eth.Pubkey][]deposit.Pending{}
		if err := readPending(bytes.NewReader(data), wanted, queue); err == nil {
			if !json.Valid(data) {
				t.Fatalf("accepted %q", data)
			}
			for p := range queue {
				if !wanted[p] {
					t.Fatalf("found %s", p)
				}
			}
		}
	})
}
