// Package sampletest makes rows as the AWS sample writes them: the attributes,
// the texts in Python's JSON, the ciphertext of the three secrets. It is test
// support, written from what that program does, with none of its code.
package sampletest

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/stakeseal/stakeseal/eth"
	"github.com/stakeseal/stakeseal/eth/bls"
	"github.com/stakeseal/stakeseal/eth/keystore"
	"github.com/stakeseal/stakeseal/keygen"
	"github.com/stakeseal/stakeseal/keygen/mnemonic"
	"github.com/stakeseal/stakeseal/secret"
)

// Function is one deployment of the sample's function.
type Function struct {
	Network eth.Network
	Address *eth.Address // nil: 0x00 credentials, as when the request names none
	KDF     keystore.KDF // "": scrypt, as the sample; pbkdf2 is faster in tests
	// Encrypt is kms:Encrypt with the function's key, without a context.
	Encrypt func(plain []byte) ([]byte, error)
	// Words, if not "", are used instead of a new mnemonic.
	Words string
	Now   time.Time
}

// Row is a row with what is in it.
type Row struct {
	Item     map[string]types.AttributeValue
	Pubkey   eth.Pubkey
	Raw      []byte // the secret key
	Keystore []byte
	Password []byte
	Words    []byte
	Deposit  []byte // the deposit_data file
}

// Invoke makes n validators of one mnemonic, as one request does.
func (f Function) Invoke(n uint32) (rows []Row, err error) {
	words := secret.Copy([]byte(f.Words))
	if f.Words == "" {
		if words, err = mnemonic.New(mnemonic.English); err != nil {
			return nil, err
		}
	}
	phrase, err := mnemonic.Parse(words, "")
	if err != nil {
		return nil, err
	}
	seed := phrase.Seed(nil)
	for index := range n {
		row, err := f.one(words.Expose(), seed, index)
		if err != nil {
			return nil, err
		}
		rows = append(rows, row)
	}
	return rows, nil
}

func (f Function) one(words []byte, seed *secret.Bytes, index uint32) (row Row, err error) {
	path := keygen.SigningPath(index)
	key, err := bls.FromSeed(seed, path)
	if err != nil {
		return row, err
	}
	row.Pubkey, row.Raw, row.Words = key.Pubkey(), bytes.Clone(key.Raw().Expose()), bytes.Clone(words)
	row.Password = password()
	kdf := f.KDF
	if kdf == "" {
		kdf = keystore.Scrypt
	}
	made, err := keystore.Encrypt(context.Background(), kdf, []keystore.Lane{{
		Secret: secret.Copy(row.Raw), Password: secret.Copy(row.Password), Pubkey: row.Pubkey, Path: path,
	}})
	if err != nil {
		return row, err
	}
	row.Keystore = Python(made[0].JSON)
	var credentials eth.Credentials
	if f.Address != nil {
		credentials = eth.ExecutionCredentials(*f.Address, false)
	} else {
		withdrawal, err := bls.FromSeed(seed, fmt.Sprintf("m/12381/3600/%d/0", index))
		if err != nil {
			return row, err
		}
		credentials = eth.BLSCredentials(withdrawal.Pubkey())
	}
	row.Deposit = Deposit(key, f.Network, credentials)
	if err := row.Seal(f.Encrypt); err != nil {
		return row, err
	}
	row.Item["web3signer_uuid"] = text("none")
	row.Item["chain"] = text(f.Network.Name)
	row.Item["pubkey"] = text(row.Pubkey.Hex())
	row.Item["datetime"] = text(f.Now.Format("2006-01-02T15:04:05.000000"))
	row.Item["active"] = &types.AttributeValueMemberBOOL{Value: true}
	return row, nil
}

// Seal puts the row's secrets and deposit data, as they are now, into its item.
func (r *Row) Seal(encrypt func([]byte) ([]byte, error)) error {
	if r.Item == nil {
		r.Item = map[string]types.AttributeValue{}
	}
	plain := fmt.Appendf(nil, `{"keystore_b64": %q, "password_b64": %q, "mnemonic_b64": %q}`, b64(r.Keystore), b64(r.Password), b64(r.Words))
	blob, err := encrypt(plain)
	if err != nil {
		return err
	}
	r.Item["encrypted_key_password_mnemonic_b64"] = text(b64(blob))
	r.Item["deposit_json_b64"] = text(b64(r.Deposit))
	return nil
}

// Deposit is a deposit_data file of 32 ETH, signed by key.
func Deposit(key *bls.Key, n eth.Network, c eth.Credentials) []byte {
	message := eth.DepositMessage{Pubkey: key.Pubkey(), Credentials: c, Amount: 32e9}
	data := eth.DepositData{Pubkey: key.Pubkey(), Credentials: c, Amount: 32e9, Signature: key.Sign(eth.SigningRoot(message.Root(), n.DepositDomain()))}
	return fmt.Appendf(nil, `[{"pubkey": %q, "withdrawal_credentials": %q, "amount": %d, "signature": %q, "deposit_message_root": %q, "deposit_data_root": %q, "fork_version": %q, "network_name": %q, "deposit_cli_version": "2.3.0"}]`,
		data.Pubkey.Hex(), c.Hex(), data.Amount, data.Signature.Hex(), message.Root().Hex(), data.Root().Hex(), n.GenesisForkVersion.Hex(), n.Name)
}

// Python writes compact JSON with the spaces that Python's json.dumps puts
// behind commas and colons.
func Python(compact []byte) []byte {
	var out bytes.Buffer
	inside := false
	for i, c := range compact {
		out.WriteByte(c)
		switch {
		case c == '"' && (i == 0 || compact[i-1] != '\\'):
			inside = !inside
		case (c == ',' || c == ':') && !inside:
			out.WriteByte(' ')
		}
	}
	return out.Bytes()
}

// Export is what aws dynamodb scan --output json prints of rows.
func Export(rows ...Row) []byte {
	items := []map[string]map[string]any{}
	for _, r := range rows {
		item := map[string]map[string]any{}
		for name, v := range r.Item {
			switch v := v.(type) {
			case *types.AttributeValueMemberS:
				item[name] = map[string]any{"S": v.Value}
			case *types.AttributeValueMemberBOOL:
				item[name] = map[string]any{"BOOL": v.Value}
			case *types.AttributeValueMemberN:
				item[name] = map[string]any{"N": v.Value}
			default:
				panic(fmt.Sprintf("sampletest: %T", v))
			}
		}
		items = append(items, item)
	}
	out, err := json.MarshalIndent(map[string]any{"Items": items, "Count": len(items), "ScannedCount": len(items), "ConsumedCapacity": nil}, "", "    ")
	if err != nil {
		panic("sampletest: " + err.Error())
	}
	return append(out, '\n')
}

// password is 14 random bytes in URL-safe base64 without padding.
func password() []byte {
	var raw [14]byte
	_, _ = rand.Read(raw[:]) // never fails
	return []byte(base64.RawURLEncoding.EncodeToString(raw[:]))
}

func b64(b []byte) string { return base64.StdEncoding.EncodeToString(b) }

func text(s string) types.AttributeValue { return &types.AttributeValueMemberS{Value: s} }
