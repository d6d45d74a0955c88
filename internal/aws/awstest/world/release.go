package world

import (
	"bytes"
	"context"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"time"

	"github.com/stakeseal/stakeseal/internal/aws/awstest/call"
)

// updateCode takes a package out of a bucket, with the caller's own right to
// it, and as the function's code-signing configuration says only if it is
// signed.
func (f *functions) updateCode(l *lambdaCall) *call.Failure {
	var in struct {
		S3Bucket, S3Key, S3ObjectVersion string
		Publish                          bool
		DryRun                           bool
		RevisionID                       string `json:"RevisionId"`
		Architectures                    []string
	}
	if err := call.Strict(l.Body, &in); err != nil {
		return unknown("lambda UpdateFunctionCode with %v", err)
	}
	if in.S3Bucket == "" || in.S3Key == "" || in.DryRun || len(in.Architectures) > 1 {
		return unknown("lambda UpdateFunctionCode of anything but an object")
	}
	l.Params["s3Bucket"], l.Params["s3Key"], l.Params["s3ObjectVersion"] = in.S3Bucket, in.S3Key, in.S3ObjectVersion
	var unpacked code
	failure := f.function(l, l.names[0], func(fn *function) (any, *call.Failure) {
		if in.RevisionID != "" && in.RevisionID != fn.latest.revision() {
			return nil, call.Fail(http.StatusPreconditionFailed, "PreconditionFailedException", "The RevisionId provided does not match the latest RevisionId.")
		}
		f.forget(fn.latest)
		latest := *fn.latest
		latest.code, latest.at = unpacked, time.Now()
		if len(in.Architectures) == 1 {
			latest.architectures = in.Architectures
		}
		fn.latest = &latest
		if in.Publish {
			v, err := f.publish(fn, "")
			if err != nil {
				return nil, call.Refuse("InvalidParameterValueException", "%v", err)
			}
			return v.describe(), nil
		}
		return fn.latest.describe(), nil
	})
	if failure != nil {
		return failure
	}
	read := call.Need{Action: "s3:GetObject", Resource: "arn:aws:s3:::" + in.S3Bucket + "/" + in.S3Key}
	if in.S3ObjectVersion != "" {
		read.Action = "s3:GetObjectVersion"
	}
	l.Needs = append(l.Needs, read)
	apply := l.Do
	l.Do = func(ctx context.Context) (*call.Answer, *call.Failure) {
		data, _, ok := f.w.Buckets.Version(in.S3Bucket, in.S3Key, in.S3ObjectVersion)
		if !ok {
			return nil, call.Refuse("InvalidParameterValueException", "Error occurred while GetObject. S3 Error Code: NoSuchKey. S3 Error Message: The specified key does not exist.")
		}
		if l.fn == nil {
			return nil, noFunction(l.Needs[0].Resource)
		}
		job, profile, err := f.verify(l.fn, data)
		if err != nil {
			return nil, call.Refuse("CodeVerificationFailedException", "The code signature failed one or more of the validation checks for signature mismatch or expiry, and the code signing policy is set to ENFORCE: %v", err)
		}
		if unpacked, err = f.unpack(data); err != nil {
			return nil, call.Refuse("InvalidParameterValueException", "Could not unzip uploaded file: %v", err)
		}
		unpacked.job, unpacked.profile = job, profile
		return apply(ctx)
	}
	return nil
}

func (f *functions) publishVersion(l *lambdaCall) *call.Failure {
	var in struct {
		CodeSha256, Description string
		RevisionID              string `json:"RevisionId"`
	}
	if len(bytes.TrimSpace(l.Body)) > 0 {
		if err := call.Strict(l.Body, &in); err != nil {
			return unknown("lambda PublishVersion with %v", err)
		}
	}
	return f.function(l, l.names[0], func(fn *function) (any, *call.Failure) {
		if in.CodeSha256 != "" && in.CodeSha256 != fn.latest.code.sum {
			return nil, call.Refuse("InvalidParameterValueException", "CodeSHA256 (%s) is different from current CodeSHA256 in $LATEST (%s).", in.CodeSha256, fn.latest.code.sum)
		}
		if in.RevisionID != "" && in.RevisionID != fn.latest.revision() {
			return nil, call.Fail(http.StatusPreconditionFailed, "PreconditionFailedException", "The RevisionId provided does not match the latest RevisionId.")
		}
		v, err := f.publish(fn, in.Description)
		if err != nil {
			return nil, call.Refuse("InvalidParameterValueException", "%v", err)
		}
		return v.describe(), nil
	})
}

