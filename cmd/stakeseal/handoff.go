package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"github.com/stakeseal/stakeseal/eth"
	"github.com/stakeseal/stakeseal/secret"
	"github.com/stakeseal/stakeseal/slashing"
)

// Names of what is written for a client.
const (
	keysFolder      = "keys"
	passwordsFolder = "passwords"
	slashingFile    = "slashing-protection.json"
	keymanagerFile  = "keymanager.json"
)

// client is other signing software: what it takes, and what its operator
// types.
type client struct {
	files bool // keys/ and passwords/, and the slashing-protection file
	body  bool // the body of a keymanager API request
	next  func(folder, network string) []string
}

// clients are those that keystores can be written for. Those that read a
// folder with one password for each keystore are given that; the import
// commands of the others take one password for all, so their keys go through
// the keymanager API, which all of them have.
var clients = map[string]client{
	"web3signer": {files: true, next: func(folder, network string) []string {
		return []string{
			"web3signer eth2 --slashing-protection-db-url=JDBC_URL import --from=" + quoted(folder, slashingFile),
			"web3signer eth2 --network=" + network + " --keystores-path=" + quoted(folder, keysFolder) +
				" --keystores-passwords-path=" + quoted(folder, passwordsFolder) + " --slashing-protection-db-url=JDBC_URL",
		}
	}},
	"teku": {files: true, next: func(folder, network string) []string {
		return []string{
			"teku slashing-protection import --from=" + quoted(folder, slashingFile),
			"teku validator-client --network=" + network + " --validator-keys=" + quoted(folder, keysFolder) + ":" + quoted(folder, passwordsFolder),
		}
	}},
	"lighthouse": {files: true, body: true, next: throughKeymanager("lighthouse validator_client --http", "http://127.0.0.1:5062")},
	"prysm":      {files: true, body: true, next: throughKeymanager("prysm validator --rpc", "http://127.0.0.1:7500")},
	"lodestar":   {files: true, body: true, next: throughKeymanager("lodestar validator --keymanager", "http://127.0.0.1:5062")},
	"nimbus":     {files: true, body: true, next: throughKeymanager("nimbus_beacon_node --keymanager --keymanager-token-file=TOKEN_FILE", "http://127.0.0.1:5052")},
	"keymanager": {body: true, next: throughKeymanager("", "URL")},
}

func clientNames() []string { return slices.Sorted(maps.Keys(clients)) }

// throughKeymanager is how a keymanager API (default address: url) is given
// the body. The token stays out of the command line, which others can read.
func throughKeymanager(start, url string) func(folder, network string) []string {
	return func(folder, _ string) []string {
		var lines []string
		if start != "" {
			lines = append(lines, start+" ...")
		}
		return append(lines, `curl --fail-with-body -X POST `+url+`/eth/v1/keystores -H "Content-Type: application/json" `+
			`-H @AUTHORIZATION_FILE --data @`+quoted(folder, keymanagerFile)+
			"      # AUTHORIZATION_FILE holds the line: Authorization: Bearer TOKEN")
	}
}

// quoted is a path as a shell takes it.
func quoted(parts ...string) string {
	path := filepath.Join(parts...)
	safe := func(r rune) bool {
		return r == '/' || r == '.' || r == '-' || r == '_' || r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z'
	}
	if !strings.ContainsFunc(path, func(r rune) bool { return !safe(r) }) {
		return path
	}
	return "'" + strings.ReplaceAll(path, "'", `'\''`) + "'"
}

// handedFile is a file to be written; its data may be a key's password.
type handedFile struct {
	name string
	data []byte
}

// layout is the keys as the client takes them. The files' data is the keys'
// own and body, which is the caller's to wipe.
func (c client) layout(list []*handed, root eth.Root) (files []handedFile, body *secret.Bytes, err error) {
	interchange, err := newborn(list, root)
	if err != nil {
		return nil, nil, err
	}
	if c.files {
		files = append(files, handedFile{slashingFile, append(slices.Clone(interchange), '\n')})
		for _, k := range list {
			// Web3Signer and Teku look for the keystore's name with .txt.
			password := strings.TrimSuffix(k.file, ".json") + ".txt"
			files = append(files,
				handedFile{filepath.Join(keysFolder, k.file), k.keystore},
				handedFile{filepath.Join(passwordsFolder, password), k.password.Expose()})
		}
	}
	if !c.body {
		return files, nil, nil
	}
	if body, err = keymanagerBody(list, interchange); err != nil {
		return nil, nil, err
	}
	return append(files, handedFile{keymanagerFile, body.Expose()}), body, nil
}

