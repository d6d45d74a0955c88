package identity

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"filippo.io/age"
	"filippo.io/age/armor"

	"github.com/stakeseal/stakeseal/seal"
	"github.com/stakeseal/stakeseal/secret"
	"github.com/stakeseal/stakeseal/unseal"
)

var binding = seal.RecoveryBinding("hoodi", "order-1", "m-0123456789abcdef")

const body = "mnemonic: legal winner thank yellow\n"

func sealed(t testing.TB, recipient string) []byte {
	t.Helper()
	r, err := seal.ParseRecipient(recipient)
	if err != nil {
		t.Fatal(err)
	}
	list, err := seal.NewRecipients(seal.Recovery, seal.Named{Name: "anna", Recipient: r})
	if err != nil {
		t.Fatal(err)
	}
	file, err := list.Seal(t.Context(), binding, secret.Copy([]byte(body)))
	if err != nil {
		t.Fatal(err)
	}
	return file
}

func opens(t *testing.T, ids []unseal.Identity, recipient string) {
	t.Helper()
	got, err := unseal.NewOpener(ids...).Open(t.Context(), sealed(t, recipient), binding)
	if err != nil || string(got.Expose()) != body {
		t.Errorf("opened %d bytes, %v", got.Len(), err)
	}
}

func TestNewWriteLoad(t *testing.T) {
	fast(t)
	for _, kind := range []Kind{PostQuantum, Classic} {
		for _, passphrase := range []string{"", "correct horse"} {
			t.Run(fmt.Sprintf("%s with %q", kind, passphrase), func(t *testing.T) {
				recipient, file := New(kind)
				lines := strings.Split(string(file.Expose()), "\n")
				if len(lines) != 4 || !strings.HasPrefix(lines[0], "# created: 2") || lines[1] != "# public key: "+recipient || !strings.HasPrefix(lines[2], "AGE-SECRET-KEY-") || lines[3] != "" {
					t.Error("not in age-keygen's form")
				}
				if pq := strings.HasPrefix(recipient, "age1pq1"); pq != (kind == PostQuantum) {
					t.Errorf("recipient %.20s", recipient)
				}
				path := filepath.Join(t.TempDir(), "anna.txt")
				var p *secret.Bytes
				if passphrase != "" {
					p = secret.Copy([]byte(passphrase))
				}
				if err := WriteNew(path, file, p); err != nil {
					t.Fatal(err)
				}
				info, err := os.Stat(path)
				if err != nil || info.Mode() != 0o600 {
					t.Errorf("mode %v, %v", info.Mode(), err)
				}
				if got := entries(t, filepath.Dir(path)); len(got) != 1 {
					t.Errorf("the folder has %v", got)
				}
				written, err := os.ReadFile(path)
				if err != nil {
					t.Fatal(err)
				}
				if passphrase == "" && !bytes.Equal(written, file.Expose()) {
					t.Error("written with changes")
				}
				if passphrase != "" && (!bytes.HasPrefix(written, []byte(armor.Header)) || bytes.Contains(written, []byte("SECRET"))) {
					t.Error("not encrypted and armored")
				}
				asked := 0
				ids, err := Load(path, func(prompt string) (*secret.Bytes, error) {
					asked++
					if !strings.Contains(prompt, path) {
						t.Errorf("prompt %q", prompt)
					}
					return secret.Copy([]byte(passphrase)), nil
				})
				if err != nil || len(ids) != 1 {
					t.Fatalf("%d identities, %v", len(ids), err)
				}
				if want := min(len(passphrase), 1); asked != want {
					t.Errorf("asked %d times", asked)
				}
				opens(t, ids, recipient)
				if s := ids[0].String(); !strings.Contains(s, path) || !strings.Contains(s, recipient[:20]) || strings.Contains(s, "SECRET") || len(s) > len(path)+40 {
					t.Errorf("named %q", s)
				}
			})
		}
	}
	defer func() {
		if recover() == nil {
			t.Error("an unknown kind made something")
		}
	}()
	New("quantum")
}

