package buckets

import (
	"context"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/stakeseal/stakeseal/internal/aws/awstest/call"
	"github.com/stakeseal/stakeseal/internal/aws/awstest/signature"
)

// ask is a request on its way to becoming a call.
type ask struct {
	call.Request
	bucket, key string
	query       url.Values
	action      string
	c           *call.Call
	store       *Store
}

// common are headers that any request may have and that change nothing here.
var common = []string{
	"Accept", "Accept-Encoding", "Amz-Sdk-Invocation-Id", "Amz-Sdk-Request", "Authorization", "Connection", "Content-Length",
	"Expect", "User-Agent", "X-Amz-User-Agent", "X-Amzn-Trace-Id", signature.HashHeader, signature.DateHeader, signature.TokenHeader,
	"X-Amz-Expected-Bucket-Owner",
}

// operation is a call that the fake knows: the action that it takes, and what
// headers and parameters it may have.
type operation struct {
	name, action string
	headers      []string
	query        []string
	read         func(*ask) *call.Failure
}

var (
	putObject = operation{"PutObject", "s3:PutObject", append([]string{
		"If-None-Match", "Content-Type", "Content-Encoding", "Content-Md5", "X-Amz-Sdk-Checksum-Algorithm", "X-Amz-Trailer", "X-Amz-Decoded-Content-Length",
		"Transfer-Encoding",
	}, checksumHeaders()...), nil, (*ask).put}
	getObject    = operation{"GetObject", "s3:GetObject", []string{"X-Amz-Checksum-Mode"}, []string{"versionId"}, (*ask).get}
	headObject   = operation{"HeadObject", "s3:GetObject", []string{"X-Amz-Checksum-Mode"}, []string{"versionId"}, (*ask).get}
	deleteObject = operation{"DeleteObject", "s3:DeleteObject", []string{"X-Amz-Bypass-Governance-Retention"}, []string{"versionId"}, (*ask).remove}
	headBucket   = operation{"HeadBucket", "s3:ListBucket", nil, nil, (*ask).headBucket}
	listObjects  = operation{"ListObjectsV2", "s3:ListBucket", nil, []string{"list-type", "prefix", "delimiter", "max-keys", "continuation-token", "start-after", "encoding-type"}, (*ask).list}
)

func checksumHeaders() (out []string) {
	for _, a := range algorithms {
		out = append(out, checksumHeader(a))
	}
	return out
}

// Understand reads a call of S3: the bucket comes from the host, or as the
// first part of the path.
func (s *Store) Understand(r call.Request) (*call.Call, *call.Failure) {
	path := strings.TrimPrefix(r.HTTP.URL.Path, "/")
	if r.Bucket == "" || net4(r.Bucket) {
		r.Bucket, path, _ = strings.Cut(path, "/")
	}
	query, err := url.ParseQuery(r.HTTP.URL.RawQuery)
	if err != nil {
		return nil, call.Refuse("InvalidArgument", "%v", err)
	}
	query.Del("x-id") // the SDK's name of the operation, for people
	a := &ask{Request: r, bucket: r.Bucket, key: path, query: query, store: s, c: &call.Call{}}
	op, failure := a.operation()
	if failure != nil {
		return nil, failure
	}
	for name := range r.HTTP.Header {
		if !slices.Contains(common, name) && !slices.Contains(op.headers, name) {
			return nil, call.Fail(http.StatusNotImplemented, "NotImplemented", "this fake does not know the header %s of %s", name, op.name)
		}
	}
	for name := range query {
		if !slices.Contains(op.query, name) {
			return nil, call.Fail(http.StatusNotImplemented, "NotImplemented", "this fake does not know the parameter %q of %s", name, op.name)
		}
	}
	a.action = op.action
	a.c.Operation, a.c.ReadOnly, a.c.Data = op.name, true, a.key != "" || op.name == "ListObjectsV2"
	a.c.Params = map[string]any{"bucketName": a.bucket}
	resource := "arn:aws:s3:::" + a.bucket
	if a.key != "" {
		resource += "/" + a.key
		a.c.Params["key"] = a.key
	}
	conditions := map[string][]string{
		"s3:authType": {"REST-HEADER"}, "s3:signatureversion": {"AWS4-HMAC-SHA256"}, "s3:ResourceAccount": {r.Caller.Account},
		"s3:TlsVersion": {"1.3"},
	}
	if hash := r.HTTP.Header.Get(signature.HashHeader); hash != "" {
		conditions["s3:x-amz-content-sha256"] = []string{hash}
	}
	a.c.Needs = []call.Need{{Action: op.action, Resource: resource, Context: conditions}}
	if id := query.Get("versionId"); id != "" {
		a.c.Needs[0].Action += "Version"
		conditions["s3:VersionId"] = []string{id}
	}
	if failure := op.read(a); failure != nil {
		return nil, failure
	}
	return a.c, nil
}

