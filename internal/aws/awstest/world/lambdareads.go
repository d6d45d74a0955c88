package world

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"net/http"
	"net/url"
	"strings"

	"github.com/stakeseal/stakeseal/internal/aws/awstest/call"
)

func sumText(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:])
}

// configSum stands for the digest that Lambda makes of a version's
// configuration; how, is not documented.
func (v *version) configSum() string {
	text, _ := json.Marshal([]any{v.name, v.role, v.runtime, v.handler, v.memoryMB, v.timeout, v.architectures, v.environment, v.vpc})
	sum := sha256.Sum256(text)
	return base64.StdEncoding.EncodeToString(sum[:])
}

func (f *functions) getFunction(l *lambdaCall) *call.Failure {
	return f.function(l, l.names[0], func(fn *function) (any, *call.Failure) {
		v := fn.resolve(l.qualifier)
		if v == nil {
			return nil, noFunction(l.Needs[0].Resource)
		}
		out := map[string]any{"Configuration": v.describe(), "Tags": fn.tags, "Code": map[string]any{"RepositoryType": "S3", "Location": f.w.offer(v.code.zip)}}
		if fn.reserved >= 0 {
			out["Concurrency"] = map[string]any{"ReservedConcurrentExecutions": fn.reserved}
		}
		return out, nil
	})
}

func (f *functions) getConfiguration(l *lambdaCall) *call.Failure {
	return f.function(l, l.names[0], func(fn *function) (any, *call.Failure) {
		v := fn.resolve(l.qualifier)
		if v == nil {
			return nil, noFunction(l.Needs[0].Resource)
		}
		return v.describe(), nil
	})
}

func (f *functions) listVersions(l *lambdaCall) *call.Failure {
	return f.function(l, l.names[0], func(fn *function) (any, *call.Failure) {
		all := []map[string]any{fn.latest.describe()}
		for _, v := range fn.versions {
			all = append(all, v.describe())
		}
		return map[string]any{"Versions": all}, nil
	})
}

func (fn *function) describeAlias(a *alias) map[string]any {
	out := map[string]any{"AliasArn": fn.arn + ":" + a.name, "Name": a.name, "FunctionVersion": a.version, "Description": a.note, "RevisionId": sumText(fn.arn + a.name + strings.Repeat(".", a.revision))[:36]}
	if len(a.weights) > 0 {
		out["RoutingConfig"] = map[string]any{"AdditionalVersionWeights": a.weights}
	}
	return out
}

func (f *functions) getAlias(l *lambdaCall) *call.Failure {
	return f.function(l, l.names[0], func(fn *function) (any, *call.Failure) {
		a := fn.aliases[l.names[1]]
		if a == nil {
			return nil, call.Fail(http.StatusNotFound, "ResourceNotFoundException", "Cannot find alias arn: %s:%s", fn.arn, l.names[1])
		}
		return fn.describeAlias(a), nil
	})
}

func (f *functions) listAliases(l *lambdaCall) *call.Failure {
	return f.function(l, l.names[0], func(fn *function) (any, *call.Failure) {
		all := []map[string]any{}
		for _, a := range fn.aliases {
			if v := l.query.Get("FunctionVersion"); v == "" || v == a.version {
				all = append(all, fn.describeAlias(a))
			}
		}
		return map[string]any{"Aliases": all}, nil
	})
}

// getPolicy: no call adds permissions, so there is no policy.
func (f *functions) getPolicy(l *lambdaCall) *call.Failure {
	return f.function(l, l.names[0], func(*function) (any, *call.Failure) {
		return nil, call.Fail(http.StatusNotFound, "ResourceNotFoundException", "The resource you requested does not exist.")
	})
}

func (f *functions) getFunctionSigning(l *lambdaCall) *call.Failure {
	return f.function(l, l.names[0], func(fn *function) (any, *call.Failure) {
		out := map[string]any{"FunctionName": fn.name}
		if fn.signingConfig != "" {
			out["CodeSigningConfigArn"] = fn.signingConfig
		}
		return out, nil
	})
}

func (f *functions) getSigning(l *lambdaCall) *call.Failure {
	arn := l.names[0]
	l.Params["codeSigningConfigArn"] = arn
	l.Needs = []call.Need{{Action: "lambda:GetCodeSigningConfig", Resource: arn}}
	l.Do = func(context.Context) (*call.Answer, *call.Failure) {
		f.mu.Lock()
		defer f.mu.Unlock()
		if f.signing[arn] == nil {
			return nil, call.Fail(http.StatusNotFound, "ResourceNotFoundException", "The code signing configuration cannot be found.")
		}
		return call.JSON(map[string]any{"CodeSigningConfig": f.signing[arn]})
	}
	return nil
}

