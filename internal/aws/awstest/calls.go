package awstest

import (
	"context"
	"crypto/x509"
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/stakeseal/stakeseal/internal/aws/awstest/call"
)

const (
	service    = "TrentService."
	maxBody    = 64 << 10
	maxPlain   = 4096 // of Encrypt, and of Sign's RAW messages
	maxContext = 8192
)

// operation is a call of KMS that the fake knows.
type operation struct {
	read func(body []byte) (input, error)
	do   func(*Keys, key, input) (map[string]any, *call.Failure)
	dry  bool // takes DryRun
}

// input has the fields of all requests that the fake knows. Each operation has
// a struct of its own fields, decoded strictly (GrantTokens, Recipient and any
// other are refused), and fills this from it.
type input struct {
	KeyID               string `json:"KeyId"`
	Plaintext           []byte
	CiphertextBlob      []byte
	EncryptionContext   map[string]string
	EncryptionAlgorithm string
	Message             []byte
	MessageType         string
	SigningAlgorithm    string
	DryRun              bool
	DryRunModifiers     []string
	PolicyName          string
	Limit               int
	Marker              string
}

var operations = map[string]operation{
	"Encrypt": {dry: true, do: (*Keys).encrypt, read: func(b []byte) (input, error) {
		var in struct {
			KeyID                   string `json:"KeyId"`
			Plaintext               []byte
			EncryptionContext       map[string]string
			EncryptionAlgorithm     string
			DryRun                  bool
			CiphertextBlob, Message []byte // refused by name, in encrypt
		}
		err := call.Strict(b, &in)
		return input{KeyID: in.KeyID, Plaintext: in.Plaintext, EncryptionContext: in.EncryptionContext, EncryptionAlgorithm: in.EncryptionAlgorithm,
			DryRun: in.DryRun, CiphertextBlob: in.CiphertextBlob, Message: in.Message}, err
	}},
	"Decrypt": {dry: true, do: (*Keys).decrypt, read: func(b []byte) (input, error) {
		var in struct {
			KeyID               string `json:"KeyId"`
			CiphertextBlob      []byte
			EncryptionContext   map[string]string
			EncryptionAlgorithm string
			DryRun              bool
			DryRunModifiers     []string
		}
		err := call.Strict(b, &in)
		return input{KeyID: in.KeyID, CiphertextBlob: in.CiphertextBlob, EncryptionContext: in.EncryptionContext,
			EncryptionAlgorithm: in.EncryptionAlgorithm, DryRun: in.DryRun, DryRunModifiers: in.DryRunModifiers}, err
	}},
	"Sign": {dry: true, do: (*Keys).sign, read: func(b []byte) (input, error) {
		var in struct {
			KeyID            string `json:"KeyId"`
			Message          []byte
			MessageType      string
			SigningAlgorithm string
			DryRun           bool
		}
		err := call.Strict(b, &in)
		return input{KeyID: in.KeyID, Message: in.Message, MessageType: in.MessageType, SigningAlgorithm: in.SigningAlgorithm, DryRun: in.DryRun}, err
	}},
	"GetPublicKey":         {do: (*Keys).getPublicKey, read: keyOnly},
	"DescribeKey":          {do: (*Keys).describe, read: keyOnly},
	"GetKeyRotationStatus": {do: (*Keys).rotation, read: keyOnly},
	"GetKeyPolicy": {do: (*Keys).getPolicy, read: func(b []byte) (input, error) {
		var in struct {
			KeyID      string `json:"KeyId"`
			PolicyName string
		}
		err := call.Strict(b, &in)
		return input{KeyID: in.KeyID, PolicyName: in.PolicyName}, err
	}},
	"ListKeyPolicies": {do: (*Keys).listPolicies, read: paged},
	"ListGrants":      {do: (*Keys).listGrants, read: paged},
	"ListAliases":     {do: (*Keys).listAliases, read: paged},
}

func keyOnly(b []byte) (input, error) {
	var in struct {
		KeyID string `json:"KeyId"`
	}
	err := call.Strict(b, &in)
	return input{KeyID: in.KeyID}, err
}

func paged(b []byte) (input, error) {
	var in struct {
		KeyID  string `json:"KeyId"`
		Limit  int
		Marker string
	}
	err := call.Strict(b, &in)
	return input{KeyID: in.KeyID, Limit: in.Limit, Marker: in.Marker}, err
}

