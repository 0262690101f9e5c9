# SPDX-License-Identifier: MIT
"""socks.py PORT: a SOCKS 5 proxy. Whatever the address is that it is asked for, it connects to 127.0.0.1."""

import socket
import socketserver
import sys
import threading


def copy(source, sink):
    while piece := source.recv(65536):
        sink.sendall(piece)
    sink.shutdown(socket.SHUT_WR)


class Socks(socketserver.StreamRequestHandler):
    rbufsize = 0

    def handle(self):
        self.rfile.read(self.rfile.read(2)[1])
        self.request.sendall(b"\5\0")
        kind = self.rfile.read(4)[3]
        self.rfile.read(4 if kind == 1 else self.rfile.read(1)[0])
        port = int.from_bytes(self.rfile.read(2), "big")
        with socket.create_connection(("127.0.0.1", port)) as far:
            self.request.sendall(b"\5\0\0\1\0\0\0\0\0\0")
            thread = threading.Thread(target=copy, args=(self.request, far))
            thread.start()
            copy(far, self.request)
            thread.join()


class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True


Server(("127.0.0.1", int(sys.argv[1])), Socks).serve_forever()
