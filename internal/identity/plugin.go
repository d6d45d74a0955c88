package identity

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"filippo.io/age"
	ageplugin "filippo.io/age/plugin"

	"github.com/stakeseal/stakeseal/seal"
	"github.com/stakeseal/stakeseal/secret"
	"github.com/stakeseal/stakeseal/unseal"
)

// Plugin is a program that opens for an identity it alone understands: a
// hardware key, a TPM. The program is given the stanzas of a sealing and
// returns its file key, so it is as trusted as the identity itself.
//
// filippo.io/age/plugin has a client for this, which finds the program by name
// through $PATH, so that whoever can put a file into any folder of $PATH gets
// the file keys; and AGEDEBUG=plugin makes it print them. Changing $PATH for a
// call would change it for all goroutines. So the client here is ours (C2SP
// age-plugin, identity-v1): it starts Program and nothing else, with few
// environment variables, and shows nothing of what they say to each other.
type Plugin struct {
	// Program is the absolute path of a file named age-plugin-NAME, which
	// serves the identities AGE-PLUGIN-NAME-1... It and its folder belong to
	// root or the user who runs this, and nobody else may write to them.
	Program string
	// Ask answers a question of the plugin (a PIN); the answer is wiped after
	// use. Say shows a message. Confirm asks for one of two answers, no may be
	// empty. What is nil is refused to the plugin. Texts come from the plugin,
	// without control characters.
	Ask     func(prompt string) (*secret.Bytes, error)
	Say     func(message string)
	Confirm func(message, yes, no string) (bool, error)
}

// pluginName takes the plugin's name out of an identity.
func pluginName(text string) (string, error) {
	name, _, err := ageplugin.ParseIdentity(text)
	if err != nil || strings.ContainsAny(name, "/\\") || name == "" {
		return "", fmt.Errorf("%w: a malformed plugin identity", ErrFormat)
	}
	return name, nil
}

func (l *loader) plugin(path, text string) (unseal.Identity, error) {
	kind, err := pluginName(text)
	if err != nil {
		return nil, err
	}
	for _, p := range l.plugins {
		if filepath.Base(p.Program) != "age-plugin-"+kind {
			continue
		}
		if err := p.check(); err != nil {
			return nil, err
		}
		return &pluginIdentity{p, text, name(path, "plugin "+kind)}, nil
	}
	return nil, fmt.Errorf("%w: this identity needs age-plugin-%s; give the absolute path of that program, as it is never looked up", ErrPlugin, kind)
}

// check runs when a file is loaded and again before each start.
func (p Plugin) check() error {
	if value, set := os.LookupEnv("AGEDEBUG"); set && value != "" {
		return fmt.Errorf("%w: AGEDEBUG is set, under which plugins may print the file keys; unset it", ErrPlugin)
	}
	if !filepath.IsAbs(p.Program) || filepath.Clean(p.Program) != p.Program {
		return fmt.Errorf("%w: %q is not a plain absolute path", ErrPlugin, p.Program)
	}
	target, err := filepath.EvalSymlinks(p.Program)
	if err != nil {
		return fmt.Errorf("%w: %q: %w", ErrPlugin, p.Program, withoutPath(err))
	}
	// Whoever may replace the program gets every file key it is asked for.
	for _, path := range []string{target, filepath.Dir(target), filepath.Dir(p.Program)} {
		info, err := os.Stat(path)
		if err != nil {
			return fmt.Errorf("%w: %q: %w", ErrPlugin, path, withoutPath(err))
		}
		if path == target && (!info.Mode().IsRegular() || info.Mode().Perm()&0o111 == 0) {
			return fmt.Errorf("%w: %q is not a program", ErrPlugin, path)
		}
		if info.Mode().Perm()&0o022 != 0 {
			return fmt.Errorf("%w: %q: %w: its mode is %#o", ErrPlugin, path, ErrPermissions, info.Mode().Perm())
		}
		if !ours(info) {
			return fmt.Errorf("%w: %q: %w: it belongs to another user", ErrPlugin, path, ErrPermissions)
		}
	}
	return nil
}

type pluginIdentity struct {
	plugin Plugin
	text   string // the identity: secret for some plugins
	name   string
}

var _ unseal.Identity = (*pluginIdentity)(nil)

func (p *pluginIdentity) String() string { return p.name }

func (p *pluginIdentity) Bind(ctx context.Context, _ seal.Binding) age.Identity {
	return &pluginCall{ctx, p}
}

// pluginCall is one opening: one start of the program.
type pluginCall struct {
	ctx context.Context
	*pluginIdentity
}

