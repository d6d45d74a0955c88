package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stakeseal/stakeseal/eth"
	"github.com/stakeseal/stakeseal/eth/bls"
	"github.com/stakeseal/stakeseal/eth/exit"
)

// leaver is a signer that signs exits, with beacon nodes to ask.
type leaver struct {
	*signerTest
	network eth.Network
	epoch   uint64
	url     string // the signer's
	token   string
}

func newLeaver(t *testing.T, s *signerTest, network string) *leaver {
	t.Helper()
	l := &leaver{signerTest: s}
	l.network, _ = eth.LookupNetwork(network)
	l.epoch = l.head() / l.network.SlotsPerEpoch
	s.must("signer", "init", "signer-a")
	signers := filepath.Join(s.dir, "h", "signers")
	l.token = filepath.Join(signers, "exit.token")
	writeFile(t, l.token, strings.Repeat("0123456789abcdef", 3))
	writeFile(t, filepath.Join(signers, "signer-a.yaml"), "version: 1\nclients:\n  - {name: leaver, token: exit.token, operations: [VOLUNTARY_EXIT]}\n")
	l.url = s.serve("signer-a").url
	return l
}

func (l *leaver) head() uint64 {
	return uint64(time.Now().Unix()-l.network.GenesisTime)/l.network.SecondsPerSlot - 1
}

// node is a beacon node that has the validators, from index 1 on.
func (l *leaver) node(quirk string, validators ...cannedValidator) (*cannedNode, string) {
	l.t.Helper()
	n := &cannedNode{network: l.network, head: l.epoch * l.network.SlotsPerEpoch, quirks: map[string]bool{quirk: true}, validators: validators, stop: make(chan struct{})}
	if n.head > l.head() || n.head+l.network.SlotsPerEpoch < l.head()+8 { // an epoch began, or soon will
		n.head = l.head()
	}
	server := httptest.NewServer(n)
	l.t.Cleanup(server.Close)
	return n, server.URL
}

func (l *leaver) sign(out string, more ...string) []string {
	return append([]string{"exit", "sign", "--signer-url", l.url, "--token", l.token, "--out", out, "--yes"}, more...)
}

func (l *leaver) folder(name string) string {
	l.t.Helper()
	path := filepath.Join(l.dir, name)
	if err := os.Mkdir(path, 0o700); err != nil {
		l.t.Fatal(err)
	}
	return path
}

func (l *leaver) read(path string) exit.Signed {
	l.t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		l.t.Fatal(err)
	}
	s, err := exit.Parse(data)
	if err != nil {
		l.t.Fatal(err)
	}
	return s
}

const leaverOwner = "0x010000000000000000000000388c818ca8b9251b393131c08a736a67ccb19297"

