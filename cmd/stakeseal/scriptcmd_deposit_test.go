package main

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/stakeseal/stakeseal/eth"
	"github.com/stakeseal/stakeseal/eth/exit"
	"github.com/stakeseal/stakeseal/internal/sqlite"
	"github.com/stakeseal/stakeseal/record"
)

// scriptCommandsDeposit are the script commands of the deposit and
// certificate scripts.
var scriptCommandsDeposit = map[string]func(ts *testscript.TestScript, neg bool, args []string){
	"beacon": beaconCommand, "glob": glob, "atonce": atOnce, "mode": modeOf, "join": join, "truncate": truncate, "tamper": tamper, "drillnote": drillNote,
}

func init() { moreCommands = append(moreCommands, scriptCommandsDeposit) }

// glob puts the one file that a pattern matches into a variable; with N it
// only demands that there are N: glob VAR PATTERN | glob -N PATTERN.
func glob(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: glob VAR PATTERN | glob -N PATTERN")
	}
	found, err := filepath.Glob(ts.MkAbs(args[1]))
	ts.Check(err)
	want := 1
	if n, ok := strings.CutPrefix(args[0], "-"); ok {
		want, err = strconv.Atoi(n)
		ts.Check(err)
	}
	if len(found) != want {
		ts.Fatalf("%s matches %d files, want %d: %q", args[1], len(found), want, found)
	}
	if !strings.HasPrefix(args[0], "-") {
		ts.Setenv(args[0], found[0])
	}
}

// modeOf asserts a file's permissions: mode 600 FILE.
func modeOf(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: mode OCTAL FILE")
	}
	info, err := os.Stat(ts.MkAbs(args[1]))
	ts.Check(err)
	if got := fmt.Sprintf("%o", info.Mode().Perm()); got != args[0] {
		ts.Fatalf("%s has mode %s, want %s", args[1], got, args[0])
	}
}

// truncate cuts a file to a length; a negative one counts from the end.
func truncate(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: truncate FILE BYTES")
	}
	path := ts.MkAbs(args[0])
	info, err := os.Stat(path)
	ts.Check(err)
	length, err := strconv.ParseInt(args[1], 10, 64)
	ts.Check(err)
	if length < 0 {
		length += info.Size()
	}
	if length >= info.Size() {
		ts.Fatalf("%s has only %d bytes", args[0], info.Size())
	}
	ts.Check(os.Chmod(path, 0o600))
	ts.Check(os.Truncate(path, length))
}

// join writes the contents of files after each other: join OUT FILE...
func join(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: join OUT FILE...")
	}
	var all []byte
	for _, path := range args[1:] {
		data, err := os.ReadFile(ts.MkAbs(path))
		ts.Check(err)
		all = append(all, data...)
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), all, 0o600))
}

// tamper changes a validator's record as somebody would who can write the
// database and knows its checksums; the guards are put back in the end:
// tamper DATABASE PUBKEY PATTERN REPLACEMENT, the pattern being of the
// record's JSON.
func tamper(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 4 {
		ts.Fatalf("usage: tamper DATABASE PUBKEY PATTERN REPLACEMENT")
	}
	path := ts.MkAbs(args[0])
	pubkey, err := eth.ParsePubkey(args[1])
	ts.Check(err)
	store, err := sqlite.Open(path)
	ts.Check(err)
	b, err := store.Birth(context.Background(), pubkey)
	ts.Check(errors.Join(err, store.Close()))
	before, err := record.EncodeBirth(b)
	ts.Check(err)
	after := regexp.MustCompile(args[2]).ReplaceAll(before, []byte(args[3]))
	if bytes.Equal(before, after) {
		ts.Fatalf("the record has no %q", args[2])
	}
	b, err = record.DecodeBirth(after)
	ts.Check(err)
	validator, err := record.EncodeValidator(b.Validator)
	ts.Check(err)

	db, err := sql.Open("sqlite3", path)
	ts.Check(err)
	defer db.Close()
	rows, err := db.Query(`SELECT name, sql FROM sqlite_schema WHERE type = 'trigger'`)
	ts.Check(err)
	guards := map[string]string{}
	for rows.Next() {
		var name, text string
		ts.Check(rows.Scan(&name, &text))
		guards[name] = text
	}
	ts.Check(rows.Close())
	run := func(statement string, args ...any) {
		_, err := db.Exec(statement, args...)
		ts.Check(err)
	}
	for name := range guards {
		run(`DROP TRIGGER "` + name + `"`)
	}
	sum, whole := record.DigestOf(validator), record.DigestOf(after)
	run(`UPDATE births SET validator = ?, validator_sha256 = ?, record_sha256 = ?, certificate = ? WHERE pubkey = ?`,
		string(validator), sum[:], whole[:], string(b.Certificate), pubkey[:])
	for _, text := range guards {
		run(text)
	}
}