// With age's own programs, both ways.
func TestAgePrograms(t *testing.T) {
	fast(t)
	for _, kind := range []Kind{PostQuantum, Classic} {
		t.Run(string(kind), func(t *testing.T) {
			dir := t.TempDir()

			// Our identity opens our file in the hands of age alone.
			recipient, file := New(kind)
			ours := filepath.Join(dir, "ours.txt")
			if err := WriteNew(ours, file, nil); err != nil {
				t.Fatal(err)
			}
			sealing := filepath.Join(dir, "sealing.age")
			if err := os.WriteFile(sealing, sealed(t, recipient), 0o600); err != nil {
				t.Fatal(err)
			}
			want := "stakeseal sealed recovery v1\nnetwork: hoodi\norder: order-1\nmnemonic-id: m-0123456789abcdef\n\n" + body
			if got := string(tool(t, nil, "age", "-d", "-i", ours, sealing)); got != want {
				t.Errorf("age shows %q", got)
			}
			if got := strings.TrimSpace(string(tool(t, nil, "age-keygen", "-y", ours))); got != recipient {
				t.Errorf("age-keygen -y shows %.30s", got)
			}

			// Encrypted with a passphrase as well.
			locked := filepath.Join(dir, "locked.txt")
			if err := WriteNew(locked, file, secret.Copy([]byte("correct horse"))); err != nil {
				t.Fatal(err)
			}
			if got := tool(t, []string{"AGE_PASSPHRASE=correct horse"}, "age", "-d", "-j", "batchpass", locked); !bytes.Equal(got, file.Expose()) {
				t.Error("age decrypts it to something else")
			}

			// age-keygen's identity loads, in the clear and encrypted by age.
			theirs := filepath.Join(dir, "theirs.txt")
			args := []string{"-o", theirs}
			if kind == PostQuantum {
				args = append(args, "-pq")
			}
			tool(t, nil, "age-keygen", args...)
			public := strings.TrimSpace(string(tool(t, nil, "age-keygen", "-y", theirs)))
			ids, err := Load(theirs, nil)
			if err != nil {
				t.Fatal(err)
			}
			opens(t, ids, public)
			for _, flags := range [][]string{{"-e"}, {"-e", "-a"}} {
				path := filepath.Join(dir, "encrypted"+strings.Join(flags, ""))
				tool(t, []string{"AGE_PASSPHRASE=battery", "AGE_PASSPHRASE_WORK_FACTOR=4"}, "age", append(flags, "-j", "batchpass", "-o", path, theirs)...)
				if err := os.Chmod(path, 0o600); err != nil {
					t.Fatal(err)
				}
				ids, err := Load(path, say("battery"))
				if err != nil {
					t.Fatal(err)
				}
				opens(t, ids, public)
			}
		})
	}
}

// Guessing a passphrase costs what age -p makes it cost.
func TestWorkFactor(t *testing.T) {
	_, file := New(Classic)
	data, err := encrypt(file, secret.Copy([]byte("p")))
	if err != nil {
		t.Fatal(err)
	}
	clear, err := io.ReadAll(armor.NewReader(bytes.NewReader(data)))
	if err != nil {
		t.Fatal(err)
	}
	stanza := strings.Fields(strings.Split(string(clear), "\n")[1])
	if len(stanza) != 4 || stanza[1] != "scrypt" || stanza[3] != "18" {
		t.Errorf("stanza %q", stanza)
	}
}

func TestLoadRefuses(t *testing.T) {
	fast(t)
	_, pq := New(PostQuantum)
	recipient, classic := New(Classic)
	private := strings.Split(string(classic.Expose()), "\n")[2]
	dir := t.TempDir()
	locked := filepath.Join(dir, "locked.txt")
	if err := WriteNew(locked, classic, secret.Copy([]byte("correct horse"))); err != nil {
		t.Fatal(err)
	}
	armored, err := os.ReadFile(locked)
	if err != nil {
		t.Fatal(err)
	}
	damaged := bytes.Clone(armored)
	damaged[len(damaged)/2] ^= 1
	toKey := sealed(t, recipient)
	refusal := errors.New("no terminal")

	for _, c := range []struct {
		name, text string
		ask        func(string) (*secret.Bytes, error)
		class      error
		says       string
	}{
		{"empty", "", nil, ErrFormat, "no identity"},
		{"comments only", "# created\n\n", nil, ErrFormat, "no identity"},
		{"a recipient", "# x\n" + recipient + "\n", nil, ErrFormat, "line 2"},
		{"a bad line after a good one", string(classic.Expose()) + "password1\n", nil, ErrFormat, "line 4"},
		{"mistyped", strings.Replace(private, "KEY-1", "KEY-1Q", 1), nil, ErrFormat, "line 1"},
		{"cut", private[:40], nil, ErrFormat, "line 1"},
		{"lower case", strings.ToLower(private), nil, ErrFormat, "line 1"},
		{"indented", " " + private, nil, ErrFormat, "line 1"},
		{"hybrid cut", strings.Split(string(pq.Expose()), "\n")[2][:60], nil, ErrFormat, "post-quantum"},
		{"an ssh key", "-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXk=\n", nil, ErrFormat, "ssh"},
		{"words", "legal winner thank yellow", nil, ErrFormat, "line 1"},
		{"a NUL", private + "\x00", nil, ErrFormat, "line 1"},
		{"a plugin identity", "AGE-PLUGIN-YUBIKEY-1QQQSYQCYQ5RQWZQFPG9SCRGWPUGP", nil, ErrFormat, "malformed plugin"},
		{"too large", strings.Repeat("#\n", maxFile), nil, ErrFormat, "at most"},
		{"wrong passphrase", string(armored), say("correct mule"), ErrPassphrase, "wrong"},
		{"empty passphrase", string(armored), say(""), ErrPassphrase, "empty"},
		{"nobody to ask", string(armored), nil, ErrPassphrase, "nobody"},
		{"asking fails", string(armored), func(string) (*secret.Bytes, error) { return nil, refusal }, refusal, "no terminal"},
		{"damaged armor", string(damaged), say("correct horse"), ErrFormat, "damaged"},
		{"cut armor", string(armored[:len(armored)-60]), say("correct horse"), ErrFormat, "damaged"},
		{"encrypted to a key", string(toKey), say("correct horse"), ErrFormat, "not with a passphrase"},
		{"nothing behind the intro", "age-encryption.org/v1\n", say("x"), ErrFormat, "damaged"},
	} {
		t.Run(c.name, func(t *testing.T) {
			ids, err := Load(write(t, "id.txt", c.text), c.ask)
			if ids != nil || !errors.Is(err, c.class) || !strings.Contains(err.Error(), c.says) {
				t.Fatalf("got %v, %v", ids, err)
			}
			for _, leak := range []string{private[16:30], strings.ToLower(private[16:30]), "legal winner", "password1", "correct"} {
				if strings.Contains(err.Error(), leak) {
					t.Errorf("the error shows the file or the passphrase: %v", err)
				}
			}
		})
	}

	if _, err := Load(filepath.Join(dir, "absent"), nil); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("absent: %v", err)
	}
	if _, err := Load(dir, nil); !errors.Is(err, ErrFormat) {
		t.Errorf("a folder: %v", err)
	}
}

