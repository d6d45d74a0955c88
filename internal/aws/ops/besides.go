package ops

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"
)

// reference is what a function's configuration is held to: by the template
// where its stack is known, and in any case by what no template ever says
// otherwise.
type reference struct {
	function   string         // its name
	role       string         // ARN
	properties map[string]any // of the template's function, resolved for the stack; nil: not known
}

// besides judges what stands beside a function's code and decides what runs, or
// who sees it: code signing covers none of that. It is the one judgment of both
// the doctor and the releases. wrong is what is not as it should be; unjudged is
// what nothing says how it should be, as it is.
func besides(f types.FunctionConfiguration, want reference) (wrong, unjudged []string) {
	add := func(ok bool, format string, args ...any) {
		if !ok {
			wrong = append(wrong, fmt.Sprintf(format, args...))
		}
	}
	if env := f.Environment; env != nil && (len(env.Variables) > 0 || env.Error != nil) {
		// Names only: a value may be somebody's secret.
		add(false, "has environment variables: %s", strings.Join(sortedKeys(env.Variables), ", "))
	}
	for _, layer := range f.Layers {
		add(false, "has the layer %s", aws.ToString(layer.Arn))
	}
	for _, m := range f.FileSystemConfigs {
		add(false, "mounts %s at %s", aws.ToString(m.Arn), aws.ToString(m.LocalMountPath))
	}
	add(f.CapacityProviderConfig == nil, "runs on instances of this account (a capacity provider), where memory can be read")
	add(f.DurableConfig == nil, "is a durable function: what a run did is kept")
	add(f.TenancyConfig == nil, "is shared out by tenants")
	add(f.DeadLetterConfig == nil || aws.ToString(f.DeadLetterConfig.TargetArn) == "", "sends failed events elsewhere")
	add(f.SnapStart == nil || f.SnapStart.ApplyOn == "" || f.SnapStart.ApplyOn == types.SnapStartApplyOnNone, "keeps snapshots of its memory (SnapStart)")
	add(f.PackageType == types.PackageTypeZip, "is a %s, which code signing does not cover", f.PackageType)
	add(f.ImageConfigResponse == nil, "is started as an image's configuration says")
	add(aws.ToString(f.Role) == want.role, "runs as %s, not as %s", aws.ToString(f.Role), want.role)
	add(f.Runtime == types.RuntimeProvidedal2023, "has the runtime %q, not provided.al2023", f.Runtime)
	add(aws.ToString(f.Handler) == "bootstrap", "has the handler %q, not bootstrap", aws.ToString(f.Handler))
	add(len(f.Architectures) == 1, "has %d architectures", len(f.Architectures))
	add(aws.ToString(f.KMSKeyArn) == "", "uses the KMS key %s for what it has no use for: whoever rules that key can stop it", aws.ToString(f.KMSKeyArn))

	// What the template leaves to Lambda, or says in one way only.
	tracing := types.TracingModePassThrough
	if f.TracingConfig != nil && f.TracingConfig.Mode != "" {
		tracing = f.TracingConfig.Mode
	}
	add(tracing == types.TracingModePassThrough, "is traced (%s): when it ran and whom it called is kept elsewhere", tracing)
	disk, asked := "512", "512"
	if f.EphemeralStorage != nil {
		disk = number(f.EphemeralStorage.Size)
	}
	if size := at(want.properties, "EphemeralStorage", "Size"); size != nil {
		asked = loosely(size)
	}
	add(disk == asked, "has %s MB of storage, not %s", disk, asked)
	format, group := "Text", "/aws/lambda/"+want.function
	wantFormat, wantGroup := format, group
	if l := f.LoggingConfig; l != nil {
		format, group = string(l.LogFormat), aws.ToString(l.LogGroup)
	}
	if v := loosely(at(want.properties, "LoggingConfig", "LogFormat")); v != "" {
		wantFormat = v
	}
	if v := loosely(at(want.properties, "LoggingConfig", "LogGroup")); v != "" {
		wantGroup = v
	}
	add(format == wantFormat, "logs as %s, not %s", format, wantFormat)
	add(group == wantGroup, "logs to %q, not %q", group, wantGroup)

	vpc := ""
	if v := f.VpcConfig; v != nil {
		vpc = strings.Join(slices.Concat(asSet(v.SubnetIds), asSet(v.SecurityGroupIds)), " ")
	}
	if want.properties == nil {
		if vpc != "" {
			unjudged = append(unjudged, fmt.Sprintf("is in a network of this account (%s), and no template says whether it should be", vpc))
		}
		return wrong, append(unjudged, fmt.Sprintf("has MemorySize %s and Timeout %s, and no template says what they should be", number(f.MemorySize), number(f.Timeout)))
	}
	var expected []string
	if v, ok := want.properties["VpcConfig"].(map[string]any); ok {
		expected = slices.Concat(asSet(texts(v["SubnetIds"])), asSet(texts(v["SecurityGroupIds"])))
	}
	add(vpc == strings.Join(expected, " "), "is in the network %q, by the template in %q", vpc, strings.Join(expected, " "))
	for _, p := range []struct {
		name string
		live any
	}{{"Timeout", number(f.Timeout)}, {"MemorySize", number(f.MemorySize)}, {"Architectures", architectures(f.Architectures)}} {
		if asked, ok := want.properties[p.name]; ok {
			add(loosely(asked) == loosely(p.live), "has %s %s, by the template %s", p.name, loosely(p.live), loosely(asked))
		} else {
			unjudged = append(unjudged, fmt.Sprintf("has %s %s, and the template does not say what it should be", p.name, loosely(p.live)))
		}
	}
	return wrong, unjudged
}

