# SPDX-License-Identifier: MIT
"""handed_on.py HOST PORT: a socket's descriptor used by code that no preloaded library sees.

A static program (busybox) gets the connected socket as its standard input and output, by exec: what it
reads and writes, and its end of file, must be those of the same connection.
"""

import os
import socket
import subprocess
import sys


def main():
    with socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=100) as connection:
        connection.settimeout(None)
        script = "echo from the helper; read line; echo got $line >&2"
        done = subprocess.run(["/usr/bin/busybox", "sh", "-c", script], stdin=connection, stdout=connection,
                              stderr=subprocess.PIPE, timeout=100, check=True)
        assert done.stderr == b"got from the helper\n", done.stderr
        # A raw system call on the number, past every library.
        assert os.read(connection.fileno(), 0) == b""
        connection.sendall(b"and from the program\n")
        assert connection.recv(100) == b"and from the program\n"
    print("all equal")


main()
