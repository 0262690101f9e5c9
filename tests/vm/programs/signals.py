# SPDX-License-Identifier: MIT
"""SIGIO of bytes, SIGURG of an urgent byte: signals.py server|client HOST PORT."""

import fcntl
import os
import signal
import socket
import sys

SECONDS = 60


def awaited(number, what):
    if signal.sigtimedwait([number], SECONDS) is None:
        sys.exit(f"no {signal.Signals(number).name} of {what}")


def server(where):
    with socket.create_server(where) as listener:
        print("ready", flush=True)
        with listener.accept()[0] as s:
            while data := s.recv(100):
                if data == b"X":
                    s.send(b"!", socket.MSG_OOB)
                else:
                    s.sendall(data)


def client(where):
    signals = [signal.SIGIO, signal.SIGURG]
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    for number in signals:  # one that is ignored does not wait to be taken
        signal.signal(number, lambda *_: None)
    with socket.create_connection(where) as s:
        fcntl.fcntl(s, fcntl.F_SETOWN, os.getpid())
        fcntl.fcntl(s, fcntl.F_SETFL, os.O_ASYNC)
        for _ in range(20):
            s.sendall(b"bytes")
            awaited(signal.SIGIO, "bytes")
            got = b""
            while len(got) < 5:
                got += s.recv(100)
            while signal.sigtimedwait([signal.SIGIO], 0):  # of what came in two parts
                pass
        s.send(b"X")
        awaited(signal.SIGURG, "an urgent byte")
        assert s.recv(1, socket.MSG_OOB) == b"!"
    print("signals came")


{"server": server, "client": client}[sys.argv[1]]((sys.argv[2], int(sys.argv[3])))
