"""A second writer of containers and envelopes, made from docs/format.md alone and deterministic throughout.

It keeps everything in memory and takes every random value as an argument, so that tests and the worked example can
say exactly what the bytes are. HKDF, PKCS#7 and OAEP are written out here on purpose: a fault in a library shared by
writer and reader would hide itself. It can also write what no sound writer would (`faults`), for tests of refusal.
"""

import base64
import hashlib
import hmac
import json
import struct

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.cmac import CMAC

METADATA, DATA, END = 1, 2, 3


def container(file_key, data_id, plain, log2=16, metadata=None, digest=False, ivs=None, faults=None):
    """The bytes of a container and the list of its fields, each `(name, start, end)`.

    `metadata` is a dict or the bytes of the JSON; `ivs` gives one IV per section (by default they are derived, which
    is for tests only); `faults` overrides single values, see `Faulty`.
    """
    return Writer(file_key, data_id, log2, ivs, faults or {}).write(plain, metadata, digest)


class Writer:
    """Faults: `header` (dict of offset to bytes, before derivation), `kinds`, `indices` (section number to value),
    `plain` (section number to a function of its padded plaintext), `data` (list of plaintext pieces), `end` (the 48
    bytes), `commitment`."""

    def __init__(self, file_key, data_id, log2, ivs, faults):
        self.file_key, self.data_id, self.log2 = file_key, data_id, log2
        self.ivs = ivs or (lambda index: hashlib.sha256(data_id + struct.pack("<Q", index)).digest()[:16])
        self.faults = faults
        self.out, self.fields, self.index = bytearray(), [], 0

    def write(self, plain, metadata, digest):
        if isinstance(metadata, dict):
            metadata = json.dumps(metadata, ensure_ascii=False, separators=(",", ":")).encode("utf-8")
        if metadata is not None:
            metadata += b" " * (-len(metadata) % 256)
        self.header(metadata)
        if metadata is not None:
            self.section(METADATA, "metadata", metadata)
        size = 1 << self.log2
        pieces = self.faults.get("data", [plain[at : at + size] for at in range(0, len(plain), size)])
        for number, piece in enumerate(pieces):
            self.section(DATA, "data %d" % number, piece)
        total = sum(map(len, pieces))
        digest = hashlib.sha256(plain).digest() if digest else None
        end = struct.pack("<QB7s32s", total, digest is not None, b"", digest or b"")
        self.section(END, "end", self.faults.get("end", end))
        return bytes(self.out), self.fields

    def header(self, metadata):
        length = 0 if metadata is None else len(metadata) + 48
        head = bytearray(b"SIDEKEY\0" + struct.pack("<BBBBI", 1, 1, self.log2, 0, length) + self.data_id)
        for offset, value in self.faults.get("header", {}).items():
            head[offset : offset + len(value)] = value
        self.mac_key = hkdf(self.file_key, head, b"sidekey/1 mac")
        self.enc_key = hkdf(self.file_key, head, b"sidekey/1 encrypt")
        commitment = self.faults.get("commitment", hkdf(self.file_key, head, b"sidekey/1 commit"))
        for name, value in (
            ("magic", head[:8]),
            ("version", head[8:9]),
            ("suite", head[9:10]),
            ("log2 of the section size", head[10:11]),
            ("reserved", head[11:12]),
            ("metadata length", head[12:16]),
            ("data id", head[16:]),
            ("commitment", commitment),
        ):
            self.field(name, value)

    def section(self, kind, name, plain):
        number = self.index
        index, kind = self.faults.get("indices", {}).get(number, number), self.faults.get("kinds", {}).get(
            number, kind
        )
        padded = self.faults.get("plain", {}).get(number, pkcs7)(plain)
        iv = self.ivs(number)
        encryptor = Cipher(algorithms.AES(self.enc_key), modes.CBC(iv)).encryptor()
        ciphertext = encryptor.update(padded) + encryptor.finalize()
        mac = CMAC(algorithms.AES(self.mac_key))
        mac.update(struct.pack("<QB3xI", index, kind, len(ciphertext)) + iv + ciphertext)
        self.field(name + " IV", iv)
        self.field(name + " ciphertext", ciphertext)
        self.field(name + " tag", mac.finalize())
        self.index += 1

    def field(self, name, value):
        start = len(self.out)
        self.out += value
        self.fields.append((name, start, len(self.out)))


