# SPDX-License-Identifier: MIT
"""A guest whose loopback is not canald's, as a virtual machine has it: guest/twin.c.

The programs run in a network namespace that has nothing but a loopback, under a libcanal.so that
takes the local transport for one of a virtual machine (target canal_apart). canald is outside.
"""

import contextlib
import functools
import re
import socket
import socketserver
import subprocess
import threading

import pytest

import harness
from harness import PYTHON
from oracle import Oracle

pytestmark = pytest.mark.canal_only
PROGRAM = harness.HERE / "programs/twin.py"
CASES = re.findall(r"^def (\w+)\(\):", PROGRAM.read_text(), re.M)
# What a program does with its own two ends is the same as natively: all of it is loopback.
CALLS = ["connect", "stream", "dgram", "options", "ready", "epolls", "processes", "threads", "signals"]
ALONE = ["unshare", "--map-root-user", "--net", "sh", "-c", 'ip link set lo up && exec "$@"', "sh"]
SECONDS = 60


@pytest.fixture(scope="module", autouse=True)
def namespace():
    if subprocess.run([*ALONE, "true"], capture_output=True, timeout=10).returncode:
        pytest.skip("no network namespace can be made here")


@pytest.fixture(scope="module")
def outside():
    """An echo server at an address of this machine that is not loopback."""
    class Echo(socketserver.BaseRequestHandler):
        def handle(self):
            with contextlib.suppress(ConnectionError):
                while data := self.request.recv(4096):
                    self.request.sendall(data)
    with socket.socket(type=socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            pytest.skip("this machine has no address but loopback")
        address = probe.getsockname()[0]
    with socketserver.ThreadingTCPServer((address, 0), Echo) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_address
        server.shutdown()


@pytest.fixture
def apart(programs, canald, bin_dir):
    """Runs a command in a namespace of its own, under canal."""
    library = bin_dir.parent / "lib/apart/libcanal.so"
    assert library.exists(), f"{library}: build the target canal_apart"
    env = {"LD_PRELOAD": library, "CANAL_SOCKET": canald.socket, "CANAL_FALLBACK": "deny"}
    command = [*ALONE, "env", *(f"{name}={value}" for name, value in env.items())]
    return lambda argv: programs.run([*command, *argv], seconds=SECONDS)


@pytest.mark.parametrize("case", CASES)
def test_case(apart, outside, case):
    apart([PYTHON, PROGRAM, case, *outside])


def run_natively(program, family):
    return subprocess.run([*ALONE, program, family], env=harness.environment(), check=True, text=True,
                          stdin=subprocess.DEVNULL, capture_output=True, timeout=SECONDS * harness.PATIENCE).stdout


@functools.cache
def oracle(program, family):
    return Oracle(f"{program.name} {family}", lambda: run_natively(program, family))


@pytest.mark.parametrize("family", ["4", "6"])
@pytest.mark.parametrize("program", CALLS)
def test_equal(apart, bin_dir, program, family):
    path = bin_dir / f"calls_{program}"
    native = oracle(path, family)
    native.check(apart([path, family]).stdout)