// net4 says whether a host's first label is that of 127.0.0.1.
func net4(label string) bool { _, err := strconv.Atoi(label); return err == nil }

func (a *ask) operation() (operation, *call.Failure) {
	unknown := call.Fail(http.StatusNotImplemented, "NotImplemented", "this fake does not know %s %s", a.HTTP.Method, a.HTTP.URL)
	if a.bucket == "" {
		return operation{}, unknown
	}
	if a.key != "" {
		switch a.HTTP.Method {
		case http.MethodPut:
			return putObject, nil
		case http.MethodGet:
			return getObject, nil
		case http.MethodHead:
			return headObject, nil
		case http.MethodDelete:
			return deleteObject, nil
		}
		return operation{}, unknown
	}
	switch a.HTTP.Method {
	case http.MethodHead:
		return headBucket, nil
	case http.MethodGet:
		if a.query.Get("list-type") == "2" {
			return listObjects, nil
		}
		for name, c := range configurations {
			if a.query.Has(name) {
				return operation{c.operation, c.action, nil, []string{name}, func(a *ask) *call.Failure { return a.configuration(name, c) }}, nil
			}
		}
	}
	return operation{}, unknown
}

// with runs f on the bucket when the call is done, or answers as S3 does for a
// bucket that is not there, is elsewhere, or is somebody else's.
func (a *ask) with(f func(*bucket) (*call.Answer, *call.Failure)) {
	a.c.Do = func(context.Context) (*call.Answer, *call.Failure) {
		a.store.mu.Lock()
		defer a.store.mu.Unlock()
		b := a.store.buckets[a.bucket]
		switch owner := a.HTTP.Header.Get("X-Amz-Expected-Bucket-Owner"); {
		case b == nil:
			return nil, call.Fail(http.StatusNotFound, "NoSuchBucket", "The specified bucket does not exist")
		case b.Region != a.Region:
			return nil, call.Fail(http.StatusMovedPermanently, "PermanentRedirect", "The bucket you are attempting to access must be addressed using the specified endpoint.")
		case owner != "" && owner != b.Account:
			return nil, call.Fail(http.StatusForbidden, "AccessDenied", "Access Denied")
		}
		return f(b)
	}
}

func (a *ask) put() *call.Failure {
	data, checksums, given, failure := body(a.Request)
	if failure != nil {
		return failure
	}
	header := a.HTTP.Header
	if encoding := header.Get("Content-Encoding"); encoding != "" && encoding != "aws-chunked" {
		return call.Fail(http.StatusNotImplemented, "NotImplemented", "this fake does not know the encoding %q", encoding)
	}
	only := header.Get("If-None-Match")
	if only != "" && only != "*" {
		return call.Fail(http.StatusNotImplemented, "NotImplemented", "A header you provided implies functionality that is not implemented")
	}
	conditions := a.c.Needs[0].Context
	conditions["s3:ObjectCreationOperation"] = []string{"true"}
	if only != "" {
		conditions["s3:if-none-match"] = []string{only}
		a.c.Params["ifNoneMatch"] = only
	}
	a.c.ReadOnly = false
	contentType := header.Get("Content-Type")
	if contentType == "" {
		contentType = "binary/octet-stream"
	}
	a.with(func(b *bucket) (*call.Answer, *call.Failure) {
		if b.LockMode != "" && !given {
			return nil, call.Refuse("InvalidRequest", "Content-MD5 OR x-amz-checksum- HTTP header is required for Put Object requests with Object Lock parameters")
		}
		if v, there := b.current(a.key); only != "" && there && !v.marker {
			return nil, call.Fail(http.StatusPreconditionFailed, "PreconditionFailed", "At least one of the pre-conditions you specified did not hold")
		}
		v := b.put(a.key, data, contentType, checksums, a.store.now())
		h := v.header(true)
		h.Del("Content-Length")
		h.Del("Content-Type")
		h.Del("Last-Modified")
		return &call.Answer{Header: h}, nil
	})
	return nil
}

