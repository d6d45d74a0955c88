// Package identity makes, writes and reads the files that hold an opener's
// identities: age identity files, as age-keygen makes them and age -d reads
// them, in the clear or encrypted as a whole with a passphrase (age -p).
//
// It promises: a file that others on the machine could read is not used; a
// file is written once, whole and readable by its owner only, or not at all;
// no error repeats a line of a file; a program is started only if its absolute
// path was given, and never looked up.
//
// It trusts the file system's permissions, and a plugin that it was told to
// run. It is the only package that starts a program to open something.
//
// What stays in memory: age takes and gives identities and passphrases as
// strings, which nobody can wipe, and the pipe to a plugin is read through a
// buffer that keeps the file key in base64. Openers are processes that cannot
// be dumped and do not swap.
package identity

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"time"

	"filippo.io/age"
	"filippo.io/age/armor"

	"github.com/stakeseal/stakeseal/secret"
	"github.com/stakeseal/stakeseal/unseal"
)

// Sentinels; compare with errors.Is.
var (
	// ErrPermissions: somebody other than the owner may read or change it.
	ErrPermissions = errors.New("others may read or change it")
	// ErrFormat: not an identity file, or one with a line that is no identity.
	ErrFormat = errors.New("not an identity file")
	// ErrPassphrase: the passphrase does not open the file.
	ErrPassphrase = errors.New("wrong passphrase")
	// ErrPlugin: an identity that needs a program which was not given, may not
	// be run, or did not keep to the protocol.
	ErrPlugin = errors.New("age plugin can't be used")
)

// maxFile bounds an identity file. A post-quantum identity with its comments
// takes 2.2 KB.
const maxFile = 1 << 20

// Kind is the algorithm of a new identity.
type Kind string

const (
	PostQuantum Kind = "postquantum" // ML-KEM-768 with X25519, age1pq1...
	Classic     Kind = "classic"     // X25519, age1...
)

// New makes an identity. recipient is its public half as text; file is the
// text of an identity file in age-keygen's form, the caller's to wipe. It
// panics for another Kind, and if the system has no randomness.
func New(kind Kind) (recipient string, file *secret.Bytes) {
	var private string
	switch kind {
	case PostQuantum:
		id, err := age.GenerateHybridIdentity()
		if err != nil {
			panic("identity: " + err.Error())
		}
		recipient, private = id.Recipient().String(), id.String()
	case Classic:
		id, err := age.GenerateX25519Identity()
		if err != nil {
			panic("identity: " + err.Error())
		}
		recipient, private = id.Recipient().String(), id.String()
	default:
		panic(fmt.Sprintf("identity: unknown kind %q", string(kind)))
	}
	head := "# created: " + time.Now().UTC().Format(time.RFC3339) + "\n# public key: " + recipient + "\n"
	file = secret.New(len(head) + len(private) + 1)
	b := file.Expose()
	copy(b[copy(b, head):], private)
	b[len(b)-1] = '\n'
	return recipient, file
}

// Option changes what Load accepts.
type Option func(*loader)

type loader struct{ plugins []Plugin }

// WithPlugin lets Load take AGE-PLUGIN-... identities of the one plugin that p
// names. Without it they are refused.
func WithPlugin(p Plugin) Option { return func(l *loader) { l.plugins = append(l.plugins, p) } }

// Load reads an identity file. ask is called at most once, for the passphrase
// of an encrypted file, and may be nil where none is expected; Load wipes what
// it returns. Each identity names itself by file and public half.
func Load(path string, ask func(prompt string) (*secret.Bytes, error), options ...Option) ([]unseal.Identity, error) {
	var l loader
	for _, o := range options {
		o(&l)
	}
	text, err := read(path)
	if err != nil {
		return nil, fmt.Errorf("couldn't load identity file %q: %w", path, err)
	}
	defer text.Wipe()
	head := bytes.TrimSpace(text.Expose())
	armored := bytes.HasPrefix(head, []byte(armor.Header))
	if armored || bytes.HasPrefix(head, []byte("age-encryption.org/")) {
		opened, err := decrypt(path, text.Expose(), armored, ask)
		if err != nil {
			return nil, fmt.Errorf("couldn't load identity file %q: %w", path, err)
		}
		defer opened.Wipe()
		text = opened
	}
	ids, err := l.parse(path, text.Expose())
	if err != nil {
		return nil, fmt.Errorf("couldn't load identity file %q: %w", path, err)
	}
	return ids, nil
}

// read judges the open file, not the name, which could come to mean another
// file in between.
func read(path string) (*secret.Bytes, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, withoutPath(err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, withoutPath(err)
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%w: it is not a regular file", ErrFormat)
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return nil, fmt.Errorf("%w: its mode is %#o; run chmod 600 on it, and consider whether somebody has read it already", ErrPermissions, mode)
	}
	if info.Size() > maxFile {
		return nil, fmt.Errorf("%w: %d bytes, at most %d", ErrFormat, info.Size(), maxFile)
	}
	text := secret.New(int(info.Size()))
	if _, err := io.ReadFull(f, text.Expose()); err != nil {
		text.Wipe()
		return nil, fmt.Errorf("it changed while being read: %w", withoutPath(err))
	}
	return text, nil
}

