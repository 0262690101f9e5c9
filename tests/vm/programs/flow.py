# SPDX-License-Identifier: MIT
"""flow.py listen|connect HOST PORT [send|receive]: one connection that is busy until it ends.

Prints "ready" when listening, "flowing" once 4 MiB have passed, and at the end "ended: " and how:
"end of file", or the name of the error. The exit status is 0 in every such case.
"""

import errno
import socket
import sys

PIECE = 64 << 10
FLOWING = 4 << 20


def connection_of(mode, address):
    if mode == "connect":
        return socket.create_connection(address, timeout=60)
    with socket.create_server(address) as listener:
        print("ready", flush=True)
        return listener.accept()[0]


def step(connection, way, piece):
    return connection.send(piece) if way == "send" else len(connection.recv(PIECE))


def flow(connection, way):
    piece = bytes(PIECE)
    moved = 0
    while done := step(connection, way, piece):
        if moved < FLOWING <= moved + done:
            print("flowing", flush=True)
        moved += done


def main():
    mode, host, port = sys.argv[1], sys.argv[2], int(sys.argv[3])
    way = sys.argv[4] if len(sys.argv) > 4 else "receive"
    with connection_of(mode, (host, port)) as connection:
        connection.settimeout(None)
        try:
            flow(connection, way)
            print("ended: end of file")
        except OSError as error:
            print(f"ended: {errno.errorcode.get(error.errno, error)}")


main()
