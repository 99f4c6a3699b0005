#!/usr/bin/env python3
"""Links that lose packets, are cut, or get another address: real nodes in network namespaces. Skipped (status 77) where it
cannot be root or have namespaces and nftables."""
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent / "scripts"))
from netlab import Lab, make_key, run  # noqa: E402

BIN = Path(os.environ["MESH_BIN"])
MB = 1 << 20


def eventually(done, limit):
    deadline = time.monotonic() + limit
    while not done():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


class Links(unittest.TestCase):
    """Host 0 has the tracker and a node, the others a node each."""

    def setUp(self):
        self.home = Path(tempfile.mkdtemp(prefix="meshswarm-links-"))
        self.addCleanup(shutil.rmtree, self.home, True)

    def start(self, lab):
        self.lab = lab
        lab.spawn(0, [BIN / "meshtracker", "--open", "--listen", "0.0.0.0:6969"], log=self.home / "tracker.log")
        for host in range(lab.hosts):
            self.files(host).mkdir(exist_ok=True)
            self.log(host).unlink(missing_ok=True)  # of an earlier lab: who is waited for here registers anew
            lab.spawn(host, [BIN / "meshseed", "--open", "--files", self.files(host), "--name", f"n{host}", "--listen", "0.0.0.0:6881",
                             "--tracker", f"{lab.address(0)}:6969"], log=self.log(host))
        for host in range(lab.hosts):
            self.assertTrue(eventually(lambda: ": registered" in self.log(host).read_text(), 30), self.log(host).read_text())

    def files(self, host):
        return self.home / f"n{host}"

    def log(self, host):
        return self.home / f"n{host}.log"

    def put(self, host, name, size):
        self.files(host).mkdir(exist_ok=True)
        (self.files(host) / name).write_bytes(random.Random(name).randbytes(size))

    def get(self, host, name):
        return self.lab.spawn(host, [BIN / "meshget", "--open", "--quiet", "--files", self.files(host), name], log=self.home / f"get{host}.log")

    def check(self, host, name, process, limit):
        self.assertEqual(process.wait(limit), 0, (self.home / f"get{host}.log").read_text() + self.log(host).read_text())
        self.assertEqual((self.files(host) / name).read_bytes(), random.Random(name).randbytes((self.files(host) / name).stat().st_size))

    def done(self, host):
        """Bytes of what this host is downloading."""
        out = subprocess.run([BIN / "meshfile", "--files", self.files(host), "status", "--json"], stdout=subprocess.PIPE).stdout
        return sum(one["done"] for one in json.loads(out)[0]["transfers"]) if out else 0

    def test_loss(self):
        for percent in (1, 5):
            with self.subTest(percent=percent), Lab(4, loss_percent=percent) as lab:
                name = f"x{percent}"
                self.put(1, name, 6 * MB)
                self.start(lab)
                for host, process in [(host, self.get(host, name)) for host in (0, 2, 3)]:
                    self.check(host, name, process, 120)

    def test_source_cut_and_mended(self):
        with Lab(4, mbit=20) as lab:
            self.put(1, "x", 12 * MB)
            self.start(lab)
            gets = [(host, self.get(host, "x")) for host in (2, 3)]
            self.assertTrue(eventually(lambda: self.done(2) > MB, 30))
            lab.cut(1)
            # Longer than the tracker and the peers wait for a sign of life.
            time.sleep(20)
            self.assertFalse((self.files(2) / "x").exists())
            lab.mend(1)
            for host, process in gets:
                self.check(host, "x", process, 120)

    def test_discover(self):
        """No tracker and no peer is named; one node has another key."""
        with Lab(4) as lab:
            self.lab = lab
            for name in ("key", "other"):
                make_key(BIN, self.home / name)
            self.put(1, "x", 3 * MB)
            for host in range(4):
                self.files(host).mkdir(exist_ok=True)
                lab.spawn(host, [BIN / "meshseed", "--key", self.home / ("other" if host == 3 else "key"), "--discover", "--files",
                                 self.files(host), "--name", f"n{host}"], log=self.log(host))

            def known(host):
                out = subprocess.run([BIN / "meshfile", "--files", self.files(host), "status", "--json"], stdout=subprocess.PIPE).stdout
                return json.loads(out)[0]["members_known"] if out else 0
            self.assertTrue(eventually(lambda: all(known(host) == 2 for host in range(3)), 30), [known(host) for host in range(4)])
            get = lab.spawn(2, [BIN / "meshget", "--quiet", "--files", self.files(2), "x"], log=self.home / "get2.log")
            self.check(2, "x", get, 60)
            self.assertEqual(known(3), 0)

    def test_another_address(self):
        with Lab(3) as lab:
            self.put(1, "x", 3 * MB)
            self.start(lab)
            old, new = lab.address(1), "10.83.7.7"
            within = ("ip", "netns", "exec", lab.namespace(1))
            run(*within, "ip", "address", "delete", f"{old}/16", "dev", "eth0")
            run(*within, "ip", "address", "add", f"{new}/16", "dev", "eth0")
            run(*within, "ip", "route", "replace", "default", "dev", "eth0", check=False)

            def knows_it():
                out = subprocess.run([BIN / "meshfile", "--files", self.files(2), "status", "--mesh", "--json"], stdout=subprocess.PIPE).stdout
                return [one["node"] for one in json.loads(out or "[]") if not one["error"]] == ["n0", "n1", "n2"]
            self.assertTrue(eventually(lambda: self.log(1).read_text().count(": registered") > 1, 40), self.log(1).read_text())
            self.assertTrue(eventually(knows_it, 30))
            self.check(2, "x", self.get(2, "x"), 60)


def what_is_missing():
    if os.geteuid() != 0:
        return "root, for network namespaces"
    for program in ("ip", "nft", "tc"):
        if not shutil.which(program):
            return program
    try:
        with Lab(1, mbit=1, loss_percent=1):
            return None
    except RuntimeError as error:
        return f"network namespaces with tbf and nftables ({error})"


if __name__ == "__main__":
    if missing := what_is_missing():
        print(f"SKIPPED: links: needs {missing}")
        sys.exit(77)
    unittest.main(verbosity=2)
