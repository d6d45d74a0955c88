package signer

import (
	"encoding/json"
	"slices"
	"testing"
)

// FuzzImportRequest: what is read of an import is what encoding/json reads, and
// the body is used up: no password stays in it.
func FuzzImportRequest(f *testing.F) {
	for _, seed := range []string{
		`{"keystores":["{}","{\"version\":4}"],"passwords":["a","b\"]\\,\u00e9"],"slashing_protection":"{}"}`,
		`{"keystores":[],"passwords":[ ]}`, `{"passwords":["\\\\",""],"keystores":["",""]}`, `{"passwords":[null]}`, `{"passwords":[["a"]]}`, `{"passwords":null}`,
		`{"PASSWORDS":["a"],"passwords":["b"],"keystores":["x","y"]}`, `[]`, `{"passwords":["\ud83d\udd11","\ud800"],"keystores":["",""]}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		var want struct {
			Keystores []string `json:"keystores"`
			Passwords []string `json:"passwords"`
		}
		plain := json.Unmarshal(slices.Clone(body), &want)
		q, err := parseImport(body)
		defer q.Passwords.wipe()
		if err != nil {
			return
		}
		if plain != nil || len(q.Passwords) > MaxKeystores || len(q.Keystores) != len(q.Passwords) {
			t.Fatalf("taken: %v, %d keystores, %d passwords", plain, len(q.Keystores), len(q.Passwords))
		}
		// Of a name that stands twice encoding/json takes the last; here they add up.
		if len(want.Passwords) != len(q.Passwords) {
			return
		}
		for i, p := range q.Passwords {
			if string(p.Expose()) != want.Passwords[i] {
				t.Fatalf("password %d is %q, not %q", i, p.Expose(), want.Passwords[i])
			}
		}
	})
}
