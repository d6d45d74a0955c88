// Package buckets is S3 for tests, in this process: objects in versions, with
// conditional puts, checksums and object lock.
//
// It promises to take the calls, headers and parameters that stakeseal and the
// checks of its account use and to refuse any other; that a body which is not
// of the checksum sent with it is not stored; that If-None-Match: * is decided
// and applied at once; that a version under object lock is not deleted; and
// that whoever may not list learns nothing about what is missing. Who may call
// is asked elsewhere.
package buckets

import (
	"bytes"
	"crypto/md5"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"
)

// Bucket is a bucket to be made.
type Bucket struct {
	Name, Region, Account string
	Versioned             bool
	ObjectLock            bool
	LockMode              string // default retention: GOVERNANCE or COMPLIANCE, "" for none
	LockDays              int
	// Configurations are what the reads of the bucket's configuration answer:
	// by the query parameter (policy, lifecycle, ...) the XML, or for policy the
	// JSON. What is not there is answered as S3 does for it.
	Configurations map[string][]byte
}

// Store holds buckets. Its methods are safe for concurrent use.
type Store struct {
	mu      sync.Mutex
	buckets map[string]*bucket
	now     func() time.Time
}

type bucket struct {
	Bucket
	objects map[string][]version // the newest last
}

// version is an object's, or a delete marker.
type version struct {
	id, etag, contentType string
	data                  []byte
	checksums             map[string]string // by algorithm, base64
	marker                bool
	at, lockedUntil       time.Time
	lockMode              string
}

// New returns a store without buckets.
func New() *Store { return &Store{buckets: map[string]*bucket{}, now: time.Now} }

// Make makes a bucket.
func (s *Store) Make(b Bucket) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case b.Name == "" || strings.ContainsAny(b.Name, "./_") || s.buckets[b.Name] != nil:
		return fmt.Errorf("bucket %q is not one, or is there already", b.Name)
	case b.ObjectLock && !b.Versioned:
		return fmt.Errorf("bucket %q: object lock without versioning", b.Name)
	case b.LockMode != "" && (!b.ObjectLock || b.LockDays < 1 || b.LockMode != "GOVERNANCE" && b.LockMode != "COMPLIANCE"):
		return fmt.Errorf("bucket %q: default retention %q of %d days", b.Name, b.LockMode, b.LockDays)
	}
	b.Configurations = maps.Clone(b.Configurations)
	s.buckets[b.Name] = &bucket{Bucket: b, objects: map[string][]version{}}
	return nil
}

// Put stores an object as the service itself would, asking nobody: a trail's
// log file.
func (s *Store) Put(name, key string, data []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	b := s.buckets[name]
	if b == nil {
		return fmt.Errorf("no bucket %q", name)
	}
	b.put(key, data, "application/octet-stream", map[string]string{"CRC64NVME": checksum("CRC64NVME", data)}, s.now())
	return nil
}

// Get returns an object's current version.
func (s *Store) Get(name, key string) ([]byte, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if b := s.buckets[name]; b != nil {
		if v, ok := b.current(key); ok && !v.marker {
			return bytes.Clone(v.data), true
		}
	}
	return nil, false
}

// Version returns a version's body, by its id or the current one's by "", and
// its id.
func (s *Store) Version(name, key, id string) (data []byte, found string, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if b := s.buckets[name]; b != nil {
		if v, ok := b.find(key, id); ok && !v.marker {
			return bytes.Clone(v.data), v.id, true
		}
	}
	return nil, "", false
}

// Versioned says whether a bucket is there and keeps versions.
func (s *Store) Versioned(name string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.buckets[name] != nil && s.buckets[name].Bucket.Versioned
}

// Keys returns the names of a bucket's objects, sorted.
func (s *Store) Keys(name string) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.buckets[name] == nil {
		return nil
	}
	return s.buckets[name].keys()
}

// Dump is every version of every object with its name, in a fixed order.
func (s *Store) Dump() []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []byte
	for _, name := range slices.Sorted(maps.Keys(s.buckets)) {
		b := s.buckets[name]
		for _, key := range slices.Sorted(maps.Keys(b.objects)) {
			for _, v := range b.objects[key] {
				out = append(append(append(out, name+" "+key+" "...), v.data...), '\n')
			}
		}
	}
	return out
}

// Mark remembers every version of every object, and returns what brings them
// back.
func (s *Store) Mark() (back func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	kept := map[string]map[string][]version{}
	for name, b := range s.buckets {
		kept[name] = map[string][]version{}
		for key, versions := range b.objects {
			kept[name][key] = slices.Clone(versions)
		}
	}
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		for name, b := range s.buckets {
			b.objects = map[string][]version{}
			for key, versions := range kept[name] {
				b.objects[key] = slices.Clone(versions)
			}
		}
	}
}

func (b *bucket) keys() (out []string) {
	for key := range b.objects {
		if v, ok := b.current(key); ok && !v.marker {
			out = append(out, key)
		}
	}
	slices.Sort(out)
	return out
}

func (b *bucket) current(key string) (version, bool) { return b.find(key, "") }

func (b *bucket) find(key, id string) (version, bool) {
	versions := b.objects[key]
	for i := len(versions) - 1; i >= 0; i-- {
		if id == "" || versions[i].id == id {
			return versions[i], true
		}
	}
	return version{}, false
}

func (b *bucket) put(key string, data []byte, contentType string, checksums map[string]string, now time.Time) version {
	sum := md5.Sum(data)
	v := version{id: "null", etag: `"` + hex.EncodeToString(sum[:]) + `"`, contentType: contentType, data: bytes.Clone(data), checksums: checksums, at: now}
	if b.LockMode != "" {
		v.lockMode, v.lockedUntil = b.LockMode, now.AddDate(0, 0, b.LockDays)
	}
	if !b.Versioned {
		b.objects[key] = []version{v}
		return v
	}
	v.id = rand.Text()
	b.objects[key] = append(b.objects[key], v)
	return v
}

// remove adds a marker, or where nothing is kept removes the object.
func (b *bucket) remove(key string, now time.Time) (marker version) {
	if !b.Versioned {
		delete(b.objects, key)
		return version{}
	}
	marker = version{id: rand.Text(), marker: true, at: now}
	b.objects[key] = append(b.objects[key], marker)
	return marker
}

// purge removes one version for good, unless it is locked.
func (b *bucket) purge(key, id string, bypass bool, now time.Time) (locked bool) {
	for i, v := range b.objects[key] {
		if v.id != id {
			continue
		}
		if now.Before(v.lockedUntil) && (v.lockMode == "COMPLIANCE" || !bypass) {
			return true
		}
		b.objects[key] = slices.Delete(b.objects[key], i, i+1)
		if len(b.objects[key]) == 0 {
			delete(b.objects, key)
		}
		return false
	}
	return false
}
