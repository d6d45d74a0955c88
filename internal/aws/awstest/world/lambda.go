package world

import (
	"context"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/stakeseal/stakeseal/internal/aws/awstest/call"
)

// route is a call of Lambda that the world knows: its method and path, with {}
// for what varies, the parameters it may have, and how it is read.
type route struct {
	operation, method, path string
	query                   []string
	read                    func(f *functions, l *lambdaCall) *call.Failure
}

var routes = []route{
	{"Invoke", "POST", "/2015-03-31/functions/{}/invocations", []string{"Qualifier"}, (*functions).invoke},
	{"GetFunction", "GET", "/2015-03-31/functions/{}", []string{"Qualifier"}, (*functions).getFunction},
	{"GetFunctionConfiguration", "GET", "/2015-03-31/functions/{}/configuration", []string{"Qualifier"}, (*functions).getConfiguration},
	{"ListVersionsByFunction", "GET", "/2015-03-31/functions/{}/versions", []string{"Marker", "MaxItems"}, (*functions).listVersions},
	{"GetAlias", "GET", "/2015-03-31/functions/{}/aliases/{}", nil, (*functions).getAlias},
	{"ListAliases", "GET", "/2015-03-31/functions/{}/aliases", []string{"FunctionVersion", "Marker", "MaxItems"}, (*functions).listAliases},
	{"GetPolicy", "GET", "/2015-03-31/functions/{}/policy", []string{"Qualifier"}, (*functions).getPolicy},
	{"GetFunctionCodeSigningConfig", "GET", "/2020-06-30/functions/{}/code-signing-config", nil, (*functions).getFunctionSigning},
	{"GetCodeSigningConfig", "GET", "/2020-04-22/code-signing-configs/{}", nil, (*functions).getSigning},
	{"ListTags", "GET", "/2017-03-31/tags/{}", nil, (*functions).listTags},
	{"GetFunctionConcurrency", "GET", "/2019-09-30/functions/{}/concurrency", nil, (*functions).getConcurrency},
	{"PutFunctionConcurrency", "PUT", "/2017-10-31/functions/{}/concurrency", nil, (*functions).putConcurrency},
	{"DeleteFunctionConcurrency", "DELETE", "/2017-10-31/functions/{}/concurrency", nil, (*functions).deleteConcurrency},
	{"ListEventSourceMappings", "GET", "/2015-03-31/event-source-mappings", []string{"FunctionName", "Marker", "MaxItems"}, (*functions).listMappings},
	{"ListFunctionUrlConfigs", "GET", "/2021-10-31/functions/{}/urls", []string{"Marker", "MaxItems"}, (*functions).listURLs},
	{"GetFunctionUrlConfig", "GET", "/2021-10-31/functions/{}/url", []string{"Qualifier"}, (*functions).getURL},
	{"GetRuntimeManagementConfig", "GET", "/2021-07-20/functions/{}/runtime-management-config", []string{"Qualifier"}, (*functions).getRuntime},
	{"ListFunctionEventInvokeConfigs", "GET", "/2019-09-25/functions/{}/event-invoke-config/list", []string{"Marker", "MaxItems"}, (*functions).listEventConfigs},
	{"ListProvisionedConcurrencyConfigs", "GET", "/2019-09-30/functions/{}/provisioned-concurrency", []string{"List", "Marker", "MaxItems"}, (*functions).listProvisioned},
	{"UpdateFunctionCode", "PUT", "/2015-03-31/functions/{}/code", nil, (*functions).updateCode},
	{"PublishVersion", "POST", "/2015-03-31/functions/{}/versions", nil, (*functions).publishVersion},
	{"CreateAlias", "POST", "/2015-03-31/functions/{}/aliases", nil, (*functions).createAlias},
	{"UpdateAlias", "PUT", "/2015-03-31/functions/{}/aliases/{}", nil, (*functions).updateAlias},
	{"DeleteFunction", "DELETE", "/2015-03-31/functions/{}", []string{"Qualifier"}, (*functions).deleteFunction},
}

// lambdaCall is a request on its way to becoming a call.
type lambdaCall struct {
	call.Request
	*call.Call
	names     []string // what stands in the path
	query     url.Values
	fn        *function // nil where there is none of the name
	qualifier string
}

