"""Listings, and files as JSON."""

from .world import ApiError, bad_request


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
    if call.version == 1:
        answer["size"] = answer["contentLength"]
    return answer


def started_json(call, file):
    return file_json(call, file, {**file.as_start_large_file_result(call.token), "action": "start", "contentLength": 0,
                                  "contentSha1": None})


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
