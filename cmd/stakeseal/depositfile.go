package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/stakeseal/stakeseal/birth"
	"github.com/stakeseal/stakeseal/deposit"
	"github.com/stakeseal/stakeseal/eth"
	"github.com/stakeseal/stakeseal/record"
)

// exportFile is one file of an export.
type exportFile struct {
	stage, stages int // of the deposit plan, from 1
	part, parts   int // of the stage, from 1
	entries       []deposit.Entry
	data          []byte
}

// plan cuts the births' deposits into files: one for each stage, because the
// stages are sent at different times, and several where a stage is large.
// Validators with plans of different lengths do not share a file.
func plan(n eth.Network, births []record.Birth, most int) ([]exportFile, error) {
	type stage struct{ of, at int }
	entries := map[stage][]deposit.Entry{}
	for _, b := range births {
		for i, d := range b.Deposits {
			s := stage{len(b.Deposits), i + 1}
			entries[s] = append(entries[s], deposit.Entry{
				Pubkey: b.Pubkey, Credentials: b.Credentials, Amount: d.Amount, Signature: d.Signature,
				MessageRoot: d.MessageRoot, DataRoot: d.DataRoot, ForkVersion: n.GenesisForkVersion, NetworkName: n.Name,
			})
		}
	}
	var files []exportFile
	stages := slices.SortedFunc(maps.Keys(entries), func(x, y stage) int { return cmp.Or(x.of-y.of, x.at-y.at) })
	for _, s := range stages {
		parts := slices.Collect(slices.Chunk(entries[s], most))
		for i, part := range parts {
			var out bytes.Buffer
			if err := deposit.WriteFile(&out, part); err != nil {
				return nil, err
			}
			files = append(files, exportFile{s.at, s.of, i + 1, len(parts), part, out.Bytes()})
		}
	}
	return files, nil
}

// name is deposit_data-<unix>.json, as launchpads and scripts look for it,
// with the stage and the part where there are several.
func (f exportFile) name(unix int64) string {
	name := "deposit_data-"
	if f.stages > 1 {
		name += fmt.Sprintf("stage%d-of-%d-", f.stage, f.stages)
	}
	name += strconv.FormatInt(unix, 10)
	if f.parts > 1 {
		name += fmt.Sprintf("-part%d-of-%d", f.part, f.parts)
	}
	return name + ".json"
}

func (f exportFile) digest() record.Digest { return record.DigestOf(f.data) }

func (f exportFile) total() (sum eth.Gwei) {
	for _, e := range f.entries {
		sum += e.Amount
	}
	return sum
}

// exported is what is known of a deposit's exports.
type exported struct {
	time  time.Time // of the first
	actor string
	file  string
	again int // how often since
}

func (e exported) String() string {
	s := fmt.Sprintf("exported at %s by %s into %s", e.time.Format(time.RFC3339), e.actor, e.file)
	if e.again > 0 {
		s += fmt.Sprintf(" (and %d times since)", e.again)
	}
	return s
}

// Kinds and fields of the events that remember what went out.
const (
	eventExported      = "exported"
	eventExportedAgain = "exported-again"
	detailRoot         = "deposit_data_root"
	detailFile         = "file"
)

// exports adds an order's exports to past.
func (h *home) exports(ctx context.Context, order string, past map[eth.Root]exported) error {
	for _, kind := range []string{eventExported, eventExportedAgain} {
		for e, err := range h.records.Events(ctx, record.EventQuery{Order: order, Kind: kind}) {
			if err != nil {
				return err
			}
			var root eth.Root
			if err := root.UnmarshalText([]byte(e.Detail[detailRoot])); err != nil {
				return fmt.Errorf("an event says that something of order %s was exported, but not what: %w", order, record.ErrCorrupt)
			}
			known, ok := past[root]
			if ok {
				known.again++
			} else {
				known = exported{time: e.Time, actor: e.Actor, file: e.Detail[detailFile]}
			}
			past[root] = known
		}
	}
	return nil
}

