package deposit

import (
	"github.com/stakeseal/stakeseal/eth"
)

// Schema names the JSON form of a Verdict.
const Schema = "stakeseal/deposit-verdict/v1"

// Severity says what a finding means for the verdict.
type Severity string

const (
	Refuse Severity = "refuse" // this must not be sent
	Warn   Severity = "warn"   // a person should look
	Note   Severity = "note"   // worth knowing
)

// Code names a kind of finding. Codes are stable: scripts compare them, and
// docs/deposits.md explains each.
type Code string

// Of the file's form; these come in a FormatError.
const (
	FileSize         Code = "file-size"
	NotJSON          Code = "not-json"
	NotArray         Code = "not-array"
	NoEntries        Code = "no-entries"
	NotObject        Code = "not-object"
	DuplicateField   Code = "duplicate-field"
	MissingField     Code = "missing-field"
	WrongType        Code = "wrong-type"
	HexPrefix        Code = "hex-prefix"
	WrongLength      Code = "wrong-length"
	UpperCase        Code = "upper-case"
	NotHex           Code = "not-hex"
	AmountNotInteger Code = "amount-not-integer"
)

// Of an entry by itself.
const (
	ExtraField         Code = "extra-field"
	CLIVersionMissing  Code = "cli-version-missing"
	NetworkNameMissing Code = "network-name-missing"
	NetworkNameDiffers Code = "network-name"
	ForkVersionDiffers Code = "fork-version"
	CredentialsBuilder Code = "credentials-builder"
	CredentialsBLS     Code = "credentials-bls"
	CredentialsPrefix  Code = "credentials-prefix"
	CredentialsPadding Code = "credentials-padding"
	AddressUnknown     Code = "address-unknown"
	AddressAny         Code = "address-any"
	AddressApproved    Code = "address-approved"
	AddressBad         Code = "address-bad"
	AmountMinimum      Code = "amount-minimum"
	AmountMaximum      Code = "amount-maximum"
	AmountNotPlanned   Code = "amount-not-planned"
	MessageRootDiffers Code = "message-root"
	DataRootDiffers    Code = "data-root"
	PubkeyInvalid      Code = "pubkey-invalid"
	SignatureInvalid   Code = "signature-invalid"
	SignatureNetwork   Code = "signature-other-network"
	SignatureTopUp     Code = "signature-top-up"
)

// Of the entries of one pubkey together.
const (
	Duplicate           Code = "duplicate-deposit"
	CredentialsConflict Code = "credentials-conflict"
	SumOverPlan         Code = "sum-over-plan"
	SumOverCap          Code = "sum-over-cap"
	PlanIncomplete      Code = "plan-incomplete"
	BelowActivation     Code = "below-activation"
)

// Against the birth certificate.
const (
	Uncertified        Code = "uncertified"
	CertificateDiffers Code = "certificate-differs"
	CertificateInvalid Code = "certificate-invalid"
)

// Against the chain.
const (
	ChainNotAsked      Code = "chain-not-asked"
	PendingNotSeen     Code = "pending-not-seen"
	ChainForeign       Code = "chain-foreign"
	PendingForeign     Code = "pending-foreign"
	PendingUnsigned    Code = "pending-unsigned"
	ChainExited        Code = "chain-exited"
	AlreadyDeposited   Code = "already-deposited"
	ChainTopUp         Code = "chain-top-up"
	ChainNextStage     Code = "chain-next-stage"
	CredentialsChanged Code = "credentials-changed"
)

// Finding is one thing that a check found. Source and Row are empty for what
// concerns all files; Field names the JSON field where one is to blame.
type Finding struct {
	Code     Code       `json:"code"`
	Severity Severity   `json:"severity"`
	Source   string     `json:"source,omitempty"`
	Row      int        `json:"row,omitempty"` // from 1
	Field    string     `json:"field,omitempty"`
	Pubkey   eth.Pubkey `json:"pubkey,omitzero"`
	Message  string     `json:"message"`
	Hint     string     `json:"hint,omitempty"`
}

// String is the finding as one line without its hint. Everything that came
// from a file is quoted in it.
func (f Finding) String() string {
	s := string(f.Severity) + ": "
	if at := place(f.Source, f.Row); at != "" {
		s += at + ": "
	}
	return s + f.Message + " [" + string(f.Code) + "]"
}

// Outcome is what a verdict says over all.
type Outcome string

const (
	Good    Outcome = "good"    // every check that was asked for was made, none refuses
	Refused Outcome = "refused" // at least one finding refuses
	Unknown Outcome = "unknown" // a source could not be asked: never a pass
)

// Verdict is the answer over all entries. The zero value is not good.
type Verdict struct {
	Schema      string      `json:"schema"`
	Outcome     Outcome     `json:"verdict"`
	Network     string      `json:"network"`
	ForkVersion eth.Version `json:"genesis_fork_version"`
	Entries     int         `json:"entries"`
	Validators  int         `json:"validators"` // distinct pubkeys
	Total       eth.Gwei    `json:"total_gwei"` // sum of all entries' amounts
	AsOf        *At         `json:"as_of"`      // null when the chain was not asked, or did not answer
	Findings    []Finding   `json:"findings"`   // by file and row, then what concerns all

	// NotChecked says in words what could not be checked, and why. Empty in
	// every good verdict.
	NotChecked string `json:"not_checked,omitempty"`
}

// OK reports whether the deposits may be sent. An empty or half-made verdict
// is not OK.
func (v Verdict) OK() bool { return v.Schema == Schema && v.Outcome == Good }

// Count returns how many findings have the severity.
func (v Verdict) Count(s Severity) int {
	n := 0
	for _, f := range v.Findings {
		if f.Severity == s {
			n++
		}
	}
	return n
}
