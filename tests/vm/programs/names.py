# SPDX-License-Identifier: MIT
"""names.py server|client HOST PORT: whom each end of a connection takes for whom.

The server answers every connection with its own and its peer's address as it sees them; the client prints
"server: OWN PEER" of that answer, and "client: OWN PEER" as it sees them itself.
"""

import socket
import sys


def names(connection):
    own, peer = connection.getsockname(), connection.getpeername()
    return f"{own[0]}:{own[1]} {peer[0]}:{peer[1]}"


def main():
    mode, address = sys.argv[1], (sys.argv[2], int(sys.argv[3]))
    if mode == "client":
        with socket.create_connection(address, timeout=100) as connection:
            print("client:", names(connection))
            print("server:", connection.makefile().readline().strip())
        return
    with socket.create_server(address) as listener:
        print("ready", listener.getsockname()[0], flush=True)
        while True:
            connection, _ = listener.accept()
            with connection:
                connection.sendall(names(connection).encode() + b"\n")


main()
