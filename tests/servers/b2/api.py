"""The calls of the native API: what they check, and their answers. Each takes a Call and returns JSON or a Response."""

import base64
import re
import time
from urllib.parse import quote, unquote_plus

from b2sdk._internal.encryption.setting import SSE_B2_AES
from b2sdk._internal.exception import AccessDenied, B2Error
from b2sdk._internal.file_lock import FileRetentionSetting, LegalHold, RetentionMode
from b2sdk._internal.raw_api import MetadataDirectiveMode

from .http import Response
from .world import LARGEST_PART, ApiError, UploadUrl, bad_request, encryption_of_headers, encryption_of_json

UNAUTHORIZED = (401, "unauthorized", "unauthorized")
MOST_PARTS = 10_000


class Call:
    """One request to a world, its body read."""

    def __init__(self, world, name, version, request, params, body, sha1):
        self.world, self.name, self.version = world, name, version
        self.request, self.headers, self.params = request, request.headers, params
        self.body, self.sha1 = body, sha1
        self.token = self.headers.get("authorization", "")

    def param(self, name):
        value = self.params.get(name)
        if value is None:
            raise bad_request("required field %s is missing" % name)
        return value

    def may(self, capability, bucket=None, name=None):
        """That the token is good and its application key may do this."""
        world = self.world
        key = world.auth_token_to_key.get(self.token)
        if key is None:
            raise ApiError(401, "bad_auth_token", "Invalid authorization token")
        if self.token in world.expired_auth_tokens:
            raise ApiError(401, "expired_auth_token", "Authorization token has expired")
        allowed = key.buckets_or_none and [each["id"] for each in key.buckets_or_none]
        if capability not in key.capabilities or (allowed and (bucket is None or bucket.bucket_id not in allowed)):
            raise ApiError(*UNAUTHORIZED)
        if key.name_prefix_or_none and name is not None and not name.startswith(key.name_prefix_or_none):
            raise ApiError(*UNAUTHORIZED)
        return key

    def bucket(self, capability, name=None, field="bucketId"):
        bucket = self.world.bucket_id_to_bucket.get(self.param(field))
        if bucket is None:
            self.may(capability)
            raise ApiError(400, "bad_bucket_id", "Bucket does not exist: %s" % self.param(field))
        self.may(capability, bucket, name)
        return bucket

    def file(self, capability, field="fileId"):
        try:
            bucket, file = self.world.file(self.param(field))
        except ApiError as absent:
            self.may(capability, self.world.bucket)
            raise absent
        self.may(capability, bucket, file.name)
        return bucket, file


def unfinished(call, field="fileId"):
    """A large file that was started and neither finished nor cancelled."""
    try:
        bucket, file = call.file("writeFiles", field)
    except ApiError as error:
        if error.status == 404:
            raise bad_request("No active upload for: %s" % call.param(field)) from None
        raise
    if file.action != "start":
        raise bad_request("No active upload for: %s" % file.file_id)
    return bucket, file


# Authorization, buckets and keys


def b2_authorize_account(call):
    world = call.world
    scheme, _, encoded = call.token.partition(" ")
    try:
        key_id, _, secret = base64.b64decode(encoded).decode().partition(":")
    except ValueError:
        key_id = secret = ""
    key = world.key_id_to_key.get(key_id)
    expired = key and key.expiration_timestamp_or_none and key.expiration_timestamp_or_none < time.time()
    if scheme.lower() != "basic" or key is None or key.key != secret or expired:
        raise ApiError(*UNAUTHORIZED)
    buckets = key.buckets_or_none
    allowed = {"capabilities": key.capabilities, "namePrefix": key.name_prefix_or_none}
    first = buckets[0] if buckets else {"id": None, "name": None}
    one = {**allowed, "bucketId": first["id"], "bucketName": first["name"]}
    storage = {
        "apiUrl": world.url,
        "downloadUrl": world.url,
        "s3ApiUrl": world.url + "/s3",
        "recommendedPartSize": world.options["recommended_part_size"],
        "absoluteMinimumPartSize": world.options["minimum_part_size"],
    }
    answer = {"accountId": key.account_id, "authorizationToken": world.new_token(key)}
    if call.version <= 2:
        storage["minimumPartSize"] = storage["recommendedPartSize"]
        return {**answer, **storage, "allowed": one}
    answer["applicationKeyExpirationTimestamp"] = None
    storage["infoType"] = "storageApi"
    if call.version == 3:
        storage.update(one)
    else:
        storage["allowed"] = {**allowed, "buckets": buckets}
    return {**answer, "apiInfo": {"storageApi": storage}}


