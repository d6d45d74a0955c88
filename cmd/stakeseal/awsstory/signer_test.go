package awsstory

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	sdk "github.com/aws/aws-sdk-go-v2/service/dynamodb"

	"github.com/stakeseal/stakeseal/eth"
	"github.com/stakeseal/stakeseal/eth/bls"
	"github.com/stakeseal/stakeseal/eth/duty"
	"github.com/stakeseal/stakeseal/internal/aws/awstest/world"
	"github.com/stakeseal/stakeseal/internal/aws/dynamodb"
	"github.com/stakeseal/stakeseal/internal/aws/session"
	"github.com/stakeseal/stakeseal/record"
)

// machine is one that signs: a home and the session of its instance.
type machine struct {
	*site
	name string // the session's, as EC2 names it for the instance
	home string
}

// machines are so many, each with a copy of the home.
func (s *site) machines(n int) (list []*machine) {
	s.Helper()
	home := filepath.Join(s.home, "home.yaml")
	data, err := os.ReadFile(home)
	if err != nil {
		s.Fatal(err)
	}
	if !bytes.Contains(data, []byte("[signer-a]")) {
		s.Fatalf("home.yaml names other signers:\n%s", data)
	}
	if err := os.WriteFile(home, bytes.Replace(data, []byte("[signer-a]"), []byte("[signer-a, signer-b, signer-c]"), 1), 0o600); err != nil {
		s.Fatal(err)
	}
	for i := range n {
		m := &machine{s, fmt.Sprintf("i-0%016d", i), s.path(fmt.Sprintf("machine-%d", i))}
		if err := os.CopyFS(m.home, os.DirFS(s.home)); err != nil {
			s.Fatal(err)
		}
		list = append(list, m)
	}
	return list
}

// command runs as the signer's role of this machine.
func (m *machine) command(args ...string) *exec.Cmd {
	m.Helper()
	return m.commandWith(m.Environ("signer", world.Session{Name: m.name}), append(args, "--home", m.home)...)
}

func (m *machine) ok(args ...string) result {
	m.Helper()
	r := m.result(m.command(args...))
	if r.code != 0 {
		m.Fatalf("%s: stakeseal %s: exit %d\n%s%s", m.name, strings.Join(args, " "), r.code, r.stdout, r.stderr)
	}
	return r
}

func (m *machine) no(code int, words []string, args ...string) {
	m.Helper()
	m.refused(m.result(m.command(args...)), m.name, code, words, args)
}

func (m *machine) serveArgs(name string) []string {
	return []string{"signer", "serve", name, "--identity", "awskms:" + m.output("SigningKeyArn"), "--listen", "127.0.0.1:0", "--metrics", "none"}
}

// serving is a signer that runs.
type serving struct {
	m     *machine
	cmd   *exec.Cmd
	url   string
	words *words
}

// words is what a program has said so far.
type words struct {
	mu   sync.Mutex
	text bytes.Buffer
	more chan struct{}
}

func (w *words) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	select {
	case w.more <- struct{}{}:
	default:
	}
	return w.text.Write(p)
}

func (w *words) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.text.String()
}

var servesOn = regexp.MustCompile(`serves (\d+) keys on (\S+)\n`)

// serve starts a signer and waits until it serves so many keys.
func (m *machine) serve(name string, keys int) *serving {
	m.Helper()
	p := &serving{m: m, cmd: m.command(m.serveArgs(name)...), words: &words{more: make(chan struct{}, 1)}}
	p.cmd.Stderr = p.words
	if err := p.cmd.Start(); err != nil {
		m.Fatal(err)
	}
	m.Cleanup(func() { _ = p.cmd.Process.Kill(); _ = p.cmd.Wait() })
	p.wait(servesOn)
	found := servesOn.FindStringSubmatch(p.words.String())
	p.url = "http://" + found[2]
	if found[1] != strconv.Itoa(keys) {
		m.Fatalf("%s serves %s keys, not %d:\n%s", name, found[1], keys, p.words)
	}
	return p
}

