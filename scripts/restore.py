#!/usr/bin/env python3
"""Restore what sidekey encrypted, without sidekey: Python 3.8 or newer and its `cryptography` package are enough.

    python3 -m venv .venv && .venv/bin/pip install cryptography
    .venv/bin/python restore.py -i KEY.pem NAME.enc            makes NAME beside NAME.enc
    .venv/bin/python restore.py -i KEY.pem NAME.enc -o FILE    makes FILE
    .venv/bin/python restore.py -i KEY.pem FOLDER -o NEW       restores a whole tree into NEW; in a vault, its root,
                                                               names are decrypted

One file, to be kept with the backups. It follows docs/format.md and shares no code with sidekey. It checks the key
commitment, every tag, every length and the digest, and gives a file its name only when all of it was good. It reads
section by section, so memory does not grow with the file.

Files of the older OpenSSL recipe (`Salted__`) are restored too, with --recipe-kdf and --recipe-password; they carry
no authentication, which it says each time.

In a vault a pair without a valid info record for its name is refused.

What it cannot do: Python does not wipe memory, so keys may stay in the memory of this process until it ends. Paths
that are longer than the system takes at once (4,096 bytes on Linux), as deep folders of a vault may have, are named
and left out; `sidekey restore` takes them.

Exit status: 0 done; 1 failed, or some files failed; 2 wrong usage; 3 the bytes are not what their writer made, or
one half of a pair is missing; 130 interrupted.
"""

import argparse
import base64
import collections
import contextlib
import getpass
import hashlib
import hmac
import json
import os
import re
import signal
import struct
import sys
import tempfile

try:
    from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import padding, rsa
    from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
    from cryptography.hazmat.primitives.cmac import CMAC
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF
except ImportError:
    sys.exit("restore.py: the Python package `cryptography` is missing\n"
             "restore.py: hint: python3 -m venv .venv && .venv/bin/pip install cryptography")

FAILED, USAGE, INTEGRITY, INTERRUPTED = 1, 2, 3, 130
LATER = object()


def main(arguments=None):
    """Restores every path of the command line and returns the exit status."""
    options = parse_arguments(arguments)
    report = Report()
    try:
        options.keys = [load_key(path, options) for path in options.identity]
        for job in plan(options, report):
            report.run(job, lambda: restore(job, options, report))
        finish_links(options, report)
        finish_folders(report)
    except Failure as failure:
        report.failed(failure)
    if report.restored + len(report.failures) > 1:
        say("%d restored, %d failed" % (report.restored, len(report.failures)))
    return report.status()


def parse_arguments(arguments):
    parser = argparse.ArgumentParser(
        prog="restore.py", formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Restore what sidekey encrypted, with Python's `cryptography` alone.",
        epilog="exit status: 0 done, 1 failed, 2 usage, 3 damaged bytes or half a pair")
    parser.add_argument("paths", nargs="+", metavar="PATH", help="a container (NAME.enc) or a folder of pairs")
    parser.add_argument("-i", "--identity", action="append", required=True, metavar="KEY.pem",
                        help="RSA private key in PEM; may be given several times")
    parser.add_argument("-e", "--envelope", metavar="FILE", help="the envelope, when it is not beside the container")
    parser.add_argument("-o", "--output", metavar="OUT",
                        help="file or folder to make; beside the container if absent")
    parser.add_argument("-p", "--passphrase-file", metavar="FILE",
                        help="its first line opens the private keys; asked on the terminal if absent")
    parser.add_argument("-f", "--force", action="store_true", help="replace files that exist")
    parser.add_argument("--strict", action="store_true",
                        help="refuse a pair whose own name is not that of its container")
    parser.add_argument("--recipe-kdf", type=recipe_kdf, metavar="KDF",
                        help="how files of the OpenSSL recipe derive their key: md5, sha256 or pbkdf2:ROUNDS")
    parser.add_argument("--recipe-password", choices=["joined", "first-line"],
                        help="how `openssl enc` read the recipe's password")
    options = parser.parse_args(arguments)
    if options.envelope and (len(options.paths) > 1 or os.path.isdir(options.paths[0])):
        parser.error("--envelope goes with one container")
    if options.output and len(options.paths) > 1 and not os.path.isdir(options.output):
        parser.error("--output has to be a folder when there are several paths")
    return options


# --- what to restore, and where to ------------------------------------------------------------------------------------

Job = collections.namedtuple("Job", "container root output is_folder_record vault stored", defaults=[None, None])


def plan(options, report):
    """Yields one job per container."""
    for path in options.paths:
        with report.going_on(path):
            if os.path.isdir(path):
                yield from folder_jobs(path, options, report)
            else:
                yield single_job(path, options)


def single_job(path, options):
    folder, stored = os.path.split(path)
    if not stored.endswith(".enc"):
        raise Failure(path, "is not a container: its name does not end in .enc", USAGE)
    if options.output and not os.path.isdir(options.output):
        return Job(path, None, options.output, False)
    name = container_name(os.fsencode(stored))
    if name is None:
        raise Failure(path, "is not named as sidekey names containers", USAGE, "say where to restore it with -o FILE")
    output = os.path.join(options.output or folder, os.fsdecode(name)) if name else (options.output or folder or ".")
    return Job(path, None, output, name == b"")