var number = regexp.MustCompile(`^[0-9]+$`)

func (f *functions) createAlias(l *lambdaCall) *call.Failure {
	var in struct{ Name, FunctionVersion, Description string }
	if err := call.Strict(l.Body, &in); err != nil {
		return unknown("lambda CreateAlias with %v", err)
	}
	l.Params["name"], l.Params["functionVersion"] = in.Name, in.FunctionVersion
	failure := f.function(l, l.names[0], func(fn *function) (any, *call.Failure) {
		switch {
		case in.Name == "" || number.MatchString(in.Name):
			return nil, call.Refuse("InvalidParameterValueException", "alias %q", in.Name)
		case fn.aliases[in.Name] != nil:
			return nil, call.Fail(http.StatusConflict, "ResourceConflictException", "Alias already exists: %s:%s", fn.arn, in.Name)
		case fn.find(in.FunctionVersion) == nil:
			return nil, noFunction(fn.arn + ":" + in.FunctionVersion)
		}
		return fn.describeAlias(f.point(fn, in.Name, in.FunctionVersion, in.Description)), nil
	})
	return failure
}

func (f *functions) updateAlias(l *lambdaCall) *call.Failure {
	var in struct {
		FunctionVersion, Description string
		RevisionID                   string `json:"RevisionId"`
		RoutingConfig                *struct{ AdditionalVersionWeights map[string]float64 }
	}
	if err := call.Strict(l.Body, &in); err != nil {
		return unknown("lambda UpdateAlias with %v", err)
	}
	name := l.names[1]
	l.Params["name"], l.Params["functionVersion"] = name, in.FunctionVersion
	return f.function(l, l.names[0], func(fn *function) (any, *call.Failure) {
		a := fn.aliases[name]
		switch {
		case a == nil:
			return nil, call.Fail(http.StatusNotFound, "ResourceNotFoundException", "Alias not found: %s:%s", fn.arn, name)
		case in.RevisionID != "" && in.RevisionID != fn.describeAlias(a)["RevisionId"]:
			return nil, call.Fail(http.StatusPreconditionFailed, "PreconditionFailedException", "The RevisionId provided does not match the latest RevisionId.")
		case in.FunctionVersion == "":
			in.FunctionVersion = a.version
		case fn.find(in.FunctionVersion) == nil:
			return nil, noFunction(fn.arn + ":" + in.FunctionVersion)
		}
		if in.RoutingConfig != nil {
			for other, share := range in.RoutingConfig.AdditionalVersionWeights {
				if len(in.RoutingConfig.AdditionalVersionWeights) > 1 || fn.find(other) == nil || other == "$LATEST" || other == in.FunctionVersion || share < 0 || share > 1 {
					return nil, call.Refuse("InvalidParameterValueException", "routing configuration %v", in.RoutingConfig.AdditionalVersionWeights)
				}
			}
			a.weights, a.due = in.RoutingConfig.AdditionalVersionWeights, 0
		}
		return fn.describeAlias(f.point(fn, name, in.FunctionVersion, in.Description)), nil
	})
}

// deleteFunction removes one version; the function itself no call removes.
func (f *functions) deleteFunction(l *lambdaCall) *call.Failure {
	return f.function(l, l.names[0], func(fn *function) (any, *call.Failure) {
		i := slices.IndexFunc(fn.versions, func(v *version) bool { return v.number == l.qualifier })
		if _, err := strconv.Atoi(l.qualifier); err != nil || i < 0 {
			return nil, unknown("lambda DeleteFunction of anything but a version that is there: %q", l.qualifier)
		}
		for _, a := range fn.aliases {
			if _, shared := a.weights[l.qualifier]; shared || a.version == l.qualifier {
				return nil, call.Fail(http.StatusConflict, "ResourceConflictException", "Version was not able to be deleted because the following aliases reference it: [%s]", a.name)
			}
		}
		f.forget(fn.versions[i])
		fn.versions = slices.Delete(fn.versions, i, i+1)
		return nil, nil
	})
}