func TestSeveralIdentities(t *testing.T) {
	r1, f1 := New(PostQuantum)
	r2, f2 := New(Classic)
	path := write(t, "both.txt", string(f1.Expose())+"\r\n"+strings.ReplaceAll(string(f2.Expose()), "\n", "\r\n"))
	ids, err := Load(path, nil)
	if err != nil || len(ids) != 2 {
		t.Fatalf("%d, %v", len(ids), err)
	}
	opens(t, ids, r1)
	opens(t, ids, r2)
}

func TestPermissions(t *testing.T) {
	_, file := New(Classic)
	path := write(t, "id.txt", string(file.Expose()))
	for mode, good := range map[os.FileMode]bool{
		0o600: true, 0o400: true, 0o700: true,
		0o640: false, 0o604: false, 0o644: false, 0o660: false, 0o620: false, 0o602: false, 0o610: false, 0o666: false,
	} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		_, err := Load(path, nil)
		if good && err != nil {
			t.Errorf("mode %#o: %v", mode, err)
		}
		if !good && (!errors.Is(err, ErrPermissions) || !strings.Contains(err.Error(), "chmod 600")) {
			t.Errorf("mode %#o: %v", mode, err)
		}
	}
	// Through a link it is the file's own mode that counts.
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(path, link); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(link, nil); !errors.Is(err, ErrPermissions) {
		t.Errorf("through a link: %v", err)
	}
}

func TestWriteNewRefuses(t *testing.T) {
	fast(t)
	recipient, file := New(Classic)
	for name, c := range map[string]struct {
		file       *secret.Bytes
		passphrase *secret.Bytes
		class      error
	}{
		"nothing":           {nil, nil, ErrFormat},
		"comments":          {secret.Copy([]byte("# x\n")), nil, ErrFormat},
		"a recipient":       {secret.Copy([]byte(recipient)), nil, ErrFormat},
		"words":             {secret.Copy([]byte("legal winner")), nil, ErrFormat},
		"a bad plugin line": {secret.Copy([]byte("AGE-PLUGIN-X-1QQQQ")), nil, ErrFormat},
		"too large":         {secret.Copy(bytes.Repeat([]byte("#\n"), maxFile)), nil, ErrFormat},
		"empty passphrase":  {file, secret.New(0), ErrPassphrase},
	} {
		dir := t.TempDir()
		err := WriteNew(filepath.Join(dir, "id.txt"), c.file, c.passphrase)
		if !errors.Is(err, c.class) || len(entries(t, dir)) != 0 {
			t.Errorf("%s: %v, folder %v", name, err, entries(t, dir))
		}
		if err != nil && strings.Contains(err.Error(), "legal") {
			t.Errorf("%s: the error shows the file: %v", name, err)
		}
	}

	// What is there stays, be it a file, a folder or a link to nowhere.
	dir := t.TempDir()
	path := filepath.Join(dir, "id.txt")
	for name, make := range map[string]func() error{
		"a file":            func() error { return os.WriteFile(path, []byte("old"), 0o600) },
		"a folder":          func() error { return os.Mkdir(path, 0o700) },
		"a link to nowhere": func() error { return os.Symlink(filepath.Join(dir, "nowhere"), path) },
	} {
		if err := make(); err != nil {
			t.Fatal(err)
		}
		if err := WriteNew(path, file, nil); !errors.Is(err, fs.ErrExist) || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v", name, err)
		}
		if got := entries(t, dir); len(got) != 1 {
			t.Errorf("%s: the folder has %v", name, got)
		}
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
	}
	if err := WriteNew(filepath.Join(dir, "absent", "id.txt"), file, nil); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no folder: %v", err)
	}
}

