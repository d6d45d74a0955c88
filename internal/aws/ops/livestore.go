package ops

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	tabletypes "github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
)

// What is asked of DynamoDB and S3 about tables and buckets.
type (
	tableAPI interface {
		DescribeTable(context.Context, *dynamodb.DescribeTableInput, ...func(*dynamodb.Options)) (*dynamodb.DescribeTableOutput, error)
		DescribeContinuousBackups(context.Context, *dynamodb.DescribeContinuousBackupsInput, ...func(*dynamodb.Options)) (*dynamodb.DescribeContinuousBackupsOutput, error)
		DescribeTimeToLive(context.Context, *dynamodb.DescribeTimeToLiveInput, ...func(*dynamodb.Options)) (*dynamodb.DescribeTimeToLiveOutput, error)
	}
	tableDoorAPI interface {
		DescribeKinesisStreamingDestination(context.Context, *dynamodb.DescribeKinesisStreamingDestinationInput, ...func(*dynamodb.Options)) (*dynamodb.DescribeKinesisStreamingDestinationOutput, error)
		GetResourcePolicy(context.Context, *dynamodb.GetResourcePolicyInput, ...func(*dynamodb.Options)) (*dynamodb.GetResourcePolicyOutput, error)
	}
	bucketAPI interface {
		GetBucketVersioning(context.Context, *s3.GetBucketVersioningInput, ...func(*s3.Options)) (*s3.GetBucketVersioningOutput, error)
		GetObjectLockConfiguration(context.Context, *s3.GetObjectLockConfigurationInput, ...func(*s3.Options)) (*s3.GetObjectLockConfigurationOutput, error)
		GetBucketReplication(context.Context, *s3.GetBucketReplicationInput, ...func(*s3.Options)) (*s3.GetBucketReplicationOutput, error)
	}
	bucketPolicyAPI interface {
		GetBucketPolicy(context.Context, *s3.GetBucketPolicyInput, ...func(*s3.Options)) (*s3.GetBucketPolicyOutput, error)
		GetPublicAccessBlock(context.Context, *s3.GetPublicAccessBlockInput, ...func(*s3.Options)) (*s3.GetPublicAccessBlockOutput, error)
	}
	bucketRuleAPI interface {
		GetBucketOwnershipControls(context.Context, *s3.GetBucketOwnershipControlsInput, ...func(*s3.Options)) (*s3.GetBucketOwnershipControlsOutput, error)
		GetBucketLifecycleConfiguration(context.Context, *s3.GetBucketLifecycleConfigurationInput, ...func(*s3.Options)) (*s3.GetBucketLifecycleConfigurationOutput, error)
	}
)

const (
	hintTable  = "put the template's setting back (administrator), and find the change in the trail"
	hintBucket = hintTable
)

func (e *examination) lookAtTables(ctx context.Context) {
	for _, t := range []struct{ name, arn, gains string }{
		{"records", e.Tables.Records, "can hide or lose orders and births; the archive and certificates have what they were"},
		{"assignments", e.Tables.Assignments, "can move or forget assignments: a key could sign in two places"},
		{"events", e.Tables.Events, "can make exports, openings and drills forgotten; the trail has them"},
		{"ledger", e.Tables.Ledger, "can make what was signed forgotten: a validator could be slashed"},
		{"leases", e.Tables.Leases, "can hide that the ledger was put back to an earlier time, or stop signers"},
	} {
		if t.arn != "" {
			e.lookAtTable(ctx, t.name, t.arn, t.gains)
		}
	}
}

