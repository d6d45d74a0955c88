//go:build unix

package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	kmstypes "github.com/aws/aws-sdk-go-v2/service/kms/types"

	"github.com/stakeseal/stakeseal/eth"
	"github.com/stakeseal/stakeseal/eth/keystore"
	"github.com/stakeseal/stakeseal/internal/aws/awstest"
	"github.com/stakeseal/stakeseal/internal/aws/sample"
	"github.com/stakeseal/stakeseal/internal/aws/sample/sampletest"
	"github.com/stakeseal/stakeseal/internal/aws/session"
	"github.com/stakeseal/stakeseal/internal/canary"
	"github.com/stakeseal/stakeseal/secret"
)

const sampleTable = "arn:aws:dynamodb:us-east-1:111122223333:table/secure-keygen-ValidatorKeysTable"

// sampleSite is a home, and a deployment of the AWS sample whose key's owner
// let the importer decrypt.
type sampleSite struct {
	*site
	kms      *awstest.KMS
	key      string
	function sampletest.Function
	rows     []sampletest.Row
}

func newSampleSite(t testing.TB) *sampleSite {
	t.Helper()
	s := &sampleSite{site: newSite(t)}
	var err error
	if s.kms, err = awstest.NewKMS("us-east-1"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.kms.Close() })
	if s.key, err = s.kms.CreateKey(awstest.Symmetric, fmt.Sprintf(`{"Version":"2012-10-17","Statement":[
		{"Effect":"Allow","Principal":{"AWS":%q},"Action":"kms:Encrypt","Resource":"*"},
		{"Effect":"Allow","Principal":{"AWS":%q},"Action":"kms:Decrypt","Resource":"*"}]}`, awstest.Role("sample-function"), awstest.Role("importer"))); err != nil {
		t.Fatal(err)
	}
	hoodi, _ := eth.LookupNetwork("hoodi")
	address, err := eth.ParseAddress(testAddress)
	if err != nil {
		t.Fatal(err)
	}
	s.function = sampletest.Function{Network: hoodi, Address: &address, KDF: keystore.PBKDF2, Encrypt: s.encrypt, Now: time.Date(2022, 12, 3, 4, 5, 6, 0, time.UTC)}
	return s
}

func (s *sampleSite) client(role string) *kms.Client {
	return kms.NewFromConfig(session.New("us-east-1", s.kms.Credentials(role), session.Options{Endpoint: s.kms.URL, Backoff: func(int) time.Duration { return 0 }}))
}

func (s *sampleSite) encrypt(plain []byte) ([]byte, error) {
	out, err := s.client("sample-function").Encrypt(s.Context(), &kms.EncryptInput{KeyId: &s.key, Plaintext: plain, EncryptionAlgorithm: kmstypes.EncryptionAlgorithmSpecSymmetricDefault})
	if err != nil {
		return nil, err
	}
	return out.CiphertextBlob, nil
}

// invoke makes n validators of one new mnemonic and puts them into the table.
func (s *sampleSite) invoke(n uint32) []sampletest.Row {
	s.Helper()
	rows, err := s.function.Invoke(n)
	if err != nil {
		s.Fatal(err)
	}
	s.rows = append(s.rows, rows...)
	return rows
}

// imported is how an import ended: what it printed, its rows by pubkey.
type importedOutcome struct {
	outcome
	rows []rowJSON
}

func (o importedOutcome) row(t testing.TB, p eth.Pubkey) rowJSON {
	t.Helper()
	for _, r := range o.rows {
		if r.Pubkey == p {
			return r
		}
	}
	t.Fatalf("no row of %v in %+v", p, o.rows)
	return rowJSON{}
}

func (r rowJSON) codes() (codes []string) {
	for _, f := range r.Findings {
		codes = append(codes, string(f.Severity)+" "+f.Code)
	}
	return codes
}

