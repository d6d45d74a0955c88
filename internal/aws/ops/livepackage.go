package ops

import (
	"archive/zip"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lambda"

	"github.com/stakeseal/stakeseal/certificate"
	"github.com/stakeseal/stakeseal/internal/aws/session"
	"github.com/stakeseal/stakeseal/internal/config"
	"github.com/stakeseal/stakeseal/release"
)

// downloader gets what a presigned URL of AWS leads to.
type downloader interface {
	Download(ctx context.Context, url string, limit int64) ([]byte, error)
}

// direct downloads with the HTTP client of a session: only from AWS in its
// region, over TLS that its authorities bear out.
type direct struct{ client aws.HTTPClient }

var _ downloader = direct{}

// Download reads at most limit bytes.
func (d direct) Download(ctx context.Context, url string, limit int64) ([]byte, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, session.Malformed("lambda:GetFunction", "", "the code's address is no URL")
	}
	answer, err := d.client.Do(r)
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return nil, session.Malformed("lambda:GetFunction", "", "the code's address answered %s", answer.Status)
	}
	data, err := io.ReadAll(io.LimitReader(answer.Body, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(data)) > limit {
		return nil, session.Malformed("lambda:GetFunction", "", "the code has more than %d bytes", limit)
	}
	return data, nil
}

// maxPackage and maxProgram bound a deployed package: ours has less than 12 MB
// zipped.
const (
	maxPackage = 64 << 20
	maxProgram = 128 << 20
)

// lookAtPackage judges the code that is in force: it is downloaded from where
// Lambda keeps it, compared with Lambda's digest, and its program and settings
// are hashed as the generator hashes them for every certificate.
func (e *examination) lookAtPackage(ctx context.Context) {
	c := e.check("release", gainsCode, hintRelease)
	out, err := e.Lambda.GetFunction(ctx, &lambda.GetFunctionInput{FunctionName: &e.Function, Qualifier: &e.Alias})
	if absent(err, "ResourceNotFoundException") {
		return // said already
	}
	if !c.seen("lambda:GetFunction", err) {
		if n := e.Newest; n != nil {
			c.add(Unseen, "what runs now was not judged; the newest birth, %s of %s, names program %s and settings %s", n.Pubkey, n.Time.Format(time.RFC3339), n.BinaryDigest, n.SettingsDigest)
		}
		return
	}
	if out.Code == nil || out.Configuration == nil {
		c.seen("lambda:GetFunction", session.Malformed("lambda:GetFunction", "", "it names no code"))
		return
	}
	data, err := e.Code.Download(ctx, aws.ToString(out.Code.Location), maxPackage)
	if !c.seen("lambda:GetFunction", err) {
		return
	}
	digest := sha256.Sum256(data)
	if got, want := base64.StdEncoding.EncodeToString(digest[:]), aws.ToString(out.Configuration.CodeSha256); got != want {
		c.add(Changed, "the code that Lambda hands out has sha256 %s, and it runs %s", got, want)
		return
	}
	p, err := readPackage(data)
	if err != nil {
		c.add(Changed, "version %s holds something that is no package of ours: %v", aws.ToString(out.Configuration.Version), err)
		return
	}
	e.judgePackage(c, aws.ToString(out.Configuration.Version), p)
}

func (e *examination) judgePackage(c *check, version string, p *packaged) {
	what := fmt.Sprintf("version %s: program %s, settings %s", version, p.binary, p.settings)
	c.want(p.settings == e.Settings, "version %s obeys the settings %s, and this home's generator.yaml has %s: orders of this home are refused", version, p.settings, e.Settings)
	if len(e.Trust.Releases) == 0 {
		// The release room's own rule: no list, no judgement.
		c.add(Warning, "%s: not judged, the trust file names no release", what)
		return
	}
	for _, r := range e.Trust.Releases {
		if r.Settings != p.settings || !slices.Contains(r.Binaries, p.binary) {
			continue
		}
		switch {
		case r.Revoked:
			c.add(Changed, "%s is release %q, which the trust file revokes", what, r.Name)
		case !r.NotAfter.IsZero() && e.Now.After(r.NotAfter):
			c.add(Changed, "%s is release %q, which the trust file ended on %s", what, r.Name, r.NotAfter.Format(time.RFC3339))
		case !r.NotBefore.IsZero() && e.Now.Before(r.NotBefore):
			c.add(Changed, "%s is release %q, which the trust file believes from %s on", what, r.Name, r.NotBefore.Format(time.RFC3339))
		case e.Trust.Stands(r) != nil:
			c.add(Changed, "%s is release %q, which too few release managers have signed whose keys are not revoked", what, r.Name)
		default:
			c.ok("%s is release %q", what, r.Name)
		}
		return
	}
	c.add(Changed, "%s: no release of the trust file has both", what)
}

// packaged is what a package holds, as certificates name it.
type packaged struct{ binary, settings certificate.Hash }

// readPackage reads a zip as Lambda unpacks it. Two files of one name, which
// two programs could read differently, are refused.
func readPackage(data []byte) (*packaged, error) {
	z, err := zip.NewReader(bytes.NewReader(data), int64(len(data)))
	if err != nil {
		return nil, err
	}
	seen := map[string]bool{}
	var program *zip.File
	for _, f := range z.File {
		if seen[f.Name] {
			return nil, fmt.Errorf("it holds %q twice", clip(f.Name))
		}
		seen[f.Name] = true
		if f.Name == "bootstrap" {
			program = f
		}
	}
	if program == nil {
		return nil, fmt.Errorf("it has no bootstrap")
	}
	r, err := program.Open()
	if err != nil {
		return nil, err
	}
	defer r.Close()
	h := sha256.New()
	n, err := io.Copy(h, io.LimitReader(r, maxProgram+1))
	if err != nil {
		return nil, err
	}
	if n > maxProgram {
		return nil, fmt.Errorf("its program has more than %d bytes", maxProgram)
	}
	folder := &noted{from: z, read: map[string]bool{release.Program: true, release.ProvenanceFile: true, release.SBOMFile: true}}
	settings, err := config.LoadGenerator(folder)
	if err != nil {
		return nil, err
	}
	// Lambda unpacks "./bootstrap" and "/bootstrap" over the program that was
	// hashed: nothing may be there that was not read, but Signer's signature.
	for _, f := range z.File {
		if !folder.read[f.Name] && (!strings.HasPrefix(f.Name, "META-INF/") || strings.Contains(f.Name, "..")) {
			return nil, fmt.Errorf("it holds %q, which no release has", clip(f.Name))
		}
	}
	p := &packaged{settings: settings.Digest}
	h.Sum(p.binary[:0])
	return p, nil
}

// noted notes which files were opened.
type noted struct {
	from fs.FS
	read map[string]bool
}

func (n *noted) Open(name string) (fs.File, error) {
	n.read[name] = true
	return n.from.Open(name)
}
