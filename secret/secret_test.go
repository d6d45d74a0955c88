package secret_test

import (
	"bytes"
	"encoding/gob"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/stakeseal/stakeseal/secret"
)

func TestNeverPrints(t *testing.T) {
	s := secret.Copy([]byte("canary-value"))
	holder := struct{ S *secret.Bytes }{s}
	hidden := struct{ s *secret.Bytes }{s}
	deeper := struct {
		h  *struct{ s *secret.Bytes }
		in struct{ s *secret.Bytes }
		m  map[string]*secret.Bytes
	}{&hidden, hidden, map[string]*secret.Bytes{"k": s}}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%o", "%b", "%c", "%U", "%t", "%08b", "% x"} {
		for _, value := range []any{s, *s, holder, &holder, hidden, &hidden, deeper, &deeper, []*secret.Bytes{s}, map[string]*secret.Bytes{"k": s}} {
			out := fmt.Sprintf(verb, value)
			for _, leak := range []string{"canary", fmt.Sprintf("%x", "canary"), "99 97 110"} {
				if strings.Contains(out, leak) {
					t.Errorf("%s of %T printed the secret: %s", verb, value, out)
				}
			}
		}
	}
	if got := fmt.Sprint(s); got != "[secret]" {
		t.Errorf("printed %q", got)
	}
	var log bytes.Buffer
	slog.New(slog.NewJSONHandler(&log, nil)).Info("x", "s", s, "h", holder)
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", "s", s, "h", holder)
	if strings.Contains(log.String(), "canary") {
		t.Errorf("slog printed the secret: %s", log.String())
	}
}

func TestNilPrints(t *testing.T) {
	var none *secret.Bytes
	if got := fmt.Sprintf("%v %s", none, struct{ S *secret.Bytes }{}); strings.Contains(got, "PANIC") {
		t.Errorf("nil printed %q", got)
	}
}

func TestRefusesEncoders(t *testing.T) {
	s := secret.Copy([]byte("canary"))
	if _, err := json.Marshal(map[string]any{"s": s}); !errors.Is(err, secret.ErrMarshal) {
		t.Errorf("json: %v", err)
	}
	if err := gob.NewEncoder(&bytes.Buffer{}).Encode(s); !errors.Is(err, secret.ErrMarshal) {
		t.Errorf("gob: %v", err)
	}
	if err := json.Unmarshal([]byte(`"aGVsbG8="`), s); !errors.Is(err, secret.ErrMarshal) {
		t.Errorf("json decode: %v", err)
	}
}

func TestWipe(t *testing.T) {
	b := []byte("canary")
	s := secret.Take(b)
	kept := s.Expose()
	s.Wipe()
	s.Wipe()
	if !bytes.Equal(kept, make([]byte, 6)) || !bytes.Equal(b, make([]byte, 6)) {
		t.Error("the buffer still holds the secret")
	}
	if s.Len() != 0 || s.Expose() != nil {
		t.Error("a wiped secret still hands out a buffer")
	}
	var none *secret.Bytes
	none.Wipe()
	if none.Len() != 0 || none.Expose() != nil {
		t.Error("nil is not an empty secret")
	}
}

func TestCopyAndRandom(t *testing.T) {
	b := []byte("abc")
	s := secret.Copy(b)
	b[0] = 'x'
	if string(s.Expose()) != "abc" {
		t.Error("Copy shares the caller's buffer")
	}
	r, q := secret.Random(32), secret.Random(32)
	if r.Len() != 32 || r.Equal(q) {
		t.Error("two random secrets are equal")
	}
	if !r.Equal(secret.Copy(r.Expose())) {
		t.Error("a secret differs from its copy")
	}
}