// take runs the import of the table's rows, as an export of it, in this
// process: only the way to AWS is another. change alters the opened home.
func (s *sampleSite) take(f sampleFlags, change func(*home)) (importedOutcome, error) {
	s.Helper()
	reads, err := sample.ParseExport(sampletest.Export(s.rows...))
	if err != nil {
		s.Fatal(err)
	}
	var out, words bytes.Buffer
	a := &app{out: &out, err: &words, yes: true, json: true}
	h := s.opened(a)
	if change != nil {
		change(h)
	}
	f.key, f.workers = s.key, max(f.workers, 2)
	opener, err := sample.NewOpener(s.client("importer"), s.key)
	if err != nil {
		s.Fatal(err)
	}
	err = a.takeSample(s.Context(), h, f, reads, sampleTable, opener)
	code := 0
	if err != nil {
		code, _ = verdict(err)
		fmt.Fprintln(&words, err)
	}
	o := importedOutcome{outcome: outcome{code, out.String(), words.String()}}
	s.hear([]string{"import aws-sample"}, o.outcome)
	o.rows = lines[rowJSON](s, o.out)
	return o, err
}

func (s *sampleSite) takes(code int, f sampleFlags) importedOutcome {
	s.Helper()
	o, _ := s.take(f, nil)
	if o.code != code {
		s.Fatalf("the import ended with %d, want %d:\n%s%s", o.code, code, o.out, o.err)
	}
	return o
}

// tree is every file of the home's store and archive, and what it holds.
func (s *site) tree() map[string]string {
	s.Helper()
	all := map[string]string{}
	h := s.opened(&app{})
	for i, err := range h.records.Imported(s.Context(), "") {
		if err != nil {
			s.Fatal(err)
		}
		all["import "+i.Pubkey.Hex()] = i.Mnemonic
	}
	for m, err := range h.records.ImportedMnemonics(s.Context()) {
		if err != nil {
			s.Fatal(err)
		}
		all["mnemonic "+m.ID] = m.Sealing.Digest.String()
	}
	entries, err := os.ReadDir(filepath.Join(s.home, "bundles", "_imports"))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		s.Fatal(err)
	}
	for _, e := range entries {
		data, err := os.ReadFile(filepath.Join(s.home, "bundles", "_imports", e.Name()))
		if err != nil {
			s.Fatal(err)
		}
		all["archive "+e.Name()] = string(data)
	}
	return all
}

// TestImportSample is the whole way: two requests' validators come out of the
// sample's table, are sealed anew and apart, marked wherever they are shown,
// drilled, assigned and handed over with their history unknown; nothing of
// them is in the clear anywhere; and a second run finds them.
func TestImportSample(t *testing.T) {
	s := newSampleSite(t)
	s.must(0, "generate", "--order", "born", "--count", "1", "--keystore", "none", "--yes")
	first, second := s.invoke(3), s.invoke(1)
	s.rows[1].Item["web3signer_uuid"] = &types.AttributeValueMemberS{Value: "a5f1a0a5-0000-4000-8000-000000000001"}

	before := s.tree()
	dry := s.takes(0, sampleFlags{dry: true})
	for _, r := range dry.rows {
		if r.State != rowReady {
			t.Errorf("dry: %+v", r)
		}
	}
	if after := s.tree(); len(after) != len(before) {
		t.Errorf("a dry run wrote %v", after)
	}

	o := s.takes(0, sampleFlags{})
	if len(o.rows) != 4 || !strings.Contains(o.err, "4 rows: 4 imported") || !strings.Contains(o.err, foreignWords) {
		t.Errorf("%s%s", o.out, o.err)
	}
	for i, m := range s.rows {
		r := o.row(t, m.Pubkey)
		want := []string{"note mnemonic-shared"}
		if i == 3 {
			want = nil
		}
		if r.State != rowImported || !slices.Equal(r.codes(), want) || r.Credentials == nil || r.Mnemonic == "" {
			t.Errorf("row %d: %+v", i, r)
		}
	}
	if o.row(t, first[0].Pubkey).Mnemonic != o.row(t, first[2].Pubkey).Mnemonic || o.row(t, first[0].Pubkey).Mnemonic == o.row(t, second[0].Pubkey).Mnemonic {
		t.Error("mnemonics are mixed up")
	}
	held := s.tree()
	if len(held) != 2*(4+2) { // in the store and the archive: keys and mnemonics, each mnemonic once
		t.Errorf("%d things are kept: %v", len(held), held)
	}
	again := s.takes(0, sampleFlags{})
	for _, r := range again.rows {
		if r.State != rowThere {
			t.Errorf("again: %+v", r)
		}
	}
	for name, content := range s.tree() {
		if held[name] != content {
			t.Errorf("a second run changed %s", name)
		}
	}
	s.importedEverywhere(first, second)
	s.importedUsed(first[1])
	s.importedSecrets()
}

