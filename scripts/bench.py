"""The measuring half of scripts/bench, which builds and installs what it needs; see docs/benchmarks.md."""

import argparse
import datetime
import filecmp
import os
import pathlib
import platform
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

import bench_rotation
import bench_services
import bench_sync

ROOT = pathlib.Path(__file__).resolve().parent.parent
GROUPS = ("files", "kernel", "rewrap", "memory", "small", "location", "listing", "sync", "b2", "s3")
LONG = ("rotation",)
MIB = 1 << 20
AGE_SAMPLE = 1000
LIMIT_MIB = 64


def main():
    args = arguments()
    parent = tmpfs(args)
    with tempfile.TemporaryDirectory(prefix="sidekey-bench.", dir=parent) as folder:
        bench = Bench(args, pathlib.Path(folder))
        for group in args.only or GROUPS:
            getattr(bench, group)()
    text = report(args, bench.rows, bench.notes)
    print(text)
    if args.write:
        write(text)
    missed = [row.what for row in bench.rows if row.reached is False]
    if missed:
        print("below the target: " + "; ".join(missed), file=sys.stderr)
    sys.exit(bool(missed))


def arguments():
    parser = argparse.ArgumentParser(prog="scripts/bench", description=__doc__)
    parser.add_argument("--size", type=int, default=1024, help="MiB of random bytes (default 1024)")
    parser.add_argument("--rounds", type=int, default=5, help="rounds; the median counts (default 5)")
    parser.add_argument("--files", type=int, default=10_000, help="small files and envelopes (default 10000)")
    parser.add_argument("--only", action="append", choices=GROUPS + LONG,
                        help="only this group of rows; may be repeated; rotation takes an hour and runs only so")
    parser.add_argument("--envelopes", type=int, default=100_000, help="envelopes of a rotation on tmpfs (default 100000)")
    parser.add_argument("--objects", type=int, default=5000, help="envelopes of a rotation on a service (default 5000)")
    parser.add_argument("--count", type=int, default=1_000_000, help="envelopes of the rotation whose memory is measured (default 1000000)")
    parser.add_argument("--dir", default="/dev/shm", help="a folder on tmpfs (default /dev/shm)")
    parser.add_argument("--write", action="store_true", help="put the table into docs/benchmarks.md")
    parser.add_argument("--rclone", type=pathlib.Path, required=True, help=argparse.SUPPRESS)
    parser.add_argument("--target", type=pathlib.Path, required=True, help=argparse.SUPPRESS)
    return parser.parse_args()


def tmpfs(args):
    """The folder to work in; a slow disk would be measured instead of the tools."""
    kind = run_text(["stat", "-f", "-c", "%T", args.dir])
    need = 5 * args.size * MIB + 100_000 * args.files
    if args.only == ["rotation"]:
        need = max(20_000 * args.envelopes, 8_000 * args.count)
    free = shutil.disk_usage(args.dir).free
    if kind != "tmpfs" or free < need:
        sys.exit(
            f"scripts/bench: {args.dir} is {kind} with {free // MIB} MiB free; needed is a tmpfs with {need // MIB} MiB\n"
            f"hint: mount -t tmpfs -o size={need // MIB + 1}m tmpfs DIR, then --dir DIR; or a smaller --size"
        )
    return args.dir


class Row:
    """One line of the table; `target` is the ratio to reach, or nothing."""

    def __init__(self, what, ours, beside, ratios, target=None):
        self.what, self.ours, self.beside, self.target = what, ours, beside, target
        self.ratio = statistics.median(ratios)
        self.spread = f"{min(ratios):.2f}–{max(ratios):.2f}"
        self.reached = None if target is None else self.ratio >= target

    def cells(self):
        target = "" if self.target is None else f"{self.target:g} x"
        verdict = {None: "", True: "yes", False: "**no**"}[self.reached]
        return [self.what, self.ours, self.beside, f"{self.ratio:.2f} x", self.spread, target, verdict]


