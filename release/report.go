package release

import (
	"fmt"
	"slices"
	"time"

	"github.com/stakeseal/stakeseal/certificate"
)

// ReportSchema names the form of a review report.
const ReportSchema = "stakeseal/review-report/v1"

// The weights of findings, the heaviest first.
const (
	Danger = "danger" // could give keys or money to somebody else, or hides something
	Look   = "look"   // changes what makes keys: to be understood before approving
	Note   = "note"
)

// Report is what a release manager decides from. Everything in it was found
// out here, from the package's bytes and the reviewer's own repository; of
// what the submitter says only Description, marked so.
type Report struct {
	Schema         string           `json:"schema"`
	Time           time.Time        `json:"time"`
	Package        certificate.Hash `json:"package_sha256"`
	Bytes          int              `json:"bytes"`
	Submission     certificate.Hash `json:"submission"`
	Submitter      string           `json:"submitter"`
	Description    string           `json:"description"`
	Commit         string           `json:"commit"`
	CommitTime     string           `json:"commit_time"`
	Platform       string           `json:"platform"`
	Network        string           `json:"network"`
	Binary         certificate.Hash `json:"binary_sha256"`
	SettingsDigest certificate.Hash `json:"settings_sha256"`

	Base      *Base     `json:"base,omitempty"` // the release that it is compared with; absent: none, all is new
	Attention []Finding `json:"attention"`      // the heaviest first

	Rebuild         Rebuild         `json:"rebuild"`
	Settings        []Setting       `json:"settings"`
	Modules         []ModuleChange  `json:"modules"`
	Vulnerabilities Vulnerabilities `json:"vulnerabilities"`
	Tests           Tests           `json:"tests"`
	Commits         []Commit        `json:"commits"`
	Source          []SourcePackage `json:"source"`

	// Why the settings or the source could not be compared: an empty list above
	// then says nothing.
	SettingsMissing string `json:"settings_missing,omitempty"`
	SourceMissing   string `json:"source_missing,omitempty"`
	// What C compilers and assemblers read beside the files that go list names.
	Included []Included `json:"included"`
}

// Included are the files of one module, or of this repository (Module is "")
// that are read by C's preprocessor or an assembler because another file names
// them.
type Included struct {
	Module  string   `json:"module,omitempty"` // path@version
	Files   []string `json:"files"`
	Unknown []string `json:"unknown,omitempty"` // names that lead to no file there
}

// Base is the release in force that a package is compared with.
type Base struct {
	Name    string           `json:"name,omitempty"`
	Package certificate.Hash `json:"package_sha256"`
	Commit  string           `json:"commit"`
}

// Finding is something that must be seen.
type Finding struct {
	Weight string `json:"weight"`
	Text   string `json:"text"`
}

// Rebuild compares the package with one that was built here from the commit
// that it names.
type Rebuild struct {
	Verdict   string            `json:"verdict"` // equal, contents, different, not rebuilt
	Detail    string            `json:"detail"`
	Package   certificate.Hash  `json:"package_sha256,omitzero"`
	Toolchain string            `json:"toolchain"` // of the package
	Compiler  string            `json:"compiler"`
	Files     []RebuiltFile     `json:"files,omitempty"`
	Took      time.Duration     `json:"took_ns"`
	Machine   map[string]string `json:"differences,omitempty"` // what this machine has otherwise, where it did not match
}

// RebuiltFile is one file of the package beside the rebuilt one.
type RebuiltFile struct {
	Name  string           `json:"name"`
	Is    certificate.Hash `json:"package_sha256,omitzero"`
	Built certificate.Hash `json:"rebuilt_sha256,omitzero"`
	Equal bool             `json:"equal"`
}

// The verdicts of a rebuild.
const (
	Equal      = "equal"       // every byte of the package
	Contents   = "contents"    // every byte of every file; the zip was compressed by another Go version
	Different  = "different"   //
	NotRebuilt = "not rebuilt" //
)

func sameVerdict(v string) bool { return v == Equal || v == Contents }

// Same reports whether what was built here has the same content.
func (r Rebuild) Same() bool { return sameVerdict(r.Verdict) }

