package policy

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

type condition struct {
	operator string
	set      string // "", ForAllValues or ForAnyValue
	ifExists bool
	key      string
	values   []string
}

// kind is what a condition key holds.
type kind int

const (
	text kind = iota
	arns
	boolean
	number
	several // a set of texts
)

// keys are the condition keys that our policies use or that a request may be
// judged with. A key that is missing here is an error wherever it occurs: one
// that was passed over would prove nothing.
var keys = map[string]kind{
	"aws:MultiFactorAuthAge":               number,
	"aws:MultiFactorAuthPresent":           boolean,
	"aws:PrincipalAccount":                 text,
	"aws:PrincipalArn":                     arns,
	"aws:PrincipalIsAWSService":            boolean,
	"aws:PrincipalOrgID":                   text,
	"aws:RequestedRegion":                  text,
	"aws:ResourceAccount":                  text,
	"aws:SecureTransport":                  boolean,
	"aws:SourceAccount":                    text,
	"aws:SourceArn":                        arns,
	"aws:SourceVpc":                        text,
	"aws:SourceVpce":                       text,
	"aws:TagKeys":                          several,
	"aws:ViaAWSService":                    boolean,
	"dynamodb:LeadingKeys":                 several,
	"iam:PassedToService":                  text,
	"iam:PermissionsBoundary":              arns,
	"kms:CallerAccount":                    text,
	"kms:EncryptionAlgorithm":              text,
	"kms:EncryptionContextKeys":            several,
	"kms:GranteePrincipal":                 text,
	"kms:KeySpec":                          text,
	"kms:MessageType":                      text,
	"kms:SigningAlgorithm":                 text,
	"kms:ViaService":                       text,
	"lambda:CodeSigningConfigArn":          arns,
	"lambda:FunctionArn":                   arns,
	"lambda:SourceFunctionArn":             arns,
	"s3:ObjectCreationOperation":           boolean,
	"s3:if-match":                          text,
	"s3:if-none-match":                     text,
	"s3:object-lock-mode":                  text,
	"s3:prefix":                            text,
	"s3:x-amz-copy-source":                 text,
	"s3:x-amz-acl":                         text,
	"signer:ProfileVersion":                text,
	"sns:Protocol":                         text,
	"sts:ExternalId":                       text,
	"sts:SourceIdentity":                   text,
	"kms:RecipientAttestation:ImageSha384": text,
}

const contextKey = "kms:EncryptionContext:"

func kindOf(key string) (kind, bool) {
	if name, ok := strings.CutPrefix(key, contextKey); ok {
		// KMS compares names by case, policies do not: one spelling only.
		return text, name != "" && name == strings.ToLower(name)
	}
	k, ok := keys[key]
	return k, ok
}

func parseCondition(operator, key string, values []string) (condition, error) {
	c := condition{operator: operator, key: key, values: values}
	refuse := func(format string, args ...any) (condition, error) {
		return condition{}, fmt.Errorf("condition %s of %s: %s", operator, key, fmt.Sprintf(format, args...))
	}
	k, ok := kindOf(key)
	if !ok {
		return refuse("unknown key")
	}
	if len(values) == 0 {
		return refuse("no value")
	}
	for _, v := range values {
		if strings.Contains(v, "${") {
			return refuse("policy variables are not known here: %q", v)
		}
	}
	if before, after, ok := strings.Cut(operator, ":"); ok {
		if before != "ForAllValues" && before != "ForAnyValue" {
			return refuse("unknown operator")
		}
		c.set, c.operator = before, after
	}
	if (c.set != "") != (k == several) && c.operator != "Null" {
		return refuse("ForAllValues and ForAnyValue are for keys of several values, and those need one of them")
	}
	if base, ok := strings.CutSuffix(c.operator, "IfExists"); ok && base != "Null" {
		c.operator, c.ifExists = base, true
	}
	for _, v := range values {
		if err := c.takes(k, v); err != nil {
			return refuse("%v", err)
		}
	}
	return c, nil
}

