# SPDX-License-Identifier: MIT
"""memcached_client.py tcp|udp|many PORT: store values, read them back, compare."""

import random
import select
import socket
import struct
import sys

ADDRESS = "127.0.0.1"
TIMEOUT = 20


def values(lengths):
    source = random.Random(3)
    return {f"key-{length}": source.randbytes(length) for length in lengths}


class Tcp:
    def __init__(self, port):
        self.socket = socket.create_connection((ADDRESS, port), timeout=TIMEOUT)
        self.file = self.socket.makefile("rb")

    def set(self, key, value):
        self.socket.sendall(b"set %s 0 0 %d\r\n%s\r\n" % (key.encode(), len(value), value))
        return self.file.readline()

    def get(self, key):
        self.socket.sendall(b"get %s\r\n" % key.encode())
        _value, _key, _flags, length = self.file.readline().split()
        value = self.file.read(int(length))
        assert self.file.readline() == b"\r\n" and self.file.readline() == b"END\r\n"
        return value


class Udp:
    """Each datagram begins with request id, sequence number, datagram count and a zero."""

    def __init__(self, port):
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.settimeout(TIMEOUT)
        self.socket.connect((ADDRESS, port))
        self.request_id = 0

    def ask(self, request):
        self.request_id += 1
        self.socket.send(struct.pack("!HHHH", self.request_id, 0, 1, 0) + request)
        parts, count = {}, 1
        while len(parts) < count:
            datagram = self.socket.recv(65536)
            request_id, sequence, count, _ = struct.unpack_from("!HHHH", datagram)
            assert request_id == self.request_id
            parts[sequence] = datagram[8:]
        return b"".join(parts[sequence] for sequence in sorted(parts))

    def set(self, key, value):
        return self.ask(b"set %s 0 0 %d\r\n%s\r\n" % (key.encode(), len(value), value))

    def get(self, key):
        head, _, rest = self.ask(b"get %s\r\n" % key.encode()).partition(b"\r\n")
        length = int(head.split()[3])
        assert rest[length:] == b"\r\nEND\r\n"
        return rest[:length]


def check(connection, wanted):
    for key, value in wanted.items():
        assert connection.set(key, value) == b"STORED\r\n", key
    for key, value in wanted.items():
        assert connection.get(key) == value, key


def many(port, count=200):
    """All connections ask before the first answer is read, then poll() tells who answered."""
    connections = [Tcp(port) for _ in range(count)]
    poller = select.poll()
    waiting = {}
    for number, connection in enumerate(connections):
        connection.socket.sendall(b"set key-%d 0 0 4\r\n%04d\r\n" % (number, number))
        poller.register(connection.socket, select.POLLIN)
        waiting[connection.socket.fileno()] = connection
    while waiting:
        events = poller.poll(TIMEOUT * 1000)
        assert events, f"{len(waiting)} connections got no answer"
        for fd, _event in events:
            poller.unregister(fd)
            assert waiting.pop(fd).file.readline() == b"STORED\r\n"
    for number, connection in enumerate(connections):
        assert connection.get(f"key-{number}") == b"%04d" % number


def main():
    mode, port = sys.argv[1], int(sys.argv[2])
    if mode == "tcp":
        check(Tcp(port), values([1, 100, 1000, 10_000, 100_000, 500_000]))
    elif mode == "udp":
        check(Udp(port), values([1, 10, 100, 500, 1000, 1300]))
        big = Tcp(port)
        assert big.set("big", b"x" * 20_000) == b"STORED\r\n"
        assert Udp(port).get("big") == b"x" * 20_000
    else:
        many(port)
    print("all equal")


main()
