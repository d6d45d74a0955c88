package record

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"iter"
	"strings"
	"time"

	"github.com/stakeseal/stakeseal/eth"
)

// ImportedOrder stands where a birth's order would, for a key that was made
// elsewhere: in the binding of its sealing (and so in a key service's
// encryption context and trail), in its pubkey's claim, in its events, and as
// the word that selects imported keys. No order can be placed under it.
const ImportedOrder = "imported"

// CheckOrderID refuses what cannot be the id of an order: all that CheckID
// refuses, and ImportedOrder.
func CheckOrderID(id string) error {
	return first(CheckID(id), when(id == ImportedOrder, "order id %q is kept for keys that were made elsewhere", id))
}

// importsFolder holds the archive's objects of imports. No order's id begins
// like this, so that neither is ever taken for the other, and a policy can
// tell the two by their prefix.
const importsFolder = "_imports/"

// ImportObject is the archive's name for an import.
func ImportObject(pubkey eth.Pubkey) string { return importsFolder + pubkey.Hex() + ".json" }

// ImportedMnemonicObject is the archive's name for an imported mnemonic.
func ImportedMnemonicObject(id string) string { return importsFolder + id + ".json" }

// Source says where an imported secret was before, as far as its importer saw.
// What Detail repeats of the source's own words is unproven.
type Source struct {
	Kind   string            `json:"kind"`             // aws-sample, keystores, keymanager
	Place  string            `json:"place"`            // an ARN, or a file's name
	Digest Digest            `json:"digest"`           // sha256 of the bytes there that the secret was opened from
	Detail map[string]string `json:"detail,omitempty"` // such as what the source was assigned to
}

// Imported is the public part of an import, what lists show. It is a kind of
// its own: there is no certificate, no order and no settings, and nobody can
// say who saw the key before. What it says of deposits was signed by the key
// itself; what it says of a mnemonic was re-derived.
type Imported struct {
	Pubkey      eth.Pubkey        `json:"pubkey"`
	Network     string            `json:"network"`
	Path        string            `json:"path,omitempty"`                  // EIP-2334; empty: not known. Proven only with a Mnemonic
	Mnemonic    string            `json:"mnemonic,omitempty"`              // an ImportedMnemonic's id; empty: none came with the key
	Credentials eth.Credentials   `json:"withdrawal_credentials,omitzero"` // zero: not known
	Deposits    []Deposit         `json:"deposits,omitempty"`              // signed by the key for Credentials; empty: not known
	Source      Source            `json:"source"`                          //
	Labels      map[string]string `json:"labels,omitempty"`                // the importer's own notes, which selections go by
	Importer    string            `json:"importer"`                        // who ran the import
	Created     time.Time         `json:"created"`                         // of the import; when the key was made nobody can say
}

// Import is the whole record of an imported key: its public part and its
// signing secret's generation 0.
type Import struct {
	Imported
	Sealing Sealing `json:"sealing"`
}

// ImportedMnemonic is the sealed words that imported keys descend from.
type ImportedMnemonic struct {
	ID       string     `json:"mnemonic"`
	First    eth.Pubkey `json:"first_pubkey"` // at m/12381/3600/0/0/0: what tells two mnemonics apart without showing either
	Network  string     `json:"network"`
	Source   Source     `json:"source"`
	Importer string     `json:"importer"`
	Created  time.Time  `json:"created"`
	Sealing  Sealing    `json:"sealing"`
}

// ImportedMnemonicID is the id of the mnemonic whose first key has this
// pubkey. It is a function of the words, so that a mnemonic is sealed once
// however often it is found, and only through a public key, so that it tells
// no more than that key does.
func ImportedMnemonicID(first eth.Pubkey) string {
	sum := sha256.Sum256(append([]byte("stakeseal imported mnemonic v1\n"), first[:]...))
	return "m-" + hex.EncodeToString(sum[:8])
}

// Imports is the importer's port: what it may write. The generator does not
// have it, and the importer has no Births. Nothing in it changes or deletes a
// record.
type Imports interface {
	// PutImportedMnemonic stores a sealed mnemonic under its id. The same
	// again must succeed; another under the id must fail with ErrConflict.
	PutImportedMnemonic(ctx context.Context, m ImportedMnemonic) error

	// PutImport stores i if the store knows nothing of its pubkey. The same
	// import again must succeed; another import of the pubkey must fail with
	// ErrConflict, a pubkey that an index of an order holds with ErrExists,
	// a mnemonic that was not stored before with ErrNotFound, and one that is
	// for another network with ErrFormat. From then on PutBirth must fail with
	// ErrConflict for the pubkey, and Assign must take it.
	PutImport(ctx context.Context, i Import) error
}

