package bundle

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
	"time"

	"github.com/stakeseal/stakeseal/birth"
	"github.com/stakeseal/stakeseal/certificate"
	"github.com/stakeseal/stakeseal/internal/keyfile"
	"github.com/stakeseal/stakeseal/record"
)

var (
	ours  = exampleSigner()
	trust = trusting(ours.public())
)

func TestRoundTrip(t *testing.T) {
	c := clinic{t, ours}
	for _, count := range []uint32{1, 2, 7} {
		want := c.finished("o1", count)
		data := want.write(t)
		got, err := read(data, trust)
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("read as\n%+v\nwritten from\n%+v", got, want)
		}
		if !bytes.Equal(got.write(t), data) {
			t.Error("written again it is another file")
		}
		if n := bytes.Count(data, []byte("\n")); n != 1+2+int(count) || !bytes.HasPrefix(data, []byte(`{"schema":"stakeseal/bundle/v1","order":{"schema":"stakeseal/order/v1",`)) {
			t.Errorf("%d lines, beginning %.60s", n, data)
		}
		for _, reader := range []io.Reader{iotest.OneByteReader(bytes.NewReader(data)), iotest.HalfReader(bytes.NewReader(data)), iotest.DataErrReader(bytes.NewReader(data))} {
			b, err := Open(reader, trust)
			if err != nil {
				t.Fatal(err)
			}
			n := 0
			for _, err := range b.Births() {
				if n++; err != nil {
					t.Fatal(err)
				}
			}
			if n != int(count) || b.Receipt.Count != count {
				t.Errorf("%d of %d births", n, count)
			}
			// A second pass finds the end of the file, not an empty order.
			for _, err := range b.Births() {
				if !errors.Is(err, ErrFormat) {
					t.Errorf("a second pass: %v", err)
				}
			}
		}
	}
}

// TestPartOfAnOrder: a receipt of a range makes a bundle of that range.
func TestPartOfAnOrder(t *testing.T) {
	c := clinic{t, ours}
	x := c.finished("o1", 4)
	x.births = x.births[1:3]
	x.envelope = c.receipt(x.order, x.mnemonics, 1, 3, slices.Values(x.births))
	got, err := read(x.write(t), trust)
	if err != nil || !reflect.DeepEqual(got, x) {
		t.Errorf("%v", err)
	}
}

func TestLeftEarly(t *testing.T) {
	b, err := Open(bytes.NewReader(clinic{t, ours}.finished("o1", 5).write(t)), trust)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, err := range b.Births() {
		if err != nil {
			t.Fatal(err)
		}
		if n++; n == 2 {
			break
		}
	}
}

// refused says whether an error is of a class that a caller acts on.
func refused(err error) bool {
	for _, class := range []error{ErrFormat, birth.ErrTampered, certificate.ErrFormat, certificate.ErrSignature, certificate.ErrMismatch, certificate.ErrUntrusted} {
		if errors.Is(err, class) {
			return true
		}
	}
	return false
}

// sparse is the step in which bytes are tried: each costs signatures, and the
// race detector makes these slow.
func sparse() int {
	if testing.Short() {
		return 17
	}
	return 1
}

// TestEveryByte: whichever byte of a bundle is changed, it is refused; but for
// the time at which a mnemonic was made, which no signature covers.
func TestEveryByte(t *testing.T) {
	x := clinic{t, ours}.finished("o1", 2)
	data := x.write(t)
	free := map[int]bool{}
	lines := bytes.SplitAfter(data, []byte("\n"))
	at := len(lines[0])
	for _, line := range lines[1:3] {
		i := bytes.Index(line, []byte(`"created":"`)) + len(`"created":"`)
		for k := range len("2026-11-22T09:29:01Z") {
			free[at+i+k] = true
		}
		at += len(line)
	}
	var wg sync.WaitGroup
	passed := make([]int, 4)
	for w := range passed {
		wg.Go(func() {
			changed := bytes.Clone(data)
			for i := w; i < len(data); i += len(passed) * sparse() {
				for k, flip := range []byte{0x01, 0x20, 0x80} {
					if k > 0 && i%5 != 0 {
						continue // each costs several signatures
					}
					changed[i] = data[i] ^ flip
					got, err := read(changed, trust)
					switch {
					case err != nil && !refused(err):
						t.Errorf("byte %d: an error of no class: %v", i, err)
					case err == nil && !free[i]:
						t.Errorf("byte %d changed from %q to %q is accepted", i, data[i], changed[i])
					case err == nil:
						passed[w]++
						for j := range got.mnemonics {
							got.mnemonics[j].Created = x.mnemonics[j].Created
						}
						if !reflect.DeepEqual(got, x) {
							t.Errorf("byte %d changed more than a mnemonic's time", i)
						}
					}
				}
				changed[i] = data[i]
			}
		})
	}
	wg.Wait()
	if !testing.Short() && passed[0]+passed[1]+passed[2]+passed[3] == 0 {
		t.Error("no changed time was accepted: the exception is gone from the code and stands in the test")
	}
}