// importedEverywhere: every command says what they are, or refuses them.
func (s *sampleSite) importedEverywhere(first, second []sampletest.Row) {
	s.Helper()
	one := first[0].Pubkey.String()
	list := s.must(0, "list")
	if strings.Count(list.out, "imported 2") != 4 || !strings.Contains(list.err, "4 of them "+foreignWords) {
		s.Errorf("list:\n%s%s", list.out, list.err)
	}
	all := lines[map[string]any](s, s.must(0, "list", "--json").out)
	marked := 0
	for _, v := range all {
		if how, ok := v["imported"].(map[string]any); ok {
			marked++
			if how["says"] != foreignWords || v["order"] != "imported" || v["withdrawal_credentials"] == nil {
				s.Errorf("list --json: %v", v)
			}
		}
	}
	if len(all) != 5 || marked != 4 {
		s.Errorf("list --json has %d, %d of them marked", len(all), marked)
	}
	if got := lines[listed](s, s.must(0, "list", "--order", "imported", "--json").out); len(got) != 4 {
		s.Errorf("list --order imported: %v", got)
	}
	if got := lines[listed](s, s.must(0, "list", "--order", "born", "--json").out); len(got) != 1 {
		s.Errorf("list --order born: %v", got)
	}
	shown := s.must(0, "show", one)
	for _, want := range []string{foreignWords, "none", "aws-sample, " + sampleTable, "m/12381/3600/0/0/0", testAddress, "datetime=2022-12-03T04:05:06.000000", "key-imported"} {
		if !strings.Contains(shown.out, want) {
			s.Errorf("show does not say %q:\n%s", want, shown.out)
		}
	}
	var object map[string]any
	if err := json.Unmarshal([]byte(s.must(0, "show", one, "--json").out), &object); err != nil || object["certificate"] != nil || object["record_verdict"] != "the same in the archive" {
		s.Errorf("show --json: %v %v", err, object)
	}
	for _, args := range [][]string{
		{"deposit", "export", "--out", s.path("never"), one}, {"deposit", "export", "--out", s.path("never"), "--order", "imported"},
		{"certificate", "export", one}, {"deposit", "status", one},
	} {
		o := s.must(exitRefused, args...)
		if !strings.Contains(o.err, "certificate") || !strings.Contains(o.err, "imported") {
			s.Errorf("%s: %s", strings.Join(args, " "), o.err)
		}
	}
	file := s.path("deposit_data-sample.json")
	writeFile(s, file, string(second[0].Deposit))
	if o := s.must(exitRefused, "deposit", "verify", file); !strings.Contains(o.err+o.out, "certificate") {
		s.Errorf("deposit verify judges it as one of ours:\n%s%s", o.out, o.err)
	}
	s.must(0, "deposit", "export", "--unexported", "--out", s.path("born-deposits")) // of the one that was born
	doctor := s.must(0, "doctor")
	for _, want := range []string{"4, of 2 mnemonics: store and archive agree", "4 have no birth certificate: " + foreignWords, "was never drilled"} {
		if !strings.Contains(doctor.out, want) {
			s.Errorf("doctor does not say %q:\n%s", want, doctor.out)
		}
	}
	drill := s.must(0, "recovery", "drill", "--order", "imported", "--identity", s.identity("recovery-a"), "--identity", s.identity("recovery-b"), "--json")
	if !strings.Contains(drill.out, `"validators":4,"mnemonics":2`) {
		s.Errorf("drill: %s", drill.out)
	}
	if doctor := s.must(0, "doctor"); strings.Contains(doctor.out, "mnemonic was never drilled") {
		s.Errorf("doctor after the drill:\n%s", doctor.out)
	}
	s.must(exitDenied, "recovery", "drill", "--order", "imported", "--identity", s.identity("signer-a"))
	s.must(exitUsage, "generate", "--order", "imported", "--count", "1", "--yes")
}

