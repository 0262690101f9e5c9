# SPDX-License-Identifier: MIT
"""Nothing is left of sockets that were closed, nor of guests that ended, however they ended.

Every module ends with the same check of canald (fixtures.no_leak); here are the hard cases.
"""

import subprocess

import pytest

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
