package main

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"

	"github.com/stakeseal/stakeseal/eth"
	"github.com/stakeseal/stakeseal/internal/aws/dynamodb"
	"github.com/stakeseal/stakeseal/internal/aws/ops"
	"github.com/stakeseal/stakeseal/internal/aws/session"
	"github.com/stakeseal/stakeseal/record"
)

// rights knows which role of an installation may do what, for the hints of
// denied calls. It decides nothing: AWS does, by the policies of the templates
// in infra.
type rights struct {
	installation string // the name that roles begin with
	caller       ops.Caller
}

// Who may do what with the parts of an installation: the roles of
// infra/bootstrap.yaml.
var (
	readers   = []string{"requester", "depositor", "signer", "recovery", "auditor", "administrator"}
	importers = []string{"importer"}
	nobody    []string // but the generator
	noters    = []string{"depositor", "signer", "recovery", "administrator"}
	assigners = []string{"administrator", "signer"}
	invokers  = []string{"requester"}
)

// signedOut are the codes with which AWS says that a session has ended.
var signedOut = map[string]bool{"ExpiredToken": true, "ExpiredTokenException": true, "RequestExpired": true}

// explain adds to a denial who may do what was denied. Other errors stay as
// they are.
func (r *rights) explain(err error, what string, roles []string) error {
	if err == nil || !errors.Is(err, session.ErrDenied) {
		return err
	}
	var f *failure
	if fault, ok := errors.AsType[*session.Fault](err); ok && signedOut[fault.Code] || errors.As(err, &f) {
		return err
	}
	who := r.caller.ARN
	if r.caller.Role != "" {
		who = "the role " + r.caller.Role
	}
	names := make([]string, len(roles))
	for i, role := range roles {
		names[i] = r.installation + "-" + role
	}
	list := strings.Join(names, ", ")
	if n := len(names); n > 1 {
		list = strings.Join(names[:n-1], ", ") + " or " + names[n-1]
	}
	switch {
	case len(roles) == 0:
		return fail(exitDenied, fmt.Sprintf("nobody's role may %s but the generator's: to take back an order that was lost, restore the table to a point in time, or have break-glass open its policy for you, which rings the alarm (docs/aws.md)", what), "%w", err)
	case slices.Equal(roles, importers):
		list += " (an optional role, see infra/README.md)"
	}
	return fail(exitDenied, fmt.Sprintf("%s may not %s; %s may: AWS_PROFILE=NAME chooses another profile", who, what, list), "%w", err)
}

// guardedRecords is the DynamoDB store with denials explained.
type guardedRecords struct {
	*dynamodb.Store
	rights *rights
}

var _ records = (*guardedRecords)(nil)

const (
	toRead        = "read records"
	toBear        = "record births"
	toImport      = "record imported keys"
	toAssign      = "assign validators"
	toSeeAssigned = "read assignments"
	toSeeEvents   = "read events"
	toNote        = "note events"
	toUnpack      = "read the archive"
	toPack        = "put births into the archive"
)

// Place implements record.Births.
func (g *guardedRecords) Place(ctx context.Context, o record.Order) (record.Order, error) {
	o, err := g.Store.Place(ctx, o)
	return o, g.rights.explain(err, toBear, nobody)
}

// PutMnemonic implements record.Births.
func (g *guardedRecords) PutMnemonic(ctx context.Context, m record.Mnemonic) error {
	return g.rights.explain(g.Store.PutMnemonic(ctx, m), toBear, nobody)
}

// PutBirth implements record.Births.
func (g *guardedRecords) PutBirth(ctx context.Context, b record.Birth) (record.Birth, error) {
	b, err := g.Store.PutBirth(ctx, b)
	return b, g.rights.explain(err, toBear, nobody)
}

// Order implements record.Reader.
func (g *guardedRecords) Order(ctx context.Context, id string) (record.Order, error) {
	o, err := g.Store.Order(ctx, id)
	return o, g.rights.explain(err, toRead, readers)
}

// Birth implements record.Reader.
func (g *guardedRecords) Birth(ctx context.Context, pubkey eth.Pubkey) (record.Birth, error) {
	b, err := g.Store.Birth(ctx, pubkey)
	return b, g.rights.explain(err, toRead, readers)
}

