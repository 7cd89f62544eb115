"""Faults on demand, and what a world counts."""

import threading
import time

# kind: (status, code, message)
ERRORS = {
    "service_unavailable": (503, "service_unavailable", "c001_v0001001_t0001 is too busy"),
    "too_many_requests": (429, "too_many_requests", "too many requests"),
    "request_timeout": (408, "request_timeout", "timed out while reading the request"),
    "internal_error": (500, "internal_error", "internal error"),
    "bad_auth_token": (401, "bad_auth_token", "Invalid authorization token"),
    "expired_auth_token": (401, "expired_auth_token", "Authorization token has expired"),
    "cap_exceeded": (403, "cap_exceeded", "Usage cap exceeded."),
    "storage_cap_exceeded": (403, "storage_cap_exceeded", "Storage cap exceeded."),
    "transaction_cap_exceeded": (403, "transaction_cap_exceeded", "Transaction cap exceeded."),
    "download_cap_exceeded": (403, "download_cap_exceeded", "Download cap exceeded."),
    "no_payment_history": (403, "no_payment_history", "No payment history."),
}
CONNECTION_KINDS = {"error", "reset_before", "reset_in_body", "lost_answer", "truncated", "corrupted", "slow"}


class Fault:
    def __init__(self, options):
        options = dict(options)
        self.api, self.kind = options.pop("api"), options.pop("kind")
        if self.kind not in ERRORS and self.kind not in CONNECTION_KINDS:
            raise ValueError("no such kind of fault: %s" % self.kind)
        nth = options.pop("nth", None)
        self.first = nth or options.pop("from", 1)
        self.count = 1 if nth else options.pop("count", 1)
        self.name, self.part = options.pop("name", None), options.pop("part", None)
        self.method = options.pop("method", None)
        self.options, self.seen = options, 0

    def meets(self, api, method, name, part):
        """Whether this call is one of those; counts it."""
        if self.api not in ("*", api) or (self.method and self.method != method):
            return False
        if (self.name and self.name not in (name or "")) or (self.part and self.part != part):
            return False
        self.seen += 1
        return self.seen >= self.first and (self.count == 0 or self.seen < self.first + self.count)

    def error(self):
        """(status, code, message) of the answer, for a fault that is one."""
        if self.kind == "error":
            get = self.options.get
            return get("status", 500), get("code", "internal_error"), get("message", "a fault on demand")
        return ERRORS.get(self.kind)


class Faults:
    def __init__(self):
        self.lock, self.list = threading.Lock(), []

    def set(self, options):
        faults = [Fault(each) for each in options]
        with self.lock:
            self.list = faults

    def next(self, api, method, name, part):
        """The fault that this call meets, or None; every fault of the list counts the call."""
        if not self.list:
            return None
        with self.lock:
            met = [fault for fault in self.list if fault.meets(api, method, name, part)]
            return met[0] if met else None


class Counts:
    def __init__(self):
        self.lock = threading.Lock()
        self.active = 0
        self.reset()

    def reset(self):
        with self.lock:
            self.calls, self.answers, self.faults, self.violations = {}, {}, {}, []
            self.max_concurrent = self.bytes_in = self.bytes_out = 0
            self.cpu_started = time.process_time()

    def begin(self, api, received):
        with self.lock:
            self.calls[api] = self.calls.get(api, 0) + 1
            self.active += 1
            self.max_concurrent = max(self.max_concurrent, self.active)
            self.bytes_in += received

    def answered(self, api, status, sent):
        with self.lock:
            key = "%s %s" % (api, status)
            self.answers[key] = self.answers.get(key, 0) + 1
            self.bytes_out += sent

    def fault(self, api, kind):
        with self.lock:
            key = "%s %s" % (api, kind)
            self.faults[key] = self.faults.get(key, 0) + 1

    def violation(self, text):
        with self.lock:
            self.violations.append(text)

    def end(self):
        with self.lock:
            self.active -= 1

    def as_json(self):
        with self.lock:
            return {
                "calls": self.calls,
                "answers": self.answers,
                "faults": self.faults,
                "violations": self.violations,
                "max_concurrent": self.max_concurrent,
                "bytes_in": self.bytes_in,
                "bytes_out": self.bytes_out,
                "cpu_seconds": round(time.process_time() - self.cpu_started, 3),
            }
