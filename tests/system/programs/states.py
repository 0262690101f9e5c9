# SPDX-License-Identifier: MIT
"""Makes a socket of each state, with known bytes in its queues, prints their ports, and waits.

usage: states.py PORT PEER FULL: listens on PORT and the two above it, connects to PEER, whose end
does what the first byte says, and to FULL, which does not answer.
"""

import json
import socket
import sys

port, peer, full = map(int, sys.argv[1:])
made = {}


def client(told):
    """A connection whose other end does what the byte says, and has done it when it answers."""
    s = socket.create_connection(("127.0.0.1", peer), timeout=20)
    s.sendall(told)
    assert s.recv(1) == b"."
    return s


made["listener"] = socket.socket()
made["listener"].setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
made["listener"].bind(("127.0.0.1", port))
made["listener"].listen(7)
made["listener6"] = socket.create_server(("::", port + 1), family=socket.AF_INET6, dualstack_ipv6=True,
                                         backlog=9)
made["listener6only"] = socket.create_server(("::1", port + 2), family=socket.AF_INET6)
made["quiet"] = client(b"q")        # ESTAB, nothing in its queues
made["unread"] = client(b"u")       # ESTAB, 1000 bytes to read
made["unsent"] = client(b"n")       # ESTAB, bytes that the other end does not read
made["unsent"].setblocking(False)
sent = 0
try:
    while True:
        sent += made["unsent"].send(b"x" * 65536)
except BlockingIOError:
    pass
made["close-wait"] = client(b"c")   # the other end has closed
made["fin-wait"] = client(b"f")     # this end has, and the other one knows
made["fin-wait"].shutdown(socket.SHUT_WR)
assert made["fin-wait"].recv(1) == b"!"
made["syn-sent"] = socket.socket()  # nobody answers where the queue is full
made["syn-sent"].setblocking(False)
made["syn-sent"].connect_ex(("127.0.0.1", full))
made["udp"] = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
made["udp"].bind(("127.0.0.1", port))
made["udp-any"] = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
made["udp-any"].bind(("::", port + 1))
made["udp-peer"] = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
made["udp-peer"].connect(("127.0.0.1", peer))
print(json.dumps({name: s.getsockname()[1] for name, s in made.items()}), flush=True)
sys.stdin.read()
