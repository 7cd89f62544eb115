"""A world: one account in Backblaze's simulator, with what the simulator simplifies made like the service."""

import base64
import bisect
import hashlib
import secrets
import threading
import time

from b2sdk._internal.encryption.setting import EncryptionKey, EncryptionSetting, SSE_B2_AES, SSE_NONE
from b2sdk._internal.encryption.types import EncryptionAlgorithm, EncryptionMode
from b2sdk._internal.raw_api import ALL_CAPABILITIES
from b2sdk._internal.raw_simulator import BucketSimulator, FileSimulator, KeySimulator, PartSimulator, RawSimulator

from .faults import Counts, Faults

LARGEST_COPY = LARGEST_PART = 5_000_000_000
DEFAULTS = {
    "minimum_part_size": 5_000_000,
    "recommended_part_size": 100_000_000,
    "latency_ms": 0,
    "bucket": None,
    "bucket_encryption": "SSE-B2",
    "file_lock": False,
    "clock_skew_seconds": 0,
    "max_files_per_page": 10_000,
}


class ApiError(Exception):
    """An error as the service answers it."""

    def __init__(self, status, code, message, headers=()):
        super().__init__(message)
        self.status, self.code, self.message, self.headers = status, code, message, headers


def bad_request(message):
    return ApiError(400, "bad_request", message)


class Index(dict):
    """The simulator's map from (name, id) to file; beside it a sorted list: by name, the newest first."""

    def __init__(self):
        super().__init__()
        self.order, self.created, self.number = [], {}, 0

    def __setitem__(self, key, file):
        self.number -= 1
        self.created[key] = self.number
        bisect.insort(self.order, (key[0], self.created[key], key[1]))
        super().__setitem__(key, file)

    def __delitem__(self, key):
        super().__delitem__(key)
        del self.order[bisect.bisect_left(self.order, (key[0], self.created.pop(key), key[1]))]

    def from_name(self, name, file_id=None):
        """The position of the first version at or after a name, or of that version."""
        if file_id is not None and (name, file_id) in self.created:
            return bisect.bisect_left(self.order, (name, self.created[(name, file_id)], file_id))
        return bisect.bisect_left(self.order, (name,))

    def file(self, position):
        name, _, file_id = self.order[position]
        return self[(name, file_id)]

    def below(self, prefix):
        """The files whose names begin so, in order."""
        for position in range(self.from_name(prefix), len(self.order)):
            if not self.order[position][0].startswith(prefix):
                return
            yield self.file(position)


class File(FileSimulator):
    def check_encryption(self, request):
        """Against the key that a request to read or to add a part brought."""
        mine = self.server_side_encryption
        wanted = mine is not None and mine.mode == EncryptionMode.SSE_C
        brought = request is not None and request.mode == EncryptionMode.SSE_C
        if wanted and not brought:
            raise bad_request("The object was stored using a form of Server Side Encryption. The correct parameters "
                              "must be provided to retrieve the object.")
        if brought and not wanted:
            raise bad_request("The encryption parameters are not applicable to this object.")
        if wanted and mine.key.secret != request.key.secret:
            raise ApiError(403, "access_denied", "The provided encryption key is wrong.")

    def finish(self, sha1s):
        if self.action != "start":
            raise bad_request("No active upload for: %s" % self.file_id)
        parts = self.parts[1:]
        if len(sha1s) != len(parts) or None in parts:
            raise bad_request("Number of parts given (%d) does not match those uploaded" % len(sha1s))
        for number, (part, sha1) in enumerate(zip(parts, sha1s), 1):
            if part.content_sha1 != sha1:
                raise bad_request("SHA-1 of part %d does not match" % number)
        smallest = self.bucket.api.options["minimum_part_size"]
        for number, part in enumerate(parts[:-1], 1):
            if part.content_length < smallest:
                raise bad_request("Part number %d is smaller than %d bytes" % (number, smallest))
        self.data_bytes = parts[0].part_data if len(parts) == 1 else b"".join(part.part_data for part in parts)
        self.content_length, self.action, self.parts = len(self.data_bytes), "upload", []


