package awstest

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
)

const (
	contentType = "application/x-amz-json-1.1"
	service     = "TrentService."
	maxBody     = 64 << 10
	maxPlain    = 4096 // of Encrypt, and of Sign's RAW messages
	maxContext  = 8192
)

// failure is an error as AWS answers it.
type failure struct {
	status        int
	code, message string
}

func refuse(code, format string, args ...any) *failure {
	return &failure{http.StatusBadRequest, code, fmt.Sprintf(format, args...)}
}

// input has the fields of the requests that the fake knows; others (DryRun,
// GrantTokens, Recipient) are refused.
type input struct {
	KeyID               string `json:"KeyId"`
	Plaintext           []byte
	CiphertextBlob      []byte
	EncryptionContext   map[string]string
	EncryptionAlgorithm string
	Message             []byte
	MessageType         string
	SigningAlgorithm    string
}

var operations = map[string]func(*KMS, *key, input) (map[string]any, *failure){
	"Encrypt":      (*KMS).encrypt,
	"Decrypt":      (*KMS).decrypt,
	"Sign":         (*KMS).sign,
	"GetPublicKey": (*KMS).getPublicKey,
}

// ServeHTTP answers one call.
func (k *KMS) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	k.mu.Lock()
	defer k.mu.Unlock()
	body, err := io.ReadAll(io.LimitReader(r.Body, maxBody+1))
	if err != nil {
		return
	}
	e := Event{RequestID: uuid()}
	w.Header().Set("X-Amzn-Requestid", e.RequestID)
	w.Header().Set("Content-Type", contentType)

	if len(k.faults) > 0 {
		f := k.faults[0]
		k.faults = k.faults[1:]
		e.Action, e.Error = strings.TrimPrefix(r.Header.Get("X-Amz-Target"), service), "fault"
		k.trail = append(k.trail, e)
		k.answerFault(w, f)
		return
	}

	answer, refused := k.handle(r, body, &e)
	if refused != nil {
		e.Error = refused.code
	}
	k.trail = append(k.trail, e)
	if refused != nil {
		writeJSON(w, refused.status, map[string]any{"__type": refused.code, "message": refused.message})
		return
	}
	if k.tamper != nil {
		k.tamper(e.Action, answer)
	}
	writeJSON(w, http.StatusOK, answer)
}

func (k *KMS) answerFault(w http.ResponseWriter, f Fault) {
	if f.Status == 0 {
		panic(http.ErrAbortHandler) // closes the connection, the deferred unlock runs
	}
	maps.Copy(w.Header(), f.Header)
	if f.Code == "" {
		w.Header().Set("Content-Type", "text/html")
		w.WriteHeader(f.Status)
		_, _ = io.WriteString(w, "<html>"+f.Message+"</html>")
		return
	}
	writeJSON(w, f.Status, map[string]any{"__type": f.Code, "message": f.Message})
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v)
}

func (k *KMS) handle(r *http.Request, body []byte, e *Event) (map[string]any, *failure) {
	e.Action = strings.TrimPrefix(r.Header.Get("X-Amz-Target"), service)
	if len(body) > maxBody {
		return nil, refuse("ValidationException", "request too large")
	}
	caller, refused := k.authenticate(r, body)
	if refused != nil {
		return nil, refused
	}
	e.Role = caller.role
	do := operations[e.Action]
	if r.Method != http.MethodPost || r.URL.Path != "/" || !strings.HasPrefix(r.Header.Get("X-Amz-Target"), service) || do == nil {
		return nil, refuse("UnknownOperationException", "this fake does not know %s %s, target %q", r.Method, r.URL.Path, r.Header.Get("X-Amz-Target"))
	}
	if r.Header.Get("Content-Type") != contentType {
		return nil, refuse("SerializationException", "content type %q", r.Header.Get("Content-Type"))
	}
	var in input
	dec := json.NewDecoder(bytes.NewReader(body))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&in); err != nil {
		return nil, refuse("SerializationException", "%v", err)
	}
	e.Key, e.Context = in.KeyID, maps.Clone(in.EncryptionContext)
	size := 0
	for name, value := range in.EncryptionContext {
		size += len(name) + len(value)
	}
	if size > maxContext {
		return nil, refuse("ValidationException", "the encryption context is too large")
	}
	if in.KeyID == "" {
		// KMS would take the key that a ciphertext names.
		return nil, refuse("ValidationException", "this fake wants the key named in every call")
	}
	named := k.keys[in.KeyID]
	if named == nil {
		return nil, refuse("NotFoundException", "Key '%s' does not exist", in.KeyID)
	}
	ok, why := named.policy.allows(request{
		action: "kms:" + e.Action, principal: caller.role,
		context: in.EncryptionContext, single: conditionsOf(e.Action, caller.role, in),
		multi: map[string][]string{"kms:EncryptionContextKeys": slices.Sorted(maps.Keys(in.EncryptionContext))},
	})
	if !ok {
		return nil, refuse("AccessDeniedException", "User: %s is not authorized to perform: kms:%s on resource: %s %s", caller.role, e.Action, named.arn, why)
	}
	if named.disabled {
		return nil, refuse("DisabledException", "%s is disabled.", named.arn)
	}
	return do(k, named, in)
}

