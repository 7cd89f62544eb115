"""HTTP/1.1 over a blocking socket: as much of it as the clients of B2 use, without copying bodies about."""

import hashlib
import json
import socket
import struct
import time
from email.utils import formatdate
from urllib.parse import parse_qsl, urlsplit

LONGEST_HEAD = 64 * 1024
CHUNK = 256 * 1024
REASONS = {200: "OK", 206: "Partial Content", 400: "Bad Request", 401: "Unauthorized", 403: "Forbidden", 404: "Not Found",
           405: "Method Not Allowed", 408: "Request Timeout", 409: "Conflict", 411: "Length Required",
           416: "Range Not Satisfiable", 429: "Too Many Requests", 500: "Internal Server Error", 503: "Service Unavailable"}


class Closed(Exception):
    """The peer is gone."""


class Request:
    def __init__(self, head):
        lines = head.decode("latin-1").split("\r\n")
        self.method, self.target, _ = lines[0].split(" ", 2)
        split = urlsplit(self.target)
        self.path = split.path
        self.query = dict(parse_qsl(split.query, keep_blank_values=True)) if split.query else {}
        self.headers = {}
        for line in lines[1:]:
            name, _, value = line.partition(":")
            self.headers[name.lower()] = value.strip()
        self.length = int(self.headers.get("content-length", 0))
        self.keep_alive = self.headers.get("connection", "").lower() != "close"


class Response:
    def __init__(self, status, headers, body=b""):
        self.status, self.headers, self.body = status, headers, body

    @classmethod
    def of_json(cls, value, status=200, headers=()):
        body = json.dumps(value).encode()
        return cls(status, {"Content-Type": "application/json;charset=utf-8", **dict(headers)}, body)

    @classmethod
    def of_error(cls, status, code, message, headers=()):
        return cls.of_json({"status": status, "code": code, "message": message}, status, headers)


class Connection:
    def __init__(self, sock):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock, self.pending = sock, b""

    def read_head(self):
        """The next request up to its body, or None at the end."""
        while (end := self.pending.find(b"\r\n\r\n")) < 0:
            if len(self.pending) > LONGEST_HEAD:
                raise Closed("the head is too long")
            more = self.sock.recv(64 * 1024)
            if not more:
                return None
            self.pending += more
        head, self.pending = self.pending[:end], self.pending[end + 4 :]
        request = Request(head)
        if request.headers.get("expect", "").lower() == "100-continue":
            self.sock.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        return request

    def read_body(self, length, hash_up_to=0):
        """`length` bytes, and the SHA-1 of the first `hash_up_to` of them."""
        body, sha1, filled = bytearray(length), hashlib.sha1(), 0
        with memoryview(body) as view:
            while filled < length:
                got = self._read_into(view[filled:])
                if filled < hash_up_to:
                    sha1.update(view[filled : min(filled + got, hash_up_to)])
                filled += got
        return body, sha1.hexdigest()

    def skip_body(self, length):
        scratch = memoryview(bytearray(min(length, CHUNK)))
        while length > 0:
            length -= self._read_into(scratch[: min(length, CHUNK)])

    def _read_into(self, view):
        if self.pending:
            got = min(len(self.pending), len(view))
            view[:got] = self.pending[:got]
            self.pending = self.pending[got:]
            return got
        got = self.sock.recv_into(view[:CHUNK])
        if not got:
            raise Closed("in the middle of a body")
        return got

    def send(self, response, ending, head_only=False, clock_skew=0, body_share=1.0, trickle_seconds=0):
        """The answer; of its body only the share that is asked for, though the length announces all. `ending` is called
        before the last of it leaves: who has read it all may count on what that did."""
        body = memoryview(response.body)
        headers = {"Content-Length": str(len(body)), "Date": formatdate(time.time() + clock_skew, usegmt=True),
                   **response.headers}
        lines = ["HTTP/1.1 %d %s" % (response.status, REASONS.get(response.status, "Unknown"))]
        lines += ["%s: %s" % pair for pair in headers.items()]
        head = ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")
        if head_only:
            body = body[:0]
        elif body_share != 1.0:
            body = body[: int(len(body) * body_share)]
        if len(body) <= 64 * 1024 and not trickle_seconds:
            ending(len(head) + len(body))
            self.sock.sendall(head + body)
            return
        self.sock.sendall(head)
        if trickle_seconds:
            self._trickle(body[:-1], trickle_seconds)
        else:
            self.sock.sendall(body[:-1])
        ending(len(head) + len(body))
        self.sock.sendall(body[-1:])

    def _trickle(self, body, seconds, steps=10):
        size = max(1, -(-len(body) // steps))
        for step in range(steps):
            time.sleep(seconds / steps)
            self.sock.sendall(body[step * size : (step + 1) * size])

    def reset(self):
        """Ends the connection with a reset instead of an orderly end."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()