def bucket_json(call, bucket):
    answer = bucket.bucket_dict(call.token)
    answer["options"] = sorted(answer["options"])
    encryption = answer["defaultServerSideEncryption"]
    if not encryption["isClientAuthorizedToRead"]:
        encryption["value"] = None
    elif encryption["value"]["mode"] == "none":
        encryption["value"] = {"mode": None, "algorithm": None}
    return answer


def default_encryption(call):
    """What a bucket's default is to become: {"mode": null} resets to SSE-B2, and none is refused, since 2026."""
    value = call.params.get("defaultServerSideEncryption")
    if value is None:
        return None
    call.may("writeBucketEncryption", call.world.bucket_id_to_bucket.get(call.params.get("bucketId")))
    if value.get("mode") not in (None, "SSE-B2"):
        raise bad_request("The default server-side encryption of a bucket cannot be %s" % value["mode"])
    return encryption_of_json(value) or SSE_B2_AES


def b2_create_bucket(call):
    call.may("writeBuckets")
    name = call.param("bucketName")
    if not re.fullmatch("[A-Za-z0-9-]{6,63}", name) or name.startswith("b2-"):
        raise bad_request("Invalid bucketName: %s" % name)
    if name in call.world.bucket_name_to_bucket:
        raise ApiError(400, "duplicate_bucket_name", "Bucket name is already in use.")
    bucket = call.world.add_bucket(
        name, call.param("bucketType"), bucket_info=call.params.get("bucketInfo"), cors_rules=call.params.get("corsRules"),
        lifecycle_rules=call.params.get("lifecycleRules"), default_server_side_encryption=default_encryption(call),
        is_file_lock_enabled=call.params.get("fileLockEnabled", False))
    return bucket_json(call, bucket)


def b2_update_bucket(call):
    bucket = call.bucket("writeBuckets")
    bucket._update_bucket(
        bucket_type=call.params.get("bucketType"), bucket_info=call.params.get("bucketInfo"),
        cors_rules=call.params.get("corsRules"), lifecycle_rules=call.params.get("lifecycleRules"),
        if_revision_is=call.params.get("ifRevisionIs"), default_server_side_encryption=default_encryption(call),
        is_file_lock_enabled=call.params.get("fileLockEnabled"))
    return bucket_json(call, bucket)


def b2_delete_bucket(call):
    bucket = call.bucket("deleteBuckets")
    if bucket.file_id_to_file:
        raise ApiError(400, "cannot_delete_non_empty_bucket", "Cannot delete non-empty bucket")
    del call.world.bucket_name_to_bucket[bucket.bucket_name], call.world.bucket_id_to_bucket[bucket.bucket_id]
    return bucket_json(call, bucket)


def b2_list_buckets(call):
    name, bucket_id = call.params.get("bucketName"), call.params.get("bucketId")
    found = [bucket for _, bucket in sorted(call.world.bucket_name_to_bucket.items())
             if name in (None, bucket.bucket_name) and bucket_id in (None, bucket.bucket_id)]
    # A key of some buckets may only ask for one of these.
    call.may("listBuckets", found[0] if found and (name or bucket_id) else None)
    return {"buckets": [bucket_json(call, bucket) for bucket in found]}


