package awsstory

import (
	"context"
	"fmt"
	"maps"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/stakeseal/stakeseal/eth"
	"github.com/stakeseal/stakeseal/internal/aws/awstest/world"
	"github.com/stakeseal/stakeseal/internal/aws/dynamodb"
	"github.com/stakeseal/stakeseal/internal/aws/session"
	"github.com/stakeseal/stakeseal/record"
)

type item = map[string]types.AttributeValue

// TestOverwritten (G4): the generator's own role, in other hands, replaces a
// row of the table, checksums and all, which no policy of AWS can keep it from.
// Every command that goes on from the row notices, and what nobody replaced
// still serves.
func TestOverwritten(t *testing.T) {
	s := released(t, nil)
	ctx := context.Background()
	s.generate("first", 2)
	s.generate("other", 1)
	s.ok("administrator", "assign", "--to", "signer-a", "--order", "first")
	cfg := session.New(world.Region, s.Credentials("generator"), session.Options{})
	client := sdk.NewFromConfig(cfg)
	table := s.output("RecordsTableArn")
	tables, err := dynamodb.Beside(table)
	if err != nil {
		t.Fatal(err)
	}
	store, err := dynamodb.New(client, tables)
	if err != nil {
		t.Fatal(err)
	}
	get := func(order string, index int) item {
		t.Helper()
		got, err := client.GetItem(ctx, &sdk.GetItemInput{TableName: &table, ConsistentRead: aws.Bool(true), Key: item{
			"pk": &types.AttributeValueMemberS{Value: "order/" + order}, "sk": &types.AttributeValueMemberS{Value: fmt.Sprintf("birth/%010d", index)}}})
		if err != nil || got.Item == nil {
			t.Fatalf("index %d of order %s: %v", index, order, err)
		}
		return got.Item
	}
	put := func(it item) {
		t.Helper()
		if _, err := client.PutItem(ctx, &sdk.PutItemInput{TableName: &table, Item: it}); err != nil {
			t.Fatalf("the row could not be replaced, so nothing is shown: %v", err)
		}
	}
	births := map[int]record.Birth{}
	for i, v := range s.validators("first") {
		pubkey, err := eth.ParsePubkey(v.Pubkey)
		if err != nil {
			t.Fatal(err)
		}
		if births[i], err = store.Birth(ctx, pubkey); err != nil {
			t.Fatal(err)
		}
	}
	// sums are the digests beside a row, recomputed for what it now holds.
	sums := func(it item, b record.Birth) {
		t.Helper()
		short, err := record.EncodeValidator(b.Validator)
		if err != nil {
			t.Fatal(err)
		}
		long, err := record.EncodeBirth(b)
		if err != nil {
			t.Fatal(err)
		}
		it["validator"] = &types.AttributeValueMemberS{Value: string(short)}
		for name, data := range map[string][]byte{"validator_sha256": short, "record_sha256": long} {
			d := record.DigestOf(data)
			it[name] = &types.AttributeValueMemberB{Value: d[:]}
		}
	}
	key := births[0].Pubkey.String()
	good := get("first", 0)
	recovery, signing := "awskms:"+s.output("RecoveryKeyArn"), "awskms:"+s.output("SigningKeyArn")
	for what, change := range map[string]func(it item){
		"another's sealing": func(it item) {
			b := births[0]
			b.Sealing = births[1].Sealing
			it["sealing"] = get("first", 1)["sealing"]
			sums(it, b)
		},
		"another's certificate": func(it item) {
			b := births[0]
			b.Certificate = births[1].Certificate
			it["certificate"] = get("first", 1)["certificate"]
			sums(it, b)
		},
		"the attacker's address": func(it item) {
			b := births[0]
			b.Credentials[31] ^= 1
			sums(it, b)
		},
	} {
		bad := maps.Clone(good)
		change(bad)
		put(bad)
		for role, args := range map[string][][]string{
			"auditor":   {{"show", key}, {"list"}, {"list", "--order", "first"}, {"list", key}, {"doctor"}, {"certificate", "export", key, "--out", s.path("c-" + what)}},
			"depositor": {{"deposit", "export", "--order", "first", "--out", s.path("d-" + what)}, {"bundle", "export", "--order", "first", "--out", s.path("b-" + what)}},
			"recovery":  {{"recovery", "drill", "--order", "first", "--identity", recovery}},
			"signer":    {{"keystore", "export", "--yes", "--no-history-known", "--signer", "signer-a", "--identity", signing, "--for", "web3signer", "--order", "first", "--out", s.path("k-" + what)}},
			"requester": {{"generate", "--resume", "first"}},
		} {
			for _, a := range args {
				if r := s.result(s.command(role, s.at(a)...)); r.code != 3 {
					t.Errorf("%s: %s %s does not notice: exit %d\n%.600s\n%.600s", what, role, a[:2], r.code, r.stdout, r.stderr)
				}
			}
		}
		s.ok("depositor", "deposit", "export", "--yes", "--again", "--order", "other", "--out", s.path("other-"+what))
		put(good)
		s.ok("auditor", "show", key)
		s.ok("auditor", "list")
	}
	s.ok("depositor", "deposit", "export", "--order", "first", "--out", s.path("undone"))
}
