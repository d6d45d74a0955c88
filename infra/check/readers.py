#!/usr/bin/env python3
"""Compares how two readers of YAML understand the templates: ours (goccy, as
templates.json has it) and PyYAML with cfn-lint's loader. What one reads
otherwise than the other, CloudFormation could read otherwise than we prove.

    readers.py templates.json FOLDER-OF-TEMPLATES
"""
import json, pathlib, sys

import cfnlint.decode.cfn_yaml


def plain(v):
    if isinstance(v, dict):
        return {str(k): plain(x) for k, x in v.items()}
    if isinstance(v, list):
        return [plain(x) for x in v]
    if isinstance(v, bool):
        return bool(v)
    return str(v)


ours = json.loads(pathlib.Path(sys.argv[1]).read_text())
wrong = 0


def compare(path, a, b):
    global wrong
    if isinstance(a, dict) and isinstance(b, dict) and a.keys() == b.keys():
        for k in a:
            compare(f"{path}.{k}", a[k], b[k])
    elif isinstance(a, list) and isinstance(b, list) and len(a) == len(b):
        for i, (x, y) in enumerate(zip(a, b)):
            compare(f"{path}[{i}]", x, y)
    elif a != b:
        wrong += 1
        print(f"{path}: we read {json.dumps(a)[:200]}, PyYAML {json.dumps(b)[:200]}")


for name, template in ours.items():
    theirs = cfnlint.decode.cfn_yaml.load(str(pathlib.Path(sys.argv[2]) / f"{name}.yaml"))
    compare(name, template, plain(theirs))
print(f"readers of YAML: {len(ours)} templates, {wrong} differences")
sys.exit(1 if wrong or len(ours) < 6 else 0)
