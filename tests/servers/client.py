"""scripts/b2-server as its checks reach it: by plain HTTP."""

import base64
import hashlib
import http.client
import json
import os
import subprocess
import sys
from urllib.parse import quote

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
KEY, OTHER_KEY = (base64.b64encode(bytes([each] * 32)).decode() for each in (1, 2))


class Checks:
    def __init__(self):
        self.passed, self.failures = 0, []

    def that(self, condition, name, detail=""):
        if condition:
            self.passed += 1
        else:
            self.failures.append("%s: %.600s" % (name, detail))

    def equal(self, got, wanted, name):
        self.that(got == wanted, name, "%.300r, not %.300r" % (got, wanted))


class Server:
    def __enter__(self):
        self.process = subprocess.Popen([sys.executable, os.path.join(ROOT, "scripts", "b2-server")],
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.address = self.process.stdout.readline().split("http://")[1].strip()
        return self

    def __exit__(self, *_):
        self.process.stdin.close()
        self.process.wait(10)

    def world(self, **options):
        return World(self.address, json.loads(exchange(self.address, "POST", "/control/worlds", options)[2]))


def exchange(address, method, path, body=b"", headers=None, connection=None):
    """(status, headers, body) of one request; the status of a reset connection is its error's name."""
    connection = connection or http.client.HTTPConnection(address, timeout=60)
    body = body if isinstance(body, (bytes, bytearray)) else json.dumps(body).encode()
    try:
        connection.request(method, path, body, headers or {})
        answer = connection.getresponse()
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
    except (ConnectionError, http.client.HTTPException) as error:
        return type(error).__name__, {}, getattr(error, "partial", b"")


class World:
    """A world as a program sees it that speaks plain HTTP."""

    def __init__(self, address, made):
        self.address, self.made, self.bucket, self.bucket_id = address, made, made["bucket"], made["bucket_id"]
        self.path = made["url"].split(address)[1]
        self.token = self.authorize(made)["authorizationToken"]

    def authorize(self, key, version=4):
        basic = base64.b64encode(("%s:%s" % (key["key_id"], key["key"])).encode()).decode()
        return json.loads(exchange(self.address, "GET", "%s/b2api/v%d/b2_authorize_account" % (self.path, version), b"",
                                   {"Authorization": "Basic " + basic})[2])

    def control(self, method, what, body=b""):
        return json.loads(exchange(self.address, method, "%s/control/%s" % (self.path, what), body)[2])

    def call(self, name, version=4, token=None, **params):
        """(status, JSON)"""
        status, _, body = exchange(self.address, "POST", "%s/b2api/v%d/%s" % (self.path, version, name), params,
                                   {"Authorization": token or self.token})
        return status, json.loads(body) if body else None

    def code(self, name, **params):
        status, answer = self.call(name, **params)
        return status, answer.get("code")

    def upload_url(self, token=None, **params):
        name = "b2_get_upload_part_url" if "fileId" in params else "b2_get_upload_url"
        answer = self.call(name, token=token, **(params or {"bucketId": self.bucket_id}))[1]
        return answer["uploadUrl"].split(self.address)[1], answer["authorizationToken"]

    def put(self, name, body=b"body", url=None, **headers):
        """(status, JSON) of an upload."""
        path, token = url or self.upload_url()
        headers = {each.replace("_", "-"): value for each, value in headers.items()}
        headers = {"Authorization": token, "X-Bz-File-Name": quote(name), "Content-Type": "b2/x-auto",
                   "X-Bz-Content-Sha1": hashlib.sha1(body).hexdigest(), **headers}
        status, _, answer = exchange(self.address, "POST", path, body, headers)
        return status, json.loads(answer) if answer else None

    def part(self, file_id, number, body, url=None, **headers):
        return self.put("", body, url or self.upload_url(fileId=file_id), X_Bz_Part_Number=str(number), **headers)

    def start(self, name, **params):
        return self.call("b2_start_large_file", bucketId=self.bucket_id, fileName=name, contentType="b2/x-auto", **params)

    def get(self, name, method="GET", **headers):
        headers = {"Authorization": self.token, **{each.replace("_", "-"): value for each, value in headers.items()}}
        return exchange(self.address, method, "%s/file/%s/%s" % (self.path, self.bucket, quote(name)), b"", headers)

    def names(self, call="b2_list_file_names", **params):
        """All names of a listing, page by page."""
        names, position = [], {}
        while True:
            answer = self.call(call, bucketId=self.bucket_id, **params, **position)[1]
            names += [each["fileName"] for each in answer["files"]]
            position = {"startFileName": answer["nextFileName"], "startFileId": answer.get("nextFileId")}
            if not position["startFileName"]:
                return names
            if call == "b2_list_file_names":
                del position["startFileId"]


def customer(key):
    md5 = base64.b64encode(hashlib.md5(base64.b64decode(key)).digest()).decode()
    start = "X-Bz-Server-Side-Encryption-Customer-"
    return {start + "Algorithm": "AES256", start + "Key": key, start + "Key-Md5": md5}


def customer_json(key):
    values = list(customer(key).values())
    return {"mode": "SSE-C", "algorithm": "AES256", "customerKey": values[1], "customerKeyMd5": values[2]}
