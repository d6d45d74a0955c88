package world

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/stakeseal/stakeseal/internal/aws/awstest/call"
)

// signer is AWS Signer for Lambda packages. Its signature is not AWS's: a line
// in the zip file's comment, which names the job and is keyed, so that a
// package that was changed after it is refused at deployment.
type signer struct{ w *World }

// profile is a signing profile in its one version.
type profile struct {
	name, arn, versionARN, platform string
	months                          int
	tags                            map[string]string
	key                             []byte
	revoked                         bool
}

type signingJob struct {
	id, status, reason, by  string
	profile                 *profile
	source, destination     object
	sourceVersion           string
	created, signatureUntil time.Time
}

type object struct{ bucket, key string }

const signatureMark = "test-signer/1 "

// sign returns the package with a signature.
func (p *profile) sign(data []byte, job string) ([]byte, error) {
	end, comment, err := endOfZip(data)
	if err != nil {
		return nil, err
	}
	if len(comment) > 0 {
		return nil, errors.New("the object is already signed")
	}
	line := signatureMark + job + " " + base64.StdEncoding.EncodeToString(p.sum(data, job))
	out := bytes.Clone(data)
	binary.LittleEndian.PutUint16(out[end+20:], uint16(len(line)))
	return append(out, line...), nil
}

func (p *profile) sum(data []byte, job string) []byte {
	mac := hmac.New(sha256.New, p.key)
	fmt.Fprintf(mac, "%s\n", job)
	mac.Write(data)
	return mac.Sum(nil)
}

// endOfZip finds the end-of-central-directory record and its comment.
func endOfZip(data []byte) (at int, comment []byte, err error) {
	at = bytes.LastIndex(data, []byte("PK\x05\x06"))
	if at < 0 || at+22 > len(data) || at+22+int(binary.LittleEndian.Uint16(data[at+20:])) != len(data) {
		return 0, nil, errors.New("the object is no zip file")
	}
	return at, data[at+22:], nil
}

// verify looks at a package's signature as the function's code-signing
// configuration demands; without one everything passes.
func (f *functions) verify(fn *function, data []byte) (job, profileARN string, err error) {
	f.mu.Lock()
	config := f.signing[fn.signingConfig]
	f.mu.Unlock()
	job, profileARN, err = f.w.signedBy(data)
	if config == nil {
		return job, profileARN, nil
	}
	if err == nil {
		allowed := config["AllowedPublishers"].(map[string]any)["SigningProfileVersionArns"].([]any)
		err = errors.New("the signing profile is not among the allowed publishers")
		for _, a := range allowed {
			if a == profileARN {
				err = nil
			}
		}
	}
	if config["CodeSigningPolicies"].(map[string]any)["UntrustedArtifactOnDeployment"] != "Enforce" {
		return job, profileARN, nil
	}
	return job, profileARN, err
}

