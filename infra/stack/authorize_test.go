package stack_test

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/stakeseal/stakeseal/infra/stack"
	"github.com/stakeseal/stakeseal/seal"
)

// encryption is what a call with the context of a binding carries.
func encryption(b seal.Binding) map[string][]string {
	c := map[string][]string{"kms:EncryptionAlgorithm": {"SYMMETRIC_DEFAULT"}}
	facts := b.Context()
	for name, value := range facts {
		c["kms:EncryptionContext:"+name] = []string{value}
	}
	c["kms:EncryptionContextKeys"] = slices.Sorted(maps.Keys(facts))
	return c
}

func with(c map[string][]string, more ...string) map[string][]string {
	out := maps.Clone(c)
	if out == nil {
		out = map[string][]string{}
	}
	for i := 0; i < len(more); i += 2 {
		if more[i+1] == "" {
			delete(out, more[i])
		} else {
			out[more[i]] = []string{more[i+1]}
		}
	}
	return out
}

var (
	signing  = encryption(seal.Binding{Purpose: seal.Signing, Network: "hoodi", Order: "o-1", Index: "3", Subject: "9612d7a727c9d0a22e185a1c768478dfe919cada9266988cb32359c11f2b7b27f4ae4040902382ae2910c15e2b420d07"})
	recovery = encryption(seal.Binding{Purpose: seal.Recovery, Network: "hoodi", Order: "o-1", Subject: "m-0123456789abcdef"})
)

// inFunction is what every call of the function's code carries.
func inFunction(in *stack.Installation, c map[string][]string) map[string][]string {
	return with(c, "lambda:SourceFunctionArn", in.Outputs["function"]["FunctionArn"])
}

func TestSealAndOpen(t *testing.T) {
	in := deploy(t)
	out := in.Outputs["foundation"]
	signingKey, recoveryKey, certifying := out["SigningKeyArn"], out["RecoveryKeyArn"], out["CertifyingKeyArn"]
	digest := map[string][]string{"kms:MessageType": {"DIGEST"}, "kms:SigningAlgorithm": {"ECDSA_SHA_256"}}
	for _, c := range []struct {
		role, action, resource string
		context                map[string][]string
		want                   bool
	}{
		{"generator", "kms:Encrypt", signingKey, inFunction(in, signing), true},
		{"generator", "kms:Encrypt", recoveryKey, inFunction(in, recovery), true},
		{"generator", "kms:Encrypt", signingKey, signing, false},
		{"generator", "kms:Encrypt", signingKey, inFunction(in, recovery), false},
		{"generator", "kms:Encrypt", recoveryKey, inFunction(in, signing), false},
		{"generator", "kms:Encrypt", signingKey, inFunction(in, nil), false},
		{"generator", "kms:Encrypt", signingKey, inFunction(in, with(signing, "kms:EncryptionContext:pubkey", "")), false},
		{"generator", "kms:Decrypt", signingKey, inFunction(in, signing), false},
		{"generator", "kms:Sign", certifying, inFunction(in, digest), true},
		{"generator", "kms:Sign", certifying, inFunction(in, with(digest, "kms:MessageType", "RAW")), false},
		{"generator", "kms:GetPublicKey", certifying, inFunction(in, nil), true},
		{"signer", "kms:Decrypt", signingKey, signing, true},
		{"signer", "kms:Decrypt", signingKey, recovery, false},
		{"signer", "kms:Decrypt", recoveryKey, recovery, false},
		{"recovery", "kms:Decrypt", recoveryKey, recovery, true}, // a role's session says nothing of a second factor
		{"recovery", "kms:Decrypt", signingKey, signing, false},
		{"break-glass", "kms:Decrypt", signingKey, signing, false},
		{"break-glass", "kms:PutKeyPolicy", signingKey, nil, true},
		{"break-glass", "kms:CreateGrant", signingKey, nil, false},
		{"administrator", "kms:PutKeyPolicy", signingKey, nil, false},
	} {
		d, err := in.Authorize(stack.Request{Principal: in.RoleARN(c.role), Action: c.action, Resource: c.resource, Context: c.context})
		if err != nil {
			t.Fatal(err)
		}
		if d.Allowed != c.want {
			t.Errorf("%s %s %s %v: %+v", c.role, c.action, c.resource, c.context, d)
		}
	}
}

