package certificate

import (
	"context"
	"reflect"
	"testing"
)

// TestPlainEnvelope: the short way reads what is signed here, and whatever it
// reads, the general parser reads the same.
func TestPlainEnvelope(t *testing.T) {
	signer := newEdSigner(1)
	env, err := SignBirth(context.Background(), signer, exampleBirth(0))
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := plainEnvelope(env); !ok {
		t.Fatalf("the form that is written is not read: %.120s", env)
	}
	taken := 0
	same := func(data []byte) {
		plain, ok := plainEnvelope(data)
		if !ok {
			return
		}
		taken++
		general, err := parseAnyEnvelope(data)
		if err != nil || !reflect.DeepEqual(plain, general) {
			t.Fatalf("read one way only, or another way: %v in %s", err, data)
		}
	}
	for i := range env {
		for _, c := range []byte("\x00\n\r\t \"\\,:{}[]=+/-_aZ09\x7f\xff") {
			changed := append([]byte(nil), env...)
			changed[i] = c
			same(changed)
			same(append(append(append([]byte(nil), env[:i]...), c), env[i:]...))
		}
		same(append(append([]byte(nil), env[:i]...), env[i+1:]...))
		same(env[:i])
	}
	if taken < 1000 {
		t.Errorf("only %d variants were read at all", taken)
	}
}
