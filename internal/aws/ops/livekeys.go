package ops

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"github.com/stakeseal/stakeseal/internal/aws/session"
)

// What is asked of KMS.
type (
	keyAPI interface {
		DescribeKey(context.Context, *kms.DescribeKeyInput, ...func(*kms.Options)) (*kms.DescribeKeyOutput, error)
		GetKeyPolicy(context.Context, *kms.GetKeyPolicyInput, ...func(*kms.Options)) (*kms.GetKeyPolicyOutput, error)
		GetKeyRotationStatus(context.Context, *kms.GetKeyRotationStatusInput, ...func(*kms.Options)) (*kms.GetKeyRotationStatusOutput, error)
	}
	grantAPI interface {
		ListGrants(context.Context, *kms.ListGrantsInput, ...func(*kms.Options)) (*kms.ListGrantsOutput, error)
	}
	decryptAPI interface {
		Decrypt(context.Context, *kms.DecryptInput, ...func(*kms.Options)) (*kms.DecryptOutput, error)
	}
)

// KMSReader is what examining and auditing need of KMS in one region.
type KMSReader interface {
	keyAPI
	grantAPI
	decryptAPI
}

// keyRole is what a key of the installation is for, and which roles may do
// what with it. What people may do beside (read its policy, its public key) is
// no concern of a guarantee.
type keyRole struct {
	name    string // signing
	spec    types.KeySpec
	usage   types.KeyUsageType
	context map[string]string // of a call that the openers make
	allowed []keyRight
}

// keyRight is a power over a key and the roles that may have it.
type keyRight struct {
	verb    string
	actions []string
	roles   []string
	gains   string
}

// The powers over a key. GenerateDataKey and GetParametersForImport open
// nothing that was sealed.
var (
	opening  = []string{"kms:Decrypt", "kms:ReEncryptFrom", "kms:Decapsulate", "kms:DeriveSharedSecret"}
	sealing  = []string{"kms:Encrypt", "kms:ReEncryptTo", "kms:GenerateDataKey", "kms:GenerateDataKeyWithoutPlaintext"}
	rewiring = []string{"kms:PutKeyPolicy", "kms:CreateGrant", "kms:ReplicateKey", "kms:ImportKeyMaterial", "kms:UpdatePrimaryRegion", "kms:SynchronizeMultiRegionKey"}
	breaking = []string{"kms:ScheduleKeyDeletion", "kms:DisableKey", "kms:DeleteImportedKeyMaterial"}
)

func (e *examination) keyRoles() map[string]keyRole {
	sealed := func(name, opener, subject string) keyRole {
		return keyRole{
			name: name, spec: types.KeySpecSymmetricDefault, usage: types.KeyUsageTypeEncryptDecrypt,
			context: map[string]string{"app": "stakeseal", "v": "1", "purpose": name, "network": "none", "order": "doctor", "index": "0", subject: strings.Repeat("0", 96)},
			allowed: []keyRight{
				{"opens", opening, []string{opener}, "every " + map[string]string{"signing": "signing key", "recovery": "mnemonic"}[name] + " whose sealed file they can read, which every reader of the table can"},
				{"seals", sealing, []string{"generator", "importer"}, "can seal things of their own to it; what was born here is what a certificate says"},
				{"changes its policy", rewiring, []string{"break-glass"}, "can give anybody the right to open"},
				{"can destroy it", breaking, []string{"break-glass"}, "can make every sealing to it worthless; the other recipients remain"},
			},
		}
	}
	roles := map[string]keyRole{}
	for _, key := range e.Signing {
		roles[key] = sealed("signing", "signer", "pubkey")
	}
	for _, key := range e.Recovery {
		roles[key] = sealed("recovery", "recovery", "mnemonic")
	}
	if e.Certifying != "" {
		roles[e.Certifying] = keyRole{
			name: "certifying", spec: types.KeySpecEccNistP256, usage: types.KeyUsageTypeSignVerify,
			allowed: []keyRight{
				{"signs", []string{"kms:Sign"}, []string{"generator"}, "can certify keys made elsewhere as if they were born here"},
				{"changes its policy", rewiring, []string{"break-glass"}, "can give anybody the right to certify"},
				{"can destroy it", breaking, []string{"break-glass"}, "can stop births; what was certified stays"},
			},
		}
	}
	return roles
}

func (e *examination) lookAtKeys(ctx context.Context) {
	roles := e.keyRoles()
	names := map[string]int{}
	for _, arn := range slices.Concat(e.Signing, e.Recovery, []string{e.Certifying}) {
		if arn == "" {
			continue
		}
		k := roles[arn]
		if names[k.name]++; names[k.name] > 1 {
			k.name = fmt.Sprintf("%s %d", k.name, names[k.name])
		}
		e.lookAtKey(ctx, arn, k)
	}
	if len(e.Signing) == 0 {
		e.check("key signing", "", "").add(Warning, "signing secrets are not sealed to a KMS key: who can open them is not AWS's to say")
	}
	if len(e.Recovery) == 0 {
		e.check("key recovery", "", "").add(OK, "mnemonics are not sealed to a KMS key: they open with their holders' identities only")
	}
}