// Understand reads a call of KMS and says what right it takes: the action on
// the key, under the condition keys that KMS gives.
func (k *Keys) Understand(r call.Request) (*call.Call, *call.Failure) {
	name := strings.TrimPrefix(r.HTTP.Header.Get("X-Amz-Target"), service)
	op, known := operations[name]
	if r.HTTP.Method != http.MethodPost || r.HTTP.URL.Path != "/" || !strings.HasPrefix(r.HTTP.Header.Get("X-Amz-Target"), service) || !known {
		return nil, call.Refuse("UnknownOperationException", "this fake does not know %s %s, target %q", r.HTTP.Method, r.HTTP.URL.Path, r.HTTP.Header.Get("X-Amz-Target"))
	}
	if got := r.HTTP.Header.Get("Content-Type"); got != call.JSON11.ContentType() {
		return nil, call.Refuse("SerializationException", "content type %q", got)
	}
	in, err := op.read(r.Body)
	if err != nil {
		return nil, call.Refuse("SerializationException", "%v", err)
	}
	size := 0
	for name, value := range in.EncryptionContext {
		size += len(name) + len(value)
	}
	if size > maxContext {
		return nil, call.Refuse("ValidationException", "the encryption context is too large")
	}
	c := &call.Call{Operation: name, ReadOnly: true, Params: params(in)}
	if name == "ListAliases" { // of the account, whichever key it is asked for
		c.Needs = []call.Need{{Action: "kms:ListAliases", Resource: "*", Context: map[string][]string{"kms:CallerAccount": {k.account}}}}
		c.Do = func(context.Context) (*call.Answer, *call.Failure) { return answer(k.listAliases(key{}, in)) }
		return c, nil
	}
	if in.KeyID == "" {
		// KMS would take the key that a ciphertext names.
		return nil, call.Refuse("ValidationException", "this fake wants the key named in every call")
	}
	by, ok := k.named(in.KeyID)
	if !ok || r.Region != k.region {
		return nil, call.Refuse("NotFoundException", "Key '%s' does not exist", in.KeyID)
	}
	c.Needs = []call.Need{{Action: "kms:" + name, Resource: by.arn, Context: k.conditions(name, by, in)}}
	c.Do = func(context.Context) (*call.Answer, *call.Failure) {
		if by.disabled && op.dry {
			return nil, call.Refuse("DisabledException", "%s is disabled.", by.arn)
		}
		out, failure := op.do(k, by, in)
		if failure == nil && in.DryRun {
			return nil, call.Refuse("DryRunOperationException", "The request would have succeeded, but the DryRun option is set.")
		}
		return answer(out, failure)
	}
	return c, nil
}

func answer(out map[string]any, failure *call.Failure) (*call.Answer, *call.Failure) {
	if failure != nil {
		return nil, failure
	}
	return call.JSON(out)
}

// conditions are the condition keys of a call, as the service authorisation
// reference lists them for it.
func (k *Keys) conditions(action string, by key, in input) map[string][]string {
	c := map[string][]string{
		"kms:CallerAccount": {k.account}, "kms:KeySpec": {string(by.Spec)}, "kms:KeyUsage": {by.usage()}, "kms:KeyOrigin": {"AWS_KMS"},
	}
	if len(by.Aliases) > 0 {
		c["kms:ResourceAliases"] = slices.Clone(by.Aliases)
	}
	switch action {
	case "Encrypt", "Decrypt":
		c["kms:EncryptionAlgorithm"] = []string{"SYMMETRIC_DEFAULT"}
		c["kms:EncryptionContextKeys"] = slices.Sorted(maps.Keys(in.EncryptionContext))
		for name, value := range in.EncryptionContext {
			c[contextKey+name] = []string{value}
		}
	case "Sign":
		c["kms:MessageType"], c["kms:SigningAlgorithm"] = []string{in.MessageType}, []string{in.SigningAlgorithm}
	}
	return c
}

