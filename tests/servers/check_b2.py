"""Is scripts/b2-server a faithful B2? Backblaze's own command line tool, unmodified, works with it; and its own rules,
faults and counts are checked call by call.

    .venv-servers/bin/python tests/servers/check_b2.py
"""

import concurrent.futures
import hashlib
import json
import sys

from client import KEY, OTHER_KEY, Checks, Server, customer, customer_json, exchange
from tool import tool


def authorization(server, check):
    world = server.world(minimum_part_size=1000)
    shapes = {version: world.authorize(world.made, version) for version in (1, 2, 3, 4)}
    for version in (1, 2):
        check.equal(shapes[version]["absoluteMinimumPartSize"], 1000, "v%d says the part size" % version)
        check.that("bucketId" in shapes[version]["allowed"], "v%d has allowed.bucketId" % version)
    check.that("bucketId" in shapes[3]["apiInfo"]["storageApi"], "v3 has storageApi.bucketId")
    check.equal(shapes[4]["apiInfo"]["storageApi"]["allowed"]["buckets"], None, "v4 has allowed.buckets")
    key = world.control("POST", "keys", {"capabilities": ["writeFiles", "listFiles"], "bucket": True, "prefix": "a/"})
    allowed = world.authorize(key)["apiInfo"]["storageApi"]["allowed"]
    check.equal(allowed["buckets"], [{"id": world.bucket_id, "name": world.bucket}], "a key's bucket is named")
    check.equal((allowed["capabilities"], allowed["namePrefix"]), (["writeFiles", "listFiles"], "a/"), "and its limits")
    check.equal(world.authorize({"key_id": "x", "key": "y"})["code"], "unauthorized", "a wrong key")

    token = world.authorize(key)["authorizationToken"]
    listing = {"bucketId": world.bucket_id, "token": token}
    check.equal(world.call("b2_list_file_names", prefix="a/b", **listing)[0], 200, "below the prefix")
    check.equal(world.code("b2_list_file_names", **listing), (401, "unauthorized"), "above the prefix")
    check.equal(world.code("b2_list_buckets", accountId="x", token=token), (401, "unauthorized"), "without listBuckets")
    check.equal(world.put("b", url=world.upload_url(token))[0], 401, "an upload outside of the prefix")
    check.equal(world.put("a/b", url=world.upload_url(token))[0], 200, "an upload within")
    check.equal(world.code("b2_get_upload_url", bucketId=world.bucket_id, token="none"), (401, "bad_auth_token"), "no token")
    world.control("POST", "expire")
    check.equal(world.code("b2_get_upload_url", bucketId=world.bucket_id), (401, "expired_auth_token"), "expired")