def folder_jobs(top, options, report):
    """Every container below `top`; what is not named by the rules is reported, never guessed at."""
    top_bytes, root = os.fsencode(top), os.fsencode(options.output or top)
    if options.output:
        os.makedirs(options.output, exist_ok=True)

    vault = Vault.of(top, options)

    def unreadable(error):
        report.failed(Failure(error.filename, "cannot be listed: %s" % error.strerror))

    for folder, files in walk(top_bytes, lambda path: not ours_not_theirs(path, top_bytes, root), unreadable):
        relative = [] if folder == top_bytes else os.path.relpath(folder, top_bytes).split(b"/")
        encrypted = vault and vault.encrypted
        plain = vault.folder_names(relative) if encrypted else [folder_name(segment) for segment in relative]
        for stored in files:
            path = os.fsdecode(os.path.join(folder, stored))
            if not stored.endswith(b".enc") or stored.endswith(b".key.enc"):
                continue
            name = vault.container_name(relative, stored) if encrypted else container_name(stored)
            if name is None or None in plain:
                report.failed(Failure(path, "is not named as sidekey names containers", FAILED,
                                      "restore it by itself with -o FILE"))
                continue
            output = os.path.join(root, *plain, *([name] if name else []))
            stored = b"/".join([*relative, stored[:-4]])
            yield Job(path, os.fsdecode(root), os.fsdecode(output), name == b"", vault, stored)


def walk(top, is_entered, unreadable):
    """Yields each folder with its sorted files. `os.walk` calls itself for each level before Python 3.12, so that a
    thousand folders in each other would end it."""
    waiting = [top]
    while waiting:
        folder = waiting.pop()
        try:
            with os.scandir(folder) as entries:
                entries = sorted(entries, key=lambda entry: entry.name)
            folders = {entry.name: entry.is_symlink() for entry in entries if is_folder(entry)}
        except OSError as error:
            unreadable(error)
            continue
        yield folder, [entry.name for entry in entries if entry.name not in folders]
        paths = [os.path.join(folder, name) for name, is_symlink in folders.items() if not is_symlink]
        waiting += filter(is_entered, reversed(paths))


def is_folder(entry):
    try:
        return entry.is_dir()
    except OSError:
        return False


def ours_not_theirs(path, top, root):
    """Folders below `top` that hold no pairs: a vault's own, and the one we are restoring into."""
    if path == os.path.join(top, b".sidekey"):
        return True
    try:
        return root != top and os.path.samefile(path, root)
    except OSError:
        return False  # too long a path, or gone: listing it says so


def container_name(stored):
    """The name that the container `stored` restores to: b"" for a folder's own record, None for a foreign name
    (docs/format.md, "Names")."""
    name = stored[:-4] if stored.endswith(b".enc") else None
    if name is None or name.endswith(b".key"):
        return None
    if name == b".folder":
        return b""
    if re.search(rb"\.key~+\Z", name) or re.match(rb"\.folder~+\Z", name):
        name = name[:-1]
    return raw_segment(name)


def folder_name(stored):
    """The name of the folder stored as the segment `stored`, or None for a foreign name."""
    if re.search(rb"\.enc\Z", stored):
        return None
    return raw_segment(stored[:-1] if re.search(rb"\.enc~+\Z", stored) else stored)


def raw_segment(segment):
    """Undoes `%b64~`. Takes only the form that a writer would have chosen, and nothing that could leave its folder."""
    raw = segment
    if segment.startswith(b"%b64~"):
        raw = base64_segment(segment[5:])
        if raw is None:
            return None
    if (raw != segment) != needs_b64(raw):
        return None
    return one_name(raw)


def one_name(raw):
    """The name, if it is one and leads nowhere else."""
    return None if raw in (None, b"", b".", b"..") or b"/" in raw or b"\0" in raw else raw


def base64_segment(text):
    """Base64 without padding, in the one form that a writer would have chosen; None for anything else."""
    if not re.match(rb"[A-Za-z0-9_-]*\Z", text) or len(text) % 4 == 1:
        return None
    raw = base64.urlsafe_b64decode(text + b"=" * (-len(text) % 4))
    return raw if base64.urlsafe_b64encode(raw).rstrip(b"=") == text else None


def needs_b64(raw):
    try:
        raw.decode("utf-8")
    except UnicodeDecodeError:
        return True
    return raw.startswith(b"%b64~")


# --- vaults ------------------------------------------------------------------------------------------------------------

