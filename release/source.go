package release

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/stakeseal/stakeseal/certificate"
)

// Repository is a git repository with the source.
type Repository struct {
	Dir string
}

// Resolve returns the id of the commit that a name such as HEAD, a tag or a
// shortened id stands for.
func (r Repository) Resolve(ctx context.Context, name string) (string, error) {
	if name == "" || strings.HasPrefix(name, "-") {
		return "", fmt.Errorf("%w: %q names no commit", ErrSource, clip(name))
	}
	out, err := r.git(ctx, "rev-parse", "--verify", "--quiet", "--end-of-options", name+"^{commit}")
	id := strings.TrimSpace(string(out))
	if err != nil || !certificate.IsCommit(id) {
		return "", fmt.Errorf("%w: %s has no commit %q", ErrSource, r.Dir, clip(name))
	}
	return id, nil
}

// Changed lists files of the working tree that are not as in the commit it is
// on: what a build of that commit will not hold.
func (r Repository) Changed(ctx context.Context) ([]string, error) {
	out, err := r.git(ctx, "status", "--porcelain", "--untracked-files=all")
	if err != nil {
		return nil, err
	}
	return strings.FieldsFunc(string(out), func(c rune) bool { return c == '\n' }), nil
}

// Export writes the files of a commit into a new repository at dir that holds
// this commit and nothing else: no tags, which would change the version that
// go writes into the program, no branches, no history, no changes. git hashes
// every object that it takes over.
func (r Repository) Export(ctx context.Context, commit, dir string) error {
	if !certificate.IsCommit(commit) {
		return fmt.Errorf("%w: %q is no commit's whole id", ErrSource, clip(commit))
	}
	source, err := filepath.Abs(r.Dir)
	if err != nil {
		return err
	}
	fresh := Repository{dir}
	for _, args := range [][]string{
		{"init", "--quiet", "--template="},
		{"-c", "protocol.version=2", "-c", "fetch.fsckObjects=true", "fetch", "--quiet", "--depth=1", "--no-tags", "--no-write-fetch-head", source, commit},
	} {
		if _, err := fresh.git(ctx, args...); err != nil {
			return err
		}
	}
	if err := plainAttributes(dir); err != nil {
		return err
	}
	// Without the user's settings: one that changes line ends would change the
	// program.
	if _, err := fresh.run(ctx, plainGit(), "checkout", "--quiet", "--detach", commit); err != nil {
		return err
	}
	changed, err := fresh.run(ctx, plainGit(), "status", "--porcelain", "--untracked-files=all")
	if err != nil {
		return err
	}
	if len(changed) > 0 {
		return fmt.Errorf("%w: the files of commit %s do not check out as they were committed: %q", ErrSource, commit, clip(string(changed)))
	}
	return fresh.checkedOut(ctx, commit)
}

// plainAttributes keeps git from obeying a .gitattributes of the commit, which
// could have it write other bytes than those that a reviewer is shown: another
// encoding, other line ends, an expanded $Id$. Attributes in this file stand
// above all others (man gitattributes). "!" says that nothing is said: an
// encoding that is switched off by "-" is an error to git.
func plainAttributes(dir string) error {
	info := filepath.Join(dir, ".git", "info")
	err := os.MkdirAll(info, 0o700)
	if err == nil {
		err = os.WriteFile(filepath.Join(info, "attributes"), []byte("* -text -crlf !eol -ident !filter !working-tree-encoding\n"), 0o600)
	}
	if err != nil {
		return fmt.Errorf("%w: couldn't prepare the export: %w", ErrSource, err)
	}
	return nil
}

// entry is one file of a commit.
type entry struct {
	Mode, ID, Path string
}

// The modes of entries that are no files (man git-fast-import, "filemodify").
const (
	modeLink   = "120000" // a symbolic link
	modeModule = "160000" // a commit of another repository
)

// entries lists every file of a commit.
func (r Repository) entries(ctx context.Context, commit string) ([]entry, error) {
	out, err := r.run(ctx, plainGit(), "ls-tree", "-r", "-z", "--full-tree", commit)
	if err != nil {
		return nil, err
	}
	var list []entry
	for line := range strings.SplitSeq(strings.TrimSuffix(string(out), "\x00"), "\x00") {
		head, name, ok := strings.Cut(line, "\t")
		if fields := strings.Fields(head); ok && len(fields) == 3 {
			list = append(list, entry{fields[0], fields[2], name})
		} else if line != "" {
			return nil, fmt.Errorf("%w: git ls-tree: a line that cannot be read: %q", ErrSource, clip(line))
		}
	}
	return list, nil
}

