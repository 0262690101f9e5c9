# SPDX-License-Identifier: MIT
"""Sockets that change programs.

    handing.py activated          echoes on the listener that it was started with (LISTEN_FDS)
    handing.py children PORT      each connection goes to a new program, by pass_fds
    handing.py workers PORT       each connection goes to a process of a pool, over a UNIX socket
    handing.py talk PORT COUNT    the client: says "all equal"
    handing.py child FD           what children starts
"""

import multiprocessing
import multiprocessing.reduction
import os
import socket
import subprocess
import sys


def echo(connection):
    with connection:
        while data := connection.recv(65536):
            connection.sendall(data)


def listen(port):
    listener = socket.create_server(("127.0.0.1", port), backlog=64)
    print("ready", flush=True)
    return listener


def activated():
    assert os.environ["LISTEN_FDS"] == "1" and int(os.environ["LISTEN_PID"]) == os.getpid()
    listener = socket.socket(fileno=3)
    while True:
        echo(listener.accept()[0])


def children(port):
    listener = listen(port)
    while True:
        connection, _ = listener.accept()
        with connection:
            subprocess.Popen([sys.executable, __file__, "child", str(connection.fileno())],
                             pass_fds=[connection.fileno()])


def worker(pipe):
    while True:
        handle = multiprocessing.reduction.recv_handle(pipe)
        echo(socket.socket(fileno=handle))


def workers(port):
    pipes = []
    for _ in range(2):
        ours, theirs = multiprocessing.Pipe()
        pipes.append((ours, multiprocessing.Process(target=worker, args=[theirs], daemon=True)))
        pipes[-1][1].start()
    listener = listen(port)
    for turn in range(10 ** 6):
        connection, _ = listener.accept()
        pipe, process = pipes[turn % len(pipes)]
        multiprocessing.reduction.send_handle(pipe, connection.fileno(), process.pid)
        connection.close()


def talk(port, count):
    for number in range(count):
        with socket.create_connection(("127.0.0.1", port), 20) as connection:
            for length in (1, 1000, 100_000):
                sent = os.urandom(length)
                connection.sendall(sent)
                got = b""
                while len(got) < length:
                    piece = connection.recv(65536)
                    assert piece, f"connection {number}: an end after {len(got)} of {length}"
                    got += piece
                assert got == sent, f"connection {number}: other bytes"
            connection.shutdown(socket.SHUT_WR)
            assert connection.recv(1) == b""
    print("all equal")


if __name__ == "__main__":
    if sys.argv[1] == "child":
        echo(socket.socket(fileno=int(sys.argv[2])))
    else:
        globals()[sys.argv[1]](*map(int, sys.argv[2:]))