class Vault:
    """The names and info records of a vault (docs/format.md, "Vaults"), by its master key."""

    def __init__(self, top, master, vault_id, generation, encrypted):
        self.top, self.id, self.generation, self.encrypted = os.fsencode(top), vault_id, generation, encrypted
        self.info_key = hkdf(master, vault_id, b"sidekey/1 info", 64)
        self.names_key = hkdf(master, vault_id, b"sidekey/1 names", 64)
        self.long_key = hkdf(master, vault_id, b"sidekey/1 long names", 32)
        self.settings_key = hkdf(master, vault_id, b"sidekey/1 vault", 32)

    @classmethod
    def of(cls, top, options):
        """The vault whose root `top` is; None for a folder that is none."""
        path = os.path.join(top, ".sidekey", "vault.json")
        if not os.path.exists(path):
            return None
        with open(path, "rb") as stream:
            try:
                settings = json.loads(stream.read(4097))
                vault_id, generation = bytes.fromhex(settings["vault"]), settings["generation"]
                if settings["v"] != 1 or len(vault_id) != 16 or type(generation) is not int or not 0 < generation < 256:
                    raise ValueError
                text = '{"v":1,"vault":"%s","generation":%d,"names":"%s"}' % (vault_id.hex(), generation, settings["names"])
                text = text.encode()
            except (ValueError, KeyError, TypeError, RecursionError) as fault:
                raise Failure(path, "is not the settings of a vault", INTEGRITY) from fault
        envelope = os.path.join(top, ".sidekey", "master.%d.key.enc" % generation)
        found = Search(envelope, [envelope], vault_id[:15] + bytes([generation]), "rsa-oaep-sha256", options.keys)
        for master in found.secrets:
            vault = cls(top, master, vault_id, generation, settings["names"] == "encrypted")
            tag = hmac.new(vault.settings_key, text, hashlib.sha256).hexdigest()
            if len(master) == 32 and hmac.compare_digest(tag, str(settings.get("hmac"))):
                return vault
        raise Failure(path, "was not made with the master key that the envelope holds", INTEGRITY) \
            if found.opened else found.explain()

    def vouches(self, stored, sealed, record):
        """Whether it is the info record of this container under this stored name."""
        if record[:1] != bytes([self.generation]):
            return False
        info = siv_open(self.info_key, [self.id, stored, sealed.data_id], record[1:])
        return info is not None and info[:1] == b"\1" and hmac.compare_digest(info[64:96], sealed.commitment)

    def folder_names(self, relative):
        """The names of stored folder segments, None for what is not ours."""
        return [self.segment(b"/".join(relative[:at]), segment) for at, segment in enumerate(relative)]

    def container_name(self, relative, stored):
        """As the function of that name, in the folder with these stored segments."""
        name = self.segment(b"/".join(relative), stored[:-4])
        if name == b".folder":
            return b""
        return name[:-1] if name and re.match(rb"\.folder~+\Z", name) else name

    def segment(self, folder, stored):
        if re.match(rb"s[A-Za-z0-9_-]+\Z", stored):
            sealed = base64_segment(stored[1:])
            name = sealed and siv_open(self.names_key, [folder], sealed)
        elif re.match(rb"h[A-Za-z0-9_-]{43}\Z", stored):
            # Records that nothing seemed to need are set aside for a while.
            for place in (b".sidekey/names", b".sidekey/unused"):
                with contextlib.suppress(OSError), open(os.path.join(self.top, place, stored), "rb") as stream:
                    name = siv_open(self.names_key, [folder], stream.read(1024))
                    name = name and name.rstrip(b"\0")
                    tag = hmac.new(self.long_key, folder + b"\0" + (name or b""), hashlib.sha256).digest()
                    if name and base64.urlsafe_b64encode(tag).rstrip(b"=") == stored[1:]:
                        return one_name(name)
            return None
        else:
            return None
        return one_name(name)


def hkdf(key, salt, info, length):
    return HKDF(hashes.SHA256(), length, salt, info).derive(key)


def siv_open(key, data, sealed):
    """AES-SIV (RFC 5297), by hand: the AES-SIV of some OpenSSL versions leaves out associated data that is empty."""
    half = len(key) // 2
    tag, counter = sealed[:16], bytearray(sealed[:16])
    if len(tag) < 16:
        return None
    counter[8] &= 0x7F
    counter[12] &= 0x7F
    decryptor = Cipher(algorithms.AES(key[half:]), modes.CTR(bytes(counter))).decryptor()
    plain = decryptor.update(sealed[16:]) + decryptor.finalize()
    return plain if hmac.compare_digest(s2v(key[:half], data, plain), tag) else None


def s2v(key, data, plain):
    def cmac(text):
        mac = CMAC(algorithms.AES(key))
        mac.update(text)
        return mac.finalize()

    def double(block):
        value = int.from_bytes(block, "big") << 1
        return (value & (1 << 128) - 1 ^ (0x87 if value >> 128 else 0)).to_bytes(16, "big")

    def xor(one, other):
        return bytes(a ^ b for a, b in zip(one, other))

    state = cmac(bytes(16))
    for part in data:
        state = xor(double(state), cmac(part))
    if len(plain) >= 16:
        return cmac(plain[:-16] + xor(plain[-16:], state))
    return cmac(xor(double(state), plain + b"\x80" + bytes(15 - len(plain))))


# --- one container ----------------------------------------------------------------------------------------------------

def restore(job, options, report):
    """Restores one container, of either format."""
    with open(job.container, "rb") as stream:
        start = stream.read(10)
        if start.startswith(b"Salted__") or start.startswith(b"U2FsdGVkX1"):
            return restore_recipe(job, stream, options)
        sealed = unlocked(job, stream, options)
        kind = sealed.metadata.get("type", "file")
        if job.is_folder_record and kind != "dir":
            raise Failure(job.container, "is named like a folder's record and holds a %s" % kind, INTEGRITY)
        check_name(job, sealed, options)
        make_parents(job)
        kinds = {"file": restore_file, "dir": restore_folder, "symlink": restore_symlink}
        return kinds[kind](job, sealed, options, report)


def unlocked(job, stream, options):
    stream.seek(0)
    sealed = Sealed(job.container, stream, os.fstat(stream.fileno()).st_size)
    sealed.unlock(find_file_key(sealed, job.container, options))
    return sealed


def restore_file(job, sealed, options, report):
    with Temporary(job.output, options.force) as temporary:
        for plain in sealed.sections():
            temporary.file.write(plain)
        temporary.publish(sealed.metadata)


def restore_folder(job, sealed, options, report):
    sealed.expect_nothing()
    if os.path.islink(job.output) or (os.path.lexists(job.output) and not os.path.isdir(job.output)):
        raise Failure(job.output, "exists already and is not a folder")
    with contextlib.suppress(FileExistsError):
        os.mkdir(job.output)
    report.folders.append((job.output, sealed.metadata))