func conditionsOf(action, role string, in input) map[string]string {
	single := map[string]string{"aws:PrincipalArn": role, "kms:CallerAccount": Account}
	switch action {
	case "Encrypt", "Decrypt":
		single["kms:EncryptionAlgorithm"] = "SYMMETRIC_DEFAULT"
	case "Sign":
		single["kms:MessageType"], single["kms:SigningAlgorithm"] = in.MessageType, in.SigningAlgorithm
	}
	return single
}

// aad is the encryption context in one spelling: each name and value behind
// its length, in the order of the names.
func aad(context map[string]string) []byte {
	var b []byte
	for _, name := range slices.Sorted(maps.Keys(context)) {
		for _, s := range []string{name, context[name]} {
			b = append(binary.BigEndian.AppendUint32(b, uint32(len(s))), s...)
		}
	}
	return b
}

// A ciphertext is the length and text of its key's ARN, a nonce and a box.
func (k *KMS) encrypt(by *key, in input) (map[string]any, *failure) {
	if by.spec != Symmetric || in.EncryptionAlgorithm != string(Symmetric) {
		return nil, refuse("InvalidKeyUsageException", "%s is for %s, not for %q", by.arn, by.spec, in.EncryptionAlgorithm)
	}
	if n := len(in.Plaintext); n == 0 || n > maxPlain || in.CiphertextBlob != nil || in.Message != nil {
		return nil, refuse("ValidationException", "a plaintext of %d bytes, not 1 to %d", n, maxPlain)
	}
	nonce := random(by.aead.NonceSize())
	blob := append([]byte{byte(len(by.arn))}, by.arn...)
	blob = by.aead.Seal(append(blob, nonce...), nonce, in.Plaintext, aad(in.EncryptionContext))
	return map[string]any{"CiphertextBlob": blob, "KeyId": by.arn, "EncryptionAlgorithm": by.spec}, nil
}

func (k *KMS) decrypt(by *key, in input) (map[string]any, *failure) {
	if by.spec != Symmetric || in.EncryptionAlgorithm != string(Symmetric) {
		return nil, refuse("InvalidKeyUsageException", "%s is for %s, not for %q", by.arn, by.spec, in.EncryptionAlgorithm)
	}
	if in.Plaintext != nil || in.Message != nil {
		return nil, refuse("ValidationException", "Decrypt takes a ciphertext")
	}
	blob := in.CiphertextBlob
	if len(blob) < 1 || len(blob) < 1+int(blob[0])+by.aead.NonceSize() {
		return nil, refuse("InvalidCiphertextException", "")
	}
	name, rest := string(blob[1:1+blob[0]]), blob[1+blob[0]:]
	if name != by.arn {
		if k.keys[name] == nil {
			return nil, refuse("InvalidCiphertextException", "")
		}
		return nil, refuse("IncorrectKeyException", "The key ID in the request does not identify a CMK that can perform this operation.")
	}
	plain, err := by.aead.Open(nil, rest[:by.aead.NonceSize()], rest[by.aead.NonceSize():], aad(in.EncryptionContext))
	if err != nil {
		return nil, refuse("InvalidCiphertextException", "")
	}
	return map[string]any{"Plaintext": plain, "KeyId": by.arn, "EncryptionAlgorithm": by.spec}, nil
}

func (k *KMS) sign(by *key, in input) (map[string]any, *failure) {
	if by.spec != P256 || in.SigningAlgorithm != "ECDSA_SHA_256" {
		return nil, refuse("InvalidKeyUsageException", "%s (%s) does not sign with %q", by.arn, by.spec, in.SigningAlgorithm)
	}
	if in.EncryptionContext != nil || in.Plaintext != nil || in.CiphertextBlob != nil {
		return nil, refuse("ValidationException", "Sign has no encryption context") // the real one has no such parameter
	}
	digest := in.Message
	switch {
	case in.MessageType == "DIGEST" && len(in.Message) == sha256.Size:
	case in.MessageType == "RAW" && len(in.Message) > 0 && len(in.Message) <= maxPlain:
		sum := sha256.Sum256(in.Message)
		digest = sum[:]
	default:
		return nil, refuse("ValidationException", "a message of type %q and %d bytes", in.MessageType, len(in.Message))
	}
	sig, err := ecdsa.SignASN1(rand.Reader, by.private, digest)
	if err != nil {
		return nil, &failure{http.StatusInternalServerError, "KMSInternalException", err.Error()}
	}
	return map[string]any{"KeyId": by.arn, "Signature": sig, "SigningAlgorithm": in.SigningAlgorithm}, nil
}

func (k *KMS) getPublicKey(of *key, in input) (map[string]any, *failure) {
	if of.public == nil {
		return nil, refuse("UnsupportedOperationException", "%s has no public key", of.arn)
	}
	algorithms := map[Spec][]string{P256: {"ECDSA_SHA_256"}, P384: {"ECDSA_SHA_384"}, RSA2048: {"RSASSA_PSS_SHA_256"}}
	return map[string]any{
		"KeyId": of.arn, "KeySpec": of.spec, "CustomerMasterKeySpec": of.spec, "KeyUsage": "SIGN_VERIFY",
		"PublicKey": of.public, "SigningAlgorithms": algorithms[of.spec],
	}, nil
}

func spki(public crypto.PublicKey) ([]byte, error) { return x509.MarshalPKIXPublicKey(public) }

func rsaPublicKey() ([]byte, error) {
	private, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return nil, errors.Join(errors.New("couldn't make an RSA key"), err)
	}
	return spki(private.Public())
}
