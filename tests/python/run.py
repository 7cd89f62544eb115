#!/usr/bin/env python3
"""Checks of the format by implementations that share no code with sidekey.

    python3 -m venv .venv && .venv/bin/pip install cryptography
    .venv/bin/python tests/python/run.py [--sidekey PATH] [--vectors DIR] [--shell SH] [--only GROUP]

Pairs made by reference.py are restored by scripts/restore.py, by scripts/restore-with-openssl.sh and, with --sidekey,
by that binary; pairs made by the binary are restored by the scripts. Damaged ones must be refused with exit status 3
and leave nothing behind. With --vectors every *.vec of the folder goes through both scripts. The last line of the
output is `N passed, N failed, N skipped`.
"""

import argparse
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

sys.dont_write_bytecode = True  # the tests leave the source tree as it was

import cases
from tools import Checks, RestorePy, RestoreSh, Sidekey

ROOT = Path(__file__).resolve().parents[2]


def resolved(path):
    return Path(path).resolve()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sidekey", type=resolved, help="the binary to check against")
    parser.add_argument("--vectors", type=resolved, help="folder of *.vec files; their keys are in ../keys")
    parser.add_argument("--shell", default=shutil.which("dash") or "sh", help="shell for restore-with-openssl.sh")
    parser.add_argument("--only", help="run only the groups whose name holds this")
    options = parser.parse_args()
    for path in filter(None, (options.sidekey, options.vectors)):
        if not path.exists():
            parser.error("%s: there is no such file or folder" % path)
    checks = Checks()
    with tempfile.TemporaryDirectory(prefix="sidekey-python-") as folder:
        os.chdir(folder)
        tools = [RestorePy(ROOT), RestoreSh(ROOT, options.shell)]
        if options.sidekey:
            tools.append(Sidekey(options.sidekey))
        world = cases.World(ROOT, Path(folder), tools, options)
        for group in cases.GROUPS:
            if options.only and options.only not in group.__name__:
                continue
            start = time.monotonic()
            before = checks.passed
            checks.group = group.__name__
            group(world, checks)
            print("%-28s %4d passed in %.1f s" % (group.__name__, checks.passed - before, time.monotonic() - start))
        os.chdir("/")
    for line in checks.failures:
        print("FAILED " + line)
    print("%d passed, %d failed, 0 skipped" % (checks.passed, len(checks.failures)))
    sys.exit(1 if checks.failures or not checks.passed else 0)


if __name__ == "__main__":
    main()