func (e *examination) lookAtKey(ctx context.Context, arn string, k keyRole) {
	client := e.keys(arn)
	c := e.check("key "+k.name, "can make every sealing to it worthless, or bring other material under its name", "only the break-glass role can have done this: find the session in the trail, and who held it")
	out, err := client.DescribeKey(ctx, &kms.DescribeKeyInput{KeyId: &arn})
	if absent(err, "NotFoundException") {
		c.add(Changed, "the key %s does not exist any more: nothing that was sealed to it opens", arn)
		return
	}
	if c.seen("kms:DescribeKey", err) {
		m := out.KeyMetadata
		if m == nil {
			m = &types.KeyMetadata{}
		}
		pending := ""
		if m.DeletionDate != nil {
			pending = ", and is deleted on " + m.DeletionDate.UTC().Format("2006-01-02")
		}
		c.want(m.KeyState == types.KeyStateEnabled && m.Enabled, "it is %s%s", m.KeyState, pending)
		c.want(m.KeySpec == k.spec && m.KeyUsage == k.usage, "it is a key %s for %s, not %s for %s", m.KeySpec, m.KeyUsage, k.spec, k.usage)
		c.want(m.Origin == types.OriginTypeAwsKms, "its material comes from %s: somebody else may have a copy", m.Origin)
		c.want(!aws.ToBool(m.MultiRegion), "it is a multi-Region key: its material can be copied to where another policy guards it")
		c.want(m.CustomKeyStoreId == nil && m.XksKeyConfiguration == nil, "it is kept in a key store of somebody's own")
		if k.spec == types.KeySpecSymmetricDefault {
			e.lookAtRotation(ctx, c, client, arn)
		}
		c.ok("enabled, %s, made in KMS, in one region: %s", k.spec, arn)
	}
	e.lookAtGrants(ctx, client, arn, k)
	policy := e.lookAtKeyPolicy(ctx, client, arn, k)
	if k.context != nil && e.TryOpening {
		e.tryDecrypt(ctx, client, arn, k, policy)
	}
}

// lookAtRotation compares with the template: yearly rotation costs a dollar a
// month for each of the first two, and old material keeps opening either way.
func (e *examination) lookAtRotation(ctx context.Context, c *check, client keyAPI, arn string) {
	want, known := e.stacks.one("AWS::KMS::Key", keyID(arn))
	if !known {
		return
	}
	got, err := client.GetKeyRotationStatus(ctx, &kms.GetKeyRotationStatusInput{KeyId: &arn})
	if c.seen("kms:GetKeyRotationStatus", err) {
		asked := loosely(want.Properties["EnableKeyRotation"]) == "true"
		c.want(got.KeyRotationEnabled == asked, "yearly rotation is %s, by the template %s", onOff(got.KeyRotationEnabled), onOff(asked))
	}
}

func onOff(on bool) string {
	if on {
		return "on"
	}
	return "off"
}

// keys is the client for a key's region.
func (e *examination) keys(key string) KMSReader {
	return e.KMS(strings.SplitN(key, ":", 6)[3])
}

func keyID(arn string) string {
	_, id, _ := strings.Cut(arn, ":key/")
	return id
}

func (e *examination) lookAtGrants(ctx context.Context, client grantAPI, arn string, k keyRole) {
	c := e.check("key "+k.name+" grants", k.allowed[0].gains, "revoke it with the break-glass role, and find in the trail what it was used for: stakeseal audit")
	n := 0
	err := pages(func(next *string) (*string, error) {
		out, err := client.ListGrants(ctx, &kms.ListGrantsInput{KeyId: &arn, Marker: next})
		if err != nil {
			return nil, err
		}
		for _, g := range out.Grants {
			n++
			to := aws.ToString(g.GranteePrincipal)
			if to == "" {
				to = aws.ToString(g.GranteeServicePrincipal)
			}
			c.add(Changed, "a grant of %s lets %s %s (grant %s)", when(g.CreationDate), e.short(to), join(g.Operations), aws.ToString(g.GrantId))
		}
		if !out.Truncated {
			return nil, nil
		}
		return out.NextMarker, nil
	})
	if c.seen("kms:ListGrants", err) {
		c.ok("none")
	}
}