class Bucket(BucketSimulator):
    FILE_SIMULATOR_CLASS = File
    MAX_SIMPLE_COPY_SIZE = LARGEST_COPY

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.file_name_and_id_to_file = Index()
        self.upload_timestamp_counter = Clock()
        self.kind, self.files_made = 1, 0

    def _next_file_id(self):
        self.files_made += 1
        day = time.strftime("d%Y%m%d_m%H%M%S", time.gmtime())
        return "4_z%s_f%d%016x_%s_c001_v0001001_t%04d_u%014d" % (
            self.bucket_id, self.kind, secrets.randbits(64), day, self.files_made % 10_000, self.files_made)

    def _check_capability(self, token, capability):
        key = self.api.key_of(token)
        return key is not None and capability in key.capabilities

    def start_large_file(self, *args, **kwargs):
        self.kind = 2
        try:
            return super().start_large_file(*args, **kwargs)
        finally:
            self.kind = 1

    def add_file(self, token, name, content_type, sha1, info, body, encryption, retention, legal_hold, timestamp=None):
        """A whole file, whose SHA-1 was checked while it arrived."""
        file = File(self.account_id, self, self._next_file_id(), "upload", name, content_type, None, info, body,
                    timestamp or next(self.upload_timestamp_counter),
                    server_side_encryption=encryption or self.default_server_side_encryption,
                    file_retention=retention, legal_hold=legal_hold)
        file.content_sha1 = sha1
        self.file_id_to_file[file.file_id] = file
        self.file_name_and_id_to_file[file.sort_key()] = file
        return file.as_upload_result(token)

    def add_part(self, file, number, sha1, body):
        file.add_part(number, PartSimulator(file.file_id, number, len(body), sha1, body))
        file.parts[number].upload_timestamp = next(self.upload_timestamp_counter)
        return file.parts[number]

    def current(self, name):
        """What a download by name gives: the newest version, unless that is a hide marker; unfinished files do not count."""
        index = self.file_name_and_id_to_file
        position = index.from_name(name)
        while position < len(index.order) and index.order[position][0] == name:
            file = index.file(position)
            if file.action != "start":
                return file if file.action == "upload" else None
            position += 1
        return None


class Clock:
    """Milliseconds, each greater than the one before."""

    def __init__(self):
        self.last = 0

    def __next__(self):
        self.last = max(self.last + 1, int(time.time() * 1000))
        return self.last


class UploadUrl:
    def __init__(self, url, token, account_token, bucket, file_id=None):
        self.url, self.token, self.account_token = url, token, account_token
        self.bucket, self.file_id = bucket, file_id
        self.in_use = self.failed = self.expired = False


