"""OpenStack Swift with its s3api on loopback, as Debian has it, and a link to it that counts, records and can be cut: for
tests and for scripts/bench.

    swift_server.py HOME PORT FILE BUCKET/KEY    serves it with that one object at PORT of all addresses until it is killed;
                                                 HOME/sent has how many bytes it has sent
"""
import atexit
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path

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


class Swift:
    """Proxy, account, container, object and what they remember things in; one replica."""

    def __init__(self, home):
        self.home = home
        self.running = []
        (home / "etc").mkdir(parents=True)
        (home / "dev" / "d1").mkdir(parents=True)
        self.port = free_port()
        memory = self.memory = free_port()
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

    def get(self, bucket, key):
        return self.native("GET", f"/{bucket}/{urllib.request.quote(key)}")[1]

    def native(self, method, path, body=None, **headers):
        """As Swift itself speaks."""
        token = urllib.request.Request(f"http://127.0.0.1:{self.port}/auth/v1.0", headers={"X-Auth-User": USER, "X-Auth-Key": SECRET})
        with urllib.request.urlopen(token) as answer:
            account, token = answer.headers["X-Storage-Url"], answer.headers["X-Auth-Token"]
        headers = {"X-Auth-Token": token, **{name.replace("_", "-"): value for name, value in headers.items()}}
        with urllib.request.urlopen(urllib.request.Request(account + path, method=method, data=body, headers=headers)) as answer:
            return answer.headers, answer.read()

    def forget_tokens(self):
        with socket.create_connection(("127.0.0.1", self.memory)) as link:
            link.sendall(b"flush_all\r\n")
            assert link.recv(100) == b"OK\r\n"

    def close(self):
        for process in self.running:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


class Link:
    """Between the nodes and the store: counts, records, and can be cut."""

    def __init__(self, to, at=None):
        self.to = to
        self.at = at or ("127.0.0.1", free_port())
        self.sent = 0
        self.recorded = bytearray()
        self.open = set()
        self.rate = 0  # bytes a second of one connection; 0: as fast as it goes
        self.up_rate = 0  # the same of what goes to the store
        self.port = self.at[1]
        self.listener = None
        self.mend()

    def mend(self):
        self.listener = socket.create_server(self.at)
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
                    if self.up_rate:
                        time.sleep(len(data) / self.up_rate)
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


def main():
    home, port, file, where = Path(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]), sys.argv[4]
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    swift = Swift(home / "swift")
    atexit.register(swift.close)
    bucket, key = where.split("/", 1)
    swift.s3cmd("mb", f"s3://{bucket}")
    swift.put(bucket, key, file.read_bytes())
    link = Link(swift.port, ("0.0.0.0", port))
    print("ready", flush=True)
    while True:
        (home / "sent").write_text(str(link.sent))
        time.sleep(0.1)


if __name__ == "__main__":
    main()
