package release

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
)

// Repository is a git repository with the source.
type Repository struct {
	Dir string
}

var commitRule = regexp.MustCompile(`^[0-9a-f]{40}([0-9a-f]{24})?$`)

// Resolve returns the id of the commit that a name such as HEAD, a tag or a
// shortened id stands for.
func (r Repository) Resolve(ctx context.Context, name string) (string, error) {
	if name == "" || strings.HasPrefix(name, "-") {
		return "", fmt.Errorf("%w: %q names no commit", ErrSource, clip(name))
	}
	out, err := r.git(ctx, "rev-parse", "--verify", "--quiet", "--end-of-options", name+"^{commit}")
	id := strings.TrimSpace(string(out))
	if err != nil || !commitRule.MatchString(id) {
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
	if !commitRule.MatchString(commit) {
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
	return nil
}

// git runs git in the repository under the user's own settings (which may name
// it a safe one), but never with replaced objects: a replacement is another
// content under the same id.
func (r Repository) git(ctx context.Context, args ...string) ([]byte, error) {
	return r.run(ctx, nil, args...)
}

func (r Repository) run(ctx context.Context, env []string, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, "git", append([]string{"--no-replace-objects", "--no-pager", "-C", r.Dir}, args...)...)
	cmd.Env = append(withoutGit(os.Environ()), "LC_ALL=C", "GIT_TERMINAL_PROMPT=0", "GIT_OPTIONAL_LOCKS=0", "GIT_GRAFT_FILE="+os.DevNull)
	cmd.Env = append(cmd.Env, env...)
	var out, words bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &words
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
		return nil, fmt.Errorf("%w: git %s: %s", ErrSource, verbOf(args), clip(text))
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