func (f *functions) listTags(l *lambdaCall) *call.Failure {
	return f.function(l, l.names[0], func(fn *function) (any, *call.Failure) { return map[string]any{"Tags": fn.tags}, nil })
}

func (f *functions) getConcurrency(l *lambdaCall) *call.Failure {
	return f.function(l, l.names[0], func(fn *function) (any, *call.Failure) {
		if fn.reserved < 0 {
			return map[string]any{}, nil
		}
		return map[string]any{"ReservedConcurrentExecutions": fn.reserved}, nil
	})
}

func (f *functions) putConcurrency(l *lambdaCall) *call.Failure {
	var in struct{ ReservedConcurrentExecutions *int }
	if err := call.Strict(l.Body, &in); err != nil || in.ReservedConcurrentExecutions == nil || *in.ReservedConcurrentExecutions < 0 {
		return call.Refuse("InvalidParameterValueException", "reserved concurrency: %v", err)
	}
	return f.function(l, l.names[0], func(fn *function) (any, *call.Failure) {
		fn.reserved = *in.ReservedConcurrentExecutions
		return map[string]any{"ReservedConcurrentExecutions": fn.reserved}, nil
	})
}

func (f *functions) deleteConcurrency(l *lambdaCall) *call.Failure {
	return f.function(l, l.names[0], func(fn *function) (any, *call.Failure) { fn.reserved = -1; return nil, nil })
}

// listMappings: nothing makes event source mappings, so there is none. IAM
// grants the list on everything only.
func (f *functions) listMappings(l *lambdaCall) *call.Failure {
	l.Params["functionName"] = l.query.Get("FunctionName")
	l.Needs = []call.Need{{Action: "lambda:ListEventSourceMappings", Resource: "*"}}
	l.Do = func(context.Context) (*call.Answer, *call.Failure) {
		return call.JSON(map[string]any{"EventSourceMappings": []string{}})
	}
	return nil
}

func (f *functions) listURLs(l *lambdaCall) *call.Failure {
	return f.function(l, l.names[0], func(*function) (any, *call.Failure) {
		return map[string]any{"FunctionUrlConfigs": []string{}}, nil
	})
}

func (f *functions) getURL(l *lambdaCall) *call.Failure {
	return f.function(l, l.names[0], func(*function) (any, *call.Failure) {
		return nil, call.Fail(http.StatusNotFound, "ResourceNotFoundException", "The resource you requested does not exist.")
	})
}

func (f *functions) getRuntime(l *lambdaCall) *call.Failure {
	return f.function(l, l.names[0], func(fn *function) (any, *call.Failure) {
		return map[string]any{"UpdateRuntimeOn": "Auto", "FunctionArn": l.Needs[0].Resource}, nil
	})
}

func (f *functions) listEventConfigs(l *lambdaCall) *call.Failure {
	return f.function(l, l.names[0], func(fn *function) (any, *call.Failure) {
		return map[string]any{"FunctionEventInvokeConfigs": append([]map[string]any{}, fn.events...)}, nil
	})
}

func (f *functions) listProvisioned(l *lambdaCall) *call.Failure {
	return f.function(l, l.names[0], func(*function) (any, *call.Failure) {
		return map[string]any{"ProvisionedConcurrencyConfigs": []string{}}, nil
	})
}

// downloadBucket is where Lambda lets a function's code be fetched from, by
// whoever has the address.
const downloadBucket = "prod-iad-c1-djusa-tasks"

// offer makes an address for a package.
func (w *World) offer(data []byte) string {
	name := "/snapshots/" + Account + "/" + call.UUID()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.downloads[name] = data
	return "https://" + downloadBucket + ".s3." + Region + ".amazonaws.com" + name + "?" + url.Values{"versionId": {"x"}, "X-Amz-Expires": {"600"}}.Encode()
}

func (w *World) download(out http.ResponseWriter, r *http.Request) {
	w.mu.Lock()
	data, ok := w.downloads[r.URL.Path]
	w.mu.Unlock()
	if !ok || r.Method != http.MethodGet {
		call.RestXML.Write(out, call.Fail(http.StatusForbidden, "AccessDenied", "Access Denied"), call.UUID())
		return
	}
	out.Header().Set("Content-Type", "application/zip")
	_, _ = out.Write(data)
}
