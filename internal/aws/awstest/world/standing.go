package world

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/stakeseal/stakeseal/internal/aws/awstest/call"
)

// Standing is all that a release changes beside the bucket: the function's
// versions with code and configuration, its aliases, and the signing jobs, as
// lines in a fixed order. Two of them are equal if nothing changed.
func (w *World) Standing() string {
	f := w.functions
	var out bytes.Buffer
	f.mu.Lock()
	for _, name := range slices.Sorted(maps.Keys(f.byName)) {
		fn := f.byName[name]
		for _, v := range append([]*version{fn.latest}, fn.versions...) {
			fmt.Fprintf(&out, "%s:%s code %q signed by %q %q note %q role %q memory %d timeout %v environment %v architectures %v log %q %q network %v\n", name, v.number,
				v.code.sum, v.code.job, v.code.profile, v.note, v.role, v.memoryMB, v.timeout, v.environment, v.architectures, v.logFormat, v.logGroup, v.vpc)
		}
		for _, alias := range slices.Sorted(maps.Keys(fn.aliases)) {
			fmt.Fprintf(&out, "%s alias %s is %s, and %v\n", name, alias, fn.aliases[alias].version, fn.aliases[alias].weights)
		}
		fmt.Fprintf(&out, "%s reserved %d signing %q\n", name, fn.reserved, fn.signingConfig)
	}
	f.mu.Unlock()
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, id := range slices.Sorted(maps.Keys(w.jobs)) {
		fmt.Fprintf(&out, "job %s %s of %s\n", id, w.jobs[id].status, w.jobs[id].source.key)
	}
	return out.String()
}

// Live is the version that the alias live leads to, and its note; "" where
// there is none. What shares calls with it by weight is an error.
func (w *World) Live() (number, note string, err error) {
	fn, err := w.functions.only()
	if err != nil {
		return "", "", err
	}
	w.functions.mu.Lock()
	defer w.functions.mu.Unlock()
	a := fn.aliases["live"]
	if a == nil {
		return "", "", nil
	}
	v := fn.find(a.version)
	if v == nil {
		return a.version, "", errors.New("the alias leads to a version that is not there")
	}
	if len(a.weights) > 0 {
		return a.version, v.note, fmt.Errorf("the alias leads to %v too", a.weights)
	}
	return a.version, v.note, nil
}

// Mark remembers the buckets, the function and the signing jobs, and returns
// what brings them back: a story that is told from one point many times.
func (w *World) Mark() (back func()) {
	buckets := w.Buckets.Mark()
	f := w.functions
	f.mu.Lock()
	kept := map[string]*function{}
	for name, fn := range f.byName {
		kept[name] = fn.clone()
	}
	f.mu.Unlock()
	w.mu.Lock()
	jobs := maps.Clone(w.jobs)
	w.mu.Unlock()
	return func() {
		buckets()
		f.mu.Lock()
		for name, fn := range kept {
			for _, v := range f.byName[name].versions {
				if !slices.Contains(fn.versions, v) {
					f.forget(v)
				}
			}
			*f.byName[name] = *fn.clone()
		}
		f.mu.Unlock()
		w.mu.Lock()
		w.jobs = maps.Clone(jobs)
		w.mu.Unlock()
	}
}

func (fn *function) clone() *function {
	c := *fn
	c.versions, c.aliases = slices.Clone(fn.versions), map[string]*alias{}
	for name, a := range fn.aliases {
		one := *a
		one.weights = maps.Clone(a.weights)
		c.aliases[name] = &one
	}
	return &c
}

// SignElsewhere signs a package as AWS Signer does for another installation:
// with a profile that is good, and not this one's.
func (w *World) SignElsewhere(data []byte) ([]byte, error) {
	name := "another_installation"
	p := newProfile(name, profileARN(name)+"/abcdefghij", "AWSLambda-SHA384-ECDSA", 135, nil)
	j := &signingJob{id: call.UUID(), status: "Succeeded", profile: p, created: time.Now(), signatureUntil: time.Now().AddDate(0, p.months, 0)}
	w.mu.Lock()
	w.jobs[j.id] = j
	w.mu.Unlock()
	return p.sign(data, j.id)
}
