# SPDX-License-Identifier: MIT
"""sockets.py MODE PORT: bring sockets into a state, print "ready", end when stdin ends.

PORT is an echo server on 127.0.0.1. Where a mode closes its sockets, it does so before "ready".
"""

import errno
import os
import resource
import socket
import sys

ADDRESS = "127.0.0.1"
TIMEOUT = 30


def connected(port, count):
    return [socket.create_connection((ADDRESS, port), timeout=TIMEOUT) for _ in range(count)]


def exchange(connection, length):
    """Send and receive in turns no longer than any socket buffer."""
    for _ in range(0, length, 4096):
        connection.sendall(b"x" * 4096)
        assert len(connection.recv(4096, socket.MSG_WAITALL)) == 4096


def closed(port):
    """Every connection was busy, then closed: some by shutdown, some with unread bytes."""
    connections = connected(port, 200)
    for number, connection in enumerate(connections):
        exchange(connection, 32 << 10)
        if number % 3 == 1:
            connection.shutdown(socket.SHUT_WR)
            assert connection.recv(1) == b""
        elif number % 3 == 2:
            connection.sendall(b"never read")
        connection.close()


def idle(port):
    """Connections that were busy once and stay open."""
    connections = connected(port, 500)
    for connection in connections:
        exchange(connection, 8 << 10)
    return connections


def datagrams(port):
    """UDP sockets: sent, connected, bound, with and without a datagram waiting."""
    for number in range(100):
        with (socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender,
              socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver):
            receiver.bind((ADDRESS, 0))
            receiver.settimeout(TIMEOUT)
            sender.connect(receiver.getsockname())
            sender.send(b"one")
            sender.send(b"two")
            if number % 2:
                assert receiver.recv(10) == b"one"


def unused(port):
    """Sockets in every early state, left open."""
    kept = [socket.socket() for _ in range(20)]
    kept += [socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) for _ in range(20)]
    for _ in range(20):
        listener = socket.create_server((ADDRESS, 0))
        kept += [listener, socket.create_connection(listener.getsockname(), timeout=TIMEOUT)]
    for _ in range(20):
        starting = socket.socket()
        starting.setblocking(False)
        error = starting.connect_ex((ADDRESS, port))
        assert error in (0, errno.EINPROGRESS), error
        kept.append(starting)
    return kept


def refused(_port):
    """Connections to a port on which nobody listens."""
    with socket.socket() as holder:
        holder.bind((ADDRESS, 0))
        for _ in range(100):
            with socket.socket() as failing:
                failing.settimeout(TIMEOUT)
                error = failing.connect_ex(holder.getsockname())
                assert error == errno.ECONNREFUSED, error


def forked(port):
    """Children inherit the connections, use one each, and end without closing them."""
    connections = connected(port, 20)
    children = []
    for connection in connections:
        child = os.fork()
        if child == 0:
            exchange(connection, 8 << 10)
            os._exit(0)
        children.append(child)
    for child in children:
        assert os.waitpid(child, 0)[1] == 0
    for connection in connections:
        exchange(connection, 4096)
        connection.close()


def exhausted(port):
    """The limit of descriptors is met like natively, and what was opened still works."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (128, 128))
    connections = []
    try:
        while len(connections) < 128:
            connections.append(socket.create_connection((ADDRESS, port), timeout=TIMEOUT))
        raise AssertionError("more sockets than descriptors")
    except OSError as error:
        assert error.errno == errno.EMFILE, error
    assert len(connections) > 64, len(connections)
    for connection in connections:
        exchange(connection, 4096)
        connection.close()
    connections = connected(port, 10)
    for connection in connections:
        connection.close()


def main():
    modes = {mode.__name__: mode for mode in (closed, idle, datagrams, unused, refused, forked,
                                              exhausted)}
    kept = modes[sys.argv[1]](int(sys.argv[2]))
    print("ready", flush=True)
    sys.stdin.read()
    del kept


main()
