# SPDX-License-Identifier: MIT
"""Urgent bytes in a busy stream, sent by a process that does nothing else: each at its mark.

The reader tells the writer of each round, because a byte that the next one overtakes is none any more. What
the writer sends in front of and behind the urgent byte goes in calls of its own, so that the byte comes at any
moment of a reader that is busy.

    urgent.py ROUNDS write|read PORT [HOST]
"""

import fcntl
import os
import random
import select
import socket
import struct
import sys
import termios

SIOCATMARK = 0x8905
ROUNDS = int(sys.argv[1])
SEED = 7


def plan():
    """Of each round: bytes in front in several sends, bytes behind."""
    rng = random.Random(SEED)
    for number in range(ROUNDS):
        front = [rng.choice((0, 1, 7, 100, 3000)) for _ in range(rng.randrange(4))]
        yield number % 251, front, rng.choice((1, 5, 2000, 40000))


def write(to):
    for byte, front, behind in plan():
        for count in front:
            if count:
                to.sendall(b"f" * count)
        if to.send(bytes((byte,)), socket.MSG_OOB) != 1:
            sys.exit("MSG_OOB")
        to.sendall(b"b" * behind)
        if to.recv(1) != b"k":
            sys.exit("the reader is gone")


def pieces():
    """What is sent at once, and whether its last byte is urgent."""
    rng = random.Random(SEED)
    at = 0
    for _ in range(20 * ROUNDS):
        count = rng.choice((1, 1, 2, 30, 500))
        yield bytes((at + i) % 253 for i in range(count)), rng.random() < 0.4
        at += count


def flood(to):
    """Nobody waits: most urgent bytes are overtaken by the next one."""
    for data, urgent in pieces():
        while data:
            data = data[to.send(data, socket.MSG_OOB if urgent else 0):]


def read_flood(s):
    """In line, no byte is left out, whichever was urgent when it was read."""
    s.setsockopt(socket.SOL_SOCKET, socket.SO_OOBINLINE, 1)
    s.sendall(b"F")
    left = b""
    for data, _ in pieces():
        while len(left) < len(data):
            left += s.recv(8192)
        assert left[:len(data)] == data
        left = left[len(data):]


def at_mark(s):
    return struct.unpack("i", fcntl.ioctl(s, SIOCATMARK, b"\0\0\0\0"))[0]


def available(s):
    return struct.unpack("i", fcntl.ioctl(s, termios.FIONREAD, b"\0\0\0\0"))[0]


def take(s, count, what):
    """Exactly @count bytes, not one beyond."""
    while count:
        got = s.recv(min(count, 8192))
        assert got == what * len(got) and got, (what, got[:20])
        count -= len(got)


def read_out(s):
    s.sendall(b"W")
    for number, (byte, front, behind) in enumerate(plan()):
        in_front = sum(front)
        if number % 3 == 0:  # it arrives before anything is read
            assert select.select([], [], [s], 60)[2], number
        got = 0
        while got < in_front:
            part = s.recv(65536)
            assert part == b"f" * len(part) and part, (number, got, in_front, part[:20])
            got += len(part)
        assert got == in_front, (number, got, in_front)
        assert select.select([], [], [s], 60)[2], number
        assert at_mark(s), number
        if number % 2:
            assert s.recv(10, socket.MSG_OOB) == bytes((byte,)), number
        take(s, behind, b"b")
        assert not at_mark(s) and not available(s), number
        s.sendall(b"k")


def read_inline(s):
    s.setsockopt(socket.SOL_SOCKET, socket.SO_OOBINLINE, 1)
    s.sendall(b"W")
    for number, (byte, front, behind) in enumerate(plan()):
        take(s, sum(front), b"f")
        assert select.select([], [], [s], 60)[2], number
        assert at_mark(s), number
        take(s, 1, bytes((byte,)))
        take(s, behind, b"b")
        s.sendall(b"k")


def main():
    host = sys.argv[4] if len(sys.argv) > 4 else "127.0.0.1"
    port, listens = int(sys.argv[3]), sys.argv[2] == "write"
    if listens:
        listener = socket.create_server((host, port), backlog=16)
        print("ready", flush=True)
    while listens:
        peer = listener.accept()[0]
        if not os.fork():
            listener.close()
            {b"W": write, b"F": flood}[peer.recv(1)](peer)
            os._exit(0)
        peer.close()
    for name, read in (("out of line", read_out), ("in line", read_inline), ("all at once", read_flood)):
        with socket.create_connection((host, port)) as s:
            read(s)
        print(f"{name}: {ROUNDS}", flush=True)


main()