// TestCutAnywhere: a file that ends early is refused, wherever.
func TestCutAnywhere(t *testing.T) {
	data := clinic{t, ours}.finished("o1", 2).write(t)
	for i := 0; i < len(data); i += sparse() {
		if _, err := read(data[:i], trust); !errors.Is(err, ErrFormat) {
			t.Fatalf("cut after %d of %d bytes: %v", i, len(data), err)
		}
	}
}

// TestLines: lines in another order, twice, missing, and whatever follows.
func TestLines(t *testing.T) {
	data := clinic{t, ours}.finished("o1", 4).write(t)
	lines := bytes.SplitAfter(bytes.TrimSuffix(data, []byte("\n")), []byte("\n"))
	lines[len(lines)-1] = append(bytes.Clone(lines[len(lines)-1]), '\n')
	try := func(what string, lines ...[]byte) {
		t.Helper()
		if _, err := read(slices.Concat(lines...), trust); !refused(err) {
			t.Errorf("%s: %v", what, err)
		}
	}
	for i := range lines {
		try(fmt.Sprintf("line %d missing", i), slices.Delete(slices.Clone(lines), i, i+1)...)
		try(fmt.Sprintf("line %d twice", i), slices.Insert(slices.Clone(lines), i, lines[i])...)
		try(fmt.Sprintf("line %d again at the end", i), append(slices.Clone(lines), lines[i])...)
		try(fmt.Sprintf("an empty line before line %d", i), slices.Insert(slices.Clone(lines), i, []byte("\n"))...)
		try(fmt.Sprintf("line %d with a carriage return", i), slices.Replace(slices.Clone(lines), i, i+1, bytes.Replace(lines[i], []byte("\n"), []byte("\r\n"), 1))...)
		try(fmt.Sprintf("line %d with a space", i), slices.Replace(slices.Clone(lines), i, i+1, bytes.Replace(lines[i], []byte("\n"), []byte(" \n"), 1))...)
		for j := range i {
			swapped := slices.Clone(lines)
			swapped[i], swapped[j] = swapped[j], swapped[i]
			try(fmt.Sprintf("lines %d and %d swapped", j, i), swapped...)
		}
	}
	for _, more := range []string{"\n", " ", "x", "\x00", "{}\n", string(data)} {
		try(fmt.Sprintf("with %.10q after it", more), data, []byte(more))
	}
	try("nothing")
	try("text", []byte("hello\n"))
	for _, head := range []string{"{}", "null", "[]", `{"schema":"stakeseal/bundle/v2"}`, `{"schema":"stakeseal/bundle/v1"}`, `{"schema":"stakeseal/bundle/v1","order":null,"receipt":null}`} {
		try(head, append([][]byte{[]byte(head + "\n")}, lines[1:]...)...)
	}
	// One head has one form: what another parser could read otherwise is none.
	for what, edit := range map[string][2]string{
		"schema in capitals": {`{"schema"`, `{"Schema"`},
		"schema twice":       {`{"schema"`, `{"schema":"x","schema"`},
		"order twice":        {`"order":{`, `"order":{},"order":{`},
		"a field more":       {`{"schema":`, `{"note":1,"schema":`},
		"white space":        {`"order":{`, `"order": {`},
		"an escape":          {`{"schema":"s`, `{"schema":"\u0073`},
		"fields turned":      {`{"schema":"stakeseal/bundle/v1",`, `{`},
	} {
		head := bytes.Replace(lines[0], []byte(edit[0]), []byte(edit[1]), 1)
		if bytes.Equal(head, lines[0]) {
			t.Fatalf("%s changes nothing", what)
		}
		if what == "fields turned" {
			head = append(bytes.TrimSuffix(head, []byte("}\n")), []byte(`,"schema":"stakeseal/bundle/v1"}`+"\n")...)
		}
		if _, err := read(slices.Concat(append([][]byte{head}, lines[1:]...)...), trust); !errors.Is(err, ErrFormat) {
			t.Errorf("head with %s: %v", what, err)
		}
	}
}

