#!/usr/bin/env python3
"""The worked example of docs/format.md: one tiny container and its envelope, from fixed values.

worked_example.py           says whether the document and fixtures/vectors/worked-example.vec hold these bytes
worked_example.py --write   writes the vector, and the two samples between their marks in the document
"""

import base64
import hashlib
import json
import re
import struct
import sys
from pathlib import Path

from cryptography.hazmat.primitives import serialization

sys.dont_write_bytecode = True

import reference

ROOT = Path(__file__).resolve().parents[2]
DOCUMENT = ROOT / "docs" / "format.md"
VECTOR = ROOT / "fixtures" / "vectors" / "worked-example.vec"
IDENTITY = "c-worked-example.pem"

FILE_KEY = bytes(range(0x20))
DATA_ID = bytes(range(0xA0, 0xB0))
OAEP_SEED = bytes(range(0x40, 0x60))
PLAIN = b"hello\n"
METADATA = {"v": 1, "type": "file", "name": "hello.txt", "mtime": "1795215960000000000", "mode": "0644"}


def container():
    """The bytes and the fields of the container."""
    return reference.container(FILE_KEY, DATA_ID, PLAIN, 12, METADATA, True, lambda index: bytes([0xC0 + index]) * 16)


def envelope():
    pem = (ROOT / "fixtures" / "keys" / IDENTITY).read_bytes()
    public = serialization.load_pem_private_key(pem, None).public_key()
    return reference.envelope(reference.entry(public, FILE_KEY, DATA_ID, OAEP_SEED))


def vector():
    head = {
        "comment": "the worked example of docs/format.md",
        "expect": "ok",
        "plain-sha256": hashlib.sha256(PLAIN).hexdigest(),
        "plain-len": str(len(PLAIN)),
        "file-key": FILE_KEY.hex(),
        "envelope": base64.b64encode(envelope()).decode("ascii"),
        "identity": IDENTITY,
    }
    return reference.vector(head, container()[0])


def hex_sample():
    """Sixteen bytes a line; a new line for each field, with its name."""
    data, fields = container()
    lines = []
    for name, start, end in fields:
        for at in range(start, end, 16):
            line = "%04x  %-47s  %s" % (at, data[at : min(at + 16, end)].hex(" "), name if at == start else "")
            lines.append(line.rstrip())
    return "\n".join(lines) + "\n"


def values():
    """What a reader computes on its way."""
    data, _ = container()
    keys = [
        (name, reference.hkdf(FILE_KEY, data[:32], b"sidekey/1 " + info))
        for name, info in (("enc key", b"encrypt"), ("mac key", b"mac"), ("commitment", b"commit"))
    ]
    end = struct.pack("<QB7x", len(PLAIN), 1) + hashlib.sha256(PLAIN).digest()
    text = json.dumps(METADATA, separators=(",", ":"))
    lines = [
        ("file key", FILE_KEY),
        ("data id", DATA_ID),
        ("salt", data[:32]),
        *keys,
        ("SSE-C key", reference.hkdf(FILE_KEY, DATA_ID, b"sidekey/1 sse-c")),
        ("OAEP label", b"sidekey/1 " + DATA_ID),
        ("data plaintext", PLAIN),
        ("end plaintext", end),
    ]
    lines += [
        ("tag %d begins with" % index, struct.pack("<QB3xI", index, index + 1, length))
        for index, length in enumerate((272, 16, 64))
    ]
    width = "%-18s %s"
    shown = [
        width
        % (name if at == 0 else "", value[at : at + 32].hex(" ") if len(value) <= 16 else value[at : at + 32].hex())
        for name, value in lines
        for at in range(0, len(value), 32)
    ]
    return (
        "\n".join(shown + [width % ("metadata plaintext", text), width % ("", "and %d spaces" % (256 - len(text)))])
        + "\n"
    )


SAMPLES = {
    "worked values": values,
    "worked container": hex_sample,
    "worked envelope": lambda: envelope().decode("ascii"),
}


def document_with_samples(text):
    for mark, sample in SAMPLES.items():
        pattern = r"(<!-- %s -->\n+```text\n).*?(```\n)" % mark
        text, count = re.subn(pattern, lambda match: match.group(1) + sample() + match.group(2), text, flags=re.DOTALL)
        if count != 1:
            raise SystemExit("worked_example.py: %s: no mark `%s`" % (DOCUMENT, mark))
    return text


def main():
    text = DOCUMENT.read_text("utf-8")
    wanted = document_with_samples(text)
    if sys.argv[1:] == ["--write"]:
        VECTOR.parent.mkdir(parents=True, exist_ok=True)
        VECTOR.write_bytes(vector())
        DOCUMENT.write_text(wanted, "utf-8")
    elif text != wanted or not VECTOR.exists() or VECTOR.read_bytes() != vector():
        raise SystemExit(
            "worked_example.py: the document or the vector is stale\n"
            "worked_example.py: hint: run it with --write and read the difference"
        )


if __name__ == "__main__":
    main()
