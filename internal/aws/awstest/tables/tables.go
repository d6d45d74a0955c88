// Package tables is DynamoDB for tests, in this process: items under keys, with
// conditional writes that are atomic and lists that come in pages.
//
// It promises to take the calls, parameters and expressions that stakeseal and
// the checks of its account use and to refuse any other, an unused name or
// value of an expression included, as DynamoDB does; that a PutItem under a
// condition is decided and applied at once; and that a page ends where it is
// told to, with a key to go on from. Who may call is asked elsewhere.
//
// A read that does not ask to be consistent is answered from the same items: a
// store that is right only because of that is not caught here, but by the test
// of its requests (internal/aws/dynamodb).
package tables

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/stakeseal/stakeseal/internal/aws/awstest/call"
)

// Bounds of DynamoDB.
const (
	maxItem  = 400 << 10
	maxPage  = 1 << 20
	maxHash  = 2048
	maxRange = 1024
)

// Table is a table to be made. Its keys are strings.
type Table struct {
	ARN     string
	Hash    string            // name of the partition key
	Range   string            // name of the sort key, "" for none
	Indexes map[string]string // local secondary indexes, of whole items: name to sort key

	DeletionProtection bool
	Backups            bool // point-in-time recovery
	BackupDays         int
	Policy             string // resource policy, JSON
}

// Store holds tables. Its methods are safe for concurrent use.
type Store struct {
	mu     sync.Mutex
	tables map[string]*table
	page   int
}

// New returns a store without tables, whose pages end after 1 MB.
func New() *Store { return &Store{tables: map[string]*table{}} }

// PageOf makes pages end after n items, too; 0 undoes it. Small pages show
// whether a list is read to its end.
func (s *Store) PageOf(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.page = n
}

// Make makes a table.
func (s *Store) Make(t Table) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if t.Hash == "" || !strings.Contains(t.ARN, ":table/") {
		return fmt.Errorf("table %q with the key %q", t.ARN, t.Hash)
	}
	if s.tables[t.ARN] != nil {
		return fmt.Errorf("table %q is there already", t.ARN)
	}
	if t.BackupDays == 0 {
		t.BackupDays = 35
	}
	s.tables[t.ARN] = &table{Table: t, parts: map[string]*partition{}}
	return nil
}

// value is an attribute: one type and its value, as on the wire.
type value map[string]json.RawMessage

// item is an item by attribute names.
type item map[string]value

type table struct {
	Table
	parts map[string]*partition
	count int
	bytes int
}

// partition is the items of one hash key, by their sort keys in order.
type partition struct {
	order []string
	items map[string]item
}

func (t *table) name() string { return t.ARN[strings.LastIndex(t.ARN, "/")+1:] }

// text returns a string attribute.
func (v value) text() (string, bool) {
	raw, ok := v["S"]
	if !ok || len(v) != 1 {
		return "", false
	}
	var s string
	return s, json.Unmarshal(raw, &s) == nil
}

// check refuses a value that is not of exactly one type that DynamoDB knows.
func (v value) check() error {
	if len(v) != 1 {
		return fmt.Errorf("a value of %d types", len(v))
	}
	for kind, raw := range v {
		var into any
		switch kind {
		case "S", "N", "B":
			into = new(string)
		case "BOOL", "NULL":
			into = new(bool)
		case "SS", "NS", "BS":
			into = new([]string)
		case "L":
			into = new([]value)
		case "M":
			into = new(map[string]value)
		default:
			return fmt.Errorf("type %q", kind)
		}
		if err := json.Unmarshal(raw, into); err != nil {
			return err
		}
		switch inner := into.(type) {
		case *string:
			if kind == "N" {
				if _, err := strconv.ParseFloat(*inner, 64); err != nil {
					return fmt.Errorf("number %q", *inner)
				}
			}
			if kind == "B" {
				if _, err := base64.StdEncoding.DecodeString(*inner); err != nil {
					return err
				}
			}
		case *[]value:
			for _, one := range *inner {
				if err := one.check(); err != nil {
					return err
				}
			}
		case *map[string]value:
			for _, one := range *inner {
				if err := one.check(); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// size is what DynamoDB counts, names and values; of lists and maps about.
func (it item) size() (n int) {
	for name, v := range it {
		n += len(name)
		for kind, raw := range v {
			switch kind {
			case "S":
				s, _ := v.text()
				n += len(s)
			case "B":
				n += (len(raw) - 2) / 4 * 3
			case "N":
				n += (len(raw)-2)/2 + 2
			default:
				n += len(raw)
			}
		}
	}
	return n
}

// same compares values as they are on the wire; numbers by what they are.
func same(a, b value) bool {
	if len(a) != 1 || len(b) != 1 {
		return false
	}
	for kind, raw := range a {
		other, ok := b[kind]
		if !ok {
			return false
		}
		var x, y any
		if json.Unmarshal(raw, &x) != nil || json.Unmarshal(other, &y) != nil {
			return false
		}
		if kind == "N" {
			m, _ := strconv.ParseFloat(x.(string), 64)
			n, _ := strconv.ParseFloat(y.(string), 64)
			return m == n
		}
		return fmt.Sprint(x) == fmt.Sprint(y)
	}
	return false
}

func invalid(format string, args ...any) *call.Failure {
	return call.Refuse("ValidationException", format, args...)
}

// key reads the primary key out of an item or key.
func (t *table) key(it item) (hash, sort string, failure *call.Failure) {
	hash, ok := it[t.Hash].text()
	if !ok || hash == "" || len(hash) > maxHash {
		return "", "", invalid("One or more parameter values were invalid: the key %s is missing, empty, too long or not a string", t.Hash)
	}
	if t.Range == "" {
		return hash, "", nil
	}
	sort, ok = it[t.Range].text()
	if !ok || sort == "" || len(sort) > maxRange {
		return "", "", invalid("One or more parameter values were invalid: the key %s is missing, empty, too long or not a string", t.Range)
	}
	return hash, sort, nil
}

func (t *table) get(hash, sort string) item {
	if p := t.parts[hash]; p != nil {
		return p.items[sort]
	}
	return nil
}

func (t *table) put(hash, sort string, it item) {
	p := t.parts[hash]
	if p == nil {
		p = &partition{items: map[string]item{}}
		t.parts[hash] = p
	}
	if old, there := p.items[sort]; there {
		t.bytes -= old.size()
	} else {
		at, _ := slices.BinarySearch(p.order, sort)
		p.order = slices.Insert(p.order, at, sort)
		t.count++
	}
	p.items[sort] = it
	t.bytes += it.size()
}

// Dump is everything that is stored, in a fixed order: for searching it, and
// for comparing before and after.
func (s *Store) Dump() []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []byte
	for _, arn := range slices.Sorted(maps.Keys(s.tables)) {
		t := s.tables[arn]
		for _, hash := range slices.Sorted(maps.Keys(t.parts)) {
			p := t.parts[hash]
			for _, sort := range p.order {
				line, _ := json.Marshal(p.items[sort])
				out = append(append(append(out, arn+" "...), line...), '\n')
			}
		}
	}
	return out
}

// Count returns how many items a table has.
func (s *Store) Count(tableARN string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if t := s.tables[tableARN]; t != nil {
		return t.count
	}
	return 0
}
