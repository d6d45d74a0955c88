// Package canary searches for secrets where none may be. It is test support:
// the demonstration and the tests of guarantee G3 open every secret of a
// story with its identities, and then look for it in everything that the
// story wrote.
package canary

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io/fs"
	"math/big"
	"os"
	"path/filepath"
	"strings"
)

// Needles are the forms that secrets could stand in.
type Needles struct {
	forms map[string]string // bytes to what they are
	index map[[8]byte][]string
}

// Add adds a secret in every form: raw, hex in both cases, base64 and
// base64url (at each of the three alignments), and decimal. Secrets shorter
// than 12 bytes would be found by chance and are refused.
func (n *Needles) Add(name string, secret []byte) {
	if len(secret) < 12 {
		panic("canary: " + name + " is too short to search for")
	}
	n.add(name+" raw", secret)
	n.add(name+" hex", []byte(hex.EncodeToString(secret)))
	n.add(name+" HEX", []byte(strings.ToUpper(hex.EncodeToString(secret))))
	for skip := range 3 {
		// In the middle of a longer base64 text the secret begins at one of
		// three alignments; the characters at its edges depend on neighbours.
		padded := append(bytes.Repeat([]byte{0}, skip), secret...)
		text := base64.RawStdEncoding.EncodeToString(padded)
		first, last := (8*skip+5)/6, len(text)-2
		n.add(fmt.Sprintf("%s base64/%d", name, skip), []byte(text[first:last]))
		text = base64.RawURLEncoding.EncodeToString(padded)
		n.add(fmt.Sprintf("%s base64url/%d", name, skip), []byte(text[first:last]))
	}
	n.add(name+" decimal", []byte(new(big.Int).SetBytes(secret).String()))
}

func (n *Needles) add(name string, form []byte) {
	if n.forms == nil {
		n.forms = map[string]string{}
		n.index = map[[8]byte][]string{}
	}
	text := string(form)
	if _, ok := n.forms[text]; ok {
		return
	}
	n.forms[text] = name
	key := [8]byte(form[:8])
	n.index[key] = append(n.index[key], text)
}

// Len is the number of forms.
func (n *Needles) Len() int { return len(n.forms) }

// In returns the names of the forms that occur in data.
func (n *Needles) In(data []byte) (found []string) {
	for i := 0; i+8 <= len(data); i++ {
		for _, text := range n.index[[8]byte(data[i:i+8])] {
			if strings.HasPrefix(string(data[i:min(len(data), i+len(text))]), text) {
				found = append(found, n.forms[text])
			}
		}
	}
	return found
}

// InTree searches every file below dir, names included, and returns what it
// found and how many bytes it read.
func (n *Needles) InTree(dir string) (found []string, read int64, err error) {
	err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		for _, name := range n.In([]byte(path)) {
			found = append(found, path+" (its name): "+name)
		}
		if !d.Type().IsRegular() {
			return nil
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		read += int64(len(data))
		for _, name := range n.In(data) {
			found = append(found, path+": "+name)
		}
		return nil
	})
	return found, read, err
}

// Forms returns every form, so that a search can be shown to find them.
func (n *Needles) Forms() (all [][]byte) {
	for form := range n.forms {
		all = append(all, []byte(form))
	}
	return all
}