// finished refuses orders without a receipt: those of their keys that were
// made are sound, but nobody has said yet that the order is whole, and what is
// exported by halves is sent by halves.
func (a *app) finished(ctx context.Context, h *home, orders []string) error {
	for _, id := range orders {
		order, err := h.records.Order(ctx, id)
		if err != nil {
			return err
		}
		_, err = h.archive.Get(ctx, birth.ReceiptObject(id, 0, order.Count))
		if !errors.Is(err, record.ErrNotFound) {
			if err != nil {
				return err
			}
			continue
		}
		made := 0
		for _, err := range h.records.Validators(ctx, record.Query{Order: id}) {
			if err != nil {
				return err
			}
			made++
		}
		hint := "finish it first: stakeseal generate" + a.homeWords(h) + " --resume " + id
		if imported, err := h.imported(ctx, []string{id}); err != nil {
			return err
		} else if len(imported) > 0 {
			hint = "finish it first: stakeseal bundle import, again, of the bundle that it came from"
		}
		return usage(hint, "order %s is not finished: %d of %d made, and no receipt", id, made, order.Count)
	}
	return nil
}

// drilled reports whether a recovery drill covered all that the order has
// now: one that was made when half of it was there showed half.
func (h *home) drilled(ctx context.Context, order string) (bool, error) {
	made := 0
	for _, err := range h.records.Validators(ctx, record.Query{Order: order}) {
		if err != nil {
			return false, err
		}
		made++
	}
	for e, err := range h.records.Events(ctx, record.EventQuery{Order: order, Kind: "drilled"}) {
		if err != nil {
			return false, err
		}
		if n, err := strconv.Atoi(e.Detail["validators"]); err == nil && n >= made {
			return true, nil
		}
	}
	return false, nil
}

// giveOut writes the files and returns their paths. The order of steps is
// what makes a second copy of a deposit impossible to miss: the files are
// written and synced under hidden names; then each deposit is noted, which
// fails if it was noted before, by whomever; only then do the files get their
// names. A crash in between leaves a note without a file, never a file
// without a note.
func (a *app) giveOut(ctx context.Context, h *home, x *export, dir string) ([]string, error) {
	if err := makeFolder(dir); err != nil {
		return nil, err
	}
	r, err := reserve(dir, x.files, a.now().Unix())
	if err != nil {
		return nil, err
	}
	defer r.release()
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	// From here on an interrupt is not heeded: it would leave a note without
	// a file.
	ctx = context.WithoutCancel(ctx)
	if err := a.noteExports(ctx, h, x, r); err != nil {
		return nil, err
	}
	paths, err := r.publish()
	if err != nil {
		return nil, fail(exitInternal, "--again exports them once more, when the folder can be written",
			"the deposits are noted as exported, but their files couldn't be put in place: %w", err)
	}
	return paths, nil
}

// noteExports appends an event for each deposit. The one with the smallest
// root is noted first and alone, so that of several exports of the same deposits at once
// all but one stop with nothing noted; the others go together and share the
// store's commits.
func (a *app) noteExports(ctx context.Context, h *home, x *export, r *reservation) error {
	now := record.Time(a.now())
	order := map[eth.Pubkey]string{}
	for _, b := range x.births {
		order[b.Pubkey] = b.Order
	}
	byRoot := map[eth.Root]record.Event{}
	for i, file := range x.files {
		name, digest := filepath.Base(r.files[i].final), file.digest().String() // of the whole file: once
		for _, e := range file.entries {
			// Equal stages of a plan are one deposit, given out twice at once.
			if twin, ok := byRoot[e.DataRoot]; ok {
				twin.Detail[detailFile] += ", " + name
				continue
			}
			event := record.Event{Time: now, Kind: eventExported, Order: order[e.Pubkey], Pubkey: e.Pubkey,
				Once: eventExported + "/" + e.DataRoot.Hex(),
				Detail: map[string]string{
					detailRoot: e.DataRoot.Hex(), detailFile: name, "file_sha256": digest,
					"amount_gwei": fmt.Sprint(uint64(e.Amount)), "stage": fmt.Sprintf("%d of %d", file.stage, file.stages),
				}}
			if _, before := x.past[e.DataRoot]; before {
				event.Kind, event.Once = eventExportedAgain, ""
			}
			byRoot[e.DataRoot] = event
		}
	}
	events := slices.Collect(maps.Values(byRoot))
	slices.SortFunc(events, func(x, y record.Event) int { return strings.Compare(x.Detail[detailRoot], y.Detail[detailRoot]) })
	if err := h.note(ctx, events[0]); err != nil {
		return a.notNoted(events[0], 0, err)
	}
	queue := make(chan record.Event, len(events))
	for _, e := range events[1:] {
		queue <- e
	}
	close(queue)
	var mu sync.Mutex
	var failed error
	noted := 1
	var workers sync.WaitGroup
	for range min(len(events), 64) {
		workers.Go(func() {
			for e := range queue {
				mu.Lock()
				stop := failed != nil
				mu.Unlock()
				if stop {
					return
				}
				err := h.note(ctx, e)
				mu.Lock()
				if err == nil {
					noted++
				} else if failed == nil {
					failed = a.notNoted(e, noted, err)
				}
				mu.Unlock()
			}
		})
	}
	workers.Wait()
	return failed
}