// drillNote notes a recovery drill of so many of an order's validators:
// drillnote DATABASE ORDER N.
func drillNote(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: drillnote DATABASE ORDER N")
	}
	store, err := sqlite.Open(ts.MkAbs(args[0]))
	ts.Check(err)
	err = store.Append(context.Background(), record.Event{Time: record.Time(time.Now()), Kind: "drilled", Order: args[1],
		Actor: "script", Detail: map[string]string{"validators": args[2]}})
	ts.Check(errors.Join(err, store.Close()))
}

// atOnce starts a program N times at once and asserts all exit codes, in any
// order: atonce 0,5,5 PROGRAM ARGS...
func atOnce(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: atonce CODES PROGRAM ARGS...")
	}
	want := strings.Split(args[0], ",")
	slices.Sort(want)
	got := make([]string, len(want))
	begin := make(chan struct{})
	var all sync.WaitGroup
	for i := range want {
		cmd := exec.Command(filepath.Join(programs, args[1]), args[2:]...)
		cmd.Dir = ts.MkAbs(".")
		cmd.Env = []string{"HOME=" + ts.Getenv("HOME"), "PATH=" + ts.Getenv("PATH")}
		all.Go(func() {
			<-begin
			out, err := cmd.CombinedOutput()
			var exit *exec.ExitError
			if errors.As(err, &exit) {
				got[i] = strconv.Itoa(exit.ExitCode())
			} else if err == nil {
				got[i] = "0"
			}
			if !slices.Contains(want, got[i]) {
				got[i] += " (" + string(out) + ")"
			}
		})
	}
	close(begin)
	all.Wait()
	slices.Sort(got)
	if !slices.Equal(got, want) {
		ts.Fatalf("exit codes %q, want %q", got, want)
	}
}

// beaconCommand serves a beacon node on 127.0.0.1 until the script ends, and
// puts its URL into a variable:
//
//	beacon VAR NETWORK [validator=PUBKEY,CREDENTIALS,STATUS,GWEI[,ACTIVATION[,EXIT[,WITHDRAWABLE]]]]... [pending=PUBKEY,CREDENTIALS,GWEI,SIGNATURE]... [QUIRK]...
//
// A QUIRK is how it misbehaves: down, hang, garbage, html, redirect, syncing,
// behind, fork (another block at the same slot), blind (answers every
// question about validators with none), noqueue (has no queue's endpoint),
// picky (refuses exits), forgetful (takes them and shows none), early (Deneb has
// not come).
func beaconCommand(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: beacon VAR NETWORK [FACT]...")
	}
	n, ok := eth.LookupNetwork(args[1])
	if !ok {
		ts.Fatalf("unknown network %q", args[1])
	}
	node := &cannedNode{network: n, quirks: map[string]bool{}}
	// All nodes of a script have one head: the slot before the one in which
	// the first of them was started.
	began, _ := scriptBegan.LoadOrStore(ts.Getenv("WORK"), time.Now().Unix())
	node.head = uint64(began.(int64)-n.GenesisTime)/n.SecondsPerSlot - 1
	for _, fact := range args[2:] {
		kind, value, _ := strings.Cut(fact, "=")
		parts := strings.Split(value, ",")
		switch {
		case kind == "validator" && len(parts) >= 4 && len(parts) <= 7:
			node.validators = append(node.validators, canned(parts...))
		case kind == "pending" && len(parts) == 4:
			node.pending = append(node.pending, map[string]string{"pubkey": parts[0], "withdrawal_credentials": parts[1],
				"amount": parts[2], "signature": parts[3], "slot": "77"})
		case value == "":
			node.quirks[kind] = true
		default:
			ts.Fatalf("unknown fact %q", fact)
		}
	}
	server := httptest.NewServer(node) // 127.0.0.1
	node.stop = make(chan struct{})
	if node.quirks["down"] {
		server.Close()
	} else {
		ts.Defer(func() { close(node.stop); server.Close() })
	}
	ts.Setenv(args[0], server.URL)
}

var scriptBegan sync.Map // by script: when its first node was started, unix

type cannedValidator struct{ pubkey, credentials, status, balance, activation, exit, withdrawable string }

// canned makes a validator; epochs that are not given are 0 and never.
func canned(parts ...string) cannedValidator {
	never := fmt.Sprint(exit.FarFuture)
	v := append(append([]string{}, parts...), []string{"0", never, never}[len(parts)-4:]...)
	return cannedValidator{v[0], v[1], v[2], v[3], v[4], v[5], v[6]}
}

// cannedNode answers as a beacon node does (beacon-APIs, v2.5 and later).
type cannedNode struct {
	network    eth.Network
	head       uint64
	validators []cannedValidator
	pending    []map[string]string
	quirks     map[string]bool
	stop       chan struct{}

	mu    sync.Mutex
	exits []json.RawMessage // that were posted
}

