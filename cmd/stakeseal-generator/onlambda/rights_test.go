package onlambda

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdkdynamodb "github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/smithy-go"

	"github.com/stakeseal/stakeseal/birth"
	"github.com/stakeseal/stakeseal/infra/stack"
	"github.com/stakeseal/stakeseal/internal/aws/arn"
	"github.com/stakeseal/stakeseal/internal/aws/awskmsopen"
	"github.com/stakeseal/stakeseal/internal/aws/awstest/world"
	"github.com/stakeseal/stakeseal/internal/aws/session"
	"github.com/stakeseal/stakeseal/internal/canary"
	"github.com/stakeseal/stakeseal/record"
	"github.com/stakeseal/stakeseal/seal"
	"github.com/stakeseal/stakeseal/unseal"
)

// opener opens with the rights of a role, and one of the two keys.
func (s *site) opener(role, key string) *unseal.Opener {
	s.Helper()
	cfg := s.config(role)
	id, err := awskmsopen.NewIdentity(func(arn.ARN) awskmsopen.Decrypter { return kms.NewFromConfig(cfg) }, s.output(key))
	s.must(err)
	return unseal.NewOpener(id)
}

func (s *site) mnemonics(order string) (list []record.Mnemonic) {
	s.Helper()
	for m, err := range s.store("auditor").Mnemonics(ctx, order) {
		s.must(err)
		list = append(list, m)
	}
	return list
}

// TestOnlyTheirs (G1, G11): what the function sealed is opened by the signer, or
// for recovery with a second factor, and by no other role, the generator's own
// least of all.
func TestOnlyTheirs(t *testing.T) {
	s := newSite(t, map[string]map[string]string{"bootstrap": {"Schedule": "on", "ImporterPrincipals": "arn:aws:iam::" + world.Account + ":role/people-importer"}, "foundation": {"Importer": "on"}})
	births := s.whole("first", 2, s.made(s.request("first", 2)).answer.Receipt)
	b, m := births[0], s.mnemonics("first")[0]
	as := func(b record.Birth) seal.Binding { return seal.SigningBinding(b.Network, b.Order, b.Index, b.Pubkey) }
	words := seal.RecoveryBinding("hoodi", "first", m.ID)

	roles := append(s.inst.Roles(), "role/anybody", "arn:aws:iam::444455556666:role/stranger")
	if len(roles) < 12 {
		t.Fatalf("only the roles %v", roles)
	}
	refused := 0
	for _, role := range roles {
		for _, key := range []string{"SigningKeyArn", "RecoveryKeyArn"} {
			o := s.opener(role, key)
			var err error
			var got interface{ Wipe() }
			if key == "SigningKeyArn" {
				got, err = o.Key(ctx, b.Sealing.File, as(b))
			} else {
				got, err = o.Mnemonic(ctx, m.Sealing.File, words)
			}
			if role == "signer" && key == "SigningKeyArn" || role == "recovery" && key == "RecoveryKeyArn" {
				must(t, err)
				got.Wipe()
				continue
			}
			if refused++; !errors.Is(err, session.ErrDenied) {
				t.Errorf("%s with %s: %v", role, key, err)
			}
		}
	}
	t.Logf("%d roles: %d tries refused", len(roles), refused)
	// The role that opens mnemonics is given to nobody without a second factor,
	// nor to other people with one.
	take := func(who string, code *string) error {
		in := &sts.AssumeRoleInput{RoleArn: aws.String(s.inst.RoleARN("recovery")), RoleSessionName: aws.String("anna")}
		if code != nil {
			in.SerialNumber, in.TokenCode = aws.String("arn:aws:iam::"+world.Account+":mfa/anna"), code
		}
		_, err := sts.NewFromConfig(s.config("role/people-"+who, world.Session{NoMFA: true})).AssumeRole(ctx, in)
		return session.Classify("sts:AssumeRole", err)
	}
	must(t, take("recovery", aws.String("123456")))
	for who, code := range map[string]*string{"recovery": nil, "requester": aws.String("123456"), "signer": aws.String("123456")} {
		if err := take(who, code); !errors.Is(err, session.ErrDenied) {
			t.Errorf("%s, with a code: %v, takes the role: %v", who, code != nil, err)
		}
	}
	// Who may open, opens it as what it was sealed as (G2).
	if _, err := s.opener("signer", "SigningKeyArn").Key(ctx, b.Sealing.File, as(births[1])); !errors.Is(err, awskmsopen.ErrContext) {
		t.Errorf("a sealing as another's: %v", err)
	}
}