def key_json(call, key, with_secret=False):
    answer = key.as_created_key() if with_secret else key.as_key()
    if call.version < 4:
        ids = answer.pop("bucketIds")
        answer["bucketId"] = ids[0] if ids else None
    return answer


def b2_create_key(call):
    call.may("writeKeys")
    params = call.params
    buckets = params.get("bucketIds") if call.version >= 4 else params.get("bucketId") and [params["bucketId"]]
    for each in buckets or []:
        if each not in call.world.bucket_id_to_bucket:
            raise ApiError(400, "bad_bucket_id", "Bucket does not exist: %s" % each)
    if params.get("namePrefix") and not buckets:
        raise bad_request("namePrefix is only allowed with a bucket")
    key = call.world.add_key(call.param("keyName"), call.param("capabilities"), buckets, params.get("namePrefix"),
                             params.get("validDurationInSeconds"))
    return key_json(call, key, with_secret=True)


def b2_list_keys(call):
    call.may("listKeys")
    start, most = call.params.get("startApplicationKeyId") or "", call.params.get("maxKeyCount") or 100
    keys = sorted(call.world.all_application_keys, key=lambda key: key.application_key_id)
    keys = [key for key in keys if key.application_key_id >= start]
    following = keys[most].application_key_id if len(keys) > most else None
    return {"keys": [key_json(call, key) for key in keys[:most]], "nextApplicationKeyId": following}


def b2_delete_key(call):
    call.may("deleteKeys")
    key = call.world.key_id_to_key.pop(call.param("applicationKeyId"), None)
    if key is None:
        raise bad_request("application key does not exist: %s" % call.param("applicationKeyId"))
    call.world.all_application_keys.remove(key)
    return key_json(call, key)


# Listings


def file_json(call, file, answer=None):
    """A file as the service shows it: never a customer key, null for what it has not."""
    answer = answer or file.as_list_files_dict(call.token)
    encryption = answer.get("serverSideEncryption")
    if encryption is None or encryption["mode"] == "none":
        answer["serverSideEncryption"] = {"mode": None, "algorithm": None}
    else:
        encryption.pop("customerKey", None)
    if file.action == "hide":
        answer.update(contentSha1=None, contentType="application/x-bz-hide-marker")
    return answer


def folder_json(call, name):
    return {"accountId": call.world.account, "action": "folder", "bucketId": call.params["bucketId"], "contentLength": 0,
            "contentSha1": None, "contentType": None, "fileId": None, "fileInfo": {}, "fileName": name,
            "uploadTimestamp": 0, "serverSideEncryption": {"mode": None, "algorithm": None}}


def most_files(call, name="maxFileCount"):
    most = call.params.get(name) or 100
    if not 1 <= int(most) <= 10_000:
        raise ApiError(400, "out_of_range", "%s out of range: %s" % (name, most))
    return min(int(most), call.world.options["max_files_per_page"])


def listed(call, bucket, position, names_only):
    """(name, id, JSON) of what a listing shows, in order, from a position of the index on."""
    index = bucket.file_name_and_id_to_file
    prefix, delimiter = call.params.get("prefix") or "", call.params.get("delimiter")
    seen = None
    while position < len(index.order):
        name, _, file_id = index.order[position]
        file = index.file(position)
        position += 1
        if not name.startswith(prefix):
            return
        if names_only:
            if name == seen or file.action == "start":
                continue
            seen = name
            if file.action == "hide":
                continue
        cut = name.find(delimiter, len(prefix)) if delimiter else -1
        if cut < 0:
            yield name, file_id, file
            continue
        folder = name[: cut + len(delimiter)]
        yield folder, None, None
        position = index.from_name(folder + "\U0010ffff")


def page(call, bucket, position, names_only):
    most, found, following = most_files(call), [], (None, None)
    for name, file_id, file in listed(call, bucket, position, names_only):
        if len(found) == most:
            following = (name, file_id)
            break
        found.append(file_json(call, file) if file else folder_json(call, name))
    return found, following