// TestExits: from the index that the chain tells, through a sealed file, to
// the pool of a node; and every way in which it stops before.
func TestExits(t *testing.T) {
	l := newLeaver(t, newSignerTest(t, 4), "hoodi")
	file := func(out string, index int, key int) string {
		return filepath.Join(out, fmt.Sprintf("exit-%d-%s.json", index, l.keys[key].Hex()[:12]))
	}
	key := func(i int) string { return l.keys[i].String() }
	gwei := "32000000000"
	registry := []cannedValidator{
		canned(key(0), leaverOwner, "active_ongoing", gwei, "3"),
		canned(key(1), leaverOwner, "active_ongoing", gwei, fmt.Sprint(l.epoch-255)),
		canned(key(2), leaverOwner, "active_exiting", gwei, "3", fmt.Sprint(l.epoch+5), fmt.Sprint(l.epoch+261)),
	}
	node, url := l.node("", registry...)
	_, early := l.node("early", registry...)
	_, fork := l.node("fork", registry...)

	out := l.folder("exits")
	l.refused(2, "say which validators", l.sign(out)...)
	l.refused(2, "name a beacon node", l.sign(out, key(0))...)
	l.refused(3, "is validator 1 on the chain, not 9", l.sign(out, "--beacon", url, key(0)+"=9")...)
	l.refused(2, "two indexes", l.sign(out, key(0)+"=1", l.keys[0].Hex()[:40]+"=2")...)
	l.refused(5, "on its way out", l.sign(out, "--beacon", url, key(2))...)
	l.refused(5, "not a validator on the chain", l.sign(out, "--beacon", url, key(3))...)
	l.refused(3, "counts from Deneb on", l.sign(out, "--beacon", early, key(0))...)
	l.refused(4, "disagree", l.sign(out, "--beacon", url, "--beacon", fork, key(0))...)
	l.refused(2, "neither a recipient", l.sign(out, "--beacon", url, "--seal-to", "nobody", key(0))...)
	if left, _ := os.ReadDir(out); len(left) > 0 {
		t.Fatalf("%d files of what was refused", len(left))
	}
	left := filepath.Join(out, newPrefix+"1") // of a run that was killed while it wrote
	writeFile(t, left, "{}")
	l.refused(0, left+" is of another run", l.sign(out, "--beacon", url, key(0), "--epoch", "7")...)
	if err := os.Remove(left); err != nil {
		t.Fatal(err)
	}
	s := l.read(file(out, 1, 0))
	root, _ := s.Message.SigningRoot(l.network)
	if s.Message != (exit.Message{Epoch: 7, Index: 1}) || !bls.Verify(bls.Claim{Pubkey: l.keys[0], Root: root, Signature: s.Signature}) {
		t.Errorf("%+v", s)
	}
	if info, err := os.Stat(file(out, 1, 0)); err != nil || info.Mode() != 0o600 {
		t.Errorf("%v %v", info.Mode(), err)
	}

	// A wide selection leaves out who cannot leave; sealed, nothing is in the clear.
	sealed := l.folder("sealed")
	data, err := os.ReadFile(filepath.Join(l.dir, "h", "recipients", "recovery-a.txt"))
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, filepath.Join(l.dir, "Keeper.txt"), string(data))
	l.refused(2, "same key", l.sign(sealed, "--beacon", url, "--seal-to", "recovery-a", "--seal-to", filepath.Join(l.dir, "Keeper.txt"), key(1))...)
	code, said, words := l.run(l.sign(sealed, "--beacon", url, "--signer", "signer-a", "--seal-to", "recovery-a", "--json")...)
	if code != 0 || strings.Count(said, `"sealed_to":["recovery-a"]`) != 2 || strings.Count(words, "left out: ") != 2 {
		t.Fatalf("%d\n%s%s", code, said, words)
	}
	entries, _ := os.ReadDir(sealed)
	for _, e := range entries {
		data, err := os.ReadFile(filepath.Join(sealed, e.Name()))
		if err != nil || !strings.HasSuffix(e.Name(), ".json.age") || !bytes.HasPrefix(data, []byte("age-encryption.org/v1\n")) || bytes.Contains(data, []byte("validator_index")) {
			t.Errorf("%s: %q, %v", e.Name(), data[:min(len(data), 40)], err)
		}
	}
	if len(entries) != 2 {
		t.Fatalf("%d sealed", len(entries))
	}
	status := l.must("exit", "status", "--beacon", url, "--json", key(0), key(2))
	for _, want := range []string{`"signed":{"time":`, `"sealed_to":"recovery-a"`, `"submitted":null`, `"validator_index":1,"status":"active_ongoing"`,
		fmt.Sprintf(`"exit_epoch":%d,"exit_time":"%s"`, l.epoch+5, time.Unix(l.network.GenesisTime+int64(l.epoch+5)*384, 0).UTC().Format(time.RFC3339)), `"exit_epoch":null,"exit_time":null`} {
		if !strings.Contains(status, want) {
			t.Errorf("no %s in\n%s", want, status)
		}
	}
	l.refused(0, "1 validators leave or have left, and no exit of theirs was submitted", "exit", "status", "--beacon", url)
	l.refused(0, "2 exits are signed and not submitted", "exit", "status", "--beacon", url)

	// What is wrong with one keeps all from being sent.
	submit := func(args ...string) []string {
		return append([]string{"exit", "submit", "--beacon", url}, args...)
	}
	bad := l.folder("bad")
	write := func(name string, s exit.Signed) string {
		data, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		writeFile(t, filepath.Join(bad, name), string(data))
		return filepath.Join(bad, name)
	}
	other, strange := s, s
	other.Message.Epoch = 8
	strange.Message.Index = 77
	l.refused(2, "no beacon node", "exit", "submit", out, "--yes")
	l.refused(2, "confirmation", submit(out)...)
	l.refused(2, "has no exits", submit(l.folder("none"), "--yes")...)
	l.refused(2, "two exits of validator 1", submit(out, write("other.json", other), "--yes")...)
	l.refused(3, "the signature is not that of validator 1", submit(write("other2.json", other), "--yes")...)
	l.refused(3, "no validator 77", submit(out, write("strange.json", strange), "--yes")...)
	l.refused(2, "--identity is missing", submit(sealed, "--yes")...)
	l.refused(6, "none of the identities", submit(sealed, "--identity", filepath.Join(l.dir, "ids", "signer-a.identity"), "--yes")...)
	l.refused(5, "1 exits would be sent, not 2", submit(out, "--count", "2", "--yes")...)
	keeper := filepath.Join(l.dir, "ids", "recovery-a.identity")
	l.refused(3, "can exit from epoch "+fmt.Sprint(l.epoch+1)+" on, which begins at ", submit(sealed, "--identity", keeper, "--yes")...)
	later := l.folder("later")
	l.must(l.sign(later, "--beacon", url, key(0), "--epoch", fmt.Sprint(l.epoch+1000))...)
	l.refused(3, "is valid from epoch", submit(later, "--yes")...)
	_, foreign := l.node("", canned(eth.Pubkey{0xa1}.String(), leaverOwner, "active_ongoing", gwei, "3"))
	l.refused(3, "the signature is not that of validator 1", "exit", "submit", "--beacon", foreign, out, "--yes")
	l.refused(3, "counts from Deneb on", "exit", "submit", "--beacon", early, out, "--yes")
	_, pending := l.node("", canned(key(0), leaverOwner, "pending_queued", gwei, fmt.Sprint(exit.FarFuture)))
	l.refused(3, "only an active one can exit", "exit", "submit", "--beacon", pending, out, "--yes")
	if len(node.exits) > 0 {
		t.Fatalf("sent: %s", node.exits)
	}
	picky, refusing := l.node("picky", registry...)
	l.refused(4, `"validator has pending partial withdrawals"`, "exit", "submit", "--beacon", refusing, out, "--yes")
	if shown := l.must("show", key(0)); !strings.Contains(shown, "exit-submitted") || !strings.Contains(shown, "exit-not-taken") {
		t.Errorf("not noted:\n%s", shown)
	}
	_, forgetful := l.node("forgetful", registry...)
	l.refused(0, "warning: 1 are not: look with", "exit", "submit", "--beacon", forgetful, out, "--yes")

	// One node that takes it is enough.
	l.refused(0, "1 are in the nodes' pools", "exit", "submit", "--beacon", refusing, "--beacon", url, out, "--yes")
	want, _ := json.Marshal(s)
	if len(node.exits) != 1 || string(node.exits[0]) != string(want) || len(picky.exits) != 0 {
		t.Errorf("taken: %s and %s", node.exits, picky.exits)
	}
	l.refused(0, "1 exits were submitted and are not in the chain", "exit", "status", "--beacon", url, key(0))
	gone, leftURL := l.node("", canned(key(0), leaverOwner, "exited_unslashed", gwei, "3", "9", "265"))
	l.refused(0, "is exited_unslashed already: nothing is sent", "exit", "submit", "--beacon", leftURL, out, "--yes")
	if len(gone.exits) > 0 {
		t.Error("sent again")
	}
	// Money that goes elsewhere is said.
	_, taken := l.node("", canned(key(1), strings.Replace(leaverOwner, "388c", "1111", 1), "active_ongoing", gwei, "3"))
	l.refused(0, "somebody else deposited for it first", l.sign(l.folder("taken"), "--beacon", taken, key(1))...)
}