def restore_symlink(job, sealed, options, report):
    sealed.expect_nothing()
    report.links.append((job, sealed))
    return LATER


def check_name(job, sealed, options):
    """The metadata's name is never used as a path; that it differs is worth knowing (a pair may have been moved). In a vault
    the info record tells."""
    if job.vault:
        if any(job.vault.vouches(job.stored, sealed, record) for record in sealed.records):
            return
        raise Failure(job.container, "has no info record of this vault for its name", INTEGRITY,
                      "it was swapped with another, planted, or brought from elsewhere")
    name = sealed.own_name()
    stored = container_name(os.fsencode(os.path.basename(job.container)))
    if name is None or not stored or name == stored:
        return
    message = "was encrypted under the name %s" % printable(os.fsdecode(name))
    if options.strict:
        raise Failure(job.container, message, INTEGRITY)
    say("%s: warning: %s" % (printable(job.container), message))


def make_parents(job):
    """Makes the folders between the root and the output, and refuses to pass through a symlink among them."""
    if job.root is None:
        return
    path = job.root
    for segment in os.path.relpath(job.output, job.root).split("/")[:-1]:
        path = os.path.join(path, segment)
        with contextlib.suppress(FileExistsError):
            os.mkdir(path)
        if os.path.islink(path) or not os.path.isdir(path):
            raise Failure(path, "is in the way: it is not a folder")


def set_attributes(path, metadata):
    if "mode" in metadata:
        os.chmod(path, int(metadata["mode"], 8) & 0o777)
    if "mtime" in metadata:
        mtime = int(metadata["mtime"])
        try:
            os.utime(path, ns=(mtime, mtime), follow_symlinks=False)
        except (OSError, OverflowError, ValueError):
            say("%s: warning: this system cannot set its time" % printable(path))


def finish_links(options, report):
    """Symlinks are made last, so that nothing is ever written through one."""
    for job, sealed in report.links:
        report.run(job, lambda: make_link(job, sealed, options))


def make_link(job, sealed, options):
    if os.path.lexists(job.output):
        if not options.force or not os.path.islink(job.output):
            raise Failure(job.output, "exists already", FAILED, "--force replaces files by files, symlinks by symlinks")
        os.unlink(job.output)
    os.symlink(sealed.link_target(), os.fsencode(job.output))
    set_attributes(job.output, {key: value for key, value in sealed.metadata.items() if key != "mode"})


def finish_folders(report):
    """Folders get their modes and times last, the deepest first: writing into one would change them."""
    for path, metadata in sorted(report.folders, key=lambda folder: folder[0].count("/"), reverse=True):
        with report.going_on(path):
            set_attributes(path, metadata)


class Temporary:
    """A file beside its target, mode 0600, that gets the target's name only by `publish`."""

    def __init__(self, target, force):
        self.target, self.force = target, force
        if os.path.isdir(target) and not os.path.islink(target):
            raise Failure(target, "exists already and is a folder")
        if os.path.lexists(target) and not force:
            raise self.exists()
        self.folder = os.path.dirname(target) or "."
        descriptor, self.path = tempfile.mkstemp(prefix=".", suffix=".sidekey-tmp", dir=self.folder)
        self.file = os.fdopen(descriptor, "wb")

    def exists(self):
        return Failure(self.target, "exists already", FAILED, "--force replaces it")

    def publish(self, metadata):
        self.file.flush()
        set_attributes(self.path, metadata)
        os.fsync(self.file.fileno())
        if self.force:
            os.replace(self.path, self.target)
        else:
            self.publish_new()
        descriptor = os.open(self.folder, os.O_RDONLY)
        with contextlib.suppress(OSError):
            os.fsync(descriptor)
        os.close(descriptor)

    def publish_new(self):
        """A hard link, unlike a rename, never replaces what came there in the meantime."""
        try:
            os.link(self.path, self.target)
        except FileExistsError:
            raise self.exists() from None
        except OSError:
            if os.path.lexists(self.target):
                raise self.exists() from None
            os.rename(self.path, self.target)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.file.close()
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.path)


# --- the container format (docs/format.md, "The container") -----------------------------------------------------------

