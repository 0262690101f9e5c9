# SPDX-License-Identifier: MIT
"""forked_sets.py children COUNT | daemon PORT: epoll instances over fork and sudden ends.

children: that many processes, one after the other, each with an epoll instance of its own in
which there are the parent's listener and sockets that it closes; every second one is killed.
daemon: an echo server that makes its epoll instance and forks; the parent only waits.
"""

import os
import select
import signal
import socket
import sys


def child(listener):
    ready = select.epoll()
    ready.register(listener, select.EPOLLIN)
    for _ in range(20):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as closed:
            ready.register(closed, select.EPOLLIN)
    assert ready.poll(0) == []


def children(count):
    with socket.create_server(("127.0.0.1", 0)) as listener, select.epoll() as ready:
        ready.register(listener, select.EPOLLIN)
        for number in range(count):
            pid = os.fork()
            if not pid:
                child(listener)
                if number % 2:
                    os.kill(os.getpid(), signal.SIGKILL)
                os._exit(0)
            status = os.waitpid(pid, 0)[1]
            assert status == (signal.SIGKILL if number % 2 else 0), f"child {number}: {status}"
        with socket.create_connection(listener.getsockname()):
            assert ready.poll(10) == [(listener.fileno(), select.EPOLLIN)]
    print("all equal")


def daemon(port):
    listener = socket.create_server(("127.0.0.1", port))
    listener.setblocking(False)
    ready = select.epoll()
    ready.register(listener, select.EPOLLIN)
    pid = os.fork()
    if pid:
        os.waitpid(pid, 0)
        os._exit(1)
    connections = {}
    print("ready", flush=True)
    while True:
        for fd, _ in ready.poll():
            if fd == listener.fileno():
                connection, _ = listener.accept()
                connections[connection.fileno()] = connection
                ready.register(connection, select.EPOLLIN)
                continue
            said = connections[fd].recv(100)
            if said:
                connections[fd].sendall(said)
            else:
                connections.pop(fd).close()


if sys.argv[1] == "children":
    children(int(sys.argv[2]))
else:
    daemon(int(sys.argv[2]))
