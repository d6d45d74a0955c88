package ops

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"
	"github.com/aws/aws-sdk-go-v2/service/signer"
	signertypes "github.com/aws/aws-sdk-go-v2/service/signer/types"
)

// What is asked of Lambda and Signer; the SDK's clients have it.
type (
	functionAPI interface {
		GetFunctionConfiguration(context.Context, *lambda.GetFunctionConfigurationInput, ...func(*lambda.Options)) (*lambda.GetFunctionConfigurationOutput, error)
		GetFunctionConcurrency(context.Context, *lambda.GetFunctionConcurrencyInput, ...func(*lambda.Options)) (*lambda.GetFunctionConcurrencyOutput, error)
		GetRuntimeManagementConfig(context.Context, *lambda.GetRuntimeManagementConfigInput, ...func(*lambda.Options)) (*lambda.GetRuntimeManagementConfigOutput, error)
	}
	codeSigningAPI interface {
		GetFunctionCodeSigningConfig(context.Context, *lambda.GetFunctionCodeSigningConfigInput, ...func(*lambda.Options)) (*lambda.GetFunctionCodeSigningConfigOutput, error)
		GetCodeSigningConfig(context.Context, *lambda.GetCodeSigningConfigInput, ...func(*lambda.Options)) (*lambda.GetCodeSigningConfigOutput, error)
	}
	versionAPI interface {
		versionLister
		ListAliases(context.Context, *lambda.ListAliasesInput, ...func(*lambda.Options)) (*lambda.ListAliasesOutput, error)
		GetFunction(context.Context, *lambda.GetFunctionInput, ...func(*lambda.Options)) (*lambda.GetFunctionOutput, error)
	}
	profileAPI interface {
		GetSigningProfile(context.Context, *signer.GetSigningProfileInput, ...func(*signer.Options)) (*signer.GetSigningProfileOutput, error)
		ListProfilePermissions(context.Context, *signer.ListProfilePermissionsInput, ...func(*signer.Options)) (*signer.ListProfilePermissionsOutput, error)
	}
)

const (
	gainsCode     = "whoever may update the function can put in code that nobody reviewed, and has every key made from then on"
	gainsSettings = "code of theirs, or a place of theirs that calls go to, stands beside the maker while it has a key in memory"
	gainsVersion  = "whoever may run it has keys made by code or settings that are no longer the reviewed ones"
	hintRelease   = "find who did it in the trail; put the reviewed release back (stakeseal release deploy) and make no keys until then"
)

// latest is the qualifier of what the next published version would be.
const latest = "$LATEST"

// lookAtFunction judges code signing, and the configuration of what the alias
// runs and of what would be published next.
func (e *examination) lookAtFunction(ctx context.Context) {
	c := e.check("function", gainsSettings, hintRelease)
	running, err := e.Lambda.GetFunctionConfiguration(ctx, &lambda.GetFunctionConfigurationInput{FunctionName: &e.Function, Qualifier: &e.Alias})
	if absent(err, "ResourceNotFoundException") {
		c.hint = "deploy a release: stakeseal release deploy"
		c.add(Changed, "there is no function %s with an alias %s", e.Function, e.Alias)
		return
	}
	if c.seen("lambda:GetFunctionConfiguration", err) {
		e.lookAtConfiguration(c, "version "+aws.ToString(running.Version), running)
		c.ok("version %s: generator role, %s %s, handler %s, no environment, no layers, nothing mounted", aws.ToString(running.Version), running.Runtime, architectures(running.Architectures), aws.ToString(running.Handler))
	}
	next := e.check("function "+latest, gainsSettings, "it is what the next publication takes: "+hintRelease)
	config, err := e.Lambda.GetFunctionConfiguration(ctx, &lambda.GetFunctionConfigurationInput{FunctionName: &e.Function})
	if next.seen("lambda:GetFunctionConfiguration", err) {
		e.lookAtConfiguration(next, latest, config)
		next.ok("the next publication would take in nothing else than the version that runs")
	}
	e.lookAtCodeSigning(ctx)
	e.lookAtRunning(ctx)
}

