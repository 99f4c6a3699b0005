#!/usr/bin/env python3
"""Objects of a real store, OpenStack Swift with its s3api, on loopback. Skipped (status 77) where it is not installed.

    store_test.py [BIN_DIR]        the programs are in $MESH_BIN, else in BIN_DIR
"""
import base64
import hashlib
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "tests/tools"))
from swift_server import PROGRAMS, SECRET, USER, Link, Swift, eventually, free_port  # noqa: E402

BIN = Path(os.environ.get("MESH_BIN") or (sys.argv[1] if len(sys.argv) > 1 else ROOT / "build/bin"))
MB = 1 << 20


def noise(seed, size):
    return random.Random(seed).randbytes(size)


class Store(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.root = Path(tempfile.mkdtemp(prefix="meshswarm-store-", dir="/var/tmp"))
        cls.swift = Swift(cls.root / "swift")
        cls.swift.s3cmd("mb", "s3://images")

    @classmethod
    def tearDownClass(cls):
        cls.swift.close()
        shutil.rmtree(cls.root, True)

    def setUp(self):
        self.home = self.root / self.id().split(".")[-1]
        self.home.mkdir()
        self.link = Link(self.swift.port)
        self.addCleanup(self.link.cut)
        self.running = {}
        self.addCleanup(self.stop)
        self.tracker = free_port()
        self.start("tracker", ["meshtracker", "--listen", f"127.0.0.1:{self.tracker}"])
        self.credentials = self.home / "credentials"
        self.credentials.write_text(f"[default]\naws_access_key_id = {USER}\naws_secret_access_key = {SECRET}\n")
        self.credentials.chmod(0o600)

    def stop(self):
        for process in self.running.values():
            process.kill()
            process.wait()

    def start(self, name, command):
        with open(self.home / f"{name}.log", "ab") as log:
            self.running[name] = subprocess.Popen([BIN / command[0], *command[1:]], stdout=log, stderr=log)

    def config(self, more="", buckets='buckets = ["images"]'):
        out = self.home / "mesh.conf"
        out.write_text(f'[store.swift]\nendpoint = "http://127.0.0.1:{self.link.port}"\ncredentials = "{self.credentials}"\n{buckets}\n{more}\n')
        return out

    def node(self, name, config="/dev/null", *more):
        (self.home / name).mkdir(exist_ok=True)
        log = self.home / f"{name}.log"
        before = log.read_text().count(": registered") if log.exists() else 0
        self.start(name, ["meshseed", "--files", self.home / name, "--name", name, "--listen", "127.0.0.1:0", "--tracker",
                          f"127.0.0.1:{self.tracker}", "--config", config, *more])
        self.assertTrue(eventually(lambda: log.read_text().count(": registered") > before))

    def get(self, name, *words, **options):
        return subprocess.run([BIN / "meshget", "--files", self.home / name, "--quiet", "--config", "/dev/null", *words],
                              capture_output=True, text=True, timeout=120, **options)

    def begin(self, name, *words):
        return subprocess.Popen([BIN / "meshget", "--files", self.home / name, "--quiet", "--config", "/dev/null", *words],
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def test_objects_of_any_name_and_kind_arrive_as_they_are(self):
        self.node("n1", self.config())
        keys = ["a/plain.img", "two words+plus=%41.img", "\u00e9t\u00e9/na\u00efve~.img", "empty", "a/../b", "#hash&x"]
        for key in keys:
            self.swift.put("images", key, b"" if key == "empty" else noise(key, 200_000))
        large = noise("large", 12 * MB)
        self.swift.put("images", "parts.img", large, "--multipart-chunk-size-mb=5")
        for key in keys:
            done = self.get("n1", f"s3://images/{key}")
            self.assertEqual((done.returncode, done.stderr), (0, ""), key)
            self.assertEqual(Path(done.stdout.rstrip("\n")).read_bytes(), b"" if key == "empty" else noise(key, 200_000), key)
        self.assertTrue((self.home / "n1/images/a%2F..%2Fb").exists())
        self.assertEqual(self.get("n1", "s3://swift@images/parts.img#sha256=" + hashlib.sha256(large).hexdigest()).returncode, 0)
        self.assertEqual((self.home / "n1/images/parts.img").read_bytes(), large)
        # What is there is not asked for again, and what is asked for again is asked by its ETag.
        sent = self.link.sent
        self.assertEqual(self.get("n1", "s3://images/parts.img").returncode, 0)
        self.assertEqual(self.link.sent, sent)
        self.assertEqual(self.get("n1", "--refresh", "s3://images/parts.img").returncode, 0)
        self.assertLess(self.link.sent - sent, 10_000)
        newer = noise("newer", 12 * MB)
        self.swift.put("images", "parts.img", newer)
        self.assertEqual(self.get("n1", "--refresh", "s3://images/parts.img").returncode, 0)
        self.assertEqual((self.home / "n1/images/parts.img").read_bytes(), newer)
        self.check_secrets()

    def test_each_byte_leaves_the_store_once_for_all_who_want_it(self):
        data = noise("many", 32 * MB)
        self.swift.put("images", "many.img", data)
        config = self.config()
        for i in range(4):
            self.node(f"n{i}", config)
        # One that knows the store by its name alone.
        self.node("n4")
        self.link.rate = 6 * MB
        sent = self.link.sent
        all_gets = [self.begin(f"n{i}", "s3://swift@images/many.img") for i in range(4)]
        self.assertTrue(eventually(lambda: self.link.sent - sent > MB))
        all_gets.append(self.begin("n4", "s3://swift@images/many.img"))
        for i, process in enumerate(all_gets):
            _, errors = process.communicate(timeout=120)
            self.assertEqual((process.returncode, errors), (0, ""), i)
            self.assertEqual((self.home / f"n{i}/images/many.img").read_bytes(), data)
        self.assertLess(self.link.sent - sent, 1.05 * len(data))
        self.check_secrets()

    def test_an_object_that_changes_meanwhile_is_one_version_or_the_other(self):
        for size in (24, 4):
            self.changes_meanwhile(noise("old", 24 * MB), noise("new", size * MB))

    def changes_meanwhile(self, old, new):
        self.swift.put("images", "changes.img", old)
        name = f"n{len(new)}"
        self.node(name, self.config())
        self.link.rate = 4 * MB
        sent = self.link.sent
        process = self.begin(name, "--refresh", "s3://images/changes.img")
        self.assertTrue(eventually(lambda: self.link.sent - sent > 10 * MB))
        self.swift.put("images", "changes.img", new)
        self.link.rate = 0
        _, errors = process.communicate(timeout=120)
        self.assertEqual(process.returncode, 0, errors)
        self.assertIn((self.home / name / "images/changes.img").read_bytes(), (old, new))
        self.assertEqual(self.get(name, "--refresh", "s3://images/changes.img").returncode, 0)
        self.assertEqual((self.home / name / "images/changes.img").read_bytes(), new)

    def test_a_store_that_goes_and_comes_back_is_waited_for(self):
        data = noise("gone", 24 * MB)
        self.swift.put("images", "gone.img", data)
        self.node("n1", self.config())
        self.link.rate = 6 * MB
        sent = self.link.sent
        process = self.begin("n1", "s3://images/gone.img")
        self.assertTrue(eventually(lambda: self.link.sent - sent > 6 * MB))
        self.link.cut()
        time.sleep(1)  # it is refused meanwhile
        self.link.mend()
        _, errors = process.communicate(timeout=120)
        self.assertEqual(process.returncode, 0, errors)
        self.assertEqual((self.home / "n1/images/gone.img").read_bytes(), data)
        self.assertLess(self.link.sent - sent, 1.3 * len(data))

    def test_what_is_not_allowed_is_said(self):
        self.swift.put("images", "mine.img", noise("mine", 100_000))
        self.node("n1", self.config())
        self.node("n2")
        done = self.get("n1", "s3://images/none.img")
        self.assertEqual(done.returncode, 3, done.stderr)
        self.assertIn("s3://swift@images/none.img", done.stderr)
        done = self.get("n2", "s3://images/mine.img")
        self.assertEqual(done.returncode, 2, done.stderr)
        self.assertIn("no store for the bucket images", done.stderr)
        done = self.get("n2", "s3://swift@images/mine.img")
        self.assertEqual(done.returncode, 1, done.stderr)
        self.assertIn("no store of that name", done.stderr)
        self.assertEqual(self.get("n1", "s3://images/nosuch/").returncode, 3)
        self.assertEqual(self.get("n1", "s3://images/nosuch*").returncode, 3)
        self.assertEqual(self.get("n1", "s3://nosuch-bucket/").returncode, 2)
        self.assertEqual(self.get("n1", "s3://swift@nosuch-bucket/").returncode, 3)
        self.assertEqual(self.get("n1", "swift://swift@images/mine.img").returncode, 2)
        # Another member has n1 ask its store for nothing.
        order = [BIN / "meshfile", "--files", self.home / "n2", "--config", "/dev/null", "get", "--on", "n1"]
        wait = [BIN / "meshfile", "--files", self.home / "n2", "--config", "/dev/null", "wait", "--quiet", "--on", "n1"]
        subprocess.run([*order, "s3://swift@images/mine.img"], capture_output=True)
        done = subprocess.run([*wait, "s3://swift@images/mine.img"], capture_output=True, text=True)
        self.assertEqual(done.returncode, 5, done.stderr)
        self.assertIn("share in its [store.swift]", done.stderr)
        self.assertIn("order from n2: get", (self.home / "n1.log").read_text())
        self.assertFalse((self.home / "n1/images/mine.img").exists())
        # But for what is shared.
        old = self.running.pop("n1")
        old.kill()
        old.wait()
        self.node("n1", self.config('share = ["images/mi", "images/mine.img"]'))
        subprocess.run([*order, "s3://swift@images/mine.img"], capture_output=True)
        self.assertTrue(eventually(lambda: (self.home / "n1/images/mine.img").exists()))
        # Credentials that others may read, or that are wrong.
        self.credentials.chmod(0o644)
        done = self.get("n1", "s3://images/none.img")
        self.assertEqual(done.returncode, 1)
        self.assertIn("chmod 600", done.stderr)
        self.credentials.chmod(0o600)
        self.credentials.write_text(f"[default]\naws_access_key_id = {USER}\naws_secret_access_key = {SECRET}x\n")
        done = self.get("n1", "s3://images/none.img")
        self.assertEqual(done.returncode, 1)
        self.assertIn("the credentials of the store swift", done.stderr)
        self.check_secrets()

    def test_globs_and_prefixes_are_all_that_matches(self):
        for key in ("set/a.img", "set/b.txt", "set/c d+e.img", "set/sub/f.img", "set//odd", "settled"):
            self.swift.put("images", key, noise(key, 1000))
        self.swift.native("PUT", "/images/set/", b"")
        self.node("n1", self.config())
        self.node("n2")
        done = self.get("n1", "s3://images/set/*.img")
        # What has no path is named, and has to be named.
        self.assertEqual(done.returncode, 1, done.stderr)
        self.assertIn("1 key that is no path, as set//odd", done.stderr)
        root = self.home / "n1/images"
        self.assertEqual(sorted(done.stdout.splitlines()), [str(root / "set/a.img"), str(root / "set/c d+e.img")])
        self.swift.native("DELETE", "/images/set//odd")
        done = self.get("n1", "s3://images/set/")
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        self.assertEqual(sorted(str(file.relative_to(root)) for file in root.rglob("*") if file.is_file()), ["set/a.img", "set/b.txt", "set/c d+e.img", "set/sub/f.img"])
        self.assertEqual((root / "set/sub/f.img").read_bytes(), noise("set/sub/f.img", 1000))
        # Asked for again, of the store but the listing is read, and what has changed.
        self.swift.put("images", "set/b.txt", b"newer")
        sent = self.link.sent
        done = self.get("n1", "--refresh", "s3://images/set/")
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        self.assertEqual((root / "set/b.txt").read_bytes(), b"newer")
        self.assertLess(self.link.sent - sent, 8000)
        done = self.get("n2", "s3://swift@images/set/")
        self.assertEqual(done.returncode, 2, done.stderr)
        self.assertIn("cannot list it", done.stderr)

    def test_a_path_says_from_where_it_is(self):
        self.swift.native("PUT", "/other")
        self.swift.put("images", "who.img", noise("who", 1000))
        self.node("n1", self.config(more='[store.again]\nendpoint = "http://127.0.0.1:%d"\ncredentials = "%s"' % (self.link.port, self.credentials)))
        self.node("n2")
        self.assertEqual(self.get("n1", "s3://images/who.img").returncode, 0)
        self.assertEqual(self.get("n2", "images/who.img").returncode, 0)
        info = subprocess.run([BIN / "meshfile", "--files", self.home / "n2", "--config", "/dev/null", "info", "images/who.img"], capture_output=True, text=True).stdout
        self.assertIn("from: s3://swift@images/who.img", info)
        old = self.running.pop("n1")
        old.kill()
        old.wait()
        # Whoever has it says so, and says so still when it was started again.
        for restarted in (False, True):
            if restarted:
                old = self.running.pop("n2")
                old.kill()
                old.wait()
                self.node("n2")
            done = self.get("n2", "s3://again@images/who.img")
            self.assertEqual(done.returncode, 5, done.stderr)
            self.assertIn("images/who.img: is from s3://swift@images/who.img; --refresh", done.stderr)
        self.node("n1", self.config(more='[store.again]\nendpoint = "http://127.0.0.1:%d"\ncredentials = "%s"' % (self.link.port, self.credentials)))
        self.swift.put("images", "who.img", noise("else", 2000))
        done = self.get("n1", "--refresh", "s3://again@images/who.img")
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        self.assertEqual((self.home / "n1/images/who.img").read_bytes(), noise("else", 2000))
        self.assertEqual(self.get("n1", "s3://again@images/who.img").returncode, 0)
        # What was changed here is from nowhere.
        (self.home / "n1/images/who.img").write_bytes(b"mine")
        old = self.running.pop("n2")
        old.kill()
        old.wait()
        self.assertTrue(eventually(lambda: self.get("n1", "s3://swift@images/who.img").returncode == 0))

    def swift_config(self):
        self.credentials.write_text(self.credentials.read_text() + f"[swift]\nst_user = {USER}\nst_key = {SECRET}\n")
        return self.config(more=f'[store.native]\nauth = "http://127.0.0.1:{self.link.port}/auth/v1.0"\ncredentials = "{self.credentials}"\nprofile = "swift"\nbuckets = ["images"]')

    def test_swift_as_it_speaks_itself(self):
        keys = ["nat/a.img", "nat/two words+plus=%41.img", "nat/\u00e9t\u00e9.img"]
        for key in keys:
            self.swift.put("images", key, noise(key, 200_000))
        self.node("n1", self.swift_config())
        done = self.get("n1", "swift://images/nat/")
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        for key in keys:
            self.assertEqual((self.home / "n1/images" / key).read_bytes(), noise(key, 200_000), key)
        # Large objects: by a manifest, and by a prefix.
        data = noise("large object", 12 * MB)
        self.swift.native("PUT", "/segments")
        for i in range(3):
            self.swift.native("PUT", f"/segments/slo/{i}", data[i * 4 * MB:(i + 1) * 4 * MB])
        manifest = [{"path": f"/segments/slo/{i}", "size_bytes": 4 * MB} for i in range(3)]
        self.swift.native("PUT", "/images/slo.img?multipart-manifest=put", json.dumps(manifest).encode())
        self.swift.native("PUT", "/images/dlo.img", b"", X_Object_Manifest="segments/slo/")
        for key in ("slo.img", "dlo.img"):
            sent = self.link.sent
            # In the middle of it, tokens are good no more.
            self.link.rate = 8 * MB
            process = self.begin("n1", f"swift://native@images/{key}#sha256=" + hashlib.sha256(data).hexdigest())
            self.assertTrue(eventually(lambda: self.link.sent - sent > 3 * MB))
            self.swift.forget_tokens()
            _, errors = process.communicate(timeout=120)
            self.assertEqual((process.returncode, errors), (0, ""), key)
            self.assertEqual((self.home / "n1/images" / key).read_bytes(), data)
            self.link.rate = 0
        self.swift.forget_tokens()
        self.assertEqual(self.get("n1", "--refresh", "swift://images/nat/a.img").returncode, 0)
        self.credentials.write_text(self.credentials.read_text().replace(f"st_key = {SECRET}", "st_key = wrong"))
        self.swift.forget_tokens()
        done = self.get("n1", "swift://images/nat/none.img")
        self.assertEqual(done.returncode, 1, done.stderr)
        self.assertIn("the credentials of the store native", done.stderr)
        self.check_secrets(recorded=False)  # its first question has the key as it is

    def as_schema(self, kind, said):
        # By the Python that has Debian's packages.
        check = "import json, jsonschema, sys; jsonschema.validate(*json.load(sys.stdin))"
        schema = json.loads((ROOT / "docs/json-schema.json").read_text())["$defs"][kind]
        done = subprocess.run(["/usr/bin/python3", "-c", check], input=json.dumps([said, schema]), capture_output=True, text=True)
        self.assertEqual(done.returncode, 0, done.stderr)
        return said

    def file(self, name, *words):
        return subprocess.run([BIN / "meshfile", "--files", self.home / name, "--config", "/dev/null", *words], capture_output=True, text=True, timeout=120)

    def test_files_are_put_whole_or_not_at_all(self):
        self.node("n1", self.swift_config())
        files = self.home / "n1"
        small, large = noise("put small", 300_000), noise("put large", 70 * MB)
        (files / "d").mkdir()
        (files / "d/small one+.img").write_bytes(small)
        (files / "large.img").write_bytes(large)
        (files / "none.img").write_bytes(b"")
        for scheme in ("s3", "swift"):
            done = self.file("n1", "put", "d/small one+.img", f"{scheme}://images/{scheme}/")
            store = {"s3": "swift", "swift": "native"}[scheme]
            self.assertEqual((done.returncode, done.stdout), (0, f"{scheme}://{store}@images/{scheme}/small one+.img\n"), done.stderr)
            # The s3api of Swift does not know the condition that keeps two writers apart.
            self.assertEqual("If-None-Match" in done.stderr, scheme == "s3", done.stderr)
            self.assertEqual(self.swift.get("images", f"{scheme}/small one+.img"), small)
            for name, data in (("large.img", large), ("none.img", b"")):
                done = self.file("n1", "put", name, f"{scheme}://images/{scheme}/put-{name}", "--json")
                self.assertEqual(done.returncode, 0, done.stderr)
                self.assertEqual(self.as_schema("meshfile put", json.loads(done.stdout))["size"], len(data))
                self.assertEqual(self.swift.get("images", f"{scheme}/put-{name}"), data)
            # The same once more is what is there; something else is not, but by force.
            done = self.file("n1", "put", "large.img", f"{scheme}://images/{scheme}/put-large.img")
            self.assertEqual((done.returncode, done.stderr), (0, ""))
            done = self.file("n1", "put", "none.img", f"{scheme}://images/{scheme}/put-large.img")
            self.assertEqual(done.returncode, 5, done.stderr)
            self.assertIn("--force", done.stderr)
            self.assertEqual(self.swift.get("images", f"{scheme}/put-large.img"), large)
            done = self.file("n1", "put", "--force", "none.img", f"{scheme}://images/{scheme}/put-large.img")
            self.assertEqual((done.returncode, done.stderr), (0, ""))
            self.assertEqual(self.swift.get("images", f"{scheme}/put-large.img"), b"")
        # Of the large one that was replaced nothing is left.
        self.assertNotIn("put-large.img", self.swift.native("GET", "/images_segments")[1].decode())
        listed = self.file("n1", "list", "s3://images/s3/").stdout.splitlines()
        self.assertEqual([line.split("  ")[-1] for line in listed], [f"s3://swift@images/s3/{name}" for name in ("put-large.img", "put-none.img", "small one+.img")])
        listed = self.as_schema("meshfile list URL", json.loads(self.file("n1", "list", "--json", "swift://images/").stdout))
        self.assertIn({"url": "swift://native@images/s3/", "kind": "prefix"}, listed)
        deleted = self.file("n1", "delete", "--json", "s3://images/s3/small one+.img")
        self.assertEqual(deleted.returncode, 0)
        self.assertEqual(self.as_schema("meshfile delete URL", json.loads(deleted.stdout))["deleted"][0]["size"], len(small))
        self.assertEqual(self.file("n1", "delete", "s3://images/s3/small one+.img").returncode, 3)
        self.assertEqual(self.file("n1", "delete", "s3://images/s3/").returncode, 2)
        self.assertTrue((files / "d/small one+.img").exists())
        for words, status in ((("put", "nosuch.img", "s3://images/x"), 3), (("put", "d", "s3://images/x"), 2), (("put", "none.img", "s3://nosuch-bucket/x"), 2),
                              (("put", "none.img", "s3://swift@nosuch-bucket/x"), 3), (("put", "none.img", "http://images/x"), 2), (("put", "none.img", "s3://images/*"), 2)):
            done = self.file("n1", *words)
            self.assertEqual(done.returncode, status, (words, done.stderr))
            self.assertEqual(len(done.stderr.splitlines()), 1, done.stderr)
        with open(files / "large.img", "r+b"):
            done = self.file("n1", "put", "large.img", "s3://images/open.img")
            self.assertEqual(done.returncode, 1, done.stderr)
            self.assertIn("open for writing", done.stderr)
        self.check_secrets(recorded=False)

    def test_a_put_goes_on_after_kill_9(self):
        config = self.swift_config()
        self.node("n1", config)
        data = noise("killed", 150 * MB)
        (self.home / "n1/killed.img").write_bytes(data)
        for scheme in ("s3", "swift"):
            self.link.up_rate = 40 * MB
            before = len(self.link.recorded)
            command = [BIN / "meshfile", "--files", self.home / "n1", "--config", "/dev/null", "put", "--quiet", "killed.img", f"{scheme}://images/{scheme}-killed.img"]
            process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            self.assertTrue(eventually(lambda: len(self.link.recorded) - before > 90 * MB))
            old = self.running.pop("n1")
            old.kill()
            old.wait()
            self.link.up_rate = 0
            self.node("n1", config)
            # The command has waited for the node, and asks it again.
            out, errors = process.communicate(timeout=120)
            self.assertEqual(process.returncode, 0, errors)
            self.assertEqual(self.swift.get("images", f"{scheme}-killed.img"), data)
            # What had arrived in whole parts was not sent again.
            self.assertLess(len(self.link.recorded) - before, 1.6 * len(data) if scheme == "swift" else 1.3 * len(data))
            # And one that is stopped, of a file that changes then, leaves nothing.
            (self.home / "n1/killed.img").write_bytes(data[:-1])
            self.link.up_rate = 40 * MB
            before = len(self.link.recorded)
            process = subprocess.Popen([*command[:-1], f"{scheme}://images/{scheme}-stopped.img"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            self.assertTrue(eventually(lambda: len(self.link.recorded) - before > 90 * MB))
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=60)
            self.assertIn(process.returncode, (130, -signal.SIGINT))
            self.link.up_rate = 0
            self.assertTrue(eventually(lambda: f"{scheme}-stopped.img: stopped" in (self.home / "n1.log").read_text()))
            self.assertEqual(self.get("n1", f"{scheme}://images/{scheme}-stopped.img").returncode, 3)
            (self.home / "n1/killed.img").write_bytes(data)
            done = self.file("n1", "put", "killed.img", f"{scheme}://images/{scheme}-stopped.img")
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertEqual(self.swift.get("images", f"{scheme}-stopped.img"), data)
        self.assertEqual(self.swift.s3cmd("multipart", "s3://images").strip().splitlines()[2:], [])
        self.check_secrets(recorded=False)

    def test_credentials_that_are_taken_away_meanwhile_end_the_get_and_new_ones_go_on(self):
        data = noise("revoked", 24 * MB)
        self.swift.put("images", "revoked.img", data)
        self.node("n1", self.config())
        self.link.rate = 4 * MB
        sent = self.link.sent
        process = self.begin("n1", "s3://images/revoked.img")
        self.assertTrue(eventually(lambda: self.link.sent - sent > 9 * MB))
        good = self.credentials.read_text()
        self.credentials.write_text(good.replace(SECRET, "other"))
        _, errors = process.communicate(timeout=120)
        self.assertEqual(process.returncode, 1, errors)
        self.assertIn("the credentials of the store swift", errors)
        self.credentials.write_text(good)
        self.link.rate = 0
        self.assertEqual(self.get("n1", "s3://images/revoked.img").returncode, 0)
        self.assertEqual((self.home / "n1/images/revoked.img").read_bytes(), data)
        # What had come was not fetched again.
        self.assertLess(self.link.sent - sent, 1.5 * len(data))
        self.check_secrets()

    def check_secrets(self, recorded=True):
        """The secret is in no message, log, state or torrent, in no way that it could be written."""
        forms = [SECRET.encode(), base64.b64encode(SECRET.encode()).rstrip(b"="), SECRET.encode().hex().encode()]
        for form in forms:
            if recorded:
                self.assertNotIn(form, bytes(self.link.recorded))
            for file in self.home.rglob("*"):
                if file.is_file() and file != self.credentials:
                    self.assertNotIn(form, file.read_bytes(), file)


if __name__ == "__main__":
    missing = [program for program in PROGRAMS if not shutil.which(program)]
    if missing:
        print("SKIPPED: needs " + ", ".join(missing) + " (packages swift-proxy, swift-account, swift-container, swift-object, memcached, s3cmd)")
        sys.exit(77)
    unittest.main(argv=[sys.argv[0], *sys.argv[2:]], verbosity=2)
