// Compares package stack's decisions with those of @cloud-copilot/iam-simulate,
// somebody else's implementation of AWS's evaluation (AGPL: a test tool that
// runs beside, nothing of it goes anywhere).
//
//   node simulate.mjs FOLDER-OF-THE-PACKAGES requests.json
//
// It fails when one decision differs, when the simulator cannot judge a request
// that is not listed below, and when it says that it left a condition key out:
// a comparison that looked away would compare nothing.
import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { pathToFileURL } from 'node:url'

const [packages, file] = process.argv.slice(2)
const require = createRequire(pathToFileURL(packages + '/'))
const { runSimulation } = await import(pathToFileURL(require.resolve('@cloud-copilot/iam-simulate')).href)
const input = JSON.parse(readFileSync(file, 'utf8'))

// Keys that the simulator does not know for an action get, in policies and
// requests alike, a name that it knows and nobody uses: the same comparison
// under another name. kms:EncryptionContext:NAME it would drop in silence;
// lambda:SourceFunctionArn stands in AWS's developer guide but not in its
// reference; what a session says of itself (s3's keys are per action).
const renamed = key =>
  key.startsWith('kms:EncryptionContext:') ? 'aws:PrincipalTag/context-' + key.slice('kms:EncryptionContext:'.length)
  : key === 'lambda:SourceFunctionArn' ? 'aws:PrincipalTag/source-function'
  : key

const conditions = block => Object.fromEntries(Object.entries(block).map(([operator, keys]) => {
  const out = Object.fromEntries(Object.entries(keys).map(([key, v]) => [renamed(key), v]))
  return [operator, out]
}))

// A tag is a text, so what compared ARNs compares text with the same pattern:
// ours has no * before its last colon.
const textual = block => {
  for (const [from, to] of [['ArnNotLike', 'StringNotLike']]) {
    const keys = block[from]
    if (keys && Object.keys(keys).some(k => k.startsWith('aws:PrincipalTag/'))) {
      block[to] = { ...block[to], ...keys }
      delete block[from]
    }
  }
  return block
}

const policy = text => ({
  ...text,
  Statement: text.Statement.map(s => s.Condition ? { ...s, Condition: textual(conditions(s.Condition)) } : s)
})

const identities = Object.fromEntries(Object.entries(input.identities).map(([role, one]) => [role, {
  policies: one.policies.map((p, i) => ({ name: `${role}-${i}`, policy: policy(p) })),
  boundary: one.boundary && [{ name: 'boundary', policy: policy(one.boundary) }]
}]))
const guards = Object.fromEntries(Object.entries(input.guards).map(([arn, p]) => [arn, policy(p)]))

// Actions that the simulator cannot judge: newer than its lists, or ambiguous.
const unknown = new Set(['kms:Decapsulate', 'kms:Encapsulate',
  // It finds two types of resources for an alias and takes neither.
  'lambda:DeleteProvisionedConcurrencyConfig', 'lambda:GetProvisionedConcurrencyConfig', 'lambda:PutProvisionedConcurrencyConfig'])

// A key that is not ours has the policy that AWS gives to keys made without
// one: package stack, which does not know it, takes the same to be true.
const defaultKey = {
  Version: '2012-10-17',
  Statement: [{ Effect: 'Allow', Principal: { AWS: `arn:aws:iam::${input.account}:root` }, Action: 'kms:*', Resource: '*' }]
}

const several = new Set(['kms:EncryptionContextKeys', 'dynamodb:LeadingKeys'])
const count = { same: 0, allowed: 0, unknown: 0 }
const wrong = []

for (const r of input.requests) {
  if (unknown.has(r.action)) { count.unknown++; continue }
  const role = identities[r.role]
  const context = {}
  for (const [key, values] of Object.entries(r.context)) {
    context[renamed(key)] = several.has(key) ? values : values[0]
  }
  const arn = `arn:aws:iam::${input.account}:role/${input.name}-${r.role}`
  context['aws:PrincipalArn'] = arn
  context['aws:PrincipalAccount'] = input.account
  context['aws:PrincipalIsAWSService'] = 'false'
  context['aws:ViaAWSService'] = 'false'
  context['aws:SecureTransport'] ??= 'true'
  context['aws:RequestedRegion'] ??= input.region
  const simulation = {
    request: {
      principal: `arn:aws:sts::${input.account}:assumed-role/${input.name}-${r.role}/session`,
      action: r.action,
      resource: { resource: r.resource, accountId: input.account },
      contextVariables: context
    },
    identityPolicies: role.policies,
    serviceControlPolicies: [],
    resourceControlPolicies: [],
    resourcePolicy: r.guard ? guards[r.guard] : r.resource.includes(':key/') && r.action.startsWith('kms:') ? defaultKey : undefined,
    permissionBoundaryPolicies: role.boundary
  }
  const says = what => wrong.push(`${r.role} ${r.action} ${r.resource} ${JSON.stringify(r.context)}: ${what}`)
  const out = await runSimulation(simulation, {})
  if (out.resultType === 'error') { says('error ' + JSON.stringify(out.errors)); continue }
  const ignored = out.resultType === 'single' ? out.result.ignoredContextKeys ?? [] : out.results.flatMap(x => x.ignoredContextKeys ?? [])
  if (ignored.length) { says('left out: ' + ignored.join(', ')); continue }
  const allowed = out.overallResult === 'Allowed'
  if (allowed !== r.allowed) { says(`we say ${r.allowed}, it says ${out.overallResult}`); continue }
  count.same++
  if (allowed) count.allowed++
}
for (const w of wrong.slice(0, 40)) console.log(w)
console.log(`iam-simulate: ${count.same} requests judged alike, ${count.allowed} of them allowed; ${wrong.length} not; ${count.unknown} of actions that it cannot judge`)
process.exit(wrong.length || count.same < 20000 || count.allowed < 1000 ? 1 : 0)
