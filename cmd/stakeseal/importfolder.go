package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"

	"github.com/stakeseal/stakeseal/eth"
	"github.com/stakeseal/stakeseal/eth/keystore"
	"github.com/stakeseal/stakeseal/record"
	"github.com/stakeseal/stakeseal/secret"
)

// Bounds of a folder of keystores.
const (
	maxFolderFiles  = 1 << 20
	maxKeystoreFile = 64 << 10
)

// keystoreFolder is a folder of keystores, and where their passwords are. Both
// are roots: a link in them that leads out is not followed.
type keystoreFolder struct {
	files     *os.Root
	passwords *os.Root      // nil: they are among the files
	one       *secret.Bytes // the password of all; nil: each has its own
}

func (k *keystoreFolder) close() {
	_ = k.files.Close() // only read
	if k.passwords != nil {
		_ = k.passwords.Close()
	}
	k.one.Wipe()
}

// keystoreRow is a file on its way in.
type keystoreRow struct {
	name     string // in the folder, slash-separated
	state    string
	found    []foundIn
	named    eth.Pubkey // that the file names; zero: none
	password string     // the name of its password's file
	facts    record.Imported
	signer   string // that it is assigned to, at the end
	told     bool   // what it signed was taken into that signer's ledger
}

// list finds the keystores of the folder. Files that end in .json and are no
// keystores (deposit data, slashing protection, settings) are passed over and
// counted; what should be one and cannot be read is a row that says so.
func (k *keystoreFolder) list() (rows []*keystoreRow, over int, err error) {
	files := 0
	err = fs.WalkDir(k.files.FS(), ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if name != "." && strings.HasPrefix(d.Name(), ".") { // such as the folders that Kubernetes links to
			if d.IsDir() {
				return fs.SkipDir
			}
			return nil
		}
		if d.IsDir() || !strings.HasSuffix(d.Name(), ".json") {
			return nil
		}
		if files++; files > maxFolderFiles {
			return usage("import a part of it at a time", "the folder has more than %d files", maxFolderFiles)
		}
		row := &keystoreRow{name: name}
		data, err := k.read(name)
		switch {
		case err != nil:
			row.refuse("unreadable", "%s", inOneLine(err))
		case !looksLikeKeystore(name, data):
			over++
			return nil
		default:
			k.parse(row, data)
		}
		rows = append(rows, row)
		return nil
	})
	return rows, over, err
}

// looksLikeKeystore says whether a file means to be a keystore: by its content,
// or by its name where the content is cut short.
func looksLikeKeystore(name string, data []byte) bool {
	var top map[string]json.RawMessage
	if json.Unmarshal(data, &top) == nil {
		return top["crypto"] != nil
	}
	return strings.Contains(strings.ToLower(path.Base(name)), "keystore") && !bytes.HasPrefix(bytes.TrimSpace(data), []byte("["))
}

func (k *keystoreFolder) read(name string) ([]byte, error) {
	// Before it is opened: the open of a pipe waits for whoever writes to it.
	if info, err := k.files.Stat(name); err != nil {
		return nil, err
	} else if !info.Mode().IsRegular() {
		return nil, errors.New("it is no file")
	}
	f, err := k.files.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, maxKeystoreFile+1)) // one byte more is refused by its parser
}

func (k *keystoreFolder) parse(row *keystoreRow, data []byte) {
	parsed, err := keystore.Parse(data)
	if err != nil {
		row.refuse("keystore", "%s", inOneLine(err))
		return
	}
	row.named = parsed.Pubkey()
	row.facts.Source = record.Source{Kind: keystoresKind, Place: short256(row.name), Digest: record.DigestOf(data)}
	if k.one != nil {
		return
	}
	var ok bool
	if row.password, ok = k.passwordOf(row); !ok {
		row.refuse("password-missing", "no file holds its password: %s, or of the name of its folder or pubkey", strings.TrimSuffix(path.Base(row.name), ".json")+".txt")
	}
}

// passwordOf finds the file of a keystore's password, in the ways that clients
// lay them out: NAME.txt beside NAME.json or in the same place below another
// folder (Web3Signer, Teku, our keystore export), or a file named by the
// pubkey, as the keystore's folder is (Lighthouse, Lodestar, Nimbus).
func (k *keystoreFolder) passwordOf(row *keystoreRow) (string, bool) {
	dir, base := path.Dir(row.name), strings.TrimSuffix(path.Base(row.name), ".json")
	names := []string{base + ".txt", base}
	if row.named != (eth.Pubkey{}) {
		names = append(names, row.named.String(), row.named.Hex(), row.named.String()+".txt", row.named.Hex()+".txt")
	}
	if folder := path.Base(dir); folder != "." {
		names = append(names, folder, folder+".txt")
	}
	root, places := k.passwords, []string{dir, "."}
	if root == nil {
		root, places = k.files, []string{dir, "passwords", "secrets"}
	}
	for _, place := range places {
		for _, name := range names {
			at := path.Join(place, name)
			if info, err := root.Stat(at); err == nil && info.Mode().IsRegular() {
				return at, true
			}
		}
	}
	return "", false
}

// openPassword is a row's password, the caller's to wipe.
func (k *keystoreFolder) openPassword(row *keystoreRow) (*secret.Bytes, error) {
	if k.one != nil {
		return secret.Copy(k.one.Expose()), nil
	}
	root := k.passwords
	if root == nil {
		root = k.files
	}
	f, err := root.Open(row.password)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	all, err := readWhole(f, "password", maxSecretFile)
	if err != nil {
		return nil, err
	}
	defer all.Wipe()
	return onlyLine(all, "password")
}

// open reads a row's file once more, which must be the one that was looked at,
// and its password, the caller's to wipe.
func (k *keystoreFolder) open(row *keystoreRow) (data []byte, password *secret.Bytes, err error) {
	if data, err = k.read(row.name); err != nil {
		return nil, nil, err
	}
	if record.DigestOf(data) != row.facts.Source.Digest {
		return nil, nil, errors.New("it was changed meanwhile")
	}
	password, err = k.openPassword(row)
	return data, password, err
}
