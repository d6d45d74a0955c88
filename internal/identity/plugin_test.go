package identity

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"filippo.io/age"
	ageplugin "filippo.io/age/plugin"

	"github.com/stakeseal/stakeseal/secret"
	"github.com/stakeseal/stakeseal/unseal"
)

// program gives the test binary a plugin's name in a folder of its own.
func program(t *testing.T, kind string) string {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "age-plugin-"+kind)
	if err := os.Symlink(self, path); err != nil {
		t.Fatal(err)
	}
	return path
}

// pluginFile writes an identity file for a plugin that opens with id.
func pluginFile(t *testing.T, kind string, data []byte) string {
	t.Helper()
	return write(t, "plugin.txt", "# a card\n"+ageplugin.EncodeIdentity(kind, data)+"\n")
}

func TestPlugin(t *testing.T) {
	id, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	file := sealed(t, id.Recipient().String())
	open := func(kind string, p Plugin) (*secret.Bytes, error) {
		p.Program = program(t, kind)
		ids, err := Load(pluginFile(t, kind, []byte(id.String())), nil, WithPlugin(Plugin{Program: "/nowhere/age-plugin-other"}), WithPlugin(p))
		if err != nil {
			t.Fatal(err)
		}
		if s := ids[0].String(); !strings.Contains(s, "plugin "+kind) || strings.Contains(s, "AGE-") {
			t.Errorf("named %q", s)
		}
		return unseal.NewOpener(ids...).Open(t.Context(), file, binding)
	}

	// age's side of the protocol sends grease at random, so more than once.
	for range 8 {
		got, err := open("good", Plugin{})
		if err != nil || string(got.Expose()) != body {
			t.Fatalf("%v", err)
		}
	}

	// Questions reach the caller, without what would steer a terminal.
	var heard []string
	var pin *secret.Bytes
	full := Plugin{
		Ask: func(prompt string) (*secret.Bytes, error) {
			heard = append(heard, "ask "+prompt)
			pin = secret.Copy([]byte("1234"))
			return pin, nil
		},
		Confirm: func(message, yes, no string) (bool, error) {
			heard = append(heard, "confirm "+message+" "+yes+"/"+no)
			return true, nil
		},
		Say: func(message string) { heard = append(heard, "say "+message) },
	}
	if _, err := open("ask", full); err != nil {
		t.Fatal(err)
	}
	if want := []string{"ask PIN [1m, please", "confirm touch it? Touched/Leave", "say thank you"}; !slices.Equal(heard, want) {
		t.Errorf("heard %q", heard)
	}
	if !bytes.Equal(pin.Expose(), make([]byte, pin.Len())) {
		t.Error("the PIN is still there")
	}

	for name, c := range map[string]struct {
		kind  string
		p     Plugin
		class error
		says  string
	}{
		"nobody answers": {"ask", Plugin{}, ErrPlugin, ""},
		"asking fails":   {"ask", Plugin{Ask: func(string) (*secret.Bytes, error) { return nil, errors.New("x") }}, ErrPlugin, ""},
		"a wrong PIN":    {"ask", Plugin{Ask: say("1235")}, ErrPlugin, "wrong PIN"},
		"not confirmed":  {"ask", Plugin{Ask: say("1234"), Confirm: func(string, string, string) (bool, error) { return false, nil }}, ErrPlugin, "not touched"},
		"it refuses":     {"sulk", Plugin{}, ErrPlugin, `"the card [2J is locked"`},
		"not its file":   {"none", Plugin{}, unseal.ErrNoIdentity, "plugin none"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := open(c.kind, c.p)
			if got != nil || !errors.Is(err, c.class) || !strings.Contains(err.Error(), c.says) {
				t.Errorf("got %v", err)
			}
			if strings.ContainsAny(err.Error(), "\x1b\n") {
				t.Errorf("the error has control characters: %q", err)
			}
		})
	}
}

