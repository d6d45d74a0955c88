package certificate

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stakeseal/stakeseal/eth"
)

var update = flag.Bool("update", false, "write the examples into docs/formats")

const formats = "../docs/formats"

// docExamples are the blocks of the documents by their names, as the code
// makes them today. The format is fixed: a change here is a new version of
// the format, not a new example.
func docExamples(t *testing.T) map[string]string {
	t.Helper()
	env := mustSign(exampleBirth(0))
	e := must(parseEnvelope(env, maxBirth))
	pretty := func(payload []byte) string {
		var out bytes.Buffer
		if err := json.Indent(&out, payload, "", "  "); err != nil {
			t.Fatal(err)
		}
		return out.String()
	}
	paeDigest := sha256.Sum256(e.pae())
	receipt := must(SignReceipt(context.Background(), certifier, exampleReceipt()))
	key := certifier.public()
	return map[string]string{
		"trust":          strings.TrimSuffix(string(must(FormatTrust(*exampleTrust()))), "\n"),
		"network-digest": Hash(hoodi.Digest()).String(),
		"key":            fmt.Sprintf("%s\n%s\n%s", key, hex.EncodeToString([]byte(key.spki)), key.ID()),
		"statement":      pretty(e.payload),
		"payload":        fmt.Sprintf("%d bytes\n%s", len(e.payload), must(Digest(env))),
		"pae": fmt.Sprintf("%s...\n%x\n%s", e.pae()[:64], paeDigest,
			base64.StdEncoding.EncodeToString(e.signatures[0].sig)),
		"envelope":       string(env),
		"receipt":        pretty(must(canonical(exampleReceipt().statement()))),
		"receipt-digest": must(Digest(receipt)).String(),
	}
}

// block finds the fenced block after "<!-- example NAME -->" and returns its
// bounds in the document.
func block(t *testing.T, doc, name string) (from, to int) {
	t.Helper()
	mark := "<!-- example " + name + " -->\n```"
	i := strings.Index(doc, mark)
	if i < 0 || strings.Count(doc, mark) != 1 {
		t.Fatalf("%q stands there %d times", mark, strings.Count(doc, mark))
	}
	from = i + len(mark) + strings.IndexByte(doc[i+len(mark):], '\n') + 1
	n := strings.Index(doc[from:], "```")
	if n < 0 {
		t.Fatalf("the block %s has no end", name)
	}
	return from, from + n
}