def listings(server, check):
    world, url = server.world(max_files_per_page=2), None
    names = ["a", "a/1", "a/2/x", "a/2/y", "a-", "b", "\ufffd", "\U0001f600"]
    url = world.upload_url()
    for name in names:
        check.equal(world.put(name, url=url)[0], 200, name)
    world.put("b", b"again", url=url)
    in_order = sorted(names, key=lambda name: name.encode())
    check.equal(world.names(), in_order, "names in the order of their bytes, over pages")
    check.equal(world.names("b2_list_file_versions").count("b"), 2, "both versions")
    check.equal(world.names(delimiter="/"), ["a", "a-", "a/", "b", "\ufffd", "\U0001f600"], "folders at the top")
    check.equal(world.names(delimiter="/", prefix="a/"), ["a/1", "a/2/"], "folders below a prefix")
    check.equal(world.names(prefix="a/2"), ["a/2/x", "a/2/y"], "a prefix")
    check.equal(world.names("b2_list_file_versions", delimiter="/", prefix="a/"), ["a/1", "a/2/"], "folders of versions")

    newest = world.call("b2_list_file_versions", bucketId=world.bucket_id, prefix="b")[1]["files"]
    check.equal([each["contentLength"] for each in newest], [5, 4], "the newest version first")
    check.equal(world.code("b2_hide_file", bucketId=world.bucket_id, fileName="b")[0], 200, "hidden")
    check.equal(world.code("b2_hide_file", bucketId=world.bucket_id, fileName="b"), (400, "already_hidden"), "once")
    check.equal(world.code("b2_hide_file", bucketId=world.bucket_id, fileName="c"), (400, "no_such_file"), "nothing to hide")
    check.that("b" not in world.names(), "a hidden file is not listed")
    check.equal(world.get("b")[0], 404, "nor read by its name")
    by_id = "%s/b2api/v4/b2_download_file_by_id?fileId=%s" % (world.path, newest[1]["fileId"])
    check.equal(exchange(world.address, "GET", by_id, b"", {"Authorization": world.token})[2], b"body", "but by its id")
    unfinished = world.start("b")[1]
    check.that("b" not in world.names(), "an unfinished file does not uncover it")
    versions = world.call("b2_list_file_versions", bucketId=world.bucket_id, prefix="b", startFileName="b",
                          startFileId=newest[0]["fileId"], maxFileCount=1)[1]
    check.equal(versions["files"][0]["fileId"], newest[0]["fileId"], "a listing from a version on")
    check.equal(versions["nextFileId"], newest[1]["fileId"], "and where it goes on")
    listed = world.call("b2_list_unfinished_large_files", bucketId=world.bucket_id)[1]["files"]
    check.equal([each["fileId"] for each in listed], [unfinished["fileId"]], "unfinished files")
    gone = {"fileName": "b", "fileId": newest[0]["fileId"]}
    check.equal(world.code("b2_delete_file_version", **gone)[0], 200, "deleted")
    check.equal(world.code("b2_delete_file_version", **gone), (400, "file_not_present"), "and gone")


def uploads(server, check):
    world = server.world(minimum_part_size=1000)
    check.equal(world.put("empty", b"")[1]["contentLength"], 0, "an empty file")
    check.equal(world.put("a", X_Bz_Content_Sha1="0" * 40)[0], 400, "a wrong SHA-1")
    sha1 = hashlib.sha1(b"body").hexdigest()
    check.equal(world.put("at-end", b"body" + sha1.encode(), X_Bz_Content_Sha1="hex_digits_at_end")[1]["contentSha1"], sha1,
                "a SHA-1 at the end")
    for name in ("/a", "a/", "a//b", "a\n", "x" * 251, "y/" * 512 + "y"):
        check.equal(world.put(name)[0], 400, "the name %.20r" % name)
    check.equal(world.put("z" * 250)[0], 200, "the longest segment")
    check.equal(world.put("info", X_Bz_Info_One="1 %C3%A4")[1]["fileInfo"], {"one": "1 \u00e4"}, "file info")
    check.equal(world.put("info", X_Bz_Info_One="1" * 2048)[0], 400, "too much file info for an encrypted file")

    late = server.world(latency_ms=300)
    url = late.upload_url()
    with concurrent.futures.ThreadPoolExecutor() as pool:
        statuses = sorted(each[0] for each in pool.map(lambda name: late.put(name, url=url), ("one", "two")))
    check.equal(statuses, [200, 400], "one upload URL, two uploads at once")
    check.equal(len(late.control("GET", "calls")["violations"]), 1, "is counted")

    large = world.start("large", fileInfo={"One": "1"})[1]
    bodies = [b"1" * 1000, b"2" * 999, b"3"]
    for number, body in enumerate(bodies, 1):
        check.equal(world.part(large["fileId"], number, body)[0], 200, "part %d" % number)
    sha1s = [hashlib.sha1(body).hexdigest() for body in bodies]
    finish = {"fileId": large["fileId"], "partSha1Array": sha1s}
    check.equal(world.code("b2_finish_large_file", **finish), (400, "bad_request"), "a part that is too small")
    bodies[1], sha1s[1] = b"2" * 1000, hashlib.sha1(b"2" * 1000).hexdigest()
    world.part(large["fileId"], 2, bodies[1])
    parts = world.call("b2_list_parts", fileId=large["fileId"], maxPartCount=2)[1]
    check.equal([each["contentSha1"] for each in parts["parts"]], sha1s[:2], "the parts' SHA-1")
    check.equal(parts["nextPartNumber"], 3, "page by page")
    check.equal(world.code("b2_finish_large_file", fileId=large["fileId"], partSha1Array=sha1s[:2])[0], 400, "a part too few")
    check.equal(world.call("b2_finish_large_file", **finish)[1]["contentLength"], 2001, "finished")
    check.equal(world.code("b2_finish_large_file", **finish), (400, "bad_request"), "finished twice")
    check.equal(world.code("b2_list_parts", fileId=large["fileId"]), (400, "bad_request"), "no parts any more")
    status, headers, body = world.get("large")
    check.equal((status, body, headers["x-bz-content-sha1"]), (200, b"".join(bodies), "none"), "read")
    check.equal(world.code("b2_upload_part", token="x")[0], 401, "a part without its URL")
    other = world.start("other")[1]["fileId"]
    check.equal(world.part(other, 10_001, b"x")[0], 400, "part 10,001")
    check.equal(world.code("b2_cancel_large_file", fileId=other)[0], 200, "cancelled")
    check.equal(world.code("b2_cancel_large_file", fileId=other), (400, "bad_request"), "cancelled twice")