// Setting is one setting, before and after.
type Setting struct {
	Name   string `json:"name"`
	Before string `json:"before"`
	After  string `json:"after"`
	Change string `json:"change"` // "", added, removed, changed
	Weight string `json:"weight,omitempty"`
}

// ModuleChange is a module that the program holds, or held.
type ModuleChange struct {
	Path   string  `json:"path"`
	Before *Module `json:"before,omitempty"`
	After  *Module `json:"after,omitempty"`
	Change string  `json:"change"` // "", added, removed, changed
	// Of a changed or added one: its source, where it could be read here.
	Files []SourceFile `json:"files,omitempty"`
	Note  string       `json:"note,omitempty"` // why its source could not be read: the empty list then says nothing
}

// Vulnerabilities are the known ones of the modules and of Go itself.
type Vulnerabilities struct {
	Checked  bool            `json:"checked"`
	Why      string          `json:"why,omitempty"` // it was not checked
	Database string          `json:"database,omitempty"`
	Found    []Vulnerability `json:"found"`
}

// Vulnerability is one entry of the database that applies to a version.
type Vulnerability struct {
	ID      string `json:"id"`
	Module  string `json:"module"`
	Version string `json:"version"`
	Fixed   string `json:"fixed,omitempty"`
	Summary string `json:"summary"`
}

// Tests say which tests ran on the commit, here.
type Tests struct {
	Ran      bool          `json:"ran"`
	Why      string        `json:"why,omitempty"`
	Pattern  string        `json:"pattern,omitempty"`
	Open     []string      `json:"open,omitempty"` // what the tests could reach
	Packages []TestPackage `json:"packages,omitempty"`
}

// TestPackage is the result of one package's tests.
type TestPackage struct {
	Path    string   `json:"path"`
	Result  string   `json:"result"` // pass, fail, skip (no tests)
	Passed  int      `json:"passed"`
	Failed  []string `json:"failed,omitempty"`
	Skipped []string `json:"skipped,omitempty"`
}

// Commit is a commit between the base and the package.
type Commit struct {
	ID      string `json:"id"`
	Author  string `json:"author"`
	Time    string `json:"time"`
	Subject string `json:"subject"`
}

// SourcePackage is the changed files of one folder.
type SourcePackage struct {
	Path        string       `json:"path"`
	InGenerator bool         `json:"in_generator"` // the program that makes keys is made of some of its changed files
	Added       int          `json:"lines_added"`
	Removed     int          `json:"lines_removed"`
	Files       []SourceFile `json:"files"`
}

// SourceFile is a changed file with its difference in unified form.
type SourceFile struct {
	Path    string `json:"path"`
	Change  string `json:"change"` // added, removed, changed
	Added   int    `json:"lines_added"`
	Removed int    `json:"lines_removed"`
	Diff    string `json:"diff,omitempty"`
	Note    string `json:"note,omitempty"` // why there is no diff

	Mode        string `json:"mode,omitempty"`         // "file to symbolic link", where that changed
	InGenerator bool   `json:"in_generator,omitempty"` // the program that makes keys is, or was, made of it
}

// attend adds a finding. Words of compilers and of git are in some, which a
// submitted commit can choose: none that a terminal obeys.
func (r *Report) attend(weight, format string, args ...any) {
	r.Attention = append(r.Attention, Finding{weight, visible(fmt.Sprintf(format, args...))})
}

// order puts the heaviest findings first, each weight in the order found.
func (r *Report) order() {
	slices.SortStableFunc(r.Attention, func(a, b Finding) int { return rank(a.Weight) - rank(b.Weight) })
}

func rank(weight string) int { return slices.Index([]string{Danger, Look, Note}, weight) }

// Encode is the report's one JSON, whose sha256 an approval names.
func (r *Report) Encode() ([]byte, error) { return encode(r) }

// ParseReport reads what Encode wrote.
func ParseReport(data []byte) (*Report, error) {
	var r Report
	if len(data) > 48<<20 {
		return nil, fmt.Errorf("%w: the report is too large", ErrPackage)
	}
	if err := strict("review report", data, &r); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrPackage, err)
	}
	if r.Schema != ReportSchema {
		return nil, fmt.Errorf("%w: schema %q is not %q", ErrPackage, clip(r.Schema), ReportSchema)
	}
	return &r, nil
}