def b2_list_file_names(call):
    prefix = call.params.get("prefix") or ""
    bucket = call.bucket("listFiles", prefix)
    start = max(call.params.get("startFileName") or "", prefix)
    found, following = page(call, bucket, bucket.file_name_and_id_to_file.from_name(start), names_only=True)
    return {"files": found, "nextFileName": following[0]}


def b2_list_file_versions(call):
    prefix = call.params.get("prefix") or ""
    bucket = call.bucket("listFiles", prefix)
    name, file_id = call.params.get("startFileName") or "", call.params.get("startFileId")
    if file_id and not name:
        raise bad_request("startFileId is only allowed with startFileName")
    start = max(name, prefix)
    position = bucket.file_name_and_id_to_file.from_name(start, file_id if start == name else None)
    found, following = page(call, bucket, position, names_only=False)
    return {"files": found, "nextFileName": following[0], "nextFileId": following[1]}


def b2_list_unfinished_large_files(call):
    prefix = call.params.get("namePrefix") or ""
    bucket = call.bucket("listFiles", prefix)
    most = min(most_files(call), 100)
    files = [file for file in bucket.file_id_to_file.values() if file.action == "start" and file.name.startswith(prefix)]
    files.sort(key=lambda file: file.file_id)
    files = [file for file in files if file.file_id >= (call.params.get("startFileId") or "")]
    return {"files": [started_json(call, file) for file in files[:most]],
            "nextFileId": files[most].file_id if len(files) > most else None}


def b2_get_file_info(call):
    _, file = call.file("readFiles")
    return file_json(call, file)


# Uploads


def check_name(name):
    if not 1 <= len(name.encode()) <= 1024:
        raise bad_request("File names must be 1 to 1024 bytes long")
    if name.startswith("/") or name.endswith("/") or "//" in name:
        raise bad_request("File names must not start or end with '/', nor contain '//'")
    if any(ord(char) < 32 or ord(char) == 127 for char in name):
        raise bad_request("File names must not contain control characters")
    if any(len(segment.encode()) > 250 for segment in name.split("/")):
        raise bad_request("File names must not have segments longer than 250 bytes")
    return name


def check_info(info, encryption):
    """The limits of file info: ten values, and their bytes as headers."""
    if len(info) > 10:
        raise bad_request("Too many file info entries: %d" % len(info))
    for name in info:
        if not re.fullmatch("[A-Za-z0-9-_.!#$%&'*+^`|~]{1,50}", name):
            raise bad_request("Bad file info name: %s" % name)
    size = sum(len("X-Bz-Info-" + name) + len(quote(value)) for name, value in info.items())
    limit = 2048 if encryption.mode.value != "none" else 7000
    if size > limit:
        raise bad_request("File info is %d bytes as headers, more than %d" % (size, limit))
    return info


def retention_of(mode, until):
    return FileRetentionSetting(RetentionMode(mode), int(until)) if mode and mode != "none" else None


def legal_hold_of(value):
    return {"on": LegalHold.ON, "off": LegalHold.OFF, None: LegalHold.UNSET}[value]


def upload_url_json(call, bucket, kind, file_id=None):
    world = call.world
    number = len(world.upload_urls)
    url = "/b2api/v%d/%s/%s/%d" % (call.version, kind, file_id or bucket.bucket_id, number)
    token = "4_%s_%06d_%s_upld" % (world.account, number, call.token[-12:-5])
    world.upload_urls[token] = UploadUrl(url, token, call.token, bucket, file_id)
    owner = {"fileId": file_id} if file_id else {"bucketId": bucket.bucket_id}
    return {**owner, "uploadUrl": world.url + url, "authorizationToken": token}


def b2_get_upload_url(call):
    return upload_url_json(call, call.bucket("writeFiles"), "b2_upload_file")


def b2_get_upload_part_url(call):
    bucket, file = unfinished(call)
    return upload_url_json(call, bucket, "b2_upload_part", file.file_id)


