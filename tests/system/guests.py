# SPDX-License-Identifier: MIT
"""A canald whose guests have addresses of their own, and programs in them.

Each guest is one or more programs under canal that do what a line of Python says (programs/repl.py).
The host's side is this process, with the kernel's sockets.

    this process ── 127.0.0.1:PORT ── publish ──► web1 10.77.0.2, fd77::2 ┐
                                      publish ──► web2 10.77.0.3          ├ joined in memory
                                                  shut 10.77.0.4, allow   ┘
"""

import contextlib
import json
import socket
import subprocess

import pytest

import harness
from harness import HERE, PYTHON

REPL = HERE / "programs/repl.py"
ALIAS = "10.77.0.1"


class Repl:
    """A program in a guest that does what it is told."""

    def __init__(self, programs, bin_dir, path):
        self.told = 0
        self.program = programs.start(
            [bin_dir / "canal-run", "--socket", path, "--", PYTHON, REPL],
            harness.environment(CANAL_FALLBACK="deny"), stdin=subprocess.PIPE)
        self.program.wait_printed("ready\n")

    def start(self, text):
        """Tell it, and do not wait: finish() has the answer."""
        self.program.popen.stdin.write(json.dumps(text).encode() + b"\n")
        self.program.popen.stdin.flush()
        self.told += 1

    def finish(self, seconds=20):
        def answers():
            return self.program.stdout.splitlines()[1:]
        self.program.wait_until(lambda: len(answers()) >= self.told
                                and self.program.stdout.endswith("\n"), "answer", seconds)
        number, how, value = json.loads(answers()[self.told - 1])
        assert number == self.told - 1
        return how, value

    def __call__(self, text):
        """What the text comes to; fails when that is an error."""
        self.start(text)
        how, value = self.finish()
        assert how == "ok", f"{text}: {value}"
        return value

    def error(self, text):
        """The errno that the text comes to."""
        self.start(text)
        how, value = self.finish()
        assert how == "error", f"{text}: {value}"
        return value

    def end(self):
        self.program.popen.stdin.close()
        assert self.program.wait(20) == 0, self.program.describe()


class Network:
    """A canald with the guests of a configuration."""

    def __init__(self, bin_dir, work_dir, programs, config, options=(), prefix=()):
        self.bin_dir, self.work_dir, self.programs = bin_dir, work_dir, programs
        path = work_dir / "canald.conf"
        path.write_text(config)
        self.canald = harness.Canald(bin_dir, work_dir, ["--config", path, *options], prefix)

    def __call__(self, name):
        return Repl(self.programs, self.bin_dir, self.work_dir / f"{name}.sock")

    def plain(self):
        """A program at the main socket, which has no guest of its own."""
        return Repl(self.programs, self.bin_dir, self.canald.socket)

    def ports(self, *options):
        reply = subprocess.run([self.bin_dir / "canalctl", "--socket", self.canald.socket, "ports",
                                *options], env=harness.environment(), capture_output=True, text=True,
                               timeout=10 * harness.PATIENCE)
        assert reply.returncode == 0, reply.stderr
        return json.loads(reply.stdout)["ports"] if "--json" in options else reply.stdout

    def rows(self, guest, state=None):
        return [row for row in self.ports("--json")
                if row["guest"] == guest and (state is None or row["state"] == state)]


@pytest.fixture
def published(free_port):
    """Ports of the host, by what they are for."""
    return {name: free_port() for name in ("web1", "web2", "web6", "dns", "local")}


@pytest.fixture
def config(work_dir, published):
    return f"""\
[guest web1]
transport = local
socket = {work_dir}/web1.sock
address = 10.77.0.2
address6 = fd77::2
publish = {published['web1']}:80
{f"publish = [::1]:{published['web6']}:81" if harness.ipv6_works() else ""}
publish = {published['dns']}:53/udp
host-alias = {ALIAS}

[guest web2]
socket = {work_dir}/web2.sock
address = 10.77.0.3
address6 = fd77::3
publish = 127.0.0.1:{published['web2']}:80

[guest shut]
socket = {work_dir}/shut.sock
address = 10.77.0.4
allow = 10.77.0.3:80
allow = 198.51.100.0/24
"""


@pytest.fixture
def net(bin_dir, work_dir, programs, config):
    network = Network(bin_dir, work_dir, programs, config)
    yield network
    programs.close()
    network.canald.wait_no_leak()
    network.canald.stop()
    assert not list(work_dir.glob("*.sock")), "canald left a socket of a guest behind"


def connect(port, address="127.0.0.1", source=None):
    """From the host, with the kernel's sockets."""
    return socket.create_connection((address, port), timeout=10 * harness.PATIENCE,
                                    source_address=source and (source, 0))


def own_address():
    """An address of this host that is not loopback, or None."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        with contextlib.suppress(OSError):
            probe.connect(("192.0.2.1", 9))
            return probe.getsockname()[0]
    return None
