package sqlite

import (
	"context"
	"errors"
	"testing"

	"github.com/stakeseal/stakeseal/record"
)

// TestRecipientsAreRead: that a text was read before changes nothing of what is
// read next, and no caller changes what the next one gets.
func TestRecipientsAreRead(t *testing.T) {
	s := create(t)
	defer func() { must(t, s.Close()) }()
	one, other := []byte(`[{"name":"a","key":"k"}]`), []byte(`[{"name":"b","key":"k"}]`)
	for i, c := range []struct {
		text []byte
		want string
	}{{one, "a"}, {one, "a"}, {one, "a"}, {other, "b"}, {one, "a"}, {other, "b"}, {other, "b"}} {
		list, err := s.recipients(c.text)
		if err != nil || len(list) != 1 || list[0] != (record.Recipient{Name: c.want, Key: "k"}) {
			t.Fatalf("%d: %v, %v", i, list, err)
		}
		list[0].Name = "changed"
		c.text[10]++ // the row's memory is somebody else's later
		if _, err := s.recipients([]byte("x")); err == nil {
			t.Fatal("no list at all is read")
		}
		c.text[10]--
	}
}

// TestReadEnds: a read whose context has ended reads nothing.
func TestReadEnds(t *testing.T) {
	s := create(t)
	defer func() { must(t, s.Close()) }()
	births := generate(t, s, "o1", 1)
	ctx, cancel := context.WithCancel(context.Background())
	if _, err := s.Birth(ctx, births[0].Pubkey); err != nil {
		t.Fatal(err)
	}
	cancel()
	if _, err := s.Birth(ctx, births[0].Pubkey); !errors.Is(err, context.Canceled) {
		t.Errorf("read with a context that had ended: %v", err)
	}
}