def checked_sha1(call, announced_only=False):
    """The body without a checksum at its end, and the SHA-1 that is stored with it."""
    announced, body = call.headers.get("x-bz-content-sha1"), call.body
    if announced is None:
        raise bad_request("Missing header: X-Bz-Content-Sha1")
    if announced == "do_not_verify":
        return "unverified:" + call.sha1
    if announced == "hex_digits_at_end":
        announced = bytes(body[-40:]).decode("latin-1")
        del body[-40:]
    if announced.removeprefix("unverified:") != call.sha1:
        raise bad_request("Sha1 did not match data received")
    return announced


def b2_upload_file(call):
    url = call.world.upload_urls[call.token]
    name = check_name(unquote_plus(call.headers.get("x-bz-file-name", "")))
    key = call.world.key_of(call.token)
    if key.name_prefix_or_none and not name.startswith(key.name_prefix_or_none):
        raise ApiError(*UNAUTHORIZED)
    encryption = encryption_of_headers(call.headers)
    info = {header[len("x-bz-info-"):]: unquote_plus(value) for header, value in call.headers.items()
            if header.startswith("x-bz-info-")}
    check_info(info, encryption or url.bucket.default_server_side_encryption)
    retention = retention_of(call.headers.get("x-bz-file-retention-mode"),
                             call.headers.get("x-bz-file-retention-retain-until-timestamp"))
    legal_hold = legal_hold_of(call.headers.get("x-bz-file-legal-hold"))
    if (retention or legal_hold.value) and not url.bucket.is_file_lock_enabled:
        raise bad_request("The bucket is not file lock enabled")
    content_type = call.headers.get("content-type", "b2/x-auto")
    if content_type == "b2/x-auto":
        content_type = "application/octet-stream"
    timestamp = call.headers.get("x-bz-custom-upload-timestamp")
    sha1 = checked_sha1(call)
    answer = url.bucket.add_file(call.token, name, content_type, sha1, info, call.body, encryption, retention, legal_hold,
                                 timestamp and int(timestamp))
    _, file = call.world.file(answer["fileId"])
    return file_json(call, file, answer)


def started_json(call, file):
    return file_json(call, file, {**file.as_start_large_file_result(call.token), "action": "start", "contentLength": 0,
                                  "contentSha1": None})


def b2_start_large_file(call):
    name = check_name(call.param("fileName"))
    bucket = call.bucket("writeFiles", name)
    encryption = encryption_of_json(call.params.get("serverSideEncryption"))
    info = {name.lower(): value for name, value in (call.params.get("fileInfo") or {}).items()}
    check_info(info, encryption or bucket.default_server_side_encryption)
    content_type = call.param("contentType")
    if content_type == "b2/x-auto":
        content_type = "application/octet-stream"
    retention = call.params.get("fileRetention") or {}
    answer = bucket.start_large_file(
        call.token, name, content_type, info, encryption,
        retention_of(retention.get("mode"), retention.get("retainUntilTimestamp")),
        legal_hold_of(call.params.get("legalHold")), call.params.get("customUploadTimestamp"))
    return started_json(call, bucket.file_id_to_file[answer["fileId"]])


def part_json(part, encryption=None):
    answer = {**part.as_list_parts_dict(), "uploadTimestamp": part.upload_timestamp}
    if encryption:
        answer["serverSideEncryption"] = {each: value for each, value in encryption.as_dict().items()
                                          if each != "customerKey"}
    return answer


def b2_upload_part(call):
    url = call.world.upload_urls[call.token]
    file = url.bucket.file_id_to_file.get(url.file_id)
    if file is None or file.action != "start":
        raise bad_request("No active upload for: %s" % url.file_id)
    number = part_number(call.headers.get("x-bz-part-number"))
    encryption = encryption_of_headers(call.headers)
    if encryption is SSE_B2_AES:
        raise bad_request("SSE-B2 of a large file is asked for when it is started")
    file.check_encryption(encryption)
    sha1 = checked_sha1(call)
    return part_json(url.bucket.add_part(file, number, sha1, call.body), encryption)


