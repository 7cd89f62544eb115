"""The group `rotation` of scripts/bench: a location moved to another key, beside RSA alone, the shell loop and rclone."""

import os
import pathlib
import shutil
import signal
import statistics
import subprocess
import time

from bench_services import LATENCY_MS, ROOT, B2Server, S3Server, counted, post, timed

LOOP_FILES = 200
CONNECTIONS = 32
TIMES_FASTER = 20
# For so many seconds it runs between two measurements of RSA alone, which take so many.
SLICE, BETWEEN = 10, 3


def rotation(bench, rows):
    """`rows` is the module whose kinds of rows these are."""
    local(bench, rows)
    services(bench)
    memory(bench, rows)


class Turns:
    """A location that moves to the other key at each turn, and what a run of it remembers."""

    def __init__(self, bench, location, env=None, options=()):
        self.bench, self.location, self.env, self.options = bench, location, env or {}, list(options)
        self.keys, self.state = ("a", "b"), bench.folder / "state"

    def turn(self):
        """Moves it, with nothing remembered; the seconds that took."""
        self.forget()
        return self.again()

    def turn_beside_rsa(self):
        """The same, and the rate of RSA alone; the run is stopped again and again while that is measured, for the speed of a
        machine changes within a minute."""
        self.forget()
        alone, ran = [self.bench.rsa_alone(BETWEEN)], 0
        run = subprocess.Popen(self.command(), env={**os.environ, **self.environment()}, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        try:
            while run.returncode is None:
                started = time.perf_counter()
                try:
                    run.wait(SLICE)
                except subprocess.TimeoutExpired:
                    run.send_signal(signal.SIGSTOP)
                ran += time.perf_counter() - started
                alone.append(self.bench.rsa_alone(BETWEEN))
                run.send_signal(signal.SIGCONT)
        finally:
            run.kill()
        if run.returncode:
            raise SystemExit(f"scripts/bench: exit code {run.returncode} of: {' '.join(self.command())}")
        return ran, statistics.mean(alone)

    def again(self):
        """The same command once more, which finds everything done; the seconds that took."""
        return timed(self.command(), self.environment())

    def swap(self):
        self.keys = self.keys[::-1]

    def command(self):
        old, new = self.keys
        return [self.bench.sidekey, "-q", "rewrap", self.location, "-i", self.bench.path(old + ".pem"), "--to", self.bench.path(new + ".pub.pem"),
                *self.options]

    def environment(self):
        return {**self.env, "XDG_STATE_HOME": str(self.state)}

    def forget(self):
        shutil.rmtree(self.state, ignore_errors=True)


def fill(bench, name, count, location, env=None, options=()):
    """Puts `count` files of a few bytes for the key `a`."""
    tree = bench.folder / name
    for number in range(count):
        folder = tree / f"{number // 1000:04}"
        if number % 1000 == 0:
            folder.mkdir(parents=True)
        (folder / f"{number:07}").write_bytes(b"%d" % number)
    timed([bench.sidekey, "-q", "put", "-r", bench.path("a.pub.pem"), *options, f"{tree}/", location], env or {})
    shutil.rmtree(tree)


# --- a folder on tmpfs


def local(bench, rows):
    """Beside two threads of the RSA private operation, and beside the loop that the recipe's users write."""
    count, folder = bench.args.envelopes, bench.folder / "rotation"
    fill(bench, "rotation-tree", count, f"file://{folder}/")
    turns = Turns(bench, f"file://{folder}/")
    ours, rsa, loops, again = [], [], [], []
    for _ in range(bench.args.rounds):
        seconds, alone = turns.turn_beside_rsa()
        ours.append(count / seconds)
        rsa.append(alone)
        loops.append(shell_loop(bench, folder))
        again.append(seconds / turns.again())
        turns.swap()
    per_second = f"{statistics.median(ours):,.0f}/s"
    bench.rows.append(rows.Row(f"rewrap of {count:,} envelopes in a location on tmpfs, 3072 bits, the default proof, beside two threads of RSA private operations",
                               per_second, f"{statistics.median(rsa):,.0f}/s", ratios(ours, rsa), 0.85))
    bench.rows.append(rows.Row(f"the same beside a shell loop of two `openssl pkeyutl` for each of {LOOP_FILES} key files, scaled",
                               per_second, f"{statistics.median(loops):,.1f}/s", ratios(ours, loops), 30))
    bench.rows.append(rows.Row("the same run once more, when all is done", f"{statistics.median(again):.0f} x", "1 x", again, TIMES_FASTER))
    bench.remover("rotation", "state")()


def shell_loop(bench, folder):
    """Key files of the recipe moved as its description says, one after the other; so many in a second."""
    files = bench.folder / "loop"
    shutil.rmtree(files, ignore_errors=True)
    files.mkdir()
    first = files / "0.key.enc"
    encrypt = ["openssl", "pkeyutl", "-encrypt", "-pubin", "-inkey", bench.path("a.pub.pem"), "-out", str(first)]
    subprocess.run(encrypt, input=b"a password of the recipe, which is 240 characters long", check=True)
    for number in range(1, LOOP_FILES):
        shutil.copy(first, files / f"{number}.key.enc")
    loop = ('for file in "$1"/*.key.enc; do openssl pkeyutl -decrypt -inkey "$2" -in "$file" | '
            'openssl pkeyutl -encrypt -pubin -inkey "$3" -out "$file.new" && mv "$file.new" "$file" || exit; done')
    seconds = timed(["sh", "-c", loop, "sh", str(files), bench.path("a.pem"), bench.path("b.pub.pem")], {})
    shutil.rmtree(files)
    return LOOP_FILES / seconds


def ratios(ours, theirs):
    return [one / two for one, two in zip(ours, theirs)]


# --- services, each call of which takes longer


def services(bench):
    count = bench.args.objects
    with B2Server() as server:
        world = server.world(latency_ms=LATENCY_MS)
        remote = f"type = b2\naccount = {world.env['B2_APPLICATION_KEY_ID']}\nkey = {world.env['B2_APPLICATION_KEY']}\nendpoint = {world.url}\nhard_delete = true\n"
        calls = lambda: taken(world)
        beside_rclone(bench, "B2", f"b2://{world.bucket}/x/", world.sidekey(), remote, world.bucket, count, calls)
    for versions in (False, True):
        s3(bench, count, versions)


def s3(bench, count, versions):
    """Four calls an envelope; where the bucket keeps versions a fifth deletes the older one."""
    with S3Server(LATENCY_MS) as server:
        bucket = "bench-rotation"
        aws = [str(ROOT / ".venv-s3tools" / "bin" / "aws"), "s3api"]
        timed([*aws, "create-bucket", "--bucket", bucket], server.env)
        if versions:
            timed([*aws, "put-bucket-versioning", "--bucket", bucket, "--versioning-configuration", "Status=Enabled"], server.env)
        remote = (f"type = s3\nprovider = Other\nendpoint = {server.url}\nregion = us-east-1\naccess_key_id = test\nsecret_access_key = test\n"
                  "force_path_style = true\n")
        calls = lambda: ", ".join(f"{count} {method}" for method, count in sorted(server.counts().items()))
        beside_rclone(bench, "S3, with versions" if versions else "S3", f"s3://{bucket}/x/", server.env, remote, bucket, count, calls)


def taken(world):
    """What was called since the last time."""
    text = counted(world.calls())
    post(world.url + "/control/calls/reset", {})
    return text


def beside_rclone(bench, service, location, env, remote, bucket, count, calls):
    """Beside two calls: the same objects down into a folder, and up again under another name."""
    config, got = bench.folder / "rotation-rclone.conf", bench.folder / "rotation-got"
    config.write_text(f"[there]\n{remote}")
    fill(bench, "rotation-tree", count, location, env, ["--connections", str(CONNECTIONS)])
    turns = Turns(bench, location, env, ["--connections", str(CONNECTIONS)])
    many = ["--transfers", str(CONNECTIONS), "--checkers", str(CONNECTIONS), "--include", "*.key.enc"]
    rclone = [str(bench.args.rclone), "--config", str(config), "copy", *many]
    times, notes = ([], []), []
    for number in range(bench.args.rounds):
        shutil.rmtree(got, ignore_errors=True)
        calls()
        times[0].append(turns.turn())
        notes.append(f"{service}, rewrap of {count:,} envelopes with {CONNECTIONS} connections: {calls()}.")
        turns.swap()
        down = timed([*rclone, f"there:{bucket}/x", str(got)], {})
        times[1].append(down + timed([*rclone, str(got), f"there:{bucket}/up-{number}"], {}))
    found = sum(1 for path in got.rglob("*") if path.is_file())
    if found != count:
        raise SystemExit(f"scripts/bench: rclone copied {found} of {count} envelopes")
    bench.row(f"{service}: rewrap of {count:,} envelopes, {LATENCY_MS} ms a call, {CONNECTIONS} connections each, beside `rclone copy` of them down and up",
              *times, count, "envelopes/s", 0.5)
    bench.notes.append(notes[0])
    bench.remover("rotation-got", "rotation-rclone.conf", "state")()


# --- memory


def memory(bench, rows):
    """Very many envelopes: one pair under other names, for what is kept of each is its name and not its contents."""
    count, folder = bench.args.count, bench.folder / "rotation-many"
    fill(bench, "rotation-tree", 1, f"file://{bench.folder}/rotation-one/")
    container, envelope = sorted((bench.folder / "rotation-one" / "0000").iterdir(), key=lambda path: len(path.name))
    middle, text = envelope.name.split(".", 1)[1], envelope.read_bytes()
    for number in range(count):
        below = folder / f"{number // 10_000:04}"
        if number % 10_000 == 0:
            below.mkdir(parents=True)
        os.link(container, below / f"{number:07}.enc")
        (below / f"{number:07}.{middle}").write_bytes(text)
    turns = Turns(bench, f"file://{folder}/", options=["--report", bench.path("rotation.jsonl")])
    turns.forget()
    for what in ("", ", once more when all is done"):
        kib = bench.folder / "kib"
        seconds = timed(["/usr/bin/time", "-o", str(kib), "-f", "%M %U %S", *turns.command()], turns.environment())
        peak, user, system = kib.read_text().split()
        busy = float(user) + float(system)
        bench.rows.append(rows.MemoryRow(f"resident memory: rewrap of a location of {count:,} envelopes, with a report{what}", int(peak)))
        bench.notes.append(f"rewrap of {count:,} envelopes on tmpfs{what}: {seconds:,.0f} s, {count / seconds:,.0f}/s; {busy:,.0f} s of processor time, "
                           f"{1000 * busy / count:.2f} ms each.")
    journal = sum(path.stat().st_size for path in turns.state.rglob("rewrap-*"))
    report = pathlib.Path(bench.path("rotation.jsonl")).stat().st_size
    bench.notes.append(f"Of {count:,} envelopes the journal is {journal / count:.0f} and the report {report / count:.0f} bytes each.")
    bench.remover("rotation-many", "rotation-one", "rotation.jsonl", "state", "kib")()