// TestOfAnotherOrder: everything here is validly signed by the very key, and
// still not of this bundle.
func TestOfAnotherOrder(t *testing.T) {
	c := clinic{t, ours}
	a, b := c.finished("o1", 3), c.finished("o2", 3)
	// The same id, placed under other settings in another home.
	same := c.order("o1", 3)
	same.Settings[0]++
	twin := contents{order: same, mnemonics: a.mnemonics}
	for i := range uint32(3) {
		twin.births = append(twin.births, c.birth(same, a.mnemonics[i%2], i, "twin", 100))
	}
	twin.envelope = c.receipt(same, twin.mnemonics, 0, 3, slices.Values(twin.births))
	// Born, certified, and beaten to the index by another.
	loser := c.birth(a.order, a.mnemonics[1], 1, "loser", 100)
	// The winner's own key, certified once more.
	later := a.births[1]
	later.Created = later.Created.Add(time.Second)
	recertified := c.birth(a.order, a.mnemonics[1], 1, "", 200)
	other := c.mnemonic(a.order, "m-1")
	other.Sealing = sealing(record.Recovery, "another", 100)
	mallory := c.mnemonic(a.order, "m-1")
	mallory.Sealing.Recipients = []record.Recipient{{Name: "recovery-a", Key: "age1mallory"}, mallory.Sealing.Recipients[1]}
	renamed := c.mnemonic(a.order, "m-1")
	renamed.Sealing.Recipients = slices.Clone(renamed.Sealing.Recipients)
	renamed.Sealing.Recipients[0].Name = "vault"
	narrower := c.mnemonic(a.order, "m-1")
	narrower.To = 2

	put := func(turn func(*contents)) contents {
		x := a
		x.births, x.mnemonics = slices.Clone(a.births), slices.Clone(a.mnemonics)
		turn(&x)
		return x
	}
	for what, x := range map[string]contents{
		"a birth of another order":            put(func(x *contents) { x.births[1] = b.births[1] }),
		"a birth of the same id elsewhere":    put(func(x *contents) { x.births[1] = twin.births[1] }),
		"a birth that lost":                   put(func(x *contents) { x.births[1] = loser }),
		"a birth certified again":             put(func(x *contents) { x.births[1] = recertified }),
		"a birth with another time":           put(func(x *contents) { x.births[1] = later }),
		"a birth with another's certificate":  put(func(x *contents) { x.births[1].Certificate = a.births[0].Certificate }),
		"a birth with another's sealing":      put(func(x *contents) { x.births[1].Sealing = a.births[0].Sealing }),
		"a birth with other recipients":       put(func(x *contents) { x.births[1].Sealing.Recipients = mallory.Sealing.Recipients }),
		"a birth of the other mnemonic":       put(func(x *contents) { x.births[1].Mnemonic = "m-1" }),
		"a mnemonic of another order":         put(func(x *contents) { x.mnemonics[0] = b.mnemonics[0] }),
		"another file for the mnemonic":       put(func(x *contents) { x.mnemonics[0] = other }),
		"a mnemonic for other recipients":     put(func(x *contents) { x.mnemonics[0] = mallory }),
		"a mnemonic for renamed recipients":   put(func(x *contents) { x.mnemonics[0] = renamed }),
		"a mnemonic of other indexes":         put(func(x *contents) { x.mnemonics[0] = narrower }),
		"the receipt of another order":        put(func(x *contents) { x.envelope = b.envelope }),
		"the receipt of the same id":          put(func(x *contents) { x.envelope = twin.envelope }),
		"the order of the same id":            put(func(x *contents) { x.order = twin.order }),
		"another order":                       put(func(x *contents) { x.order = b.order }),
		"an order of another time":            put(func(x *contents) { x.order.Created = x.order.Created.Add(time.Second) }),
		"an order with other labels":          put(func(x *contents) { x.order.Labels = nil }),
		"a birth's certificate as receipt":    put(func(x *contents) { x.envelope = a.births[0].Certificate }),
		"births of another order under head":  put(func(x *contents) { x.births = b.births }),
		"mnemonics and births of another":     put(func(x *contents) { x.births, x.mnemonics = b.births, b.mnemonics }),
		"mnemonics and births of the same id": put(func(x *contents) { x.births, x.mnemonics = twin.births, twin.mnemonics }),
	} {
		if _, err := read(x.write(t), trust); !errors.Is(err, birth.ErrTampered) && !errors.Is(err, certificate.ErrFormat) {
			t.Errorf("%s: %v", what, err)
		}
	}
	// Of a mnemonic that nothing was derived from, the receipt alone says
	// what it is.
	lone := c.finished("o3", 1)
	if lone.births[0].Mnemonic == "m-2" {
		t.Fatal("the second mnemonic is in use")
	}
	if _, err := read(lone.write(t), trust); err != nil {
		t.Errorf("a mnemonic in vain: %v", err)
	}
	lone.mnemonics[1].Sealing = sealing(record.Recovery, "another", 100)
	if _, err := read(lone.write(t), trust); !errors.Is(err, birth.ErrTampered) {
		t.Errorf("another file for a mnemonic in vain: %v", err)
	}
	for name, x := range map[string]contents{"one": a, "other": b, "same id": twin} {
		if _, err := read(x.write(t), trust); err != nil {
			t.Errorf("%s, as it is: %v", name, err)
		}
	}
}

