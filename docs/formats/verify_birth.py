#!/usr/bin/env python3
"""Verify a stakeseal birth certificate: a second implementation.

    verify_birth.py CERTIFICATE TRUST NETWORK

CERTIFICATE is the envelope, TRUST a trust file written as JSON, NETWORK the
text of the network's parameters (certificate.md and trust.md beside this file
describe all three). Needs Python 3.9 and the package "cryptography", nothing
else. Exit code 0: it verifies; 3: refused, with the reason.

Written from the documents, to show that they suffice. It does not check the
checksum of the addresses in TRUST, nor all that is demanded of that file:
those who write it are trusted anyway.
"""

import base64
import hashlib
import json
import re
import sys
from datetime import datetime

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

PAYLOAD_TYPE = "application/vnd.in-toto+json"


class Refused(Exception):
    """Why a certificate is not believed: a class and the words."""


def want(holds, kind, words):
    if not holds:
        raise Refused(f"{kind}: {words}")


# --- the parts of JSON that may be written ---------------------------------


def no_twins(pairs):
    fields = dict(pairs)
    want(len(fields) == len(pairs), "malformed", "a field stands twice")
    return fields


def parse(data, what):
    try:
        return json.loads(data, object_pairs_hook=no_twins)
    except (ValueError, RecursionError):
        raise Refused(f"malformed: {what} is not JSON") from None


def has(value, names, what, optional=()):
    """value is an object with these fields, in this order."""
    want(isinstance(value, dict), "malformed", f"{what} is not an object")
    expected = [n for n in names if n not in optional or n in value]
    want(list(value) == expected, "malformed", f"{what} does not have the fields {expected} in this order")
    return value


def text(value, what, most=256):
    fine = isinstance(value, str) and re.fullmatch(r"[!-~]([ -~]*[!-~])?", value) and len(value) <= most
    want(fine, "malformed", f"{what} is not plain text")
    return value


def number(value, what, below):
    want(type(value) is int and 0 <= value < below, "malformed", f"{what} is not a number below {below}")
    return value


def octets(value, what, size):
    want(isinstance(value, str) and re.fullmatch(r"0x[0-9a-f]{%d}" % (2 * size), value), "malformed", f"{what} is not {size} bytes")
    return bytes.fromhex(value[2:])


def digest(value, what):
    fine = isinstance(value, str) and re.fullmatch(r"[0-9a-f]{64}", value) and value != "0" * 64
    want(fine, "malformed", f"{what} is not a sha256")
    return value


def time(value, what):
    fine = isinstance(value, str) and re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", value, re.ASCII)
    want(fine, "malformed", f"{what} is not a time")
    try:
        datetime.strptime(value, "%Y-%m-%dT%H:%M:%SZ")
    except ValueError:
        raise Refused(f"malformed: {what} is not a time") from None
    want(value > "1970-01-01T00:00:00Z", "malformed", f"{what} is before 1970")
    return value  # this spelling sorts by time


def unbase64(value, what):
    want(isinstance(value, str), "malformed", f"{what} is not text")
    for decode, encode in ((base64.b64decode, base64.b64encode), (base64.urlsafe_b64decode, base64.urlsafe_b64encode)):
        try:
            raw = decode(value)
        except ValueError:
            continue
        if encode(raw).decode() == value:
            return raw
    raise Refused(f"malformed: {what} is not base64")


# --- keys and signatures ----------------------------------------------------


def load_key(line):
    if line.startswith("ed25519:"):
        return ed25519.Ed25519PublicKey.from_public_bytes(base64.b64decode(line[len("ed25519:"):], validate=True))
    key = serialization.load_pem_public_key(line.encode())
    if isinstance(key, ed25519.Ed25519PublicKey) or isinstance(key, ec.EllipticCurvePublicKey) and key.curve.name == "secp256r1":
        return key
    raise SystemExit("a key of the trust file is neither Ed25519 nor P-256")


def key_id(key):
    der = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(der).hexdigest()


def signed(key, signature, message):
    try:
        if isinstance(key, ed25519.Ed25519PublicKey):
            key.verify(signature, message)
        else:
            key.verify(signature, message, ec.ECDSA(hashes.SHA256()))
    except InvalidSignature:
        return False
    return True


