"""The unmodified command line tool of Backblaze, against scripts/b2-server."""

import json
import os
import subprocess
import sys
import tempfile

from client import KEY, OTHER_KEY

B2 = os.path.join(os.path.dirname(sys.executable), "b2")
FIVE = 5_000_000


class Tool:
    def __init__(self, world, folder):
        self.folder = folder
        self.base = dict(os.environ, B2_ENVIRONMENT=world.made["url"], B2_APPLICATION_KEY_ID=world.made["key_id"],
                         B2_APPLICATION_KEY=world.made["key"], B2_ACCOUNT_INFO=os.path.join(folder, "account-info"),
                         HOME=folder)

    def run(self, *arguments, **environment):
        done = subprocess.run([B2, *arguments], env={**self.base, **environment}, capture_output=True, text=True,
                              cwd=self.folder, timeout=120)
        return done.returncode, done.stdout, done.stderr


def tool(server, check):
    # The tool sends in parts what is larger than the recommended part.
    world = server.world(recommended_part_size=FIVE)
    bucket = "b2://" + world.bucket
    with tempfile.TemporaryDirectory() as folder:
        b2 = Tool(world, folder)

        def good(*arguments, **environment):
            code, out, err = b2.run(*arguments, **environment)
            check.equal(code, 0, "b2 " + " ".join(arguments) + ": " + err[-300:])
            return out

        def bad(words, *arguments, **environment):
            code, _, err = b2.run(*arguments, **environment)
            check.that(code != 0 and words in err, "b2 %s fails" % " ".join(arguments), err)

        def read(name):
            with open(os.path.join(folder, name), "rb") as file:
                return file.read()

        small, large = os.urandom(1000), os.urandom(3 * FIVE + 1)
        for name, body in (("small", small), ("large", large)):
            with open(os.path.join(folder, name), "wb") as file:
                file.write(body)

        up, down = ("file", "upload", "--no-progress"), ("file", "download", "--no-progress")
        good("account", "authorize", world.made["key_id"], world.made["key"])
        good(*up, world.bucket, "small", "a/small")
        good(*up, world.bucket, "large", "a/small")
        good(*up, "--min-part-size", str(FIVE), world.bucket, "large", "a/large")
        calls = world.control("GET", "calls")
        check.that(calls["calls"].get("b2_upload_part", 0) >= 2, "in parts", calls)
        check.equal(calls["violations"], [], "by the rules")
        good(*down, bucket + "/a/large", "large.out")
        check.equal(read("large.out"), large, "the large file")
        listed = good("ls", "--versions", "-r", "--long", bucket)
        check.equal([line.split()[4:] for line in listed.splitlines()],
                    [[str(len(large)), "a/large"], [str(len(large)), "a/small"], ["1000", "a/small"]], "ls --versions")
        check.equal(good("ls", bucket).split(), ["a/"], "ls of the top")
        oldest = listed.splitlines()[2].split()[0]
        good(*down, "b2id://" + oldest, "small.out")
        check.equal(read("small.out"), small, "an old version by its id")
        good("file", "hide", bucket + "/a/small")
        check.equal(good("ls", "-r", bucket).split(), ["a/large"], "ls does not show what is hidden")
        good("rm", "--versions", "--no-progress", "b2id://" + oldest)
        check.equal(len(good("ls", "--versions", "-r", bucket).split()), 3, "one version less")

        os.makedirs(os.path.join(folder, "tree", "b"))
        for name in ("1", "b/2", "b/\u00e4 3"):
            with open(os.path.join(folder, "tree", name), "w") as file:
                file.write(name)
        good("sync", "--no-progress", "tree", bucket + "/tree")
        world.control("POST", "calls/reset")
        good("sync", "--no-progress", "tree", bucket + "/tree")
        check.equal(world.control("GET", "calls")["calls"].get("b2_upload_file", 0), 0, "a second sync uploads nothing")
        good("sync", "--no-progress", bucket + "/tree", "back")
        check.equal(read("back/b/\u00e4 3").decode(), "b/\u00e4 3", "synced back")

        sse_c = {"B2_DESTINATION_SSE_C_KEY_B64": KEY, "B2_DESTINATION_SSE_C_KEY_ID": "my-key"}
        good(*up, "--destination-server-side-encryption", "SSE-B2", world.bucket, "small", "sse-b2")
        for name in ("small", "large"):
            good(*up, "--min-part-size", str(FIVE), "--destination-server-side-encryption", "SSE-C", world.bucket, name,
                 "sse-c/" + name, **sse_c)
            file = "%s/sse-c/%s" % (bucket, name)
            bad("ERROR", *down, file, "no")
            bad("ERROR", *down, "--source-server-side-encryption", "SSE-C", file, "no", B2_SOURCE_SSE_C_KEY_B64=OTHER_KEY)
            good(*down, "--source-server-side-encryption", "SSE-C", file, name + ".out", B2_SOURCE_SSE_C_KEY_B64=KEY)
            check.equal(read(name + ".out"), read(name), "SSE-C: " + name)
        stored = {each["name"]: each for each in world.control("GET", "versions")}
        check.equal(stored["sse-c/large"]["info"]["sse_c_key_id"], "my-key", "the key's id is kept")
        check.equal([stored[each]["encryption"] for each in ("sse-b2", "sse-c/large", "a/large")], ["SSE-B2", "SSE-C", "SSE-B2"],
                    "how files are encrypted")

        shown = json.loads(good("bucket", "get", world.bucket))["defaultServerSideEncryption"]["mode"]
        check.equal(shown, "SSE-B2", "the default encryption")
        good("bucket", "update", "--default-server-side-encryption", "SSE-B2", world.bucket)
        good("bucket", "create", "another-bucket", "allPrivate")
        good("bucket", "delete", "another-bucket")

        made = good("key", "create", "--bucket", world.bucket, "--name-prefix", "a/", "a-key", "listBuckets,listFiles,readFiles")
        key_id, key = made.split()[:2]
        limited = {"B2_APPLICATION_KEY_ID": key_id, "B2_APPLICATION_KEY": key,
                   "B2_ACCOUNT_INFO": os.path.join(folder, "limited")}
        check.equal(good("ls", "-r", bucket + "/a/", **limited).split(), ["a/large"], "a limited key may list")
        bad("unauthorized", *up, world.bucket, "small", "a/more", **limited)
        bad("unauthorized", "ls", bucket, **limited)
        check.that(key_id in good("key", "list"), "key list")
        good("key", "delete", key_id)
        check.equal(world.control("GET", "calls")["violations"], [], "no rule was broken")
