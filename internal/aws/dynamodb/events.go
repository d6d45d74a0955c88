package dynamodb

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"iter"
	"strings"
	"time"

	"github.com/stakeseal/stakeseal/eth"
	"github.com/stakeseal/stakeseal/record"
)

// All events are one partition, so that one conditional write both takes the
// Once and notes the event, and the local index by time reads it back
// strongly consistent. An item collection with such an index ends at 10 GB:
// some ten million events.
const eventPartition = "events"

// at places an event: its own time, then the writer's clock, then a number
// that no other call has, by which a call knows its item again.
func at(e record.Event) string {
	var unique [8]byte
	_, _ = rand.Read(unique[:]) // never fails
	return fmt.Sprintf("%s%019d/%x", timePrefix(e), time.Now().UnixNano(), unique)
}

func timePrefix(e record.Event) string { return e.Time.Format("2006-01-02T15:04:05Z") + "/" }

func eventKey(e record.Event, at string) key {
	if e.Once != "" {
		return key{eventPartition, oncePrefix + e.Once}
	}
	return key{eventPartition, notePrefix + at}
}

func (it item) event() (record.Event, error) {
	place := it.text(attrAt)
	e, err := decode(it, attrRecord, attrSum, record.DecodeEvent, func(e record.Event) key { return eventKey(e, place) })
	if err == nil && !strings.HasPrefix(place, timePrefix(e)) {
		err = corrupt(it, errors.New("it does not stand at its time"))
	}
	return e, err
}

// Append implements record.Events.
func (s *Store) Append(ctx context.Context, e record.Event) error {
	if err := s.append(ctx, e); err != nil {
		return fmt.Errorf("couldn't note %q: %w", e.Kind, err)
	}
	return nil
}

func (s *Store) append(ctx context.Context, e record.Event) error {
	data, err := record.EncodeEvent(e)
	if err != nil {
		return err
	}
	place := at(e)
	it := withRecord(eventKey(e, place), data)
	it[attrAt] = str(place)
	applied, err := s.put(ctx, s.tables.Events, it, absent)
	if err != nil || applied {
		return err
	}
	stored, err := s.get(ctx, s.tables.Events, it.key(), attrAt)
	switch {
	case err != nil:
		return err
	case stored == nil:
		return errVanished
	case stored.same(it, attrAt):
		return nil // by an attempt of this very call whose answer was lost
	}
	return fmt.Errorf("%q: %w", e.Once, record.ErrExists)
}

// Events implements record.Events, strongly consistent: by the events' times,
// those of one second by the clocks of their writers. It reads all of them,
// whatever q selects.
func (s *Store) Events(ctx context.Context, q record.EventQuery) iter.Seq2[record.Event, error] {
	pages := s.pages(ctx, query{table: s.tables.Events, pk: eventPartition, index: byTime})
	return list(ctx, "events", pages, func(page []item) (out []record.Event, err error) {
		for _, it := range page {
			e, err := it.event()
			if err != nil {
				return nil, err
			}
			if (q.Order == "" || e.Order == q.Order) && (q.Pubkey == eth.Pubkey{} || e.Pubkey == q.Pubkey) && (q.Kind == "" || e.Kind == q.Kind) {
				out = append(out, e)
			}
		}
		return out, nil
	})
}
