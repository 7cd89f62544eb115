#!/usr/bin/env python3
"""Checks of the format by implementations that share no code with sidekey.

    python3 -m venv .venv && .venv/bin/pip install cryptography
    .venv/bin/python tests/python/run.py [--sidekey PATH] [--vectors DIR] [--shell SH] [--only GROUP]

Pairs made by reference.py are restored by scripts/restore.py, by scripts/restore-with-openssl.sh and, with --sidekey,
by that binary; pairs made by the binary are restored by the scripts. Damaged ones must be refused with exit status 3
and leave nothing behind. With --vectors every *.vec of the folder goes through both scripts. The groups are shared out
among two processes for each processor, as they wait for the disk now and then. The last line of the output is `N passed, N failed, N skipped`.
"""

import argparse
import multiprocessing
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
    groups = [group for group in cases.GROUPS if (options.only or "") in group[0].__name__]
    passed, failures = 0, []
    # Forked, so that a worker has the options as they are.
    with (
        tempfile.TemporaryDirectory(prefix="sidekey-python-") as folder,
        multiprocessing.get_context("fork").Pool(2 * os.cpu_count(), begin, (Path(folder), options)) as workers,
    ):
        for name, checks, seconds in workers.imap_unordered(run, groups, chunksize=1):
            print("%-28s %4d passed in %.1f s" % (name, checks.passed, seconds), flush=True)
            passed += checks.passed
            failures += checks.failures
    for line in failures:
        print("FAILED " + line)
    print("%d passed, %d failed, 0 skipped" % (passed, len(failures)))
    sys.exit(1 if failures or not passed else 0)


def begin(folder, options):
    """What a worker has for all of its groups: a folder of its own, keys and tools."""
    global world
    folder = folder / str(os.getpid())
    folder.mkdir()
    os.chdir(folder)
    tools = [RestorePy(ROOT), RestoreSh(ROOT, options.shell)]
    if options.sidekey:
        tools.append(Sidekey(options.sidekey))
    world = cases.World(ROOT, folder, tools, options)


def run(group):
    """Its name, its checks and how long it took."""
    function, *arguments = group
    name = " ".join([function.__name__, *map(str, arguments)])
    checks, start = Checks(name), time.monotonic()
    function(world, checks, *arguments)
    return name, checks, time.monotonic() - start


if __name__ == "__main__":
    main()