func (e *examination) lookAtTable(ctx context.Context, name, arn, gains string) {
	c := e.check("table "+name, gains, hintTable)
	out, err := e.DynamoDB.DescribeTable(ctx, &dynamodb.DescribeTableInput{TableName: &arn})
	if absent(err, "ResourceNotFoundException") {
		c.add(Changed, "it does not exist any more")
		return
	}
	if c.seen("dynamodb:DescribeTable", err) {
		t := out.Table
		if t == nil {
			t = &tabletypes.TableDescription{}
		}
		c.want(t.TableStatus == tabletypes.TableStatusActive, "it is %s", t.TableStatus)
		c.want(aws.ToBool(t.DeletionProtectionEnabled), "deletion protection is off")
		c.want(t.BillingModeSummary != nil && t.BillingModeSummary.BillingMode == tabletypes.BillingModePayPerRequest, "it is not on demand: writes can be throttled away")
		c.want(tableKeys(t) == wantedKeys(name), "its keys and indexes are %q, not %q", tableKeys(t), wantedKeys(name))
		c.want(t.StreamSpecification == nil || !aws.ToBool(t.StreamSpecification.StreamEnabled), "its changes are streamed (%s)", aws.ToString(t.LatestStreamArn))
		for _, r := range t.Replicas {
			c.add(Changed, "it is replicated to %s, where other policies guard it", aws.ToString(r.RegionName))
		}
		if r := t.RestoreSummary; r != nil {
			c.add(Changed, "it was restored from a backup of %s: what was written since is not in it", when(r.RestoreDateTime))
		}
		if s := t.SSEDescription; s != nil && s.KMSMasterKeyArn != nil {
			if _, known := e.stacks.one("AWS::DynamoDB::Table", tableName(arn)); !known {
				c.add(Warning, "it is encrypted with %s: whoever holds that key's policy can make it unreadable", *s.KMSMasterKeyArn)
			}
		}
	}
	backups, err := e.DynamoDB.DescribeContinuousBackups(ctx, &dynamodb.DescribeContinuousBackupsInput{TableName: &arn})
	if c.seen("dynamodb:DescribeContinuousBackups", err) {
		d := backups.ContinuousBackupsDescription
		c.want(d != nil && d.PointInTimeRecoveryDescription != nil && d.PointInTimeRecoveryDescription.PointInTimeRecoveryStatus == tabletypes.PointInTimeRecoveryStatusEnabled, "point-in-time recovery is off")
	}
	ttl, err := e.DynamoDB.DescribeTimeToLive(ctx, &dynamodb.DescribeTimeToLiveInput{TableName: &arn})
	if c.seen("dynamodb:DescribeTimeToLive", err) {
		d := ttl.TimeToLiveDescription
		c.want(d == nil || d.TimeToLiveStatus == "" || d.TimeToLiveStatus == tabletypes.TimeToLiveStatusDisabled, "items are deleted by their attribute %q", attribute(d))
	}
	kinesis, err := e.DynamoDB.DescribeKinesisStreamingDestination(ctx, &dynamodb.DescribeKinesisStreamingDestinationInput{TableName: &arn})
	if c.seen("dynamodb:DescribeKinesisStreamingDestination", err) {
		for _, d := range kinesis.KinesisDataStreamDestinations {
			if d.DestinationStatus != tabletypes.DestinationStatusDisabled {
				c.add(Changed, "its changes are streamed to %s", aws.ToString(d.StreamArn))
			}
		}
	}
	policy, err := e.DynamoDB.GetResourcePolicy(ctx, &dynamodb.GetResourcePolicyInput{ResourceArn: &arn})
	if absent(err, "PolicyNotFoundException") {
		want, known := e.stacks.one("AWS::DynamoDB::Table", tableName(arn))
		if !known {
			c.add(Warning, "it has no resource policy; this release's templates give it one, which denies everybody what changes or deletes items")
		}
		c.want(want.Properties["ResourcePolicy"] == nil, "its resource policy, which denies everybody what changes or deletes items, is gone")
	} else if c.seen("dynamodb:GetResourcePolicy", err) {
		e.lookAtTablePolicy(c, arn, aws.ToString(policy.Policy))
	}
	c.ok("protected from deletion, recoverable to any second, on demand, nothing streams or copies it")
}