// TestNowhere (G3): every secret of an order, opened by who may, stands nowhere
// that the function, or AWS for it, has written.
func TestNowhere(t *testing.T) {
	s := newSite(t, nil)
	q := s.request("canary", 2)
	q.Keystore = "pbkdf2" // with passwords
	q.Labels = map[string]string{"team": "north"}
	var said bytes.Buffer
	first := s.ask(q)
	said.Write(first.payload)
	s.Fail("kms", "Sign", 1, world.Fault{Kind: world.Killed, Skip: 1, Role: "generator"})
	crashed := q
	crashed.Order = "crashed"
	o := s.ask(crashed)
	fmt.Fprintf(&said, "%s %s %s", o.class, o.message, o.payload)
	s.Heal()
	said.Write(s.made(crashed).payload)

	var needles canary.Needles
	signer, recovery := s.opener("signer", "SigningKeyArn"), s.opener("recovery", "RecoveryKeyArn")
	for _, order := range []string{"canary", "crashed"} {
		for _, b := range s.whole(order, 2, s.made(map[string]birth.Request{"canary": q, "crashed": crashed}[order]).answer.Receipt) {
			opened, err := signer.Key(ctx, b.Sealing.File, seal.SigningBinding(b.Network, b.Order, b.Index, b.Pubkey))
			must(t, err)
			needles.Add("key of "+b.Path, opened.Key.Raw().Expose())
			needles.Add("password of "+b.Path, opened.Password.Expose())
		}
		for _, m := range s.mnemonics(order) {
			opened, err := recovery.Mnemonic(ctx, m.Sealing.File, seal.RecoveryBinding("hoodi", order, m.ID))
			must(t, err)
			needles.Add("mnemonic "+m.ID, opened.Words.Expose())
		}
	}
	for what, data := range map[string][]byte{"tables": s.Tables.Dump(), "buckets": s.Buckets.Dump(), "logs": s.Logs(), "answers": said.Bytes(), "trail": fmt.Appendf(nil, "%+v", s.Trail())} {
		if found := needles.In(data); len(found) > 0 {
			t.Errorf("the %s hold %v", what, found)
		}
		if len(data) < 500 {
			t.Errorf("the %s are %d bytes", what, len(data))
		}
		// It would be found there.
		if planted := needles.In(append(data[:len(data)/2:len(data)/2], needles.Forms()[0]...)); len(planted) != 1 {
			t.Errorf("what was planted in the %s: %v", what, planted)
		}
	}
	t.Logf("%d forms", needles.Len())
}

