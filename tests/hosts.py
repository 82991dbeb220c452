"""A cluster of several hosts on one machine: each has an address, a network device and processes of its own.

Where the machine allows it, a host is a network namespace on a bridge, and can be cut off like a machine without power;
otherwise it is a group of processes with another loopback address.
"""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import psutil

from helpers.notebook import ENVIRONMENT, ROOT

RAY = Path(sys.executable).with_name("ray")
PORT = 6379


def _ip(*arguments):
    return subprocess.run(["ip", *arguments], capture_output=True, text=True)


def can_be_namespaces():
    """Tell whether this machine lets a test make a network namespace, and a device that ends in it."""
    if shutil.which("ip") is None or _ip("netns", "add", name := f"try{os.getpid()}").returncode:
        return False
    made = _ip("link", "add", f"{name}v", "type", "veth", "peer", "name", f"{name}w").returncode
    _ip("link", "del", f"{name}v")
    _ip("netns", "del", name)
    return made == 0


class Host:
    """One host. Commands that are begun on it end with it."""

    def __init__(self, number, bridge):
        self.bridge, self.processes = bridge, []
        self.address = f"10.231.77.{number}" if bridge else f"127.0.0.{number}"
        self.device = f"{bridge}{number}"
        if bridge:
            _ip("netns", "add", self.device)
            _ip("link", "add", self.device, "type", "veth", "peer", "name", "eth0", "netns", self.device)
            _ip("link", "set", self.device, "master", bridge, "up")
            _ip("-n", self.device, "address", "add", f"{self.address}/24", "dev", "eth0")
            for device in ("lo", "eth0"):
                _ip("-n", self.device, "link", "set", device, "up")

    def begin(self, *command, **options):
        """Start a command on this host."""
        inside = ["ip", "netns", "exec", self.device] if self.bridge else []
        paths = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
        told = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_raylet_start_wait_time_s": "180", "PYTHONPATH": paths}
        told |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "f" * 64}
        # A host without power says no goodbye: it has to be missed.
        missed = {"RAY_health_check_period_ms": "1000", "RAY_health_check_timeout_ms": "5000"}
        environment = {**os.environ, **ENVIRONMENT, **told, **missed, "RAY_health_check_failure_threshold": "4"}
        started = subprocess.Popen([*inside, *map(str, command)], env=environment, start_new_session=True, **options)
        self.processes.append(started)
        return started

    def pids(self):
        """Return the numbers of the processes on this host."""
        if self.bridge:
            return [int(pid) for pid in _ip("netns", "pids", self.device).stdout.split()]
        found = []
        for process in self.processes:
            with suppress(psutil.NoSuchProcess):
                found += [process.pid, *(child.pid for child in psutil.Process(process.pid).children(recursive=True))]
        return found

    def kill(self):
        """Cut it off, then end all that ran on it."""
        if self.bridge:
            _ip("link", "set", self.device, "down")
        for pid in self.pids():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for process in self.processes:
            process.wait()

    def remove(self):
        """End it, and leave nothing behind."""
        self.kill()
        if self.bridge:
            _ip("netns", "del", self.device)
            _ip("link", "del", self.device)


class Cluster:
    """A Ray head without processors, and workers with one each; for a ``with`` block."""

    def __init__(self, workers=2):
        self.count = workers

    def __enter__(self):
        # Ray's sockets lie below it, and their names may have 107 characters.
        self.folder = tempfile.mkdtemp(prefix="ray", dir="/tmp")
        self.bridge = f"ttd{os.getpid() % 10**6}x" if can_be_namespaces() else ""
        if self.bridge:
            _ip("link", "add", self.bridge, "type", "bridge")
            _ip("link", "set", self.bridge, "up")
        self.head, *self.workers = (Host(number, self.bridge) for number in range(1, self.count + 2))
        self.address = f"{self.head.address}:{PORT}"
        try:
            self._start_all()
        except BaseException:
            self.__exit__()
            raise
        return self

    def _start_all(self):
        begun = ["--head", f"--port={PORT}", "--num-cpus=0", "--include-dashboard=false", f"--temp-dir={self.folder}"]
        self._start(self.head, *begun)
        for host in self.workers:
            self._start(host, f"--address={self.address}", "--num-cpus=1")

    def _start(self, host, *options):
        own = ["--block", "--disable-usage-stats", "--object-store-memory=200000000"]
        log = Path(self.folder) / f"{host.address}.log"
        with log.open("w") as file:
            host.begin(RAY, "start", *options, *own, f"--node-ip-address={host.address}", stdout=file, stderr=file)
        self.wait(lambda: "Ray runtime started" in log.read_text(), log.read_text)

    def __exit__(self, *error):
        for host in (*self.workers, self.head):
            host.remove()
        if self.bridge:
            _ip("link", "del", self.bridge)
        shutil.rmtree(self.folder, ignore_errors=True)

    def wait(self, condition, what, seconds=240):
        """Wait until a condition holds; what an AssertionError says if it never does is asked then."""
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, f"after {seconds} s: {what()}"
            time.sleep(0.05)