// A context that ends, ends the plugin.
func TestPluginHangs(t *testing.T) {
	id, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	ctx, end := context.WithCancel(t.Context())
	ids, err := Load(pluginFile(t, "hang", nil), nil, WithPlugin(Plugin{Program: program(t, "hang"), Say: func(string) { end() }}))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := unseal.NewOpener(ids...).Open(ctx, sealed(t, id.Recipient().String()), binding); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

// What a plugin sees of our environment: nothing that it does not need.
func TestPluginEnvironment(t *testing.T) {
	t.Setenv("STAKESEAL_CANARY", "canary")
	t.Setenv("LD_PRELOAD", "")
	t.Setenv("PATH", "/canary-path:"+os.Getenv("PATH"))
	t.Setenv("PCSCLITE_CSOCK_NAME", "/canary-socket")
	t.Setenv("TPM2TOOLS_TCTI", "/canary-library.so")
	t.Setenv("XDG_RUNTIME_DIR", "/run/x")
	id, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	ids, err := Load(pluginFile(t, "env", nil), nil, WithPlugin(Plugin{Program: program(t, "env")}))
	if err != nil {
		t.Fatal(err)
	}
	_, err = unseal.NewOpener(ids...).Open(t.Context(), sealed(t, id.Recipient().String()), binding)
	if err == nil || !strings.Contains(err.Error(), "XDG_RUNTIME_DIR=/run/x") {
		t.Fatalf("got %v", err)
	}
	for _, bad := range []string{"canary", "LD_PRELOAD", "PCSCLITE", "TPM2TOOLS"} {
		if strings.Contains(err.Error(), bad) {
			t.Errorf("the plugin sees %s: %v", bad, err)
		}
	}
}

// A plugin is never looked up, and not run where others could replace it.
func TestPluginIsRefused(t *testing.T) {
	file := pluginFile(t, "good", []byte("x"))
	inPath := program(t, "good")
	script := func(mode, folder os.FileMode) string {
		dir := filepath.Join(t.TempDir(), "bin")
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(dir, "age-plugin-good")
		if err := os.WriteFile(path, []byte("#!/bin/sh\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(os.Chmod(path, mode), os.Chmod(dir, folder)); err != nil {
			t.Fatal(err)
		}
		return path
	}
	linkTo := func(target string) string {
		path := filepath.Join(t.TempDir(), "age-plugin-good")
		if err := os.Symlink(target, path); err != nil {
			t.Fatal(err)
		}
		return path
	}
	if _, err := Load(file, nil, WithPlugin(Plugin{Program: script(0o755, 0o755)})); err != nil {
		t.Fatalf("a good one: %v", err)
	}

	t.Setenv("PATH", filepath.Dir(inPath)+":"+os.Getenv("PATH"))
	t.Chdir(filepath.Dir(inPath))
	for name, c := range map[string]struct {
		options []Option
		class   error
		says    string
	}{
		"none given, one in $PATH": {nil, ErrPlugin, "age-plugin-good"},
		"one of another name":      {[]Option{WithPlugin(Plugin{Program: program(t, "other")})}, ErrPlugin, "age-plugin-good"},
		"a bare name":              {[]Option{WithPlugin(Plugin{Program: "age-plugin-good"})}, ErrPlugin, "absolute"},
		"a relative path":          {[]Option{WithPlugin(Plugin{Program: "./age-plugin-good"})}, ErrPlugin, "absolute"},
		"dots":                     {[]Option{WithPlugin(Plugin{Program: "/usr/../usr/age-plugin-good"})}, ErrPlugin, "absolute"},
		"absent":                   {[]Option{WithPlugin(Plugin{Program: "/nowhere/age-plugin-good"})}, fs.ErrNotExist, "nowhere"},
		"not executable":           {[]Option{WithPlugin(Plugin{Program: script(0o644, 0o755)})}, ErrPlugin, "not a program"},
		"writable by group":        {[]Option{WithPlugin(Plugin{Program: script(0o775, 0o755)})}, ErrPermissions, "775"},
		"writable by all":          {[]Option{WithPlugin(Plugin{Program: script(0o757, 0o755)})}, ErrPermissions, "757"},
		"folder writable by group": {[]Option{WithPlugin(Plugin{Program: script(0o755, 0o775)})}, ErrPermissions, "775"},
		"folder writable by all":   {[]Option{WithPlugin(Plugin{Program: script(0o755, 0o757)})}, ErrPermissions, "757"},
		"a link to one writable":   {[]Option{WithPlugin(Plugin{Program: linkTo(script(0o775, 0o755))})}, ErrPermissions, "775"},
	} {
		ids, err := Load(file, nil, c.options...)
		if ids != nil || !errors.Is(err, c.class) || !errors.Is(err, ErrPlugin) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v", name, err)
		}
	}

	// Judged again before each start.
	path := script(0o755, 0o755)
	ids, err := Load(file, nil, WithPlugin(Plugin{Program: path}))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, 0o777); err != nil {
		t.Fatal(err)
	}
	if _, err := ids[0].Bind(t.Context(), binding).Unwrap(nil); !errors.Is(err, ErrPermissions) {
		t.Errorf("changed after loading: %v", err)
	}

	// Under AGEDEBUG a plugin may print what it is given.
	if err := os.Chmod(path, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("AGEDEBUG", "plugin")
	if _, err := Load(file, nil, WithPlugin(Plugin{Program: path})); !errors.Is(err, ErrPlugin) || !strings.Contains(err.Error(), "AGEDEBUG") {
		t.Errorf("AGEDEBUG while loading: %v", err)
	}
	if _, err := ids[0].Bind(t.Context(), binding).Unwrap(nil); !errors.Is(err, ErrPlugin) || !strings.Contains(err.Error(), "AGEDEBUG") {
		t.Errorf("AGEDEBUG while opening: %v", err)
	}
	_, native := New(Classic)
	if _, err := Load(write(t, "n.txt", string(native.Expose())), nil); err != nil {
		t.Errorf("AGEDEBUG without a plugin: %v", err)
	}
}

// A plugin that does not keep to the protocol gets nothing done.
func TestPluginMisbehaves(t *testing.T) {
	id, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	file := sealed(t, id.Recipient().String())
	key := "-> file-key 0\nMDEyMzQ1Njc4OWFiY2RlZg\n"
	path := program(t, "raw")
	for name, says := range map[string]string{
		"nothing":                 "",
		"no stanza":               "hello\n",
		"a wrong arrow":           "=> done\n\n",
		"no type":                 "-> \n\n",
		"two spaces":              "->  done\n\n",
		"a control character":     "-> do\x1bne\n\n",
		"a body not base64":       "-> msg\n!!!!\n",
		"a padded body":           "-> msg\nYQ==\n",
		"a long body line":        "-> msg\n" + strings.Repeat("A", 68) + "\n",
		"a body without end":      "-> msg\n" + strings.Repeat("A", 64) + "\n",
		"a line without end":      "-> " + strings.Repeat("A", maxLine+1),
		"a huge body":             "-> msg\n" + strings.Repeat(strings.Repeat("A", 64)+"\n", maxBody/48+2) + "\n",
		"a key for another file":  "-> file-key 1\nMDEyMzQ1Njc4OWFiY2RlZg\n-> done\n\n",
		"a key without index":     "-> file-key\nMDEyMzQ1Njc4OWFiY2RlZg\n-> done\n\n",
		"a short key":             "-> file-key 0\nMDEyMzQ1Njc4OWFiY2Rl\n-> done\n\n",
		"two keys":                key + key + "-> done\n\n",
		"a key and then nothing":  key,
		"a key and then an error": key + "-> error internal\n\n",
		"talk without end":        strings.Repeat("-> grease\n\n", maxTurns+1),
	} {
		ids, err := Load(pluginFile(t, "raw", []byte(says)), nil, WithPlugin(Plugin{Program: path}))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		got, err := unseal.NewOpener(ids...).Open(t.Context(), file, binding)
		if got != nil || !errors.Is(err, ErrPlugin) {
			t.Errorf("%s: %v", name, err)
		}
		if err != nil && strings.Contains(err.Error(), "MDEy") {
			t.Errorf("%s: the error shows the key", name)
		}
	}

	// The right form with a wrong key goes no further than the header's MAC.
	for says, class := range map[string]error{
		key + "-> done\n\n": unseal.ErrDamaged,
		"-> done\n\n":       unseal.ErrNoIdentity,
	} {
		ids, err := Load(pluginFile(t, "raw", []byte(says)), nil, WithPlugin(Plugin{Program: path}))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := unseal.NewOpener(ids...).Open(t.Context(), file, binding); !errors.Is(err, class) {
			t.Errorf("%q: %v", says, err)
		}
	}
}

// What is read as a stanza is written the same, and reads as the same again.
func FuzzStanza(f *testing.F) {
	f.Add([]byte("-> file-key 0\nMDEyMzQ1Njc4OWFiY2RlZg\n"))
	f.Add([]byte("-> msg\n" + strings.Repeat("A", 64) + "\n\n"))
	f.Add([]byte("-> done\n\n"))
	f.Add([]byte("-> a  b\n\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		s, err := readStanza(bufio.NewReaderSize(bytes.NewReader(text), maxLine))
		if err != nil {
			if !errors.Is(err, errStanza) {
				t.Fatal(err)
			}
			return
		}
		var out bytes.Buffer
		if err := s.write(&out); err != nil {
			t.Fatal(err)
		}
		if !bytes.HasPrefix(text, out.Bytes()) {
			t.Fatalf("%q writes as %q", text, out.Bytes())
		}
	})
}

func TestStanzaLengths(t *testing.T) {
	for n := range 200 {
		in := stanza{[]string{"x", "y"}, bytes.Repeat([]byte{byte(n)}, n)}
		var out bytes.Buffer
		if err := in.write(&out); err != nil {
			t.Fatal(err)
		}
		got, err := readStanza(bufio.NewReaderSize(&out, maxLine))
		if err != nil || !slices.Equal(got.args, in.args) || !bytes.Equal(got.body, in.body) || out.Len() != 0 {
			t.Fatalf("body of %d bytes: %v", n, err)
		}
	}
	for _, bad := range []string{"", "a b", "a\n", "ä", "\x7f"} {
		if err := (stanza{args: []string{bad}}).write(&bytes.Buffer{}); err == nil {
			t.Errorf("argument %q was written", bad)
		}
	}
}

func TestPrintable(t *testing.T) {
	for in, want := range map[string]string{
		"plain":                    "plain",
		"\x1b[31mred":              "[31mred",
		"two\nlines":               "two lines",
		"\u202eright to left":      "right to left",
		"ä ok":                     "ä ok",
		"\xff":                     "\ufffd",
		strings.Repeat("a", 10000): strings.Repeat("a", 500),
	} {
		if got := printable([]byte(in)); got != want {
			t.Errorf("%q shows as %q", in, got)
		}
	}
}