class Sealed:
    """A container that is being read: header, commitment, then sections in order, each checked before it is used."""

    MAGIC = b"SIDEKEY\0"
    HEADER, END, FRAMING = 64, 96, 48
    MAX_METADATA = 48 + 256 * 256
    MAX_PLAIN = 1 << 48

    def __init__(self, path, stream, size):
        self.path, self.stream = path, stream
        header = stream.read(self.HEADER)
        if not header.startswith(self.MAGIC):
            raise self.damaged("does not begin like a container")
        if len(header) < self.HEADER:
            raise self.damaged("ends inside its header, after %d of 64 bytes" % len(header))
        version, suite, log2, reserved, metadata = struct.unpack_from("<BBBBI", header, 8)
        if version != 1:
            raise self.damaged("has version %d; this program reads version 1" % version)
        if suite != 1:
            raise self.damaged("has cipher suite %d; this program reads suite 1" % suite)
        if not 12 <= log2 <= 24 or reserved:
            raise self.damaged("has an impossible section size or reserved byte in its header")
        if metadata and ((metadata - 48) % 256 or not 48 + 256 <= metadata <= self.MAX_METADATA):
            raise self.damaged("has an impossible metadata length in its header: %d bytes" % metadata)
        self.salt, self.data_id, self.commitment = header[:32], header[16:32], header[32:]
        self.section_size, self.metadata_length = 1 << log2, metadata
        self.offset, self.left = self.HEADER, size - self.HEADER
        self.index, self.total, self.digest = 0, 0, hashlib.sha256()
        self.metadata, self.records = {}, []

    def damaged(self, message):
        return Failure(self.path, message, INTEGRITY)

    def derive(self, file_key, purpose):
        info = b"sidekey/1 " + purpose
        return HKDF(algorithm=hashes.SHA256(), length=32, salt=self.salt, info=info).derive(file_key)

    def commits_to(self, file_key):
        return hmac.compare_digest(self.derive(file_key, b"commit"), self.commitment)

    def unlock(self, file_key):
        """Takes a file key that matches the commitment, and reads the metadata section if there is one."""
        if not self.commits_to(file_key):
            raise self.damaged("the file key does not match the commitment of the container")
        self.mac_key, self.enc_key = self.derive(file_key, b"mac"), self.derive(file_key, b"encrypt")
        if self.metadata_length:
            if self.left < self.metadata_length + self.END:
                raise self.truncated()
            length = self.metadata_length - self.FRAMING
            self.metadata = self.parse_metadata(self.section(1, self.metadata_length, length, length))

    def sections(self):
        """Yields the plaintext of each data section; ends only when the end section was good and nothing follows."""
        full = self.section_size + self.FRAMING
        while self.left != self.END:
            if self.left < self.END + self.FRAMING or self.left % 16:
                raise self.truncated()
            if self.left >= full + self.END:
                plain = self.section(2, full, self.section_size, self.section_size)
            else:
                plain = self.section(2, self.left - self.END, 1, self.section_size - 1)
            self.total += len(plain)
            self.digest.update(plain)
            if self.total > self.MAX_PLAIN:
                raise self.damaged("holds more than 2^48 bytes")
            yield plain
        self.check_end()

    def check_end(self):
        at = self.offset
        plain = self.section(3, self.END, 48, 48)
        total, algorithm, zero, digest = struct.unpack("<QB7s32s", plain)
        if algorithm > 1 or any(zero) or (algorithm == 0 and any(digest)):
            raise self.damaged("end section at byte %d: unknown digest algorithm or fields that are not zero" % at)
        if total != self.total:
            raise self.damaged("end section at byte %d: says %d bytes of plaintext; there are %d"
                               % (at, total, self.total))
        if algorithm == 1 and not hmac.compare_digest(digest, self.digest.digest()):
            raise self.damaged("the digest of the plaintext is not that of the end section")
        if self.stream.read(1):
            raise self.damaged("grew while it was read")

    def expect_nothing(self):
        if next(self.sections(), None) is not None:
            raise self.damaged("is a %s and has data sections" % self.metadata["type"])

    def section(self, kind, stored, shortest, longest):
        """Reads, checks and only then decrypts one section of `stored` bytes. A wrong tag, a wrong padding and a wrong
        length are one and the same error."""
        blob = memoryview(self.stream.read(stored))
        if len(blob) < stored:
            raise self.truncated()
        body, tag = blob[:-16], blob[-16:]
        mac = CMAC(algorithms.AES(self.mac_key))
        mac.update(struct.pack("<QB3xI", self.index, kind, stored - 32))
        mac.update(body)
        try:
            mac.verify(bytes(tag))
        except InvalidSignature:
            raise self.unauthentic() from None
        decryptor = Cipher(algorithms.AES(self.enc_key), modes.CBC(bytes(body[:16]))).decryptor()
        plain = unpadded(decryptor.update(body[16:]) + decryptor.finalize())
        if plain is None or not shortest <= len(plain) <= longest:
            raise self.unauthentic()
        self.index, self.offset, self.left = self.index + 1, self.offset + stored, self.left - stored
        return plain

    def truncated(self):
        return self.damaged("ends early: what is left at byte %d cannot be a section and the end section" % self.offset)

    def unauthentic(self):
        return self.damaged("section %d at byte %d fails authentication" % (self.index, self.offset))

    def parse_metadata(self, plain):
        try:
            metadata = json.loads(plain.decode("utf-8"), object_pairs_hook=unique, parse_constant=refuse)
            check_metadata(metadata)
        except (ValueError, RecursionError) as error:
            raise self.damaged("metadata: %s" % error) from None
        return metadata

    def own_name(self):
        return either(self.metadata, "name")

    def link_target(self):
        return either(self.metadata, "target")


def unique(pairs):
    """A JSON object; a key that stands in it twice is an error."""
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a key stands twice")
    return members


def refuse(constant):
    raise ValueError("%s is not JSON" % constant)


def check_metadata(metadata):
    if not isinstance(metadata, dict):
        raise ValueError("not an object")
    json.dumps(metadata, ensure_ascii=False).encode("utf-8")  # refuses half a surrogate pair, wherever it is
    if type(metadata.get("v")) is not int or metadata["v"] != 1:
        raise ValueError("`v` is not 1")
    if metadata.get("type") not in ("file", "dir", "symlink"):
        raise ValueError("`type` is none of file, dir and symlink")
    if "mtime" in metadata and not matches(r"-?[0-9]{1,38}", metadata["mtime"]):
        raise ValueError("`mtime` is not a decimal string")
    if "mode" in metadata and not matches(r"0*[0-7]{1,4}", metadata["mode"]):
        raise ValueError("`mode` is not an octal string")
    either(metadata, "name")
    target = either(metadata, "target")
    if metadata["type"] == "symlink" and (not target or b"\0" in target):
        raise ValueError("a symlink without `target`")


