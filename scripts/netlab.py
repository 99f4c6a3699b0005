"""Hosts on one machine: network namespaces around one switch, each host's link shaped both ways.

    with Lab(hosts=9, mbit=50) as lab:
        process = lab.spawn(3, ["meshget", "x"])        # on host 3, whose address is lab.address(3)

Needs root and iproute2. Links are shaped by tbf, with a queue of 100 ms. Delay is made by netem where the kernel has it,
else by build/bin/lab_switch. Nothing outside the namespaces is touched, and all of it is gone at the end.
"""
import os
import signal
import subprocess
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TICKS = os.sysconf("SC_CLK_TCK")


def run(*command, check=True):
    done = subprocess.run([str(part) for part in command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if check and done.returncode != 0:
        raise RuntimeError(f"{' '.join(map(str, command))}: {done.stderr.strip()}")
    return done.stdout


def make_key(programs, path):
    """A mesh key, by the meshkey in the directory `programs`."""
    with open(path, "w") as out:
        subprocess.run([Path(programs) / "meshkey", "new"], stdout=out, check=True)
    return path


class Process:
    """A process on a host, with all that it starts."""

    def __init__(self, popen):
        self.popen = popen
        self.pid = popen.pid

    def cpu(self):
        """CPU seconds so far, its ended children's included."""
        try:
            fields = Path(f"/proc/{self.pid}/stat").read_text().rsplit(")", 1)[1].split()
        except OSError:
            return getattr(self, "last", 0.0)
        self.last = sum(map(int, fields[11:15])) / TICKS
        return self.last

    def wait(self, timeout=None):
        """Exit status; its CPU seconds are in `last` afterwards."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            pid, status, usage = os.wait4(self.pid, 0 if deadline is None else os.WNOHANG)
            if pid:
                self.last = usage.ru_utime + usage.ru_stime
                self.popen.returncode = os.waitstatus_to_exitcode(status)
                return self.popen.returncode
            if time.monotonic() > deadline:
                raise TimeoutError(f"{self.popen.args} does not end")
            time.sleep(0.001)

    def stop(self, how=signal.SIGKILL):
        try:
            os.killpg(self.pid, how)
        except OSError:
            pass


class Lab:
    def __init__(self, hosts, mbit=0, delay_ms=0, loss_percent=0, mbit_of=None, congestion="cubic"):
        """`mbit`: of every link, 0: as fast as it goes; `mbit_of`: {host: mbit} for links of their own. `delay_ms`: one
        way between any two hosts. `loss_percent`: of what each host receives. `congestion`: TCP's control, Debian's
        unless said; where this machine does not allow it, its own is taken, and `congestion` says which that is."""
        self.hosts = hosts
        self.mbit = mbit
        self.mbit_of = mbit_of or {}
        self.delay_ms = delay_ms
        self.loss_percent = loss_percent
        self.congestion = congestion
        self.name = f"mesh{os.getpid()}"
        self.switch = f"{self.name}-switch"
        self.processes = []

    def namespace(self, host):
        return f"{self.name}-{host}"

    def address(self, host):
        return f"10.83.{host // 250}.{host % 250 + 1}"

    def __enter__(self):
        try:
            self._build()
        except BaseException:
            self.__exit__()
            raise
        return self

    def _build(self):
        within = lambda namespace, *command, **kw: run("ip", "netns", "exec", namespace, *command, **kw)
        run("ip", "netns", "add", self.switch)
        for host in range(self.hosts):
            namespace = self.namespace(host)
            run("ip", "netns", "add", namespace)
            run("ip", "link", "add", f"p{host}", "netns", self.switch, "type", "veth", "peer", "name", "eth0", "netns", namespace)
            within(namespace, "ip", "address", "add", f"{self.address(host)}/16", "broadcast", "10.83.255.255", "dev", "eth0")
            within(namespace, "ip", "link", "set", "lo", "up")
            within(namespace, "ip", "link", "set", "eth0", "up")
            within(namespace, "ip", "route", "add", "default", "dev", "eth0", check=False)
            within(namespace, "sysctl", "-qw", f"net.ipv4.tcp_congestion_control={self.congestion}", check=False)
            self.congestion = within(namespace, "sysctl", "-n", "net.ipv4.tcp_congestion_control").strip()
            within(self.switch, "ip", "link", "set", f"p{host}", "up")
            mbit = self.mbit_of.get(host, self.mbit)
            if mbit:
                for where, device in ((namespace, "eth0"), (self.switch, f"p{host}")):
                    within(where, "tc", "qdisc", "add", "dev", device, "root", "tbf", "rate", f"{mbit}mbit", "burst", "128kb",
                           "latency", "100ms")
            self.lose(host, self.loss_percent)
        if not self.delay_ms:
            within(self.switch, "ip", "link", "add", "br0", "type", "bridge", "mcast_snooping", "0")
            within(self.switch, "ip", "link", "set", "br0", "up")
            for host in range(self.hosts):
                within(self.switch, "ip", "link", "set", f"p{host}", "master", "br0")
            return
        switch = ROOT / "build/bin/lab_switch"
        if not switch.exists():
            raise RuntimeError(f"{switch} is missing: cmake --preset release && cmake --build --preset release")
        for host in range(self.hosts):  # the switch takes frames as a wire carries them
            for where, device in ((self.namespace(host), "eth0"), (self.switch, f"p{host}")):
                within(where, "ethtool", "-K", device, "tso", "off", "gso", "off", "gro", "off", "tx", "off", "rx", "off")
        ready, tell = os.pipe()
        process = subprocess.Popen(["ip", "netns", "exec", self.switch, switch, str(int(self.delay_ms * 1000)),
                                    *(f"p{host}" for host in range(self.hosts))], stdout=tell, start_new_session=True)
        self.processes.append(Process(process))
        os.close(tell)
        with os.fdopen(ready) as said:
            if said.readline() != "ready\n":
                raise RuntimeError("lab_switch did not start")

    def _nft(self, host, *command, check=True):
        run("ip", "netns", "exec", self.namespace(host), "nft", *command, check=check)

    def cut(self, host):
        """Nothing comes or goes over the host's link any more, as when a cable is pulled behind the switch."""
        self._nft(host, "add", "table", "inet", "cut")
        for hook, device in (("input", "iifname"), ("output", "oifname")):
            self._nft(host, "add", "chain", "inet", "cut", hook, f"{{ type filter hook {hook} priority 0; }}")
            self._nft(host, "add", "rule", "inet", "cut", hook, device, "eth0", "drop")

    def mend(self, host):
        self._nft(host, "delete", "table", "inet", "cut")

    def lose(self, host, percent):
        """So much of what the host receives is lost from now on."""
        self._nft(host, "delete", "table", "inet", "lab", check=False)
        if percent:
            self._nft(host, "add", "table", "inet", "lab")
            self._nft(host, "add", "chain", "inet", "lab", "in", "{ type filter hook input priority 0; }")
            self._nft(host, "add", "rule", "inet", "lab", "in", "iifname", "eth0", "numgen", "random", "mod", "10000", "<",
                      str(int(percent * 100)), "drop")

    def spawn(self, host, command, log=None, **options):
        out = open(log, "a") if log else subprocess.DEVNULL
        process = Process(subprocess.Popen(["ip", "netns", "exec", self.namespace(host), *map(str, command)], stdin=subprocess.DEVNULL,
                                           stdout=out, stderr=out, start_new_session=True, **options))
        if log:
            out.close()
        self.processes.append(process)
        return process

    def bytes(self, host):
        """What a host has received and sent over its link, frames included."""
        text = run("ip", "netns", "exec", self.namespace(host), "cat", "/proc/net/dev")
        fields = next(line for line in text.splitlines() if "eth0" in line).split(":")[1].split()
        return int(fields[0]), int(fields[8])

    def __exit__(self, *_):
        for process in self.processes:
            process.stop()
        for process in self.processes:
            if process.popen.returncode is None:
                try:
                    process.popen.wait(5)
                except subprocess.TimeoutExpired:
                    pass
        for namespace in [self.namespace(host) for host in range(self.hosts)] + [self.switch]:
            for pid in run("ip", "netns", "pids", namespace, check=False).split():  # what went into the background
                try:
                    os.kill(int(pid), signal.SIGKILL)
                except OSError:
                    pass
            run("ip", "netns", "delete", namespace, check=False)