// What Authorize does not know is an error and not a no.
func TestUnknownRequests(t *testing.T) {
	in := deploy(t)
	key := in.Outputs["foundation"]["SigningKeyArn"]
	for name, r := range map[string]stack.Request{
		"an action":        {Principal: in.RoleARN("signer"), Action: "kms:Open", Resource: key},
		"a condition key":  {Principal: in.RoleARN("signer"), Action: "kms:Decrypt", Resource: key, Context: map[string][]string{"kms:Purpose": {"signing"}}},
		"a role":           {Principal: in.RoleARN("nobody"), Action: "kms:Decrypt", Resource: key},
		"an optional role": {Principal: in.RoleARN("importer"), Action: "kms:Encrypt", Resource: key},
	} {
		if d, err := in.Authorize(r); err == nil {
			t.Errorf("%s: %+v", name, d)
		}
	}
}

// How the documents of several places add up.
func TestAuthorize(t *testing.T) {
	in := deploy(t)
	foreign := "arn:aws:iam::999999999999:role/x"
	bucket := in.Outputs["foundation"]["ArchiveBucketArn"]
	for _, c := range []struct {
		name, principal, action, resource string
		context                           map[string][]string
		want                              bool
		why                               string
	}{
		{"a role's policy", in.RoleARN("auditor"), "s3:GetObject", bucket + "/x", nil, true, "the role's policy"},
		{"no policy", in.RoleARN("developer"), "s3:GetObject", bucket + "/x", nil, false, "no policy"},
		{"the resource denies", in.RoleARN("auditor"), "s3:GetObject", bucket + "/x", map[string][]string{"aws:SecureTransport": {"false"}}, false, "TLSOnly"},
		{"of whatever object", in.RoleARN("auditor"), "s3:GetObject", bucket + "/x:role/y", map[string][]string{"aws:SecureTransport": {"false"}}, false, "TLSOnly"},
		{"the boundary denies", in.RoleARN("requester"), "lambda:InvokeFunction", in.Outputs["function"]["FunctionArn"], nil, false, "OnlyTheAliasIsCalled"},
		{"a key decides alone", in.RoleARN("break-glass"), "kms:Decrypt", in.Outputs["foundation"]["SigningKeyArn"], nil, false, "NobodyElseOpens"},
		{"and where it says nothing, nobody may", in.RoleARN("break-glass"), "kms:GenerateMac", in.Outputs["foundation"]["SigningKeyArn"], nil, false, "decides alone"},
		{"another account has nothing", foreign, "s3:GetObject", bucket + "/x", nil, false, "another account"},
		{"nor a key", foreign, "kms:DescribeKey", in.Outputs["foundation"]["SigningKeyArn"], nil, false, "decides alone"},
		{"a service takes the generator's role", "lambda.amazonaws.com", "sts:AssumeRole", in.RoleARN("generator"), nil, true, "LambdaOnly"},
		{"the installation's region, where none is said", in.RoleARN("break-glass"), "lambda:GetFunction", in.Outputs["function"]["FunctionArn"], nil, true, "Installs"},
		{"and another where it is", in.RoleARN("break-glass"), "lambda:GetFunction", in.Outputs["function"]["FunctionArn"], map[string][]string{"aws:RequestedRegion": {"eu-west-3"}}, false, "no policy"},
		{"another does not", "ec2.amazonaws.com", "sts:AssumeRole", in.RoleARN("generator"), nil, false, "decides alone"},
		{"a role's trust is about taking it", in.RoleARN("auditor"), "iam:GetRole", in.RoleARN("generator"), nil, true, "the role's policy"},
	} {
		d, err := in.Authorize(stack.Request{Principal: c.principal, Action: c.action, Resource: c.resource, Context: c.context})
		if err != nil || d.Allowed != c.want || !strings.Contains(d.Why, c.why) {
			t.Errorf("%s: %+v, %v", c.name, d, err)
		}
	}
}