func readDoc(t *testing.T, name string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(formats, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// Every value of the worked example is what the code makes.
func TestDocs(t *testing.T) {
	examples := docExamples(t)
	inDocs := 0
	for file, names := range map[string][]string{
		"trust.md":       {"trust", "network-digest"},
		"certificate.md": {"key", "statement", "payload", "pae", "envelope", "receipt", "receipt-digest"},
	} {
		doc := readDoc(t, file)
		for _, name := range names {
			inDocs++
			from, to := block(t, doc, name)
			want := examples[name] + "\n"
			if *update {
				doc = doc[:from] + want + doc[to:]
				continue
			}
			if doc[from:to] != want {
				t.Errorf("%s: example %s is\n%s\nand should be\n%s", file, name, doc[from:to], want)
			}
		}
		if *update {
			if err := os.WriteFile(filepath.Join(formats, file), []byte(doc), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	if inDocs != len(examples) {
		t.Errorf("%d of %d examples are in the documents", inDocs, len(examples))
	}
}

// The example as the documents print it verifies with what they print: read
// from the pages only, as a stranger would.
func TestDocsVerify(t *testing.T) {
	cert, trustDoc := readDoc(t, "certificate.md"), readDoc(t, "trust.md")
	cut := func(doc, name string) string {
		from, to := block(t, doc, name)
		return doc[from:to]
	}
	trust, err := ParseTrust([]byte(cut(trustDoc, "trust")))
	if err != nil {
		t.Fatal(err)
	}
	v, err := trust.VerifyBirth([]byte(cut(cert, "envelope")))
	if err != nil {
		t.Fatal(err)
	}
	if v.Key != "generator-2026" || v.Release != "v0-1-0" || v.AddressName != "acme-cold" || v.Pubkey != exampleBirth(0).Pubkey {
		t.Fatalf("got %+v", v)
	}

	var compact bytes.Buffer
	if err := json.Compact(&compact, []byte(cut(cert, "statement"))); err != nil {
		t.Fatal(err)
	}
	digest := sha256.Sum256(compact.Bytes())
	if want := fmt.Sprintf("%d bytes\n%x\n", compact.Len(), digest); cut(cert, "payload") != want {
		t.Errorf("length and digest should be %s", want)
	}

	lines := strings.Split(cut(cert, "pae"), "\n")
	pae := fmt.Sprintf("DSSEv1 28 application/vnd.in-toto+json %d %s", compact.Len(), compact.String())
	if sum := sha256.Sum256([]byte(pae)); !strings.HasPrefix(pae, strings.TrimSuffix(lines[0], "...")) || lines[1] != hex.EncodeToString(sum[:]) {
		t.Error("the PAE is not that of the statement")
	}
	pub := ed25519.NewKeyFromSeed(seed(0)).Public().(ed25519.PublicKey)
	if !ed25519.Verify(pub, []byte(pae), must(base64.StdEncoding.DecodeString(lines[2]))) {
		t.Error("the signature is not of the PAE")
	}
	spki := unhex(strings.Split(cut(cert, "key"), "\n")[1])
	if sum := sha256.Sum256(spki); strings.Split(cut(cert, "key"), "\n")[2] != hex.EncodeToString(sum[:]) || !bytes.Equal(spki[12:], pub) {
		t.Error("the key id is not the sha256 of the key")
	}
	if sum := sha256.Sum256([]byte(cut(trustDoc, "network"))); hex.EncodeToString(sum[:])+"\n" != cut(trustDoc, "network-digest") {
		t.Error("the network's text does not have the network's digest")
	}

	custom := strings.Replace(cut(trustDoc, "trust"), "network: hoodi\n", cut(trustDoc, "custom"), 1)
	other, err := ParseTrust([]byte(custom))
	if err != nil {
		t.Fatal(err)
	}
	if other.Network.Name != "devnet-7" || other.Network.ChainID != 7700 || other.Network.MinDeposit != eth.Gwei(1e9) {
		t.Errorf("the custom network reads as %+v", other.Network)
	}
}

// forPython skips without Python and its package cryptography, or fails with
// STAKESEAL_PYTHON=required. It returns what writes a file for the program, and
// the file of the network's parameters.
func forPython(t *testing.T) (write func(name string, data []byte) string, network string) {
	t.Helper()
	if out, err := exec.Command("python3", "-c", "import cryptography").CombinedOutput(); err != nil {
		if os.Getenv("STAKESEAL_PYTHON") == "required" {
			t.Fatalf("no python3 with cryptography: %v, %s", err, out)
		}
		t.Skip("no python3 with the package cryptography")
	}
	dir := t.TempDir()
	write = func(name string, data []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	from, to := block(t, readDoc(t, "trust.md"), "network")
	return write, write("network.txt", []byte(readDoc(t, "trust.md")[from:to]))
}

// The second implementation, in Python and written from the documents, comes
// to the same verdicts. It needs the package cryptography; with
// STAKESEAL_PYTHON=required its absence is a failure.
func TestPythonVerifier(t *testing.T) {
	write, network := forPython(t)
	kms := newKMSSigner()

	trust := exampleTrust()
	trust.Keys = append(trust.Keys, TrustedKey{"kms", kms.public(), Validity{}},
		TrustedKey{"stolen", newEdSigner(0x20).public(), Validity{Revoked: true}},
		TrustedKey{"retired", newEdSigner(0x60).public(), Validity{NotAfter: at("2026-11-22T09:29:59Z")}})
	trusted := write("trust.json", trustJSON(t, trust))
	bare := *trust
	bare.Releases = nil
	unjudged := write("bare.json", trustJSON(t, &bare))
	// The same release, signed by two release managers.
	managed := managedTrust(t)
	managed.Keys = trust.Keys
	managed.Approvers = approvingTrust().Approvers
	signed := write("managed.json", trustJSON(t, managed))

	ctx := context.Background()
	good := mustSign(exampleBirth(0))
	turned := func(turn func(*Birth)) []byte {
		b := exampleBirth(0)
		turn(&b)
		return signAny(certifier, b.statement())
	}
	swapped := func(old, new string) []byte {
		payload := string(must(canonical(exampleBirth(0).statement())))
		if !strings.Contains(payload, old) {
			t.Fatalf("%q is not in the payload", old)
		}
		return signBytes(certifier, []byte(strings.Replace(payload, old, new, 1)))
	}
	cases := []struct {
		name string
		env  []byte
	}{
		{"good", good},
		{"p256", must(SignBirth(ctx, kms, exampleBirth(1)))},
		{"two signatures", must(Countersign(ctx, kms, good))},
		{"unknown notary", must(Countersign(ctx, notary, good))},
		{"stranger", must(SignBirth(ctx, notary, exampleBirth(0)))},
		{"revoked", must(SignBirth(ctx, newEdSigner(0x20), exampleBirth(0)))},
		{"revoked beside a good one", must(Countersign(ctx, newEdSigner(0x20), good))},
		{"retired", must(SignBirth(ctx, newEdSigner(0x60), exampleBirth(0)))},
		{"retired, honest time", must(SignBirth(ctx, newEdSigner(0x60), func() Birth {
			b := exampleBirth(0)
			b.Time = at("2026-11-22T09:29:59Z")
			return b
		}()))},
		{"changed payload", bytes.Replace(good, []byte(`"payload":"ey`), []byte(`"payload":"eX`), 1)},
		{"payload twice", bytes.Replace(good, []byte(`"payload"`), []byte(`"payload":"","payload"`), 1)},
		{"receipt", must(SignReceipt(ctx, certifier, exampleReceipt()))},
		{"staged", turned(func(b *Birth) { b.Deposits = []Deposit{depositOf(*b, 1e9), depositOf(*b, 31e9)} })},
		{"wrong message root", turned(func(b *Birth) { b.Deposits[0].MessageRoot[0] ^= 1 })},
		{"wrong data root", turned(func(b *Birth) { b.Deposits[0].DataRoot[0] ^= 1 })},
		{"wrong path", turned(func(b *Birth) { b.Path = "m/12381/3600/1/0/0" })},
		{"0x00", turned(func(b *Birth) { b.Credentials[0] = 0 })},
		{"too much", turned(func(b *Birth) { b.Deposits = []Deposit{depositOf(*b, 33e9)} })},
		{"too little", turned(func(b *Birth) { b.Deposits = []Deposit{depositOf(*b, 1)} })},
		{"other address", turned(func(b *Birth) {
			b.Credentials = eth.ExecutionCredentials(eth.Address{9}, false)
			b.Deposits = []Deposit{depositOf(*b, 32e9)}
		})},
		{"other network", turned(func(b *Birth) { b.NetworkDigest[0] ^= 1 })},
		{"other binary", turned(func(b *Birth) { b.Maker.BinaryDigest[0] ^= 1 })},
		{"with function", turned(func(b *Birth) { b.Maker.Function = `a "b" \c` })},
		{"approved address", mustSign(approvedBirth(must(SignAddressApproval(ctx, approver, exampleApproval()))))},
		{"approved by a stranger", mustSign(approvedBirth(must(SignAddressApproval(ctx, notary, exampleApproval()))))},
		{"approval that ended", mustSign(approvedBirth(must(SignAddressApproval(ctx, approver, func() AddressApproval {
			a := exampleApproval()
			a.NotAfter = at("2026-11-02T00:00:00Z")
			return a
		}()))))},
		{"approval of another", turned(func(b *Birth) { b.Approval = string(must(SignAddressApproval(ctx, approver, exampleApproval()))) })},
		{"approval of nothing", turned(func(b *Birth) { b.Approval = "x" })},
		{"recovery", turned(func(b *Birth) { b.Sealing.Purpose = "recovery" })},
		{"recipient twice", turned(func(b *Birth) { b.Sealing.Recipients = append(b.Sealing.Recipients, b.Sealing.Recipients[0]) })},
		{"space", swapped(`"index":0`, `"index": 0`)},
		{"key twice", swapped(`"index":0`, `"index":1,"index":0`)},
		{"unknown field", swapped(`"index":0`, `"index":0,"x":0`)},
		{"number as text", swapped(`"index":0`, `"index":"0"`)},
		{"boolean as number", swapped(`"generation":0`, `"generation":false`)},
		{"float as number", swapped(`"generation":0`, `"generation":0.0`)},
		{"upper-case hex", swapped(`"pubkey":"0x8c239d`, `"pubkey":"0x8C239d`)},
		{"other subject", swapped(`"name":"0x8c239d`, `"name":"0x8c239e`)},
		{"empty commit", swapped(`"commit":"5f0c6f0e1a2b3c4d5e6f708192a3b4c5d6e7f809"`, `"commit":""`)},
		{"no commit", swapped(`,"commit":"5f0c6f0e1a2b3c4d5e6f708192a3b4c5d6e7f809"`, ``)},
		{"impossible date", swapped(`2026-11-22T`, `2026-02-30T`)},
	}

	// One interpreter for all: it starts slower than it verifies.
	type run struct{ Env, Trust string }
	var runs []run
	for i, c := range cases {
		env := write(fmt.Sprintf("birth-%d.json", i), c.env)
		runs = append(runs, run{env, trusted}, run{env, unjudged}, run{env, signed})
	}
	list := write("runs.json", must(json.Marshal(runs)))
	out, err := exec.Command("python3", "-B", "-c", `
import json, sys
sys.path.insert(0, sys.argv[1])
import verify_birth
read = lambda name: open(name, "rb").read()
for run in json.loads(read(sys.argv[2])):
    try:
        print(verify_birth.verify(read(run["Env"]), json.loads(read(run["Trust"])), read(sys.argv[3])))
    except verify_birth.Refused as reason:
        print("refused:", reason)
`, formats, list, network).CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	lines := strings.Split(strings.TrimSuffix(string(out), "\n"), "\n")
	if len(lines) != len(runs) {
		t.Fatalf("%d verdicts on %d runs:\n%s", len(lines), len(runs), out)
	}
	accepted := 0
	for i, line := range lines {
		c, tr := cases[i/3], []*Trust{trust, &bare, managed}[i%3]
		v, err := tr.VerifyBirth(c.env)
		want := ""
		if err == nil {
			accepted++
			want = fmt.Sprintf("%s is certified by %q, made by release %q, withdrawable to %q", v.Pubkey, v.Key, v.Release, v.AddressName)
		} else {
			class := map[error]string{ErrFormat: "malformed", ErrSignature: "not signed", ErrUntrusted: "not trusted", ErrMismatch: "mismatch"}[classOf(err)]
			want = "refused: " + class + ": "
		}
		if err == nil && line != want || !strings.HasPrefix(line, want) {
			t.Errorf("%s: Go says %q (%v), Python %q", c.name, want, err, line)
		}
	}
	if accepted < 8 || accepted > len(runs)/2 {
		t.Errorf("%d of %d verify: the cases prove little", accepted, len(runs))
	}

	// The program itself, as a stranger runs it.
	for i, code := range map[int]int{0: 0, 4: 3} {
		cmd := exec.Command("python3", "-B", filepath.Join(formats, "verify_birth.py"), runs[3*i].Env, trusted, network)
		out, _ := cmd.CombinedOutput()
		if got := cmd.ProcessState.ExitCode(); got != code || strings.TrimSuffix(string(out), "\n") != lines[3*i] {
			t.Errorf("%s: exit code %d, want %d: %s", cases[i].name, got, code, out)
		}
	}
}

// TestPythonVerifierOfReleases: a trust file whose releases are not what their
// managers signed is used by neither program.
func TestPythonVerifierOfReleases(t *testing.T) {
	write, network := forPython(t)
	birth := write("birth.json", mustSign(exampleBirth(0)))
	good := string(trustJSON(t, managedTrust(t)))
	for name, c := range map[string]struct {
		old, new string
		code     int
	}{
		"as signed":                       {"", "", 0},
		"another binary":                  {hashOf("binary").String(), hashOf("other").String(), 1},
		"longer":                          {`"not_after": "2027-10-31T23:59:59Z"`, `"not_after": "2028-10-31T23:59:59Z"`, 1},
		"shorter":                         {`"not_after": "2027-10-31T23:59:59Z"`, `"not_after": "2026-12-31T23:59:59Z"`, 0},
		"earlier":                         {`"not_before": "2026-11-01T00:00:01Z"`, `"not_before": "2026-10-01T00:00:00Z"`, 1},
		"three needed":                    {`"release_threshold": 2`, `"release_threshold": 3`, 1},
		"another commit":                  {exampleBirth(0).Maker.Commit, strings.Repeat("0", 40), 1},
		"one of two, when one was enough": {"", "", 0},
		"one of two":                      {`"threshold": 1`, `"threshold": 2`, 1},
		"one of two, no threshold":        {`"threshold": 1`, `"threshold": 0`, 1},
	} {
		text := good
		if strings.HasPrefix(name, "one of two") {
			text = string(trustJSON(t, raised(t)))
		}
		if c.old != "" {
			if !strings.Contains(text, c.old) {
				t.Fatalf("%s: %q is not there", name, c.old)
			}
			text = strings.Replace(text, c.old, c.new, 1)
		}
		_, err := ParseTrust([]byte(text))
		if (err == nil) != (c.code == 0) {
			t.Errorf("%s: Go says %v", name, err)
		}
		cmd := exec.Command("python3", "-B", filepath.Join(formats, "verify_birth.py"), birth, write("trust.json", []byte(text)), network)
		out, _ := cmd.CombinedOutput()
		if got := cmd.ProcessState.ExitCode(); got != c.code {
			t.Errorf("%s: Python exits with %d, want %d: %s", name, got, c.code, out)
		}
	}
}

// trustJSON writes a trust file as JSON, which is YAML too, and proves it.
func trustJSON(t *testing.T, trust *Trust) []byte {
	t.Helper()
	validity := func(m map[string]any, v Validity) map[string]any {
		if !v.NotBefore.IsZero() {
			m["not_before"] = v.NotBefore
		}
		if !v.NotAfter.IsZero() {
			m["not_after"] = v.NotAfter
		}
		if v.Revoked {
			m["revoked"] = true
		}
		return m
	}
	keys := func(of []TrustedKey) []any {
		list := []any{}
		for _, k := range of {
			list = append(list, validity(map[string]any{"name": k.Name, "key": k.Key.String()}, k.Validity))
		}
		return list
	}
	releases := []any{}
	for _, r := range trust.Releases {
		entry := map[string]any{"name": r.Name, "binary_sha256": r.Binaries, "settings_sha256": r.Settings}
		if len(r.Statement) > 0 {
			entry["package_sha256"], entry["review_sha256"], entry["commit"], entry["statement"] = r.Package, r.Review, r.Commit, string(r.Statement)
		}
		if r.Threshold != 0 {
			entry["threshold"] = r.Threshold
		}
		releases = append(releases, validity(entry, r.Validity))
	}
	file := map[string]any{
		"version": 1, "network": trust.Network.Name, "withdrawal_addresses": trust.Addresses, "certifying_keys": keys(trust.Keys), "releases": releases,
	}
	if len(trust.Managers) > 0 {
		file["release_managers"], file["release_threshold"] = keys(trust.Managers), trust.Threshold
	}
	if len(trust.Approvers) > 0 {
		file["approvers"] = keys(trust.Approvers)
	}
	data := must(json.MarshalIndent(file, "", " "))
	back, err := ParseTrust(data)
	if err != nil {
		t.Fatal(err)
	}
	wantSameTrust(t, back, trust)
	return data
}