// Validators implements record.Reader.
func (g *guardedRecords) Validators(ctx context.Context, q record.Query) iter.Seq2[record.Validator, error] {
	return explained(g.Store.Validators(ctx, q), g.rights, toRead, readers)
}

// Orders implements record.Catalog.
func (g *guardedRecords) Orders(ctx context.Context) iter.Seq2[record.Order, error] {
	return explained(g.Store.Orders(ctx), g.rights, toRead, readers)
}

// Mnemonics implements record.Catalog.
func (g *guardedRecords) Mnemonics(ctx context.Context, order string) iter.Seq2[record.Mnemonic, error] {
	return explained(g.Store.Mnemonics(ctx, order), g.rights, toRead, readers)
}

// Assignment implements record.Assignments.
func (g *guardedRecords) Assignment(ctx context.Context, pubkey eth.Pubkey) (record.Assignment, error) {
	v, err := g.Store.Assignment(ctx, pubkey)
	return v, g.rights.explain(err, toSeeAssigned, readers)
}

// Assigned implements record.Assignments.
func (g *guardedRecords) Assigned(ctx context.Context, signer string) iter.Seq2[record.Assignment, error] {
	return explained(g.Store.Assigned(ctx, signer), g.rights, toSeeAssigned, readers)
}

// Assign implements record.Assignments.
func (g *guardedRecords) Assign(ctx context.Context, v record.Assignment) error {
	return g.rights.explain(g.Store.Assign(ctx, v), toAssign, assigners)
}

// Append implements record.Events.
func (g *guardedRecords) Append(ctx context.Context, e record.Event) error {
	return g.rights.explain(g.Store.Append(ctx, e), toNote, noters)
}

// Events implements record.Events.
func (g *guardedRecords) Events(ctx context.Context, q record.EventQuery) iter.Seq2[record.Event, error] {
	return explained(g.Store.Events(ctx, q), g.rights, toSeeEvents, readers)
}

// PutImportedMnemonic implements record.Imports.
func (g *guardedRecords) PutImportedMnemonic(ctx context.Context, m record.ImportedMnemonic) error {
	return g.rights.explain(g.Store.PutImportedMnemonic(ctx, m), toImport, importers)
}

// PutImport implements record.Imports.
func (g *guardedRecords) PutImport(ctx context.Context, i record.Import) error {
	return g.rights.explain(g.Store.PutImport(ctx, i), toImport, importers)
}

// Import implements record.ImportReader.
func (g *guardedRecords) Import(ctx context.Context, pubkey eth.Pubkey) (record.Import, error) {
	i, err := g.Store.Import(ctx, pubkey)
	return i, g.rights.explain(err, toRead, readers)
}

// Imported implements record.ImportReader.
func (g *guardedRecords) Imported(ctx context.Context, prefix string) iter.Seq2[record.Imported, error] {
	return explained(g.Store.Imported(ctx, prefix), g.rights, toRead, readers)
}

// ImportedMnemonics implements record.ImportReader.
func (g *guardedRecords) ImportedMnemonics(ctx context.Context) iter.Seq2[record.ImportedMnemonic, error] {
	return explained(g.Store.ImportedMnemonics(ctx), g.rights, toRead, readers)
}

func explained[T any](rows iter.Seq2[T, error], r *rights, what string, roles []string) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		for v, err := range rows {
			if !yield(v, r.explain(err, what, roles)) {
				return
			}
		}
	}
}

// importsFolder begins the names of what an import archives.
const importsFolder = "_imports/"

// guardedArchive is the bucket with denials explained.
type guardedArchive struct {
	record.Archive
	rights *rights
}

// Put implements record.Archive.
func (g *guardedArchive) Put(ctx context.Context, name string, data []byte) error {
	what, roles := toPack, nobody
	if strings.HasPrefix(name, importsFolder) {
		what, roles = toImport, importers
	}
	return g.rights.explain(g.Archive.Put(ctx, name, data), what, roles)
}

// Get implements record.Archive.
func (g *guardedArchive) Get(ctx context.Context, name string) ([]byte, error) {
	data, err := g.Archive.Get(ctx, name)
	return data, g.rights.explain(err, toUnpack, readers)
}
