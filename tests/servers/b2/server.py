"""Connections, worlds, the control calls, and where faults strike."""

import json
import re
import secrets
import socket
import sys
import threading
import time
import traceback
from urllib.parse import unquote

from . import api
from .call import Call
from .http import Closed, Connection, Response
from .world import ApiError, World

UPLOAD_URL = re.compile(r"/b2api/v\d/(b2_upload_file|b2_upload_part)/[^/]+/\d+")
API = re.compile(r"/b2api/v([1-4])/(b2_[a-z_]+)")
# After these, an upload URL must not be used again.
ENDS_UPLOAD_URL = {"service_unavailable", "too_many_requests", "request_timeout", "internal_error", "bad_auth_token",
                   "expired_auth_token", "reset_before", "reset_in_body", "lost_answer"}


class Server:
    def __init__(self):
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=512)
        self.base = "http://127.0.0.1:%d" % self.listener.getsockname()[1]
        self.worlds = {}

    def run(self):
        while True:
            sock, _ = self.listener.accept()
            threading.Thread(target=self.connection, args=(sock,), daemon=True).start()

    def connection(self, sock):
        connection = Connection(sock)
        try:
            while (request := connection.read_head()) is not None:
                if not self.request(connection, request) or not request.keep_alive:
                    break
        except (Closed, OSError, ValueError):
            pass
        except Exception:
            traceback.print_exc()
        finally:
            sock.close()

    def request(self, connection, request):
        """Answers one request; whether the connection goes on."""
        match = re.fullmatch("/w/([0-9a-z]+)(/.*)", request.path)
        world = match and self.worlds.get(match[1])
        if world and not match[2].startswith("/control/"):
            return Exchange(connection, request, world, match[2]).run()
        body, _ = connection.read_body(request.length)
        try:
            params = json.loads(body) if body else {}
            if world:
                answer = control_world(world, request.method, match[2], params)
            else:
                answer = self.control(request.method, request.path, params)
            response = Response.of_json(answer)
        except ApiError as error:
            response = Response.of_error(error.status, error.code, error.message)
        except (KeyError, TypeError, ValueError) as error:
            response = Response.of_error(400, "bad_request", "%s: %s" % (type(error).__name__, error))
        connection.send(response, lambda _: None, head_only=request.method == "HEAD")
        return True

    def control(self, method, path, params):
        if (method, path) == ("POST", "/control/worlds"):
            world = World(secrets.token_hex(4), self.base, params)
            self.worlds[world.id] = world
            return {"id": world.id, "url": world.url, "key_id": world.key_id, "key": world.key, "account_id": world.account,
                    "bucket": world.bucket_name, "bucket_id": world.bucket.bucket_id}
        if method == "DELETE" and path.startswith("/control/worlds/"):
            self.worlds.pop(path.rpartition("/")[2], None)
            return {}
        raise ApiError(404, "not_found", "no such world or control call: %s" % path)


def control_world(world, method, path, params):
    with world.lock:
        match method, path.removeprefix("/control/"):
            case "POST", "faults":
                world.faults.set(params)
                return {}
            case "GET", "calls":
                return world.counts.as_json()
            case "POST", "calls/reset":
                world.counts.reset()
                return {}
            case "POST", "keys":
                bucket = [world.bucket.bucket_id] if params.get("bucket") else None
                key = world.add_key("made-by-control", params["capabilities"], bucket, params.get("prefix"))
                return {"key_id": key.application_key_id, "key": key.key}
            case "POST", "expire":
                world.expired_auth_tokens.update(world.auth_token_to_key)
                return {}
            case "POST", "age":
                for bucket in world.bucket_name_to_bucket.values():
                    for file in bucket.file_name_and_id_to_file.values():
                        file.upload_timestamp -= int(params["seconds"] * 1000)
                return {}
            case "GET", "versions":
                return [version_json(bucket, file)
                        for bucket in world.bucket_name_to_bucket.values()
                        for file in bucket.file_name_and_id_to_file.below((params or {}).get("prefix", ""))]
    raise ApiError(404, "not_found", "no such control call: %s" % path)


def version_json(bucket, file):
    encryption = file.server_side_encryption
    return {"bucket": bucket.bucket_name, "name": file.name, "id": file.file_id, "action": file.action,
            "size": len(file.data_bytes or b""), "sha1": file.content_sha1, "info": file.file_info,
            "encryption": encryption and encryption.mode.value, "timestamp": file.upload_timestamp,
            "parts": len([part for part in getattr(file, "parts", []) if part])}


