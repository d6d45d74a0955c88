package release

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/stakeseal/stakeseal/certificate"
	"github.com/stakeseal/stakeseal/record"
)

// Target is where a signed package is installed: a home on this machine, or a
// Lambda function.
type Target interface {
	// Install puts a signed package in force, whole or not at all. Again after
	// an end at any point, it does what is left.
	Install(ctx context.Context, s *Signed, now time.Time) error
	// InForce reads back what is in force and verifies it from the package to
	// the last signature. ErrNoRelease: nothing is.
	InForce(ctx context.Context, now time.Time) (*Installed, error)
	// Fits refuses a signed package that Install would refuse whatever is in
	// force: for another machine or installation, revoked, or not valid now.
	Fits(ctx context.Context, s *Signed, now time.Time) error
	// Rollback brings back the release before, which must be goal unless that is
	// zero: otherwise ErrNotBefore, and nothing changes.
	Rollback(ctx context.Context, goal certificate.Hash, now time.Time) (*Installed, error)
	// Named is the package in force, also where it may run no more; zero where
	// something is that no release managers ever signed. ErrNoRelease: nothing is.
	Named(ctx context.Context) (certificate.Hash, error)
}

var _ Target = Home{}

// ErrNoRelease says that no release was deployed to a target.
var ErrNoRelease = errors.New("no release is in force")

// ErrNotBefore says that a rollback would bring back another release than the
// one that was asked for.
var ErrNotBefore = errors.New("the release before is another")

// ErrBusy says that another process puts a release in force in the same home.
var ErrBusy = errors.New("another release is being put in force here")

// ErrRevoked says that a release may make no more keys.
var ErrRevoked = errors.New("the release is revoked")

// Installed is a release in force, verified.
type Installed struct {
	*Signed
	Previous certificate.Hash // what a rollback brings back; zero: nothing that may run
	Since    time.Time
	Folder   string // of the package's files

	RolledBack certificate.Hash // what was in force before a rollback brought this one back; zero: no rollback did
	Unjudged   []string         // what stands beside the code and could not be compared with anything, as it is
}

// The places in a home.
const (
	PointerFile     = "release.json"
	ReleasesFolder  = "releases"
	pointerSchema   = "stakeseal/release-in-force/v1"
	maxPointerBytes = 4096
)

// pointer names the release in force. One rename changes it, so that there is
// always a whole release in force, or none.
type pointer struct {
	Schema   string           `json:"schema"`
	Package  certificate.Hash `json:"package_sha256"`
	Previous certificate.Hash `json:"previous_sha256,omitzero"`
	Since    time.Time        `json:"since"`
	// What was in force when a rollback brought this one back.
	RolledBack certificate.Hash `json:"rolled_back_sha256,omitzero"`
}

// Home is a home on this machine. Trust is the home's own trust file.
//
// Whoever may write the home can replace anything in it; that is noticed at
// the next start, unless they also replace the trust file. A home whose trust
// file names release managers makes keys with a signed release only.
type Home struct {
	Dir   string
	Trust *certificate.Trust

	OutOfOrder bool // Install takes a release that does not follow the one in force too
}

// Install implements Target. The files are written beside and moved to
// releases/DIGEST as one folder, then the pointer is replaced.
func (h Home) Install(ctx context.Context, s *Signed, now time.Time) error {
	if err := h.Fits(ctx, s, now); err != nil {
		return err
	}
	p := s.Package()
	unlock, err := h.lock()
	if err != nil {
		return fmt.Errorf("couldn't deploy: %w", err)
	}
	defer unlock()
	was, err := h.pointer()
	if err != nil && !errors.Is(err, ErrNoRelease) {
		return fmt.Errorf("couldn't deploy: %w", err)
	}
	if !h.OutOfOrder {
		standing, err := h.standing(ctx, was.Package)
		if err == nil {
			err = MayFollow(h.Trust, s, standing)
		}
		if err != nil {
			return fmt.Errorf("couldn't deploy: %w", err)
		}
	}
	if err := h.unpack(ctx, s); err != nil {
		return fmt.Errorf("couldn't deploy: %w", err)
	}
	// What was written is read back and verified before it comes into force.
	if _, err := h.load(ctx, p.Digest); err != nil {
		return fmt.Errorf("couldn't deploy: what was written does not read back: %w", err)
	}
	next := pointer{Schema: pointerSchema, Package: p.Digest, Since: now.UTC().Truncate(time.Second)}
	if was.Package == p.Digest {
		return h.tidy(was)
	}
	next.Previous = h.goodBefore(ctx, was, p.Digest, now)
	if err := h.point(next); err != nil {
		return fmt.Errorf("couldn't deploy: %w", err)
	}
	return h.tidy(next)
}