func (c *pluginCall) Unwrap(stanzas []*age.Stanza) ([]byte, error) {
	if err := c.plugin.check(); err != nil {
		return nil, err
	}
	cmd := &exec.Cmd{
		Path: c.plugin.Program,
		Args: []string{c.plugin.Program, "--age-plugin=identity-v1"},
		Env:  environment(),
		Dir:  "/",
	}
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrPlugin, err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrPlugin, err)
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("%w: couldn't start %q: %w", ErrPlugin, c.plugin.Program, withoutPath(err))
	}
	// Closing our end as well: a child of the plugin could hold the other.
	end := func() { _, _ = cmd.Process.Kill(), stdout.Close() }
	defer context.AfterFunc(c.ctx, end)()
	key, err := c.plugin.talk(bufio.NewReaderSize(stdout, maxLine), stdin, c.text, stanzas)
	_ = stdin.Close()
	// A plugin that had its say gets a moment to put its device in order.
	defer time.AfterFunc(5*time.Second, end).Stop()
	_, _ = io.Copy(io.Discard, io.LimitReader(stdout, maxLine))
	_ = cmd.Wait()
	if c.ctx.Err() != nil {
		secret.Wipe(key)
		return nil, c.ctx.Err()
	}
	if err != nil && !errors.Is(err, age.ErrIncorrectIdentity) {
		return nil, fmt.Errorf("%w: %s: %w", ErrPlugin, filepath.Base(c.plugin.Program), err)
	}
	return key, err
}

// environment is what plugins need to reach a device, a PIN dialogue or an
// agent. LD_PRELOAD and its like are not among it, nor is the caller's PATH:
// TPM2TOOLS_TCTI names a library to load, PCSCLITE_CSOCK_NAME a socket that
// gets the PIN. A plugin that needs one is given as a script that sets it.
func environment() []string {
	env := []string{"PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"}
	for _, name := range []string{"HOME", "USER", "LOGNAME", "LANG", "LC_ALL", "TZ", "TERM", "DISPLAY", "WAYLAND_DISPLAY", "XAUTHORITY", "XDG_RUNTIME_DIR", "XDG_CONFIG_HOME", "DBUS_SESSION_BUS_ADDRESS"} {
		if value, ok := os.LookupEnv(name); ok {
			env = append(env, name+"="+value)
		}
	}
	return env
}

// maxTurns bounds what a plugin may say in one opening.
const maxTurns = 1000

// talk runs identity-v1 for one file: everything is sent, then the plugin's
// requests are answered until it is done.
func (p Plugin) talk(in *bufio.Reader, out io.Writer, identity string, stanzas []*age.Stanza) (key []byte, err error) {
	defer func() {
		if err != nil {
			secret.Wipe(key)
			key = nil
		}
	}()
	request := []stanza{{args: []string{"add-identity", identity}}}
	for _, s := range stanzas {
		request = append(request, stanza{append([]string{"recipient-stanza", "0", s.Type}, s.Args...), s.Body})
	}
	request = append(request, stanza{args: []string{"done"}})
	for _, s := range request {
		if err := s.write(out); err != nil {
			return nil, errors.New("it ended before it was asked")
		}
	}

	for range maxTurns {
		s, err := readStanza(in)
		if err != nil {
			return key, err
		}
		reply := stanza{args: []string{"ok"}}
		switch s.args[0] {
		case "file-key":
			if len(s.args) != 2 || s.args[1] != "0" || key != nil || len(s.body) != 16 {
				return key, errors.New("it answered with a malformed file key")
			}
			key = s.body
		case "msg":
			if p.Say == nil {
				reply.args[0] = "fail"
			} else {
				p.Say(printable(s.body))
			}
		case "request-secret", "request-public":
			reply = p.answer(s)
		case "confirm":
			reply = p.confirm(s)
		case "error":
			_ = reply.write(out)
			return key, fmt.Errorf("it says %q", printable(s.body))
		case "done":
			if key == nil {
				return nil, age.ErrIncorrectIdentity
			}
			return key, nil
		default:
			reply.args[0] = "unsupported"
		}
		err = reply.write(out)
		secret.Wipe(reply.body)
		if err != nil {
			return key, errors.New("it ended in the middle")
		}
	}
	return key, errors.New("it went on for too long")
}

func (p Plugin) answer(s stanza) stanza {
	if p.Ask == nil {
		return stanza{args: []string{"fail"}}
	}
	answer, err := p.Ask(printable(s.body))
	if err != nil {
		return stanza{args: []string{"fail"}}
	}
	return stanza{[]string{"ok"}, answer.Expose()} // wiped through the body by talk
}

func (p Plugin) confirm(s stanza) stanza {
	if p.Confirm == nil || len(s.args) < 2 || len(s.args) > 3 {
		return stanza{args: []string{"fail"}}
	}
	var words [2]string
	for i, arg := range s.args[1:] {
		b, err := b64.DecodeString(arg)
		if err != nil {
			return stanza{args: []string{"fail"}}
		}
		words[i] = printable(b)
	}
	yes, err := p.Confirm(printable(s.body), words[0], words[1])
	switch {
	case err != nil:
		return stanza{args: []string{"fail"}}
	case yes:
		return stanza{args: []string{"ok", "yes"}}
	}
	return stanza{args: []string{"ok", "no"}}
}

// printable keeps a plugin from steering the terminal.
func printable(b []byte) string {
	const enough = 500
	s := strings.Map(func(r rune) rune {
		if strconv.IsPrint(r) {
			return r
		}
		return ' '
	}, string(b[:min(len(b), enough)]))
	return strings.TrimSpace(s)
}