class MemoryRow:
    """The peak resident memory of one run."""

    def __init__(self, what, kib):
        self.what, self.kib, self.reached = what, kib, kib <= LIMIT_MIB * 1024

    def cells(self):
        return [self.what, f"{self.kib / 1024:.1f} MiB", "", "", "", f"at most {LIMIT_MIB} MiB", "yes" if self.reached else "**no**"]


class LimitRow:
    """A figure that must stay below a limit."""

    def __init__(self, what, figure, unit, limit):
        self.what, self.figure, self.unit, self.limit, self.reached = what, figure, unit, limit, figure <= limit

    def cells(self):
        return [self.what, f"{self.figure:.0f} {self.unit}", "", "", "", f"at most {self.limit} {self.unit}", "yes" if self.reached else "**no**"]


class Bench:
    def __init__(self, args, folder):
        self.args, self.folder, self.rows, self.notes = args, folder, [], []
        self.sidekey = str(args.target / "sidekey")
        self.touch_memory()
        for name in ("a", "b"):
            self.keygen(name)
        run(["age-keygen", "-o", self.path("age.key")])
        self.age_recipient = run_text(["age-keygen", "-y", self.path("age.key")])
        pathlib.Path(self.path("pass")).write_text("a passphrase for openssl enc\n")

    def path(self, name):
        return str(self.folder / name)

    def touch_memory(self):
        """In a virtual machine the first use of memory costs ten times the second: it is paid before measuring."""
        path = pathlib.Path(self.path("touched"))
        with path.open("wb") as file:
            for _ in range(4 * self.args.size):
                file.write(bytes(MIB))
        path.unlink()

    def keygen(self, name):
        """A key pair without a passphrase, as age's is: PBKDF2 is not what is measured."""
        run([self.sidekey, "-q", "keygen", "-o", self.path(name), "--no-passphrase"])

    # --- one large file

    def files(self):
        self.need_big()
        big = self.path("big")
        size = os.path.getsize(big)
        openssl = ["openssl", "enc", "-aes-256-cbc", "-pbkdf2", "-pass", "file:" + self.path("pass"), "-in", big]
        age = ["age", "-r", self.age_recipient]
        to_null = self.encrypt(big, "/dev/null", "--envelope", self.path("null.key.enc"))
        fresh = self.remover("null.key.enc")

        def speed(what, ours, theirs, target, prepare=None):
            self.compare(f"{what}, {human(size)}", ours, theirs, size / 1e9, "GB/s", target, prepare)

        speed("encrypt file -> /dev/null beside `openssl enc`", to_null, openssl + ["-out", "/dev/null"], 4.0, fresh)
        speed("encrypt file -> /dev/null beside `age`", to_null, age + ["-o", "/dev/null", big], 2.0, fresh)
        speed("encrypt file -> file beside `age`", self.encrypt(big, self.path("out.enc")), age + ["-o", self.path("out.age"), big],
              1.0, self.remover("out.enc", "out.key.enc", "out.age"))
        speed("encrypt file -> file beside `cp`", self.encrypt(big, self.path("out.enc")), ["cp", big, self.path("out.cp")],
              None, self.remover("out.enc", "out.key.enc", "out.cp"))
        self.remover("out.enc", "out.key.enc", "out.cp", "out.age")()

        run(age + ["-o", self.path("big.age"), big])
        age_d = ["age", "-d", "-i", self.path("age.key")]
        speed("decrypt file -> /dev/null beside `age -d`", self.decrypt("big.enc", "/dev/null"),
              age_d + ["-o", "/dev/null", self.path("big.age")], 3.0)
        speed("decrypt file -> file beside `age -d`", self.decrypt("big.enc", self.path("out")),
              age_d + ["-o", self.path("out.2"), self.path("big.age")], 1.0, self.remover("out", "out.2"))
        self.remover("out", "out.2")()
        run(self.decrypt("big.enc", self.path("out")))
        if not filecmp.cmp(big, self.path("out"), shallow=False):
            sys.exit("scripts/bench: what was decrypted is not what was encrypted")
        self.remover("out", "big.age")()

    def need_big(self):
        big = self.folder / "big"
        if big.exists():
            return
        with big.open("wb") as file:
            for _ in range(self.args.size):
                file.write(os.urandom(MIB))
        run(self.encrypt(str(big), self.path("big.enc")))

    def encrypt(self, source, out, *more):
        return [self.sidekey, "-q", "encrypt", "-r", self.path("a.pub.pem"), source, "-o", out, *more]

    def decrypt(self, name, out):
        return [self.sidekey, "-q", "decrypt", "-i", self.path("a.pem"), self.path(name), "-o", out]

    # --- the kernel and RSA

    def kernel(self):
        # The kernel as it is in the product; the chain as fast as it gets.
        ours, theirs = [], []
        for _ in range(self.args.rounds):
            ours.append(float(run_text([self.example("kernel_baseline")]).split()[1]))
            theirs.append(float(run_text([str(self.args.target.parent / "lto/release/examples/kernel_baseline")]).split()[0]))
        self.rows.append(Row("kernel, one core, CBC alone, beside one chain of the `cbc` crate", f"{statistics.median(ours):.2f} GB/s",
                             f"{statistics.median(theirs):.2f} GB/s", [one / two for one, two in zip(ours, theirs)], 4.5))

    def example(self, name):
        return str(self.args.target / "examples" / name)

    def rewrap(self):
        self.need_pairs()
        for what, more, target in (("the default proof", [], 0.85), ("`--prove all`", ["--prove", "all"], 0.42)):
            ours, alone, openssl = [], [], []
            for _ in range(self.args.rounds):
                before = self.rsa_alone()
                ours.append(self.args.files / seconds(self.rewrap_once(more)))
                alone.append((before + self.rsa_alone()) / 2)
                openssl.append(self.openssl_speed())
            for peer, theirs in (("two threads of RSA private operations of aws-lc", alone), ("`openssl speed -multi 2 rsa3072`", openssl)):
                self.rows.append(Row(
                    f"rewrap of {self.args.files:,} envelopes, 3072 bits, {what}, beside {peer}",
                    f"{statistics.median(ours):,.0f}/s", f"{statistics.median(theirs):,.0f}/s",
                    [one / two for one, two in zip(ours, theirs)], target))

    def openssl_speed(self):
        """Private operations a second of two processes of OpenSSL's own benchmark."""
        line = run_text(["openssl", "speed", "-multi", "2", "-seconds", "5", "rsa3072"]).splitlines()[-1]
        return float(line.split()[-2])

    def rsa_alone(self, seconds=10):
        """What two threads do in a second that do nothing else. It is asked for before and after a run, for what else the
        machine does changes within minutes."""
        return float(run_text([self.example("rsa_baseline"), "2", str(seconds), "3072"]))

    def rewrap_once(self, more):
        """The command that moves all pairs to the other key, and back the next time."""
        old, new = self.keys
        self.keys = (new, old)
        return [self.sidekey, "-q", "rewrap", self.path("pairs"), "-i", self.path(old + ".pem"), "--to", self.path(new + ".pub.pem"), *more]

    def need_pairs(self):
        self.need_tree()
        if not (self.folder / "pairs").exists():
            run(self.encrypt(self.path("tree/"), self.path("pairs/")))
            self.keys = ("a", "b")

    def need_tree(self):
        tree = self.folder / "tree"
        if tree.exists():
            return
        for number in range(self.args.files):
            folder = tree / f"{number // 100:04}"
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"{number:06}").write_bytes(os.urandom(4096))

    # --- memory

    def memory(self):
        self.need_big()
        self.need_pairs()
        fresh = self.remover("null.key.enc", "rss")
        for what, command in (
            (f"encrypt, {self.args.size} MiB", self.encrypt(self.path("big"), "/dev/null", "--envelope", self.path("null.key.enc"))),
            (f"decrypt, {self.args.size} MiB", self.decrypt("big.enc", "/dev/null")),
            (f"encrypt, {self.args.files:,} files", self.encrypt(self.path("tree/"), self.path("rss/"))),
            (f"rewrap, {self.args.files:,} envelopes", self.rewrap_once([])),
        ):
            fresh()
            timed = ["/usr/bin/time", "-o", self.path("kib"), "-f", "%M", *command]
            run(timed)
            self.rows.append(MemoryRow(f"resident memory: {what}", int(pathlib.Path(self.path("kib")).read_text())))
        fresh()

    # --- many small files

    def small(self):
        self.need_tree()
        count = self.args.files
        ours = self.encrypt(self.path("tree/"), self.path("out/"))
        sample = min(AGE_SAMPLE, count)
        loop = ('mkdir -p "$2"; find "$1" -type f | head -n "$3" | while read -r file; do '
                'age -r "$4" -o "$2/${file##*/}.age" "$file" || exit; done')
        age = ["sh", "-c", loop, "sh", self.path("tree"), self.path("aged"), str(sample), self.age_recipient]
        self.compare(f"{count:,} files of 4 KiB beside `age` started per file (a sample of {sample:,}, scaled)", ours, age, count, "files/s",
                     40, self.remover("out", "aged"), scale=count / sample)
        config = self.rclone_config()
        rclone = self.rclone(config, "copy", self.path("tree"), "bench:")
        self.compare(f"{count:,} files of 4 KiB beside `rclone copy` into a local crypt remote", ours, rclone, count, "files/s", 2,
                     self.remover("out", "crypt"))
        self.remover("out", "crypt", "aged")()

    # --- a location: a local folder beside a crypt remote over one

    def location(self):
        self.need_big()
        self.need_tree()
        config = self.rclone_config()
        size, count = os.path.getsize(self.path("big")), self.args.files
        fresh = self.remover("vault", "crypt")
        put = lambda source, to: [self.sidekey, "-q", "put", "-r", self.path("a.pub.pem"), source, to]
        get = lambda source, to: [self.sidekey, "-q", "get", "-i", self.path("a.pem"), source, to]
        copies = lambda source, to: [self.rclone(config, "copy", "--transfers", transfers, source, to) for transfers in ("2", "8")]
        big, tree, vault = self.path("big"), self.path("tree") + "/", self.path("vault") + "/"
        what_big, what_small = human(size), f"{count:,} files of 4 KiB"
        ours, theirs = put(big, vault), copies(big, "bench:")
        self.compare(f"put of {what_big} beside `rclone copy` into a local crypt remote", ours, theirs[0], size / 1e9, "GB/s", 5, fresh, others=theirs[1:])
        self.compare_get(f"get of {what_big} beside `rclone copy` from it", (ours, theirs[0]), get(vault + "big", self.path("got/")),
                         copies("bench:big", self.path("got2")), size / 1e9, "GB/s", fresh)
        ours, theirs = put(tree, vault), copies(tree, "bench:")
        self.compare(f"put of {what_small} beside `rclone copy` into a local crypt remote", ours, theirs[0], count, "files/s", 2, fresh, others=theirs[1:])
        self.compare_get(f"get of {what_small} beside `rclone copy` from it", (ours, theirs[0]), get(vault, self.path("got/")),
                         copies("bench:", self.path("got2")), count, "files/s", fresh)
        fresh()

    def compare_get(self, what, fill, ours, theirs, amount, unit, fresh):
        fresh()
        for command in fill:
            run(command)
        self.compare(what, ours, theirs[0], amount, unit, 2, self.remover("got", "got2"), others=theirs[1:])
        self.remover("got", "got2")()

    def listing(self):
        """One hundred thousand pairs in one folder: copies of one pair under other names, which `ls` does not open."""
        pairs, folder = 100_000, self.folder / "many"
        one = self.folder / "one"
        one.write_bytes(b"x")
        run([self.sidekey, "-q", "put", "-r", self.path("a.pub.pem"), str(one), self.path("seed") + "/"])
        container, envelope = sorted((self.folder / "seed").iterdir(), key=lambda path: len(path.name))
        middle = envelope.name.removeprefix("one.")
        folder.mkdir()
        for number in range(pairs):
            os.link(container, folder / f"{number:06}.enc")
            os.link(envelope, folder / f"{number:06}.{middle}")
        firsts, command = [], [self.sidekey, "ls", str(folder) + "/"]
        for _ in range(self.args.rounds):
            started = time.perf_counter()
            with subprocess.Popen(command, stdout=subprocess.PIPE) as listing:
                listing.stdout.readline()
                firsts.append(time.perf_counter() - started)
                lines = 1 + sum(1 for _ in listing.stdout)
            if lines != pairs:
                sys.exit(f"scripts/bench: ls printed {lines} lines for {pairs} pairs")
        first = statistics.median(firsts) * 1000
        self.rows.append(LimitRow(f"first line of `ls` of {pairs:,} pairs", first, "ms", 200))
        run(["/usr/bin/time", "-o", self.path("kib"), "-f", "%M", *command])
        self.rows.append(MemoryRow(f"resident memory: ls, {pairs:,} pairs", int(pathlib.Path(self.path("kib")).read_text())))
        self.remover("many", "seed", "one")()

    # --- synchronising: a local location beside a crypt remote with encrypted names

    def sync(self):
        self.need_tree()
        config, count, many = self.rclone_config(), self.args.files, 10 * self.args.files
        gone = self.remover("vault", "crypt", "state", "config")
        fresh = lambda: (gone(), run(self.remembering("init", self.path("vault"), "-r", self.path("a.pub.pem"))))
        ours = lambda tree: self.remembering("sync", tree, self.path("vault") + "/")
        theirs = lambda tree: [self.rclone(config, "sync", "--transfers", transfers, tree, "bench:") for transfers in ("2", "8")]
        tree = self.path("tree")
        self.compare(f"first sync of {count:,} files of 4 KiB into a vault beside `rclone sync` into a local crypt remote", ours(tree), theirs(tree)[0], count,
                     "files/s", 2, fresh, others=theirs(tree)[1:])
        fresh()
        run(ours(tree)), run(theirs(tree)[0])
        url = "file://" + self.path("vault")
        got = self.remover("got", "got2", "state")
        self.compare(f"sync of {count:,} files of a vault back into a folder beside `rclone sync`", self.remembering("sync", "-i", self.path("a.pem"), url, self.path("got")),
                     self.rclone(config, "sync", "bench:", self.path("got2")), count, "files/s", 2, got)
        got()
        self.compare(f"restore of {count:,} files of a vault beside `rclone copy` from the crypt remote", self.remembering("restore", "-i", self.path("a.pem"), url, self.path("got")),
                     self.rclone(config, "copy", "bench:", self.path("got2")), count, "files/s", 2, got)
        got(), fresh()
        tree = self.folder / "many"
        for number in range(many):
            folder = tree / f"{number // 1000:04}"
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"{number}").write_bytes(b"%d" % number)
        time.sleep(0.1)
        run(ours(str(tree))), run(theirs(str(tree))[0])
        self.compare(f"second sync of {many:,} files into a vault, nothing changed, beside `rclone sync`", ours(str(tree)), theirs(str(tree))[0], many, "files/s", 1.5,
                     others=theirs(str(tree))[1:])
        run(["/usr/bin/time", "-o", self.path("kib"), "-f", "%M", *ours(str(tree))])
        kib = int(pathlib.Path(self.path("kib")).read_text())
        self.rows.append(LimitRow(f"resident memory: second sync, {many:,} files", kib / 1024, "MiB", 96))
        gone(), self.remover("many")()
        bench_sync.services(self, sys.modules[__name__])

    def remembering(self, *words):
        """A command that keeps its state, and what it knows of vaults, in the folder of the run."""
        return ["env", "XDG_STATE_HOME=" + self.path("state"), "XDG_CONFIG_HOME=" + self.path("config"), self.sidekey, "-q", *words]

    # --- a rotation

    def rotation(self):
        bench_rotation.rotation(self, sys.modules[__name__])

    # --- services

    def b2(self):
        bench_services.b2(self, self.row)

    def s3(self):
        bench_services.s3(self, self.row)

    def row(self, what, our_times, their_times, amount, unit, target):
        rate = lambda times: bench_services.rate(times, amount, unit)
        ratios = [theirs / ours for ours, theirs in zip(our_times, their_times)]
        self.rows.append(Row(what, rate(our_times), rate(their_times), ratios, target))

    def rclone(self, config, *words):
        return [str(self.args.rclone), "--config", config, *words]

    def rclone_config(self):
        secret = run_text([str(self.args.rclone), "obscure", "a passphrase for rclone crypt"])
        config = pathlib.Path(self.path("rclone.conf"))
        config.write_text(f"[bench]\ntype = crypt\nremote = {self.path('crypt')}\npassword = {secret}\n")
        return str(config)

    # --- measuring

    def compare(self, what, ours, theirs, amount, unit, target, prepare=None, scale=1.0, others=()):
        """Both commands in every round, in turn first; a ratio over one is sidekey being faster. With other ways to
        run theirs, the fastest of the round counts."""
        prepare = prepare or (lambda: None)
        our_times, their_times = [], []

        def fastest(commands):
            times = []
            for command in commands:
                prepare()
                times.append(seconds(command))
            return min(times)

        for number in range(self.args.rounds):
            order = (([ours], our_times, 1.0), ([theirs, *others], their_times, scale))
            for commands, times, factor in order if number % 2 == 0 else reversed(order):
                times.append(fastest(commands) * factor)
        rate = lambda times: f"{amount / statistics.median(times):,.{2 if amount < 1000 else 0}f} {unit}"
        self.rows.append(Row(what, rate(our_times), rate(their_times), [two / one for one, two in zip(our_times, their_times)], target))

    def remover(self, *names):
        def remove():
            for name in names:
                path = self.folder / name
                if path.is_dir():
                    shutil.rmtree(path)
                else:
                    path.unlink(missing_ok=True)
        return remove