// Fits implements Target.
func (h Home) Fits(ctx context.Context, s *Signed, now time.Time) error {
	p := s.Package()
	if p == nil || s.envelope == nil {
		return fmt.Errorf("couldn't deploy: %w: no signed package was loaded", ErrNotSigned)
	}
	if err := errors.Join(fitsMachine(p), h.MayRun(s, now), h.revoked(ctx, p.Digest)); err != nil {
		return fmt.Errorf("couldn't deploy: %w", err)
	}
	return nil
}

// lock keeps two processes from putting releases in force in one home at once:
// each would judge what it follows before the other moved the pointer, and the one
// would remove what the other has unpacked and is about to name. It ends with the
// process. Nobody waits for it: what was asked and answered is judged anew.
func (h Home) lock() (unlock func(), err error) {
	folder, err := os.Open(h.Dir)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(folder.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		folder.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			err = ErrBusy
		}
		return nil, fmt.Errorf("couldn't lock %s: %w", h.Dir, err)
	}
	return func() { folder.Close() }, nil
}

// goodBefore is what a rollback from the next release brings back: the one in
// force, or where that may run no more the one before it; zero where neither
// may. A release is often deployed because the last was revoked.
func (h Home) goodBefore(ctx context.Context, was pointer, next certificate.Hash, now time.Time) certificate.Hash {
	for _, pkg := range []certificate.Hash{was.Package, was.Previous} {
		if pkg.IsZero() || pkg == next {
			continue
		}
		if s, err := h.load(ctx, pkg); err == nil && h.MayRun(s, now) == nil {
			return pkg
		}
	}
	return certificate.Hash{}
}

// revoked is ErrRevoked when a revocation of the package lies in the home.
func (h Home) revoked(ctx context.Context, pkg certificate.Hash) error {
	if _, err := os.Stat(filepath.Join(h.Dir, ReleasesFolder)); errors.Is(err, fs.ErrNotExist) {
		return nil // the first release
	}
	return revoked(ctx, h.Statements(), h.Trust, pkg)
}

// unlessStopped is a package that nobody revoked, zero otherwise. Rollback
// verifies all of it.
func (h Home) unlessStopped(ctx context.Context, pkg certificate.Hash) certificate.Hash {
	listed := slices.ContainsFunc(h.Trust.Releases, func(r certificate.Release) bool { return r.Package == pkg && r.Revoked })
	if pkg.IsZero() || listed || h.revoked(ctx, pkg) != nil {
		return certificate.Hash{}
	}
	return pkg
}

// Named implements Target.
func (h Home) Named(ctx context.Context) (certificate.Hash, error) {
	at, err := h.pointer()
	if err != nil {
		return at.Package, err
	}
	return h.standing(ctx, at.Package)
}

// standing is Standing, by what lies in the home.
func (h Home) standing(ctx context.Context, pkg certificate.Hash) (certificate.Hash, error) {
	if _, err := os.Stat(h.folder(pkg)); pkg.IsZero() || errors.Is(err, fs.ErrNotExist) {
		return certificate.Hash{}, nil
	}
	return Standing(ctx, h.depot(), h.Trust, pkg)
}

// InForce implements Target.
func (h Home) InForce(ctx context.Context, now time.Time) (*Installed, error) {
	at, err := h.pointer()
	if err != nil {
		return nil, err
	}
	s, err := h.load(ctx, at.Package)
	if err != nil {
		return nil, err
	}
	if err := h.MayRun(s, now); err != nil {
		return nil, err
	}
	return &Installed{Signed: s, Previous: h.unlessStopped(ctx, at.Previous), Since: at.Since, Folder: h.folder(at.Package), RolledBack: at.RolledBack}, nil
}

// Rollback implements Target. The release before must still be valid and not be
// revoked.
func (h Home) Rollback(ctx context.Context, goal certificate.Hash, now time.Time) (*Installed, error) {
	unlock, err := h.lock()
	if err != nil {
		return nil, fmt.Errorf("couldn't roll back: %w", err)
	}
	defer unlock()
	at, err := h.pointer()
	if err != nil {
		return nil, err
	}
	if at.Previous.IsZero() {
		return nil, fmt.Errorf("couldn't roll back: %w before this one", ErrNoRelease)
	}
	if !goal.IsZero() && goal != at.Previous {
		return nil, fmt.Errorf("couldn't roll back: %w: package %s, not %s", ErrNotBefore, at.Previous, goal)
	}
	s, err := h.load(ctx, at.Previous)
	if err != nil {
		return nil, fmt.Errorf("couldn't roll back: %w", err)
	}
	if err := h.MayRun(s, now); err != nil {
		return nil, fmt.Errorf("couldn't roll back: %w", err)
	}
	// Back again is possible, unless what was rolled back from may run no more.
	next := pointer{Schema: pointerSchema, Package: at.Previous, Previous: h.goodBefore(ctx, pointer{Package: at.Package}, at.Previous, now),
		Since: now.UTC().Truncate(time.Second), RolledBack: at.Package}
	if err := h.point(next); err != nil {
		return nil, fmt.Errorf("couldn't roll back: %w", err)
	}
	if err := h.tidy(next); err != nil {
		return nil, err
	}
	return h.InForce(ctx, now)
}

