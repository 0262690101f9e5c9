# SPDX-License-Identifier: MIT
"""Many that wait for one socket: for each that comes one is woken, and another if that one does not come."""

import os
import pathlib
import signal
import socket
import subprocess

import pytest

import harness
from harness import PYTHON

pytestmark = pytest.mark.canal_only
CHILDREN, ROUNDS = 24, 100
SECONDS = 30

# Each child waits in accept() or recvfrom(), or in a set of its own with EPOLLEXCLUSIVE, and says who it is.
PREFORK = """
import os, select, signal, socket, sys
port, count, kind, way = int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
s = socket.socket(socket.AF_INET, kind)
s.bind(("127.0.0.1", port))
if kind == socket.SOCK_STREAM:
    s.listen(64)

def serve():
    mine = b"%d" % os.getpid()
    if kind == socket.SOCK_DGRAM:
        s.sendto(mine, s.recvfrom(64)[1])
    else:
        with s.accept()[0] as c:
            c.sendall(mine)

children = []
for _ in range(count):
    pid = os.fork()
    if not pid:
        if way == "epoll":
            s.setblocking(False)
            ep = select.epoll()
            ep.register(s, select.EPOLLIN | select.EPOLLEXCLUSIVE)
        while True:
            if way == "epoll":
                ep.poll()
            try:
                serve()
            except BlockingIOError:
                pass
    children.append(pid)
print("ready", *children, "done", flush=True)
sys.stdin.read()
for pid in children:
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
"""


class Prefork:
    """A server with CHILDREN processes, and its clients."""

    def __init__(self, canal, port, kind, way):
        self.port, self.kind = port, kind
        self.program = canal.start([PYTHON, "-c", PREFORK, port, CHILDREN, int(kind), way], stdin=subprocess.PIPE)
        self.program.wait_printed("done\n", SECONDS)
        self.children = [int(pid) for pid in self.program.stdout.split()[1:-1]]

    def ask(self):
        client = socket.socket(socket.AF_INET, self.kind)
        client.settimeout(SECONDS)
        client.connect(("127.0.0.1", self.port))
        if self.kind == socket.SOCK_DGRAM:
            client.send(b"who")
        return client

    def end(self):
        self.program.popen.stdin.close()
        assert self.program.wait(SECONDS) == 0, self.program.describe()


def served(client):
    """Who serves it."""
    with client:
        return int(client.recv(32))


@pytest.fixture(params=["accept", "epoll", "recvfrom", "epoll-datagrams"])
def prefork(request, canal, free_port):
    datagrams = request.param in ("recvfrom", "epoll-datagrams")
    server = Prefork(canal, free_port(), socket.SOCK_DGRAM if datagrams else socket.SOCK_STREAM,
                     "epoll" if request.param.startswith("epoll") else "call")
    yield server
    server.end()


def test_one_is_woken(prefork, canald):
    def wakes():
        return canald.guest(prefork.program.pid)["wakes"]
    for _ in range(CHILDREN):  # by and by they have all gone to sleep
        served(prefork.ask())
    before = wakes()
    for _ in range(ROUNDS):
        served(prefork.ask())
    woken = wakes() - before
    # On a busy machine who was woken may come so late that another one is woken, too.
    assert woken <= CHILDREN // 2 * ROUNDS, f"{woken} wake-ups for {ROUNDS}"


def asleep(pid):
    return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ST"


def test_who_was_woken_is_gone(prefork, canald):
    """All were stopped in their sleep when it came, and all but one are killed: that one takes it."""
    def came():
        guest = canald.guest(prefork.program.pid)
        return guest["connections"] + guest["rx_bytes"]
    for pid in prefork.children:
        while not asleep(pid):
            canald.status()
        os.kill(pid, signal.SIGSTOP)
    client = prefork.ask()
    canald.wait_status(lambda _: came(), "nothing came")
    *gone, left = prefork.children
    for pid in gone:
        os.kill(pid, signal.SIGKILL)
    os.kill(left, signal.SIGCONT)
    assert served(client) == left


# Closes what another thread waits in accept() of, interrupts that, and connects to where nobody listens any more.
CLOSED = """
import os, pathlib, select, signal, socket, sys, threading, time
signal.signal(signal.SIGUSR1, lambda *_: None)
s = socket.create_server(("127.0.0.1", 0))
name = s.getsockname()

def wait():
    try:
        s.accept()
    except OSError:
        pass
thread = threading.Thread(target=wait)
thread.start()
stat = pathlib.Path(f"/proc/self/task/{thread.native_id}/stat")
while stat.read_text().rpartition(")")[2].split()[0] != "S":
    time.sleep(0.001)
s.close()
socket.socket().bind(("127.0.0.1", 0))  # canald has seen what came before
print("closed", flush=True)
sys.stdin.readline()
signal.pthread_kill(thread.ident, signal.SIGUSR1)
thread.join()
c = socket.socket()
c.setblocking(False)
print("asks", flush=True)
error = c.connect_ex(name)
select.select([], [c], [])
print(os.strerror(error if error not in (0, 115) else c.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)))
"""


@pytest.mark.parametrize("turn", range(5))
def test_closed_in_accept(bin_dir, work_dir, programs, turn):
    """A canald that looks late finds the listener gone before it sees that a connection was asked for."""
    service = harness.Canald(bin_dir, work_dir, ["--poll", "always"])
    try:
        closed_in_accept(harness.Side("canal", programs, service), service)
        service.stop()
    finally:
        service.program.kill()


def closed_in_accept(canal, canald):
    ours, theirs = os.pipe()
    with open(ours, "rb") as stdin, open(theirs, "wb", buffering=0) as go:
        program = canal.start([PYTHON, "-c", CLOSED], stdin=stdin)
        program.wait_printed("closed")
        program.wait_until(lambda: asleep(program.pid), "its question")
        canald.program.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, canald.program.pid, os.WSTOPPED)
        try:
            go.write(b"\n")
            program.wait_printed("asks")
            program.wait_until(lambda: asleep(program.pid), "wait for canald")
        finally:
            canald.program.send_signal(signal.SIGCONT)
        assert program.wait(20) == 0, program.describe()
    assert program.stdout == "closed\nasks\nConnection refused\n", program.describe()