// header is what S3 says of a version.
func (v version) header(sums bool) http.Header {
	h := http.Header{
		"Etag": {v.etag}, "Content-Type": {v.contentType}, "Content-Length": {strconv.Itoa(len(v.data))},
		"Last-Modified": {v.at.UTC().Format(http.TimeFormat)}, "X-Amz-Server-Side-Encryption": {"AES256"},
	}
	if v.id != "null" {
		h.Set("X-Amz-Version-Id", v.id)
	}
	if v.lockMode != "" {
		h.Set("X-Amz-Object-Lock-Mode", v.lockMode)
		h.Set("X-Amz-Object-Lock-Retain-Until-Date", v.lockedUntil.UTC().Format("2006-01-02T15:04:05Z"))
	}
	if sums {
		for algorithm, sum := range v.checksums {
			h.Set(checksumHeader(algorithm), sum)
		}
		h.Set("X-Amz-Checksum-Type", "FULL_OBJECT")
	}
	return h
}

func (a *ask) get() *call.Failure {
	mode := a.HTTP.Header.Get("X-Amz-Checksum-Mode")
	if mode != "" && mode != "ENABLED" {
		return call.Refuse("InvalidArgument", "checksum mode %q", mode)
	}
	id := a.query.Get("versionId")
	// Whether something is missing is for those to know who may list.
	may := a.May(call.Need{Action: "s3:ListBucket", Resource: "arn:aws:s3:::" + a.bucket, Context: maps.Clone(a.c.Needs[0].Context)})
	a.with(func(b *bucket) (*call.Answer, *call.Failure) {
		v, there := b.find(a.key, id)
		if !there || v.marker {
			failure := call.Fail(http.StatusNotFound, "NoSuchKey", "The specified key does not exist.")
			switch {
			case !may:
				return nil, call.Fail(http.StatusForbidden, "AccessDenied", "Access Denied")
			case id != "" && v.marker:
				failure = call.Fail(http.StatusMethodNotAllowed, "MethodNotAllowed", "The specified method is not allowed against this resource.")
			case id != "":
				failure = call.Fail(http.StatusNotFound, "NoSuchVersion", "The specified version does not exist.")
			}
			if v.marker {
				failure.Header = http.Header{"X-Amz-Delete-Marker": {"true"}, "X-Amz-Version-Id": {v.id}}
			}
			return nil, failure
		}
		return &call.Answer{Header: v.header(mode != ""), Body: v.data}, nil
	})
	return nil
}

func (a *ask) remove() *call.Failure {
	a.c.ReadOnly = false
	id := a.query.Get("versionId")
	bypass := a.HTTP.Header.Get("X-Amz-Bypass-Governance-Retention")
	if bypass != "" && bypass != "true" {
		return call.Refuse("InvalidArgument", "bypass %q", bypass)
	}
	if bypass != "" {
		first := a.c.Needs[0]
		a.c.Needs = append(a.c.Needs, call.Need{Action: "s3:BypassGovernanceRetention", Resource: first.Resource, Context: first.Context})
	}
	a.with(func(b *bucket) (*call.Answer, *call.Failure) {
		if id == "" {
			h := http.Header{}
			if marker := b.remove(a.key, a.store.now()); marker.marker {
				h.Set("X-Amz-Delete-Marker", "true")
				h.Set("X-Amz-Version-Id", marker.id)
			}
			return &call.Answer{Status: http.StatusNoContent, Header: h}, nil
		}
		if b.purge(a.key, id, bypass != "", a.store.now()) {
			return nil, call.Fail(http.StatusForbidden, "AccessDenied", "Access Denied because object protected by object lock.")
		}
		return &call.Answer{Status: http.StatusNoContent, Header: http.Header{"X-Amz-Version-Id": {id}}}, nil
	})
	return nil
}

func (a *ask) headBucket() *call.Failure {
	a.with(func(b *bucket) (*call.Answer, *call.Failure) {
		return &call.Answer{Header: http.Header{"X-Amz-Bucket-Region": {b.Region}}}, nil
	})
	return nil
}
