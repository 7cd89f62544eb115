"""One call of the native API: who asks, what for, and whether that is allowed."""

from .world import ApiError, bad_request

UNAUTHORIZED = (401, "unauthorized", "unauthorized")


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
