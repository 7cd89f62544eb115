"""What happens to files that are there: downloads, copies, hide markers, deletion, file lock."""

import re
from urllib.parse import unquote_plus

from b2sdk._internal.exception import AccessDenied
from b2sdk._internal.raw_api import MetadataDirectiveMode

from .call import unfinished
from .http import Response
from .listing import file_json
from .uploads import check_info, check_name, legal_hold_of, part_json, part_number, retention_of
from .world import LARGEST_PART, ApiError, bad_request, encryption_of_headers, encryption_of_json


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