func architectures(list []types.Architecture) string {
	var out []string
	for _, a := range list {
		out = append(out, string(a))
	}
	return strings.Join(out, "+")
}

// lookAtConfiguration judges what code signing does not cover.
func (e *examination) lookAtConfiguration(c *check, what string, f *lambda.GetFunctionConfigurationOutput) {
	want := reference{function: e.Function, role: e.Role("generator")}
	if r, known := e.stacks.one("AWS::Lambda::Function", e.Function); known {
		if want.properties = r.Properties; want.properties == nil {
			want.properties = map[string]any{}
		}
	}
	wrong, unjudged := besides(configurationOf(f), want)
	for _, text := range wrong {
		c.add(Changed, "%s %s", what, text)
	}
	for _, text := range unjudged {
		c.add(Warning, "%s %s", what, text)
	}
}

func number(n *int32) string {
	if n == nil {
		return ""
	}
	return strconv.Itoa(int(*n))
}

// lookAtCodeSigning judges who can put code into the function.
func (e *examination) lookAtCodeSigning(ctx context.Context) {
	c := e.check("code signing", gainsCode, "stakeseal release deploy attaches it again; before that look at every version that was published since")
	attached, err := e.Lambda.GetFunctionCodeSigningConfig(ctx, &lambda.GetFunctionCodeSigningConfigInput{FunctionName: &e.Function})
	if absent(err, "ResourceNotFoundException") || err == nil && aws.ToString(attached.CodeSigningConfigArn) == "" {
		c.add(Changed, "the function has no code-signing configuration: any code can be put in")
		return
	}
	if !c.seen("lambda:GetFunctionCodeSigningConfig", err) {
		return
	}
	out, err := e.Lambda.GetCodeSigningConfig(ctx, &lambda.GetCodeSigningConfigInput{CodeSigningConfigArn: attached.CodeSigningConfigArn})
	if !c.seen("lambda:GetCodeSigningConfig", err) {
		return
	}
	config := out.CodeSigningConfig
	if config == nil {
		config = &types.CodeSigningConfig{}
	}
	policy, allowed := types.CodeSigningPolicyWarn, []string(nil)
	if config.CodeSigningPolicies != nil {
		policy = config.CodeSigningPolicies.UntrustedArtifactOnDeployment
	}
	if config.AllowedPublishers != nil {
		allowed = asSet(config.AllowedPublishers.SigningProfileVersionArns)
	}
	c.want(policy == types.CodeSigningPolicyEnforce, "code signing is set to %s, which lets unsigned code in: only Enforce blocks", policy)
	profile := e.stacks.output("foundation", "SigningProfileVersionArn")
	switch {
	case profile != "":
		c.want(slices.Equal(allowed, []string{profile}), "it believes %s, not only %s", strings.Join(allowed, " and "), profile)
	case len(allowed) == 1:
		c.add(Warning, "it believes %s: not judged, no stack says which profile is ours", allowed[0])
	default:
		c.add(Changed, "it believes %d signing profiles: %s", len(allowed), strings.Join(allowed, ", "))
	}
	for _, p := range allowed {
		e.lookAtProfile(ctx, c, p)
	}
	c.ok("Enforce, and only the installation's profile is believed: %s", strings.Join(allowed, ", "))
}

