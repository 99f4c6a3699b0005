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
import socket
import subprocess
import sys
import tempfile
import threading
import time
import unittest
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
BIN = Path(os.environ.get("MESH_BIN") or (sys.argv[1] if len(sys.argv) > 1 else ROOT / "build/bin"))
MB = 1 << 20
USER, SECRET = "test:tester", "swordfish-4711"
PROGRAMS = ["swift-proxy-server", "swift-account-server", "swift-container-server", "swift-object-server", "swift-ring-builder", "memcached", "s3cmd"]


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def eventually(look, limit=30):
    deadline = time.monotonic() + limit
    while True:
        out = look()
        if out or time.monotonic() > deadline:
            return out
        time.sleep(0.05)


def noise(seed, size):
    return random.Random(seed).randbytes(size)


class Swift:
    """Proxy, account, container, object and what they remember things in; one replica."""

    def __init__(self, home):
        self.home = home
        self.running = []
        (home / "etc").mkdir(parents=True)
        (home / "dev" / "d1").mkdir(parents=True)
        self.port = free_port()
        memory = free_port()
        etc = home / "etc"
        (etc / "swift.conf").write_text("[swift-hash]\nswift_hash_path_prefix = p\nswift_hash_path_suffix = s\n"
                                        "[storage-policy:0]\nname = one\ndefault = yes\n")
        common = f"workers = 0\nswift_dir = {etc}\nuser = {os.environ.get('USER', 'root')}\nlog_level = ERROR\nlog_address = {home}/none\n"
        for kind in ("account", "container", "object"):
            port = free_port()
            (etc / f"{kind}-server.conf").write_text(
                f"[DEFAULT]\ndevices = {home}/dev\nmount_check = false\nbind_ip = 127.0.0.1\nbind_port = {port}\ndisable_fallocate = true\n{common}"
                f"[pipeline:main]\npipeline = {kind}-server\n[app:{kind}-server]\nuse = egg:swift#{kind}\n")
            for words in (["create", "6", "1", "0"], ["add", f"r1z1-127.0.0.1:{port}/d1", "1"], ["rebalance"]):
                subprocess.run(["swift-ring-builder", f"{kind}.builder", *words], cwd=etc, check=True, stdout=subprocess.DEVNULL,
                               stderr=subprocess.DEVNULL)
        filters = {"catch_errors": "", "gatekeeper": "", "healthcheck": "", "cache": f"memcache_servers = 127.0.0.1:{memory}\n",
                   "listing_formats": "", "bulk": "", "s3api": "s3_acl = false\n", "tempauth": f"user_{USER.replace(':', '_')} = {SECRET} .admin\n",
                   "copy": "", "slo": "", "dlo": ""}
        egg = {"cache": "memcache"}
        (etc / "proxy-server.conf").write_text(
            f"[DEFAULT]\nbind_ip = 127.0.0.1\nbind_port = {self.port}\n{common}[pipeline:main]\npipeline = {' '.join(filters)} proxy-server\n"
            "[app:proxy-server]\nuse = egg:swift#proxy\naccount_autocreate = true\nallow_account_management = true\n" +
            "".join(f"[filter:{name}]\nuse = egg:swift#{egg.get(name, name)}\n{more}" for name, more in filters.items()))
        self.spawn(["memcached", "-u", "nobody", "-l", "127.0.0.1", "-p", str(memory), "-m", "16"])
        for kind in ("account", "container", "object", "proxy"):
            self.spawn([f"swift-{kind}-server", str(etc / f"{kind}-server.conf")])
        if not eventually(self.answers, 60):
            raise RuntimeError("Swift does not answer: " + (home / "log").read_text()[-2000:])

    def spawn(self, command):
        with open(self.home / "log", "ab") as log:
            self.running.append(subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True))

    def answers(self):
        try:
            return urllib.request.urlopen(f"http://127.0.0.1:{self.port}/healthcheck", timeout=2).status == 200
        except OSError:
            return False

    def s3cmd(self, *words):
        config = self.home / "s3cfg"
        if not config.exists():
            config.write_text(f"[default]\naccess_key = {USER}\nsecret_key = {SECRET}\nhost_base = 127.0.0.1:{self.port}\n"
                              f"host_bucket = 127.0.0.1:{self.port}\nuse_https = False\nsignature_v2 = False\n")
        done = subprocess.run(["s3cmd", "-q", "-c", str(config), *map(str, words)], capture_output=True, text=True)
        if done.returncode != 0:
            raise RuntimeError(done.stderr)
        return done.stdout

    def put(self, bucket, key, data, *words):
        file = self.home / "object"
        file.write_bytes(data)
        self.s3cmd("put", *words, file, f"s3://{bucket}/{key}")

    def close(self):
        for process in self.running:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


class Link:
    """Between the nodes and the store: counts, records, and can be cut."""

    def __init__(self, to):
        self.to = to
        self.sent = 0
        self.recorded = bytearray()
        self.open = set()
        self.rate = 0  # bytes a second of one connection; 0: as fast as it goes
        self.port = free_port()
        self.listener = None
        self.mend()

    def mend(self):
        self.listener = socket.create_server(("127.0.0.1", self.port))
        threading.Thread(target=self.accept, args=(self.listener,), daemon=True).start()

    def cut(self):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        for one in list(self.open):
            try:
                one.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def accept(self, listener):
        while True:
            try:
                client, _ = listener.accept()
                store = socket.create_connection(("127.0.0.1", self.to))
            except OSError:
                return
            self.open |= {client, store}
            threading.Thread(target=self.pump, args=(client, store, False), daemon=True).start()
            threading.Thread(target=self.pump, args=(store, client, True), daemon=True).start()

    def pump(self, source, sink, from_store):
        try:
            while data := source.recv(64 * 1024):
                if from_store:
                    self.sent += len(data)
                    if self.rate:
                        time.sleep(len(data) / self.rate)
                else:
                    self.recorded += data
                sink.sendall(data)
        except OSError:
            pass
        for one in (source, sink):
            try:
                one.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
        self.open.discard(source)
        source.close()


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
        old, new = noise("old", 24 * MB), noise("new", 24 * MB)
        self.swift.put("images", "changes.img", old)
        self.node("n1", self.config())
        self.link.rate = 4 * MB
        sent = self.link.sent
        process = self.begin("n1", "s3://images/changes.img")
        self.assertTrue(eventually(lambda: self.link.sent - sent > 10 * MB))
        self.swift.put("images", "changes.img", new)
        self.link.rate = 0
        _, errors = process.communicate(timeout=120)
        self.assertEqual(process.returncode, 0, errors)
        self.assertIn((self.home / "n1/images/changes.img").read_bytes(), (old, new))
        self.assertEqual(self.get("n1", "--refresh", "s3://images/changes.img").returncode, 0)
        self.assertEqual((self.home / "n1/images/changes.img").read_bytes(), new)

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
        self.assertEqual(self.get("n1", "s3://images/dir/").returncode, 2)
        self.assertEqual(self.get("n1", "s3://images/x*").returncode, 2)
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

    def check_secrets(self):
        """The secret is in no message, log, state or torrent, in no way that it could be written."""
        forms = [SECRET.encode(), base64.b64encode(SECRET.encode()).rstrip(b"="), SECRET.encode().hex().encode()]
        for form in forms:
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
