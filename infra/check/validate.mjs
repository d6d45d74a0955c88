// Runs @aws/cloudformation-validate over templates and prints what it found,
// one finding a line: TOOL TAB RULE TAB TEMPLATE TAB RESOURCE TAB message.
//
//   node validate.mjs FOLDER-OF-THE-PACKAGES template.yaml...
import { createRequire } from 'node:module'
import { basename } from 'node:path'
import { pathToFileURL } from 'node:url'

const [packages, ...files] = process.argv.slice(2)
const inside = createRequire(createRequire(pathToFileURL(packages + '/')).resolve('aws-cdk-lib/package.json'))
const { CompositeEngine, TemplateFile } = inside('@aws/cloudformation-validate')

const engine = new CompositeEngine()
const rules = engine.listRules().length
if (rules < 100) throw new Error(`only ${rules} rules`)
for (const file of files) {
  const report = engine.validateTemplate(new TemplateFile(file))
  for (const d of report.diagnostics) {
    const where = d.entity?.logicalId ?? d.entity?.name ?? d.entity?.id ?? '-'
    console.log(['validate', `${d.ruleId}/${d.severity}`, basename(file), where, d.message.replace(/\s+/g, ' ')].join('\t'))
  }
}
console.error(`cloudformation-validate: ${rules} rules over ${files.length} templates`)
engine.free()