// lookAtTablePolicy: a table's own policy can give rights that no role's
// policy shows; what it denies is welcome.
func (e *examination) lookAtTablePolicy(c *check, arn, text string) {
	policy, err := parsePolicy(text)
	if err != nil {
		c.add(Changed, "its resource policy is %v: look at it by hand", err)
		return
	}
	if want, known := e.stacks.one("AWS::DynamoDB::Table", tableName(arn)); known {
		if p, ok := want.Properties["ResourcePolicy"].(map[string]any); ok {
			e.compareDocument(c, policy, p["PolicyDocument"])
			return
		}
	}
	for i, s := range policy.statements {
		if s.allow {
			c.add(Changed, "its resource policy has %s", s.describe(i))
		}
	}
}

func attribute(d *tabletypes.TimeToLiveDescription) string {
	if d == nil {
		return ""
	}
	return aws.ToString(d.AttributeName)
}

func tableName(arn string) string {
	_, name, _ := strings.Cut(arn, ":table/")
	return name
}

// tableKeys shows keys and indexes in one line.
func tableKeys(t *tabletypes.TableDescription) string {
	keys := func(list []tabletypes.KeySchemaElement) string {
		var out []string
		for _, k := range list {
			out = append(out, aws.ToString(k.AttributeName))
		}
		return strings.Join(out, ",")
	}
	text := keys(t.KeySchema)
	for _, i := range t.LocalSecondaryIndexes {
		text += " " + aws.ToString(i.IndexName) + ":" + keys(i.KeySchema)
	}
	for _, i := range t.GlobalSecondaryIndexes {
		text += " global " + aws.ToString(i.IndexName) + ":" + keys(i.KeySchema)
	}
	return text
}

func wantedKeys(name string) string {
	if name == "events" {
		return "pk,sk by-time:pk,at"
	}
	return "pk,sk"
}

func (e *examination) lookAtBuckets(ctx context.Context) {
	e.lookAtBucket(ctx, "archive", e.Archive, "can replace or delete the copies that a changed record stands against", true)
	e.lookAtBucket(ctx, "packages", e.Packages, "can replace a package between its review and its signature; the statements about it name its digest", false)
	if e.hasTrail() {
		e.lookAtBucket(ctx, "trail", e.Trail, "can remove what shows who did it", false)
	}
}

func (e *examination) lookAtBucket(ctx context.Context, name, bucket, gains string, archive bool) {
	c := e.check("bucket "+name, gains, hintBucket)
	owner := &e.Account // a bucket of the name that another account made is refused
	want, known := e.stacks.one("AWS::S3::Bucket", bucket)
	versioning, err := e.S3.GetBucketVersioning(ctx, &s3.GetBucketVersioningInput{Bucket: &bucket, ExpectedBucketOwner: owner})
	if absent(err, "NoSuchBucket") {
		c.add(Changed, "it does not exist any more")
		return
	}
	if c.seen("s3:GetBucketVersioning", err) && (archive || name == "packages" || known && want.Properties["VersioningConfiguration"] != nil) {
		c.want(versioning.Status == types.BucketVersioningStatusEnabled, "versioning is %q: what is replaced or deleted is gone", versioning.Status)
	}
	if archive || known && (want.Properties["ObjectLockEnabled"] != nil || want.Properties["ObjectLockConfiguration"] != nil) {
		e.lookAtLock(ctx, c, bucket, want)
	}
	block, err := e.S3.GetPublicAccessBlock(ctx, &s3.GetPublicAccessBlockInput{Bucket: &bucket, ExpectedBucketOwner: owner})
	if absent(err, "NoSuchPublicAccessBlockConfiguration") {
		c.add(Changed, "public access is not blocked")
	} else if c.seen("s3:GetBucketPublicAccessBlock", err) {
		b := block.PublicAccessBlockConfiguration
		c.want(b != nil && aws.ToBool(b.BlockPublicAcls) && aws.ToBool(b.BlockPublicPolicy) && aws.ToBool(b.IgnorePublicAcls) && aws.ToBool(b.RestrictPublicBuckets), "public access is not blocked in all four ways")
	}
	ownership, err := e.S3.GetBucketOwnershipControls(ctx, &s3.GetBucketOwnershipControlsInput{Bucket: &bucket, ExpectedBucketOwner: owner})
	if absent(err, "OwnershipControlsNotFoundError") {
		c.add(Changed, "objects belong to whoever puts them, and ACLs count")
	} else if c.seen("s3:GetBucketOwnershipControls", err) {
		c.want(ownership.OwnershipControls != nil && slices.ContainsFunc(ownership.OwnershipControls.Rules, func(r types.OwnershipControlsRule) bool {
			return r.ObjectOwnership == types.ObjectOwnershipBucketOwnerEnforced
		}), "objects belong to whoever puts them, and ACLs count")
	}
	replication, err := e.S3.GetBucketReplication(ctx, &s3.GetBucketReplicationInput{Bucket: &bucket, ExpectedBucketOwner: owner})
	if !absent(err, "ReplicationConfigurationNotFoundError") && c.seen("s3:GetReplicationConfiguration", err) && want.Properties["ReplicationConfiguration"] == nil {
		for _, r := range replication.ReplicationConfiguration.Rules {
			if r.Destination != nil {
				c.add(Changed, "it is replicated to %s", aws.ToString(r.Destination.Bucket))
			}
		}
	}
	e.lookAtLifecycle(ctx, c, bucket, want)
	e.lookAtBucketPolicy(ctx, c, name, bucket)
	c.ok("versions kept, no public access, its own account's objects, TLS only%s", map[bool]string{true: "; nothing is put over anything, and object lock keeps it", false: ""}[archive])
}

