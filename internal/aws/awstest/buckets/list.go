package buckets

import (
	"encoding/xml"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/stakeseal/stakeseal/internal/aws/awstest/call"
)

// list answers a page of up to 1000 names, those below a delimiter rolled up.
func (a *ask) list() *call.Failure {
	most := 1000
	if text := a.query.Get("max-keys"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 0 {
			return call.Refuse("InvalidArgument", "Provided max-keys not an integer or within integer range")
		}
		most = min(most, n)
	}
	encoding := a.query.Get("encoding-type")
	if encoding != "" && encoding != "url" {
		return call.Refuse("InvalidArgument", "encoding %q", encoding)
	}
	prefix, delimiter, token := a.query.Get("prefix"), a.query.Get("delimiter"), a.query.Get("continuation-token")
	conditions := a.c.Needs[0].Context
	for name, key := range map[string]string{"prefix": "s3:prefix", "delimiter": "s3:delimiter", "max-keys": "s3:max-keys"} {
		if a.query.Has(name) {
			conditions[key] = []string{a.query.Get(name)}
		}
	}
	after := a.query.Get("start-after")
	if token != "" {
		after = token
	}
	name := func(s string) string {
		if encoding == "url" {
			return strings.ReplaceAll(url.QueryEscape(s), "%2F", "/")
		}
		return s
	}
	type content struct {
		Key          string
		LastModified string
		ETag         string
		Size         int
		StorageClass string
	}
	type common struct{ Prefix string }
	a.with(func(b *bucket) (*call.Answer, *call.Failure) {
		out := struct {
			XMLName               xml.Name `xml:"http://s3.amazonaws.com/doc/2006-03-01/ ListBucketResult"`
			Name, Prefix          string
			Delimiter             string `xml:",omitempty"`
			EncodingType          string `xml:",omitempty"`
			MaxKeys, KeyCount     int
			IsTruncated           bool
			ContinuationToken     string    `xml:",omitempty"`
			NextContinuationToken string    `xml:",omitempty"`
			StartAfter            string    `xml:",omitempty"`
			Contents              []content `xml:"Contents"`
			CommonPrefixes        []common  `xml:"CommonPrefixes"`
		}{
			Name: b.Name, Prefix: name(prefix), Delimiter: name(delimiter), EncodingType: encoding, MaxKeys: most,
			ContinuationToken: token, StartAfter: name(a.query.Get("start-after")),
		}
		last := ""
		for _, key := range b.keys() {
			if !strings.HasPrefix(key, prefix) || key <= after || after != "" && delimiter != "" && strings.HasSuffix(after, delimiter) && strings.HasPrefix(key, after) {
				continue
			}
			rolled := key
			if delimiter != "" {
				if i := strings.Index(key[len(prefix):], delimiter); i >= 0 {
					rolled = key[:len(prefix)+i+len(delimiter)]
				}
			}
			if rolled == last {
				continue
			}
			if out.KeyCount == most {
				out.IsTruncated, out.NextContinuationToken = true, last
				break
			}
			last = rolled
			out.KeyCount++
			if rolled != key {
				out.CommonPrefixes = append(out.CommonPrefixes, common{name(rolled)})
				continue
			}
			v, _ := b.current(key)
			out.Contents = append(out.Contents, content{name(key), v.at.UTC().Format("2006-01-02T15:04:05.000Z"), v.etag, len(v.data), "STANDARD"})
		}
		return call.XML(out)
	})
	return nil
}

// configuration is a read of a bucket's configuration: its parameter, the
// operation and the action that it takes, and what S3 says when there is none.
type configuration struct{ operation, action, missing string }

var configurations = map[string]configuration{
	"versioning":        {"GetBucketVersioning", "s3:GetBucketVersioning", ""},
	"object-lock":       {"GetObjectLockConfiguration", "s3:GetBucketObjectLockConfiguration", "ObjectLockConfigurationNotFoundError"},
	"policy":            {"GetBucketPolicy", "s3:GetBucketPolicy", "NoSuchBucketPolicy"},
	"publicAccessBlock": {"GetPublicAccessBlock", "s3:GetBucketPublicAccessBlock", "NoSuchPublicAccessBlockConfiguration"},
	"ownershipControls": {"GetBucketOwnershipControls", "s3:GetBucketOwnershipControls", "OwnershipControlsNotFoundError"},
	"encryption":        {"GetBucketEncryption", "s3:GetEncryptionConfiguration", ""},
	"lifecycle":         {"GetBucketLifecycleConfiguration", "s3:GetLifecycleConfiguration", "NoSuchLifecycleConfiguration"},
	"replication":       {"GetBucketReplication", "s3:GetReplicationConfiguration", "ReplicationConfigurationNotFoundError"},
	"acl":               {"GetBucketAcl", "s3:GetBucketAcl", ""},
	"location":          {"GetBucketLocation", "s3:GetBucketLocation", ""},
}

const xmlns = ` xmlns="http://s3.amazonaws.com/doc/2006-03-01/"`

func (a *ask) configuration(name string, c configuration) *call.Failure {
	a.with(func(b *bucket) (*call.Answer, *call.Failure) {
		if body, there := b.Configurations[name]; there {
			return &call.Answer{Body: body}, nil
		}
		var text string
		switch name {
		case "versioning":
			status := ""
			if b.Versioned {
				status = "<Status>Enabled</Status>"
			}
			text = "<VersioningConfiguration" + xmlns + ">" + status + "</VersioningConfiguration>"
		case "object-lock":
			if b.ObjectLock {
				rule := ""
				if b.LockMode != "" {
					rule = fmt.Sprintf("<Rule><DefaultRetention><Mode>%s</Mode><Days>%d</Days></DefaultRetention></Rule>", b.LockMode, b.LockDays)
				}
				text = "<ObjectLockConfiguration" + xmlns + "><ObjectLockEnabled>Enabled</ObjectLockEnabled>" + rule + "</ObjectLockConfiguration>"
			}
		case "encryption": // what every bucket has had since 2023
			text = "<ServerSideEncryptionConfiguration" + xmlns + "><Rule><ApplyServerSideEncryptionByDefault><SSEAlgorithm>AES256</SSEAlgorithm>" +
				"</ApplyServerSideEncryptionByDefault><BucketKeyEnabled>false</BucketKeyEnabled></Rule></ServerSideEncryptionConfiguration>"
		case "acl":
			text = "<AccessControlPolicy" + xmlns + "><Owner><ID>" + b.Account + "</ID></Owner><AccessControlList><Grant>" +
				`<Grantee xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xsi:type="CanonicalUser"><ID>` + b.Account +
				"</ID></Grantee><Permission>FULL_CONTROL</Permission></Grant></AccessControlList></AccessControlPolicy>"
		case "location":
			region := b.Region
			if region == "us-east-1" {
				region = "" // S3's first region has no name here
			}
			text = "<LocationConstraint" + xmlns + ">" + region + "</LocationConstraint>"
		}
		if text == "" {
			return nil, call.Fail(http.StatusNotFound, c.missing, "The configuration does not exist")
		}
		return &call.Answer{Body: []byte(text)}, nil
	})
	return nil
}
