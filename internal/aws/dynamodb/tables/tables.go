// Package tables makes the tables of package dynamodb in an emulator, for
// tests and demonstrations. On AWS the template makes them, with backups,
// deletion protection and encryption, and no program has the right to.
package tables

import (
	"context"
	"fmt"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
)

// Records, Assignments, Ledger and Leases return the table under a name: a
// partition key pk and a sort key sk, both strings.
func Records(name string) *sdk.CreateTableInput     { return plain(name) }
func Assignments(name string) *sdk.CreateTableInput { return plain(name) }
func Ledger(name string) *sdk.CreateTableInput      { return plain(name) }
func Leases(name string) *sdk.CreateTableInput      { return plain(name) }

// Events returns the table of events: in addition the local secondary index
// by-time, by pk and at, that holds whole items.
func Events(name string) *sdk.CreateTableInput {
	in := plain(name)
	in.AttributeDefinitions = append(in.AttributeDefinitions, text("at"))
	in.LocalSecondaryIndexes = []types.LocalSecondaryIndex{{
		IndexName:  aws.String("by-time"),
		KeySchema:  schema("pk", "at"),
		Projection: &types.Projection{ProjectionType: types.ProjectionTypeAll},
	}}
	return in
}

func plain(name string) *sdk.CreateTableInput {
	return &sdk.CreateTableInput{
		TableName:            &name,
		BillingMode:          types.BillingModePayPerRequest,
		AttributeDefinitions: []types.AttributeDefinition{text("pk"), text("sk")},
		KeySchema:            schema("pk", "sk"),
	}
}

func text(name string) types.AttributeDefinition {
	return types.AttributeDefinition{AttributeName: &name, AttributeType: types.ScalarAttributeTypeS}
}

func schema(hash, sort string) []types.KeySchemaElement {
	return []types.KeySchemaElement{{AttributeName: &hash, KeyType: types.KeyTypeHash}, {AttributeName: &sort, KeyType: types.KeyTypeRange}}
}

// Create makes the tables and waits until they can be used.
func Create(ctx context.Context, client *sdk.Client, tables ...*sdk.CreateTableInput) error {
	for _, in := range tables {
		if _, err := client.CreateTable(ctx, in); err != nil {
			return fmt.Errorf("couldn't create table %q: %w", *in.TableName, err)
		}
		waiter := sdk.NewTableExistsWaiter(client, func(o *sdk.TableExistsWaiterOptions) { o.MinDelay, o.MaxDelay = 50*time.Millisecond, time.Second })
		if err := waiter.Wait(ctx, &sdk.DescribeTableInput{TableName: in.TableName}, time.Minute); err != nil {
			return fmt.Errorf("couldn't create table %q: %w", *in.TableName, err)
		}
	}
	return nil
}
