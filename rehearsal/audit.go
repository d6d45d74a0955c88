package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/aws-sdk-go-v2/service/kms"

	"github.com/stakeseal/stakeseal/eth"
	"github.com/stakeseal/stakeseal/internal/aws/arn"
	"github.com/stakeseal/stakeseal/internal/aws/awskmsopen"
	"github.com/stakeseal/stakeseal/internal/aws/dynamodb"
	"github.com/stakeseal/stakeseal/internal/canary"
	"github.com/stakeseal/stakeseal/record"
	"github.com/stakeseal/stakeseal/seal"
	"github.com/stakeseal/stakeseal/unseal"
)

func (s *story) doctor() error {
	s.Heading("The auditor has the installation examined.")
	r, err := s.Stakeseal(s.as("auditor"), 0, "doctor")
	if err != nil {
		return err
	}
	well := 0
	for line := range strings.Lines(r.Out) {
		if strings.Contains(line, " ok ") {
			well++
		}
	}
	s.Line("%d facts read and as promised", well)
	return nil
}

// store is the records as a role's rights let it see them.
func (s *story) store(role string) (*dynamodb.Store, *sdk.Client, error) {
	client := sdk.NewFromConfig(s.Config(role))
	tables, err := dynamodb.Beside(s.Output("foundation", "RecordsTableArn"))
	if err != nil {
		return nil, nil, err
	}
	store, err := dynamodb.New(client, tables)
	return store, client, err
}

// births are the records of the first order.
func (s *story) births(role string) (list []record.Birth, err error) {
	store, _, err := s.store(role)
	if err != nil {
		return nil, err
	}
	for _, text := range s.keys {
		pubkey, err := eth.ParsePubkey(text)
		if err != nil {
			return nil, err
		}
		b, err := store.Birth(context.Background(), pubkey)
		if err != nil {
			return nil, err
		}
		list = append(list, b)
	}
	return list, nil
}

// overwritten swaps a sealing, with the generator's own role and every
// checksum recomputed: IAM cannot force a condition onto a PutItem.
func (s *story) overwritten() error {
	s.Heading("With the generator's own role, one birth's sealed key is replaced by another's, checksums and all. (G4)")
	ctx := context.Background()
	births, err := s.births("generator")
	if err != nil {
		return err
	}
	_, client, err := s.store("generator")
	if err != nil {
		return err
	}
	table := s.Output("foundation", "RecordsTableArn")
	item := func(b record.Birth) (map[string]types.AttributeValue, error) {
		got, err := client.GetItem(ctx, &sdk.GetItemInput{TableName: &table, ConsistentRead: aws.Bool(true), Key: map[string]types.AttributeValue{
			"pk": &types.AttributeValueMemberS{Value: "order/" + b.Order}, "sk": &types.AttributeValueMemberS{Value: fmt.Sprintf("birth/%010d", b.Index)}}})
		if err != nil {
			return nil, err
		}
		return got.Item, nil
	}
	good, err := item(births[0])
	if err != nil {
		return err
	}
	other, err := item(births[1])
	if err != nil {
		return err
	}
	changed := births[0]
	changed.Sealing = births[1].Sealing
	encoded, err := record.EncodeBirth(changed)
	if err != nil {
		return err
	}
	digest := sha256.Sum256(encoded)
	bad := maps.Clone(good)
	bad["sealing"], bad["record_sha256"] = other["sealing"], &types.AttributeValueMemberB{Value: digest[:]}
	if _, err := client.PutItem(ctx, &sdk.PutItemInput{TableName: &table, Item: bad}); err != nil {
		return fmt.Errorf("the row could not be replaced, so nothing is shown: %w", err)
	}
	for _, see := range []struct {
		what, role string
		args       []string
	}{
		{"show", "auditor", []string{"show", s.keys[0]}},
		{"doctor", "auditor", []string{"doctor"}},
		{"deposit export", "depositor", []string{"deposit", "export", "--again", "--order", "first", "--out", filepath.Join(s.Dir, "deposits")}},
		{"recovery drill", "recovery", []string{"recovery", "drill", "--order", "first", "--identity", "awskms:" + s.Output("foundation", "RecoveryKeyArn")}},
	} {
		r, err := s.Stakeseal(s.as(see.role), 3, see.args...)
		if err != nil {
			return err
		}
		s.Line("%-16s exit code %d: %s", see.what, r.Code, r.Quote())
	}
	// And with none of these in the way: KMS refuses the context.
	opener, err := s.opener("signer")
	if err != nil {
		return err
	}
	b := births[0]
	if _, err := opener.Key(ctx, births[1].Sealing.File, seal.SigningBinding(b.Network, b.Order, b.Index, b.Pubkey)); !errors.Is(err, awskmsopen.ErrContext) {
		return fmt.Errorf("a swapped sealing: %w", err)
	}
	s.Line("and KMS itself refuses to open the one as the other: its context names the pubkey")
	_, err = client.PutItem(ctx, &sdk.PutItemInput{TableName: &table, Item: good})
	return err
}

