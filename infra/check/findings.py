#!/usr/bin/env python3
"""Reads findings (tool TAB rule TAB template TAB resource TAB message) from
standard input and fails for each that exceptions.tsv does not explain, and for
each exception that nothing needs."""
import pathlib, sys

exceptions, used = {}, set()
for line in (pathlib.Path(__file__).parent / "exceptions.tsv").read_text().splitlines():
    if line.startswith("#"):
        continue
    tool, rule, resource, reason = line.split("\t")
    exceptions[tool, rule, resource] = reason
failed = explained = 0
for line in sys.stdin:
    tool, rule, template, resource, message = line.rstrip("\n").split("\t", 4)
    rule = rule.split("/")[0]
    for key in ((tool, rule, resource), (tool, rule, "*")):
        if key in exceptions:
            used.add(key)
            explained += 1
            break
    else:
        failed += 1
        print(f"{tool} {rule} in {template}, {resource}: {message}")
for key in sorted(set(exceptions) - used):
    failed += 1
    print(f"exception that nothing needs: {' '.join(key)}")
print(f"findings: {explained} explained by {len(used)} exceptions, {failed} not")
sys.exit(1 if failed else 0)
