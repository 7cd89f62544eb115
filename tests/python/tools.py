"""The programs under test behind one face, and the counting of checks."""

import contextlib
import importlib.util
import io
import os
import subprocess
import sys


class Checks:
    """Counts; a failed check is remembered and the run goes on."""

    def __init__(self, group):
        self.group, self.passed, self.failures = group, 0, []

    def that(self, condition, name, detail=""):
        if condition:
            self.passed += 1
        else:
            self.failures.append("%s: %s: %s" % (self.group, name, detail))

    def equal(self, got, wanted, name):
        self.that(got == wanted, name, "%.300r, not %.300r" % (got, wanted))


class RestorePy:
    """scripts/restore.py, called in this process: a new Python for each of some hundred cases would take minutes."""

    name = "restore.py"

    def __init__(self, root):
        self.script = root / "scripts" / "restore.py"
        spec = importlib.util.spec_from_file_location("restore", self.script)
        self.module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(self.module)

    def run(self, *arguments):
        """Exit status and what stood on stderr."""
        text = io.StringIO()
        with contextlib.redirect_stderr(text):
            try:
                status = self.module.main([os.fspath(argument) for argument in arguments])
            except SystemExit as stop:
                status = stop.code
        return status, text.getvalue()

    def process(self, *arguments):
        return finished([sys.executable, "-W", "error", self.script, *arguments])

    def restore(self, container, out, key, envelope=None):
        return self.run("-i", key, *(["-e", envelope] if envelope else []), "-o", out, container)


class RestoreSh:
    """scripts/restore-with-openssl.sh under the given shell."""

    name = "restore-with-openssl.sh"

    def __init__(self, root, shell):
        self.script, self.shell = root / "scripts" / "restore-with-openssl.sh", shell

    def run(self, *arguments):
        return finished([self.shell, self.script, *arguments])

    def restore(self, container, out, key, envelope=None):
        return self.run("-i", key, *(["-e", envelope] if envelope else []), "-o", out, container)


class Sidekey:
    """The binary."""

    name = "sidekey"

    def __init__(self, path):
        self.path = path

    def run(self, *arguments):
        return finished([self.path, *arguments])

    def restore(self, container, out, key, envelope=None):
        return self.run(
            "decrypt", "-i", key, *(["--envelope", envelope] if envelope else []), container, "-o", out, "--force"
        )


def finished(command):
    """Exit status and stderr of a command that has no terminal and four minutes."""
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=240, check=False)
    return done.returncode, (done.stdout + done.stderr).decode("utf-8", "backslashreplace")
