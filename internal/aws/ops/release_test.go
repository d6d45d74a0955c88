package ops

import (
	"errors"
	"strings"
	"testing"

	"github.com/stakeseal/stakeseal/internal/config"
	"github.com/stakeseal/stakeseal/release"
)

// TestBelongs: a package that names the store, archive or certifying key of
// another installation is refused, whoever signed it.
func TestBelongs(t *testing.T) {
	home := &Installation{Name: "stakeseal-hoodi", Records: "arn:aws:dynamodb:us-east-1:111122223333:table/stakeseal-hoodi-records",
		Archive: "arn:aws:s3:::stakeseal-hoodi-archive-111122223333", Certifying: "arn:aws:kms:us-east-1:111122223333:key/11111111-2222-3333-4444-555555555555"}
	ours := func() *config.Generator {
		return &config.Generator{Store: config.Ref{Scheme: "dynamodb", Rest: home.Records}, Archive: config.Ref{Scheme: "s3", Rest: home.Archive}, Certifier: config.Ref{Scheme: "awskms", Rest: home.Certifying}}
	}
	for what, change := range map[string]func(*config.Generator){
		"":        func(*config.Generator) {},
		"store":   func(g *config.Generator) { g.Store.Rest = strings.Replace(home.Records, "hoodi", "other", 1) },
		"archive": func(g *config.Generator) { g.Archive.Rest = strings.Replace(home.Archive, "1111", "9999", 1) },
		"certifier": func(g *config.Generator) {
			g.Certifier.Rest = strings.Replace(home.Certifying, "us-east-1", "eu-central-1", 1)
		},
	} {
		g := ours()
		change(g)
		p := &release.Package{Settings: g}
		err := (&Releases{home: home}).belongs(p)
		if what == "" && err != nil || what != "" && (!errors.Is(err, ErrElsewhere) || !strings.Contains(err.Error(), what)) {
			t.Errorf("%q: %v", what, err)
		}
		if err := (&Releases{}).belongs(p); err != nil { // nothing to compare with
			t.Error(err)
		}
	}
}