// notNoted explains why an export stopped, and what stands.
func (a *app) notNoted(e record.Event, noted int, err error) error {
	hint := "stakeseal deposit status shows what was exported"
	if noted > 0 {
		hint = fmt.Sprintf("some of the selected deposits are noted as exported although no file was written: %s\n--again exports them", hint)
	}
	if errors.Is(err, record.ErrExists) {
		return fail(exitConflict, hint, "nothing was written: another export of %s came first: %w", short(e.Pubkey.String()), err)
	}
	code, why := verdict(err)
	if why != "" {
		hint = why + "\n" + hint
	}
	return fail(code, hint, "nothing was written: %w", err)
}

// reservation holds the files of an export under hidden names, each made from
// the final one: who makes the hidden file owns the final name among all
// exports into the folder.
type reservation struct {
	dir   string
	files []reserved
}

type reserved struct{ hidden, final string }

// reserve writes the files under hidden names whose final names are free. If
// another export of the same second has them, it takes the next second's.
func reserve(dir string, files []exportFile, unix int64) (*reservation, error) {
	const tries = 1000
	for try := range int64(tries) {
		r, err := reserveAt(dir, files, unix+try)
		if err == nil {
			return r, nil
		}
		if !errors.Is(err, fs.ErrExist) {
			return nil, fmt.Errorf("couldn't write to %s: %w", dir, err)
		}
	}
	return nil, fail(exitConflict, "choose another --out", "%s holds deposit data of this second and the next %d", dir, tries)
}

func reserveAt(dir string, files []exportFile, unix int64) (_ *reservation, err error) {
	r := &reservation{dir: dir}
	defer func() {
		if err != nil {
			r.release()
		}
	}()
	for _, file := range files {
		name := file.name(unix)
		one := reserved{hidden: filepath.Join(dir, "."+name+".part"), final: filepath.Join(dir, name)}
		f, err := os.OpenFile(one.hidden, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
		if err != nil {
			return nil, err
		}
		r.files = append(r.files, one)
		// Looked at only now: an export that had the hidden name has the
		// final one by the time it gives the hidden one up.
		if _, taken := os.Lstat(one.final); taken == nil {
			err = fs.ErrExist
		} else if !errors.Is(taken, fs.ErrNotExist) {
			err = taken
		} else {
			_, err = f.Write(file.data)
			err = errors.Join(err, f.Sync())
		}
		if err := errors.Join(err, f.Close()); err != nil {
			return nil, err
		}
	}
	return r, nil
}

// publish gives the files their names, all or none, and syncs the folder.
func (r *reservation) publish() (paths []string, err error) {
	defer func() {
		if err != nil {
			for _, path := range paths {
				err = errors.Join(err, os.Remove(path))
			}
			paths = nil
		}
	}()
	for _, one := range r.files {
		if err := place(one.hidden, one.final, os.Link); err != nil {
			return paths, err
		}
		paths = append(paths, one.final)
	}
	return paths, syncDir(r.dir)
}

// place moves a file to a name that nobody has. link is os.Link.
func place(from, to string, link func(from, to string) error) error {
	err := link(from, to)
	if !errors.Is(err, syscall.EPERM) && !errors.Is(err, syscall.ENOTSUP) && !errors.Is(err, syscall.ENOSYS) {
		return err
	}
	// FAT, as on most removable media, has no links. The reservation keeps
	// other exports away from the name; a stranger could take it between
	// these two calls only.
	if _, taken := os.Lstat(to); taken == nil {
		return &os.LinkError{Op: "link", Old: from, New: to, Err: fs.ErrExist}
	}
	return os.Rename(from, to)
}

// release removes the hidden names. What was published stays.
func (r *reservation) release() {
	for _, one := range r.files {
		_ = os.Remove(one.hidden) // gone if it was renamed; harmless if it stays
	}
}
