"""The groups of checks that run.py runs."""

import base64
import hashlib
import os
import re
import stat
import struct
import subprocess
import time

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

import cleartext_example
import reference
import worked_example
from tools import finished

FILE_KEY, DATA_ID = hashlib.sha256(b"file key").digest(), hashlib.sha256(b"data id").digest()[:16]
METADATA = {"v": 1, "type": "file", "name": "x", "mtime": "1234567890123456789", "mode": "0640"}


class World:
    """Keys, tools and a folder for all groups."""

    def __init__(self, root, folder, tools, options):
        self.root, self.folder, self.tools, self.options = root, folder, tools, options
        self.restore_py, self.restore_sh = tools[:2]
        self.binary = tools[2] if len(tools) > 2 else None
        self.key = self.make_key("key.pem")
        self.other = self.make_key("other.pem")
        self.public, self.other_public = self.key.public_key(), self.other.public_key()
        self.serial = 0

    def make_key(self, name, bits=2048):
        key = rsa.generate_private_key(65537, bits)
        (self.folder / name).write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        (self.folder / name).chmod(0o600)
        return key

    @property
    def key_path(self):
        return self.folder / "key.pem"

    def new_folder(self):
        self.serial += 1
        folder = self.folder / ("case-%d" % self.serial)
        folder.mkdir()
        return folder

    def envelope(self, data_id=DATA_ID, file_key=FILE_KEY, **other):
        return reference.envelope(reference.entry(self.public, file_key, data_id, **other))

    def pair(self, container, envelope=None, name="x"):
        """A folder with a pair; `envelope=b""` leaves the envelope out."""
        folder = self.new_folder()
        (folder / (name + ".enc")).write_bytes(container)
        envelope = self.envelope() if envelope is None else envelope
        if envelope:
            (folder / (name + ".key.enc")).write_bytes(envelope)
        return folder

    def restores(self, checks, folder, plain, name, tools=None):
        for tool in tools or self.tools:
            out = folder / "out"
            status, text = tool.restore(folder / "x.enc", out, self.key_path)
            got = out.read_bytes() if out.exists() else None
            checks.that(status == 0 and got == plain, "%s: %s" % (tool.name, name), "status %s\n%s" % (status, text))
            out.unlink(missing_ok=True)

    def refuses(self, checks, folder, name, says="", statuses=(3,), tools=None, key=None):
        """Every tool refuses, says so, and leaves the folder as it was. Only the scripts' own words are checked."""
        before = sorted(os.listdir(folder))
        for tool in tools or self.tools:
            status, text = tool.restore(folder / "x.enc", folder / "out", key or self.key_path)
            clean = sorted(os.listdir(folder)) == before
            said = tool is self.binary or says in text
            checks.that(
                status in statuses and clean and said and "Traceback" not in text,
                "%s refuses: %s" % (tool.name, name),
                "status %s, %s, wanted %r\n%s" % (status, "clean" if clean else os.listdir(folder), says, text),
            )


