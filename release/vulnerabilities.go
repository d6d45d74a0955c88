package release

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// publicDatabase is Go's vulnerability database (go.dev/doc/security/vuln/database).
const publicDatabase = "https://vuln.go.dev"

// vulnerabilities asks the database about every module and Go itself. It looks
// at versions, not at which functions are called: what it finds may not be
// reachable, and is named all the same.
func (r *Report) vulnerabilities(ctx context.Context, p *Package, in Inspection) error {
	v := &r.Vulnerabilities
	v.Found = []Vulnerability{}
	if in.Offline {
		v.Why = "no database was asked (--offline)"
		r.attend(Look, "Known vulnerabilities: NOT CHECKED: %s.", v.Why)
		return nil
	}
	v.Database = in.Database
	if v.Database == "" {
		v.Database = publicDatabase
	}
	found, err := vulnerable(ctx, v.Database, p.Provenance)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil {
		v.Why = err.Error()
		r.attend(Look, "Known vulnerabilities: NOT CHECKED: %s.", err)
		return nil
	}
	v.Checked = true
	v.Found = append(v.Found, found...)
	for _, f := range v.Found {
		r.attend(Danger, "Known vulnerability %s in %s %s: %s.", f.ID, f.Module, f.Version, f.Summary)
	}
	return nil
}

type osvEntry struct {
	ID        string `json:"id"`
	Summary   string `json:"summary"`
	Withdrawn string `json:"withdrawn"`
	Affected  []struct {
		Package struct {
			Name string `json:"name"`
		} `json:"package"`
		Ranges []struct {
			Type   string `json:"type"`
			Events []struct {
				Introduced string `json:"introduced"`
				Fixed      string `json:"fixed"`
			} `json:"events"`
		} `json:"ranges"`
	} `json:"affected"`
}

// vulnerable asks a database for what applies.
func vulnerable(ctx context.Context, database string, p Provenance) ([]Vulnerability, error) {
	versions := map[string]string{"stdlib": strings.TrimPrefix(p.Toolchain, "go"), "toolchain": strings.TrimPrefix(p.Toolchain, "go")}
	for _, m := range p.Modules {
		path, version := m.source()
		versions[path] = strings.TrimPrefix(version, "v")
	}
	var index []struct {
		Path  string `json:"path"`
		Vulns []struct {
			ID string `json:"id"`
		} `json:"vulns"`
	}
	if err := fetch(ctx, database, "index/modules.json", &index); err != nil {
		return nil, err
	}
	if len(index) == 0 {
		return nil, errors.New("the vulnerability database is empty")
	}
	var found []Vulnerability
	for _, entry := range index {
		version, ours := versions[entry.Path]
		if !ours {
			continue
		}
		for _, v := range entry.Vulns {
			if v.ID == "" || strings.ContainsAny(v.ID, "/\\.%?#") {
				return nil, fmt.Errorf("the vulnerability database names %q", clip(v.ID))
			}
			var osv osvEntry
			if err := fetch(ctx, database, "ID/"+v.ID+".json", &osv); err != nil {
				return nil, err
			}
			if fixed, hit := osv.applies(entry.Path, version); hit {
				found = append(found, Vulnerability{osv.ID, entry.Path, version, fixed, visible(clip(osv.Summary))})
			}
		}
	}
	slices.SortFunc(found, func(a, b Vulnerability) int { return strings.Compare(a.ID+a.Module, b.ID+b.Module) })
	return found, nil
}

// applies says whether a version lies in a range of the entry (OSV schema,
// affected[].ranges[]: events in order, introduced inclusive, fixed exclusive).
func (o osvEntry) applies(path, version string) (fixed string, hit bool) {
	if o.Withdrawn != "" {
		return "", false
	}
	for _, a := range o.Affected {
		if a.Package.Name != path {
			continue
		}
		if len(a.Ranges) == 0 {
			return "", true
		}
		for _, r := range a.Ranges {
			if r.Type != "SEMVER" {
				continue
			}
			inside := false
			for _, e := range r.Events {
				switch {
				case e.Introduced == "0" || e.Introduced != "" && compareVersions(version, e.Introduced) >= 0:
					inside, fixed = true, ""
				case e.Fixed != "" && inside && compareVersions(version, e.Fixed) >= 0:
					inside = false
				case e.Fixed != "" && inside && fixed == "":
					fixed = e.Fixed
				}
			}
			if inside {
				return fixed, true
			}
		}
	}
	return "", false
}

// fetch reads one JSON file of a database.
func fetch(ctx context.Context, database, name string, into any) error {
	base, err := url.Parse(database)
	if err != nil || base.Scheme != "https" && base.Scheme != "file" {
		return fmt.Errorf("the vulnerability database %q is no https:// or file:// URL", clip(database))
	}
	const most = 64 << 20
	var data []byte
	if base.Scheme == "file" {
		data, err = os.ReadFile(filepath.Join(base.Path, filepath.FromSlash(name)))
	} else {
		data, err = download(ctx, base.JoinPath(name).String(), most)
	}
	if err != nil {
		return fmt.Errorf("couldn't reach the vulnerability database: %w", err)
	}
	if err := json.Unmarshal(data, into); err != nil {
		return fmt.Errorf("couldn't read %s of the vulnerability database: %w", name, err)
	}
	return nil
}

func download(ctx context.Context, address string, most int64) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, err
	}
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s: %s", address, answer.Status)
	}
	return io.ReadAll(io.LimitReader(answer.Body, most))
}

// compareVersions orders versions by Semantic Versioning 2.0.0, section 11,
// build metadata left out; Go's own (1.26, 1.26rc1) are read as 1.26.0 and
// 1.26.0-rc1. A part that is no number counts as 0: an odd version is rather
// found affected than not.
func compareVersions(a, b string) int {
	na, pa := splitVersion(a)
	nb, pb := splitVersion(b)
	if c := slices.Compare(na, nb); c != 0 {
		return c
	}
	switch {
	case pa == pb:
		return 0
	case pa == "":
		return 1
	case pb == "":
		return -1
	}
	xs, ys := strings.Split(pa, "."), strings.Split(pb, ".")
	for i := range min(len(xs), len(ys)) {
		x, errX := strconv.ParseUint(xs[i], 10, 64)
		y, errY := strconv.ParseUint(ys[i], 10, 64)
		switch {
		case xs[i] == ys[i]:
		case errX == nil && errY == nil && x < y, errX == nil && errY != nil, errX != nil && errY != nil && xs[i] < ys[i]:
			return -1
		default:
			return 1
		}
	}
	return len(xs) - len(ys)
}

func splitVersion(v string) (numbers []uint64, pre string) {
	v, _, _ = strings.Cut(v, "+")
	v, pre, _ = strings.Cut(v, "-")
	if i := strings.Index(v, "rc"); i > 0 && pre == "" {
		v, pre = v[:i], v[i:]
	}
	numbers = make([]uint64, 3)
	for i, part := range strings.SplitN(v, ".", 3) {
		numbers[i], _ = strconv.ParseUint(part, 10, 64)
	}
	return numbers, pre
}
