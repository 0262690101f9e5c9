# SPDX-License-Identifier: MIT
"""A child that is killed in the middle of a send, when it has not told canald yet: the connection goes on.

canald is stopped, so that the child stays there: in its first message to canald at all, or behind a full ring.
"""

import os
import re
import signal
import subprocess

import pytest

import harness
from harness import PYTHON

pytestmark = pytest.mark.canal_only
SECONDS = 20
# A joined child has asked canald for something before, and another one fills the ring with what nobody waits for.
SENDER = """
import mmap, os, signal, socket, sys, time
how = sys.argv[1]
listener = socket.create_server(("127.0.0.1", 0))
a = socket.create_connection(listener.getsockname())
b = listener.accept()[0]
posted = mmap.mmap(-1, 8)  # how many, as a byte; and has it begun?
go, gone = os.pipe()

def begin(work):
    pid = os.fork()
    if pid:
        return pid
    if how == "joined":
        socket.create_server(("127.0.0.1", 0)).close()
    print("ready", flush=True)
    os.read(go, 1)
    work()
    os._exit(0)

def fill():
    posted[1] = 1
    while True:
        a.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, posted[0] & 1)
        posted[0] = posted[0] + 1 & 255

def waits(pid, looks=5):  # it sleeps, and has got no further: the ring is full
    before = posted[0]
    for _ in range(looks):
        with open(f"/proc/{pid}/stat") as stat:
            if stat.read().rpartition(")")[2].split()[0] != "S" or posted[0] != before or not posted[1]:
                return False
        time.sleep(0.02)
    return True

def send():
    while how == "joined" and not waits(int.from_bytes(posted[4:8], "little")):
        time.sleep(0.02)
    print("it sends", flush=True)
    a.send(b"of the child")
    print("it has sent", flush=True)

child = begin(send)
filler = begin(fill) if how == "joined" else 0
posted[4:8] = filler.to_bytes(4, "little")
print("pids", child, filler, "of them", flush=True)
sys.stdin.readline()
os.write(gone, b"xx")
sys.stdin.readline()
if how == "unjoined":
    os.waitpid(child, 0)
    a.send(b", of its parent")
print("came:", b.recv(100).decode(), flush=True)
"""


@pytest.mark.parametrize("how", ["unjoined", "joined"])
def test_in_the_middle_of_a_send(service, programs, how):
    program = harness.Side("canal", programs, service).start([PYTHON, "-c", SENDER, how], stdin=subprocess.PIPE)
    program.wait_printed("of them\n", SECONDS)
    child, filler = map(int, re.search(r"pids (\d+) (\d+)", program.stdout).groups())
    program.wait_until(lambda: program.stdout.count("ready") == 1 + bool(filler), "children", SECONDS)

    def go_on():
        program.popen.stdin.write(b"\n")
        program.popen.stdin.flush()
    service.program.send_signal(signal.SIGSTOP)
    go_on()
    program.wait_printed("it sends\n", SECONDS)
    looks = iter(range(1000))
    program.wait_until(lambda: harness.asleep(child) and next(looks) > 10, "child that waits for canald", SECONDS)
    for pid in filter(None, (child, filler)):
        os.kill(pid, signal.SIGKILL)
    service.program.send_signal(signal.SIGCONT)
    assert "it has sent" not in program.stdout, "it did not wait: nothing is shown"
    go_on()
    program.wait_printed("came: of the child", SECONDS)
    assert program.wait(SECONDS) == 0, program.describe()
