# SPDX-License-Identifier: MIT
"""Who may share a port (SO_REUSEPORT): sockets of one user, though one canald makes them all."""

import errno
import os
import socket
import subprocess

import pytest

SECONDS = 20
ROOT, ONE, OTHER = 0, 65534, 65533

# Becomes a user before libcanal joins canald, says how bind() went, and keeps the port until its input ends.
SHARER = """
import os, socket, sys
uid, kind, port = map(int, sys.argv[1:])
os.setresuid(uid, uid, uid)
s = socket.socket(socket.AF_INET, kind)
s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
error = 0
try:
    s.bind(("127.0.0.1", port))
    if kind == socket.SOCK_STREAM:
        s.listen()
except OSError as e:
    error = e.errno
print("bind", error, s.getsockname()[1], "done", flush=True)
sys.stdin.read()
"""

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="becomes other users")


@pytest.fixture(params=[socket.SOCK_STREAM, socket.SOCK_DGRAM], ids=["tcp", "udp"])
def kind(request):
    return request.param


@pytest.fixture
def share(canal, kind):
    """share(uid, port): errno and port of a program of that user, which keeps it until the test ends."""
    def run(uid, port=0):
        program = canal.start(["/usr/bin/python3", "-c", SHARER, uid, int(kind), port], stdin=subprocess.PIPE)
        program.wait_printed("done", SECONDS)
        _, error, got, _ = program.stdout.split()
        return int(error), int(got)
    return run


def test_with_programs_outside(share, kind):
    with socket.socket(socket.AF_INET, kind) as outside:
        outside.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        outside.bind(("127.0.0.1", 0))
        if kind == socket.SOCK_STREAM:
            outside.listen()
        port = outside.getsockname()[1]
        assert share(ONE, port)[0] == errno.EADDRINUSE
        assert share(ROOT, port) == (0, port)


def test_with_each_other(share, kind):
    error, port = share(ONE)
    assert not error
    assert share(ONE, port) == (0, port)
    assert share(OTHER, port)[0] == errno.EADDRINUSE
    assert share(ROOT, port)[0] == errno.EADDRINUSE
    with socket.socket(socket.AF_INET, kind) as outside:
        outside.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        with pytest.raises(OSError) as refused:
            outside.bind(("127.0.0.1", port))
        assert refused.value.errno == errno.EADDRINUSE
