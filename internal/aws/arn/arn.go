// Package arn reads the Amazon Resource Names that settings give: the one
// place from which region and account of every call come.
//
// It promises that what Parse accepts has exactly one spelling, that nothing
// in it can change the meaning of a host name, a path or a policy, and that
// Key, Table and Bucket accept one whole resource of their kind: no alias, no
// index, no wildcard, nothing whose target somebody could move later. (Alias is
// of a function, which a requester runs whichever version is released.) It
// trusts nothing and imports nothing that talks.
package arn

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
)

// ErrARN is wrapped by every error of this package.
var ErrARN = errors.New("not an ARN to use")

// ARN names a resource: arn:Partition:Service:Region:Account:Resource.
type ARN struct {
	Partition string // aws, aws-cn, aws-us-gov or aws-eusc
	Service   string // kms, dynamodb, s3, ...
	Region    string // such as eu-central-1; "" for S3 buckets
	Account   string // 12 digits; "" for S3 buckets
	Resource  string // such as key/1234..., may contain colons
}

// maxARN is well above what any resource here has (a table: 310).
const maxARN = 512

var (
	serviceShape = regexp.MustCompile(`^[a-z][a-z0-9-]{0,31}$`)
	regionShape  = regexp.MustCompile(`^[a-z]{2,5}(-[a-z]{2,12}){1,3}-[1-9][0-9]?$`)
	accountShape = regexp.MustCompile(`^[0-9]{12}$`)
	// No wildcard: an ARN here is one resource, never a pattern.
	resourceShape = regexp.MustCompile(`^[A-Za-z0-9_.:/@+=,-]+$`)

	keyShape   = regexp.MustCompile(`^key/[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$`)
	tableShape = regexp.MustCompile(`^table/[A-Za-z0-9_.-]{3,255}$`)
	aliasShape = regexp.MustCompile(`^function:([A-Za-z0-9_-]{1,64}):([A-Za-z0-9_-]{1,128})$`)
	// Without dots, which S3 allows: bucket.s3.REGION.amazonaws.com is covered
	// by the certificate of *.s3.REGION.amazonaws.com only if it is one label.
	bucketShape = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{1,61}[a-z0-9]$`)
)

// Parse reads one ARN. Wildcards, white space, unknown partitions and a region
// of another partition are refused.
func Parse(text string) (ARN, error) {
	refuse := func(why string) (ARN, error) {
		return ARN{}, fmt.Errorf("%w: %q %s", ErrARN, clip(text), why)
	}
	if len(text) > maxARN {
		return refuse(fmt.Sprintf("has %d characters, more than %d", len(text), maxARN))
	}
	parts := strings.SplitN(text, ":", 6)
	if len(parts) != 6 || parts[0] != "arn" {
		return refuse("is not arn:partition:service:region:account:resource")
	}
	a := ARN{parts[1], parts[2], parts[3], parts[4], parts[5]}
	switch {
	case Suffix(a.Partition) == "":
		return refuse("is of a partition that this program does not know")
	case !serviceShape.MatchString(a.Service):
		return refuse("names no service")
	case a.Region != "" && !GoodRegion(a.Region):
		return refuse("names no region")
	case a.Region != "" && Partition(a.Region) != a.Partition:
		return refuse("has a region of partition " + Partition(a.Region))
	case a.Account != "" && !accountShape.MatchString(a.Account):
		return refuse("has an account that is not 12 digits")
	case !resourceShape.MatchString(a.Resource):
		return refuse("names no single resource")
	}
	return a, nil
}

// String is the text that Parse reads.
func (a ARN) String() string {
	return strings.Join([]string{"arn", a.Partition, a.Service, a.Region, a.Account, a.Resource}, ":")
}

// Key reads the ARN of a KMS key. Aliases are refused, since whoever may call
// UpdateAlias would choose the key; so are multi-Region keys, whose material
// can be replicated later to a region where another policy guards it. Seal to
// a key in each of two regions instead.
func Key(text string) (ARN, error) {
	a, err := Parse(text)
	switch {
	case err != nil:
		return ARN{}, err
	case a.Service != "kms" || a.Region == "" || a.Account == "":
		return ARN{}, fmt.Errorf("%w: %q is not of a KMS key", ErrARN, clip(text))
	case strings.HasPrefix(a.Resource, "alias/"):
		return ARN{}, fmt.Errorf("%w: %q is an alias, which can be pointed at another key; give the key's own ARN", ErrARN, clip(text))
	case strings.HasPrefix(a.Resource, "key/mrk-"):
		return ARN{}, fmt.Errorf("%w: %q is a multi-Region key, which can be replicated to a region with another policy; use one key in each region", ErrARN, clip(text))
	case !keyShape.MatchString(a.Resource):
		return ARN{}, fmt.Errorf("%w: %q does not end in key/ and a key id", ErrARN, clip(text))
	}
	return a, nil
}

// Table reads the ARN of a DynamoDB table, not of its index, stream or backup.
func Table(text string) (ARN, error) {
	a, err := Parse(text)
	if err != nil {
		return ARN{}, err
	}
	if a.Service != "dynamodb" || a.Region == "" || a.Account == "" || !tableShape.MatchString(a.Resource) {
		return ARN{}, fmt.Errorf("%w: %q is not of a DynamoDB table", ErrARN, clip(text))
	}
	return a, nil
}

// Bucket reads the ARN of an S3 bucket, which has neither region nor account:
// the caller takes the region from elsewhere. Access points, objects and names
// with dots are refused.
func Bucket(text string) (ARN, error) {
	a, err := Parse(text)
	if err != nil {
		return ARN{}, err
	}
	if a.Service != "s3" || a.Region != "" || a.Account != "" || !bucketShape.MatchString(a.Resource) {
		return ARN{}, fmt.Errorf("%w: %q is not of an S3 bucket (without dots in its name)", ErrARN, clip(text))
	}
	return a, nil
}

// Alias reads the ARN of a Lambda function's alias, as
// arn:aws:lambda:REGION:ACCOUNT:function:NAME:ALIAS. A function without a
// qualifier, $LATEST and a version are refused: what a release put into force
// is behind the alias, and what every published version still does is not for
// a requester to choose.
func Alias(text string) (ARN, error) {
	a, err := Parse(text)
	if err != nil {
		return ARN{}, err
	}
	m := aliasShape.FindStringSubmatch(a.Resource)
	if a.Service != "lambda" || a.Region == "" || a.Account == "" || m == nil || strings.Trim(m[2], "0123456789") == "" {
		return ARN{}, fmt.Errorf("%w: %q is not of a Lambda function's alias (function:NAME:ALIAS)", ErrARN, clip(text))
	}
	return a, nil
}

// Function is the name of the function of an Alias, and of the alias.
func (a ARN) Function() (function, alias string) {
	if m := aliasShape.FindStringSubmatch(a.Resource); m != nil {
		return m[1], m[2]
	}
	return "", ""
}

// GoodRegion says whether region has the shape of one. It then is a label of
// a host name and nothing else.
func GoodRegion(region string) bool { return regionShape.MatchString(region) }

// Partition is the partition that a region belongs to.
func Partition(region string) string {
	switch {
	case strings.HasPrefix(region, "cn-"):
		return "aws-cn"
	case strings.HasPrefix(region, "us-gov-"):
		return "aws-us-gov"
	case strings.HasPrefix(region, "eusc-"):
		return "aws-eusc"
	}
	return "aws"
}

// Suffix is the domain under which a partition's services answer, "" for a
// partition that is not known here.
func Suffix(partition string) string {
	switch partition {
	case "aws", "aws-us-gov":
		return "amazonaws.com"
	case "aws-cn":
		return "amazonaws.com.cn"
	case "aws-eusc":
		return "amazonaws.eu"
	}
	return ""
}

// clip keeps a hostile value from filling a terminal.
func clip(s string) string {
	if len(s) > 100 {
		return s[:100] + "..."
	}
	return s
}