// takes says whether the operator is known, fits the key and the value.
func (c condition) takes(k kind, value string) error {
	switch c.operator {
	case "StringEquals", "StringNotEquals", "StringLike", "StringNotLike", "StringEqualsIgnoreCase":
		if k == boolean || k == number {
			return errors.New("a text operator for what is no text")
		}
	case "ArnEquals", "ArnLike", "ArnNotEquals", "ArnNotLike":
		if k != arns {
			return errors.New("an operator for ARNs")
		}
		if !strings.HasPrefix(value, "arn:") || strings.Count(value, ":") < 5 {
			return fmt.Errorf("%q is no ARN", value)
		}
	case "Bool":
		if k != boolean {
			return errors.New("operator Bool is for keys that are true or false")
		}
		if value != "true" && value != "false" {
			return fmt.Errorf("neither true nor false: %q", value)
		}
	case "NumericLessThan", "NumericLessThanEquals":
		if k != number {
			return errors.New("a numeric operator for what is no number")
		}
		_, err := strconv.ParseFloat(value, 64)
		return err
	case "Null":
		if c.set != "" || c.ifExists || len(c.values) != 1 || value != "true" && value != "false" {
			return errors.New("operator Null takes one true or false")
		}
	default:
		return errors.New("unknown operator")
	}
	return nil
}

// holds judges the condition. A key that the request does not have makes
// positive operators false and negated ones true, as on AWS.
func (c condition) holds(context map[string][]string) bool {
	got, present := context[c.key]
	present = present && len(got) > 0
	if c.operator == "Null" {
		return present == (c.values[0] == "false")
	}
	if !present && c.ifExists {
		return true
	}
	positive, negated := c.operator, false
	if before, after, ok := strings.Cut(c.operator, "Not"); ok {
		positive, negated = before+after, true
	}
	one := func(v string) bool {
		listed := slices.ContainsFunc(c.values, func(want string) bool { return compare(positive, want, v) })
		return listed != negated
	}
	switch {
	case c.set == "ForAllValues": // true of none, as on AWS
		return !slices.ContainsFunc(got, func(v string) bool { return !one(v) })
	case c.set == "ForAnyValue":
		return slices.ContainsFunc(got, one)
	case !present:
		return negated
	}
	return one(got[0])
}

func compare(operator, want, got string) bool {
	switch operator {
	case "StringEquals":
		return want == got
	case "StringEqualsIgnoreCase":
		return strings.EqualFold(want, got)
	case "StringLike":
		return Glob(want, got)
	case "ArnEquals", "ArnLike": // the same, as on AWS
		return matchARN(want, got)
	case "Bool":
		return strings.EqualFold(want, got)
	case "NumericLessThan", "NumericLessThanEquals":
		w, err1 := strconv.ParseFloat(want, 64)
		g, err2 := strconv.ParseFloat(got, 64)
		return err1 == nil && err2 == nil && (g < w || g == w && operator == "NumericLessThanEquals")
	}
	return false // parseCondition knows no other
}

// Glob matches the * and ? of policies, which match every character.
func Glob(pattern, s string) bool {
	// star is where the last * was, mark how far it reached: enough, since a
	// later * can take over whatever an earlier one could.
	star, mark := -1, 0
	i, j := 0, 0
	for j < len(s) {
		switch {
		case i < len(pattern) && pattern[i] == '*':
			star, mark = i, j
			i++
		case i < len(pattern) && (pattern[i] == '?' || pattern[i] == s[j]):
			i++
			j++
		case star >= 0:
			mark++
			i, j = star+1, mark
		default:
			return false
		}
	}
	return strings.Trim(pattern[i:], "*") == ""
}

// matchARN compares the six parts of an ARN each for itself: a * in one part
// does not reach into the next.
func matchARN(pattern, arn string) bool {
	if pattern == "*" {
		return true
	}
	want, got := strings.SplitN(pattern, ":", 6), strings.SplitN(arn, ":", 6)
	if len(want) != 6 || len(got) != 6 {
		return false
	}
	for i := range want {
		if !Glob(want[i], got[i]) {
			return false
		}
	}
	return true
}