func (e *examination) lookAtKeyPolicy(ctx context.Context, client keyAPI, arn string, k keyRole) *policyDocument {
	c := e.check("key "+k.name+" policy", k.allowed[0].gains, "put the template's policy back with the break-glass role; what was opened meanwhile is in the trail: stakeseal audit")
	out, err := client.GetKeyPolicy(ctx, &kms.GetKeyPolicyInput{KeyId: &arn, PolicyName: aws.String("default")})
	if !c.seen("kms:GetKeyPolicy", err) {
		return nil
	}
	policy, err := parsePolicy(aws.ToString(out.Policy))
	if err != nil {
		c.add(Changed, "%v: look at it by hand", err)
		return nil
	}
	if want, known := e.stacks.one("AWS::KMS::Key", keyID(arn)); known {
		e.compareDocument(c, policy, want.Properties["KeyPolicy"])
		c.ok("as in the template, to the letter")
	} else {
		e.lookForDenials(c, policy, arn, k)
	}
	for _, right := range k.allowed {
		c := e.check("key "+k.name+" "+right.verb, right.gains, c.hint)
		var may []string
		for _, action := range right.actions {
			for _, g := range policy.grantees(action, arn, k.certain()) {
				expected := slices.ContainsFunc(right.roles, func(role string) bool { return g.principal == e.Role(role) })
				switch {
				case wholeAccount(g.principal):
					c.add(Changed, "%s: %s gives %s to the whole account, so any IAM policy can hand it out", arn, g.statement, action)
				case !expected:
					c.add(Changed, "%s may %s (%s%s)", e.short(g.principal), action, g.statement, ifUnder(g.under))
				default:
					if name := e.short(g.principal); !slices.Contains(may, name) {
						may = append(may, name)
					}
				}
			}
		}
		slices.Sort(may)
		if may == nil {
			may = []string{"nobody"}
		}
		c.ok("%s", strings.Join(may, ", "))
	}
	return policy
}

// certain is what every call has in its encryption context. Its network, order
// and index are another with each call: an Allow under a condition on them is
// one all the same.
func (k keyRole) certain() map[string]string {
	if k.context == nil {
		return nil
	}
	return map[string]string{"app": k.context["app"], "v": k.context["v"], "purpose": k.context["purpose"]}
}

// lookForDenials wants, where no template says the whole policy, the two
// denials by which a key stays one role's whatever else is allowed: that nobody
// else opens, and that there is no detour.
func (e *examination) lookForDenials(c *check, policy *policyDocument, arn string, k keyRole) {
	detours := []string{"kms:CreateGrant", "kms:ReplicateKey"}
	if k.spec == types.KeySpecSymmetricDefault {
		// Somebody of no role here stands for everybody.
		c.want(policy.denied("kms:Decrypt", arn, e.resource("iam", "role/somebody")), "no statement denies kms:Decrypt to everybody but its opener: another Allow would be enough")
		detours = append(detours, "kms:ReEncryptFrom", "kms:ReEncryptTo")
	}
	for _, action := range detours {
		c.want(policy.denied(action, arn, e.Role("break-glass")), "no statement denies %s to everybody: it would open or lend the key by a detour", action)
	}
}

func ifUnder(under string) string {
	if under == "" {
		return ""
	}
	return ", if " + under
}

// tryDecrypt asks KMS itself whether this caller may open: a dry run, which
// looks at rights alone and needs no ciphertext. KMS answers for the caller
// only, and nobody may become the generator: that the generator is denied
// follows from the policy above, which alone decides, and is confirmed from
// the other side by IAM's simulator. A denial rings the alarm for refused
// openings, so it is done where it was asked for.
func (e *examination) tryDecrypt(ctx context.Context, client decryptAPI, arn string, k keyRole, policy *policyDocument) {
	c := e.check("key "+k.name+" dry run", k.allowed[0].gains, "the policy that this program read is not all that decides: look for grants, and ask AWS")
	opener := k.allowed[0].roles[0]
	expected := e.Caller.Role == e.Name+"-"+opener
	_, err := client.Decrypt(ctx, &kms.DecryptInput{
		KeyId: &arn, DryRun: aws.Bool(true), DryRunModifiers: []types.DryRunModifierType{types.DryRunModifierTypeIgnoreCiphertext},
		EncryptionContext: k.context, EncryptionAlgorithm: types.EncryptionAlgorithmSpecSymmetricDefault,
	})
	who := e.Caller.Role
	if who == "" {
		who = e.Caller.ARN
	}
	switch {
	case err == nil:
		c.seen("kms:Decrypt", session.Malformed("kms:Decrypt", "", "it did not take the call for a dry run"))
	case absent(err, "DryRunOperationException"):
		c.want(expected, "KMS would let %s open, who runs this", who)
		c.ok("KMS would let %s open, whose right that is", who)
	case absent(err, "AccessDeniedException"):
		under := ""
		if policy != nil {
			under = policy.asks("kms:Decrypt", arn)
		}
		switch {
		case expected && under != "": // such as an enclave's right, which cannot be shown from outside of it
			c.add(Warning, "KMS denies it to %s here and now; the policy asks for more: %s", who, under)
		case expected:
			c.add(Changed, "KMS denies it to %s, whose right it is: what is sealed to this key cannot be opened", who)
		default:
			c.ok("KMS denies it to %s, who runs this; nobody can ask in the generator's name", who)
		}
	default:
		c.seen("kms:Decrypt", err)
	}
}
