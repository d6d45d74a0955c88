package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io/fs"
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
	keystore func(*handed) string // where a key's keystore is, and its password; nil: in no file
	password func(*handed) string
	body     bool // the body of a keymanager API request
	data     bool // the folder is a data directory of the client's
	next     func(folder, network string) []string
}

// mode is that of the client's files. In its own data directory a client may
// want to write: Nimbus opens a keystore for writing to lock it, and does not
// load one that it cannot (beacon_chain/filepath.nim, openLockedFile).
func (c client) mode() fs.FileMode {
	if c.data {
		return 0o600
	}
	return 0o400
}

// clients are those that keystores can be written for, each in the layout that
// it reads with one password for each keystore: those that take a folder of
// passwords (Web3Signer, Teku, by the keystore's name), those whose data
// directory is laid out by pubkey (Lighthouse and Lodestar voting-keystore.json,
// Nimbus keystore.json, the password below secrets under the pubkey), and Prysm,
// whose import takes a single keystore and the file of its password.
var clients = map[string]client{
	"web3signer": {keystore: inKeys, password: inPasswords, next: func(folder, network string) []string {
		return []string{
			"web3signer eth2 --slashing-protection-db-url=JDBC_URL import --from=" + quoted(folder, slashingFile),
			"web3signer eth2 --network=" + network + " --keystores-path=" + quoted(folder, keysFolder) +
				" --keystores-passwords-path=" + quoted(folder, passwordsFolder) + " --slashing-protection-db-url=JDBC_URL",
		}
	}},
	"teku": {keystore: inKeys, password: inPasswords, next: func(folder, network string) []string {
		begin, keys := "", quoted(folder, keysFolder)+":"+quoted(folder, passwordsFolder)
		if strings.ContainsAny(folder, ":;,") { // which part what it is given
			begin, keys = "cd "+quoted(folder)+" && ", keysFolder+":"+passwordsFolder
		}
		return []string{
			"teku slashing-protection import --data-path=DATA_PATH --from=" + quoted(folder, slashingFile),
			begin + "teku validator-client --network=" + network + " --data-path=DATA_PATH --validator-keys=" + keys,
		}
	}},
	"prysm": {keystore: inKeys, password: inPasswords, next: func(folder, network string) []string {
		chain := "--" + network
		switch network {
		case "mainnet", "sepolia", "hoodi":
		default:
			chain = "--chain-config-file=CHAIN_CONFIG_FILE"
		}
		return []string{
			"prysm.sh validator slashing-protection-history import " + chain + " --datadir=DATADIR --slashing-protection-json-file=" + quoted(folder, slashingFile),
			"for k in " + quoted(folder, keysFolder) + "/*.json; do prysm.sh validator accounts import " + chain +
				" --wallet-dir=WALLET_DIR --wallet-password-file=WALLET_PASSWORD_FILE --keys-dir=\"$k\" --account-password-file=" +
				quoted(folder, passwordsFolder) + "/\"$(basename \"$k\" .json)\".txt; done",
		}
	}},
	"lighthouse": {keystore: byPubkey("validators", "voting-keystore.json"), password: inSecrets, data: true, next: func(folder, network string) []string {
		return []string{
			"lighthouse --network " + network + " --datadir " + quoted(folder) + " account validator slashing-protection import " + quoted(folder, slashingFile),
			"lighthouse --network " + network + " --datadir " + quoted(folder) + " validator_client",
		}
	}},
	"lodestar": {keystore: byPubkey("keystores", "voting-keystore.json"), password: inSecrets, data: true, next: func(folder, network string) []string {
		return []string{
			"lodestar validator slashing-protection import --network " + network + " --dataDir " + quoted(folder) + " --file " + quoted(folder, slashingFile),
			"lodestar validator --network " + network + " --dataDir " + quoted(folder),
		}
	}},
	"nimbus": {keystore: byPubkey("validators", "keystore.json"), password: inSecrets, data: true, next: func(folder, network string) []string {
		return []string{
			"nimbus_beacon_node --network=" + network + " --data-dir=" + quoted(folder) + " slashingdb import " + quoted(folder, slashingFile),
			"nimbus_validator_client --data-dir=" + quoted(folder),
		}
	}},
	"keymanager": {body: true, next: throughKeymanager},
}

func clientNames() []string { return slices.Sorted(maps.Keys(clients)) }

func inKeys(k *handed) string { return filepath.Join(keysFolder, k.file) }

// inPasswords: Web3Signer and Teku look for the keystore's name with .txt.
func inPasswords(k *handed) string {
	return filepath.Join(passwordsFolder, strings.TrimSuffix(k.file, ".json")+".txt")
}

func byPubkey(folder, name string) func(*handed) string {
	return func(k *handed) string { return filepath.Join(folder, k.validator.Pubkey.String(), name) }
}

func inSecrets(k *handed) string { return filepath.Join("secrets", k.validator.Pubkey.String()) }

// throughKeymanager is how a keymanager API is given the body. The token stays
// out of the command line, which others can read.
func throughKeymanager(folder, _ string) []string {
	return []string{`curl --fail-with-body -X POST URL/eth/v1/keystores -H "Content-Type: application/json" ` +
		`-H @AUTHORIZATION_FILE --data @` + quoted(folder, keymanagerFile) +
		"      # AUTHORIZATION_FILE holds the line: Authorization: Bearer TOKEN"}
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
	if c.keystore != nil {
		files = append(files, handedFile{slashingFile, append(slices.Clone(interchange), '\n')})
		for _, k := range list {
			files = append(files, handedFile{c.keystore(k), k.keystore}, handedFile{c.password(k), k.password.Expose()})
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
			if c.keystore != nil {
				file = filepath.ToSlash(c.keystore(k))
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
	if c.data {
		a.say("it is a data directory of %s's; to put the keys into another, stop what uses that, copy the two folders into it, and name it in place of %s", f.client, folder)
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
