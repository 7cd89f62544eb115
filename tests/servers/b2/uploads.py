"""Uploads: whole files, and large files in parts."""

import re
from urllib.parse import quote, unquote_plus

from b2sdk._internal.encryption.setting import SSE_B2_AES
from b2sdk._internal.file_lock import FileRetentionSetting, LegalHold, RetentionMode

from .call import UNAUTHORIZED, unfinished
from .listing import file_json, most_files, started_json
from .world import ApiError, UploadUrl, bad_request, encryption_of_headers, encryption_of_json

MOST_PARTS = 10_000


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