def open_envelope(data, keys):
    """The payload, and the keys of the trust file that signed it."""
    want(len(data) <= 262144, "malformed", "the envelope is too long")
    envelope = parse(data, "the envelope")
    want(isinstance(envelope, dict) and sorted(envelope) == ["payload", "payloadType", "signatures"], "malformed", "the envelope's fields")
    want(envelope["payloadType"] == PAYLOAD_TYPE, "malformed", "the payloadType")
    payload = unbase64(envelope["payload"], "the payload")
    listed = envelope["signatures"]
    want(isinstance(listed, list) and 1 <= len(listed) <= 16, "malformed", "the signatures")
    found = {}
    for entry in listed:
        want(isinstance(entry, dict) and sorted(entry) == ["keyid", "sig"], "malformed", "a signature's fields")
        want(isinstance(entry["keyid"], str) and re.fullmatch(r"[0-9a-f]{64}", entry["keyid"]), "malformed", "a keyid")
        want(entry["keyid"] not in found, "malformed", "two signatures of one key")
        found[entry["keyid"]] = unbase64(entry["sig"], "a signature")
        want(1 <= len(found[entry["keyid"]]) <= 1024, "malformed", "the length of a signature")
    pae = b"DSSEv1 %d %s %d %s" % (len(PAYLOAD_TYPE), PAYLOAD_TYPE.encode(), len(payload), payload)
    by_id = {key_id(load_key(k["key"])): k for k in keys}
    good = []
    for name, signature in found.items():
        if name not in by_id:
            continue
        entry = by_id[name]
        want(signed(load_key(entry["key"]), signature, pae), "not signed", f"the signature of {entry['name']!r} is wrong")
        want(not entry.get("revoked", False), "not trusted", f"key {entry['name']!r} is revoked")
        good.append(entry)
    want(good, "not signed", "no key of the trust file signed it")
    return payload, good


# --- SSZ hash tree roots ------------------------------------------------------


def pair(a, b):
    return hashlib.sha256(a + b).digest()


def roots(pubkey, credentials, amount, signature):
    """Of DepositMessage and DepositData."""
    key = pair(pubkey[:32], pubkey[32:] + bytes(16))
    coins = amount.to_bytes(8, "little") + bytes(24)
    seal = pair(pair(signature[:32], signature[32:64]), pair(signature[64:], bytes(32)))
    left = pair(key, credentials)
    return pair(left, pair(coins, bytes(32))), pair(left, pair(coins, seal))


# --- the statement ------------------------------------------------------------


def read_statement(payload):
    """The predicate, after all that needs no trust file."""
    statement = parse(payload, "the statement")
    want(isinstance(statement, dict) and statement.get("predicateType") == "https://stakeseal.dev/birth/v1", "malformed", "not a birth certificate")
    has(statement, ["_type", "subject", "predicateType", "predicate"], "the statement")
    want(statement["_type"] == "https://in-toto.io/Statement/v1", "malformed", "the statement's type")
    want(isinstance(statement["subject"], list) and len(statement["subject"]) == 1, "malformed", "not one subject")
    subject = has(statement["subject"][0], ["name", "digest"], "the subject")
    has(subject["digest"], ["sha256"], "the subject's digest")
    birth = has(statement["predicate"], [
        "network", "network_digest", "pubkey", "withdrawal_credentials", "deposits", "order", "order_digest", "index",
        "path", "mnemonic", "sealing", "maker", "approval", "time"], "the predicate", ("approval",))
    for field in ("network", "order", "path"):
        text(birth[field], field)
    for field in ("network_digest", "order_digest"):
        digest(birth[field], field)
    pubkey = octets(birth["pubkey"], "pubkey", 48)
    credentials = octets(birth["withdrawal_credentials"], "withdrawal_credentials", 32)
    want(any(pubkey), "malformed", "the pubkey is zero")
    number(birth["index"], "index", 2**32)
    time(birth["time"], "time")
    mnemonic = has(birth["mnemonic"], ["id", "digest", "recipients_digest"], "mnemonic")
    text(mnemonic["id"], "mnemonic id")
    digest(mnemonic["digest"], "mnemonic digest")
    digest(mnemonic["recipients_digest"], "recipients_digest")
    maker = has(birth["maker"], ["binary_digest", "settings_digest", "version", "commit", "function"], "maker", ("commit", "function"))
    digest(maker["binary_digest"], "binary_digest")
    digest(maker["settings_digest"], "settings_digest")
    for field in list(maker)[2:]:
        text(maker[field], field)
    sealing = has(birth["sealing"], ["purpose", "generation", "digest", "recipients"], "sealing")
    text(sealing["purpose"], "purpose")
    number(sealing["generation"], "generation", 2**32)
    digest(sealing["digest"], "sealing digest")
    want(isinstance(sealing["recipients"], list) and 1 <= len(sealing["recipients"]) <= 64, "malformed", "recipients")
    for recipient in sealing["recipients"]:
        has(recipient, ["name", "key"], "a recipient")
        text(recipient["name"], "a recipient's name")
        text(recipient["key"], "a recipient's key", 4096)
    want(isinstance(birth["deposits"], list) and 1 <= len(birth["deposits"]) <= 64, "malformed", "deposits")
    for deposit in birth["deposits"]:
        has(deposit, ["amount_gwei", "deposit_message_root", "deposit_data_root", "signature"], "a deposit")
        want(number(deposit["amount_gwei"], "amount_gwei", 2**53), "malformed", "an amount of zero")
        octets(deposit["deposit_message_root"], "deposit_message_root", 32)
        octets(deposit["deposit_data_root"], "deposit_data_root", 32)
        octets(deposit["signature"], "signature", 96)
    want(json.dumps(statement, separators=(",", ":")).encode() == payload, "malformed", "not the one encoding")

    want(subject == {"name": birth["pubkey"], "digest": {"sha256": hashlib.sha256(pubkey).hexdigest()}}, "mismatch", "the subject is not the pubkey")
    for part in ("name", "key"):
        seen = {r[part] for r in sealing["recipients"]}
        want(len(seen) == len(sealing["recipients"]), "mismatch", f"two recipients with one {part}")
    want(birth["path"] == f"m/12381/3600/{birth['index']}/0/0", "mismatch", "the path is not the index's")
    want(sealing["purpose"] == "signing" and sealing["generation"] == 0, "mismatch", "not the first signing sealing")
    want(credentials[0] in (1, 2) and not any(credentials[1:12]), "mismatch", "the withdrawal credentials pay to no address")
    if "approval" in birth:
        check_approval(birth)
    for deposit in birth["deposits"]:
        message, data = roots(pubkey, credentials, deposit["amount_gwei"], octets(deposit["signature"], "signature", 96))
        want(deposit["deposit_message_root"] == "0x" + message.hex(), "mismatch", "deposit_message_root")
        want(deposit["deposit_data_root"] == "0x" + data.hex(), "mismatch", "deposit_data_root")
    return birth