// Whatever the umask, 0600.
func TestWriteNewMode(t *testing.T) {
	_, file := New(Classic)
	for _, mask := range []int{0, 0o777} {
		path := filepath.Join(t.TempDir(), "id.txt")
		old := syscall.Umask(mask)
		err := WriteNew(path, file, nil)
		syscall.Umask(old)
		if err != nil {
			t.Fatal(err)
		}
		if info, err := os.Stat(path); err != nil || info.Mode() != 0o600 {
			t.Errorf("umask %#o: mode %v, %v", mask, info.Mode(), err)
		}
	}
}

// A disk that fills up leaves nothing behind: no file, no hidden one.
func TestWriteNewOnAFullDisk(t *testing.T) {
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	out, err := exec.Command(program, "write-under-limit", filepath.Join(dir, "id.txt")).CombinedOutput()
	if err != nil || !strings.Contains(string(out), "couldn't write identity file") || !strings.Contains(string(out), "file too large") {
		t.Fatalf("the child says %s (%v)", out, err)
	}
	if got := entries(t, dir); len(got) != 0 {
		t.Errorf("left behind: %v", got)
	}
}

// Of many writers one wins, and its file is whole.
func TestWriteNewRace(t *testing.T) {
	path := filepath.Join(t.TempDir(), "id.txt")
	var mu sync.Mutex
	var winners []string
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			_, file := New(Classic)
			switch err := WriteNew(path, file, nil); {
			case err == nil:
				mu.Lock()
				winners = append(winners, string(file.Expose()))
				mu.Unlock()
			case !errors.Is(err, fs.ErrExist):
				t.Error(err)
			}
		})
	}
	wg.Wait()
	got, err := os.ReadFile(path)
	if err != nil || len(winners) != 1 || winners[0] != string(got) {
		t.Errorf("%d winners, %v", len(winners), err)
	}
	if got := entries(t, filepath.Dir(path)); len(got) != 1 {
		t.Errorf("the folder has %v", got)
	}
}

// Load wipes the passphrase it was given.
func TestLoadWipesThePassphrase(t *testing.T) {
	fast(t)
	_, file := New(Classic)
	path := filepath.Join(t.TempDir(), "id.txt")
	if err := WriteNew(path, file, secret.Copy([]byte("correct horse"))); err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"correct horse", "correct mule!"} {
		given := []byte(text)
		_, _ = Load(path, func(string) (*secret.Bytes, error) { return secret.Take(given), nil })
		if !bytes.Equal(given, make([]byte, len(given))) {
			t.Errorf("%q is still there", text)
		}
	}
}

func FuzzParse(f *testing.F) {
	_, pq := New(PostQuantum)
	_, classic := New(Classic)
	f.Add(pq.Expose())
	f.Add(classic.Expose())
	f.Add([]byte("# x\nAGE-PLUGIN-YUBIKEY-1QQQ\nage1qqq\n"))
	f.Add([]byte("-----BEGIN OPENSSH PRIVATE KEY-----\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		ids, err := new(loader).parse("id.txt", text)
		if (err == nil) != (len(ids) > 0) {
			t.Fatalf("%d identities, %v", len(ids), err)
		}
		if err != nil && (!errors.Is(err, ErrFormat) && !errors.Is(err, ErrPlugin) || len(err.Error()) > 300) {
			t.Fatalf("%v", err)
		}
		// WriteNew takes what Load takes, and plugin lines besides.
		if err == nil && check(text) != nil {
			t.Fatalf("loads, but would not be written: %v", check(text))
		}
		if err == nil {
			if n, ageErr := age.ParseIdentities(bytes.NewReader(text)); ageErr != nil || len(n) != len(ids) {
				t.Fatalf("age reads %d identities, not %d: %v", len(n), len(ids), ageErr)
			}
		}
	})
}