class Exchange:
    """One call to a world: its body, its fault if it meets one, its work, its answer."""

    def __init__(self, connection, request, world, path):
        self.connection, self.request, self.world, self.path = connection, request, world, path
        self.upload_url = None

    def run(self):
        self.name, self.version, self.params = self.recognise()
        world, fault = self.world, self.next_fault()
        world.counts.begin(self.name, self.request.length)
        self.upload_url = world.upload_urls.get(self.request.headers.get("authorization"))
        if fault:
            world.counts.fault(self.name, fault.kind)
        self.fault, self.in_turn, self.ended = fault, self.take_upload_url(), False
        try:
            return self.exchange(fault)
        finally:
            self.ending("gone", 0)

    def ending(self, status, sent):
        """What a client may count on that has the answer: counted, and the upload URL free, or of no more use."""
        if self.ended:
            return
        self.ended = True
        self.world.counts.answered(self.name, status, sent)
        self.world.counts.end()
        if self.upload_url and self.in_turn:
            if self.fault and self.fault.kind in ENDS_UPLOAD_URL:
                self.upload_url.failed = True
            self.upload_url.in_use = False

    def recognise(self):
        """(name of the API, its version, parameters that stand in the URL)"""
        if match := UPLOAD_URL.fullmatch(self.path):
            return match[1], 0, {}
        if self.path.startswith("/file/"):
            return "b2_download_file_by_name", 0, {"path": self.path[len("/file/") :]}
        if (match := API.fullmatch(self.path)) and match[2] in api.CALLS:
            return match[2], int(match[1]), self.request.query
        return "unknown", 0, {}

    def next_fault(self):
        headers = self.request.headers
        part = headers.get("x-bz-part-number")
        name = unquote(headers.get("x-bz-file-name") or self.params.get("path") or "")
        return self.world.faults.next(self.name, self.request.method, name, int(part) if part else None)

    def take_upload_url(self):
        """Whether the upload URL was free. Two requests at once on one are against the rules."""
        url, world = self.upload_url, self.world
        if url is None:
            return True
        with world.lock:
            if url.in_use:
                world.counts.violation("%s: one upload URL in use by two requests at once" % self.name)
                return False
            url.in_use = True
        return True

    def exchange(self, fault):
        kind, connection, request = fault and fault.kind, self.connection, self.request
        if kind == "reset_before":
            return self.reset()
        if kind == "reset_in_body" and self.name not in api.DOWNLOADS:
            connection.skip_body(request.length // 2)
            return self.reset()
        early = self.refused_upload() or (fault and fault.error() and self.error_of(fault))
        if early:
            connection.skip_body(request.length)
            self.wait()
            return self.send(early)
        body, sha1 = self.read_body()
        self.wait()
        response = self.answer(body, sha1)
        if kind == "lost_answer":
            return self.reset()
        return self.send(response, fault)

    def refused_upload(self):
        """The error for a call to an upload URL that is refused before its body is looked at."""
        if self.name not in api.UPLOADS:
            return None
        url = self.upload_url
        if url is None or url.url != self.path:
            return Response.of_error(401, "bad_auth_token", "Invalid authorization token")
        if not self.in_turn:
            return Response.of_error(400, "auth_token_limit", "more than one upload using auth token %s" % url.token)
        if url.expired:
            return Response.of_error(401, "expired_auth_token", "Authorization token has expired")
        if url.failed:
            self.world.counts.violation("%s: an upload URL was used again after it failed" % self.name)
            return Response.of_error(503, "service_unavailable", "this upload URL failed before")
        return None

    def error_of(self, fault):
        status, code, message = fault.error()
        if fault.kind == "expired_auth_token":
            self.world.expire(self.request.headers.get("authorization"))
        after = fault.options.get("retry_after")
        return Response.of_error(status, code, message, {"Retry-After": str(after)} if after is not None else {})

    def read_body(self):
        length = self.request.length
        if self.name not in api.UPLOADS:
            return self.connection.read_body(length)
        at_end = self.request.headers.get("x-bz-content-sha1") == "hex_digits_at_end"
        return self.connection.read_body(length, length - 40 if at_end else length)

    def wait(self):
        if latency := self.world.options["latency_ms"]:
            time.sleep(latency / 1000)

    def answer(self, body, sha1):
        params = self.params
        if self.name == "unknown":
            return Response.of_error(404, "not_found", "no such call: %s" % self.path)
        if self.name not in api.UPLOADS and body:
            try:
                params = {**params, **json.loads(body)}
            except (TypeError, ValueError):
                return Response.of_error(400, "bad_json", "the body is not a JSON object")
        try:
            return api.answer(Call(self.world, self.name, self.version, self.request, params, body, sha1))
        except Exception as error:
            traceback.print_exc()
            return Response.of_error(500, "internal_error", "%s: %s" % (type(error).__name__, error))

    def send(self, response, fault=None):
        kind, share, trickle = fault and fault.kind, 1.0, 0
        head_only = self.request.method == "HEAD"
        if kind in ("truncated", "reset_in_body"):
            share = 0.5
        elif kind == "corrupted" and len(response.body):
            response.body = bytearray(response.body)
            response.body[fault.options.get("at", len(response.body) // 2)] ^= 1
        elif kind == "slow":
            trickle = fault.options.get("ms", 1000) / 1000
        self.connection.send(response, lambda sent: self.ending(response.status, sent), head_only,
                             self.world.options["clock_skew_seconds"], share, trickle)
        if kind == "reset_in_body":
            self.connection.reset()
        return kind not in ("truncated", "reset_in_body")

    def reset(self):
        self.ending("reset", 0)
        self.connection.reset()
        return False


def main():
    sys.setswitchinterval(0.001)
    server = Server()
    threading.Thread(target=server.run, daemon=True).start()
    print("b2-server", server.base, flush=True)
    sys.stdin.buffer.read()
    return 0
