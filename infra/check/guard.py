#!/usr/bin/env python3
"""Runs cfn-guard with AWS Control Tower's rules over templates and prints what
is not compliant, one finding a line: guard TAB RULE TAB TEMPLATE TAB RESOURCE
TAB message. The templates are those that package stack resolved: cfn-guard
does not resolve intrinsics and would judge an If by its shape.

    guard.py FOLDER-OF-THE-PACKAGE template.json...
"""
import json, pathlib, platform, re, stat, subprocess, sys

package = pathlib.Path(sys.argv[1]) / "node_modules" / "@cdklabs" / "cdk-validator-cfnguard"
system = {"Linux": "ubuntu", "Darwin": "macos"}[platform.system()]
machine = {"x86_64": "x86_64", "amd64": "x86_64", "aarch64": "aarch64", "arm64": "aarch64"}[platform.machine()]
binary = package / "bin" / system / machine / "cfn-guard"
binary.chmod(binary.stat().st_mode | stat.S_IXUSR)
rules = sorted((package / "rules" / "control-tower" / "cfn-guard").rglob("*.guard"))
if len(rules) < 200:
    sys.exit(f"cfn-guard: only {len(rules)} files of rules")
compliant = 0


def resources(check, out):
    """Collects the logical ids that a failed check names."""
    text = json.dumps(check)
    out.update(re.findall(r"/Resources/([A-Za-z0-9]+)/", text))


for name in sys.argv[2:]:
    # One call for each folder of rules: a call takes folders, not their parents.
    for folder in sorted({r.parent for r in rules}):
        done = subprocess.run([binary, "validate", "-d", name, "-r", folder, "-z", "-o", "json", "-S", "none"], capture_output=True, text=True)
        if done.returncode not in (0, 19):
            sys.exit(f"cfn-guard {folder.name} {name}: {done.returncode}: {done.stderr[:500]}")
        for report in json.loads(done.stdout):
            compliant += len(report.get("compliant", []))
            for rule in report.get("not_compliant", []):
                rule = rule["Rule"]
                found = set()
                resources(rule, found)
                text = re.search(r"\[(CT\.[A-Z0-9.]+)\]: ([^\\\n]*)", json.dumps(rule))
                code, says = text.groups() if text else (rule["name"], rule["name"])
                for where in sorted(found) or ["-"]:
                    print("guard", code, pathlib.Path(name).name, where, says.strip(), sep="\t")
print(f"cfn-guard: {len(rules)} files of rules over {len(sys.argv) - 2} templates, {compliant} times compliant", file=sys.stderr)