// lookAtLock judges object lock: without a default retention nothing is
// locked.
func (e *examination) lookAtLock(ctx context.Context, c *check, bucket string, want Resource) {
	lock, err := e.S3.GetObjectLockConfiguration(ctx, &s3.GetObjectLockConfigurationInput{Bucket: &bucket, ExpectedBucketOwner: &e.Account})
	if absent(err, "ObjectLockConfigurationNotFoundError") {
		c.add(Changed, "object lock is off")
		return
	}
	if !c.seen("s3:GetBucketObjectLockConfiguration", err) {
		return
	}
	l := lock.ObjectLockConfiguration
	if l == nil || l.ObjectLockEnabled != types.ObjectLockEnabledEnabled {
		c.add(Changed, "object lock is off")
		return
	}
	if l.Rule == nil || l.Rule.DefaultRetention == nil {
		c.add(Changed, "object lock has no default retention: new objects are not locked")
		return
	}
	r := l.Rule.DefaultRetention
	live := fmt.Sprintf("%s %s", r.Mode, days(r.Days, r.Years))
	asked := lockOf(want)
	c.want(asked == "" || asked == live, "object lock keeps for %s, by the template for %s", live, asked)
}

func days(days, years *int32) string {
	if years != nil {
		return fmt.Sprintf("%d years", *years)
	}
	return fmt.Sprintf("%d days", aws.ToInt32(days))
}

// lockOf is the retention of a template's bucket, "" for none.
func lockOf(want Resource) string {
	r := at(want.Properties, "ObjectLockConfiguration", "Rule", "DefaultRetention")
	if r == nil {
		return ""
	}
	if y := at(r, "Years"); y != nil {
		return fmt.Sprintf("%s %s years", loosely(at(r, "Mode")), loosely(y))
	}
	return fmt.Sprintf("%s %s days", loosely(at(r, "Mode")), loosely(at(r, "Days")))
}