func (n *cannedNode) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch {
	case n.quirks["hang"]:
		select {
		case <-r.Context().Done():
		case <-n.stop:
		}
		return
	case n.quirks["redirect"]:
		http.Redirect(w, r, "http://127.0.0.1:1"+r.URL.Path, http.StatusFound)
		return
	case n.quirks["error"]:
		http.Error(w, `{"code":500,"message":"no"}`, http.StatusInternalServerError)
		return
	case n.quirks["html"]:
		w.Header().Set("Content-Type", "text/html")
		fmt.Fprint(w, "<html>please log in</html>")
		return
	}
	w.Header().Set("Content-Type", "application/json")
	if n.quirks["garbage"] {
		fmt.Fprint(w, `{"data":{"genesis_time":`)
		return
	}
	state := fmt.Sprintf("/eth/v1/beacon/states/%d/", n.head)
	switch r.URL.Path {
	case "/eth/v1/config/spec":
		deneb := "0"
		if n.quirks["early"] {
			deneb = fmt.Sprint(exit.FarFuture)
		}
		n.answer(w, map[string]any{"CAPELLA_FORK_VERSION": n.network.ExitForkVersion.String(), "DENEB_FORK_EPOCH": deneb, "SHARD_COMMITTEE_PERIOD": "256",
			"SLOTS_PER_EPOCH": fmt.Sprint(n.network.SlotsPerEpoch), "SECONDS_PER_SLOT": fmt.Sprint(n.network.SecondsPerSlot), "BLOB_SCHEDULE": []any{}})
	case "/eth/v1/beacon/pool/voluntary_exits":
		n.pool(w, r)
	case "/eth/v1/beacon/genesis":
		n.answer(w, map[string]string{"genesis_time": fmt.Sprint(n.network.GenesisTime),
			"genesis_fork_version": n.network.GenesisForkVersion.String(), "genesis_validators_root": n.network.GenesisValidatorsRoot.String()})
	case "/eth/v1/node/syncing":
		n.answer(w, map[string]any{"head_slot": fmt.Sprint(n.head), "sync_distance": "0", "is_syncing": n.quirks["syncing"],
			"is_optimistic": false, "el_offline": false})
	case "/eth/v1/beacon/headers/head", fmt.Sprintf("/eth/v1/beacon/headers/%d", n.head):
		root := eth.Root{0xb1}
		if n.quirks["fork"] {
			root = eth.Root{0xb2}
		}
		n.answer(w, map[string]any{"root": root, "canonical": true, "header": map[string]any{
			"message": map[string]string{"slot": fmt.Sprint(n.head)}}})
	case state + "validators":
		n.answerValidators(w, r)
	case state + "pending_deposits":
		if n.quirks["noqueue"] {
			http.NotFound(w, r)
			return
		}
		n.answer(w, append([]map[string]string{}, n.pending...))
	default:
		http.NotFound(w, r)
	}
}

// pool takes exits as a node does, and shows them.
func (n *cannedNode) pool(w http.ResponseWriter, r *http.Request) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if r.Method != http.MethodPost {
		n.answer(w, append([]json.RawMessage{}, n.exits...))
		return
	}
	var s json.RawMessage
	if err := json.NewDecoder(r.Body).Decode(&s); err != nil || n.quirks["picky"] {
		w.WriteHeader(http.StatusBadRequest)
		_ = json.NewEncoder(w).Encode(map[string]any{"code": 400, "message": "validator has pending partial withdrawals"})
		return
	}
	if !n.quirks["forgetful"] {
		n.exits = append(n.exits, s)
	}
}

func (n *cannedNode) answerValidators(w http.ResponseWriter, r *http.Request) {
	var asked struct{ IDs []string }
	if err := json.NewDecoder(r.Body).Decode(&asked); err != nil {
		http.Error(w, "bad request", http.StatusBadRequest)
		return
	}
	list := []map[string]any{}
	add := func(index int, v cannedValidator) {
		list = append(list, map[string]any{"index": fmt.Sprint(index), "balance": v.balance, "status": v.status,
			"validator": map[string]string{"pubkey": v.pubkey, "withdrawal_credentials": v.credentials,
				"activation_epoch": v.activation, "exit_epoch": v.exit, "withdrawable_epoch": v.withdrawable}})
	}
	if slices.Contains(asked.IDs, "0") && !n.quirks["blind"] {
		add(0, canned(eth.Pubkey{0xa0}.String(), eth.Credentials{1}.String(), "active_ongoing", "32000000000"))
	}
	for i, v := range n.validators {
		if slices.Contains(asked.IDs, v.pubkey) || slices.Contains(asked.IDs, fmt.Sprint(i+1)) {
			add(i+1, v)
		}
	}
	n.answer(w, list)
}

func (n *cannedNode) answer(w http.ResponseWriter, data any) {
	_ = json.NewEncoder(w).Encode(map[string]any{"execution_optimistic": false, "finalized": false, "data": data})
}
