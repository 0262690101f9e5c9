# SPDX-License-Identifier: MIT
"""echo_threads.py server|client PORT thread|fork [HOST]: socketserver, blocking calls, a thread or a
forked process for each connection.

The client connects by name, uses plain socket files (stdio of Python), timeouts and peeks.
"""

import concurrent.futures
import select
import socket
import socketserver
import sys

CONNECTIONS = 32
LINES = 200


class Echo(socketserver.StreamRequestHandler):
    def handle(self):
        for line in self.rfile:
            self.wfile.write(line)


class Threading(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 64


class Forking(socketserver.ForkingTCPServer):
    allow_reuse_address = True
    request_queue_size = 64
    max_children = CONNECTIONS


def talk(host, port, number):
    with socket.create_connection((host or "localhost", port), timeout=100) as connection:
        connection.settimeout(0.05)
        try:
            connection.recv(1)
            raise AssertionError("bytes that nobody sent")
        except TimeoutError:
            pass
        connection.settimeout(100)
        connection.sendall(b"look\n")
        readable, _, _ = select.select([connection], [], [], 100)
        assert readable == [connection]
        assert connection.recv(5, socket.MSG_PEEK | socket.MSG_WAITALL) == b"look\n"
        assert connection.recv(5, socket.MSG_WAITALL) == b"look\n"
        with connection.makefile("rwb") as file:
            for line_number in range(LINES):
                line = b"%d of %d\n" % (line_number, number)
                file.write(line)
                file.flush()
                assert file.readline() == line
        connection.shutdown(socket.SHUT_WR)
        assert connection.recv(1) == b""


def main():
    mode, port, kind = sys.argv[1], int(sys.argv[2]), sys.argv[3]
    host = sys.argv[4] if len(sys.argv) > 4 else None
    if mode == "server":
        kinds = {"thread": Threading, "fork": Forking}
        with kinds[kind]((host or "127.0.0.1", port), Echo) as server:
            print("ready", flush=True)
            server.serve_forever()
    else:
        with concurrent.futures.ThreadPoolExecutor(CONNECTIONS) as pool:
            list(pool.map(lambda number: talk(host, port, number), range(CONNECTIONS)))
        print("all equal")


main()