func (w *World) signedBy(data []byte) (job, profileARN string, err error) {
	end, comment, err := endOfZip(data)
	if err != nil {
		return "", "", err
	}
	words := strings.Fields(strings.TrimPrefix(string(comment), signatureMark))
	if !strings.HasPrefix(string(comment), signatureMark) || len(words) != 2 {
		return "", "", errors.New("the package is not signed")
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	j := w.jobs[words[0]]
	if j == nil {
		return "", "", errors.New("no such signing job")
	}
	bare := bytes.Clone(data[:end+22])
	binary.LittleEndian.PutUint16(bare[end+20:], 0)
	sum, err := base64.StdEncoding.DecodeString(words[1])
	switch {
	case err != nil || !hmac.Equal(sum, j.profile.sum(bare, j.id)):
		return "", "", errors.New("the signature does not match the package")
	case j.profile.revoked:
		return "", "", errors.New("the signature is revoked")
	case !time.Now().Before(j.signatureUntil):
		return "", "", errors.New("the signature has expired")
	}
	return "arn:aws:signer:" + Region + ":" + Account + ":/signing-jobs/" + j.id, j.profile.versionARN, nil
}

// RevokeSigning revokes a signing profile, as whoever may could.
func (w *World) RevokeSigning(name string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if p := w.profiles[name]; p != nil {
		p.revoked = true
	}
}

// Understand reads a call of Signer.
func (s signer) Understand(r call.Request) (*call.Call, *call.Failure) {
	parts := strings.Split(strings.Trim(r.HTTP.URL.Path, "/"), "/")
	c := &call.Call{ReadOnly: r.HTTP.Method == http.MethodGet, Params: map[string]any{}}
	// A profile may be asked for by its owner as well.
	if q := r.HTTP.URL.RawQuery; q != "" && (q != "profileOwner="+Account || r.HTTP.Method != http.MethodGet || parts[0] != "signing-profiles" || len(parts) != 2) {
		return nil, unknown("signer %s %s", r.HTTP.Method, r.HTTP.URL)
	}
	switch where := r.HTTP.Method + " " + parts[0]; {
	case where == "POST signing-jobs" && len(parts) == 1:
		return c, s.start(r, c)
	case where == "GET signing-jobs" && len(parts) == 2:
		s.describe(c, parts[1])
	case where == "GET signing-profiles" && len(parts) == 2:
		s.profile(c, "GetSigningProfile", parts[1], (*profile).describe)
	case where == "GET signing-profiles" && len(parts) == 3 && parts[2] == "permissions":
		s.profile(c, "ListProfilePermissions", parts[1], func(*profile) any {
			return map[string]any{"permissions": []string{}, "policySizeBytes": 0}
		})
	default:
		return nil, unknown("signer %s %s", r.HTTP.Method, r.HTTP.URL)
	}
	return c, nil
}

func profileARN(name string) string {
	return "arn:aws:signer:" + Region + ":" + Account + ":/signing-profiles/" + name
}

func notFound(format string, args ...any) *call.Failure {
	return call.Fail(http.StatusNotFound, "ResourceNotFoundException", format, args...)
}

func (s signer) profile(c *call.Call, operation, name string, show func(*profile) any) {
	c.Operation = operation
	c.Needs = []call.Need{{Action: "signer:" + operation, Resource: profileARN(name)}}
	c.Do = func(context.Context) (*call.Answer, *call.Failure) {
		s.w.mu.Lock()
		p := s.w.profiles[name]
		s.w.mu.Unlock()
		if p == nil {
			return nil, notFound("Profile %s not found", name)
		}
		return call.JSON(show(p))
	}
}

func (p *profile) version() string { return p.versionARN[strings.LastIndex(p.versionARN, "/")+1:] }

func (p *profile) describe() any {
	status := "Active"
	if p.revoked {
		status = "Revoked"
	}
	return map[string]any{
		"profileName": p.name, "profileVersion": p.version(), "profileVersionArn": p.versionARN, "platformId": p.platform, "arn": p.arn,
		"platformDisplayName": "AWS Lambda", "signatureValidityPeriod": map[string]any{"value": p.months, "type": "MONTHS"}, "status": status, "tags": p.tags,
	}
}

func (s signer) start(r call.Request, c *call.Call) *call.Failure {
	type place struct {
		BucketName string `json:"bucketName"`
		Prefix     string `json:"prefix"`
		Key        string `json:"key"`
		Version    string `json:"version"`
	}
	var in struct {
		ClientRequestToken string `json:"clientRequestToken"`
		ProfileName        string `json:"profileName"`
		ProfileOwner       string `json:"profileOwner"`
		Destination        struct {
			S3 place `json:"s3"`
		} `json:"destination"`
		Source struct {
			S3 place `json:"s3"`
		} `json:"source"`
	}
	if err := call.Strict(r.Body, &in); err != nil {
		return unknown("signer StartSigningJob with %v", err)
	}
	from, to := in.Source.S3, in.Destination.S3
	if in.ProfileName == "" || from.BucketName == "" || from.Key == "" || from.Version == "" || to.BucketName == "" || in.ProfileOwner != "" && in.ProfileOwner != Account {
		return call.Refuse("ValidationException", "a source with its version, a destination and a profile of this account are needed")
	}
	id := call.UUID()
	target := object{to.BucketName, to.Prefix + id + ".zip"}
	c.Operation, c.ReadOnly = "StartSigningJob", false
	c.Params = map[string]any{"profileName": in.ProfileName, "source": in.Source, "destination": in.Destination}
	// Signer reads and writes with the caller's own rights.
	c.Needs = []call.Need{
		{Action: "signer:StartSigningJob", Resource: profileARN(in.ProfileName)},
		{Action: "s3:GetObjectVersion", Resource: "arn:aws:s3:::" + from.BucketName + "/" + from.Key},
		{Action: "s3:PutObject", Resource: "arn:aws:s3:::" + target.bucket + "/" + target.key},
	}
	c.Do = func(context.Context) (*call.Answer, *call.Failure) {
		w := s.w
		w.mu.Lock()
		p := w.profiles[in.ProfileName]
		w.mu.Unlock()
		switch {
		case p == nil:
			return nil, notFound("Profile %s not found", in.ProfileName)
		case p.revoked:
			return nil, call.Refuse("ValidationException", "the profile is revoked")
		case !w.Buckets.Versioned(from.BucketName):
			return nil, call.Refuse("ValidationException", "The source bucket must have versioning enabled")
		}
		j := &signingJob{id: id, status: "Succeeded", by: r.Caller.Session, profile: p, source: object{from.BucketName, from.Key}, sourceVersion: from.Version,
			destination: target, created: time.Now(), signatureUntil: time.Now().AddDate(0, p.months, 0)}
		data, _, ok := w.Buckets.Version(from.BucketName, from.Key, from.Version)
		var err error
		if !ok {
			err = errors.New("the source object is not there")
		} else if data, err = p.sign(data, id); err == nil {
			err = w.Buckets.Put(target.bucket, target.key, data)
		}
		if err != nil {
			j.status, j.reason = "Failed", err.Error()
		}
		w.mu.Lock()
		w.jobs[id] = j
		w.mu.Unlock()
		return call.JSON(map[string]any{"jobId": id, "jobOwner": Account})
	}
	return nil
}

func (s signer) describe(c *call.Call, id string) {
	c.Operation = "DescribeSigningJob"
	c.Needs = []call.Need{{Action: "signer:DescribeSigningJob", Resource: "arn:aws:signer:" + Region + ":" + Account + ":/signing-jobs/" + id}}
	c.Do = func(context.Context) (*call.Answer, *call.Failure) {
		s.w.mu.Lock()
		j := s.w.jobs[id]
		s.w.mu.Unlock()
		if j == nil {
			return nil, notFound("Job %s not found", id)
		}
		out := map[string]any{
			"jobId": id, "jobOwner": Account, "jobInvoker": Account, "requestedBy": j.by, "platformId": j.profile.platform,
			"platformDisplayName": "AWS Lambda", "profileName": j.profile.name, "profileVersion": j.profile.version(), "status": j.status,
			"createdAt": j.created.Unix(), "completedAt": j.created.Unix(), "signatureExpiresAt": j.signatureUntil.Unix(),
			"source": map[string]any{"s3": map[string]any{"bucketName": j.source.bucket, "key": j.source.key, "version": j.sourceVersion}},
		}
		if j.status == "Succeeded" {
			out["signedObject"] = map[string]any{"s3": map[string]any{"bucketName": j.destination.bucket, "key": j.destination.key}}
		} else {
			out["statusReason"] = j.reason
		}
		return call.JSON(out)
	}
}

func newProfile(name, versionARN, platform string, months int, tags map[string]string) *profile {
	key := make([]byte, 32)
	rand.Read(key)
	return &profile{name: name, arn: profileARN(name), versionARN: versionARN, platform: platform, months: months, tags: tags, key: key}
}