// drift changes the installation as somebody with the break-glass role could.
func (s *story) drift() error {
	s.Heading("Somebody gives the function a variable, and the auditor looks again.")
	if err := s.World.Configure(map[string]string{"DEBUG": "1"}, 0, 0, 0); err != nil {
		return err
	}
	changed, err := s.World.Publish()
	if err != nil {
		return err
	}
	r, err := s.Stakeseal(s.as("auditor"), 3, "doctor")
	if err != nil {
		return err
	}
	for line := range strings.Lines(r.Out) {
		line = strings.Join(strings.Fields(line), " ")
		if strings.Contains(line, " CHANGED ") {
			s.Line("%s", clip(line))
		}
	}
	if err := s.World.Configure(map[string]string{}, 0, 0, 0); err != nil {
		return err
	}
	return s.restore(changed)
}

func clip(line string) string {
	if len(line) > 150 {
		return line[:147] + "..."
	}
	return line
}

// opener opens with the rights of a role.
func (s *story) opener(role string) (*unseal.Opener, error) {
	credentials := s.Config(role)
	id, err := awskmsopen.NewIdentity(func(arn.ARN) awskmsopen.Decrypter { return kms.NewFromConfig(credentials) },
		s.Output("foundation", map[string]string{"signer": "SigningKeyArn", "recovery": "RecoveryKeyArn"}[role]))
	if err != nil {
		return nil, err
	}
	return unseal.NewOpener(id), nil
}

func (s *story) opened() error {
	s.Heading("The signer's role, and only that, opens the keys. (G11)")
	args := []string{"keystore", "export", "--signer", "signer-a", "--identity", "awskms:" + s.Output("foundation", "SigningKeyArn"), "--for", "web3signer"}
	refused := 0
	for _, role := range []string{"developer", "release-manager", "requester", "depositor", "recovery", "auditor", "administrator"} {
		client := kms.NewFromConfig(s.Config(role))
		for _, key := range []string{"SigningKeyArn", "RecoveryKeyArn"} {
			if role == "recovery" && key == "RecoveryKeyArn" {
				continue
			}
			if _, err := client.Decrypt(context.Background(), &kms.DecryptInput{KeyId: aws.String(s.Output("foundation", key)), CiphertextBlob: make([]byte, 200)}); err == nil {
				return fmt.Errorf("%s may open with %s", role, key)
			}
			refused++
		}
	}
	s.Line("%d tries of seven other roles refused by the keys' policies", refused)
	out := filepath.Join(s.Dir, "opened")
	if _, err := s.Stakeseal(s.as("signer"), 0, append(args, "--order", "first", "--out", out, "--yes")...); err != nil {
		return err
	}
	files, err := filepath.Glob(filepath.Join(out, "*"))
	if err != nil {
		return err
	}
	s.Line("signer: %d keys opened and handed to Web3Signer (%d files and folders)", len(s.keys), len(files))
	return nil
}

func (s *story) audited() error {
	s.Heading("The auditor asks who could have opened a key, and who did.")
	r, err := s.Stakeseal(s.as("auditor"), 0, "audit", s.keys[0])
	if err != nil {
		return err
	}
	refused := 0
	for line := range strings.Lines(r.Out) {
		switch line = strings.TrimRight(line, " \n"); {
		case strings.Contains(line, "was refused"):
			refused++
		case line != "" && !strings.Contains(line, "KMS Decrypt of a secret"): // of the attempts above, which name no key
			s.Line("%s", clip(line))
		}
	}
	s.Line("(and %d lines on attempts that were refused)", refused)
	return nil
}

// searched opens every secret with its role and looks for it in all that was
// written, sent to a store, logged, or printed; keys that were handed over are
// files of their own, which are left out.
func (s *story) searched() error {
	s.Heading("Every secret of the first order is searched for in tables, buckets, logs, the trail and all output. (G3)")
	ctx := context.Background()
	var needles canary.Needles
	signer, err := s.opener("signer")
	if err != nil {
		return err
	}
	recovery, err := s.opener("recovery")
	if err != nil {
		return err
	}
	births, err := s.births("auditor")
	if err != nil {
		return err
	}
	for _, b := range births {
		opened, err := signer.Key(ctx, b.Sealing.File, seal.SigningBinding(b.Network, b.Order, b.Index, b.Pubkey))
		if err != nil {
			return err
		}
		needles.Add("key of "+b.Path, opened.Key.Raw().Expose())
		needles.Add("password of "+b.Path, opened.Password.Expose())
	}
	store, _, err := s.store("auditor")
	if err != nil {
		return err
	}
	for m, err := range store.Mnemonics(ctx, "first") {
		if err != nil {
			return err
		}
		opened, err := recovery.Mnemonic(ctx, m.Sealing.File, seal.RecoveryBinding("hoodi", "first", m.ID))
		if err != nil {
			return err
		}
		needles.Add("mnemonic "+m.ID, opened.Words.Expose())
	}
	read := 0
	for what, data := range map[string][]byte{"tables": s.World.Tables.Dump(), "buckets": s.World.Buckets.Dump(), "logs": s.World.Logs(), "output": s.Said(),
		"trail": fmt.Appendf(nil, "%+v", s.World.Trail())} {
		if found := needles.In(data); len(found) > 0 {
			return fmt.Errorf("%s hold %v", what, found)
		}
		read += len(data)
	}
	found, n, err := needles.InTree(s.Home)
	if err != nil || len(found) > 0 {
		return errors.Join(err, fmt.Errorf("the home holds %v", found))
	}
	if _, err := os.Stat(filepath.Join(s.Dir, "stolen")); err == nil {
		return errors.New("a refused hand-over left files")
	}
	s.Line("%d forms in %.1f MB: none found", needles.Len(), float64(read+int(n))/1e6)
	return nil
}