// withoutPath keeps the path from standing in an error twice.
func withoutPath(err error) error {
	if p, ok := errors.AsType[*fs.PathError](err); ok {
		return p.Err
	}
	return err
}

// decrypt opens a passphrase-encrypted file.
func decrypt(path string, file []byte, armored bool, ask func(string) (*secret.Bytes, error)) (*secret.Bytes, error) {
	var src io.Reader = bytes.NewReader(file)
	if armored {
		src = armor.NewReader(src)
	}
	p := &passphrase{path: path, ask: ask}
	r, err := age.Decrypt(src, p)
	switch {
	case p.err != nil:
		return nil, p.err
	case err != nil:
		// age's text may quote the file.
		return nil, fmt.Errorf("%w: its encryption is damaged", ErrFormat)
	}
	opened := secret.New(len(file))
	n := 0
	for {
		k, err := r.Read(opened.Expose()[n:])
		n += k
		if err == io.EOF {
			break
		}
		if err != nil || n == len(file) { // a plaintext is shorter than its file
			opened.Wipe()
			return nil, fmt.Errorf("%w: its encryption is damaged", ErrFormat)
		}
	}
	defer opened.Wipe()
	return secret.Copy(opened.Expose()[:n]), nil
}

// passphrase asks only for a file that is encrypted with one.
type passphrase struct {
	path string
	ask  func(string) (*secret.Bytes, error)
	err  error
}

func (p *passphrase) Unwrap(stanzas []*age.Stanza) (key []byte, err error) {
	defer func() { p.err = err }()
	if len(stanzas) != 1 || stanzas[0].Type != "scrypt" {
		return nil, fmt.Errorf("%w: it is encrypted, but not with a passphrase", ErrFormat)
	}
	if p.ask == nil {
		return nil, fmt.Errorf("%w: it is encrypted, and there is nobody to ask for the passphrase", ErrPassphrase)
	}
	answer, err := p.ask(fmt.Sprintf("passphrase of identity file %q: ", p.path))
	if err != nil {
		return nil, fmt.Errorf("couldn't read the passphrase: %w", err)
	}
	defer answer.Wipe()
	if answer.Len() == 0 {
		return nil, fmt.Errorf("%w: it is empty", ErrPassphrase)
	}
	id, err := age.NewScryptIdentity(string(answer.Expose()))
	if err != nil {
		return nil, fmt.Errorf("%w: it can't be used", ErrPassphrase)
	}
	// age's own bound of 2^22 (4 GiB) stays: what age opens, we open, and the
	// file passed the permission check.
	key, err = id.Unwrap(stanzas)
	if errors.Is(err, age.ErrIncorrectIdentity) {
		return nil, ErrPassphrase
	}
	if err != nil {
		return nil, fmt.Errorf("%w: its passphrase stanza is malformed or asks for too much work", ErrFormat)
	}
	return key, nil
}

// parse reads lines: identities, comments and blank ones. It fails on any
// other: a half-understood file would open less than its owner thinks.
func (l *loader) parse(path string, text []byte) (ids []unseal.Identity, err error) {
	if bytes.HasPrefix(bytes.TrimSpace(text), []byte("-----BEGIN")) {
		return nil, fmt.Errorf("%w: it is a PEM file; ssh keys are not used for opening, make an age identity", ErrFormat)
	}
	number := 0
	for line := range bytes.Lines(text) {
		number++
		line = bytes.TrimRight(line, "\r\n")
		if len(line) == 0 || line[0] == '#' {
			continue
		}
		id, err := l.one(path, line)
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", number, err)
		}
		ids = append(ids, id)
	}
	if len(ids) == 0 {
		return nil, fmt.Errorf("%w: it has no identity", ErrFormat)
	}
	return ids, nil
}

func (l *loader) one(path string, line []byte) (unseal.Identity, error) {
	has := func(prefix string) bool { return bytes.HasPrefix(line, []byte(prefix)) }
	switch {
	case has("AGE-SECRET-KEY-PQ-1"):
		id, err := age.ParseHybridIdentity(string(line))
		if err != nil {
			return nil, fmt.Errorf("%w: a malformed post-quantum identity", ErrFormat)
		}
		return unseal.Age(id, name(path, id.Recipient().String())), nil
	case has("AGE-SECRET-KEY-1"):
		id, err := age.ParseX25519Identity(string(line))
		if err != nil {
			return nil, fmt.Errorf("%w: a malformed identity", ErrFormat)
		}
		return unseal.Age(id, name(path, id.Recipient().String())), nil
	case has("AGE-PLUGIN-"):
		return l.plugin(path, string(line))
	case has("age1"):
		return nil, fmt.Errorf("%w: this is a recipient, the public half", ErrFormat)
	}
	return nil, fmt.Errorf("%w: the line is no age identity", ErrFormat)
}

// name is what an identity is called in errors: file and begin of its public
// half, as a post-quantum one has 1,959 characters.
func name(path, public string) string {
	const enough = 20
	if len(public) > enough {
		public = public[:enough] + "..."
	}
	return strings.ToValidUTF8(path, "?") + " (" + public + ")"
}