// newborn is the slashing-protection file of the keys: what their signer
// signed, which is nothing for those that none served.
func newborn(list []*handed, root eth.Root) ([]byte, error) {
	marks := make([]slashing.Mark, len(list))
	for i, k := range list {
		marks[i] = k.mark
		marks[i].Pubkey = k.validator.Pubkey
	}
	var file bytes.Buffer
	err := slashing.Write(&file, root, marks)
	return bytes.TrimSpace(file.Bytes()), err
}

// keymanagerBody is the request that imports keystores (keymanager API, POST
// /eth/v1/keystores): texts in JSON. The passwords are put together by hand,
// as encoding/json keeps copies; they are hex digits, which need no escape.
func keymanagerBody(list []*handed, interchange []byte) (*secret.Bytes, error) {
	var stores, end bytes.Buffer
	size := 0
	text := func(to *bytes.Buffer, b []byte) error {
		encoded, err := json.Marshal(string(b))
		if err == nil {
			to.Write(encoded)
		}
		return err
	}
	stores.WriteString(`{"keystores":[`)
	for i, k := range list {
		if i > 0 {
			stores.WriteByte(',')
		}
		if err := text(&stores, k.keystore); err != nil {
			return nil, err
		}
		for _, c := range k.password.Expose() {
			if c <= ' ' || c > '~' || c == '"' || c == '\\' {
				return nil, fmt.Errorf("the password of %v is not of hex digits", k.validator.Pubkey)
			}
		}
		size += k.password.Len() + 3
	}
	stores.WriteString(`],"passwords":[`)
	end.WriteString(`],"slashing_protection":`)
	if err := text(&end, interchange); err != nil {
		return nil, err
	}
	end.WriteString("}\n")

	body := secret.New(stores.Len() + size - 1 + end.Len()) // one comma less than passwords
	w := append(body.Expose()[:0], stores.Bytes()...)
	for i, k := range list {
		if i > 0 {
			w = append(w, ',')
		}
		w = append(append(append(w, '"'), k.password.Expose()...), '"')
	}
	if w = append(w, end.Bytes()...); len(w) != body.Len() {
		secret.Wipe(w)
		body.Wipe()
		return nil, fmt.Errorf("the request has %d bytes, not %d", len(w), body.Len())
	}
	return body, nil
}

func (a *app) reportHandover(h *home, f handoverFlags, c client, folder string, list []*handed) error {
	if a.json {
		type validator struct {
			Order  string     `json:"order"`
			Index  uint32     `json:"index"`
			Pubkey eth.Pubkey `json:"pubkey"`
			Signer string     `json:"assigned_to"`
			File   string     `json:"keystore,omitempty"`
		}
		var rows []validator
		for _, k := range list {
			file := ""
			if c.files {
				file = keysFolder + "/" + k.file
			}
			rows = append(rows, validator{k.validator.Order, k.validator.Index, k.validator.Pubkey, external + f.signer, file})
		}
		return a.object(struct {
			Schema     string      `json:"schema"`
			Network    string      `json:"network"`
			Client     string      `json:"client"`
			Folder     string      `json:"folder"`
			Next       []string    `json:"next"`
			Validators []validator `json:"validators"`
		}{"stakeseal/handover/v1", h.generator.Network.Name, f.client, folder, c.next(folder, h.generator.Network.Name), rows})
	}
	t := newTable(a.out, "ORDER", "INDEX", "PUBKEY", "ASSIGNED TO")
	for _, k := range list {
		t.row(k.validator.Order, fmt.Sprint(k.validator.Index), k.validator.Pubkey.String(), external+f.signer)
	}
	if err := t.flush(); err != nil {
		return err
	}
	a.say("%d keys handed over; their files are in %s", len(list), folder)
	if c.files && c.body {
		a.say("each keystore has its own password, which %s's import command does not take: use its keymanager API", f.client)
	}
	a.say("next, with your own values for the words in capitals:")
	for _, line := range c.next(folder, h.generator.Network.Name) {
		fmt.Fprintln(a.err, "    "+line)
	}
	if c.body {
		a.say("then delete %s: whoever reads it has the keys", folder)
	} else {
		a.say("whoever reads %s has the keys: let only %s read it, and keep no copy", folder, f.client)
	}
	return nil
}