// importedUsed assigns one and hands it over: its key opens with the signer's
// identity and is the sample's.
func (s *sampleSite) importedUsed(row sampletest.Row) {
	s.Helper()
	pubkey := row.Pubkey.String()
	if o := s.must(0, "assign", "--to", "signer-a", pubkey); !strings.Contains(o.err, foreignWords) {
		s.Errorf("assign: %s", o.err)
	}
	export := []string{"keystore", "export", "--signer", "signer-a", "--for", "web3signer", "--yes", pubkey}
	if o := s.must(exitConflict, append(export, "--identity", s.identity("signer-a"), "--out", s.path("handed"))...); !strings.Contains(o.err, foreignWords) {
		s.Errorf("keystore export: %s", o.err)
	}
	s.must(exitDenied, append(export, "--no-history-known", "--identity", s.identity("recovery-a"), "--out", s.path("handed"))...)
	s.must(0, append(export, "--no-history-known", "--identity", s.identity("signer-a"), "--out", s.path("handed"))...)
	stores, err := filepath.Glob(s.path("handed", "keys", "*.json"))
	if err != nil || len(stores) != 1 {
		s.Fatalf("%v %v", stores, err)
	}
	data, err := os.ReadFile(stores[0])
	if err != nil {
		s.Fatal(err)
	}
	password, err := os.ReadFile(strings.TrimSuffix(strings.Replace(stores[0], "/keys/", "/passwords/", 1), ".json") + ".txt")
	if err != nil {
		s.Fatal(err)
	}
	raw, err := keystore.Open(s.Context(), data, secret.Copy(password))
	if err != nil || !bytes.Equal(raw.Expose(), row.Raw) {
		s.Errorf("what was handed over is another key: %v", err)
	}
	if bytes.Contains(password, row.Password) || bytes.Contains(data, row.Keystore[:200]) {
		s.Error("the sample's keystore or password was carried on")
	}
	s.must(exitConflict, "assign", "--to", "signer-a", pubkey)
}

// importedSecrets searches everything that was printed and written.
func (s *sampleSite) importedSecrets() {
	s.Helper()
	var n canary.Needles
	for _, r := range s.rows {
		n.Add("key of "+r.Pubkey.Hex()[:8], r.Raw)
		n.Add("password of "+r.Pubkey.Hex()[:8], r.Password)
		if len(r.Keystore) > 100 {
			n.Add("keystore of "+r.Pubkey.Hex()[:8], r.Keystore)
		}
		if len(strings.Fields(string(r.Words))) == 24 {
			addWords(s, &n, "mnemonic of "+r.Pubkey.Hex()[:8], string(r.Words))
		}
	}
	story := &story{site: s.site}
	found, read := story.search(&n, []string{"identities", "handed"})
	if len(found) > 0 {
		s.Errorf("secrets in the clear:\n%s", strings.Join(found, "\n"))
	}
	planted := filepath.Join(s.home, "planted")
	writeFile(s, planted, string(s.rows[0].Password))
	if found, _ := story.search(&n, []string{"identities", "handed"}); len(found) == 0 || read == 0 {
		s.Error("what was planted is not found")
	}
	if err := os.Remove(planted); err != nil {
		s.Fatal(err)
	}
}