def downloads(server, check):
    world = server.world()
    body = bytes(range(256)) * 1000
    made = world.put("a b/\u00e4", body, X_Bz_Info_One="1")[1]
    status, headers, got = world.get("a b/\u00e4")
    check.equal((status, got), (200, body), "a file")
    check.equal(headers["x-bz-file-id"], made["fileId"], "its id")
    check.equal(headers["x-bz-content-sha1"], hashlib.sha1(body).hexdigest(), "its SHA-1")
    check.equal(headers["x-bz-info-one"], "1", "its info")
    check.equal(headers["x-bz-upload-timestamp"], str(made["uploadTimestamp"]), "its time")
    check.equal(headers["x-bz-server-side-encryption"], "AES256", "its encryption")
    check.equal(headers["x-bz-file-name"], "a%20b/%C3%A4", "its name")
    status, headers, got = world.get("a b/\u00e4", "HEAD")
    check.equal((status, got, headers["content-length"]), (200, b"", "256000"), "HEAD")
    for text, wanted in (("bytes=0-0", body[:1]), ("bytes=10-19", body[10:20]), ("bytes=255990-", body[-10:]),
                         ("bytes=-5", body[-5:]), ("bytes=255999-999999", body[-1:])):
        status, headers, got = world.get("a b/\u00e4", Range=text)
        first = len(body) - len(wanted) if wanted != body[:1] and wanted != body[10:20] else body.index(wanted)
        check.equal((status, got), (206, wanted), text)
        check.equal(headers["content-range"], "bytes %d-%d/256000" % (first, first + len(wanted) - 1), "Content-Range of " + text)
    status, headers, _ = world.get("a b/\u00e4", Range="bytes=256000-")
    check.equal((status, headers["content-range"]), (416, "bytes */256000"), "a range behind the end")
    check.equal(world.get("a b/\u00e4", Range="lines=1-2")[0], 200, "another kind of range")
    check.equal(world.get("none")[0], 404, "a file that is not there")
    check.equal(world.get("a b/\u00e4", Authorization="x")[0], 401, "without a token")