def valid(entry, at):
    """Both ends belong to the validity; the spelling of times sorts by time."""
    return not entry.get("revoked", False) and entry.get("not_before", at) <= at <= entry.get("not_after", at)


def read_approval(payload):
    """What an address approval says, after all that needs no trust file."""
    statement = has(parse(payload, "the approval"), ["_type", "subject", "predicateType", "predicate"], "the approval")
    want(json.dumps(statement, separators=(",", ":")).encode() == payload, "malformed", "the approval is not in its one encoding")
    want(statement["_type"] == "https://in-toto.io/Statement/v1" and statement["predicateType"] == "https://stakeseal.dev/address-approval/v1", "malformed", "not an approval")
    approval = has(statement["predicate"], ["name", "address", "network", "network_digest", "not_before", "not_after", "time"], "the approval")
    want(re.fullmatch(r"[a-z0-9][a-z0-9._-]{0,63}", approval["name"]), "malformed", "the name in the approval")
    for field in ("not_before", "not_after", "time"):
        time(approval[field], field)
    want(isinstance(approval["address"], str) and re.fullmatch(r"0x[0-9a-fA-F]{40}", approval["address"]), "malformed", "the address of the approval")
    digest(approval["network_digest"], "network_digest of the approval")
    return statement, approval


def check_approval(birth):
    """The approval in a birth is of the birth's own address and network."""
    want(len(birth["approval"]) <= 8192, "malformed", "the approval is too long")
    envelope = parse(text(birth["approval"], "approval", 8192), "the approval")
    want(isinstance(envelope, dict), "malformed", "the approval is no envelope")
    _, approval = read_approval(unbase64(envelope.get("payload"), "the approval's payload"))
    same = approval["address"].lower()[2:] == birth["withdrawal_credentials"][-40:]
    want(same and approval["network"] == birth["network"] and approval["network_digest"] == birth["network_digest"], "mismatch", "an approval of another address or network")


def approved(birth, trust):
    """The name under which an approver of the trust file approved the address."""
    payload, by = open_envelope(birth["approval"].encode(), trust["approvers"])
    statement, approval = read_approval(payload)
    raw = bytes.fromhex(approval["address"][2:])
    want(statement["subject"] == [{"name": approval["address"], "digest": {"sha256": hashlib.sha256(raw).hexdigest()}}], "mismatch", "the approval's subject is not its address")
    want(valid(approval, birth["time"]), "not trusted", "the approval was not valid at the birth's time")
    want(all(valid(k, approval["time"]) for k in by), "not trusted", "the approver's key was not valid")
    return approval["name"]