def part_number(text):
    try:
        number = int(text)
    except (TypeError, ValueError):
        number = 0
    if not 1 <= number <= MOST_PARTS:
        raise bad_request("Part number must be in range 1 - %d" % MOST_PARTS)
    return number


def b2_finish_large_file(call):
    _, file = unfinished(call)
    file.finish(call.param("partSha1Array"))
    return file_json(call, file, file.as_upload_result(call.token))


def b2_cancel_large_file(call):
    bucket, file = unfinished(call)
    return bucket.cancel_large_file(file.file_id)


def b2_list_parts(call):
    _, file = unfinished(call)
    start, most = call.params.get("startPartNumber") or 1, min(most_files(call, "maxPartCount"), 1000)
    parts = [part for part in file.parts if part is not None and part.part_number >= start]
    return {"parts": [part_json(part) for part in parts[:most]],
            "nextPartNumber": parts[most].part_number if len(parts) > most else None}


# Copies, hide markers, deletion, file lock


def copied_range(call, file):
    text = call.params.get("range")
    if text is None:
        return None
    first, last = ranged(text, file.content_length) or (0, file.content_length - 1)
    return first, last


def b2_copy_file(call):
    source, file = call.file("readFiles", "sourceFileId")
    params = call.params
    name = check_name(call.param("fileName"))
    target = call.bucket("writeFiles", name, "destinationBucketId") if params.get("destinationBucketId") else source
    call.may("writeFiles", target, name)
    directive = MetadataDirectiveMode[params.get("metadataDirective") or "COPY"]
    encryption = encryption_of_json(params.get("destinationServerSideEncryption"))
    if params.get("fileInfo"):
        check_info(params["fileInfo"], encryption or target.default_server_side_encryption)
    copy = source.copy_file(
        call.token, file.file_id, name, copied_range(call, file), directive, params.get("contentType"),
        params.get("fileInfo"), target.bucket_id, encryption, encryption_of_json(params.get("sourceServerSideEncryption")))
    return file_json(call, copy, copy.as_upload_result(call.token))


def b2_copy_part(call):
    _, file = call.file("readFiles", "sourceFileId")
    bucket, large = unfinished(call, "largeFileId")
    file.check_encryption(encryption_of_json(call.params.get("sourceServerSideEncryption")))
    encryption = encryption_of_json(call.params.get("destinationServerSideEncryption"))
    large.check_encryption(encryption)
    first, last = copied_range(call, file) or (0, file.content_length - 1)
    data = bytes(file.data_bytes[first : last + 1])
    if len(data) > LARGEST_PART:
        raise ApiError(400, "source_too_large", "Copy source too big: %d" % len(data))
    number = part_number(call.param("partNumber"))
    sha1 = call.world.sha1(data)
    return part_json(bucket.add_part(large, number, sha1, data), encryption)


def b2_hide_file(call):
    name = call.param("fileName")
    bucket = call.bucket("writeFiles", name)
    index = bucket.file_name_and_id_to_file
    position = index.from_name(name)
    versions = [index.file(each) for each in range(position, len(index.order)) if index.order[each][0] == name] \
        if position < len(index.order) and index.order[position][0] == name else []
    finished = [file for file in versions if file.action != "start"]
    if not finished:
        raise ApiError(400, "no_such_file", "File not present: %s" % name)
    if finished[0].action == "hide":
        raise ApiError(400, "already_hidden", "File already hidden: %s" % name)
    marker = bucket.hide_file(call.token, name)
    return file_json(call, bucket.file_id_to_file[marker["fileId"]])


