package world_test

import (
	"errors"
	"testing"

	sdkddb "github.com/aws/aws-sdk-go-v2/service/dynamodb"

	"github.com/stakeseal/stakeseal/eth"
	"github.com/stakeseal/stakeseal/infra/stack"
	"github.com/stakeseal/stakeseal/internal/aws/awstest/world"
	"github.com/stakeseal/stakeseal/internal/aws/dynamodb"
	"github.com/stakeseal/stakeseal/internal/aws/session"
	"github.com/stakeseal/stakeseal/record"
	"github.com/stakeseal/stakeseal/record/recordtest"
	"github.com/stakeseal/stakeseal/slashing"
	"github.com/stakeseal/stakeseal/slashing/slashingtest"
)

func storeOf(t testing.TB, w *world.World, inst *stack.Installation, role string) *dynamodb.Store {
	t.Helper()
	tables, err := dynamodb.Beside(*out(inst, "foundation", "RecordsTableArn"))
	must(t, err)
	s, err := dynamodb.New(sdkddb.NewFromConfig(as(w, role)), tables)
	must(t, err)
	return s
}

// TestSigners: by the templates' policies the signer's role can do all that a
// signer does with its ledger and lease, and no other role writes either; who
// reads records reads them.
func TestSigners(t *testing.T) {
	w, inst := deployed(t)
	mine := storeOf(t, w, inst, "signer")
	info, err := mine.CreateLedger(ctx, "signer-a", eth.Root{1})
	must(t, err)
	l, err := mine.OpenLedger(ctx, "signer-a")
	must(t, err)
	must(t, l.Hold(ctx, 1))
	admission := []slashing.Admission{{Mark: slashing.Mark{Pubkey: slashingtest.Key(1)}, Assignment: 1}}
	must(t, l.Admit(ctx, 1, admission))
	must(t, l.Add(ctx, 1, []slashing.Mark{{Pubkey: slashingtest.Key(2)}}))
	must(t, l.Sign(ctx, 1, []slashing.Claim{slashingtest.Attestation(1, 1, 2, 1)})[0])
	if err := l.Sign(ctx, 1, []slashing.Claim{slashingtest.Attestation(1, 1, 2, 2)})[0]; !errors.Is(err, slashing.ErrSlashable) {
		t.Errorf("a double vote: %v", err)
	}
	watermark, err := l.Watermark(ctx)
	must(t, err)
	lease := recordtest.Lease("signer-a")
	lease.Ledger, lease.Watermark = info.ID, watermark
	must(t, mine.Take(ctx, lease))
	lease.Beat++
	must(t, mine.Take(ctx, lease))
	must(t, second(l.Admitted(ctx)))
	must(t, second(l.Complete(ctx, []eth.Pubkey{slashingtest.Key(1)})))
	before := string(w.Tables.Dump())

	forge := func(s *dynamodb.Store, signer string) map[string]error {
		errs := map[string]error{"CreateLedger": second(s.CreateLedger(ctx, "external:mine", eth.Root{1}))}
		next := lease
		next.Epoch, next.Beat, next.Holder = 2, 3, "h-thief"
		if _, err := s.Lease(ctx, "signer-a"); err == nil {
			errs["Take"] = s.Take(ctx, next)
		}
		theirs, err := s.OpenLedger(ctx, signer)
		if err != nil {
			return errs
		}
		errs["Hold"] = theirs.Hold(ctx, 2)
		errs["Admit"] = theirs.Admit(ctx, 1, []slashing.Admission{{Mark: slashing.Floor(slashingtest.Key(1), 900, 32), Assignment: 2}})
		errs["Sign"] = theirs.Sign(ctx, 1, []slashing.Claim{slashingtest.Attestation(1, 2, 3, 1)})[0]
		errs["ReplaceLedger"] = second(s.ReplaceLedger(ctx, theirs.Info(), eth.Root{1}))
		return errs
	}
	for role, reads := range map[string]bool{
		"requester": true, "depositor": true, "recovery": true, "auditor": true, "administrator": true,
		"generator": false, "developer": false, "release-manager": false, "break-glass": true,
	} {
		s := storeOf(t, w, inst, role)
		errs := forge(s, "signer-a")
		if want := map[bool]int{true: 6, false: 1}[reads]; len(errs) != want {
			t.Errorf("%s: only %d writes were tried", role, len(errs))
		}
		for what, err := range errs {
			if !errors.Is(err, session.ErrDenied) {
				t.Errorf("%s, %s: %v", role, what, err)
			}
		}
		got, err := s.Lease(ctx, "signer-a")
		if reads && (err != nil || got != lease) || !reads && !errors.Is(err, session.ErrDenied) {
			t.Errorf("%s reads the lease %+v, %v", role, got, err)
		}
		if _, err := s.OpenLedger(ctx, "signer-a"); (err == nil) != reads || err != nil && errors.Is(err, record.ErrNotFound) {
			t.Errorf("%s opens the ledger: %v", role, err)
		}
	}
	if string(w.Tables.Dump()) != before {
		t.Error("something was written")
	}
	must(t, storeOf(t, w, inst, "auditor").Verify(ctx))
	if info, err = mine.ReplaceLedger(ctx, info, eth.Root{1}); err != nil || info.Signer != "signer-a" {
		t.Errorf("%+v, %v", info, err)
	}
}
