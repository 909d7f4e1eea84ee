"""Hosts of a small network: each is a network namespace with its own links and its own /etc/hosts. Linux, root.

The thread that opens the network becomes a host of it, `hub`, and so does all that it starts: servers, threads, commands.
Each host has one address, whichever link leads to it. Everything goes when the processes that hold the namespaces go: they
die with the thread.
"""

import contextlib
import ctypes
import os
import shutil
import signal
import subprocess

import pytest
from project import wait_for
from stack import Process

CLONE_NEWNET = 0x40000000
HERE = "/proc/thread-self/ns/net"


def need_namespaces():
    """Skips the test where there can be none, and says why. Where nobody would read that, it is a failure."""
    probe = ["unshare", "--net", "--mount", "ip", "link", "add", "probe", "type", "veth", "peer", "name", "other"]
    missing = [name for name in ("unshare", "nsenter", "ip") if not shutil.which(name)]
    why = f"not installed: {', '.join(missing)}" if missing else None
    if not why:
        done = subprocess.run(probe, text=True, capture_output=True, check=False)
        why = done.stderr.strip() if done.returncode else None
    if why and os.environ.get("CI"):
        pytest.fail(f"network namespaces cannot be made: {why}")
    if why:
        pytest.skip(f"NETWORK NAMESPACES CANNOT BE MADE, so nothing was killed and no link was cut: {why}")


def _libc(name, *arguments):
    libc = ctypes.CDLL(None, use_errno=True)
    if getattr(libc, name)(*arguments):
        raise OSError(ctypes.get_errno(), f"{name}: {os.strerror(ctypes.get_errno())}")


def _run(*command):
    done = subprocess.run([str(word) for word in command], text=True, capture_output=True, check=False)
    assert done.returncode == 0, f"{' '.join(map(str, command))}: {done.stderr}"
    return done.stdout


class Host:
    """A process that does nothing holds its namespaces."""

    def __init__(self, name, address, folder):
        self.name, self.address, self.folder = name, address, folder
        self.names = folder / f"{name}.hosts"
        self.names.write_text("127.0.0.1 localhost\n")
        script = 'ip link set lo up && mount --bind "$1" /etc/hosts && echo up && exec sleep infinity'
        command = ["unshare", "--net", "--mount", "--propagation", "private", "sh", "-c", script, "sh", self.names]
        self.holder = Process(f"host-{name}", command, folder, dict(os.environ))

    def start(self):
        self.holder.start()
        wait_for(f"host {self.name}", lambda: self.holder.check() or "up" in self.holder.log.read_text(), 10)

    @property
    def pid(self):
        return self.holder.pid

    def know(self, names):
        """Names by which this host finds others: (name, address) pairs. The file stays the one that is mounted."""
        self.names.write_text("127.0.0.1 localhost\n" + "".join(f"{address} {name}\n" for name, address in names))

    def command(self, words):
        """The command, run on this host."""
        return ["nsenter", f"--net=/proc/{self.pid}/ns/net", f"--mount=/proc/{self.pid}/ns/mnt", "--", *words]

    def ip(self, *words):
        return _run(*self.command(["ip", *words]))

    def stop(self):
        self.holder.stop(signal.SIGKILL)


class Hub:
    """The thread that opened the network."""

    name, address = "hub", "10.77.0.1"
    # As `ip` understands it: its own.
    pid = None

    def ip(self, *words):
        return _run("ip", *words)


class Network:
    """Hosts by name and the links between them, e.g. `Network(folder, ["a", "b"], [("hub", "a"), ("a", "b")])`."""

    def __init__(self, folder, names, links):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        self.hub, self.links = Hub(), links
        self.hosts = {name: Host(name, f"10.77.0.{10 + number}", folder) for number, name in enumerate(names)}

    def __getitem__(self, name):
        return self.hub if name == "hub" else self.hosts[name]

    def __enter__(self):
        self.home = os.open(HERE, os.O_RDONLY)
        _libc("unshare", CLONE_NEWNET)
        try:
            self.hub.ip("link", "set", "lo", "up")
            self.hub.ip("address", "add", f"{self.hub.address}/32", "dev", "lo")
            for host in self.hosts.values():
                host.start()
                host.ip("address", "add", f"{host.address}/32", "dev", "lo")
            for number, (one, other) in enumerate(self.links, 1):
                self._link(number, self[one], self[other])
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        for host in self.hosts.values():
            host.stop()
        with contextlib.suppress(OSError):
            _libc("setns", self.home, CLONE_NEWNET)
        os.close(self.home)

    def _link(self, number, one, other):
        peer = ["peer", "name", f"to-{one.name}", "netns", other.pid]
        place = ["netns", one.pid] if one.pid else []
        self.hub.ip("link", "add", f"to-{other.name}", *place, "type", "veth", *peer)
        for host, neighbour, end in ((one, other, 1), (other, one, 2)):
            host.ip("address", "add", f"10.77.{number}.{end}/30", "dev", f"to-{neighbour.name}")
            self._up(host, neighbour, f"10.77.{number}.{3 - end}")

    @staticmethod
    def _up(host, neighbour, gateway):
        host.ip("link", "set", f"to-{neighbour.name}", "up")
        host.ip("route", "replace", f"{neighbour.address}/32", "via", gateway)

    def _number(self, one, other):
        return 1 + self.links.index((one, other))

    def cut(self, one, other):
        """At the other's end: the one is told nothing, what it sends is lost."""
        self[other].ip("link", "set", f"to-{one}", "down")

    def mend(self, one, other):
        # A route goes with its link.
        self._up(self[other], self[one], f"10.77.{self._number(one, other)}.1")
