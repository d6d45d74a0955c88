package ops

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation/types"
	"github.com/aws/smithy-go"

	"github.com/stakeseal/stakeseal/internal/aws/arn"
	"github.com/stakeseal/stakeseal/internal/aws/dynamodb"
	"github.com/stakeseal/stakeseal/internal/aws/session"
)

// Errors of reading a stack.
var (
	// ErrNoStack: there is no stack of that name in the region and account.
	ErrNoStack = errors.New("no such stack")
	// ErrStack: a stack that is not one of stakeseal's, or is in the middle of
	// a change, or whose outputs are not what its template gives.
	ErrStack = errors.New("not a stack to use")
)

var (
	nameShape  = regexp.MustCompile(`^[a-z][a-z0-9-]{1,18}[a-z0-9]$`)
	stackShape = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9-]{0,127}$`)
)

// settled are the states of a stack that nothing is changing.
var settled = []types.StackStatus{
	types.StackStatusCreateComplete, types.StackStatusUpdateComplete, types.StackStatusUpdateRollbackComplete,
	types.StackStatusImportComplete, types.StackStatusImportRollbackComplete,
	types.StackStatusUpdateCompleteCleanupInProgress, types.StackStatusUpdateRollbackCompleteCleanupInProgress,
}

// describer is what Outputs needs of CloudFormation.
type describer interface {
	DescribeStacks(context.Context, *cloudformation.DescribeStacksInput, ...func(*cloudformation.Options)) (*cloudformation.DescribeStacksOutput, error)
}

// Outputs returns what a stack of the place says of what it made. Whoever may
// update the stack writes them.
func (a *Account) Outputs(ctx context.Context, stack string) (map[string]string, error) {
	return outputs(ctx, cloudformation.NewFromConfig(a.Config("")), a.Place, stack)
}

func outputs(ctx context.Context, client describer, at Place, stack string) (map[string]string, error) {
	s, err := settledStack(ctx, client, at, stack)
	if err != nil {
		return nil, err
	}
	found := map[string]string{}
	for _, o := range s.Outputs {
		key := aws.ToString(o.OutputKey)
		if _, twice := found[key]; twice {
			return nil, session.Malformed("cloudformation:DescribeStacks", "", "output %q is there twice", clip(key))
		}
		found[key] = aws.ToString(o.OutputValue)
	}
	return found, nil
}

// settledStack reads a stack that nothing is changing.
func settledStack(ctx context.Context, client describer, at Place, stack string) (s types.Stack, err error) {
	const operation = "cloudformation:DescribeStacks"
	if !stackShape.MatchString(stack) {
		return s, fmt.Errorf("%w: %q is no name of a stack", ErrStack, clip(stack))
	}
	out, err := client.DescribeStacks(ctx, &cloudformation.DescribeStacksInput{StackName: &stack})
	var api smithy.APIError
	if errors.As(err, &api) && api.ErrorCode() == "ValidationError" && strings.Contains(api.ErrorMessage(), "does not exist") {
		return s, fmt.Errorf("%w: %s in %s of account %s", ErrNoStack, stack, at.Region, at.Account)
	}
	if err != nil {
		return s, session.Classify(operation, err)
	}
	if len(out.Stacks) != 1 || aws.ToString(out.Stacks[0].StackName) != stack {
		return s, session.Malformed(operation, "", "it described %d stacks when asked for %q", len(out.Stacks), stack)
	}
	s = out.Stacks[0]
	id, err := arn.Parse(aws.ToString(s.StackId))
	if err != nil || id.Service != "cloudformation" || PlaceOf(id) != at {
		return s, session.Malformed(operation, "", "the stack's id is %q", clip(aws.ToString(s.StackId)))
	}
	if !slices.Contains(settled, s.StackStatus) {
		return s, fmt.Errorf("%w: %s is %s", ErrStack, stack, line(string(s.StackStatus), 100))
	}
	return s, nil
}

// Installation is what an installation on AWS consists of, by ARNs.
type Installation struct {
	Place
	Name       string
	Records    string // the table that settings name
	Archive    string // bucket
	Packages   string // bucket
	Signing    string // KMS keys
	Recovery   string
	Certifying string
	Alias      string // of the generator, whether it is released yet or not
}

// foundationSuffix ends the name of the stack that holds tables, bucket and keys.
const foundationSuffix = "-foundation"

// NameOf is the installation's name in the name of its foundation stack.
func NameOf(foundation string) (string, error) {
	name, ok := strings.CutSuffix(foundation, foundationSuffix)
	if !ok || !nameShape.MatchString(name) {
		return "", fmt.Errorf("%w: %q is not NAME%s, with a NAME of 3 to 20 of a-z, 0-9 and '-'", ErrStack, clip(foundation), foundationSuffix)
	}
	return name, nil
}

// FunctionStack is the name of an installation's function stack.
func FunctionStack(name string) string { return name + "-function" }

// ReadFoundation reads the outputs of an installation's foundation stack. What
// has a fixed name must have it, in this region and account: a stack whose
// outputs were edited cannot send records or keys elsewhere. The ids of keys are
// random: that they are these keys' is what the review of the settings is for.
func ReadFoundation(at Place, stack string, outputs map[string]string) (Installation, error) {
	name, err := NameOf(stack)
	if err != nil {
		return Installation{}, err
	}
	refuse := func(format string, args ...any) (Installation, error) {
		return Installation{}, fmt.Errorf("%w: %s: %w", ErrStack, stack, fmt.Errorf(format, args...))
	}
	partition := arn.Partition(at.Region)
	resource := func(service, rest string) string {
		return arn.ARN{Partition: partition, Service: service, Region: at.Region, Account: at.Account, Resource: rest}.String()
	}
	bucket := func(what string) string {
		return arn.ARN{Partition: partition, Service: "s3", Resource: name + "-" + what + "-" + at.Account}.String()
	}
	i := Installation{
		Place: at, Name: name,
		Records: resource("dynamodb", "table/"+name+"-records"),
		Archive: bucket("archive"), Packages: bucket("packages"),
		Signing: outputs["SigningKeyArn"], Recovery: outputs["RecoveryKeyArn"], Certifying: outputs["CertifyingKeyArn"],
		Alias: resource("lambda", "function:"+name+"-generator:live"),
	}
	tables, err := dynamodb.Beside(i.Records)
	if err != nil {
		return refuse("%w", err)
	}
	for _, fixed := range []struct{ key, want string }{
		{"Name", name}, {"RecordsTableArn", tables.Records}, {"AssignmentsTableArn", tables.Assignments}, {"EventsTableArn", tables.Events},
		{"LedgerTableArn", tables.Ledger}, {"LeasesTableArn", tables.Leases},
		{"ArchiveBucketArn", i.Archive}, {"PackageBucketArn", i.Packages},
	} {
		got, ok := outputs[fixed.key]
		if !ok {
			return refuse("it has no output %s", fixed.key)
		}
		if got != fixed.want {
			return refuse("its output %s is %q, and %s is expected", fixed.key, clip(got), fixed.want)
		}
	}
	seen := map[string]string{}
	for _, key := range []struct{ key, text string }{{"SigningKeyArn", i.Signing}, {"RecoveryKeyArn", i.Recovery}, {"CertifyingKeyArn", i.Certifying}} {
		if key.text == "" {
			return refuse("it has no output %s", key.key)
		}
		k, err := arn.Key(key.text)
		switch {
		case err != nil:
			return refuse("its output %s: %w", key.key, err)
		case PlaceOf(k) != at:
			return refuse("its output %s is a key in %s of account %s", key.key, k.Region, k.Account)
		case seen[key.text] != "":
			return refuse("its outputs %s and %s are one key", seen[key.text], key.key)
		}
		seen[key.text] = key.key
	}
	for what, text := range map[string]string{"archive": i.Archive, "packages": i.Packages} {
		if _, err := arn.Bucket(text); err != nil {
			return refuse("%s: %w", what, err)
		}
	}
	return i, nil
}

// CheckFunction compares the outputs of an installation's function stack with
// the alias that its name gives.
func (i Installation) CheckFunction(stack string, outputs map[string]string) error {
	for _, fixed := range []struct{ key, want string }{
		{"FunctionAliasArn", i.Alias}, {"FunctionArn", strings.TrimSuffix(i.Alias, ":live")},
	} {
		if got := outputs[fixed.key]; got != fixed.want {
			return fmt.Errorf("%w: %s: its output %s is %q, and %s is expected", ErrStack, stack, fixed.key, clip(got), fixed.want)
		}
	}
	return nil
}