// MayRun refuses a release that the trust file revokes or does not hold valid
// now. That the trust file lists it is demanded where keys are made.
func (h Home) MayRun(s *Signed, now time.Time) error {
	now = now.UTC()
	if err := s.Release.ValidAt(now); err != nil {
		return fmt.Errorf("release %q: %w", s.Release.Name, err)
	}
	for _, r := range h.Trust.Releases {
		if r.Package != s.Release.Package {
			continue
		}
		if r.Revoked {
			return fmt.Errorf("%w: %q, in the trust file", ErrRevoked, r.Name)
		}
		if err := r.ValidAt(now); err != nil {
			return fmt.Errorf("release %q in the trust file: %w", r.Name, err)
		}
	}
	return nil
}

// Listed reports whether the home's trust file lists the release, with enough
// signatures that count, so that what it makes verifies.
func (h Home) Listed(s *Signed) bool {
	return slices.ContainsFunc(h.Trust.Releases, func(r certificate.Release) bool {
		return r.Package == s.Release.Package && !r.Revoked && h.Trust.Stands(r) == nil
	})
}

// Statements is where the statements about the home's releases lie.
func (h Home) Statements() Store { return h.depot().Reviews }

func (h Home) folder(pkg certificate.Hash) string {
	return filepath.Join(h.Dir, ReleasesFolder, pkg.String())
}

// depot reads a release's own folder as a depot: the statements lie there
// under the names they have in one.
func (h Home) depot() Depot {
	store := Folder{filepath.Join(h.Dir, ReleasesFolder)}
	return Depot{store, store}
}