def pkcs7(plain):
    count = 16 - len(plain) % 16
    return plain + bytes([count]) * count


def hkdf(key, salt, info):
    """RFC 5869 for one block of output."""
    extracted = hmac.new(bytes(salt), key, "sha256").digest()
    return hmac.new(extracted, info + b"\x01", "sha256").digest()


def mgf1(seed, length):
    """RFC 8017, appendix B.2.1, with SHA-256."""
    blocks = (hashlib.sha256(seed + struct.pack(">I", counter)).digest() for counter in range(-(-length // 32)))
    return b"".join(blocks)[:length]


def oaep_wrap(public, secret, label, seed):
    """RSAES-OAEP with SHA-256 (RFC 8017, section 7.1.1), with a seed of the caller's."""
    numbers = public.public_numbers()
    length = (public.key_size + 7) // 8
    block = hashlib.sha256(label).digest() + bytes(length - len(secret) - 66) + b"\x01" + secret
    masked = xor(block, mgf1(seed, len(block)))
    message = b"\0" + xor(seed, mgf1(masked, 32)) + masked
    return pow(int.from_bytes(message, "big"), numbers.e, numbers.n).to_bytes(length, "big")


def xor(left, right):
    return bytes(a ^ b for a, b in zip(left, right))


def key_id(public):
    """SHA-256 of the DER of the SubjectPublicKeyInfo, in hex."""
    spki = public.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(spki).hexdigest()


def entry(public, secret, data_id, seed=None, created="2026-11-20T23:06:00Z", wrap="rsa-oaep-sha256", **other):
    """One PEM block. `other` overrides what stands in it: `label_id`, `named_id`, `recipient`, `block`, `extra`."""
    seed = seed or hashlib.sha256(b"seed" + data_id + secret).digest()
    block = other.get("block") or oaep_wrap(public, secret, b"sidekey/1 " + other.get("label_id", data_id), seed)
    headers = [
        "Data-Id: " + other.get("named_id", data_id).hex(),
        "Recipient: " + other.get("recipient", key_id(public)),
        "Wrap: " + wrap,
        "Created: " + created,
    ]
    return pem("SIDEKEY WRAPPED KEY", headers + other.get("extra", []), block)


def pem(label, headers, body):
    text = base64.b64encode(body).decode("ascii")
    lines = [text[at : at + 64] for at in range(0, len(text), 64)]
    return "\n".join(["-----BEGIN %s-----" % label, *headers, "", *lines, "-----END %s-----" % label, ""])


def envelope(*blocks):
    """The bytes of an envelope: blocks with an empty line between."""
    return "\n".join(blocks).encode("utf-8")


def vector(head, data):
    """The bytes of a vector file: `key: value` lines, an empty line, the container."""
    return "".join("%s: %s\n" % pair for pair in head.items()).encode("utf-8") + b"\n" + data


def parse_vector(text):
    """Head and container of a vector file."""
    head, data = text.split(b"\n\n", 1)
    return dict(line.split(": ", 1) for line in head.decode("utf-8").splitlines()), data


def stored_path(path, folder_record=False):
    """The container of a raw path of bytes (docs/format.md, "Names"), or of the record of the folder `path`."""
    segments = path.split(b"/")
    folders, last = (segments, b".folder") if folder_record else (segments[:-1], coded(segments[-1]))
    stored = [segment + b"~" if ends_in(b".enc", segment) else segment for segment in map(coded, folders)]
    if not folder_record and (ends_in(b".key", last) or (last.startswith(b".folder") and not last[7:].strip(b"~"))):
        last += b"~"
    return b"/".join([*stored, last + b".enc"])


def coded(segment):
    try:
        segment.decode("utf-8")
    except UnicodeDecodeError:
        pass
    else:
        if not segment.startswith(b"%b64~"):
            return segment
    return b"%b64~" + base64.urlsafe_b64encode(segment).rstrip(b"=")


def ends_in(suffix, segment):
    return segment.rstrip(b"~").endswith(suffix)