class World(RawSimulator):
    BUCKET_SIMULATOR_CLASS = Bucket

    def __init__(self, world_id, base, options):
        super().__init__()
        unknown = set(options) - set(DEFAULTS)
        if unknown:
            raise bad_request("no such option: %s" % ", ".join(sorted(unknown)))
        self.options = {**DEFAULTS, **options}
        self.id, self.url = world_id, "%s/w/%s" % (base, world_id)
        self.API_URL = self.DOWNLOAD_URL = self.url
        self.lock, self.faults, self.counts = threading.RLock(), Faults(), Counts()
        self.upload_urls = {}
        self.account = secrets.token_hex(6)
        self.key_id, self.key = "005%s0000000001" % self.account, "K005" + secrets.token_urlsafe(20)
        self.key_id_to_key[self.key_id] = KeySimulator(
            self.account, "master", self.key_id, self.key, ALL_CAPABILITIES, None, None, None)
        encryption = SSE_NONE if self.options["bucket_encryption"] == "none" else SSE_B2_AES
        self.bucket_name = self.options["bucket"] or "bucket-%s" % world_id
        self.bucket = self.add_bucket(self.bucket_name, "allPrivate", default_server_side_encryption=encryption,
                                      is_file_lock_enabled=self.options["file_lock"])

    def add_bucket(self, name, kind, **options):
        bucket = Bucket(self, self.account, secrets.token_hex(12), name, kind, **options)
        self.bucket_name_to_bucket[name] = self.bucket_id_to_bucket[bucket.bucket_id] = bucket
        return bucket

    def add_key(self, name, capabilities, bucket_ids=None, prefix=None, seconds=None):
        self.app_key_counter += 1
        buckets = bucket_ids and [{"id": each, "name": self._get_bucket_by_id(each).bucket_name} for each in bucket_ids]
        expires = seconds and int(time.time() + seconds)
        key = KeySimulator(self.account, name, "005%s%010d" % (self.account, self.app_key_counter + 1),
                           "K005" + secrets.token_urlsafe(20), capabilities, expires, buckets, prefix or None)
        self.key_id_to_key[key.application_key_id] = key
        self.all_application_keys.append(key)
        return key

    def new_token(self, key):
        self.current_token = "4_%s_%s_acct" % (key.application_key_id, secrets.token_urlsafe(18))
        self.auth_token_to_key[self.current_token] = key
        return self.current_token

    def key_of(self, token):
        url = self.upload_urls.get(token)
        return self.auth_token_to_key.get(url.account_token if url else token)

    def file(self, file_id):
        """(bucket, file) or a 404, as b2_get_file_info answers it."""
        for bucket in self.bucket_id_to_bucket.values():
            if file_id in bucket.file_id_to_file:
                return bucket, bucket.file_id_to_file[file_id]
        raise ApiError(404, "not_found", "File not present: %s" % file_id)

    def expire(self, token):
        url = self.upload_urls.get(token)
        if url:
            url.expired = True
        elif token in self.auth_token_to_key:
            self.expired_auth_tokens.add(token)

    @staticmethod
    def sha1(data):
        return hashlib.sha1(data).hexdigest()

    def _assert_account_auth(self, *args, **kwargs):
        """Calls are checked where they arrive (api.py), with the service's errors."""


def customer_key(algorithm, key, md5):
    if algorithm != "AES256":
        raise bad_request("Invalid value for customer algorithm")
    try:
        secret = base64.b64decode(key or "", validate=True)
    except ValueError:
        secret = b""
    if len(secret) != 32:
        raise bad_request("The customer key must be 32 bytes in base64")
    if base64.b64encode(hashlib.md5(secret).digest()).decode() != md5:
        raise bad_request("The MD5 of the customer key does not match")
    return EncryptionSetting(EncryptionMode.SSE_C, EncryptionAlgorithm.AES256, EncryptionKey(secret, None))


def encryption_of_headers(headers):
    """What a request's headers ask for; None when nothing."""
    service = headers.get("x-bz-server-side-encryption")
    customer = [headers.get("x-bz-server-side-encryption-customer-" + each) for each in ("algorithm", "key", "key-md5")]
    if service is not None and any(customer):
        raise bad_request("Both forms of server-side encryption were asked for")
    if any(customer):
        return customer_key(*customer)
    if service is None:
        return None
    if service != "AES256":
        raise bad_request("Invalid value for X-Bz-Server-Side-Encryption: %s" % service)
    return SSE_B2_AES


def encryption_of_json(value):
    """The same of a JSON object. None for nothing and for {"mode": null}."""
    if not value or not value.get("mode"):
        return None
    if value["mode"] == "SSE-B2" and value.get("algorithm") == "AES256":
        return SSE_B2_AES
    if value["mode"] == "SSE-C":
        return customer_key(value.get("algorithm"), value.get("customerKey"), value.get("customerKeyMd5"))
    raise bad_request("Invalid server-side encryption: mode %s, algorithm %s" % (value["mode"], value.get("algorithm")))