def b2_delete_file_version(call):
    name, file_id = call.param("fileName"), call.param("fileId")
    try:
        bucket, file = call.file("deleteFiles")
    except ApiError as error:
        if error.status == 404:
            raise ApiError(400, "file_not_present", "File not present: %s %s" % (name, file_id)) from None
        raise
    if file.name != name:
        raise ApiError(400, "file_not_present", "File not present: %s %s" % (name, file_id))
    if file.legal_hold.value == "on":
        raise ApiError(401, "access_denied", "Cannot delete a file with a legal hold")
    try:
        bucket.delete_file_version(call.token, file_id, name, bool(call.params.get("bypassGovernance")))
    except AccessDenied:
        raise ApiError(401, "access_denied", "Cannot delete a file that is under retention") from None
    return {"fileId": file_id, "fileName": name}


def locked_file(call, capability):
    bucket, file = call.file(capability)
    if not bucket.is_file_lock_enabled or file.name != call.param("fileName"):
        raise bad_request("The bucket is not file lock enabled, or the name is another")
    return bucket, file


def b2_update_file_retention(call):
    bucket, file = locked_file(call, "writeFileRetentions")
    value = call.param("fileRetention")
    file.file_retention = retention_of(value.get("mode"), value.get("retainUntilTimestamp"))
    return {"fileId": file.file_id, "fileName": file.name, "fileRetention": value}


def b2_update_file_legal_hold(call):
    bucket, file = locked_file(call, "writeFileLegalHolds")
    return bucket.update_file_legal_hold(call.token, file.file_id, file.name, legal_hold_of(call.param("legalHold")))


# Downloads


def ranged(text, length):
    """(first, last) of a Range header; None when it is not one; an error when it lies beyond the end."""
    match = re.fullmatch(r"bytes=(\d*)-(\d*)", text or "")
    if not match or match.groups() == ("", ""):
        return None
    first, last = match.groups()
    if first == "":
        first, last = max(0, length - int(last)), length - 1
    else:
        first, last = int(first), min(int(last), length - 1) if last else length - 1
        if match[2] and int(match[2]) < first:
            return None
    if first >= length or last < first:
        raise ApiError(416, "range_not_satisfiable", "The range is not within the file", {"Content-Range": "bytes */%d" % length})
    return first, last


def download(call, bucket, file):
    if file.action != "upload":
        raise ApiError(404, "not_found", "File not present: %s" % file.file_id)
    file.check_encryption(encryption_of_headers(call.headers))
    span = ranged(call.headers.get("range"), len(file.data_bytes))
    headers = {name.title(): value for name, value in file.as_download_headers(call.token, span).items()}
    del headers["Content-Length"]
    body = memoryview(file.data_bytes)
    if span:
        body = body[span[0] : span[1] + 1]
    return Response(206 if span else 200, {**headers, "Accept-Ranges": "bytes"}, body)


def b2_download_file_by_id(call):
    _, file = call.file("readFiles")
    return download(call, file.bucket, file)


def b2_download_file_by_name(call):
    bucket_name, _, name = call.params["path"].partition("/")
    bucket, name = call.world.bucket_name_to_bucket.get(bucket_name), unquote_plus(name)
    if bucket is None:
        call.may("readFiles")
        raise ApiError(404, "not_found", "Bucket does not exist: %s" % bucket_name)
    if bucket.bucket_type != "allPublic":
        call.may("readFiles", bucket, name)
    file = bucket.current(name)
    if file is None:
        raise ApiError(404, "not_found", "File with such name does not exist.")
    return download(call, bucket, file)


CALLS = {name: function for name, function in list(globals().items()) if name.startswith("b2_")}
UPLOADS = ("b2_upload_file", "b2_upload_part")
DOWNLOADS = ("b2_download_file_by_name", "b2_download_file_by_id")


def answer(call):
    """The Response to a call, errors included."""
    try:
        with call.world.lock:
            value = CALLS[call.name](call)
    except ApiError as error:
        return Response.of_error(error.status, error.code, error.message, error.headers)
    except B2Error as error:
        return Response.of_error(400, "bad_request", "%s: %s" % (type(error).__name__, error))
    return value if isinstance(value, Response) else Response.of_json(value)