def matches(pattern, value):
    return isinstance(value, str) and re.fullmatch(pattern, value, re.ASCII) is not None


def either(metadata, field):
    """The bytes of `field`, or of its `_b64` twin; None if neither is there."""
    if field in metadata and field + "_b64" in metadata:
        raise ValueError("both `%s` and `%s_b64`" % (field, field))
    if field in metadata:
        if not isinstance(metadata[field], str):
            raise ValueError("`%s` is not a string" % field)
        return metadata[field].encode("utf-8")
    if field + "_b64" in metadata:
        if not isinstance(metadata[field + "_b64"], str):
            raise ValueError("`%s_b64` is not a string" % field)
        return base64.b64decode(metadata[field + "_b64"], validate=True)
    return None


def unpadded(plain):
    """PKCS#7 off, or None. Only ever called on authentic bytes."""
    count = plain[-1]
    if not 1 <= count <= 16 or plain[-count:] != bytes([count]) * count:
        return None
    return plain[:-count]


# --- the envelope (docs/format.md, "The envelope") --------------------------------------------------------------------

Entry = collections.namedtuple("Entry", "data_id recipient wrap block")
MAX_ENVELOPE, MAX_BLOCKS = 1 << 20, 1024


def find_file_key(sealed, container, options):
    found = open_entries(container, sealed.data_id, "rsa-oaep-sha256", options)
    matching = (key for key in found.secrets if len(key) == 32 and sealed.commits_to(key))
    file_key = next(matching, None)
    if file_key is None:
        raise found.explain()
    sealed.records = found.records
    return file_key


def open_entries(container, data_id, wrap, options):
    """Finds the envelopes of a container and opens, lazily, what they hold for our keys."""
    stored = container[:-4] if container.endswith(".enc") else container
    names = ["%s.%s.key.enc" % (stored, data_id.hex()[:16]), stored + ".key.enc"]
    return Search(container, [options.envelope] if options.envelope else names, data_id, wrap, options.keys)


class Search:
    """The entries of all envelopes that a container may have: a planted or damaged one must not hide the real one."""

    def __init__(self, container, names, data_id, wrap, keys):
        self.container, self.names, self.keys = container, names, keys
        self.entries, self.records, self.faults, self.opened, self.seen = [], [], [], 0, 0
        for name in names:
            if not os.path.lexists(name):
                continue
            self.seen += 1
            try:
                entries, record = read_envelope(name)
                self.entries += [e for e in entries if e.data_id == data_id and e.wrap == wrap]
                self.records += [record] if record else []
            except (Failure, OSError) as fault:
                self.faults.append(fault if isinstance(fault, Failure) else Failure(name, fault.strerror))
        self.label = b"sidekey/1 " + data_id
        ours = {key.id for key in keys}
        self.entries.sort(key=lambda entry: entry.recipient not in ours)
        self.secrets = self.unwrap_all()

    def unwrap_all(self):
        oaep = padding.OAEP(padding.MGF1(hashes.SHA256()), hashes.SHA256(), self.label)
        for entry in self.entries:
            for key in self.keys:
                if len(entry.block) != (key.private.key_size + 7) // 8:
                    continue
                with contextlib.suppress(ValueError):
                    secret = key.private.decrypt(entry.block, oaep)
                    self.opened += 1
                    yield secret

    def explain(self):
        """Why nothing fitted."""
        if not self.seen:
            return Failure(self.container, "has no envelope: neither %s is there" % " nor ".join(self.names),
                           INTEGRITY, "name it with --envelope FILE")
        if self.opened:
            return Failure(self.container, "the file key in the envelope does not match the commitment of the "
                           "container", INTEGRITY)
        if self.faults:
            return self.faults[0]
        if not self.entries:
            return Failure(self.container, "no envelope beside it belongs to it", INTEGRITY,
                           "the Data-Id of an envelope has to be that of its container")
        ours, theirs = {key.id for key in self.keys}, [entry.recipient for entry in self.entries]
        if ours.intersection(theirs):
            return Failure(self.container, "the envelope is damaged: the entry for key %s does not open"
                           % ours.intersection(theirs).pop()[:16], INTEGRITY)
        return Failure(self.container, "is wrapped for key %s, but the identity is key %s" % (
            ", ".join(recipient[:16] for recipient in theirs[:4]), ", ".join(sorted(key_id[:16] for key_id in ours))))


def read_envelope(path):
    """The `SIDEKEY WRAPPED KEY` entries of an envelope and the bytes of its `SIDEKEY INFO` block, None without one; other
    blocks are passed over, anything else is an error."""
    with open(path, "rb") as stream:
        text = stream.read(MAX_ENVELOPE + 1)
    if len(text) > MAX_ENVELOPE:
        raise Failure(path, "is larger than an envelope may be (1 MiB)", INTEGRITY)
    entries, record, labels, label, block = [], None, [], None, []
    for number, line in enumerate(text.split(b"\n"), 1):
        line = line[:-1] if line.endswith(b"\r") else line
        begin = re.fullmatch(rb"-----BEGIN ([ -~]+)-----", line)
        if label is None and begin:
            label, block = begin.group(1), []
        elif label is None and line:
            raise Failure(path, "line %d: not an envelope: text outside the blocks" % number, INTEGRITY)
        elif label is not None and line == b"-----END " + label + b"-----":
            labels.append(label)
            if label == b"SIDEKEY WRAPPED KEY":
                entries.append(parse_entry(path, number, block))
            if label == b"SIDEKEY INFO":
                record = parse_record(block)
            label = None
        elif label is not None:
            block.append(line)
    if label is not None:
        raise Failure(path, "ends inside a block", INTEGRITY)
    if labels.count(b"SIDEKEY INFO") > 1 or len(labels) > MAX_BLOCKS:
        raise Failure(path, "holds more blocks than an envelope may", INTEGRITY)
    return entries, record


