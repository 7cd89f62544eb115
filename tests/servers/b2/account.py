"""Signing in, buckets and application keys."""

import base64
import re
import time

from b2sdk._internal.encryption.setting import SSE_B2_AES

from .call import UNAUTHORIZED
from .world import ApiError, bad_request, encryption_of_json


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