// lookAtProfile judges who can sign with a profile:
// arn:aws:signer:REGION:ACCOUNT:/signing-profiles/NAME/VERSION.
func (e *examination) lookAtProfile(ctx context.Context, c *check, version string) {
	parts := strings.Split(version, "/")
	if len(parts) != 4 || parts[1] != "signing-profiles" {
		c.add(Changed, "%q is not a version of a signing profile", version)
		return
	}
	c.want(strings.HasPrefix(version, e.resource("signer", "/")), "the profile %s is another account's, which signs what it likes", version)
	got, err := e.Signer.GetSigningProfile(ctx, &signer.GetSigningProfileInput{ProfileName: &parts[2]})
	if c.seen("signer:GetSigningProfile", err) {
		c.want(got.Status == signertypes.SigningProfileStatusActive, "the signing profile %s is %s", parts[2], got.Status)
		c.want(got.RevocationRecord == nil, "the signing profile %s was revoked", parts[2])
		c.want(aws.ToString(got.PlatformId) == "AWSLambda-SHA384-ECDSA", "the signing profile %s is for the platform %q", parts[2], aws.ToString(got.PlatformId))
	}
	err = pages(func(next *string) (*string, error) {
		out, err := e.Signer.ListProfilePermissions(ctx, &signer.ListProfilePermissionsInput{ProfileName: &parts[2], NextToken: next})
		if err != nil {
			return nil, err
		}
		for _, p := range out.Permissions {
			c.add(Changed, "the signing profile %s gives %s to %s", parts[2], aws.ToString(p.Action), aws.ToString(p.Principal))
		}
		return out.NextToken, nil
	})
	if !absent(err, "ResourceNotFoundException") { // no permission was ever added
		c.seen("signer:ListProfilePermissions", err)
	}
}

// lookAtRunning judges how the platform runs it.
func (e *examination) lookAtRunning(ctx context.Context) {
	c := e.check("function runtime", "can keep the maker on a platform with known holes, or stop it", hintRelease)
	want, _ := e.stacks.one("AWS::Lambda::Function", e.Function)
	expected := string(types.UpdateRuntimeOnAuto)
	if m, ok := want.Properties["RuntimeManagementConfig"].(map[string]any); ok {
		expected = loosely(m["UpdateRuntimeOn"])
	}
	got, err := e.Lambda.GetRuntimeManagementConfig(ctx, &lambda.GetRuntimeManagementConfigInput{FunctionName: &e.Function})
	if c.seen("lambda:GetRuntimeManagementConfig", err) {
		c.want(string(got.UpdateRuntimeOn) == expected, "the runtime is updated on %s (%s), not %s", got.UpdateRuntimeOn, aws.ToString(got.RuntimeVersionArn), expected)
	}
	reserved, err := e.Lambda.GetFunctionConcurrency(ctx, &lambda.GetFunctionConcurrencyInput{FunctionName: &e.Function})
	if c.seen("lambda:GetFunctionConcurrency", err) {
		n := number(reserved.ReservedConcurrentExecutions)
		asked := loosely(want.Properties["ReservedConcurrentExecutions"])
		c.want(n != "0", "reserved concurrency is 0: the generator cannot run")
		if n != "0" && want.Type != "" {
			c.want(n == asked, "reserved concurrency is %q, by the template %q", n, asked)
		}
	}
	c.ok("updates of the runtime on %s, concurrency as it should be", expected)
}

