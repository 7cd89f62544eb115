"""The groups of scripts/bench that measure sidekey beside other tools on one server of this machine."""

import contextlib
import json
import os
import pathlib
import statistics
import subprocess
import time
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parent.parent
SMALL, SMALL_LEN, LATENCY_MS = 1000, 16 << 10, 30
LARGE_MIB = 512


class B2Server:
    """scripts/b2-server, for as long as the block runs."""

    def __init__(self):
        python = ROOT / ".venv-servers" / "bin" / "python"
        self.process = subprocess.Popen([str(python), str(ROOT / "scripts" / "b2-server")], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, text=True)
        self.url = self.process.stdout.readline().split()[-1]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.stdin.close()
        self.process.wait(30)

    def world(self, **options):
        return B2World(self.url, post(self.url + "/control/worlds", options))


class B2World:
    """An account of its own on the server, with one bucket."""

    def __init__(self, server, world):
        self.server, self.world, self.url, self.bucket = server, world, world["url"], world["bucket"]
        self.env = {"B2_APPLICATION_KEY_ID": world["key_id"], "B2_APPLICATION_KEY": world["key"]}

    def sidekey(self):
        return {**self.env, "B2_ENDPOINT": self.url}

    def b2(self, folder):
        return {**self.env, "B2_ENVIRONMENT": self.url, "B2_ACCOUNT_INFO": str(folder / "b2-account")}

    def calls(self):
        with urllib.request.urlopen(self.url + "/control/calls") as answer:
            return json.load(answer)

    def remove(self):
        request = urllib.request.Request(f"{self.server}/control/worlds/{self.world['id']}", method="DELETE")
        urllib.request.urlopen(request).close()


def post(url, value):
    request = urllib.request.Request(url, json.dumps(value).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request) as answer:
        return json.load(answer)


def b2(bench, row):
    """`put` and `get` beside the `b2` tool, whose files are not encrypted; each run has an account of its own."""
    tool = str(ROOT / ".venv-servers" / "bin" / "b2")
    small, large = bench.folder / "services-small", bench.folder / "services-large"
    small.mkdir(exist_ok=True)
    for number in range(SMALL):
        (small / f"{number:04}").write_bytes(os.urandom(SMALL_LEN))
    with large.open("wb") as file:
        for _ in range(LARGE_MIB):
            file.write(os.urandom(1 << 20))
    put = lambda world, *words: [bench.sidekey, "-q", "put", "-r", bench.path("a.pub.pem"), *words]

    with B2Server() as server:
        for what, ours, theirs, target in (
            ("defaults of both", [], [], 1.5),
            ("10 connections each", ["--connections", "10"], ["--threads", "10"], 0.5),
        ):
            times, notes = ([], []), []
            for number in range(bench.args.rounds):
                for side in ((0, 1) if number % 2 == 0 else (1, 0)):
                    world = server.world(latency_ms=LATENCY_MS)
                    if side == 0:
                        command = put(world, f"{small}/", f"b2://{world.bucket}/x/", *ours)
                        env = world.sidekey()
                    else:
                        command = [tool, "sync", "--no-progress", *theirs, str(small), f"b2://{world.bucket}/x"]
                        env = world.b2(bench.folder)
                    times[side].append(timed(command, env))
                    if number == 0:
                        notes.append((side, counted(world.calls())))
                    world.remove()
            row(f"B2: put of {SMALL:,} files of 16 KiB, {LATENCY_MS} ms a call, {what}, beside `b2 sync`", *times, SMALL, "files/s", target)
            for side, note in sorted(notes):
                bench.notes.append(f"B2, {what}, {'`b2 sync`' if side else 'sidekey'}: {note}.")

        up, down = ([], []), ([], [])
        for _ in range(bench.args.rounds):
            world = server.world()
            env, tool_env = world.sidekey(), world.b2(bench.folder)
            got = bench.folder / "services-got"
            up[0].append(timed(put(world, str(large), f"b2://{world.bucket}/ours"), env))
            up[1].append(timed([tool, "file", "upload", "--no-progress", world.bucket, str(large), "theirs"], tool_env))
            down[0].append(timed([bench.sidekey, "-q", "get", "-i", bench.path("a.pem"), f"b2://{world.bucket}/ours", str(got)], env))
            with contextlib.suppress(FileNotFoundError):
                got.unlink()
            down[1].append(timed([tool, "file", "download", "--no-progress", f"b2://{world.bucket}/theirs", str(got)], tool_env))
            got.unlink()
            world.remove()
        row(f"B2: put of one {LARGE_MIB} MiB file beside `b2 file upload`", *up, LARGE_MIB / 1024, "GiB/s", 1.0)
        row(f"B2: get of it beside `b2 file download`", *down, LARGE_MIB / 1024, "GiB/s", 1.0)
    bench.remover("services-small", "services-large", "services-got", "b2-account")()


class S3Server:
    """scripts/s3-server behind scripts/delaying-proxy, for as long as the block runs. Both sides go through the same."""

    def __init__(self, delay_ms):
        python = str(ROOT / ".venv-localstack" / "bin" / "python")
        self.processes = []
        service = self.start([python, str(ROOT / "scripts" / "s3-server")])
        self.url = self.start(["python3", str(ROOT / "scripts" / "delaying-proxy"), service, str(delay_ms)])
        self.env = {
            "AWS_ENDPOINT_URL_S3": self.url, "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_REGION": "us-east-1", "AWS_EC2_METADATA_DISABLED": "true",
        }

    def start(self, command):
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.processes.insert(0, process)
        return process.stdout.readline().split()[-1]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for process in self.processes:
            process.stdin.close()
            process.wait(30)

    def counts(self):
        """How often each method was asked for since the last time."""
        return get(self.url + "/delaying-proxy/counts")