// TestReplaced (G4): the generator's own role, in other hands, replaces what it
// may: rows, checksums and all. Its archive it cannot touch, and so the function
// itself notices.
func TestReplaced(t *testing.T) {
	s := newSite(t, nil)
	q := s.request("first", 3)
	first := s.made(q)
	births := s.whole("first", 3, first.answer.Receipt)
	table, bucket := s.output("RecordsTableArn"), aws.String(name+"-archive-"+world.Account)
	var claim map[string]types.AttributeValue // of another order's birth
	rows := sdkdynamodb.NewFromConfig(s.config("generator"))
	objects := s3.NewFromConfig(s.config("generator"))
	get := func(pk, sk string) map[string]types.AttributeValue {
		t.Helper()
		got, err := rows.GetItem(ctx, &sdkdynamodb.GetItemInput{TableName: &table, ConsistentRead: aws.Bool(true),
			Key: map[string]types.AttributeValue{"pk": &types.AttributeValueMemberS{Value: pk}, "sk": &types.AttributeValueMemberS{Value: sk}}})
		must(t, err)
		return got.Item
	}
	put := func(item map[string]types.AttributeValue) {
		t.Helper()
		_, err := rows.PutItem(ctx, &sdkdynamodb.PutItemInput{TableName: &table, Item: item})
		must(t, err)
	}
	sum := func(data []byte, err error) types.AttributeValue {
		t.Helper()
		must(t, err)
		d := record.DigestOf(data)
		return &types.AttributeValueMemberB{Value: d[:]}
	}
	index := func(i uint32) map[string]types.AttributeValue {
		return get("order/first", fmt.Sprintf("birth/%010d", i))
	}

	swappedSealing, swappedCertificate := births[0], births[0]
	swappedSealing.Sealing, swappedCertificate.Certificate = births[1].Sealing, births[1].Certificate
	other := birthsOf(s, "other", 1)[0]
	for what, change := range map[string]func(item map[string]types.AttributeValue){
		"another's sealing": func(item map[string]types.AttributeValue) {
			item["sealing"], item["record_sha256"] = index(1)["sealing"], sum(record.EncodeBirth(swappedSealing))
		},
		"another's certificate": func(item map[string]types.AttributeValue) {
			item["certificate"], item["record_sha256"] = index(1)["certificate"], sum(record.EncodeBirth(swappedCertificate))
		},
		"no certificate": func(item map[string]types.AttributeValue) {
			bare := births[0]
			bare.Certificate = []byte("{}")
			item["certificate"], item["record_sha256"] = &types.AttributeValueMemberS{Value: "{}"}, sum(record.EncodeBirth(bare))
		},
		"a checksum": func(item map[string]types.AttributeValue) { item["record_sha256"] = sum([]byte("x"), nil) },
		"the whole of another's": func(item map[string]types.AttributeValue) {
			for name, value := range index(1) {
				if name != "pk" && name != "sk" {
					item[name] = value
				}
			}
		},
		"another order's birth, certified": func(item map[string]types.AttributeValue) {
			stolen := get("order/other", "birth/0000000000")
			renamed := other
			renamed.Order = "first"
			text, err := record.EncodeValidator(renamed.Validator)
			must(t, err)
			for name, value := range stolen {
				if name != "pk" && name != "sk" {
					item[name] = value
				}
			}
			item["validator"] = &types.AttributeValueMemberS{Value: string(text)}
			item["validator_sha256"], item["record_sha256"] = sum(text, nil), sum(record.EncodeBirth(renamed))
			hex := fmt.Sprintf("%x", other.Pubkey[:])
			claim = get("pubkey/"+hex[:1], hex)
			moved := maps.Clone(claim)
			moved["order_id"] = &types.AttributeValueMemberS{Value: "first"}
			put(moved)
		},
	} {
		good := index(0)
		bad := maps.Clone(good)
		change(bad)
		put(bad)
		s.refused(q, birth.ClassTampered, "")
		s.Chill()
		s.refused(q, birth.ClassTampered, "")
		put(good)
		if claim != nil {
			put(claim)
		}
		if o := s.ask(q); o.class != "" || !bytes.Equal(o.payload, first.payload) {
			t.Errorf("%s, undone: %s %s", what, o.class, o.message)
		}
	}

	// The archive takes no other object in its place, with the condition or
	// without it; nor does the table let go of a row.
	key := birth.BirthObject("first", 0)
	before, _ := s.Buckets.Get(*bucket, key)
	for code, condition := range map[string]*string{"AccessDenied": nil, "PreconditionFailed": aws.String("*")} {
		_, err := objects.PutObject(ctx, &s3.PutObjectInput{Bucket: bucket, Key: &key, Body: bytes.NewReader([]byte("{}")), IfNoneMatch: condition})
		var refused smithy.APIError
		if !errors.As(err, &refused) || refused.ErrorCode() != code {
			t.Errorf("an object in the place of another, %s: %v", code, err)
		}
	}
	if after, _ := s.Buckets.Get(*bucket, key); !bytes.Equal(before, after) {
		t.Error("the archive was changed")
	}
	for action, resource := range map[string]string{"dynamodb:DeleteItem": table, "dynamodb:UpdateItem": table, "dynamodb:BatchWriteItem": table,
		"s3:DeleteObject": s.output("ArchiveBucketArn") + "/" + key, "s3:DeleteObjectVersion": s.output("ArchiveBucketArn") + "/" + key} {
		d, err := s.inst.Authorize(stack.Request{Principal: s.inst.RoleARN("generator"), Action: action, Resource: resource,
			Context: map[string][]string{"lambda:SourceFunctionArn": {s.output("FunctionArn")}}})
		if err != nil || d.Allowed {
			t.Errorf("the generator's role may %s: %v, %v", action, d.Why, err)
		}
	}
	s.whole("first", 3, first.answer.Receipt)
}

func birthsOf(s *site, order string, n uint32) []record.Birth {
	s.Helper()
	return s.whole(order, n, s.made(s.request(order, n)).answer.Receipt)
}