// lookAtLifecycle: a rule that ends current objects deletes without anybody
// who could be asked. What ends half-made uploads or old versions of the
// template's own buckets is known.
func (e *examination) lookAtLifecycle(ctx context.Context, c *check, bucket string, want Resource) {
	out, err := e.S3.GetBucketLifecycleConfiguration(ctx, &s3.GetBucketLifecycleConfigurationInput{Bucket: &bucket, ExpectedBucketOwner: &e.Account})
	if absent(err, "NoSuchLifecycleConfiguration") || !c.seen("s3:GetLifecycleConfiguration", err) {
		return
	}
	known := map[string]string{} // id: days
	if m, ok := want.Properties["LifecycleConfiguration"].(map[string]any); ok {
		list, _ := m["Rules"].([]any)
		for _, r := range list {
			if m, ok := r.(map[string]any); ok {
				known[loosely(m["Id"])] = loosely(m["ExpirationInDays"])
			}
		}
	}
	for _, r := range out.Rules {
		if r.Status != types.ExpirationStatusEnabled {
			continue
		}
		asked, ours := known[aws.ToString(r.ID)]
		switch {
		case ours:
			live := ""
			if r.Expiration != nil {
				live = number(r.Expiration.Days)
			}
			c.want(live == asked, "the lifecycle rule %q deletes objects after %q days, by the template %q", aws.ToString(r.ID), live, asked)
		case r.Expiration != nil:
			c.add(Changed, "the lifecycle rule %q deletes objects", aws.ToString(r.ID))
		case r.NoncurrentVersionExpiration != nil:
			c.add(Changed, "the lifecycle rule %q deletes replaced and deleted versions", aws.ToString(r.ID))
		case len(r.Transitions)+len(r.NoncurrentVersionTransitions) > 0:
			c.add(Warning, "the lifecycle rule %q moves objects to other storage", aws.ToString(r.ID))
		}
	}
}

// lookAtBucketPolicy wants TLS of all, and of the archive that nothing is put
// without If-None-Match: no other setting of S3 refuses an overwrite.
func (e *examination) lookAtBucketPolicy(ctx context.Context, c *check, name, bucket string) {
	out, err := e.S3.GetBucketPolicy(ctx, &s3.GetBucketPolicyInput{Bucket: &bucket, ExpectedBucketOwner: &e.Account})
	text := ""
	if err == nil {
		text = aws.ToString(out.Policy)
	}
	if absent(err, "NoSuchBucketPolicy") {
		text = `{"Version":"2012-10-17","Statement":[]}`
	} else if !c.seen("s3:GetBucketPolicy", err) {
		return
	}
	policy, err := parsePolicy(text)
	if err != nil {
		c.add(Changed, "its policy is %v: look at it by hand", err)
		return
	}
	if want, known := e.stacks.one("AWS::S3::BucketPolicy", bucket); known {
		e.compareDocument(c, policy, want.Properties["PolicyDocument"])
	} else if name != "trail" {
		for i, s := range policy.statements {
			if s.allow {
				c.add(Changed, "its policy has %s", s.describe(i))
			}
		}
	}
	object := e.resource("s3", bucket+"/any/object")
	denies := func(action, operator, key, value string) bool {
		return slices.ContainsFunc(policy.statements, func(s policyStatement) bool {
			return !s.allow && s.about(action) && s.certainlyOn(object) && s.isFor("anybody") && len(s.conditions) == 1 &&
				strings.EqualFold(s.conditions[0].operator, operator) && strings.EqualFold(s.conditions[0].key, key) && slices.Equal(s.conditions[0].values, []string{value})
		})
	}
	c.want(denies("s3:GetObject", "Bool", "aws:SecureTransport", "false"), "its policy does not refuse calls without TLS")
	if name == "archive" {
		c.want(denies("s3:PutObject", "Null", "s3:if-none-match", "true"), "its policy does not refuse a PutObject without If-None-Match: objects can be put over others")
	}
}

func when(t *time.Time) string {
	if t == nil {
		return "an unknown time"
	}
	return t.UTC().Format(time.RFC3339)
}

// join shows a list of an SDK's words.
func join[T ~string](list []T) string {
	var out []string
	for _, s := range list {
		out = append(out, string(s))
	}
	return strings.Join(out, ", ")
}