def get(url):
    with urllib.request.urlopen(url) as answer:
        return json.load(answer)


def s3(bench, row):
    """`put` and `get` beside `aws s3 cp` and `rclone copy`, whose files are not encrypted; each run has a bucket of its own."""
    files, large_mib = min(bench.args.files, SMALL), min(bench.args.size, LARGE_MIB)
    aws = str(ROOT / ".venv-s3tools" / "bin" / "aws")
    small, large, got = (bench.folder / f"services-{name}" for name in ("small", "large", "got"))
    config = bench.folder / "s3-rclone.conf"
    small.mkdir(exist_ok=True)
    for number in range(files):
        (small / f"{number:04}").write_bytes(os.urandom(SMALL_LEN))
    with large.open("wb") as file:
        for _ in range(large_mib):
            file.write(os.urandom(1 << 20))
    buckets = iter(range(1_000_000))

    def rclone(server, *words):
        config.write_text(f"[s]\ntype = s3\nprovider = Other\nendpoint = {server.url}\nregion = us-east-1\n"
                          "access_key_id = test\nsecret_access_key = test\nforce_path_style = true\n")
        return [str(bench.args.rclone), "--config", str(config), *words]

    def new_bucket(server):
        name = f"bench-{next(buckets)}"
        timed([aws, "s3api", "create-bucket", "--bucket", name], server.env)
        return name

    def aws_with(connections):
        env = {"AWS_CONFIG_FILE": str(bench.folder / "aws-config")}
        (bench.folder / "aws-config").write_text(f"[default]\ns3 =\n  max_concurrent_requests = {connections}\n")
        return env

    with S3Server(LATENCY_MS) as server:
        for what, ours, aws_env, theirs, target in (
            ("defaults of all", [], {}, [], 1.0),
            ("10 connections each", ["--connections", "10"], aws_with(10), ["--transfers", "10"], 0.5),
        ):
            times, notes = ([], [], []), []
            for number in range(bench.args.rounds):
                for side in ((0, 1, 2) if number % 2 == 0 else (2, 1, 0)):
                    bucket = new_bucket(server)
                    command = (
                        [bench.sidekey, "-q", "put", "-r", bench.path("a.pub.pem"), f"{small}/", f"s3://{bucket}/x/", *ours],
                        [aws, "s3", "cp", "--recursive", "--quiet", str(small), f"s3://{bucket}/x/"],
                        rclone(server, "copy", *theirs, str(small), f"s:{bucket}/x"),
                    )[side]
                    server.counts()
                    times[side].append(timed(command, {**server.env, **(aws_env if side == 1 else {})}))
                    if number == 0:
                        asked = ", ".join(f"{count} {method}" for method, count in sorted(server.counts().items()))
                        notes.append(f"S3, {what}, {('sidekey', '`aws`', '`rclone`')[side]}: {asked}.")
            faster = [min(pair) for pair in zip(times[1], times[2])]
            row(f"S3: put of {files:,} files of 16 KiB, {LATENCY_MS} ms a call, {what}, beside the faster of `aws` and `rclone`",
                times[0], faster, files, "files/s", target)
            bench.notes += notes

    with S3Server(0) as server:
        up, down = ([], [], []), ([], [], [])
        for _ in range(bench.args.rounds):
            bucket = new_bucket(server)
            up[0].append(timed([bench.sidekey, "-q", "put", "-r", bench.path("a.pub.pem"), str(large), f"s3://{bucket}/ours"], server.env))
            up[1].append(timed([aws, "s3", "cp", "--quiet", str(large), f"s3://{bucket}/aws"], server.env))
            up[2].append(timed(rclone(server, "copyto", str(large), f"s:{bucket}/rclone"), server.env))
            for side, command in enumerate((
                [bench.sidekey, "-q", "get", "-i", bench.path("a.pem"), f"s3://{bucket}/ours", str(got)],
                [aws, "s3", "cp", "--quiet", f"s3://{bucket}/aws", str(got)],
                rclone(server, "copyto", f"s:{bucket}/rclone", str(got)),
            )):
                down[side].append(timed(command, server.env))
                got.unlink()
            timed([aws, "s3", "rm", "--quiet", "--recursive", f"s3://{bucket}"], server.env)
        for what, times in (("put of one", up), ("get of that", down)):
            faster = [min(pair) for pair in zip(times[1], times[2])]
            row(f"S3: {what} {large_mib} MiB file beside the faster of `aws s3 cp` and `rclone copyto`", times[0], faster, large_mib / 1024, "GiB/s", 1.0)
    bench.remover("services-small", "services-large", "services-got", "s3-rclone.conf", "aws-config")()


def counted(calls):
    listed = ", ".join(f"{count} {api}" for api, count in sorted(calls["calls"].items()))
    return f"{listed}; {calls['cpu_seconds']:.1f} s of the server's processor so far"


def timed(command, env):
    started = time.perf_counter()
    done = subprocess.run(command, env={**os.environ, **env}, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    if done.returncode:
        raise SystemExit(f"scripts/bench: exit code {done.returncode} of: {' '.join(command)}\n{done.stderr}")
    return time.perf_counter() - started


def rate(times, amount, unit):
    return f"{amount / statistics.median(times):,.{2 if amount < 100 else 0}f} {unit}"