def check_release(entry, trust):
    """Where the trust file names release managers: the entry is what they signed, or less."""
    if entry.get("revoked", False):
        return
    payload, by = open_envelope(entry["statement"].encode(), trust["release_managers"])
    statement = has(parse(payload, "the release statement"), ["_type", "subject", "predicateType", "predicate"], "the release statement")
    want(json.dumps(statement, separators=(",", ":")).encode() == payload, "malformed", "the release statement is not in its one encoding")
    want(statement["_type"] == "https://in-toto.io/Statement/v1" and statement["predicateType"] == "https://stakeseal.dev/release/v1", "malformed", "not a release statement")
    release = has(statement["predicate"], ["name", "network", "binary_sha256", "settings_sha256", "commit", "submission", "reviews", "supersedes", "not_before", "not_after", "time"], "the release", ("supersedes", "not_after"))
    at = time(release["time"], "the release's time")
    want(all(valid(k, at) for k in by), "not trusted", "a release manager's key was not valid")
    usual = trust.get("release_threshold", 1)
    need = entry.get("threshold", usual)
    want(type(need) is int and 1 <= need <= usual, "malformed", "the entry's threshold")
    want(len(by) >= need, "not trusted", "too few release managers signed")
    want(release["network"] == trust["network"], "mismatch", "a release for another network")
    want(len(release["reviews"]) >= 1, "malformed", "no review")
    said = {"name": release["name"], "binary_sha256": release["binary_sha256"], "settings_sha256": release["settings_sha256"],
            "package_sha256": statement["subject"][0]["digest"]["sha256"], "review_sha256": release["reviews"][0], "commit": release["commit"]}
    want(all(entry.get(field) == value for field, value in said.items()), "mismatch", "the entry is not what its statement says")
    want(entry.get("not_before", "") >= release["not_before"], "mismatch", "the entry begins before its statement")
    want("not_after" not in release or entry.get("not_after", "~") <= release["not_after"], "mismatch", "the entry ends after its statement")


def verify(envelope, trust, network):
    if trust.get("release_managers"):
        for entry in trust.get("releases", []):
            try:
                check_release(entry, trust)
            except (Refused, KeyError) as reason:
                raise SystemExit(f"the trust file's release {entry['name']!r}: {reason}") from None
    payload, keys = open_envelope(envelope, trust["certifying_keys"])
    birth = read_statement(payload)
    parameters = dict(line.split(": ", 1) for line in network.decode().splitlines()[1:])
    want(birth["network"] == parameters["name"], "mismatch", "another network")
    want(birth["network_digest"] == hashlib.sha256(network).hexdigest(), "mismatch", "other network parameters")
    kind, address = birth["withdrawal_credentials"][:4], birth["withdrawal_credentials"][-40:]
    most = {"0x01": 32 * 10**9, "0x02": 2048 * 10**9}[kind]
    for deposit in birth["deposits"]:
        want(int(parameters["min_deposit_gwei"]) <= deposit["amount_gwei"] <= most, "mismatch", "an amount out of bounds")
    names = [n for n, a in trust["withdrawal_addresses"].items() if a[2:].lower() == address]
    if not names and "approval" in birth and trust.get("approvers"):
        names = [approved(birth, trust)]
    want(names, "mismatch", f"withdrawal address 0x{address} is not in the trust file")
    keys = [k for k in keys if valid(k, birth["time"])]
    want(keys, "not trusted", "no key that signed it was valid at its time")
    release = ""
    if trust.get("releases"):
        maker = birth["maker"]
        fitting = [r for r in trust["releases"]
                   if r["settings_sha256"] == maker["settings_digest"] and maker["binary_digest"] in r["binary_sha256"]]
        want(fitting, "not trusted", "no release has this binary with these settings")
        want(valid(fitting[0], birth["time"]), "not trusted", f"release {fitting[0]['name']!r} is revoked or out of its validity")
        made_of = (maker.get("commit"), fitting[0].get("commit"))
        want(None in made_of or made_of[0] == made_of[1], "mismatch", "the birth names another commit than its release")
        release = fitting[0]["name"]
    return f'{birth["pubkey"]} is certified by "{keys[0]["name"]}", made by release "{release}", withdrawable to "{names[0]}"'


def main(arguments):
    if len(arguments) != 3:
        sys.exit(__doc__)
    files = []
    for name in arguments:
        with open(name, "rb") as f:
            files.append(f.read())
    envelope, trust, network = files
    trust = json.loads(trust)
    if trust["version"] != 1 or f'name: {trust["network"]}\n'.encode() not in network:
        sys.exit("the trust file is not of version 1 or not for this network")
    try:
        print(verify(envelope, trust, network))
    except Refused as reason:
        print(f"refused: {reason}")
        sys.exit(3)


if __name__ == "__main__":
    main(sys.argv[1:])