def encryption(server, check):
    world = server.world(minimum_part_size=10)
    mine, other = customer(KEY), customer(OTHER_KEY)
    made = world.put("c", **mine)[1]
    check.equal(sorted(made["serverSideEncryption"]), ["algorithm", "customerKeyMd5", "mode"], "the key is not echoed")
    check.that(KEY not in json.dumps(world.call("b2_list_file_versions", bucketId=world.bucket_id)), "nor listed")
    check.equal(world.get("c")[0], 400, "no key")
    check.equal(world.get("c", **other)[0], 403, "a wrong key")
    check.equal(json.loads(world.get("c", **other)[2])["code"], "access_denied", "is access_denied")
    status, headers, got = world.get("c", **mine)
    check.equal((status, got), (200, b"body"), "the right key")
    check.equal(headers["x-bz-server-side-encryption-customer-key-md5"], mine["X-Bz-Server-Side-Encryption-Customer-Key-Md5"],
                "the key's MD5 is echoed")
    check.equal(world.get("c", "HEAD")[0], 400, "HEAD without a key")
    world.put("b", X_Bz_Server_Side_Encryption="AES256")
    check.equal(world.get("b", **mine)[0], 400, "a key for a file that has none")
    check.equal(world.put("x", X_Bz_Server_Side_Encryption="none")[0], 400, "none cannot be asked for")
    broken = {**mine, "X-Bz-Server-Side-Encryption-Customer-Key-Md5": "x"}
    check.equal(world.put("x", **broken)[0], 400, "a key whose MD5 is wrong")

    large = world.start("large", serverSideEncryption=customer_json(KEY))[1]["fileId"]
    check.equal(world.part(large, 1, b"1" * 10)[0], 400, "a part without the key")
    check.equal(world.part(large, 1, b"1" * 10, **other)[0], 403, "a part with another")
    check.equal(world.part(large, 1, b"1" * 10, **mine)[0], 200, "a part with it")
    world.call("b2_finish_large_file", fileId=large, partSha1Array=[hashlib.sha1(b"1" * 10).hexdigest()])
    check.equal(world.get("large", **mine)[2], b"1" * 10, "a large file")

    copy = {"sourceFileId": made["fileId"], "fileName": "copy"}
    check.equal(world.code("b2_copy_file", **copy), (400, "bad_request"), "a copy without the source's key")
    check.equal(world.code("b2_copy_file", **copy, sourceServerSideEncryption=customer_json(OTHER_KEY)),
                (403, "access_denied"), "with a wrong one")
    status, answer = world.call("b2_copy_file", **copy, sourceServerSideEncryption=customer_json(KEY),
                                destinationServerSideEncryption=customer_json(OTHER_KEY), metadataDirective="REPLACE",
                                contentType="text/plain", fileInfo={"a": "b"})
    check.equal((status, answer.get("action"), answer.get("fileInfo")), (200, "copy", {"a": "b"}), "a copy to another key")
    check.equal(world.get("copy", **other)[2], b"body", "is read with that")

    bucket = {"accountId": world.made["account_id"], "bucketId": world.bucket_id}
    default = world.call("b2_list_buckets", accountId="x")[1]["buckets"][0]["defaultServerSideEncryption"]
    check.equal(default, {"isClientAuthorizedToRead": True, "value": {"mode": "SSE-B2", "algorithm": "AES256"}}, "the default")
    check.equal(world.code("b2_update_bucket", **bucket, defaultServerSideEncryption={"mode": "none"})[0], 400, "is never none")
    status, answer = world.call("b2_update_bucket", **bucket, defaultServerSideEncryption={"mode": None})
    check.equal(answer["defaultServerSideEncryption"]["value"]["mode"], "SSE-B2", "and is reset to SSE-B2")
    token = world.authorize(world.control("POST", "keys", {"capabilities": ["listBuckets"]}))["authorizationToken"]
    hidden = world.call("b2_list_buckets", accountId="x", token=token)[1]["buckets"][0]["defaultServerSideEncryption"]
    check.equal(hidden, {"isClientAuthorizedToRead": False, "value": None}, "not for everybody")
    old = server.world(bucket_encryption="none")
    old.put("a")
    check.that("x-bz-server-side-encryption" not in old.get("a")[1], "an old bucket without encryption")


def file_lock(server, check):
    world = server.world(file_lock=True)
    until = "4102444800000"
    made = world.put("a", X_Bz_File_Retention_Mode="compliance", X_Bz_File_Retention_Retain_Until_Timestamp=until)[1]
    gone = {"fileName": "a", "fileId": made["fileId"]}
    check.equal(world.code("b2_delete_file_version", **gone), (401, "access_denied"), "a locked file is not deleted")
    held = world.put("b", X_Bz_File_Legal_Hold="on")[1]
    check.equal(world.code("b2_delete_file_version", fileName="b", fileId=held["fileId"])[0], 401, "nor one on hold")
    world.call("b2_update_file_legal_hold", fileName="b", fileId=held["fileId"], legalHold="off")
    check.equal(world.code("b2_delete_file_version", fileName="b", fileId=held["fileId"])[0], 200, "but after that")