// wait waits until it says something.
func (p *serving) wait(what *regexp.Regexp) {
	p.m.Helper()
	deadline := time.After(3 * time.Minute)
	for !what.MatchString(p.words.String()) {
		select {
		case <-p.words.more:
		case <-deadline:
			p.m.Fatalf("it never said %q:\n%s", what, p.words)
		}
	}
}

// end ends it and returns its exit code.
func (p *serving) end(signal os.Signal) int {
	_ = p.cmd.Process.Signal(signal)
	_ = p.cmd.Wait()
	return p.cmd.ProcessState.ExitCode()
}

func (p *serving) post(path, body string) (int, string) {
	r, err := http.Post(p.url+path, "application/json", strings.NewReader(body))
	if err != nil {
		return 0, err.Error()
	}
	defer r.Body.Close()
	data, err := io.ReadAll(r.Body)
	if err != nil {
		return 0, err.Error()
	}
	return r.StatusCode, string(data)
}

// reload has it look at its assignments.
func (p *serving) reload() {
	p.m.Helper()
	if code, text := p.post("/reload", ""); code != http.StatusAccepted {
		p.m.Fatalf("reload: %d %s\n%s", code, text, p.words)
	}
	for {
		r, err := http.Get(p.url + "/reload")
		if err != nil {
			p.m.Fatal(err)
		}
		state, err := io.ReadAll(r.Body)
		r.Body.Close()
		if err != nil || bytes.Contains(state, []byte(`"idle"`)) {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
}

const hoodiFork = `"fork_info":{"fork":{"previous_version":"0x60000910","current_version":"0x70000910","epoch":"50688"},"genesis_validators_root":"%v"}`

func hoodi() eth.Network {
	n, _ := eth.LookupNetwork("hoodi")
	return n
}

// attestation is one; root tells messages apart.
func attestation(source, target uint64, root byte) string {
	zero := strings.Repeat("00", 32)
	return fmt.Sprintf(`{"type":"ATTESTATION",`+hoodiFork+`,"attestation":{"slot":"%d","index":"0","beacon_block_root":"0x%s","source":{"epoch":"%d","root":"0x%s"},"target":{"epoch":"%d","root":"0x%s"}}}`,
		hoodi().GenesisValidatorsRoot, target*32, strings.Repeat(fmt.Sprintf("%02x", root), 32), source, zero, target, zero)
}

func (p *serving) attest(key string, source, target uint64, root byte) (int, string) {
	return p.post("/api/v1/eth2/sign/"+key, attestation(source, target, root))
}

// reveal asks for a duty that nobody is slashed for.
func (p *serving) reveal(key string, epoch uint64) int {
	code, _ := p.post("/api/v1/eth2/sign/"+key, fmt.Sprintf(`{"type":"RANDAO_REVEAL",`+hoodiFork+`,"randao_reveal":{"epoch":"%d"}}`, hoodi().GenesisValidatorsRoot, epoch))
	return code
}

// want asks for an attestation and demands the status.
func (p *serving) want(code int, key string, source, target uint64, root byte) {
	p.m.Helper()
	got, text := p.attest(key, source, target, root)
	if got != code || code == 200 && !verified(p.m.T, key, source, target, root, text) {
		p.m.Errorf("attestation %d to %d (%d): %d, want %d: %s\n%s", source, target, root, got, code, text, p.words)
	}
}

// verified says whether it is the key's signature.
func verified(t *testing.T, key string, source, target uint64, root byte, text string) bool {
	t.Helper()
	r, err := duty.Parse([]byte(attestation(source, target, root)))
	if err != nil {
		t.Fatal(err)
	}
	signing, err := r.SigningRoot(hoodi())
	if err != nil {
		t.Fatal(err)
	}
	pubkey, err := eth.ParsePubkey(key)
	if err != nil {
		t.Fatal(err)
	}
	var signature eth.Signature
	return signature.UnmarshalText([]byte(text)) == nil && bls.Verify(bls.Claim{Pubkey: pubkey, Root: signing, Signature: signature})
}

// signers is an installation with keys that are assigned to signer-a, two
// machines, and the signers of both made.
func signers(t *testing.T, keys int) (one, two *machine, pubkeys []string) {
	t.Helper()
	s := released(t, nil)
	s.generate("first", keys)
	m := s.machines(2)
	for _, v := range s.validators("first") {
		pubkeys = append(pubkeys, v.Pubkey)
	}
	s.ok("administrator", "assign", "--to", "signer-a", "--order", "first")
	m[0].ok("signer", "init", "signer-a")
	m[1].ok("signer", "init", "signer-b")
	return m[0], m[1], pubkeys
}

// table is the ARN of one of the installation's tables.
func (s *site) table(ending string) string {
	s.Helper()
	before, ok := strings.CutSuffix(s.output("RecordsTableArn"), "-records")
	if !ok {
		s.Fatal("the records table has another name")
	}
	return before + ending
}

// TestSigner: a signer's life on AWS, as its role: made once, served, refused
// twice, killed and started again, its keys moved and taken over.
func TestSigner(t *testing.T) {
	one, two, keys := signers(t, 3)
	s := one.site
	s.no("administrator", 6, []string{"slashing ledger", name + "-signer may"}, "signer", "init", "signer-c")
	s.no("depositor", 6, []string{"slashing ledger", name + "-signer may"}, "signer", "init", "signer-c")
	one.no(5, []string{"initialised already"}, "signer", "init", "signer-a")
	two.no(5, []string{"initialised already"}, "signer", "init", "signer-a") // the witness is in the tables
	one.no(2, []string{"does not exist"}, "signer", "init", "signer-d")
	one.no(5, []string{"nothing is lost"}, "signer", "init", "signer-a", "--lost-ledger", "--yes")

	before := len(s.Calls("kms", "Decrypt"))
	a := one.serve("signer-a", 3)
	if got := len(s.Calls("kms", "Decrypt")) - before; got != 3 {
		t.Errorf("%d Decrypts for 3 keys", got)
	}
	s.sameDecrypts("opened", 3)
	a.want(200, keys[0], 100, 101, 1)
	a.want(200, keys[0], 100, 101, 1) // the very same
	a.want(412, keys[0], 100, 101, 2)
	a.want(412, keys[0], 99, 103, 1)
	one.no(5, []string{"running already"}, one.serveArgs("signer-a")...)
	two.no(5, []string{"another process holds"}, two.serveArgs("signer-a")...)
	one.no(5, []string{"running already"}, "signer", "export", "signer-a", "--out", s.path("x.json"))
	two.no(5, []string{"another process holds"}, "signer", "export", "signer-a", "--out", s.path("x.json"))
	if out := two.ok("signer", "status", "--json").stdout; !strings.Contains(out, `"state":"held","assigned":3`) || !strings.Contains(out, `"state":"released"`) {
		t.Errorf("status: %s", out)
	}

	// Killed, it starts again at once on its machine, and knows.
	a.end(syscall.SIGKILL)
	begun := time.Now()
	a = one.serve("signer-a", 3)
	if took := time.Since(begun); took > time.Minute {
		t.Errorf("it took %s to start again", took)
	}
	a.want(412, keys[0], 100, 101, 3)
	a.want(200, keys[0], 101, 102, 3)

	// A key moves while both run. The former signer need not know.
	b := two.serve("signer-b", 0)
	two.ok("signer", "move", "--from", "signer-a", "--to", "signer-b", keys[0], "--yes")
	a.want(200, keys[0], 102, 103, 4) // nobody has taken it over yet: no gap
	b.reload()
	b.want(412, keys[0], 102, 103, 5)
	b.want(200, keys[0], 103, 104, 5)
	a.want(503, keys[0], 104, 105, 6)
	a.want(200, keys[1], 100, 101, 6)
	a.reload()
	a.want(404, keys[0], 104, 105, 6)
	// And back, from a signer that is stopped; its history goes along.
	if code := b.end(syscall.SIGTERM); code != 0 {
		t.Errorf("SIGTERM: exit %d\n%s", code, b.words)
	}
	one.ok("signer", "move", "--from", "signer-b", "--to", "signer-a", "--yes")
	a.reload()
	a.want(412, keys[0], 103, 104, 7)
	a.want(200, keys[0], 104, 105, 7)
	if code := a.end(syscall.SIGTERM); code != 0 {
		t.Errorf("SIGTERM: exit %d\n%s", code, a.words)
	}
	two.ok("signer", "export", "signer-a", "--out", s.path("history.json"))
	history, err := os.ReadFile(s.path("history.json"))
	if err != nil || strings.Count(string(history), `"pubkey"`) != 3 || !strings.Contains(string(history), `"105"`) {
		t.Errorf("history: %v %s", err, history)
	}
	two.ok("signer", "import", "signer-a", s.path("history.json"), "--yes")
	// From another machine, as it was let go of.
	a = two.serve("signer-a", 3)
	a.want(412, keys[0], 104, 105, 8)
	a.want(200, keys[0], 105, 106, 8)

	// A key goes to other software from under a signer that runs: what it gets
	// is all that was signed, as nothing is from then on.
	one.ok("keystore", "export", "--yes", "--no-history-known", "--signer", "signer-a", "--identity", "awskms:"+s.output("SigningKeyArn"), "--for", "web3signer", "--out", s.path("handed"), keys[0])
	a.want(503, keys[0], 106, 107, 9)
	a.want(200, keys[1], 101, 102, 9)
	given, err := os.ReadFile(filepath.Join(s.path("handed"), "slashing-protection.json"))
	if err != nil || !strings.Contains(string(given), `"target_epoch":"106"`) {
		t.Errorf("handed over: %v %s", err, given)
	}
	if code := a.end(syscall.SIGTERM); code != 0 {
		t.Errorf("SIGTERM: exit %d\n%s", code, a.words)
	}
	if strays := s.Strays(); len(strays) > 0 {
		for _, stray := range strays {
			if !strings.HasPrefix(stray.What, "tcp 127.0.0.1:") { // the clients'
				t.Errorf("a call beside AWS: %v", stray)
			}
		}
	}
}

// TestSignerPartitioned: a signer that cannot reach leases and assignments goes
// on for a while, and signs nothing that could conflict from the moment that
// another has taken its keys over. One whose ledger cannot be reached stops
// what could be slashed at once, and goes on with the rest.
func TestSignerPartitioned(t *testing.T) {
	one, two, keys := signers(t, 2)
	s := one.site
	a, b := one.serve("signer-a", 2), two.serve("signer-b", 0)
	a.want(200, keys[0], 100, 101, 1)
	for _, part := range []string{"-leases", "-assignments"} {
		s.Fail("dynamodb", "", -1, world.Fault{Kind: world.Dropped, Session: one.name, Resource: part})
	}
	two.ok("signer", "takeover", "signer-a", "--to", "signer-b", "--yes")
	a.want(200, keys[0], 101, 102, 1)
	b.reload()
	a.want(503, keys[0], 102, 103, 1)
	a.want(503, keys[0], 101, 102, 1) // not even the same once more
	b.want(412, keys[0], 101, 102, 2)
	b.want(200, keys[0], 102, 103, 2)
	b.want(200, keys[1], 100, 101, 2) // it signed nothing by then
	a.want(503, keys[1], 100, 101, 3)
	if code := a.reveal(keys[0], 50); code != 200 {
		t.Errorf("a duty that nobody is slashed for, within the lease's term: %d", code)
	}
	a.end(syscall.SIGKILL)
	s.Heal()

	// Throttling, and answers that are lost: late or not at all, never twice.
	s.Fail("dynamodb", "PutItem", 6, world.Fault{Kind: world.Throttled, Every: 3, Resource: "-ledger", Session: two.name})
	s.Fail("dynamodb", "PutItem", 6, world.Fault{Kind: world.Lost, Every: 3, Resource: "-ledger", Session: two.name})
	signed := 0
	for target := uint64(110); target < 122; target++ {
		first, _ := b.attest(keys[0], target-1, target, 1)
		second, _ := b.attest(keys[0], target-1, target, 2)
		if first == 200 || second == 200 {
			signed++
		}
		if first == 200 && second == 200 {
			t.Errorf("target %d was signed twice", target)
		}
	}
	if signed < 8 {
		t.Errorf("with throttling %d of 12 were signed\n%s", signed, b.words)
	}
	s.Heal()
	s.Fail("dynamodb", "", -1, world.Fault{Kind: world.Broken, Resource: "-ledger", Session: two.name})
	if code, text := b.attest(keys[0], 130, 131, 1); code != 500 && code != 503 {
		t.Errorf("without the ledger: %d %s", code, text)
	}
	if code := b.reveal(keys[0], 50); code != 200 {
		t.Errorf("a duty that needs no ledger: %d", code)
	}
	s.Heal()
	b.want(200, keys[0], 131, 132, 1)
	b.end(syscall.SIGTERM)
}

// TestSignerOlderLedger: a ledger table that was restored to an earlier time is
// refused by its signer, and nothing that it lost is signed again by whoever
// takes a key over.
func TestSignerOlderLedger(t *testing.T) {
	one, two, keys := signers(t, 2)
	s := one.site
	a := one.serve("signer-a", 2)
	a.want(200, keys[0], 100, 101, 1)
	restore, err := s.Tables.Backup(s.table("-ledger"))
	if err != nil {
		t.Fatal(err)
	}
	a.want(200, keys[0], 101, 102, 1)
	a.want(200, keys[1], 101, 102, 1)
	a.end(syscall.SIGTERM) // the lease has the last watermark
	restore()
	one.no(3, []string{"watermark", "--lost-ledger"}, one.serveArgs("signer-a")...)
	two.no(3, []string{"watermark"}, "signer", "export", "signer-a", "--out", s.path("x.json"))
	two.ok("signer", "takeover", "signer-a", "--to", "signer-b", "--yes")
	b := two.serve("signer-b", 2)
	b.want(412, keys[0], 101, 102, 2)
	b.want(412, keys[1], 101, 102, 2)
	if !strings.Contains(b.words.String(), "first attestation in epoch") {
		t.Errorf("it does not say what that costs:\n%s", b.words)
	}
	b.end(syscall.SIGTERM)

	// Lost for good: a new one, marks stay where they are and rise.
	if r := one.ok("signer", "init", "signer-a", "--lost-ledger", "--yes"); !strings.Contains(r.stderr, "no attestation before epoch") {
		t.Errorf("it says\n%s", r.stderr)
	}
	one.no(5, []string{"nothing is lost"}, "signer", "init", "signer-a", "--lost-ledger", "--yes")
	one.ok("signer", "move", "--from", "signer-b", "--to", "signer-a", "--yes")
	a = one.serve("signer-a", 2)
	a.want(412, keys[0], 101, 102, 3)
	a.end(syscall.SIGTERM)
}

// TestSignerInitCutShort: an init whose calls fail on the way can be said again,
// or says that the name was taken and how to go on.
func TestSignerInitCutShort(t *testing.T) {
	s := released(t, nil)
	s.generate("first", 1)
	m := s.machines(1)[0]
	s.Fail("dynamodb", "PutItem", -1, world.Fault{Kind: world.Broken, Resource: "-events", Session: m.name})
	m.no(4, nil, "signer", "init", "signer-a") // the ledger is there, and nobody was told
	m.no(2, []string{"stakeseal signer init signer-a"}, m.serveArgs("signer-a")...)
	s.Heal()
	m.ok("signer", "init", "signer-a")
	s.Fail("dynamodb", "PutItem", -1, world.Fault{Kind: world.Broken, Resource: "-leases", Session: m.name})
	m.no(4, nil, "signer", "init", "signer-b") // noted, and no lease
	s.Heal()
	m.no(5, []string{"--lost-ledger"}, "signer", "init", "signer-b")
	m.no(2, []string{"stakeseal signer init signer-b"}, m.serveArgs("signer-b")...)
	m.ok("signer", "init", "signer-b", "--lost-ledger", "--yes")
	p := m.serve("signer-b", 0)
	p.end(syscall.SIGTERM)
	m.no(2, []string{"stakeseal signer init signer-c"}, m.serveArgs("signer-c")...)
}

// TestSignerBelievesNoNotes: who may note events may not make a signer believe
// that nothing was signed for a key.
func TestSignerBelievesNoNotes(t *testing.T) {
	_, two, keys := signers(t, 1)
	s := two.site
	two.ok("signer", "move", "--from", "signer-a", "--to", "signer-b", "--yes") // never served by the first
	tables, err := dynamodb.Beside(s.output("RecordsTableArn"))
	if err != nil {
		t.Fatal(err)
	}
	store, err := dynamodb.New(sdk.NewFromConfig(session.New(world.Region, s.Credentials("depositor"), session.Options{})), tables)
	if err != nil {
		t.Fatal(err)
	}
	pubkey, err := eth.ParsePubkey(keys[0])
	if err != nil {
		t.Fatal(err)
	}
	err = store.Append(t.Context(), record.Event{Time: record.Time(time.Now()), Actor: "depositor", Kind: "released", Pubkey: pubkey,
		Detail: map[string]string{"signer": "signer-a", "assignment": "1"}, Once: "released " + pubkey.Hex() + " 1"})
	if err != nil {
		t.Fatalf("the note could not be forged, so nothing is shown: %v", err)
	}
	b := two.serve("signer-b", 1)
	b.want(412, keys[0], 100, 101, 1)
	b.end(syscall.SIGTERM)
}

// TestSignerKilledOnAWS: kill -9 at random points under load, restart,
// conflicting duties again: no two conflicting signatures ever leave.
// STAKESEAL_KILL_ROUNDS says how many rounds.
func TestSignerKilledOnAWS(t *testing.T) {
	rounds := 20
	if testing.Short() {
		rounds = 3
	}
	if text := os.Getenv("STAKESEAL_KILL_ROUNDS"); text != "" {
		var err error
		if rounds, err = strconv.Atoi(text); err != nil || rounds < 1 {
			t.Fatalf("STAKESEAL_KILL_ROUNDS is %q", text)
		}
	}
	one, two, keys := signers(t, 2)
	type vote struct {
		key    string
		target uint64
	}
	var mu sync.Mutex
	seen, highest := map[vote]byte{}, map[string]uint64{}
	conflicts := 0
	from := uint64(1)
	for round := range rounds {
		m, as := one, "signer-a"
		if round%5 == 4 { // and its keys go to the other machine, and back
			m, as = two, "signer-b"
			two.ok("signer", "takeover", "signer-a", "--to", "signer-b", "--yes")
		} else if round%5 == 0 && round > 0 {
			one.ok("signer", "takeover", "signer-b", "--to", "signer-a", "--yes")
		}
		p := m.serve(as, 2)
		stop := make(chan struct{})
		var group sync.WaitGroup
		for worker := range 4 {
			group.Go(func() {
				key := keys[worker%2]
				for to := from; ; to++ {
					select {
					case <-stop:
						return
					default:
					}
					root := byte(worker + 10*(round%20)) // two workers disagree about each key
					code, text := p.attest(key, to-1, to, root)
					mu.Lock()
					if code == http.StatusPreconditionFailed {
						conflicts++
					}
					if code == http.StatusOK {
						if former, ok := seen[vote{key, to}]; ok && former != root {
							t.Errorf("round %d: two signatures of %v for target %d", round, key, to)
						}
						if !verified(t, key, to-1, to, root, text) {
							t.Errorf("round %d: not a signature: %s", round, text)
						}
						seen[vote{key, to}] = root
						highest[key] = max(highest[key], to)
					}
					mu.Unlock()
				}
			})
		}
		mu.Lock()
		want := len(seen) + 1 + rand.IntN(40)
		mu.Unlock()
		for n := 0; n < want; time.Sleep(time.Millisecond) {
			mu.Lock()
			n = len(seen)
			mu.Unlock()
		}
		p.end(syscall.SIGKILL)
		close(stop)
		group.Wait()
		// The next round begins where conflicts are certain.
		for _, to := range highest {
			from = max(1, to-2)
		}
	}
	if len(seen) < rounds || conflicts < rounds {
		t.Fatalf("%d signatures and %d conflicts in %d rounds: the test shows nothing", len(seen), conflicts, rounds)
	}
	t.Logf("%d signatures, %d refused, %d rounds", len(seen), conflicts, rounds)
}
