# SPDX-License-Identifier: MIT
"""Many that wait for connections: one is woken for each, and another if that one does not come."""

import os
import pathlib
import signal
import socket
import subprocess

import pytest

from harness import PYTHON

pytestmark = pytest.mark.canal_only
CHILDREN, CONNECTIONS = 24, 100
SECONDS = 30

# Each child waits in accept(), or in a set of its own with EPOLLEXCLUSIVE, and says who it is to whom it accepts.
PREFORK = """
import os, select, signal, socket, sys
s = socket.create_server(("127.0.0.1", int(sys.argv[1])), backlog=64)
children = []
for _ in range(int(sys.argv[2])):
    pid = os.fork()
    if not pid:
        if sys.argv[3] == "epoll":
            s.setblocking(False)
            ep = select.epoll()
            ep.register(s, select.EPOLLIN | select.EPOLLEXCLUSIVE)
        while True:
            if sys.argv[3] == "epoll":
                ep.poll()
            try:
                c = s.accept()[0]
            except BlockingIOError:
                continue
            c.sendall(b"%d" % os.getpid())
            c.close()
    children.append(pid)
print("ready", *children, "done", flush=True)
sys.stdin.read()
for pid in children:
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
"""


@pytest.fixture(params=["accept", "epoll"])
def prefork(request, canal, free_port):
    """A server with CHILDREN processes, and who serves the next connection to it."""
    port = free_port()
    program = canal.start([PYTHON, "-c", PREFORK, port, CHILDREN, request.param], stdin=subprocess.PIPE)
    program.wait_printed("done\n", SECONDS)
    yield program, port
    program.popen.stdin.close()
    assert program.wait(SECONDS) == 0, program.describe()


def served(connection):
    with connection:
        return int(connection.recv(32, socket.MSG_WAITALL))


def connect(port):
    return socket.create_connection(("127.0.0.1", port), SECONDS)


def test_one_is_woken(prefork, canald):
    program, port = prefork
    for _ in range(CHILDREN):  # they have all gone to sleep by and by
        served(connect(port))
    before = canald.guest(program.pid)["wakes"]
    for _ in range(CONNECTIONS):
        served(connect(port))
    woken = canald.guest(program.pid)["wakes"] - before
    assert woken <= 4 * CONNECTIONS, f"{woken} wake-ups for {CONNECTIONS} connections"


def asleep(pid):
    return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ST"


def test_who_was_woken_is_gone(prefork, canald):
    """All were stopped in their sleep when the connection came, and all but one are killed: that one takes it."""
    program, port = prefork
    children = program.stdout.split()[1:-1]
    for pid in map(int, children):
        while not asleep(pid):
            canald.status()
        os.kill(pid, signal.SIGSTOP)
    connection = connect(port)
    canald.wait_status(lambda _: canald.guest(program.pid)["connections"], "nothing was accepted")
    *gone, left = map(int, children)
    for pid in gone:
        os.kill(pid, signal.SIGKILL)
    os.kill(left, signal.SIGCONT)
    assert served(connection) == left
