# SPDX-License-Identifier: MIT
"""epoll_many.py server|client HOST PORT COUNT: that many connections at once on one epoll instance.

The server sends back what comes. The client says something on every connection, in each of ROUNDS,
before it looks for any answer: all are ready at once.
"""

import select
import socket
import sys

ROUNDS = 3
TIMEOUT = 60


def serve(host, port, count):
    with socket.create_server((host, port), backlog=count) as listener, select.epoll() as ready:
        listener.setblocking(False)
        ready.register(listener, select.EPOLLIN)
        connections = {}
        print("ready", flush=True)
        while True:
            for fd, _ in ready.poll():
                if fd == listener.fileno():
                    accept_all(listener, ready, connections)
                elif not echo(connections[fd]):
                    connections.pop(fd).close()


def accept_all(listener, ready, connections):
    while True:
        try:
            connection, _ = listener.accept()
        except BlockingIOError:
            return
        connections[connection.fileno()] = connection
        ready.register(connection, select.EPOLLIN)


def echo(connection):
    said = connection.recv(4096)
    if said:
        connection.sendall(said)
    return bool(said)


def ask(host, port, count):
    connections = [socket.create_connection((host, port), timeout=TIMEOUT) for _ in range(count)]
    with select.epoll() as ready:
        by_fd = {connection.fileno(): (connection, number) for number, connection in enumerate(connections)}
        for fd in by_fd:
            ready.register(fd, select.EPOLLIN)
        for number in range(ROUNDS):
            ask_round(ready, by_fd, number)
    for connection in connections:
        connection.close()
    print("all equal")


def ask_round(ready, by_fd, round_number):
    wanted = {fd: b"%d:%d" % (round_number, number) for fd, (_, number) in by_fd.items()}
    for fd, text in wanted.items():
        by_fd[fd][0].sendall(text)
    while wanted:
        events = ready.poll(TIMEOUT)
        assert events, f"round {round_number}: no answer on {len(wanted)} connections"
        for fd, _ in events:
            assert by_fd[fd][0].recv(4096) == wanted.pop(fd)


def main():
    mode, host, port, count = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    {"server": serve, "client": ask}[mode](host, port, count)


main()