// checkedOut refuses a working tree with another byte, file or link than the
// commit's blobs have: differences are shown of blobs, and the compiler reads
// the working tree. git status would not tell: it reads a file back by the
// same attributes that it was written by.
func (r Repository) checkedOut(ctx context.Context, commit string) error {
	list, err := r.entries(ctx, commit)
	if err != nil {
		return err
	}
	refuse := func(name, why string) error {
		return fmt.Errorf("%w: %s of commit %s does not check out as it was committed: %s", ErrSource, oneLine(clip(name)), commit, why)
	}
	var ids strings.Builder
	known := map[string]bool{}
	for _, e := range list {
		known[e.Path] = true
		if e.Mode != modeModule {
			ids.WriteString(e.ID + "\n")
		}
	}
	blobs, err := r.feed(ctx, plainGit(), strings.NewReader(ids.String()), "cat-file", "--batch")
	if err != nil {
		return err
	}
	for _, e := range list {
		if e.Mode == modeModule {
			continue
		}
		head, rest, ok := bytes.Cut(blobs, []byte("\n"))
		fields := strings.Fields(string(head))
		if !ok || len(fields) != 3 || fields[0] != e.ID || fields[1] != "blob" {
			return refuse(e.Path, "git does not hand out its blob")
		}
		size, err := strconv.Atoi(fields[2])
		if err != nil || size < 0 || size >= len(rest) {
			return refuse(e.Path, "git does not hand out its whole blob")
		}
		blob := rest[:size]
		blobs = rest[size+1:]
		full := filepath.Join(r.Dir, filepath.FromSlash(e.Path))
		info, err := os.Lstat(full)
		if err != nil {
			return refuse(e.Path, "it is not there")
		}
		var is []byte
		switch {
		case e.Mode == modeLink && info.Mode()&os.ModeSymlink != 0:
			var to string
			to, err = os.Readlink(full)
			is = []byte(to)
		case e.Mode != modeLink && info.Mode().IsRegular():
			is, err = os.ReadFile(full)
		default:
			return refuse(e.Path, "it is another kind of file")
		}
		if err != nil || !bytes.Equal(is, blob) {
			return refuse(e.Path, "its bytes are others")
		}
	}
	return filepath.WalkDir(r.Dir, func(full string, d os.DirEntry, err error) error {
		if err != nil {
			return fmt.Errorf("%w: couldn't read the export: %w", ErrSource, err)
		}
		rel, err := filepath.Rel(r.Dir, full)
		if err != nil {
			return fmt.Errorf("%w: couldn't read the export: %w", ErrSource, err)
		}
		if rel == ".git" {
			return filepath.SkipDir
		}
		if !d.IsDir() && !known[filepath.ToSlash(rel)] {
			return refuse(rel, "the commit has no such file")
		}
		return nil
	})
}

// git runs git in the repository under the user's own settings (which may name
// it a safe one), but never with replaced objects: a replacement is another
// content under the same id.
func (r Repository) git(ctx context.Context, args ...string) ([]byte, error) {
	return r.run(ctx, nil, args...)
}

func (r Repository) run(ctx context.Context, env []string, args ...string) ([]byte, error) {
	return r.feed(ctx, env, nil, args...)
}

// feed runs git with something to read.
func (r Repository) feed(ctx context.Context, env []string, in io.Reader, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, "git", append([]string{"--no-replace-objects", "--no-pager", "-C", r.Dir}, args...)...)
	cmd.Env = append(withoutGit(os.Environ()), "LC_ALL=C", "GIT_TERMINAL_PROMPT=0", "GIT_OPTIONAL_LOCKS=0", "GIT_GRAFT_FILE="+os.DevNull)
	cmd.Env = append(cmd.Env, env...)
	var out, words bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = in, &out, &words
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		text := strings.TrimSpace(words.String())
		if errors.Is(err, exec.ErrNotFound) {
			text = "git is not installed"
		} else if text == "" {
			text = err.Error()
		}
		return nil, fmt.Errorf("%w: git %s: %s", ErrSource, verbOf(args), visible(clip(text)))
	}
	return out.Bytes(), nil
}

// verbOf is git's command among its arguments.
func verbOf(args []string) string {
	for i := 0; i < len(args); i++ {
		if args[i] == "-c" {
			i++
		} else if !strings.HasPrefix(args[i], "-") {
			return args[i]
		}
	}
	return ""
}

// plainGit is git without the user's and the machine's settings.
func plainGit() []string {
	return []string{"GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL=" + os.DevNull, "GIT_ATTR_NOSYSTEM=1", "XDG_CONFIG_HOME=" + os.DevNull}
}

// withoutGit drops GIT_DIR and its like, which would lead elsewhere.
func withoutGit(environ []string) []string {
	var out []string
	for _, v := range environ {
		if !strings.HasPrefix(v, "GIT_") {
			out = append(out, v)
		}
	}
	return out
}
