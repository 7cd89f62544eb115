"""What the group `sync` of scripts/bench counts on the test servers: the calls of a run that finds nothing changed."""

import shutil

from bench_services import ROOT, B2Server, S3Server, post, timed

FILES = 5_000
PER_LISTING = 1_000


def services(bench, rows):
    """`rows` is the module whose kinds of rows these are."""
    count = min(bench.args.files, FILES)
    tree = bench.folder / "sync-tree"
    for number in range(count):
        folder = tree / f"{number // 500:02}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{number:05}").write_bytes(b"%d" % number)
    with B2Server() as server:
        world = server.world()

        def taken():
            calls = world.calls()["calls"]
            post(world.url + "/control/calls/reset", {})
            return calls

        unchanged(bench, rows, "B2", f"b2://{world.bucket}/x/", world.sidekey(), tree, count, taken)
    with S3Server(0) as server:
        bucket = "bench-sync"
        timed([str(ROOT / ".venv-s3tools" / "bin" / "aws"), "s3api", "create-bucket", "--bucket", bucket], server.env)
        unchanged(bench, rows, "S3", f"s3://{bucket}/x/", server.env, tree, count, server.counts)
    shutil.rmtree(tree)


def unchanged(bench, rows, service, location, env, tree, count, taken):
    """A vault with encrypted names; the second run may list, and look at the vault's own three objects."""
    home = bench.folder / "sync-home"
    env = {**env, "XDG_CONFIG_HOME": str(home), "XDG_STATE_HOME": str(home)}
    timed([bench.sidekey, "-q", "init", location, "-r", bench.path("a.pub.pem")], env)
    sync = [bench.sidekey, "-q", "sync", str(tree), location]
    first = timed(sync, env)
    taken()
    seconds = timed(sync, env)
    calls = taken()
    listings = -(-2 * count // PER_LISTING)
    bench.rows.append(rows.LimitRow(f"{service}: calls of a second `sync` of {count:,} files into a vault, nothing changed", sum(calls.values()),
                                    "calls", listings + 10))
    counted = ", ".join(f"{number} {call}" for call, number in sorted(calls.items()))
    bench.notes.append(f"{service}, `sync` of {count:,} files into a vault: {first:.1f} s; once more, nothing changed: {seconds:.1f} s, {counted}.")
    shutil.rmtree(home)
