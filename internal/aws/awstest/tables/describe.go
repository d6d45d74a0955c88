package tables

import (
	"context"

	"github.com/stakeseal/stakeseal/internal/aws/awstest/call"
)

// about reads a request that names a table and nothing else, and answers with
// what f says of it.
func (s *Store) about(r call.Request, c *call.Call, f func(*table) (any, *call.Failure)) *call.Failure {
	var in struct{ TableName string }
	if err := call.Strict(r.Body, &in); err != nil {
		return call.Refuse("SerializationException", "%v", err)
	}
	t, failure := s.table(r, c, in.TableName, nil)
	if t == nil || failure != nil {
		return failure
	}
	s.do(c, func() (any, int, *call.Failure) {
		out, failure := f(t)
		return out, 0, failure
	})
	return nil
}

func (s *Store) describeTable(r call.Request, c *call.Call) *call.Failure {
	return s.about(r, c, func(t *table) (any, *call.Failure) {
		schema := func(sort string) []map[string]any {
			out := []map[string]any{{"AttributeName": t.Hash, "KeyType": "HASH"}}
			if sort != "" {
				out = append(out, map[string]any{"AttributeName": sort, "KeyType": "RANGE"})
			}
			return out
		}
		attributes := []map[string]any{}
		for _, name := range t.keyNames() {
			attributes = append(attributes, map[string]any{"AttributeName": name, "AttributeType": "S"})
		}
		about := map[string]any{
			"TableName": t.name(), "TableArn": t.ARN, "TableStatus": "ACTIVE", "KeySchema": schema(t.Range),
			"BillingModeSummary": map[string]any{"BillingMode": "PAY_PER_REQUEST"}, "ItemCount": t.count, "TableSizeBytes": t.bytes,
			"DeletionProtectionEnabled": t.DeletionProtection,
		}
		indexes := []map[string]any{}
		for name, sort := range t.Indexes {
			attributes = append(attributes, map[string]any{"AttributeName": sort, "AttributeType": "S"})
			indexes = append(indexes, map[string]any{
				"IndexName": name, "IndexArn": t.ARN + "/index/" + name, "KeySchema": schema(sort), "Projection": map[string]any{"ProjectionType": "ALL"},
			})
		}
		if len(indexes) > 0 {
			about["LocalSecondaryIndexes"] = indexes
		}
		about["AttributeDefinitions"] = attributes
		return map[string]any{"Table": about}, nil
	})
}

func (s *Store) describeBackups(r call.Request, c *call.Call) *call.Failure {
	return s.about(r, c, func(t *table) (any, *call.Failure) {
		recovery := map[string]any{"PointInTimeRecoveryStatus": "DISABLED"}
		if t.Backups {
			recovery = map[string]any{"PointInTimeRecoveryStatus": "ENABLED", "RecoveryPeriodInDays": t.BackupDays}
		}
		return map[string]any{"ContinuousBackupsDescription": map[string]any{
			"ContinuousBackupsStatus": "ENABLED", "PointInTimeRecoveryDescription": recovery,
		}}, nil
	})
}

func (s *Store) describeTTL(r call.Request, c *call.Call) *call.Failure {
	return s.about(r, c, func(*table) (any, *call.Failure) {
		return map[string]any{"TimeToLiveDescription": map[string]any{"TimeToLiveStatus": "DISABLED"}}, nil
	})
}

func (s *Store) describeKinesis(r call.Request, c *call.Call) *call.Failure {
	return s.about(r, c, func(t *table) (any, *call.Failure) {
		return map[string]any{"TableName": t.name(), "KinesisDataStreamDestinations": []string{}}, nil
	})
}

func (s *Store) getPolicy(r call.Request, c *call.Call) *call.Failure {
	var in struct{ ResourceArn string }
	if err := call.Strict(r.Body, &in); err != nil {
		return call.Refuse("SerializationException", "%v", err)
	}
	t, failure := s.table(r, c, in.ResourceArn, nil)
	if t == nil || failure != nil {
		return failure
	}
	c.Do = func(context.Context) (*call.Answer, *call.Failure) {
		if t.Policy == "" {
			return nil, call.Refuse("PolicyNotFoundException", "Resource-based policy not found for the provided ResourceArn: %s", in.ResourceArn)
		}
		return call.JSON(map[string]any{"Policy": t.Policy, "RevisionId": "1"})
	}
	return nil
}
