package release

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/stakeseal/stakeseal/certificate"
	"github.com/stakeseal/stakeseal/record"
)

// Store keeps objects that are put once and never replaced: a folder, or an S3
// bucket. It is record.Archive with other contents: Put of a name that is
// there is record.ErrExists, Get of one that is not record.ErrNotFound.
type Store interface {
	Put(ctx context.Context, name string, data []byte) error
	Get(ctx context.Context, name string) ([]byte, error)
}

// Depot is where packages go from hand to hand. Each store is written by one
// kind of person, and nothing that it returns is believed: packages are named
// by their digest, and every statement is signed.
type Depot struct {
	Submissions Store // written by developers:  DIGEST/package.zip, DIGEST/submission-KEYID.json
	Reviews     Store // by release managers:    DIGEST/report-SHA256.json, DIGEST/review-KEYID.json, DIGEST/release-KEYID.json, DIGEST/revocation-KEYID.json
}

// put stores an object. The same bytes again are no conflict: a step that was
// killed is done again.
func put(ctx context.Context, s Store, name string, data []byte) error {
	err := s.Put(ctx, name, data)
	if !errors.Is(err, record.ErrExists) {
		return err
	}
	there, err := s.Get(ctx, name)
	if err != nil {
		return err
	}
	if !bytes.Equal(there, data) {
		return fmt.Errorf("%s: %w, with other content", name, record.ErrExists)
	}
	return nil
}

func name(pkg certificate.Hash, file string) string { return pkg.String() + "/" + file }
