# SPDX-License-Identifier: MIT
"""close() of a listener is over when it returns: who hears of it is refused, or has the port.

canald is stopped meanwhile, so that nothing of it is done by chance.
"""

import signal
import socket
import subprocess

import pytest

import harness
from harness import PYTHON

pytestmark = pytest.mark.canal_only
SECONDS = 20
# Says when it closes, and when it has.
CLOSER = """
import socket, sys
port = int(sys.argv[1])
l = socket.create_server(("127.0.0.1", port))
print("ready", flush=True)
sys.stdin.readline()
print("closes", flush=True)
l.close()
print("has closed", flush=True)
sys.stdin.read()
"""
TAKER = """
import socket, sys
s = socket.socket()
s.bind(("127.0.0.1", int(sys.argv[1])))
s.listen()
print("taken")
"""


def test_listener(service, programs, free_port):
    port = free_port()
    side = harness.Side("canal", programs, service)
    program = side.start([PYTHON, "-c", CLOSER, str(port)], stdin=subprocess.PIPE)
    program.wait_printed("ready\n", SECONDS)
    service.program.send_signal(signal.SIGSTOP)
    program.popen.stdin.write(b"\n")
    program.popen.stdin.flush()
    program.wait_printed("closes\n", SECONDS)
    looks = iter(range(1000))
    program.wait_until(lambda: "has closed" in program.stdout or (harness.asleep(program.pid) and next(looks) > 10),
                       "close() that waits for canald", SECONDS)
    assert "has closed" not in program.stdout, "it did not wait for canald"
    service.program.send_signal(signal.SIGCONT)
    program.wait_printed("has closed\n", SECONDS)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), SECONDS)
    taker = side.run([PYTHON, "-c", TAKER, str(port)], seconds=SECONDS)
    assert taker.stdout == "taken\n"
    program.popen.stdin.close()
    assert program.wait(SECONDS) == 0, program.describe()