def parse_record(block):
    """Base64 alone. Whatever else it is belongs to no vault of this format, which refuses it, and concerns nobody else."""
    try:
        return base64.b64decode(b"".join(block), validate=True)
    except ValueError:
        return b""


def parse_entry(path, number, block):
    """Headers, an empty line, base64."""
    damaged = Failure(path, "the block that ends on line %d is not an entry" % number, INTEGRITY)
    if b"" not in block:
        raise damaged
    split = block.index(b"")
    headers = {}
    for line in block[:split]:
        match = re.fullmatch(rb"([A-Za-z0-9-]+): ([!-~](?:[ -~]*[!-~])?)", line)
        if match is None or match.group(1) in headers:
            raise damaged
        headers[match.group(1)] = match.group(2).decode("ascii")
    data_id, recipient = headers.get(b"Data-Id", ""), headers.get(b"Recipient", "")
    if not matches("[0-9a-f]{32}", data_id) or not matches("[0-9a-f]{64}", recipient) or b"Wrap" not in headers:
        raise damaged
    try:
        wrapped = base64.b64decode(b"".join(block[split + 1:]), validate=True)
    except ValueError:
        raise damaged from None
    return Entry(bytes.fromhex(data_id), recipient, headers[b"Wrap"], wrapped)


# --- private keys -----------------------------------------------------------------------------------------------------

Key = collections.namedtuple("Key", "private id")


def load_key(path, options):
    try:
        with open(path, "rb") as stream:
            pem = stream.read(1 << 20)
    except OSError as error:
        raise Failure(path, error.strerror) from None
    if b"PUBLIC KEY-----" in pem:
        raise Failure(path, "is a public key; a private one is needed")
    try:
        private = serialization.load_pem_private_key(pem, None)
    except TypeError:
        private = load_encrypted(path, pem, options)
    except (ValueError, UnsupportedAlgorithm):
        raise Failure(path, "is not a private key in PEM") from None
    if not isinstance(private, rsa.RSAPrivateKey) or not 2048 <= private.key_size <= 8192:
        raise Failure(path, "is not an RSA key of 2048 to 8192 bits")
    spki = private.public_key().public_bytes(serialization.Encoding.DER,
                                             serialization.PublicFormat.SubjectPublicKeyInfo)
    return Key(private, hashlib.sha256(spki).hexdigest())


def load_encrypted(path, pem, options):
    try:
        return serialization.load_pem_private_key(pem, passphrase(path, options))
    except (ValueError, TypeError):
        raise Failure(path, "wrong passphrase") from None
    except UnsupportedAlgorithm as error:
        raise Failure(path, "cannot be opened here: %s" % error) from None


def passphrase(path, options):
    if options.passphrase_file:
        try:
            with open(options.passphrase_file, "rb") as stream:
                return stream.readline(1 << 16).rstrip(b"\r\n")
        except OSError as error:
            raise Failure(options.passphrase_file, error.strerror) from None
    try:
        return os.fsencode(getpass.getpass("passphrase for %s: " % printable(path)))
    except EOFError:
        raise Failure(path, "no passphrase was given", FAILED, "use --passphrase-file FILE") from None


# --- the OpenSSL recipe (docs/format.md, "Files of the OpenSSL recipe") -----------------------------------------------

def restore_recipe(job, stream, options):
    """Restores a `Salted__` file: no tags, no digest, so only its padding can show a wrong key."""
    base = job.container[:-4] if job.container.endswith(".enc") else job.container
    say("%s: warning: a file of the OpenSSL recipe: nothing authenticates what it holds" % printable(job.container))
    stream.seek(0)
    blocks = recipe_chunks(job.container, stream)
    first = next(blocks, b"")
    if len(first) < 32 or not first.startswith(b"Salted__"):
        raise Failure(job.container, "ends early", INTEGRITY)
    aes_key, iv = recipe_key(job, base, first, options)
    decryptor = Cipher(algorithms.AES(aes_key), modes.CBC(iv)).decryptor()
    make_parents(job)
    with Temporary(job.output, options.force) as temporary:
        held, length = decryptor.update(first[16:]), len(first)
        for chunk in blocks:
            temporary.file.write(held[:-16])
            length += len(chunk)
            held = held[-16:] + decryptor.update(chunk)
        if length % 16:
            raise Failure(job.container, "ends early: %d bytes are not whole blocks" % length, INTEGRITY)
        plain = unpadded(held + decryptor.finalize())
        if plain is None:
            raise Failure(job.container, "bad padding: damaged, or not these recipe settings", INTEGRITY,
                          "try other values of --recipe-kdf and --recipe-password")
        temporary.file.write(plain)
        temporary.publish({})