// params are what CloudTrail notes of a request: never a plaintext, a
// ciphertext or a message.
func params(in input) map[string]any {
	out := map[string]any{}
	for name, value := range map[string]string{
		"keyId": in.KeyID, "encryptionAlgorithm": in.EncryptionAlgorithm, "messageType": in.MessageType,
		"signingAlgorithm": in.SigningAlgorithm, "policyName": in.PolicyName,
	} {
		if value != "" {
			out[name] = value
		}
	}
	if len(in.EncryptionContext) > 0 {
		out["encryptionContext"] = maps.Clone(in.EncryptionContext)
	}
	if in.DryRun {
		out["dryRun"] = true
	}
	return out
}

func (by key) usage() string {
	if by.Spec == Symmetric {
		return "ENCRYPT_DECRYPT"
	}
	return "SIGN_VERIFY"
}

var signingAlgorithms = map[Spec][]string{P256: {"ECDSA_SHA_256"}, P384: {"ECDSA_SHA_384"}, RSA2048: {"RSASSA_PSS_SHA_256"}}

func (k *Keys) getPublicKey(of key, _ input) (map[string]any, *call.Failure) {
	if of.public == nil {
		return nil, call.Refuse("UnsupportedOperationException", "%s has no public key", of.arn)
	}
	if of.disabled {
		return nil, call.Refuse("DisabledException", "%s is disabled.", of.arn)
	}
	return map[string]any{
		"KeyId": of.arn, "KeySpec": of.Spec, "CustomerMasterKeySpec": of.Spec, "KeyUsage": of.usage(),
		"PublicKey": of.public, "SigningAlgorithms": signingAlgorithms[of.Spec],
	}, nil
}

func (k *Keys) describe(of key, _ input) (map[string]any, *call.Failure) {
	state := "Enabled"
	if of.disabled {
		state = "Disabled"
	}
	about := map[string]any{
		"AWSAccountId": k.account, "Arn": of.arn, "KeyId": of.ID, "CreationDate": of.created.Unix(), "Description": of.Description,
		"Enabled": !of.disabled, "KeyState": state, "KeyManager": "CUSTOMER", "KeySpec": of.Spec, "CustomerMasterKeySpec": of.Spec,
		"KeyUsage": of.usage(), "Origin": "AWS_KMS", "MultiRegion": false,
	}
	if of.Spec == Symmetric {
		about["EncryptionAlgorithms"] = []string{"SYMMETRIC_DEFAULT"}
	} else {
		about["SigningAlgorithms"] = signingAlgorithms[of.Spec]
	}
	return map[string]any{"KeyMetadata": about}, nil
}

func (k *Keys) rotation(of key, _ input) (map[string]any, *call.Failure) {
	if of.Spec != Symmetric {
		return nil, call.Refuse("UnsupportedOperationException", "%s is of a kind that does not rotate", of.arn)
	}
	out := map[string]any{"KeyId": of.arn, "KeyRotationEnabled": of.Rotation}
	if of.Rotation {
		out["RotationPeriodInDays"] = of.RotationDays
	}
	return out, nil
}

func (k *Keys) getPolicy(of key, in input) (map[string]any, *call.Failure) {
	if in.PolicyName != "" && in.PolicyName != "default" {
		return nil, call.Refuse("NotFoundException", "No such policy exists")
	}
	return map[string]any{"Policy": of.Policy, "PolicyName": "default"}, nil
}

func (k *Keys) listPolicies(key, input) (map[string]any, *call.Failure) {
	return map[string]any{"PolicyNames": []string{"default"}, "Truncated": false}, nil
}

// listGrants: nothing makes grants, so there is none.
func (k *Keys) listGrants(key, input) (map[string]any, *call.Failure) {
	return map[string]any{"Grants": []string{}, "Truncated": false}, nil
}

func (k *Keys) listAliases(_ key, in input) (map[string]any, *call.Failure) {
	k.mu.Lock()
	defer k.mu.Unlock()
	aliases := []map[string]any{}
	for _, arn := range slices.Sorted(maps.Keys(k.keys)) {
		for _, alias := range k.keys[arn].Aliases {
			if in.KeyID == "" || in.KeyID == arn {
				aliases = append(aliases, map[string]any{
					"AliasName": alias, "AliasArn": "arn:aws:kms:" + k.region + ":" + k.account + ":" + alias, "TargetKeyId": k.keys[arn].ID,
				})
			}
		}
	}
	return map[string]any{"Aliases": aliases, "Truncated": false}, nil
}

func spki(public any) ([]byte, error) { return x509.MarshalPKIXPublicKey(public) }