def faults(server, check):
    world = server.world()
    body = bytes(1000)

    def fault(api, kind, **options):
        world.control("POST", "faults", [{"api": api, "kind": kind, "nth": 1, **options}])

    def versions(name):
        return world.names("b2_list_file_versions", prefix=name).count(name)

    for kind, status in (("service_unavailable", 503), ("too_many_requests", 429), ("request_timeout", 408),
                         ("internal_error", 500), ("bad_auth_token", 401), ("cap_exceeded", 403)):
        fault("b2_upload_file", kind)
        check.equal(world.put(kind)[0], status, kind)
        check.equal((versions(kind), world.put(kind)[0]), (0, 200), kind + " once, and nothing was done")
    fault("b2_list_buckets", "too_many_requests", retry_after=7)
    status, headers, _ = exchange(world.address, "POST", world.path + "/b2api/v4/b2_list_buckets", {}, {"Authorization": world.token})
    check.equal((status, headers.get("retry-after")), (429, "7"), "Retry-After")

    url = world.upload_url()
    fault("b2_upload_file", "expired_auth_token")
    check.equal(world.put("expired", url=url)[1]["code"], "expired_auth_token", "an expired upload URL")
    check.equal(world.put("expired", url=url)[1]["code"], "expired_auth_token", "stays expired")
    url = world.upload_url()
    fault("b2_upload_file", "service_unavailable")
    world.put("again", url=url)
    world.control("POST", "calls/reset")
    check.equal(world.put("again", url=url)[0], 503, "an upload URL that failed is of no use")
    check.equal(len(world.control("GET", "calls")["violations"]), 1, "and its use is counted")

    for kind, done in (("reset_before", 0), ("reset_in_body", 0), ("lost_answer", 1)):
        fault("b2_upload_file", kind)
        check.that(not isinstance(world.put(kind, body)[0], int), kind + " gives no answer")
        check.equal(versions(kind), done, "what was done after " + kind)

    world.put("d", body)
    for method in ("b2_download_file_by_name", "*"):
        fault(method, "truncated")
        status, headers, got = world.get("d")
        check.that(status == "IncompleteRead" and len(got) < 1000, "truncated", (status, len(got)))
        fault(method, "corrupted", at=3)
        check.equal(world.get("d")[2], bytes(3) + b"\1" + bytes(996), "corrupted")
        fault(method, "slow", ms=100)
        check.equal(world.get("d")[2], body, "slow, but whole")
        fault(method, "reset_in_body")
        check.that(not isinstance(world.get("d")[0], int), "a reset in a download")
    check.equal(world.get("d")[2], body, "and then it is over")

    world.control("POST", "faults", [{"api": "b2_upload_file", "kind": "internal_error", "name": "this", "from": 2, "count": 0}])
    statuses = [world.put(name)[0] for name in ("this", "that", "this", "that", "this")]
    check.equal(statuses, [200, 200, 500, 200, 500], "by name, from the second on")
    calls = world.control("GET", "calls")
    check.equal(calls["faults"]["b2_upload_file internal_error"], 2, "faults are counted")
    check.equal(server.world().control("GET", "calls")["calls"], {"b2_authorize_account": 1}, "in their world alone")
    exchange(world.address, "DELETE", "/control/worlds/" + world.made["id"])
    check.equal(world.call("b2_list_buckets")[0], 404, "a world that was deleted")


def main():
    check = Checks()
    with Server() as server:
        for group in (authorization, listings, uploads, downloads, encryption, file_lock, faults, tool):
            before = len(check.failures)
            group(server, check)
            print("%-14s %s" % (group.__name__, "ok" if len(check.failures) == before else "FAILED"), flush=True)
    for failure in check.failures:
        print("FAILED: %s" % failure)
    print("%d passed, %d failed, 0 skipped" % (check.passed, len(check.failures)))
    return 1 if check.failures else 0


if __name__ == "__main__":
    sys.exit(main())
