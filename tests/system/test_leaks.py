# SPDX-License-Identifier: MIT
"""Nothing is left of sockets that were closed, nor of guests that ended, however they ended.

Every module ends with the same check of canald (fixtures.no_leak); here are the hard cases.
"""

import subprocess

import pytest

import harness
import servers
from harness import HERE, PYTHON

SOCKETS = HERE / "programs/sockets.py"
ECHO = HERE / "programs/echo_asyncio.py"


@pytest.fixture
def echo_port(native, free_port):
    port = free_port()
    native.start([PYTHON, ECHO, "server", str(port)]).wait_printed("ready")
    return port


@pytest.fixture
def start_sockets(canal, echo_port):
    """Start sockets.py in a mode; it is ready, and ends when its stdin is closed."""
    def start(mode):
        program = canal.start([PYTHON, SOCKETS, mode, str(echo_port)], stdin=subprocess.PIPE)
        program.wait_printed("ready", seconds=60)
        return program
    return start


def _end(program):
    program.popen.stdin.close()
    assert program.wait(20) == 0, program.describe()


@pytest.mark.parametrize("mode", ["closed", "datagrams", "refused", "forked", "exhausted"])
def test_living_guest_gives_back(start_sockets, canald, mode):
    """The program lives on; the sockets that it closed hold nothing."""
    program = start_sockets(mode)
    if canald:
        def clean(status):
            mine = [guest for guest in status["guests"] if guest["pid"] == program.pid]
            return mine and not mine[0]["sockets"] and not mine[0]["chunks"]
        canald.wait_status(clean, f"sockets or chunks are left after {mode}")
    _end(program)
    if canald:
        canald.wait_no_leak()


@pytest.mark.parametrize("ending", ["exit", "kill"])
@pytest.mark.parametrize("mode", ["idle", "unused"])
def test_ended_guest_gives_back(start_sockets, canald, mode, ending):
    """The program ends with open sockets, by itself or by SIGKILL."""
    program = start_sockets(mode)
    if canald:
        guest = canald.guest(program.pid)
        assert len(guest["sockets"]) >= {"idle": 500, "unused": 100}[mode], guest
    if ending == "kill":
        program.kill()
    else:
        _end(program)
    if canald:
        canald.wait_no_leak()


@pytest.mark.parametrize("victim", ["server", "client"])
def test_killed_in_transfer(server, client, canald, work_dir, files_dir, big_file, free_port,
                            victim):
    """SIGKILL in the middle of a transfer; the other end sees it and ends by itself."""
    port = free_port()
    nginx = servers.nginx(server, work_dir, port, files_dir)
    copy = work_dir / "copy"
    curl = client.start(["curl", "--silent", "--limit-rate", "20M", "--output", copy,
                         servers.url(port, big_file.name)])
    curl.wait_until(copy.exists, "first bytes")
    if victim == "server":
        nginx.kill()
        assert curl.wait(30) in (18, 56), curl.describe()
    else:
        curl.kill()
        other = client.run(["curl", "--silent", "--fail", "--output", work_dir / "other",
                            servers.url(port, big_file.name)])
        assert other.returncode == 0
        big_file.assert_equal(work_dir / "other")
        nginx.stop()
        assert nginx.returncode == 0, nginx.describe()
    if canald:
        canald.wait_no_leak()


def test_many_short_guests(canal, canald, work_dir, small_files, native, files_dir, free_port):
    """A hundred programs one after the other: descriptors of canald do not grow."""
    port = free_port()
    servers.nginx(native, work_dir, port, files_dir)
    page = small_files[0]
    for _ in range(100):
        canal.run(["curl", "--silent", "--fail", "--output", work_dir / "copy",
                   servers.url(port, page.name)])
    page.assert_equal(work_dir / "copy")
    if canald:
        canald.wait_no_leak()


STUCK = """
import select, socket, sys
if sys.argv[1] == "peer":  # takes nothing until it is told to
    listener = socket.create_server(("127.0.0.1", int(sys.argv[2])))
    print("ready", flush=True)
    s, _ = listener.accept()
    sys.stdin.read()
    try:
        while s.recv(1 << 20):
            pass
        print("the end")
    except ConnectionResetError:
        print("reset")
else:
    s = socket.create_connection(("127.0.0.1", int(sys.argv[2])))
    s.setblocking(False)
    while select.select([], [s], [], 3)[1]:  # so long nothing was taken: all is full
        s.send(bytes(1 << 16))
"""


@pytest.mark.canal_only
@pytest.mark.parametrize("where", ["native", "canal"])
def test_peer_takes_nothing(programs, bin_dir, work_dir, free_port, where):
    """A program ends with bytes for a peer that never takes them: canald keeps them for a while only."""
    port = free_port()
    config = work_dir / "canald.conf"
    config.write_text("[canald]\nclose_timeout = 1\n")
    service = harness.Canald(bin_dir, work_dir, ["--config", config])
    try:
        peer = harness.Side(where, programs, service).start([PYTHON, "-c", STUCK, "peer", str(port)],
                                                            stdin=subprocess.PIPE)
        peer.wait_printed("ready")
        program = harness.Side("canal", programs, service).start([PYTHON, "-c", STUCK, "sends", str(port)])
        assert program.wait(20) == 0, program.describe()
        service.wait_status(lambda status: program.pid not in [guest["pid"] for guest in status["guests"]],
                            "the guest is left", seconds=20)
        peer.popen.stdin.close()
        assert peer.wait(20) == 0, peer.describe()
        assert peer.stdout.splitlines() == ["ready", "reset"], peer.describe()
        service.wait_no_leak()
        service.stop()
    finally:
        service.program.kill()