// TestUntrusted: what another key certified is refused, receipt or birth.
func TestUntrusted(t *testing.T) {
	path := filepath.Join(t.TempDir(), "certifier.key")
	if _, err := keyfile.Create(path); err != nil {
		t.Fatal(err)
	}
	theirs, err := keyfile.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer theirs.Wipe()
	whole := clinic{t, theirs}.finished("o1", 2)
	if _, err := read(whole.write(t), trust); !errors.Is(err, certificate.ErrSignature) {
		t.Errorf("all of it: %v", err)
	}
	mixed := clinic{t, ours}.finished("o1", 2)
	mixed.births[1] = whole.births[1]
	if _, err := read(mixed.write(t), trust); !errors.Is(err, certificate.ErrSignature) {
		t.Errorf("a birth: %v", err)
	}
	revoked := trusting(ours.public())
	revoked.Keys[0].Revoked = true
	if _, err := read(clinic{t, ours}.finished("o1", 2).write(t), revoked); !errors.Is(err, certificate.ErrUntrusted) {
		t.Errorf("a revoked key: %v", err)
	}
}

// TestReadErrors are told apart from a bad bundle.
func TestReadErrors(t *testing.T) {
	data := clinic{t, ours}.finished("o1", 2).write(t)
	broken := errors.New("disk on fire")
	for _, n := range []int{0, 10, bytes.IndexByte(data, '\n') + 1, len(data) - 10, len(data)} {
		b, err := Open(io.MultiReader(bytes.NewReader(data[:n]), iotest.ErrReader(broken)), trust)
		if err == nil {
			for _, err = range b.Births() {
			}
		}
		if !errors.Is(err, broken) || errors.Is(err, ErrFormat) {
			t.Errorf("after %d bytes: %v", n, err)
		}
	}
}