def recipe_chunks(path, stream):
    """The decoded bytes, raw or from base64 of any line width, in chunks of at least 64 bytes but for the last."""
    if stream.read(8) == b"Salted__":
        stream.seek(0)
        yield from iter(lambda: stream.read(1 << 16), b"")
        return
    stream.seek(0)
    rest = b""
    for text in iter(lambda: stream.read(1 << 16), b""):
        text = rest + text.translate(None, b"\r\n")
        whole = len(text) - len(text) % 4
        rest = text[whole:]
        yield recipe_base64(path, text[:whole])
    if rest:
        raise Failure(path, "ends inside a group of base64", INTEGRITY)


def recipe_base64(path, text):
    try:
        return base64.b64decode(text, validate=True)
    except ValueError:
        raise Failure(path, "holds bytes that are not base64", INTEGRITY) from None


def recipe_key(job, base, first, options):
    """AES key and IV: from an adopted entry (`Wrap: recipe-key`), else from the password in the key file."""
    data_id = hashlib.sha256(b"sidekey/1 recipe" + first[:64]).digest()[:16]
    adopted = open_entries(job.container, data_id, "recipe-key", options)
    secret = next((secret for secret in adopted.secrets if len(secret) == 48), None)
    if secret is not None:
        return secret[:32], secret[32:]
    name = options.envelope or base + ".key.enc"
    if adopted.entries or not os.path.lexists(name):
        raise adopted.explain()
    with open(name, "rb") as stream:
        block = stream.read(MAX_ENVELOPE)
    if re.fullmatch(rb"[A-Za-z0-9+/=\r\n]+", block):
        block = recipe_base64(name, block.translate(None, b"\r\n"))
    for key in options.keys:
        if len(block) == (key.private.key_size + 7) // 8:
            with contextlib.suppress(ValueError):
                return recipe_derive(*recipe_settings(job, key.private.decrypt(block, padding.PKCS1v15()), options),
                                     first[8:16])
    raise Failure(name, "does not open with this identity")


def recipe_settings(job, text, options):
    """KDF and password: as the user says, or as a password that sidekey made names them; never guessed."""
    if options.recipe_kdf and options.recipe_password:
        return options.recipe_kdf, recipe_password(text, options.recipe_password)
    declared = re.fullmatch(rb"sidekey:(pbkdf2:[1-9][0-9]{0,7}):[A-Za-z0-9+/]{64}\n?", text)
    if declared and not options.recipe_kdf:
        try:
            return recipe_kdf(declared.group(1).decode("ascii")), text.rstrip(b"\n")
        except argparse.ArgumentTypeError as error:
            raise Failure(job.container, "its key file names a way to derive its key: %s" % error, INTEGRITY) from None
    raise Failure(job.container, "how its key was derived is not recorded", FAILED,
                  "give --recipe-kdf (md5, sha256, pbkdf2:10000) and --recipe-password (joined, first-line)")


def recipe_password(text, reading):
    """`-pass stdin` takes one line: the only one when the shell had joined them with spaces, else the first."""
    lines = text.rstrip(b"\r\n").replace(b"\r\n", b"\n").split(b"\n")
    return b" ".join(lines) if reading == "joined" else lines[0]


def recipe_derive(kdf, password, salt):
    name, rounds = kdf
    if name == "pbkdf2":
        derived = hashlib.pbkdf2_hmac("sha256", password, salt, rounds, 48)
    else:
        derived = last = b""
        while len(derived) < 48:
            last = hashlib.new(name, last + password + salt).digest()
            derived += last
    return derived[:32], derived[32:48]


def recipe_kdf(text):
    if text in ("md5", "sha256"):
        return text, 1
    match = re.fullmatch(r"pbkdf2(?::([1-9][0-9]{0,7}))?", text, re.ASCII)
    if not match or int(match.group(1) or 10000) > 10_000_000:
        raise argparse.ArgumentTypeError("%r is none of md5, sha256 and pbkdf2:ROUNDS (up to 10000000)" % text)
    return "pbkdf2", int(match.group(1) or 10000)


# --- messages and status ----------------------------------------------------------------------------------------------

class Failure(Exception):
    """What failed, why, with which exit status, and what to do about it."""

    def __init__(self, path, message, status=FAILED, hint=None):
        super().__init__("%s: %s" % (printable(os.fsdecode(path)), message))
        self.status, self.hint = status, hint


class Report:
    """What was restored and what was not; one bad file never stops the others."""

    def __init__(self):
        self.restored, self.failures, self.folders, self.links = 0, [], [], []

    def run(self, job, action):
        """Runs one action; one that returns `LATER` is counted when its second half runs."""
        with self.going_on(job.output):
            self.restored += action() is not LATER

    @contextlib.contextmanager
    def going_on(self, path):
        """Reports whatever fails inside. What nobody thought of must not end a recovery either."""
        try:
            yield
        except Failure as failure:
            self.failed(failure)
        except OSError as error:
            self.failed(Failure(path if error.filename is None else error.filename, error.strerror or str(error)))
        except Exception as error:
            self.failed(Failure(path, "%s: %s" % (type(error).__name__, error)))

    def failed(self, failure):
        self.failures.append(failure)
        say(str(failure))
        if failure.hint:
            say("hint: " + failure.hint)

    def status(self):
        statuses = {failure.status for failure in self.failures}
        return next((status for status in (INTEGRITY, USAGE, FAILED) if status in statuses), 0)


def printable(text):
    """Names from a hostile store must not drive the terminal."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode("ascii") for c in text)


def say(line):
    print("restore.py: " + line, file=sys.stderr)


def interrupted(*_):
    raise KeyboardInterrupt


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, interrupted)
    signal.signal(signal.SIGHUP, interrupted)
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        say("interrupted")
        sys.exit(INTERRUPTED)