// load verifies an installed package: its statements, and that every file
// beside them is the package's.
func (h Home) load(ctx context.Context, pkg certificate.Hash) (*Signed, error) {
	s, err := LoadSigned(ctx, h.depot(), h.Trust, pkg)
	if err != nil {
		return nil, fmt.Errorf("the release in %s: %w", h.folder(pkg), err)
	}
	store := h.depot().Submissions
	for file, want := range s.Package().Files {
		got, err := store.Get(ctx, name(pkg, file))
		if err != nil {
			return nil, fmt.Errorf("the release in %s: %w", h.folder(pkg), err)
		}
		if !bytes.Equal(got, want) {
			return nil, fmt.Errorf("%w: %s in %s is not the package's: somebody changed it", ErrMixed, file, h.folder(pkg))
		}
	}
	// The generator would read a recipient that the package does not have only
	// if its settings named it; a file too many still says that somebody was here.
	extra := ""
	err = filepath.WalkDir(h.folder(pkg), func(full string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		rel, err := filepath.Rel(h.folder(pkg), full)
		rel = filepath.ToSlash(rel)
		if _, ours := s.Package().Files[rel]; !ours && !statementFile(rel) {
			extra = rel
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("the release in %s: %w", h.folder(pkg), err)
	}
	if extra != "" {
		return nil, fmt.Errorf("%w: %s in %s is no file of the package", ErrMixed, extra, h.folder(pkg))
	}
	return s, nil
}

func statementFile(name string) bool {
	return name == "package.zip" ||
		(strings.HasPrefix(name, "submission-") || strings.HasPrefix(name, "review-") || strings.HasPrefix(name, "release-") || strings.HasPrefix(name, "revocation-")) && strings.HasSuffix(name, ".json")
}

// unpack writes the package and its statements into their folder.
func (h Home) unpack(ctx context.Context, s *Signed) error {
	p := s.Package()
	place := h.folder(p.Digest)
	statements := h.statements(s)
	if _, err := h.load(ctx, p.Digest); err == nil {
		return nil // there already, whole
	} else if _, e := os.Lstat(place); e == nil {
		// There, and signed or submitted again since, after a key was revoked.
		if errors.Is(err, ErrNotReviewed) || errors.Is(err, ErrNotSigned) || errors.Is(err, certificate.ErrUntrusted) {
			for _, file := range sortedKeys(statements) {
				if e := writeNew(filepath.Join(place, file), statements[file], 0o400); e != nil && !errors.Is(e, fs.ErrExist) {
					return e
				}
			}
			if _, err = h.load(ctx, p.Digest); err == nil {
				return nil
			}
		}
		return fmt.Errorf("%s is there and does not verify (%w): look at it, move it away and deploy again", place, err)
	}
	if err := os.MkdirAll(filepath.Dir(place), 0o700); err != nil {
		return err
	}
	fresh, err := os.MkdirTemp(filepath.Dir(place), ".stakeseal-new-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(fresh)
	files := statements
	files["package.zip"] = p.Data
	for file, data := range p.Files {
		files[file] = data
	}
	for _, file := range sortedKeys(files) {
		full := filepath.Join(fresh, filepath.FromSlash(file))
		if err := os.MkdirAll(filepath.Dir(full), 0o700); err != nil {
			return err
		}
		mode := fs.FileMode(0o400)
		if file == Program {
			mode = 0o500
		}
		if err := writeNew(full, files[file], mode); err != nil {
			return err
		}
	}
	if err := os.Rename(fresh, place); err != nil {
		return err
	}
	return syncDir(filepath.Dir(place))
}

// statements are the files of a release's submissions, reviews and signatures: the joined
// statement, which holds all signatures, under the name of each signer, so that
// one who signed later has a place of their own beside what lies there.
func (h Home) statements(s *Signed) map[string][]byte {
	files := map[string][]byte{}
	for _, o := range s.Reviewed.Submitted.all {
		files[submissionFile(o.by)] = o.envelope
	}
	for _, a := range slices.Concat(s.Reviewed.Approvals, s.Reviewed.passed) {
		files["review-"+a.By.Key.ID()+".json"] = a.envelope
	}
	for _, k := range signers(s.envelope, h.Trust.Managers) {
		files["release-"+k.Key.ID()+".json"] = s.envelope
	}
	return files
}

func (h Home) pointer() (pointer, error) {
	var at pointer
	data, err := Folder{h.Dir}.Get(context.Background(), PointerFile)
	if errors.Is(err, record.ErrNotFound) {
		return at, ErrNoRelease
	}
	if err != nil {
		return at, err
	}
	return parsePointer(data)
}

func parsePointer(data []byte) (at pointer, err error) {
	if len(data) > maxPointerBytes {
		return at, fmt.Errorf("%w: %s is too long", ErrMixed, PointerFile)
	}
	err = strict(PointerFile, data, &at)
	if err == nil && (at.Schema != pointerSchema || at.Package.IsZero()) {
		err = errors.New(PointerFile + " names no package")
	}
	if err != nil {
		return at, fmt.Errorf("%w: %w: remove it and deploy again", ErrMixed, err)
	}
	return at, nil
}

// SettingsFolder is where the settings in force stand in a home: the folder of
// the release in force, or the home itself, where none was deployed. pkg is
// zero then. It verifies nothing: every command reads settings, and what makes
// keys verifies the release first.
func SettingsFolder(home fs.FS) (folder fs.FS, pkg certificate.Hash, err error) {
	data, err := fs.ReadFile(home, PointerFile)
	if errors.Is(err, fs.ErrNotExist) {
		return home, pkg, nil
	}
	if err != nil {
		return nil, pkg, fmt.Errorf("couldn't read which release is in force: %w", err)
	}
	at, err := parsePointer(data)
	if err != nil {
		return nil, pkg, err
	}
	folder, err = fs.Sub(home, ReleasesFolder+"/"+at.Package.String())
	return folder, at.Package, err
}

func (h Home) point(to pointer) error {
	data, err := encode(to)
	if err != nil {
		return err
	}
	return replace(filepath.Join(h.Dir, PointerFile), data, 0o600)
}

// tidy removes releases that are neither in force nor to be rolled back to,
// and what a run that was killed left. Revocations stay: a package that comes
// again, from a depot that knows nothing of them, is refused by them.
func (h Home) tidy(at pointer) error {
	entries, err := os.ReadDir(filepath.Join(h.Dir, ReleasesFolder))
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.Name() == at.Package.String() || !at.Previous.IsZero() && e.Name() == at.Previous.String() {
			continue
		}
		var digest certificate.Hash
		if digest.UnmarshalText([]byte(e.Name())) != nil && !strings.HasPrefix(e.Name(), ".stakeseal-new-") {
			continue // not ours
		}
		if err := removeRelease(filepath.Join(h.Dir, ReleasesFolder, e.Name())); err != nil {
			return fmt.Errorf("couldn't remove a superseded release: %w", err)
		}
	}
	return nil
}

// removeRelease removes a release's folder, but for its revocations.
func removeRelease(dir string) error {
	if info, err := os.Lstat(dir); err != nil || !info.IsDir() {
		return os.Remove(dir)
	}
	files, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	kept := false
	for _, f := range files {
		if strings.HasPrefix(f.Name(), "revocation-") {
			kept = true
			continue
		}
		if err := os.RemoveAll(filepath.Join(dir, f.Name())); err != nil {
			return err
		}
	}
	if kept {
		return nil
	}
	return os.Remove(dir)
}