// TestEndlessLines are given up at their bound.
func TestEndlessLines(t *testing.T) {
	data := clinic{t, ours}.finished("o1", 1).write(t)
	lines := bytes.SplitAfter(data, []byte("\n"))
	for i, max := range []int{maxHead, maxLine, maxLine, maxLine} {
		read := 0
		endless := readerFunc(func(p []byte) (int, error) {
			for k := range p {
				p[k] = 'x'
			}
			read += len(p)
			return len(p), nil
		})
		b, err := Open(io.MultiReader(bytes.NewReader(slices.Concat(lines[:i]...)), endless), trust)
		if err == nil {
			for _, err = range b.Births() {
			}
		}
		if !errors.Is(err, ErrFormat) || !strings.Contains(err.Error(), "longer than") || read > max+1<<18 {
			t.Errorf("line %d: %v after %d bytes", i, err, read)
		}
	}
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// TestWriteErrors: whatever fails, Write says so.
func TestWriteErrors(t *testing.T) {
	x := clinic{t, ours}.finished("o1", 2)
	data := x.write(t)
	full := errors.New("disk full")
	for _, n := range []int{0, 1, 100, len(data) / 2, len(data) - 1} {
		left := n
		w := writerFunc(func(p []byte) (int, error) {
			if len(p) > left {
				return left, full
			}
			left -= len(p)
			return len(p), nil
		})
		if err := Write(w, x.order, x.envelope, x.mnemonics, x.seq()); !errors.Is(err, full) {
			t.Errorf("full after %d bytes: %v", n, err)
		}
	}
	failing := func(yield func(record.Birth, error) bool) {
		if yield(x.births[0], nil) {
			yield(record.Birth{}, full)
		}
	}
	if err := Write(io.Discard, x.order, x.envelope, x.mnemonics, failing); !errors.Is(err, full) {
		t.Errorf("births that cannot be read: %v", err)
	}
	for what, turn := range map[string]func(*contents){
		"an order that is none":   func(x *contents) { x.order.Plan = nil },
		"a mnemonic that is none": func(x *contents) { x.mnemonics = []record.Mnemonic{{}} },
		"a birth that is none":    func(x *contents) { x.births = []record.Birth{{}} },
		"a receipt that is none":  func(x *contents) { x.envelope = []byte("{") },
	} {
		y := x
		turn(&y)
		if err := Write(io.Discard, y.order, y.envelope, y.mnemonics, y.seq()); err == nil {
			t.Errorf("%s was written", what)
		}
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

// TestLarge writes ten thousand births through a pipe into a reader: neither
// side keeps them.
func TestLarge(t *testing.T) {
	if testing.Short() {
		t.Skip("ten thousand certificates, not with -short")
	}
	const count, mib = 10_000, 1 << 20
	path := filepath.Join(t.TempDir(), "certifier.key")
	public, err := keyfile.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	key, err := keyfile.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer key.Wipe()
	c := clinic{t, key}
	o := c.order("large", count)
	m := c.mnemonic(o, "m-1")
	born := func() iter.Seq[record.Birth] { // the same each time: Ed25519 is deterministic
		return func(yield func(record.Birth) bool) {
			for i := range uint32(count) {
				if !yield(c.birth(o, m, i, "", 2000)) {
					return
				}
			}
		}
	}
	envelope := c.receipt(o, []record.Mnemonic{m}, 0, count, born())
	r, w := io.Pipe()
	written := 0
	go func() {
		counting := writerFunc(func(p []byte) (int, error) { written += len(p); return w.Write(p) })
		err := Write(counting, o, envelope, []record.Mnemonic{m}, func(yield func(record.Birth, error) bool) {
			for b := range born() {
				if !yield(b, nil) {
					return
				}
			}
		})
		w.CloseWithError(err)
	}()
	b, err := Open(r, trusting(public))
	if err != nil {
		t.Fatal(err)
	}
	heap := func() uint64 {
		var s runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&s)
		return s.HeapAlloc
	}
	before, most, n := heap(), uint64(0), 0
	for birth, err := range b.Births() {
		if err != nil {
			t.Fatal(err)
		}
		if int(birth.Index) != n {
			t.Fatalf("index %d in place %d", birth.Index, n)
		}
		if n++; n%1000 == 0 {
			most = max(most, heap())
		}
	}
	if n != count || written < 50*mib || int64(most)-int64(before) > 4*mib {
		t.Errorf("%d births, %d MiB written, the heap grew from %d to %d KiB", n, written/mib, before>>10, most>>10)
	}
	t.Logf("%d MiB written, the heap went from %d to %d KiB", written/mib, before>>10, most>>10)
}

// The example in testdata is a file of version 1 as it was first written: it
// must read for ever, and be written the same.
func TestExample(t *testing.T) {
	const file = "testdata/first-two.bundle"
	want := clinic{t, ours}.finished("first-two", 2).write(t)
	if os.Getenv("STAKESEAL_UPDATE") == "1" {
		if err := os.WriteFile(file, want, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(data, want) {
		t.Errorf("%s is written in another way today", file)
	}
	text, err := os.ReadFile("testdata/trust.yaml")
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := certificate.ParseTrust(text)
	if err != nil {
		t.Fatal(err)
	}
	if x, err := read(data, parsed); err != nil || len(x.births) != 2 {
		t.Errorf("%d births: %v", len(x.births), err)
	}
	// The page prints its digest and the length of its lines.
	page, err := os.ReadFile("../docs/formats/bundle.md")
	if err != nil {
		t.Fatal(err)
	}
	for i, line := range append(bytes.Split(bytes.TrimSuffix(data, []byte("\n")), []byte("\n")), data) {
		if want := fmt.Sprintf("%d bytes, sha256 %s", len(line), record.DigestOf(line)); !strings.Contains(string(page), want) {
			t.Errorf("docs/formats/bundle.md does not hold %q (%d)", want, i)
		}
	}
}