// configurationOf is the answer to GetFunctionConfiguration as GetFunction and
// ListVersionsByFunction give it.
func configurationOf(f *lambda.GetFunctionConfigurationOutput) types.FunctionConfiguration {
	return types.FunctionConfiguration{Architectures: f.Architectures, CapacityProviderConfig: f.CapacityProviderConfig, DeadLetterConfig: f.DeadLetterConfig,
		DurableConfig: f.DurableConfig, Environment: f.Environment, EphemeralStorage: f.EphemeralStorage, FileSystemConfigs: f.FileSystemConfigs,
		Handler: f.Handler, ImageConfigResponse: f.ImageConfigResponse, KMSKeyArn: f.KMSKeyArn, Layers: f.Layers, LoggingConfig: f.LoggingConfig,
		MemorySize: f.MemorySize, PackageType: f.PackageType, Role: f.Role, Runtime: f.Runtime, SnapStart: f.SnapStart, TenancyConfig: f.TenancyConfig,
		Timeout: f.Timeout, TracingConfig: f.TracingConfig, Version: f.Version, VpcConfig: f.VpcConfig}
}

// FunctionProperties is what the templates say of an installation's function,
// resolved with its stack's parameters and, where it is in a network, with the
// ids that the network's stack states. Whoever may update the stacks writes
// both, and the doctor names the parameters. nil where the stack is not there,
// or is none of this program's template: then nothing is compared, and why says
// so.
func (a *Account) FunctionProperties(ctx context.Context, name string) (properties map[string]any, why string, err error) {
	client := cloudformation.NewFromConfig(a.Config(""))
	stack, err := settledStack(ctx, client, a.Place, FunctionStack(name))
	if errors.Is(err, ErrNoStack) {
		return nil, "there is no stack " + FunctionStack(name), nil
	}
	if err != nil {
		return nil, "", err
	}
	d := Deployed{Name: name, Account: a.Account, Region: a.Region, Parameters: map[string]map[string]string{"function": {}}, Physical: map[string]map[string]string{"function": {}}}
	for _, p := range stack.Parameters {
		d.Parameters["function"][aws.ToString(p.ParameterKey)] = aws.ToString(p.ParameterValue)
	}
	network := d.Parameters["function"]["Network"] == "on"
	if network {
		d.Parameters["network"] = map[string]string{"Name": name}
	}
	resources, err := Templates{}.Resolve(d)
	if err != nil {
		return nil, "this program's templates do not fit the stack " + FunctionStack(name) + ": " + line(err.Error(), 200), nil
	}
	for _, r := range resources {
		if r.Type == "AWS::Lambda::Function" {
			properties = r.Properties
		}
	}
	if network && properties != nil {
		outputs, err := a.Outputs(ctx, name+"-network")
		if err != nil {
			return nil, "", err
		}
		properties["VpcConfig"] = map[string]any{"SubnetIds": strings.Split(outputs["SubnetIds"], ","), "SecurityGroupIds": []string{outputs["SecurityGroupId"]}}
	}
	return properties, "", nil
}