def seconds(command):
    started = time.perf_counter()
    run(command)
    return time.perf_counter() - started


def run(command):
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    if done.returncode:
        sys.exit(f"scripts/bench: exit code {done.returncode} of: {' '.join(command)}\n{done.stderr}")


def run_text(command):
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"scripts/bench: exit code {done.returncode} of: {' '.join(command)}\n{done.stderr}")
    return done.stdout.strip()


def human(size):
    return f"{size // MIB} MiB"


def report(args, rows, notes):
    head = ["what", "sidekey", "beside", "ratio", "least–most", "must reach", "reached"]
    table = [head, ["---"] * len(head)] + [row.cells() for row in rows]
    lines = [machine(args), "", f"Median of {args.rounds} rounds; ratios are of the two runs of one round, over 1 = sidekey is faster.", ""]
    lines += ["| " + " | ".join(cells) + " |" for cells in table]
    return "\n".join(lines + [""] + notes).strip() + "\n"


def machine(args):
    cpu = re.search(r"model name\s*: (.*)", pathlib.Path("/proc/cpuinfo").read_text())
    versions = [
        run_text(["rustc", "--version"]).split(" (")[0],
        " ".join(run_text(["openssl", "version"]).split()[:2]),
        "age " + run_text(["age", "--version"]).lstrip("v"),
        run_text([str(args.rclone), "version"]).splitlines()[0],
    ]
    return (f"{datetime.date.today()}, {cpu.group(1) if cpu else platform.machine()}, {os.cpu_count()} cores, Linux {platform.release()}, "
            f"load {os.getloadavg()[0]:.1f} at the end; {', '.join(versions)}.")


def write(text):
    path = ROOT / "docs" / "benchmarks.md"
    page = path.read_text()
    path.write_text(re.sub(r"(<!-- results -->\n).*?(<!-- end of results -->)", lambda m: m[1] + text + m[2], page, flags=re.S))


main()