// Understand reads a call of Lambda.
func (f *functions) Understand(r call.Request) (*call.Call, *call.Failure) {
	for _, one := range routes {
		names, ok := match(one.path, r.HTTP)
		if !ok || r.HTTP.Method != one.method {
			continue
		}
		l := &lambdaCall{Request: r, Call: &call.Call{Operation: one.operation, ReadOnly: r.HTTP.Method == http.MethodGet, Params: map[string]any{}}, names: names}
		var err error
		if l.query, err = url.ParseQuery(r.HTTP.URL.RawQuery); err != nil {
			return nil, call.Refuse("InvalidParameterValueException", "%v", err)
		}
		for name := range l.query {
			if !slices.Contains(one.query, name) {
				return nil, unknown("parameter %q of lambda %s", name, one.operation)
			}
		}
		if one.operation == "ListProvisionedConcurrencyConfigs" && l.query.Get("List") != "ALL" {
			continue
		}
		if failure := one.read(f, l); failure != nil {
			return nil, failure
		}
		return l.Call, nil
	}
	return nil, unknown("lambda %s %s", r.HTTP.Method, r.HTTP.URL)
}

// match compares the path as it was sent, since an ARN in it is encoded.
func match(pattern string, r *http.Request) ([]string, bool) {
	want, got := strings.Split(pattern, "/"), strings.Split(r.URL.EscapedPath(), "/")
	if len(want) != len(got) {
		return nil, false
	}
	var names []string
	for i := range want {
		text, err := url.PathUnescape(got[i])
		switch {
		case err != nil || text == "":
			if i > 0 {
				return nil, false
			}
		case want[i] == "{}":
			names = append(names, text)
		case want[i] != text:
			return nil, false
		}
	}
	return names, true
}

// function reads the function out of a name, NAME:QUALIFIER or an ARN, asks
// for the right on it, and runs do with it locked.
func (f *functions) function(l *lambdaCall, name string, do func(fn *function) (any, *call.Failure)) *call.Failure {
	arn := name
	if !strings.HasPrefix(name, "arn:") {
		arn = "arn:aws:lambda:" + l.Region + ":" + Account + ":function:" + name
	}
	parts := strings.Split(arn, ":")
	if len(parts) < 7 || len(parts) > 8 || parts[2] != "lambda" || parts[5] != "function" {
		return call.Refuse("ValidationException", "%q is no function", name)
	}
	qualifier := l.query.Get("Qualifier")
	if len(parts) == 8 {
		if qualifier != "" && qualifier != parts[7] {
			return call.Refuse("InvalidParameterValueException", "The derived qualifier from the function name does not match the specified qualifier.")
		}
		qualifier = parts[7]
	}
	base := strings.Join(parts[:7], ":")
	l.qualifier = qualifier
	l.Params["functionName"] = name
	if qualifier != "" {
		l.Params["qualifier"] = qualifier
	}
	resource := base
	switch l.Operation { // those that are granted on a version or an alias
	case "Invoke", "GetFunction", "GetFunctionConfiguration", "GetPolicy", "GetRuntimeManagementConfig", "DeleteFunction", "GetFunctionUrlConfig":
		if qualifier != "" {
			resource += ":" + qualifier
		}
	}
	action := "lambda:" + l.Operation
	if l.Operation == "Invoke" {
		action = "lambda:InvokeFunction"
	}
	l.Needs = []call.Need{{Action: action, Resource: resource, Context: map[string][]string{"lambda:FunctionArn": {resource}}}}
	f.mu.Lock()
	defer f.mu.Unlock()
	if fn := f.byName[parts[6]]; fn != nil && fn.arn == base {
		l.fn = fn
	}
	if do == nil {
		return nil
	}
	l.Do = func(context.Context) (*call.Answer, *call.Failure) {
		f.mu.Lock()
		defer f.mu.Unlock()
		if l.fn == nil {
			return nil, noFunction(resource)
		}
		out, failure := do(l.fn)
		if failure != nil {
			return nil, failure
		}
		if out == nil {
			return &call.Answer{Status: http.StatusNoContent}, nil
		}
		return call.JSON(out)
	}
	return nil
}

func noFunction(arn string) *call.Failure {
	return call.Fail(http.StatusNotFound, "ResourceNotFoundException", "Function not found: %s", arn)
}

