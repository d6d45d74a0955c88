package sample

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	kmstypes "github.com/aws/aws-sdk-go-v2/service/kms/types"

	"github.com/stakeseal/stakeseal/internal/aws/awstest"
	"github.com/stakeseal/stakeseal/internal/aws/sample/sampletest"
	"github.com/stakeseal/stakeseal/internal/aws/session"
)

const region = "us-east-1"

// encryptWith is kms:Encrypt as the sample calls it.
func encryptWith(t testing.TB, client *kms.Client, key string) func([]byte) ([]byte, error) {
	return func(plain []byte) ([]byte, error) {
		out, err := client.Encrypt(t.Context(), &kms.EncryptInput{KeyId: &key, Plaintext: plain, EncryptionAlgorithm: kmstypes.EncryptionAlgorithmSpecSymmetricDefault})
		if err != nil {
			return nil, err
		}
		return out.CiphertextBlob, nil
	}
}

// TestOpen over the fake KMS, whose policies decide: the function's role seals
// and cannot open, the role that its owner let open does.
func TestOpen(t *testing.T) {
	fake, err := awstest.NewKMS(region)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = fake.Close() })
	policy := fmt.Sprintf(`{"Version":"2012-10-17","Statement":[
		{"Effect":"Allow","Principal":{"AWS":%q},"Action":"kms:Encrypt","Resource":"*"},
		{"Effect":"Allow","Principal":{"AWS":%q},"Action":"kms:Decrypt","Resource":"*"}]}`, awstest.Role("sample-function"), awstest.Role("importer"))
	key, err := fake.CreateKey(awstest.Symmetric, policy)
	if err != nil {
		t.Fatal(err)
	}
	other, err := fake.CreateKey(awstest.Symmetric, policy)
	if err != nil {
		t.Fatal(err)
	}
	client := func(role string) *kms.Client {
		return kms.NewFromConfig(session.New(region, fake.Credentials(role), session.Options{Endpoint: fake.URL, Backoff: func(int) time.Duration { return 0 }}))
	}
	opener := func(role, key string) *Opener {
		o, err := NewOpener(client(role), key)
		if err != nil {
			t.Fatal(err)
		}
		return o
	}
	made := invoke(t, function(t, encryptWith(t, client("sample-function"), key)), 2)
	row := func(m sampletest.Row) Row {
		r := read(values(m.Item))
		if r.Err != nil {
			t.Fatal(r.Err)
		}
		return r.Row
	}
	s, err := opener("importer", key).Open(t.Context(), row(made[0]))
	if err != nil || !bytes.Equal(s.Words.Expose(), made[0].Words) || !bytes.Equal(s.Keystore.Expose(), made[0].Keystore) || !bytes.Equal(s.Password.Expose(), made[0].Password) {
		t.Fatal(err)
	}
	s.Wipe()
	if last := fake.Trail()[len(fake.Trail())-1]; last.Action != "Decrypt" || last.Key != key || len(last.Context) != 0 {
		t.Errorf("the trail has %+v", last)
	}

	changed := row(made[1])
	changed.Blob = bytes.Clone(changed.Blob)
	changed.Blob[len(changed.Blob)-1] ^= 1
	foreign := row(invoke(t, function(t, encryptWith(t, client("sample-function"), other)), 1)[0])
	garbage := row(made[1])
	garbage.Blob = []byte("garbage")
	for what, r := range map[string]Row{"changed": changed, "of another key": foreign, "garbage": garbage} {
		if s, err := opener("importer", key).Open(t.Context(), r); !errors.Is(err, ErrRow) || errors.Is(err, session.ErrDenied) || s != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	sealedOther, err := encryptWith(t, client("sample-function"), key)([]byte("legal winner thank year"))
	if err != nil {
		t.Fatal(err)
	}
	notOurs := row(made[0])
	notOurs.Blob = sealedOther
	if _, err := opener("importer", key).Open(t.Context(), notOurs); !errors.Is(err, ErrRow) || strings.Contains(err.Error(), "legal") {
		t.Errorf("another plaintext: %v", err)
	}
	for what, o := range map[string]*Opener{"the function's own role": opener("sample-function", key), "nobody": opener("somebody", key)} {
		if s, err := o.Open(t.Context(), row(made[0])); !errors.Is(err, session.ErrDenied) || errors.Is(err, ErrRow) || s != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	fake.Tamper(func(_ string, answer map[string]any) { answer["KeyId"] = other })
	if s, err := opener("importer", key).Open(t.Context(), row(made[0])); !errors.Is(err, session.ErrRemote) || s != nil {
		t.Errorf("an answer for another key: %v", err)
	}
	fake.Tamper(nil)
	for range session.MaxAttempts {
		fake.Fail(awstest.Fault{Status: http.StatusInternalServerError, Code: "KMSInternalException"})
	}
	if _, err := opener("importer", key).Open(t.Context(), row(made[0])); !errors.Is(err, session.ErrRemote) || errors.Is(err, ErrRow) {
		t.Errorf("a failing KMS: %v", err)
	}
	for _, bad := range []string{"", "alias/x", strings.Replace(key, ":key/", ":alias/", 1), table} {
		if _, err := NewOpener(client("importer"), bad); err == nil {
			t.Errorf("key %q was taken", bad)
		}
	}
	if _, err := NewOpener(nil, key); err == nil {
		t.Error("no client was taken")
	}
}

// TestEmulators: rows put by one client and read by this package, over
// programs that others wrote: the table in dynalite and moto, the key in moto.
func TestEmulators(t *testing.T) {
	for name, variable := range map[string]string{"dynalite": "STAKESEAL_DYNALITE", "moto": "STAKESEAL_MOTO"} {
		t.Run(name, func(t *testing.T) {
			endpoint, motoURL := os.Getenv(variable), os.Getenv("STAKESEAL_MOTO")
			if endpoint == "" || motoURL == "" {
				if os.Getenv("CI") == "true" && os.Getenv("STAKESEAL_EMULATORS") == "required" {
					t.Fatalf("%s is not set, and the emulators are required", variable)
				}
				t.Skipf("%s is not set: not run against %s (see internal/aws/emulators.sh)", variable, name)
			}
			who := credentials.NewStaticCredentialsProvider("ASIAEXAMPLE", "example", "token")
			keys := kms.NewFromConfig(session.New(region, who, session.Options{Endpoint: motoURL}))
			created, err := keys.CreateKey(t.Context(), &kms.CreateKeyInput{})
			if err != nil {
				t.Fatal(err)
			}
			key := aws.ToString(created.KeyMetadata.Arn)
			f := function(t, encryptWith(t, keys, key))
			made := append(invoke(t, f, 2), invoke(t, f, 1)...)

			db := dynamodb.NewFromConfig(session.New(region, who, session.Options{Endpoint: endpoint}))
			short := fmt.Sprintf("ValidatorKeysTable-%d-%d", os.Getpid(), time.Now().UnixNano())
			createTable(t, db, short)
			for i, m := range made {
				item := maps.Clone(m.Item)
				item[attrSigner] = &types.AttributeValueMemberS{Value: []string{"none", "none", "a5f1a0a5"}[i]}
				if _, err := db.PutItem(t.Context(), &dynamodb.PutItemInput{TableName: &short, Item: item}); err != nil {
					t.Fatal(err)
				}
			}
			rows, err := Scan(t.Context(), named{db, short}, "arn:aws:dynamodb:"+region+":111122223333:table/"+short)
			if err != nil || len(rows) != len(made) {
				t.Fatalf("%d rows, %v", len(rows), err)
			}
			o, err := NewOpener(keys, key)
			if err != nil {
				t.Fatal(err)
			}
			for _, m := range made {
				found := false
				for _, r := range rows {
					if r.Err != nil || r.Pubkey != m.Pubkey {
						continue
					}
					found = true
					s, err := o.Open(t.Context(), r.Row)
					if err != nil || !bytes.Equal(s.Words.Expose(), m.Words) || !bytes.Equal(s.Password.Expose(), m.Password) {
						t.Errorf("%v: %v", m.Pubkey, err)
					}
					s.Wipe()
				}
				if !found {
					t.Errorf("%v was not read", m.Pubkey)
				}
			}
		})
	}
}

func createTable(t *testing.T, db *dynamodb.Client, name string) {
	t.Helper()
	_, err := db.CreateTable(t.Context(), &dynamodb.CreateTableInput{
		TableName: &name, BillingMode: types.BillingModePayPerRequest,
		AttributeDefinitions: []types.AttributeDefinition{
			{AttributeName: aws.String(attrSigner), AttributeType: types.ScalarAttributeTypeS},
			{AttributeName: aws.String(attrPubkey), AttributeType: types.ScalarAttributeTypeS},
		},
		KeySchema: []types.KeySchemaElement{
			{AttributeName: aws.String(attrSigner), KeyType: types.KeyTypeHash},
			{AttributeName: aws.String(attrPubkey), KeyType: types.KeyTypeRange},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if _, err := db.DeleteTable(context.Background(), &dynamodb.DeleteTableInput{TableName: &name}); err != nil {
			t.Error(err)
		}
	})
	for range 200 { // dynalite makes it in the background
		out, err := db.DescribeTable(t.Context(), &dynamodb.DescribeTableInput{TableName: &name})
		if err == nil && out.Table.TableStatus == types.TableStatusActive {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Fatal("the table does not come")
}

// named sends a table's name, two items a page, where DynamoDB takes its ARN:
// neither emulator does.
type named struct {
	client *dynamodb.Client
	name   string
}

func (n named) Scan(ctx context.Context, in *dynamodb.ScanInput, o ...func(*dynamodb.Options)) (*dynamodb.ScanOutput, error) {
	short := *in
	short.TableName, short.Limit = &n.name, aws.Int32(2)
	return n.client.Scan(ctx, &short, o...)
}

// keeping is a KMS that remembers the plaintext it handed over.
type keeping struct{ plain []byte }

func (k *keeping) Decrypt(_ context.Context, in *kms.DecryptInput, _ ...func(*kms.Options)) (*kms.DecryptOutput, error) {
	k.plain = bytes.Clone(in.CiphertextBlob)
	return &kms.DecryptOutput{KeyId: in.KeyId, Plaintext: k.plain}, nil
}

// TestWiped: whatever comes of it, the plaintext is gone when Open returns,
// and the rest when the secret is wiped.
func TestWiped(t *testing.T) {
	const key = "arn:aws:kms:us-east-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab"
	for _, plain := range []string{string(plainSeeds()[0]), "{}", `{"keystore_b64": "e30=", "password_b64": "cGFzc3dvcmQ=", "mnemonic_b64": "%"}`} {
		k := &keeping{}
		o, err := NewOpener(k, key)
		if err != nil {
			t.Fatal(err)
		}
		s, err := o.Open(t.Context(), Row{Blob: []byte(plain)})
		if len(k.plain) == 0 || !bytes.Equal(k.plain, make([]byte, len(k.plain))) {
			t.Errorf("%v: the plaintext is still there: %q", err, k.plain)
		}
		if err != nil {
			continue
		}
		words := s.Words.Expose()
		s.Wipe()
		if len(words) == 0 || !bytes.Equal(words, make([]byte, len(words))) {
			t.Errorf("the words are still there: %q", words)
		}
	}
}
