package config

import (
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"slices"
	"strings"

	"github.com/stakeseal/stakeseal/internal/aws/arn"
)

// HomeFile is the name of the operator's settings in a home.
const HomeFile = "home.yaml"

// Home is what this operator uses.
type Home struct {
	Generator string   // local, or lambda: and the ARN of a function's alias
	Function  arn.ARN  // of that alias; zero for local
	Signers   []string // the signers that exist
	Beacon    []string // beacon nodes, URLs
}

// LoadHome reads home.yaml from the root of fsys.
func LoadHome(fsys fs.FS) (*Home, error) {
	data, err := readFile(fsys, HomeFile)
	if err != nil {
		return nil, err
	}
	var y struct {
		Version   number `yaml:"version"`
		Generator text   `yaml:"generator"`
		Signers   []text `yaml:"signers"`
		Beacon    []text `yaml:"beacon"`
	}
	if err := decode(HomeFile, data, &y); err != nil {
		return nil, err
	}
	h := &Home{Generator: string(y.Generator)}
	for _, signer := range y.Signers {
		h.Signers = append(h.Signers, string(signer))
	}
	for _, node := range y.Beacon {
		h.Beacon = append(h.Beacon, string(node))
	}
	if err := h.check(uint64(y.Version)); err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrSettings, HomeFile, err)
	}
	return h, nil
}

func (h *Home) check(version uint64) error {
	if version != 1 {
		return fmt.Errorf("version is %d, this program reads 1", version)
	}
	if text, ok := strings.CutPrefix(h.Generator, "lambda:"); ok {
		var err error
		if h.Function, err = arn.Alias(text); err != nil {
			return fmt.Errorf("generator: %w", err)
		}
	} else if h.Generator != "local" {
		return fmt.Errorf("generator is %q: write local, or lambda:ARN with the ARN of the function's alias", clip(h.Generator))
	}
	for i, signer := range h.Signers {
		if err := CheckName("signer", signer); err != nil {
			return err
		}
		if slices.Contains(h.Signers[:i], signer) {
			return fmt.Errorf("signer %q is named twice", signer)
		}
	}
	for i, text := range h.Beacon {
		if err := checkBeacon(text); err != nil {
			return fmt.Errorf("beacon: node %d: %w", i+1, err)
		}
		if slices.Contains(h.Beacon[:i], text) {
			return fmt.Errorf("beacon: node %d is named twice", i+1)
		}
	}
	return nil
}

// Fits refuses a home whose maker and stores are not on one side: a program on
// this machine with files here, or a function with tables, bucket and
// certifying key in its own account and region. It is the function that obeys
// the settings; one elsewhere would write into a store that nobody looks at,
// or place orders with somebody else's maker.
func (h *Home) Fits(g *Generator) error {
	refuse := func(format string, args ...any) error {
		return fmt.Errorf("%w: %s and %s: %w", ErrSettings, HomeFile, GeneratorFile, fmt.Errorf(format, args...))
	}
	cloud := h.Generator != "local"
	for _, ref := range []struct {
		key           string
		got           Ref
		locally, away string
	}{{"store", g.Store, "sqlite", "dynamodb"}, {"archive", g.Archive, "dir", "s3"}, {"certifier", g.Certifier, "file", "awskms"}} {
		want, who := ref.locally, "generator: local"
		if cloud {
			want, who = ref.away, "a generator on Lambda"
		}
		if ref.got.Scheme != want {
			return refuse("%s %q does not go with %s, which takes %s:", ref.key, clip(ref.got.String()), who, want)
		}
	}
	if !cloud {
		return nil
	}
	table, err := arn.Table(g.Store.Rest)
	if err != nil {
		return refuse("store: %w", err)
	}
	key, err := arn.Key(g.Certifier.Rest)
	if err != nil {
		return refuse("certifier: %w", err)
	}
	if _, err := arn.Bucket(g.Archive.Rest); err != nil {
		return refuse("archive: %w", err)
	}
	for _, a := range []struct {
		what string
		arn.ARN
	}{{"generator", h.Function}, {"certifier", key}} {
		if a.Partition != table.Partition || a.Region != table.Region || a.Account != table.Account {
			return refuse("the %s is in %s, account %s, and the store in %s, account %s", a.what, a.Region, a.Account, table.Region, table.Account)
		}
	}
	return nil
}

// checkBeacon never repeats the URL, nor url.Parse's errors, which do: a
// password may stand in it.
func checkBeacon(text string) error {
	u, err := url.Parse(text)
	if err != nil || u.Hostname() == "" || (u.Scheme != "http" && u.Scheme != "https") {
		return errors.New("it is no http:// or https:// URL")
	}
	if u.User != nil || u.RawQuery != "" || u.ForceQuery || u.Fragment != "" {
		return errors.New("a URL in home.yaml has no user, password, ? or # part: secrets do not belong in settings")
	}
	return nil
}