// lookAtVersions judges what can be called: every published version stays
// callable whatever was changed since.
func (e *examination) lookAtVersions(ctx context.Context) {
	c := e.check("versions", gainsVersion, "delete versions that are neither in force nor the one to go back to; requesters may call the alias only")
	var inForce string
	aliases, err := e.aliases(ctx)
	for _, a := range aliases {
		if aws.ToString(a.Name) != e.Alias {
			c.add(Changed, "there is another alias: %s for version %s", aws.ToString(a.Name), aws.ToString(a.FunctionVersion))
			continue
		}
		inForce = aws.ToString(a.FunctionVersion)
		c.want(inForce != latest, "the alias %s runs %s, whose code and configuration can change at any time", e.Alias, latest)
		if a.RoutingConfig != nil {
			for version, weight := range a.RoutingConfig.AdditionalVersionWeights {
				c.add(Changed, "the alias %s sends %.4g%% of its calls to version %s", e.Alias, weight*100, version)
			}
		}
	}
	if absent(err, "ResourceNotFoundException") {
		return // said already
	}
	if !c.seen("lambda:ListAliases", err) {
		return
	}
	if inForce == "" {
		c.add(Changed, "the alias %s does not exist", e.Alias)
		return
	}
	published, err := publishedVersions(ctx, e.Lambda, e.Function)
	if !c.seen("lambda:ListVersionsByFunction", err) {
		return
	}
	slices.SortFunc(published, func(a, b types.FunctionConfiguration) int { return versionNumber(b) - versionNumber(a) })
	profile := e.stacks.output("foundation", "SigningProfileVersionArn")
	there, rollback := false, ""
	for _, v := range published {
		number := aws.ToString(v.Version)
		var wrong []string
		switch signedBy := aws.ToString(v.SigningProfileVersionArn); {
		case signedBy == "" || aws.ToString(v.SigningJobArn) == "":
			wrong = append(wrong, "holds unsigned code (sha256 "+aws.ToString(v.CodeSha256)+")")
		case profile != "" && signedBy != profile:
			wrong = append(wrong, "was signed with "+signedBy)
		}
		switch {
		case number == inForce:
			there = true
		case rollback == "": // the newest other one
			rollback = number
			config, err := e.Lambda.GetFunctionConfiguration(ctx, &lambda.GetFunctionConfigurationInput{FunctionName: &e.Function, Qualifier: &number})
			if c.seen("lambda:GetFunctionConfiguration", err) {
				e.lookAtConfiguration(c, "version "+number+", to go back to,", config)
			}
		default:
			wrong = append(wrong, "can still be called, of "+aws.ToString(v.LastModified))
		}
		c.want(wrong == nil, "version %s %s", number, strings.Join(wrong, "; it "))
	}
	c.want(there || inForce == latest, "the alias %s is for version %s, which is not listed", e.Alias, inForce)
	text := "no other is published"
	if rollback != "" {
		text = "version " + rollback + " to go back to"
	}
	c.ok("%s is version %s, all of the calls; %s", e.Alias, inForce, text)
}

// aliases lists the function's aliases, and with an error those that were read
// before it.
func (e *examination) aliases(ctx context.Context) (list []types.AliasConfiguration, err error) {
	err = pages(func(next *string) (*string, error) {
		out, err := e.Lambda.ListAliases(ctx, &lambda.ListAliasesInput{FunctionName: &e.Function, Marker: next})
		if err != nil {
			return nil, err
		}
		list = append(list, out.Aliases...)
		return out.NextMarker, nil
	})
	return list, err
}

// versionLister is what publishedVersions needs of Lambda.
type versionLister interface {
	ListVersionsByFunction(context.Context, *lambda.ListVersionsByFunctionInput, ...func(*lambda.Options)) (*lambda.ListVersionsByFunctionOutput, error)
}

// publishedVersions lists the versions of a function, as Lambda does oldest
// first, and with an error those that were read before it.
func publishedVersions(ctx context.Context, client versionLister, function string) (list []types.FunctionConfiguration, err error) {
	err = pages(func(next *string) (*string, error) {
		out, err := client.ListVersionsByFunction(ctx, &lambda.ListVersionsByFunctionInput{FunctionName: &function, Marker: next})
		if err != nil {
			return nil, err
		}
		for _, v := range out.Versions {
			if aws.ToString(v.Version) != latest {
				list = append(list, v)
			}
		}
		return out.NextMarker, nil
	})
	return list, err
}

func versionNumber(f types.FunctionConfiguration) int {
	n, _ := strconv.Atoi(aws.ToString(f.Version))
	return n
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

// at is the value under a path of names in a template, nil where there is none.
func at(v any, path ...string) any {
	for _, name := range path {
		m, _ := v.(map[string]any)
		v = m[name]
	}
	return v
}

// texts reads a list of strings out of a template.
func texts(v any) []string {
	var out []string
	switch list := v.(type) {
	case []any:
		for _, one := range list {
			out = append(out, loosely(one))
		}
	case []string:
		return list
	case string:
		return []string{list}
	}
	return out
}

// loosely is a template's value as text, the same for 30, "30" and ["30"].
func loosely(v any) string {
	switch v := v.(type) {
	case nil:
		return ""
	case []any:
		return strings.Join(asSet(texts(v)), "+")
	case float64:
		return strconv.FormatFloat(v, 'f', -1, 64)
	}
	return fmt.Sprint(v)
}
