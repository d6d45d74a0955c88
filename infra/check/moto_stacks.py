#!/usr/bin/env python3
"""Puts the templates up, in their order, in moto's CloudFormation (in this
process, nothing leaves it) and looks at what stands afterwards with moto's own
services. A second opinion of names, references, exports and policies, as far
as moto has the types; it prints which it has not.

    moto_stacks.py templates.json parameters.json

templates.json has them as package stack reads them. Types that moto has not
are taken out before, and what refers to them.
"""
import importlib, json, logging, os, pathlib, re, sys

os.environ.update(AWS_ACCESS_KEY_ID="x", AWS_SECRET_ACCESS_KEY="x", AWS_DEFAULT_REGION="us-east-1", MOTO_ACCOUNT_ID="111122223333")
import boto3
from moto import mock_aws
from moto.cloudformation.parsing import resource_class_from_type

logging.getLogger("moto").setLevel(logging.ERROR)  # what moto has not is said once, at the end

# moto knows a type once its service is loaded.
for service in "awslambda cloudtrail cloudwatch config dynamodb ec2 events iam kms logs s3 scheduler signer sns sqs".split():
    importlib.import_module(f"moto.{service}.models")

templates, parameters = json.loads(pathlib.Path(sys.argv[1]).read_text()), json.loads(pathlib.Path(sys.argv[2]).read_text())
name = "stakeseal-hoodi"
order = ["bootstrap", "foundation", "network", "function", "schedule", "watch"]
# moto keeps a None where AWS::NoValue takes an element out of a list, so every
# optional part of a list is on.
parameters["bootstrap"].update(SampleTableArn="arn:aws:dynamodb:us-east-1:111122223333:table/x", SampleKeyArn="arn:aws:kms:us-east-1:111122223333:key/x")
failures = []


def want(what, ok):
    if not ok:
        failures.append(what)


def refers(v, gone):
    """Says whether an expression names one of the resources."""
    if isinstance(v, dict):
        if v.get("Ref") in gone or isinstance(v.get("Fn::GetAtt"), list) and v["Fn::GetAtt"][0] in gone:
            return True
        if isinstance(v.get("Fn::Sub"), str) and any(re.search(r"\$\{%s[.}]" % g, v["Fn::Sub"]) for g in gone):
            return True
        return any(refers(x, gone) for x in v.values())
    return isinstance(v, list) and any(refers(x, gone) for x in v)


def reduced(template):
    """Takes out what moto has not, and names it."""
    gone = {i for i, r in template["Resources"].items() if resource_class_from_type(r["Type"]) is None}
    types = {template["Resources"][i]["Type"] for i in gone}
    for i in gone:
        del template["Resources"][i]
    for r in template["Resources"].values():
        if r["Type"] == "AWS::KMS::Key":  # reads the tags of keys by other names, and makes every key a symmetric one
            del r["Properties"]["Tags"]
            types.add("AWS::KMS::Key.{KeyPolicy,KeySpec,Tags}")
        if r["Type"] == "AWS::S3::Bucket":  # passes over what protects a bucket
            types.add("AWS::S3::Bucket.{ObjectLockConfiguration,PublicAccessBlockConfiguration,VersioningConfiguration}")
        for p in [p for p, v in r.get("Properties", {}).items() if refers(v, gone)]:
            types.add(f"{r['Type']}.{p}")
            del r["Properties"][p]
        depends = r.pop("DependsOn", [])
        depends = [d for d in ([depends] if isinstance(depends, str) else depends) if d not in gone]
        if depends:
            r["DependsOn"] = depends
    for o in [o for o, v in template["Outputs"].items() if refers(v["Value"], gone)]:
        del template["Outputs"][o]
    return types


with mock_aws():
    cloudformation = boto3.client("cloudformation")
    made, missing, asked = {}, set(), 0
    for short in order:
        template = templates[short]
        missing |= reduced(template)
        asked += len(template["Resources"])
        # The signed package, which the release makes between the stacks.
        if short == "function":
            boto3.client("s3").put_object(Bucket=f"{name}-packages-111122223333", Key="signed/example.zip", Body=b"PK")
        given = [{"ParameterKey": k, "ParameterValue": v} for k, v in {"Name": name, **parameters.get(short, {})}.items() if k in template["Parameters"]]
        cloudformation.create_stack(StackName=f"{name}-{short}", TemplateBody=json.dumps(template), Parameters=given, Capabilities=["CAPABILITY_NAMED_IAM"])
        stack = cloudformation.describe_stacks(StackName=f"{name}-{short}")["Stacks"][0]
        want(f"{short}: {stack['StackStatus']}", stack["StackStatus"] == "CREATE_COMPLETE")
        for r in cloudformation.describe_stack_resources(StackName=f"{name}-{short}")["StackResources"]:
            if r.get("LogicalResourceId") and r.get("PhysicalResourceId"):
                made[short, r["LogicalResourceId"]] = r
    exports = {e["Name"]: e["Value"] for e in cloudformation.list_exports()["Exports"]}
    iam, kms, dynamodb, s3 = (boto3.client(x) for x in ("iam", "kms", "dynamodb", "s3"))

    for role in "generator developer release-manager requester depositor signer recovery auditor administrator break-glass importer scheduler".split():
        r = iam.get_role(RoleName=f"{name}-{role}")["Role"]
        want(f"boundary of {role}", ("PermissionsBoundary" in r) == (role != "break-glass"))
        want(f"trust of {role}", "Statement" in r["AssumeRolePolicyDocument"])
    # moto chokes on the policy of a key that CloudFormation made: it is only listed.
    listed = {k["KeyArn"] for k in kms.list_keys()["Keys"]}
    aliases = {a["AliasName"]: a.get("TargetKeyId") for a in kms.list_aliases()["Aliases"]}
    for key in ("Signing", "Recovery", "Certifying"):
        arn = exports[f"{name}-{key}KeyArn"]
        want(f"{key} key", arn in listed and aliases.get(f"alias/{name}-{key.lower()}") == arn.split("/")[1])
    for table in ("records", "assignments", "events", "ledger", "leases"):
        t = dynamodb.describe_table(TableName=f"{name}-{table}")["Table"]
        want(f"table {table}", t["TableArn"] == exports[f"{name}-{table.capitalize()}TableArn"] and t["BillingModeSummary"]["BillingMode"] == "PAY_PER_REQUEST" and t["DeletionProtectionEnabled"])
        want(f"index of {table}", [i["IndexName"] for i in t.get("LocalSecondaryIndexes", [])] == (["by-time"] if table == "events" else []))
    for bucket in ("archive", "packages", "trail"):
        b = f"{name}-{bucket}-111122223333"
        want(f"bucket {bucket}", s3.head_bucket(Bucket=b)["ResponseMetadata"]["HTTPStatusCode"] == 200)
    f = boto3.client("lambda").get_function_configuration(FunctionName=f"{name}-generator")
    want("function", f["Role"] == exports[f"{name}-GeneratorRoleArn"] and f["Runtime"] == "provided.al2023" and not f.get("Environment", {}).get("Variables") and not f.get("Layers"))
    rules = {r["Name"] for r in boto3.client("events").list_rules()["Rules"]}
    want(f"rules {rules}", f"{name}-keys" in rules and f"{name}-maker" in rules)

for f in failures:
    print("moto:", f)
print(f"moto: {len(made)} of {asked} resources of {len(order)} stacks stand, {len(exports)} exports; moto has not: {', '.join(sorted(missing))}")
sys.exit(1 if failures or len(made) < 50 else 0)