// TestExitMainnet: where there is real money the number of exits is said too.
func TestExitMainnet(t *testing.T) {
	s := &signerTest{t: t, dir: t.TempDir()}
	s.must("init", "--network", "mainnet", "--withdrawal-address", testAddress, "--identities", filepath.Join(s.dir, "ids"))
	s.must("generate", "--count", "1", "--assign", "signer-a", "--yes")
	var v struct{ Pubkey eth.Pubkey }
	if err := json.Unmarshal([]byte(s.must("list", "--json")), &v); err != nil {
		t.Fatal(err)
	}
	l := newLeaver(t, s, "mainnet")
	node, url := l.node("", canned(v.Pubkey.String(), leaverOwner, "active_ongoing", "32000000000", "3"))
	out := l.folder("exits")
	l.must(l.sign(out, "--beacon", url, v.Pubkey.String())...)
	l.refused(2, "if you mean it: --count 1", "exit", "submit", "--beacon", url, out, "--yes")
	l.refused(5, "1 exits would be sent, not 3", "exit", "submit", "--beacon", url, out, "--yes", "--count", "3")
	if len(node.exits) > 0 {
		t.Error("sent")
	}
	l.refused(0, "1 of 1 exits were sent", "exit", "submit", "--beacon", url, out, "--yes", "--count", "1")
}