func (f *functions) invoke(l *lambdaCall) *call.Failure {
	if failure := f.function(l, l.names[0], nil); failure != nil {
		return failure
	}
	l.Data, l.ReadOnly = true, false
	kind := l.HTTP.Header.Get("X-Amz-Invocation-Type")
	if kind == "" {
		kind = "RequestResponse"
	}
	l.Params["invocationType"] = kind
	if log := l.HTTP.Header.Get("X-Amz-Log-Type"); log != "" && log != "None" {
		return unknown("log type %q of lambda Invoke", log)
	}
	for name := range l.HTTP.Header {
		if strings.HasPrefix(name, "X-Amz-") && !slices.Contains([]string{"X-Amz-Invocation-Type", "X-Amz-Log-Type", "X-Amz-Date", "X-Amz-Security-Token", "X-Amz-Content-Sha256", "X-Amz-User-Agent"}, name) {
			return unknown("header %s of lambda Invoke", name)
		}
	}
	most := maxEvent
	switch kind {
	case "RequestResponse", "DryRun":
	case "Event":
		most = maxAsync
	default:
		return unknown("invocation type %q of lambda Invoke", kind)
	}
	if len(l.Body) > most {
		return call.Fail(http.StatusRequestEntityTooLarge, "RequestTooLargeException", "%d byte payload is too large for the %s invocation type (limit %d bytes)", len(l.Body), kind, most)
	}
	event := l.Body
	if len(event) == 0 {
		event = []byte("{}")
	}
	l.Do = func(ctx context.Context) (*call.Answer, *call.Failure) {
		f.mu.Lock()
		var v *version
		if l.fn != nil {
			v = l.fn.resolve(l.qualifier)
		}
		f.mu.Unlock()
		switch {
		case v == nil:
			return nil, noFunction(l.Needs[0].Resource)
		case v.code.zip == nil:
			return nil, call.Fail(http.StatusConflict, "ResourceConflictException", "The operation cannot be performed at this time. The function has no code")
		case kind == "DryRun":
			return &call.Answer{Status: http.StatusNoContent}, nil
		case kind == "Event":
			f.deliver(l.fn, l.qualifier, l.ID, event)
			if doubled, _ := ctx.Value(doubledKey{}).(bool); doubled {
				f.deliver(l.fn, l.qualifier, l.ID, event)
			}
			return &call.Answer{Status: http.StatusAccepted}, nil
		}
		answer, failure, err := f.run(l.fn, v, l.qualifier, l.ID, event)
		if err != nil {
			refused := call.Fail(http.StatusTooManyRequests, "TooManyRequestsException", "%v", err)
			refused.Fields = map[string]any{"Reason": "ReservedFunctionConcurrentInvocationLimitExceeded"}
			return nil, refused
		}
		out := &call.Answer{Header: http.Header{"X-Amz-Executed-Version": {v.number}}, Body: answer}
		if failure != nil {
			out.Header.Set("X-Amz-Function-Error", "Unhandled")
			out.Body = failureBody(failure)
		}
		return out, nil
	}
	return nil
}

// doubledKey is set where an event is to be delivered twice.
type doubledKey struct{}

// describe is a function's configuration as the reads answer it.
func (v *version) describe() map[string]any {
	arn := v.arn
	if v.number != "$LATEST" {
		arn += ":" + v.number
	}
	out := map[string]any{
		"FunctionName": v.name, "FunctionArn": arn, "Runtime": v.runtime, "Role": v.role, "Handler": v.handler, "CodeSize": len(v.code.zip),
		"Description": v.description, "Timeout": int(v.timeout.Seconds()), "MemorySize": v.memoryMB,
		"LastModified": v.at.UTC().Format("2006-01-02T15:04:05.000+0000"), "CodeSha256": v.code.sum, "Version": v.number,
		"TracingConfig": map[string]any{"Mode": "PassThrough"}, "RevisionId": v.revision(), "State": "Active", "LastUpdateStatus": "Successful",
		"PackageType": "Zip", "Architectures": v.architectures, "EphemeralStorage": map[string]any{"Size": 512},
		"SnapStart":            map[string]any{"ApplyOn": "None", "OptimizationStatus": "Off"},
		"RuntimeVersionConfig": map[string]any{"RuntimeVersionArn": runtimeVersion},
		"LoggingConfig":        map[string]any{"LogFormat": v.logFormat, "LogGroup": v.logGroup},
		"ConfigSha256":         v.configSum(),
	}
	if v.note != "" {
		out["Description"] = v.note
	}
	if len(v.environment) > 0 {
		out["Environment"] = map[string]any{"Variables": v.environment}
	}
	if v.vpc != nil {
		out["VpcConfig"] = v.vpc
	}
	if v.code.job != "" {
		out["SigningJobArn"], out["SigningProfileVersionArn"] = v.code.job, v.code.profile
	}
	return out
}

const runtimeVersion = "arn:aws:lambda:" + Region + "::runtime:0cdcfbdefbc5e7d3343f73c2e2dd3cba17d61dea0686b404502a0c9ce83931b9"

func (v *version) revision() string {
	return sumText(v.number + v.at.Format(time.RFC3339Nano) + v.code.sum)[:36]
}