// ImportReader reads what was imported.
type ImportReader interface {
	// Import returns the whole record of a pubkey or ErrNotFound. Strongly
	// consistent.
	Import(ctx context.Context, pubkey eth.Pubkey) (Import, error)

	// Imported yields the imports whose pubkey begins with prefix (lower-case
	// hex digits, no 0x; "" is all), by pubkey. It pages and ends as
	// Reader.Validators does, and must refuse what is no prefix.
	Imported(ctx context.Context, prefix string) iter.Seq2[Imported, error]

	// ImportedMnemonics yields every imported mnemonic, by id. Strongly
	// consistent.
	ImportedMnemonics(ctx context.Context) iter.Seq2[ImportedMnemonic, error]
}

var (
	imports           = form[Import]{schema: "stakeseal/import/v1"}
	importeds         = form[Imported]{schema: "stakeseal/imported/v1"}
	importedMnemonics = form[ImportedMnemonic]{schema: "stakeseal/imported-mnemonic/v1"}
)

func EncodeImport(i Import) ([]byte, error)        { return imports.encode(i) }
func DecodeImport(data []byte) (Import, error)     { return imports.decode(data) }
func EncodeImported(i Imported) ([]byte, error)    { return importeds.encode(i) }
func DecodeImported(data []byte) (Imported, error) { return importeds.decode(data) }
func EncodeImportedMnemonic(m ImportedMnemonic) ([]byte, error) {
	return importedMnemonics.encode(m)
}
func DecodeImportedMnemonic(data []byte) (ImportedMnemonic, error) {
	return importedMnemonics.decode(data)
}

// Index stands for the index of an order where a binding has one: that of a
// path m/12381/3600/<index>/0/0 below 2^31, else 0. Unlike in an order it need
// not be unique.
func (i Imported) Index() uint32 {
	var index uint32
	if _, err := fmt.Sscanf(i.Path, signingPath, &index); err != nil || index >= endIndex || i.Path != fmt.Sprintf(signingPath, index) {
		return 0
	}
	return index
}

// Check refuses a source that says neither what nor where.
func (s Source) Check() error {
	return first(
		CheckID(s.Kind),
		checkText("place", s.Place, 1, 4*maxText),
		when(s.Digest.IsZero(), "no digest of the source"),
		checkPairs("detail", s.Detail),
	)
}

// Check refuses an import that names a mnemonic without the path that leads
// to its key, and deposits without the credentials that they are for.
func (i Imported) Check() error {
	var errs []error
	if i.Path != "" {
		_, err := eth.ParsePath(i.Path)
		errs = append(errs, when(err != nil || i.Path == "m", "path %q is not of EIP-2334", clip(i.Path)))
	}
	if i.Mnemonic != "" {
		errs = append(errs, checkMnemonicID(i.Mnemonic), when(i.Path == "", "a mnemonic without a path"))
	}
	for _, d := range i.Deposits {
		errs = append(errs, when(d.Amount == 0, "deposit of the amount 0"))
	}
	return first(append(errs,
		when(i.Pubkey == eth.Pubkey{}, "no pubkey"),
		checkASCII("network", i.Network, maxID),
		when(len(i.Deposits) > maxPlan, "%d deposits", len(i.Deposits)),
		when(len(i.Deposits) > 0 && i.Credentials == eth.Credentials{}, "deposits without their withdrawal credentials"),
		i.Source.Check(),
		checkPairs("label", i.Labels),
		checkText("importer", i.Importer, 1, maxText),
		checkTime("created", i.Created),
	)...)
}

// Check refuses an import that is not sealed for signing in generation 0.
func (i Import) Check() error {
	return first(
		i.Imported.Check(),
		i.Sealing.Check(),
		when(i.Sealing.Purpose != Signing || i.Sealing.Generation != 0, "import sealed for %q, generation %d", i.Sealing.Purpose, i.Sealing.Generation),
	)
}

// Check refuses a mnemonic under another id than its own, or not sealed for
// recovery in generation 0.
func (m ImportedMnemonic) Check() error {
	return first(
		when(m.First == eth.Pubkey{}, "no first pubkey"),
		when(m.ID != ImportedMnemonicID(m.First), "id %q is not that of the mnemonic's first pubkey", clip(m.ID)),
		checkASCII("network", m.Network, maxID),
		m.Source.Check(),
		checkText("importer", m.Importer, 1, maxText),
		checkTime("created", m.Created),
		m.Sealing.Check(),
		when(m.Sealing.Purpose != Recovery || m.Sealing.Generation != 0, "mnemonic sealed for %q, generation %d", m.Sealing.Purpose, m.Sealing.Generation),
	)
}

// Fits refuses an import of another mnemonic or network than m's.
func (i Imported) Fits(m ImportedMnemonic) error {
	return first(
		when(i.Mnemonic != m.ID, "import of mnemonic %q, not %q", clip(i.Mnemonic), clip(m.ID)),
		when(i.Network != m.Network, "import on %q, its mnemonic on %q", clip(i.Network), clip(m.Network)),
	)
}

func checkMnemonicID(id string) error {
	digits, ok := strings.CutPrefix(id, "m-")
	return when(!ok || len(digits) != 16 || strings.Trim(digits, "0123456789abcdef") != "", "mnemonic %q is not m- and 16 hex digits", clip(id))
}
