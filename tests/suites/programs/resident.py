# SPDX-License-Identifier: MIT
"""resident.py early|late: locks its memory before its first socket, or with one, and says what is locked and resident."""

import ctypes
import pathlib
import re
import socket
import sys

MCL_CURRENT, MCL_FUTURE = 1, 2


def pair():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        near = socket.create_connection(listener.getsockname())
        return near, listener.accept()[0]


def echo(near, far):
    near.sendall(b"x" * 50_000)
    assert len(far.recv(50_000, socket.MSG_WAITALL)) == 50_000


ends = pair() if sys.argv[1] == "late" else None
libc = ctypes.CDLL(None, use_errno=True)
if libc.mlockall(MCL_CURRENT | MCL_FUTURE) < 0:
    sys.exit(f"mlockall: errno {ctypes.get_errno()}")
for both in (ends or pair(), pair()):
    echo(*both)
room = bytearray(20 << 20)
status = pathlib.Path("/proc/self/status").read_text()
print(*(re.search(rf"{name}:\s+(\d+) kB", status)[1] for name in ("VmLck", "VmRSS")))