def pattern(length):
    """Bytes that do not repeat with any power of two."""
    return (bytes(range(251)) * (length // 251 + 1))[:length]


# --- what must be restored --------------------------------------------------------------------------------------------


def round_trips(world, checks):
    for log2 in (12, 16):
        size = 1 << log2
        for length in (0, 1, 15, 16, 17, size - 1, size, size + 1, 2 * size, 3 * size + 5):
            plain = pattern(length)
            for metadata, digest in ((None, False), (METADATA, True), (METADATA, False), (None, True)):
                container, fields = reference.container(FILE_KEY, DATA_ID, plain, log2, metadata, digest)
                checks.equal(len(container), container_length(length, log2, metadata), "length of %d bytes" % length)
                tools = world.tools if bool(metadata) == digest else [world.restore_py]
                world.restores(
                    checks,
                    world.pair(container),
                    plain,
                    "%d bytes, S = %d, metadata %s, digest %s" % (length, size, bool(metadata), digest),
                    tools,
                )


def container_length(length, log2, metadata):
    full, rest = divmod(length, 1 << log2)
    return 64 + (304 if metadata else 0) + full * ((1 << log2) + 48) + (32 + 16 * (rest // 16 + 1) if rest else 0) + 96


def both_envelope_forms(world, checks):
    plain = pattern(100)
    container, _ = reference.container(FILE_KEY, DATA_ID, plain)
    good, foreign = world.envelope(), reference.envelope(reference.entry(world.other_public, FILE_KEY, DATA_ID))
    planted = world.envelope(file_key=bytes(32))
    mislabelled = world.envelope(recipient="0" * 64)
    info = reference.pem("SIDEKEY INFO", [], b"later")
    unknown = reference.pem("SOMETHING NEW", ["A: b"], b"later")
    kind = reference.entry(world.public, FILE_KEY, DATA_ID, wrap="from-the-future")
    short, second = "x.%s.key.enc" % DATA_ID.hex()[:16], "x.key.enc"
    for name, files in {
        "first form": {short: good},
        "a planted first form": {short: planted, second: good},
        "a damaged first form": {short: b"not an envelope\n", second: good},
        "a foreign first form": {short: foreign, second: good},
        "a planted second form": {short: good, second: planted},
        "several entries": {second: foreign + b"\n" + planted + b"\n" + good},
        "a wrong recipient label": {second: mislabelled},
        "other blocks and kinds": {second: "\n".join([info, unknown, kind, good.decode()]).encode()},
        "carriage returns": {second: good.replace(b"\n", b"\r\n")},
        "no last line feed": {second: b"\n\n" + good.rstrip(b"\n")},
        "unknown headers": {second: world.envelope(extra=["X-New: value: with colons"])},
        "an entry of another container": {second: world.envelope(bytes(16)) + b"\n" + good},
    }.items():
        folder = world.pair(container, b"")
        for file, text in files.items():
            (folder / file).write_bytes(text)
        world.restores(checks, folder, plain, name)


def metadata_forms(world, checks):
    for name, metadata in {
        "unknown fields": {**METADATA, "new": {"a": [1, -2.5e3, None, True, "\u00e9\n\"\\"], "b": {}, "c": []}},
        "spaces within": b'  { "v" : 1 ,\n\t"type" : "file" }  ',
        "escaped key": b'{"\\u0076":1,"type":"file"}',
        "name in base64": {"v": 1, "type": "file", "name_b64": "/w=="},
        "a surrogate pair": b'{"v":1,"type":"file","name":"\\ud83D\\uDD11\\u0041"}',
        "one key in two objects": {**METADATA, "new": [{"a": 1}, {"a": 2, "b": {"a": 3}}], "a": 4, "more": {"v": 2}},
        "a mode with zeros": {**METADATA, "mode": "00000644"},
        "other scripts": {**METADATA, "name": "\u65e5\u672c \U0001f511"},
        "negative time": {**METADATA, "mtime": "-1"},
        "the largest": {**METADATA, "new": "x" * 65400},
        "no name": {"v": 1, "type": "file"},
    }.items():
        container, _ = reference.container(FILE_KEY, DATA_ID, b"text", 12, metadata)
        world.restores(checks, world.pair(container), b"text", name)


def attributes(world, checks):
    container, _ = reference.container(FILE_KEY, DATA_ID, pattern(9000), 12, METADATA)
    for tool, sets_time in ((world.restore_py, True), (world.restore_sh, False)):
        folder = world.pair(container)
        tool.restore(folder / "x.enc", folder / "out", world.key_path)
        found = (folder / "out").stat()
        checks.equal(stat.S_IMODE(found.st_mode), 0o640, "mode by " + tool.name)
        if sets_time:
            checks.equal(found.st_mtime_ns, 1234567890123456789, "time by " + tool.name)
    container, _ = reference.container(FILE_KEY, DATA_ID, b"", 12, {**METADATA, "mode": "7777"})
    folder = world.pair(container)
    for tool in (world.restore_py, world.restore_sh):
        tool.restore(folder / "x.enc", folder / "out", world.key_path)
        checks.equal(stat.S_IMODE((folder / "out").stat().st_mode), 0o777, "masked mode by " + tool.name)
        (folder / "out").unlink()


# --- what must be refused ---------------------------------------------------------------------------------------------


def damage(world, checks):
    size = 4096
    plain = pattern(2 * size + 100)
    container, fields = reference.container(FILE_KEY, DATA_ID, plain, 12, METADATA, True)
    for name, start, end in fields:
        for at in {start, end - 1}:
            broken = bytearray(container)
            broken[at] ^= 0x80 if at == start else 1
            world.refuses(checks, world.pair(broken), "a flipped bit of the %s at byte %d" % (name, at))
    for cut in sorted({at + step for _, at, _ in fields for step in (-1, 0, 1)} | {len(container) - 1}):
        if 0 <= cut < len(container):
            world.refuses(checks, world.pair(container[:cut]), "cut to %d bytes" % cut)
    for extra in (1, 16, 48, 96, 144, 4240):
        world.refuses(checks, world.pair(container + bytes(extra)), "%d bytes behind the end" % extra)
    world.refuses(checks, world.pair(container + container), "the container twice")
    world.refuses(checks, world.pair(container + container[-96:]), "the end section twice")


def rearranged(world, checks):
    plain = pattern(3 * 4096)
    container, fields = reference.container(FILE_KEY, DATA_ID, plain, 12)
    head, sections = split(container, fields)
    one, two, three, end = sections
    other, other_fields = reference.container(FILE_KEY, bytes(16), plain, 12)
    spliced = split(other, other_fields)[1]
    longer, longer_fields = reference.container(FILE_KEY, DATA_ID, plain + b"more", 12, ivs=lambda index: bytes(16))
    for name, parts in {
        "swapped": [two, one, three, end],
        "repeated": [one, two, two, end],
        "repeated and longer": [one, two, three, three, end],
        "first dropped": [two, three, end],
        "middle dropped": [one, three, end],
        "last dropped": [one, two, end],
        "all dropped": [end],
        "no end": [one, two, three],
        "end first": [end, one, two, three],
        "spliced from another container": [one, spliced[1], three, end],
        "the end of another container": [one, two, three, spliced[3]],
        "the end of a longer text": [one, two, three, split(longer, longer_fields)[1][-1]],
        "nothing but the header": [],
    }.items():
        world.refuses(checks, world.pair(b"".join([head, *parts])), "sections %s" % name)


def split(container, fields):
    """The header and the list of sections."""
    starts = [start for name, start, _ in fields if name.endswith(" IV")] + [len(container)]
    return container[:64], [container[start:end] for start, end in zip(starts, starts[1:])]


def forged(world, checks):
    """Good tags over wrong contents: only somebody with the file key can make these, and they are refused too."""
    size = 4096

    def refuse(name, plain=pattern(2 * size), metadata=None, says="", **faults):
        if "padded" in faults:
            faults["plain"] = faults.pop("padded")
        container, _ = reference.container(FILE_KEY, DATA_ID, plain, 12, metadata, faults=faults)
        world.refuses(checks, world.pair(container), name, says)

    def end(total=2 * size, algorithm=0, zero=bytes(7), digest=bytes(32)):
        return struct.pack("<QB7s32s", total, algorithm, zero, digest)

    refuse("version 2", header={8: b"\2"}, says="version")
    refuse("version 0", header={8: b"\0"}, says="version")
    refuse("suite 2", header={9: b"\2"}, says="suite")
    refuse("log2 11", header={10: b"\x0b"}, says="section size")
    refuse("log2 25", header={10: b"\x19"}, says="section size")
    refuse("reserved 1", header={11: b"\1"}, says="reserved")
    for length in (1, 48, 303, 305, 48 + 256 * 257, 0xFFFFFFFF):
        refuse("metadata length %d" % length, header={12: struct.pack("<I", length)}, says="metadata length")
    refuse("metadata longer than the container", b"", header={12: struct.pack("<I", 65584)}, says="ends early")
    refuse("a wrong commitment", commitment=bytes(32), says="does not match the commitment")
    refuse("padding byte 0", padded={0: lambda p: p + bytes(16)}, says="section 0")
    refuse("padding byte 17", padded={0: lambda p: p + b"\x11" * 16}, says="section 0")
    refuse("unequal padding", padded={0: lambda p: p + b"\x01" * 12 + b"\x04\x04\x03\x04"}, says="section 0")
    refuse("a full section of S + 14", padded={0: lambda p: reference.pkcs7(p + b"!" * 14)}, says="section 0")
    refuse("a full section of S + 1", padded={0: lambda p: reference.pkcs7(p + b"!")}, says="section 0")
    refuse("an empty data section", data=[b""], says="section 0")
    refuse("a wrong kind", kinds={0: 3}, says="section 0")
    refuse("a wrong index", indices={0: 1, 1: 0}, says="section 0")
    refuse("an end with the kind of data", kinds={2: 2}, says="section 2")
    refuse("a total too small", end=end(2 * size - 1), says="end section")
    refuse("a total too large", end=end(1 << 63), says="end section")
    refuse("an unknown digest", end=end(algorithm=2), says="end section")
    refuse("zeros that are not", end=end(zero=b"\0\0\0\0\0\0\1"), says="end section")
    refuse("a digest with algorithm 0", end=end(digest=b"\1" * 32), says="end section")
    refuse("a wrong digest", end=end(algorithm=1), says="digest")
    refuse("an end of 47 bytes", end=end()[:47], says="fails authentication")
    refuse("data in a folder", metadata={"v": 1, "type": "dir"}, says="data sections")
    refuse("data in a symlink", metadata={"v": 1, "type": "symlink", "target": "x"}, says="data sections")


def forged_metadata(world, checks):
    for name, text in {
        "no JSON": b"hello",
        "an array": b"[1]",
        "cut": b'{"v":1,"type":"file"',
        "two values": b'{"v":1,"type":"file"} {}',
        "a trailing comma": b'{"v":1,"type":"file",}',
        "a byte order mark": b'\xef\xbb\xbf{"v":1,"type":"file"}',
        "not UTF-8": b'{"v":1,"type":"file","name":"\xff"}',
        "overlong UTF-8": b'{"v":1,"type":"file","name":"\xc0\xaf"}',
        "a surrogate in UTF-8": b'{"v":1,"type":"file","name":"\xed\xa0\x80"}',
        "a control character": b'{"v":1,"type":"file","name":"\x07"}',
        "a line feed in a string": b'{"v":1,"type":"file","name":"\n"}',
        "a zero byte": b'{"v":1,"type":"file"}\0',
        "a bad escape": b'{"v":1,"type":"file","name":"\\x"}',
        "a constant that is not JSON": b'{"v":1,"type":"file","new":NaN}',
        "a number that is not JSON": b'{"v":1,"type":"file","new":01}',
        "a key twice": b'{"v":1,"type":"file","v":1}',
        "a key twice, once escaped": b'{"v":1,"type":"file","\\u0076":1}',
        "an unknown key twice": b'{"v":1,"type":"file","new":1,"new":2}',
        "a key twice, deeper": b'{"v":1,"type":"file","new":[{"a":1,"b":2,"a":3}]}',
        "half a surrogate pair": b'{"v":1,"type":"file","name":"\\ud83d"}',
        "the other half": b'{"v":1,"type":"file","new":"\\udd11"}',
        "a pair the wrong way round": b'{"v":1,"type":"file","name":"\\udd11\\ud83d"}',
        "a time with a plus": b'{"v":1,"type":"file","mtime":"+5"}',
        "no v": b'{"type":"file"}',
        "v 2": b'{"v":2,"type":"file"}',
        "v as a string": b'{"v":"1","type":"file"}',
        "no type": b'{"v":1}',
        "another type": b'{"v":1,"type":"fifo"}',
        "a time that is a number": b'{"v":1,"type":"file","mtime":1}',
        "a time that is none": b'{"v":1,"type":"file","mtime":"now"}',
        "a mode that is none": b'{"v":1,"type":"file","mode":"0999"}',
        "two names": b'{"v":1,"type":"file","name":"x","name_b64":"eA=="}',
        "a name that is a number": b'{"v":1,"type":"file","name":1}',
        "a symlink without target": b'{"v":1,"type":"symlink"}',
        "a symlink to nothing": b'{"v":1,"type":"symlink","target":""}',
        "a symlink to two places": b'{"v":1,"type":"symlink","target":"a","target_b64":"eA=="}',
    }.items():
        container, _ = reference.container(FILE_KEY, DATA_ID, b"", 12, text)
        world.refuses(checks, world.pair(container), name, "metadata")
    flawed = {0: lambda plain: reference.pkcs7(plain + b" ")}
    container, _ = reference.container(FILE_KEY, DATA_ID, b"", 12, METADATA, faults={"plain": flawed})
    world.refuses(checks, world.pair(container), "metadata of 257 bytes", "section 0")


def envelopes(world, checks):
    container, _ = reference.container(FILE_KEY, DATA_ID, pattern(100))
    good = world.envelope()
    lines = good.split(b"\n")
    for name, envelope, says in (
        ("no envelope", b"", "envelope"),
        ("text outside", b"hello\n" + good, "envelope"),
        ("text behind", good + b"hello\n", "envelope"),
        ("a space outside", good + b" \n", "envelope"),
        ("cut in the middle", good[:300], "ends inside a block|not a sound envelope"),
        ("a header twice", world.envelope(extra=["Wrap: x"]), "entry|sound"),
        ("no Wrap", b"\n".join(line for line in lines if not line.startswith(b"Wrap")), "entry|sound"),
        ("no Data-Id", b"\n".join(line for line in lines if not line.startswith(b"Data-Id")), "entry|sound"),
        ("header names in lower case", good.replace(b"Data-Id", b"data-id"), "entry|sound"),
        ("an upper-case data id", good.replace(DATA_ID.hex().encode(), DATA_ID.hex().upper().encode()), "entry|sound"),
        ("a character that is not base64", good.replace(lines[7], b"*" + lines[7][1:]), "entry|sound"),
        (
            "two info blocks",
            good + 2 * (b"\n" + reference.pem("SIDEKEY INFO", [], b"i").encode()),
            "more blocks|sound",
        ),
        ("1,025 blocks", good + b"\n".join([world.envelope(bytes(16))] * 1024), "more blocks|sound"),
        ("over 1 MiB", good + b"\n" * (1 << 20), "1 MiB|sound"),
        ("another container's", world.envelope(bytes(16)), "belongs to it"),
        ("another container's, renamed", world.envelope(named_id=DATA_ID, label_id=bytes(16)), "does not open"),
        ("another file key", world.envelope(file_key=bytes(32)), "does not match the commitment"),
        ("a short file key", world.envelope(file_key=FILE_KEY[:31]), "commitment|does not open"),
        ("a flipped bit in the block", flip_block(good), "does not open"),
        ("a block of the wrong length", world.envelope(block=bytes(255)), "does not open"),
        ("an unknown kind alone", world.envelope(wrap="from-the-future"), "belongs to it"),
    ):
        folder = world.pair(container, envelope)
        for says_one, tool in zip((says.split("|") * 2)[:2], world.tools[:2]):
            world.refuses(checks, folder, name, says_one, tools=[tool])
        if world.binary:
            world.refuses(checks, folder, name, tools=[world.binary], statuses=(1, 3))
    foreign = reference.envelope(reference.entry(world.other_public, FILE_KEY, DATA_ID))
    world.refuses(checks, world.pair(container, foreign), "wrapped for another key", "wrapped for", statuses=(1,))


def flip_block(envelope):
    """A bit of the RSA block flipped."""
    lines = envelope.split(b"\n")
    block = bytearray(base64.b64decode(lines[7]))
    block[0] ^= 1
    return envelope.replace(lines[7], base64.b64encode(block))


def identities(world, checks):
    container, _ = reference.container(FILE_KEY, DATA_ID, b"text")
    folder = world.pair(container)
    (folder / "right").write_bytes(b"secret words\nanother line\n")
    (folder / "wrong").write_bytes(b"other words\n")
    forms = {
        "pkcs8": ["openssl", "pkcs8", "-topk8", "-v2", "aes-256-cbc", "-v2prf", "hmacWithSHA256"],
        "scrypt": ["openssl", "pkcs8", "-topk8", "-scrypt"],
        "traditional": ["openssl", "rsa", "-traditional", "-aes256"],
        "plain PKCS#1": ["openssl", "rsa", "-traditional"],
    }
    for name, command in forms.items():
        key = folder / "form.pem"
        command = [*command, "-in", world.key_path, "-out", key]
        status, text = finished(command if "plain" in name else [*command, "-passout", "file:%s" % (folder / "right")])
        checks.equal(status, 0, "openssl makes " + name + text[:0])
        for tool in world.tools[:2]:
            status, text = tool.run("-i", key, "-p", folder / "right", "-o", folder / "out", folder / "x.enc")
            checks.that(status == 0 and (folder / "out").read_bytes() == b"text", "%s: %s" % (tool.name, name), text)
            (folder / "out").unlink(missing_ok=True)
            if "plain" not in name:
                status, text = tool.run("-i", key, "-p", folder / "wrong", "-o", folder / "out", folder / "x.enc")
                checks.that(
                    status == 1 and "passphrase" in text and not (folder / "out").exists(),
                    "%s: %s with a wrong passphrase" % (tool.name, name),
                    "%s %s" % (status, text),
                )
    strong_scrypt(world, folder, checks)
    (folder / "public.pem").write_bytes(
        world.public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    )
    world.make_key("small.pem", 1024)
    for key, says in (
        (folder / "public.pem", "public key"),
        (world.folder / "small.pem", "2048 to 8192"),
        (folder / "x.enc", "not a private key"),
        (folder / "missing", "No such file"),
    ):
        status, text = world.restore_py.run("-i", key, "-o", folder / "out", folder / "x.enc")
        checks.that(status == 1 and says in text, "restore.py: identity %s" % key.name, "%s %s" % (status, text))


def strong_scrypt(world, folder, checks):
    """A key as `--kdf scrypt` writes it, which is more than OpenSSL's tools take."""
    strong, phrase = folder / "strong.pem", (folder / "right").read_bytes().split(b"\n")[0]
    strong.write_text(under_scrypt(world.key, phrase))
    for file, code in (("right", 0), ("wrong", 1)):
        status, text = world.restore_py.run("-i", strong, "-p", folder / file, "-o", folder / "out", folder / "x.enc")
        checks.equal((status, (folder / "out").exists()), (code, code == 0), "restore.py: strong scrypt, " + file)
        (folder / "out").unlink(missing_ok=True)
    status, text = world.restore_sh.run("-i", strong, "-p", folder / "right", "-o", folder / "out", folder / "x.enc")
    checks.that(status == 1 and "32 MiB" in text and "restore.py" in text, "restore.sh: strong scrypt", text)


def under_scrypt(key, phrase):
    def der(tag, content):
        size = len(content)
        return bytes([tag]) + (bytes([size]) if size < 128 else b"\x82" + size.to_bytes(2, "big")) + content

    plain = key.private_bytes(
        serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    salt, iv = bytes(range(16)), bytes(range(16, 32))
    derived = hashlib.scrypt(phrase, salt=salt, n=1 << 17, r=8, p=1, maxmem=1 << 28, dklen=32)
    left = 16 - len(plain) % 16
    encryptor = Cipher(algorithms.AES(derived), modes.CBC(iv)).encryptor()
    sealed = encryptor.update(plain + bytes([left]) * left) + encryptor.finalize()
    costs = der(4, salt) + der(2, b"\x02\x00\x00") + der(2, b"\x08") + der(2, b"\x01")
    scrypt = der(0x30, bytes.fromhex("06092b06010401da47040b") + der(0x30, costs))
    aes = der(0x30, bytes.fromhex("060960864801650304012a") + der(4, iv))
    pbes2 = der(0x30, bytes.fromhex("06092a864886f70d01050d") + der(0x30, scrypt + aes))
    text = base64.b64encode(der(0x30, pbes2 + der(4, sealed))).decode()
    lines = "\n".join(text[at : at + 64] for at in range(0, len(text), 64))
    return "-----BEGIN ENCRYPTED PRIVATE KEY-----\n%s\n-----END ENCRYPTED PRIVATE KEY-----\n" % lines


def outputs(world, checks):
    container, _ = reference.container(FILE_KEY, DATA_ID, b"text")
    for tool, force in ((world.restore_py, "-f"), (world.restore_sh, "-f")):
        folder = world.pair(container)
        (folder / "out").write_bytes(b"precious")
        status, text = tool.run("-i", world.key_path, "-o", folder / "out", folder / "x.enc")
        checks.that(status == 1 and "exists already" in text, "%s keeps what is there" % tool.name, text)
        checks.equal((folder / "out").read_bytes(), b"precious", "%s keeps what is there" % tool.name)
        (folder / "bad.enc").write_bytes(container[:-1])
        status, text = tool.run(
            "-i", world.key_path, "-e", folder / "x.key.enc", force, "-o", folder / "out", folder / "bad.enc"
        )
        checks.equal(
            (status, (folder / "out").read_bytes()), (3, b"precious"), "%s: a failure replaces nothing" % tool.name
        )
        status, text = tool.run("-i", world.key_path, force, "-o", folder / "out", folder / "x.enc")
        checks.equal((status, (folder / "out").read_bytes()), (0, b"text"), "%s replaces when told to" % tool.name)
        status, text = tool.run("-i", world.key_path, folder / "x.enc")
        checks.equal((status, (folder / "x").read_bytes()), (0, b"text"), "%s: without -o" % tool.name)
        checks.equal(tool.run("-i", world.key_path, folder / "x")[0], 2, "%s: not a container's name" % tool.name)
        checks.equal(tool.run(folder / "x.enc")[0], 2, "%s: no identity" % tool.name)
        left = {"x", "x.enc", "x.key.enc", "out", "bad.enc"}
        checks.equal(set(os.listdir(folder)), left, "%s leaves nothing behind" % tool.name)
    interrupted(world, checks)
    odd = world.new_folder()
    name = "a=b -c 'd' $e.key"
    (odd / (name + "~.enc")).write_bytes(container)
    (odd / (name + "~.key.enc")).write_bytes(world.envelope())
    for tool in world.tools[:2]:
        status, text = tool.run("-i", world.key_path, odd / (name + "~.enc"))
        checks.that(status == 0 and (odd / name).read_bytes() == b"text", "%s: an odd name" % tool.name, text)
        (odd / name).unlink(missing_ok=True)
    for status, arguments in ((0, ["-o", odd / "out", odd / (name + "~.enc")]), (2, []), (1, [odd / "missing.enc"])):
        got, text = world.restore_py.process("-i", world.key_path, *arguments)
        checks.that(got == status and "Traceback" not in text, "restore.py as a process: %d" % status, text)


def interrupted(world, checks):
    """The shell script is slow enough to be stopped in the middle."""
    folder = world.pair(reference.container(FILE_KEY, DATA_ID, pattern(1 << 22), 12)[0])
    command = [
        world.restore_sh.shell,
        world.restore_sh.script,
        "-i",
        world.key_path,
        "-o",
        folder / "out",
        folder / "x.enc",
    ]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        while not any(folder.glob(".sidekey-restore.*/section")) and process.poll() is None:
            time.sleep(0.01)
        process.terminate()
        checks.equal(process.wait(30), 130, "interrupted")
    checks.equal(sorted(os.listdir(folder)), ["x.enc", "x.key.enc"], "interrupted, nothing is left")


# --- names and folders ------------------------------------------------------------------------------------------------


def names(world, checks):
    """The table of the document, read by the writer and by the reader."""
    text = (world.root / "docs" / "format.md").read_text("utf-8").split("<!-- names -->")[1].split("\n\n")[1]
    rows = [re.findall(r"`([^`]+)`( \(a folder\))?", line) for line in text.splitlines()[2:]]
    checks.that(len(rows) >= 20, "rows of the table", len(rows))
    for (raw, record), (container, _), (envelope, _) in rows:
        raw = raw.encode("utf-8").replace(b"\\xff", b"\xff")
        stored = reference.stored_path(raw.rstrip(b"/"), bool(record))
        checks.equal(stored, container.encode("utf-8"), "container of %r" % raw)
        checks.equal(stored[:-4] + b".key.enc", envelope.encode("utf-8"), "envelope of %r" % raw)
        *folders, last = stored.split(b"/")
        module = world.restore_py.module
        back = [module.folder_name(segment) for segment in folders] + [module.container_name(last)]
        checks.equal(b"/".join(back), raw, "the way back from %r" % stored)
    for foreign in (
        "x",
        "x.key.enc",
        ".enc",
        "..enc",
        "...enc",
        "%b64~Li4.enc",
        "%b64~eA.enc",
        "%b64~_w==.enc",
        "%b64~_x.enc",
        "%b64~/w.enc",
        "%b64~.enc",
        "%b64~_.enc",
        "%b64~_y8.enc",
        "%b64~_wA.enc",
        "%b64~_w%.enc",
    ):
        checks.equal(world.restore_py.module.container_name(foreign.encode()), None, "foreign: " + foreign)
    for foreign in ("a.enc", ".", "..", "", "%b64~Li4", "%b64~_y8"):
        checks.equal(world.restore_py.module.folder_name(foreign.encode()), None, "foreign folder: " + foreign)


TREE = {
    b"x": b"one",
    b"x.enc": b"two",
    b"server.key": b"three",
    b"server.key~": b"",
    b"a": b"four",
    b"a.enc/x": b"five",
    b"a.enc/.folder": b"six",
    b"\xff/\xfe": b"seven",
    b"%b64~": b"eight",
    b"deep/er/and/deeper": pattern(70000),
}

# What can be restored beside its container: not `x.enc`, whose name the container of `x` has.
PLAIN_PATHS = [b"x", b"server.key", b"server.key~", b"a", b"\xff/\xfe", b"deep/er/and/deeper"]


def make_tree(world, folder):
    files = {
        path: (content, {"v": 1, "type": "file", "mode": "0600", "mtime": "%d000000001" % index})
        for index, (path, content) in enumerate(TREE.items(), 1)
    }
    files[b"deep/link"] = (b"", {"v": 1, "type": "symlink", "target": "../x", "mtime": "5000000001"})
    files[b"a.enc/bytes"] = (b"", {"v": 1, "type": "symlink", "target_b64": "/w=="})
    records = {
        b"empty": {"v": 1, "type": "dir", "mode": "0711", "mtime": "7000000001"},
        b"deep/er": {"v": 1, "type": "dir", "mode": "0500", "mtime": "8000000001"},
    }
    for path, (content, metadata) in files.items():
        store(world, folder, reference.stored_path(path), content, metadata)
    for path, metadata in records.items():
        store(world, folder, reference.stored_path(path, True), b"", metadata)


def store(world, folder, stored, content, metadata):
    data_id, file_key = hashlib.sha256(stored).digest()[:16], hashlib.sha256(b"key" + stored).digest()
    path = os.path.join(os.fsencode(folder), stored)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as file:
        file.write(reference.container(file_key, data_id, content, 16, metadata)[0])
    middle = b"." + data_id.hex()[:16].encode() if len(stored) % 2 else b""
    with open(path[:-4] + middle + b".key.enc", "wb") as file:
        file.write(world.envelope(data_id, file_key))


def folders(world, checks):
    stored, out = world.new_folder(), world.new_folder() / "out"
    make_tree(world, stored)
    status, text = world.restore_py.run("-i", world.key_path, "-o", out, stored)
    checks.that(status == 0 and "14 restored, 0 failed" in text, "a tree", "%s %s" % (status, text))
    checks.equal(found(out), TREE, "contents of the tree")
    checks.equal(os.readlink(out / "deep" / "link"), "../x", "a symlink")
    checks.equal(os.readlink(os.fsencode(out / "a.enc" / "bytes")), b"\xff", "a symlink that is not UTF-8")
    for path, mode, mtime in (
        ("x", 0o600, 1000000001),
        ("deep/link", None, 5000000001),
        ("empty", 0o711, 7000000001),
        ("deep/er", 0o500, 8000000001),
    ):
        status_ = (out / path).lstat()
        checks.equal(status_.st_mtime_ns, mtime, "time of " + path)
        checks.that(mode in (None, stat.S_IMODE(status_.st_mode)), "mode of " + path, oct(status_.st_mode))
    before = found(stored)
    status, text = world.restore_py.run("-i", world.key_path, stored)
    checks.that(status == 1 and "10 restored, 4 failed" in text, "beside the sources", "%s %s" % (status, text))
    after = found(stored)
    checks.that(after.items() >= before.items(), "beside the sources nothing is overwritten")
    checks.equal([after.get(path) for path in PLAIN_PATHS], [TREE[path] for path in PLAIN_PATHS], "beside the sources")
    os.chmod(out / "deep" / "er", 0o700)
    status, text = world.restore_py.run("-i", world.key_path, "-o", out, stored)
    checks.that(status == 1 and text.count("exists already") >= 12, "a second time", text)
    if world.binary:
        from_binary = world.new_folder() / "out"
        fresh = world.new_folder()
        make_tree(world, fresh)
        status, text = world.binary.run("decrypt", "-i", world.key_path, fresh, "-o", from_binary)
        got = next((child for child in (from_binary / fresh.name, from_binary) if child.is_dir()), from_binary)
        checks.that(status == 0 and found(got) == TREE, "the binary restores the tree", "%s %s" % (status, text))


def found(top):
    """Contents of all regular files, by path."""
    top = os.fsencode(top)
    paths = (os.path.join(folder, name) for folder, _, names_ in os.walk(top) for name in names_)
    files = {}
    for path in paths:
        if not os.path.islink(path):
            with open(path, "rb") as file:
                files[os.path.relpath(path, top)] = file.read()
    return files


def hostile_folders(world, checks):
    """Names and links that try to leave the folder; one bad pair does not stop the others."""
    stored, out = world.new_folder(), world.new_folder() / "out"
    secret = world.new_folder()
    for name in (b"...enc", b"..enc", b"%b64~Li4.enc", b"%b64~_y8u.enc", b"a.enc/x.enc"):
        store(world, stored, name, b"bad", {"v": 1, "type": "file"})
    store(world, stored, b"link.enc", b"", {"v": 1, "type": "symlink", "target": str(secret)})
    store(world, stored, b"link/inner.enc", b"through", {"v": 1, "type": "file"})
    store(world, stored, b"good.enc", b"good", {"v": 1, "type": "file", "name": "../../evil"})
    store(world, stored, b"kind/.folder.enc", b"", {"v": 1, "type": "file"})
    (stored / "broken.enc").write_bytes(b"hello")
    (stored / "alone.enc").write_bytes(reference.container(FILE_KEY, DATA_ID, b"")[0])
    status, text = world.restore_py.run("-i", world.key_path, "-o", out, stored)
    checks.equal(status, 3, "status")
    checks.equal(text.count("is not named as sidekey names containers"), 5, "foreign names" + text)
    for says in ("holds a file", "does not begin like a container", "has no envelope", "warning: was encrypted under"):
        checks.that(says in text, "says " + says, text)
    checks.that("Traceback" not in text, "no traceback", text)
    checks.equal(os.listdir(secret), [], "nothing was written through the link")
    checks.equal((out / "good").read_bytes(), b"good", "the good pair")
    checks.equal((out / "link" / "inner").read_bytes(), b"through", "the folder came first")
    checks.that("link: exists already" in text, "the link came last", text)
    again, fresh = world.new_folder(), world.new_folder()
    store(world, again, b"link/inner.enc", b"through", {"v": 1, "type": "file"})
    os.symlink(secret, fresh / "link")
    status, text = world.restore_py.run("-i", world.key_path, "-o", fresh, "-f", again)
    checks.that(status == 1 and "is not a folder" in text and not os.listdir(secret), "a link in the way", text)
    status, _ = world.restore_py.run("-i", world.key_path, "--strict", "-o", fresh, stored / "good.enc")
    checks.equal((status, (fresh / "good").exists()), (3, False), "--strict")


def paths_of_any_length(world, checks):
    """What is too long for the system is named, what is only deep is restored, and the others are restored with it."""
    stored, out = world.new_folder(), world.new_folder() / "out"
    store(world, stored, b"a/good.enc", b"good", {"v": 1, "type": "file", "mode": "0600", "mtime": "1000000001"})
    store(world, stored, b"z/.folder.enc", b"", {"v": 1, "type": "dir", "mode": "0711", "mtime": "7000000001"})
    store(world, stored, b"z/link.enc", b"", {"v": 1, "type": "symlink", "target": "../a/good"})
    folder = os.open(stored, os.O_RDONLY)
    for _ in range(25):
        os.mkdir("n" * 200, dir_fd=folder)
        below = os.open("n" * 200, os.O_RDONLY, dir_fd=folder)
        os.close(folder)
        folder = below
    os.close(os.open("lost.enc", os.O_CREAT | os.O_WRONLY, dir_fd=folder))
    os.close(folder)
    deep = b"d/" * 1100
    for at in range(2, len(deep) + 1, 2):
        os.mkdir(os.path.join(os.fsencode(stored), deep[:at]))
    store(world, stored, deep + b"x.enc", b"deep", {"v": 1, "type": "file"})
    status, text = world.restore_py.run("-i", world.key_path, "-o", out, stored)
    checks.that(status == 1 and "4 restored, 1 failed" in text, "status", "%s %.3000s" % (status, text))
    checks.that("cannot be listed: File name too long" in text, "the long one is named", text[-500:])
    checks.equal((out / "a" / "good").read_bytes(), b"good", "a file before it")
    checks.equal(os.readlink(out / "z" / "link"), "../a/good", "a symlink behind it")
    checks.equal((out / "z").stat().st_mtime_ns, 7000000001, "the time of a folder")
    with open(os.path.join(os.fsencode(out), deep, b"x"), "rb") as file:
        checks.equal(file.read(), b"deep", "a thousand folders deep")
    # Removing a tree of this depth in one call is too much for older Pythons.
    for top in (stored, out):
        bottom = os.path.join(os.fsencode(top), deep)
        for name in os.listdir(bottom):
            os.unlink(os.path.join(bottom, name))
        for at in range(len(deep), 0, -2):
            os.rmdir(os.path.join(os.fsencode(top), deep[:at]))


def what_nobody_thought_of(world, checks):
    """A fault of any kind is told of its file, or of its folder, and the others go on."""
    stored, out = world.new_folder(), world.new_folder() / "out"
    for name in (b"a.enc", b"b.enc", b"c.enc"):
        store(world, stored, name, name, {"v": 1, "type": "file"})
    module = world.restore_py.module
    check_name = module.check_name

    def failing(job, sealed, options):
        if job.container.endswith("b.enc"):
            raise MemoryError("planted")
        check_name(job, sealed, options)

    module.check_name = failing
    status, text = world.restore_py.run("-i", world.key_path, "-o", out, stored)
    module.check_name = check_name
    checks.that(status == 1 and "2 restored, 1 failed" in text, "one of three", text)
    checks.that("MemoryError: planted" in text and sorted(os.listdir(out)) == ["a", "c"], "it is named", text)
    status, text = world.restore_py.run("-i", world.key_path, "-o", out / "a", stored)
    checks.that(status == 1 and "File exists" in text and "Traceback" not in text, "a file instead of a folder", text)
    for settings in (b"[" * 4000, b'{"v":1,"vault":"%s","generation":1.0,"names":"plain"}' % (b"00" * 16), b"[]", b""):
        vault = world.new_folder()
        store(world, vault, b"a.enc", b"a", {"v": 1, "type": "file"})
        (vault / ".sidekey").mkdir()
        (vault / ".sidekey" / "vault.json").write_bytes(settings)
        after = world.new_folder()
        arguments = ["-i", world.key_path, "-o", after, vault, stored / "a.enc"]
        status, text = world.restore_py.run(*arguments)
        says = "is not the settings of a vault"
        checks.that(status == 3 and says in text and (after / "a").exists(), "settings %.20r" % settings, text)


# --- the recipe -------------------------------------------------------------------------------------------------------


def recipe(world, checks):
    words = base64.b64encode(pattern(180)).decode()
    lines = "\n".join(words[at : at + 64] for at in range(0, 240, 64))
    joined = lines.replace("\n", " ")
    variants = [
        ("md5 joined", ["-md", "md5", "-a"], "md5", joined, joined, "joined"),
        ("sha256 first line", ["-md", "sha256", "-a", "-A"], "sha256", lines, lines.split("\n")[0], "first-line"),
        ("pbkdf2 raw", ["-pbkdf2"], "pbkdf2:10000", joined, joined, "joined"),
        ("pbkdf2 rounds", ["-pbkdf2", "-iter", "1000", "-a"], "pbkdf2:1000", lines, joined, "joined"),
    ]
    for plain in (b"", b"x" * 16, pattern(100_003)):
        for name, how, kdf, stored, used, reading in variants:
            folder = world.new_folder()
            recipe_pair(world, folder, plain, how, stored, used, one_line="raw" not in name)
            arguments = ["-i", world.key_path, "-o", folder / "out", folder / "x.enc"]
            said = ["--recipe-kdf", kdf, "--recipe-password", reading]
            status, text = world.restore_py.run(*said, *arguments)
            got = (folder / "out").read_bytes() if (folder / "out").exists() else None
            checks.that(
                status == 0 and got == plain and "nothing authenticates" in text,
                "%s, %d bytes" % (name, len(plain)),
                "%s %s" % (status, text),
            )
            (folder / "out").unlink(missing_ok=True)
            status, text = world.restore_py.run(*arguments)
            checks.that(status == 1 and "not recorded" in text, name + ": never guessed", text)
            cut = (folder / "x.enc").read_bytes().rstrip()
            (folder / "x.enc").write_bytes(cut[:-1])
            status, text = world.restore_py.run(*said, *arguments)
            checks.that(status == 3 and sorted(os.listdir(folder)) == ["x.enc", "x.key.enc"], name + ": cut", text)
    declared(world, checks)
    adopted(world, checks, joined)


def recipe_pair(world, folder, plain, how, stored, used, one_line):
    (folder / "plain").write_bytes(plain)
    subprocess.run(
        [
            "openssl",
            "enc",
            "-aes-256-cbc",
            *how,
            "-pass",
            "pass:" + used,
            "-in",
            folder / "plain",
            "-out",
            folder / "x.enc",
        ],
        check=True,
        stderr=subprocess.DEVNULL,
    )
    (folder / "plain").unlink()
    block = subprocess.run(
        ["openssl", "pkeyutl", "-encrypt", "-inkey", world.key_path],
        input=stored.encode() + b"\n",
        check=True,
        capture_output=True,
    ).stdout
    (folder / "x.key.enc").write_bytes(base64.b64encode(block) + b"\n" if one_line else block)


def declared(world, checks):
    """A password of sidekey's own names its derivation."""
    folder = world.new_folder()
    password = "sidekey:pbkdf2:1000:" + "A+/z" * 16
    recipe_pair(world, folder, b"declared", ["-pbkdf2", "-iter", "1000", "-a"], password, password, False)
    status, text = world.restore_py.run("-i", world.key_path, "-o", folder / "out", folder / "x.enc")
    checks.that(status == 0 and (folder / "out").read_bytes() == b"declared", "a password that names its KDF", text)
    folder = world.new_folder()
    password = password.replace("1000", "99999999")
    recipe_pair(world, folder, b"declared", ["-md", "md5"], password, password, False)
    store(world, folder, b"y.enc", b"good", {"v": 1, "type": "file"})
    status, text = world.restore_py.run("-i", world.key_path, "-o", folder / "out", folder)
    says = "x.enc: its key file names a way to derive its key" in text and "1 restored, 1 failed" in text
    checks.that(status == 3 and says, "a password that names too many rounds", text)


def adopted(world, checks, password):
    folder = world.new_folder()
    recipe_pair(world, folder, b"adopted", ["-md", "md5", "-a"], password, password, True)
    raw = base64.b64decode((folder / "x.enc").read_bytes())
    key = world.restore_py.module.recipe_derive(("md5", 1), password.encode(), raw[8:16])
    data_id = hashlib.sha256(b"sidekey/1 recipe" + raw[:64]).digest()[:16]
    entry = reference.entry(world.public, key[0] + key[1], data_id, wrap="recipe-key", extra=["Recipe-Kdf: md5"])
    (folder / ("x.%s.key.enc" % data_id.hex()[:16])).write_bytes(reference.envelope(entry))
    (folder / "x.key.enc").unlink()
    status, text = world.restore_py.run("-i", world.key_path, "-o", folder / "out", folder / "x.enc")
    checks.that(status == 0 and (folder / "out").read_bytes() == b"adopted", "an adopted key", text)


# --- the document, the vectors, the binary ----------------------------------------------------------------------------


def document(world, checks):
    text = worked_example.DOCUMENT.read_text("utf-8")
    checks.equal(text, worked_example.document_with_samples(text), "the samples of the document")
    checks.equal(worked_example.VECTOR.read_bytes(), worked_example.vector(), "the vector of the worked example")
    checks.equal(text, cleartext_example.document_with_sample(text), "the sample of cleartext in the document")
    checks.equal(cleartext_example.VECTOR.read_bytes(), cleartext_example.vector(), "the vector of cleartext")
    container, fields = worked_example.container()
    shown = re.findall(r"^[0-9a-f]{4}  ((?:[0-9a-f]{2} ?)+)", text.split("<!-- worked container -->")[1], re.MULTILINE)
    checks.equal(bytes.fromhex("".join(shown)), container, "the hex of the document")
    folder = world.new_folder()
    (folder / "hello.txt.enc").write_bytes(container)
    (folder / "hello.txt.key.enc").write_bytes(worked_example.envelope())
    key = (world.root / "fixtures" / "keys" / worked_example.IDENTITY).read_bytes()
    (folder / "key.pem").write_bytes(key)
    script = re.search(r"<!-- by hand -->\n```sh\n(.*?)```", text, re.DOTALL).group(1)
    done = subprocess.run(
        [world.options.shell, "-eu", "-c", script], cwd=folder, capture_output=True, timeout=240, check=False
    )
    checks.equal((done.returncode, done.stdout), (0, b"hello\n"), "the commands of the document")
    checks.equal(done.stderr.count(b"is good"), 2, "the checks of the commands")
    for tool in world.tools:
        status, said = tool.restore(folder / "hello.txt.enc", folder / "out", folder / "key.pem")
        checks.that(status == 0 and (folder / "out").read_bytes() == b"hello\n", tool.name, said)
        (folder / "out").unlink(missing_ok=True)


def vectors(world, checks, part):
    """One part of VECTOR_PARTS, every so manieth file."""
    if not world.options.vectors:
        return
    directory = world.options.vectors
    files = sorted(directory.glob("*.vec"))[part::VECTOR_PARTS]
    checks.that(files, "there are vectors", directory)
    for path in files:
        head, container = reference.parse_vector(path.read_bytes())
        key = world.key_path
        if "envelope" in head and "identity" in head:
            envelope = base64.b64decode(head["envelope"])
            key = directory.parent / "keys" / head["identity"]
        else:
            data_id = container[16:32].ljust(16, b"\0")
            envelope = world.envelope(data_id, bytes.fromhex(head["file-key"]))
        folder = world.pair(container, envelope)
        for tool in world.tools:
            vector(world, checks, path.name, head, folder, key, tool)


def vector(world, checks, name, head, folder, key, tool):
    if head["expect"] != "ok":
        statuses = (1, 3) if head["expect"] in ("key", "envelope") else (3,)
        world.refuses(checks, folder, name, statuses=statuses, tools=[tool], key=key)
        return
    out = folder / "out"
    status, text = tool.restore(folder / "x.enc", out, key)
    plain = out.read_bytes() if out.is_file() and not out.is_symlink() else b""
    right = len(plain) == int(head["plain-len"]) and hashlib.sha256(plain).hexdigest() == head["plain-sha256"]
    made = os.path.lexists(out) or "this script makes files only" in text
    checks.that(status == 0 and right and made, "%s: %s" % (tool.name, name), "status %s\n%s" % (status, text))
    if out.is_dir() and not out.is_symlink():
        out.rmdir()
    else:
        out.unlink(missing_ok=True)


def written_by_the_binary(world, checks):
    if not world.binary:
        return
    folder = world.new_folder()
    (folder / "public.pem").write_bytes(
        world.public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    )
    for length in (0, 1, 15, 16, 17, 65535, 65536, 65537, 131072, 196613):
        for more in ([], ["--digest", "sha256"]):
            plain = pattern(length)
            (folder / "x").write_bytes(plain)
            os.utime(folder / "x", ns=(1, 1234567890123456789))
            os.chmod(folder / "x", 0o640)
            status, text = world.binary.run("encrypt", "-r", folder / "public.pem", *more, folder / "x")
            checks.equal(status, 0, "encrypt %d bytes: %s" % (length, text))
            checks.that(
                (folder / "x.enc").exists() and (folder / "x.key.enc").exists(), "the pair of %d bytes" % length
            )
            world.restores(checks, folder, plain, "%d bytes of the binary" % length, world.tools[:2])
            world.restore_py.restore(folder / "x.enc", folder / "out", world.key_path)
            found_ = (folder / "out").stat()
            checks.equal(
                (found_.st_mtime_ns, stat.S_IMODE(found_.st_mode)), (1234567890123456789, 0o640), "attributes"
            )
            for name in ("x", "x.enc", "x.key.enc", "out"):
                (folder / name).unlink()
    binary_tree(world, checks, folder)


def binary_tree(world, checks, folder):
    tree, out, back = folder / "tree", folder / "stored", folder / "back"
    for path, content in TREE.items():
        path = os.path.join(os.fsencode(tree), path)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.write(content)
    os.mkdir(tree / "empty")
    os.symlink("x", tree / "link")
    status, text = world.binary.run("encrypt", "-r", folder / "public.pem", tree, "-o", out)
    checks.equal(status, 0, "the binary encrypts a tree: " + text)
    top = out / "tree" if (out / "tree").is_dir() else out
    for path in TREE:
        checks.that(os.path.lexists(os.path.join(os.fsencode(top), reference.stored_path(path))), "name of %r" % path)
    status, text = world.restore_py.run("-i", world.key_path, "-o", back, top)
    checks.that(status == 0 and found(back) == TREE, "restore.py restores the binary's tree", "%s %s" % (status, text))
    checks.that(
        (back / "empty").is_dir() and os.path.islink(back / "link"), "empty folder and symlink", os.listdir(back)
    )


VECTOR_PARTS = 8

# With their arguments; those that take long come first.
GROUPS = [
    *((vectors, part) for part in range(VECTOR_PARTS)),
    (round_trips,),
    (written_by_the_binary,),
    (damage,),
    (both_envelope_forms,),
    (metadata_forms,),
    (attributes,),
    (rearranged,),
    (forged,),
    (forged_metadata,),
    (envelopes,),
    (identities,),
    (outputs,),
    (names,),
    (folders,),
    (hostile_folders,),
    (paths_of_any_length,),
    (what_nobody_thought_of,),
    (recipe,),
    (document,),
]
