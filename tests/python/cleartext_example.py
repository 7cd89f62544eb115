#!/usr/bin/env python3
"""The sample of docs/format.md, "Cleartext under a key of the customer": a file and its envelope, from fixed values.

cleartext_example.py           says whether the document and fixtures/vectors/cleartext/hello.vec hold these bytes
cleartext_example.py --write   writes the vector, and the sample between its marks in the document
"""

import base64
import hashlib
import hmac
import re
import struct
import sys

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.ciphers.aead import AESSIV

sys.dont_write_bytecode = True

import reference
from worked_example import DATA_ID, DOCUMENT, FILE_KEY, IDENTITY, METADATA, OAEP_SEED, PLAIN, ROOT

VECTOR = ROOT / "fixtures" / "vectors" / "cleartext" / "hello.vec"
MARK = "cleartext values"


def record_key():
    """RFC 5869 for two blocks of output."""
    extracted = hmac.new(DATA_ID, FILE_KEY, "sha256").digest()
    first = hmac.new(extracted, b"sidekey/1 cleartext\x01", "sha256").digest()
    return first + hmac.new(extracted, first + b"sidekey/1 cleartext\x02", "sha256").digest()


def commitment():
    return reference.hkdf(FILE_KEY, DATA_ID, b"sidekey/1 commit")


def record_plaintext():
    fixed = struct.pack("<BBBBIQ", 1, 0, 1 | 2 | 4 | 8, 0, int(METADATA["mode"], 8), len(PLAIN))
    fixed += int(METADATA["mtime"]).to_bytes(16, "little", signed=True)
    fixed += hashlib.sha256(PLAIN).digest() + commitment() + bytes(32)
    return fixed + METADATA["name"].encode("utf-8").ljust(256, b"\0")


def record():
    return AESSIV(record_key()).encrypt(record_plaintext(), [DATA_ID])


def unpadded(data):
    return base64.urlsafe_b64encode(data).decode("ascii").rstrip("=")


def envelope():
    pem = (ROOT / "fixtures" / "keys" / IDENTITY).read_bytes()
    public = serialization.load_pem_private_key(pem, None).public_key()
    extra = ["Sse: c", "Cleartext-Commitment: " + commitment().hex(), "Cleartext-Record: " + unpadded(record())]
    return reference.envelope(reference.entry(public, FILE_KEY, DATA_ID, OAEP_SEED, extra=extra))


def vector():
    head = {
        "comment": "a file that the service alone encrypts; the sample of docs/format.md",
        "expect": "ok",
        "plain-sha256": hashlib.sha256(PLAIN).hexdigest(),
        "plain-len": str(len(PLAIN)),
        "file-key": FILE_KEY.hex(),
        "sse-c-key": reference.hkdf(FILE_KEY, DATA_ID, b"sidekey/1 sse-c").hex(),
        "envelope": base64.b64encode(envelope()).decode("ascii"),
        "identity": IDENTITY,
    }
    return reference.vector(head, PLAIN)


def sample():
    lines = [
        ("file key", FILE_KEY.hex()),
        ("data id", DATA_ID.hex()),
        ("SSE-C key", reference.hkdf(FILE_KEY, DATA_ID, b"sidekey/1 sse-c").hex()),
        ("commitment", commitment().hex()),
        ("record key", record_key().hex()),
        ("record", unpadded(record())),
    ]
    width = "%-12s %s\n"
    return "".join(
        width % (name if at == 0 else "", value[at : at + 64]) for name, value in lines for at in range(0, len(value), 64)
    )


def document_with_sample(text):
    pattern = r"(<!-- %s -->\n+```text\n).*?(```\n)" % MARK
    wanted, count = re.subn(pattern, lambda match: match.group(1) + sample() + match.group(2), text, flags=re.DOTALL)
    if count != 1:
        raise SystemExit("cleartext_example.py: %s: no mark `%s`" % (DOCUMENT, MARK))
    return wanted


def main():
    text = DOCUMENT.read_text("utf-8")
    wanted = document_with_sample(text)
    if sys.argv[1:] == ["--write"]:
        VECTOR.parent.mkdir(parents=True, exist_ok=True)
        VECTOR.write_bytes(vector())
        DOCUMENT.write_text(wanted, "utf-8")
    elif text != wanted or not VECTOR.exists() or VECTOR.read_bytes() != vector():
        raise SystemExit(
            "cleartext_example.py: the document or the vector is stale\n"
            "cleartext_example.py: hint: run it with --write and read the difference"
        )


if __name__ == "__main__":
    main()
